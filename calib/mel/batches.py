"""Statistics of many recordings at once on a GPU: the front end of `calib.mel.analysis` over all their frames.

The recordings of a batch lie one behind the other in one signal, each at a multiple of the hop, so that one view frames
them all; frames that lie across two of them are left out before anything is counted. Everything is in float64, which a
GPU has to spare here, so that `calib.mel.rounding` need not be asked.

Conventions:
    What a recording gives does not depend on its batch but for the order that a device adds in: 1e-6 relative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from calib.errors import DataError
from calib.mel import analysis
from calib.mel.arrays import TorchNamespace, namespace
from calib.mel.exact import DyadicHistogram
from calib.mel.frontend import FrontEnd
from calib.mel.statistics import FLOOR_TOLERANCE, UtteranceStatistics

__all__ = ["BATCH_SAMPLES", "Padded", "batch_statistics", "pad_for_batch"]

BATCH_SAMPLES = 1 << 24  # of a batch, about: 13 minutes at 22,050 Hz
_ROWS = 1 << 13  # frames transformed at once: 70 MB of float64 at n_fft 1024
_MOST_BINS = 1 << 16  # of a histogram made on the device
_LARGEST_KEY = 1 << 40


class Padded:
    """One recording, ready to be framed.

    Args:
        signal: prepared and padded samples, float32 or float64.
        frames: how many frames it has.
        seconds: its duration in s.
        speaker: speaker name, or None.
    """

    def __init__(self, signal: np.ndarray, frames: int, seconds: float, speaker: str | None) -> None:
        self.signal, self.frames, self.seconds, self.speaker = signal, frames, seconds, speaker


def pad_for_batch(fe: FrontEnd, samples: np.ndarray, seconds: float, speaker: str | None) -> Padded:
    """What can be done with a recording by itself, on the CPU.

    Raises:
        DataError: as `FrontEnd.mel`.
    """
    signal, frames = analysis.padded(fe, fe.prepare(samples), namespace())
    return Padded(signal[: (frames - 1) * fe.hop_length + fe.n_fft], frames, seconds, speaker)


def batch_statistics(fe: FrontEnd, batch: Sequence[Padded], device: str) -> list[UtteranceStatistics | DataError]:
    """Statistics of each recording; a `DataError` for one whose mel holds NaN or infinite values.

    Args:
        fe: the front end; it must be one of `analysis.streams`.
        batch: the recordings.
        device: as in `namespace`, but not ``cpu``.
    """
    if not batch:
        return []
    xp = namespace(device, "double")
    assert isinstance(xp, TorchNamespace)
    torch = xp.torch
    firsts, total = [], 0
    for one in batch:
        firsts.append(total)
        total += -(-one.signal.size // fe.hop_length)
    joined = np.zeros(total * fe.hop_length + fe.n_fft, dtype=np.result_type(*(one.signal for one in batch)))
    for first, one in zip(firsts, batch, strict=True):
        joined[first * fe.hop_length :][: one.signal.size] = one.signal
    frames = xp.frames(xp.signal(joined), fe.n_fft, fe.hop_length)
    counts = np.array([one.frames for one in batch])
    # Row of each frame, and the frames that hold what the front end writes at the end.
    rows = np.concatenate([np.arange(first, first + one.frames) for first, one in zip(firsts, batch, strict=True)])
    left = np.repeat(np.cumsum(counts), counts) - np.arange(len(rows))
    kept = torch.as_tensor(rows, device=xp.device)
    mel = torch.cat([analysis.block(fe, xp, frames[at : at + _ROWS]) for at in range(0, total, _ROWS)])[kept]
    if fe.overwrite_last:
        mel[torch.as_tensor(left <= fe.overwrite_last, device=xp.device)] = fe.overwrite_value
    return _measured(fe, torch, mel, batch, counts)


def _measured(
    fe: FrontEnd, torch: Any, mel: Any, batch: Sequence[Padded], counts: np.ndarray
) -> list[UtteranceStatistics | DataError]:
    """Mels one behind the other, float64 ``(sum of T, M)``, to their statistics."""
    lengths = torch.as_tensor(counts, device=mel.device)
    owner = torch.repeat_interleave(torch.arange(len(batch), device=mel.device), lengths)

    def each(values: Any, how: str) -> Any:
        return torch.segment_reduce(values, how, lengths=lengths, axis=0)

    values = mel.float()
    finite = torch.isfinite(values)
    bad = each((~finite).double(), "sum").sum(1).cpu().numpy().astype(np.int64)
    if bad.any():
        mel, values = (torch.where(finite, x, torch.zeros((), dtype=x.dtype, device=x.device)) for x in (mel, values))
    s1, s2 = each(mel, "sum").cpu().numpy(), each(mel * mel, "sum").cpu().numpy()
    low, high = each(values, "min"), each(values, "max")
    lowest = low.amin(1)
    at_low = each((values == lowest[owner][:, None]).sum(1).double(), "sum").cpu().numpy()
    at_floor = np.zeros(s1.shape)
    if fe.floor is not None:
        threshold = float(np.float32(fe.floor + FLOOR_TOLERANCE))
        at_floor = each((values <= threshold).double(), "sum").cpu().numpy()
    low, high = low.cpu().numpy(), high.cpu().numpy()
    histograms = _histograms(torch, values, owner, low, high, counts)
    out: list[UtteranceStatistics | DataError] = []
    for k, one in enumerate(batch):
        if bad[k]:
            out.append(DataError(f"the mel holds {bad[k]} NaN or infinite values of {counts[k] * fe.n_mels}"))
            continue
        out.append(
            UtteranceStatistics(
                n_frames=one.frames,
                s1=s1[k],
                s2=s2[k],
                low=low[k],
                high=high[k],
                at_floor=at_floor[k].astype(np.int64),
                at_low=int(at_low[k]),
                histogram=histograms[k],
                seconds=one.seconds,
                speaker=one.speaker,
            )
        )
    return out


def _histograms(
    torch: Any, values: Any, owner: Any, low: np.ndarray, high: np.ndarray, counts: np.ndarray
) -> list[DyadicHistogram]:
    """A histogram each: one count over all, where each has its own range of keys."""
    width = 1 << DyadicHistogram().level
    lowest, highest = (np.floor(x.astype(np.float64) * width) for x in (low.min(axis=1), high.max(axis=1)))
    if (highest - lowest).max() >= _MOST_BINS or max(np.abs(lowest).max(), np.abs(highest).max()) > _LARGEST_KEY:
        # The range of a linear mel: coarser bins, which the host knows about.
        edges = np.cumsum(counts)[:-1]
        return [DyadicHistogram.of(part) for part in np.split(values.cpu().numpy(), edges)]
    starts, sizes = lowest.astype(np.int64), (highest - lowest).astype(np.int64) + 1
    ends = np.cumsum(sizes)
    shift = torch.as_tensor(ends - sizes - starts, device=values.device)[owner][:, None]
    keys = (values * width).floor_().long() + shift
    found = torch.bincount(keys.reshape(-1), minlength=int(ends[-1])).cpu().numpy()
    return [
        DyadicHistogram(start=int(start), counts=part)
        for start, part in zip(starts, np.split(found, ends[:-1]), strict=True)
    ]
