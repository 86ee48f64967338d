"""Workers that are Ray actors: on an existing cluster, or on a Ray started on this machine for the run.

Conventions:
    Work, tasks and values cross as pickles of this version of calib, so an actor first says what it runs: another
    version of calib, numpy or scipy is an error and not a mixed result. An actor that is lost is replaced by the
    driver, as a process of this machine is. Ray logs to its own files, never to the terminal.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from calib import __version__
from calib.errors import UsageError
from calib.run.local import cores, picklable
from calib.run.worker import Died, Ready, Reply, Task, Work, Worker

__all__ = ["RayCrew"]

_START = 90.0  # s that a cluster has to start the first actor
_KNOCK = 10.0  # s that a cluster's address has to answer
_OBJECTS = 80 << 20  # bytes of Ray's object store, which is hardly used (its smallest is 75 MB)


class Actor:
    """What runs in a Ray worker.

    Args:
        packed: the pickled work.
    """

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._worker: Worker[Any, Any] | None = None

    def about(self) -> dict[str, str]:
        """What is installed here."""
        found = _about()
        try:
            return found | {"the work": "readable"} | self._work().about()
        except Exception as error:  # noqa: BLE001 - whatever another version makes of it
            return found | {"the work": f"unreadable ({type(error).__name__}: {error})"}

    def do(self, task: Task) -> Reply:
        """Do one task."""
        if self._worker is None:
            self._worker = Worker(self._work())
        return picklable(self._worker(task))

    def _work(self) -> Work[Any, Any]:
        work: Work[Any, Any] = pickle.loads(self._packed)  # noqa: S301 - the driver's own bytes
        return work


class _Member:
    """An actor, and what it was asked, oldest first."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.asked: deque[Any] = deque([actor.about.remote()])
        self.ready = False


def _no_ray(address: str, why: str) -> UsageError:
    return UsageError(
        f"no Ray at {address}: {why}",
        hint="start one with ray start --head (one with a token wants RAY_AUTH_MODE=token and RAY_AUTH_TOKEN here, too), or leave out --ray-address: then one is started on this machine",
    )


def _knock(address: str) -> None:
    """Whether anybody listens there: Ray itself asks for many minutes, and says nothing meanwhile.

    Raises:
        UsageError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # "local", "auto", or what Ray understands
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK).close()
    except (OSError, OverflowError) as error:
        raise _no_ray(address, getattr(error, "strerror", None) or str(error)) from None


class RayCrew:
    """Actors.

    Args:
        work: what they do.
        size: how many; None: one for each CPU of the cluster.
        address: of the cluster; None: the one of RAY_ADDRESS, else one is started on this machine.

    Raises:
        UsageError: Ray is not installed, the cluster cannot be reached, starts no actor, or runs another calib.
    """

    def __init__(self, work: Work[Any, Any], size: int | None, address: str | None) -> None:
        # Before it is imported: no statistics of use are sent, and nothing is said about that.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError:
            raise UsageError(
                "--engine ray needs the package ray, which is not installed", hint='pip install "mel-calib[ray]"'
            ) from None
        self._ray: Any = ray
        self._members: list[_Member] = []
        self._anybody = False  # an actor was ready
        self._here = _about() | {"the work": "readable"} | work.about()
        self._ours = not ray.is_initialized()
        _keep_streams()
        if self._ours:
            address = address or os.environ.get("RAY_ADDRESS") or "local"
            try:
                _knock(address)
                self._connect(address, size)
            except BaseException:
                _give_streams_back()
                raise
        self.size = size or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        # Ray's pickle takes closures too, which the inputs of `calib convert` are.
        dumps: Any = ray.cloudpickle.dumps
        self._packed = ray.put(dumps(work))
        # No restarts: a fresh actor would be asked again what its dead one died of.
        self._actor = ray.remote(Actor).options(num_cpus=1, num_gpus=work.gpus, max_restarts=0, max_task_retries=0)

    def _connect(self, address: str, size: int | None) -> None:
        local = {"num_cpus": size or cores(), "object_store_memory": _OBJECTS, "include_dashboard": False}
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with _no_stderr():
                self._ray.init(
                    address=address, log_to_driver=False, logging_level="error", **(local if address == "local" else {})
                )
        except Exception as error:
            if not isinstance(error, (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError)):
                raise
            raise _no_ray(address, (str(error).strip().splitlines() or [type(error).__name__])[0]) from None
        finally:
            with contextlib.suppress(ValueError):  # not in the main thread
                for number, handler in handlers.items():
                    signal.signal(number, handler)

    def hire(self) -> None:
        """Ask for an actor; `wait` says when it is there."""
        self._members.append(_Member(self._actor.remote(self._packed)))

    @staticmethod
    def send(member: _Member, task: Task) -> None:
        """Give an actor a task."""
        member.asked.append(member.actor.do.remote(task))

    def wait(self) -> Sequence[tuple[_Member, Reply | Died | Ready]]:
        """Wait for replies, or for deaths.

        Raises:
            UsageError: no actor starts, or one runs something else than this process.
        """
        oldest = {member.asked[0]: member for member in self._members if member.asked}
        found, _ = self._ray.wait(list(oldest), timeout=None if self._anybody else _START)
        if not found:
            total, free = (all_of().get("CPU", 0) for all_of in (self._ray.cluster_resources, self._ray.available_resources))  # fmt: skip
            raise UsageError(
                f"Ray started no worker within {_START:g} s: {total:g} CPUs, {free:g} of them free", hint="--jobs says how many are wanted; ray status says what others hold"
            )  # fmt: skip
        found, _ = self._ray.wait(list(oldest), num_returns=len(oldest), timeout=0)
        return [(oldest[reference], self._answer(oldest[reference])) for reference in found]

    def _answer(self, member: _Member) -> Reply | Died | Ready:
        try:
            answer = self._ray.get(member.asked.popleft())
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause or error from None
        except self._ray.exceptions.RayError as error:
            self._members.remove(member)
            text = str(error)
            if not member.ready and ("ModuleNotFoundError" in text or "No module named" in text):
                missing = next((line.strip() for line in text.splitlines() if "No module named" in line), text)
                raise UsageError(
                    f"the Ray workers cannot import calib: {missing}",
                    hint=f"install mel-calib {__version__} on every node of the cluster",
                ) from None
            return Died("its Ray worker was lost")
        if not member.ready:
            self._check(answer)
            member.ready = self._anybody = True
            return Ready()
        assert isinstance(answer, Reply)
        return answer

    def _check(self, theirs: dict[str, str]) -> None:
        listing = [f"{name} {theirs.get(name)} there, {mine} here" for name, mine in self._here.items() if theirs.get(name) != mine]  # fmt: skip
        if listing:
            raise UsageError(
                f"the Ray workers run something else: {'; '.join(listing)}",
                hint="install the same versions on every node, or start this command in the workers' environment",
            )

    def close(self) -> None:
        """End all actors, and the Ray that was started or joined for them."""
        for member in self._members:
            with contextlib.suppress(Exception):
                self._ray.kill(member.actor)
        self._members.clear()
        if self._ours:
            self._ray.shutdown()
        _give_streams_back()


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Nothing reaches stderr: the C++ part of Ray writes there while it looks for a cluster, twice a second."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class _Own(io.TextIOBase):
    """A stream that only the thread it was made in may write to: Ray's threads print what befell its workers."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self._owner = stream, threading.get_ident()

    def write(self, text: str) -> int:
        return self.stream.write(text) if threading.get_ident() == self._owner else len(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding


def _keep_streams() -> None:
    sys.stdout, sys.stderr = _Own(sys.stdout), _Own(sys.stderr)


def _give_streams_back() -> None:
    if isinstance(sys.stdout, _Own):
        sys.stdout = sys.stdout.stream
    if isinstance(sys.stderr, _Own):
        sys.stderr = sys.stderr.stream


def _about() -> dict[str, str]:
    """What has to be the same everywhere for the same bytes: versions, and calib's own code."""
    import numpy as np
    import scipy

    code = hashlib.sha256()
    package = Path(__file__).resolve().parent.parent
    for path in sorted(package.rglob("*.py")):
        code.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return {
        "calib": __version__,
        "calib's code": code.hexdigest()[:12],
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "Python": ".".join(map(str, sys.version_info[:2])),
    }
