"""The rules in their order, each at its threshold, and texts that are made from the rules."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from calib.diagnose.verdict import STATES, Check, Evidence, decide

GOOD = Evidence(
    n_frames=5000,
    r_w=0.95,
    r_w_low=0.93,
    r_w_high=0.97,
    null_limit=0.05,
    s_w_ratio=0.95,
    share=0.9,
    skill=0.8,
    gate_ratio=0.3,
    identity_gate_ratio=0.9,
    lag_r=0.95,
    structure_r=0.1,
)


def state(**changes: Any) -> str:
    return decide(dataclasses.replace(GOOD, **changes)).state


RULES: list[tuple[str, dict[str, Any]]] = [
    ("invalid", {"invalid": ("u1: 3 NaN",), "n_frames": 0}),
    ("insufficient", {"n_frames": 299}),
    ("fixable", {"n_frames": 300}),
    ("misaligned", {"r_w": 0.6, "best_lag": 3, "lag_r": 0.81}),
    ("weak", {"r_w": 0.6, "r_w_low": 0.5, "best_lag": 3, "lag_r": 0.79}),
    ("misaligned", {"r_w": 0.6, "best_lag": 1, "lag_r": 0.9}),
    ("weak", {"r_w": 0.6, "r_w_low": 0.5, "best_lag": 1, "lag_r": 0.9, "autoregressive": True}),
    ("misaligned", {"r_w": 0.6, "best_lag": 2, "lag_r": 0.9, "autoregressive": True}),
    ("misaligned", {"r_w": 0.6, "best_lag": -1, "lag_r": 0.9, "autoregressive": True}),
    ("no-signal", {"r_w": 0.01, "r_w_low": 0.0, "r_w_high": 0.02, "best_lag": 5, "lag_r": 0.25}),
    ("structural", {"r_w": 0.1, "structure": "reversing", "structure_r": 0.9}),
    ("structural", {"r_w": 0.1, "structure": "reversing", "structure_r": -0.9}),
    ("collapsed", {"r_w": 0.04, "s_w_ratio": 0.19}),
    ("no-signal", {"r_w": 0.04, "s_w_ratio": 0.2}),
    ("no-signal", {"r_w": 0.2, "null_limit": 0.2}),
    ("no-signal", {"r_w": 0.2, "r_w_low": 0.1, "r_w_high": 0.29}),
    ("weak", {"r_w": 0.2, "r_w_low": 0.1, "r_w_high": 0.30}),
    ("fixable", {"s_w_ratio": 0.05, "r_w": 0.9}),
    ("weak", {"r_w_low": 0.699}),
    ("fixable", {"r_w_low": 0.7}),
    ("fixable", {"r_w": -0.95}),
    ("fixable", {"share": 0.5, "skill": 0.051}),
    ("partly", {"share": 0.5, "skill": 0.05}),
    ("partly", {"share": 0.499}),
    ("partly", {"share": 0.1}),
    ("healthy", {"share": 0.099}),
]


@pytest.mark.parametrize(("wanted", "changes"), RULES, ids=[f"{k}-{wanted}" for k, (wanted, _) in enumerate(RULES)])
def test_the_first_rule_that_holds_decides(wanted: str, changes: dict[str, Any]) -> None:
    assert state(**changes) == wanted


def test_each_state_of_the_contract_is_reached_by_a_rule() -> None:
    assert (
        {wanted for wanted, _ in RULES}
        == set(STATES)
        == {
            "invalid",
            "insufficient",
            "misaligned",
            "structural",
            "collapsed",
            "no-signal",
            "weak",
            "fixable",
            "partly",
            "healthy",
        }
    )


@pytest.mark.parametrize("changes", [{}, {"share": 0.3}, {"r_w_low": 0.3}])
def test_a_fit_no_better_than_a_constant_is_refused_in_every_state_that_writes(changes: dict[str, Any]) -> None:
    assert decide(dataclasses.replace(GOOD, gate_ratio=0.95, **changes)).writes
    refused = decide(dataclasses.replace(GOOD, gate_ratio=0.951, **changes))
    assert not refused.writes
    assert refused.exit_code == 5
    assert refused.status == "fail"
    assert "no better than a constant" in refused.headline
    assert "0.951 times that of the best constant" in str(refused.refusal)
    assert refused.warnings == ()


def test_the_gate_of_a_healthy_model_looks_at_the_model_as_it_is() -> None:
    healthy = dataclasses.replace(GOOD, share=0.0, gate_ratio=0.1)
    assert decide(healthy).writes
    assert not decide(dataclasses.replace(healthy, identity_gate_ratio=0.96)).writes


def test_only_invalid_data_exits_3_and_every_other_refusal_5() -> None:
    assert {name: s.exit_code for name, s in STATES.items() if s.exit_code != 5} == {"invalid": 3}
    assert {name for name, s in STATES.items() if s.writes} == {"weak", "fixable", "partly", "healthy"}


def test_every_state_says_what_to_do_next_and_has_a_headline() -> None:
    for wanted, changes in RULES:
        verdict = decide(dataclasses.replace(GOOD, **changes))
        assert verdict.next_steps
        assert verdict.headline == STATES[wanted].headline
        assert verdict.sentence


def test_weak_and_partly_warn_with_the_floor_and_the_share() -> None:
    assert "80%" in decide(dataclasses.replace(GOOD, r_w=0.6, r_w_low=0.5)).warnings[0]
    assert "30%" in decide(dataclasses.replace(GOOD, share=0.3)).warnings[0]


@pytest.mark.parametrize(
    ("op", "below", "at", "above"),
    [("<", True, False, False), ("<=", True, True, False), (">", False, False, True), (">=", False, True, True)],
)
def test_the_text_of_a_check_agrees_with_its_outcome(op: str, below: bool, at: bool, above: bool) -> None:
    for value, holds in ((0.4, below), (0.5, at), (0.6, above)):
        check = Check("x", value, op, 0.5)
        assert check.holds is holds
        assert check.text() == f"x {value} {op} 0.5: {'yes' if holds else 'no'}"


def test_the_checks_end_with_the_rule_that_decided() -> None:
    checks = decide(dataclasses.replace(GOOD, n_frames=10)).checks
    assert [c.name for c in checks] == ["valid frames"]
    assert checks[-1].holds
