"""The reference acoustic model: phonemes, a voice and a language to a mel, small enough to read at one sitting.

The architecture is a small non-attentive Tacotron (Shen et al. 2020, arXiv:2010.04301)::

    phonemes -> mean of IPA character embeddings + language -> conv, BiGRU + speaker -> encoding (N, E)
    encoding -> prior (N, M), the mean frame of each phoneme; duration logits (N, 50), frames 1 to 50
    encoding, repeated by durations, with the position in the phoneme -> context (T, E + 4)
    context, prenet(previous frame) -> GRU -> mel (T, M), with both also past the GRU

Conventions:
    Mels are ``(T, M)`` float32 at the border and normalised inside, by one mean and one standard deviation.
    Batches are padded at the end and masked wherever a neighbour is read, so padding changes nothing.

The calib plug-in around it is :mod:`calib.models.reference.plugin`, its training :mod:`calib.models.reference.train`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from calib.models.reference import espeak

__all__ = [
    "CHARACTERS",
    "LANGUAGES",
    "MAX_DURATION",
    "Network",
    "align",
    "language_index",
    "phoneme_matrix",
    "sample_durations",
    "speech_phonemes",
]

LANGUAGES = ("other", "en", "de", "fa", "fr", "es", "it")
MAX_DURATION = 50
# Version 1 of the checkpoints' table: letters, then stress, length and other diacritics. A character outside it is the last row.
CHARACTERS = (
    "_abcdefghijklmnopqrstuvwxyzæçðøħŋœǀǁǂǃɐɑɒɓɔɕɖɗɘəɚɛɜɝɞɟɠɡɢɣɤɥɦɧɨɪɫɬɭɮɯɰɱɲɳɴɵɶɸɹɺɻɽɾʀʁʂʃʄʈʉʊʋʌʍʎʏʐʑʒʔʕʘʙʛʜʝʟʡʢ"
    "βθχᵻᵊˈˌːˑʰʲʷˠˤˀ̴̘̙̜̝̞̟̠̤̥̩̪̬̯̰̹̺̻̼̃̆̈̊̚̚͡1234567\ufffd"
)


def phoneme_matrix(phonemes: Sequence[str]) -> np.ndarray:
    """Phonemes as shares of IPA characters: ``(N, C)`` float32, rows summing to 1. Unseen phonemes are known by parts."""
    index = {character: position for position, character in enumerate(CHARACTERS)}
    matrix = np.zeros((len(phonemes), len(CHARACTERS)), np.float32)
    for row, phoneme in zip(matrix, phonemes, strict=True):
        for character in phoneme or "_":
            row[index.get(character, len(CHARACTERS) - 1)] += 1.0 / max(len(phoneme), 1)
    return matrix


def speech_phonemes(text: str, language: str) -> list[str]:
    """Phonemes of ``text``; plain ``en`` is American. Raises as :func:`calib.models.reference.espeak.phonemes`."""
    return espeak.phonemes(text, "en-us" if language == "en" else language)


def language_index(language: str) -> int:
    """Row of :data:`LANGUAGES` of a code; regions share a row (``en-gb`` is ``en``), unseen languages are ``other``, 0."""
    code = language.lower().replace("_", "-").partition("-")[0]
    return LANGUAGES.index(code) if code in LANGUAGES else 0


def align(prior: np.ndarray, mel: np.ndarray) -> np.ndarray:
    """Durations ``(N,)`` in frames of the monotonic path that brings ``prior`` ``(N, M)`` nearest to ``mel`` ``(T, M)``.

    Each phoneme gets at least one frame; where there are more phonemes than frames, they are spread evenly.
    """
    n, t = len(prior), len(mel)
    if t <= n:
        return np.diff(np.floor(np.linspace(0, t, n + 1))).astype(np.int64)
    score = mel.astype(np.float64) @ prior.T.astype(np.float64) - 0.5 * np.square(prior, dtype=np.float64).sum(1)
    best = np.full(n, -np.inf)
    best[0] = score[0, 0]
    moved = np.zeros((t, n), bool)
    for frame in range(1, t):
        previous = np.concatenate(([-np.inf], best[:-1]))
        moved[frame] = previous > best
        best = np.maximum(previous, best) + score[frame]
    durations = np.zeros(n, np.int64)
    state = n - 1
    for frame in range(t - 1, -1, -1):
        durations[state] += 1
        state -= int(moved[frame, state])
    return durations


def sample_durations(
    logits: torch.Tensor, temperature: float, top_p: float, generator: torch.Generator
) -> torch.Tensor:
    """Draw durations ``(N,)`` in frames from logits ``(N, 50)``; temperature 0 takes the likeliest.

    ``top_p`` keeps the smallest set of durations that holds at least this probability (Holtzman et al. 2020).
    """
    if temperature < 1e-4:  # below, the division would overflow; the draw is the likeliest anyway
        return logits.argmax(-1) + 1
    ranked, order = torch.softmax(logits / temperature, -1).sort(descending=True, stable=True)
    ranked = ranked.masked_fill(ranked.cumsum(-1) - ranked >= max(top_p, 1e-6), 0.0)
    return order.gather(-1, torch.multinomial(ranked, 1, generator=generator)).squeeze(-1) + 1


def _mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    return (torch.arange(size, device=lengths.device)[None] < lengths[:, None]).unsqueeze(-1)


class Network(nn.Module):
    """The network alone: tensors in, tensors out. Shapes: B batch, N phonemes, C characters, T frames, M bins."""

    mel_mean: torch.Tensor
    mel_std: torch.Tensor
    default_speaker: torch.Tensor

    def __init__(self, bins: int = 80, width: int = 96, speaker: int = 32, hidden: int = 192) -> None:
        super().__init__()
        self.characters = nn.Linear(len(CHARACTERS), width, bias=False)
        self.language = nn.Embedding(len(LANGUAGES), width)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.encoder = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.reference = nn.ModuleList((nn.Conv1d(bins, 48, 5, padding=2), nn.Conv1d(48, 48, 3, padding=1)))
        self.voice = nn.Linear(48, speaker)
        self.speaker = nn.Linear(speaker, width)
        self.prior = nn.Linear(width, bins)
        self.duration = nn.Linear(width, MAX_DURATION)
        self.prenet = nn.Sequential(nn.Linear(bins, 112), nn.ReLU(), nn.Linear(112, 80), nn.ReLU())
        self.decoder = nn.GRU(80 + width + 4, hidden, batch_first=True)
        self.output = nn.Linear(hidden + 80 + width + 4, bins)
        self.register_buffer("mel_mean", torch.zeros(()))
        self.register_buffer("mel_std", torch.ones(()))
        self.register_buffer("default_speaker", torch.zeros(speaker))

    def embed(self, mel: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Normalised reference mels ``(B, T, M)`` to voices ``(B, S)``."""
        mask = _mask(lengths, mel.shape[1])
        x = mel * mask
        for layer in self.reference:
            x = torch.relu(layer(x.transpose(1, 2)).transpose(1, 2)) * mask
        return torch.tanh(self.voice(x.sum(1) / lengths.clamp(min=1)[:, None]))

    def encode(
        self, phonemes: torch.Tensor, lengths: torch.Tensor, language: torch.Tensor, voice: torch.Tensor
    ) -> torch.Tensor:
        """``(B, N, C)``, ``(B,)``, ``(B,)`` and ``(B, S)`` to encodings ``(B, N, E)``."""
        mask = _mask(lengths, phonemes.shape[1])
        x = (self.characters(phonemes) + self.language(language)[:, None]) * mask
        for layer, norm in zip(self.convolutions, self.norms, strict=True):
            x = norm(x + torch.relu(layer(x.transpose(1, 2)).transpose(1, 2))) * mask
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        encoded, _ = pad_packed_sequence(self.encoder(packed)[0], batch_first=True, total_length=x.shape[1])
        return torch.as_tensor((encoded + self.speaker(voice)[:, None]) * mask)

    @staticmethod
    def upsample(encoding: torch.Tensor, durations: torch.Tensor) -> torch.Tensor:
        """One utterance: ``(N, E)`` and ``(N,)`` to contexts ``(T, E + 4)``: share passed, length, frames since and left."""
        repeated = durations.repeat_interleave(durations)
        passed = torch.arange(len(repeated), device=encoding.device) - (
            durations.cumsum(0) - durations
        ).repeat_interleave(durations)
        length, passed = repeated.to(encoding.dtype), passed.to(encoding.dtype)
        since, left = (passed / 10).clamp(max=2), ((length - passed) / 10).clamp(max=2)
        position = torch.stack(((passed + 0.5) / length, length.log() / 3, since, left), -1)
        return torch.cat((encoding.repeat_interleave(durations, 0), position), -1)

    def decode(
        self, context: torch.Tensor, previous: torch.Tensor, state: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Contexts ``(B, T, E + 4)`` and previous frames ``(B, T, M)`` to frames ``(B, T, M)`` and the GRU's state."""
        seen = torch.cat((self.prenet(previous), context), -1)
        hidden, state = self.decoder(seen, state)
        return self.output(torch.cat((hidden, seen), -1)), torch.as_tensor(state)

    @staticmethod
    def shifted(mel: torch.Tensor) -> torch.Tensor:
        """What the decoder sees: zeros (the mean frame) first, then every frame but the last."""
        return nn.functional.pad(mel, (0, 0, 1, 0))[:, :-1]
