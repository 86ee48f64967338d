"""What a faulty front end or a broken value would have made of the *target*: compared with the prediction instead of it.

Each variant gives the target (or the prediction) another form, without free maps: banks warped along frequency (from
PAIRS alone an interpolation, with audio recomputed exactly), templates, floors, ceilings, a missing logarithm, a
minimum and maximum of each utterance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.geometry import BankGeometry, Warp
from calib.diagnose.faults.sample import Sample
from calib.diagnose.faults.time import rate_label, rate_ratios, read_off

__all__ = ["Form", "blurred", "frequency_forms", "value_forms"]

_FLOORS = (0.03, 0.07, 0.12, 0.2, 0.3, 0.4, 0.5)
_CEILINGS = (0.6, 0.7, 0.8, 0.88, 0.94, 0.97, 0.985)


@dataclass(frozen=True)
class Form:
    """Prediction and target in the form that a fault would give them.

    Args:
        faults: ids; empty for "as they are".
        label: for people.
        p: ``(N, M)``, or None for the sample's own.
        y: ``(N, M)``, or None for the sample's own.
        prior: nats that it costs.
        slack: sd of the target by which the form is only approximate, in level.
        slack_pattern: the same, by bin.
        slack_scale: the same, in ln of the spread.
        units: whether maps of units may be tried on top.
        any_utterance: whether utterances may differ in any way.
        ignore: ``(M,)`` bins of which the form says nothing.
        read: whether the bins were read off between bins: it is compared with the target `blurred` alike.
        replaces_time: whether it explains a drift in time as well.
        edge: floor (-1) or ceiling (1) in the target's scale: the mapped prediction must keep to it.
        sample: frames that this form is compared on, where they are not the sample's.
    """

    faults: tuple[str, ...] = ()
    label: str = ""
    p: np.ndarray | None = None
    y: np.ndarray | None = None
    prior: float = 0.0
    slack: float = 0.0
    slack_pattern: float = 0.0
    slack_scale: float = 0.0
    units: bool = True
    any_utterance: bool = False
    ignore: np.ndarray | None = None
    read: bool = False
    replaces_time: bool = False
    edge: tuple[float, int] | None = None
    sample: Sample | None = None


def frequency_forms(sample: Sample, geometry: BankGeometry, stretch: float) -> Iterator[Form]:
    """Banks and templates, from PAIRS alone.

    Args:
        sample: time already undone.
        geometry: of the target's front end.
        stretch: target frames in one predicted frame, as found: a relabelled sample rate changes both.
    """
    f = FROZEN
    for warp in geometry.warps:
        # A warp that hardly moves anything is hardly a fault, and easily an accident.
        moved = float(np.sqrt(((warp.place - np.arange(warp.place.size)) ** 2).mean()))
        yield Form(warp.faults, warp.label, y=warped(sample.y, warp), prior=f.rare + f.read + f.small_warp * float(np.exp(-2.0 * moved)), read=True, slack=f.slack_warp, slack_pattern=f.slack_warp)  # fmt: skip
    for ratio in rate_ratios(stretch):
        place = geometry.relabelled(ratio)
        if place is not None:
            yield Form(("sample-rate",), rate_label(ratio), y=read_off(sample.y, place), prior=f.rare, read=True, replaces_time=True, ignore=place >= place.size - 1, slack=f.slack_warp, slack_pattern=f.slack_warp)  # fmt: skip
    if geometry.area is not None:
        yield Form(("area-norm",), "the other filter normalisation", y=sample.y + geometry.area.astype(np.float32), prior=f.rare)
    for coefficient, curve in geometry.emphasis:
        yield Form(("pre-emphasis",), f"pre-emphasis {coefficient:g}", y=sample.y + curve.astype(np.float32), prior=f.rare, slack=f.slack_emphasis, slack_pattern=f.slack_emphasis)  # fmt: skip


def blurred(y: np.ndarray) -> np.ndarray:
    """The target read off at its own bins with the warps' kernel: what a warp must be compared with."""
    m = y.shape[1]
    return read_off(y, np.arange(m, dtype=np.float64))


def warped(y: np.ndarray, warp: Warp) -> np.ndarray:
    """The target's bins read off where the faulty bank's bins lie."""
    out = read_off(y, warp.place)
    return out if warp.offset is None else out + warp.offset.astype(np.float32)


def value_forms(sample: Sample, geometry: BankGeometry) -> Iterator[Form]:
    """Floors, ceilings, logarithms, ranges of each utterance."""
    f = FROZEN
    y, p = sample.y, sample.p
    per_ln = geometry.per_ln
    step = max(1, y.size // 200_000)
    values = np.sort(y.ravel()[::step])
    floor = values[0] if geometry.floor is None else geometry.floor
    mass = float((values <= floor + 1e-4 * max(1.0, abs(floor))).mean())
    for share in _FLOORS:
        level = values[int((mass + share * (1 - mass)) * (values.size - 1))]
        yield Form(("raised-floor",), f"floor at {level:.2f} ({mass + share * (1 - mass):.0%} of the values)", y=np.maximum(y, level), prior=f.rare + 2.0, edge=(float(level), -1))  # fmt: skip
    bottom = float(y.min())
    held = float((y <= bottom + 1e-4 * max(1.0, abs(bottom))).mean())
    if held > 0.02 and float((p < bottom).mean()) > 0.005:
        # A point mass that the declared front end does not make is the target's own floor.
        odd = geometry.floor is not None and abs(bottom - geometry.floor) > 0.1
        yield Form(("raised-floor",), f"the target is cut at {bottom:.2f} ({held:.0%} of its values), the prediction is not", p=np.maximum(p, np.float32(bottom)), prior=f.rare - (8.0 if odd else 0.0), units=False)  # fmt: skip
    for share in _CEILINGS:
        level = values[int(share * (values.size - 1))]
        yield Form(("clipped",), f"ceiling at {level:.2f} ({1 - share:.0%} of the values)", y=np.minimum(y, level), prior=f.rare + 2.0, edge=(float(level), 1))  # fmt: skip
    if geometry.logarithmic:
        yield from _floored_powers(sample, geometry, held > 0.02)
    yield from _logarithms(p, y, geometry.eps, per_ln)
    if len(sample) >= 2:
        yield from _own_ranges(sample)


def _floored_powers(sample: Sample, geometry: BankGeometry, cut: bool) -> Iterator[Form]:
    """Power with a guard that was meant for magnitude: on the prediction's side, or (a target that is cut) on the target's."""
    f, p, y = FROZEN, sample.p, sample.y
    slope, shift = (2.007, 3.38) if geometry.area_normalised else (2.07, -0.84)
    shift *= geometry.per_ln / geometry.power
    for eps in (1e-6, 1e-5, 3e-5, 1e-4):
        power = np.maximum(slope * y + shift, np.log(eps) * geometry.per_ln / geometry.power)
        yield Form(("power-floor",), f"power clamped at {eps:g}", y=power.astype(np.float32), prior=f.rare + 1.0, slack=f.slack_power, slack_pattern=f.slack_power / 2, units=False)  # fmt: skip
    if cut:
        power = np.maximum(slope * p + shift, y.min())
        yield Form(("power-floor",), f"the target is power cut at {y.min():.2f}, the prediction magnitude", p=power.astype(np.float32), prior=f.rare + 1.0, slack=f.slack_power, slack_pattern=f.slack_power / 2, units=False)  # fmt: skip


def _logarithms(p: np.ndarray, y: np.ndarray, eps: float, per_ln: float) -> Iterator[Form]:
    """A logarithm left out on one side; magnitude or power."""
    for power, guard in ((1, eps), (2, eps**2)):
        what = "magnitude" if power == 1 else "power"
        if float((p >= 0).mean()) > 0.97:
            back = np.log(np.maximum(p, guard)) * (per_ln / power)
            yield Form(("log-missing",), f"{what} without the logarithm", p=back.astype(np.float32), prior=FROZEN.rare, units=False)
        if float((y >= 0).mean()) > 0.97:
            back = np.log(np.maximum(y, guard)) * (per_ln / power)
            yield Form(("log-missing",), f"the target is {what} without the logarithm", y=back.astype(np.float32), prior=FROZEN.rare, units=False)  # fmt: skip


def _own_ranges(sample: Sample) -> Iterator[Form]:
    """Each utterance by its own minimum and maximum: of the target, or exactly those of the prediction."""
    p, y = sample.p, sample.y
    low, high = (np.array([op(part) for part in sample.cut(y)]) for op in (np.min, np.max))
    bottom, top = (np.array([op(part) for part in sample.cut(p)]) for op in (np.min, np.max))
    size = np.maximum(high - low, 1e-6)[sample.owner, None]
    for a, b in ((0.0, 1.0), (-1.0, 1.0), (-4.0, 4.0), (0.0, 4.0)):
        back = (p - a) / (b - a) * size + low[sample.owner, None]
        exact = float(np.abs(bottom - a).max() + np.abs(top - b).max()) < 1e-3 * (b - a)
        # That every utterance reaches both ends exactly cannot be chance.
        prior = FROZEN.rare - (20.0 if exact else 0.0)
        yield Form(("minmax-per-utterance",), f"[{a:g}, {b:g}] by each utterance's minimum and maximum", p=back.astype(np.float32), prior=prior, slack=0.3 if exact else 0.05, any_utterance=exact, slack_scale=0.2 if exact else 0.0, units=False)  # fmt: skip
