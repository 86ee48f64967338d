"""Kaldi data folders: ``wav.scp`` with ``text``, ``utt2spk``, ``utt2lang``, ``segments``; ``feats.scp`` of mels.

An entry is a path or ``archive.ark:OFFSET``. A pipe (``sox ... |``) is refused, entry by entry: calib executes nothing.
Paths are relative to the scp, to the folder above it, or, as Kaldi's own, to where the command is run.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from calib.data.clip import Clip
from calib.data.remote import RemotePath
from calib.data.sources.base import Row, Source
from calib.data.sources.lines import AnyPath, count_lines, read_lines
from calib.data.sources.locate import Locator
from calib.errors import DataError

__all__ = ["open_kaldi"]

_OFFSET = re.compile(r"^(.*[^:]):(\d+)$")
_RANGE = re.compile(r"\[[\d,:]*\]$")
_PIPE = "a pipe ({command}); calib executes nothing: write the audio out with wav-copy or sox, once"


def open_kaldi(index: AnyPath, *, audio_root: AnyPath | None, **options: Any) -> Source:
    """Open a ``wav.scp`` or ``feats.scp``, with what lies beside it.

    Args:
        index: the scp.
        audio_root: the user's ``--audio-root``.
        options: those of every source (``limit``, ``select``).

    Raises:
        DataError: a malformed line, a duplicate id, or none of the first files exists.
    """
    folder = index.parent
    mels = index.name.startswith("feats")
    segments = folder / "segments"
    segmented = not mels and segments.is_file()
    beside = {name: path for name in ("text", "utt2spk", "utt2lang", "utt2dur") if (path := folder / name).is_file()}

    def rows() -> Iterator[Row]:
        told = {name: _Aligned(path) for name, path in beside.items()}

        def said(table: str, utterance: str) -> str | None:
            return told[table].of(utterance) if table in told else None

        listed = _segments(index, segments) if segmented else _entries(index)
        for number, utterance, clip in listed:
            length = said("utt2dur", utterance)
            yield Row(
                number,
                utterance,
                **{"mel" if mels else "audio": clip},  # type: ignore[arg-type]
                id=utterance,
                text=said("text", utterance) or "",
                speaker=said("utt2spk", utterance),
                language=said("utt2lang", utterance),
                duration=clip.duration
                if length is None
                else _number(beside["utt2dur"], f"the duration of {utterance}", length),
            )

    bases: list[AnyPath] = [audio_root] if audio_root else [folder, folder.parent]
    if not audio_root and not isinstance(folder, RemotePath):
        bases += [folder.parent.parent, Path()]
    locator = Locator(bases, drop=audio_root is not None)
    used = [*(["segments"] if segmented else []), *beside]
    where = folder.resolve().name if index.name in {"wav.scp", "feats.scp"} else index.name
    label = f"Kaldi {'feats.scp' if mels else 'wav.scp'} of {where}"
    count: Callable[[], int] = functools.partial(count_lines, segments if segmented else index)
    return Source("kaldi", index, rows, locator, label=label, remark=", ".join(used), count=count, **options)


def _entries(index: AnyPath) -> Iterator[tuple[int, str, Clip]]:
    """Line number, id and place of every entry of an scp."""
    for number, line in read_lines(index):
        fields = line.split(None, 1)
        if len(fields) != 2:
            raise DataError(f"{index}, line {number}: {line[:80]!r} is not an id and a file")
        yield number, fields[0], _clip(fields[1].strip())


def _clip(listed: str) -> Clip:
    if listed.endswith("|") or listed.startswith("|"):
        return Clip(listed[:40], refused=_PIPE.format(command=listed.strip("| ")[:60]))
    if listed == "-":
        return Clip(listed, refused="standard input, which a second pass cannot read")
    if _RANGE.search(listed):
        return Clip(listed, refused="a range of an archive's rows, which this version does not read")
    found = _OFFSET.match(listed)
    return Clip(found[1], offset=int(found[2])) if found else Clip(listed)


def _segments(index: AnyPath, segments: AnyPath) -> Iterator[tuple[int, str, Clip]]:
    """The same for parts of recordings; the recordings are held, which are fewer."""
    recordings = {name: clip for _, name, clip in _entries(index)}
    for number, line in read_lines(segments):
        fields = line.split()
        where = f"{segments}, line {number}"
        if len(fields) not in {4, 5}:
            raise DataError(f"{where}: {line[:80]!r} is not utterance, recording, start and end")
        clip = recordings.get(fields[1])
        if clip is None:
            raise DataError(f"{where}: the recording {fields[1]!r} is not in {index.name}")
        start, end = _number(where, "start", fields[2]), _number(where, "end", fields[3], least=-1.0)
        if end != -1.0 and end <= start:
            raise DataError(f"{where}: ends at {end:g} s, before it begins ({start:g} s)")
        channel = None if len(fields) == 4 else int(_number(where, "channel", fields[4]))
        yield number, fields[0], Clip(clip.path, clip.offset, clip.size, start=start, duration=None if end == -1.0 else end - start, channel=channel, refused=clip.refused)  # fmt: skip


def _number(where: object, what: str, text: str, least: float = 0.0) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value < float("inf"):
        raise DataError(f"{where}: {what} {text[:40]!r} is no number of seconds")
    return value


class _Aligned:
    """A table ``id value`` read in step with the index; held whole only if their ids differ."""

    def __init__(self, path: AnyPath) -> None:
        self._path = path
        self._lines = self._parse()
        self._all: dict[str, str] | None = None

    def of(self, name: str) -> str | None:
        """The value of an id; None where the table has none."""
        if self._all is None:
            found, value = next(self._lines, ("", ""))
            if found == name:
                return value or None
            self._all = dict(self._parse())
        return self._all.get(name) or None

    def _parse(self) -> Iterator[tuple[str, str]]:
        for _, line in read_lines(self._path):
            name, *value = line.split(None, 1)
            yield name, value[0].strip() if value else ""
