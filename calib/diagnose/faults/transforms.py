"""What a faulty front end or a broken value would have made of the *target*: compared with the prediction in its place.

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

__all__ = ["Form", "blurred", "frequency_forms", "piled", "value_forms"]

_FLOORS = (0.03, 0.07, 0.12, 0.2, 0.3, 0.4, 0.5)
_VALUES = 200_000  # enough for quantiles
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
    edge: tuple[float, int] | None = None
    sample: Sample | None = None

    def silent(self, dead: np.ndarray) -> np.ndarray:
        """``(M,)`` dead bins and those of which the form says nothing (unless that were all)."""
        return dead if self.ignore is None or self.ignore.all() else dead | self.ignore


def frequency_forms(sample: Sample, geometry: BankGeometry, stretch: float) -> Iterator[Form]:
    """Banks and templates, from PAIRS alone.

    Args:
        sample: time already undone.
        geometry: of the target's front end.
        stretch: target frames in one predicted frame, as found: a relabelled sample rate changes both.
    """
    f, y = FROZEN, sample.y
    for warp in geometry.warps:
        # A warp that hardly moves anything is hardly a fault, and easily an accident.
        moved = float(np.sqrt(((warp.place - np.arange(warp.place.size)) ** 2).mean()))
        prior = f.rare + f.read + f.small_warp * float(np.exp(-2.0 * moved))
        last = warp.place.size - 1
        beyond = warp.place >= last  # what these bins hear, no bin of the target does
        yield Form(
            warp.faults, warp.label, y=warped(y, warp), prior=prior, read=True,
            ignore=beyond if beyond.sum() > 1 else None, slack=f.slack_warp, slack_pattern=f.slack_warp,
        )  # fmt: skip
    for ratio in rate_ratios(stretch):
        place = geometry.relabelled(ratio)
        if place is not None:
            yield Form(
                ("sample-rate",), rate_label(ratio), y=read_off(y, place), prior=f.rare, read=True,
                ignore=place >= place.size - 1, slack=f.slack_warp, slack_pattern=f.slack_warp,
            )  # fmt: skip
    if geometry.area is not None:
        other = y + geometry.area.astype(np.float32)
        yield Form(("area-norm",), "the other filter normalisation", y=other, prior=f.rare)
    for coefficient, curve in geometry.emphasis:
        yield Form(
            ("pre-emphasis",), f"pre-emphasis {coefficient:g}", y=y + curve.astype(np.float32), prior=f.rare,
            slack=f.slack_emphasis, slack_pattern=f.slack_emphasis,
        )  # fmt: skip


def blurred(y: np.ndarray) -> np.ndarray:
    """The target read off at its own bins with the warps' kernel: what a warp must be compared with."""
    m = y.shape[1]
    return read_off(y, np.arange(m, dtype=np.float64))


def warped(y: np.ndarray, warp: Warp) -> np.ndarray:
    """The target's bins read off where the faulty bank's bins lie."""
    out = read_off(y, warp.place)
    return out if warp.offset is None else out + warp.offset.astype(np.float32)


def value_forms(sample: Sample, geometry: BankGeometry, piles: tuple[float, float] = (0.0, 0.0)) -> Iterator[Form]:
    """Floors, ceilings, logarithms, ranges of each utterance.

    Args:
        sample: arrays and time already undone.
        geometry: of the target's front end.
        piles: shares of the predicted values that stand at their lowest and highest (see `piled`).
    """
    yield from _heaped(sample, piles)
    bottom = float(sample.y.min())
    held = _share_at(sample.y, bottom)
    yield from _edges(sample, geometry)
    if held > 0.02 and float((sample.p < bottom).mean()) > 0.005:
        # A point mass that the declared front end does not make is the target's own floor.
        odd = geometry.floor is not None and abs(bottom - geometry.floor) > 0.1
        label = f"the target is cut at {bottom:.2f} ({held:.0%} of its values), the prediction is not"
        prior = FROZEN.rare - (8.0 if odd else 0.0)
        yield Form(("raised-floor",), label, p=np.maximum(sample.p, np.float32(bottom)), prior=prior, units=False)
    if geometry.logarithmic:
        yield from _floored_powers(sample, geometry, cut=held > 0.02)
    yield from _logarithms(sample, geometry)
    if len(sample) >= 2:
        yield from _own_ranges(sample)


def piled(sample: Sample, silent: np.ndarray) -> tuple[float, float]:
    """Shares of the predicted values that stand exactly at their lowest and highest, beyond those of the target.

    A network makes no value twice: what heaps up at one was cut there.
    """
    live = ~silent if not silent.all() else ~np.zeros_like(silent)
    p, y = sample.p[:, live], sample.y[:, live]
    shares = []
    for sign in (-1.0, 1.0):
        p_end, y_end = (_share_at(-sign * values, float((-sign * values).min()), 1e-5) for values in (p, y))
        shares.append(max(p_end - y_end, 0.0))
    return shares[0], shares[1]


def _share_at(values: np.ndarray, low: float, near: float = 5e-4) -> float:
    """Share of values at the lowest one (nearer than so many sd), or below it."""
    return float((values <= low + near * float(values.std())).mean())


def _edges(sample: Sample, geometry: BankGeometry) -> Iterator[Form]:
    """The target cut off from below, or from above, at levels that leave a given share of its values."""
    y = sample.y
    prior = FROZEN.rare + 2.0
    values = np.sort(y.ravel()[:: max(1, y.size // _VALUES)])
    last = values.size - 1
    mass = _share_at(values, float(values[0]) if geometry.floor is None else geometry.floor)
    for share in _FLOORS:
        below = mass + share * (1 - mass)
        level = values[int(below * last)]
        label = f"floor at {level:.2f} ({below:.0%} of the values)"
        yield Form(("raised-floor",), label, y=np.maximum(y, level), prior=prior, edge=(float(level), -1))
    for share in _CEILINGS:
        level = values[int(share * last)]
        label = f"ceiling at {level:.2f} ({1 - share:.0%} of the values)"
        yield Form(("clipped",), label, y=np.minimum(y, level), prior=prior, edge=(float(level), 1))


def _heaped(sample: Sample, piles: tuple[float, float]) -> Iterator[Form]:
    """The target cut where as many of its values lie beyond as the prediction has exactly at its end."""
    y = sample.y.ravel()[:: max(1, sample.y.size // _VALUES)]
    for share, fault, sign in ((piles[0], "raised-floor", -1), (piles[1], "clipped", 1)):
        if share < FROZEN.pile:
            continue
        level = np.float32(np.quantile(y, share if sign < 0 else 1.0 - share))
        cut = np.maximum(sample.y, level) if sign < 0 else np.minimum(sample.y, level)
        end = "lowest" if sign < 0 else "highest"
        label = f"{share:.1%} of the predicted values stand exactly at the {end}: a {'floor' if sign < 0 else 'ceiling'} near {level:.2f}"
        yield Form((fault,), label, y=cut, prior=FROZEN.rare - FROZEN.pile_bonus)


def _floored_powers(sample: Sample, geometry: BankGeometry, *, cut: bool) -> Iterator[Form]:
    """Power with a guard that was meant for magnitude: of the prediction, or (a target that is cut) of the target."""
    f, p, y = FROZEN, sample.p, sample.y
    unit = geometry.per_ln / geometry.power
    slope, shift = geometry.to_power

    def floored(label: str, p: np.ndarray | None, y: np.ndarray | None) -> Form:
        slack = f.slack_power
        return Form(
            ("power-floor",), label, p, y, prior=f.rare + 1.0, units=False, slack=slack, slack_pattern=slack / 2
        )

    for eps in (1e-6, 1e-5, 3e-5, 1e-4):
        power = np.maximum(slope * y + shift * unit, np.log(eps) * unit)
        yield floored(f"power clamped at {eps:g}", None, power.astype(np.float32))
    if cut:
        power = np.maximum(slope * p + shift * unit, y.min())
        label = f"the target is power cut at {y.min():.2f}, the prediction magnitude"
        yield floored(label, power.astype(np.float32), None)


def _logarithms(sample: Sample, geometry: BankGeometry) -> Iterator[Form]:
    """A logarithm left out on one side; magnitude or power."""

    def taken(linear: np.ndarray, power: int) -> np.ndarray:
        guarded = np.maximum(linear, geometry.eps**power)
        return np.asarray(np.log(guarded) * (geometry.per_ln / power), dtype=np.float32)

    f, p, y = FROZEN, sample.p, sample.y
    may_p, may_y = (float((values >= 0).mean()) > 0.97 for values in (p, y))
    for power, what in ((1, "magnitude"), (2, "power")):
        if may_p:
            label = f"{what} without the logarithm"
            yield Form(("log-missing",), label, p=taken(p, power), prior=f.rare, units=False)
        if may_y:
            label = f"the target is {what} without the logarithm"
            yield Form(("log-missing",), label, y=taken(y, power), prior=f.rare, units=False)


def _own_ranges(sample: Sample) -> Iterator[Form]:
    """Each utterance by its own minimum and maximum: of the target, or exactly those of the prediction."""
    p, y = sample.p, sample.y
    low, high = (np.array([op(part) for part in sample.cut(y)]) for op in (np.min, np.max))
    bottom, top = (np.array([op(part) for part in sample.cut(p)]) for op in (np.min, np.max))
    size = np.maximum(high - low, 1e-30)[sample.owner, None]
    for a, b in ((0.0, 1.0), (-1.0, 1.0), (-4.0, 4.0), (0.0, 4.0)):
        back = (p - a) / (b - a) * size + low[sample.owner, None]
        # That every utterance reaches both ends exactly cannot be chance; what is left of its level then is.
        exact = float(np.abs(bottom - a).max() + np.abs(top - b).max()) < 1e-3 * (b - a)
        prior, slack, slack_scale = (FROZEN.rare - 20.0, 0.3, 0.2) if exact else (FROZEN.rare, 0.05, 0.0)
        yield Form(
            ("minmax-per-utterance",), f"[{a:g}, {b:g}] by each utterance's minimum and maximum",
            p=back.astype(np.float32), prior=prior, units=False,
            slack=slack, slack_scale=slack_scale, any_utterance=exact,
        )  # fmt: skip
