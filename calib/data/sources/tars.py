"""WebDataset shards: tars in which the files of one utterance lie side by side under one name.

Only the headers are read here (a block of 512 bytes a file); the audio is read from its place in the tar by whoever
wants it. Nothing is extracted. Format: POSIX ustar with GNU long names and pax headers.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import IO, Any

from calib.data.arrays import ARRAY_SUFFIXES
from calib.data.audio import AUDIO_SUFFIXES
from calib.data.clip import Clip, reason_of
from calib.data.remote import RemotePath
from calib.data.sources.base import Row, Source
from calib.data.sources.lines import AnyPath
from calib.errors import DataError

__all__ = ["open_tars"]

_BLOCK = 512
_LONGEST = 1 << 20  # bytes of metadata of one utterance, or of a long name
_TEXTS = ("txt", "text", "normalized.txt", "transcript")
_PAX = re.compile(rb"\d+ ([^=]+)=(.*)", re.DOTALL)


def open_tars(root: AnyPath, shards: Sequence[AnyPath], **options: Any) -> Source:
    """Open WebDataset shards.

    Args:
        root: for messages: the folder, the pattern, or the one shard.
        shards: in order.
        options: those of every source (``limit``, ``select``).

    Raises:
        DataError: a damaged tar, no audio in it, a duplicate id.
    """

    def rows() -> Iterator[Row]:
        for shard in shards:
            yield from _rows(shard)

    found = next(iter(rows()), None)
    if found is None:
        kinds = sorted({os.path.splitext(name)[1] or name for name, *_ in islice(_members(shards[0]), 100)})  # noqa: PTH122
        raise DataError(
            f"{root}: no audio in its tars: looked for {' '.join(AUDIO_SUFFIXES)}; the first holds {', '.join(kinds[:12]) or 'nothing'}"
        )
    label = f"WebDataset shard{'s' * (len(shards) != 1)} {root.name}"
    remark = f"{len(shards)} tar{'s' * (len(shards) != 1)}"
    return Source("webdataset", root, rows, None, label=label, remark=remark, **options)


def _rows(shard: AnyPath) -> Iterator[Row]:
    """One row for each run of members with one key (the path up to the first dot of its name)."""
    key: str | None = None
    fields: dict[str, Any] = {}
    with _opened(shard) as file:
        for name, offset, size in _members(shard, file):
            folder, slash, base = name.rpartition("/")
            stem, _, suffix = base.partition(".")
            if not stem:  # a hidden file
                continue
            if folder + slash + stem != key:
                if key is not None and (row := _row(shard, key, fields)):
                    yield row
                key, fields = folder + slash + stem, {}
            suffix = suffix.lower()
            if suffix == "json" or suffix in {*_TEXTS, "cls", "spk", "lang"}:
                fields[suffix] = _payload(shard, file, name, offset, size)
            else:
                fields.setdefault(f".{suffix.rpartition('.')[2]}", (name, offset, size))
        if key is not None and (row := _row(shard, key, fields)):
            yield row


def _row(shard: AnyPath, key: str, fields: Mapping[str, Any]) -> Row | None:
    audio = next((fields[suffix] for suffix in fields if suffix in AUDIO_SUFFIXES), None)
    mel = next((fields[suffix] for suffix in fields if suffix in ARRAY_SUFFIXES), None)
    found = audio or mel
    if found is None:
        return None
    name, offset, size = found
    clip = Clip(str(shard), offset, size, member=name)
    info: dict[str, Any] = {}
    if "json" in fields:
        try:
            info = json.loads(fields["json"])
        except (ValueError, RecursionError):
            raise DataError(f"{shard}: {key}.json is no JSON: {fields['json'][:60]!r}") from None
        if not isinstance(info, dict):
            raise DataError(f"{shard}: {key}.json holds no JSON object: {fields['json'][:60]!r}")
    text = next((_decoded(shard, key, fields[kind]) for kind in _TEXTS if kind in fields), None)
    return Row(
        f"{shard.name}: {name}",
        key,
        audio=clip if audio else None,
        mel=None if audio else clip,
        id=key,
        text=text
        if text is not None
        else _field(info, "text", "sentence", "transcript", "transcription", "caption") or "",
        speaker=_field(info, "speaker", "speaker_id", "speaker_name", "spk") or _side(shard, key, fields, "spk"),
        language=_field(info, "language", "lang", "locale") or _side(shard, key, fields, "lang"),
        duration=_duration(info),
        split=_field(info, "split", "subset"),
    )


def _side(shard: AnyPath, key: str, fields: Mapping[str, Any], kind: str) -> str | None:
    return _decoded(shard, key, fields[kind]) or None if kind in fields else None


def _decoded(shard: AnyPath, key: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise DataError(f"{shard}: the text of {key} is not UTF-8") from None


def _field(info: Mapping[str, Any], *keys: str) -> str | None:
    for key in keys:
        value = info.get(key)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return None


def _duration(info: Mapping[str, Any]) -> float | None:
    value = info.get("duration")
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")
    return float(value) if known and value is not None else None


def _opened(shard: AnyPath) -> IO[bytes]:
    try:
        return shard.open("rb")
    except OSError as error:
        raise DataError(f"{shard}: cannot be read: {reason_of(error)}") from None


def _payload(shard: AnyPath, file: IO[bytes], name: str, offset: int, size: int) -> bytes:
    if size > _LONGEST:
        raise DataError(f"{shard}: {name} has {size} bytes; what describes an utterance has at most {_LONGEST}")
    file.seek(offset)
    return file.read(size)


def _members(shard: AnyPath, file: IO[bytes] | None = None) -> Iterator[tuple[str, int, int]]:
    """Name, first byte and size of every regular file in a tar, in order.

    Raises:
        DataError: damaged, compressed, or cut short.
    """
    if file is None:
        with _opened(shard) as own:
            yield from _members(shard, own)
        return
    total = _size(shard, file)
    at, name, size_stated = 0, None, None
    while True:
        file.seek(at)
        header = file.read(_BLOCK)
        if len(header) < _BLOCK:
            if at == 0 or header or at > total:
                raise DataError(f"{shard}: {'not a tar' if at == 0 else f'cut short at byte {min(at, total)}'}")
            return  # without the two empty blocks at its end, which not every program writes
        if not header.strip(b"\0"):
            return
        kind = header[156:157]
        if _number(header[148:156]) != sum(header[:148]) + sum(header[156:]) + 8 * 32:
            what = "compressed; decompress it first" if header[:2] == b"\x1f\x8b" else "not a tar" if at == 0 else f"damaged at byte {at}"  # fmt: skip
            raise DataError(f"{shard}: {what}")
        size = _number(header[124:136]) if size_stated is None else size_stated
        data = at + _BLOCK
        at = data + -(-size // _BLOCK) * _BLOCK
        if kind in {b"L", b"x", b"g", b"K"}:
            if size > _LONGEST:
                raise DataError(f"{shard}: damaged at byte {data}: a name of {size} bytes")
            extra = file.read(size)
            if kind == b"L":
                name = extra.rstrip(b"\0")
            elif kind == b"x":
                name, size_stated = _pax(extra, name)
            continue
        if data + size > total:
            raise DataError(f"{shard}: cut short: a file of {size} bytes begins at byte {data}, the tar has {total}")
        if kind in {b"0", b"\0", b"7"}:
            yield (
                (_path(header) if name is None else name).decode("utf-8", "surrogateescape").removeprefix("./"),
                data,
                size,
            )
        name, size_stated = None, None


def _size(shard: AnyPath, file: IO[bytes]) -> int:
    if isinstance(shard, RemotePath) and (known := shard.size()) is not None:
        return known
    return file.seek(0, os.SEEK_END)


def _number(field: bytes) -> int:
    """Octal digits, or GNU's big-endian bytes for what has more than 8 GiB; -1 if it is neither."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return -1


def _path(header: bytes) -> bytes:
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _pax(data: bytes, name: bytes | None) -> tuple[bytes | None, int | None]:
    """The path and the size that an extended header states."""
    size = None
    while data:
        length = int(data.split(b" ", 1)[0]) if data[:1].isdigit() else 0
        if not 0 < length <= len(data):
            break
        found = _PAX.fullmatch(data[: length - 1])
        if found and found[1] == b"path":
            name = found[2]
        elif found and found[1] == b"size":
            size = int(found[2])
        data = data[length:]
    return name, size
