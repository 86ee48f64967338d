"""Detail: what a mean of neighbours does to the spectrum, which no model's uncertainty does."""

from __future__ import annotations

import numpy as np
import planted
import pytest
from scipy.ndimage import uniform_filter1d

from calib.diagnose.faults.sample import Sample
from calib.diagnose.faults.texture import Spectrum, measure


def spectra(*, r: float, size: int = 1, axis: int = 0, kind: str = "mean") -> tuple[Spectrum, Spectrum]:
    """Over time and over bins, of a model's predictions after a mean of ``size`` neighbours."""
    predictions = planted.modelled(planted.mels(), r=r, kind=kind)
    pairs = [
        (uniform_filter1d(p, size, axis=axis) if size > 1 else p, y)
        for p, y in zip(predictions, planted.mels(), strict=True)
    ]
    sample = Sample(pairs)
    found = measure(sample, sample.p, sample.y, np.zeros(80, dtype=bool))
    assert found.time is not None
    assert found.frequency is not None
    return found.time, found.frequency


@pytest.mark.parametrize("kind", ["mean", "sample"])
@pytest.mark.parametrize("r", [0.6, 0.8, 0.95])
def test_what_a_healthy_model_does_not_know_falls_gently(r: float, kind: str) -> None:
    time, frequency = spectra(r=r, kind=kind)
    assert time.cut_off(in_time=True) is None
    assert frequency.cut_off(in_time=False) is None


@pytest.mark.parametrize("size", [5, 7, 13])
@pytest.mark.parametrize("r", [0.6, 0.95])
def test_a_mean_of_frames_cuts_off_at_any_quality(r: float, size: int) -> None:
    time, frequency = spectra(r=r, size=size)
    assert "modulation" in (time.cut_off(in_time=True) or "")
    assert frequency.cut_off(in_time=False) is None


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("r", [0.6, 0.95])
def test_a_mean_of_bins_cuts_off_at_any_quality(r: float, size: int) -> None:
    time, frequency = spectra(r=r, size=size, axis=1)
    assert "too fast" in (frequency.cut_off(in_time=False) or "")
    assert time.cut_off(in_time=True) is None
