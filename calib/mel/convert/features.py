"""What the fitted part of a conversion looks at, at every frame of the target's time grid.

Four groups of columns, each containing the ones before it in `LEVELS`:

=============  =======================================================================================================
``inversion``  none: the physical inversion and a learned offset by bin
``frame``      ln magnitudes of the source and of the inversion, at the time of the target's frame
``context``    the same at -1, -1/2, 1/2 and 1 source frames
``edges``      how the sound changes there, which no linear map of logarithms knows: the mean in power of the neighbours,
               their maximum, how far they are apart; and which cells stood on the source's guard
=============  =======================================================================================================

All of it is for a linear regression of what the inversion leaves (`calib.mel.convert.regression`). On LJSpeech the
last group takes a third off the error where windows differ in length or the source has a guard within speech, and
costs nothing elsewhere.

Conventions:
    ``x`` are ln magnitudes of the source ``(T, M)`` on its own time grid, ``q`` those of the inversion ``(T, M')``, both
    float32. Positions are in frames of the source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from calib.mel.convert.inversion import Inversion
from calib.mel.frontend import FrontEnd
from calib.mel.relation import guard, guarded

__all__ = ["LEVELS", "Features", "Looked"]

LEVELS = ("inversion", "frame", "context", "edges")
_AROUND = (-1.0, -0.5, 0.5, 1.0)
# Below this share of the added guard a predicted mel holds the model's noise, not sound.
_ADDED = 0.03
_FARTHEST = 1.0  # ln units; beyond that two neighbours are simply different


@dataclass(frozen=True)
class Looked:
    """One utterance as the regression reads it.

    Args:
        x: ln magnitudes of the source ``(T, M)``; of a front end that normalises by utterance, the mel itself.
        q: ln magnitudes that the inversion expects ``(T, M')``, or None where there is no inversion.
        low: cells of the source on its guard ``(T, M)``.
        positions: of the target's frames ``(T',)``.
    """

    x: np.ndarray
    q: np.ndarray | None
    low: np.ndarray
    positions: np.ndarray

    def expected(self) -> np.ndarray:
        """The inversion at the target's frames, float32 ``(T', M')``."""
        assert self.q is not None
        return _at(self.q, self.positions)


class Features:
    """Columns for one pair of front ends.

    Args:
        source: front end of the given mels.
        target: front end wanted.
    """

    def __init__(self, source: FrontEnd, target: FrontEnd) -> None:
        self.source, self.target = source, target
        self.invertible = source.utterance_norm not in {"minmax", "instance"}
        self._inversion = Inversion(source, target) if self.invertible else None
        self._lowest = np.zeros(0)
        if self.invertible:
            lowest = guard(source)
            if source.log_guard == "add" and source.log != "none" and source.log_eps < 1e-2:
                lowest = np.maximum(lowest, _ADDED * source.log_eps)
            self._lowest = lowest

    def look(self, mel: np.ndarray, positions: np.ndarray) -> Looked:
        """Undo the source's logarithm, invert its filters; ``mel`` is ``(T, M)``."""
        kept = mel[: len(mel) - self.source.overwrite_last] if self.source.overwrite_last < len(mel) else mel
        where = np.clip(positions, 0.0, len(kept) - 1.0)
        if self._inversion is None:
            return Looked(np.asarray(kept, dtype=np.float32), None, np.zeros(kept.shape, dtype=bool), where)
        linear = self.source.to_linear(kept)
        low = guarded(self.source, kept, linear)
        linear = np.maximum(linear, self._lowest)
        x = (np.log(linear) / self.source.power).astype(np.float32)
        return Looked(x, self._inversion(linear), low, where)

    def width(self, level: str) -> int:
        """How many columns ``level`` has."""
        m, n = self.source.n_mels, self.target.n_mels if self.invertible else 0
        return [0, m + n, 5 * (m + n), 5 * (m + n) + m + 4 * (n or m)][LEVELS.index(level)]

    def columns(self, seen: Looked, level: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Columns at the target's frames ``start`` to ``stop``; float32 ``(stop - start, width(level))``."""
        where = seen.positions[start:stop]
        depth = LEVELS.index(level)
        if depth == 0:
            return np.empty((len(where), 0), dtype=np.float32)
        return np.concatenate(list(self._groups(seen, where, depth)), axis=1)

    def _groups(self, seen: Looked, where: np.ndarray, depth: int) -> Iterator[np.ndarray]:
        both = [seen.x] if seen.q is None else [seen.x, seen.q]
        yield from (_at(array, where) for array in both)
        if depth >= 2:
            yield from (_at(array, where + shift) for shift in _AROUND for array in both)
        if depth >= 3:
            array = both[-1]
            left, right = _at(array, where - 0.5), _at(array, where + 0.5)
            apart = np.abs(left - right)
            top = np.maximum(left, right)
            # ln of the root of the mean power, relative to the louder one: no overflow.
            yield top + 0.5 * np.log(0.5 + 0.5 * np.exp(-2.0 * apart))
            yield top
            yield np.minimum(apart, np.float32(_FARTHEST))
            yield np.maximum(_at(array, where - 1.5), _at(array, where + 1.5))
            yield _at(seen.low.astype(np.float32), where)


def _at(array: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Linear interpolation between frames, the ends held; float32 ``(len(where), columns)``."""
    place = np.clip(where, 0.0, len(array) - 1.0)
    left = place.astype(np.int64)
    right = np.minimum(left + 1, len(array) - 1)
    share = (place - left).astype(np.float32)[:, None]
    if not share.any():
        return np.asarray(array[left])
    return np.asarray(array[left] + share * (array[right] - array[left]))
