"""Input that is hardly any: no exception, no warning, no NaN, and the same answer twice."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from speechlike import mel_field, prediction

from calib.diagnose.faults.explain import Explanation, explain
from calib.mel.variants import bank_geometry

Frames = list[tuple[np.ndarray, np.ndarray]]


def pairs(count: int = 2, frames: int = 120, bins: int = 80) -> Frames:
    targets = [mel_field(frames + 11 * k, 7 + k, bins) for k in range(count)]
    return [(prediction(y, 0.9, k), y) for k, y in enumerate(targets)]


def changed(p: Callable[[np.ndarray], Any] = lambda a: a, y: Callable[[np.ndarray], Any] = lambda a: a) -> Frames:
    return [(np.asarray(p(a), dtype=np.float32), np.asarray(y(b), dtype=np.float32)) for a, b in pairs()]


CASES: dict[str, Callable[[], Frames]] = {
    "a constant prediction": lambda: changed(p=lambda a: np.full_like(a, -5.0)),
    "a prediction of zeros": lambda: changed(p=np.zeros_like),
    "a constant target": lambda: changed(y=lambda a: np.full_like(a, -5.0)),
    "both constant": lambda: changed(np.zeros_like, np.zeros_like),
    "both the same constant spectrum": lambda: [(np.tile(y.mean(0), (len(y), 1)),) * 2 for _, y in pairs()],
    "a static spectrum": lambda: changed(p=lambda a: np.tile(a.mean(0), (len(a), 1))),
    "one constant bin": lambda: changed(p=lambda a: np.where(np.arange(80) == 3, -5.0, a)),
    "one constant bin in the target": lambda: changed(y=lambda a: np.where(np.arange(80) == 3, -5.0, a)),
    "identical": lambda: [(y, y) for _, y in pairs()],
    "exactly negated": lambda: [(-y, y) for _, y in pairs()],
    "huge units": lambda: changed(lambda a: 1e6 * a, lambda a: 1e6 * a),
    "small units": lambda: changed(lambda a: 1e-6 * a, lambda a: 1e-6 * a),
    "huge against small units": lambda: changed(lambda a: 1e6 * a, lambda a: 1e-6 * a),
    "small against huge units": lambda: changed(lambda a: 1e-6 * a, lambda a: 1e6 * a),
    "far from zero": lambda: changed(lambda a: a + 1e4, lambda a: a + 1e4),
    "rounded to whole numbers": lambda: changed(np.round, np.round),
    "white noise": lambda: changed(lambda a: np.random.default_rng(1).standard_normal(a.shape)),
    "half of the frames at the floor": lambda: changed(
        *(lambda a: np.where(np.arange(len(a))[:, None] < len(a) // 2, math.log(1e-5), a),) * 2
    ),
    "one spike": lambda: changed(p=lambda a: np.where(np.arange(a.size).reshape(a.shape) == 77, 1e4, a)),
    "one short utterance": lambda: pairs(1, 30),
    "one utterance": lambda: pairs(1, 300),
    "two frames": lambda: pairs(1, 2),
    "three frames each": lambda: [(p[:3], y[:3]) for p, y in pairs(3)],
    "many short utterances": lambda: [(p[:20], y[:20]) for p, y in pairs(20)],
    "a long and a very short one": lambda: [*pairs(1, 300), *pairs(1, 2)],
    "1 bin": lambda: pairs(bins=1),
    "2 bins": lambda: pairs(bins=2),
    "20 bins": lambda: pairs(bins=20),
    "100 bins": lambda: pairs(bins=100),
    "128 bins": lambda: pairs(bins=128),
    "13 bins": lambda: pairs(bins=13),
}


@functools.cache
def bank(n_mels: int) -> Any:
    return bank_geometry(None, n_mels)


def finite(out: Explanation) -> None:
    """No NaN and no infinity in anything that is read."""
    for finding in out.findings:
        assert 0.0 <= finding.confidence <= 1.0
        assert math.isfinite(finding.margin)
        assert "nan" not in " ".join(finding.evidence).lower().split()
    assert out.relation is not None
    assert -1.0 <= out.relation.r <= 1.0
    assert math.isfinite(out.relation.limit)
    for candidate in out.ranked:
        assert all(math.isfinite(x) for x in dataclasses.astuple(candidate.cost))
        assert math.isfinite(candidate.total)
        assert np.all(np.isfinite(candidate.terms.slope))
        assert np.all(np.isfinite(candidate.terms.intercept))
    assert all(math.isfinite(x) for x in (out.lag, out.drift, out.stretch))
    if out.texture is not None:
        for name, value in vars(out.texture).items():
            if name in {"time", "frequency"}:
                assert value is None or np.all(
                    np.isfinite([*value.power, *value.coherence, value.removable, value.error])
                ), name
            else:
                assert np.all(np.isfinite(value)), name


DECLARED: list[dict[str, Any]] = [
    {},
    {"kind": "mean", "autoregressive": False},
    {"kind": "sample", "autoregressive": True},
]


@pytest.mark.parametrize(("name", "declared"), [(name, DECLARED[k % 3]) for k, name in enumerate(CASES)])
def test_hardly_any_input_is_answered_calmly(name: str, declared: dict[str, Any]) -> None:
    """Warnings are errors in this suite; so are numpy's own here."""
    with np.errstate(all="raise", under="ignore"):
        frames = CASES[name]()
        finite(explain(frames, geometry=bank(frames[0][1].shape[1]), **declared))


@pytest.mark.parametrize("name", ["a constant target", "identical", "white noise", "one spike", "13 bins"])
def test_it_is_answered_alike_twice(name: str) -> None:
    out, again = (explain(CASES[name]()) for _ in range(2))
    assert out.findings == again.findings
    assert out.posterior == again.posterior


@pytest.mark.parametrize(
    ("name", "healthy"),
    [
        ("identical", True),
        ("20 bins", True),
        ("100 bins", True),
        ("one utterance", True),
        ("far from zero", True),
        ("small units", True),
        ("huge units", True),
        ("1 bin", True),
    ],
)
def test_what_is_healthy_stays_healthy_in_any_shape(name: str, healthy: bool) -> None:
    assert (explain(CASES[name]()).findings == []) == healthy


@pytest.mark.parametrize("name", ["a constant prediction", "a prediction of zeros", "a static spectrum"])
def test_what_does_not_move_has_collapsed(name: str) -> None:
    assert [finding.fault for finding in explain(CASES[name]()).findings] == ["collapsed"]


def test_no_fault_may_be_named_from_an_empty_library() -> None:
    """Only *unknown* is left, where something is wrong at all."""
    empty: frozenset[str] = frozenset()
    assert explain(pairs(), library=empty).findings == []
    for name in ("a constant prediction", "white noise", "exactly negated"):
        assert [finding.fault for finding in explain(CASES[name](), library=empty).findings] == ["unknown"]
