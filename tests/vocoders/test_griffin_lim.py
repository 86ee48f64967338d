"""Griffin-Lim against the front end itself: the audio, analysed again, must give the mel back."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from calib.errors import DataError, UsageError
from calib.mel.frontend import FrontEnd
from calib.models.loading import load_vocoder
from calib.models.protocol import Vocoder
from calib.vocoders.griffin_lim import GriffinLim, factory

FRONT_ENDS = {
    "hifigan": {"fmax": 8000.0, "padding": "same", "spectrum_eps": 1e-9},
    "center": {"fmax": 8000.0},
    "power": {
        "power": 2,
        "win_length": 800,
        "hop_length": 200,
        "mel_scale": "htk",
        "filter_norm": None,
        "log": "log10",
    },
    "constant": {"pad_mode": "constant", "win_length": 900},
    "hop does not divide n_fft": {"n_fft": 1200, "win_length": 1000, "hop_length": 275, "padding": "same"},
    "none": {"padding": "none"},
    "last frame dropped": {"drop_last": 1, "power": 2, "n_fft": 400, "hop_length": 160, "sample_rate": 16000},
    "last frame overwritten": {"fmax": 8000.0, "overwrite_last": 1, "overwrite_value": 0.0},
    "end": {"padding": "end"},
    "vits": {"padding": "same", "spectrum_eps": 1e-6},
    "preemphasis": {"preemphasis": 0.97, "log_guard": "add"},
    "normalised": {"log": "log10", "log_multiplier": 20.0, "post_scale": 0.01, "post_offset": 1.0},
    "linear": {"log": "none", "power": 2},
}


def speechlike(seconds: float = 1.2, rate: int = 22050) -> np.ndarray:
    """A gliding harmonic tone in syllables with noise between: what a mel sees of speech."""
    rng = np.random.default_rng(3)
    t = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 0.9 * t)) / rate
    voice = sum(np.sin(k * phase) / k for k in range(1, 40))
    envelope = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * t)
    return (0.1 * envelope * voice + 0.01 * (1 - envelope) * rng.standard_normal(t.size)).astype(np.float32)


def log_error(fe: FrontEnd, got: np.ndarray, wanted: np.ndarray) -> float:
    """Mean absolute difference in ln units of the filterbank's output, guarded at 1e-5."""
    a, b = (np.log(np.maximum(fe.to_linear(mel), 1e-5)) for mel in (got, wanted))
    return float(np.abs(a - b).mean())


@pytest.mark.parametrize("fields", FRONT_ENDS.values(), ids=FRONT_ENDS.keys())
def test_the_audio_gives_the_mel_back_frame_by_frame(fields: dict) -> None:
    fe = FrontEnd.from_fields(fields)
    mel = fe.mel(speechlike())
    vocoder = GriffinLim(fe, iterations=30)
    samples, rate = vocoder.vocode(mel)
    assert (samples.dtype, rate) == (np.float32, fe.sample_rate)
    assert fe.n_frames(samples.size) == len(mel)
    again = fe.mel(samples)
    error = {lag: log_error(fe, again[max(0, lag) :][:80], mel[max(0, -lag) :][:80]) for lag in (-2, -1, 0, 1, 2)}
    assert min(error, key=error.__getitem__) == 0, error
    # Measured 0.03 to 0.16 (the last for the linear front end, whose floor hides nothing).
    assert error[0] < 0.2
    assert error[0] < 0.5 * min(error[-1], error[1])
    assert vocoder.last_gain == 0.0


@pytest.mark.parametrize("name", ["hifigan", "tacotron2", "myxtts"])
def test_real_speech_within_the_documented_figures(ljspeech, name: str) -> None:
    import soundfile

    fe = dataclasses.replace(FrontEnd.load(name), trim_top_db=None, peak_norm=None)
    audio, _ = soundfile.read(ljspeech / "wavs" / "LJ001-0002.wav", dtype="float32")
    mel = fe.mel(audio)
    linear = fe.to_linear(mel)
    errors, truth = {}, {}
    pad = fe.pad_each_side
    padded = np.pad(audio, pad, mode="reflect" if fe.pad_mode == "reflect" else "constant")
    true = np.abs(
        np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, fe.n_fft)[:: fe.hop_length] * fe.window_array())
    )
    seen = fe.basis().sum(0) > 0
    for inversion in ("pinv", "kl"):
        magnitudes = GriffinLim(fe, inversion=inversion).magnitudes(mel)
        assert (magnitudes >= 0).all()
        assert magnitudes[:, ~seen].max() < 1e-9
        errors[inversion] = np.linalg.norm(magnitudes @ fe.basis().T - linear) / np.linalg.norm(linear)
        truth[inversion] = np.linalg.norm((magnitudes - true)[:, seen]) / np.linalg.norm(true[:, seen])
    assert errors["kl"] < 1e-3
    assert errors["pinv"] > 1e-2
    assert truth["kl"] < 0.9 * truth["pinv"]
    again = fe.mel(GriffinLim(fe).vocode(mel)[0])
    assert log_error(fe, again, mel) < 0.06
    assert abs(float((again - mel).mean())) < 0.03  # the level is kept


def test_same_mel_and_seed_same_bytes_another_seed_another_audio() -> None:
    mel = FrontEnd.load("hifigan").mel(speechlike(0.4))
    first, again, other = (GriffinLim("hifigan", iterations=5, seed=seed).vocode(mel)[0] for seed in (7, 7, 8))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


@pytest.mark.parametrize("padding", ["center", "same", "end", "none"])
@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_very_short_mels_keep_their_number_of_frames(padding: str, frames: int) -> None:
    fe = FrontEnd(padding=padding)
    samples, _ = GriffinLim(fe, iterations=3).vocode(np.full((frames, 80), -3.0, dtype=np.float32))
    assert fe.n_frames(samples.size) == frames
    assert np.isfinite(samples).all()
    assert samples.any()


@pytest.mark.parametrize("name", ["hifigan", "power", "linear", "vits", "normalised"])
@pytest.mark.parametrize("what", ["noise", "+40", "+1e30", "-300", "0", "one bin", "mixed"])
def test_mels_out_of_any_range_give_finite_audio_within_full_scale(name: str, what: str) -> None:
    fe = FrontEnd.from_fields(FRONT_ENDS.get(name, {}))
    mel = np.zeros((9, 80), dtype=np.float32)
    if what == "noise":
        mel = 5 * np.random.default_rng(0).standard_normal((9, 80))
    elif what == "one bin":
        mel[:] = -300
        mel[:, 40] = 40
    elif what == "mixed":
        mel[::2], mel[1::2] = 40, -300
    else:
        mel[:] = float(what)
    vocoder = GriffinLim(fe, iterations=6)
    samples, _ = vocoder.vocode(mel)
    assert np.isfinite(samples).all()
    assert np.abs(samples).max(initial=0) <= 1.0
    assert np.isfinite(vocoder.last_gain)
    assert vocoder.last_gain <= 0


def test_beyond_full_scale_is_brought_to_099_and_the_gain_is_told() -> None:
    fe = FrontEnd.load("hifigan")
    mel = fe.mel(speechlike(0.5))
    vocoder = GriffinLim(fe, iterations=4)
    quiet, _ = vocoder.vocode(mel)
    assert vocoder.last_gain == 0.0
    loud, _ = vocoder.vocode(mel + np.log(100.0).astype(np.float32))
    assert np.abs(loud).max() == pytest.approx(0.99)
    expected = 20 * np.log10(0.99 / (100 * np.abs(quiet).max()))
    assert vocoder.last_gain == pytest.approx(expected, abs=0.6)
    vocoder.vocode(mel)
    assert vocoder.last_gain == 0.0


@pytest.mark.parametrize("name", ["hifigan", "vits", "center"])
def test_digital_silence_stays_silent(name: str) -> None:
    fe = FrontEnd.from_fields(FRONT_ENDS[name])
    mel = fe.mel(np.zeros(8000, dtype=np.float32))
    samples, _ = GriffinLim(fe, iterations=4).vocode(mel)
    assert np.abs(samples).max() < 1e-5


def test_what_is_no_mel_of_this_front_end_is_refused_with_the_numbers() -> None:
    vocoder = GriffinLim("hifigan", iterations=1)
    with pytest.raises(DataError, match=r"100 mel bins.*80"):
        vocoder.vocode(np.zeros((7, 100)))
    with pytest.raises(DataError) as caught:
        vocoder.vocode(np.zeros((80, 33)))
    assert "transposed" in str(caught.value.hint)
    with pytest.raises(DataError, match=r"shape \(1, 7, 80\)"):
        vocoder.vocode(np.zeros((1, 7, 80)))
    with pytest.raises(DataError, match="no frames"):
        vocoder.vocode(np.zeros((0, 80)))
    for value in (np.nan, np.inf, -np.inf):
        mel = np.zeros((4, 80))
        mel[2, 3] = value
        with pytest.raises(DataError, match="1 NaN or infinite"):
            vocoder.vocode(mel)


def test_front_ends_that_cannot_be_undone_are_refused_at_once() -> None:
    for fields, text in (
        ({"utterance_norm": "minmax"}, "normalised by utterance"),
        ({"hop_length": 512, "win_length": 400}, "longer than win_length"),
        ({"preemphasis": 1.0}, "stable inverse"),
    ):
        with pytest.raises(UsageError, match=text):
            GriffinLim(FrontEnd.from_fields(fields))


@pytest.mark.parametrize(
    "options",
    [{"iterations": 0}, {"iterations": 2.5}, {"momentum": 1.5}, {"seed": -1}, {"inversion": "nnls"}, {"seed": "x"}],
)
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        factory(None, "cpu", **options)


def test_the_factory_names_the_nearest_option_and_takes_no_checkpoint() -> None:
    with pytest.raises(UsageError, match="'iteration'") as caught:
        factory(None, "cpu", iteration=3)
    assert "iterations" in str(caught.value.hint)
    with pytest.raises(UsageError, match=r"g\.pt"):
        factory("g.pt", "cpu")


def test_the_entry_point_loads_and_declares_its_front_end() -> None:
    vocoder = load_vocoder("griffin-lim", options={"frontend": "tacotron2", "iterations": 2})
    assert isinstance(vocoder, Vocoder)
    assert vocoder.frontend == "tacotron2_nv"
    custom = GriffinLim({"n_mels": 64}).frontend
    assert isinstance(custom, dict)
    assert FrontEnd.load(custom).n_mels == 64


def test_it_runs_without_torch() -> None:
    code = "import sys, calib.vocoders.griffin_lim as g, numpy as n; g.factory(None, 'cpu', iterations=1).vocode(n.zeros((9, 80))); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
