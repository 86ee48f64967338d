"""The competition of forms and maps: what is named where two explanations lie near each other."""

from __future__ import annotations

import numpy as np
from speechlike import mel_field, prediction

from calib.diagnose.faults.candidates import Competition
from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.geometry import BankGeometry
from calib.diagnose.faults.library import FAULTS
from calib.diagnose.faults.sample import Sample
from calib.diagnose.faults.transforms import Form


def test_an_offset_that_no_healthy_model_shows_is_a_gain_and_a_small_one_is_nothing() -> None:
    """Between what *unknown* begins at and what a fitted offset costs there is no gap in which neither is said."""
    targets = [mel_field(100 + 3 * k, 60 + k) for k in range(8)]
    predictions = [prediction(y, 0.9, k) for k, y in enumerate(targets)]
    geometry = BankGeometry(targets[0].shape[1], declared=False, warps=())
    dead = np.zeros(targets[0].shape[1], dtype=bool)
    beyond, said = [], []
    for offset in np.linspace(0.0, 1.2, 25):
        sample = Sample([(p + np.float32(offset), y) for p, y in zip(predictions, targets, strict=True)])
        best = Competition(sample, geometry, [], None, dead, frozenset(FAULTS)).ranked([Form()])[0]
        beyond.append(best.cost.level > FROZEN.unknown_level)
        said.append(best.faults)
    assert not any(beyond)
    assert said[0] == ()
    assert said[-1] == ("gain",)
