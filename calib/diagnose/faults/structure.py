"""How the arrays lie, and time: flips, reshapes, shifts, drift. What is undone here does not depend on units.

Every test asks the same of the centred, whitened frames: does the correlation with the target rise when this fault is
undone, by more than its jackknife error over utterances?
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.sample import Correlation, Sample, correlations, whitened

Change = Callable[[np.ndarray], np.ndarray]
Undo = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

__all__ = ["Relation", "Step", "Undo", "linear", "relation", "undo_arrays"]

_ARRAYS_LIFT, _ARRAYS_R = 0.12, 0.22
_MOVES = 0.32  # sd within bins, over that of all values, below which an array cannot have been reshaped
_SURE = 3.5  # jackknife standard errors
_HEAVY = 0.5  # sd: a median below that is of values without a logarithm
_GUARD = 1e-3  # of the median, before a logarithm that is taken to look
_PLAIN, _SOME = 0.45, 0.2  # r of an utterance that is beyond doubt, and the share of such that is


def _nothing(p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return p, y


@dataclass
class Step:
    """What one stage found and undid.

    Args:
        sample: with the fault undone.
        faults: ids, empty where nothing was found.
        label: the detail, for people.
        sure: jackknife standard errors of the lift.
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
    undo: Undo = _nothing
    stretch: float = 1.0
    lag: float = 0.0


@dataclass(frozen=True)
class Relation:
    """Whether prediction and target have anything to do with each other.

    Args:
        r: correlation within utterance and bin, bins alike.
        limit: what unrelated utterances reach.
        some: share of the utterances that are related to their own target beyond doubt, whatever the others are.
    """

    r: float
    limit: float
    some: float = 0.0

    @property
    def exists(self) -> bool:
        """Above what unrelated utterances reach, together or in a part of them."""
        return abs(self.r) > self.limit or self.some >= _SOME


def relation(sample: Sample) -> Relation:
    """The correlation and its null: other utterances' targets, or far shifts where there are fewer than five.

    Of values without a logarithm only the loudest few would count, so these are compared as logarithms too, and what shows
    more holds.
    """
    found = _related(sample)
    if not (linear(sample.p) or linear(sample.y)):
        return found
    other = _related(sample.replaced(lambda p, y: (_logarithm(p, sample.p), _logarithm(y, sample.y))))
    return other if other.exists and abs(other.r) > abs(found.r) else found


def linear(values: np.ndarray) -> bool:
    """Whether values may be without a logarithm: none negative, and most of them far below the sd."""
    return bool(values.min() >= 0.0 and float(np.median(values)) < _HEAVY * float(values.std()))


def _logarithm(part: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of values that may be linear; others as they are."""
    if not linear(values):
        return part
    return np.asarray(np.log(np.maximum(part, np.float32(_GUARD * max(float(np.median(values)), 1e-30)))))


def _related(sample: Sample) -> Relation:
    x, y = whitened(sample.pc), whitened(sample.yc)
    null, some = [], 0.0
    if len(sample) >= 5:
        xs, ys = sample.cut(x), sample.cut(y)
        singles = []
        for step in range(1, min(len(sample), 13)):
            sums = np.zeros((len(xs), 3))
            for k, a in enumerate(xs):
                b = ys[(k + step) % len(ys)]
                n = min(len(a), len(b))
                a, b = a[:n], b[:n]  # noqa: PLW2901 - cut to one length
                sums[k] = np.vdot(a, b), np.vdot(a, a), np.vdot(b, b)
            null.append(Correlation(sums).value)
            singles.append(np.abs(correlations(sums)))
        own = np.abs(correlations(sample.by_utterance(sample.rows(x, y))))
        some = float((own > max(_PLAIN, _beyond(np.array(singles), 4.0))).mean())
    else:
        for share in np.linspace(0.2, 0.8, 13):
            rolled = np.concatenate([np.roll(part, int(share * len(part)), axis=0) for part in sample.cut(x)])
            null.append(sample.correlation(rolled, y).value)
    size = np.abs(np.array(null))
    least = FROZEN.least_r if len(sample) >= 4 else 0.05
    return Relation(sample.correlation(x, y).value, float(max(least, _beyond(size, 3.0))), some)


def _beyond(null: np.ndarray, sds: float) -> float:
    """So many sds above the mean of a null, without the top sixth: in a list that is off by one they are no strangers."""
    values = np.sort(null, axis=None)
    kept = values[: values.size - values.size // 6]
    return float(kept.mean() + sds * kept.std())


def _flipped(mel: np.ndarray) -> np.ndarray:
    return mel[:, ::-1]


def _from_mt(mel: np.ndarray) -> np.ndarray:
    return np.asarray(np.ascontiguousarray(mel).reshape(mel.shape[1], -1).T)


def _from_tm(mel: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(mel.T).reshape(mel.shape)


# What an array may be: the fault, what undoes it, and the way back.
_WAYS: dict[str, tuple[str, Change, Change]] = {
    "the bins in reverse order": ("flipped-bins", _flipped, _flipped),
    "the memory of an (M, T) array": ("reshaped", _from_mt, _from_tm),
    "the memory of a (T, M) array read as (M, T)": ("reshaped", _from_tm, _from_mt),
}


def _of_prediction(change: Change) -> Undo:
    return lambda p, y: (change(p), y)


def _of_target(change: Change) -> Undo:
    return lambda p, y: (p, change(y))


def undo_arrays(sample: Sample, library: frozenset[str]) -> Step:
    """Bins in reverse order, and (M, T) memory read as (T, M), either way round.

    Args:
        sample: the frames as they came.
        library: faults that may be named.
    """
    own = sample.correlation(whitened(sample.pc), whitened(sample.yc))
    best = Step(sample)
    for label, (fault, change, reverse) in _WAYS.items():
        if fault not in library or (fault == "reshaped" and _still(sample)):
            continue
        undo = _of_prediction(change)
        turned = sample.replaced(undo)
        found = turned.correlation(whitened(turned.pc), whitened(turned.yc))
        lift, sure = abs(found.value) - abs(own.value), found.beats(own)
        if lift > max(_ARRAYS_LIFT, best.lift) and abs(found.value) > _ARRAYS_R and sure > _SURE:
            text = f"r {own.value:.3f} as it is, {found.value:.3f} read as {label}"
            detail = label
            if _strange(sample, fault, target=True) > _strange(sample, fault, target=False):
                # The target is what lies wrongly: put that right, so that later stages see time and bins as they are.
                undo = _of_target(reverse)
                detail = f"the target is {next(text for text, way in _WAYS.items() if way[1] is reverse)}"
                text = f"r {own.value:.3f} as it is, {found.value:.3f} with both alike; the target is what lies wrongly"
                turned = sample.replaced(undo)
            best = Step(turned, (fault,), detail, sure, lift, [text], undo)
    return best


def _still(sample: Sample) -> bool:
    """Whether either array hardly moves within its bins, beside how the bins differ.

    In a reshaped array every column holds all bins, and moves as much as those differ. Of a fixed spectrum any order
    of the values looks like speech to one that is as steady.
    """
    spreads = (
        (float(centred.std()), float(mel.std())) for mel, centred in ((sample.p, sample.pc), (sample.y, sample.yc))
    )
    return any(inside < _MOVES * whole for inside, whole in spreads)


def _strange(sample: Sample, fault: str, *, target: bool) -> float:
    """How unlike a mel an array lies: frames or bins that jump, or a spectrum that rises."""
    mel, centred = (sample.y, sample.yc) if target else (sample.p, sample.pc)
    if fault == "reshaped":
        # Read as (M, T), frames run along the bins and are as smooth; the bins then lie T / M frames apart.
        slow, near = sample.at_lag(centred, centred, 1).value, 1.0
        if sample.n_mels > 1:
            near = sample.correlation(centred[:, 1:], centred[:, :-1]).value
        return -min(slow, near)
    spectrum = mel.mean(axis=0, dtype=np.float64)
    bins = np.linspace(-1.0, 1.0, spectrum.size)
    return float(bins @ spectrum) / max(float(np.sqrt(bins @ bins) * spectrum.std() * spectrum.size**0.5), 1e-9)
