"""Checkpoints without executing what is pickled in them: tensors and plain containers; the rest is inert and listed.

``.safetensors`` holds no code. torch's files hold a pickle, which is a program: this module runs it with an Unpickler
that resolves every name to one of three things: a tensor rebuilder written here, a plain container, or a stub class
that stores its arguments and does nothing. No name is ever imported, so nothing that is not in this file is reachable.

Conventions:
    Nested containers are flattened with dots: ``{"model": {"enc.w": t}}`` gives ``model.enc.w``; indices of lists
    count as names. Inside pickled modules (stubs), ``_modules``, ``_parameters`` and ``_buffers`` are left out of the
    names, which makes them the names of the state dict.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import numpy as np

from calib.data.files import canonical_json
from calib.errors import DataError

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "Stub", "model_id", "read_checkpoint"]

# Where trainers put the weights of the model beside optimisers and counters, the commonest first.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "generator", "module", "weights")
_MODULE_PARTS = ("_modules", "_parameters", "_buffers")
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_DEPTH = 200
_VISITS = 1_000_000

_STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "UntypedStorage": "uint8",
}


class Stub:
    """An object of a class that was not imported: what the pickle said about it, and no behaviour.

    Attributes:
        args: what its constructor was given.
        state: what its ``__dict__`` or ``__setstate__`` was given, or None.
        items: what was appended or added to it, where its class is a list or a set.
        entries: its (key, value) pairs, where its class is a dict.
    """

    name = "?"
    args: tuple[Any, ...]
    state: Any
    items: list[Any]
    entries: list[tuple[Any, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Stub:  # noqa: D102, PYI034 - Self needs Python 3.11
        self = super().__new__(cls)
        self.args = (*args, kwargs) if kwargs else args
        self.state = None
        self.items = []
        self.entries = []
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: ``__new__`` has done it, because the pickle machine may call it alone."""

    # What the pickle machine calls on an object: BUILD, APPENDS, SETITEMS, ADDITEMS, and REDUCE on an instance.

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, value: Any) -> None:  # noqa: D102
        self.items.append(value)

    def extend(self, values: Any) -> None:  # noqa: D102
        self.items.extend(values)

    def add(self, value: Any) -> None:  # noqa: D102
        self.items.append(value)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries.append((key, value))

    def __call__(self, *args: Any, **kwargs: Any) -> Stub:  # noqa: D102
        return type(self)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<stub {self.name}>"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Args:
        tensors: flattened name to tensor, in the file's order, on the CPU.
        metadata: everything else that is plain (numbers, text, containers), and `Stub` objects; safetensors' header
            text for such a file.
        stubs: ``module.name`` of every class and function that the file names and that was not imported, sorted.
    """

    tensors: dict[str, torch.Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    stubs: list[str] = field(default_factory=list)

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The model's own tensors: those below ``state_dict``, ``model``, ``generator`` …, without that prefix.

        Where no such wrapper is there, all tensors.
        """
        for wrapper in _WRAPPERS:
            prefix = wrapper + "."
            inner = {name[len(prefix) :]: tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}
            # A bare state dict may have a submodule called "model": its siblings are weights as well.
            if inner and wrapper in self._wrapped:
                return inner
        return dict(self.tensors)

    _wrapped: frozenset[str] = field(default=frozenset(), repr=False)


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read ``.safetensors``, or what ``torch.save`` wrote (zip, or the format before torch 1.6), executing nothing.

    Raises:
        DataError: missing, not a checkpoint, damaged, or a tensor that lies outside its storage.
    """
    path = Path(path)
    try:
        return _read(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, not a checkpoint file") from None
    except DataError:
        raise
    except zipfile.BadZipFile:
        raise DataError(f"{path} is cut short or damaged: it begins as torch.save writes, but the archive has no end", hint="copy or download it again, and compare the sizes") from None  # fmt: skip
    except Exception as error:  # a damaged or hostile pickle can raise nearly anything
        raise DataError(f"{path} cannot be read as a checkpoint: {type(error).__name__}: {error}") from error


def _read(path: Path) -> Checkpoint:
    with path.open("rb") as file:
        head = file.read(64)
        if not head:
            raise DataError(f"{path} is empty (0 bytes)", hint="copy or download it again")
        if path.suffix == ".safetensors" or head[8:9] == b"{":
            return _read_safetensors(path)
        file.seek(0)
        if head.startswith(b"version https://git-lfs"):
            raise DataError(f"{path} is a git-lfs pointer, not the file itself", hint="git lfs pull")
        if head.startswith(b"PK"):
            root, stubs = _read_zip(path)
        elif head.startswith(b"\x80"):
            root, stubs = _read_legacy(file, path.stat().st_size)
        else:
            raise DataError(f"{path} is no checkpoint: it begins with {head[:8]!r}")
    return _flatten(path, root, stubs)


def _read_safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return Checkpoint({name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {}))  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise DataError(f"{path} cannot be read as safetensors: {error}") from error


# --- the restricted pickle machine ----------------------------------------------------------------------------------


class _Builder:
    """A function the pickle may call. BUILD on it is refused, so that no file can change it for the next one."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("state for a function")


class _Dict(dict[Any, Any]):
    """OrderedDict and its like. ``torch`` hangs ``_metadata`` on state dicts; attributes are dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Ignore."""


class _Tensor:
    """Keeps the tensor itself, and its ``__setstate__``, out of the pickle's reach."""

    __slots__ = ("value",)

    def __init__(self, value: torch.Tensor) -> None:
        self.value = value

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("state for a tensor")


class _StorageType:
    """The name of a storage class, as persistent ids carry it."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("state for a storage class")


class _Storage:
    """Raw bytes and the type of their elements."""

    __slots__ = ("data", "dtype")

    def __init__(self, data: torch.Tensor, dtype: torch.dtype) -> None:
        self.data = data
        self.dtype = dtype

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("state for a storage")


def _view(storage: Any, dtype: Any, offset: Any, size: Any, stride: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    # as_strided checks the bounds; numpy's would not.
    return _Tensor(storage.data.view(dtype).as_strided(tuple(size), tuple(stride), int(offset)))


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    return _view(storage, getattr(storage, "dtype", None), offset, size, stride)


def _rebuild_tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> _Tensor:
    import torch

    if not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError("a tensor without a dtype")
    return _view(storage, dtype, offset, size, stride)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _rebuild_from_type(function: Any, _kind: Any, args: Any, _state: Any) -> Any:
    """Tensor subclasses and tensors with attributes: the tensor alone."""
    if not isinstance(function, (_Builder, type)) or (isinstance(function, type) and not issubclass(function, Stub)):
        raise pickle.UnpicklingError("a tensor subclass without a rebuilder")
    return function(*args)


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in {"latin1", "latin-1"}:
        raise pickle.UnpicklingError("bytes in an unknown encoding")
    return text.encode("latin1")


def _mapping(*args: Any) -> _Dict:
    # defaultdict(factory) comes with its factory, which is dropped; Counter and OrderedDict with their items.
    items = args[-1] if args and isinstance(args[-1], (dict, list, tuple)) else ()
    return _Dict(items)


def _sequence(items: Any = (), *_: Any) -> list[Any]:
    return list(items)


def _bytes_of(value: Any = b"", encoding: Any = "latin1") -> bytes:
    if isinstance(value, str):
        return _encode(value, encoding)
    if not isinstance(value, (bytes, bytearray)):  # a number would be an allocation of that size
        raise pickle.UnpicklingError("bytes of something else")
    return bytes(value)


def _device(*args: Any) -> str:
    return ":".join(str(arg) for arg in args)


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_from_type,
    ("torch", "Size"): tuple,
    ("torch", "device"): _device,
    ("collections", "OrderedDict"): _mapping,
    ("collections", "defaultdict"): _mapping,
    ("collections", "Counter"): _mapping,
    ("collections", "deque"): _sequence,
    ("_codecs", "encode"): _encode,
    **{
        (module, kind.__name__): kind
        for module in ("builtins", "__builtin__")
        for kind in (set, frozenset, list, tuple, int, float, complex, bool, str)
    },
    **{(module, name): _bytes_of for module in ("builtins", "__builtin__") for name in ("bytes", "bytearray")},
    **{(module, "dict"): _mapping for module in ("builtins", "__builtin__")},
}


class _Unpickler(pickle.Unpickler):
    """Resolves names from `_KNOWN` or to stubs; never imports, never falls back to the base class."""

    def __init__(self, file: IO[bytes], storage: Callable[[tuple[Any, ...]], Any], stubs: set[str]) -> None:
        super().__init__(file, encoding="utf-8", errors="backslashreplace")
        self._storage = storage
        self._stubs = stubs
        self._classes: dict[tuple[str, str], type[Stub]] = {}

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        if known is not None:
            return _Builder(known)
        if module in {"torch", "torch.cuda", "torch.storage"} and name in _STORAGE_DTYPES:
            return _StorageType(name)
        if module == "torch":
            import torch

            dtype = vars(torch).get(name)
            if isinstance(dtype, torch.dtype):
                return dtype
        self._stubs.add(f"{module}.{name}")
        if (module, name) not in self._classes:
            self._classes[module, name] = type("Stub", (Stub,), {"name": f"{module}.{name}"})
        return self._classes[module, name]

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or not pid:
            raise pickle.UnpicklingError(f"unknown persistent id {pid!r}")
        if pid[0] == "module":  # the legacy format wraps classes so, with their source code
            return pid[1]
        if pid[0] != "storage" or len(pid) < 5 or not isinstance(pid[1], _StorageType):
            raise pickle.UnpicklingError(f"unknown persistent id of {len(pid)} parts")
        return self._storage(pid)


def _dtype(kind: _StorageType) -> torch.dtype:
    import torch

    dtype = getattr(torch, _STORAGE_DTYPES[kind.name])
    assert isinstance(dtype, torch.dtype)
    return dtype


def _from_bytes(data: bytes, dtype: torch.dtype, numel: int) -> _Storage:
    import torch

    size = numel * dtype.itemsize
    if numel < 0 or size > len(data):
        raise pickle.UnpicklingError(f"a storage of {size} bytes, of which the file has {len(data)}")
    flat = torch.frombuffer(bytearray(data[:size]), dtype=torch.uint8) if size else torch.empty(0, dtype=torch.uint8)
    return _Storage(flat, dtype)


def _read_zip(path: Path) -> tuple[Any, set[str]]:
    stubs: set[str] = set()
    storages: dict[str, _Storage] = {}
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickles = [
            name for name in names if name == "data.pkl" or (name.endswith("/data.pkl") and name.count("/") == 1)
        ]
        if len(pickles) != 1:
            raise DataError(f"{path} is a zip archive, but no checkpoint: it holds {len(pickles)} data.pkl")
        prefix = pickles[0].removesuffix("data.pkl")
        if prefix + "byteorder" in names and archive.read(prefix + "byteorder").strip() == b"big":
            raise DataError(f"{path} was written on a big-endian machine, which is not supported")

        def storage(pid: tuple[Any, ...]) -> _Storage:
            _, kind, key, _location, numel = pid[:5]
            dtype = _dtype(kind)
            if key not in storages:
                info = archive.getinfo(f"{prefix}data/{key}")
                if info.file_size > path.stat().st_size * 1100:  # deflate's limit: the directory lies
                    raise pickle.UnpicklingError(f"a storage of {info.file_size} bytes in a smaller file")
                storages[key] = _from_bytes(archive.read(info), dtype, int(numel))
            return _Storage(storages[key].data, dtype)

        with archive.open(pickles[0]) as file:
            root = _Unpickler(io.BytesIO(file.read()), storage, stubs).load()
    return root, stubs


def _read_legacy(file: IO[bytes], total: int) -> tuple[Any, set[str]]:
    """Magic, protocol, system, the object, the keys of its storages; then count and bytes of each storage."""
    import torch

    stubs: set[str] = set()
    storages: dict[str, _Storage] = {}

    def storage(pid: tuple[Any, ...]) -> _Storage:
        _, kind, key, _location, numel = pid[:5]
        dtype, offset = _dtype(kind), 0
        if len(pid) > 5 and pid[5] is not None:  # a view: (key, offset in elements, count)
            _view_key, offset, count = pid[5]
        if key not in storages:
            size = int(numel) * dtype.itemsize
            if not 0 <= size <= total:
                raise pickle.UnpicklingError(f"a storage of {size} bytes in a file of {total}")
            storages[key] = _Storage(torch.zeros(size, dtype=torch.uint8), dtype)
        if not offset:
            return _Storage(storages[key].data, dtype)
        start = int(offset) * dtype.itemsize
        return _Storage(storages[key].data[start : start + int(count) * dtype.itemsize], dtype)

    def load() -> Any:
        return _Unpickler(file, storage, stubs).load()

    if load() != _LEGACY_MAGIC or load() != _LEGACY_PROTOCOL:
        raise DataError(f"{getattr(file, 'name', 'the file')} is a pickle, but none that torch.save wrote")
    load()  # byte order and word sizes of the writer
    root = load()
    for key in load():
        target = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        size = count * target.dtype.itemsize
        if size != target.data.numel():
            raise pickle.UnpicklingError(f"storage {key} has {size} bytes where {target.data.numel()} were announced")
        data = file.read(size)
        if len(data) != size:
            raise pickle.UnpicklingError(f"the file ends inside storage {key}")
        if size:
            target.data.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return root, stubs


# --- flattening and identity ----------------------------------------------------------------------------------------


_NOTHING = object()


def _flatten(path: Path, root: Any, stubs: set[str]) -> Checkpoint:
    tensors: dict[str, torch.Tensor] = {}
    visits = 0

    def visit_all(
        pairs: Iterable[tuple[Any, Any]], name: str, inside: tuple[int, ...], skip: tuple[str, ...] = ()
    ) -> list[tuple[Any, Any]]:
        visited = ((key, visit(item, _join(name, key, skip), inside)) for key, item in pairs)
        return [(key, item) for key, item in visited if item is not _NOTHING]

    def visit(value: Any, name: str, inside: tuple[int, ...]) -> Any:
        """Collect tensors; return the rest in plain containers, or ``_NOTHING``."""
        nonlocal visits
        visits += 1
        if visits > _VISITS:  # containers that share containers can unfold without end
            raise DataError(f"{path} holds more than {_VISITS} entries; no checkpoint does")
        if isinstance(value, _Tensor):
            if name in tensors:
                raise DataError(f"{path}: two tensors have the name {name!r}")
            tensors[name] = value.value
            return _NOTHING
        if isinstance(value, _StorageType) or (isinstance(value, type) and issubclass(value, Stub)):
            return value.name  # a class as a value
        if isinstance(value, (_Builder, _Storage)):
            return _NOTHING
        if not isinstance(value, (dict, list, tuple, Stub)):
            return value
        if id(value) in inside or len(inside) > _DEPTH:
            return _NOTHING  # a cycle, or a nest that no trainer builds
        inside = (*inside, id(value))
        if isinstance(value, Stub):
            kept = type(value)(*(item for _, item in visit_all(enumerate(value.args), name, inside)))
            kept.items = [item for _, item in visit_all(enumerate(value.items), name, inside)]
            kept.entries = visit_all(value.entries, name, inside)
            is_fields = isinstance(value.state, dict)
            kept.state = (
                dict(visit_all(value.state.items(), name, inside, _MODULE_PARTS))
                if is_fields
                else visit(value.state, name, inside)
            )
            return kept
        if isinstance(value, dict):
            entries = visit_all(value.items(), name, inside)
            return dict(entries) if entries or not value else _NOTHING
        listed = [item for _, item in visit_all(enumerate(value), name, inside)]
        if value and not listed:
            return _NOTHING
        return listed if isinstance(value, list) else tuple(listed)

    rest = visit(root, "", ())
    metadata = rest if isinstance(rest, dict) else {} if rest is _NOTHING else {"": rest}
    wrapped: frozenset[str] = frozenset()
    if isinstance(root, dict):
        wrapped = frozenset(
            key for key, value in root.items() if isinstance(key, str) and isinstance(value, (dict, Stub))
        )
    return Checkpoint(tensors, metadata, sorted(stubs), wrapped)


def _join(name: str, key: Any, skip: tuple[str, ...] = ()) -> str:
    if key in skip:
        return name
    return f"{name}.{key}" if name else str(key)


def _blocks(tensor: Any) -> Iterator[bytes | memoryview]:
    """The elements in row-major order, little-endian."""
    if isinstance(tensor, np.ndarray):
        yield np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<")).tobytes()
        return
    import torch

    yield memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def _dtype_name(tensor: Any) -> str:
    # numpy's str() of a dtype names its byte order, which is no property of the weights.
    return tensor.dtype.name if isinstance(tensor, np.ndarray) else str(tensor.dtype).removeprefix("torch.")


def model_id(tensors: Mapping[str, Any]) -> str:
    """Identity of weights: the same for ``.pt`` and ``.safetensors``, torch and numpy, any order and any device.

    Args:
        tensors: name to torch tensor or numpy array.

    Returns:
        ``model-`` and the first 16 hexadecimal digits of the SHA-256 over the canonical JSON of [name, dtype, shape]
        and the elements, in the order of the names.

    Example:
        >>> model_id({"w": np.zeros((2, 3), dtype=np.float32)})
        'model-7db737ffe58b9efa'
    """
    state = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        state.update(canonical_json([name, _dtype_name(tensor), list(tensor.shape)]))
        for block in _blocks(tensor):
            state.update(block)
    return "model-" + state.hexdigest()[:16]
