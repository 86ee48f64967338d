"""``calib demo``: the whole line on the embedded corpus and model, three cases side by side.

*units*: a healthy model whose output is normalised while inference expects raw mels. *collapsed*: the same network
trained on all-zero mels, as the founding user's was. *healthy*: nothing to do. The demo knows what the tool must say of
each, and fails if it says something else.
"""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass
from pathlib import Path

import typer

from calib.commands import options as o
from calib.commands.run import RunConfig, RunResult, Sentence, run
from calib.console import duration, table, terminal
from calib.data.files import atomic_writer
from calib.demo import CORPUS
from calib.errors import CalibError, DataError

__all__ = ["CASES", "Case", "run_demo"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_SENTENCES = (
    Sentence("Hello, this is a test of the fixed model.", "en"),
    Sentence("Guten Tag, das ist ein Test des reparierten Modells.", "de"),
    Sentence("سلام، این آزمایش مدل اصلاح شده است.", "fa"),
)


@dataclass(frozen=True)
class Case:
    """One case of the demo.

    Args:
        name: of its folder.
        what: what was done to make it.
        config: its pipeline, but for the output folder.
        expected: the state that the tool must find.
        written: whether a parameter file must be written.
    """

    name: str
    what: str
    config: RunConfig
    expected: str
    written: bool


def _case(name: str, what: str, expected: str, *, written: bool, **changes: object) -> Case:
    config = RunConfig("demo:corpus", Path(), f"demo: {name}", **changes)  # type: ignore[arg-type]
    return Case(name, what, config, expected, written)


CASES = (
    _case(
        "units", "a trained model whose output is normalised while inference expects raw mels", "fixable", written=True,
        model_options={"output_space": "normalized", "declare_output_space": "raw"}, say=_SENTENCES,
    ),
    _case("collapsed", "the same network trained on all-zero mels, as the founding user's was", "collapsed", written=False, checkpoint="collapsed"),
    _case("healthy", "the trained model as it is", "healthy", written=True),
)  # fmt: skip


def run_demo(output: Path, *, force: bool = False, limit: int | None = None) -> list[RunResult]:
    """Run the cases and write the index page.

    Raises:
        DataError: the embedded corpus is not there.
        CalibError: a case did not come out as it must (exit 1: a bug).
    """
    from calib.report import IndexEntry, build_index

    if not (CORPUS / "metadata.csv").is_file():
        raise DataError(
            f"the embedded corpus is missing at {CORPUS}", hint="python -m calib.models.reference.corpus makes it"
        )
    results = []
    entries = []
    for case in CASES:
        terminal.notice(f"\n{case.name}: {case.what}", "bold")
        result = run(dataclasses.replace(case.config, output=output / case.name, limit=limit), force=force)
        results.append(result)
        files = {
            path.name: _link(path, output)
            for path in (result.stats, result.params, result.report.twin)
            if path is not None
        }
        entries.append(
            IndexEntry.of(
                case.name, result.judgement.diagnosis, result.judgement.unit, report=_link(result.report.html, output), files=files,
                audio={label: _link(path, output) for label, path in result.wavs.items()}, note=case.what,
            )
        )  # fmt: skip
    with atomic_writer(output / "index.html", force=force) as file:
        file.write(build_index(entries, "calib demo: three models that sound wrong, or not").encode())
    return results


def _link(path: Path, base: Path) -> str:
    return Path(os.path.relpath(path, base)).as_posix()


def _check(results: list[RunResult]) -> None:
    """The demo is a promise: each case must come out as it says.

    Raises:
        CalibError: one did not.
    """
    for case, result in zip(CASES, results, strict=True):
        verdict = result.judgement.diagnosis.verdict
        if verdict.state != case.expected or (result.params is not None) != case.written:
            raise CalibError(
                f"demo case {case.name}: the verdict is {verdict.state} and parameters were {'written' if result.params else 'not written'}; expected {case.expected}"
            )


def _rows(results: list[RunResult]) -> list[list[str]]:
    rows = []
    for case, result in zip(CASES, results, strict=True):
        d = result.judgement.diagnosis
        heard = result.report.heard.get(result.report.median or "", {})
        rows.append(
            [
                case.name, d.verdict.state.upper() + ("" if d.verdict.writes else " (refused)"), f"{d.row('before').mae:.3f}", f"{d.after.mae:.3f}", f"{d.best_constant.mae:.3f}",
                f"{d.summary['r_w']:.3f}", f"{heard.get('raw', float('nan')):.2f}", f"{heard.get('calibrated', float('nan')):.2f}", f"{heard.get('target', float('nan')):.2f}",
                "yes" if result.params else "no",
            ]
        )  # fmt: skip
    return rows


@app.command(
    help="The whole pipeline on an embedded corpus and model: three cases, three verdicts, three reports, an index page, WAVs before and after."
)
def demo(
    output: o.Output = None,
    limit: o.Limit = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Thin shell of `run_demo`."""
    o.set_level(quiet=quiet, verbose=verbose)
    folder = output or Path("reports/demo")
    started = time.monotonic()
    results = run_demo(folder, force=force, limit=limit)
    if quiet:
        for case, result in zip(CASES, results, strict=True):
            terminal.result(f"{case.name}: {result.judgement.diagnosis.verdict.headline}", "bold")
    else:
        _tell(results)
    terminal.result(f"index: {folder / 'index.html'} ({duration(time.monotonic() - started)})")
    _check(results)


def _tell(results: list[RunResult]) -> None:
    """The table of the cases, and what became of each."""
    terminal.result()
    header = [
        "case",
        "verdict",
        "MAE before",
        "MAE after",
        "MAE constant",
        "r within bin",
        "audio before",
        "audio after",
        "audio target",
        "written",
    ]
    for line in table(header, _rows(results), left=2):
        terminal.result(line)
    unit = results[0].judgement.unit
    terminal.result(
        f"MAE on unseen utterances, in {unit}; audio: MAE between the mel of the vocoded audio and the target mel (median utterance)."
    )
    for case, result in zip(CASES, results, strict=True):
        d = result.judgement.diagnosis
        terminal.result()
        terminal.result(f"{case.name}: {d.verdict.headline}", "bold")
        terminal.result(f"  {d.verdict.sentence}.")
        if not d.verdict.writes:
            gain = 1.0 - d.row("ols").mae / d.row("before").mae
            terminal.result(
                f"  The fit cuts MAE by {gain:.0%}, from {d.row('before').mae:.3f} to {d.row('ols').mae:.3f}; so does a constant ({d.best_constant.mae:.3f}). Nothing was repaired and nothing written."
            )
        terminal.result(f"  {result.report.html}")
    terminal.result()
