"""What every chart is made with: the canvas, the reason why there is none, and small helpers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calib.diagnose.analysis import Diagnosis
from calib.report.svg import GRID

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = ["WIDTH", "Chart", "Painter", "Skip", "new_canvas", "r_limits", "summary", "why_missing"]

WIDTH = 4.2  # inches: 403 px, so that text stays readable when a phone shows it at 310


class Skip(Exception):  # noqa: N818 - not an error: a reason
    """Why a figure is not drawn."""


@dataclass(frozen=True)
class Chart:
    """One figure of the page.

    Args:
        key: short name, also the prefix of its ids.
        title: for people.
        svg: the picture, or empty when skipped.
        finding: what it shows, in words (also its text alternative), or why it was skipped.
        skipped: whether there is no picture.
    """

    key: str
    title: str
    svg: str
    finding: str
    skipped: bool = False


Painter = Callable[[Diagnosis, str], "tuple[Canvas, str]"]


def why_missing(d: Diagnosis, *keys: str) -> str:
    """The recorded reason for something that is not there."""
    for key in keys:
        if key in d.skipped:
            return d.skipped[key]
    return next(iter(d.skipped.values()), d.verdict.sentence or "it was not computed")


def new_canvas(height: float = 2.45) -> tuple[Canvas, Axes]:
    """A figure of the page's width with one pair of axes."""
    from matplotlib.figure import Figure as New

    canvas = New(figsize=(WIDTH, height), layout="constrained")
    axes = canvas.add_subplot()
    axes.grid(visible=True, color=GRID, linewidth=0.6)
    axes.tick_params(length=0)
    return canvas, axes


def summary(d: Diagnosis, key: str) -> float:
    """A figure of the summary, NaN where it is not there."""
    return d.summary.get(key, float("nan"))


def r_limits(values: np.ndarray) -> tuple[float, float]:
    """Limits of an axis for correlations: from a little below 0, or everything where they are negative."""
    good = values[np.isfinite(values)]
    low = float(good.min()) if good.size else 0.0
    return (-1.0, 1.0) if low < -0.35 else (min(-0.1, low * 1.2), 1.0)
