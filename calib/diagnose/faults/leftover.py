"""What a healthy model would not show: smoothing, and what is left over when everything that was named is undone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.odds import one_in
from calib.diagnose.faults.score import FRAMES, IMPOSSIBLE
from calib.diagnose.faults.texture import Spectrum, Texture

if TYPE_CHECKING:
    from calib.diagnose.faults.candidates import Candidate
    from calib.diagnose.faults.explain import Explanation

__all__ = ["Case", "Left", "copied", "leftover", "smoothings"]

# Faults that bend the curve or pile values up by themselves.
_BENT = {"raised-floor", "clipped", "power-floor", "log-missing", "range-normalised", "minmax-per-utterance"}
_SMOOTHED = {"oversmoothed-time", "oversmoothed-frequency"}
_BANDS = 6.0  # independent values in one frame
_MOST = 2.0  # of an excess
_RELATED = 0.3  # r below which detail says nothing


@dataclass(frozen=True)
class Case:
    """What is judged.

    Args:
        out: what the stages found.
        best: the best candidate of units and frequency.
        library: faults that may be named.
        autoregressive: as declared.
        dead: indices of bins of the prediction that hardly move.
    """

    out: Explanation
    best: Candidate
    library: frozenset[str]
    autoregressive: bool | None
    dead: np.ndarray

    @property
    def few(self) -> bool:
        """Whether rare things happen by chance in so few frames."""
        return self.best.stats.n_frames < FROZEN.few_frames

    @property
    def chance(self) -> float:
        """Size of a correlation that is there by chance: one over the root of the independent frames."""
        return math.sqrt(FRAMES / max(self.best.stats.n_frames, 1))

    @property
    def weak(self) -> float:
        """That beside the correlation which is there, from a tenth on."""
        own = 1.0 if self.out.texture is None else self.out.texture.own
        return max(self.chance / max(own, 1e-3) - 0.1, 0.0)


class Left(NamedTuple):
    """What is left over on one axis.

    Args:
        text: what was measured and its limit.
        excess: ln of how many times the limit it is, at most 2.
    """

    text: str
    excess: float


def copied(case: Case) -> str | None:
    """Why a prediction is taken for a copy of the previous true frame, or None."""
    f, t = FROZEN, case.out.texture
    if t is None or case.autoregressive is False:
        return None
    if t.copied > f.copied and t.copied > t.own and t.innovation < f.innovation:
        return (
            f"r {t.copied:.3f} with the previous true frame, {t.own:.3f} with its own; innovation r {t.innovation:.2f}"
        )
    return None


def smoothings(case: Case) -> Iterator[tuple[str, str]]:
    """Faults of smoothing with the reason, whether or not the library may name them."""
    t = case.out.texture
    if t is None:
        return
    if t.time is not None and (text := _smoothed(t.time, t, case, in_time=True)):
        yield "oversmoothed-time", text.format(what="frames")
    if t.frequency is not None and (text := _smoothed(t.frequency, t, case, in_time=False)):
        yield "oversmoothed-frequency", text.format(what="bins")


def _smoothed(s: Spectrum, t: Texture, case: Case, *, in_time: bool) -> str | None:
    """Why a prediction is taken for smoothed, or None."""
    f, few = FROZEN, case.few
    # What the previous frame tells a weak model is not shrunk as a conditional mean would be.
    limit = (f.smooth_time + f.smooth_time_weak * (1.0 - t.own**2)) * (5.0 if few else 1.0)
    detail = min(s.power[1], s.power[2])
    stretched = in_time and any("time-stretch" in step.faults for step in case.out.steps)  # and so interpolated here
    if s.held > f.smooth_held and t.steps > f.steps and not stretched:
        return f"{s.held:.0%} of the steps between {{what}} are exactly 0 or exactly in a line: held or interpolated"
    if not few and (text := s.cut_off(in_time=in_time)):
        return text
    if in_time and s.removable - 1.5 * s.error > limit:
        return f"an inverse filter over {{what}} would remove {s.removable:.1%} of the squared error"
    # Scaled by its own extremes, a conditional mean has the target's variance too.
    sampler = s.sampler and case.best.stats.kind != "mean" and not case.best.form.any_utterance
    if sampler and not few and detail < f.smooth_power * s.power[0]:
        return f"a model with the target's variance, but {detail:.3f} of its power in detail over {{what}}"
    if not in_time and t.own > f.smooth_strong and s.power[2] < f.smooth_power_strong:
        return f"r {t.own:.2f}, but {s.power[2]:.3f} of the target's power in detail over {{what}}"
    return None


def leftover(case: Case, named: set[str]) -> list[Left]:
    """What a healthy model would not show and nothing that was named explains: one line for each axis."""
    f, lines = FROZEN, list(_misfits(case, named))
    t = case.out.texture
    if t is None:
        return lines
    lines += _details(case, t)
    # Axes that a fault of the library names when it is there.
    unnamed = [text for fault, text in smoothings(case) if fault not in case.library and fault not in named]
    if (text := copied(case)) and "copying" not in case.library:
        unnamed.append(text)
    # Above the lower of two sample rates there is nothing.
    if case.dead.size and not {"dead-bins", "sample-rate", "log-missing"} & named:
        unnamed.append(f"{case.dead.size} bins hardly move")
    if case.out.level_drift is not None and "level-drift" not in case.library:
        unnamed.append(case.out.level_drift.text)
    unnamed += [part.text for part in case.out.parts if part.fault not in case.library]
    lines += [Left(text, _MOST) for text in unnamed]
    if t.steps >= f.steps and not _BENT & named:
        for share, end in zip(case.out.piles, ("lowest", "highest"), strict=True):
            text = f"{share:.1%} of the predicted values stand exactly at the {end}, the target's do not"
            lines += _beyond(text, share, f.pile)
    if case.autoregressive is False and not case.few and t.own > _RELATED:
        text = f"the prediction is {case.out.lag:+.2f} frames late"
        lines += _beyond(text, abs(case.out.lag), f.lag + f.lag_chance * case.weak)
    return lines


def _beyond(text: str, value: float, limit: float) -> Iterator[Left]:
    """A line where the value passes its limit."""
    if value > limit:
        yield Left(text, min(math.log(value / max(limit, 1e-9)), _MOST))


def _misfits(case: Case, named: set[str]) -> Iterator[Left]:
    """Level, spread and sign, after the best map."""
    f, c = FROZEN, case.best.cost
    # A blur over bins moves their means; one over an even number of them their place.
    blurred = "oversmoothed-frequency" in named
    stretched = any("time-stretch" in step.faults for step in case.out.steps)
    near = f.unknown_read if case.best.form.read or stretched else 0.0  # what was interpolated is only nearly right
    if case.best.form.read and "sample-rate" in named and not case.out.declared:
        near = math.inf  # the bank that was tried is only the nearest of a few
    # Smoothing takes spread away, and some more from bins that move faster.
    smoothed = bool(_SMOOTHED & named)
    for name, nats, limit in (
        ("offset by bin", c.pattern, f.unknown_pattern + (12.0 if blurred else near)),
        ("spread by bin", c.evenness, f.unknown_evenness * (1 + smoothed) + near),
        ("place of the bins", c.place, math.inf if blurred else f.unknown_place + near),
        ("level or spread by utterance", c.utterances, f.unknown_utterances),
        ("spread", c.scale, math.inf if smoothed else f.unknown_scale),
        ("level", c.level, f.unknown_level),
    ):
        yield from _beyond(f"{name}: as odd as {one_in(nats)} for a healthy model, limit {one_in(limit)}", nats, limit)
    if c.total >= IMPOSSIBLE / 2:
        yield Left(f"r {case.best.stats.r:.2f} with the target, and no map makes that positive", _MOST)


def _details(case: Case, t: Texture) -> Iterator[Left]:
    """Detail that is too much, in the wrong place, or bent."""
    f, best, few = FROZEN, case.best, case.few
    spectra = [spectrum for spectrum in (t.time, t.frequency) if spectrum is not None]
    slope = float(np.mean(np.abs(best.terms.slope)))
    louder = max(1.0, (slope * best.stats.s_w_p / best.stats.s_w_y) ** 2)
    loud, rough = (max(values) / louder for values in ([s.power[0] for s in spectra], [s.rough for s in spectra]))
    roughest = f.rough if case.autoregressive is False else f.rough_autoregressive
    chance, weak = case.chance, case.weak
    undone = {*best.faults, *(fault for step in case.out.steps for fault in step.faults)}
    # By chance a curve explains the more the fewer values are independent: those of few bins are.
    bent = f.curved_chance * (1.0 - t.own**2) * chance**2 * max(1.0, _BANDS / best.stats.alive.sum())
    bent += f.curved_cut if undone & {*_BENT, "time-stretch"} else f.curved
    checks = [
        ("power in detail, times the target's", rough, roughest),
        ("power in broad shape, times the target's", loud, f.loud + f.loud_chance * max(chance - 0.05, 0.0)),
        ("r with the target some frames back, more than with that ahead", t.echo, f.echo + f.echo_chance * chance),
        ("share of bins that match another bin better", t.misplaced, f.misplaced + f.misplaced_chance * max(weak - 0.03, 0.0)),
        ("frames that the lag changes along an utterance", 0.0 if few else abs(case.out.drift), f.drift + f.drift_chance * weak),
        ("variance that a curve explains beyond a line", t.curved, bent),
    ]  # fmt: skip
    for name, value, limit in checks:
        yield from _beyond(f"{name} {value:.3g} > {limit:.3g}", value, limit)
    drop, least = t.bin_drop, f.bin_drop - f.bin_drop_chance * weak
    if t.own > _RELATED and not few and "sample-rate" not in undone:  # above the lower rate there is nothing
        text = f"r of the worst eighth of the bins over that of the best {drop:.2f} < {least:.2g}"
        yield from _beyond(text, least, max(drop, 1e-3))
    yield from _beyond(f"few values: {t.steps:.2%} of the prediction's are distinct", f.steps, max(t.steps, 1e-6))
