"""From audio and mel to the front end: exactly where the mel was computed, as sets where the data cannot tell."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from calib.errors import DataError
from calib.mel.frontend import FrontEnd
from calib.mel.identify import Clip, Identification, identify, identify_mels
from calib.mel.identify.align import _correlate
from calib.mel.identify.budget import Budget, Spent
from calib.mel.identify.identifying import examine
from calib.mel.identify.placing import place
from calib.mel.identify.saying import say
from tests.identifying import RATE, asked, audio


def answer(frontend: FrontEnd, mel: np.ndarray | None = None, samples: np.ndarray | None = None, **more: Any) -> Identification:  # fmt: skip
    """Identify what a front end makes of the audio; the plain question is asked once."""
    return _plain(frontend) if mel is None and samples is None and not more else _asked(frontend, mel, samples, **more)


@functools.cache
def _plain(frontend: FrontEnd) -> Identification:
    return _asked(frontend, None, None)


def _asked(frontend: FrontEnd, mel: np.ndarray | None, samples: np.ndarray | None, **more: Any) -> Identification:
    return asked(frontend, audio(frontend.sample_rate) if samples is None else samples, mel=mel, **more)


def values(result: Identification, *names: str) -> tuple[Any, ...]:
    """Values of fields, all of them claimed without alternatives."""
    assert all(not result.fields[name].confounded for name in names), {n: result.fields[n] for n in names}
    return tuple(result.fields[name].value for name in names)


@pytest.mark.parametrize(
    ("name", "layout"), [("tacotron2_nv", "TM"), ("hifigan_jik", "TM"), ("vocos_mel_24k", "MT"), ("xtts_dvae", "TM")]
)
def test_catalogued_front_ends_are_named_and_reproduced_whichever_way_they_lie(name: str, layout: str) -> None:
    frontend = FrontEnd.load(name)
    if layout == "TM":
        result = answer(frontend)
    else:
        result = answer(frontend, np.ascontiguousarray(frontend.mel(audio(frontend.sample_rate)).T))
    assert result.layout == layout
    assert name in result.names
    assert result.status == "named"
    assert result.error_db is not None
    assert result.error_db < 1e-3
    assert name in result.headline or result.names[0] in result.headline
    # A different filterbank is never among the names.
    assert all(FrontEnd.load(other).family == frontend.family for other in result.names)
    assert values(result, "hop_length", "n_fft", "mel_scale", "power", "n_mels") == (
        frontend.hop_length, frontend.n_fft, frontend.mel_scale, frontend.power, frontend.n_mels,
    )  # fmt: skip


def test_half_a_hop_is_seen() -> None:
    centred, same = answer(FrontEnd.load("tacotron2_nv")), answer(FrontEnd.load("hifigan_jik"))
    assert values(centred, "padding") == ("center",)
    assert values(same, "padding") == ("same",)
    assert not set(centred.names) & set(same.names)


def test_a_front_end_outside_the_catalogue_is_described_and_reproduced() -> None:
    truth = FrontEnd(
        n_fft=742, win_length=640, hop_length=171, fmin=37.3, fmax=9777.0, n_mels=55, mel_scale="htk", filter_norm=None, power=2, log="log10", log_multiplier=10.0, log_eps=1e-9,
    )  # fmt: skip
    result = answer(truth)
    assert result.names == ()
    assert result.status == "described"
    assert values(result, "n_fft", "hop_length", "mel_scale", "power", "window") == (742, 171, "htk", 2, "hann")  # fmt: skip
    assert abs(result.fields["fmin"].value - 37.3) < 0.1
    assert abs(result.fields["fmax"].value - 9777.0) < 1.0
    assert result.fields["filter_norm"].value is None
    assert result.fields["filter_norm"].confidence > 0.9
    assert result.frontend is not None
    again = result.frontend.mel(audio())
    assert np.abs(again - truth.mel(audio()))[3:-3].mean() < 1e-3
    assert result.nearest is not None
    assert result.differences


def test_a_gain_is_a_set_of_gain_and_offset_never_a_guess() -> None:
    frontend = FrontEnd.load("tacotron2_nv")
    x = audio()
    result = answer(frontend, frontend.mel(x * np.float32(0.5)), x)
    gain = result.fields["gain_db"]
    assert gain.value is None
    assert gain.confounded[0] == pytest.approx(20 * np.log10(0.5), abs=0.01)
    assert "an added constant" in gain.confounded
    assert "tacotron2_nv" in result.family_names


def test_statistics_by_bin_hide_area_norm_and_log_base() -> None:
    frontend = FrontEnd.load("pwg_ljspeech")
    mel = frontend.mel(audio())
    normalised = ((mel - mel.mean(0)) / (mel.std(0) + 0.3)).astype(np.float32)
    result = answer(frontend, normalised)
    assert result.fields["filter_norm"].confidence == 0.0
    assert set(result.fields["filter_norm"].confounded) == {"slaney", None}
    assert result.fields["log"].value is None
    assert "pwg_ljspeech" in result.names  # whose statistics are not part of its name
    assert "coqui_ap_default" not in result.names
    assert values(result, "fmin", "fmax", "mel_scale") == (80.0, 7600.0, "slaney")


def test_global_normalisation_is_a_slope_of_several_makings() -> None:
    truth = dataclasses.replace(FrontEnd.load("hifigan_jik"), post_scale=1 / 2.3, post_offset=2.1)
    result = answer(truth)
    assert result.names == ()
    assert "hifigan_jik" in result.family_names
    assert result.nearest is not None
    assert result.fields["slope"].value == pytest.approx(1 / 2.3, rel=1e-4)
    assert result.fields["log"].value is None
    assert {"ln", "log10"} <= set(result.fields["log"].confounded)
    assert result.error_db is not None
    assert result.error_db < 0.01


def test_normalisation_by_utterance_is_seen() -> None:
    truth = dataclasses.replace(FrontEnd.load("tacotron2_nv"), utterance_norm="minmax")
    result = answer(truth)
    assert result.fields["utterance_norm"].value == "minmax"
    assert result.fields["gain_db"].value is None
    assert values(result, "padding", "fmax") == ("center", 8000.0)


def test_preemphasis_window_and_guard_of_an_unknown_front_end() -> None:
    truth = FrontEnd(preemphasis=0.97, window="hamming", win_length=800, fmin=50.0, fmax=9000.0, log_eps=1e-3, log_guard="add")  # fmt: skip
    result = answer(truth)
    assert result.fields["preemphasis"].value == pytest.approx(0.97, abs=1e-3)
    assert values(result, "window", "win_length") == ("hamming", 800)
    assert result.fields["log_guard"].value == "add"
    assert result.fields["log_eps"].value == pytest.approx(1e-3, rel=0.05)
    assert result.fields["spectrum_eps"].value == 0.0  # one guard explains it: no second one is invented


def test_a_symmetric_window_is_told_from_a_periodic_one_in_float32_only() -> None:
    truth = FrontEnd(window_periodic=False, fmax=8000.0)
    found = answer(truth).fields
    assert (found["window_periodic"].value, found["win_length"].value) == (False, 1024)
    assert found["win_length"].confounded == (1023,)  # periodic: one shape
    half = truth.mel(audio()).astype(np.float16)
    result = answer(truth, half)
    assert result.fields["dtype"].value == "float16"
    assert result.fields["window_periodic"].value in {None, False}


@pytest.mark.parametrize(("win_length", "periodic"), [(700, False)])
def test_hamming_windows_whose_ends_do_not_fade(win_length: int, periodic: bool) -> None:
    truth = FrontEnd(window="hamming", window_periodic=periodic, win_length=win_length, hop_length=189, fmax=9000.0)
    result = answer(truth)
    assert values(result, "window", "win_length", "window_periodic") == ("hamming", win_length, periodic)
    assert result.error_db is not None
    assert result.error_db < 1e-3


def test_a_window_and_its_twin_are_told_by_where_the_frames_lie() -> None:
    told = answer(FrontEnd(window_periodic=False, win_length=801, hop_length=200, fmax=8000.0)).fields
    assert (told["win_length"].value, told["window_periodic"].value) == (801, False)
    assert told["win_length"].confounded == ()


def test_long_hops_are_not_mistaken_for_their_neighbours() -> None:
    truth = FrontEnd(n_fft=2048, win_length=2048, hop_length=781, fmax=7600.0, mel_scale="htk")
    assert values(answer(truth), "hop_length", "n_fft", "sample_rate") == (781, 2048, RATE)


def test_a_clamp_before_statistics_by_bin_is_a_wall_in_every_bin() -> None:
    plain = FrontEnd(log_eps=1e-2, fmax=8000.0)
    mel = plain.mel(audio()).astype(np.float64)
    result = answer(plain, ((mel - mel.mean(0)) / (mel.std(0) + 1e-3)).astype(np.float32))
    assert result.fields["n_fft"].value == 1024
    assert result.fields["log_guard"].value in {"clamp", None}
    assert result.noise_db is not None
    assert result.noise_db < 0.01
    # One filterbank output is on all walls only with the true area norm: what statistics hide, walls tell.
    assert values(result, "filter_norm") == ("slaney",)
    assert result.fields["log_eps"].value == pytest.approx(1e-2, rel=1e-3)


def test_cut_and_padded_clips_keep_their_family() -> None:
    frontend = FrontEnd.load("hifigan_jik")
    mel = frontend.mel(audio())
    cut = answer(frontend, mel[12:-20])
    assert "hifigan_jik" in cut.family_names
    assert cut.fields["shift"].value == 12 * 256
    assert cut.fields["pad_mode"].value is None
    padded = answer(frontend, np.vstack([mel, np.zeros((24, 80), np.float32)]))
    assert "hifigan_jik" in (*padded.names, *padded.family_names)
    assert padded.fields["overwrite_last"].value == 24


def test_audio_at_another_rate_than_the_mel() -> None:
    import soxr

    x = audio(44100)
    frontend = FrontEnd(sample_rate=16000, fmin=80.0, fmax=7600.0, hop_length=256)
    mel = frontend.mel(soxr.resample(x, 44100, 16000, quality="HQ").astype(np.float32))
    result = identify([Clip("a", x, 44100, mel)])
    assert result.fields["sample_rate"].value == 16000
    assert result.fields["hop_length"].value == 256
    assert any("44100" in note for note in result.notes)


def test_noise_leaves_the_family_and_withdraws_what_it_hides() -> None:
    frontend = FrontEnd.load("hifigan_jik")
    mel = frontend.mel(audio())
    noise = gaussian_filter(np.random.default_rng(0).standard_normal(mel.shape), (1.6, 2.4))
    noise *= 0.45 * mel.std(0) / noise.std()
    result = answer(frontend, (mel + noise).astype(np.float32))
    assert result.noise_db is not None
    assert result.noise_db > 1.0
    assert "hifigan_jik" in result.family_names
    assert {FrontEnd.load(name).fmax for name in result.family_names} == {8000.0}  # and no wider set than noise makes
    assert "tacotron2_nv" not in result.names
    assert result.fields["mel_scale"].value == "slaney"
    assert abs(result.fields["fmax"].value - 8000) < 200
    assert result.fields["window_periodic"].value is None
    assert any("noise" in text for text in result.skipped)
    assert "noisy" in result.headline


def test_a_declared_front_end_is_contradicted_only_where_the_data_exclude_it() -> None:
    frontend = FrontEnd.load("hifigan_jik")
    # One search, three declarations.
    case = examine(place([Clip("a", audio(), RATE, frontend.mel(audio()))]), Budget())
    wrong = say(case, dataclasses.replace(frontend, fmax=11025.0, padding="center"))
    assert {c.field for c in wrong.contradictions} == {"fmax", "padding"}
    assert "11025" in next(c.words for c in wrong.contradictions if c.field == "fmax")
    assert "contradicting" in wrong.headline
    assert say(case, frontend).contradictions == ()
    assert say(case, None).contradictions == ()


def test_a_rectangular_window_is_found_by_its_edges() -> None:
    truth = FrontEnd(window="rectangular", win_length=860, hop_length=230, fmin=40.0, fmax=9000.0, mel_scale="htk")
    result = answer(truth)
    assert values(result, "window", "win_length", "n_fft", "mel_scale") == ("rectangular", 860, 1024, "htk")
    assert result.error_db is not None
    assert result.error_db < 1e-3


def test_a_rate_that_lengths_cannot_tell_is_told_by_the_level() -> None:
    import soxr

    x = np.asarray(soxr.resample(audio(16000), 16000, 32000, quality="HQ"), np.float32)  # nothing above 8000 Hz
    truth = FrontEnd(sample_rate=16000, n_fft=512, win_length=400, hop_length=160, fmin=60.0, fmax=7000.0)
    mel = truth.mel(soxr.resample(x, 32000, 16000, quality="HQ").astype(np.float32))
    result = identify([Clip("a", x, 32000, mel)])
    # 32000 Hz, hop 320, FFT 1024 gives the same but for ln 2.
    assert (result.fields["sample_rate"].value, result.fields["hop_length"].value) == (16000, 160)
    assert result.fields["gain_db"].value == 0.0


def test_a_search_that_is_out_of_time_says_so_and_claims_little() -> None:
    truth = FrontEnd(n_fft=1130, win_length=1000, hop_length=271, fmin=37.3, fmax=9777.0, n_mels=55, mel_scale="htk")
    result = identify([Clip("a", audio(), RATE, truth.mel(audio()))], seconds=0.6)
    assert result.names == ()
    assert any("0.6 s of CPU time" in text for text in result.skipped)
    assert "ended by its limit" in result.headline
    assert all(
        result.fields[name].value is None for name in ("n_fft", "win_length", "fmin", "fmax", "power", "log_guard")
    )
    assert result.seconds < 4.0
    assert result.fields["hop_length"].value == 271 or 271 in result.fields["hop_length"].confounded


def test_a_budget_ends_a_search_and_not_before() -> None:
    Budget(60.0).check()
    spent = Budget(60.0, started=-1e9)
    with pytest.raises(Spent):
        spent.check()
    assert spent.tried("a step", ("n_fft",), lambda: 1, 0) == 0
    assert spent.untried == {"a step": ("n_fft",)}
    assert Budget(60.0).tried("a step", (), lambda: 1, 0) == 1


def test_correlations_at_every_lag_are_those_of_the_overlap() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal(40), rng.standard_normal(15)
    found = _correlate(a[:, None], b[:, None])[:, 0]
    for lag in (-5, 0, 7, 30):
        here, there = (
            a[max(0, lag) : lag + 15],
            b[max(0, -lag) : max(0, -lag) + min(40 - max(0, lag), 15 + min(0, lag))],
        )
        assert found[lag + 14] == pytest.approx(np.corrcoef(here, there)[0, 1], abs=1e-9)
    assert found[0] == 0.0  # one sample of overlap says nothing


def test_other_audio_is_refused() -> None:
    frontend = FrontEnd.load("hifigan_jik")
    rng = np.random.default_rng(5)
    other = gaussian_filter(rng.standard_normal((600, 80)), (2.0, 3.0)).astype(np.float32)
    result = answer(frontend, other)
    assert result.status == "unrelated"
    assert result.names == ()
    assert result.frontend is None
    assert "was not made from this audio" in result.headline


@pytest.mark.parametrize(
    ("mel", "word"),
    [
        (np.zeros((0, 80), np.float32), "dimensions"),
        (np.full((300, 80), -11.5, np.float32), "constant"),
        (np.full((300, 80), np.nan, np.float32), "NaN"),
        (np.random.default_rng(0).standard_normal((1, 80)).astype(np.float32), "short"),
        (np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32), "dimensions"),
    ],
)
def test_hostile_mels_are_refused_with_the_reason(mel: np.ndarray, word: str) -> None:
    with pytest.raises(DataError, match=word):
        identify([Clip("a", audio(), RATE, mel)])


def test_hostile_audio_is_refused() -> None:
    mel = FrontEnd.load("hifigan_jik").mel(audio())
    for samples, word in ((np.zeros(0, np.float32), "empty"), (np.full(9000, np.nan, np.float32), "NaN")):
        with pytest.raises(DataError, match=word):
            identify([Clip("a", samples, RATE, mel)])
    with pytest.raises(DataError, match="nothing"):
        identify([])


def test_mels_alone_narrow_the_catalogue_and_name_nothing() -> None:
    x = audio().copy()
    x[: RATE // 2] = 0.0  # digital silence: the floor shows
    mel = FrontEnd.load("hifigan_jik").mel(x)
    result = identify_mels([mel.T])
    assert result.status == "mel-only"
    assert result.layout == "MT"
    assert {"hifigan_jik", "tacotron2_nv"} <= set(result.names)
    assert not {"vocos_mel_24k", "coqui_ap_default", "whisper", "melgan_descript"} & set(result.names)
    assert result.fields["floor"].value == pytest.approx(np.log(1e-5), abs=1e-4)
    assert "no front end can be named" in result.headline
    normalised = identify_mels([(mel - mel.min()) / np.ptp(mel)])
    assert normalised.fields["utterance_norm"].value == "minmax"
    assert "hifigan_jik" not in normalised.names


def test_the_answer_is_plain_json() -> None:
    import json

    text = json.dumps(answer(FrontEnd.load("hifigan_jik")).to_json(), allow_nan=False)
    assert json.loads(text)["schema"] == "calib/frontend-identification/1"
