"""What the fields of a `FrontEnd` may be: choices, ranges, and one spelling for what means the same."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from calib.errors import UsageError, nearest

if TYPE_CHECKING:
    from calib.mel.frontend import FrontEnd

__all__ = ["canonicalise", "check_names_and_types", "check_ranges", "check_values", "spelled_short"]

CHOICES: dict[str, tuple[object, ...]] = {
    "window": ("hann", "hamming", "rectangular"),
    "padding": ("center", "same", "end", "none"),
    "pad_mode": ("reflect", "constant"),
    "preemphasis_pad": ("none", "reflect"),
    "mel_scale": ("slaney", "htk", "htk_tf"),
    "filter_norm": ("slaney", None),
    "power": (1, 2),
    "spectrum_eps_mode": ("add", "clamp"),
    "log": ("ln", "log10", "none"),
    "log_guard": ("clamp", "add", "none"),
    "utterance_norm": (None, "minmax", "instance", "dynamic_max"),
}

# Whole numbers, with the lowest allowed value; 0 stands for another field, or for a step that is not taken.
_WHOLE = {
    "sample_rate": 1, "n_fft": 1, "win_length": 0, "hop_length": 1, "n_mels": 1, "trim_frame_length": 1, "trim_hop_length": 1, "fb_sample_rate": 0, "power": 1,
    "pad_audio": 0, "frame_multiple": 1, "drop_last": 0, "overwrite_last": 0,
}  # fmt: skip


def check_names_and_types(fields: Mapping[str, Any], known: Mapping[str, str]) -> None:
    """Every key is a field, every value of its type.

    Args:
        fields: names to values.
        known: field names to their annotations.

    Raises:
        UsageError: unknown field (the nearest is suggested), wrong type.
    """
    for key, value in fields.items():
        if key not in known:
            raise UsageError(f"front end: unknown field {key!r}", hint=nearest(str(key), known))
        kind = known[key]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        good = (
            (value is None and "None" in kind)
            or ("bool" in kind and isinstance(value, bool))
            or (kind.partition(" ")[0] in {"int", "float"} and number)
            or ("str" in kind and isinstance(value, str))
            or (
                "tuple" in kind
                and isinstance(value, (list, tuple))
                and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
            )
        )
        if not good:
            hint = "YAML reads 1e-5 as a text; write 1.0e-5" if isinstance(value, str) and _is_number(value) else None
            raise UsageError(f"front end: {key} cannot be {value!r:.80}; it is {kind}", hint=hint)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_values(fe: FrontEnd) -> None:
    """Choices, and whole numbers (made ``int``).

    Raises:
        UsageError: with the field's name and value.
    """
    for name, allowed in CHOICES.items():
        if getattr(fe, name) not in allowed:
            options = ", ".join(str(option) for option in allowed)
            raise UsageError(f"front end: {name} is {getattr(fe, name)!r}; it must be one of {options}")
    for name, lowest in _WHOLE.items():
        value = getattr(fe, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1 or value < lowest:
            raise UsageError(f"front end: {name} must be a {'positive ' if lowest else ''}whole number, got {value!r}")
        object.__setattr__(fe, name, int(value))


def canonicalise(fe: FrontEnd) -> None:
    """Spell out what stands for something else, so that two ways of saying the same thing have one identity.

    Raises:
        UsageError: a number that is not finite.
    """
    put = functools.partial(object.__setattr__, fe)
    put("win_length", fe.win_length or fe.n_fft)
    put("fb_sample_rate", fe.fb_sample_rate or fe.sample_rate)
    put("fmax", fe.fmax or fe.fb_sample_rate / 2)
    # Parameters of a step that is not taken change nothing, so they must not change the identity.
    unused = {"trim_frame_length", "trim_hop_length"} if fe.trim_top_db is None else set()
    unused |= {"pad_mode"} if fe.padding in {"end", "none"} else set()
    unused |= {"preemphasis_pad"} if not fe.preemphasis else set()
    unused |= {"log_eps", "log_guard", "log_multiplier"} if fe.log == "none" else set()
    unused |= {"log_eps"} if fe.log_guard == "none" else set()
    unused |= {"spectrum_eps_mode"} if not fe.spectrum_eps else set()
    unused |= {"utterance_range"} if fe.utterance_norm != "dynamic_max" else set()
    unused |= {"overwrite_value"} if not fe.overwrite_last else set()
    for item in dataclasses.fields(fe):
        if item.name in unused:
            put(item.name, item.default)
    for item in dataclasses.fields(fe):
        value = getattr(fe, item.name)
        if "float" not in str(item.type) or value is None:
            continue
        try:
            value = tuple(float(v) for v in value) if "tuple" in str(item.type) else float(value)
        except OverflowError:
            value = math.inf
        if not all(map(math.isfinite, value if isinstance(value, tuple) else (value,))):
            raise UsageError(f"front end: {item.name} must be finite, got {getattr(fe, item.name)!r:.80}")
        put(item.name, value)


def check_ranges(fe: FrontEnd) -> None:
    """What fields allow each other, after `canonicalise`.

    Raises:
        UsageError: with the field's name and value.
    """
    nyquist = fe.fb_sample_rate / 2
    if not 0 <= fe.fmin < fe.fmax <= nyquist:
        raise UsageError(f"front end: need 0 <= fmin < fmax <= {nyquist:g} Hz, got fmin {fe.fmin:g}, fmax {fe.fmax:g}")
    if fe.win_length > fe.n_fft:
        raise UsageError(f"front end: win_length {fe.win_length} is longer than n_fft {fe.n_fft}")
    if fe.log != "none" and fe.log_guard != "none" and fe.log_eps <= 0:
        raise UsageError(f"front end: log_eps must be positive, got {fe.log_eps!r}")
    if fe.log != "none" and fe.log_guard == "none" and not fe.spectrum_eps:
        raise UsageError("front end: log_guard none needs a spectrum_eps: else silence would be minus infinity")
    for name in ("post_mean", "post_std"):
        values = getattr(fe, name)
        if values is not None and len(values) != fe.n_mels:
            raise UsageError(f"front end: {name} has {len(values)} values for {fe.n_mels} mel bins")
    if fe.padding == "same" and fe.hop_length > fe.n_fft:
        raise UsageError(f"front end: padding same needs hop_length <= n_fft, got {fe.hop_length} and {fe.n_fft}")
    for name in ("trim_top_db", "rms_norm", "peak_norm", "clip_audio", "utterance_range"):
        if getattr(fe, name) is not None and getattr(fe, name) <= 0:
            raise UsageError(f"front end: {name} must be positive, got {getattr(fe, name)!r}")
    for name in ("post_scale", "log_multiplier"):
        if getattr(fe, name) == 0:
            raise UsageError(f"front end: {name} must not be 0")
    if fe.spectrum_eps < 0:
        raise UsageError(f"front end: spectrum_eps must not be negative, got {fe.spectrum_eps!r}")
    if fe.post_std is not None and 0 in fe.post_std:
        raise UsageError(f"front end: post_std must not be 0, but is in bin {fe.post_std.index(0)}")
    if fe.clip_min is not None and fe.clip_max is not None and fe.clip_min >= fe.clip_max:
        raise UsageError(f"front end: clip_min {fe.clip_min:g} is not below clip_max {fe.clip_max:g}")


def spelled_short(fe: FrontEnd) -> dict[str, Any]:
    """The fields, with 0 where a value only follows another field: what a change of that other field should carry along."""
    fields = fe.fields()
    nyquist = fe.fb_sample_rate / 2
    fields["fmax"] = 0.0 if fe.fmax == nyquist else fe.fmax
    fields["fb_sample_rate"] = 0 if fe.fb_sample_rate == fe.sample_rate else fe.fb_sample_rate
    fields["win_length"] = 0 if fe.win_length == fe.n_fft else fe.win_length
    return fields
