"""CPU time for a search: it ends where that is spent, with the best hypothesis known by then."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

__all__ = ["SECONDS", "Budget", "Spent"]

SECONDS = 9.0  # CPU seconds of one identification, by default
_AFTERWARDS = 0.25  # share of them that is kept for settling, proving and naming what was found


class Spent(Exception):  # noqa: N818 - no error: what is known is used
    """The CPU time for the search is spent."""


@dataclass
class Budget:
    """CPU seconds of this thread that a search may take.

    Args:
        seconds: of the whole identification; the search gets 75 % of them.
        ended: the search was ended by it.
    """

    seconds: float = SECONDS
    ended: bool = False
    started: float = field(default_factory=time.thread_time)

    def check(self) -> None:
        """Go on, or not.

        Raises:
            Spent: the time for the search is over.
        """
        if time.thread_time() - self.started > (1.0 - _AFTERWARDS) * self.seconds:
            self.ended = True
            raise Spent

    def left(self) -> float:
        """Share of the seconds that is left, of the whole identification."""
        return 1.0 - (time.thread_time() - self.started) / self.seconds
