"""RESULTS.md from results.json."""

from __future__ import annotations

from typing import Any

__all__ = ["page"]


def page(results: dict[str, Any]) -> str:
    """The whole page."""
    lines = ["# Legs: whom is blamed", "", f"Corpora ({results['set']}): {', '.join(results['corpora'])}. `python benchmarks/legs`.", ""]  # fmt: skip
    if "blame" in results:
        lines += _blame(results["blame"])
    if "vocoder" in results:
        lines += _vocoder(results["vocoder"])
    return "\n".join(lines).rstrip() + "\n"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]


def _blame(b: dict[str, Any]) -> list[str]:
    lines = [
        "## `calib diagnose --audio --vocoder-frontend hifigan`", "",
        ("Targets: real speech in other front ends (harmless ones among them); predictions: simulated from them, healthy or spoiled. "
        f"{b['n']} cases of 6 utterances, nothing declared; {_share(b['right'])} of the blames are right. "
        f"A harmless front end is blamed in {_share(b['false_blame_front_end'])} of {b['harmless']} cases, a healthy model in {_share(b['false_blame_model'])} of {b['good']}. "
        f"{b['seconds']:.0f} s on one core of a shared machine, run {b['run']}."), "",
    ]  # fmt: skip
    lines += _table(
        ["blame", "cases", "said", "recall", "precision"],
        [[who, str(row["cases"]), str(row["said"]), _share(row["recall"]), _share(row["precision"])] for who, row in b["blame"].items()],
    )  # fmt: skip
    fronts: dict[str, list[dict[str, Any]]] = {}
    for row in b["rows"]:
        if not row["twist"]:
            fronts.setdefault(row["front"], []).append(row)
    lines += [
        "",
        "By front end (T against V; right blames of cases; the first set of faults that the values alone suggest: identification, which the command asks first and believes rather, is off here and has a benchmark of its own):",
        "",
    ]
    lines += _table(
        ["targets", "harmless", "grade", "T-V, dB", "right", "from values alone"],
        [
            [
                name, "yes" if rows[0]["harmless"] else "no", rows[0].get("grade", "-"),
                "-" if rows[0].get("t_v_db") is None else f"{rows[0]['t_v_db']:.2f}",
                f"{sum(r['blame'] == r['expected'] for r in rows)} of {len(rows)}",
                ", ".join(rows[0].get("faults", [[]])[0]) if rows[0].get("faults") else "-",
            ]
            for name, rows in fronts.items()
        ],
    )  # fmt: skip
    wrong = [r for r in b["rows"] if r["blame"] != r["expected"]]
    if wrong:
        lines += ["", "Wrong:", ""]
        lines += [f"- {r['corpus']}: {r['front']}, {r['model']}{', ' + r['twist'] if r['twist'] else ''}: {r['blame']} for {r['expected']}. {r.get('sentence', r.get('error', ''))}" for r in wrong]  # fmt: skip
    return [*lines, ""]


def _vocoder(v: dict[str, Any]) -> list[str]:
    rows = v["rows"]
    lines = [
        "## `calib check vocoder`", "",
        (f"Wrappers of Griffin-Lim and others broken on purpose, all declaring hifigan, on two clips of {v['corpus']}: no trained neural vocoder was at hand, so what this is worth on one is not measured; and the rules for noise and deafness were written with these wrappers' failures in view (on LJSpeech), so the figure is no unseen one. "
        f"{sum(r['right'] for r in rows)} of {len(rows)} right, {v['seconds']:.0f} s, run {v['run']}."), "",
    ]  # fmt: skip
    lines += _table(
        ["vocoder", "answer", "right", "LSD, dB", "r", "likes"],
        [
            [
                r["case"], r["state"], "yes" if r["right"] else f"no: {' or '.join(r['expected'])}",
                "-" if r["lsd_db"] is None else f"{r['lsd_db']:.1f}", "-" if r["r"] is None else f"{r['r']:.2f}",
                ", ".join(r["liked"][:4]) + (" ..." if len(r["liked"]) > 4 else ""),
            ]
            for r in rows
        ],
    )  # fmt: skip
    return lines
