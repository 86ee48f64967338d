"""calib's side of the bridge: start the interpreter, ask, check, and never wait for ever.

Data flow: call -> header and ``.npy`` bytes -> worker -> header and ``.npy`` bytes -> arrays. The wire format and its
version are those of `calib.models.bridge.worker`; nothing is pickled in either direction.

Conventions:
    What the plug-in raises becomes the error that it would have been in this process: PluginError with type, message
    and place; DataError and UsageError where its class has that name. The traceback over there is the ``__cause__``.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from calib.errors import CalibError, DataError, PluginError, UsageError
from calib.models.bridge import worker as wire
from calib.models.protocol import Utterance

__all__ = ["Bridged", "RemoteError", "find_python", "open_bridge"]

TIMEOUT_VARIABLE = "CALIB_MODEL_TIMEOUT"
_TIMEOUT = 600.0
_GRACE = 1.0
_CHUNK = 1 << 20
_KEPT_LINES = 40
_ERRORS: dict[str, type[CalibError]] = {"DataError": DataError, "UsageError": UsageError}


class RemoteError(Exception):
    """The traceback of the plug-in's own interpreter, as text."""


def find_python(name: str, flag: str = "--model-python") -> str:
    """The interpreter that ``flag`` means: a file, a virtual environment's folder, or a name on the PATH.

    Raises:
        UsageError: there is no such interpreter.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        for inner in ("bin/python", "bin/python3", "Scripts/python.exe"):
            if (path / inner).is_file():
                return str(path / inner)
        raise UsageError(f"{flag} {name}: a folder without bin/python", hint="a virtual environment, or a file")
    found = shutil.which(str(path)) or shutil.which(name)
    if found is None:
        what = "is not executable" if path.is_file() else "no such interpreter"
        raise UsageError(f"{flag} {name}: {what}", hint="for example /path/to/venv/bin/python")
    return found


def open_bridge(
    python: str,
    spec: str,
    checkpoint: str | None = None,
    device: str = "cpu",
    options: Mapping[str, Any] | None = None,
    *,
    timeout: float | None = None,
    flag: str = "--model-python",
) -> Bridged:
    """Make the plug-in ``spec`` in another interpreter.

    Args:
        python: see `find_python`.
        spec: ``path/to/file.py:factory`` or ``package.module:factory``; calib's own names are not known there.
        checkpoint: handed to the factory as it is.
        device: likewise.
        options: the factory's keyword arguments; plain values.
        timeout: seconds that loading, and each call, may take; None: 600, or what ``CALIB_MODEL_TIMEOUT`` says.
        flag: the option that named the interpreter, for messages.

    Raises:
        UsageError: no such interpreter, or a spec that cannot be found there.
        PluginError: the interpreter is too old, lacks numpy, or the plug-in failed.
    """
    if ":" not in spec and not spec.endswith(".py"):
        raise UsageError(
            f"{spec} is a name that calib's own interpreter knows; {flag} needs a file or a module",
            hint="path/to/file.py:factory",
        )
    path = spec if spec.endswith(".py") else spec.rpartition(":")[0]
    if path.endswith(".py") and not Path(path).expanduser().is_file():
        raise UsageError(f"{spec}: no such file", hint="path/to/file.py:factory")
    return Bridged(
        _Process(find_python(python, flag), spec, _limit(timeout), flag), str(Path(path).expanduser()) if path.endswith(".py") else path, spec, checkpoint, device, options or {},
    )  # fmt: skip


class Bridged:
    """A plug-in that lives elsewhere. It has the attributes and methods that its original has, and no others.

    Calls are made one at a time, from whatever thread. The worker ends with this object, or with this process.
    """

    def __init__(
        self,
        process: _Process,
        path: str,
        spec: str,
        checkpoint: str | None,
        device: str,
        options: Mapping[str, Any],
    ) -> None:
        self._process = process
        self.python = process.call("hello", {"protocol": wire.PROTOCOL}, flat=True)
        attribute = "factory" if spec.endswith(".py") else spec.rpartition(":")[2]
        made = process.call(
            "load",
            {"spec": f"{path}:{attribute}", "checkpoint": checkpoint, "device": device, "options": dict(options)},
        )
        if made["type"] == "None":
            process.end()
            raise PluginError(f"plug-in {spec}: the factory returned None", hint="does it miss its return statement?")
        for name, value in made["attributes"].items():
            setattr(self, name, value)
        for name in made["methods"]:
            setattr(self, name, functools.partial(_METHODS[name], weakref.ref(self)))

    def _call(self, name: str, **arguments: Any) -> Any:
        result, state = self._process.call_with_state(name, arguments)
        for key, value in state.items():
            setattr(self, key, value)
        return result

    def close(self) -> None:
        """End the worker now; calls after this are errors."""
        self._process.end()


def _teacher_force(me: weakref.ref[Bridged], batch: Sequence[Utterance]) -> Any:
    fields = [
        {
            "id": u.id, "mel": u.mel, "text": u.text, "speaker": u.speaker, "language": u.language,
            "audio": None if u.audio is None else str(u.audio), "reference_mel": u.reference_mel,
        }
        for u in batch
    ]  # fmt: skip
    return _alive(me)._call("teacher_force", batch=fields)  # noqa: SLF001 - its own method, bound weakly


def _generate(me: weakref.ref[Bridged], text: str, **arguments: Any) -> Any:
    return _alive(me)._call("generate", text=text, **arguments)  # noqa: SLF001


def _vocode(me: weakref.ref[Bridged], mel: Any) -> Any:
    return _alive(me)._call("vocode", mel=mel)  # noqa: SLF001


def _load_report(me: weakref.ref[Bridged]) -> Any:
    return _alive(me)._call("load_report")  # noqa: SLF001


def _alive(me: weakref.ref[Bridged]) -> Bridged:
    found = me()
    assert found is not None, "a method is reached through its object"
    return found


_METHODS: dict[str, Callable[..., Any]] = {
    "teacher_force": _teacher_force,
    "generate": _generate,
    "vocode": _vocode,
    "load_report": _load_report,
}


# --- the process ----------------------------------------------------------------------------------------------------


class _Process:
    """The worker process: bytes out, bytes in, a deadline on both, and its last words when it dies."""

    def __init__(self, python: str, spec: str, timeout: float, flag: str) -> None:
        self.spec, self.interpreter, self.timeout = spec, python, timeout
        self._lock = threading.Lock()
        # Variables by which this interpreter finds its own library would mislead the other.
        away = {"PYTHONHOME", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV"}
        environment = {key: value for key, value in os.environ.items() if key not in away}
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - the interpreter that the user named
                [python, "-u", str(Path(wire.__file__).resolve())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
            )  # fmt: skip
        except OSError as error:
            raise UsageError(f"{flag} {python} does not start: {error.strerror}") from None
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        os.set_blocking(self._popen.stdin.fileno(), False)
        self._words: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        self._listener = threading.Thread(target=_listen, args=(self._popen.stderr, self._words), daemon=True)
        self._listener.start()
        self.end = weakref.finalize(self, _end, self._popen)
        self._spoke = False  # whether anything ever answered

    def call(self, name: str, arguments: Mapping[str, Any], *, flat: bool = False) -> Any:
        """The answer to one request; see `call_with_state`."""
        return self.call_with_state(name, arguments, flat=flat)[0]

    def call_with_state(
        self, name: str, arguments: Mapping[str, Any], *, flat: bool = False
    ) -> tuple[Any, Mapping[str, Any]]:
        """The answer to one request, and the attributes that it changed.

        Raises:
            PluginError, DataError, UsageError: what the plug-in raised, or that it died, hung or lost the protocol.
        """
        request = {"call": name, **(arguments if flat else {"arguments": dict(arguments)})}
        with self._lock:
            if not self.end.alive:
                raise PluginError(f"plug-in {self.spec}: its interpreter has ended")
            deadline = time.monotonic() + self.timeout
            try:
                self._write(wire.pack(request), deadline)
                answer = wire.unpack(lambda n: self._read(n, deadline))
            except (BrokenPipeError, EOFError):
                self._died()
            except TimeoutError:
                self.end()
                raise PluginError(
                    f"plug-in {self.spec}: no answer to {name} within {self.timeout:.0f} s ({self.interpreter}); it was ended",
                    hint=f"{TIMEOUT_VARIABLE}=SECONDS allows it longer",
                ) from None
            except wire.WireError as error:
                self.end()
                raise PluginError(
                    f"plug-in {self.spec}: {self.interpreter} does not speak the bridge's protocol: {error}"
                ) from None
            except BaseException:
                self.end()  # interrupted in the middle of an answer: the next one could not be told from its rest
                raise
        self._spoke = True
        if "error" in answer:
            self._raise(answer["error"])
        return answer["result"], answer.get("state") or {}

    def _write(self, data: bytes, deadline: float) -> None:
        assert self._popen.stdin is not None
        file, view = self._popen.stdin.fileno(), memoryview(data)
        with selectors.DefaultSelector() as selector:
            selector.register(file, selectors.EVENT_WRITE)
            while view:
                _wait(selector, deadline)
                with contextlib.suppress(BlockingIOError):
                    view = view[os.write(file, view[:_CHUNK]) :]

    def _read(self, n: int, deadline: float) -> bytes:
        assert self._popen.stdout is not None
        file, data = self._popen.stdout.fileno(), bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(file, selectors.EVENT_READ)
            while len(data) < n:
                _wait(selector, deadline)
                more = os.read(file, min(n - len(data), _CHUNK))
                if not more:
                    raise EOFError
                data += more
        return bytes(data)

    def _died(self) -> NoReturn:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(_GRACE)
        self._listener.join(_GRACE)
        code = self._popen.returncode
        self.end()
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}" if -code in list(signal.Signals) else f"signal {-code}"
        else:
            how = f"ended with status {code}" if code is not None else "closed its pipe"
        words = [line for line in self._words if line.strip()]
        if not words and not self._spoke:
            words = ["none; is it a Python, 3.8 or later?"]
        raise PluginError(
            f"plug-in {self.spec}: its interpreter {self.interpreter} {how}", hint="its last words: " + " / ".join(words[-3:]) if words else None,
        )  # fmt: skip

    def _raise(self, error: Mapping[str, Any]) -> NoReturn:
        kind, text, place = error["type"], error["message"], error["place"]
        cause = RemoteError(f"in {self.interpreter}:\n{error['traceback']}")
        if kind in _ERRORS:
            raise _ERRORS[kind](text, hint=error["hint"]) from cause
        hint = error["hint"]
        if kind == "ModuleNotFoundError":
            hint = hint or f"in that interpreter: {self.interpreter} -m pip install ..."
        raise PluginError(
            f"plug-in {self.spec} failed: {kind}{f': {text}' if text else ''}{f' ({place})' if place else ''}",
            hint=hint,
        ) from cause


def _wait(selector: selectors.BaseSelector, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0 or not selector.select(left):
        raise TimeoutError


def _listen(stream: Any, words: collections.deque[str]) -> None:
    """Keep the last lines that the worker prints; with ``-v`` pass them on."""
    from calib.console import terminal

    with contextlib.suppress(ValueError, OSError):  # the stream may be closed under us at exit
        for raw in stream:
            line = raw.decode("utf-8", "replace").rstrip()
            words.append(line)
            if terminal.level > 0:
                print(line, file=sys.stderr)  # noqa: T201 - the plug-in's own words


def _end(popen: subprocess.Popen[bytes]) -> None:
    """End of input, then SIGTERM, then SIGKILL."""
    with contextlib.suppress(OSError):
        if popen.stdin is not None:
            popen.stdin.close()
    for last in (popen.terminate, popen.kill):
        try:
            popen.wait(_GRACE)
        except subprocess.TimeoutExpired:
            last()
    with contextlib.suppress(subprocess.TimeoutExpired):
        popen.wait(_GRACE)
    for stream in (popen.stdout, popen.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _limit(timeout: float | None) -> float:
    if timeout is not None:
        return timeout
    text = os.environ.get(TIMEOUT_VARIABLE)
    if text is None:
        return _TIMEOUT
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds > 0:
        raise UsageError(f"{TIMEOUT_VARIABLE} is {text!r}; it is a number of seconds above 0")
    return seconds
