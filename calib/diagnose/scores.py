"""The second pass: errors of every predictor with the fits of the other folds, histograms, spectra, the utterance table.

Predictors are maps of the prediction (``before``, ``ols``, ..., the fit chosen), constants fitted on the training folds (``global_mean``,
``bin_mean``), or nulls that look at targets and know nothing of the prediction: ``utterance_mean`` (an oracle: the mean
of the very utterance), ``persistence`` (its previous frame), ``swapped`` (another utterance's target), ``time_shifted``
(its own, moved by half its length).
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from calib.diagnose.calibrators.calibration import Chosen
from calib.diagnose.calibrators.crossmoments import CrossMoments
from calib.diagnose.diagnosis import AffineMap, Calibration, Row, Utterance
from calib.diagnose.moments import Moments, Summary, UnitMoments, unit_moments
from calib.diagnose.reading import Reader
from calib.diagnose.spectra import Modulation

__all__ = ["CONSTANTS", "NULLS", "PREDICTORS", "TITLES", "SecondPass"]

_HISTOGRAM_BINS = 96
_DENSITY_BINS = 64

CONSTANTS = ("zero", "global_mean", "bin_mean")
PREDICTORS = ("before", "denormalise", "moments", "ols", *CONSTANTS)
NULLS = ("utterance_mean", "persistence", "swapped", "time_shifted")
TITLES = {
    "before": "as it is",
    "denormalise": "direct denormalisation",
    "moments": "statistics matching",
    "ols": "linear regression",
    "zero": "constant: zero",
    "global_mean": "constant: global mean",
    "bin_mean": "constant: per-bin mean",
    "utterance_mean": "oracle: the utterance's own per-bin mean",
    "persistence": "the previous true frame",
    "swapped": "another utterance's target",
    "time_shifted": "the target moved by half its length",
}


class Analysed(Protocol):
    """What the pass needs of the analysis."""

    reader: Reader
    baseline: AffineMap
    mean: float
    std: float
    moments: Moments
    summary: Summary
    fold_of: np.ndarray
    n_folds: int

    def predictors(self, weights: np.ndarray) -> tuple[dict[str, AffineMap], np.ndarray]:
        """Maps and the per-bin constant fitted on the weighted units."""
        ...


class SecondPass:
    """Errors of every predictor, in sample and with the other folds' fits; histograms; spectra; the utterance table.

    Args:
        analysis: what is known after the first pass.
        chosen: the fit chosen; it gets a row of its own where it is none of `PREDICTORS`.
        cross: filled with products between bins, where given.
    """

    def __init__(self, analysis: Analysed, chosen: Chosen, cross: CrossMoments | None) -> None:
        self.a = analysis
        self.cross = cross
        units = analysis.reader.units
        self.titles = dict(TITLES)
        self.predictors = list(PREDICTORS)
        self.rows_of: dict[int, list[int]] = {}  # utterance -> its units
        for row, unit in enumerate(units):
            self.rows_of.setdefault(unit.index, []).append(row)
        self.values = np.array([(u.stop - u.start) * analysis.reader.n_mels for u in units], dtype=np.float64)
        self.inside = analysis.predictors(np.ones(len(units)))
        self.outside = [
            analysis.predictors((analysis.fold_of != fold).astype(np.float64)) for fold in range(analysis.n_folds)
        ]
        if chosen.row not in PREDICTORS:
            self.titles[chosen.row] = chosen.title
            self.predictors.insert(PREDICTORS.index("ols") + 1, chosen.row)
            for (maps, _), own in zip((*self.outside, self.inside), chosen.maps, strict=True):
                maps[chosen.row] = own
        self.fit = self.inside[0][chosen.row]
        names = (*self.predictors, *NULLS)
        self.absolute = {(name, sample): np.zeros(len(units)) for name in names for sample in (False, True)}
        self.squared = {key: np.zeros(len(units)) for key in self.absolute}
        bins = analysis.moments.per_bin()
        self._means = bins["mean_p"], bins["mean_y"]
        self.modulation = Modulation()
        # One slope for all bins only scales the spectrum; slopes by bin mix the bins anew, and a clamp does anything.
        self.modulation_after = None if chosen.maps[-1].affine else Modulation()
        self._centre_after = chosen.centre
        self.clamps = chosen.maps[-1].floor is not None
        self._after: list[UnitMoments] = []
        s = analysis.summary
        self.low_p = self.low_y = math.inf
        self.high_p = self.high_y = -math.inf
        self._edges = _edges(float(s.m_y), float(s.s_y))
        self._edges_p = _edges(float(s.m_p), float(s.s_p))
        self._counts = {name: np.zeros(_HISTOGRAM_BINS) for name in ("target", "prediction", "calibrated", "unchanged")}
        self._before: np.ndarray | None = None  # the target of the utterance before this one
        self._joint = np.zeros((_DENSITY_BINS, _DENSITY_BINS))
        self._joint_edges = (
            _edges(float(s.m_p), float(s.s_p), _DENSITY_BINS, 4.0),
            _edges(float(s.m_y), float(s.s_y), _DENSITY_BINS, 4.0),
        )

    def run(self) -> None:
        """Read every utterance once more."""
        reader = self.a.reader
        last = next(reversed(self.rows_of))
        self._before = reader.arrays(last)[1] if len(self.rows_of) > 1 else None
        for index, own in self.rows_of.items():
            stored, y = reader.arrays(index)
            p = self.a.baseline(stored.astype(np.float64))
            self._look(p, y)
            self._move(p, y)
            nulls = self._nulls(y)
            for row in own:
                unit = reader.units[row]
                inside = slice(unit.start, unit.stop)
                self._score(row, p[inside], y[inside])
                if self.clamps:
                    self._after.append(unit_moments(self.fit(p[inside]), y[inside]))
                if self.cross is not None:
                    self.cross.add(p[inside], y[inside], int(self.a.fold_of[row]))
                for name, values in nulls.items():
                    error = values[inside] - y[inside] if len(values) > 1 else values - y[inside]
                    for sample in (False, True):
                        self.absolute[name, sample][row] = np.abs(error).sum(dtype=np.float64)
                        self.squared[name, sample][row] = np.vdot(error, error)
            self._before = y if self._before is not None else None

    def _move(self, p: np.ndarray, y: np.ndarray) -> None:
        mean_p, mean_y = self._means
        centred = y - mean_y
        self.modulation.add(p - mean_p, centred)
        if self.modulation_after is not None:
            self.modulation_after.add(self.fit(p) - self._centre_after, centred)

    def _nulls(self, y: np.ndarray) -> dict[str, np.ndarray]:
        """Predictions that know nothing of the model, ``(T, M)`` or ``(1, M)``."""
        first = self.inside[1][None].astype(y.dtype)  # nothing comes before the first frame
        out = {
            "utterance_mean": y.mean(axis=0, dtype=np.float64)[None],
            "persistence": np.concatenate([first, y[:-1]]),
            "time_shifted": np.roll(y, len(y) // 2, axis=0),
        }
        if self._before is not None:
            out["swapped"] = self._before[np.arange(len(y)) % len(self._before)]
        return out

    def _look(self, p: np.ndarray, y: np.ndarray) -> None:
        self.low_p, self.high_p = min(self.low_p, float(p.min())), max(self.high_p, float(p.max()))
        self.low_y, self.high_y = min(self.low_y, float(y.min())), max(self.high_y, float(y.max()))
        flat_p, flat_y = p.ravel(), y.ravel()
        self._counts["target"] += _count(flat_y, self._edges)
        self._counts["prediction"] += _count(flat_p, self._edges_p)
        self._counts["calibrated"] += _count(self.fit(p).ravel(), self._edges)
        self._counts["unchanged"] += _count(flat_p, self._edges)  # what "calibrated" is where nothing needs to be done
        keys_p, keys_y = _keys(flat_p, self._joint_edges[0]), _keys(flat_y, self._joint_edges[1])
        good = (keys_p >= 0) & (keys_y >= 0)
        self._joint += np.bincount(keys_p[good] * _DENSITY_BINS + keys_y[good], minlength=_DENSITY_BINS**2).reshape(
            _DENSITY_BINS, -1
        )

    def _score(self, row: int, p: np.ndarray, y: np.ndarray) -> None:
        for sample, (maps, bins) in ((True, self.inside), (False, self.outside[self.a.fold_of[row]])):
            for name in self.predictors:
                error = (bins if name == "bin_mean" else maps[name](p)) - y
                self.absolute[name, sample][row] = np.abs(error).sum()
                self.squared[name, sample][row] = np.vdot(error, error)

    def moments_after(self) -> Moments | None:
        """Moments of what the fit gives, where it clamps; None where they follow from those before it."""
        return Moments(self._after) if self.clamps else None

    def rows(self) -> list[Row]:
        """The whole table: maps, constants, nulls."""
        names = [name for name in (*self.predictors, *NULLS) if name != "swapped" or len(self.rows_of) > 1]
        return [self.row(name) for name in names]

    def row(self, name: str) -> Row:
        """One line of the table."""
        total = self.values.sum()
        mae, mae_in = (float(self.absolute[name, sample].sum() / total) for sample in (False, True))
        rmse, rmse_in = (float(np.sqrt(self.squared[name, sample].sum() / total)) for sample in (False, True))
        if name == "bin_mean" or name in NULLS:
            return Row(name, self.titles[name], None, None, None, None, mae, rmse, mae_in, rmse_in)
        own = self.inside[0][name]
        if isinstance(own, Calibration) and own.bin_slope is not None:  # no one slope says what it is
            return Row(name, self.titles[name], None, None, None, None, mae, rmse, mae_in, rmse_in)
        raw = own.after(self.a.baseline)
        return Row(
            name, self.titles[name], raw.slope, raw.intercept, raw.slope / self.a.std, (raw.intercept - self.a.mean) / self.a.std, mae, rmse, mae_in, rmse_in
        )  # fmt: skip

    def utterances(self, method: str) -> list[Utterance]:
        """The per-utterance table, in the order of the pairs."""
        reader = self.a.reader
        constant = min(("global_mean", "bin_mean"), key=lambda name: self.absolute[name, False].sum())
        out = []
        for index, rows in self.rows_of.items():
            n = self.values[rows].sum()
            before, after, const = (
                float(self.absolute[name, False][rows].sum() / n) for name in ("before", method, constant)
            )
            own = self.a.moments.subset(rows)
            out.append(
                Utterance(
                    reader.pairs.name(index),
                    reader.pairs.speaker(index),
                    reader.lengths[index],
                    before,
                    after,
                    const,
                    float(own.r_w),
                )
            )
        return out

    def histograms(self, *, identity: bool) -> dict[str, np.ndarray]:
        """Edges and densities (share a unit); ``identity``: the calibration leaves the prediction as it is."""
        out: dict[str, np.ndarray] = {"edges": self._edges, "edges_prediction": self._edges_p}
        shown = {name: self._counts[name] for name in ("target", "prediction")}
        shown["calibrated"] = self._counts["unchanged" if identity else "calibrated"]
        for name, counts in shown.items():
            edges = self._edges_p if name == "prediction" else self._edges
            out[name] = counts / max(counts.sum(), 1.0) / (edges[1] - edges[0])
        return out

    def joint(self) -> dict[str, np.ndarray]:
        """Joint counts ``[prediction, target]`` with their edges."""
        return {"edges_prediction": self._joint_edges[0], "edges_target": self._joint_edges[1], "counts": self._joint}


def _edges(mean: float, sd: float, bins: int = _HISTOGRAM_BINS, reach: float = 4.5) -> np.ndarray:
    half = reach * sd if sd > 0 else 1e-3 * max(1.0, abs(mean))
    return np.linspace(mean - half, mean + half, bins + 1)


def _keys(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin of each value, -1 outside."""
    keys = np.floor((values - edges[0]) / (edges[1] - edges[0]))
    return np.where((keys >= 0) & (keys < edges.size - 1), keys, -1).astype(np.intp)


def _count(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    keys = _keys(values, edges)
    return np.bincount(keys[keys >= 0], minlength=edges.size - 1).astype(np.float64)
