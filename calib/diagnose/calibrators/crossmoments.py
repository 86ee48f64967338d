"""A ridge from all bins to all bins: not a calibration, but it shows that a filterbank, and no scale, differs.

The sums are gathered while the pairs are read, by fold, in ``O(M²)`` memory. An M×M map in the log domain repairs a change
of bank to 0.07 - 0.25 ln where a map by bin leaves 0.5 - 0.9 (``research/frontends.md`` (b) of this project's notes).

References:
    A. E. Hoerl and R. W. Kennard, Technometrics 12 (1970).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["CrossMoments", "MatrixFit"]

# Of the mean variance of a bin of the prediction.
_PENALTIES = np.array([1e-5, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0])


class MatrixFit(NamedTuple):
    """``target = prediction @ weights + bias``.

    Args:
        weights: ``(M, M)``.
        bias: ``(M,)``.
        penalty: in multiples of the mean variance of the prediction's bins.
        parameters: effective number.
        errors: squared error of each held-out fold, summed over values, ``(G,)``.
    """

    weights: np.ndarray
    bias: np.ndarray
    penalty: float
    parameters: float
    errors: np.ndarray


class CrossMoments:
    """Sums of products of every bin with every bin, about fixed shifts, for each fold.

    Args:
        folds: how many.
        shift_p: about the prediction's bin means, ``(M,)``.
        shift_y: about the target's.
    """

    def __init__(self, folds: int, shift_p: np.ndarray, shift_y: np.ndarray) -> None:
        m = shift_p.size
        self.shift_p, self.shift_y = shift_p, shift_y
        self.n = np.zeros(folds)
        self.p, self.y, self.yy = (np.zeros((folds, m)) for _ in range(3))
        self.pp, self.py = np.zeros((folds, m, m)), np.zeros((folds, m, m))

    def add(self, p: np.ndarray, y: np.ndarray, fold: int) -> None:
        """The frames of one unit, ``(T, M)`` both."""
        a, b = p - self.shift_p, y - self.shift_y
        self.n[fold] += p.shape[0]
        self.p[fold] += a.sum(axis=0)
        self.y[fold] += b.sum(axis=0)
        self.yy[fold] += np.einsum("tm,tm->m", b, b)
        self.pp[fold] += a.T @ a
        self.py[fold] += a.T @ b

    def fit(self) -> MatrixFit:
        """Ridge with an unpenalised bias; the penalty of every fit chosen on the folds that it may see.

        Raises:
            ValueError: fewer than three folds with frames, or fewer training frames than bins.
        """
        count, m = self.n.size, self.shift_p.size
        if count < 3 or not (self.n > 0).all():
            raise ValueError(f"three folds with frames are needed, these hold {self.n.tolist()}")
        if self.n.sum() - self.n.max() <= m:
            raise ValueError(f"{self.n.sum():.0f} frames are too few for a map between {m} bins")
        everything = list(range(count))
        errors = np.zeros(count)
        for held_out in everything:
            seen = [fold for fold in everything if fold != held_out]
            errors[held_out] = self._error(held_out, self._solve(seen, [self._penalty(seen)])[0])
        penalty = self._penalty(everything)
        (weights, bias), freedom = self._solve(everything, [penalty])[0], self._freedom(penalty)
        return MatrixFit(weights, bias + self.shift_y - self.shift_p @ weights, penalty, freedom, errors)

    def variance_within(self, fit: MatrixFit) -> float:
        """Mean over bins of the variance of what the fit makes of the prediction."""
        pp = self._centred(list(range(self.n.size)))[0]
        return float((fit.weights * (pp @ fit.weights)).sum()) / self.shift_p.size

    def _penalty(self, seen: list[int]) -> float:
        errors = np.zeros(_PENALTIES.size)
        for held_out in seen:
            solved = self._solve([fold for fold in seen if fold != held_out], _PENALTIES.tolist())
            errors += [self._error(held_out, one) for one in solved]
        return float(_PENALTIES[int(errors.argmin())])

    def _centred(self, folds: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        n = self.n[folds].sum()
        mean_p, mean_y = self.p[folds].sum(axis=0) / n, self.y[folds].sum(axis=0) / n
        pp = self.pp[folds].sum(axis=0) / n - np.outer(mean_p, mean_p)
        py = self.py[folds].sum(axis=0) / n - np.outer(mean_p, mean_y)
        return pp, py, mean_p, mean_y

    def _solve(self, folds: list[int], penalties: list[float]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights and bias about the shifts, one for each penalty: one eigendecomposition gives the whole path."""
        pp, py, mean_p, mean_y = self._centred(folds)
        values, vectors = np.linalg.eigh(pp)
        values = np.maximum(values, 0.0)
        turned, size = vectors.T @ py, float(values.mean()) or 1.0
        out = []
        for penalty in penalties:
            weights = vectors @ (turned / (values + penalty * size)[:, None])
            out.append((weights, mean_y - mean_p @ weights))
        return out

    def _error(self, fold: int, solved: tuple[np.ndarray, np.ndarray]) -> float:
        """Squared error on a fold, from its sums."""
        weights, bias = solved
        quadratic = float((weights * (self.pp[fold] @ weights)).sum()) + float(self.yy[fold].sum())
        linear = -2 * float((weights * self.py[fold]).sum()) + 2 * float((self.p[fold] @ weights - self.y[fold]) @ bias)
        return float(max(quadratic + linear + float(self.n[fold]) * float(bias @ bias), 0.0))

    def _freedom(self, penalty: float) -> float:
        """Trace of the hat matrix for one target bin, and its bias, for all of them."""
        values = np.maximum(np.linalg.eigvalsh(self._centred(list(range(self.n.size)))[0]), 0.0)
        size = float(values.mean()) or 1.0
        return float((values / (values + penalty * size)).sum() + 1.0) * values.size
