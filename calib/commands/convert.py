"""``calib convert``: calibration and conversion of mels in one pass, as PAIRS or as the trainer of a vocoder reads them.

Data flow: mel -> `calib.commands.calibration.Calibration` (--params, --stats) -> mel of --from -> `calib.mel.convert` ->
mel of --to -> files and one ledger line an utterance -> index and ``conversion.json``. Nothing is written before the
way and its expected error are said. A run that was killed goes on after the last utterance that was finished.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from calib import __version__
from calib.commands import options as o
from calib.commands.calibration import Calibration, load_calibration, stored_mels
from calib.commands.convert_input import Inputs, Unit, examples_of, open_inputs, recorded_mels, teacher
from calib.commands.convert_output import Output, counted
from calib.console import duration, terminal
from calib.data.files import digest, read_json, write_json
from calib.data.sources import open_source
from calib.demo import CORPUS
from calib.errors import DataError, RefusedError, UsageError
from calib.mel.convert import Converter, Plan, plan
from calib.mel.convert.layouts import LAYOUTS
from calib.mel.frontend import FrontEnd
from calib.run.engine import EngineConfig, Outcome, Skipped, map_corpus, resolve_jobs
from calib.run.ledger import Ledger
from calib.run.local import can_fork

__all__ = ["ConvertConfig", "ConvertResult", "run"]

SCHEMA = "calib/conversion/1"
REPORT_NAME, MAP_NAME, LEDGER_NAME = "conversion.json", "conversion.npz", "ledger.jsonl"

# What nothing better than the embedded corpus can say.
_EXPECTED = 3  # which of the lines before the work names the error
_SYNTHETIC = "measured on the synthetic voices that come with calib; real speech came out at 0.8 to 1.5 times that, see benchmarks/convert"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True)
class ConvertConfig:
    """What ``calib convert`` needs; see its options."""

    mels: str
    output: Path | None
    params: Path | None = None
    stats: Path | None = None
    source: str | None = None
    target: str | None = None
    audio: str | None = None
    layout: str | None = None
    input_layout: str | None = None
    output_space: str | None = None
    columns: str | None = None
    audio_root: Path | None = None
    split: str | None = None
    limit: int | None = None
    allow_skipped: float = 1.0
    allow_loss: bool = False
    fresh: bool = False
    force: bool = False
    dry_run: bool = False
    engine: EngineConfig = field(default_factory=EngineConfig)


@dataclass
class ConvertResult:
    """What a run did: the content of ``conversion.json``, what was skipped, and notices of single utterances."""

    content: dict[str, Any]
    skipped: Skipped
    notices: list[str]


def run(config: ConvertConfig) -> ConvertResult:
    """Plan, say what to expect, convert.

    Raises:
        RefusedError: the mels do not hold what the target needs, and ``allow_loss`` is false.
        UsageError: front ends that are not known, an output of another run, options that do not fit.
        DataError: nothing usable, or too much skipped.
    """
    from threadpoolctl import threadpool_limits

    started = time.time()
    if config.output is None and not config.dry_run:
        raise UsageError("calib convert needs -o DIR for the mels", hint="or --dry-run, which only says what to expect")
    if config.layout is not None and config.layout not in {*LAYOUTS, "pairs"}:
        raise UsageError(f"--layout is {config.layout!r}; it must be one of {', '.join(LAYOUTS)} or pairs", hint="how the given mels lie on disk is --input-layout TM or MT")  # fmt: skip
    with threadpool_limits(1):  # small products: a second library thread only spins
        work = _Work(config)
        lines = work.lines()
        o.show(lines, [lines[0], lines[_EXPECTED]])
        if config.dry_run:
            return ConvertResult(work.content({}, Skipped()), Skipped(), [])
        result = work.write()
    assert config.output is not None
    o.run_facts(config.output / REPORT_NAME, started, source=config.mels, audio=config.audio)
    return result


class _Work:
    """One run: what is read, the way, the learned map."""

    def __init__(self, config: ConvertConfig) -> None:
        self.config = config
        source = None if config.source is None else FrontEnd.load(config.source)
        self.inputs: Inputs = open_inputs(
            config.mels, source=source, audio=config.audio, layout=config.input_layout, columns=config.columns, audio_root=config.audio_root, split=config.split, limit=config.limit
        )  # fmt: skip
        self.source = self.inputs.frontend
        self.target = self.source if config.target is None else FrontEnd.load(config.target)
        self.layout = config.layout or ("pairs" if self.inputs.pairs else "npy")
        if self.layout == "pairs" and not self.inputs.pairs:
            raise UsageError("--layout pairs needs PAIRS to convert; these are mels alone")
        self.calibration = self._calibration()
        self.said: list[str] = []
        self.plan = self._plan()
        self.identity = self._identity()
        self._refuse_other_output()
        self.converter = self._converter()

    # --- before anything is written -------------------------------------------------------------------------------

    def _calibration(self) -> Calibration:
        """As `calib synth --mel` does it; the model is what the pairs say of it."""
        config = self.config
        made = stored_mels(self.source, self.inputs.header, config.output_space)
        return load_calibration(config.params, config.stats, made)

    def _plan(self) -> Plan:
        inputs = self.inputs
        audio, predictions = bool(inputs.teachers), inputs.pairs or not inputs.n_recordings
        if audio and not predictions:
            natural, words = recorded_mels(inputs, self.calibration)
            self.said.append(words)
            predictions = not natural
        elif audio and self.config.audio is None:
            self.said.append(f"{inputs.n_recordings} of the pairs name their recordings: those are learned from")
        return plan(self.source, self.target, audio=audio, pairs=predictions, allow_loss=self.config.allow_loss)

    def _identity(self) -> dict[str, Any]:
        """Everything that can change the result; paths are in it as what they hold."""
        config = self.config
        return {
            "version": __version__,
            "from": self.source.id,
            "to": self.target.id,
            "how": self.plan.how,
            "layout": self.layout,
            "params": _content_id(config.params),
            "stats": _content_id(config.stats),
            "calibration": self.calibration.describe(),
            "limit": config.limit,
            "utterances": len(self.inputs.units),
            "ids": _names_id(self.inputs.units),
            "recordings": self.inputs.n_recordings,
            "teachers": [len(self.inputs.teachers), _names_id(self.inputs.teachers)],
        }

    def _refuse_other_output(self) -> None:
        """A folder that holds a finished conversion is not written into without --force.

        Raises:
            UsageError: it does; with what differs.
        """
        if self.config.output is None or self.config.force:
            return
        path = self.config.output / REPORT_NAME
        if not path.exists():
            return
        found = read_json(path)
        theirs = found.get("identity", {}) if isinstance(found, dict) else {}
        differing = [f"{key}: {theirs.get(key)!r} there, {value!r} now" for key, value in self.identity.items() if theirs.get(key) != value]  # fmt: skip
        what = f"another conversion ({'; '.join(differing)})" if differing else "this conversion, finished"
        raise UsageError(f"{self.config.output} holds {what}, and is not overwritten", hint="choose another -o, or give --force")  # fmt: skip

    def _converter(self) -> Converter | None:
        """The learned map: of an interrupted run where it left one, else fitted now; None where there is none."""
        if self.plan.how == "refused":
            raise RefusedError(
                f"no conversion from {_name(self.source, self.config.source)} to {_name(self.target, self.config.target)}: {self.plan.why}",
                hint=f"--allow-loss goes on, with these parts invented: {'; '.join(loss.invented for loss in self.plan.losses if loss.severe)}",
            )  # fmt: skip
        if self.plan.how == "recompute":
            return None
        if self.plan.how == "exact":
            return Converter(self.plan)
        if (kept := self._kept_map()) is not None:
            return kept
        if self.plan.how == "fitted":
            terminal.notice("learning the conversion from the recordings")
            return Converter.fit(self.plan, examples_of(self.inputs.teachers, self.source, self.target))
        voices = tuple(teacher(item) for item in open_source(CORPUS))
        return Converter.fit(self.plan, examples_of(voices, self.source, self.target), on=_SYNTHETIC)

    def _kept_map(self) -> Converter | None:
        folder = self.config.output
        if folder is None or self.config.fresh or self.config.force or not (folder / MAP_NAME).exists():
            return None
        if not (folder / LEDGER_NAME).exists():
            return None
        try:
            found = Converter.load(folder / MAP_NAME)
        except DataError:
            return None
        alike = (found.plan.source.id, found.plan.target.id, found.plan.how) == (self.source.id, self.target.id, self.plan.how)  # fmt: skip
        return Converter(self.plan, found.ridge, found.measured) if alike else None

    def lines(self) -> list[str]:
        """What to expect, for people; at `_EXPECTED` the error."""
        words = {"recompute": "recomputed from the recordings", "exact": "exact", "fitted": "approximate, fitted", "inverted": "approximate, by inversion alone"}[self.plan.how]  # fmt: skip
        out = [f"{_name(self.source, self.config.source)} -> {_name(self.target, self.config.target)}: {words}", f"why: {self.plan.why}", f"calibration: {self._calibrated()}"]  # fmt: skip
        measured = None if self.converter is None else self.converter.measured
        if measured is None:
            out.append("expected error: 0 dB, but for float32 rounding" + (" and what stands on the source's guard" if self.plan.how == "exact" and self.source.id != self.target.id else ""))  # fmt: skip
        else:
            out += measured.lines()
        out += [f"lost: {loss.words}; there stands {loss.invented}" for loss in self.plan.losses]
        return [*out, *[f"note: {words}" for words in (*self.said, *self.plan.notes)]]

    def _calibrated(self) -> str:
        if self.config.params is None and self.config.stats is None:
            return "none (no --params)"
        return self.calibration.describe()

    # --- writing --------------------------------------------------------------------------------------------------

    def write(self) -> ConvertResult:
        """Every utterance, the index, and at the end ``conversion.json``."""
        config, folder = self.config, self.config.output
        assert folder is not None
        if folder.resolve() in {Path(config.mels).resolve(), Path(config.mels).resolve().parent}:
            raise UsageError(f"-o {folder} is where the given mels are", hint="choose another -o")
        skipped = Skipped(config.allow_skipped, total=len(self.inputs.units))
        ours = config.force or (folder / LEDGER_NAME).exists()  # what lies there was written by this run, or may go
        with Ledger(folder / LEDGER_NAME, self.identity, fresh=config.fresh or config.force) as ledger:
            if self.converter is not None:
                self.converter.save(folder / MAP_NAME, force=True)
            output = Output(folder, self.layout, self.target, self._header(), force=ours)
            records = self._all(ledger, output, skipped)
            skipped.check()
            output.close(skipped.provenance())
            content = self.content(counted(records), skipped)
            write_json(folder / REPORT_NAME, content, force=config.force)
            ledger.remove()
        notices = [text for record in records for text in record["notices"]]
        return ConvertResult(content, skipped, notices)

    def _all(self, ledger: Ledger, output: Output, skipped: Skipped) -> list[dict[str, Any]]:
        if ledger.finished:
            terminal.notice(f"resuming: {len(ledger.finished)} of {len(self.inputs.units)} utterances are done")
        records = []
        units = self.inputs.units
        todo = [k for k, unit in enumerate(units) if unit.id not in ledger.finished]
        # Forked workers have the inputs as they are; elsewhere these could not be sent.
        engine = self.config.engine
        jobs = resolve_jobs(engine.jobs, len(todo)) if can_fork() or engine.kind != "local" else 1
        with (
            terminal.progress("convert", len(units)) as bar,
            contextlib.closing(map_corpus(self._computed, todo, jobs=jobs, engine=engine)) as computed,
        ):
            for k, unit in enumerate(units):
                record = ledger.finished.get(unit.id)
                earlier = record is not None and output.adopt(record)
                if record is None or not earlier:
                    outcome = next(computed) if record is None else self._attempt(k)
                    record = self._written(unit, outcome, output)
                    if not outcome.lost:
                        ledger.record(unit.id, record)
                if record["skipped"] is not None:
                    skipped.add(unit.id, record["skipped"])
                else:
                    records.append(record)
                bar.advance(skipped=record["skipped"] is not None, earlier=earlier)
        return records

    def _attempt(self, k: int) -> Outcome[int, _Computed]:
        return next(map_corpus(self._computed, [k], jobs=1))

    def _computed(self, k: int) -> _Computed:
        """Convert one utterance.

        Raises:
            DataError: it cannot be.
        """
        unit = self.inputs.units[k]
        samples = None if unit.audio is None else unit.recording(self.target.sample_rate)
        mel, counts, read = self._mel(unit, samples)
        target = self._target(unit, samples, len(mel)) if self.layout == "pairs" else None
        free = None
        if self.layout == "pairs" and unit.load_free_running is not None:
            free = self._converted(self.calibration(unit.load_free_running()), None)[0]
        return _Computed(mel, target, free, samples, counts, read)

    @staticmethod
    def _written(unit: Unit, outcome: Outcome[int, _Computed], output: Output) -> dict[str, Any]:
        """Write one utterance; its record is enough to adopt it in a later run."""
        done = outcome.value
        if done is None:
            return {"skipped": outcome.reason}
        return {"skipped": None, "input": done.read, "counts": done.counts, **output.write(unit, done.mel, done.target, done.free, done.samples)}  # fmt: skip

    def _mel(self, unit: Unit, samples: np.ndarray | None) -> tuple[np.ndarray, dict[str, int], str]:
        stored = np.asarray(unit.load())
        read = digest(np.ascontiguousarray(stored).tobytes())
        if self.plan.how == "recompute":
            if samples is None:
                raise DataError("no recording belongs to this mel, and the others are recomputed from theirs")
            return self.target.mel(samples), {"cells": stored.size, "at_guard": 0, "at_clip": 0, "beyond": 0}, read
        if not np.isfinite(stored).all():
            raise DataError(f"the mel holds {int((~np.isfinite(stored)).sum())} NaN or infinite values of {stored.size}")  # fmt: skip
        mel, counts = self._converted(self.calibration(stored), samples)
        return mel, counts, read

    def _converted(self, mel: np.ndarray, samples: np.ndarray | None) -> tuple[np.ndarray, dict[str, int]]:
        assert self.converter is not None
        done = self.converter.convert(mel, None if samples is None else len(samples))
        return done.mel, {"cells": done.cells, "at_guard": done.at_guard, "at_clip": done.at_clip, "beyond": done.beyond}  # fmt: skip

    def _target(self, unit: Unit, samples: np.ndarray | None, frames: int) -> np.ndarray:
        """The pair's target in the new front end: heard from the recording, which is exact, else converted."""
        if samples is not None and self.source.id != self.target.id:
            return self.target.mel(samples)
        if unit.load_target is None:
            return self.target.mel(unit.recording(self.target.sample_rate))
        del frames
        return self._converted(unit.load_target(), samples)[0]

    def _header(self) -> dict[str, Any]:
        """For ``pairs.json``: what the pairs said, in the new front end and raw."""
        header = {key: value for key, value in self.inputs.header.items() if key not in {"schema", "layout", "skipped", "stats_id"}}  # fmt: skip
        return {**header, "output_space": "raw", "frontend": self.target.fields(), "frontend_id": self.target.id, "converted_from": self.source.id}  # fmt: skip

    def content(self, counts: dict[str, Any], skipped: Skipped) -> dict[str, Any]:
        """``conversion.json``."""
        measured = None if self.converter is None else self.converter.measured
        scaler, normalizer = self.calibration.scaler, self.calibration.normalizer
        return {
            "schema": SCHEMA,
            "from": {"id": self.source.id, "name": self.source.name, "fields": self.source.fields()},
            "to": {"id": self.target.id, "name": self.target.name, "fields": self.target.fields()},
            "frontend_id": self.target.id,
            "plan": self.plan.summary(),
            "expected_error_db": self.plan.expected_db if measured is None else measured.error_db,
            "fit": None if measured is None else asdict(measured),
            "calibration": {
                "params": None if scaler is None else {"scale_factor": scaler.scale_factor, "offset": scaler.offset, "stats_id": scaler.stats_id, "model_id": scaler.model_id},
                "stats_id": normalizer.stats_id if normalizer is not None else scaler.stats_id if scaler is not None else None,
            },
            "layout": self.layout,
            "counts": counts,
            "identity": self.identity,
            "provenance": {
                "version": __version__,
                "options": {"limit": self.config.limit, "split": self.config.split, "allow_loss": self.config.allow_loss},
                "skipped": skipped.provenance(),
            },
        }  # fmt: skip


class _Computed(NamedTuple):
    """What is written of an utterance: converted mels, its samples, what was counted, the digest of what was read."""

    mel: np.ndarray
    target: np.ndarray | None
    free: np.ndarray | None
    samples: np.ndarray | None
    counts: dict[str, int]
    read: str


def _names_id(units: Sequence[Unit]) -> str:
    return digest("\n".join(unit.id for unit in units).encode("utf-8", "surrogatepass"))


def _name(frontend: FrontEnd, given: str | None = None) -> str:
    """Its name in the catalogue, else what the user called it, else its identity."""
    return frontend.name if frontend.name != "custom" else given or f"custom ({frontend.id})"


def _content_id(given: Path | None) -> str | None:
    """Identity of a file's bytes (and of the speaker picked from it); where it lies is nobody's business."""
    if given is None:
        return None
    from calib.data.statsfiles import Reference

    reference = Reference(given)
    try:
        return digest(reference.path.read_bytes() + (reference.speaker or "").encode())
    except OSError:
        return None  # reading it has said, or will say, what is wrong


@app.command(
    help="Mels calibrated (--params) and converted (--from A --to B) in one pass: recomputed from recordings, exactly, or with a stated error; refused where the information is not there. For PAIRS, and for the fine-tuning of vocoders."
)
def convert(
    mels: Annotated[
        str,
        typer.Argument(
            metavar="MELS|PAIRS",
            help="Folder of mels (.npy, .npz, .pt, .safetensors), one mel, or PAIRS.",
            show_default=False,
        ),
    ],
    output: o.Output = None,
    params: o.ParamsFile = None,
    stats: o.StatsFile = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Front end of the given mels: NAME, NAME@STATSFILE or a YAML/JSON file; default: what the pairs say.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="Front end that the vocoder wants, named the same way; default: the same, so that only the calibration is applied.",
            show_default=False,
        ),
    ] = None,
    audio: Annotated[
        str | None,
        typer.Option(
            "--audio",
            metavar="SOURCE",
            help="Recordings of these utterances, matched by id: mels of recordings are recomputed, a conversion of predictions is learned from them. Other recordings only teach the conversion.",
            show_default=False,
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            "--layout",
            help="Files to write: npy, hifigan, pwg, coqui or pairs; default: pairs for PAIRS, else npy.",
            show_default=False,
        ),
    ] = None,
    input_layout: Annotated[
        str | None,
        typer.Option(
            "--input-layout", help="Layout of the given mels: TM (time first) or MT (bins first).", show_default=False
        ),
    ] = None,
    output_space: o.OutputSpace = None,
    allow_loss: Annotated[
        bool,
        typer.Option(
            "--allow-loss", help="Go on where the mels do not hold what the target needs, and say what is invented."
        ),
    ] = False,
    columns: o.Columns = None,
    audio_root: o.AudioRoot = None,
    split: o.Split = None,
    limit: o.Limit = None,
    jobs: o.Jobs = None,
    engine: o.Engine = "local",
    ray_address: o.RayAddress = None,
    allow_skipped: o.AllowSkipped = 1.0,
    fresh: o.Fresh = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say the way and the expected error; write nothing.")
    ] = False,
    force: o.Force = False,
    json_: o.Json = None,
    progress: o.ProgressForm = "auto",
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Thin shell of `run`."""
    o.set_level(quiet=quiet, verbose=verbose, json_target=json_, force=force, progress=progress)
    started = time.monotonic()
    result = run(
        ConvertConfig(
            mels, output, params, stats, source, target, audio, layout, input_layout, output_space, columns, audio_root, split, limit, allow_skipped, allow_loss, fresh, force, dry_run, EngineConfig(engine, jobs, ray_address)
        )
    )  # fmt: skip
    if dry_run:
        terminal.result("dry run: nothing was written")
    else:
        for text in result.notices[:10]:
            terminal.notice(text)
        if len(result.notices) > 10:
            terminal.notice(f"... and {len(result.notices) - 10} more such notices")
        for line in result.skipped.lines():
            terminal.warning(f"skipped {line}")
        done = summary(result.content)
        o.show(done, done[:1])
        terminal.result(f"written: {output} ({duration(time.monotonic() - started)})")
    o.emit_json(json_, result.content, force=force)


def summary(content: dict[str, Any]) -> list[str]:
    """What was done, for people."""
    counts = content["counts"]
    out = [f"{counts['utterances']} utterance{'s' * (counts['utterances'] != 1)}, {counts['frames']} frames of {content['to']['fields']['n_mels']} bins, layout {content['layout']}"]  # fmt: skip
    cells = max(counts["cells"], 1)
    if counts["at_guard"]:
        out.append(f"{counts['at_guard'] / cells:.2%} of the source's cells stood on its guard or lower clip: what was converted there is the most that they can have been")  # fmt: skip
    if counts["at_clip"]:
        out.append(f"{counts['at_clip'] / cells:.2%} stood on its upper clip: the least that they can have been")
    if counts["beyond"]:
        out.append(f"{counts['beyond']} frames lie beyond the ends of their mels: the last frame was held")
    if counts["cropped"]:
        out.append(f"{counts['cropped']} frames were cut, because the trainer's audio does not reach so far")
    return out
