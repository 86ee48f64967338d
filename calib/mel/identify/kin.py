"""In noise, which catalogued filterbanks the data allow: each near one is put in the place of the best analysis.

A mel that a model predicted has no exact maker to be found. What it follows can still be tested: the filterbank outputs
of a catalogued front end, with one free line per bin after them, must not leave more than the best analysis leaves
(Student's t over blocks of frames, as everywhere here). Those that do not are the family, as small as the noise allows.
"""

from __future__ import annotations

from calib.mel.catalogue import entries
from calib.mel.frontend import FrontEnd
from calib.mel.identify.scene import Fit, Scene, paired_t
from calib.mel.identify.spectra import Core

__all__ = ["core_of", "kindred"]

_EXCLUDED = 4.0  # t
_SECONDS = 4e-3  # relative difference of the time between frames beyond which no trial is made


def core_of(fe: FrontEnd) -> Core:
    """The analysis of a front end, up to its filterbank's outputs."""
    closed = not fe.window_periodic and fe.window != "rectangular"
    width = fe.win_length - closed
    first = (fe.n_fft - fe.win_length) // 2 - fe.pad_each_side
    return Core(
        fe.sample_rate, float(fe.hop_length), first + width / 2, fe.n_fft, float(width), fe.window, fe.mel_scale,
        fe.fmin, fe.fmax, fe.sample_rate / fe.fb_sample_rate, fe.power, fe.preemphasis, fe.filter_norm,
        fe.spectrum_eps, fe.spectrum_eps_mode == "clamp", closed=closed and fe.window == "hamming",
    )  # fmt: skip


def kindred(scene: Scene, held: Fit) -> tuple[str, ...]:
    """Catalogued front ends whose filterbank outputs explain the mel as well as the best analysis does.

    Args:
        scene: the mel's loud cells.
        held: the best analysis.

    Returns:
        Their ids, in the catalogue's order.
    """
    seconds, start = held.core.hop / held.core.rate, held.core.centre / held.core.rate
    fits: dict[Core, Fit] = {}
    found: list[tuple[str, Core]] = []
    for entry in entries():
        fe = entry.frontend
        hop = fe.hop_length / fe.sample_rate
        if fe.n_mels != scene.bins or abs(hop / seconds - 1.0) > _SECONDS:
            continue
        core = core_of(fe)
        away = round((start - core.centre / core.rate) / hop)  # frames cut off or put before
        core = core.but(centre=core.centre + away * core.hop)
        if core not in fits:
            fits[core] = scene.fit(core)
        found.append((entry.id, core))
    if not found:
        return ()
    best = min([held, *fits.values()], key=lambda f: f.loss)
    return tuple(name for name, core in found if paired_t(fits[core].residual, best.residual) < _EXCLUDED)
