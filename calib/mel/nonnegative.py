"""Non-negative spectra behind filterbank outputs: multiplicative updates for the Kullback-Leibler divergence.

What Griffin-Lim and conversions share. Banks have rows of unit sum: all mel bins then have about one scale, whatever
the filters' norm and width.

References:
    1. D. Lee & H. S. Seung, "Algorithms for non-negative matrix factorization", NIPS 2000, theorem 2, with the bank
       fixed.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

__all__ = ["TINY", "Bank", "DenseBank", "at_most_one", "unit_rows", "update"]

# Numbers below this, relative to the largest of 1, are rounding of float32.
TINY = np.float32(1e-12)


def unit_rows(bank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(M, K)`` filters to the same with rows of unit sum, float64, and the sums ``(M,)`` (1 for an empty filter)."""
    bank = bank.astype(np.float64)
    sums = np.where(bank.sum(1) > 0, bank.sum(1), 1.0)
    return bank / sums[:, None], sums


def at_most_one(bands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(T, M)`` outputs with maximum 1 in each frame, and those maxima ``(T, 1)``.

    The updates have no scale: so, quiet frames keep all their digits.
    """
    loudest = bands.max(1, keepdims=True)
    return np.divide(bands, loudest, out=np.zeros_like(bands), where=loudest > 0), loudest


class Bank(Protocol):
    """A filterbank ``(M, K)`` as the two products that are taken with it; how it is stored is its own affair."""

    def bands(self, spectra: np.ndarray) -> np.ndarray:
        """``spectra @ bank.T``: ``(T, K)`` to ``(T, M)``."""
        ...

    def spectra(self, bands: np.ndarray) -> np.ndarray:
        """``bands @ bank``: ``(T, M)`` to ``(T, K)``."""
        ...


class DenseBank:
    """A filterbank that is multiplied as it is.

    Args:
        bank: ``(M, K)``.
    """

    def __init__(self, bank: np.ndarray) -> None:
        self._bank = np.ascontiguousarray(bank)

    def bands(self, spectra: np.ndarray) -> np.ndarray:
        """See `Bank`."""
        return np.asarray(spectra @ self._bank.T)

    def spectra(self, bands: np.ndarray) -> np.ndarray:
        """See `Bank`."""
        return np.asarray(bands @ self._bank)


def update(spectra: np.ndarray, bands: np.ndarray, bank: Bank, weights: np.ndarray) -> np.ndarray:
    """One update: each FFT bin times the mean, over the filters that see it, of wanted / present.

    Args:
        spectra: ``(T, K)``.
        bands: wanted outputs ``(T, M)``.
        bank: ``(M, K)``, rows of unit sum.
        weights: 1 / column sums ``(K,)``, 0 where no filter reaches; of the dtype of the others.
    """
    raised = bank.spectra(bands / np.maximum(bank.bands(spectra), TINY))
    raised *= weights
    raised *= spectra
    return raised
