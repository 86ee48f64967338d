"""The catalogue: strict, complete, executable; its front ends against golden mels computed by definition; exact maps."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speechlike import voice

from calib.errors import DataError, UsageError
from calib.mel.catalogue import catalogue, entries, equivalents, parse, relatives
from calib.mel.frontend import FrontEnd
from calib.mel.maps import exact_map

GOLDEN = Path(__file__).parent / "golden"
TEXT = resources.files("calib.mel").joinpath("catalogue.yaml").read_text(encoding="utf-8")
IDS = [entry.id for entry in entries()]


def load_make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = load_make()
CASES = MAKE.cases()
MELS = np.load(GOLDEN / "golden.npz")
SIGNALS: dict[int, np.ndarray] = {}


def signal(rate: int) -> np.ndarray:
    if rate not in SIGNALS:
        SIGNALS[rate] = MAKE.signal(rate)
    return SIGNALS[rate]


# --- golden ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_member_of_every_family_and_every_option_equals_the_definition(name: str) -> None:
    fe = FrontEnd.from_fields(CASES[name])
    mel = fe.mel(signal(fe.sample_rate))
    assert len(mel) == MELS[f"{name}|count"]
    got, want = MAKE.kept(mel), MELS[f"{name}|frames"]
    if fe.log == "none":
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    else:
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    assert np.ptp(want) > 0.3, "a golden mel of nothing would compare nothing"


@pytest.mark.parametrize("name", ["whisper", "xtts_speaker_encoder", "last overwritten"])
def test_the_golden_mels_are_what_their_script_makes(name: str) -> None:
    """Three of the cheaper ones; the script recomputes all."""
    fields = CASES[name]
    m = MAKE.mel(fields, signal(fields["sample_rate"]))
    np.testing.assert_allclose(MAKE.kept(m), MELS[f"{name}|frames"], rtol=1e-6, atol=1e-6)


def test_every_family_of_the_catalogue_and_every_field_has_a_golden_mel() -> None:
    golden = {name: FrontEnd.from_fields(fields) for name, fields in CASES.items()}
    families = {fe.family for fe in golden.values()}
    assert [entry.id for entry in entries() if entry.frontend.family not in families] == []
    for name in set(golden) & set(IDS):
        assert golden[name] == catalogue()[name].frontend, f"{name} changed: rewrite its case and golden.npz"
    default = FrontEnd().fields()
    changed = {key for fe in golden.values() for key, value in fe.fields().items() if value != default[key]}
    assert changed == set(default)


# --- the entries ----------------------------------------------------------------------------------------------------


def test_there_are_71_front_ends_of_56_mels() -> None:
    assert len(IDS) == len(set(IDS)) == 71
    assert len({entry.frontend.id for entry in entries()}) == 56


@pytest.mark.parametrize("name", IDS)
def test_every_front_end_runs_at_its_rate_with_the_frames_that_it_promises(name: str) -> None:
    fe = catalogue()[name].frontend
    source = voice(0.5, 3, fe.sample_rate)
    hop, shortest = fe.hop_length, fe.shortest_audio
    whole = -(-(fe.n_fft + 2 * hop) // hop) * hop
    loud = np.tile(source[source != 0], 4)
    for n in {shortest, shortest + 1, shortest + hop - 1, whole - 1, whole, whole + 1, whole + hop // 2}:
        x = loud[:n]
        mel = fe.mel(x)
        assert mel.shape == (fe.n_frames(len(fe.prepare(x))), fe.n_mels)
        assert len(mel) > 0
        assert np.isfinite(mel).all()
    if shortest > 1:
        with pytest.raises(DataError, match=f"at least {shortest}"):
            fe.mel(loud[: shortest - 1])


@pytest.mark.parametrize("name", IDS)
def test_silence_is_what_silence_gives(name: str) -> None:
    fe = catalogue()[name].frontend
    mel = fe.mel(np.zeros(8 * fe.n_fft, dtype=np.float32))
    inner = mel[: len(mel) - fe.overwrite_last]
    np.testing.assert_allclose(inner, np.broadcast_to(fe.silence, inner.shape), atol=2e-6, rtol=1e-6)
    if fe.floor is not None:
        np.testing.assert_allclose(fe.silence, fe.floor, atol=1e-6)


@pytest.mark.parametrize("name", IDS)
def test_linear_and_finish_are_the_two_halves_of_mel(name: str) -> None:
    fe = catalogue()[name].frontend
    x = voice(0.6, 5, fe.sample_rate)
    linear = fe.linear(x)
    before = linear.copy()
    np.testing.assert_array_equal(fe.finish(linear), fe.mel(x))
    np.testing.assert_array_equal(linear, before)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("vits_jaywalnut", -10.004, -9.941), ("sovits_svc_44k", -9.994, -9.942), ("espnet2_tts_22k", -6.352, -6.300), ("espnet2_tts_24k", -6.075, -6.063),
        ("espnet2_tts_default_16k", -6.203, -6.179), ("rvc_32k", -11.258, -11.056), ("rvc_48k", -10.936, -10.749), ("coqui_torchstft_voc", -12.307, -12.244),
        ("nemo_vits", -8.853, -8.790), ("styletts2", -1.878231, -1.878231), ("coqui_ap_stats", -160.0, -160.0), ("whisper", -1.5, -1.5),
    ],
)  # fmt: skip
def test_silence_lies_where_the_systems_own_code_puts_it(name: str, low: float, high: float) -> None:
    """The published ranges: where an eps enters before the bank, silence differs by bin and is no floor."""
    fe = catalogue()[name].frontend
    assert fe.silence.min() == pytest.approx(low, abs=6e-4)
    assert fe.silence.max() == pytest.approx(high, abs=6e-4)
    assert (fe.floor is None) == (name != "coqui_ap_stats")


@pytest.mark.parametrize(
    ("name", "offset", "frames"),
    [
        ("tacotron2", 0, 87),
        ("hifigan", 128, 86),
        ("styletts2", 0, 74),
        ("myxtts_tf_native", 512, 87),
        ("whisper", 0, 137),
    ],
)
def test_time_of_frames(name: str, offset: int, frames: int) -> None:
    fe = FrontEnd.load(name)
    assert (fe.centre_offset, fe.n_frames(22050)) == (offset, frames)


def test_training_of_styletts2_is_a_matter_of_two_options() -> None:
    """5000 zeros joined on both sides, and T made even."""
    plain = FrontEnd.load("styletts2")
    fe = FrontEnd.load({"base": "styletts2", "pad_audio": 5000, "frame_multiple": 2})
    x = voice(0.51, 1, 24000)
    joined = np.concatenate([np.zeros(5000, np.float32), x, np.zeros(5000, np.float32)])
    want = plain.mel(joined)
    np.testing.assert_array_equal(fe.mel(x), want[: len(want) // 2 * 2])
    assert fe.centre_offset == -5000
    assert len(want) % 2 == 1, "choose a length that shows it"


def test_a_short_name_leads_to_its_entry() -> None:
    wanted = {
        "tacotron2": "tacotron2_nv", "hifigan": "hifigan_jik", "myxtts": "myxtts_utils_audio", "matcha": "matcha_ljspeech", "bigvgan": "bigvgan_24k_100", "vocos": "vocos_mel_24k",
        "xtts": "xtts_v2_gpt_cond", "speecht5": "hf_speecht5", "whisper": "whisper", "styletts2": "styletts2", "cosyvoice": "cosyvoice2_24k", "f5tts": "f5tts_vocos",
    }  # fmt: skip
    assert {alias: catalogue()[alias].id for alias in wanted} == wanted
    assert FrontEnd.load("waveglow").name == "tacotron2_nv", "the first of several systems with one mel gives the name"


def test_identical_mels_and_families_are_found() -> None:
    assert equivalents(FrontEnd.load("hifigan")) == ("hifigan_jik", "bigvgan_22k_80_8k", "gradtts", "cosyvoice1_22k")
    assert equivalents(FrontEnd(fmax=7000.0)) == ()
    assert set(relatives(FrontEnd.load("vocos"))) == {"vocos_mel_24k", "f5tts_vocos"}
    assert set(relatives(FrontEnd.load("matcha"))) >= {"hifigan_jik", "matcha_vctk", "gradtts"}


def test_every_entry_says_what_a_person_needs() -> None:
    for entry in entries():
        assert entry.title
        assert "@" in entry.source
        assert entry.statistics is None or entry.stats
        assert entry.audio


def test_loading_the_catalogue_takes_under_50_ms() -> None:
    """CPU time of the best of five."""
    best = np.inf
    for _ in range(5):
        started = time.process_time()
        parse(TEXT)
        best = min(best, time.process_time() - started)
    assert best < 0.05, f"{best * 1e3:.0f} ms"


# --- strictness -----------------------------------------------------------------------------------------------------


def edited(**changes: Any) -> str:
    import yaml

    row: dict[str, Any] = {"title": "t", "source": "a/b@c", "layout": "MT", "fields": {"fmax": 8000.0}, **changes}
    return yaml.safe_dump({"frontends": {"one": {key: value for key, value in row.items() if value != "-"}}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tittle": "t"}, "one: unknown key 'tittle'"),
        ({"title": "-"}, "one: title is missing"),
        ({"layout": "TMM"}, "one: layout is 'TMM'; it must be one of MT, TM"),
        ({"statistics": "global"}, "one: statistics is 'global'"),
        ({"batch_pad": "loud"}, "one: batch_pad must be a number"),
        ({"batch_pad": True}, "one: batch_pad must be a number"),
        ({"aliases": "x"}, "one: aliases must be texts"),
        ({"notes": [{"a": 1}]}, "one: notes must be texts"),
        ({"audio": 3}, "one: audio must be a text"),
        ({"aliases": ["one"]}, "one: 'one' stands twice"),
        ({"fields": {"fmaxx": 8000.0}}, "one: front end: unknown field 'fmaxx'"),
        ({"fields": {"fmax": 20000.0}}, "one: front end: need 0 <= fmin < fmax"),
        ({"fields": {"n_mels": "80"}}, "one: front end: n_mels cannot be '80'"),
        ({"fields": [1]}, "one: fields must be a mapping"),
    ],
    ids=str,
)
def test_a_malformed_entry_is_an_error_that_names_it(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(edited(**changes))
    assert str(caught.value).startswith(f"catalogue: {message}")


def test_a_catalogue_that_is_none_is_an_error() -> None:
    assert list(parse(edited())) == ["one"]
    for text in ("- a", "frontends: 3", "frontends: {one: 3}", "frontends: {}\nother: 1"):
        with pytest.raises(UsageError, match="catalogue"):
            parse(text)


# --- exact maps -----------------------------------------------------------------------------------------------------


def pairs_of_one_family() -> list[tuple[str, str]]:
    firsts = {entry.frontend.id: entry for entry in entries()}
    return [
        (a.id, b.id)
        for a in firsts.values()
        for b in firsts.values()
        if a is not b and a.frontend.family == b.frontend.family
    ]


@pytest.mark.parametrize(("first", "second"), pairs_of_one_family())
def test_the_exact_map_between_relatives_holds_away_from_guards(first: str, second: str) -> None:
    a, b = FrontEnd.load(first), FrontEnd.load(second)
    check_map(a, b, voice(0.6, 7, a.sample_rate))


def check_map(a: FrontEnd, b: FrontEnd, x: np.ndarray) -> None:
    """It holds to rounding, and up to what an eps under the root adds at most: its root through the filter."""
    found = exact_map(a, b)
    assert found is not None
    assert found.scale is not None
    assert found.offset is not None
    mine, theirs = a.mel(x), b.mel(x)
    linear = dataclasses.replace(
        a, log="none", spectrum_eps=0.0, post_scale=1.0, post_offset=0.0, clip_min=None
    ).linear(x)
    clear = linear > 1.01 * max(fe.log_eps if fe.log_guard != "none" else 0.0 for fe in (a, b))
    offset = a.bank_norm_offset(b)
    assert offset is not None
    clear &= linear * np.exp(offset) > 1.01 * b.log_eps
    for fe, mel in ((a, mine), (b, theirs)):
        clear &= mel > (-np.inf if fe.clip_min is None else fe.clip_min)
        clear &= mel < (np.inf if fe.clip_max is None else fe.clip_max)
    assert clear.mean() > 0.2
    got = found.scale * mine.astype(np.float64) + found.offset
    affine = b.affine_from_ln()
    assert affine is not None
    apart = np.abs((got - theirs) / affine[0])[clear]
    # Float32 values, divided by a scale that may be small.
    allowed = 2e-5 + 3e-7 * (np.abs(affine[1]).max() + 12) / np.abs(affine[0]) * np.ones_like(linear)
    if (a.spectrum_eps, a.spectrum_eps_mode) != (b.spectrum_eps, b.spectrum_eps_mode):
        allowed += sum(fe.spectrum_eps ** (fe.power / 2) for fe in (a, b)) * a.basis().sum(1) / np.maximum(linear, 1e-9)
    assert (apart <= allowed[clear]).all(), apart.max()
    assert np.median(apart) < 2e-3


@settings(max_examples=25, deadline=None)
@given(
    log=st.sampled_from(["ln", "log10"]),
    multiplier=st.sampled_from([1.0, 20.0, 25.0]),
    scale=st.floats(0.05, 3.0),
    offset=st.floats(-5.0, 5.0),
    per_bin=st.booleans(),
    norm=st.sampled_from(["slaney", None]),
    eps=st.sampled_from([1e-5, 1e-8]),
    seed=st.integers(0, 3),
)
def test_front_ends_of_one_bank_have_an_exact_map(
    log: str, multiplier: float, scale: float, offset: float, per_bin: bool, norm: str | None, eps: float, seed: int
) -> None:
    a = FrontEnd(fmax=8000.0, log_eps=1e-7)
    rng = np.random.default_rng(seed)
    b = FrontEnd(
        fmax=8000.0, log=log, log_multiplier=multiplier, post_scale=scale, post_offset=offset, filter_norm=norm, log_eps=eps,
        post_mean=tuple(rng.normal(-5, 1, 80)) if per_bin else None, post_std=tuple(rng.uniform(-3, -1, 80)) if per_bin else None,
    )  # fmt: skip
    x = voice(0.5, seed)
    check_map(a, b, x)
    mine = a.mel(x)
    there, back = exact_map(a, b), exact_map(b, a)
    assert there is not None
    assert back is not None
    assert there.scale is not None
    assert there.offset is not None
    assert back.scale is not None
    assert back.offset is not None
    again = back.scale * (there.scale * mine + there.offset) + back.offset
    np.testing.assert_allclose(again, mine, atol=1e-9 * max(1.0, np.abs(mine).max()) * 1e3)


def test_an_area_norm_is_a_constant_by_bin_as_published() -> None:
    """-3.617 (bin 0) to -5.689 (bin 79), mean -4.329, for 22.05 kHz, 80 bins, 0-8000 Hz."""
    plain, area = FrontEnd(fmax=8000.0, filter_norm=None), FrontEnd(fmax=8000.0)
    assert plain.family != area.family
    offset = plain.bank_norm_offset(area)
    assert offset is not None
    assert offset[[0, 79]] == pytest.approx([-3.617, -5.689], abs=2e-3)
    assert offset.mean() == pytest.approx(-4.329, abs=2e-3)
    x = voice(0.4, 1)
    np.testing.assert_allclose(np.log(area.linear(x)[5:20]), np.log(plain.linear(x)[5:20]) + offset, atol=1e-4)
    assert not np.asarray(area.bank_norm_offset(area)).any()
    assert plain.bank_norm_offset(FrontEnd(fmax=7600.0)) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [("hifigan", "tacotron2"), ("xtts_dvae", "tacotron2"), ("myxtts_tf_native", "myxtts"), ("hifigan", "vits")],
)
def test_front_ends_that_differ_before_the_logarithm_have_no_exact_map(first: str, second: str) -> None:
    assert exact_map(FrontEnd.load(first), FrontEnd.load(second)) is None


def test_a_bent_logarithm_has_an_elementwise_map_and_no_affine_one() -> None:
    a, b = FrontEnd(log_guard="add", log_eps=1.0), FrontEnd()
    found = exact_map(a, b)
    assert found is not None
    assert (found.kind, found.scale) == ("elementwise", None)
    assert found.words == "m = exp(y) - 1; y' = ln(max(m, 1e-05)) of the magnitude m"
    x = voice(0.4, 1)
    np.testing.assert_allclose(b.finish(a.to_linear(a.mel(x))), b.mel(x), atol=0.2)


@pytest.mark.parametrize(
    ("first", "second", "scale", "offset"),
    [
        ("tacotron2", "coqui_ap_ln", 1.0, 0.0), ("bigvgan_v2_22k_80_nyq", "melgan", 0.4342944819, 0.0), ("hifigan", "matcha", 0.472567236, 2.616426154),
        ("hifigan", "matcha_vctk", 0.402752572, 2.670481136), ("bigvgan", "gptsovits_v3", 0.142857143, 0.714285714), ("coqui_ap_stats", "coqui_ap_default", 0.08, 2.4),
    ],
)  # fmt: skip
def test_the_published_affine_maps(first: str, second: str, scale: float, offset: float) -> None:
    found = exact_map(FrontEnd.load(first), FrontEnd.load(second))
    assert found is not None
    assert found.scale is not None
    assert found.offset is not None
    np.testing.assert_allclose(found.scale, scale, atol=1e-9)
    np.testing.assert_allclose(found.offset, offset, atol=1e-8)


# --- statistics files and mappings ----------------------------------------------------------------------------------


def numpy_statistics(path: Path, rows: int = 2) -> tuple[Path, np.ndarray]:
    values = np.stack([np.linspace(-2, -3, 80), np.linspace(0.5, 1.0, 80)])[:rows].astype(np.float32)
    np.save(path, values)
    return path, values.astype(np.float64)


def test_a_statistics_file_after_the_name_normalises_by_bin(tmp_path: Path) -> None:
    path, (mean, std) = numpy_statistics(tmp_path / "stats.npy")
    plain, fe = FrontEnd.load("pwg"), FrontEnd.load(f"pwg@{path}")
    x = voice(0.4, 1)
    np.testing.assert_allclose(fe.mel(x), (plain.mel(x) - mean) / std, atol=1e-5)
    assert fe.family == plain.family
    assert fe == FrontEnd.load({"base": "pwg", "stats": str(path)})
    (tmp_path / "mine.yaml").write_text("base: pwg\nstats: stats.npy\n")
    assert FrontEnd.load(tmp_path / "mine.yaml") == fe, "a relative file lies beside the YAML"
    (tmp_path / "other.yaml").write_text("base: mine.yaml\n")
    assert FrontEnd.load(tmp_path / "other.yaml") == fe, "and so does a relative base"


def test_statistics_on_what_normalises_already_are_an_error_that_names_a_plain_front_end(tmp_path: Path) -> None:
    path, _ = numpy_statistics(tmp_path / "stats.npy")
    with pytest.raises(UsageError, match="normalises already") as caught:
        FrontEnd.load(f"matcha@{path}")
    assert "such as hifigan_jik" in str(caught.value.hint)
    with pytest.raises(UsageError, match="only divide"):
        FrontEnd.load(f"xtts@{path}")
    with pytest.raises(UsageError, match="100 mel bins"):
        FrontEnd.load(f"vocos@{path}")
    with pytest.raises(UsageError, match="unknown front end 'pgw'") as caught:
        FrontEnd.load(f"pgw@{path}")
    assert "did you mean pwg" in str(caught.value.hint)
    with pytest.raises(DataError):
        FrontEnd.load(f"pwg@{tmp_path / 'none.npy'}")


def test_two_numbers_normalise_as_a_scale_and_an_offset() -> None:
    fe = FrontEnd.load("hifigan").with_statistics(-5.536622, 2.116101)
    assert fe == FrontEnd.load("matcha")
    assert FrontEnd().with_statistics(None, np.full(80, -2.0)).post_std == (-2.0,) * 80
    with pytest.raises(UsageError, match="divide by 0"):
        FrontEnd().with_statistics(0.0, 0.0)
    with pytest.raises(UsageError, match="post_std must not be 0"):
        FrontEnd().with_statistics(None, np.zeros(80))
    with pytest.raises(UsageError, match="normalises already"):
        fe.with_statistics(0.0, 1.0)


def test_a_base_gives_what_the_mapping_does_not_say() -> None:
    assert FrontEnd.load({"base": "hifigan"}) == FrontEnd.load("hifigan")
    assert FrontEnd.load({"base": "hifigan", "fmax": 7600.0}) == dataclasses.replace(
        FrontEnd.load("hifigan"), fmax=7600.0
    )
    # What follows another field in the base follows it in the new one too.
    moved = FrontEnd.load({"base": "bigvgan_v2_22k_80_nyq", "sample_rate": 24000, "n_fft": 2048})
    assert (moved.fmax, moved.fb_sample_rate, moved.win_length) == (12000.0, 24000, 2048)
    with pytest.raises(UsageError, match="unknown field 'fmaxx'"):
        FrontEnd.load({"base": "hifigan", "fmaxx": 1})
    with pytest.raises(UsageError, match="hifgan"):
        FrontEnd.load({"base": "hifgan"})


def test_the_configuration_of_another_system_is_read(tmp_path: Path) -> None:
    import json

    config = {
        "resblock": "1", "num_mels": 80, "n_fft": 1024, "hop_size": 256, "win_size": 1024, "sampling_rate": 22050, "fmin": 0, "fmax": 8000, "upsample_rates": [8, 8, 2, 2],
        "upsample_kernel_sizes": [16, 16, 4, 4], "upsample_initial_channel": 512, "resblock_kernel_sizes": [3, 7, 11], "segment_size": 8192, "batch_size": 16,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert FrontEnd.load(tmp_path / "config.json").differences(FrontEnd.load("hifigan")) == {}
