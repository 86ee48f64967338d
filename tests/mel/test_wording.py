"""What differs, in words: true of the fields, complete, and the same for every pair by the same rules."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import scipy.signal

from calib.mel.catalogue import entries
from calib.mel.describe import affine_words, frame_count, number, silence_words, time_words
from calib.mel.frontend import FrontEnd
from calib.mel.wording import Difference, explain_differences


def between(a: str, b: str) -> dict[str, Difference]:
    return {item.field: item for item in explain_differences(FrontEnd.load(a), FrontEnd.load(b))}


def test_half_a_hop_is_named_with_its_time_and_its_sound() -> None:
    found = between("tacotron2", "hifigan")
    assert set(found) == {"padding", "spectrum_eps"}
    assert "128 samples (5.8 ms, half a hop) later" in found["padding"].words
    assert "1 + L // 256 frames against L // 256" in found["padding"].words
    assert "played 5.8 ms late" in found["padding"].effect
    assert "smears" in found["padding"].effect
    assert found["spectrum_eps"].effect.startswith("not heard")
    assert "128 samples (5.8 ms, half a hop) earlier" in between("hifigan", "tacotron2")["padding"].words


WINDOWS = {
    "rate": (FrontEnd(fmax=8000.0), FrontEnd(sample_rate=44100, n_fft=2048, hop_length=512, fmax=8000.0), -6.0, 0.0),
    "fft": (FrontEnd(n_fft=2048, win_length=1024), FrontEnd(), 6.0, 0.0),
    "fft of power": (FrontEnd(n_fft=2048, win_length=1024, power=2), FrontEnd(power=2), 3.0, 0.0),
    "window": (FrontEnd(win_length=512), FrontEnd(), 0.0, -3.0),
    "window of power": (FrontEnd(win_length=512, power=2), FrontEnd(power=2), -3.0, 0.0),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_what_a_window_does_to_the_level_is_what_it_does(name: str) -> None:
    """One sound, sampled at both rates: tones of 300 Hz, and noise."""
    a, b, everything, noise = WINDOWS[name]
    time = np.arange(88200) / 44100
    tones = sum(np.sin(2 * np.pi * 300 * k * time + k**2) for k in range(1, 25)) / 50
    hiss = np.random.default_rng(0).standard_normal(88200) / 20
    level = {}
    for kind, sound in (("tones", tones), ("noise", hiss)):
        first, second = (
            fe.mel(scipy.signal.resample_poly(sound, 1, 44100 // fe.sample_rate).astype(np.float32))[20:-20]
            for fe in (a, b)
        )
        level[kind] = float(np.median((first - second).mean(0)[20:70])) * 8.686 / a.power
    assert level["tones"] == pytest.approx(everything, abs=1.0)
    assert level["noise"] == pytest.approx(everything + noise, abs=1.0)
    (item,) = (item for item in explain_differences(a, b) if item.field in {"win_length", "n_fft"})
    said = {f"{abs(everything):.1f} dB {'lower' if everything < 0 else 'higher'}" if everything else ""}
    said |= {f"noise lies {abs(noise):.1f} dB {'lower' if noise < 0 else 'higher'}" if noise else ""}
    assert all(words in item.effect for words in said)
    assert ("everything lies" in item.effect) == bool(everything)
    assert ("noise lies" in item.effect) == bool(noise)


def test_a_bank_that_only_follows_its_rate_is_no_difference_of_its_own() -> None:
    found = between("whisper", "hifigan")
    assert not {"fb_sample_rate", "fmax"} & set(found)
    assert found["sample_rate"].also == ("fb_sample_rate",)
    assert "fb_sample_rate" in {
        item.field for item in explain_differences(FrontEnd(fb_sample_rate=24000), FrontEnd())
    } | {name for item in explain_differences(FrontEnd(fb_sample_rate=24000), FrontEnd()) for name in item.also}


def test_another_logarithm_is_a_compressed_noisy_sound() -> None:
    effect = between("melgan", "bigvgan_v2_22k_80_nyq")["log"].effect
    assert "values 2.3 times too small" in effect
    assert "a range of 60 dB is heard as 26 dB, a compressed, noisy sound" in effect
    assert "25 dB too loud" in effect
    back = between("bigvgan_v2_22k_80_nyq", "melgan")["log"].effect
    assert "values 2.3 times too large" in back
    assert "138 dB, gated and harsh" in back


def test_power_is_twice_as_steep() -> None:
    effect = explain_differences(FrontEnd(power=2), FrontEnd())[0].effect
    assert "a range of 60 dB is heard as 120 dB" in effect
    assert "0.7 dB of roughness" in effect


def test_another_band_moves_the_bins() -> None:
    found = between("cosyvoice2_24k", "cosyvoice3_24k")
    assert set(found) == {"fmax"}
    assert "0-8,000 Hz against 80 bins, slaney scale, 0-12,000 Hz" in found["fmax"].words
    assert "formants move higher, another voice" in found["fmax"].effect
    assert "nothing above 8,000 Hz" in found["fmax"].effect
    assert "does not fit" in between("hifigan", "bigvgan")["fmax"].effect
    assert "really 0-12,000 Hz" in between("styletts2", "cosyvoice3_24k")["fmax"].words


def test_a_floor_is_told_from_its_direction() -> None:
    assert "flat 60 dB above" in between("tacotron2", "coqui_ap_ln")["log_eps"].effect
    assert "60 dB below" in between("coqui_ap_ln", "tacotron2")["log_eps"].effect
    assert "bends the logarithm" in explain_differences(FrontEnd(log_guard="add", log_eps=1.0), FrontEnd())[0].effect


def test_an_area_norm_that_is_missing_is_loud_and_one_that_is_too_much_quiet() -> None:
    plain, area = FrontEnd(filter_norm=None), FrontEnd()
    (loud,) = explain_differences(plain, area)
    (quiet,) = explain_differences(area, plain)
    assert re.search(r"32 dB to 53 dB too loud", loud.effect)
    assert re.search(r"32 dB to 53 dB too quiet", quiet.effect)


def test_what_an_utterance_decides_cannot_be_brought_back() -> None:
    assert "no map brings it back" in between("myxtts_tf_native", "myxtts")["utterance_norm"].effect
    (item,) = explain_differences(FrontEnd(overwrite_last=1), FrontEnd())
    assert "a click at the end" in item.effect
    (item,) = explain_differences(FrontEnd(overwrite_last=1, overwrite_value=-11.52), FrontEnd())
    assert item.effect.startswith("not heard")


def test_a_negative_divisor_is_upside_down() -> None:
    (item,) = explain_differences(FrontEnd(post_std=(-2.0,) * 80), FrontEnd())
    assert item.field == "post_std"
    assert "upside down" in item.effect


def test_the_slower_rate_is_the_faster_speech() -> None:
    same_hop = explain_differences(FrontEnd(fmax=8000.0), FrontEnd(sample_rate=24000, fmax=8000.0))[0]
    assert same_hop.field == "sample_rate"
    assert "8.8 % too fast" in same_hop.effect
    assert "1.6 times too slow" in between("whisper", "speecht5")["hop_length"].effect


def test_pre_emphasis_is_a_thin_sound_that_a_per_bin_offset_repairs() -> None:
    (item,) = explain_differences(FrontEnd(preemphasis=0.97), FrontEnd())
    assert "a thin, hissing sound" in item.effect
    (item,) = explain_differences(FrontEnd(), FrontEnd(preemphasis=0.97))
    assert "a dull, booming sound" in item.effect


def test_every_pair_of_the_catalogue_is_explained_completely() -> None:
    """Each differing field stands in exactly one difference, none without words or effect, and no number is infinite."""
    distinct = list({entry.frontend.id: entry.frontend for entry in entries()}.values())
    for a, b in itertools.permutations(distinct[::2], 2):
        found = explain_differences(a, b)
        named = [name for item in found for name in (item.field, *item.also)]
        assert sorted(named) == sorted(a.differences(b))
        for item in found:
            assert item.words
            assert item.effect
            assert not re.search(r"\b(nan|inf)\b", f"{item.words} {item.effect}"), item
            assert (item.a, item.b) == (getattr(a, item.field), getattr(b, item.field))
    assert explain_differences(distinct[0], distinct[0]) == []


@pytest.mark.parametrize("fe", [entry.frontend for entry in entries()], ids=[entry.id for entry in entries()])
def test_the_formula_of_the_frames_gives_their_number(fe: FrontEnd) -> None:
    formula = frame_count(fe).replace("ceil(L / ", "-(-L // ")
    for length in (fe.n_fft * 2, fe.n_fft * 2 + fe.hop_length - 1, 50_000, 50_001):
        assert eval(formula, {"L": length}) == fe.n_frames(length)  # noqa: S307 - our own formula


def test_formulas_of_frames_with_zeros_and_drops() -> None:
    assert frame_count(FrontEnd(pad_audio=5000, frame_multiple=2)) == "1 + (L + 10000) // 256, cut to a multiple of 2"
    assert frame_count(FrontEnd(padding="none")) == "L // 256 - 3"
    assert frame_count(FrontEnd(padding="same", drop_last=1)) == "L // 256 - 1"


def test_one_front_end_in_words() -> None:
    assert affine_words(FrontEnd.load("matcha")) == "0.472567236 ln(max(m, 1e-05)) + 2.61642615 of the magnitude m"
    assert affine_words(FrontEnd.load("coqui")).endswith("clipped to [-4, 4]")
    assert affine_words(FrontEnd.load("librosa")) == "m, a power"
    assert silence_words(FrontEnd.load("vits")) == "-10.004 to -9.941, by bin"
    assert "maximum less 2" in silence_words(FrontEnd.load("whisper"))
    assert time_words(FrontEnd.load("hifigan")) == (
        "a frame every 256 samples (11.6 ms), the centre of the first on sample 128 (5.8 ms), half a hop in"
    )
    assert [number(v) for v in (22050, -11.5129, 1e-5)] == ["22,050", "-11.51", "1e-05"]
