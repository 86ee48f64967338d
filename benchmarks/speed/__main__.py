"""The command line: ``python benchmarks/speed --peers VENV`` measures everything and writes results.json and RESULTS.md.

The peers live in an environment of their own (RESULTS.md says how it is made); none of their code
is here. Rounds alternate: every competitor once, then again, so that a busy minute of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # run as a folder, the project is not on the path

WORK = Path(tempfile.gettempdir()) / "speed"
SLOW = 8.0  # s; what takes longer runs in `FEW` rounds
FEW = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, measure, write. Returns the exit code."""
    from benchmarks.speed import accuracy, corpora, entries, pages
    from calib.mel.frontend import FrontEnd
    from calib.native import library

    parser = argparse.ArgumentParser(
        prog="python benchmarks/speed", description="Speed of calib stats beside its peers."
    )
    parser.add_argument("--peers", type=Path, metavar="VENV", help="environment with the peers' packages")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for the corpora (default: %(default)s)")
    parser.add_argument(
        "--files", type=int, default=corpora.FILES, help="files of the small corpus (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=4, help="timed rounds (default: %(default)s)")
    parser.add_argument("--no-large", action="store_true", help="leave the 24-hour corpus out")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results.json and RESULTS.md")
    options = parser.parse_args(argv)
    options.work.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    small, large, what = corpora.build(options.work, options.files, large=not options.no_large)
    field, absent = entries.everybody(options.peers, next(iter(library.available()), None))
    results: dict[str, Any] = {
        "schema": "calib/speed-benchmark/1",
        "corpus": {"what": what, "files": options.files, "seconds": corpora.seconds(small)},
        "machine": _machine(),
        "load_before": os.getloadavg(),
        "run": time.strftime("%Y-%m-%d %H:%M"),
    }
    outputs = options.work / "out"
    outputs.mkdir(exist_ok=True)
    results["field"] = _rounds(field, small, outputs, options.rounds, absent)
    results["absent"] = absent
    results["accuracy"] = _accuracy(field, small, outputs, accuracy.reference(small, FrontEnd.load("hifigan").basis()))
    if large is not None:
        results["large"] = _large(field, large, outputs, corpora.seconds(large))
    results["load_after"] = os.getloadavg()
    results["minutes"] = (time.perf_counter() - started) / 60
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", "utf-8")
    (options.out / "RESULTS.md").write_text(pages.page(results), "utf-8")
    print(pages.page(results))
    return 0


def _machine() -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        model = ""
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "scipy", "mel-calib")},
    }


def _environment(extra: dict[str, str]) -> dict[str, str]:
    """Compiled Python files are kept, as everywhere but in this project's own environment; threads are everyone's default."""
    out = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    out.pop("PYTHONDONTWRITEBYTECODE", None)
    out.pop("CALIB_NATIVE", None)
    return {**out, "PYTHONPYCACHEPREFIX": str(WORK / "pycache"), **extra}


def _once(entry: Any, corpus: Path, outputs: Path, *, memory: bool = False) -> Any:
    from benchmarks.speed.measuring import run

    return run(entry.line(corpus, outputs / f"{entry.key}.json"), _environment(dict(entry.environment)), memory=memory)


def _rounds(field: list[Any], corpus: Path, outputs: Path, rounds: int, absent: dict[str, str]) -> list[dict[str, Any]]:
    """A first round that warms up and samples memory, then the timed ones."""
    rows, running = [], []
    for entry in field:
        first = _once(entry, corpus, outputs, memory=True)
        _say(0, entry, first)
        if first.status:
            absent[entry.title] = f"it failed: {(first.tail.strip().splitlines() or ['no word'])[-1][:200]}"
            continue
        row = {
            "key": entry.key,
            "title": entry.title,
            "kind": entry.kind,
            "memory": first.memory,
            "wall": [],
            "cpu": [],
        }
        rows.append(row)
        running.append((entry, row, rounds if first.wall < SLOW else min(rounds, FEW)))
    for turn in range(rounds):
        for entry, row, turns in running:
            if turn < turns:
                found = _once(entry, corpus, outputs)
                _say(turn + 1, entry, found)
                row["wall"].append(found.wall)
                row["cpu"].append(found.cpu)
    for entry, row, _ in running:
        if entry.kind == "peer":
            row["versions"] = json.loads((outputs / f"{entry.key}.json").read_text("utf-8"))["versions"]
    return rows


def _accuracy(field: list[Any], corpus: Path, outputs: Path, truth: dict[str, Any]) -> dict[str, Any]:
    """Every path of calib, and the peers with the same front end, against float64."""
    from benchmarks.speed import accuracy, entries
    from calib.native import library

    rows = []
    for variant in ("0", *library.available()):
        entry = entries.calib(variant, 2)
        path = outputs / f"{entry.key}.json"
        if entry.key not in {other.key for other in field}:
            _once(entry, corpus, outputs)
        rows.append({"title": entry.title.partition(", --jobs")[0].replace("*", ""), **accuracy.off(json.loads(path.read_text("utf-8")), truth)})  # fmt: skip
    for entry in field:
        path = outputs / f"{entry.key}.json"
        if entry.kind == "peer" and entry.same_front_end and path.is_file():
            found = json.loads(path.read_text("utf-8"))
            rows.append({"title": entry.title, **accuracy.off_global(found["mean"], found["std"], truth)})
    return {"frames": truth["frames"], "mean": truth["mean"], "std": truth["std"], "rows": rows}


def _large(field: list[Any], corpus: Path, outputs: Path, seconds: float) -> dict[str, Any]:
    """The large corpus: once for its memory and once for its time, and the loop that most people write once."""
    rows = []
    for entry in field:
        calib = entry.kind == "calib"
        if not calib and entry.key != "librosa_loop":
            continue
        two = entry.key.endswith("_2")
        sampled = _once(entry, corpus, outputs, memory=True) if two else None
        timed = _once(entry, corpus, outputs)
        _say(0, entry, timed)
        rows.append({"key": entry.key, "title": entry.title, "wall": timed.wall, "cpu": timed.cpu, "memory": sampled and sampled.memory})  # fmt: skip
    return {"seconds": seconds, "rows": rows}


def _say(turn: int, entry: Any, found: Any) -> None:
    memory = "" if found.memory is None else f", {found.memory:.0f} MB"
    print(f"round {turn}: {entry.key}: {found.wall:.2f} s, {found.cpu:.2f} s of CPU{memory}{', FAILED' if found.status else ''}", file=sys.stderr)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
