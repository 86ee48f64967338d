"""What differs between two front ends, in words, and what it does to the sound. All of it follows from the fields.

Conventions:
    ``a`` made the mel, ``b`` is what its reader (a vocoder, say) was trained on. Levels are in dB of the sound; a range
    of 60 dB and the level of median speech (ln magnitude -5 under Tacotron 2's front end) stand for speech.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.mel.describe import affine_words, decibels, frame_count, milliseconds, number, times
from calib.mel.filterbank import hz_to_mel, mel_to_hz
from calib.mel.frontend import FrontEnd

__all__ = ["Difference", "explain_differences"]

_DB_PER_LN = 8.685889638065035  # of a magnitude
_RANGE_DB = 60.0
_MEDIAN_LN = -5.0  # of speech
_MEDIAN_SPECTRUM = 0.145  # the spectral magnitude that gives it: exp(-5) over the sum of a filter, 0.0464
_POWER_OF_SUM = 0.25  # ln(mean of squares) - 2 ln(mean) inside a filter, of speech (3.318 - 3.07, LJSpeech)
_HEARD = 0.02  # relative change of a bin's frequency, or of the range, that is worth a word
_GRAVE = 0.15  # of a bin's frequency: another voice
_LOWEST_HZ = 300.0
_BENT = 1e-2  # added in the logarithm: it is one no more for most of speech


@dataclass(frozen=True)
class Difference:
    """One thing that differs.

    Args:
        field: the field that decides it.
        a: its value in the first front end.
        b: its value in the second.
        words: what differs.
        effect: what a reader trained on ``b`` makes of a mel of ``a``.
        also: other fields that belong to it and differ.
    """

    field: str
    a: Any
    b: Any
    words: str
    effect: str
    also: tuple[str, ...] = ()


def explain_differences(a: FrontEnd, b: FrontEnd) -> list[Difference]:
    """Everything that differs, the gravest steps first in the order of the computation; empty for one front end.

    Together the differences name every field that differs.
    """
    changed = list(a.differences(b))
    follows = "sample_rate" in changed and all(fe.fb_sample_rate == fe.sample_rate for fe in (a, b))
    out: list[Difference] = []
    for fields, explain in _STEPS:
        mine = [name for name in fields if name in changed]
        if follows and mine[:1] == ["sample_rate"]:
            mine.append("fb_sample_rate")
        elif follows:
            mine = [name for name in mine if name != "fb_sample_rate"]
        if mine:
            words, effect = explain(a, b)
            out.append(Difference(mine[0], getattr(a, mine[0]), getattr(b, mine[0]), words, effect, tuple(mine[1:])))
    return out


# --- the steps ------------------------------------------------------------------------------------------------------


def _rate(a: FrontEnd, b: FrontEnd) -> tuple[str, str]:
    ratio = (a.hop_length / a.sample_rate) / (b.hop_length / b.sample_rate)
    words = f"{a.sample_rate:,} Hz against {b.sample_rate:,} Hz"
    if a.hop_length != b.hop_length or abs(ratio - 1) < 1e-9:
        return words, "what it does is in the pace of the frames and in the bins, below"
    pace = "fast" if ratio > 1 else "slow"
    return (
        words,
        f"read at the wrong rate, speech comes out {abs(1 - ratio) * 100:.1f} % too {pace} (one frame a frame) and with its bins at other frequencies",
    )


def _hop(a: FrontEnd, b: FrontEnd) -> tuple[str, str]:
    mine, theirs = a.hop_length / a.sample_rate, b.hop_length / b.sample_rate
    words = f"a frame every {a.hop_length} samples ({1e3 * mine:.4g} ms) against {b.hop_length} ({1e3 * theirs:.4g} ms)"
    ratio = mine / theirs
    if abs(ratio - 1) < 1e-9:
        return words, "none by itself: the same time a frame, at another sample rate"
    pace = "fast" if ratio > 1 else "slow"
    return words, f"fed frame by frame, the speech comes out {times(max(ratio, 1 / ratio))} too {pace}"


def _placement(a: FrontEnd, b: FrontEnd) -> tuple[str, str]:
    if a.padding == b.padding:
        kind = {"reflect": "the mirrored audio", "constant": "zeros"}
        return (
            f"the edges are padded with {kind[a.pad_mode]} against {kind[b.pad_mode]}",
            "only the first two and the last frames differ; hardly heard, unless speech starts at once",
        )
    counts = f"{frame_count(a)} frames against {frame_count(b)}"
    delta = b.centre_offset / b.sample_rate - a.centre_offset / a.sample_rate
    if abs(delta) < 1e-9:
        return f"padding {a.padding} against {b.padding}: {counts}", "only the first and last frames differ"
    samples = abs(delta) * b.sample_rate
    half = ", half a hop" if abs(2 * samples - b.hop_length) < 0.5 else ""
    late = delta > 0
    words = (
        f"padding {a.padding} against {b.padding}: frames of the second lie {samples:.0f} samples"
        f" ({1e3 * abs(delta):.3g} ms{half}) {'later' if late else 'earlier'}; {counts}"
    )
    return words, (
        f"everything is played {1e3 * abs(delta):.3g} ms {'late' if late else 'early'}, and a vocoder trained on one smears the"
        " other: attacks soften, voices roughen a little; fine-tuning on such mels teaches it the shift"
    )


def _frames(a: FrontEnd, b: FrontEnd) -> tuple[str, str]:
    return (
        f"{frame_count(a)} frames against {frame_count(b)}",
        "a few frames more or fewer at the ends: align by time, not by count; nothing is heard inside",
    )


def _window(a: FrontEnd, b: FrontEnd) -> tuple[str, str]:
    def say(fe: FrontEnd) -> str:
        shape = fe.window if fe.window_periodic else f"symmetric {fe.window}"
        inside = f" in an FFT of {fe.n_fft}" if fe.win_length != fe.n_fft else ""
        return f"{shape} of {fe.win_length} samples ({milliseconds(fe.win_length, fe.sample_rate)}){inside}"

    words = f"window: {say(a)} against {say(b)}"
    mine, theirs = a.win_length / a.sample_rate, b.win_length / b.sample_rate
    everything, noise = (first - second for first, second in zip(_levels(a), _levels(b), strict=True))
    if abs(mine / theirs - 1) < 1e-3 and a.n_fft == b.n_fft and a.window == b.window:
        return words, "about 0.001 of a ln unit: not heard"
    effects = []
    if abs(mine / theirs - 1) > _HEARD:
        finer = mine > theirs
        effects.append(
            f"the first is {'finer in pitch and blurred in time' if finer else 'sharper in time and coarser in pitch'}: a reader of"
            f" the second hears {'too much' if finer else 'too little'} harmonic detail, and attacks of the wrong length"
        )
    for what, level in (("everything lies", everything), ("beside tones, noise lies", noise)):
        if abs(level) > 0.5:
            effects.append(f"{what} {decibels(abs(level))} {'higher' if level > 0 else 'lower'} in the first")
    return words, "; ".join(effects) or "hardly heard"


def _levels(fe: FrontEnd) -> tuple[float, float]:
    """Level that FFT and window give a tone under a filter of fixed shape in Hz, and noise beside it; dB of the sound.

    A filter sums over n_fft / rate points a Hz. A tone of amplitude 1 has the area rate * const under its magnitude and
    rate * sum(w^2) under its power (Parseval); noise of unit density has sqrt(rate * sum(w^2)) and rate * sum(w^2).
    """
    energy = float((fe.window_array() ** 2).sum())
    if fe.power == 2:
        return float(10 * np.log10(fe.n_fft * energy)), 0.0
    return float(20 * np.log10(fe.n_fft)), float(10 * np.log10(energy / fe.sample_rate))


def _centres(fe: FrontEnd) -> np.ndarray:
    """Frequency of each bin in the audio, in Hz ``(M,)``; a bank built for another rate is stretched."""
    edges = mel_to_hz(
        np.linspace(hz_to_mel(fe.fmin, fe.mel_scale), hz_to_mel(fe.fmax, fe.mel_scale), fe.n_mels + 2), fe.mel_scale
    )
    return np.asarray(edges[1:-1] * fe.sample_rate / fe.fb_sample_rate)


def _bank(a: FrontEnd, b: FrontEnd) -> tuple[str, str]:
    def say(fe: FrontEnd) -> str:
        text = f"{fe.n_mels} bins, {fe.mel_scale} scale, {fe.fmin:,.0f}-{fe.fmax:,.0f} Hz"
        if fe.fb_sample_rate != fe.sample_rate:
            stretch = fe.sample_rate / fe.fb_sample_rate
            text += (
                f" as if at {fe.fb_sample_rate:,} Hz (so really {fe.fmin * stretch:,.0f}-{fe.fmax * stretch:,.0f} Hz)"
            )
        return text

    words = f"{say(a)} against {say(b)}"
    effects: list[str] = []
    if a.n_mels != b.n_mels:
        effects.append("the number of bins does not fit: a reader of the second cannot take it at all")
    mine, theirs = _centres(a), _centres(b)
    if a.n_mels == b.n_mels:
        # Where the ear is fine: below 300 Hz a few Hz are many percent.
        heard = np.minimum(mine, theirs) > _LOWEST_HZ
        off = np.abs(theirs / mine - 1)[heard]
        worst = float(off.max()) if off.size else 0.0
        middle = len(mine) // 2
        side = "higher" if float(np.median(theirs[heard] - mine[heard])) > 0 else "lower"
        if worst > _HEARD:
            grave = (
                "another voice with a buzzing, metallic edge"
                if worst > _GRAVE
                else "a slightly different, rougher voice"
            )
            effects.append(
                f"bins are played at other frequencies, {mine[middle]:,.0f} Hz at {theirs[middle]:,.0f} Hz in the middle of the bank"
                f" and up to {100 * worst:.0f} % off: formants move {side}, {grave}"
            )
        elif worst > 1e-9:
            effects.append(f"bins lie up to {100 * worst:.1f} % apart: hardly heard")
    top_a, top_b = mine[-1], theirs[-1]
    if top_b > 1.03 * top_a:
        effects.append(f"the first holds nothing above {_top(a):,.0f} Hz, where the second wants to be told")
    elif top_a > 1.03 * top_b:
        effects.append(f"what the first holds above {_top(b):,.0f} Hz is lost")
    return words, "; ".join(effects) or "the shapes of the filters differ a little: hardly heard"


def _top(fe: FrontEnd) -> float:
    return fe.fmax * fe.sample_rate / fe.fb_sample_rate


def _norm(a: FrontEnd, b: FrontEnd) -> tuple[str, str]:
    kind = {"slaney": "of unit area (divided by their width)", None: "of unit height"}
    other = dataclasses.replace(a, filter_norm=b.filter_norm)
    offset = a.bank_norm_offset(other)
    assert offset is not None
    low, high = sorted((abs(float(offset[0])), abs(float(offset[-1]))))
    per_ln = _DB_PER_LN / a.power
    louder = "quiet" if float(np.median(offset)) > 0 else "loud"
    return (
        f"filters {kind[a.filter_norm]} against {kind[b.filter_norm]}: a constant by bin, {low:.2f} to {high:.2f} ln units",
        f"uncorrected it is {decibels(per_ln * low)} to {decibels(per_ln * high)} too {louder}, and tilted by {decibels(per_ln * (high - low))} between bass and treble; a per-bin offset repairs it",
    )


def _guard(a: FrontEnd, b: FrontEnd) -> tuple[str, str]:
    def root(fe: FrontEnd) -> str:
        if not fe.spectrum_eps:
            return "nothing under the root"
        return (
            f"{fe.spectrum_eps:g} {'added to' if fe.spectrum_eps_mode == 'add' else 'clamping'} the squared magnitude"
        )

    def guard(fe: FrontEnd) -> str:
        if fe.log == "none":
            return "no logarithm"
        forms = {"none": "log(m)", "clamp": f"log(max(m, {fe.log_eps:g}))", "add": f"log(m + {fe.log_eps:g})"}
        return forms[fe.log_guard]

    differs = a.differences(b)
    parts = []
    if "spectrum_eps" in differs or "spectrum_eps_mode" in differs:
        parts.append(f"{root(a)} against {root(b)}")
    if "log_eps" in differs or "log_guard" in differs:
        parts.append(f"{guard(a)} against {guard(b)}")
    words = "; ".join(parts)
    bent = [fe for fe in (a, b) if fe.log != "none" and fe.log_guard == "add" and fe.log_eps >= _BENT]
    if len(bent) == 1:
        which = "first" if bent[0] is a else "second"
        return words, (
            f"adding {bent[0].log_eps:g} bends the logarithm: below it the {which} is nearly linear, with all quiet sounds at"
            f" {number(float(bent[0].silence.min()))}; no affine map follows a bend, so the reader hears speech drowned in noise (or cut to its peaks)"
        )
    low, high = (_floor_db(fe) for fe in (a, b))
    if "none" in {a.log, b.log} or abs(low - high) < 0.5:
        return words, "not heard: silence stays where it was"
    return words, _floor_effect(low, high)


def _floor_db(fe: FrontEnd) -> float:
    """Level of the lowest value, in dB of the sound (of the filterbank's output, by the middle bin)."""
    root = np.sqrt(fe.spectrum_eps) if fe.power == 1 else fe.spectrum_eps
    lowest = root * float(np.median(fe.basis().sum(1)))
    if fe.log != "none" and fe.log_guard == "clamp":
        lowest = max(lowest, fe.log_eps)
    elif fe.log != "none" and fe.log_guard == "add":
        lowest = lowest + fe.log_eps
    affine = fe.affine_from_ln()
    if fe.clip_min is not None and affine is not None:
        scale, offset = (float(np.median(part)) for part in affine)
        lowest = max(lowest, float(np.exp(np.clip((fe.clip_min - offset) / scale, -69.0, 69.0))))
    return float(_DB_PER_LN / fe.power * np.log(max(lowest, 1e-30)))


def _floor_effect(mine: float, theirs: float) -> str:
    if mine > theirs:
        return f"the first is flat {decibels(mine - theirs)} above the lowest value of the second: pauses and the quietest treble keep a faint hiss; speech itself is the same"
    return f"the first goes {decibels(theirs - mine)} below what the second ever showed its reader: pauses hold values that it has not seen (mostly silence, now and then a crackle); clamp them"


def _values(a: FrontEnd, b: FrontEnd) -> tuple[str, str]:
    words = f"a value is {affine_words(a)} against {affine_words(b)}"
    if a.power != b.power:
        kind = {1: "magnitudes", 2: "powers"}
        words = f"the filters sum {kind[a.power]} against {kind[b.power]}; {words}"
    first, second = a.affine_from_ln(), b.affine_from_ln()
    if first is None or second is None:
        which = " and ".join(name for name, affine in (("first", first), ("second", second)) if affine is None)
        return words, f"the {which} is no fixed map of a logarithm, so the values mean something else altogether: noise"
    # What b's reader hears in dB of sound for a range, and for the level of median speech, of what a holds.
    sums = np.log(np.maximum(a.basis().sum(1).astype(np.float64), 1e-12) * _MEDIAN_SPECTRUM)
    typical = {1: sums, 2: sums + np.log(_MEDIAN_SPECTRUM) + _POWER_OF_SUM}
    slope, level = np.ones(1), np.zeros(1)
    if a.n_mels == b.n_mels or not (np.ptp(second[0]) or np.ptp(second[1])):
        to_scale, to_offset = (part if a.n_mels == b.n_mels else part[0] for part in second)
        slope = (first[0] * a.power) / (to_scale * b.power)
        level = ((first[0] * typical[a.power] + first[1] - to_offset) / to_scale - typical[b.power]) / b.power
    steep, shift = float(np.median(slope)), float(np.median(level)) * _DB_PER_LN
    if steep < 0:
        return words, "upside down: what is loud is read as quiet, and silence as the loudest; roaring noise"
    parts = []
    ratio = abs(float(np.median(second[0])) / float(np.median(first[0])))
    if abs(steep - 1) > _HEARD:
        heard = f"a range of {_RANGE_DB:.0f} dB is heard as {_RANGE_DB * steep:.0f} dB"
        if steep < 1:
            parts.append(
                f"values {times(ratio)} too small: {heard}, a compressed, noisy sound"
                if ratio > 1
                else f"values on too flat a scale: {heard}, a compressed, noisy sound"
            )
        else:
            parts.append(
                f"values {times(1 / ratio)} too large: {heard}, gated and harsh"
                if ratio < 1
                else f"values on too steep a scale: {heard}, gated and harsh"
            )
    if abs(shift) > 0.5:
        parts.append(f"median speech is heard {decibels(abs(shift))} too {'loud' if shift > 0 else 'quiet'}")
    if any(np.ptp(part) for part in (*first, *second)) and np.ptp(level) * _DB_PER_LN > 1:
        spread = float(np.ptp(level)) * _DB_PER_LN
        parts.append(f"and by bin differently, by up to {decibels(spread)}: a coloured, hollow sound")
    if a.power != b.power:
        parts.append("0.7 dB of roughness stays after the best map: the filters square before or after they sum")
    return words, "; ".join(parts) or "not heard: the same values but for rounding"


def _utterance(a: FrontEnd, b: FrontEnd) -> tuple[str, str]:
    kind = {
        None: "no normalisation by utterance",
        "minmax": "each utterance to [0, 1]",
        "instance": "each utterance and bin to mean 0, deviation 1",
        "dynamic_max": "nothing deeper under the utterance's maximum than its range",
    }
    lost = {
        "minmax": "the level and the range of each utterance are lost",
        "instance": "the level and the colour of each utterance are lost",
        "dynamic_max": "what lies deep under the loudest sound is lost",
    }
    parts = (
        [lost[a.utterance_norm]]
        if a.utterance_norm
        else ["the reader expects values that depend on the whole utterance"]
    )
    if a.utterance_norm in {"minmax", "instance"}:
        parts.append("no map brings it back; a reader of the second hears noise or a wrong, pumping level")
    return f"{kind[a.utterance_norm]} against {kind[b.utterance_norm]}", "; ".join(parts)


def _clip(a: FrontEnd, b: FrontEnd) -> tuple[str, str]:
    def say(fe: FrontEnd) -> str:
        if fe.clip_min is None and fe.clip_max is None:
            return "no clip"
        low, high = (number(v) if v is not None else "no limit" for v in (fe.clip_min, fe.clip_max))
        return f"clipped to [{low}, {high}]"

    if a.clip_min is None and a.clip_max is None:
        return f"{say(a)} against {say(b)}", "the reader never saw values outside its range: clip them first"
    return (
        f"{say(a)} against {say(b)}",
        "what lay beyond the clip is flat and cannot be brought back: mostly the depth of pauses",
    )


def _audio(a: FrontEnd, b: FrontEnd) -> tuple[str, str]:
    def say(fe: FrontEnd) -> str:
        steps = []
        if fe.trim_top_db is not None:
            steps.append(f"ends trimmed at {fe.trim_top_db:g} dB")
        if fe.rms_norm is not None:
            steps.append(f"RMS set to {fe.rms_norm:g}")
        if fe.peak_norm is not None:
            steps.append(f"peak set to {fe.peak_norm:g}")
        if fe.clip_audio is not None:
            steps.append(f"samples clipped at {fe.clip_audio:g}")
        if fe.pad_audio:
            steps.append(f"{fe.pad_audio} zeros added on each side")
        return ", ".join(steps) or "audio as it is"

    parts = []
    if (a.rms_norm, a.peak_norm) != (b.rms_norm, b.peak_norm):
        parts.append("another level for every file: an offset that no fixed map repairs, heard as changing loudness")
    if (a.trim_top_db, a.pad_audio) != (b.trim_top_db, b.pad_audio) or a.trim_frame_length != b.trim_frame_length:
        parts.append("frames start elsewhere in every file: align them before any comparison")
    return f"{say(a)} against {say(b)}", "; ".join(parts) or "only samples beyond the clip differ"


def _emphasis(a: FrontEnd, b: FrontEnd) -> tuple[str, str]:
    def tilt(fe: FrontEnd) -> float:
        """Treble against 100 Hz, in dB."""
        points = np.array([100.0, min(fe.sample_rate / 2, 8000.0)])
        response = np.abs(1 - fe.preemphasis * np.exp(-2j * np.pi * points / fe.sample_rate))
        return float(20 * np.log10(response[1] / response[0]))

    words = f"pre-emphasis {a.preemphasis:g} against {b.preemphasis:g}"
    tilted = tilt(a) - tilt(b)
    if abs(tilted) < 0.5:
        return words, "only the first sample differs"
    return (
        words,
        f"treble lies {decibels(abs(tilted))} too {'high' if tilted > 0 else 'low'} against bass: a {'thin, hissing' if tilted > 0 else 'dull, booming'} sound; a per-bin offset repairs nearly all of it",
    )


def _overwritten(a: FrontEnd, b: FrontEnd) -> tuple[str, str]:
    def say(fe: FrontEnd) -> str:
        if not fe.overwrite_last:
            return "all frames as computed"
        return f"the last {_frames_hold(fe.overwrite_last)} {fe.overwrite_value:g}"

    words = f"{say(a)} against {say(b)}"
    if not a.overwrite_last:
        return words, "nothing is heard: the reader only knows a different end"
    loud = a.overwrite_value > float(np.median(a.silence)) + 2
    return (
        words,
        "a click at the end, for that value is a loud sound: cut it" if loud else "not heard; cut it all the same",
    )


def _frames_hold(count: int) -> str:
    return "frame holds" if count == 1 else f"{count} frames hold"


_Explain = Callable[[FrontEnd, FrontEnd], tuple[str, str]]
_STEPS: tuple[tuple[tuple[str, ...], _Explain], ...] = (
    (("sample_rate",), _rate),
    (("hop_length",), _hop),
    (
        ("rms_norm", "peak_norm", "trim_top_db", "trim_frame_length", "trim_hop_length", "clip_audio", "pad_audio"),
        _audio,
    ),
    (("preemphasis", "preemphasis_pad"), _emphasis),
    (("padding", "pad_mode"), _placement),
    (("drop_last", "frame_multiple"), _frames),
    (("win_length", "n_fft", "window", "window_periodic"), _window),
    (("fmax", "fmin", "mel_scale", "n_mels", "fb_sample_rate"), _bank),
    (("filter_norm",), _norm),
    (("log", "log_multiplier", "post_scale", "post_offset", "post_mean", "post_std", "power"), _values),
    (("log_eps", "log_guard", "spectrum_eps", "spectrum_eps_mode"), _guard),
    (("utterance_norm", "utterance_range"), _utterance),
    (("clip_min", "clip_max"), _clip),
    (("overwrite_last", "overwrite_value"), _overwritten),
)
