"""Every calibrator on the pairs, and the one that is written.

Data flow::

    sample of frames --find_floors--> clamped values? --yes--> sums of those clear of them (one more reading)
                                                |no                         |
                                             Moments ------------------> select --> Chosen: its map without each fold
    products between bins, from the second pass ----------------------> select again, now with the matrix

The matrix is never chosen, so the second selection only says more: whether another filterbank is behind the error.

Values clear of the floors show the true line; what it gives is then clamped where the target is. Where that does worse
on *all* values than a fit on all of them, the latter is taken: in bins that lie mostly on the floor hardly a value is
clear of it, which is no basis for a map of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calib.diagnose.calibrators.crossmoments import CrossMoments
from calib.diagnose.calibrators.fits import GroupedSums
from calib.diagnose.calibrators.floors import Floors, above_floor_moments, find_floors
from calib.diagnose.calibrators.selection import Fit, Selection, select
from calib.diagnose.diagnosis import AffineMap, Calibration, Constant, FitScore, FloorCut, SelectionSummary
from calib.diagnose.moments import Moments
from calib.diagnose.reading import Reader

__all__ = ["Calibrators", "Chosen"]

_LEAST_CLEAR = 0.1  # share of the values; fewer are no basis for a fit
_NO_WORSE = 0.01  # of the squared error: a fit above the floor may cost that much on all values
_BENT = 0.01  # of the slope: a smaller change is not worth a note
_MATRIX_BINS = 160  # products of each bin with each cost M times as much as everything else
_REGRESSIONS = frozenset({"ols", "moments"})


@dataclass(frozen=True)
class Chosen:
    """The fit that is written, unless the verdict says otherwise.

    Args:
        name: of the method.
        title: for people.
        maps: acting on the prediction as it is judged; fitted without each fold, the last on everything.
        centre: ``(M,)``, bin means of what the last one gives; of the sampled frames alone where it clamps.
    """

    name: str
    title: str
    maps: list[Calibration]
    centre: np.ndarray

    @property
    def row(self) -> str:
        """Its row in the table of predictors."""
        return "before" if self.name == "identity" else self.name

    @property
    def by_bin(self) -> bool:
        """Whether each bin has a map of its own."""
        return self.maps[-1].bin_slope is not None


class Calibrators:
    """Fits, their choice, and what they leave out.

    Args:
        reader: after its first pass, of pairs that can be judged.
        baseline: from the prediction as stored to the prediction as it is judged.
        moments: of the units, after the baseline.
        fold_of: fold of each unit, ``(U,)``.
        groups: label of each unit where several belong together (speakers), or None.
        sample_like: whether scale is judged by matching.
        stats: ``(mel_mean, mel_std)`` of the dataset where they are known beside the pairs' own targets, or None.
    """

    def __init__(
        self,
        reader: Reader,
        baseline: AffineMap,
        moments: Moments,
        fold_of: np.ndarray,
        *,
        groups: np.ndarray | None,
        sample_like: bool,
        stats: tuple[float, float] | None,
    ) -> None:
        self.reader, self.baseline, self.moments, self.fold_of = reader, baseline, moments, fold_of
        self._groups, self._sample_like, self._stats = groups, sample_like, stats
        self.skipped: dict[str, str] = {}
        self.notes: list[str] = []
        stored = reader.frame_sample()
        self._sample = replace(stored, p=baseline(stored.p))
        self._data: Moments | GroupedSums = moments
        self.floor = self._leave_out_floors(find_floors(self._sample, sample_like=sample_like))
        self.selection = self._select()
        self.chosen = self._chosen()
        if self.floor is not None:
            self._weigh_floors(self.floor)
        self.cross: CrossMoments | None = None
        self._without_matrix = ""
        if self.floor is not None:
            self._without_matrix = "values are clamped at a floor, and products between bins cannot leave those out"
        elif moments.n_mels > _MATRIX_BINS:
            self._without_matrix = (
                f"{moments.n_mels} bins: products of each with each are gathered up to {_MATRIX_BINS}"
            )
        elif not sample_like:
            self.cross = CrossMoments(int(fold_of.max()) + 1, moments.shift_p, moments.shift_y)
        if self.floor is not None:
            self._note_floor(self.floor)

    def finish(self) -> None:
        """Take in what the second pass has gathered in ``cross``."""
        if self.cross is not None:
            self.selection = self._select(self.cross)
        if self._without_matrix and not self._sample_like:
            skipped = {**self.selection.skipped, "matrix": self._without_matrix}
            self.selection = replace(self.selection, skipped=skipped)

    def _select(self, cross: CrossMoments | None = None) -> Selection:
        return select(
            self._data,
            self.fold_of,
            groups=self._groups,
            sample_like=self._sample_like,
            stats=self._stats,
            sample=self._sample,
            cross=cross,
        )

    def _chosen(self) -> Chosen:
        fit = self.selection.fits[self.selection.chosen]
        assert fit.by_fold is not None  # those that a file can hold are kept by fold
        name = fit.name
        if self.floor is not None and name in _REGRESSIONS:
            name += ":above-floor"
        floor = None if self.floor is None or name == "identity" else self.floor.target
        maps = []
        for slope, intercept in zip(fit.by_fold.slope, fit.by_fold.intercept, strict=True):
            if fit.per_bin_scale is None:
                maps.append(Calibration(float(slope[0]), float(intercept[0]), floor=floor))
            else:  # the best global fit stands beside it, for readers that know one scale and offset only
                maps.append(Calibration(fit.slope, fit.intercept, np.array(slope), np.array(intercept), floor))
        local = maps[-1]
        centre = local(self.moments.per_bin()["mean_p"]) if floor is None else local(self._sample.p).mean(axis=0)
        return Chosen(name, _title(fit) + (" above the floor" if name != fit.name else ""), maps, centre)

    # --- floors -------------------------------------------------------------------------------------------------

    def _leave_out_floors(self, floors: Floors) -> FloorCut | None:
        """Take the sums of the values clear of the floors in place of all, where there are floors and enough values."""
        if not floors.any:
            return None
        clear = floors.clear(self._sample.p, self._sample.y)
        share = float(clear.mean())
        cut = FloorCut(floors.p, floors.y, floors.share_p, floors.share_y, share)
        if share < _LEAST_CLEAR:
            self.skipped["fits above the floor"] = (
                f"only {share:.1%} of the values are clear of {_floor_text(cut)}: the fits use all"
            )
            return None
        sums = self._clear_sums(floors)
        if not (np.bincount(self.fold_of, sums.sums[:, -1].sum(axis=1)) > 0).all():
            self.skipped["fits above the floor"] = (
                f"some fold holds no value that is clear of {_floor_text(cut)}: the fits use all"
            )
            return None
        self._data = sums
        self._sample = self._sample.keeping(clear)
        return cut

    def _weigh_floors(self, cut: FloorCut) -> None:
        """Fit on all values after all, where that does better on them, out of sample, than what was found clear of it."""
        clear = self.selection, self.chosen, self.floor, self._data, self._sample
        everything = np.ones(self._sample.p.shape, dtype=bool)
        self.floor, self._data, self._sample = None, self.moments, self._sample.keeping(everything)
        self.selection = self._select()
        self.chosen = self._chosen()
        if self._error(clear[1]) <= (1.0 + _NO_WORSE) * self._error(self.chosen):
            self.selection, self.chosen, self.floor, self._data, self._sample = clear
        else:
            self.skipped["fits above the floor"] = (
                f"too few values of some bins are clear of {_floor_text(cut)}: the fits use all, which does better on unseen data"
            )

    def _error(self, chosen: Chosen) -> float:
        """Mean squared error on the sampled frames, each with the map that has not seen its fold."""
        fold = self.fold_of[self._sample.unit]
        total = 0.0
        for row in np.unique(fold):
            own = fold == row
            total += float(np.square(chosen.maps[row](self._sample.p[own]) - self._sample.y[own]).sum())
        return total / self._sample.p.size

    def _clear_sums(self, floors: Floors) -> GroupedSums:
        shifts = self.moments.shift_p, self.moments.shift_y
        rows = []
        arrays, loaded = (np.empty(0), np.empty(0)), -1
        for unit in self.reader.units:
            if unit.index != loaded:
                p, y = self.reader.arrays(unit.index)
                arrays, loaded = (self.baseline(p.astype(np.float64)), y.astype(np.float64)), unit.index
            p, y = (a[unit.start : unit.stop] for a in arrays)
            rows.append(above_floor_moments(p, y, floors.low, floors.low_y, high_p=floors.high, shifts=shifts))
        return GroupedSums(np.stack(rows), *shifts)

    def _note_floor(self, cut: FloorCut) -> None:
        s = self.moments.summary()
        bent = float(s.slope_mm if self._sample_like else s.slope_ols)
        straight = self.selection.fits["moments" if self._sample_like else "ols"].slope
        if abs(straight - bent) > _BENT * abs(bent):
            self.notes.append(
                f"{_floor_text(cut)} bends a straight line: the fits are made of the {cut.clear_share:.0%} of the values that are "
                f"clear of it (slope {straight:.4g} instead of {bent:.4g})"
            )

    # --- for the diagnosis --------------------------------------------------------------------------------------

    def scores(self) -> list[FitScore]:
        """Every fit, its map from the prediction as stored."""
        out = []
        for fit in self.selection.fits.values():
            slope: float | np.ndarray | None = fit.slope if fit.per_bin_scale is None else fit.per_bin_scale
            intercept: float | np.ndarray | None = fit.intercept if fit.per_bin_offset is None else fit.per_bin_offset
            if fit.by_fold is None or slope is None or intercept is None:  # a curve or a matrix
                slope = intercept = None
            else:
                slope, intercept = slope * self.baseline.slope, intercept + slope * self.baseline.intercept
            out.append(
                FitScore(
                    fit.name, _title(fit), fit.parameters, slope, intercept, fit.mse, fit.loss, fit.loss_se,
                    fit.variance_ratio, fit.writable, fit.note,
                )
            )  # fmt: skip
        return out

    def summary(self) -> SelectionSummary:
        """The choice, without the fits."""
        s = self.selection
        constants = tuple(
            Constant(
                a.known.id, a.known.meaning, a.known.slope, a.intercept, a.slope_distance, a.intercept_distance, a.known.source
            )
            for a in s.constants
        )  # fmt: skip
        return SelectionSummary(
            s.chosen, s.best, s.beyond, s.reason, constants, s.ambiguous, s.skipped, s.sample_like, self.floor
        )


def _title(fit: Fit) -> str:
    """What a known constant says of the prediction is its name for people."""
    if not fit.name.startswith("known:"):
        return fit.title
    level = " with a fitted level" if fit.name.endswith(":slope") else ""
    return f"known constant {fit.slope:.6g}{level}: {fit.note}"


def _floor_text(cut: FloorCut) -> str:
    sides = (("target", cut.target, cut.target_share), ("prediction", cut.prediction, cut.prediction_share))
    said = [
        f"the floor of the {what} at {at:.4g} ({share:.1%} of its values)"
        for what, at, share in sides
        if at is not None
    ]
    return " and ".join(said)
