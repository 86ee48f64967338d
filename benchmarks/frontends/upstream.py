"""Reading the systems' code: which commits, taking functions out of files, and the shims that old code needs."""

from __future__ import annotations

import ast
import builtins
import json
import logging
import math
import os
import random
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

COMMITS = {
    "FunAudioLLM/CosyVoice": "ace7c47",
    "NVIDIA/BigVGAN": "7d2b454",
    "NVIDIA/DeepLearningExamples": "729963d",
    "NVIDIA/NeMo": "8cfedd7",
    "NVIDIA/tacotron2": "185cd24",
    "NVIDIA/waveglow": "8afb643",
    "RVC-Boss/GPT-SoVITS": "48b1a01",
    "RVC-Project/Retrieval-based-Voice-Conversion-WebUI": "4338f12",
    "SWivid/F5-TTS": "2ae2c9b",
    "coqui-ai/TTS": "dbf1a08",
    "descriptinc/melgan-neurips": "6488045",
    "espnet/espnet": "0bc48ac",
    "fishaudio/fish-diffusion": "8e8f8cd",
    "fishaudio/fish-speech": "3dd1f85",
    "fishaudio/vocoder": "4488f62",
    "gemelo-ai/vocos": "c859e3b",
    "huawei-noah/Speech-Backbones": "7782c7a",
    "jaywalnut310/glow-tts": "13e9976",
    "jaywalnut310/vits": "2e561ba",
    "jik876/hifi-gan": "4769534",
    "kan-bayashi/ParallelWaveGAN": "8674037",
    "keonlee9420/Comprehensive-Transformer-TTS": "dca252c",
    "masoodafar-web/MyXTTSModel": "7e78353",
    "ming024/FastSpeech2": "d4e79eb",
    "neonbjb/tortoise-tts": "8a2563e",
    "openai/whisper": "c0d2f62",
    "shivammehta25/Matcha-TTS": "108906c",
    "speechbrain/speechbrain": "9c826ef",
    "svc-develop-team/so-vits-svc": "730930d",
    "yl4579/StyleTTS2": "5cedc71",
}

PRECISION = sys.argv[4] if len(sys.argv) > 4 else "float64"
Front = Callable[[np.ndarray], np.ndarray]  # audio (L,) to mel (T, M)


class NotObtainableError(Exception):
    """The code or a library that it needs is not here."""


# --- reading code and configurations --------------------------------------------------------------------------------


class Sources:
    """Files of the checkouts below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def bytes(self, repo: str, path: str) -> bytes:
        """A file's bytes.

        Raises:
            NotObtainableError: there is no such checkout or file.
        """
        folder = self.root / repo.replace("/", "+")
        if (folder / path).is_file():
            return (folder / path).read_bytes()
        for git in (folder, folder / "repo"):
            if git.is_dir():
                command = ["git", "-C", str(git), "show", f"{COMMITS[repo]}:{path}"]
                out = subprocess.run(command, capture_output=True, check=False)
                if out.returncode == 0:
                    return out.stdout
        raise NotObtainableError(f"no {repo}@{COMMITS[repo]} {path} under the references")

    def text(self, repo: str, path: str) -> str:
        """A file's text."""
        return self.bytes(repo, path).decode("utf-8")

    def json(self, repo: str, path: str) -> Any:
        """A JSON file."""
        return json.loads(self.text(repo, path))

    def yaml(self, repo: str, path: str) -> dict[str, Any]:
        """The plain ``key: value`` lines of a YAML file, at any depth, the first of each key; tags are ignored."""
        out: dict[str, Any] = {}
        for line in self.text(repo, path).splitlines():
            match = re.match(r"^[\s-]*([A-Za-z_]\w*)\s*:\s*([^#]+?)\s*(#.*)?$", line)
            if match and match[1] not in out and match[2][0] not in "!$[{&*>|":
                out[match[1]] = scalar(match[2])
        return out

    def take(self, repo: str, path: str, *names: str, **around: Any) -> dict[str, Any]:
        """The named functions, classes and module variables of a file, run with the usual libraries around them."""
        scope = {**libraries(), **around}
        wanted = set(names)
        body = []
        for node in ast.parse(self.text(repo, path)).body:
            targets = [
                t.id for target in getattr(node, "targets", ()) for t in ast.walk(target) if isinstance(t, ast.Name)
            ]
            if getattr(node, "name", None) in wanted or wanted & set(targets):
                body.append(node)
        exec(compile(ast.Module(body, []), f"{repo}:{path}", "exec"), scope)  # noqa: S102
        missing = wanted - set(scope)
        if missing:
            raise NotObtainableError(f"{repo} {path} has no {', '.join(sorted(missing))}")
        return scope


def scalar(text: str) -> Any:
    """A number, a truth value, nothing, or the text."""
    if text in {"null", "None", "~"}:
        return None
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip("'\"")


@lru_cache(maxsize=1)
def shimmed() -> dict[str, Any]:
    """The libraries by the names that the systems give them, with the shims in place."""
    warnings.simplefilter("ignore")
    import librosa
    import scipy
    import torch
    from scipy.signal import get_window

    torch.set_grad_enabled(False)
    real_stft = torch.stft

    def stft(*args: Any, return_complex: bool | None = None, **kwargs: Any) -> Any:
        out = real_stft(*args, return_complex=True, **kwargs)
        return out if return_complex else torch.view_as_real(out)

    torch.stft = stft
    torch.Tensor.cuda = lambda self, *_, **__: self  # FastSpeech 2 asks for it
    real_mel, real_pad = librosa.filters.mel, librosa.util.pad_center

    def mel(
        sr: int | None = None,
        n_fft: int | None = None,
        n_mels: int = 128,
        fmin: float = 0.0,
        fmax: float | None = None,
        **more: Any,
    ) -> Any:
        return real_mel(sr=sr, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, **more)

    def pad_center(data: Any, size: int, **more: Any) -> Any:
        return real_pad(data, size=size, **more)

    librosa.filters.mel, librosa.util.pad_center = mel, pad_center
    np.linalg.pinv = lambda matrix: np.zeros(matrix.shape[::-1])  # of inverse transforms, which no mel needs
    scope: dict[str, Any] = {
        "torch": torch, "nn": torch.nn, "F": torch.nn.functional, "Tensor": torch.Tensor, "Variable": torch.autograd.Variable, "np": np, "math": math, "os": os,
        "random": random, "librosa": librosa, "librosa_mel_fn": mel, "mel": mel, "librosa_util": librosa.util, "pad_center": pad_center, "tiny": librosa.util.tiny,
        "get_window": get_window, "window_sumsquare": None, "scipy": scipy, "logging": logging, "logger": logging.getLogger("original"), "print": lambda *_, **__: None,
        "lru_cache": lru_cache, "Optional": Any, "Union": Any, "Tuple": Any, "Dict": Any, "__builtins__": builtins, "__name__": "original",
    }  # fmt: skip
    for name in ("Optional", "Union", "Tuple", "Dict", "List", "Iterable"):
        import typing

        scope[name] = getattr(typing, name)
    try:
        import torchaudio
        import torchaudio.functional
        import torchaudio.transforms

        scope |= {
            "torchaudio": torchaudio,
            "transforms": torchaudio.transforms,
            "MelScale": torchaudio.transforms.MelScale,
        }
    except ImportError:
        pass
    return scope


def libraries() -> dict[str, Any]:
    """A fresh scope with the libraries, and empty caches."""
    return {**shimmed(), "mel_basis": {}, "hann_window": {}, "mel_basis_cache": {}, "hann_window_cache": {}}


def double_precision() -> None:
    """Everything that asks for single precision gets double."""
    scope = shimmed()
    torch, librosa = scope["torch"], scope["librosa"]
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    torch.float = torch.float64
    torch.FloatTensor = lambda values: torch.as_tensor(np.asarray(values), dtype=torch.float64)
    assert librosa


def tensor(x: np.ndarray) -> Any:
    """``(L,)`` to ``(1, L)`` in the precision that is set."""
    torch = shimmed()["torch"]
    return torch.as_tensor(np.asarray(x), dtype=torch.get_default_dtype())[None]


def mt(out: Any) -> np.ndarray:
    """``(1, M, T)`` or ``(M, T)`` to ``(T, M)`` numpy."""
    values = np.asarray(out.detach().numpy() if hasattr(out, "detach") else out)
    return values.reshape(values.shape[-2:]).T
