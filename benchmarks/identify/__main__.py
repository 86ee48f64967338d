"""The command line: ``python benchmarks/identify`` runs everything and writes results.json and RESULTS.md beside it."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # run as a folder, the project is not on the path
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


def main(argv: list[str] | None = None) -> int:
    """Parse, run, write. Returns the exit code."""
    from benchmarks.identify import cases, pages, run, speech

    parser = argparse.ArgumentParser(prog="python benchmarks/identify", description="Identification of front ends.")
    parser.add_argument("--corpora", choices=("dev", "report"), default="report", help="which speech (default: report)")
    parser.add_argument(
        "--random", type=int, default=500, help="random front ends outside the catalogue (default: 500)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the cases (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the cases (default: 0)")
    parser.add_argument("--minutes", type=float, help="begin no case after this time; what was done is reported")
    parser.add_argument("--shuffle", action="store_true", help="in a random order, for runs that are cut short")
    parser.add_argument("--group", action="append", help="only this group: catalogue, random, noise (may be repeated)")
    parser.add_argument("--name", action="append", help="only cases whose name contains this (may be repeated)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results.json and RESULTS.md")
    parser.add_argument("--rows", type=Path, help="also write every row, JSON lines")
    options = parser.parse_args(argv)
    started = time.perf_counter()
    chosen = [
        case
        for case in cases.cases(options.corpora, options.random, options.scale, options.seed)
        if (not options.group or case.group in options.group)
        and (not options.name or any(name in case.name for name in options.name))
    ]
    if not chosen:
        sys.stderr.write("no cases: shared/data/speech is not beside the project, or nothing is chosen\n")
        return 3
    if options.shuffle:
        random.Random(options.seed).shuffle(chosen)  # noqa: S311 - an order, not a secret
    rows = run.run(chosen, options.jobs, _progress, options.minutes)
    results: dict[str, Any] = {
        "schema": "calib/identification-benchmark/1",
        "command": "python benchmarks/identify " + " ".join(sys.argv[1:] if argv is None else argv),
        "seed": options.seed,
        "scale": options.scale,
        "cases": len(chosen),
        "run": len(rows),
        "versions": pages.versions(),
        "corpora": list(speech.available(options.corpora)),
        "figures": pages.summarise(rows),
        "failing": list(pages.failing(rows)),
        "seconds": time.perf_counter() - started,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "RESULTS.md").write_text(pages.page(results, rows), encoding="utf-8")
    if options.rows:
        options.rows.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows), encoding="utf-8")
    sys.stdout.write(pages.page(results, rows))
    return 0


def _progress(done: int, total: int, row: dict[str, Any]) -> None:
    word = row.get("crash") or row.get("not_made") or row.get("headline", "")
    sys.stderr.write(f"{done}/{total} {row['name']}: {word[:140]}\n")


if __name__ == "__main__":
    raise SystemExit(main())
