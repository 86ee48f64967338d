"""Where the mel bins lie: what the fault tests need to know of a front end, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["BankGeometry", "Recomputed", "Warp"]


@dataclass(frozen=True)
class Warp:
    """Where a faulty bank's bins lie among the target's.

    Args:
        faults: the faults that it stands for.
        label: for people.
        place: ``(M,)`` for each bin of the faulty bank the (fractional) bin of the target that hears the same.
        offset: ``(M,)`` mel units that the faulty bank adds beside (filters without area normalisation).
    """

    faults: tuple[str, ...]
    label: str
    place: np.ndarray
    offset: np.ndarray | None = None


@dataclass(frozen=True)
class BankGeometry:
    """The target's front end as numbers.

    Args:
        n_mels: bins M.
        declared: whether the front end is known; else the warps are those between the usual ones.
        warps: the faulty banks to try.
        per_ln: mel units for one ln unit of the magnitude (2 for ln power, .434 for log10, 8.686 for dB).
        logarithmic: whether the mel is logarithmic at all.
        area_normalised: whether the filters have unit area.
        area: ``(M,)`` what the other filter normalisation would add to each bin, in mel units; None when unknown.
        emphasis: pre-emphasis coefficients with ``(M,)`` what each would add to each bin, in mel units.
        floor: value of digital silence in the mel's unit, or None.
        eps: the guard before the logarithm.
        power: 1 for magnitude, 2 for power.
        post_offset: what is added after the logarithm, in the mel's unit.
        centres: ``(M,)`` centres of the bins in Hz, or None when unknown.
    """

    n_mels: int
    declared: bool
    warps: tuple[Warp, ...]
    per_ln: float = 1.0
    logarithmic: bool = True
    area_normalised: bool = True
    area: np.ndarray | None = None
    emphasis: tuple[tuple[float, np.ndarray], ...] = ()
    floor: float | None = None
    eps: float = 1e-5
    power: int = 1
    post_offset: float = 0.0
    centres: np.ndarray | None = None

    @property
    def unit(self) -> float:
        """Mel units for one ln unit of the magnitude; 1 where the mel is not logarithmic."""
        return self.per_ln if self.logarithmic else 1.0

    @property
    def to_power(self) -> tuple[float, float]:
        """Slope and shift, in ln, of the line that takes a mel of magnitude nearly to one of power (measured)."""
        return (2.007, 3.38) if self.area_normalised else (2.07, -0.84)

    def relabelled(self, ratio: float) -> np.ndarray | None:
        """``(M,)`` where the bins lie if audio at ``ratio`` times the rate was taken for audio at the rate, or None.

        It then sounds ``1 / ratio`` as high: a bin hears what lies at ``ratio`` times its frequency.
        """
        if self.centres is None:
            return None
        return np.interp(self.centres * ratio, self.centres, np.arange(self.n_mels, dtype=np.float64))


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

    def relabelled(self, index: int, ratio: float) -> np.ndarray | None:
        """The target of audio at ``ratio`` times the rate that was taken for audio at it, ``(T', M)``, or None."""
        ...
