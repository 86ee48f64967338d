"""Which pairs a folder holds: the index ``pairs.jsonl``, the shorthands without one, padded batches taken apart.

:mod:`calib.data.pairs` is the public face; this module only finds files and reads shapes.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from calib.data.arrays import ARRAY_SUFFIXES, array_shape
from calib.data.files import read_json
from calib.data.sources.folder import census, walk
from calib.data.sources.lines import json_object, read_lines
from calib.data.sources.names import has_suffix, tidy
from calib.errors import DataError, UsageError, missing, some

__all__ = ["HEADER_NAME", "INDEX_NAME", "SCHEMA", "Found", "Orphan", "PairEntry", "arrays_below", "discover", "expand", "scan_shapes"]  # fmt: skip

SCHEMA = "calib/pairs/1"
INDEX_NAME = "pairs.jsonl"
HEADER_NAME = "pairs.json"
_SINGLE = "pair"  # the id of target.npy + pred.npy: a folder's name would change the result when it is moved
_PRED = ("pred", "predictions")
_TARGET = ("target", "targets")
_FREE = ("free_running", "free_running")
_SHARD = re.compile(r"(.*?\.(?:npz|safetensors))#(.*)", re.IGNORECASE | re.DOTALL)  # a key may hold a "#", too


@dataclass(frozen=True, slots=True)
class PairEntry:
    """Where one pair is.

    Args:
        id: unique in the pairs.
        pred: the file of the prediction.
        target: the file of the target, or None if it is computed from ``audio``.
        audio: the audio file, or None.
        free_running: the file of the free-running prediction, or None.
        length: valid frames; what lies beyond is padding. None: all.
        text: what is said, or "".
        speaker: name, or None.
        language: code, or None.
        pred_key: the array inside the file (a name), or the item of a batch (a number).
        target_key: the same for ``target``.
        free_running_key: the same for ``free_running``.
    """

    id: str
    pred: Path
    target: Path | None = None
    audio: Path | None = None
    free_running: Path | None = None
    length: int | None = None
    text: str = ""
    speaker: str | None = None
    language: str | None = None
    pred_key: str | int | None = None
    target_key: str | int | None = None
    free_running_key: str | int | None = None


@dataclass(frozen=True)
class Orphan:
    """A prediction without a target, or the reverse: ``side`` is "pred" or "target", the one that is there."""

    id: str
    side: str
    path: Path


@dataclass
class Found:
    """What :func:`discover` found; ``entries`` may still be batches, with the ids and lengths of their items."""

    root: Path
    kind: str
    entries: list[RawEntry]
    header: dict[str, Any] = field(default_factory=dict)
    orphans: list[Orphan] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RawEntry:
    """An entry before batches are taken apart: its file or index and line there, and what a batch states of its items."""

    entry: PairEntry
    source: str
    line: int | None = None
    ids: tuple[str, ...] | None = None
    lengths: tuple[int, ...] | None = None

    @property
    def where(self) -> str:
        """Its place, for messages."""
        return self.source if self.line is None else f"{self.source}, line {self.line}"


def discover(path: Path, targets: Path | None = None) -> Found:
    """Find the pairs below ``path`` (a folder or its index).

    Raises:
        DataError: missing, malformed, or no pairs; the message says what was looked for and seen.
    """
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for names that are too long
        raise missing(path)
    root = path if path.is_dir() else path.parent
    if not path.is_dir() and path.suffix.lower() != ".jsonl":
        raise DataError(
            f"{path}: PAIRS is a folder, or its {INDEX_NAME}", hint=f"for the arrays beside it give the folder {root}"
        )
    if targets is not None:
        preds = path / _PRED[1] if (path / _PRED[1]).is_dir() else path
        return _two_folders(root, preds, targets, "predictions + --target")
    index = path if not path.is_dir() else root / INDEX_NAME
    if index.is_file():
        return _from_index(root, index)
    single = {name: _array_named(root, name) for name in ("pred", "target", "free_running")}
    if single["pred"] or single["target"]:
        return _single(root, single)
    if (root / _PRED[1]).is_dir() or (root / _TARGET[1]).is_dir():
        for name in (_PRED[1], _TARGET[1]):
            if not (root / name).is_dir():
                raise DataError(
                    f"{root}: has no {name}/",
                    hint="calib pair makes PAIRS from any two folders, or from predictions and audio",
                )
        return _two_folders(root, root / _PRED[1], root / _TARGET[1], "targets/ + predictions/", root / _FREE[1])
    found = _dotted(root)
    if found is None:
        seen = sorted(entry.name for entry in root.iterdir())
        names = some(seen, 8)
        raise DataError(
            f"{root}: no pairs: looked for {INDEX_NAME}, target.npy + pred.npy, ID.target.npy + ID.pred.npy, targets/ + predictions/; found {names or 'an empty folder'}",
            hint="calib pair --pred DIR --target DIR -o DIR makes PAIRS from any two folders",
        )
    return found


def _array_named(folder: Path, stem: str) -> Path | None:
    return next((folder / (stem + suffix) for suffix in ARRAY_SUFFIXES if (folder / (stem + suffix)).is_file()), None)


def _single(root: Path, files: Mapping[str, Path | None]) -> Found:
    pred, target = files["pred"], files["target"]
    if pred is None or target is None:
        there, lacking = (pred, "target") if pred else (target, "pred")
        raise DataError(
            f"{root}: {there.name if there else ''} has no {lacking}.npy beside it",
            hint=f"save the {lacking} mel of the same utterance as {lacking}.npy",
        )
    entry = PairEntry(_SINGLE, pred, target, free_running=files["free_running"])
    return Found(root, "target + pred", [RawEntry(entry, str(pred))], _header(root))


def arrays_below(folder: Path) -> dict[str, Path]:
    """Array files below ``folder`` by id (relative path without suffix).

    Raises:
        DataError: two files differ in the suffix only.
    """
    found: dict[str, Path] = {}
    for relative in walk(folder):
        if has_suffix(relative, ARRAY_SUFFIXES) and not relative.endswith("lengths.npy"):
            name = tidy(os.path.splitext(relative)[0])  # noqa: PTH122 - relative is text
            if name in found:
                raise DataError(f"{folder}: {found[name].name} and {Path(relative).name} are one id, {name!r}")
            found[name] = folder / relative
    return found


def _two_folders(root: Path, preds: Path, targets: Path, kind: str, free: Path | None = None) -> Found:
    if not targets.is_dir():
        raise DataError(f"{targets}: no such folder")
    left, right = arrays_below(preds), arrays_below(targets)
    running = arrays_below(free) if free is not None and free.is_dir() else {}
    entries = [RawEntry(PairEntry(name, left[name], right[name], free_running=running.get(name)), str(left[name])) for name in sorted(left.keys() & right.keys())]  # fmt: skip
    if not entries:
        raise DataError(
            f"{root}: no pairs: {_names(preds, left)} and {_names(targets, right)} have no name in common",
            hint="calib pair matches names with suffixes such as _mel or -feats",
        )
    return Found(root, kind, entries, _header(root), _orphans(left, right))


def _names(folder: Path, found: Mapping[str, Path]) -> str:
    if not found:
        others = census(folder)
        seen = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in sorted(others.items())[:5])
        return f"{folder} (no arrays; {seen or 'empty'})"
    return f"{folder} ({len(found)}: {', '.join(sorted(found)[:3])}{', ...' if len(found) > 3 else ''})"


def _orphans(left: Mapping[str, Path], right: Mapping[str, Path]) -> list[Orphan]:
    alone = [Orphan(name, "pred", left[name]) for name in left.keys() - right.keys()]
    alone += [Orphan(name, "target", right[name]) for name in right.keys() - left.keys()]
    return sorted(alone, key=lambda orphan: (orphan.id, orphan.side))


def _dotted(root: Path) -> Found | None:
    """``ID.target.npy`` + ``ID.pred.npy``; None if no file is named so."""
    sides: dict[str, dict[str, Path]] = {"pred": {}, "target": {}, "free_running": {}}
    for file in sorted(root.iterdir()):
        stem, _, side = file.stem.rpartition(".")
        if stem and side in sides and has_suffix(file, ARRAY_SUFFIXES) and not file.name.startswith("."):
            name = tidy(stem)
            if name in sides[side]:
                raise DataError(f"{root}: {sides[side][name].name} and {file.name} are one id, {name!r}")
            sides[side][name] = file
    left, right = sides["pred"], sides["target"]
    if not left and not right:
        return None
    entries = [RawEntry(PairEntry(name, left[name], right[name], free_running=sides["free_running"].get(name)), str(left[name])) for name in sorted(left.keys() & right.keys())]  # fmt: skip
    if not entries:
        raise DataError(
            f"{root}: no pairs: {len(left)} ID.pred and {len(right)} ID.target files have no ID in common (e.g. {', '.join([*sorted(left)[:2], *sorted(right)[:2]])})"
        )
    return Found(root, "ID.target + ID.pred", entries, _header(root), _orphans(left, right))


def _header(root: Path) -> dict[str, Any]:
    path = root / HEADER_NAME
    if not path.is_file():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: is not a JSON object")
    schema = value.get("schema", SCHEMA)
    if schema != SCHEMA:
        raise DataError(f"{path}: has the schema {schema!r}; this version reads {SCHEMA}")
    return value


def _from_index(root: Path, index: Path) -> Found:
    entries: list[RawEntry] = []
    orphans: list[Orphan] = []
    known: set[str] = set()
    source = str(index)
    interned: dict[str | None, str | None] = {}  # speakers and languages: one object for each
    for number, line in read_lines(index):
        where = f"{source}, line {number}"
        row = json_object(where, line)
        name = _id(where, row)
        if name in known:
            first = next(at for at, other in read_lines(index) if _id(source, json_object(source, other)) == name)
            raise DataError(
                f"{index}: the id {name!r} occurs twice (lines {first} and {number})",
                hint="every pair needs its own id",
            )
        known.add(name)
        pred, pred_key = _reference(root, where, row, "pred")
        target, target_key = _reference(root, where, row, "target")
        free, free_key = _reference(root, where, row, "free_running")
        audio = _string(where, row, "audio")
        if pred is None or (target is None and audio is None):
            alone = pred or target
            if alone is None:
                raise DataError(f"{where}: the pair {name!r} names neither pred nor target")
            orphans.append(Orphan(name, "pred" if pred else "target", alone))
            continue
        length, lengths = _lengths(where, row)
        ids = tuple(row["id"]) if isinstance(row["id"], list) else None
        entry = PairEntry(
            name,
            pred,
            target,
            None if audio is None else root / audio,
            free,
            length,
            _string(where, row, "text") or "",
            interned.setdefault(speaker := _string(where, row, "speaker"), speaker),
            interned.setdefault(language := _string(where, row, "language"), language),
            pred_key,
            target_key,
            free_key,
        )
        entries.append(RawEntry(entry, source, number, ids, lengths))
    if not entries:
        what = f"its {len(orphans)} rows have no target and no audio, or no pred" if orphans else "it is empty"
        raise DataError(f"{index}: no pairs: {what}")
    return Found(root, INDEX_NAME, entries, _header(root), orphans)


def _id(where: str, row: Mapping[str, Any]) -> str:
    value = row.get("id")
    if isinstance(value, list) and value and all(isinstance(item, str) and item for item in value):
        return "\n".join(value)  # a batch: only its items' ids are ever shown
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: id is {value!r}; it must be text (or a list of texts for a batch)")
    return tidy(value)


def _string(where: str, row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or "\0" in value:
        raise DataError(f"{where}: {key} is {str(value)[:60]!r}; it must be text")
    return value


def _reference(root: Path, where: str, row: Mapping[str, Any], key: str) -> tuple[Path | None, str | int | None]:
    """A path, or ``FILE#KEY`` into a shard (unless a file is really named so)."""
    value = _string(where, row, key)
    if value is None:
        return None, None
    if "#" not in value:
        return root / value, None
    named = _SHARD.match(value)
    if named is not None and (shard := _shard(root, named[1])) is not None:
        return shard, named[2]
    if os.path.exists(root / value):  # noqa: PTH110 - Path.exists raises for names that are too long
        return root / value, None
    if named is not None:
        return root / named[1], named[2]
    name, _, part = value.rpartition("#")
    return root / name, int(part) if part.isascii() and part.isdigit() else part


@functools.lru_cache(maxsize=64)
def _shard(root: Path, name: str) -> Path | None:
    """One object for the path of a shard that many pairs name; None if it is not there."""
    path = root / name
    return path if path.is_file() else None


def _lengths(where: str, row: Mapping[str, Any]) -> tuple[int | None, tuple[int, ...] | None]:
    value = row.get("length")
    if value is None:
        return None, None
    items = value if isinstance(value, list) else [value]
    if not items or not all(isinstance(item, int) and not isinstance(item, bool) and item > 0 for item in items):
        raise DataError(
            f"{where}: length is {str(value)[:60]!r}; it must be a number of frames, or a list of them for a batch"
        )
    return (None, tuple(items)) if isinstance(value, list) else (items[0], None)


def expand(raw: Sequence[RawEntry], root: Path, limit: int | None = None) -> list[PairEntry]:
    """Batches taken apart into their items; everything sorted by id, the first ``limit`` of it.

    Raises:
        UsageError: a batch without lengths.
        DataError: lengths, ids or sizes of a batch that do not fit; an id that occurs twice.
    """
    entries: list[PairEntry] = []
    used: set[Path] = set()
    ordered = sorted(raw, key=lambda item: item.entry.id)
    named = any(item.ids for item in raw)
    for item in ordered:
        entries += _items(item, used)
        if limit is not None and len(entries) >= limit and not named:  # the rest sorts behind, and need not be opened
            break
    entries.sort(key=lambda entry: entry.id)
    for one, two in pairwise(entries):
        if one.id == two.id:
            raise DataError(f"{root}: the id {one.id!r} occurs twice (in {one.pred.name} and {two.pred.name})")
    return entries[:limit]


def _items(item: RawEntry, used: set[Path]) -> Iterator[PairEntry]:
    entry = item.entry
    shape = _shape(entry.pred, entry.pred_key)
    if shape is None or len(shape) != 3 or isinstance(entry.pred_key, int) or (shape[0] == 1 and item.lengths is None):
        if item.lengths is not None and len(item.lengths) > 1:
            raise DataError(f"{item.where}: {len(item.lengths)} lengths for one mel of shape {shape}")
        length = item.lengths[0] if item.lengths else entry.length
        same = length == entry.length and not item.ids
        yield entry if same else replace(entry, length=length, id=item.ids[0] if item.ids else entry.id)
        return
    count = shape[0]
    target = _shape(entry.target, entry.target_key) if entry.target else None
    if target is not None and (len(target) != 3 or target[0] != count):
        raise DataError(f"{item.where}: the predictions are a batch of shape {shape}, the targets have shape {target}")
    if entry.target is None:
        raise DataError(f"{item.where}: a batch of predictions needs a batch of targets, not audio")
    lengths = item.lengths or _lengths_beside(entry, used)
    if lengths is None:
        raise UsageError(
            f"{item.where}: a padded batch of shape {shape} without lengths: padding would count as speech",
            hint='give "length": [...] in pairs.jsonl, or lengths.npy beside the array (ID.lengths.npy if there are several batches)',
        )
    if len(lengths) != count:
        raise DataError(f"{item.where}: {len(lengths)} lengths for a batch of {count}")
    if item.ids is not None and len(item.ids) != count:
        raise DataError(f"{item.where}: {len(item.ids)} ids for a batch of {count}")
    width = len(str(count - 1))
    free = _shape(entry.free_running, entry.free_running_key) if entry.free_running else None
    for position, length in enumerate(lengths):
        yield replace(
            entry,
            id=item.ids[position] if item.ids else f"{entry.id}-{position:0{width}}",
            length=length,
            pred_key=position,
            target_key=position,
            free_running_key=position if free is not None and len(free) == 3 else None,
            free_running=entry.free_running if free is not None and len(free) == 3 else None,
        )


def _lengths_beside(entry: PairEntry, used: set[Path]) -> tuple[int, ...] | None:
    """``ID.lengths.npy`` or ``lengths.npy`` beside a batch (or one folder up, beside ``predictions/``).

    ``lengths.npy`` serves one batch only: for a second one it would be a guess.
    """
    folders = [entry.pred.parent, *([entry.pred.parent.parent] if entry.pred.parent.name == _PRED[1] else [])]
    names = [f"{entry.id}.lengths.npy", "lengths.npy"]
    path = next((folder / name for name in names for folder in folders if (folder / name).is_file()), None)
    if path is None or path in used:
        return _lengths_inside(entry.pred)
    used.add(path)
    try:
        value = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a readable .npy array ({str(error)[:120]})") from None
    return _checked_lengths(path, value)


def _lengths_inside(path: Path) -> tuple[int, ...] | None:
    """The ``lengths`` that a batch in ``.npz`` or ``.safetensors`` carries itself, or None."""
    value: Any = None
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                value = archive.get("lengths")
        elif path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="numpy") as file:
                value = file.get_tensor("lengths") if "lengths" in file.keys() else None  # noqa: SIM118 - no mapping
    except Exception:  # noqa: BLE001 - a damaged file is reported where it is loaded
        return None
    return None if value is None else _checked_lengths(path, value)


def _checked_lengths(path: Path, value: Any) -> tuple[int, ...]:
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind not in "iu" or (value < 1).any():
        raise DataError(f"{path}: lengths must be a list of whole numbers of frames, at least 1 each")
    return tuple(int(length) for length in value)


def _shape(path: Path, key: str | int | None) -> tuple[int, ...] | None:
    """Shape on disk, or None if the file cannot be read: that is reported where it is loaded, and counted there."""
    try:
        return array_shape(path, key)
    except DataError:
        return None


def scan_shapes(entries: Sequence[PairEntry]) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Shapes of all readable predictions and targets. Files that cannot be read are left to the loading.

    Raises:
        DataError: not one prediction, or not one target, can be read.
    """
    sides = (_Side("prediction"), _Side("target"))
    for entry in entries:
        sides[0].see(entry.pred, entry.pred_key)
        if entry.target is not None:
            sides[1].see(entry.target, entry.target_key)
    for side in sides:
        if side.named and not side.shapes and side.failed is not None:
            raise DataError(f"not one of the {side.named} {side.what}s can be read; the first: {side.failed}")
    return sides[0].shapes, sides[1].shapes


class _Side:
    """Shapes of the predictions, or of the targets."""

    def __init__(self, what: str) -> None:
        self.what, self.named = what, 0
        self.shapes: list[tuple[int, ...]] = []
        self.failed: DataError | None = None
        self._previous: Path | None = None
        self._interned: dict[tuple[int, ...], tuple[int, ...]] = {}

    def see(self, path: Path, key: str | int | None) -> None:
        """One more file."""
        self.named += 1
        if isinstance(key, int) and path == self._previous:  # items of one batch
            return
        try:
            shape = array_shape(path, key)
        except DataError as error:
            self.failed = self.failed or error
            return
        self._previous = path
        self.shapes.append(self._interned.setdefault(shape, shape))
