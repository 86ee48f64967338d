"""``calib faults``: the faults that calib knows by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from calib.commands.options import Json, emit_json, set_level, show
from calib.console import table
from calib.diagnose.causes import NEEDS
from calib.diagnose.faults.library import BY_BIN, FAULTS, GLOBAL_AFFINE, STAGES, Fault
from calib.errors import UsageError, nearest

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, help="The faults that calib knows by name."
)

_WHERE = {
    "arrays": "how the arrays lie",
    "time": "time",
    "frequency": "frequency",
    "units": "units and levels",
    "model": "the model itself",
}


@app.command("list")
def list_(
    word: Annotated[
        str | None,
        typer.Argument(metavar="[WORD]", help="Only those whose name, cause or remedy holds it.", show_default=False),
    ] = None,
    json_: Json = None,
) -> None:
    """List the faults by the stage where they arise, in the order in which they are undone."""
    set_level(quiet=False, verbose=False, json_target=json_)
    chosen = [fault for fault in FAULTS.values() if word is None or word.casefold() in _words(fault)]
    if not chosen:
        raise UsageError(f"no fault's name, cause or remedy holds {word!r}", hint="calib faults list shows all")
    show(list(_listing(chosen)))
    emit_json(json_, [_json(fault) for fault in chosen])


@app.command("show")
def show_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the fault, as diagnose prints it.")],
    json_: Json = None,
) -> None:
    """Show one fault: how it comes about, what to do, what finds it, and what it is mistaken for."""
    set_level(quiet=False, verbose=False, json_target=json_)
    if name not in FAULTS:
        raise UsageError(f"no fault is called {name!r}", hint=nearest(name, FAULTS))
    fault = FAULTS[name]
    show(list(_shown(fault)))
    emit_json(json_, _json(fault))


def _words(fault: Fault) -> str:
    return f"{fault.id} {fault.title} {fault.cause} {fault.next_step} {fault.command}".casefold()


def _listing(chosen: list[Fault]) -> Iterator[str]:
    yield f"{len(chosen)} fault{'s' * (len(chosen) != 1)}: the prediction (or the target) is ..."
    for stage in STAGES:
        rows = [[f.id, f.title, "" if f.needs == "pairs" else f"needs: {f.needs}"] for f in chosen if f.stage == stage]
        if rows:
            yield ""
            yield _WHERE[stage]
            yield from table(["", "", ""], rows, left=3)[1:]
    yield ""
    yield "calib faults show NAME: cause, remedy and what it is mistaken for."


def _shown(fault: Fault) -> Iterator[str]:
    yield f"{fault.id}: the prediction is {fault.title}"
    rows = [
        ["cause", fault.cause],
        ["what to do", fault.next_step],
        *([["command", fault.command]] if fault.command else []),
        ["found from", NEEDS.get(fault.needs, "PAIRS").removeprefix("needs ")],
        ["repaired by", _repair(fault)],
        ["sound", "broken: fails --fail-on fail" if fault.severity == "fail" else "impaired: fails --fail-on warn"],
        ["mistaken for", _set(fault.confounded)],
        ["... with audio", _set(fault.confounded_with_audio)],
    ]
    if fault.catch_all:
        rows.append(["note", "describes an effect: where no known constant explains it, a cause that is not listed may be behind it"])  # fmt: skip
    yield from table(["", ""], rows, left=2)[1:]


def _set(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nothing listed"


def _repair(fault: Fault) -> str:
    if fault.id in GLOBAL_AFFINE:
        return "one scale and one offset (calib fit-scaler)"
    if fault.id in BY_BIN:
        return "a scale and an offset for each bin (calib fit-scaler, where that pays)"
    return "no calibration: mend the cause"


def _json(fault: Fault) -> dict[str, Any]:
    return {
        "id": fault.id,
        "stage": fault.stage,
        "title": fault.title,
        "cause": fault.cause,
        "next_step": fault.next_step,
        "command": fault.command,
        "needs": fault.needs,
        "severity": fault.severity,
        "repair": "global" if fault.id in GLOBAL_AFFINE else "by-bin" if fault.id in BY_BIN else "none",
        "confounded": list(fault.confounded),
        "confounded_with_audio": list(fault.confounded_with_audio),
        "catch_all": fault.catch_all,
    }
