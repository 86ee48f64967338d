"""Time and places between bins: interpolation that favours no place, stretches that invert, lags that are found."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from speechlike import mel_field, prediction

from calib.diagnose.faults.library import FAULTS
from calib.diagnose.faults.sample import Sample
from calib.diagnose.faults.time import all_ratios, drift_left, rate_label, rate_ratios, read_off, stretch, undo_time

LIBRARY = frozenset(FAULTS)
FRACTIONS = np.linspace(-0.5, 0.5, 21)


def test_a_constant_and_a_straight_line_over_bins_are_read_off_exactly() -> None:
    bins = np.arange(40, dtype=np.float64)
    place = np.linspace(1.0, 38.0, 200)
    for line in (np.full(40, -4.5), 0.25 * bins - 9.0):
        read = read_off(np.tile(line, (3, 1)).astype(np.float32), place)
        np.testing.assert_allclose(read, np.tile(np.interp(place, bins, line), (3, 1)), atol=1e-5)


def test_it_blurs_alike_at_every_fraction_of_a_bin() -> None:
    """The kernel's second moment is a quarter of a bin squared everywhere: linear interpolation's is f (1 - f)."""
    squares = (np.arange(40, dtype=np.float64) ** 2)[None]
    place = 20.0 + FRACTIONS
    np.testing.assert_allclose(read_off(squares, place)[0] - place**2, 0.25, atol=1e-4)


def test_a_place_off_the_bank_reads_the_nearest_bins() -> None:
    y = np.array([[1.0, 2.0, 4.0]])
    assert np.all(np.isfinite(read_off(y, np.array([-3.0, 0.0, 2.0, 9.0]))))
    assert read_off(y, np.array([9.0]))[0, 0] == read_off(y, np.array([2.5]))[0, 0]


@pytest.mark.parametrize("factor", [0.9, 0.98, 1.03, 1.088])
def test_a_stretch_undoes_the_stretch_by_its_inverse(factor: float) -> None:
    time = np.arange(400, dtype=np.float64)
    p = np.stack([np.sin(2 * np.pi * time / period) for period in (40, 61, 97)], axis=1)
    there, _ = stretch(p, np.zeros((int(400 * factor), 3)), factor)
    back, _ = stretch(there, p, 1 / factor)
    assert len(back) > 350
    np.testing.assert_allclose(back, p[: len(back)], atol=0.02)
    assert np.abs(there - p[: len(there)]).max() > 0.3 if len(there) <= 400 else len(there) > 400


def test_a_stretch_keeps_the_frames_of_the_target_that_the_prediction_reaches() -> None:
    p = np.arange(100.0)[:, None]
    stretched, y = stretch(p, np.arange(120.0)[:, None], 1.1)
    assert len(stretched) == len(y) == 109  # frame 108 lies at 98.2, frame 109 at 99.1
    np.testing.assert_allclose(stretched[:, 0], y[:, 0] / 1.1, atol=1e-4)


def test_the_ratios_are_those_of_usual_sample_rates_and_no_two_alike() -> None:
    ratios = all_ratios()
    assert {24000 / 22050, 22050 / 24000, 0.5, 2.0, 1.5} <= set(ratios)
    assert 1.0 not in ratios
    assert min(b / a for a, b in itertools.pairwise(ratios)) > 1.0099
    for ratio in ratios:
        true, read = (int(word) for word in rate_label(ratio).rstrip(")").split() if word.isdigit())
        assert true / read == ratio
    assert rate_ratios(22050 / 24000) == [24000 / 22050]
    assert rate_ratios(1.0) == []


def voiced(change: object = None, *, frames: int = 260) -> Sample:
    """Nine predictions of r .9 with their targets."""
    pairs = []
    for k in range(9):
        y = mel_field(frames + 5 * k, 40 + k)
        p = prediction(y, 0.9, k)
        pairs.append((p, y) if change is None else change(p, y))  # type: ignore[operator]
    return Sample(pairs)


@pytest.mark.parametrize("late", [-5, -2, 2, 4, 8])
def test_a_shift_is_found_and_undone(late: int) -> None:
    def moved(p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (p[:-late], y[late:]) if late > 0 else (p[-late:], y[:late])

    # What the target has at t, the prediction has at t + late.
    sample = voiced(moved)
    step = undo_time(sample, LIBRARY, None)
    assert step.faults == ("shift",)
    assert step.lag == late
    undone = step.sample
    assert undone.correlation(undone.pc, undone.yc).value == pytest.approx(0.9, abs=0.02)


def test_an_aligned_prediction_is_left_as_it_is() -> None:
    sample = voiced()
    step = undo_time(sample, LIBRARY, autoregressive=False)
    assert step.faults == ()
    assert step.sample is sample
    assert abs(step.lag) < 0.1


def test_one_frame_late_is_the_nature_of_an_autoregressive_model_and_a_fault_of_any_other() -> None:
    late = voiced(lambda p, y: (p[:-1], y[1:]))
    assert undo_time(late, LIBRARY, autoregressive=True).faults == ()
    assert undo_time(late, LIBRARY, autoregressive=None).faults == ()
    assert undo_time(late, LIBRARY, autoregressive=False).faults == ("shift",)


@pytest.mark.parametrize("factor", [0.95, 1.04])
def test_a_drift_is_found_and_undone(factor: float) -> None:
    """A prediction whose frames pass ``factor`` target frames each."""

    def drifting(p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        q, _ = stretch(p, np.zeros((int(len(p) / factor), p.shape[1])), 1 / factor)
        n = min(len(q), len(y))
        return q[:n], y[:n]

    sample = voiced(drifting)
    assert abs(drift_left(sample, sample.p, sample.y)) > 1.2
    step = undo_time(sample, LIBRARY, None)
    assert step.faults == ("time-stretch",)
    assert step.stretch == pytest.approx(factor, abs=0.006)
    undone = step.sample
    assert undone.correlation(undone.pc, undone.yc).value > 0.85
    assert abs(drift_left(undone, undone.p, undone.y)) < 0.5


def test_a_fault_that_may_not_be_named_is_not_undone() -> None:
    late = voiced(lambda p, y: (p[:-3], y[3:]))
    step = undo_time(late, LIBRARY - {"shift"}, autoregressive=False)
    assert step.faults == ()
    assert step.lag == pytest.approx(3.0, abs=0.1)
