"""Metrics against numpy, scipy and slow definitions; identities; what they say where nothing is defined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from speechlike import mel_field, prediction

from calib.diagnose.intervals import moving_blocks
from calib.diagnose.metrics import (
    DB_PER_UNIT,
    METRICS,
    UncomputableError,
    concordance,
    decibels,
    global_variance,
    log_spectral_distance,
    mel_cepstral_distortion,
    mincer_zarnowitz,
    murphy,
    null_errors,
    scalars,
    skill,
    squared_errors,
    taylor,
)
from calib.diagnose.moments import Moments, unit_moments

TARGETS = [mel_field(70 + 23 * k, k, 10) + np.float32(0.4 * (-1) ** k) for k in range(8)]
PREDICTIONS = [prediction(y, 0.8, k) * np.float32(0.6) + np.float32(1) for k, y in enumerate(TARGETS)]
FOLDS = np.arange(8) % 4
P, Y = (np.concatenate(a).astype(np.float64) for a in (PREDICTIONS, TARGETS))
CONSTANT = [np.full_like(y, 0.3) for y in TARGETS]


def moments(ps: list[np.ndarray] = PREDICTIONS, ys: list[np.ndarray] = TARGETS) -> Moments:
    return Moments([unit_moments(p, y) for p, y in zip(ps, ys, strict=True)])


# --- Mincer-Zarnowitz -----------------------------------------------------------------------------------------------


def test_the_line_is_scipys() -> None:
    found, line = mincer_zarnowitz(moments()), stats.linregress(P.ravel(), Y.ravel())
    assert found.slope == pytest.approx(line.slope, rel=1e-10)
    assert found.intercept == pytest.approx(line.intercept, rel=1e-10)


def clusters() -> tuple[np.ndarray, np.ndarray]:
    """CR3 from its definition: scores g_u = X_u' e_u = (sum e, sum p e), moves -(A - A_u)^-1 g_u; and the coefficients."""
    x = [np.stack([np.ones(p.size), p.astype(np.float64).ravel()], axis=1) for p in PREDICTIONS]
    y = [t.astype(np.float64).ravel() for t in TARGETS]
    beta = np.linalg.lstsq(np.concatenate(x), np.concatenate(y), rcond=None)[0]
    whole = sum(a.T @ a for a in x)
    moves = [-np.linalg.solve(whole - a.T @ a, a.T @ (b - a @ beta)) for a, b in zip(x, y, strict=True)]
    return 7 / 8 * sum(np.outer(m, m) for m in moves), beta


def test_the_covariance_is_cr3_of_the_clusters_scores() -> None:
    wanted, _ = clusters()
    np.testing.assert_allclose(mincer_zarnowitz(moments()).covariance, wanted, rtol=1e-7)


def test_the_wald_test_is_hotellings_at_the_effective_number_of_clusters() -> None:
    v, beta = clusters()
    found = mincer_zarnowitz(moments())
    distance = beta - (0.0, 1.0)
    wald = distance @ np.linalg.solve(v, distance)
    assert found.statistic == pytest.approx(wald * found.degrees / (2 * (found.degrees + 1)), rel=1e-6)
    assert found.p_value == pytest.approx(stats.f.sf(found.statistic, 2, found.degrees), rel=1e-9)
    assert 4 < found.degrees < 6, "eight unequal clusters less two"


def test_a_calibrated_prediction_passes_and_another_offset_or_scale_fails() -> None:
    """Least squares on all data sets slope 1 and intercept 0 exactly: the statistic is 0."""
    _, (a, b) = clusters()
    mapped = [a + b * p.astype(np.float64) for p in PREDICTIONS]
    assert mincer_zarnowitz(moments(mapped)).p_value == pytest.approx(1.0, abs=1e-9)
    for wrong in ([m + 1.0 for m in mapped], [m * 1.3 for m in mapped]):
        assert mincer_zarnowitz(moments(wrong)).p_value < 0.01


def test_the_test_does_not_depend_on_where_zero_is() -> None:
    """Adding 1000 to both sides leaves the question the same."""
    far = moments([p.astype(np.float64) + 1000 for p in PREDICTIONS], [y.astype(np.float64) + 1000 for y in TARGETS])
    assert mincer_zarnowitz(far).statistic == pytest.approx(mincer_zarnowitz(moments()).statistic, rel=1e-6)


def test_blocks_of_one_utterance_can_be_tested() -> None:
    y = mel_field(900, 3, 10)
    p = prediction(y, 0.8, 3)
    blocks = Moments([unit_moments(p[a:b], y[a:b]) for a, b in moving_blocks(900)])
    found = mincer_zarnowitz(moments([p], [y]), blocks)
    assert found.slope == pytest.approx(stats.linregress(p.ravel(), y.ravel()).slope, rel=1e-6)
    assert 0 < found.degrees < 8


def test_what_cannot_be_tested_says_why() -> None:
    with pytest.raises(UncomputableError, match="one unit"):
        mincer_zarnowitz(moments(PREDICTIONS[:1], TARGETS[:1]))
    with pytest.raises(UncomputableError, match="needs more than two"):
        mincer_zarnowitz(moments(PREDICTIONS[:2], TARGETS[:2]))
    with pytest.raises(UncomputableError, match="constant"):
        mincer_zarnowitz(moments(CONSTANT))
    with pytest.raises(UncomputableError, match="singular"):
        mincer_zarnowitz(moments([PREDICTIONS[0]] * 6, [TARGETS[0]] * 6))


# --- decompositions and scores --------------------------------------------------------------------------------------


def test_murphys_terms_sum_to_the_mse_in_every_view() -> None:
    mse = np.mean((P - Y) ** 2)
    found = murphy(moments())
    assert set(found) == {"pooled", "bins", "within"}
    for view, terms in found.items():
        assert terms.mse == pytest.approx(mse, rel=1e-10), view


def test_murphys_terms_are_what_the_maps_remove() -> None:
    """Irreducible: what remains after the best map of that view, by least squares."""
    found = murphy(moments())
    pooled = stats.linregress(P.ravel(), Y.ravel())
    assert found["pooled"].irreducible == pytest.approx(np.mean((pooled.intercept + pooled.slope * P - Y) ** 2))
    lines = [stats.linregress(P[:, k], Y[:, k]) for k in range(10)]
    left = [np.mean((f.intercept + f.slope * P[:, k] - Y[:, k]) ** 2) for k, f in enumerate(lines)]
    assert found["bins"].irreducible == pytest.approx(np.mean(left))
    pc, yc = P - P.mean(0), Y - Y.mean(0)
    slope = (pc * yc).sum() / (pc**2).sum()
    assert found["within"].irreducible == pytest.approx(np.mean((slope * pc - yc) ** 2))
    assert found["within"].bias == pytest.approx(np.mean((P.mean(0) - Y.mean(0)) ** 2))
    assert found["bins"].irreducible <= found["within"].irreducible <= found["pooled"].irreducible


def test_skill_is_one_minus_the_ratio() -> None:
    assert (skill(0.0, 2.0), skill(2.0, 2.0), skill(3.0, 2.0)) == (1.0, 0.0, -0.5)
    with pytest.raises(UncomputableError, match="no skill"):
        skill(1.0, 0.0)


def test_taylors_figures_obey_the_law_of_cosines_and_numpy() -> None:
    found = taylor(moments())
    pc, yc = P - P.mean(0), Y - Y.mean(0)
    for point, p, y in ((found["pooled"], P - P.mean(), Y - Y.mean()), (found["within"], pc, yc)):
        assert point.sd_ratio == pytest.approx(p.std() / y.std())
        assert point.r == pytest.approx(np.corrcoef(p.ravel(), y.ravel())[0, 1])
        assert point.centred_rmse == pytest.approx(np.sqrt(np.mean((p - y) ** 2)))
        cosines = (point.sd_ratio**2 + 1 - 2 * point.sd_ratio * point.r) * y.var()
        assert point.centred_rmse**2 == pytest.approx(cosines)


def test_concordance_is_lins_and_one_only_for_equality() -> None:
    found = concordance(moments())
    cov = np.mean((P - P.mean()) * (Y - Y.mean()))
    assert found["pooled"] == pytest.approx(2 * cov / (P.var() + Y.var() + (P.mean() - Y.mean()) ** 2))
    within = P.var(axis=0).mean() + Y.var(axis=0).mean() + np.mean((P.mean(0) - Y.mean(0)) ** 2)
    assert found["within"] == pytest.approx(1 - np.mean((P - Y) ** 2) / within)
    assert concordance(moments(TARGETS, TARGETS)) == pytest.approx({"pooled": 1.0, "within": 1.0})


def test_a_constant_spectrum_earns_pooled_concordance_but_none_within() -> None:
    """The per-bin mean: pooled it agrees with half of the variance, within bins with none."""
    spectrum = [np.broadcast_to(Y.mean(0), y.shape) for y in TARGETS]
    found = concordance(moments(spectrum))
    assert found["pooled"] > 0.3
    assert found["within"] == pytest.approx(0.0, abs=1e-6)


def test_a_constant_prediction_has_concordance_zero_but_no_correlation() -> None:
    assert concordance(moments(CONSTANT)) == pytest.approx({"pooled": 0.0, "within": 0.0}, abs=1e-9)
    with pytest.raises(UncomputableError, match="prediction does not vary"):
        taylor(moments(CONSTANT))


def test_global_variance_is_the_mean_log_ratio_and_a_map_adds_its_square() -> None:
    found = global_variance(moments())
    assert found.corpus == pytest.approx(np.log(P.var(axis=0) / Y.var(axis=0)).mean())
    single = [
        np.log(p.astype(np.float64).var(axis=0) / y.astype(np.float64).var(axis=0)).mean()
        for p, y in zip(PREDICTIONS, TARGETS, strict=True)
    ]
    np.testing.assert_allclose(found.utterances, single, rtol=1e-9)
    assert found.left_out == 0
    mapped = moments([p.astype(np.float64) * -1.7 + 3 for p in PREDICTIONS])
    assert global_variance(moments(), -1.7).corpus == pytest.approx(global_variance(mapped).corpus)
    slopes = np.linspace(0.5, 2, 10)
    by_bin = moments([p.astype(np.float64) * slopes for p in PREDICTIONS])
    np.testing.assert_allclose(
        global_variance(moments(), slopes).utterances, global_variance(by_bin).utterances, rtol=1e-9
    )


def test_global_variance_leaves_dead_bins_out_and_counts_them() -> None:
    dead = [p.copy() for p in PREDICTIONS]
    for p in dead:
        p[:, 4] = 0.7
    dead[2][:] = 0.7
    found = global_variance(moments(dead))
    moving = [k for k in range(10) if k != 4]
    q = np.concatenate(dead).astype(np.float64)
    assert found.left_out == 1
    assert found.corpus == pytest.approx(np.log(q.var(axis=0)[moving] / Y.var(axis=0)[moving]).mean())
    assert np.isnan(found.utterances).tolist() == [k == 2 for k in range(8)]
    with pytest.raises(UncomputableError, match="no bin moves"):
        global_variance(moments(CONSTANT))
    with pytest.raises(UncomputableError, match="slope of 0"):
        global_variance(moments(), 0.0)


# --- null predictors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slope", "intercept"), [(1.0, 0.0), (0.0, -4.0), (0.7, 2.0), (np.linspace(0, 2, 10), np.linspace(-1, 1, 10))]
)
def test_squared_errors_equal_those_of_the_arrays(slope: float, intercept: float) -> None:
    found = squared_errors(moments(), slope, intercept)
    for k, (p, y) in enumerate(zip(PREDICTIONS, TARGETS, strict=True)):
        error = slope * p.astype(np.float64) + intercept - y
        assert found[k] == pytest.approx(np.mean(error**2), rel=1e-10)


def test_null_predictors_are_fitted_on_the_other_folds_and_scored_on_their_own() -> None:
    found = null_errors(moments(), FOLDS)
    assert set(found.mse) == {"identity", "zero", "global_mean", "bin_mean", "utterance_mean", "utterance_bin_mean"}
    for k, (p, y) in enumerate(zip(PREDICTIONS, TARGETS, strict=True)):
        p64, y64 = p.astype(np.float64), y.astype(np.float64)
        rest = np.concatenate([TARGETS[j] for j in range(8) if FOLDS[j] != FOLDS[k]]).astype(np.float64)
        wanted = {
            "identity": p64, "zero": 0.0, "global_mean": rest.mean(), "bin_mean": rest.mean(axis=0),
            "utterance_mean": y64.mean(), "utterance_bin_mean": y64.mean(axis=0),
        }  # fmt: skip
        for name, value in wanted.items():
            assert found.mse[name][k] == pytest.approx(np.mean((value - y64) ** 2), rel=1e-9), name
    assert found.total("identity") == pytest.approx(np.mean((P - Y) ** 2), rel=1e-10)
    assert found.total("zero") == pytest.approx(np.mean(Y**2), rel=1e-10)


def test_an_utterance_cannot_help_its_own_constant() -> None:
    """Moving a target moves its score by the distance: the constant of its fold does not follow."""
    moved = [y + np.float32(50) if FOLDS[k] == 0 else y for k, y in enumerate(TARGETS)]
    found = null_errors(moments(PREDICTIONS, moved), FOLDS)
    assert (found.mse["global_mean"][FOLDS == 0] > 2000).all()
    assert (found.mse["utterance_mean"][FOLDS == 0] < 10).all(), "the oracle does"
    assert set(found.oracles) < set(found.mse)


def test_constants_need_another_fold_and_a_fold_for_each_unit() -> None:
    with pytest.raises(UncomputableError, match="1 fold"):
        null_errors(moments(), np.zeros(8, dtype=int))
    with pytest.raises(ValueError, match="units"):
        null_errors(moments(), FOLDS[:3])


# --- the table ------------------------------------------------------------------------------------------------------


def test_scalars_give_every_metric_of_the_table_that_needs_no_arrays() -> None:
    values, skipped = scalars(moments(), FOLDS)
    assert skipped == {}
    assert set(values) == set(METRICS) - {"lsd", "mel_mcd"}
    assert values["mse"] == pytest.approx(np.mean((P - Y) ** 2))
    assert values["skill_bin_mean"] == pytest.approx(
        1 - values["mse"] / null_errors(moments(), FOLDS).total("bin_mean")
    )
    assert values["taylor_r_within"] == taylor(moments())["within"].r
    assert values["concordance_within"] == concordance(moments())["within"]
    assert values["mincer_zarnowitz_p"] == mincer_zarnowitz(moments()).p_value
    assert all(np.isfinite(v) for v in values.values())


@pytest.mark.parametrize("ps", [CONSTANT, TARGETS, [np.broadcast_to(Y.mean(0), y.shape) for y in TARGETS]])
def test_degenerate_predictions_skip_with_a_reason_and_lose_nothing(ps: list[np.ndarray]) -> None:
    values, skipped = scalars(moments(ps), FOLDS)
    assert set(values) | set(skipped) == set(METRICS) - {"lsd", "mel_mcd"}
    assert not set(values) & set(skipped)
    assert all(skipped.values())
    assert all(np.isfinite(v) for v in values.values())


def test_one_utterance_of_one_frame_skips_what_it_must() -> None:
    values, skipped = scalars(moments([PREDICTIONS[0][:1]], [TARGETS[0][:1]]), np.zeros(1, dtype=int))
    assert "one unit" in skipped["mincer_zarnowitz_p"]
    assert "1 fold" in skipped["skill_bin_mean"]
    assert values["mse"] == pytest.approx(np.mean((PREDICTIONS[0][0] - TARGETS[0][0]) ** 2), rel=1e-5)


def test_the_table_names_units_directions_and_sources() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.unit in {"1", "target", "target^2", "dB", "nat"}
        assert metric.better in {"lower", "higher", "0", "1"}
        assert any(c.isdigit() for c in metric.source), name
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)


def test_metrics_move_in_their_direction_when_the_prediction_gets_better() -> None:
    def at(r: float) -> dict[str, float]:
        return scalars(moments([prediction(y, r, k) for k, y in enumerate(TARGETS)]), FOLDS)[0]

    worse, better = at(0.5), at(0.9)
    for name, metric in METRICS.items():
        if (
            name in worse
            and metric.better in {"lower", "higher"}
            and "bias" not in name
            and not name.startswith(("mincer", "murphy_cond"))
        ):
            sign = 1 if metric.better == "higher" else -1
            assert sign * (better[name] - worse[name]) > 0, name


# --- mel distances --------------------------------------------------------------------------------------------------


def test_the_constants_are_the_fields() -> None:
    assert decibels("ln_amplitude") == pytest.approx(8.685889638, abs=5e-10)
    assert decibels("ln_power") == pytest.approx(4.342944819, abs=5e-10)
    assert decibels("ln_amplitude") / math.sqrt(2) == pytest.approx(6.14185, abs=5e-6)
    assert set(DB_PER_UNIT) == {"ln_amplitude", "ln_power"}
    with pytest.raises(ValueError, match="'log10'"):
        decibels("log10")


def slow_distances(p: np.ndarray, y: np.ndarray, factor: float, order: int) -> tuple[list[float], list[float]]:
    """By the definitions, a loop for every sum."""
    lsd, mcd = [], []
    frames, bins = p.shape
    for t in range(frames):
        d = [float(p[t, k]) - float(y[t, k]) for k in range(bins)]
        lsd.append(math.sqrt(sum((factor * v) ** 2 for v in d) / bins))
        total = 0.0
        for m in range(1, order + 1):
            c = math.sqrt(2 / bins) * sum(v * math.cos(math.pi * m * (2 * k + 1) / (2 * bins)) for k, v in enumerate(d))
            total += (c * math.sqrt(2 / bins)) ** 2
        mcd.append(10 * math.sqrt(2) / math.log(10) * math.sqrt(total) * (factor / (20 / math.log(10))))
    return lsd, mcd


@pytest.mark.parametrize(("domain", "factor"), [("ln_amplitude", 8.685889638065035), ("ln_power", 4.3429448190325175)])
def test_distances_equal_their_slow_definitions(domain: str, factor: float) -> None:
    p, y = PREDICTIONS[0][:12], TARGETS[0][:12]
    lsd, mcd = slow_distances(p, y, factor, 7)
    np.testing.assert_allclose(log_spectral_distance(p, y, domain), lsd, rtol=1e-6)
    np.testing.assert_allclose(mel_cepstral_distortion(p, y, domain, 7), mcd, rtol=1e-6)


def test_golden_distances_of_a_small_ramp() -> None:
    """Computed once from the definitions by hand: differences (1, 0, 0, -1) ln of amplitude."""
    p, y = np.array([[1.0, 0.0, 0.0, -1.0]]), np.zeros((1, 4))
    assert log_spectral_distance(p, y, "ln_amplitude")[0] == pytest.approx(6.141851463713754, rel=1e-12)
    # c_1 = 2/4 * 2 cos(pi/8), c_2 = 0, c_3 = 2/4 * 2 cos(3 pi/8): squares sum to 1
    assert mel_cepstral_distortion(p, y, "ln_amplitude", 3)[0] == pytest.approx(6.141851463713754, rel=1e-12)
    assert mel_cepstral_distortion(p, y, "ln_amplitude", 1)[0] == pytest.approx(5.674330859049625, rel=1e-12)
    assert mel_cepstral_distortion(p, y, "ln_power", 1)[0] == pytest.approx(5.674330859049625 / 2, rel=1e-12)


def test_all_coefficients_and_the_level_make_up_the_log_spectral_distance() -> None:
    """Parseval: LSD² = mel-MCD² + (mean difference in dB)², the last coefficient of the sum being K - 1."""
    p, y = PREDICTIONS[1], TARGETS[1]
    level = decibels("ln_amplitude") * (p.astype(np.float64) - y).mean(axis=1)
    total = mel_cepstral_distortion(p, y, "ln_amplitude", 9) ** 2 + level**2
    np.testing.assert_allclose(log_spectral_distance(p, y, "ln_amplitude") ** 2, total, rtol=1e-9)


def test_a_gain_is_no_cepstral_distortion_but_a_spectral_one() -> None:
    y = TARGETS[0].astype(np.float64)
    np.testing.assert_allclose(mel_cepstral_distortion(y + 0.5, y, "ln_amplitude", 9), 0.0, atol=1e-12)
    np.testing.assert_allclose(log_spectral_distance(y + math.log(2), y, "ln_amplitude"), 20 * math.log10(2), rtol=1e-9)


@pytest.mark.parametrize("order", [0, 10, 13])
def test_an_order_that_the_bins_do_not_have_is_refused(order: int) -> None:
    with pytest.raises(ValueError, match="10 bins have coefficients 1 to 9"):
        mel_cepstral_distortion(PREDICTIONS[0], TARGETS[0], "ln_power", order)
