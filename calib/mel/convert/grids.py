"""Two grids of time and frequency: where the frames of one front end lie among those of another.

Frame t of a front end is centred on sample ``t * hop_length + centre_offset`` of its audio. Frames every 10.7 ms are
not frames every 11.6 ms, and centred frames are not frames half a hop later, whatever the numbers of bins say.
"""

from __future__ import annotations

import numpy as np

from calib.mel.filterbank import hz_to_mel, mel_to_hz
from calib.mel.frontend import FrontEnd

__all__ = ["bin_edges", "frame_seconds", "likely_samples", "positions", "same_grid", "target_frames"]


def frame_seconds(frontend: FrontEnd) -> float:
    """Time from one frame to the next, in s."""
    return frontend.hop_length / frontend.sample_rate


def same_grid(source: FrontEnd, target: FrontEnd) -> bool:
    """Whether frame t of both lies at the same time."""
    mine, theirs = (np.array([fe.hop_length, fe.centre_offset]) / fe.sample_rate for fe in (source, target))
    return bool(np.allclose(mine, theirs, rtol=1e-9, atol=1e-12))


def likely_samples(frontend: FrontEnd, frames: int) -> int:
    """A length of audio that gives ``frames`` frames: the middle of those that do (they span one hop)."""
    low, high = (
        0,
        (frames + frontend.drop_last + frontend.frame_multiple + 2) * frontend.hop_length + 2 * frontend.n_fft,
    )
    while low < high:  # the shortest, by bisection: n_frames does not fall
        middle = (low + high) // 2
        if frontend.n_frames(middle) >= frames:
            high = middle
        else:
            low = middle + 1
    return low + frontend.hop_length * frontend.frame_multiple // 2


def target_frames(source: FrontEnd, target: FrontEnd, frames: int, samples: int | None = None) -> int:
    """Frames that the target front end makes of the audio of a source mel.

    Args:
        source: front end of the mel.
        target: the other one.
        frames: T of the mel.
        samples: length of the audio at the target's sample rate, where it is known.
    """
    if samples is None:
        samples = round(likely_samples(source, frames) * target.sample_rate / source.sample_rate)
    return target.n_frames(samples)


def positions(source: FrontEnd, target: FrontEnd, frames: int) -> np.ndarray:
    """Where the target's frames 0 to ``frames - 1`` lie, in frames of the source; float64 ``(frames,)``."""
    seconds = (np.arange(frames) * target.hop_length + target.centre_offset) / target.sample_rate
    return np.asarray((seconds * source.sample_rate - source.centre_offset) / source.hop_length)


def bin_edges(frontend: FrontEnd) -> np.ndarray:
    """Edges and centres of the filters in Hz of the audio, ``(M + 2,)``: filter k rises from k to k + 1 and falls to k + 2."""
    scale = frontend.mel_scale
    mels = np.linspace(hz_to_mel(frontend.fmin, scale), hz_to_mel(frontend.fmax, scale), frontend.n_mels + 2)
    return np.asarray(mel_to_hz(mels, scale) * (frontend.sample_rate / frontend.fb_sample_rate))
