"""Known constants and the choice among calibrators: each fault answered in kind, and no choice that a fixed one beats."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from calib.diagnose.calibrators import fits as closed
from calib.diagnose.calibrators.constants import accepted_maps, known_maps, statistics_maps
from calib.diagnose.calibrators.crossmoments import CrossMoments
from calib.diagnose.calibrators.fits import Folds, GroupedSums
from calib.diagnose.calibrators.floors import find_floors
from calib.diagnose.calibrators.rule import Candidate, Choice
from calib.diagnose.calibrators.sampled import FrameSample, FrameSampler
from calib.diagnose.calibrators.selection import Fit, Selection, select
from calib.diagnose.moments import Moments, unit_moments

BINS = 24
MEAN = np.linspace(-3.5, -7.5, BINS)
TILT = np.linspace(-1, 1, BINS)
LN10 = 2.302585092994046
Pair = tuple[np.ndarray, np.ndarray]
Change = Callable[[np.ndarray], np.ndarray]


def utterance(rng: np.random.Generator, frames: int, r: float, *, sample_like: bool) -> Pair:
    """Target and prediction of within-bin correlation about r; both have a level of their own in each utterance."""

    def field(width: float) -> np.ndarray:
        out = gaussian_filter(rng.standard_normal((frames + 20, BINS + 8)), (width, 1.5))[10:-10, 4:-4]
        return np.asarray(1.8 * out / out.std())

    level = 0.35 * rng.standard_normal() + 0.25 * rng.standard_normal() * TILT
    truth, error = field(3.0), field(2.0)
    shrunk = r if sample_like else r * r
    p = shrunk * (truth + level) + (np.sqrt(1 - r * r) if sample_like else r * np.sqrt(1 - r * r)) * error
    y = MEAN + level + truth
    return (MEAN + p + 0.12 * rng.standard_normal()).astype(np.float32), y.astype(np.float32)


FAULTS: dict[str, Change] = {
    "none": lambda p: p,
    "log10": lambda p: p / LN10,
    "normalised": lambda p: (p + 5.07) / 2.08,
    "gain": lambda p: p - 1.386,
    "normalised by bin": lambda p: (p - MEAN) / (1.8 * (1 + 0.3 * TILT)),
    "equaliser": lambda p: p + 1.2 * np.sin(3 * TILT),
    "wrong statistics": lambda p: 1.23 * p + 0.7,
    "saturated": lambda p: -np.log1p(np.exp(-(p + 6))),
    "outliers": lambda p: np.where(np.arange(p.size).reshape(p.shape) % 97 == 0, p + 8, p),
}


def pairs_of(
    fault: str, r: float, count: int, seed: int | list[int], *, sample_like: bool = False, frames: int = 90
) -> list[Pair]:
    rng = np.random.default_rng(seed)
    made = [utterance(rng, frames, r, sample_like=sample_like) for _ in range(count)]
    return [(FAULTS[fault](p.astype(np.float64)).astype(np.float32), y) for p, y in made]


def gathered(pairs: list[Pair]) -> tuple[Moments, np.ndarray, FrameSample, CrossMoments]:
    """What one reading of the pairs gives; blocks where there is one utterance."""
    if len(pairs) == 1:
        pairs = list(zip(*(np.array_split(a, 5) for a in pairs[0]), strict=True))
    fold_of = np.arange(len(pairs)) % 5
    moments = Moments([unit_moments(p, y) for p, y in pairs])
    sampler = FrameSampler(sum(p.shape[0] for p, _ in pairs))
    cross = CrossMoments(int(fold_of.max()) + 1, moments.shift_p, moments.shift_y)
    for k, (p, y) in enumerate(pairs):
        sampler.add(k, p, y)
        cross.add(p, y, int(fold_of[k]))
    return moments, fold_of, sampler.result(), cross


def chosen_from(pairs: list[Pair], *, sample_like: bool = False, beyond: bool = True) -> Selection:
    moments, fold_of, sample, cross = gathered(pairs)
    return select(
        moments, fold_of, sample_like=sample_like, sample=sample if beyond else None, cross=cross if beyond else None
    )


# --- the whole benchmark --------------------------------------------------------------------------------------------


def fresh_loss(fit: Fit, pairs: list[Pair], *, sample_like: bool) -> float:
    """On utterances that nothing was fitted on: squared error, or the loss of a sampler."""
    out, y = np.concatenate([fit(p.astype(np.float64)) for p, _ in pairs]), np.concatenate([y for _, y in pairs])
    if not sample_like:
        return float(((out - y) ** 2).mean())
    s_p, s_y = out.std(axis=0), y.std(axis=0)
    cov = ((out - out.mean(0)) * (y - y.mean(0))).mean(0)
    r = np.divide(cov, s_p * s_y, out=np.zeros(BINS), where=s_p > 0)
    return float(((out.mean(0) - y.mean(0)) ** 2 + (s_p - s_y) ** 2 + 2 * s_y**2 * (1 - r)).mean())


def benchmark() -> list[tuple[str, str | None, dict[str, float]]]:
    rows = []
    for number, fault in enumerate(FAULTS):
        for sample_like in (False, True):
            for r in (0.4, 0.8, 0.95):
                seed = [number, int(100 * r), int(sample_like)]
                fresh = pairs_of(fault, r, 20, [*seed, 99], sample_like=sample_like)
                for count in (1, 4, 16, 64):
                    frames = 270 if count == 1 else 90
                    pairs = pairs_of(fault, r, count, [*seed, count], sample_like=sample_like, frames=frames)
                    s = chosen_from(pairs, sample_like=sample_like)
                    losses = {name: fresh_loss(f, fresh, sample_like=sample_like) for name, f in s.fits.items()}
                    rows.append((s.chosen, s.beyond, losses))
    return rows


@pytest.mark.slow
def test_over_a_benchmark_no_single_method_beats_the_choice_by_more_than_a_hundredth() -> None:
    """Faults × quality × 1 to 64 utterances × means and samplers, scored on fresh utterances.

    For each method that a file can hold, over the cases it was made in: mean of the loss of the choice over its loss,
    and of the logarithm (so that no few cases decide).
    """
    rows = benchmark()
    assert len(rows) == len(FAULTS) * 24
    for method in ("identity", "ols", "moments", "ridge", "huber", "bin-offset", "per-bin"):
        ratios = np.array([losses[chosen] / losses[method] for chosen, _, losses in rows if method in losses])
        assert ratios.size >= len(rows) // 2
        assert ratios.mean() <= 1.01, method
        assert np.exp(np.log(ratios).mean()) <= 1.005, method
    # With the curve and the matrix, where the rule says that they gain.
    for method in ("monotone", "matrix"):
        ratios = np.array(
            [losses[beyond or chosen] / losses[method] for chosen, beyond, losses in rows if method in losses]
        )
        assert ratios.mean() <= 1.01, method
    # Against whatever happens to be best in each case, which no rule can know.
    writable = [{k: v for k, v in losses.items() if k not in {"monotone", "matrix"}} for _, _, losses in rows]
    regret = np.array([own[chosen] / min(own.values()) for own, (chosen, _, _) in zip(writable, rows, strict=True)])
    assert regret.mean() < 1.02


# --- each fault answered in kind ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample_like", [False, True])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("none", {"identity"}),
        ("log10", {"known:from-log10"}),
        ("gain", {"known:gain:slope"}),
        ("equaliser", {"bin-offset"}),
        ("normalised by bin", {"per-bin"}),
        ("wrong statistics", {"ols", "moments"}),
    ],
)
def test_a_fault_is_answered_by_the_simplest_fit_that_repairs_it(
    fault: str, expected: set[str], *, sample_like: bool
) -> None:
    s = chosen_from(pairs_of(fault, 0.95, 24, 7, sample_like=sample_like), sample_like=sample_like)
    assert s.chosen in expected
    assert s.beyond != "monotone"
    assert s.fits[s.chosen].writable
    assert "known:gain" not in s.fits, "slope 1 and intercept 0 are the identity"
    if fault == "wrong statistics":
        assert s.chosen == ("moments" if sample_like else "ols")


def test_the_exact_constant_is_applied_not_the_estimate() -> None:
    s = chosen_from(pairs_of("log10", 0.9, 16, 8))
    assert (s.fits[s.chosen].slope, s.fits[s.chosen].intercept) == (pytest.approx(LN10, rel=1e-14), 0.0)
    assert abs(s.fits["ols"].slope - LN10) > 1e-3
    assert s.constants[0].known.id == "from-log10"
    gain = chosen_from(pairs_of("gain", 0.9, 16, 8))
    assert gain.fits[gain.chosen].slope == 1.0
    assert gain.fits[gain.chosen].intercept == pytest.approx(1.386, abs=0.1)


@pytest.mark.parametrize("sample_like", [False, True])
def test_a_bent_relation_asks_for_the_curve_and_writes_the_affine_fit(*, sample_like: bool) -> None:
    s = chosen_from(pairs_of("saturated", 0.95, 24, 9, sample_like=sample_like), sample_like=sample_like)
    assert s.beyond == "monotone"
    assert s.best == "monotone"
    assert not s.fits["monotone"].writable
    assert s.fits[s.chosen].writable
    assert "no straight line" in s.reason


def test_another_filterbank_asks_for_the_matrix() -> None:
    mixing = np.array([[np.exp(-(((i - 0.8 * j - 2) / 1.2) ** 2)) for j in range(BINS)] for i in range(BINS)])
    mixing /= mixing.sum(axis=0)
    pairs = [((p @ mixing).astype(np.float32), y) for p, y in pairs_of("none", 0.97, 32, 10)]
    s = chosen_from(pairs)
    assert s.beyond == "matrix"
    assert s.fits["matrix"].mse < 0.7 * s.fits[s.chosen].mse
    assert not s.fits["matrix"].writable
    assert s.chosen != "matrix"


def test_a_healthy_sampler_is_left_alone_though_least_squares_has_the_smaller_error() -> None:
    pairs = pairs_of("none", 0.8, 32, 11, sample_like=True)
    s = chosen_from(pairs, sample_like=True)
    assert s.chosen == "identity"
    assert s.fits["ols"].mse < 0.97 * s.fits["identity"].mse
    assert s.fits["ols"].loss > s.fits["identity"].loss
    assert s.fits["ols"].variance_ratio < 0.9
    assert s.fits["identity"].variance_ratio == pytest.approx(1.0, abs=0.05)
    assert set(s.skipped) == {"ridge", "huber", "deming", "matrix"}


# --- figures of the fits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["wrong statistics", "saturated"])
def test_the_errors_are_those_of_the_fits_of_the_other_folds(fault: str) -> None:
    pairs = pairs_of(fault, 0.8, 12, 12)
    moments, fold_of, _, cross = gathered(pairs)
    sampler = FrameSampler(1)  # every frame, so that the curve is exact too
    for k, (p, y) in enumerate(pairs):
        sampler.add(k, p, y)
    sampler._parts = [(p.astype(float), y.astype(float), np.full(len(p), k)) for k, (p, y) in enumerate(pairs)]
    s = select(moments, fold_of, sample=sampler.result(), cross=cross, error_ratio=2.0)
    assert s.skipped == {}
    frames = np.concatenate([y for _, y in pairs])
    for fit in s.fits.values():
        if fit.matrix is None:
            errors = [((fit(p.astype(float), int(f)) - y) ** 2).sum() for (p, y), f in zip(pairs, fold_of, strict=True)]
            assert fit.mse == pytest.approx(sum(errors) / frames.size, rel=1e-6), fit.name
        out = np.concatenate([fit(p.astype(float)) for p, _ in pairs])
        wanted = out.var(axis=0).mean() / frames.var(axis=0).mean()
        assert fit.variance_ratio == pytest.approx(wanted, rel=1e-5), fit.name
    assert s.variance_ratio_before == s.fits["identity"].variance_ratio
    with pytest.raises(ValueError, match="not kept by fold"):
        s.fits["matrix"](pairs[0][0], 0)
    by_bin, glob = s.fits["per-bin"], s.fits["ols"]
    assert by_bin.per_bin_scale is not None
    assert by_bin.per_bin_scale.shape == (BINS,)
    assert (by_bin.slope, by_bin.intercept) == (glob.slope, glob.intercept)
    assert glob.per_bin_scale is None


def test_standard_errors_are_of_paired_differences_over_units() -> None:
    pairs = pairs_of("wrong statistics", 0.8, 10, 13)
    moments, fold_of, _, cross = gathered(pairs)
    s = select(moments, fold_of)
    fit, best = s.fits["identity"], s.fits[s.best]
    size = np.array([y.size for _, y in pairs], dtype=float)
    difference = np.array(
        [
            ((fit(p.astype(float), int(f)) - y) ** 2).sum() - ((best(p.astype(float), int(f)) - y) ** 2).sum()
            for (p, y), f in zip(pairs, fold_of, strict=True)
        ]
    )
    # All utterances are of one length here, so the ratio estimate is the plain standard error of the mean.
    assert np.ptp(size) == 0
    assert fit.loss_se == pytest.approx((difference / size).std(ddof=1) / np.sqrt(10), rel=1e-6)
    assert best.loss_se == 0.0
    # The matrix is known by fold only, so its errors are between folds.
    full = select(moments, fold_of, cross=cross)
    matrix = full.fits["matrix"]
    other = full.fits["ols"] if full.best == "matrix" else full.fits[full.best]
    assert matrix.matrix is not None
    own = [sum(squared_errors(other, pairs, fold_of, f)) for f in range(5)]
    by_fold = (matrix.matrix.errors - np.array(own)) / (2 * size[0])
    error = by_fold.std(ddof=1) / np.sqrt(5)
    assert (full.fits["ols"].loss_se if full.best == "matrix" else matrix.loss_se) == pytest.approx(error, rel=1e-6)


def squared_errors(fit: Fit, pairs: list[Pair], fold_of: np.ndarray, fold: int) -> list[float]:
    """Squared errors of a fit on the utterances of a fold, unseen."""
    return [
        float(((fit(p.astype(float), fold) - y) ** 2).sum())
        for (p, y), f in zip(pairs, fold_of, strict=True)
        if f == fold
    ]


def test_speakers_are_units_where_they_are_given() -> None:
    """Copies of one utterance are no new evidence: grouped, the standard error stays; apart, it shrinks."""
    pairs = pairs_of("wrong statistics", 0.6, 10, 14)
    once = gathered(pairs)[0]
    fold_of = np.arange(10) % 5
    four = Moments([unit_moments(p, y) for p, y in pairs for _ in range(4)])
    copies = np.repeat(np.arange(10), 4)
    plain, grouped, apart = (
        select(once, fold_of),
        select(four, np.repeat(fold_of, 4), groups=copies),
        select(four, np.repeat(fold_of, 4)),
    )
    assert grouped.fits["identity"].loss_se == pytest.approx(plain.fits["identity"].loss_se)
    assert apart.fits["identity"].loss_se < 0.6 * grouped.fits["identity"].loss_se


def test_many_units_are_merged_with_neighbours_and_the_losses_stay() -> None:
    base = [unit_moments(p, y) for p, y in pairs_of("log10", 0.9, 30, 15, frames=20)]
    units = Moments([base[k % 30] for k in range(6000)])
    s = select(units, np.arange(6000) % 5)
    folds = Folds(GroupedSums.of(units), np.arange(6000) % 5)
    wanted = folds.losses([closed.least_squares(folds)], sample_like=False).sum() / folds.n_unit.sum()
    assert s.fits["ols"].mse == pytest.approx(wanted, rel=1e-9)
    identity = folds.losses([closed.constant(folds, 1.0, 0.0)], sample_like=False).sum() / folds.n_unit.sum()
    assert s.fits["identity"].mse == pytest.approx(identity, rel=1e-9)


def test_a_perfect_prediction_is_left_alone() -> None:
    pairs = [(y, y) for _, y in pairs_of("none", 0.9, 8, 16)]
    for sample_like in (False, True):
        s = chosen_from(pairs, sample_like=sample_like)
        assert s.chosen == "identity"
        assert s.fits["identity"].loss == pytest.approx(0.0, abs=1e-9)


def test_what_is_missing_is_skipped_with_the_reason() -> None:
    moments, fold_of, _, _ = gathered(pairs_of("none", 0.9, 6, 17))
    s = select(moments, fold_of % 2)
    assert set(s.skipped) == {"ridge", "huber", "deming", "monotone", "matrix"}
    assert "three folds" in s.skipped["ridge"]
    with pytest.raises(ValueError, match="two folds"):
        select(moments, np.zeros(6, dtype=int))


# --- the rule -------------------------------------------------------------------------------------------------------


def ruled(**losses: tuple[float, float]) -> Choice:
    """The choice among made-up candidates: mean loss, and standard error of its difference to the first's."""
    moments, fold_of, _, _ = gathered(pairs_of("none", 0.9, 20, 18))
    folds = Folds(GroupedSums.of(moments), fold_of)
    ranks = {
        "identity": 0,
        "exact": 1,
        "slope": 2,
        "ols": 3,
        "ridge": 4,
        "offsets": 5,
        "bins": 6,
        "curve": 7,
        "matrix": 8,
    }
    wave = np.tile([1.0, -1.0], 10) * np.sqrt(19)  # of standard error 1 over 20 equal units
    size = folds.n_unit
    out = []
    for name, (loss, error) in losses.items():
        parts = size * (loss + error * wave)
        out.append(Candidate(name, name, ranks[name], None, parts=parts, square=parts))
    return Choice(folds, out)


def test_the_simplest_within_one_standard_error_is_chosen() -> None:
    c = ruled(identity=(1.009, 0.02), ols=(1.0, 0.0))
    assert c.error(c.candidates[0], c.candidates[1]) == pytest.approx(0.02)
    assert c.chosen.name == "identity"


def test_but_not_if_it_is_more_than_one_percent_worse() -> None:
    assert ruled(identity=(1.03, 0.2), exact=(1.009, 0.2), ols=(1.0, 0.0)).chosen.name == "exact"


def test_nor_if_it_is_certainly_worse_by_more_than_nothing() -> None:
    assert ruled(identity=(1.006, 0.001), ols=(1.0, 0.0)).chosen.name == "ols"
    assert ruled(identity=(1.002, 0.0001), ols=(1.0, 0.0)).chosen.name == "identity"


def test_a_known_constant_is_kept_for_what_a_healthy_model_would_be_left_with() -> None:
    """However certain the rest is: a healthy model in the target's own units is not touched for it either."""
    c = ruled(identity=(9.0, 0.1), exact=(1.025, 0.001), ols=(1.01, 0.0), bins=(1.0, 0.001))
    assert c.chosen.name == "exact"
    assert "kept within 3%" in c.reason(sample_like=False)
    assert ruled(identity=(9.0, 0.1), exact=(1.04, 0.1), ols=(1.01, 0.0), bins=(1.0, 0.001)).chosen.name == "bins"
    assert ruled(identity=(9.0, 0.1), slope=(1.025, 0.001), ols=(1.0, 0.0)).chosen.name == "ols"


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_errors_as_loud_whatever_is_said_do_not_hide_a_constant(sign: float) -> None:
    """They lower least squares and matching alike: the constant lies above both. Negated, it is none that is known."""
    rng = np.random.default_rng(21)
    pairs = []
    for p, y in pairs_of("none", 0.999, 20, 21):
        noisy = y + 0.15 * float(y.std()) * rng.standard_normal(p.shape)
        pairs.append((sign * noisy / np.log(10), y))
    chosen = chosen_from(pairs, beyond=False).chosen
    assert (chosen == "known:from-log10") is (sign > 0)


def test_among_equally_simple_ones_the_better_is_chosen() -> None:
    moments, fold_of, _, _ = gathered(pairs_of("wrong statistics", 0.6, 20, 19))
    s = select(moments, fold_of)
    assert s.fits["ols"].loss < s.fits["moments"].loss
    assert s.chosen == "ols"


def test_maps_by_bin_must_gain_more_than_one_standard_error() -> None:
    assert ruled(identity=(1.0, 0.0), bins=(0.95, 0.06)).chosen.name == "identity"
    assert ruled(identity=(1.0, 0.0), bins=(0.95, 0.04)).chosen.name == "bins"
    assert ruled(identity=(1.0, 0.0), offsets=(0.9, 0.01), bins=(0.897, 0.02)).chosen.name == "offsets"


def test_curve_and_matrix_must_gain_two_percent_and_one_standard_error_and_are_never_chosen() -> None:
    for loss, error, goes in ((0.985, 0.001, False), (0.9, 0.2, False), (0.95, 0.01, True)):
        for name in ("curve", "matrix"):
            c = ruled(identity=(1.0, 0.0), **{name: (loss, error)})
            assert c.chosen.name == "identity"
            assert (c.beyond is not None) is goes
            assert c.best.name == name


# --- constants ------------------------------------------------------------------------------------------------------


def test_the_two_directions_of_every_domain_undo_each_other() -> None:
    table = {known.id: known for known in known_maps()}
    names = [name.removeprefix("from-") for name in table if name.startswith("from-")]
    assert len(names) > 15
    for name in names:
        there, back = table[f"to-{name}"], table[f"from-{name}"]
        assert there.slope * back.slope == pytest.approx(1.0)
        assert there.slope * back.intercept + there.intercept == pytest.approx(0.0, abs=1e-12)
    assert len(table) == len(known_maps())


@pytest.mark.parametrize(
    ("name", "slope", "intercept"),
    [
        ("to-log10", 0.4342944819, 0.0), ("from-log10", 2.302585093, 0.0), ("to-decibel", 8.685889638, 0.0),
        ("to-coqui", 0.694871171, 2.4), ("to-matcha-ljspeech", 0.472567236, 2.616426154),
        ("to-matcha-vctk", 0.402752572, 2.670481136), ("to-matcha-hifi", 0.393422604, 2.511550888),
        ("to-gpt-sovits", 0.142857143, 0.714285714), ("to-tortoise", 0.144641776, 0.665249942),
        ("to-fish-diffusion", 0.1737176, 1.0), ("to-styletts2", 0.25, 1.0), ("to-whisper", 0.108573620, 1.0),
        ("to-log2", 1.4426950409, 0.0), ("from-myxtts", 2.0, -5.0), ("to-unit-100db", 0.08685889638, 1.0),
    ],
)  # fmt: skip
def test_the_numbers_are_those_read_in_the_systems_code(name: str, slope: float, intercept: float) -> None:
    known = next(k for k in known_maps() if k.id == name)
    assert known.slope == pytest.approx(slope, rel=1e-8)
    assert known.intercept == pytest.approx(intercept, abs=1e-8)


def accepted_ids(
    pairs: list[Pair], *, sample_like: bool = False, stats: tuple[float, float] | None = None
) -> list[str]:
    moments, fold_of, _, _ = gathered(pairs)
    candidates = known_maps() + (statistics_maps(*stats, "the dataset's statistics", "dataset") if stats else ())
    found = accepted_maps(Folds(GroupedSums.of(moments), fold_of), candidates, sample_like=sample_like)
    return [a.known.id for a in found if a.intercept is not None]


@pytest.mark.parametrize("known", known_maps(), ids=lambda k: k.id)
@pytest.mark.parametrize("sample_like", [False, True])
def test_every_known_map_is_recognised_with_its_intercept(known, *, sample_like: bool) -> None:
    pairs = pairs_of("none", 0.97, 12, 20, sample_like=sample_like)
    moved = [(((p - known.intercept) / known.slope).astype(np.float32), y) for p, y in pairs]
    found = accepted_ids(moved, sample_like=sample_like)
    assert known.id in found
    assert len(found) <= 4  # some domains lie within a few percent of each other


@pytest.mark.parametrize("sample_like", [False, True])
def test_the_distance_of_a_constant_is_from_the_estimate_that_suits_the_model(*, sample_like: bool) -> None:
    moments, fold_of, _, _ = gathered(pairs_of("log10", 0.8, 12, 26, sample_like=sample_like))
    folds = Folds(GroupedSums.of(moments), fold_of)
    suited = closed.moment_matching(folds) if sample_like else closed.least_squares(folds)
    found = next(a for a in accepted_maps(folds, known_maps(), sample_like=sample_like) if a.known.id == "from-log10")
    assert found.slope_distance == pytest.approx(abs(LN10 / suited.slope[-1, 0] - 1))
    assert found.intercept_distance is not None
    off = folds.stats.m_y[-1, 0] - LN10 * folds.stats.m_p[-1, 0]
    assert found.intercept_distance == pytest.approx(abs(off) / np.sqrt(folds.stats.pooled_y[-1, 0]))


def test_another_statistics_file_is_not_taken_for_a_known_one() -> None:
    """The slope of Matcha's statistics, but another mean: not theirs. A change of base may have a gain beside it."""
    pairs = pairs_of("none", 0.97, 12, 21)
    matcha = [(((p + 3.0) / 2.116101).astype(np.float32), y) for p, y in pairs]
    assert "from-matcha-ljspeech" not in accepted_ids(matcha)
    assert "from-matcha-ljspeech" in accepted_ids(
        [(((p + 5.536622) / 2.116101).astype(np.float32), y) for p, y in pairs]
    )
    s = chosen_from([((p / LN10 + 1.0).astype(np.float32), y) for p, y in pairs])
    assert s.chosen == "known:from-log10:slope"
    assert s.fits[s.chosen].intercept == pytest.approx(-LN10, abs=0.1)


def test_the_datasets_statistics_and_the_pairs_own_are_recognised_in_both_directions() -> None:
    pairs = pairs_of("none", 0.97, 12, 22)
    mean, std = -5.07, 2.08
    forward = [(((p - mean) / std).astype(np.float32), y) for p, y in pairs]
    assert "normalised-dataset" in accepted_ids(forward, stats=(mean, std))
    backward = [((p * std + mean).astype(np.float32), y) for p, y in pairs]
    assert "denormalised-dataset" in accepted_ids(backward, stats=(mean, std))
    frames = np.concatenate([y for _, y in pairs])
    own = [((p - frames.mean()) / frames.std(), y) for p, y in pairs]
    moments, fold_of, _, _ = gathered(own)
    s = select(moments, fold_of)
    fit = s.fits["known:normalised-own"]
    assert fit.slope == pytest.approx(frames.std(), rel=1e-6)
    assert fit.intercept == pytest.approx(frames.mean(), rel=1e-6)
    # Without a fold its statistics are those of the other targets.
    others = np.concatenate([y for (_, y), f in zip(own, fold_of, strict=True) if f != 0])
    assert fit.by_fold is not None
    assert fit.by_fold.slope[0, 0] == pytest.approx(others.std(), rel=1e-6)
    with pytest.raises(ValueError, match="positive"):
        statistics_maps(0.0, 0.0, "x", "x")


def test_strong_predictions_single_a_constant_out_and_weak_ones_do_not() -> None:
    """With a gain beside the change of base, so that the intercept does not tell."""
    strong, weak = (
        chosen_from([(p - np.float32(1.7), y) for p, y in pairs_of("log10", r, count, 23)], beyond=False)
        for r, count in ((0.98, 32), (0.3, 4))
    )
    assert strong.ambiguous == ()
    assert [a.known.id for a in strong.constants] == ["from-log10"]
    assert "known:from-log10:slope" in weak.ambiguous
    assert len(weak.ambiguous) > 1
    assert len(weak.constants) == 3
    distances = [a.slope_distance for a in weak.constants]
    assert distances == sorted(distances)


def test_two_utterances_fit_nearly_every_constant_and_the_table_stays_short() -> None:
    s = chosen_from(pairs_of("log10", 0.3, 2, 23), beyond=False)
    assert len(s.constants) > 20
    assert sum(name.startswith("known:") for name in s.fits) == 5
    assert s.chosen == "known:from-log10"


def test_a_constant_prediction_has_no_known_map() -> None:
    flat = [(np.full_like(p, -1.0), y) for p, y in pairs_of("none", 0.9, 8, 24)]
    s = chosen_from(flat)
    assert s.constants == ()
    assert "fewer than three" in s.skipped["monotone"]


# --- floor, speed, imports ------------------------------------------------------------------------------------------


def test_a_floored_target_does_not_bend_the_choice() -> None:
    pairs = pairs_of("log10", 0.95, 24, 25)
    floor = float(np.quantile(np.concatenate([y for _, y in pairs]), 0.3))
    pairs = [(p, np.maximum(y, np.float32(floor))) for p, y in pairs]
    moments, fold_of, sample, _ = gathered(pairs)
    bent = select(moments, fold_of, sample=sample)
    assert bent.chosen != "known:from-log10"
    assert bent.fits["ols"].slope < 0.85 * LN10
    floors = find_floors(sample)
    assert floors.y == pytest.approx(floor)
    clear = sample.keeping(floors.clear(sample.p, sample.y))
    s = select(clear.sums(len(pairs)), fold_of, sample=clear, floor=floors.y)
    assert s.chosen == "known:from-log10"
    assert s.fits["ols"].slope == pytest.approx(LN10, rel=0.02)
    out = s.fits[s.chosen](np.concatenate([p for p, _ in pairs]))
    assert out.min() == floors.y
    everywhere = np.concatenate([y for _, y in pairs])
    bent_out = bent.fits[bent.chosen](np.concatenate([p for p, _ in pairs]))
    assert ((out - everywhere) ** 2).mean() < ((bent_out - everywhere) ** 2).mean()


@pytest.mark.parametrize("sample_like", [False, True])
def test_the_choice_among_affine_fits_of_1000_units_costs_under_100_ms(*, sample_like: bool) -> None:
    """CPU time of the best of seven; fits alone: see test_fits."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal((50, 30, 80)) * 2 - 5
    p = (y + rng.standard_normal(y.shape)) / LN10
    units = [unit_moments(a, b) for a, b in zip(p, y, strict=True)]
    moments = Moments([units[k % 50] for k in range(1000)])
    best = np.inf
    for _ in range(7):
        started = time.process_time()
        select(moments, np.arange(1000) % 5, sample_like=sample_like)
        best = min(best, time.process_time() - started)
    assert best < 0.1, f"{best:.3f} s"


def test_no_fit_loads_scikit_learn() -> None:
    code = (
        "import sys, numpy as np\n"
        "from calib.diagnose.moments import Moments, unit_moments\n"
        "from calib.diagnose.calibrators.sampled import FrameSampler\n"
        "from calib.diagnose.calibrators.crossmoments import CrossMoments\n"
        "from calib.diagnose.calibrators.selection import select\n"
        "rng = np.random.default_rng(0)\n"
        "ys = rng.standard_normal((6, 40, 8)); ps = ys + 0.3 * rng.standard_normal(ys.shape)\n"
        "m = Moments([unit_moments(p, y) for p, y in zip(ps, ys)])\n"
        "s, c = FrameSampler(240), CrossMoments(3, m.shift_p, m.shift_y)\n"
        "for k in range(6): s.add(k, ps[k], ys[k]); c.add(ps[k], ys[k], k % 3)\n"
        "found = select(m, np.arange(6) % 3, sample=s.result(), cross=c, error_ratio=1.0)\n"
        "assert not found.skipped, found.skipped\n"
        "print(sorted({'sklearn', 'torch', 'pandas'} & {name.partition('.')[0] for name in sys.modules}))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
