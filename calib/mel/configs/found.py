"""What a configuration file of another system says of its mels: `FoundConfig`, and the tools that every reader uses.

A reader names the catalogue entry of its system, which holds what the system's code fixes (padding, log, guard), and says
which of the file's keys give which fields. What the file should say and does not is listed, never silently assumed.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calib.data.yamlfiles import Tagged
from calib.errors import DataError, UsageError
from calib.mel.catalogue import catalogue
from calib.mel.fields import spelled_short
from calib.mel.frontend import FrontEnd

__all__ = ["Draft", "FoundConfig", "Section", "System", "resolve", "section", "take_log_base", "walk"]

_MEASURES = {"sample_rate": " Hz", "fmin": " Hz", "fmax": " Hz", "n_fft": " samples", "win_length": " samples", "hop_length": " samples"}  # fmt: skip
_UNITS = {"k": 1000.0, "": 1.0}
_DEEPEST = 24
_LARGEST = 1e12  # no rate, length or level is larger; nor is what is no number at all


@dataclass(frozen=True)
class FoundConfig:
    """A configuration file, read.

    Args:
        frontend: the front end that it describes; where the system normalises with a statistics file, that before them.
        system: key of `SYSTEMS`.
        title: the system, for people.
        base: the catalogue entry that what the file does not say was taken from.
        missing: fields that such a file says as a rule and this one does not; the system's own defaults where it has
            any, else those of ``base``.
        notes: what a user should know, one sentence each.
        statistics: the statistics file that it names, as it stands there, or None.
        path: the file.
    """

    frontend: FrontEnd
    system: str
    title: str
    base: str
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    statistics: Path | None = None
    path: str = ""

    def describe(self) -> str:
        """One line: what was recognised."""
        f = self.frontend
        name = self.base if catalogue()[self.base].frontend == f else f.name
        known = "" if name == "custom" else f", the catalogue's {name}"
        return f"{self.path}: {self.title} configuration: {f.sample_rate} Hz, {f.n_mels} bins from {f.fmin:g} to {f.fmax:g} Hz, FFT {f.n_fft}, hop {f.hop_length}, {f.unit}{known}"

    def remarks(self) -> list[str]:
        """All that belongs below that line: what was not said, where the rest comes from, notes, the statistics file."""
        out = []
        if self.missing:
            values = self.frontend.fields()
            listed = ", ".join(f"{name} {values[name]}{_MEASURES.get(name, '')}" for name in self.missing)
            out.append(f"the file does not say; taken here: {listed}")
        out += self.notes
        if self.statistics is not None:
            out.append(
                f"this is the front end before its statistics ({self.statistics}), which {self.path}@FILE applies"
            )
        return out


@dataclass
class Draft:
    """What a reader makes of a file.

    Args:
        base: catalogue id.
        fields: fields of `FrontEnd` that the file says.
        missing: fields that it should say.
        notes: see `FoundConfig`.
        statistics: see `FoundConfig`.
    """

    base: str
    fields: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    statistics: str | None = None

    def take(self, source: Section, names: Mapping[str, str], *, whole: tuple[str, ...] = ()) -> Draft:
        """Read numbers: our field to their key. What is absent or unresolved is missing; ``fmin`` and ``fmax`` may be null.

        Args:
            source: where the keys are.
            names: our field to their key.
            whole: fields whose null means the default of the base and not a gap.

        Raises:
            DataError: a value that is no number.
        """
        for ours, theirs in names.items():
            if not source.says(theirs):
                self.missing.append(ours)
                continue
            value = source.number(theirs)
            if value is None and ours in {"fmin", "fmax"}:
                value = 0.0  # null: from 0, and up to half the sample rate
            if value is None and ours == "win_length":
                value = 0
            if value is None:
                if ours not in whole:
                    self.missing.append(ours)
                continue
            self.fields[ours] = value
        return self

    def finish(self, system: System, path: str) -> FoundConfig:
        """The front end.

        Raises:
            DataError: values that no front end can have.
        """
        base = catalogue()[self.base]
        try:
            frontend = FrontEnd.from_fields({**spelled_short(base.frontend), **self.fields})
        except UsageError as error:
            raise DataError(
                f"{path}: {system.title} configuration: {error.message.removeprefix('front end: ')}", hint=error.hint
            ) from None
        return FoundConfig(
            frontend, system.name, system.title, self.base, tuple(dict.fromkeys(self.missing)), tuple(self.notes),
            None if self.statistics is None else Path(self.statistics), path,
        )  # fmt: skip


@dataclass(frozen=True)
class System:
    """A system whose configuration files are read.

    Args:
        name: key.
        title: for people.
        matches: whether a parsed file is of this system, from its content.
        read: what it says.
        source: repository@commit/file that the keys were read from.
    """

    name: str
    title: str
    matches: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any], str], Draft]
    source: str


class Section:
    """A mapping of the file with typed access; errors name the key.

    Args:
        values: the mapping.
        where: for messages: ``config.json, audio``.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def says(self, key: str) -> bool:
        """Whether the key is there with a value that is written out (and no reference that leads nowhere)."""
        return key in self.values and not _unresolved(self.values[key])

    def number(self, key: str, default: float | None = None) -> float | None:
        """A finite number; texts such as 1e-5 and 22.05k are numbers too. None where it is null.

        Raises:
            DataError: anything else.
        """
        if not self.says(key):
            return default
        value = self.values[key]
        if isinstance(value, str):
            match = re.fullmatch(r"\s*([-+0-9.eE]+)\s*([kK]?)\s*", value)
            with contextlib.suppress(ValueError):
                value = float(match[1]) * _UNITS[match[2].lower()] if match else value
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_LARGEST < value < _LARGEST:
            raise DataError(f"{self.where}: {key} is {self.values[key]!r:.60}; it must be a number")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """A truth value; null is false.

        Raises:
            DataError: anything else.
        """
        if not self.says(key):
            return default
        value = self.values[key]
        if value is None:
            return False
        if not isinstance(value, (bool, int)):
            raise DataError(f"{self.where}: {key} is {value!r:.60}; it must be true or false")
        return bool(value)

    def text(self, key: str, default: str | None = None) -> str | None:
        """A text; None where it is null.

        Raises:
            DataError: anything else.
        """
        if not self.says(key):
            return default
        value = self.values[key]
        if value is not None and not isinstance(value, str):
            raise DataError(f"{self.where}: {key} is {value!r:.60}; it must be a text")
        return value


def section(content: Any, path: str, *keys: str) -> Section:
    """The mapping at ``content[keys[0]][keys[1]]...``; an empty one where it is not there."""
    value = content
    for key in keys:
        value = value.value if isinstance(value, Tagged) else value
        value = value.get(key) if isinstance(value, Mapping) else None
    value = value.value if isinstance(value, Tagged) else value
    where = f"{path}, {'.'.join(keys)}" if keys else path
    return Section(value if isinstance(value, Mapping) else {}, where)


def take_log_base(draft: Draft, source: Section) -> None:
    """``log_base`` of ParallelWaveGAN and ESPnet: 10 where it is absent, null for ln.

    Raises:
        DataError: a base that neither knows.
    """
    if not source.says("log_base"):
        return
    base = source.number("log_base")
    if base not in {None, 2.0, 10.0}:
        raise DataError(f"{source.where}: log_base is {base:g}; calib knows 2, 10 and null (ln)")
    draft.fields["log"] = "log10" if base == 10.0 else "ln"
    if base == 2.0:
        draft.fields["log_multiplier"] = 1 / math.log(2.0)


def walk(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Every mapping of the file, outermost first."""
    value = value.value if isinstance(value, Tagged) else value
    if depth > _DEEPEST:
        return
    if isinstance(value, Mapping):
        yield value
        for item in value.values():
            yield from walk(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item, depth + 1)


def _unresolved(value: Any) -> bool:
    return (isinstance(value, Tagged) and value.tag.startswith("!ref")) or (
        isinstance(value, str) and ("${" in value or value == "???")
    )


def resolve(root: Any) -> Any:
    """Whole-value references written out: OmegaConf's ``${a.b}`` and HyperPyYAML's ``!ref <a>``; others stay as they are."""

    def look(names: list[str]) -> Any:
        value = root
        for name in names:
            if not isinstance(value, Mapping) or name not in value:
                return None
            value = value[name]
        return value

    def visit(value: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            return value
        names: list[str] | None = None
        if isinstance(value, str) and (match := re.fullmatch(r"\$\{([\w.]+)\}", value)):
            names = match[1].split(".")
        elif isinstance(value, Tagged) and value.tag == "!ref" and isinstance(value.value, str):
            match = re.fullmatch(r"<([\w.]+)>", value.value.strip())
            names = match[1].split(".") if match else None
        if names is not None:
            target = look(names)
            return value if target is None else visit(target, depth + 1)
        if isinstance(value, Tagged):
            return Tagged(value.tag, visit(value.value, depth + 1))
        if isinstance(value, Mapping):
            return {str(key): visit(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [visit(item, depth + 1) for item in value]
        return value

    return visit(root, 0)
