"""Moments of prediction against target with the compiled kernel: one pass over memory, float64 sums."""

from __future__ import annotations

import numpy as np

from calib.native.library import chosen, opened

__all__ = ["pair_moments"]


def pair_moments(p: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """Per-bin means and centred second moments of two ``(T, M)`` arrays.

    Returns:
        float64 ``(5, M)``: means of ``p`` and ``y``, sums of ``(p - mean)^2``, ``(y - mean)^2`` and their product. NaN
        and infinity spread into their own bins, as in numpy. None where the kernel is not there or not for these arrays
        (not float32, bins not side by side, no frame): the pure path does them.

    Raises:
        UsageError: ``CALIB_NATIVE`` names what is not there.
    """
    variant = chosen()
    if variant is None or not (_fits(p) and _fits(y)) or p.shape != y.shape:
        return None
    frames, bins = p.shape
    out = np.empty((5, bins))
    opened(variant).calib_pair_moments(
        p.ctypes.data, y.ctypes.data, frames, bins, p.strides[0] // 4, y.strides[0] // 4, out.ctypes.data
    )
    return out


def _fits(array: np.ndarray) -> bool:
    return (
        array.dtype == np.float32
        and array.ndim == 2
        and array.size > 0
        and array.strides[1] == 4
        and array.strides[0] % 4 == 0
        and bool(array.flags.aligned)
    )
