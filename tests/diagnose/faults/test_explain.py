"""``explain`` end to end: a planted fault is named, a healthy model is not blamed, and what is unlisted is unknown."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from typing import Any

import numpy as np
import planted
import pytest
from planted import COUNT, PLANTED, UNLISTED, Case, healthy, mels

from calib.diagnose.faults.evidence import Finding
from calib.diagnose.faults.explain import Explanation, explain
from calib.diagnose.faults.geometry import BankGeometry
from calib.diagnose.faults.library import FAULTS
from calib.mel.variants import bank_geometry

_HEARD = 4  # utterances, where the audio is there too
_MODELS = [(kind, autoregressive) for kind in ("mean", "sample") for autoregressive in (False, True)]


def diagnosed(case: Case, geometry: BankGeometry | None, **more: Any) -> Explanation:
    return explain(case.frames(), geometry=geometry, **{**case.declared, **more})


@functools.cache
def of(fault: str) -> Explanation:
    """Of a planted fault, with the front end known; once for all tests that look at it."""
    return diagnosed(PLANTED[fault](), bank_geometry(planted.HIFIGAN, 80))


def names(findings: list[Finding]) -> set[str]:
    return {name for finding in findings for name in finding.names}


def test_every_fault_that_pairs_or_audio_show_is_planted() -> None:
    """A new row of the library needs a case here."""
    assert set(PLANTED) == {name for name, fault in FAULTS.items() if fault.needs in {"pairs", "audio"}}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_named_and_nothing_beyond_what_it_is_confounded_with(fault: str) -> None:
    found = of(fault).findings
    named = names(found)
    assert fault in named
    assert named <= {fault, *FAULTS[fault].confounded}
    for finding in found:
        assert finding.names[0] == finding.fault
        assert 0.0 <= finding.confidence <= 1.0
        assert finding.evidence
        assert finding.entry.title in finding.sentence
        assert json.loads(json.dumps(finding.to_json(), allow_nan=False))["fault"] == finding.fault


@pytest.mark.parametrize(
    "fault",
    ["mel-scale", "fmax", "fmin", "sample-rate", "area-norm", "pre-emphasis", "half-hop", "power-floor", "equaliser", "gain", "normalised"],
)  # fmt: skip
def test_with_the_audio_the_named_set_shrinks(fault: str, geometry: BankGeometry, recomputed: Any) -> None:
    """Targets recomputed from the audio tell the banks apart, and filter normalisation from a colour."""
    case = PLANTED[fault]()
    case = dataclasses.replace(case, predictions=case.predictions[:_HEARD], targets=case.targets[:_HEARD])
    out = diagnosed(case, geometry, recomputed=recomputed, indices=range(_HEARD))
    assert out.audio
    assert "audio" not in out.skipped
    assert fault in names(out.findings)
    assert names(out.findings) <= {fault, *FAULTS[fault].confounded_with_audio}


@pytest.mark.parametrize(("kind", "autoregressive"), _MODELS)
def test_a_healthy_model_has_no_findings(kind: str, autoregressive: bool, geometry: BankGeometry) -> None:
    """Whether it averages, samples, or sees the previous frame; declared or not, with a known front end or without."""
    nature = {"kind": kind, "autoregressive": autoregressive}
    assert diagnosed(Case(healthy(r=0.85, seed=5, **nature)), geometry).findings == []
    assert diagnosed(Case(healthy(r=0.93, seed=6, **nature)), None, **nature).findings == []


def test_a_healthy_model_has_no_findings_with_the_audio_either(geometry: BankGeometry, recomputed: Any) -> None:
    case = Case(healthy()[:_HEARD], mels()[:_HEARD])
    assert diagnosed(case, geometry, recomputed=recomputed, indices=range(_HEARD)).findings == []


@pytest.mark.parametrize("distortion", UNLISTED)
def test_what_no_fault_describes_is_unknown(distortion: str, geometry: BankGeometry) -> None:
    assert names(diagnosed(UNLISTED[distortion](), geometry).findings) == {"unknown"}


@pytest.mark.parametrize(
    "fault",
    ["flipped-bins", "shift", "half-hop", "sample-rate", "mel-scale", "area-norm", "dead-bins", "log-base", "power-floor", "level-per-utterance", "collapsed", "oversmoothed-time"],
)  # fmt: skip
def test_a_fault_left_out_of_the_library_is_not_named_and_not_passed_over(fault: str, geometry: BankGeometry) -> None:
    """Something else or *unknown* must be said: no findings at all would flatter."""
    found = diagnosed(PLANTED[fault](), geometry, library=frozenset(FAULTS) - {fault}).findings
    assert found
    assert fault not in names(found)


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("flipped-bins", lambda y: y[:, ::-1]),
        ("log-base", lambda y: y / np.log(10)),
        ("decibel", lambda y: y * 20 / np.log(10)),
        ("int16-scale", lambda y: y + np.log(32768)),
        ("log-missing", np.exp),
    ],
)
def test_a_target_that_is_off_is_named_like_a_prediction_that_is(
    fault: str, change: Any, geometry: BankGeometry
) -> None:
    case = Case(healthy(), [change(y) for y in mels()])
    named = names(diagnosed(case, geometry).findings)
    assert fault in named
    assert named <= {fault, *FAULTS[fault].confounded}


@pytest.mark.parametrize(
    ("first", "second", "change"),
    [
        ("shift", "normalised", lambda p: (p + 4.2) / 1.5),
        ("mel-scale", "log-base", lambda p: p / np.log(10)),
        ("area-norm", "decibel", lambda p: p * 20 / np.log(10)),
    ],
)
def test_two_faults_of_different_stages_are_both_named(
    first: str, second: str, change: Any, geometry: BankGeometry
) -> None:
    case = PLANTED[first]()
    case = dataclasses.replace(case, predictions=[change(p) for p in case.predictions])
    named = names(diagnosed(case, geometry).findings)
    assert {first, second} <= named
    assert named <= {first, second, *FAULTS[first].confounded, *FAULTS[second].confounded}


def test_the_particulars_are_right() -> None:
    """A shift of 3 frames, a hop of 264 for 256 samples, -10.46 dB: as planted, not only by name."""
    shifted = of("shift").steps[0]
    assert (shifted.lag, shifted.label) == (3.0, "+3 frames")
    assert of("time-stretch").stretch == pytest.approx(264 / 256, rel=0.005)
    louder = of("gain").findings[0]
    assert float(louder.detail.removesuffix(" dB")) == pytest.approx(20 * math.log10(0.3), abs=0.5)


def test_a_known_constant_is_undone_as_it_is() -> None:
    """log10 is undone by exactly ln 10 and nothing: the map is the constant's, not a fit."""
    best = of("log-base").ranked[0]
    assert (best.terms.slope, best.terms.intercept) == (math.log(10), 0.0)


def test_another_normaliser_s_statistics_are_recognised_when_they_are_given(geometry: BankGeometry) -> None:
    case = Case([(p + 7.0) / 3.0 for p in healthy()])
    without = diagnosed(case, geometry).findings
    given = diagnosed(case, geometry, references=[("that dataset", -7.0, 3.0)]).findings
    assert names(without) == {"wrong-stats", "gain"}
    assert [finding.fault for finding in given] == ["normalised"]
    assert "that dataset" in given[0].detail


def test_audio_of_other_utterances_is_refused_and_said(geometry: BankGeometry, recomputed: Any) -> None:
    """Targets that the declared front end does not make of this audio are no evidence."""
    case = Case(healthy()[:_HEARD], mels()[:_HEARD])
    out = diagnosed(case, geometry, recomputed=recomputed, indices=range(_HEARD, 2 * _HEARD))
    assert not out.audio
    assert "not what the declared front end makes" in out.skipped["audio"]
    assert out.findings == []


def test_the_same_pairs_give_the_same_answer(geometry: BankGeometry) -> None:
    """Twice, and with the utterances in another order."""
    case = PLANTED["mel-scale"]()
    once, again = of("mel-scale"), diagnosed(case, geometry)
    assert once.findings == again.findings
    assert once.posterior == again.posterior
    order = np.random.default_rng(0).permutation(COUNT)
    turned = Case([case.predictions[k] for k in order], [case.targets[k] for k in order])
    other = diagnosed(turned, geometry)
    assert [f.names for f in other.findings] == [f.names for f in once.findings]
    assert other.ranked[0].total == pytest.approx(once.ranked[0].total, rel=1e-4)


@pytest.mark.parametrize("fault", ["normalised", "decibel", "shift"])
def test_one_utterance_is_enough_for_what_is_plain(fault: str, geometry: BankGeometry) -> None:
    case = PLANTED[fault]()
    one = Case(case.predictions[:1], case.targets[:1])
    assert fault in names(diagnosed(one, geometry).findings)


def test_the_belief_is_a_distribution() -> None:
    """Shares of sets of faults: positive, together at most 1, and the best is the likeliest."""
    out = of("mel-scale")
    assert all(0 < share <= 1 for share in out.posterior.values())
    assert 0.99 < sum(out.posterior.values()) <= 1.0 + 1e-9
    assert max(out.posterior, key=lambda key: out.posterior[key]) == out.ranked[0].faults
    totals = [candidate.total for candidate in out.ranked]
    assert totals == sorted(totals)


def test_planted_models_are_of_the_quality_asked_for() -> None:
    """The tests above stand on this: r within bin .9, least-squares slope 1 or sd ratio 1."""
    y = np.concatenate(mels()).astype(np.float64)
    y -= y.mean(0)
    for kind in ("mean", "sample"):
        p = np.concatenate(planted.healthy(kind=kind)).astype(np.float64)
        p -= p.mean(0)
        r = float((p * y).sum() / np.sqrt((p * p).sum() * (y * y).sum()))
        assert r == pytest.approx(0.9, abs=0.02)
        ratio = float(np.sqrt((p * p).sum() / (y * y).sum()))
        assert ratio == pytest.approx(1.0 if kind == "sample" else r, abs=0.03)
