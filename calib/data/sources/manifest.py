"""JSONL manifests: one JSON object a line, with NeMo's keys (``audio_filepath``, ``text``, ``duration``, ``speaker``).

Paths are relative to the manifest. ``id`` (or ``utt_id``), ``lang`` (or ``language``), ``split``, ``mel`` and
``offset`` (seconds into a longer recording, which then needs ``duration``) are read too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from calib.data.clip import Clip
from calib.data.sources.base import Row, Source
from calib.data.sources.lines import AnyPath, count_lines, json_object, read_lines
from calib.data.sources.locate import Locator
from calib.errors import DataError

__all__ = ["open_jsonl", "seconds_of"]

_AUDIO_KEYS = ("audio_filepath", "audio", "audio_file", "path", "wav")
_MEL_KEYS = ("mel", "mel_filepath", "mel_path", "feats")


def open_jsonl(path: AnyPath, *, audio_root: AnyPath | None, **options: Any) -> Source:
    """Open a JSONL manifest; ``options`` are those of every source (``limit``, ``select``).

    Raises:
        DataError: a malformed line, a duplicate id, or none of the first files exists.
    """

    def rows() -> Iterator[Row]:
        for number, line in read_lines(path):
            yield _row(path, number, line)

    base = audio_root or path.parent
    remark = f"audio in {audio_root}" if audio_root else ""
    locator = Locator([base], drop=audio_root is not None)
    count = functools.partial(count_lines, path)
    return Source(
        "jsonl", path, rows, locator, label=f"JSONL manifest {path.name}", remark=remark, count=count, **options
    )


def _row(path: AnyPath, number: int, line: str) -> Row:
    where = f"{path}, line {number}"
    value = json_object(where, line, "; a manifest has one object a line")
    audio = _text(where, value, *_AUDIO_KEYS)
    mel = _text(where, value, *_MEL_KEYS)
    if audio is None and mel is None:
        raise DataError(
            f"{where}: names no file (audio_filepath or mel); its keys are {', '.join(map(repr, list(value)[:8])) or 'none'}"
        )
    name = _text(where, value, "id", "utt_id", "utterance_id")
    offset, duration = seconds_of(where, value, "offset"), seconds_of(where, value, "duration")
    listed: str | Clip | None = audio
    stated = audio or mel or ""
    if offset is not None and audio is not None and duration is not None:
        listed = Clip(audio, start=offset, duration=duration)
        if offset:  # several segments have one file: where they begin tells them apart
            stated = f"{audio.rpartition('.')[0] or audio}-{offset:.3f}"
    elif offset:
        raise DataError(
            f"{where}: a segment of a longer file (offset {offset:g} s) without its duration",
            hint="a segment needs audio_filepath, offset and duration, in s",
        )
    return Row(
        number,
        stated,
        audio=listed,
        mel=mel,
        id=name,
        text=_text(where, value, "text", "sentence") or "",
        speaker=_text(where, value, "speaker", "speaker_id", "speaker_name"),
        language=_text(where, value, "language", "lang", "locale"),
        duration=duration,
        split=_text(where, value, "split", "subset"),
    )


def _text(where: str, value: Mapping[str, Any], *keys: str) -> str | None:
    for key in keys:
        found = value.get(key)
        if found is None or found == "":
            continue
        if isinstance(found, int) and not isinstance(found, bool):  # speaker and utterance numbers
            return str(found)
        if not isinstance(found, str):
            raise DataError(f"{where}: {key} is {str(found)[:60]!r}; it must be text")
        if "\0" in found and key in {*_AUDIO_KEYS, *_MEL_KEYS}:
            raise DataError(f"{where}: {key} holds a NUL character")
        return found
    return None


def seconds_of(where: str, value: Mapping[str, Any], key: str) -> float | None:
    """A field in s, or None where it is absent.

    Raises:
        DataError: it is no duration.
    """
    found = value.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not math.isfinite(found) or found < 0:
        raise DataError(f"{where}: {key} is {str(found)[:60]!r}; it must be seconds")
    return float(found)
