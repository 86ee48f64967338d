"""The front end against librosa (an independent implementation, in float64), its geometry, identity and errors."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import soundfile
from speechlike import RATE, voice

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import librosa

import calib.mel.analysis as analysis_module
from calib.errors import DataError, UsageError
from calib.mel.catalogue import catalogue, entries
from calib.mel.frontend import FrontEnd

SIGNALS = [voice(1.3, 1), voice(0.9, 2) * np.float32(0.05)]


def reference(fe: FrontEnd, x: np.ndarray) -> np.ndarray:
    """The same steps with librosa's filterbank, STFT, trim and pre-emphasis, all float64; (T, M)."""
    y = x.astype(np.float64)
    if fe.trim_top_db is not None:
        y, _ = librosa.effects.trim(
            y, top_db=fe.trim_top_db, frame_length=fe.trim_frame_length, hop_length=fe.trim_hop_length
        )
    if fe.rms_norm is not None:
        y = y * fe.rms_norm / np.sqrt(np.mean(y**2))
    if fe.peak_norm is not None:
        # In float32, as signals are: the rounding of the scaled samples is up to 2e-4 of a ln unit in the quietest bins.
        y = (y.astype(np.float32) * np.float32(fe.peak_norm / np.abs(y).max())).astype(np.float64)
    if fe.clip_audio is not None:
        y = np.clip(y, -fe.clip_audio, fe.clip_audio)
    if fe.preemphasis:
        before = -fe.preemphasis * y[1:2] if fe.preemphasis_pad == "reflect" else np.zeros(1)
        y = librosa.effects.preemphasis(y, coef=fe.preemphasis, zi=before)
    y = np.pad(y, fe.pad_audio)
    mode = "reflect" if fe.pad_mode == "reflect" else "constant"
    count = None
    if fe.padding in {"same", "center"}:
        y = np.pad(y, fe.n_fft // 2 if fe.padding == "center" else (fe.n_fft - fe.hop_length) // 2, mode=mode)
    elif fe.padding == "end":
        count = -(-y.size // fe.hop_length)
        y = np.pad(y, (0, fe.n_fft))
    window = "boxcar" if fe.window == "rectangular" else fe.window
    window = scipy.signal.get_window(window, fe.win_length, fftbins=fe.window_periodic)
    spectrum = librosa.stft(
        y,
        n_fft=fe.n_fft,
        hop_length=fe.hop_length,
        win_length=fe.win_length,
        window=window,
        center=False,
        dtype=np.complex128,
    )
    power = np.abs(spectrum) ** 2
    power = power + fe.spectrum_eps if fe.spectrum_eps_mode == "add" else np.maximum(power, fe.spectrum_eps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of filters narrower than a bin of the FFT (128 bins at n_fft 400)
        bank = librosa.filters.mel(
            sr=fe.fb_sample_rate,
            n_fft=fe.n_fft,
            n_mels=fe.n_mels,
            fmin=fe.fmin,
            fmax=fe.fmax,
            htk=fe.mel_scale == "htk",
            norm=fe.filter_norm,
            dtype=np.float64,
        )
    mel = bank @ (np.sqrt(power) if fe.power == 1 else power)
    if fe.log != "none":
        if fe.log_guard != "none":
            mel = np.maximum(mel, fe.log_eps) if fe.log_guard == "clamp" else mel + fe.log_eps
        mel = fe.log_multiplier * (np.log(mel) if fe.log == "ln" else np.log10(mel))
    mel = mel.T[:count]
    mel = mel[: (len(mel) - fe.drop_last) // fe.frame_multiple * fe.frame_multiple]
    if fe.utterance_norm == "dynamic_max":
        mel = np.maximum(mel, mel.max() - fe.utterance_range)
    mel = mel * fe.post_scale + fe.post_offset
    if fe.post_mean is not None:
        mel = mel - np.array(fe.post_mean)
    if fe.post_std is not None:
        mel = mel / np.array(fe.post_std)
    if fe.utterance_norm == "minmax":
        mel = (mel - mel.min()) / (mel.max() - mel.min())
    elif fe.utterance_norm == "instance":
        mel = (mel - mel.mean(0)) / np.sqrt(mel.var(0) + 1e-5)
    mel = np.clip(mel, -np.inf if fe.clip_min is None else fe.clip_min, np.inf if fe.clip_max is None else fe.clip_max)
    if fe.overwrite_last:
        mel[-fe.overwrite_last :] = fe.overwrite_value
    return mel


def compare(fe: FrontEnd, x: np.ndarray, tolerance: float = 1e-4) -> None:
    got, want = fe.mel(x), reference(fe, x)
    assert got.dtype == np.float32
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", ["hifigan", "tacotron2", "myxtts"])
@pytest.mark.parametrize("which", [0, 1])
def test_the_named_front_ends_equal_librosa(name: str, which: int) -> None:
    compare(FrontEnd.load(name), SIGNALS[which], 2e-5)


@pytest.mark.parametrize("name", ["hifigan", "tacotron2", "myxtts"])
def test_the_named_front_ends_equal_librosa_on_real_speech(name: str, ljspeech: Path) -> None:
    for path in sorted((ljspeech / "wavs").glob("*.wav"))[:2]:
        x, rate = soundfile.read(path, dtype="float32")
        assert rate == RATE
        compare(FrontEnd.load(name), x, 2e-5)


OTHER: dict[str, dict[str, Any]] = {
    "power": {"power": 2, "log_eps": 1e-10},
    "log10 dB": {"log": "log10", "log_multiplier": 20.0},
    "no log": {"log": "none"},
    "htk": {"mel_scale": "htk"},
    "no filter norm": {"filter_norm": None, "mel_scale": "htk", "fmin": 40.0, "fmax": 7600.0},
    "short window": {"win_length": 800, "n_fft": 1024, "hop_length": 200},
    "odd short window": {"win_length": 799, "n_fft": 1024},
    "symmetric window": {"window_periodic": False},
    "hamming": {"window": "hamming"},
    "rectangular": {"window": "rectangular", "win_length": 600},
    "add guard": {"log_guard": "add"},
    "spectrum clamp": {"spectrum_eps": 1e-6, "spectrum_eps_mode": "clamp"},
    "preemphasis": {"preemphasis": 0.97},
    "padding end": {"padding": "end"},
    "padding none": {"padding": "none"},
    "padding same, zeros": {"padding": "same", "pad_mode": "constant"},
    "clip and scale": {"post_scale": 0.25, "post_offset": 1.0, "clip_min": -1.0, "clip_max": 1.0},
    "per-bin": {"post_mean": [-5.0 - k / 80 for k in range(80)], "post_std": [1.0 + k / 80 for k in range(80)]},
    "minmax": {"utterance_norm": "minmax"},
    "instance": {"utterance_norm": "instance"},
    "other filterbank rate": {"fb_sample_rate": 24000, "fmax": 8000.0},
    "rms and clip": {"rms_norm": 0.3, "clip_audio": 0.5},
    "preemphasis reflected": {"preemphasis": 0.9, "preemphasis_pad": "reflect"},
    "zeros around, even": {"pad_audio": 700, "frame_multiple": 2},
    "last dropped": {"drop_last": 1, "padding": "same"},
    "last overwritten": {"overwrite_last": 2, "overwrite_value": -3.0},
    "no guard": {"spectrum_eps": 1e-8, "spectrum_eps_mode": "clamp", "log_guard": "none"},
    "dynamic maximum": {
        "log": "log10",
        "log_eps": 1e-10,
        "utterance_norm": "dynamic_max",
        "utterance_range": 4.0,
        "post_scale": 0.25,
        "post_offset": 1.0,
    },
    "divided by negative numbers": {"post_std": [-1.0 - k / 80 for k in range(80)]},
    "100 bins at 2048": {"n_mels": 100, "n_fft": 2048, "hop_length": 300, "win_length": 1200},
}


@pytest.mark.parametrize("fields", OTHER.values(), ids=OTHER.keys())
def test_every_other_parameter_equals_librosa(fields: dict[str, Any]) -> None:
    fe = FrontEnd.from_fields(fields)
    compare(fe, SIGNALS[0])
    got, default = fe.mel(SIGNALS[0]), FrontEnd().mel(SIGNALS[0])
    assert got.shape != default.shape or np.abs(got - default).max() > 1e-4, "the parameter has no effect"


FAMILIES = {entry.frontend.family: entry.frontend for entry in entries() if entry.frontend.mel_scale != "htk_tf"}


@pytest.mark.parametrize("fe", FAMILIES.values(), ids=[fe.name for fe in FAMILIES.values()])
def test_every_family_of_the_catalogue_equals_librosa(fe: FrontEnd) -> None:
    """But for TensorFlow's bank, which librosa lacks."""
    x = voice(0.5, 6, fe.sample_rate)
    if fe.log == "none":
        np.testing.assert_allclose(fe.mel(x), reference(fe, x), rtol=1e-4, atol=1e-6)
    else:
        compare(fe, x)


@pytest.mark.parametrize("padding", ["center", "same", "end", "none"])
@pytest.mark.parametrize(
    "length", [1, 255, 256, 257, 384, 385, 512, 513, 640, 768, 1023, 1024, 1025, 1279, 1280, 1281, 2560]
)
def test_the_number_of_frames_is_as_announced_and_as_librosas_at_every_edge(padding: str, length: int) -> None:
    fe = FrontEnd(padding=padding)
    x = voice(0.2, 3)[1000 : 1000 + length]
    least = {"center": 513, "same": 385, "end": 1, "none": 1024}[padding]
    if length < least:
        with pytest.raises(DataError, match=f"{length} samples is too short.*at least"):
            fe.mel(x)
        return
    mel = fe.mel(x)
    assert mel.shape == (fe.n_frames(length), 80)
    np.testing.assert_allclose(mel, reference(fe, x), atol=1e-4)


@pytest.mark.parametrize("fields", [{}, *OTHER.values()], ids=["default", *OTHER.keys()])
def test_torch_agrees_with_numpy(fields: dict[str, Any]) -> None:
    fe = FrontEnd.from_fields(fields)
    np.testing.assert_allclose(fe.mel(SIGNALS[0], "torch:cpu"), fe.mel(SIGNALS[0]), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("block", [32, 64, 1000])
def test_the_size_of_the_blocks_changes_no_bit(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """And so nothing depends on how much of an utterance is in memory. Blocks of a few frames take other BLAS paths."""
    x = voice(3.2, 4)[: 256 * 255]  # 256 frames: whole blocks of 32, 64 and 256
    want = FrontEnd().mel(x)
    monkeypatch.setattr(analysis_module, "_BLOCK", block)
    np.testing.assert_array_equal(FrontEnd().mel(x), want)


def test_a_mel_is_the_same_bits_every_time() -> None:
    assert (
        FrontEnd.load("hifigan").mel(SIGNALS[0]).tobytes() == FrontEnd.load("hifigan").mel(SIGNALS[0].copy()).tobytes()
    )


# --- identity and names ---------------------------------------------------------------------------------------------


def test_two_ways_of_saying_the_same_have_one_identity() -> None:
    base = FrontEnd()
    for fields in (
        {"sample_rate": 22050},
        {"win_length": 1024},
        {"fmax": 11025},
        {"fmax": 11025.0, "fb_sample_rate": 22050},
        {"fmin": 0, "post_scale": 1, "log_multiplier": 1},
        {"n_fft": 1024.0, "power": 1.0},
    ):
        assert FrontEnd.from_fields(fields).id == base.id, fields
        assert FrontEnd.from_fields(fields) == base
    assert FrontEnd.from_fields({"power": 2.0}).id == FrontEnd.from_fields({"power": 2}).id
    assert FrontEnd.from_fields({"post_std": [2] * 80}).id == FrontEnd.from_fields({"post_std": (2.0,) * 80}).id
    assert (
        FrontEnd.load("hifigan").id
        == FrontEnd.load("hifigan_jik").id
        == FrontEnd.from_fields(FrontEnd.load("hifigan").fields()).id
    )


def test_every_field_is_part_of_the_identity() -> None:
    other: dict[str, Any] = {
        "sample_rate": 24000, "trim_top_db": 20.0, "trim_frame_length": 1024, "trim_hop_length": 256, "peak_norm": 1.0, "preemphasis": 0.97, "n_fft": 2048,
        "win_length": 800, "hop_length": 200, "window": "hamming", "window_periodic": False, "padding": "same", "pad_mode": "constant", "n_mels": 100, "fmin": 40.0,
        "fmax": 8000.0, "mel_scale": "htk", "filter_norm": None, "fb_sample_rate": 24000, "power": 2, "spectrum_eps": 1e-9, "spectrum_eps_mode": "clamp", "log": "log10",
        "log_multiplier": 20.0, "log_eps": 1e-10, "log_guard": "add", "post_scale": 2.0, "post_offset": 1.0, "post_mean": [0.0] * 80, "post_std": [1.0] * 80,
        "utterance_norm": "minmax", "clip_min": -4.0, "clip_max": 4.0, "rms_norm": 0.1, "clip_audio": 1.0, "preemphasis_pad": "reflect", "pad_audio": 5000,
        "drop_last": 1, "frame_multiple": 2, "utterance_range": 6.0, "overwrite_last": 1, "overwrite_value": -11.52,
    }  # fmt: skip
    assert set(other) == {item.name for item in dataclasses.fields(FrontEnd)}
    # A parameter counts only where its step is taken.
    needs = {
        "trim_frame_length": {"trim_top_db": 30.0},
        "trim_hop_length": {"trim_top_db": 30.0},
        "spectrum_eps_mode": {"spectrum_eps": 1e-6},
        "preemphasis_pad": {"preemphasis": 0.97},
        "utterance_range": {"utterance_norm": "dynamic_max"},
        "overwrite_value": {"overwrite_last": 1},
    }
    for key, value in other.items():
        base = needs.get(key, {})
        assert FrontEnd.from_fields({**base, key: value}).id != FrontEnd.from_fields(base).id, key
        if base:
            assert FrontEnd.from_fields({key: value}).id == FrontEnd().id, key


def test_the_identity_is_stable_between_versions() -> None:
    """Files in the wild carry it: a change here breaks them, and needs a new major version of the schema."""
    assert FrontEnd.load("hifigan").id == "fe-d898c85464e35049"


def test_differences_name_the_fields_that_differ() -> None:
    assert FrontEnd.load("hifigan").differences(FrontEnd.load("tacotron2")) == {
        "padding": ("same", "center"),
        "spectrum_eps": (1e-9, 0.0),
    }


def test_every_entry_of_the_catalogue_loads_and_knows_its_name() -> None:
    assert {"hifigan", "tacotron2", "myxtts"} <= set(catalogue())
    for name, entry in catalogue().items():
        assert FrontEnd.load(name) == entry.frontend
        assert catalogue()[entry.frontend.name].frontend == entry.frontend


def test_unknown_names_and_fields_suggest_the_nearest() -> None:
    with pytest.raises(UsageError, match="hifgan") as caught:
        FrontEnd.load("hifgan")
    assert "did you mean hifigan" in str(caught.value.hint)
    with pytest.raises(UsageError, match="n_mel") as caught:
        FrontEnd.load({"n_mel": 80})
    assert "did you mean n_mels" in str(caught.value.hint)


def test_a_front_end_comes_from_yaml_json_and_a_statistics_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("fmax: 8000.0\npadding: same\nspectrum_eps: 1.0e-9\n", encoding="utf-8-sig")
    (tmp_path / "b.json").write_text(json.dumps({"mel_mean": 1, "frontend": FrontEnd.load("hifigan").fields()}))
    assert FrontEnd.load(tmp_path / "a.yaml") == FrontEnd.load(str(tmp_path / "b.json")) == FrontEnd.load("hifigan")
    with pytest.raises(DataError, match="no such file"):
        FrontEnd.load(tmp_path / "none.yaml")
    (tmp_path / "c.yaml").write_text("- fmax")
    with pytest.raises(UsageError, match="list"):
        FrontEnd.load(tmp_path / "c.yaml")
    (tmp_path / "d.yaml").write_text("log_eps: 1e-5")
    with pytest.raises(UsageError, match="log_eps") as caught:
        FrontEnd.load(tmp_path / "d.yaml")
    assert "1.0e-5" in str(caught.value.hint)
    (tmp_path / "e.yaml").write_text("a: [")
    with pytest.raises(DataError, match="YAML"):
        FrontEnd.load(tmp_path / "e.yaml")


@pytest.mark.parametrize(
    "fields",
    [
        {"window": "hanning"}, {"power": 3}, {"n_fft": 0}, {"n_fft": 1024.5}, {"hop_length": -1}, {"n_mels": True}, {"win_length": -1}, {"win_length": 512.5},
        {"win_length": 2048}, {"fmin": 9000.0, "fmax": 8000.0}, {"fmax": 12000.0}, {"fmin": -1.0}, {"fb_sample_rate": -1}, {"log_eps": 0.0}, {"log_eps": float("nan")},
        {"fmax": 10**400}, {"post_mean": [0.0]}, {"post_mean": [float("nan")] * 80}, {"post_std": [0.0] * 80}, {"post_std": [1.0] * 79 + [0.0]}, {"rms_norm": 0.0}, {"clip_audio": -1.0}, {"utterance_range": 0.0, "utterance_norm": "dynamic_max"},
        {"pad_audio": -1}, {"drop_last": -1}, {"frame_multiple": 0}, {"overwrite_last": 1.5}, {"preemphasis_pad": "zeros"}, {"log_guard": "none"}, {"post_scale": 0.0}, {"log_multiplier": 0.0},
        {"trim_top_db": 0.0}, {"peak_norm": -1.0}, {"spectrum_eps": -1.0}, {"clip_min": 1.0, "clip_max": 0.0}, {"padding": "same", "hop_length": 2048}, {"log": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_value_out_of_range_is_an_error_that_names_the_field(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(fields))):
        FrontEnd.from_fields(fields)


# --- audio errors, floor, and back ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [np.zeros(0), np.zeros((100, 2)), np.full(4096, np.nan), np.full(4096, np.inf)],
    ids=["empty", "stereo", "NaN", "infinite"],
)
def test_audio_that_cannot_be_used_is_an_error(bad: np.ndarray) -> None:
    with pytest.raises(DataError, match="audio"):
        FrontEnd().mel(bad.astype(np.float32))


@pytest.mark.parametrize(
    "fields",
    [{}, OTHER["log10 dB"], OTHER["clip and scale"], {"post_scale": 2.0, "post_offset": 3.0}],
    ids=["ln", "dB", "clip", "scaled"],
)
def test_silence_lies_at_the_floor(fields: dict[str, Any]) -> None:
    fe = FrontEnd.from_fields(fields)
    assert fe.floor is not None
    np.testing.assert_allclose(fe.mel(np.zeros(5000, dtype=np.float32)), fe.floor, atol=1e-5)


@pytest.mark.parametrize(
    "fields", [OTHER["per-bin"], {"post_std": [2.0] * 80}, OTHER["minmax"], OTHER["add guard"], OTHER["no log"]]
)
def test_there_is_no_floor_where_it_is_no_point_mass_in_every_bin(fields: dict[str, Any]) -> None:
    assert FrontEnd.from_fields(fields).floor is None


@pytest.mark.parametrize("name", ["default", "power", "log10 dB", "no log", "add guard", "per-bin"])
def test_to_linear_inverts_logarithm_and_normalisation(name: str) -> None:
    fields = {} if name == "default" else OTHER[name]
    fe = FrontEnd.from_fields(fields)
    plain = FrontEnd.from_fields(
        {**{k: v for k, v in fields.items() if not k.startswith("post")}, "log": "none", "log_multiplier": 1.0}
    )
    want = plain.mel(SIGNALS[0]).astype(np.float64)
    got = fe.to_linear(fe.mel(SIGNALS[0]))
    if fe.log != "none" and fe.log_guard == "clamp":
        want = np.maximum(want, fe.log_eps)
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-9 if fe.log_guard == "clamp" else 2e-10)
    assert got.max() > 1e-2


def test_a_mel_normalised_by_utterance_cannot_be_brought_back() -> None:
    with pytest.raises(UsageError, match="minmax"):
        FrontEnd(utterance_norm="minmax").to_linear(np.zeros((3, 80)))


def test_to_linear_of_noise_stays_finite() -> None:
    assert np.isfinite(FrontEnd().to_linear(np.full((2, 80), 1e6, dtype=np.float32))).all()
