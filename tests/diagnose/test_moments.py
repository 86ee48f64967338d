"""Sufficient statistics against scikit-learn and plain numpy; what they mean on cases with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from speechlike import mel_field, prediction

from calib.diagnose.moments import Moments, unit_moments
from calib.diagnose.nulls import structure_probe, swap_null, time_shift_null

TARGETS = [mel_field(60 + 17 * k, k, 20) for k in range(7)]
PREDICTIONS = [prediction(y, 0.8, k) * np.float32(0.3) + np.float32(2) for k, y in enumerate(TARGETS)]


def moments(ps: list[np.ndarray] = PREDICTIONS, ys: list[np.ndarray] = TARGETS) -> Moments:
    return Moments([unit_moments(p, y) for p, y in zip(ps, ys, strict=True)])


def flat(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays).astype(np.float64).ravel()


def test_the_slope_and_intercept_are_scikit_learns() -> None:
    s = moments().summary()
    model = LinearRegression().fit(flat(PREDICTIONS)[:, None], flat(TARGETS))
    assert float(s.slope_ols) == pytest.approx(model.coef_[0], abs=1e-9)
    assert float(s.intercept(s.slope_ols)) == pytest.approx(model.intercept_, abs=1e-9)


@pytest.mark.parametrize("held_out", range(7))
def test_the_slope_and_intercept_of_every_fold_are_scikit_learns(held_out: int) -> None:
    weights = np.ones(7)
    weights[held_out] = 0
    s = moments().summary(weights)
    rest = [k for k in range(7) if k != held_out]
    model = LinearRegression().fit(flat([PREDICTIONS[k] for k in rest])[:, None], flat([TARGETS[k] for k in rest]))
    assert float(s.slope_ols) == pytest.approx(model.coef_[0], abs=1e-9)
    assert float(s.intercept(s.slope_ols)) == pytest.approx(model.intercept_, abs=1e-9)
    np.testing.assert_allclose(
        moments().bin_means(weights), np.concatenate([TARGETS[k] for k in rest]).astype(np.float64).mean(0), atol=1e-9
    )


def test_pooled_and_within_bin_figures_equal_numpy() -> None:
    s = moments().summary()
    p, y = np.concatenate(PREDICTIONS).astype(np.float64), np.concatenate(TARGETS).astype(np.float64)
    pc, yc = p - p.mean(0), y - y.mean(0)
    wanted = {
        "m_p": p.mean(), "m_y": y.mean(), "s_p": p.std(), "s_y": y.std(), "r": np.corrcoef(p.ravel(), y.ravel())[0, 1],
        "s_w_p": pc.std(), "s_w_y": yc.std(), "r_w": (pc * yc).sum() / np.sqrt((pc**2).sum() * (yc**2).sum()), "mse": ((p - y) ** 2).mean(),
    }  # fmt: skip
    for name, value in wanted.items():
        assert float(getattr(s, name)) == pytest.approx(value, abs=1e-10), name


def test_murphys_three_terms_sum_to_the_mean_squared_error() -> None:
    s = moments().summary()
    terms = ((s.m_p - s.m_y) ** 2, (s.s_p - s.r * s.s_y) ** 2, (1 - s.r**2) * s.s_y**2)
    assert float(sum(terms)) == pytest.approx(float(np.mean((flat(PREDICTIONS) - flat(TARGETS)) ** 2)), rel=1e-10)


def test_the_removable_share_is_what_the_best_affine_map_removes() -> None:
    """F of a mean-like model, measured by applying the regression; of a sample-like one, by matching moments."""
    p, y = flat(PREDICTIONS), flat(TARGETS)
    s = moments().summary()
    mse = np.mean((p - y) ** 2)
    fitted = LinearRegression().fit(p[:, None], y).predict(p[:, None])
    matched = (p - p.mean()) / p.std() * y.std() + y.mean()
    assert float(s.removable_share(sample_like=False)) == pytest.approx(1 - np.mean((fitted - y) ** 2) / mse, abs=1e-9)
    assert float(s.removable_share(sample_like=True)) == pytest.approx(1 - np.mean((matched - y) ** 2) / mse, abs=1e-9)


def test_a_constant_spectrum_has_no_correlation_within_bins_though_it_has_pooled() -> None:
    spectrum = np.concatenate(TARGETS).mean(0)
    constant = [np.broadcast_to(spectrum, y.shape).astype(np.float32) for y in TARGETS]
    s = moments(constant).summary()
    assert float(s.r) > 0.3
    assert abs(float(s.r_w)) < 1e-6
    assert float(s.s_w_ratio) < 1e-6


def test_a_constant_prediction_has_slope_zero_and_no_nan() -> None:
    s = moments([np.zeros_like(y) for y in TARGETS]).summary()
    assert (float(s.slope_ols), float(s.slope_mm), float(s.r), float(s.r_w)) == (0, 0, 0, 0)
    assert float(s.intercept(s.slope_ols)) == pytest.approx(flat(TARGETS).mean(), abs=1e-9)


def test_a_draw_counts_each_unit_as_often_as_it_was_drawn() -> None:
    weights = np.array([2.0, 0, 1, 0, 3, 0, 1])
    repeated = [k for k, w in enumerate(weights) for _ in range(int(w))]
    one = moments([PREDICTIONS[k] for k in repeated], [TARGETS[k] for k in repeated]).summary()
    many = moments().summary(np.stack([weights, np.ones(7)]))
    for name in ("m_p", "s_y", "r", "r_w", "mse"):
        assert getattr(many, name)[0] == pytest.approx(float(getattr(one, name)), abs=1e-10)
        assert getattr(many, name)[1] == pytest.approx(float(getattr(moments().summary(), name)), abs=1e-12)


def test_a_large_offset_does_not_cost_the_correlation() -> None:
    far = [p.astype(np.float64) + 1e6 for p in PREDICTIONS]
    assert float(moments(far).summary().r_w) == pytest.approx(float(moments().summary().r_w), abs=1e-6)


def test_the_order_of_the_units_does_not_matter() -> None:
    a, b = moments().summary(), moments(PREDICTIONS[::-1], TARGETS[::-1]).summary()
    assert float(a.r_w) == pytest.approx(float(b.r_w), abs=1e-14)
    assert float(a.mse) == pytest.approx(float(b.mse), rel=1e-14)


# --- nulls and structure --------------------------------------------------------------------------------------------


def centred(ps: list[np.ndarray], ys: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    mean_p, mean_y = np.concatenate(ps).astype(np.float64).mean(0), np.concatenate(ys).astype(np.float64).mean(0)
    return [(p - mean_p, y - mean_y) for p, y in zip(ps, ys, strict=True)]


def test_the_swap_null_is_about_zero_and_far_below_a_real_pairing() -> None:
    null, best, own, _ = swap_null(centred(PREDICTIONS, TARGETS), seed=0)
    assert own == pytest.approx(float(moments().summary().r_w), abs=1e-9)
    assert abs(null.mean) < 0.05
    assert null.limit < 0.2 < own
    assert best <= own, "no other pairing is better"


def test_unrelated_predictions_lie_inside_their_own_swap_null() -> None:
    """95 % of them should: of 40 independent sets, few may be outside."""
    outside = 0
    for seed in range(40):
        ys = [mel_field(80, 100 * seed + k, 20) for k in range(6)]
        ps = [mel_field(80, 100 * seed + 50 + k, 20) for k in range(6)]
        null, _, own, _ = swap_null(centred(ps, ys), seed)
        outside += abs(own) > null.limit
    assert outside <= 8


def test_the_time_shift_null_equals_shifts_made_one_by_one() -> None:
    pairs = centred(PREDICTIONS[2:4], TARGETS[2:4])
    values = []
    for shift in range(20, min(p.shape[0] for p, _ in pairs) - 20):
        c = sum(float((np.roll(p, shift, axis=0) * y).sum()) for p, y in pairs)
        values.append(c / np.sqrt(sum((p**2).sum() for p, _ in pairs) * sum((y**2).sum() for _, y in pairs)))
    null = time_shift_null(pairs)
    assert null.draws == len(values)
    assert null.limit == pytest.approx(np.quantile(np.abs(values), 0.95), abs=1e-12)
    assert null.mean == pytest.approx(np.mean(values), abs=1e-12)


@pytest.mark.parametrize("lag", [-8, -3, 0, 1, 5])
def test_the_probe_finds_the_lag_with_its_sign(lag: int) -> None:
    """A prediction that is late has a positive lag."""
    ys = [mel_field(200, k, 20) for k in range(3)]
    ps = [np.roll(y, lag, axis=0) for y in ys]
    probe = structure_probe(centred(ps, ys), np.concatenate(ps).mean(0))
    assert probe.best_lag == lag
    assert probe.by_lag[lag] > 0.97


def test_the_probe_undoes_a_flip_and_a_wrong_reshape_exactly() -> None:
    turned = [y[:, ::-1].copy() for y in TARGETS]
    assert structure_probe(centred(turned, TARGETS), np.concatenate(turned).mean(0)).flipped == pytest.approx(
        1.0, abs=1e-9
    )
    mixed = [np.ascontiguousarray(y.T).reshape(y.shape) for y in TARGETS]
    assert structure_probe(
        centred(mixed, TARGETS), np.concatenate(mixed).astype(np.float64).mean(0)
    ).reshaped == pytest.approx(1.0, abs=1e-6)
