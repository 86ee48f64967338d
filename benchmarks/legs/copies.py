"""``calib check vocoder`` on vocoders whose faults are known: one row a vocoder."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.diagnosis import corpora
from benchmarks.legs.wrappers import EXPECTED

__all__ = ["run"]


def run(corpus: str, clips: int) -> Iterator[dict[str, Any]]:
    """Every wrapper on the first ``clips`` pieces of a corpus."""
    import soundfile

    from calib.commands.check_vocoder import VocoderCheckConfig
    from calib.commands.check_vocoder import run as check
    from calib.commands.plugins import VocoderConfig
    from calib.console import terminal

    terminal.level = -1
    with tempfile.TemporaryDirectory() as folder:
        for k, piece in enumerate(corpora.load(corpus).pieces[:clips]):
            soundfile.write(Path(folder) / f"c{k}.wav", piece.samples, corpora.RATE, subtype="FLOAT")
        for name, (states, wanted) in EXPECTED.items():
            started = time.perf_counter()
            plugin = VocoderConfig(f"{Path(__file__).parent / 'wrappers.py'}:factory", None, {"case": name})
            found = check(VocoderCheckConfig(folder, plugin))
            own = [row.copy for row in found.rows if row.who == "vocoder"]
            base = [row.copy for row in found.rows if row.who == "griffin-lim"]
            liked = [tried.name for tried in found.verdict.liked]
            state = found.verdict.state
            named = not wanted or state != "wrong-domain" or bool(set(wanted) & set(liked))
            yield {
                "case": name, "expected": list(states), "state": state, "liked": liked, "right": state in states and named,
                "lsd_db": float(np.median([c.lsd_db for c in own])) if own else None,
                "r": float(np.median([c.r for c in own])) if own else None,
                "griffin_lim_lsd_db": float(np.median([c.lsd_db for c in base])) if base else None,
                "sentence": found.verdict.sentence, "warnings": list(found.verdict.warnings),
                "seconds": time.perf_counter() - started,
            }  # fmt: skip
