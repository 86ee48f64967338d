"""Whole lengths of the window and the FFT, once an analysis is near: those that people write, then every one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from calib.mel.identify.scene import Fit, Scene
from calib.mel.identify.spectra import Core
from calib.mel.identify.usual import n_ffts

__all__ = ["FIELDS", "at_least", "ends", "lengths", "scan", "whole_if_better"]

FIELDS = ("fmin", "fmax", "centre", "width")  # the real-valued ones of every analysis
_FEW = 100  # frames on which what is clearly worse is left behind


def lengths(scene: Scene, fit: Fit) -> Fit:
    """The FFT length for the width found, then whole widths around it, then the other real-valued fields once more."""
    few, core = scene.sparse(_FEW), fit.core
    guard = few.moved(core, scene).guard
    trials = {_sized(core, n): few.fit(_sized(core, n).but(guard=guard)).loss for n in n_ffts(core)}
    if core.n_fft & (core.n_fft - 1):  # not a power of two: perhaps one of its own
        trials |= _valley(few, core, guard, filled=False)
        if core.width > 0.985 * core.n_fft:  # a window as long as its FFT: both at once
            trials |= _valley(few, core, guard, filled=True)
    likely = sorted(trials, key=lambda c: trials[c])[:3]
    best = scene.polish(min([fit, *(scene.fit(c) for c in likely)], key=lambda f: f.loss).core, FIELDS, 4)
    return ends(scene, whole_if_better(scene, best))


def _sized(core: Core, n_fft: int, *, filled: bool = False) -> Core:
    return core.but(n_fft=n_fft, width=float(n_fft) if filled else min(core.width, float(n_fft)))


def _valley(few: Scene, core: Core, guard: float, *, filled: bool) -> dict[Core, float]:
    """Losses of even FFT lengths from the core's own on, downhill, by no more than 60."""
    losses: dict[int, float] = {}
    middle = core.n_fft
    for _ in range(8):
        for n in range(middle - 8, middle + 9, 2):
            if n not in losses and (filled or n >= 0.985 * core.width):
                losses[n] = few.fit(_sized(core, n, filled=filled).but(guard=guard)).loss
        lowest = min(losses, key=lambda n: losses[n])
        if abs(lowest - middle) < 7:
            break
        middle = lowest
    return {_sized(core, n, filled=filled): loss for n, loss in losses.items()}


def ends(scene: Scene, fit: Fit, *, every: bool = False) -> Fit:
    """The window's length, where its ends do not fade: then the loss has a valley at every width, and none is followed.

    Args:
        scene: the mel.
        fit: of a Hamming or rectangular window; others are handed back.
        every: every whole width within 40 samples, instead of the usual ones within 3 %.
    """
    core = fit.core
    if core.window == "hann" or not scene.exact < fit.loss < 0.1:
        return fit
    few = scene.sparse(50 if every else 70)
    guard = few.moved(core, scene).guard
    whole, reach = round(core.width), 40 if every else min(80, max(4, int(0.03 * core.width)))
    trials: dict[Core, float] = {}
    filled = {n - d for n in (core.n_fft, *n_ffts(core)) if abs(n / core.width - 1.0) < 0.15 for d in (0, 1)}
    for width, closed in itertools.product(sorted({*range(whole - reach, whole + reach + 1), *filled}), (False, True)):
        win = width + closed  # a symmetric window has one sample more than it is wide
        if (closed and core.window == "rectangular") or not (every or win % 20 == 0 or win & (win - 1) == 0 or win in filled or win in {core.n_fft, whole}):  # fmt: skip
            continue
        first = core.centre - width / 2
        near = (0.0,) if every else (0.0, 0.75)
        starts = {float(f(first + sign * d)) for f, sign in ((np.floor, -1), (np.ceil, 1)) for d in near}
        if (
            win in filled and abs(width - whole) > reach
        ):  # so far off, the middle leads astray: it lies at the usual places
            starts = {float(t + round((first - t) / core.hop) * core.hop) for t in (-(win // 2), -((win - round(core.hop)) // 2), 0)}  # fmt: skip
        for n_fft, start in itertools.product({core.n_fft} if every else {core.n_fft, at_least(win), win}, starts):
            if n_fft >= win and (n_fft % 2 == 0 or n_fft == core.n_fft):
                trial = core.but(width=float(width), centre=start + width / 2, n_fft=n_fft, closed=closed)
                trials[trial] = few.fit(trial.but(guard=guard)).loss
    top = sorted(trials, key=lambda c: trials[c])[:2]
    best = min((scene.polish(c, ("fmin", "fmax"), 4) for c in top), key=lambda f: f.loss, default=fit)
    return best if best.loss < 0.8 * fit.loss else fit


def scan(scene: Scene, fit: Fit) -> Fit:
    """Even FFT lengths (then odd neighbours) up to four times the window, on few frames; the best three on all.

    The valley around the true length is some 30 samples wide: every fourth length finds it, or its neighbours do.
    """
    core = fit.core
    few = scene.sparse(40)
    least = int(np.ceil(core.width * 0.99 / 2)) * 2
    losses: dict[int, float] = {}

    def hear(sizes: Iterable[int]) -> list[int]:
        for n in sizes:
            if n not in losses and n >= least:
                losses[n] = few.fit(core.but(n_fft=n, width=min(core.width, float(n)))).loss
        return sorted(losses, key=lambda n: losses[n])[:6]

    most = min(least + 1200, int(min(4.1 * core.width, 2.2 * core.width + 1200)))
    found = hear(n + d for n in hear(range(least, most, 4)) for d in (-2, 2))[:3]
    near = {n + d for n in found[:1] for d in (-1, 1) if n + d >= core.width}
    fits = [scene.polish(core.but(n_fft=n, width=min(core.width, float(n))), ("width",), 2) for n in {*found, *near}]
    return min(fits, key=lambda f: f.loss)


def whole_if_better(scene: Scene, best: Fit) -> Fit:
    """The best of the whole widths around the one found, unless it leaves more or the width is not known so well."""
    if scene.errors(best, ("width",))["width"] > 3.0:  # noise would make a lottery of what follows
        return best
    top = _whole(scene, best)
    return scene.polish(top.core, ("fmin", "fmax"), 4) if top.loss < 1.05 * best.loss else best


def _whole(scene: Scene, fit: Fit) -> Fit:
    """The best of the whole widths around a width, with starts on whole samples, and FFTs that the window may fill.

    The frequencies of an odd FFT's bins are not quite true, so each length has edges of its own.
    """
    core, few = fit.core, scene.sparse(_FEW)
    guard = few.moved(core, scene).guard
    whole: dict[int, list[Core]] = {}
    for width in (round(core.width) + d for d in (0, -1, 1)):
        first = core.centre - width / 2  # of the window: a whole sample
        starts = {np.floor(first), np.ceil(first)} if abs(first - round(first)) > 0.2 else {round(first)}
        sizes = {n for n in (core.n_fft, width, width + 1, width + width % 2) if n >= width}
        for start, n_fft in itertools.product(starts, sizes):
            trial = core.but(width=float(width), centre=float(start) + width / 2, n_fft=int(n_fft), closed=False)
            whole.setdefault(int(n_fft), []).append(trial)
            if core.window == "hamming" and n_fft > width:
                whole[int(n_fft)].append(trial.but(closed=True))
    least = []
    for trials in whole.values():
        likely = sorted(trials, key=lambda c: few.fit(c.but(guard=guard)).loss)[:2]
        least.append(min((scene.fit(c) for c in likely), key=lambda f: f.loss))
    if scene.exact < min(f.loss for f in least):
        least += [scene.polish(f.core, ("fmin", "fmax"), 2) for f in least if f.core.n_fft % 2 != core.n_fft % 2]
    return min(least, key=lambda f: f.loss)


def at_least(width: float) -> int:
    """The power of two, from 64 on, that a window of this width fits in."""
    return int(2 ** np.ceil(np.log2(max(width, 64.0) - 1e-6)))
