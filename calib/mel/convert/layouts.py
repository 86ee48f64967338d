"""Mels as the trainers of vocoders read them: file names, axes, and how many frames their audio allows.

===========  ==================================  =====================================================================
layout       files                               frames
===========  ==================================  =====================================================================
``npy``      ``ID.npy`` (T, M)                   as the front end gives
``hifigan``  ``WAVNAME.npy`` (M, T),             at most L // hop: the trainer cuts ``audio[m * hop : (m + n) * hop]`` and
             ``filelist.txt`` ``WAVNAME|text``   compares whole utterances when it validates [1]
``pwg``      ``ID-feats.npy`` (T, M),            any: the audio beside is edge-padded or cut to T * hop, which its data
             ``ID-wave.npy`` (T * hop,)          set asserts [2]
``coqui``    ``mel/WAVNAME.npy`` (M, T),         at most 1 + L // hop: the audio gets one hop of edge padding and must then
             ``metada.txt`` ``wav|mel``          be T * hop long, which is asserted [3]
===========  ==================================  =====================================================================

L is the length of the audio in samples at the target's sample rate.

References:
    1. jik876/hifi-gan@1198d8c, ``meldataset.py``: ``base_mels_path/<stem of the wav>.npy``, 2 or 3 dimensions;
       ``get_dataset_filelist`` takes what is before the first ``|`` and adds ``.wav``.
    2. kan-bayashi/ParallelWaveGAN@06170f6, ``bin/preprocess.py`` (``format: npy``) and ``datasets/audio_mel_dataset.py``
       (``*-wave.npy``, ``*-feats.npy``). What is written there is normalised already if the target has statistics.
    3. coqui-ai/TTS@00396d6, ``bin/extract_tts_spectrograms.py`` (``mel/``, ``metada.txt``), ``vocoder/datasets/
       gan_dataset.py`` and ``preprocess.py`` (``feature_path``: as many ``.npy`` as ``.wav``, of the same stems).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.mel.frontend import FrontEnd

__all__ = ["LAYOUTS", "Layout", "frames_allowed", "wave_for"]


@dataclass(frozen=True)
class Layout:
    """How one trainer wants its mels.

    Args:
        name: of `LAYOUTS`.
        pattern: path of a mel below the folder, with ``{}`` for its name.
        time_first: ``(T, M)``, else ``(M, T)``.
        by_wav: named after the audio file instead of the id.
        listing: file that lists all of them, or None.
        wave: pattern of the audio beside, or None.
    """

    name: str
    pattern: str
    time_first: bool
    by_wav: bool = False
    listing: str | None = None
    wave: str | None = None


LAYOUTS = {
    "npy": Layout("npy", "{}.npy", time_first=True),
    "hifigan": Layout("hifigan", "{}.npy", time_first=False, by_wav=True, listing="filelist.txt"),
    "pwg": Layout("pwg", "{}-feats.npy", time_first=True, wave="{}-wave.npy"),
    "coqui": Layout("coqui", "mel/{}.npy", time_first=False, by_wav=True, listing="metada.txt"),
}


def frames_allowed(layout: str, target: FrontEnd, samples: int | None) -> int | None:
    """The most frames that a mel of ``samples`` samples may have in a layout; None: any."""
    if samples is None or layout not in {"hifigan", "coqui"}:
        return None
    return samples // target.hop_length + (layout == "coqui")


def wave_for(samples: np.ndarray, frames: int, hop: int) -> np.ndarray:
    """Audio of exactly ``frames * hop`` samples: cut, or its last sample held; float32."""
    wanted = frames * hop
    if len(samples) < wanted:
        samples = np.pad(samples, (0, wanted - len(samples)), mode="edge")
    return np.ascontiguousarray(samples[:wanted], dtype=np.float32)
