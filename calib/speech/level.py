"""One level for a whole output: audio beyond full scale is turned down, never clipped and never sentence by sentence."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["PEAK", "Level", "decibels", "within_full_scale"]

PEAK = 0.99
"""What the loudest sample is brought to, where it lay beyond full scale; full scale is 1."""


def decibels(amplitude: float) -> float:
    """20 log10, with -200 dB for silence."""
    return 20.0 * math.log10(max(amplitude, 1e-10))


def within_full_scale(audio: np.ndarray) -> tuple[np.ndarray, float]:
    """Audio ``(L,)`` with one gain over all of it, and that gain in dB; what is not beyond full scale stays as it is."""
    peak = float(np.abs(audio).max(initial=0.0))
    if peak <= 1.0:
        return audio, 0.0
    gain = PEAK / peak
    return (audio * np.float32(gain)).astype(np.float32, copy=False), decibels(gain)


class Level:
    """The same for audio that is given away as it is made: the gain only ever falls, by a ramp where there is room.

    Attributes:
        gain: the present gain, at most 1.
    """

    def __init__(self) -> None:
        self.gain = 1.0

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """The next block ``(L,)``, within full scale."""
        size = np.abs(block)
        peak = float(size.max(initial=0.0))
        wanted = min(self.gain, PEAK / peak) if peak * self.gain > 1.0 else self.gain
        if wanted == self.gain:
            return block if self.gain == 1.0 else (block * np.float32(self.gain)).astype(np.float32, copy=False)
        first = int(np.argmax(size * self.gain > PEAK))
        gains: np.ndarray = np.full(block.size, wanted, dtype=np.float32)
        gains[:first] = np.linspace(self.gain, wanted, first, endpoint=False, dtype=np.float32)
        self.gain = wanted
        # Before its first loud sample the ramp lies below what would clip, because it falls from there on only.
        return np.asarray(np.clip(block * gains, -1.0, 1.0), dtype=np.float32)
