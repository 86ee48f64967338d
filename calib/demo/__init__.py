"""The embedded corpus and checkpoints that `calib demo` runs on."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CHECKPOINTS", "CORPUS", "embedded"]

_HERE = Path(__file__).resolve().parent
CORPUS = _HERE / "corpus"
CHECKPOINTS = _HERE / "checkpoints"


def embedded(source: str) -> str:
    """A SOURCE as the user wrote it, with ``demo:corpus`` standing for the embedded corpus."""
    return str(CORPUS) if source == "demo:corpus" else source
