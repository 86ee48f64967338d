"""Where a recording lies when that is not simply a file: inside a shard, in the cloud, or a part of a long file.

A plain local file stays a :class:`~pathlib.Path`; everything else is a :class:`Clip`, which is small, immutable and
picklable, and can be opened in another process or on another machine that sees the same storage.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from calib.data.remote import RemotePath, is_url
from calib.errors import DataError

__all__ = ["Clip", "Place", "local_copy", "opened", "place_exists"]

_WHOLE = 1 << 25  # bytes; what is not larger is read at once, which is faster than many small reads
_KEPT = 1 << 28  # bytes; a longer remote file is not kept for its next segment


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording, or a stored mel, inside something else.

    Args:
        path: the file or shard that holds it: a local path, or a URL that fsspec reads.
        offset: byte at which its own file begins inside ``path``.
        size: bytes of its own file; None: up to the end.
        member: name of its own file, for messages and for the format where the content does not tell.
        row: of a Parquet file: row group, row in that group, column. Then ``offset`` and ``size`` mean nothing.
        start: where the utterance begins in the recording, in s.
        duration: how long it is, in s; None: to the end of the recording.
        channel: the one to be used, from 0; None: all of them, averaged.
        refused: why calib does not read it; "" if it does.
    """

    path: str
    offset: int = 0
    size: int | None = None
    member: str = ""
    row: tuple[int, int, str] | None = None
    start: float = 0.0
    duration: float | None = None
    channel: int | None = None
    refused: str = ""

    def __str__(self) -> str:
        """What a message calls it: ``shard.tar: a/b.wav, from 1.5 s``."""
        text = self.path
        if self.member:
            text += f": {self.member}"
        elif self.offset:
            text += f", byte {self.offset}"
        if self.row is not None:
            text += f", row {self.row[1]} of row group {self.row[0]}"
        if self.start or self.duration is not None:
            text += f", from {self.start:g} s"
            text += "" if self.duration is None else f" for {self.duration:g} s"
        return text if self.channel is None else f"{text}, channel {self.channel}"

    @property
    def name(self) -> str:
        """Its own file's name, without folders."""
        return os.path.basename(self.member or self.path)  # noqa: PTH119 - a name, not a file

    @property
    def whole(self) -> bool:
        """Whether it is all of its file, every channel of it."""
        return not self.start and self.duration is None and self.channel is None

    def is_file(self) -> bool:
        """Whether the file that holds it exists (a remote one is believed to)."""
        return place_exists(self)


Place = Path | Clip


def place_exists(place: Place) -> bool:
    """Whether the file exists; a remote one is believed to, because asking costs a request."""
    path = place.path if isinstance(place, Clip) else place
    return (isinstance(path, str) and is_url(path)) or os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for long names


@contextlib.contextmanager
def opened(clip: Clip) -> Iterator[tuple[IO[bytes], int]]:
    """The bytes of the clip's own file as a seekable binary file, and how many they are.

    Raises:
        DataError: it cannot be read, or ends before its last byte.
    """
    if clip.refused:
        raise DataError(f"{clip}: {clip.refused}")
    if clip.row is not None:
        from calib.data.parquetrow import row_bytes

        data = row_bytes(clip)
        yield io.BytesIO(data), len(data)
    elif is_url(clip.path):
        data = _remote(clip.path, clip.offset, clip.size)
        yield io.BytesIO(data), len(data)
    else:
        with _local(clip) as pair:
            yield pair


@contextlib.contextmanager
def _local(clip: Clip) -> Iterator[tuple[IO[bytes], int]]:
    try:
        with Path(clip.path).open("rb") as file:
            total = os.fstat(file.fileno()).st_size
            size = max(0, total - clip.offset) if clip.size is None else clip.size
            if clip.offset + size > total or (clip.size is None and not size):
                raise DataError(f"{clip}: cut short: {Path(clip.path).name} has {total} bytes, {clip.offset + max(size, 1)} are needed")  # fmt: skip
            file.seek(clip.offset)
            if clip.size is not None and size <= _WHOLE:
                yield io.BytesIO(file.read(size)), size
            else:
                yield cast("IO[bytes]", io.BufferedReader(cast("io.RawIOBase", _Window(file, clip.offset, size)))), size
    except OSError as error:
        raise DataError(f"{clip}: {reason_of(error)}") from None


class _Window(io.RawIOBase):
    """A part of an open file as a file of its own."""

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._offset + self._at)
        data = self._file.read(wanted)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _remote(url: str, offset: int, size: int | None) -> bytes:
    data = _kept(url, offset, size)
    if len(data) > _KEPT:
        _kept.cache_clear()
    if size is not None and len(data) < size:
        raise DataError(f"{url}: cut short: {len(data)} of {size} bytes from byte {offset} on came")
    return data


@functools.lru_cache(maxsize=1)
def _kept(url: str, offset: int, size: int | None) -> bytes:
    """The last one is kept: the next segment is often of the same recording."""
    return RemotePath(url).read_bytes(offset, size)


def reason_of(error: OSError) -> str:
    """Why a file cannot be opened, in words."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return error.strerror or str(error)


@contextlib.contextmanager
def local_copy(place: Place, suffix: str = "") -> Iterator[Path]:
    """A local file with the bytes of a place: itself, or a temporary copy that is deleted afterwards."""
    if isinstance(place, Path):
        yield place
        return
    with opened(place) as (file, _), tempfile.TemporaryDirectory(prefix="calib-") as folder:
        name = place.name
        path = Path(folder) / f"file{suffix or os.path.splitext(name)[1]}"  # noqa: PTH122 - a name, not a file
        with path.open("wb") as copy:
            while block := file.read(1 << 20):
                copy.write(block)
        yield path
