"""Which kind of corpus a path or URL is: from its structure and its first line, said in one line, refused when unclear."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from calib.data.arrays import ARRAY_SUFFIXES
from calib.data.audio import AUDIO_SUFFIXES
from calib.data.remote import RemotePath, is_url, place_of
from calib.data.sources.base import Source
from calib.data.sources.folder import census, is_folder_entry, open_folder, open_one_file, walk
from calib.data.sources.kaldi import open_kaldi
from calib.data.sources.lhotse import is_lhotse, open_lhotse
from calib.data.sources.lines import AnyPath, json_object, plain_suffix, read_lines
from calib.data.sources.ljspeech import open_ljspeech
from calib.data.sources.manifest import open_jsonl
from calib.data.sources.names import has_suffix
from calib.data.sources.parquet import open_parquet_shards
from calib.data.sources.select import Select
from calib.data.sources.tables import header_of, open_table
from calib.data.sources.tars import open_tars
from calib.errors import DataError, UsageError, missing

__all__ = ["open_source"]

_READS = "it reads LJSpeech folders, filelists, Coqui CSV, Common Voice TSV, JSONL manifests, Kaldi scp, WebDataset tars, Parquet, lhotse cuts, folders of audio, folders of mels"
_JSONL = (".jsonl", ".json", ".ndjson", ".manifest")
_INDEX = (".csv", ".tsv", ".txt", *_JSONL)
_KALDI = ("wav.scp", "feats.scp")
_NOT_READ = {
    ".arrow": "an Arrow data set (save it as Parquet: dataset.to_parquet)",
    ".ark": "a Kaldi archive without its scp",
    ".gz": "compressed files other than an index",
    ".tgz": "a compressed archive",
    ".zip": "an archive",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".lmdb": "LMDB",
}
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 1_000_000


def open_source(
    spec: str | Path,
    *,
    columns: str | None = None,
    audio_root: str | Path | None = None,
    split: str | None = None,
    limit: int | None = None,
    select: Select | None = None,
) -> Source:
    """Open a corpus.

    Args:
        spec: a folder, an index file, shards (``train-{000..099}.tar``, ``*.parquet``), or a URL of one of them (see
            :mod:`calib.data.sources`); one audio or mel file is a corpus of one.
        columns: what the columns of a filelist are, for example "path,text,speaker"; ``_`` passes over one. Of
            Parquet: "audio=NAME,text=NAME".
        audio_root: the folder that the listed paths are relative to; placeholders such as ``DUMMY/`` are replaced.
        split: which index of a folder: ``train`` finds ``train.csv``, ``metadata_train.csv``, ``train.tsv``,
            ``train/wav.scp``, ``train-*.parquet``, ...; of an index with a split column, which rows.
        limit: the first so many utterances only.
        select: speakers, languages and durations that are wanted.

    Raises:
        DataError: missing, empty, malformed (with the line number), duplicate ids, none of the files exists.
        UsageError: an unsupported kind, options that do not fit, columns that cannot be told, a package that is missing.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} leaves nothing; it must be at least 1")
    base = None if audio_root is None else place_of(audio_root)
    if isinstance(base, Path) and not base.is_dir():
        raise DataError(f"--audio-root {audio_root}: no such folder")
    opening = _Opening(columns, base, split, {"limit": limit, "select": select or Select()})
    text = os.fspath(spec)
    if (_BRACES.search(text) or "*" in text) and (is_url(text) or not os.path.lexists(text)):
        return opening.shards(RemotePath(text) if is_url(text) else Path(text), _expand(text))
    path = place_of(spec)
    if isinstance(path, RemotePath):
        return opening.remote(path)
    if not text or not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for names that are too long
        raise missing(path)
    return opening.folder(path) if path.is_dir() else opening.file(path)


def _expand(pattern: str) -> list[AnyPath]:
    """The shards behind ``{000..099}`` and ``*``, sorted.

    Raises:
        DataError: none is there.
        UsageError: too many.
    """
    names = [pattern]
    while found := next((match for name in names[:1] if (match := _BRACES.search(name))), None):
        low, high, width = int(found[1]), int(found[2]), len(found[1])
        if high < low or (high - low + 1) * len(names) > _MOST_SHARDS:
            raise UsageError(f"{pattern}: {{{found[1]}..{found[2]}}} names no shards, or more than {_MOST_SHARDS}")
        names = [_BRACES.sub(f"{number:0{width}d}", name, count=1) for name in names for number in range(low, high + 1)]
    out: list[AnyPath] = []
    for name in names:
        path = place_of(name)
        if "*" not in name:
            out.append(path)
            continue
        if "*" in str(path.parent):
            raise UsageError(f"{pattern}: * is for file names, not for folders")
        form = re.compile(".*".join(map(re.escape, path.name.split("*"))))
        if isinstance(path.parent, Path) and not path.parent.is_dir():
            raise missing(path.parent)
        out += sorted((entry for entry in path.parent.iterdir() if form.fullmatch(entry.name)), key=str)
    if not out:
        raise DataError(f"{pattern}: no file has such a name")
    return out


def _unsupported(path: AnyPath, what: str) -> UsageError:
    return UsageError(f"{path}: this version of calib does not read {what}", hint=_READS)


class _Opening:
    """What the user said beside the path.

    Args:
        columns: ``--columns``.
        audio_root: ``--audio-root``.
        split: ``--split``.
        options: of every source.
    """

    def __init__(
        self, columns: str | None, audio_root: AnyPath | None, split: str | None, options: dict[str, Any]
    ) -> None:
        self.columns, self.audio_root, self.split, self.options = columns, audio_root, split, options

    def remote(self, path: RemotePath) -> Source:
        """A URL: a folder where the back end has folders, else a file."""
        if path.suffix.lower() in {*AUDIO_SUFFIXES, *ARRAY_SUFFIXES, *_INDEX, ".gz", ".tar", ".parquet", ".scp"}:
            return self.file(path)
        if path.is_dir():
            return self.folder(path)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        return self.file(path)

    def folder(self, folder: AnyPath) -> Source:
        """A folder with an index, of shards, or of files."""
        index = self._index(folder)
        if index is not None:
            self.split = None
            return self.file(index)
        found = census(folder)
        for suffix in (".tar", ".parquet"):
            if found.get(suffix) and (suffix == ".parquet" or not any(found.get(one) for one in AUDIO_SUFFIXES)):  # fmt: skip
                return self.shards(folder, self._of_split(folder, [folder / name for name in walk(folder) if has_suffix(name, (suffix,))]))  # fmt: skip
        if self.split is not None:
            there = sorted(name for name, is_folder in _entries(folder) if is_folder or has_suffix(name, (*_INDEX, ".gz")))  # fmt: skip
            raise UsageError(
                f"--split {self.split}: {folder} has no {self.split}.csv, {self.split}.tsv, metadata_{self.split}.csv or the like",
                hint=f"it has: {', '.join(there[:12]) or 'no index files'}",
            )
        for option, value in (("--columns", self.columns), ("--audio-root", self.audio_root)):
            if value is not None:
                raise UsageError(
                    f"{option} is about an index file, but {folder} has no metadata.csv",
                    hint="give the index file itself as SOURCE",
                )
        if not any(suffix in (*AUDIO_SUFFIXES, *ARRAY_SUFFIXES) for suffix in found):
            for suffix in found:
                if suffix in _NOT_READ:
                    raise _unsupported(folder, f"{_NOT_READ[suffix]} ({found[suffix]} {suffix} in the folder)")
        return open_folder(folder, found, **self.options)

    def _of_split(self, folder: AnyPath, shards: list[AnyPath]) -> list[AnyPath]:
        """``train-00000-of-00005.parquet``, ``train/0000.parquet``, ``train_0.tar`` for ``--split train``."""
        if self.split is None:
            return shards
        form = re.compile(rf"(^|/){re.escape(self.split)}([-_./]|$)")
        found = [shard for shard in shards if form.search(str(shard)[len(str(folder)) :])]
        if not found:
            names = ", ".join(shard.name for shard in shards[:6])
            raise UsageError(f"--split {self.split}: none of the {len(shards)} shards of {folder} is named so", hint=f"its shards: {names}{', ...' if len(shards) > 6 else ''}")  # fmt: skip
        self.split = None
        return found

    def _index(self, folder: AnyPath) -> AnyPath | None:
        """The index file of a folder, or None if it is a plain folder of files."""
        if self.split is not None:
            found = self._index_of_split(folder, self.split)
            if found is not None:
                return found
            for name in ("metadata.csv", "metadata.jsonl"):  # with a split column
                if (folder / name).is_file() and _has_split(folder / name):
                    self._by_column()
                    return folder / name
            return None
        for name in ("metadata.csv", *_KALDI, "metadata.jsonl", "cuts.jsonl.gz", "cuts.jsonl"):
            if (folder / name).is_file():
                return folder / name
        if (folder / "clips").is_dir():  # Common Voice
            tables = sorted(
                name for name, is_folder in _entries(folder) if not is_folder and has_suffix(name, (".tsv",))
            )
            if "validated.tsv" in tables or len(tables) == 1:
                return folder / ("validated.tsv" if "validated.tsv" in tables else tables[0])
            if tables:
                raise UsageError(
                    f"{folder}: a Common Voice folder with several tables ({', '.join(tables[:12])})",
                    hint="pick one with --split, for example --split train",
                )
        names = [name for name, is_folder in _entries(folder) if not is_folder and plain_suffix(Path(name)) in (".jsonl", ".scp")]  # fmt: skip
        if len(names) == 1 and not any(has_suffix(name, AUDIO_SUFFIXES) for name, _ in _entries(folder)):
            return folder / names[0]
        return None

    def _index_of_split(self, folder: AnyPath, split: str) -> AnyPath | None:
        stems = (split, f"metadata_{split}", f"metadata-{split}", f"{split}_manifest", f"manifest_{split}", f"cuts_{split}", f"{split}_cuts", f"cuts-{split}")  # fmt: skip
        there = {name for name, is_folder in _entries(folder) if not is_folder}
        for name in (f"{stem}{suffix}{packed}" for suffix in _INDEX for packed in ("", ".gz") for stem in stems):
            if name in there:
                return folder / name
        for name in ("wav.scp", "feats.scp", "metadata.csv", "metadata.jsonl"):
            for below in (folder / split, folder / "data" / split):
                if (below / name).is_file():
                    return below / name
        return None

    def _by_column(self) -> None:
        select = self.options["select"]
        self.options["select"] = Select(select.speakers, select.languages, select.min_seconds, select.max_seconds, self.split)  # fmt: skip

    def shards(self, root: AnyPath, shards: list[AnyPath]) -> Source:
        """Several files of one corpus."""
        suffixes = {shard.suffix.lower() for shard in shards}
        if suffixes == {".tar"}:
            return self._tars(root, shards)
        if suffixes == {".parquet"}:
            return self._parquet(root, shards)
        raise UsageError(
            f"{root}: shards are .tar or .parquet files, these are {', '.join(sorted(suffixes))}",
            hint="a folder or an index file may hold audio files",
        )

    def _tars(self, root: AnyPath, shards: list[AnyPath]) -> Source:
        self._only_shards(root, self.columns, self.audio_root)
        return open_tars(root, shards, **self.options)

    def _parquet(self, root: AnyPath, shards: list[AnyPath]) -> Source:
        if self.split is not None:
            self._by_column()
        return open_parquet_shards(root, shards, columns=self.columns, audio_root=self.audio_root, **self.options)

    def _only_shards(self, root: AnyPath, columns: str | None, audio_root: AnyPath | None) -> None:
        for option, value in (("--columns", columns), ("--audio-root", audio_root)):
            if value is not None:
                raise UsageError(f"{option} is about an index file, but {root} holds its audio itself")
        if self.split is not None:
            self._by_column()

    def file(self, path: AnyPath) -> Source:
        """An index, a shard, or one audio or mel file."""
        suffix = plain_suffix(path)
        if suffix in _NOT_READ or (suffix in {".tar", ".parquet"} and path.name.lower().endswith(".gz")):
            raise _unsupported(path, _NOT_READ.get(suffix, "compressed shards"))
        if isinstance(path, Path) and not path.is_file():
            raise DataError(f"{path}: neither a file nor a folder")
        if suffix == ".tar":
            return self._tars(path, [path])
        if suffix == ".parquet":
            return self._parquet(path, [path])
        if suffix in (*AUDIO_SUFFIXES, *ARRAY_SUFFIXES):
            return open_one_file(path, **self.options)
        first = next((line for _, line in read_lines(path)), None)
        if first is None:
            raise DataError(f"{path}: names no utterances; the file is empty")
        if self.split is not None:
            if not _has_split(path):
                raise UsageError(f"--split {self.split} picks an index file inside a folder, or rows by a split column, but {path} is a file without one")  # fmt: skip
            self._by_column()
        return self._text(path, first.strip(), suffix)

    def _text(self, path: AnyPath, first: str, suffix: str) -> Source:
        if suffix == ".scp":
            return open_kaldi(path, audio_root=self.audio_root, **self.options)
        if self.columns is None and (first.startswith("{") or suffix in _JSONL):
            if first.startswith("["):
                raise DataError(
                    f"{path}: a JSON list, not a manifest",
                    hint="a manifest has one JSON object a line: jq -c '.[]' turns the list into it",
                )
            if is_lhotse(json_object(f"{path}, line 1", first, "; a manifest has one object a line")):
                return open_lhotse(path, audio_root=self.audio_root, **self.options)
            return open_jsonl(path, audio_root=self.audio_root, **self.options)
        # LJSpeech by structure: metadata*.csv without a header, audio in wavs/ beside it.
        wavs = path.parent / "wavs"
        if path.name.startswith("metadata"):
            if self.columns is None and header_of(first) is None and "|" in first:
                return open_ljspeech(path.parent, path, audio_root=self.audio_root, **self.options)
            if self.columns is not None and wavs.is_dir():
                return open_table(path, columns=self.columns, audio_root=self.audio_root, audio_folder=wavs, **self.options)  # fmt: skip
        return open_table(path, columns=self.columns, audio_root=self.audio_root, **self.options)


def _entries(folder: AnyPath) -> list[tuple[str, bool]]:
    """Names in a folder, and whether each is a folder, sorted."""
    if isinstance(folder, RemotePath):
        return folder.entries()
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, is_folder_entry(entry)) for entry in entries)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}") from None


def _has_split(path: AnyPath) -> bool:
    """Whether the first line of an index says which split it belongs to."""
    first = next(_first_lines(path), "")
    if first.lstrip().startswith("{"):
        value = json_object(f"{path}, line 1", first)
        return "split" in value or "subset" in value
    found = header_of(first)
    return found is not None and "split" in found.fields


def _first_lines(path: AnyPath) -> Iterator[str]:
    for _, line in read_lines(path):
        yield line
