"""Answers about sound: scale, rates, clipping, offset, silence, lengths, levels.

Conventions:
    Robust z is ``|x - median| / (1.4826 MAD)`` of the logarithm. The MAD has a lower limit, so that a very even
    corpus does not make outliers of ordinary utterances.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from calib.mel.census.findings import Finding, Levels, Rule, View, spread, total

__all__ = [
    "ANSWERS",
    "BEYOND",
    "BEYOND_LEVELS",
    "CLIPPED",
    "CLIPPED_LEVELS",
    "LONG_SILENCE",
    "SILENCE_LEVELS",
    "group_medians",
    "quantities",
    "robust_z",
    "silent",
    "split",
]

_FULL = 2.0  # times full scale: a float file may go a little beyond 1, integers go far beyond
BEYOND, BEYOND_LEVELS = Rule("peak", ">", _FULL, "times full scale"), Levels(fail=0)
CLIPPED = Rule("samples in runs at the ceiling", ">", 0.01, "% of the utterance")
CLIPPED_LEVELS = Levels(warn=0, fail=20)
LONG_SILENCE, SILENCE_LEVELS = 1.0, Levels(warn=1)  # s


def _integer_scale(view: View) -> Finding:
    return view.count(
        "integer-scale",
        view["peak"],
        BEYOND,
        BEYOND_LEVELS,
        absent=view.no_audio,
        summary=spread(view["peak"], "times full scale", "peak "),
    )


def _sample_rate(view: View) -> Finding:
    rates = view["rate"]
    counts = Counter(rates[np.isfinite(rates)].astype(int).tolist())
    if not counts:
        return view.skip("sample-rate", view.no_audio)
    fe = view.frontend
    wanted = fe.sample_rate if fe is not None else max(counts, key=lambda rate: (counts[rate], rate))
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    words = ", ".join(f"{rate} Hz in {count}" for rate, count in ordered[:6])
    words += f", and {len(counts) - 6} other rates" if len(counts) > 6 else ""
    lower = sum(count for rate, count in counts.items() if rate < wanted)
    if lower and fe is not None:
        words += f"; {lower} below the front end's {wanted} Hz, so that their upper bins are empty"
    whose = "the front end's" if fe is not None else "the usual"
    return view.count(
        "sample-rate",
        np.abs(rates - wanted),
        Rule(f"difference from {whose} {wanted} Hz", ">", 0, "Hz"),
        Levels(warn=0),
        absent=view.no_audio,
        summary=words,
        extra={"files_by_hz": {str(rate): count for rate, count in sorted(counts.items())}},
    )


def _channels(view: View) -> Finding:
    rule = Rule("channels", ">", 1)
    return view.count("channels", view["channels"], rule, Levels(warn=0), absent=view.no_audio)


def _clipping(view: View) -> Finding:
    clipped, samples = (np.where(view.varied, view[name], math.nan) for name in ("clipped", "samples"))
    overall = total(clipped) / max(total(samples), 1.0)
    return view.count(
        "clipping",
        100.0 * clipped / samples,
        CLIPPED,
        CLIPPED_LEVELS,
        absent=view.no_audio,
        summary=f"{100.0 * overall:.3g} % of all samples" if overall else "",
        extra={"share_of_samples": overall},
    )


def _dc(view: View) -> Finding:
    offset = np.where(view.varied & (view["peak"] <= _FULL), np.abs(view["dc"]), math.nan)
    rule = Rule("mean sample", ">", 0.005, "of full scale")
    return view.count(
        "dc-offset",
        offset,
        rule,
        Levels(warn=1),
        absent=view.no_audio,
        summary=spread(offset, "of full scale", "offset "),
    )


def silent(side: str) -> Rule:
    """Which silence at an end (``leading`` or ``trailing``) counts."""
    return Rule(f"{side} silence", ">", LONG_SILENCE, "s")


def _silence(side: str, column: str) -> Callable[[View], Finding]:
    def answer(view: View) -> Finding:
        values = view[column]
        extra = quantities(values, "s")
        return view.count(
            f"{side}-silence",
            values,
            silent(side),
            SILENCE_LEVELS,
            absent=view.no_level,
            summary=spread(values, "s", form=".2f"),
            extra=extra,
        )

    return answer


def _length(view: View) -> Finding:
    values = np.where(view.varied & (view.length > 0), view.length, math.nan)
    whole = total(view.length)
    form = ".2f" if view.in_seconds else ".0f"
    words = f"{spread(values, view.length_unit, form=form)}, together {f'{whole / 3600:.3f} h' if view.in_seconds else f'{whole:.0f} frames'}"
    return view.count(
        "length",
        robust_z(np.log(values), 0.35),
        Rule("robust z of the log length", ">", 5.0),
        Levels(warn=1),
        absent="nothing that varies could be read",
        summary=words,
        extra={**quantities(values, view.length_unit), f"total_{view.length_unit}": whole},
    )


def _level(view: View) -> Finding:
    values = np.where(view["peak"] > _FULL, math.nan, view["level"])
    away = np.abs(values - group_medians(values, view.groups("speaker")))
    unit = "dBFS" if view.audio.any() else "dB"
    return view.count(
        "level",
        away,
        Rule("distance from the speaker's median", ">", 12.0, "dB"),
        Levels(warn=1),
        absent=view.no_level,
        summary=spread(values, unit, form=".1f"),
        extra=quantities(values, "db"),
    )


def split(groups: np.ndarray) -> list[np.ndarray]:
    """The indices of each group."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if groups.size else []


def group_medians(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """For each utterance the median of what is known in its group."""
    out = np.full(values.shape, math.nan)
    for where in split(groups):
        own = values[where]
        if np.isfinite(own).any():
            out[where] = np.median(own[np.isfinite(own)])
    return out


def robust_z(values: np.ndarray, least: float) -> np.ndarray:
    """Robust z, the scale being at least ``least``; NaN stays NaN."""
    good = values[np.isfinite(values)]
    if good.size == 0:
        return np.full(values.shape, math.nan)
    middle = float(np.median(good))
    return np.asarray(np.abs(values - middle) / max(1.4826 * float(np.median(np.abs(good - middle))), least))


def quantities(values: np.ndarray, unit: str) -> dict[str, Any]:
    """Minimum, median and maximum of what is known, the unit in the key."""
    good = values[np.isfinite(values)]
    found = (("min", np.min), ("median", np.median), ("max", np.max))
    return {f"{name}_{unit}": float(f(good)) for name, f in found} if good.size else {}


ANSWERS: dict[str, Callable[[View], Finding]] = {
    "integer-scale": _integer_scale,
    "sample-rate": _sample_rate,
    "channels": _channels,
    "clipping": _clipping,
    "dc-offset": _dc,
    "leading-silence": _silence("leading", "lead"),
    "trailing-silence": _silence("trailing", "trail"),
    "length": _length,
    "level": _level,
}
