"""Moments of pairs in the compiled kernel against numpy in float64, on every instruction set and odd shape."""

from __future__ import annotations

import numpy as np
import pytest

from calib.diagnose.moments import Moments, unit_moments
from calib.errors import UsageError
from calib.native import library
from calib.native.compile import VARIANTS
from calib.native.pairs import pair_moments


@pytest.fixture(params=list(VARIANTS))
def variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if reason := library.missing(request.param):
        pytest.skip(reason)
    monkeypatch.setenv("CALIB_NATIVE", request.param)
    return str(request.param)


def arrays(frames: int, bins: int, level: float = -5.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(frames * 1000 + bins)
    y = level + rng.standard_normal((frames, bins)) * np.linspace(0.1, 3.0, bins)
    p = 0.4 * y + 0.3 * rng.standard_normal((frames, bins)) + 2.0
    return p.astype(np.float32), y.astype(np.float32)


def slowly(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """By the definitions, in the widest floats there are."""
    a, b = p.astype(np.longdouble), y.astype(np.longdouble)
    ma, mb = a.mean(axis=0), b.mean(axis=0)
    a, b = a - ma, b - mb
    return np.stack([ma, mb, (a * a).sum(0), (b * b).sum(0), (a * b).sum(0)]).astype(np.float64)


@pytest.mark.parametrize("bins", [1, 7, 16, 80, 100, 513, 1030])
@pytest.mark.parametrize("frames", [1, 2, 255, 256, 257, 900])
def test_every_shape(frames: int, bins: int, variant: str) -> None:
    assert variant
    p, y = arrays(frames, bins)
    found = pair_moments(p, y)
    assert found is not None
    np.testing.assert_allclose(found, slowly(p, y), rtol=1e-12, atol=1e-10)


def test_nothing_cancels_far_from_zero(variant: str) -> None:
    """Spread of one part in a thousand about a million: a one-pass sum of squares would lose it."""
    assert variant
    p, y = arrays(3000, 80, level=1e6)
    found = pair_moments(p, y)
    assert found is not None
    np.testing.assert_allclose(found, slowly(p, y), rtol=1e-10)  # the means themselves are only known to 1e-16 of 1e6


def test_rows_may_lie_apart(variant: str) -> None:
    assert variant
    p, y = arrays(300, 100)
    found = pair_moments(p[::3, 10:90], y[::3, 10:90])
    assert found is not None
    np.testing.assert_allclose(found, slowly(p[::3, 10:90], y[::3, 10:90]), rtol=1e-12, atol=1e-10)


def test_what_is_not_finite_stays_in_its_bin(variant: str) -> None:
    assert variant
    p, y = arrays(300, 80)
    p[5, 3], y[7, 20] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        found, expected = pair_moments(p, y), slowly(p, y)
    assert found is not None
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    np.testing.assert_allclose(found[:, 40:], expected[:, 40:], rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize(
    "change",
    [lambda a: a.astype(np.float64), np.asfortranarray, lambda a: a[:, ::2], lambda a: a[:0]],
    ids=["float64", "bins-apart", "every-second-bin", "empty"],
)
def test_other_arrays_are_left_to_numpy(change: object, variant: str) -> None:
    assert variant
    p, y = arrays(50, 80)
    assert pair_moments(change(p), change(y)) is None  # type: ignore[operator]


def test_both_paths_give_one_summary(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [arrays(frames, 80) for frames in (200, 333, 61)]
    fast = Moments([unit_moments(p, y) for p, y in pairs])
    monkeypatch.setenv("CALIB_NATIVE", "0")
    assert pair_moments(*pairs[0]) is None
    slow = Moments([unit_moments(p, y) for p, y in pairs])
    for name, value in vars(slow.summary()).items():
        np.testing.assert_allclose(getattr(fast.summary(), name), value, rtol=1e-12, err_msg=f"{variant} {name}")


def test_a_path_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_NATIVE", "sse9")
    with pytest.raises(UsageError, match="'sse9'"):
        pair_moments(*arrays(10, 4))
