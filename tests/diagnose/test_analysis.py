"""``analyze`` on data whose fault is known: each state, the founding failure, and what must not matter."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from speechlike import mel_field, prediction

from calib.diagnose.analysis import Diagnosis, UnusablePairError, analyze

Pair = tuple[np.ndarray, np.ndarray]


class Listed:
    """Pairs in memory; an exception in place of arrays is raised."""

    def __init__(self, pairs: Sequence[Pair | Exception], speakers: Sequence[str] | None = None) -> None:
        self.pairs, self.speakers = pairs, speakers

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return f"u{index}"

    def speaker(self, index: int) -> str | None:
        return self.speakers[index] if self.speakers else None

    def arrays(self, index: int) -> Pair:
        found = self.pairs[index]
        if isinstance(found, Exception):
            raise found
        return found


COUNT = 8
TARGETS = [mel_field(110 + 9 * k, k) for k in range(COUNT)]
GOOD = [prediction(y, 0.95, k) for k, y in enumerate(TARGETS)]


def judged(
    change: Callable[[np.ndarray, np.ndarray, int], np.ndarray], count: int = COUNT, **options: object
) -> Diagnosis:
    """Good predictions, changed, against the targets."""
    pairs = [
        (change(p, y, k).astype(np.float32), y) for k, (p, y) in enumerate(zip(GOOD[:count], TARGETS, strict=False))
    ]
    d = analyze(Listed(pairs), **options)  # type: ignore[arg-type]
    json.dumps(d.to_json(), allow_nan=False)  # every state must be writable as strict JSON
    return d


def same(p: np.ndarray, _y: np.ndarray, _k: int) -> np.ndarray:
    return p


# --- the founding failure -------------------------------------------------------------------------------------------


def test_the_founding_pair_is_refused_with_the_published_figures(founding_pair: Path) -> None:
    pair = (
        np.load(founding_pair / "pred.npy").astype(np.float32),
        np.load(founding_pair / "target.npy").astype(np.float32),
    )
    d = analyze(Listed([pair]))
    before, ols, constant = d.row("before"), d.row("ols"), d.row("global_mean")
    assert before.mae == before.mae_in_sample
    assert before.mae == pytest.approx(5.2373, abs=5e-5)
    assert before.rmse == pytest.approx(5.6714, abs=5e-5)
    assert (ols.slope, ols.intercept) == (pytest.approx(0.1239, abs=5e-5), pytest.approx(-5.2324, abs=5e-5))
    assert ols.mae_in_sample == pytest.approx(1.7962, abs=5e-5)
    assert constant.mae_in_sample == pytest.approx(1.7962, abs=5e-5)
    assert d.row("bin_mean").mae_in_sample == pytest.approx(1.486, abs=5e-4)
    assert d.row("moments").mae_in_sample == pytest.approx(2.474, abs=5e-4)
    assert [ols.mae, constant.mae, d.row("bin_mean").mae] == [
        pytest.approx(1.8081, abs=2e-4),
        pytest.approx(1.8081, abs=2e-4),
        pytest.approx(1.528, abs=5e-4),
    ]
    assert abs(d.summary["r_w"]) < 0.01
    assert d.summary["removable_share"] > 0.8, "the share alone misleads"
    assert (d.verdict.state, d.verdict.writes, d.verdict.exit_code, d.verdict.status) == ("collapsed", False, 5, "fail")
    assert d.verdict.headline.startswith("NOT FIXABLE BY CALIBRATION")
    assert "contiguous blocks" in d.folds
    assert "interval over utterances" in d.skipped


# --- fits -----------------------------------------------------------------------------------------------------------


def test_the_regression_in_and_out_of_fold_is_scikit_learns() -> None:
    d = judged(lambda p, _y, _k: (p + 5) / 2)
    ps, ys = [((p + 5) / 2).astype(np.float64) for p in GOOD], [y.astype(np.float64) for y in TARGETS]

    def fit(rows: list[int]) -> LinearRegression:
        return LinearRegression().fit(
            np.concatenate([ps[k].ravel() for k in rows])[:, None], np.concatenate([ys[k].ravel() for k in rows])
        )

    whole = fit(list(range(COUNT)))
    row = d.row("ols")
    assert row.slope == pytest.approx(whole.coef_[0], abs=1e-6)  # the predictions are float32
    assert row.intercept == pytest.approx(whole.intercept_, abs=1e-6)
    assert row.scale_factor == pytest.approx(row.slope / d.mel_std, rel=1e-12)
    assert row.offset == pytest.approx((row.intercept - d.mel_mean) / d.mel_std, rel=1e-12)
    inside, outside, constants = [], [], []
    for k in range(COUNT):
        rest = [i for i in range(COUNT) if i % 5 != k % 5]
        model = fit(rest)
        inside.append(np.abs(whole.coef_[0] * ps[k] + whole.intercept_ - ys[k]).ravel())
        outside.append(np.abs(model.coef_[0] * ps[k] + model.intercept_ - ys[k]).ravel())
        constants.append(np.abs(np.concatenate([ys[i] for i in rest]).mean(0) - ys[k]).ravel())
    assert row.mae_in_sample == pytest.approx(np.concatenate(inside).mean(), abs=1e-6)
    assert row.mae == pytest.approx(np.concatenate(outside).mean(), abs=1e-6)
    assert d.row("bin_mean").mae == pytest.approx(np.concatenate(constants).mean(), abs=1e-6)


def test_intervals_hold_the_estimate_and_narrow_with_more_utterances() -> None:
    few = judged(lambda p, _y, _k: p * 0.5, count=5).intervals["slope_ols"]
    many = [mel_field(120, 500 + k) for k in range(40)]
    d = analyze(Listed([(prediction(y, 0.95, k) * np.float32(0.5), y) for k, y in enumerate(many)]))
    interval = d.intervals["slope_ols"]
    assert interval.low < d.row("ols").slope < interval.high  # type: ignore[operator]
    assert interval.low < 2.0 < interval.high, "the true slope"
    assert interval.high - interval.low < few.high - few.low
    assert d.intervals["r_w"].low < d.summary["r_w"] < d.intervals["r_w"].high
    assert d.summary["r_w"] == pytest.approx(0.95, abs=0.02)


def test_murphys_terms_of_the_summary_sum_to_its_mse() -> None:
    s = judged(lambda p, _y, _k: p * 0.3 + 1).summary
    assert s["murphy_unconditional_bias"] + s["murphy_conditional_bias"] + s["murphy_irreducible"] == pytest.approx(
        s["mse"], rel=1e-10
    )


def test_folds_are_grouped_by_speaker_where_five_speak() -> None:
    """Then no speaker is in both the fit and its score."""
    pairs = list(zip(GOOD, TARGETS, strict=True))
    assert "speaker" in analyze(Listed(pairs, ["a", "b", "c", "d", "e", "a", "b", "c"])).folds
    assert "utterance" in analyze(Listed(pairs, ["a", "b", "c", "d", "a", "a", "b", "c"])).folds


# --- states ---------------------------------------------------------------------------------------------------------


def noise(y: np.ndarray, k: int) -> np.ndarray:
    return mel_field(y.shape[0], 900 + k)


STATES: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]]] = {
    "as it should be": ("healthy", same),
    "normalised and forgotten": ("fixable", lambda p, _y, _k: (p + 5) / 2),
    "log10 for ln": ("fixable", lambda p, _y, _k: p * 0.4343),
    "scaled": ("fixable", lambda p, _y, _k: p * 3 + 4),
    "sign flipped": ("fixable", lambda p, _y, _k: -p),
    "a small offset": ("partly", lambda p, _y, _k: p + 0.4),
    "a weak model": ("weak", lambda _p, y, k: prediction(y, 0.55, k)),
    "unrelated": ("no-signal", lambda _p, y, k: noise(y, k)),
    "hardly related": ("no-signal", lambda _p, y, k: prediction(y, 0.15, k)),
    "all zero": ("collapsed", lambda _p, y, _k: np.zeros_like(y)),
    "a constant spectrum": ("collapsed", lambda _p, y, _k: np.broadcast_to(np.linspace(-3.5, -7.5, 80), y.shape)),
    "a little noise": ("collapsed", lambda _p, y, k: 0.01 * noise(y, k)),
    "late by four frames": ("misaligned", lambda _p, y, k: np.roll(GOOD[k], 4, axis=0) if y.size else y),
    "early by six frames": ("misaligned", lambda _p, y, k: np.roll(GOOD[k], -6, axis=0) if y.size else y),
    "bins reversed": ("structural", lambda p, _y, _k: p[:, ::-1]),
    "reshaped for transposed": ("structural", lambda p, _y, _k: np.ascontiguousarray(p.T).reshape(p.shape)),
}


@pytest.mark.parametrize(("state", "change"), STATES.values(), ids=STATES.keys())
def test_each_fault_gives_its_state(state: str, change: Callable[[np.ndarray, np.ndarray, int], np.ndarray]) -> None:
    d = judged(change)
    assert d.verdict.state == state, "\n".join(check.text() for check in d.verdict.checks)
    assert d.verdict.writes == (state in {"healthy", "fixable", "partly", "weak"})
    assert d.n_utterances == COUNT
    assert d.verdict.next_steps


def test_predictions_paired_with_other_targets_are_structural() -> None:
    ys = [mel_field(120, 300 + k) for k in range(8)]
    d = analyze(Listed([(prediction(ys[(k + 1) % 8], 0.95, k), y) for k, y in enumerate(ys)]))
    assert d.verdict.state == "structural"
    assert "pairing" in d.verdict.sentence


def test_two_faults_at_once_are_still_found() -> None:
    """Bins reversed and normalised: structure comes before units."""
    assert judged(lambda p, _y, _k: (p[:, ::-1] + 5) / 2).verdict.state == "structural"


def test_the_map_of_a_fixable_case_undoes_the_fault() -> None:
    for change, slope, intercept in (
        (lambda p, _y, _k: (p + 5) / 2, 2.0, -5.0),
        (lambda p, _y, _k: p * np.float32(np.log10(np.e)), np.log(10), 0.0),
        (lambda p, _y, _k: -p, -1.0, 0.0),
    ):
        d = judged(change)
        assert d.calibration.slope == pytest.approx(slope, rel=0.06)
        assert d.calibration.intercept == pytest.approx(intercept, abs=0.35)
        assert d.after.mae < 0.75 * d.best_constant.mae


def test_a_sign_flip_keeps_its_sign_as_evidence() -> None:
    d = judged(lambda p, _y, _k: -p)
    assert d.summary["r_w"] < -0.9
    assert d.row("ols").slope < 0  # type: ignore[operator]


def test_a_healthy_model_gets_the_exact_identity() -> None:
    d = judged(same)
    assert (d.method, d.calibration.slope, d.calibration.intercept) == ("identity", 1.0, 0.0)
    n = judged(lambda p, _y, _k: (p + 5) / 2, output_space="normalized", stats=(-5.0, 2.0))
    assert n.verdict.state == "healthy"
    assert (n.scale_factor, n.offset) == (1.0, 0.0)


def test_normalised_output_that_is_declared_wrongly_is_fixable() -> None:
    assert judged(same, output_space="normalized", stats=(-5.0, 2.0)).verdict.state in {"fixable", "partly"}


def test_a_sample_like_model_is_not_shrunk_and_a_mean_like_one_is_regressed() -> None:
    """At r .9 and full variance, least squares would shrink by a tenth: a fault in one kind, the nature of the other."""

    def full(_p: np.ndarray, y: np.ndarray, k: int) -> np.ndarray:
        p = prediction(y, 0.9, k)
        return y.mean(0) + (p - p.mean(0)) / p.std(0) * y.std(0)

    declared = judged(full, kind="sample")
    assert declared.sample_like
    assert declared.verdict.state == "healthy"
    assert judged(full).sample_like, "seen from the variance where nothing is declared"
    # 1 / .6 is no constant of any domain; 1 / .5 is, and then the exact one is the answer.
    scaled = judged(lambda p, y, k: full(p, y, k) * 0.6, kind="sample")
    assert (scaled.method, scaled.verdict.state) == ("moments", "fixable")
    assert scaled.calibration.slope == pytest.approx(1 / 0.6, rel=0.02)
    halved = judged(lambda p, y, k: full(p, y, k) * 0.5, kind="sample")
    assert (halved.method, halved.calibration.slope, halved.verdict.state) == ("known:to-power", 2.0, "fixable")
    regressed = judged(lambda p, y, k: full(p, y, k) * 0.6, kind="mean")
    # It shrinks within the bins and not between them, so that each bin needs an offset of its own.
    assert regressed.method == "bin-offset"
    assert regressed.calibration.slopes == pytest.approx(np.full(80, 0.9 / 0.6), rel=0.06)
    assert regressed.variance_ratio["after"] == pytest.approx(0.9**2, rel=0.06)
    assert scaled.variance_ratio["after"] == pytest.approx(1.0, rel=0.03)


def test_a_lag_of_one_is_the_nature_of_an_autoregressive_model() -> None:
    ys = [mel_field(150, 700 + k)[::3] for k in range(8)]  # fast mels: one frame is enough to lose the correlation
    pairs = [(np.roll(y, 1, axis=0), y) for y in ys]
    assert analyze(Listed(pairs)).verdict.state == "misaligned"
    assert analyze(Listed(pairs), autoregressive=True).verdict.state != "misaligned"


# --- too little, and broken -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 14, 16, 100, 299])
def test_fewer_than_300_frames_are_insufficient(frames: int) -> None:
    y = mel_field(400, 1)[:frames]
    d = analyze(Listed([(y.copy(), y)]))
    assert d.verdict.state == "insufficient"
    assert f"{frames} valid frames" in d.verdict.sentence
    json.dumps(d.to_json(), allow_nan=False)


def test_300_frames_are_enough() -> None:
    y = mel_field(300, 1)
    assert analyze(Listed([(prediction(y, 0.97, 1), y)])).verdict.state == "healthy"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_a_few_utterances_are_judged_and_the_interval_says_what_it_holds_for(count: int) -> None:
    pairs = [(prediction(y, 0.95, k), y) for k in range(count) for y in [mel_field(320, 40 + k)]]
    d = analyze(Listed(pairs))
    assert d.verdict.state == "healthy"
    assert d.null is not None
    assert d.null.kind == ("circular time shifts" if count < 5 else "swapped utterances")
    assert ("within these utterances only" in d.resampling) == (count < 5)
    assert ("interval over utterances" in d.skipped) == (count < 5)
    assert [u.name for u in d.utterances] == [f"u{k}" for k in range(count)]
    assert [u.n_frames for u in d.utterances] == [320] * count


def test_one_short_utterance_among_few_does_not_take_the_null_away() -> None:
    pairs = [(prediction(y, 0.95, k), y) for k in range(2) for y in [mel_field(400, 60 + k)]]
    short = mel_field(35, 62)
    d = analyze(Listed([*pairs, (prediction(short, 0.95, 3), short)]))
    assert d.verdict.state == "healthy", d.verdict.sentence


def broken_pair(kind: str) -> Pair | Exception:
    p, y = GOOD[0].copy(), TARGETS[0].copy()
    if kind == "NaN in prediction":
        p[3, 4:6] = np.nan
    elif kind == "NaN in target":
        y[3, 4:6] = np.nan
    elif kind == "infinite":
        p[0, 0] = np.inf
    elif kind == "other bins":
        return p[:, :40], y
    elif kind == "both with other bins":
        return p[:, :40], y[:, :40]
    elif kind == "no frames":
        return p[:0], y[:0]
    elif kind == "unreadable":
        return UnusablePairError("u0: torn file")
    return p, y


BROKEN = {
    "NaN in prediction": "2 NaN or infinite values in the prediction",
    "NaN in target": "2 NaN or infinite values in the target",
    "infinite": "1 NaN or infinite",
    "other bins": "prediction is",
    "both with other bins": "40 bins",
    "no frames": "no frames",
    "unreadable": "torn file",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_pair_makes_the_data_invalid_and_is_named(kind: str) -> None:
    d = analyze(Listed([*list(zip(GOOD, TARGETS, strict=True))[1:], broken_pair(kind)]))
    assert (d.verdict.state, d.verdict.exit_code, d.verdict.writes) == ("invalid", 3, False)
    assert BROKEN[kind] in d.verdict.sentence
    assert d.rows == []
    assert d.skipped["fits"] == "the data cannot be judged", "what was not computed says why"
    json.dumps(d.to_json(), allow_nan=False)


def test_an_allowed_share_of_unreadable_pairs_is_skipped_and_named() -> None:
    pairs = [*zip(GOOD, TARGETS, strict=True), UnusablePairError("u8: torn file")]
    d = analyze(Listed(pairs), allow_skipped=20.0)
    assert d.verdict.state == "healthy"
    assert d.n_utterances == COUNT
    assert any("u8: torn file" in note for note in d.notes)


@pytest.mark.parametrize("value", [0.0, -5.0])
def test_targets_of_one_value_are_invalid_and_the_loader_is_named_for_zeros(value: float) -> None:
    d = judged(same)
    d = analyze(Listed([(p, np.full_like(y, value)) for p, y in zip(GOOD, TARGETS, strict=True)]))
    assert d.verdict.state == "invalid"
    assert ("data loader" in d.verdict.sentence) == (value == 0)


def test_targets_that_do_not_change_over_time_are_not_blamed_on_the_model() -> None:
    row = np.linspace(-3, -8, 80, dtype=np.float32)
    d = analyze(Listed([(p, np.broadcast_to(row, y.shape)) for p, y in zip(GOOD, TARGETS, strict=True)]))
    assert d.verdict.state == "invalid"
    assert "target does not change" in d.verdict.sentence


def test_no_pairs_at_all_is_insufficient() -> None:
    assert analyze(Listed([])).verdict.state == "insufficient"


# --- what must not matter -------------------------------------------------------------------------------------------


def test_padding_affects_no_number() -> None:
    """Constant tails of the target are left out, whatever the model put there, and that is said."""
    rng = np.random.default_rng(0)
    plain = judged(same)
    pairs = []
    for k, (p, y) in enumerate(zip(GOOD, TARGETS, strict=True)):
        tail = 20 + 30 * k
        junk = (100 * rng.standard_normal((tail, 80))).astype(np.float32)
        pairs.append((np.concatenate([p, junk]), np.concatenate([y, np.full((tail, 80), -11.5, np.float32)])))
    padded = analyze(Listed(pairs))
    a, b = plain.to_json(), padded.to_json()
    assert [note for note in b.pop("notes") if "padding" in note]
    a.pop("notes")
    assert a == b


def test_digital_silence_at_the_end_is_left_out_however_short() -> None:
    """It is never speech, and shared by all utterances it would make unrelated pairs alike."""
    pairs = [
        (p, np.concatenate([y[:-5], np.full((5, 80), -11.5, np.float32)])) for p, y in zip(GOOD, TARGETS, strict=True)
    ]
    assert analyze(Listed(pairs)).n_frames == sum(len(y) - 5 for y in TARGETS)


@pytest.mark.parametrize("tail", ["per bin", "dithered"])
def test_a_shared_tail_gives_a_constant_no_signal(tail: str) -> None:
    """A prediction that is the mean spectrum over speech must not pass because both sides rest at the end."""
    rng = np.random.default_rng(0)
    rest = np.linspace(-12, -9, 80, dtype=np.float32)
    pairs = []
    for y in TARGETS:
        still = np.broadcast_to(rest, (200, 80)).astype(np.float32)
        dither = 0.0 if tail == "per bin" else 0.01 * rng.standard_normal(still.shape)
        target = np.concatenate([y, (still + dither).astype(np.float32)])
        mean = np.broadcast_to(np.mean(np.concatenate(TARGETS), axis=0), y.shape) + 0.3 * rng.standard_normal(y.shape)
        pairs.append((np.concatenate([mean.astype(np.float32), still]), target))
    d = analyze(Listed(pairs))
    assert not d.verdict.writes
    assert d.verdict.state in {"collapsed", "no-signal"}


def test_a_dead_stretch_of_output_is_not_excused_as_padding() -> None:
    """The prediction stands still while the target speaks: those frames count."""
    pairs = [
        (np.concatenate([p[:-40], np.repeat(p[-41:-40], 40, axis=0)]), y) for p, y in zip(GOOD, TARGETS, strict=True)
    ]
    assert analyze(Listed(pairs)).n_frames == sum(len(y) for y in TARGETS)


def test_an_inverted_prediction_is_said_in_words() -> None:
    d = analyze(Listed([(-p, y) for p, y in zip(GOOD, TARGETS, strict=True)]))
    assert any("upside down" in note for note in d.notes)


def test_bins_that_differ_qualify_a_healthy_verdict() -> None:
    """A gain and level of its own for each bin is no global fault, and no clean bill either."""
    rng = np.random.default_rng(1)
    shift = rng.uniform(-1.5, 1.5, 80).astype(np.float32)
    d = analyze(Listed([(y + shift - shift.mean(), y) for y in TARGETS]))
    assert any("for each bin" in text for text in d.verdict.warnings)
    assert "but see the " in d.verdict.headline or d.verdict.state != "healthy"
    assert d.verdict.status != "pass"


def test_a_copier_is_found_where_the_model_is_autoregressive() -> None:
    """Copying is a finding, not a state; without the declaration it is skipped with the reason."""
    pairs = [(np.concatenate([np.zeros_like(y[:1]), y[:-1]]), y) for y in TARGETS]
    d = analyze(Listed(pairs), autoregressive=True)
    assert any(text.startswith("copying:") for text in d.verdict.warnings)
    assert any(text.startswith("persistence:") for text in d.verdict.warnings)
    assert d.verdict.status != "pass"
    assert "copying and persistence" in analyze(Listed(pairs)).skipped


def test_an_autoregressive_model_that_its_own_input_beats_has_no_clean_bill() -> None:
    """Speech moves little from frame to frame: what merely follows the target is worse than the frame that it was given."""
    rng = np.random.default_rng(3)
    slow = [np.cumsum(0.1 * rng.standard_normal(y.shape), axis=0).astype(np.float32) + y[:1] for y in TARGETS]
    pairs = [(y + 0.3 * rng.standard_normal(y.shape).astype(np.float32), y) for y in slow]
    d = analyze(Listed(pairs), kind="sample", autoregressive=True)
    assert (d.verdict.state, d.status) == ("healthy", "warn")
    assert "but see the" in d.verdict.headline
    assert any(text.startswith("persistence:") for text in d.verdict.warnings)
    assert analyze(Listed(pairs), kind="sample", autoregressive=False).verdict.warnings == ()


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_predictions_that_are_the_targets_have_no_clean_bill(noise: float) -> None:
    rng = np.random.default_rng(4)
    d = analyze(Listed([((y + noise * rng.standard_normal(y.shape)).astype(np.float32), y) for y in TARGETS]))
    assert (d.verdict.state, d.status) == ("healthy", "warn")
    assert any(text.startswith("identical:") for text in d.verdict.warnings)


def test_what_is_known_from_outside_qualifies_a_healthy_verdict_and_no_other() -> None:
    pairs = [(p, y) for p, y in zip(GOOD, TARGETS, strict=True)]
    assert (analyze(Listed(pairs)).status, analyze(Listed(pairs)).verdict.warnings) == ("pass", ())
    d = analyze(Listed(pairs), cautions=["random: two passes differed"])
    assert (d.status, d.verdict.warnings) == ("warn", ("random: two passes differed",))
    broken = analyze(Listed([((p + 5) / 2, y) for p, y in pairs]), cautions=["random: two passes differed"])
    assert broken.verdict.state == "fixable"
    assert "random: two passes differed" in broken.notes


def test_a_map_for_each_bin_that_repairs_is_said_beside_one_scale() -> None:
    """Shrunk about each bin's mean: one scale and offset remove little, and nothing else is left to repair."""
    mean = np.concatenate(TARGETS).mean(axis=0)
    d = analyze(Listed([(mean + 0.4 * (p - mean), y) for p, y in zip(GOOD, TARGETS, strict=True)]), kind="mean")
    assert [f.fault for f in d.faults] == ["shrunken"]
    assert d.per_bin_params is not None
    if d.verdict.state == "partly":
        assert any("the map for each bin that was chosen" in text for text in d.verdict.warnings)
        assert not any("another repair" in text for text in d.verdict.warnings)


def test_pairs_in_another_order_are_called_that_and_nothing_else() -> None:
    """Where another target of the same length fits, that decides between what is otherwise confounded."""
    targets = [y[:110] for y in TARGETS]
    predictions = [p[:110] for p in GOOD]
    d = analyze(Listed(list(zip(predictions, [*targets[1:], targets[0]], strict=True))))
    assert d.verdict.state == "structural"
    assert [f.names for f in d.faults] == [("wrong-pairs",)]
    assert "with another one in 8 of 8 utterances" in d.faults[0].evidence[0]


def test_a_list_that_is_off_by_one_is_told_where_the_lengths_differ() -> None:
    """Predictions cut or repeated to the lengths of targets that are not theirs."""
    moved = [np.resize(GOOD[(k + 1) % len(GOOD)], y.shape) for k, y in enumerate(TARGETS)]
    d = analyze(Listed(list(zip(moved, TARGETS, strict=True))))
    assert d.verdict.state == "structural"
    assert not d.verdict.writes
    assert [f.names for f in d.faults] == [("wrong-pairs",)]
    assert d.faults[0].detail == "the target 1 further on in the list fits"


def test_a_part_that_collapsed_stands_in_the_headline_with_its_number() -> None:
    mean = np.concatenate(GOOD).mean(axis=0)
    mixed = [(mean + 0 * p if k % 2 else p, y) for k, (p, y) in enumerate(zip(GOOD, TARGETS, strict=True))]
    d = analyze(Listed(mixed))
    assert d.verdict.headline.endswith(f"collapsed in {COUNT // 2} of {COUNT} utterances")
    assert [f.fault for f in d.faults] == ["collapsed"]
    assert "u1, u3, u5" in d.faults[0].evidence[1]
    assert any("mix utterances" in text for text in d.verdict.warnings)
    assert not d.verdict.writes
    assert (d.verdict.exit_code, d.verdict.refusal) == (5, "50% of the utterances hold nothing, and bend a map for the others as much: nothing was written")  # fmt: skip


def test_two_bad_utterances_among_forty_do_not_forbid_a_map() -> None:
    mean = np.concatenate(GOOD).mean(axis=0)
    many = [((p + 5) / 2, y) for _ in range(5) for p, y in zip(GOOD, TARGETS, strict=True)]
    for k in range(2):
        many[k] = ((mean + 5) / 2 + 0 * many[k][0], many[k][1])
    d = analyze(Listed(many))
    assert d.verdict.headline.endswith("collapsed in 2 of 40 utterances")
    assert d.verdict.writes
    assert any("the map that is written is fitted on both" in text for text in d.verdict.warnings)


def test_the_order_of_the_utterances_changes_no_figure_over_all_and_no_verdict() -> None:
    pairs = [((p + 5) / 2, y) for p, y in zip(GOOD, TARGETS, strict=True)]
    a, b = analyze(Listed(pairs)), analyze(Listed(pairs[::-1]))
    assert a.verdict.state == b.verdict.state
    assert a.summary == pytest.approx(b.summary, rel=1e-9)
    assert a.calibration.slope == pytest.approx(b.calibration.slope, rel=1e-12)
    assert a.row("ols").mae == pytest.approx(b.row("ols").mae, rel=0.01)  # the folds are made of other neighbours
    assert a.intervals["r_w"].low == pytest.approx(b.intervals["r_w"].low, abs=0.01)


def test_equal_pairs_and_seed_give_equal_json() -> None:
    first, other = judged(same, count=5, seed=1), judged(same, count=5, seed=2)
    assert first.to_json() == judged(same, count=5, seed=1).to_json()
    assert first.null != other.null, "the swaps are drawn"
    assert first.intervals == other.intervals, "nothing is drawn for the intervals"


def test_units_of_the_target_do_not_change_the_verdict() -> None:
    for factor, shift in ((0.01, 0.0), (20 / np.log(10), -30.0)):
        d = analyze(
            Listed(
                [
                    ((p * 0.5).astype(np.float32), (y * factor + shift).astype(np.float32))
                    for p, y in zip(GOOD, TARGETS, strict=True)
                ]
            )
        )
        assert d.verdict.state == "fixable"


def test_the_tables_and_curves_agree_with_each_other() -> None:
    d = judged(lambda p, _y, _k: (p + 5) / 2)
    weights = [u.n_frames for u in d.utterances]
    assert np.average([u.mae_before for u in d.utterances], weights=weights) == pytest.approx(
        d.row("before").mae, rel=1e-9
    )
    assert np.average([u.mae_after for u in d.utterances], weights=weights) == pytest.approx(d.after.mae, rel=1e-9)
    for name, edges in (("target", "edges"), ("calibrated", "edges"), ("prediction", "edges_prediction")):
        h = d.histograms
        assert (h[name] * np.diff(h[edges])).sum() == pytest.approx(1.0, abs=1e-9), name
    assert d.density["counts"].sum() <= d.n_frames * d.n_mels
    np.testing.assert_allclose(d.per_bin["calibrated_mean"], d.calibration(d.per_bin["prediction_mean"]), atol=1e-9)
    assert d.per_bin["r"].mean() == pytest.approx(0.95, abs=0.03)
