"""Which kind of corpus a path is: from its structure and its first line, said in one line, refused when unclear."""

from __future__ import annotations

import difflib
import os
import re
from itertools import islice
from pathlib import Path

from calib.data.arrays import ARRAY_SUFFIXES
from calib.data.audio import AUDIO_SUFFIXES
from calib.data.sources.base import Source, has_suffix, read_lines
from calib.data.sources.folder import census, open_folder, open_one_file
from calib.data.sources.ljspeech import open_ljspeech
from calib.data.sources.manifest import open_jsonl
from calib.data.sources.tables import header_of, open_table
from calib.errors import DataError, UsageError

__all__ = ["open_source"]

_READS = "it reads LJSpeech folders, filelists, Coqui CSV, Common Voice TSV, JSONL manifests, folders of audio, folders of mels"
_URL = re.compile(r"^([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_JSONL = (".jsonl", ".json", ".ndjson", ".manifest")
_INDEX = (".csv", ".tsv", ".txt", *_JSONL)
_NOT_READ = {
    ".tar": "a WebDataset tar",
    ".parquet": "Parquet",
    ".arrow": "an Arrow data set",
    ".scp": "a Kaldi scp",
    ".ark": "a Kaldi archive",
    ".gz": "a compressed index",
    ".tgz": "an archive",
    ".zip": "an archive",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".lmdb": "LMDB",
}


def open_source(
    spec: str | Path,
    *,
    columns: str | None = None,
    audio_root: Path | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> Source:
    """Open a corpus.

    Args:
        spec: a folder or an index file (see :mod:`calib.data.sources`); one audio or mel file is a corpus of one.
        columns: what the columns of a filelist are, for example "path,text,speaker"; ``_`` passes over one.
        audio_root: the folder that the listed paths are relative to; placeholders such as ``DUMMY/`` are replaced.
        split: which index of a folder: ``train`` finds ``train.csv``, ``metadata_train.csv``, ``train.tsv``, ...
        limit: the first so many utterances only.

    Raises:
        DataError: missing, empty, malformed (with the line number), duplicate ids, none of the files exists.
        UsageError: a remote or unsupported kind, options that do not fit, columns that cannot be told.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} leaves nothing; it must be at least 1")
    path = _local(spec)
    if audio_root is not None and not Path(audio_root).is_dir():
        raise DataError(f"--audio-root {audio_root}: no such folder")
    audio_root = None if audio_root is None else Path(audio_root)
    if path.is_dir():
        return _folder(path, columns, audio_root, split, limit)
    if split is not None:
        raise UsageError(f"--split {split} picks an index file inside a folder, but {path} is a file")
    return _file(path, columns, audio_root, limit)


def _local(spec: str | Path) -> Path:
    text = os.fspath(spec)
    url = _URL.match(text)
    if url and url[1].lower() != "file":
        raise UsageError(
            f"{text}: this version of calib does not read remote sources ({url[1]}://)",
            hint=f"copy the data to a local folder first; {_READS}",
        )
    path = Path(text[url.end() :] if url else text)
    if not text or not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for names that are too long
        raise _missing(path)
    return path


def _missing(path: Path) -> DataError:
    parent = path.parent
    hint = None
    if not parent.is_dir():
        hint = f"its folder {parent} does not exist either"
    else:
        names = [entry.name for entry in islice(parent.iterdir(), 2000)]
        close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
        hint = f"did you mean {parent / close[0]}?" if close else None
    return DataError(f"{path}: no such file or folder", hint=hint)


def _unsupported(path: Path, what: str) -> UsageError:
    return UsageError(f"{path}: this version of calib does not read {what}", hint=_READS)


def _folder(folder: Path, columns: str | None, audio_root: Path | None, split: str | None, limit: int | None) -> Source:
    index = _index(folder, split)
    if index is not None:
        return _file(index, columns, audio_root, limit)
    for option, value in (("--columns", columns), ("--audio-root", audio_root)):
        if value is not None:
            raise UsageError(
                f"{option} is about an index file, but {folder} has no metadata.csv",
                hint="give the index file itself as SOURCE",
            )
    found = census(folder)
    if not any(suffix in (*AUDIO_SUFFIXES, *ARRAY_SUFFIXES) for suffix in found):
        if (folder / "wav.scp").is_file():
            raise _unsupported(folder, "Kaldi data folders (wav.scp)")
        for suffix in found:
            if suffix in _NOT_READ:
                raise _unsupported(folder, f"{_NOT_READ[suffix]} ({found[suffix]} {suffix} in the folder)")
    return open_folder(folder, found, limit=limit)


def _index(folder: Path, split: str | None) -> Path | None:
    """The index file of a folder, or None if it is a plain folder of files."""
    if split is not None:
        names = [f"{stem}{suffix}" for suffix in _INDEX for stem in (split, f"metadata_{split}", f"metadata-{split}", f"{split}_manifest", f"manifest_{split}")]  # fmt: skip
        for name in names:
            if (folder / name).is_file():
                return folder / name
        there = sorted(entry.name for entry in folder.iterdir() if has_suffix(entry.name, _INDEX))
        raise UsageError(
            f"--split {split}: {folder} has no {split}.csv, {split}.tsv, metadata_{split}.csv or the like",
            hint=f"its index files: {', '.join(there[:12]) or 'none'}",
        )
    if (folder / "metadata.csv").is_file():
        return folder / "metadata.csv"
    if (folder / "clips").is_dir():  # Common Voice
        tables = sorted(entry.name for entry in folder.iterdir() if has_suffix(entry.name, (".tsv",)))
        if "validated.tsv" in tables or len(tables) == 1:
            return folder / ("validated.tsv" if "validated.tsv" in tables else tables[0])
        if tables:
            raise UsageError(
                f"{folder}: a Common Voice folder with several tables ({', '.join(tables[:12])})",
                hint="pick one with --split, for example --split train",
            )
    return None


def _file(path: Path, columns: str | None, audio_root: Path | None, limit: int | None) -> Source:
    suffix = path.suffix.lower()
    if suffix in _NOT_READ:
        raise _unsupported(path, _NOT_READ[suffix])
    if not path.is_file():
        raise DataError(f"{path}: neither a file nor a folder")
    if suffix in (*AUDIO_SUFFIXES, *ARRAY_SUFFIXES):
        return open_one_file(path)
    first = next((line for _, line in read_lines(path)), None)
    if first is None:
        raise DataError(f"{path}: names no utterances; the file is empty")
    first = first.strip()
    if columns is None and (first.startswith("{") or suffix in _JSONL):
        if first.startswith("["):
            raise DataError(
                f"{path}: a JSON list, not a manifest",
                hint="a manifest has one JSON object a line: jq -c '.[]' turns the list into it",
            )
        return open_jsonl(path, audio_root=audio_root, limit=limit)
    # LJSpeech by structure: metadata*.csv without a header, audio in wavs/ beside it.
    wavs = path.parent / "wavs"
    if path.name.startswith("metadata"):
        if columns is None and header_of(first) is None and "|" in first:
            return open_ljspeech(path.parent, path, audio_root=audio_root, limit=limit)
        if columns is not None and wavs.is_dir():
            return open_table(path, columns=columns, audio_root=audio_root, limit=limit, audio_folder=wavs)
    return open_table(path, columns=columns, audio_root=audio_root, limit=limit)
