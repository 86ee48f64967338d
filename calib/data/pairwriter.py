"""PAIRS out: written one at a time, or indexed where another program left its files."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from calib.data.arrays import check_layout
from calib.data.clip import Clip
from calib.data.files import atomic_writer, digest, ensure_writable, write_json
from calib.data.pairfiles import HEADER_NAME, INDEX_NAME, SCHEMA, arrays_below
from calib.data.shards import ShardWriter
from calib.data.sources.base import Item, Source
from calib.data.sources.names import safe_name
from calib.errors import DataError, UsageError

__all__ = ["Matching", "PairsWriter", "examples", "index_line", "index_pairs", "match_names", "pair_is_whole", "shard_key", "write_index", "write_pair"]  # fmt: skip

_SIDES = {"pred": "predictions", "target": "targets", "free_running": "free_running"}


class PairsWriter:
    """Writes a PAIRS folder: arrays at once, the index and its header at the end. Equal input gives equal bytes.

    Usable as a context manager: the index is written if the block ends well. Without an index the folder is still
    readable as ``targets/`` + ``predictions/``.

    Args:
        root: the folder.
        header: for ``pairs.json``: model_id, frontend_id, frontend, output_space, model_kind, autoregressive, ...
        force: replace an existing index.

    Raises:
        UsageError: the folder has an index already and ``force`` is false.
    """

    def __init__(self, root: str | Path, header: Mapping[str, Any] | None = None, *, force: bool = False) -> None:
        self.root = Path(root)
        self.header = dict(header or {})
        self._force = force
        self._rows: dict[str, dict[str, Any]] = {}
        for name in (INDEX_NAME, HEADER_NAME):
            ensure_writable(self.root / name, force=force)

    def __enter__(self) -> PairsWriter:  # noqa: PYI034 - typing.Self is of Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def __len__(self) -> int:
        return len(self._rows)

    def write(
        self,
        name: str,
        pred: np.ndarray,
        target: np.ndarray | None = None,
        *,
        audio: str | Path | None = None,
        free_running: np.ndarray | None = None,
        text: str = "",
        speaker: str | None = None,
        language: str | None = None,
    ) -> dict[str, Any]:
        """Write one pair. NaN and infinity are written as they are: they are a finding, not an accident of writing.

        Args:
            name: the id.
            pred: ``(T', M)``.
            target: ``(T, M)``, or None if ``audio`` is given.
            audio: the audio file.
            free_running: ``(T'', M)``, or None.
            text: what is said.
            speaker: name, or None.
            language: code, or None.

        Returns:
            What :meth:`adopt` needs to take the pair over in a later run: its row and the digests of its arrays.

        Raises:
            DataError: the id was written before, a shape is not ``(T, M)``, or the disk is full.
        """
        if name in self._rows:
            raise DataError(f"{self.root}: the pair {name!r} is written twice")
        record = write_pair(
            self.root, name, pred, target, audio=audio, free_running=free_running, text=text, speaker=speaker, language=language
        )  # fmt: skip
        self._rows[name] = record["row"]
        return record

    def adopt(self, records: Iterable[Mapping[str, Any]]) -> bool:
        """Take over pairs that an interrupted run wrote: all of them, or none if any array is missing or altered."""
        records = list(records)
        if not all(pair_is_whole(self.root, record) for record in records):
            return False
        self._rows.update({record["row"]["id"]: dict(record["row"]) for record in records})
        return True

    def close(self) -> None:
        """Write ``pairs.jsonl`` (sorted by id) and ``pairs.json``.

        Raises:
            DataError: nothing was written, or the disk is full.
        """
        if not self._rows:
            raise DataError(f"{self.root}: no pairs were written")
        _write_index(self.root, self._rows.values(), {**self.header, "layout": "TM"}, force=self._force)


def write_pair(
    root: Path,
    name: str,
    pred: np.ndarray,
    target: np.ndarray | None = None,
    *,
    audio: str | Path | None = None,
    free_running: np.ndarray | None = None,
    text: str = "",
    speaker: str | None = None,
    language: str | None = None,
    shard: ShardWriter | None = None,
    shard_name: str = "",
) -> dict[str, Any]:
    """Write the arrays of one pair below ``root``, each in a file of its own, or into a shard.

    Args:
        root: the PAIRS folder.
        name: the id.
        pred: ``(T', M)``.
        target: ``(T, M)``, or None if ``audio`` is given.
        audio: the audio file.
        free_running: ``(T'', M)``, or None.
        text: what is said.
        speaker: name, or None.
        language: code, or None.
        shard: where the arrays go; None: files.
        shard_name: path of the finished shard below ``root``.

    Returns:
        ``row``: the line of the index; ``arrays``: digests of the files, or what `ShardWriter.adopt` needs.

    Raises:
        DataError: a shape is not ``(T, M)``, or the disk is full.
    """
    if target is None and audio is None:
        raise DataError(f"{name}: a pair needs a target or audio")
    stem = safe_name(name)
    row: dict[str, Any] = {"id": name}
    files: dict[str, str] = {}
    places: list[list[Any]] = []
    for side, array in (("pred", pred), ("target", target), ("free_running", free_running)):
        if array is None:
            continue
        if shard is not None:
            row[side] = f"{shard_name}#{shard_key(side, name)}"
            places.append(shard.add(shard_key(side, name), array))
        else:
            row[side] = f"{_SIDES[side]}/{stem}.npy"
            _save(root / row[side], array, name)
            files[row[side]] = _file_digest(root / row[side])
    if audio is not None:
        row["audio"] = _relative(Path(audio), root)
    row |= {key: value for key, value in (("text", text), ("speaker", speaker), ("language", language)) if value}
    return {"row": row, "arrays": files if shard is None else places}


def pair_is_whole(root: Path, record: Mapping[str, Any]) -> bool:
    """Whether the files that `write_pair` wrote are there and unaltered."""
    return all((root / name).is_file() and _file_digest(root / name) == wanted for name, wanted in record["arrays"].items())  # fmt: skip


def shard_key(side: str, name: str) -> str:
    """The name of an array in a shard: ``pred/LJ001-0001``."""
    return f"{side}/{safe_name(name)}"


def _save(path: Path, array: np.ndarray, name: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        value = np.ascontiguousarray(array, dtype="<f4")
    if value.ndim != 2 or not value.size:
        raise DataError(f"{name}: a mel to write has shape {value.shape}; it must be (T, M)")
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.lib.format.write_array(file, value, version=(1, 0), allow_pickle=False)
        temporary.replace(path)  # no fsync: the index, written last, says which arrays count
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error


def _file_digest(path: Path) -> str:
    return digest(path.read_bytes())


def _write_index(root: Path, rows: Iterable[Mapping[str, Any]], header: Mapping[str, Any], *, force: bool) -> None:
    write_index(root, (index_line(row) for row in sorted(rows, key=lambda row: str(row["id"]))), header, force=force)


def write_index(root: Path, lines: Iterable[bytes], header: Mapping[str, Any], *, force: bool) -> None:
    """Write ``pairs.json``, then ``pairs.jsonl`` from its lines (sorted by id; blocks of several lines are fine).

    Raises:
        UsageError: they exist and ``force`` is false.
        DataError: the disk is full.
    """
    write_json(
        root / HEADER_NAME,
        {"schema": SCHEMA, **{key: value for key, value in header.items() if key != "schema"}},
        force=force,
    )
    with atomic_writer(root / INDEX_NAME, force=force) as file:
        file.writelines(lines)


def index_line(row: Mapping[str, Any]) -> bytes:
    """A row of ``pairs.jsonl``."""
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # a path that is not UTF-8
        return json.dumps(row, allow_nan=False).encode() + b"\n"


def _relative(path: Path, root: Path) -> str:
    try:
        # Folders are resolved, since ".." is taken after links; the file is not: its name and suffix count.
        return Path(os.path.relpath(path.parent.resolve() / path.name, root.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return path.resolve().as_posix()


@dataclass(frozen=True)
class Matching:
    """What :func:`index_pairs` did.

    Args:
        index: the ``pairs.jsonl`` written.
        matched: how many pairs it has.
        unmatched_pred: predictions without target or audio, by id, sorted.
        unmatched_target: targets (or audio) without prediction, by id, sorted.
        missing_audio: ids whose audio file does not exist, sorted; they are not paired.
    """

    index: Path
    matched: int
    unmatched_pred: list[str]
    unmatched_target: list[str]
    missing_audio: list[str]

    def describe(self) -> str:
        """One line for the terminal."""
        words = [f"{self.matched} pair{'s' * (self.matched != 1)} -> {self.index}"]
        for what, names in (("predictions without target", self.unmatched_pred), ("targets without prediction", self.unmatched_target), ("without their audio file", self.missing_audio)):  # fmt: skip
            if names:
                words.append(f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
        return "; ".join(words)


# What programs append to the id of the utterance: HiFi-GAN _generated, ParallelWaveGAN -feats, Tacotron2 GTA, ...
_ENDING = re.compile(r"(?i)[-_.](mels?|feats?|feats[-_]gen|pred|preds|predicted|prediction|target|targets|gen|generated|gta|tf|teacher[-_]forced|free[-_]running|postnet|norm|raw|out|outputs?)$")  # fmt: skip
_BEGINNING = re.compile(r"(?i)^([a-z0-9]+-)?mel[-_]")  # FastSpeech2: LJSpeech-mel-LJ001-0001


def _bare(stem: str) -> str:
    """A stem without the affixes that say what kind of file it is: ``LJ001-0001_mel`` -> ``LJ001-0001``."""
    bare = _BEGINNING.sub("", stem)
    while (shorter := _ENDING.sub("", bare)) != bare and shorter:
        bare = shorter
    return bare or stem


def index_pairs(
    pred_dir: str | Path,
    *,
    target_dir: str | Path | None = None,
    audio_source: Source | None = None,
    free_running_dir: str | Path | None = None,
    out: str | Path,
    force: bool = False,
    header: Mapping[str, Any] | None = None,
    layout: str | None = None,
) -> Matching:
    """Write ``pairs.jsonl`` in ``out`` for predictions that any program wrote; no array is copied.

    Names match by relative path, else by stem, else by stem without affixes such as ``_mel``, ``-feats`` or
    ``.pred``; each only where it is unique on both sides.

    Args:
        pred_dir: folder of predictions.
        target_dir: folder of targets, or None.
        audio_source: corpus whose audio gives the targets (if there is no ``target_dir``), texts and speakers.
        free_running_dir: folder of free-running predictions, or None.
        out: the PAIRS folder.
        force: overwrite an existing index.
        header: for ``pairs.json``.
        layout: "TM" or "MT", if the user says so; recorded.

    Raises:
        DataError: a folder is missing or has no arrays; nothing matches (with examples of names of either side).
        UsageError: neither targets nor audio; both are one folder; the index exists and ``force`` is false.
    """
    if target_dir is None and audio_source is None:
        raise UsageError("predictions alone are no pairs", hint="give --target DIR (mels) or --audio SOURCE")
    if target_dir is not None and Path(pred_dir).resolve() == Path(target_dir).resolve():
        raise UsageError(
            f"--pred and --target are one folder ({pred_dir}): predictions that equal their targets prove nothing"
        )
    out = Path(out)
    for name in (INDEX_NAME, HEADER_NAME):
        ensure_writable(out / name, force=force)
    preds = _arrays(Path(pred_dir))
    targets = None if target_dir is None else _arrays(Path(target_dir))
    free = {} if free_running_dir is None else _arrays(Path(free_running_dir))
    items: dict[str, Item] = {} if audio_source is None else {item.id: item for item in audio_source}
    wanted = list(targets) if targets is not None else list(items)
    matches = match_names(list(preds), wanted)
    described = {} if targets is None else match_names(list(matches), list(items))
    running = match_names(list(preds), list(free))
    names = _ids(matches, targets is None)
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for pred, partner in matches.items():
        row: dict[str, Any] = {"id": names[pred], "pred": _relative(preds[pred], out)}
        item = items.get(partner if targets is None else described.get(pred, ""))
        if targets is not None:
            row["target"] = _relative(targets[partner], out)
        if item is not None and isinstance(item.audio, Path) and item.audio.is_file():
            row["audio"] = _relative(item.audio, out)
        elif targets is None and item is not None and isinstance(item.audio, Clip):
            raise UsageError(
                f"the audio of {names[pred]} lies inside something else ({item.audio}), which pairs.jsonl cannot name",
                hint="compute the target mels first and give --target DIR, or write the audio out as files",
            )
        elif targets is None:
            missing.append(names[pred])
            continue
        if pred in running:
            row["free_running"] = _relative(free[running[pred]], out)
        if item is not None:
            row |= {key: value for key, value in (("text", item.text), ("speaker", item.speaker), ("language", item.language)) if value}  # fmt: skip
        rows.append(row)
    if not rows:
        other = "targets" if targets is not None else "audio"
        what = f"the audio of {len(missing)} does not exist (e.g. {missing[0]})" if missing else f"predictions are named {examples(preds)}, {other} {examples(wanted)}"  # fmt: skip
        raise DataError(
            f"{pred_dir}: zero pairs matched: {what}",
            hint="names must agree but for affixes such as mel-, _mel, -feats, .pred; for others write pairs.jsonl yourself, a line a pair with id, pred and target (calib schema pair)",
        )
    stated = dict(header or {})
    if layout is not None:
        stated["layout"] = check_layout(layout)
    _write_index(out, rows, stated, force=force)
    taken = set(matches.values())
    return Matching(
        out / INDEX_NAME,
        len(rows),
        sorted(name for name in preds if name not in matches),
        sorted(name for name in wanted if name not in taken),
        sorted(missing),
    )


def _arrays(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found = arrays_below(folder)
    if not found:
        raise DataError(f"{folder}: zero mel arrays (.npy, .npz, .pt, .pth, .safetensors)")
    return found


def examples(names: Iterable[str]) -> str:
    """The first three names for a message, in order; dots where there are more."""
    ordered = sorted(names)
    return ", ".join(repr(name) for name in ordered[:3]) + (", ..." if len(ordered) > 3 else "")


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def match_names(left: list[str], right: list[str]) -> dict[str, str]:
    """Which name of ``right`` belongs to which of ``left``; in the order of ``left``.

    By relative path, else by stem, else by stem without affixes such as ``_mel``; each only where it is unique on both
    sides.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    # From strict to loose, so that an exact partner is never lost to a looser one.
    for key in (str, _without_affixes, _stem, lambda name: _bare(_stem(name))):
        rest_left = [name for name in left if name not in found]
        rest_right = [name for name in right if name not in taken]
        counts = Counter(map(key, rest_left))
        partners: dict[str, str | None] = {}
        for name in rest_right:
            partners[key(name)] = None if key(name) in partners else name  # None: not unique
        for name in rest_left:
            partner = partners.get(key(name)) if counts[key(name)] == 1 else None
            if partner is not None:
                found[name] = partner
                taken.add(partner)
    return {name: found[name] for name in left if name in found}


def _without_affixes(name: str) -> str:
    folder, slash, stem = name.rpartition("/")
    return folder + slash + _bare(stem)


def _ids(matches: Mapping[str, str], from_source: bool) -> dict[str, str]:
    """The id of each match: the corpus's own, or what both names have in common, as long as that is unique."""
    if from_source:
        return dict(matches)
    for key in (_without_affixes, str):
        names = {pred: pred if pred == partner else key(pred) for pred, partner in matches.items()}
        if len(set(names.values())) == len(names):
            return names
    return {pred: pred for pred in matches}
