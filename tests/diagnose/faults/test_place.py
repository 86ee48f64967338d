"""Where the prediction's bins lie among the target's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d, shift
from speechlike import mel_field, prediction

from calib.diagnose.faults.place import Place, places
from calib.diagnose.faults.sample import Sample

NONE = np.zeros(80, dtype=bool)


def measured(change: object = None, r: float = 0.95, count: int = 8) -> Place:
    targets = [mel_field(300 + 3 * k, 40 + k) for k in range(count)]
    heard = targets if change is None else [change(y) for y in targets]  # type: ignore[operator]
    sample = Sample([(prediction(h, r, k), y) for k, (h, y) in enumerate(zip(heard, targets, strict=True))])
    found = places(sample, None, None, NONE)
    assert found is not None
    return found


@pytest.mark.parametrize("bins", [-0.4, -0.2, 0.2, 0.4])
def test_bins_that_hear_higher_or_lower_are_seen_with_their_sign(bins: float) -> None:
    """A predicted bin k that holds what the target has at k + d agrees with the neighbour on that side."""
    moved = measured(lambda y: shift(y, (0.0, -bins), order=1, mode="nearest"))
    assert np.median(moved.offset) == pytest.approx(bins, abs=0.15)
    assert np.all(np.sign(moved.offset) == np.sign(bins))
    assert np.all(np.abs(moved.offset) > 2 * moved.error)


@pytest.mark.parametrize("width", [0.0, 0.7, 1.5])
def test_a_model_that_smooths_alike_on_both_sides_is_where_it_should_be(width: float) -> None:
    found = measured(None if width == 0 else lambda y: gaussian_filter1d(y, width, axis=1, mode="nearest"))
    assert np.abs(np.median(found.offset)) < 0.05
    assert np.abs(found.offset).max() < 0.3


def test_the_answer_does_not_depend_on_units_or_sign() -> None:
    targets = [mel_field(300 + 3 * k, 40 + k) for k in range(4)]
    pairs = [(prediction(y, 0.9, k), y) for k, y in enumerate(targets)]
    one = places(Sample(pairs), None, None, NONE)
    other = places(Sample([(-1e-5 * p + 3, 1e3 * y) for p, y in pairs]), None, None, NONE)
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(other.offset, one.offset, atol=2e-3)


def test_silent_bins_are_left_out() -> None:
    """Bands without a live bin say nothing: offset 0, and what is noise there does not reach the others."""
    targets = [mel_field(300 + 3 * k, 40 + k) for k in range(4)]
    pairs = [(prediction(y, 0.9, k), y) for k, y in enumerate(targets)]
    rng = np.random.default_rng(0)
    silent = np.arange(80) >= 60
    noisy = [(np.where(silent, rng.standard_normal(p.shape), p), y) for p, y in pairs]
    one, other = (places(Sample(some), None, None, silent) for some in (pairs, noisy))
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(other.offset, one.offset, atol=1e-6)
    assert np.all(one.offset[6:] == 0.0)


def test_too_few_bins_say_nothing() -> None:
    y = mel_field(300, 1, 20)
    assert places(Sample([(prediction(y, 0.9, 1), y)]), None, None, np.zeros(20, dtype=bool)) is None
