"""Lengths that do not fit: what they have in common is named, and what they do not decide is not."""

from __future__ import annotations

import doctest
import re

import numpy as np
import pytest

import calib.diagnose.lengths
from calib.diagnose.analysis import UnusablePairError, analyze
from calib.diagnose.lengths import explain_lengths, known_ratios

TARGETS = [120, 173, 251, 304, 366, 431, 512, 640, 777, 905]


class Unequal:
    """Pairs of which some cannot be compared, as ``(T', T)``, among good ones."""

    def __init__(self, lengths: list[tuple[int, int]], good: int = 0, *, fatal: bool = False) -> None:
        self.lengths, self.good, self.fatal = lengths, good, fatal

    def __len__(self) -> int:
        return len(self.lengths) + self.good

    def name(self, index: int) -> str:
        return f"u{index}"

    def speaker(self, index: int) -> str | None:  # noqa: ARG002 - a PairSet
        return None

    def arrays(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index < len(self.lengths):
            p, t = self.lengths[index]
            raise UnusablePairError(f"u{index}: {p} against {t}", pred_frames=p, target_frames=t, fatal=self.fatal)
        y = np.random.default_rng(index).standard_normal((200, 8)).astype(np.float32)
        return y, y


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (24000 / 22050, "another sample rate (24000/22050"),
        (22050 / 24000, "another sample rate (22050/24000"),
        (300 / 256, "another hop length (300 in the targets against 256"),
        (80 / (22050 / 256), "24000 Hz, hop 300 against 22050 Hz, hop 256"),
        (1 / 3, "a reduction factor (3 frames a step not taken apart)"),
        (1.2345, "no usual pair of hop lengths or sample rates makes that ratio"),
    ],
)
def test_one_ratio_in_all_pairs_is_named_with_what_makes_it(ratio: float, words: str) -> None:
    cause = explain_lengths([(round(t * ratio), t) for t in TARGETS])
    assert words in cause.sentence
    shown = re.match(r"T'/T is ([\d.]+) in all of 10 pairs", cause.sentence)
    assert shown
    assert float(shown[1]) == pytest.approx(ratio, rel=1e-3)
    assert cause.finding is not None
    assert cause.finding.names == ("time-stretch", "sample-rate")
    assert cause.finding.entry.command == "calib frontends diff A B"
    assert any(words in text for text in cause.finding.evidence)


def test_160_to_147_is_named_in_lowest_terms() -> None:
    assert "= 160/147)" in known_ratios(1.0884)[0]
    assert doctest.testmod(calib.diagnose.lengths).attempted


@pytest.mark.parametrize(("frames", "way"), [(24, "24 frames longer"), (-17, "17 frames shorter")])
def test_one_number_of_frames_is_no_ratio(frames: int, way: str) -> None:
    cause = explain_lengths([(t + frames, t) for t in TARGETS])
    assert way in cause.sentence
    assert "reduction factor" in cause.sentence
    assert cause.finding is None


def test_targets_of_one_length_cannot_tell_a_ratio_from_a_number_of_frames() -> None:
    cause = explain_lengths([(327, 300), (326, 300), (327, 300), (326, 299)])
    assert "too alike" in cause.sentence
    assert "24000/22050" in cause.sentence
    assert cause.finding is None


def test_a_rule_says_how_many_pairs_keep_to_it() -> None:
    lengths = [(round(t * 24000 / 22050), t) for t in TARGETS[:9]] + [(400, 905)]
    cause = explain_lengths(lengths)
    assert "in 9 of 10 pairs" in cause.sentence
    assert cause.finding is not None
    assert cause.finding.confidence == pytest.approx(10 / 12)
    assert explain_lengths([*lengths[:4], (400, 905), (300, 777)]).finding is None


def test_two_unlike_ratios_are_listed_and_explain_nothing() -> None:
    assert explain_lengths([(150, 100), (290, 100)]).sentence.startswith("T'/T is 1.5 and 2.9;")


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_pairs_name_their_ratio_but_no_fault(count: int) -> None:
    cause = explain_lengths([(round(t * 24000 / 22050), t) for t in TARGETS[:count]])
    assert "24000/22050" in cause.sentence
    assert "3 such pairs are needed" in cause.sentence
    assert cause.finding is None


def test_one_length_on_one_side_is_padding_or_a_limit() -> None:
    assert "predictions have 1000 frames in all of 10 pairs" in explain_lengths([(1000, t) for t in TARGETS]).sentence
    assert "targets have 1000 frames in all of 10 pairs" in explain_lengths([(t, 1000) for t in TARGETS]).sentence


def test_lengths_without_a_rule_are_free_running_or_wrong_pairs_by_their_correlation() -> None:
    rng = np.random.default_rng(0)
    own_tempo = [(round(t * rng.uniform(0.8, 1.25)), t) for t in TARGETS]
    assert "free-running predictions, which have their own tempo" in explain_lengths(own_tempo).sentence
    mixed = list(zip([TARGETS[i] for i in (7, 2, 9, 0, 6, 1, 8, 3, 5, 4)], TARGETS, strict=True))
    assert "paired with other targets" in explain_lengths(mixed).sentence
    few = explain_lengths(own_tempo[:4]).sentence
    assert "free-running predictions, or predictions paired with other targets" in few


def test_the_verdict_names_the_cause_and_the_finding() -> None:
    d = analyze(Unequal([(round(t * 24000 / 22050), t) for t in TARGETS]))
    assert d.verdict.state == "invalid"
    assert d.verdict.sentence.startswith("10 of 10 pairs differ too much in length to be compared: T'/T is 1.088")
    assert "u0: 131 against 120" in d.verdict.sentence
    assert [f.fault for f in d.faults] == ["time-stretch"]
    assert d.to_json()["faults"][0]["names"] == ["time-stretch", "sample-rate"]


def test_an_allowed_share_is_skipped_with_its_cause_and_names_no_fault() -> None:
    d = analyze(Unequal([(round(t * 24000 / 22050), t) for t in TARGETS[:3]], good=17), allow_skipped=20.0)
    assert d.verdict.state != "invalid"
    assert any("3 of 20 pairs" in note and "24000/22050" in note for note in d.notes)
    assert "time-stretch" not in {f.fault for f in d.faults}


def test_one_fatal_pair_makes_the_data_invalid_whatever_is_allowed() -> None:
    d = analyze(Unequal([(100, 100)], good=19, fatal=True), allow_skipped=100.0)
    assert d.verdict.state == "invalid"
    assert "u0: 100 against 100" in d.verdict.sentence


def test_arrays_of_unequal_length_in_memory_are_explained_too() -> None:
    class Arrays(Unequal):
        def arrays(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            return tuple(np.zeros((n, 8), np.float32) for n in self.lengths[index])  # type: ignore[return-value]

    d = analyze(Arrays([(round(t * 300 / 256), t) for t in TARGETS]))
    assert "300 in the targets against 256" in d.verdict.sentence
