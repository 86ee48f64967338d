"""A level that moves along the utterances."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from planted import HIFIGAN, mels, modelled

from calib.diagnose.faults.explain import Explanation, explain
from calib.diagnose.faults.leveldrift import Drift, drift_label, undo_level_drift
from calib.diagnose.faults.library import FAULTS
from calib.diagnose.faults.sample import Sample
from calib.mel.variants import bank_geometry

GEOMETRY = bank_geometry(HIFIGAN, 80)
DB = 20 / np.log(10)


def drifting(
    line: Callable[[int], np.ndarray], r: float = 0.9, kind: str = "sample"
) -> list[tuple[np.ndarray, np.ndarray]]:
    predictions = modelled(mels(), r=r, kind=kind, seed=2)
    return [(np.asarray(p + line(len(p))[:, None], np.float32), y) for p, y in zip(predictions, mels(), strict=True)]


def explained(pairs: list[tuple[np.ndarray, np.ndarray]], **more: object) -> Explanation:
    return explain(pairs, geometry=GEOMETRY, frame_seconds=256 / 22050, **more)  # type: ignore[arg-type]


def test_a_drift_is_named_with_its_size_and_is_no_gain() -> None:
    found = explained(drifting(lambda n: np.linspace(0.0, 3.0, n)))
    assert [f.fault for f in found.findings] == ["level-drift"]
    drift = found.level_drift
    assert drift is not None
    assert drift.total == pytest.approx(3.0, abs=0.25)
    assert found.findings[0].detail == drift_label(drift, 1.0, 1.0, 256 / 22050)
    assert "dB from start to end in utterances of any length" in found.findings[0].detail


def test_a_drift_that_grows_with_time_is_told_in_db_per_second() -> None:
    found = explained(drifting(lambda n: -0.4 * np.arange(n) * 256 / 22050))
    drift = found.level_drift
    assert drift is not None
    assert drift.rate * 22050 / 256 == pytest.approx(-0.4, abs=0.08)
    assert "dB/s" in found.findings[0].detail


def test_in_other_units_it_has_the_same_size_in_decibels() -> None:
    pairs = [(p / np.float32(np.log(10)), y) for p, y in drifting(lambda n: np.linspace(0.0, 2.0, n))]
    found = explained(pairs)
    assert {f.fault for f in found.findings} == {"level-drift", "log-base"}
    drift = next(f for f in found.findings if f.fault == "level-drift")
    assert float(drift.detail.split(" dB")[0]) == pytest.approx(2.0 * DB, abs=0.2 * DB)


@pytest.mark.parametrize("kind", ["mean", "sample"])
@pytest.mark.parametrize("r", [0.6, 0.95])
def test_the_fall_of_speech_along_an_utterance_is_no_drift(r: float, kind: str) -> None:
    """A model knows between nothing and all of it."""
    falling = [y - np.linspace(0.0, 2.5, len(y), dtype=np.float32)[:, None] for y in mels()]
    for known in (0.3, 1.0):
        predictions = [
            np.asarray(p - known * np.linspace(0.0, 2.5, len(p))[:, None], np.float32)
            for p in modelled(mels(), r=r, kind=kind, seed=2)
        ]
        step, found = undo_level_drift(
            Sample(list(zip(predictions, falling, strict=True))), frozenset(FAULTS), lambda p, y: (p, y)
        )
        assert found is None
        assert step.faults == ()


def test_where_it_may_not_be_named_it_is_unknown() -> None:
    found = explained(drifting(lambda n: np.linspace(0.0, 2.0, n)), library=frozenset(FAULTS) - {"level-drift"})
    assert [f.fault for f in found.findings] == ["unknown"]


def test_the_words_have_their_units() -> None:
    drift = Drift(total=1.0, rate=0.01, by_time=True, sure=9.0)
    assert drift_label(drift, 1.0, 1.0, 0.01) == "+8.69 dB/s (+8.7 dB from start to end of the median utterance)"
    assert "dB in 100 frames" in drift_label(drift, 1.0, 1.0, None)
