"""``calib diagnose``: the verdict, and what to do next. Writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calib.commands import options as o
from calib.commands.judge import JudgeConfig, judge, render

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(
    help="What is wrong with these predictions, how sure that is, and what to do next. Exits 0 on any verdict unless --fail-on."
)
def diagnose(
    pairs: Annotated[
        Path, typer.Argument(metavar="PAIRS", help="Folder of targets and predictions.", show_default=False)
    ],
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
    force: o.Force = False,
    fail_on: o.FailOn = "never",
    json_: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Judge and print."""
    o.set_level(quiet=quiet, verbose=verbose, json_target=json_, force=force, fail_on=fail_on)
    judgement = judge(
        JudgeConfig(
            pairs, stats, frontend, layout, output_space, limit, allow_skipped, seed, audio, columns, audio_root, split
        )
    )
    o.show(render(judgement))
    o.emit_json(json_, judgement.diagnosis.to_json(), force=force)
    verdict = judgement.diagnosis.verdict
    o.gate(fail_on, judgement.diagnosis.status, verdict.headline)
