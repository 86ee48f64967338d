"""What is added before the logarithm or to the spectrum: guards, which show in quiet cells only."""

from __future__ import annotations

import numpy as np

from calib.mel.identify.scene import Fit, Scene, paired_t

__all__ = ["lifted", "quiet_cells"]

_TOLD = 0.1  # of the loss of exact mels: float32 alone leaves less
_ROUNDED = 1e-7  # a tenth of the loss from which on it is more than rounding
_EDGES = ("fmin", "fmax")


def quiet_cells(scene: Scene, fit: Fit) -> Fit:
    """What is added before the logarithm or to the spectrum, where it shows: in quiet cells.

    Returns:
        The fit with ``guard`` or ``eps`` set where that leaves clearly less, else the fit as it was.
    """
    core = fit.core
    plain = scene.fit(core.but(guard=0.0, eps=0.0)) if core.guard or core.eps else fit
    trials: list[Fit] = []
    for clamp in (False, True):
        added = [scene.fit(plain.core.but(eps=float(e), eps_clamp=clamp)) for e in np.geomspace(1e-11, 1e-3, 9)]
        trials.append(_polished_if_better(scene, min(added, key=lambda f: f.loss), plain))
    if not core.guard:
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
            trial.loss < 0.9 * kept.loss
            and (trial.loss < 0.5 * kept.loss or paired_t(kept.residual, trial.residual) > 4.0)  # few cells have no t
            and (trial.loss < 0.1 * kept.loss > _ROUNDED or lifted(scene, trial) >= 30)
        ):
            kept = trial
            break
    return _simpler(scene, kept)


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
