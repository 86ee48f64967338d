"""The other side of the bridge: runs a plug-in in an interpreter that knows nothing of calib.

Started as ``PYTHON worker.py``. Needs the standard library and numpy, Python 3.8 or later; calib is not imported.
`calib.models.bridge.client` imports the wire format from here, so both sides read the same lines.

Wire format, version 1. A message is::

    b"CALIBBR1"  magic, 8 bytes
    uint32 LE    length of the header
    header       UTF-8 JSON: {"...": ..., "arrays": n}
    n times:     uint64 LE length, then the bytes of one .npy file (version 1 or 2, no pickle)

In the header an array stands as ``{"$array": i}``, an object that cannot cross as ``{"$object": "its type"}``, and a
mapping as ``{"$dict": {...}}``. Requests carry ``call``; answers carry ``result`` or ``error``. One request is
answered before the next is sent.

The plug-in's standard output is standard error here: what it prints can never be taken for an answer.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import os
import signal
import struct
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable
from typing import Any, NoReturn

MAGIC = b"CALIBBR1"
PROTOCOL = 1
OLDEST = (3, 8)
LARGEST_HEADER = 64 << 20
LARGEST_ARRAY = 8 << 30
STATE = ("notices", "last_gain")
"""Attributes that a call may change; they come back with every answer."""
MODEL_ATTRIBUTES = (
    "frontend", "output_space", "kind", "autoregressive", "padding_safe", "reads_text", "one_voice", "post_net", "remarks",
)  # fmt: skip
METHODS = ("teacher_force", "generate", "load_report", "vocode")


class WireError(Exception):
    """The other side is not speaking this protocol, or is gone."""


# --- the wire -------------------------------------------------------------------------------------------------------


def pack(message: dict[str, Any]) -> bytes:
    """A message as bytes; arrays anywhere in it become ``.npy`` bytes."""
    arrays: list[bytes] = []
    header = dict(_encoded(message, arrays)["$dict"], arrays=len(arrays))
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    parts = [MAGIC, struct.pack("<I", len(text)), text]
    for array in arrays:
        parts += [struct.pack("<Q", len(array)), array]
    return b"".join(parts)


def unpack(read: Callable[[int], bytes]) -> dict[str, Any]:
    """The next message; ``read(n)`` gives exactly n bytes or raises.

    Raises:
        WireError: what was read is no message of this protocol.
    """
    magic = read(len(MAGIC))
    if magic != MAGIC:
        raise WireError(f"no message begins with {magic!r}")
    (length,) = struct.unpack("<I", read(4))
    if length > LARGEST_HEADER:
        raise WireError(f"a header of {length} bytes")
    try:
        header = json.loads(read(length).decode("utf-8", "surrogatepass"))
        count = int(header.pop("arrays"))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise WireError(f"a header that is no JSON object of arrays: {error}") from None
    arrays = []
    for _ in range(count):
        (size,) = struct.unpack("<Q", read(8))
        if size > LARGEST_ARRAY:
            raise WireError(f"an array of {size} bytes")
        arrays.append(_array(read(size)))
    return {key: _decoded(value, arrays) for key, value in header.items()}


class Opaque:
    """Something that stayed on the other side; only its type's name crossed."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of another interpreter>"


def opaque(name: str) -> Opaque:
    """An `Opaque` whose type has the name of the original's, because that is what messages show."""
    made = type(name, (Opaque,), {})()
    assert isinstance(made, Opaque)
    return made


def _array(data: bytes) -> Any:
    import numpy as np

    try:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # noqa: BLE001 - damaged bytes can raise nearly anything
        raise WireError(f"an array that cannot be read: {error}") from None


def _npy(array: Any) -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def _encoded(value: Any, arrays: list[bytes]) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return value if type(value) in (int, float) else type(value).__mro__[1](value)
    if isinstance(value, (list, tuple)):
        return [_encoded(item, arrays) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "items") and hasattr(value, "keys"):
        return {"$dict": {str(key): _encoded(item, arrays) for key, item in value.items()}}
    array = _as_array(value)
    if array is None:
        return {"$object": type(value).__name__}
    if array.ndim == 0:
        return _encoded(array.item(), arrays)
    arrays.append(_npy(array))
    return {"$array": len(arrays) - 1}


def _as_array(value: Any) -> Any:
    """numpy's, torch's, TensorFlow's, JAX's array as numpy; None for anything else."""
    import numpy as np

    if hasattr(value, "detach"):  # torch
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    if not isinstance(value, (np.ndarray, np.generic)):
        if not (hasattr(value, "numpy") or hasattr(value, "__array__")):
            return None
        value = value.numpy() if hasattr(value, "numpy") else np.asarray(value)
    array = np.asarray(value)
    if array.dtype.kind == "V" or array.dtype.name == "bfloat16":  # TensorFlow's bfloat16
        array = array.astype(np.float32)
    return array if array.dtype.kind in "fiubSU" else None


def _decoded(value: Any, arrays: list[Any]) -> Any:
    if isinstance(value, list):
        return [_decoded(item, arrays) for item in value]
    if isinstance(value, dict):
        if "$array" in value:
            return arrays[value["$array"]]
        if "$object" in value:
            return opaque(value["$object"])
        inner = value.get("$dict", value)
        return {key: _decoded(item, arrays) for key, item in inner.items()}
    return value


# --- the worker -----------------------------------------------------------------------------------------------------


class Utterance:
    """What `calib.models.protocol.Utterance` is: id, mel, text, speaker, language, audio, reference_mel."""

    def __init__(self, fields: dict[str, Any]) -> None:
        import pathlib

        fields = dict(fields)
        if fields.get("audio") is not None:
            fields["audio"] = pathlib.Path(fields["audio"])
        self.__dict__.update(fields)


class _Worker:
    """Answers requests about one plug-in."""

    def __init__(self) -> None:
        self.made = None  # type: Any
        self.home = ""

    def answer(self, request: dict[str, Any]) -> Any:
        call = request["call"]
        if call == "hello":
            return self._hello(request["protocol"])
        if call == "load":
            return self._load(**request["arguments"])
        if call not in METHODS or not callable(getattr(self.made, call, None)):
            raise WireError(f"no method {call!r}")
        arguments = dict(request["arguments"])
        if call == "teacher_force":
            result = self.made.teacher_force([Utterance(item) for item in arguments["batch"]])
            if not isinstance(result, (list, tuple)):  # a padded (B, T, M) array is no list of mels
                return opaque(type(result).__name__)
            return list(result)
        if call == "generate":
            return self.made.generate(arguments.pop("text"), **arguments)
        if call == "vocode":
            return self.made.vocode(arguments["mel"])
        return self.made.load_report()

    @staticmethod
    def _hello(protocol: int) -> dict[str, Any]:
        if protocol != PROTOCOL:
            raise WireError(f"calib speaks bridge protocol {protocol}, this worker {PROTOCOL}")
        if sys.version_info < OLDEST:
            found = ".".join(str(part) for part in sys.version_info[:2])
            raise UsageError(f"{sys.executable} is Python {found}; the bridge needs 3.8 or later")
        try:
            import numpy as np
        except ImportError as error:
            raise UsageError(
                f"{sys.executable} cannot import numpy ({error}); next: {sys.executable} -m pip install numpy"
            ) from None
        return {
            "protocol": PROTOCOL,
            "python": "{}.{}.{}".format(*sys.version_info[:3]),
            "executable": sys.executable,
            "numpy": np.__version__,
        }

    def _load(
        self,
        spec: str,
        checkpoint: str | None,
        device: str,
        options: dict[str, Any],
    ) -> dict[str, Any]:
        module, attribute = self._module(spec)
        found = module  # type: Any
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise UsageError(f"there is no {attribute!r} in {spec}")
            found = getattr(found, part)
        self.made = found(checkpoint, device, **options)
        if self.made is None:
            return {"type": "None", "attributes": {}, "methods": []}
        names = [name for name in (*MODEL_ATTRIBUTES, *STATE) if hasattr(self.made, name)]
        return {
            "type": type(self.made).__name__,
            "attributes": {name: getattr(self.made, name) for name in names},
            "methods": [name for name in METHODS if callable(getattr(self.made, name, None))],
        }

    def _module(self, spec: str) -> tuple[types.ModuleType, str]:
        path, _, attribute = spec.rpartition(":")
        if spec.endswith(".py"):
            path, attribute = spec, "factory"
        if not path.endswith(".py"):
            sys.path.insert(0, os.getcwd())  # noqa: PTH109
            return importlib.import_module(path), attribute
        self.home = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120
        sys.path.insert(0, self.home)
        name = "calib_plugin_file"
        location = importlib.util.spec_from_file_location(name, path)
        assert location is not None
        assert location.loader is not None
        module = importlib.util.module_from_spec(location)
        sys.modules[name] = module
        location.loader.exec_module(module)
        return module, attribute

    def state(self) -> dict[str, Any]:
        return {name: getattr(self.made, name) for name in STATE if hasattr(self.made, name)}

    def failure(self, error: BaseException) -> dict[str, Any]:
        """What went wrong and where in the plug-in, as an answer."""
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        frames = [frame for frame in frames if not frame.filename.startswith("<frozen")]
        inside = [
            frame
            for frame in frames
            if self.home and os.path.abspath(frame.filename).startswith(self.home)  # noqa: PTH100
        ]
        place = None
        if isinstance(error, SyntaxError) and error.filename:
            place = f"{error.filename}:{error.lineno}"
        elif inside or frames:
            chosen = (inside or frames)[-1]
            place = f"{chosen.filename}:{chosen.lineno}"
        return {
            "type": type(error).__name__,
            "message": " ".join(str(error).split()),
            "hint": getattr(error, "hint", None) if isinstance(getattr(error, "hint", None), str) else None,
            "place": place,
            "traceback": "".join(traceback.format_exception(type(error), error, error.__traceback__))[-20000:],
        }


class UsageError(Exception):
    """Named as calib's: the other side raises it as a wrong option."""


def _reader(file: Any) -> Callable[[int], bytes]:
    def read(n: int) -> bytes:
        data = b""
        while len(data) < n:
            more = file.read(n - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    return read


def _leave_with_parent(parent: int) -> NoReturn:
    """End when calib is gone, however it went: nothing else would ever end a plug-in that hangs."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def main() -> None:
    """Answer requests from standard input until it ends."""
    # The pipes become private; the plug-in (and C code below it) gets /dev/null to read and stderr to print on.
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    sys.stdin, sys.stdout = open(os.devnull), sys.stderr  # noqa: SIM115
    own = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != own]  # noqa: PTH100
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is calib's to handle; it closes the pipe
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
    worker, read = _Worker(), _reader(requests)
    while True:
        try:
            request = unpack(read)
        except (EOFError, WireError):
            return
        try:
            answer = pack({"result": worker.answer(request), "state": worker.state()})
        except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code may raise anything
            answer = pack({"error": worker.failure(error)})
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        try:
            answers.write(answer)
            answers.flush()
        except OSError:
            return


if __name__ == "__main__":
    main()
    sys.stderr.flush()
    os._exit(0)  # threads of the plug-in must not keep the process
