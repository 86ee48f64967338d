"""The first screen in words: outcome, bars, how many faults were looked for, and every finding with its threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calib.diagnose.analysis import Diagnosis
from calib.diagnose.causes import next_steps, percent_sure, which_of, worst_first
from calib.diagnose.faults.evidence import Finding
from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.library import FAULTS
from calib.diagnose.faults.odds import less_likely
from calib.diagnose.verdict import Check
from calib.report import wording
from calib.report.inputs import ReportInput

__all__ = ["STATUS", "bar_rows", "bars", "counts", "findings", "outcome", "rules", "skips", "threshold"]

STATUS = {"pass": "Pass", "warn": "Warning", "fail": "Fail"}
_WORST = ("fail", "warn", "pass")
_IDENTITY = (
    "The exact identity was written: nothing needed repair.",
    "The exact identity was written: level and scale need no repair. The findings below do.",
)
# Faults that are named from a limit of their own; all others win against every other explanation of the same pairs.
_LIMITS = {
    "collapsed": f"within-bin sd < {FROZEN.collapsed_ratio:g} times the target's, and r no more than unrelated utterances reach",
    "dead-bins": f"sd of a bin < {FROZEN.dead_spread:g} times the other bins', both over the target's, and r < half of theirs",
    "wrong-pairs": f"r of an utterance < {FROZEN.unpaired_r:g} times that of the good ones, in ≥ {FROZEN.unpaired_share:g} of the utterances",
    "copying": f"correlation with the previous true frame ≥ {FROZEN.copied:g}, and slope on what is new in a frame < {FROZEN.innovation:g}",
    "oversmoothed-time": f"power in the middle of the modulation is < {FROZEN.fall_time:g} times that in slow modulation (each over the target's), or an inverse filter over frames removes ≥ {FROZEN.smooth_time:g} of the squared error, or the power in detail is < {FROZEN.smooth_power:g} times the target's, or ≥ {FROZEN.smooth_held:g} of the steps are held or in a line",
    "oversmoothed-frequency": f"power in fine detail is < {FROZEN.fall_frequency:g} times that in middling detail (each over the target's), or the latter < {FROZEN.fall_broad:g} times that in broad shape, or the power in fine detail is < {FROZEN.smooth_power_strong:g} times the target's, or ≥ {FROZEN.smooth_held:g} of the steps are held or in a line",
    "unknown": "what is measured lies beyond every healthy model, and no fault of the library explains it",
}
_UNRELATED = ("text-ignored", "untrained")


def outcome(data: ReportInput) -> dict[str, str]:
    """What became of the parameter file: one short line and one that explains it."""
    v = data.diagnosis.verdict
    if data.written is not None and v.refusal:
        return {
            "line": "A parameter file was written by force, against this verdict.",
            "more": v.refusal[:1].upper() + v.refusal[1:] + ".",
        }
    if v.refusal:
        return {"line": "Nothing was repaired. No parameter file was written.", "more": ""}
    if data.written is not None:
        identity = data.diagnosis.method == "identity"
        return {
            "line": _IDENTITY[bool(data.diagnosis.faults)] if identity else "A parameter file was written.",
            "more": "",
        }
    return {
        "line": "No parameter file was written by this report.",
        "more": "This verdict allows one: calib fit-scaler PAIRS.",
    }


def bar_rows(d: Diagnosis) -> list[tuple[str, float, str]]:
    """Title, error and kind (``p`` prediction, ``c`` calibrated, ``k`` constant) of each bar."""
    rows = [("as it is", d.row("before").mae, "p")]
    if d.method != "identity":
        title = wording.fit_title(d.after) + ("" if d.verdict.writes else ", refused")
        rows.append((title, d.after.mae, "c"))
    return rows + [(row.title, row.mae, "k") for row in d.rows if row.name in wording.CONSTANTS]


def bars(rows: Sequence[tuple[str, float, str]]) -> list[dict[str, Any]]:
    """Bars to one scale; ``mark`` is where the best constant (kind ``k``) ends, in per cent of the width."""
    top = max((value for _, value, _ in rows if np.isfinite(value)), default=0.0) or 1.0
    best = min((value for _, value, kind in rows if kind == "k"), default=0.0)
    return [
        {
            "title": title,
            "value": value,
            "kind": kind,
            "width": f"{100 * value / top if np.isfinite(value) else 0:.2f}",
            "mark": f"{100 * best / top:.2f}",
        }
        for title, value, kind in rows
    ]


def counts(d: Diagnosis) -> list[tuple[str, str]]:
    """How many faults of the library were found, were looked for and not found, and could not be looked for: (kind, words)."""
    found = {severity: sum(f.entry.severity == severity for f in d.faults) for severity in ("fail", "warn")}
    skipped = _not_looked_for(d) if d.rows else set(FAULTS)
    named = {name for finding in d.faults for name in finding.names}
    cleared = set(FAULTS) - skipped - named
    return [
        (
            "fail",
            f"{found['fail']} fault{'' if found['fail'] == 1 else 's'} that break{'s' if found['fail'] == 1 else ''} the sound",
        ),
        ("warn", f"{found['warn']} that harm{'s' if found['warn'] == 1 else ''} it"),
        ("pass", f"{len(cleared)} looked for, not found"),
        ("skip", f"{len(skipped - named)} not looked for"),
    ]


def _not_looked_for(d: Diagnosis) -> set[str]:
    """Ids of faults whose test was skipped."""
    out: set[str] = set()
    for what in d.skipped:
        if what.startswith("faults of "):
            out |= {fault.id for fault in FAULTS.values() if fault.stage == what.removeprefix("faults of ")}
        out |= {name for name in what.split(", ") if name in FAULTS}
    return out


def findings(d: Diagnosis, first: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The verdict by its rules and every fault, worst first; each with what was measured, the threshold, why, what next.

    Args:
        d: the diagnosis.
        first: steps before its own, as in `next_steps`: the verdict lists all of them, as terminal and JSON do.
    """
    items = [_verdict(d, first)] if d.verdict.checks or d.verdict.next_steps else []
    items += [_fault(finding, d) for finding in worst_first(d.faults)]
    return sorted(items, key=lambda item: _WORST.index(item["status"]))


def _verdict(d: Diagnosis, first: Sequence[str]) -> dict[str, Any]:
    v = d.verdict
    decided = [check for check, own in rules(v.checks) if own]
    meanings = [check.meaning if check.holds else f"not: {check.meaning}" for check in decided if check.meaning]
    return {
        "status": v.status,
        "chip": STATUS[v.status],
        "title": v.headline,
        "about": f"verdict: {v.state}",
        "evidence": [f"{check.name}: {wording.unitless(check.value)}" for check in decided] or [v.sentence],
        "threshold": [
            f"{check.name} {wording.rule(check)}: {'holds' if check.holds else 'does not hold'}" for check in decided
        ],
        "cause": "; ".join(dict.fromkeys(meanings)) or v.sentence,
        "steps": next_steps(d, first=first),
        "command": "",
        "others": [],
        "apart": None,
    }


def _fault(finding: Finding, d: Diagnosis) -> dict[str, Any]:
    entry = finding.entry
    sentence = f"{entry.title}: {finding.detail}" if finding.detail else entry.title
    return {
        "status": entry.severity,
        "chip": STATUS[entry.severity],
        "title": f"The prediction is {sentence}",
        "about": f"confidence {percent_sure(finding)}",
        "evidence": list(finding.evidence),
        "threshold": [threshold(finding)],
        "cause": entry.cause,
        "steps": [entry.next_step],
        "command": entry.command,
        "others": finding.others,
        "apart": d.skipped.get(which_of(finding)),
    }


def threshold(finding: Finding) -> str:
    """From where on a fault is named, generated from the numbers that the code compares with."""
    if finding.fault in _LIMITS:
        return _LIMITS[finding.fault]
    if finding.fault in _UNRELATED:
        return "r within utterance and bin no more than unrelated utterances reach"
    rule = "named where it explains these pairs better than every other fault of the library"
    if finding.entry.stage in {"arrays", "time"}:
        return f"{rule} (> 0 standard errors ahead): {finding.margin:.1f} standard errors ahead of the next"
    return f"{rule}: the next explanation is {less_likely(finding.margin)}"


def skips(skipped: Mapping[str, str]) -> list[tuple[str, str]]:
    """What was skipped, together where the reason is the same."""
    by_reason: dict[str, list[str]] = {}
    for what, reason in skipped.items():
        by_reason.setdefault(reason, []).append(what)
    return [(", ".join(what), reason) for reason, what in by_reason.items()]


def rules(checks: Sequence[Check]) -> list[tuple[Check, bool]]:
    """The rules without repetition, and whether each is one of those that decided: the last ones that hold together."""
    kept = list(dict.fromkeys(reversed(checks)))[::-1]
    start = len(kept)
    while start and kept[start - 1].holds:
        start -= 1
    if start == len(kept):  # the last one failed, and that decided
        start -= 1
    return [(check, row >= start) for row, check in enumerate(kept)]
