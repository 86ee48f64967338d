"""``calib frontends``: the named mel front ends."""

from __future__ import annotations

from typing import Annotated

import typer

from calib.commands.options import Json, emit_json, set_level
from calib.console import table, terminal
from calib.mel.frontend import FrontEnd, catalogue

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, help="The mel front ends that calib knows."
)


@app.command("list")
def list_(json_: Json = None) -> None:
    """List the named front ends."""
    set_level(quiet=False, verbose=False, json_target=json_)
    entries = sorted({e.id: e for e in catalogue().values()}.values(), key=lambda e: e.id)
    rows = [
        [
            e.id,
            ", ".join(e.aliases),
            f"{e.frontend.sample_rate} Hz",
            f"{e.frontend.n_mels}",
            f"{e.frontend.fmin:g}-{e.frontend.fmax:g} Hz",
            e.frontend.unit,
            e.title,
        ]
        for e in entries
    ]
    for line in table(["id", "alias", "rate", "bins", "band", "unit", "what"], rows, left=2):
        terminal.result(line)
    emit_json(
        json_,
        [
            {
                "id": e.id,
                "aliases": list(e.aliases),
                "title": e.title,
                "source": e.source,
                "frontend_id": e.frontend.id,
                "frontend": e.frontend.fields(),
            }
            for e in entries
        ],
    )


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name, or a YAML or JSON file.")], json_: Json = None
) -> None:
    """Show every field of one front end."""
    set_level(quiet=False, verbose=False, json_target=json_)
    frontend = FrontEnd.load(name)
    entry = catalogue().get(name)
    if entry is not None:
        terminal.result(f"{entry.id}: {entry.title}")
        terminal.result(f"source: {entry.source}")
        if entry.notes:
            terminal.result(f"notes: {entry.notes.strip()}")
    default = FrontEnd().fields()
    rows = [
        [key, str(value), "" if value == default[key] else f"(default {default[key]})"]
        for key, value in frontend.fields().items()
    ]
    for line in table(["field", "value", ""], [*rows, ["frontend_id", frontend.id, ""]], left=3):
        terminal.result(line)
    emit_json(json_, {"frontend_id": frontend.id, "frontend": frontend.fields()})


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A name, or a YAML or JSON file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    json_: Json = None,
) -> None:
    """Show the fields in which two front ends differ."""
    set_level(quiet=False, verbose=False, json_target=json_)
    first, second = FrontEnd.load(a), FrontEnd.load(b)
    different = first.differences(second)
    if not different:
        terminal.result(f"{a} and {b} are the same front end ({first.id})")
    else:
        for line in table(["field", a, b], [[key, str(x), str(y)] for key, (x, y) in different.items()], left=3):
            terminal.result(line)
    emit_json(json_, {key: list(values) for key, values in different.items()})
