"""How two front ends relate: the exact elementwise map, where there is one, and what their guards swallow.

Two front ends that share everything up to the filterbank (``FrontEnd.family``) differ by the guard, the logarithm and
the normalisation alone: the way from one to the other is ``target.finish(source.to_linear(mel))``. With or without an
area norm of the filters is a constant factor by bin more. The level and the trim of the audio stay the source's: a
mel does not say what they were.

Conventions:
    *Linear* is a filterbank output, magnitude or power. The *guard* of a bin is the linear value below which the mel
    says nothing: the clamp, what was added under the root, a clip.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from calib.mel.frontend import FrontEnd

__all__ = ["Relation", "guard", "guarded", "relate", "saturated", "with_audio_of"]

# What is done to the audio before the STFT and cannot be read off (or undone in) a mel: trim and level.
AUDIO_STEPS = ("trim_top_db", "trim_frame_length", "trim_hop_length", "rms_norm", "peak_norm", "clip_audio")
# Which frames are kept. Positions on the time grid take care of them.
_FRAME_COUNT = {"drop_last": 0, "frame_multiple": 1, "overwrite_last": 0}
# A mel cell is at the guard if it is not above it by more than float32 rounding of its logarithm.
_ROUNDING = 1e-4
# Of ln(x + eps): below this share of eps, x is what rounding left of it.
_ADDED = 4e-5


@dataclass(frozen=True)
class Relation:
    """An exact elementwise map.

    Args:
        log_offset: ln(linear of the target) - ln(linear of the source), by bin ``(M,)``.
        edge_frames: frames at either end that the map does not cover, because the audio's ends are padded otherwise.
        audio_steps: fields of the audio preparation in which the two differ; they stay the source's.
    """

    log_offset: np.ndarray
    edge_frames: int = 0
    audio_steps: tuple[str, ...] = ()


def with_audio_of(frontend: FrontEnd, source: FrontEnd) -> FrontEnd:
    """``frontend`` with the trim and the levels of ``source``."""
    return dataclasses.replace(frontend, **{name: getattr(source, name) for name in AUDIO_STEPS})


def relate(source: FrontEnd, target: FrontEnd) -> Relation | None:
    """The exact map from ``source`` to ``target``, or None where there is none.

    A normalisation by utterance cannot be undone, so nothing but the same mel is exact from there.
    """
    if source.id == target.id:
        return Relation(np.zeros(source.n_mels))
    if source.utterance_norm in {"minmax", "instance"}:
        return None
    alike = dataclasses.replace(with_audio_of(source, target), **{n: getattr(target, n) for n in _FRAME_COUNT})
    edges = 0
    if alike.pad_mode != target.pad_mode and alike.padding == target.padding and target.padding in {"center", "same"}:
        alike = dataclasses.replace(alike, pad_mode=target.pad_mode)
        edges = -(-target.pad_each_side // target.hop_length)
    offset = alike.bank_norm_offset(target)
    if offset is None:
        return None
    steps = tuple(name for name in AUDIO_STEPS if getattr(source, name) != getattr(target, name))
    return Relation(offset, edges, steps)


def guard(frontend: FrontEnd) -> np.ndarray:
    """The guard of each bin, linear ``(M,)``: clamp, root eps and lower clip; for ``add`` what rounding leaves of it."""
    plain = dataclasses.replace(frontend, utterance_norm=None, overwrite_last=0)
    if frontend.log == "none":
        sums = frontend.basis().sum(1).astype(np.float64)
        return np.asarray(np.maximum(sums, sums.max() * 1e-3) * 1e-7**frontend.power)
    silent = plain.to_linear(plain.silence[None])[0]
    return np.asarray(np.maximum(silent, _ADDED * frontend.log_eps) if frontend.log_guard == "add" else silent)


def guarded(frontend: FrontEnd, mel: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Which cells of a mel ``(T, M)`` stand on its guard or its lower clip: the sound there was at most that loud.

    Args:
        frontend: what made the mel; not normalised by utterance in a way that cannot be undone.
        mel: ``(T, M)``.
        linear: the same, ``frontend.to_linear(mel)``.
    """
    low = linear <= guard(frontend) * (1 + _ROUNDING)
    if frontend.utterance_norm == "dynamic_max" and mel.size:
        low |= mel <= mel.min() + 1e-5 * max(1.0, abs(float(mel.min())))
    return np.asarray(low)


def saturated(frontend: FrontEnd, mel: np.ndarray) -> np.ndarray:
    """Which cells stand on the upper clip: the sound there was at least that loud."""
    if frontend.clip_max is None:
        return np.zeros(mel.shape, dtype=bool)
    return np.asarray(mel >= frontend.clip_max - 1e-6 * max(1.0, abs(frontend.clip_max)))
