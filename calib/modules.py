"""The normaliser and the scaler as torch modules, so that the calibration is part of the model that is saved and exported.

Their numbers are buffers: they are in the ``state_dict``, move with the model and are never trained. Both classes can be
scripted, and exported with ``torch.export`` and to ONNX; the arithmetic is `calib.params`'s, operation for operation.

Conventions:
    ``axis`` is where the mel bins are: -1 for ``(..., T, M)``, -2 for ``(..., M, T)``. It matters by bin only. Buffers are
    float32 unless ``dtype`` says otherwise: take float64 for float64 mels. A mel in another precision is computed in its
    own, with the buffers cast.

Example:
    >>> import torch
    >>> from calib.params import MelNormalizer, MelScaler
    >>> scaler = MelScaler(0.5, 1.0, normalizer=MelNormalizer(-5.0, 2.0))
    >>> module = ScalerModule(scaler)
    >>> float(module(torch.tensor([[2.0]])))
    -1.0
    >>> sorted(module.state_dict())
    ['floor', 'mean', 'offset', 'scale', 'std']
"""

# No "from __future__ import annotations": torch.jit.script wants the types of the buffers and not their names.
import os
from typing import Any

import numpy as np
import torch
from torch import nn

from calib.params import MelNormalizer, MelScaler, ParamsError

__all__ = ["NormalizerModule", "ScalerModule"]


def _buffer(value: float | np.ndarray | None, axis: int, dtype: torch.dtype) -> torch.Tensor:
    """A scalar, or ``(M,)`` shaped for its axis."""
    tensor = torch.as_tensor(value, dtype=dtype)
    return tensor.unsqueeze(-1) if tensor.dim() and axis == -2 else tensor


def _checked(axis: int, dtype: torch.dtype) -> None:
    if axis not in {-1, -2}:
        raise ParamsError(f"axis must be -1 for (..., T, M) or -2 for (..., M, T), got {axis!r}")
    if not dtype.is_floating_point:
        raise ParamsError(f"dtype must be a floating point type, got {dtype}")


def _statistics(normalizer: MelNormalizer) -> tuple[float | np.ndarray | None, float | np.ndarray | None]:
    if normalizer.per_bin:
        return normalizer.per_bin_mean, normalizer.per_bin_std
    return normalizer.mel_mean, normalizer.mel_std


class NormalizerModule(nn.Module):
    """To the normalised space, ``(mel - mean) / std``; with ``inverse`` back from it.

    Args:
        normalizer: its statistics; by bin where ``normalizer.per_bin`` is true.
        inverse: whether calling it denormalises.
        axis: of the bins, -1 or -2.
        dtype: of the buffers.

    Attributes:
        stats_id: identity of the statistics, or None.
        frontend_id: identity of the front end, or None.

    Raises:
        ParamsError: another axis, or a dtype that is no float.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, normalizer: MelNormalizer, *, inverse: bool = False, axis: int = -1, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        _checked(axis, dtype)
        mean, std = _statistics(normalizer)
        self.register_buffer("mean", _buffer(mean, axis, dtype))
        self.register_buffer("std", _buffer(std, axis, dtype))
        self.inverse = inverse
        self.stats_id = normalizer.stats_id
        self.frontend_id = normalizer.frontend_id

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, per_bin: bool = False, **kwargs: Any) -> "NormalizerModule":
        """From ``mel_normalization_stats.json``, strictly; see `MelNormalizer.load`."""
        return cls(MelNormalizer.load(path, per_bin=per_bin), **kwargs)

    def normalize(self, mel: torch.Tensor) -> torch.Tensor:
        """``(mel - mean) / std``."""
        return (mel - self.mean.to(mel.dtype)) / self.std.to(mel.dtype)

    def denormalize(self, mel: torch.Tensor) -> torch.Tensor:
        """``mel * std + mean``."""
        return mel * self.std.to(mel.dtype) + self.mean.to(mel.dtype)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """`normalize`, or with ``inverse`` `denormalize`."""
        if self.inverse:
            return self.denormalize(mel)
        return self.normalize(mel)


class ScalerModule(nn.Module):
    """From the model's output to the raw mel: scale, denormalise, clamp at the floor (`MelScaler.calibrate`).

    Args:
        scaler: with its statistics.
        axis: of the bins, -1 or -2.
        dtype: of the buffers.

    Attributes:
        stats_id: identity of the statistics, or None.
        frontend_id: identity of the front end, or None.
        model_id: identity of the model that it was fitted for, or None.

    Raises:
        ParamsError: a scaler without statistics, another axis, or a dtype that is no float.
    """

    scale: torch.Tensor
    offset: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor
    floor: torch.Tensor

    def __init__(self, scaler: MelScaler, *, axis: int = -1, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        _checked(axis, dtype)
        if scaler.normalizer is None:
            raise ParamsError("the module form needs the mel statistics: MelScaler.load(path, stats=...)")
        mean, std = _statistics(scaler.normalizer)
        by_bin = scaler.per_bin_scale is not None
        self.register_buffer("scale", _buffer(scaler.per_bin_scale if by_bin else scaler.scale_factor, axis, dtype))
        self.register_buffer("offset", _buffer(scaler.per_bin_offset if by_bin else scaler.offset, axis, dtype))
        self.register_buffer("mean", _buffer(mean, axis, dtype))
        self.register_buffer("std", _buffer(std, axis, dtype))
        # Always there, so that a state_dict with a floor and one without are of one shape.
        self.register_buffer("floor", torch.as_tensor(-float("inf") if scaler.floor is None else scaler.floor, dtype=dtype))  # fmt: skip
        self.stats_id = scaler.stats_id
        self.frontend_id = scaler.frontend_id
        self.model_id = scaler.model_id

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], stats: str | os.PathLike[str] | MelNormalizer, **kwargs: Any
    ) -> "ScalerModule":
        """From ``mel_scaling_params.json`` and its statistics, strictly; see `MelScaler.load`."""
        return cls(MelScaler.load(path, stats), **kwargs)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Model output to raw mel; shape, dtype and device are kept."""
        scaled = mel * self.scale.to(mel.dtype) + self.offset.to(mel.dtype)
        raw = scaled * self.std.to(mel.dtype) + self.mean.to(mel.dtype)
        return torch.maximum(raw, self.floor.to(mel.dtype))
