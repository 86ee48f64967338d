"""What a `FrontEnd` does: audio to mel, and back to linear filterbank outputs.

Written once over the array namespaces of `calib.mel.arrays`; the fields decide every step, no front end by its name.

Conventions:
    Audio is mono ``(L,)``, float32 (float64 after an RMS level); mels are float32 ``(T, M)``. *Linear* is what the filterbank gives (magnitude or
    power), before the guard and the logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.errors import DataError, UsageError
from calib.mel.arrays import ArrayNamespace, namespace, one_blas_thread

if TYPE_CHECKING:
    from calib.mel.frontend import FrontEnd
    from calib.mel.rounding import Noise

__all__ = ["STREAMED", "block", "finish", "linear", "mel_blocks", "mel_of_prepared", "padded", "prepare", "spans", "streams", "to_linear"]  # fmt: skip

# Frames a block: intermediates stay in the cache, and the calls of numpy (90 us a block) cost little beside the work.
_BLOCK = 128  # of a mel, in float64
STREAMED = 320  # of statistics


def prepare(fe: FrontEnd, samples: np.ndarray) -> np.ndarray:
    """Trim, RMS level, peak level, clip, pre-emphasis; ``(L,)`` to ``(L',)`` float32, float64 after an RMS level.

    Raises:
        DataError: empty or non-finite audio.
    """
    x: np.ndarray = np.asarray(samples, dtype=np.float32)
    if x.ndim != 1 or x.size == 0:
        raise DataError(f"audio must be mono and not empty, got shape {x.shape}")
    # A finite energy is a cheap proof (NaN and infinity propagate); an infinite one proves nothing.
    with np.errstate(over="ignore", invalid="ignore"):
        energy = float(np.dot(x, x))
    if not math.isfinite(energy) and not np.isfinite(x).all():
        raise DataError("audio holds NaN or infinite samples")
    if fe.trim_top_db is not None:
        x = _trim(fe, x)
    if fe.rms_norm is not None and (rms := float(np.sqrt(np.mean(x.astype(np.float64) ** 2)))) > 0:
        # In float64: rounded to float32, scaled samples move the quietest bins by up to 2e-4 of a ln unit.
        x = x.astype(np.float64) * (fe.rms_norm / rms)
    if fe.peak_norm is not None and (peak := float(np.abs(x).max())) > 0:
        x = x * np.float32(fe.peak_norm / peak)
    if fe.clip_audio is not None:
        x = np.clip(x, -np.float32(fe.clip_audio), np.float32(fe.clip_audio))
    if fe.preemphasis:
        # Before the first sample lies nothing, or (reflected) the second one.
        first = x[:1] - np.float32(fe.preemphasis) * x[1:2] if fe.preemphasis_pad == "reflect" else x[:1]
        x = np.concatenate([first, x[1:] - np.float32(fe.preemphasis) * x[:-1]])
    return x


def _trim(fe: FrontEnd, x: np.ndarray) -> np.ndarray:
    """Cut the ends whose centred, zero-padded RMS is ``trim_top_db`` below the maximum (librosa's definition)."""
    assert fe.trim_top_db is not None
    half = fe.trim_frame_length // 2
    energy = np.concatenate([[0.0], np.cumsum(np.pad(x, half).astype(np.float64) ** 2)])
    starts = np.arange(0, x.size + 2 * half - fe.trim_frame_length + 1, fe.trim_hop_length)
    power = np.maximum((energy[starts + fe.trim_frame_length] - energy[starts]) / fe.trim_frame_length, 1e-10)
    loud = np.flatnonzero(10.0 * np.log10(power / power.max()) > -fe.trim_top_db)
    if loud.size == 0:
        return x[:0]
    return x[loud[0] * fe.trim_hop_length : min(x.size, (loud[-1] + 1) * fe.trim_hop_length)]


def mel_of_prepared(fe: FrontEnd, x: np.ndarray, device: str) -> np.ndarray:
    """Prepared audio to its mel, float32 ``(T, M)``."""
    return _normalise(fe, _collected(fe, x, device, logarithm=True))


def linear(fe: FrontEnd, x: np.ndarray, device: str) -> np.ndarray:
    """Prepared audio to filterbank outputs before guard and logarithm, float32 ``(T, M)``."""
    return _collected(fe, x, device, logarithm=False)


def finish(fe: FrontEnd, values: np.ndarray) -> np.ndarray:
    """Filterbank outputs ``(T, M)`` to the mel: guard, logarithm, normalisation, clip, overwritten frames."""
    xp = namespace()
    return _normalise(fe, xp.to_numpy(_log(fe, xp, _guard(fe, xp, np.array(values, dtype=np.float32, order="C")))))


def streams(fe: FrontEnd) -> bool:
    """Whether a block of frames can be finished without the rest of its utterance."""
    return fe.utterance_norm is None


def mel_blocks(fe: FrontEnd, x: np.ndarray, xp: ArrayNamespace, noise: Noise | None = None) -> Iterator[Any]:
    """Prepared audio to its finished mel, a block ``(t, M)`` of the namespace at a time; `streams` front ends only.

    Args:
        fe: the front end.
        x: as `prepare` gives it.
        xp: its precision is that of the mel. A block lasts until the next one is asked for.
        noise: is shown the windowed frames and guarded filterbank outputs of every block.

    Raises:
        DataError: too short to be padded, or to fill one frame.
    """
    signal, count = padded(fe, x, xp)
    frames = xp.frames(signal, fe.n_fft, fe.hop_length)
    for start, stop in spans(count):
        mel = block(fe, xp, frames[start:stop], noise)
        if stop > count - fe.overwrite_last:
            mel[max(count - fe.overwrite_last - start, 0) :] = fe.overwrite_value
        yield mel


def spans(count: int) -> Iterator[tuple[int, int]]:
    """``count`` frames cut into blocks of about one size, `STREAMED` at most, as (first, after the last)."""
    blocks = -(-count // STREAMED)
    for k in range(blocks):
        yield count * k // blocks, count * (k + 1) // blocks


def block(fe: FrontEnd, xp: ArrayNamespace, frames: Any, noise: Noise | None = None) -> Any:
    """Frames ``(t, n_fft)`` to their finished mel ``(t, M)``, but for frames to be overwritten; `streams` front ends only."""
    windowed = _windowed(fe, xp, frames)
    mel = _guard(fe, xp, _bands(fe, xp, windowed))
    if noise is not None:
        noise.add(windowed, mel)
    return xp.clip(_by_bin(fe, xp, _log(fe, xp, mel)), fe.clip_min, fe.clip_max)


def _collected(fe: FrontEnd, x: np.ndarray, device: str, *, logarithm: bool) -> np.ndarray:
    """All frames, up to the filterbank or the logarithm and what is the same for all bins; float32 ``(T, M)``."""
    xp = namespace(device)
    signal, count = padded(fe, x, xp)
    frames = xp.frames(signal, fe.n_fft, fe.hop_length)
    out = np.empty((count, fe.n_mels), dtype=np.float32)
    with one_blas_thread():
        for start in range(0, count, _BLOCK):
            stop = min(start + _BLOCK, count)
            mel = _bands(fe, xp, _windowed(fe, xp, frames[start:stop]))
            out[start:stop] = xp.to_numpy(_log(fe, xp, _guard(fe, xp, mel)) if logarithm else mel)
    return out


def padded(fe: FrontEnd, x: np.ndarray, xp: ArrayNamespace) -> tuple[Any, int]:
    """Prepared audio on the namespace, padded as the frames need it, and how many frames there are.

    Raises:
        DataError: too short to be padded, or to fill one frame.
    """
    inner, count = fe.pad_each_side - fe.pad_audio, fe.n_frames(x.size)
    reflects = fe.padding in {"center", "same"} and fe.pad_mode == "reflect"
    if count < 1 or (reflects and x.size + 2 * fe.pad_audio <= inner):
        need = fe.shortest_audio
        raise DataError(f"audio of {x.size} samples is too short for this front end, which needs at least {need}")
    signal = xp.signal(x)
    if fe.pad_audio:
        signal = xp.pad(signal, fe.pad_audio, fe.pad_audio, "constant")
    if fe.padding == "end":
        missing = (count - 1) * fe.hop_length + fe.n_fft - x.size - 2 * fe.pad_audio
        signal = xp.pad(signal, 0, missing, "constant") if missing > 0 else signal
    elif inner:
        signal = xp.pad(signal, inner, inner, fe.pad_mode)
    return signal, count


def _windowed(fe: FrontEnd, xp: ArrayNamespace, frames: Any) -> Any:
    return xp.windowed(frames, xp.table((fe.id, "window"), lambda: xp.window(fe.window_array())))


def _bands(fe: FrontEnd, xp: ArrayNamespace, windowed: Any) -> Any:
    """One block: ``(t, n_fft)`` windowed frames to ``(t, M)`` filterbank outputs."""
    spectrum = xp.spectrum(windowed)
    if fe.power == 1 and not fe.spectrum_eps:
        values = xp.magnitude(spectrum)
    else:
        values = xp.power(spectrum)
        if fe.spectrum_eps and fe.spectrum_eps_mode == "add":
            values += fe.spectrum_eps
        elif fe.spectrum_eps:
            values = xp.clip(values, fe.spectrum_eps, None)
        if fe.power == 1:
            values = xp.sqrt(values)
    return xp.bands(values, xp.table((fe.id, "bank"), lambda: xp.bank(fe.basis().T)))


def _guard(fe: FrontEnd, xp: ArrayNamespace, mel: Any) -> Any:
    if fe.log != "none" and fe.log_guard == "clamp":
        mel = xp.clip(mel, fe.log_eps, None)
    elif fe.log != "none" and fe.log_guard == "add":
        mel += fe.log_eps
    return mel


def _log(fe: FrontEnd, xp: ArrayNamespace, mel: Any) -> Any:
    """Logarithm of guarded outputs and the scalar affine map (which `dynamic_max` needs after its maximum)."""
    if fe.log != "none":
        mel = xp.log(mel)
        if fe.log_scale != 1.0:
            mel *= fe.log_scale
    return mel if fe.utterance_norm == "dynamic_max" else _affine(fe, mel)


def _affine(fe: FrontEnd, mel: Any) -> Any:
    if fe.post_scale != 1.0 or fe.post_offset:
        mel *= fe.post_scale
        mel += fe.post_offset
    return mel


def _by_bin(fe: FrontEnd, xp: ArrayNamespace, mel: Any) -> Any:
    mean, std = fe.post_mean, fe.post_std
    if mean is not None:
        mel -= xp.table((fe.id, "mean"), lambda: xp.asarray(mean))
    if std is not None:
        mel /= xp.table((fe.id, "std"), lambda: xp.asarray(std))
    return mel


def _normalise(fe: FrontEnd, mel: np.ndarray) -> np.ndarray:
    """What needs bins or the whole utterance: per-bin and per-utterance normalisation, clip, overwritten frames."""
    xp = namespace()
    if fe.utterance_norm == "dynamic_max":
        mel = _affine(fe, np.maximum(mel, mel.max() - np.float32(fe.utterance_range)))
    mel = _by_bin(fe, xp, mel)
    if fe.utterance_norm == "minmax":
        mel = (mel - mel.min()) / max(float(mel.max() - mel.min()), 1e-6)
    elif fe.utterance_norm == "instance":
        # In float64: a bin that hardly moves is divided by little, which would show the rounding of its mean.
        mel = (mel - mel.mean(0, dtype=np.float64)) / np.sqrt(mel.var(0, dtype=np.float64) + 1e-5)
    mel = xp.clip(mel, fe.clip_min, fe.clip_max).astype(np.float32, copy=False)
    if fe.overwrite_last:
        mel[-fe.overwrite_last :] = fe.overwrite_value
    return mel


def to_linear(fe: FrontEnd, mel: np.ndarray) -> np.ndarray:
    """Undo normalisation and logarithm: ``(T, M)`` mel to linear filterbank outputs, float64."""
    if fe.utterance_norm in {"minmax", "instance"}:
        raise UsageError(f"a mel normalised by utterance ({fe.utterance_norm}) cannot be brought back to linear scale")
    x = np.asarray(mel, dtype=np.float64)
    if fe.post_std is not None:
        x = x * np.asarray(fe.post_std)
    if fe.post_mean is not None:
        x = x + np.asarray(fe.post_mean)
    x = (x - fe.post_offset) / fe.post_scale
    if fe.log == "none":
        return np.maximum(x, 0.0)
    # 40 nepers is 10^17: a mel that far out is noise, and exp of it would only overflow later.
    x = np.exp(np.clip(x / fe.log_scale, -40.0, 40.0))
    return np.maximum(x - fe.log_eps, 0.0) if fe.log_guard == "add" else x
