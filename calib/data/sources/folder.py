"""A folder of audio or of mels: every file below it, sorted, the id being the relative path without its suffix."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from calib.data.arrays import ARRAY_SUFFIXES
from calib.data.audio import AUDIO_SUFFIXES
from calib.data.sources.base import Locator, Row, Source, has_suffix
from calib.errors import DataError

__all__ = ["census", "open_folder", "open_one_file", "walk"]


def open_folder(folder: Path, found: dict[str, int], *, limit: int | None) -> Source:
    """Open a folder of audio files, or, if its :func:`census` has none, of mel arrays.

    Raises:
        DataError: neither is below it; two files give the same id.
    """
    audio = {suffix: count for suffix, count in found.items() if suffix in AUDIO_SUFFIXES}
    mels = {suffix: count for suffix, count in found.items() if suffix in ARRAY_SUFFIXES}
    if not audio and not mels:
        raise DataError(
            f"zero audio files under {folder}: looked for {' '.join(AUDIO_SUFFIXES)}, or mels ({' '.join(ARRAY_SUFFIXES)}); found {_listing(found) or 'an empty folder'}"
        )
    used = audio or mels
    what = "audio" if audio else "mel"
    remark = _listing(used) + (f" ({_listing(mels)} beside them not used)" if audio and mels else "")
    suffixes = AUDIO_SUFFIXES if audio else ARRAY_SUFFIXES

    def rows() -> Iterator[Row]:
        for relative in walk(folder):
            if has_suffix(relative, suffixes):
                yield Row(relative, relative, **{what: relative})  # type: ignore[arg-type]

    label = f"{what} folder {folder.resolve().name}"
    return Source(f"{what} folder", folder, rows, Locator([folder], suffixes), label=label, remark=remark, limit=limit)


def open_one_file(path: Path) -> Source:
    """A single audio file or mel array as a corpus of one."""
    what = "audio" if has_suffix(path, AUDIO_SUFFIXES) else "mel"

    def rows() -> Iterator[Row]:
        yield Row(path.name, path.name, **{what: path.name})  # type: ignore[arg-type]

    return Source(f"{what} folder", path, rows, Locator([path.parent]), label=f"one {what} file {path.name}")


def walk(folder: Path) -> Iterator[str]:
    """Paths of all files below ``folder``, relative to it, posix, sorted name by name.

    Hidden files and folders are passed over (``._x.wav`` is what Macs leave beside ``x.wav``). Links to folders are
    followed, circles are not.

    Raises:
        DataError: a folder cannot be read.
    """
    yield from _walk(folder, "", ())


def _walk(folder: Path, prefix: str, above: tuple[str, ...]) -> Iterator[str]:
    try:
        here = os.path.realpath(folder)
        if here in above:
            return
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}") from None
    for name, is_folder in found:
        if is_folder:
            yield from _walk(folder / name, f"{prefix}{name}/", (*above, here))
        else:
            yield prefix + name


def census(folder: Path) -> dict[str, int]:
    """How many files of each suffix (lower case, "" for none) lie below ``folder``."""
    return dict(Counter(os.path.splitext(name)[1].lower() for name in walk(folder)))  # noqa: PTH122 - runs for each file


def _listing(found: dict[str, int]) -> str:
    ordered = sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))
    words = [f"{count} {suffix or 'without suffix'}" for suffix, count in ordered[:6]]
    return ", ".join(words) + (f" and {len(ordered) - 6} other suffixes" if len(ordered) > 6 else "")
