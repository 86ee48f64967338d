"""Sums, histograms and digests that no order, grouping or process can change."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.mel.exact import DyadicHistogram, ExactSum, MultisetDigest, moments

QUANTUM = Fraction(1, 1 << 64)
moderate = st.floats(-1e9, 1e9, allow_nan=False, width=64)


def float32(low: float, high: float) -> st.SearchStrategy[float]:
    """Float32 values without -0 and subnormals."""
    return st.floats(low, high, width=32, allow_subnormal=False).map(lambda x: x + 0.0)


@given(st.lists(moderate, min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_an_exact_sum_equals_the_rational_sum_in_any_order_and_grouping(values: list[float], random: object) -> None:
    def total(parts: list[list[float]]) -> ExactSum:
        whole = ExactSum(1)
        for part in parts:
            one = ExactSum(1)
            for value in part:
                one.add(np.array([value]))
            whole.merge(one)
        return whole

    straight = total([values])
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    cut = len(shuffled) // 3
    assert total([shuffled[:cut], shuffled[cut:]]).numerators() == straight.numerators()
    rational = sum((Fraction(v) for v in values), Fraction(0))
    assert abs(Fraction(straight.numerators()[0], 1 << 64) - rational) <= len(values) * QUANTUM / 2
    assert straight.values()[0] == pytest.approx(float(rational), rel=1e-15, abs=float(len(values) * QUANTUM))


def test_what_floating_point_loses_is_kept() -> None:
    total = ExactSum(2)
    for value in (1e16, 1.0, -1e16):
        total.add(np.array([value, -value]))
    assert total.values() == [1.0, -1.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_exact_sum_refuses_what_is_not_finite_and_stays_as_it_was(bad: float) -> None:
    total = ExactSum(2)
    total.add(np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="finite"):
        total.add(np.array([1.0, bad]))
    assert total.values() == [1.0, 2.0]


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=40))
def test_moments_equal_rational_mean_and_deviation(values: list[float]) -> None:
    x = np.array(values, dtype=np.float64)
    s1, s2 = ExactSum(1), ExactSum(1)
    s1.add(np.array([math.fsum(x)]))
    s2.add(np.array([math.fsum(x * x)]))
    mean, sd = moments(len(values), s1.numerators()[0], s2.numerators()[0])
    exact = [Fraction(v) for v in values]
    middle = sum(exact) / len(exact)
    variance = sum((v - middle) ** 2 for v in exact) / len(exact)
    assert mean == pytest.approx(float(middle), abs=1e-12)
    assert sd**2 == pytest.approx(float(variance), abs=1e-10)


groups = st.lists(st.lists(float32(-300, 300), min_size=1, max_size=20), min_size=1, max_size=5)
wide_groups = st.lists(st.lists(float32(-(2.0**100), 2.0**100), min_size=1, max_size=8), min_size=1, max_size=4)


def merged(parts: list[list[float]]) -> DyadicHistogram:
    out = DyadicHistogram()
    for part in parts:
        out.merge(DyadicHistogram.of(np.array(part, dtype=np.float32)))
    return out


@settings(deadline=None)
@given(st.one_of(groups, wide_groups), st.randoms(use_true_random=False))
def test_a_histogram_depends_on_the_values_only(parts: list[list[float]], random: object) -> None:
    """The same from one array, from merged parts and from parts in another order, however wide the range."""
    whole = DyadicHistogram.of(np.array([value for part in parts for value in part], dtype=np.float32))
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for other in (merged(parts), merged(shuffled)):
        assert (other.level, other.start, other.counts.tolist()) == (whole.level, whole.start, whole.counts.tolist())
    assert whole.counts.sum() == sum(map(len, parts))
    assert whole.counts.size <= whole.max_bins


def test_a_wide_range_doubles_the_width_until_it_fits() -> None:
    narrow, wide = DyadicHistogram.of(np.float32([0, 1])), DyadicHistogram.of(np.float32([0, 1e6]))
    assert narrow.width == 1 / 256
    assert wide.width == 16.0
    assert wide.counts.size <= 1 << 16


def test_values_far_from_zero_can_be_merged_with_small_ones() -> None:
    h = DyadicHistogram.of(np.float32([1e30, 1e30]))
    h.merge(DyadicHistogram.of(np.float32([1.0])))
    assert h.counts.sum() == 3
    assert h.quantile(0.9) == pytest.approx(1e30, abs=h.width)


def test_merging_with_an_empty_histogram_changes_nothing() -> None:
    h = DyadicHistogram.of(np.float32([1, 2, 3]))
    before = h.counts.tolist()
    h.merge(DyadicHistogram.of(np.zeros(0, dtype=np.float32)))
    assert h.counts.tolist() == before


@settings(deadline=None)
@given(st.lists(float32(-100, 100), min_size=1, max_size=200), st.floats(0.0, 1.0))
def test_a_quantile_is_within_one_bin_of_the_order_statistic(values: list[float], q: float) -> None:
    x = np.array(values, dtype=np.float32)
    h = DyadicHistogram.of(x)
    exact = float(np.quantile(x.astype(np.float64), q, method="inverted_cdf"))
    assert abs(h.quantile(q) - exact) <= h.width * (1 + 1e-9)


def test_quantiles_of_many_values_equal_numpys_to_one_bin() -> None:
    x = np.random.default_rng(0).normal(-5, 2, 100_000).astype(np.float32)
    h = DyadicHistogram.of(x)
    for q in (0.001, 0.01, 0.25, 0.5, 0.75, 0.99, 0.999):
        assert abs(h.quantile(q) - np.quantile(x, q)) <= 1 / 256


@given(st.lists(st.binary(max_size=8), max_size=8), st.lists(st.binary(max_size=8), max_size=8))
def test_a_multiset_digest_ignores_order_but_not_content_or_count(first: list[bytes], second: list[bytes]) -> None:
    def digest(*parts: list[bytes]) -> str:
        total = MultisetDigest()
        for part in parts:
            one = MultisetDigest()
            for data in part:
                one.add(data)
            total.merge(one)
        return total.hexdigest()

    assert digest(first, second) == digest(second[::-1], first[::-1]) == digest(first + second)
    assert digest(first, first) != digest(first) or not first
    assert (digest(first) == digest(second)) == (sorted(first) == sorted(second))
