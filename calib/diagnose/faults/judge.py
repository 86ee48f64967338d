"""Which of the explanations are said aloud, and how sure: fault by fault, with the evidence."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from calib.diagnose.faults.evidence import Finding
from calib.diagnose.faults.frozen import FROZEN, confidence
from calib.diagnose.faults.library import FAULTS
from calib.diagnose.faults.score import IMPOSSIBLE
from calib.diagnose.faults.texture import Spectrum, Texture
from calib.diagnose.faults.time import rate_ratios

if TYPE_CHECKING:
    from calib.diagnose.faults.explain import Candidate, Explanation

__all__ = ["findings", "graded"]


def findings(out: Explanation, best: Candidate, library: frozenset[str], autoregressive: bool | None, dead: np.ndarray) -> list[Finding]:
    """All findings, outermost stage first; `unknown` where something is left that none of them explains."""
    found: list[Finding] = []
    replaced = "sample-rate" in best.faults
    misfit = best.cost.misfit
    for step in out.steps:
        fault = step.faults[0]
        if replaced and fault == "time-stretch":
            continue
        found.append(Finding(fault, _names(fault, out.audio, library, lag=step.lag, autoregressive=autoregressive), 0.0, step.label, tuple(step.evidence), step.sure))  # fmt: skip
    detail = _texture_findings(out.texture, library, autoregressive, best.stats.n_frames)
    if dead.size and "dead-bins" in library and "sample-rate" not in best.faults:  # above the lower rate there is nothing
        text = f"{dead.size} bins hardly move: {', '.join(map(str, dead[:12]))}{' ...' if dead.size > 12 else ''}"
        found.append(Finding("dead-bins", ("dead-bins",), 0.0, "", (text,), 10.0))
    if out.unpaired is not None:
        found.append(Finding("wrong-pairs", _names("wrong-pairs", out.audio, library), 0.0, f"{out.unpaired[0]} utterances", (out.unpaired[1],), 10.0))  # fmt: skip
    margin = _margin(out, best)
    faults = best.faults
    drifts = any("time-stretch" in step.faults for step in out.steps)
    if drifts and "sample-rate" in library and rate_ratios(out.stretch) and set(faults) & {"mel-scale", "fmax", "fmin"}:
        # Time and bins both moved, by a ratio of sample rates: one cause.
        found = [f for f in found if f.fault != "time-stretch"]
        faults = ("sample-rate", *(f for f in faults if f not in {"mel-scale", "fmax", "fmin"}))
    for fault in faults:
        found.append(Finding(fault, _names(fault, out.audio, library), 0.0, best.label, tuple(_evidence(best, out)), margin))  # fmt: skip
    if any(f.fault == "oversmoothed-frequency" and "in a line" in f.evidence[0] for f in detail):
        # Interpolated bins are certain; what else bends the bins a little is their doing.
        found = [f for f in found if f.fault not in {"clipped", "raised-floor", "fmin", "fmax", "mel-scale"}]
    found += detail
    left = leftover(out, best, autoregressive, {f.fault for f in found}, library, dead)
    if left:
        kept = [f for f in found if FAULTS[f.fault].stage in {"arrays", "time"}]
        found = [*kept, Finding("unknown", ("unknown",), 0.0, "", tuple(left), float(len(left)))]
    return graded(found, misfit=misfit, r=best.stats.r, n_frames=best.stats.n_frames)


def graded(found: list[Finding], *, misfit: float, r: float, n_frames: int) -> list[Finding]:
    """Findings with their calibrated confidence."""
    return [
        dataclasses.replace(f, confidence=confidence(f.fault, f.margin, misfit, abs(r), n_frames, len(found))) for f in found
    ]


def _names(fault: str, audio: bool, library: frozenset[str], *, lag: float = 0.0, autoregressive: bool | None = False) -> tuple[str, ...]:  # fmt: skip
    """The fault and what this evidence cannot tell from it."""
    entry = FAULTS[fault]
    others = entry.confounded_with_audio if audio else entry.confounded
    if fault in {"shift", "half-hop"} and (autoregressive is False or not 0 < lag < 1.5):
        others = tuple(name for name in others if name != "copying")  # nothing to copy, or not from the past
    return (fault, *(name for name in others if name in library))


def _margin(out: Explanation, best: Candidate) -> float:
    """Nats between the best candidate and the best one that names another set of faults."""
    for other in out.ranked:
        if not set(other.faults) & set(best.faults) and other.faults != best.faults:
            return other.total - best.total
    return 50.0


def _evidence(best: Candidate, out: Explanation) -> list[str]:
    s = best.stats
    lines = [
        f"undone ({best.label}): mean {np.mean(best.terms.slope) * s.m_p + np.mean(best.terms.intercept):.3f} against the target's {s.m_y:.3f}, "
        f"within-bin sd {abs(float(np.mean(best.terms.slope))) * s.s_w_p:.3f} against {s.s_w_y:.3f}, r {s.r:.3f}"
    ]
    rival = next((c for c in out.ranked if c.faults != best.faults), None)
    if rival is not None:
        lines.append(f"next best: {', '.join(rival.faults) or 'no fault'} ({rival.label}), {rival.total - best.total:.1f} nats behind")  # fmt: skip
    as_is = next((c for c in out.ranked if not c.faults), None)
    if as_is is not None and as_is is not rival:
        lines.append(f"no fault: {as_is.total - best.total:.1f} nats behind")
    return lines


def _texture_findings(t: Texture | None, library: frozenset[str], autoregressive: bool | None, n_frames: int) -> list[Finding]:  # fmt: skip
    if t is None:
        return []
    found = []
    if autoregressive is not False and "copying" in library and t.copied > FROZEN.copied and t.copied > t.own and t.innovation < FROZEN.innovation:  # fmt: skip
        text = f"r {t.copied:.3f} with the previous true frame, {t.own:.3f} with its own; innovation r {t.innovation:.2f}"
        found.append(Finding("copying", _names("copying", False, library), 0.0, "", (text,), 10.0))
    for fault, spectrum, what in (("oversmoothed-time", t.time, "frames"), ("oversmoothed-frequency", t.frequency, "bins")):
        if fault in library and spectrum is not None and (text := _smoothed(spectrum, t.own, t.steps, n_frames, fault == "oversmoothed-time")):  # fmt: skip
            found.append(Finding(fault, (fault,), 0.0, "", (text.format(what=what),), 5.0))
    return found


def _smoothed(s: Spectrum, r: float, distinct: float, n_frames: int, in_time: bool) -> str | None:
    """Why a prediction is taken for smoothed, or None."""
    f = FROZEN
    few = n_frames < f.few_frames
    limit = (f.smooth_time if in_time else f.smooth_frequency) * (5.0 if few else 1.0)
    if s.held > f.smooth_held and distinct > f.steps:
        return f"{s.held:.0%} of the steps between {{what}} are exactly 0 or exactly in a line: held or interpolated"
    if s.removable - 1.5 * s.error > limit:
        return f"an inverse filter over {{what}} would remove {s.removable:.1%} of the squared error"
    if s.sampler and not few and min(s.power[1], s.power[2]) < f.smooth_power * s.power[0]:
        return f"a model with the target's variance, but {min(s.power[1], s.power[2]):.3f} of its power in detail over {{what}}"
    if not in_time and r > f.smooth_strong and s.power[2] < f.smooth_power_strong:
        return f"r {r:.2f}, but {s.power[2]:.3f} of the target's power in detail over {{what}}"
    return None


def leftover(
    out: Explanation, best: Candidate, autoregressive: bool | None, named: set[str], library: frozenset[str], dead: np.ndarray
) -> list[str]:
    """What a healthy model would not show and nothing that was named explains: one line for each axis."""
    f, c, t = FROZEN, best.cost, out.texture
    pattern = f.unknown_pattern + (12.0 if "oversmoothed-frequency" in named else 0.0)
    nats = (
        ("offset by bin", c.pattern, pattern),
        ("spread by bin", c.evenness, f.unknown_evenness),
        ("level or spread by utterance", c.utterances, f.unknown_utterances),
        ("spread", c.scale, f.unknown_scale),
        ("level", c.level, f.unknown_level),
    )
    lines = [f"{name} {value:.1f} nats > {limit:g}" for name, value, limit in nats if value > limit]
    if c.total >= IMPOSSIBLE / 2:
        lines.append(f"r {best.stats.r:.2f} with the target, and no map makes that positive")
    if t is None:
        return lines
    few = best.stats.n_frames < f.few_frames
    spectra = [s for s in (t.time, t.frequency) if s is not None]
    louder = max(1.0, (float(np.mean(np.abs(best.terms.slope))) * best.stats.s_w_p / best.stats.s_w_y) ** 2)
    loud = max(s.power[0] for s in spectra) / louder
    rough = max(s.rough for s in spectra) / louder
    checks = [
        ("power in detail, times the target's", rough, f.rough if autoregressive is False else f.rough_autoregressive),
        ("power in broad shape, times the target's", loud, f.loud + (0.5 if few else 0.0)),
        ("r with the target some frames back, more than with that ahead", t.echo, f.echo + (0.35 if few else 0.0)),
        ("share of bins that match another bin better", t.misplaced, f.misplaced + (0.4 if few else 0.0)),
        ("frames that the lag changes along an utterance", 0.0 if few else abs(out.drift), f.drift),
    ]
    bent = bool({*best.faults, *(x for step in out.steps for x in step.faults)} & _BENT)
    if not bent:
        checks.append(("variance that a curve explains beyond a line", t.curved, f.curved + (0.03 if few else 0.0)))
    lines += [f"{name} {value:.3g} > {limit:g}" for name, value, limit in checks if value > limit]
    if t.bin_drop < f.bin_drop and t.own > 0.3 and not few:
        lines.append(f"r of the worst eighth of the bins over that of the best {t.bin_drop:.2f} < {f.bin_drop:g}")
    if t.steps < f.steps:
        lines.append(f"few values: {t.steps:.2%} of the prediction's are distinct")
    # Axes that a fault of the library names when it is there.
    for fault, spectrum, what in (("oversmoothed-time", t.time, "frames"), ("oversmoothed-frequency", t.frequency, "bins")):
        if fault not in library and fault not in named and spectrum is not None and (text := _smoothed(spectrum, t.own, t.steps, best.stats.n_frames, fault == "oversmoothed-time")):  # fmt: skip
            lines.append(text.format(what=what))
    if dead.size and "dead-bins" not in named:
        lines.append(f"{dead.size} bins hardly move")
    if autoregressive is False and abs(out.lag) > f.lag and not few and t.own > 0.3:
        lines.append(f"the prediction is {out.lag:+.2f} frames late")
    return lines


# Faults that bend the curve or pile values up by themselves.
_BENT = {"raised-floor", "clipped", "power-floor", "log-missing", "range-normalised"}
