"""Which of the explanations are said aloud, and how sure: fault by fault, with the evidence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from calib.diagnose.faults.evidence import Finding
from calib.diagnose.faults.frozen import FROZEN, confidence
from calib.diagnose.faults.leftover import Case, copied, leftover, smoothings
from calib.diagnose.faults.leveldrift import drift_label
from calib.diagnose.faults.library import FAULTS
from calib.diagnose.faults.odds import less_likely
from calib.diagnose.faults.time import rate_ratios

if TYPE_CHECKING:
    from calib.diagnose.faults.candidates import Candidate
    from calib.diagnose.faults.explain import Explanation

__all__ = ["findings", "graded"]

_BANKS = {"mel-scale", "fmax", "fmin"}
_LISTED = 12  # dead bins that are named
_CERTAIN = 10.0  # margin of what cannot be chance
_WHOLE = 0.28  # frames from a whole one, at most
_SMOOTH = 5.0  # margin of smoothing
_BLURRED = 15.0  # nats of offsets by bin that a blur over bins makes
_ALONE = 50.0  # nats, where nothing else was near


def findings(
    out: Explanation, best: Candidate, library: frozenset[str], autoregressive: bool | None, dead: np.ndarray
) -> list[Finding]:
    """All findings, outermost stage first; `unknown` where something is left that none of them explains.

    Args:
        out: what the stages found.
        best: the best candidate of units and frequency.
        library: faults that may be named.
        autoregressive: as declared.
        dead: indices of bins of the prediction that hardly move.
    """
    case = Case(out, best, library, autoregressive, dead)
    found = [*_of_steps(case), *_of_parts(case)]
    faults = best.faults
    drifts = any("time-stretch" in step.faults for step in out.steps)
    if drifts and "sample-rate" in library and rate_ratios(out.stretch) and set(faults) & _BANKS:
        # Time and bins both moved, by a ratio of sample rates: one cause.
        found = [finding for finding in found if finding.fault != "time-stretch"]
        faults = ("sample-rate", *(fault for fault in faults if fault not in _BANKS))
    if "power-floor" in faults and out.audio and _idle(out, best):
        # A clamp that nothing reaches is not seen: what is seen is the power.
        seen = "log-power" if "log-power" in library else "unknown"
        faults = tuple(seen if fault == "power-floor" else fault for fault in faults)
    evidence, margin = tuple(_evidence(best, out)), _margin(out, best)
    found += [Finding(fault, _names(case, fault), 0.0, best.label, evidence, margin) for fault in faults]
    detail = list(_of_texture(case))
    blur = next((finding for finding in detail if finding.fault == "oversmoothed-frequency"), None)
    if blur is not None:
        # What else bends the bins a little is its doing: their means, and where they are interpolated (which is certain)
        # more than that.
        bent = {"clipped", "raised-floor", *_BANKS} if "in a line" in blur.evidence[0] else set()
        certain = "the target's variance" not in blur.evidence[0]  # which another bank takes from a sampler as well
        bent |= {"equaliser"} if certain and _better_than_none(out, best) < _BLURRED else set()
        found = [finding for finding in found if finding.fault not in bent]
    found += detail
    left = leftover(case, {finding.fault for finding in found})
    if out.parts and len(found) == len(out.parts) and not left:
        rest = out.parts[0].of - sum(len(part.rows) for part in out.parts)
        text = f"nothing is wrong with the other {rest}"
        found = [dataclasses.replace(finding, evidence=(*finding.evidence, text)) for finding in found]
    said = _graded_by(best, found)
    if left:
        # A shift does not explain a lag that changes.
        outer = {"arrays"} if abs(out.drift) > FROZEN.drift else {"arrays", "time"}
        apart = {part.fault for part in out.parts}
        kept = [finding for finding in found if FAULTS[finding.fault].stage in outer or finding.fault in apart]
        texts, excess = tuple(line.text for line in left), sum(line.excess for line in left)
        doubted = _graded_by(best, [*kept, Finding("unknown", ("unknown",), 0.0, "", texts, excess)])
        share = doubted[-1].confidence
        if share >= FROZEN.worth or any(share >= finding.confidence for finding in said):
            return doubted
    return said


def graded(found: list[Finding], *, misfit: float, r: float, n_frames: int) -> list[Finding]:
    """Findings with their calibrated confidence."""
    sure = (
        confidence(finding.margin, misfit, abs(r), n_frames, len(found), unknown=finding.fault == "unknown")
        for finding in found
    )
    return [dataclasses.replace(finding, confidence=share) for finding, share in zip(found, sure, strict=True)]


def _graded_by(best: Candidate, found: list[Finding]) -> list[Finding]:
    return graded(found, misfit=best.cost.misfit, r=best.stats.r, n_frames=best.stats.n_frames)


def _of_steps(case: Case) -> Iterator[Finding]:
    """Arrays and time."""
    for step in case.out.steps:
        fault = step.faults[0]
        if fault != "time-stretch" or "sample-rate" not in case.best.faults:  # which explains the drift
            label = step.label
            if fault == "level-drift" and case.out.level_drift is not None:  # its size is known with the units
                slope = float(np.mean(case.best.terms.slope))
                label = drift_label(case.out.level_drift, slope, case.out.unit, case.out.frame_seconds)
            yield Finding(fault, _names(case, fault, step.lag), 0.0, label, tuple(step.evidence), step.sure)


def _of_parts(case: Case) -> Iterator[Finding]:
    """What concerns some bins or some utterances only."""
    dead = case.dead
    # Above the lower of two sample rates there is nothing; without the logarithm what is quiet hardly moves.
    if dead.size and "dead-bins" in case.library and not {"sample-rate", "log-missing"} & set(case.best.faults):
        listed = ", ".join(map(str, dead[:_LISTED])) + (" ..." if dead.size > _LISTED else "")
        yield Finding("dead-bins", ("dead-bins",), 0.0, "", (f"{dead.size} bins hardly move: {listed}",), _CERTAIN)
    for part in case.out.parts:
        if part.fault in case.library:
            names = (part.fault,) if part.certain else _names(case, part.fault)
            yield Finding(part.fault, names, 0.0, part.label, (part.text, f"they are: {part.ids}"), _CERTAIN)


def _of_texture(case: Case) -> Iterator[Finding]:
    """Copies and smoothing."""
    if "copying" in case.library and (text := copied(case)):
        lag = case.out.lag  # of a copy: one whole frame, as of a shift
        near = {"shift"} if round(lag) and abs(lag - round(lag)) < _WHOLE else {"shift", "half-hop"}
        others = (name for name in FAULTS["copying"].confounded if name in case.library & near)
        yield Finding("copying", ("copying", *others), 0.0, "", (text,), _CERTAIN)
    for fault, text in smoothings(case):
        if fault in case.library:
            yield Finding(fault, (fault,), 0.0, "", (text,), _SMOOTH)


def _names(case: Case, fault: str, lag: float = 0.0) -> tuple[str, ...]:
    """The fault and what this evidence cannot tell from it."""
    if fault == "unknown":
        return (fault,)
    entry = FAULTS[fault]
    others = entry.confounded_with_audio if case.out.audio else entry.confounded
    if entry.catch_all and case.best.terms.free > 0.0:
        others = (*others, "unknown")
    if fault in {"shift", "half-hop"} and (case.autoregressive is False or not 0 < lag < 1.5):
        others = tuple(name for name in others if name != "copying")  # nothing to copy, or not from the past
    return (fault, *(name for name in others if name in case.library or name == "unknown"))


def _idle(out: Explanation, best: Candidate) -> bool:
    """Whether hardly anything stands at a lowest value: of prediction, target, and target under the best form."""
    shares = [out.piles[0], out.floored, *([] if best.form.sample is None else [best.form.sample.floored])]
    return max(shares) < FROZEN.pile


def _margin(out: Explanation, best: Candidate) -> float:
    """Nats between the best candidate and the best one that names another set of faults."""
    for other in out.ranked:
        if not set(other.faults) & set(best.faults) and other.faults != best.faults:
            return other.total - best.total
    return _ALONE


def _better_than_none(out: Explanation, best: Candidate) -> float:
    """Nats by which the best candidate is better than no fault."""
    as_is = next((candidate for candidate in out.ranked if not candidate.faults), None)
    return math.inf if as_is is None else as_is.total - best.total


def _evidence(best: Candidate, out: Explanation) -> Iterator[str]:
    """What a person can check, and how far the next explanations lie behind."""
    s = best.stats
    slope, intercept = float(np.mean(best.terms.slope)), float(np.mean(best.terms.intercept))
    mean = f"mean {slope * s.m_p + intercept:.3f} against the target's {s.m_y:.3f}"
    spread = f"within-bin sd {abs(slope) * s.s_w_p:.3f} against {s.s_w_y:.3f}"
    yield f"undone ({best.label}): {mean}, {spread}, r {s.r:.3f}"
    rival = next((c for c in out.ranked if c.faults != best.faults), None)
    if rival is not None:
        what = ", ".join(rival.faults) or "no fault"
        yield f"next best: {what} ({rival.label}), {less_likely(rival.total - best.total)}"
    as_is = next((c for c in out.ranked if not c.faults), None)
    if as_is is not None and as_is is not rival:
        yield f"no fault: {less_likely(as_is.total - best.total)}"
