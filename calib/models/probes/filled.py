"""Did the weights arrive? The tensors of the network that runs, looked for in the checkpoint by their values.

``load_state_dict(strict=False)`` says nothing of what it left out. A tensor that was loaded holds what the file holds, whatever
its name was on the way (a prefix, a renaming), so no plug-in has to keep an account.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calib.errors import DataError, some
from calib.models.probes.inside import networks
from calib.models.probes.scene import Finding, Scene
from calib.models.restoring import SMALLEST

__all__ = ["found_by_value"]

_LEAST = 2  # tensors that a module needs before it is called lost
_DEPTHS = 3
_CLOSE = 2e-2  # of a tensor's own size: bfloat16 has 8 bits
_SAMPLED = 64
_OTHER_FORM = ("weight_g", "weight_v", "parametrizations.weight.original0", "parametrizations.weight.original1")
_NAMED = 4


def found_by_value(scene: Scene, said: str) -> Finding:
    """Each tensor of the visible networks is in the checkpoint, or its module was never filled.

    Args:
        scene: the model, and how its checkpoint is read.
        said: why the plug-in's own account is no answer.
    """
    found = networks(scene.model)
    ask = "load_report() may return what torch's load_state_dict(strict=False) returned, or calib.models.restoring.load_state's account"
    if not found or scene.stored is None:
        why = (
            "no torch network is seen among its attributes"
            if not found
            else "the checkpoint is no file that calib knows of"
        )
        return Finding("restored", "skipped", f"{said}, and {why}", advice=ask)
    try:
        stored = {
            name: tensor for name, tensor in scene.stored().items() if getattr(tensor, "is_floating_point", bool)()
        }
    except DataError as error:
        return Finding("restored", "skipped", f"{said}, and the checkpoint cannot be read: {error.message}", advice=ask)
    fates = _fates(found, stored)
    filled = [name for name, fate in fates.items() if fate == "filled"]
    other = [name for name, fate in fates.items() if fate == "other"]
    lost = _lost(found, fates)
    evidence = {
        "tensors": len(fates), "found_in_checkpoint": len(filled), "other_values": other,
        "not_found": [name for name, fate in fates.items() if fate == "absent"], "lost_modules": lost,
    }  # fmt: skip
    limit = f"a module of at least {_LEAST} tensors, none of which holds what the checkpoint holds; a warning: single tensors"
    advice = "compare the names of these tensors with those in the checkpoint: load_state_dict(strict=False) passes over what does not fit. (A plug-in that changes its weights on purpose says so in load_report().)"
    if not fates:
        return Finding(
            "restored", "skipped", f"{said}, and the network has no tensor to look for", evidence, limit, ask
        )
    if not filled and not other:
        return Finding(
            "restored", "skipped", f"{said}, and none of the network's {len(fates)} tensors is in the checkpoint, by value or by name: the plug-in changes them on the way, or nothing was loaded",
            evidence, limit, ask,
        )  # fmt: skip
    share = f"{len(filled)} of {len(fates)} tensors of the network hold what the checkpoint holds"
    if not filled:
        return Finding(
            "restored", "fail", f"the weights were not loaded: the checkpoint has tensors of the same names and shapes ({some(other, _NAMED)}), and the network holds other values in all of them",
            evidence, limit, advice,
        )  # fmt: skip
    if lost:
        return Finding(
            "restored", "fail", f"the weights of {some(lost, _NAMED)} were not loaded: {share}, and of {'this module' if len(lost) == 1 else 'these modules'} none",
            evidence, limit, advice,
        )  # fmt: skip
    if other:
        return Finding("restored", "warn", f"{share}; {some(other, _NAMED)}: the checkpoint has other values under that name", evidence, limit, advice)  # fmt: skip
    rest = (
        "" if len(filled) == len(fates) else "; the others are not there under their name, and may be made from what is"
    )
    return Finding("restored", "pass", f"{said}; by value {share}{rest}", evidence, limit)


def _fates(found: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, str]:
    """Tensor to ``filled``, ``other`` (the name is there with other values) or ``absent``; what is one number all over is left out."""
    by_shape: dict[tuple[int, ...], list[Any]] = {}
    for tensor in stored.values():
        by_shape.setdefault(tuple(tensor.shape), []).append(tensor)
    out: dict[str, str] = {}
    for attribute, network in found.items():
        for name, tensor in network.state_dict().items():
            if not tensor.is_floating_point() or tensor.numel() < 2:
                continue
            own = tensor.detach().float().cpu()
            if bool((own == own.reshape(-1)[0]).all()):
                continue
            full = f"{attribute}.{name}"
            if any(_same(own, one) for one in by_shape.get(tuple(own.shape), ())):
                out[full] = "filled"
                continue
            if name.endswith(("running_mean", "running_var")):
                continue  # a batch norm in training mode has moved them since; `evaluation` says so
            stem = name.removesuffix("weight")
            if any(_ends(key, stem + form) for form in _OTHER_FORM for key in stored):
                continue  # weight normalisation, removed or put on: the values are made from two tensors
            named = [one for key, one in stored.items() if _ends(key, name) and one.shape == own.shape]
            out[full] = "other" if named else "absent"
    return out


def _ends(key: str, name: str) -> bool:
    return key == name or key.endswith("." + name) or name.endswith("." + key)


def _same(own: Any, one: Any) -> bool:
    """Whether two tensors of one shape hold the same, to the rounding of half precision."""
    size = max(float(own.abs().max()), 1e-30)
    step = max(own.numel() // _SAMPLED, 1)
    flat, other = own.reshape(-1), one.detach().reshape(-1)
    if bool(((flat[::step] - other[::step].float().cpu()).abs() > _CLOSE * flat[::step].abs() + 1e-4 * size).any()):
        return False
    return bool(((flat - other.float().cpu()).abs() <= _CLOSE * flat.abs() + 1e-4 * size).all())


def _lost(found: Mapping[str, Any], fates: Mapping[str, str]) -> list[str]:
    """The outermost modules of which nothing was filled."""
    sizes = {f"{attribute}.{name}": tensor.numel() for attribute, network in found.items() for name, tensor in network.state_dict().items()}  # fmt: skip
    out: list[str] = []
    for depth in range(2, 2 + _DEPTHS):
        modules: dict[str, list[str]] = {}
        for name in fates:
            parts = name.split(".")
            if len(parts) > depth:
                modules.setdefault(".".join(parts[:depth]), []).append(name)
        for module, names in modules.items():
            if any(module.startswith(one + ".") for one in out) or len(names) < _LEAST:
                continue
            if all(fates[name] != "filled" for name in names) and any(sizes[name] >= SMALLEST for name in names):
                out.append(module)
    return out
