"""Weights of published vocoders: weight normalisation undone, names and shapes checked one by one, nothing half-loaded.

Weight normalisation stores a weight w as a length g and a direction v, ``w = g v / |v|`` (Salimans & Kingma, NIPS 2016),
with one g for each index of the first axis. torch wrote ``weight_g`` and ``weight_v`` at first, and writes
``parametrizations.weight.original0`` and ``original1`` now; checkpoints of both kinds, and plain ones, are in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calib.errors import DataError, some

if TYPE_CHECKING:
    import torch

__all__ = ["load_strictly", "merged", "put_weight", "weight_names", "weight_of"]

# (length, direction), after the layer's name and a dot.
_STYLES = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))
_LISTED = 6


def _join(layer: str, name: str) -> str:
    return f"{layer}.{name}" if layer else name


def weight_names(tensors: Mapping[str, Any], layer: str) -> tuple[str, ...]:
    """Names of the tensors that hold a layer's weight: one, or length and direction; none where it has no weight."""
    for names in (("weight",), *_STYLES):
        full = tuple(_join(layer, name) for name in names)
        if all(name in tensors for name in full):
            return full
    return ()


def _merge(length: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    return direction * (length / _norm(direction, length.shape))


def _norm(weight: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Euclidean norm over the axes that have size 1 in ``shape``."""
    import torch

    axes = [axis for axis in range(weight.dim()) if shape[axis] == 1]
    return torch.as_tensor(torch.linalg.vector_norm(weight, dim=axes, keepdim=True))


def weight_of(tensors: Mapping[str, torch.Tensor], layer: str) -> torch.Tensor:
    """The weight that a layer computes with.

    Raises:
        DataError: there is none.
    """
    names = weight_names(tensors, layer)
    if not names:
        raise DataError(f"the checkpoint has no weight of a layer {layer!r}")
    return tensors[names[0]] if len(names) == 1 else _merge(tensors[names[0]], tensors[names[1]])


def put_weight(tensors: MutableMapping[str, torch.Tensor], layer: str, weight: torch.Tensor) -> None:
    """Replace a layer's weight, in the style that it is stored in; dtypes are kept."""
    names = weight_names(tensors, layer)
    if len(names) == 1:
        tensors[names[0]] = weight.to(tensors[names[0]].dtype)
        return
    length, direction = names
    tensors[length] = _norm(weight, tensors[length].shape).to(tensors[length].dtype)
    tensors[direction] = weight.to(tensors[direction].dtype)


def merged(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], str]:
    """Plain weights, and the style that they were stored in: ``plain``, ``weight_g/weight_v`` or ``parametrizations``.

    A leading ``module.`` (DataParallel) that every name has is dropped.

    Raises:
        DataError: a length without its direction, or shapes that do not belong together.
    """
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    out = dict(tensors)
    style = "plain"
    for length_name, direction_name in _STYLES:
        for name in tensors:
            if not name.endswith("." + length_name):
                continue
            layer = name[: -len(length_name) - 1]
            length, direction = out.pop(name), out.pop(_join(layer, direction_name), None)
            if direction is None:
                raise DataError(f"the checkpoint has {name}, but no {_join(layer, direction_name)}")
            if length.dim() != direction.dim() or any(a not in {1, b} for a, b in zip(length.shape, direction.shape, strict=True)):  # fmt: skip
                raise DataError(f"{name} of shape {tuple(length.shape)} is no length of {tuple(direction.shape)}")
            out[_join(layer, "weight")] = _merge(length.float(), direction.float())
            style = "weight_g/weight_v" if length_name == "weight_g" else "parametrizations"
    return out, style


def load_strictly(
    module: torch.nn.Module,
    tensors: Mapping[str, torch.Tensor],
    path: Path,
    *,
    ignored: Iterable[str] = (),
) -> dict[str, Any]:
    """Load every tensor, or nothing; the load report.

    Args:
        module: with plain weights.
        tensors: as the checkpoint has them, any style of weight normalisation.
        path: for messages.
        ignored: prefixes of tensors that are not the generator's (discriminators beside it).

    Returns:
        ``restored`` (how many tensors), ``parameters`` (how many numbers), ``style``, ``ignored`` (how many), and the
        empty lists ``missing`` and ``unexpected``: anything in them is an error.

    Raises:
        DataError: a tensor that is missing, unexpected, of another shape, of integers (quantised), or not finite; each by
            name.
    """
    import torch

    plain, style = merged(tensors)
    prefixes = tuple(ignored)
    left = {name for name in plain if prefixes and name.startswith(prefixes)}
    given = {name: tensor for name, tensor in plain.items() if name not in left}
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    shapes = [
        f"{name} is {tuple(given[name].shape)}, the configuration says {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    numbers = [
        f"{name} is {str(given[name].dtype).removeprefix('torch.')}"
        for name in wanted
        if name in given and wanted[name].is_floating_point() and not given[name].is_floating_point()
    ]
    faults = []
    if missing:
        faults.append(f"missing: {some([f'{name} {tuple(wanted[name].shape)}' for name in missing], _LISTED)}")
    if unexpected:
        faults.append(f"unexpected: {some([f'{name} {tuple(given[name].shape)}' for name in unexpected], _LISTED)}")
    if shapes:
        faults.append(f"of another shape: {some(shapes, _LISTED)}")
    if numbers:  # codes of a quantised network, say: as numbers they would be noise
        faults.append(f"no floating point numbers: {some(numbers, _LISTED)}")
    if faults:
        hint = "is the configuration that of this checkpoint?"
        if not set(given) & set(wanted):
            hint = "no name fits: this is another network" if given else "the file holds no weights"
        raise DataError(f"{path}: the weights do not fit; {'; '.join(faults)}", hint=hint)
    bad = [name for name, tensor in given.items() if not bool(torch.isfinite(tensor.float()).all())]
    if bad:
        raise DataError(f"{path}: NaN or infinite weights in {some(bad, _LISTED)}")
    module.load_state_dict({name: tensor.to(wanted[name].dtype) for name, tensor in given.items()}, strict=True)
    return {
        "restored": len(given),
        "parameters": int(sum(tensor.numel() for tensor in given.values())),
        "style": style,
        "ignored": len(left),
        "missing": [],
        "unexpected": [],
    }
