"""What ``analyze`` writes, and the metrics beside it: every number against one computed directly from the arrays."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from speechlike import mel_field, prediction

from calib.diagnose.analysis import Diagnosis, analyze
from calib.diagnose.diagnosis import AffineMap, Calibration
from calib.diagnose.metrics import UncomputableError
from calib.diagnose.moments import Moments, unit_moments
from calib.diagnose.notes import Noticed, serious
from calib.diagnose.nulls import NullDistribution, StructureProbe
from calib.diagnose.quality import after_map
from calib.diagnose.reading import Reader
from calib.diagnose.spectra import Modulation
from calib.params import MelNormalizer, MelScaler

Pair = tuple[np.ndarray, np.ndarray]
COUNT = 8
BINS = 80
TARGETS = [mel_field(130 + 9 * k, 40 + k) for k in range(COUNT)]
GOOD = [prediction(y, 0.95, k) for k, y in enumerate(TARGETS)]
RNG = np.random.default_rng(3)
GAIN, LEVEL = RNG.uniform(0.7, 1.4, BINS), RNG.uniform(-1.5, 1.5, BINS)
# One of each kind: a constant of no domain, a map for each bin, one level for each bin.
AFFINE = [p / 1.31 + 0.4 for p in GOOD]
BY_BIN = [0.5 * GAIN * p + LEVEL for p in GOOD]
LEVELS = [0.5 * p + LEVEL for p in GOOD]


@dataclass(frozen=True)
class Listed:
    """Pairs in memory."""

    pairs: Sequence[Pair]
    speakers: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return f"u{index}"

    def speaker(self, index: int) -> str | None:
        return self.speakers[index] if self.speakers else None

    def arrays(self, index: int) -> Pair:
        p, y = self.pairs[index]
        return p.astype(np.float32), y.astype(np.float32)


def judged(predictions: Sequence[np.ndarray], targets: Sequence[np.ndarray] = TARGETS, **options: object) -> Diagnosis:
    d = analyze(Listed(list(zip(predictions, targets, strict=True))), **options)  # type: ignore[arg-type]
    json.dumps(d.to_json(), allow_nan=False)
    return d


@cache
def plain(name: str) -> Diagnosis:
    """Of a set by its name, nothing declared."""
    return judged({"affine": AFFINE, "by bin": BY_BIN, "levels": LEVELS}[name])


def stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([a.astype(np.float32) for a in arrays]).astype(np.float64)


# --- what is written ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predictions", "method"),
    [(AFFINE, "ols"), (BY_BIN, "per-bin"), (LEVELS, "bin-offset"), ([p * 0.4342944819 for p in GOOD], "known:from-log10")],
    ids=["affine", "by bin", "levels", "log10"],
)  # fmt: skip
def test_the_simplest_fit_that_repairs_is_written_and_scored_as_inference_applies_it(
    predictions: list[np.ndarray], method: str
) -> None:
    d = judged(predictions)
    assert d.method == method
    assert d.verdict.state in {"fixable", "partly"}, "named faults decide which"
    assert d.selection is not None
    assert d.selection.chosen == method
    params = d.per_bin_params
    assert (params is None) == (method not in {"per-bin", "bin-offset"})
    by_bin = {} if params is None else {f"per_bin_{k}": np.array(v) for k, v in params.items()}
    scaler = MelScaler(d.scale_factor, d.offset, **by_bin, normalizer=MelNormalizer(d.mel_mean, d.mel_std))
    p, y = stacked(predictions), stacked(TARGETS)
    out = scaler.calibrate(p)
    np.testing.assert_allclose(out, d.calibration(p), atol=1e-9)
    assert d.after.mae_in_sample == pytest.approx(np.abs(out - y).mean(), rel=1e-9)
    assert d.after.rmse_in_sample == pytest.approx(np.sqrt(((out - y) ** 2).mean()), rel=1e-9)
    np.testing.assert_allclose(d.per_bin["calibrated_mean"], out.mean(axis=0), atol=1e-8)
    np.testing.assert_allclose(d.per_bin["calibrated_sd"], out.std(axis=0), rtol=1e-8)
    weights = [u.n_frames for u in d.utterances]
    assert np.average([u.mae_after for u in d.utterances], weights=weights) == pytest.approx(d.after.mae, rel=1e-9)


def test_without_bins_of_their_own_the_exact_constant_is_both_scalars() -> None:
    d = judged([p * math.log10(math.e) for p in GOOD])
    assert d.calibration.slope == pytest.approx(math.log(10), rel=1e-15)
    assert d.calibration.intercept == 0.0
    assert d.row("ols").slope != d.calibration.slope
    assert d.after.title == "known constant 2.30259: the prediction is log10, the target ln"


def test_with_bins_of_their_own_the_scalars_are_the_regression_of_everything() -> None:
    d = plain("by bin")
    model = LinearRegression().fit(stacked(BY_BIN).reshape(-1, 1), stacked(TARGETS).ravel())
    assert d.scale_factor * d.mel_std == pytest.approx(model.coef_[0], rel=1e-9)
    assert d.offset * d.mel_std + d.mel_mean == pytest.approx(model.intercept_, rel=1e-9)
    assert (d.after.slope, d.after.scale_factor) == (None, None), "no one slope says what a map by bin is"


@pytest.mark.parametrize(("name", "predictions"), [("by bin", BY_BIN), ("levels", LEVELS), ("affine", AFFINE)])
def test_out_of_sample_each_utterance_is_scored_with_the_fit_of_the_other_folds(
    name: str, predictions: list[np.ndarray]
) -> None:
    """The row's errors are those of fits made again, from nothing, without the fold."""
    d = plain(name)
    absolute = values = 0.0
    for fold in range(5):
        rest = [k for k in range(COUNT) if k % 5 != fold]
        one = _fitted(d.method, stacked([predictions[k] for k in rest]), stacked([TARGETS[k] for k in rest]))
        for k in range(fold, COUNT, 5):
            error = np.abs(one(stacked([predictions[k]])) - TARGETS[k])
            absolute, values = absolute + float(error.sum()), values + error.size
    # Shrinkage moves bins by a little; a fit that had seen the utterance would be further off than that.
    tolerance = 1e-6 if d.method == "ols" else 0.3 * abs(d.after.mae - d.after.mae_in_sample)
    assert d.after.mae == pytest.approx(absolute / values, abs=tolerance)
    assert d.after.mae > d.after.mae_in_sample


def _fitted(method: str, p: np.ndarray, y: np.ndarray) -> Calibration:
    centred_p, centred_y = p - p.mean(axis=0), y - y.mean(axis=0)
    whole = LinearRegression().fit(p.reshape(-1, 1), y.ravel())
    if method == "ols":
        return Calibration(float(whole.coef_[0]), float(whole.intercept_))
    axis = 0 if method == "per-bin" else None
    slope = (centred_p * centred_y).sum(axis=axis) / (centred_p**2).sum(axis=axis)
    slopes = np.broadcast_to(slope, BINS)
    return Calibration(0.0, 0.0, slopes, y.mean(axis=0) - slopes * p.mean(axis=0))


def test_the_constant_fitted_to_the_means_has_a_row_and_its_level_comes_from_the_other_folds() -> None:
    d = judged([p / math.log(10) + 0.9 for p in GOOD])
    assert d.method == "known:from-log10:slope"
    assert d.after.title.startswith("known constant 2.30259 with a fitted level: ")
    level = stacked(TARGETS).mean() - math.log(10) * stacked([p / math.log(10) + 0.9 for p in GOOD]).mean()
    assert d.calibration.intercept == pytest.approx(level, abs=1e-6)
    names = [row.name for row in d.rows]
    assert names.index(d.method) == names.index("ols") + 1
    assert d.after.mae > d.after.mae_in_sample


@pytest.mark.parametrize(("name", "predictions"), [("affine", AFFINE), ("by bin", BY_BIN)])
def test_maps_compose_with_the_denormalisation_that_inference_does_first(
    name: str, predictions: list[np.ndarray]
) -> None:
    """The same predictions, stored normalised and declared so: the raw map takes the statistics back."""
    mean, std = -5.2, 1.9
    stored = [((p - mean) / std).astype(np.float32) for p in predictions]
    d = judged(stored, output_space="normalized", stats=(mean, std))
    raw = plain(name)
    p = stacked(stored)
    np.testing.assert_allclose(d.calibration(p), raw.calibration(p * std + mean), atol=2e-5)
    assert d.after.mae == pytest.approx(raw.after.mae, rel=1e-5)
    for fit, other in zip(d.fits, raw.fits, strict=True):
        assert fit.name == other.name
        if fit.slope is not None and other.slope is not None:
            np.testing.assert_allclose(fit.slope, np.asarray(other.slope) * std, rtol=1e-4)


def test_the_note_on_bins_that_differ_says_whether_that_was_done() -> None:
    assert any("for each bin remove" in note for note in plain("by bin").notes)
    moments = Moments([unit_moments(p, y) for p, y in zip(BY_BIN, TARGETS, strict=True)])
    probe = StructureProbe({0: 0.9, 1: 0.8})
    noticed = Noticed(moments, NullDistribution("none", 0, 0.1, 0.0), probe, -10.0, 2.0, 0.4, 0.7, None)
    assert any("for each bin would remove" in note for note in serious(noticed))


def test_healthy_predictions_are_left_alone_whatever_the_selection_would_gain() -> None:
    d = judged([p + 0.15 for p in GOOD])
    assert d.verdict.state == "healthy"
    assert d.selection is not None
    assert d.selection.chosen == "known:gain:slope"
    assert (d.method, d.calibration, d.per_bin_params) == ("identity", Calibration(1.0, 0.0), None)
    assert d.after is d.row("before")


def test_what_is_refused_does_not_flatter_a_fit_that_only_learnt_the_mean_spectrum() -> None:
    d = judged([0.05 * mel_field(y.shape[0], 900 + k) for k, y in enumerate(TARGETS)])
    assert not d.verdict.writes
    assert d.after.mae > 0.95 * d.best_constant.mae


# --- the fits -------------------------------------------------------------------------------------------------------


def test_every_fit_is_listed_with_its_raw_map_and_its_score() -> None:
    d = plain("by bin")
    fits = {fit.name: fit for fit in d.fits}
    assert {"identity", "ols", "moments", "ridge", "huber", "bin-offset", "per-bin", "monotone", "matrix"} <= set(fits)
    assert fits["per-bin"].slope is not None
    np.testing.assert_array_equal(fits["per-bin"].slope, d.calibration.bin_slope)
    assert fits["monotone"].slope is None
    assert fits["matrix"].slope is None
    assert fits["ols"].slope == pytest.approx(d.row("ols").slope, rel=1e-9)
    for name, row in (("identity", "before"), ("ols", "ols"), ("moments", "moments"), ("per-bin", "per-bin")):
        assert fits[name].mse == pytest.approx(d.row(row).rmse ** 2, rel=1e-6), "sums and frames agree"
    assert d.selection is not None
    assert d.skipped["deming fit"] == d.selection.skipped["deming"]


def test_a_sampler_is_not_offered_what_shrinks_it() -> None:
    full = [y.mean(0) + (p - p.mean(0)) / p.std(0) * y.std(0) for p, y in zip(GOOD, TARGETS, strict=True)]
    d = judged([p / 1.31 + 0.4 for p in full], kind="sample")
    assert d.method == "moments"
    assert {"ridge fit", "huber fit", "matrix fit"} <= set(d.skipped)
    assert "shrinks" in d.skipped["ridge fit"]


def test_copies_that_speak_are_one_unit_where_folds_are_made_of_speakers() -> None:
    """Five speakers with the same utterance twice: no more certain than once."""
    pairs = list(zip(AFFINE[:5], TARGETS[:5], strict=True))
    once = analyze(Listed(pairs, list("abcde")))
    twice = analyze(Listed([pair for pair in pairs for _ in range(2)], list("aabbccddee")))
    errors = [{fit.name: fit.loss_se for fit in d.fits} for d in (once, twice)]
    assert errors[1]["identity"] == pytest.approx(errors[0]["identity"], rel=1e-6)


# --- floors ---------------------------------------------------------------------------------------------------------


def test_clamped_targets_bend_no_fit_and_that_is_said() -> None:
    floor = float(np.quantile(stacked(TARGETS), 0.3))
    floored = [np.maximum(y, np.float32(floor)) for y in TARGETS]
    d = judged(AFFINE, floored, kind="mean")
    assert d.selection is not None
    cut = d.selection.floor
    assert cut is not None
    assert (cut.target, cut.prediction) == (pytest.approx(floor), None)
    assert cut.target_share == pytest.approx(0.3, abs=0.02)
    assert d.method == "ols:above-floor"
    assert d.calibration.slope == pytest.approx(1.31, rel=0.02)
    assert d.row("ols").slope == pytest.approx(1.31 * 0.7, rel=0.05), "Stein's lemma"
    assert d.after.title == "least squares above the floor"
    assert any("bends a straight line" in note and "slope 1.3" in note for note in d.notes)
    assert "clamped at a floor" in d.skipped["matrix fit"]
    scaler = MelScaler(
        d.scale_factor, d.offset, normalizer=MelNormalizer(d.mel_mean, d.mel_std), floor=d.calibration.floor
    )
    out = scaler.calibrate(stacked(AFFINE))
    assert out.min() == pytest.approx(floor)
    np.testing.assert_allclose(out, d.calibration(stacked(AFFINE)), atol=1e-9)
    assert d.after.mae_in_sample == pytest.approx(np.abs(out - stacked(floored)).mean(), rel=1e-9), (
        "as inference does it"
    )
    assert d.after.mae < 0.8 * d.row("ols").mae
    np.testing.assert_allclose(d.per_bin["calibrated_mean"], out.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(d.per_bin["calibrated_sd"], out.std(axis=0), atol=1e-9)
    assert d.variance_ratio["after"] == pytest.approx(out.var(axis=0).mean() / stacked(floored).var(axis=0).mean())


@pytest.mark.parametrize("kind", ["mean", "sample"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
@pytest.mark.parametrize(
    "change", [lambda p: p / 1.31 + 0.4, lambda p: 0.5 * GAIN * p + LEVEL], ids=["affine", "by bin"]
)
def test_with_a_floor_nothing_is_written_that_a_line_through_everything_beats(
    change: Callable[[np.ndarray], np.ndarray], share: float, kind: str
) -> None:
    """Bins that lie on the floor are no basis for a map of their own."""
    floor = np.float32(np.quantile(stacked(TARGETS), share))
    d = judged([change(p) for p in GOOD], [np.maximum(y, floor) for y in TARGETS], kind=kind)
    assert d.after.mae <= 1.01 * min(d.row("ols").mae, d.row("moments").mae)


def test_maps_by_bin_are_fitted_on_everything_where_whole_bins_lie_on_the_floor() -> None:
    """A regression chooses values by the prediction, and in the bins on the floor chance chooses them."""
    floor = np.float32(np.quantile(stacked(TARGETS), 0.3))
    d = judged(BY_BIN, [np.maximum(y, floor) for y in TARGETS], kind="mean")
    assert (d.method, d.calibration.floor) == ("per-bin", None)
    assert "the fits use all" in d.skipped["fits above the floor"]
    assert d.after.mae < 0.6 * d.row("ols").mae


def test_without_a_floor_nothing_is_left_out() -> None:
    d = plain("affine")
    assert d.selection is not None
    assert d.selection.floor is None
    assert not any("floor" in note for note in d.notes)


def test_where_hardly_a_value_is_clear_of_the_floor_all_are_used_and_that_is_said() -> None:
    """An unrelated prediction maps nowhere far above the floor."""
    floored = [np.maximum(y, np.float32(np.quantile(stacked(TARGETS), 0.2))) for y in TARGETS]
    unrelated = [mel_field(y.shape[0], 800 + k) - np.linspace(-3.5, -7.5, BINS) for k, y in enumerate(TARGETS)]
    d = judged(unrelated, floored)
    assert "clear of the floor" in d.skipped["fits above the floor"]
    assert not d.method.endswith("above-floor")
    assert not d.verdict.writes


def test_blocks_of_one_utterance_are_fitted_above_the_floor_too() -> None:
    y = mel_field(900, 5)
    floor = np.float32(np.quantile(y, 0.3))
    p = prediction(y, 0.95, 5) / 1.31 + 0.4
    d = judged([p], [np.maximum(y, floor)], kind="mean")
    assert d.method == "ols:above-floor"
    assert d.calibration.slope == pytest.approx(1.31, rel=0.05)


# --- sample of frames -----------------------------------------------------------------------------------------------


def test_the_sample_of_one_long_utterance_knows_its_blocks() -> None:
    frames = np.arange(7000.0)[:, None] + np.random.default_rng(0).uniform(0, 0.5, (7000, 3))
    reader = Reader(Listed([(frames, frames)]), [])
    invalid, _ = reader.first_pass()
    assert invalid == []
    found = reader.frame_sample()
    assert 1000 <= len(found.p) <= 2000
    for unit, row in zip(found.unit, found.p, strict=True):
        assert reader.units[unit].start <= int(row[0]) < reader.units[unit].stop


# --- metrics --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "predictions"), [("affine", AFFINE), ("by bin", BY_BIN)])
def test_metrics_are_those_of_the_arrays(name: str, predictions: list[np.ndarray]) -> None:
    d = plain(name)
    p, y = stacked(predictions), stacked(TARGETS)
    out = d.calibration(p)
    mse = ((p - y) ** 2).mean()
    assert {view: m.mse for view, m in d.murphy.items()} == pytest.approx(
        dict.fromkeys(("pooled", "bins", "within"), mse)
    )
    for when, mel in (("before", p), ("after", out)):
        assert d.variance_ratio[when] == pytest.approx(mel.var(axis=0).mean() / y.var(axis=0).mean(), rel=1e-6)
        ratio = np.log(mel.var(axis=0) / y.var(axis=0)).mean()
        assert d.global_variance[when].corpus == pytest.approx(ratio, rel=1e-5)
        assert d.global_variance[when].utterances.shape == (COUNT,)
    assert d.taylor["pooled"].r == pytest.approx(np.corrcoef(p.ravel(), y.ravel())[0, 1], rel=1e-6)
    ccc = 2 * np.cov(p.ravel(), y.ravel(), bias=True)[0, 1] / (p.var() + y.var() + (p.mean() - y.mean()) ** 2)
    assert d.concordance["pooled"] == pytest.approx(ccc, rel=1e-6)
    assert d.mincer_zarnowitz is not None
    assert d.mincer_zarnowitz.slope == pytest.approx(d.row("ols").slope, rel=1e-9)
    assert d.mincer_zarnowitz.p_value < 0.01


def test_skill_is_told_against_every_constant_and_null() -> None:
    d = plain("affine")
    found = {s.name: s for s in d.skills}
    assert set(found) == {"zero", "global_mean", "bin_mean", "utterance_mean", "persistence", "swapped", "time_shifted"}
    for name, s in found.items():
        reference = d.row(name).rmse ** 2
        assert s.before == pytest.approx(1 - d.row("before").rmse ** 2 / reference)
        assert s.after == pytest.approx(1 - d.row("ols").rmse ** 2 / reference)
    assert found["bin_mean"].after > 0.8
    assert found["bin_mean"].before < found["bin_mean"].after


@pytest.mark.parametrize("predictions", [AFFINE, BY_BIN], ids=["affine", "by bin"])
def test_modulation_spectra_are_those_of_the_arrays_before_and_after(predictions: list[np.ndarray]) -> None:
    d = judged(predictions, frame_seconds=256 / 22050)
    mean_y = stacked(TARGETS).mean(axis=0)
    for when, change in (("before", lambda x: x), ("after", d.calibration)):
        moved = [change(p.astype(np.float32).astype(np.float64)) for p in predictions]
        mean_p = np.concatenate(moved).mean(axis=0)
        direct = Modulation()
        for q, y in zip(moved, TARGETS, strict=True):
            direct.add(q - mean_p, y - mean_y)
        wanted, found = direct.result(256 / 22050), d.modulation[when]
        assert found.spectra.unit == "Hz"
        for name in ("power_p", "power_y", "coherence", "gain"):
            np.testing.assert_allclose(getattr(found.spectra, name), getattr(wanted, name), rtol=1e-3, err_msg=name)
        for a, b in zip(found.bands, direct.distances(256 / 22050), strict=True):
            assert (a.low, a.high, a.left_out) == (b.low, b.high, b.left_out)
            assert (a.level, a.distance) == (pytest.approx(b.level, abs=1e-3), pytest.approx(b.distance, abs=1e-3))


def test_a_map_that_leaves_nothing_has_no_spectrum_after_it() -> None:
    m = Modulation()
    m.add(GOOD[0], TARGETS[0])
    with pytest.raises(UncomputableError, match="no movement"):
        after_map(m, 0.0, None)


def test_what_a_constant_prediction_does_not_define_is_skipped_with_the_reason() -> None:
    d = judged([np.full_like(y, -3.0) for y in TARGETS])
    assert d.verdict.state == "collapsed"
    for what in (
        "Taylor diagram", "Mincer-Zarnowitz test", "global variance before the calibration",
        "modulation spectrum before the calibration", "interval of r_w",
    ):  # fmt: skip
        assert d.skipped[what], what
    assert (d.taylor, d.mincer_zarnowitz, d.global_variance, d.modulation) == ({}, None, {}, {})
    assert "r_w" not in d.intervals
    assert d.variance_ratio["before"] == 0.0


def test_too_few_frames_for_an_interval_are_said_and_judged_all_the_same() -> None:
    y = mel_field(100, 1)
    d = judged([y + 0.1], [y])
    assert d.intervals == {}
    assert d.resampling == ""
    assert d.skipped["intervals"]


def test_calibrations_compose_as_functions() -> None:
    first, mel = AffineMap(2.0, -1.0), np.random.default_rng(1).standard_normal((5, 3))
    for second in (Calibration(0.5, 3.0), Calibration(0.5, 3.0, np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.3]))):
        np.testing.assert_allclose(second.after(first)(mel), second(first(mel)))
    assert [a.shape for a in (Calibration(2.0, 0.0).slopes, second.slopes)] == [(), (3,)]
    assert all(a <= b for a, b in pairwise(second.slopes))
