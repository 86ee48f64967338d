"""Parquet with a Hugging Face audio column: ``struct<bytes, path>``, plain bytes, or a path; one file or many shards.

The audio column itself is not read here: the other columns are, a thousand rows at a time, and each item says in which
row of which row group its audio lies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from calib.data.clip import Clip
from calib.data.parquetrow import open_parquet
from calib.data.sources.base import Row, Source
from calib.data.sources.lines import AnyPath
from calib.data.sources.locate import Locator
from calib.errors import DataError, UsageError

__all__ = ["open_parquet_shards"]

_ROWS = 1024  # read at once, without audio
_NAMES = {
    "audio": ("audio", "wav", "mp3", "speech", "sound", "audio_filepath", "audio_file", "path", "file"),
    "id": ("id", "utt_id", "utterance_id", "segment_id", "audio_id", "uid"),
    "text": ("normalized_text", "text_normalized", "text", "sentence", "transcript", "transcription"),
    "speaker": ("speaker", "speaker_id", "speaker_name", "client_id"),
    "language": ("language", "lang", "locale"),
    "duration": ("duration", "duration_s", "audio_duration", "seconds"),
    "split": ("split", "subset"),
}


class _Columns(NamedTuple):
    """Which column is what.

    ``kind`` of the audio: "struct" (bytes and path), "paths" (the same, every one without bytes), "bytes" or "path".
    """

    audio: str
    kind: str
    fields: dict[str, str]


def open_parquet_shards(
    root: AnyPath, shards: Sequence[AnyPath], *, columns: str | None, audio_root: AnyPath | None, **options: Any
) -> Source:
    """Open Parquet files with audio.

    Args:
        root: for messages: the folder, the pattern, or the one file.
        shards: in order.
        columns: the user's ``--columns``: names of the columns as ``audio=recording,text=raw``.
        audio_root: the user's ``--audio-root``, for files that hold paths.
        options: those of every source (``limit``, ``select``).

    Raises:
        DataError: damaged, or a duplicate id.
        UsageError: pyarrow is not installed, or no column holds audio.
    """
    first = open_parquet(str(shards[0]))
    found = _recognise(shards[0], first.schema_arrow, columns)
    if found.kind == "struct" and _no_bytes(first.metadata, f"{found.audio}.bytes"):
        found = found._replace(kind="paths")
    counts = {str(shard): int((first if shard is shards[0] else open_parquet(str(shard))).metadata.num_rows) for shard in shards}  # fmt: skip

    def rows() -> Iterator[Row]:
        before = 0
        for shard in shards:
            yield from _rows(shard, found, before)
            before += counts[str(shard)]

    base = audio_root or (shards[0].parent)
    locator = Locator([base], drop=audio_root is not None) if found.kind in {"path", "paths"} else None
    many = len(shards) != 1
    source = Source(
        "parquet",
        root,
        rows,
        locator,
        label=f"Parquet {'shards' if many else 'file'} {root.name}",
        count=lambda: sum(counts.values()),
        **options,
    )
    used = ", ".join(f"{column} as {field}" if column != field else field for field, column in found.fields.items())
    source.remark = f"{len(shards)} file{'s' * many}, audio in the column {found.audio}" + f", {used}" * bool(used)
    return source


def _recognise(shard: AnyPath, schema: Any, columns: str | None) -> _Columns:
    import pyarrow as pa

    names = {name.lower(): name for name in schema.names}
    told = _told(columns, names)
    chosen = {field: told.get(field) or next((names[name] for name in known if name in names), None) for field, known in _NAMES.items()}  # fmt: skip
    for name in [chosen["audio"], *schema.names] if "audio" not in told else [chosen["audio"]]:
        if name is None:
            continue
        kind = schema.field(name).type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            sort = "struct"
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            sort = "bytes"
        elif (pa.types.is_string(kind) or pa.types.is_large_string(kind)) and name == chosen["audio"]:
            sort = "path"
        else:
            continue
        fields = {field: column for field, column in chosen.items() if field != "audio" and column and column != name}
        return _Columns(name, sort, fields)
    raise UsageError(
        f"{shard}: no column of it holds audio; its columns are {', '.join(f'{field.name} ({field.type})' for field in list(schema)[:12])}",
        hint="name the column with --columns audio=NAME",
    )


def _no_bytes(metadata: Any, column: str) -> bool:
    """Whether the statistics of the first row group say that every row is without bytes."""
    if not metadata.num_row_groups:
        return False
    group = metadata.row_group(0)
    for position in range(group.num_columns):
        chunk = group.column(position)
        if chunk.path_in_schema == column:
            statistics = chunk.statistics
            return statistics is not None and statistics.has_null_count and statistics.null_count == chunk.num_values
    return False


def _told(columns: str | None, names: dict[str, str]) -> dict[str, str]:
    out: dict[str, str] = {}
    for part in columns.split(",") if columns else ():
        field, equals, name = (text.strip() for text in part.partition("="))
        if not equals or field not in _NAMES or name.lower() not in names:
            raise UsageError(
                f"--columns {columns}: {part.strip()!r} does not name a column of the Parquet file",
                hint=f"for example --columns audio=NAME,text=NAME; fields: {', '.join(_NAMES)}; columns: {', '.join(names.values())}",
            )
        out[field] = names[name.lower()]
    return out


def _rows(shard: AnyPath, columns: _Columns, before: int) -> Iterator[Row]:
    file = open_parquet(str(shard))
    wanted = list(columns.fields.values())
    path = None
    if columns.kind in {"struct", "paths"} and file.schema_arrow.field(columns.audio).type.get_field_index("path") >= 0:
        path = f"{columns.audio}.path"
    elif columns.kind == "path":
        path = columns.audio
    for group in range(file.metadata.num_row_groups):
        row = 0
        for batch in _batches(shard, file, group, [*wanted, *([path] if path else [])]):
            table = {name: batch.column(position).to_pylist() for position, name in enumerate(batch.schema.names)}
            for position in range(batch.num_rows):
                yield _row(shard, columns, table, position, group, row, before)
                row += 1
                before += 1
        if not wanted and not path:  # nothing beside the audio
            for row in range(file.metadata.row_group(group).num_rows):
                yield _row(shard, columns, {}, 0, group, row, before)
                before += 1


def _batches(shard: AnyPath, file: Any, group: int, wanted: list[str]) -> Iterator[Any]:
    from pyarrow.lib import ArrowException

    if not wanted:
        return
    try:
        yield from file.iter_batches(batch_size=_ROWS, row_groups=[group], columns=wanted, use_threads=False)
    except (ArrowException, OSError) as error:
        raise DataError(f"{shard}: row group {group} cannot be read ({str(error).splitlines()[0][:200]})") from None


def _row(
    shard: AnyPath, columns: _Columns, table: dict[str, list[Any]], position: int, group: int, row: int, number: int
) -> Row:
    def value(field: str) -> str | None:
        column = columns.fields.get(field)
        found = None if column is None else table[column][position]
        return None if found is None or found == "" else str(found)

    path = table[columns.audio][position] if columns.audio in table else None
    if isinstance(path, dict):
        path = path.get("path")
    where = f"{shard.name}, row {number}"
    name = value("id")
    if name is None and not path:
        name = f"{shard.stem}-{number:08d}"
    audio: str | Clip = path or ""
    if columns.kind in {"struct", "bytes"}:
        audio = Clip(str(shard), member=path or "", row=(group, row, columns.audio if columns.kind == "bytes" else f"{columns.audio}.bytes"))  # fmt: skip
    elif not path:
        audio = Clip(str(shard), row=(group, row, columns.audio), refused="the row names no audio file")
    return Row(
        where,
        path or name or "",
        audio=audio,
        id=name,
        text=value("text") or "",
        speaker=value("speaker"),
        language=value("language"),
        duration=_seconds(where, value("duration")),
        split=value("split"),
    )


def _seconds(where: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise DataError(f"{where}: the duration {text[:40]!r} is no number of seconds")
    return found
