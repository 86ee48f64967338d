"""What every kind of corpus has in common: items, their ids, where their files are, what is refused.

Conventions:
    An index is read line by line, twice: once when it is opened (malformed lines, duplicates, whether the files
    exist at all) and once for each iteration. Nothing but eight bytes an utterance is held in memory.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from calib.data.arrays import ARRAY_SUFFIXES
from calib.data.audio import AUDIO_SUFFIXES
from calib.data.files import digest
from calib.errors import DataError

__all__ = ["Item", "Locator", "Row", "Source", "has_suffix", "json_object", "read_lines", "safe_name", "tidy"]

_PROBED = 50  # rows whose files are looked for when an index is opened
_LONGEST_LINE = 1 << 20  # bytes; longer is no line of an index


@dataclass(frozen=True)
class Item:
    """One utterance of a corpus.

    Args:
        id: unique in the source; may hold any character (see :func:`safe_name` for file names).
        audio: the audio file, or None if the source names none. It may not exist: the reader counts that.
        mel: the mel array, or None.
        text: what is said, or "".
        speaker: name, or None.
        language: code, or None.
        duration: seconds as the index states them, or None.
    """

    id: str
    audio: Path | None = None
    mel: Path | None = None
    text: str = ""
    speaker: str | None = None
    language: str | None = None
    duration: float | None = None


class Row(NamedTuple):
    """One row of an index before ids and paths are settled.

    ``where`` is its line number, or the file's path in a folder; ``name`` the path that the id is made of.
    """

    where: int | str
    name: str
    audio: str | None = None
    mel: str | None = None
    id: str | None = None
    text: str = ""
    speaker: str | None = None
    language: str | None = None
    duration: float | None = None


class Source:
    """A corpus: iterate over it (again and again) for its :class:`Item` objects, in the order of the index.

    Args:
        kind: "ljspeech", "filelist", "jsonl", "audio folder" or "mel folder".
        root: the folder, or the index file.
        rows: starts a new pass over the rows.
        locator: where the named files are.
        label: what was recognised, without the number of utterances.
        remark: where the audio is, columns, and so on: the end of :meth:`describe`.
        limit: yield no more than this many.

    Raises:
        DataError: no rows, a duplicate id, or none of the first files exists.
    """

    def __init__(
        self,
        kind: str,
        root: Path,
        rows: Callable[[], Iterator[Row]],
        locator: Locator,
        *,
        label: str,
        remark: str = "",
        limit: int | None = None,
        empty: str = "names no utterances",
    ) -> None:
        self.kind = kind
        self.root = root
        self._rows = rows
        self._locator = locator
        self._label = label
        self.remark = remark
        self._limit = limit
        self._common: tuple[str, ...] | None = None
        self._total, self._by_stem = self._scan(empty)

    def describe(self) -> str:
        """One line: what was recognised, how many utterances, where the audio is."""
        total = f"{self._total} utterance{'s' * (self._total != 1)}"
        if self._limit is not None and self._limit < self._total:
            total = f"the first {self._limit} of {total}"
        return f"{self._label}: {total}" + (f", {self.remark}" if self.remark else "")

    def __len__(self) -> int:
        return self._total if self._limit is None else min(self._limit, self._total)

    def __iter__(self) -> Iterator[Item]:
        for row in islice(self._rows(), self._limit):
            yield Item(
                id=self._id(row),
                audio=None if row.audio is None else self._locator.find(row.audio),
                mel=None if row.mel is None else self._locator.find(row.mel),
                text=row.text,
                speaker=row.speaker,
                language=row.language,
                duration=row.duration,
            )

    def __repr__(self) -> str:
        return f"<Source {self.describe()}>"

    def _id(self, row: Row) -> str:
        if row.id is not None:
            return tidy(row.id)
        parts = _parts(row.name)
        if self._by_stem and self.kind not in {"audio folder", "mel folder"}:
            return parts[-1]
        if self._common and row.name.startswith("/"):
            parts = parts[len(self._common) :]
        return "/".join(parts)

    def _scan(self, empty: str) -> tuple[int, bool]:
        """Count the rows and settle how ids are made: by stem where stems are unique, else by relative path.

        Hashes find the suspects in eight bytes a row; strings are compared only for those.
        """
        hashes = array("q")
        total = 0
        common: tuple[str, ...] | None = None
        probe: list[str] = []
        self._by_stem = True
        for row in self._rows():
            total += 1
            hashes.append(hash(self._id(row)))
            if row.name.startswith("/"):
                folder = _parts(row.name)[:-1]
                common = folder if common is None else _shared(common, folder)
            if len(probe) < _PROBED:
                probe += [listed for listed in (row.audio, row.mel) if listed is not None][:1]
        if total == 0:
            raise DataError(f"{self.root}: {empty}")
        self._locator.settle(probe, self.root)
        self._common = common
        clash = self._duplicate(hashes)
        if clash is None:
            return total, True
        if clash[0] is not None or self.kind in {"audio folder", "mel folder"}:
            self._refuse(clash[1:])
        self._by_stem = False
        hashes = array("q", (hash(self._id(row)) for row in self._rows()))
        clash = self._duplicate(hashes)
        if clash is not None:
            self._refuse(clash[1:])
        return total, False

    def _duplicate(self, hashes: array[int]) -> tuple[str | None, str, int | str, int | str] | None:
        """The first id that occurs twice: (the explicit id, if both are explicit), the id, and the two places."""
        ordered = np.sort(np.frombuffer(hashes, dtype=np.int64))
        suspects = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
        if not suspects:
            return None
        seen: dict[str, Row] = {}
        for row in self._rows():
            name = self._id(row)
            if hash(name) in suspects:
                first = seen.setdefault(name, row)
                if first is not row:
                    explicit = name if first.id is not None and row.id is not None else None
                    return explicit, name, first.where, row.where
        return None

    def _refuse(self, clash: tuple[str, int | str, int | str]) -> None:
        name, first, second = clash
        places = f"{first} and {second}" if isinstance(first, str) else f"lines {first} and {second}"
        raise DataError(
            f"{self.root}: the id {name!r} occurs twice ({places})",
            hint="every utterance needs its own id: remove one, or rename it",
        )


class Locator:
    """Finds the files that an index names, below one folder or a few candidates.

    Args:
        bases: folders to try, the likeliest first.
        suffixes: appended in turn where a name has none of them (ids without extension).
        drop: whether leading folders of the listed paths may be replaced by the base (``DUMMY/x.wav``).
    """

    def __init__(self, bases: Sequence[Path], suffixes: Sequence[str] = AUDIO_SUFFIXES, *, drop: bool = False) -> None:
        self._bases = list(bases)
        self._suffixes = list(suffixes)
        self._may_drop = drop
        self._base = self._bases[0]
        self._dropped = 0

    @property
    def base(self) -> Path:
        """The folder that the listed paths are relative to, once :meth:`settle` has run."""
        return self._base

    @property
    def dropped(self) -> int:
        """How many leading folders of the listed paths are replaced by the base."""
        return self._dropped

    def settle(self, listed: Sequence[str], index: Path) -> None:
        """Choose the base under which the most of the first listed files exist.

        Raises:
            DataError: none exists under any.
        """
        if not listed:
            return
        depth = max(len(PurePosixPath(_native(name)).parts) for name in listed) if self._may_drop else 1
        best = 0
        for dropped in range(depth):
            for base in self._bases:
                found = sum(self._existing(base, dropped, name) is not None for name in listed)
                if found > best:
                    best, self._base, self._dropped = found, base, dropped
            if best:
                return
        tried = "; ".join(str(self._path(base, 0, listed[0])) for base in self._bases)
        more = f", {self._path(self._bases[0], 0, listed[1])}" if len(listed) > 1 else ""
        raise DataError(
            f"{index}: none of the first {len(listed)} files that it names exists (tried {tried}{more})",
            hint="paths are relative to the index; give --audio-root FOLDER if the audio is elsewhere",
        )

    def find(self, listed: str) -> Path:
        """The path of a listed file; if it exists under no spelling, the likeliest one."""
        path = self._path(self._base, self._dropped, listed)
        if has_suffix(path, (*self._suffixes, *ARRAY_SUFFIXES)) and _is_file(path):
            return path
        return self._existing(self._base, self._dropped, listed) or self._default(path)

    def _default(self, path: Path) -> Path:
        known = (*AUDIO_SUFFIXES, *ARRAY_SUFFIXES)
        return path if has_suffix(path, known) else Path(f"{path}{self._suffixes[0]}")

    def _path(self, base: Path, dropped: int, listed: str) -> Path:
        pure = PurePosixPath(_native(listed))
        if dropped:
            parts = pure.parts[1:] if pure.is_absolute() else pure.parts
            pure = PurePosixPath(*parts[min(dropped, len(parts) - 1) :])
        return base / pure

    def _existing(self, base: Path, dropped: int, listed: str) -> Path | None:
        path = self._path(base, dropped, listed)
        if _is_file(path):
            return path
        if not has_suffix(path, (*AUDIO_SUFFIXES, *ARRAY_SUFFIXES)):
            for position, suffix in enumerate(self._suffixes):
                candidate = Path(f"{path}{suffix}")
                if _is_file(candidate):
                    # Corpora keep to one format: the next file is probably the same.
                    self._suffixes.insert(0, self._suffixes.pop(position))
                    return candidate
        for form in ("NFC", "NFD"):  # file names that passed through a Mac
            candidate = path.parent / unicodedata.normalize(form, path.name)
            if candidate != path and _is_file(candidate):
                return candidate
        return None


def has_suffix(path: Path | str, suffixes: Iterable[str]) -> bool:
    """Whether the name ends in one of ``suffixes``, in upper or lower case."""
    return os.path.splitext(path)[1].lower() in suffixes  # noqa: PTH122 - ten times as fast, and it runs for each file


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for names that are too long


def _native(listed: str) -> str:
    """A listed path with forward slashes: indexes written on Windows name files with backslashes."""
    return listed.replace("\\", "/") if "\\" in listed and "/" not in listed else listed


def _parts(name: str) -> tuple[str, ...]:
    """Folders and stem of a listed path, without ``.`` and the like, as id material."""
    parts = [part for part in tidy(_native(name)).split("/") if part not in {"", "."}]
    if not parts:
        return ("_",)
    if has_suffix(parts[-1], (*AUDIO_SUFFIXES, *ARRAY_SUFFIXES)):
        parts[-1] = parts[-1].rsplit(".", 1)[0] or parts[-1]
    return tuple(parts)


def _shared(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """The leading folders that two paths have in common."""
    count = 0
    while count < min(len(first), len(second)) and first[count] == second[count]:
        count += 1
    return first[:count]


def tidy(name: str) -> str:
    """A name as valid Unicode: bytes of a file name that are not UTF-8 become escapes, so that JSON can hold it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") if _from_disk(name) else name.encode("utf-8", "backslashreplace").decode()  # fmt: skip
    return name


def _from_disk(name: str) -> bool:
    return all(not 0xD800 <= ord(char) <= 0xDFFF or 0xDC80 <= ord(char) <= 0xDCFF for char in name)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file that are not blank, with their numbers from 1; BOM and CRLF are tolerated.

    Raises:
        DataError: unreadable, not UTF-8, not text; with the line number.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while raw := file.readline(_LONGEST_LINE + 1):
                number += 1
                if number == 1:
                    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                        raise DataError(
                            f"{path}: is UTF-16; calib reads UTF-8",
                            hint=f"iconv -f UTF-16 -t UTF-8 {path.name} > utf8-{path.name}",
                        )
                    raw = raw.removeprefix(b"\xef\xbb\xbf")
                if len(raw) > _LONGEST_LINE:
                    raise DataError(f"{path}, line {number}: longer than {_LONGEST_LINE} bytes; this is no text index")
                if b"\0" in raw:
                    raise DataError(f"{path}, line {number}: holds a NUL byte; this is no text index")
                try:
                    line = raw.decode().rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{path}, line {number}: not UTF-8 ({error.reason} at byte {error.start})",
                        hint="convert the file to UTF-8, for example with iconv",
                    ) from None
                if line.strip():
                    yield number, line
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


_SAFE_LENGTH = 120  # bytes; leaves room for a suffix, a hash and a temporary name within the usual 255
_ALTERED = re.compile(r"-[0-9a-f]{16}$")
_RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\.|$)")  # device names on Windows


def json_object(where: str, line: str, remark: str = "") -> dict[str, Any]:
    """The object on one line of a JSONL index.

    Raises:
        DataError: it is none, with ``where`` and the line's beginning.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise DataError(f"{where}: not a JSON object on one line ({reason}): {line[:80]!r}") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: {line[:80]!r} is not a JSON object{remark}")
    return value


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
