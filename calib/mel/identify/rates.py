"""The rates at which an analysis may have been made: which have a whole hop, and which of them explain the mel.

A mel's frames lie so many seconds apart. At the audio's own rate that is a whole number of samples, or the audio was
brought to another rate first; lengths in samples, a first difference and levels then are those of that rate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from calib.mel.identify.placing import Placed, hops
from calib.mel.identify.scene import Fit, Scene, paired_t
from calib.mel.identify.search import guarded, settle
from calib.mel.identify.spectra import Core
from calib.mel.identify.windows import lengths

__all__ = ["at_rate", "elsewhere", "other_homes", "other_rates", "retimed", "sharper", "whole_hops"]

_OFF = 0.01  # loss above which the hop is looked at once more
_NEARLY = 0.1  # loss below which an analysis tells the time between frames better than levels do
_ROUNDING = 3e-6  # loss of float32 values


def elsewhere(scene: Scene, best: Fit, others: list[tuple[int, int]]) -> Iterator[Fit]:
    """The analysis at other rates, the likeliest first, with the guard that it needs there."""
    few = scene.sparse(60)
    cores = [
        at_rate(best.core, rate, hop) for rate, hop in others if best.core.fmax * best.core.ratio <= rate / 2 * 1.02
    ]
    own, exact = scene.benches[0].rate, False
    likely = sorted(cores, key=lambda c: (c.rate > own, few.fit(few.moved(c, scene)).loss))
    for core in likely[:3]:
        if core.rate > own and exact:
            break
        trial = lengths(scene, scene.polish(core, ("fmin", "fmax", "centre", "width"), 3))
        if scene.exact < trial.loss < best.loss:
            trial = guarded(scene, trial)
        exact = exact or trial.loss < scene.exact
        yield trial


def sharper(scene: Scene, best: Fit, options: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The rates whose whole hop the time between frames allows, which a near analysis knows to a thousandth of a sample."""
    if len(options) < 2 or not _ROUNDING < best.loss < _NEARLY:
        return options
    moved = scene.polish(best.core, ("hop", "centre"), 3)
    error = max(scene.errors(moved, ("hop", "centre"))["hop"], 1e-4)
    rate = best.core.rate
    kept = [(r, hop) for r, hop in options if abs(hop * rate / r - moved.core.hop) <= 3.0 * error]
    return kept or options


def retimed(
    scene: Scene, best: Fit, placed: Placed, options: list[tuple[int, int]]
) -> tuple[Fit, list[tuple[int, int]]]:
    """The whole hop once more, with the bank and the window that were found: rough analyses may be a sample off."""
    if best.loss < _OFF:
        return best, options
    moved = scene.polish(best.core, ("hop", "centre", "fmin", "fmax", "width"), 5)
    hop = moved.core.hop
    if moved.loss > 0.8 * best.loss or abs(hop - round(hop)) > 0.25 or round(hop) == round(best.core.hop):
        return best, options
    again = lengths(scene, scene.polish(moved.core.but(hop=float(round(hop))), ("centre", "fmin", "fmax", "width"), 6))
    if again.loss > 0.8 * best.loss:
        return best, options
    return again, whole_hops(placed, again)


def whole_hops(placed: Placed, fit: Fit) -> list[tuple[int, int]]:
    """Rates and whole hops that fit the hop of an analysis."""
    hop, rate = round(fit.core.hop), fit.core.rate
    fine = dataclasses.replace(placed.alignment, hop=hop / rate, hop_error=0.05 / rate, start=fit.core.centre / rate, fine=True)  # fmt: skip
    return list(hops(dataclasses.replace(placed, alignment=fine)))


def other_homes(scene: Scene, best: Fit, others: list[tuple[int, int]]) -> tuple[Fit, list[tuple[int, int]]]:
    """The settled analysis at the other rates that fit the time between frames; the best of them settled again."""
    home = (best.core.rate, round(best.core.hop))
    trials = []
    for rate, hop in others[:4]:
        if best.core.fmax * best.core.ratio > rate / 2 * 1.02:
            continue
        core = at_rate(best.core, rate, hop)
        if core.preemphasis:  # a first difference at another rate is another filter
            factor = rate / best.core.rate
            core = core.but(preemphasis=float(np.clip(1.0 - (1.0 - core.preemphasis) / factor, 0.5, 0.99)))
        trials.append(lengths(scene, scene.polish(core, ("fmin", "fmax", "centre", "width"), 4)))
    if not trials:
        return best, others
    top = min(trials, key=lambda f: f.loss)
    if top.loss > 0.9 * best.loss:
        return best, others
    if top.loss > scene.exact:
        top = settle(scene, top)
    if top.loss > scene.exact:  # what was learnt there may hold at home
        back = at_rate(top.core, *home)
        if back.preemphasis:
            factor = home[0] / top.core.rate
            back = back.but(preemphasis=float(np.clip(1.0 - (1.0 - back.preemphasis) / factor, 0.5, 0.99)))
        again = lengths(scene, scene.polish(back, ("fmin", "fmax", "centre", "width"), 8))
        if again.loss < max(1.2 * top.loss, scene.exact):
            return again, others
    if top.loss > 0.5 * best.loss:
        return best, others
    return top, [*[o for o in others if o[0] != top.core.rate], home]


def at_rate(core: Core, rate: int, hop: int) -> Core:
    """The same analysis, in seconds and Hz, of the audio at another rate."""
    factor = rate / core.rate
    n_fft = max(64, 2 * round(core.n_fft * factor / 2))
    width = core.width * factor
    return core.but(rate=rate, hop=float(hop), centre=core.centre * factor, width=width, n_fft=max(n_fft, int(np.ceil(width))), fmax=min(core.fmax, rate / 2 / core.ratio), eps=core.eps * factor**2)  # fmt: skip


def other_rates(scene: Scene, fit: Fit, others: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Rates that explain the mel as well as the one held; none above the audio's own where that one or a lower one is held.

    Audio brought to twice its rate and analysed with everything twice as long gives the same mel: that is said with the
    rate, and no set is made of it, since nobody does so without cause.
    """
    kept = []
    own = scene.benches[0].rate
    if fit.core.rate <= own:
        others = [o for o in others if o[0] < own or (o[0] == own and fit.core.rate < own)]
    for rate, hop in others[:3]:
        factor = rate / fit.core.rate
        n_fft = fit.core.n_fft * factor
        if fit.core.fmax * fit.core.ratio > rate / 2 + 1e-6 or abs(n_fft - round(n_fft)) > 1e-6:
            continue
        moved = fit.core.but(rate=rate, hop=float(hop), centre=fit.core.centre * factor, width=fit.core.width * factor, n_fft=round(n_fft), ratio=fit.core.ratio)  # fmt: skip
        trial = scene.polish(moved, ("centre",), 1)
        if paired_t(trial.residual, fit.residual) < 4.0:
            kept.append((rate, hop))
    return tuple(kept)
