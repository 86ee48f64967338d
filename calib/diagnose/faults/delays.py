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
squared error (reference model at 5 %: .27), less in a better model (.07 at r .98), where a misplaced frame of a good model
makes half of it.

*How far a lean goes* is what tells an early half hop in a weak model, whose slow modulation is no earlier than the target.
Where the text says nothing, all that such a model knows is one frame old. Over all bins that is blurred, because the text
tells fine detail over bins at other modulation frequencies than it tells broad shape; so the delay is measured of both
apart, and the latest of them is ``.87 to 1.1`` frames in every healthy model that leans (reference model at 5, 30 and
100 %: .97, .91, .87; over all bins .98, .78, .66). A lean that ends before that began too early.

Conventions:
    Delays are in frames, positive where the prediction is late. Frames are ``(N, M)``, centred and whitened.
"""

from __future__ import annotations

import itertools
import math
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
_TOP = (0.93, 0.98)  # frames: where a healthy lean ends, as it is asked of one that began early and of a late one
_RISING = 0.35  # frames by which it then lies above the slow one
_BROAD, _MIDDLE = 0.04, 0.125  # of the orders of the DCT over bins: broad shape ends there, and what is between
_FEWEST_BINS = 24
_HEARD = 0.3  # coherence from which the delay of one of these says something
_SOON, _SOON_WEAK = 0.86, 0.2  # frames before which no lean ends, and what is taken from that for each unit of 1 - r²
_GOOD = 0.15  # 1 - r² of the model whose lag may make `_SHARE`; of a better one less, as the root
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
    """Delays at slow, fast and fastest modulation.

    Args:
        slow, hi, top: over all bins.
        apart: the same three of the broad shape over bins, and of middling detail; empty where bins are few.
    """

    slow: Band
    hi: Band
    top: Band
    apart: tuple[tuple[Band, Band, Band], ...] = ()

    @property
    def slows(self) -> list[Band]:
        """Slow modulation that says something: over all bins, of broad shape and of middling detail."""
        bands = (self.slow, *(slow for slow, _, _ in self.apart))
        return [band for band in bands if band.coherence >= _SLOW]

    @property
    def first(self) -> float:
        """Delay of the slow modulation that is earliest."""
        return min(band.at for band in (self.slow, *self.slows))

    @property
    def broad(self) -> list[Band]:
        """Fast modulation of the broad shape over bins, which a weak model knows as well."""
        return [band for _, *fast in self.apart[:1] for band in fast if band.coherence >= _HEARD]

    @property
    def end(self) -> Band | None:
        """The latest of the fast modulation, where that of the fastest can be heard at all."""
        if not any(top.coherence >= _HEARD for _, _, top in self.apart):
            return None
        heard = [band for _, *fast in self.apart for band in fast if band.coherence >= _HEARD]
        return max(heard, key=lambda band: band.at)

    def last(self, r: float) -> Band | None:
        """Where the lean of a model of correlation r ends; detail, of which a weak model says nothing, is left out there."""
        end = self.end if r >= _FAST_R else None
        return max(self.broad, key=lambda band: band.at, default=None) if end is None else end


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
    groups = [group == g for g in np.unique(group)]

    def bands(a: np.ndarray, b: np.ndarray) -> tuple[Band, Band, Band]:
        sums = _cross(a, b, first, window)
        grouped = np.stack([sums[which].sum(0) for which in groups])
        slow, hi, top = (_band(grouped, low, high, near) for low, high in _BANDS)
        return slow, hi, top

    from scipy.fft import dct  # here, so that commands that need no faults load no scipy

    m = x.shape[1]
    apart: list[tuple[Band, Band, Band]] = []
    if m >= _FEWEST_BINS:
        edges = (0, round(_BROAD * m), round(_MIDDLE * m))
        orders = [np.ascontiguousarray(dct(a, axis=1, norm="ortho")[:, : edges[-1]]) for a in (x, y)]
        apart = [bands(*(a[:, i:j] for a in orders)) for i, j in itertools.pairwise(edges)]
    return Delays(*bands(x, y), tuple(apart))


def _cross(x: np.ndarray, y: np.ndarray, first: np.ndarray, window: np.ndarray) -> np.ndarray:
    """``(S, 3, F)`` sums over bins of py*, pp*, yy* of the segments that begin at ``first``."""
    sums = np.zeros((len(first), 3, _SEGMENT // 2 + 1), dtype=complex)
    for at in range(0, len(first), 32):  # a few segments at a time stay in the cache
        rows = first[at : at + 32, None] + np.arange(_SEGMENT)
        a, b = np.fft.rfft(x[rows] * window, axis=1), np.fft.rfft(y[rows] * window, axis=1)
        products = [np.einsum("sfm,sfm->sf", u, v.conj()) for u, v in ((a, b), (a, a), (b, b))]
        sums[at : at + 32] = np.stack(products, axis=1)
    return sums


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
    early = [band for band in found.slows if band.at < _EARLY - _SURE * band.error]
    if early:
        sure = max((_EARLY - band.at) / max(band.error, 1e-3) for band in early)
        return (
            _amount(found, found.end, position, autoregressive, -0.5),
            sure,
            f"{text}: no model hears what is still to come",
        )
    fast += [band for band in found.broad if band.at > _LATE + _SURE * band.error]
    if found.first < _FRACTION:
        fast = []  # what is misplaced is so at slow modulation too: phases at fast one are then of a turned sign
    if fast:
        sure = max((band.at - _LATE) / max(band.error, 1e-3) for band in fast)
        end = found.last(abs(lags[peak].value))
        return _amount(found, end, position, autoregressive, 0.5), sure, f"{text}: later than the previous frame"
    if (ended := _ended(found, abs(lags[peak].value), position, autoregressive)) is not None:
        amount, sure, why = ended
        return amount, sure, f"{text}; {why}"
    if not position > _FRACTION or slow.at > _WHOLE:
        return None
    share, error = lag_share(lags, peak)
    limit = _SHARE * min(1.0, math.sqrt((1.0 - lags[peak].value ** 2) / _GOOD))
    if share > limit + 2.0 * error:
        why = f"the lag of {position:.2f} frames makes {share:.0%} of the squared error: no uncertain model's lean does"
        return 0.5, (share - limit) / max(error, 1e-3) + 1.0, f"{text}; {why}"
    least = 1.0 - 0.75 * (1.0 - slow.at) - 0.1
    if _FRACTION < slow.at < 1.0 - _FRACTION and hi.coherence >= _SOME and hi.at < least - _SURE * hi.error:
        return 0.5, (least - hi.at) / max(hi.error, 1e-3), f"{text}: late alike, where a lean grows"
    return None


def _ended(found: Delays, r: float, position: float, autoregressive: bool | None) -> tuple[float, float, str] | None:
    """Whether a lean ends before the previous frame: frames by which it is moved, how sure, and why."""
    end = found.end
    if end is None or not _leans(found, end, autoregressive):
        return None
    soon = _SOON - _SOON_WEAK * (1.0 - r * r)
    if end.at < soon - _SURE * end.error:
        sure = (soon - end.at) / max(end.error, 1e-3)
        return (
            _amount(found, found.end, position, autoregressive, -0.5),
            sure,
            f"its lean ends {end.at:.2f} frames back, not at one",
        )
    return None


def _amount(found: Delays, end: Band | None, position: float, autoregressive: bool | None, least: float) -> float:
    """Frames by which everything is moved: where a lean ends lies one frame ago."""
    if end is None or not _leans(found, end, autoregressive):
        leans = autoregressive or found.top.at - found.slow.at > _RISING
        end = found.top if leans and found.top.coherence >= _FAST else None
    moved = position if end is None else end.at - _TOP[least > 0]
    return moved if abs(moved) > _FRACTION and moved * least > 0 else least


def _leans(found: Delays, end: Band, autoregressive: bool | None) -> bool:
    """Whether it is seen to lean: fast modulation is later than slow, or a model that can has slow modulation late.

    A model so good that the text tells it fast modulation too has all delays alike, wherever it was put.
    """
    return end.at - found.first > _RISING or (autoregressive is True and found.first > _FRACTION)
