"""transformers' HiFi-GAN folders, exported modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vocoderlike import filled, mel

from calib.errors import DataError, PluginError, UsageError
from calib.mel.frontend import FrontEnd
from calib.models.loading import load_vocoder

RATES: dict[str, Any] = {"upsample_rates": [4, 4], "upsample_kernel_sizes": [8, 8], "upsample_initial_channel": 16, "resblock_kernel_sizes": [3, 5], "resblock_dilation_sizes": [[1, 3, 5], [1, 2, 3]]}  # fmt: skip


def opened(kind: str, checkpoint: Path, **options: Any) -> Any:
    return load_vocoder(f"calib.vocoders.{kind}:factory", str(checkpoint), "cpu", options)


def saved(folder: Path, kind: str, **changes: Any) -> Any:
    """A small vocoder of transformers with filled weights, saved; and the model itself."""
    transformers = pytest.importorskip("transformers", reason="compares with transformers itself (pip install mel-calib[transformers])")  # fmt: skip
    module = getattr(transformers, kind)(getattr(transformers, f"{kind}Config")(**{**RATES, **changes}))
    tensors = {name: torch.from_numpy(value) for name, value in filled({n: tuple(t.shape) for n, t in module.state_dict().items()}).items()}  # fmt: skip
    tensors["mean"], tensors["scale"] = torch.linspace(-6, -3, 80), torch.linspace(1, 2, 80)
    tensors["conv_post.weight"] *= 0.1
    module.load_state_dict(tensors)
    module.eval()
    module.save_pretrained(folder)
    return module


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("kind", ["SpeechT5HifiGan", "FastSpeech2ConformerHifiGan"])
def test_transformers_itself_gives_the_same_waveform(kind: str, normalize: bool, tmp_path: Path) -> None:
    """Waveforms equal to 1e-6, with and without the normalisation inside."""
    module = saved(tmp_path, kind, normalize_before=normalize)
    vocoder = opened("huggingface", tmp_path)
    given = mel(80)
    with torch.no_grad():
        wave = module(torch.from_numpy(given)).numpy()
    samples, rate = vocoder.vocode(given)
    assert samples.shape == wave.shape == (192,)
    assert np.abs(wave).max() > 0.02
    assert np.abs(samples - wave).max() < 1e-6
    # The configuration alone, as --frontend reads it, says the same rate.
    assert FrontEnd.load(tmp_path / "config.json").sample_rate == rate
    assert rate == (16000 if kind == "SpeechT5HifiGan" else 22050)
    found = FrontEnd.load(vocoder.frontend)
    assert found.hop_length == 16
    # One that does not normalise takes mels that are: with its own buffers, if they say something.
    assert (found.post_mean is None) == normalize


def test_a_folder_with_model_and_vocoder_gives_its_vocoder(tmp_path: Path) -> None:
    """FastSpeech2ConformerWithHifiGan: the half below ``vocoder.``."""
    module = saved(tmp_path, "FastSpeech2ConformerHifiGan")
    import json

    from safetensors.torch import load_file, save_file

    weights = {f"vocoder.{name}": tensor for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    save_file({**weights, "model.encoder.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    own = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "fastspeech2_conformer_with_hifigan", "vocoder_config": own}))  # fmt: skip
    with torch.no_grad():
        wave = module(torch.from_numpy(mel(80))).numpy()
    assert np.abs(opened("huggingface", tmp_path).vocode(mel(80))[0] - wave).max() < 1e-6


def test_a_tensor_that_transformers_would_start_afresh_is_an_error(tmp_path: Path) -> None:
    """The library itself warns and goes on with random numbers; here the tensor is named."""
    saved(tmp_path, "SpeechT5HifiGan")
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "model.safetensors")
    del weights["conv_post.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"missing: conv_post.weight \(1, 4, 7\)"):
        opened("huggingface", tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "speecht5"}')
    with pytest.raises(DataError, match="model_type is 'speecht5'"):
        opened("huggingface", tmp_path)


class Repeat(torch.nn.Module):
    """A vocoder of one parameter: each frame's mean, 256 times."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(0.1))

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        return torch.tanh(mel.mean(1) * self.gain).repeat_interleave(256, dim=-1)


@pytest.mark.filterwarnings("ignore")  # torch announces the end of TorchScript
@pytest.mark.parametrize("way", ["torchscript", "torch.export"])
def test_an_exported_module_speaks_in_the_front_end_that_is_given(way: str, tmp_path: Path) -> None:
    """Both ways of carrying code; the front end is required, because the file does not say it."""
    path = tmp_path / "module.pt"
    if way == "torchscript":
        torch.jit.script(Repeat()).save(str(path))
    else:
        path = path.with_suffix(".pt2")
        frames = torch.export.Dim("frames", min=2, max=4000)
        torch.export.save(torch.export.export(Repeat(), (torch.zeros(1, 80, 5),), dynamic_shapes=({2: frames},)), path)
    with pytest.raises(UsageError, match="does not say which mels"):
        opened("exported", path)
    vocoder = opened("exported", path, frontend="hifigan")
    samples, rate = vocoder.vocode(mel(80))
    assert (samples.size, rate) == (12 * 256, 22050)
    assert np.allclose(samples[::256], np.tanh(mel(80).mean(1) * 0.1), atol=1e-6)
    assert vocoder.load_report()["parameters"] == 1


def test_a_file_that_is_no_module_is_refused(tmp_path: Path) -> None:
    """Weights alone, and no archive at all."""
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(DataError, match=r"neither TorchScript nor torch\.export"):
        opened("exported", path, frontend="hifigan")
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="neither"):
        opened("exported", path, frontend="hifigan")


@pytest.mark.filterwarnings("ignore")
def test_a_module_that_fails_says_so(tmp_path: Path) -> None:
    """A foreign module's error is the plug-in's, with its last line."""

    class Eighty(torch.nn.Module):
        def forward(self, mel: torch.Tensor) -> torch.Tensor:
            return mel.reshape(1, 80, 4).mean(1)

    path = tmp_path / "fixed.pt"
    torch.jit.script(Eighty()).save(str(path))
    with pytest.raises(PluginError, match="failed on 12 frames"):
        opened("exported", path, frontend="hifigan").vocode(mel(80))
