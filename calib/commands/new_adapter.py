"""``calib new-adapter``: a plug-in file for a model of some framework, to start from."""

from __future__ import annotations

from typing import Annotated

import typer

from calib.commands import options as o
from calib.console import terminal
from calib.data.files import atomic_writer
from calib.errors import UsageError
from calib.models.adapters import SHADOWS, template

__all__ = ["new_adapter"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(
    name="new-adapter",
    help="Print a plug-in file for a model: tacotron2, glowtts and fastpitch (Coqui), nemo (its FastPitch), matcha, keras, or blank. It runs as it is; change what differs.",
)
def new_adapter(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="tacotron2, glowtts, fastpitch, nemo, matcha, keras or blank.", show_default=False
        ),
    ],
    output: o.Output = None,
    force: o.Force = False,
) -> None:
    """Print the template, or write it."""
    o.set_level(quiet=False, verbose=False)
    text = template(name)
    if output is None:
        typer.echo(text, nl=False)
        return
    if output.suffix != ".py":
        raise UsageError(f"-o {output}: a plug-in file ends in .py", hint=f"-o my_{name}.py")
    if output.stem in SHADOWS[name]:
        raise UsageError(
            f"-o {output}: a file of that name would be imported in place of the package {output.stem}",
            hint=f"-o my_{name}.py",
        )
    with atomic_writer(output, force=force) as file:
        file.write(text.encode())
    terminal.result(f"written: {output}")
    terminal.result(f"next: calib teacher-force HELDOUT --model {output}:factory --checkpoint FILE -o pairs")
