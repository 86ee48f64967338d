"""The fitted part: a ridge regression of what the inversion leaves, chosen by speakers (or utterances) left out.

Every utterance is read once for sums of products, by group; every candidate (a group of columns and a strength) is
fitted without each group in turn and scored on it from those sums. The chosen one is then applied to every held-out
utterance: that is the error that is stated.

Conventions:
    Errors are mean absolute differences in dB (8.686 times ln magnitude) over cells above the target's guard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

# Here and not where it is used: a library that is loaded later is not limited to one thread.
from scipy.linalg import cho_factor, cho_solve

from calib.mel.convert.features import LEVELS, Features, Looked

__all__ = [
    "DB",
    "Ridge",
    "Score",
    "Sums",
    "accumulate",
    "cross_validate",
    "folds",
    "held_out",
    "ridge_of",
    "total",
    "weights_of",
]

DB = 20.0 / np.log(10.0)  # a ln unit of magnitude in dB
STRENGTHS = (1e-3, 1e-2, 1e-1)
_FOLDS = 5
_BLOCK = 1024  # frames
# A richer candidate must be this much better (in squared error) to be taken.
_GAIN = 0.99


@dataclass(frozen=True)
class Ridge:
    """A fitted map of the columns of ``level``: ``offset + (columns - mean) @ weights``.

    Args:
        level: of `LEVELS`.
        strength: of the penalty, as a share of the columns' mean variance; 0 for the level without columns.
        mean: of the columns, float32 ``(D,)``.
        weights: float32 ``(D, M')``.
        offset: float32 ``(M',)``.
    """

    level: str
    strength: float
    mean: np.ndarray
    weights: np.ndarray
    offset: np.ndarray

    def __call__(self, features: Features, seen: Looked) -> np.ndarray:
        """Map to ln magnitudes of the target, float32 ``(T', M')``."""
        frames = len(seen.positions)
        out = np.tile(self.offset, (frames, 1)) if seen.q is None else seen.expected() + self.offset
        if self.level != "inversion":
            for start in range(0, frames, _BLOCK):
                stop = min(start + _BLOCK, frames)
                out[start:stop] += (features.columns(seen, self.level, start, stop) - self.mean) @ self.weights
        return np.asarray(out)


class Sums:
    """Sums of products of columns and residuals over frames, about a fixed centre.

    Args:
        centre: near the columns' mean, so that float32 products keep their digits; ``(D,)``.
        bins: M'.
    """

    def __init__(self, centre: np.ndarray, bins: int) -> None:
        size = len(centre) + 1  # and a column of ones
        self.centre = centre
        self.xx = np.zeros((size, size))
        self.xy = np.zeros((size, bins))
        self.yy = np.zeros(bins)
        self.frames = 0

    def add(self, columns: np.ndarray, residuals: np.ndarray) -> None:
        """Columns ``(t, D)`` and residuals ``(t, M')`` of some frames."""
        x = np.concatenate([columns - self.centre, np.ones((len(columns), 1), np.float32)], axis=1)
        y = residuals.astype(np.float32)
        self.xx += x.T @ x
        self.xy += x.T @ y
        self.yy += np.square(y, dtype=np.float64).sum(0)
        self.frames += len(x)

    def __sub__(self, other: Sums) -> Sums:
        out = Sums(self.centre, len(self.yy))
        out.xx, out.xy, out.yy = self.xx - other.xx, self.xy - other.xy, self.yy - other.yy
        out.frames = self.frames - other.frames
        return out

    def __add__(self, other: Sums) -> Sums:
        out = Sums(self.centre, len(self.yy))
        out.xx, out.xy, out.yy = self.xx + other.xx, self.xy + other.xy, self.yy + other.yy
        out.frames = self.frames + other.frames
        return out

    def squared_error(self, weights: np.ndarray) -> float:
        """Sum of squared residuals of a map ``(size of its columns + 1, M')``, the constant last."""
        pick = _pick(len(weights) - 1, len(self.centre))
        quadratic = np.einsum("ij,ij->j", weights, self.xx[np.ix_(pick, pick)] @ weights)
        linear = np.einsum("ij,ij->j", weights, self.xy[pick])
        return float((self.yy - 2.0 * linear + quadratic).sum())


def _pick(width: int, whole: int) -> np.ndarray:
    """Rows of the first ``width`` columns and of the constant."""
    return np.append(np.arange(width), whole)


def weights_of(sums: Sums, width: int, strength: float) -> np.ndarray:
    """Ridge weights of the first ``width`` columns, the constant (never penalised) last; float64 ``(width + 1, M')``."""
    pick = _pick(width, len(sums.centre))
    frames = max(sums.frames, 1)
    xx = sums.xx[np.ix_(pick, pick)] / frames
    xy = sums.xy[pick] / frames
    mean, offset = xx[-1, :-1], xy[-1]
    if not width:
        return np.asarray(offset[None])

    covariance = xx[:-1, :-1] - np.outer(mean, mean)
    variance = np.diag(covariance)
    penalty = strength * float(variance.mean()) + 1e-9
    covariance[np.diag_indices(width)] += penalty
    slope = cho_solve(cho_factor(covariance, lower=True, overwrite_a=True, check_finite=False), xy[:-1] - np.outer(mean, offset), check_finite=False)  # fmt: skip
    return np.concatenate([slope, (offset - mean @ slope)[None]])


def ridge_of(features: Features, sums: Sums, level: str, strength: float) -> Ridge:
    """The fitted map of one candidate."""
    width = features.width(level)
    weights = weights_of(sums, width, strength)
    return Ridge(level, strength if width else 0.0, sums.centre[:width].astype(np.float32), weights[:-1].astype(np.float32), weights[-1].astype(np.float32))  # fmt: skip


def folds(speakers: Sequence[str | None], frames: Sequence[int]) -> tuple[list[int], str]:
    """A fold for each utterance, at most five of about equal size, and what was kept together.

    Speakers are kept together where there are at least two, else utterances.
    """
    known = {speaker for speaker in speakers if speaker is not None}
    by_speaker = len(known) >= 2 and None not in speakers
    keys: list[object] = list(speakers) if by_speaker else list(range(len(speakers)))
    sizes: dict[object, int] = {}
    for key, size in zip(keys, frames, strict=True):
        sizes[key] = sizes.get(key, 0) + size
    filled = [0] * min(_FOLDS, len(sizes))
    home: dict[object, int] = {}
    for key in sorted(sizes, key=lambda k: (-sizes[k], str(k))):  # the largest first, into the emptiest
        home[key] = int(np.argmin(filled))
        filled[home[key]] += sizes[key]
    return [home[key] for key in keys], "speakers" if by_speaker else "utterances"


@dataclass(frozen=True)
class Score:
    """What cross-validation found.

    Args:
        level: chosen columns.
        strength: chosen penalty.
        tried: mean squared error in dB² of every candidate, ``level, strength`` to error.
    """

    level: str
    strength: float
    tried: dict[tuple[str, float], float] = field(default_factory=dict)


def cross_validate(features: Features, parts: Sequence[Sums], levels: Sequence[str] = LEVELS) -> Score:
    """Choose columns and strength: the simplest whose error on groups left out is within 1 % of the least.

    Args:
        features: of the two front ends.
        parts: sums of each group.
        levels: candidates, simplest first.
    """
    whole = total(parts)
    scale = DB**2 / (whole.frames * len(whole.yy))
    tried: dict[tuple[str, float], float] = {}
    for level in levels:
        for strength in STRENGTHS if features.width(level) else (0.0,):
            error = 0.0
            for part in parts:
                rest = whole - part if len(parts) > 1 else whole
                error += part.squared_error(weights_of(rest, features.width(level), strength))
            tried[level, strength] = error * scale
    least = min(tried.values())
    for level in levels:
        best = min((key for key in tried if key[0] == level), key=lambda key: tried[key])
        if tried[best] * _GAIN <= least:
            return Score(best[0], best[1], tried)
    raise AssertionError


def total(parts: Sequence[Sums]) -> Sums:
    """The sum of groups."""
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


def accumulate(
    features: Features, level: str, utterances: Sequence[tuple[Looked, np.ndarray]], of: Sequence[int], n_folds: int
) -> list[Sums]:
    """Sums of each fold over utterances of (what is looked at, wanted ln magnitudes ``(T', M')``)."""
    width = features.width(level)
    sample = [features.columns(seen, level, 0, 200).mean(0) for seen, _ in utterances[:8]]
    centre = np.mean(sample, axis=0).astype(np.float32) if width else np.zeros(0, np.float32)
    parts = [Sums(centre, features.target.n_mels) for _ in range(n_folds)]
    for (seen, wanted), fold in zip(utterances, of, strict=True):
        residual = wanted - seen.expected() if seen.q is not None else wanted
        for start in range(0, len(wanted), _BLOCK):
            stop = min(start + _BLOCK, len(wanted))
            parts[fold].add(features.columns(seen, level, start, stop), residual[start:stop])
    return parts


def held_out(
    features: Features,
    score: Score,
    parts: Sequence[Sums],
    utterances: Sequence[tuple[Looked, np.ndarray]],
    of: Sequence[int],
    report: Callable[[int, np.ndarray], None],
) -> None:
    """Apply to every utterance the map that was fitted without its group; ``report(index, ln magnitudes)``."""
    whole = total(parts)
    for fold, part in enumerate(parts):
        ridge = ridge_of(features, whole - part if len(parts) > 1 else whole, score.level, score.strength)
        for index, ((seen, _), home) in enumerate(zip(utterances, of, strict=True)):
            if home == fold:
                report(index, ridge(features, seen))
