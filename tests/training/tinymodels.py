"""Tiny models and data whose fate is known: one fed with zeros collapses, one that sees its text learns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

FRAMES, BINS, SYMBOLS = 60, 20, 8


def corpus(count: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs ``(T, SYMBOLS)`` and mels ``(T, BINS)``: each symbol has its own spectrum, over a falling mean."""
    spectra = np.random.default_rng(0).normal(0, 1.5, (SYMBOLS, BINS)) + np.linspace(-3, -7, BINS)
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        symbols = np.repeat(rng.integers(0, SYMBOLS, FRAMES // 5), 5)
        mel = spectra[symbols] + 0.3 * rng.standard_normal((FRAMES, BINS))
        out.append((torch.eye(SYMBOLS)[symbols], torch.tensor(mel, dtype=torch.float32)))
    return out


def model() -> torch.nn.Module:
    """A frame-wise network."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(SYMBOLS, 32), torch.nn.Tanh(), torch.nn.Linear(32, BINS))


def train_epoch(network: torch.nn.Module, data: list[tuple[torch.Tensor, torch.Tensor]], *, zeros: bool) -> None:
    """One pass; ``zeros``: the input is all zeros, as from a loader that swallowed its error."""
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for x, y in data:
        optimizer.zero_grad()
        torch.nn.functional.smooth_l1_loss(network(x * (not zeros)), y).backward()
        optimizer.step()


def batches(network: torch.nn.Module, data: list[tuple[torch.Tensor, torch.Tensor]], *, zeros: bool) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:  # fmt: skip
    """Predictions, targets and lengths, padded to four frames more."""
    for start in range(0, len(data), 4):
        x, y = (torch.stack([row[side] for row in data[start : start + 4]]) for side in (0, 1))
        pad = torch.nn.functional.pad
        yield (
            pad(network(x * (not zeros)), (0, 0, 0, 4), value=99.0),
            pad(y, (0, 0, 0, 4)),
            torch.full((len(y),), FRAMES),
        )
