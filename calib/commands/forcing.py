"""The work of ``calib teacher-force``: windows of the sorted corpus, each done by one worker at a time.

Data flow of a window: items -> batches by length -> mels, read one batch ahead -> model -> arrays and a line of the
window's ledger -> rows of the index. A worker that dies, or a run that is killed, loses the batches in flight.

Conventions:
    Windows, batches and the order of arrays are functions of the sorted corpus and the options alone. A window's files
    lie in the work folder: ``00012.jsonl`` (ledger), ``00012.rows`` (its part of ``pairs.jsonl``), ``00012.data`` (the
    growing shard).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calib.commands.batching import Batching, Mels, Ready, own_file
from calib.commands.plugins import ModelConfig
from calib.data.audio import audio_file
from calib.data.clip import Clip
from calib.data.files import atomic_writer, digest
from calib.data.pairwriter import index_line, pair_is_whole, shard_key, write_pair
from calib.data.plan import Plan
from calib.data.shards import ShardWriter, file_digest
from calib.data.sources import Item
from calib.errors import DataError
from calib.mel.corpus import MelReader
from calib.models.loading import load_model, resolve_device
from calib.models.protocol import AcousticModel
from calib.models.teaching import Teacher, library_threads
from calib.run.engine import Work
from calib.run.ledger import Ledger

__all__ = ["SHARDS", "Count", "Done", "Forcing"]

SHARDS = "shards"
_END = "shard"  # key of a window's ledger: the finished shard's checksum
_NAMED = 3  # ids of non-finite predictions that are handed on


@dataclass
class Count:
    """Utterances for the progress bar.

    Args:
        items: used or skipped.
        skipped: of them.
        frames: of their targets.
        earlier: an earlier run did them.
    """

    items: int
    skipped: int
    frames: int
    earlier: bool


@dataclass
class Done:
    """What a window gave.

    Args:
        pairs: how many.
        counts: for the progress bar, done now and earlier.
        skipped: ids and reasons.
        not_finite: how many predictions hold NaN or infinity.
        named: the first ids of those.
        rows: digest of the window's part of the index.
    """

    pairs: int
    counts: list[Count]
    skipped: list[tuple[str, str]]
    not_finite: int
    named: list[str]
    rows: str


def _age(item: Item) -> list[int] | None:
    """Size and time of the file that holds it; None for what is not on this machine."""
    place = item.audio or item.mel
    if place is None:
        return None
    with contextlib.suppress(OSError, ValueError):
        status = Path(place.path if isinstance(place, Clip) else place).stat()
        return [status.st_size, status.st_mtime_ns]
    return None


@dataclass
class Forcing(Work[int, Done]):
    """Teacher forcing of windows.

    Args:
        model: which, and its options.
        plan: the corpus.
        reader: its mels.
        batching: how it is cut.
        output: the PAIRS folder.
        folder: the work folder, inside it.
        run: digest of what identifies the run.
        seed: of everything random.
        autocast: see `Teacher`.
        sharded: arrays go to one shard a window, not to files of their own.
        free_running: temperature and top-p of free running, or None.
        threads: library threads of each worker.
    """

    model: ModelConfig
    plan: Plan
    reader: MelReader
    batching: Batching
    output: Path
    folder: Path
    run: str
    seed: int = 0
    autocast: str | None = None
    sharded: bool = False
    free_running: tuple[float, float] | None = None
    threads: int | None = 1

    forks = False  # torch's threads and CUDA do not survive a fork

    def __post_init__(self) -> None:
        self.gpus = 1.0 if resolve_device(self.model.device).startswith("cuda") else 0.0
        self.opened: AcousticModel | None = None  # in the driver's own process: the model that is there already
        self.told: Callable[[Count], None] | None = None  # there, called after every batch

    def __getstate__(self) -> dict[str, Any]:
        """Neither the model nor the progress bar travels."""
        return {**self.__dict__, "opened": None, "told": None}

    def units(self) -> range:
        """Numbers of the windows."""
        return range(self.batching.windows(self.plan.count))

    def start(self) -> Callable[[int], Done]:
        """Open the model, on a GPU of its own where there are several."""
        model, device = self.opened, resolve_device(self.model.device)
        if model is None:
            _end_with_the_driver()
            device = self._own_device(device)
            model = load_model(self.model.spec, self.model.checkpoint, device, self.model.options, python=self.model.python)  # fmt: skip
        library_threads(self.threads or 1)
        assert self.reader.frontend is not None
        teacher = Teacher(model, self.model.spec, self.reader.frontend.n_mels, self.seed, self.autocast, device)
        return lambda number: _Window(self, teacher, number).run()

    def lost(self, unit: int, reason: str) -> Done:
        """See `Work`."""
        numbers = self.batching.numbers(unit, self.plan.count)
        first, last = self.plan.items([numbers[0], numbers[-1]])
        raise DataError(
            f"the utterances {first.id} to {last.id}: {reason}",
            hint="try fewer --jobs, or smaller batches: --batch-size, --batch-frames",
        )

    def _own_device(self, device: str) -> str:
        """``cuda:i`` for the i-th worker of this machine."""
        if device != "cuda":
            return device
        import torch

        count = torch.cuda.device_count()
        return device if count < 2 else f"cuda:{_slot(self.folder) % count}"


def _end_with_the_driver() -> None:
    """A window can take minutes: the worker of a driver that was killed must not go on with it beside the next run."""
    parent = multiprocessing.parent_process()
    if parent is not None:  # not in a Ray worker, which Ray ends

        def watch() -> None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)  # as good as SIGKILL, which everything here survives

        threading.Thread(target=watch, name="calib-watch", daemon=True).start()


_held: list[Any] = []  # locks of this process, for as long as it lives


def _slot(folder: Path) -> int:
    """A number that no other living worker of this machine has: a lock, which the system drops when its holder dies."""
    import fcntl

    for number in range(1024):
        file = (folder / f"{socket.gethostname()}-{number}.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        _held.append(file)
        return number
    return os.getpid()


class _Window:
    """One window in the hands of a worker."""

    def __init__(self, job: Forcing, teacher: Teacher, number: int) -> None:
        self._job, self._teacher, self._number = job, teacher, number
        self._stem = f"{number:05}"
        self._shard_name = f"{SHARDS}/{self._stem}.safetensors"
        self._mels = Mels(job.plan, job.reader)
        self._numbers = job.batching.numbers(number, job.plan.count)
        self._batches: list[list[int]] = []
        self._counts = [Count(0, 0, 0, earlier) for earlier in (False, True)]

    def run(self) -> Done:
        """Do what is not done yet.

        Raises:
            DataError: the disk is full.
            PluginError: the model failed.
        """
        path, identity = self._job.folder / f"{self._stem}.jsonl", {"run": self._job.run, "window": self._number}
        self._batches = self._cut()
        with Ledger(path, identity) as ledger:
            known = self._known(ledger)
            ended = ledger.finished.get(_END)
            if ended is None:
                return self._finished(self._sharded(ledger, known) if self._job.sharded else self._in_files(ledger, known))  # fmt: skip
        if len(known) == len(self._batches) and file_digest(self._job.output / self._shard_name) == ended:
            records = [known[k] for k in range(len(known))]
            for record in records:
                self._tell(record, earlier=True)
            return self._finished(records)
        with Ledger(path, identity, fresh=True) as ledger:
            return self._finished(self._sharded(ledger, {}))

    def _known(self, ledger: Ledger) -> dict[int, dict[str, Any]]:
        """What an earlier run recorded of these very batches: the same utterances, from files of the same age."""
        found = {k: ledger.finished.get(str(k)) for k in range(len(self._batches))}
        return {k: one for k, one in found.items() if one is not None and one["of"] == self._name(k)}

    def _name(self, batch: int) -> str:
        """Of a batch: its utterances and their references, with size and time of their files."""
        numbers = self._batches[batch]
        others = [other for other in self._job.plan.references(numbers) if other is not None]
        items = self._job.plan.items([*numbers, *others])
        return digest([[item.id, item.text, item.speaker, item.language, _age(item)] for item in items])

    def _in_files(self, ledger: Ledger, known: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
        whole = {k: one for k, one in known.items() if all(pair_is_whole(self._job.output, row) for row in one["rows"])}
        return self._all(ledger, whole, None)

    def _sharded(self, ledger: Ledger, known: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
        items = self._job.plan.items(self._numbers)
        names = [shard_key(side, item.id) for item in items for side in ("pred", "target", "free_running")]
        with ShardWriter(self._job.folder / f"{self._stem}.data", names) as shard:
            kept: dict[int, dict[str, Any]] = {}
            for k in range(len(self._batches)):  # arrays lie behind one another: up to the first that does not fit
                if k not in known or not shard.adopt(place for row in known[k]["rows"] for place in row["arrays"]):
                    break
                kept[k] = known[k]
            shard.rewind()
            records = self._all(ledger, kept, shard)
            if any(record["rows"] for record in records):
                ledger.record(_END, shard.finish(self._job.output / self._shard_name))
        return records

    def _cut(self) -> list[list[int]]:
        """Numbers of the items of each batch."""
        items = self._job.plan.items(self._numbers)
        lengths = [self._mels.frames(item) if self._job.batching.size > 1 else 0 for item in items]
        if self._job.batching.size == 1:
            return [[number] for number in self._numbers]
        cut = self._job.batching.cut(lengths, [item.id for item in items])
        return [[self._numbers[position] for position in batch] for batch in cut]

    def _all(self, ledger: Ledger, kept: dict[int, dict[str, Any]], shard: ShardWriter | None) -> list[dict[str, Any]]:
        """Records of all batches: those that are kept, and the others as they are made."""
        todo = [k for k in range(len(self._batches)) if k not in kept]
        for record in kept.values():
            self._tell(record, earlier=True)
        for k, (ready, skipped) in zip(todo, self._read_ahead([self._batches[k] for k in todo]), strict=True):
            record = {**self._batch(ready, skipped, shard), "of": self._name(k)}
            if shard is not None:
                shard.flush()
            ledger.record(str(k), record)
            kept[k] = record
            self._tell(record, earlier=False)
        return [kept[k] for k in range(len(self._batches))]

    def _tell(self, record: dict[str, Any], *, earlier: bool) -> None:
        count = Count(len(record["rows"]) + len(record["skipped"]), len(record["skipped"]), record["frames"], earlier)
        total = self._counts[earlier]
        self._counts[earlier] = Count(total.items + count.items, total.skipped + count.skipped, total.frames + count.frames, earlier)  # fmt: skip
        if self._job.told is not None:
            self._job.told(count)

    def _read_ahead(self, batches: list[list[int]]) -> Iterator[tuple[list[Ready], list[list[str]]]]:
        """Every batch's utterances, read while the model is busy with the batch before."""
        with ThreadPoolExecutor(1, thread_name_prefix="calib-mels") as pool:
            coming = pool.submit(self._read, batches[0]) if batches else None
            for k in range(len(batches)):
                assert coming is not None
                found = coming.result()
                coming = pool.submit(self._read, batches[k + 1]) if k + 1 < len(batches) else None
                yield found

    def _read(self, batch: list[int]) -> tuple[list[Ready], list[list[str]]]:
        ready: list[Ready] = []
        skipped: list[list[str]] = []
        for number in batch:
            try:
                ready.append(self._mels.ready(number))
            except DataError as error:
                (item,) = self._job.plan.items([number])
                skipped.append([item.id, error.message])
        return ready, skipped

    def _batch(self, ready: list[Ready], skipped: list[list[str]], shard: ShardWriter | None) -> dict[str, Any]:
        rows, broken, frames = [], [], 0
        # Headers can be wrong: what is put together is decided again by the frames that are there.
        lengths, names = [len(one.shown.mel) for one in ready], [one.item.id for one in ready]
        for part in self._job.batching.cut(lengths, names):
            for one, prediction in self._predictions([ready[k] for k in part], skipped):
                item = one.item
                if not np.isfinite(prediction).all():
                    broken.append(item.id)
                frames += len(one.shown.mel)
                free = None if self._job.free_running is None else self._free_running(item, one.reference)
                rows.append(
                    write_pair(
                        self._job.output, item.id, prediction, one.shown.mel, audio=own_file(item), free_running=free, text=item.text,
                        speaker=item.speaker, language=item.language, shard=shard, shard_name=self._shard_name,
                    )
                )  # fmt: skip
        return {"rows": rows, "skipped": skipped, "not_finite": broken, "frames": frames}

    def _predictions(self, ready: list[Ready], skipped: list[list[str]]) -> list[tuple[Ready, np.ndarray]]:
        """Predictions of a batch; if the model refuses one utterance of it, the others one at a time."""
        if not ready:
            return []
        try:
            return list(zip(ready, self._teacher.predict([one.shown for one in ready]), strict=True))
        except DataError as error:
            if len(ready) == 1:
                skipped.append([ready[0].item.id, error.message])
                return []
        return [found for one in ready for found in self._predictions([one], skipped)]

    def _free_running(self, item: Item, reference: Item) -> np.ndarray:
        assert self._job.free_running is not None
        temperature, top_p = self._job.free_running
        with contextlib.nullcontext() if reference.audio is None else audio_file(reference.audio) as voice:
            return self._teacher.generate(
                item.id, item.text, voice, item.language, temperature=temperature, top_p=top_p
            )

    def _finished(self, records: Sequence[dict[str, Any]]) -> Done:
        """The window's rows, sorted by id, and what there is to say about it."""
        rows = sorted((row["row"] for record in records for row in record["rows"]), key=lambda row: str(row["id"]))
        data = b"".join(map(index_line, rows))
        with atomic_writer(self._job.folder / f"{self._stem}.rows", force=True) as file:
            file.write(data)
        broken = sorted(name for record in records for name in record["not_finite"])
        skipped = [(name, reason) for record in records for name, reason in record["skipped"]]
        return Done(len(rows), self._counts, skipped, len(broken), broken[:_NAMED], digest(data))
