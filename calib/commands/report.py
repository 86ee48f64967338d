"""``calib report``: the Diagnosis as one HTML page and its JSON twin, with worst, median and best utterance to hear."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from calib.commands import options as o
from calib.commands.judge import JudgeConfig, Judgement, causes, judge
from calib.commands.plugins import VocoderConfig, open_vocoder
from calib.console import terminal
from calib.data.files import atomic_writer, ensure_writable, read_json, write_json
from calib.data.pairs import PairEntry
from calib.diagnose.analysis import AffineMap
from calib.errors import UsageError
from calib.models.loading import call_plugin, checked_audio

__all__ = ["ReportConfig", "ReportResult", "run", "write_report"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


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


@dataclass(frozen=True)
class ReportResult:
    """The judgement, the two files, and what the sounds are worth.

    Args:
        judgement: the findings.
        html: the page.
        twin: its JSON twin.
        heard: utterance -> sound -> MAE between the mel of that sound and the target mel, in the mel's unit.
        sounds: utterance -> sound -> samples and rate in Hz.
    """

    judgement: Judgement
    html: Path
    twin: Path
    heard: dict[str, dict[str, float]] = field(default_factory=dict)
    sounds: dict[str, dict[str, tuple[np.ndarray, int]]] = field(default_factory=dict)

    @property
    def median(self) -> str | None:
        """The median utterance (the only one, where there is one); None without examples."""
        names = list(self.sounds)  # worst, median, best
        return names[min(1, len(names) - 1)] if names else None


def run(config: ReportConfig) -> ReportResult:
    """Judge the pairs and write page and twin.

    Raises:
        UsageError: an output exists, or the vocoder does not take these mels.
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
    from calib.report import ReportInput, build_report

    started = time.time()
    _check_outputs(config)
    fe = judgement.frontend
    notes: list[str] = []
    builder = _Examples(judgement, config, notes)
    examples = builder.build()
    if notes:
        judgement.diagnosis.skipped["players"] = "; ".join(notes)
    report = build_report(
        ReportInput(
            title=config.title,
            diagnosis=judgement.diagnosis,
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
        )
    )
    with atomic_writer(config.output, force=config.overwrite) as file:
        file.write(report.html.encode())
    twin = config.output.with_suffix(".json")
    write_json(twin, report.twin, force=config.overwrite)
    o.run_facts(config.output, started, pairs=str(config.judge.pairs))
    return ReportResult(
        judgement, config.output, twin, builder.heard, {example.name: dict(example.audio) for example in examples}
    )


class _Examples:
    """Worst, median and best utterance, with the sound of target, prediction, calibrated prediction and constant."""

    def __init__(self, judgement: Judgement, config: ReportConfig, notes: list[str]) -> None:
        self.judgement, self.config, self.notes = judgement, config, notes
        self.vocoder: Any = None
        self.heard: dict[str, dict[str, float]] = {}

    def build(self) -> list[Any]:
        from calib.report import Example

        d = self.judgement.diagnosis
        if not d.utterances:
            return []
        if self.config.audio:
            self._open_vocoder()
        ranked = sorted(d.utterances, key=lambda u: (u.mae_after, u.name))
        chosen = {"worst": ranked[-1], "median": ranked[len(ranked) // 2], "best": ranked[0]}
        entries = {entry.id: entry for entry in self.judgement.pairs.entries}
        out, seen = [], set()
        for role, utterance in chosen.items():
            if utterance.name in seen:
                continue
            seen.add(utterance.name)
            out.append(self._example(Example, role, entries[utterance.name]))
        return out

    def _open_vocoder(self) -> None:
        if self.judgement.frontend is None:
            self.notes.append("the front end of these mels is unknown; give --frontend NAME to hear them")
            return
        self.vocoder = open_vocoder(self.config.vocoder, self.judgement.frontend)

    def _example(self, example: Any, role: str, entry: PairEntry) -> Any:
        d = self.judgement.diagnosis
        pair = self.judgement.pairs.load(entry)
        heard = AffineMap(d.mel_std, d.mel_mean) if d.output_space == "normalized" else AffineMap(1.0, 0.0)
        prediction = np.asarray(heard(pair.pred), dtype=np.float32)
        calibrated = np.asarray((d.calibration if d.method != "identity" else heard)(pair.pred), dtype=np.float32)
        constant = np.broadcast_to(np.asarray(d.per_bin["target_mean"], dtype=np.float32), pair.target.shape)
        mels = {
            "target": pair.target,
            "raw": prediction,
            "calibrated": calibrated,
            "constant": np.ascontiguousarray(constant),
        }
        audio = {label: self._sound(mel) for label, mel in mels.items()} if self.vocoder is not None else {}
        return example(
            pair.id,
            role,
            pair.text,
            pair.language,
            pair.target,
            prediction,
            calibrated,
            audio,
            self._distances(pair.id, pair.target, audio),
        )

    def _distances(self, name: str, target: np.ndarray, audio: dict[str, tuple[np.ndarray, int]]) -> tuple[str, ...]:
        """How far the mel of each sound is from the target mel; the target's own sound shows what the vocoder costs."""
        fe = self.judgement.frontend
        if fe is None or not audio:
            return ()
        found: dict[str, float] = {}
        for label, (samples, rate) in audio.items():
            if rate == fe.sample_rate:
                mel = fe.mel(samples)
                n = min(mel.shape[0], target.shape[0])
                found[label] = float(np.abs(mel[:n] - target[:n]).mean())
        self.heard[name] = found
        listing = ", ".join(f"{label} {value:.3f}" for label, value in found.items())
        return (
            f"mel of the audio against the target mel, MAE in {self.judgement.unit}: {listing} (target: what the vocoder itself costs)",
        )

    def _sound(self, mel: np.ndarray) -> tuple[np.ndarray, int]:
        spec = self.vocoder.spec
        samples, rate = checked_audio(spec, call_plugin(spec, self.vocoder.vocoder.vocode, mel))
        return np.clip(samples, -1.0, 1.0), rate


@app.command(
    help="One self-contained HTML page and its JSON twin: verdict, figures before and after, plots, and the worst, median and best utterance to see and hear."
)
def report(
    pairs: Annotated[
        Path, typer.Argument(metavar="PAIRS", help="Folder of targets and predictions.", show_default=False)
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
    vocoder: o.VocoderSpec = "griffin-lim",
    vocoder_checkpoint: o.VocoderCheckpoint = None,
    no_audio: Annotated[
        bool, typer.Option("--no-audio", help="Without players of target, raw, calibrated and constant.")
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
    name = pairs.resolve().name if pairs.suffix != ".jsonl" else pairs.resolve().parent.name
    path = output or Path("reports") / name / "report.html"
    if path.suffix != ".html":
        if path.is_file():
            raise UsageError(f"-o {path} is a file; give a folder, or a name that ends in .html")
        path = path / "report.html"
    config = ReportConfig(
        JudgeConfig(pairs, stats, frontend, layout, output_space, limit, allow_skipped, seed, audio, columns, audio_root, split), path, title or name, params, VocoderConfig(vocoder, vocoder_checkpoint, {}, device), not no_audio, force,
    )  # fmt: skip
    result = run(config)
    verdict = result.judgement.diagnosis.verdict
    o.show([verdict.headline, verdict.sentence + ".", *causes(result.judgement.diagnosis)])
    terminal.result(f"written: {result.html} ({result.html.stat().st_size / 1e6:.2f} MB) and {result.twin}")
    o.emit_json(json_, result.judgement.diagnosis.to_json(), force=force)
    o.gate(fail_on, result.judgement.diagnosis.status, verdict.headline)
