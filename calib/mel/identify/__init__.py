"""Which front end made a mel: from recordings and their mels, or (less) from mels alone."""

from __future__ import annotations

from calib.mel.identify.budget import SECONDS
from calib.mel.identify.identifying import identify
from calib.mel.identify.melonly import identify_mels
from calib.mel.identify.results import Clip, Contradiction, Found, Identification, NamedMatch
from calib.mel.identify.writing import described

__all__ = [
    "SECONDS",
    "Clip",
    "Contradiction",
    "Found",
    "Identification",
    "NamedMatch",
    "described",
    "identify",
    "identify_mels",
]
