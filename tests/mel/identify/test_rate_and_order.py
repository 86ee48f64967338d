"""Mels at a rate above that of their audio, and mels whose bins are turned round."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from calib.errors import RefusedError
from calib.mel.catalogue import catalogue
from calib.mel.frontend import FrontEnd
from calib.mel.identify.writing import described
from tests.identifying import asked, audio


def at(rate: int, **fields: object) -> FrontEnd:
    return dataclasses.replace(catalogue()["hifigan"].frontend, sample_rate=rate, fb_sample_rate=rate, **fields)


def test_a_rate_above_that_of_the_audio_is_found_where_the_lower_one_cannot_hold_the_bank() -> None:
    """22,050 Hz recordings for a 24,000 Hz vocoder; half of 12,000 Hz, which has a whole hop too, lies below fmax."""
    truth = at(24000)
    found = asked(truth, audio(seconds=8), rate=22050)
    values = {name: found.fields[name].value for name in ("sample_rate", "hop_length", "n_fft", "mel_scale", "power")}
    assert values == {"sample_rate": 24000, "hop_length": 256, "n_fft": 1024, "mel_scale": "slaney", "power": 1}
    assert found.fields["fmax"].value == pytest.approx(8000, abs=2)
    assert found.error_db is not None
    assert found.error_db < 0.05


def test_a_lower_rate_is_held_where_it_explains_the_mel() -> None:
    found = asked(at(12000, fmax=6000.0, hop_length=128, n_fft=512, win_length=512), audio(seconds=8), rate=22050)
    assert found.fields["hop_length"].value == 128
    assert found.fields["sample_rate"].value == 12000


@pytest.mark.parametrize("name", ["hifigan", "tacotron2", "espnet"])
def test_bins_in_reverse_order_are_said_to_be_and_identified(name: str) -> None:
    truth = catalogue()[name].frontend
    samples = audio(truth.sample_rate, seconds=5)
    straight, turned = (asked(truth, samples, mel=truth.mel(samples)[:, ::step]) for step in (1, -1))
    assert not straight.reversed_bins
    assert "reverse" not in straight.headline
    assert turned.reversed_bins
    assert turned.names == straight.names
    assert "bins in reverse order" in turned.headline
    assert any("mel[:, ::-1]" in note for note in turned.notes)
    assert turned.to_json()["reversed_bins"] is True
    with pytest.raises(RefusedError, match="from high to low"):
        described(turned)


def test_noise_has_no_order() -> None:
    truth = catalogue()["hifigan"].frontend
    noise = np.random.default_rng(0).normal(size=truth.mel(audio()).shape).astype(np.float32)
    assert not asked(truth, audio(), mel=noise).reversed_bins
