"""The same statistics in float64 throughout, from an implementation of a few lines, and how far a result is off.

Conventions:
    The front end is HiFi-GAN's: reflect (1024 - 256) / 2, periodic Hann of 1024, hop 256, magnitude sqrt(|X|^2 + 1e-9),
    the filterbank's float32 weights as numbers, ln(max(x, 1e-5)). Differences are relative: |x - y| / |y|.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft

from benchmarks.speed import corpora

__all__ = ["off", "off_global", "reference"]

_N_FFT, _HOP, _BLOCK = 1024, 256, 512


def reference(corpus: Path, bank: np.ndarray) -> dict[str, Any]:
    """Mean and sd of a corpus, global and by bin; ``bank``: filterbank ``(M, n_fft // 2 + 1)``."""
    weights = bank.astype(np.float64).T
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_N_FFT) / _N_FFT)
    count, s1, s2 = 0, np.zeros(len(bank), np.longdouble), np.zeros(len(bank), np.longdouble)
    for samples, times in corpora.distinct(corpus):
        x = np.pad(samples / 32768.0, (_N_FFT - _HOP) // 2, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(x, _N_FFT)[::_HOP]
        for start in range(0, len(frames), _BLOCK):
            power = np.abs(scipy.fft.rfft(frames[start : start + _BLOCK] * window)) ** 2
            mel = np.log(np.maximum(np.sqrt(power + 1e-9) @ weights, 1e-5)).astype(np.longdouble)
            count += times * len(mel)
            s1 += times * mel.sum(axis=0)
            s2 += times * (mel * mel).sum(axis=0)
    whole = s1.sum() / (count * len(bank))
    return {
        "mean": float(whole),
        "std": float(np.sqrt(s2.sum() / (count * len(bank)) - whole**2)),
        "bin_mean": [float(v) for v in s1 / count],
        "bin_std": [float(v) for v in np.sqrt(s2 / count - (s1 / count) ** 2)],
        "frames": count,
    }


def off(stats: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, float]:
    """Largest relative differences of a ``mel_normalization_stats.json``."""
    return {
        **off_global(stats["mel_mean"], stats["mel_std"], truth),
        "bin_mean": _worst(stats["per_bin"]["mean"], truth["bin_mean"]),
        "bin_std": _worst(stats["per_bin"]["std"], truth["bin_std"]),
    }


def off_global(mean: float, std: float, truth: Mapping[str, Any]) -> dict[str, float]:
    """Relative differences of one mean and one sd."""
    return {"mean": _worst([mean], [truth["mean"]]), "std": _worst([std], [truth["std"]])}


def _worst(found: list[float], truth: list[float]) -> float:
    return float(np.max(np.abs(np.asarray(found) - truth) / np.abs(truth)))
