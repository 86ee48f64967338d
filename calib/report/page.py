"""The page: a `ReportInput` in, one self-contained HTML file and its JSON twin out."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from calib import __version__
from calib.diagnose.analysis import Diagnosis
from calib.diagnose.causes import percent_sure, which_of, worst_first
from calib.diagnose.faults.evidence import Finding
from calib.diagnose.verdict import Check
from calib.errors import UsageError
from calib.report import wording
from calib.report.inputs import Example, IndexEntry, Report, ReportInput

if TYPE_CHECKING:
    import jinja2
    import pandas as pd

__all__ = ["build_index", "build_report"]

_FOLDER = Path(__file__).parent
_MAX_EXAMPLES = 12
_PIXELS = 640_000  # over all spectrograms of a page: keeps it below 1.5 MB without sound
_MAX_NOTES = 40
_MAX_TEXT = 2_000
_MAX_UNIT = 28
_IDENTITY = (
    "The exact identity was written: nothing needed repair.",
    "The exact identity was written: level and scale need no repair. The findings below do.",
)
_STATUS = {"pass": "Pass", "warn": "Warning", "fail": "Fail"}


def build_report(data: ReportInput) -> Report:
    """Render a diagnosis. The same input gives the same bytes.

    Args:
        data: everything on the page.

    Returns:
        The page and its JSON twin.
    """
    return Report(_render("template.html.j2", _context(data)), _twin(data))


def build_index(entries: Sequence[IndexEntry], title: str) -> str:
    """One page over several reports, side by side; it links to them by relative paths.

    Args:
        entries: the cases, in the order to show them.
        title: of the page.

    Raises:
        UsageError: a path is not relative (a page must not reach into the network).
    """
    cases = []
    for entry in entries:
        paths = {"report": _relative(entry.report) if entry.report else None}
        files = {label: _relative(path) for label, path in entry.files.items()}
        audio = {label: _relative(path) for label, path in entry.audio.items()}
        bars = []
        if entry.mae_before is not None and entry.mae_after is not None and entry.mae_constant is not None:
            after = [("after the fit" + (", refused" if entry.refusal else ""), entry.mae_after, "c")]
            kept = entry.mae_after == entry.mae_before
            bars = _bars(
                [
                    ("as it is", entry.mae_before, "p"),
                    *([] if kept else after),
                    ("best constant", entry.mae_constant, "k"),
                ]
            )
        cases.append(
            {
                "entry": entry,
                "files": files,
                "audio": audio,
                "bars": bars,
                "status": _STATUS.get(entry.status, entry.status),
                **paths,
            }
        )
    return _render("index.html.j2", {"title": title, "cases": cases}, media="'self' file:")


# --- the page ---------------------------------------------------------------------------------------------------


def _render(name: str, context: Mapping[str, Any], media: str = "data:") -> str:
    from markupsafe import Markup

    css, script = (_FOLDER.joinpath(file).read_text(encoding="utf-8") for file in ("style.css", "script.js"))
    policy = f"default-src 'none'; img-src data:; media-src {media}; style-src {_sha(css)}; script-src {_sha(script)}; base-uri 'none'; form-action 'none'"
    own = {"css": Markup(css), "script": Markup(script), "policy": policy, "version": __version__}  # noqa: S704 - calib's own files
    return _environment().get_template(name).render({**own, **context})


def _sha(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )  # fmt: skip
    environment.filters |= {
        "num": wording.number,
        "corr": wording.correlation,
        "visible": wording.visible,
        "clip": wording.clipped,
        "rule": wording.rule,
        "unitless": wording.unitless,
        "commands": wording.commands,
        "pct": wording.percent,
    }
    return environment


def _context(data: ReportInput) -> dict[str, Any]:
    from markupsafe import Markup

    from calib.report import figures, media, tables

    data = dataclasses.replace(data, unit=_short(data.unit))
    d, unit = data.diagnosis, data.unit
    some = bool(d.rows)
    drawn = figures.charts(d, unit)
    shown = data.examples[:_MAX_EXAMPLES]
    notes = [*d.verdict.warnings, *d.notes]
    return {
        "title": data.title,
        "d": d,
        "v": d.verdict,
        "unit": unit,
        "status": _STATUS.get(d.status, d.status),
        "findings": [_finding(finding, d) for finding in worst_first(d.faults)],
        "skips": _skips(d.skipped),
        "outcome": _outcome(data),
        "worth": wording.worth(d, unit) if some else None,
        "bars": _bars(_bar_rows(d)) if some else [],
        "why": figures.why_missing(d, "fits", "metrics"),
        "why_utterances": figures.why_missing(d, "utterances", "metrics"),
        "facts": _facts(data),
        "rules": _rules(d.verdict.checks),
        "notes": notes[:_MAX_NOTES],
        "more_notes": max(len(notes) - _MAX_NOTES, 0),
        "predictors": _records(tables.predictor_frame(d)) if some else [],
        "intervals": _records(tables.interval_frame(d, unit)),
        "figures": _records(tables.figures_frame(d, unit)),
        "utterances": _records(tables.utterance_frame(d)),
        "n_all": len(d.utterances),
        "charts": {key: {"chart": chart, "svg": Markup(chart.svg)} for key, chart in drawn.items()},  # noqa: S704 - serialised by ElementTree
        "examples": [_example(example, data, _PIXELS // (3 * len(shown))) for example in shown],
        "more_examples": len(data.examples) - len(shown),
        "colour_bar": media.colour_bar(),
        "level_match": data.level_match,
        "parameters": _json(data.written) if data.written is not None else None,
        "provenance": _json({"calib": __version__, **data.provenance}),
    }


def _short(unit: str) -> str:
    """A unit that fits an axis."""
    text = wording.visible(unit)
    return text if len(text) <= _MAX_UNIT else text[:_MAX_UNIT] + "…"


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _json(value: Any) -> str:
    return wording.visible(json.dumps(wording.finite(value), indent=2, ensure_ascii=False, allow_nan=False), keep="\n")


def _outcome(data: ReportInput) -> dict[str, str]:
    """What became of the parameter file: one short line and one that explains it."""
    v = data.diagnosis.verdict
    if data.written is not None and v.refusal:
        return {
            "line": "A parameter file was written by force, against this verdict.",
            "more": v.refusal[:1].upper() + v.refusal[1:] + ".",
        }
    if v.refusal:
        return {"line": "Nothing was repaired. No parameter file was written.", "more": ""}
    if data.written is not None:
        identity = data.diagnosis.method == "identity"
        return {
            "line": _IDENTITY[bool(data.diagnosis.faults)] if identity else "A parameter file was written.",
            "more": "",
        }
    return {
        "line": "No parameter file was written by this report.",
        "more": "This verdict allows one: calib fit-scaler PAIRS.",
    }


def _finding(finding: Finding, d: Diagnosis) -> dict[str, Any]:
    entry = finding.entry
    sentence = f"{entry.title}: {finding.detail}" if finding.detail else entry.title
    return {
        "status": entry.severity,
        "chip": _STATUS[entry.severity],
        "title": f"The prediction is {sentence}",
        "sure": percent_sure(finding),
        "evidence": finding.evidence,
        "cause": entry.cause,
        "step": entry.next_step,
        "command": entry.command,
        "others": finding.others,
        "apart": d.skipped.get(which_of(finding)),
    }


def _skips(skipped: Mapping[str, str]) -> list[tuple[str, str]]:
    """What was skipped, together where the reason is the same."""
    by_reason: dict[str, list[str]] = {}
    for what, reason in skipped.items():
        by_reason.setdefault(reason, []).append(what)
    return [(", ".join(what), reason) for reason, what in by_reason.items()]


def _rules(checks: Sequence[Check]) -> list[tuple[Check, bool]]:
    """The rules without repetition, and whether each is one of those that decided: the last ones that hold together."""
    kept = list(dict.fromkeys(reversed(checks)))[::-1]
    start = len(kept)
    while start and kept[start - 1].holds:
        start -= 1
    if start == len(kept):  # the last one failed, and that decided
        start -= 1
    return [(check, row >= start) for row, check in enumerate(kept)]


def _bar_rows(d: Diagnosis) -> list[tuple[str, float, str]]:
    rows = [("as it is", d.row("before").mae, "p")]
    if d.method != "identity":
        title = wording.fit_title(d.after) + ("" if d.verdict.writes else ", refused")
        rows.append((title, d.after.mae, "c"))
    return rows + [(row.title, row.mae, "k") for row in d.rows if row.name in wording.CONSTANTS]


def _bars(rows: list[tuple[str, float, str]]) -> list[dict[str, Any]]:
    """Bars to one scale; ``mark`` is where the best constant (kind ``k``) ends, in per cent of the width."""
    top = max((value for _, value, _ in rows if np.isfinite(value)), default=0.0) or 1.0
    best = min((value for _, value, kind in rows if kind == "k"), default=0.0)
    return [
        {
            "title": title,
            "value": value,
            "kind": kind,
            "width": f"{100 * value / top if np.isfinite(value) else 0:.2f}",
            "mark": f"{100 * best / top:.2f}",
        }
        for title, value, kind in rows
    ]


def _facts(data: ReportInput) -> list[tuple[str, str]]:
    d = data.diagnosis
    utterances = f"{d.n_utterances:,} utterance{'' if d.n_utterances == 1 else 's'}"
    space = "normalised, denormalised before judging" if d.output_space == "normalized" else "as stored (raw)"
    return [
        ("judged on", f"{utterances}, {wording.duration(d.n_frames, data.hop_seconds)}, {d.n_mels} mel bins"),
        ("unit", data.unit),
        ("predictions taken as", space),
        (
            "kind of model",
            {"mean": "conditional mean (declared)", "sample": "sample-like (declared)"}.get(
                d.kind or "", "sample-like (its spread is the target's)" if d.sample_like else "not declared"
            ),
        ),
        (
            "normalised space",
            f"mean {wording.number(d.mel_mean)}, sd {wording.number(d.mel_std)} {data.unit}, from {wording.clipped(d.stats_origin)}",
        ),
        ("out of sample", d.folds or f"skipped: {_why(d)}"),
        ("intervals", d.resampling or f"skipped: {_why(d)}"),
    ]


def _why(d: Diagnosis) -> str:
    return next(iter(d.skipped.values()), d.verdict.sentence)


# --- examples ---------------------------------------------------------------------------------------------------


def _example(example: Example, data: ReportInput, pixels: int) -> dict[str, Any]:
    from calib.report import media

    own = next((u for u in data.diagnosis.utterances if u.name == example.name), None)
    scale = media.common_scale(example.target)
    mels = []
    fitted = "calibrated" if data.diagnosis.verdict.writes else "after the refused fit"
    for title, mel in (("target", example.target), ("prediction", example.prediction), (fitted, example.calibrated)):
        if scale is None or mel.ndim != 2 or not mel.size:
            continue
        mels.append(
            {
                "title": title,
                "url": media.mel_image(mel, scale, pixels),
                "finding": _mel_finding(mel, scale, data.unit),
                "alt": f"{title} spectrogram",
            }
        )
    tag = wording.language_tag(example.language)
    text = example.text[:_MAX_TEXT]
    if len(example.text) > _MAX_TEXT:
        text += f"… ({len(example.text):,} characters, {_MAX_TEXT:,} are shown)"
    return {
        "name": example.name,
        "role": example.role,
        "text": wording.visible(text, keep="\n\t"),
        "lang": tag,
        "dir": wording.direction(example.language),
        "own": own,
        "scale": scale,
        "mels": mels,
        "axis": _time_axis(example.target.shape[0], data.hop_seconds),
        "band": _band(example.target.shape[-1] if example.target.ndim == 2 else 0, data.fmin, data.fmax),
        "sounds": media.sounds(example.audio, level_match=data.level_match),
        "notes": example.notes,
        "after": "as it is (identity)" if data.diagnosis.method == "identity" else "after the fit",
    }


def _mel_finding(mel: np.ndarray, scale: Any, unit: str) -> str:
    good = mel[np.isfinite(mel)]
    if not good.size:
        return "no finite value"
    text = f"mean {wording.number(float(good.mean(dtype=np.float64)))}, sd {wording.number(float(good.std(dtype=np.float64)))} {unit}"
    below, above = scale.outside(mel)
    outside = [
        f"{wording.percent(share)} of it lies {side} the colour scale"
        for share, side in ((below, "below"), (above, "above"))
        if share >= 0.02
    ]
    broken = [f"{mel.size - good.size:,} values are not finite"] if good.size < mel.size else []
    return "; ".join([text, *outside, *broken])


def _time_axis(frames: int, hop: float | None) -> list[str]:
    if not hop:
        return ["0", f"{frames // 2:,}", f"{frames:,} frames"]
    return ["0 s", f"{frames * hop / 2:.2f} s", f"{frames * hop:.2f} s"]


def _band(n_mels: int, fmin: float | None, fmax: float | None) -> str:
    edge = f", {wording.number(fmin or 0.0)} to {wording.number(fmax)} Hz" if fmax else ""
    return f"{n_mels} mel bins{edge}, low at the bottom"


# --- twin and paths ---------------------------------------------------------------------------------------------


def _twin(data: ReportInput) -> dict[str, Any]:
    examples = [
        {
            "name": e.name,
            "role": e.role,
            "text": e.text,
            "language": e.language,
            "audio": sorted(e.audio),
            "notes": list(e.notes),
        }
        for e in data.examples
    ]
    plain = {
        "schema": "calib/report/1",
        "title": data.title,
        "unit": data.unit,
        "hop_seconds": data.hop_seconds,
        "written": data.written,
        "diagnosis": data.diagnosis.to_json(),
        "examples": examples,
        "provenance": data.provenance,
    }
    out: dict[str, Any] = wording.finite(plain)
    return out


def _relative(path: str) -> str:
    if not path or path.startswith(("/", "\\")) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path):
        raise UsageError(
            f"the index links by relative paths only, got {path!r}", hint="give the path from the index page's folder"
        )
    return quote(path.replace("\\", "/"), safe="/-._~()+,@ ").replace(" ", "%20")
