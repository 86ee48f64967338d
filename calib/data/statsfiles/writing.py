"""Statistics in the files of other systems, as their own code would have written them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from calib.data.files import atomic_writer, ensure_writable
from calib.data.statsfiles import kaldi
from calib.data.statsfiles.formats import FORMATS
from calib.data.statsfiles.hdf5 import write_hdf5
from calib.data.statsfiles.model import MelStatistics, Moments
from calib.errors import DataError, UsageError, nearest

__all__ = ["WRITABLE", "encode", "write"]

WRITABLE = tuple(name for name, item in FORMATS.items() if item.writable)


def write(
    stats: MelStatistics, path: Path, format_: str, *, frontend: Mapping[str, Any] | None = None, force: bool = False
) -> None:
    """Write ``stats`` as ``format_``, atomically.

    Args:
        stats: with per-bin values (``mean`` and ``std`` by bin, or ``bins``), but for Matcha, which has one mean and sd.
        path: the file.
        format_: one of `WRITABLE`.
        frontend: fields of the front end, for Coqui's ``audio_config``.
        force: overwrite.

    Raises:
        UsageError: an unknown format, the file exists, or h5py is needed and not installed.
        DataError: values that the format cannot hold.
    """
    ensure_writable(path, force=force)
    data = encode(stats, format_, frontend=frontend)
    with atomic_writer(path, force=force) as file:
        file.write(data)


def encode(stats: MelStatistics, format_: str, *, frontend: Mapping[str, Any] | None = None) -> bytes:
    """The bytes of the file; see `write`."""
    if format_ not in WRITABLE:
        raise UsageError(f"{format_!r} is no format that calib writes", hint=nearest(format_, WRITABLE))
    if format_ == "matcha":
        mean, std = stats.overall()
        # Read by Hydra as part of configs/data/*.yaml.
        return f"data_statistics:\n  mel_mean: {mean!r}\n  mel_std: {std!r}\n".encode()
    means, stds = _by_bin(stats, format_)
    if format_ in {"espnet", "espnet-npy", "kaldi", "kaldi-text"}:
        return _sums(means, _usable(stds, format_), stats.n_frames, format_)
    if format_ == "tortoise":
        return _divisors(means)
    return _scaled(means, _usable(stds, format_), format_, frontend or {})


def _by_bin(stats: MelStatistics, format_: str) -> Moments:
    if stats.kind == "divide":
        if format_ == "tortoise":
            return np.asarray(stats.std), np.ones_like(np.asarray(stats.std))
        raise DataError(f"divisors cannot be written as {format_}: they say neither mean nor standard deviation")
    if isinstance(stats.mean, np.ndarray) and isinstance(stats.std, np.ndarray):
        return stats.mean, stats.std
    if stats.bins is not None:
        return stats.bins
    raise DataError(
        f"{format_} needs a mean and an sd for each bin, and {stats.path or 'the statistics'} have one of each"
    )


def _usable(std: np.ndarray, format_: str) -> np.ndarray:
    """Standard deviations without zeros: as the system's own code replaces them, else an error."""
    dead = std <= 0
    if not dead.any():
        return std
    if format_ in {"pwg", "pwg-npy", "transformers"}:  # scikit-learn's StandardScaler: a constant bin is divided by 1
        return np.where(dead, 1.0, std)
    if format_ == "fairseq":
        return np.where(dead, 1e-4, std)
    raise DataError(
        f"bin {int(np.argmax(dead))} never changes (sd 0): {FORMATS[format_].title} would divide by it",
        hint="use a front end whose top edge lies inside the audio's band",
    )


def _sums(mean: np.ndarray, std: np.ndarray, frames: int | None, format_: str) -> bytes:
    if not frames:
        raise DataError(f"{format_} needs the number of frames, which is not known")
    total, squares = mean * frames, (std**2 + mean**2) * frames
    if format_ == "espnet":
        buffer = io.BytesIO()
        np.savez(buffer, count=np.int64(frames), sum=total, sum_square=squares)
        return buffer.getvalue()
    rows = np.stack([np.append(total, float(frames)), np.append(squares, 0.0)])
    if format_ == "espnet-npy":
        return _npy(rows)
    return kaldi.matrix_bytes(rows) if format_ == "kaldi" else kaldi.matrix_text(rows).encode()


def _divisors(means: np.ndarray) -> bytes:
    """Tortoise divides by the means of the bins (neonbjb/DL-Art-School, scripts that compute mel norms)."""
    import torch

    if not np.all(means < 0):
        index = int(np.argmax(means))
        raise DataError(
            f"the mean of bin {index} is {means[index]:g}; Tortoise divides by the means of ln mels, which are all negative"
        )
    buffer = io.BytesIO()
    torch.save(torch.from_numpy(means.astype(np.float32)), buffer)
    return buffer.getvalue()


def _scaled(mean: np.ndarray, std: np.ndarray, format_: str, frontend: Mapping[str, Any]) -> bytes:
    if format_ == "coqui":
        return _coqui(mean, std, frontend)
    if format_ == "pwg":
        return write_hdf5(mean, std)
    if format_ == "pwg-npy":
        return _npy(np.stack([mean, std]).astype(np.float32))
    if format_ == "fairseq":
        buffer = io.BytesIO()
        np.savez(buffer, mean=mean.astype(np.float32), std=std.astype(np.float32))
        return buffer.getvalue()
    from safetensors.numpy import save

    return bytes(save({"mean": mean.astype(np.float32), "scale": std.astype(np.float32)}))


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _coqui(mean: np.ndarray, std: np.ndarray, frontend: Mapping[str, Any]) -> bytes:
    """``np.save`` of a dict, in the pickle protocol and with the names that numpy 1.22 (Coqui's) still reads.

    The linear statistics, which calib does not measure, are NaN: wherever Coqui used them, that would be seen.
    """
    bins = int(frontend.get("n_fft", 1024)) // 2 + 1
    audio = {
        theirs: frontend[ours]
        for theirs, ours in (
            ("sample_rate", "sample_rate"), ("num_mels", "n_mels"), ("fft_size", "n_fft"), ("hop_length", "hop_length"), ("win_length", "win_length"),
        )
        if ours in frontend
    }  # fmt: skip
    unknown = np.full(bins, np.nan)
    content = {"mel_mean": mean, "mel_std": std, "linear_mean": unknown, "linear_std": unknown, "audio_config": audio}
    outer = np.empty((), dtype=object)
    outer[()] = content
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": ()})
    # Below protocol 4 a name is a line of text, so this changes names and nothing else.
    pickled = pickle.dumps(outer, protocol=2).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    buffer.write(pickled)
    return buffer.getvalue()
