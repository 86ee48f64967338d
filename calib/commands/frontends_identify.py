"""``calib frontends identify``: which front end made these mels?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from calib.commands import options as o
from calib.commands.opening import Opening
from calib.console import table, terminal
from calib.data.arrays import ARRAY_SUFFIXES, check_layout, load_array
from calib.data.audio import read_audio
from calib.data.clip import Place
from calib.data.files import atomic_writer, ensure_writable
from calib.data.pairfiles import arrays_below, discover, expand
from calib.data.pairwriter import examples, match_names
from calib.errors import CalibError, DataError, UsageError
from calib.mel.frontend import FrontEnd

__all__ = ["Identified", "IdentifyConfig", "identify", "render", "run"]

_CONFIGS = ("config.json", "config.yaml", "config.yml", "preprocess.yaml", "preprocessor_config.json", "hparams.yaml")
_READ = 12  # pairs that are read at most; the longest of them are looked at
_SHOWN = 8


@dataclass(frozen=True)
class IdentifyConfig:
    """What ``calib frontends identify`` needs.

    Args:
        pairs: PAIRS, or None.
        mel: a mel file, a folder of mels, or a SOURCE of mels, or None.
        audio: an audio file, a folder or a SOURCE, or None.
        declared: a front end's name, file or configuration, or None.
        layout: ``TM``, ``MT`` or None.
        limit: read this many pairs at most, or None.
        columns: of a filelist.
        audio_root: of a filelist.
        split: of a source.
        seconds: of CPU time that the search may take, or None for the default.
    """

    pairs: Path | None
    mel: Path | None
    audio: str | None
    declared: str | None = None
    layout: str | None = None
    limit: int | None = None
    columns: str | None = None
    audio_root: Path | None = None
    split: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Identified:
    """The answer and what it was made from.

    Args:
        result: of `calib.mel.identify`.
        used: ids of the clips read.
        declared: where a declared front end came from, or None.
        status: ``ok``, ``warn`` or ``fail``, for the gate.
    """

    result: Any
    used: tuple[str, ...]
    declared: str | None
    status: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, ``calib/frontend-identification/1``."""
        return {**self.result.to_json(), "gate": self.status, "clips": list(self.used), "declared": self.declared}


def run(config: IdentifyConfig) -> Identified:
    """Match, read, identify.

    Raises:
        UsageError: neither PAIRS nor mels; options that do not fit.
        DataError: nothing matches, or what matches cannot be read or identified.
    """
    from calib.mel.identify import SECONDS, Clip, identify, identify_mels

    if (config.pairs is None) == (config.mel is None):
        raise UsageError("give PAIRS or --mel, one of them", hint="calib frontends identify --audio wavs/ --mel mels/")
    if config.seconds is not None and not config.seconds > 0:
        raise UsageError(f"--seconds {config.seconds:g}: must be above 0")
    if config.layout is not None:
        check_layout(config.layout)
    mels, own, header = _mels(config)
    audio = _audio(config, mels, own)
    declared, said = _declared(config, header)
    if not audio:
        if config.audio is not None:
            raise DataError(f"--audio {config.audio}: none of its recordings belongs to a mel: mels are named {examples(mels)}", hint="names must agree but for suffixes such as _mel, -feats, .pred")  # fmt: skip
        chosen = _spread(list(mels), config.limit or 4 * _READ)
        arrays = [_oriented(mels[name].load(), config.layout) for name in chosen]
        result = identify_mels(arrays, chosen)
        return Identified(result, tuple(chosen), said, "warn")
    chosen = _spread([name for name in mels if name in audio], config.limit or _READ)
    clips, problems = [], []
    for name in chosen:
        try:
            recording = read_audio(audio[name])
            clips.append(
                Clip(name, recording.samples, recording.sample_rate, _oriented(mels[name].load(), config.layout))
            )
        except CalibError as error:
            problems.append(error)
            terminal.warning(f"{name}: {error.message}")
    if not clips:
        raise problems[0]
    terminal.notice(f"{len(clips)} of {len(audio)} matched pairs of {len(mels)} mels are read" + (f"; {', '.join(c.id for c in clips[:4])}{', ...' if len(clips) > 4 else ''}" if terminal.level > 0 else ""))  # fmt: skip
    result = identify(clips, declared=declared, seconds=SECONDS if config.seconds is None else config.seconds)
    status = "fail" if result.contradictions or result.status == "unrelated" else "ok" if result.status == "named" else "warn"  # fmt: skip
    return Identified(result, tuple(c.id for c in clips), said, status)


@dataclass(frozen=True)
class _Stored:
    """Where one mel is."""

    path: Place
    key: str | int | None = None
    length: int | None = None

    def load(self) -> np.ndarray:
        array = load_array(self.path, self.key)
        return np.asarray(array)


def _mels(config: IdentifyConfig) -> tuple[dict[str, _Stored], dict[str, Place], Mapping[str, Any]]:
    """The mels by id, audio that PAIRS name themselves, and the header of PAIRS."""
    if config.pairs is not None:
        found = discover(config.pairs)
        pairs = expand(found.entries, found.root)
        mels = {e.id: _Stored(e.target, e.target_key, e.length) for e in pairs if e.target is not None}
        own: dict[str, Place] = {e.id: e.audio for e in pairs if e.audio is not None}
        if not mels:
            raise DataError(f"{config.pairs}: these pairs hold no target mels (their targets are audio)", hint="for the mels of another program give --mel DIR")  # fmt: skip
        return mels, own, found.header
    assert config.mel is not None
    path = config.mel
    if not path.exists():
        raise DataError(f"--mel {path}: no such file or folder")
    if path.is_dir():
        below = arrays_below(path)
        if not below:
            raise DataError(f"--mel {path}: holds no mel arrays ({', '.join(sorted(ARRAY_SUFFIXES))})")
        return {name: _Stored(file) for name, file in below.items()}, {}, {}
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return {path.stem: _Stored(path)}, {}, {}
    source = Opening(str(path), config.columns, config.audio_root, config.split)()
    listed = {item.id: _Stored(item.mel) for item in source if item.mel is not None}
    if not listed:
        raise DataError(f"--mel {path}: {source.describe()}: holds no mels")
    return listed, {item.id: item.audio for item in source if item.audio is not None}, {}


def _audio(config: IdentifyConfig, mels: Mapping[str, _Stored], own: Mapping[str, Place]) -> dict[str, Place]:
    """The audio file of each mel that has one."""
    if config.audio is None:
        return dict(own)
    source = Opening(config.audio, config.columns, config.audio_root, config.split)()
    given = {item.id: item.audio for item in source if item.audio is not None}
    if not given:
        raise DataError(f"--audio {config.audio}: {source.describe()}: holds no audio")
    if len(given) == 1 and len(mels) == 1:  # one file each: whatever their names
        return {next(iter(mels)): next(iter(given.values()))}
    matches = match_names(list(mels), list(given))
    return {name: given[partner] for name, partner in matches.items()}


def _oriented(mel: np.ndarray, layout: str | None) -> np.ndarray:
    """The array as it is, or, where the user says the layout, with an axis order that cannot be mistaken."""
    return np.ascontiguousarray(mel.T) if layout == "MT" and mel.ndim == 2 else mel


def _spread(names: list[str], count: int) -> list[str]:
    """So many names, evenly over the list."""
    if len(names) <= count:
        return names
    return [names[k] for k in np.unique(np.linspace(0, len(names) - 1, count).round().astype(int))]


def _declared(config: IdentifyConfig, header: Mapping[str, Any]) -> tuple[FrontEnd | None, str | None]:
    """What is declared: by option, by the header of PAIRS, by a configuration beside the mels."""
    if config.declared is not None:
        return FrontEnd.load(config.declared), config.declared
    stated = header.get("frontend")
    if isinstance(stated, Mapping):
        return FrontEnd.from_fields(stated), "pairs.json"
    folder = config.mel if config.mel is not None and config.mel.is_dir() else config.mel.parent if config.mel is not None else None  # fmt: skip
    for name in _CONFIGS if folder is not None else ():
        assert folder is not None
        path = folder / name
        if path.is_file():
            try:
                frontend = FrontEnd.load(path)
            except CalibError as error:
                terminal.notice(f"{path} says nothing about the front end ({error.message})")
                continue
            terminal.notice(f"{path} is taken as what is declared")
            return frontend, str(path)
    return None, None


def render(answer: Identified) -> list[str]:
    """For a person: the answer, the parameters with their evidence, sets, contradictions, what could not be found out."""
    r = answer.result
    lines = [r.headline[:1].upper() + r.headline[1:] + "."]
    if answer.declared is not None and r.status not in {"mel-only", "unrelated"}:
        lines.append(f"declared ({answer.declared}): " + ("nothing in the data contradicts it" if not r.contradictions else f"contradicted in {len(r.contradictions)} field{'s' * (len(r.contradictions) != 1)}"))  # fmt: skip
    lines += [f"FAIL  {c.words}" for c in r.contradictions]
    if r.names:
        lines += ["", f"consistent with the data: {', '.join(r.names)}"]
    if r.status not in {"mel-only", "unrelated"} and r.family_names and set(r.family_names) != set(r.names):
        lines.append(f"the same filterbank outputs: {', '.join(r.family_names)}")
    if r.nearest is not None:
        lines += ["", f"nearest named front end: {r.nearest}; it differs:", *(f"  - {text}" for text in r.differences)]
    if r.error is not None:
        lines += ["", f"proof: computed again with the front end found, the mel differs by {r.error:.3g} on average and {r.error_max:.3g} at most, in its own unit; {r.error_db:.3g} dB on average"]  # fmt: skip
    rows = []
    for name, item in r.fields.items():
        unknown = item.value is None and bool(item.confounded) and item.confidence == 0.0
        words = ", ".join(_word(v) for v in item.confounded)
        also = f"{'one of' if unknown else 'or'} {words}" if words else f"{item.confidence:.2f}"
        value = "?" if unknown else _word(item.value)
        rows.append([name, value, also, item.evidence])
    if rows:
        lines += ["", *table(["parameter", "value", "sure, or also", "evidence"], rows, left=4)]
    refused = [t for t in r.tried if not t.consistent]
    if refused and r.status != "mel-only":
        lines += ["", "tried and excluded:", *(f"  {t.name}: {t.words}" for t in refused[:_SHOWN])]
    lines += ["", *(f"note: {text}" for text in r.notes)] if r.notes else []
    hidden = [text.split(":", 1)[0] for text in r.skipped if text.split(":", 1)[0] in r.fields]
    others = [text for text in r.skipped if text.split(":", 1)[0] not in r.fields]
    if hidden:
        others.insert(0, f"{', '.join(hidden)}: the data do not tell (the evidence is in the table)")
    lines += ["", *(f"skipped: {text}" for text in others)] if others else []
    return lines


def _word(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (tuple, list)):
        return " to ".join(_word(v) for v in value) if len(value) == 2 else ", ".join(_word(v) for v in value)
    return str(value)


def _write(path: Path, answer: Identified, *, force: bool) -> None:
    """The front end file.

    Raises:
        RefusedError: see `calib.mel.identify.described`.
    """
    from calib.mel.identify import described

    text = described(answer.result)
    with atomic_writer(path, force=force) as file:
        file.write(text.encode("utf-8"))
    terminal.result(f"written: {path} (read by --frontend, --from, --to)")


def identify(
    pairs: Annotated[
        Path | None,
        typer.Argument(
            metavar="PAIRS", help="Pairs whose targets are looked at, in place of --mel.", show_default=False
        ),
    ] = None,
    audio: Annotated[
        str | None,
        typer.Option(
            "--audio",
            metavar="SOURCE",
            help="The audio: a file, a folder, or a SOURCE, matched by id. Without it only the values are looked at.",
            show_default=False,
        ),
    ] = None,
    mel: Annotated[
        Path | None, typer.Option("--mel", help="The mels: a file or a folder of arrays.", show_default=False)
    ] = None,
    declared: Annotated[
        str | None,
        typer.Option(
            "--declared",
            metavar="NAME|FILE",
            help="What the front end is said to be; what the data contradict is a finding. Default: a configuration beside the mels.",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            help="CPU time that this may take, in s; then the search ends with what it knows, and says so. Default: 9.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            "--output",
            metavar="FILE.yaml",
            help="Write the front end found as a YAML file that --frontend, --from and --to read; refused (exit 5) where what matters is open.",
            show_default=False,
        ),
    ] = None,
    layout: o.Layout = None,
    limit: o.Limit = None,
    columns: o.Columns = None,
    audio_root: o.AudioRoot = None,
    split: o.Split = None,
    force: o.Force = False,
    fail_on: o.FailOn = "never",
    json_: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Which front end made these mels: every parameter with its evidence, the named ones that fit, and what cannot be told."""
    o.set_level(quiet=quiet, verbose=verbose, json_target=json_, force=force, fail_on=fail_on)
    if output is not None:
        if output.suffix.lower() not in {".yaml", ".yml"}:
            raise UsageError(f"-o {output}: a front end file is YAML", hint=f"-o {output.with_suffix('.yaml')}")
        ensure_writable(output, force=force)
    answer = run(IdentifyConfig(pairs, mel, audio, declared, layout, limit, columns, audio_root, split, seconds))
    lines = render(answer)
    o.show(lines, o.brief(lines[0], [f"FAIL  {c.words}" for c in answer.result.contradictions]))
    o.emit_json(json_, answer.to_json(), force=force)
    if output is not None:
        _write(output, answer, force=force)
    o.gate(fail_on, answer.status, answer.result.headline)
