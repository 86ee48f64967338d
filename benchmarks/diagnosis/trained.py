"""The reference model's checkpoints, teacher-forced once a process on the demo corpus, as further models.

A fault of the front end cannot be trained into them, so there the model's *error* is carried over: to the frequencies
and frames of the faulty front end, in its unit.

Conventions:
    Mels and errors are ``(T, M)`` in ln magnitude of ``hifigan``.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy.interpolate import CubicSpline

from benchmarks.diagnosis.corpora import Piece
from calib.mel.filterbank import hz_to_mel, mel_to_hz
from calib.mel.frontend import FrontEnd

__all__ = ["CHECKPOINTS", "centres", "errors", "predictions", "transplant"]

CHECKPOINTS = {"step000": "0", "step005": "5", "step030": "30", "step100": "100", "collapsed": "collapsed"}


@functools.cache
def _all(checkpoint: str) -> dict[str, np.ndarray]:
    """Predictions of one checkpoint by utterance id."""
    import torch

    from calib.models.reference import factory
    from calib.models.reference.corpus import utterances

    torch.set_num_threads(1)
    said = utterances()
    found = factory(CHECKPOINTS[checkpoint]).teacher_force(said)
    return {u.id: np.asarray(p, np.float32) for u, p in zip(said, found, strict=True)}


def predictions(checkpoint: str, pieces: list[Piece]) -> list[np.ndarray]:
    """Teacher-forced predictions of pieces of the demo corpus."""
    made = _all(checkpoint)
    return [made[piece.id.partition("#")[0]] for piece in pieces]


def errors(checkpoint: str, pieces: list[Piece], targets: list[np.ndarray]) -> list[np.ndarray]:
    """Prediction minus target; ``targets`` are the pieces' hifigan mels."""
    return [p - y for p, y in zip(predictions(checkpoint, pieces), targets, strict=True)]


def centres(frontend: FrontEnd) -> np.ndarray:
    """Centre of each mel filter in Hz, ``(M,)``."""
    ends = hz_to_mel(np.array([frontend.fmin, frontend.fmax]), frontend.mel_scale)
    return mel_to_hz(np.linspace(ends[0], ends[1], frontend.n_mels + 2), frontend.mel_scale)[1:-1]


def transplant(
    error: np.ndarray,
    home: FrontEnd,
    other: FrontEnd,
    frames: int,
    *,
    time_scale: float = 1.0,
    frame_shift: float = 0.0,
    frequency_scale: float = 1.0,
) -> np.ndarray:
    """An error made in one front end as it would lie in another.

    Args:
        error: ``(T, M)`` in the front end ``home``.
        home: where it was made.
        other: where it goes.
        frames: frames there.
        time_scale: frames there for one frame here.
        frame_shift: frames that the content comes later there.
        frequency_scale: true Hz for one Hz on the other's axis.

    Returns:
        ``(frames, M)``, doubled where the other is of power.
    """
    here, there = centres(home), centres(other) * frequency_scale
    at = np.clip((np.arange(frames) - frame_shift) / time_scale, 0, len(error) - 1)
    # Splines, not straight lines: those would take half of the error away between two frames, and no model is that sure.
    in_time = error if np.array_equal(at, np.arange(len(error))) else CubicSpline(np.arange(len(error)), error)(at)
    position = np.clip(np.interp(there, here, np.arange(len(here))), 0, len(here) - 1)
    below = np.minimum(position.astype(int), len(here) - 2)
    weight = position - below
    moved = in_time[:, below] * (1 - weight) + in_time[:, below + 1] * weight
    return np.asarray(moved * (other.power / home.power))
