"""Robust, monotone and matrix fits against scikit-learn; the floor, with the figures of real speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import HuberRegressor, LinearRegression, Ridge
from speechlike import mel_field, prediction

from calib.diagnose.calibrators import fits
from calib.diagnose.calibrators.crossmoments import CrossMoments
from calib.diagnose.calibrators.fits import Folds, GroupedSums
from calib.diagnose.calibrators.floors import above_floor_fits, above_floor_moments, find_floors
from calib.diagnose.calibrators.sampled import (
    Curve,
    FrameSample,
    FrameSampler,
    curve_gain,
    huber,
    isotonic,
    monotone,
)
from calib.diagnose.moments import Moments, unit_moments

Pairs = list[tuple[np.ndarray, np.ndarray]]


def sampled(pairs: Pairs, most: int = 2000) -> FrameSample:
    sampler = FrameSampler(sum(p.shape[0] for p, _ in pairs), most)
    for k, (p, y) in enumerate(pairs):
        sampler.add(k, p, y)
    return sampler.result()


def folded(pairs: Pairs, folds: int = 5) -> Folds:
    moments = Moments([unit_moments(p, y) for p, y in pairs])
    return Folds(GroupedSums.of(moments), np.arange(len(pairs)) % folds)


def speech(count: int, r: float = 0.9, bins: int = 12) -> Pairs:
    ys = [mel_field(60 + 3 * k, 40 + k, bins).astype(np.float64) for k in range(count)]
    return [(prediction(y, r, k).astype(np.float64), y) for k, y in enumerate(ys)]


# --- sample ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [10, 100, 5000])
def test_the_sample_is_every_kth_frame_whatever_the_cuts(most: int) -> None:
    rng = np.random.default_rng(0)
    p, y = rng.standard_normal((700, 4)), rng.standard_normal((700, 4))
    whole = sampled([(p, y)], most)
    cut = sampled([(p[a:b], y[a:b]) for a, b in ((0, 1), (1, 290), (290, 291), (291, 700))], most)
    np.testing.assert_array_equal(whole.p, cut.p)
    np.testing.assert_array_equal(whole.y, cut.y)
    step = -(-700 // most)
    np.testing.assert_array_equal(whole.p, p[::step])
    assert whole.p.shape[0] <= most
    np.testing.assert_array_equal(
        cut.unit, np.searchsorted([0, 1, 290, 291], np.arange(0, 700, step), side="right") - 1
    )


def test_an_empty_sample_is_an_error() -> None:
    with pytest.raises(ValueError, match="no frames"):
        FrameSampler(10).result()


# --- robust ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [0, 3, 5])
def test_the_robust_fit_is_scikit_learns(row: int) -> None:
    rng = np.random.default_rng(1)
    pairs = [(p / 2.1 + 1, np.where(rng.random(y.shape) < 0.05, y + 9, y)) for p, y in speech(10)]
    folds, sample = folded(pairs), sampled(pairs)
    maps = huber(sample, folds)
    seen = folds.fold_of[sample.unit] != row
    model = HuberRegressor(alpha=0.0, epsilon=1.35, max_iter=2000, tol=1e-9)
    model.fit(sample.p[seen].reshape(-1, 1), sample.y[seen].ravel())
    assert maps.slope[row, 0] == pytest.approx(model.coef_[0], rel=1e-5)
    assert maps.intercept[row, 0] == pytest.approx(model.intercept_, abs=1e-4)
    plain = fits.least_squares(folds)
    assert abs(maps.intercept[row, 0] - plain.intercept[row, 0]) > 0.1, "the outliers must matter"


def test_the_robust_fit_of_an_exact_line_and_of_a_constant_ends() -> None:
    pairs = [(p, 2.5 * p - 1) for p, _ in speech(6)]
    maps = huber(sampled(pairs), folded(pairs))
    assert maps.slope[-1, 0] == pytest.approx(2.5)
    assert maps.intercept[-1, 0] == pytest.approx(-1.0)
    flat = [(np.full_like(p, 2.0), y) for p, y in speech(6)]
    assert huber(sampled(flat), folded(flat)).slope[-1, 0] == 0.0


# --- monotone -------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(1, 4)), min_size=1, max_size=40))
def test_pooling_adjacent_violators_is_scikit_learns_isotonic_regression(points: list[tuple[int, int]]) -> None:
    y, weight = (np.array(v, dtype=np.float64) for v in zip(*points, strict=True))
    model = IsotonicRegression().fit(np.arange(y.size), y, sample_weight=weight)
    np.testing.assert_allclose(isotonic(y, weight), model.predict(np.arange(y.size)), atol=1e-9)


def bent(pairs: Pairs, sign: float = 1.0) -> Pairs:
    """Predictions compressed where they are loud: a model that saturates."""
    return [(sign * -np.log1p(np.exp(-(p + 5.5))), y) for p, y in pairs]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_curve_follows_isotonic_regression_of_all_values(sign: float) -> None:
    pairs = bent(speech(20), sign)
    folds, sample = folded(pairs), sampled(pairs)
    curve = monotone(sample, folds, fits.least_squares(folds), sample_like=False)[-1]
    model = IsotonicRegression(increasing=bool(sign > 0)).fit(sample.p.ravel(), sample.y.ravel())
    grid = np.quantile(sample.p, np.linspace(0.01, 0.99, 50))
    assert np.abs(curve(grid) - model.predict(grid)).mean() < 0.05
    assert (np.diff(sign * curve(np.linspace(sample.p.min() - 3, sample.p.max() + 3, 500))) >= 0).all()


@pytest.mark.parametrize("sample_like", [False, True])
def test_a_curve_gains_where_the_relation_is_bent_and_nowhere_else(*, sample_like: bool) -> None:
    for pairs, gains in ((bent(speech(20)), True), (speech(20), False)):
        folds, sample = folded(pairs), sampled(pairs)
        reference = fits.moment_matching(folds) if sample_like else fits.least_squares(folds)
        curves = monotone(sample, folds, reference, sample_like=sample_like)
        gain = curve_gain(sample, folds, curves, reference, sample_like=sample_like).sum()
        before = folds.losses([reference], sample_like=sample_like).sum()
        assert bool(gain < -0.05 * before) is gains
        assert gain < 0.02 * before


def test_the_gain_of_a_curve_is_the_difference_of_held_out_squared_errors_when_every_frame_is_sampled() -> None:
    pairs = bent(speech(10))
    folds, sample = folded(pairs), sampled(pairs, 10**6)
    reference = fits.least_squares(folds)
    curves = monotone(sample, folds, reference, sample_like=False)
    found = curve_gain(sample, folds, curves, reference, sample_like=False)
    for k, (p, y) in enumerate(pairs):
        fold = folds.fold_of[k]
        curved = ((curves[fold](p) - y) ** 2).sum()
        straight = ((p * reference.slope[fold] + reference.intercept[fold] - y) ** 2).sum()
        assert found[k] == pytest.approx(curved - straight, rel=1e-8, abs=1e-6)


def test_a_sample_of_every_third_frame_gives_the_gain_of_all_frames() -> None:
    pairs = bent(speech(20))
    folds = folded(pairs)
    reference = fits.least_squares(folds)
    gains = []
    for most in (10**6, sum(p.shape[0] for p, _ in pairs) // 3):
        sample = sampled(pairs, most)
        curves = monotone(sample, folds, reference, sample_like=False)
        gains.append(curve_gain(sample, folds, curves, reference, sample_like=False).sum())
    assert gains[1] == pytest.approx(gains[0], rel=0.1)


def test_beyond_its_knots_a_curve_goes_on_with_its_slope() -> None:
    curve = Curve(np.array([0.0, 1.0, 2.0]), np.array([0.0, 3.0, 3.0]), 0.5, 2.0)
    np.testing.assert_allclose(curve(np.array([-2.0, 0.5, 1.5, 4.0])), [-1.0, 1.5, 3.0, 4.0])


def test_a_curve_needs_frames_of_every_fold_and_more_than_two_values() -> None:
    pairs = speech(6)
    folds = folded(pairs)
    with pytest.raises(ValueError, match="some fold"):
        monotone(sampled(pairs, 2), folds, fits.least_squares(folds), sample_like=False)
    flat = [(np.where(p > -5, 1.0, 0.0), y) for p, y in pairs]
    with pytest.raises(ValueError, match="three values"):
        monotone(sampled(flat), folded(flat), fits.least_squares(folds), sample_like=False)


# --- matrix ---------------------------------------------------------------------------------------------------------


def crossed(pairs: Pairs, folds: int) -> CrossMoments:
    cross = CrossMoments(folds, np.full(pairs[0][0].shape[1], -4.0), np.full(pairs[0][0].shape[1], -5.0))
    for k, (p, y) in enumerate(pairs):
        cross.add(p, y, k % folds)
    return cross


def test_the_matrix_and_its_held_out_errors_are_scikit_learns() -> None:
    pairs = [(p @ np.roll(np.eye(12), 2, axis=1) + 0.5 * p, y) for p, y in speech(8)]
    cross = crossed(pairs, 4)
    found = cross.fit()

    def model(folds: set[int], share: float) -> Ridge:
        p = np.concatenate([p for k, (p, _) in enumerate(pairs) if k % 4 in folds])
        y = np.concatenate([y for k, (_, y) in enumerate(pairs) if k % 4 in folds])
        return Ridge(alpha=share * p.var(axis=0).mean() * p.shape[0]).fit(p, y)

    everything = model({0, 1, 2, 3}, found.penalty)
    np.testing.assert_allclose(found.weights, everything.coef_.T, atol=1e-8)
    np.testing.assert_allclose(found.bias, everything.intercept_, atol=1e-8)
    for held_out in range(4):
        seen = {0, 1, 2, 3} - {held_out}
        one = model(seen, cross._penalty(sorted(seen)))
        wanted = sum(((one.predict(p) - y) ** 2).sum() for k, (p, y) in enumerate(pairs) if k % 4 == held_out)
        assert found.errors[held_out] == pytest.approx(wanted, rel=1e-8)
    p = np.concatenate([p for p, _ in pairs])
    within = (p @ found.weights + found.bias).var(axis=0).mean()
    assert cross.variance_within(found) == pytest.approx(within)
    assert 12 < found.parameters <= 12 * 13


def test_the_matrix_penalty_is_that_of_least_held_out_error() -> None:
    """Noise of few frames needs a large penalty, a clean mixture a small one."""
    rng = np.random.default_rng(2)
    noise = [(rng.standard_normal((9, 12)), rng.standard_normal((9, 12))) for _ in range(6)]
    clean = [(y @ np.roll(np.eye(12), 1, axis=1), y) for _, y in speech(6)]
    assert crossed(noise, 3).fit().penalty == 1.0
    assert crossed(clean, 3).fit().penalty == 1e-5


def test_the_matrix_needs_folds_and_frames() -> None:
    with pytest.raises(ValueError, match="three folds"):
        crossed(speech(4), 2).fit()
    with pytest.raises(ValueError, match="too few"):
        crossed([(p[:2], y[:2]) for p, y in speech(3)], 3).fit()


def test_a_sample_of_unknown_length_is_every_kth_frame_whatever_the_pieces() -> None:
    frames = np.arange(5000.0)[:, None] * np.ones(3)
    for cuts in ([], [1], [100, 101, 700, 2999], list(range(7, 5000, 7))):
        sampler = FrameSampler(most=300)
        for unit, part in enumerate(np.split(frames, cuts)):
            sampler.add(unit, part, -part)
            assert len(sampler.result().p) <= 300
        found = sampler.result()
        assert sampler.step == 32
        assert found.p[:, 0].tolist() == list(range(0, 5000, 32))
        assert (found.y == -found.p).all()
        assert found.unit.tolist() == np.searchsorted(cuts, found.p[:, 0], side="right").tolist()


# --- floor ----------------------------------------------------------------------------------------------------------


def regression(p: np.ndarray, y: np.ndarray) -> float:
    return float(LinearRegression().fit(p.reshape(-1, 1), y.ravel()).coef_[0])


def cleared(p: np.ndarray, y: np.ndarray, *, sample_like: bool = False) -> tuple[float, float, float]:
    """Slope and intercept clear of the floors, and the share of the values used."""
    floors = find_floors(sampled([(p, y)]), sample_like=sample_like)
    assert floors.any
    sums = above_floor_moments(p, y, floors.low, floors.low_y, high_p=floors.high)
    return *above_floor_fits(sums)["moments" if sample_like else "ols"], float(sums[-1].sum() / y.size)


SHARES = [0.1, 0.2, 0.4]


@pytest.mark.parametrize("share", SHARES)
def test_of_normal_values_least_squares_sees_one_minus_the_floored_share(share: float) -> None:
    """Stein's lemma: cov(p, max(y, c)) = cov(p, y) P(y > c); above the floor the truth comes back."""
    rng = np.random.default_rng(3)
    p = rng.standard_normal((20_000, 8))
    y = p + 0.4 * rng.standard_normal(p.shape)
    floored = np.maximum(y, np.quantile(y, share))
    assert regression(p, floored) == pytest.approx(1 - share, abs=0.01)
    slope, intercept, used = cleared(p, floored)
    assert slope == pytest.approx(1.0, abs=0.007)
    assert intercept == pytest.approx(0.0, abs=0.007)
    assert 0.2 < used < 1 - share


@pytest.mark.parametrize(("share", "published"), [(0.1, 0.938), (0.2, 0.817), (0.4, 0.590)])
def test_on_real_speech_the_published_bias_appears_and_is_repaired(
    ljspeech: Path, share: float, published: float
) -> None:
    from calib.data.audio import read_audio
    from calib.mel.frontend import FrontEnd

    frontend = FrontEnd.load("hifigan")
    paths = sorted((ljspeech / "wavs").glob("*.wav"))[::3]
    y = np.concatenate([np.asarray(frontend.mel(read_audio(path, 22050).samples)) for path in paths]).astype(float)
    noise = gaussian_filter(np.random.default_rng(0).standard_normal(y.shape), (1, 1))
    deviation, r = y - y.mean(0), 0.975
    p = y.mean(0) + r * r * deviation + r * np.sqrt(1 - r * r) * deviation.std() * noise / noise.std()
    floored = np.maximum(y, np.quantile(y, share))
    assert regression(p, y) == pytest.approx(1.0, abs=0.005)
    assert regression(p, floored) == pytest.approx(published, abs=0.02)
    assert cleared(p, floored)[0] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("case", ["target", "both", "prediction", "upside down", "half"])
@pytest.mark.parametrize("sample_like", [False, True])
def test_whichever_side_is_floored_the_slope_is_found(share: float, case: str, *, sample_like: bool) -> None:
    rng = np.random.default_rng(4)
    y = rng.standard_normal((30_000, 4)) * 2 - 5
    r = 0.9
    noise = 2 * np.sqrt(1 - r * r) * rng.standard_normal(y.shape)
    p = -5 + (r * (y + 5) + noise if sample_like else r * r * (y + 5) + r * noise)
    floor = np.quantile(y, share)
    floored = y if case == "prediction" else np.maximum(y, floor)
    given_p, wanted = {
        "target": (p, (1.0, 0.0)),
        "both": (np.maximum(p, floor), (1.0, 0.0)),
        "prediction": (np.maximum(p, floor), (1.0, 0.0)),
        "upside down": (-p, (-1.0, 0.0)),
        "half": (p / 2 + 3, (2.0, -6.0)),
    }[case]
    slope, intercept, _ = cleared(given_p, floored, sample_like=sample_like)
    assert slope == pytest.approx(wanted[0], rel=0.025)
    assert intercept == pytest.approx(wanted[1], abs=0.15)


def test_no_floor_is_seen_where_none_is_and_a_given_one_is_believed() -> None:
    pairs = speech(6)
    sample = sampled(pairs)
    floors = find_floors(sample)
    assert not floors.any
    assert floors.clear(sample.p, sample.y).all()
    given = find_floors(sample, floor_y=-6.0)
    assert given.y == -6.0
    assert given.share_y == pytest.approx(float((sample.y <= -6.0).mean()), abs=1e-3)
    assert not given.clear(sample.p, sample.y).all()
    assert given.low_y == -np.inf  # least squares: chosen by the prediction alone
    assert find_floors(sample, floor_y=-6.0, sample_like=True).low_y == pytest.approx(-6.0, abs=1e-3)


def test_a_constant_is_no_floor() -> None:
    pairs = [(np.full_like(p, -3.0), y) for p, y in speech(6)]
    assert find_floors(sampled(pairs)).p is None


def test_sums_above_the_floor_add_up_and_do_not_depend_on_the_shift() -> None:
    rng = np.random.default_rng(5)
    p, y = rng.standard_normal((400, 3)), rng.standard_normal((400, 3))
    whole = above_floor_moments(p, y, -0.5, -1.0)
    parts = sum(above_floor_moments(p[k : k + 100], y[k : k + 100], -0.5, -1.0) for k in range(0, 400, 100))
    np.testing.assert_allclose(whole, parts, rtol=1e-12)
    shifts = (np.full(3, 0.7), np.full(3, -0.2))
    shifted = above_floor_fits(above_floor_moments(p, y, -0.5, -1.0, shifts=shifts), shifts)
    keep = (p > -0.5) & (y > -1.0)
    for found in (above_floor_fits(whole), shifted):
        assert found["ols"][0] == pytest.approx(regression(p[keep], y[keep]))
        assert abs(found["moments"][0]) == pytest.approx(y[keep].std() / p[keep].std())
    with pytest.raises(ValueError, match="0 values"):
        above_floor_fits(above_floor_moments(p, y, 99.0, -1.0))
