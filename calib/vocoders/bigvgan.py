"""BigVGAN, NVIDIA's checkpoints of version 1 and 2: ``config.json`` and ``bigvgan_generator.pt``.

HiFi-GAN's generator with other activations::

    snake       x + sin²(a x) / a           by channel, a learned
    snakebeta   x + sin²(a x) / b           a and b learned (as logarithms where ``snake_logscale``)

each between an upsampling and a downsampling by 2, so that what the square adds above half the rate is cut off and not
folded back. Both use one filter of 12 taps: a sinc of cutoff 1/4 under a Kaiser window, with sum 1. There is no activation
before the transposed convs. Version 2 ends with a clip to [-1, 1] and has no bias in the last conv.

The filters are buffers of the checkpoint, so they are loaded, and checked by being there; `kaiser_sinc` makes those of a
fresh network. NVIDIA's fused CUDA kernel is not used.

References:
    S. Lee et al., "BigVGAN", ICLR 2023; NVIDIA/BigVGAN@7d2b454, bigvgan.py, activations.py, alias_free_activation/torch.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import nn
from torch.nn.functional import conv1d, conv_transpose1d, pad

from calib.data.checkpoints import read_checkpoint
from calib.data.files import read_json
from calib.errors import DataError
from calib.vocoders.hifigan import GeneratorSize, generator_weights, stages_of
from calib.vocoders.neural import NeuralVocoder, Settings, check_options, declared, files
from calib.vocoders.weights import load_strictly

__all__ = ["BigVGAN", "factory", "kaiser_sinc"]

_PATTERNS = ("bigvgan_generator.pt", "g_*", "bigvgan_generator*", "*.safetensors", "*.pt", "*.pth")
_OPTIONS = ("config", "frontend")
_TAPS = 12
_NEVER_ZERO = 1e-9  # added to the divisor, as in the published code


def kaiser_sinc(taps: int, cutoff: float, half_width: float) -> torch.Tensor:
    """Low-pass filter ``(1, 1, taps)`` of sum 1; cutoff and half width of the transition in cycles a sample.

    The window's shape follows Kaiser's formula for the attenuation ``2.285 (taps/2 - 1) 2 pi (2 half_width) + 7.95`` dB.
    """
    attenuation = 2.285 * (taps // 2 - 1) * math.pi * 4 * half_width + 7.95
    if attenuation > 50.0:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation >= 21.0:
        beta = 0.5842 * (attenuation - 21.0) ** 0.4 + 0.07886 * (attenuation - 21.0)
    else:
        beta = 0.0
    window = torch.kaiser_window(taps, periodic=False, beta=beta)
    times = torch.arange(taps) - (taps - 1) / 2
    response = 2 * cutoff * window * torch.sinc(2 * cutoff * times)
    return (response / response.sum()).view(1, 1, taps)


class _Periodic(nn.Module):
    """Snake, or with ``two`` SnakeBeta: ``(B, C, L)`` to the same."""

    def __init__(self, channels: int, *, two: bool, logarithms: bool) -> None:
        super().__init__()
        self.logarithms = logarithms
        start = torch.zeros(channels) if logarithms else torch.ones(channels)
        self.alpha = nn.Parameter(start.clone())
        if two:
            self.beta = nn.Parameter(start.clone())
        self.two = two

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frequency = self.alpha.view(1, -1, 1)
        size = self.beta.view(1, -1, 1) if self.two else frequency
        if self.logarithms:
            frequency, size = frequency.exp(), size.exp()
        return x + (x * frequency).sin().square() / (size + _NEVER_ZERO)


class _Filter(nn.Module):
    """Holds a filter under the name that the checkpoint has for it."""

    filter: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", kaiser_sinc(_TAPS, 0.25, 0.3))


class _Down(nn.Module):
    """The same, one level deeper."""

    def __init__(self) -> None:
        super().__init__()
        self.lowpass = _Filter()


class _AntiAliased(nn.Module):
    """An activation at twice the rate: up by 2, activate, down by 2."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act = act
        self.upsample = _Filter()
        self.downsample = _Down()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        taps = self.upsample.filter.expand(channels, -1, -1)
        # Edges are repeated, so that they are not rounded off; what the filter's tails add is cut again.
        edge = _TAPS // 2 - 1
        tails = 2 * edge + (_TAPS - 2) // 2
        x = 2 * conv_transpose1d(pad(x, (edge, edge), mode="replicate"), taps, stride=2, groups=channels)
        x = self.act(x[..., tails:-tails])
        taps = self.downsample.lowpass.filter.expand(channels, -1, -1)
        return conv1d(pad(x, (edge, edge + 1), mode="replicate"), taps, stride=2, groups=channels)


def _conv(channels: int, kernel: int, dilation: int) -> nn.Conv1d:
    return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)


class _Block(nn.Module):
    """Residual block of kind 1 (two convs a dilation) or 2 (one)."""

    def __init__(
        self, channels: int, kernel: int, dilations: list[int], kind: int, activation: dict[str, bool]
    ) -> None:
        super().__init__()
        self.kind = kind
        if kind == 1:
            self.convs1 = nn.ModuleList(_conv(channels, kernel, dilation) for dilation in dilations)
            self.convs2 = nn.ModuleList(_conv(channels, kernel, 1) for _ in dilations)
        else:
            self.convs = nn.ModuleList(_conv(channels, kernel, dilation) for dilation in dilations)
        count = len(dilations) * (2 if kind == 1 else 1)
        self.activations = nn.ModuleList(_AntiAliased(_Periodic(channels, **activation)) for _ in range(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == 1:
            for index, (dilated, plain) in enumerate(zip(self.convs1, self.convs2, strict=True)):
                inner = dilated(self.activations[2 * index](x))
                x = plain(self.activations[2 * index + 1](inner)) + x
            return x
        for conv, activation in zip(self.convs, self.activations, strict=True):
            x = conv(activation(x)) + x
        return x


class BigVGAN(nn.Module):
    """The BigVGAN generator, ``(B, M, T)`` to ``(B, 1, T * hop)``, with the official tensor names and plain weights.

    Args:
        size: its numbers.
        two: SnakeBeta instead of Snake.
        logarithms: whether the activations' parameters are stored as logarithms.
        tanh: whether it ends with tanh; else with a clip.
        last_bias: whether the last conv has a bias.
    """

    def __init__(self, size: GeneratorSize, *, two: bool, logarithms: bool, tanh: bool, last_bias: bool) -> None:
        super().__init__()
        self.blocks_a_stage = len(size.block_kernels)
        self.tanh = tanh
        activation = {"two": two, "logarithms": logarithms}
        self.conv_pre = nn.Conv1d(size.n_mels, size.channels, 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        channels = size.channels
        for stage, (rate, kernel) in enumerate(zip(size.rates, size.kernels, strict=True)):
            wide, channels = channels, size.channels >> (stage + 1)
            up = nn.ConvTranspose1d(wide, channels, kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(nn.ModuleList([up]))  # a list of one: what the published names are
            for width, dilations in zip(size.block_kernels, size.block_dilations, strict=True):
                self.resblocks.append(_Block(channels, width, dilations, size.block_kind, activation))
        self.activation_post = _AntiAliased(_Periodic(channels, **activation))
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3, bias=last_bias)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """``(B, M, T)`` to samples in [-1, 1]."""
        x = self.conv_pre(mel)
        for stage, up in enumerate(self.ups):
            x = cast("nn.ModuleList", up)[0](x)
            blocks = self.resblocks[stage * self.blocks_a_stage : (stage + 1) * self.blocks_a_stage]
            x = sum(block(x) for block in blocks) / self.blocks_a_stage
        x = self.conv_post(self.activation_post(x))
        return torch.tanh(x) if self.tanh else x.clamp(-1.0, 1.0)


def factory(checkpoint: str | None, device: str, **options: Any) -> NeuralVocoder:
    """Entry point ``bigvgan`` of the group ``calib.vocoders``; arguments, options and errors as for HiFi-GAN."""
    check_options("bigvgan", options, _OPTIONS)
    path, config = files("bigvgan", checkpoint, options.get("config"), ("config.json",), _PATTERNS)
    values = read_json(config)
    if not isinstance(values, dict):
        raise DataError(f"{config}: a {type(values).__name__}, no BigVGAN configuration")
    activation = values.get("activation")
    if activation not in {"snake", "snakebeta"}:
        hint = "--vocoder hifigan reads HiFi-GAN's config.json" if activation is None else None
        raise DataError(f"{config}: activation is {activation!r}; it must be snake or snakebeta", hint=hint)
    settings = Settings(values, str(config))
    size = stages_of(settings)
    front_end = declared(config, options.get("frontend"), n_mels=size.n_mels, hop_length=size.hop, sample_rate=settings.whole("sampling_rate"))  # fmt: skip
    module = BigVGAN(
        size, two=activation == "snakebeta", logarithms=settings.flag("snake_logscale", default=False),
        tanh=settings.flag("use_tanh_at_final", default=True), last_bias=settings.flag("use_bias_at_final", default=True),
    )  # fmt: skip
    report = load_strictly(module, generator_weights(read_checkpoint(path), path), path)
    return NeuralVocoder("bigvgan", module, front_end, device, report, path=path)
