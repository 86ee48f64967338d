"""What happens inside a worker, local or Ray's: it makes its own pass over the units and does those it is told to do.

Conventions:
    A `Task` goes in, a `Reply` comes out, in the order of the tasks. Tasks name a unit by its number; the unit itself
    is never sent, because every worker iterates over `Work.units` itself. A number that lies behind the worker's place
    starts a new pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from calib.errors import DataError

__all__ = ["Died", "Ended", "Failed", "Finished", "Ready", "Reply", "Split", "Task", "Work", "Worker", "one_thread"]

Unit = TypeVar("Unit")
Value = TypeVar("Value")


class Work(Generic[Unit, Value]):
    """What is to be done, cut into units; small and picklable (it goes to every worker once).

    Subclasses give `units` and `start`; the rest is for units that kill their worker.

    Attributes:
        forks: local workers may be forked from this process (Linux). False where the function uses what a fork breaks:
            torch's threads, CUDA. They are then started as fresh interpreters, which takes as long as the imports.
        threads: library threads (BLAS, OpenMP) of a worker; None leaves them alone.
        gpus: of a Ray worker.
    """

    forks: bool = True
    threads: int | None = 1
    gpus: float = 0.0

    def about(self) -> dict[str, str]:
        """What has to be the same in every Ray worker for the same bytes, beside versions: name to value, found there."""
        return {}

    def units(self) -> Iterable[Unit]:
        """The units, lazily, the same ones in the same order at every call and in every process."""
        raise NotImplementedError

    def start(self) -> Callable[[Unit], Value]:
        """Called once in each worker: open models, set seeds. The value of a unit must depend on nothing but the unit."""
        raise NotImplementedError

    def parts(self, unit: Unit) -> Sequence[Unit]:
        """Smaller units that a unit which killed its worker twice is tried in; empty: it cannot be cut."""
        del unit
        return ()

    def join(self, values: Sequence[Value]) -> Value:
        """The value of a unit from those of its parts, in their order."""
        raise NotImplementedError

    def lost(self, unit: Unit, reason: str) -> Value:
        """The value of a unit that kills every worker (one whose items are all skipped, with the reason).

        Raises:
            DataError: always, unless a subclass knows better.
        """
        del unit
        raise DataError(reason, hint="try fewer --jobs")


@dataclass(frozen=True)
class Task:
    """Do unit ``index``, or its part ``part``.

    Args:
        index: number of the unit.
        part: number of its part; None: the whole unit.
        split: only say how many parts it has.
        reason: it is given up: return `Work.lost` for this reason.
        unit: the unit itself, where there is only one pass over the items and the driver makes it.
    """

    index: int
    part: int | None = None
    split: bool = False
    reason: str | None = None
    unit: Any = None


@dataclass(frozen=True)
class Finished:
    """The value of a task."""

    task: Task
    value: Any


@dataclass(frozen=True)
class Split:
    """How many parts a unit has (0: it cannot be cut)."""

    task: Task
    parts: int


@dataclass(frozen=True)
class Ended:
    """There is no such unit: there are ``total``."""

    task: Task
    total: int


@dataclass(frozen=True)
class Failed:
    """The task raised: the run ends with this error."""

    task: Task
    error: BaseException


@dataclass(frozen=True)
class Died:
    """A worker is gone; ``how`` in words: ``killed by SIGKILL``."""

    how: str


@dataclass(frozen=True)
class Ready:
    """A worker is there, and may be given tasks."""


Reply = Finished | Split | Ended | Failed


class Worker(Generic[Unit, Value]):
    """Does tasks of one `Work`.

    Args:
        work: what is done; `Work.start` is called at the first task.
    """

    def __init__(self, work: Work[Unit, Value]) -> None:
        self._work = work
        self._function: Callable[[Unit], Value] | None = None
        self._limits: Any = None
        self._pass: Iterator[Unit] | None = None
        self._next = 0

    def __call__(self, task: Task) -> Reply:
        """Do one task; what it raises comes back as `Failed`."""
        try:
            return self._do(task)
        except Exception as error:  # noqa: BLE001 - it is raised again in the driver
            return Failed(task, error)

    def _do(self, task: Task) -> Reply:
        unit: Unit
        if task.unit is None:
            try:
                unit = self._find(task.index)
            except StopIteration:
                return Ended(task, self._next)
        else:
            unit = task.unit
        if task.split:
            return Split(task, len(self._work.parts(unit)))
        if task.part is not None:
            unit = self._work.parts(unit)[task.part]
        if task.reason is not None:
            return Finished(task, self._work.lost(unit, task.reason))
        if self._function is None:
            if self._work.threads is not None:
                self._limits = one_thread(self._work.threads)
            self._function = self._work.start()
        return Finished(task, self._function(unit))

    def _find(self, index: int) -> Unit:
        if self._pass is None or index < self._next:
            self._pass, self._next = iter(self._work.units()), 0
        for unit in itertools.islice(self._pass, index - self._next + 1):
            self._next += 1
            if self._next > index:
                return unit
        raise StopIteration


def one_thread(count: int = 1) -> Any:
    """Limit the threads of numpy's libraries; hold on to what this returns for as long as that is to last."""
    import numpy as np  # noqa: F401  (its BLAS must be loaded to be limited)
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=count)
