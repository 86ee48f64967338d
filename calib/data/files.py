"""Result files: canonical JSON, written atomically, never over an existing file without being told.

Conventions:
    JSON is UTF-8, two-space indented, keys in the order given, floats as Python's shortest round-trip text, so that
    equal results are equal bytes. NaN and Infinity are errors here, not silent nulls.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from calib.errors import DataError, UsageError, missing
from calib.syncing import sync_folder

__all__ = ["atomic_writer", "canonical_json", "digest", "ensure_writable", "read_json", "write_json", "write_run_facts"]


def canonical_json(value: Any) -> bytes:
    """One line, sorted keys, no spaces: the form that identities are hashed from."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: Any, length: int = 16) -> str:
    """First ``length`` hexadecimal digits of the SHA-256 of bytes, or of a value's canonical JSON."""
    data = value if isinstance(value, bytes) else canonical_json(value)
    return hashlib.sha256(data).hexdigest()[:length]


def ensure_writable(path: Path, *, force: bool) -> None:
    """Fail before the work, not after it, if ``path`` exists or its folder cannot be made.

    Raises:
        UsageError: the file exists and ``force`` is false, or it is a folder.
        DataError: the folder cannot be made.
    """
    if str(path) == "-":
        raise UsageError(
            "-o - is no file, and this output is not written to stdout", hint="for JSON on stdout: --json -"
        )
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:  # a name too long, say
        raise DataError(f"cannot write {str(path)[:80]}: {error.strerror or error}") from None
    if is_folder:
        raise UsageError(f"{path} is a folder; the output must be a file")
    if exists and not force:
        raise UsageError(f"{path} exists and is not overwritten", hint="choose another -o, or give --force")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {path.parent}: {error.strerror or error}") from None


@contextlib.contextmanager
def atomic_writer(path: Path, *, force: bool = False) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path`` that becomes ``path`` when the block ends well, else vanishes.

    The data is on disk (fsync) before the name is (rename), so a crash leaves the old file or the new one, never
    half of either.

    Raises:
        UsageError: ``path`` exists and ``force`` is false.
        DataError: the disk is full, or not writable.
    """
    ensure_writable(path, force=force)
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "wb", dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".part", delete=False
        ) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        if force:
            temporary.replace(path)
        else:
            _publish(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> None:
    """Rename, but lose to a file that appeared meanwhile (rename alone would silently replace it)."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise UsageError(
            f"{path} appeared while it was being made and is not overwritten", hint="choose another -o, or give --force"
        ) from None
    except OSError:  # a file system without hard links
        temporary.replace(path)


def write_json(path: Path, value: Any, *, force: bool = False) -> None:
    """Write ``value`` as readable JSON, atomically.

    Raises:
        UsageError: the file exists and ``force`` is false.
        DataError: it cannot be written, or a number is not finite (a bug upstream, caught before it reaches a reader).
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise DataError(f"{path}: not written, a number is not finite: {error}") from None
    with atomic_writer(path, force=force) as file:
        file.write(_utf8(text, value) + b"\n")


def _utf8(text: str, value: Any) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # a file name that is no UTF-8
        return json.dumps(value, indent=2, allow_nan=False).encode()


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: missing, unreadable, or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise missing(path, what="file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from None


def write_run_facts(output: Path, facts: Mapping[str, Any]) -> None:
    """Record what cannot change the result (time, host, paths, jobs) in ``run.json`` beside ``output``.

    One ``run.json`` holds one entry for each result file of its folder. A ``run.json`` that is not calib's own is
    left alone.
    """
    path = output.parent / "run.json"
    entries: dict[str, Any] = {}
    if path.exists():
        try:
            found = read_json(path)
        except DataError:
            return
        if not isinstance(found, dict) or found.get("schema") != "calib/run/1":
            return
        entries = dict(found["outputs"]) if isinstance(found.get("outputs"), dict) else {}
    entries[output.name] = dict(facts)
    write_json(path, {"schema": "calib/run/1", "outputs": dict(sorted(entries.items()))}, force=True)
