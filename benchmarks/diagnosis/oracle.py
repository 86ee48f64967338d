"""What is really so of a case: whether a calibration repairs it, and how well each calibrator does.

Both are scored on *fresh* utterances of the same case: the same model and faults, other speech.

Conventions:
    Errors are mean squared, over the within-bin variance of the fresh targets; 1 is the error of the per-bin mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from benchmarks.diagnosis.cases import CaseData

__all__ = ["calibrators", "repair"]

TOLERANCE = 1.1  # times the fault-free model's error: repaired
MIN_SKILL = 0.05


def _relative(predicted: np.ndarray, y: np.ndarray) -> float:
    return float(np.square(predicted - y).mean() / np.square(y - y.mean(0)).mean())


def repair(data: CaseData) -> dict[str, Any]:
    """Fit least squares on the case's utterances, for all bins together and for each bin, and apply it to the fresh ones.

    Returns:
        ``before``, ``after`` (one scale and offset), ``after_by_bin`` (one for each bin), ``clean`` (the fault-free
        model's error), ``constant`` (of the case's per-bin means), ``repairable``: one of the two is within 10 % of clean,
        and its skill against the constant is above .05; and ``needed``: before is not within 10 % of clean.
    """
    p, y, fresh_p, fresh_y = (
        np.concatenate(arrays).astype(np.float64)
        for arrays in (data.predictions, data.targets, data.fresh_predictions, data.fresh_targets)
    )
    variance = float(p.var())
    slope = float(((p - p.mean()) * (y - y.mean())).mean() / variance) if variance > 0 else 0.0
    after = _relative(slope * (fresh_p - p.mean()) + y.mean(), fresh_y)
    spread = p.var(0)
    slopes = np.divide(((p - p.mean(0)) * (y - y.mean(0))).mean(0), spread, out=np.zeros_like(spread), where=spread > 0)
    by_bin = _relative(slopes * (fresh_p - p.mean(0)) + y.mean(0), fresh_y)
    constant = _relative(np.broadcast_to(y.mean(0), fresh_y.shape), fresh_y)
    best = min(after, by_bin)
    return {
        "before": _relative(fresh_p, fresh_y),
        "after": after,
        "after_by_bin": by_bin,
        "clean": data.clean_error,
        "constant": constant,
        "needed": bool(_relative(fresh_p, fresh_y) > TOLERANCE * data.clean_error),
        "repairable": bool(best <= TOLERANCE * data.clean_error and 1.0 - best / constant > MIN_SKILL),
    }


def calibrators(diagnosis: Any, data: CaseData) -> dict[str, dict[str, float]]:
    """How far every fit of the diagnosis, and the one that it chose, are off on the fresh utterances.

    Returns:
        ``target``: error against the target, which a model's own error is part of and shrinking helps;
        ``restored``: against what the fault-free model says, which is what a calibration should bring back, whatever
        the kind of model (empty where it cannot be had). Both by name: ``chosen`` is ``diagnosis.calibration``, a
        callable map; ``before`` is none; ``constant`` the per-bin mean of the case's targets; the rest is
        ``diagnosis.fits``: a mapping or sequence of things with ``name``, ``slope`` and ``intercept`` (numbers, or one
        a bin), or, of a diagnosis without it, the rows of its table.
    """
    p = np.concatenate(data.fresh_predictions).astype(np.float64)
    y = np.concatenate(data.fresh_targets).astype(np.float64)
    made = {
        "constant": np.broadcast_to(np.concatenate(data.targets).astype(np.float64).mean(0), y.shape),
        "before": p,
    }
    if diagnosis.rows:
        for fit in _fits(diagnosis):
            if fit.slope is not None and fit.name not in _CONSTANTS:
                made[str(fit.name)] = p * np.asarray(fit.slope) + np.asarray(fit.intercept)
        made["chosen"] = np.asarray(diagnosis.calibration(p))
    out = {"target": {name: _relative(mel, y) for name, mel in made.items()}, "restored": {}}
    if data.fresh_clean is not None and [len(x) for x in data.fresh_clean] == [len(x) for x in data.fresh_targets]:
        clean = np.concatenate(data.fresh_clean).astype(np.float64)
        out["restored"] = {name: _relative(mel, clean) for name, mel in made.items()}
    return out


_CONSTANTS = frozenset({"before", "zero", "global_mean", "bin_mean", "utterance_mean", "persistence"})


def _fits(diagnosis: Any) -> Iterable[Any]:
    fits = getattr(diagnosis, "fits", None) or diagnosis.rows
    return fits.values() if isinstance(fits, Mapping) else fits
