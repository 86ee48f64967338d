"""transformers' HiFi-GAN folders: ``SpeechT5HifiGan`` and ``FastSpeech2ConformerHifiGan``, with their mean and scale.

The network is `calib.vocoders.hifigan.Generator`; only names differ (``upsampler`` for ``ups``), and the mel is first
normalised with the buffers ``mean`` and ``scale`` where ``normalize_before`` is true. transformers itself is not needed,
and would start what a checkpoint lacks afresh with no more than a warning; here every tensor must be there. The folder is
local: nothing is ever downloaded. ``FastSpeech2ConformerWithHifiGan`` folders hold both; their vocoder half is read.

The configuration says sample rate and bins alone; the rest of the front end is that of the two models it is shipped with
(``hf_speecht5`` at 16 kHz, else ``hf_fastspeech2_conformer``), and the hop is the product of the upsample rates.

Reference: huggingface/transformers@03bc390, models/speecht5/modeling_speecht5.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from calib.data.checkpoints import read_checkpoint
from calib.data.files import read_json
from calib.errors import DataError
from calib.mel.frontend import FrontEnd
from calib.vocoders.hifigan import Generator, GeneratorSize
from calib.vocoders.neural import NeuralVocoder, Settings, check_options, files, require
from calib.vocoders.weights import load_strictly

__all__ = ["NormalizingGenerator", "factory"]

_KIND = "speecht5-hifigan"
_PATTERNS = ("model.safetensors", "pytorch_model.bin", "*.safetensors", "*.bin")
_OPTIONS = ("config", "frontend")


class NormalizingGenerator(Generator):
    """A HiFi-GAN generator that normalises its input by bin: ``(mel - mean) / scale``.

    Args:
        size: its numbers.
        slope: of the leaky ReLUs but the last.
        normalize: whether it does so; else the buffers are only carried.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, size: GeneratorSize, slope: float, *, normalize: bool) -> None:
        super().__init__(size, slope)
        self.normalize = normalize
        self.register_buffer("mean", torch.zeros(size.n_mels))
        self.register_buffer("scale", torch.ones(size.n_mels))

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """``(B, M, T)`` to samples in [-1, 1]."""
        if self.normalize:
            mel = (mel - self.mean.unsqueeze(-1)) / self.scale.unsqueeze(-1)
        return super().forward(mel)


def factory(checkpoint: str | None, device: str, **options: Any) -> NeuralVocoder:
    """Entry point ``speecht5-hifigan`` of the group ``calib.vocoders``.

    Args:
        checkpoint: the folder that ``save_pretrained`` wrote, or its weights file.
        device: a torch device name.
        options: ``config`` and ``frontend``, as for HiFi-GAN.

    Raises:
        UsageError: no checkpoint, or an unknown option.
        DataError: files that are missing, or weights that do not fit the configuration (the tensors are named).
    """
    check_options(_KIND, options, _OPTIONS)
    path, config = files(_KIND, checkpoint, options.get("config"), ("config.json",), _PATTERNS)
    values, inside = _vocoder_part(read_json(config), str(config))
    # FastSpeech2Conformer's configuration does not say its rate; SpeechT5's does.
    fast = bool(inside) or any("FastSpeech2Conformer" in str(name) for name in values.get("architectures") or ())
    settings = Settings(values, str(config))
    size = GeneratorSize(
        settings.whole("model_in_dim", 80), settings.whole("upsample_initial_channel"), settings.wholes("upsample_rates"), settings.wholes("upsample_kernel_sizes"),
        settings.wholes("resblock_kernel_sizes"), settings.lists("resblock_dilation_sizes"), 1, str(config),
    )  # fmt: skip
    normalize = settings.flag("normalize_before", default=True)
    module = NormalizingGenerator(size, settings.number("leaky_relu_slope", 0.1), normalize=normalize)
    tensors = {name.removeprefix(inside): tensor for name, tensor in read_checkpoint(path).weights.items() if name.startswith(inside)}  # fmt: skip
    report = load_strictly(module, {_ours(name): tensor for name, tensor in tensors.items()}, path)
    rate = settings.whole("sampling_rate", 22050 if fast else 16000)
    front_end = _front_end(rate, size, module, options.get("frontend"), normalize=normalize)
    return NeuralVocoder(_KIND, module, front_end, device, report, path=path)


def _vocoder_part(values: Any, where: str) -> tuple[Mapping[str, Any], str]:
    """The vocoder's configuration, and the prefix of its tensors."""
    if not isinstance(values, Mapping):
        raise DataError(f"{where}: a {type(values).__name__}, no configuration with keys")
    if values.get("model_type") == "fastspeech2_conformer_with_hifigan" and isinstance(values.get("vocoder_config"), Mapping):  # fmt: skip
        return values["vocoder_config"], "vocoder."
    if "upsample_rates" not in values or "num_mels" in values:
        kind = values.get("model_type")
        said = f"model_type is {kind!r}" if kind else "there is no model_type"
        raise DataError(f"{where}: {said}; {_KIND} reads SpeechT5HifiGan and FastSpeech2ConformerHifiGan folders", hint="--vocoder hifigan reads the official config.json" if "num_mels" in values else None)  # fmt: skip
    return values, ""


def _ours(name: str) -> str:
    return "ups" + name.removeprefix("upsampler") if name.startswith("upsampler.") else name


def _front_end(rate: int, size: GeneratorSize, module: NormalizingGenerator, given: Any, *, normalize: bool) -> FrontEnd:  # fmt: skip
    if given is not None:
        front_end = FrontEnd.load(given)
        facts = {"n_mels": size.n_mels, "hop_length": size.hop, "sample_rate": rate}
        require(front_end, facts, f"--vocoder-option frontend={given}")
        return front_end
    base = FrontEnd.load("hf_speecht5" if rate == 16000 else "hf_fastspeech2_conformer")
    front_end = dataclasses.replace(base, sample_rate=rate, n_mels=size.n_mels, hop_length=size.hop)
    told = bool(module.mean.any()) or bool((module.scale != 1).any())
    if normalize or not told:
        return front_end
    return front_end.with_statistics(module.mean.double().numpy(), module.scale.double().numpy())
