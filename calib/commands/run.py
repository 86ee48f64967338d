"""``calib run CONFIG.yaml``: statistics, teacher forcing, scaler, report and speech, into one folder.

Data flow: source -> stats -> pairs -> judgement -> params (or a refusal) -> report -> WAVs. Everything is written, and
then a refused fit exits with 5.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from calib.commands import options as o
from calib.commands.fit_scaler import DEFAULT_NAME as PARAMS_NAME
from calib.commands.fit_scaler import refuse
from calib.commands.judge import JudgeConfig, Judgement, judge, params_file, render, short
from calib.commands.plugins import ModelConfig, VocoderConfig, open_model
from calib.commands.report import ReportConfig, ReportResult, write_report
from calib.commands.speaking import SynthConfig, Synthesizer, Voice, say
from calib.commands.stats import StatsConfig
from calib.commands.stats import run as run_stats
from calib.commands.statsinput import STATS_NAME, is_own
from calib.commands.teacher_force import TeacherForceConfig
from calib.commands.teacher_force import run as run_teacher_force
from calib.console import terminal
from calib.data.audio import write_wav
from calib.data.files import write_json
from calib.data.sources import safe_name
from calib.data.statsfiles import Reference
from calib.errors import DataError, UsageError, missing, nearest
from calib.run.engine import EngineConfig

__all__ = ["RunConfig", "RunResult", "Sentence", "load_config", "run"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True)
class Sentence:
    """Something to say at the end of a run.

    Args:
        text: what.
        language: code.
        speaker_audio: a recording of the voice, or None.
        temperature: of what the model samples.
        top_p: nucleus of what the model samples.
    """

    text: str
    language: str = "en"
    speaker_audio: str | None = None
    temperature: float = 0.8
    top_p: float = 0.9


@dataclass(frozen=True)
class RunConfig:
    """A pipeline; every key of the YAML file. Relative paths are relative to the current folder.

    Args:
        source: held-out corpus (SOURCE), or ``demo:corpus``.
        output: folder for everything.
        title: of the report; default the folder's name.
        model: spec of the model.
        checkpoint: handed to the model.
        model_options: keyword arguments of the model's factory.
        model_python: interpreter that the model's plug-in file runs in; None: this one.
        frontend: default: the model's own; given, it must agree.
        stats: an existing statistics file (of the training data: the better choice), of any system; default: made from
            ``source``.
        vocoder: spec of the vocoder.
        vocoder_checkpoint: handed to the vocoder.
        vocoder_options: keyword arguments of the vocoder's factory.
        vocoder_python: interpreter that the vocoder's plug-in file runs in; None: this one.
        convert: convert the mels where the vocoder's front end is another one; false: that is an error.
        columns, audio_root, split, layout, limit: of the source.
        batch_size: utterances a batch.
        allow_skipped: percent.
        free_running: also generate without the true mel.
        device: auto, cpu or cuda.
        jobs: processes for the statistics.
        seed: of everything random.
        audio: whether the report has sound.
        say: sentences to speak with and without the calibration.
    """

    source: str
    output: Path
    title: str = ""
    model: str = "reference"
    checkpoint: str | None = None
    model_options: Mapping[str, Any] = field(default_factory=dict)
    model_python: str | None = None
    frontend: str | None = None
    stats: Path | None = None
    vocoder: str = "griffin-lim"
    vocoder_checkpoint: str | None = None
    vocoder_options: Mapping[str, Any] = field(default_factory=dict)
    vocoder_python: str | None = None
    convert: bool = False
    columns: str | None = None
    audio_root: Path | None = None
    split: str | None = None
    layout: str | None = None
    limit: int | None = None
    batch_size: int = 8
    allow_skipped: float = 1.0
    free_running: bool = False
    device: str = "cpu"
    jobs: int | None = None
    seed: int = 0
    audio: bool = True
    say: tuple[Sentence, ...] = ()


@dataclass
class RunResult:
    """What a run made.

    Args:
        config: the configuration.
        judgement: the findings.
        report: page, twin and sounds.
        stats: the statistics file.
        params: the parameter file, or None where the fit was refused.
        wavs: label to file: before, after, target, constant of the median utterance, and what was said.
    """

    config: RunConfig
    judgement: Judgement
    report: ReportResult
    stats: Path
    params: Path | None
    wavs: dict[str, Path]


def load_config(path: Path) -> RunConfig:
    """Read a pipeline from YAML.

    Raises:
        DataError: missing or not YAML.
        UsageError: an unknown or missing key (the nearest is suggested), or a value of the wrong type.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise missing(path, what="file") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML: {error}") from None
    if not isinstance(data, Mapping):
        raise UsageError(
            f"{path}: expected keys and values, got {type(data).__name__}",
            hint="it is no pipeline configuration; docs/commands.md, calib run, shows one (source: ..., model: ...)",
        )
    values = dict(data)
    say_rows = values.pop("say", None) or []
    if not isinstance(say_rows, list):
        raise UsageError(f"{path}: say must be a list of texts")
    rows = tuple(
        Sentence(row) if isinstance(row, str) else _fill(Sentence, row, f"{path}: say[{k}]")
        for k, row in enumerate(say_rows)
    )
    config: RunConfig = _fill(RunConfig, values, str(path))
    return dataclasses.replace(config, say=rows)


# A field's annotation, by the word that names it, to what YAML may give for it.
_YAML_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "Path": (str,),
    "Mapping": (dict,),
}


def _fill(cls: Any, values: Any, where: str) -> Any:
    """A dataclass from a mapping, strictly: unknown and missing keys and wrong types are errors."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: expected keys and values, got {type(values).__name__}")
    known = {item.name: item for item in dataclasses.fields(cls) if item.name != "say"}
    out: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}", hint=nearest(str(key), known))
        kind = str(known[key].type).replace("Mapping[str, Any]", "Mapping")
        allowed = tuple(t for word, types in _YAML_TYPES.items() if word in kind for t in types)
        fits = isinstance(value, allowed) and (not isinstance(value, bool) or "bool" in kind)
        if not (fits or (value is None and "None" in kind)):
            raise UsageError(f"{where}: {key} cannot be {value!r}; it is {kind}")
        out[key] = Path(str(value)) if "Path" in kind and value is not None else value
    for name, item in known.items():
        if name not in out and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise UsageError(f"{where}: the key {name!r} is missing")
    return cls(**out)


def run(config: RunConfig, *, force: bool = False) -> RunResult:
    """Run the whole line; `refuse` (exit 5) is the caller's to raise.

    Raises:
        UsageError, DataError, PluginError, ParamsError: from any step.
    """
    model = ModelConfig(config.model, config.checkpoint, config.model_options, config.device, config.model_python)
    stats = config.stats or config.output / STATS_NAME
    if config.stats is None:
        frontend = config.frontend or _frontend_file(model, config)
        run_stats(
            StatsConfig(
                config.source, frontend, stats, config.columns, config.audio_root, config.split, config.layout, config.limit, config.jobs, config.device, config.allow_skipped, force,
            )
        )  # fmt: skip
    pairs = config.output / "pairs"
    run_teacher_force(
        TeacherForceConfig(
            config.source, model, pairs, config.frontend, config.free_running, config.columns, config.audio_root, config.split, config.layout, config.limit,
            config.batch_size, config.allow_skipped, config.seed, force=force, engine=EngineConfig(jobs=config.jobs),
        )
    )  # fmt: skip
    judge_config = JudgeConfig(pairs, stats, seed=config.seed, allow_skipped=config.allow_skipped)
    judgement = judge(judge_config)
    if config.stats is not None and not is_own(Reference(config.stats)):  # inference reads two JSON files
        write_json(config.output / STATS_NAME, judgement.stats, force=force)
    params: Path | None = config.output / PARAMS_NAME
    written = None
    if judgement.diagnosis.rows and judgement.diagnosis.verdict.writes:
        written = params_file(judgement)
        write_json(config.output / PARAMS_NAME, written, force=force)
    else:
        if force:  # what an earlier run wrote would belong to other pairs
            (config.output / PARAMS_NAME).unlink(missing_ok=True)
        params = None
    vocoder = VocoderConfig(
        config.vocoder, config.vocoder_checkpoint, config.vocoder_options, config.device, config.vocoder_python, config.convert
    )  # fmt: skip
    title = config.title or config.output.resolve().name
    report = write_report(
        judgement,
        ReportConfig(judge_config, config.output / "report.html", title, params, vocoder, config.audio, force),
        written,
    )
    wavs = _example_wavs(report, config.output / "wavs", force=force) | _say(
        config, model, vocoder, stats, params, force=force
    )
    return RunResult(config, judgement, report, stats, params, wavs)


def _frontend_file(model: ModelConfig, config: RunConfig) -> Any:
    """The model's own front end, which the statistics must be in."""
    return open_model(model, frontend=config.frontend).frontend


def _example_wavs(report: ReportResult, folder: Path, *, force: bool) -> dict[str, Path]:
    """The median utterance as the vocoder makes it from each mel."""
    name = report.median
    if name is None:
        return {}
    labels = {"target": "target", "raw": "before", "calibrated": "after", "constant": "constant"}
    out = {}
    for label, (samples, rate) in report.sounds[name].items():
        path = folder / f"{safe_name(name)}.{labels.get(label, label)}.wav"
        write_wav(path, np.clip(samples, -1.0, 1.0), rate, force=force)
        out[labels.get(label, label)] = path
    return out


def _say(
    config: RunConfig, model: ModelConfig, vocoder: VocoderConfig, stats: Path, params: Path | None, *, force: bool
) -> dict[str, Path]:
    """Each sentence without the calibration, and with it where there is one."""
    if not config.say:
        return {}
    synthesizers = {"before": Synthesizer(SynthConfig(model, vocoder))}
    if params is not None:
        synthesizers["after"] = Synthesizer(SynthConfig(model, vocoder, stats, params))
    out: dict[str, Path] = {}
    for number, s in enumerate(config.say, 1):
        reference = None if s.speaker_audio is None else Path(s.speaker_audio)
        voice = Voice(reference, s.language, s.temperature, s.top_p, config.seed)
        for label, synthesizer in synthesizers.items():
            path = config.output / "wavs" / f"say-{number}-{s.language}.{label}.wav"
            # What is wrong before the calibration is to be heard as well.
            spoken = say(synthesizer, s.text, voice, str(path), stream=False, force=force, any_level=True)
            for said in spoken.warnings():
                terminal.warning(f"{path.name}: {said}")
            out[f"say {number} {s.language} {label}"] = path
    return out


@app.command(
    name="run",
    help="The whole pipeline from one YAML file: statistics, teacher forcing, scaler, report, speech. Writes everything, then exits 5 if the fit was refused.",
)
def run_command(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="Pipeline configuration; see configs/.", show_default=False)
    ],
    output: o.Output = None,
    force: o.Force = False,
    fail_on: o.FailOn = "never",
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Thin shell of `run`."""
    o.set_level(quiet=quiet, verbose=verbose, fail_on=fail_on)
    settings = load_config(config)
    if output is not None:
        settings = dataclasses.replace(settings, output=output)
    result = run(settings, force=force)
    o.show(render(result.judgement, why=False), short(result.judgement, written=result.params is not None))
    for path in (result.stats, result.params, result.report.html, result.report.twin, *result.wavs.values()):
        if path is not None:
            terminal.result(f"written: {path}")
    refuse(result.judgement)
    verdict = result.judgement.diagnosis.verdict
    o.gate(fail_on, result.judgement.diagnosis.status, verdict.headline)
