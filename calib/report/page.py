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

from calib import __version__
from calib.diagnose.analysis import Diagnosis
from calib.errors import UsageError
from calib.report import headline, legpicture, utterances, wording
from calib.report.inputs import IndexEntry, Report, ReportInput, Setting
from calib.report.margins import Margins, margins

if TYPE_CHECKING:
    import jinja2
    import pandas as pd

__all__ = ["build_index", "build_report"]

_FOLDER = Path(__file__).parent
_MAX_EXAMPLES = 12
_MAX_NOTES = 40
_MAX_UNIT = 28
_STYLES, _SCRIPTS = ("style.css", "tables.css"), ("script.js", "tables.js")


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
            bars = headline.bars(
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
                "status": headline.STATUS.get(entry.status, entry.status),
                **paths,
            }
        )
    return _render(
        "index.html.j2", {"title": title, "cases": cases}, media="'self' file:", styles=(*_STYLES, "index.css")
    )


# --- the page ---------------------------------------------------------------------------------------------------


def _render(name: str, context: Mapping[str, Any], media: str = "data:", styles: Sequence[str] = _STYLES) -> str:
    from markupsafe import Markup

    css, script = (
        "".join(_FOLDER.joinpath(file).read_text(encoding="utf-8") for file in files) for files in (styles, _SCRIPTS)
    )
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
        "times": wording.times,
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
    sure = margins(d)
    full, cut = utterances.examples(data, shown)
    listed = utterances.table(data, shown)
    return {
        "title": data.title,
        "d": d,
        "v": d.verdict,
        "unit": unit,
        "status": headline.STATUS.get(d.status, d.status),
        "counts": headline.counts(d),
        "findings": headline.findings(d, _first(data)),
        "skips": headline.skips(d.skipped),
        "outcome": headline.outcome(data),
        "worth": wording.worth(d, unit) if some else None,
        "bars": headline.bars(headline.bar_rows(d)) if some else [],
        "look": utterances.look(data, shown) if some else None,
        "why": figures.why_missing(d, "fits", "metrics"),
        "why_utterances": figures.why_missing(d, "utterances", "metrics"),
        "facts": _facts(data),
        "rules": headline.rules(d.verdict.checks) if d.verdict.checks else [],
        "notes": notes[:_MAX_NOTES],
        "more_notes": max(len(notes) - _MAX_NOTES, 0),
        "predictors": _predictors(d, sure if isinstance(sure, Margins) else None) if some else [],
        "sure": sure if isinstance(sure, Margins) else None,
        "unsure": sure if isinstance(sure, str) else None,
        "intervals": _records(tables.interval_frame(d, unit)),
        "figures": _records(tables.figures_frame(d, unit)),
        "skills": _records(tables.skill_frame(d)),
        "bands": _records(tables.band_frame(d)),
        "fits": _records(tables.fit_frame(d)),
        "legs": legpicture.leg_picture(d, data.legs, data.legs_skipped),
        "charts": {key: {"chart": chart, "svg": Markup(chart.svg)} for key, chart in drawn.items()},  # noqa: S704 - serialised by ElementTree
        "examples": full,
        "cut": cut,
        "more_examples": len(data.examples) - len(shown),
        "n": d.n_utterances,
        "all": {**listed, "json": Markup(listed["json"])},  # noqa: S704 - escaped where it is made
        "colour_bar": media.colour_bar(),
        "level_match": data.level_match,
        "parameters": _json(data.written) if data.written is not None else None,
        "settings": _settings(data.settings),
        "provenance": _json({"calib": __version__, **data.provenance}),
    }


def _first(data: ReportInput) -> tuple[str, ...]:
    """Steps before the diagnosis's own."""
    return () if data.legs is None else data.legs.next_steps


def _predictors(d: Diagnosis, sure: Margins | None) -> list[dict[str, Any]]:
    from calib.report import tables

    own = {} if sure is None else {d.best_constant.name: sure.constant, d.after.name: sure.after, "before": sure.before}
    return [{**row, "margin": own.get(row["name"])} for row in _records(tables.predictor_frame(d))]


def _settings(settings: Sequence[Setting]) -> list[dict[str, Any]]:
    """What was changed first; values for people."""

    def plain(value: Any) -> str:
        return "none" if value is None else wording.clipped(value, 80)

    rows = sorted(settings, key=lambda setting: not setting.changed)
    return [
        {
            "group": each.group,
            "name": each.name,
            "value": plain(each.value),
            "default": plain(each.default),
            "changed": each.changed,
        }
        for each in rows
    ]


def _short(unit: str) -> str:
    """A unit that fits an axis."""
    text = wording.visible(unit)
    return text if len(text) <= _MAX_UNIT else text[:_MAX_UNIT] + "…"


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _json(value: Any) -> str:
    return wording.visible(json.dumps(wording.finite(value), indent=2, ensure_ascii=False, allow_nan=False), keep="\n")


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
    sure = margins(data.diagnosis)
    plain = {
        "schema": "calib/report/1",
        "title": data.title,
        "unit": data.unit,
        "hop_seconds": data.hop_seconds,
        "written": data.written,
        "diagnosis": data.diagnosis.to_json(first=_first(data)),
        "examples": examples,
        "margins": dataclasses.asdict(sure) if isinstance(sure, Margins) else {"skipped": sure},
        "legs": {"skipped": data.legs_skipped} if data.legs is None else data.legs.to_json(),
        "settings": [setting.to_json() for setting in data.settings],
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
