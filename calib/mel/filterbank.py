"""Triangular mel filterbanks: slaney, HTK and TensorFlow scales, with or without area normalisation.

References:
    1. M. Slaney, "Auditory Toolbox", Technical Report 1998-010, Interval Research (linear below 1 kHz, log above).
    2. S. Young et al., "The HTK Book": mel = 2595 log10(1 + f / 700).
    3. TensorFlow, ``tf.signal.linear_to_mel_weight_matrix``: mel = 1127 ln(1 + f / 700), triangles linear in mel.
"""

from __future__ import annotations

import functools

import numpy as np

__all__ = ["hz_to_mel", "mel_filterbank", "mel_to_hz"]

_SLANEY_HZ_PER_MEL = 200.0 / 3.0
_SLANEY_KNEE_HZ = 1000.0
_SLANEY_KNEE_MEL = _SLANEY_KNEE_HZ / _SLANEY_HZ_PER_MEL
_SLANEY_LOG_STEP = np.log(6.4) / 27.0


def hz_to_mel(hz: np.ndarray | float, scale: str) -> np.ndarray:
    """Frequency in Hz to mels on the ``slaney``, ``htk`` or ``htk_tf`` scale."""
    f = np.asarray(hz, dtype=np.float64)
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + f / 700.0))
    if scale == "htk_tf":
        return np.asarray(1127.0 * np.log(1.0 + f / 700.0))
    above = _SLANEY_KNEE_MEL + np.log(np.maximum(f, _SLANEY_KNEE_HZ) / _SLANEY_KNEE_HZ) / _SLANEY_LOG_STEP
    return np.where(f >= _SLANEY_KNEE_HZ, above, f / _SLANEY_HZ_PER_MEL)


def mel_to_hz(mel: np.ndarray | float, scale: str) -> np.ndarray:
    """Mels on the ``slaney``, ``htk`` or ``htk_tf`` scale to Hz; the inverse of `hz_to_mel`."""
    m = np.asarray(mel, dtype=np.float64)
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (m / 2595.0) - 1.0))
    if scale == "htk_tf":
        return np.asarray(700.0 * (np.exp(m / 1127.0) - 1.0))
    above = _SLANEY_KNEE_HZ * np.exp(_SLANEY_LOG_STEP * (np.maximum(m, _SLANEY_KNEE_MEL) - _SLANEY_KNEE_MEL))
    return np.where(m >= _SLANEY_KNEE_MEL, above, m * _SLANEY_HZ_PER_MEL)


@functools.lru_cache(maxsize=32)
def mel_filterbank(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    fmin: float,
    fmax: float,
    scale: str = "slaney",
    norm: str | None = "slaney",
) -> np.ndarray:
    """Triangles between mel-spaced edges: linear in Hz, but for ``htk_tf``, where they are linear in mel.

    Args:
        sample_rate: in Hz.
        n_fft: FFT length in samples.
        n_mels: number of filters M.
        fmin: lowest edge in Hz.
        fmax: highest edge in Hz.
        scale: ``slaney``, ``htk``, or ``htk_tf`` (whose DC bin is zero).
        norm: ``slaney`` scales each triangle to unit area, 2 / (width in Hz); None leaves unit height.

    Returns:
        float32 ``(M, n_fft // 2 + 1)``, read-only (it is cached).
    """
    fft_hz = np.linspace(0.0, sample_rate / 2, n_fft // 2 + 1)
    edges = mel_to_hz(np.linspace(hz_to_mel(fmin, scale), hz_to_mel(fmax, scale), n_mels + 2), scale)
    # The axis that the sides are straight on.
    sides, points = (hz_to_mel(edges, scale), hz_to_mel(fft_hz, scale)) if scale == "htk_tf" else (edges, fft_hz)
    width = np.diff(sides)
    distance = sides[:, None] - points[None, :]
    rising = -distance[:-2] / width[:-1, None]
    falling = distance[2:] / width[1:, None]
    bank = np.maximum(0.0, np.minimum(rising, falling))
    if scale == "htk_tf":
        bank[:, 0] = 0.0
    if norm == "slaney":
        bank *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    result: np.ndarray = bank.astype(np.float32)
    result.flags.writeable = False
    return result
