"""The benchmark of the legs itself: its cases are what they say, and its figures fall when an answer is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.diagnosis import corpora
from benchmarks.legs import pages
from benchmarks.legs.blames import summarise
from benchmarks.legs.cases import FRONT, MODEL, Case, all_cases, make
from benchmarks.legs.wrappers import EXPECTED, factory
from calib.vocoders.check.domains import domains

NAMES = ["kerstin", "multi", "demo_b"]


def test_every_front_end_meets_a_healthy_and_a_faulty_model() -> None:
    cases = all_cases(NAMES)
    assert len(set(cases)) == len(cases) == 79
    for front, fault in FRONT.items():
        mine = [case for case in cases if case.front == front and not case.twist]
        assert sorted(MODEL[case.model].good for case in mine) == [False, True]
        assert {case.expected for case in mine} == ({"neither", "model"} if fault.harmless else {"front-end", "both"})
    twists = {case.twist: case.expected for case in cases if case.twist}
    assert twists == {"swapped": "targets", "recordings": "unknown"}
    assert len(all_cases(NAMES, full=True)) > 3 * len(cases)


def test_targets_predictions_and_recordings_are_what_the_case_says() -> None:
    predictions, targets, samples, _ = make(Case("demo_b", "log10", "healthy", 1))
    wanted = [corpora.hifigan().mel(x) for x in samples]
    assert all(np.allclose(t * np.log(10.0), v, atol=1e-4) for t, v in zip(targets, wanted, strict=True))
    assert np.corrcoef(np.concatenate(predictions).ravel(), np.concatenate(targets).ravel())[0, 1] > 0.9
    swapped, _, _, _ = make(Case("demo_b", "log10", "healthy", 1, "swapped"))
    assert np.concatenate(swapped).mean() < 1.8 * np.concatenate(predictions).mean() < 0, "made from what is wanted"
    _, same, others, _ = make(Case("demo_b", "log10", "healthy", 1, "recordings"))
    assert all(np.array_equal(a, b) for a, b in zip(same, targets, strict=True))
    assert not any(len(a) == len(b) and np.array_equal(a, b) for a in samples for b in others)


def row(blame: str, expected: str, **more: Any) -> dict[str, Any]:
    return {
        "corpus": "demo_b", "front": "log10", "model": "healthy", "twist": "", "expected": expected, "blame": blame,
        "harmless": expected in {"neither", "model"}, "good": expected in {"neither", "front-end"}, "sentence": "said so", **more,
    }  # fmt: skip


def test_a_wrong_answer_lowers_the_figures_and_is_listed() -> None:
    good = summarise([row("neither", "neither"), row("front-end", "front-end")])
    assert (good["right"], good["false_blame_front_end"], good["false_blame_model"]) == (1.0, 0.0, 0.0)
    rows = [row("both", "neither"), row("front-end", "front-end"), row("error", "model", error="it failed")]
    bad = summarise(rows)
    assert bad["right"] == pytest.approx(1 / 3)
    assert bad["false_blame_front_end"] == bad["false_blame_model"] == 0.5
    assert bad["blame"]["neither"]["recall"] == bad["blame"]["both"]["precision"] == 0.0
    page = pages.page(
        {"set": "dev", "corpora": ["demo_a"], "blame": {**bad, "rows": rows, "seconds": 1.0, "run": "today"}}
    )
    assert "33.3% of the blames are right" in page
    assert "both for neither. said so" in page
    assert "run today" in page


def test_the_broken_vocoders_are_broken_as_they_say() -> None:
    mel = np.full((20, 80), -5.0, np.float32)
    y, rate = factory(None, "cpu", case="silence").vocode(mel)
    assert (np.abs(y).max(), len(y), rate) == (0.0, 20 * 256, 22050)
    assert np.isnan(factory(None, "cpu", case="NaN").vocode(mel)[0]).all()
    one, other = (factory(None, "cpu", case="random network").vocode(m)[0] for m in (mel, mel - 3.0))
    assert not np.allclose(one, other), "it gets the mel"
    assert factory(None, "cpu", case="says 24 kHz").vocode(mel)[1] == 24000


def test_domains_that_must_be_named_are_tried() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(11025).astype(np.float32)
    tried = {domain.name for domain in domains(corpora.hifigan(), [noise])}
    for name, (_, wanted) in EXPECTED.items():
        assert not wanted or set(wanted) & tried, name
