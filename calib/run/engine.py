"""One function over a corpus: in this process, in several that each use one library thread, or on Ray. The same values.

Data flow::

    run_units:  driver ── numbers of units ──> workers, each with its own pass over Work.units ── values ──> driver
    map_corpus: driver ── items ──> workers ── values ──> driver, in the order of the corpus

Conventions:
    Workers pull: each has two tasks at a time, so that it never waits and nothing piles up; memory does not grow with
    the corpus. Values arrive in any order and must be merged so that the order does not matter. A worker that dies
    (out of memory, killed) is replaced and what it had is done again; a unit that kills two workers is done part by
    part (`Work.parts`), and a part that kills two more is given up with the reason (`Work.lost`).
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter, deque
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from calib.errors import DataError, UsageError
from calib.run.local import LocalCrew, cores
from calib.run.worker import Died, Ended, Failed, Finished, Ready, Reply, Split, Task, Work, one_thread

__all__ = ["ENGINES", "EngineConfig", "Outcome", "Skipped", "Work", "map_corpus", "resolve_jobs", "run_units"]

Item = TypeVar("Item")
Unit = TypeVar("Unit")
Value = TypeVar("Value")

ENGINES = ("local", "ray")

_CHUNK = 8  # items that `map_corpus` sends at once
_IN_FLIGHT = 2  # tasks of a worker: one that it does, one that waits for it
_AHEAD = 8  # units a worker that `map_corpus` may be ahead of the slowest
_TRIES = 2  # workers that a unit, and then a part of it, may kill
_DEATHS = 8  # deaths on end without any value: not the units' fault


@dataclass(frozen=True)
class EngineConfig:
    """Where the work is done.

    Args:
        kind: "local" or "ray".
        jobs: worker processes (local; 1 is this process itself) or actors (Ray; None: one for each of the cluster's CPUs).
        address: of a Ray cluster; None: the one that the environment names, else one on this machine.

    Raises:
        UsageError: another kind, or an address without Ray.
    """

    kind: str = "local"
    jobs: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in ENGINES:
            raise UsageError(f"--engine is {self.kind!r}; it must be one of {', '.join(ENGINES)}")
        if self.address is not None and self.kind != "ray":
            raise UsageError(f"--ray-address {self.address} needs --engine ray")

    def sized(self, n_items: int) -> EngineConfig:
        """The same with a number of local processes that fits so many items, where none is given."""
        if self.kind != "local":
            return self
        return EngineConfig(self.kind, resolve_jobs(self.jobs, n_items), self.address)


@dataclass(frozen=True)
class Outcome(Generic[Item, Value]):
    """One item's result: ``value``, or the ``reason`` why it was skipped; ``lost`` if it killed its workers."""

    item: Item
    value: Value | None
    reason: str | None = None
    lost: bool = False


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
    return max(1, min(cores(), n_items // 16))


def run_units(
    work: Work[Unit, Value], config: EngineConfig, *, done: Container[int] = frozenset()
) -> Generator[tuple[int, Value], None, None]:
    """The value of every unit, in the order they are finished in.

    Args:
        work: see `Work`.
        config: where; without ``jobs``, a local run uses every core.
        done: numbers of units that are not wanted.

    Raises:
        UsageError: Ray is not installed, or its workers see another calib.
        DataError: a unit killed its workers and is not given up, or workers die whatever they do.
        CalibError: whatever the function raised.
    """
    if config.kind == "local" and (config.jobs or cores()) <= 1:
        with contextlib.nullcontext() if work.threads is None else one_thread(work.threads):
            function = work.start()
            for index, unit in enumerate(work.units()):
                if index not in done:
                    yield index, function(unit)
        return
    tasks = (Task(index) for index in itertools.count() if index not in done)
    yield from _drive(work, config, tasks)


def map_corpus(
    function: Callable[[Item], Value], items: Iterable[Item], *, jobs: int, engine: EngineConfig | None = None
) -> Generator[Outcome[Item, Value], None, None]:
    """Apply ``function`` to every item, in order.

    Args:
        function: picklable when ``jobs > 1``; raises `DataError` for an item that must be skipped.
        items: the corpus; read lazily, once, by this process, which sends the items to the workers.
        jobs: processes; 1 runs here.
        engine: Ray, in place of processes of this machine; None: these.

    Raises:
        DataError: worker processes die whatever they do.
        UsageError: Ray is not installed, or its workers see another calib.
    """
    elsewhere = engine is not None and engine.kind != "local"
    if jobs <= 1 and not elsewhere:
        with one_thread():
            for item in items:
                yield _attempt(function, item)
        return
    work = _Mapped(function)
    lowest = 0  # every unit below it was yielded

    def tasks() -> Iterator[Task | None]:
        for index, chunk in enumerate(_chunked(items)):
            while index - lowest >= _AHEAD * jobs:
                yield None
            yield Task(index, unit=chunk)

    waiting: dict[int, list[Outcome[Item, Value]]] = {}
    config = engine if engine is not None and elsewhere else EngineConfig(jobs=jobs)
    for index, outcomes in _drive(work, config, tasks()):
        waiting[index] = outcomes
        while lowest in waiting:
            yield from waiting.pop(lowest)
            lowest += 1


@dataclass(frozen=True)
class _Mapped(Work[list[Any], list[Outcome[Any, Any]]]):
    """`map_corpus` as work: a unit is some items."""

    function: Callable[[Any], Any]

    def start(self) -> Callable[[list[Any]], list[Outcome[Any, Any]]]:
        return lambda items: [_attempt(self.function, item) for item in items]

    def parts(self, unit: list[Any]) -> Sequence[list[Any]]:
        return [[item] for item in unit]

    def join(self, values: Sequence[list[Outcome[Any, Any]]]) -> list[Outcome[Any, Any]]:
        return list(itertools.chain.from_iterable(values))

    def lost(self, unit: list[Any], reason: str) -> list[Outcome[Any, Any]]:
        return [Outcome(item, None, reason, lost=True) for item in unit]


def _attempt(function: Callable[[Item], Value], item: Item) -> Outcome[Item, Value]:
    try:
        return Outcome(item, function(item))
    except DataError as error:
        return Outcome(item, None, error.message)


def _chunked(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        yield chunk


class _Crew(Protocol):
    """Workers, wherever they are: see `LocalCrew`. `hire` returns one, or None if `wait` will say when it is there."""

    size: int

    def hire(self) -> Any: ...

    def send(self, member: Any, task: Task) -> None: ...

    def wait(self) -> Sequence[tuple[Any, Reply | Died | Ready]]: ...

    def close(self) -> None: ...


def _crew(work: Work[Any, Any], config: EngineConfig) -> _Crew:
    if config.kind == "ray":
        from calib.run.cluster import RayCrew

        return RayCrew(work, config.jobs, config.address)
    return LocalCrew(work, config.jobs or cores())


def _drive(work: Work[Any, Any], config: EngineConfig, tasks: Iterator[Task | None]) -> Iterator[tuple[int, Any]]:
    crew = _crew(work, config)
    try:
        yield from _Driver(work, crew, tasks).run()
    finally:
        crew.close()


class _Driver:
    """Hands tasks to workers and keeps the books of what died where.

    Args:
        work: to join the values of parts.
        crew: the workers.
        tasks: those of whole units in order; None: none at the moment.
    """

    def __init__(self, work: Work[Any, Any], crew: _Crew, tasks: Iterator[Task | None]) -> None:
        self._work, self._crew, self._tasks = work, crew, tasks
        self._again: deque[Task] = deque()  # to be done before any new unit
        self._hands: dict[Any, deque[Task]] = {}  # what each worker has
        self._more = True
        self._blamed: Counter[tuple[int, int | None]] = Counter()
        self._parts: dict[int, list[Any]] = {}  # values of the parts of a unit, as far as they are there
        self._deaths = 0  # on end, without a value in between
        self._worked = False  # whether any value was ever worked out: until then what is given up proves nothing

    def run(self) -> Iterator[tuple[int, Any]]:
        """All values."""
        first = list(itertools.islice(iter(self._next, None), self._crew.size))
        self._again.extend(first)
        for _ in first:
            self._hire()
        while True:
            self._refill()
            if not (self._again or self._more or any(self._hands.values())):
                return
            for member, reply in self._crew.wait():
                if isinstance(reply, Ready):
                    self._hands[member] = deque()
                elif isinstance(reply, Died):
                    self._mourn(member, reply.how)
                else:
                    self._hands[member].popleft()
                    if isinstance(reply, Finished):
                        self._worked = self._worked or reply.task.reason is None
                        if self._worked:
                            self._deaths = 0
                    found = self._take(reply)
                    if found is not None:
                        self._refill()  # the worker goes on while the value is merged
                        yield found

    def _hire(self) -> None:
        member = self._crew.hire()
        if member is not None:
            self._hands[member] = deque()

    def _next(self) -> Task | None:
        if self._again:
            return self._again.popleft()
        if not self._more:
            return None
        try:
            return next(self._tasks)
        except StopIteration:
            self._more = False
            return None

    def _refill(self) -> None:
        for depth in range(1, _IN_FLIGHT + 1):  # first one for everybody
            for member, hand in self._hands.items():
                if len(hand) < depth:
                    task = self._next()
                    if task is None:
                        return
                    hand.append(task)
                    self._crew.send(member, task)

    def _take(self, reply: Reply) -> tuple[int, Any] | None:
        """What a reply completes."""
        task = reply.task
        if isinstance(reply, Failed):
            raise reply.error
        if isinstance(reply, Ended):
            self._more = False
        elif isinstance(reply, Split):
            if reply.parts <= 1:
                self._again.append(Task(task.index, reason=task.reason, unit=task.unit))
            else:
                self._parts[task.index] = [None] * reply.parts
                self._again.extend(Task(task.index, part=k, unit=task.unit) for k in range(reply.parts))
        elif task.part is None:
            return task.index, reply.value
        else:
            values = self._parts[task.index]
            values[task.part] = reply
            if all(value is not None for value in values):
                del self._parts[task.index]
                return task.index, self._work.join([value.value for value in values])
        return None

    def _mourn(self, member: Any, how: str) -> None:
        """A worker died: its first task is to blame, the others were only in its hands."""
        hand = self._hands.pop(member, None)
        self._deaths += 1
        if self._deaths > _DEATHS:
            raise DataError(
                f"{self._deaths} worker processes on end died ({how}), whatever they did",
                hint="is there enough memory? try fewer --jobs",
            )
        if hand:
            self._again.extendleft([*list(hand)[:0:-1], self._verdict(hand[0], how)])
        if self._again or self._more:
            self._hire()

    def _verdict(self, task: Task, how: str) -> Task:
        """What is done about a task that its worker died of."""
        if task.split or task.reason is not None:
            return task  # nothing of the unit was touched
        self._blamed[task.index, task.part] += 1
        if self._blamed[task.index, task.part] < _TRIES:
            return task
        reason = f"its worker process died on it, twice ({how}: out of memory, or a bug in a library)"
        if task.part is None:
            return Task(task.index, split=True, reason=reason, unit=task.unit)
        return Task(task.index, part=task.part, reason=reason, unit=task.unit)
