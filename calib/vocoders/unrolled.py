"""Griffin-Lim whose steps were learned: the algorithm of `calib.vocoders.griffin_lim`, a hundred trained numbers in it.

Each iteration asks where the mel of the present signal is too low or too high, in ln units by band, and multiplies the
magnitudes accordingly. How strongly, what the neighbouring frames and bands have to say in it (an error in one frame leaks
into the frames that overlap it), and the momentum of the phases are learned, for each of a few stages of the search::

    r = clip(ln(bands / present), -3, 3)                       (T, M)
    r' = r convolved with the stage's kernel (time x bands)    (T, M)
    magnitudes = present * the filters' mean of exp(r')        (T, K)
    phases: fast Griffin-Lim with the stage's momentum

It is unrolled: the iterations of a stage are one network, trained by backpropagation through all of them on the mean absolute
error of the ln mel of the sound after it (`calib.vocoders.train`). It starts near the algorithm as it was, and has no voice of
its own: it is not a neural vocoder and sounds like Griffin-Lim, only nearer to the mel.

Measured, copy synthesis, mean absolute error of the ln mel of the sound (``hifigan``, one core): clips of the demo corpus
(sentences that it was not trained on, of voices that it was), and of LJSpeech, which is real speech; more in docs/vocoders.md.

====================  ==========  =============  =============  ==================
..                    iterations  demo corpus    LJSpeech       s of CPU for 1 s
====================  ==========  =============  =============  ==================
Griffin-Lim           60          0.056          0.0371         0.04
Griffin-Lim           83          0.049          0.0305         0.055
unrolled              60          0.042          0.0293         0.055
====================  ==========  =============  =============  ==================

Reference: Y. Masuyama et al., "Deep Griffin-Lim iteration", ICASSP 2019, for the idea of training the iteration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from calib.data.checkpoints import read_checkpoint
from calib.errors import DataError
from calib.vocoders.griffin_lim import GriffinLim
from calib.vocoders.neural import check_options

__all__ = [
    "BANDS_SEEN",
    "BUILT_IN",
    "FRAMES_SEEN",
    "LEAST_BAND",
    "LOUDEST",
    "STAGES",
    "Unrolled",
    "factory",
    "stage_of",
]

STAGES = 6
FRAMES_SEEN, BANDS_SEEN = 5, 3
BUILT_IN = Path(__file__).resolve().parent / "unrolled.safetensors"
# Relative to the loudest cell of the utterance: what is quieter is silence. The guard of most front ends is near it.
LEAST_BAND = 1e-7
_CLIP = 3.0
# No magnitude can be larger where the loudest band is 1 and a filter has some hundred bins.
LOUDEST = 1e4


def stage_of(step: int, iterations: int) -> int:
    """The stage that an iteration belongs to."""
    return min(STAGES - 1, step * STAGES // iterations)


class Unrolled(GriffinLim):
    """Griffin-Lim with trained steps.

    Args:
        momentum_by_stage: ``(S,)``.
        kernels: ``(S, frames, bands)``.
        frontend: as for `GriffinLim`.
        kwargs: ``iterations``, ``seed``.
    """

    def __init__(self, momentum_by_stage: np.ndarray, kernels: np.ndarray, frontend: Any, **kwargs: Any) -> None:
        super().__init__(frontend, **kwargs)
        self.momentum_by_stage = np.asarray(momentum_by_stage, dtype=np.float32)
        self.kernels = np.asarray(kernels, dtype=np.float32)

    def _momentum(self, step: int) -> float:
        return float(self.momentum_by_stage[stage_of(step, self.iterations)])

    def _refined(self, step: int, magnitudes: np.ndarray, projected: np.ndarray, bands: np.ndarray, eps: float) -> np.ndarray:  # noqa: ARG002  # fmt: skip
        present = self._spectra(np.abs(projected), eps)
        least = np.float32(LEAST_BAND)
        ratio = np.log(np.maximum(bands, least) / np.maximum(self._filters.bands(present), least))
        np.clip(ratio, -_CLIP, _CLIP, out=ratio)
        mixed = _mixed(ratio, self.kernels[stage_of(step, self.iterations)])
        raised = self._filters.spectra(np.exp(mixed, out=mixed))
        raised *= self._weights
        raised *= present
        return self._magnitudes(np.minimum(raised, np.float32(LOUDEST), out=raised), eps)


def _mixed(ratio: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """``(T, M)`` with zeros around it, correlated with a kernel ``(frames, bands)``: ``(T, M)``."""
    height, width = kernel.shape
    bands = ratio.shape[1]
    padded = np.pad(ratio, ((height // 2, height // 2), (width // 2, width // 2)))
    out = np.zeros_like(ratio)
    for j in range(width):
        out += np.lib.stride_tricks.sliding_window_view(padded[:, j : j + bands], height, axis=0) @ kernel[:, j]
    return out


def factory(checkpoint: str | None, device: str, **options: Any) -> Unrolled:  # noqa: ARG001 - the plug-in signature
    """Entry point ``unrolled`` of the group ``calib.vocoders``. Runs on the CPU, whatever the device.

    Args:
        checkpoint: what `calib.vocoders.train` wrote; None: what comes with calib.
        device: ignored.
        options: ``frontend`` (default ``hifigan_jik``, which it was trained on), ``iterations``, ``seed``.

    Raises:
        UsageError: an unknown option, or a value out of range.
        DataError: a file that holds something else.
    """
    check_options("unrolled", options, ("frontend", "iterations", "seed"))
    path = BUILT_IN if checkpoint is None else Path(checkpoint)
    tensors = read_checkpoint(path).tensors
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wanted = {"momentum": (STAGES,), "kernels": (STAGES, FRAMES_SEEN, BANDS_SEEN)}
    if shapes != wanted:
        raise DataError(f"{path}: holds {shapes}, an unrolled Griffin-Lim has {wanted}")
    frontend = options.pop("frontend", "hifigan_jik")
    return Unrolled(tensors["momentum"].numpy(), tensors["kernels"].numpy(), frontend, **options)
