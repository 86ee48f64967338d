"""Hypotheses of units: which map would turn the prediction into the target's own scale?

A hypothesis is a map with no free parameter where a known constant explains it, and a free one at a price where none
does. The table of constants is that of ``frontends.md`` in the project's research, in ln of magnitude.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.geometry import BankGeometry
from calib.diagnose.faults.score import Stats, Terms

__all__ = ["RANGES", "Hypothesis", "affine_hypotheses", "per_bin_hypotheses", "scaled_by_bin"]

_LN10 = math.log(10.0)
_INT16 = math.log(32768.0)
_RANGE = re.compile(r"\[(-?\d+), (-?\d+)\]")
_OVER = 0.1  # of a range: a model's predictions overshoot it

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

# Global maps that may stand beside a colour.
_BESIDE_COLOUR = {
    "normalised", "log-base", "decibel", "log-power", "range-normalised", "normalised-twice", "denormalised-twice",
}  # fmt: skip


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
    return [
        Hypothesis((), "as it is", Terms(1.0, 0.0)),
        *_of_statistics(references),
        *_of_logarithms(geometry),
        *_of_powers(geometry),
        *(found for found in _of_ranges(geometry, extremes) if _lies_in(stats, found.label)),
        *_of_signs_and_levels(stats, geometry),
        *_free(stats, geometry),
    ]


def _known(
    fault: str, label: str, slope: float, intercept: float, slack: float = 0.0, prior: float = 0.0, loose: float = 0.0
) -> Hypothesis:
    """A map whose numbers are known.

    Args:
        fault: id.
        label: for people.
        slope: of the map that undoes it.
        intercept: the same.
        slack: how far its level may be off, in sd of the target.
        prior: nats beside those of any fault.
        loose: how far its scale may be off, in ln.
    """
    return Hypothesis((fault,), label, Terms(slope, intercept, slack=slack, slack_scale=loose), FROZEN.rare + prior)


def _of_statistics(references: list[tuple[str, float, float]]) -> Iterator[Hypothesis]:
    """Normalised, normalised twice, denormalised once or twice too often, mean and sd exchanged."""
    near, drift = FROZEN.slack_stats, FROZEN.slack_stats_scale
    for name, mean, sd in references:
        if sd <= 0.0:  # of what stands still: nothing was divided by that
            continue
        yield _known("normalised", f"normalised with {name}", sd, mean, near, loose=drift)
        label = f"denormalised two times too often with {name}"
        yield _known("denormalised-twice", label, 1 / sd**2, -(mean + mean / sd) / sd, 2 * near, loose=2 * drift)
        # The second time statistics of mels are taken from values of sd 1, so that what they drift by counts sd times.
        slack = math.hypot(near, near * sd, drift * mean)
        label = f"normalised twice with {name}"
        yield _known("normalised-twice", label, sd * sd, mean * sd + mean, slack, loose=2 * drift)
        label = f"denormalised once too often with {name}"
        yield _known("denormalised-twice", label, 1 / sd, -mean / sd, near, loose=drift)
        if abs(mean) > 1e-6:
            label = f"mean and sd of {name} exchanged"
            yield _known("mean-std-swapped", label, sd / mean, mean - sd * sd / mean, near, loose=drift)


def _of_logarithms(geometry: BankGeometry) -> Iterator[Hypothesis]:
    """Natural logarithm against log10, and decibels against either, on either side."""
    yield _known("log-base", "log10 instead of ln (factor ln 10 = 2.302585)", _LN10, 0.0)
    yield _known("log-base", "ln instead of log10 (factor 1/ln 10 = .434294)", 1 / _LN10, 0.0)
    per_ln, offset = geometry.unit, geometry.post_offset
    for unit, size in (("20 log10", 20 / _LN10), ("10 log10", 10 / _LN10)):
        for reference in (0.0, -20.0):
            text = f"{unit}{f' {reference:+g} dB' if reference else ''} of the magnitude"
            if abs(size - per_ln) > 1e-6:
                back = per_ln / size
                yield _known("decibel", f"{text} (factor {size / per_ln:.6g})", back, offset - reference * back)
            # The target may be what is off, whatever its front end is said to be.
            tens = size * _LN10
            for label, slope, intercept in (
                (f"the target is {text}, the prediction ln (factor {size:.6g})", size, reference),
                (f"{text}, the target log10 (factor {tens:.6g})", 1 / tens, -reference / tens),
                (f"the target is {text}, the prediction log10 (factor {tens:.6g})", tens, reference),
            ):
                yield _known("decibel", label, slope, intercept, prior=1.0)


def _of_powers(geometry: BankGeometry) -> Iterator[Hypothesis]:
    """Power against magnitude: nearly a straight line, and another one for a square taken after the bank."""
    slope, shift = geometry.to_power
    shift *= geometry.unit / geometry.power  # the shift is that of ln power
    if geometry.power == 1:
        label = "power instead of magnitude (about a factor 2)"
        yield _known("log-power", label, 1 / slope, -shift / slope, FROZEN.slack_power)
        yield _known("log-power", "the square of the magnitude (factor 2)", 0.5, geometry.post_offset / 2)
    if geometry.power == 2 or not geometry.declared:
        label = "magnitude instead of power (about a factor 1/2)"
        yield _known("log-power", label, slope, shift, FROZEN.slack_power, prior=0.0 if geometry.declared else 1.0)
    yield _known("log-power", "the root of the target's quantity (factor 1/2)", 2.0, 0.0, prior=1.0)


def _of_ranges(geometry: BankGeometry, extremes: tuple[float, float]) -> Iterator[Hypothesis]:
    """The fixed ranges of known systems, and those from the floor to the largest value."""
    per_ln, offset = geometry.unit, geometry.post_offset
    for name, (slope, intercept) in RANGES.items():
        if abs(per_ln / slope - 1.0) > 1e-3 or abs(intercept - offset) > 1e-3:
            yield _known("range-normalised", name, per_ln / slope, offset - intercept * per_ln / slope, prior=1.0)
    low, high = extremes
    bottom = low if geometry.floor is None else geometry.floor
    size = high - bottom
    if size > 0:
        for label, slope, intercept in (
            ("[0, 1]", size, bottom),
            ("[-1, 1]", size / 2, bottom + size / 2),
            ("[-4, 4]", size / 8, bottom + size / 2),
        ):
            text = f"{label} from floor to maximum"
            yield _known("range-normalised", text, slope, intercept, FROZEN.slack_range, prior=1.0)


def _lies_in(stats: Stats, label: str) -> bool:
    """Whether the prediction's mean spectrum lies in the range that a label names, but for a tenth of it."""
    named = _RANGE.search(label)
    if named is None:
        return True
    low, high = (float(text) for text in named.groups())
    reach, spectrum = _OVER * (high - low), stats.bin_p[stats.alive]
    return bool(low - reach <= spectrum.min() and spectrum.max() <= high + reach)


def _of_signs_and_levels(stats: Stats, geometry: BankGeometry) -> Iterator[Hypothesis]:
    """Negated, and samples that were not divided by 32768."""
    yield _known("sign-flipped", "negated", -1.0, 0.0)
    yield _known("sign-flipped", "negated about the mean", -1.0, stats.m_y * 2, FROZEN.slack_stats)
    for sign, what in ((1.0, "not divided"), (-1.0, "divided")):
        yield _known("int16-scale", f"samples {what} by 32768", 1.0, -sign * _INT16 * geometry.unit)


def _free(stats: Stats, geometry: BankGeometry) -> Iterator[Hypothesis]:
    """A fitted offset, and a fitted scale and offset."""
    f = FROZEN
    label = f"{(stats.m_p - stats.m_y) / geometry.unit * 20 / _LN10:+.1f} dB"
    yield Hypothesis(("gain",), label, Terms(1.0, stats.m_y - stats.m_p, f.free_level, level_free=True), f.rare)
    slope = _free_slope(stats)
    if slope is not None:
        intercept = stats.m_y - slope * stats.m_p
        label = f"target = {slope:.4g} x prediction {intercept:+.4g}"
        terms = Terms(slope, intercept, f.free_affine, level_free=True)
        yield Hypothesis(("wrong-stats" if slope > 0 else "sign-flipped",), label, terms, f.rare)


def scaled_by_bin(stats: Stats, name: str, mean: np.ndarray, sd: np.ndarray) -> list[Hypothesis]:
    """A fitted scale and offset of predictions that were normalised by bin: in mels, an offset that differs by bin.

    With z the prediction, ``y = s (c z + d) + m``; the prediction came here as ``p = s z + m``, so that
    ``y = c p + m (1 - c) + s d``.

    Args:
        stats: of the sample.
        name: of the statistics that the predictions were denormalised with.
        mean: those statistics, ``(M,)``.
        sd: the same.
    """
    slope = _free_slope(stats)
    if slope is None or slope <= 0:
        return []
    shift = float(((stats.bin_y - slope * stats.bin_p - mean * (1.0 - slope)) / sd).mean())
    label = f"target = {slope:.4g} x prediction {shift:+.4g}, in the space normalised by bin with {name}"
    terms = Terms(slope, mean * (1.0 - slope) + sd * shift, FROZEN.free_affine, level_free=True)
    return [Hypothesis(("wrong-stats",), label, terms, FROZEN.rare)]


def _free_slope(stats: Stats) -> float | None:
    """The slope that the mean spectrum asks for, within what the spread allows ([OLS, moment matching])."""
    var_p, cov = float(stats.var_p.mean()), float(stats.cov.mean())
    if var_p <= 0 or cov == 0:
        return None
    ols, mm = cov / var_p, math.copysign(stats.s_w_y / stats.s_w_p, cov)
    if abs(ols) < 1e-12:
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
    """Maps that differ by bin or by utterance.

    Args:
        stats: of the sample.
        references: ``(name, means, sds)`` of each bin, ``(M,)``, that a normaliser could have used.
        plains: global maps that may stand beside a colour.
    """
    f = FROZEN
    out = []
    for name, mean, sd in references:
        terms = Terms(sd, mean, slack=f.slack_stats, slack_pattern=f.slack_stats)
        out.append(Hypothesis(("normalised-per-bin",), f"each bin normalised with {name}", terms, f.rare))
    if float(stats.cov.sum()) < 0:
        # Norms of each bin, negative as Tortoise's are: the means give them, the spreads must agree.
        least = 1e-6 * stats.s_w_p
        norms = stats.bin_y / np.where(np.abs(stats.bin_p) > least, stats.bin_p, least)
        terms = Terms(norms, 0.0, f.free_pattern, pattern_free=True)
        out.append(Hypothesis(("sign-flipped",), "divided by negative norms of each bin", terms, f.rare))
    for plain in plains:
        # A colour beside another unit: the offsets are free, only the spread speaks for the unit.
        slope = np.asarray(plain.terms.slope)
        if plain.faults and slope.ndim == 0 and plain.faults[0] in _BESIDE_COLOUR:
            terms = Terms(slope, stats.bin_y - slope * stats.bin_p, f.free_pattern, pattern_free=True)
            label = f"{plain.label}; an offset for each bin"
            out.append(Hypothesis((*plain.faults, "equaliser"), label, terms, 2 * f.rare))
    factor = _free_slope(stats)
    if factor is not None and factor > 0:  # shrunk or stretched about each bin's own mean
        label = f"{factor:.3g} times as far from each bin's mean"
        terms = Terms(
            factor, stats.bin_y - factor * stats.bin_p, f.free_pattern + f.free_affine - f.free_level, pattern_free=True
        )
        out.append(Hypothesis(("shrunken",), label, terms, f.rare))
    offset = stats.bin_y - stats.bin_p
    label = f"an offset for each bin, sd {float(offset.std()):.2f}"
    terms = Terms(1.0, offset, f.free_pattern, pattern_free=True)
    out.append(Hypothesis(("equaliser",), label, terms, f.rare))
    if stats.weight.size >= 4:
        free = f.free_level + f.free_utterance * min(stats.weight.size, 16)
        terms = Terms(1.0, stats.m_y - stats.m_p, free, level_free=True, utterance_free=True)
        out.append(Hypothesis(("level-per-utterance",), "an offset for each utterance", terms, f.rare))
    return out
