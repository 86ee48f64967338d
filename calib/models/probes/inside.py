"""What can be seen of a torch network in this process: modules in training mode, and the layer that first gives the mel.

A post-net looks ahead by itself, and its learnt kernels need not be symmetrical: from the output alone, a decoder whose input
is not shifted and a shifted one with a post-net that reaches a frame farther cannot be told apart. Before the post-net they can.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.models.probes.scene import Scene
from calib.models.protocol import Utterance

__all__ = ["FirstMel", "Training", "first_mel", "in_training", "networks"]

_DEPTH = 2  # of containers and helper objects around a network
_FACTOR = 12  # the largest reduction factor that is looked for
_MOVED = 1e-4  # of the layer's own SD, or units: above rounding, far below what a frame does
_BUMP = 3.0  # SDs that are added to one step of a layer
_WIDEST = 32  # frames to each side that a post-net may spread one frame over
_NEAR = 0.9  # share of the response that must lie there, where it has no end (batch statistics, a recurrent post-net)
_NORMS = ("batchnorm", "syncbatchnorm", "instancenorm")


def networks(model: Any) -> dict[str, Any]:
    """The torch modules that hang on a model's attributes, by the attribute's name; {} without torch, or in a worker."""
    torch: Any = sys.modules.get("torch")
    found: dict[str, Any] = {}
    if torch is None:
        return found
    seen: set[int] = set()

    def visit(value: Any, name: str, depth: int) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, torch.nn.Module):
            if not any(value is inner for one in found.values() for inner in one.modules()):
                found[name] = value
            return
        if depth >= _DEPTH:
            return
        if isinstance(value, Mapping):
            items = [(str(key), one) for key, one in value.items()]
        elif isinstance(value, (list, tuple)):
            items = [(str(key), one) for key, one in enumerate(value)]
        else:
            items = list((getattr(value, "__dict__", None) or {}).items())
        for key, one in items[:200]:
            visit(one, f"{name}.{key}" if name else key, depth + 1)

    with contextlib.suppress(Exception):  # what a plug-in's containers do when they are looked at is its own affair
        visit(model, "", 0)
    return found


@dataclass(frozen=True)
class Training:
    """Modules that are in training mode.

    Args:
        norms: of those, batch norms (and instance norms with running statistics): they normalise with the batch's own figures.
        dropouts: of those, dropouts with p > 0.
        others: all others, which may hold a functional dropout.
        modules: how many modules were looked at.
    """

    norms: list[str]
    dropouts: list[str]
    others: list[str]
    modules: int


def in_training(model: Any) -> Training | None:
    """What is in training mode in the networks of a model; None: none can be seen."""
    found = networks(model)
    if not found:
        return None
    norms, dropouts, others, count = [], [], [], 0
    for attribute, network in found.items():
        for inner, module in network.named_modules():
            count += 1
            if not module.training:
                continue
            name, kind = f"{attribute}.{inner}".rstrip("."), type(module).__name__.lower()
            if any(word in kind for word in _NORMS) and getattr(module, "track_running_stats", True):
                norms.append(name)
            elif "dropout" in kind:
                if getattr(module, "p", True):
                    dropouts.append(name)
            else:
                others.append(name)
    return Training(norms, dropouts, others, count)


@dataclass(frozen=True)
class FirstMel:
    """The layer that first gives the mel from text and true mel.

    Args:
        layer: its name.
        ahead: frames that its output moves before the first altered true frame; 0: the frame itself moves; negative: later ones only.
        step: frames that it gives at once.
        reach: frames to each side over which what follows the layer (a post-net) spreads one of its steps; None: without an end.
    """

    layer: str
    ahead: int
    step: int
    reach: int | None


@dataclass
class _Seen:
    calls: dict[str, list[np.ndarray]]
    order: list[str]


def first_mel(scene: Scene, one: Utterance, altered: Utterance, other: Utterance, cut: int) -> FirstMel | None:
    """Where the true mel arrives first, before any post-net.

    Args:
        scene: the model.
        one: an utterance.
        altered: the same, its true mel changed from frame ``cut`` on.
        other: the same with another text, which tells a decoder's output from a mel on its way in.
        cut: the first altered frame.

    Returns:
        None where no network can be seen, or none of its layers gives frames that follow both and make up the mel around
        them; or where what follows the layer is no more to one side than a shift of it would be, and that makes the difference.
    """
    found = networks(scene.model)
    if not found:
        return None
    seen = []
    for asked in (one, altered, other):
        with _watched(found, scene.teacher.n_mels, len(one.mel)) as calls:
            scene.teacher.predict([asked])
        seen.append(calls)
    base, told = (scene.teacher.predict([asked])[0] for asked in (one, other))
    reads = told.shape == base.shape and bool(np.abs(told - base).max() > _MOVED * scene.unit)
    for layer in seen[0].order:
        first, second, third = (
            _frames(calls.calls.get(layer, []), scene.teacher.n_mels, len(one.mel)) for calls in seen
        )
        if first is None or second is None or first[0].shape != second[0].shape:
            continue
        (plain, r), (moved, _) = first, second
        changed = np.nonzero(_differ(plain, moved))[0]
        if not changed.size or (reads and not _reads(third, plain)):
            continue
        step = len(plain) // r // 2
        with _bumped(found, layer, step, len(plain) // r, _BUMP * float(plain.std())) as _:
            bumped = scene.teacher.predict([one])[0]
        spread = _spread(bumped, base, step * r, r, scene.unit)
        if spread is not None:
            lags, reach = spread
            # The layer's own steps are of r frames; the output shows them `lag` frames later.
            ahead = [cut - (int(changed[0]) // r * r + lag) for lag in lags]
            return None if min(ahead) < 0 <= max(ahead) else FirstMel(layer, ahead[0], r, reach)
    return None


def _reads(told: tuple[np.ndarray, int] | None, plain: np.ndarray) -> bool:
    return told is not None and told[0].shape == plain.shape and bool(_differ(plain, told[0]).any())


@contextlib.contextmanager
def _watched(found: Mapping[str, Any], bins: int, frames: int) -> Iterator[_Seen]:
    """Keep what every module gives that has the size of mel frames."""
    seen = _Seen({}, [])
    handles = []

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, (tuple, list)) and output else output
            if not hasattr(first, "detach") or not first.is_floating_point() or not 1 <= first.dim() <= 4:
                return
            shape = [size for size in first.shape if size != 1]
            if not any(size % bins == 0 and size <= bins * _FACTOR for size in shape) or len(shape) > 2:
                return
            if first.numel() > 2 * (frames + 64) * bins:
                return
            if name not in seen.calls:
                seen.calls[name] = []
                seen.order.append(name)
            seen.calls[name].append(first.detach().float().cpu().numpy().reshape(shape))

        return hook

    try:
        for attribute, network in found.items():
            for inner, module in network.named_modules():
                with contextlib.suppress(RuntimeError):  # scripted modules take no hooks
                    handles.append(module.register_forward_hook(keep(f"{attribute}.{inner}".rstrip("."))))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _frames(calls: list[np.ndarray], bins: int, count: int) -> tuple[np.ndarray, int] | None:
    """The calls of a layer as frames ``(T, bins)``, with the frames a step; None: they are none."""
    if not calls:
        return None
    if len(calls) > 1:  # a loop: a call a step, or a few
        if any(call.ndim > 2 or call.shape[-1] != calls[0].shape[-1] for call in calls):
            return None
        steps = np.concatenate([call.reshape(-1, call.shape[-1]) for call in calls])
    else:
        steps = calls[0]
    if steps.ndim != 2:
        return None
    for one in (steps, steps.T):
        r = one.shape[1] // bins
        if one.shape[1] % bins == 0 and 1 <= r <= _FACTOR and abs(len(one) * r - count) <= 2 * r:
            return one.reshape(len(one) * r, bins), r
    return None


def _differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Frames in which two outputs differ."""
    return np.asarray(
        np.sqrt(np.mean(np.square(a.astype(np.float64) - b), axis=1)) > _MOVED * max(float(a.std()), 1e-9)
    )


@contextlib.contextmanager
def _bumped(found: Mapping[str, Any], layer: str, step: int, steps: int, size: float) -> Iterator[None]:
    """Add ``size`` to one step of what a layer gives."""
    calls = 0

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        nonlocal calls
        first = output[0] if isinstance(output, (tuple, list)) else output
        axes = [axis for axis, length in enumerate(first.shape) if length == steps]
        changed, at = first.clone(), calls
        if axes:  # all at once; the last axis only where no other has as many
            changed.select(axes[0], step).add_(size)
        else:
            rows = first.numel() // first.shape[-1]
            if at <= step < at + rows:
                changed.reshape(-1, first.shape[-1])[step - at].add_(size)
            calls += rows
        return type(output)([changed, *output[1:]]) if type(output) in {tuple, list} else changed

    for attribute, network in found.items():
        for inner, module in network.named_modules():
            if f"{attribute}.{inner}".rstrip(".") == layer:
                handle = module.register_forward_hook(hook)
                try:
                    yield
                finally:
                    handle.remove()
                return


def _spread(
    bumped: np.ndarray, base: np.ndarray, start: int, r: int, unit: float
) -> tuple[list[int], int | None] | None:
    """Frames by which the output may come after the layer, and frames to each side that ``start`` to ``start + r`` of it move.

    A post-net spreads them evenly to both sides, so their middle says it; one that is causal, or smooths from one side, has
    its middle elsewhere without any shift, so where they hold the place itself 0 is as likely. None: they reach too far, as they do from the input side of a decoder.
    """
    if bumped.shape != base.shape:
        return None
    size = np.sqrt(np.mean(np.square(bumped.astype(np.float64) - base), axis=1)) / unit
    moved = np.nonzero(size > _MOVED)[0]
    if not moved.size:
        return None
    if moved[0] >= start - _WIDEST and moved[-1] <= start + r + _WIDEST:
        lag = int(np.floor((moved[0] + moved[-1]) / 2 - start - (r - 1) / 2 + 0.5))
        inside = moved[0] <= start + r - 1 and moved[-1] >= start
        return ([0, lag] if inside else [lag]), max(int(moved[-1] - moved[0] + 1 - r + 1) // 2, 0)
    near = size[max(start - _WIDEST, 0) : start + r + _WIDEST]
    if float((near**2).sum()) < _NEAR * float((size**2).sum()):
        return None
    return ([0], None) if abs(int(size.argmax()) - start - (r - 1) / 2) <= (r + 1) / 2 else None
