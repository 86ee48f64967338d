"""``calib fit-scaler``: scale and offset, the simplest that unseen utterances find good enough, or a refusal."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from calib.commands import options as o
from calib.commands.judge import OWN_TARGETS, JudgeConfig, Judgement, judge, own_stats, params_file, render, short
from calib.commands.statsinput import STATS_NAME, is_own
from calib.console import terminal
from calib.data.files import ensure_writable, read_json, write_json
from calib.data.statsfiles import Reference
from calib.errors import DataError, RefusedError, UsageError

__all__ = ["FitConfig", "FitResult", "run"]

DEFAULT_NAME = "mel_scaling_params.json"
_OWN_NAME = "calib fit-scaler"  # steps send nobody to the command that says them

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True)
class FitConfig:
    """What ``calib fit-scaler`` needs.

    Args:
        judge: how the pairs are judged.
        output: the parameter file.
        overwrite: replace existing files.
        override: write although the verdict refuses (with ``"verdict": "no-signal"`` inside).
    """

    judge: JudgeConfig
    output: Path = Path(DEFAULT_NAME)
    overwrite: bool = False
    override: bool = False


@dataclass(frozen=True)
class FitResult:
    """The judgement, and what was written: None where the fit was refused."""

    judgement: Judgement
    params: Path | None
    stats: Path | None


def run(config: FitConfig) -> FitResult:
    """Judge the pairs and write the parameters, or write nothing; `refuse` raises what the exit code needs.

    Raises:
        UsageError: an output exists.
        DataError: PAIRS cannot be opened.
    """
    started = time.time()
    ensure_writable(config.output, force=config.overwrite)
    stats_path = config.output.parent / STATS_NAME
    foreign = config.judge.stats is not None and not is_own(Reference(config.judge.stats))
    if config.judge.stats is None or foreign:
        if config.judge.stats is None and stats_path.is_file() and not config.overwrite:
            raise UsageError(
                f"no --stats was given, and {stats_path} exists and is not overwritten by the statistics of the pairs' own targets",
                hint=f"if those are the statistics of the training data: --stats {stats_path}; else choose another -o, or give --force",
            )
        ensure_writable(stats_path, force=config.overwrite)
        _keep_dataset_statistics(stats_path)
    judgement = judge(config.judge)
    verdict = judgement.diagnosis.verdict
    if not judgement.diagnosis.rows or not (verdict.writes or config.override):
        return FitResult(judgement, None, None)
    written: Path | None = None
    stood = stats_path.exists()
    if judgement.stats is None or foreign:  # inference reads two JSON files
        judgement.stats = judgement.stats or own_stats(judgement)
        write_json(stats_path, judgement.stats, force=config.overwrite)
        written = stats_path
    try:
        write_json(config.output, params_file(judgement, forced=not verdict.writes), force=config.overwrite)
    except BaseException:
        if written is not None and not stood:  # both files or neither
            written.unlink(missing_ok=True)
        raise
    o.run_facts(config.output, started, pairs=str(config.judge.pairs))
    return FitResult(judgement, config.output, written)


def _keep_dataset_statistics(path: Path) -> None:
    """--force replaces what an earlier fit wrote, not the statistics of a dataset that happen to lie there.

    Raises:
        UsageError: the file is not one of the pairs' own targets.
    """
    if path.exists():
        try:
            found = read_json(path)
        except DataError:
            found = None
        provenance = found.get("provenance") if isinstance(found, dict) else None
        own = isinstance(provenance, dict) and (provenance.get("source") == OWN_TARGETS or "read_from" in provenance)
        if not own:
            raise UsageError(
                f"{path} holds a dataset's statistics and is not overwritten with those of the pairs",
                hint=f"fit with them: --stats {path}, or choose another -o",
            )


def refuse(judgement: Judgement) -> None:
    """Raise the error of a refused verdict.

    Raises:
        DataError: the data is invalid (exit 3).
        RefusedError: there is no signal (exit 5).
    """
    verdict = judgement.diagnosis.verdict
    if verdict.state == "invalid":
        raise DataError(f"{verdict.headline}: {verdict.sentence}", hint="nothing was written")
    if not verdict.writes:
        raise RefusedError(f"{verdict.headline}. {verdict.refusal}")


@app.command(
    name="fit-scaler",
    help="Fit the calibration that repairs these predictions, a scale and an offset: known constants, linear regression and more are scored on unseen utterances and beside constants, and the simplest that is good enough is written. "
    "Writes nothing, and exits 5, when a constant would do as well.",
)
def fit_scaler(
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS",
            help="Folder of targets and predictions (pairs.jsonl, target.npy + pred.npy, targets/ + predictions/).",
            show_default=False,
        ),
    ],
    output: o.Output = None,
    stats: o.StatsFile = None,
    frontend: o.OptionalFrontEnd = None,
    audio: o.AudioSource = None,
    columns: o.Columns = None,
    audio_root: o.AudioRoot = None,
    split: o.Split = None,
    layout: o.Layout = None,
    output_space: o.OutputSpace = None,
    limit: o.Limit = None,
    allow_skipped: o.AllowSkipped = 1.0,
    seed: o.Seed = 0,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help='Overwrite existing output, and write even without signal (with "verdict": "no-signal" inside).',
        ),
    ] = False,
    fail_on: o.FailOn = "never",
    json_: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Thin shell of `run`."""
    o.set_level(quiet=quiet, verbose=verbose, json_target=json_, force=force, fail_on=fail_on)
    path = output or Path(DEFAULT_NAME)
    result = run(
        FitConfig(
            JudgeConfig(
                pairs,
                stats,
                frontend,
                layout,
                output_space,
                limit,
                allow_skipped,
                seed,
                audio,
                columns,
                audio_root,
                split,
            ),
            path,
            overwrite=force,
            override=force,
        )
    )
    forced = result.params is not None and not result.judgement.diagnosis.verdict.writes
    o.show(
        render(result.judgement, forced=forced, done=_OWN_NAME),
        short(result.judgement, written=result.params is not None and not forced),
    )
    o.emit_json(json_, result.judgement.diagnosis.to_json(done=_OWN_NAME), force=force)
    if result.params is None:
        refuse(result.judgement)
    verdict = result.judgement.diagnosis.verdict
    if result.stats is not None:
        terminal.notice(
            f"no --stats was given: the statistics are those of the pairs' own targets, written to {result.stats}"
            if stats is None
            else f"the statistics of {stats} were written as JSON for inference: {result.stats}"
        )
    terminal.result(f"written: {result.params}")
    if not verdict.writes:
        terminal.warning(
            f'{result.params} was written by force, with "verdict": "no-signal" inside; it repairs nothing'
        )
    o.gate(fail_on, result.judgement.diagnosis.status, verdict.headline)
