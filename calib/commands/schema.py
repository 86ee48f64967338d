"""``calib schema``: the JSON Schema of any file that calib writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from calib.commands import options as o
from calib.console import table, terminal
from calib.data.files import write_json
from calib.schemas import about, names, schema

__all__ = ["run"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def run(name: str | None, output: Path | None = None, *, force: bool = False) -> None:
    """Print or write one schema, or list them all.

    Raises:
        UsageError: there is no such schema, or the output exists.
    """
    if name is None:
        for line in table(["schema", "of"], [[each, about(each)] for each in names()], left=2):
            terminal.result(line)
        return
    content = schema(name)
    if output is None:
        sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    else:
        write_json(output, content, force=force)
        terminal.result(f"written: {output}")


@app.command(help="The JSON Schema (draft 2020-12) of any file that calib writes; without NAME, a list of them.")
def schema_(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help='Name of the schema, or what a file\'s "schema" key says, for example calib/report/1.',
            show_default=False,
        ),
    ] = None,
    output: o.Output = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Thin shell of `run`."""
    o.set_level(quiet=quiet, verbose=verbose)
    run(name, output, force=force)
