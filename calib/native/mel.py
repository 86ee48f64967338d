"""Mel statistics with the compiled kernel: prepared samples to `UtteranceStatistics` in one pass.

It computes what `calib.mel.analysis` and `calib.mel.statistics` do: per bin within 1e-6 of them over some minutes of audio
(of one utterance within what float32 costs them, see `calib.mel.rounding`), and the same bytes in every run on one
instruction set. It never decides what is wrong with a recording: where anything is out of the ordinary
(NaN, too short, a value beyond the histogram) it declines, and the pure path does the work or says what is wrong. That
depends on the utterance alone, so a run stays reproducible.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from typing import Any

import numpy as np

from calib.mel.exact import DyadicHistogram
from calib.mel.frontend import FrontEnd
from calib.mel.statistics import FLOOR_TOLERANCE, UtteranceStatistics
from calib.native.library import PURE, chosen, opened

__all__ = ["Kernel", "kernel", "kernel_for", "path"]

_KINDS = {np.dtype(np.int16): 0, np.dtype(np.float32): 1, np.dtype(np.float64): 2}
_MOST_BINS = 1 << 16  # of a histogram, here and in `DyadicHistogram`
_PLANS = 8  # front ends kept a thread

_INTS = "n_fft hop n_mels inner pad_audio reflect power eps_mode log guard affine has_mean has_std has_low has_high overwrite has_floor reserved"
_FLOATS = "eps log_eps log_scale post_scale post_offset clip_low clip_high overwrite_value floor"


class _Settings(ctypes.Structure):
    """``settings`` of kernel.c."""

    _fields_ = tuple((name, ctypes.c_int32) for name in _INTS.split()) + tuple(
        (name, ctypes.c_float) for name in _FLOATS.split()
    )


class _Plan:
    """One front end's tables and scratch memory in the kernel, and the arrays its results come back in."""

    def __init__(self, dll: Any, fe: FrontEnd) -> None:
        window, bank = np.ascontiguousarray(fe.window_array()), np.ascontiguousarray(fe.basis(), dtype=np.float32)
        vectors = [None if v is None else np.asarray(v, dtype=np.float32) for v in (fe.post_mean, fe.post_std)]
        settings = _settings(fe)
        self._free = dll.calib_free
        self.handle = dll.calib_plan(
            ctypes.byref(settings), _pointer(window), _pointer(bank), _pointer(vectors[0]), _pointer(vectors[1])
        )
        m = fe.n_mels
        self.s1, self.s2 = np.empty(m), np.empty(m)
        self.low, self.high = np.empty(m, np.float32), np.empty(m, np.float32)
        self.at_floor, self.at_low = np.empty(m, np.int64), np.empty(1, np.int64)
        self.span, self.counts = np.empty(2, np.int64), np.empty(_MOST_BINS, np.int64)
        results = (self.s1, self.s2, self.low, self.high, self.at_floor, self.at_low, self.span, self.counts)
        self.results = tuple(_pointer(array) for array in results)

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self._free(self.handle)


class Kernel:
    """One compiled variant.

    Args:
        variant: ``generic``, ``avx2`` or ``avx512``.

    Attributes:
        name: the variant.
        lanes: frames computed side by side.

    Raises:
        DataError: it is not there, of another source, or not for this processor; with the reason.
    """

    def __init__(self, variant: str) -> None:
        self.name = variant
        self._dll = opened(variant)
        self.lanes = int(self._dll.calib_lanes())
        self._local = threading.local()

    def takes(self, fe: FrontEnd) -> bool:
        """Whether the kernel computes this front end: no normalisation by utterance, n_fft even with factors 2, 3, 5."""
        return fe.utterance_norm is None and self._plan(fe) is not None

    def measure(
        self, fe: FrontEnd, samples: np.ndarray, *, seconds: float = 0.0, speaker: str | None = None
    ) -> UtteranceStatistics | None:
        """Statistics of one utterance's mel; None where the pure path must do it (see the module).

        Args:
            fe: the front end.
            samples: mono ``(L,)`` at its rate: float32, or int16 as the file has them.
            seconds: duration in s.
            speaker: speaker name, or None.

        Raises:
            DataError: what `FrontEnd.prepare` refuses.
        """
        if samples.ndim != 1 or samples.dtype not in _KINDS or not self.takes(fe):
            return None
        if _prepares(fe):
            if samples.dtype == np.int16:
                samples = np.multiply(samples, np.float32(2.0**-15), dtype=np.float32)
            samples = fe.prepare(samples)
        samples = np.ascontiguousarray(samples)
        frames = fe.n_frames(samples.size)
        inner = fe.pad_each_side - fe.pad_audio
        reflects = fe.padding in {"center", "same"} and fe.pad_mode == "reflect"
        if frames < 1 or (reflects and samples.size + 2 * fe.pad_audio <= inner):
            return None
        plan = self._plan(fe)
        assert plan is not None
        done = self._dll.calib_measure(
            plan.handle, samples.ctypes.data, _KINDS[samples.dtype], samples.size, frames, *plan.results
        )
        if done != 0:
            return None
        start, size = (int(v) for v in plan.span)
        return UtteranceStatistics(
            n_frames=frames,
            s1=plan.s1.copy(),
            s2=plan.s2.copy(),
            low=plan.low.copy(),
            high=plan.high.copy(),
            at_floor=plan.at_floor.copy(),
            at_low=int(plan.at_low[0]),
            histogram=DyadicHistogram(start=start, counts=plan.counts[:size].copy()),
            seconds=seconds,
            speaker=speaker,
        )

    def _plan(self, fe: FrontEnd) -> _Plan | None:
        plans: dict[str, _Plan] = self._local.__dict__.setdefault("plans", {})
        plan = plans.get(fe.id)
        if plan is None:
            if len(plans) >= _PLANS:
                del plans[next(iter(plans))]
            plan = plans[fe.id] = _Plan(self._dll, fe)
        return plan if plan.handle else None


def kernel() -> Kernel | None:
    """The kernel of this process: what ``CALIB_NATIVE`` says, else the best that works here; None for the pure path.

    Raises:
        UsageError: ``CALIB_NATIVE`` names what is not there, with the reason.
    """
    variant = chosen()
    return None if variant is None else _kernel(variant)


def kernel_for(fe: FrontEnd | None, device: str = "cpu") -> Kernel | None:
    """The kernel that computes this front end on this device; None for the pure path.

    Raises:
        UsageError: as `kernel`.
    """
    found = kernel() if fe is not None and device == "cpu" else None
    return found if found is not None and fe is not None and found.takes(fe) else None


def path(fe: FrontEnd | None, device: str = "cpu") -> str:
    """Name of the path that statistics of this front end take: ``pure``, ``generic``, ``avx2`` or ``avx512``.

    Raises:
        UsageError: as `kernel`.
    """
    found = kernel_for(fe, device)
    return PURE if found is None else found.name


_kernel = functools.cache(Kernel)


def _pointer(array: np.ndarray | None) -> Any:
    return None if array is None else ctypes.c_void_p(array.ctypes.data)


def _prepares(fe: FrontEnd) -> bool:
    """Whether `FrontEnd.prepare` changes samples."""
    steps = (fe.trim_top_db, fe.rms_norm, fe.peak_norm, fe.clip_audio)
    return any(step is not None for step in steps) or bool(fe.preemphasis)


def _settings(fe: FrontEnd) -> _Settings:
    floor = fe.floor
    return _Settings(
        n_fft=fe.n_fft,
        hop=fe.hop_length,
        n_mels=fe.n_mels,
        inner=0 if fe.padding == "end" else fe.pad_each_side - fe.pad_audio,
        pad_audio=fe.pad_audio,
        reflect=fe.padding in {"center", "same"} and fe.pad_mode == "reflect",
        power=fe.power,
        eps_mode=0 if not fe.spectrum_eps else {"add": 1, "clamp": 2}[fe.spectrum_eps_mode],
        log=fe.log != "none",
        guard={"none": 0, "clamp": 1, "add": 2}[fe.log_guard],
        affine=fe.post_scale != 1.0 or bool(fe.post_offset),
        has_mean=fe.post_mean is not None,
        has_std=fe.post_std is not None,
        has_low=fe.clip_min is not None,
        has_high=fe.clip_max is not None,
        overwrite=fe.overwrite_last,
        has_floor=floor is not None,
        eps=fe.spectrum_eps,
        log_eps=fe.log_eps,
        log_scale=fe.log_scale,
        post_scale=fe.post_scale,
        post_offset=fe.post_offset,
        clip_low=fe.clip_min or 0.0,
        clip_high=fe.clip_max or 0.0,
        overwrite_value=fe.overwrite_value,
        floor=0.0 if floor is None else floor + FLOOR_TOLERANCE,
    )
