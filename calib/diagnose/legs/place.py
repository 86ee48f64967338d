"""Mels of one recording on one time grid: where a mel begins in the audio, and how fast its frames go by.

Conventions:
    ``t`` is a mel ``(T, M)`` of unknown beginning; `Recorded` computes the reference of the same utterance from the
    audio that begins ``start`` seconds later. A positive start: the mel lacks the beginning of the audio.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.sample import whitened

__all__ = ["Placed", "Recorded", "lag_between", "on_grid", "place", "same_bins"]

Recorded = Callable[[int, float], "np.ndarray | None"]

_EDGE = 20  # frames that two mels share at least
_FAINT = 0.3  # r below which the bins do not tell where a mel lies, and the loudness of the frames is asked
_LOUDNESS = 0.5  # r of the loudness that is believed
_COARSE = (-0.5, -0.25, 0.25, 0.5)  # of a frame
_FINE = (-0.125, 0.125)
_BETTER = 0.7  # 1 - r between frames over 1 - r on frames below which the mel lies between them
_ALIKE = 0.3  # of a frame: beginnings of two utterances that count as one


@dataclass(frozen=True)
class Placed:
    """One utterance on the reference's time grid.

    Args:
        index: of the utterance.
        mel: ``(T', M)``: the mel, cut (and stretched) to the grid.
        reference: ``(T', M')`` of the same frames.
        start: seconds of audio before the mel's first frame beyond those before the reference's.
        skipped: frames of the mel before the audio begins.
        r: correlation within bins, negative where one of them is negated.
    """

    index: int
    mel: np.ndarray
    reference: np.ndarray
    start: float
    skipped: int
    r: float


def lag_between(a: np.ndarray, b: np.ndarray) -> tuple[int, float]:
    """``(lag, r)`` with ``a[t]`` most like ``b[t + lag]``, or most unlike it (a negated mel); r is within bins, of the frames shared.

    Args:
        a: ``(T, M)``.
        b: ``(T', M)``.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    x, y = (whitened(m - m.mean(0, dtype=np.float64).astype(np.float32)) for m in (a, b))
    n = next_fast_len(len(x) + len(y), real=True)
    cross = irfft((np.conj(rfft(x, n, axis=0)) * rfft(y, n, axis=0)).sum(1), n)
    lags = np.arange(-(len(x) - 1), len(y))
    first, last = np.maximum(0, -lags), np.minimum(len(x), len(y) - lags)  # frames of x that are shared
    ex, ey = (np.concatenate([[0.0], np.cumsum(np.einsum("tm,tm->t", m, m, dtype=np.float64))]) for m in (x, y))
    energy = (ex[last] - ex[first]) * (ey[last + lags] - ey[first + lags])
    enough = last - first >= max(min(len(x), len(y)) // 2, min(_EDGE, len(x), len(y)))
    r = np.where(enough & (energy > 0), cross[lags % n] / np.sqrt(np.maximum(energy, 1e-20)), 0.0)
    best = int(np.abs(r).argmax())
    return int(lags[best]), float(r[best])


def on_grid(t: np.ndarray, ratio: float) -> np.ndarray:
    """A mel with ``ratio`` times as many frames a second as the grid, read off at the grid's frames (linear)."""
    if ratio == 1.0:
        return t
    at = np.arange(0.0, len(t) - 1 + 1e-9, ratio)
    low = np.minimum(at.astype(int), len(t) - 2) if len(t) > 1 else np.zeros(len(at), dtype=int)
    part = (at - low)[:, None].astype(np.float32)
    return np.asarray(t[low] * (1 - part) + t[np.minimum(low + 1, len(t) - 1)] * part, dtype=np.float32)


def same_bins(t: np.ndarray, bins: int) -> np.ndarray:
    """A mel read off at another number of bins: good enough to see where it lies, and for nothing else."""
    if t.shape[1] == bins:
        return t
    at = np.linspace(0, t.shape[1] - 1, bins)
    low = np.minimum(at.astype(int), t.shape[1] - 2)
    part = (at - low).astype(np.float32)
    return np.asarray(t[:, low] * (1 - part) + t[:, low + 1] * part, dtype=np.float32)


def place(mels: Sequence[tuple[int, np.ndarray]], recorded: Recorded, hop: float, ratio: float = 1.0) -> list[Placed]:
    """Every mel that has a recording, on the reference's grid; frames that only one of the two has are cut.

    Args:
        mels: ``(index, t)``.
        recorded: the reference.
        hop: of the reference, in seconds.
        ratio: frames a second of the mels over those of the reference.
    """
    there: list[tuple[int, np.ndarray, float]] = []
    for index, mel in mels:
        reference = recorded(index, 0.0)
        t = on_grid(mel, ratio)
        if reference is None or min(len(t), len(reference)) < 2:
            continue
        there.append((index, t, float(_whole_lag(t, reference))))
    if not there:
        return []
    whole = [lag for _, _, lag in there]
    parts = [_part(t, index, recorded, hop, lag) for index, t, lag in there[:2]]
    starts = [lag + part for lag, part in zip(whole, parts, strict=False)]
    first = starts[0]
    if max(abs(s - first) for s in starts) < _ALIKE and max(abs(lag - round(first)) for lag in whole) <= 1:
        starts = [first] * len(there)
    else:  # each begins somewhere else: trimmed
        starts += [lag + _part(t, index, recorded, hop, lag) for index, t, lag in there[2:]]
    out = []
    for (index, t, _), start in zip(there, starts, strict=True):
        placed = _placed(index, t, recorded, hop, start)
        if placed is not None:
            out.append(placed)
    return out


def _whole_lag(t: np.ndarray, reference: np.ndarray) -> int:
    lag, r = lag_between(same_bins(t, reference.shape[1]), reference)
    if abs(r) >= _FAINT:
        return lag
    by_loudness, r = lag_between(t.mean(1, keepdims=True), reference.mean(1, keepdims=True))
    return by_loudness if abs(r) >= _LOUDNESS else 0


def _part(t: np.ndarray, index: int, recorded: Recorded, hop: float, lag: float) -> float:
    """The part of a frame, in [-5/8, 5/8], by which the mel lies between the reference's frames; mostly 0."""

    def r(part: float) -> float:
        placed = _placed(index, t, recorded, hop, lag + part)
        return -1.0 if placed is None else abs(placed.r)

    on = r(0.0)
    if 1.0 - on < 1e-6:
        return 0.0
    best = max((r(part), part) for part in _COARSE)
    if 1.0 - best[0] > _BETTER * (1.0 - on):
        return 0.0
    return max([best, *((r(best[1] + fine), best[1] + fine) for fine in _FINE)])[1]


def _placed(index: int, t: np.ndarray, recorded: Recorded, hop: float, start: float) -> Placed | None:
    """The mel and its reference, where the mel begins ``start`` frames into the audio."""
    skipped = math.ceil(-start) if start < 0 else 0
    reference = recorded(index, (start + skipped) * hop)
    if reference is None:
        return None
    mel = t[skipped:]
    n = min(len(mel), len(reference))
    if n < 2:
        return None
    mel, reference = mel[:n], reference[:n]
    x, y = (
        whitened(m - m.mean(0, dtype=np.float64).astype(np.float32))
        for m in (same_bins(mel, reference.shape[1]), reference)
    )
    energy = float((x * x).sum(dtype=np.float64) * (y * y).sum(dtype=np.float64))
    r = float((x * y).sum(dtype=np.float64)) / math.sqrt(energy) if energy > 0 else 0.0
    return Placed(index, mel, reference, start * hop, skipped, r)
