"""The three legs as a picture and a table: target, prediction, and what the vocoder wants."""

from __future__ import annotations

from typing import Any

from calib.diagnose.causes import percent_sure, worst_first
from calib.diagnose.diagnosis import Diagnosis
from calib.diagnose.legs.result import LEGS, Leg, Legs
from calib.report import wording
from calib.report.headline import STATUS

__all__ = ["leg_picture"]

_SKIP = "skip"
# Ends of each line in the picture, and where its words stand: T on the left, P on the right, V below.
_LINES = {
    "P-T": (92, 44, 308, 44, 200, 34),
    "T-V": (76, 66, 172, 150, 100, 116),
    "P-V": (324, 66, 228, 150, 300, 116),
}


def leg_picture(d: Diagnosis, legs: Legs | None, why: str) -> dict[str, Any]:
    """What the template draws.

    Args:
        d: the diagnosis, which is the leg from prediction to target.
        legs: all legs, or None.
        why: why there are none.
    """
    rows = [_row(name, None if legs is None else legs.legs.get(name), d, why) for name in LEGS]
    by_name = {row["name"]: row for row in rows}
    lines = [
        {**by_name[name], "x1": x1, "y1": y1, "x2": x2, "y2": y2, "x": x, "y": y}
        for name, (x1, y1, x2, y2, x, y) in _LINES.items()
    ]
    said = "; ".join(f"{row['title']}: {row['judgement']}" for row in rows)
    wanted = "not given" if legs is None else str(legs.vocoder.get("name", "unknown"))
    return {
        "rows": rows,
        "lines": lines,
        "alt": f"Target, prediction and vocoder as corners of a triangle. {said}.",
        "vocoder": wanted,
        "headline": None if legs is None else legs.headline,
        "status": None if legs is None else legs.status,
        "chip": None if legs is None else STATUS[legs.status],
        "sentence": None if legs is None else legs.sentence,
        "steps": [] if legs is None else list(legs.next_steps),
        "origin": "" if legs is None else str(legs.vocoder.get("origin", "")),
        "differences": [] if legs is None else _differences(legs),
    }


def _row(name: str, leg: Leg | None, d: Diagnosis, why: str) -> dict[str, Any]:
    title = LEGS[name]
    if leg is not None and leg.status != "skipped":
        causes = [
            f"{finding.sentence.replace('the prediction is', 'it is', 1)} (confidence {percent_sure(finding)})"
            for finding in worst_first(leg.findings)
        ]
        return {
            "name": name, "title": title, "status": leg.status, "judgement": leg.judgement, "sentence": leg.sentence,
            "bias": leg.bias, "slope": leg.slope, "r_w": leg.r_w, "mae_db": leg.mae_db, "causes": causes, "skipped": None,
        }  # fmt: skip
    if leg is None and name == "P-T" and d.rows:  # the diagnosis itself, without what only the vocoder's dB can say
        s = d.summary
        ratio = s["s_w_ratio"]
        return {
            "name": name, "title": title, "status": d.status, "judgement": d.verdict.state, "sentence": d.verdict.sentence,
            "bias": s["prediction_mean"] - s["target_mean"], "slope": s["r_w"] / ratio if ratio > 0 else None, "r_w": s["r_w"],
            "mae_db": None, "causes": [], "skipped": None,
        }  # fmt: skip
    reason = why if leg is None else leg.skipped or leg.judgement
    if leg is None and name == "P-T":
        reason = d.verdict.sentence
    if leg is None and name == "F-T":
        reason = "needs free-running mels (calib teacher-force --free-running) and what the vocoder wants (--vocoder-frontend NAME)"
    return {"name": name, "title": title, "status": _SKIP, "judgement": "skipped", "sentence": "", "causes": [], "skipped": reason}  # fmt: skip


def _differences(legs: Legs) -> list[dict[str, str]]:
    """Fields in which the targets' front end differs from the vocoder's, where that is known."""
    known = legs.declared if legs.declared is not None and legs.declared.verified is not False else legs.identified
    if known is None:
        return []
    return [
        {"field": field, "target": wording.clipped(a, 60), "vocoder": wording.clipped(b, 60), "words": words, "effect": effect}
        for field, a, b, words, effect in known.differences
    ]  # fmt: skip
