"""The statistics of a corpus: merged exactly from those of its utterances, in any grouping, in constant memory.

Data flow::

    UtteranceStatistics --add--> DatasetStatistics --to_bytes--> ledger, other processes --from_bytes, merge-->
    DatasetStatistics --result--> mel_normalization_stats.json

Conventions:
    Equal corpora have equal bytes, whatever the order and the grouping they were merged in. A chunk of a corpus is a
    few kilobytes; only the number of speakers makes it grow.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from calib.data.files import digest
from calib.errors import DataError
from calib.mel.exact import DyadicHistogram, ExactSum, MultisetDigest, Numerators, moments
from calib.mel.statistics import UtteranceStatistics
from calib.params import STATS_SCHEMA

__all__ = ["QUANTILES", "DatasetStatistics", "stats_file", "stats_identity"]

QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)

_HELD = 64  # utterances that are added up at once
_FORM = b"calib/dataset-statistics/1\n"


class DatasetStatistics:
    """The merged statistics of many utterances.

    Args:
        n_mels: bins M.
    """

    def __init__(self, n_mels: int) -> None:
        self.n_mels = n_mels
        self.n_utterances = 0
        self.n_frames = 0
        self._s1, self._s2, self._seconds = ExactSum(n_mels), ExactSum(n_mels), ExactSum(1)
        self._low = np.full(n_mels, np.inf, dtype=np.float32)
        self._high = np.full(n_mels, -np.inf, dtype=np.float32)
        self._at_floor = np.zeros(n_mels, dtype=np.int64)
        self._lowest = (float("inf"), 0)
        self._histogram = DyadicHistogram()
        self._digest = MultisetDigest()
        self._speakers: dict[str | None, list[int]] = {}  # frames; numerators of the sums of x and of its square
        self._held: list[UtteranceStatistics] = []

    def add(self, u: UtteranceStatistics) -> None:
        """Add one utterance.

        Raises:
            DataError: another number of bins.
        """
        if u.s1.size != self.n_mels:
            raise DataError(f"a mel with {u.s1.size} bins among mels with {self.n_mels}")
        self.n_utterances += 1
        self.n_frames += u.n_frames
        self._histogram.merge(u.histogram)
        self._digest.add(u.content())
        self._held.append(u)
        if len(self._held) >= _HELD:
            self._settle()

    def _settle(self) -> None:
        """Add up the utterances that are held: the same integers as one by one, in a tenth of the time."""
        held, self._held = self._held, []
        if not held:
            return
        s1, s2 = Numerators(np.stack([u.s1 for u in held])), Numerators(np.stack([u.s2 for u in held]))
        self._s1.add_numerators(s1.total())
        self._s2.add_numerators(s2.total())
        self._seconds.add_numerators(Numerators(np.array([[u.seconds] for u in held])).total())
        for name in {u.speaker for u in held}:
            rows = [k for k, u in enumerate(held) if u.speaker == name]
            self._add_speaker(name, [sum(held[k].n_frames for k in rows), sum(s1.total(rows)), sum(s2.total(rows))])
        lows = np.stack([u.low for u in held])
        self._low = np.minimum(self._low, lows.min(axis=0))
        self._high = np.maximum(self._high, np.stack([u.high for u in held]).max(axis=0))
        self._at_floor += np.stack([u.at_floor for u in held]).sum(axis=0)
        for lowest, u in zip(lows.min(axis=1).tolist(), held, strict=True):
            self._add_lowest(lowest, u.at_low)

    def _add_lowest(self, lowest: float, count: int) -> None:
        if lowest <= self._lowest[0]:
            self._lowest = (lowest, count + (self._lowest[1] if lowest == self._lowest[0] else 0))

    def _add_speaker(self, name: str | None, sums: Sequence[int]) -> None:
        before = self._speakers.get(name, [0, 0, 0])
        self._speakers[name] = [a + b for a, b in zip(before, sums, strict=True)]

    def merge(self, other: DatasetStatistics) -> None:
        """Add another corpus, or part of this one.

        Raises:
            DataError: another number of bins.
        """
        if other.n_mels != self.n_mels:
            raise DataError(f"a mel with {other.n_mels} bins among mels with {self.n_mels}")
        self._settle()
        other._settle()
        self.n_utterances += other.n_utterances
        self.n_frames += other.n_frames
        self._s1.merge(other._s1)
        self._s2.merge(other._s2)
        self._seconds.merge(other._seconds)
        self._low, self._high = np.minimum(self._low, other._low), np.maximum(self._high, other._high)
        self._at_floor += other._at_floor
        self._add_lowest(*other._lowest)
        self._histogram.merge(other._histogram)
        self._digest.merge(other._digest)
        for name, sums in other._speakers.items():
            self._add_speaker(name, sums)

    def to_bytes(self) -> bytes:
        """Everything, exactly; equal statistics are equal bytes."""
        self._settle()
        h = self._histogram
        counts = h.counts.astype(np.min_scalar_type(int(h.counts.max(initial=0))))
        packed = zlib.compress(counts.astype(counts.dtype.newbyteorder("<")).tobytes(), 1)
        speakers = sorted(self._speakers.items(), key=lambda pair: (pair[0] is not None, pair[0] or ""))
        sums = [sums for _, sums in speakers]
        fields = [
            *(
                self.n_mels,
                self.n_utterances,
                self.n_frames,
                *self._seconds.numerators(),
                self._lowest[1],
                *self._digest.state,
            ),
            *(h.level, h.start, h.counts.size, counts.dtype.itemsize),
            *self._s1.numerators(),
            *self._s2.numerators(),
            *self._at_floor.tolist(),
            len(sums),
            *(number for row in sums for number in row),
        ]
        names = [b"" if name is None else b"n" + name.encode("utf-8", "surrogatepass") for name, _ in speakers]
        arrays = [self._low.astype("<f4").tobytes(), self._high.astype("<f4").tobytes()]
        blocks = [_pack(fields), struct.pack("<d", self._lowest[0]), *arrays, packed, *names]
        return _FORM + b"".join(struct.pack("<I", len(block)) + block for block in blocks)

    @classmethod
    def from_bytes(cls, data: bytes) -> DatasetStatistics:
        """What `to_bytes` gave.

        Raises:
            DataError: it is not that.
        """
        if not data.startswith(_FORM):
            raise DataError("these are not the bytes of dataset statistics of this version")
        blocks = list(_blocks(memoryview(data)[len(_FORM) :]))
        numbers = iter(_unpack(blocks[0]))
        out = cls(next(numbers))
        out.n_utterances, out.n_frames, seconds, at_low = (next(numbers) for _ in range(4))
        out._seconds = ExactSum(1, [seconds])
        out._digest = MultisetDigest((next(numbers), next(numbers)))
        level, start, size, width = (next(numbers) for _ in range(4))
        out._s1, out._s2 = (ExactSum(out.n_mels, [next(numbers) for _ in range(out.n_mels)]) for _ in range(2))
        out._at_floor = np.array([next(numbers) for _ in range(out.n_mels)], dtype=np.int64)
        names = [None if not len(name) else str(name[1:], "utf-8", "surrogatepass") for name in blocks[5:]]
        if next(numbers) != len(names):
            raise DataError("the bytes of dataset statistics are damaged")
        out._speakers = {name: [next(numbers) for _ in range(3)] for name in names}
        out._lowest = (struct.unpack("<d", blocks[1])[0], at_low)
        out._low, out._high = (np.frombuffer(block, "<f4").astype(np.float32) for block in blocks[2:4])
        counts = np.frombuffer(zlib.decompress(blocks[4]), f"<u{width}", count=size).astype(np.int64)
        out._histogram = DyadicHistogram(level, start, counts)
        return out

    def result(self, *, floor: float | None = None) -> dict[str, Any]:
        """The statistics as the JSON file has them, without front end and provenance.

        Args:
            floor: the front end's floor; None (unknown): ``floor`` is null, and the share is of values equal to the smallest.

        Raises:
            DataError: no utterances, or all values equal (nothing to normalise by).
        """
        if self.n_utterances == 0:
            raise DataError("no utterance was measured")
        self._settle()
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
        mean, std = moments(frames * self.n_mels, s1, s2)
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


def _pack(numbers: Iterable[int]) -> bytes:
    """Integers of any size: length in bytes (two bytes), then two's complement, little-endian."""
    out = bytearray()
    for number in numbers:
        size = number.bit_length() // 8 + 1
        out += size.to_bytes(2, "little") + number.to_bytes(size, "little", signed=True)
    return bytes(out)


def _unpack(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "little")
        yield int.from_bytes(data[at + 2 : at + 2 + size], "little", signed=True)
        at += 2 + size


def _blocks(data: memoryview) -> Iterator[memoryview]:
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        yield data[at + 4 : at + 4 + size]
        at += 4 + size
