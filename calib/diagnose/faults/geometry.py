"""Where the mel bins lie: what the fault tests need to know of a front end, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["BankGeometry", "Recomputed", "Warp"]


@dataclass(frozen=True)
class Warp:
    """Where a faulty bank's bins lie.

    Args:
        key: ``fault:detail``.
        faults: the faults that it stands for.
        label: for people.
        edges: ``(M + 2,)`` filter edges in Hz of the *target's* audio.
        time: how many target frames pass in one frame of the prediction is ``1 / time``; 1: none.
    """

    key: str
    faults: tuple[str, ...]
    label: str
    edges: np.ndarray
    time: float


@dataclass(frozen=True)
class BankGeometry:
    """The target's front end as numbers.

    Args:
        edges: ``(M + 2,)`` filter edges in Hz.
        warps: the faulty banks to try.
        hop_seconds: time between frames.
        per_ln: mel units for one ln unit of the magnitude (2 for ln power, .434 for log10, 8.686 for dB).
        logarithmic: whether the mel is logarithmic at all.
        normalised: whether the target itself is normalised: unit constants then say nothing.
        area_normalised: whether the filters have unit area.
        emphasis: ``(M,)`` what pre-emphasis would add to each bin, in mel units (what it adds, negated, if it is there).
        floor: value of digital silence in the mel's unit, or None.
        eps: the guard before the logarithm.
        power: 1 for magnitude, 2 for power.
        post_offset: what is added after the logarithm, in the mel's unit.
    """

    edges: np.ndarray
    warps: tuple[Warp, ...]
    hop_seconds: float
    per_ln: float
    logarithmic: bool
    normalised: bool
    area_normalised: bool
    emphasis: np.ndarray
    floor: float | None
    eps: float
    power: int = 1
    post_offset: float = 0.0

    @property
    def n_mels(self) -> int:
        """Bins M."""
        return int(self.edges.size - 2)

    @property
    def area(self) -> np.ndarray:
        """``(M,)`` what the other filter normalisation would add to each bin, in mel units."""
        width = np.log((self.edges[2:] - self.edges[:-2]) / 2.0) * self.per_ln / self.power
        return np.asarray(width if self.area_normalised else -width)


class Recomputed(Protocol):
    """Targets recomputed from the audio under faulty front ends."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Of all variants."""
        ...

    def label(self, key: str) -> str:
        """A variant for people."""
        ...

    def faults(self, key: str) -> tuple[str, ...]:
        """The faults that it stands for."""
        ...

    def target(self, index: int) -> np.ndarray | None:
        """The target's own front end on the audio of an utterance, ``(T, M)``, or None."""
        ...

    def mel(self, index: int, key: str) -> np.ndarray | None:
        """The variant's, ``(T', M)``, or None."""
        ...
