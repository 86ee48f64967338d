"""A per-utterance function over a corpus: in this process, or in several that each use one library thread.

Conventions:
    The function gets one item and returns one value, or raises `DataError`, which makes the item a *skipped* one with
    its reason. Results come back in the order of the corpus, whatever the number of processes. At most a few chunks a
    process are in flight, so memory does not grow with the corpus.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from calib.errors import DataError

__all__ = ["Outcome", "Skipped", "map_corpus", "resolve_jobs"]

Item = TypeVar("Item")
Value = TypeVar("Value")

_CHUNK = 8
_CHUNKS_IN_FLIGHT = 4  # a process


@dataclass(frozen=True)
class Outcome(Generic[Item, Value]):
    """One item's result: ``value``, or the ``reason`` why it was skipped."""

    item: Item
    value: Value | None
    reason: str | None = None


@dataclass
class Skipped:
    """The items that could not be used, with the reasons; never silently fewer.

    Args:
        allowed_percent: more than this share of the corpus skipped is an error.
    """

    allowed_percent: float = 1.0
    by_reason: dict[str, list[str]] = field(default_factory=dict)
    total: int = 0

    def add(self, name: str, reason: str) -> None:
        """Record one skipped item."""
        self.by_reason.setdefault(reason, []).append(name)

    @property
    def count(self) -> int:
        """How many were skipped."""
        return sum(len(names) for names in self.by_reason.values())

    def provenance(self) -> dict[str, list[str]]:
        """Reason to sorted names, sorted."""
        return {reason: sorted(self.by_reason[reason]) for reason in sorted(self.by_reason)}

    def lines(self, most: int = 10) -> list[str]:
        """For people: one line a skipped item, at most ``most``."""
        rows = [f"{name}: {reason}" for reason, names in self.provenance().items() for name in names]
        return rows[:most] + ([f"... and {len(rows) - most} more"] if len(rows) > most else [])

    def check(self) -> None:
        """Fail if too many were skipped.

        Raises:
            DataError: everything was skipped, or more than ``allowed_percent``.
        """
        if self.total == 0 or self.count == 0:
            return
        share = 100.0 * self.count / self.total
        listing = "\n  ".join(["", *self.lines()])
        if self.count == self.total:
            raise DataError(f"no utterance could be used (of {self.total}):{listing}")
        if share > self.allowed_percent:
            raise DataError(
                f"{self.count} of {self.total} utterances ({share:.3g} %) could not be used, more than the {self.allowed_percent:g} % allowed:{listing}",
                hint=f"repair or remove them, or allow them with --allow-skipped {min(100, int(share) + 1)}",
            )


def resolve_jobs(jobs: int | None, n_items: int) -> int:
    """Processes to use: what was asked for, else one a core, but none for a corpus that one process does sooner."""
    if jobs is not None:
        return max(1, jobs)
    return max(1, min(os.cpu_count() or 1, n_items // 64))


def map_corpus(
    function: Callable[[Item], Value], items: Iterable[Item], *, jobs: int
) -> Iterator[Outcome[Item, Value]]:
    """Apply ``function`` to every item, in order.

    Args:
        function: picklable when ``jobs > 1``; raises `DataError` for an item that must be skipped.
        items: the corpus; read lazily.
        jobs: processes; 1 runs here.

    Raises:
        DataError: a worker process died (killed for memory, say).
    """
    if jobs <= 1:
        with _one_thread():
            for item in items:
                yield _attempt(function, item)
        return
    context = multiprocessing.get_context("spawn")
    chunks = _chunked(items)
    pending: deque[Future[list[Outcome[Item, Value]]]] = deque()
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker)
    try:
        for chunk in itertools.islice(chunks, jobs * _CHUNKS_IN_FLIGHT):
            pending.append(pool.submit(_work, function, chunk))
        while pending:
            done = pending.popleft().result()
            for chunk in itertools.islice(chunks, 1):
                pending.append(pool.submit(_work, function, chunk))
            yield from done
    except BrokenProcessPool:
        raise DataError("a worker process died (out of memory, or killed)", hint="try fewer --jobs") from None
    finally:
        for future in pending:
            future.cancel()
        pool.shutdown(wait=True, cancel_futures=True)


def _attempt(function: Callable[[Item], Value], item: Item) -> Outcome[Item, Value]:
    try:
        return Outcome(item, function(item))
    except DataError as error:
        return Outcome(item, None, error.message)


def _work(function: Callable[[Item], Value], chunk: list[Item]) -> list[Outcome[Item, Value]]:
    return [_attempt(function, item) for item in chunk]


def _chunked(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        yield chunk


_worker_limits: Any = None


def _start_worker() -> None:
    """One library thread a process (two processes of two threads are slower), and Ctrl-C is the parent's affair."""
    global _worker_limits  # noqa: PLW0603
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker_limits = _one_thread()


def _one_thread() -> Any:
    import numpy as np  # noqa: F401  (its BLAS must be loaded to be limited)
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1)
