"""A folder of audio or of mels: every file below it, sorted, the id being the relative path without its suffix."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from calib.data.arrays import ARRAY_SUFFIXES
from calib.data.audio import AUDIO_SUFFIXES
from calib.data.clip import reason_of
from calib.data.remote import RemotePath
from calib.data.sources.base import Row, Source
from calib.data.sources.lines import AnyPath
from calib.data.sources.locate import Locator
from calib.data.sources.names import has_suffix
from calib.errors import DataError

__all__ = ["census", "open_folder", "open_one_file", "walk"]


def open_folder(folder: AnyPath, found: dict[str, int], **options: Any) -> Source:
    """Open a folder of audio files, or, if its :func:`census` has none, of mel arrays.

    Args:
        folder: where they are.
        found: its census.
        options: those of every source (``limit``, ``select``).

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
        for relative in walk(folder, also=suffixes):
            if has_suffix(relative, suffixes):
                yield Row(relative, relative, **{what: relative})  # type: ignore[arg-type]

    return Source(
        f"{what} folder",
        folder,
        rows,
        Locator([folder], suffixes),
        label=f"{what} folder {folder.resolve().name}",
        remark=remark,
        count=lambda: sum(used.values()),
        **options,
    )


def open_one_file(path: AnyPath, **options: Any) -> Source:
    """A single audio file or mel array as a corpus of one."""
    what = "audio" if has_suffix(path, AUDIO_SUFFIXES) else "mel"

    def rows() -> Iterator[Row]:
        yield Row(path.name, path.name, **{what: path.name})  # type: ignore[arg-type]

    label = f"one {what} file {path.name}"
    return Source(f"{what} folder", path, rows, Locator([path.parent]), label=label, **options)


def walk(folder: AnyPath, *, also: Collection[str] = ()) -> Iterator[str]:
    """Paths of all files below ``folder``, relative to it, posix, sorted name by name.

    Hidden files and folders are passed over (``._x.wav`` is what Macs leave beside ``x.wav``). Links to folders are
    followed, circles are not.

    Args:
        folder: where to begin.
        also: suffixes of files; a folder named so that holds no such file is given like a file, so that whoever reads
            it says what is wrong with it.

    Raises:
        DataError: a folder cannot be read.
    """
    yield from _walk(folder, "", (), also)


def _walk(folder: AnyPath, prefix: str, above: tuple[str, ...], also: Collection[str]) -> Iterator[str]:
    if isinstance(folder, RemotePath):
        here = folder.url
        found = [entry for entry in folder.entries() if not entry[0].startswith(".")]
    else:
        try:
            here = os.path.realpath(folder)
            if here in above:
                return
            with os.scandir(folder) as entries:
                found = sorted(
                    (entry.name, is_folder_entry(entry)) for entry in entries if not entry.name.startswith(".")
                )
        except OSError as error:
            raise DataError(f"{folder}: cannot be read: {reason_of(error)}") from None
    for name, is_folder in found:
        if not is_folder:
            yield prefix + name
            continue
        below = _walk(folder / name, f"{prefix}{name}/", (*above, here), also)
        if also and has_suffix(name, also) and not any(has_suffix(path, also) for path in below):
            yield prefix + name
        else:
            yield from _walk(folder / name, f"{prefix}{name}/", (*above, here), also)


def is_folder_entry(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: whoever reads it says so
        return False


def census(folder: AnyPath, also: Collection[str] = AUDIO_SUFFIXES) -> dict[str, int]:
    """How many files of each suffix (lower case, "" for none) lie below ``folder``."""
    return dict(Counter(os.path.splitext(name)[1].lower() for name in walk(folder, also=also)))  # noqa: PTH122 - runs for each file


def _listing(found: dict[str, int]) -> str:
    ordered = sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))
    words = [f"{count} {suffix or 'without suffix'}" for suffix, count in ordered[:6]]
    return ", ".join(words) + (f" and {len(ordered) - 6} other suffixes" if len(ordered) > 6 else "")
