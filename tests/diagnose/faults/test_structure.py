"""Whether two arrays have anything to do with each other, and how they lie in memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from speechlike import mel_field, prediction

from calib.diagnose.faults.library import FAULTS
from calib.diagnose.faults.sample import Sample, whitened
from calib.diagnose.faults.structure import relation, undo_arrays

LIBRARY = frozenset(FAULTS)


def sample(count: int, r: float, seed: int = 0, frames: int = 220) -> Sample:
    targets = [mel_field(frames + 3 * k, 100 * seed + k) for k in range(count)]
    return Sample([(prediction(y, r, 100 * seed + k), y) for k, y in enumerate(targets)])


@pytest.mark.parametrize("count", [1, 3, 5, 12])
def test_unrelated_arrays_stay_inside_the_null_and_related_ones_do_not(count: int) -> None:
    """With few utterances the null is far shifts, with five or more other utterances."""
    for seed in range(4):
        related = sample(count, 0.8, seed)
        strangers = sample(count, 0.8, seed + 50)
        mixed = Sample([(p, y) for (p, _), (_, y) in zip(strangers.pairs(), related.pairs(), strict=True)])
        assert relation(related).exists
        assert relation(related).r == pytest.approx(0.8, abs=0.08)
        assert not relation(mixed).exists


def test_a_negative_relation_is_one_too() -> None:
    found = relation(Sample([(-p, y) for p, y in sample(6, 0.8).pairs()]))
    assert found.exists
    assert found.r < -0.7


def test_a_constant_has_no_relation() -> None:
    assert not relation(Sample([(np.full_like(y, -5.0), y) for _, y in sample(5, 0.8).pairs()])).exists


WAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "flipped-bins": lambda p: p[:, ::-1],
    "reshaped": lambda p: np.ascontiguousarray(p.T).reshape(p.shape),
    "reshaped the other way": lambda p: np.ascontiguousarray(p).reshape(p.shape[::-1]).T,
}


@pytest.mark.parametrize(
    ("way", "side"), [*((way, "prediction") for way in WAYS), ("flipped-bins", "target"), ("reshaped", "target")]
)
def test_how_an_array_lies_is_found_and_undone(way: str, side: str) -> None:
    straight = sample(8, 0.9)
    turned = [(WAYS[way](p), y) if side == "prediction" else (p, WAYS[way](y)) for p, y in straight.pairs()]
    step = undo_arrays(Sample(turned), LIBRARY)
    assert step.faults == ("flipped-bins" if way == "flipped-bins" else "reshaped",)
    assert relation(step.sample).r == pytest.approx(relation(straight).r, abs=1e-5)
    if side == "prediction":
        np.testing.assert_allclose(step.sample.p, straight.p, atol=1e-5)
    else:
        assert step.evidence[0].endswith("the target is what lies wrongly")
        np.testing.assert_allclose(step.sample.y, straight.y, atol=1e-5)
    # What is kept in the step does to one utterance what it did to all.
    p, y = step.undo(*turned[3])
    np.testing.assert_array_equal(p, step.sample.cut(step.sample.p)[3])
    np.testing.assert_array_equal(y, step.sample.cut(step.sample.y)[3])


def test_a_target_reshaped_the_other_way_is_put_right_on_its_side() -> None:
    """(T, M) memory read as (M, T) moves as slowly over frames as a mel does; its bins give it away."""
    straight = sample(8, 0.9)
    turned = [(p, WAYS["reshaped the other way"](y)) for p, y in straight.pairs()]
    step = undo_arrays(Sample(turned), LIBRARY)
    assert step.faults == ("reshaped",)
    assert step.label == "the target is the memory of a (T, M) array read as (M, T)"
    np.testing.assert_allclose(step.sample.y, straight.y, atol=1e-5)
    np.testing.assert_allclose(step.sample.p, straight.p, atol=1e-5)


def test_a_list_that_is_off_by_one_from_its_middle_on_is_related_all_the_same() -> None:
    """The null pairs each prediction with its neighbours' targets: in half of such a list those are its own."""
    straight = sample(16, 0.6).pairs()
    mixed = [
        *straight[:8],
        *((np.resize(straight[(k + 1) % 16][0], y.shape), y) for k, (_, y) in enumerate(straight) if k >= 8),
    ]
    found = relation(Sample(mixed))
    assert found.exists
    assert found.some >= 0.2
    assert relation(Sample(straight)).some == 1.0


def test_arrays_that_lie_well_are_left_as_they_are() -> None:
    straight = sample(8, 0.9)
    step = undo_arrays(straight, LIBRARY)
    assert step.faults == ()
    assert step.sample is straight
    assert undo_arrays(Sample([(p[:, ::-1], y) for p, y in straight.pairs()]), LIBRARY - {"flipped-bins"}).faults == ()


def test_a_steady_spectrum_is_not_taken_for_a_reshaped_array() -> None:
    """A collapsed model: the mean spectrum and a flutter, in any order of memory as steady as speech in the other."""
    rng = np.random.default_rng(5)
    targets = [y for _, y in sample(10, 0.9).pairs()]
    mean = np.concatenate(targets).mean(axis=0)
    spectrum = np.linspace(2.0, -2.0, mean.size) + np.sin(np.arange(mean.size) / 6.0)
    flutter = [gaussian_filter1d(rng.standard_normal(y.shape), 2.0, axis=0) for y in targets]
    collapsed = Sample([(mean + spectrum + 0.1 * f / f.std(), y) for f, y in zip(flutter, targets, strict=True)])
    reshaped = collapsed.replaced(lambda p, y: (np.ascontiguousarray(p).reshape(p.shape[::-1]).T, y))
    assert undo_arrays(collapsed, LIBRARY).faults == ()
    assert reshaped.pc.std() > 0.5 * reshaped.p.std()  # what a reshape would have made of it moves


def test_values_without_a_logarithm_are_related_by_their_logarithms() -> None:
    """Of exp only the loudest few count, and a sampler misses those."""
    related = sample(9, 0.5)
    linear = Sample([(np.exp(4.0 * p), y) for p, y in related.pairs()])
    plain = linear.correlation(whitened(linear.pc), whitened(linear.yc)).value
    found = relation(linear)
    assert found.exists
    assert found.r > plain + 0.1
    strangers = Sample(
        [(np.exp(4.0 * p), y) for (p, _), (_, y) in zip(sample(9, 0.5, 60).pairs(), related.pairs(), strict=True)]
    )
    assert not relation(strangers).exists
