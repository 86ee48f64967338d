"""What is noticed beside the verdict, in words, and qualifies "healthy"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from calib.diagnose.moments import Moments
from calib.diagnose.nulls import NullDistribution, StructureProbe

__all__ = ["Noticed", "serious"]

_PER_BIN_GAIN = 0.1
_EXTREME = 50.0  # sd
_COPYING = 0.99
_SAME = 0.02  # of the target's sd: no model predicts speech that well


@dataclass(frozen=True)
class Noticed:
    """What the notes look at.

    Args:
        moments: of the units.
        null: r_w under no relation.
        probe: r_w by lag.
        low_p: least value of the prediction.
        high_p: largest.
        mae: after the chosen fit, out of sample.
        mae_persistence: of the previous true frame.
        autoregressive: as the model declares.
        by_bin: whether what is written has a map for each bin.
        known: what else speaks against "healthy", from outside the arrays.
    """

    moments: Moments
    null: NullDistribution
    probe: StructureProbe
    low_p: float
    high_p: float
    mae: float
    mae_persistence: float
    autoregressive: bool | None
    by_bin: bool = False
    known: tuple[str, ...] = ()


def serious(n: Noticed) -> Iterator[str]:
    """What qualifies a healthy verdict."""
    yield from n.known
    s = n.moments.summary()
    if float(s.mse) <= (_SAME * float(s.s_y)) ** 2:
        yield (
            f"identical: the prediction is the target but for {np.sqrt(float(s.mse)) / float(s.s_y):.2g} of its sd, which no "
            "model of speech reaches: a folder paired with itself, or a model that sees the frame that it predicts"
        )
    if float(s.r_w) < -n.null.limit:
        yield "the prediction is upside down (r is negative): look for a sign error, or mean and sd exchanged"
    gain = n.moments.per_bin_share() - float(s.removable_share(sample_like=False))
    if gain > _PER_BIN_GAIN and abs(float(s.r_w)) > n.null.limit:
        yield (
            f"a scale and offset for each bin {'remove' if n.by_bin else 'would remove'} {gain:.0%} of the squared error more "
            "than the global ones: level or gain differ by bin (another filterbank, an equaliser, per-bin statistics)"
        )
    reach = max(n.high_p - float(s.m_p), float(s.m_p) - n.low_p)
    if float(s.s_p) > 0 and reach > _EXTREME * float(s.s_p):
        yield (
            f"the prediction holds extreme values ({n.low_p:.4g} to {n.high_p:.4g}, sd {float(s.s_p):.4g}): "
            "they alone can decide r and the fit"
        )
    copied, own = n.probe.by_lag[1], n.probe.by_lag[0]
    if n.autoregressive is True and copied > _COPYING and copied > own:
        yield (
            f"copying: the prediction is nearly the previous true frame (r {copied:.3f} with it, {own:.3f} with its own): "
            "teacher forcing shows it the answer, free running will not"
        )
    if n.autoregressive is True and n.mae >= n.mae_persistence:
        yield (
            f"persistence: the previous true frame, which the model is given, has MAE {n.mae_persistence:.3f} by itself, the "
            f"model {n.mae:.3f}: it makes less of its input than handing it on would"
        )
