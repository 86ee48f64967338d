"""A configuration file of any known system, recognised by its content."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from calib.data.yamlfiles import parse_yaml
from calib.errors import DataError
from calib.mel.configs import acoustic, toolkits, vocoders
from calib.mel.configs.found import FoundConfig, System, resolve

__all__ = ["SYSTEMS", "UnknownConfigError", "explain", "is_file", "parse", "read_config", "splits"]

SYSTEMS: dict[str, System] = {
    system.name: system for system in (*vocoders.SYSTEMS, *acoustic.SYSTEMS, *toolkits.SYSTEMS)
}
_LARGEST = 4 << 20


class UnknownConfigError(DataError):
    """The file is of no system that is known here; a file of a known system that cannot be used is a plain DataError."""


def read_config(path: Path | str) -> FoundConfig:
    """Read a JSON or YAML configuration; nothing in it is built or executed.

    Raises:
        UnknownConfigError: no system recognised (those known are listed), or more than one.
        DataError: missing, not JSON or YAML, or values that cannot be.
    """
    path = Path(path)
    content = resolve(parse(path))
    known = f"known: {', '.join(system.title for system in SYSTEMS.values())}"
    if not isinstance(content, Mapping):
        raise UnknownConfigError(f"{path}: a {type(content).__name__}, no configuration with keys", hint=known)
    fitting = [system for system in SYSTEMS.values() if system.matches(content)]
    if not fitting:
        keys = ", ".join(map(str, list(content)[:8])) or "none"
        raise UnknownConfigError(f"{path}: no configuration that calib knows; its keys are {keys}", hint=known)
    if len(fitting) > 1:
        titles = " and of ".join(system.title for system in fitting)
        raise UnknownConfigError(
            f"{path}: has the keys of {titles}", hint="cut the file down to the part that makes the mels"
        )
    return fitting[0].read(content, str(path)).finish(fitting[0], str(path))


def explain(spec: object) -> list[str]:
    """What was recognised in another system's configuration file, and what to know of it; nothing for any other spec."""
    if not isinstance(spec, (str, Path)):
        return []
    whole = str(spec)
    base = next((text for text in (whole, *(start for start, _ in splits(whole))) if is_file(text)), None)
    if base is None:
        return []
    try:
        found = read_config(base)
    except DataError:
        return []
    return [found.describe(), *(found if base == whole else replace(found, statistics=None)).remarks()]


def splits(spec: str) -> Iterator[tuple[str, str]]:
    """What ``NAME@STATSFILE`` can be split into; a path may hold an @ too."""
    for index, sign in enumerate(spec):
        if sign == "@":
            yield spec[:index], spec[index + 1 :]


def is_file(text: str) -> bool:
    """Whether it is a file; what no file can be called is none."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def parse(path: Path) -> Any:
    """A JSON or YAML file in plain containers and `Tagged`.

    Raises:
        DataError: missing, not JSON or YAML, unreasonably large, or a program.
    """
    if path.suffix.lower() == ".py":
        raise DataError(
            f"{path}: a Python file is a program, which calib does not run to read settings",
            hint="write the fields to a YAML file: calib frontends show hifigan lists them",
        )
    try:
        if path.stat().st_size > _LARGEST:
            raise DataError(f"{path}: {path.stat().st_size >> 20} MiB; no configuration is so large")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read as text: {why}") from None
    if path.suffix.lower() == ".json" or text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            if path.suffix.lower() == ".json":
                raise DataError(f"{path}: cannot be read as JSON: {error}") from None
    return parse_yaml(text, str(path))
