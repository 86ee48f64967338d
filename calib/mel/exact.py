"""Sums, histograms and digests whose result does not depend on the order, the grouping or the process they came in.

Floating-point addition is not associative: merging the same float64 sums in random orders gives many results. Here a
per-utterance float64 sum is rounded once to a multiple of 2^-64 and kept as a Python integer; integer addition is
exact, so any order, any number of workers and any interruption give the same bytes, in constant memory.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np

__all__ = ["DyadicHistogram", "ExactSum", "MultisetDigest"]

_QUANTUM_BITS = 64
_ONE = 1 << _QUANTUM_BITS
_to_int = np.frompyfunc(int, 1, 1)


class ExactSum:
    """An exact sum of float64 vectors of one length.

    Args:
        size: length of the vectors.

    Raises:
        ValueError: `add` was given a non-finite number.

    Example:
        >>> total = ExactSum(1)
        >>> for value in (1e16, 1.0, -1e16): total.add(np.array([value]))
        >>> total.values()
        [1.0]
    """

    def __init__(self, size: int) -> None:
        self._total = np.zeros(size, dtype=object)

    def add(self, values: np.ndarray) -> None:
        """Add a float64 vector."""
        if not np.isfinite(values).all():
            raise ValueError("an exact sum takes finite numbers only")
        self._total = self._total + _to_int(np.rint(np.ldexp(values, _QUANTUM_BITS)))

    def merge(self, other: ExactSum) -> None:
        """Add another exact sum."""
        self._total = self._total + other._total

    def values(self) -> list[float]:
        """The sums, each rounded once to float64."""
        return [int(total) / _ONE for total in self._total]

    def numerators(self) -> list[int]:
        """The sums times 2^64, exactly."""
        return [int(total) for total in self._total]


def moments(n: int, s1: int, s2: int) -> tuple[float, float]:
    """Mean and population standard deviation from a count and the numerators of Σx and Σx².

    The variance is formed in integers, ``(n Σx² - (Σx)²) / n²``, so nothing cancels and it cannot go negative by more
    than the rounding of the sums themselves.
    """
    mean = s1 / (n * _ONE)
    variance = (n * (s2 << _QUANTUM_BITS) - s1 * s1) / (n * n * _ONE * _ONE)
    return mean, math.sqrt(max(variance, 0.0))


@dataclass
class DyadicHistogram:
    """Counts in bins of width 2^-level that start at multiples of their width.

    The width doubles whenever the range would need more than ``max_bins`` bins. Because finer bins nest in coarser
    ones, the final histogram depends on the values only, not on when it was widened.

    Args:
        level: bins are 2^-level wide.
        start: index of the first bin (its lower edge is ``start * 2^-level``).
        counts: int64 counts.
        max_bins: how many bins at most.
    """

    level: int = 8
    start: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    max_bins: int = 1 << 16

    @classmethod
    def of(cls, values: np.ndarray) -> DyadicHistogram:
        """Histogram of finite float32 values of any shape."""
        out = cls()
        if values.size == 0:
            return out
        lowest, highest = float(values.min()), float(values.max())
        while math.floor(math.ldexp(highest, out.level)) - math.floor(math.ldexp(lowest, out.level)) >= out.max_bins:
            out.level -= 1
        out.start = math.floor(math.ldexp(lowest, out.level))
        # float64: a power-of-two scaling is exact, the subtraction of an integer nearly so.
        keys = np.floor(np.ldexp(values.ravel().astype(np.float64), out.level)) - out.start
        out.counts = np.bincount(keys.astype(np.intp)).astype(np.int64)
        return out

    def merge(self, other: DyadicHistogram) -> None:
        """Add another histogram's counts."""
        if other.counts.size == 0:
            return
        if self.counts.size == 0:
            self.level, self.start, self.counts = other.level, other.start, other.counts.copy()
            return
        level = min(self.level, other.level)
        while True:
            mine, theirs = self._at(level), other._at(level)
            start = min(mine[0], theirs[0])
            stop = max(mine[0] + mine[1].size, theirs[0] + theirs[1].size)
            if stop - start <= self.max_bins:
                break
            level -= 1
        counts = np.zeros(stop - start, dtype=np.int64)
        for first, part in (mine, theirs):
            counts[first - start : first - start + part.size] += part
        self.level, self.start, self.counts = level, start, counts

    def _at(self, level: int) -> tuple[int, np.ndarray]:
        shift = self.level - level
        if shift == 0:
            return self.start, self.counts
        start = self.start >> shift
        # Bins before the first coarse edge, then whole coarse bins: no index is formed that an int64 could not hold.
        size = self.counts.size
        first = min((1 << shift) - self.start % (1 << shift), size)
        keys = np.zeros(size, dtype=np.intp)
        keys[first:] = 1 + (np.arange(size - first) >> min(shift, 62))
        out = np.zeros(int(keys[-1]) + 1, dtype=np.int64)
        np.add.at(out, keys, self.counts)
        return start, out

    @property
    def width(self) -> float:
        """Bin width."""
        return math.ldexp(1.0, -self.level)

    def quantile(self, q: float) -> float:
        """The value below which a share ``q`` of the mass lies, linear within a bin: exact to one `width`."""
        cumulative = np.cumsum(self.counts)
        target = q * float(cumulative[-1])
        index = int(np.searchsorted(cumulative, target, side="left"))
        before = float(cumulative[index - 1]) if index else 0.0
        inside = (target - before) / max(float(self.counts[index]), 1.0)
        return (self.start + index + inside) * self.width


class MultisetDigest:
    """A digest of a multiset of byte strings, whatever their order: SHA-256s added modulo 2^256."""

    def __init__(self) -> None:
        self._total = 0
        self._count = 0

    def add(self, data: bytes) -> None:
        """Add one element."""
        self._total = (self._total + int.from_bytes(hashlib.sha256(data).digest(), "big")) % (1 << 256)
        self._count += 1

    def merge(self, other: MultisetDigest) -> None:
        """Add another multiset."""
        self._total = (self._total + other._total) % (1 << 256)
        self._count += other._count

    def hexdigest(self) -> str:
        """Sixteen hexadecimal digits."""
        return hashlib.sha256(f"{self._count}:{self._total:x}".encode()).hexdigest()[:16]
