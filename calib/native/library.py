"""The compiled libraries: which of them work here, and which one this process uses."""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Any

from calib.errors import DataError, UsageError
from calib.native.compile import VARIANTS, library, source_digest

__all__ = ["PURE", "available", "chosen", "missing", "opened"]

PURE = "pure"
_VARIABLE = "CALIB_NATIVE"


def chosen() -> str | None:
    """The variant of this process: what ``CALIB_NATIVE`` says, else the best that works here; None for the pure path.

    Raises:
        UsageError: ``CALIB_NATIVE`` names what is not there, with the reason.
    """
    wanted = os.environ.get(_VARIABLE, "auto").strip().lower() or "auto"
    if wanted == "0":
        return None
    if wanted in {"auto", "1"}:
        return next(iter(available()), None)
    if wanted not in VARIANTS:
        raise UsageError(f"{_VARIABLE} is {wanted!r}; it must be one of auto, 0, {', '.join(sorted(VARIANTS))}")
    reason = missing(wanted)
    if reason is not None:
        raise UsageError(f"{_VARIABLE}={wanted}: {reason}", hint="unset it for the best that works")
    return wanted


@functools.cache
def available() -> tuple[str, ...]:
    """The variants that work here, best first."""
    return tuple(name for name in VARIANTS if missing(name) is None)


def missing(variant: str) -> str | None:
    """Why a variant cannot be used here; None where it can."""
    try:
        opened(variant)
    except DataError as error:
        return error.message
    return None


@functools.cache
def opened(variant: str) -> Any:
    """The loaded library of a variant, with the types of what it exports.

    Raises:
        DataError: it is not there, made from another source, or not for this processor.
    """
    if variant != "generic" and not opened("generic").calib_supports(variant.encode()):
        raise DataError(f"this processor does not have {variant}")
    file = library(variant)
    if not file.is_file():
        raise DataError(f"the {variant} kernel was not built at install (no C compiler?)")
    try:
        dll: Any = ctypes.CDLL(str(file))
    except OSError as error:
        raise DataError(f"the {variant} kernel cannot be loaded: {error}") from None
    dll.calib_source.restype = ctypes.c_char_p
    if dll.calib_source().decode() != source_digest():
        raise DataError(f"the {variant} kernel was compiled from another kernel.c; install calib again")
    address, whole, wide = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    dll.calib_plan.restype, dll.calib_plan.argtypes = address, [address] * 5
    dll.calib_free.restype, dll.calib_free.argtypes = None, [address]
    dll.calib_measure.argtypes = [address, address, whole, wide, wide] + [address] * 8
    dll.calib_pair_moments.restype, dll.calib_pair_moments.argtypes = None, [address, address] + [wide] * 4 + [address]
    return dll
