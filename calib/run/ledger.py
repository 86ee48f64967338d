"""An append-only record of what a run has finished, so that a killed run goes on where it stopped.

Every line is ``sha256[:16] TAB json``. A torn last line (power cut, full disk) fails its checksum and is dropped; what
it recorded is done again. The first line is the run's identity: another run's ledger is refused, with the difference.
Two processes on one ledger are kept apart by a lock that the system drops when its holder dies. Each line is flushed
and fsynced before the next item starts: a power cut loses at most the items in flight.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from calib.errors import DataError, UsageError

__all__ = ["Ledger"]


class Ledger:
    """The ledger of one run; a context manager.

    Args:
        path: the file.
        identity: everything that can change the result; a ledger with another identity is refused.
        fresh: start again: an existing ledger is discarded.

    Attributes:
        finished: key to record of what is done.

    Raises:
        UsageError: the ledger belongs to another run (the differing entries are listed), or another process holds it.
        DataError: it cannot be read or written.
    """

    def __init__(self, path: Path, identity: dict[str, Any], *, fresh: bool = False) -> None:
        self.path = path
        self.finished: dict[str, Any] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("a+b")
        except OSError as error:
            raise DataError(f"cannot open the ledger {path}: {error.strerror or error}") from None
        try:
            self._lock()
            if fresh:
                self._file.truncate(0)
            self._read(identity)
        except BaseException:
            with contextlib.suppress(OSError):  # closing flushes, and fails again where the disk is full
                self._file.close()
            raise

    def _lock(self) -> None:
        try:
            import fcntl
        except (
            ImportError
        ):  # not on Windows; there the second process's writes would interleave, and be caught by the checksums
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"another process is working on {self.path.parent}", hint="wait for it, or choose another -o"
            ) from None

    def _read(self, identity: dict[str, Any]) -> None:
        self._file.seek(0)
        good = 0
        records = []
        for line in self._file:
            record = _parse(line)
            if record is None:
                break
            records.append(record)
            good += len(line)
        self._file.truncate(good)
        self._file.seek(0, os.SEEK_END)
        if not records:
            self._append(identity)
            return
        if records[0] != identity:
            found = records[0]
            keys = sorted({*identity, *found})
            listing = "; ".join(
                f"{key}: {found.get(key)!r} then, {identity.get(key)!r} now"
                for key in keys
                if found.get(key) != identity.get(key)
            )
            raise UsageError(
                f"{self.path.parent} holds another run: {listing}", hint="choose another -o, or discard it with --fresh"
            )
        self.finished = {record["key"]: record["value"] for record in records[1:]}

    def record(self, key: str, value: Any) -> None:
        """Note that ``key`` is done; on disk when this returns."""
        self._append({"key": key, "value": value})
        self.finished[key] = value

    def _append(self, record: Any) -> None:
        # Keys stay in their order: what is adopted after a resume must be the same bytes as what was written.
        text = json.dumps(record, ensure_ascii=True, allow_nan=False).encode()
        try:
            self._file.write(hashlib.sha256(text).hexdigest()[:16].encode() + b"\t" + text + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DataError(f"cannot write the ledger {self.path}: {error.strerror or error}") from error

    def remove(self) -> None:
        """The run is complete: delete the ledger."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Ledger:  # noqa: PYI034 - typing.Self is of Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


def _parse(line: bytes) -> Any:
    """The record of a line, or None for a torn or altered one."""
    checksum, tab, text = line.rstrip(b"\n").partition(b"\t")
    if not tab or not line.endswith(b"\n") or hashlib.sha256(text).hexdigest()[:16].encode() != checksum:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None
