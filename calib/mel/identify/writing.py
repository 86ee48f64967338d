"""A front end file of an answer: YAML that `FrontEnd.load` reads, with a header that says what was told and what was taken.

What the data leave open and what changes the mels of other recordings is no member of a set to be picked in silence: then
nothing is written.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from calib.errors import RefusedError
from calib.mel.catalogue import catalogue
from calib.mel.identify.results import NOISY_DB, Found, Identification

__all__ = ["described"]

# What a set of must not be written: other recordings would get other mels, or lie elsewhere in time.
_MATTERS = (
    "sample_rate", "hop_length", "n_fft", "window", "padding", "n_mels", "fmin", "fmax", "mel_scale", "fb_sample_rate", "power", "preemphasis", "post_norm",
)  # fmt: skip
_SAME = ("win_length", "window_periodic")  # sets of one shape, but only where the width itself is told
# Largest mean error in dB of a mel that the file reproduces: what the stored values are rounded to.
_REPRODUCED_DB = {"float32": 1e-2, "float64": 1e-2, "float16": 3e-2, "bfloat16": 0.3}
_UNSEEN = (
    "trim_top_db, rms_norm, peak_norm, clip_audio, preemphasis_pad, pad_audio and frame_multiple were not looked for"
)
_WIDTH = 110


def described(result: Identification) -> str:
    """The text of a front end file.

    Raises:
        RefusedError: nothing was found, it does not reproduce the mels, or what matters is a set.
    """
    why = _refusal(result)
    if why is not None:
        message, hint = why
        raise RefusedError(f"no front end file is written: {message}", hint=hint)
    import yaml

    assert result.frontend is not None
    # A field a line, statistics of many bins too.
    values = "".join(
        f"{name}: {yaml.safe_dump(value, default_flow_style=True, width=float('inf'))}"
        if isinstance(value, list)
        else yaml.safe_dump({name: value}, default_flow_style=False)
        for name, value in result.frontend.fields().items()
    )
    lines = [line for text in _header(result) for line in textwrap.wrap(text, _WIDTH, subsequent_indent="  ")]
    return "".join(f"# {line}\n" for line in lines) + values


def _refusal(result: Identification) -> tuple[str, str | None] | None:
    """What speaks against writing, and what would help; None where nothing does."""
    longer = (
        "give other recordings with --audio (louder, quieter, with more above the bank), or --declared what you know"
    )
    if result.status == "mel-only":
        return "without the audio no front end is found", "give the recordings with --audio"
    if result.status == "unrelated" or result.frontend is None:
        return result.headline, None
    if result.noise_db is not None and result.noise_db > NOISY_DB:
        return f"{result.noise_db:.2g} dB of these mels is noise to every analysis (predicted by a model?), which hides guards, padding and window", "give the target mels, not the predicted ones"  # fmt: skip
    if result.reversed_bins:
        return (
            "the bins are stored from high to low, which no front end file can say",
            "turn them round (mel[:, ::-1]) and ask again",
        )
    if result.shift:
        return f"frame 0 lies {result.shift} samples from where any padding puts it, which no front end file can say", "give the recordings as they were when the mels were made (not trimmed or padded since)"  # fmt: skip
    dtype = result.fields["dtype"].value if "dtype" in result.fields else "float32"
    least = _REPRODUCED_DB.get(str(dtype), 1e-2)
    if result.error_db is None or not result.error_db < least:
        error = "it was not computed again" if result.error_db is None else f"computed again they differ by {result.error_db:.2g} dB on average, more than {least:g} dB"  # fmt: skip
        return f"what was found does not reproduce these mels: {error}", longer
    if "length" in result.fields:
        return f"the mels have {_listed(result.fields['length'].value)} frames against what their audio gives, which no front end file can say", None  # fmt: skip
    open_ = list(_open(result))
    if open_:
        return f"the data leave open what matters: {'; '.join(open_)}", longer
    return None


def _open(result: Identification) -> Iterator[str]:
    """What matters and is a set, in words."""
    if result.names:  # each of them gives this mel: what they differ in is what is open
        ends = [catalogue()[name].frontend for name in result.names]
        for name in (*_MATTERS, *_SAME):
            values = list(dict.fromkeys(getattr(fe, name) for fe in ends if hasattr(fe, name)))
            if len(values) > 1 and name not in _SAME:
                yield f"{name} ({' or '.join(_word(v) for v in values)})"
        return
    for name in _MATTERS:
        item = result.fields.get(name)
        if item is not None and _is_set(item):
            yield f"{name} ({' or '.join(_members(item))})"
    width = result.fields.get("win_length")
    if width is not None and (width.value is None or width.confidence < 0.7):
        yield f"win_length ({' or '.join(_members(width))})"
    norm = result.fields.get("filter_norm")
    if norm is not None and _is_set(norm) and "post_norm" not in result.fields and result.fields.get("utterance_norm", norm).value != "instance":  # fmt: skip
        yield f"filter_norm ({' or '.join(_members(norm))})"


def _is_set(item: Found) -> bool:
    return bool(item.confounded) or item.confidence == 0.0


def _header(result: Identification) -> Iterator[str]:
    fe = result.frontend
    assert fe is not None
    yield "A mel front end, found from recordings and their mels by calib frontends identify: read by --frontend, --from, --to."
    yield result.headline[:1].upper() + result.headline[1:] + "."
    yield f"Proof: computed again, the mels differ by {result.error:.3g} on average and {result.error_max:.3g} at most, in their own unit ({result.error_db:.2g} dB on average)."  # fmt: skip
    if result.layout == "MT":
        yield "These mels are stored bins first: where they are read, say --layout MT."
    told, taken = [], []
    for name, item in result.fields.items():
        if not hasattr(fe, name):
            continue
        value = getattr(fe, name)
        if not _is_set(item):
            told.append(f"{name} {_word(value)} ({item.confidence:.2f})")
            continue
        others = [text for text in _members(item) if text != _word(value)]
        also = f"; {', '.join(others)} would do as well" if others else ", not told"
        taken.append(f"{name}: {_word(value)} is taken{also} ({item.evidence})")
    if result.names:
        yield f"Named: {', '.join(result.names)}; nothing in the data excludes {'it' if len(result.names) == 1 else 'any of them'}, and the one that fits best is written."  # fmt: skip
    yield f"Told from the data (how sure): {', '.join(told)}."
    if "post_norm" in result.fields:
        yield f"post_mean, post_std, post_scale, post_offset: {result.fields['post_norm'].value}, fitted to these mels."
    elif "slope" in result.fields:
        yield f"post_scale, post_offset: slope {_word(result.fields['slope'].value)} per ln and offset {_word(result.fields['offset'].value)} were measured; which of log base, sd, mean and gain they are is not told and changes no mel."  # fmt: skip
    for text in taken:
        yield f"Set: {text}."
    if not result.names:
        yield f"Not told: {_UNSEEN}; as if there were none."


def _members(item: Found) -> list[str]:
    """The values of a set as words."""
    values = (*(() if item.value is None else (item.value,)), *item.confounded)
    if not values and item.interval is not None:
        return [f"anything from {item.interval[0]:.3g} to {item.interval[1]:.3g}"]
    return list(dict.fromkeys(_word(v) for v in values)) or ["not told"]


def _listed(value: Any) -> str:
    return ", ".join(f"{v:+d}" for v in value) if isinstance(value, (list, tuple)) else _word(value)


def _word(value: Any) -> str:
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
