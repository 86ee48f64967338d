"""Which utterances of a corpus are wanted: by speaker, by language, by duration, by split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from calib.errors import UsageError

if TYPE_CHECKING:
    from calib.data.sources.base import Row

__all__ = ["Select"]


@dataclass(frozen=True)
class Select:
    """A filter; empty, it keeps everything.

    Args:
        speakers: names that are kept; none: all.
        languages: codes that are kept, ``en`` also keeping ``en-GB``; none: all.
        min_seconds: the shortest duration, in s.
        max_seconds: the longest duration, in s.
        split: the value of the index's own split column (``train``); None: all.

    Raises:
        UsageError: durations that no utterance can have.
    """

    speakers: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    min_seconds: float | None = None
    max_seconds: float | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("--min-duration", self.min_seconds), ("--max-duration", self.max_seconds)):
            if value is not None and (not math.isfinite(value) or value < 0):
                raise UsageError(f"{name} {value:g} is no number of seconds")
        if self.min_seconds is not None and self.max_seconds is not None and self.min_seconds > self.max_seconds:
            raise UsageError(f"--min-duration {self.min_seconds:g} is more than --max-duration {self.max_seconds:g}")

    def __bool__(self) -> bool:
        return bool(self.speakers or self.languages or self.timed or self.split is not None)

    @property
    def timed(self) -> bool:
        """Whether durations matter."""
        return self.min_seconds is not None or self.max_seconds is not None

    def names(self, row: Row) -> bool:
        """Whether what the row says of speaker, language and split is wanted."""
        if self.speakers and row.speaker not in self.speakers:
            return False
        if self.split is not None and row.split != self.split:
            return False
        return not self.languages or _speaks(row.language, self.languages)

    def lasts(self, seconds: float) -> bool:
        """Whether a duration in s is wanted."""
        return (self.min_seconds is None or seconds >= self.min_seconds) and (
            self.max_seconds is None or seconds <= self.max_seconds
        )

    def describe(self) -> str:
        """``speaker anna or bob; language en; 1 to 10 s``."""
        parts = []
        if self.speakers:
            parts.append(f"speaker {' or '.join(self.speakers)}")
        if self.languages:
            parts.append(f"language {' or '.join(self.languages)}")
        if self.split is not None:
            parts.append(f"split {self.split}")
        if self.min_seconds is not None and self.max_seconds is not None:
            parts.append(f"{self.min_seconds:g} to {self.max_seconds:g} s")
        elif self.min_seconds is not None:
            parts.append(f"at least {self.min_seconds:g} s")
        elif self.max_seconds is not None:
            parts.append(f"at most {self.max_seconds:g} s")
        return "; ".join(parts)

    def provenance(self) -> dict[str, Any]:
        """What is set, for a result file; the split is recorded by its command."""
        found = {"speakers": sorted(self.speakers), "languages": sorted(self.languages), "min_seconds": self.min_seconds, "max_seconds": self.max_seconds}  # fmt: skip
        return {key: value for key, value in found.items() if value not in (None, [])}


def _speaks(language: str | None, wanted: tuple[str, ...]) -> bool:
    code = (language or "").lower().replace("_", "-")
    return any(code == (one := want.lower().replace("_", "-")) or code.startswith(f"{one}-") for want in wanted)
