"""What sums cannot give, from a bounded sample of frames: robust and monotone fits, and values at the floor.

The sample is every k-th frame of the pairs in their order, so that it depends on nothing else. Fits made from it are
scored against an exact one: the difference of the two on the sample, added to the exact error of the other.

Floor: where a share of the target is clamped, least squares of truth 1 gives about 1 minus that share (field notes: .938,
.817 and .590 at 10, 20 and 40 %). Sums over the values above both floors repair it; for least squares the values are
chosen by the prediction alone (`Floors.least`), because choosing by the target shrinks the slope again.

References:
    P. J. Huber, Ann. Math. Stat. 35 (1964); A. B. Owen, Contemp. Math. 443 (2007), the scale fitted along.
    M. Ayer et al., Ann. Math. Stat. 26 (1955), pooling adjacent violators.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calib.diagnose.fits import Folds, GroupedSums, Maps, SetStats, constant, divide

__all__ = [
    "Curve",
    "Floors",
    "FrameSample",
    "FrameSampler",
    "above_floor_moments",
    "curve_gain",
    "find_floors",
    "huber",
    "isotonic",
    "monotone",
]

_SAMPLED_FRAMES = 2000
_HUBER_VALUES = 40_000
_EPSILON = 1.35  # Huber's constant: 95 % efficient on normal residuals
_NODES = 256
_FLOOR_WIDTH = 1e-4  # sd: values that near the least one lie on the floor
_FLOOR_SHARE = 0.01
_FLOOR_MARGIN = 2.0  # residual sd above the target's floor: there the clamp no longer bends the target's mean


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

    def clear_of(self, floors: Floors) -> FrameSample:
        """The same frames, of which only the values count that are clear of the floors."""
        return replace(self, keep=floors.clear(self.p))

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
        frames: how many will come.
        most: how many to keep at most.
    """

    def __init__(self, frames: int, most: int = _SAMPLED_FRAMES) -> None:
        self._step = max(1, -(-frames // most))
        self._next = 0
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, unit: int, p: np.ndarray, y: np.ndarray) -> None:
        """The frames of one unit, ``(T, M)`` both."""
        rows = slice(self._next, None, self._step)
        taken = p[rows].astype(np.float64)
        self._parts.append((taken, y[rows].astype(np.float64), np.full(taken.shape[0], unit, dtype=np.intp)))
        self._next = (self._next - p.shape[0]) % self._step

    def result(self) -> FrameSample:
        """All that was kept.

        Raises:
            ValueError: nothing was added.
        """
        if not self._parts:
            raise ValueError("no frames were sampled")
        p, y, unit = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        return FrameSample(p, y, unit)


# --- floors ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Floors:
    """Where prediction and target are clamped from below; None: not at all.

    Args:
        p: least value of the prediction.
        y: least value of the target.
        share_p: share of values on it.
        share_y: the same.
        low: predictions above it, and
        high: below it, are clear of both floors.
    """

    p: float | None
    y: float | None
    share_p: float
    share_y: float
    low: float
    high: float

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return self.p is not None or self.y is not None

    def clear(self, p: np.ndarray) -> np.ndarray:
        """Which predictions are clear of both floors; the shape of p."""
        return np.asarray((p > self.low) & (p < self.high))


def _point_mass(values: np.ndarray, given: float | None) -> tuple[float | None, float, float]:
    """Floor or None, share of values on it, and the value up to which they count as on it."""
    floor = float(values.min()) if given is None else given
    edge = floor + _FLOOR_WIDTH * float(values.std())
    share = float(np.mean(values <= edge))
    # A constant is collapsed, not clamped.
    clamped = share > 0 if given is not None else share >= _FLOOR_SHARE
    return (floor if clamped and values.std() > 0 else None), share, edge


def find_floors(sample: FrameSample, *, floor_p: float | None = None, floor_y: float | None = None) -> Floors:
    """Point masses at the minimum of prediction and target, and where the prediction is clear of both.

    Args:
        sample: frames.
        floor_p: known floor of the prediction; None: its minimum, if at least 1 % of the values lie there.
        floor_y: the same of the target.
    """
    p, y = sample.p.ravel(), sample.y.ravel()
    (floor_p, share_p, edge_p), (floor_y, share_y, edge_y) = _point_mass(p, floor_p), _point_mass(y, floor_y)
    low = edge_p if floor_p is not None else -np.inf
    high = np.inf
    if floor_y is not None:
        chosen = (p > low) & (y > edge_y)
        bound = None
        for _ in range(4):  # each round the line is less bent by the clamp
            a, b = p[chosen], y[chosen]
            if a.size < 3:
                break
            slope = float(divide(np.dot(a - a.mean(), b - b.mean()), np.dot(a - a.mean(), a - a.mean())))
            if slope == 0.0:
                break
            intercept = float(b.mean() - slope * a.mean())
            spread = float((b - slope * a - intercept).std())
            bound = (floor_y + _FLOOR_MARGIN * spread - intercept) / slope
            chosen = (p > low) & ((p > bound) if slope > 0 else (p < bound))
        if bound is not None:
            low, high = (max(low, bound), high) if slope > 0 else (low, bound)
    return Floors(floor_p, floor_y, share_p, share_y, float(low), float(high))


def above_floor_moments(
    p: np.ndarray,
    y: np.ndarray,
    floor_p: float,
    floor_y: float,
    shifts: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Sums of the values above both floors, by bin.

    Args:
        p: prediction, ``(T, M)``.
        y: target, ``(T, M)``.
        floor_p: values up to it are left out; -inf: none.
        floor_y: the same for the target.
        shifts: what the sums are taken about, each ``(M,)``; None: 0.

    Returns:
        ``(6, M)``: the sums of `GroupedSums`, the last row the count.
    """
    shift_p, shift_y = shifts or (np.float64(0.0), np.float64(0.0))
    keep = (p > floor_p) & (y > floor_y)
    a, b = np.where(keep, p - shift_p, 0.0), np.where(keep, y - shift_y, 0.0)
    return np.stack(
        [
            a.sum(axis=0),
            b.sum(axis=0),
            np.einsum("tm,tm->m", a, a),
            np.einsum("tm,tm->m", b, b),
            np.einsum("tm,tm->m", a, b),
            keep.sum(axis=0, dtype=np.float64),
        ]
    )


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
