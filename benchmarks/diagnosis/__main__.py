"""The command line: ``python benchmarks/diagnosis`` runs everything and writes results.json and RESULTS.md beside it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # run as a folder, the project is not on the path
# Before numpy comes in, here and in the processes that inherit it: the processes are the parallelism.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


def main(argv: list[str] | None = None) -> int:
    """Parse, run, write. Returns the exit code."""
    from benchmarks.diagnosis import cases, corpora, pages, run, summary

    parser = argparse.ArgumentParser(prog="python benchmarks/diagnosis", description="The injected-fault benchmark.")
    parser.add_argument("--corpora", choices=("dev", "report", "all"), default="all", help="which sets (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the cases, at least one of each kind")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of cases and arrays (default: 0)")
    parser.add_argument("--group", action="append", help="only this group of cases (may be given again)")
    parser.add_argument("--fault", action="append", help="only cases that hold this fault (may be given again)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results.json and RESULTS.md")
    parser.add_argument("--rows", type=Path, help="also write every row, JSON lines")
    options = parser.parse_args(argv)
    started = time.perf_counter()
    sets = ("dev", "report") if options.corpora == "all" else (options.corpora,)
    makers = {"dev": cases.development_cases, "report": cases.report_cases}
    rows: dict[str, list[dict[str, Any]]] = {}
    for which in sets:
        chosen = [
            case
            for case in makers[which](options.seed, options.scale)
            if (not options.group or case.group in options.group)
            and (not options.fault or set(case.faults) & set(options.fault))
        ]
        rows[which] = run.run(chosen, options.jobs, progress=_progress(which))
    missing = [name for which in sets for name in corpora.CORPORA[which] if name not in corpora.available(which)]
    results = {
        "schema": "calib/diagnosis-benchmark/1",
        "command": "python benchmarks/diagnosis " + " ".join(sys.argv[1:] if argv is None else argv),
        "seed": options.seed,
        "scale": options.scale,
        "jobs": options.jobs,
        "versions": summary.versions(),
        "corpora": {which: corpora.available(which) for which in sets},
        "note": f"Without the real corpora {', '.join(missing)} (shared/data/speech is not there): both sets are halves, by speaker, of the embedded synthetic corpus."
        if missing
        else "",
        "sets": {which: summary.summarise(rows[which]) for which in sets},
        "seconds": time.perf_counter() - started,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", "utf-8")
    (options.out / "RESULTS.md").write_text(pages.page(results), "utf-8")
    if options.rows:
        lines = [json.dumps({"set": which, **row}) for which in sets for row in rows[which]]
        options.rows.write_text("\n".join(lines) + "\n", "utf-8")
    for which in sets:
        head = results["sets"][which]["headline"]
        print(which, {kind: head[kind]["macro_f1"] for kind in head}, f"-> {options.out / 'RESULTS.md'}")
    return 0


def _progress(which: str) -> Any:
    started = time.perf_counter()

    def show(done: int, of: int) -> None:
        if done % 50 == 0 or done == of:
            print(f"{which}: {done} of {of} cases, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    raise SystemExit(main())
