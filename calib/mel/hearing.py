"""What a reader of mels hears: a mel of any front end in dB of magnitude, so that differences have a size for the ear."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from calib.errors import UsageError
from calib.mel.frontend import FrontEnd

__all__ = ["hearing"]

_SILENCE = 1e-5  # magnitude of silence, where the front end has no guard that says more (-100 dB)


def hearing(frontend: FrontEnd) -> Callable[[np.ndarray], np.ndarray] | None:
    """A function from ``(T, M)`` mels to what a reader of this front end takes them for: 20 log10 of the magnitude.

    Values under the guard are silence, whatever they are; so a mel that lies lower than the reader expects is not
    called different. None where the front end normalises by utterance: its values then have no level.
    """
    silence = _SILENCE**frontend.power
    if frontend.log != "none" and frontend.log_guard == "clamp":
        silence = frontend.log_eps
    try:
        frontend.to_linear(np.zeros((1, frontend.n_mels), dtype=np.float32))
    except UsageError:
        return None

    def hear(mel: np.ndarray) -> np.ndarray:
        linear = np.maximum(frontend.to_linear(mel), silence)
        return np.asarray((20.0 / frontend.power) * np.log10(linear), dtype=np.float32)

    return hear
