"""``calib check model``: the probes of a running model, on a few utterances of a corpus."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from calib.commands import options as o
from calib.commands.opening import Opening
from calib.commands.plugins import LoadedModel, ModelConfig, open_model
from calib.console import terminal
from calib.data.audio import audio_file
from calib.data.checkpoints import read_checkpoint
from calib.data.sources import Item, Select
from calib.errors import DataError, UsageError, nearest
from calib.mel.corpus import MelReader, reader_for
from calib.models.loading import load_model, parse_options, resolve_device
from calib.models.probes import PROBES, Finding, Scene, probe_all
from calib.models.protocol import AcousticModel, Utterance
from calib.models.teaching import Teacher, library_threads

__all__ = ["CheckModelConfig", "CheckModelResult", "run"]

_WORST = {"fail": 0, "warn": 1, "pass": 2, "skipped": 3}
_MARKS = {"fail": "FAIL", "warn": "WARN", "pass": "pass", "skipped": "skip"}
_ROWS = 2000  # of the source, among which the utterances are chosen
_LONGEST = 20.0  # seconds: a probe costs several passes over each utterance


@dataclass(frozen=True)
class CheckModelConfig:
    """What ``calib check model`` needs; see its options."""

    source: str
    model: ModelConfig
    frontend: str | None = None
    free_running: bool = True
    probes: tuple[str, ...] | None = None
    columns: str | None = None
    audio_root: Path | None = None
    split: str | None = None
    layout: str | None = None
    limit: int = 6
    budget: float = 120.0
    seed: int = 0
    select: Select = field(default_factory=Select)
    no_text: bool = False
    one_voice: bool = False


@dataclass(frozen=True)
class CheckModelResult:
    """The findings, the worst first, and on what they were made."""

    model: LoadedModel
    findings: list[Finding]
    utterances: list[str]
    skipped: dict[str, str]

    @property
    def status(self) -> str:
        """``fail``, ``warn`` or ``pass``; where nothing could be probed ``warn``, for nothing was seen to be sound."""
        if all(f.status == "skipped" for f in self.findings):
            return "warn"
        worst = min((_WORST[f.status] for f in self.findings), default=2)
        return next(name for name, rank in _WORST.items() if rank == min(worst, 2))

    @property
    def sentence(self) -> str:
        """The first line of any output."""
        by = {status: [f.probe for f in self.findings if f.status == status] for status in _WORST}
        if by["fail"]:
            return f"FAULTS: {', '.join(by['fail'])}{'; doubts: ' + ', '.join(by['warn']) if by['warn'] else ''}"
        if by["warn"]:
            return f"DOUBTS: {', '.join(by['warn'])}; no fault found by {len(by['pass'])} probes"
        if not by["pass"]:
            return "NOTHING PROBED: every probe was skipped"
        skipped = f" ({len(by['skipped'])} skipped)" if by["skipped"] else ""
        return f"NO FAULT FOUND by {len(by['pass'])} probes{skipped}"

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` writes it."""
        return {
            "schema": "calib/check-model/1",
            "status": self.status,
            "sentence": self.sentence,
            "model": self.model.spec,
            "model_id": self.model.model_id,
            "frontend_id": self.model.frontend.id,
            "utterances": self.utterances,
            "skipped_utterances": self.skipped,
            "findings": [finding.to_json() for finding in self.findings],
        }


def run(config: CheckModelConfig) -> CheckModelResult:
    """Load the model, read a few utterances, and probe.

    Raises:
        UsageError: an unknown probe, or the model does not fit.
        DataError: no utterance can be used.
        PluginError: the model cannot be loaded.
    """
    for name in config.probes or ():
        if name not in PROBES:
            raise UsageError(f"no probe {name!r}", hint=nearest(name, PROBES))
    loaded = open_model(config.model, frontend=config.frontend)
    source = Opening(config.source, config.columns, config.audio_root, config.split, select=config.select).announced()
    reader = reader_for(source, loaded.frontend, layout=config.layout)
    items = sorted(itertools.islice(source, _ROWS), key=lambda item: item.id)
    rate = loaded.frontend.sample_rate / loaded.frontend.hop_length
    batch, used, skipped = _utterances(items, reader, config.limit, int(_LONGEST * rate))
    if not batch:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(skipped.items())[:3])
        raise DataError(f"no utterance of {config.source} can be used ({reasons or 'it is empty'})")
    teacher = Teacher(
        loaded.model, loaded.spec, loaded.frontend.n_mels, config.seed, None, resolve_device(config.model.device)
    )
    with contextlib.ExitStack() as stack:
        stack.callback(library_threads(1))  # small batches: threads would wait for each other
        voices: dict[str, Path | None] = {}
        for item in used:
            voices[item.id] = None if item.audio is None else stack.enter_context(audio_file(item.audio))
        batch, base = _accepted(teacher, batch, skipped)
        scene = Scene(
            teacher, batch, rate, voices, config.free_running, lambda: _load_again(config.model), config.budget,
            config.no_text, config.one_voice,
        )  # fmt: skip
        scene.base = base
        scene.stored = _stored(loaded.model, config.model.checkpoint)
        findings = list(_told(probe_all(scene, config.probes), len(config.probes or PROBES)))
    findings.sort(key=lambda finding: _WORST[finding.status])
    return CheckModelResult(loaded, findings, [u.id for u in batch], skipped)


def _accepted(
    teacher: Teacher, batch: list[Utterance], skipped: dict[str, str]
) -> tuple[list[Utterance], list[np.ndarray]]:
    """The utterances that the model takes, with its predictions of them.

    Raises:
        DataError: it takes none.
    """
    out: list[tuple[Utterance, np.ndarray]] = []
    for one in batch:
        try:
            out.append((one, teacher.predict([one])[0]))
        except DataError as error:
            skipped[one.id] = error.message.removeprefix(f"{one.id}: ")
            terminal.warning(f"skipped {one.id}: {skipped[one.id]}")
            if one is batch[-1] and not out:
                raise
    return [one for one, _ in out], [mel for _, mel in out]


def _stored(model: AcousticModel, checkpoint: str | None) -> Callable[[], Mapping[str, Any]] | None:
    """Reads all tensors of the checkpoint, those beside the weights (averages) too; None where it is no file."""
    path = getattr(model, "checkpoint_file", None) or checkpoint
    return (lambda: read_checkpoint(path).tensors) if path is not None and Path(path).is_file() else None


def _load_again(config: ModelConfig) -> AcousticModel:
    device = resolve_device(config.device)
    return load_model(config.spec, config.checkpoint, device, config.options, python=config.python)


def _told(findings: Iterator[Finding], count: int) -> Iterator[Finding]:
    with terminal.progress("probes", count) as bar:
        for finding in findings:
            bar.advance()
            yield finding


def _utterances(
    items: list[Item], reader: MelReader, limit: int, longest: int
) -> tuple[list[Utterance], list[Item], dict[str, str]]:
    """A few utterances, by turns of the speakers, each with another one of its voice as reference."""
    by_speaker: dict[str | None, list[Item]] = {}
    for item in items:
        by_speaker.setdefault(item.speaker, []).append(item)
    # Two of a speaker before the next speaker: the second is the reference of the first.
    order = [
        item
        for turn in range(0, max(map(len, by_speaker.values()), default=0), 2)
        for own in by_speaker.values()
        for item in own[turn : turn + 2]
    ]
    batch: list[Utterance] = []
    used: list[Item] = []
    skipped: dict[str, str] = {}
    for item in order:
        if len(batch) >= limit or len(skipped) > 5 * limit:
            break
        try:
            mel = reader(item).mel
        except DataError as error:
            skipped[item.id] = error.message
            continue
        if len(mel) > longest:
            skipped[item.id] = f"{len(mel)} frames are longer than {_LONGEST:g} s"
            continue
        own = item.audio if isinstance(item.audio, Path) else None
        batch.append(Utterance(item.id, mel, item.text, item.speaker, item.language, own, None))
        used.append(item)
    return [_with_reference(u, batch) for u in batch], used, skipped


def _with_reference(one: Utterance, batch: list[Utterance]) -> Utterance:
    other = next((u for u in batch if u.speaker == one.speaker and u.id != one.id), None)
    return one if other is None else dataclasses.replace(one, reference_mel=other.mel)


def render(result: CheckModelResult) -> list[str]:
    """For a tired person: the sentence, then a line a probe, the worst first."""
    lines = [f"{result.sentence}.", ""]
    width = max(len(f.probe) for f in result.findings)
    for f in result.findings:
        lines.append(f"{_MARKS[f.status]}  {f.probe:<{width}}  {f.sentence}  [{f.seconds:.2f} s]")
        if f.status in {"fail", "warn"}:
            if f.threshold:
                lines.append(f"      {'':<{width}}  a fault is: {f.threshold}")
            if f.advice:
                lines.append(f"      {'':<{width}}  next: {f.advice}")
    count = len(result.utterances)
    speakers = f"{count} utterance{'s' * (count != 1)}, {sum(f.seconds for f in result.findings):.1f} s of probing"
    lines += [
        "",
        f"{speakers}. A unit is the standard deviation of the target within bins, so 0.01 units are a hundredth of what speech varies.",
    ]
    return lines


def _brief(result: CheckModelResult) -> list[str]:
    wrong = [f for f in result.findings if f.status in {"fail", "warn"}]
    causes = [f"{_MARKS[f.status]}  {f.probe}: {f.sentence}" for f in wrong]
    return o.brief(result.sentence + ".", causes, [f.advice for f in wrong if f.advice])


def model(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Held-out corpus: any SOURCE with texts.", show_default=False)
    ],
    model_: o.ModelSpec = "reference",
    checkpoint: o.Checkpoint = None,
    model_option: o.ModelOption = None,
    model_python: o.ModelPython = None,
    frontend: o.OptionalFrontEnd = None,
    probe: Annotated[
        list[str] | None,
        typer.Option(
            "--probe", metavar="NAME", help=f"Only this probe; repeatable: {', '.join(PROBES)}.", show_default=False
        ),
    ] = None,
    free_running: Annotated[
        bool, typer.Option("--free-running/--no-free-running", help="Also let the model speak freely.")
    ] = True,
    no_text: Annotated[
        bool, typer.Option("--no-text", help="The model reads no text: what probes that is skipped, and said.")
    ] = False,
    one_voice: Annotated[
        bool, typer.Option("--one-voice", help="The model knows one voice: that another changes nothing is no fault.")
    ] = False,
    columns: o.Columns = None,
    audio_root: o.AudioRoot = None,
    split: o.Split = None,
    speaker: o.Speakers = None,
    language: o.Languages = None,
    min_duration: o.MinDuration = None,
    max_duration: o.MaxDuration = None,
    layout: o.Layout = None,
    limit: Annotated[
        int, typer.Option("--limit", help="Utterances to probe with, two of each speaker by turns.", min=1)
    ] = 6,
    budget: Annotated[
        float,
        typer.Option("--budget", metavar="SECONDS", help="Seconds of free running; none is begun after that.", min=0),
    ] = 120.0,
    device: o.Device = "auto",
    seed: o.Seed = 0,
    force: o.Force = False,
    fail_on: o.FailOn = "never",
    json_: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Is it the model? Probes of a running model for what no statistic shows: text ignored, future seen, padding read, dropout on, dead conditioning, weights never restored, free running that stops wrongly, repeats or skips. Exits 0 on any finding unless --fail-on."""
    o.set_level(quiet=quiet, verbose=verbose, json_target=json_, force=force, fail_on=fail_on)
    config = CheckModelConfig(
        source, ModelConfig(model_, checkpoint, parse_options(model_option or []), device, model_python), frontend, free_running, tuple(probe) if probe else None, columns, audio_root,
        split, layout, limit, budget, seed, o.selection(speaker, language, min_duration, max_duration), no_text, one_voice,
    )  # fmt: skip
    result = run(config)
    o.show(render(result), _brief(result))
    o.emit_json(json_, result.to_json(), force=force)
    o.gate(fail_on, result.status, result.sentence)
