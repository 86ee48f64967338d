"""ParallelWaveGAN's ``stats.h5``: datasets ``mean`` and ``scale``, or one group with both for each speaker."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from calib.data.statsfiles.model import MelStatistics, Moments, checked_bins
from calib.errors import DataError, UsageError

__all__ = ["read_hdf5", "require_h5py", "write_hdf5"]


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise UsageError(
            "ParallelWaveGAN's stats.h5 needs h5py, which is not installed", hint='pip install "mel-calib[formats]"'
        ) from None
    return h5py


def require_h5py() -> None:
    """Fail before the work rather than after it.

    Raises:
        UsageError: h5py is not installed.
    """
    _h5py()


def read_hdf5(data: bytes, path: str) -> MelStatistics:
    """Global values, and those of every speaker.

    Raises:
        UsageError: h5py is not installed.
        DataError: damaged, or no ``mean`` and ``scale``.
    """
    h5py = _h5py()
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            found = _pair(file, h5py)
            speakers = {
                str(name): pair
                for name in file
                if isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Group)
                if (pair := _pair(file[name], h5py)) is not None
            }
            names = [str(name) for name in file]
    except Exception as error:  # noqa: BLE001 - HDF5 raises nearly anything on a damaged file
        raise DataError(f"{path}: cannot be read as HDF5: {error}") from None
    per_speaker: dict[str, Moments] = {
        name: checked_bins(*pair, f"{path}, speaker {name}") for name, pair in speakers.items()
    }
    if found is None and not per_speaker:
        raise DataError(
            f"{path}: an HDF5 file with {', '.join(names[:8]) or 'nothing'}; ParallelWaveGAN's has mean and scale, or SPEAKER/mean and SPEAKER/scale"
        )
    if found is None:
        # The groups do not say how many frames they were measured on, so they cannot be merged.
        nothing = np.zeros(0)
        return MelStatistics(nothing, nothing, "pwg", per_speaker=per_speaker, path=path)
    return MelStatistics(*checked_bins(*found, path), "pwg", per_speaker=per_speaker, path=path)


def _pair(group: Any, h5py: Any) -> tuple[np.ndarray, np.ndarray] | None:
    out = []
    for name in ("mean", "scale"):
        # A link or external storage may lead into another file; only what is in this one is read.
        if not isinstance(group.get(name, getlink=True), h5py.HardLink) or not isinstance(group[name], h5py.Dataset):
            return None
        dataset = group[name]
        if dataset.external or dataset.is_virtual:
            return None
        out.append(np.asarray(dataset[()]) if dataset.size <= 1 << 20 else np.zeros((0, 0)))
    return out[0], out[1]


def write_hdf5(mean: np.ndarray, scale: np.ndarray) -> bytes:
    """The file's bytes; float32, as ParallelWaveGAN writes them.

    Raises:
        UsageError: h5py is not installed.
    """
    h5py = _h5py()
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("mean", data=mean.astype(np.float32))
        file.create_dataset("scale", data=scale.astype(np.float32))
    return buffer.getvalue()
