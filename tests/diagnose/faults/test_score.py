"""The cost of a hypothesis: against a slow version of the formula, and what must not matter to it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.place import Place
from calib.diagnose.faults.sample import Sample
from calib.diagnose.faults.score import Cost, Stats, Terms, independent

LENGTHS = (120, 95, 150, 88, 101, 133, 97, 140)
M = 12


def pairs(seed: int = 0, lengths: tuple[int, ...] = LENGTHS) -> list[tuple[np.ndarray, np.ndarray]]:
    """A target with slow frames, and a shrunk, noisy and slightly biased prediction of it."""
    rng = np.random.default_rng(seed)
    bias = rng.normal(0.0, 0.1, M)
    out = []
    for n in lengths:
        noise = rng.standard_normal((2, n + 10, M))
        y = np.linspace(-3, -7, M) + sum(noise[0, k : k + n] for k in range(10)) * 0.4
        out.append((-5 + 0.8 * (y + 5) + 0.4 * noise[1, :n] + bias + rng.normal(0.0, 0.1), y))
    return out


def slow_levels(ps: list[np.ndarray], ys: list[np.ndarray], s_w: float, left: float) -> tuple[float, float]:
    """Share of the level's movement within utterances, in means of 32 frames, that is missed, and the mean square error.

    Six blocks of what the correlation alone would say are counted in.
    """
    wrong, there, free = 0.0, 0.0, 0
    for p, y in zip(ps, ys, strict=True):
        count = len(y) // 32
        if count < 3:
            continue
        a, b = ((x[: count * 32].mean(1) / s_w).reshape(count, 32).mean(1) for x in (p, y))
        a, b = a - a.mean(), b - b.mean()
        wrong, there, free = wrong + float(((a - b) ** 2).sum()), there + float((b * b).sum()), free + count - 1
    part = there / free if free else 1.0
    usual = 2 * left**2 * 14 / (6 * 32)
    return (wrong + 6 * left**2 * part) / (there + 6 * part), (wrong + 6 * usual) / (free + 6)


def slow(data: list[tuple[np.ndarray, np.ndarray]], slope: float, intercept: float, kind: str | None) -> Cost:
    """The formula of the module's docstring, written out for one global map, all bins alive, groups = utterances."""
    f = FROZEN
    ps = [slope * p.astype(np.float32).astype(np.float64) + intercept for p, _ in data]
    ys = [y.astype(np.float32).astype(np.float64) for _, y in data]
    n = sum(len(y) for y in ys)
    weights = [len(y) / n for y in ys]
    pc, yc = (np.concatenate([a - a.mean(0) for a in side]) for side in (ps, ys))
    s_w = math.sqrt((yc**2).mean())
    r = float((pc * yc).mean() / math.sqrt((pc**2).mean() * (yc**2).mean()))
    left = math.sqrt(1 - r * r)

    def tau(pair: tuple[float, float]) -> float:
        return pair[0] + pair[1] * left

    by_utterance = np.array([(p.mean(0) - y.mean(0)) / s_w for p, y in zip(ps, ys, strict=True)])  # (U, M)
    b = sum(w * row for w, row in zip(weights, by_utterance, strict=True))
    common = float(b.mean())
    count = len(data)
    level_error = sum(w * (row.mean() - common) ** 2 for w, row in zip(weights, by_utterance, strict=True)) / (
        count - 1
    )
    pattern_error = sum(
        w * np.mean((row - row.mean() - b + common) ** 2) for w, row in zip(weights, by_utterance, strict=True)
    ) / (count - 1)
    level = common**2 / (tau(f.tau_level) ** 2 + level_error)
    pattern = 8.0 * b.var() / (tau(f.tau_pattern) ** 2 + pattern_error)
    overall = math.log(math.sqrt((pc**2).mean()) / s_w)
    low = 0.0 if kind == "sample" else math.log(r)
    high = math.log(r) if kind == "mean" else 0.0
    effective = n / 14 * 6
    unsure = (1 - r * r) / math.sqrt(effective) / r
    outside = max(low - overall, overall - high, 0.0) ** 2 / (tau(f.tau_scale) ** 2 + unsure**2)
    evenness = 8.0 * float(np.log(pc.std(0) / yc.std(0)).var()) / tau(f.tau_evenness) ** 2
    u = by_utterance.mean(1)
    middle = float(np.dot(weights, u))
    share, moved = slow_levels(ps, ys, s_w, left)
    chance = [moved * 32 / len(y) for y in ys]
    # Levels that differ by themselves: those of the targets, or of the predictions less what they are shrunk by.
    own, said = (np.array([x.mean() / s_w for x in side]) for side in (ys, ps))
    differ = min(math.sqrt(np.dot(weights, (x - np.dot(weights, x)) ** 2)) / by for x, by in ((own, 1.0), (said, r)))
    size = tau(f.tau_utterance) ** 2 + share * differ**2
    levels = max(np.mean([(x - middle) ** 2 / (size + c) for x, c in zip(u, chance, strict=True)]) - 1, 0)
    # The spread is judged before the map, which only adds a constant to all of its logarithms.
    alone = [(p - p.mean(0), y - y.mean(0)) for p, y in zip(ps, ys, strict=True)]
    spread = np.array([math.log(p.std() / y.std()) for p, y in alone])
    known = spread - np.log([abs((p * y).mean()) / (p.std() * y.std()) for p, y in alone])
    uneven = [float(np.mean((x - np.median(x)) ** 2)) for x in (spread, known)]
    spreads = max((uneven[0] if kind == "sample" else min(uneven)) / tau(f.tau_utterance_scale) ** 2 - 1, 0)
    fit = f.fit_weight / 2 * effective * math.log(1 - r * r)
    return Cost(level / 2, pattern / 2, outside / 2, evenness / 2, count * (levels + spreads) / 2, 0.0, fit, 0.0)


@pytest.mark.parametrize("kind", [None, "mean", "sample"])
@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (1.3, 1.1), (0.4, -2.0)])
def test_the_cost_is_the_formula_s(slope: float, intercept: float, kind: str | None) -> None:
    data = pairs()
    found = Stats(Sample(data), kind=kind).costs([Terms(slope, intercept)], [0.0])[0]
    wanted = slow(data, slope, intercept, kind)
    for part in ("level", "pattern", "scale", "evenness", "utterances", "fit", "prior"):
        assert getattr(found, part) == pytest.approx(getattr(wanted, part), rel=2e-4, abs=1e-4), part
    assert found.total == pytest.approx(found.misfit + found.fit + found.prior)


def test_bins_that_lie_elsewhere_cost_by_the_square_and_no_band_more_than_so_much() -> None:
    offset, error = np.array([0.1, -0.2, 0.0, 3.0]), np.array([0.05, 0.05, 0.1, 0.1])
    stats = Stats(Sample(pairs()), place=Place(offset, error))
    found = stats.costs([Terms(1.0, 0.0)], [0.0])[0]
    left = math.sqrt(1 - stats.r**2)
    tau = FROZEN.tau_place[0] + FROZEN.tau_place[1] * left
    wanted = sum(min(d * d / (tau * tau + e * e), 25.0) for d, e in zip(offset, error, strict=True)) / 2
    assert found.place == pytest.approx(wanted, rel=1e-3)
    assert found.misfit == pytest.approx(
        Stats(Sample(pairs())).costs([Terms(1.0, 0.0)], [0.0])[0].misfit + wanted, rel=1e-3
    )


def test_many_maps_at_once_cost_what_each_costs_alone() -> None:
    stats = Stats(Sample(pairs()))
    offsets = np.linspace(-0.5, 0.5, M)
    maps = [
        Terms(1.0, 0.0), Terms(1.2, 0.7, free=6.0, level_free=True), Terms(1.0, offsets, free=9.0, pattern_free=True),
        Terms(np.linspace(0.8, 1.2, M), offsets, slack=0.1, slack_pattern=0.2, slack_scale=0.05),
        Terms(1.0, 0.1, utterance_free=True), Terms(1.0, 0.1, any_utterance=True),
    ]  # fmt: skip
    priors = [0.0, 4.0, 4.0, 2.0, 1.0, 0.5]
    together = stats.costs(maps, priors)
    for terms, prior, cost in zip(maps, priors, together, strict=True):
        alone = stats.costs([terms], [prior])[0]
        for part in ("level", "pattern", "scale", "evenness", "utterances", "fit", "prior"):
            assert getattr(cost, part) == pytest.approx(getattr(alone, part), rel=1e-9, abs=1e-12)


def test_what_was_fitted_is_not_held_against_a_map_but_is_paid_for() -> None:
    stats = Stats(Sample(pairs()))
    plain, level, pattern, utterance = stats.costs(
        [
            Terms(1.0, 0.5), Terms(1.0, 0.5, free=2.5, level_free=True), Terms(1.0, 0.5, free=9.0, pattern_free=True),
            Terms(1.0, 0.5, utterance_free=True),
        ],
        [0.0, 4.0, 4.0, 0.0],
    )  # fmt: skip
    assert plain.level > 0
    assert plain.pattern > 0
    assert level.level == 0
    assert level.pattern == plain.pattern
    assert (pattern.level, pattern.pattern) == (0, 0)
    assert utterance.utterances <= plain.utterances
    assert (level.prior, pattern.prior) == (6.5, 13.0)


@pytest.mark.parametrize(("factor", "offset"), [(8.685889638, 0.0), (0.4342944819, 0.0), (1.0, 120.0), (20.0, -7.0)])
def test_the_unit_of_both_sides_does_not_matter(factor: float, offset: float) -> None:
    """In dB, log10 or ln, and wherever the zero lies: a healthy pair costs the same."""
    data = pairs()
    other = [(factor * p + offset, factor * y + offset) for p, y in data]
    here, there = (Stats(Sample(d)).costs([Terms(1.0, 0.0)], [0.0])[0] for d in (data, other))
    for part in ("level", "pattern", "scale", "evenness", "utterances", "fit"):
        assert getattr(there, part) == pytest.approx(getattr(here, part), rel=2e-3, abs=1e-3)


def test_the_order_of_the_utterances_does_not_matter() -> None:
    data = pairs()
    here, there = (Stats(Sample(d)).costs([Terms(1.1, 0.2)], [0.0])[0] for d in (data, data[::-1]))
    for part in ("level", "pattern", "scale", "evenness", "utterances", "fit"):
        assert getattr(there, part) == pytest.approx(getattr(here, part), rel=1e-6, abs=1e-9)


def test_a_map_that_leaves_the_sign_wrong_is_out_of_the_question() -> None:
    negative, positive = Stats(Sample(pairs())).costs([Terms(-1.0, -10.0), Terms(1.0, 0.0)], [0.0, 0.0])
    assert negative.total >= 1e6
    assert positive.total < 1e3


def test_a_dead_bin_is_left_out_of_every_part() -> None:
    data = pairs()
    dead = np.arange(M) == 4
    broken = [(np.where(dead, 99.0, p), y) for p, y in data]
    without = [(p[:, ~dead], y[:, ~dead]) for p, y in data]
    here = Stats(Sample(broken), dead=dead).costs([Terms(1.0, 0.0)], [0.0])[0]
    there = Stats(Sample(without)).costs([Terms(1.0, 0.0)], [0.0])[0]
    assert here.total == pytest.approx(there.total, rel=1e-6)


def test_a_conditional_mean_may_shrink_and_a_sampler_may_not() -> None:
    """The spread of r s_y is a mean model's own; declared a sampler, the same pair has too little."""
    data = [(y.mean(0) + 0.7 * (p - p.mean(0)) + 0.0, y) for p, y in pairs()]
    stats = {kind: Stats(Sample(data), kind=kind) for kind in ("mean", "sample")}
    assert (
        stats["sample"].costs([Terms(1.0, 0.0)], [0.0])[0].scale
        > stats["mean"].costs([Terms(1.0, 0.0)], [0.0])[0].scale
    )


def spoken_by_many(seed: int, r: float, fault: float = 0.0, *, side: str = "prediction") -> Cost:
    """Costs of a model of quality r on sixteen utterances whose levels differ by .3 of their sd.

    It misses .6 of what it would miss of each level if it knew that as badly as everything else; ``fault`` adds to each.
    """
    rng = np.random.default_rng(seed)
    data = []
    for _ in range(16):
        noise = rng.standard_normal((2, 260, M))
        level, missed, other = rng.standard_normal(3) * (0.3, 0.18 * math.sqrt(1 - r * r), fault)
        y = noise[0] + level
        p = r * r * noise[0] + r * math.sqrt(1 - r * r) * noise[1] + level + missed
        data.append((p + other, y) if side == "prediction" else (p, y + other))
    return Stats(Sample(data), kind="mean").costs([Terms(1.0, 0.0)], [0.0])[0]


def test_a_weak_model_of_many_speakers_misses_their_levels_and_that_is_no_fault() -> None:
    """A tolerance from one speaker's utterances would take nearly every such model for one with another level in each."""
    healthy = [spoken_by_many(seed, r).utterances for seed in range(8) for r in (0.4, 0.6, 0.8)]
    assert np.quantile(healthy, 0.9) < 4.0
    assert max(healthy) < FROZEN.unknown_utterances


@pytest.mark.parametrize("side", ["prediction", "target"])
def test_another_level_in_each_utterance_costs_whichever_side_it_is_on(side: str) -> None:
    """A fault of the target may not widen the tolerance by which it is judged."""
    faulty = [spoken_by_many(seed, 0.8, 0.9, side=side).utterances for seed in range(4)]
    assert min(faulty) > FROZEN.rare + FROZEN.free_level + 16 * FROZEN.free_utterance


def test_independent_values_grow_with_the_frames_and_never_vanish() -> None:
    assert independent(1400) == 600.0
    assert independent(1) == independent(14) == 6.0


@pytest.mark.parametrize("lengths", [LENGTHS, (40, 50, 60, 45)])
def test_an_offset_for_each_utterance_costs_the_more_the_better_the_level_is_known_within_them(
    lengths: tuple[int, ...],
) -> None:
    """What the level does within utterances says what a model misses of it; where they are too short the correlation does."""
    data = pairs(lengths=lengths)
    rng = np.random.default_rng(5)
    offsets = rng.choice((-1.0, 1.0), len(data)) * 0.6
    moving = [10.0 * np.sin(np.arange(n) / 20.0)[:, None] * rng.uniform(0.5, 1.0) for n in lengths]

    def cost(known: float) -> float:
        frames = [(p + o + known * m, y + m) for (p, y), o, m in zip(data, offsets, moving, strict=True)]
        return Stats(Sample(frames), kind="sample").costs([Terms(1.0, 0.0)], [0.0])[0].utterances

    even = Stats(Sample(data), kind="sample").costs([Terms(1.0, 0.0)], [0.0])[0].utterances
    plain = [(p + o, y) for (p, y), o in zip(data, offsets, strict=True)]
    assert Stats(Sample(plain), kind="sample").costs([Terms(1.0, 0.0)], [0.0])[0].utterances > even + 5.0
    if lengths == LENGTHS:
        assert cost(1.0) > cost(0.6)
