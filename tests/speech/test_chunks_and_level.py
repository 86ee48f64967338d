"""Pieces of a mel join into the audio of the whole, and loud audio is turned down once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from speechlike import mel_field

from calib.mel.frontend import FrontEnd
from calib.speech.chunks import ChunkPlan, vocode_in_chunks
from calib.speech.level import PEAK, Level, within_full_scale
from calib.vocoders.griffin_lim import GriffinLim

HOP, RATE = 256, 22050


def held(mel: np.ndarray) -> tuple[np.ndarray, int]:
    """A vocoder without phases: each frame's mean for a hop."""
    level = np.repeat(mel.mean(1), HOP)
    return level.astype(np.float32), RATE


def parts(mel: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(mel), size):
        yield mel[start : start + size]


@pytest.mark.parametrize("size", [1, 7, 32, 1000])
def test_pieces_of_a_local_vocoder_are_the_whole(size: int) -> None:
    """Where every frame gives its own samples, cutting changes nothing, however the mel arrives."""
    mel = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    pieces = list(vocode_in_chunks(held, parts(mel, size), HOP / RATE))
    assert len(pieces) > 3 or size == 1000
    np.testing.assert_allclose(np.concatenate([x for x, _ in pieces]), held(mel)[0], atol=1e-6)


def test_the_first_piece_comes_before_the_mel_ends() -> None:
    seen = 0

    def coming() -> Iterator[np.ndarray]:
        nonlocal seen
        for part in parts(np.zeros((2000, 4), dtype=np.float32), 10):
            seen += len(part)
            yield part

    first, _ = next(vocode_in_chunks(held, coming(), HOP / RATE))
    assert seen * HOP / RATE < 1.0
    assert first.size >= int(ChunkPlan().first * RATE) - HOP


def test_a_vocoder_that_cannot_be_cut_gets_the_whole_mel() -> None:
    """Its audio is not so many samples a frame: one call with everything, nothing twice and nothing lost."""
    mel = np.zeros((400, 4), dtype=np.float32)

    def odd(part: np.ndarray) -> tuple[np.ndarray, int]:
        return np.full(len(part) * 100, len(part), dtype=np.float32), RATE

    pieces = list(vocode_in_chunks(odd, parts(mel, 20), HOP / RATE))
    assert [x.size for x, _ in pieces] == [40000]
    assert pieces[0][0][0] == 400


@pytest.mark.parametrize("name", ["hifigan", "tacotron2"])
def test_griffin_lim_in_pieces_is_nearly_as_close_to_the_mel(name: str) -> None:
    """Same length, and the mel of the audio at most 15 % further off, with padding of either kind."""
    fe = FrontEnd.load(name)
    vocoder = GriffinLim(name, iterations=16)
    mel = np.clip(mel_field(500, 3), fe.floor, 1.0).astype(np.float32)
    whole = vocoder.vocode(mel)[0]
    pieces = [x for x, _ in vocode_in_chunks(vocoder.vocode, parts(mel, 32), HOP / RATE)]
    joined = np.concatenate(pieces)
    assert len(pieces) > 2
    assert joined.size == whole.size
    error = [float(np.abs(fe.mel(x)[: len(mel)] - mel[: len(fe.mel(x))]).mean()) for x in (whole, joined)]
    assert error[1] < 1.15 * error[0]


def test_one_gain_for_all_of_it() -> None:
    quiet = np.array([0.5, -1.0], dtype=np.float32)
    assert within_full_scale(quiet) == (quiet, 0.0)
    audio, gain = within_full_scale(np.array([0.5, -2.0], dtype=np.float32))
    np.testing.assert_allclose(audio, [0.5 * PEAK / 2, -PEAK], rtol=1e-6)
    assert gain == pytest.approx(20 * np.log10(PEAK / 2))


def test_the_gain_of_a_stream_only_falls_and_never_clips() -> None:
    rng = np.random.default_rng(1)
    level = Level()
    gains = []
    for loudness in (0.3, 1.5, 0.2, 3.0, 1.0):
        block = (loudness * np.sin(np.arange(2000) / 9.0 + rng.random())).astype(np.float32)
        out = level(block)
        assert np.abs(out).max() <= 1.0
        assert np.abs(np.diff(out)).max() < 0.2  # no step
        gains.append(level.gain)
    assert gains == sorted(gains, reverse=True)
    assert gains[0] == 1.0
    assert gains[-1] == pytest.approx(PEAK / 3.0, rel=1e-2)
