"""All figures of a run: rows to one JSON object."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.diagnosis import metrics
from benchmarks.diagnosis.corpora import STRESS
from benchmarks.diagnosis.metrics import Row, by, share
from calib.diagnose.faults.library import FAULTS

__all__ = ["EVIDENCE", "headline", "summarise", "versions"]

EVIDENCE = ("pairs", "audio")


def versions() -> dict[str, str]:
    """What the figures depend on."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "scipy")},
        "calib": version("mel-calib"),
        "machine": platform.machine(),
    }


def headline(row: Row) -> bool:
    """Cells that the headline is made of: 16 utterances or more, r of .5 or more (or a trained model), ordinary speech."""
    return (
        row["group"] in {"single", "healthy"}
        and row["size"] >= 16
        and row["corpus"] not in STRESS
        and (row["model"] != "simulated" or row["r"] >= 0.5)
    )


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Figures of one set of corpora."""
    ordinary = [row for row in rows if row["corpus"] not in STRESS]
    main = [row for row in rows if headline(row)]
    single = [row for row in ordinary if row["group"] == "single"]
    healthy = [row for row in ordinary if row["group"] == "healthy"]
    many = [row for row in main if row["group"] == "healthy"] + [row for row in ordinary if row["group"] == "alarm"]

    def named(part: Sequence[Row]) -> dict[str, Any]:
        return share(metrics.found(row, row["truth"][0]) for row in part)

    def alarmed(part: Sequence[Row]) -> dict[str, Any]:
        return share(bool(row["findings"]) for row in part)

    return {
        "rows": len(rows),
        "cases": len({row["id"] for row in rows}),
        "cases_by_group": dict(Counter({row["id"]: row["group"] for row in rows}.values()).most_common()),
        "headline": {kind: metrics.f1([row for row in main if row["evidence"] == kind]) for kind in EVIDENCE},
        "confusion": {kind: metrics.confusion(row for row in main if row["evidence"] == kind) for kind in EVIDENCE},
        "named": {
            kind: {
                "r": by(_part(single, kind, size=16), _quality, named),
                "utterances": by(_good(single, kind), lambda row: row["size"], named),
                "severity": by(_part(main, kind, group="single"), lambda row: row["severity"], named),
                "kind": by(_part(main, kind, group="single"), lambda row: row["kind"], named),
                "autoregressive": by(_part(main, kind, group="single"), lambda row: row["autoregressive"], named),
                "declared": by(_part(main, kind, group="single"), lambda row: row["declared"], named),
                "side": by(_part(main, kind, group="single"), lambda row: row["side"], named),
                "model": by(_part(main, kind, group="single"), lambda row: row["model"], named),
                "corpus": by(_part(rows, kind, group="single", size=None), lambda row: row["corpus"], named),
                "fault_and_severity": by(
                    _part(main, kind, group="single"), lambda row: f"{row['truth'][0]} {row['severity']}", named
                ),
            }
            for kind in EVIDENCE
        },
        "false_alarms": {
            kind: {
                "all": alarmed(_part(healthy, kind)),
                "headline": alarmed(_part(main, kind, group="healthy")),
                "many": alarmed(_part(many, kind)),
                "many_r": by(_part(many, kind), _quality, alarmed),
                "many_said": dict(
                    Counter(f["fault"] for row in _part(many, kind) for f in row["findings"]).most_common()
                ),
                "r": by(_part(healthy, kind), _quality, alarmed),
                "kind": by(_part(healthy, kind), lambda row: row["kind"], alarmed),
                "autoregressive": by(_part(healthy, kind), lambda row: row["autoregressive"], alarmed),
                "utterances": by(_part(healthy, kind), lambda row: row["size"], alarmed),
                "model": by(_part(healthy, kind), lambda row: row["model"], alarmed),
                "said": dict(
                    Counter(f["fault"] for row in _part(healthy, kind) for f in row["findings"]).most_common()
                ),
                "narrow_band": alarmed(
                    [r for r in rows if r["corpus"] in STRESS and r["group"] == "healthy" and r["evidence"] == kind]
                ),
            }
            for kind in EVIDENCE
        },
        "states": by(healthy, _quality, lambda part: dict(Counter(row["state"] for row in part).most_common())),
        "nothing_there": metrics.nothing_there(ordinary),
        "fixable": metrics.fixable(ordinary),
        "pairs_of_faults": {kind: metrics.pairs_named(_part(ordinary, kind)) for kind in EVIDENCE},
        "left_out": {kind: metrics.unknowns(_part(ordinary, kind), "left-out") for kind in EVIDENCE},
        "unlisted": {kind: metrics.unknowns(_part(ordinary, kind), "unlisted") for kind in EVIDENCE},
        "confidence": {kind: metrics.expected_calibration_error(_part(ordinary, kind)) for kind in EVIDENCE},
        "calibrators": {
            f"{kind}, {against}": metrics.choice(_calibrated(ordinary, kind), against)
            for kind, against in (("mean", "target"), ("mean", "restored"), ("sample", "restored"))
        },
        "errors": dict(Counter(row["error"] for row in rows if "error" in row).most_common()),
        "seconds": {
            "diagnosis_median": float(np.median([row["seconds"] for row in rows])) if rows else None,
            "diagnosis_p95": float(np.quantile([row["seconds"] for row in rows], 0.95)) if rows else None,
            "making_median": float(np.median([row["seconds_made"] for row in rows])) if rows else None,
        },
    }


def _quality(row: Row) -> str:
    return str(row["r"]) if row["model"] == "simulated" else str(row["model"])


def _part(rows: Sequence[Row], evidence: str, *, group: str | None = None, size: int | None = None) -> list[Row]:
    return [
        row
        for row in rows
        if row["evidence"] == evidence and group in {None, row["group"]} and size in {None, row["size"]}
    ]


def _good(rows: Sequence[Row], evidence: str) -> list[Row]:
    """Simulated models of r .7 and more: what the cells of other sizes hold."""
    return [row for row in rows if row["evidence"] == evidence and row["model"] == "simulated" and row["r"] >= 0.7]


def _calibrated(rows: Sequence[Row], kind: str) -> list[Row]:
    """Rows in which a calibrator has something to do, or should do nothing: healthy models and faults of units."""
    return [
        row
        for row in rows
        if row["kind"] == kind
        and (row["group"] == "healthy" or (row["group"] == "single" and FAULTS[row["truth"][0]].stage == "units"))
    ]
