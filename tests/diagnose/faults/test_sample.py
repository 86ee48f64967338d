"""``Sample`` against loops and numpy's own functions: correlations, jackknife, lags across utterance borders."""

from __future__ import annotations

import numpy as np
import pytest

from calib.diagnose.faults.sample import Correlation, Sample, sounding, whitened

LENGTHS = (31, 57, 44, 90, 25, 38, 61, 47, 52)


def some(lengths: tuple[int, ...] = LENGTHS, bins: int = 5, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    pairs = []
    for n in lengths:
        y = np.cumsum(rng.standard_normal((n, bins)), axis=0)
        pairs.append((0.5 * y + rng.standard_normal((n, bins)) + 3.0, y - 40.0))
    return Sample(pairs)


def parts(sample: Sample, array: np.ndarray) -> list[np.ndarray]:
    out, at = [], 0
    for n in sample.lengths:
        out.append(array[at : at + n].astype(np.float64))
        at += n
    return out


def test_the_correlation_is_numpy_s_after_each_utterance_s_mean_of_each_bin_is_removed() -> None:
    sample = some()
    x, y = ([a - a.mean(axis=0) for a in parts(sample, array)] for array in (sample.p, sample.y))
    wanted = float(np.corrcoef(np.concatenate(x).ravel(), np.concatenate(y).ravel())[0, 1])
    assert sample.correlation(sample.pc, sample.yc).value == pytest.approx(wanted, abs=1e-6)


def test_centred_means_are_zero_in_every_utterance_and_bin() -> None:
    sample = some()
    for array in (sample.pc, sample.yc):
        for part in parts(sample, array):
            np.testing.assert_allclose(part.mean(axis=0), 0.0, atol=1e-5)


@pytest.mark.parametrize("lengths", [LENGTHS, (300, 210), (130,)])
def test_leaving_a_group_out_is_the_correlation_of_the_other_frames(lengths: tuple[int, ...]) -> None:
    """Groups are utterances from eight utterances on, else blocks of frames."""
    sample = some(lengths)
    found = sample.correlation(sample.pc, sample.yc)
    borders = [*sample.starts.tolist(), sample.n_frames]
    assert found.left_out.size == len(borders) - 1 >= 2
    if len(lengths) >= 8:
        assert set(sample.starts) == set(np.cumsum((0, *lengths))[:-1])
    for k, left in enumerate(found.left_out):
        kept = np.ones(sample.n_frames, dtype=bool)
        kept[borders[k] : borders[k + 1]] = False
        x, y = sample.pc[kept].astype(np.float64), sample.yc[kept].astype(np.float64)
        assert left == pytest.approx(float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum())), abs=1e-6)


def test_a_lead_over_another_correlation_is_in_jackknife_standard_errors() -> None:
    sample = some()
    noisy = sample.centre(sample.p + np.random.default_rng(1).standard_normal(sample.p.shape).astype(np.float32))
    better, worse = sample.correlation(sample.pc, sample.yc), sample.correlation(noisy, sample.yc)
    lead = better.left_out - worse.left_out
    count = lead.size
    error = np.sqrt((count - 1) / count * np.sum((lead - lead.mean()) ** 2))
    assert better.beats(worse) == pytest.approx((better.value - worse.value) / error, rel=1e-9)
    assert worse.beats(better) == pytest.approx(-better.beats(worse), rel=1e-9)
    assert better.beats(better) == 0.0


@pytest.mark.parametrize("lag", [-30, -3, -1, 0, 1, 2, 7, 24])
def test_a_lag_never_pairs_frames_of_two_utterances(lag: int) -> None:
    """A lag beyond the shortest utterance leaves that one out."""
    sample = some()
    x, y = parts(sample, sample.pc), parts(sample, sample.yc)
    xy = xx = yy = 0.0
    for a, b in zip(x, y, strict=True):
        for t in range(len(b)):
            if 0 <= t + lag < len(a):
                xy += float(a[t + lag] @ b[t])
                xx += float(a[t + lag] @ a[t + lag])
                yy += float(b[t] @ b[t])
    assert sample.at_lag(sample.pc, sample.yc, lag).value == pytest.approx(xy / np.sqrt(xx * yy), abs=1e-6)


def test_a_late_prediction_peaks_at_its_own_lag() -> None:
    rng = np.random.default_rng(2)
    pairs = []
    for n in LENGTHS:
        y = rng.standard_normal((n + 4, 5))
        pairs.append((y[:n], y[4:]))  # what the target has now, the prediction has four frames later
    sample = Sample(pairs)
    r = {lag: sample.at_lag(sample.pc, sample.yc, lag).value for lag in range(-8, 9)}
    assert max(r, key=lambda lag: r[lag]) == 4
    assert r[4] > 0.99


def test_a_side_that_stands_still_has_no_correlation() -> None:
    sample = Sample([(np.full((40, 3), -1.0), np.random.default_rng(0).standard_normal((40, 3)))])
    found = sample.correlation(sample.pc, sample.yc)
    assert found.value == 0.0
    assert found.left_out.tolist() == [0.0] * found.left_out.size


def test_sums_of_groups_are_added_and_not_averaged() -> None:
    """A long group counts more than a short one."""
    sums = np.array([[90.0, 100.0, 100.0], [-1.0, 1.0, 1.0]])
    assert Correlation(sums).value == pytest.approx(89.0 / 101.0)


def test_whitened_bins_count_alike_and_dead_ones_not_at_all() -> None:
    rng = np.random.default_rng(3)
    array = rng.standard_normal((500, 4)) * np.array([1.0, 50.0, 0.02, 1e-7])
    np.testing.assert_allclose(whitened(array).std(axis=0), [1.0, 1.0, 1.0, 0.0], atol=1e-3)


def test_utterances_come_back_as_they_were_and_frames_may_go() -> None:
    sample = some()
    assert [p.shape[0] for p, _ in sample.pairs()] == list(LENGTHS)
    np.testing.assert_array_equal(np.concatenate([y for _, y in sample.pairs()]), sample.y)
    shorter = sample.replaced(lambda p, y: (p[30:], y[30:]))
    assert shorter.lengths.tolist() == [n - 30 for n in LENGTHS if n - 30 > 1]  # one frame is no utterance


def test_digital_silence_before_and_after_is_left_out_and_pauses_stay() -> None:
    y = np.random.default_rng(0).normal(-5.0, 1.0, (40, 6)).astype(np.float32)
    y[:5], y[20:23], y[-7:] = -11.5, -11.5, -11.5
    y[8, 0] = -11.5  # one bin at the guard is no silence
    p = np.arange(40 * 6, dtype=np.float32).reshape(40, 6)
    a, b = sounding(p, y)
    np.testing.assert_array_equal(a, p[5:-7])
    np.testing.assert_array_equal(b, y[5:-7])


def test_noise_is_no_digital_silence_and_a_constant_stays_whole() -> None:
    y = np.random.default_rng(1).normal(-9.0, 0.1, (30, 4))
    assert sounding(y, y)[1] is y or len(sounding(y, y)[1]) == 30
    still = np.full((30, 4), -11.5)
    assert len(sounding(still, still)[1]) == 30
