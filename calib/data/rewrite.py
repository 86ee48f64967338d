"""A checkpoint written again with other weights, so that what read the old file reads the new one."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calib.data.checkpoints import Checkpoint, Stub
from calib.data.files import atomic_writer

if TYPE_CHECKING:
    import torch

__all__ = ["copy_companions", "rewrite"]

# What may lie beside weights and be needed to load them; larger files are other weights.
_COMPANIONS = {".json", ".yaml", ".yml", ".txt", ".model", ".jinja"}
_LARGEST = 32 << 20


def rewrite(found: Checkpoint, weights: Mapping[str, torch.Tensor], path: Path, *, force: bool = False) -> list[str]:
    """Write ``weights`` in the format that ``path``'s name says, below the wrapper they were under, metadata kept.

    Optimiser states are left out, because they belong to the old weights; so is what was pickled as an object. A file of
    torch's holds plain tensors and containers alone.

    Returns:
        Names of the top-level entries that were left out.

    Raises:
        UsageError: the file exists.
        DataError: it cannot be written.
    """
    tensors = {name: tensor.detach().contiguous() for name, tensor in weights.items()}
    if path.suffix == ".safetensors":
        import safetensors.torch

        header = {str(key): str(value) for key, value in found.metadata.items() if isinstance(value, str)}
        with atomic_writer(path, force=force) as file:
            file.write(safetensors.torch.save(tensors, header or None))
        return []
    import torch

    wrapper = _wrapper(found, weights)
    metadata = {key: value for key, value in found.metadata.items() if isinstance(key, str) and key != wrapper and _plain(value)}  # fmt: skip
    kept = set(metadata) | ({wrapper} if wrapper else set())
    names = {name.partition(".")[0] for name in found.tensors} | {str(key) for key in found.metadata}
    left = sorted(names - kept) if wrapper else []
    root: dict[str, Any] = {**metadata, wrapper: tensors} if wrapper else tensors
    buffer = io.BytesIO()
    torch.save(root, buffer)
    with atomic_writer(path, force=force) as file:
        file.write(buffer.getvalue())
    return [name for name in left if name]


def _wrapper(found: Checkpoint, weights: Mapping[str, Any]) -> str | None:
    """The entry that the weights were under; None where they were the file itself."""
    if all(name in found.tensors for name in weights):
        return None
    first = next(iter(weights))
    return next((name[: -len(first) - 1] for name in found.tensors if name.endswith("." + first)), None)


def _plain(value: Any) -> bool:
    if isinstance(value, Stub):
        return False
    if isinstance(value, dict):
        return all(_plain(key) and _plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(_plain(item) for item in value)
    return isinstance(value, (str, int, float, bool, bytes, complex)) or value is None


def copy_companions(source: Path, target: Path, names: set[str] | None = None) -> list[str]:
    """Copy what a loader reads beside the weights: small text files of the folder, or only ``names``.

    Returns:
        The names that were copied.
    """
    copied = []
    for path in sorted(source.iterdir()):
        wanted = path.suffix.lower() in _COMPANIONS if names is None else path.name in names
        if wanted and path.is_file() and path.stat().st_size <= _LARGEST and not (target / path.name).exists():
            shutil.copyfile(path, target / path.name)
            copied.append(path.name)
    return copied
