"""Statistics in numpy's files: ``.npy`` of numbers, ``.npy`` of a pickled dict (Coqui), ``.npz``."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np

from calib.data.statsfiles import inert
from calib.data.statsfiles.model import MelStatistics, checked_bins, from_sums
from calib.errors import DataError

__all__ = ["kaldi_rows", "npy", "npz"]

# fairseq's floor of the variance is 1e-8, so that of the sd is 1e-4, give or take float32's rounding.
_FAIRSEQ_FLOOR = 1.0001e-4
_LARGEST = 64 << 20


def npy(data: bytes, path: str, format_: str | None) -> MelStatistics:
    """``[2, M]`` means and scales, ``[2, M+1]`` sums, ``[M]`` divisors (only when told), or Coqui's dict.

    Raises:
        DataError: none of them, damaged, or more than one of them.
    """
    try:
        array = _npy_array(data)
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged or hostile file can raise nearly anything
        raise DataError(f"{path}: cannot be read as .npy: {type(error).__name__}: {error}") from None
    if isinstance(array, dict):
        return _coqui(array, path)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: holds {_what(array)}; statistics are numbers, or Coqui's dict with mel_mean and mel_std"
        )
    if array.ndim == 1 and array.size:
        if format_ == "tortoise":
            zeros = np.zeros(array.size)
            return MelStatistics(*checked_bins(zeros, array, path, kind="divide"), "tortoise", "divide", path=path)
        raise DataError(
            f"{path}: one row of {array.size} values: it could be means, standard deviations, or the divisors of Tortoise and XTTS",
            hint=f"if they are divisors: tortoise={path}; else give a file with both means and standard deviations",
        )
    if array.ndim == 3 and 1 in array.shape[1:]:  # PWG reads [0].reshape(-1) and [1].reshape(-1)
        array = array.reshape(array.shape[0], -1)
    if array.ndim != 2 or array.shape[0] != 2:
        turned = "; it looks turned round" if array.ndim == 2 and array.shape[1] == 2 else ""
        raise DataError(
            f"{path}: an array of shape {array.shape}{turned}; statistics are [2, M] (mean, scale) or [2, M+1] (sums)"
        )
    return _two_rows(array, path, format_)


def _two_rows(array: np.ndarray, path: str, format_: str | None) -> MelStatistics:
    if format_ in {"kaldi", "espnet-npy"} or (format_ is None and _is_sums(array)):
        return kaldi_rows(array, path, "espnet-npy")
    if format_ is None and array[1, -1] == 0:
        raise DataError(
            f"{path}: the second row ends with 0, as that of sums does, but the first ends with {array[0, -1]:g}, which is no frame count",
            hint=f"say what it is: pwg-npy={path} or espnet-npy={path}",
        )
    return MelStatistics(*checked_bins(array[0], array[1], path), "pwg-npy", path=path)


def _is_sums(array: np.ndarray) -> bool:
    """The last column of sums is (frames, 0); a scale is never 0."""
    count = array[0, -1]
    return bool(array[1, -1] == 0 and count >= 1 and count == np.floor(count))


def kaldi_rows(array: np.ndarray, path: str, format_: str, *, single: bool = False) -> MelStatistics:
    """``[2, M+1]``: sums and the frame count; sums of squares and an unused value; ``single``: they were float32.

    Raises:
        DataError: another shape, or sums that cannot be.
    """
    if array.ndim != 2 or array.shape[0] != 2:
        raise DataError(
            f"{path}: a matrix of {' x '.join(map(str, array.shape))}; CMVN statistics have 2 rows and M + 1 columns"
        )
    mean, std, frames, doubts = from_sums(array[0, -1], array[0, :-1], array[1, :-1], path, single=single)
    return MelStatistics(mean, std, format_, n_frames=frames, doubts=doubts, path=path)


def _npy_array(data: bytes) -> Any:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if version not in {(1, 0), (2, 0), (3, 0)}:
        raise DataError(f"an unknown version of .npy: {version}")
    _shape, _order, dtype = read(stream)
    if dtype.hasobject:
        return inert.load(data[stream.tell() :])
    return np.load(io.BytesIO(data), allow_pickle=False)


def _what(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    return f"a pickled {type(value).__name__}"


def _coqui(found: dict[Any, Any], path: str) -> MelStatistics:
    missing = [key for key in ("mel_mean", "mel_std") if key not in found]
    if missing:
        raise DataError(
            f"{path}: a pickled dict without {' and '.join(missing)}; it has {', '.join(map(str, list(found)[:8])) or 'nothing'}"
        )
    mean, std = checked_bins(found["mel_mean"], found["mel_std"], path)
    notes: list[str] = []
    audio = found.get("audio_config")
    if isinstance(audio, dict) and audio:
        keys = ("spec_gain", "log_func", "sample_rate", "num_mels", "fft_size", "hop_length", "mel_fmin", "mel_fmax")
        measured = ", ".join(f"{key} {audio[key]}" for key in keys if isinstance(audio.get(key), (int, float, str)))
        if measured:
            notes.append(f"measured on mels with {measured}")
        if isinstance(audio.get("num_mels"), int) and audio["num_mels"] != mean.size:
            raise DataError(f"{path}: {mean.size} means, but its audio_config says num_mels {audio['num_mels']}")
    return MelStatistics(mean, std, "coqui", notes=tuple(notes), path=path)


def npz(data: bytes, path: str, format_: str | None) -> MelStatistics:
    """ESPnet's ``count, sum, sum_square`` or fairseq's ``mean, std``.

    Raises:
        DataError: neither or both, or damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(f"{path}: cannot be read as .npz: {error}") from None
    if unpacked > _LARGEST:
        raise DataError(f"{path}: unpacks to more than {_LARGEST >> 20} MiB; statistics are a few kilobytes")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # noqa: BLE001 - damaged zip, object arrays
        raise DataError(f"{path}: cannot be read as .npz: {type(error).__name__}: {error}") from None
    could = []
    if {"count", "sum", "sum_square"} <= set(arrays):
        could.append("espnet")
    if {"mean", "std"} <= set(arrays):
        could.append("fairseq")
    if format_ in could:
        could = [format_]
    if len(could) > 1:
        raise DataError(
            f"{path}: holds the arrays of {' and of '.join(could)}",
            hint="say which: " + " or ".join(f"{name}={path}" for name in could),
        )
    if not could:
        raise DataError(
            f"{path}: an .npz with {', '.join(sorted(arrays)[:8]) or 'no arrays'}; statistics have count, sum, sum_square (ESPnet) or mean, std (fairseq)"
        )
    if could == ["espnet"]:
        mean, std, frames, doubts = from_sums(arrays["count"], arrays["sum"], arrays["sum_square"], path)
        return MelStatistics(mean, std, "espnet", n_frames=frames, doubts=doubts, path=path)
    mean, std = checked_bins(arrays["mean"], arrays["std"], path)
    floored = np.flatnonzero(std <= _FAIRSEQ_FLOOR)
    doubts = ()
    if floored.size:
        doubts = (
            f"fairseq's smallest sd, 1e-4, in {floored.size} bin{'s' * (floored.size > 1)} (the first: {int(floored[0])}): a dead bin, or a variance that float32 sums made negative",
        )
    return MelStatistics(mean, std, "fairseq", doubts=doubts, path=path)
