"""What the model itself does to detail: smoothing over time or frequency, dead bins, copying of the previous frame.

Murphy's conditional bias by frequency. A conditional-mean model is a Wiener filter: its spectrum is the target's times
the coherence, so the least-squares gain ``Re S_py / S_pp`` is 1 at every modulation frequency; a sampler's is the
coherence, below 1. A linear filter *after* the model leaves the coherence and divides the gain by its response: gains
above 1 at high modulation frequencies (or high quefrencies) say smoothing, whatever the model's quality.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.sample import Sample

__all__ = ["BandGain", "Texture", "measure"]

_SEGMENT = 64  # frames
_TIME_BANDS = ((0.02, 0.05), (0.05, 0.08), (0.08, 0.11), (0.11, 0.145), (0.145, 0.2), (0.2, 0.3), (0.3, 0.5))  # cycles a frame
_TINY = 1e-12


@dataclass(frozen=True)
class BandGain:
    """Cross spectrum in one band.

    Args:
        gain: ``Re S_py / S_pp``.
        error: its jackknife standard error.
        coherence: ``|S_py|^2 / (S_pp S_yy)``.
        power: ``S_pp / S_yy``.
    """

    gain: float
    error: float
    coherence: float
    power: float


@dataclass(frozen=True)
class Texture:
    """Low, middle and high bands over time and over frequency, and what each bin does.

    Args:
        time: bands of modulation frequency, slowest first.
        frequency: bands of quefrency, coarsest first.
        bin_spread: ``(M,)`` sd of the prediction over that of the target, by bin.
        bin_r: ``(M,)`` correlation by bin.
        innovation: slope of ``p_t - y_(t-1)`` on ``y_t - y_(t-1)``: how much of what is new in a frame is predicted;
            near 0 where the prediction is the last frame.
        copied: correlation with the previous true frame.
        own: correlation with the own one.
    """

    time: tuple[BandGain, ...]
    frequency: tuple[BandGain, ...]
    bin_spread: np.ndarray
    bin_r: np.ndarray
    innovation: float
    copied: float
    own: float


def measure(sample: Sample, p: np.ndarray, y: np.ndarray, dead: np.ndarray) -> Texture:
    """Measure a mapped prediction against its target, ``(N, M)`` both, on the sample's utterances, but for dead bins."""
    if dead.any() and not dead.all():
        p, y = p[:, ~dead], y[:, ~dead]
    pc, yc = sample.centre(p), sample.centre(y)
    spread = np.sqrt((pc**2).mean(0) / np.maximum((yc**2).mean(0), _TINY))
    r = (pc * yc).mean(0) / np.sqrt(np.maximum((pc**2).mean(0) * (yc**2).mean(0), _TINY))
    ahead = sample.owner[1:] == sample.owner[:-1]
    step_p, step_y = (p[1:] - y[:-1])[ahead], (y[1:] - y[:-1])[ahead]
    step_p, step_y = step_p - step_p.mean(0), step_y - step_y.mean(0)
    scale = float((step_y**2).sum())
    return Texture(
        _time(sample, pc, yc),
        _frequency(sample, pc, yc),
        spread,
        r,
        float((step_p * step_y).sum()) / scale if scale > _TINY else 0.0,
        sample.at_lag(pc, yc, 1).value,
        sample.correlation(pc, yc).value,
    )


def _time(sample: Sample, pc: np.ndarray, yc: np.ndarray) -> tuple[BandGain, ...]:
    window = np.hanning(_SEGMENT + 2)[1:-1].astype(np.float32)[:, None]
    starts = [a + k for a, n in zip(sample.bounds[:-1], sample.lengths, strict=True) for k in range(0, max(n - _SEGMENT + 1, 0), _SEGMENT // 2)]  # fmt: skip
    if not starts:
        return ()
    first = np.array(starts)
    sums = np.zeros((len(first), 3, _SEGMENT // 2 + 1))
    for at in range(0, len(first), 64):  # a few segments at a time stay in the cache
        rows = first[at : at + 64, None] + np.arange(_SEGMENT)
        a, b = np.fft.rfft(pc[rows] * window, axis=1), np.fft.rfft(yc[rows] * window, axis=1)
        sums[at : at + 64] = np.stack([np.einsum("sfm,sfm->sf", u, v.conj()).real for u, v in ((a, b), (a, a), (b, b))], axis=1)  # fmt: skip
    group = np.searchsorted(sample.starts, first, side="right") - 1
    grouped = np.stack([sums[group == g].sum(0) for g in np.unique(group)])
    frequency = np.arange(_SEGMENT // 2 + 1) / _SEGMENT
    return tuple(_band(grouped[..., (frequency >= low) & (frequency < high + 1e-9)].sum(-1)) for low, high in _TIME_BANDS)


def _frequency(sample: Sample, pc: np.ndarray, yc: np.ndarray) -> tuple[BandGain, ...]:
    from scipy.fft import dct

    a, b = dct(pc, axis=1, norm="ortho"), dct(yc, axis=1, norm="ortho")
    grouped = np.stack([np.add.reduceat(u * v, sample.starts, axis=0) for u, v in ((a, b), (a, a), (b, b))], axis=1)  # (G, 3, M)
    m = pc.shape[1]
    edges = (1, max(2, m // 8), max(3, m * 3 // 10), max(4, m * 6 // 10))
    return tuple(_band(grouped[..., low:high].sum(-1)) for low, high in zip(edges[:-1], edges[1:], strict=True))


def _band(sums: np.ndarray) -> BandGain:
    """From ``(G, 3)`` sums of py, pp, yy."""
    total = sums.sum(0)
    left = total - sums
    gain = float(total[0] / max(total[1], _TINY))
    gains = left[:, 0] / np.maximum(left[:, 1], _TINY)
    count = len(gains)
    error = float(np.sqrt((count - 1) / count * ((gains - gains.mean()) ** 2).sum())) if count > 1 else float("inf")
    return BandGain(gain, error, float(total[0] ** 2 / max(total[1] * total[2], _TINY)), float(total[1] / max(total[2], _TINY)))
