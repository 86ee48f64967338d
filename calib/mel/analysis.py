"""What a `FrontEnd` does: audio to mel, and back to linear filterbank outputs.

Written once over the array namespaces of `calib.mel.arrays`; the fields decide every step, no front end by its name.

Conventions:
    Audio is mono ``(L,)``, float32 (float64 after an RMS level); mels are float32 ``(T, M)``. *Linear* is what the filterbank gives (magnitude or
    power), before the guard and the logarithm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from calib.errors import DataError, UsageError
from calib.mel.arrays import ArrayNamespace, NumpyNamespace, namespace, one_blas_thread

if TYPE_CHECKING:
    from calib.mel.frontend import FrontEnd

__all__ = ["finish", "linear", "mel_of_prepared", "prepare", "to_linear"]

# Frames a block. The float64 intermediates of 64 frames at n_fft 1024 are 0.5 MB each: they stay in the cache, and the
# allocator reuses them; from 96 frames on it maps fresh pages for every block (4.8 against 13.5 us a frame, measured).
_BLOCK = 64


def prepare(fe: FrontEnd, samples: np.ndarray) -> np.ndarray:
    """Trim, RMS level, peak level, clip, pre-emphasis; ``(L,)`` to ``(L',)`` float32, float64 after an RMS level.

    Raises:
        DataError: empty or non-finite audio.
    """
    x: np.ndarray = np.asarray(samples, dtype=np.float32)
    if x.ndim != 1 or x.size == 0:
        raise DataError(f"audio must be mono and not empty, got shape {x.shape}")
    if not np.isfinite(x).all():
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
    return _normalise(fe, _blocks(fe, x, device, logarithm=True))


def linear(fe: FrontEnd, x: np.ndarray, device: str) -> np.ndarray:
    """Prepared audio to filterbank outputs before guard and logarithm, float32 ``(T, M)``."""
    return _blocks(fe, x, device, logarithm=False)


def finish(fe: FrontEnd, values: np.ndarray) -> np.ndarray:
    """Filterbank outputs ``(T, M)`` to the mel: guard, logarithm, normalisation, clip, overwritten frames."""
    xp = NumpyNamespace()
    return _normalise(fe, np.asarray(_log(fe, xp, np.array(values, dtype=np.float32, order="C"))))


def _blocks(fe: FrontEnd, x: np.ndarray, device: str, *, logarithm: bool) -> np.ndarray:
    """Pad, frame and analyse, a block of frames at a time; float32 ``(T, M)``.

    Raises:
        DataError: too short to be padded, or to fill one frame.
    """
    inner, count = fe.pad_each_side - fe.pad_audio, fe.n_frames(x.size)
    reflects = fe.padding in {"center", "same"} and fe.pad_mode == "reflect"
    if count < 1 or (reflects and x.size + 2 * fe.pad_audio <= inner):
        need = fe.shortest_audio
        raise DataError(f"audio of {x.size} samples is too short for this front end, which needs at least {need}")
    xp = namespace(device)
    signal = xp.signal(x) if fe.rms_norm is not None else xp.asarray(x)
    if fe.pad_audio:
        signal = xp.pad(signal, fe.pad_audio, fe.pad_audio, "constant")
    if fe.padding == "end":
        missing = (count - 1) * fe.hop_length + fe.n_fft - x.size - 2 * fe.pad_audio
        signal = xp.pad(signal, 0, missing, "constant") if missing > 0 else signal
    elif inner:
        signal = xp.pad(signal, inner, inner, fe.pad_mode)
    frames = xp.frames(signal, fe.n_fft, fe.hop_length)
    window, bank = xp.window(fe.window_array()), xp.asarray(fe.basis().T)
    out = np.empty((count, fe.n_mels), dtype=np.float32)
    with one_blas_thread():
        for start in range(0, count, _BLOCK):
            stop = min(start + _BLOCK, count)
            block = _bands(fe, xp, frames[start:stop], window, bank)
            out[start:stop] = xp.to_numpy(_log(fe, xp, block) if logarithm else block)
    return out


def _bands(fe: FrontEnd, xp: ArrayNamespace, frames: Any, window: Any, bank: Any) -> Any:
    """One block: ``(t, n_fft)`` frames to ``(t, M)`` filterbank outputs."""
    spectrum = xp.power_spectrum(frames * window)
    if fe.spectrum_eps:
        spectrum = (
            spectrum + fe.spectrum_eps if fe.spectrum_eps_mode == "add" else xp.maximum(spectrum, fe.spectrum_eps)
        )
    if fe.power == 1:
        spectrum = xp.sqrt(spectrum)
    return spectrum @ bank


def _log(fe: FrontEnd, xp: ArrayNamespace, mel: Any) -> Any:
    """Guard, logarithm and the scalar affine map (which `dynamic_max` needs after its maximum)."""
    if fe.log != "none":
        if fe.log_guard == "clamp":
            mel = xp.maximum(mel, fe.log_eps)
        elif fe.log_guard == "add":
            mel = mel + fe.log_eps
        mel = xp.log(mel)
        if fe.log_scale != 1.0:
            mel = mel * fe.log_scale
    return mel if fe.utterance_norm == "dynamic_max" else _affine(fe, mel)


def _affine(fe: FrontEnd, mel: Any) -> Any:
    return mel * fe.post_scale + fe.post_offset if fe.post_scale != 1.0 or fe.post_offset else mel


def _normalise(fe: FrontEnd, mel: np.ndarray) -> np.ndarray:
    """What needs bins or the whole utterance: per-bin and per-utterance normalisation, clip, overwritten frames."""
    if fe.utterance_norm == "dynamic_max":
        mel = _affine(fe, np.maximum(mel, mel.max() - np.float32(fe.utterance_range)))
    if fe.post_mean is not None:
        mel = mel - np.asarray(fe.post_mean, dtype=np.float32)
    if fe.post_std is not None:
        mel = mel / np.asarray(fe.post_std, dtype=np.float32)
    if fe.utterance_norm == "minmax":
        mel = (mel - mel.min()) / max(float(mel.max() - mel.min()), 1e-6)
    elif fe.utterance_norm == "instance":
        # In float64: a bin that hardly moves is divided by little, which would show the rounding of its mean.
        mel = (mel - mel.mean(0, dtype=np.float64)) / np.sqrt(mel.var(0, dtype=np.float64) + 1e-5)
    if fe.clip_min is not None or fe.clip_max is not None:
        mel = np.clip(mel, fe.clip_min, fe.clip_max)
    mel = mel.astype(np.float32, copy=False)
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
