"""The batches of a GPU, on torch's CPU: the same statistics as one at a time, whatever stands beside an utterance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from speechlike import recording

from calib.data.audio import write_wav
from calib.data.sources import Item
from calib.errors import DataError
from calib.mel import batches
from calib.mel.corpus import Measure, Measured, MelReader
from calib.mel.frontend import FrontEnd
from calib.mel.rounding import Noise

pytest.importorskip("torch")

LENGTHS = (1.3, 0.4, 2.1, 0.9)  # s


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Recordings, one at another rate, and three that are none."""
    out = []
    for k, seconds in enumerate(LENGTHS):
        rate = 16_000 if k == 1 else 22_050
        write_wav(tmp_path / f"{k}.wav", recording(seconds, k, rate), rate)
        out.append(Item(str(k), tmp_path / f"{k}.wav", speaker="ann" if k % 2 else "bob"))
    write_wav(tmp_path / "short.wav", np.zeros(100), 22_050)
    (tmp_path / "text.wav").write_text("not audio")
    out[1:1] = [Item("short", tmp_path / "short.wav"), Item("text", tmp_path / "text.wav"), Item("none")]
    return out


def measured(fe: FrontEnd, items: Sequence[Item], device: str) -> list[Measured | DataError]:
    found = list(Measure(MelReader(fe, device=device)).many(items))
    assert [item for item, _ in found] == list(items)
    return [value for _, value in found]


def same(a: Measured, b: Measured, tolerance: float = 1e-9) -> None:
    x, y = a.statistics, b.statistics
    assert (x.n_frames, x.seconds, x.speaker, a.source_rate) == (y.n_frames, y.seconds, y.speaker, b.source_rate)
    np.testing.assert_allclose(x.s1, y.s1, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(x.s2, y.s2, rtol=tolerance)
    np.testing.assert_allclose(x.low, y.low, rtol=1e-6)
    np.testing.assert_allclose(x.high, y.high, rtol=1e-6, atol=1e-6)
    assert x.at_floor.tolist() == y.at_floor.tolist()
    assert x.at_low == y.at_low
    assert x.histogram.start == y.histogram.start
    assert np.abs(x.histogram.counts - y.histogram.counts).sum() <= 4  # a value on an edge


@pytest.mark.parametrize(
    "name", ["hifigan", "nemo_fastpitch_22k", "matcha_vctk", "whisper", "librosa_default", "xtts_dvae"]
)
def test_a_batch_gives_what_one_at_a_time_gives(name: str, items: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reflected, zero and no padding, overwritten frames, normalisation by bin and by utterance, no logarithm."""
    monkeypatch.setattr(Noise, "small", lambda *_: False)  # float64 on both sides
    monkeypatch.setenv("CALIB_NATIVE", "0")
    fe = FrontEnd.load(name)
    usable = [item for item in items if item.audio is not None]
    for one, batch in zip(measured(fe, usable, "cpu"), measured(fe, usable, "torch:cpu"), strict=True):
        if isinstance(one, DataError) or isinstance(batch, DataError):
            assert str(one) == str(batch)
        else:
            same(one, batch, 1e-9 if fe.utterance_norm is None else 1e-6)  # that one by way of a float32 mel


def test_what_cannot_be_measured_keeps_its_place_and_its_reason(items: list[Item]) -> None:
    fe = FrontEnd.load("hifigan")
    usable = [item for item in items if item.audio is not None]
    for found in (measured(fe, usable, "torch:cpu"), measured(fe, items, "torch:cpu")):
        reasons = [value.message for value in found if isinstance(value, DataError)]
        assert [isinstance(value, DataError) for value in found][:3] == [False, True, True]
        assert "too short" in reasons[0]
        assert reasons[1].startswith("not an audio file")


def test_neighbours_and_batch_sizes_change_nothing(items: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    fe = FrontEnd.load("hifigan")
    usable = [item for item in items if item.audio is not None]
    together = measured(fe, usable, "torch:cpu")
    monkeypatch.setattr(batches, "BATCH_SAMPLES", 30_000)
    monkeypatch.setattr(batches, "_ROWS", 50)
    for other in (measured(fe, usable, "torch:cpu"), measured(fe, usable[::-1], "torch:cpu")[::-1]):
        for a, b in zip(together, other, strict=True):
            if isinstance(a, DataError) or isinstance(b, DataError):
                assert str(a) == str(b)
            else:
                same(a, b)


def test_a_range_too_wide_for_the_device_is_counted_on_the_host(
    items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    fe = FrontEnd.load("hifigan")
    usable = [item for item in items if item.id in "0123"]
    usual = measured(fe, usable, "torch:cpu")
    monkeypatch.setattr(batches, "_MOST_BINS", 100)
    for a, b in zip(usual, measured(fe, usable, "torch:cpu"), strict=True):
        assert isinstance(a, Measured)
        assert isinstance(b, Measured)
        same(a, b)


def test_values_that_are_not_finite_spoil_their_own_utterance_only() -> None:
    fe = FrontEnd(log="none", power=2)
    signals = [recording(0.5, 0), recording(0.5, 1) * np.float32(1e21), recording(0.5, 2)]  # its power: beyond float32
    batch = [batches.pad_for_batch(fe, x, 0.5, None) for x in signals]
    first, second, third = batches.batch_statistics(fe, batch, "torch:cpu")
    assert isinstance(second, DataError)
    assert "NaN or infinite values of 3520" in second.message
    (alone,) = batches.batch_statistics(fe, batch[:1], "torch:cpu")
    assert not isinstance(first, DataError)
    assert not isinstance(third, DataError)
    assert not isinstance(alone, DataError)
    same(Measured(first, None, (), {}), Measured(alone, None, (), {}))
    assert batches.batch_statistics(fe, [], "torch:cpu") == []
