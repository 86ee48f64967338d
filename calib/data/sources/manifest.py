"""JSONL manifests: one JSON object a line, with NeMo's keys (``audio_filepath``, ``text``, ``duration``, ``speaker``).

Paths are relative to the manifest. ``id`` (or ``utt_id``), ``lang`` (or ``language``) and ``mel`` are read too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from calib.data.sources.base import Locator, Row, Source, json_object, read_lines
from calib.errors import DataError, UsageError

__all__ = ["open_jsonl"]

_AUDIO_KEYS = ("audio_filepath", "audio", "audio_file", "path", "wav")
_MEL_KEYS = ("mel", "mel_filepath", "mel_path", "feats")
_LHOTSE_KEYS = {"recording", "supervisions", "channel"}


def open_jsonl(path: Path, *, audio_root: Path | None, limit: int | None) -> Source:
    """Open a JSONL manifest.

    Raises:
        DataError: a malformed line, a duplicate id, or none of the first files exists.
        UsageError: lhotse cuts.
    """

    def rows() -> Iterator[Row]:
        for number, line in read_lines(path):
            yield _row(path, number, line)

    base = audio_root or path.parent
    remark = f"audio in {audio_root}" if audio_root else ""
    locator = Locator([base], drop=audio_root is not None)
    return Source("jsonl", path, rows, locator, label=f"JSONL manifest {path.name}", remark=remark, limit=limit)


def _row(path: Path, number: int, line: str) -> Row:
    where = f"{path}, line {number}"
    value = json_object(where, line, "; a manifest has one object a line")
    if value.keys() >= _LHOTSE_KEYS:
        raise UsageError(
            f"{path}: these are lhotse cuts, which this version does not read",
            hint='write a manifest: {"audio_filepath": ..., "text": ...} a line',
        )
    audio = _text(where, value, *_AUDIO_KEYS)
    mel = _text(where, value, *_MEL_KEYS)
    if audio is None and mel is None:
        raise DataError(
            f"{where}: names no file (audio_filepath or mel); its keys are {', '.join(map(repr, list(value)[:8])) or 'none'}"
        )
    if _seconds(where, value, "offset"):
        raise DataError(
            f"{where}: a segment of a longer file (offset {value['offset']}), which this version does not read",
            hint="cut the audio into one file an utterance",
        )
    return Row(
        number,
        audio or mel or "",
        audio=audio,
        mel=mel,
        id=_text(where, value, "id", "utt_id", "utterance_id"),
        text=_text(where, value, "text", "sentence") or "",
        speaker=_text(where, value, "speaker", "speaker_id", "speaker_name"),
        language=_text(where, value, "language", "lang", "locale"),
        duration=_seconds(where, value, "duration"),
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


def _seconds(where: str, value: Mapping[str, Any], key: str) -> float | None:
    found = value.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not math.isfinite(found) or found < 0:
        raise DataError(f"{where}: {key} is {str(found)[:60]!r}; it must be seconds")
    return float(found)
