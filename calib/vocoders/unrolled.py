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

Measured, copy synthesis, mean absolute error of the ln mel of the sound (``hifigan``, one core): ten clips of the demo corpus
(sentences that it was not trained on, of voices that it was), and four of LJSpeech, which is real speech.

====================  ==========  =============  =============  ==================
..                    iterations  demo corpus    LJSpeech       s of CPU for 1 s
====================  ==========  =============  =============  ==================
Griffin-Lim           60          0.054          0.038          0.05 to 0.06
Griffin-Lim           85          0.048          0.031          0.07 to 0.08
unrolled              60          0.043          0.032          0.07 to 0.08
====================  ==========  =============  =============  ==================

So it wins iteration for iteration (by 20 and 15 %), and for the same time on speech of the kind it was trained on (by 10 %), but
not for the same time on real speech. It was trained in that front end alone, and helps in others, iteration for iteration (two
LJSpeech clips, Griffin-Lim and unrolled): centred frames and 11 kHz 0.037 and 0.028, FFT 2048 0.045 and 0.033, FFT 512 with
hop 128 0.056 and 0.053, 100 bins 0.040 and 0.034, power 0.068 and 0.063.

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
        self._mixing = [_matrix(kernel, self.front_end.n_mels) for kernel in self.kernels]

    def _momentum(self, step: int) -> float:
        return float(self.momentum_by_stage[stage_of(step, self.iterations)])

    def _refined(self, step: int, magnitudes: np.ndarray, projected: np.ndarray, bands: np.ndarray, eps: float) -> np.ndarray:  # noqa: ARG002  # fmt: skip
        present = self._spectra(np.abs(projected), eps)
        least = np.float32(LEAST_BAND)
        ratio = np.log(np.maximum(bands, least) / np.maximum(present @ self._bank.T, least))
        np.clip(ratio, -_CLIP, _CLIP, out=ratio)
        beside = FRAMES_SEEN // 2
        padded = np.pad(ratio, ((beside, beside), (0, 0)))
        rows = np.concatenate([padded[i : i + len(ratio)] for i in range(FRAMES_SEEN)], axis=1)
        mixed = rows @ self._mixing[stage_of(step, self.iterations)]
        raised = (np.exp(mixed) @ self._bank) * self._weights
        return self._magnitudes(np.minimum(present * raised, np.float32(LOUDEST)), eps)


def _matrix(kernel: np.ndarray, n_mels: int) -> np.ndarray:
    """A kernel ``(frames, bands)`` as a matrix ``(frames * M, M)``: one product is faster than a convolution."""
    height, width = kernel.shape
    out = np.zeros((height, n_mels, n_mels), dtype=np.float32)
    for j in range(width):
        shift = j - width // 2  # output band m sees band m + shift
        for m in range(max(0, -shift), min(n_mels, n_mels - shift)):
            out[:, m + shift, m] = kernel[:, j]
    return out.reshape(height * n_mels, n_mels)


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
