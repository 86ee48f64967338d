"""One front end in words: frames, time, values, silence. All of it follows from the fields."""

from __future__ import annotations

import numpy as np

from calib.mel.frontend import FrontEnd

__all__ = ["affine_words", "decibels", "frame_count", "milliseconds", "number", "silence_words", "time_words", "times"]


def number(value: float) -> str:
    """Four significant digits, thousands grouped, a true minus: what a person reads.

    Example:
        >>> number(22050), number(-0.00001), number(0.43429448)
        ('22,050', '-1e-05', '0.4343')
    """
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:.4g}"


def decibels(value: float) -> str:
    """``12 dB``, ``1.2 dB``."""
    return f"{value:.0f} dB" if abs(value) >= 9.95 else f"{value:.1f} dB"


def milliseconds(samples: float, rate: int) -> str:
    """Samples at a rate in Hz as a time."""
    return f"{1000 * samples / rate:.3g} ms"


def times(ratio: float) -> str:
    """``2.3 times``."""
    return f"{ratio:.3g} times"


def frame_count(fe: FrontEnd) -> str:
    """Frames of L samples, as a formula.

    Example:
        >>> frame_count(FrontEnd()), frame_count(FrontEnd(padding="same")), frame_count(FrontEnd(padding="end"))
        ('1 + L // 256', 'L // 256', 'ceil(L / 256)')
    """
    extra, hop = 2 * fe.pad_audio, fe.hop_length
    if fe.padding == "end":
        length = f"(L + {extra})" if extra else "L"
        text = f"ceil({length} / {hop})" + (f" - {fe.drop_last}" if fe.drop_last else "")
    else:
        more = 2 * fe.pad_each_side - fe.n_fft
        whole, rest = divmod(more, hop)
        if more > 0:  # pad_audio: what a person would write
            whole, rest = 0, more
        elif rest > hop // 2:
            whole, rest = whole + 1, rest - hop
        count = 1 + whole - fe.drop_last
        length = f"(L {'+' if rest > 0 else '-'} {abs(rest)})" if rest else "L"
        text = f"{length} // {hop}"
        text = f"{count} + {text}" if count > 0 else f"{text} - {-count}" if count < 0 else text
    return f"{text}, cut to a multiple of {fe.frame_multiple}" if fe.frame_multiple > 1 else text


def time_words(fe: FrontEnd) -> str:
    """Where frames lie, in words."""
    rate = fe.sample_rate
    offset = fe.centre_offset
    where = "on the first sample" if not offset else f"on sample {offset} ({milliseconds(offset, rate)})"
    if offset and 2 * offset == fe.hop_length:
        where += ", half a hop in"
    return (
        f"a frame every {fe.hop_length} samples ({milliseconds(fe.hop_length, rate)}), the centre of the first {where}"
    )


def silence_words(fe: FrontEnd) -> str:
    """The value of digital silence, in words."""
    low, high = float(fe.silence.min()), float(fe.silence.max())
    text = f"{low:.4f}" if high - low < 5e-4 else f"{low:.3f} to {high:.3f}, by bin"
    if fe.utterance_norm == "dynamic_max":
        width = fe.utterance_range * abs(fe.post_scale)
        return f"{text} (alone); in an utterance, its maximum less {number(width)}"
    return text


def affine_words(fe: FrontEnd) -> str:
    """How a value comes from the filterbank's output m, in words."""
    quantity = "power" if fe.power == 2 else "magnitude"
    if fe.log == "none":
        inner = f"m, a {quantity}"
    else:
        guarded = {
            "clamp": f"ln(max(m, {fe.log_eps:g}))",
            "add": f"ln(m + {fe.log_eps:g})",
            "none": "ln(m)",
        }[fe.log_guard]
        affine = fe.affine_from_ln()
        if affine is None:
            inner = f"{number(fe.log_scale * fe.post_scale)} {guarded}" if fe.log_scale != 1 else guarded
            inner += f" of the {quantity} m"
        else:
            scale, offset = affine
            if np.ptp(scale) or np.ptp(offset):
                inner = f"a[k] {guarded} + b[k] by bin (a {number(scale.min())} to {number(scale.max())})"
            else:
                inner = guarded if scale[0] == 1 else f"{scale[0]:.9g} {guarded}"
                inner += f" {'+' if offset[0] > 0 else '-'} {abs(offset[0]):.9g}" if offset[0] else ""
            inner += f" of the {quantity} m"
    after = {
        "minmax": "then to [0, 1] by utterance",
        "instance": "then to mean 0 and deviation 1 by utterance and bin",
        "dynamic_max": f"never further than {number(fe.utterance_range)} (before the scale) below the utterance's maximum",
    }
    parts = [inner, *([after[fe.utterance_norm]] if fe.utterance_norm else [])]
    if fe.clip_min is not None or fe.clip_max is not None:
        low, high = (number(v) if v is not None else "no limit" for v in (fe.clip_min, fe.clip_max))
        parts.append(f"clipped to [{low}, {high}]")
    return ", ".join(parts)
