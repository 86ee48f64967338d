"""An audit of calibration parameters from their numbers alone: what they imply, and where they contradict.

Data flow::

    Numbers --readings--> [Reading] --check_numbers--> [Finding] --conclude--> Audit
    the stored file       --------------file.check_file--> [Finding] -^
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calib.diagnose.audit.checks import NO_SIGNAL, check_numbers
from calib.diagnose.audit.numbers import Finding, Numbers, Reading, choose, corr, r2, readings

__all__ = ["STATUSES", "Audit", "Finding", "Numbers", "Reading", "audit"]

STATUSES = ("fail", "warn", "pass", "skipped")


@dataclass(frozen=True)
class Audit:
    """The whole audit.

    Args:
        status: of the worst finding; ``warn`` where neither correlation nor error could be judged.
        headline: the verdict.
        r: implied (or stored) correlation, or None.
        readings: of scale and offset.
        findings: the worst first.
    """

    status: str
    headline: str
    r: float | None
    readings: list[Reading]
    findings: list[Finding]


def audit(n: Numbers, stored: Sequence[Finding] = ()) -> Audit:
    """Every check that the numbers allow; the others say what they need.

    Args:
        n: the numbers.
        stored: findings on the file that they come from (`calib.diagnose.audit.file.check_file`).
    """
    found = readings(n)
    chosen = choose(found)
    r = None if chosen is None or n.method in {"moments", "identity"} else chosen.r
    return _conclude([*stored, *check_numbers(n, found, chosen)], r, found)


def _conclude(findings: list[Finding], r: float | None, found: list[Reading]) -> Audit:
    """Order the findings, the worst first, and say the verdict."""
    ordered = sorted(findings, key=lambda finding: STATUSES.index(finding.status))
    by: dict[str, Finding] = {finding.name: finding for finding in ordered}
    failed = [finding for finding in ordered if finding.status == "fail"]
    warned = [finding for finding in ordered if finding.status == "warn"]
    judged = [k for k in ("implied_r", "stored_r", "constant") if k in by and by[k].status != "skipped"]
    made = sum(finding.status != "skipped" for finding in ordered)
    counted = f"{made} of {len(ordered)} checks could be made"
    if failed:
        return Audit("fail", _headline(by, failed, r), r, found, ordered)
    if not judged:
        text = f"NOT SHOWN TO WORK: neither correlation nor error can be judged from these numbers ({counted})"
        return Audit("warn", text, r, found, ordered)
    if warned:
        return Audit("warn", f"DOUBTFUL: {warned[0].title}: {warned[0].measured}", r, found, ordered)
    correlation = "" if r is None else f": r = {corr(r)}"
    return Audit(
        "pass", f"NOTHING SPEAKS AGAINST IT{correlation} ({counted}; numbers alone prove nothing)", r, found, ordered
    )


def _headline(by: dict[str, Finding], failed: list[Finding], r: float | None) -> str:
    names = {finding.name for finding in failed}
    parts: list[str] = []
    no_signal = r is not None and abs(r) < NO_SIGNAL and "implied_r" in names
    if "verdict" in names:
        head = "WRITTEN WITHOUT SIGNAL"
        parts.append(by["verdict"].measured)
    elif no_signal or "constant" in names:
        head = "THE CONSTANT PREDICTOR, NOT A CALIBRATION"
    elif any("impossible" in finding.measured for finding in failed):
        head = "IMPOSSIBLE NUMBERS"
        parts += [finding.measured for finding in failed if "impossible" in finding.measured][:1]
    elif "statistics_matching" in names:
        head = "STATISTICS MATCHING, NOT A CALIBRATION"
        parts.append(by["statistics_matching"].measured)
    else:
        head = "CONTRADICTORY"
        parts.append(f"{failed[0].title}: {failed[0].measured}")
    if no_signal and r is not None:
        parts.append(f"r = {corr(r)} (R² {r2(r * r)})")
    if "constant" in names:
        parts.append(by["constant"].measured.partition(";")[0])
    if "gain" in names:
        parts.append(by["gain"].measured)
    return f"{head}: {'; '.join(parts)}" if parts else head
