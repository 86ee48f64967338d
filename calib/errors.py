"""The one error tree. ``cli.main`` is the one handler; the class decides the exit code.

::

    CalibError (1)
    ├── UsageError (2)        an option, a configuration, a name
    ├── DataError (3)         data, input and output
    ├── PluginError (4)       somebody's model or vocoder
    ├── RefusedError (5)      no signal to calibrate: nothing was written
    └── GateError (10)        --fail-on: the verdict is below the gate

`calib.params` can be vendored and imports nothing of calib, so its ``ParamsError`` (3) is a class of its own with the
same ``message``, ``hint`` and ``exit_code``, which is all that the handler looks at.

Every message carries the offending value and, where one exists, the next step as ``hint``.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
import pathlib
from collections.abc import Iterable, Sequence

__all__ = [
    "CalibError",
    "DataError",
    "GateError",
    "PluginError",
    "RefusedError",
    "UsageError",
    "missing",
    "nearest",
    "some",
]


class CalibError(Exception):
    """Base of every error that calib raises on purpose.

    Args:
        message: what is wrong, with the offending value.
        hint: the next step, as a sentence or a command; shown on its own line.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the hint when the error crosses a process border."""
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(cls: type[CalibError], message: str, hint: str | None) -> CalibError:
    return cls(message, hint=hint)


class UsageError(CalibError):
    """A wrong option, name or configuration (exit 2)."""

    exit_code = 2


class DataError(CalibError):
    """Data, parameter files, reading and writing (exit 3)."""

    exit_code = 3


class PluginError(CalibError):
    """A model or a vocoder that is not calib's own failed or broke its protocol (exit 4)."""

    exit_code = 4


class RefusedError(CalibError):
    """There is no signal that a calibration could use; nothing was written (exit 5)."""

    exit_code = 5


class GateError(CalibError):
    """A verdict below the gate that ``--fail-on`` sets (exit 10)."""

    exit_code = 10


_LISTED = 40


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return a hint that names the nearest known names, or None when there are none.

    Example:
        >>> nearest("hifgan", ["hifigan", "tacotron2"])
        'did you mean hifigan? known: hifigan, tacotron2'
    """
    names = sorted(set(known))
    if not names:
        return None
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    listing = (
        "known: " + ", ".join(names)
        if len(names) <= _LISTED
        else f"{len(names)} are known, from {names[0]} to {names[-1]}"
    )
    return f"did you mean {' or '.join(close)}? {listing}" if close else listing


_LOOKED_AT = 2000  # names of a folder


def missing(path: str | os.PathLike[str], option: str = "", what: str = "file or folder") -> DataError:
    """The error of a path that is not there: the nearest name beside it, or what else is there.

    Args:
        path: as it was given.
        option: that gave it, for example ``--params``.
        what: was looked for.

    Example:
        >>> missing("/no/such/pairs").hint
        'its folder /no/such does not exist either'
    """
    there = pathlib.Path(path)
    hint = f"its folder {there.parent} does not exist either"
    with contextlib.suppress(OSError):  # a folder that cannot be listed, a name that is too long
        names = sorted(entry.name for entry in itertools.islice(there.parent.iterdir(), _LOOKED_AT))
        close = difflib.get_close_matches(there.name, names, n=1, cutoff=0.5)
        shown = [name for name in names if not name.startswith(".")]
        hint = f"the folder {there.parent.resolve()} is empty"
        if close:
            hint = f"did you mean {there.parent / close[0]}?"
        elif shown:
            hint = f"the folder {there.parent.resolve()} holds {some(shown, 3)}"
    return DataError(f"{option} {path}: no such {what}".strip(), hint=hint)


def some(names: Sequence[str], most: int) -> str:
    """The first few, and how many more.

    Example:
        >>> some(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
