"""From a placed mel to the analysis that made it: bank, window, FFT length, power and place of the frames.

The order: a curve from bins to Hz (each bin's best-correlated narrow band) gives mel scale, fmin and fmax roughly; the
window's width and shape, power and FFT length follow by what they leave; then everything real-valued is polished
together, and what has whole or usual values is snapped where the loss does not notice.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from calib.mel.filterbank import hz_to_mel, mel_to_hz
from calib.mel.identify.align import standardise
from calib.mel.identify.guards import lifted, quiet_cells
from calib.mel.identify.jumps import jumps
from calib.mel.identify.scene import Fit, Scene
from calib.mel.identify.spectra import Core, edges_of
from calib.mel.identify.usual import WIDTHS, usual
from calib.mel.identify.windows import FIELDS, at_least, ends, lengths, scan, whole_if_better

__all__ = [
    "bank_curve",
    "bank_variants",
    "curve_edges",
    "guarded",
    "other_norm",
    "search",
    "settle",
]


def bank_curve(scene: Scene, core: Core, band: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
    """Frequency in Hz that each bin follows best, ``(M,)``, and how well (correlation).

    Args:
        scene: the mel.
        core: an analysis whose bank is not looked at.
        band: Hz above which the audio holds nothing but its filter's skirt, which goes with any loudness.
    """
    power = np.concatenate([b.power(core) for b in scene.benches])
    hz = np.arange(core.n_fft // 2 + 1) * (core.rate / core.n_fft)
    grid = 220
    low, high = (float(hz_to_mel(f, "slaney")) for f in (0.0, core.rate / 2))
    centres = mel_to_hz(np.linspace(low, high, grid + 2), "slaney")[1:-1]
    # As wide as the bins of an 80-bin bank over the band, and no narrower than the window can resolve.
    spacing = np.gradient(centres) * grid / max(scene.bins, 40)
    half = np.maximum(spacing, 1.2 * core.rate / core.width)
    filters = np.maximum(0.0, 1.0 - np.abs(hz[:, None] - centres[None]) / half[None]).astype(np.float32)
    level = np.log(np.sqrt(power) @ filters + 1e-9)
    x = standardise(level.astype(np.float64))
    y = scene.scaled
    match = (y.T @ x) / np.maximum(scene.count, 1.0)[:, None]
    sign = 1.0 if np.sum(np.max(match, axis=1)) >= np.sum(np.max(-match, axis=1)) else -1.0
    match = match * sign
    heard = max(int(np.searchsorted(centres, 0.97 * band)), 12)
    match[:, heard:] = -1.0
    at = np.argmax(match, axis=1)
    inner = np.clip(at, 1, min(grid, heard) - 2)
    rows = np.arange(scene.bins)
    left, here, right = match[rows, inner - 1], match[rows, inner], match[rows, inner + 1]
    bend = left - 2 * here + right
    move = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, -1.0), 0.0)
    place = np.where(at == inner, at + np.clip(move, -1, 1), at)
    return np.interp(place, np.arange(grid), centres), np.max(match, axis=1)


def curve_edges(
    curve: np.ndarray, strength: np.ndarray, scale: str, ratio: float, limit: float
) -> tuple[float, float, float]:
    """fmin, fmax (on the bank's own axis) and misfit of a mel scale to a bank curve, by a robust line in mels."""
    bins = len(curve)
    k = np.arange(1, bins + 1, dtype=np.float64)
    mel = np.asarray(hz_to_mel(curve / ratio, scale))
    w = np.clip(strength, 0.0, 1.0) ** 4 + 1e-6
    for _ in range(25):
        total = w.sum()
        mean_k, mean_m = (w * k).sum() / total, (w * mel).sum() / total
        slope = (w * (k - mean_k) * (mel - mean_m)).sum() / max((w * (k - mean_k) ** 2).sum(), 1e-9)
        rest = mel - mean_m - slope * (k - mean_k)
        unit = max(float(np.median(np.abs(rest))), 0.05 * abs(slope))
        w = (np.clip(strength, 0.0, 1.0) ** 4 + 1e-6) / (1.0 + (rest / (1.5 * unit)) ** 2)
    low, high = mean_m - slope * mean_k, mean_m + slope * (bins + 1 - mean_k)
    top = limit / ratio
    fmin = float(mel_to_hz(max(low, 0.0), scale))
    fmax = min(float(mel_to_hz(max(high, low + 1.0), scale)), top)
    return min(fmin, 0.4 * fmax), fmax, float(np.median(np.abs(rest)) / max(abs(slope), 1e-9))


def search(scene: Scene, start: Core, band: float = np.inf) -> Fit:
    """The best analysis for a scene: real-valued where that is searched; `settle` makes it whole.

    Args:
        scene: the mel.
        start: rate, hop and place; the rest is searched.
        band: Hz above which the audio holds nothing.
    """
    curve, strength = bank_curve(scene, start, band)
    starts = []
    for scale, ratio in itertools.product(("slaney", "htk"), _ratios(start.rate)):
        fmin, fmax, misfit = curve_edges(curve, strength, scale, ratio, start.rate / 2)
        starts.append((misfit, start.but(scale=scale, ratio=ratio, fmin=fmin, fmax=fmax)))
    plain = [core for _, core in starts if core.ratio == 1.0]
    odd = min((s for s in starts if s[1].ratio != 1.0), key=lambda s: s[0])
    if odd[0] < 1.2 * min(misfit for misfit, core in starts if core.ratio == 1.0):
        plain.append(odd[1])
    plain += _usual_banks(scene, start)
    fits = [scene.polish(core, ("fmin", "fmax", "centre"), 3) for core in plain]
    best = min(fits, key=lambda f: f.loss)
    if band < start.rate / 2 - 200.0:
        scene.hear(edges_of(best.core, scene.bins)[2:] < band)
        best = scene.fit(best.core)
    best = _guarded(scene, best)
    best = _window(scene, best)
    best = _hard(scene, best)
    least = min(f.loss for f in fits)
    for other in fits:  # the scale again, with the window that was found
        if (other.core.scale, other.core.ratio) != (best.core.scale, best.core.ratio) and other.loss < 1.6 * least:
            found = best.core
            trial = scene.polish(other.core.but(width=found.width, window=found.window, n_fft=found.n_fft, centre=found.centre, power=found.power, guard=found.guard), ("fmin", "fmax"), 3)  # fmt: skip
            best = min(best, trial, key=lambda f: f.loss)
    best = scene.polish(best.core, FIELDS, 6)
    best = lengths(scene, _unguarded(scene, best))
    if best.loss > max(_SHAPE, scene.exact) and best.core.window != "rectangular":
        for other in _families(scene, best):
            best = min(best, lengths(scene, other), key=lambda f: f.loss)
    return best


def _families(scene: Scene, fit: Fit) -> list[Fit]:
    """Each shape of window with an FFT of its own length: next to a wrong FFT length the wrong shape may leave less."""
    few, out = scene.sparse(60), []
    core = few.moved(fit.core, scene)
    least = few.fit(core).loss
    for window in ("hann", "hamming"):
        middle = fit.core.width * WIDTHS[window] / WIDTHS[fit.core.window]
        sizes = sorted({2 * round(w / 2) for w in np.geomspace(0.85 * middle, 1.15 * middle, 23)})
        trials = [few.fit(core.but(window=window, width=float(n), n_fft=n, closed=False)) for n in sizes]
        top = min(trials, key=lambda f: f.loss)
        if top.loss < 1.2 * least:
            found = top.core.but(guard=fit.core.guard)
            out.append(scene.polish(found, ("fmin", "fmax", "centre"), 3))
    return sorted(out, key=lambda f: f.loss)


def timed(scene: Scene, start: Core) -> tuple[Core, float]:
    """The time between frames to a thousandth of a sample or so, by a rough analysis: which rates it is whole at follows.

    Args:
        scene: the mel.
        start: with a hop that may be wrong by some thousandths.

    Returns:
        The start with hop and place moved, and the standard error of the hop in samples, three-fold.
    """
    few = scene.sparse(160)
    names = ("fmin", "fmax", "centre", "hop")
    fits = [few.polish(core, names, 4) for core in _usual_banks(scene, start)]
    best = min(fits, key=lambda f: f.loss)
    widths = [few.fit(best.core.but(width=w, n_fft=at_least(w))) for w in best.core.width * np.geomspace(0.4, 2.5, 7)]
    best = few.polish(min([best, *widths], key=lambda f: f.loss).core, (*names, "width"), 5)
    # Errors of a model go together over neighbouring frames and bins: fewer of them than there are cells.
    error = few.errors(best, names)["hop"] * (3.0 if best.loss > _MODEL else 1.0)
    return start.but(hop=best.core.hop, centre=best.core.centre), error


def _usual_banks(scene: Scene, start: Core) -> list[Core]:
    """The bank of each scale that fits best among the usual ones: where every bin follows one loudness, curves mislead."""
    few = scene.sparse(120)
    tops = sorted({f for f in (5500.0, 6500.0, 7600.0, 8000.0, 9500.0, 11025.0, 12000.0) if f < start.rate / 2} | {start.rate / 2})  # fmt: skip
    out = []
    for scale in ("slaney", "htk"):
        cores = [start.but(scale=scale, fmin=low, fmax=high) for low in (0.0, 40.0, 80.0, 125.0) for high in tops]
        out.append(min(cores, key=lambda core: few.fit(core).loss))
    return out


def _unguarded(scene: Scene, fit: Fit) -> Fit:
    """Without a guard that no cell needs: an early, wrong analysis may have called for one."""
    if not fit.core.guard:
        return fit
    bare = scene.polish(fit.core.but(guard=0.0), FIELDS, 4)
    return bare if bare.loss < 1.1 * fit.loss or lifted(scene, fit) < 30 else fit


def _ratios(rate: int) -> list[float]:
    """Hz of the audio per Hz of a bank that may have been built for another rate; 1 first."""
    return [1.0, *sorted({rate / other for other in (16000, 22050, 24000, 44100, 48000)} - {1.0})]


def _guarded(scene: Scene, fit: Fit) -> Fit:
    """Is something as large as the signal added before the logarithm, as in ln(1 + m)?"""
    trials = [fit]
    for norm in ("slaney", None):  # with a guard, the height of the filters is no constant by bin any more
        linear = np.exp(scene.log(fit.core.but(guard=0.0, norm=norm)))
        middle = float(np.median(linear))
        trials += [
            scene.lines(fit.core.but(norm=norm, guard=guard), np.log(linear + guard * middle))
            for guard in (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
        ]
    best = min(trials, key=lambda f: f.loss)
    return best if best.loss < 0.97 * fit.loss else fit


def _window(scene: Scene, fit: Fit) -> Fit:
    """Width and shape of the window, and power: a coarse scan of widths, then the shapes at their own best width."""
    best = fit
    hop = best.core.hop
    for width in np.geomspace(max(64.0, 0.9 * hop), min(8.0 * hop, 0.25 * best.core.rate), 9):
        trial = scene.fit(best.core.but(width=float(width), n_fft=at_least(width), window="hann"))
        if trial.loss < best.loss:
            best = trial
    best = scene.polish(best.core, ("width", "centre", "fmin", "fmax"), 4)
    for window, power in itertools.product(WIDTHS, (1, 2)):
        if (window, power) == (best.core.window, best.core.power):
            continue
        width = best.core.width * WIDTHS[window] / WIDTHS[best.core.window]
        trial = scene.polish(best.core.but(window=window, power=power, width=width, closed=False, n_fft=max(best.core.n_fft, at_least(width))), ("width",), 2)  # fmt: skip
        if trial.loss < 1.15 * best.loss:
            trial = scene.polish(trial.core, ("width", "centre", "fmin", "fmax"), 2)
        if trial.loss < best.loss:
            best = trial
    return best


def _hard(scene: Scene, fit: Fit) -> Fit:
    """A window whose ends do not fade by its edges, where another does not do: its leak leads every search of widths astray."""
    if fit.loss < _SOFT:
        return fit
    few, best = scene.sparse(60), fit
    likely = [
        fit.core.but(preemphasis=p) for p in dict.fromkeys((fit.core.preemphasis, 0.97)[: 1 + (fit.loss > _LEAKING)])
    ]
    if fit.loss > _LEAKING:  # so badly timed that the hop may be a sample off
        middle = float(np.mean(np.concatenate([b.frames for b in scene.benches])))
        likely += [fit.core.but(hop=fit.core.hop + d, centre=fit.core.centre - d * middle) for d in (1.0, -1.0)]
    for start in likely:
        best = min(best, _edged(scene, few, dataclasses.replace(fit, core=start)), key=lambda f: f.loss)
        if best.loss < 0.5 * fit.loss:
            break
    return best if best.loss < 0.8 * fit.loss else fit


def _edged(scene: Scene, few: Scene, fit: Fit) -> Fit:
    """The best window between two samples that the upper bins follow."""
    trials: dict[Core, float] = {}
    for found in jumps(scene, fit):
        for power, guard in itertools.product((1, 2), {0.0, fit.core.guard}):
            trial = found.but(power=power, guard=guard)
            trials[trial] = few.fit(trial).loss
    for core in sorted(trials, key=lambda c: trials[c])[:3]:
        near = []
        for low, high in itertools.product(range(-3, 4), repeat=2):  # samples by which the edges move
            width = core.width + high - low
            near.append(core.but(width=width, centre=core.centre + (low + high) / 2, n_fft=at_least(width)))
        trials |= {c: few.fit(c).loss for c in near}
    return min((scene.polish(c, ("fmin", "fmax"), 4) for c in sorted(trials, key=lambda c: trials[c])[:2]), key=lambda f: f.loss, default=fit)  # fmt: skip


_SHAPE = 3e-3  # loss above which another shape of the window may do better
_SOFT = 0.03  # loss below which the window's shape is near enough to go on with
_LEAKING = 0.15  # loss above which a window with hard edges hides everything else
_MODEL = 0.2  # loss above which a mel was predicted, not computed
_QUIET = 3e-4  # loss that only quiet cells can owe: a guard, which is looked for once more where they are all seen
_ROUNDING = 3e-6  # loss of float32 values; above it more than rounding may be left


def settle(scene: Scene, fit: Fit) -> Fit:
    """FFT length, pre-emphasis, bank variants: whatever brings the loss down to rounding, from the cheap to the rare."""
    best = _usual_edges(scene, guarded(scene, fit))
    if best.loss < max(scene.exact, _QUIET):
        return _unguarded(scene, best)
    if best.loss > scene.exact:
        for start in () if best.core.preemphasis else (0.97, 0.9):
            core = best.core.but(preemphasis=start)
            if core.guard:  # found without it, and perhaps for want of it
                core = min(scene.fit(core), _guarded(scene, scene.fit(core.but(guard=0.0))), key=lambda f: f.loss).core
            trial = other_norm(scene, scene.polish(core, ("preemphasis", *FIELDS), 6))
            if trial.loss < 1.3 * best.loss:
                best = min(best, other_norm(scene, lengths(scene, trial)), key=lambda f: f.loss)
            if best.core.preemphasis:
                break
        if best.core.preemphasis and best.loss > scene.exact:
            best = quiet_cells(scene, best)
    if best.loss > _SHAPE and best.core.preemphasis and best.core.window != "rectangular":  # told without pre-emphasis
        window = "hamming" if best.core.window == "hann" else "hann"
        width = best.core.width * WIDTHS[window] / WIDTHS[best.core.window]
        other = best.core.but(window=window, width=width, closed=False, n_fft=max(best.core.n_fft, at_least(width)))
        best = min(best, _scanned(scene, lengths(scene, scene.polish(other, FIELDS, 4))), key=lambda f: f.loss)
    if best.loss > scene.exact:
        told = ends(scene, best, every=True)
        best = quiet_cells(scene, told) if told is not best else best
    if best.loss > scene.exact:
        best = _scanned(scene, best)
    if best.loss > scene.exact:
        best = min([best, *bank_variants(scene, best)], key=lambda f: f.loss)
        best = lengths(scene, best)
    return _unguarded(scene, best)


def _usual_edges(scene: Scene, fit: Fit) -> Fit:
    """Edges that people write, both at once: filters as narrow as an FFT bin make steps that no gradient follows."""
    core = fit.core
    if not scene.exact < fit.loss < _SOFT:
        return fit
    top = core.rate / 2 / core.ratio
    near = [
        list(itertools.islice(dict.fromkeys(v for v in usual(value, reach, extra) if 0.0 <= v <= top), 4)) or [value]
        for value, reach, extra in ((core.fmin, 1.0, ()), (core.fmax, 3.0, (top,)))
    ]
    trials = [scene.fit(core.but(fmin=low, fmax=high)) for low, high in itertools.product(*near)]
    return min([fit, *trials], key=lambda f: f.loss)


def guarded(scene: Scene, fit: Fit) -> Fit:
    """The cheap part of settling: the guard that the cells need, with the area norm that it needs."""
    best = _unguarded(scene, fit)
    if best.loss > scene.exact:
        best = quiet_cells(scene, best)
    return other_norm(scene, best)


def other_norm(scene: Scene, fit: Fit) -> Fit:
    """With a guard the area norm is no level by bin: the other one, where the fit is not exact."""
    if not fit.core.guard or fit.loss < _ROUNDING:
        return fit
    other = scene.fit(fit.core.but(norm=None if fit.core.norm else "slaney"))
    trials = [other.core.but(guard=float(fit.core.guard * factor)) for factor in (0.1, 0.3, 1.0, 3.0, 10.0)]
    return min(fit, scene.polish(min(trials, key=lambda c: scene.fit(c).loss), FIELDS, 8), key=lambda f: f.loss)


def _scanned(scene: Scene, fit: Fit) -> Fit:
    """FFT lengths that nobody would guess; only where little else is wrong."""
    if fit.loss > 0.1:
        return fit
    found = scan(scene, fit)
    if found.loss > 0.8 * fit.loss:
        return fit
    return whole_if_better(scene, scene.polish(found.core, FIELDS, 4))


def bank_variants(scene: Scene, fit: Fit, *, few: bool = False) -> list[Fit]:
    """Other mel scales and banks built for another rate, each with its own best edges.

    Args:
        scene: the mel.
        fit: the bank that is doubted.
        few: only the scales, at the bank's own rate.
    """
    edges = edges_of(fit.core, scene.bins)
    centres, strength = edges[1:-1], np.ones(scene.bins)
    out = []
    for scale in ("slaney", "htk", "htk_tf"):
        for ratio in [fit.core.ratio] if few else _ratios(fit.core.rate):
            if scale == "htk_tf" and ratio != 1.0:
                continue
            if (scale, ratio) == (fit.core.scale, fit.core.ratio):
                continue
            curve_scale = "htk" if scale == "htk_tf" else scale
            fmin, fmax, misfit = curve_edges(centres, strength, curve_scale, ratio, fit.core.rate / 2)
            if misfit < 0.25 or few:
                out.append(scene.polish(fit.core.but(scale=scale, ratio=ratio, fmin=fmin, fmax=fmax), ("fmin", "fmax"), 3))  # fmt: skip
    return out
