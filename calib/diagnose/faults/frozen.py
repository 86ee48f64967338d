"""Tolerances of a healthy model and the calibration of the confidence: set on the development corpus, then frozen.

``benchmarks/diagnosis`` reports on other corpora what they are worth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
        tau_place: bins by which a band of bins hears higher or lower.
        fit_weight: what a nat of correlation counts (frames and bins are not independent, models are not Gaussian).
        rare: nats that any fault costs.
        usual: nats more by which one must be better than none, for each unit of (1 - r^2)^2.
        free_affine: nats that a free scale and offset cost.
        free_level: nats that a free offset costs.
        free_pattern: nats that a free offset for each bin costs.
        free_utterance: nats that a free offset for each utterance costs.
        loose: share of the nats of correlation that a form which is only nearly right must be better by.
        slack_stats: how far a held-out set's statistics lie from the training set's.
        slack_stats_scale: the same of ln sd.
        slack_power: how far the map between power and magnitude lies from a straight line.
        slack_range: how far the extremes of some utterances lie from the dataset's.
        slack_warp: how far a bank read off by interpolation lies from the real one.
        slack_emphasis: how far pre-emphasis at a bin's centre lies from that of the whole bin.
        read: nats that a bank costs which is read off by interpolation.
        small_warp: nats more for one that moves no bin, falling by e^2 with each bin that it moves them.
        edge_weight: nats for a prediction that passes a floor or ceiling as often as a healthy one.
        edge_share: share of that which a mean-like model may pass it by.
        edge_pile: values at the edge over those before it that a cut heaps up at least.
        edge_bonus: nats that a floor gains where a healthy prediction would go below it and this one does not.
        dead_spread: spread of a bin over that of the others, both over the target's, below which it is dead.
        still_spread: spread of a bin of the target over that of the others below which the target stands still there.
        least_r: correlation below which nothing is related.
        collapsed_ratio: spread of an unrelated prediction over the target's below which it has collapsed.
        pile: share of values that stand exactly at one end from which it is a cut.
        pile_bonus: nats that this is worth.
        unpaired_r: r of an utterance over that of the good ones below which it is another utterance's.
        unpaired_share: share of such utterances from which it is said.
        unpaired_apart: sds within the two groups by which their means must lie apart.
        part_collapsed: spread of utterances that hold nothing, over that of the good ones, below which they have collapsed.
        part_collapsed_weak: the same of a weak model, whose utterances differ in what they know.
        part_single: share of the utterances that one of them must be to be named.
        part_nothing: r of utterances that hold nothing, over that of the good ones, below which two of them are enough.
        level_drift: drift of the level from start to end, in sd of the target within bins, from which it is named.
        copied: correlation with the previous true frame from which a prediction may be a copy of it.
        innovation: slope on what is new in a frame below which it is one.
        smooth_time: share of the squared error of a smoothed prediction that an inverse filter over frames removes.
        smooth_time_weak: what is added to that for each unit of 1 - r^2.
        fall_time: power in the middle of the modulation over that in slow one, each over the target's, of a smoothed one.
        fall_frequency: power in fine detail over bins, over that in middling one.
        fall_broad: power in middling detail over bins, over that in broad shape.
        smooth_held: share of steps that are exactly 0, or exactly in a line, of a held or interpolated prediction.
        smooth_power: power in detail over that in broad shape below which a sampler is oversmoothed.
        smooth_strong: r from which a loss of fine detail over bins is no uncertainty.
        smooth_power_strong: power in fine detail over bins, over the target's, which then is a loss.
        few_frames: frames below which rare things happen by chance, and limits are wider.
        unknown_level: nats of a common offset that no healthy model shows.
        unknown_pattern: of offsets by bin.
        unknown_scale: of the spread.
        unknown_evenness: of spreads by bin.
        unknown_read: float = 16.0
    unknown_place: of bins that hear higher or lower than the target's.
        unknown_utterances: of levels and spreads by utterance.
        loud: power in broad shape, over the target's, that no healthy model shows.
        rough: power in detail, over the target's.
        rough_autoregressive: the same of a model that sees, or may see, the previous true frame.
        echo: r with the target some frames back over r with that as far ahead.
        misplaced: share of bins that match another bin better than their own.
        curved: share of the target's variance that a curve explains beyond a line.
        curved_cut: the same where a cut or a logarithm was undone.
        bin_drop: r of the worst eighth of the bins over that of the best.
        steps: share of distinct values below which the prediction was rounded.
        drift: frames that the lag changes along an utterance.
        lag: frames that a model which sees no previous frame is late by.
        loud_chance: what is added to `loud` for each unit of a chance correlation (1 / sqrt(independent frames)) over .05.
        echo_chance: to `echo` for each unit of it.
        misplaced_chance: to `misplaced` for each unit of it over r, from .13 on.
        drift_chance: to `drift` for each unit of it over r, from .1 on.
        curved_chance: to `curved` for each unit of its square and of 1 - r^2.
        lag_chance: to `lag` for each unit of it over r, from .1 on.
        bin_drop_chance: what is taken from `bin_drop` for each unit of it over r, from .1 on.
        worth: confidence below which *unknown* is not said where what was named is surer, or nothing was.
        sure: log odds of a right answer of r .7 in 4000 frames, with no margin and one finding.
        sure_margin: log odds for each factor e of 1 + the nats to the next explanation.
        sure_misfit: for each nat that a healthy model would not show.
        sure_r: for each unit of r within bin.
        sure_frames: for each factor e of frames, up to 4000: what tells faults apart is then no more of chance.
        sure_more: for each further finding.
        sure_unknown: where the answer is *unknown*; set lower than fitted: on the development cases it was always right.
        sure_excess: of *unknown*, for each factor e of 1 + its margin.
    """

    tau_level: tuple[float, float] = (0.015, 0.05)
    tau_pattern: tuple[float, float] = (0.02, 0.16)
    tau_scale: tuple[float, float] = (0.03, 0.05)
    tau_evenness: tuple[float, float] = (0.03, 0.2)
    tau_utterance: tuple[float, float] = (0.015, 0.04)
    tau_utterance_scale: tuple[float, float] = (0.02, 0.15)
    tau_place: tuple[float, float] = (0.012, 0.13)
    fit_weight: float = 0.3
    rare: float = 4.0
    usual: float = 2.0
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
    read: float = 6.0
    small_warp: float = 10.0
    edge_weight: float = 30.0
    edge_share: float = 0.15
    edge_pile: float = 1.0
    edge_bonus: float = 6.0
    dead_spread: float = 0.15
    still_spread: float = 0.1
    least_r: float = 0.15
    collapsed_ratio: float = 0.145
    pile: float = 0.004
    pile_bonus: float = 14.0
    unpaired_r: float = 0.35
    unpaired_share: float = 0.15
    unpaired_apart: float = 3.8
    part_collapsed: float = 0.45
    part_collapsed_weak: float = 0.2
    part_single: float = 0.05
    part_nothing: float = 0.15
    level_drift: float = 0.2
    copied: float = 0.9
    innovation: float = 0.35
    smooth_time: float = 0.006
    smooth_time_weak: float = 0.012
    fall_time: float = 0.16
    fall_frequency: float = 0.12
    fall_broad: float = 0.02
    smooth_held: float = 0.3
    smooth_power: float = 0.25
    smooth_strong: float = 0.85
    smooth_power_strong: float = 0.02
    few_frames: int = 1000
    unknown_level: float = 6.0
    unknown_pattern: float = 10.0
    unknown_scale: float = 5.0
    unknown_evenness: float = 9.0
    unknown_read: float = 12.0
    unknown_place: float = 14.0
    unknown_utterances: float = 15.0
    loud: float = 1.25
    rough: float = 2.2
    rough_autoregressive: float = 3.2
    echo: float = 0.06
    misplaced: float = 0.05
    curved: float = 0.012
    curved_cut: float = 0.03
    bin_drop: float = 0.4
    steps: float = 0.01
    drift: float = 1.2
    lag: float = 0.3
    loud_chance: float = 4.0
    echo_chance: float = 1.5
    misplaced_chance: float = 4.0
    drift_chance: float = 6.0
    curved_chance: float = 1.2
    lag_chance: float = 3.0
    bin_drop_chance: float = 1.5
    worth: float = 0.2
    sure: float = 1.58
    sure_margin: float = 1.29
    sure_misfit: float = -0.07
    sure_r: float = 1.96
    sure_frames: float = 0.93
    sure_more: float = -1.61
    sure_unknown: float = -1.4
    sure_excess: float = 1.75


FROZEN = Frozen()
_ENOUGH = 4000  # frames
_DOUBTED = 20.0  # nats that count against *unknown*


def confidence(margin: float, misfit: float, r: float, n_frames: int, count: int, *, unknown: bool = False) -> float:
    """Share of right answers among development cases that were answered like this one.

    A logistic fit, ridged towards round numbers, in which unlisted distortions count as often as in the benchmark. Left
    out one by one, no corpus was off by more than .043.

    Args:
        margin: how far the next explanation lies behind; of *unknown* how far it is beyond its limits (see `Finding`).
        misfit: nats that a healthy model would not show, after everything named is undone.
        r: within utterance and bin.
        n_frames: that were looked at.
        count: findings in all.
        unknown: whether the answer is *unknown*.
    """
    f = FROZEN
    score = (
        f.sure
        + (f.sure_excess if unknown else f.sure_margin) * math.log1p(max(margin, 0.0))
        # What is left over is what speaks for *unknown*: it does not take that back.
        + f.sure_misfit * min(misfit, _DOUBTED if unknown else 60.0)
        + f.sure_r * (r - 0.7)
        + f.sure_frames * math.log(min(max(n_frames, 1) / _ENOUGH, 1.0))
        + f.sure_more * (count - 1)
        + f.sure_unknown * unknown
    )
    return 1.0 / (1.0 + math.exp(-score))
