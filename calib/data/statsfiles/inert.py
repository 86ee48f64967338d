"""Pickled numpy data without running the pickle's program: numbers, text, containers and numeric arrays; the rest is inert.

``np.save`` of a dict (Coqui's ``scale_stats.npy``) writes a pickle. `load` resolves every name in it to a builder written
here or to an `Inert` object that only stores what it is given; nothing is imported by name.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, Literal, NoReturn

import numpy as np

__all__ = ["Inert", "load"]

_NUMERIC = "biufcSU"
_MOST_DIMENSIONS = 8
_MOST_VALUES = 100_000
_DEEPEST = 20


class Inert:
    """An object of a class that was not imported. It can be built and filled, and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = (*args, *kwargs.items())
        self.state: Any = None
        self.entries: dict[Any, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def append(self, value: Any) -> None:
        """Ignore."""

    def extend(self, values: Any) -> None:
        """Ignore."""

    def __call__(self, *args: Any) -> Inert:  # noqa: D102
        return Inert(*args)


class _Dtype:
    """``numpy.dtype(text, align, copy)``, then its state (version, byte order, ...)."""

    def __init__(self, text: Any = "", *_: Any) -> None:
        self.text = text if isinstance(text, str) else ""
        self.order: Literal["<", ">", "|", "="] = "="

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in {"<", ">", "|", "="}:
            self.order = state[1]

    @property
    def numpy(self) -> np.dtype[Any] | None:
        """The dtype, or None for objects and records."""
        try:
            found = np.dtype(self.text)
        except (TypeError, ValueError):
            return None
        return found.newbyteorder(self.order) if found.kind in _NUMERIC and found.fields is None else None


class _Array:
    """What ``_reconstruct`` gives: an array that its state fills."""

    def __init__(self, *_: Any) -> None:
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array with an unknown state")
        _version, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS:
            raise pickle.UnpicklingError("an array without shape or type")
        if isinstance(data, list):  # objects: the outermost array of np.save(dict)
            self.value = data[0] if not shape and len(data) == 1 else data
            return
        self.value = _array(data, dtype, shape, fortran=bool(fortran))


def _array(data: Any, dtype: _Dtype, shape: tuple[Any, ...], *, fortran: bool) -> np.ndarray:
    kind = dtype.numpy
    raw = data.encode("latin1") if isinstance(data, str) else data
    if kind is None or not isinstance(raw, (bytes, bytearray)):
        raise pickle.UnpicklingError(f"an array of type {dtype.text!r}")
    flat = np.frombuffer(bytes(raw), dtype=kind)
    if int(np.prod(shape, dtype=np.int64)) != flat.size:
        raise pickle.UnpicklingError(f"an array of shape {shape} with {flat.size} values")
    return flat.reshape(shape, order="F" if fortran else "C")


def _scalar(dtype: Any, data: Any = b"") -> Any:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("a number without a type")
    return _array(data, dtype, (1,), fortran=False)[0].item()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any = "C", *_: Any) -> Any:
    """Protocol 5 writes arrays so."""
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
        raise pickle.UnpicklingError("an array without shape or type")
    out = _Array()
    out.value = _array(bytes(data), dtype, shape, fortran=order == "F")
    return out


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in {"latin1", "latin-1"}:
        raise pickle.UnpicklingError("bytes in an unknown encoding")
    return text.encode("latin1")


def _mapping(*args: Any) -> dict[Any, Any]:
    items = args[-1] if args and isinstance(args[-1], (dict, list, tuple)) else ()
    return dict(items)


class _Function:
    """A builder that the pickle may call and cannot change."""

    __slots__ = ("_function",)

    def __init__(self, function: Any) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("state for a function")


_KNOWN = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _mapping,
    ("collections", "defaultdict"): _mapping,
    **{(module, "dict"): _mapping for module in ("builtins", "__builtin__")},
}


class _Unpickler(pickle.Unpickler):
    """Resolves names to `_KNOWN` or to `Inert`; never imports, never falls back to the base class."""

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        return Inert if known is None else _Function(known)

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError(f"a reference to something outside the file: {pid!r:.40}")


def load(data: bytes) -> Any:
    """The pickled value in plain containers and numpy arrays.

    Raises:
        pickle.UnpicklingError, and nearly anything else: damaged or hostile data.
    """
    visits = 0

    def plain(value: Any, depth: int) -> Any:
        nonlocal visits
        visits += 1
        if visits > _MOST_VALUES or depth > _DEEPEST:  # containers that share containers can unfold without end
            raise pickle.UnpicklingError("more values than any statistics hold")
        if isinstance(value, _Array):
            return value.value if isinstance(value.value, np.ndarray) else plain(value.value, depth + 1)
        if isinstance(value, dict):
            return {key: plain(item, depth + 1) for key, item in value.items() if isinstance(key, (str, int))}
        if isinstance(value, (list, tuple)):
            return [plain(item, depth + 1) for item in value]
        return value

    return plain(_Unpickler(io.BytesIO(data), encoding="latin1").load(), 0)
