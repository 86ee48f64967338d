"""Error by bin against the bin's own constant, over-smoothing (modulation spectrum, global variance), Taylor's diagram."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from calib.diagnose.analysis import Diagnosis
from calib.report.canvas import WIDTH, Skip, new_canvas, why_missing
from calib.report.svg import CALIBRATED, CONSTANT, GRID, INK, PREDICTION, TARGET
from calib.report.wording import correlation, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = ["after_within", "bin_errors", "decibel", "modulation", "signed", "taylor", "variances"]

_DB_PER_NAT = 10.0 / np.log(10.0)
_FLOOR_DB = -40.0


def decibel(nats: float) -> float:
    """A log variance ratio in dB."""
    return float(_DB_PER_NAT * nats)


def signed(value: float, digits: int = 1) -> str:
    """With its sign; what rounds to 0 has none."""
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def bin_errors(d: Diagnosis, unit: str) -> tuple[Canvas, str]:
    """RMSE of each bin after the fit, in sample, beside what the bin's own mean leaves: its standard deviation."""
    if not d.per_bin or "r" not in d.per_bin:
        raise Skip(why_missing(d, "per_bin", "metrics"))
    error, constant = _bin_rmse(d), np.asarray(d.per_bin["target_sd"], dtype=float)
    canvas, axes = new_canvas()
    bins = np.arange(d.n_mels)
    label, colour = ("as it is", PREDICTION) if d.method == "identity" else ("after the fit", CALIBRATED)
    axes.plot(bins, error, color=colour, label=label)
    axes.plot(bins, constant, color=CONSTANT, linestyle=(0, (2, 2)), label="constant: the bin's mean")
    axes.set(xlabel="mel bin, low to high", ylabel=f"RMSE, {unit}", xlim=(0, max(d.n_mels - 1, 1)))
    axes.set_ylim(bottom=0)
    canvas.legend(loc="outside upper left", ncols=2)
    good = np.isfinite(error) & (constant > 0)
    if not good.any():
        return canvas, "No bin has an error to compare with its constant."
    worth = float(np.mean(error[good] <= 0.95 * constant[good]))
    ratio = float(np.sqrt((error[good] ** 2).mean() / (constant[good] ** 2).mean()))
    return canvas, (
        f"RMSE in sample is {number(ratio)} times what each bin's own mean leaves; {percent(worth)} of the bins are at least 5 % better than that constant."
    )


def _bin_rmse(d: Diagnosis) -> np.ndarray:
    """From the moments of each bin: ``bias² + s_c² + s_y² - 2 r s_c s_y``."""
    b = {key: np.asarray(value, dtype=float) for key, value in d.per_bin.items()}
    slope = np.sign(np.broadcast_to(d.calibration.slopes, b["r"].shape)) if d.method != "identity" else 1.0
    s_c, s_y = b["calibrated_sd"], b["target_sd"]
    r = np.nan_to_num(slope * b["r"])
    squared = (b["calibrated_mean"] - b["target_mean"]) ** 2 + s_c**2 + s_y**2 - 2.0 * r * s_c * s_y
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def modulation(d: Diagnosis, unit: str) -> tuple[Canvas, str]:
    """Level of prediction over target by modulation frequency, in dB."""
    del unit
    if "before" not in d.modulation:
        raise Skip(why_missing(d, "modulation spectrum before the calibration", "metrics"))
    canvas, axes = new_canvas()
    curves = {"before": ("prediction", PREDICTION, "-"), "after": ("after the fit", CALIBRATED, (0, (5, 1.5)))}
    axes.axhline(0, color=TARGET, label="target")
    lowest = 0.0
    for key, (label, colour, style) in curves.items():
        if key not in d.modulation or (key == "after" and d.method == "identity"):
            continue
        spectra = d.modulation[key].spectra
        level = np.maximum(np.nan_to_num(spectra.level, nan=_FLOOR_DB), _FLOOR_DB)
        lowest = min(lowest, float(level.min()))
        axes.plot(spectra.frequencies, level, color=colour, label=label, linestyle=style)
    spectra = d.modulation["before"].spectra
    name = "modulation frequency, Hz" if spectra.unit == "Hz" else "modulation frequency, cycles a frame"
    axes.set(xlabel=name, ylabel="over the target, dB", xlim=(0, float(spectra.frequencies[-1])))
    if lowest <= _FLOOR_DB:
        axes.set_ylim(bottom=_FLOOR_DB - 2)
    canvas.legend(loc="outside upper left", ncols=3)
    return canvas, _modulation_finding(d)


def _modulation_finding(d: Diagnosis) -> str:
    def levels(key: str) -> tuple[float, float]:
        bands = d.modulation[key].bands
        return bands[0].level, bands[-1].level

    bands = d.modulation["before"].bands
    if not bands:
        return "0 dB: it moves as much as the target."
    slow, fast = levels("before")
    unit = "Hz" if d.modulation["before"].spectra.unit == "Hz" else "cycles a frame"
    text = f"0 dB: it moves as much as the target. As it is, {signed(slow)} dB at {bands[0].low:g} to {bands[0].high:g} {unit} and {signed(fast)} dB at {bands[-1].low:g} to {bands[-1].high:g}"
    if "after" in d.modulation and d.method != "identity":
        slow, fast = levels("after")
        text += f"; after the fit {signed(slow)} and {signed(fast)} dB"
    said = " Fast changes are lost more than slow ones: over-smooth in time." if fast < slow - 3 else ""
    return f"{text}.{said}" + (
        f" Levels below {_FLOOR_DB:g} dB are drawn there." if min(slow, fast) < _FLOOR_DB else ""
    )


def variances(d: Diagnosis, unit: str) -> tuple[Canvas, str]:
    """Variance of each bin over the target's, in dB, before and after."""
    del unit
    if "before" not in d.global_variance or not d.per_bin:
        raise Skip(why_missing(d, "global variance before the calibration", "metrics"))
    canvas, axes = new_canvas()
    bins = np.arange(d.n_mels)
    axes.axhline(0, color=TARGET, label="target")
    drawn: list[tuple[str, str, str, str, Any]] = [("before", "prediction", "prediction", PREDICTION, "-")]
    if d.method != "identity":
        drawn.append(("after", "calibrated", "after the fit", CALIBRATED, (0, (5, 1.5))))
    parts, lowest = [], 0.0
    for key, name, label, colour, style in drawn:
        with np.errstate(divide="ignore", invalid="ignore"):
            level = 20.0 * np.log10(np.asarray(d.per_bin[f"{name}_sd"]) / np.asarray(d.per_bin["target_sd"]))
        level = np.maximum(np.nan_to_num(level, nan=_FLOOR_DB, neginf=_FLOOR_DB, posinf=-_FLOOR_DB), _FLOOR_DB)
        lowest = min(lowest, float(level.min()))
        axes.plot(bins, level, color=colour, label=label, linestyle=style)
        if key in d.global_variance:
            gv = d.global_variance[key].corpus
            parts.append(
                f"{signed(decibel(gv))} dB (ln of the ratio {signed(gv, 2)}) {'as it is' if key == 'before' else 'after the fit'}"
            )
    axes.set(xlabel="mel bin, low to high", ylabel="over the target, dB", xlim=(0, max(d.n_mels - 1, 1)))
    if lowest <= _FLOOR_DB:
        axes.set_ylim(bottom=_FLOOR_DB - 2)
    canvas.legend(loc="outside upper left", ncols=3)
    return canvas, (
        f"Global variance, mean over bins of the log variance ratio: {', '.join(parts)}; 0 is as lively as the target, below 0 over-smooth."
        f"{_by_utterance(d)}"
    )


def _by_utterance(d: Diagnosis) -> str:
    key = "before" if d.method == "identity" else "after"
    values = np.asarray(d.global_variance[key].utterances if key in d.global_variance else [], dtype=float)
    values = values[np.isfinite(values)]
    if values.size < 2:
        return ""
    return f" {'As it is' if key == 'before' else 'After the fit'}, {percent(float((values < 0).mean()))} of the utterances vary less than their target."


def after_within(d: Diagnosis) -> tuple[float, float] | None:
    """``(sd ratio, r)`` within bins after the fit, from the moments of each bin; None where they are not defined."""
    if not d.per_bin or "r" not in d.per_bin:
        return None
    s_c, s_y = (np.asarray(d.per_bin[f"{name}_sd"], dtype=float) for name in ("calibrated", "target"))
    sign = np.sign(np.broadcast_to(d.calibration.slopes, s_c.shape))
    r = np.nan_to_num(sign * np.asarray(d.per_bin["r"], dtype=float))
    all_c, all_y = float((s_c**2).sum()), float((s_y**2).sum())
    if not (all_c > 0 and all_y > 0):
        return None
    return float(np.sqrt(all_c / all_y)), float((r * s_c * s_y).sum() / np.sqrt(all_c * all_y))


def taylor(d: Diagnosis, unit: str) -> tuple[Canvas, str]:
    """Taylor's diagram: angle is correlation, radius the sd over the target's, distance to the target the centred RMSE."""
    del unit
    if not d.taylor:
        raise Skip(why_missing(d, "Taylor diagram", "metrics"))
    from matplotlib.figure import Figure as New

    within, pooled = d.taylor["within"], d.taylor["pooled"]
    after = None if d.method == "identity" else after_within(d)
    points = [("prediction, within bins", within.sd_ratio, within.r, PREDICTION, "o", True)]
    if after is not None:
        points.append(("after the fit, within bins", *after, CALIBRATED, "o", True))
    points.append(("prediction, pooled", pooled.sd_ratio, pooled.r, PREDICTION, "s", False))
    reach = min(max(1.4, *(1.12 * radius for _, radius, *_ in points)), 3.0)
    canvas = New(figsize=(WIDTH, 3.6), layout="constrained")
    axes = canvas.add_subplot()
    half = any(r < -0.05 for _, _, r, *_ in points)
    _arcs(axes, reach, half=half)
    for label, radius, r, colour, marker, filled in points:
        at = min(radius, reach)
        axes.plot(
            at * r, at * np.sqrt(max(1.0 - r * r, 0.0)), marker, color=colour, label=label, markersize=8,
            markerfacecolor=colour if filled else "none", markeredgewidth=1.8, linestyle="none", zorder=4, clip_on=False,
        )  # fmt: skip
    axes.plot(1, 0, "*", color=TARGET, markersize=13, label="target", linestyle="none", zorder=5, clip_on=False)
    axes.plot(0, 0, "X", color=CONSTANT, markersize=9, label="any constant", linestyle="none", zorder=5, clip_on=False)
    canvas.legend(loc="outside lower center", ncols=2)
    text = f"Nearer the star is better. Within bins the prediction has {number(within.sd_ratio)} times the target's spread and r {correlation(within.r)}"
    if after is not None:
        text += f"; after the fit {number(after[0])} times and r {correlation(after[1])}: a scale moves a point along its ray and never nearer in angle"
    outside = [label for label, radius, *_ in points if radius > reach]
    return canvas, text + "." + (f" Drawn at the edge, being outside: {', '.join(outside)}." if outside else "")


def _arcs(axes: Axes, reach: float, *, half: bool) -> None:
    """Rays of correlation, arcs of spread, and circles of centred RMSE about the target."""
    angles = np.linspace(0, np.pi if half else np.pi / 2, 90)
    for radius in (0.5, 1.0, *((1.5, 2.0, 2.5, 3.0) if reach > 1.4 else ())):
        if radius <= reach:
            axes.plot(
                radius * np.cos(angles), radius * np.sin(angles), color=INK if radius == 1 else GRID, linewidth=0.8
            )
    for r in (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, *((-0.5, -0.9) if half else ())):
        x, y = reach * r, reach * np.sqrt(1 - r * r)
        axes.plot([0, x], [0, y], color=GRID, linewidth=0.6)
        axes.annotate(f"{r:g}", (x, y), (1.03 * x, 1.03 * y), color=INK, fontsize=8, annotation_clip=False)
    for distance in (0.25, 0.5, 0.75):
        x, y = 1 + distance * np.cos(2 * angles), distance * np.sin(2 * angles)
        inside = (np.hypot(x, y) <= reach) & (y >= 0)
        axes.plot(x[inside], y[inside], color=CONSTANT, linewidth=0.7, linestyle=(0, (2, 2)))
    axes.set(
        xlim=(-reach if half else -0.03 * reach, 1.08 * reach), ylim=(-0.03 * reach, 1.1 * reach), aspect="equal",
        xlabel="sd / the target's; on the arc: r",
    )  # fmt: skip
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_yticks([])
    axes.tick_params(length=0)
