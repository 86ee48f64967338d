"""Options that mean the same everywhere, and what commands share: one name, one meaning."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from calib import __version__
from calib.console import terminal
from calib.data.files import ensure_writable, write_json, write_run_facts
from calib.data.sources.select import Select
from calib.errors import GateError, UsageError

__all__ = ["FAIL_ON", "brief", "emit_json", "gate", "recognise", "run_facts", "selection", "set_level", "show"]

_recognised: list[str] = []


def recognise(spec: str | None) -> str | None:
    """Remember what another system's configuration file says, until `set_level` knows how much is said."""
    if spec is not None:
        from calib.mel.configs import explain

        _recognised.extend(explain(spec))
    return spec


Output = Annotated[Path | None, typer.Option("-o", "--out", "--output", help="Where to write.", show_default=False)]
OptionalFrontEnd = Annotated[
    str | None,
    typer.Option(
        "--frontend",
        help="Mel front end: a name (calib frontends list), NAME@STATSFILE, a YAML/JSON file of fields, or another system's configuration file.",
        callback=recognise,
        show_default=False,
    ),
]
StatsFile = Annotated[
    Path | None,
    typer.Option(
        "--stats",
        metavar="[FORMAT=]FILE[#SPEAKER]",
        help="Statistics of the training data: mel_normalization_stats.json, or the file of another system, recognised by its content.",
        show_default=False,
    ),
]
ParamsFile = Annotated[
    Path | None,
    typer.Option(
        "--params",
        help="mel_scaling_params.json from calib fit-scaler: the calibration to apply to the mels.",
        show_default=False,
    ),
]
ModelSpec = Annotated[
    str, typer.Option("--model", help="Model: an installed name, package.module:factory, or path/to/file.py:factory.")
]
Checkpoint = Annotated[
    str | None, typer.Option("--checkpoint", help="The model's checkpoint file or folder.", show_default=False)
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option("--model-option", help="key=value passed to the model's factory; repeatable.", show_default=False),
]
ModelPython = Annotated[
    str | None,
    typer.Option(
        "--model-python",
        metavar="PATH",
        help="Run the model's plug-in file in this interpreter (a python, or a virtual environment): Python 3.8 or later with numpy, calib not needed there.",
        show_default=False,
    ),
]
VocoderSpec = Annotated[
    str,
    typer.Option("--vocoder", help="Vocoder: an installed name, package.module:factory, or path/to/file.py:factory."),
]
VocoderCheckpoint = Annotated[
    str | None,
    typer.Option("--vocoder-checkpoint", help="The vocoder's checkpoint file or folder.", show_default=False),
]
VocoderOption = Annotated[
    list[str] | None,
    typer.Option("--vocoder-option", help="key=value passed to the vocoder's factory; repeatable.", show_default=False),
]
VocoderPython = Annotated[
    str | None,
    typer.Option(
        "--vocoder-python",
        metavar="PATH",
        help="Run the vocoder's plug-in file in this interpreter, as --model-python does a model's.",
        show_default=False,
    ),
]
Convert = Annotated[
    bool,
    typer.Option(
        "--convert",
        help="Where the vocoder wants another front end than that of the mels, convert them and say what error that adds; without it calib stops there.",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option("--columns", help="Columns of a filelist, for example path,text,speaker.", show_default=False),
]
AudioRoot = Annotated[
    Path | None,
    typer.Option("--audio-root", help="Folder that a filelist's paths are relative to.", show_default=False),
]
AudioSource = Annotated[
    str | None,
    typer.Option(
        "--audio",
        metavar="SOURCE",
        help="SOURCE whose audio the targets were made from, matched by id: tells apart faults of the front end that mels alone cannot.",
        show_default=False,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Use metadata_NAME.csv / NAME.txt / NAME-*.parquet of the source, or the rows of its split column.",
        show_default=False,
    ),
]
Speakers = Annotated[
    list[str] | None,
    typer.Option("--speaker", metavar="NAME", help="Only this speaker's utterances; repeatable.", show_default=False),
]
Languages = Annotated[
    list[str] | None,
    typer.Option(
        "--language",
        metavar="CODE",
        help="Only utterances in this language (en: en-GB too); repeatable.",
        show_default=False,
    ),
]
MinDuration = Annotated[
    float | None,
    typer.Option(
        "--min-duration", metavar="SECONDS", help="Only utterances of at least so many s.", min=0, show_default=False
    ),
]
MaxDuration = Annotated[
    float | None,
    typer.Option(
        "--max-duration", metavar="SECONDS", help="Only utterances of at most so many s.", min=0, show_default=False
    ),
]
Layout = Annotated[
    str | None,
    typer.Option("--layout", help="Layout of stored mels: TM (time first) or MT (bins first).", show_default=False),
]
OutputSpace = Annotated[
    str | None,
    typer.Option(
        "--output-space",
        help="What the predictions are: raw or normalized; default: what the pairs say, else raw.",
        show_default=False,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", help="Processes; default: one a core for a large corpus.", min=1, show_default=False),
]
Engine = Annotated[
    str,
    typer.Option("--engine", metavar="local|ray", help="Where the work is done: processes of this machine, or Ray."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="ADDRESS",
        help="With --engine ray: the cluster, for example auto or ray://HOST:10001; default: RAY_ADDRESS, else Ray started on this machine.",
        show_default=False,
    ),
]
Fresh = Annotated[
    bool, typer.Option("--fresh/--resume", help="Discard what an interrupted run left, or go on from it.")
]
ProgressForm = Annotated[
    str,
    typer.Option(
        "--progress",
        metavar="auto|json",
        help="auto: a bar on a terminal, one line a minute elsewhere. json: everything on stderr as JSON lines, progress once a second.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Limit = Annotated[
    int | None, typer.Option("--limit", help="Use only the first N utterances.", min=1, show_default=False)
]
AllowSkipped = Annotated[
    float, typer.Option("--allow-skipped", help="Percent of utterances that may be unusable.", min=0, max=100)
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.", min=0)]
Json = Annotated[
    str | None,
    typer.Option("--json", help="Also write the result as JSON to FILE, or to stdout with -.", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing output.")]
FailOn = Annotated[str, typer.Option("--fail-on", help="Exit 10 if the verdict is: fail, warn (or worse), never.")]
Quiet = Annotated[
    bool,
    typer.Option(
        "-q", "--quiet", help="Only the answer in a few lines (verdict, causes, next step, files written), no notices."
    ),
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="More notices, and tracebacks.")]

FAIL_ON = ("fail", "warn", "never")
_CAUSES = 3  # that -q shows
PROGRESS = ("auto", "json")


def selection(
    speakers: list[str] | None, languages: list[str] | None, shortest: float | None, longest: float | None
) -> Select:
    """Which utterances ``--speaker``, ``--language``, ``--min-duration`` and ``--max-duration`` keep.

    Raises:
        UsageError: the shortest is longer than the longest.
    """
    return Select(tuple(speakers or ()), tuple(languages or ()), shortest, longest)


def set_level(
    *,
    quiet: bool,
    verbose: bool,
    json_target: str | None = None,
    force: bool = False,
    fail_on: str = "never",
    progress: str = "auto",
) -> None:
    """Set the terminal's level, keep stdout for the JSON alone when it goes there, and check the options before the work.

    Raises:
        UsageError: the JSON's file exists and ``force`` is false, an unknown gate, an unknown form of progress.
    """
    if progress not in PROGRESS:
        raise UsageError(f"--progress is {progress!r}; it must be one of {', '.join(PROGRESS)}")
    if fail_on not in FAIL_ON:
        raise UsageError(f"--fail-on is {fail_on!r}; it must be one of {', '.join(FAIL_ON)}")
    if json_target not in {None, "-"}:
        ensure_writable(Path(str(json_target)), force=force)
    terminal.level = 1 if verbose else -1 if quiet else 0
    terminal.results_to_stderr = json_target == "-"
    terminal.json_lines = progress == "json"
    for line in _recognised:
        terminal.notice(line)
    _recognised.clear()


def emit_json(target: str | None, value: Any, *, force: bool = False) -> None:
    """``--json FILE|-``: the result as JSON.

    Raises:
        UsageError: the file exists and ``force`` is false.
    """
    if target is None:
        return
    if target == "-":
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        sys.stdout.flush()
    else:
        write_json(Path(target), value, force=force)


def show(lines: Sequence[str], short: Sequence[str] = ()) -> None:
    """A rendered result, its first line in bold; with ``-q`` what `brief` made of it, where there is that."""
    said = short if short and terminal.level < 0 else lines
    terminal.result(said[0], "bold")
    for line in said[1:]:
        terminal.result(line)


def brief(verdict: str, causes: Sequence[str] = (), steps: Sequence[str] = ()) -> list[str]:
    """What ``-q`` shows, the same for every command: the verdict, at most three causes, the first step; 5 lines at most.

    Args:
        verdict: one line.
        causes: what is wrong, the worst first.
        steps: what to do, first things first.
    """
    said = list(causes[:_CAUSES])
    if len(causes) > _CAUSES:
        said[-1] += f" (and {len(causes) - _CAUSES} more: without -q)"
    return [verdict, *said, *(f"next: {step}" for step in steps[:1])]


def gate(fail_on: str, status: str, sentence: str) -> None:
    """``--fail-on``: raise when the status is at or below the gate.

    Raises:
        GateError: the gate is closed.
    """
    worse = {"fail": {"fail"}, "warn": {"fail", "warn"}, "never": set()}[fail_on]
    if status in worse:
        raise GateError(f"--fail-on {fail_on}: {sentence}")


def run_facts(output: Path, started: float, **extra: Any) -> None:
    """Write what cannot change the result beside it, in ``run.json``."""
    write_run_facts(
        output,
        {
            "calib": __version__,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "seconds": round(time.time() - started, 3),
            "host": platform.node(),
            "python": platform.python_version(),
            "folder": os.getcwd(),  # noqa: PTH109
            "arguments": sys.argv[1:],
            **extra,
        },
    )
