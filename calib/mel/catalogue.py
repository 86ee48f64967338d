"""The named front ends: data in ``catalogue.yaml``, read and checked here.

Every entry says where it was read (repository, commit, files), how its system stores mels, which statistics it needs
besides, and what its parameters do not say. Two entries may have the same front end: they are two systems.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from calib.errors import UsageError, nearest
from calib.mel.frontend import FrontEnd

__all__ = ["CatalogueEntry", "catalogue", "entries", "equivalents", "parse", "relatives"]

_STATISTICS = (None, "standard", "divide")
_LAYOUTS = ("MT", "TM")
_TEXTS = ("source", "audio", "stats", "notes")


@dataclass(frozen=True)
class CatalogueEntry:
    """A named front end: where it was read and how its system uses it.

    Args:
        id: canonical name.
        frontend: its parameters; where ``statistics`` is not None, those before the statistics.
        aliases: fixed short names.
        title: for people.
        source: repository@commit and files.
        layout: how the system stores mels: ``MT`` (n_mels, T) or ``TM``.
        role: what the mel is for: ``mel``, ``mel of the loss``, ...
        statistics: what a statistics file does after it: ``standard`` (x - mean) / std, ``divide`` x / norms, None.
        batch_pad: the value that the system pads batches with, in the unit of its mels; None where it pads none.
        audio: what happens to the audio before it, outside the front end.
        stats: where its statistics are, in words.
        notes: traps and variants, in words.
    """

    id: str
    frontend: FrontEnd
    aliases: tuple[str, ...]
    title: str
    source: str
    layout: str
    role: str = "mel"
    statistics: str | None = None
    batch_pad: float | None = None
    audio: str = ""
    stats: str = ""
    notes: tuple[str, ...] = ()


@functools.cache
def catalogue() -> dict[str, CatalogueEntry]:
    """Every named front end, by id and by alias.

    Raises:
        UsageError: the catalogue itself is malformed (a bug, caught by a test).
    """
    return parse(resources.files("calib.mel").joinpath("catalogue.yaml").read_text(encoding="utf-8"))


def entries() -> tuple[CatalogueEntry, ...]:
    """Every entry once, in the order of the file."""
    return tuple({entry.id: entry for entry in catalogue().values()}.values())


def equivalents(frontend: FrontEnd) -> tuple[str, ...]:
    """All catalogue ids whose front end is this one, in the order of the file."""
    return _by_identity().get(frontend.id, ())


def relatives(frontend: FrontEnd) -> tuple[str, ...]:
    """All catalogue ids of this front end's family: an exact map away from guards leads to them."""
    return tuple(entry.id for entry in entries() if entry.frontend.family == frontend.family)


@functools.cache
def _by_identity() -> dict[str, tuple[str, ...]]:
    out: dict[str, tuple[str, ...]] = {}
    for entry in entries():
        out[entry.frontend.id] = (*out.get(entry.frontend.id, ()), entry.id)
    return out


def parse(text: str) -> dict[str, CatalogueEntry]:
    """The catalogue from its YAML text, by id and by alias.

    Raises:
        UsageError: unknown key, bad value, a name that stands twice; names the entry.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # C where it is there: 8 times as fast
    data = yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader
    if not isinstance(data, Mapping) or not isinstance(data.get("frontends"), Mapping):
        raise UsageError("catalogue: expected a mapping with `frontends`")
    for key in data:
        if key not in {"shared", "frontends"}:
            raise UsageError(f"catalogue: unknown key {key!r}; it has `shared` (anchors) and `frontends`")
    out: dict[str, CatalogueEntry] = {}
    for name, row in data["frontends"].items():
        try:
            entry = _entry(str(name), row)
        except UsageError as error:
            raise UsageError(f"catalogue: {name}: {error.message}", hint=error.hint) from None
        for known in (entry.id, *entry.aliases):
            if known in out:
                raise UsageError(f"catalogue: {name}: {known!r} stands twice")
            out[known] = entry
    return out


def _entry(name: str, row: Any) -> CatalogueEntry:
    if not isinstance(row, Mapping):
        raise UsageError(f"expected a mapping, got {row!r:.80}")
    keys = {"title", "layout", "role", "statistics", "batch_pad", "aliases", "fields", *_TEXTS}
    for key in row:
        if key not in keys:
            raise UsageError(f"unknown key {key!r}", hint=nearest(str(key), keys))
    for key in ("title", "source", "layout", "fields"):
        if not row.get(key) and key != "fields":
            raise UsageError(f"{key} is missing")
    for key, allowed in (("layout", _LAYOUTS), ("statistics", _STATISTICS)):
        if row.get(key) not in allowed:
            raise UsageError(f"{key} is {row.get(key)!r}; it must be one of {', '.join(map(str, allowed))}")
    pad = row.get("batch_pad")
    if pad is not None and (isinstance(pad, bool) or not isinstance(pad, (int, float))):
        raise UsageError(f"batch_pad must be a number, got {pad!r}")
    aliases, notes = row.get("aliases") or (), row.get("notes") or ()
    notes = (notes,) if isinstance(notes, str) else notes
    for key, texts in (("aliases", aliases), ("notes", notes)):
        if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) and text for text in texts):
            raise UsageError(f"{key} must be texts, got {texts!r:.80}")
    for key in ("title", "source", "role", "audio", "stats"):
        if key in row and not isinstance(row[key], str):
            raise UsageError(f"{key} must be a text, got {row[key]!r:.80}")
    values = row.get("fields") or {}
    if not isinstance(values, Mapping):
        raise UsageError(f"fields must be a mapping, got {values!r:.80}")
    return CatalogueEntry(
        id=name,
        frontend=FrontEnd.from_fields(values),
        aliases=tuple(aliases),
        title=row["title"],
        source=row["source"],
        layout=row["layout"],
        role=row.get("role", "mel"),
        statistics=row.get("statistics"),
        batch_pad=None if pad is None else float(pad),
        audio=row.get("audio", ""),
        stats=row.get("stats", ""),
        notes=tuple(notes),
    )
