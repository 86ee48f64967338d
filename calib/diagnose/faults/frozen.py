"""Tolerances of a healthy model and the calibration of the confidence: set on the development corpus, then frozen.

``benchmarks/diagnosis`` reports on other corpora what they are worth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["FROZEN", "Frozen", "confidence"]


@dataclass(frozen=True)
class Frozen:
    """Sizes are in sd of the target within bins unless said otherwise; a pair is (size, size for each sqrt(1 - r^2)).

    Args:
        tau_level: common offset of a healthy prediction.
        tau_pattern: offset that differs by bin.
        tau_scale: ln of the spread outside [r, 1].
        tau_evenness: ln of the spread, between bins.
        tau_utterance: offset that differs by utterance.
        tau_utterance_scale: ln of the spread, between utterances.
        fit_weight: what a nat of correlation counts (frames and bins are not independent, models are not Gaussian).
        rare: nats that any fault costs.
        free_affine: nats that a free scale and offset cost.
        free_level: nats that a free offset costs.
        free_pattern: nats that a free offset for each bin costs.
        free_utterance: nats that a free offset for each utterance costs.
        slack_stats: how far a held-out set's statistics lie from the training set's.
        slack_stats_scale: the same of ln sd.
        slack_power: how far the map between power and magnitude lies from a straight line.
        slack_warp: how far a bank read off by interpolation lies from the real one.
        slack_emphasis: how far pre-emphasis at a bin's centre lies from that of the whole bin.
        slack_range: how far the extremes of some utterances lie from the dataset's.
    """

    tau_level: tuple[float, float] = (0.015, 0.05)
    tau_pattern: tuple[float, float] = (0.02, 0.16)
    tau_scale: tuple[float, float] = (0.03, 0.05)
    tau_evenness: tuple[float, float] = (0.03, 0.2)
    tau_utterance: tuple[float, float] = (0.015, 0.1)
    tau_utterance_scale: tuple[float, float] = (0.02, 0.15)
    fit_weight: float = 0.3
    rare: float = 4.0
    free_affine: float = 6.0
    free_level: float = 2.5
    free_pattern: float = 9.0
    free_utterance: float = 0.5
    loose: float = 0.012
    slack_stats: float = 0.1
    slack_stats_scale: float = 0.05
    slack_power: float = 0.12
    slack_range: float = 0.3
    slack_warp: float = 0.12
    slack_emphasis: float = 0.05
    temper: float = 1.0
    edge_weight: float = 30.0
    edge_share: float = 0.15
    edge_pile: float = 1.0
    edge_bonus: float = 6.0
    read: float = 6.0
    loud: float = 1.25
    drift: float = 1.2
    lag: float = 0.3
    few_frames: int = 1000
    least_r: float = 0.15
    smooth_time: float = 0.006
    smooth_frequency: float = 0.15
    smooth_held: float = 0.3
    smooth_power: float = 0.25
    smooth_strong: float = 0.85
    smooth_power_strong: float = 0.03
    rough_autoregressive: float = 3.2
    echo: float = 0.15
    misplaced: float = 0.05
    curved: float = 0.012
    bin_drop: float = 0.4
    steps: float = 0.01
    unpaired_share: float = 0.15
    unpaired_r: float = 0.35
    collapsed_ratio: float = 0.145
    small_warp: float = 10.0
    dead_spread: float = 0.15
    copied: float = 0.9
    innovation: float = 0.35
    rough: float = 2.2
    unknown_pattern: float = 13.5
    unknown_evenness: float = 9.0
    unknown_utterances: float = 25.0
    unknown_scale: float = 6.0
    unknown_level: float = 6.0


FROZEN = Frozen()

CONFIDENCE: dict[str, Any] = {"one": 1.18, "margin": 1.11, "misfit": -0.026, "r": 0.61, "frames": 0.57, "more": -1.37, "faults": {}}


def confidence(fault: str, margin: float, misfit: float, r: float, n_frames: int, count: int) -> float:
    """Share of right answers among development cases that were answered like this one (a logistic fit).

    Args:
        fault: what is named.
        margin: how far the next explanation lies behind.
        misfit: nats that a healthy model would not show, after everything named is undone.
        r: within utterance and bin.
        n_frames: that were looked at.
        count: findings in all.
    """
    c = CONFIDENCE
    score = c["one"] + c["margin"] * math.log1p(max(margin, 0.0)) + c["misfit"] * min(misfit, 60.0) + c["r"] * (r - 0.7) + c["frames"] * math.log(max(n_frames, 1) / 4000.0) + c["more"] * (count - 1) + c["faults"].get(fault, 0.0)  # type: ignore[operator, union-attr]
    return 1.0 / (1.0 + math.exp(-score))
