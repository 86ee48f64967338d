"""How the arrays lie, and time: flips, reshapes, shifts, drift. What is undone here does not depend on units.

Every test asks the same of the centred, whitened frames: does the correlation with the target rise when this fault is
undone, by more than its jackknife error over utterances?
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.sample import Correlation, Sample, whitened

Undo = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

__all__ = ["Relation", "Step", "relation", "undo_arrays", "undo_time"]

_LAGS = range(-8, 9)
_LIFT = 0.04  # of r, least
_ARRAYS_LIFT, _ARRAYS_R = 0.12, 0.22
_SURE = 3.5  # jackknife standard errors
_FRACTION = 0.28  # of a frame: nearer to 0 is no shift
_STRETCHES = np.round(np.concatenate([np.arange(-0.12, 0.121, 0.01), [1 / 1.0884 - 1, 0.0884]]), 4)
_RATES = (0.4594, 0.5, 0.6891, 0.7256, 0.9188, 1.0884, 1.3782, 1.4512, 2.0, 2.1769)


@dataclass
class Step:
    """What one stage found and undid.

    Args:
        sample: with the fault undone.
        faults: ids, empty where nothing was found.
        label: the detail, for people.
        sure: jackknife standard errors of the lift (infinite for what cannot be chance).
        lift: of the correlation.
        evidence: what was measured, for people.
        undo: of one utterance's ``(p, y)``.
        stretch: how many target frames pass in one predicted frame (1: none).
        lag: frames that the prediction is late by.
    """

    sample: Sample
    faults: tuple[str, ...] = ()
    label: str = ""
    sure: float = 0.0
    lift: float = 0.0
    evidence: list[str] = field(default_factory=list)
    undo: Undo = lambda p, y: (p, y)  # noqa: E731 - nothing
    stretch: float = 1.0
    lag: float = 0.0


@dataclass(frozen=True)
class Relation:
    """Whether prediction and target have anything to do with each other.

    Args:
        r: correlation within utterance and bin, bins alike.
        limit: what unrelated utterances reach.
    """

    r: float
    limit: float

    @property
    def exists(self) -> bool:
        """Above what unrelated utterances reach."""
        return abs(self.r) > self.limit


def relation(sample: Sample) -> Relation:
    """The correlation and its null: other utterances' targets, or far shifts where there are fewer than five."""
    x, y = whitened(sample.pc), whitened(sample.yc)
    null = []
    if len(sample) >= 5:
        xs, ys = sample.cut(x), sample.cut(y)
        for step in range(1, min(len(sample), 13)):
            sums = np.zeros(3)
            for k, a in enumerate(xs):
                b = ys[(k + step) % len(ys)]
                n = min(len(a), len(b))
                a, b = a[:n], b[:n]  # noqa: PLW2901 - cut to one length
                sums += (np.vdot(a, b), np.vdot(a, a), np.vdot(b, b))
            null.append(Correlation(sums[None]).value)
    else:
        for share in np.linspace(0.2, 0.8, 13):
            rolled = np.concatenate([np.roll(part, int(share * len(part)), axis=0) for part in sample.cut(x)])
            null.append(sample.correlation(rolled, y).value)
    size = np.abs(np.array(null))
    least = FROZEN.least_r if len(sample) >= 4 else 0.05
    return Relation(sample.correlation(x, y).value, float(max(least, size.mean() + 3.0 * size.std())))


def undo_arrays(sample: Sample, library: frozenset[str]) -> Step:
    """Bins in reverse order, and (M, T) memory read as (T, M), either way round."""
    own = sample.correlation(whitened(sample.pc), whitened(sample.yc))
    tries = {
        "the bins in reverse order": ("flipped-bins", lambda p: p[:, ::-1]),
        "the memory of an (M, T) array": ("reshaped", lambda p: np.ascontiguousarray(p).reshape(p.shape[1], -1).T),
        "the memory of a (T, M) array read as (M, T)": ("reshaped", lambda p: np.ascontiguousarray(p.T).reshape(p.shape)),
    }  # fmt: skip
    best = Step(sample)
    for label, (fault, undo) in tries.items():
        if fault not in library:
            continue
        back: Undo = lambda p, y, undo=undo: (undo(p), y)  # noqa: E731 - kept in the step
        turned = sample.replaced(back)
        found = turned.correlation(whitened(turned.pc), whitened(turned.yc))
        lift, sure = abs(found.value) - abs(own.value), found.beats(own)
        if lift > max(_ARRAYS_LIFT, best.lift) and abs(found.value) > _ARRAYS_R and sure > _SURE:
            text = f"r {own.value:.3f} as it is, {found.value:.3f} read as {label}"
            best = Step(turned, (fault,), label, sure, lift, [text], back)
    return best


def undo_time(sample: Sample, library: frozenset[str], autoregressive: bool | None) -> Step:
    """A shift by whole frames or a fraction of one, or a drift."""
    x, y = whitened(sample.pc), whitened(sample.yc)
    lags = {lag: sample.at_lag(x, y, lag) for lag in _LAGS}
    own = lags[0]
    drift = _drift(sample, x, y)
    if drift is not None and "time-stretch" in library:
        factor, stretched, start, found = drift
        best_lag = max(abs(c.value) for c in lags.values())
        if abs(found.value) - best_lag > _LIFT and found.beats(start) > _SURE:
            text = f"r {own.value:.3f} as it is, {found.value:.3f} with the prediction {'slowed' if factor < 1 else 'sped up'} by {abs(factor - 1):.1%}"
            return Step(stretched, ("time-stretch",), f"{factor:.4f} target frames in one predicted frame", found.beats(start), abs(found.value) - abs(start.value), [text], lambda p, y: stretch(p, y, factor), factor)  # fmt: skip
    peak = max(lags, key=lambda lag: (abs(lags[lag].value), -abs(lag)))
    top = lags[peak]
    position = peak + _vertex(lags, peak)
    nature = autoregressive is not False and -_FRACTION < position < 1.0 + _FRACTION
    whole = round(position)
    if nature or abs(position) < _FRACTION:
        return Step(sample, lag=position)
    text = f"the correlation peaks {position:+.2f} frames from where it should ({top.value:.3f} there, {own.value:.3f} at 0)"
    half = abs(abs(position) - 0.5) <= 0.5 - _FRACTION
    if half and "half-hop" in library and abs(position) < 1:
        sure = _position_sure(lags, peak, position)
        if sure > _SURE:
            undo: Undo = lambda p, y: _halved(p, y, position)  # noqa: E731 - kept in the step
            return Step(sample.replaced(undo), ("half-hop",), f"{position:+.2f} frames", sure, abs(top.value) - abs(own.value), [text], undo, lag=position)  # fmt: skip
        return Step(sample, lag=position)
    sure = top.beats(own)
    if whole and "shift" in library and sure > _SURE:
        back: Undo = lambda p, y: _moved(p, y, whole)  # noqa: E731 - kept in the step
        return Step(sample.replaced(back), ("shift",), f"{whole:+d} frames", sure, abs(top.value) - abs(own.value), [text], back, lag=float(whole))  # fmt: skip
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
    left, mid, right = (np.abs(lags[peak + d].left_out) if peak + d in lags else np.abs(lags[peak].left_out) for d in (-1, 0, 1))  # fmt: skip
    bend = left - 2 * mid + right
    places = peak + np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, 1.0), 0.0)
    count = places.size
    error = float(np.sqrt((count - 1) / count * ((places - places.mean()) ** 2).sum()))
    return abs(position) / max(error, 1e-3)


def _moved(p: np.ndarray, y: np.ndarray, late: int) -> tuple[np.ndarray, np.ndarray]:
    return (p[late:], y[: len(y) - late]) if late > 0 else (p[: len(p) + late], y[-late:])


def _halved(p: np.ndarray, y: np.ndarray, late: float) -> tuple[np.ndarray, np.ndarray]:
    """The *target* moved by a fraction of a frame: both sides are then smoothed alike by the interpolation."""
    n = np.arange(len(y)) - late
    inside = (n >= 0) & (n <= len(y) - 1)
    return p[inside], _at(y, n[inside])


def _at(mel: np.ndarray, frames: np.ndarray) -> np.ndarray:
    low = np.clip(np.floor(frames).astype(int), 0, len(mel) - 2)
    share = (frames - low)[:, None].astype(np.float32)
    return np.asarray((1 - share) * mel[low] + share * mel[low + 1])


def stretch(p: np.ndarray, y: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """The prediction at the target's times: frame t of the target lies at ``t / factor`` of the prediction."""
    n = np.arange(len(y)) / factor
    inside = n <= len(p) - 1
    return _at(p, n[inside]), y[inside]


def _drift(sample: Sample, x: np.ndarray, y: np.ndarray) -> tuple[float, Sample, Correlation, Correlation] | None:
    """The best stretch, or None where 1 is best."""
    # Neighbouring bins say the same about time: a quarter of them is enough to look with.
    width = 4 if sample.n_mels % 4 == 0 else 1
    low = [a.reshape(len(a), -1, width).mean(axis=2) for a in (x, y)]
    coarse = Sample(list(zip(sample.cut(low[0]), sample.cut(low[1]), strict=True)))
    own = coarse.correlation(coarse.pc, coarse.yc)
    scores = {}
    for factor in (*(1.0 + _STRETCHES), *_RATES):
        if abs(factor - 1.0) < 1e-9:
            continue
        other = coarse.replaced(lambda p, q, f=factor: stretch(p, q, f))  # type: ignore[misc]
        scores[float(factor)] = abs(other.correlation(other.pc, other.yc).value)
    best = max(scores, key=lambda f: scores[f])
    if scores[best] - abs(own.value) < _LIFT:
        return None
    full = sample.replaced(lambda p, q: stretch(p, q, best))
    # The same frames of the unstretched prediction, so that both correlations are of the same groups.
    same = sample.replaced(lambda p, q: (p[: len(stretch(p, q, best)[1])], stretch(p, q, best)[1]))
    start, found = (s.correlation(whitened(s.pc), whitened(s.yc)) for s in (same, full))
    return best, full, start, found
