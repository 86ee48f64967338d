"""Vocoders that carry their own code: TorchScript (``torch.jit.save``) and ``torch.export`` (``.pt2``).

Such a file says nothing of its front end, so ``--vocoder-option frontend=NAME|FILE`` must. It is a program, run by torch:
give only files that you trust, as with a plug-in.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from calib.errors import DataError, PluginError, UsageError
from calib.mel.frontend import FrontEnd
from calib.vocoders.neural import NeuralVocoder, check_options

__all__ = ["factory"]

_OPTIONS = ("frontend", "layout")
_LAYOUTS = ("MT", "TM")


class _Turned(torch.nn.Module):
    """Gives ``(1, T, M)`` to a module that wants time first."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.inner(mel.transpose(1, 2)))


def factory(checkpoint: str | None, device: str, **options: Any) -> NeuralVocoder:
    """Entry points ``torchscript`` and ``torch-export`` of the group ``calib.vocoders``; the file says which it is.

    Args:
        checkpoint: the file.
        device: a torch device name.
        options: ``frontend`` (required) and ``layout`` of the module's input: ``MT`` for ``(1, M, T)``, the default, or ``TM``.

    Raises:
        UsageError: no file, no front end, or an unknown option.
        DataError: no such file, or neither kind.
        PluginError: torch cannot load it.
    """
    check_options("torchscript", options, _OPTIONS)
    if checkpoint is None:
        raise UsageError("torchscript needs its module", hint="give --vocoder-checkpoint FILE")
    if options.get("frontend") is None:
        raise UsageError(
            f"{checkpoint}: an exported module does not say which mels it takes",
            hint="give --vocoder-option frontend=NAME (calib frontends list) or frontend=FILE",
        )
    layout = options.get("layout", "MT")
    if layout not in _LAYOUTS:
        raise UsageError(f"torchscript: layout is {layout!r}; it must be MT or TM")
    front_end = FrontEnd.load(options["frontend"])
    path = Path(checkpoint)
    kind = _kind(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces the end of TorchScript with every load
            if kind == "torchscript":
                module: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
            else:
                module = torch.export.load(str(path)).module()
    except Exception as error:
        raise PluginError(f"{path} cannot be loaded as {kind}: {type(error).__name__}: {error}") from error
    tensors = dict(module.state_dict())
    report = {
        "restored": len(tensors),
        "parameters": int(sum(tensor.numel() for tensor in tensors.values())),
        "style": kind,
        "missing": [],
        "unexpected": [],
    }
    return _Exported(kind, module if layout == "MT" else _Turned(module), front_end, device, report, path=path)


class _Exported(NeuralVocoder):
    """Its module is foreign, so what it raises is said to be its own."""

    def vocode(self, mel: Any) -> tuple[Any, int]:
        """See `NeuralVocoder.vocode`.

        Raises:
            PluginError: the module failed.
        """
        try:
            return super().vocode(mel)
        except (RuntimeError, AttributeError, TypeError) as error:
            line = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise PluginError(f"the {self.kind} module failed on {len(mel)} frames: {line[0]:.200}", hint="a module exported with a fixed length takes no other; is layout=TM what it wants?") from error  # fmt: skip


def _kind(path: Path) -> str:
    """``torchscript`` or ``torch.export``.

    Raises:
        DataError: no such file, or neither.
    """
    if not path.is_file():
        raise DataError(f"--vocoder-checkpoint {path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] or name for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: neither TorchScript nor torch.export: {error}") from None
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return "torchscript"
    if "archive_format" in names or any(name.startswith(("models/", "serialized_exported_program")) for name in names):
        return "torch.export"
    raise DataError(f"{path}: a zip archive, but neither TorchScript nor torch.export", hint="weights alone need their network: --vocoder hifigan, bigvgan, vocos")  # fmt: skip
