"""Faulty front ends: the geometry against real filterbanks, the templates against mels that were really computed."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import soxr
from speechlike import RATE, voice

from calib.mel.filterbank import hz_to_mel, mel_filterbank, mel_to_hz
from calib.mel.frontend import FrontEnd
from calib.mel.variants import Variants, bank_geometry, variants_of

HIFIGAN = FrontEnd.load("hifigan")
OTHERS = {
    "hifigan": HIFIGAN,
    "htk, not normalised": dataclasses.replace(HIFIGAN, mel_scale="htk", filter_norm=None, fmin=20.0, fmax=7600.0),
    "power in dB": dataclasses.replace(HIFIGAN, power=2, log="log10", log_multiplier=10.0, log_eps=1e-10),
    "pre-emphasised": dataclasses.replace(HIFIGAN, preemphasis=0.97),
    "16 kHz": dataclasses.replace(HIFIGAN, sample_rate=16000, fb_sample_rate=0, fmax=8000.0, padding="center"),
}


@functools.cache
def noise() -> np.ndarray:
    """Four seconds, white: every bin hears the same density."""
    return (0.1 * np.random.default_rng(0).standard_normal(4 * RATE)).astype(np.float32)


def centres(frontend: FrontEnd) -> np.ndarray:
    """Where the filters of a bank peak, in Hz, read from the bank itself on a fine grid."""
    n_fft = 1 << 15
    bank = mel_filterbank(
        frontend.sample_rate, n_fft, frontend.n_mels, frontend.fmin, frontend.fmax or frontend.sample_rate / 2,
        frontend.mel_scale, frontend.filter_norm,
    )  # fmt: skip
    return np.asarray(bank.argmax(axis=1) * frontend.sample_rate / n_fft)


@pytest.mark.parametrize("name", OTHERS)
def test_keys_are_unique_and_every_variant_differs_in_what_its_fault_says(name: str) -> None:
    frontend = OTHERS[name]
    fields = {
        "mel-scale": {"mel_scale"}, "fmax": {"fmax"}, "fmin": {"fmin"}, "area-norm": {"filter_norm"},
        "pre-emphasis": {"preemphasis"}, "half-hop": {"padding"}, "log-power": {"power", "log_eps"}, "power-floor": {"power"},
    }  # fmt: skip
    variants = variants_of(frontend)
    assert len({v.key for v in variants}) == len(variants)
    assert len({v.frontend.id for v in variants} | {frontend.id}) == len(variants) + 1
    for variant in variants:
        before, after = dataclasses.asdict(frontend), dataclasses.asdict(variant.frontend)
        assert {f for f in before if before[f] != after[f]} == set().union(*(fields[fault] for fault in variant.faults))
        assert variant.key.split(":")[0] == variant.faults[0]
    assert {fault for v in variants for fault in v.faults} == set(fields)


def test_a_variant_is_named_for_what_it_is() -> None:
    """The label says which way round: without area normalisation where the target has it, with it where it has none."""
    labels = {v.key: v.label for v in variants_of(HIFIGAN)}
    assert labels["area-norm:none"] == "no area normalisation"
    assert {v.key for v in variants_of(OTHERS["htk, not normalised"])} >= {"area-norm:slaney", "mel-scale:slaney"}
    assert labels["fmax:11025"] == "fmax 11025 Hz"
    assert labels["fmin:80-7600"] == "fmin 80 Hz, fmax 7600 Hz"


@pytest.mark.parametrize("name", OTHERS)
def test_a_warp_leads_each_bin_to_where_its_filter_really_lies(name: str) -> None:
    """The faulty filter's peak frequency, read off the target's bank at the warp's place, within half an FFT bin."""
    frontend = OTHERS[name]
    own = centres(frontend)
    by_label = {v.label: v.frontend for v in variants_of(frontend)}
    warps = bank_geometry(frontend, frontend.n_mels).warps
    assert len(warps) == sum(v.faults[0] in {"mel-scale", "fmax", "fmin"} for v in variants_of(frontend))
    for warp in warps:
        theirs = centres(by_label[warp.label])
        heard = np.interp(warp.place, np.arange(frontend.n_mels), own)
        inside = (theirs > own[0]) & (theirs < own[-1])
        assert inside.any()
        np.testing.assert_allclose(heard[inside], theirs[inside], atol=1.0)  # Hz
        assert (warp.offset is None) == (frontend.filter_norm is not None)


def test_of_an_unknown_target_each_usual_bank_may_be_the_target_s_or_the_prediction_s() -> None:
    """A warp and its way back leave the bins where they are, where both are inside; a plain front end as the other side."""
    warps = bank_geometry(None, 80).warps
    bins = np.arange(80, dtype=np.float64)
    for hertz in (50, 80, 125):
        (there,) = (w for w in warps if w.label == f"as if fmin {hertz} Hz")
        (back,) = (w for w in warps if w.label == f"as if fmin {hertz} Hz of the target")
        assert there.faults == back.faults == ("fmin",)
        own, theirs = (centres(dataclasses.replace(HIFIGAN, fmin=float(f))) for f in (0, hertz))
        inside = (own > theirs[0]) & (bins < 79)  # there both end, and nothing lies beyond
        np.testing.assert_allclose(
            np.interp(back.place, bins, theirs)[inside], own[inside], atol=6.0
        )  # Hz, half an FFT bin
        assert back.place[1:].min() >= 0.0
        assert (back.place <= bins).all()
    for warp in warps:
        assert sum(np.abs(warp.place - other.place).max() < 0.4 for other in warps) == 1


def test_filters_without_area_hear_more_where_they_are_wider() -> None:
    """The offset beside a warp, against mels of noise: within .1 ln of what the wider or narrower filter adds."""
    frontend = OTHERS["htk, not normalised"]
    by_label = {v.label: v.frontend for v in variants_of(frontend)}
    own = frontend.mel(noise()).mean(axis=0)
    bins = np.arange(frontend.n_mels)
    for warp in bank_geometry(frontend, frontend.n_mels).warps:
        theirs = by_label[warp.label].mel(noise()).mean(axis=0)
        assert warp.offset is not None
        inside = (warp.place > 3) & (warp.place < frontend.n_mels - 2) & (bins > 3)
        difference = theirs - np.interp(warp.place, bins, own)
        # Over a few bins: single narrow filters hold two or three FFT bins, one more or less.
        smooth = np.convolve(difference - warp.offset, np.ones(5) / 5, mode="same")[inside]
        assert np.abs(smooth[3:-3]).max() < 0.1, warp.label


@pytest.mark.parametrize("name", ["hifigan", "htk, not normalised", "power in dB", "16 kHz"])
def test_the_area_template_is_what_the_other_normalisation_adds(name: str) -> None:
    """ln((f_{k+2} - f_k) / 2) for each bin, in the mel's own unit; the edges written out here once more."""
    frontend = OTHERS[name]
    geometry = bank_geometry(frontend, frontend.n_mels)
    (variant,) = (v for v in variants_of(frontend) if v.faults == ("area-norm",))
    measured = (variant.frontend.mel(noise()) - frontend.mel(noise())).mean(axis=0)
    assert geometry.area is not None
    unit = 1.0 if frontend.log == "ln" else 10.0 / np.log(10)
    np.testing.assert_allclose(geometry.area, measured, atol=0.05 * unit)
    low, high = (hz_to_mel(f, frontend.mel_scale) for f in (frontend.fmin, frontend.fmax))
    edges = mel_to_hz(np.linspace(float(low), float(high), frontend.n_mels + 2), frontend.mel_scale)
    sign = 1.0 if frontend.filter_norm else -1.0
    np.testing.assert_allclose(geometry.area, sign * unit * np.log((edges[2:] - edges[:-2]) / 2), rtol=1e-6)


@pytest.mark.parametrize("name", ["hifigan", "power in dB", "pre-emphasised"])
def test_the_emphasis_template_is_what_pre_emphasis_adds(name: str) -> None:
    """Against mels of noise with and without: the response at a bin's centre stands for the whole bin."""
    frontend = OTHERS[name]
    geometry = bank_geometry(frontend, frontend.n_mels)
    by_coefficient = {
        v.frontend.preemphasis: v.frontend for v in variants_of(frontend) if v.faults == ("pre-emphasis",)
    }
    assert len(geometry.emphasis) == len(by_coefficient)
    for coefficient, curve in geometry.emphasis:
        other = by_coefficient[0.0 if frontend.preemphasis else coefficient]
        measured = (other.mel(noise()) - frontend.mel(noise())).mean(axis=0)
        np.testing.assert_allclose(curve[3:] / geometry.per_ln, measured[3:] / geometry.per_ln, atol=0.06)
        # The window leaks from the louder bins into the lowest, where the filter has its zero.
        assert np.abs(curve[:3] - measured[:3]).max() / geometry.per_ln < 0.5


@pytest.mark.parametrize(("name", "per_ln"), [("hifigan", 1.0), ("power in dB", 2 * 10 / np.log(10))])
def test_a_mel_unit_is_what_doubling_the_audio_adds(name: str, per_ln: float) -> None:
    frontend = OTHERS[name]
    geometry = bank_geometry(frontend, frontend.n_mels)
    assert geometry.per_ln == pytest.approx(per_ln)
    added = float((frontend.mel(2 * noise()) - frontend.mel(noise())).mean())
    assert added == pytest.approx(np.log(2) * geometry.per_ln, rel=1e-3)
    assert geometry.floor == pytest.approx(float(frontend.mel(np.zeros(RATE, np.float32)).max()), abs=1e-4)


@pytest.mark.parametrize("ratio", [24000 / 22050, 16000 / 22050, 2.0])
def test_a_relabelled_rate_moves_a_tone_to_where_the_geometry_says(ratio: float) -> None:
    """Audio at ``ratio`` times the rate, taken for audio at the rate: a tone sounds 1 / ratio as high and as slow."""
    geometry = bank_geometry(HIFIGAN, 80)
    place = geometry.relabelled(ratio)
    assert place is not None
    tones = [f for f in (500.0, 1100.0, 2300.0, 3500.0) if max(f, f / ratio) < 7000]
    for tone in tones:
        samples = (0.3 * np.sin(2 * np.pi * tone * np.arange(RATE) / RATE)).astype(np.float32)
        variants = Variants(HIFIGAN, lambda _, x=samples: x)  # type: ignore[misc]
        heard, own = variants.relabelled(0, ratio), variants.target(0)
        assert heard is not None
        assert own is not None
        assert len(heard) == pytest.approx(len(own) * ratio, abs=1)
        k = int(heard.mean(axis=0).argmax())
        assert place[k] == pytest.approx(int(own.mean(axis=0).argmax()), abs=1.0)


def test_a_relabelled_rate_is_resampled_speech_read_as_it_is() -> None:
    samples = voice(1.5, 3)
    found = Variants(HIFIGAN, lambda _: samples).relabelled(0, 24000 / 22050)
    np.testing.assert_array_equal(found, HIFIGAN.mel(soxr.resample(samples, 22050, 24000)))


def test_targets_and_variants_are_the_front_ends_mels_of_the_audio_that_was_asked_for() -> None:
    calls: list[int] = []

    def samples(index: int) -> np.ndarray | None:
        calls.append(index)
        return {0: voice(0.6, 1), 1: voice(0.8, 2)}.get(index)

    variants = Variants(HIFIGAN, samples)
    np.testing.assert_array_equal(variants.target(0), HIFIGAN.mel(voice(0.6, 1)))
    for key in variants.keys[:3]:
        np.testing.assert_array_equal(variants.mel(0, key), variants.variants[key].frontend.mel(voice(0.6, 1)))
        assert variants.label(key) == variants.variants[key].label
        assert variants.faults(key) == variants.variants[key].faults
    np.testing.assert_array_equal(variants.target(1), HIFIGAN.mel(voice(0.8, 2)))
    assert calls == [0, 1]  # each utterance's audio is read once while it is looked at
    assert variants.target(2) is None
    assert variants.mel(2, variants.keys[0]) is None
    assert variants.relabelled(2, 2.0) is None


def test_audio_too_short_for_a_front_end_is_no_evidence() -> None:
    assert Variants(HIFIGAN, lambda _: np.zeros(100, np.float32)).target(0) is None


def test_an_unknown_front_end_has_the_warps_between_usual_banks_and_no_templates() -> None:
    geometry = bank_geometry(None, 80)
    assert not geometry.declared
    assert geometry.area is None
    assert geometry.emphasis == ()
    assert geometry.relabelled(24000 / 22050) is None
    assert len(geometry.warps) > 10
    places = [warp.place for warp in geometry.warps]
    for k, place in enumerate(places):
        assert np.abs(place - np.arange(80)).max() >= 0.4
        assert all(np.abs(place - other).max() >= 0.4 for other in places[:k])


def test_a_front_end_of_another_size_is_as_good_as_unknown() -> None:
    assert not bank_geometry(HIFIGAN, 100).declared
    assert bank_geometry(HIFIGAN, 80).declared
    for n_mels in (20, 100, 128):
        assert all(warp.place.shape == (n_mels,) for warp in bank_geometry(None, n_mels).warps)


def test_a_bank_that_was_built_for_another_rate_lies_elsewhere_in_hz() -> None:
    """A 16 kHz bank on 24 kHz audio (StyleTTS 2): every edge 1.5 times as high."""
    built = FrontEnd(sample_rate=24000, fb_sample_rate=16000, fmax=8000.0)
    found, plain = bank_geometry(built, 80).centres, bank_geometry(FrontEnd(sample_rate=16000, fmax=8000.0), 80).centres
    assert found is not None
    assert plain is not None
    np.testing.assert_allclose(found, 1.5 * plain)
