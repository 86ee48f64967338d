"""Spectrograms as WebP and sounds as FLAC, both as data URLs. The same arrays give the same bytes."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "TITLES",
    "Scale",
    "Sound",
    "colour_bar",
    "common_scale",
    "mel_image",
    "signed_scale",
    "sounds",
    "sounds_within",
]

_LEVELS = 97  # shades: more cannot be told apart, and each costs bytes; odd, so that a signed scale has a middle
_COLUMNS = 640  # of a picture at most
_MIN_COLUMNS = 120
_MAGNITUDE, _SIGNED = "magma", "RdBu_r"
_ORDER = ("recording", "target", "raw", "calibrated", "constant")
# What each sound is, for people; the vocoder alone is what the target's mel through it shows.
TITLES = {
    "recording": "recording",
    "target": "target, copy synthesis",
    "raw": "prediction as it is",
    "calibrated": "calibrated",
    "constant": "constant",
}
_MAX_GAIN_DB = 40.0
_SHORTEST = 1.0  # s of a sound that is kept when a page would grow too large


@dataclass(frozen=True)
class Scale:
    """Range of values that the colours span.

    Args:
        low: darkest.
        high: lightest.
        palette: name of the colours.
    """

    low: float
    high: float
    palette: str = _MAGNITUDE

    def outside(self, mel: np.ndarray) -> tuple[float, float]:
        """Share of values below and above."""
        good = mel[np.isfinite(mel)]
        if not good.size:
            return 0.0, 0.0
        return float((good < self.low).mean()), float((good > self.high).mean())


@dataclass(frozen=True)
class Sound:
    """One player.

    Args:
        label: what it is.
        url: data URL, or None when it cannot be played.
        seconds: duration.
        gain_db: what it was multiplied by, in dB; 0 when it is as given.
        why: why there is no sound, or why it was turned down.
    """

    label: str
    url: str | None
    seconds: float = 0.0
    gain_db: float = 0.0
    why: str = ""


def common_scale(target: np.ndarray) -> Scale | None:
    """The range of the target without its extreme thousandths; None where it has none."""
    good = target[np.isfinite(target)]
    if not good.size:
        return None
    low, high = (float(q) for q in np.quantile(good, (0.001, 0.999)))
    return Scale(low, high) if high > low else Scale(low - 0.5, low + 0.5)


def signed_scale(difference: np.ndarray) -> Scale | None:
    """A scale about 0 for a difference, without its extreme two hundredths; None where there is nothing finite."""
    good = np.abs(difference[np.isfinite(difference)])
    if not good.size:
        return None
    reach = float(np.quantile(good, 0.98)) or 1e-6
    return Scale(-reach, reach, _SIGNED)


def mel_image(mel: np.ndarray, scale: Scale, max_bytes: int, columns: int = _COLUMNS) -> str:
    """A mel ``(T, M)`` as a picture, low bins at the bottom; neighbouring frames are averaged where there are many.

    Args:
        mel: values.
        scale: of the colours.
        max_bytes: of the data URL; fewer columns are drawn until it fits, but no fewer than 120.
        columns: at most.
    """
    columns = min(mel.shape[0], columns)
    while True:
        picture = _drawn(mel, scale, columns)
        if len(picture) <= max_bytes or columns <= _MIN_COLUMNS:
            return picture
        columns = max(min(int(columns * max_bytes / len(picture)), int(0.9 * columns)), _MIN_COLUMNS)


def _drawn(mel: np.ndarray, scale: Scale, columns: int) -> str:
    n_frames = mel.shape[0]
    values = np.nan_to_num(mel.astype(np.float64), nan=scale.low, posinf=scale.high, neginf=scale.low)
    edges = np.linspace(0, n_frames, columns + 1).astype(int)[:-1]
    pooled = np.add.reduceat(values, edges, axis=0) / np.diff(np.append(edges, n_frames))[:, None]
    shades = np.clip((pooled - scale.low) / (scale.high - scale.low), 0.0, 1.0)
    return _picture(np.rint(shades.T[::-1] * (_LEVELS - 1)).astype(np.intp), scale.palette)


@functools.cache
def colour_bar(palette: str = _MAGNITUDE) -> str:
    """All shades from low (left) to high (right)."""
    return _picture(np.arange(_LEVELS, dtype=np.intp)[None, :], palette)


def _picture(shades: np.ndarray, palette: str) -> str:
    import matplotlib as mpl
    from PIL import Image

    colours = (mpl.colormaps[palette](np.linspace(0.0, 1.0, _LEVELS))[:, :3] * 255).round().astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(colours[shades]).save(out, format="WEBP", lossless=True, quality=60, method=3)
    return _url("image/webp", out.getvalue())


def _url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def sounds_within(
    budget: int, audios: Sequence[Mapping[str, tuple[np.ndarray, int]]], *, level_match: bool
) -> tuple[list[list[Sound]], float | None]:
    """The sounds of all utterances, cut to their first seconds where a page would grow beyond its budget.

    Args:
        budget: bytes of all data URLs together.
        audios: of each utterance, as for `sounds`.
        level_match: as for `sounds`.

    Returns:
        The sounds of each utterance, and the seconds that each is cut to, or None.
    """
    made = [sounds(audio, level_match=level_match) for audio in audios]
    longest = max((s.seconds for row in made for s in row), default=0.0)
    limit = None
    while (size := sum(len(s.url or "") for row in made for s in row)) > budget and (limit or longest) > _SHORTEST:
        limit = max(_SHORTEST, np.floor(10.0 * min(0.98 * budget / size, 0.9) * (limit or longest)) / 10.0)
        made = [sounds(_cut(audio, limit), level_match=level_match) for audio in audios]
    return made, limit


def _cut(audio: Mapping[str, tuple[np.ndarray, int]], seconds: float) -> dict[str, tuple[np.ndarray, int]]:
    return {label: (np.asarray(x).reshape(-1)[: int(seconds * rate)], rate) for label, (x, rate) in audio.items()}


def sounds(audio: Mapping[str, tuple[np.ndarray, int]], *, level_match: bool) -> list[Sound]:
    """One sound a label; recording and target first.

    Args:
        audio: label to samples and sample rate in Hz.
        level_match: bring all to the RMS of the first, as far as they stay below full scale.
    """
    labels = sorted(audio, key=lambda label: (_ORDER.index(label) if label in _ORDER else len(_ORDER), label))
    reference = _rms(audio[labels[0]][0]) if labels and level_match else 0.0
    return [_sound(label, *audio[label], reference) for label in labels]


def _sound(label: str, samples: np.ndarray, rate: int, reference: float) -> Sound:
    import soundfile

    wave = np.asarray(samples, dtype=np.float64).reshape(-1)
    if not wave.size:
        return Sound(label, None, why="it has no samples")
    if not np.isfinite(wave).all():
        return Sound(label, None, why="it holds NaN or infinite samples")
    peak, own, gain, why = float(np.abs(wave).max()), _rms(wave), 1.0, ""
    if reference > 0 and own > 0:
        gain = float(np.clip(reference / own, 10 ** (-_MAX_GAIN_DB / 20), 10 ** (_MAX_GAIN_DB / 20)))
    if peak * gain > 1.0:
        gain, why = 1.0 / peak, "as loud as full scale allows"
    out = io.BytesIO()
    soundfile.write(out, (wave * gain).astype(np.float32), rate, format="FLAC", subtype="PCM_16")
    return Sound(label, _url("audio/flac", out.getvalue()), wave.size / rate, 20.0 * float(np.log10(gain)), why)


def _rms(samples: Sequence[float] | np.ndarray) -> float:
    wave = np.asarray(samples, dtype=np.float64)
    value = float(np.sqrt(np.mean(wave**2))) if wave.size else 0.0
    return value if np.isfinite(value) else 0.0
