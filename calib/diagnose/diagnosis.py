"""What `analyze` returns: a `Diagnosis`, with the rows, intervals and maps that it is made of.

Conventions:
    A *raw map* is ``target = slope * prediction + intercept``, in the units of the target. MAE and RMSE are in the unit
    of the target mel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

from calib.diagnose.faults.evidence import Finding
from calib.diagnose.intervals import Interval
from calib.diagnose.metrics import GlobalVariance, MincerZarnowitz, Murphy, TaylorPoint
from calib.diagnose.nulls import NullDistribution, StructureProbe
from calib.diagnose.spectra import BandDistance, CrossSpectra
from calib.diagnose.verdict import Verdict

__all__ = [
    "AffineMap",
    "Calibration",
    "Constant",
    "Diagnosis",
    "FitScore",
    "FloorCut",
    "Interval",
    "ModulationSpectrum",
    "Row",
    "SelectionSummary",
    "Skill",
    "Utterance",
]


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
class Calibration(AffineMap):
    """A map with one slope and intercept for all bins, or one for each, clamped where the target is.

    Args:
        slope: of the best global map.
        intercept: of the best global map.
        bin_slope: ``(M,)``, used in place of the global ones where present.
        bin_intercept: ``(M,)``; both or neither.
        floor: least value of the result, in the target's unit, or None.
    """

    bin_slope: np.ndarray | None = field(default=None, compare=False)
    bin_intercept: np.ndarray | None = field(default=None, compare=False)
    floor: float | None = None

    def __call__(self, mel: np.ndarray) -> np.ndarray:
        """Apply it to ``(..., M)``."""
        by_bin = self.bin_slope is not None and self.bin_intercept is not None
        out = mel * self.bin_slope + self.bin_intercept if by_bin else super().__call__(mel)
        return np.asarray(out if self.floor is None else np.maximum(out, self.floor))

    @property
    def affine(self) -> bool:
        """Whether it is one slope and one intercept, and nothing else."""
        return self.bin_slope is None and self.floor is None

    @property
    def slopes(self) -> np.ndarray:
        """What the prediction is multiplied with: a number ``()``, or by bin ``(M,)``."""
        return np.asarray(self.slope if self.bin_slope is None else self.bin_slope)

    def after(self, first: AffineMap) -> Calibration:
        """This map after another: ``self(first(x))``."""
        whole = super().after(first)
        if self.bin_slope is None or self.bin_intercept is None:
            return Calibration(whole.slope, whole.intercept, floor=self.floor)
        return Calibration(
            whole.slope,
            whole.intercept,
            self.bin_slope * first.slope,
            self.bin_slope * first.intercept + self.bin_intercept,
            self.floor,
        )


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


@dataclass(frozen=True)
class FitScore:
    """One calibrator, and what it is worth on units that it has not seen.

    Args:
        name: key.
        title: for people.
        parameters: effective number of fitted values.
        slope: raw map from the prediction as stored; a number, ``(M,)`` by bin, or None for a curve or a matrix.
        intercept: the same.
        mse: mean squared error out of sample, unit squared.
        loss: what was compared: ``mse``, or for samplers a loss that does not reward shrinking.
        loss_se: standard error of the difference of the losses to the best fit's.
        variance_ratio: within-bin variance after the map over the target's; under 1 sounds muffled.
        writable: fits into a parameter file.
        note: what to know about it, or "".
    """

    name: str
    title: str
    parameters: float
    slope: float | np.ndarray | None
    intercept: float | np.ndarray | None
    mse: float
    loss: float
    loss_se: float
    variance_ratio: float
    writable: bool
    note: str


@dataclass(frozen=True)
class Constant:
    """A known map that the pairs are consistent with; it acts on the prediction as it is judged.

    Args:
        id: name of the map.
        meaning: completes "the prediction is ...".
        slope: exact.
        intercept: exact, or None where it was fitted to the means.
        slope_distance: ``|slope / estimate - 1|``.
        intercept_distance: from the intercept that meets the means, in sd of the target; None when fitted.
        source: where the numbers are from.
    """

    id: str
    meaning: str
    slope: float
    intercept: float | None
    slope_distance: float
    intercept_distance: float | None
    source: str


@dataclass(frozen=True)
class FloorCut:
    """Values clamped from below, which fits leave out because they bend the line.

    Args:
        prediction: least value of the prediction, in the target's unit, or None where it is not clamped.
        target: the same of the target.
        prediction_share: share of values on it.
        target_share: the same.
        clear_share: share of the values that the fits were made of.
    """

    prediction: float | None
    target: float | None
    prediction_share: float
    target_share: float
    clear_share: float


@dataclass(frozen=True)
class SelectionSummary:
    """How the calibration was chosen; the fits themselves are `Diagnosis.fits`.

    Args:
        chosen: name of the fit: the simplest that is good enough, of those a file can hold. What is written is
            `Diagnosis.method`: the identity all the same where the verdict is healthy.
        best: name of the fit with the least loss.
        beyond: curve or matrix that would gain more than 2 % and one standard error, or None.
        reason: the choice, in plain words.
        constants: known maps that the pairs are consistent with, nearest first.
        ambiguous: names of known maps that the pairs cannot tell apart; () where one stands alone.
        skipped: fits that were not made, and why.
        sample_like: which loss was compared.
        floor: where values are clamped from below, if fits were made of the values clear of that; else None.
    """

    chosen: str
    best: str
    beyond: str | None
    reason: str
    constants: tuple[Constant, ...]
    ambiguous: tuple[str, ...]
    skipped: dict[str, str]
    sample_like: bool
    floor: FloorCut | None = None


@dataclass(frozen=True)
class Skill:
    """``1 - MSE / MSE of the null``, out of sample: 1 perfect, 0 as good as the null, negative worse.

    Args:
        name: row of the null predictor.
        before: of the prediction as it is.
        after: after the calibration.
    """

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class ModulationSpectrum:
    """How fast prediction and target move: spectra along time, and their distance by band."""

    spectra: CrossSpectra
    bands: list[BandDistance]


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
        method: name of what is written: ``identity``, or of the fit chosen (``SelectionSummary.chosen``; with
            ``:above-floor`` where a regression leaves out clamped values). It is also its row, except for
            ``identity``, whose row is ``before``.
        calibration: its raw map from the prediction as stored to the target.
        summary: pooled and within-bin figures.
        intervals: 95 % intervals by name; what could not be computed is in ``skipped``.
        rows: the table of predictors and constants.
        folds: how out of sample was made, for people.
        resampling: how the intervals were made, for people.
        null: distribution of r_w under no relation.
        probe: lags, flip, reshape.
        per_bin: curves, each ``(M,)``.
        histograms: edges and densities of T, P and calibrated P.
        density: joint counts of prediction and target.
        utterances: the per-utterance table.
        selection: how the calibration was chosen.
        fits: every calibrator with its score, simplest first.
        murphy: decomposition of the MSE as it is: ``pooled``, ``bins``, ``within``.
        mincer_zarnowitz: regression of target on prediction, and the joint test of slope 1 and intercept 0.
        skills: against every null predictor and constant.
        taylor: ``pooled`` and ``within`` bins, as it is.
        concordance: Lin's coefficient, ``pooled`` and ``within`` bins, as it is.
        global_variance: log variance ratio ``before`` and ``after`` the calibration.
        variance_ratio: within-bin variance over the target's, ``before`` and ``after``; under 1 sounds muffled.
        modulation: spectra along time ``before`` and ``after``.
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
    calibration: Calibration = field(default_factory=lambda: Calibration(1.0, 0.0))
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
    selection: SelectionSummary | None = None
    fits: list[FitScore] = field(default_factory=list)
    murphy: dict[str, Murphy] = field(default_factory=dict)
    mincer_zarnowitz: MincerZarnowitz | None = None
    skills: list[Skill] = field(default_factory=list)
    taylor: dict[str, TaylorPoint] = field(default_factory=dict)
    concordance: dict[str, float] = field(default_factory=dict)
    global_variance: dict[str, GlobalVariance] = field(default_factory=dict)
    variance_ratio: dict[str, float] = field(default_factory=dict)
    modulation: dict[str, ModulationSpectrum] = field(default_factory=dict)
    faults: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """``pass``, ``warn`` or ``fail``: the verdict's, but a healthy level with a fault that breaks the sound fails."""
        broken = self.verdict.state == "healthy" and any(finding.entry.severity == "fail" for finding in self.faults)
        return "fail" if broken else self.verdict.status

    @property
    def scale_factor(self) -> float:
        """Slope of the best global calibration in the normalised space."""
        return self.calibration.slope / self.mel_std

    @property
    def offset(self) -> float:
        """Intercept of the best global calibration in the normalised space."""
        return (self.calibration.intercept - self.mel_mean) / self.mel_std

    @property
    def per_bin_params(self) -> dict[str, list[float]] | None:
        """Scale and offset of each bin in the normalised space, where the calibration is by bin."""
        c = self.calibration
        if c.bin_slope is None or c.bin_intercept is None:
            return None
        return {
            "scale": (c.bin_slope / self.mel_std).tolist(),
            "offset": ((c.bin_intercept - self.mel_mean) / self.mel_std).tolist(),
        }

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
        """The row of what is written (or would be, where nothing is)."""
        return self.row({"identity": "before"}.get(self.method, self.method))

    @property
    def best_constant(self) -> Row:
        """The constant with the smaller out-of-sample MAE."""
        return min((self.row("global_mean"), self.row("bin_mean")), key=lambda row: row.mae)

    def to_json(self, *, first: Sequence[str] = (), done: str = "") -> dict[str, Any]:
        """Plain values: what ``--json`` prints.

        Args:
            first: steps before the diagnosis's own, as in `next_steps`.
            done: the command that says it, which sends nobody to itself.
        """
        from calib.diagnose.causes import next_steps

        plain = {key: _plain(value) for key, value in self.__dict__.items() if key not in _OTHERWISE}
        plain["verdict"] = {**self.verdict.to_json(), "next_steps": next_steps(self, done, first)}
        if self.probe is not None:
            plain["probe"]["best_lag"] = self.probe.best_lag
        plain["faults"] = [finding.to_json() for finding in self.faults]
        plain["status"] = self.status
        plain["scale_factor"], plain["offset"] = self.scale_factor, self.offset
        plain["per_bin_params"] = self.per_bin_params
        return {"schema": "calib/diagnosis/1", **plain}

    def _repr_html_(self) -> str:
        """What Jupyter shows."""
        from calib.diagnose.notebook import fragment

        return fragment(self)


_OTHERWISE = frozenset({"verdict", "faults"})  # have a form of their own


def _plain(value: Any, *, undefined: bool = False) -> Any:
    """Plain values; where ``undefined`` ones may be (0 / 0 at a single frequency or in an utterance) NaN is null."""
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist(), undefined=undefined)
    if isinstance(value, float):
        return None if undefined and math.isnan(value) else value
    if isinstance(value, dict):
        return {str(key): _plain(item, undefined=undefined) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, undefined=undefined) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        undefined = undefined or isinstance(value, (CrossSpectra, GlobalVariance))
        return {f.name: _plain(getattr(value, f.name), undefined=undefined) for f in fields(value)}
    return value
