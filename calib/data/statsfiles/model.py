"""``MelStatistics``: what a statistics file of any system says, checked.

Conventions:
    Arrays are float64 ``(M,)``, in the unit of the mels that were measured (a file rarely says which). A normalised mel
    is ``(x - mean) / std`` (``standard``) or ``x / std`` (``divide``: Tortoise and XTTS, whose divisors are negative).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from calib.errors import DataError

__all__ = ["NEGATIVE_VARIANCE", "Kind", "MelStatistics", "Moments", "checked_bins", "checked_scalars", "from_sums"]

NEGATIVE_VARIANCE = "the root of a negative variance: float32 sums cancelled when the file was made; measure again, for example with calib stats"

Kind = Literal["standard", "divide"]
Moments = tuple[np.ndarray, np.ndarray]

# A bank of one or two bins is a row of something else; so are thousands (a linear spectrum has up to 2049).
_FEWEST_BINS, _MOST_BINS = 3, 1024
# The sum of squares of a year of frames stays far below; the square of what is larger may overflow.
_LARGEST = 1e100


@dataclass(frozen=True)
class MelStatistics:
    """Mean and standard deviation of mels, as a file holds them.

    Args:
        mean: float64 ``(M,)`` where the system normalises by bin, a float where it has one mean; zeros for ``divide``.
        std: standard deviations, of the same kind and size; the divisors for ``divide``.
        format: name of the format, a key of `FORMATS`.
        kind: ``standard`` or ``divide``.
        bins: per-bin means and standard deviations where the file has them *beside* its global values (calib's own).
        per_speaker: speaker to (means, standard deviations), where the file has them.
        n_frames: frames measured, where the file says.
        notes: what else the file says, one sentence each.
        doubts: why its numbers may be wrong, one sentence each.
        path: the file as given.
        content: the whole file where it is calib's own JSON, else empty.
    """

    mean: np.ndarray | float
    std: np.ndarray | float
    format: str
    kind: Kind = "standard"
    bins: Moments | None = None
    per_speaker: Mapping[str, Moments] = field(default_factory=dict)
    n_frames: int | None = None
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    path: str = ""
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def by_bin(self) -> bool:
        """Whether the system normalises each bin by its own values."""
        return isinstance(self.mean, np.ndarray)

    @property
    def n_mels(self) -> int | None:
        """Bins M; None where there are only global values."""
        if isinstance(self.mean, np.ndarray):
            return int(self.mean.size)
        return None if self.bins is None else int(self.bins[0].size)

    def overall(self) -> tuple[float, float]:
        """Mean and sd over all bins and frames; exact, because every bin has the same number of frames.

        Raises:
            DataError: divisors alone say neither.
        """
        if self.kind == "divide":
            raise DataError(
                f"{self.path}: holds divisors by bin ({self.format}), which say neither mean nor standard deviation",
                hint="use them as part of a front end, for example --frontend xtts_dvae@FILE; measure your data with calib stats",
            )
        if isinstance(self.mean, np.ndarray) and isinstance(self.std, np.ndarray):
            mean = float(self.mean.mean())
            return mean, float(np.sqrt((self.std**2).mean() + ((self.mean - mean) ** 2).mean()))
        return float(self.mean), float(self.std)

    def describe(self) -> str:
        """One line: what was recognised."""
        from calib.data.statsfiles.formats import FORMATS

        title = FORMATS[self.format].title
        if self.kind == "divide":
            return f"{self.path}: {title}: {self.n_mels} divisors, {np.min(self.std):.4g} to {np.max(self.std):.4g}"
        mean, std = self.overall()
        size = f"{self.n_mels} bins, each by its own values" if self.by_bin else "one mean and sd for all bins"
        counted = "" if self.n_frames is None else f", {self.n_frames} frames"
        return f"{self.path}: {title}: {size}{counted}; overall mean {mean:.4f}, sd {std:.4f} in the unit of its mels"


def checked_bins(mean: Any, std: Any, path: str, *, kind: Kind = "standard") -> Moments:
    """Per-bin values as float64 ``(M,)``.

    Raises:
        DataError: shapes that do not fit, values that are not finite, an sd that is not positive, a divisor of 0 or 1
            throughout.
    """
    pair = []
    for name, values in (("mean", mean), ("standard deviation" if kind == "standard" else "divisor", std)):
        array = np.asarray(values)
        if array.dtype.kind not in "fiu":
            raise DataError(f"{path}: the {name}s are of type {array.dtype}, not numbers")
        if array.size != max(array.shape, default=1):
            raise DataError(f"{path}: the {name}s have shape {array.shape}; one value a mel bin is needed, (M,)")
        flat = array.astype(np.float64).reshape(-1)
        if not _FEWEST_BINS <= flat.size <= _MOST_BINS:
            raise DataError(f"{path}: {flat.size} {name}s; a mel has {_FEWEST_BINS} to {_MOST_BINS} bins")
        _finite(flat, name, path)
        pair.append(flat)
    if pair[0].size != pair[1].size:
        raise DataError(f"{path}: {pair[0].size} means but {pair[1].size} standard deviations")
    mean, std = pair
    if kind == "standard" and np.any(std <= 0):
        index = int(np.argmin(std))
        raise DataError(
            f"{path}: the standard deviation of bin {index} is {std[index]:g}; it must be positive",
            hint="a bin that never changes (above the audio's band, or padding that was measured) cannot be divided by",
        )
    if kind == "divide" and np.any(std == 0):
        raise DataError(f"{path}: the divisor of bin {int(np.argmin(np.abs(std)))} is 0")
    if kind == "divide" and np.all(std == 1):
        raise DataError(
            f"{path}: all {std.size} divisors are 1: the placeholder that XTTS holds until a checkpoint is loaded",
            hint="take mel_stats.pth or mel_norms.pth of the model",
        )
    return mean, std


def checked_scalars(mean: Any, std: Any, path: str) -> tuple[float, float]:
    """One mean and one sd.

    Raises:
        DataError: not finite, or an sd that is not positive.
    """
    values = []
    for name, value in (("mean", mean), ("standard deviation", std)):
        array = np.asarray(value)
        if array.dtype.kind not in "fiu" or array.size != 1:
            raise DataError(f"{path}: the {name} must be one number, got {value!r:.80}")
        _finite(array.astype(np.float64).reshape(-1), name, path)
        values.append(float(array.reshape(-1)[0]))
    if values[1] <= 0:
        raise DataError(f"{path}: the standard deviation is {values[1]:g}; it must be positive")
    return values[0], values[1]


def _finite(values: np.ndarray, name: str, path: str) -> None:
    bad = np.flatnonzero(~(np.abs(values) < _LARGEST))  # NaN too
    if not bad.size:
        return
    first = int(bad[0])
    of = f" of bin {first}" if values.size > 1 else ""
    more = f" ({bad.size} such bins)" if bad.size > 1 else ""
    nan_sd = np.isnan(values[first]) and name == "standard deviation"
    raise DataError(
        f"{path}: the {name}{of} is {values[first]}{more}",
        # Coqui and Matcha take the root of E[x²] - E[x]² from float32 sums, which can be below zero.
        hint=NEGATIVE_VARIANCE if nan_sd else None,
    )


def from_sums(
    count: Any, total: Any, squares: Any, path: str, *, single: bool = False
) -> tuple[np.ndarray, np.ndarray, int, tuple[str, ...]]:
    """Means and sds from a count, sums and sums of squares.

    Args:
        count: frames.
        total: sums by bin.
        squares: sums of squares by bin.
        path: for messages.
        single: the file held them as float32; so it is, too, where they come as such.

    Returns:
        means ``(M,)``, sds ``(M,)``, frames, doubts.

    Raises:
        DataError: a count that is not at least 1, sums that are not finite, a variance that is not positive.
    """
    number = np.asarray(count)
    if (
        number.dtype.kind not in "fiu"
        or number.size != 1
        or not np.isfinite(number).all()
        or float(number.reshape(())) < 1
    ):
        raise DataError(f"{path}: the frame count is {np.array2string(number, threshold=4)}; it must be at least 1")
    n = float(number.reshape(()))
    single |= np.float32 in {np.asarray(total).dtype.type, np.asarray(squares).dtype.type}
    sums = []
    for name, values in (("sum", total), ("sum of squares", squares)):
        array = np.asarray(values)
        if array.dtype.kind not in "fiu" or array.size != max(array.shape, default=1):
            raise DataError(
                f"{path}: the {name} has shape {array.shape} and type {array.dtype}; numbers (M,) are needed"
            )
        flat = array.astype(np.float64).reshape(-1)
        _finite(flat, name, path)
        sums.append(flat)
    if sums[0].size != sums[1].size:
        raise DataError(f"{path}: {sums[0].size} sums but {sums[1].size} sums of squares")
    mean, second = sums[0] / n, sums[1] / n
    variance = second - mean**2
    # What float64 sums leave of a constant bin is rounding, not variance.
    rounding = 64 * np.finfo(np.float64).eps * second
    worst = int(np.argmin(variance))
    if variance[worst] < -rounding[worst]:
        raise DataError(
            f"{path}: the variance of bin {worst} is {variance[worst]:g}, below zero: the sums were too coarse (float32) for E[x²] - E[x]²",
            hint="measure again, for example with calib stats",
        )
    if np.any(variance <= rounding):
        raise DataError(
            f"{path}: bin {worst} has the variance {max(variance[worst], 0.0):g}; a bin that never changes cannot be divided by"
        )
    mean, std = checked_bins(mean, np.sqrt(variance), path)
    doubts: tuple[str, ...] = ()
    if single:
        error = np.finfo(np.float32).eps * second / variance
        if error.max() > 0.01:
            k = int(np.argmax(error))
            doubts = (f"float32 sums: the variance of bin {k} is sure to {error[k]:.1%} only",)
    return mean, std, round(n), doubts
