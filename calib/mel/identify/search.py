"""From a placed mel to the analysis that made it: bank, window, FFT length, power and place of the frames.

The order: a curve from bins to Hz (each bin's best-correlated narrow band) gives mel scale, fmin and fmax roughly; the
window's width and shape, power and FFT length follow by what they leave; then everything real-valued is polished
together, and what has whole or usual values is snapped where the loss does not notice.
"""

from __future__ import annotations

import itertools

import numpy as np

from calib.mel.filterbank import hz_to_mel, mel_to_hz
from calib.mel.identify.align import standardise
from calib.mel.identify.guards import lifted, quiet_cells
from calib.mel.identify.jumps import jumps
from calib.mel.identify.scene import Fit, Scene
from calib.mel.identify.spectra import Core, edges_of
from calib.mel.identify.usual import WIDTHS, n_ffts

__all__ = [
    "bank_curve",
    "bank_variants",
    "curve_edges",
    "ends",
    "lengths",
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
    best = scene.polish(best.core, _ALL, 6)
    return lengths(scene, _unguarded(scene, best))


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
    widths = [few.fit(best.core.but(width=w, n_fft=_at_least(w))) for w in best.core.width * np.geomspace(0.4, 2.5, 7)]
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
    bare = scene.polish(fit.core.but(guard=0.0), _ALL, 4)
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
        trial = scene.fit(best.core.but(width=float(width), n_fft=_at_least(width), window="hann"))
        if trial.loss < best.loss:
            best = trial
    best = scene.polish(best.core, ("width", "centre", "fmin", "fmax"), 4)
    for window, power in itertools.product(WIDTHS, (1, 2)):
        if (window, power) == (best.core.window, best.core.power):
            continue
        width = best.core.width * WIDTHS[window] / WIDTHS[best.core.window]
        trial = scene.polish(best.core.but(window=window, power=power, width=width, closed=False, n_fft=max(best.core.n_fft, _at_least(width))), ("width",), 2)  # fmt: skip
        if trial.loss < 1.15 * best.loss:
            trial = scene.polish(trial.core, ("width", "centre", "fmin", "fmax"), 2)
        if trial.loss < best.loss:
            best = trial
    return best


def _hard(scene: Scene, fit: Fit) -> Fit:
    """A rectangular window by its edges, where another does not do: its leak leads every search of widths astray."""
    if fit.loss < _SOFT:
        return fit
    few = scene.sparse(60)
    trials: dict[Core, float] = {}
    for found in jumps(scene, fit):
        for power, guard in itertools.product((1, 2), {0.0, fit.core.guard}):
            trial = found.but(power=power, guard=guard)
            trials[trial] = few.fit(trial).loss
    for core in sorted(trials, key=lambda c: trials[c])[:3]:
        near = []
        for low, high in itertools.product(range(-3, 4), repeat=2):  # samples by which the edges move
            width = core.width + high - low
            near.append(core.but(width=width, centre=core.centre + (low + high) / 2, n_fft=_at_least(width)))
        trials |= {c: few.fit(c).loss for c in near}
    best = min((scene.polish(c, ("fmin", "fmax"), 4) for c in sorted(trials, key=lambda c: trials[c])[:2]), key=lambda f: f.loss, default=fit)  # fmt: skip
    return best if best.loss < 0.8 * fit.loss else fit


def _at_least(width: float) -> int:
    return int(2 ** np.ceil(np.log2(max(width, 64.0) - 1e-6)))


_FEW = 100  # frames on which what is clearly worse is left behind
_SOFT = 0.03  # loss below which the window's shape is near enough to go on with
_MODEL = 0.2  # loss above which a mel was predicted, not computed
_QUIET = 3e-4  # loss that only quiet cells can owe: a guard, which is looked for once more where they are all seen
_ALL = ("fmin", "fmax", "centre", "width")


def settle(scene: Scene, fit: Fit) -> Fit:
    """FFT length, pre-emphasis, bank variants: whatever brings the loss down to rounding, from the cheap to the rare."""
    best = _unguarded(scene, fit)
    if best.loss > scene.exact:
        best = quiet_cells(scene, best)
    best = _other_norm(scene, best)
    if best.loss < max(scene.exact, _QUIET):
        return _unguarded(scene, best)
    if best.loss > scene.exact:
        for start in () if best.core.preemphasis else (0.97, 0.9):
            trial = _other_norm(scene, scene.polish(best.core.but(preemphasis=start), ("preemphasis", *_ALL), 6))
            if trial.loss < 1.3 * best.loss:
                best = min(best, _other_norm(scene, lengths(scene, trial)), key=lambda f: f.loss)
            if best.core.preemphasis:
                break
    if best.loss > scene.exact:
        told = ends(scene, best, every=True)
        best = quiet_cells(scene, told) if told is not best else best
    if best.loss > scene.exact:
        best = _scanned(scene, best)
    if best.loss > scene.exact:
        best = min([best, *bank_variants(scene, best)], key=lambda f: f.loss)
        best = lengths(scene, best)
    return _unguarded(scene, best)


def _other_norm(scene: Scene, fit: Fit) -> Fit:
    """With a guard the area norm is no level by bin: the other one, where the fit is not exact."""
    if not fit.core.guard or fit.loss < scene.exact:
        return fit
    other = scene.fit(fit.core.but(norm=None if fit.core.norm else "slaney"))
    trials = [other.core.but(guard=float(fit.core.guard * factor)) for factor in (0.1, 0.3, 1.0, 3.0, 10.0)]
    return min(fit, scene.polish(min(trials, key=lambda c: scene.fit(c).loss), _ALL, 8), key=lambda f: f.loss)


def _scanned(scene: Scene, fit: Fit) -> Fit:
    """FFT lengths that nobody would guess; only where little else is wrong."""
    if fit.loss > 0.1:
        return fit
    found = _scan(scene, fit)
    if found.loss > 0.8 * fit.loss:
        return fit
    return _whole_if_better(scene, scene.polish(found.core, _ALL, 4))


def lengths(scene: Scene, fit: Fit) -> Fit:
    """The FFT length for the width found, then whole widths around it, then the other real-valued fields once more."""
    few, core = scene.sparse(_FEW), fit.core
    guard = few.moved(core, scene).guard
    sizes = {n: few.fit(core.but(n_fft=n, width=min(core.width, float(n)), guard=guard)).loss for n in n_ffts(core)}
    likely = sorted(sizes, key=lambda n: sizes[n])[:3]
    trials = [scene.fit(core.but(n_fft=n, width=min(core.width, float(n)))) for n in likely]
    best = scene.polish(min([fit, *trials], key=lambda f: f.loss).core, _ALL, 4)
    return ends(scene, _whole_if_better(scene, best))


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
    for width, closed in itertools.product(range(whole - reach, whole + reach + 1), (False, True)):
        win = width + closed  # a symmetric window has one sample more than it is wide
        if (closed and core.window == "rectangular") or not (every or win % 20 == 0 or win & (win - 1) == 0 or win in {core.n_fft, whole}):  # fmt: skip
            continue
        first = core.centre - width / 2
        near = (0.0,) if every else (0.0, 0.75)
        starts = {float(f(first + sign * d)) for f, sign in ((np.floor, -1), (np.ceil, 1)) for d in near}
        for n_fft, start in itertools.product({core.n_fft} if every else {core.n_fft, _at_least(win), win}, starts):
            if n_fft >= win and (n_fft % 2 == 0 or n_fft == core.n_fft):
                trial = core.but(width=float(width), centre=start + width / 2, n_fft=n_fft, closed=closed)
                trials[trial] = few.fit(trial.but(guard=guard)).loss
    top = sorted(trials, key=lambda c: trials[c])[:2]
    best = min((scene.polish(c, ("fmin", "fmax"), 4) for c in top), key=lambda f: f.loss, default=fit)
    return best if best.loss < 0.8 * fit.loss else fit


def _whole_if_better(scene: Scene, best: Fit) -> Fit:
    if scene.errors(best, ("width",))["width"] > 3.0:  # noise would make a lottery of what follows
        return best
    top = _whole(scene, best)
    return scene.polish(top.core, ("fmin", "fmax"), 4) if top.loss < 1.05 * best.loss else best


def _scan(scene: Scene, fit: Fit) -> Fit:
    """Every even FFT length (then its odd neighbours) up to four times the window, on few frames; the best three on all."""
    core = fit.core
    few = scene.sparse(40)
    sizes = list(range(int(np.ceil(core.width * 0.99 / 2)) * 2, int(min(4.1 * core.width, 2.2 * core.width + 1200)), 2))
    sizes = sizes[:600]
    losses = {n: few.fit(core.but(n_fft=n, width=min(core.width, float(n)))).loss for n in sizes}
    found = sorted(losses, key=lambda n: losses[n])[:3]
    near = {n + d for n in found[:1] for d in (-1, 1) if n + d >= core.width}
    fits = [scene.polish(core.but(n_fft=n, width=min(core.width, float(n))), ("width",), 2) for n in {*found, *near}]
    return min(fits, key=lambda f: f.loss)


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
