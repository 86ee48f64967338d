"""What peers import and the measurement does not need, where it is not there.

``torchaudio``, whose wheel may not fit this torch: only ``load``, by soundfile, which is what it used for WAV.
``phonemizer``, which wants espeak-ng on the system: text is no part of what is measured.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types

import soundfile
import torch

__all__: list[str] = []  # importing this module is all


def _module(top: str, **members: object) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == top]:
        del sys.modules[name]
    module = types.ModuleType(top)
    module.__spec__ = importlib.machinery.ModuleSpec(top, None)
    for name, value in members.items():
        setattr(module, name, value)
    sys.modules[top] = module


def _load(path: str) -> tuple[torch.Tensor, int]:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return torch.from_numpy(samples.T.copy()), rate


try:
    import torchaudio  # noqa: F401
except (ImportError, OSError):
    _module("torchaudio", __version__="0", load=_load)
_module("phonemizer", backend=types.SimpleNamespace(EspeakBackend=lambda **_: None))
