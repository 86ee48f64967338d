"""``calib stats``: mel statistics of a dataset, one streaming pass."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from calib import __version__
from calib.commands import options as o
from calib.commands.statsinput import STATS_NAME, export_path, plan_exports
from calib.commands.statsinput import export as write_exports
from calib.console import duration, table, terminal
from calib.data.files import ensure_writable, write_json
from calib.data.sources import Select, open_source
from calib.data.statsfiles import FORMATS, WRITABLE
from calib.demo import embedded
from calib.errors import DataError
from calib.mel.corpus import Measure, reader_for
from calib.mel.frontend import FrontEnd
from calib.mel.statistics import DatasetStatistics, stats_file
from calib.run.engine import Skipped, map_corpus, resolve_jobs

__all__ = ["StatsConfig", "run"]


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


def run(config: StatsConfig) -> dict[str, Any]:
    """Measure a corpus and write the statistics; returns the file's content.

    Raises:
        DataError: nothing usable, too much skipped, no variance.
        UsageError: the output exists, no front end for audio, a layout that cannot be told, an export that cannot be.
    """
    started = time.time()
    ensure_writable(config.output, force=config.force)
    exports = plan_exports(config.export, config.output, force=config.force)
    frontend = None if config.frontend is None else FrontEnd.load(config.frontend)
    source = open_source(
        embedded(config.source),
        columns=config.columns,
        audio_root=config.audio_root,
        split=config.split,
        limit=config.limit,
        select=config.select,
    )
    terminal.notice(source.describe())
    device = _device(config.device)
    reader = reader_for(source, frontend, layout=config.layout, device=device)
    total = source.expected
    skipped = Skipped(config.allow_skipped, total=total)
    dataset: DatasetStatistics | None = None
    rates: Counter[int] = Counter()
    noted: Counter[str] = Counter()
    jobs = resolve_jobs(config.jobs, total) if device == "cpu" else 1
    with terminal.progress("stats", total) as bar:
        for outcome in map_corpus(Measure(reader), source, jobs=jobs):
            if outcome.value is None:
                skipped.add(outcome.item.id, outcome.reason or "unknown")
                bar.advance(skipped=True)
                continue
            utterance, rate, notes = outcome.value
            noted.update(notes)
            if dataset is None:
                dataset = DatasetStatistics(utterance.s1.size)
            if utterance.s1.size != dataset.n_mels:
                raise DataError(
                    f"{outcome.item.id}: a mel with {utterance.s1.size} bins among mels with {dataset.n_mels}",
                    hint="one folder, one front end; if these are stored the other way round, give --layout TM or MT",
                )
            dataset.add(utterance)
            if rate is not None and frontend is not None and rate != frontend.sample_rate:
                rates[rate] += 1
            bar.advance(utterance.seconds)
    skipped.total = bar.done
    skipped.check()
    assert dataset is not None
    for line in skipped.lines():
        terminal.warning(f"skipped {line}")
    for rate, count in sorted(rates.items()):
        terminal.notice(
            f"{count} of {skipped.total} files at {rate} Hz were resampled to {frontend.sample_rate if frontend else 0} Hz"
        )
    for note, count in sorted(noted.items()):
        terminal.notice(f"{count} of {skipped.total} files: {note}")
    content = stats_file(
        dataset.result(floor=None if frontend is None else frontend.floor),
        frontend,
        {
            "version": __version__,
            "options": {"limit": config.limit, "split": config.split, **config.select.provenance()},
            "source_digest": dataset.source_digest(),
            "resampled": {str(rate): count for rate, count in sorted(rates.items())},
            "noted": dict(sorted(noted.items())),
            "skipped": skipped.provenance(),
        },
    )
    write_json(config.output, content, force=config.force)
    o.run_facts(config.output, started, source=str(config.source), jobs=jobs, device=device)
    write_exports(content, exports, frontend, force=config.force)
    return content


def _device(name: str) -> str:
    from calib.models.loading import resolve_device

    # numpy is the CPU's namespace; auto would import torch to look for a GPU, which small corpora do not repay.
    return "cpu" if name in {"auto", "cpu"} else resolve_device(name)


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
    json_: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Thin shell of `run`."""
    o.set_level(quiet=quiet, verbose=verbose, json_target=json_, force=force)
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
        )
    )
    for line in render(content):
        terminal.result(line)
    terminal.result(f"written: {path} ({duration(time.monotonic() - started)})")
    for name, target in (export_path(text, path) for text in export or ()):
        terminal.result(f"written: {target} ({FORMATS[name].title})")
    o.emit_json(json_, content, force=force)


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
            [name, f"{v['mel_mean']:.3f}", f"{v['mel_std']:.3f}", str(v["n_frames"])]
            for name, v in list(speakers.items())[:20]
        ]
        lines += ["", *table(["speaker", "mean", "sd", "frames"], rows)]
        if len(speakers) > 20:
            lines.append(f"... and {len(speakers) - 20} more speakers (all are in the file)")
    return lines
