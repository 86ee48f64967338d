"""Guards of odd kinds, and answers for which there was too little time: neither may be claimed wrongly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from calib.errors import RefusedError
from calib.mel.frontend import FrontEnd
from calib.mel.identify import Clip, Found, Identification, described
from calib.mel.identify.budget import Budget
from calib.mel.identify.identifying import examine
from calib.mel.identify.placing import place
from calib.mel.identify.saying import say
from tests.identifying import RATE, asked, audio


def wrong(result: Identification, truth: FrontEnd) -> list[str]:
    """Fields that are claimed without the truth among their alternatives."""

    def far(item: Found, value: object) -> bool:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and isinstance(item.value, (int, float)):
            return abs(item.value - value) > max(2e-3 * abs(value), 1e-12)
        return item.value != value

    out = []
    for name, item in result.fields.items():
        value = getattr(truth, name, None)
        if value is None or item.value is None or item.confounded or item.confidence < 0.5:
            continue
        inside = item.interval is not None and item.interval[0] <= value <= item.interval[1]
        if far(item, value) and not inside:
            out.append(f"{name}: {item.value} for {value}")
    return out


@pytest.mark.parametrize("seconds", [0.2, 0.7, 1.2, 1.8, 2.5])
def test_with_little_time_what_was_not_tried_is_said_and_nothing_wrong_is_claimed(seconds: float) -> None:
    truth = FrontEnd(n_fft=1130, win_length=1000, hop_length=271, fmin=37.3, fmax=9777.0, n_mels=55, mel_scale="htk", preemphasis=0.9)  # fmt: skip
    result = asked(truth, audio(), seconds=seconds)
    assert wrong(result, truth) == []
    assert result.seconds < seconds + 1.5  # what places the mel and computes it once asks nobody
    if seconds < 0.5:
        assert any(text.startswith("not tried: alternatives of n_fft") for text in result.skipped)
        with pytest.raises(RefusedError):
            described(result)


def test_what_no_time_was_left_for_after_the_search_is_not_claimed() -> None:
    truth = FrontEnd.load("hifigan_jik")
    x = audio()
    budget = Budget(1e6)
    settling = budget.settling

    def late() -> None:
        settling()
        budget.seconds = 1e-9  # from here on there is none

    budget.settling = late  # type: ignore[method-assign]
    result = say(examine(place([Clip("a", x, RATE, truth.mel(x))]), budget), None)
    assert result.names == ()
    assert result.headline.startswith("not compared with every named front end")
    assert any("not tried: named front ends (" in text and "hifigan_jik" in text for text in result.skipped)
    assert all(result.fields[name].confidence == 0.0 for name in ("window", "power", "n_fft", "padding", "log_guard"))
    assert "not tried" in result.fields["n_fft"].evidence


def test_silence_under_a_clamped_spectrum_is_no_clamp_of_the_outputs() -> None:
    x = audio().copy()
    x[RATE : RATE + 8000] = 0.0
    truth = FrontEnd(n_fft=2048, power=1, fmin=80.0, filter_norm=None, spectrum_eps=1e-5, spectrum_eps_mode="clamp", log_eps=1e-6)  # fmt: skip
    result = asked(truth, x)
    assert result.fields["spectrum_eps"].value == pytest.approx(1e-5, rel=0.01)
    assert result.fields["log_eps"].value is None
    assert result.fields["log_guard"].value is None


def test_a_clamp_is_told_from_silence_by_bins_that_were_not_heard() -> None:
    import soxr

    x = np.asarray(soxr.resample(soxr.resample(audio(), RATE, 12000), 12000, RATE), np.float32)[: len(audio())]
    x = (np.rint(x * 32768) / 32768).astype(np.float32)
    quiet = FrontEnd(power=2, n_mels=100, filter_norm=None)
    eps = float(np.quantile(quiet.linear(x)[:, -8:], 0.5))  # only the topmost bins, above the audio's band, lie on it
    truth = dataclasses.replace(quiet, log_eps=float(f"{eps:.0e}"))
    result = asked(truth, x)
    assert (result.fields["log_guard"].value, result.fields["log_guard"].confounded) == ("clamp", ("clip",))
    assert result.fields["log_eps"].value == pytest.approx(truth.log_eps, rel=0.01)


def test_a_guard_that_lifts_no_cell_is_not_claimed() -> None:
    truth = FrontEnd(n_mels=100, spectrum_eps=1e-10, log_eps=1e-7)
    result = asked(truth, audio() + np.float32(1e-3) * np.random.default_rng(1).standard_normal(len(audio())).astype(np.float32))  # fmt: skip
    assert result.fields["log_guard"].value is None
    assert result.fields["log_eps"].value is None
