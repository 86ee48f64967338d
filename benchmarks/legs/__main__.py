"""The command line: ``python benchmarks/legs`` runs everything and writes results.json and RESULTS.md beside it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # run as a folder, the project is not on the path
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before numpy comes in
    os.environ.setdefault(_name, "1")

# The digits of en_fsdd_digits, recorded at 8 kHz, hold nothing in the upper bins: they are left out.
SETS = {"dev": ("lj", "demo_a"), "report": ("kerstin", "multi", "demo_b")}
CLIPS = 2


def main(argv: list[str] | None = None) -> int:
    """Parse, run, write. Returns the exit code."""
    from benchmarks.diagnosis import corpora, summary
    from benchmarks.legs import cases, copies, pages
    from benchmarks.legs.blames import run_case, summarise

    parser = argparse.ArgumentParser(prog="python benchmarks/legs", description="Whom the legs blame.")
    parser.add_argument("--set", choices=tuple(SETS), default="report", help="corpora (default: report)")
    parser.add_argument("--full", action="store_true", help="every front end with every model")
    parser.add_argument("--part", choices=("blame", "vocoder", "all"), default="all", help="what to run (default: all)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results.json and RESULTS.md")
    options = parser.parse_args(argv)
    names = [name for name in SETS[options.set] if name in corpora.available(options.set)]
    path = options.out / "results.json"
    results: dict[str, Any] = json.loads(path.read_text("utf-8")) if options.part != "all" and path.is_file() else {}
    results |= {
        "schema": "calib/legs-benchmark/1",
        "set": options.set,
        "corpora": names,
        "versions": summary.versions(),
    }
    if options.part != "vocoder":
        started, rows = time.perf_counter(), []
        for case in cases.all_cases(names, full=options.full):
            with tempfile.TemporaryDirectory() as folder:
                rows.append(run_case(case, Path(folder)))
            _said(rows[-1]["blame"] == rows[-1]["expected"], f"{case.corpus} {case.front} {case.model} {case.twist}", rows[-1]["blame"])  # fmt: skip
        results["blame"] = {**summarise(rows), "rows": rows, "seconds": time.perf_counter() - started, "run": _now()}
    if options.part != "blame":
        started, rows = time.perf_counter(), []
        for row in copies.run(names[0], CLIPS):
            rows.append(row)
            _said(row["right"], row["case"], row["state"])
        results["vocoder"] = {"rows": rows, "corpus": names[0], "seconds": time.perf_counter() - started, "run": _now()}
    options.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", "utf-8")
    (options.out / "RESULTS.md").write_text(pages.page(results), "utf-8")
    return 0


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M")


def _said(right: bool, what: str, answer: str) -> None:
    print("right" if right else "WRONG", what, "->", answer, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
