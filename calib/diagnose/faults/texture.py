"""What the model itself does to detail: smoothing over time or frequency, copying, and what no model does.

Murphy's conditional bias by frequency. A conditional-mean model is a Wiener filter: its spectrum is the target's times
the coherence, so the least-squares gain ``g = Re S_py / S_pp`` is 1 at every modulation frequency; a sampler's is the
coherence, below 1. A linear filter *after* the model leaves the coherence and divides the gain by its response. So what
an inverse filter would remove, ``sum (g - 1)^2 S_pp`` over ``g > 1``, as a share of the squared error, is small for any
healthy model and large for a smoothed one. A sampler has the target's power at every frequency: there a loss of power
says it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.sample import Sample, jackknife_error

__all__ = ["Spectrum", "Texture", "measure"]

_SEGMENT = 64  # frames
_TINY = 1e-12
_HARDLY = 0.005  # of the target's power: less than that is none
_ECHO = range(10, 41)  # frames
_CURVE_BINS = 24
_SURE = 2.5  # jackknife standard errors
_FEWEST = 16  # bins: in fewer there is no detail over bins


@dataclass(frozen=True)
class Spectrum:
    """Cross spectrum over modulation frequency or quefrency.

    Args:
        removable: share of the squared error that an inverse filter would remove.
        error: its jackknife standard error.
        power: prediction over target, in the low, middle and high third of what speech has.
        coherence: the same of the squared coherence.
        rough: power in the middle or high part over the target's, where the target has any to speak of.
        held: share of steps at which the prediction stands still exactly, or moves exactly in a line.
    """

    removable: float
    error: float
    power: tuple[float, float, float]
    coherence: tuple[float, float, float]
    rough: float
    held: float

    @property
    def sampler(self) -> bool:
        """Whether the power is the target's where the coherence is not: what a conditional mean never has."""
        coherence = self.coherence[0]
        # Nearer to the target's than to that of a conditional mean, which is the coherence.
        return self.power[0] > max(1.2 * coherence + 0.05, math.sqrt(coherence))

    def cut_off(self, *, in_time: bool) -> str | None:
        """Why the power falls faster than any model's knowledge does, or None.

        What models know of speech falls gently: over quefrency by 1.6 in logit an octave early in training, over
        modulation frequency with (f / 12 Hz)². From one part to the next that is a factor of four at most; a mean of
        neighbours has a zero there.
        """
        f = FROZEN
        low, middle, high = self.power
        if in_time:
            steep = middle < f.fall_time * low
            text = f"power in the middle of the modulation is {middle / max(low, _TINY):.3f} of that in slow modulation"
            return f"{text}: no uncertainty falls so fast over {{what}}" if steep else None
        if high < f.fall_frequency * middle or middle < f.fall_broad * low:
            return f"power falls from {low:.3f} of the target's to {middle:.3f} and {high:.4f}: too fast over {{what}}"
        return None


@dataclass(frozen=True)
class Texture:
    """What each axis shows after the best explanation is undone.

    Args:
        time: over modulation frequency; None where no utterance is long enough.
        frequency: over quefrency; None where bins are too few.
        innovation: slope of ``p_t - y_(t-1)`` on ``y_t - y_(t-1)``: how much of what is new in a frame is predicted;
            near 0 where the prediction is the last frame.
        copied: correlation with the previous true frame.
        own: correlation with the own one.
        echo: how much better the target some frames back is matched than the one as far ahead, for sure; largest over
            lags.
        misplaced: share of bins that match a target bin more than three away better than their own.
        curved: share of the target's variance that a curve explains beyond a line.
        bin_drop: correlation of the worst eighth of the bins (neighbours) over that of the best.
        steps: share of distinct values among the prediction's (rounded storage has few).
    """

    time: Spectrum | None
    frequency: Spectrum | None
    innovation: float
    copied: float
    own: float
    echo: float
    misplaced: float
    curved: float
    bin_drop: float
    steps: float


def measure(sample: Sample, p: np.ndarray, y: np.ndarray, dead: np.ndarray) -> Texture:
    """Measure a mapped prediction against its target.

    Args:
        sample: the utterances.
        p: the prediction ``(N, M)`` after the best map.
        y: the target ``(N, M)``.
        dead: ``(M,)`` bins to leave out.
    """
    if dead.any() and not dead.all():
        p, y = p[:, ~dead], y[:, ~dead]
    size = float(y.std())
    if size > 0.0:  # the same answer in any unit
        p, y = p / size, y / size
    pc, yc = sample.centre(p), sample.centre(y)
    r = (pc * yc).mean(0) / np.sqrt(np.maximum((pc**2).mean(0) * (yc**2).mean(0), _TINY))
    ahead = sample.owner[1:] == sample.owner[:-1]
    return Texture(
        time=_time(sample, p, pc, yc, ahead),
        frequency=_frequency(sample, p, pc, yc) if p.shape[1] >= _FEWEST else None,
        innovation=_innovation(p, y, ahead),
        copied=sample.at_lag(pc, yc, 1).value,
        own=sample.correlation(pc, yc).value,
        echo=_echo(sample, pc, yc),
        misplaced=_misplaced(pc, yc),
        curved=_curved(p, y),
        bin_drop=_drop(r),
        steps=_distinct(p),
    )


def _innovation(p: np.ndarray, y: np.ndarray, ahead: np.ndarray) -> float:
    """Slope of what the prediction adds to the last true frame on what is really new."""
    step_p, step_y = (p[1:] - y[:-1])[ahead], (y[1:] - y[:-1])[ahead]
    step_p, step_y = step_p - step_p.mean(0), step_y - step_y.mean(0)
    scale = float((step_y**2).sum())
    return float((step_p * step_y).sum()) / scale if scale > _TINY else 0.0


def _time(sample: Sample, p: np.ndarray, pc: np.ndarray, yc: np.ndarray, ahead: np.ndarray) -> Spectrum | None:
    """Over modulation frequency, in windowed segments of one utterance each."""
    window = np.hanning(_SEGMENT + 2)[1:-1].astype(np.float32)[:, None]
    begins = zip(sample.bounds[:-1], sample.lengths, strict=True)
    first = np.concatenate([a + np.arange(0, max(n - _SEGMENT + 1, 0), _SEGMENT // 2) for a, n in begins])
    if not first.size:
        return None
    sums = np.zeros((len(first), 3, _SEGMENT // 2 + 1))
    for at in range(0, len(first), 32):  # a few segments at a time stay in the cache
        rows = first[at : at + 32, None] + np.arange(_SEGMENT)
        a, b = np.fft.rfft(pc[rows] * window, axis=1), np.fft.rfft(yc[rows] * window, axis=1)
        products = [np.einsum("sfm,sfm->sf", u, v.conj()).real for u, v in ((a, b), (a, a), (b, b))]
        sums[at : at + 32] = np.stack(products, axis=1)
    group = np.searchsorted(sample.starts, first, side="right") - 1
    grouped = np.stack([sums[group == g].sum(0) for g in np.unique(group)])
    return _spectrum(grouped, (1, 4, 8, 14, 28), _held(p, 0, ahead))


def _frequency(sample: Sample, p: np.ndarray, pc: np.ndarray, yc: np.ndarray) -> Spectrum:
    """Over quefrency: the DCT of each frame."""
    from scipy.fft import dct

    a, b = dct(pc, axis=1, norm="ortho"), dct(yc, axis=1, norm="ortho")
    products = [np.add.reduceat(u * v, sample.starts, axis=0, dtype=np.float64) for u, v in ((a, b), (a, a), (b, b))]
    m = pc.shape[1]
    shares = (0.0125, 0.0625, 0.2, 0.4, 0.6)
    edges = tuple(int(np.clip(round(share * m), k + 1, m)) for k, share in enumerate(shares))
    return _spectrum(np.stack(products, axis=1), edges, _held(p, 1, None))


def _spectrum(grouped: np.ndarray, edges: tuple[int, ...], held: float) -> Spectrum:
    """From ``(G, 3, F)`` sums of py, pp, yy; edges of the low, (one left out,) middle and high parts."""
    total = grouped.sum(0)
    left_out = [_removable(total - part, edges) for part in grouped] if len(grouped) > 1 else [0.0]
    parts = [(edges[0], edges[1]), (edges[2], edges[3]), (edges[3], edges[4])]
    low, middle, high = (total[:, start : max(stop, start + 1)].sum(1) for start, stop in parts)
    # Where the target has hardly any power, a little more is no roughness.
    some = _HARDLY * float(total[2].sum())
    rough = [float(pp / max(yy + some, _TINY)) for _, pp, yy in (middle, high)]
    return Spectrum(
        removable=_removable(total, edges),
        error=jackknife_error(np.array(left_out)),
        power=(_power(low), _power(middle), _power(high)),
        coherence=(_coherence(low), _coherence(middle), _coherence(high)),
        rough=max(rough),
        held=held,
    )


def _power(sums: np.ndarray) -> float:
    """Of the prediction over the target's."""
    _, pp, yy = sums
    return float(pp / max(yy, _TINY))


def _coherence(sums: np.ndarray) -> float:
    """Squared."""
    py, pp, yy = sums
    return float(py * py / max(pp * yy, _TINY))


def _removable(total: np.ndarray, edges: tuple[int, ...]) -> float:
    """Share of the squared error that a gain above 1, and above that of the broad shape, would remove."""
    py, pp, yy = total
    gain = py / np.maximum(pp, _TINY)
    broad = slice(edges[0], edges[1])
    base = max(1.0, float(py[broad].sum() / max(pp[broad].sum(), _TINY)))
    error = float((pp + yy - 2 * py)[1:].sum())
    return float((np.maximum(gain - base, 0.0)[1:] ** 2 * pp[1:]).sum() / max(error, _TINY))


def _held(p: np.ndarray, axis: int, ahead: np.ndarray | None) -> float:
    """Share of exact repeats, or of exact straight lines, along an axis: no network makes them, interpolation does.

    Floors are exact repeats too: values at the extremes of the prediction do not count.
    """
    scale = 1e-4 * float(p.std()) + _TINY
    inner = (p > p.min() + scale) & (p < p.max() - scale)
    step = np.diff(p, axis=axis)
    valid = inner[1:] if axis == 0 else inner[:, 1:]
    if ahead is not None:
        valid = valid & ahead[:, None]
    count = max(int(valid.sum()), 1)
    still = float((np.abs(step) < scale)[valid].sum()) / count
    bend = np.abs(np.diff(step, axis=axis))
    inside = valid[1:] if axis == 0 else valid[:, 1:]
    straight = float((bend < scale)[inside].sum()) / max(int(inside.sum()), 1)
    return max(still, straight)


def _echo(sample: Sample, pc: np.ndarray, yc: np.ndarray) -> float:
    m = pc.shape[1]
    width = 4 if m % 4 == 0 else 1
    a, b = (x.reshape(len(x), -1, width).mean(2) for x in (pc, yc))
    best = 0.0
    for lag in _ECHO[::3]:
        if sample.lengths.min() <= 2 * lag:
            break
        back, ahead = sample.at_lag(a, b, lag), sample.at_lag(a, b, -lag)
        error = jackknife_error(back.left_out - ahead.left_out)
        best = max(best, back.value - ahead.value - _SURE * error)
    return best


def _misplaced(pc: np.ndarray, yc: np.ndarray) -> float:
    a, b = (x / np.maximum(x.std(0), 1e-6) for x in (pc, yc))
    cross = np.abs(a.T @ b) / len(a)
    own = np.array([cross[k, max(0, k - 3) : k + 4].max() for k in range(len(cross))])
    return float((cross.max(1) > 1.15 * own + 0.03).mean())


def _curved(p: np.ndarray, y: np.ndarray) -> float:
    """Correlation ratio of the target on the prediction, less the squared correlation, in cells of equal count."""
    step = max(1, p.size // 400_000)
    a, b = p.ravel()[::step].astype(np.float64), y.ravel()[::step].astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    edges = np.quantile(a, np.linspace(0, 1, _CURVE_BINS + 1)[1:-1])
    cell = np.searchsorted(edges, a)
    count = np.bincount(cell, minlength=_CURVE_BINS)
    mean = np.bincount(cell, b, minlength=_CURVE_BINS) / np.maximum(count, 1)
    explained = float((count * mean**2).sum()) / max(float((b * b).sum()), _TINY)
    line = float((a * b).sum()) ** 2 / max(float((a * a).sum()) * float((b * b).sum()), _TINY)
    return max(explained - line, 0.0)


def _drop(r: np.ndarray) -> float:
    width = max(1, r.size // 8)
    means = np.convolve(r, np.ones(width) / width, mode="valid")
    return float(means.min() / max(means.max(), 1e-6))


def _distinct(p: np.ndarray) -> float:
    part = p.ravel()[:50_000]
    return np.unique(part).size / max(part.size, 1)
