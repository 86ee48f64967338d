"""Are the ids of a corpus unique, and its rows sound? In constant memory, for ten million rows too.

A row costs eight bytes, the hash of its id, and those go to a temporary file when they are many. Hashes that occur
twice are found range by range; only the ids behind them are compared as texts, in a second look at the index.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
import weakref
from array import array
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

from calib.errors import CalibError, DataError

if TYPE_CHECKING:
    from calib.data.sources.base import Row

__all__ = ["Clash", "Guard", "Hashes", "duplicate"]

_SPILL = 1 << 18  # hashes held in memory (2 MiB)
_RANGE = 1 << 21  # hashes sorted at once


class Clash(NamedTuple):
    """One id of two rows.

    Args:
        name: the id.
        explicit: whether the index itself gives it, in both rows.
        first: where the first row is.
        second: where the second is.
    """

    name: str
    explicit: bool
    first: int | str
    second: int | str


class Hashes:
    """Hashes of ids, spilled to a temporary file when they are many."""

    def __init__(self) -> None:
        self._held = array("q")
        self._file: IO[bytes] | None = None
        self._count = 0

    def add(self, name: str) -> None:
        """Note an id."""
        self._held.append(hash(name))
        if len(self._held) >= _SPILL:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="calib-ids-")  # noqa: SIM115 - closed with this object
            self._held.tofile(self._file)
            self._count += len(self._held)
            del self._held[:]

    def twice(self) -> set[int]:
        """The hashes that were added more than once."""
        held = np.frombuffer(self._held, dtype=np.int64).copy()
        if self._file is None:
            return _repeated(held)
        self._file.flush()
        parts = -(-(self._count + len(held)) // _RANGE)
        edges = np.linspace(-(2.0**63), 2.0**63, parts + 1)
        out: set[int] = set()
        for low, high in itertools.pairwise(edges):
            chosen = [held[(held >= low) & (held < high)]]
            self._file.seek(0)
            while len(block := np.frombuffer(self._file.read(8 * _SPILL), dtype=np.int64)):
                chosen.append(block[(block >= low) & (block < high)])
            out |= _repeated(np.concatenate(chosen))
        return out


def _repeated(values: np.ndarray) -> set[int]:
    values.sort()
    return set(values[1:][values[1:] == values[:-1]].tolist())


def duplicate(rows: Callable[[], Iterator[Row]], name_of: Callable[[Row], str], hashes: Hashes) -> Clash | None:
    """The first id that occurs twice, or None."""
    suspects = hashes.twice()
    if not suspects:
        return None
    seen: dict[str, Row] = {}
    for row in rows():
        name = name_of(row)
        if hash(name) in suspects:
            first = seen.setdefault(name, row)
            if first is not row:
                return Clash(name, first.id is not None and row.id is not None, first.where, row.where)
    return None


class Guard:
    """Checks a long index in the background, while it is already being used: every row sound, no id twice.

    Args:
        rows: starts a pass.
        name_of: the id of a row.
        refuse: the error for a clash.
    """

    def __init__(
        self, rows: Callable[[], Iterator[Row]], name_of: Callable[[Row], str], refuse: Callable[[Clash], DataError]
    ) -> None:
        self._found: list[BaseException] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=_watch, args=(rows, name_of, refuse, self._found, self._stop), daemon=True, name="calib-index"
        )
        weakref.finalize(self, self._stop.set)
        self._thread.start()

    def poll(self) -> None:
        """Raise what was found so far.

        Raises:
            DataError: a malformed row, or a duplicate id.
        """
        if self._found:
            raise self._found[0]

    def finish(self) -> None:
        """Wait for the end of the check, and raise what it found.

        Raises:
            DataError: a malformed row, or a duplicate id.
        """
        self._thread.join()
        self.poll()


def _watch(
    rows: Callable[[], Iterator[Row]],
    name_of: Callable[[Row], str],
    refuse: Callable[[Clash], DataError],
    found: list[BaseException],
    stop: threading.Event,
) -> None:
    hashes = Hashes()
    try:
        for position, row in enumerate(rows()):
            hashes.add(name_of(row))
            if position % 4096 == 0 and stop.is_set():
                return
        clash = duplicate(rows, name_of, hashes)
        if clash is not None:
            found.append(refuse(clash))
    except (CalibError, OSError) as error:
        found.append(error)
