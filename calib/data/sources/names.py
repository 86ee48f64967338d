"""Ids of utterances: from paths where an index gives none, as valid Unicode, as file names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from calib.data.arrays import ARRAY_SUFFIXES
from calib.data.audio import AUDIO_SUFFIXES
from calib.data.files import digest

if TYPE_CHECKING:
    from calib.data.remote import RemotePath
    from calib.data.sources.base import Row

__all__ = ["FILE_SUFFIXES", "Naming", "has_suffix", "native", "path_parts", "safe_name", "shared_parts", "tidy"]

FILE_SUFFIXES = (*AUDIO_SUFFIXES, *ARRAY_SUFFIXES)

_SAFE_LENGTH = 120  # bytes; leaves room for a suffix, a hash and a temporary name within the usual 255
_ALTERED = re.compile(r"-[0-9a-f]{16}$")
_RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\.|$)")  # device names on Windows


@dataclass(frozen=True, slots=True)
class Naming:
    """How the rows of one corpus get their ids.

    Args:
        by_stem: a path's stem alone, which must then be unique; else the whole relative path.
        common: leading folders that absolute paths share, left away.
    """

    by_stem: bool
    common: tuple[str, ...] = ()

    def __call__(self, row: Row) -> str:
        """The id of a row."""
        if row.id is not None:
            return tidy(row.id)
        parts = path_parts(row.name)
        if self.by_stem:
            return parts[-1]
        if self.common and row.name.startswith("/") and parts[: len(self.common)] == self.common:
            parts = parts[len(self.common) :]
        return "/".join(parts)


def has_suffix(path: Path | RemotePath | str, suffixes: Iterable[str]) -> bool:
    """Whether the name ends in one of ``suffixes``, in upper or lower case."""
    return os.path.splitext(str(path))[1].lower() in suffixes  # noqa: PTH122 - ten times as fast, and it runs for each file


def native(listed: str) -> str:
    """A listed path with forward slashes: indexes written on Windows name files with backslashes."""
    return listed.replace("\\", "/") if "\\" in listed and "/" not in listed else listed


def path_parts(name: str) -> tuple[str, ...]:
    """Folders and stem of a listed path, without ``.`` and the like, as id material."""
    parts = [part for part in tidy(native(name)).split("/") if part not in {"", "."}]
    if not parts:
        return ("_",)
    if has_suffix(parts[-1], FILE_SUFFIXES):
        parts[-1] = parts[-1].rsplit(".", 1)[0] or parts[-1]
    return tuple(parts)


def shared_parts(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """The leading folders that two paths have in common."""
    count = 0
    while count < min(len(first), len(second)) and first[count] == second[count]:
        count += 1
    return first[:count]


def tidy(name: str) -> str:
    """A name as valid Unicode: bytes of a file name that are not UTF-8 become escapes, so that JSON can hold it."""
    if name.isascii():
        return name
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") if _from_disk(name) else name.encode("utf-8", "backslashreplace").decode()  # fmt: skip
    return name


def _from_disk(name: str) -> bool:
    return all(not 0xD800 <= ord(char) <= 0xDFFF or 0xDC80 <= ord(char) <= 0xDCFF for char in name)


def safe_name(name: str) -> str:
    """A file stem for an id: the id itself if it is harmless, else a cleaned form with a hash of the id appended.

    Letters and digits of any script, ``-``, ``_`` and inner dots are harmless, up to 120 bytes. Different ids give
    different stems (on file systems that distinguish case), the same id always the same one.

    Example:
        >>> safe_name("LJ001-0001")
        'LJ001-0001'
        >>> safe_name("../etc/passwd")
        'etc_passwd-7fef78f53440346c'
    """
    clean = "".join(char if _harmless(char) else "_" for char in unicodedata.normalize("NFC", name))
    clean = clean.encode("utf-8", "replace")[:_SAFE_LENGTH].decode("utf-8", "ignore")
    if clean == name and name.strip("._-") and name[0] not in ".-" and name[-1] != "." and not _ALTERED.search(name) and not _RESERVED.match(name):  # fmt: skip
        return name
    # Sixteen digits: ten million ids with one cleaned form still do not collide.
    return f"{clean.strip('._-') or 'id'}-{digest(name.encode('utf-8', 'surrogatepass'))}"


def _harmless(char: str) -> bool:
    return char in "._-" or (unicodedata.category(char)[0] in "LNM" and char.isprintable())
