"""The audio of pairs: from their own entries or from ``--audio SOURCE``, matched by id, read when it is asked for."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from calib.data.audio import read_audio
from calib.data.clip import Place
from calib.data.pairs import PairEntry
from calib.data.pairwriter import examples, match_names
from calib.data.sources import Source
from calib.errors import CalibError, DataError

__all__ = ["Recordings", "find_recordings"]

_HELD = 32  # recordings in memory: the same few are asked for once for every front end that is tried


class Recordings:
    """Samples by the index of a pair; what cannot be read is None, and remembered.

    Args:
        names: ids of the pairs.
        paths: their audio files, None where there is none.
        sample_rate: wanted, in Hz.
    """

    def __init__(self, names: Sequence[str], paths: Sequence[Place | None], sample_rate: int) -> None:
        self._names, self._paths, self._rate = names, paths, sample_rate
        self.asked: set[int] = set()
        self.failed: dict[int, str] = {}
        self.samples = functools.lru_cache(_HELD)(self._read)

    def _read(self, index: int) -> np.ndarray | None:
        """``(L,)`` float32 of a pair, or None."""
        path = self._paths[index]
        if path is None:
            return None
        self.asked.add(index)
        try:
            return read_audio(path, self._rate).samples
        except CalibError as error:
            self.failed[index] = f"{self._names[index]}: {error.message}"
            return None

    def problems(self) -> str | None:
        """How many of the recordings that were asked for could not be read, and the first reasons."""
        if not self.failed:
            return None
        reasons = [self.failed[index] for index in sorted(self.failed)]
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        return f"the audio of {len(reasons)} of the {len(self.asked)} utterances asked for cannot be read: {'; '.join(reasons[:3])}{more}"


def find_recordings(entries: Sequence[PairEntry], source: Source | None) -> tuple[list[Place | None], str | None]:
    """The audio file of each pair, a source before the pair's own entry, and one line about what was matched.

    Ids match as in ``calib pair``: by relative path, else by stem, else by stem without affixes such as ``_mel``.

    Raises:
        DataError: the source holds no audio, or none of it belongs to a pair.
    """
    own: list[Place | None] = [entry.audio for entry in entries]
    if source is None:
        return own, None
    given = {item.id: item.audio for item in source if item.audio is not None}
    if not given:
        raise DataError(f"--audio {source.root}: {source.describe()}: holds no audio")
    names = [entry.id for entry in entries]
    matches = match_names(names, list(given))
    if not matches:
        raise DataError(
            f"--audio {source.root}: none of its {len(given)} recordings belongs to a pair: pairs are named {examples(names)}, recordings {examples(list(given))}",
            hint="names must agree but for suffixes such as _mel, -feats, .pred",
        )
    without = [name for name in names if name not in matches]
    said = f"--audio: {len(matches)} of {len(names)} pairs have their audio in {source.root.name}"
    if without:
        said += f"; {len(without)} have not ({examples(without)})"
    return [given[matches[name]] if name in matches else path for name, path in zip(names, own, strict=True)], said
