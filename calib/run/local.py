"""Worker processes of this machine: one library thread each, forked where that is safe, gone when the driver is gone.

A worker holds one end of a pipe. It ignores Ctrl-C (the driver's affair), ends at SIGTERM, and ends by itself when the
other end of the pipe is closed, which the system does for a driver that was killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from calib.errors import CalibError
from calib.run.worker import Died, Failed, Reply, Task, Work, Worker

__all__ = ["LocalCrew", "can_fork", "cores", "picklable"]

_PATIENCE = 2.0  # s that a worker has to end after SIGTERM, before SIGKILL


class LocalCrew:
    """Processes on this machine.

    Args:
        work: what they do.
        size: how many, at most.
    """

    def __init__(self, work: Work[Any, Any], size: int) -> None:
        self.size = size
        self._work = work
        forked = work.forks and can_fork()
        self._context: Any = multiprocessing.get_context("fork" if forked else "spawn")
        self._forked = forked
        self._members: dict[Connection, BaseProcess] = {}

    def hire(self) -> Connection:
        """Start a worker; returns its handle."""
        mine: Connection
        mine, theirs = self._context.Pipe()
        # A forked child has copies of everything open here: with the other workers' pipes left open in it, they would
        # not notice that the driver is gone.
        inherited = [mine, *self._members] if self._forked else []
        process = self._context.Process(target=_main, args=(self._work, theirs, inherited), daemon=True, name="calib-worker")  # fmt: skip
        with _signals_held():
            process.start()
        theirs.close()
        self._members[mine] = process
        return mine

    @staticmethod
    def send(member: Connection, task: Task) -> None:
        """Give a worker a task; a dead one is noticed by `wait`."""
        with contextlib.suppress(OSError):
            member.send(task)

    def wait(self) -> list[tuple[Connection, Reply | Died]]:
        """Wait for replies, or for deaths; every reply that a worker sent comes before its death."""
        out: list[tuple[Connection, Reply | Died]] = []
        for member in wait(list(self._members)):
            assert isinstance(member, Connection)
            try:
                out.append((member, member.recv()))
            except (EOFError, OSError, pickle.UnpicklingError):
                out.append((member, Died(self._bury(member))))
        return out

    def _bury(self, member: Connection) -> str:
        process = self._members.pop(member)
        member.close()
        process.join(_PATIENCE)
        code = process.exitcode
        if code is None:  # its pipe is closed, but it lives
            process.kill()
            process.join()
            return "stopped answering"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"ended with code {code}"

    def close(self) -> None:
        """End all of them; none is left when this returns."""
        members, self._members = self._members, {}
        for member in members:
            member.close()
        self._end(list(members.values()))

    @staticmethod
    def _end(processes: Sequence[BaseProcess]) -> None:
        for process in processes:
            if process.is_alive():
                process.terminate()
        for process in processes:
            process.join(_PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """No Ctrl-C or SIGTERM between the fork and the child's own handlers."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _main(work: Work[Any, Any], pipe: Connection, inherited: Sequence[Connection]) -> None:
    """The life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    for other in inherited:
        other.close()
    worker = Worker(work)
    with contextlib.suppress(EOFError, OSError):  # the driver is done, or gone
        while True:
            reply = worker(pipe.recv())
            pipe.send(picklable(reply))


def picklable(reply: Reply) -> Reply:
    """An error that cannot cross to the driver goes as its text."""
    if isinstance(reply, Failed) and not isinstance(reply.error, CalibError):
        try:
            pickle.loads(pickle.dumps(reply.error))  # noqa: S301 - our own bytes
        except Exception:  # noqa: BLE001 - whatever its __reduce__ does
            return Failed(reply.task, RuntimeError(f"{type(reply.error).__name__}: {reply.error}"))
    return reply


def can_fork() -> bool:
    """Whether workers are copies of this process, and so need no pickled work; elsewhere forks are not safe."""
    return sys.platform.startswith("linux")


def cores() -> int:
    """Processors that this process may use: those it is bound to, less where a container has a quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
        quota, period = file.read().split()
        if quota != "max":
            count = min(count, max(1, round(int(quota) / int(period))))
    return max(1, count)
