"""``calib diagnose``: the verdict, and what to do next. Writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calib.commands import options as o
from calib.commands.judge import JudgeConfig, judge, render, short
from calib.commands.plugins import VocoderConfig
from calib.errors import UsageError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(
    help="What is wrong with these predictions, how sure that is, and what to do next. Exits 0 on any verdict unless --fail-on."
)
def diagnose(
    pairs: Annotated[
        Path, typer.Argument(metavar="PAIRS", help="Folder of targets and predictions.", show_default=False)
    ],
    stats: o.StatsFile = None,
    params: o.ParamsFile = None,
    frontend: o.OptionalFrontEnd = None,
    audio: o.AudioSource = None,
    vocoder_frontend: Annotated[
        str | None,
        typer.Option(
            "--vocoder-frontend",
            metavar="SPEC",
            help="Front end that the vocoder wants: a name, a YAML/JSON file, a vocoder's config file, or NAME@STATSFILE. With the audio, tells a wrong front end from a wrong model.",
            callback=o.recognise,
            show_default=False,
        ),
    ] = None,
    vocoder: Annotated[
        str | None,
        typer.Option(
            "--vocoder",
            help="Vocoder whose declared front end is used instead: an installed name, package.module:factory, or path/to/file.py:factory.",
            show_default=False,
        ),
    ] = None,
    vocoder_checkpoint: o.VocoderCheckpoint = None,
    vocoder_option: o.VocoderOption = None,
    vocoder_python: o.VocoderPython = None,
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
    from calib.commands.legs import legs, render_legs, wanted
    from calib.models.loading import parse_options

    of_a_vocoder = (("checkpoint", vocoder_checkpoint), ("option", vocoder_option), ("python", vocoder_python))
    for name, given in of_a_vocoder:
        if vocoder is None and given:
            raise UsageError(f"--vocoder-{name} needs --vocoder", hint="which vocoder is it for?")
    options = parse_options(vocoder_option or [])
    want = wanted(
        vocoder_frontend,
        None if vocoder is None else VocoderConfig(vocoder, vocoder_checkpoint, options, python=vocoder_python),
    )
    if want is None and params is not None:
        raise UsageError(
            "--params says what inference makes of the predictions, which is compared with what the vocoder wants",
            hint="say what that is: --vocoder-frontend NAME",
        )
    judgement = judge(
        JudgeConfig(
            pairs, stats, frontend, layout, output_space, limit, allow_skipped, seed, audio, columns, audio_root, split
        )
    )
    diagnosis = judgement.diagnosis
    found = None if want is None else legs(judgement, want, params=params, stats=stats)
    if found is None:
        o.show(render(judgement), short(judgement))
        o.emit_json(json_, diagnosis.to_json(), force=force)
        o.gate(fail_on, diagnosis.status, diagnosis.verdict.headline)
        return
    alone = render(judgement, first=found.next_steps)
    verdict = f"{found.headline}: {found.sentence}."
    o.show(
        [*render_legs(found), "", f"P-T by itself: {alone[0]}", *alone[1:]],
        short(judgement, verdict=verdict, first=found.next_steps),
    )
    plain = diagnosis.to_json(first=found.next_steps)
    o.emit_json(json_, {**plain, "legs": found.to_json()}, force=force)
    o.gate(fail_on, max(diagnosis.status, found.status, key=("pass", "warn", "fail").index), found.headline)
