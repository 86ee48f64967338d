"""``identify``: from recordings and their mels to the front end that made them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calib.mel.frontend import FrontEnd
from calib.mel.identify import saying
from calib.mel.identify.budget import SECONDS, Budget
from calib.mel.identify.guards import clamped, quiet_cells
from calib.mel.identify.kin import kindred
from calib.mel.identify.levels import Levels, levels
from calib.mel.identify.naming import Naming, name, speaks_against
from calib.mel.identify.placing import Placed, as_amplitudes, hops, place, scene_of
from calib.mel.identify.rates import at_rate, elsewhere, other_homes, other_rates, retimed, sharper, whole_hops
from calib.mel.identify.rebuild import Geometry, Guard, Proof, build, geometry, guard_of, prove, with_tail
from calib.mel.identify.resolve import Choice, snap, turn_over
from calib.mel.identify.results import NOISY_DB, Clip, Identification
from calib.mel.identify.scene import Fit, Scene
from calib.mel.identify.search import bank_variants, other_norm, search, settle, timed
from calib.mel.identify.spectra import Bench, Core, edges_of

__all__ = ["Case", "identify"]

_SEARCH_CELLS = 32_000
_PROOF_CELLS = 80_000
_LOUD = 0.4  # share of the quietest cells of each bin that the search leaves out: guards live there
_NEAR = 0.003  # loss below which the edges are brought to where they are best
_MISTIMED = 0.15  # samples by which a rough analysis with the wrong window misses the hop
_A_SETTLING = 0.15  # share of the time that settling once more may take
_COMPUTED_DB = 0.01  # error of a mel that was computed, as that of a predicted one is not
_LINE = 30.0  # a guard, in medians of the outputs, that makes a line of the logarithm
_WALL = 0.02  # ln above a clamp's wall, below which cells say nothing but that
_LEVEL = 1e-3  # ln; a level that is none
_LIKE = 0.05  # loss below which mel scales are compared once more
_UPWARD = 0.01  # loss above which rates over the audio's own are tried too
_ROUNDING = 3e-6  # loss of float32 values; above it, another rate is tried


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


def identify(clips: Sequence[Clip], *, declared: FrontEnd | None = None, seconds: float = SECONDS) -> Identification:
    """Which front end made these mels of these recordings?

    Args:
        clips: audio and mel; ten seconds are enough, more are cut down.
        declared: what somebody says it was: contradictions are findings.
        seconds: of CPU time that this may take; the search ends in time for that with what it knows then, and says so.

    Returns:
        The answer. Confounded quantities are sets; what could not be found out is in ``skipped``.

    Raises:
        DataError: nothing that can be looked at: no clips, empty, constant or non-finite mels, too few frames.
    """
    from threadpoolctl import threadpool_limits

    started = time.process_time()
    with threadpool_limits(1, user_api="blas"):  # the products are small: threads would cost more than they give
        budget = Budget(seconds)
        placed = place(clips)
        said = saying.say(examine(placed, budget), declared) if placed.related else saying.unrelated(placed)
    return dataclasses.replace(said, seconds=time.process_time() - started)


def examine(placed: Placed, budget: Budget) -> Case:
    """Search, settle, rebuild, prove, name."""
    band = _band(placed)
    placed = _timed(placed, budget)
    placed, fit, others, searched = _analysis(placed, band, budget)
    case = _settled(placed, band, budget, fit, others, searched)
    plain = _plain_rate(case)
    if plain is not None:  # the same analysis, told by its level
        case = _moved(case, plain, budget, others)
    if case.rates and _plain_level(case):  # at the other rates, a gain would have to be assumed
        case = dataclasses.replace(case, rates=())
    return _told_by_all_cells(case, budget, others)


def _moved(case: Case, option: tuple[int, int], budget: Budget, others: list[tuple[int, int]]) -> Case:
    """The same analysis at another rate."""
    home, placed = (case.fit.core.rate, round(case.fit.core.hop)), case.placed
    moved = at_rate(case.fit.core, *option)
    scene, _ = scene_of(placed, moved, _SEARCH_CELLS, loud=_LOUD)
    return _settled(placed, case.band, budget, scene.fit(moved), [home, *(o for o in others if o[0] not in {home[0], option[0]})], scene)  # fmt: skip


def _told_by_all_cells(case: Case, budget: Budget, others: list[tuple[int, int]]) -> Case:
    """Of the rates that the loud cells allow, those that the whole mel does: quiet cells and ends are few, and tell them."""
    if not case.rates or case.proof is None or budget.ended or case.fit.loss > _NEAR:
        return case
    cases = [case]
    cases += [_moved(case, option, budget, others) for option in case.rates[:2] if budget.left() > _A_SETTLING]
    proven = [c for c in cases if c.proof is not None]
    best = min(proven, key=lambda c: float(np.mean(np.minimum(np.abs(c.proof.difference), 0.5))) if c.proof else np.inf)
    assert best.proof is not None
    if best.proof.decibels > _COMPUTED_DB:
        return case
    excluded = {c.fit.core.rate for c in proven if c.proof is not None and c is not best and speaks_against(c.proof, best.proof)}  # fmt: skip
    if case.fit.core.rate not in excluded:
        best = case
    return dataclasses.replace(best, rates=tuple(o for o in best.rates if o[0] not in excluded))


def _plain_level(case: Case) -> bool:
    """Whether a plain logarithm gives the mel at the level of the audio, with nothing added."""
    lv = case.levels
    if lv.kind != "global" or lv.log is None or case.placed.traits.utterance is not None:
        return False
    return abs(float(lv.offset[0] / lv.slope[0])) < _LEVEL


def _plain_rate(case: Case) -> tuple[int, int] | None:
    """Of the rates that explain a mel equally well, the one at which nothing was added after a plain logarithm.

    The spectrum of so many more samples is so much larger: at the other rates a gain or an offset is left.
    """
    lv, core = case.levels, case.fit.core
    if lv.kind != "global" or lv.log is None or case.placed.traits.utterance is not None:
        return None
    level = float(lv.offset[0] / lv.slope[0])
    if abs(level) < _LEVEL:
        return None
    return next((o for o in case.rates if abs(level - core.power * float(np.log(o[0] / core.rate))) < _LEVEL), None)


def _settled(
    placed: Placed, band: float, budget: Budget, fit: Fit, others: list[tuple[int, int]], searched: Scene
) -> Case:
    """Once more on more frames, with the quiet cells; then rebuilt, proven and named."""
    bins = placed.y[0].shape[1]
    if _ROUNDING < fit.loss < _LIKE:  # scales that are nearly the same
        other = min(bank_variants(searched, fit, few=True), key=lambda f: f.loss)
        fit = other if other.loss < 0.8 * fit.loss else fit
    wide, _ = scene_of(placed, fit.core, _PROOF_CELLS, loud=0.0)
    heard = edges_of(fit.core, bins)[2:] < band if band < fit.core.rate / 2 - 200.0 else np.ones(bins, bool)
    wide.hear(heard)
    settled = wide.fit(wide.moved(fit.core, searched))
    bare = wide.fit(fit.core.but(guard=0.0)) if fit.core.guard else settled
    wall = None if placed.traits.linear else clamped(wide, bare, placed.traits.wall(placed.alignment.sign))
    if wall is not None and bare.loss < max(_NEAR, 2.0 * settled.loss):
        wide = wide.without(bare.log < wall + _WALL)
        settled = quiet_cells(wide, wide.fit(bare.core), added=False)
    else:
        wall = None
        settled = other_norm(wide, settled)
        # Without a guard at all events: it is soon done, and no level can be told without it.
        if not fit.core.guard or settled.loss > wide.exact:
            settled = other_norm(wide, quiet_cells(wide, settled))
    loud_scene, _ = scene_of(placed, fit.core, _SEARCH_CELLS, loud=_LOUD)
    loud_scene.hear(heard)
    base = loud_scene.fit(loud_scene.moved(settled.core, wide))
    if _ROUNDING < base.loss < _NEAR:  # the search ends where rounding could be all that is left: edges may be nearer
        base = loud_scene.polish(base.core, ("fmin", "fmax"), 10, tolerance=1e-3)
    snapped, errors = snap(loud_scene, base)
    settled = wide.fit(wide.moved(snapped.core, loud_scene))
    lv = levels(loud_scene, snapped)
    noise_db = loud_scene.decibels(snapped)
    noise = noise_db / 8.686 * settled.core.power
    guard, lv = guard_of(wide, settled, lv, placed, clamp=wall is not None)
    choices = turn_over(loud_scene, snapped, errors)
    unsure = "centre" in choices and bool(choices["centre"].open)  # a sample earlier or later would do
    geo = geometry(settled.core, max(errors.get("centre", 0.0), 1.0 if unsure else 0.0))
    samples = [Bench(c.samples, placed.rate, np.arange(1), bins).resampled(settled.core.rate) for c in placed.clips]
    built = build(settled.core, geo, lv, guard, placed, noise)
    proof: Proof | None = None
    modes: tuple[str, ...] = ()
    if built is not None:
        built, proof, modes = _best_ends(built, geo, placed, samples, lv)
    naming = name(settled.core, placed, proof, lv.slope, noise)
    rates = other_rates(loud_scene, snapped, others)
    frontend, shift = built, geo.shift
    if naming.best is not None:
        frontend, proof, shift = naming.best, naming.proof, 0
    return Case(
        placed, settled, noise_db, errors, choices, rates, geo, lv, guard, frontend, proof, shift, naming, modes, band, tuple(hops(placed)),
        kindred(loud_scene, snapped) if noise_db > NOISY_DB else (), budget.seconds if budget.ended else None,
    )  # fmt: skip


def _timed(placed: Placed, budget: Budget) -> Placed:
    """The clips with the time between their frames as an analysis has it, where that is better known than before."""
    a = placed.alignment
    core = _start(placed, placed.rate, a.hop * placed.rate)
    scene, _ = scene_of(placed, core, _SEARCH_CELLS, loud=_LOUD)
    found, error = scene.within(budget, lambda: timed(scene, core)) or (core, np.inf)
    if not error < 3.0 * max(a.hop_error, 1e-9) * placed.rate:
        return placed
    rate = placed.rate
    moved = (found.centre - core.centre) / rate
    return dataclasses.replace(
        placed,
        alignment=dataclasses.replace(a, hop=found.hop / rate, start=found.centre / rate, hop_error=error / rate / 3.0, fine=True),
        starts=tuple(s + moved for s in placed.starts),
    )  # fmt: skip


def _analysis(placed: Placed, band: float, budget: Budget) -> tuple[Placed, Fit, list[tuple[int, int]], Scene]:
    """The settled fit at the best rate, or the best one when time was up, and the other rates that fit the time between frames.

    Returns:
        The clips (as amplitudes, where no logarithm explains them), the fit, ``(rate, hop)`` of the others, and the scene.
    """
    a = placed.alignment
    options = list(hops(placed))
    near = round(a.hop * placed.rate)
    if not options and abs(a.hop * placed.rate - near) < _MISTIMED:  # no rate fits: so the time is not as well known
        options = [(placed.rate, near)]
    own = [o for o in options if o[0] == placed.rate]
    # Where the audio's own rate has no whole hop, the next lower one: a bank may reach as high as it.
    first = own[:1] or sorted(options, key=lambda o: (o[0] > placed.rate, abs(o[0] - placed.rate)))[:1]
    if first:
        rate, hop = first[0]
        core = _start(placed, rate, float(hop))
    else:
        core = _start(placed, placed.rate, a.hop * placed.rate)
    scene, _ = scene_of(placed, core, _SEARCH_CELLS, loud=_LOUD)
    begun = scene.within(budget, lambda: search(scene, core, band))
    best = begun or scene.best or scene.fit(core)
    if begun is not None and begun.core.guard > _LINE and begun.loss > _NEAR and not placed.traits.linear and all(y.min() >= 0 for y in placed.y):  # fmt: skip
        return _analysis(as_amplitudes(placed), band, budget)  # log(x + a lot) is a line in x
    if begun is not None and begun.core.hop != core.hop:  # other frames lie inside the audio
        options = whole_hops(placed, begun)
        moved = dataclasses.replace(placed.alignment, hop=begun.core.hop / begun.core.rate)
        heard = scene.bins_used
        scene, _ = scene_of(dataclasses.replace(placed, alignment=moved), begun.core, _SEARCH_CELLS, loud=_LOUD)
        scene.hear(heard)
        best = begun = scene.fit(begun.core)
    if begun is not None:
        found = scene.within(budget, lambda: _explored(scene, begun, placed, options))
        if found is not None:
            return (placed, *found, scene)
        best = scene.best or best
    return placed, best, [o for o in options if o[0] != best.core.rate], scene


def _explored(
    scene: Scene, begun: Fit, placed: Placed, options: list[tuple[int, int]]
) -> tuple[Fit, list[tuple[int, int]]]:
    """From the cheap to the rare, at the audio's own rate and at others."""
    core = begun.core
    best, options = retimed(scene, begun, placed, options)
    options = sharper(scene, best, options)
    own = [o for o in options if o[0] == placed.rate]
    # A rate above the audio's own, where that has a whole hop, is heard of only when nothing else explains the mel.
    others = [o for o in options if o[0] != core.rate and (o[0] < placed.rate or not own)]
    if best.loss > _ROUNDING:
        for trial in elsewhere(scene, best, others):
            # The audio's own rate is left only for one that explains everything.
            if trial.loss < 0.8 * best.loss and (
                trial.loss < scene.exact or not (own or trial.core.rate > placed.rate)
            ):
                others = [*[o for o in others if o[0] != trial.core.rate], (best.core.rate, round(best.core.hop))]
                best = trial
            if best.loss < _ROUNDING:
                break
    if best.loss > scene.exact:
        best = settle(scene, best)
    lower = any(rate < placed.rate for rate, _ in others)
    if (
        (scene.exact if lower else max(scene.exact, 3e-4)) < best.loss < 0.2
    ):  # settled, but not exact: at another rate it may be
        if best.loss > _UPWARD:
            others += [o for o in options if o[0] != best.core.rate and o not in others]
        best, others = other_homes(scene, best, others)
    others += [o for o in options if o[0] != best.core.rate and o not in others]
    return best, others


def _start(placed: Placed, rate: int, hop: float) -> Core:
    length = max(0.016, min(0.064, 4.0 * hop / rate)) * rate
    n_fft = int(2 ** np.ceil(np.log2(length)))
    return Core(rate, hop, placed.alignment.start * rate, n_fft, float(min(length, n_fft)), fmax=rate / 2)


def _best_ends(built: FrontEnd, geo: Geometry, placed: Placed, samples: list[np.ndarray], lv: Levels) -> tuple[FrontEnd, Proof | None, tuple[str, ...]]:  # fmt: skip
    """Padding mode and what happens at the end, by computing."""
    options = [built]
    if geo.shift == 0 and geo.padding in {"center", "same"}:
        options = [dataclasses.replace(built, pad_mode=mode) for mode in ("reflect", "constant")]
    elif geo.padding == "none" and geo.shift == 0:
        options = [built, dataclasses.replace(built, padding="end")]
    proofs = [(fe, prove(fe, placed, samples, lv.slope, geo.shift)) for fe in options]
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


def _band(placed: Placed) -> float:
    """Hz above which the audio holds nothing: 70 dB below its loudest band, on average."""
    from scipy.fft import rfft

    clip = max(placed.clips, key=lambda c: len(c.samples))
    x = np.asarray(clip.samples, np.float32)
    size = 1024
    if x.size < size:
        return placed.rate / 2
    frames = np.lib.stride_tricks.sliding_window_view(x, size)[:: max(size, x.size // 400)]
    power = np.mean(np.abs(rfft(frames * np.hanning(size).astype(np.float32), axis=-1)) ** 2, axis=0)
    level = 10 * np.log10(power + 1e-20)
    above = np.flatnonzero(level > level.max() - 75.0)
    return float((above[-1] + 1) * placed.rate / size) if above.size else placed.rate / 2
