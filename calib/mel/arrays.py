"""The small array namespace that the front end's mathematics is written over: numpy on the CPU, torch elsewhere.

Each namespace has the same functions on its own arrays, in one of three precisions:

``mixed``   windowing and FFT in float64, the rest in float32: mels. In float32 the rounding of the loudest bin reaches
            the quietest: on LJSpeech up to 8e-4 of a ln unit at the floor (float64 FFT: 7e-7).
``single``  float32 throughout: statistics, where :mod:`calib.mel.rounding` finds that the rounding averages out.
``double``  float64 throughout: statistics where it does not.

Conventions:
    Functions may overwrite their arguments, and what they return is overwritten by the next block (numpy's work in
    buffers that are made once). Namespaces and their buffers belong to one thread.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import machinery
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

__all__ = ["ArrayNamespace", "Bands", "NumpyNamespace", "TorchNamespace", "namespace", "one_blas_thread"]

Made = TypeVar("Made")

_PRECISIONS = {"mixed": ("float64", "float32"), "single": ("float32", "float32"), "double": ("float64", "float64")}
_GROUP = 16  # filters multiplied at once: a vector register, and few enough that their bins are few
_HEAP = 31 << 20  # bytes; see `_keep_memory`
_KEPT = 16  # front ends whose tables are kept


def one_blas_thread() -> AbstractContextManager[Any]:
    """Numpy's matrix products in one thread: the same bytes wherever they are made.

    More threads split a product otherwise, and its last bits change; on a busy machine they also spin (10 times slower).
    """
    limit: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limit


@functools.cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()  # looking the libraries up takes milliseconds, limiting them microseconds


@functools.cache
def _keep_memory() -> None:
    """Freed blocks stay with the process from now on, for the next recording.

    glibc gives large blocks back to the system at once, and fresh pages cost more than the arithmetic in them (10 us a
    frame instead of 3). Freeing one block just below its limit of 32 MiB raises that threshold for good; the block's
    pages are never touched. Elsewhere this does nothing.
    """
    np.empty(_HEAP, dtype=np.uint8)


@functools.cache
def _real_fft() -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The FFT of real rows that scipy has, into an array.

    Importing ``scipy.fft`` takes 0.2 s, most of it for what no FFT needs; its compiled module takes 1 ms. That is loaded
    by itself, if it is where it was since scipy 1.4 and does what it did.
    """
    try:
        package = importlib.util.find_spec("scipy")
        assert package is not None
        assert package.submodule_search_locations is not None
        folder = str(Path(package.submodule_search_locations[0]) / "fft" / "_pocketfft")
        loaders = (machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES)
        spec = machinery.FileFinder(folder, loaders).find_spec("pypocketfft")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        r2c = module.r2c

        def transform(rows: np.ndarray, out: np.ndarray) -> np.ndarray:
            found: np.ndarray = r2c(rows, (-1,), True, 0, out, 1)  # forward, unscaled, one thread
            return found

        probe = np.arange(12, dtype=np.float32).reshape(2, 6) % 5
        made = transform(probe, np.empty((2, 4), dtype=np.complex64))
        assert np.allclose(made, np.fft.rfft(probe), atol=1e-4)
    except Exception:  # noqa: BLE001 - whatever it is: the public way works
        return _public_fft
    return transform


def _public_fft(rows: np.ndarray, out: np.ndarray) -> np.ndarray:
    from scipy.fft import rfft

    out[:] = rfft(rows, axis=-1)
    return out


class Bands:
    """A filterbank cut into groups of neighbouring filters, each with the few FFT bins that it needs.

    Args:
        bank: ``(n_fft // 2 + 1, M)``.
    """

    def __init__(self, bank: np.ndarray) -> None:
        self.n_mels = bank.shape[1]
        self.groups: list[tuple[slice, slice, np.ndarray]] = []
        for first in range(0, self.n_mels, _GROUP):
            columns = slice(first, min(first + _GROUP, self.n_mels))
            used = np.flatnonzero(bank[:, columns].any(axis=1))
            rows = slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 1)
            self.groups.append((rows, columns, np.ascontiguousarray(bank[rows, columns])))


class ArrayNamespace(Protocol):
    """What a namespace offers; arrays are ``Any`` because they are numpy's or torch's.

    Attributes:
        precision: ``mixed``, ``single`` or ``double``.
    """

    precision: str

    def table(self, key: tuple[str, str], make: Callable[[], Made]) -> Made:
        """What was made for this key before, or is made now: the tables of a front end."""

    def asarray(self, values: Any) -> Any:
        """A table in the precision of mels, on the namespace's device."""

    def signal(self, values: np.ndarray) -> Any:
        """Audio on the device, in the precision of the FFT or in float32, which multiplying by the window widens."""

    def window(self, values: np.ndarray) -> Any:
        """The window in the precision of the FFT."""

    def bank(self, values: np.ndarray) -> Any:
        """``(n_fft // 2 + 1, M)`` as `bands` wants it."""

    def pad(self, x: Any, left: int, right: int, mode: str) -> Any:
        """``(L,)`` to ``(left + L + right,)``; mode is ``reflect`` (edge not repeated) or ``constant`` (zeros)."""

    def frames(self, x: Any, size: int, hop: int) -> Any:
        """``(L,)`` to a view ``(1 + (L - size) // hop, size)`` without copying."""

    def windowed(self, frames: Any, window: Any) -> Any:
        """Frames ``(t, n_fft)`` times the window."""

    def spectrum(self, frames: Any) -> Any:
        """Windowed frames to complex spectra ``(t, n_fft // 2 + 1)``."""

    def power(self, spectrum: Any) -> Any:
        """Squared magnitudes, in the precision of mels."""

    def magnitude(self, spectrum: Any) -> Any:
        """Magnitudes, in the precision of mels."""

    def bands(self, values: Any, bank: Any) -> Any:
        """``(t, n_fft // 2 + 1)`` times the bank: ``(t, M)``."""

    def sqrt(self, x: Any) -> Any:
        """Elementwise square root, in place."""

    def clip(self, x: Any, low: float | None, high: float | None) -> Any:
        """Elementwise limits, in place; None is no limit."""

    def log(self, x: Any) -> Any:
        """Elementwise natural logarithm, in place."""

    def to_numpy(self, x: Any) -> np.ndarray:
        """As a numpy array."""


class _Tables:
    """The tables of the last few front ends."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, str], Any] = {}

    def table(self, key: tuple[str, str], make: Callable[[], Made]) -> Made:
        """See `ArrayNamespace`."""
        if key not in self._tables:
            while len(self._tables) >= _KEPT:
                del self._tables[next(iter(self._tables))]
            self._tables[key] = make()
        found: Made = self._tables[key]
        return found


class NumpyNamespace(_Tables):
    """numpy, with scipy's FFT (half the time of numpy's)."""

    def __init__(self, precision: str = "mixed") -> None:
        super().__init__()
        _keep_memory()
        self.precision = precision
        self._fft, self._mel = (np.dtype(name) for name in _PRECISIONS[precision])
        self._buffers: dict[str, np.ndarray] = {}

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        size = math.prod(shape)
        flat = self._buffers.get(name)
        if flat is None or flat.size < size or flat.dtype != dtype:
            flat = self._buffers[name] = np.empty(size, dtype)
        return flat[:size].reshape(shape)

    def asarray(self, values: Any) -> np.ndarray:
        """See `ArrayNamespace`."""
        return np.ascontiguousarray(values, dtype=self._mel)

    def signal(self, values: np.ndarray) -> np.ndarray:
        """See `ArrayNamespace`."""
        wide = values.dtype == np.float64 and self._fft == np.float64
        return np.ascontiguousarray(values, dtype=np.float64 if wide else np.float32)

    def window(self, values: np.ndarray) -> np.ndarray:
        """See `ArrayNamespace`."""
        return np.asarray(values, dtype=self._fft)

    def bank(self, values: np.ndarray) -> Bands:
        """See `ArrayNamespace`."""
        return Bands(np.asarray(values, dtype=self._mel))

    def pad(self, x: np.ndarray, left: int, right: int, mode: str) -> np.ndarray:
        """See `ArrayNamespace`."""
        if mode == "reflect" and max(left, right) >= x.size:
            return np.pad(x, (left, right), mode="reflect")  # over and over, which numpy's own function knows
        out = np.empty(left + x.size + right, dtype=x.dtype)
        out[left : left + x.size] = x
        out[:left] = x[left:0:-1] if mode == "reflect" else 0
        out[left + x.size :] = x[x.size - right - 1 : x.size - 1][::-1] if mode == "reflect" else 0
        return out

    def frames(self, x: np.ndarray, size: int, hop: int) -> np.ndarray:
        """See `ArrayNamespace`."""
        # The constructor: sliding_window_view takes as long as the FFT of 20 frames.
        width = x.itemsize
        view: np.ndarray = np.ndarray((1 + (x.size - size) // hop, size), x.dtype, x, strides=(hop * width, width))
        return view

    def windowed(self, frames: np.ndarray, window: np.ndarray) -> np.ndarray:
        """See `ArrayNamespace`."""
        out = self._buffer("frames", frames.shape, self._fft)
        np.multiply(frames, window, out=out)
        return out

    def spectrum(self, frames: np.ndarray) -> np.ndarray:
        """See `ArrayNamespace`."""
        shape = (frames.shape[0], frames.shape[1] // 2 + 1)
        return _real_fft()(frames, self._buffer("spectrum", shape, np.result_type(self._fft, np.complex64)))

    def power(self, spectrum: np.ndarray) -> np.ndarray:
        """See `ArrayNamespace`."""
        if self._fft == np.float32:
            magnitude = self.magnitude(spectrum)
            np.multiply(magnitude, magnitude, out=magnitude)
            return magnitude
        # In place: ``abs`` of double precision would take a hypot each.
        parts = spectrum.view(self._fft).reshape(*spectrum.shape, 2)
        np.multiply(parts, parts, out=parts)
        out = self._buffer("power", spectrum.shape, self._mel)
        np.add(parts[..., 0], parts[..., 1], out=out, dtype=self._fft, casting="same_kind")
        return out

    def magnitude(self, spectrum: np.ndarray) -> np.ndarray:
        """See `ArrayNamespace`. ``abs`` of single precision has vector instructions: half the time of squares and a root."""
        if self._fft == np.float64:
            return self.sqrt(self.power(spectrum))
        out = self._buffer("power", spectrum.shape, self._mel)
        np.abs(spectrum, out=out)
        return out

    def bands(self, values: np.ndarray, bank: Bands) -> np.ndarray:
        """See `ArrayNamespace`."""
        out = self._buffer("bands", (values.shape[0], bank.n_mels), self._mel)
        for rows, columns, weights in bank.groups:
            np.matmul(values[:, rows], weights, out=out[:, columns])
        return out

    def sqrt(self, x: np.ndarray) -> np.ndarray:
        """See `ArrayNamespace`."""
        np.sqrt(x, out=x)
        return x

    def clip(self, x: np.ndarray, low: float | None, high: float | None) -> np.ndarray:
        """See `ArrayNamespace`."""
        if low is not None:
            np.maximum(x, x.dtype.type(low), out=x)
        if high is not None:
            np.minimum(x, x.dtype.type(high), out=x)
        return x

    def log(self, x: np.ndarray) -> np.ndarray:
        """See `ArrayNamespace`."""
        np.log(x, out=x)
        return x

    def to_numpy(self, x: np.ndarray) -> np.ndarray:
        """See `ArrayNamespace`."""
        return x


class TorchNamespace(_Tables):
    """torch on a device (``cuda``, or ``cpu`` in the tests): agrees with numpy to the rounding of its precision."""

    def __init__(self, device: str, precision: str = "mixed") -> None:
        import torch

        super().__init__()
        self.torch = torch
        self.device = torch.device(device)
        self.precision = precision
        self._fft, self._mel = (getattr(torch, name) for name in _PRECISIONS[precision])

    def _tensor(self, values: Any, dtype: Any) -> Any:
        # A copy: catalogue tables are read-only, which torch warns of.
        return self.torch.tensor(np.asarray(values), dtype=dtype, device=self.device)

    def asarray(self, values: Any) -> Any:
        """See `ArrayNamespace`."""
        return self._tensor(values, self._mel)

    def signal(self, values: np.ndarray) -> Any:
        """See `ArrayNamespace`."""
        wide = values.dtype == np.float64 and self._fft == self.torch.float64
        kind = np.float64 if wide else np.float32
        return self.torch.as_tensor(np.ascontiguousarray(values, dtype=kind)).to(self.device)

    def window(self, values: np.ndarray) -> Any:
        """See `ArrayNamespace`."""
        return self._tensor(values, self._fft)

    def bank(self, values: np.ndarray) -> Any:
        """See `ArrayNamespace`."""
        return self._tensor(values, self._mel)

    def pad(self, x: Any, left: int, right: int, mode: str) -> Any:
        """See `ArrayNamespace`."""
        return self.torch.nn.functional.pad(
            x[None, None], (left, right), mode="reflect" if mode == "reflect" else "constant"
        )[0, 0]

    def frames(self, x: Any, size: int, hop: int) -> Any:
        """See `ArrayNamespace`."""
        return x.unfold(0, size, hop)

    def windowed(self, frames: Any, window: Any) -> Any:
        """See `ArrayNamespace`."""
        return frames * window

    def spectrum(self, frames: Any) -> Any:
        """See `ArrayNamespace`."""
        return self.torch.fft.rfft(frames, dim=-1)

    def power(self, spectrum: Any) -> Any:
        """See `ArrayNamespace`."""
        parts = self.torch.view_as_real(spectrum)
        return (parts * parts).sum(-1).to(self._mel)

    def magnitude(self, spectrum: Any) -> Any:
        """See `ArrayNamespace`."""
        return self.power(spectrum).sqrt_()

    def bands(self, values: Any, bank: Any) -> Any:
        """See `ArrayNamespace`."""
        return values @ bank

    def sqrt(self, x: Any) -> Any:
        """See `ArrayNamespace`."""
        return x.sqrt_()

    def clip(self, x: Any, low: float | None, high: float | None) -> Any:
        """See `ArrayNamespace`."""
        return x if low is None and high is None else x.clamp_(min=low, max=high)

    def log(self, x: Any) -> Any:
        """See `ArrayNamespace`."""
        return x.log_()

    def to_numpy(self, x: Any) -> np.ndarray:
        """See `ArrayNamespace`."""
        found: np.ndarray = x.cpu().numpy()
        return found


_mine = threading.local()


def namespace(device: str = "cpu", precision: str = "mixed") -> ArrayNamespace:
    """This thread's numpy for ``cpu``, torch for any other device (``cuda``, ``cuda:1``, or ``torch:cpu`` for tests)."""
    spaces: dict[tuple[str, str], ArrayNamespace] = _mine.__dict__.setdefault("spaces", {})
    if (device, precision) not in spaces:
        spaces[device, precision] = (
            NumpyNamespace(precision) if device == "cpu" else TorchNamespace(device.removeprefix("torch:"), precision)
        )
    return spaces[device, precision]
