"""A calibration written into weights: which map, into which tensors, and what cannot be written there.

A calibration is an affine map of the mel, ``y = a x + c`` with one a and c or one by bin. It vanishes into a layer on either
side of the mel:

======================  =============================================================================================
the layer               what becomes of it
======================  =============================================================================================
last of the model       ``W x + b`` becomes ``(a W) x + (a b + c)``: exact, also for convolutions, whose padding is inside
a residual postnet      ``p + N(p)`` becomes ``(a p) + (a N(p) + c)``: a into the layer that gives p, 1 / a into the first
                        of N (its zeros stay zeros), a and c into the last of N: exact
mean and scale buffers  ``(y - m) / s`` becomes ``(x - (m - c) / a) / (s / a)``: exact (transformers' HiFi-GAN)
first of the vocoder    ``W * y + b`` becomes ``(a W) * x + (b + sum of c W over taps and bins)``: exact where no tap
                        lies beyond the ends. There the layer sees zeros, which stand for y = 0 before and for y = c
                        after: with c = 0 nothing changes, with any other c the first and last frames differ
======================  =============================================================================================

A floor is no affine map and can go into none of them. Weights are computed in float64 and stored in their own dtype and
style (`calib.vocoders.weights`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calib.errors import RefusedError, UsageError, nearest, some
from calib.params import MelNormalizer, MelScaler
from calib.vocoders.weights import put_weight, weight_names, weight_of

if TYPE_CHECKING:
    import torch

__all__ = ["Affine", "affine_of", "fold_buffers", "fold_first", "fold_last", "fold_residual", "has_buffers", "pass_through", "residual", "same_size", "the_first", "the_last"]  # fmt: skip

_LISTED = 8
# What the first layer is called in the vocoders that calib knows.
_FIRST = ("conv_pre", "backbone.embed")


@dataclass(frozen=True)
class Affine:
    """``y = scale x + offset``; each a scalar array ``()``, or by bin ``(M,)``; float64."""

    scale: np.ndarray
    offset: np.ndarray

    @property
    def by_bin(self) -> bool:
        """Whether it differs from bin to bin."""
        return bool(self.scale.ndim or self.offset.ndim)

    @property
    def shifts(self) -> bool:
        """Whether any offset is not 0."""
        return bool(np.any(self.offset != 0))

    def of_size(self, rows: int) -> Affine:
        """One a and c for each of ``rows`` outputs; with several frames an output, the bins again and again.

        Raises:
            UsageError: ``rows`` is no multiple of the bins.
        """
        bins = max(self.scale.size, self.offset.size)
        if rows % bins:
            raise UsageError(f"the layer has {rows} outputs, the calibration {bins} bins", hint="is --layer the last one?")  # fmt: skip
        return Affine(
            np.tile(np.broadcast_to(self.scale, (bins,)), rows // bins), np.tile(np.broadcast_to(self.offset, (bins,)), rows // bins)
        )  # fmt: skip


def affine_of(scaler: MelScaler | None, normalizer: MelNormalizer, *, normalized: bool = False) -> Affine:
    """The map of `MelScaler.calibrate` without its floor.

    Args:
        scaler: the parameters; None: the statistics alone.
        normalizer: the statistics.
        normalized: stop in the normalised space.
    """
    mean, std = np.asarray(normalizer.mel_mean, dtype=np.float64), np.asarray(normalizer.mel_std, dtype=np.float64)
    if scaler is None:
        scale, offset = np.asarray(1.0), np.asarray(0.0)
        if normalizer.per_bin:
            assert normalizer.per_bin_mean is not None
            assert normalizer.per_bin_std is not None
            mean, std = normalizer.per_bin_mean, normalizer.per_bin_std
    elif scaler.per_bin_scale is not None:
        assert scaler.per_bin_offset is not None
        scale, offset = scaler.per_bin_scale, scaler.per_bin_offset
    else:
        scale, offset = np.asarray(scaler.scale_factor), np.asarray(scaler.offset)
    return Affine(scale, offset) if normalized else Affine(scale * std, offset * std + mean)


def pass_through(normalizer: MelNormalizer) -> tuple[float, float]:
    """Scale factor and offset with which inference, ``(p * scale + offset) * std + mean``, gives p back."""
    return 1.0 / normalizer.mel_std, -normalizer.mel_mean / normalizer.mel_std


# --- which layer ------------------------------------------------------------------------------------------------------


def _layers(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of everything that has a weight of at least two axes."""
    ends = (".weight", ".weight_v", ".parametrizations.weight.original1")
    named = {name[: -len(end)] for name in tensors for end in ends if name.endswith(end)}
    return sorted(layer for layer in named if weight_names(tensors, layer) and weight_of(tensors, layer).dim() >= 2)


def _given(tensors: Mapping[str, torch.Tensor], layer: str) -> str:
    layer = layer.removesuffix(".weight")
    if not weight_names(tensors, layer):
        raise UsageError(f"--layer {layer}: the checkpoint has no such layer", hint=nearest(layer, _layers(tensors)))
    return layer


def _only(found: list[str], what: str) -> str:
    if len(found) == 1:
        return found[0]
    listed = some(found, _LISTED)
    raise UsageError(
        f"{len(found) or 'no'} layers of the checkpoint {'could be' if found else 'can be'} {what}{f': {listed}' if found else ''}",
        hint="name it with --layer",
    )


def the_last(tensors: Mapping[str, torch.Tensor], layer: str | None, n_mels: int | None) -> str:
    """The layer that gives the mel.

    Raises:
        UsageError: no such layer; or none was named, and not exactly one has ``n_mels`` outputs (they are listed).
    """
    if layer is not None:
        return _given(tensors, layer)
    if n_mels is None:
        raise UsageError("the layer that gives the mel cannot be found without the model", hint="give --layer, or --model")  # fmt: skip
    return _only([name for name in _layers(tensors) if weight_of(tensors, name).shape[0] == n_mels], "the last one")


def the_first(tensors: Mapping[str, torch.Tensor], layer: str | None, n_mels: int) -> str:
    """The layer that takes the mel: one of a known name, else the only convolution with ``n_mels`` inputs.

    Raises:
        UsageError: no such layer, or not exactly one.
    """
    if layer is not None:
        return _given(tensors, layer)
    for name in _FIRST:
        if weight_names(tensors, name):
            return name
    fitting = [name for name in _layers(tensors) if weight_of(tensors, name).shape[1] == n_mels]
    return _only(fitting, "the first one")


def same_size(tensors: Mapping[str, torch.Tensor], layer: str) -> list[str]:
    """The other layers with as many outputs: any of them may stand between this one and the mel."""
    size = weight_of(tensors, layer).shape[0]
    return [name for name in _layers(tensors) if name != layer and weight_of(tensors, name).shape[0] == size]


def has_buffers(tensors: Mapping[str, torch.Tensor], n_mels: int) -> bool:
    """Whether the vocoder normalises its input with buffers ``mean`` and ``scale``."""
    return all(name in tensors and tuple(tensors[name].shape) == (n_mels,) for name in ("mean", "scale"))


# --- writing ----------------------------------------------------------------------------------------------------------


def _shaped(values: np.ndarray, weight: torch.Tensor, axis: int) -> torch.Tensor:
    import torch

    shape = [1] * weight.dim()
    shape[axis] = -1
    return torch.from_numpy(np.ascontiguousarray(values)).view(shape)


def _put_bias(
    tensors: dict[str, torch.Tensor], layer: str, affine: Affine, scale: torch.Tensor | float, added: torch.Tensor
) -> None:
    """The layer's bias times ``scale`` plus ``added``, in its own dtype.

    Raises:
        RefusedError: an offset, and no bias that could hold it.
    """
    bias = f"{layer}.bias"
    if bias in tensors:
        tensors[bias] = (tensors[bias].double() * scale + added).to(tensors[bias].dtype)
    elif affine.shifts:
        raise RefusedError(f"the layer {layer} has no bias, so the calibration's offset cannot be written into it")


def fold_last(tensors: Mapping[str, torch.Tensor], layer: str, affine: Affine) -> dict[str, torch.Tensor]:
    """All tensors, with the calibration in the layer that gives the mel.

    Raises:
        RefusedError: an offset, and a layer without a bias that could hold it.
        UsageError: its outputs are no multiple of the bins.
    """
    import torch

    out = dict(tensors)
    weight = weight_of(tensors, layer).double()
    each = affine.of_size(weight.shape[0])
    put_weight(out, layer, weight * _shaped(each.scale, weight, 0))
    scale, offset = (torch.from_numpy(np.ascontiguousarray(values)) for values in (each.scale, each.offset))
    _put_bias(out, layer, each, scale, offset)
    return out


def residual(tensors: Mapping[str, torch.Tensor], layers: Sequence[str]) -> tuple[str, str, str] | None:
    """The three layers of a residual postnet: those named, else those of transformers' ``speech_decoder_postnet``.

    Raises:
        UsageError: two or more than three names, or a layer that is not there.
    """
    if layers:
        if len(layers) == 1:
            return None
        if len(layers) != 3:
            raise UsageError(f"{len(layers)} layers are named; it must be one, or three: the layer before a residual postnet, and the postnet's first and last")  # fmt: skip
        before, first, last = (_given(tensors, layer) for layer in layers)
        return before, first, last
    found = [re.match(r"(.*\bspeech_decoder_postnet\.)layers\.(\d+)\.conv\.weight$", name) for name in tensors]
    numbers = {int(match[2]): match[1] for match in found if match}
    if not numbers:
        return None
    prefix = numbers[max(numbers)]
    return f"{prefix}feat_out", f"{prefix}layers.0.conv", f"{prefix}layers.{max(numbers)}.batch_norm"


def fold_residual(tensors: Mapping[str, torch.Tensor], layers: tuple[str, str, str], affine: Affine) -> dict[str, torch.Tensor]:  # fmt: skip
    """All tensors, with the calibration of ``p + N(p)`` in three layers: the one that gives p, and the ends of N.

    Raises:
        RefusedError: a scale of 0, or an offset and a last layer without a bias.
        UsageError: outputs that are no multiple of the bins.
    """
    before, first, last = layers
    if np.any(affine.scale == 0):
        raise RefusedError("a scale of 0 cannot be folded into a residual postnet: its first layer is divided by it")
    out = fold_last(tensors, before, Affine(affine.scale, np.zeros_like(affine.offset)))
    weight = weight_of(out, first).double()
    put_weight(out, first, weight / _shaped(affine.of_size(weight.shape[1]).scale, weight, 1))
    return fold_last(out, last, affine)


def fold_buffers(tensors: Mapping[str, torch.Tensor], affine: Affine) -> dict[str, torch.Tensor]:
    """All tensors, with the calibration in the vocoder's ``mean`` and ``scale``.

    Raises:
        RefusedError: a scale of 0, after which nothing is left to normalise.
    """
    import torch

    mean, scale = tensors["mean"].double(), tensors["scale"].double()
    each = affine.of_size(mean.numel())
    if np.any(each.scale == 0):
        raise RefusedError("a scale of 0 cannot be folded into a normalisation: it divides by it")
    a, c = torch.from_numpy(each.scale), torch.from_numpy(each.offset)
    new = {"mean": ((mean - c) / a).to(tensors["mean"].dtype), "scale": (scale / a).to(tensors["scale"].dtype)}
    return {**tensors, **new}


def fold_first(tensors: Mapping[str, torch.Tensor], layer: str, affine: Affine) -> dict[str, torch.Tensor]:
    """All tensors, with the calibration in the layer that takes the mel; its ends differ, see the module.

    Raises:
        RefusedError: an offset, and a layer without a bias that could hold it.
        UsageError: its inputs are no multiple of the bins.
    """
    out = dict(tensors)
    weight = weight_of(tensors, layer).double()
    each = affine.of_size(weight.shape[1])
    put_weight(out, layer, weight * _shaped(each.scale, weight, 1))
    _put_bias(out, layer, each, 1.0, (weight * _shaped(each.offset, weight, 1)).flatten(1).sum(1))
    return out
