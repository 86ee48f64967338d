"""Shards: many mels in one safetensors file, written as they come and read one at a time.

A safetensors file is the length N of a header in 8 bytes, N bytes of JSON (name to dtype, shape and place, padded with
spaces), then the arrays without gaps (https://github.com/huggingface/safetensors, "Format"). A growing shard leaves
room for its header, so that finishing it copies nothing, and one that was interrupted goes on behind its last array.

Conventions:
    Arrays are little-endian float32, C-contiguous. ``__metadata__`` holds ``calib`` (``shard/1``) and ``crc32``: eight
    hexadecimal digits an array, in the order of their places. Any safetensors reader reads the file; calib's also
    checks what it reads against them. Reading one array reads the header (kept for the next one) and that array alone.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import stat
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import numpy as np

from calib.errors import DataError

__all__ = ["ShardWriter", "Stored", "file_digest", "read_stored", "shard_index"]

_METADATA = "__metadata__"
_FORMAT = "shard/1"
_ENTRY_BYTES = 128  # of a header entry but for its name: dtype, shape, two offsets of up to 15 digits, checksum
_FIXED_BYTES = 256
_LONGEST_HEADER = 100_000_000  # bytes; what the format itself allows
_KEPT = 64  # headers in memory
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?", "C64": "<c8"}  # fmt: skip
_WIDTHS = {"BF16": 2, **{name: np.dtype(code).itemsize for name, code in _DTYPES.items()}}
_BFLOAT = "BF16"  # numpy has no such type: its two bytes are the upper half of a float32


class Stored(NamedTuple):
    """Where one array lies in its shard.

    Args:
        dtype: as the format names it.
        shape: of the array.
        begin: its first byte in the file.
        size: bytes.
        crc: CRC-32 of the bytes, or None where the file does not say.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    size: int
    crc: int | None = None

    @property
    def numpy_dtype(self) -> np.dtype[Any] | None:
        """What `read_stored` gives; None for a type that numpy cannot hold."""
        return np.dtype("<f4") if self.dtype == _BFLOAT else np.dtype(_DTYPES[self.dtype]) if self.dtype in _DTYPES else None  # fmt: skip


class ShardWriter:
    """A shard that grows; a context manager that closes the file, finished or not.

    Args:
        path: the growing file. One that is there is gone on with: see `adopt`.
        names: every name that may be added; room is left for a header that lists them.

    Raises:
        DataError: it cannot be written.
    """

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        self.path = path
        room = _FIXED_BYTES + sum(len(json.dumps(name)) + _ENTRY_BYTES for name in names)
        self._start = 8 + room + -room % 8
        self._arrays: dict[str, tuple[list[int], int, int, int]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
            self._end = self._start
            self._file.seek(self._end)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> DataError:
        return DataError(f"cannot write {self.path}: {error.strerror or error}")

    def __enter__(self) -> ShardWriter:  # noqa: PYI034 - typing.Self is of Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError as failed:  # closing flushes, and fails again where the disk is full
            if kind is None:
                raise self._failed(failed) from failed

    def add(self, name: str, array: np.ndarray) -> list[Any]:
        """Append one array ``(T, M)``.

        Returns:
            What `adopt` needs to take it over in a later run: name, shape, place, bytes and checksum.

        Raises:
            DataError: the name was added before, the shape is not ``(T, M)``, or the disk is full.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            value = np.ascontiguousarray(array, dtype="<f4")
        if value.ndim != 2 or not value.size:
            raise DataError(f"{name}: a mel to write has shape {value.shape}; it must be (T, M)")
        if name in self._arrays:
            raise DataError(f"{self.path}: {name!r} is written twice")
        data = value.data.cast("B")
        record = [name, list(value.shape), self._end - self._start, len(data), zlib.crc32(data)]
        try:
            self._file.write(data)
        except OSError as error:
            raise self._failed(error) from error
        self._note(record)
        return record

    def _note(self, record: list[Any]) -> None:
        name, shape, begin, size, crc = record
        self._arrays[name] = (shape, begin, size, crc)
        self._end = self._start + begin + size

    def flush(self) -> None:
        """Hand what was added to the system: it survives this process, though not a power cut.

        Raises:
            DataError: the disk is full.
        """
        try:
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from error

    def adopt(self, records: Iterable[list[Any]]) -> bool:
        """Take over arrays that an earlier run appended, in their order: all of them, or none if any is altered."""
        records = list(records)
        at = self._end - self._start
        for _, shape, begin, size, crc in records:
            if begin != at or size != 4 * math.prod(shape):
                return False
            self._file.seek(self._start + begin)
            if _crc(self._file, size) != crc:
                return False
            at += size
        for record in records:
            self._note(record)
        return True

    def rewind(self) -> None:
        """Drop what lies behind the arrays that were adopted; to be called before the first `add`."""
        try:
            self._file.truncate(self._end)
            self._file.seek(self._end)
        except OSError as error:
            raise self._failed(error) from error

    def finish(self, path: Path) -> str:
        """Write the header, and give the file its name once it is on disk. Returns the SHA-256 of the file.

        Raises:
            DataError: the disk is full.
        """
        header: dict[str, Any] = {_METADATA: {"calib": _FORMAT, "crc32": "".join(f"{crc:08x}" for _, _, _, crc in self._arrays.values())}}  # fmt: skip
        for name, (shape, begin, size, _) in self._arrays.items():
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, begin + size]}
        text = json.dumps(header, separators=(",", ":")).encode()
        room = self._start - 8
        assert len(text) <= room, (len(text), room)
        try:
            self._file.seek(0)
            self._file.write(room.to_bytes(8, "little") + text.ljust(room))
            self._file.flush()
            os.fsync(self._file.fileno())
            path.parent.mkdir(parents=True, exist_ok=True)
            self.path.replace(path)
            self._file.seek(0)
            return hashlib.file_digest(self._file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else file_digest(path)  # fmt: skip
        except OSError as error:
            raise self._failed(error) from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file, or "" if it cannot be read."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    except OSError:
        return ""
    return found.hexdigest()


def _crc(file: IO[bytes], size: int) -> int:
    """CRC-32 of the next ``size`` bytes; -1, which no file has, if it ends before."""
    crc = 0
    while size:
        block = file.read(min(size, 1 << 20))
        if not block:
            return -1
        crc = zlib.crc32(block, crc)
        size -= len(block)
    return crc


def shard_index(path: Path) -> Mapping[str, Stored]:
    """What a safetensors file holds, in the order of places, from its header alone. The last headers are kept.

    Raises:
        DataError: missing, cut short, or not the format.
    """
    name = os.fspath(path)
    try:
        status = os.stat(name)  # noqa: PTH116 - runs for each array
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else getattr(error, "strerror", None) or error
        raise DataError(f"{path}: {reason}") from None
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: not a regular file")
    if status.st_size == 0:
        raise DataError(f"{path}: an empty file (0 bytes)")
    return _index(name, status.st_size, status.st_mtime_ns, status.st_ino)


@functools.lru_cache(maxsize=_KEPT)
def _index(path: str, size: int, _time: int, _node: int) -> Mapping[str, Stored]:
    def damaged(why: str) -> DataError:
        return DataError(f"{path}: not a readable safetensors file ({why})")

    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _LONGEST_HEADER):
                raise damaged("it is cut short or damaged: its header does not fit into it")
            header = json.loads(file.read(length))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise damaged("its header is not JSON") from None
    if not isinstance(header, dict):
        raise damaged("its header is no JSON object")
    metadata = header.pop(_METADATA, None) or {}
    found = []
    try:
        for name, entry in header.items():
            begin, end = map(int, entry["data_offsets"])
            found.append((begin, end, name, str(entry["dtype"]), tuple(map(int, entry["shape"]))))
    except (TypeError, KeyError, ValueError):
        raise damaged(f"the entry of {name!r} in its header is not of the format") from None
    found.sort()
    sums = metadata.get("crc32", "") if isinstance(metadata, dict) and metadata.get("calib") == _FORMAT else ""
    if sums and (not isinstance(sums, str) or len(sums) != 8 * len(found)):
        raise damaged("its checksums do not fit its arrays")
    out: dict[str, Stored] = {}
    at = 0
    for position, (begin, end, name, dtype, shape) in enumerate(found):
        width = _WIDTHS.get(dtype)
        if begin != at or min((end - begin, *shape)) < 0 or (width is not None and end - begin != width * math.prod(shape)):  # fmt: skip
            raise damaged(f"the place of {name!r} does not fit its shape {shape}")
        at = end
        try:
            crc = int(sums[8 * position : 8 * position + 8], 16) if sums else None
        except ValueError:
            raise damaged("its checksums are no numbers") from None
        out[name] = Stored(dtype, shape, 8 + length + begin, end - begin, crc)
    if 8 + length + at != size:
        raise damaged(f"it is cut short: its header promises {8 + length + at} bytes, it has {size}" if 8 + length + at > size else f"it has {size} bytes, its header promises {8 + length + at}")  # fmt: skip
    return out


def read_stored(path: Path, name: str, stored: Stored) -> np.ndarray:
    """One array, read-only, without the rest of the file; bfloat16 becomes float32.

    Raises:
        DataError: unreadable, a type that numpy cannot hold, or not what its checksum says.
    """
    dtype = stored.numpy_dtype
    if dtype is None:
        raise DataError(f"{path}: {name} holds {stored.dtype}, not a mel")
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
                file.seek(stored.begin)
                data = file.read(stored.size)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    if len(data) != stored.size:
        raise DataError(f"{path}: {name} is cut short: {len(data)} of {stored.size} bytes")
    if stored.crc is not None and zlib.crc32(data) != stored.crc:
        raise DataError(
            f"{path}: {name} is damaged: its checksum is {zlib.crc32(data):08x}, not {stored.crc:08x}",
            hint="make these pairs again: calib teacher-force ... --force",
        )
    if stored.dtype == _BFLOAT:
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").reshape(stored.shape)
    return np.frombuffer(data, dtype).reshape(stored.shape)
