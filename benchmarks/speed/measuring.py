"""One command as a whole process: wall time, CPU time, and the memory of all its processes together.

Conventions:
    Memory is PSS (each shared page divided among the processes that share it), summed over the process and its
    descendants, sampled while it runs; the largest sum counts. Times are in s, memory in MB of 10^6 bytes.
"""

from __future__ import annotations

import glob
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Measured", "run"]

_SAMPLE = 0.1  # s


@dataclass(frozen=True)
class Measured:
    """What a command took.

    Args:
        wall: s from start to end.
        cpu: s of user and system time, children included.
        memory: MB; None: not sampled.
        status: exit status.
        tail: the end of what it said on stderr.
    """

    wall: float
    cpu: float
    memory: float | None
    status: int
    tail: str


def run(command: Sequence[str], environment: Mapping[str, str], *, memory: bool = False) -> Measured:
    """Run a command; with ``memory``, sample that too (which costs a little time: such runs are not timed)."""
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=said)
        ended = threading.Event()
        peak = [0.0]
        sampler = threading.Thread(target=_sample, args=(process.pid, ended, peak))
        if memory:
            sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        ended.set()
        if memory:
            sampler.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        tail = said.read()[-2000:].decode("utf-8", "replace")
    return Measured(wall, usage.ru_utime + usage.ru_stime, peak[0] if memory else None, process.returncode, tail)


def _sample(root: int, ended: threading.Event, peak: list[float]) -> None:
    while not ended.wait(_SAMPLE):
        peak[0] = max(peak[0], sum(_pss(pid) for pid in _family(root)) / 1e6)


def _family(root: int) -> list[int]:
    """The process and its descendants."""
    out, waiting = [], [root]
    while waiting:
        out.append(waiting.pop())
        for task in glob.glob(f"/proc/{out[-1]}/task/*/children"):  # noqa: PTH207 - ten times a second
            try:
                with open(task) as file:
                    waiting += [int(word) for word in file.read().split()]
            except OSError:
                continue
    return out


def _pss(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0.0)
