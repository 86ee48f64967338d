"""Where the files are that an index names: below which folder, with which suffix, in place of which placeholder."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from calib.data.audio import AUDIO_SUFFIXES
from calib.data.clip import Clip, Place
from calib.data.remote import RemotePath, is_url
from calib.data.sources.lines import AnyPath
from calib.data.sources.names import FILE_SUFFIXES, has_suffix, native
from calib.errors import DataError

__all__ = ["Locator"]

_REMOTE_PROBES = 3  # files that are asked for where each costs a request


class Locator:
    """Finds the files that an index names, below one folder or a few candidates.

    Args:
        bases: folders to try, the likeliest first.
        suffixes: appended in turn where a name has none of them (ids without extension).
        drop: whether leading folders of the listed paths may be replaced by the base (``DUMMY/x.wav``).
    """

    def __init__(
        self, bases: Sequence[AnyPath], suffixes: Sequence[str] = AUDIO_SUFFIXES, *, drop: bool = False
    ) -> None:
        self._bases = list(bases)
        self._suffixes = list(suffixes)
        self._may_drop = drop
        self._base = self._bases[0]
        self._dropped = 0

    @property
    def base(self) -> AnyPath:
        """The folder that the listed paths are relative to, once :meth:`settle` has run."""
        return self._base

    @property
    def dropped(self) -> int:
        """How many leading folders of the listed paths are replaced by the base."""
        return self._dropped

    @property
    def remote(self) -> bool:
        """Whether looking for a file costs a request."""
        return isinstance(self._base, RemotePath)

    def settle(self, listed: Sequence[str], index: AnyPath) -> None:
        """Choose the base under which the most of the first listed files exist.

        Raises:
            DataError: none exists under any.
        """
        if not listed:
            return
        if self.remote:
            listed = listed[:_REMOTE_PROBES]
        depth = max(len(PurePosixPath(native(name)).parts) for name in listed) if self._may_drop else 1
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

    def find(self, listed: str) -> Place:
        """The place of a listed file; if it exists under no spelling, the likeliest one. Remote files are believed."""
        path = self._path(self._base, self._dropped, listed)
        if isinstance(path, RemotePath):
            return Clip(str(path if has_suffix(path.name, FILE_SUFFIXES) else path.parent / f"{path.name}{self._suffixes[0]}"))  # fmt: skip
        if has_suffix(path, (*self._suffixes, *FILE_SUFFIXES)) and _is_file(path):
            return path
        found = self._existing(self._base, self._dropped, listed)
        return found if isinstance(found, Path) else self._default(path)

    def _default(self, path: Path) -> Path:
        return path if has_suffix(path, FILE_SUFFIXES) else Path(f"{path}{self._suffixes[0]}")

    def _path(self, base: AnyPath, dropped: int, listed: str) -> AnyPath:
        if is_url(listed):
            return RemotePath(listed)
        pure = PurePosixPath(native(listed))
        if dropped:
            parts = pure.parts[1:] if pure.is_absolute() else pure.parts
            pure = PurePosixPath(*parts[min(dropped, len(parts) - 1) :])
        return base / pure

    def _existing(self, base: AnyPath, dropped: int, listed: str) -> AnyPath | None:
        path = self._path(base, dropped, listed)
        if _is_file(path):
            return path
        if not has_suffix(path, FILE_SUFFIXES):
            for position, suffix in enumerate(self._suffixes):
                candidate = path.parent / f"{path.name}{suffix}" if isinstance(path, RemotePath) else Path(f"{path}{suffix}")  # fmt: skip
                if _is_file(candidate):
                    # Corpora keep to one format: the next file is probably the same.
                    self._suffixes.insert(0, self._suffixes.pop(position))
                    return candidate
        if isinstance(path, Path) and not path.name.isascii():
            for form in ("NFC", "NFD"):  # file names that passed through a Mac
                twin = path.parent / unicodedata.normalize(form, path.name)
                if twin != path and _is_file(twin):
                    return twin
        return None


def _is_file(path: AnyPath) -> bool:
    return path.is_file() if isinstance(path, RemotePath) else os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for names that are too long
