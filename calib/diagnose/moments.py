"""Sufficient statistics of prediction against target, and what follows from them.

Conventions:
    ``p`` is the prediction, ``y`` the target, both ``(T, M)``. A *unit* is an utterance or a block of frames of one:
    what is resampled and what folds are made of. Sums are float64, taken about each utterance's own mean (so nothing
    cancels) and then referred to one fixed pair of per-bin means, which makes them additive over units.

    *Pooled* figures treat every (frame, bin) value alike. *Within-bin* figures (``r_w``, ``s_w``) remove each bin's own
    mean first: a constant spectrum has pooled r of about .5 and within-bin r of 0.

References:
    A. H. Murphy, "Skill scores based on the mean square error and their relationships to the correlation coefficient",
    Monthly Weather Review 116 (1988): MSE = (m_p - m_y)^2 + (s_p - r s_y)^2 + (1 - r^2) s_y^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.native.pairs import pair_moments

__all__ = ["Moments", "Summary", "UnitMoments", "unit_moments"]


@dataclass(frozen=True)
class UnitMoments:
    """Count, per-bin means and centred second moments of one unit; arrays are float64 ``(M,)``."""

    n: int
    mean_p: np.ndarray
    mean_y: np.ndarray
    pp: np.ndarray
    yy: np.ndarray
    py: np.ndarray


def unit_moments(p: np.ndarray, y: np.ndarray) -> UnitMoments:
    """Moments of one unit, from ``(T, M)`` arrays of one shape; float32 with the compiled kernel where it is there."""
    found = pair_moments(p, y)
    if found is not None:
        return UnitMoments(p.shape[0], *found)
    p64, y64 = p.astype(np.float64), y.astype(np.float64)
    mean_p, mean_y = p64.mean(axis=0), y64.mean(axis=0)
    p64 -= mean_p
    y64 -= mean_y
    return UnitMoments(
        p.shape[0],
        mean_p,
        mean_y,
        np.einsum("tm,tm->m", p64, p64),
        np.einsum("tm,tm->m", y64, y64),
        np.einsum("tm,tm->m", p64, y64),
    )


@dataclass(frozen=True)
class Summary:
    """Scalars of one set of units, or arrays of them with one entry a draw.

    Args:
        n: frames.
        m_p: pooled mean of the prediction.
        m_y: pooled mean of the target.
        s_p: pooled population sd of the prediction.
        s_y: pooled population sd of the target.
        r: pooled correlation (0 where either sd is 0).
        r_w: within-bin correlation.
        s_w_p: within-bin sd of the prediction.
        s_w_y: within-bin sd of the target.
        mse: mean squared error, unit squared.
    """

    n: np.ndarray
    m_p: np.ndarray
    m_y: np.ndarray
    s_p: np.ndarray
    s_y: np.ndarray
    r: np.ndarray
    r_w: np.ndarray
    s_w_p: np.ndarray
    s_w_y: np.ndarray
    mse: np.ndarray

    @property
    def slope_ols(self) -> np.ndarray:
        """Least squares: r s_y / s_p; 0 for a constant prediction."""
        return _ratio(self.r * self.s_y, self.s_p)

    @property
    def slope_mm(self) -> np.ndarray:
        """Moment matching: s_y / s_p with the sign of r; 0 for a constant prediction."""
        return np.asarray(np.where(self.r < 0, -1.0, 1.0) * _ratio(self.s_y, self.s_p))

    def intercept(self, slope: np.ndarray) -> np.ndarray:
        """The intercept that goes with a slope: m_y - slope m_p."""
        return np.asarray(self.m_y - slope * self.m_p)

    @property
    def s_w_ratio(self) -> np.ndarray:
        """Within-bin sd of the prediction over that of the target."""
        return _ratio(self.s_w_p, self.s_w_y)

    def removable_share(self, *, sample_like: bool) -> np.ndarray:
        """F: the share of MSE that a global affine map removes.

        For a mean-like model Murphy's first two terms. For a sample-like one what moment matching removes: the
        shrinkage that least squares would gain beyond that is the nature of such a model, not a fault.
        """
        best = 2.0 * self.s_y**2 * (1.0 - np.abs(self.r)) if sample_like else (1.0 - self.r**2) * self.s_y**2
        return np.asarray(np.clip(_ratio(self.mse - best, self.mse), 0.0, 1.0))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a / b``, and 0 where b is 0."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return np.asarray(np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=b != 0))


class Moments:
    """Additive sums of many units about fixed per-bin means.

    Args:
        units: their moments; at least one.
    """

    def __init__(self, units: list[UnitMoments]) -> None:
        self.n = np.array([u.n for u in units], dtype=np.float64)
        total = self.n.sum()
        mean_p, mean_y = np.stack([u.mean_p for u in units]), np.stack([u.mean_y for u in units])
        self.shift_p = self.n @ mean_p / total
        self.shift_y = self.n @ mean_y / total
        dp, dy = mean_p - self.shift_p, mean_y - self.shift_y
        n = self.n[:, None]
        self.sums = np.stack(
            [
                n * dp,
                n * dy,
                np.stack([u.pp for u in units]) + n * dp * dp,
                np.stack([u.yy for u in units]) + n * dy * dy,
                np.stack([u.py for u in units]) + n * dp * dy,
            ],
            axis=1,
        )  # (U, 5, M)

    def __len__(self) -> int:
        return self.n.size

    @property
    def n_mels(self) -> int:
        """Bins M."""
        return int(self.shift_p.size)

    def summary(self, weights: np.ndarray | None = None) -> Summary:
        """Summary of all units, of a weighted set, or of many.

        Args:
            weights: None (all once), ``(U,)``, or ``(B, U)`` for B draws at once.
        """
        w = np.ones(len(self)) if weights is None else np.asarray(weights, dtype=np.float64)
        n = w @ self.n
        sums = (w @ self.sums.reshape(len(self), -1)).reshape(*w.shape[:-1], 5, self.n_mels)
        return self._summarise(n, sums)

    def subset(self, units: list[int]) -> Summary:
        """Summary of a few units, at the cost of those alone."""
        return self._summarise(self.n[units].sum(), self.sums[units].sum(axis=0))

    def _summarise(self, n: np.ndarray, sums: np.ndarray) -> Summary:
        per_frame = sums / np.asarray(n)[..., None, None]
        dp, dy = per_frame[..., 0, :], per_frame[..., 1, :]
        var_p = np.maximum(per_frame[..., 2, :] - dp * dp, 0.0)
        var_y = np.maximum(per_frame[..., 3, :] - dy * dy, 0.0)
        cov = per_frame[..., 4, :] - dp * dy
        bin_p, bin_y = self.shift_p + dp, self.shift_y + dy
        m_p, m_y = bin_p.mean(-1), bin_y.mean(-1)
        between_p, between_y = bin_p - m_p[..., None], bin_y - m_y[..., None]
        within_p, within_y, within_c = var_p.mean(-1), var_y.mean(-1), cov.mean(-1)
        pooled_p = within_p + (between_p**2).mean(-1)
        pooled_y = within_y + (between_y**2).mean(-1)
        pooled_c = within_c + (between_p * between_y).mean(-1)
        return Summary(
            n=np.asarray(n),
            m_p=m_p,
            m_y=m_y,
            s_p=np.sqrt(pooled_p),
            s_y=np.sqrt(pooled_y),
            r=np.clip(_ratio(pooled_c, np.sqrt(pooled_p * pooled_y)), -1.0, 1.0),
            r_w=np.clip(_ratio(within_c, np.sqrt(within_p * within_y)), -1.0, 1.0),
            s_w_p=np.sqrt(within_p),
            s_w_y=np.sqrt(within_y),
            mse=pooled_p + pooled_y - 2.0 * pooled_c + (m_p - m_y) ** 2,
        )

    def bin_means(self, weights: np.ndarray) -> np.ndarray:
        """Per-bin means of the target over the weighted units, ``(M,)``."""
        return np.asarray(self.shift_y + weights @ self.sums[:, 1] / (weights @ self.n))

    def per_bin_share(self) -> float:
        """Share of the squared error that an affine map for each bin removes (Murphy's first two terms, by bin)."""
        bins = self.per_bin()
        left = ((1.0 - bins["r"] ** 2) * bins["sd_y"] ** 2).mean()
        mse = float(self.summary().mse)
        return float(np.clip((mse - left) / mse, 0.0, 1.0)) if mse > 0 else 0.0

    def per_bin(self) -> dict[str, np.ndarray]:
        """Per-bin mean, sd and correlation of prediction and target over all units, each ``(M,)``."""
        n = self.n.sum()
        sums = self.sums.sum(axis=0) / n
        sd_p = np.sqrt(np.maximum(sums[2] - sums[0] ** 2, 0.0))
        sd_y = np.sqrt(np.maximum(sums[3] - sums[1] ** 2, 0.0))
        return {
            "mean_p": self.shift_p + sums[0],
            "mean_y": self.shift_y + sums[1],
            "sd_p": sd_p,
            "sd_y": sd_y,
            "r": np.clip(_ratio(sums[4] - sums[0] * sums[1], sd_p * sd_y), -1.0, 1.0),
        }
