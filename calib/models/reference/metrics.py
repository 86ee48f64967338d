"""The few figures that ``metrics.json`` states of the reference model, in plain numpy.

Deliberately apart from :mod:`calib.diagnose`, which the reference model's checkpoints help to test.

Conventions:
    *Within bin* means after each mel bin's own mean over all frames is removed. Errors are in the mel's unit (ln).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["figures", "swap_null", "within_bin"]


def within_bin(prediction: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Correlation r_w and ratio of standard deviations s_w(p)/s_w(y) of two ``(T, M)`` arrays; r_w is 0 of a constant."""
    p = prediction.astype(np.float64) - prediction.mean(0, dtype=np.float64)
    y = target.astype(np.float64) - target.mean(0, dtype=np.float64)
    pp, yy, py = float((p * p).sum()), float((y * y).sum()), float((p * y).sum())
    return (py / np.sqrt(pp * yy) if pp > 0.0 else 0.0), float(np.sqrt(pp / yy))


def swap_null(predictions: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> float:
    """95th percentile of |r_w| over all shifts of the pairing, each pair cut to the shorter."""
    values = []
    for shift in range(1, len(targets)):
        pairs = [(p, targets[(index + shift) % len(targets)]) for index, p in enumerate(predictions)]
        left = np.concatenate([p[: len(y)] for p, y in pairs])
        right = np.concatenate([y[: len(p)] for p, y in pairs])
        values.append(abs(within_bin(left, right)[0]))
    return float(np.quantile(values, 0.95))


def figures(predictions: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> dict[str, float]:
    """Pooled over all utterances, ``(T, M)`` each, pairs of equal length.

    Returns:
        ``r_w``, ``s_w_ratio``, ``swap_null_95``, ``mae``, ``rmse``, and ``removable_share`` F: the part of the mean
        squared error that the best affine map removes (Murphy 1988: unconditional plus conditional bias).
    """
    p = np.concatenate(list(predictions)).astype(np.float64)
    y = np.concatenate(list(targets)).astype(np.float64)
    r_w, ratio = within_bin(p, y)
    error = p - y
    mse = float(np.square(error).mean())
    s_p, s_y = float(p.std()), float(y.std())
    r = float(((p - p.mean()) * (y - y.mean())).mean() / (s_p * s_y)) if s_p > 0.0 else 0.0
    removable = float(p.mean() - y.mean()) ** 2 + (s_p - r * s_y) ** 2
    return {
        "r_w": float(r_w),
        "s_w_ratio": ratio,
        "swap_null_95": swap_null(predictions, targets),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(mse)),
        "removable_share": removable / mse,
    }
