"""Some utterances that hold nothing among others that do, and predictions that fit another target of the list."""

from __future__ import annotations

import numpy as np
import pytest
from planted import HIFIGAN
from scipy.ndimage import gaussian_filter
from speechlike import mel_field, prediction

from calib.diagnose.faults.evidence import Finding
from calib.diagnose.faults.explain import Explanation, explain
from calib.diagnose.faults.library import FAULTS
from calib.diagnose.faults.sample import Sample
from calib.diagnose.faults.utterances import Listed, matches, parts
from calib.mel.variants import bank_geometry

Pairs = list[tuple[np.ndarray, np.ndarray]]

TARGETS = [mel_field(150 + 9 * (k * 7 % 16), k) for k in range(16)]
GOOD = [prediction(y, 0.95, k) for k, y in enumerate(TARGETS)]
GEOMETRY = bank_geometry(HIFIGAN, 80)


def mixed(rows: list[int], way: str) -> Pairs:
    """Predictions of which some hold nothing, in one of several ways."""
    rng = np.random.default_rng(5)
    mean = np.concatenate(GOOD).mean(axis=0)
    out = list(GOOD)
    for k, row in enumerate(rows):
        shape = GOOD[row].shape
        if way == "constant":
            out[row] = mean + 1e-3 * rng.standard_normal(shape)
        elif way == "noisy":  # as in the trial that found it: a third of the target's spread
            out[row] = mean + 0.6 * 3.5 * gaussian_filter(rng.standard_normal(shape), 1) * 0.5
        elif way == "exchanged":
            out[row] = np.resize(GOOD[rows[(k + 1) % len(rows)]], shape)
        else:
            noise = gaussian_filter(rng.standard_normal(shape), (0.7, 4.0))
            out[row] = mean + 1.5 * noise / noise.std()
    return [(np.asarray(p, np.float32), y) for p, y in zip(out, TARGETS, strict=True)]


def first(pairs: Pairs, **more: object) -> tuple[Finding, Explanation]:
    found = explain(pairs, geometry=GEOMETRY, **more)  # type: ignore[arg-type]
    return found.findings[0], found


@pytest.mark.parametrize("autoregressive", [False, True])
@pytest.mark.parametrize("rows", [[3, 9], [0, 2, 5, 7, 8, 11, 12, 15], list(range(13))])
def test_a_part_of_the_utterances_that_collapsed_is_named_with_their_ids(rows: list[int], autoregressive: bool) -> None:
    finding, found = first(mixed(rows, "constant"), autoregressive=autoregressive)
    assert finding.fault == "collapsed"
    assert finding.detail == f"{len(rows)} of 16 utterances"
    assert f"utterance {rows[0] + 1}" in finding.evidence[1]
    assert found.parts[0].rows == tuple(rows)


def test_the_others_are_judged_by_themselves() -> None:
    """Half collapsed, the rest healthy; and half collapsed, the rest on another logarithm."""
    rows = list(range(8))
    finding, found = first(mixed(rows, "constant"))
    assert [f.fault for f in found.findings] == ["collapsed"]
    assert finding.evidence[-1] == "nothing is wrong with the other 8"
    _, found = first([(np.asarray(p / np.log(10), np.float32), y) for p, y in mixed(rows, "constant")])
    assert {f.fault for f in found.findings} == {"collapsed", "log-base"}


def test_a_constant_spectrum_with_noise_on_it_is_collapsed_and_not_wrongly_paired() -> None:
    assert first(mixed(list(range(1, 16, 2)), "noisy"))[0].fault == "collapsed"


@pytest.mark.parametrize("rows", [[2, 6, 10], list(range(8)), list(range(12))])
def test_a_part_that_was_exchanged_is_wrongly_paired_and_nothing_else(rows: list[int]) -> None:
    finding, _ = first(mixed(rows, "exchanged"))
    assert finding.names == ("wrong-pairs",)
    assert finding.detail.startswith(f"{len(rows)} of 16 utterances")


def test_a_part_that_is_noise_as_loud_as_speech_is_not_collapsed() -> None:
    finding, _ = first(mixed(list(range(8)), "untrained"))
    assert finding.fault == "untrained"
    assert finding.detail == "8 of 16 utterances"


def test_a_part_that_may_not_be_named_is_unknown() -> None:
    finding, _ = first(mixed(list(range(8)), "constant"), library=frozenset(FAULTS) - {"collapsed"})
    assert finding.fault == "unknown"


def test_all_that_one_speaker_says_is_told() -> None:
    pairs = mixed(list(range(8)), "constant")
    listed = Listed(range(16), 16, lambda k: pairs[k][1], lambda k: f"u{k}", lambda k: "anna" if k < 8 else "bert")
    part = parts(Sample(pairs), listed)[0]
    assert part.ids.endswith("(all that speaker anna says)")


def test_a_healthy_model_has_no_part_that_holds_nothing() -> None:
    for r in (0.5, 0.7, 0.95):
        predictions = [prediction(y, r, k) for k, y in enumerate(TARGETS)]
        sample = Sample(list(zip(predictions, TARGETS, strict=True)))
        assert parts(sample, Listed(range(16), 16, lambda _: None, str, lambda _: None)) == []


# --- another target fits --------------------------------------------------------------------------------------------


def drawn_out(p: np.ndarray, frames: int) -> np.ndarray:
    """Resized in time, linearly."""
    at = np.linspace(0, len(p) - 1, frames)
    return np.stack([np.interp(at, np.arange(len(p)), column) for column in p.T], axis=1)


@pytest.mark.parametrize("way", ["drawn out", "cut or repeated"])
def test_a_list_that_is_off_by_one_is_told_whatever_the_lengths(way: str) -> None:
    change = drawn_out if way == "drawn out" else (lambda p, n: np.resize(p, (n, p.shape[1])))
    moved = [change(GOOD[(k + 1) % len(GOOD)], len(y)) for k, y in enumerate(TARGETS)]
    found = explain([(np.asarray(p, np.float32), y) for p, y in zip(moved, TARGETS, strict=True)], geometry=GEOMETRY)
    assert [f.names for f in found.findings] == [("wrong-pairs",)]
    assert found.findings[0].detail == "the target 1 further on in the list fits"
    assert found.repaired_r > 0.8


def test_targets_beyond_the_sample_are_looked_at() -> None:
    """Of a long list only some are held; whose target fits may be another's."""
    pairs = [(GOOD[k + 1], TARGETS[k]) for k in range(0, 14, 2)]
    cut = [(np.asarray(p[: len(y)]), y[: len(p)]) for p, y in pairs]
    listed = Listed(range(0, 14, 2), 16, lambda k: TARGETS[k], lambda k: f"u{k}", lambda _: None)
    found = matches(Sample(cut), listed, range(len(cut)))
    assert found.wrong
    assert found.step == 1
    assert "the prediction of u0 fits the target of u1" in found.text


def test_one_target_that_fits_all_is_no_exchange() -> None:
    """The same speech whatever the text: the text is ignored."""
    same = [np.resize(GOOD[3], y.shape) for y in TARGETS]
    found = explain(list(zip(same, TARGETS, strict=True)), geometry=GEOMETRY)
    assert found.findings[0].fault == "text-ignored"


def test_what_fits_no_target_is_no_exchange() -> None:
    others = [prediction(mel_field(len(y), 100 + k), 0.95, k) for k, y in enumerate(TARGETS)]
    sample = Sample(list(zip(others, TARGETS, strict=True)))
    listed = Listed(range(16), 16, lambda _: None, str, lambda _: None)
    assert not matches(sample, listed, range(16)).wrong
