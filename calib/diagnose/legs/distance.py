"""How far a mel is from what the vocoder expects, and what that does to the sound.

Natural mels of one front end agree to the precision of their files, so the grades are strict. A mel that reaches a
vocoder is heard as *its* front end reads it: `Hear` brings both to dB of magnitude, and differences there are what the
ear may notice.

Conventions:
    dB are of magnitude: 20 log10. *Audible* cells lie within 60 dB of the utterance's loudest, in one of the two mels;
    *clear* ones lie 40 dB above both guards and away from the first and last frames, where padding shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["GRADES", "LIMITS", "Distance", "Hear", "Limits", "distance", "grade"]

Hear = Callable[[np.ndarray], np.ndarray]  # (T, M) mel as the vocoder reads it -> (T, M) dB

_RANGE = 60.0  # dB below the loudest that are heard
_CLEAR = 40.0  # dB above a guard from which it does not matter
_EDGES = 3  # frames at either end

# Grade to the words of the table, from the best to the worst.
GRADES = {
    "identical": "identical",
    "guards": "same within guards",
    "slight": "slightly off",
    "level": "another level",
    "other": "another mel",
    "unrelated": "unrelated",
}


@dataclass(frozen=True)
class Limits:
    """Set on LJSpeech and half of the demo's speakers (``benchmarks/legs``), then frozen; all in dB.

    Args:
        same: mean difference of one mel written twice (half precision at -11 ln makes .017).
        same_worst: what 99.9 % of its values keep.
        guard: the same of mels that differ in the guard (an epsilon added, 40 dB below, makes .09).
        guard_worst: what 99.9 % of those keep.
        slight: mean audible difference up to which a vocoder makes the sound that it was trained to make.
        level: difference in level that a vocoder follows.
        exact: mean difference after an affine map that is exact away from guards.
    """

    same: float = 0.02
    same_worst: float = 0.1
    guard: float = 0.1
    guard_worst: float = 0.5
    slight: float = 1.5
    level: float = 12.0
    exact: float = 0.1


LIMITS = Limits()


@dataclass(frozen=True)
class Distance:
    """A mel ``a`` against its reference ``b``, pooled over utterances.

    Args:
        n_utterances: compared.
        n_frames: compared.
        bias: mean of ``a - b``, in mel units.
        slope: within bins, of ``b`` on ``a``: 1 where the units agree.
        r_w: correlation within bins.
        mae: mean ``|a - b|``, in mel units.
        error_db: mean ``|a - b|`` of audible cells, in dB.
        all_db: the same of all cells.
        all_worst_db: what 99.9 % of all cells keep.
        clear_db: mean of clear cells.
        clear_worst_db: what 99.9 % of them keep.
        level_db: median over the utterances of ``a``'s level over ``b``'s.
        level_spread_db: how far the levels of two utterances lie apart (largest minus least).
        left_db: like ``error_db``, after each utterance's level.
        map: ``(slope, intercept)``: ``b = slope * a + intercept``, fitted on clear cells.
        map_db: mean difference of clear cells after it.
        mapped_db: mean difference of audible cells after it: with what lies under a floor, which no map brings back.
        bins_db: the same after a slope and intercept for each bin.
    """

    n_utterances: int
    n_frames: int
    bias: float
    slope: float
    r_w: float
    mae: float
    error_db: float
    all_db: float
    all_worst_db: float
    clear_db: float
    clear_worst_db: float
    level_db: float
    level_spread_db: float
    left_db: float
    map: tuple[float, float]
    map_db: float
    mapped_db: float
    bins_db: float


def distance(pairs: Sequence[tuple[np.ndarray, np.ndarray]], hear: Hear) -> Distance:
    """Compare ``(a, b)``, ``(T, M)`` both and aligned, at least one with two frames."""
    heard = [(hear(a), hear(b)) for a, b in pairs]
    guard = max(min(float(a.min()) for a, _ in heard), min(float(b.min()) for _, b in heard)) + _CLEAR
    own = min(float(b.min()) for _, b in heard) + _CLEAR
    audible, clear, fit = [], [], []
    for a, b in heard:
        loud = float(b.max()) - _RANGE
        audible.append((a >= loud) | (b >= loud))
        inner = np.zeros(a.shape, dtype=bool)
        inner[_EDGES : len(a) - _EDGES] = True
        clear.append(inner & (a >= guard) & (b >= guard))
        fit.append(inner & (b >= own))
    if not any(m.any() for m in fit):  # digital silence, or a few frames
        fit = [np.ones(m.shape, dtype=bool) for m in fit]
    off = [(a - b).astype(np.float64) for a, b in heard]
    levels = np.array([float(np.median(d[m] if m.any() else d)) for d, m in zip(off, fit, strict=True)])
    left = [d - level for d, level in zip(off, levels, strict=True)]
    everything, picked = _joined(off), _joined(off, clear)
    slope, r_w = _within(pairs)
    line, line_db, mapped_db, bins_db = _maps(pairs, heard, fit, audible, hear)
    return Distance(
        n_utterances=len(pairs),
        n_frames=sum(len(a) for a, _ in pairs),
        bias=float(np.mean(_joined([np.asarray(a, np.float64) - b for a, b in pairs]))),
        slope=slope,
        r_w=r_w,
        mae=float(np.mean(np.abs(_joined([np.asarray(a, np.float64) - b for a, b in pairs])))),
        error_db=float(np.abs(_joined(off, audible)).mean()),
        all_db=float(np.abs(everything).mean()),
        all_worst_db=float(np.quantile(np.abs(everything), 0.999)),
        clear_db=float(np.abs(picked).mean()) if picked.size else float(np.abs(everything).mean()),
        clear_worst_db=float(np.quantile(np.abs(picked), 0.999)) if picked.size else float(np.abs(everything).max()),
        level_db=float(np.median(levels)),
        level_spread_db=float(levels.max() - levels.min()),
        left_db=float(np.abs(_joined(left, audible)).mean()),
        map=line,
        map_db=line_db,
        mapped_db=mapped_db,
        bins_db=bins_db,
    )


def grade(d: Distance, limits: Limits = LIMITS) -> str:
    """One of `GRADES`, for mels of the same bins and hop that belong together."""
    if d.all_db <= limits.same and d.all_worst_db <= limits.same_worst:
        return "identical"
    if d.clear_db <= limits.guard and d.clear_worst_db <= limits.guard_worst and d.error_db <= limits.slight:
        return "guards"
    if d.error_db <= limits.slight:
        return "slight"
    if d.left_db <= limits.slight and abs(d.level_db) + d.level_spread_db / 2 <= limits.level:
        return "level"
    return "other"


def _joined(arrays: Sequence[np.ndarray], masks: Sequence[np.ndarray] | None = None) -> np.ndarray:
    """All values, or all that the masks show; ``(N,)``."""
    chosen = arrays if masks is None else [a[m] for a, m in zip(arrays, masks, strict=True)]
    return np.concatenate([np.ravel(a) for a in chosen])


def _within(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Slope of b on a, and r, after each bin's mean over everything is removed."""
    a, b = (np.concatenate([pair[k] for pair in pairs]).astype(np.float64) for k in (0, 1))
    a -= a.mean(0)
    b -= b.mean(0)
    aa, bb, ab = float((a * a).sum()), float((b * b).sum()), float((a * b).sum())
    return (ab / aa if aa > 0 else 0.0), (ab / (aa * bb) ** 0.5 if aa > 0 and bb > 0 else 0.0)


def _maps(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    heard: Sequence[tuple[np.ndarray, np.ndarray]],
    fit: Sequence[np.ndarray],
    audible: Sequence[np.ndarray],
    hear: Hear,
) -> tuple[tuple[float, float], float, float, float]:
    """The best line, its error in dB on clear and on audible cells, and the error of a line for each bin.

    Values on a floor of ``a`` (its minimum, where that is a point mass) bend the line, so they are left out.
    """
    floor = min(float(a.min()) for a, _ in pairs)
    masks = [m & (a > floor + 1e-6 * abs(floor)) for (a, _), m in zip(pairs, fit, strict=True)]
    if not any(m.any() for m in masks):
        masks = list(fit)
    a, b = np.concatenate([p[0] for p in pairs]).astype(np.float64), np.concatenate([p[1] for p in pairs])
    mask = np.concatenate(masks)
    wanted = np.concatenate([b for _, b in heard])
    w = mask.astype(np.float64)

    def line(axis: int | None) -> tuple[np.ndarray, np.ndarray]:
        n = np.maximum(w.sum(axis), 1.0)
        ma, mb = (w * a).sum(axis) / n, (w * b).sum(axis) / n
        saa, sab = (w * (a - ma) ** 2).sum(axis), (w * (a - ma) * (b - mb)).sum(axis)
        slope = np.divide(sab, saa, out=np.zeros_like(np.asarray(sab)), where=np.asarray(saa) > 0)
        return np.asarray(slope), np.asarray(mb - slope * ma)

    def error(slope: np.ndarray, intercept: np.ndarray, where: np.ndarray) -> float:
        mapped = hear((a * slope + intercept).astype(np.float32))
        return float(np.abs(mapped - wanted)[where].mean())

    one, each = line(None), line(0)
    heard_at = np.concatenate(audible)
    return (float(one[0]), float(one[1])), error(*one, mask), error(*one, heard_at), error(*each, mask)
