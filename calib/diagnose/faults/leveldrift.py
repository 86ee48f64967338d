"""A level that drifts along each utterance: the same from start to end in all of them, or the same in each second.

Speech itself falls in level along an utterance, and a model of correlation r knows between nothing and all of that. With
the frame's level a of the prediction and b of the target, both centred by utterance, and ``k = cov(a, b) / r² var(b)``
(the scale of a conditional mean; larger for a sampler), a healthy slope of a over time lies between a share of k times that
of b and all of it. The share grows with what the model knows of the level's other slow movement: 0 below a correlation rho
of .7, 1 - 2 (1 - rho^2) above. What lies outside, by more than its jackknife error over utterances, is a drift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.sample import Sample, jackknife_error
from calib.diagnose.faults.structure import Step, Undo, linear

__all__ = ["Drift", "drift_label", "undo_level_drift"]

_FEWEST = 4  # utterances: in fewer a model's own slow errors look alike
_SURE = 6.0  # jackknife standard errors
_RELATED = 0.4  # r of the frames' levels
_ROOM = 1.15  # times k: how far a healthy slope may pass that of the target
_SAME_UNITS = 0.1  # sd of the target: mean levels that near are in the same units
_SLOW = 32  # frames of a mean: slow movement
_LN10_20 = 8.685889638  # dB for one ln unit of magnitude


@dataclass(frozen=True)
class Drift:
    """A drift in level.

    Args:
        total: from the start to the end of an utterance (its median, where it grows with time), in the prediction's unit.
        rate: for each frame; the median utterance's, where it is the same from start to end.
        by_time: whether it grows with time; else it is the same from start to end whatever the length.
        sure: jackknife standard errors.
        anchor: place in the utterance (0 start, 1 end) at which the level is right.
    """

    total: float
    rate: float
    by_time: bool
    sure: float
    anchor: float = 0.0

    @property
    def text(self) -> str:
        """What was measured."""
        return f"the level of the prediction moves against the target's, {self.sure:.0f} standard errors beyond chance"

    def undo(self, p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The prediction without it."""
        t = np.arange(len(p)) - self.anchor * (len(p) - 1)
        line = self.rate * t if self.by_time else self.total * t / max(len(p) - 1, 1)
        return np.asarray(p - line[:, None], dtype=p.dtype), y


def undo_level_drift(sample: Sample, library: frozenset[str], before: Undo) -> tuple[Step, Drift | None]:
    """The level's drift, found, and undone on top of what ``before`` undoes where it may be named.

    Args:
        sample: arrays and time undone.
        library: faults that may be named.
        before: what was undone of one utterance's ``(p, y)`` before.
    """
    found = _found(sample)
    if found is None or "level-drift" not in library:
        return Step(sample, undo=before), found

    def undo(p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return found.undo(*before(p, y))

    after = sample.replaced(found.undo)
    return Step(after, ("level-drift",), "", found.sure, 0.0, [found.text], undo), found


def drift_label(found: Drift, slope: float, unit: float, frame_seconds: float | None) -> str:
    """For people: how far it goes, by second and from start to end.

    Args:
        found: the drift.
        slope: of the map from the prediction's unit to the target's.
        unit: mel units of the target for one ln unit of magnitude.
        frame_seconds: hop, or None.
    """
    scale = slope / unit * _LN10_20
    whole = f"{scale * found.total:+.1f} dB from start to end"
    each = scale * found.rate
    rate = f"{each * 100:+.2f} dB in 100 frames" if frame_seconds is None else f"{each / frame_seconds:+.2f} dB/s"
    if found.by_time:
        return f"{rate} ({whole} of the median utterance)"
    return f"{whole} in utterances of any length ({rate} in the median one)"


def _found(sample: Sample) -> Drift | None:
    """The drift that is certain, or None."""
    if len(sample) < _FEWEST or any(linear(values) for values in (sample.p, sample.y)):
        return None
    a, b = (centred.mean(axis=1, dtype=np.float64) for centred in (sample.pc, sample.yc))
    aa, bb, ab = (float(x @ z) for x, z in ((a, a), (b, b), (a, b)))
    if aa <= 0.0 or bb <= 0.0 or ab * ab < _RELATED**2 * aa * bb:
        return None
    frames = [np.arange(n) - (n - 1) / 2.0 for n in sample.lengths]
    ways = [np.concatenate([t / max(len(t) - 1, 1) for t in frames]), np.concatenate(frames)]
    best: tuple[float, Drift] | None = None
    for by_time, t in enumerate(ways):
        at, bt, tt = (float(x @ t) for x in (a, b, t))
        line = (at * bb - ab * bt) / max(tt * bb - bt * bt, 1e-12)  # of a = alpha b + line t
        rest = a - line * t
        k = float(rest @ rest) / float(rest @ b)  # cov / (r² var b) without the drift, of the sign of the correlation
        rho = _slow(sample, rest, b - bt / tt * t)
        size, sure = _excess(sample, a, b, t, k, max(0.0, 1.0 - 2.0 * (1.0 - rho * rho)))
        left = a - size * t
        residual = float(((left - (left @ b) / bb * b) ** 2).sum())
        long = float(np.median(sample.lengths)) - 1.0
        total = size * long if by_time else size
        if sure < _SURE or abs(total) < FROZEN.level_drift * abs(k) * sample.spread[1]:
            continue
        drift = Drift(total, size if by_time else size / max(long, 1.0), bool(by_time), sure)
        if best is None or residual < best[0]:
            best = residual, drift
    return None if best is None else _anchored(sample, best[1])


def _slow(sample: Sample, a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two levels in means of 32 frames within utterances; 0 where there are none."""
    edges = [start + k for start, n in zip(sample.bounds[:-1], sample.lengths, strict=True) for k in range(0, n, _SLOW)]
    count = np.diff([*edges, len(a)])
    x, y = (np.add.reduceat(v, edges) / count for v in (a, b))
    xx, yy, xy = (float(np.sum(count * u * v)) for u, v in ((x, x), (y, y), (x, y)))
    return xy / np.sqrt(xx * yy) if xx > 0.0 and yy > 0.0 else 0.0


def _excess(sample: Sample, a: np.ndarray, b: np.ndarray, t: np.ndarray, k: float, known: float) -> tuple[float, float]:
    """Slope of the prediction's level beyond a healthy one, 0 inside, and its jackknife standard errors."""
    starts = sample.starts
    sums = [np.add.reduceat(x, starts) for x in (a * t, b * t, t * t)]
    whole = [float(x.sum()) for x in sums]
    own, true = whole[0] / whole[2], whole[1] / whole[2]
    shares = sorted((known, _ROOM), key=lambda share: share * k * true)
    ends = [share * k * true for share in shares]
    nearest = min(max(own, ends[0]), ends[1])
    if own == nearest:
        return 0.0, 0.0
    share = shares[ends.index(nearest)]  # of what the target does
    rest = [(w - x) for w, x in zip(whole, sums, strict=True)]
    left_out = rest[0] / rest[2] - share * k * rest[1] / rest[2]
    sure = abs(own - nearest) / max(jackknife_error(left_out), 1e-12)
    return own - k * true, sure


def _anchored(sample: Sample, drift: Drift) -> Drift:
    """With the level right at the start, unless the same units fit only at the middle or the end."""
    p, y = (float(x.mean(dtype=np.float64)) for x in (sample.p, sample.y))
    off = [(p - drift.total * (0.5 - place) - y, place) for place in (0.0, 0.5, 1.0)]
    nearest = min(off, key=lambda pair: abs(pair[0]))
    anchor = nearest[1] if abs(nearest[0]) < _SAME_UNITS * sample.spread[1] else 0.0
    return Drift(drift.total, drift.rate, drift.by_time, drift.sure, anchor)
