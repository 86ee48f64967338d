r"""Where the prediction's bins lie among the target's: the sharpest sign of another filterbank.

The correlation hardly falls when all bins lie a third of a bin too high, because neighbours say nearly the same. What
falls apart is the *side* on which a predicted bin agrees with the target: with the regression of a predicted bin on three
target bins ``p_k = a y_{k-1} + b y_k + c y_{k+1} + e`` the place is ``(c - a) / (a + b + c)`` bins (of small
displacements; larger ones saturate). A healthy model smooths over bins, but it does so alike on both sides.

Conventions:
    Bands are of equal numbers of bins; ``offset`` and ``error`` are in bins, errors by jackknife over groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.sample import Sample

__all__ = ["Place", "places"]

_BANDS = 8
_FRAMES = 6000  # enough to look with
_FEW, _SHARED = 4, 1.6  # blocks of so few utterances share what differs between utterances
_RIDGE = 1e-3
_LEAST = 24  # bins: in fewer, neighbours are too unlike


@dataclass(frozen=True)
class Place:
    """Displacement by band.

    Args:
        offset: ``(B,)`` bins by which the prediction's bins hear higher than the target's.
        error: ``(B,)`` standard errors.
    """

    offset: np.ndarray
    error: np.ndarray


def places(sample: Sample, p: np.ndarray | None, y: np.ndarray | None, silent: np.ndarray) -> Place | None:
    """Measure it.

    Args:
        sample: the frames.
        p: the prediction ``(N, M)``, centred within utterances, or None for the sample's own.
        y: the target ``(N, M)``, the same.
        silent: ``(M,)`` bins to leave out.

    Returns:
        None where there are too few bins, or fewer than two groups.
    """
    a, b = sample.pc if p is None else p, sample.yc if y is None else y
    m, starts = b.shape[1], sample.starts
    if m < _LEAST or len(starts) < 2 or silent.all():
        return None
    ends = np.append(starts[1:], sample.n_frames)
    step = max(1, sample.n_frames // _FRAMES)
    cross, own = np.empty((len(starts), m, m)), np.empty((len(starts), m, m))
    power = np.zeros(m)
    for g, (start, stop) in enumerate(zip(starts, ends, strict=True)):
        x, t = a[start:stop:step], b[start:stop:step]
        cross[g], own[g] = x.T @ t, t.T @ t
        power += np.einsum("tm,tm->m", x, x, dtype=np.float64)
    inner = np.arange(1, m - 1)
    used = ~(silent[:-2] | silent[1:-1] | silent[2:]) & (power[1:-1] > 0.0)
    total_cross, total_own = cross.sum(0), own.sum(0)
    size_y = np.sqrt(np.maximum(np.diag(total_own), 1e-30))
    size_p = np.sqrt(np.maximum(power, 1e-30))
    scale_cross, scale_own = np.outer(size_p, size_y), np.outer(size_y, size_y)
    band = np.minimum(np.arange(m - 2) * _BANDS // (m - 2), _BANDS - 1)

    def offsets(c: np.ndarray, o: np.ndarray) -> np.ndarray:
        rows = inner[:, None] + np.array([-1, 0, 1])
        gram = (o / scale_own)[rows[:, :, None], rows[:, None, :]]
        right = (c / scale_cross)[inner[:, None], rows]
        gram = gram + _RIDGE * np.eye(3)
        weight = np.linalg.solve(gram, right[..., None])[..., 0] * used[:, None]
        side, whole = (np.bincount(band, w, minlength=_BANDS) for w in (weight[:, 2] - weight[:, 0], weight.sum(1)))
        count = np.maximum(np.bincount(band, used, minlength=_BANDS), 1)
        least = 0.02 * count
        whole = np.where(np.abs(whole) < least, np.where(whole < 0, -least, least), whole)
        return np.asarray(side / whole)

    offset = offsets(total_cross, total_own)
    left_out = np.stack([offsets(total_cross - c, total_own - o) for c, o in zip(cross, own, strict=True)])
    n = len(starts)
    error = np.sqrt((n - 1) / n * ((left_out - left_out.mean(0)) ** 2).sum(0))
    if len(sample) < _FEW:
        error = error * _SHARED
    return Place(np.clip(offset, -3.0, 3.0), error)
