"""What runs on a GPU agrees with the CPU; skipped, with the reason, where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


def speech() -> np.ndarray:
    """Two seconds of shaped noise."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(44100) * np.abs(np.sin(np.arange(44100) / 3000.0))
    return (0.1 * noise).astype(np.float32)


@pytest.mark.parametrize("name", ["hifigan", "tacotron2", "myxtts"])
def test_the_front_end_gives_the_same_mel_on_cuda(name: str) -> None:
    from calib.mel.frontend import FrontEnd

    frontend = FrontEnd.load(name)
    assert np.abs(frontend.mel(speech(), "cuda") - frontend.mel(speech())).max() < 1e-4


def test_the_statistics_agree_to_a_millionth(tmp_path: Path) -> None:
    from calib.commands.stats import StatsConfig, run
    from calib.data.audio import write_wav

    write_wav(tmp_path / "audio" / "a.wav", speech(), 22050)
    found = {
        device: run(StatsConfig(str(tmp_path / "audio"), "hifigan", tmp_path / f"{device}.json", device=device))
        for device in ("cpu", "cuda")
    }
    for key in ("mel_mean", "mel_std"):
        assert found["cuda"][key] == pytest.approx(found["cpu"][key], rel=1e-6)


def test_the_reference_model_predicts_the_same_on_cuda() -> None:
    pytest.importorskip("espeakng_loader", reason="text to phonemes needs espeak-ng")
    from calib.models.protocol import Utterance
    from calib.models.reference import factory

    mel = np.full((120, 80), -5.0, dtype=np.float32)
    batch = [Utterance("a", mel, "Hello there.", language="en")]
    cpu, cuda = (factory(None, device).teacher_force(batch)[0] for device in ("cpu", "cuda"))
    assert np.abs(cpu - cuda).max() < 1e-2
