"""Mel statistics of one utterance; :mod:`calib.mel.dataset` merges them to those of a corpus.

Data flow::

    audio (L,) --measure_audio-->
    mel (T, M) --measure--> UtteranceStatistics --add--> DatasetStatistics --result--> mel_normalization_stats.json
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calib.data.wav import pcm16_floats
from calib.errors import DataError
from calib.mel import analysis
from calib.mel.analysis import STREAMED
from calib.mel.arrays import namespace, one_blas_thread
from calib.mel.exact import DyadicHistogram
from calib.mel.frontend import FrontEnd
from calib.mel.rounding import Noise

__all__ = ["FLOOR_TOLERANCE", "Running", "UtteranceStatistics", "measure", "measure_audio"]

# float32 arithmetic puts the floor within a few units in the last place of its nominal value.
FLOOR_TOLERANCE = 1e-4

_FOLD = 8  # frames
_ONES = np.ones(STREAMED)
_ONES_32 = np.ones(STREAMED, dtype=np.float32)


@dataclass(frozen=True)
class UtteranceStatistics:
    """What one utterance adds: everything that `DatasetStatistics` needs, a few kilobytes.

    Args:
        n_frames: valid frames T.
        s1: Σx a bin, float64 ``(M,)``.
        s2: Σx² a bin, float64 ``(M,)``.
        low: minimum a bin, float32 ``(M,)``.
        high: maximum a bin.
        at_floor: values at the front end's floor, a bin, int64.
        at_low: values equal to the utterance's own minimum.
        histogram: of all values.
        seconds: duration of the audio in s (or frames times hop, where there is no audio).
        speaker: speaker name, or None.
    """

    n_frames: int
    s1: np.ndarray
    s2: np.ndarray
    low: np.ndarray
    high: np.ndarray
    at_floor: np.ndarray
    at_low: int
    histogram: DyadicHistogram
    seconds: float
    speaker: str | None

    def content(self) -> bytes:
        """Bytes that identify the data behind the statistics: no names, no paths."""
        head = (
            f"{self.n_frames} {self.seconds!r} {self.speaker!r} {self.histogram.level} {self.histogram.start}".encode()
        )
        return b"|".join(
            [
                head,
                *(a.tobytes() for a in (self.s1, self.s2, self.low, self.high, self.at_floor, self.histogram.counts)),
            ]
        )


class Running:
    """The statistics of one utterance while its mel goes by, block by block; the mel itself is not kept.

    Args:
        n_mels: bins M.
        floor: the front end's floor, in the mel's unit, or None.
    """

    def __init__(self, n_mels: int, floor: float | None) -> None:
        self._threshold = None if floor is None else np.float32(floor + FLOOR_TOLERANCE)
        self._frames = self._bad = 0
        self._s1, self._s2 = np.zeros(n_mels), np.zeros(n_mels)
        self._low = np.full(n_mels, np.inf, dtype=np.float32)
        self._high = np.full(n_mels, -np.inf, dtype=np.float32)
        self._at_floor = np.zeros(n_mels)
        self._lowest, self._at_low = math.inf, 0
        self._histogram = DyadicHistogram()

    def add(self, block: np.ndarray) -> None:
        """Frames ``(t, M)``, float32 or float64, C-contiguous; `STREAMED` at most."""
        self._frames += len(block)
        values = block.astype(np.float32, copy=False)
        low, high = _fold(np.minimum, values), _fold(np.maximum, values)
        lowest, highest = float(low.min()), float(high.max())
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            self._bad += int(values.size - np.count_nonzero(np.isfinite(values)))
            return
        np.minimum(self._low, low, out=self._low)
        np.maximum(self._high, high, out=self._high)
        if lowest < self._lowest:
            self._lowest, self._at_low = lowest, 0
        if lowest == self._lowest:
            self._at_low += int(np.count_nonzero(values == np.float32(lowest)))
        if self._threshold is not None and lowest <= self._threshold:
            # A product with ones is exact here, and faster than counting along an axis.
            self._at_floor += _ONES_32[: len(block)] @ (values <= self._threshold).astype(np.float32)
        self._histogram.merge(DyadicHistogram.of(values, lowest, highest))
        wide = block.astype(np.float64)
        self._s1 += _ONES[: len(block)] @ wide
        np.multiply(wide, wide, out=wide)
        self._s2 += _ONES[: len(block)] @ wide

    def result(self, *, seconds: float = 0.0, speaker: str | None = None) -> UtteranceStatistics:
        """The statistics.

        Raises:
            DataError: no frames, or NaN or infinite values (with how many).
        """
        if self._frames == 0:
            raise DataError(f"the mel has shape (0, {self._s1.size}); it needs frames and bins (T, M)")
        if self._bad:
            raise DataError(f"the mel holds {self._bad} NaN or infinite values of {self._frames * self._s1.size}")
        return UtteranceStatistics(
            n_frames=self._frames,
            s1=self._s1,
            s2=self._s2,
            low=self._low,
            high=self._high,
            at_floor=self._at_floor.astype(np.int64),
            at_low=self._at_low,
            histogram=self._histogram,
            seconds=seconds,
            speaker=speaker,
        )


def _fold(extreme: np.ufunc, values: np.ndarray) -> np.ndarray:
    """The least or largest value a bin. Several frames are taken as one long row, which numpy's loops are fast on."""
    t, bins = values.shape
    whole = t - t % _FOLD
    if whole == 0 or not values.flags.c_contiguous:
        return np.asarray(extreme.reduce(values, axis=0))
    rows = extreme.reduce(values[:whole].reshape(-1, _FOLD * bins), axis=0).reshape(_FOLD, bins)
    return np.asarray(extreme.reduce(rows if whole == t else np.concatenate([rows, values[whole:]]), axis=0))


def measure(
    mel: np.ndarray, *, floor: float | None = None, seconds: float = 0.0, speaker: str | None = None
) -> UtteranceStatistics:
    """Statistics of one mel.

    Args:
        mel: float32 ``(T, M)``.
        floor: the front end's floor, in the mel's unit, or None.
        seconds: duration in s.
        speaker: speaker name, or None.

    Raises:
        DataError: no frames, or NaN or infinite values (with how many).
    """
    if mel.ndim != 2 or mel.shape[0] == 0:
        raise DataError(f"the mel has shape {mel.shape}; it needs frames and bins (T, M)")
    running = Running(mel.shape[1], floor)
    with one_blas_thread():
        for start, stop in analysis.spans(len(mel)):
            running.add(np.ascontiguousarray(mel[start:stop]))
    return running.result(seconds=seconds, speaker=speaker)


def measure_audio(
    fe: FrontEnd, samples: np.ndarray, *, seconds: float = 0.0, speaker: str | None = None
) -> UtteranceStatistics:
    """Statistics of one recording's mel, which need not be made as a whole.

    In float32 where that is good enough for this utterance (`calib.mel.rounding`), else in float64: a function of the
    utterance alone.

    Args:
        fe: the front end.
        samples: mono ``(L,)`` at its sample rate: float32, or int16 as the file has them.
        seconds: duration in s.
        speaker: speaker name, or None.

    Raises:
        DataError: as `FrontEnd.mel` and `measure`.
    """
    prepared = fe.prepare(pcm16_floats(samples) if samples.dtype == np.int16 else samples)
    if not analysis.streams(fe):
        return measure(fe.mel_of_prepared(prepared), floor=fe.floor, seconds=seconds, speaker=speaker)
    with one_blas_thread():
        if fe.log != "none":
            noise = Noise(fe)
            with np.errstate(over="ignore", invalid="ignore"):  # then some value is infinite, which is an error
                found = _run(fe, prepared, "single", noise).result(seconds=seconds, speaker=speaker)
            if noise.small(found):
                return found
        return _run(fe, prepared, "double").result(seconds=seconds, speaker=speaker)


def _run(fe: FrontEnd, prepared: np.ndarray, precision: str, noise: Noise | None = None) -> Running:
    running = Running(fe.n_mels, fe.floor)
    for block in analysis.mel_blocks(fe, prepared, namespace(precision=precision), noise):
        running.add(block)
    return running
