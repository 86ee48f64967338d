"""What the tests of identification share: a few seconds of the demo corpus, and the question."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import soxr

from calib.data.audio import read_audio
from calib.demo import CORPUS
from calib.mel.frontend import FrontEnd
from calib.mel.identify import Clip, Identification, identify

RATE = 22050


@functools.cache
def audio(rate: int = RATE, seconds: int = 3) -> np.ndarray:
    """Some seconds of the demo corpus (synthetic voices), with 16-bit values as files have them."""
    parts: list[np.ndarray] = []
    for path in sorted((CORPUS / "wavs").glob("*.flac"))[3:]:
        parts.append(read_audio(path, RATE).samples)
        if sum(map(len, parts)) > seconds * RATE:
            break
    x = np.concatenate(parts)[: seconds * RATE]
    x = x if rate == RATE else soxr.resample(x, RATE, rate, quality="HQ")
    return np.asarray(np.rint(x * 32768) / 32768, np.float32)


def asked(
    truth: FrontEnd,
    samples: np.ndarray,
    *,
    rate: int = 0,
    dtype: type = np.float32,
    mel: np.ndarray | None = None,
    **more: Any,
) -> Identification:
    """Identify what a front end makes of audio at ``rate`` (0: its own), or another mel of that audio."""
    rate = rate or truth.sample_rate
    if mel is None:
        inner = samples if rate == truth.sample_rate else soxr.resample(samples, rate, truth.sample_rate, quality="HQ").astype(np.float32)  # fmt: skip
        mel = truth.mel(inner).astype(dtype)
    return identify([Clip("a", samples, rate, mel)], **more)
