"""Small checkpoints of published vocoders with weights that depend on their names alone."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# What the official code computes and stores as buffers; taken as it is.
KEPT = ("filter", "window")

HIFIGAN = {
    "num_mels": 80, "n_fft": 1024, "hop_size": 16, "win_size": 1024, "sampling_rate": 22050, "fmin": 0, "fmax": 8000,
    "resblock": "1", "upsample_rates": [4, 4], "upsample_kernel_sizes": [8, 8], "upsample_initial_channel": 16,
    "resblock_kernel_sizes": [3, 5], "resblock_dilation_sizes": [[1, 3, 5], [1, 2, 3]],
}  # fmt: skip
BIGVGAN = {
    **HIFIGAN, "num_mels": 20, "activation": "snakebeta", "snake_logscale": True, "upsample_initial_channel": 8, "fmax": None,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "hifigan_1": HIFIGAN,
    "hifigan_2": {**HIFIGAN, "resblock": "2", "upsample_rates": [4, 2, 2], "upsample_kernel_sizes": [8, 5, 4], "resblock_dilation_sizes": [[1, 3], [2, 6]]},
    "bigvgan_1": {**BIGVGAN, "activation": "snake", "snake_logscale": False},
    "bigvgan_2": {**BIGVGAN, "use_tanh_at_final": False, "use_bias_at_final": False},
    "bigvgan_3": {**BIGVGAN, "resblock": "2", "resblock_dilation_sizes": [[1, 3], [2, 6]]},
}  # fmt: skip


def vocos(padding: str) -> dict[str, Any]:
    """A small ``config.yaml`` of Vocos, as a mapping."""
    return {
        "feature_extractor": {"class_path": "vocos.feature_extractors.MelSpectrogramFeatures", "init_args": {"sample_rate": 24000, "n_fft": 64, "hop_length": 16, "n_mels": 10, "padding": padding}},
        "backbone": {"class_path": "vocos.models.VocosBackbone", "init_args": {"input_channels": 10, "dim": 12, "intermediate_dim": 24, "num_layers": 2}},
        "head": {"class_path": "vocos.heads.ISTFTHead", "init_args": {"dim": 12, "n_fft": 64, "hop_length": 16, "padding": padding}},
    }  # fmt: skip


def filled(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Weights of sizes at which every part of a network is heard, from a generator that the name seeds."""
    out = {}
    for name, shape in shapes.items():
        values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape))
        last = name.rpartition(".")[2]
        if last in {"weight_g", "original0"}:
            values = (0.05 if "conv_post" in name else 0.7) * (1.0 + 0.2 * np.abs(values))
        elif last in {"alpha", "beta"}:
            values = 1.0 + 0.2 * values
        elif last == "bias":
            values = 0.1 * values
        elif last == "gamma" or (last == "weight" and len(shape) == 1):
            values = 1.0 + 0.3 * values
        elif last == "weight":
            values = values / math.sqrt(max(1, math.prod(shape[1:])))
        out[name] = values.astype(np.float32)
    return out


def mel(n_mels: int, frames: int = 12) -> np.ndarray:
    """``(T, M)``, of the size of ln magnitudes."""
    return (np.random.default_rng(7).standard_normal((frames, n_mels)) * 1.5 - 4.0).astype(np.float32)
