"""What a healthy model would not show: smoothing, and what is left over when everything that was named is undone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.score import IMPOSSIBLE
from calib.diagnose.faults.texture import Spectrum, Texture

if TYPE_CHECKING:
    from calib.diagnose.faults.candidates import Candidate
    from calib.diagnose.faults.explain import Explanation

__all__ = ["Case", "copied", "leftover", "smoothings"]

# Faults that bend the curve or pile values up by themselves.
_BENT = {"raised-floor", "clipped", "power-floor", "log-missing", "range-normalised", "minmax-per-utterance"}
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
    limit = (f.smooth_time if in_time else f.smooth_frequency) * (5.0 if few else 1.0)
    detail = min(s.power[1], s.power[2])
    if s.held > f.smooth_held and t.steps > f.steps:
        return f"{s.held:.0%} of the steps between {{what}} are exactly 0 or exactly in a line: held or interpolated"
    if s.removable - 1.5 * s.error > limit:
        return f"an inverse filter over {{what}} would remove {s.removable:.1%} of the squared error"
    # Scaled by its own extremes, a conditional mean has the target's variance too.
    if s.sampler and not few and not case.best.form.any_utterance and detail < f.smooth_power * s.power[0]:
        return f"a model with the target's variance, but {detail:.3f} of its power in detail over {{what}}"
    if not in_time and t.own > f.smooth_strong and s.power[2] < f.smooth_power_strong:
        return f"r {t.own:.2f}, but {s.power[2]:.3f} of the target's power in detail over {{what}}"
    return None


def leftover(case: Case, named: set[str]) -> list[str]:
    """What a healthy model would not show and nothing that was named explains: one line for each axis."""
    lines = list(_misfits(case, named))
    t = case.out.texture
    if t is None:
        return lines
    lines += _details(case, t)
    # Axes that a fault of the library names when it is there.
    lines += [text for fault, text in smoothings(case) if fault not in case.library and fault not in named]
    # Above the lower of two sample rates there is nothing.
    if (text := copied(case)) and "copying" not in case.library:
        lines.append(text)
    if case.dead.size and not {"dead-bins", "sample-rate"} & named:
        lines.append(f"{case.dead.size} bins hardly move")
    if case.out.unpaired is not None and "wrong-pairs" not in case.library:
        lines.append(case.out.unpaired[1])
    if t.steps >= FROZEN.steps and not _BENT & named:
        for share, end in zip(case.out.piles, ("lowest", "highest"), strict=True):
            if share >= FROZEN.pile:
                lines.append(f"{share:.1%} of the predicted values stand exactly at the {end}, the target's do not")
    if case.autoregressive is False and abs(case.out.lag) > FROZEN.lag and not case.few and t.own > _RELATED:
        lines.append(f"the prediction is {case.out.lag:+.2f} frames late")
    return lines


def _misfits(case: Case, named: set[str]) -> Iterator[str]:
    """Level, spread and sign, after the best map."""
    f, c = FROZEN, case.best.cost
    blurred = "oversmoothed-frequency" in named  # a blur over bins moves their means
    near = f.unknown_read if case.best.form.read else 0.0
    for name, nats, limit in (
        ("offset by bin", c.pattern, f.unknown_pattern + (12.0 if blurred else near)),
        ("spread by bin", c.evenness, f.unknown_evenness + near),
        ("place of the bins", c.place, f.unknown_place + near),
        ("level or spread by utterance", c.utterances, f.unknown_utterances),
        ("spread", c.scale, f.unknown_scale),
        ("level", c.level, f.unknown_level),
    ):
        if nats > limit:
            yield f"{name} {nats:.1f} nats > {limit:g}"
    if c.total >= IMPOSSIBLE / 2:
        yield f"r {case.best.stats.r:.2f} with the target, and no map makes that positive"


def _details(case: Case, t: Texture) -> Iterator[str]:
    """Detail that is too much, in the wrong place, or bent."""
    f, best, few = FROZEN, case.best, case.few
    spectra = [spectrum for spectrum in (t.time, t.frequency) if spectrum is not None]
    slope = float(np.mean(np.abs(best.terms.slope)))
    louder = max(1.0, (slope * best.stats.s_w_p / best.stats.s_w_y) ** 2)
    loud, rough = (max(values) / louder for values in ([s.power[0] for s in spectra], [s.rough for s in spectra]))
    roughest = f.rough if case.autoregressive is False else f.rough_autoregressive
    checks = [
        ("power in detail, times the target's", rough, roughest),
        ("power in broad shape, times the target's", loud, f.loud + (0.5 if few else 0.0)),
        ("r with the target some frames back, more than with that ahead", t.echo, f.echo + (0.35 if few else 0.0)),
        ("share of bins that match another bin better", t.misplaced, f.misplaced + (0.4 if few else 0.0)),
        ("frames that the lag changes along an utterance", 0.0 if few else abs(case.out.drift), f.drift),
    ]  # fmt: skip
    undone = {*best.faults, *(fault for step in case.out.steps for fault in step.faults)}
    bent = f.curved_cut if undone & _BENT else f.curved
    checks.append(("variance that a curve explains beyond a line", t.curved, bent + (0.03 if few else 0.0)))
    for name, value, limit in checks:
        if value > limit:
            yield f"{name} {value:.3g} > {limit:g}"
    if t.bin_drop < f.bin_drop and t.own > _RELATED and not few:
        yield f"r of the worst eighth of the bins over that of the best {t.bin_drop:.2f} < {f.bin_drop:g}"
    if t.steps < f.steps:
        yield f"few values: {t.steps:.2%} of the prediction's are distinct"
