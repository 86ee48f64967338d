"""Affine calibrators by bin, shrunk towards the global one by as much as chance explains.

How much bins really differ is what their estimates vary more than the variation between units explains; with few units
nothing is left of it, and the global fit remains. Conventions and sums are those of `calib.diagnose.calibrators.fits`.

References:
    B. Efron and C. Morris, J. Am. Stat. Assoc. 70 (1975), empirical Bayes. R. C. Paule and J. Mandel, J. Res. NBS 87
    (1982), variance between groups. G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 3 (2004), moderated variances.
"""

from __future__ import annotations

import numpy as np

from calib.diagnose.calibrators.fits import (
    PP,
    PY,
    YY,
    Folds,
    GroupedSums,
    Maps,
    N,
    P,
    SetStats,
    Y,
    divide,
    least_squares,
    moment_matching,
    sign,
)

__all__ = ["bin_offsets", "per_bin"]

_PRIOR_UNITS = 4.0  # the average over bins counts as this many units in the variance of one bin
_MIN_UNITS = 3  # fewer: no variance between units to speak of, the global fit stays


def bin_offsets(folds: Folds, *, sample_like: bool) -> Maps:
    """One slope for all bins (within bins, so that the mean spectrum has no say) and a shrunk offset for each.

    Each bin's distance from the line through the means is taken by the share of it that is not chance.
    """
    s = folds.stats
    slope = _within_slope(s, sample_like=sample_like)
    line = s.m_y - slope * s.m_p
    level = np.where(s.n > 0, s.mean_y - slope * s.mean_p - line, 0.0)
    trust = np.stack(
        [
            _trust(level[row], _level_variance(folds.training(row), folds.data, slope[row], line[row] + level[row]))
            for row in range(folds.n_folds + 1)
        ]
    )
    return Maps(np.broadcast_to(slope, level.shape), line + trust * level, 2.0 + float(trust[-1].sum()))


def per_bin(folds: Folds, *, sample_like: bool) -> Maps:
    """A slope and an offset for each bin, each shrunk towards the global fit by empirical Bayes.

    Level (at the bin's mean) and slope are shrunk apart. How much bins really differ is what their estimates vary more
    than the variation between units explains (Paule and Mandel); with few units nothing is left of it and the global
    fit remains.
    """
    s = folds.stats
    base = moment_matching(folds) if sample_like else least_squares(folds)
    own = sign(s.within_py) * np.sqrt(divide(s.var_y, s.var_p)) if sample_like else divide(s.cov, s.var_p)
    alive = s.var_p > 1e-12 * s.within_p  # a bin in which the prediction stands still has no slope of its own
    tilt = np.where(alive, own - base.slope, 0.0)
    level = np.where(s.n > 0, s.mean_y - base.slope * s.mean_p - base.intercept, 0.0)
    slope, intercept = np.empty_like(level), np.empty_like(level)
    parameters = 2.0
    for row in range(folds.n_folds + 1):
        units = folds.training(row)
        fitted = base.slope[row] + tilt[row]
        trust_level = _trust(
            level[row], _level_variance(units, folds.data, fitted, s.mean_y[row] - fitted * s.mean_p[row])
        )
        variance = (_matching_variance if sample_like else _regression_variance)(units, folds.data, s, row, fitted)
        trust_tilt = np.where(alive[row], _trust(tilt[row], variance), 0.0)
        slope[row] = base.slope[row] + trust_tilt * tilt[row]
        at_mean = base.slope[row] * s.mean_p[row] + base.intercept[row] + trust_level * level[row]
        intercept[row] = at_mean - slope[row] * s.mean_p[row]
        parameters = 2.0 + float(trust_level.sum() + trust_tilt.sum())
    return Maps(slope, intercept, parameters)


def _within_slope(s: SetStats, *, sample_like: bool) -> np.ndarray:
    if sample_like:
        return np.asarray(sign(s.within_py) * np.sqrt(divide(s.within_y, s.within_p)))
    return divide(s.within_py, s.within_p)


def _level_variance(units: np.ndarray, data: GroupedSums, slope: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """Sampling variance of each bin's mean residual, from the units' sums of residuals, ``(M,)``."""
    c = intercept + slope * data.shift_p - data.shift_y
    residual = units[:, Y] - slope * units[:, P] - c * units[:, N]
    return _variance(residual, units[:, N].sum(axis=0))


def _regression_variance(units: np.ndarray, data: GroupedSums, s: SetStats, row: int, slope: np.ndarray) -> np.ndarray:
    """Sampling variance of each bin's regression slope (the sandwich over units), ``(M,)``."""
    dp, dy = s.mean_p[row] - data.shift_p, s.mean_y[row] - data.shift_y
    py = units[:, PY] - dp * units[:, Y] - dy * units[:, P] + dp * dy * units[:, N]
    pp = units[:, PP] - 2 * dp * units[:, P] + dp * dp * units[:, N]
    return _variance(py - slope * pp, s.var_p[row] * s.n[row])


def _matching_variance(units: np.ndarray, data: GroupedSums, s: SetStats, row: int, slope: np.ndarray) -> np.ndarray:
    """Sampling variance of each bin's s_y / s_p (delta method over units), ``(M,)``."""
    dp, dy = s.mean_p[row] - data.shift_p, s.mean_y[row] - data.shift_y
    pp = units[:, PP] - 2 * dp * units[:, P] + dp * dp * units[:, N]
    yy = units[:, YY] - 2 * dy * units[:, Y] + dy * dy * units[:, N]
    share = divide(yy, s.var_y[row] * s.n[row]) - divide(pp, s.var_p[row] * s.n[row])
    return _variance(0.5 * slope * share, np.ones(share.shape[1]))


def _variance(scores: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Variance of Σscores / scale over units, moderated towards the average over bins; infinite with too few units."""
    count = scores.shape[0]
    if count < _MIN_UNITS:
        return np.full(scores.shape[1], np.inf)
    raw = divide(np.einsum("um,um->m", scores, scores), scale**2) * count / (count - 1)
    return np.asarray(((count - 1) * raw + _PRIOR_UNITS * raw.mean()) / (count - 1 + _PRIOR_UNITS))


def _trust(found: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Empirical-Bayes weight of each bin's own value, tau² / (tau² + variance).

    tau² solves Σ found² / (variance + tau²) = number of bins.
    """
    if not np.isfinite(variance).all() or not found.any():
        return np.zeros_like(found)
    square, count = found**2, found.size
    variance = np.maximum(variance, 1e-300)
    if (square / variance).sum() <= count:
        return np.zeros_like(found)
    low, high = 0.0, float(square.sum())
    for _ in range(60):  # the sum falls with tau², so halving finds it
        middle = 0.5 * (low + high)
        low, high = (middle, high) if (square / (variance + middle)).sum() > count else (low, middle)
    return np.asarray(high / (high + variance))
