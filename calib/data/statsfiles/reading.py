"""One statistics file of any system, recognised by its content."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from shlex import quote

import numpy as np

from calib.data.statsfiles import kaldi, numpyfiles, texts
from calib.data.statsfiles.formats import FORMATS
from calib.data.statsfiles.hdf5 import read_hdf5
from calib.data.statsfiles.model import MelStatistics, Moments
from calib.data.statsfiles.tensors import read_tensors
from calib.errors import DataError, UsageError, some

__all__ = ["Reference", "read"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_NPY = b"\x93NUMPY"
# Beyond this only checkpoints are statistics files.
_LARGEST = 64 << 20


class Reference:
    """``[FORMAT=]FILE[#SPEAKER]``, split.

    Args:
        text: as given.

    Attributes:
        path: the file.
        format: the format that the user named, or None.
        speaker: the speaker that the user named, or None.
    """

    def __init__(self, text: str | Path) -> None:
        self.text = str(text)
        self.format: str | None = None
        self.speaker: str | None = None
        name = self.text
        if not Path(name).is_file():  # a file of that very name comes first
            head, equals, rest = name.partition("=")
            if equals and head in FORMATS:
                self.format, name = head, rest
            if not Path(name).is_file() and "#" in name:
                name, _, self.speaker = name.rpartition("#")
        self.path = Path(name)


def read(path: str | Path) -> MelStatistics:
    """Read a statistics file; nothing in it is executed.

    Args:
        path: ``FILE``, or ``FORMAT=FILE`` where the content could be two things, or ``FILE#SPEAKER`` for one speaker of
            a file that holds several.

    Returns:
        The statistics, with ``describe()`` to say what was recognised.

    Raises:
        DataError: missing, not recognised, ambiguous (with what it could be), or values that cannot be used (with them).
        UsageError: a speaker that is not in it, or h5py is needed and not installed.
    """
    reference = Reference(path)
    found = _read(reference)
    if reference.format is not None and found.format != reference.format and not _same(found.format, reference.format):
        raise DataError(f"{reference.path}: is {FORMATS[found.format].title} ({found.format}), not {reference.format}")
    return _choose_speaker(found, reference)


def _same(found: str, asked: str) -> bool:
    """Names of one content: the same sums in two files, Matcha's two keys and the legacy script's."""
    return {found, asked} <= {"kaldi", "kaldi-text"} or {found, asked} <= {"calib", "matcha"}


def _read(reference: Reference) -> MelStatistics:
    path, shown = reference.path, str(reference.path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(64)
            file.seek(0)
            data = file.read() if size <= _LARGEST else head
    except FileNotFoundError:
        raise DataError(
            f"{shown}: no such file", hint="there is no default: make statistics with calib stats"
        ) from None
    except OSError as error:
        raise DataError(f"{shown}: cannot be read: {error.strerror or error}") from None
    if head.startswith(b"version https://git-lfs"):
        raise DataError(f"{shown} is a git-lfs pointer, not the file itself", hint="git lfs pull")
    if not data:
        raise DataError(f"{shown}: is empty")
    # Eight bytes of length, then JSON: text would give a length beyond any file.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size:
        return read_tensors(path, shown, reference.format)
    if head.startswith(b"PK"):
        if _is_checkpoint(path, shown):
            return read_tensors(path, shown, reference.format)
        if size <= _LARGEST:
            return numpyfiles.npz(data, shown, reference.format)
    if head.startswith(b"\x80"):
        return read_tensors(path, shown, reference.format)
    if size > _LARGEST:
        raise DataError(f"{shown}: {size >> 20} MiB, and no checkpoint; statistics are a few kilobytes")
    if head.startswith(_NPY):
        return numpyfiles.npy(data, shown, reference.format)
    if head.startswith(_HDF5):
        return read_hdf5(data, shown)
    if kaldi.looks_binary(data):
        return _pooled(kaldi.read_ark(data, shown), shown, "kaldi")
    return _from_text(data, shown, reference.format)


def _is_checkpoint(path: Path, shown: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name == "data.pkl" or name.endswith("/data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{shown}: a damaged zip archive: {error}") from None


def _from_text(data: bytes, shown: str, format_: str | None) -> MelStatistics:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(
            f"{shown}: is no statistics file that calib knows: it begins with {data[:8]!r}", hint=_KNOWN
        ) from None
    if kaldi.looks_text(text):
        return _pooled(kaldi.read_ark(data, shown), shown, "kaldi-text")
    if shown.endswith(".scp"):
        return _pooled(kaldi.read_scp(text, shown), shown, "kaldi")
    return texts.read_text(text, shown, format_)


_KNOWN = "known: " + ", ".join(FORMATS)


def _pooled(matrices: dict[str, np.ndarray], shown: str, format_: str) -> MelStatistics:
    """One set of sums, or those of all speakers added up (exact: they carry their counts)."""
    if not matrices:
        raise DataError(f"{shown}: holds no matrix")
    widths = {matrix.shape for matrix in matrices.values()}
    if len(widths) > 1:
        listing = ", ".join(f"{key or 'the matrix'} {matrix.shape}" for key, matrix in list(matrices.items())[:4])
        raise DataError(f"{shown}: matrices of different shapes: {listing}")
    total = np.sum([matrix.astype(np.float64) for matrix in matrices.values()], axis=0)
    single = any(matrix.dtype == np.float32 for matrix in matrices.values())
    whole = numpyfiles.kaldi_rows(total, shown, format_, single=single)
    per_speaker: dict[str, Moments] = {}
    notes, doubts = list(whole.notes), list(whole.doubts)
    if set(matrices) != {""}:
        for key, matrix in matrices.items():
            try:
                one = numpyfiles.kaldi_rows(matrix, f"{shown}, {key}", format_)
            except DataError as error:  # a speaker of one frame; the sum is still right
                doubts.append(f"unusable alone: {error.message}")
                continue
            assert isinstance(one.mean, np.ndarray)
            assert isinstance(one.std, np.ndarray)
            per_speaker[key] = (one.mean, one.std)
        if len(matrices) > 1:
            notes.append(f"the sums of {len(matrices)} speakers were added up; FILE#SPEAKER takes one")
    return replace(whole, per_speaker=per_speaker, notes=tuple(notes), doubts=tuple(doubts))


def _choose_speaker(found: MelStatistics, reference: Reference) -> MelStatistics:
    names, speaker = list(found.per_speaker), reference.speaker
    listed = some(names, 8)
    without_all = isinstance(found.mean, np.ndarray) and not found.mean.size
    if speaker is None and without_all and len(names) == 1:
        speaker = names[0]
    if speaker is None:
        if without_all:
            raise DataError(
                f"{reference.path}: holds statistics of {len(names)} speakers and none of all, and no frame counts to merge them by: {listed}",
                hint=f"name a speaker: {reference.path}#{names[0]}",
            )
        return found
    if speaker not in found.per_speaker:
        if not names:
            raise UsageError(
                f"{reference.path}: holds no statistics of {speaker!r}: one set, of all speakers together, whatever speakers the data had",
                hint=f"leave #{speaker} out; or measure this speaker alone: calib stats SOURCE --speaker {quote(speaker)}",
            )
        raise UsageError(f"{reference.path}: holds no statistics of {speaker!r}; it has {listed}")
    mean, std = found.per_speaker[speaker]
    # What was noted is of the whole file.
    return replace(
        found, mean=mean, std=std, n_frames=None, notes=(), doubts=(), path=f"{reference.path}, speaker {speaker}"
    )
