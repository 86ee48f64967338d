"""Findings as people need them: the worst first, what to do about each, and which faults could not be looked for.

The terminal and the report are both made from this, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from calib.diagnose.diagnosis import Diagnosis
from calib.diagnose.faults.evidence import Finding
from calib.diagnose.faults.explain import Explanation
from calib.diagnose.faults.geometry import BankGeometry
from calib.diagnose.faults.library import FAULTS

__all__ = ["NEEDS", "next_steps", "own_step", "percent_sure", "untested", "which_of", "worst_first"]

_SEVERITIES = ("fail", "warn")
_ACT = 0.5  # confidence below which a finding's step is not given
# What a fault needs that pairs do not hold, in words that say how to give it.
NEEDS = {
    "audio": "needs the audio (--audio SOURCE)",
    "free-running": "needs free-running predictions (calib teacher-force SOURCE --free-running, judged with --vocoder-frontend), or the model (calib check model)",
    "model": "needs the model itself (calib check model SOURCE --model SPEC)",
    "vocoder": "needs the vocoder (calib check vocoder SOURCE --vocoder SPEC)",
}
_FRONT_END = ("area-norm", "pre-emphasis", "sample-rate")
_UTTERANCES = {"minmax-per-utterance": 2, "level-per-utterance": 4, "level-drift": 4}
_UNRELATED = "prediction and target are not related, so this cannot be compared"
_DETAIL = ("copying", "oversmoothed-time", "oversmoothed-frequency")


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """What breaks the sound before what harms it; else in the order in which the faults are undone."""
    return sorted(findings, key=lambda finding: _SEVERITIES.index(finding.entry.severity))


def own_step(finding: Finding, done: str = "") -> str:
    """What to do about one finding, with its command, unless that is ``done``: the command that says it."""
    entry = finding.entry
    send = entry.command and not (done and entry.command.startswith(done))
    return f"{entry.next_step}: {entry.command}" if send else entry.next_step


def next_steps(diagnosis: Diagnosis, done: str = "", first: Sequence[str] = ()) -> list[str]:
    """What to do: the one list that terminal, JSON, report and notebook show; the findings' steps first, none twice.

    A finding that is sooner wrong than right sends nobody to change anything.

    Args:
        diagnosis: the findings and the verdict.
        done: as in `own_step`.
        first: steps before the diagnosis's own: those of the legs.
    """
    steps = [own_step(finding, done) for finding in worst_first(diagnosis.faults) if finding.confidence >= _ACT]
    return list(dict.fromkeys([*first, *steps, *diagnosis.verdict.next_steps]))


def percent_sure(finding: Finding) -> str:
    """The confidence for people; only certainty is 100 %."""
    return f"{min(round(100 * finding.confidence), 99 if finding.confidence < 1 else 100)} %"


def which_of(finding: Finding) -> str:
    """What is skipped where the audio would shrink the set of faults that a finding names."""
    return f"which of {', '.join(finding.names)}"


def untested(
    out: Explanation, *, bank: BankGeometry | None, n_utterances: int, library: frozenset[str] | None = None
) -> dict[str, str]:
    """Which faults could not be looked for, or not be told apart, and why.

    Args:
        out: what the tests found.
        bank: where the target's mel bins lie, or None.
        n_utterances: how many utterances the tests looked at.
        library: ids of the faults that may be named; None: all.
    """
    allowed = frozenset(FAULTS) if library is None else library
    return {
        what: why for what, why, faults in _untested(out, bank, n_utterances) if allowed & set(faults)
    } | out.skipped


def _untested(
    out: Explanation, bank: BankGeometry | None, n_utterances: int
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """What, why, and the faults that it stands for."""
    for name, entry in FAULTS.items():
        if entry.needs in NEEDS:
            yield name, NEEDS[entry.needs], (name,)
    named = {name for finding in out.findings for name in finding.names}
    if not out.ranked:  # the tests ended where nothing was found to compare
        for stage in ("frequency", "units"):
            yield f"faults of {stage}", _UNRELATED, tuple(n for n, f in FAULTS.items() if f.stage == stage)
        yield ", ".join(_DETAIL), _UNRELATED, _DETAIL
    else:
        known = bank is not None and bank.declared
        for name in _FRONT_END:
            if not known and not out.audio and name not in named:
                yield name, "needs the front end of the targets (--frontend NAME)", (name,)
        for name, least in _UTTERANCES.items():
            if n_utterances < least and name not in named:
                yield name, f"needs {least} utterances", (name,)
    for finding in out.findings:
        apart = set(finding.names) - {finding.fault, "unknown"} - set(finding.entry.confounded_with_audio)
        if apart and not out.audio and finding.fault != "unknown" and "audio" not in out.skipped:
            yield which_of(finding), "named only as a set without audio (--audio SOURCE)", finding.names
