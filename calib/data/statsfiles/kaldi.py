r"""Kaldi's matrices: binary and text, bare or in an ark by speaker, and scp files that point into arks.

Formats (kaldi-asr/kaldi@10e9002, ``src/matrix/kaldi-matrix.cc: Matrix::Read``, ``src/util/kaldi-table-inl.h``): binary is
``\0B``, ``FM`` or ``DM``, a space, then rows and columns as (4, int32), then row-major little-endian values; text is
``[ v v ... \n v v ... ]``. An ark puts ``key`` and a space before each.
"""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import numpy as np

from calib.data.kaldiark import read_matrix
from calib.errors import DataError

__all__ = ["looks_binary", "looks_text", "matrix_bytes", "matrix_text", "read_ark", "read_scp"]

_TEXT = re.compile(r"\s*(?:(\S+)\s+)?\[([^\[\]]*)\]")


def looks_binary(data: bytes) -> bool:
    """A bare binary matrix, or an ark of them."""
    if data[:2] == b"\0B":
        return True
    key, found, _ = data[:4096].partition(b" \0B")
    return bool(found) and b"\n" not in key and b"\0" not in key and bool(key)


def looks_text(text: str) -> bool:
    """A bare text matrix, or an ark of them: an opening bracket after at most one word, and numbers."""
    return re.match(r"\s*(?:[^\s\[\]{}:,]+\s+)?\[\s*\n?\s*[-+0-9.]", text) is not None and "," not in text[:200]


def read_ark(data: bytes, path: str) -> dict[str, np.ndarray]:
    """All matrices by key; a bare matrix has the key ``""``.

    Raises:
        DataError: damaged, compressed, or no matrix.
    """
    if not looks_binary(data):
        return _read_text(data, path)
    out: dict[str, np.ndarray] = {}
    at = 0
    while at < len(data):
        key = b""
        if data[at : at + 2] != b"\0B":
            end = data.find(b" ", at)
            if end < 0 or data[end + 1 : end + 3] != b"\0B":
                raise DataError(f"{path}: no Kaldi matrix at byte {at}")
            key, at = data[at:end], end + 1
        matrix, at = _matrix(data, at, path)
        out[key.decode("utf-8", "replace")] = matrix
    return out


def _matrix(data: bytes, at: int, path: str) -> tuple[np.ndarray, int]:
    if data[at + 2 : at + 4] == b"CM":
        raise DataError(f"{path}: a compressed Kaldi matrix: features, not statistics")
    stream = io.BytesIO(data)
    stream.seek(at)
    return read_matrix(stream, path), stream.tell()


def _read_text(data: bytes, path: str) -> dict[str, np.ndarray]:
    text = data.decode("utf-8", "replace")
    out: dict[str, np.ndarray] = {}
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TEXT.match(text, at)
        if match is None:
            raise DataError(f"{path}: no Kaldi text matrix at character {at}: {text[at : at + 30].strip()!r}")
        try:
            rows = [[float(word) for word in line.split()] for line in match[2].splitlines() if line.strip()]
        except ValueError as error:
            raise DataError(f"{path}: a Kaldi text matrix with a word that is no number: {error}") from None
        if len({len(row) for row in rows}) > 1:
            raise DataError(
                f"{path}: a Kaldi text matrix whose rows have {', '.join(str(len(row)) for row in rows)} values"
            )
        out[match[1] or ""] = np.array(rows, dtype=np.float64)
        at = match.end()
    return out


def read_scp(text: str, path: str) -> dict[str, np.ndarray]:
    """``key file.ark:offset`` lines; paths are taken as they are, then relative to the scp's own folder.

    Raises:
        DataError: a line that runs a command (it is not run), a file that is not there, a matrix that cannot be read.
    """
    out: dict[str, np.ndarray] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        key, _, target = line.strip().partition(" ")
        target = target.strip()
        if target.endswith("|"):
            raise DataError(f"{path}, line {number}: {target!r:.80} is a command; calib runs none")
        name, _, offset = target.rpartition(":")
        if not name or not offset.isdigit():
            name, offset = target, "0"
        file = Path(name)
        if not file.is_file():
            file = Path(path).parent / name
        try:
            data = file.read_bytes()
        except OSError as error:
            raise DataError(f"{path}, line {number}: cannot read {name}: {error.strerror or error}") from None
        rest = data[int(offset) :]
        if rest[:2] == b"\0B":
            out[key] = _matrix(rest, 0, str(file))[0]
        else:
            out[key] = next(iter(_read_text(rest[: rest.find(b"]") + 1], str(file)).values()), np.zeros((0, 0)))
    return out


def matrix_bytes(matrix: np.ndarray) -> bytes:
    """A bare binary matrix of doubles."""
    values = np.ascontiguousarray(matrix, dtype="<f8")
    return b"\0BDM " + struct.pack("<bibi", 4, values.shape[0], 4, values.shape[1]) + values.tobytes()


def matrix_text(matrix: np.ndarray) -> str:
    """A bare text matrix, with all the digits of a double."""
    rows = ["  " + " ".join(repr(float(value)) for value in row) for row in matrix]
    return " [\n" + "\n".join(rows) + " ]\n"
