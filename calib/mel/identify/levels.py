"""From slopes and offsets by bin to the logarithm's unit, normalisation, area norm, guard and clip, as far as they can be told.

A mel is ``y = a_k ln(guarded m) + b_k``. Only the products are in the data: log base, gain, reference level and
normalisation share slope and offset, so what is told apart here is told by constancy over bins and by the walls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.mel.identify.scene import Fit, Scene
from calib.mel.identify.spectra import edges_of

__all__ = ["LOGS", "Levels", "area", "levels"]

_LN10 = float(np.log(10.0))
# (log, multiplier): the slopes that have a name, in mel units per ln.
LOGS: tuple[tuple[str, float], ...] = (("ln", 1.0), ("log10", 1.0), ("log10", 20.0), ("log10", 10.0), ("log10", 25.0))
_NAMED_SLOPE = 2e-4  # relative; within it a slope is called by its name where noise allows


@dataclass(frozen=True)
class Levels:
    """What follows the filterbank.

    Args:
        kind: ``global`` (one slope and offset), ``divide`` (a slope by bin, nothing subtracted), ``shift`` (one slope, an
            offset by bin) or ``standard`` (both by bin).
        slope: ``(M,)`` mel units per ln of the filterbank's output.
        offset: ``(M,)`` for a bank of the norm found (of the area norm where it cannot be told).
        norm: ``slaney``, ``none`` or None: not identifiable.
        slope_spread: relative spread of the slopes over bins beyond what one slope would give.
        offset_spread: of the offsets in ln, with the area norm, and without it.
        log: name of the logarithm, or None where the slope has none.
        multiplier: its factor.
    """

    kind: str
    slope: np.ndarray
    offset: np.ndarray
    norm: str | None
    slope_spread: float
    offset_spread: tuple[float, float]
    log: str | None
    multiplier: float


def area(fit: Fit, bins: int) -> np.ndarray:
    """Ln of the factor that area normalisation gives each filter, ``(M,)``."""
    edges = edges_of(fit.core, bins)
    return np.asarray(np.log(2.0 * fit.core.ratio / np.maximum(edges[2:] - edges[:-2], 1e-9)))


def levels(scene: Scene, fit: Fit) -> Levels:
    """Tell normalisation and unit from the lines of a fit."""
    used = scene.bins_used & (np.abs(fit.slope) > 1e-12)
    bins = scene.bins
    a, b = fit.slope[used], fit.offset[used]
    # Standard errors of each bin's line; residuals of neighbouring frames go together, hence the factor.
    w = scene.weight[:, used]
    x = fit.log[:, used]
    mean = (x * w).sum(0) / w.sum(0)
    deviation = np.sqrt((((x - mean) ** 2) * w).sum(0) / w.sum(0))
    rest = np.sqrt(((fit.residual[:, used] * scene.spread[used]) ** 2 * w).sum(0) / w.sum(0))
    per = 2.5 / np.sqrt(w.sum(0))
    slope_error = np.maximum(rest / deviation * per, 2e-6 * np.abs(a))
    weight = 1.0 / slope_error**2
    common = float((a * weight).sum() / weight.sum())
    slope_z = float(np.sqrt(np.mean(((a - common) / slope_error) ** 2)))
    slope_spread = float(np.median(np.abs(a / common - 1.0)))
    one_slope = slope_z < 2.5 or slope_spread < 3e-5
    # Offsets, at the common slope, in ln units.
    y_mean = common * mean + (a - common) * mean + b
    level_error = np.maximum(rest * per, 3e-6 * (np.abs(a * mean) + np.abs(b) + np.abs(a)))
    known_norm = fit.core.norm
    template = area(fit, bins)[used]
    spreads: list[tuple[float, float]] = []
    for relative in (0.0, 1.0):  # as the core's norm has it, and as the other one would
        other = template * (1.0 if known_norm is None else -1.0) * relative
        value = (y_mean - common * (mean + other)) / common
        error = level_error / abs(common)
        centre = float((value / error**2).sum() / (1.0 / error**2).sum())
        spreads.append((float(np.sqrt(np.mean(((value - centre) / error) ** 2))), float(np.sqrt(np.mean((value - centre) ** 2)))))  # fmt: skip
    same, changed = (spreads[0], spreads[1])
    norm_names = ("slaney", "none") if known_norm == "slaney" else ("none", "slaney")
    # Means by bin are nowhere near equal: where one norm makes the offsets 100 times as equal as the other does, it is it.
    least = max(1e-3, 0.01 * max(same[1], changed[1])) if max(same[1], changed[1]) > 0.05 else 0.0
    flat = [
        n for n, (z, spread) in zip(norm_names, (same, changed), strict=True) if z < 2.5 or spread < max(1e-4, least)
    ]
    with_area, without = (same[1], changed[1]) if known_norm == "slaney" else (changed[1], same[1])
    slope, offset = fit.slope.copy(), fit.offset.copy()
    norm: str | None = None
    if one_slope and flat:
        kind = "global"
        norm = flat[0] if len(flat) == 1 else None
        chosen = flat[0]
        shift = 0.0 if chosen == norm_names[0] else template * (1.0 if known_norm is None else -1.0)
        value = y_mean - common * (mean + shift)
        centre = float((value / level_error**2).sum() / (1.0 / level_error**2).sum())
        slope, offset = np.full(bins, common), np.full(bins, centre)
    elif one_slope:
        kind = "shift"
        slope = np.full(bins, common)
        offset[used] = y_mean - common * mean
    else:
        kind, norm, slope, offset = _by_bin(fit, a, b, rest * per / np.abs(a), mean, template, used)
    log, multiplier = _named(common, float(np.sqrt(1.0 / weight.sum()))) if kind in {"global", "shift"} else (None, 1.0)
    if kind == "divide":
        log, multiplier = "ln", 1.0
    return Levels(kind, slope, offset, norm, slope_spread, (with_area, without), log, multiplier)


def _by_bin(
    fit: Fit, a: np.ndarray, b: np.ndarray, error: np.ndarray, mean: np.ndarray, template: np.ndarray, used: np.ndarray
) -> tuple[str, str | None, np.ndarray, np.ndarray]:
    """Slopes by bin: were the values only divided (offset / slope constant over bins), or standardised?"""
    slope, offset = fit.slope.copy(), fit.offset.copy()
    for name in ("slaney", "none"):
        same = (fit.core.norm or "none") == name
        shift = 0.0 if same else template * (1.0 if fit.core.norm is None else -1.0)
        level = b / a - shift  # y / a = ln m + level
        # A line's offset is known as well as its slope times how far the data lie from ln m = 0.
        doubt = np.maximum(error * (1.0 + np.abs(mean)), 2e-5 * (1.0 + np.abs(mean)))
        centre = float((level / doubt**2).sum() / (1.0 / doubt**2).sum())
        if float(np.sqrt(np.mean(((level - centre) / doubt) ** 2))) < 2.5:
            offset[used] = a * centre
            return "divide", name, slope, offset
    return "standard", None, slope, offset


def _named(slope: float, error: float) -> tuple[str | None, float]:
    """The logarithm whose slope this is, within what noise allows."""
    for log, multiplier in LOGS:
        value = multiplier / (_LN10 if log == "log10" else 1.0)
        if abs(abs(slope) / value - 1.0) < max(_NAMED_SLOPE, min(3.0 * error / value, 0.01)) and slope > 0:
            return log, multiplier
    return None, 1.0
