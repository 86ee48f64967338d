"""What every driver here shares: its two arguments, and the JSON that it leaves behind.

A driver is called as ``python DRIVER.py CORPUS OUT.json [OPTION ...]`` by the interpreter of the peer's environment. It runs
the peer's own code, as its own command does, and writes what that found.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RATE, N_FFT, HOP, MELS, FMAX = 22050, 1024, 256, 80, 8000


def wavs(corpus: str | Path) -> list[Path]:
    """The corpus's files, sorted."""
    return sorted((Path(corpus) / "wavs").glob("*.wav"))


def arguments() -> tuple[Path, Path, list[str]]:
    """Corpus, output, options."""
    return Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]


def write(out: Path, *, packages: Sequence[str], n_files: int, **found: Any) -> None:
    """Leave the result; numbers of numpy or torch become floats."""
    versions = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "unknown"
    values = {key: float(value) if hasattr(value, "item") else value for key, value in found.items()}
    out.write_text(json.dumps({"n_files": n_files, "versions": versions, **values}), "utf-8")
