"""Values clamped from below, and fits that are not bent by them.

Where a share of the target is clamped, least squares of truth 1 gives about 1 minus that share: of normal values exactly
(Stein's lemma), of real mels .938, .817 and .590 at 10, 20 and 40 % (field notes, 3). So fit above both floors, then
clamp. The values are chosen by the prediction where least squares is to judge, because choosing by the target shrinks its
slope again (.91 - .97 of real mels at r .9); `find_floors` says how.

References:
    C. M. Stein, Ann. Stat. 9 (1981), the covariance with a function of a normal variable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.diagnose.calibrators.fits import SetStats
from calib.diagnose.calibrators.sampled import FrameSample

__all__ = ["Floors", "above_floor_fits", "above_floor_moments", "find_floors"]

_FLOOR_WIDTH = 1e-4  # sd: values that near the least one lie on the floor
_FLOOR_SHARE = 0.01
_FLOOR_MARGIN = 2.0  # residual sd
_FLOOR_ROUNDS = 6  # each bends the line less


@dataclass(frozen=True)
class Floors:
    """Where prediction and target are clamped from below; None: not at all.

    Args:
        p: least value of the prediction.
        y: least value of the target.
        share_p: share of values on it.
        share_y: the same.
        low: values count whose prediction is above it,
        high: below it,
        low_y: and whose target is above it.
    """

    p: float | None
    y: float | None
    share_p: float
    share_y: float
    low: float
    high: float
    low_y: float

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return self.p is not None or self.y is not None

    def clear(self, p: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Which values count; the shape of p and y."""
        return np.asarray((p > self.low) & (p < self.high) & (y > self.low_y))


def _point_mass(values: np.ndarray, given: float | None) -> tuple[float | None, float, float]:
    """Floor or None, share of values on it, and the value up to which they count as on it."""
    floor = float(values.min()) if given is None else given
    edge = floor + _FLOOR_WIDTH * float(values.std())
    share = float(np.mean(values <= edge))
    # A constant is collapsed, not clamped.
    clamped = share > 0 if given is not None else share >= _FLOOR_SHARE
    return (floor if clamped and values.std() > 0 else None), share, edge


def find_floors(
    sample: FrameSample, *, sample_like: bool = False, floor_p: float | None = None, floor_y: float | None = None
) -> Floors:
    """Point masses at the minimum of prediction and target, and which values are clear of both.

    Least squares may choose values by the prediction, not by the target: those that it maps two residual sd above the
    target's floor, where the clamp no longer bends the target's mean. Matching needs both cut at one level.

    Args:
        sample: frames.
        sample_like: the slope will be judged by matching.
        floor_p: known floor of the prediction; None: its minimum, if at least 1 % of the values lie there.
        floor_y: the same of the target.
    """
    p, y = sample.p.ravel(), sample.y.ravel()
    (floor_p, share_p, edge_p), (floor_y, share_y, edge_y) = _point_mass(p, floor_p), _point_mass(y, floor_y)
    low = edge_p if floor_p is not None else -np.inf
    high, low_y = np.inf, -np.inf
    if floor_y is not None:
        chosen = (p > low) & (y > edge_y)
        bound, slope = None, 0.0
        for _ in range(_FLOOR_ROUNDS):
            a, b = p[chosen], y[chosen]
            if a.size < 3 or np.ptp(a) == 0.0:
                break
            cov = float(np.dot(a - a.mean(), b - b.mean())) / a.size
            slope = float(np.sign(cov) * b.std() / a.std()) if sample_like else cov / float(a.var())
            if slope == 0.0:
                break
            intercept = float(b.mean() - slope * a.mean())
            margin = 0.0 if sample_like else _FLOOR_MARGIN * float((b - slope * a - intercept).std())
            bound = (floor_y + margin - intercept) / slope
            chosen = (p > low) & ((p > bound) if slope > 0 else (p < bound))
            if sample_like:
                chosen &= y > edge_y
        if bound is not None:
            low, high = (max(low, bound), high) if slope > 0 else (low, bound)
        low_y = edge_y if sample_like else low_y
    if sample_like and floor_p is not None and floor_y is None:  # cut the target where the prediction is
        low_y = float(np.quantile(y, share_p))
    return Floors(floor_p, floor_y, share_p, share_y, float(low), float(high), float(low_y))


def above_floor_moments(
    p: np.ndarray,
    y: np.ndarray,
    floor_p: float,
    floor_y: float,
    *,
    high_p: float = np.inf,
    shifts: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Sums by bin of the values above both floors; additive, and what `GroupedSums` holds for a unit.

    Args:
        p: prediction, ``(T, M)``.
        y: target, ``(T, M)``.
        floor_p: values up to it are left out; -inf: none (`Floors.low`).
        floor_y: the same for the target (`Floors.low_y`).
        high_p: predictions from there on are left out (`Floors.high`).
        shifts: what the sums are taken about, each ``(M,)``; None: 0.

    Returns:
        ``(6, M)``: the sums of `GroupedSums`, the last row the count.
    """
    shift_p, shift_y = shifts or (np.float64(0.0), np.float64(0.0))
    keep = (p > floor_p) & (p < high_p) & (y > floor_y)
    a, b = np.where(keep, p - shift_p, 0.0), np.where(keep, y - shift_y, 0.0)
    return np.stack(
        [a.sum(axis=0), b.sum(axis=0), (a * a).sum(axis=0), (b * b).sum(axis=0), (a * b).sum(axis=0), keep.sum(axis=0)]
    )


def above_floor_fits(
    sums: np.ndarray, shifts: tuple[np.ndarray, np.ndarray] | None = None
) -> dict[str, tuple[float, float]]:
    """Slope and intercept of least squares (``ols``) and of matching (``moments``).

    Args:
        sums: from `above_floor_moments`, ``(6, M)``.
        shifts: as given there.

    Raises:
        ValueError: fewer than two values are above the floors.
    """
    if sums[-1].sum() < 2:
        raise ValueError(f"{sums[-1].sum():.0f} values lie above the floors, at least two are needed")
    zeros = np.zeros(sums.shape[1])
    s = SetStats.of(sums[None], *(shifts or (zeros, zeros)))
    m_p, m_y, var_p, var_y, cov = (float(v[0, 0]) for v in (s.m_p, s.m_y, s.pooled_p, s.pooled_y, s.pooled_py))
    slopes = {"ols": cov / var_p, "moments": float(np.copysign(np.sqrt(var_y / var_p), cov))} if var_p > 0 else {}
    return {name: (slope, m_y - slope * m_p) for name, slope in slopes.items()}
