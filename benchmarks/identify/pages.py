"""From rows to figures, and to RESULTS.md."""

from __future__ import annotations

import platform
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.identify.score import PARAMETERS

__all__ = ["page", "summarise", "versions"]


def versions() -> dict[str, str]:
    """Of what the figures depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("numpy", "scipy", "soxr")}, "calib": version("mel-calib")}  # fmt: skip


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures by group."""
    out: dict[str, Any] = {}
    for group in ("catalogue", "random", "noise"):
        mine = [row for row in rows if row["group"] == group]
        good = [row for row in mine if "parameters" in row]
        if not mine:
            continue
        made = [row for row in mine if "not_made" not in row]
        figures: dict[str, Any] = {"cases": len(made), "not_made": len(mine) - len(made), "crashed": [f"{row['name']}: {row['crash']}" for row in made if "crash" in row]}  # fmt: skip
        table: dict[str, Counter[str]] = defaultdict(Counter)
        for row in good:
            for name, cell in row["parameters"].items():
                table[name][f"{cell['verdict']} {'identifiable' if cell['identifiable'] else 'hidden'}"] += 1
        figures["parameters"] = {name: dict(table[name]) for name in PARAMETERS if name in table}
        figures["confident_wrong"] = sum(c["wrong identifiable"] + c["wrong hidden"] for c in table.values())
        figures["cells"] = sum(sum(c.values()) for c in table.values())
        figures["cases_with_a_wrong_cell"] = sum(any(c["verdict"] == "wrong" for c in row["parameters"].values()) for row in good)  # fmt: skip
        if group != "random":
            figures["named"] = sum(bool(row.get("named")) for row in good)
            figures["in_family"] = sum(bool(row.get("in_family")) for row in good)
            figures["with_strangers"] = [
                f"{row['name']}: {', '.join(row['strangers'])}" for row in good if row.get("strangers")
            ]
            figures["named_otherwise"] = sum(bool(row["names"]) and not row.get("named") for row in good)
        seconds = [row["seconds"] for row in good]
        if seconds:
            figures["cpu_seconds"] = {"median": float(np.median(seconds)), "p95": float(np.quantile(seconds, 0.95)), "max": float(np.max(seconds))}  # fmt: skip
        errors = [row["error_db"] for row in good if row["error_db"] is not None]
        if errors:
            figures["proof_db"] = {"median": float(np.median(errors)), "p95": float(np.quantile(errors, 0.95)), "share_below_0.01": float(np.mean(np.array(errors) < 0.01))}  # fmt: skip
        out[group] = figures
    return out


def failing(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Every cell that is confidently wrong or identifiable and not found, and every name missed."""
    for row in rows:
        if "crash" in row:
            yield f"{row['group']} {row['name']} ({row['corpus']}): crashed: {row['crash']}"
        if "parameters" not in row:
            continue
        wrong = [f"{name} {_short(c['found'])} for {_short(c['truth'])}" for name, c in row["parameters"].items() if c["verdict"] == "wrong"]  # fmt: skip
        missed = [name for name, c in row["parameters"].items() if c["verdict"] == "set" and c["identifiable"]]
        words = []
        if row["group"] == "catalogue" and not row["named"]:
            words.append(f"not named (named: {', '.join(row['names']) or 'nothing'})")
        if row["group"] == "noise" and not row["in_family"]:
            words.append("family missed")
        if row.get("strangers"):
            words.append(f"also named: {', '.join(row['strangers'])}")
        if wrong:
            words.append("wrong: " + "; ".join(wrong))
        if missed and row["group"] != "noise":
            words.append("not told: " + ", ".join(missed))
        if words:
            yield f"{row['group']} {row['name']} ({row['corpus']}): " + ". ".join(words)


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def page(results: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """RESULTS.md."""
    s = results["figures"]
    lines = [
        "# Identification of front ends from ten seconds of audio and mel",
        "",
        f"`{results['command']}`: speech not used in development ({', '.join(results['corpora'])}), seed {results['seed']}, scale {results['scale']:g}; {', '.join(f'{k} {v}' for k, v in results['versions'].items())}. Every figure is in `results.json`.",
        "",
        f"{results['run']} of the {results['cases']} cases chosen were run{'' if results['run'] == results['cases'] else ', in a random order, before the time was up'}.",
        "",
        "An answer to a parameter is *right*, a *set* (the alternatives that the data leave are named, or no value is claimed), or",
        "*wrong* (a value is claimed and the truth is not among its alternatives). *Identifiable* is decided by an oracle that knows",
        "the truth (`score.py`).",
        "",
    ]
    if "catalogue" in s:
        c = s["catalogue"]
        lines += [
            f"**Catalogue**: {c['named']} of {c['cases']} mels have their own front end among the names, all of which give the same mel; asked: 99 %. {len(c['with_strangers'])} named one that gives another mel; {c['named_otherwise']} were named as something else.",
        ]  # fmt: skip
    if "random" in s:
        r = s["random"]
        right, total = _identified(r)
        lines += [f"**Random front ends outside the catalogue** ({r['cases']}): {right} of {total} identifiable parameters right ({100 * right / max(total, 1):.2f} %; asked: 95 % of each); {r['confident_wrong']} of {r['cells']} answers confidently wrong ({100 * r['confident_wrong'] / max(r['cells'], 1):.2f} %; asked: at most 2 %), in {r['cases_with_a_wrong_cell']} cases."]  # fmt: skip
    if "noise" in s:
        n = s["noise"]
        lines += [f"**Predicted mels (r = .9 within bins)**: {n['in_family']} of {n['cases']} with the right filterbank family among those named (asked: 90 %); {n['confident_wrong']} of {n['cells']} answers confidently wrong."]  # fmt: skip
    for group, figures in s.items():
        lines += ["", f"## {group}", "", "| parameter | identifiable: right | set | wrong | hidden: right | set | wrong |", "|---|---|---|---|---|---|---|"]  # fmt: skip
        for name, cells in figures["parameters"].items():
            row = [cells.get(f"{v} {k}", 0) for k in ("identifiable", "hidden") for v in ("right", "set", "wrong")]
            lines.append(f"| {name} | {' | '.join(map(str, row))} |")
        if "cpu_seconds" in figures:
            t = figures["cpu_seconds"]
            lines += [
                "",
                f"CPU time: median {t['median']:.2f} s, 95 % below {t['p95']:.2f} s, at most {t['max']:.2f} s (one core).",
            ]
        if "proof_db" in figures:
            p = figures["proof_db"]
            lines += [f"The mel computed again with the front end found: median error {p['median']:.2g} dB, 95 % below {p['p95']:.2g} dB; {100 * p['share_below_0.01']:.1f} % below 0.01 dB."]  # fmt: skip
    bad = list(failing(rows))
    lines += ["", f"## Failing cells ({len(bad)})", "", *(f"- {text}" for text in bad)]
    return "\n".join(lines) + "\n"


def _identified(figures: dict[str, Any]) -> tuple[int, int]:
    cells = figures["parameters"].values()
    right = sum(c.get("right identifiable", 0) for c in cells)
    return right, right + sum(c.get("set identifiable", 0) + c.get("wrong identifiable", 0) for c in cells)
