"""The two small JSON files that inference reads: mel statistics and mel scaling parameters.

This file needs numpy and the standard library only, imports nothing else of calib, and can be copied into
another project as it is. There are no defaults: a missing or malformed file is an error, never mean -5 and sd 2.

Conventions:
    A *normalised* mel is ``(raw - mel_mean) / mel_std``; ``mel_mean`` and ``mel_std`` are in the units of the raw
    mel (ln of magnitude for most front ends). ``scale_factor`` and ``offset`` act in the normalised space::

        raw = (pred * scale_factor + offset) * mel_std + mel_mean

    Global parameters work on anything with ``*`` and ``+`` (numpy arrays, torch tensors, floats) and keep dtype
    and device. Per-bin parameters need mels with the bins on the last axis, ``(..., M)``, in numpy or torch; so does a
    ``floor``, below which the mels of that front end hold nothing: the calibrated mel is clamped there.

Example:
    >>> normalizer = MelNormalizer(mel_mean=-5.0, mel_std=2.0)
    >>> scaler = MelScaler(scale_factor=0.5, offset=1.0, normalizer=normalizer)
    >>> scaler.calibrate(2.0)      # (2 * .5 + 1) * 2 - 5
    -1.0
"""

from __future__ import annotations

import json
import math
import os
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["SCALING_SCHEMA", "STATS_SCHEMA", "MelNormalizer", "MelScaler", "ParamsError", "ParamsWarning"]

STATS_SCHEMA = "calib/mel-normalization-stats/1"
SCALING_SCHEMA = "calib/mel-scaling-params/1"


class ParamsError(ValueError):
    """A parameter file that inference must not use: missing, malformed, or made for something else."""

    exit_code = 3
    hint: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ParamsWarning(UserWarning):
    """A parameter file that can be used, but says less than it should (legacy files, unknown identities)."""


@dataclass(frozen=True)
class MelNormalizer:
    """Mean and standard deviation of a dataset's mels, and the way to and from the normalised space.

    Args:
        mel_mean: mean over all bins and valid frames, in the units of the raw mel.
        mel_std: population standard deviation, same units; positive.
        per_bin_mean: per-bin means, shape ``(M,)``, or None.
        per_bin_std: per-bin standard deviations, shape ``(M,)``, or None.
        per_bin: use the per-bin values instead of the global ones. Never the default.
        stats_id: identity of the statistics, or None when unknown.
        frontend_id: identity of the front end, or None when unknown.
        extra: the whole file as read.

    Raises:
        ParamsError: non-finite values, ``mel_std <= 0``, wrong lengths.
    """

    mel_mean: float
    mel_std: float
    per_bin_mean: np.ndarray | None = field(default=None, compare=False)
    per_bin_std: np.ndarray | None = field(default=None, compare=False)
    per_bin: bool = False
    stats_id: str | None = None
    frontend_id: str | None = None
    extra: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _plain_float(self, "mel_mean")
        _plain_float(self, "mel_std")
        if self.mel_std <= 0:
            raise ParamsError(f"mel_std must be positive, got {self.mel_std!r}")
        _same_length("means", self.per_bin_mean, "standard deviations", self.per_bin_std)
        if self.per_bin and (self.per_bin_mean is None or self.per_bin_std is None):
            raise ParamsError("per-bin normalisation was asked for, but there are no per-bin statistics")
        if self.per_bin and self.per_bin_std is not None and not np.all(self.per_bin_std > 0):
            raise ParamsError(
                f"per_bin.std of bin {int(np.argmin(self.per_bin_std))} is {float(np.min(self.per_bin_std))!r}; a dead bin cannot be normalised"
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, per_bin: bool = False) -> MelNormalizer:
        """Read ``mel_normalization_stats.json``, strictly.

        A file with only ``mel_mean`` and ``mel_std`` (the legacy script's) is accepted with a `ParamsWarning`.

        Raises:
            ParamsError: no such file, not JSON, NaN, ``mel_std <= 0``, wrong lengths, unknown major version.
        """
        data = _read(path, STATS_SCHEMA, ("mel_mean", "mel_std"))
        mean, std = (_number(data, key, path) for key in ("mel_mean", "mel_std"))
        bins = data.get("per_bin")
        bin_mean = bin_std = None
        if bins is not None:
            if not isinstance(bins, dict):
                raise ParamsError(f"{path}: per_bin must be an object with mean and std, got {type(bins).__name__}")
            bin_mean = _vector(bins, "mean", path)
            bin_std = _vector(bins, "std", path)
            if np.any(bin_std < 0):
                raise ParamsError(f"{path}: per_bin.std must not be negative, got {float(bin_std.min())!r}")
        try:
            return cls(
                mean,
                std,
                bin_mean,
                bin_std,
                per_bin,
                _text(data, "stats_id", path),
                _text(data, "frontend_id", path),
                data,
            )
        except ParamsError as error:
            raise ParamsError(f"{path}: {error.message}", hint=error.hint) from None

    def normalize(self, mel: Any) -> Any:
        """``(mel - mean) / std``; shape, dtype and device of ``mel`` are kept."""
        if not self.per_bin:
            return (mel - self.mel_mean) / self.mel_std
        return (mel - _like(self.per_bin_mean, mel)) / _like(self.per_bin_std, mel)

    def denormalize(self, mel: Any) -> Any:
        """``mel * std + mean``, the inverse of `normalize`."""
        if not self.per_bin:
            return mel * self.mel_std + self.mel_mean
        return mel * _like(self.per_bin_std, mel) + _like(self.per_bin_mean, mel)


@dataclass(frozen=True)
class MelScaler:
    """Scale and offset in the normalised space, found by ``calib fit-scaler``.

    Args:
        scale_factor: slope in the normalised space.
        offset: intercept in the normalised space.
        per_bin_scale: per-bin slopes, shape ``(M,)``, or None. Used instead of the global ones when present.
        per_bin_offset: per-bin intercepts, shape ``(M,)``, or None.
        normalizer: the statistics that `calibrate` denormalises with.
        verdict: what ``calib`` said of the pairs that the parameters were fitted on, or None (legacy files).
        stats_id: identity of the statistics that the parameters belong to, or None.
        frontend_id: identity of the front end, or None.
        model_id: identity of the model, or None.
        floor: least value of the raw mel, where the fit was made above it; `calibrate` clamps there. None: no clamp.
        extra: the whole file as read.

    Raises:
        ParamsError: non-finite values, wrong lengths.
    """

    scale_factor: float
    offset: float
    per_bin_scale: np.ndarray | None = field(default=None, compare=False)
    per_bin_offset: np.ndarray | None = field(default=None, compare=False)
    normalizer: MelNormalizer | None = None
    verdict: str | None = None
    stats_id: str | None = None
    frontend_id: str | None = None
    model_id: str | None = None
    floor: float | None = None
    extra: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _plain_float(self, "scale_factor")
        _plain_float(self, "offset")
        if self.floor is not None:
            _plain_float(self, "floor")
        if (self.per_bin_scale is None) != (self.per_bin_offset is None):
            raise ParamsError("per-bin scale and offset come together, or not at all")
        _same_length("scales", self.per_bin_scale, "offsets", self.per_bin_offset)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], stats: str | os.PathLike[str] | MelNormalizer | None = None
    ) -> MelScaler:
        """Read ``mel_scaling_params.json``, strictly.

        Args:
            path: the file.
            stats: the statistics that belong to it (a file or a `MelNormalizer`); needed by `calibrate`.

        Raises:
            ParamsError: no such file, not JSON, NaN, wrong lengths, unknown major version, or a ``stats_id`` or
                ``frontend_id`` that differs from that of ``stats``.
        """
        data = _read(path, SCALING_SCHEMA, ("scale_factor", "offset"))
        scale, offset = (_number(data, key, path) for key in ("scale_factor", "offset"))
        floor = None if data.get("floor") is None else _number(data, "floor", path)
        bins = data.get("per_bin")
        bin_scale = bin_offset = None
        if bins is not None:
            if not isinstance(bins, dict):
                raise ParamsError(
                    f"{path}: per_bin must be null or an object with scale and offset, got {type(bins).__name__}"
                )
            bin_scale, bin_offset = _vector(bins, "scale", path), _vector(bins, "offset", path)
        if data.get("verdict") == "no-signal":
            warnings.warn(
                f"{path}: written by force although calib found no signal; these parameters repair nothing",
                ParamsWarning,
                stacklevel=2,
            )
        ids = {key: _text(data, key, path) for key in ("stats_id", "frontend_id", "model_id")}
        normalizer = stats if isinstance(stats, MelNormalizer) or stats is None else MelNormalizer.load(stats)
        if normalizer is not None:
            for key in ("frontend_id", "stats_id"):
                mine, theirs = ids[key], getattr(normalizer, key)
                if (mine is None) != (theirs is None):
                    unknown = path if mine is None else "the statistics given"
                    warnings.warn(
                        f"{key} of {unknown} is unknown: nothing shows that parameters and statistics belong together",
                        ParamsWarning,
                        stacklevel=2,
                    )
                if mine is not None and theirs is not None and mine != theirs:
                    raise ParamsError(
                        f"{path}: made for {key} {mine}, but the statistics given have {theirs}{_differences(data, normalizer.extra, key)}",
                        hint="use the statistics that the parameters were fitted with, or fit again",
                    )
        try:
            return cls(
                scale,
                offset,
                bin_scale,
                bin_offset,
                normalizer,
                _text(data, "verdict", path),
                floor=floor,
                extra=data,
                **ids,
            )
        except ParamsError as error:
            raise ParamsError(f"{path}: {error.message}", hint=error.hint) from None

    def scale(self, mel: Any) -> Any:
        """``mel * scale_factor + offset``: from the model's output to the normalised space."""
        if self.per_bin_scale is None:
            return mel * self.scale_factor + self.offset
        return mel * _like(self.per_bin_scale, mel) + _like(self.per_bin_offset, mel)

    def calibrate(self, mel: Any, normalizer: MelNormalizer | None = None) -> Any:
        """Scale, denormalise, clamp at the floor: from the model's output to the raw mel that the vocoder expects.

        Raises:
            ParamsError: no statistics were given here or to `load`.
        """
        chosen = normalizer or self.normalizer
        if chosen is None:
            raise ParamsError("calibrate needs the mel statistics: MelScaler.load(path, stats=...)")
        raw = chosen.denormalize(self.scale(mel))
        return raw if self.floor is None else _at_least(raw, self.floor)


def _read(path: str | os.PathLike[str], schema: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """Read a JSON object and check its version; NaN and Infinity are errors."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            data = json.load(file, parse_constant=_no_constant)
    except FileNotFoundError:
        raise ParamsError(
            f"{path}: no such file", hint="there is no default: make it with calib stats or calib fit-scaler"
        ) from None
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ParamsError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(data, dict):
        raise ParamsError(f"{path}: expected a JSON object, got {type(data).__name__}")
    missing = [key for key in keys if key not in data]
    if missing:
        raise ParamsError(
            f"{path}: lacks {' and '.join(missing)}; it has {', '.join(list(data)[:8]) or 'no keys'}",
            hint="make it with calib stats or calib fit-scaler",
        )
    found = data.get("schema")
    if found is None:
        warnings.warn(
            f"{path}: a legacy file without schema and identities; nothing shows what it was made for",
            ParamsWarning,
            stacklevel=3,
        )
    elif found != schema:
        raise ParamsError(f"{path}: schema is {found!r}, this version reads {schema!r}")
    return data


def _differences(mine: dict[str, Any], theirs: dict[str, Any], key: str) -> str:
    """The fields in which two files differ, where they hold any."""
    if key == "stats_id":
        return ""
    a, b = mine.get("frontend"), theirs.get("frontend")
    if not isinstance(a, dict) or not isinstance(b, dict):
        return ""
    return ": " + "; ".join(
        f"{name} {a.get(name)!r} and {b.get(name)!r}" for name in sorted({*a, *b}) if a.get(name) != b.get(name)
    )


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number that JSON or inference can use")


def _is_finite(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def _finite(name: str, value: Any) -> None:
    if not _is_finite(value):
        raise ParamsError(f"{name} must be a finite number, got {value!r:.80}")


def _plain_float(owner: Any, name: str) -> None:
    """A finite Python float: a numpy one would turn float32 mels into float64."""
    value = getattr(owner, name)
    if isinstance(value, np.number):  # what mel.mean() gives
        value = value.item()
    _finite(name, value)
    object.__setattr__(owner, name, float(value))


def _same_length(what: str, a: np.ndarray | None, others: str, b: np.ndarray | None) -> None:
    if a is not None and b is not None and a.shape != b.shape:
        raise ParamsError(f"per_bin has {a.size} {what} but {b.size} {others}")


def _number(data: dict[str, Any], key: str, path: object) -> float:
    value = data[key]
    if not _is_finite(value):
        raise ParamsError(f"{path}: {key} must be a finite number, got {value!r:.80}")
    return float(value)


def _text(data: dict[str, Any], key: str, path: object) -> str | None:
    value = data.get(key)
    if value is not None and not isinstance(value, str):
        raise ParamsError(f"{path}: {key} must be a text or null, got {value!r:.80}")
    return value


def _vector(bins: dict[str, Any], key: str, path: object) -> np.ndarray:
    values = bins.get(key)
    if not isinstance(values, list) or not values:
        raise ParamsError(f"{path}: per_bin.{key} must be a list with one number a mel bin")
    for index, value in enumerate(values):
        if not _is_finite(value):
            raise ParamsError(f"{path}: per_bin.{key}[{index}] must be a finite number, got {value!r:.80}")
    return np.asarray(values, dtype=np.float64)


def _at_least(mel: Any, floor: float) -> Any:
    if hasattr(mel, "clamp"):  # torch, without importing it
        return mel.clamp(min=floor)
    return np.maximum(mel, floor) if getattr(mel, "shape", ()) else max(mel, floor)


def _like(values: np.ndarray | None, mel: Any) -> Any:
    """``values`` as an array of the kind, dtype and device of ``mel``."""
    assert values is not None
    if not getattr(mel, "shape", ()):
        raise ParamsError(f"per-bin parameters need a mel with the bins on its last axis, got {type(mel).__name__}")
    if mel.shape[-1] != values.size:
        raise ParamsError(f"the mel has {mel.shape[-1]} bins on its last axis, the parameters have {values.size}")
    if hasattr(mel, "new_tensor"):  # torch, without importing it
        return mel.new_tensor(values)
    array = np.asarray(mel)
    return values.astype(array.dtype if array.dtype.kind == "f" else np.float64)
