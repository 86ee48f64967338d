"""The command line: a table of commands, each imported when it is called, and the one error handler."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

from calib import __version__
from calib.console import terminal

__all__ = ["COMMANDS", "main"]

# name -> (module, one line). `calib --help` shows this table and imports none of the modules.
COMMANDS: dict[str, tuple[str, str]] = {
    "stats": ("calib.commands.stats", "Mel statistics of a dataset -> mel_normalization_stats.json"),
    "teacher-force": (
        "calib.commands.teacher_force",
        "Run a model over a held-out set with the true mels as decoder input -> PAIRS",
    ),
    "pair": ("calib.commands.pair", "PAIRS from what any other program wrote, without copying"),
    "fit-scaler": (
        "calib.commands.fit_scaler",
        "The calibration that unseen utterances choose, or a refusal -> mel_scaling_params.json",
    ),
    "diagnose": ("calib.commands.diagnose", "The verdict: what is wrong and what to do next"),
    "report": ("calib.commands.report", "The verdict as one HTML page and its JSON twin"),
    "convert": (
        "calib.commands.convert",
        "Mels calibrated and converted to another front end, for PAIRS or the fine-tuning of a vocoder",
    ),
    "fold": ("calib.commands.fold", "The calibration written into the weights, proven equal or refused"),
    "synth": ("calib.commands.synth", "Text -> mel -> calibrated mel -> vocoder -> WAV"),
    "run": ("calib.commands.run", "The whole pipeline from one YAML file"),
    "demo": ("calib.commands.demo", "The whole pipeline on an embedded corpus and model, three cases side by side"),
    "check": ("calib.commands.check", "One question, one answer: data, model, loss, params, vocoder"),
    "new-adapter": (
        "calib.commands.new_adapter",
        "A plug-in file for a model, to start from: tacotron2, fastpitch, glowtts, matcha, nemo, keras, blank",
    ),
    "schema": ("calib.commands.schema", "The JSON Schema of any file that calib writes"),
    "faults": ("calib.commands.faults", "The faults that calib knows by name: list, show"),
    "frontends": ("calib.commands.frontends", "The mel front ends that calib knows: list, show, diff, identify"),
}


class _LazyGroup(TyperGroup):
    """Imports a command's module when it is called; help needs only the table."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer's signature
        """Enough of a command to be listed; `resolve_command` is what calls one."""
        return _stub(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in COMMANDS:
            return args[0], _load(args[0]), args[1:]
        return super().resolve_command(ctx, args)


def _stub(name: str) -> Any:
    app = typer.Typer(add_completion=False)
    app.command(name=name, help=COMMANDS[name][1])(lambda: None)
    return typer.main.get_command(app)


def _load(name: str) -> Any:
    module = importlib.import_module(COMMANDS[name][0])
    command = typer.main.get_command(module.app)
    command.name = name
    return command


# Off a terminal nothing is wrapped or truncated.
_WIDTH: dict[str, Any] = {} if sys.stdout.isatty() else {"terminal_width": 1000, "max_content_width": 1000}

app = typer.Typer(
    cls=_LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], **_WIDTH},
    rich_markup_mode=None,
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"calib {__version__}")
        raise typer.Exit


@app.callback(
    help="calib tells why a text-to-speech model sounds like noise, repairs it when a calibration can, and refuses, with the cause, when it cannot."
)
def _root(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    del version


class _TerminatedError(BaseException):
    """SIGTERM, turned into an exception so that temporary files are removed on the way out."""


def _terminate(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise _TerminatedError


class _Readable:
    """Stdout whose reader may go away (``| head``): the command goes on, writes its files and keeps its exit code."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except BrokenPipeError:
            _discard_stdout()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            _discard_stdout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: run a command, and turn every outcome into its exit code."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    if args[:1] == ["stats"]:
        # Its processes each use one library thread; numpy would start one a core while it is imported.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, _terminate)
    sys.stdout = _Readable(sys.stdout)
    sys.exit(_run(args))


def _run(args: list[str]) -> int:
    verbose = "-v" in args or "--verbose" in args
    try:
        code = typer.main.get_command(app)(args=args, prog_name="calib", standalone_mode=False)
        if code == 130:  # typer's own answer to Ctrl-C
            return _interrupted()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except _TerminatedError:
        terminal.warning(
            "terminated: no half-written result was left behind; stats, teacher-force and convert go on where they stopped when they are run again"
        )
        return 143
    except BrokenPipeError:
        # The reader of our output went away (| head): no error of ours, and nothing more can be said to it.
        _discard_stdout()
        return 0
    except SystemExit as error:  # typer's own answer to a reader that went away
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        _discard_stdout()
        return 0
    except OSError as error:
        with contextlib.suppress(OSError):
            _unblock_stdout()
        terminal.error(f"error: {error.filename or 'reading or writing'}: {error.strerror or error}")
        if verbose:
            raise
        return 3
    except Exception as error:
        if hasattr(error, "message") and hasattr(error, "hint"):  # CalibError, and ParamsError of the vendorable module
            return _fail(error, verbose)
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # typer's usage errors
            given = _given(error, args)
            if given:
                error.message = f"{error.message} (given: {given})"  # type: ignore[attr-defined]
            error.show()
            return int(error.exit_code)
        terminal.error(f"error: this is a bug in calib: {type(error).__name__}: {error}")
        if verbose:
            raise
        terminal.error("  run again with -v for the traceback, and report it", style=None)
        return 1


def _given(error: Any, args: Sequence[str]) -> str:
    """What an option was given that cannot be, as ``--limit -1``; "" where the message has it."""
    names = getattr(getattr(error, "param", None), "opts", ())
    for option, value in itertools.pairwise(args):
        if option in names and repr(value) not in error.message:
            return f"{option} {value}"
    return next((each for each in args if each.partition("=")[0] in names and "=" in each), "")


def _interrupted() -> int:
    terminal.warning(
        "interrupted: no half-written result was left behind; stats, teacher-force and convert go on where they stopped when they are run again"
    )
    return 130


def _discard_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _unblock_stdout() -> None:
    """If stdout cannot take what is buffered (a full disk), drop it: Python would fail on it again while it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_stdout()


def _fail(error: Any, verbose: bool) -> int:
    terminal.error(f"error: {error.message}")
    if error.hint:
        terminal.error(f"  {error.hint}", style=None)
    if verbose:
        import traceback

        traceback.print_exception(error)
    return int(error.exit_code)
