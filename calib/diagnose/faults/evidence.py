"""Findings: what is said of a fault, how sure, and what a person can check by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from calib.diagnose.faults.library import FAULTS, Fault

__all__ = ["UNKNOWN", "Finding"]

UNKNOWN = Fault(
    "unknown", "model", "off in a way that no fault of the library explains",
    "none of the known faults leaves a healthy prediction when it is undone",
    "look at what was measured, and at the worst utterances of the report",
    "calib report PAIRS",
    severity="warn",
)  # fmt: skip


_UNLISTED = "so for a cause that is not listed"


@dataclass(frozen=True)
class Finding:
    """One named fault, or ``unknown``.

    Args:
        fault: id.
        names: everything that the evidence cannot tell from it, itself first.
        confidence: calibrated share of right answers among answers like this one.
        detail: the particulars, for people.
        evidence: what was measured, a line each.
        margin: how far the next explanation lies behind, in nats (standard errors for arrays and time); of ``unknown``:
            the sum over its axes of ln how many times their limit they are.
    """

    fault: str
    names: tuple[str, ...]
    confidence: float
    detail: str = ""
    evidence: tuple[str, ...] = ()
    margin: float = 0.0

    @property
    def entry(self) -> Fault:
        """The row of the library."""
        return FAULTS.get(self.fault, UNKNOWN)

    @property
    def others(self) -> list[str]:
        """Titles of what the evidence cannot tell from it."""
        return [FAULTS[name].title if name in FAULTS else _UNLISTED for name in self.names[1:]]

    @property
    def sentence(self) -> str:
        """For people: what it is."""
        rest = f" (or {'; or '.join(self.others)}: this evidence cannot tell)" if self.others else ""
        return f"the prediction is {self.entry.title}{': ' + self.detail if self.detail else ''}{rest}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        entry = self.entry
        return {
            "fault": self.fault,
            "names": list(self.names),
            "confidence": self.confidence,
            "margin": self.margin,
            "title": entry.title,
            "stage": entry.stage,
            "severity": entry.severity,
            "detail": self.detail,
            "cause": entry.cause,
            "next_step": entry.next_step,
            "command": entry.command,
            "evidence": list(self.evidence),
        }
