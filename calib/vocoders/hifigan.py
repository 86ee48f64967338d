"""HiFi-GAN, the official checkpoints: ``config.json`` (V1, V2, V3) and ``generator*`` or ``g_*``.

::

    mel (1, M, T) -> conv 7 -> for each rate u: leaky ReLU, transposed conv by u, mean of the residual blocks
                  -> leaky ReLU -> conv 7 -> tanh -> samples (1, 1, T * product of the rates)

A block of kind 1 has, for each dilation, a dilated conv and a plain one with the input added after them; kind 2 (V3) has
the dilated conv alone. Slopes are 0.1, and 0.01 before the last conv: what the published code does.

References:
    J. Kong, J. Kim & J. Bae, "HiFi-GAN", NeurIPS 2020; jik876/hifi-gan@4769534, models.py (read for the tensor names and
    the order of operations; the weights of that code load here, and the waveforms agree, see tests/vocoders).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn.functional import leaky_relu

from calib.data.checkpoints import Checkpoint, read_checkpoint
from calib.data.files import read_json
from calib.errors import DataError
from calib.vocoders.neural import NeuralVocoder, Settings, check_options, declared, files
from calib.vocoders.weights import load_strictly

__all__ = ["Generator", "GeneratorSize", "factory", "generator_weights", "stages_of"]

_SLOPE, _LAST_SLOPE = 0.1, 0.01
_PATTERNS = ("g_*", "generator*", "*.safetensors", "*.pt", "*.pth")
_OPTIONS = ("config", "frontend")


class GeneratorSize:
    """The numbers that make a HiFi-GAN generator, or one of its kin.

    Args:
        n_mels: bins M.
        channels: after the first conv; halved at each stage.
        rates: upsampling of each stage.
        kernels: of the transposed convs.
        block_kernels: of the residual blocks.
        block_dilations: of each residual block.
        block_kind: 1 or 2.

    Raises:
        DataError: lists of unequal lengths, or channels that cannot be halved so often.
    """

    def __init__(
        self,
        n_mels: int,
        channels: int,
        rates: list[int],
        kernels: list[int],
        block_kernels: list[int],
        block_dilations: list[list[int]],
        block_kind: int,
        where: str = "the configuration",
    ) -> None:
        if len(rates) != len(kernels):
            raise DataError(f"{where}: {len(rates)} upsample rates and {len(kernels)} upsample kernel sizes")
        if len(block_kernels) != len(block_dilations):
            raise DataError(f"{where}: {len(block_kernels)} residual kernel sizes and {len(block_dilations)} dilations")
        if any(kernel < rate for rate, kernel in zip(rates, kernels, strict=True)):
            raise DataError(f"{where}: an upsample kernel is smaller than its rate: {kernels} and {rates}")
        if channels >> len(rates) < 1:
            raise DataError(f"{where}: {channels} channels cannot be halved {len(rates)} times")
        self.n_mels, self.channels, self.rates, self.kernels = n_mels, channels, rates, kernels
        self.block_kernels, self.block_dilations, self.block_kind = block_kernels, block_dilations, block_kind

    @property
    def hop(self) -> int:
        """Samples a frame."""
        return math.prod(self.rates)


def stages_of(settings: Settings) -> GeneratorSize:
    """The size that a ``config.json`` of HiFi-GAN or BigVGAN says.

    Raises:
        DataError: a key that is missing or cannot be.
    """
    kind = str(settings.values.get("resblock", "1"))
    if kind not in {"1", "2"}:
        raise DataError(f"{settings.where}: resblock is {kind!r}; it must be 1 or 2")
    return GeneratorSize(
        settings.whole("num_mels"), settings.whole("upsample_initial_channel"), settings.wholes("upsample_rates"), settings.wholes("upsample_kernel_sizes"),
        settings.wholes("resblock_kernel_sizes"), settings.lists("resblock_dilation_sizes"), int(kind), settings.where,
    )  # fmt: skip


def _same(channels: int, kernel: int, dilation: int) -> nn.Conv1d:
    return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)


class _Block(nn.Module):
    """Residual block of kind 1: ``(B, C, L)`` to the same."""

    def __init__(self, channels: int, kernel: int, dilations: list[int], slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.convs1 = nn.ModuleList(_same(channels, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_same(channels, kernel, 1) for _ in dilations)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = plain(leaky_relu(dilated(leaky_relu(x, self.slope)), self.slope)) + x
        return x


class _ShortBlock(nn.Module):
    """Residual block of kind 2."""

    def __init__(self, channels: int, kernel: int, dilations: list[int], slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.convs = nn.ModuleList(_same(channels, kernel, dilation) for dilation in dilations)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in self.convs:
            x = conv(leaky_relu(x, self.slope)) + x
        return x


class Generator(nn.Module):
    """The HiFi-GAN generator, ``(B, M, T)`` to ``(B, 1, T * hop)``, with the official tensor names and plain weights.

    Args:
        size: its numbers.
        slope: of the leaky ReLUs but the last.
    """

    def __init__(self, size: GeneratorSize, slope: float = _SLOPE) -> None:
        super().__init__()
        self.slope = slope
        self.blocks_a_stage = len(size.block_kernels)
        self.conv_pre = nn.Conv1d(size.n_mels, size.channels, 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        block = _Block if size.block_kind == 1 else _ShortBlock
        channels = size.channels
        for stage, (rate, kernel) in enumerate(zip(size.rates, size.kernels, strict=True)):
            wide, channels = channels, size.channels >> (stage + 1)
            self.ups.append(nn.ConvTranspose1d(wide, channels, kernel, rate, padding=(kernel - rate) // 2))
            for width, dilations in zip(size.block_kernels, size.block_dilations, strict=True):
                self.resblocks.append(block(channels, width, dilations, slope))
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """``(B, M, T)`` to samples in [-1, 1]."""
        x = self.conv_pre(mel)
        for stage, up in enumerate(self.ups):
            x = up(leaky_relu(x, self.slope))
            blocks = self.resblocks[stage * self.blocks_a_stage : (stage + 1) * self.blocks_a_stage]
            x = sum(block(x) for block in blocks) / self.blocks_a_stage
        return torch.tanh(self.conv_post(leaky_relu(x, _LAST_SLOPE)))


def generator_weights(found: Checkpoint, path: Any) -> dict[str, torch.Tensor]:
    """The generator's tensors of an official checkpoint.

    Raises:
        DataError: it holds the discriminators instead.
    """
    if {name.partition(".")[0] for name in found.tensors} & {"mpd", "msd", "mrd"}:
        raise DataError(
            f"{path} holds the discriminators and optimisers of a training (do_*), not the generator",
            hint="the generator is the file g_* of the same step",
        )
    return found.weights


def factory(checkpoint: str | None, device: str, **options: Any) -> NeuralVocoder:
    """Entry point ``hifigan`` of the group ``calib.vocoders``.

    Args:
        checkpoint: ``g_*``, ``generator*``, ``.pt``, ``.pth`` or ``.safetensors`` with its ``config.json`` beside it, or
            the folder of both.
        device: a torch device name.
        options: ``config`` (the file, where it lies elsewhere) and ``frontend`` (where the mels are not what
            ``config.json`` says, as for forks with another logarithm).

    Raises:
        UsageError: no checkpoint, or an unknown option.
        DataError: files that are missing, or weights that do not fit the configuration (the tensors are named).
    """
    check_options("hifigan", options, _OPTIONS)
    path, config = files("hifigan", checkpoint, options.get("config"), ("config.json",), _PATTERNS)
    values = read_json(config)
    if not isinstance(values, dict):
        raise DataError(f"{config}: a {type(values).__name__}, no HiFi-GAN configuration")
    if str(values.get("activation", "")).startswith("snake"):
        raise DataError(f"{config} is a BigVGAN configuration", hint="--vocoder bigvgan")
    settings = Settings(values, str(config))
    size = stages_of(settings)
    front_end = declared(config, options.get("frontend"), n_mels=size.n_mels, hop_length=size.hop, sample_rate=settings.whole("sampling_rate"))  # fmt: skip
    module = Generator(size)
    report = load_strictly(module, generator_weights(read_checkpoint(path), path), path)
    return NeuralVocoder("hifigan", module, front_end, device, report, path=path)
