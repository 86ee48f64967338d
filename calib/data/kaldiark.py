r"""Kaldi's binary matrices: ``\0B`` and FM, DM, CM, CM2 or CM3, as ``copy-feats`` and kaldiio write them.

Format: kaldi/src/matrix/kaldi-matrix.cc and compressed-matrix.{h,cc}. A compressed matrix (CM) keeps one byte a value
and, for each column, four 16-bit percentiles between which the byte is interpolated.
"""

from __future__ import annotations

import struct
from typing import IO

import numpy as np

from calib.errors import DataError

__all__ = ["read_matrix"]

_MOST = 1 << 28  # values; a damaged header must not allocate more


def read_matrix(file: IO[bytes], where: str) -> np.ndarray:
    """One matrix ``(T, M)`` from the file's position on.

    Args:
        file: binary.
        where: for messages.

    Raises:
        DataError: it is no matrix, of an unknown kind, or cut short.
    """
    head = file.read(2)
    if head != b"\0B":
        raise DataError(
            f"{where}: not a binary Kaldi matrix (it begins with {head!r})", hint="copy-feats writes binary ones"
        )
    kind = _token(file)
    if kind in {"FM", "DM"}:
        rows, columns = _size(file, where, marked=True)
        return _values(file, where, "<f4" if kind == "FM" else "<f8", rows * columns).reshape(rows, columns)
    if kind not in {"CM", "CM2", "CM3"}:
        raise DataError(f"{where}: a Kaldi object of kind {kind[:8]!r}, not a matrix")
    low, span = _unpack(file, where, "<ff")
    rows, columns = _size(file, where, marked=False)
    if kind == "CM2":
        values = _values(file, where, "<u2", rows * columns).astype(np.float32) * np.float32(span / 65535.0)
        return np.asarray(values + np.float32(low)).reshape(rows, columns)
    if kind == "CM3":
        values = _values(file, where, "u1", rows * columns).astype(np.float32) * np.float32(span / 255.0)
        return np.asarray(values + np.float32(low)).reshape(rows, columns)
    marks = _values(file, where, "<u2", columns * 4).astype(np.float32) * np.float32(span / 65535.0) + np.float32(low)
    p0, p25, p75, p100 = marks.reshape(columns, 4, 1).transpose(1, 0, 2)
    codes = _values(file, where, "u1", rows * columns).reshape(columns, rows).astype(np.float32)
    low_part = p0 + (p25 - p0) * codes * np.float32(1 / 64)
    middle = p25 + (p75 - p25) * (codes - 64) * np.float32(1 / 128)
    high = p75 + (p100 - p75) * (codes - 192) * np.float32(1 / 63)
    return np.asarray(np.where(codes <= 64, low_part, np.where(codes <= 192, middle, high)).T)


def _token(file: IO[bytes]) -> str:
    out = b""
    while len(out) < 16 and (byte := file.read(1)) not in {b" ", b""}:
        out += byte
    return out.decode("latin-1")


def _unpack(file: IO[bytes], where: str, form: str) -> tuple[float, ...]:
    data = file.read(struct.calcsize(form))
    if len(data) < struct.calcsize(form):
        raise DataError(f"{where}: cut short in its header")
    return struct.unpack(form, data)


def _size(file: IO[bytes], where: str, *, marked: bool) -> tuple[int, int]:
    """Rows and columns; before each stands a byte 4 (its width) in uncompressed matrices."""
    numbers = _unpack(file, where, "<bibi" if marked else "<ii")
    rows, columns = (int(numbers[1]), int(numbers[3])) if marked else (int(numbers[0]), int(numbers[1]))
    if (marked and (numbers[0], numbers[2]) != (4, 4)) or rows < 0 or columns < 0 or rows * columns > _MOST:
        raise DataError(f"{where}: a damaged header: {rows} rows of {columns} columns")
    return rows, columns


def _values(file: IO[bytes], where: str, kind: str, count: int) -> np.ndarray:
    wanted = count * np.dtype(kind).itemsize
    data = file.read(wanted)
    if len(data) < wanted:
        raise DataError(f"{where}: cut short: {len(data)} of {wanted} bytes of the matrix are there")
    return np.frombuffer(data, kind)
