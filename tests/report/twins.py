"""JSON twins of reports with known differences, made by changing the numbers of one: no analysis is run again."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np
import pages

from calib.report import page

COUNT = 24


@functools.cache
def _twin(kind: str) -> dict[str, Any]:
    return page._twin(pages.report_input(kind, examples=[]))


def twin(kind: str = "healthy") -> dict[str, Any]:
    """A new copy of a real twin."""
    return copy.deepcopy(_twin(kind))


def base(seed: int = 0) -> np.ndarray:
    """Errors of utterances, some hard and some easy."""
    return np.random.default_rng(seed).gamma(9.0, 0.05, COUNT)


def healthy(errors: np.ndarray, r_w: float = 0.95, **verdict: Any) -> dict[str, Any]:
    """A healthy run with these errors an utterance, as it is and after its fit (the identity)."""
    out = twin("healthy")
    d = out["diagnosis"]
    frames = np.random.default_rng(99).integers(100, 900, COUNT)
    d["utterances"] = [
        {"name": f"u{k:03d}", "speaker": None, "n_frames": int(n), "mae_before": float(e), "mae_after": float(e), "mae_constant": 1.4, "r_w": r_w + 0.001 * k}
        for k, (n, e) in enumerate(zip(frames, errors, strict=True))
    ]  # fmt: skip
    mae = float((frames * errors).sum() / frames.sum())
    for row in d["rows"]:
        if row["name"] in {"before", d["method"]}:
            row["mae"] = mae
        if row["name"] in {"global_mean", "bin_mean"}:
            row["mae"] = 1.4
    d["summary"]["r_w"] = r_w
    d["intervals"]["r_w"] = {"low": r_w - 0.01, "high": r_w + 0.01}
    for when in ("before", "after"):
        d["global_variance"][when] = {"corpus": -0.1, "utterances": [-0.1] * COUNT, "left_out": 0}
    d["verdict"].update(verdict)
    return out
