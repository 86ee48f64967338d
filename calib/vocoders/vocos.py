"""Vocos, the official format: ``config.yaml`` and ``pytorch_model.bin``; a Fourier head after ConvNeXt blocks.

::

    mel (1, M, T) -> conv 7 -> layer norm -> blocks: depthwise conv 7, layer norm, wider and back with GELU, a learned scale,
                  the input added -> layer norm -> linear to n_fft + 2: log magnitudes and phases -> inverse STFT

Magnitudes are ``min(exp(.), 100)``. The audio of T frames has ``(T - 1) * hop`` samples with ``center`` padding and
``T * hop`` with ``same``. The checkpoint carries the filterbank of its mel transform, which must be that of the front end
that its configuration says.

References:
    H. Siuzdak, "Vocos", ICLR 2024; gemelo-ai/vocos@c859e3b, models.py, modules.py, heads.py, spectral_ops.py. Heads on the
    MDCT, the ResNet backbone and the EnCodec models of that code are not read here, and are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import fold

from calib.data.checkpoints import read_checkpoint
from calib.errors import DataError
from calib.mel.configs import parse
from calib.mel.configs.found import resolve
from calib.mel.frontend import FrontEnd
from calib.vocoders.neural import NeuralVocoder, Settings, check_options, declared, files
from calib.vocoders.weights import load_strictly

__all__ = ["Vocos", "factory"]

_PATTERNS = ("pytorch_model.bin", "model.safetensors", "*.safetensors", "*.bin", "*.ckpt", "*.pt")
_OPTIONS = ("config", "frontend")
# What a training checkpoint holds beside the generator; and the mel transform, which is checked apart.
_BESIDE = ("multiperioddisc.", "multiresddisc.", "disc_loss.", "gen_loss.", "feat_matching_loss.", "melspec_loss.", "feature_extractor.")  # fmt: skip
_BANK = "feature_extractor.mel_spec.mel_scale.fb"
_LOUDEST = 1e2
_EPS = 1e-6


class _Block(nn.Module):
    """A ConvNeXt block over time: ``(B, C, T)`` to the same."""

    def __init__(self, channels: int, wide: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=_EPS)
        self.pwconv1 = nn.Linear(channels, wide)
        self.pwconv2 = nn.Linear(wide, channels)
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.norm(self.dwconv(x).transpose(1, 2))
        inner = self.gamma * self.pwconv2(nn.functional.gelu(self.pwconv1(inner)))
        return torch.as_tensor(x + inner.transpose(1, 2))


class _Backbone(nn.Module):
    """``(B, M, T)`` to ``(B, T, C)``."""

    def __init__(self, n_mels: int, channels: int, wide: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Conv1d(n_mels, channels, 7, padding=3)
        self.norm = nn.LayerNorm(channels, eps=_EPS)
        self.convnext = nn.ModuleList(_Block(channels, wide) for _ in range(layers))
        self.final_layer_norm = nn.LayerNorm(channels, eps=_EPS)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.embed(mel).transpose(1, 2)).transpose(1, 2)
        for block in self.convnext:
            x = block(x)
        return torch.as_tensor(self.final_layer_norm(x.transpose(1, 2)))


class _InverseSTFT(nn.Module):
    """Complex ``(B, n_fft // 2 + 1, T)`` to samples ``(B, L)``."""

    window: torch.Tensor

    def __init__(self, n_fft: int, hop: int, padding: str) -> None:
        super().__init__()
        self.n_fft, self.hop, self.padding = n_fft, hop, padding
        self.register_buffer("window", torch.hann_window(n_fft))

    def forward(self, spectrum: torch.Tensor) -> torch.Tensor:
        if self.padding == "center":
            return torch.istft(spectrum, self.n_fft, self.hop, self.n_fft, self.window, center=True)
        frames = torch.fft.irfft(spectrum, self.n_fft, dim=1) * self.window.view(1, -1, 1)
        audio = self._overlap_add(frames)
        envelope = self._overlap_add(self.window.square().view(1, -1, 1).expand(1, -1, spectrum.shape[-1]))
        return audio / envelope

    def _overlap_add(self, frames: torch.Tensor) -> torch.Tensor:
        length = (frames.shape[-1] - 1) * self.hop + self.n_fft
        cut = (self.n_fft - self.hop) // 2
        return fold(frames, (1, length), (1, self.n_fft), stride=(1, self.hop))[:, 0, 0, cut : length - cut]


class _Head(nn.Module):
    """``(B, T, C)`` to samples ``(B, L)``."""

    def __init__(self, channels: int, n_fft: int, hop: int, padding: str) -> None:
        super().__init__()
        self.out = nn.Linear(channels, n_fft + 2)
        self.istft = _InverseSTFT(n_fft, hop, padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        magnitude, phase = self.out(x).transpose(1, 2).chunk(2, dim=1)
        magnitude = magnitude.exp().clamp(max=_LOUDEST)
        return torch.as_tensor(self.istft(torch.complex(magnitude * phase.cos(), magnitude * phase.sin())))


class Vocos(nn.Module):
    """``(B, M, T)`` to samples ``(B, L)``, with the official tensor names.

    Args:
        n_mels: bins M.
        channels: of the backbone.
        wide: inside its blocks.
        layers: how many.
        n_fft: of the inverse STFT.
        hop: in samples.
        padding: ``center`` or ``same``.
    """

    def __init__(self, n_mels: int, channels: int, wide: int, layers: int, n_fft: int, hop: int, padding: str) -> None:
        super().__init__()
        self.backbone = _Backbone(n_mels, channels, wide, layers)
        self.head = _Head(channels, n_fft, hop, padding)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Samples; louder than 1 where the network says so."""
        return torch.as_tensor(self.head(self.backbone(mel)))


def _part(values: Mapping[str, Any], name: str, allowed: str, where: str) -> Settings:
    """``init_args`` of a part of the configuration.

    Raises:
        DataError: it is missing, or of a class that is not read here.
    """
    model = values.get("model")
    inner = model.get("init_args") if isinstance(model, Mapping) else None
    for place in (values, inner):
        part = place.get(name) if isinstance(place, Mapping) else None
        if isinstance(part, Mapping):
            kind = str(part.get("class_path", "")).rpartition(".")[2]
            if kind != allowed:
                raise DataError(f"{where}: {name} is {kind or 'without class_path'}; calib reads {allowed}")
            arguments = part.get("init_args")
            return Settings(arguments if isinstance(arguments, Mapping) else {}, f"{where}, {name}")
    raise DataError(f"{where}: no {name}; a Vocos configuration has feature_extractor, backbone and head")


def factory(checkpoint: str | None, device: str, **options: Any) -> NeuralVocoder:
    """Entry point ``vocos`` of the group ``calib.vocoders``.

    Args:
        checkpoint: the folder of ``config.yaml`` and ``pytorch_model.bin``, or the weights file.
        device: a torch device name.
        options: ``config`` and ``frontend``, as for HiFi-GAN.

    Raises:
        UsageError: no checkpoint, or an unknown option.
        DataError: files that are missing, weights that do not fit (the tensors are named), a filterbank in the checkpoint
            that is not the declared front end's, or a part of Vocos that is not read here.
    """
    check_options("vocos", options, _OPTIONS)
    path, config = files("vocos", checkpoint, options.get("config"), ("config.yaml", "config.yml"), _PATTERNS)
    values = resolve(parse(config))
    if not isinstance(values, Mapping):
        raise DataError(f"{config}: a {type(values).__name__}, no Vocos configuration")
    backbone = _part(values, "backbone", "VocosBackbone", str(config))
    if backbone.values.get("adanorm_num_embeddings") is not None:
        raise DataError(f"{config}: a backbone that is conditioned (adanorm_num_embeddings) takes codes, not mels")
    head = _part(values, "head", "ISTFTHead", str(config))
    padding = head.values.get("padding", "same")
    if padding not in {"center", "same"}:
        raise DataError(f"{head.where}: padding is {padding!r}; Vocos knows center and same")
    n_mels, hop = backbone.whole("input_channels"), head.whole("hop_length")
    front_end = declared(config, options.get("frontend"), n_mels=n_mels, hop_length=hop)
    module = Vocos(
        n_mels, backbone.whole("dim"), backbone.whole("intermediate_dim"), backbone.whole("num_layers"), head.whole("n_fft"), hop, padding,
    )  # fmt: skip
    tensors = read_checkpoint(path).weights
    _check_bank(tensors, front_end, path)
    report = load_strictly(module, tensors, path, ignored=_BESIDE)
    return NeuralVocoder("vocos", module, front_end, device, report, least=2 if padding == "center" else 1, path=path)


def _check_bank(tensors: Mapping[str, torch.Tensor], front_end: FrontEnd, path: Path) -> None:
    """The checkpoint's own filterbank against the declared one: what no configuration can get wrong unseen.

    Raises:
        DataError: they differ.
    """
    bank = tensors.get(_BANK)
    if bank is None:
        return
    theirs, ours = bank.double().numpy().T, front_end.basis().astype(np.float64)
    if theirs.shape != ours.shape:
        raise DataError(f"{path}: its filterbank is {theirs.shape}, the front end {front_end.name} has {ours.shape}")
    apart = float(np.abs(theirs - ours).max() / ours.max())
    if apart > 1e-3:
        raise DataError(f"{path}: its filterbank differs from that of the front end {front_end.name} by {apart:.1%} of the largest value")  # fmt: skip
