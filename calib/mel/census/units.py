"""Answers about mels: bins, unit, floor.

Conventions:
    Levels are in dB. ``loudest`` is a bound that no audio within [-1, 1] exceeds: by Parseval the power of a windowed
    frame sums to at most N Σw², and a filter b gives at most max(b) times that (power) or, by Cauchy and Schwarz,
    sqrt(Σb²) times its root (magnitude). Measured on seven corpora of speech (6 languages and qualities, 10 front
    ends): the largest mel value lies 9 dB or more below it, the mean 59 dB or more, and 99.8 % of the values span
    90 dB or more, unless a raised floor cuts them off.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from calib.mel.census.findings import Finding, Levels, Rule, View, spread
from calib.mel.frontend import FrontEnd

__all__ = [
    "ANSWERS",
    "BEYOND_LEVELS",
    "LEAST_MIXED",
    "MIXED",
    "MIXED_LEVELS",
    "WHOLE",
    "WHOLE_LEVELS",
    "beyond",
    "domain",
    "loudest",
    "mixed",
]

_SPAN_DB, _MEAN_DB = 50.0, 40.0
_AT_FLOOR = 0.01  # share of values above which the floor, not the unit, may be why the span is small
_LOG = "a log mel"
_SCALE, _SHIFT = 1.8, 2.5  # a factor on the sd; a distance of the means in sd
BEYOND_LEVELS = Levels(fail=0)
WHOLE, WHOLE_LEVELS = Rule("whole numbers only (1: yes)", ">", 0), Levels(fail=0)
LEAST_MIXED = 3  # mels
MIXED = Rule(f"distance from the median mel (1: sd {_SCALE:g} times, or mean {_SHIFT:g} sd away)", ">", 1.0)
MIXED_LEVELS = Levels(warn=0, fail=2)


def loudest(frontend: FrontEnd) -> float | None:
    """An upper bound of the mel values of audio within [-1, 1], in the mel's unit; None if the front end normalises."""
    fe = frontend
    if fe.post_mean is not None or fe.post_std is not None or fe.utterance_norm is not None or fe.post_scale < 0:
        return None
    gain = (fe.peak_norm or 1.0) * (1.0 + abs(fe.preemphasis))
    power = fe.n_fft * float((fe.window_array() ** 2).sum()) * gain**2 + (fe.n_fft // 2 + 1) * fe.spectrum_eps
    basis = fe.basis().astype(np.float64)
    value = basis.max() * power if fe.power == 2 else math.sqrt((basis**2).sum(axis=1).max() * power)
    if fe.log != "none":
        value = fe.log_multiplier * math.log(value + fe.log_eps) / (math.log(10.0) if fe.log == "log10" else 1.0)
    value = value * fe.post_scale + fe.post_offset
    return float(value if fe.clip_max is None else min(value, fe.clip_max))


def _bins(view: View) -> Finding:
    sizes = view["bins"]
    counts = Counter(sizes[np.isfinite(sizes)].astype(int).tolist())
    if not counts:
        return view.skip("bins", view.no_mel)
    fe = view.frontend
    usual = fe.n_mels if fe is not None else max(counts, key=lambda size: (counts[size], size))
    turned = int(((sizes != usual) & (view["frames"] == usual)).sum())
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    words = ", ".join(f"{size} bins in {count}" for size, count in ordered[:5])
    return view.count(
        "bins",
        np.abs(sizes - usual),
        Rule(f"difference from {usual}", ">", 0, "bins"),
        Levels(fail=0),
        absent=view.no_mel,
        summary=words + (f"; {turned} look transposed" if turned else ""),
        extra={"mels_by_bins": {str(size): count for size, count in sorted(counts.items())}, "transposed": turned},
    )


def _mel_scale(view: View) -> Finding:
    if not view.stored.any():
        return view.skip("mel-scale", "no stored mels")
    if view.frontend is None:
        return view.skip("mel-scale", "the unit of the mels is unknown: give --frontend")
    bound = loudest(view.frontend)
    if bound is None:
        return view.skip("mel-scale", "the front end normalises, so that its values have no loudest")
    values = np.where(view.stored & ~(view["spread"] <= 0), view["high"], math.nan)
    return view.count(
        "mel-scale",
        values,
        beyond(bound, view.frontend),
        BEYOND_LEVELS,
        absent="no mel could be read",
        summary=spread(values, f"({view.unit})", "largest value "),
    )


def beyond(bound: float, frontend: FrontEnd) -> Rule:
    """Which largest value of a mel no audio gives; ``bound`` is `loudest`."""
    return Rule("largest value", ">", bound, f"{frontend.unit}, the loudest that audio in [-1, 1] can give")


def _whole_numbers(view: View) -> Finding:
    if not view.stored.any():
        return view.skip("whole-numbers", "no stored mels")
    # All-zero and other constant mels are whole too, and counted elsewhere.
    values = np.where(view.varied, view["integral"], math.nan)
    return view.count("whole-numbers", values, WHOLE, WHOLE_LEVELS, absent="no mel that varies could be read")


def _domain(view: View) -> Finding:
    if not view.stored.any():
        return view.skip("domain", "no stored mels")
    main = view.main
    if main is None:
        return view.skip("domain", "no mel that varies could be read")
    return domain(view.frontend, main)


def domain(fe: FrontEnd | None, main: Mapping[str, Any]) -> Finding:
    """Whether stored mels are in the unit of their front end (None: in some usual one).

    Args:
        fe: the front end.
        main: `DatasetStatistics.result` of the mels that vary.
    """
    low, high, mean, sd = main["min"], main["max"], main["mel_mean"], main["mel_std"]
    rules = _expected(fe, main) if fe is not None else _plain_log(low, high, mean)
    measured = f"values from {low:.4g} to {high:.4g}, mean {mean:.4g}, sd {sd:.4g}"
    looks = _looks(low, high, mean, sd)
    if fe is None:
        measured += f"; this looks like {looks}"
    elif any(rule.holds(value) for _, rule, value in rules):
        other = "a log mel of another base, gain or offset" if looks == _LOG and fe.log != "none" else looks
        measured += f"; this looks like {other}, not like {fe.unit}"
    keys = ("mel_mean", "mel_std", "min", "max", "quantiles")
    return View.whole("domain", rules, measured, {key: main[key] for key in keys})


def _plain_log(low: float, high: float, mean: float) -> list[tuple[str, Rule, float]]:
    """What a log mel of speech keeps to, in ln or log10, of magnitude or power, whatever made it."""
    return [
        ("warn", Rule("smallest value", ">=", -4.5), low),
        ("warn", Rule("smallest value", "<", -24.0), low),
        ("warn", Rule("largest value", ">", 10.0), high),
        ("warn", Rule("mean", ">", 2.0), mean),
    ]


def _expected(fe: FrontEnd, main: Mapping[str, Any]) -> list[tuple[str, Rule, float]]:
    """What mels of this front end keep to."""
    low, high, mean, sd = main["min"], main["max"], main["mel_mean"], main["mel_std"]
    if fe.utterance_norm == "minmax":
        return [("fail", Rule("smallest value", "<", -0.01), low), ("fail", Rule("largest value", ">", 1.01), high)]
    if fe.utterance_norm is not None or fe.post_mean is not None or fe.post_std is not None:
        magnitude = ("fail", Rule("distance of the mean from 0", ">", 1.0), abs(mean))
        return [magnitude, ("fail", Rule("sd", ">", 3.0), sd), ("fail", Rule("sd", "<", 0.33), sd)]
    if fe.log == "none":
        return [("fail", Rule("smallest value of a linear mel", "<", 0.0), low)]
    rules = []
    if fe.floor is not None:
        rules.append(("fail", Rule("smallest value", "<", round(fe.floor - 0.01, 4), f"{fe.unit}, the floor"), low))
    bound = loudest(fe)
    if bound is not None:
        distance = _db(fe, bound) - _db(fe, mean)
        rules.append(
            ("fail", Rule("the mean's distance from the loudest possible value", "<", _MEAN_DB, "dB"), distance)
        )
    quantiles = main["quantiles"]
    if main["floor_share"] <= _AT_FLOOR or main["floor"] is None:
        width = _db(fe, quantiles["0.999"]) - _db(fe, quantiles["0.001"])
        rules.append(("fail", Rule("range of 99.8 % of the values", "<", _SPAN_DB, "dB"), width))
    return rules


def _db(fe: FrontEnd, value: float) -> float:
    linear = float(fe.to_linear(np.array([value]))[0])
    return (10.0 if fe.power == 2 else 20.0) * math.log10(max(linear, 1e-30))


def _looks(low: float, high: float, mean: float, sd: float) -> str:
    """A guess, in words."""
    if low >= 0 and sd > mean:  # a logarithm is what takes the long tail away
        return "a linear mel (no logarithm)"
    if low >= -1e-3 and high <= 1.001:
        return "a mel scaled to [0, 1]"
    if low >= -1.001 and high <= 1.001:
        return "a mel scaled to [-1, 1]"
    if abs(mean) < 0.3 and 0.7 < sd < 1.4:
        return "a mel normalised to mean 0 and sd 1"
    if low < -24:
        return "a mel in dB"
    if high > 10 or mean > 2:
        return "a log mel of audio at integer scale (-32768 to 32767), or one above a very small reference"
    if low >= -4.5:
        return "a log10 mel, or a normalised one (on [-4, 4], say)"
    return _LOG


def _domain_mixed(view: View) -> Finding:
    asked = view.stored & view.varied & np.isfinite(view["sd"])
    if not view.stored.any():
        return view.skip("domain-mixed", "no stored mels")
    if asked.sum() < LEAST_MIXED:
        return view.skip(
            "domain-mixed", f"a comparison needs {LEAST_MIXED} stored mels that vary; there are {int(asked.sum())}"
        )
    away = np.full(view.n, math.nan)
    away[asked], usual_mean, usual_sd = mixed(view["mean"][asked], view["sd"][asked])
    return view.count(
        "domain-mixed",
        away,
        MIXED,
        MIXED_LEVELS,
        absent="",
        summary=f"median mean {usual_mean:.3f}, median sd {usual_sd:.3f} ({view.unit})",
    )


def mixed(mean: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, float, float]:
    """How far each mel is from the median mel, 1 being the limit; the median mean and the median sd.

    Args:
        mean: of each mel, ``(N,)``.
        sd: of each mel.
    """
    usual_mean, usual_sd = float(np.median(mean)), float(np.median(sd))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.abs(np.log(sd / usual_sd)) / math.log(_SCALE)
        shift = np.abs(mean - usual_mean) / (_SHIFT * usual_sd)
    return np.maximum(scale, shift), usual_mean, usual_sd


def _floor(view: View) -> Finding:
    main = view.main
    if main is None:
        return view.skip("floor", view.no_mel)
    percent = 100.0 * main["floor_share"]
    where = f"the smallest value ({main['min']:.3f}; the floor itself is unknown)"
    if main["floor"] is not None:
        where = f"the floor ({main['floor']:.3f} {view.unit})"
    rules = [
        (status, Rule("share at the floor", ">", limit, "%"), percent)
        for status, limit in (("warn", 10.0), ("fail", 60.0))
    ]
    values = {"floor": main["floor"], "floor_share": main["floor_share"]}
    return view.whole("floor", rules, f"{percent:.3g} % of all mel values are at {where}", values)


def _dead_bins(view: View) -> Finding:
    main = view.main
    if main is None:
        return view.skip("dead-bins", view.no_mel)
    dead, bins = main["dead_bins"], len(main["per_bin"]["mean"])
    percent = 100.0 * len(dead) / bins
    which = f": bins {', '.join(map(str, dead[:8]))}{' ...' if len(dead) > 8 else ''}" if dead else ""
    return view.whole(
        "dead-bins",
        [("warn", Rule("dead bins", ">", 0.0, "%"), percent), ("fail", Rule("dead bins", ">", 50.0, "%"), percent)],
        f"{len(dead)} of {bins} bins are constant, or at the floor in 99.9 % of all frames{which}",
        {"dead_bins": dead},
        count=len(dead),
        total=bins,
    )


ANSWERS: dict[str, Callable[[View], Finding]] = {
    "bins": _bins,
    "mel-scale": _mel_scale,
    "domain": _domain,
    "whole-numbers": _whole_numbers,
    "domain-mixed": _domain_mixed,
    "floor": _floor,
    "dead-bins": _dead_bins,
}
