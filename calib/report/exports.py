"""A diagnosis outside the page: a Markdown summary for a comment, and every figure as PNG and SVG files.

Conventions:
    Whatever is not calib's own wording (ids, titles, file names) stands in a code span, where Markdown, HTML, mentions
    and links are text. Files are the same bytes for the same diagnosis: no date, no random ids, one font.
"""

from __future__ import annotations

import contextlib
import html
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calib.data.files import atomic_writer
from calib.diagnose.analysis import Diagnosis
from calib.diagnose.causes import next_steps, percent_sure, worst_first
from calib.report.compare import Comparison
from calib.report.runs import FIGURES
from calib.report.svg import CALIBRATED, CONSTANT, GRID, INK, PREDICTION, TARGET, drawing
from calib.report.wording import clipped, commands, correlation, number, unitless, visible

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure as Canvas

__all__ = ["code", "comparison_markdown", "diagnosis_markdown", "plain", "write_comparison_figures", "write_figures"]

_STATUS = {"pass": "✅ Pass", "warn": "⚠️ Warning", "fail": "❌ Fail"}
_MAX_FINDINGS, _MAX_STEPS, _MAX_WORST = 6, 4, 3
_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")
_LEADING = re.compile(
    r"^(\s*)([#+>=-]|\d+(?=[.)]))"
)  # what makes a heading, a list or a quotation at the start of a line
_INK = {INK: "#1b1f24", TARGET: "#2563ab", PREDICTION: "#c2550a", CALIBRATED: "#0c8070", CONSTANT: "#737b87", GRID: "#d9dde3"}  # fmt: skip
_DPI = 144
_FIGURES = {figure.key: figure.title for figure in FIGURES}


# --- Markdown ---------------------------------------------------------------------------------------------------


def code(text: object, limit: int = 80) -> str:
    r"""Any text as a code span that it cannot leave, also inside a table.

    >>> code("a`b|c")
    '``a`b\\|c``'
    """
    shown = clipped(text, limit).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if not shown.strip() or shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{pad}{shown or ' '}{pad}{fence}"


def plain(text: object, limit: int = 400) -> str:
    r"""Any text as text: no Markdown, no HTML, no mention.

    >>> plain("<b>*x*</b> @all")
    '&lt;b&gt;\\*x\\*&lt;/b&gt; @\u2060all'
    """
    escaped = html.escape(_SPECIAL.sub(r"\\\1", clipped(text, limit)), quote=False)
    escaped = _LEADING.sub(lambda m: f"{m[1]}{m[2]}\\" if m[2].isdigit() else f"{m[1]}\\{m[2]}", escaped)
    return escaped.replace("@", "@\u2060").replace("://", ":\u2060//").replace("www.", "www\u2060.")


def diagnosis_markdown(
    d: Diagnosis, unit: str, title: str, *, report: str | None = None, first: Sequence[str] = ()
) -> str:
    """Verdict, table, findings and next commands.

    Args:
        d: the diagnosis.
        unit: of the mel.
        title: of what was judged.
        report: where the whole report is, or None.
        first: steps before the diagnosis's own: those of the legs.
    """
    v = d.verdict
    out = [
        f"### {_STATUS.get(d.status, plain(d.status))}: {plain(v.headline)}",
        "",
        f"{code(title)}: {plain(v.sentence)}.",
    ]
    if v.refusal:
        out += ["", f"**{plain(v.refusal)}.**"]
    out += ["", *_table(d, unit)] if d.rows else ["", f"skipped: {plain(next(iter(d.skipped.values()), v.sentence))}"]
    if d.faults:
        out += ["", "**Findings**", ""]
        found = worst_first(d.faults)
        out += [
            f"- **{f.entry.severity}**: {plain(f.sentence)} (confidence {percent_sure(f)})"
            for f in found[:_MAX_FINDINGS]
        ]
        out += [f"- and {len(found) - _MAX_FINDINGS} more, in the report"] if len(found) > _MAX_FINDINGS else []
    worst = sorted(d.utterances, key=lambda u: (-u.mae_after, u.name))[:_MAX_WORST]
    if worst:
        listing = ", ".join(f"{code(u.name)} ({number(u.mae_after)} {plain(unit, 28)})" for u in worst)
        out += ["", f"Worst utterances: {listing}"]
    out += [
        "",
        "**Next**",
        "",
        *(f"{k}. {_step(step)}" for k, step in enumerate(next_steps(d, first=first)[:_MAX_STEPS], 1)),
    ]
    out += ["", f"Report: {code(report, 200)}"] if report else []
    return "\n".join(out) + "\n"


def _table(d: Diagnosis, unit: str) -> list[str]:
    r_w = d.intervals.get("r_w")
    within = correlation(d.summary.get("r_w"))
    if r_w is not None:
        within += f" (95 % {correlation(r_w.low)} to {correlation(r_w.high)})"
    rows = [d.row("before")]
    rows += [d.after] if d.method != "identity" else []
    rows += [row for row in d.rows if row.name in {"global_mean", "bin_mean"}]
    refused = "" if d.verdict.writes else " (refused)"
    lines = [f"| Predictor, out of sample | MAE, {plain(unit, 28)} | RMSE, {plain(unit, 28)} |", "|---|--:|--:|"]
    for row in rows:
        mark = refused if row is d.after and d.method != "identity" else ""
        lines.append(f"| {plain(row.title, 100)}{mark} | {number(row.mae)} | {number(row.rmse)} |")
    facts = f"{d.n_utterances:,} utterances, {d.n_frames:,} frames, {d.n_mels} bins; r within bin {within}; sd ratio within bin {unitless(d.summary.get('s_w_ratio'))}"
    return [*lines, "", f"{facts}."]


def _step(step: str) -> str:
    return "".join(code(part, 300) if is_code else plain(part) for is_code, part in commands(step))


def comparison_markdown(c: Comparison, *, report: str | None = None) -> str:
    """Which run is best, the table of runs, what changed."""
    out = [f"### {_STATUS.get(c.status, plain(c.status))}: {plain(c.best.sentence)}", ""]
    out += [f"- {plain(text)}" for text in (*c.best.reasons, *c.best.cautions, *c.differences[1:], *c.remarks)]
    out += ["", f"| Run | Verdict | MAE as it is, {plain(c.unit, 28)} | after its own fit | best constant | r within bin | global variance ratio |", "|---|---|--:|--:|--:|--:|--:|"]  # fmt: skip
    for run in c.runs:
        f = run.figures()
        after = _maybe(f["mae_after"], number) + ("" if run.writes or not run.judged else " (refused)")
        cells = [code(run.label, 60), plain(run.verdict["headline"], 100), _maybe(f["mae_before"], number), after, _maybe(f["mae_constant"], number), _maybe(f["r_w"], unitless), _maybe(f["gv_ratio"], unitless)]  # fmt: skip
        out.append("| " + " | ".join(cells) + " |")
    out.append("")
    for change in c.changes:
        said = [] if change.state is None else [f"from {change.state[0]} to {change.state[1]}"]
        said += [f"new: {title}" for title in change.came] + [f"gone: {title}" for title in change.went]
        said += [
            f"{moved.reading}: {_FIGURES[moved.figure]}"
            for moved in change.moved
            if moved.reading in {"better", "worse"}
        ]
        if change.skipped:
            said.append(f"figures skipped: {change.skipped}")
        out.append(
            f"- {code(change.first, 60)} to {code(change.second, 60)}: {plain('; '.join(said) or 'no difference')}"
        )
    out += ["", f"Report: {code(report, 200)}"] if report else []
    return "\n".join(out) + "\n"


def _maybe(value: float | None, text: Any) -> str:
    return "not computed" if value is None else str(text(value))


# --- figures ----------------------------------------------------------------------------------------------------


def write_figures(d: Diagnosis, unit: str, folder: Path, *, force: bool = False) -> tuple[list[Path], dict[str, str]]:
    """Every chart of the report as ``KEY.png`` and ``KEY.svg``.

    Args:
        d: the diagnosis.
        unit: of the mel.
        folder: made if need be.
        force: overwrite.

    Returns:
        The files, and the reason for each chart that has none.

    Raises:
        UsageError: a file exists and ``force`` is false.
        DataError: a file cannot be written.
    """
    from calib.report.canvas import Skip
    from calib.report.figures import painters

    unit = visible(unit)[:28]
    canvases: list[tuple[str, Canvas]] = []
    skipped: dict[str, str] = {}
    with _printed():
        for key, _, paint in painters():
            try:
                canvases.append((key, paint(d, unit)[0]))
            except Skip as why:
                skipped[key] = str(why)
        return _save(canvases, folder, force=force), skipped


def write_comparison_figures(c: Comparison, folder: Path, *, force: bool = False) -> list[Path]:
    """Every curve of a comparison as ``KEY.png`` and ``KEY.svg``; as `write_figures`."""
    from calib.report.compare_page import comparison_canvases

    with _printed():
        return _save(comparison_canvases(c), folder, force=force)


@contextlib.contextmanager
def _printed() -> Iterator[None]:
    """The page's own settings, with letters as paths: a file has no page around it that brings a font."""
    import matplotlib as mpl

    with drawing():
        mpl.rcParams.update({"svg.fonttype": "path", "figure.dpi": _DPI, "savefig.dpi": _DPI})
        yield


def _save(canvases: Sequence[tuple[str, Canvas]], folder: Path, *, force: bool) -> list[Path]:
    out = []
    for key, canvas in canvases:
        _ink(canvas)
        for suffix, nothing in (("png", ("Software",)), ("svg", ("Date", "Creator", "Format", "Type"))):
            data = io.BytesIO()
            canvas.savefig(data, format=suffix, facecolor="white", metadata=dict.fromkeys(nothing))
            path = folder / f"{key}.{suffix}"
            with atomic_writer(path, force=force) as file:
                file.write(data.getvalue())
            out.append(path)
    return out


def _ink(canvas: Canvas) -> None:
    """The sentinel colours, which the page turns into its own, as colours on white."""
    from matplotlib.colors import to_hex, to_rgba

    wanted = {to_hex(key): value for key, value in _INK.items()}

    def recolour(artist: Artist, name: str) -> None:
        getter, setter = getattr(artist, f"get_{name}", None), getattr(artist, f"set_{name}", None)
        if getter is None or setter is None:
            return
        import numpy as np

        try:
            colours = np.atleast_2d(np.asarray([to_rgba(c) for c in _listed(getter())]))
        except (TypeError, ValueError):
            return
        if not colours.size:
            return
        new = [(*to_rgba(wanted[to_hex(c)])[:3], c[3]) if to_hex(c) in wanted else tuple(c) for c in colours]
        if colours[:, 3].any() and any(to_hex(c) in wanted for c in colours):  # transparent: stays as it is
            setter(new if len(new) > 1 else new[0])

    for artist in canvas.findobj():
        for name in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            recolour(artist, name)


def _listed(value: Any) -> list[Any]:
    """One colour or several as a list."""
    import numpy as np

    if isinstance(value, str) or (isinstance(value, tuple) and value and isinstance(value[0], (int, float))):
        return [value]
    array = np.asarray(value)
    return [value] if array.ndim == 1 and array.dtype.kind == "f" else list(value)
