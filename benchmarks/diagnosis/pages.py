"""Figures to a page that people read: RESULTS.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.diagnosis.inject import INJECTORS
from benchmarks.diagnosis.summary import EVIDENCE
from calib.diagnose.faults.library import FAULTS

__all__ = ["page"]

_LOW = 0.5  # a fault and severity named less often than this is listed as failing
_BREAKDOWNS = ("r", "utterances", "severity", "kind", "autoregressive", "declared", "side", "model", "corpus")

Figures = Mapping[str, Any]


def page(results: Figures) -> str:
    """The whole page, Markdown."""
    versions = ", ".join(f"{name} {value}" for name, value in results["versions"].items())
    lines = [
        "# Injected faults: what the diagnosis names",
        "",
        (
            f"Made by `{results['command']}` in {results['seconds'] / 60:.1f} minutes on {results['jobs']} processes; seed "
            f"{results['seed']}, scale {results['scale']:g}; {versions}. Every figure is in `results.json`."
        ),
        "",
        (
            "Faults of known name and size are put into predictions of simulated models of known quality (r, within bin) and "
            "of the reference model's checkpoints. An answer is right if it names the fault and nothing that the library does "
            "not declare as confounded with it under that evidence. *Pairs*: the arrays alone; *audio*: the audio and the "
            "target's front end too. Shares stand with their counts and 95 % Wilson intervals."
        ),
    ]
    if results["note"]:
        lines += ["", f"**{results['note']}**"]
    for which, title in (("report", "Report: corpora that nothing was tuned on"), ("dev", "Development corpora")):
        if which in results["sets"]:
            lines += ["", f"## {title} ({', '.join(results['corpora'][which])})", ""]
            lines += _set(results["sets"][which])
    return "\n".join([*lines, "", *_severities()]) + "\n"


def _set(s: Figures) -> list[str]:
    """One set of corpora."""
    lines = [f"{s['cases']} cases, {s['rows']} diagnoses: {_plain(s['cases_by_group'])}.", "", *_headline(s)]
    lines += ["", *_states(s), "", "### Where the fault is named", ""]
    for key in _BREAKDOWNS:
        lines += [*_breakdown(key, {e: s["named"][e][key] for e in EVIDENCE}), ""]
    lines += ["### Faults, and what is said instead", "", *_faults(s), "", *_failing(s), "", "### False alarms", ""]
    for key in ("r", "kind", "autoregressive", "utterances"):
        lines += [*_breakdown(key, {e: s["false_alarms"][e][key] for e in EVIDENCE}), ""]
    lines += ["The many healthy models of 16 utterances:", ""]
    lines += [*_breakdown("r", {e: s["false_alarms"][e]["many_r"] for e in EVIDENCE}), ""]
    for e in EVIDENCE:
        lines.append(f"- said of healthy models ({e}): {_plain(s['false_alarms'][e]['said']) or 'nothing'}")
        lines.append(f"- said of the many ({e}): {_plain(s['false_alarms'][e]['many_said']) or 'nothing'}")
    lines += ["", "### Where *unknown* is right", ""]
    for group in ("left_out", "unlisted"):
        lines += [f"- {group.replace('_', ' ')} ({e}): {_plain(s[group][e]['said'])}" for e in EVIDENCE]
    lines += [
        "",
        *_unlisted(s),
        "",
        "### Two faults at once",
        "",
        *_pairs(s),
        "",
        "### Confidence",
        "",
        *_reliability(s),
    ]
    lines += ["", "### Calibrators, on fresh utterances", "", *_calibrators(s)]
    if s["errors"]:
        lines += ["", f"Diagnoses that raised, counted as wrong: {_plain(s['errors'])}."]
    seconds = s["seconds"]
    return [
        *lines,
        "",
        f"A diagnosis took {seconds['diagnosis_median']:.2f} s (median), {seconds['diagnosis_p95']:.2f} s (95th percentile).",
    ]


def _headline(s: Figures) -> list[str]:
    def of(title: str, part: str, *path: str) -> tuple[str, ...]:
        cells = []
        for e in EVIDENCE:
            figure = s[part][e]
            for name in path:
                figure = figure[name]
            cells.append(_share(figure))
        return (title, *cells)

    head = s["headline"]
    return _table(
        ("figure", *EVIDENCE),
        [
            ("macro-F1, 16 utterances or more, r ≥ .5 or trained", *(_macro(head[e]) for e in EVIDENCE)),
            of("fault named", "headline", "named"),
            of("fault named with the highest confidence", "headline", "named_first"),
            of("fault named, and nothing else", "headline", "named_alone"),
            of("healthy model: false alarm, the same cells", "false_alarms", "headline"),
            of("... with many more of them", "false_alarms", "many"),
            of("healthy model: false alarm, all cells", "false_alarms", "all"),
            of("healthy model: false alarm, 8 kHz recordings", "false_alarms", "narrow_band"),
            of("two faults: both named", "pairs_of_faults", "both"),
            of("two faults: one or both named", "pairs_of_faults", "one_or_both"),
            of("two faults: something else named too", "pairs_of_faults", "something_else_too"),
            of("fault not in the library: *unknown* is the first word", "left_out", "unknown"),
            of(
                "... or in the set that is named (a fitted map, or nothing related)",
                "left_out",
                "unknown_or_description",
            ),
            of("... or a declared sibling or part of the fault", "left_out", "or_sibling"),
            of("unlisted distortion: *unknown*", "unlisted", "unknown"),
            ("confidence: expected calibration error", *(_ece(s["confidence"][e]) for e in EVIDENCE)),
        ],
    )


def _states(s: Figures) -> list[str]:
    dead, fix = s["nothing_there"], s["fixable"]
    rows = [
        ("collapsed: state *collapsed*", _share(dead["collapsed"])),
        ("... where there are the 300 frames that a verdict needs", _share(dead["collapsed_enough"])),
        ("text ignored, untrained, foreign pairs: state *no-signal* or *collapsed*", _share(dead["no_signal"])),
        ("... where there are the 300 frames that a verdict needs", _share(dead["no_signal_enough"])),
        ("of all these: a parameter file would be written", _share(dead["written"])),
        ("state *fixable*: a global map really repairs it (precision)", _share(fix["precision"])),
        ("a global map repairs it: state *fixable* or *partly* (recall)", _share(fix["recall"])),
        ("... of models of r .9 and more", _share(fix["recall_r_90"])),
    ]
    lines = ["### States", "", *_table(("figure", "share"), rows), ""]
    lines.append(f"Said to be fixable, and not repaired on fresh utterances: {_pairs_of(fix['wrongly']) or 'none'}.")
    lines.append(f"Repairable, and not said to be: {_pairs_of(fix['missed']) or 'none'}.")
    return lines


def _breakdown(title: str, parts: Mapping[str, Figures]) -> list[str]:
    keys = list(dict.fromkeys(key for part in parts.values() for key in part))
    rows = [(f"{key}", *(_share(parts[e].get(key)) for e in parts)) for key in keys]
    return _table((title, *parts), rows)


def _faults(s: Figures) -> list[str]:
    rows = []
    for fault in INJECTORS:
        cells = []
        for e in EVIDENCE:
            entry = s["headline"][e]["per_fault"].get(fault)
            said = {k: v for k, v in s["confusion"][e].get(fault, {}).items() if k != fault}
            f1 = f"{entry['f1']:.2f}" if entry else "–"
            cells += [f1, _counts(entry["recall"]) if entry else "–", _plain(said, 6)]
        rows.append((fault, *cells))
    header = [f"{e}: {what}" for e in EVIDENCE for what in ("F1", "named", "else")]
    return _table(("fault", *header), rows)


def _failing(s: Figures) -> list[str]:
    """Cells of the headline that are named less than half of the time."""
    lines = []
    for e in EVIDENCE:
        cells = s["named"][e]["fault_and_severity"]
        bad = [f"{name} ({_counts(cell)})" for name, cell in cells.items() if cell["of"] and cell["share"] < _LOW]
        lines.append(f"- named less than half of the time ({e}; fault, severity): {', '.join(bad) or 'none'}")
    return lines


def _unlisted(s: Figures) -> list[str]:
    names = dict.fromkeys(name for e in EVIDENCE for name in s["unlisted"][e]["by_fault"])
    rows = [(name, *(_plain(s["unlisted"][e]["by_fault"].get(name, {})) for e in EVIDENCE)) for name in names]
    rows += [
        (f"library without {name}", *(_plain(s["left_out"][e]["by_fault"].get(name, {})) for e in EVIDENCE))
        for name in INJECTORS
        if any(name in s["left_out"][e]["by_fault"] for e in EVIDENCE)
    ]
    return _table(("what was done", *(f"said ({e})" for e in EVIDENCE)), rows)


def _pairs(s: Figures) -> list[str]:
    parts = {e: s["pairs_of_faults"][e]["by_pair"] for e in EVIDENCE}
    keys = dict.fromkeys(key for part in parts.values() for key in part)
    rows = [(key, *(_counts(parts[e].get(key)) for e in EVIDENCE)) for key in keys]
    return _table(("both named", *EVIDENCE), rows)


def _reliability(s: Figures) -> list[str]:
    rows = [
        (e, f"{b['from']:.1f}", f"{b['confidence']:.2f}", _share(b["right"]))
        for e in EVIDENCE
        for b in s["confidence"][e]["bins"]
    ]
    return _table(("evidence", "bin from", "mean confidence", "top finding right"), rows)


def _calibrators(s: Figures) -> list[str]:
    rows = [
        (kind, name, f"{entry['median']:.3f}", f"{entry['p90']:.3f}", _share(entry["within"]))
        for kind, table in s["calibrators"].items()
        for name, entry in table.items()
    ]
    text = (
        "Error on other utterances of the same case, less that of the best fit, in within-bin variances of the target; "
        "against the *target* for mean-like models, and against what the fault-free model says (*restored*), which is the "
        "fair measure for sample-like ones: shrinking brings those nearer to the target and is no repair."
    )
    header = ("model, against", "calibrator", "excess error, median", "90th percentile", "at most .02")
    return [text, "", *_table(header, rows)]


def _severities() -> list[str]:
    rows = [(name, FAULTS[name].stage, *i.severities, ", ".join(i.sides)) for name, i in INJECTORS.items()]
    return ["## Severities", "", *_table(("fault", "stage", "1", "2", "3", "4", "in the"), rows)]


# --- cells ----------------------------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_line(header), _line(["---"] * len(header)), *(_line(row) for row in rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _share(figure: Figures | None) -> str:
    if not figure or figure["share"] is None:
        return "–"
    return f"{figure['share']:.1%} ({figure['right']}/{figure['of']}; {figure['low']:.0%} to {figure['high']:.0%})"


def _counts(figure: Figures | None) -> str:
    return f"{figure['right']}/{figure['of']}" if figure and figure["of"] else "–"


def _macro(figure: Figures) -> str:
    if figure["macro_f1"] is None:
        return "–"
    return (
        f"**{figure['macro_f1']:.3f}** ({figure['low']:.3f} to {figure['high']:.3f}; {len(figure['per_fault'])} faults)"
    )


def _ece(figure: Figures) -> str:
    return "–" if figure["ece"] is None else f"{figure['ece']:.3f} ({figure['of']} findings)"


def _plain(counts: Mapping[str, int], most: int | None = None) -> str:
    return ", ".join(f"{name} {count}" for name, count in list(counts.items())[:most])


def _pairs_of(counts: Sequence[Sequence[Any]], most: int = 12) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts[:most])
