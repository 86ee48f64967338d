"""The audit: what it implies from numbers alone is what the arrays behind them have; honest fits raise no alarm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.diagnose.audit import STATUSES, Audit, Finding, Numbers, audit
from calib.diagnose.audit.file import check_file, stored_numbers
from calib.diagnose.audit.numbers import readings

# What was published of MyXTTS checkpoint_10897 (field.md, section 1); the prediction is what the scale was multiplied with.
FOUNDING: dict[str, Any] = {
    "scale": 0.449, "offset": 0.0, "mel_mean": -5.070, "mel_std": 2.080, "pred_std": 0.028,
    "mae_before": 5.073, "mae_after": 1.678, "claimed_gain": 6.28,
}  # fmt: skip
# A regression on good predictions, every number consistent: r = .9, target mean -5, sd 2.
GOOD: dict[str, Any] = {
    "scale": 0.9, "offset": 0.09, "mel_mean": -5.2, "mel_std": 2.1, "pred_mean": 0.0058, "pred_std": 2.0 / 2.1,
    "target_mean": -5.0, "target_std": 2.0, "mae_before": 5.04, "mae_after": 0.72, "rmse_after": 2.0 * math.sqrt(1 - 0.81),
    "n_utterances": 40,
}  # fmt: skip


def by_name(found: Audit) -> dict[str, Finding]:
    return {finding.name: finding for finding in found.findings}


def simulate(r: float, *, seed: int, mean_p: float = 0.0, sd_p: float = 1.0, n: int = 20000) -> dict[str, Any]:
    """Published numbers of a least-squares fit on Gaussian arrays whose sample correlation is exactly ``r``."""
    rng = np.random.default_rng(seed)
    y, e = rng.standard_normal((2, n))
    y = (y - y.mean()) / y.std()
    e -= e.mean() + (e @ y) / (y @ y) * y
    e /= e.std()
    p = (r * y + math.sqrt(1 - r * r) * e) * sd_p + mean_p
    target, mel_mean, mel_std = 2.1 * y - 5.2, -5.1, 2.2
    normal = (target - mel_mean) / mel_std
    scale, offset = np.polyfit(p, normal, 1)
    after = (p * scale + offset) * mel_std + mel_mean - target
    before = p - target
    return {
        "scale": scale, "offset": offset, "mel_mean": mel_mean, "mel_std": mel_std, "pred_mean": p.mean(), "pred_std": p.std(),
        "target_mean": target.mean(), "target_std": target.std(), "mae_before": np.abs(before).mean(), "mae_after": np.abs(after).mean(),
        "rmse_before": math.sqrt((before**2).mean()), "rmse_after": math.sqrt((after**2).mean()),
        "claimed_gain": np.abs(before).mean() / np.abs(after).mean(), "n_utterances": 20,
    }  # fmt: skip


@given(st.floats(0.01, 0.99), st.floats(0.01, 30), st.floats(-10, 10), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_implied_correlation_is_the_true_one(r: float, sd_p: float, mean_p: float, seed: int) -> None:
    numbers = simulate(r, seed=seed, mean_p=mean_p, sd_p=sd_p)
    assert audit(Numbers(**numbers)).r == pytest.approx(r, abs=1e-6)
    found = audit(Numbers(**numbers, slope_space="normalized"))
    assert found.r == pytest.approx(r, abs=1e-6)
    if min(abs(r - 0.3), abs(r - 0.7)) > 1e-6:
        status = by_name(found)["implied_r"].status
        assert status == ("fail" if r < 0.3 else "warn" if r < 0.7 else "pass")


@given(st.floats(0.75, 0.97), st.floats(0.02, 20), st.floats(-8, 8), st.integers(0, 99), st.integers(3, 5))
@settings(max_examples=60, deadline=None)
def test_an_honest_fit_raises_nothing_also_when_its_figures_are_rounded(
    r: float, sd_p: float, mean_p: float, seed: int, digits: int
) -> None:
    """Three digits, as people publish them."""
    numbers = {k: float(f"{v:.{digits}g}") for k, v in simulate(r, seed=seed, mean_p=mean_p, sd_p=sd_p).items()}
    numbers["n_utterances"] = 20
    found = audit(Numbers(**numbers, slope_space="normalized"))
    wrong = [f for f in found.findings if f.status in {"fail", "warn"} and f.name != "constant"]
    assert not wrong, wrong
    assert by_name(found)["constant"].status in {"pass", "warn"}
    assert found.headline.startswith(("NOTHING SPEAKS AGAINST IT: r = ", "DOUBTFUL: against the constant"))


@given(st.floats(0.2, 0.97), st.floats(0.02, 20), st.floats(-8, 8), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_true_reading_is_never_ruled_out(r: float, sd_p: float, mean_p: float, seed: int) -> None:
    """With and without the mean of the prediction, figures rounded to three digits."""
    numbers = {k: float(f"{v:.3g}") for k, v in simulate(r, seed=seed, mean_p=mean_p, sd_p=sd_p).items()}
    for leave_out in ((), ("pred_mean",), ("pred_mean", "target_mean"), ("pred_mean", "mae_before")):
        known = {k: v for k, v in numbers.items() if k not in leave_out}
        if "target_mean" in leave_out:  # then the statistics must be the target's own
            known["offset"] -= (numbers["target_mean"] - numbers["mel_mean"]) / numbers["mel_std"]
        assert readings(Numbers(**known))[0].contradictions == []


@given(st.floats(0.01, 0.28), st.integers(0, 99), st.floats(0.01, 3))
@settings(max_examples=40, deadline=None)
def test_a_fit_without_signal_is_always_called_the_constant_predictor(r: float, seed: int, sd_p: float) -> None:
    numbers = simulate(r, seed=seed, sd_p=sd_p)
    found = audit(Numbers(**numbers))
    assert found.status == "fail"
    assert found.headline.startswith("THE CONSTANT PREDICTOR, NOT A CALIBRATION: r = ")
    assert by_name(found)["constant"].status == "fail"
    bare = audit(Numbers(**{k: numbers[k] for k in ("scale", "pred_std", "mel_std", "target_std")}))
    assert bare.headline.startswith("THE CONSTANT PREDICTOR")


@given(st.floats(0.05, 0.9), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_statistics_matching_is_told_from_regression(r: float, seed: int) -> None:
    """Matched sds imply r = 1; the error that is left says otherwise."""
    numbers = simulate(r, seed=seed, sd_p=0.3)
    numbers["scale"] = numbers["target_std"] / numbers["mel_std"] / numbers["pred_std"]
    numbers["offset"] = (numbers["target_mean"] - numbers["mel_mean"]) / numbers["mel_std"] - numbers["scale"] * numbers["pred_mean"]  # fmt: skip
    scale = math.sqrt(2 * (1 - r)) * numbers["target_std"]
    numbers |= {"mae_after": scale * math.sqrt(2 / math.pi), "rmse_after": scale}
    del numbers["claimed_gain"]
    found = audit(Numbers(**numbers))
    assert by_name(found)["statistics_matching"].status == "fail"
    assert found.status == "fail"
    del numbers["mae_after"]
    assert by_name(audit(Numbers(**numbers)))["statistics_matching"].status == "warn"


def test_the_founding_figures() -> None:
    found = audit(Numbers(**FOUNDING))
    assert found.status == "fail"
    assert found.headline == (
        "THE CONSTANT PREDICTOR, NOT A CALIBRATION: r = 0.0126 (R² 0.00016); MAE after is 0.8067 of the target's sd; "
        "claimed 6.28x, the MAEs say 3.02x"
    )
    named = by_name(found)
    assert named["implied_r"].by_hand.startswith(
        "r = scale x sd(prediction) / sd(normalised target) = 0.449 x 0.028 / 1"
    )
    assert "the target's sd is taken to be mel_std" in named["implied_r"].by_hand
    assert "5.073 / 1.678 = 3.02" in named["gain"].by_hand
    assert "100%" in named["constant"].by_hand
    assert named["offset"].status == "skipped"
    assert named["offset"].measured == "needs --pred-mean"


def test_the_founding_figures_themselves_say_which_space_the_slope_is_in() -> None:
    """Raw, an unbiased fit with offset 0 needs predictions 6.2 from the target; the MAE before allows 5.07. Nothing is assumed."""
    normal, raw = readings(Numbers(**FOUNDING))
    assert (normal.space, normal.contradictions) == ("normalized", [])
    assert normal.r == pytest.approx(0.01257, abs=1e-5)
    assert raw.r == pytest.approx(0.00604, abs=1e-5)
    assert "6.222" in raw.contradictions[0]
    published = Numbers(**FOUNDING, pred_mean=-4.27e-4)
    assert [bool(x.contradictions) for x in readings(published)] == [False, True]
    found = by_name(audit(published))
    assert found["offset"].status == "pass"
    assert found["before"].status == "pass"
    assert "as it is" in found["before"].measured


def test_a_raw_fit_is_read_as_one() -> None:
    """Raw predictions of mean -4, sd 1.5, r = .9, target -5 and 2: slope 1.2, offset -.2."""
    n = Numbers(scale=1.2, offset=-0.2, mel_mean=-5.0, mel_std=2.0, pred_mean=-4.0, pred_std=1.5)
    normal, raw = readings(n)
    assert normal.contradictions
    assert not raw.contradictions
    found = audit(n)
    assert found.r == pytest.approx(0.9)
    assert by_name(found)["offset"].status == "pass"


def test_readings_that_the_numbers_cannot_decide_are_not_decided() -> None:
    found = by_name(audit(Numbers(scale=0.9, pred_std=1.0, mel_std=2.0)))["implied_r"]
    assert found.status == "warn"
    assert "normalized reading" in found.measured
    assert "--slope-space" in found.next_step
    for space, status in (("normalized", "pass"), ("raw", "warn")):
        assert by_name(audit(Numbers(scale=0.9, pred_std=1.0, mel_std=2.0, slope_space=space)))["implied_r"].status == status  # fmt: skip


def test_a_correlation_is_not_told_where_no_sd_of_the_mel_is_known() -> None:
    found = by_name(audit(Numbers(scale=0.449, pred_std=0.028)))["implied_r"]
    assert (found.status, "--mel-std" in found.measured) == ("skipped", True)


def test_consistent_numbers_pass_every_check() -> None:
    found = audit(Numbers(**GOOD))
    assert {f.name: f.status for f in found.findings if f.status not in {"pass", "skipped"}} == {}
    assert found.headline.startswith("NOTHING SPEAKS AGAINST IT: r = 0.9000")


@pytest.mark.parametrize(
    ("name", "change", "status", "words"),
    [
        ("implied_r", {"scale": 1.5, "rmse_after": None}, "fail", "impossible"),
        ("implied_r", {"scale": -0.9}, "fail", "-0.9"),
        ("implied_r", {"scale": 0.0}, "fail", "r = 0.0000"),
        ("implied_r", {"pred_std": 0.0}, "fail", "sd 0"),
        ("implied_r", {"scale": 0.5}, "warn", "r = 0.5"),
        ("implied_r", {"static_r": 0.95}, "warn", "static mean spectrum has 0.950"),
        ("implied_r", {"method": "identity"}, "skipped", "nothing is scaled"),
        ("constant", {"mae_after": 1.6}, "fail", "0.8 of the target's sd"),
        ("constant", {"mae_after": 3.0}, "fail", "1.5 of"),
        ("constant", {"mae_after": 1.2}, "warn", "0.6 of"),
        ("constant", {"mae_after": 1.2, "static_mae": 1.22}, "fail", "static mean spectrum"),
        ("constant", {"mae_after": 0.9, "static_mae": 1.22}, "pass", "0.45 of"),
        ("error_against_r", {"mae_after": 1.1}, "fail", "impossible"),
        ("error_against_r", {"mae_after": 0.2}, "warn", "far smaller"),
        ("gain", {"claimed_gain": 9.0}, "fail", "claimed 9x, the MAEs say 7x"),
        ("gain", {"claimed_gain": 7.0}, "pass", "7x"),
        ("gain", {"claimed_gain": 85.7}, "warn", "reduction of the MAE in percent"),
        ("gain", {"claimed_gain": 6.0, "rmse_before": 5.23}, "warn", "ratio of the RMSEs"),
        ("gain", {"claimed_gain": 6.0, "mae_after": 0.0}, "skipped", "no factor"),
        ("mae_rmse_after", {"mae_after": 0.9}, "fail", "exceeds RMSE"),
        ("mae_rmse_before", {"rmse_before": 4.0}, "fail", "exceeds RMSE"),
        ("mae_rmse_before", {"rmse_before": 5.4}, "pass", "RMSE 5.4"),
        ("rmse_after", {"rmse_after": 2.2}, "fail", "worse than a constant"),
        ("rmse_after", {"scale": 0.5, "rmse_after": 0.1}, "fail", "r would be 1.248: impossible"),
        ("rmse_after", {"rmse_after": 1.3}, "warn", "the scale is"),
        ("before", {"mae_before": 4.6}, "fail", "impossible for these means and sds"),
        ("before", {"mae_before": 0.6}, "pass", "denormalised"),
        ("offset", {"offset": 0.9}, "fail", "offset 0.9"),
        ("offset", {"offset": 0.2}, "warn", "offset 0.2"),
        ("defaults", {"mel_mean": -5.0, "mel_std": 2.0}, "warn", "mel_mean -5 and mel_std 2"),
        ("defaults", {"scale": 1.0, "offset": 0.0}, "warn", "scale 1 and offset 0"),
        ("defaults", {"scale": 1.0, "offset": 0.0, "method": "identity"}, "pass", "none"),
        ("how_many", {"n_utterances": 1}, "warn", "the fit: 1 utterance"),
        ("how_many", {"stats_utterances": 1}, "warn", "the statistics: 1 utterance"),
        ("same_data", {"mel_mean": -5.0, "mel_std": 2.0, "n_utterances": 1}, "warn", "to the last digit"),
        ("same_data", {"mel_mean": -5.0, "mel_std": 2.0}, "pass", "40 utterances"),
        ("statistics_matching", {"scale": 1.0, "mae_after": 0.05}, "pass", "agrees"),
    ],
)  # fmt: skip
def test_each_check_sees_what_it_is_for(name: str, change: dict[str, Any], status: str, words: str) -> None:
    """One number of a consistent set changed: the check that must see it does, and says the number."""
    assert by_name(audit(Numbers(**GOOD, slope_space="normalized")))[name].status in {"pass", "skipped"}
    found = by_name(audit(Numbers(**{**GOOD, "slope_space": "normalized", **change})))[name]
    assert (found.status, words in found.measured + found.why) == (status, True), found
    if status == "fail":
        assert found.next_step
        assert found.why or found.by_hand


@pytest.mark.parametrize("lacking", sorted(set(GOOD) - {"n_utterances"}))
def test_a_missing_number_skips_and_is_named(lacking: str) -> None:
    found = audit(Numbers(**{k: v for k, v in GOOD.items() if k != lacking}, slope_space="normalized"))
    assert len(found.findings) == len(audit(Numbers(**GOOD)).findings), "nothing is absent"
    skipped = [f for f in found.findings if f.status == "skipped"]
    assert all(f.measured for f in skipped)
    if lacking not in {"target_mean", "target_std", "mel_mean", "mel_std"}:  # these have something that stands in
        assert any(f"--{lacking.replace('_', '-')}" in f.measured for f in skipped)


def test_nothing_known_is_not_a_pass() -> None:
    for numbers in (Numbers(), Numbers(mae_before=5.0, mae_after=1.0), Numbers(scale=0.4, offset=0.1)):
        found = audit(numbers)
        assert found.status == "warn"
        assert found.headline.startswith("NOT SHOWN TO WORK")


def test_findings_come_worst_first() -> None:
    ranks = [STATUSES.index(f.status) for f in audit(Numbers(**FOUNDING, n_utterances=1)).findings]
    assert ranks == sorted(ranks)


@given(
    st.dictionaries(
        st.sampled_from(sorted(GOOD)),
        st.one_of(st.floats(0, 1e9), st.sampled_from([0.0, 1e-300, 1e-9, 1e9, 1.0])),
    )
)
@settings(max_examples=200)
def test_absurd_values_never_crash(values: dict[str, float]) -> None:
    """Every number that `Numbers` takes gives an audit with a sentence."""
    values = {k: max(v, 1e-9) if k in {"mel_std", "target_std"} else v for k, v in values.items()}
    found = audit(Numbers(**values))
    assert found.headline
    assert not {"nan", "inf"} & set(found.headline.replace(",", " ").split())


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"scale": float("nan")}, "scale is nan"),
        ({"offset": float("inf")}, "offset is inf"),
        ({"scale": 1e12}, "no mel and no scale"),
        ({"mel_std": 0.0}, "mel_std is 0"),
        ({"target_std": -1.0}, "target_std is -1"),
        ({"pred_std": -1.0}, "pred_std is -1"),
        ({"mae_after": -0.1}, "mae_after is -0.1"),
        ({"rmse_before": -0.1}, "cannot be negative"),
        ({"n_utterances": -1}, "n_utterances is -1"),
        ({"claimed_gain": -2.0}, "claimed_gain"),
        ({"slope_space": "log"}, "slope_space is 'log'"),
    ],
)
def test_numbers_that_cannot_be_are_refused(values: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Numbers(**values)


# --- stored files ----------------------------------------------------------------------------------------------------


def stored(**change: Any) -> dict[str, Any]:
    """A file as fit-scaler writes one, r = .9, and changes to it by dotted key."""
    content: dict[str, Any] = {
        "schema": "calib/mel-scaling-params/1", "scale_factor": 0.9, "offset": 0.1, "per_bin": None, "method": "ols",
        "verdict": "fixable", "state": "fixable", "raw_map": {"slope": 1.8, "intercept": -4.8},
        "fit": {
            "r": 0.9, "r_squared": 0.81, "r_w": 0.85, "r_w_squared": 0.7225, "n_utterances": 20,
            "out_of_sample": {
                "mae_before": 4.9, "mae_after": 0.7, "rmse_before": 5.3, "rmse_after": 0.88,
                "constants": {"global_mean": {"mae": 1.6, "rmse": 2.0}, "bin_mean": {"mae": 1.3, "rmse": 1.7}},
            },
            "in_sample": {"mae_before": 4.9, "mae_after": 0.69, "rmse_before": 5.3, "rmse_after": 0.87},
            "intervals_95": {"r_w": [0.82, 0.88]},
        },
        "stats_id": "st-1", "frontend_id": "fe-1", "model_id": "mo-1", "frontend": {"n_mels": 80},
    }  # fmt: skip
    for key, value in change.items():
        *path, last = key.split("__")
        inner = content
        for part in path:
            inner = inner[part]
        inner[last] = value
    return content


STATS = {"mel_mean": -5.0, "mel_std": 2.0, "stats_id": "st-1", "frontend_id": "fe-1", "n_utterances": 20, "per_bin": {"mean": [-6.0] * 40 + [-4.0] * 40, "std": [math.sqrt(3.0)] * 80}}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change", "status", "words"),
    [
        ("identity", {"model_id": None}, "warn", "the checkpoint (model_id)"),
        ("verdict", {"verdict": "no-signal", "state": "collapsed"}, "fail", "written by force (the pairs were collapsed)"),
        ("verdict", {"verdict": "weak", "state": "weak"}, "warn", "weak"),
        ("belongs", {"stats_id": "st-2"}, "fail", "stats_id st-2 and st-1"),
        ("belongs", {"stats_id": None, "frontend_id": None}, "warn", "identity is missing"),
        ("bins", {"per_bin": {"scale": [1.0] * 40, "offset": [0.0] * 40}}, "fail", "40 bins, but the front end has 80 and the statistics have 80"),
        ("bins", {"per_bin": {"scale": [1.0] * 80, "offset": [0.0] * 80}}, "pass", "80 bins"),
        ("scores", {"fit": None}, "warn", "no scores"),
        ("scores", {"fit__out_of_sample": None}, "warn", "in sample only"),
        ("scores", {"fit__out_of_sample__constants": None}, "warn", "beside no constant"),
        ("scores", {"fit__out_of_sample__mae_after": 1.29}, "fail", "no better than a constant"),
        ("stored_r", {"fit__r_w": 0.1}, "fail", "0.1000"),
        ("stored_r", {"fit__r_w": 0.5}, "warn", "0.87 of the error"),
        ("stored_r", {"fit__r_w": -0.9}, "fail", "-0.9"),
        ("agreement", {"fit__r_squared": 0.9}, "fail", "fit.r is 0.9, but fit.r_squared 0.9 (it would be 0.81)"),
        ("agreement", {"fit__r": 1.2, "fit__r_squared": 1.44}, "fail", "outside -1 to 1"),
        ("agreement", {"scale_factor": 0.449}, "fail", "scale_factor x mel_std = 0.898, but raw_map.slope is 1.8"),
        ("agreement", {"offset": 0.0}, "fail", "raw_map.intercept"),
        ("agreement", {"raw_map__slope": -1.8, "scale_factor": -0.9}, "fail", "different signs"),
        ("agreement", {"fit__out_of_sample__rmse_after": 1.6}, "fail", "leaves sqrt(1 - r²) = 0.4359"),
        ("agreement", {"fit__in_sample__mae_after": 0.95}, "fail", "fit.in_sample: MAE after 0.95 exceeds RMSE 0.87"),
        ("agreement", {"fit__r_w": 0.7, "fit__r_w_squared": 0.49}, "fail", "outside its own interval"),
        ("agreement", {"state": "partly"}, "fail", "the verdict is fixable, the state partly"),
    ],
)  # fmt: skip
def test_each_check_of_a_file_sees_what_it_is_for(name: str, change: dict[str, Any], status: str, words: str) -> None:
    assert all(f.status in {"pass", "skipped"} for f in check_file(stored(), STATS))
    found = {f.name: f for f in check_file(stored(**change), STATS)}[name]
    assert (found.status, words in found.measured + found.why) == (status, True), found


def test_the_numbers_of_a_file_and_its_statistics_are_taken_over() -> None:
    found = stored_numbers(stored(), STATS)
    assert found["scale"] == 0.9
    assert found["target_std"] == 2.0
    assert found["mel_std"] == 2.0
    assert found["static_r"] == pytest.approx(0.5)  # bins at -6 and -4 around -5, sd 2
    assert found["static_mae"] == pytest.approx(math.sqrt(2 / math.pi) * math.sqrt(3.0))
    assert "mae_before" in found
    Numbers(**found)


def test_a_forced_file_is_named_in_the_first_line() -> None:
    content = stored(verdict="no-signal", state="no_signal")
    found = audit(Numbers(**stored_numbers(content, STATS), slope_space="normalized"), check_file(content, STATS))
    assert found.headline.startswith("WRITTEN WITHOUT SIGNAL: no-signal: written by force")


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["r", "r_w", "out_of_sample", "constants", "global_mean", "mae", "mae_after", "rmse", "intervals_95", "slope"]), inner, max_size=4), max_leaves=12))  # fmt: skip
@settings(max_examples=150)
def test_a_file_with_anything_inside_never_crashes(inside: Any) -> None:
    content = {"scale_factor": 0.5, "offset": 0.0, "fit": inside, "raw_map": inside, "method": "ols"}
    assert len(check_file(content, STATS)) == 7
    stored_numbers(content, STATS)
