"""Statistics that are tensors of a checkpoint: vocoder buffers, Matcha's and ESPnet's, and files of divisors alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from calib.data.statsfiles.model import MelStatistics, checked_bins, checked_scalars
from calib.errors import DataError

__all__ = ["read_tensors"]

# (mean, sd) as the last parts of names, and the format that has them so.
_PAIRS = {
    "transformers": ("mean", "scale"),
    "matcha-checkpoint": ("mel_mean", "mel_std"),
    "espnet-checkpoint": ("normalize.mean", "normalize.std"),
}
_DIVISORS = ("mel_stats", "mel_norms")


def read_tensors(path: Path, shown: str, format_: str | None) -> MelStatistics:
    """Read ``.pth``, ``.pt``, ``.bin``, ``.ckpt`` or ``.safetensors`` without executing anything in it.

    Raises:
        DataError: no statistics among the tensors, or several.
    """
    from calib.data.checkpoints import read_checkpoint

    tensors = read_checkpoint(path).tensors
    if len(tensors) == 1 and "" in tensors:
        return _divisors(_array(tensors[""]), shown, format_)
    found: list[tuple[str, str, str]] = []
    for name, (means, sds) in _PAIRS.items():
        for tensor in tensors:
            if tensor == means or tensor.endswith("." + means):
                prefix = tensor.removesuffix(means)
                if prefix + sds in tensors and not _is_a_layer(tensors, prefix, name):
                    found.append((name, tensor, prefix + sds))
    found += [
        ("tortoise", tensor, tensor)
        for tensor in tensors
        if tensor.rpartition(".")[2] in _DIVISORS and tensors[tensor].dim() == 1
    ]
    if format_ is not None:
        found = [item for item in found if item[0] == format_]
    if not found:
        raise DataError(
            f"{shown}: {len(tensors)} tensors, none of which are mel statistics (mean and scale, mel_mean and mel_std, normalize.mean and normalize.std, mel_stats or mel_norms)"
        )
    values = {(kind, _array(tensors[a]).tobytes(), _array(tensors[b]).tobytes()) for kind, a, b in found}
    if len(values) > 1:
        listing = "; ".join(f"{kind}: {a}" + (f" and {b}" if a != b else "") for kind, a, b in found[:6])
        names = sorted({kind for kind, _, _ in found})
        raise DataError(
            f"{shown}: more than one set of tensors could be mel statistics: {listing}",
            hint="say which: " + " or ".join(f"{name}={shown}" for name in names)
            if len(names) > 1
            else "save the two tensors to a file of their own",
        )
    kind, first, second = found[0]
    if kind == "tortoise":
        return _divisors(_array(tensors[first]), shown, "tortoise")
    mean, std = _array(tensors[first]), _array(tensors[second])
    if kind == "matcha-checkpoint" and mean.size == 1:
        return MelStatistics(*checked_scalars(mean, std, shown), kind, path=shown)
    if kind == "transformers" and not mean.any() and np.all(std == 1):
        raise DataError(
            f"{shown}: {first} is 0 and {second} is 1 throughout: the placeholder of a vocoder that was saved without statistics",
            hint="this vocoder takes mels that are normalised already, or not at all (normalize_before false)",
        )
    return MelStatistics(*checked_bins(mean, std, shown), kind, path=shown)


def _is_a_layer(tensors: Mapping[str, Any], prefix: str, name: str) -> bool:
    """``mean`` and ``scale`` beside a weight are parameters of some layer."""
    return name == "transformers" and prefix + "weight" in tensors


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.double().numpy())


def _divisors(values: np.ndarray, shown: str, format_: str | None) -> MelStatistics:
    if values.ndim != 1:
        raise DataError(
            f"{shown}: one tensor of shape {tuple(values.shape)}; the divisors of Tortoise and XTTS are [M]"
        )
    _, std = checked_bins(np.zeros(values.size), values, shown, kind="divide")
    if format_ != "tortoise" and not np.all(std < 0):
        raise DataError(
            f"{shown}: one tensor of {std.size} values, {std.min():.4g} to {std.max():.4g}; those of Tortoise and XTTS are all negative",
            hint=f"if they are divisors all the same: tortoise={shown}",
        )
    return MelStatistics(np.zeros(std.size), std, "tortoise", "divide", path=shown)
