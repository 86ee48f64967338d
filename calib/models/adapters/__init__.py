"""Templates of plug-in files, one a framework, as ``calib new-adapter`` prints them.

They lie here as ``NAME.py.txt``: they import other people's packages, so they are text to calib and code to the user. A
test runs each of them; what was run against the real framework is in ``docs/models.md``.
"""

from __future__ import annotations

from pathlib import Path

from calib.errors import UsageError, nearest

__all__ = ["NAMES", "SHADOWS", "template"]

NAMES = ("blank", "fastpitch", "glowtts", "keras", "matcha", "nemo", "tacotron2")
SHADOWS = {"keras": ("keras", "tensorflow", "numpy"), "matcha": ("matcha", "torch"), "tacotron2": ("TTS", "torch"), "fastpitch": ("TTS", "torch"), "glowtts": ("TTS", "torch"), "nemo": ("nemo", "torch"), "blank": ("numpy",)}  # fmt: skip
"""Names that the file must not have: it would be imported in place of the package that it needs."""


def template(name: str) -> str:
    """The text of a template.

    Raises:
        UsageError: no such template.
    """
    if name not in NAMES:
        raise UsageError(f"no adapter {name!r}", hint=nearest(name, NAMES))
    return (Path(__file__).with_name(f"{name}.py.txt")).read_text(encoding="utf-8")
