"""Who speaks and in which language: vectors and indices from files, never assumed.

transformers leaves a condition out where none is given, and zeros are what its examples begin with. Both are another
voice than the one in the recording, so here each must be named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from calib.data.arrays import load_array
from calib.errors import DataError, UsageError

__all__ = ["Indices", "Vectors"]


class Vectors:
    """Speaker embeddings.

    Args:
        spec: ``.npy`` or ``.safetensors`` or ``.npz`` or ``.pt`` with one vector ``(D,)``, one row ``(1, D)``, or (npz,
            safetensors) one array a name; a folder of ``NAME.npy``; ``zeros``, if that is really meant.
        size: D.
        what: of which option, for messages.

    Raises:
        UsageError: nothing given.
        DataError: unreadable, or of another size.
    """

    def __init__(self, spec: str | None, size: int, what: str) -> None:
        self.size, self.what = size, what
        self.single: np.ndarray | None = None
        self.named: dict[str, np.ndarray] = {}
        if spec is None:
            raise UsageError(
                f"no {what}: the model is conditioned on a speaker's vector of {size} values, and none is assumed",
                hint=f"--model-option {what}=FILE.npy (an x-vector; NAME.npy in a folder for several speakers), or {what}=zeros if that is meant",
            )
        path = Path(str(spec)).expanduser()
        if str(spec) == "zeros":
            self.single = np.zeros(size, np.float32)
        elif path.is_dir():
            self.named = {file.stem: self._checked(load_array_1d(file), file) for file in sorted(path.glob("*.npy"))}
            if not self.named:
                raise DataError(f"{path}: no .npy file in it", hint="one x-vector a speaker: NAME.npy")
        elif path.suffix == ".npz" and path.is_file():
            with np.load(path, allow_pickle=False) as archive:
                self.named = {name: self._checked(archive[name], path) for name in archive.files}
        else:
            self.single = self._checked(load_array_1d(path), path)

    def of(self, *names: str | None) -> np.ndarray:
        """The vector ``(D,)`` of the first of ``names`` that has one.

        Raises:
            DataError: none has, and there is no vector for everybody.
        """
        if self.single is not None:
            return self.single
        for name in (*names, "default"):
            if name is not None and name in self.named:
                return self.named[name]
        said = ", ".join(repr(name) for name in names if name is not None) or "an utterance without a speaker"
        raise DataError(
            f"{self.what} has no vector for {said}; it has {', '.join(list(self.named)[:8])}",
            hint="a vector named default serves everybody else",
        )

    def _checked(self, array: np.ndarray, path: Path) -> np.ndarray:
        flat = np.asarray(array, np.float32).reshape(-1)
        if flat.shape != (self.size,) or not np.isfinite(flat).all():
            raise DataError(f"{path}: shape {np.shape(array)}; the model takes {self.size} finite values")
        return flat


def load_array_1d(path: Path) -> np.ndarray:
    """A vector ``(D,)`` or a row ``(1, D)``; ``.npy`` read without pickle, other containers by `load_array`."""
    if path.suffix == ".npy" and path.is_file():
        try:
            return np.asarray(np.load(path, allow_pickle=False))
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from None
    return np.asarray(load_array(path))


class Indices:
    """Speaker or language numbers.

    Args:
        number: one for everybody, or None.
        table: a JSON file ``{"name": number}``, or None.
        count: how many the model has; 0 or 1: it is not conditioned, and nothing may be given.
        what: of which options, for messages: ``speaker`` or ``language``.

    Raises:
        UsageError: conditioned, and neither given; or the reverse.
        DataError: the table cannot be used.
    """

    def __init__(self, number: Any, table: str | None, count: int | None, what: str) -> None:
        self.what, self.count = what, count or 0
        self.number: int | None = None
        self.table: Mapping[str, int] = {}
        given = number is not None or table is not None
        if self.count <= 1:
            if given:
                raise UsageError(f"{what}_id or {what}_ids given, but this model knows no {what}s")
            return
        if not given:
            raise UsageError(
                f"the model has {self.count} {what}s and none is assumed",
                hint=f"--model-option {what}_id=N, or {what}_ids=FILE.json with the number of each name",
            )
        if number is not None:
            self.number = self._checked(number, f"{what}_id")
        if table is not None:
            path = Path(str(table)).expanduser()
            try:
                content = json.loads(path.read_text(encoding="utf-8-sig"))
                self.table = {str(name): self._checked(value, str(path)) for name, value in content.items()}
            except (OSError, ValueError, AttributeError) as error:
                raise DataError(f"{path}: no JSON of names and numbers: {error}") from None

    def of(self, *names: str | None) -> int | None:
        """The number for the first of ``names`` that has one; None where the model is not conditioned.

        Raises:
            DataError: the table has none of them and there is no number for everybody.
        """
        if self.count <= 1:
            return None
        for name in names:
            if name is not None and name in self.table:
                return self.table[name]
        if self.number is None:
            said = ", ".join(repr(name) for name in names if name is not None) or f"an utterance without {self.what}"
            raise DataError(f"{self.what}_ids has no number for {said}; it has {', '.join(list(self.table)[:8])}")
        return self.number

    def _checked(self, value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < self.count:
            raise DataError(f"{where}: {value!r} is no {self.what} number; they go from 0 to {self.count - 1}")
        return value
