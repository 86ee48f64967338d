"""From a settled hypothesis to a `FrontEnd` with whole and usual numbers, and the proof: the mel computed again with it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.errors import CalibError
from calib.mel.frontend import FrontEnd
from calib.mel.identify.levels import Levels, area
from calib.mel.identify.placing import Placed
from calib.mel.identify.scene import Fit, Scene
from calib.mel.identify.spectra import Core, bank

__all__ = ["Geometry", "Guard", "Proof", "build", "computed", "geometry", "guard_of", "nice", "prove"]


_WALLS = 6  # bins with a wall, from which on the walls tell the area norm
_LIFTED = 30  # cells that an added guard lifts, from which on it is one
_ONE_WALL = 0.02  # relative spread of one filterbank output


@dataclass(frozen=True)
class Geometry:
    """Whole numbers of a window and its place.

    Args:
        win_length: in samples.
        periodic: periodic or symmetric.
        padding: the template that the place of frame 0 fits.
        shift: samples by which frame 0 lies later than that template has it.
        twins: other ``(win_length, periodic)`` of the same shape at the same place.
    """

    win_length: int
    periodic: bool
    padding: str
    shift: int
    twins: tuple[tuple[int, bool], ...] = ()


def windows_of(core: Core) -> list[tuple[int, bool]]:
    """Windows ``(win_length, periodic)`` that have this width, the likelier first."""
    whole = round(core.width)
    if core.window == "rectangular":
        return [(min(whole, core.n_fft), True)]
    if core.window == "hamming":
        return [(whole + 1, False)] if core.closed and whole + 1 <= core.n_fft else [(min(whole, core.n_fft), True)]
    odd = whole % 2 == 1
    out = [(whole, True)] if whole <= core.n_fft else []
    if whole + 1 <= core.n_fft:
        out.append((whole + 1, False))
    # Window lengths are even, or as long as the FFT.
    return sorted(out, key=lambda item: (item[0] % 2, item[0] != core.n_fft and odd)) or [(core.n_fft, True)]


def geometry(core: Core, tolerance: float) -> Geometry:
    """Window and padding of a core whose place is known to ``tolerance`` samples.

    A periodic window of W samples and a symmetric one of W + 1 have one shape, but the middle of the FFT may lie one
    sample elsewhere: where the place is known that well, it tells which of them fits a template of padding.
    """
    found = [(_fits(core, win, tolerance), win, periodic) for win, periodic in windows_of(core)]
    rank = min(fit[0] for fit, _, _ in found)
    best = [(fit, win, periodic) for fit, win, periodic in found if fit[0] == rank]
    (_, padding, shift), win, periodic = best[0]
    return Geometry(win, periodic, padding, shift, tuple((w, p) for _, w, p in best[1:]))


def _fits(core: Core, win: int, tolerance: float) -> tuple[int, str, int]:
    """How well a window fits a template (0 in its place, 1 by whole frames, 2 not), which one, and by how many samples."""
    n_fft, hop = core.n_fft, round(core.hop)
    start = core.centre - core.width / 2 - (n_fft - win) // 2
    templates = {"center": -(n_fft // 2), "none": 0}
    if hop <= n_fft:
        templates["same"] = -((n_fft - hop) // 2)
    best = min(templates, key=lambda t: abs(start - templates[t]))
    if abs(start - templates[best]) <= tolerance + 0.5:
        return 0, best, 0
    frames = {t: (start - templates[t]) / hop for t in templates}
    whole = [t for t in ("center", "same", "none") if t in frames and abs(frames[t] - round(frames[t])) * hop <= tolerance + 0.5]  # fmt: skip
    if whole:
        best = min(whole, key=lambda t: (abs(round(frames[t])), t == "none"))
        return 1, best, round(frames[best]) * hop
    return 2, best, round(start - templates[best])


@dataclass(frozen=True)
class Guard:
    """What keeps the logarithm from minus infinity.

    Args:
        kind: ``clamp``, ``add``, ``silence`` (digital silence lies at the guard's value, which is a clamp or added) or
            ``unknown``.
        eps: its value (an upper limit where the kind is unknown).
        cells: cells on the clamp's wall, or that an added guard lifts by more than 1 %.
        spread: relative spread of the value over bins.
    """

    kind: str
    eps: float
    cells: int
    spread: float


def guard_of(scene: Scene, fit: Fit, lv: Levels, placed: Placed, *, clamp: bool) -> tuple[Guard, Levels]:
    """The guard from what was found, or from the lower wall; and the levels with the area norm that the wall tells.

    A clamp is one filterbank output for all bins. Under statistics by bin, which hide the area norm from the levels, the
    walls still lie at one output with the true norm, and at outputs as different as the filters' widths without it.
    """
    linear = np.concatenate([b.linear(fit.core) for b in scene.benches])
    if fit.core.guard:
        eps = fit.core.guard * float(np.median(linear))
        cells = int((linear < 100.0 * eps).sum())
        if cells >= _LIFTED:  # one that lifts nothing is none: rounding may call for it
            return Guard("add", eps, cells, 0.0), lv
    t = placed.traits
    wall = t.wall(placed.alignment.sign)
    share = t.low_share if placed.alignment.sign > 0 else t.high_share
    if np.isfinite(wall).any() and not t.linear:
        with np.errstate(over="ignore"):
            values = np.exp(np.clip((wall - lv.offset) / np.where(lv.slope == 0, 1.0, lv.slope), -60, 60))
        good = values[np.isfinite(values) & scene.bins_used]
        if good.size and not (fit.core.eps and _eps_explains(fit, scene, values)):
            middle = float(np.median(good))
            spread = float(np.median(np.abs(good / middle - 1.0)))
            cells = round(share * sum(y.size for y in placed.y))
            if lv.norm is None and lv.kind in {"standard", "shift"} and good.size >= _WALLS:
                own = fit.core.norm or "none"
                factor = area(fit, scene.bins) * (1.0 if own == "none" else -1.0)
                changed = (values * np.exp(factor))[np.isfinite(values) & scene.bins_used]
                apart = float(np.median(np.abs(changed / np.median(changed) - 1.0)))
                if spread < min(_ONE_WALL, 0.2 * apart):
                    lv = dataclasses.replace(lv, norm=own)
                elif apart < min(_ONE_WALL, 0.2 * spread):
                    other = "none" if own == "slaney" else "slaney"
                    lv = dataclasses.replace(lv, norm=other, offset=lv.offset - lv.slope * factor)
                    middle, spread = float(np.median(changed)), apart
            return Guard("clamp" if clamp else "silence", middle, cells, spread), lv
    positive = linear[linear > 0]
    return Guard("unknown", float(positive.min()) if positive.size else 1e-10, 0, 0.0), lv


def _eps_explains(fit: Fit, scene: Scene, walls: np.ndarray) -> bool:
    """Whether silence alone, under what is added to the spectrum or clamps it, gives the values ``(M,)`` on the walls.

    They are as different as the sums of the filters, or, where the lowest is the wall of all bins, one of them.
    """
    lowest = bank(fit.core, scene.bins).sum(0) * (fit.core.eps ** (0.5 if fit.core.power == 1 else 1.0))
    both = np.isfinite(walls) & (walls > 0) & (lowest > 0) & scene.bins_used
    if not both.any():
        return False
    by_bin = float(np.median(np.abs(np.log(lowest[both] / walls[both]))))
    one = abs(float(np.log(lowest[lowest > 0].min() / np.median(walls[both]))))
    return min(by_bin, one) < _ONE_WALL


def nice(value: float, tolerance: float) -> float:
    """The nearest number of one or two significant digits, where it is within a relative tolerance."""
    if value <= 0 or not np.isfinite(value):
        return value
    for digits in (0, 1, 2):
        near = float(f"{value:.{digits}e}")
        if abs(near / value - 1.0) <= tolerance:
            return near
    return value


def build(core: Core, geo: Geometry, lv: Levels, guard: Guard, placed: Placed, noise: float) -> FrontEnd | None:
    """The front end, or None where `FrontEnd` has no words for it."""
    t = placed.traits
    values: dict[str, Any] = {
        "sample_rate": core.rate, "n_fft": core.n_fft, "win_length": geo.win_length, "hop_length": round(core.hop), "window": core.window,
        "window_periodic": geo.periodic, "padding": geo.padding, "n_mels": len(lv.slope), "fmin": core.fmin, "fmax": core.fmax,
        "mel_scale": core.scale, "filter_norm": None if (lv.norm or core.norm or "none") == "none" else "slaney", "power": core.power, "preemphasis": core.preemphasis,
        "fb_sample_rate": round(core.rate / core.ratio),
    }  # fmt: skip
    if core.eps:
        values |= {"spectrum_eps": nice(core.eps, max(0.02, noise)), "spectrum_eps_mode": "clamp" if core.eps_clamp else "add"}  # fmt: skip
    values["fmax"] = min(values["fmax"], values["fb_sample_rate"] / 2)
    if t.linear:
        slope = float(np.median(lv.slope))
        if abs(slope - 1.0) > 0.02 or lv.kind != "global":
            return None
        gain = float(np.exp(np.median(lv.offset)))
        values |= {"log": "none", "post_scale": 1.0 if abs(gain - 1.0) < 1e-4 else gain}
    else:
        values |= _units(lv, guard, placed)
    for name, wall in (("clip_max", t.high if placed.alignment.sign > 0 else t.low),):
        if np.isfinite(wall).all() and t.utterance is None and placed.alignment.sign > 0 and t.high_share > 0:
            values[name] = nice(float(wall[0]), 1e-6) if wall[0] > 0 else float(wall[0])
    try:
        return FrontEnd.from_fields(values)
    except CalibError:
        return None


def _units(lv: Levels, guard: Guard, placed: Placed) -> dict[str, Any]:
    """Logarithm, guard and normalisation."""
    out: dict[str, Any] = {"log": "ln"}
    eps = nice(guard.eps, 3e-3)
    if guard.kind == "add":
        out |= {"log_guard": "add", "log_eps": eps}
    elif guard.kind in {"clamp", "silence"}:
        out |= {"log_guard": "clamp", "log_eps": eps}
    else:
        # No cell says: a guard below every value seen.
        out |= {"log_guard": "clamp", "log_eps": min(1e-5, 10.0 ** np.floor(np.log10(max(guard.eps, 1e-12)) - 0.1))}
    if placed.traits.utterance is not None:
        return {**out, "utterance_norm": placed.traits.utterance}
    slope, offset = lv.slope, lv.offset
    safe = np.where(np.abs(slope) > 1e-9, slope, 1e-9)
    if lv.kind in {"global", "shift"}:
        common = float(slope[0])
        if lv.log is not None:
            unit = lv.multiplier / (np.log(10.0) if lv.log == "log10" else 1.0)
            out |= {"log": lv.log, "log_multiplier": lv.multiplier}
            common = common / unit if abs(common / unit - 1.0) > 1e-5 and lv.log is None else 1.0
        out["post_scale"] = common
        if lv.kind == "global":
            move = float(offset[0])
            out["post_offset"] = 0.0 if abs(move / float(slope[0])) < 1e-4 else move
        else:
            out["post_mean"] = tuple(-offset)
        return out
    out["post_std"] = tuple(1.0 / safe)
    if lv.kind == "divide":
        level = float(np.median(offset / safe))
        if abs(level) > 1e-4:
            out["post_offset"] = level
    else:
        out["post_mean"] = tuple(-offset / safe)
    return out


@dataclass(frozen=True)
class Proof:
    """A front end's mel against the stored one.

    Args:
        error: mean absolute difference in the mel's unit.
        largest: the largest difference.
        decibels: the mean in dB.
        lengths: stored frames less computed ones, by clip.
        difference: ``(N, M)`` of all common frames, in ln units of the filterbank's output times power.
        edges: which of the N frames lie at the ends of a clip.
    """

    error: float
    largest: float
    decibels: float
    lengths: tuple[int, ...]
    difference: np.ndarray
    edges: np.ndarray


def computed(fe: FrontEnd, samples: list[np.ndarray], shift: int = 0) -> list[np.ndarray] | None:
    """The mels of the clips ``(T, M)``; None where the front end cannot be run on one of them."""
    out = []
    for x in samples:
        moved = x[shift:] if shift > 0 else np.concatenate([np.zeros(-shift, np.float32), x]) if shift else x
        try:
            out.append(fe.mel(moved))
        except CalibError:
            return None
    return out


def prove(
    fe: FrontEnd,
    placed: Placed,
    samples: list[np.ndarray],
    slope: np.ndarray,
    shift: int = 0,
    mels: list[np.ndarray] | None = None,
) -> Proof | None:
    """Compute the mels again and compare."""
    found = computed(fe, samples, shift) if mels is None else mels
    if found is None:
        return None
    parts, lengths, edges = [], [], []
    for y, again, n in zip(placed.stored, found, placed.traits.constant_ends, strict=True):
        lengths.append(len(y) - len(again))
        count = min(len(y) - n, len(again))
        if count < 1:
            return None
        parts.append(again[:count].astype(np.float64) - np.asarray(y[:count], np.float64))
        flag = np.zeros(count, bool)
        flag[:3] = flag[-3:] = True
        edges.append(flag)
    raw = np.concatenate(parts)
    if placed.traits.linear:
        base = np.concatenate([np.asarray(y[: len(p)], np.float64) for y, p in zip(placed.stored, parts, strict=True)])
        small = 1e-6 * float(base.max()) + 1e-30
        scaled = np.log(np.maximum(base + raw, small) / np.maximum(base, small))
    else:
        scaled = raw / np.where(np.abs(slope) > 1e-9, np.abs(slope), 1.0)
    return Proof(
        float(np.abs(raw).mean()), float(np.abs(raw).max()), float(np.abs(scaled).mean()) * 8.685889638 / fe.power,
        tuple(lengths), scaled, np.concatenate(edges),
    )  # fmt: skip


def with_tail(fe: FrontEnd, proof: Proof, placed: Placed) -> FrontEnd:
    """Frames dropped or overwritten at the end, where every clip says the same."""
    ends = placed.traits.constant_ends
    if len(set(proof.lengths)) == 1 and proof.lengths[0] == 0 and len(set(ends)) == 1 and ends[0] in {1, 2}:
        return dataclasses.replace(fe, overwrite_last=ends[0], overwrite_value=placed.traits.end_value)
    if len(set(proof.lengths)) == 1 and proof.lengths[0] in {-1, -2}:
        return dataclasses.replace(fe, drop_last=-proof.lengths[0])
    return fe
