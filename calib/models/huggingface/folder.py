"""The folder of a saved transformers model: its configuration, its weights, its front end.

The weights are read by `calib.data.checkpoints` (nothing pickled is executed) and loaded by `calib.models.restoring`, so
that a tensor that is missing is named and not silently initialised, as ``from_pretrained`` does with a log line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calib.errors import DataError, PluginError, UsageError
from calib.models.restoring import LoadReport, fresh_states, load_state

if TYPE_CHECKING:
    import torch

__all__ = ["Folder", "FolderModel", "checked_options", "transformers_module"]

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def transformers_module() -> Any:
    """The library, told to stay off the network.

    Raises:
        UsageError: it is not installed.
    """
    # Set before the import, which reads them once.
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ.setdefault(name, "1")
    try:
        import transformers
    except ImportError as error:
        raise UsageError(
            f"this model needs transformers, which cannot be imported: {error}",
            hint='pip install "mel-calib[transformers]"',
        ) from None
    return transformers


def checked_options(title: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """``known`` defaults overlaid with what the user gave.

    Raises:
        UsageError: an option that is not known.
    """
    for name in given:
        if name not in known:
            raise UsageError(f"{title} has no option {name!r}", hint=f"known: {', '.join(sorted(known))}")
    return {**known, **given}


class Folder:
    """A folder that ``save_pretrained`` wrote.

    Args:
        checkpoint: its path.
        model_type: what its ``config.json`` must say, or several.

    Raises:
        UsageError: no path, or no folder: nothing is downloaded.
        DataError: no configuration or weights in it, or another model's.
    """

    def __init__(self, checkpoint: str | None, *model_types: str) -> None:
        if checkpoint is None:
            raise UsageError(
                "no --checkpoint: a transformers model is loaded from a local folder, never from the network",
                hint="the folder that save_pretrained wrote, or a clone of the model's repository",
            )
        self.path = Path(checkpoint).expanduser()
        if not self.path.is_dir():
            what = "a file" if self.path.exists() else "not there"
            raise UsageError(
                f"--checkpoint {checkpoint} is {what}; a transformers model is a local folder, and nothing is downloaded",
                hint="the folder with config.json and model.safetensors",
            )
        self.config = self.json("config.json")
        kind = self.config.get("model_type")
        if kind not in model_types:
            raise DataError(f"{self.path / 'config.json'}: model_type is {kind!r}, not {' or '.join(model_types)}")
        self.model_type = str(kind)

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object of the folder. Raises DataError where it is missing or no object."""
        file = self.path / name
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{file}: no such file") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: cannot be read as JSON: {error}") from None
        if not isinstance(value, dict):
            raise DataError(f"{file}: holds a {type(value).__name__}, not an object")
        return value

    def weights(self) -> list[Path]:
        """The files of the weights, one or several shards.

        Raises:
            DataError: none, or a shard that the index names is missing.
        """
        for name in _WEIGHTS:
            if (self.path / name).is_file():
                return [self.path / name]
        for name in _INDEXES:
            if (self.path / name).is_file():
                shards = sorted(set(self.json(name).get("weight_map", {}).values()))
                files = [self.path / str(shard) for shard in shards]
                if absent := [file for file in files if not file.is_file()]:
                    raise DataError(f"{absent[0]}: no such file, and {name} names it")
                return files
        raise DataError(f"{self.path}: no weights ({' or '.join(_WEIGHTS)})")

    def frontend(self, default: str) -> str:
        """The feature extractor's configuration where it is one that makes mels, else the catalogue's ``default``."""
        file = self.path / "preprocessor_config.json"
        if file.is_file() and "feature_extractor_type" in self.json(file.name):
            return str(file)
        return default

    def restore(
        self, build: Callable[[], torch.nn.Module], device: str, *, prefix: str = ""
    ) -> tuple[torch.nn.Module, LoadReport]:
        """Build the module under a fixed seed and load the weights; what they lack keeps that start.

        Raises:
            DataError: unreadable weights, or not one tensor that fits.
            PluginError: the configuration cannot be built.
        """
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                module = build()
            except (TypeError, ValueError, KeyError) as error:
                raise PluginError(
                    f"{self.path / 'config.json'} cannot be built: {type(error).__name__}: {error}"
                ) from error
        report = load_state(module, self.weights(), prefix=prefix)
        module.to(device).eval().requires_grad_(requires_grad=False)
        return module, report


class FolderModel:
    """What the models of a folder share: a module with its weights restored, and the same before any training.

    Attributes:
        module: the network, restored, on ``device``.
        device: a torch device.
        checkpoint_file: the one file of weights, or the folder where there are several.
    """

    def _restore(
        self, folder: Folder, build: Callable[[], torch.nn.Module], device: str, *, prefix: str = ""
    ) -> torch.nn.Module:
        import torch

        self._build = build
        self.device = torch.device(device)
        module, self._restored = folder.restore(build, device, prefix=prefix)
        self.module: Any = module
        weights = folder.weights()
        self.checkpoint_file = weights[0] if len(weights) == 1 else folder.path
        return module

    def load_report(self) -> Mapping[str, Any]:
        """What the weights restored, by module; see `calib.models.restoring`."""
        return self._restored.mapping()

    def fresh(self, seed: int) -> Mapping[str, torch.Tensor]:
        """A state of the same network that was never trained, for the comparison of `calib check model`."""
        return fresh_states(self._build, (seed,))[0]
