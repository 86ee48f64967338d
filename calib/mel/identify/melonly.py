"""What a mel says without its audio: floor, range, walls, moments, quantisation. It narrows the catalogue; it names nothing.

Hop, window, sample rate, padding and the place of the bank need the audio: two front ends that differ in these give mels
that look alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from calib.errors import DataError
from calib.mel.catalogue import CatalogueEntry, entries
from calib.mel.frontend import FrontEnd
from calib.mel.identify.results import Found, Identification, NamedMatch
from calib.mel.identify.stored import Traits, frames_first, read_mel, traits

__all__ = ["identify_mels"]

# Levels of speech under Tacotron 2's front end (LJSpeech, ln of magnitude): 99th percentile, and p99 - p1.
_LOUD_LN, _RANGE_LN = -0.2, 9.0
_LOUD_SLACK = 4.0  # ln: 35 dB louder or softer recordings
_RANGE_SLACK = 2.2  # times wider or narrower


def identify_mels(mels: Sequence[np.ndarray], names: Sequence[str] | None = None) -> Identification:
    """Narrow down the front end of mels whose audio is not there.

    Args:
        mels: ``(T, M)`` or ``(M, T)`` each, as stored.
        names: for messages.

    Returns:
        Status ``mel-only``: ``names`` are the catalogued front ends that nothing seen speaks against, a set and no answer.

    Raises:
        DataError: no mels, empty, constant or non-finite ones, no axis that can be bins.
    """
    if not len(mels):
        raise DataError("there is nothing to identify: no mels")
    names = list(names or [f"mel {k}" for k in range(len(mels))])
    arrays = [read_mel(mel, name) for mel, name in zip(mels, names, strict=True)]
    layouts = frames_first([a.shape for a in arrays])
    if not layouts:
        raise DataError(f"no axis of these arrays can be the mel bins (8 to 512, the same in every file): shapes {', '.join(str(a.shape) for a in arrays[:3])}")  # fmt: skip
    layout = max(layouts, key=lambda name: _smooth(arrays, name)) if len(layouts) > 1 else layouts[0]
    stored = [a if layout == "TM" else np.ascontiguousarray(a.T) for a in arrays]
    y = np.concatenate([np.asarray(s, np.float64) for s in stored])
    if float(np.ptp(y)) == 0:
        raise DataError(f"every value is {y.flat[0]:g}: nothing can be identified")
    seen = traits(stored)
    found = _fields(y, seen, stored, layout)
    tried = [NamedMatch(e.id, not why, float("nan"), why or "nothing seen speaks against it") for e, why in ((e, against(e, y, seen)) for e in entries())]  # fmt: skip
    consistent = tuple(m.name for m in tried if m.consistent)
    bins = y.shape[1]
    return Identification(
        headline=f"without the audio no front end can be named: {len(consistent)} of the {len(tried)} catalogued ones are consistent with {bins} bins, {_walls(seen)} and values from {y.min():.4g} to {y.max():.4g}",
        status="mel-only",
        fields=found,
        names=consistent,
        tried=tuple(tried),
        layout=layout,
        skipped=(
            "sample rate, hop, window, n_fft, padding, mel scale, fmin, fmax, power, pre-emphasis: they need the audio (--audio)",
        ),
    )


def _smooth(arrays: Sequence[np.ndarray], layout: str) -> float:
    """Neighbouring frames of speech are more alike than neighbouring bins of a long axis; plus the likelier order."""
    a = np.asarray(arrays[0] if layout == "TM" else arrays[0].T, np.float64)
    if min(a.shape) < 3:
        return -1.0

    def likeness(x: np.ndarray) -> float:
        left, right = x[:-1].ravel(), x[1:].ravel()
        return float(np.corrcoef(left, right)[0, 1]) if left.std() > 0 and right.std() > 0 else 0.0

    usual = 0.05 if layout == frames_first([x.shape for x in arrays])[0] else 0.0
    return likeness(a - a.mean(0)) - likeness((a - a.mean(1, keepdims=True)).T) + usual


def _walls(t: Traits) -> str:
    if t.low_share and t.low_common:
        return f"a floor at {float(np.nanmin(t.low)):.5g} ({100 * t.low_share:.2g} % of the cells)"
    if t.low_share:
        return f"a floor by bin ({100 * t.low_share:.2g} % of the cells)"
    return "no floor"


def _fields(y: np.ndarray, t: Traits, stored: Sequence[np.ndarray], layout: str) -> dict[str, Found]:
    q = np.quantile(y, (0.01, 0.5, 0.99))
    neighbours = [float(np.corrcoef(y[:, k], y[:, k + 1])[0, 1]) for k in range(y.shape[1] - 1) if y[:, k].std() > 0 and y[:, k + 1].std() > 0]  # fmt: skip
    dead = np.flatnonzero(y.std(0) < 1e-9)
    out = {
        "layout": Found(layout, 0.9, (), f"stored as {stored[0].shape if layout == 'TM' else stored[0].shape[::-1]}"),
        "n_mels": Found(y.shape[1], 0.95, (), f"{y.shape[1]} bins in {len(stored)} file{'s' * (len(stored) != 1)}"),
        "range": Found((float(y.min()), float(y.max())), 1.0, (), f"p1 {q[0]:.4g}, median {q[1]:.4g}, p99 {q[2]:.4g}"),
        "moments": Found((float(y.mean()), float(y.std())), 1.0, (), "mean and sd over all bins and frames"),
        "floor": Found(float(np.nanmin(t.low)) if t.low_share else None, 0.95, () if t.low_share else ("below everything seen",), _walls(t)),
        "ceiling": Found(float(np.nanmax(t.high)) if t.high_share else None, 0.9, () if t.high_share else ("above everything seen",), f"{100 * t.high_share:.2g} % of the cells lie on the largest value"),
        "dtype": Found(t.dtype, 0.99, (), f"every stored value is a {t.dtype} number"),
        "log": Found("none" if t.linear else None, 0.8 if t.linear else 0.0, () if t.linear else ("ln", "log10", "20 log10", "normalised"), f"median over p99 is {q[1] / q[2] if q[2] else 0:.3g}: {'amplitudes' if t.linear else 'logarithms, or something near'}"),
        "utterance_norm": Found(t.utterance, 0.95 if t.utterance else 0.7, (), "every file is exactly so" if t.utterance else "no file has a fixed minimum and maximum, or mean 0 and sd 1 by bin"),
        "neighbours": Found(float(np.median(neighbours)) if neighbours else None, 0.9, (), "median correlation of neighbouring bins: near 1 where bins are narrower than the window resolves"),
    }  # fmt: skip
    if any(t.constant_ends):
        out["overwrite_last"] = Found(max(t.constant_ends), 0.9, (), f"frames at the end hold {t.end_value:g} throughout: padding, or overwritten")  # fmt: skip
    if dead.size:
        out["constant_bins"] = Found([int(k) for k in dead[:16]], 0.95, (), "bins that never move: filters without an FFT bin, or a band that the audio does not have")  # fmt: skip
    low = [float(s.min()) for s in stored]
    if len(low) > 2:
        out["minimum_by_file"] = Found((min(low), max(low)), 1.0, (), "smallest values by file: equal ones are a floor, others are not")  # fmt: skip
    return out


def against(entry: CatalogueEntry, y: np.ndarray, t: Traits) -> str:
    """What speaks against a catalogued front end, or nothing."""
    fe = entry.frontend
    if fe.n_mels != y.shape[1]:
        return f"it has {fe.n_mels} bins"
    if (fe.log == "none") != t.linear:
        return "it takes no logarithm" if fe.log == "none" else "the values are no logarithms"
    if fe.utterance_norm in {"minmax", "instance"} or t.utterance:
        if fe.utterance_norm != t.utterance:
            return (
                f"it normalises every utterance ({fe.utterance_norm})"
                if fe.utterance_norm in {"minmax", "instance"}
                else f"every file is normalised ({t.utterance})"
            )
        return ""
    if entry.statistics is not None:
        ahead = _unlike_speech(fe, y)
        mean, spread = float(np.median(y.mean(0))), float(np.median(y.std(0)))
        normalised = abs(mean) < 1.0 and 0.4 < spread < 2.0
        return "" if not ahead or normalised or entry.statistics == "divide" else ahead
    if fe.log == "none":
        return ""
    silence = np.asarray(fe.silence, np.float64)
    scale = abs(float(np.median(_line(fe)[0])))
    gap = (silence - y.min(0)).max()
    if gap > 0.02 * scale and fe.utterance_norm is None:
        return f"values go below its silence ({silence.min():.5g}) down to {y.min():.5g}"
    if t.low_share and t.low_common and fe.utterance_norm is None:
        floor, wall = fe.floor, float(np.nanmin(t.low))
        if floor is not None and abs(wall - floor) > 0.01 * scale:
            return f"its floor is {floor:.5g}, the mel's {wall:.5g}"
        if floor is None and t.low_share > 0.002:
            return "it has no floor of one value"
    if fe.clip_max is not None and y.max() > fe.clip_max + 1e-6:
        return f"values exceed its ceiling of {fe.clip_max:g}"
    return _unlike_speech(fe, y)


def _line(fe: FrontEnd) -> tuple[np.ndarray, np.ndarray]:
    line = fe.affine_from_ln()
    return line if line is not None else (np.ones(fe.n_mels), np.zeros(fe.n_mels))


def _unlike_speech(fe: FrontEnd, y: np.ndarray) -> str:
    """Would the values be speech of a usual level and range under this front end?"""
    a, b = _line(fe)
    x = (y - b) / a  # ln of filterbank outputs
    p1, p99 = np.quantile(x, (0.01, 0.99))
    loud = _LOUD_LN * fe.power + (3.3 if fe.power == 2 else 0.0) + (4.3 if fe.filter_norm is None else 0.0) + fe.power * 0.5 * math.log(fe.n_fft / 1024)  # fmt: skip
    if abs(p99 - loud) > _LOUD_SLACK * fe.power:
        return f"as its values these would be {8.686 / fe.power * (p99 - loud):+.0f} dB from usual speech"
    if fe.log_guard == "add" and fe.log_eps > 0.1:
        return ""
    if not _RANGE_LN / _RANGE_SLACK < (p99 - p1) / fe.power < _RANGE_LN * _RANGE_SLACK:
        return f"as its values these would span {8.686 / fe.power * (p99 - p1):.0f} dB, speech spans {8.686 * _RANGE_LN:.0f}"
    return ""
