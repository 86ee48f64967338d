"""Frames of a few utterances held in memory, and what the fault tests ask of them over and over.

Conventions:
    ``p`` and ``y`` are ``(N, M)`` float32, the utterances one after the other. *Centred* means that each utterance's
    own mean of each bin is removed: level, per-bin statistics and per-utterance offsets then do not matter. A *group*
    is what the jackknife leaves out: utterances, or blocks of frames where there are few utterances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["Correlation", "Sample", "correlations", "jackknife_error", "sounding", "whitened"]

_GROUPS = 16
_BLOCK = 40  # frames, at least: beyond the autocorrelation of speech mels
_TINY = 1e-12


@dataclass(frozen=True)
class Correlation:
    """A correlation as the sums of its groups.

    Args:
        sums: ``(G, 3)`` of xy, xx, yy.
    """

    sums: np.ndarray

    @property
    def value(self) -> float:
        """Over all groups; 0 where a side does not vary."""
        return float(correlations(self.sums.sum(axis=0)))

    @cached_property
    def left_out(self) -> np.ndarray:
        """``(G,)`` the value with each group left out."""
        return correlations(self.sums.sum(axis=0) - self.sums)

    def beats(self, other: Correlation) -> float:
        """How many jackknife standard errors the magnitude lies above another's on the same groups."""
        difference = abs(self.value) - abs(other.value)
        left = np.abs(self.left_out) - np.abs(other.left_out)
        error = jackknife_error(left) if left.size > 1 else abs(difference)
        return difference / max(error, 1e-6)


def jackknife_error(left_out: np.ndarray) -> float:
    """Standard error of a value from the values with each group left out; 0 for one group."""
    count = left_out.size
    return float(np.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum()))


def correlations(sums: np.ndarray) -> np.ndarray:
    """``(..., 3)`` sums of xy, xx, yy to correlations; 0 where a side does not vary."""
    scale = np.sqrt(np.maximum(sums[..., 1] * sums[..., 2], 0.0))
    r: np.ndarray = np.divide(sums[..., 0], scale, out=np.zeros(sums.shape[:-1]), where=scale > _TINY)
    return r


class Sample:
    """Some utterances of the pairs.

    Args:
        pairs: ``(p, y)`` of each, ``(T, M)`` both.
    """

    def __init__(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        self.lengths = np.array([p.shape[0] for p, _ in pairs])
        self.bounds = np.concatenate([[0], np.cumsum(self.lengths)])
        self.p = np.concatenate([p for p, _ in pairs]).astype(np.float32, copy=False)
        self.y = np.concatenate([y for _, y in pairs]).astype(np.float32, copy=False)
        self.owner = np.repeat(np.arange(len(pairs)), self.lengths)

    def __len__(self) -> int:
        return self.lengths.size

    @property
    def n_frames(self) -> int:
        """Frames N."""
        return int(self.bounds[-1])

    @property
    def n_mels(self) -> int:
        """Bins M."""
        return int(self.y.shape[1])

    def pairs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Views of the utterances."""
        return list(zip(self.cut(self.p), self.cut(self.y), strict=True))

    def cut(self, array: np.ndarray) -> list[np.ndarray]:
        """An ``(N, ...)`` array by utterance."""
        return [array[a:b] for a, b in zip(self.bounds[:-1], self.bounds[1:], strict=True)]

    def replaced(self, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Sample:
        """A sample with each utterance changed (frames may go)."""
        return Sample([pair for pair in (change(p, y) for p, y in self.pairs()) if pair[0].shape[0] > 1])

    @cached_property
    def starts(self) -> np.ndarray:
        """First frame of each jackknife group."""
        if len(self) >= 8:
            chosen = np.unique(np.linspace(0, len(self), min(_GROUPS, len(self)) + 1).astype(int)[:-1])
            return np.asarray(self.bounds[chosen])
        count = int(np.clip(self.n_frames // _BLOCK, 2, _GROUPS))
        return np.unique(np.linspace(0, self.n_frames, count + 1).astype(int)[:-1])

    def by_utterance(self, rows: np.ndarray) -> np.ndarray:
        """Sums over the frames of each utterance, ``(N, ...)`` to ``(U, ...)``."""
        return np.add.reduceat(rows, self.bounds[:-1], axis=0)

    def centre(self, array: np.ndarray) -> np.ndarray:
        """Each utterance's mean of each bin removed."""
        means = self.by_utterance(array.astype(np.float64)) / self.lengths[:, None]
        return np.asarray(array - means[self.owner], dtype=np.float32)

    @cached_property
    def yc(self) -> np.ndarray:
        """The target, centred."""
        return self.centre(self.y)

    @cached_property
    def pc(self) -> np.ndarray:
        """The prediction, centred."""
        return self.centre(self.p)

    @cached_property
    def spread(self) -> tuple[float, float, float]:
        """Sd of the centred prediction, of the centred target, and of the target."""
        return float(self.pc.std()), float(self.yc.std()), float(self.y.std())

    @property
    def floored(self) -> float:
        """Share of the target's values that stand at the lowest."""
        return float((self.y <= float(self.y.min()) + 1e-4 * float(self.y.std())).mean())

    def rows(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """``(N, 3)`` products of each frame: xy, xx, yy."""
        return np.stack([np.einsum("tm,tm->t", a, b, dtype=np.float64) for a, b in ((x, y), (x, x), (y, y))], axis=1)

    def correlation(self, x: np.ndarray, y: np.ndarray) -> Correlation:
        """Of two centred arrays."""
        return Correlation(np.add.reduceat(self.rows(x, y), self.starts, axis=0))

    def at_lag(self, x: np.ndarray, y: np.ndarray, lag: int) -> Correlation:
        """Of x at t + lag with y at t, within utterances."""
        if lag == 0:
            return self.correlation(x, y)
        rows = np.zeros((self.n_frames, 3))
        a, b = (x[lag:], y[:-lag]) if lag > 0 else (x[:lag], y[-lag:])
        products = self.rows(a, b)
        same = self.owner[abs(lag) :] == self.owner[: -abs(lag)]
        rows[abs(lag) :][same] = products[same]
        return Correlation(np.add.reduceat(rows, self.starts, axis=0))


def sounding(p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both without the digital silence before and after: frames in which all bins of the target stand at the guard.

    It is there in any unit and at any level: an offset of the audio does not move it, and what it is does not depend on
    the speech.
    """
    if y.shape[0] < 2:
        return p, y
    low = float(y.min())
    moving = np.flatnonzero((y > low + 1e-4 * float(y.std())).any(axis=1))
    if not moving.size:
        return p, y
    start, stop = int(moving[0]), int(moving[-1]) + 1
    return (p[start:stop], y[start:stop]) if stop - start > 1 else (p, y)


def whitened(array: np.ndarray) -> np.ndarray:
    """Centred frames with every bin at sd 1, so that bins of any unit count alike; dead bins stay 0."""
    sd = array.std(axis=0, dtype=np.float64)
    alive = sd > 1e-3 * max(float(np.median(sd)), _TINY)
    return np.asarray(array / np.where(alive, sd, 1.0) * alive, dtype=np.float32)
