"""RESULTS.md out of results.json: a pure function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

__all__ = ["page"]

Results = Mapping[str, Any]

_PURE, _LOOP = "calib_pure_2", "librosa_loop"


def page(results: Results) -> str:
    """The whole file."""
    return "\n".join([*_head(results), *_asked(results), *_field(results), *_scaling(results), *_accuracy(results), *_how()]) + "\n"  # fmt: skip


def _head(results: Results) -> list[str]:
    corpus, machine = results["corpus"], results["machine"]
    before, after = results["load_before"][0], results["load_after"][0]
    text = (
        f"{corpus['files']} WAV files of 22,050 Hz, {corpus['seconds']:,.0f} s ({corpus['what']}), in the page cache. Whole processes, from start to the file "
        f"written; every competitor in turn, then again. Times are medians. {machine['processor']}, {machine['cores']} cores; Python {machine['python']}, numpy "
        f"{machine['numpy']}, scipy {machine['scipy']}, calib {machine['mel-calib']}. Load of the machine before {before:.1f}, after {after:.1f} (the benchmark's own "
        f"included). Run {results['run']}, {results['minutes']:.0f} minutes."
    )
    return ["# Speed: dataset statistics", "", text, ""]


def _rates(results: Results) -> dict[str, float]:
    """Multiples of real time by key."""
    seconds = results["corpus"]["seconds"]
    return {row["key"]: seconds / median(row["wall"]) for row in results["field"] if row["wall"]}


def _kernel(keys: Iterable[str]) -> str | None:
    """Key of calib with a kernel and two processes."""
    return next((key for key in keys if key.startswith("calib_") and key.endswith("_2") and key != _PURE), None)


def _asked(results: Results) -> list[str]:
    """What was asked for, what was measured, and whether it holds."""
    rates = _rates(results)
    kernel = _kernel(rates)
    rows = []

    def ratio(what: str, mine: str | None, theirs: str, asked: float) -> None:
        if mine in rates and theirs in rates:
            rows.append((what, f"{asked:g} times", f"{rates[mine] / rates[theirs]:.1f} times", rates[mine] >= asked * rates[theirs]))  # fmt: skip
        else:
            rows.append((what, f"{asked:g} times", "not measured", None))

    ratio("pure path against Coqui", _PURE, "coqui", 8)
    ratio("pure path against Matcha as shipped", _PURE, "matcha_stats_20", 6)
    ratio("pure path against lhotse", _PURE, "lhotse_fbank", 2.2)
    ratio("pure path against the loop", _PURE, _LOOP, 2.7)
    ratio("kernel against Coqui", kernel, "coqui", 15)
    ratio("kernel against the loop", kernel, _LOOP, 6)
    large = {row["key"]: row for row in results.get("large", {}).get("rows", [])}
    if _PURE in large and _LOOP in large:
        found = large[_LOOP]["wall"] / large[_PURE]["wall"]
        rows.append(("pure path against the loop, 24 h", "4 times", f"{found:.1f} times", found >= 4))
    memory = {row["key"]: row["memory"] for row in results["field"]}
    for key in (_PURE, kernel):
        if key not in memory:
            continue
        peak = max(memory[key], large[key]["memory"] if key in large else 0.0)
        name = "pure path" if key == _PURE else "kernel"
        rows.append((f"peak memory, {name}, two workers", "400 MB", f"{peak:.0f} MB", peak < 400))
        if key in large:
            grown = large[key]["memory"] / memory[key]
            rows.append((f"memory at 24 h against 2 h, {name}", "flat", f"{grown:.2f} times", grown < 1.25))
    own = [row for row in results["accuracy"]["rows"] if "bin_mean" in row]
    worst = max(max(row[name] for name in ("mean", "std", "bin_mean", "bin_std")) for row in own)
    rows.append(("mean and sd against float64, global and by bin", "1e-6", f"{worst:.1e}", worst <= 1e-6))
    said = {True: "yes", False: "**no**", None: "-"}
    return ["## What was asked", "", *_table(("figure", "asked", "measured", "holds"), [(*row[:3], said[row[3]]) for row in rows]), ""]  # fmt: skip


def _field(results: Results) -> list[str]:
    rates = _rates(results)
    kernel = _kernel(rates)
    rows = []
    for row in sorted(results["field"], key=lambda row: -rates.get(row["key"], 0)):
        if row["key"] not in rates:
            continue
        rate = rates[row["key"]]
        versions = ", ".join(f"{name} {number}" for name, number in row.get("versions", {}).items())
        rows.append(
            (
                row["title"],
                f"{median(row['wall']):.2f}",
                f"{min(row['wall']):.2f}-{max(row['wall']):.2f}",
                f"{median(row['cpu']):.2f}",
                f"{rate:,.0f}",
                f"{rates[_PURE] / rate:.2f}",
                "-" if kernel is None else f"{rates[kernel] / rate:.2f}",
                f"{row['memory']:.0f}",
                versions,
            )
        )
    head = ("what", "s", "range, s", "CPU, s", "times real time", "pure path is faster by", "kernel is faster by", "peak memory, MB", "versions")  # fmt: skip
    absent = [f"- {title}: {reason}." for title, reason in results["absent"].items()]
    note = (
        "calib computes more than its peers: minima, maxima, quantiles, histogram, floor and dead bins, by speaker, bad files by reason, a ledger to resume from. "
        "Memory is PSS, summed over all processes of a competitor. Peers run with their own defaults (threads, workers) and, where they let one choose, with "
        "22,050 Hz, 1024, 256, 80 bins, 0 to 8,000 Hz."
    )
    return [
        "## Beside the field",
        "",
        note,
        "",
        *_table(head, rows),
        "",
        *(["Not measured:", "", *absent, ""] if absent else []),
    ]


def _scaling(results: Results) -> list[str]:
    rates = _rates(results)
    rows = []
    for key in (key for key in rates if key.startswith("calib_") and key.endswith("_2")):
        one = key.removesuffix("_2") + "_1"
        if one in rates:
            rows.append(
                (key.split("_")[1], f"{rates[one]:,.0f}", f"{rates[key]:,.0f}", f"{rates[key] / rates[one]:.2f}")
            )
    out = ["## Scaling", "", *_table(("path", "one process, times real time", "two", "ratio"), rows), ""]
    large = results.get("large")
    if large:
        small = {row["key"]: row for row in results["field"]}
        cells = [
            (
                row["title"],
                f"{row['wall']:.2f}",
                f"{large['seconds'] / row['wall']:,.0f}",
                f"{rates[row['key']]:,.0f}",
                "-" if row["memory"] is None else f"{row['memory']:.0f}",
                f"{small[row['key']]['memory']:.0f}",
            )
            for row in large["rows"]
            if row["key"] in rates
        ]
        head = ("what", "s", "times real time", "at 2 h", "peak memory, MB", "at 2 h, MB")
        out += [
            f"The same files twelve times over ({large['seconds'] / 3600:.1f} h, hard links), once:",
            "",
            *_table(head, cells),
            "",
        ]
    return out


def _accuracy(results: Results) -> list[str]:
    found = results["accuracy"]
    names = ("mean", "std", "bin_mean", "bin_std")
    rows = [(row["title"], *(f"{row[name]:.1e}" if name in row else "-" for name in names)) for row in found["rows"]]
    text = f"Largest relative difference from the same numbers in float64 ({found['frames']:,} frames, HiFi-GAN's front end: mean {found['mean']:.6f}, sd {found['std']:.6f})."
    return ["## Accuracy", "", text, "", *_table(("what", "mean", "sd", "mean by bin", "sd by bin"), rows), ""]


def _how() -> list[str]:
    return [
        "## How to repeat it",
        "",
        "```",
        "python3 -m venv PEERS",
        "PEERS/bin/pip install -r benchmarks/speed/peers/requirements.txt",
        "PEERS/bin/pip install --no-deps --no-build-isolation -r benchmarks/speed/peers/requirements-alone.txt",
        "python benchmarks/speed --peers PEERS",
        "```",
        "",
        "`peers/` holds one small script for each peer, which calls the peer's own code; nothing of theirs is in this repository.",
    ]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
