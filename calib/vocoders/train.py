"""Training of the unrolled Griffin-Lim (`calib.vocoders.unrolled`) on espeak-ng speech, in minutes on one core.

``python -m calib.vocoders.train --out FILE.safetensors [--minutes 8] [--seed 0] [--force]``

Data flow: training sentences of the reference model's voices -> clips of one second -> ln mels (front end ``hifigan``) ->
all iterations, in torch -> mel of the sound -> mean absolute error -> Adam on momenta and kernels. What is written is the
mean of the second half of the steps. The demo corpus is in neither the training nor the choice.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import conv2d, fold, pad

from calib.data.files import atomic_writer, ensure_writable
from calib.errors import CalibError
from calib.mel.frontend import FrontEnd
from calib.vocoders.griffin_lim import GriffinLim
from calib.vocoders.unrolled import BANDS_SEEN, FRAMES_SEEN, LEAST_BAND, LOUDEST, STAGES, stage_of

__all__ = ["UnrolledNetwork", "clips", "main", "train"]

ITERATIONS = 60
_SECONDS = 1.0
_RATE = 1e-2
_STEEPEST = 0.05
_CLIP = 3.0
_LEAST = 1e-12


class UnrolledNetwork(nn.Module):
    """The same as `Unrolled`, differentiable, for the front end ``hifigan``.

    Args:
        iterations: of the search.
        frontend: whose padding is ``same``, logarithm ln and power 1.
    """

    def __init__(self, iterations: int = ITERATIONS, frontend: str = "hifigan") -> None:
        super().__init__()
        self.reference = GriffinLim(frontend, iterations=iterations)
        self.iterations = iterations
        fe = self.reference.front_end
        self.bank = torch.from_numpy(fe.basis().copy())
        self.unit_bank = torch.from_numpy(self.reference._bank)  # noqa: SLF001 - its twin
        self.weights = torch.from_numpy(self.reference._weights)  # noqa: SLF001
        self.window = torch.from_numpy(fe.window_array().astype(np.float32))
        # At the start: the algorithm as it was, one step of the plain update in its second half.
        late = torch.tensor([2 * stage >= STAGES for stage in range(STAGES)])
        kernels = torch.zeros(STAGES, FRAMES_SEEN, BANDS_SEEN)
        kernels[late, FRAMES_SEEN // 2, BANDS_SEEN // 2] = 1.0
        self.momentum = nn.Parameter(torch.full((STAGES,), 0.99))
        self.kernels = nn.Parameter(kernels)

    def _add(self, frames: torch.Tensor) -> torch.Tensor:
        fe = self.reference.front_end
        length = (frames.shape[1] - 1) * fe.hop_length + fe.n_fft
        return fold(frames.transpose(1, 2), (1, length), (1, fe.n_fft), stride=(1, fe.hop_length))[:, 0, 0]

    def forward(self, mel: torch.Tensor, phases: torch.Tensor) -> list[torch.Tensor]:
        """``(B, T, M)`` ln mels and first phases ``(B, T, K)`` to samples ``(B, T * hop)`` after each stage.

        Gradients do not pass from a stage to the one before it: what the first iterations do to the phases is chaotic.
        """
        fe = self.reference.front_end
        edge, window = fe.pad_each_side, self.window
        bands, magnitudes, scale = self._start(mel)
        frames = torch.broadcast_to(window * window, (1, mel.shape[1], fe.n_fft))
        overlap = self._add(frames)
        envelope = 1 / overlap.clamp(min=1e-3 * float(overlap.max()))
        estimate, previous = torch.polar(magnitudes, phases), None
        sounds: list[torch.Tensor] = []
        for step in range(self.iterations):
            stage = stage_of(step, self.iterations)
            if step and stage != stage_of(step - 1, self.iterations):
                sounds.append(
                    (self._add(torch.fft.irfft(estimate, fe.n_fft) * window) * envelope)[:, edge:-edge] * scale
                )
                estimate, magnitudes = estimate.detach(), magnitudes.detach()
                previous = None if previous is None else previous.detach()
            inner = (self._add(torch.fft.irfft(estimate, fe.n_fft) * window) * envelope)[:, edge:-edge]
            signal = pad(inner[:, None], (edge, edge), mode="reflect")[:, 0]
            projected = torch.fft.rfft(signal.unfold(1, fe.n_fft, fe.hop_length) * window)
            present = projected.abs().clamp(min=_LEAST)
            ratio = (bands.clamp(min=LEAST_BAND) / (present @ self.unit_bank.T).clamp(min=LEAST_BAND)).log()
            ratio = ratio.clamp(-_CLIP, _CLIP)
            kernel = self.kernels[stage][None, None]
            gain = conv2d(ratio[:, None], kernel, padding=(FRAMES_SEEN // 2, BANDS_SEEN // 2))[:, 0]
            raised = (present * ((gain.exp() @ self.unit_bank) * self.weights)).clamp(max=LOUDEST)
            # Where the stage has learned nothing yet, the magnitudes stay what they were.
            magnitudes = raised if bool(self.kernels[stage].detach().any()) else magnitudes
            target = projected if previous is None else projected + self.momentum[stage] * (projected - previous)
            previous = projected
            estimate = target * (magnitudes / target.abs().clamp(min=_LEAST))
        sounds.append((self._add(torch.fft.irfft(estimate, fe.n_fft) * window) * envelope)[:, edge:-edge] * scale)
        return sounds

    def _start(self, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Bands, magnitudes, both relative to the loudest, and that scale ``(B, 1)``; by the vocoder itself."""
        found = [self.reference._bands(one.numpy()) for one in mel]  # noqa: SLF001
        magnitudes = [self.reference._invert(bands) for bands, _ in found]  # noqa: SLF001
        scale = torch.tensor([[scale] for _, scale in found], dtype=torch.float32)
        return torch.from_numpy(np.stack([b for b, _ in found])), torch.from_numpy(np.stack(magnitudes)), scale

    def mel(self, samples: torch.Tensor) -> torch.Tensor:
        """``(B, L)`` to ln mels ``(B, T, M)``."""
        fe = self.reference.front_end
        signal = pad(samples[:, None], (fe.pad_each_side,) * 2, mode="reflect")[:, 0]
        spectra = torch.fft.rfft(signal.unfold(1, fe.n_fft, fe.hop_length) * self.window)
        power = spectra.real.square() + spectra.imag.square() + fe.spectrum_eps
        return torch.as_tensor((power.sqrt() @ self.bank.T).clamp(min=fe.log_eps).log())


def clips(minutes: float, seed: int) -> list[np.ndarray]:
    """Clips of a second of the reference model's training speech, none of them silent.

    Raises:
        UsageError: espeak-ng is not installed.
    """
    from calib.models.reference.train import training_speech

    length = int(_SECONDS * FrontEnd.load("hifigan").sample_rate) // 256 * 256
    out = []
    for _, _, speech in training_speech(minutes, seed):
        samples = np.asarray(speech.samples, dtype=np.float32)
        parts = [samples[at : at + length] for at in range(0, len(samples) - length + 1, length)]
        out += [part for part in parts if np.abs(part).max() > 0.05]
    return out


def train(material: list[np.ndarray], minutes: float, seed: int = 0, *, batch: int = 2, iterations: int = ITERATIONS) -> UnrolledNetwork:  # fmt: skip
    """Train for ``minutes``; the network with the mean of the parameters of the second half of the steps."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = UnrolledNetwork(iterations)
    with torch.no_grad():  # so that every stage can learn
        network.kernels[: STAGES // 2, FRAMES_SEEN // 2, BANDS_SEEN // 2] = 0.5
    optimiser = torch.optim.Adam(
        [{"params": [network.kernels], "lr": _RATE}, {"params": [network.momentum], "lr": _RATE / 4}]
    )
    rates = [group["lr"] for group in optimiser.param_groups]
    frontend = network.reference.front_end
    mels = [frontend.mel(clip) for clip in material]
    started, history, losses = time.monotonic(), [], []
    while time.monotonic() - started < 60 * minutes:
        chosen = rng.integers(len(mels), size=batch)
        mel = torch.from_numpy(np.stack([mels[index] for index in chosen]))
        phases = torch.from_numpy(rng.random((*mel.shape[:2], frontend.n_fft // 2 + 1), dtype=np.float32)) * 2 * torch.pi  # fmt: skip
        errors = [(network.mel(sound) - mel).abs().mean() for sound in network(mel, phases)]
        loss = errors[-1]
        optimiser.zero_grad()
        torch.stack(errors).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_value_(network.parameters(), _STEEPEST)
        left = 1 - (time.monotonic() - started) / (60 * minutes)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * max(0.1, left)
        if all(bool(torch.isfinite(parameter.grad).all()) for parameter in network.parameters() if parameter.grad is not None):  # fmt: skip
            optimiser.step()
        with torch.no_grad():
            network.momentum.clamp_(0.0, 1.1)  # beyond, the phases run away
        losses.append(float(loss.detach()))
        history.append([parameter.detach().clone() for parameter in network.parameters()])
        if len(losses) % 10 == 0:
            print(f"step {len(losses)}: mel error {np.mean(losses[-10:]):.4f} ln units, {60 * minutes * left:.0f} s left", file=sys.stderr, flush=True)  # noqa: T201  # fmt: skip
    half = history[len(history) // 2 :]
    with torch.no_grad():
        for place, parameter in enumerate(network.parameters()):
            parameter.copy_(torch.stack([step[place] for step in half]).mean(0))
    return network


def main(arguments: list[str] | None = None) -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(prog="python -m calib.vocoders.train", description=__doc__.splitlines()[0] if __doc__ else None)  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="file to write, .safetensors")
    parser.add_argument("--minutes", type=float, default=8.0, help="of training (default: 8)")
    parser.add_argument("--minutes-of-speech", type=float, default=3.0, help="to train on (default: 3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="overwrite")
    given = parser.parse_args(arguments)
    try:
        ensure_writable(given.out, force=given.force)
        network = train(clips(given.minutes_of_speech, given.seed), given.minutes, given.seed)
        import safetensors.torch

        tensors = {name: parameter.detach().contiguous() for name, parameter in network.named_parameters()}
        with atomic_writer(given.out, force=given.force) as file:
            file.write(safetensors.torch.save(tensors))
    except CalibError as error:
        sys.exit(f"error: {error.message}{f' ({error.hint})' if error.hint else ''}")
    print(f"written: {given.out}")  # noqa: T201


if __name__ == "__main__":
    main()
