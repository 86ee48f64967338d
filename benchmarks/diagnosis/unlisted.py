"""Distortions that no fault of the library describes: the right answer is *unknown*.

Each takes ``(T, M)`` predictions and a strength, 1 to 4, and is far beyond what a model's own errors look like.
"""

# ruff: noqa: ARG001 - every injector has the same signature
from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import median_filter

from benchmarks.diagnosis.plan import Arrays, Context, Plan

__all__ = ["UNLISTED", "add"]

_STRENGTHS = (0.6, 1.0, 1.5, 2.2)


def _bursts(p: np.ndarray, strength: float, sd: float, rng: np.random.Generator) -> np.ndarray:
    """White noise of 6 frames, in a sixth of the time."""
    on = np.repeat(rng.random(len(p) // 6 + 1) < 1 / 6, 6)[: len(p), None]
    return p + on * rng.normal(0.0, 1.2 * strength * sd, p.shape)


def _frame_gain(p: np.ndarray, strength: float, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Another offset in every frame."""
    return p + rng.normal(0.0, 0.6 * strength * sd, (len(p), 1))


def _tilting(p: np.ndarray, strength: float, sd: float, rng: np.random.Generator) -> np.ndarray:
    """A spectral tilt that swings about once a second."""
    swing = np.sin(2 * np.pi * np.arange(len(p)) / rng.uniform(60, 110) + rng.uniform(0, 6.3))
    return np.asarray(p + strength * sd * swing[:, None] * np.linspace(-1, 1, p.shape[1]))


def _crushed(p: np.ndarray, strength: float, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Few values: rounded to steps of one to four sd."""
    step = (0.8 + strength) * sd
    return np.asarray(np.round(p / step) * step)


def _bins_exchanged(p: np.ndarray, strength: float, sd: float, rng: np.random.Generator) -> np.ndarray:
    """A part of the bins in a random order (the same in every utterance), after a median over five frames."""
    fixed = np.random.default_rng(int(1000 * strength))
    order = np.arange(p.shape[1])
    chosen = fixed.choice(p.shape[1], int(min(1.0, 0.3 * strength) * p.shape[1]), replace=False)
    order[chosen] = fixed.permutation(chosen)
    return np.asarray(median_filter(p, (5, 1)))[:, order]


def _frames_exchanged(p: np.ndarray, strength: float, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Frames in a random order within blocks."""
    size = int(8 * strength) + 2
    order = np.concatenate([a + rng.permutation(min(size, len(p) - a)) for a in range(0, len(p), size)])
    return np.asarray(p[order])


def _curved(p: np.ndarray, strength: float, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Both ends drawn out: z |z| ** strength."""
    mean = p.mean()
    z = (p - mean) / sd
    return np.asarray(mean + sd * z * np.abs(z) ** strength)


def _echoed(p: np.ndarray, strength: float, sd: float, rng: np.random.Generator) -> np.ndarray:
    """The frame of 15 frames before is mixed in."""
    weight = strength / (1.0 + strength)
    return np.asarray((1.0 - weight) * p + weight * p[np.maximum(np.arange(len(p)) - 15, 0)])


def _halves(p: np.ndarray, strength: float, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Right in one half of the bins, another part of the utterance in the other."""
    edge = int(80 / (1.0 + strength))
    out = np.array(p)
    out[:, edge:] = np.roll(p[:, edge:], len(p) // 2, axis=0)
    return out


UNLISTED: dict[str, Callable[[np.ndarray, float, float, np.random.Generator], np.ndarray]] = {
    "noise-bursts": _bursts,
    "frame-gain": _frame_gain,
    "tilt-over-time": _tilting,
    "few-values": _crushed,
    "bins-exchanged": _bins_exchanged,
    "frames-exchanged": _frames_exchanged,
    "curved": _curved,
    "echo": _echoed,
    "halves": _halves,
}


def add(plan: Plan, name: str, severity: int) -> None:
    """Enter a distortion in a plan."""
    distort = UNLISTED[name]

    def changed(arrays: Arrays, context: Context) -> Arrays:
        sd = context.statistics.std
        return [distort(p.astype(np.float64), _STRENGTHS[severity - 1], sd, context.rng) for p in arrays]

    plan.after_prediction.append(changed)
