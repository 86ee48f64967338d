"""The cases through ``calib diagnose``'s own code, from files on disk: one row a case."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.diagnosis import corpora
from benchmarks.legs.cases import FRONT, MODEL, Case, make

__all__ = ["run_case", "summarise"]


def run_case(case: Case, folder: Path) -> dict[str, Any]:
    """Write the case's PAIRS and audio below ``folder``, diagnose with ``--audio --vocoder-frontend hifigan``."""
    import soundfile

    from calib.commands.judge import JudgeConfig, judge
    from calib.commands.legs import legs, wanted
    from calib.console import terminal
    from calib.data.pairs import PairsWriter

    predictions, targets, samples, _ = make(case)
    quality = MODEL[case.model].quality
    (folder / "wavs").mkdir(parents=True)
    for k, x in enumerate(samples):
        soundfile.write(folder / "wavs" / f"u{k}.wav", x, corpora.RATE, subtype="FLOAT")
    header = {"model_kind": quality.kind, "autoregressive": quality.autoregressive}
    with PairsWriter(folder / "pairs", header) as writer:
        for k, (p, t) in enumerate(zip(predictions, targets, strict=True)):
            writer.write(f"u{k}", p, t)
    terminal.level = -1
    started = time.perf_counter()
    want = wanted("hifigan", None)
    assert want is not None
    try:
        judgement = judge(JudgeConfig(folder / "pairs", layout="TM", audio=str(folder / "wavs")))
        judged = time.perf_counter()
        found = legs(judgement, want, name=False)  # identification has a benchmark of its own
    except Exception as error:  # noqa: BLE001 - counted, and wrong
        return {**_row(case), "blame": "error", "error": f"{type(error).__name__}: {error}", "seconds": 0.0}
    tv = found.legs["T-V"]
    return {
        **_row(case),
        "blame": found.blame,
        "sentence": f"{found.headline}: {found.sentence}",
        "grade": tv.grade,
        "t_v_db": tv.mae_db,
        "faults": [list(f.names) for f in tv.findings],
        "state": judgement.diagnosis.verdict.state,
        "seconds": time.perf_counter() - started,
        "seconds_legs": time.perf_counter() - judged,
    }


def _row(case: Case) -> dict[str, Any]:
    return {
        "corpus": case.corpus, "front": case.front, "model": case.model, "twist": case.twist, "expected": case.expected,
        "harmless": FRONT[case.front].harmless, "good": MODEL[case.model].good,
    }  # fmt: skip


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Recall and precision of each blame, and how often a healthy front end or model is blamed."""
    whom = sorted({row["expected"] for row in rows} | {row["blame"] for row in rows})
    out: dict[str, Any] = {"n": len(rows), "right": float(np.mean([row["blame"] == row["expected"] for row in rows]))}
    table = {}
    for who in whom:
        said, true = [r for r in rows if r["blame"] == who], [r for r in rows if r["expected"] == who]
        hit = sum(r["expected"] == who for r in said)
        table[who] = {
            "cases": len(true),
            "said": len(said),
            "recall": hit / len(true) if true else None,
            "precision": hit / len(said) if said else None,
        }
    out["blame"] = table
    front = {"front-end", "both", "targets"}
    model = {"model", "both"}
    harmless, good = [r for r in rows if r["harmless"]], [r for r in rows if r["good"]]
    out["false_blame_front_end"] = sum(r["blame"] in front for r in harmless) / max(len(harmless), 1)
    out["false_blame_model"] = sum(r["blame"] in model for r in good) / max(len(good), 1)
    out["harmless"], out["good"] = len(harmless), len(good)
    return out
