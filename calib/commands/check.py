"""``calib check data|loss|model|params|vocoder``: one question, one answer."""

from __future__ import annotations

import typer

from calib.commands.check_data import data
from calib.commands.check_loss import loss
from calib.commands.check_model import model
from calib.commands.check_params import params
from calib.commands.check_vocoder import vocoder

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="One question, one answer.")
app.command(name="data")(data)
app.command(name="loss")(loss)
app.command(name="model")(model)
app.command(name="params")(params)
app.command(name="vocoder")(vocoder)
