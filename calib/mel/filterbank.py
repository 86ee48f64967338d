"""Triangular mel filterbanks: slaney and HTK scales, with or without area normalisation.

References:
    1. M. Slaney, "Auditory Toolbox", Technical Report 1998-010, Interval Research (linear below 1 kHz, log above).
    2. S. Young et al., "The HTK Book": mel = 2595 log10(1 + f / 700).
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
    """Frequency in Hz to mels on the ``slaney`` or ``htk`` scale."""
    f = np.asarray(hz, dtype=np.float64)
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + f / 700.0))
    above = _SLANEY_KNEE_MEL + np.log(np.maximum(f, _SLANEY_KNEE_HZ) / _SLANEY_KNEE_HZ) / _SLANEY_LOG_STEP
    return np.where(f >= _SLANEY_KNEE_HZ, above, f / _SLANEY_HZ_PER_MEL)


def mel_to_hz(mel: np.ndarray | float, scale: str) -> np.ndarray:
    """Mels on the ``slaney`` or ``htk`` scale to Hz; the inverse of `hz_to_mel`."""
    m = np.asarray(mel, dtype=np.float64)
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (m / 2595.0) - 1.0))
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
    """Triangles that are linear in Hz between mel-spaced edges.

    Args:
        sample_rate: in Hz.
        n_fft: FFT length in samples.
        n_mels: number of filters M.
        fmin: lowest edge in Hz.
        fmax: highest edge in Hz.
        scale: ``slaney`` or ``htk``.
        norm: ``slaney`` scales each triangle to unit area, 2 / (width in Hz); None leaves unit height.

    Returns:
        float32 ``(M, n_fft // 2 + 1)``, read-only (it is cached).
    """
    fft_hz = np.linspace(0.0, sample_rate / 2, n_fft // 2 + 1)
    edges = mel_to_hz(np.linspace(hz_to_mel(fmin, scale), hz_to_mel(fmax, scale), n_mels + 2), scale)
    width = np.diff(edges)
    distance = edges[:, None] - fft_hz[None, :]
    rising = -distance[:-2] / width[:-1, None]
    falling = distance[2:] / width[1:, None]
    bank = np.maximum(0.0, np.minimum(rising, falling))
    if norm == "slaney":
        bank *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    result = bank.astype(np.float32)
    result.flags.writeable = False
    return result
