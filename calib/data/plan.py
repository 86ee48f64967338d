"""A corpus sorted by id, on disk: every worker reads the items it needs from it, and nobody holds the corpus.

Data flow: source -> items, as lines in the order they come -> places of those lines, sorted by id outside memory ->
an array of (place of the item, number of its reference).

Conventions:
    Item k is the k-th by id. Its *reference* is the next item of the same speaker (the last one's is the first), or
    none if the speaker has one item only: another utterance of the voice, so that a model cannot copy from the answer.
"""

from __future__ import annotations

import array
import contextlib
import functools
import hashlib
import heapq
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from calib.data.clip import Clip, Place
from calib.data.remote import is_url
from calib.data.sources.base import Item
from calib.errors import DataError

__all__ = ["Plan"]

_ITEMS = "items.jsonl"
_ORDER = "order.npy"
_IN_MEMORY = 200_000  # items that are sorted at once


@dataclass(frozen=True)
class Plan:
    """Items by number, read from a folder; small and picklable.

    Args:
        folder: where `Plan.write` put them.
        count: how many items.
        digest: of the ids, texts, speakers and languages, whatever the order they came in.
    """

    folder: Path
    count: int
    digest: str

    @classmethod
    def write(cls, items: Iterable[Item], folder: Path) -> Plan:
        """Sort a corpus into ``folder``. Memory does not grow with it, but for 16 bytes an item.

        Raises:
            DataError: the corpus cannot be read, or the disk is full.
        """
        path = folder / _ITEMS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as runs, path.open("wb") as file:
                ordered = _sorted(_spooled(items, file), folder, runs)
                offsets, references, digest = _settled(ordered)
            order = np.stack([np.frombuffer(column, np.int64) for column in (offsets, references)], axis=1)
            with (folder / _ORDER).open("wb") as file:
                np.lib.format.write_array(file, order, allow_pickle=False)
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror or error}") from error
        return cls(folder, len(order), digest)

    def items(self, numbers: Sequence[int]) -> list[Item]:
        """The items of these numbers.

        Raises:
            DataError: the plan is gone or damaged.
        """
        order = _opened_order(self.folder / _ORDER)
        try:
            with (self.folder / _ITEMS).open("rb") as file:
                found = []
                for number in numbers:
                    file.seek(int(order[number, 0]))
                    found.append(_item(file.readline()))
                return found
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{self.folder}: the list of utterances cannot be read: {error}") from None

    def references(self, numbers: Sequence[int]) -> list[int | None]:
        """For each number that of its reference, or None."""
        order = _opened_order(self.folder / _ORDER)
        return [None if (found := int(order[number, 1])) < 0 else found for number in numbers]


def _opened_order(path: Path) -> np.ndarray:
    try:
        status = path.stat()
        return _mapped(path, status.st_ino, status.st_mtime_ns)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


@functools.lru_cache(maxsize=4)
def _mapped(path: Path, _node: int, _time: int) -> np.ndarray:
    return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))


_Key = tuple[str, int, str, str]  # id, place of its line, speaker, digest


def _spooled(items: Iterable[Item], file: IO[bytes]) -> Iterator[_Key]:
    place = 0
    for item in items:
        line = _line(item)
        file.write(line)
        described = f"{item.id}\t{item.text}\t{item.speaker}\t{item.language}".encode("utf-8", "surrogatepass")
        # Speakers are told apart by a prefix: none is not the same as one that is called "None".
        speaker = "" if item.speaker is None else f"={item.speaker}"
        yield item.id, place, speaker, hashlib.sha256(described).hexdigest()[:16]
        place += len(line)
    file.flush()


def _sorted(keys: Iterable[_Key], folder: Path, runs: contextlib.ExitStack) -> Iterator[_Key]:
    """By id; more than fit into memory go through sorted files that are merged."""
    files: list[IO[str]] = []
    held: list[_Key] = []
    for key in keys:
        held.append(key)
        if len(held) == _IN_MEMORY:
            held.sort()
            file = runs.enter_context(tempfile.TemporaryFile("w+", dir=folder, encoding="ascii"))  # noqa: SIM115
            file.writelines(json.dumps(one) + "\n" for one in held)
            file.seek(0)
            files.append(file)
            held = []
    held.sort()
    if not files:
        return iter(held)
    return heapq.merge(*(_read_back(file) for file in files), held)


def _read_back(file: IO[str]) -> Iterator[_Key]:
    for line in file:
        name, place, speaker, digest = json.loads(line)
        yield name, place, speaker, digest


def _settled(ordered: Iterable[_Key]) -> tuple[array.array[int], array.array[int], str]:
    """Places and references in the order of ids, and the digest of all."""
    offsets, references = array.array("q"), array.array("q")
    ends: dict[str, tuple[int, int]] = {}  # speaker: numbers of the first and of the latest item
    total = hashlib.sha256()
    for number, (_, place, speaker, digest) in enumerate(ordered):
        offsets.append(place)
        references.append(-1)
        first, latest = ends.get(speaker, (number, number))
        if latest != number:
            references[latest] = number
        ends[speaker] = (first, number)
        total.update(digest.encode())
    for first, latest in ends.values():
        if first != latest:
            references[latest] = first
    return offsets, references, total.hexdigest()[:16]


def _line(item: Item) -> bytes:
    fields = [item.id, _written(item.audio), _written(item.mel), item.text, item.speaker, item.language, item.duration]
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"  # ASCII: names need not be UTF-8


def _written(place: Place | None) -> Any:
    """Absolute: workers on other machines have other working folders."""
    if isinstance(place, Clip):
        return {**asdict(place), "path": place.path if is_url(place.path) else os.path.abspath(place.path)}  # noqa: PTH100 - Path.resolve follows links
    return None if place is None else os.path.abspath(place)  # noqa: PTH100


def _item(line: bytes) -> Item:
    name, audio, mel, text, speaker, language, duration = json.loads(line)
    return Item(name, _read(audio), _read(mel), text, speaker, language, duration)


def _read(written: Any) -> Place | None:
    if isinstance(written, dict):
        row = written.pop("row")
        return Clip(**written, row=None if row is None else (row[0], row[1], row[2]))
    return None if written is None else Path(written)
