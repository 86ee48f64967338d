"""Time: shifts, fractions of a frame, drift, and audio read at another sample rate.

A lag is where the correlation of the centred, whitened frames peaks; a drift is a stretch of the prediction that raises
it. Audio at another rate changes both time and frequency: each of the usual ratios is tried with its warp of the bins.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.delays import delays, misplacement
from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.geometry import BankGeometry
from calib.diagnose.faults.sample import Correlation, Sample, jackknife_error, whitened
from calib.diagnose.faults.structure import Step, Undo

__all__ = ["all_ratios", "drift_left", "rate_label", "rate_ratios", "read_off", "stretch", "undo_time"]

_EDGE = 9  # frames
_LAGS = range(-_EDGE, _EDGE + 1)
_LIFT = 0.04  # of r, least
_SURE = 3.0  # jackknife standard errors
_FRACTION = 0.28  # of a frame: nearer to 0 is no shift
_NEARER = 0.75  # frames: below that half a frame is nearer than a whole one
_STRETCHES = tuple(1.0 + k / 100 for k in range(-12, 13) if k)
_LOOKED = 2500  # frames
_SHORTEST = 12  # frames: in less than that no lag can be looked for
_RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000)


@functools.cache
def _ratios() -> dict[float, tuple[int, int]]:
    """Ratios of the usual sample rates between .45 and 2.2, no two nearer than 1 %, with a pair that makes each."""
    found: dict[float, tuple[int, int]] = {}
    for read in (22050, 16000, 24000, 44100, 48000, 32000, 11025, 8000):
        for true in _RATES:
            ratio = true / read
            if true != read and 0.45 <= ratio <= 2.2 and all(abs(ratio / other - 1.0) > 0.01 for other in found):
                found[ratio] = (true, read)
    return dict(sorted(found.items()))


def all_ratios() -> list[float]:
    """Every ratio of sample rates that is tried."""
    return list(_ratios())


def rate_ratios(stretch: float) -> list[float]:
    """Ratios of sample rates that would stretch time so: target frames in one predicted frame."""
    return [ratio for ratio in _ratios() if abs(ratio * stretch - 1.0) < 0.02]


def rate_label(ratio: float) -> str:
    """A ratio for people."""
    true, read = min(_ratios().items(), key=lambda item: abs(item[0] - ratio))[1]
    return f"audio at {ratio:.3f} times the rate it was taken for (as {true} Hz read as {read} Hz)"


def undo_time(
    sample: Sample, library: frozenset[str], autoregressive: bool | None, geometry: BankGeometry | None = None
) -> Step:
    """A shift by whole frames or a fraction of one, or a drift.

    Args:
        sample: the frames, arrays already undone.
        library: faults that may be named.
        autoregressive: as declared.
        geometry: of the target's front end; without it audio at another rate is not looked for.
    """
    if sample.lengths.max() < _SHORTEST:
        return Step(sample)
    x, y = whitened(sample.pc), whitened(sample.yc)
    lags = {lag: sample.at_lag(x, y, lag) for lag in _LAGS}
    if "time-stretch" in library and (step := _undrifted(sample, x, y, lags, geometry)) is not None:
        return step
    peak = max(lags, key=lambda lag: (abs(lags[lag].value), -abs(lag)))
    position = peak + _vertex(lags, peak)
    if autoregressive is not False and (
        step := _beyond_nature(sample, x, y, lags, peak, position, autoregressive, library)
    ):
        return step
    # A model that sees the previous true frame may well be nearer to that.
    nature = autoregressive is not False and -_FRACTION < position < 1.0 + _FRACTION
    if nature or abs(position) < _FRACTION:
        return Step(sample, lag=position)
    return _unshifted(sample, lags, peak, position, library)


def _undrifted(
    sample: Sample, x: np.ndarray, y: np.ndarray, lags: dict[int, Correlation], geometry: BankGeometry | None
) -> Step | None:
    """A drift undone, where that is clearly better than any shift."""
    drift = _drift(sample, x, y, geometry)
    if drift is None:
        return None
    found, start = drift.found, drift.start
    lift = abs(found.value) - max(abs(lag.value) for lag in lags.values())
    if lift <= _LIFT or found.beats(start) <= _SURE or (drift.warped and abs(found.value) <= 0.2):
        return None
    factor = drift.factor
    way = f"{'slowed' if factor < 1 else 'sped up'} by {abs(factor - 1):.1%}"
    moved = " and its bins moved as much" if drift.warped else ""
    text = f"r {lags[0].value:.3f} as it is, {found.value:.3f} with the prediction {way}{moved}"
    return Step(
        drift.sample, ("time-stretch",), f"{factor:.4f} target frames in one predicted frame", found.beats(start),
        abs(found.value) - abs(start.value), [text], lambda p, y: stretch(p, y, factor), factor,
    )  # fmt: skip


def _beyond_nature(
    sample: Sample,
    x: np.ndarray,
    y: np.ndarray,
    lags: dict[int, Correlation],
    peak: int,
    position: float,
    autoregressive: bool | None,
    library: frozenset[str],
) -> Step | None:
    """A shift of a model that leans to the previous frame by itself, where its delays are not those of a lean."""
    if sample.n_frames < FROZEN.few_frames or not -_EDGE < peak < _EDGE:
        return None
    sign = np.float32(np.sign(lags[peak].value) or 1.0)
    found = delays(sample, sign * x, y, position)
    moved = None if found is None else misplacement(found, lags, peak, position, autoregressive)
    if moved is None:
        return None
    amount, sure, text = moved
    whole = round(amount)
    if _FRACTION <= abs(amount) < _NEARER:
        fault, late, undo = "half-hop", amount, _by_half(0.5 if amount > 0 else -0.5)
    else:
        fault, late, undo = "shift", float(whole), _by_whole(whole)
    if fault not in library or not late:
        return None
    label = f"{late:+.2f} frames" if fault == "half-hop" else f"{whole:+d} frames"
    own, top = abs(lags[0].value), abs(lags[peak].value)
    lag = float(whole) if fault == "shift" else position
    return Step(sample.replaced(undo), (fault,), label, sure, top - own, [text], undo, lag=lag)


def _by_half(late: float) -> Undo:
    return lambda p, y: _halved(p, y, late)


def _by_whole(late: int) -> Undo:
    return lambda p, y: _moved(p, y, late)


def _unshifted(
    sample: Sample, lags: dict[int, Correlation], peak: int, position: float, library: frozenset[str]
) -> Step:
    """A shift undone, by whole frames or a fraction of one, where it may be named and is certain."""
    own, top, whole = lags[0], lags[peak], round(position)
    at = f"({top.value:.3f} there, {own.value:.3f} at 0)"
    text = f"the correlation peaks {position:+.2f} frames from where it should {at}"
    lift, placed = abs(top.value) - abs(own.value), _position_sure(lags, peak, position)
    if abs(abs(position) - 0.5) <= 0.5 - _FRACTION:
        if placed > _SURE and "half-hop" in library:
            undo = _by_half(position)
            label = f"{position:+.2f} frames"
            return Step(sample.replaced(undo), ("half-hop",), label, placed, lift, [text], undo, lag=position)
        return Step(sample, lag=position)
    sure = max(top.beats(own), placed)
    if abs(peak) == _EDGE:  # it may well rise further: what has no top here is no shift
        return Step(sample, lag=position)
    if whole and "shift" in library and sure > _SURE:
        back = _by_whole(whole)
        return Step(sample.replaced(back), ("shift",), f"{whole:+d} frames", sure, lift, [text], back, lag=float(whole))
    return Step(sample, lag=position)


def _vertex(lags: dict[int, Correlation], peak: int) -> float:
    """Where the parabola through the peak and its neighbours has its top, in frames from the peak."""
    if peak - 1 not in lags or peak + 1 not in lags:
        return 0.0
    left, mid, right = (abs(lags[peak + d].value) for d in (-1, 0, 1))
    bend = left - 2 * mid + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def _position_sure(lags: dict[int, Correlation], peak: int, position: float) -> float:
    """Jackknife standard errors between the peak's position and 0."""
    left, mid, right = (np.abs(lags.get(peak + d, lags[peak]).left_out) for d in (-1, 0, 1))
    bend = left - 2 * mid + right
    places = peak + np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, 1.0), 0.0)
    return abs(position) / max(jackknife_error(places), 1e-3)


def _moved(p: np.ndarray, y: np.ndarray, late: int) -> tuple[np.ndarray, np.ndarray]:
    """What is left of both when the prediction is moved to where it should be."""
    return (p[late:], y[: len(y) - late]) if late > 0 else (p[: len(p) + late], y[-late:])


def _halved(p: np.ndarray, y: np.ndarray, late: float) -> tuple[np.ndarray, np.ndarray]:
    """The *target* moved by a fraction of a frame: both sides are then smoothed alike by the interpolation."""
    n = np.arange(len(y)) - late
    inside = (n >= 0) & (n <= len(y) - 1)
    return p[inside], _at(y, n[inside])


def read_off(y: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Bins at fractional places by quadratic B-splines: unlike linear interpolation they blur alike everywhere.

    A blur raises r, because detail is what models miss; a warp must not win by that.
    """
    m = y.shape[1]
    middle = np.clip(np.rint(place), 0, m - 1).astype(int)
    f = np.clip(place - middle, -0.5, 0.5).astype(np.float32)
    left, right = np.maximum(middle - 1, 0), np.minimum(middle + 1, m - 1)
    below, own, above = 0.5 * (0.5 - f) ** 2, 0.75 - f**2, 0.5 * (0.5 + f) ** 2
    return np.asarray(below * y[:, left] + own * y[:, middle] + above * y[:, right], dtype=np.float32)


def _at(mel: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Frames at fractional places, interpolated linearly."""
    low = np.clip(np.floor(frames).astype(int), 0, len(mel) - 2)
    share = (frames - low)[:, None].astype(np.float32)
    return np.asarray((1 - share) * mel[low] + share * mel[low + 1])


def stretch(p: np.ndarray, y: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """The prediction at the target's times: frame t of the target lies at ``t / factor`` of the prediction."""
    n = np.arange(len(y)) / factor
    inside = n <= len(p) - 1
    return _at(p, n[inside]), y[inside]


def _coarse(mel: np.ndarray) -> np.ndarray:
    """Means of four bins: neighbouring bins say the same about time."""
    m = mel.shape[1]
    return np.asarray(mel.reshape(len(mel), -1, 4 if m % 4 == 0 else 1).mean(axis=2))


def _stretched_r(sample: Sample, factor: float) -> float:
    """The magnitude of r with the prediction stretched."""
    other = sample.replaced(lambda p, y: stretch(p, y, factor))
    return abs(other.correlation(other.pc, other.yc).value)


@dataclass(frozen=True)
class _Drift:
    """A stretch that raises r.

    Args:
        factor: target frames in one predicted frame.
        sample: with it undone.
        start: the correlation as it was, of the same frames of the target.
        found: the correlation then.
        warped: whether the bins were moved by as much.
    """

    factor: float
    sample: Sample
    start: Correlation
    found: Correlation
    warped: bool


def _drift(sample: Sample, x: np.ndarray, y: np.ndarray, geometry: BankGeometry | None) -> _Drift | None:
    """The best stretch, with or without the warp of a relabelled sample rate; None where none helps."""
    # A few utterances are enough to look with.
    few = int(np.searchsorted(sample.bounds, _LOOKED)) if sample.n_frames > _LOOKED else len(sample)
    x, y, bounds = x[: sample.bounds[few]], y[: sample.bounds[few]], sample.bounds[: few + 1]

    def low(target: np.ndarray) -> Sample:
        sides = (_coarse(x), _coarse(target))
        return Sample([(sides[0][a:b], sides[1][a:b]) for a, b in itertools.pairwise(bounds)])

    plain = low(y)
    own = abs(plain.correlation(plain.pc, plain.yc).value)
    scores: dict[tuple[float, float], float] = {}
    for factor in (*_STRETCHES, *(1.0 / ratio for ratio in _ratios())):
        scores[factor, 1.0] = _stretched_r(plain, factor)
    places = {ratio: None if geometry is None else geometry.relabelled(ratio) for ratio in _ratios()}
    for ratio, place in places.items():
        if place is not None:
            scores[1.0 / ratio, ratio] = _stretched_r(low(read_off(y, place)), 1.0 / ratio)
    best, ratio = max(scores, key=lambda key: scores[key])
    if scores[best, ratio] - own < _LIFT:
        return None
    full = sample.replaced(lambda p, q: stretch(p, q, best))
    # The same frames of the unstretched prediction, so that both correlations are of the same groups.
    same = sample.replaced(lambda p, q: (p[: len(stretch(p, q, best)[1])], stretch(p, q, best)[1]))
    start = same.correlation(whitened(same.pc), whitened(same.yc))
    place = places.get(ratio)
    heard = full.yc if place is None else full.centre(read_off(full.y, place))
    return _Drift(best, full, start, full.correlation(whitened(full.pc), whitened(heard)), place is not None)


def drift_left(sample: Sample, p: np.ndarray, y: np.ndarray) -> float:
    """Frames by which the lag changes from the first third of the utterances to the last; 0 where that is not clear."""
    x, t = whitened(sample.centre(p)), whitened(sample.centre(y))
    ends = []
    for part in (0, 2):
        pairs = []
        for a, b in zip(sample.cut(x), sample.cut(t), strict=True):
            third = len(a) // 3
            if third > 24:
                pairs.append((a[part * third : (part + 1) * third], b[part * third : (part + 1) * third]))
        if not pairs:
            return 0.0
        piece = Sample(pairs)
        lags = {lag: piece.at_lag(piece.pc, piece.yc, lag) for lag in _LAGS}
        peak = max(lags, key=lambda lag: (lags[lag].value, -abs(lag)))
        if lags[peak].value < 0.2:
            return 0.0
        ends.append(peak + _vertex(lags, peak))
    return ends[1] - ends[0]
