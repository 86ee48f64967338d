r"""By how much a prediction is late at slow and at fast modulation: a lean to the previous frame is no delay.

A model that sees the previous true frame is late by itself, by up to .9 of a frame: what the text does not tell comes
from one frame ago. So its prediction is a mixture ``a y[t-1] + (1 - a) y[t]`` whose share ``a`` grows with the modulation
frequency, because text tells the slow movements and not the fast ones. A misplaced frame instead moves *everything* by the
same time. With the cross spectrum ``S_py(f)`` the delay of a band is the time that turns its phase to zero; then

    healthy, seeing the previous frame      0 <= slow <= hi <= top, and top near 1 (never beyond: there is nothing older)
    healthy, seeing none                    all 0
    late by d                               all larger by d: fast modulation later than a frame
    early by d                              all smaller by d: slow modulation earlier than the target, which no model is

and, where both patterns would do, the lag of a healthy model is its uncertainty: it makes at most about a quarter of the
squared error (reference model at 5 %: .27), where a misplaced frame of a good model makes half of it.

Conventions:
    Delays are in frames, positive where the prediction is late. Frames are ``(N, M)``, centred and whitened.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.sample import Correlation, Sample, jackknife_error

__all__ = ["Band", "Delays", "delays", "lag_share", "misplacement"]

_SEGMENT = 64  # frames
_BANDS = ((1, 10), (11, 20), (20, 30))  # of the segment's frequencies: to 13, 15 to 26 and 27 to 39 Hz at hop 256
_REACH, _STEP = 1.25, 0.1  # frames around the peak of the correlation that are searched: fast bands repeat after 2.2
_FEWEST = 4  # groups of the jackknife
_NEAR = (-1.3, 2.3)  # frames: a peak further out is no lean
_LEAST_R, _FAST_R = 0.4, 0.6  # of slow modulation, and of fast
_SLOW, _FAST, _SOME = 0.35, 0.25, 0.18  # coherence below which a band says nothing
_EARLY, _LATE = -0.08, 1.22  # frames beyond which no healthy model's slow and fast modulation lie
_SHARE = 0.33  # of the squared error
_WHOLE = 0.88  # frames: a copy of the previous frame is as late as that at any frequency
_FRACTION = 0.28  # of a frame: nearer to a whole one is that
_TOP = 0.95  # frames: delay of the fastest modulation of a healthy model that sees the previous frame
_RISING = 0.35  # frames by which it then lies above the slow one
_LEFT = (
    0.06  # power of fast modulation, over that of slow, below which it was smoothed away and its phases are side lobes
)
_FALLING = 0.3  # frames: what chance makes of the order
_SURE = 3.0  # jackknife standard errors


@dataclass(frozen=True)
class Band:
    """One band of modulation frequencies.

    Args:
        at: delay.
        error: its jackknife standard error.
        coherence: mean magnitude of the coherency: below a limit the delay means nothing.
        power: of the prediction over the target's.
    """

    at: float
    error: float
    coherence: float
    power: float


@dataclass(frozen=True)
class Delays:
    """Delays at slow, fast and fastest modulation."""

    slow: Band
    hi: Band
    top: Band


def delays(sample: Sample, x: np.ndarray, y: np.ndarray, near: float) -> Delays | None:
    """Measure them.

    Args:
        sample: the utterances.
        x: the prediction, centred and whitened.
        y: the target, the same.
        near: frames by which the correlation says that the prediction is late.

    Returns:
        None where no utterance is long enough, or too few to say how sure it is.
    """
    window = np.hanning(_SEGMENT + 2)[1:-1].astype(np.float32)[:, None]
    begins = zip(sample.bounds[:-1], sample.lengths, strict=True)
    first = np.concatenate([a + np.arange(0, max(n - _SEGMENT + 1, 0), _SEGMENT // 2) for a, n in begins]).astype(int)
    group = np.searchsorted(sample.starts, first, side="right") - 1
    if np.unique(group).size < _FEWEST:
        return None
    sums = np.zeros((len(first), 3, _SEGMENT // 2 + 1), dtype=complex)
    for at in range(0, len(first), 32):  # a few segments at a time stay in the cache
        rows = first[at : at + 32, None] + np.arange(_SEGMENT)
        a, b = np.fft.rfft(x[rows] * window, axis=1), np.fft.rfft(y[rows] * window, axis=1)
        products = [np.einsum("sfm,sfm->sf", u, v.conj()) for u, v in ((a, b), (a, a), (b, b))]
        sums[at : at + 32] = np.stack(products, axis=1)
    grouped = np.stack([sums[group == g].sum(0) for g in np.unique(group)])
    return Delays(*(_band(grouped, low, high, near) for low, high in _BANDS))


def _band(grouped: np.ndarray, low: int, high: int, near: float) -> Band:
    total = grouped.sum(0)
    at, coherence = _delay(total, low, high, near)
    left_out, _ = _delay(total - grouped, low, high, near)
    power = total[1:, low:high].real.sum(1)
    return Band(float(at), jackknife_error(left_out), float(coherence), float(power[0] / max(power[1], 1e-30)))


def _delay(sums: np.ndarray, low: int, high: int, near: float) -> tuple[np.ndarray, np.ndarray]:
    """``(...)`` delay and coherence of ``(..., 3, F)`` sums of py*, pp*, yy*.

    Each frequency counts with its gain, so that the side lobes of a prediction that was smoothed as well, whose sign is
    turned, count little.
    """
    tried = near + np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
    omega = 2.0 * np.pi * np.arange(low, high) / _SEGMENT
    power = np.sqrt(np.abs(sums[..., 1, low:high] * sums[..., 2, low:high]))
    coherency = sums[..., 0, low:high] / np.maximum(power, 1e-30)
    gain = sums[..., 0, low:high] / np.maximum(np.abs(sums[..., 2, low:high]), 1e-30)
    turned = np.real(gain[..., None, :] * np.exp(1j * omega * tried[:, None])).sum(-1)
    k = np.clip(turned.argmax(-1), 1, tried.size - 2)[..., None]
    left, mid, right = (np.take_along_axis(turned, k + d, -1)[..., 0] for d in (-1, 0, 1))
    bend = np.minimum(left - 2.0 * mid + right, -1e-12)
    vertex = np.clip(0.5 * (left - right) / bend, -1.0, 1.0)
    return tried[k[..., 0]] + _STEP * vertex, np.abs(coherency).mean(-1)


def lag_share(lags: dict[int, Correlation], peak: int) -> tuple[float, float]:
    """Share of the squared error that the lag makes, and its jackknife standard error.

    Both errors are those of the best line: ``1 - r²`` at lag 0, and at the vertex of the parabola through the peak.

    Args:
        lags: correlations by lag, from ``peak - 1`` to ``peak + 1`` and 0.
        peak: where they are largest.
    """

    def share(own: np.ndarray, left: np.ndarray, mid: np.ndarray, right: np.ndarray) -> np.ndarray:
        bend = np.minimum(left - 2.0 * mid + right, -1e-12)
        top = mid - 0.25 * (left - right) * np.clip(0.5 * (left - right) / bend, -0.5, 0.5)
        return np.asarray((top**2 - own**2) / np.maximum(1.0 - own**2, 1e-9))

    chosen = [lags[0], *(lags[peak + d] for d in (-1, 0, 1))]
    value = share(*(np.array(c.value) for c in chosen))
    return float(value), jackknife_error(share(*(c.left_out for c in chosen)))


def misplacement(
    found: Delays, lags: dict[int, Correlation], peak: int, position: float, autoregressive: bool | None
) -> tuple[float, float, str] | None:
    """Whether a model that sees, or may see, the previous true frame is later or earlier than its nature explains.

    Args:
        found: its delays.
        lags: correlations by lag.
        peak: where they are largest.
        position: frames by which the prediction is late.
        autoregressive: True, or None where it is not known.

    Returns:
        Frames by which it is misplaced (of which a fraction near a half is half a hop), how sure that is in standard
        errors, and the evidence; or None.
    """
    if abs(lags[peak].value) < _LEAST_R or not _NEAR[0] < position < _NEAR[1]:
        return None
    slow, hi, top = found.slow, found.hi, found.top
    if hi.power < _LEFT * slow.power:
        return None
    text = f"slow modulation is {slow.at:+.2f} frames late, fast {hi.at:+.2f}, the fastest {top.at:+.2f}"
    fast = [band for band in (hi, top) if band.coherence >= _FAST and band.at > _LATE + _SURE * band.error]
    if hi.at < slow.at - _FALLING or abs(lags[peak].value) < _FAST_R:
        fast = []  # phases of chance: of fast modulation a weak model says nothing, and what leans is not later where slow
    if slow.coherence >= _SLOW and slow.at < _EARLY - _SURE * slow.error:
        sure = (_EARLY - slow.at) / max(slow.error, 1e-3)
        return _amount(found, position, autoregressive, -0.5), sure, f"{text}: no model hears what is still to come"
    if fast:
        sure = max((band.at - _LATE) / max(band.error, 1e-3) for band in fast)
        return _amount(found, position, autoregressive, 0.5), sure, f"{text}: later than the previous frame"
    if not position > _FRACTION or slow.at > _WHOLE:
        return None
    share, error = lag_share(lags, peak)
    if share > _SHARE + 2.0 * error:
        why = f"the lag of {position:.2f} frames makes {share:.0%} of the squared error: no uncertain model's lean does"
        return 0.5, (share - _SHARE) / max(error, 1e-3) + 1.0, f"{text}; {why}"
    least = 1.0 - 0.75 * (1.0 - slow.at) - 0.1
    if _FRACTION < slow.at < 1.0 - _FRACTION and hi.coherence >= _SOME and hi.at < least - _SURE * hi.error:
        return 0.5, (least - hi.at) / max(hi.error, 1e-3), f"{text}: late alike, where a lean grows"
    return None


def _amount(found: Delays, position: float, autoregressive: bool | None, least: float) -> float:
    """Frames by which everything is moved: the fastest modulation of a model that leans comes from one frame ago."""
    top = found.top
    leans = autoregressive or top.at - found.slow.at > _RISING
    moved = top.at - _TOP if leans and top.coherence >= _FAST else position
    return moved if abs(moved) > _FRACTION and moved * least > 0 else least
