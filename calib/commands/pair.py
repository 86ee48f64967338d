"""``calib pair``: an index over targets and predictions that any other program wrote; no array is copied."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from calib.commands import options as o
from calib.commands.opening import Opening
from calib.console import terminal
from calib.data.pairs import INDEX_NAME, index_pairs
from calib.errors import UsageError
from calib.mel.frontend import FrontEnd

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(
    help="PAIRS from predictions and targets (or audio) that any other program wrote: writes pairs.jsonl, copies nothing."
)
def pair(
    pred: Annotated[Path, typer.Option("--pred", help="Folder of predicted mels.", show_default=False)],
    target: Annotated[Path | None, typer.Option("--target", help="Folder of target mels.", show_default=False)] = None,
    audio: Annotated[
        str | None,
        typer.Option(
            "--audio",
            help="SOURCE whose audio the targets are computed from, or that gives texts and speakers.",
            show_default=False,
        ),
    ] = None,
    free_running: Annotated[
        Path | None, typer.Option("--free-running", help="Folder of free-running predictions.", show_default=False)
    ] = None,
    output: o.Output = None,
    frontend: o.OptionalFrontEnd = None,
    layout: o.Layout = None,
    columns: o.Columns = None,
    audio_root: o.AudioRoot = None,
    split: o.Split = None,
    output_space: Annotated[
        str | None,
        typer.Option("--output-space", help="What the predictions are: raw or normalized.", show_default=False),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            help="How the model was trained: mean (L1 or L2 loss) or sample (GAN, flow, diffusion).",
            show_default=False,
        ),
    ] = None,
    autoregressive: Annotated[
        bool | None,
        typer.Option(
            "--autoregressive/--not-autoregressive",
            help="Whether the model was shown the previous true frame (Tacotron was, FastSpeech was not): decides which faults can be looked for.",
            show_default=False,
        ),
    ] = None,
    model_id: Annotated[
        str | None,
        typer.Option(
            "--model-id",
            metavar="TEXT",
            help="What identifies the checkpoint: parameters fitted on these pairs are then refused by another's.",
            show_default=False,
        ),
    ] = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Match names and write the index."""
    o.set_level(quiet=quiet, verbose=verbose)
    if output is None:
        raise UsageError("calib pair needs -o DIR for the index")
    for name, value, known in (
        ("--output-space", output_space, ("raw", "normalized")),
        ("--kind", kind, ("mean", "sample")),
    ):
        if value is not None and value not in known:
            raise UsageError(f"{name} is {value!r}; it must be {' or '.join(known)}")
    if (pred / INDEX_NAME).is_file():
        raise UsageError(
            f"--pred {pred} is PAIRS already: it has a {INDEX_NAME}",
            hint=f"nothing is to be paired: calib diagnose {pred}",
        )
    header: dict[str, Any] = {}
    if frontend is not None:
        fe = FrontEnd.load(frontend)
        header |= {"frontend": fe.fields(), "frontend_id": fe.id}
    declared = {
        "output_space": output_space,
        "model_kind": kind,
        "autoregressive": autoregressive,
        "model_id": model_id,
    }
    header |= {key: value for key, value in declared.items() if value is not None}
    source = None if audio is None else Opening(audio, columns, audio_root, split).announced()
    result = index_pairs(
        pred,
        target_dir=target,
        audio_source=source,
        free_running_dir=free_running,
        out=output,
        force=force,
        header=header,
        layout=layout,
    )
    terminal.result(result.describe())
