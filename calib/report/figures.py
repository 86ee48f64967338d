"""The charts of the report: a `Diagnosis` in, inline SVG with the finding in words out.

Every function returns a `Figure`, or raises `Skip` with the reason why there is nothing to draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calib.diagnose.analysis import AffineMap, Diagnosis
from calib.report.canvas import WIDTH, Chart, Painter, Skip, new_canvas, r_limits, summary, why_missing
from calib.report.fitfigures import local_map, residuals
from calib.report.smoothfigures import bin_errors, modulation, taylor, variances
from calib.report.svg import CALIBRATED, CONSTANT, GRID, INK, PREDICTION, TARGET, drawing, inline_svg
from calib.report.wording import correlation, fit_title, number, percent, written_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = ["Chart", "Skip", "charts", "painters", "why_missing"]


def painters() -> list[tuple[str, str, Painter]]:
    """Key, title and painter of every chart; `calib.report.exports` draws the same ones into files."""
    return [
        ("histogram", "Distributions", _histograms),
        ("density", "Prediction against target", _density),
        ("binmean", "Mean by mel bin", _bin_means),
        ("binsd", "Standard deviation by mel bin", _bin_sds),
        ("binr", "Correlation by mel bin", _bin_r),
        ("lag", "Correlation by lag", _lags),
        ("residual", "Residuals by predicted value", residuals),
        ("binerror", "Residuals by mel bin", bin_errors),
        ("modulation", "Modulation spectrum", modulation),
        ("variance", "Global variance by mel bin", variances),
        ("taylor", "Taylor diagram", taylor),
    ]


def charts(d: Diagnosis, unit: str) -> dict[str, Chart]:
    """Every chart by its key, drawn or skipped."""
    with drawing():
        return {key: _chart(key, title, paint, d, unit) for key, title, paint in painters()}


def _chart(key: str, title: str, paint: Painter, d: Diagnosis, unit: str) -> Chart:
    try:
        canvas, finding = paint(d, unit)
    except Skip as skip:
        return Chart(key, title, "", str(skip), skipped=True)
    return Chart(key, title, inline_svg(canvas, key, f"{title}. {finding}"), finding)


_AFTER = {
    "identity": "prediction, nothing to calibrate",
    "ols": "prediction after linear regression",
    "moments": "prediction after statistics matching",
}

# --- distributions ----------------------------------------------------------------------------------------------


def _histograms(d: Diagnosis, unit: str) -> tuple[Canvas, str]:
    h = d.histograms
    if not h:
        raise Skip(why_missing(d, "histograms"))
    from matplotlib.figure import Figure as New

    strips = [
        ("target", "target", h["edges"], TARGET),
        ("prediction", "prediction, as it is", h["edges_prediction"], PREDICTION),
        ("calibrated", _AFTER.get(d.method, "prediction after the fit"), h["edges"], CALIBRATED),
    ]
    strips = [strip for strip in strips if strip[0] in h]
    canvas = New(figsize=(WIDTH, 2.95), layout="constrained")
    grid = canvas.subplots(len(strips), 1, sharex=True, squeeze=False)[:, 0]
    spans = [_support(np.asarray(edges), np.asarray(h[key])) for key, _, edges, _ in strips]
    low, high = min(a for a, _ in spans), max(b for _, b in spans)
    for axes, (key, title, edges, colour) in zip(grid, strips, strict=True):
        heights = np.asarray(h[key], dtype=float)
        top = float(heights.max()) or 1.0
        axes.stairs(heights / top, edges, fill=True, color=colour, alpha=0.28)
        axes.stairs(heights / top, edges, color=colour, linewidth=1.3)
        axes.set(ylim=(0, 1.45), yticks=[], xlim=(low - 0.03 * (high - low), high + 0.03 * (high - low)))
        axes.text(0.012, 0.94, title, transform=axes.transAxes, va="top", color=INK, fontsize=9)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=True, axis="x", color=GRID, linewidth=0.6)
        axes.tick_params(length=0)
    grid[-1].set_xlabel(unit)
    finding = (
        f"Target: mean {number(summary(d, 'target_mean'))}, standard deviation {number(summary(d, 'target_sd'))} {unit}. "
        f"Prediction: mean {number(summary(d, 'prediction_mean'))}, standard deviation {number(summary(d, 'prediction_sd'))} {unit}. "
        "Each strip is drawn to its own peak."
    )
    return canvas, finding


def _support(edges: np.ndarray, heights: np.ndarray) -> tuple[float, float]:
    """The stretch that holds anything."""
    held = np.flatnonzero(heights > 0)
    if not held.size:
        return float(edges[0]), float(edges[-1])
    return float(edges[held[0]]), float(edges[held[-1] + 1])


# --- by bin -----------------------------------------------------------------------------------------------------


def _curves(d: Diagnosis, what: str, unit: str) -> tuple[Canvas, Axes]:
    if not d.per_bin:
        raise Skip(why_missing(d, "per_bin", "metrics"))
    canvas, axes = new_canvas()
    bins = np.arange(d.n_mels)
    axes.plot(bins, d.per_bin[f"target_{what}"], color=TARGET, label="target")
    axes.plot(bins, d.per_bin[f"prediction_{what}"], color=PREDICTION, label="prediction", linestyle=(0, (5, 1.5)))
    if d.method != "identity":
        axes.plot(
            bins, d.per_bin[f"calibrated_{what}"], color=CALIBRATED, label="after the fit", linestyle=(0, (1.5, 1))
        )
    axes.set(xlabel="mel bin, low to high", ylabel=unit, xlim=(0, max(d.n_mels - 1, 1)))
    canvas.legend(loc="outside upper left", ncols=3)
    return canvas, axes


def _distance(d: Diagnosis, what: str) -> tuple[float, float]:
    target = d.per_bin[f"target_{what}"]
    before, after = (
        float(np.mean(np.abs(d.per_bin[f"{name}_{what}"] - target))) for name in ("prediction", "calibrated")
    )
    return before, after


def _bin_means(d: Diagnosis, unit: str) -> tuple[Canvas, str]:
    canvas, _ = _curves(d, "mean", unit)
    before, after = _distance(d, "mean")
    fitted = "" if d.method == "identity" else f", {number(after)} {unit} after the fit"
    return canvas, f"The mean of a bin is off by {number(before)} {unit} on average as it is{fitted}."


def _bin_sds(d: Diagnosis, unit: str) -> tuple[Canvas, str]:
    canvas, axes = _curves(d, "sd", unit)
    axes.set_ylim(bottom=0)
    target, prediction, calibrated = (
        float(np.mean(d.per_bin[f"{name}_sd"])) for name in ("target", "prediction", "calibrated")
    )
    fitted = "" if d.method == "identity" else f" and {number(calibrated)} {unit} after the fit"
    return (
        canvas,
        f"A bin of the target varies by {number(target)} {unit} on average, of the prediction by {number(prediction)} {unit}{fitted}.",
    )


def _bin_r(d: Diagnosis, unit: str) -> tuple[Canvas, str]:
    del unit
    if "r" not in d.per_bin:
        raise Skip(why_missing(d, "per_bin", "metrics"))
    r = np.asarray(d.per_bin["r"], dtype=float)
    canvas, axes = new_canvas()
    if d.null is not None:
        axes.axhspan(-d.null.limit, d.null.limit, color=CONSTANT, alpha=0.22, linewidth=0)
    axes.plot(np.arange(r.size), r, color=PREDICTION)
    axes.set(xlabel="mel bin, low to high", ylabel="r (no unit)", xlim=(0, max(r.size - 1, 1)), ylim=r_limits(r))
    good = r[np.isfinite(r)]
    if not good.size:
        return canvas, "No bin has a correlation: a standard deviation is zero."
    band = (
        ""
        if d.null is None
        else f" The grey band is what unrelated pairs reach over all bins, {correlation(d.null.limit)} in magnitude."
    )
    return (
        canvas,
        f"r by bin runs from {correlation(float(good.min()))} to {correlation(float(good.max()))}, median {correlation(float(np.median(good)))}.{band}",
    )


# --- prediction against target ----------------------------------------------------------------------------------


def _density(d: Diagnosis, unit: str) -> tuple[Canvas, str]:
    if not d.density or not d.rows:
        raise Skip(why_missing(d, "density", "histograms"))
    x, y = np.asarray(d.density["edges_prediction"]), np.asarray(d.density["edges_target"])
    counts = np.asarray(d.density["counts"], dtype=float)
    canvas, axes = new_canvas(2.95)
    shade = np.log1p(counts.T) / max(float(np.log1p(counts.max())), 1e-9)
    picture = np.empty((*shade.shape, 4))
    picture[..., :3] = (0.36, 0.49, 0.66)
    picture[..., 3] = np.where(shade > 0, 0.12 + 0.78 * shade, 0.0)
    axes.imshow(
        picture, origin="lower", extent=(x[0], x[-1], y[0], y[-1]), aspect="auto", interpolation="none", zorder=1
    )
    ends = np.array([x[0], x[-1]])
    name = written_row(d) if d.method != "identity" else "ols"
    fit, constant = local_map(d, name), local_map(d, "global_mean")
    if fit is not None:
        axes.plot(ends, fit(ends), color=CALIBRATED, linewidth=2.2, label=f"fit: {fit_title(d.row(name))}")
    if constant is not None:
        axes.plot(
            ends, constant(ends), color=CONSTANT, linestyle=(0, (2, 2)), linewidth=1.8, label="constant: global mean"
        )
    axes.plot(ends, ends, color=INK, linestyle=(0, (6, 2)), linewidth=1.1, label="identity")
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), xlabel=f"prediction, {unit}", ylabel=f"target, {unit}")
    canvas.legend(loc="outside upper left", ncols=2)
    return canvas, _density_finding(d, unit, fit, x, y)


def _density_finding(d: Diagnosis, unit: str, fit: AffineMap | None, x: np.ndarray, y: np.ndarray) -> str:
    parts = [
        f"Pooled r {correlation(summary(d, 'r'))}, within bin {correlation(summary(d, 'r_w'))}; r² is {percent(summary(d, 'r_squared'))}."
    ]
    if fit is not None:
        rise = fit.slope * summary(d, "prediction_sd") / max(summary(d, "target_sd"), 1e-12)
        flat = " It is nearly flat: it answers the target's mean whatever the model says." if abs(rise) < 0.15 else ""
        parts.append(
            f"The fitted line is target = {number(fit.slope)} × prediction {'-' if fit.intercept < 0 else '+'} {number(abs(fit.intercept))} {unit}.{flat}"
        )
    if x[0] > y[-1] or x[-1] < y[0]:
        parts.append("The identity lies outside the picture: prediction and target share no values.")
    parts.append("Denser colour means more values, on a logarithmic scale.")
    return " ".join(parts)


# --- in time ----------------------------------------------------------------------------------------------------


def _lags(d: Diagnosis, unit: str) -> tuple[Canvas, str]:
    del unit
    if d.probe is None or not d.probe.by_lag:
        raise Skip(why_missing(d, "null", "metrics"))
    lags = np.array(sorted(d.probe.by_lag))
    r = np.array([d.probe.by_lag[int(lag)] for lag in lags])
    canvas, axes = new_canvas()
    if d.null is not None:
        axes.axhspan(-d.null.limit, d.null.limit, color=CONSTANT, alpha=0.22, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.bar(lags, r, width=0.62, color=PREDICTION)
    axes.set(
        xlabel="lag, frames (positive: the prediction is late)",
        ylabel="r within bin (no unit)",
        ylim=r_limits(r),
        xticks=lags[::2],
    )
    best = d.probe.best_lag
    at_zero, at_best = d.probe.by_lag.get(0, float("nan")), d.probe.by_lag[best]
    finding = f"r within bin is {correlation(at_zero)} without a shift"
    finding += "; no shift does better." if best == 0 else f" and {correlation(at_best)} at {best:+d} frames, the best."
    if d.null is not None:
        inside = abs(at_best) <= d.null.limit
        finding += f" Unrelated pairs ({d.null.kind}, {d.null.draws} draws) reach {correlation(d.null.limit)}, the grey band{': no lag shows a relation' if inside else ''}."
    return canvas, finding
