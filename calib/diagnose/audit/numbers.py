"""What is known of a calibration from its published numbers, and the two ways to read its scale and offset.

Conventions:
    Prediction p, target y (both as means ``m``, population sds ``s``), correlation r. A calibration is ``scale * p +
    offset``. In the *normalized* reading that is a normalised mel: ``raw = (p * scale + offset) * mel_std + mel_mean``,
    what readers of ``mel_scaling_params.json`` do, whatever p is in; in the *raw* reading it is the mel itself.

    Where the target's own mean and sd are not given, ``mel_mean`` and ``mel_std`` stand in for them, and that is said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

__all__ = [
    "BIAS_FAIL",
    "ROUNDING",
    "Finding",
    "Numbers",
    "Reading",
    "choose",
    "corr",
    "g",
    "lacking",
    "r2",
    "readings",
    "target_center",
]

ROUNDING = 0.02  # relative: published figures have two or three digits
BIAS_FAIL = 0.25  # of the target's sd
_LARGEST = 1e9


@dataclass(frozen=True)
class Numbers:
    """What is known of a calibration; None is unknown.

    Args:
        scale: slope of the calibration.
        offset: its intercept.
        mel_mean: of the normalisation.
        mel_std: of the normalisation, positive.
        pred_mean: mean of the prediction that the scale multiplies.
        pred_std: its sd.
        target_mean: mean of the target mel.
        target_std: its sd.
        mae_before: mean absolute error before the calibration, in mel units.
        mae_after: after it.
        rmse_before: root mean square error before.
        rmse_after: after.
        claimed_gain: by what factor the error is said to have fallen.
        slope_space: ``normalized``, ``raw``, or None: both readings are tried.
        n_utterances: that the calibration was fitted on.
        stats_utterances: that the normalisation was measured on.
        static_r: pooled correlation that a static mean spectrum would have (from per-bin statistics).
        static_mae: MAE that it would have, each bin taken as a Gaussian.
        method: ``ols``, ``moments``, ``identity`` as the file says, or None.

    Raises:
        ValueError: a number that is not finite or absurdly large, an sd, error or count that is negative, an sd of a mel of 0.
    """

    scale: float | None = None
    offset: float | None = None
    mel_mean: float | None = None
    mel_std: float | None = None
    pred_mean: float | None = None
    pred_std: float | None = None
    target_mean: float | None = None
    target_std: float | None = None
    mae_before: float | None = None
    mae_after: float | None = None
    rmse_before: float | None = None
    rmse_after: float | None = None
    claimed_gain: float | None = None
    slope_space: str | None = None
    n_utterances: int | None = None
    stats_utterances: int | None = None
    static_r: float | None = None
    static_mae: float | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        if self.slope_space not in {None, "normalized", "raw"}:
            raise ValueError(f"slope_space is {self.slope_space!r}; it must be normalized or raw")
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None or isinstance(value, str):
                continue
            if not math.isfinite(value):
                raise ValueError(f"{item.name} is {value}; it must be a finite number")
            if abs(value) > _LARGEST:
                raise ValueError(f"{item.name} is {value:g}; no mel and no scale is beyond {_LARGEST:g}")
            if item.name.startswith(("mae_", "rmse_", "pred_std", "n_utt", "claimed")) and value < 0:
                raise ValueError(f"{item.name} is {value:g}; it cannot be negative")
            if item.name in {"mel_std", "target_std"} and value < 1.0 / _LARGEST:
                raise ValueError(f"{item.name} is {value:g}; the sd of a mel is positive (0 is a mel without variance)")

    @property
    def s_y(self) -> float | None:
        """Sd of the target, or what stands in for it."""
        return self.mel_std if self.target_std is None else self.target_std

    @property
    def m_y(self) -> float | None:
        """Mean of the target, or what stands in for it."""
        return self.mel_mean if self.target_mean is None else self.target_mean


@dataclass(frozen=True)
class Finding:
    """One check.

    Args:
        name: key.
        status: ``fail``, ``warn``, ``pass`` or ``skipped``.
        title: what was asked.
        measured: what came out; for a skipped one what it needs.
        why: what that means.
        by_hand: the formula with the numbers put in.
        next_step: what to do.
    """

    name: str
    status: str
    title: str
    measured: str
    why: str = ""
    by_hand: str = ""
    next_step: str = ""


@dataclass(frozen=True)
class Reading:
    """One way to read scale and offset.

    Args:
        space: ``normalized`` or ``raw``.
        r: implied correlation, or None where it cannot be told.
        by_hand: the formula with the numbers put in.
        contradictions: why this reading cannot be; empty: nothing speaks against it.
    """

    space: str
    r: float | None
    by_hand: str
    contradictions: list[str] = field(default_factory=list)


def g(value: float) -> str:
    """A number for people: four digits, and as few as it has."""
    return f"{value:.4g}"


def corr(value: float) -> str:
    """A correlation for people: four decimals, and one that is not 0 never shown as 0."""
    return f"{value:.1e}" if 0 < abs(value) < 5e-4 else f"{value + 0.0:.4f}"


def r2(value: float) -> str:
    """R² for people: small ones to two digits, never an exponent."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.2g}" if value >= 1e-4 else f"{value:.1e}"


def lacking(n: Numbers, *names: str) -> str:
    """``needs --a and --b``, or "" if nothing is lacking. ``s_y`` and ``m_y`` may be given in two ways."""
    flags = {"s_y": "--target-std or --mel-std", "m_y": "--target-mean or --mel-mean"}
    missing = [flags.get(x, "--" + x.replace("_", "-")) for x in names if getattr(n, x) is None]
    return f"needs {' and '.join(missing)}" if missing else ""


def readings(n: Numbers) -> list[Reading]:
    """Scale and offset read in the normalised and in the raw space, each with what speaks against it.

    An unbiased fit fixes the mean of the prediction: m_p = (target mean in that space - offset) / scale. It must be the
    mean that is published, and |m_p - m_y| cannot exceed the MAE (or RMSE) before the calibration.
    """
    if n.scale is None:
        return []
    return [_reading(n, space) for space in ("normalized", "raw") if n.slope_space in {None, space}]


def _reading(n: Numbers, space: str) -> Reading:
    assert n.scale is not None
    normal = space == "normalized"
    r, by_hand = None, ""
    # Without any sd of the mel nothing could tell the two readings apart: then the space must have been said.
    told = n.slope_space is not None or n.mel_std is not None
    if n.pred_std is not None and normal and told and (n.target_std is None or n.mel_std is not None):
        if n.target_std is None or n.mel_std is None:
            r = n.scale * n.pred_std
            by_hand = (
                f"r = scale x sd(prediction) / sd(normalised target) = {g(n.scale)} x {g(n.pred_std)} / 1 = {g(r)}"
            )
        else:
            r = n.scale * n.pred_std * n.mel_std / n.target_std
            by_hand = f"r = scale x sd(prediction) x mel_std / sd(target) = {g(n.scale)} x {g(n.pred_std)} x {g(n.mel_std)} / {g(n.target_std)} = {g(r)}"
    elif n.pred_std is not None and not normal and n.s_y is not None:
        r = n.scale * n.pred_std / n.s_y
        by_hand = f"r = scale x sd(prediction) / sd(target) = {g(n.scale)} x {g(n.pred_std)} / {g(n.s_y)} = {g(r)}"
    against = []
    if r is not None and abs(r) > 1.0 + ROUNDING:
        against.append(f"|r| would be {g(abs(r))}, above 1")
    against += _against_offset(n, normal=normal)
    return Reading(space, r, by_hand, against)


def target_center(n: Numbers, *, normal: bool) -> float | None:
    """Mean of the target in the space of the offset."""
    if not normal:
        return n.m_y
    if n.target_mean is None:
        return 0.0  # the normalisation's own mean
    return None if n.mel_mean is None or n.mel_std is None else (n.target_mean - n.mel_mean) / n.mel_std


def offset_slack(n: Numbers) -> float:
    """How far off the offset may seem because scale, mean and offset were published with three digits (.5 % each)."""
    return ROUNDING / 4.0 * (2.0 * abs((n.scale or 0.0) * (n.pred_mean or 0.0)) + abs(n.offset or 0.0))


def _against_offset(n: Numbers, *, normal: bool) -> list[str]:
    center = target_center(n, normal=normal)
    if n.scale is None or n.offset is None or center is None:
        return []
    unit = (n.s_y / (n.mel_std or n.s_y) if normal else n.s_y) if n.s_y else None
    if n.pred_mean is not None:
        bias = n.scale * n.pred_mean + n.offset - center
        if unit is not None and abs(bias) - offset_slack(n) > BIAS_FAIL * unit:
            return [f"an unbiased fit would have offset {g(center - n.scale * n.pred_mean)}, not {g(n.offset)}"]
        return []
    if n.scale == 0 or n.m_y is None:
        return []
    mean = (center - n.offset) / n.scale
    # Offsets are published with three digits, or three decimals.
    slack = (ROUNDING / 4.0 * (abs(center) + abs(n.offset)) + 5e-4) / abs(n.scale)
    distances = [abs(mean - n.m_y)]
    if normal and n.mel_std is not None and n.mel_mean is not None:  # the error before may be of the denormalised one
        distances.append(abs(mean * n.mel_std + n.mel_mean - n.m_y))
    return [
        f"an unbiased fit would need predictions of mean {g(mean)}, {g(min(distances))} from the target's mean, but the {name} before is only {g(value)} (|difference of means| cannot exceed it)"
        for name, value in (("MAE", n.mae_before), ("RMSE", n.rmse_before))
        if value is not None and min(distances) - slack * (n.mel_std or 1.0) > value * (1.0 + ROUNDING)
    ][:1]


def choose(found: list[Reading]) -> Reading | None:
    """The reading that nothing speaks against; the normalised one where that does not decide."""
    free = [reading for reading in found if not reading.contradictions]
    ordered = free or found
    return ordered[0] if ordered else None
