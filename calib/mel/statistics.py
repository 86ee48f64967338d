"""Mel statistics of a dataset: one streaming pass, constant memory, exact merging.

Data flow::

    mel (T, M) --measure--> UtteranceStatistics --add--> DatasetStatistics --result--> mel_normalization_stats.json

Conventions:
    Means and standard deviations are over all valid frames; the standard deviation is the population's (divided by n).
    Everything is in the unit of the front end. Quantiles are exact to 1/256 of that unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.data.files import digest
from calib.errors import DataError
from calib.mel.exact import DyadicHistogram, ExactSum, MultisetDigest, moments
from calib.params import STATS_SCHEMA

__all__ = ["QUANTILES", "DatasetStatistics", "UtteranceStatistics", "measure", "stats_identity"]

QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)

# float32 arithmetic puts the floor within a few units in the last place of its nominal value.
_FLOOR_TOLERANCE = 1e-4


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
    bad = int(mel.size - np.count_nonzero(np.isfinite(mel)))
    if bad:
        raise DataError(f"the mel holds {bad} NaN or infinite values of {mel.size}")
    x = mel.astype(np.float64)
    at_floor = np.zeros(mel.shape[1], dtype=np.int64)
    if floor is not None:
        at_floor = np.count_nonzero(mel <= floor + _FLOOR_TOLERANCE, axis=0).astype(np.int64)
    low = mel.min(axis=0)
    return UtteranceStatistics(
        n_frames=mel.shape[0],
        s1=x.sum(axis=0),
        s2=(x * x).sum(axis=0),
        low=low,
        high=mel.max(axis=0),
        at_floor=at_floor,
        at_low=int(np.count_nonzero(mel == low.min())),
        histogram=DyadicHistogram.of(mel),
        seconds=seconds,
        speaker=speaker,
    )


class DatasetStatistics:
    """The merged statistics of many utterances.

    Args:
        n_mels: bins M.
    """

    def __init__(self, n_mels: int) -> None:
        self.n_mels = n_mels
        self.n_utterances = 0
        self.n_frames = 0
        self._s1, self._s2 = ExactSum(n_mels), ExactSum(n_mels)
        self._seconds = ExactSum(1)
        self._low = np.full(n_mels, np.inf, dtype=np.float32)
        self._high = np.full(n_mels, -np.inf, dtype=np.float32)
        self._at_floor = np.zeros(n_mels, dtype=np.int64)
        self._lowest = (float("inf"), 0)
        self._histogram = DyadicHistogram()
        self._digest = MultisetDigest()
        self._speakers: dict[str | None, list[Any]] = {}

    def add(self, u: UtteranceStatistics) -> None:
        """Add one utterance.

        Raises:
            DataError: another number of bins.
        """
        if u.s1.size != self.n_mels:
            raise DataError(f"a mel with {u.s1.size} bins among mels with {self.n_mels}")
        self.n_utterances += 1
        self.n_frames += u.n_frames
        self._s1.add(u.s1)
        self._s2.add(u.s2)
        self._seconds.add(np.array([u.seconds]))
        self._low = np.minimum(self._low, u.low)
        self._high = np.maximum(self._high, u.high)
        self._at_floor += u.at_floor
        lowest = float(u.low.min())
        if lowest <= self._lowest[0]:
            self._lowest = (lowest, u.at_low + (self._lowest[1] if lowest == self._lowest[0] else 0))
        self._histogram.merge(u.histogram)
        self._digest.add(u.content())
        frames, s1, s2 = self._speakers.setdefault(u.speaker, [0, ExactSum(1), ExactSum(1)])
        s1.add(u.s1.sum(keepdims=True))
        s2.add(u.s2.sum(keepdims=True))
        self._speakers[u.speaker][0] = frames + u.n_frames

    def result(self, *, floor: float | None = None) -> dict[str, Any]:
        """The statistics as the JSON file has them, without front end and provenance.

        Args:
            floor: the front end's floor; None (unknown): ``floor`` is null, and the share is of values equal to the smallest.

        Raises:
            DataError: no utterances, or all values equal (nothing to normalise by).
        """
        if self.n_utterances == 0:
            raise DataError("no utterance was measured")
        s1, s2 = self._s1.numerators(), self._s2.numerators()
        values = self.n_frames * self.n_mels
        seconds = self._seconds.values()[0]
        mean, std = moments(values, sum(s1), sum(s2))
        low, high = float(self._low.min()), float(self._high.max())
        if low == high or std == 0:
            raise DataError(
                f"every mel value of {self.n_utterances} utterances is {low:g}: a dataset without variance cannot be normalised by",
                hint="look at what the data loader returns (missing files replaced by zeros?)",
            )
        bins = [moments(self.n_frames, a, b) for a, b in zip(s1, s2, strict=True)]
        constant = self._low == self._high
        bin_std = [0.0 if same else sd for same, (_, sd) in zip(constant.tolist(), bins, strict=True)]
        dead = [k for k, sd in enumerate(bin_std) if sd < 1e-4 or self._at_floor[k] >= 0.999 * self.n_frames]
        at_floor = int(self._at_floor.sum()) if floor is not None else self._lowest[1]
        # Readers fall back on "default": always the whole dataset.
        speakers: dict[str, dict[str, Any]] = {"default": {"mel_mean": mean, "mel_std": std, "n_frames": self.n_frames}}
        if set(self._speakers) != {None}:
            speakers |= {
                name or "unnamed": self._speaker(name) for name in sorted(self._speakers, key=str) if name != "default"
            }
        return {
            "mel_mean": mean,
            "mel_std": std,
            "per_bin": {
                "mean": [m for m, _ in bins],
                "std": bin_std,
                "min": [float(v) for v in self._low],
                "max": [float(v) for v in self._high],
            },
            "min": low,
            "max": high,
            "quantiles": {f"{q:g}": min(max(self._histogram.quantile(q), low), high) for q in QUANTILES},
            "floor": floor,
            "floor_share": at_floor / values,
            "dead_bins": dead,
            "n_frames": self.n_frames,
            "n_utterances": self.n_utterances,
            # Mels without a front end have no known duration: that is not zero.
            "hours": seconds / 3600.0 if seconds else None,
            "speakers": speakers,
        }

    def _speaker(self, name: str | None) -> dict[str, Any]:
        frames, s1, s2 = self._speakers[name]
        mean, std = moments(frames * self.n_mels, s1.numerators()[0], s2.numerators()[0])
        return {"mel_mean": mean, "mel_std": std, "n_frames": frames}

    def source_digest(self) -> str:
        """Identity of the data measured: independent of order, names and paths."""
        return self._digest.hexdigest()


def stats_identity(result: dict[str, Any], frontend_id: str | None) -> str:
    """``stats_id``: a hash of mean, sd, the per-bin values and the front end's identity (design 3)."""
    keys = ("mel_mean", "mel_std", "per_bin")
    return "st-" + digest({**{key: result[key] for key in keys}, "frontend_id": frontend_id})


def stats_file(result: dict[str, Any], frontend: Any, provenance: dict[str, Any]) -> dict[str, Any]:
    """The whole ``mel_normalization_stats.json``: schema, statistics, front end, identities, provenance.

    Args:
        result: from `DatasetStatistics.result`.
        frontend: a `FrontEnd`, or None when the mels came without one.
        provenance: what can change the result; nothing else.
    """
    frontend_id = None if frontend is None else frontend.id
    return {
        "schema": STATS_SCHEMA,
        **result,
        "frontend": None if frontend is None else frontend.fields(),
        "frontend_name": None if frontend is None else frontend.name,
        "frontend_id": frontend_id,
        "stats_id": stats_identity(result, frontend_id),
        "provenance": provenance,
    }
