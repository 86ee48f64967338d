r"""How well a hypothesis explains prediction and target: what is left must look like a healthy model.

After a hypothesis is undone, a healthy model's prediction has, against its target:

    per-bin means that agree            b_k = (mean p'_k - mean y_k) / s_w,   of size tau_b, common part tau_g
    a spread between r s_y and s_y      log(s_p'/s_y) in [log r, 0],          the same in every bin
    bins that lie where the target's do d_b of size tau_place (see `place`)
    levels that agree by utterance      u_i = (mean p'_i - mean y_i) / s_w,   of size tau_u, and what the model misses of them
    a correlation r that no rival beats -n/2 log(1 - r^2), tempered, n the effective number of values

The cost of a hypothesis is minus its log posterior in nats: half the squared misfits, plus what its free parameters and
its rarity cost. The tolerances are those of `frozen`, set on the development corpus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.place import Place
from calib.diagnose.faults.sample import Sample

__all__ = ["FRAMES", "IMPOSSIBLE", "Cost", "Stats", "Terms", "independent"]

_SPREAD_BINS = 8.0  # independent bins out of M: neighbours say the same
FRAMES = 14.0  # frames between independent values
_BANDS = 6.0  # independent values in one frame
_UTTERANCES = 16  # that count
_MOST = 0.9999  # of r
_LEAST_SHRINK = 0.2  # r of an utterance below which its spread says nothing
_MOST_PLACE = 25.0  # that one band counts: the place says that a bank is off, not how far
_BLOCK = 32  # frames: of the slow movement of the level within an utterance
_FEWEST_BLOCKS = 3  # of an utterance in which that is looked at
_PRIOR_BLOCKS = 6.0  # as many count for what the correlation alone would say
_TINY = 1e-30  # of a square, in any unit
IMPOSSIBLE = 1e6  # nats: a map under which r is not positive


@dataclass(frozen=True)
class Cost:
    """Minus log posterior of a hypothesis in nats, by its parts.

    Args:
        level: of the common offset.
        pattern: of the offsets by bin.
        scale: of the spread.
        evenness: of spread that differs by bin.
        utterances: of offsets and spreads that differ by utterance.
        place: of bins that hear higher or lower than the target's.
        fit: of the correlation.
        prior: of free parameters and rarity.
    """

    level: float = 0.0
    pattern: float = 0.0
    scale: float = 0.0
    evenness: float = 0.0
    utterances: float = 0.0
    place: float = 0.0
    fit: float = 0.0
    prior: float = 0.0

    @property
    def misfit(self) -> float:
        """What a healthy model would not show, whatever the prior."""
        return self.level + self.pattern + self.scale + self.evenness + self.utterances + self.place

    @property
    def total(self) -> float:
        """All parts."""
        return self.misfit + self.fit + self.prior


@dataclass(frozen=True)
class Terms:
    """A map of the prediction: ``slope * p + intercept``.

    Args:
        slope: global, or by bin ``(M,)``.
        intercept: the same.
        free: nats that its free parameters cost.
        level_free: the common offset was fitted.
        pattern_free: the offset of each bin was fitted.
        utterance_free: the offset of each utterance was fitted.
        any_utterance: nothing is asked of how utterances differ.
        slack: sd of the target by which the hypothesis itself is only approximate, in level.
        slack_pattern: the same, by bin.
        slack_scale: the same, in ln of the spread.
    """

    slope: np.ndarray | float
    intercept: np.ndarray | float
    free: float = 0.0
    level_free: bool = False
    pattern_free: bool = False
    utterance_free: bool = False
    any_utterance: bool = False
    slack: float = 0.0
    slack_pattern: float = 0.0
    slack_scale: float = 0.0


def independent(n_frames: int) -> float:
    """Independent values in so many frames of speech."""
    return max(n_frames / FRAMES, 1.0) * _BANDS


class Stats:
    """Sums of a sample under one variant of the target (or of the prediction), from which every map is scored.

    Args:
        sample: the frames.
        p: the prediction ``(N, M)``, if it is not the sample's own.
        y: the target ``(N, M)``, if it is not the sample's own.
        kind: ``mean`` or ``sample`` as declared, or None.
        effective: independent values to count, where forms on other frames are compared with each other.
        dead: ``(M,)`` bins to leave out.
        place: where the bins lie under this variant, or None: nothing is asked of it.

    Attributes:
        bin_p, bin_y: ``(M,)`` means.
        var_p, var_y, cov: ``(M,)`` within utterance and bin.
        s_w_p, s_w_y, r: sds and correlation within utterance and bin, over the bins that are alive.
        m_p, m_y: means over the bins that are alive.
    """

    def __init__(
        self,
        sample: Sample,
        p: np.ndarray | None = None,
        y: np.ndarray | None = None,
        kind: str | None = None,
        effective: float | None = None,
        dead: np.ndarray | None = None,
        place: Place | None = None,
    ) -> None:
        pc = sample.pc if p is None else sample.centre(p)
        yc = sample.yc if y is None else sample.centre(y)
        p, y = sample.p if p is None else p, sample.y if y is None else y
        self.kind, self.place = kind, place
        self.n_frames = sample.n_frames
        self.effective = independent(sample.n_frames) if effective is None else effective
        self.lengths = sample.lengths.astype(np.float64)
        self.weight = sample.lengths / sample.lengths.sum()
        self._means(sample, p, y)
        self.var_p, self.var_y, self.cov = (
            np.einsum("tm,tm->m", a, b, dtype=np.float64) / sample.n_frames for a, b in ((pc, pc), (yc, yc), (pc, yc))
        )
        self.block_p, self.block_y, self.block_free = _blocks(sample, pc, yc)
        live = slice(None) if dead is None or not dead.any() else ~dead
        self.utt_pp, self.utt_yy, self.utt_py = (
            sample.by_utterance(np.einsum("tm,tm->t", a[:, live], b[:, live], dtype=np.float64))
            for a, b in ((pc, pc), (yc, yc), (pc, yc))
        )
        alive = (self.var_y > 2e-2 * np.median(self.var_y)) & (self.var_p > 1e-3 * np.median(self.var_p))
        if dead is not None:
            alive &= ~dead
        if not alive.any():
            alive[:] = True
        self.alive = alive
        self.s_w_p, self.s_w_y = (float(np.sqrt(max(v[alive].mean(), _TINY))) for v in (self.var_p, self.var_y))
        scale = self.s_w_p * self.s_w_y
        self.r = float(np.clip(self.cov[alive].mean() / scale, -_MOST, _MOST)) if scale > _TINY else 0.0
        self.m_p, self.m_y = float(self.bin_p[alive].mean()), float(self.bin_y[alive].mean())

    def _means(self, sample: Sample, p: np.ndarray, y: np.ndarray) -> None:
        """Means of each bin: by utterance ``(U, M)``, by jackknife group ``(G, M)``, and over all ``(M,)``."""
        n = sample.lengths[:, None].astype(np.float64)
        self.mean_p, self.mean_y = (sample.by_utterance(x.astype(np.float64)) / n for x in (p, y))
        self.bin_p, self.bin_y = self.weight @ self.mean_p, self.weight @ self.mean_y
        # Blocks of one utterance tell how sure a mean is where utterances are few.
        starts = sample.starts
        count = np.diff(np.append(starts, sample.n_frames))[:, None]
        self.group_p, self.group_y = (np.add.reduceat(x.astype(np.float64), starts, axis=0) / count for x in (p, y))
        self.group_weight = count[:, 0] / sample.n_frames

    def costs(self, maps: Sequence[Terms], priors: Sequence[float]) -> list[Cost]:
        """Costs of many maps at once.

        Args:
            maps: H maps.
            priors: nats that each costs beside its free parameters.
        """
        h = _Maps(maps, self.bin_p.size)
        alive, s_w = self.alive, self.s_w_y
        spread_p = (h.slope**2 * self.var_p)[:, alive].mean(1)
        scale = np.sqrt(spread_p) * s_w
        cov = (h.slope * self.cov)[:, alive].mean(1)
        r = np.clip(np.divide(cov, scale, out=np.zeros(len(maps)), where=scale > _TINY), -_MOST, _MOST)
        left = np.sqrt(1.0 - r * r)  # a model's small errors grow with the large one
        level, pattern = self._offsets(h, left)
        parts = (
            level,
            pattern,
            self._spread(h, r, spread_p, left),
            self._evenness(h, left),
            self._utterances(h, left),
            self._places(left),
            FROZEN.fit_weight * self.effective * np.log1p(-r * r),
            2.0 * (np.array(priors) + h.free),
        )
        possible = (Cost(*row) for row in (0.5 * np.stack(parts, axis=1)).tolist())
        return [cost if positive else Cost(prior=IMPOSSIBLE) for cost, positive in zip(possible, r > 0.0, strict=True)]

    def _offsets(self, h: _Maps, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(H,)`` twice: squared misfits of the common offset and of those by bin, which may have been fitted."""
        f, alive, s_w = FROZEN, self.alive, self.s_w_y
        b = (h.slope * self.bin_p + h.intercept - self.bin_y)[:, alive] / s_w
        groups = h.slope[:, None] * self.group_p + h.intercept[:, None] - self.group_y
        groups = groups[..., alive] / s_w  # (H, G, M')
        # Blocks of the same few utterances share what differs between utterances.
        inflate = (1.0 if self.weight.size >= 4 else 2.5) / max(groups.shape[1] - 1, 1)
        common = b.mean(1)
        level_error = ((groups.mean(2) - common[:, None]) ** 2) @ self.group_weight * inflate
        own = groups - groups.mean(2, keepdims=True) - (b - common[:, None])[:, None]
        pattern_error = ((own**2).mean(2)) @ self.group_weight * inflate
        level = common**2 / (_tau(f.tau_level, left) ** 2 + h.slack**2 + level_error)
        pattern = _SPREAD_BINS * b.var(1) / (_tau(f.tau_pattern, left) ** 2 + h.slack_pattern**2 + pattern_error)
        return np.where(h.level_free | h.pattern_free, 0.0, level), np.where(h.pattern_free, 0.0, pattern)

    def _spread(self, h: _Maps, r: np.ndarray, spread_p: np.ndarray, left: np.ndarray) -> np.ndarray:
        """``(H,)`` squared misfit of ln spread outside what the model's kind allows."""
        overall = 0.5 * np.log(np.maximum(spread_p, _TINY)) - np.log(self.s_w_y)
        shrunk = np.log(np.maximum(r, 1e-4))
        low = 0.0 if self.kind == "sample" else shrunk
        high = shrunk if self.kind == "mean" else 0.0
        # r itself is uncertain in little data, and with it the spread that it asks for.
        unsure = (1.0 - r * r) / np.sqrt(self.effective) / np.maximum(r, 0.05)
        tolerance = np.sqrt(_tau(FROZEN.tau_scale, left) ** 2 + h.slack_scale**2 + unsure**2)
        outside = np.maximum(np.maximum(low - overall, overall - high), 0.0)
        return np.asarray((outside / tolerance) ** 2)

    def _evenness(self, h: _Maps, left: np.ndarray) -> np.ndarray:
        """``(H,)`` squared misfit of how ln spread differs by bin."""
        alive = self.alive
        mapped = np.maximum(h.slope**2 * self.var_p, _TINY)[:, alive]
        ratio = 0.5 * np.log(mapped / np.maximum(self.var_y, _TINY)[alive])
        return np.asarray(_SPREAD_BINS * ratio.var(1) / _tau(FROZEN.tau_evenness, left) ** 2)

    def _places(self, left: np.ndarray) -> np.ndarray:
        """``(H,)`` squared misfit of where the bins lie."""
        if self.place is None:
            return np.zeros(len(left))
        tau = _tau(FROZEN.tau_place, left)[:, None]
        squared = self.place.offset**2 / (tau**2 + self.place.error**2)
        return np.asarray(np.minimum(squared, _MOST_PLACE).sum(1))

    def _utterances(self, h: _Maps, left: np.ndarray) -> np.ndarray:
        """``(H,)`` how far levels and spreads differ by utterance beyond what a healthy model's do."""
        f, count = FROZEN, self.weight.size
        if count < 2:
            return np.zeros(len(left))
        alive = self.alive
        own = self.mean_y[:, alive].mean(1) / self.s_w_y
        mapped = h.slope[:, alive] @ self.mean_p[:, alive].T + h.intercept[:, alive].sum(1)[:, None]
        u = mapped / alive.sum() / self.s_w_y - own  # (H, U)
        middle = u @ self.weight
        share, size = self._missed(h, left)
        # The mean error of an utterance is uncertain by what its few independent frames leave ...
        chance = size[:, None] * _BLOCK / self.lengths
        # ... and of how the levels differ by themselves, the model misses as much as of how they move within utterances.
        tau = np.hypot(_tau(f.tau_utterance, left), np.sqrt(share) * self._level_spread(u, left))[:, None]
        level_misfit = np.maximum(((u - middle[:, None]) ** 2 / (tau**2 + chance)).mean(1) - 1.0, 0.0)
        spread_misfit = np.maximum(self._uneven_spread() / _tau(f.tau_utterance_scale, left) ** 2 - 1.0, 0.0)
        both = np.where(h.utterance_free, 0.0, level_misfit) + spread_misfit
        return np.where(h.any_utterance, 0.0, min(count, _UTTERANCES) * both)

    def _missed(self, h: _Maps, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(H,)`` share of the slow movement of the level that the model misses, and its mean square in ``s_w²``.

        Of means of `_BLOCK` frames about their utterance's, over all bins: what is off by one offset in each utterance
        does not touch them. Level is what a model knows best, so that is far less than ``1 - r²``, which counts as
        `_PRIOR_BLOCKS` blocks: few blocks say little.
        """
        alive, count = self.alive, float(self.block_free)
        y = self.block_y[:, alive].mean(1) / self.s_w_y
        mapped = h.slope[:, alive] @ self.block_p[:, alive].T / max(int(alive.sum()), 1) / self.s_w_y
        wrong, there = ((mapped - y) ** 2).sum(1), float((y * y).sum())
        usual = 2.0 * left**2 * FRAMES / (_BANDS * _BLOCK)
        size = (wrong + _PRIOR_BLOCKS * usual) / (count + _PRIOR_BLOCKS)
        part = max(there / count, _TINY) if count else 1.0
        share = (wrong + _PRIOR_BLOCKS * left**2 * part) / (there + _PRIOR_BLOCKS * part)
        return share, size

    def _level_spread(self, u: np.ndarray, left: np.ndarray) -> np.ndarray:
        """``(H,)`` sd of the utterances' levels, which a model of correlation r knows no better than the rest.

        Several speakers, rooms or microphones differ in level. That of the targets and, with what it is shrunk by, that
        of the predictions say it; the smaller one is free of a fault of the other side.
        """
        own = self.mean_y[:, self.alive].mean(1) / self.s_w_y
        r = np.sqrt(np.maximum(1.0 - left**2, _LEAST_SHRINK**2))

        def sd(values: np.ndarray) -> np.ndarray:
            middle = values @ self.weight
            return np.asarray(np.sqrt(((values - middle[..., None]) ** 2) @ self.weight))

        return np.asarray(np.minimum(sd(own), sd(u + own) / r))

    def _uneven_spread(self) -> float:
        """Mean square by which ln spread differs by utterance, beyond what a healthy model's kind explains.

        A conditional mean has in each utterance the spread of what it knows there: r times the target's.
        """
        spread = 0.5 * np.log(np.maximum(self.utt_pp, _TINY) / np.maximum(self.utt_yy, _TINY))
        uneven = float(((spread - np.median(spread)) ** 2).mean())
        if self.kind == "sample":
            return uneven
        r = np.abs(self.utt_py) / np.sqrt(np.maximum(self.utt_pp * self.utt_yy, _TINY))
        known = spread - np.log(np.maximum(r, _LEAST_SHRINK))
        return min(uneven, float(((known - np.median(known)) ** 2).mean()))


def _blocks(sample: Sample, pc: np.ndarray, yc: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """``(B, M)`` means of `_BLOCK` frames of each side about those of their utterance, and the degrees of freedom."""
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    free = 0
    for a, length in zip(sample.bounds[:-1], sample.lengths, strict=True):
        count = int(length) // _BLOCK
        if count < _FEWEST_BLOCKS:
            continue
        free += count - 1
        for side, values in zip(found, (pc, yc), strict=True):
            means = values[a : a + count * _BLOCK].reshape(count, _BLOCK, -1).mean(1, dtype=np.float64)
            side.append(means - means.mean(0))
    if not free:
        nothing = np.zeros((0, pc.shape[1]))
        return nothing, nothing, 0
    return np.concatenate(found[0]), np.concatenate(found[1]), free


class _Maps:
    """Many maps as arrays ``(H, ...)``."""

    def __init__(self, maps: Sequence[Terms], bins: int) -> None:
        self.slope, self.intercept = (
            np.stack([np.broadcast_to(np.asarray(x, dtype=np.float64), (bins,)) for x in values])
            for values in ([t.slope for t in maps], [t.intercept for t in maps])
        )
        self.free = np.array([t.free for t in maps])
        self.slack = np.array([t.slack for t in maps])
        self.slack_pattern = np.array([t.slack_pattern for t in maps])
        self.slack_scale = np.array([t.slack_scale for t in maps])
        self.level_free = np.array([t.level_free for t in maps])
        self.pattern_free = np.array([t.pattern_free for t in maps])
        self.utterance_free = np.array([t.utterance_free for t in maps])
        self.any_utterance = np.array([t.any_utterance for t in maps])


def _tau(size: tuple[float, float], left: np.ndarray) -> np.ndarray:
    """``(H,)`` a tolerance that grows with what the model leaves unexplained."""
    return size[0] + size[1] * left
