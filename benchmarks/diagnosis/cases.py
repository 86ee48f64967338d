"""The cases of the benchmark, and `materialise`: a case as arrays.

A case is a few words (`Case`) from which its arrays follow exactly, in any order and any process.

Conventions:
    Arrays are float32 ``(T, M)``; samples float32 at 22,050 Hz.
"""

from __future__ import annotations

import dataclasses
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.diagnosis import corpora, trained, unlisted
from benchmarks.diagnosis.corpora import Piece, Statistics
from benchmarks.diagnosis.inject import INJECTORS, PAIRS, plan_of
from benchmarks.diagnosis.plan import Context, Plan, limited
from benchmarks.diagnosis.simulate import KINDS, Quality, simulate
from calib.mel.frontend import FrontEnd

__all__ = ["Case", "CaseData", "development_cases", "materialise", "report_cases"]

QUALITIES = (0.3, 0.5, 0.7, 0.9, 0.98)
SIZES = (1, 4, 16, 64)
_CHECKPOINTS = ("step005", "step030", "step100")
_AT_FLOOR = 0.002  # share of values that stand at the lowest one
_NEARLY = 0.02  # of what lies below it, above it
_ALARMS = {"dev": 6, "report": 25}  # healthy cases for each of 16 kinds of model
_FRESH = 8  # utterances on which a repair is scored


@dataclass(frozen=True)
class Case:
    """One case.

    Args:
        id: unique; also the seed.
        group: ``healthy``, ``single``, ``pair``, ``unlisted``, ``left-out`` (the library lacks the fault) or ``alarm``
            (healthy as well; so many that a rate of one in a hundred shows).
        corpus: name.
        size: utterances wanted; fewer where the corpus has fewer.
        model: ``simulated`` or a checkpoint of the reference model.
        r: quality of a simulated model; of a trained one, what was measured (0 for what is not trained).
        kind: ``mean`` or ``sample``.
        autoregressive: whether the model saw the previous true frame.
        declared: whether kind and autoregression are told to the diagnosis.
        faults: ids, or the name of an unlisted distortion.
        severity: 1 to 4; 0 for none.
        side: which array is off.
        evidence: what it is judged with: ``pairs``, ``audio`` (with the audio and the target's front end too).
        seed: of the whole run.
    """

    id: str
    group: str
    corpus: str
    size: int
    model: str = "simulated"
    r: float = 0.9
    kind: str = "mean"
    autoregressive: bool = False
    declared: bool = True
    faults: tuple[str, ...] = ()
    severity: int = 0
    side: str = "prediction"
    evidence: tuple[str, ...] = ("pairs",)
    seed: int = 0

    def rng(self, purpose: int) -> np.random.Generator:
        """Its own random numbers: 0 draws utterances, 1 what the fault leaves open, 2 the model's errors, 3 the rest.

        They are apart so that a case without its fault is the same model's prediction of the same utterances.
        """
        return np.random.default_rng([self.seed, zlib.crc32(self.id.encode()), purpose])


@dataclass(frozen=True)
class CaseData:
    """A case as arrays.

    Args:
        predictions: of the case's utterances, cropped with their targets to one length.
        targets: the same.
        samples: their audio.
        names: ids of the utterances.
        speakers: who speaks.
        lengths: frames of prediction and target before the crop.
        truth: ids of the faults; ``("unknown",)`` for an unlisted distortion; empty for a healthy case.
        kind: as told to the diagnosis; None where nothing is.
        autoregressive: the same.
        frontend: of the targets, as a user would declare it.
        fresh_predictions: of other utterances with the same faults, for scoring repairs.
        fresh_targets: the same.
        fresh_clean: what the fault-free model says of them, where that is in the targets' units; else None.
        clean_error: mean squared error of the fault-free model on the fresh utterances, over the within-bin variance.
        achieved: ``(r_w, sd ratio)`` of the fault-free predictions of the case.
    """

    predictions: list[np.ndarray]
    targets: list[np.ndarray]
    samples: list[np.ndarray]
    names: list[str]
    speakers: list[str]
    lengths: list[tuple[int, int]]
    truth: tuple[str, ...]
    kind: str | None
    autoregressive: bool | None
    frontend: FrontEnd
    fresh_predictions: list[np.ndarray]
    fresh_targets: list[np.ndarray]
    fresh_clean: list[np.ndarray] | None
    clean_error: float
    achieved: tuple[float, float]


def truth_of(case: Case) -> tuple[str, ...]:
    """The right answer: ids, ``("unknown",)`` or nothing."""
    return ("unknown",) if case.group == "unlisted" else case.faults


def materialise(case: Case) -> CaseData:
    """Make the arrays of a case. The same case gives the same arrays."""
    pieces, count = _drawn(case, case.rng(0))
    if case.group == "unlisted":
        plan = Plan()
        unlisted.add(plan, case.faults[0], case.severity)
    elif case.model in {"step000", "collapsed"}:
        plan = Plan()
    else:
        plan = plan_of(case.faults, case.severity, case.side, case.rng(1))
    model, target = (dataclasses.replace(corpora.hifigan(), **fields) for fields in (plan.model, plan.target))
    own = _mels(pieces, model, plan.model_audio)
    targets = _mels(pieces, target, plan.target_audio)
    context = Context(own, targets, count, Statistics.of(own), 0.0, case.kind, case.rng(3))
    read = own if plan.reads is None else plan.reads(own, context)
    predictions = _predicted(case, plan, pieces, read, model, case.rng(2))
    context.residual = _rms(predictions, read)
    clean_error, achieved = _clean(predictions, read, count)
    comparable = model == target == corpora.hifigan() and not (plan.model_audio or plan.target_audio)
    comparable = comparable and not plan.after_target and plan.reads is None
    clean = predictions[count:] if comparable else None
    predictions = limited(predictions, plan, context)
    for change in plan.after_prediction:
        predictions = change(predictions, context)
    for change in plan.after_target:
        targets = change(targets, context)
    lengths = [(len(p), len(y)) for p, y in zip(predictions, targets, strict=True)]
    cropped = [
        (np.ascontiguousarray(p[: len(y)], np.float32), np.ascontiguousarray(y[: len(p)], np.float32))
        for p, y in zip(predictions, targets, strict=True)
    ]
    return CaseData(
        predictions=[p for p, _ in cropped[:count]],
        targets=[y for _, y in cropped[:count]],
        samples=[piece.samples for piece in pieces[:count]],
        names=[piece.id for piece in pieces[:count]],
        speakers=[piece.speaker for piece in pieces[:count]],
        lengths=lengths[:count],
        truth=truth_of(case),
        kind=case.kind if case.declared else None,
        autoregressive=case.autoregressive if case.declared else None,
        frontend=target,
        fresh_predictions=[p for p, _ in cropped[count:]],
        fresh_targets=[y for _, y in cropped[count:]],
        fresh_clean=None if clean is None else [p[: len(y)] for p, y in zip(clean, targets[count:], strict=True)],
        clean_error=clean_error,
        achieved=achieved,
    )


def _drawn(case: Case, rng: np.random.Generator) -> tuple[list[Piece], int]:
    """The case's utterances and the fresh ones, and how many are the case's."""
    everything = corpora.load(case.corpus).pieces
    order = rng.permutation(len(everything))
    count = min(case.size, len(order) - min(_FRESH, len(order) // 2))
    return [everything[k] for k in order[: count + _FRESH]], count


def _mels(pieces: list[Piece], frontend: FrontEnd, changes: list[Any]) -> list[np.ndarray]:
    if not changes:
        return [corpora.mel(piece, frontend) for piece in pieces]
    out = []
    for number, piece in enumerate(pieces):
        samples = piece.samples
        for change in changes:
            samples = change(samples, number)
        out.append(frontend.mel(samples))
    return out


def _predicted(
    case: Case, plan: Plan, pieces: list[Piece], own: list[np.ndarray], model: FrontEnd, rng: np.random.Generator
) -> list[np.ndarray]:
    """What the model predicts of its own mels."""
    if case.model == "simulated":
        return _above(floor_of(own), simulate(own, Quality(case.r, case.kind, case.autoregressive), rng))
    home = corpora.hifigan()
    if model == home and not plan.model_audio:
        return trained.predictions(case.model, pieces)
    errors = trained.errors(case.model, pieces, [corpora.mel(piece, home) for piece in pieces])
    return [
        mel
        + trained.transplant(
            error,
            home,
            model,
            len(mel),
            time_scale=plan.time_scale,
            frame_shift=plan.frame_shift,
            frequency_scale=plan.frequency_scale,
        )
        for mel, error in zip(own, errors, strict=True)
    ]


def floor_of(mels: list[np.ndarray]) -> float | None:
    """The guard before the logarithm, where digital silence or a narrower band stands at it; None where nothing does."""
    low = min(float(mel.min()) for mel in mels)
    return low if np.mean([float((mel <= low + 1e-4).mean()) for mel in mels]) > _AT_FLOOR else None


def _above(floor: float | None, predictions: list[np.ndarray]) -> list[np.ndarray]:
    """No model predicts less than the least that it was ever shown so often; nor does it hit that exactly."""
    if floor is None:
        return predictions
    return [np.where(p < floor, floor + _NEARLY * (floor - p), p).astype(np.float32) for p in predictions]


def _rms(predictions: list[np.ndarray], own: list[np.ndarray]) -> float:
    return float(np.sqrt(np.square(np.concatenate(predictions) - np.concatenate(own), dtype=np.float64).mean()))


def _clean(predictions: list[np.ndarray], own: list[np.ndarray], count: int) -> tuple[float, tuple[float, float]]:
    """Relative error on the fresh utterances, and r_w and sd ratio on the case's, before any fault of the arrays."""
    from benchmarks.diagnosis.simulate import achieved

    y = np.concatenate(own[count:]).astype(np.float64)
    within = float(np.square(y - y.mean(0)).mean())
    return _rms(predictions[count:], own[count:]) ** 2 / within, achieved(predictions[:count], own[:count])


# --- which cases ----------------------------------------------------------------------------------------------------


def development_cases(seed: int = 0, scale: float = 1.0) -> list[Case]:
    """Cases on the development corpora."""
    return _thinned(_Builder("dev", seed).build(), seed, scale)


def report_cases(seed: int = 0, scale: float = 1.0) -> list[Case]:
    """Cases on the corpora that nothing is tuned on."""
    return _thinned(_Builder("report", seed).build(), seed, scale)


def _thinned(cases: list[Case], seed: int, scale: float) -> list[Case]:
    """A share of the cases of every group and fault, at least one of each; in their order."""
    if scale >= 1.0:
        return cases
    strata: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for number, case in enumerate(cases):
        strata.setdefault((case.group, case.faults), []).append(number)
    rng = np.random.default_rng([seed, 77])
    kept = [k for rows in strata.values() for k in rng.permutation(rows)[: max(1, round(scale * len(rows)))]]
    return [cases[k] for k in sorted(kept)]


class _Builder:
    """Draws the cases of one set of corpora."""

    def __init__(self, which: str, seed: int) -> None:
        names = corpora.available(which)
        self.which, self.seed = which, seed
        self.demo = next(name for name in names if name.startswith("demo"))
        self.real = [n for n in names if not n.startswith("demo") and n not in corpora.STRESS] or [self.demo]
        self.stress = [name for name in names if name in corpora.STRESS]
        self.rng = np.random.default_rng([seed, zlib.crc32(which.encode())])
        self.cases: list[Case] = []

    def build(self) -> list[Case]:
        """All of them."""
        self._healthy()
        for fault in INJECTORS:
            self._single(fault)
        for pair in PAIRS:
            for _ in range(2):
                self._add(
                    "pair", pair, severity=int(self.rng.integers(2, 5)), r=self._pick((0.7, 0.9, 0.98)), both=True
                )
        for name in unlisted.UNLISTED:
            for severity in (1, 2, 3, 4):
                self._add("unlisted", (name,), severity=severity, r=self._pick((0.7, 0.9, 0.98)))
        self._alarms()  # last, so that the others are the same with and without them
        return self.cases

    def _healthy(self) -> None:
        for r in QUALITIES:
            for kind in KINDS:
                for autoregressive in (False, True):
                    for size in (*SIZES, 16, 16):
                        self._add("healthy", r=r, kind=kind, autoregressive=autoregressive, size=size)
        for checkpoint in _CHECKPOINTS:
            for size in (1, 4, 16, 16):
                self._add("healthy", model=checkpoint, size=size, both=True)
        for r in (0.7, 0.98) * len(self.stress):
            for kind in KINDS:
                self._add("healthy", corpus=self.stress[0], r=r, kind=kind, size=4)

    def _alarms(self) -> None:
        for r in QUALITIES[1:]:
            for kind in KINDS:
                for autoregressive in (False, True):
                    for _ in range(_ALARMS[self.which]):
                        self._add("alarm", r=r, kind=kind, autoregressive=autoregressive)

    def _single(self, fault: str) -> None:
        injector = INJECTORS[fault]
        good = QUALITIES[1:]
        both = injector.with_audio
        for severity in (1, 2, 3, 4):
            start = int(self.rng.integers(4))
            for draw in range(3 if self.which == "report" else 2):
                self._add("single", (fault,), severity=severity, r=good[(start + draw) % 4], both=both)
            self._add("left-out", (fault,), severity=severity, r=self._pick(good[1:]), only="audio" if both else None)
        for size in (1, 4, 64):
            if size >= injector.least:
                self._add("single", (fault,), r=self._pick(good[1:]), size=size, both=both)
        self._add("single", (fault,), r=QUALITIES[0], both=both)
        for corpus in self.stress:
            self._add("single", (fault,), r=0.9, size=4, corpus=corpus, both=both)
        if injector.trained:
            for checkpoint in _CHECKPOINTS:
                self._add("single", (fault,), model=checkpoint, both=both)
        for checkpoint in {"untrained": ("step000",), "collapsed": ("collapsed",)}.get(fault, ()):
            for size in (1, 4, 16, 16):
                self._add("single", (fault,), model=checkpoint, size=size, severity=4)

    def _pick(self, values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def _add(
        self,
        group: str,
        faults: tuple[str, ...] = (),
        *,
        severity: int | None = None,
        r: float = 0.0,
        kind: str | None = None,
        autoregressive: bool | None = None,
        size: int = 16,
        model: str = "simulated",
        corpus: str | None = None,
        both: bool = False,
        only: str | None = None,
    ) -> None:
        """Enter a case; what is not given is drawn."""
        rng = self.rng
        listed = [INJECTORS[fault] for fault in faults if fault in INJECTORS]
        sides = set(listed[0].sides) if len(listed) == 1 else {"prediction"}
        side = "target" if "target" in sides and rng.random() < 0.35 else "prediction"
        kind = kind or str(self._pick(KINDS))
        chosen = bool(rng.random() < 0.5) if autoregressive is None else autoregressive
        for injector in listed:
            chosen = chosen if injector.autoregressive is None else injector.autoregressive
        if model != "simulated":
            kind, chosen = "mean", True
            r = {"step005": 0.78, "step030": 0.93, "step100": 0.947}.get(model, 0.0)
        if severity is None:
            severity = int(rng.integers(1, 5)) if faults else 0
        audio = rng.random() < 0.5
        evidence = (only,) if only else ("pairs", "audio") if both or audio else ("pairs",)
        if group == "left-out" and not only:
            evidence = ("audio",) if audio else ("pairs",)
        name = f"{self.which}/{group}/{'+'.join(faults) or 'none'}/{len(self.cases)}"
        home = self.demo if model != "simulated" else str(self._pick(self.real))
        self.cases.append(
            Case(
                name, group, corpus or home, size, model, r, kind, chosen, bool(rng.random() < 0.75), faults, severity,
                side, evidence, self.seed,
            )
        )  # fmt: skip
