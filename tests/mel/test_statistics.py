"""Dataset statistics against plain float64 numpy, and what must not be normalised by."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from speechlike import mel_field

from calib.errors import DataError
from calib.mel.dataset import QUANTILES, DatasetStatistics, stats_file, stats_identity
from calib.mel.frontend import FrontEnd
from calib.mel.statistics import measure

FLOOR = float(np.float32(np.log(1e-5)))


def mels(bins: int = 12) -> list[np.ndarray]:
    return [np.maximum(mel_field(40 + 13 * k, k, bins) - 3, np.float32(FLOOR)) for k in range(5)]


def collect(
    parts: list[np.ndarray], speakers: list[str | None] | None = None, floor: float | None = FLOOR
) -> DatasetStatistics:
    out = DatasetStatistics(parts[0].shape[1])
    for mel, speaker in zip(parts, speakers or [None] * len(parts), strict=True):
        out.add(measure(mel, floor=floor, seconds=mel.shape[0] * 0.01, speaker=speaker))
    return out


def test_every_figure_equals_float64_numpy() -> None:
    parts = mels()
    x = np.concatenate(parts).astype(np.float64)
    got = collect(parts).result(floor=FLOOR)
    assert got["mel_mean"] == pytest.approx(x.mean(), abs=1e-9)
    assert got["mel_std"] == pytest.approx(x.std(), abs=1e-9)
    for key, want in (("mean", x.mean(0)), ("std", x.std(0)), ("min", x.min(0)), ("max", x.max(0))):
        np.testing.assert_allclose(got["per_bin"][key], want, atol=1e-9)
    assert (got["min"], got["max"]) == (x.min(), x.max())
    assert (got["n_frames"], got["n_utterances"]) == (x.shape[0], 5)
    assert got["hours"] == pytest.approx(x.shape[0] * 0.01 / 3600, rel=1e-12)
    assert got["floor_share"] == np.mean(x <= FLOOR + 1e-4)
    assert 0 < got["floor_share"] < 0.5, "the data of this test has values at the floor"
    for q in QUANTILES:
        assert abs(got["quantiles"][f"{q:g}"] - np.quantile(x, q, method="inverted_cdf")) <= 1 / 256
    assert all(type(value) is float for value in (got["mel_mean"], got["mel_std"], *got["per_bin"]["mean"]))


def test_a_large_offset_costs_no_digits() -> None:
    """Values about -100 (dB) with a sd of .5: float32 sums of squares would keep two digits of the deviation."""
    x = (-100 + np.random.default_rng(0).standard_normal((500, 8)) * 0.5).astype(np.float32)
    got = collect([x], floor=None).result()
    assert got["mel_std"] == pytest.approx(x.astype(np.float64).std(), rel=1e-9)


def test_no_order_of_the_utterances_changes_one_bit() -> None:
    parts = mels()[:4]
    results = [
        (d.result(floor=FLOOR), d.source_digest())
        for order in itertools.permutations(parts)
        for d in [collect(list(order))]
    ]
    assert all(result == results[0] for result in results)


def test_the_source_digest_changes_with_the_data_and_only_with_it() -> None:
    parts = mels()
    changed = [parts[0] + np.float32(1e-3), *parts[1:]]
    assert collect(parts).source_digest() != collect(changed).source_digest()
    assert collect(parts).source_digest() != collect([*parts, parts[0]]).source_digest()
    assert collect(parts).source_digest() == collect([part.copy() for part in parts]).source_digest()


def test_bins_that_never_leave_the_floor_and_constant_bins_are_named() -> None:
    parts = mels()
    for part in parts:
        part[:, 3] = FLOOR
        part[:, 5] = -2.5
    got = collect(parts).result(floor=FLOOR)
    assert got["dead_bins"] == [3, 5]
    assert got["per_bin"]["std"][3] == got["per_bin"]["std"][5] == 0.0


def test_a_bin_that_leaves_the_floor_in_one_frame_of_a_thousand_is_dead_too() -> None:
    x = mel_field(2000, 0, 6)
    x[:, 2] = x[:, 4] = FLOOR
    x[:2, 2] = 0.0
    x[:3, 4] = 0.0
    assert collect([x]).result(floor=FLOOR)["dead_bins"] == [2]


def test_without_a_front_end_the_floor_is_unknown_and_the_share_that_of_the_smallest_value() -> None:
    x = np.array([[0.0, 1.0], [0.0, 2.0]], dtype=np.float32)
    got = collect([x, x + 1, x], floor=None).result()
    assert got["floor"] is None
    assert got["floor_share"] == 4 / 12


def test_an_unknown_duration_is_null_and_not_zero() -> None:
    x = np.array([[0.0, 1.0], [0.0, 2.0]], dtype=np.float32)
    total = DatasetStatistics(2)
    total.add(measure(x))
    assert total.result()["hours"] is None


@pytest.mark.parametrize("value", [0.0, -5.0])
def test_a_dataset_whose_values_are_all_equal_is_an_error(value: float) -> None:
    """The founding case's loader returned all-zero mels."""
    with pytest.raises(DataError, match=f"every mel value of 2 utterances is {value:g}") as caught:
        collect([np.full((5, 4), value, dtype=np.float32)] * 2).result()
    assert "loader" in str(caught.value.hint)


def test_a_spread_too_small_to_be_seen_is_no_standard_deviation_either() -> None:
    x = np.zeros((5, 4), dtype=np.float32)
    x[0, 0] = 1e-12
    with pytest.raises(DataError, match="without variance"):
        collect([x]).result()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_an_error_with_their_count(bad: float) -> None:
    x = mels()[0]
    x[2, 1:4] = bad
    with pytest.raises(DataError, match=rf"3 NaN or infinite values of {x.size}"):
        measure(x)


@pytest.mark.parametrize("shape", [(0, 4), (5,), (2, 3, 4)])
def test_what_is_no_mel_is_an_error_with_its_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="shape"):
        measure(np.zeros(shape, dtype=np.float32))


def test_another_number_of_bins_is_an_error_with_both_numbers() -> None:
    d = collect([mels()[0]])
    with pytest.raises(DataError, match="80 bins among mels with 12"):
        d.add(measure(mel_field(30, 0)))


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(DataError, match="no utterance"):
        DatasetStatistics(4).result()


def test_speakers_have_their_own_figures_and_default_is_always_there() -> None:
    parts = mels()
    got = collect(parts, ["ann", "bob", "ann", "bob", "ann"]).result()
    ann = np.concatenate(parts[::2]).astype(np.float64)
    assert list(got["speakers"]) == ["default", "ann", "bob"]
    assert got["speakers"]["ann"]["mel_mean"] == pytest.approx(ann.mean(), abs=1e-9)
    assert got["speakers"]["ann"]["mel_std"] == pytest.approx(ann.std(), abs=1e-9)
    assert got["speakers"]["ann"]["n_frames"] == ann.shape[0]
    assert got["speakers"]["default"] == {
        "mel_mean": got["mel_mean"],
        "mel_std": got["mel_std"],
        "n_frames": got["n_frames"],
    }
    assert list(collect(parts).result()["speakers"]) == ["default"]


def test_the_identity_follows_mean_sd_bins_and_front_end_and_nothing_else() -> None:
    got = collect(mels()).result(floor=FLOOR)
    own = stats_identity(got, "fe-1")
    assert own == stats_identity({**got, "hours": 99.0, "n_frames": 1, "quantiles": {}}, "fe-1")
    assert own != stats_identity(got, "fe-2")
    assert own != stats_identity(got, None)
    assert own != stats_identity({**got, "mel_mean": np.nextafter(got["mel_mean"], 0)}, "fe-1")
    bins = {**got["per_bin"], "mean": [*got["per_bin"]["mean"][:-1], 0.0]}
    assert own != stats_identity({**got, "per_bin": bins}, "fe-1")


def test_the_file_carries_the_front_end_whole_with_its_identity() -> None:
    fe = FrontEnd.load("hifigan")
    content = stats_file(collect(mels()).result(), fe, {"version": "0"})
    assert content["frontend_name"] == "hifigan_jik"
    assert FrontEnd.from_fields(content["frontend"]).id == content["frontend_id"] == fe.id
    assert content["stats_id"] == stats_identity(content, fe.id)
