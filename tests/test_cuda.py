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


@pytest.mark.parametrize("name", ["hifigan", "nemo_fastpitch_22k", "whisper", "vocos_mel_24k"])
def test_batches_on_the_gpu_agree_with_one_utterance_at_a_time(name: str, tmp_path: Path) -> None:
    from calib.data.audio import write_wav
    from calib.data.sources import Item
    from calib.errors import DataError
    from calib.mel.corpus import Measure, MelReader
    from calib.mel.dataset import DatasetStatistics
    from calib.mel.frontend import FrontEnd

    frontend = FrontEnd.load(name)
    items = []
    for k in range(6):
        write_wav(tmp_path / f"{k}.wav", speech()[: 44100 - 6000 * k], 22050)
        items.append(Item(str(k), tmp_path / f"{k}.wav"))
    found = {}
    for device in ("cpu", "cuda"):
        total = DatasetStatistics(frontend.n_mels)
        for _, value in Measure(MelReader(frontend, device=device)).many(items):
            assert not isinstance(value, DataError)
            total.add(value.statistics)
        found[device] = total.result(floor=frontend.floor)
    for key in ("mean", "std", "min", "max"):
        tolerance = 5e-6 if key in {"mean", "std"} else 2e-3  # few frames: the CPU's float32 has not averaged out
        np.testing.assert_allclose(found["cuda"]["per_bin"][key], found["cpu"]["per_bin"][key], rtol=tolerance, atol=1e-6)  # fmt: skip


def test_the_reference_model_predicts_the_same_on_cuda() -> None:
    pytest.importorskip("espeakng_loader", reason="text to phonemes needs espeak-ng")
    from calib.models.protocol import Utterance
    from calib.models.reference import factory

    mel = np.full((120, 80), -5.0, dtype=np.float32)
    batch = [Utterance("a", mel, "Hello there.", language="en")]
    cpu, cuda = (factory(None, device).teacher_force(batch)[0] for device in ("cpu", "cuda"))
    assert np.abs(cpu - cuda).max() < 1e-2
