"""Every fault of the library that pairs or audio can show, by id, and which pairs of them occur together."""

from __future__ import annotations

import numpy as np

from benchmarks.diagnosis.fault_frontend import FRONTEND_FAULTS
from benchmarks.diagnosis.fault_model import MODEL_FAULTS
from benchmarks.diagnosis.fault_units import UNIT_FAULTS
from benchmarks.diagnosis.plan import Injector, Plan
from calib.diagnose.faults.library import FAULTS

__all__ = ["INJECTORS", "PAIRS", "plan_of"]

INJECTORS: dict[str, Injector] = {
    name: {**FRONTEND_FAULTS, **UNIT_FAULTS, **MODEL_FAULTS}[name]
    for name, fault in FAULTS.items()
    if fault.needs in {"pairs", "audio"}
}

# Two faults of different stages, neither of which hides the other: no pair in which one leaves no signal (collapsed,
# untrained, other speech), makes an offset or scale that the other makes too (gain with statistics, area norm with
# gain), or undoes what shows the other.
PAIRS: tuple[tuple[str, str], ...] = (
    ("flipped-bins", "shift"),
    ("flipped-bins", "normalised"),
    ("flipped-bins", "log-base"),
    ("reshaped", "normalised"),
    ("shift", "normalised"),
    ("shift", "log-base"),
    ("shift", "gain"),
    ("shift", "wrong-stats"),
    ("shift", "sign-flipped"),
    ("shift", "level-per-utterance"),
    ("shift", "raised-floor"),
    ("shift", "clipped"),
    ("shift", "area-norm"),
    ("shift", "pre-emphasis"),
    ("shift", "mel-scale"),
    ("shift", "dead-bins"),
    ("shift", "oversmoothed-frequency"),
    ("half-hop", "log-base"),
    ("half-hop", "normalised"),
    ("half-hop", "mel-scale"),
    ("half-hop", "fmax"),
    ("half-hop", "area-norm"),
    ("time-stretch", "normalised"),
    ("time-stretch", "decibel"),
    ("sample-rate", "normalised"),
    ("sample-rate", "log-base"),
    ("mel-scale", "log-base"),
    ("mel-scale", "normalised"),
    ("mel-scale", "decibel"),
    ("mel-scale", "int16-scale"),
    ("fmax", "log-base"),
    ("fmax", "normalised"),
    ("fmin", "log-base"),
    ("area-norm", "log-power"),
    ("area-norm", "log-base"),
    ("area-norm", "decibel"),
    ("pre-emphasis", "decibel"),
    ("pre-emphasis", "normalised"),
    ("equaliser", "log-base"),
    ("dead-bins", "normalised"),
    ("normalised", "oversmoothed-time"),
    ("log-base", "oversmoothed-time"),
    ("decibel", "oversmoothed-frequency"),
)

# The order in which faults come about, from the model to the file: what is wrong with the sound comes before its units.
_ORDER = ("model", "frequency", "units", "time", "arrays")


def plan_of(faults: tuple[str, ...], severity: int, side: str, rng: np.random.Generator) -> Plan:
    """The plan of one case.

    Args:
        faults: ids.
        severity: 1 to 4, of each.
        side: ``prediction`` or ``target``: which array is off.
        rng: draws what the severity leaves open.
    """
    plan = Plan()
    for name in sorted(faults, key=lambda fault: _ORDER.index(FAULTS[fault].stage)):
        injector = INJECTORS[name]
        injector.apply(plan, injector.level(severity), side if side in injector.sides else "prediction", rng)
    return plan
