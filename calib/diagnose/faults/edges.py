"""Whether a mapped prediction keeps to a floor or a ceiling, as one that was trained on mels cut there does."""

from __future__ import annotations

import numpy as np

from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.sample import Sample
from calib.diagnose.faults.score import Terms

__all__ = ["edge_cost"]

_VALUES = 60_000  # enough to tell shares of a per cent
_SEEN = 0.004  # share of values beyond an edge below which nothing is to be seen there
_UNSEEN = 6.0  # nats


def edge_cost(sample: Sample, edge: tuple[float, int], terms: Terms) -> float:
    """Nats for a floor or ceiling that the prediction does not keep to, less a bonus where it clearly does.

    A healthy prediction of the same spread passes the edge about as often as the target would if it were shrunk as
    much; one that was trained on mels cut there hardly does.

    Args:
        sample: the frames.
        edge: its value in the target's scale; -1 for a floor, 1 for a ceiling.
        terms: the map of the prediction to the target's scale.
    """
    f = FROZEN
    value, side = edge
    spread_p, spread_y, sd = sample.spread
    step = max(1, sample.p.size // _VALUES)
    slope, intercept = float(np.mean(terms.slope)), float(np.mean(terms.intercept))
    p = sample.p.ravel()[::step] * slope + intercept
    y = sample.y
    ratio = min(abs(slope) * spread_p / max(spread_y, 1e-30), 1.0)
    mean = np.broadcast_to(y.mean(axis=0), y.shape).ravel()[::step]
    healthy = mean + ratio * (y.ravel()[::step] - mean)
    slack = 0.02 * sd
    beyond = float((side * (p - value) > slack).mean())
    expected = float((side * (healthy - value) > slack).mean())
    if expected < _SEEN:
        return _UNSEEN
    # A cut heaps values up at the edge; a tail falls off towards it.
    width = 0.15 * sd
    inside = side * (value - p)
    at, before = (float((np.abs(inside - away) <= width / 2).mean()) for away in (0.0, 1.5 * width))
    heap = at / max(before, 1e-6)
    # Below a floor there is hardly ever less than expected; above a ceiling there is, because peaks are missed anyway.
    bonus = f.edge_bonus * min(expected / 0.01, 1.0) * max(0.0, 1.0 - 2.0 * beyond / expected) if side < 0 else 0.0
    passed = f.edge_weight * max(beyond / expected - f.edge_share, 0.0)
    return -bonus + passed + 8.0 * max(f.edge_pile - heap, 0.0)
