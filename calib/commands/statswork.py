"""``calib stats`` as work for the engine: a corpus in chunks, each measured, summed and named by one worker.

Conventions:
    A chunk is some consecutive items. Its value is a few kilobytes whatever the audio weighs, and depends on its items
    alone. Its name is a hash of them, with size and time of the local files: what changed is measured again. So is what
    could not be used: whether a server answers, or who may read a file, is in no name.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from calib.commands.opening import Opening
from calib.data.clip import Clip, Place
from calib.data.remote import is_url
from calib.data.sources import Item, Source
from calib.errors import DataError
from calib.mel.corpus import Measure
from calib.mel.dataset import DatasetStatistics
from calib.native.mel import path as native_path
from calib.run.engine import Work

__all__ = ["Chunk", "ChunkValue", "Known", "StatsWork", "chunk_size", "completed", "mean_bytes", "merge"]

_MOST = 256  # items of a chunk
_LEAST = 8
_GPU = 1024  # items of a chunk for a GPU, which is idle between two
_CHUNKS = 128  # a corpus is cut in at least so many, where that leaves `_LEAST` items in each
_BYTES = 64 << 20  # of audio in a chunk, about
_LOOKED_AT = 32  # files whose size tells how large files are


@dataclass(frozen=True)
class Chunk:
    """Consecutive items of a corpus; ``index`` is -1 for a part of a chunk."""

    index: int
    items: tuple[Item, ...]


@dataclass
class ChunkValue:
    """What a chunk adds to the result.

    Args:
        name: hash of its items.
        items: how many there are.
        first: id of the first one that was measured.
        state: `DatasetStatistics.to_bytes`; None: nothing was measured, or ``known``.
        seconds: of audio measured, in s.
        skipped: id and reason of what could not be used.
        failed: places of those in the chunk, in the same order.
        rates: sample rate in Hz to number of files that were resampled from it.
        notes: what is unusual to number of files.
        doubts: what is wrong to number of files, see :mod:`calib.mel.census.passing`.
        known: the ledger has this chunk; only what it could not use was tried again now.
        lost: an item killed its worker: not for the ledger, so that the next run tries it again.
    """

    name: str
    items: int
    first: str = ""
    state: bytes | None = None
    seconds: float = 0.0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    rates: Counter[int] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    doubts: Counter[str] = field(default_factory=Counter)
    known: bool = False
    lost: bool = False

    def to_json(self) -> dict[str, Any]:
        """For the ledger."""
        return {
            "name": self.name,
            "items": self.items,
            "first": self.first,
            "state": None if self.state is None else base64.b64encode(self.state).decode(),
            "seconds": self.seconds,
            "skipped": self.skipped,
            "failed": self.failed,
            "rates": sorted(self.rates.items()),
            "notes": sorted(self.notes.items()),
            "doubts": sorted(self.doubts.items()),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ChunkValue:
        """What `to_json` gave."""
        return cls(
            value["name"],
            value["items"],
            value["first"],
            None if value["state"] is None else base64.b64decode(value["state"]),
            value["seconds"],
            [(name, reason) for name, reason in value["skipped"]],
            list(value["failed"]),
            Counter(dict(value["rates"])),
            Counter(dict(value["notes"])),
            Counter(dict(value["doubts"])),
            known=True,
        )


@dataclass(frozen=True)
class Known:
    """What is held of a chunk in the ledger: its ``name``, and the places of the items that were ``failed``."""

    name: str
    failed: tuple[int, ...] = ()

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Known:
        """Of what `ChunkValue.to_json` gave."""
        return cls(value["name"], tuple(value["failed"]))


def completed(earlier: ChunkValue, again: ChunkValue) -> ChunkValue:
    """A chunk of the ledger, with what came of trying again what it could not use."""
    state = earlier.state if again.state is None else again.state
    if earlier.state is not None and again.state is not None:
        dataset = DatasetStatistics.from_bytes(earlier.state)
        merge(dataset, DatasetStatistics.from_bytes(again.state), again.first)
        state = dataset.to_bytes()
    return ChunkValue(
        earlier.name,
        earlier.items,
        earlier.first or again.first,
        state,
        earlier.seconds + again.seconds,
        again.skipped,
        again.failed,
        earlier.rates + again.rates,
        earlier.notes + again.notes,
        earlier.doubts + again.doubts,
        known=True,
    )


class StatsWork(Work[Chunk, ChunkValue]):
    """Measure a corpus.

    Args:
        source: the corpus; a worker that is not forked from this process opens it again.
        opening: how it was opened.
        measure: an item to its statistics.
        size: items of a chunk.
        known: number of a chunk to what the ledger has of it.
    """

    def __init__(
        self, source: Source, opening: Opening, measure: Measure, size: int, known: Mapping[int, Known]
    ) -> None:
        self._source: Source | None = source
        self._opening, self._measure, self._size, self._known = opening, measure, size, dict(known)
        self.gpus = 0.0 if measure.reader.device == "cpu" else 1.0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_source": None}

    def about(self) -> dict[str, str]:
        """The compiled kernel, or numpy."""
        reader = self._measure.reader
        return {"kernel": native_path(reader.frontend, reader.device)}

    def units(self) -> Iterator[Chunk]:
        """The chunks."""
        if self._source is None:
            self._source = self._opening()
        items = self._source.unwatched()
        for index in itertools.count():
            chunk = tuple(itertools.islice(items, self._size))
            if not chunk:
                return
            yield Chunk(index, chunk)

    def start(self) -> Callable[[Chunk], ChunkValue]:
        """The function that measures a chunk."""
        rate = None if self._measure.reader.frontend is None else self._measure.reader.frontend.sample_rate

        def value(chunk: Chunk) -> ChunkValue:
            name = _name(chunk.items)
            known = self._known.get(chunk.index) if chunk.index >= 0 else None
            if known is None or known.name != name:
                return _measured(chunk.items, self._measure, rate, name)
            again = _measured([chunk.items[place] for place in known.failed], self._measure, rate, name)
            failed = [known.failed[place] for place in again.failed]
            return replace(again, items=len(chunk.items), failed=failed, known=True)

        return value

    def parts(self, unit: Chunk) -> Sequence[Chunk]:
        """One item each."""
        return [Chunk(-1, (item,)) for item in unit.items]

    def join(self, values: Sequence[ChunkValue]) -> ChunkValue:
        """The chunk of those items."""
        out = ChunkValue("", 0)
        dataset: DatasetStatistics | None = None
        for value in values:
            out.failed += [out.items + place for place in value.failed]
            out.items += value.items
            out.seconds += value.seconds
            out.skipped += value.skipped
            out.rates += value.rates
            out.notes += value.notes
            out.doubts += value.doubts
            out.lost |= value.lost
            if value.state is not None:
                part = DatasetStatistics.from_bytes(value.state)
                if dataset is None:
                    dataset, out.first = part, value.first
                else:
                    merge(dataset, part, value.first)
        out.state = None if dataset is None else dataset.to_bytes()
        return out

    def lost(self, unit: Chunk, reason: str) -> ChunkValue:
        """All its items skipped."""
        return ChunkValue("", len(unit.items), skipped=[(item.id, reason) for item in unit.items], failed=list(range(len(unit.items))), lost=True)  # fmt: skip


def merge(dataset: DatasetStatistics, part: DatasetStatistics, first: str) -> None:
    """Merge, and say whose mels do not fit.

    Raises:
        DataError: another number of bins.
    """
    if dataset.n_mels != part.n_mels:
        raise _other_bins(first, part.n_mels, dataset.n_mels)
    dataset.merge(part)


def _other_bins(name: str, theirs: int, others: int) -> DataError:
    return DataError(
        f"{name}: a mel with {theirs} bins among mels with {others}",
        hint="one folder, one front end; if these are stored the other way round, give --layout TM or MT",
    )


def _measured(items: Sequence[Item], measure: Measure, rate: int | None, name: str) -> ChunkValue:
    out = ChunkValue(name, len(items))
    dataset: DatasetStatistics | None = None
    for place, (item, found) in enumerate(measure.many(items)):
        if isinstance(found, DataError):
            out.skipped.append((item.id, found.message))
            out.failed.append(place)
            continue
        utterance, source_rate, notes, doubts = found
        if dataset is None:
            dataset, out.first = DatasetStatistics(utterance.s1.size), item.id
        if utterance.s1.size != dataset.n_mels:
            raise _other_bins(item.id, utterance.s1.size, dataset.n_mels)
        dataset.add(utterance)
        out.seconds += utterance.seconds
        out.notes.update(notes)
        out.doubts.update(doubts)
        if source_rate is not None and rate is not None and source_rate != rate:
            out.rates[source_rate] += 1
    out.state = None if dataset is None else dataset.to_bytes()
    return out


def _name(items: Sequence[Item]) -> str:
    """Hash of what the items are and of the state of their local files."""
    seen: dict[str, str] = {}

    def state(place: Place | None) -> str:
        if place is None:
            return ""
        path = place.path if isinstance(place, Clip) else str(place)
        if path not in seen:
            seen[path] = "" if is_url(path) else _file_state(path)
        return f"{place!r} {seen[path]}"

    hashed = hashlib.sha256()
    for item in items:
        text = repr((item.id, item.speaker, state(item.audio), state(item.mel)))
        hashed.update(text.encode("utf-8", "surrogatepass") + b"\n")
    return hashed.hexdigest()[:24]


def _file_state(path: str) -> str:
    try:
        found = os.stat(path)  # noqa: PTH116 - a string, a million times
    except (OSError, ValueError):
        return "missing"
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"


def mean_bytes(source: Source) -> float:
    """Mean size in bytes of the first files that are whole and local; 0 if there are none."""
    sizes = []
    for item in itertools.islice(source.unwatched(), _LOOKED_AT):
        place = item.audio or item.mel
        if isinstance(place, Clip):
            if place.size:
                sizes.append(place.size)
            continue
        if place is not None:
            try:
                sizes.append(os.stat(place).st_size)  # noqa: PTH116 - as above
            except (OSError, ValueError):
                continue
    return sum(sizes) / len(sizes) if sizes else 0.0


def chunk_size(expected: int, weight: float, device: str = "cpu") -> int:
    """Items of a chunk: few enough to be lost without regret, many enough to cost nothing.

    Args:
        expected: items of the corpus.
        weight: `mean_bytes`.
        device: where they are measured.
    """
    if device != "cpu":
        return _GPU
    size = min(_MOST, max(_LEAST, expected // _CHUNKS))
    return size if weight <= 0 else max(1, min(size, int(_BYTES / weight)))
