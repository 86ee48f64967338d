"""The cases through ``analyze``: one row a case and kind of evidence, in processes.

A row is plain JSON: all that the case is, and all that came out. A diagnosis that raises is a row with ``error``, and
counts as a wrong answer wherever it is counted.
"""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

from benchmarks.diagnosis.cases import Case, CaseData, materialise
from benchmarks.diagnosis.oracle import calibrators, repair
from calib.diagnose.faults.library import FAULTS

__all__ = ["Judge", "Pairs", "diagnose", "run", "run_case"]

Judge = Callable[[Case, CaseData, str], Any]


@dataclasses.dataclass(frozen=True)
class Pairs:
    """A case as the `PairSet` that ``analyze`` reads."""

    data: CaseData

    def __len__(self) -> int:
        """Number of utterances."""
        return len(self.data.targets)

    def name(self, index: int) -> str:
        """Identity of an utterance."""
        return self.data.names[index]

    def arrays(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """``(prediction, target)``."""
        return self.data.predictions[index], self.data.targets[index]

    def speaker(self, index: int) -> str | None:
        """Who speaks."""
        return self.data.speakers[index]


def diagnose(case: Case, data: CaseData, evidence: str) -> Any:
    """The one place where the diagnosis is called.

    Args:
        case: says what the library lacks (``left-out``) and the seed.
        data: its arrays.
        evidence: ``pairs``: the arrays, and the target's front end where the case declares what it knows; ``audio``: the
            audio and the front end as well.
    """
    from calib.diagnose.analysis import analyze
    from calib.mel.variants import Variants, bank_geometry

    with_audio = evidence == "audio"
    return analyze(
        Pairs(data),
        kind=data.kind,
        autoregressive=data.autoregressive,
        seed=case.seed,
        bank=bank_geometry(data.frontend if with_audio or case.declared else None, data.targets[0].shape[1]),
        recomputed=Variants(data.frontend, data.samples.__getitem__) if with_audio else None,
        library=frozenset(FAULTS) - set(case.faults) if case.group == "left-out" else None,
    )


def run_case(case: Case, judge: Judge = diagnose) -> list[dict[str, Any]]:
    """Rows of one case, one for each kind of evidence."""
    started = time.perf_counter()
    data = materialise(case)
    made = time.perf_counter() - started
    truth = repair(data)
    rows = []
    for evidence in case.evidence:
        row: dict[str, Any] = dataclasses.asdict(case)
        row.update(
            evidence=evidence,
            truth=list(data.truth),
            n_utterances=len(data.targets),
            n_frames=sum(len(y) for y in data.targets),
            achieved=list(data.achieved),
            lengths=[list(pair) for pair in data.lengths],
            repair=truth,
            seconds_made=made,
        )
        started = time.perf_counter()
        try:
            diagnosis = judge(case, data, evidence)
            row.update(_answer(diagnosis, data))
        except Exception as error:  # noqa: BLE001 - counted, listed, and wrong
            row.update(error=f"{type(error).__name__}: {error}", trace=traceback.format_exc(limit=-3))
            row.update(state="error", status="fail", findings=[], calibrators={})
        row["seconds"] = time.perf_counter() - started
        rows.append(row)
    return rows


def _answer(diagnosis: Any, data: CaseData) -> dict[str, Any]:
    return {
        "state": diagnosis.verdict.state,
        "status": diagnosis.verdict.status,
        "findings": [
            {"fault": f.fault, "names": list(f.names), "confidence": float(f.confidence)} for f in diagnosis.faults
        ],
        "method": diagnosis.method,
        "calibrators": calibrators(diagnosis, data),
    }


def run(
    cases: Sequence[Case], jobs: int = 2, judge: Judge = diagnose, progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """Rows of all cases, in their order, whatever the number of processes.

    Args:
        cases: what to run.
        jobs: processes; 1 stays in this one.
        judge: makes the diagnosis; another than `diagnose` only in tests.
        progress: called with the number of cases done and in all.
    """
    rows: list[dict[str, Any]] = []
    # Neighbours share a corpus, so that each process computes its mels about once.
    order = sorted(range(len(cases)), key=lambda k: (cases[k].corpus, k))
    tasks = [(cases[k], judge) for k in order]
    found: dict[int, list[dict[str, Any]]] = {}
    if jobs <= 1:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):  # and no longer: the caller's process goes on
            _gather(map(_task, tasks), order, found, progress)
    else:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
            _gather(pool.map(_task, tasks, chunksize=4), order, found, progress)
    for k in range(len(cases)):
        rows += found[k]
    return rows


def _gather(
    results: Any, order: list[int], found: dict[int, list[dict[str, Any]]], progress: Callable[[int, int], None] | None
) -> None:
    for number, (k, rows) in enumerate(zip(order, results, strict=True), 1):
        found[k] = rows
        if progress:
            progress(number, len(order))


def _task(task: tuple[Case, Judge]) -> list[dict[str, Any]]:
    return run_case(*task)


_LIMITS: list[Any] = []


def _one_thread() -> None:
    """One BLAS thread a process, for as long as it lives: the processes are the parallelism."""
    from threadpoolctl import threadpool_limits

    if not _LIMITS:
        _LIMITS.append(threadpool_limits(1))
