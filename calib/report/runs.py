"""A finished report (its JSON twin) as one run of a comparison, and whether runs may be compared at all.

Conventions:
    Everything comes from the twin; nothing is computed from mels again. A figure that a twin does not have is None, with
    the reason in its diagnosis's ``skipped``. *As it would be used* means after the run's own calibration where its
    verdict lets one be written, and as it is where it does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.errors import DataError
from calib.report.wording import clipped, number

__all__ = ["FIGURES", "Figure", "Run", "differences", "remarks"]

_SCHEMAS = ("calib/report/1", "calib/diagnosis/1")
_UNJUDGED = frozenset({"invalid", "insufficient"})
_SAME_TARGETS = 1e-6  # of the sd, where every utterance has as many frames in both
_TRIMMED_TARGETS = 0.02  # ... and where padding was cut off differently
_LARGEST = 1e100
_TRIMMED = 8  # frames that a crop or padding may take (the same as for a pair)


@dataclass(frozen=True)
class Figure:
    """One figure that is followed over runs.

    Args:
        key: name in the JSON.
        title: for people.
        unit: ``unit`` for the mel's, else "".
        better: ``less``, ``more``, ``one`` (the nearer to 1), or "" where neither way is better.
        interval: key of its 95 % interval in the diagnosis, or None.
        paired: key of the per-utterance figure that it is paired by, or None.
    """

    key: str
    title: str
    unit: str
    better: str
    interval: str | None = None
    paired: str | None = None


FIGURES = (
    Figure("mae_before", "mean absolute error, as it is", "unit", "less", paired="mae_before"),
    Figure("mae_after", "mean absolute error, after the run's own fit", "unit", "less", paired="mae_after"),
    Figure("mae_used", "mean absolute error, as it would be used", "unit", "less", paired="mae_used"),
    Figure("mae_constant", "mean absolute error of the best constant", "unit", ""),
    Figure("skill", "skill against the best constant, as it would be used", "", ""),
    Figure("r_w", "correlation within bin, r_w", "", "more", interval="r_w", paired="r_w"),
    Figure("s_w_ratio", "sd within bin, prediction over target, as it is", "", "one", interval="s_w_ratio"),
    Figure("gv_ratio", "global variance ratio, as it would be used", "", "one", paired="gv_distance"),
    Figure("removable_share", "share of the squared error that scale and offset remove", "", "", interval="removable_share"),
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One run.

    Args:
        label: its name on the page, one a run.
        twin: the JSON twin of its report, or of ``calib diagnose --json``.
        link: relative path of its own report, or None.
    """

    label: str
    twin: Mapping[str, Any]
    link: str | None = None

    @classmethod
    def of(cls, twin: Any, label: str, link: str | None = None) -> Run:
        """A run from parsed JSON.

        Raises:
            DataError: it is no report or diagnosis of this version, or lacks what one has.
        """
        schema = twin.get("schema") if isinstance(twin, Mapping) else None
        if schema not in _SCHEMAS:
            raise DataError(
                f"{clipped(label)}: schema is {schema!r}, a comparison reads {' and '.join(_SCHEMAS)}",
                hint="calib report PAIRS makes report.json",
            )
        whole = twin if schema == _SCHEMAS[0] else {"diagnosis": twin}
        run = cls(label, whole, link)
        try:
            run._check()
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise DataError(
                f"{clipped(label)}: not a whole report: {type(error).__name__}: {error}",
                hint="make it again with calib report PAIRS",
            ) from None
        return run

    def _check(self) -> None:
        """Read everything that a comparison reads, so that what is broken is found here and named."""
        self.summary_json()
        _ = self.frontend, [str(why) for why in self.skips.values()]
        _ = bool(self.diagnosis["sample_like"]), self.kind, {str(self.twin.get("hop_seconds"))}
        _ = {(float(self.diagnosis["mel_mean"]), float(self.diagnosis["mel_std"]))}
        names = list(self.utterances)
        if any(not isinstance(row["n_frames"], int) or row["n_frames"] < 1 for row in self.utterances.values()):
            raise ValueError("an utterance has no number of frames")
        if not self.judged:
            return
        for key in ("mae_before", "mae_after", "mae_used", "r_w", "gv_distance"):
            self.by_utterance(key, names)
        bins = [np.asarray(self.diagnosis["per_bin"][key], dtype=np.float64) for key in ("target_mean", "target_sd")]
        if any(values.shape != (self.diagnosis["n_mels"],) for values in bins):
            raise ValueError("the curves by bin have another number of bins")
        if not math.isfinite(float(self.diagnosis["summary"]["target_sd"])):
            raise ValueError("target_sd is not finite")

    @property
    def diagnosis(self) -> Mapping[str, Any]:
        """As ``calib diagnose --json`` prints it."""
        found: Mapping[str, Any] = self.twin["diagnosis"]
        return found

    @property
    def verdict(self) -> Mapping[str, Any]:
        """State, headline, sentence, whether parameters may be written."""
        found: Mapping[str, Any] = self.diagnosis["verdict"]
        return found

    @property
    def state(self) -> str:
        """Name of the state."""
        return str(self.verdict["state"])

    @property
    def status(self) -> str:
        """``pass``, ``warn`` or ``fail``."""
        return str(self.diagnosis["status"])

    @property
    def unit(self) -> str | None:
        """Of the mel, or None when unknown."""
        found = self.twin.get("unit")
        return None if found is None else str(found)

    @property
    def judged(self) -> bool:
        """Whether anything could be computed."""
        return bool(self.diagnosis["rows"]) and self.state not in _UNJUDGED

    @property
    def writes(self) -> bool:
        """Whether its verdict lets parameters be written: only then is it usable."""
        return bool(self.verdict["writes"])

    @property
    def kind(self) -> str | None:
        """As the model declares itself: ``mean``, ``sample``, or None."""
        found = self.diagnosis.get("kind")
        return None if found is None else str(found)

    @property
    def frontend(self) -> str | None:
        """Name of the front end, or None when unknown."""
        found = self._provenance("frontend")
        return None if found is None else str(found)

    def _provenance(self, key: str) -> Any:
        return (self.twin.get("provenance") or {}).get(key)

    @property
    def digest(self) -> str | None:
        """Of the pairs that were judged, or None."""
        found = self._provenance("source_digest")
        return None if not found else str(found)

    @property
    def version(self) -> str:
        """Of calib."""
        return str(self._provenance("version"))

    @property
    def faults(self) -> list[Mapping[str, Any]]:
        """Named faults."""
        return list(self.diagnosis["faults"])

    @property
    def skips(self) -> Mapping[str, str]:
        """What was skipped, and why."""
        return dict(self.diagnosis["skipped"])

    @property
    def utterances(self) -> dict[str, Mapping[str, Any]]:
        """The per-utterance table by id."""
        return {str(row["name"]): row for row in self.diagnosis["utterances"]}

    def _row(self, name: str) -> Mapping[str, Any] | None:
        return next((row for row in self.diagnosis["rows"] if row["name"] == name), None)

    def figures(self) -> dict[str, float | None]:
        """Every figure of `FIGURES`; None where the twin does not have it."""
        if not self.judged:
            return dict.fromkeys(figure.key for figure in FIGURES)
        method = str(self.diagnosis["method"])
        before, after = self._row("before"), self._row({"identity": "before"}.get(method, method))
        constants = [row["mae"] for name in ("global_mean", "bin_mean") if (row := self._row(name)) is not None]
        best = _number(min(constants)) if constants else None
        was, becomes = (None if row is None else _number(row["mae"]) for row in (before, after))
        used = becomes if self.writes else was
        variance = _number(self._global_variance().get("corpus"))
        summary = self.diagnosis["summary"]
        return {
            "mae_before": was,
            "mae_after": becomes,
            "mae_used": used,
            "mae_constant": best,
            "skill": None if used is None or not best else 1.0 - used / best,
            "r_w": _number(summary.get("r_w")),
            "s_w_ratio": _number(summary.get("s_w_ratio")),
            "gv_ratio": None if variance is None else math.exp(variance),
            "removable_share": _number(summary.get("removable_share")),
        }

    def interval(self, key: str) -> tuple[float, float] | None:
        """The 95 % interval of a figure, or None."""
        found = self.diagnosis["intervals"].get(key)
        low, high = (None, None) if found is None else (_number(found["low"]), _number(found["high"]))
        return None if low is None or high is None else (low, high)

    def by_utterance(self, key: str, names: Sequence[str]) -> np.ndarray:
        """A per-utterance figure for these ids, ``(U,)``; NaN where it is not there."""
        if key == "gv_distance":
            return self._gv_distances(names)
        key = {"mae_used": "mae_after" if self.writes else "mae_before"}.get(key, key)
        rows = self.utterances
        values = [_number(rows[name][key]) if name in rows else None for name in names]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    def _global_variance(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.diagnosis.get("global_variance", {}).get(
            "after" if self.writes else "before", {}
        )
        return found

    def _gv_distances(self, names: Sequence[str]) -> np.ndarray:
        """How far each utterance's global variance is from its target's, either way, in nats."""
        values, rows = list(self._global_variance().get("utterances", ())), list(self.utterances)
        if len(values) != len(rows):  # of a few utterances only: then it is that of all
            return np.full(len(names), np.nan)
        by_name = dict(zip(rows, values, strict=True))
        known = [_number(by_name.get(name)) for name in names]
        return np.array([np.nan if value is None else abs(value) for value in known])

    def summary_json(self) -> dict[str, Any]:
        """What the comparison's twin says of this run."""
        v = self.verdict
        return {
            "label": self.label,
            "title": None if self.twin.get("title") is None else str(self.twin["title"]),
            "report": self.link,
            "state": self.state,
            "headline": str(v["headline"]),
            "sentence": str(v["sentence"]),
            "status": self.status,
            "writes": self.writes,
            "unit": self.unit,
            "n_utterances": int(self.diagnosis["n_utterances"]),
            "n_frames": int(self.diagnosis["n_frames"]),
            "method": str(self.diagnosis["method"]),
            "figures": self.figures(),
            "intervals": {f.key: list(i) for f in FIGURES if f.interval and (i := self.interval(f.interval))},
            "null_limit": None if not self.diagnosis.get("null") else _number(self.diagnosis["null"]["limit"]),
            "faults": [
                {"fault": str(f["fault"]), "title": str(f["title"]), "severity": str(f["severity"]), "detail": str(f["detail"])}
                for f in self.faults
            ],
        }  # fmt: skip


def _number(value: Any) -> float | None:
    """A figure, or None: what is not finite, or so large that its square is not, is none."""
    return float(value) if isinstance(value, (int, float)) and abs(value) < _LARGEST else None


# --- whether they may be compared -----------------------------------------------------------------------------------


def differences(runs: Sequence[Run]) -> list[str]:
    """What forbids to compare: other units, bins, front ends, utterances or targets. Empty where nothing does.

    Runs that could not be judged are left aside.
    """
    judged = [run for run in runs if run.judged]
    out: list[str] = []
    if len(judged) < 2:
        return out
    first = judged[0]
    for run in judged[1:]:
        out += _settings(first, run)
        out += _targets(first, run)
    return list(dict.fromkeys(out))


def _settings(a: Run, b: Run) -> list[str]:
    pairs: list[tuple[str, Any, Any]] = [
        ("the unit", a.unit, b.unit),
        ("the number of mel bins", a.diagnosis["n_mels"], b.diagnosis["n_mels"]),
        ("the front end", a.frontend, b.frontend),
        ("the hop, in s,", a.twin.get("hop_seconds"), b.twin.get("hop_seconds")),
    ]
    return [
        f"{what} is {clipped(x, 60)} in {clipped(a.label, 60)} and {clipped(y, 60)} in {clipped(b.label, 60)}"
        for what, x, y in pairs
        if x is not None and y is not None and x != y
    ]


def _targets(a: Run, b: Run) -> list[str]:
    mine, theirs = a.utterances, b.utterances
    la, lb = clipped(a.label, 60), clipped(b.label, 60)
    if mine.keys() != theirs.keys():
        only_a, only_b = (
            [name for name in x if name not in y] for x, y in ((mine, theirs), (theirs, mine))
        )  # in the order of the table
        said = [
            f"{len(names):,} only in {label} ({clipped(names[0], 40)}{', …' if len(names) > 1 else ''})"
            for names, label in ((only_a, la), (only_b, lb))
            if names
        ]
        return [f"the utterances are not the same: {len(mine) - len(only_a):,} in both, {' and '.join(said)}"]
    frames = [(name, mine[name]["n_frames"], theirs[name]["n_frames"]) for name in mine]
    longer = [row for row in frames if abs(row[1] - row[2]) > _TRIMMED]
    if longer:
        name, x, y = longer[0]
        return [
            f"the lengths of {len(longer):,} utterance{'s' * (len(longer) != 1)} differ: {clipped(name, 40)} has {x:,} frames in {la} and {y:,} in {lb}"
        ]
    limit = _SAME_TARGETS if all(x == y for _, x, y in frames) else _TRIMMED_TARGETS
    return _levels(a, b, limit)


def _levels(a: Run, b: Run, limit: float) -> list[str]:
    if a.diagnosis["n_mels"] != b.diagnosis["n_mels"]:
        return []
    sd = float(a.diagnosis["summary"]["target_sd"]) or 1.0
    for key, what in (("target_mean", "means"), ("target_sd", "standard deviations")):
        x, y = (np.asarray(run.diagnosis["per_bin"][key], dtype=np.float64) for run in (a, b))
        off = float(np.abs(x - y).max(initial=0.0))
        if off > limit * sd:
            return [
                f"the targets are not the same: their {what} by bin differ by up to {number(off)} {a.unit or 'mel units'} between {clipped(a.label, 60)} and {clipped(b.label, 60)}"
            ]
    return []


def remarks(runs: Sequence[Run]) -> list[str]:
    """What differs and does not forbid to compare, but must be known."""
    out = []
    judged = [run for run in runs if run.judged]
    out += [f"{clipped(run.label, 60)} could not be judged ({clipped(run.verdict['sentence'])}) and is left aside" for run in runs if not run.judged]  # fmt: skip
    versions = {run.version for run in judged}
    if len(versions) > 1:
        out.append(f"the reports are of different versions of calib: {', '.join(sorted(versions))}")
    spaces = {(run.diagnosis["mel_mean"], run.diagnosis["mel_std"]) for run in judged}
    if len(spaces) > 1:
        out.append("the runs refer to different normalisation statistics: their scale_factor and offset are not comparable; errors and correlations are")  # fmt: skip
    if any(run.frontend is None for run in judged) and any(run.frontend is not None for run in judged):
        out.append("the front end of some runs is unknown: nothing but their targets shows that they are alike")
    digests: dict[str, str] = {}
    for run in judged:
        if run.digest is not None and run.digest in digests:
            out.append(
                f"{clipped(digests[run.digest], 60)} and {clipped(run.label, 60)} are the same pairs, to the byte"
            )
        elif run.digest is not None:
            digests[run.digest] = run.label
    return out
