"""JSON Schemas (draft 2020-12) of every JSON document that calib writes, one file each; ``calib schema`` prints them.

A schema may refer to another by its ``$id`` (``urn:calib:NAME``); `schema` gives it with those inside, so that what it
returns needs no other file. Where calib alone writes a document its objects are closed (``additionalProperties``
false); the files that inference reads, and PAIRS, are open, because other programs write them too.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from calib.errors import UsageError, nearest

__all__ = ["about", "names", "schema"]

_URN = "urn:calib:"


def names() -> list[str]:
    """Names of all schemas, sorted."""
    found = resources.files(__name__).iterdir()
    return sorted(item.name.removesuffix(".json") for item in found if item.name.endswith(".json"))


def about(name: str) -> str:
    """What the document is, in a line.

    Raises:
        UsageError: there is no such schema.
    """
    return str(_read(name)["description"])


def schema(name: str) -> dict[str, Any]:
    """One schema, self-contained.

    Args:
        name: see `names`; also the value of a document's ``schema`` key, for example ``calib/report/1``.

    Raises:
        UsageError: there is no such schema.
    """
    out = _read(name)
    wanted = _references(out)
    inside: dict[str, Any] = {}
    while wanted:
        other = wanted.pop()
        if other not in inside and other != out["$id"]:
            inside[other] = _read(other.removeprefix(_URN))
            wanted |= _references(inside[other])
    if inside:
        out["$defs"] = {**out.get("$defs", {}), **{key.removeprefix(_URN): inside[key] for key in sorted(inside)}}
    return out


def _read(name: str) -> dict[str, Any]:
    known = names()
    if name not in known:
        by_key = {str(_file(other)["properties"]["schema"].get("const")): other for other in known if _keyed(other)}
        if name not in by_key:
            raise UsageError(
                f"there is no schema {name!r}",
                hint=nearest(name, [*known, *by_key]) if name.startswith("calib/") else nearest(name, known),
            )
        name = by_key[name]
    return _file(name)


def _keyed(name: str) -> bool:
    return "schema" in _file(name).get("properties", {})


def _file(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((resources.files(__name__) / f"{name}.json").read_text(encoding="utf-8"))
    return content


def _references(value: Any) -> set[str]:
    """Other schemas that one refers to."""
    if isinstance(value, dict):
        own = {value["$ref"]} if str(value.get("$ref", "")).startswith(_URN) else set()
        return own.union(*(_references(item) for item in value.values()))
    return set().union(*(_references(item) for item in value)) if isinstance(value, list) else set()
