"""Run cases in processes, one row each."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks.identify.cases import Case, make
from benchmarks.identify.score import score
from calib.mel.identify import Clip, identify

__all__ = ["one", "run"]


def one(case: Case) -> dict[str, Any]:
    """Make, identify, score."""
    try:
        made = make(case)
    except Exception as error:  # noqa: BLE001 - a case that cannot be made is a row, not a crash
        return {"group": case.group, "name": case.name, "corpus": case.corpus, "not_made": f"{type(error).__name__}: {error}"}  # fmt: skip
    started = time.perf_counter()
    try:
        result = identify([Clip(case.name, made.samples, case.file_rate, made.mel)])
    except Exception as error:  # noqa: BLE001
        return {"group": case.group, "name": case.name, "corpus": case.corpus, "crash": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}  # fmt: skip
    try:
        row = score(case, made, result)
    except Exception as error:  # noqa: BLE001 - the oracle's fault, and said so
        return {"group": case.group, "name": case.name, "corpus": case.corpus, "not_made": f"score: {type(error).__name__}: {error}"}  # fmt: skip
    row["wall_s"] = time.perf_counter() - started
    row["headline"] = result.headline
    row["file_rate"] = case.file_rate
    row["statistics"] = case.statistics
    return row


def run(
    chosen: Sequence[Case],
    jobs: int,
    progress: Callable[[int, int, dict[str, Any]], None],
    minutes: float | None = None,
) -> list[dict[str, Any]]:
    """Rows in the order of the cases; none are begun after so many minutes."""
    rows: list[dict[str, Any]] = []
    end = time.monotonic() + 60 * minutes if minutes else float("inf")
    if jobs <= 1:
        for k, case in enumerate(chosen):
            if time.monotonic() > end:
                break
            rows.append(one(case))
            progress(k + 1, len(chosen), rows[-1])
        return rows
    with ProcessPoolExecutor(jobs) as pool:
        waiting = [pool.submit(one, case) for case in chosen]
        for k, future in enumerate(waiting):
            if time.monotonic() > end:
                pool.shutdown(wait=False, cancel_futures=True)
                break
            rows.append(future.result())
            progress(k + 1, len(chosen), rows[-1])
    return rows
