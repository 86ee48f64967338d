"""Predictions and targets of different length: one ratio, one number of frames, one length, or no rule at all.

Conventions:
    T' is the length of a prediction and T that of its target, in frames; the ratio is T' / T. Spreads are robust:
    1.4826 times the median absolute deviation, which is the sd of a normal distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from calib.diagnose.faults.evidence import Finding

__all__ = ["LengthCause", "explain_lengths", "known_ratios"]

_LEAST = 3  # pairs: two have a ratio and a difference in common too easily
_RATIO_SPREAD = 0.01
_FRAMES_SPREAD = 1.5
_MOST = 0.8  # of the pairs must keep to a rule
_ROUNDING = 1.5  # frames by which T' and T may differ from a ratio at the edges
_UNRELATED, _RELATED = 0.3, 0.7  # correlation of T' and T
_ENOUGH = 8  # pairs that a correlation needs
_SHOWN = 3

_RATES = (22050, 24000, 16000, 44100, 48000, 8000, 32000, 11025)  # the commonest first: those are named
_HOPS = (128, 160, 200, 240, 256, 275, 300, 320, 441, 512, 600)
# Sample rate and hop length of front ends in use, for models and targets that differ in both.
_FRONT_ENDS = (
    (16000, 160), (16000, 200), (16000, 256), (16000, 320), (22050, 220), (22050, 256), (22050, 275), (22050, 300), (24000, 240),
    (24000, 256), (24000, 300), (24000, 320), (32000, 320), (44100, 441), (44100, 512), (48000, 480), (48000, 512), (48000, 600),
)  # fmt: skip


@dataclass(frozen=True)
class LengthCause:
    """What the lengths of the mismatching pairs have in common.

    Args:
        sentence: for people, without a full stop.
        finding: the fault, where the lengths name one.
    """

    sentence: str
    finding: Finding | None = None


def explain_lengths(lengths: Sequence[tuple[int, int]]) -> LengthCause:
    """Say what makes the lengths differ.

    Args:
        lengths: ``(T', T)`` in frames of every pair that differs by more than cropping may hide; at least one.
    """
    pred, target = (np.array(side, dtype=np.float64) for side in zip(*lengths, strict=True))
    ratios, differences = pred / target, pred - target
    count = len(lengths)
    alike = np.abs(ratios / _middle(ratios) - 1.0) < 3 * _RATIO_SPREAD
    ratio = float(pred[alike].sum() / target[alike].sum())  # the long ones say it best: both lengths are rounded
    tolerance = max(0.002, _ROUNDING * float(alike.sum()) ** 0.5 / float(target[alike].sum()))
    known = _known(ratio, tolerance)
    spread = _spread(ratios) / ratio
    one_ratio = spread < _RATIO_SPREAD and alike.mean() >= _MOST
    if count < _LEAST:
        what = (
            f"T'/T is {ratio:.4g} in {_pairs(count, count)}: {known}"
            if one_ratio
            else f"T'/T is {' and '.join(f'{r:.4g}' for r in ratios)}"
        )
        return LengthCause(f"{what}; {_LEAST} such pairs are needed to tell a rule from an accident")
    difference = _middle(differences)
    same = np.abs(differences - difference) <= 2 * _FRAMES_SPREAD
    one_difference = _spread(differences) <= _FRAMES_SPREAD and same.mean() >= _MOST
    longer = f"{abs(difference):.0f} frames {'longer' if difference > 0 else 'shorter'}"
    if one_ratio and one_difference:
        return LengthCause(f"predictions are about {longer} and T'/T is about {ratio:.3f} in {_pairs(int(same.sum()), count)}; the targets are too alike in length to tell a constant ({_CONSTANT}) from a ratio ({known})")  # fmt: skip
    if one_ratio:
        return _one_ratio(ratio, spread, known, int(alike.sum()), count)
    if one_difference:
        return LengthCause(f"predictions are {longer} than their targets, whatever the length, in {_pairs(int(same.sum()), count)}: {_CONSTANT}")  # fmt: skip
    for what, values, why in (("predictions", pred, "padded to one length, or stopped at the decoder's limit"), ("targets", target, "cut or padded to one length")):  # fmt: skip
        equal = int((np.abs(values - _middle(values)) <= 2 * _FRAMES_SPREAD).sum())
        if equal >= _MOST * count:
            return LengthCause(
                f"{what} have {_middle(values):.0f} frames in {_pairs(equal, count)}, whatever the other side: {why}"
            )
    low, high = np.quantile(ratios, (0.05, 0.95))
    return LengthCause(
        f"T'/T follows no rule: {low:.2f} to {high:.2f} in 90 % of {count} pairs{_relation(pred, target)}"
    )


_CONSTANT = "padding or trimmed silence on one side, or a reduction factor that drops or adds frames"


def _one_ratio(ratio: float, spread: float, known: str, alike: int, count: int) -> LengthCause:
    text = f"T'/T is {ratio:.4g} in {_pairs(alike, count)} (spread {spread:.2%})"
    finding = Finding(
        "time-stretch",
        ("time-stretch", "sample-rate"),
        (alike + 1) / (count + 2),  # rule of succession: of so many pairs, so many agreed
        f"T'/T {ratio:.4g}",
        (text, f"what makes such a ratio: {known}"),
    )
    return LengthCause(f"{text}: {known}", finding)


def _relation(pred: np.ndarray, target: np.ndarray) -> str:
    if len(pred) < _ENOUGH:
        return ": free-running predictions, or predictions paired with other targets"
    r = float(np.corrcoef(pred, target)[0, 1])
    if r >= _RELATED:
        return f", and the lengths go together (r {r:.2f}): free-running predictions, which have their own tempo; judge them apart"
    if r < _UNRELATED:
        return (
            f", and the lengths have nothing to do with each other (r {r:.2f}): predictions paired with other targets"
        )
    return f" (r of the lengths {r:.2f}): free-running predictions, or predictions paired with other targets"


def _spread(values: np.ndarray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _middle(values: np.ndarray) -> float:
    """The median, or the higher of the two values that it lies between."""
    return float(np.sort(values)[len(values) // 2])


def _pairs(some: int, count: int) -> str:
    every = f"all of {count} pairs" if count > 1 else "1 pair"
    return every if some == count else f"{some} of {count} pairs"


def _known(ratio: float, tolerance: float) -> str:
    found = known_ratios(ratio, tolerance)
    return " or ".join(found) if found else "no usual pair of hop lengths or sample rates makes that ratio"


def known_ratios(ratio: float, tolerance: float = 0.002) -> list[str]:
    """What is known to make a ratio T'/T, in words: sample rates, hop lengths, both, a reduction factor.

    Args:
        ratio: T'/T.
        tolerance: relative.

    Example:
        >>> known_ratios(1.0884)[0]
        'another sample rate (24000/22050 = 48000/44100 = 160/147)'
    """

    def near(value: float) -> bool:
        return abs(ratio / value - 1.0) <= tolerance

    rates = [f"{a}/{b}" for a in _RATES for b in _RATES if a != b and near(a / b)]
    hops = [f"{b} in the targets against {a}" for a in _HOPS for b in _HOPS if a != b and near(b / a)]
    out = []
    if rates:
        a, b = map(int, rates[0].split("/"))
        simplest = Fraction(a, b)
        equal = (
            [f"{simplest.numerator}/{simplest.denominator}"]
            if near(float(simplest)) and simplest.denominator < b
            else []
        )
        out.append(f"another sample rate ({' = '.join([*_few(rates), *equal])})")
    if hops:
        out.append(f"another hop length ({', '.join(_few(hops))})")
    if not out:
        both = [
            f"{a} Hz, hop {g} against {b} Hz, hop {h}"
            for a, g in _FRONT_ENDS
            for b, h in _FRONT_ENDS
            if a != b and g != h and near(a / g * h / b)
        ]
        out += [f"another sample rate and hop length (predictions at {'; '.join(_few(both))})"] if both else []
    factor = round(max(ratio, 1.0 / ratio))
    if 2 <= factor <= 8 and near(factor if ratio > 1.0 else 1.0 / factor):
        out.append(
            f"a reduction factor ({factor} frames a step {'counted twice' if ratio > 1.0 else 'not taken apart'})"
        )
    return out


def _few(found: list[str]) -> list[str]:
    return found[:_SHOWN]
