"""What calib asks of a model and of a vocoder. A plug-in needs to import nothing of calib to satisfy it.

Conventions:
    Mels are float32 ``(T, M)``, time first, in the units of the declared front end (or normalised, if
    ``output_space`` says so). Audio is float32 mono in ``[-1, 1]``; sample rates in Hz.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

__all__ = ["AcousticModel", "Utterance", "Vocoder"]


@dataclass(frozen=True)
class Utterance:
    """One held-out utterance as a model receives it.

    Args:
        id: unique in its corpus.
        mel: the true mel, ``(T, M)`` float32: the decoder input of teacher forcing.
        text: what is said, or "".
        speaker: speaker name, or None.
        language: language code (``en``, ``de``, ``fa``), or None.
        audio: the audio file that the mel was computed from, or None.
        reference_mel: a mel of the same voice to condition on, ``(T', M)``; None: the model uses ``mel`` itself.
    """

    id: str
    mel: np.ndarray
    text: str = ""
    speaker: str | None = None
    language: str | None = None
    audio: Path | None = None
    reference_mel: np.ndarray | None = None


@runtime_checkable
class AcousticModel(Protocol):
    """Text (and conditioning) to mel.

    Attributes:
        frontend: catalogue id, file, or fields of the front end that the model's mels are in.
        output_space: ``"raw"`` or ``"normalized"``.
        kind: ``"mean"`` (trained with L1 or L2), ``"sample"`` (GAN, flow, diffusion), or None.
        autoregressive: whether teacher forcing shows the model the previous true frame; None when unknown.
        padding_safe: whether a padded batch gives the same output as single utterances. Checked, not believed.

    Optional:
        ``reads_text = False`` (it takes no text) and ``one_voice = True`` (it knows one voice): checked, not believed, by
        ``calib check model``;
        ``post_net = 4``, the frames to each side that a post-net reaches (the sum of (kernel - 1) / 2 over its
        convolutions; 0: none): where calib sees no torch network, what is looked ahead beyond it is a label leak;
        ``generate(text, *, speaker_audio, language, temperature, top_p, seed) -> (T, M)`` for free running;
        ``stream(...)`` with the same arguments, which yields the same mel in parts as they are made;
        ``load_report()``, what the checkpoint restored (`calib.models.restoring`): a mapping, or what torch's
        ``load_state_dict(strict=False)`` returned; ``module``, a torch
        module; ``fresh(seed) -> Mapping``, the state dict of that module built anew and never trained; ``remarks``,
        sentences that are said once when it is loaded; ``notices``, what a call wants said.
    """

    frontend: str | Mapping[str, Any]
    output_space: str
    kind: str | None
    autoregressive: bool | None
    padding_safe: bool

    def teacher_force(self, batch: Sequence[Utterance]) -> Sequence[np.ndarray]:
        """Predict each utterance's mel with the true mel as decoder input: one ``(T', M)`` an utterance."""
        ...


@runtime_checkable
class Vocoder(Protocol):
    """Mel to audio."""

    frontend: str | Mapping[str, Any]

    def vocode(self, mel: np.ndarray) -> tuple[np.ndarray, int]:
        """``(T, M)`` raw mel to ``(samples,)`` float32 and the sample rate in Hz."""
        ...
