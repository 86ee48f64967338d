"""What `analyze` returns: a `Diagnosis`, with the rows, intervals and maps that it is made of.

Conventions:
    A *raw map* is ``target = slope * prediction + intercept``, in the units of the target. MAE and RMSE are in the unit
    of the target mel.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from calib.diagnose.faults.evidence import Finding
from calib.diagnose.nulls import NullDistribution, StructureProbe
from calib.diagnose.verdict import Verdict

__all__ = ["AffineMap", "Diagnosis", "Interval", "Row", "Utterance"]


@dataclass(frozen=True)
class AffineMap:
    """``target = slope * prediction + intercept``, in the units of the target."""

    slope: float
    intercept: float

    def __call__(self, mel: np.ndarray) -> np.ndarray:
        """Apply it."""
        return mel * self.slope + self.intercept

    def after(self, first: AffineMap) -> AffineMap:
        """This map after another: ``self(first(x))``."""
        return AffineMap(self.slope * first.slope, self.slope * first.intercept + self.intercept)


@dataclass(frozen=True)
class Interval:
    """A 95 % interval (percentiles of the bootstrap)."""

    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One predictor in the table.

    Args:
        name: key.
        title: for people.
        slope: raw map over all data, or None for constants by bin.
        intercept: raw map.
        scale_factor: the same map in the normalised space.
        offset: the same.
        mae: out of sample.
        rmse: out of sample.
        mae_in_sample: fitted and scored on the same frames, for comparison with published figures.
        rmse_in_sample: the same.
    """

    name: str
    title: str
    slope: float | None
    intercept: float | None
    scale_factor: float | None
    offset: float | None
    mae: float
    rmse: float
    mae_in_sample: float
    rmse_in_sample: float


@dataclass(frozen=True)
class Utterance:
    """One line of the per-utterance table; errors are out of sample."""

    name: str
    speaker: str | None
    n_frames: int
    mae_before: float
    mae_after: float
    mae_constant: float
    r_w: float


@dataclass
class Diagnosis:
    """Everything that was found out about a set of pairs.

    Args:
        verdict: state, reasons, next steps.
        n_utterances: utterances used.
        n_frames: valid frames used.
        n_mels: bins.
        mel_mean: statistics that the normalised space refers to.
        mel_std: the same.
        stats_origin: where those came from, for people.
        output_space: ``raw`` or ``normalized``: what the predictions were taken as.
        kind: ``mean``, ``sample`` or None, as declared.
        sample_like: whether scale was judged by moment matching.
        method: the predictor that is written: ``identity``, ``ols`` or ``moments``.
        calibration: its raw map from the prediction as stored to the target.
        summary: pooled and within-bin figures.
        intervals: 95 % intervals by name.
        rows: the table of predictors and constants.
        folds: how out of sample was made, for people.
        resampling: how the intervals were made, for people.
        null: distribution of r_w under no relation.
        probe: lags, flip, reshape.
        per_bin: curves, each ``(M,)``.
        histograms: edges and densities of T, P and calibrated P.
        density: joint counts of prediction and target.
        utterances: the per-utterance table.
        faults: what is wrong by name, outermost stage first; empty where nothing is.
        notes: what was noticed and not silently repaired (padding, crops, orphans).
        skipped: what could not be computed, and why.
    """

    verdict: Verdict
    n_utterances: int
    n_frames: int
    n_mels: int
    mel_mean: float
    mel_std: float
    stats_origin: str
    output_space: str = "raw"
    kind: str | None = None
    sample_like: bool = False
    method: str = "identity"
    calibration: AffineMap = field(default_factory=lambda: AffineMap(1.0, 0.0))
    summary: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    folds: str = ""
    resampling: str = ""
    null: NullDistribution | None = None
    probe: StructureProbe | None = None
    per_bin: dict[str, np.ndarray] = field(default_factory=dict)
    histograms: dict[str, np.ndarray] = field(default_factory=dict)
    density: dict[str, np.ndarray] = field(default_factory=dict)
    utterances: list[Utterance] = field(default_factory=list)
    faults: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def scale_factor(self) -> float:
        """Slope of the calibration in the normalised space."""
        return self.calibration.slope / self.mel_std

    @property
    def offset(self) -> float:
        """Intercept of the calibration in the normalised space."""
        return (self.calibration.intercept - self.mel_mean) / self.mel_std

    def row(self, name: str) -> Row:
        """The row of a predictor.

        Raises:
            KeyError: the table has no such row (nothing could be computed).
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    @property
    def after(self) -> Row:
        """The row of what is written (or of the regression, where nothing is)."""
        return self.row({"identity": "before"}.get(self.method, self.method))

    @property
    def best_constant(self) -> Row:
        """The constant with the smaller out-of-sample MAE."""
        return min((self.row("global_mean"), self.row("bin_mean")), key=lambda row: row.mae)

    def to_json(self) -> dict[str, Any]:
        """Plain values: what ``--json`` prints."""
        plain = {key: _plain(value) for key, value in self.__dict__.items() if key not in {"verdict", "null", "probe", "faults"}}
        plain["verdict"] = self.verdict.to_json()
        plain["null"] = None if self.null is None else asdict(self.null)
        plain["probe"] = None if self.probe is None else {**asdict(self.probe), "best_lag": self.probe.best_lag}
        plain["faults"] = [finding.to_json() for finding in self.faults]
        plain["scale_factor"], plain["offset"] = self.scale_factor, self.offset
        return {"schema": "calib/diagnosis/1", **plain}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (AffineMap, Interval, Row, Utterance)):
        return asdict(value)
    return value
