"""Front ends that nobody has given a name: the cases that searches went astray in, on synthetic voices."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest

from calib.mel.frontend import FrontEnd
from calib.mel.identify import Identification
from calib.mel.identify.guards import clamped
from calib.mel.identify.scene import Scene
from calib.mel.identify.spectra import Bench, Core
from calib.mel.identify.stored import traits
from tests import identifying
from tests.identifying import RATE

audio = functools.partial(identifying.audio, seconds=4)


def asked(truth: FrontEnd, file_rate: int = 0, dtype: type = np.float32, samples: np.ndarray | None = None) -> Identification:  # fmt: skip
    """Identify what a front end makes of audio at ``file_rate``."""
    x = audio(file_rate or truth.sample_rate) if samples is None else samples
    return identifying.asked(truth, x, rate=file_rate, dtype=dtype)


def agrees(result: Identification, truth: FrontEnd, *names: str) -> None:
    """Every field is claimed, without alternatives, and right; and the mel is reproduced."""
    found = {name: (result.fields[name].value, result.fields[name].confounded) for name in names}
    assert found == {name: (getattr(truth, name), ()) for name in names}
    assert result.error_db is not None
    assert result.error_db < 1e-2


SHAPE = ("sample_rate", "hop_length", "n_fft", "win_length", "window", "power", "mel_scale")
CASES: dict[str, tuple[FrontEnd, int]] = {
    # A symmetric window as long as its FFT: its middle lies between two samples.
    "hamming as long as the FFT": (FrontEnd(window="hamming", window_periodic=False, fmax=8000.0, power=2), 0),
    "hamming with a long hop": (
        FrontEnd(
            n_fft=1024, window="hamming", window_periodic=False, hop_length=490, fmax=11000.0, power=2, padding="same"
        ),
        0,
    ),
    "rectangular after pre-emphasis": (
        FrontEnd(
            n_fft=882,
            hop_length=199,
            window="rectangular",
            preemphasis=0.97,
            fmin=40.0,
            fmax=7786.7,
            n_mels=40,
            mel_scale="htk",
            filter_norm=None,
            power=2,
        ),
        0,
    ),
    "rectangular at another rate": (
        FrontEnd(sample_rate=16000, window="rectangular", hop_length=256, fmin=90.0, fmax=7600.0),
        24000,
    ),
    "a bank above half the lower rate": (
        FrontEnd(
            sample_rate=44100,
            n_fft=1024,
            win_length=858,
            hop_length=428,
            fmin=90.0,
            fmax=19400.0,
            n_mels=100,
            mel_scale="htk",
        ),
        48000,
    ),
    "narrow filters": (
        FrontEnd(
            n_fft=512,
            win_length=460,
            hop_length=104,
            window_periodic=False,
            padding="same",
            fmin=40.0,
            fmax=7600.0,
            n_mels=128,
            power=2,
            filter_norm=None,
            log_eps=1e-10,
        ),
        0,
    ),
    "hamming after pre-emphasis": (
        FrontEnd(
            n_fft=844,
            win_length=420,
            hop_length=121,
            window="hamming",
            preemphasis=0.9,
            n_mels=100,
            filter_norm=None,
            log_eps=1e-4,
        ),
        0,
    ),
    "amplitudes under a rectangular window": (
        FrontEnd(
            n_fft=1154,
            hop_length=288,
            window="rectangular",
            fmin=40.0,
            fmax=8204.1,
            n_mels=59,
            mel_scale="htk",
            filter_norm=None,
            log="none",
        ),
        0,
    ),
    "an FFT of its own at a high rate": (
        FrontEnd(
            sample_rate=48000,
            n_fft=2176,
            hop_length=544,
            fmin=80.0,
            fmax=8000.0,
            n_mels=40,
            mel_scale="htk",
            filter_norm=None,
            power=2,
        ),
        0,
    ),
    "a rate with a guard": (
        FrontEnd(
            sample_rate=24000,
            n_fft=2048,
            hop_length=511,
            padding="same",
            fmin=50.0,
            fmax=7600.0,
            n_mels=160,
            mel_scale="htk",
            power=2,
            log_eps=2e-5,
            log_guard="add",
        ),
        44100,
    ),
    "pre-emphasis at a lower rate": (
        FrontEnd(
            sample_rate=22050,
            n_fft=2048,
            hop_length=512,
            fmin=50.0,
            n_mels=52,
            mel_scale="htk",
            preemphasis=0.85,
            log="log10",
            log_multiplier=20.0,
        ),
        24000,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_search_comes_near(case: str) -> None:
    truth, file_rate = CASES[case]
    twins = case == "narrow filters"  # where a periodic window one sample shorter is the same
    agrees(asked(truth, file_rate), truth, *(name for name in SHAPE if not (twins and name == "win_length")))


def test_two_constants_are_told_apart_where_their_shapes_differ() -> None:
    truth = FrontEnd(n_fft=1024, win_length=1000, hop_length=295, fmax=7600.0, n_mels=120, preemphasis=0.9, spectrum_eps=1e-5, log_eps=1e-4, log_guard="add")  # fmt: skip
    agrees(asked(truth), truth, *SHAPE, "preemphasis", "spectrum_eps", "log_guard", "log_eps")


def test_a_rate_is_told_by_the_quiet_cells_too() -> None:
    truth = FrontEnd(sample_rate=16000, n_fft=512, win_length=372, hop_length=81, padding="same", fmin=50.0, fmax=6147.4, mel_scale="htk", filter_norm=None, power=2, log_eps=2e-6, log_guard="add", post_scale=0.238, post_offset=0.7)  # fmt: skip
    agrees(asked(truth, 48000), truth, "sample_rate", "hop_length", "n_fft", "log_eps")


def test_one_constant_that_stands_for_two_is_no_claim() -> None:
    truth = FrontEnd(n_fft=638, win_length=440, hop_length=187, n_mels=40, fmin=60.0, fmax=7600.0, power=2, spectrum_eps=3e-7, log_eps=1e-7, log_guard="add")  # fmt: skip
    found = asked(truth).fields
    for name in ("log_eps", "spectrum_eps"):
        assert found[name].value == pytest.approx(getattr(truth, name), rel=0.02) or found[name].confounded


def test_a_wall_is_a_clamp_whatever_was_added_to_the_spectrum() -> None:
    truth = FrontEnd(fmin=80.0, fmax=8000.0, n_mels=40, mel_scale="htk", power=2, log="log10", log_eps=2e-3, spectrum_eps=1e-8, utterance_norm="minmax")  # fmt: skip
    result = asked(truth)
    agrees(result, truth, "log_eps")
    assert result.fields["log_guard"].value == "clamp"


def test_digital_silence_does_not_tell_a_clamp_from_a_sum() -> None:
    x = audio().copy()
    x[RATE : RATE + 6000] = 0.0
    for kind in ("clamp", "add"):
        found = asked(FrontEnd(fmax=8000.0, log_eps=1e-9, log_guard=kind), samples=x).fields
        assert {found["log_guard"].value, *found["log_guard"].confounded} == {"clamp", "add"}
        assert found["log_eps"].value == pytest.approx(1e-9)


def test_half_precision_keeps_area_norm_and_level_with_a_guard() -> None:
    truth = FrontEnd(sample_rate=44100, n_fft=2312, hop_length=578, fmin=55.0, fmax=7600.0, n_mels=128, mel_scale="htk", power=2, log_eps=1e-3, log_guard="add")  # fmt: skip
    result = asked(truth, dtype=np.float16)
    assert "post_norm" not in result.fields
    assert {n: result.fields[n].value for n in ("sample_rate", "hop_length", "filter_norm")} == {"sample_rate": 44100, "hop_length": 578, "filter_norm": "slaney"}  # fmt: skip
    assert result.fields["hop_length"].confounded == ()


def test_a_bin_that_is_mostly_wall_hides_no_other_walls() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=(700, 60)).astype(np.float32)
    for k, share in ((0, 0.3), (1, 0.2), (2, 0.1), (59, 0.75)):
        y[:, k] = np.maximum(y[:, k], np.quantile(y[:, k], share))
        y[:, k] -= 3.0 if k == 59 else 0.0
    low = traits([y]).low
    assert np.flatnonzero(np.isfinite(low)).tolist() == [0, 1, 2, 59]
    assert np.allclose(low[[0, 1, 2, 59]], y.min(0)[[0, 1, 2, 59]])


def _scene(core: Core, wall: Any) -> tuple[Scene, np.ndarray]:
    bench = Bench(audio(), RATE, np.arange(10, 200), 40)
    y = wall(np.asarray(bench.linear(core), np.float64))
    return Scene([bench], y, np.ones(y.shape, bool)), y.min(0)


def test_a_clamp_is_known_by_cells_that_were_just_below_it() -> None:
    core = Core(RATE, 256.0, 0.0, 1024, 1024.0)
    level = 0.02
    scene, low = _scene(core, lambda x: np.log(np.maximum(x, level)))
    fit = scene.without(scene.stored <= np.log(level) + 1e-6).fit(core)
    found = clamped(scene, fit, np.where(low < np.log(level) + 1e-6, low, np.nan))
    assert found is not None
    assert np.allclose(found, np.log(level), atol=1e-3)
    # The same wall under silence alone is nobody's.
    silent = dataclasses.replace(fit, log=np.where(scene.stored <= np.log(level) + 1e-6, -30.0, fit.log))
    assert clamped(scene, silent, np.where(low < np.log(level) + 1e-6, low, np.nan)) is None
