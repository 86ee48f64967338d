"""lhotse cuts: one JSON object a line, ``cuts.jsonl`` or ``cuts.jsonl.gz``; lhotse itself is not needed.

Read: MonoCut, and MultiCut over channels of one file; ``start``, ``duration`` and ``channel`` are honoured; text,
speaker and language come from the supervisions. What would need more than reading (mixed and padded cuts, transforms,
commands) is refused, cut by cut.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from calib.data.clip import Clip
from calib.data.remote import RemotePath
from calib.data.sources.base import Row, Source
from calib.data.sources.lines import AnyPath, count_lines, json_object, read_lines
from calib.data.sources.locate import Locator
from calib.data.sources.manifest import seconds_of
from calib.errors import DataError

__all__ = ["is_lhotse", "open_lhotse"]


def is_lhotse(value: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a lhotse cut."""
    return value.get("type") in {"MonoCut", "MultiCut", "MixedCut", "PaddingCut"} or (
        "recording" in value and "supervisions" in value and "id" in value
    )


def open_lhotse(path: AnyPath, *, audio_root: AnyPath | None, **options: Any) -> Source:
    """Open a manifest of lhotse cuts; ``options`` are those of every source (``limit``, ``select``).

    Raises:
        DataError: a malformed line, a duplicate id, or none of the first recordings exists.
    """

    def rows() -> Iterator[Row]:
        for number, line in read_lines(path):
            yield _row(f"{path}, line {number}", number, json_object(f"{path}, line {number}", line))

    bases: list[AnyPath] = [audio_root] if audio_root else [path.parent, path.parent.parent]
    if not audio_root and not isinstance(path, RemotePath):
        bases += [path.parent.parent.parent, Path()]  # lhotse's own paths are relative to where it ran
    locator = Locator(bases, drop=audio_root is not None)
    count = functools.partial(count_lines, path)
    remark = f"audio in {audio_root}" if audio_root else ""
    return Source(
        "lhotse", path, rows, locator, label=f"lhotse cuts {path.name}", remark=remark, count=count, **options
    )


def _row(where: str, number: int, cut: Mapping[str, Any]) -> Row:
    name = cut.get("id")
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: a cut without an id")
    duration = seconds_of(where, cut, "duration")
    clip, reason = _clip(where, cut, duration)
    told = [entry for entry in cut.get("supervisions") or [] if isinstance(entry, dict)]
    return Row(
        number,
        name,
        audio=clip or Clip(name, refused=reason),
        id=name,
        text=" ".join(text for entry in told if isinstance(text := entry.get("text"), str)).strip(),
        speaker=_one(told, "speaker"),
        language=_one(told, "language"),
        duration=duration,
    )


def _one(told: list[dict[str, Any]], key: str) -> str | None:
    """What all supervisions agree on; None where they differ or do not say."""
    found = {str(entry[key]) for entry in told if entry.get(key) not in (None, "")}
    return found.pop() if len(found) == 1 else None


def _clip(where: str, cut: Mapping[str, Any], duration: float | None) -> tuple[Clip | None, str]:
    """Where a cut's audio lies, or why it is not read."""
    kind = cut.get("type", "MonoCut")
    if kind not in {"MonoCut", "MultiCut"}:
        return None, f"a {kind}: it is made from several recordings, and calib only reads; save it with cut.save_audio"
    recording = cut.get("recording")
    if not isinstance(recording, dict):
        return None, "a cut without a recording"
    if recording.get("transforms"):
        names = [str(entry.get("name", entry)) if isinstance(entry, dict) else str(entry) for entry in recording["transforms"]]  # fmt: skip
        return None, f"its recording is transformed ({', '.join(names)[:80]}); save it with cut.save_audio"
    sources = [entry for entry in recording.get("sources") or [] if isinstance(entry, dict)]
    channel = cut.get("channel", 0)
    wanted = set(channel) if isinstance(channel, list) else {channel}
    for source in sources:
        channels = source.get("channels") or [0]
        if wanted <= set(channels):
            break
    else:
        return None, f"no file of its recording holds the channels {sorted(map(str, wanted))} together"
    if source.get("type") not in {"file", "url"}:
        what = "a command; calib executes nothing" if source.get("type") == "command" else f"of type {source.get('type')!r}"  # fmt: skip
        return None, f"its recording is {what}"
    path = source.get("source")
    if not isinstance(path, str) or not path or "\0" in path:
        return None, "its recording names no file"
    if len(wanted) > 1 and wanted != set(channels):
        return None, f"{len(wanted)} of the {len(channels)} channels of its file; one or all of them can be read"
    picked = channels.index(next(iter(wanted))) if len(wanted) == 1 and len(channels) > 1 else None
    start = seconds_of(where, cut, "start") or 0.0
    length = recording.get("duration")
    # A cut of all of its recording is the recording: its stated duration is rounded.
    if not start and isinstance(length, (int, float)) and duration is not None and abs(length - duration) < 1e-6:
        duration = None
    return Clip(path, start=start, duration=duration, channel=picked), ""
