"""The metrics of a diagnosis: each computed, or skipped with its reason."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from calib.diagnose.diagnosis import Calibration, Diagnosis, ModulationSpectrum, Skill
from calib.diagnose.metrics import (
    GlobalVariance,
    UncomputableError,
    concordance,
    global_variance,
    mincer_zarnowitz,
    murphy,
    skill,
    taylor,
)
from calib.diagnose.moments import Moments
from calib.diagnose.scores import CONSTANTS, NULLS, SecondPass
from calib.diagnose.spectra import BandDistance, CrossSums, Modulation

__all__ = ["add_metrics", "after_map"]


def add_metrics(
    d: Diagnosis,
    moments: Moments,
    blocks: Moments | None,
    local: Calibration,
    pass2: SecondPass,
    frame_seconds: float | None,
) -> None:
    """Fill the fields of a diagnosis that hold metrics, or its ``skipped``.

    Args:
        d: with rows and method.
        moments: of the units, the prediction as it is judged.
        blocks: of moving blocks where there are too few utterances, else None.
        local: what is written, acting on the prediction as it is judged: the fit of the second pass, or the identity.
        pass2: what was gathered.
        frame_seconds: hop in seconds, or None.
    """
    d.murphy = murphy(moments)
    with _skipping(d, "Taylor diagram"):
        d.taylor = taylor(moments)
    with _skipping(d, "Mincer-Zarnowitz test"):
        d.mincer_zarnowitz = mincer_zarnowitz(moments, blocks)
    with _skipping(d, "concordance"):
        d.concordance = concordance(moments)
    for row in d.rows:
        if row.name in {*CONSTANTS, *NULLS}:
            with _skipping(d, f"skill against {row.title}"):
                before, after = (skill(r.rmse**2, row.rmse**2) for r in (d.row("before"), d.after))
                d.skills.append(Skill(row.name, before, after))
    clamped = pass2.moments_after() if local.floor is not None else None
    after_fit = (moments, local.slopes) if clamped is None else (clamped, np.asarray(1.0))
    for when, (gathered, slopes) in (("before", (moments, np.asarray(1.0))), ("after", after_fit)):
        with _skipping(d, f"global variance {when} the calibration"):
            d.global_variance[when] = _by_utterance(global_variance(gathered, slopes), d.n_utterances)
        with _skipping(d, f"variance ratio {when} the calibration"):
            d.variance_ratio[when] = _variance_ratio(gathered, slopes)
    with _skipping(d, "modulation spectrum before the calibration"):
        d.modulation["before"] = _spectrum(pass2.modulation, frame_seconds)
    with _skipping(d, "modulation spectrum after the calibration"):
        if local.affine or pass2.modulation_after is None:
            d.modulation["after"] = after_map(pass2.modulation, local.slope, frame_seconds)
        else:
            d.modulation["after"] = _spectrum(pass2.modulation_after, frame_seconds)


@contextlib.contextmanager
def _skipping(d: Diagnosis, what: str) -> Iterator[None]:
    try:
        yield
    except UncomputableError as error:
        d.skipped[what] = str(error)


def _spectrum(modulation: Modulation, frame_seconds: float | None) -> ModulationSpectrum:
    return ModulationSpectrum(modulation.result(frame_seconds), modulation.distances(frame_seconds))


def _by_utterance(found: GlobalVariance, utterances: int) -> GlobalVariance:
    """The blocks of a single utterance are no utterances; its own value is that of the corpus."""
    return replace(found, utterances=np.array([found.corpus])) if utterances == 1 else found


def _variance_ratio(moments: Moments, slopes: np.ndarray) -> float:
    bins = moments.per_bin()
    target = float((bins["sd_y"] ** 2).mean())
    if not target > 0.0:
        raise UncomputableError("the target does not vary within its bins")
    return float((slopes**2 * bins["sd_p"] ** 2).mean()) / target


def after_map(modulation: Modulation, slope: float, frame_seconds: float | None) -> ModulationSpectrum:
    """Modulation spectra after one slope for all bins, without reading anything again.

    The spectrum of the prediction is multiplied by the slope, so its log moves by ``20 log10 |slope|`` everywhere, and
    mean((d + c)²) = mean(d²) + 2 c mean(d) + c².

    Args:
        modulation: gathered before the map.
        slope: of the map.
        frame_seconds: as for `Modulation.result`.

    Raises:
        UncomputableError: nothing is left to compare.
    """
    if slope == 0.0:
        raise UncomputableError("a slope of 0 leaves no movement")
    sums = modulation.units.total()
    moved = CrossSums(sums.weight, slope**2 * sums.pp, sums.yy, slope * sums.re, slope * sums.im)
    by = 20.0 * math.log10(abs(slope))
    bands = [
        BandDistance(
            b.low,
            b.high,
            math.sqrt(max(b.distance**2 + 2.0 * by * b.level + by**2, 0.0)),
            b.level + by,
            b.left_out,
        )
        for b in modulation.distances(frame_seconds)
    ]
    return ModulationSpectrum(modulation.result(frame_seconds, moved), bands)
