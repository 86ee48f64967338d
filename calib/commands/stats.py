"""``calib stats``: mel statistics of a dataset, one streaming pass.

Data flow: SOURCE -> chunks (`calib.commands.statswork`) -> `calib.run.engine` -> one ledger line a chunk -> merged
exactly -> mel_normalization_stats.json. The ledger lies beside the output until that is written.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from calib import __version__
from calib.commands import options as o
from calib.commands.opening import Opening
from calib.commands.statsinput import STATS_NAME, export_path, plan_exports
from calib.commands.statsinput import export as write_exports
from calib.commands.statswork import (
    ChunkValue,
    Known,
    StatsWork,
    chunk_size,
    completed,
    mean_bytes,
    merge,
)
from calib.console import duration, table, terminal
from calib.data.files import ensure_writable, write_json
from calib.data.remote import is_url
from calib.data.sources import Select, Source
from calib.data.statsfiles import FORMATS, WRITABLE
from calib.errors import CalibError, DataError
from calib.mel.census.findings import Finding
from calib.mel.census.passing import SOUND, STORED, judged
from calib.mel.census.questions import QUESTIONS
from calib.mel.census.units import loudest
from calib.mel.corpus import SOUNDLESS, Measure, reader_for
from calib.mel.dataset import DatasetStatistics, stats_file
from calib.mel.frontend import FrontEnd
from calib.native.library import PURE
from calib.native.mel import path as native_path
from calib.run.engine import EngineConfig, Skipped, run_units
from calib.run.ledger import Ledger

__all__ = ["StatsConfig", "run"]


SYNC_EVERY = 5.0  # s between two fsyncs of the ledger: what a power cut can lose
_WORTHLESS = 10.0  # s of work that a ledger is not kept for when the result is refused

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True)
class StatsConfig:
    """What ``calib stats`` needs; see its options."""

    source: str
    frontend: FrontEnd | str | None
    output: Path = Path(STATS_NAME)
    columns: str | None = None
    audio_root: Path | None = None
    split: str | None = None
    layout: str | None = None
    limit: int | None = None
    jobs: int | None = None
    device: str = "cpu"
    allow_skipped: float = 1.0
    force: bool = False
    export: tuple[str, ...] = ()
    select: Select = field(default_factory=Select)
    engine: str = "local"
    ray_address: str | None = None
    fresh: bool = False


def run(config: StatsConfig) -> dict[str, Any]:
    """Measure a corpus and write the statistics; returns the file's content.

    Raises:
        DataError: nothing usable, too much skipped, no variance, stored mels that cannot be the front end's.
        UsageError: the output exists, no front end for audio, a layout that cannot be told, an export that cannot be,
            the ledger of another run beside the output, another process on it.
    """
    started = time.time()
    ensure_writable(config.output, force=config.force)
    exports = plan_exports(config.export, config.output, force=config.force)
    frontend = None if config.frontend is None else FrontEnd.load(config.frontend)
    opening = Opening(config.source, config.columns, config.audio_root, config.split, config.limit, config.select)
    source = opening.announced()
    device = _device(config.device)
    measure = Measure(reader_for(source, frontend, layout=config.layout, device=device))
    engine, size = _plan(config, source, device)
    path = config.output.with_name(f"{config.output.name}.ledger")
    with Ledger(
        path,
        _identity(config, source, frontend, measure),
        fresh=config.fresh,
        replace=config.force,
        what=str(path),
        settings={"chunk": size},
        keep=Known.of,
        sync_every=SYNC_EVERY,
    ) as ledger:
        known: dict[int, Known] = {int(key): of for key, of in ledger.finished.items()}
        if known:
            terminal.notice(f"going on from {path} ({len(known)} parts of the corpus are done; --fresh starts again)")
        work = StatsWork(source, opening, measure, int(ledger.settings["chunk"]), known)
        with _kept_if_worth_it(ledger):
            total = _measure(work, engine, source, ledger, config.allow_skipped)
            content = _content(config, source, frontend, total)
        write_json(config.output, content, force=config.force)
        ledger.remove()
    o.run_facts(
        config.output,
        started,
        source=str(config.source),
        engine=engine.kind,
        jobs=engine.jobs,
        device=device,
        kernel=_kernel(source, measure),
        resumed_utterances=total.earlier,
    )
    write_exports(content, exports, frontend, force=config.force)
    return content


@contextlib.contextmanager
def _kept_if_worth_it(ledger: Ledger) -> Iterator[None]:
    """What a refused run leaves: nothing, where measuring again takes seconds; else a ledger, and a word about it."""
    started, resumed = time.monotonic(), bool(ledger.finished)  # what an earlier run did may have taken hours
    try:
        yield
    except CalibError:
        if ledger.finished and (resumed or time.monotonic() - started >= _WORTHLESS):
            terminal.notice(f"what was measured is kept in {ledger.path} for the next run")
        elif not ledger.full:
            ledger.remove()
        raise
    finally:
        if not ledger.finished:
            ledger.remove()


@dataclass
class _Total:
    """What all chunks add up to; ``earlier``: how many utterances an interrupted run had done."""

    skipped: Skipped
    dataset: DatasetStatistics | None = None
    rates: Counter[int] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    doubts: Counter[str] = field(default_factory=Counter)
    earlier: int = 0


def _plan(config: StatsConfig, source: Source, device: str) -> tuple[EngineConfig, int]:
    """Where, and in what chunks."""
    weight = mean_bytes(source)
    size = chunk_size(source.expected, weight, device)
    if device != "cpu" and config.engine == "local":
        return EngineConfig(jobs=1), size  # the device is one
    # What a file weighs, in files of 300 kB: ten recordings of an hour are worth a second process, ten words are not.
    worth = round(source.expected * max(1.0, weight / 3e5))
    engine = EngineConfig(config.engine, config.jobs, config.ray_address).sized(worth)
    return engine, size


def _identity(config: StatsConfig, source: Source, frontend: FrontEnd | None, measure: Measure) -> dict[str, Any]:
    """Everything that can change a byte of the result, but for the files themselves: chunks are named by those."""
    from importlib.metadata import version

    import numpy as np
    import scipy

    place = Opening(config.source).place
    return {
        "command": "stats",
        "asks": sorted((*SOUND, *STORED)),
        "calib": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "soundfile": version("soundfile"),
        "soxr": version("soxr"),
        "source": place if is_url(str(place)) else str(Path(place).absolute()),
        "holds": f"{source.kind}, {source.holds}",
        "frontend": None if frontend is None else f"{frontend.name} ({frontend.id})",
        "layout": measure.reader.layout,
        "device": measure.reader.device,
        "kernel": _kernel(source, measure),
        "columns": config.columns,
        "audio_root": None if config.audio_root is None else str(config.audio_root.absolute()),
        "split": config.split,
        "limit": config.limit,
        **config.select.provenance(),
    }


def _kernel(source: Source, measure: Measure) -> str:
    """``pure``, or the instruction set of the compiled kernel: it decides last bits."""
    return PURE if source.holds == "mels" else native_path(measure.reader.frontend, measure.reader.device)


def _measure(work: StatsWork, engine: EngineConfig, source: Source, ledger: Ledger, allow_skipped: float) -> _Total:
    """All chunks, merged as they come."""
    total = _Total(Skipped(allow_skipped))
    with terminal.progress("stats", source.expected) as bar, contextlib.closing(run_units(work, engine)) as values:
        for index, value in values:
            source.watch()  # not before the workers are forked
            source.poll()
            earlier = value.known
            if earlier:
                before = ChunkValue.from_json(ledger.value(str(index)))
                value = completed(before, value)  # noqa: PLW2901 - the same one, whole
                if value != before:  # what could not be used then was used, or has another reason now
                    ledger.record(str(index), value.to_json())
            elif not value.lost:
                ledger.record(str(index), value.to_json())
            for name, reason in value.skipped:
                total.skipped.add(name, reason)
            total.rates += value.rates
            total.noted += value.notes
            total.doubts += value.doubts
            total.earlier += value.items if earlier else 0
            if value.state is not None:
                part = DatasetStatistics.from_bytes(value.state)
                if total.dataset is None:
                    total.dataset = part
                else:
                    merge(total.dataset, part, value.first)
            bar.advance(value.seconds, skipped=len(value.skipped), items=value.items, earlier=earlier)
        source.finish()
    total.skipped.total = bar.done
    return total


def _content(config: StatsConfig, source: Source, frontend: FrontEnd | None, total: _Total) -> dict[str, Any]:
    """The file's content, with notices of what is unusual and warnings of what is wrong.

    Raises:
        DataError: nothing usable, too much skipped, no variance, stored mels that cannot be the front end's.
    """
    skipped, dataset = total.skipped, total.dataset
    skipped.check()
    assert dataset is not None
    for line in skipped.lines():
        terminal.warning(f"skipped {line}")
    for rate, count in sorted(total.rates.items()):
        terminal.notice(
            f"{count} of {skipped.total} files at {rate} Hz were resampled to {frontend.sample_rate if frontend else 0} Hz"
        )
    for note, count in sorted(total.noted.items()):
        if note == SOUNDLESS:
            terminal.warning(
                f"{count} of {skipped.total} files hold {note}; they are in the statistics and pull the mean down: calib check data {config.source}"
            )
        else:
            terminal.notice(f"{count} of {skipped.total} files: {note}")
    result = dataset.result(floor=None if frontend is None else frontend.floor)
    stored = source.holds == "mels"
    wrong = judged(total.doubts, dataset.n_utterances, result, frontend, stored=stored)
    if frontend is not None:
        _refuse(config, wrong, frontend)
    for finding in wrong:
        question = QUESTIONS[finding.key]
        terminal.warning(f"{finding.status.upper()}: {question.title}: {finding.measured}; {question.next}")
    if wrong:
        terminal.warning(
            f"the statistics are of all this as it is, and say so; which files: {_check_data(config, frontend)}"
        )
    content = stats_file(
        result,
        frontend,
        {
            "version": __version__,
            "options": {"limit": config.limit, "split": config.split, **config.select.provenance()},
            "source_digest": dataset.source_digest(),
            "resampled": {str(rate): count for rate, count in sorted(total.rates.items())},
            "noted": dict(sorted(total.noted.items())),
            "skipped": skipped.provenance(),
        },
    )
    if wrong:  # before the provenance, where a person reads it
        provenance = content.pop("provenance")
        content |= {"warnings": [_warning(finding) for finding in wrong], "provenance": provenance}
    return content


def _refuse(config: StatsConfig, wrong: Sequence[Finding], frontend: FrontEnd) -> None:
    """No file says "hifigan" of mels that hifigan cannot have made.

    Raises:
        DataError: more than ``--allow-skipped`` percent of the mels hold values that no audio gives.
    """
    found = {finding.key: finding for finding in wrong}
    beyond = found.get("mel-scale")
    if beyond is None or 100.0 * (beyond.share or 0.0) <= config.allow_skipped:
        return
    unit = f"; {found['domain'].measured}" if "domain" in found else ""
    raise DataError(
        f"{config.source}: not mels of {frontend.name}: {beyond.count} of {beyond.total} hold values that audio in [-1, 1] cannot give (the loudest possible is {loudest(frontend):.3f} {frontend.unit}){unit}",
        hint="name the front end that they were made with (calib frontends identify finds it), or leave --frontend out: "
        f"then the statistics are in the mels' own unit and claim no front end; which files: {_check_data(config, frontend)}",
    )


def _check_data(config: StatsConfig, frontend: FrontEnd | None) -> str:
    from shlex import quote

    asked = "" if config.frontend is None or frontend is None else f" --frontend {quote(str(config.frontend if isinstance(config.frontend, str) else frontend.name))}"  # fmt: skip
    return f"calib check data {quote(config.source)}{asked}"


def _warning(finding: Finding) -> dict[str, Any]:
    """For the file."""
    question = QUESTIONS[finding.key]
    return {
        "key": finding.key,
        "status": finding.status,
        "title": question.title,
        "measured": finding.measured,
        "rule": finding.rule,
        "why": question.why,
        "next": question.next,
    }


def _device(name: str) -> str:
    if name in {"auto", "cpu"}:
        # numpy is the CPU's namespace; auto would import torch to look for a GPU, which small corpora do not repay.
        return "cpu"
    from calib.models.loading import resolve_device

    return resolve_device(name)


@app.command(
    help="Mel statistics of a dataset: mean, sd, per bin, quantiles, floor, by speaker. One pass; the same bytes whatever the order and the number of processes."
)
def stats(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="LJSpeech folder, filelist, Coqui CSV, Common Voice, JSONL, Kaldi, lhotse cuts, WebDataset tars, Parquet, folder of audio or of mels; local or a URL.",
            show_default=False,
        ),
    ],
    frontend: o.OptionalFrontEnd = None,
    output: o.Output = None,
    columns: o.Columns = None,
    audio_root: o.AudioRoot = None,
    split: o.Split = None,
    speaker: o.Speakers = None,
    language: o.Languages = None,
    min_duration: o.MinDuration = None,
    max_duration: o.MaxDuration = None,
    layout: o.Layout = None,
    limit: o.Limit = None,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    engine: o.Engine = "local",
    ray_address: o.RayAddress = None,
    fresh: o.Fresh = False,
    allow_skipped: o.AllowSkipped = 1.0,
    export: Annotated[
        list[str] | None,
        typer.Option(
            "--export",
            metavar="FORMAT[=PATH]",
            help=f"Also write the statistics for another system, beside the JSON or to PATH; repeatable. FORMAT: {', '.join(WRITABLE)}.",
            show_default=False,
        ),
    ] = None,
    force: o.Force = False,
    fail_on: o.FailOn = "never",
    json_: o.Json = None,
    progress: o.ProgressForm = "auto",
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Thin shell of `run`."""
    o.set_level(quiet=quiet, verbose=verbose, json_target=json_, force=force, fail_on=fail_on, progress=progress)
    path = output or Path(STATS_NAME)
    started = time.monotonic()
    content = run(
        StatsConfig(
            source,
            frontend,
            path,
            columns,
            audio_root,
            split,
            layout,
            limit,
            jobs,
            device,
            allow_skipped,
            force,
            tuple(export or ()),
            o.selection(speaker, language, min_duration, max_duration),
            engine,
            ray_address,
            fresh,
        )
    )
    lines = render(content)
    o.show(lines, lines[:2])
    terminal.result(f"written: {path} ({duration(time.monotonic() - started)})")
    for name, target in (export_path(text, path) for text in export or ()):
        terminal.result(f"written: {target} ({FORMATS[name].title})")
    o.emit_json(json_, content, force=force)
    wrong = content.get("warnings", [])
    status = "fail" if any(one["status"] == "fail" for one in wrong) else "warn" if wrong else "pass"
    o.gate(fail_on, status, "; ".join(f"{one['title']}: {one['measured']}" for one in wrong))


def render(content: dict[str, Any]) -> list[str]:
    """The statistics for people."""
    unit = FrontEnd.from_fields(content["frontend"]).unit if content["frontend"] else "the mels' own unit"
    q = content["quantiles"]
    hours = "duration unknown (no front end)" if content["hours"] is None else f"{content['hours']:.3f} h"
    floor = (
        f"at the smallest value ({content['min']:.3f}; the floor is unknown)"
        if content["floor"] is None
        else f"at the floor ({content['floor']:.3f})"
    )
    lines = [
        f"mean {content['mel_mean']:.4f}, sd {content['mel_std']:.4f} ({unit}), {len(content['per_bin']['mean'])} bins",
        f"{content['n_utterances']} utterance{'s' * (content['n_utterances'] != 1)}, {content['n_frames']} frames, {hours}",
        f"range {content['min']:.3f} to {content['max']:.3f}; 1 % {q['0.01']:.3f}, median {q['0.5']:.3f}, 99 % {q['0.99']:.3f}",
        f"{floor}: {content['floor_share']:.2%} of all values",
    ]
    if content["dead_bins"]:
        lines.append(f"dead bins (never above the floor, or constant): {', '.join(map(str, content['dead_bins']))}")
    speakers = content["speakers"]
    if len(speakers) > 1:
        rows = [
            [
                "all speakers" if name == "default" else name,
                f"{v['mel_mean']:.3f}",
                f"{v['mel_std']:.3f}",
                str(v["n_frames"]),
            ]
            for name, v in list(speakers.items())[:20]
        ]
        lines += ["", *table(["speaker", "mean", "sd", "frames"], rows)]
        if len(speakers) > 20:
            lines.append(f"... and {len(speakers) - 20} more speakers (all are in the file)")
    return lines
