"""How sure the errors of the table are: intervals over utterances, for each error and for its difference to a constant.

With e_u the mean absolute error of utterance u and n_u its frames, the error is the ratio ``sum n_u e_u / sum n_u``, and::

    se^2     = G / (G - 1) * sum_u n_u^2 (e_u - e)^2 / (sum_u n_u)^2
    interval = e -+ t_.975(G* - 1) * se        G* = (sum n_u)^2 / sum n_u^2, the effective number of utterances

The fits are taken as they are: each utterance is scored by fits that did not see it, and those are not made anew.

References:
    W. G. Cochran, Sampling Techniques (1977), 2.11: variance of a ratio.
    L. Kish, Survey Sampling (1965): the effective number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calib.diagnose.analysis import Diagnosis
from calib.diagnose.verdict import GATE

__all__ = ["LEAST_UTTERANCES", "Margin", "Margins", "margins"]

LEAST_UTTERANCES = 5
_LEVEL = 0.975


@dataclass(frozen=True)
class Margin:
    """An error, or a difference of two, with its 95 % interval.

    Args:
        value: estimate, in the unit of the target mel.
        low: lower limit.
        high: upper limit.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Margins:
    """Intervals of the errors.

    Args:
        before: as it is.
        after: after the fit (the same where there is nothing to calibrate).
        constant: of the best constant.
        gain: error after the fit less that of the best constant, paired by utterance; below 0 the fit is better.
        needed: what ``gain`` must be below for a file to be written: (GATE - 1) times the constant's error.
    """

    before: Margin
    after: Margin
    constant: Margin
    gain: Margin
    needed: float


def margins(d: Diagnosis) -> Margins | str:
    """Intervals of the errors of a diagnosis, or why there are none."""
    rows = d.utterances
    if len(rows) < LEAST_UTTERANCES:
        found = "1 utterance" if len(rows) == 1 else f"{len(rows)} utterances"
        return f"{found}; an interval over utterances needs {LEAST_UTTERANCES}"
    n = np.array([u.n_frames for u in rows], dtype=np.float64)
    before, after, constant = (
        np.array([getattr(u, name) for u in rows], dtype=np.float64)
        for name in ("mae_before", "mae_after", "mae_constant")
    )
    if not all(np.isfinite(values).all() for values in (before, after, constant)):
        return "an utterance has no finite error"
    level = _margin(constant, n)
    return Margins(
        _margin(before, n), _margin(after, n), level, _margin(after - constant, n), (GATE - 1.0) * level.value
    )


def _margin(values: np.ndarray | Sequence[float], frames: np.ndarray) -> Margin:
    from scipy.special import stdtrit

    e, total, count = np.asarray(values), float(frames.sum()), len(frames)
    mean = float((frames * e).sum() / total)
    se = float(np.sqrt(count / (count - 1) * (frames**2 * (e - mean) ** 2).sum())) / total
    half = float(stdtrit(max(total**2 / float((frames**2).sum()) - 1.0, 1.0), _LEVEL)) * se
    return Margin(mean, mean - half, mean + half)
