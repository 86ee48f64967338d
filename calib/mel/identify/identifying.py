"""``identify``: from recordings and their mels to the front end that made them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from calib.mel.frontend import FrontEnd
from calib.mel.identify import saying
from calib.mel.identify.budget import SECONDS, Budget
from calib.mel.identify.naming import speaks_against
from calib.mel.identify.placing import Placed, as_amplitudes, hops, place, scene_of
from calib.mel.identify.rates import at_rate, elsewhere, other_homes, retimed, sharper, whole_hops
from calib.mel.identify.results import Clip, Identification
from calib.mel.identify.scene import Fit, Scene
from calib.mel.identify.search import search, settle, timed
from calib.mel.identify.settling import LOUD, NEAR, ROUNDING, SEARCH_CELLS, Case, settled
from calib.mel.identify.spectra import Core
from calib.mel.identify.windows import FIELDS

__all__ = ["identify"]

_FRAMES = 320  # that a search looks at, at most: of a mel that was computed, more would not say more; 220 miss rectangular windows
_PREDICTED = 0.2  # loss above which a mel was predicted, not computed
_MISTIMED = 0.15  # samples by which a rough analysis with the wrong window misses the hop
_A_SETTLING = 0.25  # share of the time that settling once more may take
_COMPUTED_DB = 0.01  # error of a mel that was computed, as that of a predicted one is not
_LINE = 30.0  # a guard, in medians of the outputs, that makes a line of the logarithm
_LEVEL = 1e-3  # ln; a level that is none
_LOW = 0.03  # loss above which a rate under the audio's own may be too low for the bank
_UPWARD = 0.01  # loss above which rates over the audio's own are tried too


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
    searched.sharpen()
    case = settled(placed, band, budget, fit, others, searched)
    plain = _plain_rate(case)
    if plain is not None:  # the same analysis, told by its level
        case = _moved(case, plain, budget, others) or case
    if case.rates and _plain_level(case):  # at the other rates, a gain would have to be assumed
        case = dataclasses.replace(case, rates=())
    case = _told_by_all_cells(case, budget, others)
    return dataclasses.replace(case, untried=dict(budget.untried))


def _moved(case: Case, option: tuple[int, int], budget: Budget, others: list[tuple[int, int]]) -> Case | None:
    """The same analysis at another rate; None where there is no time for it."""
    what = {f"the whole mel at {option[0]} Hz": ()}
    if budget.left() < _A_SETTLING:
        budget.untried |= what
        return None
    home, placed, before = (case.fit.core.rate, round(case.fit.core.hop)), case.placed, budget.untried
    moved = at_rate(case.fit.core, *option)
    scene, _ = scene_of(placed, moved, SEARCH_CELLS, loud=LOUD)
    budget.untried = {}
    found = settled(placed, case.band, budget, scene.fit(moved), [home, *(o for o in others if o[0] not in {home[0], option[0]})], scene)  # fmt: skip
    late, budget.untried = bool(budget.untried), before
    if late:  # half of it is no answer
        budget.untried |= what
        return None
    return found


def _told_by_all_cells(case: Case, budget: Budget, others: list[tuple[int, int]]) -> Case:
    """Of the rates that the loud cells allow, those that the whole mel does: quiet cells and ends are few, and tell them."""
    if not case.rates or case.proof is None or budget.ended or case.untried or case.fit.loss > NEAR:
        return case
    cases = [case, *(c for option in case.rates[:2] if (c := _moved(case, option, budget, others)) is not None)]
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


def _timed(placed: Placed, budget: Budget) -> Placed:
    """The clips with the time between their frames as an analysis has it, where that is better known than before."""
    a = placed.alignment
    core = _start(placed, placed.rate, a.hop * placed.rate)
    scene, _ = scene_of(placed, core, SEARCH_CELLS, loud=LOUD)
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
    scene = scene_of(placed, core, SEARCH_CELLS, loud=LOUD, most=_FRAMES)[0].roughly()
    begun = scene.within(budget, lambda: search(scene, core, band))
    if begun is not None and begun.loss > _LOW and core.rate < placed.rate:
        scene, core, begun = _above(placed, options, band, budget, (scene, core, begun))
    best = begun or scene.best or scene.fit(core)
    if begun is not None and begun.core.guard > _LINE and begun.loss > NEAR and not placed.traits.linear and all(y.min() >= 0 for y in placed.y):  # fmt: skip
        return _analysis(as_amplitudes(placed), band, budget)  # log(x + a lot) is a line in x
    if begun is not None and begun.core.hop != core.hop:  # other frames lie inside the audio
        options = whole_hops(placed, begun)
        moved = dataclasses.replace(placed.alignment, hop=begun.core.hop / begun.core.rate)
        heard = scene.bins_used
        scene = scene_of(
            dataclasses.replace(placed, alignment=moved), begun.core, SEARCH_CELLS, loud=LOUD, most=_FRAMES
        )[0].roughly()
        scene.hear(heard)
        best = begun = scene.fit(begun.core)
    elif begun is not None and begun.loss > _PREDICTED:  # a model's errors: every frame says something
        few, scene = scene, scene_of(placed, core, SEARCH_CELLS, loud=LOUD)[0].roughly()
        scene.hear(few.bins_used)
        best = begun = scene.polish(scene.moved(begun.core, few), FIELDS, 3)
    if begun is not None:
        found = scene.within(budget, lambda: _explored(scene, begun, placed, options))
        if found is not None:
            return (placed, *found, scene)
        best = scene.best or best
    return placed, best, [o for o in options if o[0] != best.core.rate], scene


def _above(
    placed: Placed, options: list[tuple[int, int]], band: float, budget: Budget, below: tuple[Scene, Core, Fit]
) -> tuple[Scene, Core, Fit]:
    """The search once more at the next rate above the audio's own, where the next lower one does not explain the mel.

    A bank that reaches above half the lower rate is not found there, nor from there.
    """
    above = min((o for o in options if o[0] > placed.rate), default=None)
    if above is None:
        return below
    core = _start(placed, above[0], float(above[1]))
    scene = scene_of(placed, core, SEARCH_CELLS, loud=LOUD, most=_FRAMES)[0].roughly()
    found = scene.within(budget, lambda: search(scene, core, band))
    return below if found is None or found.loss > 0.8 * below[2].loss else (scene, core, found)


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
    if best.loss > ROUNDING:
        for trial in elsewhere(scene, best, others):
            # The audio's own rate is left only for one that explains everything.
            if trial.loss < 0.8 * best.loss and (
                trial.loss < scene.exact or not (own or trial.core.rate > placed.rate)
            ):
                others = [*[o for o in others if o[0] != trial.core.rate], (best.core.rate, round(best.core.hop))]
                best = trial
            if best.loss < ROUNDING:
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
