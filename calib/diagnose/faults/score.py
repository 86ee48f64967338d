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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.sample import Sample

__all__ = ["IMPOSSIBLE", "Cost", "Stats", "Terms", "independent"]

_SPREAD_BINS = 8.0  # independent bins out of M: neighbours say the same
_FRAMES = 14.0  # frames between independent values
_BANDS = 6.0  # independent values in one frame
_TINY = 1e-9
IMPOSSIBLE = 1e6  # nats: a map under which r is not positive


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
    any_utterance: bool = False  # nothing is asked of how utterances differ
    slack: float = 0.0  # sd of the target by which the hypothesis itself is only approximate, in level
    slack_pattern: float = 0.0  # the same, by bin
    slack_scale: float = 0.0  # the same, in ln of the spread


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
        dead: ``(M,)`` bins to leave out.
        effective: independent values to count, where forms on other frames are compared with each other.
    """

    def __init__(self, sample: Sample, p: np.ndarray | None = None, y: np.ndarray | None = None, kind: str | None = None, effective: float | None = None, dead: np.ndarray | None = None) -> None:
        own_p, own_y = p is None, y is None
        p, y = sample.p if p is None else p, sample.y if y is None else y
        pc = sample.pc if own_p else sample.centre(p)
        yc = sample.yc if own_y else sample.centre(y)
        self.kind = kind
        self.n_frames = sample.n_frames
        self.lengths = sample.lengths.astype(np.float64)
        n = sample.lengths[:, None].astype(np.float64)
        self.mean_p = sample.by_utterance(p.astype(np.float64)) / n  # (U, M)
        self.mean_y = sample.by_utterance(y.astype(np.float64)) / n
        self.weight = sample.lengths / sample.lengths.sum()
        self.var_p, self.var_y, self.cov = (np.einsum("tm,tm->m", a, b, dtype=np.float64) / sample.n_frames for a, b in ((pc, pc), (yc, yc), (pc, yc)))  # fmt: skip
        live = slice(None) if dead is None or not dead.any() else ~dead
        self.utt_pp = sample.by_utterance(np.einsum("tm,tm->t", pc[:, live], pc[:, live], dtype=np.float64))
        self.utt_yy = sample.by_utterance(np.einsum("tm,tm->t", yc[:, live], yc[:, live], dtype=np.float64))
        # Blocks of one utterance tell how sure a mean is where utterances are few.
        starts = sample.starts
        count = np.diff(np.append(starts, sample.n_frames))[:, None]
        self.group_p = np.add.reduceat(p.astype(np.float64), starts, axis=0) / count
        self.group_y = np.add.reduceat(y.astype(np.float64), starts, axis=0) / count
        self.group_weight = count[:, 0] / sample.n_frames
        self.bin_p, self.bin_y = self.weight @ self.mean_p, self.weight @ self.mean_y
        self.alive = (self.var_y > 2e-2 * np.median(self.var_y)) & (self.var_p > 1e-3 * np.median(self.var_p))
        if dead is not None:
            self.alive &= ~dead
        if not self.alive.any():
            self.alive[:] = True
        alive = self.alive
        self.s_w_y = float(np.sqrt(max(self.var_y[alive].mean(), _TINY)))
        self.s_w_p = float(np.sqrt(max(self.var_p[alive].mean(), _TINY)))
        scale = self.s_w_p * self.s_w_y
        self.r = float(np.clip(self.cov[alive].mean() / scale, -0.9999, 0.9999)) if scale > _TINY else 0.0
        self.m_y = float(self.bin_y[alive].mean())
        self.m_p = float(self.bin_p[alive].mean())
        self.effective = independent(sample.n_frames) if effective is None else effective

    def costs(self, maps: Sequence[Terms], priors: Sequence[float]) -> list[Cost]:
        """Costs of many maps at once."""
        f, alive, s_w = FROZEN, self.alive, self.s_w_y
        shape = (len(maps), self.bin_p.size)
        a = np.stack([np.broadcast_to(np.asarray(t.slope, dtype=np.float64), shape[1:]) for t in maps])
        c = np.stack([np.broadcast_to(np.asarray(t.intercept, dtype=np.float64), shape[1:]) for t in maps])
        spread_p = (a * a * self.var_p)[:, alive].mean(1)
        scale = np.sqrt(spread_p) * s_w
        r = np.clip(np.divide((a * self.cov)[:, alive].mean(1), scale, out=np.zeros(len(maps)), where=scale > _TINY), -0.9999, 0.9999)
        left = np.sqrt(1.0 - r * r)  # a model's small errors grow with the large one
        tau_level, tau_pattern, tau_scale, tau_evenness, tau_utterance, tau_spread = (base + grown * left for base, grown in (f.tau_level, f.tau_pattern, f.tau_scale, f.tau_evenness, f.tau_utterance, f.tau_utterance_scale))  # fmt: skip
        b = (a * self.bin_p + c - self.bin_y)[:, alive] / s_w
        groups = (a[:, None] * self.group_p + c[:, None] - self.group_y)[..., alive] / s_w  # (H, G, M')
        # Blocks of the same few utterances share what differs between utterances.
        inflate = (1.0 if self.weight.size >= 4 else 2.5) / max(groups.shape[1] - 1, 1)
        common = b.mean(1)
        level_error = ((groups.mean(2) - common[:, None]) ** 2) @ self.group_weight * inflate
        pattern = groups - groups.mean(2, keepdims=True) - (b - common[:, None])[:, None]
        pattern_error = ((pattern**2).mean(2)) @ self.group_weight * inflate
        slack, slack_pattern, slack_scale = (np.array([getattr(t, name) for t in maps]) for name in ("slack", "slack_pattern", "slack_scale"))  # fmt: skip
        pattern_free, utterance_free = (np.array([getattr(t, name) for t in maps]) for name in ("pattern_free", "utterance_free"))
        level_free = np.array([t.level_free for t in maps]) | pattern_free
        level = np.where(level_free, 0.0, common**2 / (tau_level**2 + slack**2 + level_error))
        spread = np.where(pattern_free, 0.0, _SPREAD_BINS * b.var(1) / (tau_pattern**2 + slack_pattern**2 + pattern_error))
        ratio = 0.5 * np.log(np.maximum(a * a * self.var_p, _TINY)[:, alive] / np.maximum(self.var_y, _TINY)[alive])
        overall = 0.5 * np.log(np.maximum(spread_p, _TINY)) - np.log(s_w)
        shrunk = np.log(np.maximum(r, 1e-4))
        low = 0.0 if self.kind == "sample" else shrunk
        high = shrunk if self.kind == "mean" else 0.0
        # r itself is uncertain in little data, and with it the spread that it asks for.
        unsure = (1.0 - r * r) / np.sqrt(self.effective) / np.maximum(r, 0.05)
        tolerance = np.sqrt(tau_scale**2 + slack_scale**2 + unsure**2)
        outside = np.maximum(np.maximum(low - overall, overall - high), 0.0)
        evenness = _SPREAD_BINS * ratio.var(1) / tau_evenness**2
        utterances = self._utterance_misfit(a, c, utterance_free, tau_utterance, tau_spread, 1.0 - r * r)
        utterances = np.where([t.any_utterance for t in maps], 0.0, utterances)
        fit = f.fit_weight * 0.5 * self.effective * np.log1p(-r * r)
        costs = []
        for k, terms in enumerate(maps):
            if r[k] <= 0.0:
                costs.append(Cost(prior=IMPOSSIBLE))
                continue
            parts = (0.5 * level[k], 0.5 * spread[k], 0.5 * (outside[k] / tolerance[k]) ** 2, 0.5 * evenness[k], 0.5 * utterances[k], fit[k], priors[k] + terms.free)  # fmt: skip
            costs.append(Cost(*(float(x) for x in parts)))
        return costs

    def _utterance_misfit(self, a: np.ndarray, c: np.ndarray, free: np.ndarray, tau: np.ndarray, tau_spread: np.ndarray, left: np.ndarray) -> np.ndarray:  # fmt: skip
        """``(H,)`` how far levels and spreads differ by utterance beyond what a healthy model's do."""
        count = self.weight.size
        if count < 2:
            return np.zeros(len(a))
        few = min(count, 16)
        spread = 0.5 * np.log(np.maximum(self.utt_pp, _TINY) / np.maximum(self.utt_yy, _TINY))
        spread_misfit = np.maximum(float(((spread - np.median(spread)) ** 2).mean()) / tau_spread**2 - 1.0, 0.0)
        alive = self.alive
        u = ((a[:, alive] @ self.mean_p[:, alive].T + c[:, alive].sum(1)[:, None]) / alive.sum() - self.mean_y[:, alive].mean(1)) / self.s_w_y  # (H, U)
        middle = u @ self.weight
        # The mean error of an utterance is uncertain by what its few independent frames leave.
        chance = 2.0 * left[:, None] * _FRAMES / (_BANDS * self.lengths)
        level_misfit = np.maximum(((u - middle[:, None]) ** 2 / (tau[:, None] ** 2 + chance)).mean(1) - 1.0, 0.0)
        return np.asarray(few * (np.where(free, 0.0, level_misfit) + spread_misfit))
