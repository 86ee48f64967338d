"""``explain`` end to end: a planted fault is named, a healthy model is not blamed, and what is unlisted is unknown."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import math
from typing import Any

import numpy as np
import planted
import pytest
from planted import COUNT, PLANTED, UNLISTED, Case, healthy, mels
from speechlike import mel_field, prediction

from calib.diagnose.faults import leftover
from calib.diagnose.faults.candidates import Competition
from calib.diagnose.faults.evidence import Finding
from calib.diagnose.faults.explain import Explanation, _unrelated, explain
from calib.diagnose.faults.frozen import FROZEN, confidence
from calib.diagnose.faults.geometry import BankGeometry
from calib.diagnose.faults.judge import findings, graded
from calib.diagnose.faults.library import FAULTS
from calib.diagnose.faults.sample import Sample
from calib.diagnose.faults.score import Cost, Stats
from calib.diagnose.faults.structure import Relation
from calib.diagnose.faults.transforms import Form
from calib.diagnose.faults.units import Hypothesis
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
    assert named <= FAULTS[fault].allowed(audio=False)
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
    assert names(out.findings) <= FAULTS[fault].allowed(audio=True)


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
    assert named <= FAULTS[fault].allowed(audio=False)


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
    assert named <= FAULTS[first].allowed(audio=False) | FAULTS[second].allowed(audio=False)


# --- what was once answered wrongly --------------------------------------------------------------------------------


def test_dead_bins_beside_another_sample_rate_are_no_mystery() -> None:
    """Above the lower of two rates there is nothing; without that fault dead bins must be said."""
    out = of("sample-rate")
    case = leftover.Case(out, out.ranked[0], frozenset(FAULTS), None, np.array([78, 79]))
    dead = "2 bins hardly move"
    assert dead not in [line.text for line in leftover.leftover(case, {"sample-rate"})]
    assert dead in [line.text for line in leftover.leftover(case, {"fmax"})]


@pytest.mark.parametrize("flutter", [0.0, 0.003])
def test_bins_that_are_dead_on_both_sides_are_the_recording_s(flutter: float, geometry: BankGeometry) -> None:
    """Audio of a narrower band: nothing is there to be predicted."""
    top, floor, rng = np.arange(80) >= 66, math.log(1e-5), np.random.default_rng(0)

    def narrow(mel: np.ndarray, size: float) -> np.ndarray:
        return np.where(top, floor + size * rng.standard_normal(mel.shape), mel)

    case = Case([narrow(p, flutter) for p in healthy()], [narrow(y, 3 * flutter) for y in mels()])
    assert diagnosed(case, geometry).findings == []


def test_a_mean_scaled_by_its_own_extremes_is_not_smoothed_as_well(geometry: BankGeometry) -> None:
    """It then has the target's variance, but not as a sampler has it."""
    case = Case([(p - p.min()) / (p.max() - p.min()) for p in healthy()])
    assert [finding.fault for finding in diagnosed(case, geometry).findings] == ["minmax-per-utterance"]


@pytest.mark.parametrize(
    "fault", ["copying", "clipped", "raised-floor", "mel-scale", "fmax", "half-hop", "log-missing"]
)
def test_a_fault_left_out_of_the_library_is_unknown(fault: str, geometry: BankGeometry) -> None:
    """No catch-all describes these: what is left when the best remaining fault is undone is no healthy model's."""
    found = diagnosed(PLANTED[fault](), geometry, library=frozenset(FAULTS) - {fault}).findings
    assert "unknown" in names(found)
    assert fault not in names(found)


def test_a_clamp_that_nothing_reaches_does_not_stand_for_power_that_is_left_out(
    geometry: BankGeometry, recomputed: Any
) -> None:
    found = diagnosed(
        PLANTED["log-power"](), geometry, recomputed=recomputed, indices=range(_HEARD),
        library=frozenset(FAULTS) - {"log-power"},
    ).findings  # fmt: skip
    assert [finding.fault for finding in found] == ["unknown"]


def test_a_bank_that_leaves_the_bins_far_from_their_places_is_not_named() -> None:
    """With the audio a bank fits exactly; another one leaves some 60 to 90 nats of misplaced bins (real speech)."""
    assert "fmax" in said_of(case_of("fmax", place=4.0))
    assert said_of(case_of("fmax", place=75.0)) == ["unknown"]


def test_what_is_left_over_does_not_speak_against_unknown() -> None:
    sure = [confidence(1.5, misfit, 0.9, 4000, 1, unknown=True) for misfit in (20.0, 80.0)]
    assert sure[0] == sure[1]
    named = [confidence(1.5, misfit, 0.9, 4000, 1) for misfit in (20.0, 55.0)]
    assert named[0] > named[1]


def test_foreign_pairs_left_out_of_the_library_are_unknown() -> None:
    targets = [mel_field(200 + 3 * k, 60 + k) for k in range(12)]
    straight = [prediction(y, 0.9, k) for k, y in enumerate(targets)]
    case = Case([*straight[:8], *(np.resize(straight[(k + 1) % 12], targets[k].shape) for k in range(8, 12))], targets)
    assert diagnosed(case, None).findings[0].detail.startswith("4 of 12 utterances")
    assert names(diagnosed(case, None, library=frozenset(FAULTS) - {"wrong-pairs"}).findings) == {"unknown"}


def test_what_is_only_fitted_may_have_an_unlisted_cause() -> None:
    """A free scale, offset or colour describes; a constant that fits is a cause."""
    for fault in ("wrong-stats", "gain", "equaliser"):
        finding = of(fault).findings[0]
        assert "unknown" in finding.names
        assert "a cause that is not listed" in finding.sentence
    for fault in ("log-base", "decibel", "int16-scale", "area-norm"):
        assert "unknown" not in names(of(fault).findings)


def test_what_hardly_moves_may_never_have_been_trained() -> None:
    assert of("collapsed").findings[0].names == ("collapsed", "untrained")


def test_a_reshaped_side_is_put_right_before_it_meets_the_audio(geometry: BankGeometry, recomputed: Any) -> None:
    """Whole arrays are turned, then cut to the recomputed targets' lengths; a turned target is compared turned back."""
    p, y = healthy()[:_HEARD], mels()[:_HEARD]
    turned = [np.ascontiguousarray(x.T).reshape(x.shape) for x in p]
    other = [np.ascontiguousarray(x.T).reshape(x.shape) for x in y]
    for case in (Case(turned, y), Case(p, other)):
        out = diagnosed(case, geometry, recomputed=recomputed, indices=range(_HEARD))
        assert out.audio
        assert [finding.fault for finding in out.findings] == ["reshaped"]


def test_half_a_frame_is_not_judged_where_the_model_may_lean_to_the_previous_one(geometry: BankGeometry) -> None:
    """What cannot be told is skipped and said, not passed over."""
    case = Case(healthy())
    for declared in (None, True):
        assert "leans" in diagnosed(case, geometry, autoregressive=declared).skipped["half-hop"]
    assert "half-hop" not in diagnosed(case, geometry, autoregressive=False).skipped


def test_an_echo_must_be_certain() -> None:
    """In a few hundred frames of a weak model one direction is matched a little better by chance."""
    for seed in range(6):
        targets = [mel_field(260 + 9 * k, 70 + 10 * seed + k) for k in range(4)]
        texture = diagnosed(Case([prediction(y, 0.6, seed + k) for k, y in enumerate(targets)], targets), None).texture
        assert texture is not None
        assert texture.echo < 0.5 * FROZEN.echo
    echoed = diagnosed(UNLISTED["an echo"](), None).texture
    assert echoed is not None
    assert echoed.echo > FROZEN.echo


def weakly(r: float, count: int, seed: int = 0) -> Case:
    """A weak model whose r differs by utterance, as every weak model's does."""
    rng = np.random.default_rng(seed)
    targets = [mel_field(240 + 5 * k, 90 + 31 * seed + k) for k in range(count)]
    return Case(
        [prediction(y, float(np.clip(rng.normal(r, 0.14), 0.03, 0.9)), k) for k, y in enumerate(targets)], targets
    )


def test_utterances_of_a_weak_model_that_differ_are_not_foreign() -> None:
    """From the weakest to the best there is no gap; foreign pairs stand apart from the others."""
    said = [names(diagnosed(weakly(r, 16, seed), None).findings) for seed in range(6) for r in (0.35, 0.45)]
    assert not any("wrong-pairs" in named for named in said)
    straight = weakly(0.75, 16)
    foreign = [*straight.predictions[:10], *straight.predictions[11:16], straight.predictions[10]]
    mixed = Case([np.resize(p, y.shape) for p, y in zip(foreign, straight.targets, strict=True)], straight.targets)
    assert "wrong-pairs" in names(diagnosed(mixed, None).findings)


def case_of(fault: str, **changes: Any) -> leftover.Case:
    """The judged case of a planted fault, with fields of its texture or of its best candidate's sums exchanged."""
    out = of(fault)
    assert out.texture is not None
    best = out.ranked[0]
    cost = {key: changes.pop(key) for key in ("scale", "evenness", "utterances", "place") if key in changes}
    if "n_frames" in changes:
        stats = copy.copy(best.stats)
        stats.n_frames = changes.pop("n_frames")
        best = dataclasses.replace(best, stats=stats)
    best = dataclasses.replace(best, cost=dataclasses.replace(best.cost, **cost))
    out = dataclasses.replace(out, texture=dataclasses.replace(out.texture, **changes))
    return leftover.Case(out, best, frozenset(FAULTS), None, np.zeros(0, dtype=int))


@pytest.mark.parametrize(("field", "value"), [("misplaced", 0.15), ("echo", 0.2), ("curved", 0.02), ("bin_drop", 0.3)])
def test_what_chance_can_do_is_no_finding(field: str, value: float) -> None:
    """The same figure is a finding in 20,000 frames of a good model and none in 1,100 of a weak one."""

    def lines(**changes: Any) -> int:
        return len(leftover.leftover(case_of("gain", **changes), {"gain"}))

    assert lines(own=0.4, n_frames=1100, **{field: value}) == lines(own=0.4, n_frames=1100)
    assert lines(own=0.9, n_frames=20000, **{field: value}) == lines(own=0.9, n_frames=20000) + 1


def test_smoothing_takes_spread_away_and_that_is_no_mystery() -> None:
    """Where smoothing is named, too small a spread is its doing; where it is not, something is off."""
    case = case_of("gain", scale=3 * FROZEN.unknown_scale)
    assert [line.text.partition(":")[0] for line in leftover.leftover(case, {"gain"})] == ["spread"]
    assert leftover.leftover(case, {"gain", "oversmoothed-time"}) == []


def test_an_inverse_filter_gains_more_in_a_weak_model_that_nothing_smoothed() -> None:
    """What the previous frame tells it is not shrunk like a conditional mean; in a good one the same gain is smoothing."""
    for own, smoothed in ((0.9, True), (0.45, False)):
        spectrum = of("gain").texture.time  # type: ignore[union-attr]
        assert spectrum is not None
        time = dataclasses.replace(spectrum, removable=0.012, error=0.001)
        case = case_of("gain", own=own, time=time)
        assert ("oversmoothed-time" in dict(leftover.smoothings(case))) == smoothed


def test_a_conditional_mean_with_little_detail_is_no_smoothed_sampler() -> None:
    """Power a little above the coherence, far below the target's, is no sampler's; nor is a declared mean model one."""
    spectrum = of("gain").texture.time  # type: ignore[union-attr]
    assert spectrum is not None
    weak = dataclasses.replace(spectrum, power=(0.31, 0.06, 0.02), coherence=(0.18, 0.1, 0.1), removable=0.0)
    strong = dataclasses.replace(weak, power=(0.95, 0.2, 0.05))
    assert not weak.sampler
    assert strong.sampler
    case = case_of("gain", time=strong)
    assert "oversmoothed-time" in dict(leftover.smoothings(case))
    case.best.stats.kind = "mean"
    try:
        assert "oversmoothed-time" not in dict(leftover.smoothings(case))
    finally:
        case.best.stats.kind = None


def test_frames_that_were_interpolated_here_are_not_held_by_the_model() -> None:
    """Undoing a drift by half reads every other frame between two: that is no smoothing of the prediction."""
    spectrum = of("gain").texture.time  # type: ignore[union-attr]
    assert spectrum is not None
    held = dataclasses.replace(spectrum, held=0.5, removable=0.0)
    assert "oversmoothed-time" in dict(leftover.smoothings(case_of("gain", time=held)))
    assert "oversmoothed-time" not in dict(leftover.smoothings(case_of("sample-rate", time=held)))


def test_a_bank_that_is_only_the_nearest_of_a_few_leaves_something_over() -> None:
    """Where the front end is not declared, audio at another rate is named and its place in the bins is not held against it."""
    case = case_of("sample-rate")
    off = dataclasses.replace(case.best, cost=dataclasses.replace(case.best.cost, place=99.0))
    for declared, lines in ((True, 1), (False, 0)):
        told = dataclasses.replace(case, best=off, out=dataclasses.replace(case.out, declared=declared))
        assert len(leftover.leftover(told, {"sample-rate"})) == lines


def said_of(case: leftover.Case) -> list[str]:
    dead = np.asarray(case.dead)
    return [f.fault for f in findings(case.out, case.best, case.library, case.autoregressive, dead)]


def test_a_blur_over_bins_moves_their_means_and_that_is_no_colour() -> None:
    """Where smoothing over bins is named, a few nats of offsets by bin are its doing; a strong colour stands beside it."""
    case = case_of("equaliser")
    assert case.out.texture is not None
    spectrum = case.out.texture.frequency
    assert spectrum is not None
    held = dataclasses.replace(spectrum, held=0.8)
    blurred = case_of("equaliser", frequency=held)
    none = next((c for c in blurred.out.ranked if not c.faults), blurred.out.ranked[-1])
    for nats, colour in ((5.0, False), (40.0, True)):
        ranked = [blurred.best, dataclasses.replace(
            none, form=Form(), hypothesis=Hypothesis((), "as it is", none.terms),
            cost=Cost(prior=blurred.best.total + nats),
        )]  # fmt: skip
        told = dataclasses.replace(blurred, out=dataclasses.replace(blurred.out, ranked=ranked))
        assert ("equaliser" in said_of(told)) == colour
        assert "oversmoothed-frequency" in said_of(told)


def test_where_power_was_recomputed_the_line_that_is_nearly_it_does_not_stand_for_it(geometry: BankGeometry) -> None:
    """It is granted a tolerance that would hide a floor; an exact square or root is still tried."""
    sample = Sample(Case(healthy()[:_HEARD], mels()[:_HEARD]).frames())
    tried = {}
    for heard in (False, True):
        found = Competition(sample, geometry, [], None, np.zeros(80, bool), frozenset(FAULTS), heard=heard)
        forms = found._hypotheses(Form(), Stats(sample))
        tried[heard] = [h.terms.slack for h in forms if h.faults == ("log-power",)]
    assert max(tried[False]) > 0
    assert tried[True]
    assert max(tried[True]) == 0


def test_what_hardly_passes_a_limit_is_not_said_to_be_unknown() -> None:
    """A hair beyond a limit in a weak model is most often chance; far beyond it, or where nothing surer is said, it is not."""
    for factor, unknown in ((1.01, False), (4.0, True)):
        case = case_of("gain", utterances=factor * FROZEN.unknown_utterances, own=0.5, n_frames=2500)
        case.best.stats.r = 0.45
        assert ("unknown" in said_of(case)) == unknown
        assert ("gain" in said_of(case)) != unknown


def test_what_is_quiet_hardly_moves_without_the_logarithm() -> None:
    """Bins that stand still beside the loud ones are no fault of their own there."""
    for fault, dead in (("log-missing", False), ("gain", True)):
        case = dataclasses.replace(case_of(fault), dead=np.array([0]))
        assert ("dead-bins" in said_of(case)) == dead


def test_a_copy_of_the_previous_frame_is_no_half_hop() -> None:
    """It lies one whole frame back, as a shift does."""
    (copied,) = (finding for finding in of("copying").findings if finding.fault == "copying")
    assert set(copied.names) == {"copying", "shift"}


def test_a_weak_model_s_little_gain_is_not_worth_a_fault() -> None:
    """No fault is dearer than a fault by what a rival gains by chance: hardly anything at r .95, two nats at r 0."""
    dearer = {}
    for r in (0.3, 0.95):
        targets = [mel_field(300, 40 + k) for k in range(8)]
        case = Case([prediction(y, r, k) for k, y in enumerate(targets)], targets)
        best = next(c for c in diagnosed(case, None).ranked if not c.faults)
        dearer[r] = -best.cost.prior
        assert dearer[r] == pytest.approx(FROZEN.usual * (1 - best.stats.r**2) ** 2)
    assert dearer[0.3] > 1.0
    assert dearer[0.95] < 0.1


def test_confidence_rises_with_what_speaks_for_it() -> None:
    """Margin, r and frames raise it, frames only as long as they are few; *unknown* by how far a limit is passed."""
    usual = {"margin": 5.0, "misfit": 3.0, "r": 0.7, "n_frames": 2000, "count": 1}
    middle = confidence(**usual)  # type: ignore[arg-type]
    for key, value in (("margin", 20.0), ("r", 0.95), ("n_frames", 4000)):
        assert confidence(**{**usual, key: value}) > middle  # type: ignore[arg-type]
    for key, value in (("misfit", 20.0), ("count", 3)):
        assert confidence(**{**usual, key: value}) < middle  # type: ignore[arg-type]
    assert confidence(**{**usual, "n_frames": 4000}) == confidence(**{**usual, "n_frames": 40000})  # type: ignore[arg-type]
    hardly, plainly = (confidence(**{**usual, "margin": m}, unknown=True) for m in (0.05, 3.0))  # type: ignore[arg-type]
    assert hardly < 0.6
    assert plainly > 0.85


def test_the_nearer_to_what_unrelated_pairs_reach_the_less_is_sure() -> None:
    """A weak model in a few hundred frames may look unrelated; such an answer is not certain."""
    sample = Sample(PLANTED["text-ignored"]().frames())
    apart, near = (_unrelated(sample, Relation(r, 0.3, 0.0), frozenset(FAULTS)) for r in (0.02, 0.27))
    assert apart.fault == near.fault == "text-ignored"
    assert near.margin < 0.2 * apart.margin
    sure, unsure = (graded([f], misfit=0.0, r=1.0, n_frames=300)[0].confidence for f in (apart, near))
    assert unsure < sure - 0.1


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
    assert names(without) == {"wrong-stats", "gain", "unknown"}
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
