"""``calib teacher-force``: a model over a held-out set, with the true mels as decoder input.

Data flow: items sorted by id -> fixed batches -> mels -> model -> arrays and one ledger line a batch -> index. The
batches are a function of the sorted corpus alone, so a run that was killed and resumed gives the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from calib import __version__
from calib.commands import options as o
from calib.commands.plugins import LoadedModel, ModelConfig, open_model
from calib.console import duration, terminal
from calib.data.audio import audio_file
from calib.data.files import canonical_json
from calib.data.pairs import HEADER_NAME, INDEX_NAME, PairsWriter
from calib.data.sources import Item, Select, open_source
from calib.demo import embedded
from calib.errors import DataError, PluginError, UsageError
from calib.mel.corpus import MelReader, reader_for
from calib.models.loading import call_plugin, checked_mel, parse_options
from calib.models.protocol import Utterance
from calib.run.engine import Skipped
from calib.run.ledger import Ledger

__all__ = ["TeacherForceConfig", "TeacherForceResult", "run"]

LEDGER_NAME = "ledger.jsonl"

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
        DataError: nothing usable, or too much skipped.
        PluginError: the model failed or broke its protocol.
    """
    started = time.time()
    for name in (INDEX_NAME, HEADER_NAME):
        if (config.output / name).exists() and not config.force:
            raise UsageError(
                f"{config.output / name} exists and is not overwritten", hint="choose another -o, or give --force"
            )
    loaded = open_model(config.model, frontend=config.frontend)
    if config.free_running and not hasattr(loaded.model, "generate"):
        raise UsageError(f"--free-running needs a model with generate(); {config.model.spec} has none")
    source = open_source(
        embedded(config.source),
        columns=config.columns,
        audio_root=config.audio_root,
        split=config.split,
        limit=config.limit,
        select=config.select,
    )
    terminal.notice(source.describe())
    items = sorted(source, key=lambda item: item.id)
    reader = reader_for(source, loaded.frontend, layout=config.layout)
    work = _Work(config, loaded, reader, items)
    findings = work.probe()
    header = {
        "model": config.model.spec,
        "model_options": dict(config.model.options),
        "model_id": loaded.model_id,
        "model_kind": loaded.model.kind,
        "autoregressive": loaded.model.autoregressive,
        "output_space": loaded.model.output_space,
        "deterministic": work.deterministic,
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
            "batch_size": work.batch_size,
        },
    }
    try:
        canonical_json(header)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"an option holds what a JSON file cannot: {error}",
            hint="options are texts, finite numbers, true and false",
        ) from None
    listing = hashlib.sha256(
        "\n".join(f"{item.id}\t{item.text}\t{item.speaker}\t{item.language}" for item in items).encode(
            "utf-8", "surrogatepass"
        )
    ).hexdigest()[:16]
    skipped = Skipped(config.allow_skipped, total=len(items))
    with Ledger(
        config.output / LEDGER_NAME, {**header, "corpus": listing}, fresh=config.fresh or config.force
    ) as ledger:
        writer = PairsWriter(config.output, header, force=config.force)
        work.all_batches(ledger, writer, skipped)
        skipped.check()
        header_skipped = skipped.provenance()
        writer.header["skipped"] = header_skipped
        writer.close()
        ledger.remove()
    o.run_facts(
        config.output / INDEX_NAME,
        started,
        source=str(config.source),
        device=config.model.device,
        checkpoint=config.model.checkpoint,
    )
    for line in skipped.lines():
        terminal.warning(f"skipped {line}")
    if work.not_finite:
        count, names = len(work.not_finite), ", ".join(work.not_finite[:3])
        findings.append(
            f"{count} of {len(writer)} predictions hold NaN or infinite values ({names}{', ...' if count > 3 else ''}): they are kept as they are, and no calibration can be fitted to them"
        )
        terminal.warning(findings[-1])
    return TeacherForceResult(config.output, len(writer), skipped, header, findings)


class _Work:
    """One run's batches."""

    def __init__(self, config: TeacherForceConfig, loaded: LoadedModel, reader: MelReader, items: list[Item]) -> None:
        self.config, self.loaded, self.reader, self.items = config, loaded, reader, items
        self.batch_size = max(1, config.batch_size) if loaded.model.padding_safe else 1
        self.deterministic: bool | None = None
        self.not_finite: list[str] = []
        self._reference_of = _references(items)
        self._by_id = {item.id: item for item in items}
        self._cache: dict[str, np.ndarray] = {}

    def mel(self, item: Item) -> np.ndarray:
        """The true mel of an item; the last few are kept, because references are read again."""
        if item.id not in self._cache:
            while len(self._cache) > 4 * self.batch_size + 4:
                self._cache.pop(next(iter(self._cache)))
            self._cache[item.id] = self.reader(item).mel
        return self._cache[item.id]

    def utterance(self, item: Item) -> Utterance:
        """The item as the model receives it, with another utterance of the same voice as reference."""
        reference = self._reference_of.get(item.id)
        mel = self.mel(item)
        reference_mel = None
        if reference is not None:
            try:
                reference_mel = self.mel(self._by_id[reference])
            except DataError:
                reference_mel = None  # that utterance is skipped with its own reason; its neighbour uses its own voice
        return Utterance(item.id, mel, item.text, item.speaker, item.language, _own_file(item), reference_mel)

    def predict(self, batch: Sequence[Utterance]) -> list[np.ndarray]:
        """Teacher forcing, with what came back checked.

        Raises:
            PluginError: the model failed, or returned something else than one (T, M) an utterance.
        """
        spec = self.loaded.spec
        result = call_plugin(spec, self.loaded.model.teacher_force, batch)
        if not isinstance(result, Sequence) or len(result) != len(batch):
            got = len(result) if isinstance(result, Sequence) else type(result).__name__
            raise PluginError(
                f"plug-in {spec}: teacher_force returned {got} {'mels ' if isinstance(got, int) else ''}for a batch of {len(batch)}",
                hint="return a list with one (T, M) array an utterance, without padding",
            )
        return [checked_mel(spec, mel, self.loaded.frontend.n_mels) for mel in result]

    def probe(self) -> list[str]:
        """Check what the model claims: the same output twice, and the same alone and in a padded batch."""
        usable: list[Utterance] = []
        for item in self.items[:16]:
            try:
                usable.append(self.utterance(item))
            except DataError:
                continue
        usable = sorted(usable, key=lambda u: u.mel.shape[0])
        if not usable:
            return []
        shortest, longest = usable[0], usable[-1]
        try:
            once, again = self.predict([shortest])[0], self.predict([shortest])[0]
            padded = (
                self.predict([shortest, longest])[0]
                if self.loaded.model.padding_safe and shortest is not longest
                else once
            )
        except DataError:
            return []  # an utterance that the model cannot use; it will be skipped with its reason
        findings = []
        self.deterministic = bool(np.array_equal(once, again, equal_nan=True))
        if not self.deterministic:
            findings.append(
                "two passes over one utterance differ: dropout or sampling is on (call eval(), set the seed)"
            )
        if padded.shape != once.shape or not np.allclose(padded, once, atol=1e-3, equal_nan=True):
            findings.append(
                "the prediction changes in a padded batch: padding leaks into the model; utterances are run one at a time"
            )
            self.batch_size = 1
        for text in findings:
            terminal.warning(text)
        return findings

    def all_batches(self, ledger: Ledger, writer: PairsWriter, skipped: Skipped) -> None:
        """Every batch, or its record where an earlier run finished it."""
        done = len(ledger.finished)
        if done:
            terminal.notice(f"resuming: {done} batches are done")
        with terminal.progress("teacher-force", len(self.items)) as bar:
            for start in range(0, len(self.items), self.batch_size):
                batch = self.items[start : start + self.batch_size]
                key = str(start)
                record = ledger.finished.get(key)
                if record is None or not writer.adopt(record["rows"]):
                    record = self._batch(batch, writer)
                    ledger.record(key, record)
                for name, reason in record["skipped"]:
                    skipped.add(name, reason)
                self.not_finite += record["not_finite"]
                for item in batch:
                    bar.advance(skipped=any(name == item.id for name, _ in record["skipped"]))

    def _batch(self, batch: list[Item], writer: PairsWriter) -> dict[str, Any]:
        skipped: list[list[str]] = []
        ready: list[tuple[Item, Utterance]] = []
        for item in batch:
            try:
                ready.append((item, self.utterance(item)))
            except DataError as error:
                skipped.append([item.id, error.message])
        rows, broken = [], []
        for (item, utterance), prediction in self._predictions(ready, skipped):
            if not np.isfinite(prediction).all():
                broken.append(item.id)
            free = self._free_running(item) if self.config.free_running else None
            rows.append(
                writer.write(
                    item.id, prediction, utterance.mel, audio=_own_file(item), free_running=free, text=item.text, speaker=item.speaker, language=item.language,
                )
            )  # fmt: skip
        return {"rows": rows, "skipped": skipped, "not_finite": broken}

    def _predictions(
        self, ready: list[tuple[Item, Utterance]], skipped: list[list[str]]
    ) -> list[tuple[tuple[Item, Utterance], np.ndarray]]:
        """Predictions of a batch; if the model refuses one utterance of it, the others one at a time."""
        if not ready:
            return []
        try:
            return list(zip(ready, self.predict([u for _, u in ready]), strict=True))
        except DataError as error:
            if len(ready) == 1:
                skipped.append([ready[0][0].id, error.message])
                return []
        return [found for one in ready for found in self._predictions([one], skipped)]

    def _free_running(self, item: Item) -> np.ndarray:
        reference = self._by_id[self._reference_of.get(item.id, item.id)]
        # A seed of its own for each utterance, whatever the order: the same bytes after a resume.
        seed = int.from_bytes(
            hashlib.sha256(f"{self.config.seed}:{item.id}".encode("utf-8", "surrogatepass")).digest()[:4], "big"
        )
        with contextlib.nullcontext() if reference.audio is None else audio_file(reference.audio) as voice:
            mel = call_plugin(
                self.loaded.spec, self.loaded.model.generate, item.text,  # type: ignore[attr-defined]
                speaker_audio=voice, language=item.language, temperature=self.config.temperature, top_p=self.config.top_p, seed=seed,
            )  # fmt: skip
        return checked_mel(self.loaded.spec, mel, self.loaded.frontend.n_mels)


def _own_file(item: Item) -> Path | None:
    """The item's audio where it is a file of its own: what lies inside a shard has no path to pass on."""
    return item.audio if isinstance(item.audio, Path) else None


def _references(items: list[Item]) -> dict[str, str]:
    """For each item the next one of the same speaker (its own mel would let the model copy from the answer)."""
    by_speaker: dict[str | None, list[str]] = {}
    for item in items:
        by_speaker.setdefault(item.speaker, []).append(item.id)
    out: dict[str, str] = {}
    for names in by_speaker.values():
        if len(names) > 1:
            out.update(zip(names, [*names[1:], names[0]], strict=True))
    return out


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
    batch_size: Annotated[int, typer.Option("--batch-size", help="Utterances a batch.", min=1)] = 8,
    device: o.Device = "auto",
    allow_skipped: o.AllowSkipped = 1.0,
    seed: o.Seed = 0,
    temperature: Annotated[float, typer.Option("--temperature", help="Of free running.")] = 1.0,
    top_p: Annotated[float, typer.Option("--top-p", help="Of free running.")] = 1.0,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Discard what an interrupted run left, or go on from it.")
    ] = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Thin shell of `run`."""
    o.set_level(quiet=quiet, verbose=verbose)
    if output is None:
        raise UsageError("calib teacher-force needs -o DIR for the pairs")
    started = time.monotonic()
    config = TeacherForceConfig(
        source, ModelConfig(model, checkpoint, parse_options(model_option or []), device), output, frontend, free_running, columns, audio_root, split, layout, limit,
        batch_size, allow_skipped, seed, temperature, top_p, fresh, force, o.selection(speaker, language, min_duration, max_duration),
    )  # fmt: skip
    result = run(config)
    terminal.result(
        f"{result.n_pairs} pairs from {model} ({result.header['output_space']} output, front end {result.header['frontend_id']}) in {duration(time.monotonic() - started)}"
    )
    terminal.result(f"written: {output / INDEX_NAME}")
    terminal.result(f"next: calib fit-scaler {output}")
