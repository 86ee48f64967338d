"""The injected-fault benchmark itself: what it injects is there, and its figures fall when an answer is wrong."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.diagnosis import cases, corpora, metrics, oracle, pages, run, simulate, summary, unlisted, varied
from benchmarks.diagnosis.cases import Case, CaseData, materialise
from benchmarks.diagnosis.inject import INJECTORS, PAIRS
from calib.diagnose.faults.library import FAULTS


def case(*faults: str, severity: int = 2, **changes: object) -> Case:
    """A case on the embedded corpus; the same id, so that cases with and without a fault are twins."""
    defaults: dict = {
        "id": "test", "group": "single" if faults else "healthy", "corpus": "demo_b", "size": 4, "r": 0.9,
        "faults": faults, "severity": severity if faults else 0,
    }  # fmt: skip
    return Case(**{**defaults, **changes})


def joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays).astype(np.float64)


# --- simulate -------------------------------------------------------------------------------------------------------


def demo_mels(count: int = 10) -> list[np.ndarray]:
    return [corpora.mel(piece, corpora.hifigan()) for piece in corpora.load("demo_b").pieces[:count]]


@pytest.mark.parametrize("autoregressive", [False, True])
@pytest.mark.parametrize("kind", simulate.KINDS)
@pytest.mark.parametrize("r", [0.3, 0.7, 0.9, 0.98])
def test_simulated_model_has_the_quality_asked_for(r: float, kind: str, autoregressive: bool) -> None:
    targets = demo_mels()
    made = simulate.simulate(targets, simulate.Quality(r, kind, autoregressive), np.random.default_rng(3))
    r_w, ratio = simulate.achieved(made, targets)
    assert r_w == pytest.approx(r, abs=0.015)
    assert ratio == pytest.approx(r if kind == "mean" else 1.0, rel=0.1)  # the gain error is a few per cent


def test_simulated_autoregressive_model_leans_on_the_previous_frame() -> None:
    targets = demo_mels()

    def lagged(autoregressive: bool) -> float:
        quality = simulate.Quality(0.7, "mean", autoregressive)
        made = simulate.simulate(targets, quality, np.random.default_rng(1))
        return simulate.achieved([p[1:] for p in made], [y[:-1] for y in targets])[0]

    assert lagged(True) > lagged(False) + 0.02


def test_simulated_errors_are_smooth_as_a_trained_models_are() -> None:
    targets = demo_mels()
    made = simulate.simulate(targets, simulate.Quality(0.78, "mean", True), np.random.default_rng(1))
    errors = [p.astype(np.float64) - y for p, y in zip(made, targets, strict=True)]
    in_time = np.mean([np.corrcoef(e[1:].ravel(), e[:-1].ravel())[0, 1] for e in errors])
    over_bins = np.mean([np.corrcoef(e[:, 1:].ravel(), e[:, :-1].ravel())[0, 1] for e in errors])
    assert 0.6 < in_time < 0.9  # measured on the reference model at 5 % of its training: .74
    assert 0.6 < over_bins < 0.9  # .74


# --- inject ---------------------------------------------------------------------------------------------------------


def test_every_fault_that_pairs_or_audio_show_is_injected() -> None:
    assert set(INJECTORS) == {name for name, fault in FAULTS.items() if fault.needs in {"pairs", "audio"}}
    for first, second in PAIRS:
        assert FAULTS[first].stage != FAULTS[second].stage


@pytest.mark.parametrize("fault", INJECTORS)
def test_every_severity_really_changes_the_pair(fault: str) -> None:
    ar = INJECTORS[fault].autoregressive is not False
    twin = materialise(case(autoregressive=ar))
    y = joined(twin.targets)
    for severity in (1, 2, 3, 4):
        for side in INJECTORS[fault].sides:
            data = materialise(case(fault, severity=severity, side=side, autoregressive=ar))
            assert data.truth == (fault,)
            assert np.isfinite(joined(data.predictions)).all()
            mine, theirs = [(data.predictions, twin.predictions), (data.targets, twin.targets)][side == "target"]
            frames = [min(len(a), len(b)) for a, b in zip(mine, theirs, strict=True)]
            change = joined([a[:n] - b[:n] for a, b, n in zip(mine, theirs, frames, strict=True)])
            assert np.square(change).mean() > 1e-3 * y.var(), (fault, severity, side)  # rms 3 % of the sd


@pytest.mark.parametrize(
    "fault", ["gain", "raised-floor", "clipped", "equaliser", "wrong-stats", "level-per-utterance", "pre-emphasis", "dead-bins"]
)  # fmt: skip
def test_severities_run_from_mild_to_severe(fault: str) -> None:
    twin = joined(materialise(case(size=8, kind="sample")).predictions)
    sizes = [
        np.square(joined(materialise(case(fault, severity=s, size=8, kind="sample")).predictions) - twin).mean()
        for s in (1, 2, 3, 4)
    ]
    assert sizes[0] < sizes[1] < sizes[3]
    assert sizes[2] < sizes[3]


@pytest.mark.parametrize(
    ("fault", "severity", "undo"),
    [
        ("flipped-bins", 1, lambda p: p[:, ::-1]),
        ("reshaped", 1, lambda p: p.reshape(p.shape[::-1]).T),
        ("reshaped", 3, lambda p: p.T.reshape(p.shape)),
        ("log-base", 1, lambda p: p * np.log(10.0)),
        ("decibel", 1, lambda p: p * np.log(10.0) / 20.0),
        ("decibel", 4, lambda p: (p + 20.0) * np.log(10.0) / 20.0),
        ("sign-flipped", 2, lambda p: -p),
        ("log-missing", 1, np.log),
        ("log-missing", 3, lambda p: np.log(p) / 2.0),
    ],
)
def test_what_can_be_undone_is_undone_exactly(fault: str, severity: int, undo: object) -> None:
    twin = materialise(case())
    data = materialise(case(fault, severity=severity))
    for p, clean in zip(data.predictions, twin.predictions, strict=True):
        np.testing.assert_allclose(undo(p.astype(np.float64)), clean, atol=2e-4)


@pytest.mark.parametrize(
    "fault", ["normalised", "normalised-twice", "denormalised-twice", "mean-std-swapped", "wrong-stats"]
)
def test_faults_of_statistics_are_affine(fault: str) -> None:
    clean = joined(materialise(case()).predictions).ravel()
    p = joined(materialise(case(fault, severity=4)).predictions).ravel()
    assert abs(np.corrcoef(p, clean)[0, 1]) == pytest.approx(1.0, abs=1e-6)
    assert abs(p.std() / clean.std() - 1.0) > 0.2


def test_normalised_is_normalised() -> None:
    p = joined(materialise(case("normalised", severity=1, size=16, kind="sample")).predictions)
    assert p.mean() == pytest.approx(0.0, abs=0.15)
    assert p.std() == pytest.approx(1.0, abs=0.15)


def test_gain_is_an_offset() -> None:
    twin, data = (joined(materialise(c).predictions) for c in (case(), case("gain", severity=3)))
    assert np.abs(data - twin).mean() == pytest.approx(12.0 / 8.686, rel=0.05)


@pytest.mark.parametrize("late", [1, -1])
def test_shift_moves_whole_frames(late: int) -> None:
    seen = set()
    for number in range(8):  # the direction is drawn by the id
        twin, data = (
            materialise(dataclasses.replace(c, id=f"shift{number}")) for c in (case(), case("shift", severity=2))
        )
        p, clean = data.predictions[0], twin.predictions[0]
        direction = 1 if np.allclose(p[2:], clean[: len(p) - 2]) else -1
        if direction < 0:
            np.testing.assert_array_equal(p, clean[2 : 2 + len(p)])
        seen.add(direction)
    assert late in seen


@pytest.mark.parametrize("severity", [1, 2, 3, 4])
@pytest.mark.parametrize("fault", ["collapsed", "text-ignored", "untrained"])
def test_where_nothing_is_left_r_is_about_zero(fault: str, severity: int) -> None:
    data = materialise(case(fault, severity=severity, size=16))
    r_w, ratio = simulate.achieved(data.predictions, data.targets)
    assert abs(r_w) < 0.15
    assert (ratio < 0.2) == (fault == "collapsed")


def test_foreign_pairs_have_no_signal_and_the_clean_twin_has() -> None:
    assert abs(simulate.achieved(*_pair(case("wrong-pairs", severity=4, size=16)))[0]) < 0.15
    assert simulate.achieved(*_pair(case(size=16)))[0] > 0.85


def _pair(c: Case) -> tuple[list[np.ndarray], list[np.ndarray]]:
    data = materialise(c)
    return data.predictions, data.targets


def test_trained_checkpoints_carry_faults_of_the_front_end() -> None:
    twin = materialise(case(model="step100", autoregressive=True))
    data = materialise(case("mel-scale", severity=1, model="step100", autoregressive=True))
    before, after = (simulate.achieved(d.predictions, d.targets)[0] for d in (twin, data))
    assert 0.5 < after < before - 0.03
    assert data.frontend == corpora.hifigan()


@pytest.mark.parametrize("name", unlisted.UNLISTED)
def test_unlisted_distortions_leave_their_mark(name: str) -> None:
    twin = materialise(case())
    data = materialise(case(name, group="unlisted", severity=1))
    assert data.truth == ("unknown",)
    assert np.square(joined(data.predictions) - joined(twin.predictions)).mean() > 0.05


def test_the_same_case_gives_the_same_arrays_and_another_seed_others() -> None:
    first, again, other = (joined(materialise(case("equaliser", seed=seed)).predictions)[:100] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_cases_are_unique_and_every_fault_stands_in_every_group() -> None:
    made = cases.report_cases(0)
    assert len({c.id for c in made}) == len(made)
    for group in ("single", "left-out"):
        assert {c.faults[0] for c in made if c.group == group} == set(INJECTORS)
    few = cases.report_cases(0, 0.01)
    assert {(c.group, c.faults) for c in few} == {(c.group, c.faults) for c in made}
    assert not {c.corpus for c in made} & {c.corpus for c in cases.development_cases(0)}


def test_without_the_real_speech_the_sets_are_halves_of_the_embedded_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "_speech", lambda: None)
    dev, report = cases.development_cases(0), cases.report_cases(0)
    assert ({c.corpus for c in dev}, {c.corpus for c in report}) == ({"demo_a"}, {"demo_b"})
    speakers = [{piece.speaker for piece in corpora.load(name).pieces} for name in ("demo_a", "demo_b")]
    assert not speakers[0] & speakers[1]


# --- oracle ---------------------------------------------------------------------------------------------------------


def test_oracle_knows_what_a_global_map_repairs() -> None:
    for fault, repairable in (("normalised", True), ("gain", True), ("flipped-bins", False), ("collapsed", False)):
        found = oracle.repair(materialise(case(fault, size=8, r=0.98)))
        assert found["repairable"] is repairable, (fault, found)
        assert found["needed"]
    assert not oracle.repair(materialise(case(size=8, r=0.98)))["needed"]


# --- metrics on rows written by hand --------------------------------------------------------------------------------


def row(truth: str | None, *said: str | dict, group: str = "single", **changes: object) -> dict:
    """A row; what was said is a fault named with all that is declared as confounded, or a finding."""
    evidence = str(changes.get("evidence", "pairs"))
    findings = [
        f if isinstance(f, dict) else {"fault": f, "names": sorted(metrics.allowed(f, evidence)), "confidence": 0.9}
        for f in said
    ]
    return {
        "id": "x", "truth": [truth] if truth else [], "faults": [truth] if truth else [], "group": group if truth else "healthy",
        "evidence": "pairs", "findings": findings, "state": "healthy", "severity": 2, "r": 0.9, "size": 16,
        "model": "simulated", "kind": "mean", "corpus": "kerstin", "calibrators": {},
        "repair": {"repairable": False, "needed": True}, "autoregressive": False, "declared": True, "side": "prediction",
        "seconds": 0.1, "seconds_made": 0.1, "n_frames": 4800, **changes,
    }  # fmt: skip


RIGHT = [row("shift", "shift"), row("log-base", "log-base"), row("gain", "wrong-stats"), row(None)]


def test_right_answers_score_one_and_each_kind_of_wrong_answer_less() -> None:
    assert metrics.f1(RIGHT)["macro_f1"] == 1.0
    for spoiled in (
        [*RIGHT, row("shift", "log-base")],  # another fault
        [*RIGHT, row("shift")],  # nothing
        [*RIGHT, row(None, "shift")],  # a false alarm
        [*RIGHT, row("shift", "shift", "log-base")],  # hedging
        [*RIGHT, row("shift", {"fault": "shift", "names": ["shift", "log-base"], "confidence": 1.0})],  # naming more
        [*RIGHT, row("shift", {"fault": "shift", "names": list(FAULTS), "confidence": 1.0})],  # naming everything
        [*RIGHT, row("shift", "unknown")],
    ):
        assert metrics.f1(spoiled)["macro_f1"] < 1.0


def test_confounded_names_are_right_only_under_the_evidence_that_confounds_them() -> None:
    finding = {"fault": "fmax", "names": ["fmax", "fmin", "mel-scale", "sample-rate"], "confidence": 1.0}
    assert metrics.right(finding, "mel-scale", "pairs")
    assert not metrics.right(finding, "mel-scale", "audio")
    assert not metrics.right(finding, "shift", "pairs")


def test_an_error_counts_as_a_wrong_answer() -> None:
    assert metrics.f1([row("shift", state="error", error="E"), row("shift", "shift")])["named"]["share"] == 0.5


def test_confusion_holds_the_truth_and_what_was_said() -> None:
    found = metrics.confusion([row("shift", "copying"), row("shift", "gain"), row("shift"), row(None, "shift")])
    assert found["shift"] == {"copying": 1, "gain": 1, "nothing": 1}
    assert found["healthy"] == {"shift": 1}


def test_shares_carry_wilson_intervals() -> None:
    figure = metrics.share([True] * 8 + [False] * 2)
    assert (figure["right"], figure["of"], figure["share"]) == (8, 10, 0.8)
    assert figure["low"] == pytest.approx(0.4902, abs=1e-4)  # Wilson 1927, z = 1.96
    assert figure["high"] == pytest.approx(0.9433, abs=1e-4)
    assert metrics.share([])["share"] is None


def test_nothing_there_counts_states_and_what_would_be_written() -> None:
    rows = [
        row("collapsed", state="collapsed"),
        row("collapsed", state="no-signal"),
        row("collapsed", state="insufficient", n_frames=200),
        row("untrained", state="no-signal"),
        row("text-ignored", state="weak"),
        row("wrong-pairs", state="no-signal", severity=4),
        row("untrained", state="insufficient", n_frames=299),  # a refusal all the same
        row("wrong-pairs", state="healthy", severity=1),  # can be paired anew: not counted
    ]
    found = metrics.nothing_there(rows)
    assert (found["collapsed"]["right"], found["collapsed"]["of"]) == (1, 3)
    assert (found["collapsed_enough"]["right"], found["collapsed_enough"]["of"]) == (1, 2)
    assert (found["no_signal"]["right"], found["no_signal"]["of"]) == (2, 4)
    assert (found["no_signal_enough"]["right"], found["no_signal_enough"]["of"]) == (2, 3)
    assert (found["written"]["right"], found["written"]["of"]) == (1, 7)


def test_fixable_is_wrong_where_the_repair_fails_or_nothing_is_broken() -> None:
    yes, no = ({"repairable": value, "needed": True} for value in (True, False))
    rows = [
        row("gain", state="fixable", repair=yes),
        row("mel-scale", state="fixable", repair=no),
        row(None, state="fixable", repair=yes),
        row("gain", state="weak", repair=yes),
    ]
    found = metrics.fixable(rows)
    assert found["precision"]["share"] == pytest.approx(1 / 3)
    assert found["recall"]["share"] == 0.5
    assert found["wrongly"] == [("mel-scale", 1), ("healthy", 1)]


def test_both_faults_of_a_pair_must_be_named() -> None:
    pair = {"group": "pair", "truth": ["shift", "log-base"], "faults": ["shift", "log-base"]}
    rows = [{**row("shift", *said), **pair} for said in (("shift", "log-base"), ("shift",), ("gain",))]
    found = metrics.pairs_named(rows)
    assert (found["both"]["right"], found["one_or_both"]["right"], found["something_else_too"]["right"]) == (1, 2, 1)


def test_unknown_is_strict_and_descriptions_are_counted_apart() -> None:
    def said(*names: str) -> dict:
        return {"fault": names[0], "names": list(names), "confidence": 0.9}

    rows = [
        row("log-base", "unknown", group="left-out"),
        row("log-base", said("wrong-stats", "gain", "unknown"), group="left-out"),
        row("log-base", said("wrong-stats", "gain"), group="left-out"),
        row("area-norm", said("pre-emphasis", "equaliser"), group="left-out"),
        row("log-base", "shift", group="left-out"),
        row("log-base", group="left-out"),
    ]
    found = metrics.unknowns(rows, "left-out")
    assert found["unknown"]["right"] == 1
    assert found["unknown_or_description"]["right"] == 2
    assert found["or_sibling"]["right"] == 3
    assert found["said"] == {"unknown": 1, "described": 1, "sibling": 1, "other": 2, "nothing": 1}


def test_the_parts_of_a_missing_fault_are_its_siblings() -> None:
    """Power cut at a floor is power and a floor."""
    assert metrics.outcome(row("power-floor", "raised-floor", group="left-out")) == "sibling"
    assert metrics.outcome(row("power-floor", "clipped", group="left-out")) == "other"


def test_calibration_error_is_the_gap_between_confidence_and_truth() -> None:
    def sure(fault: str, confidence: float) -> dict:
        return {"fault": fault, "names": sorted(metrics.allowed(fault, "pairs")), "confidence": confidence}

    honest = [row("shift", sure("shift", 0.5)), row("shift", sure("gain", 0.5))]
    assert metrics.expected_calibration_error(honest)["ece"] == pytest.approx(0.0)
    boast = [row("shift", sure("gain", 1.0)), row("shift", sure("shift", 1.0)), row(None, sure("gain", 1.0))]
    assert metrics.expected_calibration_error(boast)["ece"] == pytest.approx(2 / 3)
    two = [row("shift", sure("gain", 0.2), sure("shift", 1.0))]  # the surer finding speaks, wherever it stands
    assert metrics.expected_calibration_error(two)["ece"] == pytest.approx(0.0)


def test_choice_of_calibrator_is_scored_beside_the_best() -> None:
    errors = {"constant": 1.0, "before": 5.0, "ols": 0.2, "moments": 0.3}
    rows = [row("gain", calibrators={"target": {**errors, "chosen": chosen}}) for chosen in (0.2, 0.3)]
    found = metrics.choice(rows, "target")
    assert found["chosen"]["within"]["right"] == 1
    assert found["ols"]["median"] == 0.0
    assert found["constant"]["median"] == pytest.approx(0.8)


# --- the run --------------------------------------------------------------------------------------------------------


def stand_in(_: Case, data: CaseData, evidence: str) -> SimpleNamespace:
    """A diagnosis that cheats, to test what is around it: right with pairs, raising with audio."""
    if evidence == "audio":
        raise RuntimeError("the microphone is broken")
    findings = [
        SimpleNamespace(fault=name, names=tuple(sorted(metrics.allowed(name, evidence))), confidence=1.0)
        for name in data.truth
    ]
    return SimpleNamespace(
        verdict=SimpleNamespace(state="healthy", status="pass"),
        faults=findings,
        rows=[SimpleNamespace(name="twice", slope=2.0, intercept=0.0)],
        method="identity",
        calibration=lambda mel: mel,
    )


def test_a_run_ends_in_a_page_and_errors_are_counted() -> None:
    chosen = [
        case("gain", id="a", size=16, evidence=("pairs", "audio")),
        case("mel-scale", id="b", size=16),
        case(id="c", size=16),
        case("shift", "gain", id="d", group="pair"),
        case("curved", id="e", group="unlisted"),
    ]
    rows = run.run(chosen, jobs=1, judge=stand_in)
    assert [(r["id"], r["evidence"]) for r in rows] == [
        ("a", "pairs"), ("a", "audio"), ("b", "pairs"), ("c", "pairs"), ("d", "pairs"), ("e", "pairs"),
    ]  # fmt: skip
    figures = summary.summarise(rows)
    assert figures["headline"]["pairs"]["macro_f1"] == 1.0
    assert figures["headline"]["audio"]["macro_f1"] == 0.0
    assert figures["errors"] == {"RuntimeError: the microphone is broken": 1}
    assert figures["pairs_of_faults"]["pairs"]["both"]["share"] == 1.0
    assert figures["unlisted"]["pairs"]["unknown"]["share"] == 1.0
    results = {
        "command": "test", "seconds": 1.0, "jobs": 1, "seed": 0, "scale": 1.0, "versions": summary.versions(),
        "note": "", "corpora": {"report": ["demo_b"]}, "sets": {"report": figures},
    }  # fmt: skip
    text = pages.page(json.loads(json.dumps(results, allow_nan=False)))
    assert "the microphone is broken 1" in text
    assert "| gain | 1.00 | 1/1 |" in text


@pytest.mark.slow
def test_processes_change_nothing() -> None:
    chosen = [case("gain", id="a"), case(id="b", autoregressive=True), case("shift", id="c", corpus="demo_a")]
    alone, together = (run.run(chosen, jobs=jobs, judge=stand_in) for jobs in (1, 2))
    for one, other in zip(alone, together, strict=True):
        drop = {"seconds", "seconds_made", "repair", "calibrators", "achieved"}
        assert {k: v for k, v in one.items() if k not in drop} == {k: v for k, v in other.items() if k not in drop}
        # The order in which a process computed its mels may move the last bits (blocks of BLAS).
        assert one["repair"] == pytest.approx(other["repair"], rel=1e-8)
        for against, errors in one["calibrators"].items():
            assert errors == pytest.approx(other["calibrators"][against], rel=1e-8)


# --- pseudo-speakers ------------------------------------------------------------------------------------------------


def tone(seconds: float = 1.0, hertz: float = 440.0) -> np.ndarray:
    return (0.2 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * varied.RATE)) / varied.RATE)).astype(np.float32)


def test_a_pseudo_speaker_shares_its_settings_and_is_the_same_every_time() -> None:
    clips = [(f"c{k}", tone(hertz=300.0 + 50 * k), "one") for k in range(6)]
    first, second = (list(varied.readings(clips, 4, 2)) for _ in range(2))
    assert len({key for key, _, _ in first}) == len(first) == 12
    assert {speaker for _, _, speaker in first} == {voice.name for voice in varied.voices(4)}
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a[1], b[1])
    rates = sorted(voice.rate for voice in varied.voices(16))
    assert rates[0] == pytest.approx(0.82)
    assert rates[-1] == pytest.approx(1.2)


def test_pitch_and_rate_rise_together() -> None:
    still = {"gain": 0.0, "tilt": 0.0, "low_cut": 0.0, "t60": 0.0, "noise": None, "sampled": varied.RATE}
    voice = dataclasses.replace(varied.voices(4)[0], rate=1.1, **still)
    x = tone()
    made = np.trim_zeros(voice.speak(x, np.random.default_rng(0)))
    assert made.size == pytest.approx(x.size / 1.1, rel=0.02)
    peak = np.abs(np.fft.rfft(made)).argmax() * varied.RATE / made.size
    assert peak == pytest.approx(440.0 * 1.1, rel=0.01)


def test_a_narrow_recording_holds_nothing_above_4_khz() -> None:
    noise = np.random.default_rng(1).normal(0.0, 0.05, varied.RATE).astype(np.float32)
    voice = varied.voices(6, narrow=True)[0]
    power = np.abs(np.fft.rfft(voice.speak(noise, np.random.default_rng(2)))) ** 2
    hertz = np.fft.rfftfreq(2 * (power.size - 1), 1.0 / varied.RATE)
    assert power[hertz > 4100].mean() < 1e-5 * power[hertz < 3500].mean()


def test_no_simulated_model_predicts_less_than_the_guard_at_which_its_mels_stand() -> None:
    silent = [
        np.where(np.random.default_rng(k).random((60, 80)) < 0.05, -11.5, -5.0).astype(np.float32) for k in range(3)
    ]
    assert cases.floor_of(silent) == pytest.approx(-11.5)
    assert cases.floor_of(demo_mels(3)) is None
