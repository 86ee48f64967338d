"""The small array namespace that the front end's mathematics is written over: numpy on the CPU, torch elsewhere.

Each namespace has the same functions on its own arrays. Signals and mels are float32; windowing and FFT are float64.
In float32 the rounding of the loudest bin reaches the quietest: on LJSpeech up to 8e-4 of a ln unit at the floor and
2e-4 two units above it (measured against a float64 reference; 7e-7 with the FFT in float64, for 1.6 times its cost).
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

__all__ = ["ArrayNamespace", "NumpyNamespace", "TorchNamespace", "namespace", "one_blas_thread"]


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


class ArrayNamespace(Protocol):
    """What a namespace offers; arrays are ``Any`` because they are numpy's or torch's."""

    def asarray(self, values: Any) -> Any:
        """Float32 array on the namespace's device."""

    def signal(self, values: np.ndarray) -> Any:
        """Audio on the device: float32, or float64 where it is that already."""

    def window(self, values: np.ndarray) -> Any:
        """A float64 array on the device: what frames are multiplied by, which makes their FFT float64."""

    def pad(self, x: Any, left: int, right: int, mode: str) -> Any:
        """``(L,)`` to ``(left + L + right,)``; mode is ``reflect`` (edge not repeated) or ``constant`` (zeros)."""

    def frames(self, x: Any, size: int, hop: int) -> Any:
        """``(L,)`` to a view ``(1 + (L - size) // hop, size)`` without copying."""

    def power_spectrum(self, frames: Any) -> Any:
        """``(T, n_fft)`` windowed float64 frames to squared magnitudes ``(T, n_fft // 2 + 1)``, float32."""

    def sqrt(self, x: Any) -> Any:
        """Elementwise square root."""

    def maximum(self, x: Any, floor: float) -> Any:
        """Elementwise maximum with a number."""

    def log(self, x: Any) -> Any:
        """Elementwise natural logarithm."""

    def to_numpy(self, x: Any) -> np.ndarray:
        """Back to a numpy float32 array."""


class NumpyNamespace:
    """numpy, with scipy's FFT (half the time of numpy's)."""

    def asarray(self, values: Any) -> np.ndarray:
        """Float32, C-contiguous."""
        return np.ascontiguousarray(values, dtype=np.float32)

    def signal(self, values: np.ndarray) -> np.ndarray:
        """See `ArrayNamespace`."""
        return np.ascontiguousarray(values, dtype=np.float64 if values.dtype == np.float64 else np.float32)

    def window(self, values: np.ndarray) -> np.ndarray:
        """See `ArrayNamespace`."""
        return np.asarray(values, dtype=np.float64)

    def pad(self, x: np.ndarray, left: int, right: int, mode: str) -> np.ndarray:
        """See `ArrayNamespace`."""
        return np.pad(x, (left, right), mode="reflect" if mode == "reflect" else "constant")

    def frames(self, x: np.ndarray, size: int, hop: int) -> np.ndarray:
        """See `ArrayNamespace`."""
        return np.lib.stride_tricks.sliding_window_view(x, size)[::hop]

    def power_spectrum(self, frames: np.ndarray) -> np.ndarray:
        """See `ArrayNamespace`. Real and imaginary parts are squared in place: ``abs`` would take a hypot each."""
        from scipy.fft import rfft

        spectrum = rfft(frames, axis=-1)
        parts = spectrum.view(np.float64).reshape(*spectrum.shape, 2)
        np.multiply(parts, parts, out=parts)
        power: np.ndarray = np.add(parts[..., 0], parts[..., 1], dtype=np.float64).astype(np.float32)
        return power

    def sqrt(self, x: np.ndarray) -> np.ndarray:
        """See `ArrayNamespace`."""
        return np.asarray(np.sqrt(x))

    def maximum(self, x: np.ndarray, floor: float) -> np.ndarray:
        """See `ArrayNamespace`."""
        return np.asarray(np.maximum(x, np.float32(floor)))

    def log(self, x: np.ndarray) -> np.ndarray:
        """See `ArrayNamespace`."""
        return np.asarray(np.log(x))

    def to_numpy(self, x: np.ndarray) -> np.ndarray:
        """See `ArrayNamespace`."""
        return x


class TorchNamespace:
    """torch on a device (``cuda``, or ``cpu`` in the tests): agrees with numpy to float32 rounding."""

    def __init__(self, device: str) -> None:
        import torch

        self.torch = torch
        self.device = torch.device(device)

    def asarray(self, values: Any) -> Any:
        """Float32 tensor on the device."""
        return self.torch.as_tensor(np.ascontiguousarray(values, dtype=np.float32)).to(self.device)

    def signal(self, values: np.ndarray) -> Any:
        """See `ArrayNamespace`."""
        kind = np.float64 if values.dtype == np.float64 else np.float32
        return self.torch.as_tensor(np.ascontiguousarray(values, dtype=kind)).to(self.device)

    def window(self, values: np.ndarray) -> Any:
        """See `ArrayNamespace`."""
        return self.torch.as_tensor(np.asarray(values, dtype=np.float64)).to(self.device)

    def pad(self, x: Any, left: int, right: int, mode: str) -> Any:
        """See `ArrayNamespace`."""
        return self.torch.nn.functional.pad(
            x[None, None], (left, right), mode="reflect" if mode == "reflect" else "constant"
        )[0, 0]

    def frames(self, x: Any, size: int, hop: int) -> Any:
        """See `ArrayNamespace`."""
        return x.unfold(0, size, hop)

    def power_spectrum(self, frames: Any) -> Any:
        """See `ArrayNamespace`."""
        spectrum = self.torch.view_as_real(self.torch.fft.rfft(frames, dim=-1))
        return (spectrum * spectrum).sum(-1).float()

    def sqrt(self, x: Any) -> Any:
        """See `ArrayNamespace`."""
        return self.torch.sqrt(x)

    def maximum(self, x: Any, floor: float) -> Any:
        """See `ArrayNamespace`."""
        return self.torch.clamp(x, min=floor)

    def log(self, x: Any) -> Any:
        """See `ArrayNamespace`."""
        return self.torch.log(x)

    def to_numpy(self, x: Any) -> np.ndarray:
        """See `ArrayNamespace`."""
        return np.asarray(x.cpu().numpy(), dtype=np.float32)


def namespace(device: str = "cpu") -> ArrayNamespace:
    """Numpy for ``cpu``, torch for any other device (``cuda``, ``cuda:1``, or ``torch:cpu`` for tests)."""
    if device == "cpu":
        return NumpyNamespace()
    return TorchNamespace(device.removeprefix("torch:"))
