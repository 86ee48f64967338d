"""The fault library as a document: every row complete, every name and command real, every confusion two-sided."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from calib.cli import COMMANDS
from calib.diagnose.faults import library
from calib.diagnose.faults.evidence import UNKNOWN, Finding
from calib.diagnose.faults.library import FAULTS, GLOBAL_AFFINE, STAGES, Fault

ROWS = [*FAULTS.values(), UNKNOWN]

# A confusion that holds in one direction only, and why.
ONE_SIDED = {
    ("int16-scale", "gain"): "a factor of exactly 32768 is one; any other gain is not taken for it",
    ("level-per-utterance", "minmax-per-utterance"): "a range of each utterance is told by its exact ends; levels have none",
    ("time-stretch", "sample-rate"): "audio tells the warp of the bins that a relabelled rate brings; a drift alone stays one",
    ("sample-rate", "time-stretch"): "audio tells most of them; where the bins hardly move, a drift remains",
    ("copying", "half-hop"): "a fraction of a frame late is named of a model that sees no previous frame, or of one that is early",
}  # fmt: skip


def test_names_are_unique_and_are_the_keys() -> None:
    """A second row with the same id would silently replace the first."""
    text = Path(library.__file__).read_text(encoding="utf-8")
    ids = re.findall(r'Fault\(\s*"([a-z0-9-]+)", "', text)
    assert len(ids) == len(set(ids)) == len(FAULTS)
    assert list(FAULTS) == [fault.id for fault in FAULTS.values()] == ids


@pytest.mark.parametrize("fault", ROWS, ids=lambda fault: fault.id)
def test_every_row_says_what_why_and_what_to_do(fault: Fault) -> None:
    assert fault.stage in STAGES
    assert fault.severity in {"fail", "warn"}
    assert fault.needs in {"pairs", "audio", "free-running", "model", "vocoder"}
    for text in (fault.title, fault.cause, fault.next_step):
        assert len(text) > 10 or fault.id == "gain", text
        assert text == text.strip()
        assert not text.endswith(".")  # it is continued in a sentence


@pytest.mark.parametrize("fault", ROWS, ids=lambda fault: fault.id)
def test_the_command_is_one_of_calib_s(fault: Fault) -> None:
    """A user copies it."""
    if not fault.command:
        return
    program, name, *_ = fault.command.split()
    assert program == "calib"
    assert name in COMMANDS


@pytest.mark.parametrize("audio", [False, True], ids=["pairs", "audio"])
def test_what_is_confounded_is_so_both_ways_or_it_is_said_why(audio: bool) -> None:
    def others(name: str) -> tuple[str, ...]:
        return FAULTS[name].confounded_with_audio if audio else FAULTS[name].confounded

    for name in FAULTS:
        assert name not in others(name)
        assert len(set(others(name))) == len(others(name))
        for other in others(name):
            assert other in FAULTS
            assert name in others(other) or (name, other) in ONE_SIDED or (other, name) in ONE_SIDED, (name, other)


def test_every_excuse_is_needed() -> None:
    """A pair that is two-sided with pairs and with audio needs none."""
    for a, b in ONE_SIDED:
        sides = [
            (b in side(FAULTS[a]), a in side(FAULTS[b]))
            for side in (lambda f: f.confounded, lambda f: f.confounded_with_audio)
        ]
        assert any(here != there for here, there in sides), (a, b)


def test_audio_only_takes_confusions_away() -> None:
    for fault in FAULTS.values():
        assert set(fault.confounded_with_audio) <= set(fault.confounded)


def test_what_cannot_be_seen_in_pairs_is_not_offered_as_a_confusion() -> None:
    """A named set never holds a fault that the evidence could not have shown."""
    for fault in FAULTS.values():
        for other in fault.confounded:
            assert FAULTS[other].needs in {"pairs", "audio"}


def test_what_one_scale_and_offset_repair_are_faults_of_units() -> None:
    for name in GLOBAL_AFFINE:
        assert FAULTS[name].stage == "units"


@pytest.mark.parametrize("fault", ROWS, ids=lambda fault: fault.id)
def test_a_finding_is_a_sentence_that_names_what_it_cannot_be_told_from(fault: Fault) -> None:
    finding = Finding(fault.id, (fault.id, *fault.confounded), 0.9, "the detail", ("a line",), 3.0)
    assert finding.entry == fault
    assert finding.sentence.startswith(f"the prediction is {fault.title}: the detail")
    for other in fault.confounded:
        assert FAULTS[other].title in finding.sentence
    assert finding.to_json()["next_step"] == fault.next_step
