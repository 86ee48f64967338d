"""Filelists and tables: one utterance a line, columns separated by ``|``, a tab, or (with a header) a comma.

Read: ``path|text``, ``path|text|speaker`` (NVIDIA, FastPitch), ``path|speaker|text`` (VITS, Matcha), ``id|text|
normalised text`` without extensions (HiFi-GAN), ``mels/x.pt|pitch/x.pt|text``; tables with a header (Coqui CSV
``audio_file|text|speaker_name``, Common Voice TSV). Columns that cannot be told apart are asked for, not guessed.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from calib.data.arrays import ARRAY_SUFFIXES
from calib.data.audio import AUDIO_SUFFIXES
from calib.data.sources.base import Row, Source
from calib.data.sources.lines import AnyPath, count_lines, read_lines
from calib.data.sources.locate import Locator
from calib.data.sources.names import has_suffix
from calib.errors import DataError, UsageError, nearest

__all__ = ["header_of", "open_table"]

_SKIP = "_"
_FIELDS = ("id", "path", "mel", "text", "speaker", "language", "duration", "split")
_HEADERS = {
    "id": {"id", "utt_id", "utterance_id"},
    "path": {"path", "audio_file", "audio", "audio_filepath", "audio_path", "wav", "wav_path", "wav_filename", "file", "filename", "file_name"},
    "mel": {"mel", "mels", "mel_path"},
    "text": {"text", "sentence", "transcript", "transcription", "normalized_text"},
    "speaker": {"speaker", "speaker_name", "speaker_id", "client_id"},
    "language": {"language", "lang", "locale"},
    "duration": {"duration", "duration_s", "seconds"},
    "split": {"split", "subset"},
}  # fmt: skip
_NO_MEL = ("pitch", "f0", "energy", "dur", "align")  # what FastPitch keeps beside mels, also as arrays
_SAMPLED = 50


class _Columns(NamedTuple):
    """How a line becomes a row: the separator, and what each column is."""

    separator: str  # "" for one column
    fields: tuple[str, ...]
    header: bool = False
    quoted: bool = False  # fields may be in double quotes, as pandas writes them


def open_table(
    path: AnyPath,
    *,
    columns: str | None,
    audio_root: AnyPath | None,
    audio_folder: AnyPath | None = None,
    **options: Any,
) -> Source:
    """Open a filelist or a table.

    Args:
        path: the index.
        columns: the user's ``--columns``, for example "path,text,speaker"; ``_`` passes over a column.
        audio_root: the user's ``--audio-root``.
        audio_folder: where the audio is if the user does not say and it is not beside the index.
        options: those of every source (``limit``, ``select``).

    Raises:
        DataError: a malformed line, a duplicate id, or none of the first files exists.
        UsageError: the columns cannot be told.
    """
    lines = [line for _, line in islice(read_lines(path), _SAMPLED)]
    if not lines:
        raise DataError(f"{path}: names no utterances; the file is empty")
    found = _given(columns, lines[0]) if columns is not None else header_of(lines[0]) or _inferred(path, lines)
    common_voice = found.header and found.separator == "\t" and "sentence" in lines[0].lower().split("\t")
    coqui = found.header and "audio_file" in lines[0].lower()
    base = audio_root or audio_folder or (path.parent / "clips" if common_voice else path.parent)
    bases = [base, *(base / name for name in ("wavs", "clips") if (base / name).is_dir())]
    if common_voice and audio_root is None:
        bases.append(path.parent)

    def rows() -> Iterator[Row]:
        for number, line in islice(read_lines(path), int(found.header), None):
            yield _row(path, number, line, found)

    label = "Common Voice TSV" if common_voice else "Coqui CSV" if coqui else "filelist"
    locator = Locator(bases, drop=audio_root is not None)

    def count() -> int:
        return count_lines(path) - found.header

    source = Source("filelist", path, rows, locator, label=f"{label} {path.name}", count=count, empty="names no utterances; it holds a header only", **options)  # fmt: skip
    source.remark = "columns " + "|".join(found.fields) + f"{', ' * bool(source.remark)}{source.remark}"
    if audio_root is not None:
        dropped = f", in place of {locator.dropped} leading folder{'s' * (locator.dropped != 1)}"
        source.remark += f", audio in {locator.base}" + (dropped if locator.dropped else "")
    elif locator.base != path.parent:
        source.remark += f", audio in {locator.base.name}/"
    return source


def header_of(line: str) -> _Columns | None:
    """The columns if ``line`` is a header (a file column and one more that are known by name), else None."""
    for separator in ("|", "\t", ","):
        names = [name.strip().strip('"').lower() for name in line.split(separator)]
        fields: list[str] = []
        for name in names:
            field = next((field for field, known in _HEADERS.items() if name in known), _SKIP)
            fields.append(field if field not in fields else _SKIP)
        if ("path" in fields or "mel" in fields) and len(set(fields) - {_SKIP}) >= 2:
            return _Columns(separator, tuple(fields), header=True, quoted=separator != "\t")
    return None


def _given(columns: str, first: str) -> _Columns:
    names = [name.strip().lower() for name in columns.split(",")]
    fields = ["path" if name in {"audio", "wav"} else name for name in names]
    for field in fields:
        if field not in (*_FIELDS, _SKIP):
            raise UsageError(f"--columns names {field!r}", hint=nearest(field, [*_FIELDS, _SKIP]))
    used = [field for field in fields if field != _SKIP]
    if len(set(used)) != len(used):
        raise UsageError(f"--columns {columns} names a column twice")
    if not {"path", "mel", "id"} & set(used):
        raise UsageError(f"--columns {columns} has no file", hint="name one of the columns path, mel or id")
    separator = _separator(first) or ("," if "," in first else "")
    header = header_of(first) is not None
    return _Columns(separator if len(fields) > 1 else "", tuple(fields), header=header, quoted=separator == ",")


def _separator(line: str) -> str:
    return "|" if "|" in line else "\t" if "\t" in line else ""


def _inferred(path: AnyPath, lines: Sequence[str]) -> _Columns:
    """The columns of a filelist without a header, from its first lines."""
    separator = _separator(lines[0])
    if not separator:
        if has_suffix(lines[0].strip(), (*AUDIO_SUFFIXES, *ARRAY_SUFFIXES)):
            return _Columns("", (_file_field(lines[0].strip()),))
        raise _unknown(path, lines[0])
    table = [[field.strip() for field in line.split(separator)] for line in lines]
    width = len(table[0])
    table = [row for row in table if len(row) == width]  # the others are refused when they are read, by line number
    leading = 1  # the first column names the file even if it has no suffix
    while leading < width and has_suffix(table[0][leading], (*AUDIO_SUFFIXES, *ARRAY_SUFFIXES)):
        leading += 1
    files = [_file_field(value) if has_suffix(value, ARRAY_SUFFIXES) else "path" for value in table[0][:leading]]
    fields = [field if field not in files[:position] else _SKIP for position, field in enumerate(files)]
    rest = [[row[column] for row in table] for column in range(leading, width)]
    meaning = _rest(rest)
    if meaning is None or not {"path", "mel"} & set(fields):
        raise _unknown(path, lines[0])
    return _Columns(separator, (*fields, *meaning))


def _file_field(value: str) -> str:
    if has_suffix(value, AUDIO_SUFFIXES):
        return "path"
    return _SKIP if any(word in value.lower() for word in _NO_MEL) else "mel"


def _rest(columns: Sequence[Sequence[str]]) -> tuple[str, ...] | None:
    """What the columns after the files are; None if that cannot be told."""
    if len(columns) < 2:
        return ("text",)[: len(columns)]
    first, second = columns[0], columns[1]
    if len(columns) == 2:
        if _numbers(first) and not _numbers(second):  # VITS and Matcha: the speaker's number comes first
            return ("speaker", "text")
        return (_SKIP, "text") if _spoken(first, second) else ("text", "speaker")
    if len(columns) == 3:
        if _spoken(first, second) and _decimals(columns[2]):  # CSS10
            return (_SKIP, "text", "duration")
        if not _spoken(first, second) and all(len(value) <= 8 and " " not in value for value in columns[2]):
            return ("text", "speaker", "language")
    return None


def _spoken(text: Sequence[str], other: Sequence[str]) -> bool:
    """Whether ``other`` is a second, normalised text rather than a speaker's name."""
    return any(value.count(" ") >= 3 or len(value) > 64 or value == twin != "" for twin, value in zip(text, other, strict=True))  # fmt: skip


def _numbers(values: Sequence[str]) -> bool:
    return all(value.isascii() and value.isdigit() for value in values)


def _decimals(values: Sequence[str]) -> bool:
    try:
        return all(math.isfinite(float(value)) for value in values)
    except ValueError:
        return False


def _unknown(path: AnyPath, line: str) -> UsageError:
    return UsageError(
        f"{path}: cannot tell what its columns are; the first line is {line[:120]!r}",
        hint="name them with --columns, for example --columns path,text,speaker (_ passes over a column)",
    )


def _row(path: AnyPath, number: int, line: str, columns: _Columns) -> Row:
    if not columns.separator:
        parts = [line]
    elif columns.quoted and '"' in line:
        parts = next(csv.reader([line], delimiter=columns.separator))
    else:
        parts = line.split(columns.separator)
    if len(parts) != len(columns.fields):
        raise DataError(
            f"{path}, line {number}: {len(parts)} column{'s' * (len(parts) != 1)} where {len(columns.fields)} ({'|'.join(columns.fields)}) are expected: {line[:80]!r}"
        )
    values = {field: part.strip() for field, part in zip(columns.fields, parts, strict=True) if field != _SKIP}
    audio = values.get("path") or (None if "mel" in values else values.get("id"))
    name = audio or values.get("mel")
    if not name:
        raise DataError(f"{path}, line {number}: names no file: {line[:80]!r}")
    duration = values.get("duration") or None
    if duration is not None and not _decimals([duration]):
        raise DataError(f"{path}, line {number}: the duration {duration!r} is no number of seconds")
    return Row(
        number,
        name,
        audio=audio,
        mel=values.get("mel") or None,
        id=values.get("id") or None,
        text=values.get("text", ""),
        speaker=values.get("speaker") or None,
        language=values.get("language") or None,
        duration=None if duration is None else float(duration),
        split=values.get("split") or None,
    )
