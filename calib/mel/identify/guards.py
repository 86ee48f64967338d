"""What is added before the logarithm or to the spectrum: guards, which show in quiet cells only."""

from __future__ import annotations

import numpy as np

from calib.mel.identify.levels import area
from calib.mel.identify.scene import Fit, Scene, paired_t
from calib.mel.identify.spectra import Core, bank

__all__ = ["clamped", "lifted", "quiet_cells"]

_TOLD = 0.1  # of the loss of exact mels: float32 alone leaves less
_COARSE = 1e-3  # loss of exact mels that are stored in half precision
_ROUNDED = 1e-7  # a tenth of the loss from which on it is more than rounding
_EDGES = ("fmin", "fmax")
_BELOW, _ABOVE, _CELLS = 3.0, 0.7, 3  # ln around a clamp's wall; cells there that tell it from silence


def clamped(scene: Scene, fit: Fit, wall: np.ndarray) -> np.ndarray | None:
    """At which filterbank output the cells are clamped, ln of the core's own by bin ``(M,)``; None where no wall is a clamp's.

    On a clamp's wall lie cells that were just below it. Digital silence under an added guard makes a wall, too, but all
    its cells were nothing at all: that wall says nothing of clamp or sum.

    Args:
        scene: all cells.
        fit: an analysis without a guard.
        wall: ``(M,)`` mel values of the walls by bin, NaN where a bin has none.
    """
    known = np.isfinite(wall) & scene.bins_used & (np.abs(fit.slope) > 1e-9)
    if not known.any():
        return None
    near = 1e-5 * max(float(np.ptp(scene.stored)), 1e-9)
    at = known & (np.abs(scene.stored - np.where(known, wall, np.inf)) <= near)
    level = np.full(scene.bins, np.nan)
    level[known] = (wall[known] - fit.offset[known]) / fit.slope[known]
    if not ((fit.log > level - _BELOW) & (fit.log < level + _ABOVE) & at).sum() >= _CELLS:
        return None
    # In the other bins it lies at the same output, with or without the area norm.
    shifts = [np.zeros(scene.bins), area(fit, scene.bins) * (1.0 if fit.core.norm is None else -1.0)]
    shift = min(
        shifts, key=lambda s: float(np.median(np.abs(level[known] + s[known] - np.median(level[known] + s[known]))))
    )
    return np.where(known, level, np.median(level[known] + shift[known]) - shift)


def quiet_cells(scene: Scene, fit: Fit, *, added: bool = True) -> Fit:
    """What is added before the logarithm or to the spectrum, where it shows: in quiet cells.

    Args:
        scene: the mel.
        fit: an analysis.
        added: something may have been added before the logarithm; False where its guard is known to be a clamp.

    Returns:
        The fit with ``guard`` or ``eps`` set where that leaves clearly less, else the fit as it was.
    """
    core = fit.core
    plain = scene.fit(core.but(guard=0.0, eps=0.0)) if core.guard or core.eps else fit
    trials: list[Fit] = []
    for clamp in (False, True):
        lifts = [scene.fit(plain.core.but(eps=float(e), eps_clamp=clamp)) for e in np.geomspace(1e-11, 1e-3, 9)]
        trials.append(_polished_if_better(scene, min(lifts, key=lambda f: f.loss), plain))
        if core.guard and not core.eps:  # besides the guard that is known, under either norm
            for norm in ("slaney", None):
                both = [scene.fit(c) for e in np.geomspace(1e-11, 1e-3, 17) for c in _shared(scene, core.but(norm=norm, eps=float(e), eps_clamp=clamp))]  # fmt: skip
                trials.append(_polished_if_better(scene, min(both, key=lambda f: f.loss), fit))
    if not core.guard and added:
        least = min([plain, *trials], key=lambda f: f.loss)
        for base in {plain.core, least.core}:  # alone, and together with what was added to the spectrum
            for norm in ("slaney", None):  # the height of the filters is no level by bin any more
                linear = np.concatenate([b.linear(base.but(norm=norm)) for b in scene.benches])
                middle = float(np.median(linear))
                guards = [scene.lines(base.but(norm=norm, guard=float(g)), np.log(linear + g * middle + 1e-30).astype(np.float64)) for g in np.geomspace(1e-9, 0.3, 18)]  # fmt: skip
                trials.append(_polished_if_better(scene, min(guards, key=lambda f: f.loss), plain if base == plain.core else least))  # fmt: skip
    kept = fit
    for trial in sorted(trials, key=lambda f: f.loss):
        if (
            trial.loss < (0.5 if _COARSE < scene.exact > kept.loss else 0.9) * kept.loss  # rounding is no guard
            and (trial.loss < 0.5 * kept.loss or paired_t(kept.residual, trial.residual) > 4.0)  # few cells have no t
            and (trial.loss < 0.1 * kept.loss > _ROUNDED or lifted(scene, trial) >= 30)
        ):
            kept = trial
            break
    return _simpler(scene, kept)


def _shared(scene: Scene, core: Core) -> list[Core]:
    """A guard and an eps at once: the guard as it is, and less what the eps adds to an output in the middle."""
    added = core.eps * float(np.median(bank(core, scene.bins).sum(0)))
    less = core.guard - added / max(scene.middle(core.but(eps=0.0)), 1e-30) if core.power == 2 else 0.7 * core.guard
    return [core] if less < 0.05 * core.guard else [core, core.but(guard=less)]


def _simpler(scene: Scene, fit: Fit) -> Fit:
    """Without one of two guards, where the other alone leaves nothing, or nothing more."""
    if not (fit.core.guard and fit.core.eps):
        return fit
    for core in (fit.core.but(eps=0.0, eps_clamp=False), fit.core.but(guard=0.0)):
        alone = scene.polish(core, _EDGES, 8, tolerance=0.03)
        if alone.loss <= max(_TOLD * scene.exact, 1.1 * fit.loss):
            return alone
    return fit


def lifted(scene: Scene, fit: Fit) -> int:
    """Cells that guard and eps of a fit lift by more than half a percent."""
    bare = scene.log(fit.core.but(guard=0.0, eps=0.0))
    return int((((fit.log - bare) > 0.005) & (scene.weight > 0)).sum())


def _polished_if_better(scene: Scene, fit: Fit, than: Fit) -> Fit:
    return fit if fit.loss > 0.99 * than.loss else scene.polish(fit.core, _EDGES, 5)
