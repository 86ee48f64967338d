"""Intervals against refits, textbook t-intervals and simulated truth; what they say where nothing is defined."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import signal, stats
from speechlike import mel_field, prediction

from calib.diagnose import intervals as module
from calib.diagnose.calibrators.fits import SetStats
from calib.diagnose.intervals import (
    BLOCK_FRAMES,
    Intervals,
    Jackknife,
    block_intervals,
    moving_blocks,
    utterance_intervals,
)
from calib.diagnose.moments import Moments, UnitMoments, unit_moments

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = {
    "r", "r_w", "s_w_ratio", "slope_ols", "intercept_ols", "slope_moments", "intercept_moments", "removable_share",
}  # fmt: skip
TARGETS = [mel_field(60 + 31 * k, k, 12) + np.float32(0.3 * (-1) ** k) for k in range(7)]
PREDICTIONS = [prediction(y, 0.8, k) * np.float32(0.3) + np.float32(2) for k, y in enumerate(TARGETS)]


def moments(ps: list[np.ndarray] = PREDICTIONS, ys: list[np.ndarray] = TARGETS) -> Moments:
    return Moments([unit_moments(p, y) for p, y in zip(ps, ys, strict=True)])


def pair(found: Intervals, name: str) -> list[float]:
    return [found.values[name].low, found.values[name].high]


# --- the method -----------------------------------------------------------------------------------------------------


def refit(left_out: int | None) -> dict[str, float]:
    """Every figure by plain numpy and scipy, without one utterance."""
    keep = [k for k in range(len(TARGETS)) if k != left_out]
    p = np.concatenate([PREDICTIONS[k] for k in keep]).astype(np.float64)
    y = np.concatenate([TARGETS[k] for k in keep]).astype(np.float64)
    line = stats.linregress(p.ravel(), y.ravel())
    pc, yc = p - p.mean(0), y - y.mean(0)
    ratio = y.std() / p.std()
    mse = np.mean((p - y) ** 2)
    return {
        "r": np.arctanh(line.rvalue),
        "r_w": np.arctanh((pc * yc).sum() / np.sqrt((pc**2).sum() * (yc**2).sum())),
        "s_w_ratio": np.log(pc.std() / yc.std()),
        "slope_ols": line.slope,
        "intercept_ols": line.intercept,
        "slope_moments": np.log(ratio),
        "intercept_moments": y.mean() - ratio * p.mean(),
        "removable_share": np.log((1 - line.rvalue**2) * y.var() / mse),
    }


BACK = {
    "r": np.tanh, "r_w": np.tanh, "s_w_ratio": np.exp, "slope_moments": np.exp, "removable_share": lambda v: 1 - np.exp(v),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_interval_is_the_jackknife_of_seven_refits(name: str) -> None:
    found = utterance_intervals(moments(), sample_like=False)
    estimate, without = refit(None)[name], np.array([refit(k)[name] for k in range(7)])
    error = np.sqrt(6 / 7 * ((without - estimate) ** 2).sum())
    half = stats.t.ppf(0.975, found.effective_units - 1) * error
    back = BACK.get(name, lambda v: v)
    assert pair(found, name) == pytest.approx(sorted([back(estimate - half), back(estimate + half)]), rel=1e-8)


def test_the_interval_of_a_mean_of_equal_units_is_students() -> None:
    """The t-interval of scipy of the seven unit means, up to the effective number (spreads differ, so it is below 7)."""
    ys = [y[:60] for y in TARGETS]
    m = moments([p[:60] for p in PREDICTIONS], ys)
    jackknife = Jackknife(m)
    means = np.array([y.astype(np.float64).mean() for y in ys])
    found = jackknife.of(lambda s: {"mean": s.m_y[:, 0]})["mean"]
    low, high = jackknife.limits(*found)
    wanted = stats.t.interval(0.95, jackknife.degrees, means.mean(), stats.sem(means))
    assert [float(low), float(high)] == pytest.approx(list(wanted), rel=1e-9)


def test_equal_units_count_one_each() -> None:
    one = unit_moments(PREDICTIONS[0], TARGETS[0])
    assert Jackknife(Moments([one] * 9)).effective_units == pytest.approx(9, rel=1e-12)


def test_the_effective_number_is_kishs_of_frames_and_of_pooled_squares() -> None:
    p_mean = np.concatenate(PREDICTIONS).astype(np.float64).mean()
    y_mean = np.concatenate(TARGETS).astype(np.float64).mean()
    shares = [
        np.array([y.shape[0] for y in TARGETS], dtype=float),
        np.array([((p.astype(np.float64) - p_mean) ** 2).sum() for p in PREDICTIONS]),
        np.array([((y.astype(np.float64) - y_mean) ** 2).sum() for y in TARGETS]),
    ]
    assert Jackknife(moments()).effective_units == pytest.approx(min(x.sum() ** 2 / (x**2).sum() for x in shares))


def test_an_utterance_that_outweighs_all_others_leaves_one_degree_of_freedom() -> None:
    loud = [*PREDICTIONS[:-1], PREDICTIONS[-1] * np.float32(1000)]
    jackknife = Jackknife(moments(loud))
    assert jackknife.effective_units < 1.3
    assert jackknife.degrees == 1.0
    found = utterance_intervals(moments(loud), sample_like=False)
    assert set(found.values) == NAMES
    assert all(np.isfinite([i.low, i.high]).all() for i in found.values.values())


def test_the_covariance_has_the_squared_errors_on_its_diagonal() -> None:
    jackknife = Jackknife(moments())
    found = jackknife.of(lambda s: {"a": s.m_y[:, 0], "b": s.m_p[:, 0]})
    estimate = np.array([v for v, _ in found.values()])
    left = np.stack([v for _, v in found.values()], axis=1)
    low, high = jackknife.limits(estimate, left)
    half = stats.t.ppf(0.975, jackknife.degrees) * np.sqrt(np.diag(jackknife.covariance(estimate, left)))
    np.testing.assert_allclose(high - low, 2 * half, rtol=1e-12)


def test_limits_take_arrays_of_any_shape() -> None:
    jackknife = Jackknife(moments())
    rng = np.random.default_rng(0)
    left = rng.standard_normal((7, 3, 2))
    low, high = jackknife.limits(np.zeros((3, 2)), left)
    assert low.shape == high.shape == (3, 2)
    alone = jackknife.limits(0.0, left[:, 2, 1])
    assert (low[2, 1], high[2, 1]) == pytest.approx((float(alone[0]), float(alone[1])))


# --- blocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 99, 100, 101, 205, 1720])
def test_moving_blocks_cover_the_utterance_and_overlap(frames: int) -> None:
    blocks = moving_blocks(frames)
    covered = np.zeros(frames, dtype=int)
    for a, b in blocks:
        assert b - a == min(frames, BLOCK_FRAMES)
        covered[a:b] += 1
    assert covered.min() >= 1
    assert blocks[0][0] == 0
    assert blocks[-1][1] == frames
    assert all(0 < b[0] - a[0] <= 10 for a, b in itertools.pairwise(blocks))


def cut(ps: list[np.ndarray], ys: list[np.ndarray]) -> Moments:
    return Moments(
        [unit_moments(p[a:b], y[a:b]) for p, y in zip(ps, ys, strict=True) for a, b in moving_blocks(len(y))]
    )


def test_blocks_know_the_error_of_the_mean_of_an_autoregressive_series() -> None:
    """Theory: variance (1 + a) / (1 - a) / n. Blocks of 100 frames see .87 of it at a = .927."""
    a, n = 0.927, 4000
    ratios = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        y = signal.lfilter([1.0], [1.0, -a], rng.standard_normal(n + 500) * np.sqrt(1 - a * a))[500:, None]
        jackknife = Jackknife(moments([y], [y]), cut([y], [y]))
        estimate, left = jackknife.of(lambda s: {"mean": s.m_y[:, 0]})["mean"]
        ratios.append(jackknife.factor * ((left - estimate) ** 2).sum() / ((1 + a) / (1 - a) / n))
    assert 0.75 < np.mean(ratios) < 1.05


def test_blocks_count_as_many_as_fit_side_by_side() -> None:
    y = mel_field(1000, 0, 8)
    p = prediction(y, 0.7, 0)
    jackknife = Jackknife(moments([p], [y]), cut([p], [y]))
    assert 7.0 < jackknife.effective_units <= 10.0
    assert jackknife.factor == pytest.approx(1000 / (91 * 100))


def test_blocks_give_the_same_whatever_shifts_their_sums_are_about() -> None:
    ys = [mel_field(400, 0, 8), mel_field(300, 1, 8) + np.float32(3)]
    ps = [prediction(y, 0.7, k) for k, y in enumerate(ys)]
    found = block_intervals(moments(ps, ys), cut(ps, ys), sample_like=False)
    halves = (
        [a for k in range(2) for a in np.array_split(ps[k], 5)],
        [a for k in range(2) for a in np.array_split(ys[k], 5)],
    )
    again = block_intervals(moments(*halves), cut(ps, ys), sample_like=False)
    for name in NAMES:
        assert pair(found, name) == pytest.approx(pair(again, name), rel=1e-9), name
    assert "blocks of 100 frames, within these utterances only" in found.method


def test_the_sums_of_blocks_are_about_the_means_of_all_data() -> None:
    """Blocks overlap, so their own means differ from those of all frames."""
    y = mel_field(420, 0, 8) + np.linspace(0, 2, 420, dtype=np.float32)[:, None]
    p = prediction(y, 0.7, 0)
    found = Jackknife(moments([p], [y]), cut([p], [y])).units
    dp, dy = p - p.astype(np.float64).mean(0), y - y.astype(np.float64).mean(0)
    for row, values in enumerate((dp, dy, dp * dp, dy * dy, dp * dy, np.ones_like(dp))):
        wanted = [values[a:b].sum(axis=0) for a, b in moving_blocks(420)]
        np.testing.assert_allclose(found[:, row], wanted, rtol=1e-9, atol=1e-8)


def test_fewer_frames_than_three_blocks_give_no_interval_and_say_so() -> None:
    y = mel_field(250, 0, 8)
    found = block_intervals(moments([y], [y]), cut([y], [y]), sample_like=False)
    assert found.values == {}
    assert set(found.skipped) == NAMES
    assert "three blocks" in found.skipped["r_w"]


# --- what the intervals obey ----------------------------------------------------------------------------------------


def test_another_unit_of_the_prediction_moves_the_intervals_as_it_moves_the_map() -> None:
    """With 4 p - 7 in float64: slope / 4, intercept + 7 slope / 4 for the same lines; correlations stay."""
    wide = [p.astype(np.float64) * 4 - 7 for p in PREDICTIONS]
    a = utterance_intervals(moments(), sample_like=False)
    b = utterance_intervals(moments(wide), sample_like=False)
    for name in ("r", "r_w"):
        assert pair(b, name) == pytest.approx(pair(a, name), rel=1e-9)
    for name in ("slope_ols", "slope_moments"):
        assert pair(b, name) == pytest.approx([v / 4 for v in pair(a, name)], rel=1e-9)
    assert pair(b, "s_w_ratio") == pytest.approx([v * 4 for v in pair(a, "s_w_ratio")], rel=1e-9)


def test_a_prediction_upside_down_has_the_mirrored_intervals() -> None:
    a = utterance_intervals(moments(), sample_like=True)
    b = utterance_intervals(moments([-p for p in PREDICTIONS]), sample_like=True)
    for name in ("r", "r_w", "slope_ols", "slope_moments"):
        assert pair(b, name) == pytest.approx([-v for v in reversed(pair(a, name))], rel=1e-9), name
    for name in ("intercept_ols", "intercept_moments"):
        assert pair(b, name) == pytest.approx(pair(a, name), rel=1e-9), name


def test_where_r_may_be_zero_the_sign_of_the_matching_slope_stays_open() -> None:
    noise = [np.random.default_rng(500 + k).standard_normal(y.shape) + 4 for k, y in enumerate(TARGETS)]
    found = utterance_intervals(moments(noise), sample_like=False)
    assert found.values["r"].low < 0 < found.values["r"].high
    slope, intercept = found.values["slope_moments"], found.values["intercept_moments"]
    assert slope.low == -slope.high
    s = moments(noise).summary()
    for sign in (-1, 1):
        b = sign * float(s.s_y / s.s_p)
        assert slope.low < b < slope.high
        assert intercept.low < float(s.m_y) - b * float(s.m_p) < intercept.high


def test_the_order_of_the_utterances_does_not_matter() -> None:
    a = utterance_intervals(moments(), sample_like=False)
    b = utterance_intervals(moments(PREDICTIONS[::-1], TARGETS[::-1]), sample_like=False)
    for name in NAMES:
        assert pair(a, name) == pytest.approx(pair(b, name), rel=1e-9), name


def test_more_utterances_than_are_left_out_at_once_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = utterance_intervals(moments(), sample_like=False)
    monkeypatch.setattr(module, "_CHUNK", 3)
    assert utterance_intervals(moments(), sample_like=False) == whole


def test_the_point_estimate_lies_inside_its_interval() -> None:
    s = moments().summary()
    found = utterance_intervals(moments(), sample_like=False)
    wanted = {
        "r": s.r, "r_w": s.r_w, "s_w_ratio": s.s_w_ratio, "slope_ols": s.slope_ols, "slope_moments": s.slope_mm,
        "intercept_ols": s.intercept(s.slope_ols), "intercept_moments": s.intercept(s.slope_mm),
        "removable_share": s.removable_share(sample_like=False),
    }  # fmt: skip
    for name, value in wanted.items():
        assert found.values[name].low < float(value) < found.values[name].high, name


# --- degenerate -----------------------------------------------------------------------------------------------------


def test_one_utterance_has_no_interval_over_utterances() -> None:
    found = utterance_intervals(moments(PREDICTIONS[:1], TARGETS[:1]), sample_like=False)
    assert (found.values, set(found.skipped)) == ({}, NAMES)
    assert "one unit" in found.skipped["slope_ols"]


@pytest.mark.parametrize("value", [0.0, 0.3, -5.0, 1e6])
def test_a_constant_prediction_has_no_slope_but_a_removable_share(value: float) -> None:
    found = utterance_intervals(moments([np.full_like(y, value) for y in TARGETS]), sample_like=False)
    assert set(found.values) == {"removable_share"}
    assert "constant" in found.skipped["slope_ols"]
    assert "within its bins" in found.skipped["r_w"]


def test_a_constant_spectrum_has_a_slope_but_nothing_within_bins() -> None:
    spectrum = np.linspace(-3, -8, 12, dtype=np.float32)
    found = utterance_intervals(moments([np.broadcast_to(spectrum, y.shape) for y in TARGETS]), sample_like=False)
    assert set(found.skipped) == {"r_w", "s_w_ratio"}


def test_a_prediction_that_moves_in_one_utterance_only_has_no_slope() -> None:
    """Without that utterance none is defined, so nothing is known of what another corpus would give."""
    still = [PREDICTIONS[0], *(np.full_like(y, 2.0) for y in TARGETS[1:])]
    found = utterance_intervals(moments(still), sample_like=False)
    assert {"r", "r_w", "slope_ols", "slope_moments"} <= set(found.skipped)


def test_a_perfect_prediction_is_known_exactly() -> None:
    found = utterance_intervals(moments(TARGETS, TARGETS), sample_like=False)
    for name in ("r", "r_w", "s_w_ratio", "slope_ols", "slope_moments"):
        assert pair(found, name) == pytest.approx([1, 1], abs=1e-9), name
    assert "equals the target" in found.skipped["removable_share"]


def test_an_exact_affine_fault_is_all_of_the_error() -> None:
    found = utterance_intervals(moments([y.astype(np.float64) * 0.5 + 1 for y in TARGETS], TARGETS), sample_like=False)
    assert pair(found, "slope_ols") == pytest.approx([2, 2], abs=1e-9)
    assert pair(found, "removable_share") == pytest.approx([1, 1], abs=1e-9)


# --- coverage -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coverage() -> ModuleType:
    """benchmarks/coverage.py, which is no package."""
    spec = importlib.util.spec_from_file_location("calib_coverage", BENCHMARKS / "coverage.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def test_intervals_of_five_skewed_utterances_hold_the_truth_where_percentiles_do_not(
    coverage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short run of the benchmark: 95 % of 150 replicates is 142; percentiles hold it in about 120."""
    monkeypatch.setattr(coverage, "CELLS", [coverage.Cell("mean", 0.7)])
    monkeypatch.setattr(coverage, "DRAWS", 200)
    ((_, row),) = coverage.tally(coverage.over_utterances("skewed", 150, 5)).items()
    for name in ("slope_ols", "intercept_ols", "r_w"):
        assert 0.90 <= row[name]["share"] <= 1.0, name
        assert row[f"percentile bootstrap: {name}"]["share"] < 0.90, name


def test_the_simulation_has_the_correlations_that_it_says(coverage: ModuleType) -> None:
    """Its sums against arrays made from the same processes, and its truth against a large sample."""
    rng = np.random.default_rng(0)
    u = coverage.Utterances.draw(rng, 1, coverage.SCENARIOS["speech"])
    cell = coverage.Cell("mean", 0.7)
    p, y = u.coefficients(cell)
    f = coverage.processes(rng, 700)
    found = Moments(coverage.unit_list(np.array([700]), (f @ f.T)[None], p, y)).summary()
    direct = Moments([unit_moments((p[0] @ f).T, (y[0] @ f).T)]).summary()
    for name in ("m_p", "s_y", "r", "r_w", "mse"):
        assert float(getattr(found, name)) == pytest.approx(float(getattr(direct, name)), rel=1e-9), name
    long = coverage.processes(rng, 200_000)[1:]
    assert np.corrcoef(long[1, 1:], long[1, :-1])[0, 1] == pytest.approx(0.927, abs=0.003)
    assert long.std(axis=1) == pytest.approx(1.0, abs=0.05)
    wanted = coverage.truth(cell, coverage.SCENARIOS["speech"])
    assert wanted["slope_ols"] == pytest.approx(1.0, abs=0.005), (
        "least squares finds nothing to correct in a mean-like model"
    )
    assert wanted["r_w"] == pytest.approx(0.7, abs=0.03)


def test_the_recorded_coverage_is_inside_the_band_that_the_module_claims() -> None:
    recorded = json.loads((BENCHMARKS / "coverage.json").read_text(encoding="utf-8"))
    low, high = recorded["band"]
    checked = 0
    for setting, cells in recorded["cells"].items():
        if setting.startswith("stress"):
            continue
        for row in cells.values():
            for name, value in row.items():
                if name.startswith(("slope", "intercept")):
                    checked += 1
                    assert low - 2 * value["error"] <= value["share"] <= high + 2 * value["error"], (setting, name)
                if name == "wald test rejects":
                    assert value["share"] <= 0.05 + 3 * max(value["error"], 0.005), (setting, value)
    assert checked > 200


def test_512_utterances_take_less_than_300_ms() -> None:
    rng = np.random.default_rng(0)
    units = [
        UnitMoments(int(n), *rng.standard_normal((2, 80)), *(n * rng.uniform(1, 2, (2, 80))), n * rng.uniform(0, 1, 80))
        for n in rng.integers(100, 900, 512)
    ]
    m = Moments(units)
    best = min(_seconds(m) for _ in range(5))
    assert best < 0.3


def _seconds(m: Moments) -> float:
    started = time.process_time()
    assert set(utterance_intervals(m, sample_like=False).values) == NAMES
    return time.process_time() - started


def test_the_figures_are_those_of_the_summary() -> None:
    """`SetStats`, which the intervals use, and `Summary`, which people see, are one definition."""
    s = moments().summary()
    rows = Jackknife(moments())
    both = SetStats.of(rows.total[None], *rows.shifts)
    assert float(both.within_py[0, 0]) == pytest.approx(float(s.r_w * s.s_w_p * s.s_w_y), rel=1e-12)
    assert float(both.pooled_p[0, 0]) == pytest.approx(float(s.s_p**2), rel=1e-12)
