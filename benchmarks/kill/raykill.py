"""Kill one Ray worker in the middle of a run (used by ``run.py`` and by the tests)."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import calib.commands.statswork
from calib.run.ledger import Ledger


def descendants(pid: int) -> list[int]:
    """Processes below one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            if parent == pid:
                found += [int(entry.name), *descendants(int(entry.name))]
    return found


def actors() -> list[int]:
    """Ray workers below this process that are calib's actors."""
    found = []
    for pid in descendants(os.getpid()):
        try:
            name = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if name.startswith(b"ray::Actor"):
            found.append(pid)
    return found


def kill_one_worker(after: int = 3, items: int = 1) -> None:
    """SIGKILL one of them when so many parts of the corpus, of so many items, are in the ledger."""
    calib.commands.statswork._MOST = items  # noqa: SLF001
    record = Ledger.record
    count = 0

    def recorded(self: Ledger, key: str, value: Any) -> None:
        nonlocal count
        record(self, key, value)
        count += 1
        if count == after:
            os.kill(actors()[0], signal.SIGKILL)
            sys.stderr.write("killed a Ray worker\n")

    Ledger.record = recorded  # type: ignore[method-assign]
