"""Statistics in JSON and YAML: calib's own, the legacy two keys, Matcha's ``data_statistics``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from calib.data.statsfiles.model import MelStatistics, checked_scalars
from calib.errors import DataError

__all__ = ["read_mapping", "read_text"]

_SCHEMA = "calib/mel-normalization-stats/1"  # that of calib.params, which inference reads it with


def read_text(text: str, path: str, format_: str | None) -> MelStatistics:
    """JSON where it begins with a brace, else YAML through a loader that builds no objects.

    Raises:
        DataError: neither, or no statistics in it.
    """
    if text.lstrip().startswith("{"):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read as JSON: {error}") from None
    else:
        from calib.data.yamlfiles import parse_yaml

        content = parse_yaml(text, path)
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: is no statistics file: {_shown(content)}", hint="known: see calib stats --help, --export"
        )
    return read_mapping(content, path, format_)


def _shown(content: Any) -> str:
    return (
        f"its text begins with {content[:40]!r}" if isinstance(content, str) else f"it holds a {type(content).__name__}"
    )


def read_mapping(content: Mapping[str, Any], path: str, format_: str | None) -> MelStatistics:
    """Statistics in a parsed file.

    Raises:
        DataError: none in it, or values that cannot be.
    """
    if format_ != "matcha" and {"mel_mean", "mel_std"} <= set(content):
        return _calib(content, path)
    for place in (content, content.get("data"), content.get("model")):
        inner = place.get("data_statistics") if isinstance(place, Mapping) else None
        if isinstance(inner, Mapping) and {"mel_mean", "mel_std"} <= set(inner):
            return MelStatistics(*checked_scalars(inner["mel_mean"], inner["mel_std"], path), "matcha", path=path)
        if isinstance(place, Mapping) and "data_statistics" in place and inner is None:
            raise DataError(
                f"{path}: data_statistics is empty: Matcha-TTS takes mean 0 and sd 1 then, so the mels are not normalised"
            )
    if format_ == "matcha" and {"mel_mean", "mel_std"} <= set(content):
        return MelStatistics(*checked_scalars(content["mel_mean"], content["mel_std"], path), "matcha", path=path)
    lacks = next((f"it lacks {b}" for a, b in (("mel_mean", "mel_std"), ("mel_std", "mel_mean")) if a in content), None)
    raise DataError(
        f"{path}: holds no mel statistics: {lacks or 'its keys are ' + (', '.join(map(str, list(content)[:8])) or 'none')}"
    )


def _calib(content: Mapping[str, Any], path: str) -> MelStatistics:
    mean, std = checked_scalars(content["mel_mean"], content["mel_std"], path)
    bins, own = None, content.get("per_bin")
    if isinstance(own, Mapping) and isinstance(own.get("mean"), list) and isinstance(own.get("std"), list):
        try:
            values = [np.asarray(own[key], dtype=np.float64) for key in ("mean", "std")]
        except (TypeError, ValueError):
            raise DataError(f"{path}: per_bin holds something that is no number") from None
        # A dead bin has sd 0 in calib's own file, which says so.
        if values[0].shape != values[1].shape or not all(np.isfinite(v).all() and v.ndim == 1 for v in values):
            raise DataError(
                f"{path}: per_bin holds values that are not finite, or {values[0].size} means and {values[1].size} sds"
            )
        bins = (values[0], values[1])
    frames = content.get("n_frames")
    notes: tuple[str, ...] = ()
    if content.get("schema") is None:
        notes = ("a file of two values without identities, as the legacy script and Matcha-TTS write it",)
    elif content["schema"] != _SCHEMA:
        raise DataError(f"{path}: schema is {content['schema']!r}, this version reads {_SCHEMA!r}")
    counted = isinstance(frames, (int, float)) and not isinstance(frames, bool) and math.isfinite(frames)
    return MelStatistics(
        mean, std, "calib", bins=bins, n_frames=int(frames or 0) if counted else None, notes=notes, path=path, content=dict(content),
    )  # fmt: skip
