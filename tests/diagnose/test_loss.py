"""Loss floors: against brute force, closed forms, and figures measured on real speech."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import huber
from scipy.stats import norm
from speechlike import mel_field, prediction

from calib.diagnose.loss import (
    APPROXIMATION,
    CONSTANTS,
    TITLES,
    Floor,
    Loss,
    Normalisation,
    floors_from_statistics,
    split_reading,
    stand,
)
from calib.diagnose.losscorpus import LossCollector

LOSS = {"mse": Loss("mse"), "mae": Loss("mae"), "huber": Loss("huber", 1.0), "huber .3": Loss("huber", 0.3)}

# field.md, section 6: 8 LJSpeech utterances (not named), hifigan front end, Huber with delta 1.
PUBLISHED = {"zero": 4.55, "global_mean": 1.257, "bin_mean": 0.999, "copy_previous": 0.191}


def figures(floors: list[Floor]) -> dict[str, float]:
    return {floor.name: floor.loss for floor in floors if floor.loss is not None}


def collected(mels: list[np.ndarray], predictions: list[np.ndarray] | None = None) -> LossCollector:
    collector = LossCollector(mels[0].shape[1])
    for k, mel in enumerate(mels):
        collector.add(mel, None if predictions is None else predictions[k])
    return collector


def brute(mels: list[np.ndarray], predictions: list[np.ndarray], loss: Loss, noise: float) -> dict[str, float]:
    """The floors by their definition, on all values at once."""
    ys = [mel.astype(np.float64) for mel in mels]
    y = np.vstack(ys)
    errors = {
        "zero": y,
        "global_mean": y - y.mean(),
        "bin_mean": y - y.mean(0),
        "utterance_mean": np.vstack([u - u.mean(0) for u in ys]),
        "copy_previous": np.vstack([u[1:] - u[:-1] for u in ys]),
        "model": np.vstack([u - p for u, p in zip(ys, predictions, strict=True)]),
        "swapped": np.vstack(
            [u[: len(v)] - v[: len(u)] for u, v in zip(ys, [ys[-1], *ys[:-1]], strict=True)]
        ),
    }  # fmt: skip
    return {name: float(loss(error, noise).mean()) for name, error in errors.items()}


@pytest.fixture(scope="module")
def corpus() -> tuple[list[np.ndarray], list[np.ndarray]]:
    mels = [mel_field(90 + 31 * k, k) for k in range(4)]
    return mels, [prediction(mel, 0.8, k) for k, mel in enumerate(mels)]


@given(st.floats(-6, 6), st.floats(0.05, 4), st.floats(0.1, 3))
@settings(max_examples=40, deadline=None)
def test_the_expectation_over_noise_is_the_integral(error: float, sd: float, delta: float) -> None:
    """Both closed forms against numeric integration, knots given to the integrator."""
    for loss, plain in ((Loss("huber", delta), lambda x: huber(delta, x)), (Loss("mae"), abs)):
        want = 0.0
        edges = sorted({-12.0 * sd + error, *(x for x in (-delta, 0.0, delta) if abs(x - error) < 12 * sd), 12.0 * sd + error})  # fmt: skip
        for low, high in pairwise(edges):
            want += quad(lambda x, f=plain: f(x) * norm.pdf(x, error, sd), low, high, epsabs=1e-11)[0]
        assert float(loss(np.array(error), sd)) == pytest.approx(want, rel=1e-7, abs=1e-9)


@given(st.floats(-20, 20), st.floats(0.05, 5))
def test_huber_is_scipys(error: float, delta: float) -> None:
    assert float(Loss("huber", delta)(np.array(error))) == pytest.approx(float(huber(delta, error)), abs=1e-12)


@pytest.mark.parametrize("noise", [0.0, 0.4])
@pytest.mark.parametrize("name", list(LOSS))
def test_one_pass_gives_what_the_definitions_give(
    name: str, noise: float, corpus: tuple[list[np.ndarray], list[np.ndarray]]
) -> None:
    found = figures(collected(*corpus).floors(LOSS[name], noise=noise))
    for key, want in brute(*corpus, LOSS[name], noise).items():
        assert found[key] == pytest.approx(want, rel=1e-9 if name == "mse" else 2e-5), key


@pytest.mark.parametrize("name", list(LOSS))
def test_the_normalised_space_is_the_loss_of_normalised_mels(
    name: str, corpus: tuple[list[np.ndarray], list[np.ndarray]]
) -> None:
    space = Normalisation(-5.1, 2.3)
    normal = [[((mel - space.mean) / space.sd).astype(np.float64) for mel in side] for side in corpus]
    found = figures(collected(*corpus).floors(LOSS[name], space=space, noise=0.1))
    for key, want in brute(*normal, LOSS[name], 0.1).items():
        assert found[key] == pytest.approx(want, rel=1e-4), key


def test_mean_squared_errors_are_the_textbook_ones(corpus: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    y = np.vstack(corpus[0]).astype(np.float64)
    found = figures(collected(corpus[0]).floors(Loss("mse")))
    assert found["zero"] == pytest.approx(y.mean() ** 2 + y.var(), rel=1e-12)
    assert found["global_mean"] == pytest.approx(y.var(), rel=1e-12)
    assert found["bin_mean"] == pytest.approx(y.var(0).mean(), rel=1e-12)
    lifted = figures(collected(corpus[0]).floors(Loss("mse"), noise=0.5))
    assert all(lifted[key] == pytest.approx(found[key] + 0.25, rel=1e-12) for key in found)


def test_the_best_constants_are_the_medians_for_mae_and_beat_the_means_for_huber() -> None:
    """On skewed values the mean is not what a collapsed L1 model learns: the median scores lower."""
    rng = np.random.default_rng(0)
    mels = [(rng.exponential(1.0, (200, 6)) * np.arange(1, 7) - 8).astype(np.float32) for _ in range(3)]
    y = np.vstack(mels).astype(np.float64)
    mae = figures(collected(mels).floors(Loss("mae")))
    assert mae["best_constant"] == pytest.approx(np.abs(y - np.median(y)).mean(), rel=3e-5)
    assert mae["best_bin_constant"] == pytest.approx(np.abs(y - np.median(y, axis=0)).mean(), rel=3e-5)
    assert mae["best_bin_constant"] < 0.97 * mae["bin_mean"]
    loss = Loss("huber", 0.5)
    found = figures(collected(mels).floors(loss))
    grid = min(float(loss(y - c).mean()) for c in np.linspace(-9, 0, 2001))
    assert found["best_constant"] == pytest.approx(grid, rel=5e-5)
    noisy = figures(collected(mels).floors(Loss("mae"), noise=0.7))
    assert noisy["best_constant"] == pytest.approx(
        min(float(Loss("mae")(y - c, 0.7).mean()) for c in np.linspace(-9, 0, 501)), rel=1e-4
    )


def test_counts_do_not_depend_on_the_order_in_which_the_range_grows() -> None:
    """A loud utterance first, last or between: the same bits for everything that does not pair neighbours."""
    mels = [mel_field(60, k) * np.float32(scale) for k, scale in enumerate((1.0, 40.0, 0.01))]
    results = []
    for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        found = figures(collected([mels[k] for k in order]).floors(Loss("mae")))
        results.append({key: found[key] for key in ("best_constant", "best_bin_constant", "copy_previous")})
    assert results[0] == results[1] == results[2]
    y = np.vstack(mels).astype(np.float64)
    assert results[0]["best_constant"] == pytest.approx(np.abs(y - np.median(y)).mean(), rel=1e-4)


def test_reading_the_floors_does_not_change_what_comes_after(corpus: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    one, two = collected(corpus[0][:2]), collected(corpus[0][:2])
    one.floors(Loss("mae"))
    for mel in corpus[0][2:]:
        one.add(mel)
        two.add(mel)
    assert figures(one.floors(Loss("mae"))) == figures(two.floors(Loss("mae")))


def test_a_tail_that_repeats_is_padding() -> None:
    mels = [mel_field(80, 0), mel_field(70, 1)]
    padded = [np.vstack([mel, np.zeros((25, 80), np.float32)]) for mel in mels]
    collector = collected(padded)
    assert collector.padded == 50
    assert figures(collector.floors(Loss("huber"))) == figures(collected(mels).floors(Loss("huber")))


@pytest.mark.parametrize(
    ("target", "guess", "match"),
    [
        (np.zeros((0, 80)), None, "shape"),
        (np.zeros((5, 40)), None, "80 bins"),
        (np.full((5, 80), np.nan), None, "NaN"),
        (np.zeros((5, 80)), np.full((5, 80), np.inf), "infinite"),
        (np.zeros((5, 80)), np.zeros((4, 80)), "prediction has shape"),
    ],
)
def test_what_cannot_be_scored_is_refused(target: np.ndarray, guess: np.ndarray | None, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        LossCollector(80).add(target, guess)


def test_a_corpus_without_variance_is_refused() -> None:
    with pytest.raises(ValueError, match="every value is 0"):
        collected([np.zeros((30, 80))] * 2).floors(Loss("mae"))
    with pytest.raises(ValueError, match="no utterance"):
        LossCollector(80).floors(Loss("mae"))


def test_one_utterance_has_no_other_and_no_own_mean_apart_from_the_bins() -> None:
    floors = {floor.name: floor for floor in collected([mel_field(50, 0)]).floors(Loss("mae"))}
    for name in ("swapped", "utterance_mean"):
        assert floors[name].loss is None
        assert "two utterances" in str(floors[name].skipped)
    assert floors["model"].skipped == "needs PAIRS"
    assert set(floors) == set(TITLES)


# --- statistics alone ------------------------------------------------------------------------------------------------


def moments(y: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
    return float(y.mean()), float(y.std()), y.mean(0), y.std(0)


def test_statistics_give_the_exact_mean_squared_errors(corpus: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    y = np.vstack(corpus[0]).astype(np.float64)
    for space in (Normalisation(), Normalisation(-4.0, 1.7)):
        alone = floors_from_statistics(Loss("mse"), *moments(y), noise=0.2, space=space)
        whole = figures(collected(corpus[0]).floors(Loss("mse"), noise=0.2, space=space))
        for floor in alone:
            if floor.loss is not None:
                assert floor.loss == pytest.approx(whole[floor.name], rel=1e-10), floor.name
                assert (floor.how, floor.error) == ("exact", 0.0)
        assert {floor.name for floor in alone if floor.loss is None} == set(TITLES) - {
            "zero",
            "global_mean",
            "bin_mean",
        }
        assert all(floor.skipped for floor in alone if floor.loss is None)


@pytest.mark.parametrize("name", ["mae", "huber", "huber .3"])
def test_where_each_bin_is_a_gaussian_the_approximation_is_right(name: str) -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(np.linspace(-8, -3, 20), np.linspace(0.5, 2.5, 20), (20000, 20))
    for floor in floors_from_statistics(LOSS[name], *moments(y)):
        if floor.loss is not None:
            center = {"zero": 0.0, "global_mean": y.mean(), "bin_mean": y.mean(0)}[floor.name]
            assert floor.loss == pytest.approx(float(LOSS[name](y - center).mean()), rel=5e-3)
            assert floor.error > 0
            assert "Gaussian" in floor.how


def test_statistics_without_bins_say_what_they_lack_and_are_less_certain() -> None:
    bins = np.linspace(-8, -3, 20), np.linspace(0.5, 2.5, 20)
    mean, sd = float(bins[0].mean()), float(np.sqrt((bins[1] ** 2).mean() + bins[0].var()))
    rough = {floor.name: floor for floor in floors_from_statistics(Loss("mae"), mean, sd)}
    fine = {floor.name: floor for floor in floors_from_statistics(Loss("mae"), mean, sd, *bins)}
    assert rough["bin_mean"].loss is None
    assert "per-bin" in str(rough["bin_mean"].skipped)
    assert rough["zero"].error > fine["zero"].error


def test_statistics_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the global ones say -5\.0000"):
        floors_from_statistics(Loss("mse"), -5.0, 2.0, np.full(8, -4.0), np.full(8, 2.0))
    with pytest.raises(ValueError, match=r"sd 1\.0000"):
        floors_from_statistics(Loss("mse"), -5.0, 2.0, np.full(8, -5.0), np.full(8, 1.0))
    with pytest.raises(ValueError, match="must be positive"):
        floors_from_statistics(Loss("mse"), -5.0, 0.0)


# --- where a value stands ------------------------------------------------------------------------------------------


def some_floors(**more: float) -> list[Floor]:
    known = {**PUBLISHED, "utterance_mean": 0.96, "swapped": 1.5, **more}
    return [Floor(name, known.get(name), skipped=None if name in known else "not here") for name in TITLES]


@given(st.floats(0, 30), st.floats(0, 30), st.floats(0.1, 40), st.sampled_from([None, True, False]))
def test_a_smaller_loss_never_stands_worse_among_the_floors(
    a: float, b: float, weight: float, autoregressive: bool | None
) -> None:
    """Except that a loss far below the copy is suspicious, which is another question."""
    order = {"fail": 0, "warn": 1, "pass": 2}
    low, high = (stand(x, weight, some_floors(), autoregressive=autoregressive) for x in sorted((a, b)))
    assert set(low.above) <= set(high.above) | set(high.at)
    if not low.headline.startswith("SUSPICIOUSLY") and not high.headline.startswith("SUSPICIOUSLY"):
        assert order[low.status] >= order[high.status]
    for s in (low, high):
        assert len(s.at) + len(s.above) + len(s.below) == 6
        assert s.share is None or 0 <= s.share <= 1
        assert s.loss == pytest.approx(s.value / weight)


@pytest.mark.parametrize(
    ("value", "weight", "status", "words"),
    [
        (40.0, 7.0, "fail", "worse than zero everywhere"),
        (4.55 * 1.75, 1.75, "fail", "no better than zero everywhere"),
        (2.7, 1.75, "fail", "worse than the global mean (1.257), only better than zero"),
        (8.0, 7.0, "fail", "worse than the per-bin mean (0.999), only better than the global mean"),
        (7.0, 7.0, "fail", "no better than the per-bin mean"),
        (0.975, 1.0, "fail", "no better than the per-bin mean"),  # as near to the next floor: the constant counts
        (0.94, 1.0, "warn", "not than each utterance's own mean spectrum"),
        (0.5, 1.0, "pass", "not better than a copy of the previous frame"),
        (0.17, 1.0, "pass", "better than every trivial predictor"),
        (0.05, 1.0, "warn", "SUSPICIOUSLY LOW"),
        (0.0, 1.0, "warn", "SUSPICIOUSLY LOW"),
    ],
)
def test_where_a_value_stands(value: float, weight: float, status: str, words: str) -> None:
    found = stand(value, weight, some_floors())
    assert (found.status, words in found.headline) == (status, True), found.headline


def test_what_must_be_beaten_depends_on_what_the_model_sees() -> None:
    statuses = {seen: stand(0.5, 1.0, some_floors(), autoregressive=seen) for seen in (True, False, None)}
    assert {seen: s.status for seen, s in statuses.items()} == {True: "warn", False: "pass", None: "pass"}
    assert "must beat its copy" in statuses[None].remark
    assert not statuses[False].remark


def test_the_share_is_the_way_between_the_floors_beside_it() -> None:
    found = stand(1.128, 1.0, some_floors())
    assert (found.below[0], found.above[0]) == ("global_mean", "bin_mean")
    assert found.share == pytest.approx(0.5)


def test_a_better_constant_than_the_mean_is_a_floor_of_its_own_only_where_it_differs() -> None:
    near = stand(0.5, 1.0, some_floors(best_bin_constant=0.995))
    far = stand(0.93, 1.0, some_floors(best_bin_constant=0.92))
    assert "best_bin_constant" not in near.below
    assert far.status == "fail"
    assert "best constant for each bin" in far.headline


def test_statistics_alone_never_call_a_model_more_than_better_than_a_constant() -> None:
    floors = [floor for floor in some_floors() if floor.name in CONSTANTS]
    found = stand(0.2, 1.0, floors)
    assert found.headline.startswith("BETTER THAN A CONSTANT")
    assert "cannot tell" in found.remark


@pytest.mark.parametrize(
    ("value", "weight", "match"),
    [
        (1.0, 0.0, "weight"),
        (1.0, -2.0, "weight"),
        (float("nan"), 1.0, "value"),
        (-1.0, 1.0, "value"),
        (float("inf"), 1.0, "value"),
    ],
)
def test_values_and_weights_that_cannot_be_are_refused(value: float, weight: float, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        stand(value, weight, some_floors())


def test_the_founding_fall_from_8_to_2_7() -> None:
    """Weights 7 and 1.75. The mel terms alone would have risen; with .93 of other terms both are the per-bin mean."""
    before, after = stand(8.0, 7.0, some_floors()), stand(2.7, 1.75, some_floors())
    assert (before.loss, after.loss) == (pytest.approx(1.143, abs=1e-3), pytest.approx(1.543, abs=1e-3))
    together = split_reading((8.0, 7.0), (2.7, 1.75))
    assert (together.loss, together.other) == (pytest.approx(1.0095, abs=1e-4), pytest.approx(0.9333, abs=1e-4))
    assert together.possible
    assert stand(together.loss, 1.0, some_floors()).at == ["bin_mean"]


@given(st.floats(0.01, 10), st.floats(0, 5), st.floats(0.1, 20), st.floats(0.1, 20))
def test_two_values_give_back_the_predictor_and_the_rest(loss: float, rest: float, w1: float, w2: float) -> None:
    if abs(w1 - w2) < 1e-3:
        return
    found = split_reading((w1 * loss + rest, w1), (w2 * loss + rest, w2))
    assert (found.loss, found.other) == (pytest.approx(loss, rel=1e-6), pytest.approx(rest, rel=1e-6, abs=1e-6))
    assert found.possible or rest < 1e-6


def test_two_values_that_no_one_predictor_gives() -> None:
    assert not split_reading((8.0, 1.75), (2.7, 7.0)).possible
    with pytest.raises(ValueError, match="both weights are 2"):
        split_reading((8.0, 2.0), (2.7, 2.0))


def test_an_unknown_loss_or_delta_is_refused() -> None:
    with pytest.raises(ValueError, match="l3"):
        Loss("l3")
    for delta in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="delta"):
            Loss("huber", delta)


# --- real speech -----------------------------------------------------------------------------------------------------


def speech(folder: Path, limit: int) -> list[np.ndarray]:
    from calib.data.sources import open_source
    from calib.mel.corpus import reader_for
    from calib.mel.frontend import FrontEnd

    source = open_source(folder, limit=limit)
    reader = reader_for(source, FrontEnd.load("hifigan"))
    return [reader(item).mel for item in source]


def test_the_published_floors_of_ljspeech_within_5_percent(ljspeech: Path) -> None:
    """Which 8 utterances were measured is not known; any 8 of the same voice agree to 5 %."""
    found = figures(collected(speech(ljspeech, 8)).floors(Loss("huber", 1.0)))
    for name, want in PUBLISHED.items():
        assert found[name] == pytest.approx(want, rel=0.05), name
    assert found["best_bin_constant"] <= found["bin_mean"]
    assert found["swapped"] > found["global_mean"]


@pytest.mark.parametrize("name", ["en_ljspeech", "de_kerstin", "fa_virgool", "zh_aishell3_multi"])
def test_the_stated_error_of_the_gaussian_approximation_holds_on_real_speech(ljspeech: Path, name: str) -> None:
    folder = ljspeech.parent / name
    if not folder.exists():
        pytest.skip(f"{name} is not on this machine (real data is measured on, never committed)")
    mels = speech(folder, 8)
    whole = collected(mels)
    y = np.vstack(mels).astype(np.float64)
    for loss in (Loss("mae"), Loss("huber", 0.5), Loss("huber", 1.0), Loss("huber", 2.0)):
        exact = figures(whole.floors(loss))
        for floor in floors_from_statistics(loss, *moments(y)):
            if floor.loss is not None:
                assert floor.error == APPROXIMATION[floor.name]
                assert floor.loss == pytest.approx(exact[floor.name], rel=floor.error), (loss, floor.name)
