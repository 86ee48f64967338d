"""Vocoders whose faults are known: Griffin-Lim that wants other mels than it says, and others that are broken on purpose.

No trained neural vocoder is at hand, so these stand in for them. Each is a factory of a plug-in, so that the command
loads them as it loads any: ``benchmarks/legs/wrappers.py:log10``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from calib.mel.frontend import FrontEnd
from calib.vocoders.griffin_lim import GriffinLim

__all__ = ["EXPECTED"]

_ITERATIONS = 30
Post = Callable[[np.ndarray, int], tuple[np.ndarray, int]]


class Wrapper:
    """Says that it wants hifigan's mels, and does as it likes.

    Args:
        inner: makes audio of a mel ``(T, M)``.
        declared: what it says that it wants.
    """

    def __init__(
        self, inner: Callable[[np.ndarray], tuple[np.ndarray, int]], declared: str | Mapping[str, Any] = "hifigan"
    ) -> None:
        self.inner, self.frontend = inner, declared

    def vocode(self, mel: np.ndarray) -> tuple[np.ndarray, int]:
        """Audio and its rate in Hz."""
        return self.inner(mel)


def _gl(frontend: FrontEnd) -> Callable[[np.ndarray], tuple[np.ndarray, int]]:
    return GriffinLim(frontend, iterations=_ITERATIONS).vocode


def _hifigan(**fields: Any) -> FrontEnd:
    return dataclasses.replace(FrontEnd.load("hifigan"), **fields)


def _wants(frontend: FrontEnd) -> Callable[..., Wrapper]:
    return lambda checkpoint, device, **options: Wrapper(_gl(frontend))  # noqa: ARG005 - the plug-in signature


def _then(post: Post, frontend: FrontEnd | None = None) -> Callable[..., Wrapper]:
    def inner(mel: np.ndarray) -> tuple[np.ndarray, int]:
        return post(*_gl(frontend or _hifigan())(mel))

    return lambda checkpoint, device, **options: Wrapper(inner)  # noqa: ARG005 - the plug-in signature


def _just(made: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Wrapper]:
    return lambda checkpoint, device, **options: Wrapper(lambda mel: (made(mel), 22050))  # noqa: ARG005 - the plug-in signature


def _random_network(mel: np.ndarray, seed: int = 0) -> np.ndarray:
    """Two random layers, upsampled to the hop with a random kernel for each channel: what an unrestored generator does."""
    rng = np.random.default_rng(seed)
    hidden = np.tanh(mel @ rng.normal(0, 0.11, (mel.shape[1], 64)).astype(np.float32))
    kernels = rng.normal(0, 0.3, (64, 512)).astype(np.float32)
    out = np.zeros(len(mel) * 256 + 512, dtype=np.float32)
    for t, row in enumerate(hidden):
        out[t * 256 : t * 256 + 512] += row @ kernels
    return np.tanh(out[128 : 128 + len(mel) * 256])


def _noise(seed: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda mel: (0.1 * np.random.default_rng(seed).standard_normal(len(mel) * 256)).astype(np.float32)


def _buzz(mel: np.ndarray) -> np.ndarray:
    return (0.2 * np.sign(np.sin(2 * np.pi * 120 * np.arange(len(mel) * 256) / 22050))).astype(np.float32)


def _hiss(y: np.ndarray, rate: int) -> tuple[np.ndarray, int]:
    """As much noise as speech."""
    noise = np.random.default_rng(0).standard_normal(len(y)) * float(y.std())
    return (y + noise).astype(np.float32), rate


# name -> (factory, states that are right, domains of which one must be named)
_CASES: dict[str, tuple[Callable[..., Wrapper], tuple[str, ...], tuple[str, ...]]] = {
    "healthy": (_wants(_hifigan()), ("healthy",), ()),
    "healthy, half a hop off": (_wants(_hifigan(padding="center")), ("healthy",), ()),
    "healthy, 12 dB louder": (_then(lambda y, hz: (y * np.float32(3.98), hz)), ("healthy",), ()),
    "wants log10": (_wants(_hifigan(log="log10")), ("wrong-domain",), ("log10",)),
    "wants 20 log10": (_wants(_hifigan(log="log10", log_multiplier=20.0)), ("wrong-domain",), ("20log10",)),
    "wants [-4, 4]": (_wants(_hifigan(log="log10", log_multiplier=20.0, post_scale=0.08, post_offset=2.4)), ("wrong-domain",), ("[-4,4]",)),
    "wants ln power": (_wants(_hifigan(power=2, spectrum_eps=0.0, log_eps=1e-10)), ("wrong-domain",), ("power", "2ln")),
    "wants Matcha LJ": (_wants(FrontEnd.load("matcha_ljspeech")), ("wrong-domain",), ("matcha_ljspeech", "normalised", "matcha_hifi_en_female", "matcha_vctk")),
    "wants no area norm": (_wants(_hifigan(filter_norm=None)), ("wrong-domain",), ("area-norm:none",)),
    "wants HTK scale": (_wants(_hifigan(mel_scale="htk")), ("wrong-domain",), ("mel-scale:htk",)),
    "wants fmax 11025": (_wants(_hifigan(fmax=11025.0)), ("wrong-domain",), ("fmax:11025", "vits_jaywalnut", "bigvgan_v2_22k_80_nyq", "coqui_vits", "fish_speech_vqgan_old", "coqui_torchstft_voc", "myxtts_utils_audio", "nemo_vits", "fmax:12000", "fmax:10000")),
    "wants ParallelWaveGAN": (_wants(FrontEnd.load("pwg_ljspeech")), ("wrong-domain",), ("pwg_ljspeech", "espnet2_tts_22k", "hf_fastspeech2_conformer", "log10")),
    "wants bins upside down": (lambda checkpoint, device, **options: Wrapper(lambda mel: _gl(_hifigan())(mel[:, ::-1])), ("wrong-domain",), ("upside down",)),  # noqa: ARG005 - the plug-in signature
    "random network": (_just(_random_network), ("untrained",), ()),
    "random network, another seed": (_just(lambda mel: _random_network(mel, 7)), ("untrained",), ()),
    "white noise": (_just(_noise(0)), ("deaf", "untrained"), ()),
    "a buzz, always": (_just(_buzz), ("deaf", "untrained"), ()),
    "silence": (_just(lambda mel: np.zeros(len(mel) * 256, np.float32)), ("silent",), ()),
    "NaN": (_just(lambda mel: np.full(len(mel) * 256, np.nan, np.float32)), ("broken",), ()),
    "says 24 kHz": (_then(lambda y, _: (y, 24000)), ("wrong-rate",), ()),
    "says 16 kHz": (_then(lambda y, _: (y, 16000)), ("wrong-rate",), ()),
    "hop 300": (_wants(_hifigan(hop_length=300)), ("wrong-rate",), ()),
    "made for 24 kHz": (_wants(_hifigan(sample_rate=24000, fb_sample_rate=24000, fmax=12000.0)), ("wrong-rate", "wrong-domain"), ()),
    "as much hiss as speech": (_then(_hiss), ("degraded", "untrained"), ()),
}  # fmt: skip

EXPECTED = {name: (states, names) for name, (_, states, names) in _CASES.items()}


def factory(checkpoint: str | None, device: str, *, case: str) -> Wrapper:
    """The plug-in's factory: ``--vocoder benchmarks/legs/wrappers.py:factory --vocoder-option case=...``."""
    return _CASES[case][0](checkpoint, device)
