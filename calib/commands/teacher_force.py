"""``calib teacher-force``: a model over a held-out set, with the true mels as decoder input.

Data flow: items, sorted by id on disk -> windows -> batches by length -> mels -> model -> arrays (files, or one shard a
window) and one ledger line a batch -> index. Windows and batches are functions of the sorted corpus alone, so that a
run gives the same bytes with one process or many, and after it was killed and resumed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from calib import __version__
from calib.commands import options as o
from calib.commands.batching import Batching, Mels, probe
from calib.commands.forcing import Count, Done, Forcing
from calib.commands.opening import Opening
from calib.commands.plugins import LoadedModel, ModelConfig, open_model
from calib.console import duration, terminal
from calib.data.files import canonical_json, digest
from calib.data.pairs import HEADER_NAME, INDEX_NAME
from calib.data.pairwriter import write_index
from calib.data.plan import Plan
from calib.data.sources import Select
from calib.errors import DataError, UsageError
from calib.mel.corpus import reader_for
from calib.models.loading import parse_options, resolve_device
from calib.models.teaching import AUTOCAST, Teacher, library_threads
from calib.run.engine import EngineConfig, Skipped, run_units
from calib.run.ledger import Ledger
from calib.run.local import cores

__all__ = ["TeacherForceConfig", "TeacherForceResult", "run"]

LEDGER_NAME = "ledger.jsonl"
WORK_NAME = ".work"
BATCH_FRAMES = 16_384  # 190 s of LJSpeech
_WINDOW = 128  # utterances; larger where batches are: 8 of them at least
_SHARDED = 4096  # utterances; a larger corpus is written as shards, unless told otherwise
_WORTH = 20.0  # s of work that one process does before others are started
_SHARE = 0.6  # of the free memory, for all processes

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True)
class TeacherForceConfig:
    """What ``calib teacher-force`` needs; see its options."""

    source: str
    model: ModelConfig
    output: Path
    frontend: str | None = None
    free_running: bool = False
    columns: str | None = None
    audio_root: Path | None = None
    split: str | None = None
    layout: str | None = None
    limit: int | None = None
    batch_size: int = 8
    allow_skipped: float = 1.0
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    fresh: bool = False
    force: bool = False
    select: Select = field(default_factory=Select)
    engine: EngineConfig = field(default_factory=EngineConfig)
    autocast: str | None = None
    shards: bool | None = None
    batch_frames: int = BATCH_FRAMES


@dataclass
class TeacherForceResult:
    """What a run wrote: the folder, how many pairs, what was skipped, what was noticed about the model."""

    output: Path
    n_pairs: int
    skipped: Skipped
    header: dict[str, Any]
    findings: list[str] = field(default_factory=list)


def run(config: TeacherForceConfig) -> TeacherForceResult:
    """Run the model and write PAIRS.

    Raises:
        UsageError: the output exists, belongs to another run, or the model does not fit.
        DataError: nothing usable, too much skipped, or workers that die.
        PluginError: the model failed or broke its protocol.
    """
    started = time.time()
    output, again = config.output.resolve(), config.fresh or config.force
    ledger_path = output / LEDGER_NAME
    if output.exists() and not output.is_dir():
        raise UsageError(f"-o {config.output} is a file; the pairs need a folder", hint="choose another -o")
    for name in (INDEX_NAME, HEADER_NAME):  # beside a ledger they are of a run that was killed while it wrote them
        if (output / name).exists() and not config.force and not ledger_path.exists():
            raise UsageError(
                f"{config.output / name} exists and is not overwritten", hint="choose another -o, or give --force"
            )
    loaded = open_model(config.model, frontend=config.frontend)
    if config.free_running and not hasattr(loaded.model, "generate"):
        raise UsageError(f"--free-running needs a model with generate(); {config.model.spec} has none")
    teacher = _teacher(config, loaded)
    opening = Opening(config.source, config.columns, config.audio_root, config.split, config.limit, config.select)
    source = opening.announced()
    reader = reader_for(source, loaded.frontend, layout=config.layout)
    size = max(1, config.batch_size) if loaded.model.padding_safe else 1
    batching = Batching(size, max(1, config.batch_frames), max(_WINDOW, 8 * max(1, config.batch_size)))
    header = _header(config, loaded)
    with contextlib.ExitStack() as stack:
        stack.callback(library_threads(1))  # what the model keeps of the probe has to be what a worker makes of it
        folder = stack.enter_context(_work_folder(output))
        plan = Plan.write(source, folder / f"plan-{os.getpid()}")
        checked = probe(teacher, Mels(plan, reader), plan, batching)
        if not checked.padding_safe:
            batching = dataclasses.replace(batching, size=1)
        header["deterministic"] = checked.deterministic
        header["options"]["batch_size"] = batching.size
        sharded = plan.count > _SHARDED if config.shards is None else config.shards
        identity = {**header, "corpus": plan.digest, "sharded": sharded}
        ledger = stack.enter_context(Ledger(ledger_path, identity, fresh=again))
        work = Forcing(
            config.model, plan, reader, batching, output, folder / digest(identity), digest(identity), config.seed, config.autocast,
            sharded, (config.temperature, config.top_p) if config.free_running else None,
        )  # fmt: skip
        _clear(output, folder, {plan.folder.name, *(() if again else (work.run,))}, again=again)
        engine = _engine(config, batching.windows(plan.count), checked.pace * plan.count)
        if engine.kind == "local" and engine.jobs == 1:
            work.opened = loaded.model
        del loaded, teacher
        if work.opened is None:
            _let_go()
        skipped = Skipped(config.allow_skipped, total=plan.count)
        done = _all_windows(work, engine, skipped)
        skipped.check()
        header["skipped"] = skipped.provenance()
        write_index(output, _rows(work, done), {**header, "layout": "TM"}, force=True)
        ledger.remove()
        shutil.rmtree(folder, ignore_errors=True)
    o.run_facts(
        config.output / INDEX_NAME,
        started,
        source=str(config.source),
        device=config.model.device,
        checkpoint=config.model.checkpoint,
        engine=engine.kind,
        jobs=engine.jobs,
    )
    for line in skipped.lines():
        terminal.warning(f"skipped {line}")
    count = sum(one.pairs for one in done)
    findings = checked.findings + _not_finite(done, count)
    return TeacherForceResult(config.output, count, skipped, header, findings)


def _let_go() -> None:
    """The workers have models of their own: give back the memory of this one, on the GPU as well."""
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _teacher(config: TeacherForceConfig, loaded: LoadedModel) -> Teacher:
    if config.autocast is not None and config.autocast not in AUTOCAST:
        raise UsageError(f"--autocast is {config.autocast!r}; it must be {' or '.join(AUTOCAST)}")
    device = resolve_device(config.model.device)
    return Teacher(loaded.model, config.model.spec, loaded.frontend.n_mels, config.seed, config.autocast, device)


def _header(config: TeacherForceConfig, loaded: LoadedModel) -> dict[str, Any]:
    """What ``pairs.json`` says; two entries are known after the probe.

    Raises:
        UsageError: an option that a JSON file cannot hold.
    """
    header = {
        "model": config.model.spec,
        "model_options": dict(config.model.options),
        "model_id": loaded.model_id,
        "model_kind": loaded.model.kind,
        "autoregressive": loaded.model.autoregressive,
        "output_space": loaded.model.output_space,
        "deterministic": None,
        "frontend": loaded.frontend.fields(),
        "frontend_id": loaded.frontend.id,
        "version": __version__,
        "options": {
            "seed": config.seed,
            "limit": config.limit,
            "split": config.split,
            **config.select.provenance(),
            "free_running": config.free_running,
            "temperature": config.temperature,
            "top_p": config.top_p,
            "batch_size": config.batch_size,
            "batch_frames": config.batch_frames,
            **({} if config.autocast is None else {"autocast": config.autocast}),
        },
    }
    try:
        canonical_json(header)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"an option holds what a JSON file cannot: {error}",
            hint="options are texts, finite numbers, true and false",
        ) from None
    return header


@contextlib.contextmanager
def _work_folder(output: Path) -> Iterator[Path]:
    """Where a run keeps what it needs to go on; what only this process needs goes with it, and empty folders, too."""
    folder = output / WORK_NAME
    try:
        yield folder
    finally:
        shutil.rmtree(folder / f"plan-{os.getpid()}", ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
            output.rmdir()


def _clear(output: Path, folder: Path, kept: set[str], *, again: bool) -> None:
    """Once the ledger's lock is held: what earlier runs left and this one does not go on with."""
    if again:
        for name in (INDEX_NAME, HEADER_NAME):  # an index must not outlive its arrays
            (output / name).unlink(missing_ok=True)
    for entry in folder.iterdir():
        if entry.name not in kept:
            shutil.rmtree(entry, ignore_errors=True)


def _engine(config: TeacherForceConfig, windows: int, seconds: float) -> EngineConfig:
    """With the number of processes that was asked for, else one a GPU; or a core, as far as work and memory allow."""
    engine = config.engine
    if engine.kind != "local":
        return engine
    if engine.jobs is not None:  # no more than there is to do
        return dataclasses.replace(engine, jobs=max(1, min(engine.jobs, windows)))
    if resolve_device(config.model.device).startswith("cuda"):
        import torch

        jobs = torch.cuda.device_count()
    else:
        jobs = cores() if seconds > _WORTH else 1
        with contextlib.suppress(ImportError, OSError, ValueError, IndexError):  # elsewhere than on Linux
            import resource

            own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            text = Path("/proc/meminfo").read_text(encoding="ascii")
            free = int(text.split("MemAvailable:")[1].split()[0]) * 1024
            jobs = min(jobs, int(_SHARE * free / own))
    return dataclasses.replace(engine, jobs=max(1, min(jobs, windows)))


def _all_windows(work: Forcing, engine: EngineConfig, skipped: Skipped) -> list[Done]:
    """Every window, or what an earlier run left of it; in their order."""
    left = sum(1 for path in work.folder.glob("*.jsonl") if path.stat().st_size > 0) if work.folder.is_dir() else 0
    if left:
        terminal.notice(f"resuming: {left} of {len(work.units())} windows of {work.batching.window} utterances were begun or done")  # fmt: skip
    found: dict[int, Done] = {}
    frontend = work.reader.frontend
    assert frontend is not None
    try:
        work.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write {work.folder}: {error.strerror or error}") from error
    with terminal.progress("teacher-force", work.plan.count) as bar:

        def told(count: Count) -> None:
            seconds = count.frames * frontend.hop_length / frontend.sample_rate
            bar.advance(seconds, skipped=count.skipped, items=count.items, earlier=count.earlier)

        if work.opened is not None:  # in this process, batch by batch
            work.told = told
        with contextlib.closing(run_units(work, engine)) as values:
            for number, one in values:
                found[number] = one
                for count in one.counts if work.told is None else ():
                    told(count)
    for number in sorted(found):
        for name, reason in found[number].skipped:
            skipped.add(name, reason)
    return [found[number] for number in sorted(found)]


def _rows(work: Forcing, done: list[Done]) -> Iterator[bytes]:
    """The index, a window at a time.

    Raises:
        DataError: a window's part is not what its worker wrote.
    """
    for number, one in enumerate(done):
        path = work.folder / f"{number:05}.rows"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}") from error
        if digest(data) != one.rows:
            raise DataError(f"{path}: is not what was written", hint="give the command again: it goes on from there")
        yield data


def _not_finite(done: list[Done], pairs: int) -> list[str]:
    count, names = sum(one.not_finite for one in done), [name for one in done for name in one.named][:3]
    if not count:
        return []
    text = f"{count} of {pairs} predictions hold NaN or infinite values ({', '.join(names)}{', ...' if count > 3 else ''}): they are kept as they are, and no calibration can be fitted to them"
    terminal.warning(text)
    return [text]


@app.command(
    name="teacher-force",
    help="Run a model over a held-out set with the true mels as decoder input, and write PAIRS. A killed run resumes where it stopped.",
)
def teacher_force(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Held-out corpus: LJSpeech folder, filelist, Coqui CSV, Common Voice, JSONL, Kaldi, lhotse cuts, WebDataset tars, Parquet, folder of audio; local or a URL.",
            show_default=False,
        ),
    ],
    model: o.ModelSpec = "reference",
    checkpoint: o.Checkpoint = None,
    model_option: o.ModelOption = None,
    model_python: o.ModelPython = None,
    output: o.Output = None,
    frontend: o.OptionalFrontEnd = None,
    free_running: Annotated[
        bool, typer.Option("--free-running", help="Also generate each utterance without the true mel.")
    ] = False,
    columns: o.Columns = None,
    audio_root: o.AudioRoot = None,
    split: o.Split = None,
    speaker: o.Speakers = None,
    language: o.Languages = None,
    min_duration: o.MinDuration = None,
    max_duration: o.MaxDuration = None,
    layout: o.Layout = None,
    limit: o.Limit = None,
    batch_size: Annotated[
        int,
        typer.Option("--batch-size", help="Utterances a batch, of like length; 1 where padding is not safe.", min=1),
    ] = 8,
    batch_frames: Annotated[
        int, typer.Option("--batch-frames", help="Most frames a batch, padding included: what bounds memory.", min=1)
    ] = BATCH_FRAMES,
    autocast: Annotated[
        str | None,
        typer.Option(
            "--autocast",
            help="Run the model in bf16 or fp16 where torch finds that safe; recorded in pairs.json.",
            show_default=False,
        ),
    ] = None,
    shards: Annotated[
        bool | None,
        typer.Option(
            "--shards/--files",
            help=f"Arrays in safetensors files of some {_WINDOW} utterances, or in a .npy file each; default: shards above {_SHARDED} utterances.",
            show_default=False,
        ),
    ] = None,
    jobs: o.Jobs = None,
    engine: o.Engine = "local",
    ray_address: o.RayAddress = None,
    device: o.Device = "auto",
    allow_skipped: o.AllowSkipped = 1.0,
    seed: o.Seed = 0,
    temperature: Annotated[float, typer.Option("--temperature", help="Of free running.")] = 1.0,
    top_p: Annotated[float, typer.Option("--top-p", help="Of free running.")] = 1.0,
    fresh: o.Fresh = False,
    force: o.Force = False,
    progress: o.ProgressForm = "auto",
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Thin shell of `run`."""
    o.set_level(quiet=quiet, verbose=verbose, progress=progress)
    if output is None:
        raise UsageError("calib teacher-force needs -o DIR for the pairs")
    started = time.monotonic()
    config = TeacherForceConfig(
        source, ModelConfig(model, checkpoint, parse_options(model_option or []), device, model_python), output, frontend, free_running, columns, audio_root, split, layout, limit,
        batch_size, allow_skipped, seed, temperature, top_p, fresh, force, o.selection(speaker, language, min_duration, max_duration),
        EngineConfig(engine, jobs, ray_address), autocast, shards, batch_frames,
    )  # fmt: skip
    result = run(config)
    terminal.result(
        f"{result.n_pairs} pairs from {model} ({result.header['output_space']} output, front end {result.header['frontend_id']}) in {duration(time.monotonic() - started)}"
    )
    terminal.result(f"written: {output / INDEX_NAME}")
    terminal.result(f"next: calib fit-scaler {output}")
