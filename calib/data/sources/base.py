"""What every kind of corpus has in common: items, their ids, where their files are, what is refused.

Conventions:
    An index is streamed, again for each iteration, and never held. One of up to 262,144 rows is checked whole when it
    is opened: malformed lines, duplicate ids, whether the files exist at all. A longer one starts at once: its lines
    are counted without being parsed, its first rows checked, and the rest is checked in the background while the first
    utterances are already used; an iteration over it ends only after that check.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from calib.data.audio import audio_seconds
from calib.data.clip import Clip, Place
from calib.data.sources.guard import Clash, Guard, Hashes, duplicate
from calib.data.sources.lines import AnyPath
from calib.data.sources.locate import Locator
from calib.data.sources.names import Naming, path_parts, shared_parts, tidy
from calib.data.sources.select import Select
from calib.errors import DataError

__all__ = ["Item", "Row", "Source"]

_PROBED = 50  # rows whose files are looked for when an index is opened
_CHECKED = 1 << 18  # rows; a longer index is checked in the background
_PEEKED = 4096  # rows of such an index that are checked before it starts
_POLLED = 256  # rows between two looks at what the background check found
_NAMED = 12  # speakers or languages that a message lists


@dataclass(frozen=True, slots=True)
class Item:
    """One utterance of a corpus; small and picklable.

    Args:
        id: unique in the source; may hold any character (see :func:`safe_name` for file names).
        audio: the audio file, or where it lies inside something else; None if the source names none. It may not
            exist: the reader counts that.
        mel: the mel array, or None.
        text: what is said, or "".
        speaker: name, or None.
        language: code, or None.
        duration: seconds as the index states them, or None.
    """

    id: str
    audio: Place | None = None
    mel: Place | None = None
    text: str = ""
    speaker: str | None = None
    language: str | None = None
    duration: float | None = None


class Row(NamedTuple):
    """One row of an index before ids and paths are settled.

    ``where`` is its line number, or the file's path in a folder; ``name`` the path that the id is made of. ``audio``
    and ``mel`` are listed paths, or clips whose ``path`` is one.
    """

    where: int | str
    name: str
    audio: str | Clip | None = None
    mel: str | Clip | None = None
    id: str | None = None
    text: str = ""
    speaker: str | None = None
    language: str | None = None
    duration: float | None = None
    split: str | None = None


class Source:
    """A corpus: iterate over it (again and again) for its :class:`Item` objects, in the order of the index.

    Args:
        kind: "ljspeech", "filelist", "jsonl", "kaldi", "webdataset", "parquet", "lhotse", "audio folder", "mel folder".
        root: the folder, or the index file.
        rows: starts a new pass over the rows.
        locator: where the named files are; None: the rows' clips say it themselves.
        label: what was recognised, without the number of utterances.
        remark: where the audio is, columns, and so on: the end of :meth:`describe`.
        limit: yield no more than this many.
        select: which are wanted.
        count: how many rows there are, where that is known without parsing them.
        empty: what to say if there are none.

    Raises:
        DataError: no rows, none that is wanted, a duplicate id, or none of the first files exists.
    """

    def __init__(
        self,
        kind: str,
        root: AnyPath,
        rows: Callable[[], Iterator[Row]],
        locator: Locator | None,
        *,
        label: str,
        remark: str = "",
        limit: int | None = None,
        select: Select | None = None,
        count: Callable[[], int] | None = None,
        empty: str = "names no utterances",
    ) -> None:
        self.kind = kind
        self.root = root
        self._rows = rows
        self._locator = locator
        self._label = label
        self.remark = remark
        self._limit = limit
        self._select = select or Select()
        self._wanted: int | None = None
        self._guard: Guard | None = None
        self._naming = Naming(kind not in {"audio folder", "mel folder"})
        self.holds = "audio"
        total = None if count is None else count()
        if total is not None and total > _CHECKED:
            self._listed = total
            self._peek()
        else:
            self._listed = self._scan(empty)
        self._timed_by = ""
        if self._select.timed:
            known = next(iter(rows())).duration is not None
            self._timed_by = "by the index" if known else "by the headers of the files, which are read for it"

    @property
    def expected(self) -> int:
        """How many items to expect, at once: exact, but for a long index with a filter, where it is the most."""
        if self._wanted is None and self._select and not self._long:
            return len(self)
        found = self._listed if self._wanted is None else self._wanted
        return found if self._limit is None else min(self._limit, found)

    @property
    def _long(self) -> bool:
        return self._listed > _CHECKED

    def describe(self) -> str:
        """One line: what was recognised, how many utterances, where the audio is."""
        total = f"{self._listed} utterance{'s' * (self._listed != 1)}"
        if self._select:
            kept = "some" if self._long and self._wanted is None else str(self._count_wanted())
            total = f"{kept} of {total} ({self._select.describe()}{', ' * bool(self._timed_by)}{self._timed_by})"
        elif self._limit is not None and self._limit < self._listed:
            total = f"the first {self._limit} of {total}"
        return f"{self._label}: {total}" + (f", {self.remark}" if self.remark else "")

    def __len__(self) -> int:
        found = self._count_wanted() if self._select else self._listed
        return found if self._limit is None else min(self._limit, found)

    def __iter__(self) -> Iterator[Item]:
        self.watch()
        for position, item in enumerate(self.unwatched()):
            if position % _POLLED == 0:
                self.poll()
            yield item
        self.finish()

    def unwatched(self) -> Iterator[Item]:
        """The items without the background check of a long index: for workers, while the driver does `watch`."""
        for row, audio in islice(self._selected(), self._limit):
            yield Item(
                self._naming(row),
                audio,
                self._place(row.mel),
                row.text,
                row.speaker,
                row.language,
                row.duration,
            )

    def watch(self) -> None:
        """Start the background check of a long index, once."""
        if self._long and self._guard is None:
            self._guard = Guard(self._rows, self._naming, functools.partial(clash_error, self.root))

    def poll(self) -> None:
        """Raise what the background check found so far.

        Raises:
            DataError: a malformed row, or a duplicate id.
        """
        if self._guard is not None:
            self._guard.poll()

    def finish(self) -> None:
        """All items were seen: wait for the end of the background check (not with a limit).

        Raises:
            DataError: a malformed row, or a duplicate id.
        """
        if self._guard is not None and self._limit is None:
            self._guard.finish()

    def __repr__(self) -> str:
        return f"<Source {self.describe()}>"

    # --- rows that are wanted ------------------------------------------------------------------------------------------

    def _selected(self) -> Iterator[tuple[Row, Place | None]]:
        """The wanted rows, and where their audio is.

        Raises:
            DataError: none is wanted.
        """
        if not self._select:
            for row in self._rows():
                yield row, self._place(row.audio)
            return
        empty = True
        for row in self._rows():
            if self._select.names(row):
                audio = self._place(row.audio)
                if not self._select.timed or self._lasts(row, audio):
                    empty = False
                    yield row, audio
        if empty:
            raise self._nothing()

    def _lasts(self, row: Row, audio: Place | None) -> bool:
        """What cannot be read is kept: it is reported where it is used, not filtered away."""
        seconds = row.duration
        if seconds is None and audio is not None:
            with contextlib.suppress(DataError):
                seconds = audio_seconds(audio)
        return seconds is None or self._select.lasts(seconds)

    def _count_wanted(self) -> int:
        if self._wanted is None:
            self._wanted = sum(1 for _ in self._selected())
        return self._wanted

    def _nothing(self) -> DataError:
        hints = []
        for what, wanted in (("speaker", self._select.speakers), ("language", self._select.languages), ("split", self._select.split)):  # fmt: skip
            if wanted:
                found = sorted({str(name) for row in islice(self._rows(), _CHECKED) if (name := getattr(row, what))})
                listing = ", ".join(found[:_NAMED]) + (", ..." if len(found) > _NAMED else "")
                hints.append(f"its {what}s: {listing}" if found else f"the source names no {what}s")
        return DataError(
            f"{self.root}: none of its {self._listed} utterances is wanted ({self._select.describe()})",
            hint="; ".join(hints) or None,
        )

    def _place(self, listed: str | Clip | None) -> Place | None:
        if listed is None:
            return None
        if isinstance(listed, str):
            assert self._locator is not None
            return self._locator.find(listed)
        if self._locator is None or listed.refused:
            return listed
        found = self._locator.find(listed.path)
        if isinstance(found, Path) and listed.whole and not listed.offset and listed.size is None:
            return found
        return replace(listed, path=found.path if isinstance(found, Clip) else str(found))

    # --- checks --------------------------------------------------------------------------------------------------------

    def _settle(self, probe: list[Row]) -> None:
        """From the first rows: what the corpus holds, and where its files are."""
        if probe and all(row.audio is None for row in probe):
            self.holds = "mels"
        if self._locator is None:
            return
        listed = [listed for row in probe if (listed := row.mel if row.audio is None else row.audio) is not None]
        paths = [one if isinstance(one, str) else one.path for one in listed if isinstance(one, str) or not one.refused]
        self._locator.settle(paths, self.root)

    def _scan(self, empty: str) -> int:
        """Check every row, and settle how ids are made: by stem where stems are unique, else by relative path."""
        hashes, total = Hashes(), 0
        common: tuple[str, ...] | None = None
        probe: list[Row] = []
        for row in self._rows():
            total += 1
            hashes.add(self._naming(row))
            if row.id is None and row.name.startswith("/"):
                folder = path_parts(row.name)[:-1]
                common = folder if common is None else shared_parts(common, folder)
            if len(probe) < _PROBED:
                probe.append(row)
        if total == 0:
            raise DataError(f"{self.root}: {empty}")
        self._settle(probe)
        clash = duplicate(self._rows, self._naming, hashes)
        if clash is None:
            return total
        if clash.explicit or not self._naming.by_stem:
            raise clash_error(self.root, clash)
        self._naming = Naming(by_stem=False, common=common or ())
        hashes = Hashes()
        for row in self._rows():
            hashes.add(self._naming(row))
        clash = duplicate(self._rows, self._naming, hashes)
        if clash is not None:
            raise clash_error(self.root, clash)
        return total

    def _peek(self) -> None:
        """The same for the first rows of a long index. Its ids are relative paths: nobody knows yet about its stems."""
        probe = list(islice(self._rows(), _PEEKED))
        common: tuple[str, ...] | None = None
        hashes = Hashes()
        for row in probe:
            if row.id is None and row.name.startswith("/"):
                folder = path_parts(row.name)[:-1]
                common = folder if common is None else shared_parts(common, folder)
        self._naming = Naming(by_stem=False, common=common or ())
        for row in probe:
            hashes.add(self._naming(row))
        clash = duplicate(lambda: iter(probe), self._naming, hashes)
        if clash is not None:
            raise clash_error(self.root, clash)
        self._settle(probe[:_PROBED])
        if any(row.id is None for row in probe):
            self.remark += f"{', ' * bool(self.remark)}ids are relative paths"


def clash_error(root: AnyPath, clash: Clash) -> DataError:
    """Two rows of one id."""
    places = f"{clash.first} and {clash.second}" if isinstance(clash.first, str) else f"lines {clash.first} and {clash.second}"  # fmt: skip
    return DataError(
        f"{root}: the id {tidy(clash.name)!r} occurs twice ({places})",
        hint="every utterance needs its own id: remove one, or rename it",
    )
