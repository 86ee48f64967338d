"""A `FrontEnd` from a name, a file, a mapping, or a name and a statistics file.

Forms::

    hifigan                         a catalogue id or alias
    pwg_ljspeech@dump/stats.h5      that front end, normalised with a foreign statistics file
    mine.yaml, mel_normalization_stats.json
                                    fields, or a statistics file of calib's (it carries its front end)
    config.json                     another system's configuration (`calib.mel.configs`), under any name
    config.yml@stats.h5             that, normalised with a statistics file
    {"base": "hifigan", "fmax": 7600.0, "stats": "stats.npy"}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calib.data.files import read_json
from calib.errors import UsageError, nearest
from calib.mel.catalogue import CatalogueEntry, catalogue, relatives
from calib.mel.fields import spelled_short
from calib.mel.frontend import FrontEnd

__all__ = ["load"]

_OWN = {"base", "stats"}


def load(spec: FrontEnd | str | Path | Mapping[str, Any], inside: tuple[Path, ...] = ()) -> FrontEnd:
    """See `FrontEnd.load`.

    Args:
        spec: one of the forms above.
        inside: the files whose ``base`` this is.

    Raises:
        UsageError: unknown name, unknown field, value out of range, statistics that do not belong to the front end.
        DataError: the file is missing or cannot be read, or is a configuration of no system that is known (those known are listed).
    """
    if isinstance(spec, FrontEnd):
        return spec
    if isinstance(spec, Mapping):
        return _from_mapping(spec, None, inside)
    name = str(spec)
    entries = catalogue()
    if name in entries:
        return entries[name].frontend
    from calib.mel.configs import is_file, splits

    if is_file(name):
        return _from_file(Path(name), inside)
    for base, statistics in splits(name):
        if base in entries or is_file(base):
            return _with_statistics(load(base, inside), statistics, name, entries.get(base))
    base = name.partition("@")[0]
    if Path(base).suffix.lower() in {".yaml", ".yml", ".json"}:
        return _from_file(Path(base), inside)  # says why not
    raise UsageError(f"unknown front end {base!r:.80}", hint=nearest(base, entries))


def _with_statistics(frontend: FrontEnd, statistics: str, what: str, entry: CatalogueEntry | None = None) -> FrontEnd:
    """A front end, normalised with the statistics of a file.

    Args:
        frontend: before them.
        statistics: ``[FORMAT=]FILE[#SPEAKER]``.
        what: both, for messages.
        entry: the named front end that it is, which says what kind of statistics its system has.

    Raises:
        UsageError: no file is named, they are of another kind than this front end's, or it normalises already.
        DataError: the file cannot be read.
    """
    from calib.data.statsfiles import read

    if not statistics:
        raise UsageError(f"{what}: a statistics file must follow the @")
    found = read(statistics)
    if entry is not None and entry.statistics is not None and found.kind != entry.statistics:
        does = {"standard": "subtract means and divide by deviations", "divide": "only divide"}
        raise UsageError(
            f"{statistics} holds statistics that {does[found.kind]}, but those of {entry.id} {does[entry.statistics]}",
            hint=entry.stats and f"its own: {entry.stats}",
        )
    if found.n_mels not in {None, frontend.n_mels}:
        raise UsageError(f"{what}: statistics of {found.n_mels} mel bins for a front end of {frontend.n_mels} mel bins")
    if frontend.normalises:
        named = catalogue()
        plain = next((name for name in relatives(frontend) if not named[name].frontend.normalises), None)
        raise UsageError(
            f"{what}: this front end normalises already",
            hint=plain and f"statistics belong to the front end before its normalisation, such as {plain}",
        )
    try:
        return frontend.with_statistics(None if found.kind == "divide" else found.mean, found.std)
    except UsageError as error:
        raise UsageError(f"{what}: {error.message.removeprefix('front end: ')}", hint=error.hint) from None


def _from_mapping(values: Mapping[str, Any], folder: Path | None, inside: tuple[Path, ...]) -> FrontEnd:
    """Fields, with ``base`` and ``stats`` where they stand.

    Args:
        values: the mapping.
        folder: what a relative base or statistics file is relative to, where it is there.
        inside: see `load`.
    """
    own = {key: value for key, value in values.items() if key not in _OWN}
    base = values.get("base")
    if folder is not None and isinstance(base, str) and base not in catalogue() and (folder / base).is_file():
        base = folder / base
    frontend = FrontEnd() if base is None else load(base, inside)
    if own:
        frontend = FrontEnd.from_fields(own if base is None else {**spelled_short(frontend), **own})
    if values.get("stats") is None:
        return frontend
    path = Path(str(values["stats"]))
    if folder is not None and (folder / path).exists():
        path = folder / path
    entry = None if own else catalogue().get(str(values.get("base")))
    return _with_statistics(frontend, str(path), str(path), entry)


def _from_file(path: Path, inside: tuple[Path, ...]) -> FrontEnd:
    from calib.mel.configs import UnknownConfigError, parse, read_config

    if path.resolve() in inside:
        raise UsageError(f"{path}: its base leads back to it")
    data = read_json(path) if path.suffix.lower() == ".json" else parse(path)
    if isinstance(data, Mapping) and isinstance(data.get("frontend"), Mapping):
        data = data["frontend"]  # a statistics file carries its front end
    if not isinstance(data, Mapping):
        holds = "nothing" if data is None else f"a {type(data).__name__}"
        raise UsageError(
            f"{path}: holds {holds}, and no front end fields", hint="calib frontends show hifigan lists the fields"
        )
    known = {item.name for item in dataclasses.fields(FrontEnd)} | _OWN
    if not set(data) <= known:
        try:
            return read_config(path).frontend
        except UnknownConfigError:
            if {"mel_mean", "data_statistics"} & set(data):
                raise UsageError(
                    f"{path}: is a statistics file that does not say its front end",
                    hint=f"name the front end that it belongs to: NAME@{path}",
                ) from None
            # Other systems share a few names with us (n_fft, fmin); a file of ours is ours by most of its keys.
            if 2 * len(known & set(data)) < len(data):
                raise
    try:
        return _from_mapping(data, path.parent, (*inside, path.resolve()))
    except UsageError as error:
        raise UsageError(f"{path}: {error.message.removeprefix('front end: ')}", hint=error.hint) from None
