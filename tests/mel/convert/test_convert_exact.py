"""Front ends of one family: the way between them is exact, and what is not exact is said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speechlike import recording

from calib.errors import DataError, RefusedError, UsageError
from calib.mel.convert import Converter, plan
from calib.mel.convert.grids import likely_samples, same_grid, target_frames
from calib.mel.frontend import FrontEnd
from calib.mel.relation import guard, guarded, relate

HIFIGAN = FrontEnd.load("hifigan")
AUDIO = recording(0.8, 3)


def changed(**fields: object) -> FrontEnd:
    return FrontEnd.from_fields({**HIFIGAN.fields(), **fields})


bins = st.lists(st.floats(-9, -2), min_size=80, max_size=80)
spreads = st.lists(st.floats(0.3, 3) | st.floats(-9, -1.5), min_size=80, max_size=80)
logs = st.fixed_dictionaries(
    {
        "log": st.sampled_from(["ln", "log10", "none"]),
        "log_eps": st.sampled_from([1e-5, 1e-7, 1e-10, 1e-3]),
        "log_guard": st.sampled_from(["clamp", "add"]),
        "filter_norm": st.sampled_from(["slaney", None]),
        "spectrum_eps": st.sampled_from([0.0, 1e-9]),
    }
)
norms = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"post_scale": st.sampled_from([0.1446, 0.25, -0.5]), "post_offset": st.floats(-3, 3)}),
    st.fixed_dictionaries({"post_mean": bins, "post_std": spreads}),
    st.fixed_dictionaries({"log_multiplier": st.just(20.0)}),
)


@settings(max_examples=60, deadline=None)
@given(a=logs, b=logs, na=norms, nb=norms)
def test_every_pair_of_one_family_is_exact_away_from_guards(a: dict, b: dict, na: dict, nb: dict) -> None:
    """The converted mel is the mel that the target front end makes of the audio, to float32 rounding."""
    source, target = changed(**{**a, **na}), changed(**{**b, **nb})
    found = plan(source, target, audio=False, pairs=True)
    assert found.how == "exact"
    assert found.expected_db == 0
    mel, wanted = source.mel(AUDIO), target.mel(AUDIO)
    got = Converter(found).apply(mel, len(AUDIO))
    assert got.shape == wanted.shape
    assert got.dtype == np.float32
    # Rounding of the source's float32, carried through: relative to its slope by ln magnitude.
    linear = np.maximum(source.to_linear(mel), 1e-30)
    eps = source.log_eps if source.log != "none" and source.log_guard == "add" else 0.0
    slope = np.abs(source.log_scale * source.post_scale / (np.asarray(source.post_std) if source.post_std else 1.0))
    scale = np.abs(np.asarray(source.post_mean)) + 1 if source.post_mean else 1.0
    biggest = np.maximum(np.abs(mel), scale) + abs(source.post_offset)
    doubt = 4e-7 * biggest / slope / linear * (1.0 if source.log == "none" else linear + eps)
    # What was added under the root before the bank is in both or in neither, up to its own size.
    doubt = doubt + (3e-3 if source.spectrum_eps != target.spectrum_eps else 0.0)
    away = ~guarded(source, mel, source.to_linear(mel)) & (linear > 1e-3) & (doubt < 0.02)
    assert away.mean() > 0.2
    own = np.abs(target.log_scale * target.post_scale / (np.asarray(target.post_std) if target.post_std else 1.0))
    size = np.abs(wanted) + abs(target.post_offset) + (10 if target.post_mean else 1)
    moved = own * (doubt + 2e-6) * (target.to_linear(wanted) if target.log == "none" else 1.0)
    assert np.all((np.abs(got - wanted) <= moved + 4e-6 * size)[away])


@pytest.mark.parametrize("name", ["bigvgan_22k_80_8k", "matcha_ljspeech", "cosyvoice1_22k", "gradtts"])
def test_named_front_ends_of_the_hifigan_family_to_1e_5(name: str) -> None:
    target = FrontEnd.load(name)
    got = Converter(plan(HIFIGAN, target, audio=False, pairs=True)).apply(HIFIGAN.mel(AUDIO))
    assert np.abs(got - target.mel(AUDIO)).max() < 1e-5


def test_a_lower_guard_cannot_bring_back_what_a_higher_one_swallowed_and_the_cells_are_counted() -> None:
    silent = np.zeros(6000, np.float32)
    target = changed(log_eps=1e-8, spectrum_eps=0.0)
    done = Converter(plan(HIFIGAN, target, audio=False, pairs=True)).convert(HIFIGAN.mel(silent))
    assert done.at_guard == done.cells
    assert np.allclose(done.mel, np.log(1e-5), atol=1e-4)


def test_the_target_guards_what_a_model_predicts_below_it() -> None:
    target = changed(log="log10", spectrum_eps=0.0)
    got = Converter(plan(HIFIGAN, target, audio=False, pairs=True)).apply(np.full((4, 80), -14.0, np.float32))
    assert np.allclose(got, -5.0)


def test_clips_are_counted_on_both_sides() -> None:
    source = changed(post_scale=0.694871171, post_offset=2.4, clip_min=-4.0, clip_max=4.0)
    mel = np.array([[-4.0] * 40 + [4.0] * 10 + [0.0] * 30], np.float32)
    done = Converter(plan(source, HIFIGAN, audio=False, pairs=True)).convert(np.repeat(mel, 3, 0))
    assert (done.at_guard, done.at_clip, done.cells) == (120, 30, 240)


def test_one_front_end_leaves_every_value_alone() -> None:
    mel = np.linspace(-20, 3, 800, dtype=np.float32).reshape(10, 80)
    assert np.array_equal(Converter(plan(HIFIGAN, HIFIGAN, audio=False, pairs=True)).apply(mel), mel)


def test_padding_of_the_ends_is_exact_but_for_the_frames_that_are_named() -> None:
    source, target = FrontEnd.load("myxtts"), dataclasses.replace(FrontEnd.load("myxtts"), pad_mode="reflect")
    found = plan(source, target, audio=False, pairs=True)
    assert found.how == "exact"
    assert "first and last 2 frames" in " ".join(found.notes)
    got, wanted = Converter(found).apply(source.mel(AUDIO)), target.mel(AUDIO)
    assert np.abs(got - wanted)[2:-2].max() < 1e-4
    assert np.abs(got - wanted).max() > 1e-3


def test_levels_that_differ_stay_the_sources_and_it_is_said() -> None:
    found = plan(HIFIGAN, changed(peak_norm=0.95), audio=False, pairs=True)
    assert found.how == "exact"
    assert "peak_norm" in " ".join(found.notes)
    mel = HIFIGAN.mel(AUDIO)
    assert np.abs(Converter(found).apply(mel) - mel).max() < 2e-6


def test_the_area_norm_is_a_constant_by_bin() -> None:
    relation = relate(HIFIGAN, changed(filter_norm=None))
    assert relation is not None
    assert 3.5 < relation.log_offset.min() < relation.log_offset.max() < 5.8


def test_another_bank_is_no_exact_relation() -> None:
    assert relate(HIFIGAN, changed(fmax=11025.0)) is None
    assert relate(changed(utterance_norm="minmax"), HIFIGAN) is None


@pytest.mark.parametrize("bad", [np.zeros((0, 80)), np.zeros((5, 64)), np.full((3, 80), np.nan), np.zeros(80)])
def test_mels_that_cannot_be_converted_are_data_errors(bad: np.ndarray) -> None:
    converter = Converter(plan(HIFIGAN, changed(log="log10"), audio=False, pairs=True))
    with pytest.raises(DataError):
        converter.apply(bad)


def test_a_transposed_mel_is_recognised() -> None:
    with pytest.raises(DataError) as caught:
        Converter(plan(HIFIGAN, HIFIGAN, audio=False, pairs=True)).apply(np.zeros((80, 7)))
    assert "transposed" in str(caught.value.hint)


def test_guards_by_bin() -> None:
    assert np.allclose(guard(HIFIGAN), 1e-5)
    lifted = guard(FrontEnd.load("vits"))
    assert (lifted > 2e-5).all()
    assert lifted.std() > 0


@pytest.mark.parametrize("name", ["hifigan", "tacotron2", "whisper", "styletts2", "nemo_fastpitch_22k"])
def test_a_length_of_audio_gives_its_number_of_frames_back(name: str) -> None:
    frontend = FrontEnd.load(name)
    for frames in (40, 41, 97):
        wanted = frames - frames % frontend.frame_multiple
        assert frontend.n_frames(likely_samples(frontend, wanted)) == wanted


def test_half_a_hop_costs_or_gives_one_frame() -> None:
    tacotron2 = FrontEnd.load("tacotron2")
    assert not same_grid(HIFIGAN, tacotron2)
    assert target_frames(HIFIGAN, tacotron2, 100) == 101
    assert target_frames(tacotron2, HIFIGAN, 101) == 100


# --- plans ------------------------------------------------------------------------------------------------------------


def test_recordings_of_the_same_mels_are_recomputed_from() -> None:
    found = plan(HIFIGAN, FrontEnd.load("vocos"), audio=True, pairs=False)
    assert found.how == "recompute"
    assert "better" in found.why
    with pytest.raises(UsageError, match="recording"):
        Converter(found).apply(np.zeros((5, 80)))


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("hifigan_jik", "vits_jaywalnut", "7 above"),
        ("hf_speecht5", "bigvgan_v2_44k_128_512x", "outside"),
        ("xtts_v1_gpt_cond", "xtts_v2_gpt_cond", "46.4 ms"),
        ("xtts_speaker_encoder", "hf_speecht5", "cannot be undone"),
        ("myxtts_tf_native", "hifigan_jik", "normalised to [0, 1] by utterance"),
    ],
)  # fmt: skip
def test_what_the_mel_does_not_hold_is_refused_with_the_cause(source: str, target: str, words: str) -> None:
    a, b = FrontEnd.load(source), FrontEnd.load(target)
    found = plan(a, b, audio=True, pairs=True)
    assert found.how == "refused"
    assert words in found.why
    with pytest.raises(RefusedError) as caught:
        Converter(found)
    assert caught.value.exit_code == 5
    assert plan(a, b, audio=True, pairs=True, allow_loss=True).how == "fitted"


def test_without_recordings_a_normalisation_by_utterance_is_refused_whatever_is_allowed() -> None:
    a = FrontEnd.load("myxtts_tf_native")
    assert plan(a, HIFIGAN, audio=False, pairs=True, allow_loss=True).how == "refused"


def test_a_few_bins_at_the_edges_of_the_band_are_said_and_not_refused() -> None:
    found = plan(FrontEnd.load("pwg_ljspeech"), HIFIGAN, audio=True, pairs=True)
    assert found.how == "fitted"
    assert [loss.severe for loss in found.losses] == [False]
    assert "80-7600 Hz" in found.losses[0].words


def test_the_trap_of_24_khz_mels_in_a_22_khz_vocoder_is_named() -> None:
    found = plan(FrontEnd.load("bigvgan_24k_100"), HIFIGAN, audio=True, pairs=True)
    assert "8.8 % too slow" in " ".join(found.notes)
    back = plan(HIFIGAN, FrontEnd.load("bigvgan_24k_100"), audio=True, pairs=True, allow_loss=True)
    assert "8.1 % too fast" in " ".join(back.notes)
