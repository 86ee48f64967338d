"""Whether two runs differ on the utterances that both predicted: a paired bootstrap over utterances.

With d_u the difference of a figure on utterance u and n_u its frames, what is estimated is the difference over frames::

    D    = sum_u n_u d_u / sum_u n_u
    se^2 = G / (G - 1) * sum_u n_u^2 (d_u - D)^2 / (sum_u n_u)^2        the linearised ratio estimator
    D +- : D - t*_(1 - a/2) se,  D - t*_(a/2) se                        t* = (D* - D) / se*, over resampled utterances

Utterances are resampled whole, because frames are autocorrelated, and in pairs, because an utterance that is hard for
one checkpoint is hard for the next: what they share cancels. The interval is studentised: percentiles alone hold the
truth in 78 to 86 % of the cases with five utterances (``benchmarks/coverage.py``). Many comparisons are made, so the level
is divided among them (Bonferroni).

References:
    B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap (1993), 12.5: the bootstrap-t.
    W. G. Cochran, Sampling Techniques (1977), 2.11: variance of a ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["LEAST_UTTERANCES", "PairedDifference", "paired_differences"]

LEAST_UTTERANCES = 5  # below, nothing shows how much another utterance would differ
_DRAWS = 2000
_CHUNK = 1 << 20  # resampled indices held at once
_SAME = 1e-9  # of the size of the figures: below, a difference is rounding


@dataclass(frozen=True)
class PairedDifference:
    """The difference of a figure between two runs.

    Args:
        value: of the second less the first, over frames, in the figure's unit.
        low: lower limit of its interval, or None where there is none.
        high: upper limit.
        level: of the interval, for example 0.95.
        utterances: how many were paired.
        skipped: why there is no interval, or None.
    """

    value: float
    low: float | None
    high: float | None
    level: float
    utterances: int
    skipped: str | None = None

    @property
    def told_apart(self) -> bool:
        """Whether the interval is there and leaves 0 out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def paired_differences(
    frames: np.ndarray, first: Sequence[np.ndarray], second: Sequence[np.ndarray], *, seed: int = 0
) -> list[PairedDifference]:
    """Differences of several figures between runs, with intervals that hold together at 95 %.

    Args:
        frames: of each utterance, ``(U,)``.
        first: one array ``(U,)`` a comparison; NaN where the figure is not defined.
        second: the same of the other run.
        seed: of the resampling.
    """
    count = max(len(first), 1)
    level = 1.0 - 0.05 / count
    out: list[PairedDifference | None] = [None] * len(first)
    columns: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for index, (a, b) in enumerate(zip(first, second, strict=True)):
        d = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
        good = np.isfinite(d)
        n, kept = np.where(good, frames, 0.0).astype(np.float64), int(good.sum())
        d = np.where(good, d, 0.0)
        if kept == 0:
            out[index] = PairedDifference(
                0.0, None, None, level, 0, "the figure is not defined on any utterance of both"
            )
            continue
        value = float(n @ d / n.sum())
        scale = float(np.abs(np.where(good, a, 0.0)).max(initial=0.0)) or 1.0
        if np.abs(d).max() <= _SAME * scale:
            out[index] = PairedDifference(0.0, 0.0, 0.0, level, kept)
        elif kept < LEAST_UTTERANCES:
            why = f"{kept} utterance{'s' * (kept != 1)} in both, {LEAST_UTTERANCES} are needed to see how others would differ"
            out[index] = PairedDifference(value, None, None, level, kept, why)
        else:
            columns[index] = (n, d - value)
            out[index] = PairedDifference(value, None, None, level, kept)
    if columns:
        limits = _limits(list(columns.values()), level, seed)
        for index, (low, high) in zip(columns, limits, strict=True):
            found = out[index]
            assert found is not None
            out[index] = PairedDifference(found.value, found.value + low, found.value + high, level, found.utterances)
    return [found for found in out if found is not None]


def _limits(columns: list[tuple[np.ndarray, np.ndarray]], level: float, seed: int) -> list[tuple[float, float]]:
    """Lower and upper limits about each estimate.

    Args:
        columns: frames and centred differences ``(U,)`` of each comparison.
        level: of the interval.
        seed: of the resampling; one resample serves every comparison.
    """
    n, d = (np.stack([column[side] for column in columns], axis=1) for side in (0, 1))  # (U, K)
    design = np.concatenate([n, n * d, (n * d) ** 2, n * n * d, n * n, (n > 0).astype(np.float64)], axis=1)
    units, width = n.shape
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // units)
    t = np.concatenate([_t(design, rng, min(step, _DRAWS - done), width) for done in range(0, _DRAWS, step)])
    se = _standard_errors(design.sum(axis=0)[None], width)[1][0]
    out = []
    for column in range(width):
        good = t[np.isfinite(t[:, column]), column]
        if good.size < _DRAWS // 2:  # one utterance holds all of the difference: no resample without it tells anything
            out.append((-np.inf, np.inf))
            continue
        low, high = np.quantile(good, [(1 - level) / 2, (1 + level) / 2])
        out.append((float(-high * se[column]), float(-low * se[column])))
    return [(low, high) if np.isfinite(low) else (-_huge(d[:, c]), _huge(d[:, c])) for c, (low, high) in enumerate(out)]


def _huge(d: np.ndarray) -> float:
    """An interval as wide as the differences themselves."""
    return 2.0 * float(np.abs(d).max())


def _t(design: np.ndarray, rng: np.random.Generator, draws: int, width: int) -> np.ndarray:
    units = design.shape[0]
    picks = rng.integers(0, units, size=(draws, units))
    offsets = np.arange(draws)[:, None] * units
    weights = np.bincount((picks + offsets).ravel(), minlength=draws * units).reshape(draws, units)
    mean, se = _standard_errors(weights.astype(np.float64) @ design, width)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(se > 0, mean / se, np.nan))


def _standard_errors(sums: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the centred differences and its standard error, ``(R, K)`` both, from the sums of the design."""
    n, nd, nndd, nnd, nn, count = (sums[:, k * width : (k + 1) * width] for k in range(6))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = nd / n
        variance = (nndd - 2 * mean * nnd + mean**2 * nn) / n**2 * count / (count - 1)
    return mean, np.sqrt(np.maximum(np.nan_to_num(variance), 0.0))
