"""Sums, histograms and digests whose result does not depend on the order, the grouping or the process they came in.

Floating-point addition is not associative: merging the same float64 sums in random orders gives many results. Here a
per-utterance float64 sum is rounded once to a multiple of 2^-64 and kept as a Python integer; integer addition is
exact, so any order, any number of workers and any interruption give the same bytes, in constant memory.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["DyadicHistogram", "ExactSum", "MultisetDigest", "Numerators", "moments"]

_QUANTUM_BITS = 64
_ONE = 1 << _QUANTUM_BITS
_LIMB = 32  # bits
_MOST = 2.0**40  # what is larger is added up number by number
_to_int = np.frompyfunc(int, 1, 1)


class Numerators:
    """Float64 numbers as multiples of 2^-64: each rounded once, then added as integers.

    Args:
        rows: finite numbers ``(K, size)``, K below 2^20.

    Raises:
        ValueError: a number is not finite.
    """

    def __init__(self, rows: np.ndarray) -> None:
        largest = float(np.abs(rows).max(initial=0.0))
        if not math.isfinite(largest):
            raise ValueError("an exact sum takes finite numbers only")
        scaled = np.rint(np.ldexp(rows, _QUANTUM_BITS))
        if largest >= _MOST:
            self._limbs = [_to_int(scaled)]
            return
        # Towards zero, so that every part is exact and has the sign of the whole.
        high = np.trunc(np.ldexp(scaled, -2 * _LIMB))
        rest = scaled - np.ldexp(high, 2 * _LIMB)
        middle = np.trunc(np.ldexp(rest, -_LIMB))
        low = rest - np.ldexp(middle, _LIMB)
        self._limbs = [part.astype(np.int64) for part in (low, middle, high)]

    def total(self, rows: Sequence[int] | None = None) -> list[int]:
        """The sum over all rows, or over some, for each of ``size``; exact."""
        limbs = (
            self._limbs if rows is None or len(rows) == len(self._limbs[0]) else [part[rows] for part in self._limbs]
        )
        sums = [part.sum(axis=0).tolist() for part in limbs]
        return [sum(value << (_LIMB * k) for k, value in enumerate(column)) for column in zip(*sums, strict=True)]


class ExactSum:
    """An exact sum of float64 vectors of one length.

    Args:
        size: length of the vectors.
        start: `numerators` to begin with; default: zeros.

    Raises:
        ValueError: `add` was given a non-finite number.

    Example:
        >>> total = ExactSum(1)
        >>> for value in (1e16, 1.0, -1e16): total.add(np.array([value]))
        >>> total.values()
        [1.0]
    """

    def __init__(self, size: int, start: Sequence[int] | None = None) -> None:
        self._total = [0] * size if start is None else list(start)

    def add(self, values: np.ndarray) -> None:
        """Add a float64 vector."""
        self.add_numerators(Numerators(values[None]).total())

    def add_numerators(self, numerators: Sequence[int]) -> None:
        """Add multiples of 2^-64."""
        self._total = [a + b for a, b in zip(self._total, numerators, strict=True)]

    def merge(self, other: ExactSum) -> None:
        """Add another exact sum."""
        self.add_numerators(other._total)

    def values(self) -> list[float]:
        """The sums, each rounded once to float64."""
        return [total / _ONE for total in self._total]

    def numerators(self) -> list[int]:
        """The sums times 2^64, exactly."""
        return list(self._total)


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
    def of(cls, values: np.ndarray, lowest: float | None = None, highest: float | None = None) -> DyadicHistogram:
        """Histogram of finite float32 values of any shape, whose extremes may be known already."""
        out = cls()
        if values.size == 0:
            return out
        lowest = float(values.min()) if lowest is None else lowest
        highest = float(values.max()) if highest is None else highest
        while math.floor(math.ldexp(highest, out.level)) - math.floor(math.ldexp(lowest, out.level)) >= out.max_bins:
            out.level -= 1
        out.start = math.floor(math.ldexp(lowest, out.level))
        # Scaling up by a power of two is exact, and whole numbers below 2^24 and their differences are, in float32 too.
        largest = max(-out.start, math.ldexp(highest, out.level))
        exact = values.dtype == np.float32 and out.level >= 0 and largest < 1 << 23
        keys = np.multiply(values.ravel(), math.ldexp(1.0, out.level), dtype=np.float32 if exact else np.float64)
        np.floor(keys, out=keys)
        keys -= out.start
        out.counts = np.bincount(keys.astype(np.intp)).astype(np.int64, copy=False)
        return out

    def merge(self, other: DyadicHistogram) -> None:
        """Add another histogram's counts."""
        if other.counts.size == 0:
            return
        if self.counts.size == 0:
            self.level, self.start, self.counts = other.level, other.start, other.counts.copy()
            return
        if self.level == other.level and 0 <= other.start - self.start <= self.counts.size - other.counts.size:
            self.counts[other.start - self.start :][: other.counts.size] += other.counts
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
    """A digest of a multiset of byte strings, whatever their order: SHA-256s added modulo 2^256.

    Args:
        state: of another one, to go on from.
    """

    def __init__(self, state: tuple[int, int] = (0, 0)) -> None:
        self._total, self._count = state

    @property
    def state(self) -> tuple[int, int]:
        """The sum of the hashes, and how many they are."""
        return self._total, self._count

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
