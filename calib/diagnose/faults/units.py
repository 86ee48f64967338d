"""Hypotheses of units: which map would turn the prediction into the target's own scale?

A hypothesis is a map with no free parameter where a known constant explains it, and a free one at a price where none
does. The table of constants is that of ``frontends.md`` in the project's research, in ln of magnitude.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.geometry import BankGeometry
from calib.diagnose.faults.score import Stats, Terms

__all__ = ["RANGES", "Hypothesis", "affine_hypotheses", "per_bin_hypotheses"]

_LN10 = math.log(10.0)
_INT16 = math.log(32768.0)

# mel = slope * ln(magnitude) + intercept, before any clip.
RANGES: dict[str, tuple[float, float]] = {
    "Coqui [-4, 4]": (20 / _LN10 * 8 / 100, 8 * (100 - 20) / 100 - 4),
    "[0, 1] of 100 dB, reference 20 dB": (20 / _LN10 / 100, 0.8),
    "[0, 1] of 100 dB": (20 / _LN10 / 100, 1.0),
    "[-1, 1] of 100 dB, reference 20 dB": (20 / _LN10 / 50, 0.6),
    "[0, 4] of 100 dB, reference 20 dB": (20 / _LN10 * 4 / 100, 3.2),
    "Tortoise diffusion [-1, 1]": (0.144641776, 0.665249942),
    "fish-diffusion [-1, 1]": (0.1737176, 1.0),
    "GPT-SoVITS [-1, 1]": (1 / 7, 5 / 7),
    "StyleTTS 2 (ln power + 4) / 4": (0.5, 1.845),
    "Capacitron [-4, 4], gain 25": (0.868588964, 2.4),
}


_BESIDE_COLOUR = {"normalised", "log-base", "decibel", "log-power", "range-normalised", "normalised-twice", "denormalised-twice"}


@dataclass(frozen=True)
class Hypothesis:
    """One map of the prediction with what it would mean.

    Args:
        faults: ids; empty for the identity.
        label: for people.
        terms: the map.
        prior: nats that it costs beside its free parameters.
    """

    faults: tuple[str, ...]
    label: str
    terms: Terms
    prior: float = 0.0


def affine_hypotheses(
    stats: Stats, geometry: BankGeometry, references: list[tuple[str, float, float]], extremes: tuple[float, float]
) -> list[Hypothesis]:
    """Global maps.

    Args:
        stats: of the sample.
        geometry: of the target's front end.
        references: ``(name, mean, sd)`` that a normaliser could have used.
        extremes: lowest and highest target value.
    """
    f = FROZEN
    out = [Hypothesis((), "as it is", Terms(1.0, 0.0))]
    rare = f.rare

    def add(fault: str, label: str, slope: float, intercept: float, slack: float = 0.0, prior: float = 0.0, stretch: float = 0.0) -> None:  # fmt: skip
        out.append(Hypothesis((fault,), label, Terms(slope, intercept, slack=slack, slack_scale=stretch), rare + prior))

    near, drift = f.slack_stats, f.slack_stats_scale
    for name, mean, sd in references:
        if sd <= 0.0:  # of what stands still: nothing was divided by that
            continue
        add("normalised", f"normalised with {name}", sd, mean, near, stretch=drift)
        add("denormalised-twice", f"denormalised once too often with {name}", 1 / sd, -mean / sd, near, stretch=drift)
        add("denormalised-twice", f"denormalised two times too often with {name}", 1 / sd**2, -(mean + mean / sd) / sd, 2 * near, stretch=2 * drift)
        add("normalised-twice", f"normalised twice with {name}", sd * sd, mean * sd + mean, 2 * near, stretch=2 * drift)
        if abs(mean) > 1e-6:
            add("mean-std-swapped", f"mean and sd of {name} exchanged", sd / mean, mean - sd * sd / mean, near, stretch=drift)
    add("log-base", "log10 instead of ln (factor ln 10 = 2.302585)", _LN10, 0.0)
    add("log-base", "ln instead of log10 (factor 1/ln 10 = .434294)", 1 / _LN10, 0.0)
    per_ln = geometry.per_ln if geometry.logarithmic else 1.0
    offset = geometry.post_offset
    for unit, size in (("20 log10", 20 / _LN10), ("10 log10", 10 / _LN10)):
        for reference in (0.0, -20.0):
            text = f"{unit}{f' {reference:+g} dB' if reference else ''} of the magnitude"
            if abs(size - per_ln) > 1e-6:
                add("decibel", f"{text} (factor {size / per_ln:.6g})", per_ln / size, offset - reference * per_ln / size)
            # The target may be what is off, whatever its front end is said to be.
            add("decibel", f"the target is {text}, the prediction ln (factor {size:.6g})", size, reference, prior=1.0)
            add("decibel", f"{text}, the target log10 (factor {size * _LN10:.6g})", 1 / (size * _LN10), -reference / (size * _LN10), prior=1.0)
            add("decibel", f"the target is {text}, the prediction log10 (factor {size * _LN10:.6g})", size * _LN10, reference, prior=1.0)
    power = 2.007 if geometry.area_normalised else 2.07
    shift = (3.38 if geometry.area_normalised else -0.84) * per_ln
    if geometry.power == 1:
        add("log-power", "power instead of magnitude (about a factor 2)", 1 / power, -shift / power, f.slack_power)
        add("log-power", "the square of the magnitude (factor 2)", 0.5, offset / 2)
    if geometry.power == 2:
        add("log-power", "magnitude instead of power (about a factor 1/2)", power, shift, f.slack_power)
    add("log-power", "the root of the target's quantity (factor 1/2)", 2.0, 0.0, prior=1.0)
    for name, (slope, intercept) in RANGES.items():
        if abs(per_ln / slope - 1.0) > 1e-3 or abs(intercept - offset) > 1e-3:
            add("range-normalised", name, per_ln / slope, offset - intercept * per_ln / slope, prior=1.0)
    low, high = extremes
    bottom = low if geometry.floor is None else geometry.floor
    if high > bottom:
        size = high - bottom
        add("range-normalised", "[0, 1] from floor to maximum", size, bottom, f.slack_range, 1.0)
        add("range-normalised", "[-1, 1] from floor to maximum", size / 2, bottom + size / 2, f.slack_range, 1.0)
        add("range-normalised", "[-4, 4] from floor to maximum", size / 8, bottom + size / 2, f.slack_range, 1.0)
    add("sign-flipped", "negated", -1.0, 0.0)
    add("sign-flipped", "negated about the mean", -1.0, stats.m_y * 2, f.slack_stats)
    for sign in (1.0, -1.0):
        add("int16-scale", f"samples {'not ' if sign > 0 else ''}divided by 32768", 1.0, -sign * _INT16 * per_ln)
    out.append(Hypothesis(("gain",), f"{(stats.m_p - stats.m_y) / per_ln * 20 / _LN10:+.1f} dB", Terms(1.0, stats.m_y - stats.m_p, f.free_level, level_free=True), rare))  # fmt: skip
    slope = _free_slope(stats)
    if slope is not None:
        intercept = stats.m_y - slope * stats.m_p
        free = "wrong-stats" if slope > 0 else "sign-flipped"
        out.append(Hypothesis((free,), f"target = {slope:.4g} x prediction {intercept:+.4g}", Terms(slope, intercept, f.free_affine, level_free=True), rare))  # fmt: skip
    return out


def _free_slope(stats: Stats) -> float | None:
    """The slope that the mean spectrum asks for, within what the spread allows ([OLS, moment matching])."""
    var_p, cov = float(stats.var_p.mean()), float(stats.cov.mean())
    if var_p <= 0 or cov == 0:
        return None
    ols, mm = cov / var_p, math.copysign(stats.s_w_y / stats.s_w_p, cov)
    if abs(ols) < 1e-6:
        return None
    low, high = sorted((ols, mm))
    dp = stats.bin_p - stats.bin_p.mean()
    spread = float(dp @ dp)
    wanted = float(dp @ (stats.bin_y - stats.bin_y.mean())) / spread if spread > 0 else mm
    if stats.kind == "mean":
        return ols
    if stats.kind == "sample":
        return mm
    return float(np.clip(wanted, low, high))


def per_bin_hypotheses(
    stats: Stats, references: list[tuple[str, np.ndarray, np.ndarray]], plains: list[Hypothesis]
) -> list[Hypothesis]:
    """Maps that differ by bin or by utterance; ``plains`` are the global ones that may stand beside a colour."""
    f = FROZEN
    out = [
        Hypothesis(("normalised-per-bin",), f"each bin normalised with {name}", Terms(sd, mean, slack=f.slack_stats, slack_pattern=f.slack_stats), f.rare)
        for name, mean, sd in references
    ]  # fmt: skip
    if float(stats.cov.sum()) < 0:
        # Norms of each bin, negative as Tortoise's are: the means give them, the spreads must agree.
        norms = stats.bin_y / np.where(np.abs(stats.bin_p) > 1e-6, stats.bin_p, 1e-6)
        out.append(Hypothesis(("sign-flipped",), "divided by negative norms of each bin", Terms(norms, 0.0, f.free_pattern, pattern_free=True), f.rare))  # fmt: skip
    for plain in plains:
        # A colour beside another unit: the offsets are free, only the spread speaks for the unit.
        slope = np.asarray(plain.terms.slope)
        if plain.faults and slope.ndim == 0 and plain.faults[0] in _BESIDE_COLOUR:
            terms = Terms(slope, stats.bin_y - slope * stats.bin_p, f.free_pattern, pattern_free=True)
            out.append(Hypothesis((*plain.faults, "equaliser"), f"{plain.label}; an offset for each bin", terms, 2 * f.rare))
    offset = stats.bin_y - stats.bin_p
    out.append(Hypothesis(("equaliser",), f"an offset for each bin, sd {float(offset.std()):.2f}", Terms(1.0, offset, f.free_pattern, pattern_free=True), f.rare))  # fmt: skip
    if stats.weight.size >= 4:
        free = f.free_level + f.free_utterance * min(stats.weight.size, 16)
        out.append(Hypothesis(("level-per-utterance",), "an offset for each utterance", Terms(1.0, stats.m_y - stats.m_p, free, level_free=True, utterance_free=True), f.rare))  # fmt: skip
    return out
