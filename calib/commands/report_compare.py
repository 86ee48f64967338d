"""``calib report A B ...``: several runs side by side, and ``calib report --index FOLDER``: one page over many reports.

`calib.commands.report` calls this module; see `is_comparison`, `run` and `run_index`. What an input may be:

- a finished report: ``report.json`` (or what ``calib diagnose --json FILE`` wrote), or the folder that holds it: nothing
  is computed again;
- a folder of runs: every folder in it that holds a ``report.json``, in natural order (step-9 before step-10);
- PAIRS: its report is made beside the comparison first.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from calib.commands import options as o
from calib.console import terminal
from calib.data.files import atomic_writer, ensure_writable, read_json, write_json
from calib.errors import DataError, UsageError, missing
from calib.report import IndexEntry, build_index
from calib.report.compare import Comparison
from calib.report.runs import Run
from calib.report.wording import clipped

__all__ = ["CompareConfig", "CompareResult", "IndexConfig", "finished_reports", "is_comparison", "run", "run_index"]

_TWIN = "report.json"
_DEPTH = 3
_PAIRS = ("pairs.jsonl", "target.npy", "targets", "predictions")
# Makes the report of PAIRS at a path and returns its JSON twin.
MakeReport = Callable[[Path, Path], Path]


@dataclass(frozen=True)
class CompareConfig:
    """What a comparison needs.

    Args:
        inputs: reports, folders of runs, PAIRS, in the order to show them.
        output: ``.html`` file or folder; None: ``reports/comparison/comparison.html``.
        title: of the page; None: made of the names.
        make: makes the report of PAIRS; None: PAIRS are an error.
        overwrite: replace existing files.
    """

    inputs: tuple[Path, ...]
    output: Path | None = None
    title: str | None = None
    make: MakeReport | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class CompareResult:
    """The comparison and its files."""

    comparison: Comparison
    html: Path
    twin: Path


@dataclass(frozen=True)
class IndexConfig:
    """What an index page needs: the folder, and whether an older index may be replaced."""

    folder: Path
    title: str | None = None
    output: Path | None = None
    overwrite: bool = False


def is_comparison(inputs: Sequence[Path]) -> bool:
    """Whether these inputs are runs to compare: two or more, or what holds finished reports and no PAIRS (`run` says if it is one)."""
    if len(inputs) != 1:
        return len(inputs) > 1
    only = inputs[0]
    if only.is_file():
        return only.suffix.lower() == ".json"
    return only.is_dir() and not _holds_pairs(only) and bool(finished_reports(only))


def _holds_pairs(folder: Path) -> bool:
    return any((folder / name).exists() for name in _PAIRS) or any(folder.glob("*.pred.*"))


def finished_reports(folder: Path) -> list[Path]:
    """Every ``report.json`` below a folder, at most three levels deep, in natural order of the paths."""
    found: list[Path] = []

    def look(here: Path, depth: int) -> None:
        if (here / _TWIN).is_file():
            found.append(here / _TWIN)
        if depth < _DEPTH:
            for child in here.iterdir():
                if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
                    look(child, depth + 1)

    try:
        look(folder, 0)
    except OSError as error:
        raise DataError(f"cannot look into {folder}: {error.strerror or error}") from None
    return sorted(found, key=lambda path: natural(path.parent.relative_to(folder).as_posix()))


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key that takes runs of digits as numbers.

    >>> sorted(["step-10", "step-9"], key=natural)
    ['step-9', 'step-10']
    """
    return [
        (0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part)
        for part in re.split(r"([0-9]+)", text)
        if part
    ]


def run(config: CompareConfig) -> CompareResult:
    """Compare and write page and twin.

    Raises:
        UsageError: fewer than two runs, an output exists, or PAIRS without ``make``.
        DataError: an input is no report, or cannot be read.
    """
    from calib.report.compare_page import build_comparison

    started = time.time()
    html = _output(config.output)
    twin = html.with_suffix(".json")
    for path in (html, twin):
        ensure_writable(path, force=config.overwrite)
    found = _twins(config, html.parent)
    names = _labels([path for path, _ in found])
    runs = [
        Run.of(read_json(path), name, _link(page, html.parent)) for name, (path, page) in zip(names, found, strict=True)
    ]
    title = config.title or (
        " and ".join(names) if len(names) == 2 else f"{len(names)} runs: {names[0]} to {names[-1]}"
    )
    report = build_comparison(runs, title)
    with atomic_writer(html, force=config.overwrite) as file:
        file.write(report.html.encode("utf-8", "backslashreplace"))
    write_json(twin, report.twin, force=config.overwrite)
    o.run_facts(html, started, runs=[str(path) for path, _ in found])
    return CompareResult(report.comparison, html, twin)


def _output(path: Path | None) -> Path:
    if path is None:
        return Path("reports") / "comparison" / "comparison.html"
    if path.suffix == ".html":
        return path
    if path.is_file():
        raise UsageError(f"-o {path} is a file; give a folder, or a name that ends in .html")
    return path / "comparison.html"


def _twins(config: CompareConfig, beside: Path) -> list[tuple[Path, Path | None]]:
    """The JSON twin of each run and its page, PAIRS judged first."""
    out: list[tuple[Path, Path | None]] = []
    pairs: list[tuple[int, Path]] = []
    for path in config.inputs:
        if path.is_file() and path.suffix.lower() == ".json":
            out.append((path, _page_of(path)))
        elif path.is_dir() and not _holds_pairs(path) and (reports := finished_reports(path)):
            out += [(twin, _page_of(twin)) for twin in reports]
        elif path.exists():
            pairs.append((len(out), path))
            out.append((path, None))
        else:
            raise missing(path)
    if len(out) < 2:
        raise UsageError(
            f"{config.inputs[0]} is one run; a comparison needs two or more",
            hint="give other reports, or a folder of them",
        )
    if pairs and config.make is None:
        raise UsageError(f"{pairs[0][1]} holds no report.json", hint=f"calib report {pairs[0][1]} makes it")
    folders = dict(zip([index for index, _ in pairs], _labels([path for _, path in pairs]), strict=True))
    for index, path in pairs:
        assert config.make is not None
        page = beside / _file_name(folders[index]) / "report.html"
        terminal.notice(f"{path}: judging")
        out[index] = (config.make(path, page), page)
    return out


def _page_of(twin: Path) -> Path | None:
    page = twin.with_suffix(".html")
    return page if page.is_file() else None


def _link(page: Path | None, base: Path) -> str | None:
    return None if page is None else Path(os.path.relpath(page, base)).as_posix()


def _file_name(label: str) -> str:
    return re.sub(r"[^\w.-]+", "-", label).strip(".-") or "run"


def _labels(paths: Sequence[Path]) -> list[str]:
    """A name for each run: its folder's, with as many folders above it as tell the runs apart."""
    parts = [_parts(path) for path in paths]
    names = [p[-1] for p in parts]
    for depth in range(2, 6):
        if len(set(names)) == len(names):
            return names
        names = ["/".join(p[-depth:]) if names.count(name) > 1 else name for p, name in zip(parts, names, strict=True)]
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return out


def _parts(path: Path) -> list[str]:
    whole = path.resolve()
    if whole.name in {_TWIN, "pairs.jsonl"}:
        whole = whole.parent
    elif whole.suffix == ".json":
        whole = whole.with_suffix("")
    return [part for part in whole.parts if part != whole.anchor] or ["run"]


def run_index(config: IndexConfig) -> Path:
    """One page over every report below a folder; they are linked, not compared.

    Raises:
        UsageError: the page exists.
        DataError: the folder holds no report, or one of them cannot be read.
    """
    if not config.folder.is_dir():
        raise DataError(f"{config.folder}: no such folder")
    html = config.output or config.folder / "index.html"
    if html.suffix != ".html":
        html = html / "index.html"
    ensure_writable(html, force=config.overwrite)
    found = finished_reports(config.folder)
    if not found:
        raise DataError(f"{config.folder}: no {_TWIN} in it", hint="calib report PAIRS -o FOLDER/NAME makes one")
    names = [twin.parent.relative_to(config.folder).as_posix() for twin in found]
    names = [config.folder.resolve().name if name == "." else name for name in names]
    entries = []
    for name, twin in zip(names, found, strict=True):
        this = Run.of(read_json(twin), name, _link(_page_of(twin), html.parent))
        entries.append(index_entry(this, {_TWIN: Path(os.path.relpath(twin, html.parent)).as_posix()}))
    with atomic_writer(html, force=config.overwrite) as file:
        page = build_index(entries, config.title or f"{len(entries)} reports in {config.folder.resolve().name}")
        file.write(page.encode("utf-8", "backslashreplace"))
    return html


def index_entry(this: Run, files: dict[str, str]) -> IndexEntry:
    """A finished report as a case of the index page."""
    figures, verdict = this.figures(), this.verdict
    return IndexEntry(
        name=this.label,
        headline=str(verdict["headline"]),
        sentence=str(verdict["sentence"]),
        status=this.status,
        unit=this.unit or "mel unit",
        mae_before=figures["mae_before"],
        mae_after=figures["mae_after"],
        mae_constant=figures["mae_constant"],
        r_w=figures["r_w"],
        refusal=None if verdict.get("refusal") is None else str(verdict["refusal"]),
        report=this.link,
        files=files,
        note=clipped(this.twin["title"]) if this.twin.get("title") else "",
        causes=tuple(f"the prediction is {f['title']}" for f in this.faults),
    )
