"""A `Diagnosis` as a fragment of HTML for Jupyter: verdict, errors beside the constants, findings, next steps.

No script, nothing from the network; the style holds within the fragment and takes the notebook's own colours.
"""

from __future__ import annotations

import html
import math
import unicodedata
from typing import TYPE_CHECKING

from calib.diagnose.causes import next_steps, percent_sure, worst_first

if TYPE_CHECKING:
    from calib.diagnose.diagnosis import Diagnosis, Row

__all__ = ["fragment"]

_MOST = 5  # findings, steps
_COLOURS = {"pass": "#17683a", "warn": "#7d5200", "fail": "#b3261e"}
_STYLE = (
    ".calib-d{max-width:56em;font:14px/1.45 system-ui,sans-serif;border:1px solid #8886;border-left:5px solid var(--s);border-radius:6px;padding:10px 14px}"
    ".calib-d h4{margin:0 0 4px;font-size:17px}.calib-d p{margin:4px 0}.calib-d ul{margin:4px 0;padding-left:1.3em}"
    ".calib-d b.s{background:var(--s);color:#fff;border-radius:3px;padding:1px 7px;margin-right:6px}"
    ".calib-d table{border-collapse:collapse;margin:6px 0}.calib-d td,.calib-d th{text-align:left;padding:2px 12px 2px 0;font-weight:400;border:0;background:none}"
    ".calib-d td.n{text-align:right;font-variant-numeric:tabular-nums}.calib-d small{opacity:.75}"
)


def fragment(d: Diagnosis) -> str:
    """What a notebook shows for a diagnosis."""
    v, status = d.verdict, d.status
    out = [
        f'<div class="calib-d" style="--s:{_COLOURS.get(status, _COLOURS["warn"])}"><style>{_STYLE}</style>',
        f'<h4><b class="s">{_text(status)}</b>{_text(v.headline)}</h4><p>{_text(v.sentence)}.</p>',
    ]
    if v.refusal:
        out.append(f"<p><b>{_text(v.refusal)}.</b></p>")
    out.append(_errors(d) if d.rows else f"<p>skipped: {_text(next(iter(d.skipped.values()), v.sentence))}</p>")
    found = worst_first(d.faults)
    if found:
        items = "".join(
            f"<li>{_text(f.sentence)} <small>(confidence {percent_sure(f)})</small></li>" for f in found[:_MOST]
        )
        more = f"<li>and {len(found) - _MOST} more in <code>.faults</code></li>" if len(found) > _MOST else ""
        out.append(f"<p>Findings</p><ul>{items}{more}</ul>")
    steps = next_steps(d)[:_MOST]
    if steps:
        out.append("<p>Next</p><ul>" + "".join(f"<li>{_text(step)}</li>" for step in steps) + "</ul>")
    r_w = d.intervals.get("r_w")
    interval = (
        f", r within bin {_number(d.summary['r_w'])} (95 % {_number(r_w.low)} to {_number(r_w.high)})" if r_w else ""
    )
    out.append(
        f"<small>{d.n_utterances:,} utterances, {d.n_frames:,} frames, {d.n_mels} mel bins{interval}</small></div>"
    )
    return "".join(out)


def _errors(d: Diagnosis) -> str:
    rows: list[tuple[Row, str, str]] = [(d.row("before"), "as it is", "#c2550a")]
    if d.method != "identity":
        refused = "" if d.verdict.writes else ", refused"
        rows.append((d.after, f"{d.after.title.split(': ', 1)[0]}{refused}", "#0c8070"))
    rows += [(row, row.title, "#737b87") for row in d.rows if row.name in {"global_mean", "bin_mean"}]
    top = max((row.mae for row, *_ in rows if math.isfinite(row.mae)), default=0.0) or 1.0
    lines = "".join(
        f'<tr><th scope="row">{_text(title)}</th><td><svg width="160" height="11" aria-hidden="true"><rect width="{160 * min(row.mae / top, 1.0) if math.isfinite(row.mae) else 0:.1f}" height="11" rx="2" fill="{colour}"/></svg></td>'
        f'<td class="n">{_number(row.mae)}</td></tr>'
        for row, title, colour in rows
    )
    return f"<p>Mean absolute error out of sample, in the unit of the mels</p><table>{lines}</table>"


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "not finite"


def _text(value: object, limit: int = 400) -> str:
    """Any text as text: nothing hidden, nothing that is markup, not longer than people read."""
    text = str(value)
    text = text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"
    shown = "".join(
        f"\\u{ord(c):04x}"
        if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}
        or c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
        else c
        for c in text
    )
    return html.escape(shown)
