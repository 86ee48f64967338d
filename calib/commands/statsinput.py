"""``--stats`` of every command: calib's JSON or any other system's statistics file, as one `MelNormalizer`.

A system that normalises each bin by its own values gives a normaliser that does so too (``per_bin``). Parameter files
live in the space of the two global values all the same: that is what their readers do (`global_space`, `own_space`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from calib.console import terminal
from calib.data.files import ensure_writable
from calib.data.statsfiles import (
    FORMATS,
    NEGATIVE_VARIANCE,
    WRITABLE,
    MelStatistics,
    Reference,
    read,
    require_h5py,
    write,
)
from calib.errors import CalibError, DataError, UsageError, nearest
from calib.mel.dataset import stats_identity
from calib.mel.describe import affine_words
from calib.mel.frontend import FrontEnd
from calib.params import STATS_SCHEMA, MelNormalizer, ParamsError

__all__ = [
    "STATS_NAME",
    "doubts_of_data",
    "doubts_of_unit",
    "export",
    "export_path",
    "global_space",
    "is_own",
    "is_statistics",
    "load_normalizer",
    "own_output",
    "own_space",
    "own_warnings",
    "plan_exports",
    "statistics_of",
    "to_normalizer",
]

# What `calib stats` calls its file, and where the other commands look for it.
STATS_NAME = "mel_normalization_stats.json"

# What only a statistics file is, and what a mel may be as well; text files may be any source.
_ONLY = {".h5", ".hdf5", ".pth", ".ckpt", ".bin", ".ark"}
_PERHAPS = {".npy", ".npz", ".pt", ".safetensors"}

# Speech has an sd of about 2.1 in ln of magnitude (1.9 to 2.4 on the corpora of shared/research/frontends.md), hence:
_LN_SD = 2.1
_PER_LN = {"ln": 1.0, "log10": 1.0 / math.log(10.0), "dB": 20.0 / math.log(10.0)}
_SAME = 1.25  # a factor of two sds that are the same, with another corpus between them
_APART = 1.6  # a factor that another corpus does not explain


def load_normalizer(path: Path | str) -> MelNormalizer:
    """Read ``--stats``: ``[FORMAT=]FILE[#SPEAKER]``. Says what was recognised where it is not calib's own file.

    Raises:
        ParamsError: calib's own file, missing or malformed.
        DataError: another file: not recognised, ambiguous, values that cannot be used, or divisors alone.
        UsageError: a speaker that the file lacks, or h5py is not installed.
    """
    reference = Reference(path)
    if is_own(reference):
        try:
            normalizer = MelNormalizer.load(reference.path)
        except ParamsError as error:
            if "NaN is not a number" in error.message:  # Matcha-TTS writes a negative variance so
                raise ParamsError(error.message, hint=NEGATIVE_VARIANCE) from None
            raise
        if words := own_warnings(normalizer.extra):
            terminal.warning(f"{reference.path}: measured with a warning: {words}")
        return normalizer
    found = read(path)
    normalizer = to_normalizer(found)
    terminal.notice(f"statistics: {found.describe()}")
    for note in found.notes:
        terminal.notice(f"{reference.path}: {note}")
    for doubt in found.doubts:
        terminal.warning(f"{reference.path}: {doubt}")
    return normalizer


def own_warnings(content: Mapping[str, Any]) -> str:
    """What ``calib stats`` warned of when it wrote the file, in one line; empty if of nothing."""
    found = content.get("warnings")
    found = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    return "; ".join(f"{one.get('title', '?')}: {one.get('measured', '?')}" for one in found)


def is_own(reference: Reference) -> bool:
    """Whether it is for `MelNormalizer.load`: calib's JSON, the legacy two keys, or nothing at all."""
    path = reference.path
    if reference.format not in {None, "calib"} or reference.speaker is not None:
        return False
    if not path.is_file():
        return not path.exists()
    if path.suffix.lower() != ".json":
        return False
    try:
        return '"data_statistics"' not in path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return True


def to_normalizer(found: MelStatistics) -> MelNormalizer:
    """The statistics as inference uses them, with identities (the front end is unknown) and a whole file as ``extra``.

    Raises:
        DataError: divisors alone say neither mean nor sd.
    """
    mean, std = found.overall()
    bins = (found.mean, found.std) if found.by_bin else found.bins
    per_bin = None if bins is None else {"mean": np.asarray(bins[0]).tolist(), "std": np.asarray(bins[1]).tolist()}
    content: dict[str, Any] = {
        "schema": STATS_SCHEMA,
        "mel_mean": mean,
        "mel_std": std,
        "per_bin": per_bin,
        "n_frames": found.n_frames,
        "frontend": None,
        "frontend_id": None,
        "provenance": {"read_from": found.format},
    }
    content["stats_id"] = stats_identity(content, None)
    return MelNormalizer(
        mean,
        std,
        None if bins is None else np.asarray(bins[0]),
        None if bins is None else np.asarray(bins[1]),
        found.by_bin,
        content["stats_id"],
        None,
        content,
    )


def statistics_of(params: Path, stats: Path | None) -> Path:
    """The statistics that a parameter file belongs to: those given, else the file beside it, which is said.

    Raises:
        DataError: no such parameter file.
        UsageError: none given, and none beside it.
    """
    if not params.is_file():
        raise DataError(f"--params {params}: no such file")
    if stats is not None:
        return stats
    beside = params.parent / STATS_NAME
    if not beside.exists():
        raise UsageError(
            f"--params {params} needs the statistics that it belongs to, and {beside} does not exist",
            hint="give --stats FILE",
        )
    terminal.notice(f"statistics: {beside}")
    return beside


def is_statistics(path: Path | str) -> bool:
    """Whether a SOURCE is a statistics file: by its name where only such a file has it, else by its content."""
    reference = Reference(path)
    if not reference.path.is_file():
        return False
    suffix = reference.path.suffix.lower()
    if suffix in _PERHAPS and reference.format is None:
        try:
            read(path)
        except CalibError:  # a mel
            return False
        return True
    return reference.format is not None or suffix in _ONLY


# --- two normalised spaces --------------------------------------------------------------------------------------------


def global_space(normalizer: MelNormalizer) -> Callable[[np.ndarray], np.ndarray]:
    """From mels normalised by bin to mels normalised with the two global values; ``(T, M)`` to ``(T, M)``, dtype kept."""

    def convert(mel: np.ndarray) -> np.ndarray:
        raw = normalizer.denormalize(mel)
        return np.asarray((raw - normalizer.mel_mean) / normalizer.mel_std, dtype=raw.dtype)

    return convert


def own_output(normalizer: MelNormalizer) -> Callable[[np.ndarray], np.ndarray]:
    """The inverse of `global_space`: what the model itself gave."""

    def convert(mel: np.ndarray) -> np.ndarray:
        return np.asarray(normalizer.normalize(mel * normalizer.mel_std + normalizer.mel_mean))

    return convert


def own_space(
    normalizer: MelNormalizer, scale: float | np.ndarray, offset: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset that act on `global_space` mels, as scale and offset of each bin that act on the model's own output.

    ``(p c + d) s + o = p (c s) + (d s + o)``, with c and d the map of `global_space`.

    Returns:
        scale ``(M,)``, offset ``(M,)``.
    """
    assert normalizer.per_bin_mean is not None
    assert normalizer.per_bin_std is not None
    c = normalizer.per_bin_std / normalizer.mel_std
    d = (normalizer.per_bin_mean - normalizer.mel_mean) / normalizer.mel_std
    return c * scale, d * scale + offset


# --- for other systems --------------------------------------------------------------------------------------------------


def export_path(text: str, output: Path) -> tuple[str, Path]:
    """``FORMAT[=PATH]`` of ``--export`` as (format, path); without a path, the format's usual name beside ``output``.

    Raises:
        UsageError: an unknown format.
    """
    name, _, target = text.partition("=")
    if name not in WRITABLE:
        raise UsageError(f"--export {text}: {name!r} is no format that calib writes", hint=nearest(name, WRITABLE))
    return name, Path(target) if target else output.parent / FORMATS[name].filename


def plan_exports(wanted: Iterable[str], output: Path, *, force: bool) -> list[tuple[str, Path]]:
    """``FORMAT[=PATH]`` of ``--export`` as (format, path), checked before the work.

    Raises:
        UsageError: an unknown format, a path that is taken or wanted twice, h5py needed and not installed.
    """
    out: list[tuple[str, Path]] = []
    for text in wanted:
        name, path = export_path(text, output)
        if path in {output, *(other for _, other in out)}:
            raise UsageError(
                f"--export {text}: {path} is written already", hint=f"give each its own: --export {name}=PATH"
            )
        if name == "pwg":
            require_h5py()
        ensure_writable(path, force=force)
        out.append((name, path))
    return out


def export(content: dict[str, Any], exports: list[tuple[str, Path]], frontend: FrontEnd | None, *, force: bool) -> None:
    """Write measured statistics for other systems.

    Args:
        content: of ``mel_normalization_stats.json``.
        exports: from `plan_exports`.
        frontend: that the mels were made with, or None.
        force: overwrite.

    Raises:
        DataError: values that a format cannot hold.
    """
    bins = np.asarray(content["per_bin"]["mean"]), np.asarray(content["per_bin"]["std"])
    stats = MelStatistics(
        content["mel_mean"],
        content["mel_std"],
        "calib",
        bins=bins,
        n_frames=content["n_frames"],
        path="these statistics",
    )
    if exports and frontend is not None and frontend.normalises:
        terminal.warning(
            f"{', '.join(str(path) for _, path in exports)}: measured after the front end's own normalisation ({affine_words(frontend)}); a system's statistics are those of the mels before it"
        )
    failed: list[DataError] = []
    for name, path in exports:
        usual = FORMATS[name].unit
        plain = frontend is not None and not frontend.normalises and frontend.log != "none"
        if usual is not None and plain and frontend is not None and abs(frontend.log_scale - _PER_LN[usual]) > 1e-6:
            terminal.warning(
                f"{path}: holds {frontend.unit}, as measured; a file of this format from its own system holds {usual} as a rule"
            )
        if len(content["speakers"]) > 1:
            terminal.notice(
                f"{path}: of all {len(content['speakers']) - 1} speakers together; calib stats --speaker NAME measures one"
            )
        try:
            write(stats, path, name, frontend=None if frontend is None else frontend.fields(), force=force)
        except DataError as error:  # what one format cannot hold, another may
            failed.append(DataError(f"{path} was not written: {error.message}", hint=error.hint))
    if failed:
        for other in failed[1:]:
            terminal.warning(other.message)
        raise failed[0]


# --- statistics of another unit ---------------------------------------------------------------------------------------


def doubts_of_data(normalizer: MelNormalizer, mean: float, std: float, what: str) -> str | None:
    """A warning where statistics can hardly be those of data with this mean and sd; None where nothing speaks against it.

    Args:
        normalizer: the statistics.
        mean: of the data, in its own unit.
        std: of the data.
        what: the data, for the sentence.
    """
    if std <= 0:
        return None
    ratio = normalizer.mel_std / std
    told = f"the statistics have mean {normalizer.mel_mean:.3f} and sd {normalizer.mel_std:.3f}, {what} mean {mean:.3f} and sd {std:.3f}"
    for theirs, a in _PER_LN.items():
        for ours, b in _PER_LN.items():
            expected = a / b
            near = abs(math.log(ratio / expected)) < math.log(_SAME)
            if theirs != ours and near and abs(normalizer.mel_mean - expected * mean) < 0.5 * normalizer.mel_std:
                return f"{told}: that is the ratio of {theirs} to {ours}; they seem to be of mels in another unit"
    apart = abs(normalizer.mel_mean - mean) / max(std, normalizer.mel_std)
    if apart > 2 or not 1 / (2 * _APART) < ratio < 2 * _APART:
        return f"{told}: they can hardly be of the same mels"
    return None


def doubts_of_unit(normalizer: MelNormalizer, frontend: FrontEnd) -> str | None:
    """A warning where statistics can hardly be of this front end's unit, from their sd alone; None without a doubt."""
    if frontend.log == "none" or frontend.normalises:
        return None
    unit = frontend.log_scale * frontend.power
    ratio = normalizer.mel_std / (_LN_SD * unit)
    if 1 / _APART < ratio < _APART:
        return None
    for name, factor in _PER_LN.items():
        for power, words in ((1, ""), (2, " of power")):
            if abs(math.log(normalizer.mel_std / (_LN_SD * factor * power))) < math.log(_SAME):
                return f"the statistics have an sd of {normalizer.mel_std:.3f}, as speech has in {name}{words}; {frontend.name} makes {frontend.unit}, where it has about {_LN_SD * unit:.2g}"
    return (
        f"the statistics have an sd of {normalizer.mel_std:.3f}; speech has about {_LN_SD * unit:.2g} {frontend.unit}"
    )
