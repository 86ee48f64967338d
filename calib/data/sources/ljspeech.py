"""The LJSpeech layout: ``metadata.csv`` with ``id|text|normalised text``, audio in ``wavs/``, perhaps ``speakers.csv``.

``speakers.csv`` holds ``id|speaker|language`` and may name fewer utterances, or none.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from typing import Any

from calib.data.audio import AUDIO_SUFFIXES
from calib.data.sources.base import Row, Source
from calib.data.sources.lines import AnyPath, count_lines, read_lines
from calib.data.sources.locate import Locator
from calib.data.sources.names import has_suffix
from calib.errors import DataError

__all__ = ["open_ljspeech"]

_AUDIO_FOLDERS = ("wavs", "wav", "audio", "flac")


def open_ljspeech(folder: AnyPath, metadata: AnyPath, *, audio_root: AnyPath | None, **options: Any) -> Source:
    """Open an LJSpeech folder; ``options`` are those of every source (``limit``, ``select``).

    Raises:
        DataError: a malformed line, a duplicate id, or none of the first audio files exists.
    """
    wavs = audio_root or next((folder / name for name in _AUDIO_FOLDERS if (folder / name).is_dir()), folder)
    speakers = folder / "speakers.csv"
    told = speakers.is_file()

    def rows() -> Iterator[Row]:
        known = _Speakers(speakers) if told else None
        for number, line in read_lines(metadata):
            fields = line.split("|")
            name = fields[0].strip()
            if not 2 <= len(fields) <= 3 or not name:
                raise DataError(
                    f"{metadata}, line {number}: {len(fields)} column{'s' * (len(fields) != 1)} in {line[:80]!r}; an LJSpeech line is id|text|normalised text",
                    hint="other columns: give --columns, for example --columns id,text,speaker",
                )
            speaker, language = known.of(name) if known else (None, None)
            # The third column is what is really said (numbers and abbreviations spelt out).
            yield Row(
                number,
                name,
                audio=name,
                id=_bare(name),
                text=fields[-1].strip() or fields[1].strip(),
                speaker=speaker,
                language=language,
            )

    where = f"{wavs.name}/" if wavs != folder else "audio beside metadata.csv"
    if audio_root is not None:
        where = f"audio in {audio_root}"
    where += ", speakers.csv" * told
    name = folder.resolve().name
    index = "" if metadata.name == "metadata.csv" else f" ({metadata.name})"
    return Source(
        "ljspeech",
        metadata,
        rows,
        Locator([wavs]),
        label=f"LJSpeech folder {name}{index}",
        remark=where,
        count=functools.partial(count_lines, metadata),
        **options,
    )


class _Speakers:
    """``speakers.csv`` read in step with ``metadata.csv``; held whole only if their orders differ."""

    def __init__(self, path: AnyPath) -> None:
        self._path = path
        self._lines = self._parse()
        self._all: dict[str, tuple[str | None, str | None]] | None = None

    def of(self, name: str) -> tuple[str | None, str | None]:
        """Speaker and language of an id; None where the file does not say."""
        if self._all is None:
            found, speaker, language = next(self._lines, ("", None, None))
            if found == _bare(name):
                return speaker, language
            self._all = {found: (speaker, language) for found, speaker, language in self._parse()}
        return self._all.get(_bare(name), (None, None))

    def _parse(self) -> Iterator[tuple[str, str | None, str | None]]:
        for number, line in read_lines(self._path):
            fields = [field.strip() for field in line.split("|")]
            if not 2 <= len(fields) <= 3 or not fields[0]:
                raise DataError(f"{self._path}, line {number}: {line[:80]!r} is not id|speaker|language")
            speaker, language = (sys.intern(field) or None for field in [*fields[1:], ""][:2])
            yield _bare(fields[0]), speaker, language


def _bare(name: str) -> str:
    return name.rsplit(".", 1)[0] if has_suffix(name, AUDIO_SUFFIXES) else name
