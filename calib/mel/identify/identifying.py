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
from calib.mel.identify.guards import quiet_cells
from calib.mel.identify.kin import kindred
from calib.mel.identify.levels import Levels, levels
from calib.mel.identify.naming import Naming, name
from calib.mel.identify.placing import Placed, hops, place, scene_of
from calib.mel.identify.rebuild import Geometry, Guard, Proof, build, geometry, guard_of, prove, with_tail
from calib.mel.identify.resolve import Choice, snap, turn_over
from calib.mel.identify.results import NOISY_DB, Clip, Identification
from calib.mel.identify.scene import Fit, Scene, paired_t
from calib.mel.identify.search import bank_variants, lengths, search, settle, timed
from calib.mel.identify.spectra import Bench, Core, edges_of

__all__ = ["Case", "identify"]

_SEARCH_CELLS = 32_000
_PROOF_CELLS = 80_000
_LOUD = 0.4  # share of the quietest cells of each bin that the search leaves out: guards live there
_OFF = 0.01  # loss above which the hop is looked at once more
_NEAR = 0.003  # loss below which the edges are brought to where they are best
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
    fit, others, searched = _analysis(placed, band, budget)
    case = _settled(placed, band, budget, fit, others, searched)
    plain = _plain_rate(case)
    if plain is not None:  # the same analysis, told by its level
        rate, hop = plain
        moved = at_rate(case.fit.core, rate, hop)
        scene, _ = scene_of(placed, moved, _SEARCH_CELLS, loud=_LOUD)
        others = [(case.fit.core.rate, round(case.fit.core.hop)), *(o for o in others if o[0] != rate)]
        case = _settled(placed, band, budget, scene.fit(moved), others, scene)
    return case


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
    if not fit.core.guard:  # at all events: it is soon done, and no level can be told without it
        settled = quiet_cells(wide, settled)
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
    guard, lv = guard_of(wide, settled, lv, placed)
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
    rates = _other_rates(loud_scene, snapped, others)
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


def _analysis(placed: Placed, band: float, budget: Budget) -> tuple[Fit, list[tuple[int, int]], Scene]:
    """The settled fit at the best rate, or the best one when time was up, and the other rates that fit the time between frames."""
    a = placed.alignment
    options = list(hops(placed))
    own = [o for o in options if o[0] == placed.rate]
    first = own[:1] or options[:1]
    if first:
        rate, hop = first[0]
        core = _start(placed, rate, float(hop))
    else:
        core = _start(placed, placed.rate, a.hop * placed.rate)
    scene, _ = scene_of(placed, core, _SEARCH_CELLS, loud=_LOUD)
    found = scene.within(budget, lambda: _explored(scene, core, placed, band, options))
    if found is not None:
        return (*found, scene)
    best = scene.best or scene.fit(core)
    return best, [o for o in options if o[0] != best.core.rate], scene


def _explored(
    scene: Scene, core: Core, placed: Placed, band: float, options: list[tuple[int, int]]
) -> tuple[Fit, list[tuple[int, int]]]:
    """From the cheap to the rare, at the audio's own rate and at others."""
    best = search(scene, core, band)
    best, options = _retimed(scene, best, placed, options)
    own = [o for o in options if o[0] == placed.rate]
    # A rate above the audio's own, where that has a whole hop, is heard of only when nothing else explains the mel.
    others = [o for o in options if o[0] != core.rate and (o[0] < placed.rate or not own)]
    if best.loss > _ROUNDING:
        for rate, hop in others[:4]:
            trial = lengths(scene, scene.polish(at_rate(best.core, rate, hop), ("fmin", "fmax", "centre", "width"), 3)) if best.core.fmax * best.core.ratio <= rate / 2 * 1.02 else best  # fmt: skip
            # The audio's own rate is left only for one that explains everything.
            if trial.loss < 0.8 * best.loss and (trial.loss < scene.exact or not own):
                others = [*[o for o in others if o != (rate, hop)], (best.core.rate, round(best.core.hop))]
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
        best, others = _other_homes(scene, best, others)
    others += [o for o in options if o[0] != best.core.rate and o not in others]
    return best, others


def _retimed(
    scene: Scene, best: Fit, placed: Placed, options: list[tuple[int, int]]
) -> tuple[Fit, list[tuple[int, int]]]:
    """The whole hop once more, with the bank and the window that were found: rough analyses may be a sample off."""
    if best.loss < _OFF:
        return best, options
    moved = scene.polish(best.core, ("hop", "centre", "fmin", "fmax", "width"), 5)
    hop, rate = moved.core.hop, moved.core.rate
    if moved.loss > 0.8 * best.loss or abs(hop - round(hop)) > 0.25 or round(hop) == round(best.core.hop):
        return best, options
    again = lengths(scene, scene.polish(moved.core.but(hop=float(round(hop))), ("centre", "fmin", "fmax", "width"), 6))
    if again.loss > 0.8 * best.loss:
        return best, options
    fine = dataclasses.replace(
        placed.alignment, hop=round(hop) / rate, hop_error=0.05 / rate, start=again.core.centre / rate, fine=True
    )
    return again, list(hops(dataclasses.replace(placed, alignment=fine)))


def _other_homes(scene: Scene, best: Fit, others: list[tuple[int, int]]) -> tuple[Fit, list[tuple[int, int]]]:
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


def _other_rates(scene: Scene, fit: Fit, others: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Rates that explain the mel as well as the one held; none above the audio's own where that one is held.

    Audio brought to twice its rate and analysed with everything twice as long gives the same mel: that is said with the
    rate, and no set is made of it, since nobody does so without cause.
    """
    kept = []
    own = scene.benches[0].rate
    if fit.core.rate == own:
        others = [o for o in others if o[0] < own]
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
