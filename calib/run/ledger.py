"""An append-only record of what a run has finished, so that a killed run goes on where it stopped.

Every line is ``sha256[:16] TAB json``. A torn last line (power cut, full disk) fails its checksum and is dropped; what
it recorded is done again. The first line is the run's identity: another run's ledger is refused, with the difference.
Two processes on one ledger are kept apart by a lock that the system drops when its holder dies.

Conventions:
    A line is with the system before the next item starts: a process that is killed loses nothing that was recorded.
    It is on the disk (fsync) at once, or with ``sync_every`` at most so many seconds later: that is what a power cut
    can lose. A line that does not fit on a full disk is taken back whole, so that the ledger stays good.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from calib.errors import DataError, UsageError
from calib.syncing import sync_folder

__all__ = ["Ledger"]

_SETTINGS = "(settings)"
_BLOCK = 1 << 20  # bytes read at once
_LOCK_WAIT = 1.0  # s: what forked children of a killed holder need to let go


class Ledger:
    """The ledger of one run; a context manager.

    Args:
        path: the file.
        identity: everything that can change the result; a ledger with another identity is refused.
        fresh: start again: an existing ledger is discarded.
        replace: another run's ledger is discarded instead of refused.
        what: what the ledger is of, for messages; default: its folder.
        settings: what may be otherwise in another run, but has to stay what it is once the ledger is begun.
        keep: what is held in memory of a value; default: all of it. `value` reads the whole from the file.
        sync_every: seconds between two fsyncs; 0: after every record.

    Attributes:
        finished: key to what is held of its value. A key that is recorded again has its last value.
        settings: the given ones, or those that the ledger was begun with.
        full: a line could not be written.

    Raises:
        UsageError: the ledger belongs to another run (the differing entries are listed), or another process holds it.
        DataError: it cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        identity: dict[str, Any],
        *,
        fresh: bool = False,
        replace: bool = False,
        what: str | None = None,
        settings: Mapping[str, Any] | None = None,
        keep: Callable[[Any], Any] | None = None,
        sync_every: float = 0.0,
    ) -> None:
        self.path = path
        self.finished: dict[str, Any] = {}
        self.settings: dict[str, Any] = dict(settings or {})
        self.full = False
        self._places: dict[str, tuple[int, int]] = {}
        self._what = str(path.parent) if what is None else what
        self._keep = keep
        self._sync_every = sync_every
        self._synced = time.monotonic()
        self._unsynced = False
        self._file = -1
        try:
            self._open()
            if fresh:
                os.ftruncate(self._file, 0)
            self._end = 0
            self._read(identity, replace=replace)
        except OSError as error:
            self.close()
            raise DataError(
                f"cannot open the ledger {path}: {error.strerror or error}",
                hint="it lies beside the output: choose another -o",
            ) from None
        except BaseException:
            if self._file >= 0 and not os.fstat(self._file).st_size:
                self.remove()  # not even begun
            self.close()
            raise

    # --- opening -------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Open and lock; if the file was removed meanwhile (its run has ended), another one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            _open_here.add(self)
            self._lock()
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(self._file), self.path.stat()):
                    return
            self.close()

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:
            # Not on Windows; there the second process's writes would interleave, and be caught by the checksums.
            return
        until = time.monotonic() + _LOCK_WAIT
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() < until:
                    time.sleep(0.05)
                    continue
                raise UsageError(
                    f"another process is working on {self._what}", hint="wait for it, or choose another -o"
                ) from None
            return

    def _read(self, identity: dict[str, Any], *, replace: bool) -> None:
        header: dict[str, Any] | None = None
        given = self.settings
        for start, line in self._lines():
            record = _parse(line)
            if record is None or (header is None and not isinstance(record, dict)):
                break
            if header is None:
                header = record
                self.settings = header.pop(_SETTINGS, given)
                try:
                    self._compare(header, identity)
                except UsageError:
                    if not replace:
                        raise
                    header, self.settings = None, given
                    break
            else:
                self._note(record["key"], record["value"], start, len(line))
            self._end = start + len(line)
        os.ftruncate(self._file, self._end)
        if header is None:
            self._append({**identity, _SETTINGS: self.settings} if self.settings else identity)
            sync_folder(self.path.parent)

    def _compare(self, found: dict[str, Any], identity: dict[str, Any]) -> None:
        # As JSON has them: a tuple comes back as a list.
        mine = json.loads(json.dumps(identity))
        if found == mine:
            return
        listing = "; ".join(
            f"{key}: {found.get(key)!r} then, {mine.get(key)!r} now"
            for key in sorted({*mine, *found})
            if found.get(key) != mine.get(key)
        )
        raise UsageError(
            f"{self._what} holds another run: {listing}", hint="choose another -o, or discard it with --fresh"
        )

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Whole lines and the byte that each starts at."""
        start, rest = 0, b""
        os.lseek(self._file, 0, os.SEEK_SET)
        while block := os.read(self._file, _BLOCK):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield start, line + b"\n"
                start += len(line) + 1

    # --- using ---------------------------------------------------------------------------------------------------------

    def record(self, key: str, value: Any) -> None:
        """Note that ``key`` is done.

        Raises:
            DataError: it cannot be written (a full disk); the ledger is as it was before.
        """
        start = self._end
        self._note(key, value, start, self._append({"key": key, "value": value}))

    def value(self, key: str) -> Any:
        """The whole value of a finished key, read again.

        Raises:
            DataError: the file was altered meanwhile.
        """
        start, size = self._places[key]
        os.lseek(self._file, start, os.SEEK_SET)
        record = _parse(os.read(self._file, size))
        if record is None or record["key"] != key:
            raise DataError(f"the ledger {self.path} was altered while it was being used", hint="start again with --fresh")  # fmt: skip
        return record["value"]

    def _note(self, key: str, value: Any, start: int, size: int) -> None:
        self.finished[key] = value if self._keep is None else self._keep(value)
        self._places[key] = (start, size)

    def _append(self, record: Any) -> int:
        # Keys stay in their order: what is adopted after a resume must be the same bytes as what was written.
        text = json.dumps(record, ensure_ascii=True, allow_nan=False).encode()
        line = hashlib.sha256(text).hexdigest()[:16].encode() + b"\t" + text + b"\n"
        try:
            os.lseek(self._file, self._end, os.SEEK_SET)
            left = memoryview(line)
            while left:
                left = left[os.write(self._file, left) :]
            self._unsynced = True
            if time.monotonic() - self._synced >= self._sync_every:
                self._sync()
        except OSError as error:
            self.full = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise DataError(
                f"cannot write the ledger {self.path}: {error.strerror or error}",
                hint="what was finished before is kept: make room, and run the same command again",
            ) from error
        self._end += len(line)
        return len(line)

    def _sync(self) -> None:
        os.fsync(self._file)
        self._synced, self._unsynced = time.monotonic(), False

    def remove(self) -> None:
        """The run is complete: delete the ledger."""
        self.path.unlink(missing_ok=True)
        self._unsynced = False

    def close(self) -> None:
        """Let go of the file and of the lock."""
        if self._file < 0:
            return
        if self._unsynced:
            with contextlib.suppress(OSError):
                self._sync()
        _open_here.discard(self)
        with contextlib.suppress(OSError):
            os.close(self._file)
        self._file = -1

    def __enter__(self) -> Ledger:  # noqa: PYI034 - typing.Self is of Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def forget(self) -> None:
        """In a forked child: the file is the parent's. Left open here, it would stay locked after the parent's death."""
        with contextlib.suppress(OSError):
            os.close(self._file)
        self._file = -1


_open_here: weakref.WeakSet[Ledger] = weakref.WeakSet()


def _forget_all() -> None:
    for ledger in list(_open_here):
        ledger.forget()
    _open_here.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _parse(line: bytes) -> Any:
    """The record of a line, or None for a torn or altered one."""
    checksum, tab, text = line.rstrip(b"\n").partition(b"\t")
    if not tab or not line.endswith(b"\n") or hashlib.sha256(text).hexdigest()[:16].encode() != checksum:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None
