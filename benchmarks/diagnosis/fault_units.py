"""Faults of units: the same mel on another scale, offset, or curve; changes of the arrays after the prediction.

Constants are those of the systems named (``shared/research/frontends.md``, from their own sources), for x = ln of a
magnitude mel::

    Tacotron 2 (Rayhane)     8 ((20 log10 m - 20 + 100) / 100) - 4, cut to [-4, 4]
    keithito, WaveRNN        (20 log10 m - 20 + 100) / 100,         cut to [0, 1]
    r9y9, MelGAN             2 (20 log10 m + 100) / 100 - 1,        cut to [-1, 1]
    Coqui (default)          0.694871171 x + 2.4,                   cut to [-4, 4]
    GPT-SoVITS v3            x / 7 + 5 / 7
    Tortoise diffusion       0.144641776 x + 0.665249942
"""

# ruff: noqa: ARG001 - every injector has the same signature
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.diagnosis.plan import Arrays, Context, Injector, Plan, each

__all__ = ["UNIT_FAULTS"]

_BOTH = ("prediction", "target")
_DB = 20.0 / math.log(10.0)
# Slope and offset for x = ln m, and the limits.
_RANGES: tuple[tuple[tuple[float, float, float, float], ...], ...] = (
    ((0.694871171, 2.4, -4.0, 4.0), (8 * _DB / 100, 2.4, -4.0, 4.0)),
    ((_DB / 100, 0.8, 0.0, 1.0), (_DB / 100, 1.0, 0.0, 1.0)),
    ((2 * _DB / 100, 1.0, -1.0, 1.0), (2 * _DB / 100, 0.6, -1.0, 1.0)),
    ((1 / 7, 5 / 7, -1.0, math.inf), (0.144641776, 0.665249942, -1.0, math.inf)),
)
# How far the statistics that were used are from those of these pairs: (sd of the mean in sd, sd of ln sd).
_DRIFT = ((0.0, 0.0), (0.03, 0.01), (0.06, 0.03), (0.12, 0.06))
_DRIFT_NAMES = (
    "statistics of these pairs",
    "off by about 0.03 sd and 1 %",
    "by 0.06 sd and 3 %",
    "by 0.12 sd and 6 %",
)


def _with_statistics(
    change: Callable[[np.ndarray, Any, Any], np.ndarray], *, per_bin: bool = False
) -> Callable[[Plan, tuple[float, float], str, np.random.Generator], None]:
    """A change that uses the training set's mean and sd, which drift a little from these pairs'."""

    def apply(plan: Plan, drift: tuple[float, float], side: str, rng: np.random.Generator) -> None:
        size = 80 if per_bin else 1
        offsets, factors = rng.normal(0.0, drift[0], size), np.exp(rng.normal(0.0, drift[1], size))

        def changed(arrays: Arrays, context: Context) -> Arrays:
            s = context.statistics
            mean = (s.bin_mean if per_bin else s.mean) + offsets * s.std
            std = (s.bin_std if per_bin else s.std) * factors
            return [change(x, mean, std) for x in arrays]

        plan.after(side).append(changed)

    return apply


def _wrong_statistics(plan: Plan, value: tuple[float, float], side: str, rng: np.random.Generator) -> None:
    """Denormalised with another dataset's statistics: mean and sd off by about these amounts, either way."""
    shift = value[0] * rng.uniform(0.7, 1.3) * rng.choice((-1, 1))
    factor = math.exp(value[1] * rng.uniform(0.7, 1.3) * rng.choice((-1, 1)))

    def changed(arrays: Arrays, context: Context) -> Arrays:
        mean = context.statistics.mean
        return [(x - mean) * factor + mean + shift for x in arrays]

    plan.after(side).append(changed)


def _shrunken(plan: Plan, factor: float, side: str, rng: np.random.Generator) -> None:
    """Blended with the training set's mean spectrum."""

    def changed(arrays: Arrays, context: Context) -> Arrays:
        mean = context.statistics.bin_mean
        return [mean + factor * (x - mean) for x in arrays]

    plan.after(side).append(changed)


def _logarithm(plan: Plan, _: None, side: str, rng: np.random.Generator) -> None:
    plan.after(side).append(each(lambda x: x / math.log(10.0)))


def _decibels(plan: Plan, value: str, side: str, rng: np.random.Generator) -> None:
    """20 log10 on one side against ln, against log10, or with a reference level of 20 dB."""
    if value == "log10":
        other = "target" if side == "prediction" else "prediction"
        plan.after(other).append(each(lambda x: x / math.log(10.0)))
    offset = -20.0 if value == "reference" else 0.0
    plan.after(side).append(each(lambda x: x * _DB + offset))


def _ranged(
    plan: Plan, choices: tuple[tuple[float, float, float, float], ...], side: str, rng: np.random.Generator
) -> None:
    slope, offset, low, high = choices[int(rng.integers(len(choices)))]
    plan.low = lambda _: (low - offset) / slope
    if math.isfinite(high):
        plan.high = lambda _: (high - offset) / slope
    plan.after(side).append(each(lambda x: slope * x + offset))


def _own_range(plan: Plan, value: tuple[float, float, bool], side: str, rng: np.random.Generator) -> None:
    """Mapped to [low, high] by the range of each utterance's true mel, or of the prediction itself."""
    low, high, of_prediction = value

    def changed(arrays: Arrays, context: Context) -> Arrays:
        ranges = arrays if of_prediction else context.own
        return [(x - r.min()) / (r.max() - r.min()) * (high - low) + low for x, r in zip(arrays, ranges, strict=True)]

    plan.after(side).append(changed)


def _clipped(plan: Plan, share: float, side: str, rng: np.random.Generator) -> None:
    """A ceiling that ``share`` of the true cells exceed: cut in training, or only at the output."""

    def edge(context: Context) -> float:
        return float(np.quantile(np.concatenate(context.own), 1.0 - share))

    if rng.random() < 0.5:
        plan.high = edge
    else:
        plan.after_prediction.append(lambda arrays, context: [np.minimum(x, edge(context)) for x in arrays])


def _flipped_sign(plan: Plan, value: str, side: str, rng: np.random.Generator) -> None:
    """A negated mel, or one divided by negative norms of each bin (Tortoise, XTTS), or standardised and negated."""
    if value == "norms":
        norms = -np.exp(rng.normal(1.6, 0.12, 80))
        plan.after(side).append(each(lambda x: x / norms))
        return

    def changed(arrays: Arrays, context: Context) -> Arrays:
        if value == "negated":
            return [-x for x in arrays]
        return [-(x - context.statistics.mean) + context.statistics.mean for x in arrays]

    plan.after(side).append(changed)


def _linear(plan: Plan, value: float, side: str, rng: np.random.Generator) -> None:
    plan.after(side).append(each(lambda x: np.exp(np.minimum(value * x, 30.0))))


_STATISTICS = {
    "normalised": _with_statistics(lambda x, mean, std: (x - mean) / std),
    "normalised-twice": _with_statistics(lambda x, mean, std: ((x - mean) / std - mean) / std),
    "denormalised-twice": _with_statistics(lambda x, mean, std: (x * std + mean) * std + mean),
    "mean-std-swapped": _with_statistics(lambda x, mean, std: (x - mean) / std * mean + std),
}


def _drifting(plan: Plan, value: tuple[str, float], side: str, rng: np.random.Generator) -> None:
    """The level moves along a straight line in dB, up or down: so far in every utterance, or so fast."""
    way, size = value
    size = size / _DB * rng.choice((-1.0, 1.0))

    def drifted(x: np.ndarray) -> np.ndarray:
        t = np.arange(len(x), dtype=np.float64)
        line = t / max(len(x) - 1, 1) if way == "whole" else t * (256.0 / 22050.0)
        return np.asarray(x + size * line[:, None])

    plan.after(side).append(each(drifted))


UNIT_FAULTS: dict[str, Injector] = {
    "level-drift": Injector(
        ("4 dB from start to end", "1.5 dB a second", "10 dB from start to end", "4 dB a second"),
        (("whole", 4.0), ("second", 1.5), ("whole", 10.0), ("second", 4.0)),
        _drifting,
        sides=_BOTH,
        least=4,
    ),
    **{name: Injector(_DRIFT_NAMES, _DRIFT, apply) for name, apply in _STATISTICS.items()},
    "normalised-per-bin": Injector(
        _DRIFT_NAMES, _DRIFT, _with_statistics(lambda x, mean, std: (x - mean) / std, per_bin=True)
    ),
    "log-base": Injector(("log10 against ln",) * 4, (None,) * 4, _logarithm, sides=_BOTH),
    "decibel": Injector(
        ("20 log10 against ln", "20 log10 against ln", "20 log10 against log10", "20 log10 - 20 against ln"),
        ("ln", "ln", "log10", "reference"),
        _decibels,
        sides=_BOTH,
    ),
    "range-normalised": Injector(
        ("[-4, 4] (Coqui, Rayhane)", "[0, 1]", "[-1, 1]", "GPT-SoVITS, Tortoise diffusion"), _RANGES, _ranged
    ),
    "minmax-per-utterance": Injector(
        (
            "[-4, 4] by the true range",
            "[-1, 1] by the true range",
            "[0, 1] by the true range",
            "[0, 1] by its own range",
        ),
        ((-4.0, 4.0, False), (-1.0, 1.0, False), (0.0, 1.0, False), (0.0, 1.0, True)),
        _own_range,
        least=4,
    ),
    "wrong-stats": Injector(
        ("mean off by 0.4, sd by 10 %", "by 0.8 and 20 %", "by 1.5 and 35 %", "by 2.5 and 60 %"),
        ((0.4, 0.1), (0.8, 0.2), (1.5, 0.35), (2.5, 0.6)),
        _wrong_statistics,
    ),
    "shrunken": Injector(("by 0.75", "by 0.6", "by 0.45", "by 0.3"), (0.75, 0.6, 0.45, 0.3), _shrunken),
    "sign-flipped": Injector(
        ("negated about the mean", "negated", "negated", "divided by negative norms"),
        ("centred", "negated", "negated", "norms"),
        _flipped_sign,
    ),
    "log-missing": Injector(
        ("magnitude against ln", "magnitude against ln", "power against ln", "power against ln"),
        (1.0, 1.0, 2.0, 2.0),
        _linear,
        sides=_BOTH,
    ),
    "clipped": Injector(("4 % of the cells", "8 %", "15 %", "30 %"), (0.04, 0.08, 0.15, 0.3), _clipped),
}
