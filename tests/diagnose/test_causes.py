"""What is said of findings: order, steps, confidence, and what could not be looked for."""

from __future__ import annotations

import pytest
from speechlike import mel_field, prediction

from calib.diagnose.analysis import Diagnosis, analyze
from calib.diagnose.causes import next_steps, own_step, percent_sure, untested, worst_first
from calib.diagnose.faults.evidence import Finding
from calib.diagnose.faults.explain import Explanation
from calib.diagnose.faults.geometry import BankGeometry
from calib.diagnose.faults.library import FAULTS
from calib.diagnose.verdict import Evidence, decide

KNOWN = BankGeometry(80, declared=True, warps=())


def finding(fault: str, *others: str, confidence: float = 0.9) -> Finding:
    return Finding(fault, (fault, *others), confidence)


def diagnosis(*findings: Finding) -> Diagnosis:
    return Diagnosis(decide(Evidence(1000)), 1, 1000, 80, -5.0, 2.0, "a test", faults=list(findings))


def test_what_breaks_the_sound_comes_first_and_else_the_order_stays() -> None:
    found = [finding(name) for name in ("half-hop", "shift", "clipped", "log-base")]
    assert [f.fault for f in worst_first(found)] == ["shift", "log-base", "half-hop", "clipped"]


def test_the_findings_steps_come_first_and_none_twice() -> None:
    d = diagnosis(finding("clipped"), finding("log-base"), finding("log-base"))
    steps = next_steps(d)
    assert steps[:2] == [own_step(finding("log-base")), own_step(finding("clipped"))]
    assert steps[0] == f"{FAULTS['log-base'].next_step}: {FAULTS['log-base'].command}"
    assert steps[2:] == list(d.verdict.next_steps)
    assert len(set(steps)) == len(steps)


@pytest.mark.parametrize(("value", "text"), [(0.5, "50 %"), (0.9999, "99 %"), (1.0, "100 %"), (0.0, "0 %")])
def test_only_certainty_is_a_hundred_per_cent(value: float, text: str) -> None:
    assert percent_sure(finding("shift", confidence=value)) == text


def compared() -> Explanation:
    """Of pairs whose units and frequency could be compared."""
    return Explanation(ranked=[None])  # type: ignore[list-item] - only whether there is one counts


def test_what_needs_more_than_pairs_is_skipped_by_name() -> None:
    found = untested(compared(), bank=KNOWN, n_utterances=20)
    assert set(found) == {name for name, fault in FAULTS.items() if fault.needs != "pairs"}
    assert found["dropout-on"] == "needs the model itself (calib check model SOURCE --model SPEC)"


def test_without_a_front_end_what_needs_one_is_skipped_unless_it_was_named() -> None:
    out = compared()
    for bank in (None, BankGeometry(80, declared=False, warps=())):
        found = untested(out, bank=bank, n_utterances=20)
        assert {"area-norm", "pre-emphasis", "sample-rate"} <= set(found)
    out.findings = [finding("equaliser", "area-norm", "pre-emphasis")]
    found = untested(out, bank=None, n_utterances=20)
    assert "sample-rate" in found
    assert not {"area-norm", "pre-emphasis"} & set(found)


def test_with_audio_no_set_is_said_to_need_it() -> None:
    out = compared()
    out.findings = [finding("fmax", "fmin")]
    assert "which of fmax, fmin" in untested(out, bank=KNOWN, n_utterances=20)
    out.audio = True
    assert "which of fmax, fmin" not in untested(out, bank=KNOWN, n_utterances=20)
    out.audio, out.skipped = False, {"audio": "no utterance has usable audio"}
    found = untested(out, bank=KNOWN, n_utterances=20)
    assert "which of fmax, fmin" not in found
    assert found["audio"] == "no utterance has usable audio"


def test_a_set_that_audio_cannot_shrink_is_not_blamed_on_its_absence() -> None:
    out = compared()
    out.findings = [finding("text-ignored", "wrong-pairs", "untrained")]
    assert not [what for what in untested(out, bank=KNOWN, n_utterances=20) if what.startswith("which of")]


def test_few_utterances_and_a_smaller_library_are_told() -> None:
    found = untested(compared(), bank=KNOWN, n_utterances=1)
    assert found["level-per-utterance"] == "needs 4 utterances"
    assert found["minmax-per-utterance"] == "needs 2 utterances"
    assert untested(compared(), bank=None, n_utterances=1, library=frozenset({"shift"})) == {}


def test_unrelated_pairs_skip_whole_kinds_of_faults() -> None:
    found = untested(Explanation(), bank=KNOWN, n_utterances=20)
    assert {"faults of frequency", "faults of units"} <= set(found)


def test_the_status_is_the_verdicts_but_for_a_healthy_level_with_a_broken_sound() -> None:
    pairs = [(prediction(y, 0.95, k), y) for k in range(6) for y in [mel_field(150, k)]]

    class Listed:
        def __len__(self) -> int:
            return len(pairs)

        def name(self, index: int) -> str:
            return str(index)

        def speaker(self, index: int) -> str | None:  # noqa: ARG002 - a PairSet
            return None

        def arrays(self, index: int):
            return pairs[index]

    d = analyze(Listed())
    assert d.verdict.state == "healthy"
    d.faults = []
    assert d.status == d.verdict.status
    d.faults = [finding("clipped")]
    assert d.status == d.verdict.status
    d.faults = [finding("shift")]
    assert d.status == d.to_json()["status"] == "fail"
    refused = diagnosis(finding("clipped"))
    assert refused.status == refused.verdict.status == "fail"
