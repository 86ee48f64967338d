"""Which calibration, if any: every calibrator scored on units that it has not seen, and the simplest that is good enough.

`calib.diagnose.calibrators.rule` holds the rule; this module makes what it chooses from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.diagnose.calibrators.binfits import bin_offsets, per_bin
from calib.diagnose.calibrators.constants import Accepted, KnownMap, accepted_maps, known_maps, statistics_maps
from calib.diagnose.calibrators.crossmoments import CrossMoments, MatrixFit
from calib.diagnose.calibrators.fits import (
    Folds,
    GroupedSums,
    Maps,
    constant,
    deming,
    divide,
    least_squares,
    moment_matching,
    ridge,
)
from calib.diagnose.calibrators.rule import (
    AFFINE,
    AFFINE_MORE,
    BINS,
    CURVE,
    EXACT,
    IDENTITY,
    KNOWN,
    MATRIX,
    OFFSETS,
    SLOPE,
    Candidate,
    Choice,
)
from calib.diagnose.calibrators.sampled import Curve, FrameSample, curve_gain, huber, monotone
from calib.diagnose.moments import Moments

__all__ = ["Fit", "Selection", "select"]

_MOST_KNOWN = 5  # known constants that are listed among the fits
_MOST_UNITS = 1024  # more are merged with their neighbours of the same fold
_SHRINKS = "least squares in disguise: it shrinks a sampler"


@dataclass(frozen=True)
class Fit:
    """One calibrator, fitted on everything, and what it is worth on units that it has not seen.

    Args:
        name: key.
        title: for people.
        parameters: effective number of fitted values.
        slope: raw map (the best global one, where the fit itself is not global).
        intercept: the same.
        per_bin_scale: raw slopes ``(M,)``, or None.
        per_bin_offset: raw intercepts ``(M,)``, or None.
        curve: the monotone map, or None.
        matrix: the map between all bins, or None.
        mse: mean squared error out of sample, unit squared.
        loss: what was compared, out of sample: ``mse``, or for samplers the loss of `fits`.
        loss_se: standard error of the difference of the losses to the best fit's.
        variance_ratio: within-bin variance after the map over the target's; under 1 sounds muffled.
        writable: fits into a parameter file.
        note: what to know about it, or "".
        floor: values are clamped there after the map, or None.
        by_fold: the maps ``(G + 1, 1 or M)`` fitted without each fold; None for curve and matrix.
        curves: the curves fitted without each fold, or None.
    """

    name: str
    title: str
    parameters: float
    slope: float
    intercept: float
    mse: float
    loss: float
    loss_se: float
    variance_ratio: float
    writable: bool
    per_bin_scale: np.ndarray | None = None
    per_bin_offset: np.ndarray | None = None
    curve: Curve | None = None
    matrix: MatrixFit | None = None
    note: str = ""
    floor: float | None = None
    by_fold: Maps | None = None
    curves: list[Curve] | None = None

    def __call__(self, mel: np.ndarray, fold: int | None = None) -> np.ndarray:
        """Apply it to ``(..., M)``.

        Args:
            mel: predictions.
            fold: the fit that has not seen this fold; None: the fit on everything.

        Raises:
            ValueError: the matrix is not kept by fold.
        """
        row = -1 if fold is None else fold
        if self.by_fold is not None:
            out = mel * self.by_fold.slope[row] + self.by_fold.intercept[row]
        elif self.curves is not None:
            out = self.curves[row](mel)
        elif self.matrix is not None and fold is None:
            out = mel @ self.matrix.weights + self.matrix.bias
        else:
            raise ValueError(f"{self.name} is not kept by fold")
        return np.asarray(out if self.floor is None else np.maximum(out, self.floor))


@dataclass(frozen=True)
class Selection:
    """All fits and the choice.

    Args:
        chosen: name of the fit to use: the simplest that is good enough, of those a file can hold.
        best: name of the fit with the least loss.
        beyond: curve or matrix that would gain more than 2 % and one standard error, or None.
        fits: by name, simplest first.
        reason: the choice, in plain words.
        constants: known maps that the pairs are consistent with, nearest first.
        ambiguous: names of known maps that the pairs cannot tell apart (two standard errors); () where one stands alone.
        skipped: fits that were not made, and why.
        variance_ratio_before: within-bin variance of the prediction over the target's.
        sample_like: which loss was compared.
    """

    chosen: str
    best: str
    beyond: str | None
    fits: dict[str, Fit]
    reason: str
    constants: tuple[Accepted, ...]
    ambiguous: tuple[str, ...]
    skipped: dict[str, str]
    variance_ratio_before: float
    sample_like: bool


def select(
    data: Moments | GroupedSums,
    fold_of: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    sample_like: bool = False,
    stats: tuple[float, float] | None = None,
    sample: FrameSample | None = None,
    cross: CrossMoments | None = None,
    error_ratio: float | None = None,
    floor: float | None = None,
) -> Selection:
    """Make every fit, score it on held-out folds, and choose.

    Args:
        data: sums of the units; those above the floors alone (`FrameSample.sums`), where there are any.
        fold_of: ``(U,)``, fold of each unit.
        groups: ``(U,)`` labels of units that belong together (speakers); None: each stands alone.
        sample_like: the model samples (GAN, flow, diffusion): scale is judged by matching.
        stats: ``(mel_mean, mel_std)`` of the dataset, if known beside the pairs' own targets.
        sample: frames with their units, for the robust and the monotone fit; with ``keep`` where there are floors.
        cross: for the matrix; its folds as in ``fold_of``.
        error_ratio: error variance of the target over that of the prediction, for Deming's fit.
        floor: clamp after the map, in the target's unit.

    Raises:
        ValueError: fewer than two folds, or lengths that differ.
    """
    fold_of = np.asarray(fold_of, dtype=np.intp)
    sums = GroupedSums.of(data) if isinstance(data, Moments) else data
    label, fold_of_label = _labels(fold_of, groups)
    folds = Folds(sums.merged(label, fold_of_label.size), fold_of_label)
    skipped: dict[str, str] = {}
    constants, candidates = _known(folds, stats, sample_like=sample_like)
    candidates = [
        Candidate("identity", "as it is", IDENTITY, constant(folds, 1.0, 0.0)),
        *candidates,
        *_affine(folds, sample, label, error_ratio, skipped, sample_like=sample_like),
    ]
    _score(folds, candidates, sample_like=sample_like)
    known = sorted((c for c in candidates if c.rank in KNOWN), key=lambda c: float(c.parts.sum()))
    candidates = [c for c in candidates if c.rank not in KNOWN or c in known[:_MOST_KNOWN]]
    reference = next(c for c in candidates if c.name == ("moments" if sample_like else "ols"))
    candidates += _beyond_affine(folds, sample, label, cross, reference, skipped, sample_like=sample_like)
    choice = Choice(folds, candidates)
    fits = {c.name: _fit(c, folds, choice, reference, sample, cross, floor) for c in candidates}
    return Selection(
        chosen=choice.chosen.name,
        best=choice.best.name,
        beyond=choice.beyond.name if choice.beyond else None,
        fits=fits,
        reason=choice.reason(sample_like=sample_like),
        constants=tuple(constants),
        ambiguous=choice.ambiguous(),
        skipped=skipped,
        variance_ratio_before=fits["identity"].variance_ratio,
        sample_like=sample_like,
    )


def _labels(fold_of: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """A label for each unit, 0.. in the order of the folds, and the fold of each label."""
    own = np.arange(fold_of.size) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    label, fold_of_label = _numbered(fold_of, own)
    step = -(-fold_of_label.size // _MOST_UNITS)
    if step > 1:
        first = np.searchsorted(fold_of_label, np.arange(fold_of_label.max() + 1))
        place = (np.arange(fold_of_label.size) - first[fold_of_label]) // step
        merged, fold_of_label = _numbered(fold_of_label, place)
        label = merged[label]
    return label, fold_of_label


def _numbered(major: np.ndarray, minor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of each (major, minor) in their order, and the major of each number."""
    width = int(minor.max()) + 1
    keys, label = np.unique(major * width + minor, return_inverse=True)
    return label.reshape(-1), keys // width


# --- candidates -----------------------------------------------------------------------------------------------------


def _known(
    folds: Folds, stats: tuple[float, float] | None, *, sample_like: bool
) -> tuple[list[Accepted], list[Candidate]]:
    """Known maps that the data is consistent with, and a candidate for each that differs from those before."""
    s = folds.stats
    own_mean, own_std = s.m_y, np.sqrt(s.pooled_y)
    candidates = known_maps()
    if stats is not None:
        candidates += statistics_maps(*stats, "the dataset's statistics", "dataset")
    own: tuple[KnownMap, ...] = ()
    if own_std[-1, 0] > 0:
        own = statistics_maps(float(own_mean[-1, 0]), float(own_std[-1, 0]), "the pairs' own target statistics", "own")
    accepted = accepted_maps(folds, candidates + own, sample_like=sample_like)
    # Those with their own intercept hold for every fold; own statistics are taken anew without each.
    anew = {
        "normalised-own": (own_std, own_mean),
        "denormalised-own": (divide(np.ones_like(own_std), own_std), -divide(own_mean, own_std)),
    }
    seen: dict[tuple[float, float | None], Candidate] = {}
    for found in accepted:
        known = found.known
        key = (round(known.slope, 9), None if found.intercept is None else round(found.intercept, 9))
        if key == (1.0, 0.0):  # the identity
            continue
        if key in seen:
            seen[key].note += f"; or {known.meaning}"
            continue
        slope, intercept = anew.get(known.id, (known.slope, found.intercept))
        level = "its own intercept" if found.intercept is not None else "intercept from the means"
        seen[key] = Candidate(
            f"known:{known.id}" + ("" if found.intercept is not None else ":slope"),
            f"known constant {known.slope:.6g}, {level}",
            EXACT if found.intercept is not None else SLOPE,
            constant(folds, slope, intercept),
            f"the prediction is {known.meaning}",
        )
    return accepted, list(seen.values())


def _affine(
    folds: Folds,
    sample: FrameSample | None,
    label: np.ndarray,
    error_ratio: float | None,
    skipped: dict[str, str],
    *,
    sample_like: bool,
) -> list[Candidate]:
    out = [
        Candidate("ols", "least squares", AFFINE, least_squares(folds)),
        Candidate("moments", "moment matching", AFFINE, moment_matching(folds)),
    ]
    if sample_like:
        skipped["ridge"] = skipped["huber"] = _SHRINKS
    else:
        try:
            maps, penalty = ridge(folds)
            out.append(Candidate("ridge", "ridge", AFFINE_MORE, maps, f"penalty {penalty:g} of the variance"))
        except ValueError as error:
            skipped["ridge"] = str(error)
        if sample is None:
            skipped["huber"] = "no sample of frames was gathered"
        else:
            out.append(Candidate("huber", "robust (Huber)", AFFINE_MORE, huber(sample.relabelled(label), folds)))
    if error_ratio is None:
        skipped["deming"] = "the ratio of the error variances is not known"
    else:
        out.append(Candidate("deming", "errors in both (Deming)", AFFINE_MORE, deming(folds, error_ratio)))
    out += [
        Candidate("bin-offset", "one slope, an offset for each bin", OFFSETS, bin_offsets(folds, sample_like=sample_like)),
        Candidate("per-bin", "a map for each bin", BINS, per_bin(folds, sample_like=sample_like)),
    ]  # fmt: skip
    return out


def _score(folds: Folds, candidates: list[Candidate], *, sample_like: bool) -> None:
    maps = [c.maps for c in candidates if c.maps is not None]
    square = folds.losses(maps, sample_like=False)
    parts = folds.losses(maps, sample_like=True) if sample_like else square
    for column, candidate in enumerate(candidates):
        candidate.square, candidate.parts = square[:, column], parts[:, column]


def _beyond_affine(
    folds: Folds,
    sample: FrameSample | None,
    label: np.ndarray,
    cross: CrossMoments | None,
    reference: Candidate,
    skipped: dict[str, str],
    *,
    sample_like: bool,
) -> list[Candidate]:
    """Curve and matrix, scored by what they differ from the reference."""
    assert reference.maps is not None
    out = []
    if sample is None:
        skipped["monotone"] = "no sample of frames was gathered"
    else:
        try:
            own = sample.relabelled(label)
            curves = monotone(own, folds, reference.maps, sample_like=sample_like)
            square = curve_gain(own, folds, curves, reference.maps, sample_like=False)
            gain = curve_gain(own, folds, curves, reference.maps, sample_like=True) if sample_like else square
            one = Candidate("monotone", "monotone curve", CURVE, None, curves=curves)
            one.parts, one.square = reference.parts + gain, reference.square + square
            out.append(one)
        except ValueError as error:
            skipped["monotone"] = str(error)
    if sample_like:
        skipped["matrix"] = _SHRINKS
    elif cross is None:
        skipped["matrix"] = "no products between bins were gathered"
    else:
        try:
            fitted = cross.fit()
            errors = np.bincount(folds.fold_of, reference.square, folds.n_folds)
            share = folds.n_unit / folds.n_fold[folds.fold_of]
            one = Candidate(
                "matrix", "ridge between all bins", MATRIX, None,
                "for diagnosis only: another filterbank, not a calibration", matrix=fitted, clusters=folds.fold_of,
            )  # fmt: skip
            one.parts = one.square = reference.square + share * (fitted.errors - errors)[folds.fold_of]
            out.append(one)
        except ValueError as error:
            skipped["matrix"] = str(error)
    return out


def _fit(
    c: Candidate,
    folds: Folds,
    choice: Choice,
    reference: Candidate,
    sample: FrameSample | None,
    cross: CrossMoments | None,
    floor: float | None,
) -> Fit:
    s = folds.stats
    assert reference.maps is not None
    maps = c.maps if c.maps is not None and c.rank < OFFSETS else reference.maps
    bins = c.maps if c.rank in {OFFSETS, BINS} else None
    within = float(s.within_y[-1, 0])
    if c.maps is not None:
        spread = float((c.maps.slope[-1] ** 2 * s.var_p[-1] * s.n[-1]).sum() / s.n[-1].sum())
        parameters = c.maps.parameters
    elif c.curves is not None:
        assert sample is not None
        spread = within * sample.variance_ratio(c.curves[-1](sample.p))
        parameters = c.curves[-1].parameters
    else:
        assert c.matrix is not None
        assert cross is not None
        spread, parameters = cross.variance_within(c.matrix), c.matrix.parameters
    return Fit(
        name=c.name,
        title=c.title,
        parameters=parameters,
        slope=float(maps.slope[-1, 0]),
        intercept=float(maps.intercept[-1, 0]),
        mse=choice.square(c),
        loss=choice.loss(c),
        loss_se=choice.error(c, choice.best),
        variance_ratio=float(divide(np.float64(spread), np.float64(within))),
        writable=c.rank <= BINS,
        per_bin_scale=None if bins is None else np.array(bins.slope[-1]),
        per_bin_offset=None if bins is None else np.array(bins.intercept[-1]),
        curve=None if c.curves is None else c.curves[-1],
        matrix=c.matrix,
        note=c.note,
        floor=floor,
        by_fold=c.maps,
        curves=c.curves,
    )
