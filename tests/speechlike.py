"""Synthetic stand-ins for speech that the tests share: audio with pitch, formants and pauses, and smooth mel fields."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.signal import lfilter

RATE = 22050


def voice(seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    """A buzz with a gliding pitch through two formants, some hiss, and a pause at either end; float32 in [-1, 1]."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    time = np.arange(n) / rate
    phase = 2 * np.pi * np.cumsum(110 + 40 * np.sin(2 * np.pi * 0.7 * time + seed)) / rate
    buzz = sum(np.sin(k * phase) / k for k in range(1, 40))
    for hz, width in ((500 + 60 * (seed % 5), 90), (1600 + 90 * (seed % 3), 140)):
        radius = np.exp(-np.pi * width / rate)
        buzz = lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * hz / rate), radius**2], buzz)
    envelope = np.clip(np.sin(2 * np.pi * 1.3 * time + seed), 0, None)
    envelope[: n // 12] = envelope[-n // 12 :] = 0.0
    x = buzz / np.abs(buzz).max() * envelope + 0.01 * rng.standard_normal(n) * (envelope > 0)
    return (0.5 * x / max(np.abs(x).max(), 1e-9)).astype(np.float32)


def recording(seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    """`voice` in a room that is never quite silent, so that its mel does not lie on the floor half of the time."""
    x = voice(seconds, seed, rate)
    room = np.random.default_rng(seed + 90).standard_normal(len(x))
    return (x + 2e-3 * room).astype(np.float32)


def modelled(targets: Sequence[np.ndarray], r: float = 0.98) -> list[np.ndarray]:
    """What a healthy model trained with L2 predicts: its errors look like speech too (another utterance's)."""
    out = []
    for k, y in enumerate(targets):
        other = np.tile(targets[(k + 3) % len(targets)], (1 + len(y), 1))[: len(y)]
        mean = y.mean(0)
        own, error = y - mean, other - other.mean(0)
        error = error - (error * own).sum(0) / (own**2).sum(0) * own
        error *= own.std(0) / error.std(0)
        out.append((mean + r * r * own + r * np.sqrt(1 - r * r) * error).astype(np.float32))
    return out


def mel_field(frames: int, seed: int, bins: int = 80) -> np.ndarray:
    """A target-like mel: a falling mean spectrum and a field that is smooth over time and bins; float32 (T, M)."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.standard_normal((frames, bins)), (2.0, 3.0))
    return (np.linspace(-3.5, -7.5, bins) + 1.8 * field / field.std()).astype(np.float32)


def prediction(target: np.ndarray, r: float, seed: int) -> np.ndarray:
    """What a model trained with L2 predicts at within-bin correlation r: shrunk, noisy, least-squares slope 1."""
    rng = np.random.default_rng(seed + 10_000)
    noise = gaussian_filter(
        rng.standard_normal(target.shape), (1.6, 2.4)
    )  # nearly as smooth as the target, as errors are
    noise /= noise.std()
    mean = target.mean(0)
    deviation = target - mean
    return (mean + r * r * deviation + r * np.sqrt(1 - r * r) * deviation.std() * noise).astype(np.float32)


def write_pairs(root: Path, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Path:
    """A PAIRS folder ``targets/`` + ``predictions/`` of (prediction, target); returns it."""
    for folder in ("predictions", "targets"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for k, (p, y) in enumerate(pairs):
        np.save(root / "predictions" / f"u{k:02d}.npy", p)
        np.save(root / "targets" / f"u{k:02d}.npy", y)
    return root
