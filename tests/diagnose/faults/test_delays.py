"""Delays by modulation frequency: a lean to the previous frame is told from a frame that lies elsewhere."""

from __future__ import annotations

import functools

import numpy as np
import planted
import pytest
from scipy.ndimage import uniform_filter1d

from calib.diagnose.faults.delays import delays, lag_share
from calib.diagnose.faults.library import FAULTS
from calib.diagnose.faults.sample import Sample, whitened
from calib.diagnose.faults.time import undo_time

LIBRARY = frozenset(FAULTS)


def moved(samples: int) -> planted.Mels:
    """Mels of audio whose content comes so many samples later (256 a frame), the start mirrored."""
    if samples < 0:
        return planted.heard(lambda x, _: x[-samples:])
    return planted.heard(lambda x, _: np.concatenate([x[samples:0:-1], x]))


@functools.cache
def pairs(samples: int = 0, *, r: float = 0.95, autoregressive: bool = True) -> Sample:
    """A model of mels whose frames lie elsewhere, against the targets."""
    own = moved(samples) if samples else planted.mels()
    predictions = planted.modelled(own, r=r, autoregressive=autoregressive)
    return Sample([(p[: len(y)], y[: len(p)]) for p, y in zip(predictions, planted.mels(), strict=True)])


def test_a_pure_delay_is_measured_at_every_modulation_frequency() -> None:
    late = [(p[: len(y)], y[: len(p)]) for p, y in zip(moved(128), planted.mels(), strict=True)]
    sample = Sample(late)
    found = delays(sample, whitened(sample.pc), whitened(sample.yc), 0.5)
    assert found is not None
    for band in (found.slow, found.hi, found.top):
        assert band.at == pytest.approx(0.5, abs=0.06)
        assert band.coherence > 0.7


def test_a_healthy_lean_grows_with_the_modulation_frequency_and_no_delay_does() -> None:
    def at(sample: Sample) -> tuple[float, float]:
        found = delays(sample, whitened(sample.pc), whitened(sample.yc), 0.3)
        assert found is not None
        return found.slow.at, found.hi.at

    slow, fast = at(pairs())
    assert 0.0 < slow < 0.3
    assert fast > slow + 0.2
    slow, fast = at(pairs(autoregressive=False))
    assert abs(slow) < 0.05
    assert abs(fast) < 0.1


@pytest.mark.parametrize("declared", [True, None])
@pytest.mark.parametrize("r", [0.7, 0.9, 0.97])
def test_a_healthy_autoregressive_model_is_left_as_it_is(r: float, declared: bool | None) -> None:
    assert undo_time(pairs(r=r), LIBRARY, declared).faults == ()


@pytest.mark.parametrize("declared", [True, None])
@pytest.mark.parametrize("samples", [128, -128])
def test_half_a_hop_is_found_beside_the_lean_and_undone(samples: int, declared: bool | None) -> None:
    sample = pairs(samples)
    step = undo_time(sample, LIBRARY, declared)
    assert step.faults == ("half-hop",)
    assert step.label.startswith("+" if samples > 0 else "-")
    assert "modulation" in step.evidence[0]
    undone = step.sample
    assert undone.correlation(undone.pc, undone.yc).value > sample.correlation(sample.pc, sample.yc).value


@pytest.mark.parametrize("late", [1, -1])
def test_a_whole_frame_is_found_beside_the_lean(late: int) -> None:
    step = undo_time(pairs(256 * late), LIBRARY, autoregressive=True)
    assert step.faults == ("shift",)
    assert step.label == f"{late:+d} frames"


def test_what_may_not_be_named_is_not_undone() -> None:
    assert undo_time(pairs(128), LIBRARY - {"half-hop"}, autoregressive=True).faults == ()


def test_a_prediction_that_was_smoothed_over_time_is_not_misplaced() -> None:
    """The side lobes of the mean have the wrong sign, and so any phase."""
    smoothed = pairs().replaced(lambda p, y: (uniform_filter1d(p, 13, axis=0), y))
    assert undo_time(smoothed, LIBRARY, autoregressive=True).faults == ()


def test_a_copy_of_the_previous_frame_stays_one() -> None:
    copied = Sample([(0.05 * p[1:] + 0.95 * y[:-1], y[1:]) for p, y in pairs().pairs()])
    assert undo_time(copied, LIBRARY, autoregressive=True).faults == ()


def test_the_share_of_the_error_that_a_lag_makes() -> None:
    sample = pairs(128, autoregressive=False)
    x, y = whitened(sample.pc), whitened(sample.yc)
    lags = {lag: sample.at_lag(x, y, lag) for lag in range(-2, 3)}
    peak = max(lags, key=lambda lag: lags[lag].value)
    share, error = lag_share(lags, peak)
    straight = pairs(autoregressive=False)
    x, y = whitened(straight.pc), whitened(straight.yc)
    r_own, r_straight = lags[0].value, straight.correlation(x, y).value
    assert share == pytest.approx((r_straight**2 - r_own**2) / (1 - r_own**2), abs=0.1)
    assert 0.0 < error < 0.1


@pytest.mark.parametrize("r", [0.7, 0.9, 0.97])
def test_a_healthy_lean_ends_one_frame_ago_and_an_early_one_before_that(r: float) -> None:
    """That is told of the broad shape and of middling detail over bins apart, where the weak model still says something."""

    def end(sample: Sample) -> float:
        found = delays(sample, whitened(sample.pc), whitened(sample.yc), 0.3)
        assert found is not None
        assert found.end is not None
        return found.end.at

    assert 0.85 < end(pairs(r=r)) < 1.15
    assert 0.3 < end(pairs(-128, r=r)) < 0.7


def test_half_a_hop_is_found_in_a_weak_model_that_leans() -> None:
    step = undo_time(pairs(-128, r=0.7), LIBRARY, autoregressive=True)
    assert step.faults == ("half-hop",)
    assert step.label.startswith("-")


def test_a_model_so_good_that_all_delays_are_alike_is_not_said_to_be_early() -> None:
    assert undo_time(pairs(r=0.995, autoregressive=False), LIBRARY, autoregressive=True).faults == ()


def test_in_few_bins_broad_shape_is_not_measured_apart() -> None:
    few = pairs().replaced(lambda p, y: (p[:, :20], y[:, :20]))
    found = delays(few, whitened(few.pc), whitened(few.yc), 0.3)
    assert found is not None
    assert found.apart == ()
    assert found.end is None
