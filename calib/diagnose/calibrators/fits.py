"""Global affine calibrators in closed form, and the exact error of any affine map on held-out units.

Everything here needs sums alone: one pass over the pairs, whatever the number of fits and folds. A *unit* is an
utterance, a block of one, or a speaker: what is held out together and what standard errors are made of.

Conventions:
    A map is ``target = slope * prediction + intercept``, in the units of the target. Row r of a map's arrays is fitted
    without fold r; the last row is fitted on everything. Sums are taken about fixed per-bin shifts, float64.

Two losses, both sums over units, so that any two fits can be compared in pairs:
    *mean-like*: the mean squared error, Murphy's ``(Δm)² + (s_p - s_y)² + 2 s_p s_y (1 - r)`` in each bin.
    *sample-like*: ``(Δm)² + (s_p - s_y)² + 2 s_y² (1 - r)``. In the squared error a sampler gains by shrinking, because
    s_p stands in the last term (least squares multiplies its spread by r); with s_y there the last term is the same for
    every scale, and the spread is judged against the target's alone. It is taken over each held-out fold; a unit's part
    in it is its influence (the derivative of the fold's loss), which sums to the loss exactly.

References:
    A. H. Murphy, Monthly Weather Review 116 (1988). A. E. Hoerl and R. W. Kennard, Technometrics 12 (1970), ridge.
    W. A. Fuller, Measurement Error Models (1987), Deming's slope. B. Efron, The Jackknife, the Bootstrap and Other
    Resampling Plans (1982), influence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.diagnose.moments import Moments

__all__ = [
    "Folds",
    "GroupedSums",
    "Maps",
    "SetStats",
    "constant",
    "deming",
    "divide",
    "least_squares",
    "moment_matching",
    "ridge",
    "sign",
]

P, Y, PP, YY, PY, N = range(6)  # rows of the sums
_FEW_LABELS = 32  # a product with an indicator matrix is faster up to there


@dataclass(frozen=True)
class GroupedSums:
    """Sums of each unit about fixed shifts.

    Args:
        sums: ``(U, 6, M)``: Σ(p-shift_p), Σ(y-shift_y), Σ(p-shift_p)², Σ(y-shift_y)², Σ(p-shift_p)(y-shift_y), count.
        shift_p: ``(M,)``.
        shift_y: ``(M,)``.
    """

    sums: np.ndarray
    shift_p: np.ndarray
    shift_y: np.ndarray

    @classmethod
    def of(cls, moments: Moments) -> GroupedSums:
        """Those of the moments that `analyze` gathers."""
        count = np.broadcast_to(moments.n[:, None, None], (len(moments), 1, moments.n_mels))
        return cls(np.concatenate([moments.sums, count], axis=1), moments.shift_p, moments.shift_y)

    def merged(self, label: np.ndarray, size: int) -> GroupedSums:
        """Units of one label added together, ``(U,)`` labels of 0..size-1; a label without units gets zeros."""
        count = self.sums.shape[0]
        if size <= _FEW_LABELS:
            picked = (label == np.arange(size)[:, None]).astype(np.float64)
            sums = (picked @ self.sums.reshape(count, -1)).reshape(size, *self.sums.shape[1:])
        else:
            order = np.argsort(label, kind="stable")
            labels, starts = np.unique(label[order], return_index=True)
            sums = np.zeros((size, *self.sums.shape[1:]))
            ordered = self.sums[order]
            sums[labels] = ordered if labels.size == count else np.add.reduceat(ordered, starts, axis=0)
        return GroupedSums(sums, self.shift_p, self.shift_y)


@dataclass(frozen=True)
class SetStats:
    """Population figures of some sets of units, by bin ``(R, M)`` and pooled ``(R, 1)``.

    Args:
        n: values by bin.
        mean_p: means by bin; those of y, variances and covariance alike.
        m_p: pooled mean over all values; ``var``, ``cov`` alike: about the pooled mean.
        within_p: variance about the bins' own means; ``within_y``, ``within_py`` alike.
    """

    n: np.ndarray
    mean_p: np.ndarray
    mean_y: np.ndarray
    var_p: np.ndarray
    var_y: np.ndarray
    cov: np.ndarray
    m_p: np.ndarray
    m_y: np.ndarray
    pooled_p: np.ndarray
    pooled_y: np.ndarray
    pooled_py: np.ndarray
    within_p: np.ndarray
    within_y: np.ndarray
    within_py: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, shift_p: np.ndarray, shift_y: np.ndarray) -> SetStats:
        """From summed rows ``(R, 6, M)``."""
        n = rows[:, N]
        mean = divide(rows[:, :5], n[:, None])
        dp, dy = mean[:, P], mean[:, Y]
        var_p, var_y = np.maximum(mean[:, PP] - dp * dp, 0.0), np.maximum(mean[:, YY] - dy * dy, 0.0)
        cov = mean[:, PY] - dp * dy
        mean_p, mean_y = shift_p + dp, shift_y + dy
        weight = n / n.sum(axis=1, keepdims=True)

        def average(values: np.ndarray) -> np.ndarray:
            return np.asarray((weight * values).sum(axis=1, keepdims=True))

        m_p, m_y = average(mean_p), average(mean_y)
        off_p, off_y = mean_p - m_p, mean_y - m_y
        within = average(var_p), average(var_y), average(cov)
        return cls(
            n, mean_p, mean_y, var_p, var_y, cov, m_p, m_y,
            within[0] + average(off_p * off_p), within[1] + average(off_y * off_y), within[2] + average(off_p * off_y),
            *within,
        )  # fmt: skip


@dataclass(frozen=True)
class Maps:
    """A fit of every fold, and on everything.

    Args:
        slope: ``(G + 1, 1)``, or ``(G + 1, M)`` by bin.
        intercept: the same.
        parameters: effective number of fitted values of the last row.
    """

    slope: np.ndarray
    intercept: np.ndarray
    parameters: float


class Folds:
    """Sums by unit with their folds: what fits are made from and scored on.

    Args:
        data: sums of the units.
        fold_of: ``(U,)``, fold of each unit, 0..G-1, each with a unit.

    Raises:
        ValueError: lengths differ, fewer than two folds, or a fold without values.
    """

    def __init__(self, data: GroupedSums, fold_of: np.ndarray) -> None:
        fold_of = np.asarray(fold_of, dtype=np.intp)
        if fold_of.shape != data.sums.shape[:1]:
            raise ValueError(f"{fold_of.shape} folds for {data.sums.shape[0]} units")
        self.n_folds = int(fold_of.max()) + 1
        self.data, self.fold_of = data, fold_of
        self.held_out = data.merged(fold_of, self.n_folds).sums  # (G, 6, M)
        self.n_unit = data.sums[:, N].sum(axis=1)  # values
        self.n_fold = self.held_out[:, N].sum(axis=1)
        if self.n_folds < 2 or not (self.n_fold > 0).all():
            raise ValueError(f"at least two folds with values are needed, these hold {self.n_fold.tolist()}")
        total = self.held_out.sum(axis=0)
        self.rows = np.concatenate([total - self.held_out, total[None]])  # training sums, the last on everything
        self.stats = SetStats.of(self.rows, data.shift_p, data.shift_y)

    @property
    def n_mels(self) -> int:
        """Bins M."""
        return int(self.data.sums.shape[2])

    def training(self, row: int) -> np.ndarray:
        """Sums ``(U', 6, M)`` of the units that a row is fitted on."""
        return self.data.sums if row == self.n_folds else self.data.sums[self.fold_of != row]

    def losses(self, maps: list[Maps], *, sample_like: bool) -> np.ndarray:
        """Parts of the held-out loss, ``(U, len(maps))``: summed over units and divided by the values, the loss.

        Args:
            maps: fits to score; each unit with the fit that has not seen its fold.
            sample_like: which loss (see the module).
        """
        out = np.zeros((self.fold_of.size, len(maps)))
        coefficients = np.stack(
            [self._sampler_coefficients(m) if sample_like else self._square_coefficients(m) for m in maps], axis=-1
        )  # (G, 6, M, Q)
        for fold in range(self.n_folds):
            units = self.fold_of == fold
            out[units] = self.data.sums[units].reshape(-1, 6 * self.n_mels) @ coefficients[fold].reshape(-1, len(maps))
        return out

    def _mapped(self, maps: Maps) -> tuple[np.ndarray, np.ndarray]:
        """Slope and intercept about the shifts, ``(G, M)``."""
        slope = np.broadcast_to(maps.slope[:-1], (self.n_folds, self.n_mels))
        return slope, maps.intercept[:-1] + slope * self.data.shift_p - self.data.shift_y

    def _square_coefficients(self, maps: Maps) -> np.ndarray:
        """What each sum is worth in the squared error, ``(G, 6, M)``."""
        a, c = self._mapped(maps)
        return np.stack([2 * a * c, -2 * c, a * a, np.ones_like(a), -2 * a, c * c], axis=1)

    def _sampler_coefficients(self, maps: Maps) -> np.ndarray:
        """The loss of a sampler and its derivative by each sum, at the fold's own sums."""
        a, c = self._mapped(maps)
        mean = divide(self.held_out[:, :5], self.held_out[:, N, None])
        dp, dy = mean[:, P], mean[:, Y]
        var_p, var_y = np.maximum(mean[:, PP] - dp * dp, 0.0), np.maximum(mean[:, YY] - dy * dy, 0.0)
        cov = (mean[:, PY] - dp * dy) * np.sign(a)
        s_p, s_y, size = np.sqrt(var_p), np.sqrt(var_y), np.abs(a)
        delta = a * dp + c - dy
        loss = delta**2 + (size * s_p - s_y) ** 2 + 2 * var_y - 2 * divide(s_y * cov, s_p)
        by_var_p = a * a - size * divide(s_y, s_p) + divide(s_y * cov, s_p**3)
        by_var_y = 3.0 - size * divide(s_p, s_y) - divide(cov, s_p * s_y)
        by_cov = -2 * np.sign(a) * divide(s_y, s_p)
        gradient = np.stack(
            [
                2 * a * delta - 2 * by_var_p * dp - by_cov * dy,
                -2 * delta - 2 * by_var_y * dy - by_cov * dp,
                by_var_p,
                by_var_y,
                by_cov,
            ],
            axis=1,
        )
        return np.concatenate([gradient, (loss - (gradient * mean).sum(axis=1))[:, None]], axis=1)


# --- global maps ----------------------------------------------------------------------------------------------------


def constant(folds: Folds, slope: float | np.ndarray, intercept: float | np.ndarray | None) -> Maps:
    """A known slope, with a known intercept or (None) the one that meets the means.

    Args:
        folds: sums.
        slope: one, or one a row ``(G + 1, 1)``.
        intercept: the same, or None.
    """
    s = folds.stats
    a = np.broadcast_to(np.asarray(slope, dtype=np.float64), s.m_p.shape)
    b = s.m_y - a * s.m_p if intercept is None else np.broadcast_to(np.asarray(intercept, dtype=np.float64), a.shape)
    return Maps(a, b, 0.0 if intercept is not None else 1.0)


def _through_means(s: SetStats, slope: np.ndarray, parameters: float = 2.0) -> Maps:
    return Maps(slope, s.m_y - slope * s.m_p, parameters)


def least_squares(folds: Folds) -> Maps:
    """Ordinary least squares over all values: slope cov / var_p, 0 for a constant prediction."""
    s = folds.stats
    return _through_means(s, divide(s.pooled_py, s.pooled_p))


def moment_matching(folds: Folds) -> Maps:
    """Equal mean and sd: slope s_y / s_p with the sign of the covariance."""
    s = folds.stats
    return _through_means(s, sign(s.pooled_py) * np.sqrt(divide(s.pooled_y, s.pooled_p)))


def deming(folds: Folds, error_ratio: float) -> Maps:
    """Errors in both variables.

    Args:
        folds: sums.
        error_ratio: error variance of the target over that of the prediction, in their own units.

    Raises:
        ValueError: the ratio is not positive.
    """
    if not error_ratio > 0:
        raise ValueError(f"the error-variance ratio must be positive, got {error_ratio}")
    s = folds.stats
    gap = s.pooled_y - error_ratio * s.pooled_p
    root = np.sqrt(gap**2 + 4 * error_ratio * s.pooled_py**2)
    # Two forms of one root; each is free of cancellation on its side.
    slope = np.where(gap >= 0, divide(gap + root, 2 * s.pooled_py), divide(2 * error_ratio * s.pooled_py, root - gap))
    return _through_means(s, slope)


_RIDGE_GRID = np.array([0.0, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0])


def ridge(folds: Folds) -> tuple[Maps, float]:
    """Least squares with a penalty on the slope: cov / (var_p + penalty), the intercept free.

    The penalty of every row is chosen on the folds that the row may see, held out in turn, by squared error.

    Returns:
        The maps, and the penalty of the last row in multiples of the prediction's variance (scikit-learn's
        ``alpha`` is that times n times the variance).

    Raises:
        ValueError: fewer than three folds (a row must leave one out of at least two).
    """
    count = folds.n_folds
    if count < 3:
        raise ValueError(f"three folds are needed to choose a penalty, there are {count}")
    chosen = np.zeros((count + 1, 1))
    for row in range(count + 1):
        inner = [fold for fold in range(count) if fold != row]
        held_out = folds.held_out[inner]
        visible = folds.rows[row] - held_out
        s = SetStats.of(visible, folds.data.shift_p, folds.data.shift_y)
        slope = divide(s.pooled_py, s.pooled_p) / (1.0 + _RIDGE_GRID)  # (inner, L)
        intercept = s.m_y - slope * s.m_p
        c = intercept[..., None] + slope[..., None] * folds.data.shift_p - folds.data.shift_y  # (inner, L, M)
        own = {name: held_out[:, name, None] for name in range(6)}
        a = slope[..., None]
        error = (
            a * a * own[PP] + own[YY] - 2 * a * own[PY] + 2 * a * c * own[P] - 2 * c * own[Y] + c * c * own[N]
        ).sum(axis=(0, 2))
        chosen[row] = _RIDGE_GRID[int(error.argmin())]
    s = folds.stats
    slope = divide(s.pooled_py, s.pooled_p) / (1.0 + chosen)
    return _through_means(s, slope, 1.0 + 1.0 / (1.0 + float(chosen[-1, 0]))), float(chosen[-1, 0])


def sign(values: np.ndarray) -> np.ndarray:
    """-1 for negative values, else 1."""
    return np.where(values < 0, -1.0, 1.0)


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a / b``, and 0 where b is 0."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return np.asarray(np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=b != 0))
