"""The fitted line as it acts on the prediction, and what it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calib.diagnose.analysis import AffineMap, Diagnosis
from calib.report.canvas import Skip, new_canvas, why_missing
from calib.report.svg import CALIBRATED, CONSTANT, INK
from calib.report.wording import number, written_row

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["local_map", "residuals"]

_LEAST = 0.002  # share of the values that a column of the density needs to be drawn
_QUANTILES = (0.05, 0.5, 0.95)


def local_map(d: Diagnosis, row_name: str) -> AffineMap | None:
    """The map of a row as it acts on the prediction after denormalisation (the axis of the density)."""
    row = d.row(row_name)
    if row.slope is None or row.intercept is None:
        return None
    if d.output_space != "normalized":
        return AffineMap(row.slope, row.intercept)
    slope = row.slope / d.mel_std
    return AffineMap(slope, row.intercept - slope * d.mel_mean)


def residuals(d: Diagnosis, unit: str) -> tuple[Canvas, str]:
    """Target less the fitted line, by predicted value: median and middle 90 %, from the joint counts."""
    if not d.density or not d.rows:
        raise Skip(why_missing(d, "density", "histograms"))
    fit = local_map(d, written_row(d)) or local_map(d, "ols")
    constant = local_map(d, "global_mean")
    if fit is None or constant is None:
        raise Skip("the fit is by bin or a curve, and has no one line")
    named = d.row(written_row(d)) if local_map(d, written_row(d)) is not None else d.row("ols")
    counts = np.asarray(d.density["counts"], dtype=float)
    x, y = (np.asarray(d.density[f"edges_{name}"], dtype=float) for name in ("prediction", "target"))
    weight = counts.sum(axis=1)
    shown = weight >= _LEAST * max(float(weight.sum()), 1.0)
    if not shown.any():
        raise Skip("prediction and target have no values in the picture")
    centres = (x[:-1] + x[1:])[shown] / 2
    low, middle, high = (_quantile(counts[shown], y, q) - fit(centres) for q in _QUANTILES)
    canvas, axes = new_canvas()
    axes.fill_between(centres, low, high, color=CALIBRATED, alpha=0.22, linewidth=0)
    axes.plot(centres, middle, color=CALIBRATED, label="median, middle 90 %")
    axes.plot(
        centres, constant(centres) - fit(centres), color=CONSTANT, linestyle=(0, (2, 2)), label="constant: global mean"
    )
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xlabel=f"prediction, {unit}", ylabel=f"target - fit, {unit}")
    canvas.legend(loc="outside upper left", ncols=2)
    mass = weight[shown] / weight[shown].sum()
    bend, width = float(mass @ np.abs(middle)), float(mass @ (high - low))
    rise = float(np.ptp(fit(centres)))
    return canvas, (
        f"Line: {named.title.split(': ', 1)[0]}. Its median residual lies {number(bend)} {unit} from 0 on average (0: a straight line is the right shape); "
        f"the middle 90 % are {number(width)} {unit} wide, and the line itself rises by {number(rise)} {unit} over the values shown."
    )


def _quantile(counts: np.ndarray, edges: np.ndarray, q: float) -> np.ndarray:
    """Of each row of a histogram, by linear interpolation within its cells."""
    out = np.empty(len(counts))
    for row, each in enumerate(counts):
        heaped = np.concatenate([[0.0], np.cumsum(each)])
        out[row] = np.interp(q * heaped[-1], heaped, edges)
    return out
