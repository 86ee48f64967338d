"""What sums cannot give, from a bounded sample of frames: the robust and the monotone fit.

The sample is every k-th frame of the pairs in their order, so that it depends on nothing else. Fits made from it are
scored against an exact one: the difference of the two on the sample, added to the exact error of the other.

References:
    P. J. Huber, Ann. Math. Stat. 35 (1964); A. B. Owen, Contemp. Math. 443 (2007), the scale fitted along.
    M. Ayer et al., Ann. Math. Stat. 26 (1955), pooling adjacent violators.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calib.diagnose.calibrators.fits import Folds, GroupedSums, Maps, SetStats, constant, divide

__all__ = [
    "Curve",
    "FrameSample",
    "FrameSampler",
    "curve_gain",
    "huber",
    "isotonic",
    "monotone",
]

_SAMPLED_FRAMES = 2000
_HUBER_VALUES = 40_000
_EPSILON = 1.35  # Huber's constant: 95 % efficient on normal residuals
_NODES = 256


@dataclass(frozen=True)
class FrameSample:
    """Some frames of the pairs.

    Args:
        p: prediction, ``(S, M)`` float64.
        y: target, ``(S, M)``.
        unit: ``(S,)``, the unit that each frame is from.
        keep: ``(S, M)``, values that count (clear of the floors); None: all.
    """

    p: np.ndarray
    y: np.ndarray
    unit: np.ndarray
    keep: np.ndarray | None = None

    def keeping(self, keep: np.ndarray) -> FrameSample:
        """The same frames, of which only some values count."""
        return replace(self, keep=keep)

    def relabelled(self, label: np.ndarray) -> FrameSample:
        """The same frames with ``label[unit]`` for unit."""
        return replace(self, unit=label[self.unit])

    def values(self, per_frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predictions, targets and a per-frame number ``(S,)`` of the values that count, each ``(V,)``."""
        repeated = np.broadcast_to(per_frame[:, None], self.p.shape)
        if self.keep is None:
            return self.p.ravel(), self.y.ravel(), repeated.ravel()
        return self.p[self.keep], self.y[self.keep], repeated[self.keep]

    def sums(self, units: int, p: np.ndarray | None = None) -> GroupedSums:
        """Sums by unit of the values that count.

        Args:
            units: how many units there are.
            p: predictions in place of the sample's own, ``(S, M)``.
        """
        p = self.p if p is None else p
        weight = np.ones(p.shape) if self.keep is None else self.keep.astype(np.float64)
        shift_p, shift_y = p.mean(axis=0), self.y.mean(axis=0)
        a, b = (p - shift_p) * weight, (self.y - shift_y) * weight
        frames = np.stack([a, b, a * a, b * b, a * b, weight], axis=1)
        return GroupedSums(frames, shift_p, shift_y).merged(self.unit, units)

    def variance_ratio(self, p: np.ndarray) -> float:
        """Within-bin variance of other predictions ``(S, M)`` over the target's, of the values that count."""
        total = self.sums(int(self.unit.max()) + 1, p)
        s = SetStats.of(total.sums.sum(axis=0)[None], total.shift_p, total.shift_y)
        return float(divide(s.within_p, s.within_y)[0, 0])


class FrameSampler:
    """Gathers a sample while the pairs are read in order.

    Args:
        frames: how many will come; None: not known yet, so that the sample is halved whenever it is full.
        most: how many to keep at most; at least half of it, where so many come.

    ``step`` says how many frames each one kept stands for: row k of the sample is frame ``k * step`` of all.
    """

    def __init__(self, frames: int | None = None, most: int = _SAMPLED_FRAMES) -> None:
        self.step = 1 if frames is None else max(1, -(-frames // most))
        self._most = most if frames is None else None
        self._seen = 0
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, unit: int, p: np.ndarray, y: np.ndarray) -> None:
        """The frames of one unit, ``(T, M)`` both."""
        until = self._seen + p.shape[0]
        if self._most is not None and -(-until // self.step) > self._most:
            before = self.step
            while -(-until // self.step) > self._most:
                self.step *= 2
            if self._parts:  # of those kept, every second of every second ...
                kept = (np.concatenate(column)[:: self.step // before] for column in zip(*self._parts, strict=True))
                self._parts = [tuple(kept)]  # type: ignore[list-item]
        rows = slice(-self._seen % self.step, None, self.step)
        taken = p[rows].astype(np.float64)
        self._parts.append((taken, y[rows].astype(np.float64), np.full(taken.shape[0], unit, dtype=np.intp)))
        self._seen = until

    def result(self) -> FrameSample:
        """All that was kept.

        Raises:
            ValueError: nothing was added.
        """
        if not self._parts:
            raise ValueError("no frames were sampled")
        p, y, unit = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        return FrameSample(p, y, unit)


# --- robust ---------------------------------------------------------------------------------------------------------


def huber(sample: FrameSample, folds: Folds) -> Maps:
    """Huber's regression with its scale, by reweighted least squares; scikit-learn's ``HuberRegressor(alpha=0)``.

    Args:
        sample: frames.
        folds: sums of the same units.
    """
    p, y, fold = (v[:: max(1, sample.p.size // _HUBER_VALUES)] for v in sample.values(folds.fold_of[sample.unit]))
    fits = [_huber(p[fold != row], y[fold != row]) for row in range(folds.n_folds + 1)]
    slope, intercept = (np.array(values)[:, None] for values in zip(*fits, strict=True))
    return Maps(slope, intercept, 2.0)


def _huber(p: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    slope, intercept = 0.0, float(np.median(y))
    scale = float(np.abs(y - intercept).mean())
    weight = np.ones_like(p)
    for _ in range(200):
        total = weight.sum()
        m_p, m_y = np.dot(weight, p) / total, np.dot(weight, y) / total
        wp = weight * (p - m_p)
        before = (slope, scale)
        slope = float(divide(np.dot(wp, y - m_y), np.dot(wp, p - m_p)))
        intercept = float(m_y - slope * m_p)
        size = np.abs(y - slope * p - intercept)
        inside = size <= _EPSILON * scale
        # Where the derivative of the objective by the scale is 0.
        left = p.size - _EPSILON**2 * np.count_nonzero(~inside)
        scale = float(np.sqrt(np.square(size[inside]).sum() / left)) if left > 0 else 2.0 * scale
        if scale <= 1e-12 * float(np.abs(y).max()):
            break
        weight = np.minimum(1.0, _EPSILON * scale / np.maximum(size, 1e-300))
        if abs(slope - before[0]) <= 1e-10 * abs(slope) and abs(scale - before[1]) <= 1e-10 * scale:
            break
    return slope, intercept


# --- monotone -------------------------------------------------------------------------------------------------------


def isotonic(y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The non-decreasing sequence nearest to y in weighted squares (pooling adjacent violators); ``(K,)`` each."""
    level: list[float] = []
    mass: list[float] = []
    size: list[int] = []
    for value, w in zip(y.tolist(), weight.tolist(), strict=True):
        level.append(value)
        mass.append(w)
        size.append(1)
        while len(level) > 1 and level[-2] >= level[-1]:
            total = mass[-2] + mass[-1]
            level[-2] = (level[-2] * mass[-2] + level[-1] * mass[-1]) / total
            mass[-2], size[-2] = total, size[-2] + size[-1]
            del level[-1], mass[-1], size[-1]
    return np.repeat(level, size)


@dataclass(frozen=True)
class Curve:
    """A monotone map: straight between its knots, the global slope beyond them.

    Args:
        x: knots, prediction, increasing, ``(K,)``.
        y: values there, ``(K,)``.
        slope: beyond.
        parameters: levels of the isotonic fit.
    """

    x: np.ndarray
    y: np.ndarray
    slope: float
    parameters: float

    def __call__(self, mel: np.ndarray) -> np.ndarray:
        """Apply it to values of any shape."""
        inside = np.clip(mel, self.x[0], self.x[-1])
        return np.asarray(np.interp(inside, self.x, self.y) + self.slope * (mel - inside))


def monotone(sample: FrameSample, folds: Folds, reference: Maps, *, sample_like: bool) -> list[Curve]:
    """One increasing (or decreasing) curve for all bins, for each fold and for everything.

    The prediction is cut at 256 quantiles; the target's means there, made monotone, are the knots. For a sampler the
    curve is then stretched to the target's mean and spread, as matching does.

    Args:
        sample: frames.
        folds: sums of the same units.
        reference: an affine fit; the curve runs its way.
        sample_like: whether to stretch.

    Raises:
        ValueError: a fold without sampled frames, or a prediction of fewer than three values.
    """
    p, y, fold = sample.values(folds.fold_of[sample.unit])
    if np.unique(fold).size < folds.n_folds:
        raise ValueError("the sample holds no frames of some fold")
    edges = np.unique(np.quantile(p, np.linspace(0, 1, _NODES + 1)))
    cells = edges.size - 1
    if cells < 3:
        raise ValueError("the prediction takes fewer than three values in the sample")
    key = fold * cells + np.clip(np.searchsorted(edges, p, side="right") - 1, 0, cells - 1)
    count, sum_p, sum_y = (
        np.bincount(key, weights, folds.n_folds * cells).reshape(-1, cells) for weights in (None, p, y)
    )
    curves = []
    for row in range(folds.n_folds + 1):
        keep = np.arange(folds.n_folds) != row
        n = count[keep].sum(axis=0)
        used = n > 0
        x, level = sum_p[keep].sum(axis=0)[used] / n[used], sum_y[keep].sum(axis=0)[used] / n[used]
        slope = float(reference.slope[row, 0])
        sign = -1.0 if slope < 0 else 1.0
        level = sign * isotonic(sign * level, n[used])
        curve = Curve(x, level, slope, float(np.unique(level).size))
        if sample_like:
            q, own = curve(p[fold != row]), y[fold != row]
            scale = float(divide(own.std(), q.std()))
            curve = Curve(x, own.mean() + scale * (level - q.mean()), slope * scale, curve.parameters)
        curves.append(curve)
    return curves


def curve_gain(
    sample: FrameSample, folds: Folds, curves: list[Curve], reference: Maps, *, sample_like: bool
) -> np.ndarray:
    """Parts ``(U,)`` of the held-out loss of the curves less those of the reference, in proportion to all values.

    Both are scored on the sampled frames, so what the sample happens to hold cancels.
    """
    frame_fold, units = folds.fold_of[sample.unit], folds.fold_of.size
    q = np.empty_like(sample.p)
    for fold in range(folds.n_folds):
        q[frame_fold == fold] = curves[fold](sample.p[frame_fold == fold])
    curved, straight = (Folds(sample.sums(units, p), folds.fold_of) for p in (q, sample.p))
    gain = curved.losses([constant(curved, 1.0, 0.0)], sample_like=sample_like)
    gain -= straight.losses([reference], sample_like=sample_like)
    return np.asarray(gain[:, 0] * (folds.n_fold / straight.n_fold)[folds.fold_of])
