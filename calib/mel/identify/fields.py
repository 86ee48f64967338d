"""From a `Case` to its fields: every parameter as value, confidence, set of alternatives and the evidence in words.

What shares one observable is said to share it: log base, gain and 1/sd share the slope; reference level, mean, gain and
area norm the offset; normalisation by bin hides area norm and log base altogether.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.mel.catalogue import catalogue
from calib.mel.identify.levels import LOGS
from calib.mel.identify.placing import Placed
from calib.mel.identify.rebuild import nice
from calib.mel.identify.resolve import Choice
from calib.mel.identify.results import Found

if TYPE_CHECKING:
    from calib.mel.identify.settling import Case

__all__ = ["fields"]

_LN10 = math.log(10.0)
_NEXT_TO_NONE = 0.005  # coefficient that raises nothing by .05 dB
_NOBODYS = 0.3  # coefficient below which a pre-emphasis stands for something else
_ROUND = 0.02  # relative distance from one significant digit


def fields(case: Case) -> Iterator[tuple[str, Found]]:
    """Name and finding of every parameter."""
    core, placed, _geo, _lv = case.fit.core, case.placed, case.geometry, case.levels
    yield "layout", _layout(placed)
    yield "n_mels", Found(placed.y[0].shape[1], 1.0, (), f"{placed.y[0].shape[1]} bins in every file")
    yield "sample_rate", _rate(case)
    hop = core.hop
    a = placed.alignment
    apart = f"frames lie {1000 * a.hop:.4f} ms apart in the audio ({a.hop * core.rate:.3f} ± {3 * a.hop_error * core.rate:.3f} samples at {core.rate} Hz)"
    if abs(hop - round(hop)) < 1e-6:
        yield "hop_length", Found(round(hop), 0.995, (), apart)
    else:  # of no rate that is known: nobody's hop, so the time between frames is not as well known
        yield "hop_length", Found(hop, 0.4, (round(hop), "another"), apart + ", a whole hop at no usual rate")
    yield from _window(case)
    yield from _bank(case)
    yield "power", _choice(case, "power", {1: "magnitude", 2: "power"})
    yield "preemphasis", _emphasis(case)
    yield from _place(case)
    yield from _values(case)
    yield "dtype", Found(placed.traits.dtype, 0.99, (), f"every stored value is a {placed.traits.dtype} number")


def _layout(placed: Placed) -> Found:
    shape = placed.stored[0].shape
    words = f"the axis of {shape[1]} follows the audio's bands, the axis of {shape[0]} its time"
    return Found(placed.layout, 0.995, (), words)


def _rate(case: Case) -> Found:
    core, placed = case.fit.core, case.placed
    own = core.rate == placed.rate
    words = f"a whole hop of {round(core.hop)} samples" if abs(core.hop - round(core.hop)) < 1e-6 else "no whole hop"
    words += " at the audio's own rate" if own else f" at this rate ({placed.alignment.hop * placed.rate:.2f} at the audio's {placed.rate} Hz)"  # fmt: skip
    if own:
        words += " (audio brought to a higher rate first would give the same, and is not told from it)"
    others = tuple(rate for rate, _ in case.rates)
    if others:
        words += (
            "; a hop of " + ", ".join(f"{hop} at {rate} Hz" for rate, hop in case.rates) + " explains the mel as well"
        )
    return Found(core.rate, 0.97, others, words)


def _said(choice: Choice, names: dict[Any, str] | None = None) -> str:
    def word(value: Any) -> str:
        return (names or {}).get(value, f"{value:g}" if isinstance(value, float) else str(value))

    if not choice.tried:
        return "no alternative was tried, for want of time"
    if choice.open:
        return f"{', '.join(word(v) for v in choice.open)} explain{'s' * (len(choice.open) == 1)} the mel as well"
    if choice.nearest is None:
        return "no alternative was to be tried"
    return f"{word(choice.nearest)} would leave {choice.loss_db:.3g} dB (t = {choice.t:.0f})"


def _choice(case: Case, key: str, names: dict[Any, str] | None = None) -> Found:
    choice = case.choices[key]
    return Found(choice.value, _sure(choice), choice.open, _leaves(case) + "; " + _said(choice, names))


def _leaves(case: Case) -> str:
    return f"it leaves {case.noise_db:.3g} dB"


def _sure(choice: Choice) -> float:
    if choice.open:
        return 1.0 / (1 + len(choice.open))
    return 0.999 if choice.t > 8 or choice.nearest is None else 0.98


def _window(case: Case) -> Iterator[tuple[str, Found]]:
    core, geo = case.fit.core, case.geometry
    yield "window", _choice(case, "window")
    error = case.errors.get("width", 0.0)
    wide = error > 0.7
    interval = (core.width - error, core.width + error)
    if wide:
        low, high = (max(1, math.floor(interval[0])), min(core.n_fft, math.ceil(interval[1])))
        yield "win_length", Found(geo.win_length, 0.5, (), f"the noise allows {low} to {high} samples", (float(low), float(high)))  # fmt: skip
        yield "window_periodic", Found(None, 0.0, (True, False), "one sample of width cannot be seen at this noise")
    else:
        others = tuple(win for win, _ in geo.twins)
        choice = case.choices.get("width")
        said = f"the window is {core.width:.4g} samples wide; " + (_said(choice) if choice else "")
        open_width = choice is not None and bool(choice.open)
        both = f"a periodic window of {round(core.width)} and a symmetric one of {round(core.width) + 1} samples have one shape" if others else ""  # fmt: skip
        yield "win_length", Found(geo.win_length, 0.6 if open_width else 0.9 if others else 0.98, (*others, *(round(v) for v in (choice.open if open_width and choice else ()))), said)  # fmt: skip
        if core.window == "rectangular":
            yield "window_periodic", Found(None, 0.0, (True, False), "a rectangular window has no such kinds")
        elif open_width or ("closed" in case.choices and case.choices["closed"].open):
            yield "window_periodic", Found(None, 0.0, (True, False), "one sample of width cannot be seen here")
        else:
            yield (
                "window_periodic",
                Found(
                    geo.periodic,
                    0.9 if others else 0.98,
                    (not geo.periodic,) if others else (),
                    said + ("; " + both if both else ""),
                ),
            )
    yield "n_fft", _choice(case, "n_fft")


def _bank(case: Case) -> Iterator[tuple[str, Found]]:
    core = case.fit.core
    choice = case.choices["mel_scale"]
    yield "mel_scale", Found(choice.value, _sure(choice), choice.open, _leaves(case) + "; " + _said(choice))
    for name in ("fmin", "fmax"):
        value, error = getattr(core, name), max(case.errors.get(name, 0.0), 1e-3)
        top = core.rate / 2 / core.ratio
        words = f"fitted to ± {error:.3g} Hz"
        if name == "fmax" and case.band < core.fmax * core.ratio - 300.0:
            words += f"; the audio holds nothing above {case.band:.0f} Hz, so the upper bins were not heard: their places follow from the lower ones"  # fmt: skip
        yield name, Found(value, 0.98, (), words, (max(0.0, value - error), min(top, value + error)))
    value = round(core.rate / core.ratio)
    words = "the bank was built for the rate of the audio" if core.ratio == 1 else f"the bank was built for {value} Hz but serves audio at {core.rate} Hz: its edges lie {core.ratio:.4g} times as high"  # fmt: skip
    yield "fb_sample_rate", Found(value, 0.97, (), words)


def _emphasis(case: Case) -> Found:
    core = case.fit.core
    choice = case.choices["preemphasis"]
    if choice.open:
        return Found(core.preemphasis or None, 0.4, tuple(v for v in (core.preemphasis, *choice.open)), "pre-emphasis is a level by bin, nearly; " + _said(choice))  # fmt: skip
    if 0.0 < core.preemphasis < _NEXT_TO_NONE:
        return Found(0.0, 0.9, (), f"{core.preemphasis:.2g} fits, which is next to none; " + _said(choice))
    if 0.0 < core.preemphasis < _NOBODYS:
        return Found(core.preemphasis, 0.4, (0.0, "another"), f"a coefficient of {core.preemphasis:.3g} fits, which nobody uses: something else stands behind it; " + _said(choice))  # fmt: skip
    error = case.errors.get("preemphasis", 0.0)
    interval = (core.preemphasis - error, core.preemphasis + error) if core.preemphasis else None
    return Found(core.preemphasis, _sure(choice), (), _leaves(case) + "; " + _said(choice), interval)


def _place(case: Case) -> Iterator[tuple[str, Found]]:
    core, geo, placed = case.fit.core, case.geometry, case.placed
    error = case.errors.get("centre", 0.0)
    hop = round(core.hop)
    words = f"the middle of frame 0 lies at sample {core.centre:.1f} ± {max(error, 0.01):.2g}"
    templates = {"center": "centred (n_fft / 2 on each side)", "same": "(n_fft - hop) / 2 on each side: half a hop later than centred", "none": "no padding in front", "end": "padded at the end only"}  # fmt: skip
    padding = case.frontend.padding if case.frontend is not None and geo.shift == 0 else geo.padding
    others: tuple[str, ...] = ()
    if error > hop / 4 or (padding in {"center", "same"} and case.choices["half"].open):
        others = tuple(t for t in ("center", "same") if t != padding)
    elif {padding, geo.padding} == {"center", "same"}:  # the entry named is not of the place found: noise allows both
        others = (geo.padding,)
    yield "padding", Found(padding, 0.5 if others else 0.98, others, f"{words}: {templates[padding]}")
    if geo.shift:
        frames = geo.shift / hop
        what = f"{frames:g} frame{'s' * (abs(frames) != 1)}" if abs(frames - round(frames)) < 1e-9 else f"{geo.shift} samples ({frames:.2f} frames)"  # fmt: skip
        yield "shift", Found(geo.shift, 0.95, (), f"frame 0 lies {what} {'later' if geo.shift > 0 else 'earlier'} than its padding says: the start was cut, or the audio was trimmed or padded first")  # fmt: skip
    if padding in {"center", "same"}:
        modes = case.pad_modes
        named = {catalogue()[name].frontend.pad_mode for name in case.naming.names}
        if geo.shift and len(named) == 1:
            yield "pad_mode", Found(named.pop(), 0.95, (), "the named front end, which trims the audio itself, reproduces the ends, too")  # fmt: skip
        elif geo.shift:
            yield "pad_mode", Found(None, 0.0, ("reflect", "constant"), "the frames at the padding are not in the mel")
        elif len(modes) == 1:
            yield (
                "pad_mode",
                Found(modes[0], 0.98, (), "the frames at the ends agree with it and not with the other mode"),
            )
        else:
            yield "pad_mode", Found(None, 0.0, ("reflect", "constant"), "only frames 0, 1 and the last could tell, and they do not here")  # fmt: skip
    lengths = set(case.proof.lengths) if case.proof is not None and case.naming.best is None else set()
    ends = set(placed.traits.constant_ends)
    if ends - {0}:
        yield "overwrite_last", Found(max(ends), 0.9, (), f"the last {', '.join(map(str, sorted(ends)))} frames hold {placed.traits.end_value:g} throughout: overwritten, or padding")  # fmt: skip
    if case.frontend is not None and case.frontend.drop_last:
        yield (
            "drop_last",
            Found(case.frontend.drop_last, 0.9, (), "the mel is that many frames shorter than its audio gives"),
        )
    elif lengths - {0}:
        yield "length", Found(sorted(lengths), 0.9, (), f"the mel has {', '.join(f'{v:+d}' for v in sorted(lengths))} frames against what its audio gives: cut or padded")  # fmt: skip


def _values(case: Case) -> Iterator[tuple[str, Found]]:
    lv, placed, guard, core = case.levels, case.placed, case.guard, case.fit.core
    t = placed.traits
    slope = float(np.median(lv.slope))
    offset = float(np.median(lv.offset / np.where(np.abs(lv.slope) > 1e-12, lv.slope, 1.0)))
    quantity = "power" if core.power == 2 else "magnitude"
    if t.linear:
        yield "log", Found("none", 0.98, (), f"the values are no logarithms: positive, and log(value) rises by {slope:.4f} per ln of {quantity}")  # fmt: skip
        yield "filter_norm", _norm(case)
        yield "gain_db", Found(8.685889638 * offset, 0.5, (), f"values are {math.exp(offset):.4g} times the {quantity}: a gain of the audio, or a factor")  # fmt: skip
        return
    if t.utterance is not None:
        what = "min-max to [0, 1]" if t.utterance == "minmax" else "mean 0 and sd 1 in every bin"
        yield "utterance_norm", Found(t.utterance, 0.97, (), f"every clip is exactly {what}")
        yield "log", Found("ln", 0.3, ("log10", "any base"), "normalisation by utterance takes up the log base")
        yield "gain_db", Found(None, 0.0, ("any",), "normalisation by utterance takes up the level")
        yield "filter_norm", _norm(case) if t.utterance == "minmax" or (lv.norm is not None and lv.kind != "divide") else Found(None, 0.0, ("slaney", None), "it is a level by bin, which the normalisation takes up")  # fmt: skip
        yield from _guards(case)
        return
    yield "utterance_norm", Found(None, 0.8, () if guard.kind != "clamp" else ("dynamic_max",), "no clip is normalised to a fixed mean, spread, minimum or maximum" + ("; a floor relative to the loudest cell looks like a clamp in one clip" if guard.kind == "clamp" and len(placed.clips) == 1 else ""))  # fmt: skip
    if lv.kind == "global":
        yield "log", _log(case, slope)
        yield (
            "slope",
            Found(
                slope, 0.99, (), f"mel units per ln of {quantity}, the same in all bins (spread {lv.slope_spread:.1e})"
            ),
        )
        yield "offset", Found(float(lv.offset[0]), 0.97, (), _offset_words(lv.offset[0], slope))
        yield "gain_db", _gain(case, slope, float(lv.offset[0]))
    elif lv.kind == "divide":
        yield "log", Found("ln", 0.6, ("any base",), "each bin was divided by a number of its own, which takes up the log base; nothing was subtracted")  # fmt: skip
        yield "post_norm", Found("divide by bin", 0.95, (), f"slopes differ by bin (from {lv.slope.min():.4g} to {lv.slope.max():.4g} per ln), and offset / slope is the same in all bins")  # fmt: skip
        yield "gain_db", Found(8.685889638 / core.power * offset, 0.6, (), f"offset / slope is {offset:.4g} ln: a level of {8.685889638 / core.power * offset:+.2f} dB")  # fmt: skip
    else:
        what = "mean and sd by bin" if lv.kind == "standard" else "a mean by bin"
        yield "post_norm", Found(what, 0.95, (), f"slopes {'differ by bin' if lv.kind == 'standard' else 'agree'}, offsets differ by bin by {lv.offset_spread[0]:.2g} ln (with an area norm) or {lv.offset_spread[1]:.2g} ln (without)")  # fmt: skip
        if lv.kind == "standard":
            yield "log", Found(None, 0.0, ("ln", "log10", "20 log10"), "the sd by bin takes up the log base")
        else:
            yield "log", _log(case, slope)
        yield "gain_db", Found(None, 0.0, ("any",), "the mean by bin takes up the level of the audio")
    yield "filter_norm", _norm(case)
    yield from _guards(case)
    if t.high_share > 0 and placed.alignment.sign > 0:
        yield "clip_max", Found(float(np.nanmax(t.high)), 0.8, (), f"{100 * t.high_share:.2g} % of the cells lie at the largest value exactly")  # fmt: skip


def _norm(case: Case) -> Found:
    lv = case.levels
    words = f"offsets spread over bins by {lv.offset_spread[0]:.2g} ln with an area norm and by {lv.offset_spread[1]:.2g} ln without"
    if lv.norm is None:
        return Found(None, 0.0, ("slaney", None), words + ": a mean by bin hides it")
    if lv.kind in {"standard", "shift"}:
        words = f"the walls of all bins lie at one filterbank output with it, to {100 * case.guard.spread:.1g} %, and not without; {words}"
    return Found("slaney" if lv.norm == "slaney" else None, 0.97, (), words)


def _log(case: Case, slope: float) -> Found:
    lv = case.levels
    shared = "log base, 1 / sd and any scale share the slope"
    if lv.log is not None:
        name = f"{lv.multiplier:g} {lv.log}" if lv.multiplier != 1 else lv.log
        return Found(lv.log if lv.multiplier == 1 else name, 0.95, (), f"the slope is {slope:.6g} per ln, that of {name} with nothing after it; {shared}")  # fmt: skip
    options = []
    for log, multiplier in LOGS[:3]:
        unit = multiplier / (_LN10 if log == "log10" else 1.0)
        options.append(f"{log if multiplier == 1 else f'{multiplier:g} {log}'} times {slope / unit:.5g} (sd {abs(unit / slope):.5g})")  # fmt: skip
    return Found(None, 0.0, ("ln", "log10", "20 log10"), f"the slope is {slope:.6g} per ln, of no log by itself: {', or '.join(options)}; {shared}")  # fmt: skip


def _offset_words(offset: float, slope: float) -> str:
    level = offset / slope if slope else 0.0
    return f"{offset:.5g} mel units ({level:.4g} ln): mean or reference level of a normalisation, gain of the audio and scale of the STFT share it"  # fmt: skip


def _gain(case: Case, slope: float, offset: float) -> Found:
    db = 8.685889638 / case.fit.core.power * offset / slope
    if abs(offset / slope) < 1e-3:
        return Found(0.0, 0.95, (), "the offset is 0: the audio was taken at its own level and nothing was added")
    words = f"the offset is {offset:.5g}: the audio was {db:+.2f} dB louder, or {offset:.5g} was added (a mean, a reference level)"
    if len(case.placed.clips) == 1 and case.levels.log is not None:
        peak = float(np.abs(case.placed.clips[0].samples).max()) * 10 ** (db / 20)
        words += f"; as a gain it puts the peak at {peak:.3f}"
    return Found(None, 0.0, (round(db, 3), "an added constant"), words)


def _guards(case: Case) -> Iterator[tuple[str, Found]]:
    guard, core, t = case.guard, case.fit.core, case.placed.traits
    if guard.kind == "add":
        yield (
            "log_guard",
            Found("add", 0.97, (), f"{guard.cells} quiet cells are lifted as by log(x + {guard.eps:.3g})"),
        )
        yield "log_eps", _sum(_eps(case), guard.eps, f"fitted {guard.eps:.4g}")
    elif guard.kind in {"clamp", "silence"}:
        fe = case.frontend
        wall = f"{guard.cells} cells ({100 * t.low_share:.2g} %) lie on one value"
        bins = "the same filterbank output in every bin" if guard.spread < 1e-3 else f"outputs that spread by {100 * guard.spread:.1g} %"  # fmt: skip
        silent = guard.kind == "silence"
        clip = ("add",) if silent else ("clip",) if fe is None or not fe.name or fe.clip_min is not None or case.levels.kind == "global" else ()  # fmt: skip
        what = "all of them digital silence, which a clamp and a sum lift to one value" if silent else "a clamp before the logarithm, or a clip after it"  # fmt: skip
        yield "log_guard", Found("clamp", 0.6 if silent else 0.9, clip, f"{wall}, {bins}: {what}")
        if fe is not None and fe.name and fe.clip_min is not None:
            words = f"the wall, at x = {guard.eps:.5g}, is the clip after the logarithm that {fe.name} has; a guard lies below"
            yield "log_eps", Found(None, 0.0, (), words, (0.0, guard.eps))
        else:
            yield (
                "log_eps",
                Found(
                    _eps(case), 0.93, (), f"the wall is at x = {guard.eps:.5g}", (guard.eps * 0.99, guard.eps * 1.01)
                ),
            )
    else:
        yield "log_guard", Found(None, 0.0, ("clamp", "add", "none"), f"no cell is quiet enough: all lie above x = {guard.eps:.2g}, so a guard is somewhere below")  # fmt: skip
        yield "log_eps", Found(None, 0.0, (), "no cell reached it", (0.0, guard.eps))
    if core.eps:
        yield "spectrum_eps", _sum(_spectrum_eps(case), core.eps, f"quiet cells are lifted as by {'clamping the squared magnitude at' if core.eps_clamp else 'adding to the squared magnitude'} {core.eps:.4g}")  # fmt: skip
    else:
        yield (
            "spectrum_eps",
            Found(0.0, 0.7, ("too small to see here",), "quiet cells need none; a smaller one would not show"),
        )


def _sum(value: float, fitted: float, words: str) -> Found:
    """A constant that was added: a round number is somebody's; another may be the sum of two, as of guard and spectrum."""
    interval = (fitted * 0.9, fitted * 1.1)
    if abs(float(f"{fitted:.0e}") / fitted - 1.0) <= _ROUND:
        return Found(value, 0.95, (), words, interval)
    return Found(value, 0.4, ("another",), f"{words}, no round number: one constant may stand for two, one before and one after the filterbank", interval)  # fmt: skip


def _eps(case: Case) -> float:
    return nice(case.guard.eps, 0.02 if case.guard.kind == "add" else 3e-3)


def _spectrum_eps(case: Case) -> float:
    return nice(case.fit.core.eps, 0.05)
