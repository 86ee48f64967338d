"""CPU time for an identification: the search ends where its share is spent, and so does what follows, step by step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

__all__ = ["SECONDS", "Budget", "Spent"]

SECONDS = 9.0  # CPU seconds of one identification, by default
_SEARCH = 0.72  # share of them that the search gets; the rest is for settling, proving and naming what was found
_SETTLING = 0.88  # share by which settling ends
_PROVING = 0.96  # share by which the last front end is computed

_T = TypeVar("_T")


class Spent(Exception):  # noqa: N818 - no error: what is known is used
    """The CPU time is spent."""


@dataclass
class Budget:
    """CPU seconds of this thread that an identification may take.

    Args:
        seconds: of the whole identification.
        ended: the search was ended by it.
        untried: what came after the search and was not tried for want of time, and the fields that it would have told.
        started: thread time at its beginning.
        share: of the seconds that may be spent now.
    """

    seconds: float = SECONDS
    ended: bool = False
    untried: dict[str, tuple[str, ...]] = field(default_factory=dict)
    started: float = field(default_factory=time.thread_time)
    share: float = _SEARCH

    def check(self) -> None:
        """Go on, or not: asked before everything that takes more than some milliseconds.

        Raises:
            Spent: the time for what is done now is over.
        """
        if self.spent():
            raise Spent

    def spent(self) -> bool:
        """Whether the time for what is done now is over."""
        return self.left() < 1.0 - self.share

    def left(self) -> float:
        """Share of the seconds that is left, of the whole identification."""
        return 1.0 - (time.thread_time() - self.started) / self.seconds

    def settling(self) -> None:
        """The search is over: what follows has the next share."""
        self.share = max(self.share, _SETTLING)

    def proving(self) -> None:
        """Settling is over, too."""
        self.share = _PROVING

    def tried(self, what: str, fields: tuple[str, ...], step: Callable[[], _T], otherwise: _T) -> _T:
        """The outcome of a step, or another value where there is no time for it: then what was not tried is said.

        Args:
            what: the step, for people.
            fields: what it would have told, which is not claimed without it.
            step: it asks `check`.
            otherwise: what is known without it.
        """
        try:
            self.check()
            return step()
        except Spent:
            self.untried[what] = fields
            return otherwise
