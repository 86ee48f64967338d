"""A `Comparison` as one self-contained page without any script, and its curves as inline SVG."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from calib import __version__
from calib.errors import UsageError
from calib.report import wording
from calib.report.compare import Comparison, Moved, compare
from calib.report.runs import FIGURES, Run
from calib.report.svg import CALIBRATED, CONSTANT, GRID, INK, PREDICTION, drawing, inline_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = ["ComparisonReport", "Curve", "build_comparison", "comparison_canvases"]

_FOLDER = Path(__file__).parent
_STATUS = {"pass": "Pass", "warn": "Warning", "fail": "Fail"}
_STEP = re.compile(r"(\d+)(?!.*\d)")
_NAMED = 8  # so many names fit under an axis; more are numbered as in the table
_WIDTH = 4.2


@dataclass(frozen=True)
class ComparisonReport:
    """The page and its twin.

    Args:
        html: one self-contained page; its links are relative.
        twin: the same as plain values, schema ``calib/comparison/1``.
        comparison: what both are made from.
    """

    html: str
    twin: dict[str, Any]
    comparison: Comparison


@dataclass(frozen=True)
class Curve:
    """One chart over runs.

    Args:
        key: short name.
        title: for people.
        svg: the picture, or empty when skipped.
        finding: what it shows, in words, or why it was skipped.
    """

    key: str
    title: str
    svg: str
    finding: str


def build_comparison(runs: Sequence[Run], title: str) -> ComparisonReport:
    """Compare runs and render the result. The same input gives the same bytes.

    Args:
        runs: in the order to show them; their links must be relative.
        title: of the page.

    Raises:
        UsageError: fewer than two runs, two of one name, or a link that is not relative.
    """
    comparison = compare(runs, title)
    return ComparisonReport(_page(comparison), comparison.to_json(), comparison)


def _page(c: Comparison) -> str:
    import jinja2
    from markupsafe import Markup

    css = "".join((_FOLDER / name).read_text(encoding="utf-8") for name in ("style.css", "compare.css"))
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )  # fmt: skip
    environment.filters |= {"clip": wording.clipped, "num": wording.number, "corr": wording.correlation}
    return environment.get_template("compare.html.j2").render(
        css=Markup(css),  # noqa: S704 - calib's own files
        policy=policy,
        version=__version__,
        title=c.title,
        c=c,
        status=_STATUS.get(c.status, c.status),
        rows=[_row(number, run, c) for number, run in enumerate(c.runs, 1)],
        curves=[{"curve": curve, "svg": Markup(curve.svg)} for curve in _curves(c)],  # noqa: S704 - serialised by ElementTree
        changes=[_change(change, c) for change in c.changes],
        unit=wording.clipped(c.unit, 28),
    )


def _row(index: int, run: Run, c: Comparison) -> dict[str, Any]:
    figures = run.figures()
    texts = {}
    for figure in FIGURES:
        value = figures[figure.key]
        texts[figure.key] = "not computed" if value is None else _text(value, figure.unit)
    interval = run.interval("r_w")
    mark = ""
    if run.label == c.best.label:
        mark = "best" if not c.best.tied else "smallest error" if c.best.criterion == "mae_used" else "largest r_w"
    elif run.label in c.best.tied:
        mark = "not told apart from it"
    return {
        "number": index,
        "run": run,
        "status": _STATUS.get(run.status, run.status),
        "headline": run.verdict["headline"],
        "link": None if run.link is None else _relative(run.link),
        "figures": texts,
        "interval": None if interval is None else f"{wording.correlation(interval[0])} to {wording.correlation(interval[1])}",
        "mark": mark,
        "why": "" if run.judged else next(iter(run.skips.values()), str(run.verdict["sentence"])),
    }  # fmt: skip


def _text(value: float, unit: str) -> str:
    return wording.number(value) if unit else wording.unitless(value)


_TITLES = {figure.key: figure for figure in FIGURES}


def _change(change: Any, c: Comparison) -> dict[str, Any]:
    return {
        "change": change,
        "state": None if change.state is None else f"from {change.state[0]} to {change.state[1]}",
        "moved": [_moved(moved, c.unit) for moved in change.moved],
    }


def _moved(moved: Moved, unit: str) -> dict[str, Any]:
    figure = _TITLES[moved.figure]
    shown = {name: "not computed" if value is None else _text(value, figure.unit) for name, value in (("before", moved.before), ("after", moved.after))}  # fmt: skip
    interval = ""
    if moved.low is not None and moved.high is not None:
        interval = f"{_text(moved.low, figure.unit)} to {_text(moved.high, figure.unit)}"
    reading = "no difference" if moved.reading == "none" else moved.reading
    title = f"{figure.title}, {wording.clipped(unit, 28)}" if figure.unit else figure.title
    return {"title": title, **shown, "interval": interval, "reading": reading, "how": moved.how, "kind": moved.reading}


def _relative(path: str) -> str:
    if not path or path.startswith(("/", "\\")) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path):
        raise UsageError(
            f"the page links by relative paths only, got {wording.clipped(path)!r}",
            hint="give the path from the page's folder",
        )
    return quote(path.encode("utf-8", "surrogateescape"), safe="/-._~()+,@")


# --- curves -----------------------------------------------------------------------------------------------------

_Painter = Callable[[Comparison, np.ndarray, "Axes"], str]


def _curves(c: Comparison) -> list[Curve]:
    with drawing():
        out = []
        for key, title, paint in _PAINTERS:
            canvas, finding = _draw(c, paint)
            svg = "" if canvas is None else inline_svg(canvas, key, f"{title}. {finding}")
            out.append(Curve(key, title, svg, finding))
        return out


def comparison_canvases(c: Comparison) -> list[tuple[str, Canvas]]:
    """The curves as matplotlib figures by name, for files; call it inside `calib.report.svg.drawing`."""
    drawn = [(key, _draw(c, paint)[0]) for key, _, paint in _PAINTERS]
    return [(key, canvas) for key, canvas in drawn if canvas is not None]


def _draw(c: Comparison, paint: _Painter) -> tuple[Canvas | None, str]:
    from matplotlib.figure import Figure as New

    if sum(run.judged for run in c.runs) < 2:
        return None, "fewer than two runs could be judged"
    if c.differences:
        return None, f"not drawn on one axis: {c.differences[0]}"
    canvas = New(figsize=(_WIDTH, 2.5), layout="constrained")
    axes = canvas.add_subplot()
    axes.grid(visible=True, color=GRID, linewidth=0.6)
    axes.tick_params(length=0)
    x = _axis(c, axes)
    return canvas, paint(c, x, axes)


def _axis(c: Comparison, axes: Axes) -> np.ndarray:
    """Where the runs stand: at the step in their names where all have one and it rises, else one after another."""
    labels = [run.label for run in c.runs]
    found = [_STEP.search(label) for label in labels]
    shapes = {label[: m.start()] + label[m.end() :] for label, m in zip(labels, found, strict=True) if m}
    if all(found) and len(shapes) == 1:
        steps = np.array([float(m.group()) for m in found if m])
        if (np.diff(steps) > 0).all() and steps[-1] < 1e12:
            axes.set_xlabel("step, the number in the run's name")
            return steps
    x = np.arange(1.0, len(labels) + 1)
    short = len(labels) <= _NAMED
    ticks = x if short else x[:: max(1, len(labels) // _NAMED)]
    names = [wording.clipped(labels[int(k) - 1], 200)[:12] if short else f"{int(k)}" for k in ticks]
    axes.set_xticks(ticks, names, rotation=25 if short and max(map(len, names)) > 6 else 0)
    axes.set_xlabel("run" if short else "run, numbered as in the table")
    return x


def _series(c: Comparison, key: str) -> np.ndarray:
    values = [run.figures()[key] for run in c.runs]
    return np.array([np.nan if value is None else value for value in values])


def _ends(c: Comparison, key: str, unit: str) -> str:
    known = [(run.label, value) for run in c.runs if (value := run.figures()[key]) is not None]
    if not known:
        return "not computed"
    (first, a), (last, b) = known[0], known[-1]
    text = wording.number if unit else wording.unitless
    return f"{text(a)}{unit} in {wording.clipped(first, 40)}, {text(b)}{unit} in {wording.clipped(last, 40)}"


def _error(c: Comparison, x: np.ndarray, axes: Axes) -> str:
    constant = _series(c, "mae_constant")
    axes.plot(x, constant, color=CONSTANT, linestyle=(0, (2, 2)), label="best constant")
    axes.plot(x, _series(c, "mae_before"), color=PREDICTION, marker="o", markersize=4, label="as it is")
    after = _series(c, "mae_after")
    axes.plot(x, after, color=CALIBRATED, linestyle=(0, (5, 1.5)), label="after its own fit")
    refused = np.array([not run.writes for run in c.runs])
    axes.plot(x[refused], after[refused], "x", color=INK, markersize=6, label="fit refused")
    axes.set(ylabel=wording.clipped(c.unit, 28))
    axes.set_ylim(bottom=0)
    axes.figure.legend(loc="outside upper left", ncols=2)
    unit = f" {wording.clipped(c.unit, 28)}"
    return f"Mean absolute error as it is: {_ends(c, 'mae_before', unit)}; the best constant {_ends(c, 'mae_constant', unit)}. A fit that ends at the constant has repaired nothing."


def _skill(c: Comparison, x: np.ndarray, axes: Axes) -> str:
    values = _series(c, "skill")
    axes.axhline(0, color=CONSTANT, linestyle=(0, (2, 2)))
    axes.plot(x, values, color=PREDICTION, marker="o", markersize=4)
    good = values[np.isfinite(values)]
    low = float(good.min()) if good.size else 0.0
    axes.set(ylabel="skill (no unit)", ylim=(max(low * 1.1, -1.2) if low < -0.05 else -0.1, 1.0))
    off = f" {int((values < -1.2).sum())} below the picture." if (values < -1.2).any() else ""
    return f"1 less the error over the best constant's, as it would be used: {_ends(c, 'skill', '')}. At 0, the dotted line, it is worth a constant.{off}"


def _relation(c: Comparison, x: np.ndarray, axes: Axes) -> str:
    low, high = (
        np.array([np.nan if (i := run.interval("r_w")) is None else i[side] for run in c.runs]) for side in (0, 1)
    )
    axes.fill_between(x, low, high, color=PREDICTION, alpha=0.2, linewidth=0)
    axes.plot(x, _series(c, "r_w"), color=PREDICTION, marker="o", markersize=4)
    null = [(run.diagnosis.get("null") or {}).get("limit") for run in c.runs if run.judged]
    limits = [float(value) for value in null if value is not None]
    if limits:
        axes.axhline(max(limits), color=CONSTANT, linestyle=(0, (2, 2)))
    values = _series(c, "r_w")
    good = values[np.isfinite(values)]
    axes.set(ylabel="r within bin (no unit)", ylim=(min(-0.1, float(good.min(initial=0)) * 1.1), 1.0))
    null_text = f" Unrelated pairs reach {wording.correlation(max(limits))}, the dotted line." if limits else ""
    return f"Correlation within bin: {_ends(c, 'r_w', '')}. The band is the 95 % interval.{null_text}"


def _liveliness(c: Comparison, x: np.ndarray, axes: Axes) -> str:
    axes.axhline(1, color=CONSTANT, linestyle=(0, (2, 2)))
    axes.plot(x, _series(c, "gv_ratio"), color=PREDICTION, marker="o", markersize=4, label="global variance")
    axes.plot(x, _series(c, "s_w_ratio"), color=CALIBRATED, linestyle=(0, (5, 1.5)), label="sd within bin")
    axes.set(ylabel="ratio to the target (no unit)")
    axes.set_ylim(bottom=0)
    axes.figure.legend(loc="outside upper left", ncols=2)
    return f"Global variance of the prediction over the target's: {_ends(c, 'gv_ratio', '')}. At 1 it is as lively as the target; below it sounds muffled."


_PAINTERS: list[tuple[str, str, _Painter]] = [
    ("error", "Error", _error),
    ("skill", "Skill against the best constant", _skill),
    ("relation", "Correlation within bin", _relation),
    ("liveliness", "Over-smoothing", _liveliness),
]
