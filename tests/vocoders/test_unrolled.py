"""The unrolled Griffin-Lim: its numbers were trained; it beats the algorithm that it started from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file
from speechlike import voice

from calib.demo import CORPUS
from calib.errors import DataError, UsageError
from calib.mel.frontend import FrontEnd
from calib.vocoders.griffin_lim import GriffinLim
from calib.vocoders.unrolled import BANDS_SEEN, FRAMES_SEEN, STAGES, Unrolled, factory

HIFIGAN = FrontEnd.load("hifigan")


def error(vocoder: Any, clips: list[np.ndarray]) -> float:
    """Mean absolute error, in ln units, of the mel of the copy."""
    found = []
    for clip in clips:
        mel = HIFIGAN.mel(clip)
        found.append(np.abs(HIFIGAN.mel(vocoder.vocode(mel)[0]) - mel).mean())
    return float(np.mean(found))


def test_it_beats_griffin_lim_on_speech_that_it_was_not_trained_on() -> None:
    """Copy synthesis of the demo corpus, as many iterations: a tenth less mel error at least."""
    files = sorted((CORPUS / "wavs").glob("*.flac"))[::16]
    clips = [soundfile.read(path, dtype="float32", frames=33280)[0] for path in files]
    assert len(clips) >= 3
    mine, theirs = error(factory(None, "cpu"), clips), error(GriffinLim("hifigan"), clips)
    assert mine < 0.9 * theirs, (mine, theirs)


def test_the_network_that_is_trained_is_the_vocoder_that_is_run() -> None:
    """The same samples from torch and from numpy, for the same phases and numbers."""
    from calib.vocoders.train import UnrolledNetwork

    mel = HIFIGAN.mel(voice(0.7, 1))
    network = UnrolledNetwork(iterations=6)
    with torch.no_grad():
        network.kernels.normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
        network.kernels[:, 2, 1] += 1.0
        network.momentum.copy_(torch.linspace(0.5, 1.0, STAGES))
        phases = np.random.default_rng(0).random((len(mel), 513), dtype=np.float32) * np.float32(2 * np.pi)
        sounds = network(torch.from_numpy(mel[None]), torch.from_numpy(phases[None]))
    vocoder = Unrolled(network.momentum.detach().numpy(), network.kernels.detach().numpy(), "hifigan", iterations=6)
    samples, _ = vocoder.vocode(mel)
    assert len(sounds) == 6
    assert np.abs(sounds[-1][0].numpy() - samples).max() < 2e-3 * np.abs(samples).max()


def test_training_moves_every_stage_and_stays_finite() -> None:
    """A few steps of training: all numbers finite, and those of every stage other than at the start."""
    from calib.vocoders.train import UnrolledNetwork, train

    network = train([voice(0.6, 2)[:8192]], minutes=1 / 100, batch=1, iterations=6)
    kernels = network.kernels.detach()
    assert bool(torch.isfinite(kernels).all())
    start = UnrolledNetwork(iterations=6).kernels.detach()
    assert bool((kernels != start).flatten(1).any(1).all())


def test_it_is_deterministic_and_as_long_as_its_mel() -> None:
    """The same bytes twice; T hops of samples."""
    mel = HIFIGAN.mel(voice(0.5, 3))
    one, two = factory(None, "cpu", iterations=4), factory(None, "cpu", iterations=4)
    assert np.array_equal(one.vocode(mel)[0], two.vocode(mel)[0])
    assert one.vocode(mel)[0].size == 256 * len(mel)


def test_other_files_and_options_are_refused(tmp_path: Path) -> None:
    """Another shape, an unknown option."""
    path = tmp_path / "x.safetensors"
    save_file({"momentum": torch.ones(STAGES), "kernels": torch.ones(STAGES, FRAMES_SEEN, BANDS_SEEN + 2)}, path)
    with pytest.raises(DataError, match="an unrolled Griffin-Lim has"):
        factory(str(path), "cpu")
    with pytest.raises(UsageError, match="unknown option 'momentum'"):
        factory(None, "cpu", momentum=0.5)
    assert factory(None, "cpu", frontend="tacotron2").front_end.padding == "center"
