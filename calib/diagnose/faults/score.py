r"""How well a hypothesis explains prediction and target: what is left must look like a healthy model.

After a hypothesis is undone, a healthy model's prediction has, against its target:

    per-bin means that agree            b_k = (mean p'_k - mean y_k) / s_w,   of size tau_b, common part tau_g
    a spread between r s_y and s_y      log(s_p'/s_y) in [log r, 0],          the same in every bin
    levels that agree by utterance      u_i = (mean p'_i - mean y_i) / s_w,   of size tau_u
    a correlation r that no rival beats -n/2 log(1 - r^2), tempered, n the effective number of values

The cost of a hypothesis is minus its log posterior in nats: half the squared misfits, plus what its free parameters and
its rarity cost. The tolerances are those of `frozen`, set on the development corpus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.sample import Sample

__all__ = ["Cost", "Stats", "Terms", "independent"]

_SPREAD_BINS = 8.0  # independent bins out of M: neighbours say the same
_FRAMES = 14.0  # frames between independent values
_BANDS = 6.0  # independent values in one frame
_TINY = 1e-9


@dataclass(frozen=True)
class Cost:
    """Minus log posterior of a hypothesis, in nats, and its parts.

    Args:
        total: the sum.
        level: of the common offset.
        pattern: of the offsets by bin.
        scale: of the spread.
        evenness: of spread that differs by bin.
        utterances: of offsets and spreads that differ by utterance.
        fit: of the correlation.
        prior: of free parameters and rarity.
    """

    level: float = 0.0
    pattern: float = 0.0
    scale: float = 0.0
    evenness: float = 0.0
    utterances: float = 0.0
    fit: float = 0.0
    prior: float = 0.0

    @property
    def misfit(self) -> float:
        """What a healthy model would not show, whatever the prior."""
        return self.level + self.pattern + self.scale + self.evenness + self.utterances

    @property
    def total(self) -> float:
        """All parts."""
        return self.misfit + self.fit + self.prior


@dataclass(frozen=True)
class Terms:
    """A map of the prediction, by bin (``(M,)``) or global, and by utterance (``(U,)``) or not."""

    slope: np.ndarray | float
    intercept: np.ndarray | float
    free: float = 0.0  # nats that its free parameters cost
    level_free: bool = False  # the common offset was fitted
    pattern_free: bool = False  # the offset of each bin was fitted
    utterance_free: bool = False  # the offset of each utterance was fitted
    slack: float = 0.0  # sd of the target by which the hypothesis itself is only approximate, in level
    slack_pattern: float = 0.0  # the same, by bin


def independent(n_frames: int) -> float:
    """Independent values in so many frames of speech."""
    return max(n_frames / _FRAMES, 1.0) * _BANDS


class Stats:
    """Sums of a sample under one variant of the target (or of the prediction), from which every map is scored.

    Args:
        sample: the frames.
        p: the prediction ``(N, M)``, if it is not the sample's own.
        y: the target ``(N, M)``, if it is not the sample's own.
        kind: ``mean`` or ``sample`` as declared, or None.
        effective: independent values to count, where forms on other frames are compared with each other.
    """

    def __init__(self, sample: Sample, p: np.ndarray | None = None, y: np.ndarray | None = None, kind: str | None = None, effective: float | None = None) -> None:
        own_p, own_y = p is None, y is None
        p, y = sample.p if p is None else p, sample.y if y is None else y
        pc = sample.pc if own_p else sample.centre(p)
        yc = sample.yc if own_y else sample.centre(y)
        self.kind = kind
        self.n_frames = sample.n_frames
        n = sample.lengths[:, None].astype(np.float64)
        self.mean_p = sample.by_utterance(p.astype(np.float64)) / n  # (U, M)
        self.mean_y = sample.by_utterance(y.astype(np.float64)) / n
        self.weight = sample.lengths / sample.lengths.sum()
        self.var_p, self.var_y, self.cov = (np.einsum("tm,tm->m", a, b, dtype=np.float64) / sample.n_frames for a, b in ((pc, pc), (yc, yc), (pc, yc)))  # fmt: skip
        self.utt_pp = sample.by_utterance(np.einsum("tm,tm->t", pc, pc, dtype=np.float64))
        self.utt_yy = sample.by_utterance(np.einsum("tm,tm->t", yc, yc, dtype=np.float64))
        # Blocks of one utterance tell how sure a mean is where utterances are few.
        starts = sample.starts
        count = np.diff(np.append(starts, sample.n_frames))[:, None]
        self.group_p = np.add.reduceat(p.astype(np.float64), starts, axis=0) / count
        self.group_y = np.add.reduceat(y.astype(np.float64), starts, axis=0) / count
        self.group_weight = count[:, 0] / sample.n_frames
        self.bin_p, self.bin_y = self.weight @ self.mean_p, self.weight @ self.mean_y
        self.s_w_y = float(np.sqrt(max(self.var_y.mean(), _TINY)))
        self.s_w_p = float(np.sqrt(max(self.var_p.mean(), _TINY)))
        self.alive = (self.var_y > 1e-3 * np.median(self.var_y)) & (self.var_p > 1e-3 * np.median(self.var_p))
        scale = np.sqrt(self.var_p.mean() * self.var_y.mean())
        self.r = float(np.clip(self.cov.mean() / scale, -0.9999, 0.9999)) if scale > _TINY else 0.0
        self.pooled_sd_y = float(np.sqrt((self.weight @ (self.mean_y - self.bin_y.mean()) ** 2).mean() + self.var_y.mean()))
        self.m_y = float(self.bin_y.mean())
        self.m_p = float(self.bin_p.mean())
        self.effective = independent(sample.n_frames) if effective is None else effective

    def correlation(self, terms: Terms) -> float:
        """r within utterance and bin after a map (a map by bin changes the weights of the bins)."""
        a = np.broadcast_to(np.asarray(terms.slope, dtype=np.float64), self.var_p.shape)
        scale = np.sqrt((a * a * self.var_p).mean() * self.var_y.mean())
        return float(np.clip((a * self.cov).mean() / scale, -0.9999, 0.9999)) if scale > _TINY else 0.0

    def cost(self, terms: Terms, prior: float = 0.0) -> Cost:
        """Cost of a map."""
        f = FROZEN
        a = np.broadcast_to(np.asarray(terms.slope, dtype=np.float64), self.bin_p.shape)
        c = np.broadcast_to(np.asarray(terms.intercept, dtype=np.float64), self.bin_p.shape)
        r = self.correlation(terms)
        if r <= 0.0:
            return Cost(prior=1e6)
        alive = self.alive
        s_w = self.s_w_y
        b = (a * self.bin_p + c - self.bin_y)[alive] / s_w
        groups = (a * self.group_p + c - self.group_y)[:, alive] / s_w
        count = len(groups)
        inflate = 1.0 / max(count - 1, 1)
        level_error = float(self.group_weight @ (groups.mean(1) - b.mean()) ** 2) * inflate
        pattern = groups - groups.mean(1, keepdims=True)
        pattern_error = float((self.group_weight @ (pattern - (b - b.mean())) ** 2).mean()) * inflate
        level = 0.0 if terms.level_free or terms.pattern_free else b.mean() ** 2 / (f.tau_level**2 + terms.slack**2 + level_error)
        spread = 0.0 if terms.pattern_free else _SPREAD_BINS * float(((b - b.mean()) ** 2).mean()) / (f.tau_pattern**2 + terms.slack_pattern**2 + pattern_error)  # fmt: skip
        ratio = 0.5 * np.log(np.maximum(a * a * self.var_p, _TINY)[alive] / np.maximum(self.var_y, _TINY)[alive])
        overall = 0.5 * float(np.log((a * a * self.var_p).mean() / self.var_y.mean()))
        low, high = {"mean": (np.log(r), np.log(r)), "sample": (0.0, 0.0)}.get(self.kind or "", (np.log(r), 0.0))
        outside = max(low - overall, overall - high, 0.0)
        scale = (outside / f.tau_scale) ** 2
        evenness = _SPREAD_BINS * float(((ratio - ratio.mean()) ** 2).mean()) / f.tau_evenness**2
        return Cost(
            0.5 * level, 0.5 * spread, 0.5 * scale, 0.5 * evenness, 0.5 * self._utterance_misfit(a, c, terms), FROZEN.fit_weight * 0.5 * self.effective * float(np.log1p(-r * r)), prior + terms.free
        )  # fmt: skip

    def _utterance_misfit(self, a: np.ndarray, c: np.ndarray, terms: Terms) -> float:
        f = FROZEN
        if self.weight.size < 2:
            return 0.0
        scale = float(np.sqrt((a * a * self.var_p).mean()))
        spread = 0.5 * np.log(np.maximum(self.utt_pp, _TINY) / np.maximum(self.utt_yy, _TINY))
        spread_misfit = float(((spread - np.median(spread)) ** 2).mean()) / f.tau_utterance_scale**2 if scale > 0 else 0.0
        few = min(self.weight.size, 16)
        if terms.utterance_free:
            return few * max(spread_misfit - 1.0, 0.0)
        u = (a * self.mean_p + c - self.mean_y).mean(axis=1) / self.s_w_y
        level_misfit = float(((u - self.weight @ u) ** 2).mean()) / f.tau_utterance**2
        return few * (max(level_misfit - 1.0, 0.0) + max(spread_misfit - 1.0, 0.0))
