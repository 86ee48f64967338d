"""Mel arrays from disk, in whatever container, and which axis is time.

Conventions:
    Inside calib a mel is ``(T, M)`` float32. On disk it may be ``(T, M)`` ("TM") or ``(M, T)`` ("MT"), with a leading
    axis of 1 or, for padded batches, of B. No container can make calib execute code: ``.npy`` and ``.npz`` are read
    without pickle, ``.pt`` with torch's ``weights_only``.
"""

from __future__ import annotations

import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from calib.data.clip import Clip, Place, local_copy, opened
from calib.data.kaldiark import read_matrix
from calib.data.shards import read_stored, shard_index
from calib.errors import DataError, UsageError, some

__all__ = [
    "ARRAY_SUFFIXES",
    "LAYOUTS",
    "USUAL_MEL_COUNTS",
    "array_shape",
    "as_time_first",
    "check_layout",
    "decide_layout",
    "layout_candidates",
    "load_array",
]

ARRAY_SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".safetensors")
LAYOUTS = ("TM", "MT")
# Of 71 front ends in use: 80 (51 of them), 128, 100, 64, 125 and 160; the others are usual in speech recognition and
# in research code. Sizes of linear spectra (257, 513, 1025) are no mel counts.
USUAL_MEL_COUNTS = frozenset({20, 40, 60, 64, 72, 80, 96, 100, 120, 125, 128, 160, 192, 200, 256})

_SMALL = 1 << 22  # bytes; a larger array is mapped, not read
_MEMBERS = ("mel", "feats", "arr_0")  # by preference, in a container of several arrays
# What damaged and hostile .npy and .npz files make numpy and zipfile raise. RuntimeError: an encrypted zip member.
_NUMPY_ERRORS = (ValueError, OSError, EOFError, KeyError, TypeError, SyntaxError, MemoryError, OverflowError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error, tokenize.TokenError)  # fmt: skip


def load_array(path: str | Place, key: str | int | None = None, *, batch: bool = False) -> np.ndarray:
    """Load one mel as it lies on disk, checked, without deciding which axis is time.

    Args:
        path: ``.npy`` (memory-mapped), ``.npz``, ``.pt``, ``.pth`` or ``.safetensors``; or a clip: one of these inside
            something else, or a Kaldi matrix.
        key: a name picks an array of a container; an integer b picks item b of a padded ``(B, ., .)`` array.
        batch: return ``(B, ., .)`` arrays as they are.

    Returns:
        ``(., .)``, any real dtype (``(B, ., .)`` if ``batch`` and the file holds that). A leading axis of 1 is
        dropped unless ``batch``. May be read-only.

    Raises:
        DataError: missing, damaged, not an array, pickled objects, complex, empty, wrong shape, no such key.
    """
    if isinstance(path, Clip):
        return _inside(path, key, batch=batch)
    path = _checked(path)
    value = _read(path, key if isinstance(key, str) else None)
    _check(path, value.shape, value.dtype)
    if isinstance(key, int):
        if value.ndim != 3 or not 0 <= key < len(value):
            raise DataError(f"{path}: has no item {key}; its shape is {value.shape}")
        return np.asanyarray(value[key])
    if value.ndim == 3 and not batch:
        if len(value) != 1:
            raise DataError(
                f"{path}: has shape {value.shape}; one mel is (T, M) or (M, T)",
                hint="padded batches need their lengths, in pairs.jsonl or in lengths.npy",
            )
        return np.asanyarray(value[0])
    return value


def _inside(clip: Clip, key: str | int | None, *, batch: bool) -> np.ndarray:
    """An array that lies inside something else, as a copy in memory."""
    if not clip.name.lower().endswith(ARRAY_SUFFIXES):
        with opened(clip) as (file, _):
            value = read_matrix(file, str(clip))
        _check(clip.name, value.shape, value.dtype)
        return value
    with local_copy(clip) as path:
        try:
            return np.array(load_array(path, key, batch=batch))
        except DataError as error:
            raise DataError(error.message.replace(str(path), str(clip)), hint=error.hint) from None


def array_shape(path: str | Place, key: str | int | None = None) -> tuple[int, ...]:
    """Shape on disk, ``(., .)`` or ``(B, ., .)``, from the header alone where the format has one (not ``.pt``).

    Raises:
        DataError: as :func:`load_array`.
    """
    if isinstance(path, Clip):
        return tuple(_inside(path, key, batch=True).shape)
    path = path if isinstance(path, Path) else Path(path)
    name = key if isinstance(key, str) else None
    suffix = path.suffix.lower()
    if suffix != ".safetensors":  # whose reader looks for itself, once
        path = _checked(path)
    if suffix == ".npz":
        return tuple(_npz(path, name, header_only=True))
    if suffix == ".safetensors":
        return tuple(_safetensors(path, name, header_only=True))
    value = _read(path, name)
    _check(path, value.shape, value.dtype)
    return tuple(value.shape)


def _checked(path: str | Path) -> Path:
    path = Path(path)
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else getattr(error, "strerror", None) or error
        raise DataError(f"{path}: {reason}") from None
    if not path.is_file():
        raise DataError(f"{path}: not a regular file")
    if size == 0:
        raise DataError(f"{path}: an empty file (0 bytes)")
    return path


def _read(path: Path, key: str | None) -> np.ndarray:
    readers: dict[str, Callable[[Path, str | None], Any]] = {
        ".npy": _npy,
        ".npz": _npz,
        ".pt": _torch,
        ".pth": _torch,
        ".safetensors": _safetensors,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: not an array file that calib reads (it reads {' '.join(ARRAY_SUFFIXES)})")
    return np.asanyarray(reader(path, key))


def _check(path: Path | str, shape: Sequence[int], dtype: Any) -> None:
    kind = np.dtype(dtype).kind
    if kind not in "fiu":
        what = {"c": "complex numbers", "O": "Python objects", "b": "booleans"}.get(kind, f"dtype {dtype}")
        raise DataError(f"{path}: holds {what} of shape {tuple(shape)}, not a mel")
    if len(shape) not in (2, 3):
        raise DataError(f"{path}: has shape {tuple(shape)}; a mel is (T, M), (M, T) or (1, ., .)")
    if 0 in shape:
        raise DataError(f"{path}: is empty, its shape is {tuple(shape)}")


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0][:200] if lines else "") or type(error).__name__


def _npy(path: Path, key: str | None) -> np.ndarray:
    if key is not None:
        raise DataError(f"{path}: holds one array without a name, so it has no {key!r}")
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: not a readable .npy array ({_reason(error)})") from None
    try:
        shape, dtype, fortran = _layout_of(file)
        if dtype.hasobject:
            raise DataError(
                f"{path}: holds pickled Python objects of shape {shape}; they are not loaded, since that would execute code"
            )
        if 0 in shape or not shape:  # neither can be mapped; both are refused by shape
            return np.zeros(shape, dtype)
        order: Literal["F", "C"] = "F" if fortran else "C"
        count = math.prod(shape)
        if count * dtype.itemsize > _SMALL:
            return np.memmap(file, dtype, "r", file.tell(), shape, order)
        # An utterance's mel: read at once, which is twice as fast as a map.
        values = np.fromfile(file, dtype, count)
        if values.size < count:
            raise DataError(f"{path}: not a readable .npy array (cut short: {values.size} of {count} values are there)")
        return values.reshape(shape, order=order)
    except _NUMPY_ERRORS as error:
        raise DataError(f"{path}: not a readable .npy array ({_reason(error)})") from None
    finally:
        file.close()


def _npy_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with path.open("rb") as file:
        return _header_of(file)


def _header_of(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    return _layout_of(file)[:2]


def _layout_of(file: Any) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return shape, dtype, fortran


def _choose(path: Path, keys: Collection[str], key: str | None) -> str:
    if key is not None:
        if key not in keys:
            raise DataError(f"{path}: has no array {key!r}; it has {_listed(keys)}")
        return key
    if len(keys) == 1:
        return next(iter(keys))
    for name in _MEMBERS:
        if name in keys:
            return name
    raise DataError(f"{path}: holds {len(keys)} arrays ({_listed(keys)}) and none is named {', '.join(_MEMBERS)}")


def _listed(keys: Iterable[str]) -> str:
    return some([str(key) for key in keys], 8) or "none"


def _npz(path: Path, key: str | None, *, header_only: bool = False) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name[:-4]: name for name in archive.namelist() if name.endswith(".npy")}
            chosen = _choose(path, list(names), key)
            with archive.open(names[chosen]) as file:
                shape, dtype = _header_of(file)
                if dtype.hasobject:
                    raise DataError(
                        f"{path}: {chosen} holds pickled Python objects of shape {shape}; they are not loaded, since that would execute code"
                    )
                _check(path, shape, dtype)
                # Before numpy allocates what the header claims: a damaged header can claim anything.
                if archive.getinfo(names[chosen]).file_size < math.prod(shape) * dtype.itemsize:
                    raise DataError(f"{path}: {chosen} is cut short: its header promises the shape {shape}")
            if header_only:
                return shape
            with archive.open(names[chosen]) as file:
                return np.lib.format.read_array(file, allow_pickle=False)
    except _NUMPY_ERRORS as error:
        raise DataError(f"{path}: not a readable .npz archive ({_reason(error)})") from None


def _torch(path: Path, key: str | None) -> np.ndarray:
    import torch

    value = _torch_load(path)
    if isinstance(value, dict):
        tensors = {str(name): item for name, item in value.items() if isinstance(item, torch.Tensor)}
        value = tensors[_choose(path, list(tensors), key)]
    elif key is not None:
        raise DataError(f"{path}: holds no named arrays, so it has no {key!r}")
    if not isinstance(value, torch.Tensor):
        raise DataError(f"{path}: holds a {type(value).__name__}, not a tensor or a dict of tensors")
    value = value.detach()
    if value.dtype == torch.bfloat16:  # numpy has no such type
        value = value.float()
    try:
        return np.asarray(value.numpy())
    except (RuntimeError, TypeError) as error:  # sparse and quantised tensors
        raise DataError(f"{path}: holds a tensor that is no plain array ({_reason(error)})") from None


def _torch_load(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice about pickles is not for the reader of a mel
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises anything at all for damaged and hostile files
        text = str(error).lower()
        if "weights_only" in text or "weights only" in text:
            raise DataError(
                f"{path}: holds more than tensors and plain containers; not loaded, since that would execute code",
                hint="save the bare tensor: torch.save(mel.cpu(), path), or use .npy",
            ) from None
        raise DataError(f"{path}: not a readable .pt file ({_reason(error)})") from None


def _safetensors(path: Path, key: str | None, *, header_only: bool = False) -> Any:
    index = shard_index(path)
    chosen = _choose(path, index.keys(), key)
    stored = index[chosen]
    dtype = stored.numpy_dtype
    if dtype is None:
        raise DataError(f"{path}: {chosen} holds {stored.dtype}, not a mel")
    _check(path, stored.shape, dtype)
    return stored.shape if header_only else read_stored(path, chosen, stored)


def check_layout(layout: str) -> str:
    """``layout`` if it is "TM" or "MT".

    Raises:
        UsageError: it is something else.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"--layout is TM (time first) or MT (mel bins first), not {layout!r}")
    return layout


def layout_candidates(
    shapes: Iterable[Sequence[int]], usual: Iterable[int] = USUAL_MEL_COUNTS
) -> tuple[dict[str, int], str]:
    """Which layouts the shapes allow, each with its number of mel bins, and what was seen, in words.

    Reads ``shapes`` once and keeps two numbers an axis, so a stream of millions is fine.
    """
    counts = frozenset(usual)
    sizes: tuple[set[int], set[int]] = (set(), set())
    total = 0
    for shape in shapes:
        total += 1
        for seen, size in zip(sizes, shape[-2:], strict=True):
            if len(seen) < 2:
                seen.add(int(size))
    found = {
        layout: next(iter(seen))
        for layout, seen in (("TM", sizes[1]), ("MT", sizes[0]))
        if len(seen) == 1 and seen <= counts
    }
    words = []
    for axis, seen in enumerate(sizes):
        if len(seen) == 1:
            size = next(iter(seen))
            words.append(f"axis {axis} is {size} in every file" + ("" if size in counts else f" ({size} is no usual mel count)"))  # fmt: skip
        else:
            words.append(f"axis {axis} differs between files (e.g. {', '.join(map(str, sorted(seen)))})")
    return found, f"{total} file{'s' * (total != 1)}: " + "; ".join(words) if total else "no files"


def decide_layout(shapes: Iterable[Sequence[int]], layout: str | None = None, *, n_mels: int | None = None) -> str:
    """Which axis is time: "TM" or "MT". Decided from evidence, or refused; never guessed.

    The rule: the mel axis is the axis that has the same size in every file and is a usual mel count
    (:data:`USUAL_MEL_COUNTS`). If both axes qualify, or neither, the user must say. So a single file of (674, 80) is
    "TM" (674 is no usual mel count), and (100, 80) is refused.

    Args:
        shapes: one ``(., .)`` or ``(B, ., .)`` per file; read once.
        layout: the user's word, which is final.
        n_mels: if a front end is declared, only its own number of mel bins counts as usual.

    Raises:
        UsageError: the shapes do not decide.

    Example:
        >>> decide_layout([(80, 412), (80, 97)])
        'MT'
    """
    if layout is not None:
        return check_layout(layout)
    found, seen = layout_candidates(shapes, USUAL_MEL_COUNTS if n_mels is None else (n_mels,))
    if len(found) == 1:
        return next(iter(found))
    raise undecided(seen, both=len(found) == 2)


def undecided(seen: str, *, both: bool, what: str = "") -> UsageError:
    """The refusal to guess a layout, in the same words everywhere."""
    why = "both axes could be the mel bins" if both else "no axis has one usual mel count in every file"
    return UsageError(
        f"cannot tell time from mel bins{what}: {why} ({seen})",
        hint="say which with --layout TM (time first) or --layout MT (mel bins first)",
    )


def as_time_first(array: np.ndarray, layout: str) -> np.ndarray:
    """A copy as float32 ``(T, M)``, C-contiguous and writable, independent of the file it came from.

    Values beyond float32 become infinite, which the caller counts as non-finite.

    Args:
        array: ``(T, M)`` if ``layout`` is "TM", ``(M, T)`` if it is "MT".
        layout: "TM" or "MT".
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(array.T if check_layout(layout) == "MT" else array, dtype=np.float32, order="C")
