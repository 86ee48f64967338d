"""Text indexes, line by line: UTF-8, plain or gzipped, local or remote; read in blocks, counted without being parsed."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from calib.data.clip import reason_of
from calib.data.remote import RemotePath
from calib.errors import DataError

__all__ = ["AnyPath", "count_lines", "json_object", "plain_suffix", "read_lines"]

AnyPath = Path | RemotePath

_BLOCK = 1 << 17  # bytes
_LONGEST_LINE = 1 << 20  # bytes; longer is no line of an index
_BLANK = " \t\r\x0b\x0c"
_BOM = b"\xef\xbb\xbf"


def plain_suffix(path: AnyPath) -> str:
    """The suffix in lower case, without ``.gz``: ``.jsonl`` of ``cuts.jsonl.gz``."""
    name = path.name.lower().removesuffix(".gz")
    dot = name.rfind(".")
    return name[dot:] if dot > 0 else ""


@contextlib.contextmanager
def _blocks(path: AnyPath) -> Iterator[IO[bytes]]:
    """The file's bytes, decompressed.

    Raises:
        DataError: unreadable, or its compressed data is damaged.
    """
    try:
        with path.open("rb") as file:
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if path.name.lower().endswith(".gz") else file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: its compressed data is cut short or damaged ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {reason_of(error)}") from None


def read_lines(path: AnyPath) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file that are not blank, with their numbers from 1; BOM and CRLF are tolerated.

    Raises:
        DataError: unreadable, not UTF-8, not text; with the line number.
    """
    with _blocks(path) as file:
        number, rest = 0, b""
        block = file.read(_BLOCK)
        if block.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(
                f"{path}: is UTF-16; calib reads UTF-8",
                hint=f"iconv -f UTF-16 -t UTF-8 {path.name} > utf8-{path.name}",
            )
        block = block.removeprefix(_BOM)
        while block:
            whole, newline, after = block.rpartition(b"\n")
            if newline:
                for line in _lines(path, number, rest + whole):
                    number += 1
                    if line:
                        yield number, line
                rest = after
            else:
                rest += after
            if len(rest) > _LONGEST_LINE:
                raise DataError(f"{path}, line {number + 1}: longer than {_LONGEST_LINE} bytes; this is no text index")
            block = file.read(_BLOCK)
        if rest:
            for line in _lines(path, number, rest):
                number += 1
                if line:
                    yield number, line


def _lines(path: AnyPath, before: int, data: bytes) -> Iterator[str]:
    """The lines of a block, "" for blank ones."""
    first = data.find(b"\n")
    if (len(data) if first < 0 else first) > _LONGEST_LINE:  # the others lie within one block, and are shorter
        raise DataError(f"{path}, line {before + 1}: longer than {_LONGEST_LINE} bytes; this is no text index")
    if b"\0" in data:
        position = before + 1 + data.count(b"\n", 0, data.index(b"\0"))
        yield from _lines_before(path, before, data, position)
        raise DataError(f"{path}, line {position}: holds a NUL byte; this is no text index")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        position = before + 1 + data.count(b"\n", 0, error.start)
        yield from _lines_before(path, before, data, position)
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1)
        raise DataError(
            f"{path}, line {position}: not UTF-8 ({error.reason} at byte {column})",
            hint="convert the file to UTF-8, for example with iconv",
        ) from None
    for line in text.split("\n"):
        stripped = line.rstrip("\r")
        yield stripped if stripped.strip(_BLANK) else ""


def _lines_before(path: AnyPath, before: int, data: bytes, position: int) -> Iterator[str]:
    """The lines of a block in front of a bad one: what is wrong in them is said first."""
    good = data.split(b"\n", position - 1 - before)[: position - 1 - before]
    if good:
        yield from _lines(path, before, b"\n".join(good))


def count_lines(path: AnyPath) -> int:
    """How many lines :func:`read_lines` gives, at about 1 GB/s: places where a line begins with more than blanks.

    Raises:
        DataError: unreadable.
    """
    count, previous, first = 0, 10, True
    with _blocks(path) as file:
        while block := file.read(_BLOCK):
            if first:
                block, first = block.removeprefix(_BOM), False
            data = block.translate(None, _BLANK.encode())
            if not data:
                continue
            breaks = np.frombuffer(data, np.uint8) == 10
            count += int(np.count_nonzero(breaks[:-1] & ~breaks[1:])) + (previous == 10 and data[0] != 10)
            previous = data[-1]
    return count


def json_object(where: str, line: str, remark: str = "") -> dict[str, Any]:
    """The object on one line of a JSONL index.

    Raises:
        DataError: it is none, with ``where`` and the line's beginning.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise DataError(f"{where}: not a JSON object on one line ({reason}): {line[:80]!r}") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: {line[:80]!r} is not a JSON object{remark}")
    return value
