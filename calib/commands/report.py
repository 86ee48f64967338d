"""``calib report``: the Diagnosis as one HTML page and its JSON twin, with utterances to see and hear.

Several PAIRS, reports or a folder of them are compared: `calib.commands.report_compare`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from calib.commands import options as o
from calib.commands.judge import JudgeConfig, Judgement, causes, judge, short
from calib.commands.plugins import VocoderConfig
from calib.console import terminal
from calib.data.files import atomic_writer, ensure_writable, read_json, write_json
from calib.diagnose.legs.result import Legs
from calib.errors import UsageError
from calib.models.loading import parse_options

__all__ = ["ReportConfig", "ReportResult", "run", "write_report"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_STATUSES = ("pass", "warn", "fail")
_PLAIN_VOCODER = "griffin-lim"  # made for the front end of the mels, so it wants nothing of its own


@dataclass(frozen=True)
class ReportConfig:
    """What ``calib report`` needs; see its options."""

    judge: JudgeConfig
    output: Path
    title: str
    params: Path | None = None
    vocoder: VocoderConfig = field(default_factory=VocoderConfig)
    audio: bool = True
    overwrite: bool = False
    vocoder_frontend: str | None = None
    examples: int = 3
    utterances: tuple[str, ...] = ()

    @property
    def asks_for_legs(self) -> bool:
        """Whether it is said what the vocoder wants."""
        return self.vocoder_frontend is not None or self.vocoder.spec != _PLAIN_VOCODER


@dataclass(frozen=True)
class ReportResult:
    """The judgement, the two files, and what the sounds are worth.

    Args:
        judgement: the findings.
        html: the page.
        twin: its JSON twin.
        heard: utterance -> sound -> MAE between the mel of that sound and the target mel, in the mel's unit.
        sounds: utterance -> sound -> samples and rate in Hz.
        median: the median utterance (the only one, where there is one); None without examples.
        legs: target, prediction and vocoder, or None where they were not asked for.
    """

    judgement: Judgement
    html: Path
    twin: Path
    heard: dict[str, dict[str, float]] = field(default_factory=dict)
    sounds: dict[str, dict[str, tuple[np.ndarray, int]]] = field(default_factory=dict)
    median: str | None = None
    legs: Legs | None = None

    @property
    def status(self) -> str:
        """The worse of the diagnosis and the legs."""
        own = self.judgement.diagnosis.status
        return own if self.legs is None else max(own, self.legs.status, key=_STATUSES.index)


def run(config: ReportConfig) -> ReportResult:
    """Judge the pairs and write page and twin.

    Raises:
        UsageError: an output exists, the vocoder does not take these mels, or an utterance that is not there.
        DataError: PAIRS cannot be opened.
    """
    _check_outputs(config)
    judgement = judge(config.judge)
    written = None if config.params is None else read_json(config.params)
    return write_report(judgement, config, written)


def _check_outputs(config: ReportConfig) -> None:
    for path in (config.output, config.output.with_suffix(".json")):
        ensure_writable(path, force=config.overwrite)


def write_report(judgement: Judgement, config: ReportConfig, written: dict[str, Any] | None) -> ReportResult:
    """The page and twin of a judgement.

    Args:
        judgement: the findings.
        config: where to write, and whether with sound.
        written: content of the parameter file that belongs to it, or None.
    """
    from calib.commands.report_examples import Sounds, build_examples, chosen
    from calib.report import ReportInput, build_report

    started = time.time()
    _check_outputs(config)
    fe, d = judgement.frontend, judgement.diagnosis
    names = chosen(d, config.examples, config.utterances)
    found = _legs(judgement, config)
    sounds = Sounds(judgement, config.vocoder, wanted=config.audio and bool(names), lenient=config.asks_for_legs)
    examples, heard = build_examples(judgement, names, sounds)
    if sounds.notes:
        d.skipped["players"] = "; ".join(dict.fromkeys(sounds.notes))
    report = build_report(
        ReportInput(
            title=config.title,
            diagnosis=d,
            examples=examples,
            unit=judgement.unit,
            hop_seconds=fe.hop_length / fe.sample_rate if fe else None,
            fmin=fe.fmin if fe else None,
            fmax=fe.fmax if fe else None,
            provenance={
                **judgement.provenance,
                "frontend": fe.name if fe else None,
                "vocoder": config.vocoder.spec if config.audio else None,
                "audio of the targets": judgement.audio,
            },
            written=written,
            legs=found,
            settings=_settings(judgement, config),
            texts={entry.id: (entry.text, entry.language) for entry in judgement.pairs.entries if entry.text},
        )
    )
    with atomic_writer(config.output, force=config.overwrite) as file:
        file.write(report.html.encode())
    twin = config.output.with_suffix(".json")
    write_json(twin, report.twin, force=config.overwrite)
    o.run_facts(config.output, started, pairs=str(config.judge.pairs))
    median = next((name for name, role in names.items() if role == "median"), next(iter(names), None))
    return ReportResult(
        judgement,
        config.output,
        twin,
        heard,
        {example.name: dict(example.audio) for example in examples},
        median,
        found,
    )


def _legs(judgement: Judgement, config: ReportConfig) -> Legs | None:
    """Target, prediction and what the vocoder wants, where that is said."""
    if not config.asks_for_legs:
        return None
    from calib.commands.legs import legs, wanted

    own = None if config.vocoder.spec == _PLAIN_VOCODER else config.vocoder
    want = wanted(config.vocoder_frontend, own)
    if want is None:
        return None
    return legs(judgement, want, params=config.params, stats=config.judge.stats)


def _settings(judgement: Judgement, config: ReportConfig) -> tuple[Any, ...]:
    """What can change the result and has a default; the page marks what differs from it."""
    from calib.mel.frontend import FrontEnd
    from calib.report import Setting

    c, d = config.judge, judgement.diagnosis
    declared = judgement.header.get("output_space") or "raw"
    rows = [
        Setting("options", "--output-space", d.output_space, declared),
        Setting("options", "--stats", "given" if c.stats is not None else None, None),
        Setting("options", "--params", "given" if config.params is not None else None, None),
        Setting("options", "--limit", c.limit, None),
        Setting("options", "--allow-skipped", c.allow_skipped, JudgeConfig(Path()).allow_skipped),
        Setting("options", "--seed", c.seed, 0),
        Setting("options", "--layout", c.layout, None),
        Setting("options", "--audio", "given" if c.audio is not None else None, None),
        Setting("options", "--split", c.split, None),
        Setting("options", "--vocoder", config.vocoder.spec, _PLAIN_VOCODER),
        Setting("options", "--vocoder-frontend", config.vocoder_frontend, None),
    ]
    if judgement.frontend is not None:
        usual = FrontEnd().fields()
        rows += [
            Setting("front end, against Tacotron 2's", name, value, usual.get(name))
            for name, value in judgement.frontend.fields().items()
        ]
    return tuple(rows)


@app.command(
    help="One self-contained HTML page and its JSON twin: verdict, findings, figures against the constants, the vocoder's leg, plots, utterances to see and hear. Several PAIRS or reports: side by side, the best one and why."
)
def report(
    pairs: Annotated[
        list[Path],
        typer.Argument(
            metavar="PAIRS...",
            help="Folder of targets and predictions; several of them, finished reports, or a folder of reports are compared.",
            show_default=False,
        ),
    ],
    output: o.Output = None,
    title: Annotated[
        str | None,
        typer.Option("--title", help="Title of the page; default: the name of the folder.", show_default=False),
    ] = None,
    stats: o.StatsFile = None,
    params: o.ParamsFile = None,
    frontend: o.OptionalFrontEnd = None,
    audio: o.AudioSource = None,
    columns: o.Columns = None,
    audio_root: o.AudioRoot = None,
    split: o.Split = None,
    layout: o.Layout = None,
    output_space: o.OutputSpace = None,
    vocoder: o.VocoderSpec = _PLAIN_VOCODER,
    vocoder_checkpoint: o.VocoderCheckpoint = None,
    vocoder_option: o.VocoderOption = None,
    vocoder_python: o.VocoderPython = None,
    convert: o.Convert = False,
    vocoder_frontend: Annotated[
        str | None,
        typer.Option(
            "--vocoder-frontend",
            metavar="SPEC",
            help="Front end that the vocoder wants (a name, a file, NAME@STATSFILE): with the audio, the third leg is measured. A --vocoder of its own declares it.",
            callback=o.recognise,
            show_default=False,
        ),
    ] = None,
    no_audio: Annotated[bool, typer.Option("--no-audio", help="Without sounds.")] = False,
    examples: Annotated[
        int,
        typer.Option(
            "--examples", metavar="N", help="Utterances to see and hear, from the worst to the best.", min=0, max=12
        ),
    ] = 3,
    utterance: Annotated[
        list[str] | None,
        typer.Option(
            "--utterance", metavar="ID", help="Show this utterance in full as well; repeatable.", show_default=False
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option("--figures", metavar="DIR", help="Also write every figure as PNG and SVG.", show_default=False),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(
            "--markdown",
            metavar="FILE|-",
            help="Also write a summary in Markdown, for a comment on a change; - is stdout.",
            show_default=False,
        ),
    ] = None,
    index: Annotated[
        bool, typer.Option("--index", help="Only an index page over the finished reports below the folder.")
    ] = False,
    limit: o.Limit = None,
    allow_skipped: o.AllowSkipped = 1.0,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    force: o.Force = False,
    fail_on: o.FailOn = "never",
    json_: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Thin shell of `run`."""
    o.set_level(quiet=quiet, verbose=verbose, json_target=json_, force=force, fail_on=fail_on)
    _check_markdown(markdown, json_, force=force)
    from calib.commands import report_compare

    first = pairs[0]
    if index:
        _index(pairs, title, output, force=force)
        return

    def config_of(folder: Path, path: Path, name: str) -> ReportConfig:
        own = JudgeConfig(
            folder, stats, frontend, layout, output_space, limit, allow_skipped, seed, audio, columns, audio_root, split
        )
        sound = VocoderConfig(
            vocoder, vocoder_checkpoint, parse_options(vocoder_option or []), device, vocoder_python, convert
        )
        return ReportConfig(
            own, path, name, params, sound, not no_audio, force, vocoder_frontend, examples, tuple(utterance or ())
        )

    if report_compare.is_comparison(pairs):

        def make(folder: Path, path: Path) -> Path:
            return run(config_of(folder, path, _name(folder))).twin

        _compare(
            report_compare.CompareConfig(tuple(pairs), output, title, make, force),
            fail_on=fail_on, json_=json_, figures=figures, markdown=markdown,
        )  # fmt: skip
        return
    path = _page(output or Path("reports") / _name(first))
    result = run(config_of(first, path, title or _name(first)))
    d, found = result.judgement.diagnosis, result.legs
    said = [d.verdict.headline, d.verdict.sentence + ".", *causes(d)]
    steps: tuple[str, ...] = ()
    verdict = None
    if found is not None:
        said = [found.headline, found.sentence + ".", "", f"P-T by itself: {said[0]}", *said[1:]]
        steps, verdict = found.next_steps, f"{found.headline}: {found.sentence}."
    o.show(said, short(result.judgement, verdict=verdict, first=steps))
    terminal.result(f"written: {result.html} ({result.html.stat().st_size / 1e6:.2f} MB) and {result.twin}")
    if figures is not None:
        from calib.report.exports import write_figures

        files, missing = write_figures(d, result.judgement.unit, figures, force=force)
        terminal.result(f"written: {len(files)} figures in {figures}")
        for key, why in missing.items():
            terminal.result(f"skipped: {key}: {why}")
    if markdown is not None:
        from calib.report.exports import diagnosis_markdown

        text = diagnosis_markdown(d, result.judgement.unit, title or _name(first), report=result.html.name, first=steps)
        _write_text(markdown, text, force=force)
    plain = d.to_json(first=steps)
    o.emit_json(json_, plain if found is None else {**plain, "legs": found.to_json()}, force=force)
    o.gate(fail_on, result.status, d.verdict.headline if found is None else found.headline)


def _name(pairs: Path) -> str:
    return pairs.resolve().name if pairs.suffix != ".jsonl" else pairs.resolve().parent.name


def _page(path: Path) -> Path:
    if path.suffix == ".html":
        return path
    if path.is_file():
        raise UsageError(f"-o {path} is a file; give a folder, or a name that ends in .html")
    return path / "report.html"


def _check_markdown(path: Path | None, json_target: str | None, *, force: bool) -> None:
    """``--markdown -`` keeps stdout for itself; a file must be writable before the work.

    Raises:
        UsageError: the file exists, or both Markdown and JSON are to go to stdout.
    """
    if path is not None and str(path) != "-":
        ensure_writable(path, force=force)
    elif path is not None:
        if json_target == "-":
            raise UsageError("--markdown - and --json - both want stdout", hint="give one of them a file")
        terminal.results_to_stderr = True


def _write_text(path: Path, text: str, *, force: bool) -> None:
    if str(path) == "-":
        sys.stdout.write(text)
        return
    with atomic_writer(path, force=force) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    terminal.result(f"written: {path}")


def _index(folders: Sequence[Path], title: str | None, output: Path | None, *, force: bool) -> None:
    from calib.commands.report_compare import IndexConfig, run_index

    if len(folders) != 1:
        raise UsageError(f"--index takes one folder, and {len(folders)} were given")
    terminal.result(f"written: {run_index(IndexConfig(folders[0], title, output, force))}")


def _compare(config: Any, *, fail_on: str, json_: str | None, figures: Path | None, markdown: Path | None) -> None:
    """Several runs side by side."""
    from calib.commands.report_compare import run as run_comparison
    from calib.report import exports

    result = run_comparison(config)
    best = result.comparison.best
    sentence, cautions = f"{best.sentence[:1].upper()}{best.sentence[1:]}", [f"note: {text}" for text in best.cautions]
    o.show([sentence, *best.reasons, *cautions], o.brief(sentence, cautions))
    terminal.result(f"written: {result.html} ({result.html.stat().st_size / 1e6:.2f} MB) and {result.twin}")
    if figures is not None:
        files = exports.write_comparison_figures(result.comparison, figures, force=config.overwrite)
        terminal.result(f"written: {len(files)} figures in {figures}")
    if markdown is not None:
        text = exports.comparison_markdown(result.comparison, report=result.html.name)
        _write_text(markdown, text, force=config.overwrite)
    o.emit_json(json_, result.comparison.to_json(), force=config.overwrite)
    o.gate(fail_on, result.comparison.status, best.sentence)
