"""What correlation unrelated predictions would have, and what lags, flips and other pairings would do.

With at least 5 utterances the null is made by giving each prediction another utterance's target (derangements). With
fewer it is made by circular time shifts of at least 20 frames: the labels then hold "within these utterances only".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

__all__ = ["LAGS", "NullDistribution", "StructureProbe", "SwapNull", "structure_probe", "swap_null", "time_shift_null"]

LAGS = tuple(range(-8, 9))
_MIN_SHIFT = 20  # frames: the autocorrelation of speech mels (tau about 14 frames) has gone by then
_MAX_SWAPPED = 40  # utterances; all ordered pairs of them are formed
_DERANGEMENTS = 200
_MAX_LENGTH_DIFFERENCE = 8  # frames: pairs further apart than that were not made for each other


@dataclass(frozen=True)
class NullDistribution:
    """Within-bin correlations under no relation.

    Args:
        kind: ``swapped utterances`` or ``circular time shifts``.
        draws: how many.
        limit: 95th percentile of their magnitude.
        mean: their mean.
    """

    kind: str
    draws: int
    limit: float
    mean: float


class SwapNull(NamedTuple):
    """What swapping utterances shows.

    Args:
        null: distribution of r_w under other pairings.
        best: r_w of the best re-pairing among utterances of like length.
        own: r_w of the given pairing of the same utterances.
        own_magnitude: the same with each utterance's own sign removed: a pairing whose halves have opposite signs is
            right, though it cancels in the sum.
    """

    null: NullDistribution
    best: float
    own: float
    own_magnitude: float


def time_shift_null(centred: list[tuple[np.ndarray, np.ndarray]]) -> NullDistribution:
    """The null of circular shifts of at least 20 frames, all shifts at once by FFT.

    Args:
        centred: for each utterance ``(p, y)``, ``(T, M)``, per-bin means removed.
    """
    # One very short utterance would leave no shift for the others.
    centred = [pair for pair in centred if pair[0].shape[0] >= 4 * _MIN_SHIFT] or centred
    shortest = min(p.shape[0] for p, _ in centred)
    stop = shortest - _MIN_SHIFT
    if stop <= _MIN_SHIFT:
        return NullDistribution("circular time shifts", 0, 1.0, 0.0)
    products = np.zeros(stop - _MIN_SHIFT)
    pp = yy = 0.0
    for p, y in centred:
        spectrum = np.fft.rfft(p, axis=0).conj() * np.fft.rfft(y, axis=0)
        products += np.fft.irfft(spectrum.sum(axis=1), n=p.shape[0])[_MIN_SHIFT:stop]
        pp += float(np.vdot(p, p))
        yy += float(np.vdot(y, y))
    scale = np.sqrt(pp * yy)
    values = products / scale if scale > 0 else np.zeros_like(products)
    return NullDistribution(
        "circular time shifts", values.size, float(np.quantile(np.abs(values), 0.95)), float(values.mean())
    )


def swap_null(centred: list[tuple[np.ndarray, np.ndarray]], seed: int) -> SwapNull:
    """The null of swapped utterances, and the best other pairing.

    Args:
        centred: for each utterance ``(p, y)``, ``(T, M)``, per-bin means over all utterances removed.
        seed: of the derangements.

    """
    from scipy.optimize import linear_sum_assignment

    chosen = centred[:: max(1, len(centred) // _MAX_SWAPPED)][:_MAX_SWAPPED]
    count = len(chosen)
    cross, pp, yy = (np.zeros((count, count)) for _ in range(3))
    compatible = np.zeros((count, count), dtype=bool)
    for i, (p, _) in enumerate(chosen):
        energy_p = np.concatenate([[0.0], np.cumsum(np.einsum("tm,tm->t", p, p))])
        for j, (_, y) in enumerate(chosen):
            n = min(p.shape[0], y.shape[0])
            a, b = p[:n].ravel(), y[:n].ravel()
            cross[i, j], pp[i, j], yy[i, j] = np.dot(a, b), energy_p[n], np.dot(b, b)
            compatible[i, j] = abs(p.shape[0] - y.shape[0]) <= _MAX_LENGTH_DIFFERENCE
    rng = np.random.default_rng(seed)
    rows = np.arange(count)
    values = []
    for _ in range(_DERANGEMENTS):
        columns = _derangement(rng, count)
        values.append(_correlation(cross, pp, yy, rows, columns))
    null = np.array(values)
    local = np.divide(cross, np.sqrt(pp * yy), out=np.zeros_like(cross), where=pp * yy > 0)
    best_rows, best_columns = linear_sum_assignment(np.where(compatible, -local, 10.0))
    best = _correlation(cross, pp, yy, best_rows, best_columns) if compatible[best_rows, best_columns].all() else 0.0
    return SwapNull(
        NullDistribution("swapped utterances", null.size, float(np.quantile(np.abs(null), 0.95)), float(null.mean())),
        best,
        _correlation(cross, pp, yy, rows, rows),
        _correlation(np.abs(cross), pp, yy, rows, rows),
    )


def _derangement(rng: np.random.Generator, count: int) -> np.ndarray:
    """A random permutation without fixed points: a random cycle order shifted by a random step."""
    order = rng.permutation(count)
    step = int(rng.integers(1, count))
    out = np.empty(count, dtype=np.intp)
    out[order] = np.roll(order, step)
    return out


def _correlation(cross: np.ndarray, pp: np.ndarray, yy: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> float:
    scale = np.sqrt(pp[rows, columns].sum() * yy[rows, columns].sum())
    return float(cross[rows, columns].sum() / scale) if scale > 0 else 0.0


@dataclass
class StructureProbe:
    """Within-bin correlation after a shift in time, a flip of the bins, or a wrong reshape is undone.

    Args:
        by_lag: lag in frames (prediction at t + lag against target at t: positive means late) to r_w.
        flipped: bins in reverse order.
        reshaped: a prediction whose (M, T) memory was read as (T, M).
    """

    by_lag: dict[int, float] = field(default_factory=dict)
    flipped: float = 0.0
    reshaped: float = 0.0

    @property
    def best_lag(self) -> int:
        """The lag of the largest correlation by magnitude (0 unless another is larger)."""
        return max(self.by_lag, key=lambda lag: (round(abs(self.by_lag[lag]), 12), -abs(lag)), default=0)


def structure_probe(centred: list[tuple[np.ndarray, np.ndarray]], bin_mean_p: np.ndarray) -> StructureProbe:
    """Scan lags of -8..8 frames and try the two layout faults.

    Args:
        centred: for each utterance ``(p, y)``, ``(T, M)``, per-bin means removed.
        bin_mean_p: the per-bin means that were removed from p, ``(M,)``: a wrong reshape mixes bins, so it is undone
            on the values as they were.
    """
    lag_sums = np.zeros((len(LAGS), 3))
    flip = np.zeros(3)
    shape_y: list[np.ndarray] = []
    shape_p: list[np.ndarray] = []
    for p, y in centred:
        length = p.shape[0]
        for row, lag in enumerate(LAGS):
            if abs(lag) >= length:
                continue
            a = p[max(0, lag) : length + min(0, lag)].ravel()
            b = y[max(0, -lag) : length - max(0, lag)].ravel()
            lag_sums[row] += (np.dot(a, b), np.dot(a, a), np.dot(b, b))
        turned = np.ascontiguousarray(p[:, ::-1]).ravel()
        flat = y.ravel()
        flip += (np.dot(turned, flat), np.dot(turned, turned), np.dot(flat, flat))
        shape_p.append(np.ascontiguousarray(p + bin_mean_p).reshape(p.shape[1], length).T)
        shape_y.append(y)
    mean = sum(p.sum(axis=0) for p in shape_p) / sum(p.shape[0] for p in shape_p)
    reshaped = np.zeros(3)
    for p, y in zip(shape_p, shape_y, strict=True):
        q = p - mean
        reshaped += (float((q * y).sum()), float((q * q).sum()), float((y * y).sum()))
    return StructureProbe({lag: _r(lag_sums[row]) for row, lag in enumerate(LAGS)}, _r(flip), _r(reshaped))


def _r(sums: np.ndarray) -> float:
    scale = np.sqrt(sums[1] * sums[2])
    return float(sums[0] / scale) if scale > 0 else 0.0
