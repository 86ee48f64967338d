"""What a stored mel says by itself: layout, walls, quantisation, normalisation by utterance, unit of the values.

No audio is looked at here. Conventions: ``y`` is ``(T, M)`` float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calib.errors import DataError

__all__ = ["Traits", "frames_first", "read_mel", "traits"]

_MOST_BINS = 512
_SKEWED = 0.02  # median over 99th percentile, below which values are no logarithms


@dataclass(frozen=True)
class Traits:
    """Properties of the values.

    Args:
        low: ``(M,)`` value of the lower wall by bin, NaN where there is none.
        high: the upper wall.
        low_share: share of cells on the lower wall.
        high_share: of the upper one.
        low_common: the lower wall is one value for all bins.
        dtype: ``float32``, ``float16``, ``bfloat16`` or ``float64``: the coarsest that holds every value.
        linear: the values are no logarithms: positive, and skewed as amplitudes are.
        utterance: ``minmax`` or ``instance`` where every clip is exactly so, or None.
        constant_ends: frames at the end of each clip that hold one value throughout.
        end_value: that value, or NaN.
    """

    low: np.ndarray
    high: np.ndarray
    low_share: float
    high_share: float
    low_common: bool
    dtype: str
    linear: bool
    utterance: str | None
    constant_ends: tuple[int, ...]
    end_value: float

    def wall(self, sign: int) -> np.ndarray:
        """The wall of the quietest cells by bin ``(M,)``, for a mel that rises (1) or falls (-1) with loudness."""
        return self.low if sign > 0 else self.high


def read_mel(mel: np.ndarray, name: str) -> np.ndarray:
    """A stored array as two dimensions, unit axes dropped.

    Raises:
        DataError: not two-dimensional, empty, no numbers, NaN or infinite.
    """
    y = np.asarray(mel)
    if y.dtype.kind not in "fiu":
        raise DataError(f"{name}: its values are {y.dtype}, not numbers")
    y = np.squeeze(y) if y.ndim > 2 else y
    if y.ndim != 2 or 0 in y.shape:
        raise DataError(f"{name}: a mel has two dimensions, (T, M) or (M, T); this array has shape {np.shape(mel)}")
    bad = int(np.count_nonzero(~np.isfinite(y)))
    if bad:
        raise DataError(
            f"{name}: {bad} of {y.size} values are NaN or infinite", hint="calib check data names such files"
        )
    return y


def frames_first(shapes: Sequence[tuple[int, int]]) -> list[str]:
    """Layouts that are possible for stored shapes, the likelier one first: ``TM`` and ``MT``."""
    first, second = {s[0] for s in shapes}, {s[1] for s in shapes}
    possible = []
    if len(second) == 1 and min(second) <= _MOST_BINS and min(second) >= 8:
        possible.append("TM")
    if len(first) == 1 and min(first) <= _MOST_BINS and min(first) >= 8:
        possible.append("MT")
    if len(possible) == 2:  # the usual bin counts first, then the longer axis as time
        known = {40, 64, 80, 100, 120, 125, 128, 160}
        score = {"TM": (min(second) in known) * 2 + (min(first) > min(second)), "MT": (min(first) in known) * 2 + (min(second) > min(first))}  # fmt: skip
        possible.sort(key=lambda layout: -score[layout])
    return possible


def _dtype(values: Sequence[np.ndarray]) -> str:
    if all(np.array_equal(v, v.astype(np.float16).astype(v.dtype)) for v in values):
        return "float16"
    single = [v.astype(np.float32) for v in values]
    if all(not (np.ascontiguousarray(s).view(np.uint32) & 0xFFFF).any() for s in single):
        return "bfloat16"
    return "float32" if all(np.array_equal(v, s) for v, s in zip(values, single, strict=True)) else "float64"


def _wall(y: np.ndarray, *, lower: bool, fine: bool) -> tuple[np.ndarray, float, bool]:
    """Values by bin where several cells of a bin are equal to its extreme, their share of all cells, and whether it is one value."""
    sign = 1.0 if lower else -1.0
    v = y * sign
    extent = float(v.max() - v.min()) or 1.0
    near = 3e-6 * extent
    whole = float(v.min())
    at = v <= whole + near
    edge = v.min(0)
    count = (v <= edge + near).sum(0)
    hit = count >= max(3, 0.002 * len(v))
    apart = hit & (edge > whole + near)  # bins with walls of their own: of values clamped before statistics by bin
    # Float32 values do not meet by chance: a few bins are enough, also next to one that is clamped most of the time.
    enough, share = (3, 0.2) if fine else (max(3, 0.1 * y.shape[1]), 2.0)
    by_bin = apart.sum() >= enough and count[apart].sum() > share * at.sum()
    if not by_bin and at.sum() >= (3 if fine and (v == whole).sum() >= 3 else max(4, 2e-4 * v.size)):
        return np.full(y.shape[1], sign * whole), float(at.mean()), True
    if hit.sum() >= max(2, 0.02 * y.shape[1]):
        return np.where(hit, sign * edge, np.nan), float(count[hit].sum() / v.size), False
    return np.full(y.shape[1], np.nan), 0.0, False


def _unit(clip: np.ndarray) -> bool:
    """Mean 0 and sd 1 in every bin that moves (one that hardly does is held down by the guard of the division)."""
    mean, sd = np.abs(clip.mean(0)), clip.std(0)
    return bool(mean.max() < 2e-3 and np.quantile(np.abs(sd - 1.0), 0.8) < 0.01 and sd.max() < 1.01)


def traits(stored: Sequence[np.ndarray]) -> Traits:
    """Look at the values of all clips, each ``(T, M)`` in its stored dtype."""
    clips = [np.asarray(c, dtype=np.float64) for c in stored]
    ends, end_values = [], []
    bodies = []
    for clip in clips:
        last = clip[-1, 0]
        n = 0
        while n < len(clip) - 1 and bool(np.all(clip[len(clip) - 1 - n] == last)):
            n += 1
        ends.append(n)
        if n:
            end_values.append(float(last))
        bodies.append(clip[: len(clip) - n] if n and len(clip) - n >= 4 else clip)
    y = np.concatenate(bodies)
    dtype = _dtype(list(stored))
    fine = dtype in {"float32", "float64"}
    low, low_share, low_common = _wall(y, lower=True, fine=fine)
    high, high_share, _ = _wall(y, lower=False, fine=fine)
    q50, q99 = np.quantile(y, (0.5, 0.99))
    linear = bool(y.min() >= 0 and q99 > 0 and q50 < _SKEWED * q99)
    utterance = None
    if all(abs(c.min()) < 1e-6 and abs(c.max() - 1.0) < 1e-5 for c in bodies) and float(np.ptp(y)) > 0:
        utterance = "minmax"
    elif all(len(c) > 8 and _unit(c) for c in bodies):
        utterance = "instance"
    return Traits(
        low, high, low_share, high_share, low_common, dtype, linear, utterance, tuple(ends), end_values[0] if end_values else float("nan"),
    )  # fmt: skip
