"""What was searched, once more on more frames and with the quiet cells; then rebuilt, proven and named: a `Case`.

Every step that takes time asks the budget. What was not tried for want of it is kept by name, with the fields that it
would have told: `saying` claims none of them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from calib.mel.frontend import FrontEnd
from calib.mel.identify.budget import Budget
from calib.mel.identify.guards import clamped, quiet_cells
from calib.mel.identify.kin import kindred
from calib.mel.identify.levels import Levels, levels
from calib.mel.identify.naming import Naming, name
from calib.mel.identify.placing import Placed, hops, scene_of
from calib.mel.identify.rates import other_rates
from calib.mel.identify.rebuild import Geometry, Guard, Proof, build, geometry, guard_of, prove, with_tail
from calib.mel.identify.resolve import Choice, snap, turn_over
from calib.mel.identify.results import NOISY_DB
from calib.mel.identify.scene import Fit, Scene
from calib.mel.identify.search import bank_variants, other_norm
from calib.mel.identify.spectra import Bench, edges_of

__all__ = ["LOUD", "NAMES_UNTRIED", "NEAR", "ROUNDING", "SEARCH_CELLS", "Case", "settled"]

SEARCH_CELLS = 32_000
LOUD = 0.4  # share of the quietest cells of each bin that the search leaves out: guards live there
NEAR = 0.003  # loss below which the edges are brought to where they are best
ROUNDING = 3e-6  # loss of float32 values; above it, another rate is tried
NAMES_UNTRIED = "named front ends"
_PROOF_CELLS = 80_000
_EXACT_DB = 1e-3  # mean error of a mel whose quietest cells are as computed
_BELOW = 6  # cells on a wall whose outputs lie below it
_WALL = 0.02  # ln above a clamp's wall, below which cells say nothing but that
_LIKE = 0.05  # loss below which mel scales are compared once more
_GUARDS = ("what is added in quiet cells", ("log_guard", "log_eps", "spectrum_eps", "filter_norm", "post_norm", "gain_db"))  # fmt: skip
_WHOLE = ("fmin", "fmax", "n_fft", "win_length", "window_periodic", "padding", "pad_mode", "preemphasis")
_TELLS = {"half": ("padding", "pad_mode"), "centre": ("padding", "pad_mode", "window_periodic"), "width": ("win_length", "window_periodic"), "closed": ("window_periodic",)}  # fmt: skip

_T = TypeVar("_T")


@dataclass(frozen=True)
class Case:
    """Everything that was found, for those who put it into words.

    Args:
        placed: the clips.
        fit: the settled hypothesis on many frames.
        noise_db: its residual in dB.
        errors: half-widths of the intervals of real-valued fields.
        choices: discrete fields turned over.
        rates: other ``(rate, hop)`` that are not excluded.
        geometry: window and padding.
        levels: unit and normalisation.
        guard: of the logarithm.
        frontend: rebuilt, or of the catalogue's entry.
        proof: of that one.
        shift: samples.
        naming: the catalogue's part.
        pad_modes: padding modes that the ends of the clips allow.
        band: Hz above which the audio holds nothing.
        options: every ``(rate, hop)`` that fits the time between frames.
        kin: in noise, catalogued front ends whose filterbank explains the mel as well.
        ended: CPU seconds that were allowed, where the search was ended for them.
        untried: steps after the search that there was no time for, and the fields that they would have told.
        seconds: of CPU time that were allowed.
    """

    placed: Placed
    fit: Fit
    noise_db: float
    errors: dict[str, float]
    choices: dict[str, Choice]
    rates: tuple[tuple[int, int], ...]
    geometry: Geometry
    levels: Levels
    guard: Guard
    frontend: FrontEnd | None
    proof: Proof | None
    shift: int
    naming: Naming
    pad_modes: tuple[str, ...]
    band: float
    options: tuple[tuple[int, int], ...]
    kin: tuple[str, ...] = ()
    ended: float | None = None
    untried: dict[str, tuple[str, ...]] = field(default_factory=dict)
    seconds: float = 0.0


def _tried(budget: Budget, what: tuple[str, tuple[str, ...]], step: Callable[[], _T], otherwise: _T, scene: Scene) -> _T:  # fmt: skip
    """A step that looks at a scene, while there is time."""
    scene.budget = budget
    try:
        return budget.tried(*what, step, otherwise)
    finally:
        scene.budget = None


def settled(placed: Placed, band: float, budget: Budget, fit: Fit, others: list[tuple[int, int]], searched: Scene) -> Case:  # fmt: skip
    """Once more on more frames, with the quiet cells; then rebuilt, proven and named."""
    budget.settling()
    bins = placed.y[0].shape[1]
    if ROUNDING < fit.loss < _LIKE:  # scales that are nearly the same
        other = _tried(budget, ("the other mel scales once more", ("mel_scale",)), lambda: min(bank_variants(searched, fit, few=True), key=lambda f: f.loss), fit, searched)  # fmt: skip
        fit = other if other.loss < 0.8 * fit.loss else fit
    heard = edges_of(fit.core, bins)[2:] < band if band < fit.core.rate / 2 - 200.0 else np.ones(bins, bool)
    wide, held, clamp = _with_quiet_cells(placed, budget, fit, searched, heard)
    loud, _ = scene_of(placed, fit.core, SEARCH_CELLS, loud=LOUD)
    loud.hear(heard)
    base = start = loud.fit(loud.moved(held.core, wide))
    if ROUNDING < start.loss < NEAR:  # the search ends where rounding could be all that is left: edges may be nearer
        base = _tried(budget, ("edges of the bank, nearer still", ("fmin", "fmax")), lambda: loud.polish(start.core, ("fmin", "fmax"), 10, tolerance=1e-3), start, loud)  # fmt: skip
    none: dict[str, float] = {}
    snapped, errors = _tried(budget, ("whole and usual numbers", _WHOLE), lambda: snap(loud, base), (base, none), loud)
    held = wide.fit(wide.moved(snapped.core, loud))
    lv = levels(loud, snapped)
    noise_db = loud.decibels(snapped)
    guard, lv = guard_of(wide, held, lv, placed, clamp=clamp)
    loud.budget = budget
    choices = turn_over(loud, snapped, errors)
    loud.budget = None
    budget.untried |= {f"alternatives of {key}": _TELLS.get(key, (key,)) for key, c in choices.items() if not c.tried}
    rates = _tried(budget, ("the analysis at other rates", ()), lambda: other_rates(loud, snapped, others), tuple(others[:3]), loud)  # fmt: skip
    kin: tuple[str, ...] = ()
    if noise_db > NOISY_DB:
        kin = _tried(budget, ("filterbanks of named front ends", ()), lambda: kindred(loud, snapped), (), loud)
    unsure = "centre" in choices and bool(choices["centre"].open)  # a sample earlier or later would do
    geo = geometry(held.core, max(errors.get("centre", 0.0), 1.0 if unsure else 0.0))
    samples = [Bench(c.samples, placed.rate, np.arange(1), bins).resampled(held.core.rate) for c in placed.clips]
    noise = noise_db / 8.686 * held.core.power
    budget.proving()
    built = build(held.core, geo, lv, guard, placed, noise)
    proof: Proof | None = None
    modes: tuple[str, ...] = ()
    if built is not None:
        built, proof, modes = _best_ends(built, geo, placed, samples, lv, budget)
        guard = _told_by_the_whole(guard, built, proof, placed, samples, geo, budget)
    naming = name(held.core, placed, proof, lv.slope, noise, budget)
    if naming.untried:
        budget.untried[f"{NAMES_UNTRIED} ({', '.join(naming.untried)})"] = ()
    frontend, shift = built, geo.shift
    if naming.best is not None:
        frontend, proof, shift = naming.best, naming.proof, 0
    return Case(
        placed, held, noise_db, errors, choices, rates, geo, lv, guard, frontend, proof, shift, naming, modes, band, tuple(hops(placed)),
        kin, budget.seconds if budget.ended else None, dict(budget.untried), budget.seconds,
    )  # fmt: skip


def _told_by_the_whole(guard: Guard, built: FrontEnd, proof: Proof | None, placed: Placed, samples: list[np.ndarray], geo: Geometry, budget: Budget) -> Guard:  # fmt: skip
    """A wall of the whole mel, ends and bins above the audio's band too: a clamp's, where outputs just below it lie on it.

    A sum would have lifted these above the wall. Outputs just above it must be right, or those below say nothing.
    """
    if guard.kind != "silence" or proof is None or proof.decibels > _EXACT_DB or geo.shift or budget.spent():
        return guard
    near = total = below = 0
    wall = placed.traits.wall(placed.alignment.sign)
    for y, x in zip(placed.y, samples, strict=True):
        linear = np.asarray(built.linear(x), np.float64) / guard.eps
        count = min(len(y), len(linear))
        on = np.abs(y[:count] - wall) <= 1e-5 * max(float(np.ptp(y)), 1e-9)
        below += int((on & (linear[:count] > 0.05) & (linear[:count] < 0.97)).sum())
        just = (linear[:count] > 1.05) & (linear[:count] < 8.0)
        total += int(just.sum())
        near += int((just & ~on).sum())
    return dataclasses.replace(guard, kind="clamp") if below >= _BELOW and near > 0.9 * total else guard


def _with_quiet_cells(placed: Placed, budget: Budget, fit: Fit, searched: Scene, heard: np.ndarray) -> tuple[Scene, Fit, bool]:  # fmt: skip
    """The scene of many frames, the fit there with what is added in quiet cells, and whether a clamp was found."""
    wide, _ = scene_of(placed, fit.core, _PROOF_CELLS, loud=0.0)
    wide.hear(heard)
    held = first = wide.fit(wide.moved(fit.core, searched))
    bare = wide.fit(fit.core.but(guard=0.0)) if fit.core.guard else held
    wall = None if placed.traits.linear else clamped(wide, bare, placed.traits.wall(placed.alignment.sign))
    if wall is not None and bare.loss < max(NEAR, 2.0 * held.loss):
        above = wide.without(bare.log < wall + _WALL)
        plain = above.fit(bare.core)
        return above, _tried(budget, _GUARDS, lambda: quiet_cells(above, plain, added=False), plain, above), True
    held = _tried(budget, ("the other area norm", ("filter_norm", "log_guard", "log_eps")), lambda: other_norm(wide, first), first, wide)  # fmt: skip
    # Without a guard at all events: it is soon done, and no level can be told without it.
    if not fit.core.guard or held.loss > wide.exact:
        second = held
        held = _tried(budget, _GUARDS, lambda: other_norm(wide, quiet_cells(wide, second)), second, wide)
    return wide, held, False


def _best_ends(built: FrontEnd, geo: Geometry, placed: Placed, samples: list[np.ndarray], lv: Levels, budget: Budget) -> tuple[FrontEnd, Proof | None, tuple[str, ...]]:  # fmt: skip
    """Padding mode and what happens at the end, by computing."""
    options = [built]
    if geo.shift == 0 and geo.padding in {"center", "same"}:
        options = [dataclasses.replace(built, pad_mode=mode) for mode in ("reflect", "constant")]
    elif geo.padding == "none" and geo.shift == 0:
        options = [built, dataclasses.replace(built, padding="end")]
    proofs = [(options[0], prove(options[0], placed, samples, lv.slope, geo.shift))]
    for other in options[1:]:
        what = ("the ends of the clips", ("padding", "pad_mode"))
        found = budget.tried(*what, functools.partial(prove, other, placed, samples, lv.slope, geo.shift), None)
        proofs.append((other, found))
    good = [(fe, p) for fe, p in proofs if p is not None]
    if not good:
        return built, None, ()

    def at_ends(p: Proof) -> float:
        cells = np.abs(p.difference[p.edges])
        return float(np.mean(np.minimum(cells, 1.0))) + 10.0 * sum(map(abs, p.lengths)) if cells.size else 0.0

    good.sort(key=lambda item: at_ends(item[1]))
    fe, proof = good[0]
    allowed = tuple(f.pad_mode for f, p in good if f.padding == fe.padding and p.lengths == proof.lengths and _same_ends(p, proof))  # fmt: skip
    tailed = with_tail(fe, proof, placed)
    if tailed != fe:
        again = prove(tailed, placed, samples, lv.slope, geo.shift)
        if again is not None:
            fe, proof = tailed, again
    return fe, proof, allowed if geo.padding in {"center", "same"} else ()


def _same_ends(p: Proof, best: Proof) -> bool:
    """Whether the ends speak against a padding mode: cells that the best one explains as well as it does the inner frames.

    Bins that nothing explains (not heard, or under a guard that was not found) are so at the ends, too, in both modes.
    """
    if p is best:
        return True
    a, b = np.abs(p.difference[p.edges]), np.abs(best.difference[best.edges])
    inner = np.abs(best.difference[~best.edges])
    if a.shape != b.shape or not len(inner):
        return True
    tolerance = np.maximum(4e-4, 4.0 * np.quantile(inner, 0.99, axis=0))
    against, for_it = int((a > b + tolerance).sum()), int((b > a + tolerance).sum())
    return against < 2 + 3 * for_it
