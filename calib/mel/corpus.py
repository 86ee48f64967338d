"""From a corpus's item to its mel: read, resample, front end. What ``stats`` and ``teacher-force`` share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from calib.data.arrays import array_shape, as_time_first, decide_layout, load_array
from calib.data.audio import read_audio
from calib.data.clip import Place
from calib.data.sources import Item, Source
from calib.errors import DataError, UsageError
from calib.mel.analysis import streams
from calib.mel.census.passing import of_audio, of_mel
from calib.mel.census.units import loudest
from calib.mel.frontend import FrontEnd
from calib.mel.statistics import UtteranceStatistics, measure, measure_audio
from calib.native.mel import kernel_for

if TYPE_CHECKING:
    from calib.mel.batches import Padded

__all__ = ["SOUNDLESS", "CorpusMel", "Measure", "Measured", "MelReader", "reader_for"]

_DECODERS = 16  # threads
_NAMED = 3  # files that cannot be read


@dataclass(frozen=True)
class CorpusMel:
    """One item's mel.

    Args:
        mel: float32 ``(T, M)``.
        seconds: duration of the audio as stored, in s (frames times hop for stored mels; 0 without a front end).
        source_rate: sample rate of the file in Hz, or None for stored mels.
        notes: what is unusual about the file and was read nevertheless.
        doubts: of `calib.mel.census.passing.of_audio`; None for stored mels.
    """

    mel: np.ndarray
    seconds: float
    source_rate: int | None
    notes: tuple[str, ...] = ()
    doubts: Mapping[str, int] | None = None


@dataclass(frozen=True)
class MelReader:
    """Picklable: an item to its mel.

    Args:
        frontend: computes mels from audio, or says what stored mels are; None: stored mels of unknown make.
        layout: of stored mels, ``TM`` or ``MT``.
        device: ``cpu`` or a torch device.
    """

    frontend: FrontEnd | None
    layout: str = "TM"
    device: str = "cpu"

    def __call__(self, item: Item) -> CorpusMel:
        """Read one item.

        Raises:
            DataError: missing or unreadable file, wrong number of bins, too short. The message names no path, so
                that it can stand in a result file; the item's id says which it was.
        """
        path = item.audio or item.mel
        if path is None:
            raise DataError("the index names neither audio nor a mel")
        with _without(path):
            return self._stored(path) if item.audio is None else self._computed(path)

    def _stored(self, path: Place) -> CorpusMel:
        mel = as_time_first(load_array(path), self.layout)
        fe = self.frontend
        if fe is not None and mel.shape[1] != fe.n_mels:
            raise DataError(f"the mel has {mel.shape[1]} bins, the front end {fe.n_mels}")
        return CorpusMel(mel, mel.shape[0] * fe.hop_length / fe.sample_rate if fe else 0.0, None)

    def _computed(self, path: Place) -> CorpusMel:
        assert self.frontend is not None
        audio = read_audio(path, self.frontend.sample_rate, look=of_audio)
        mel = self.frontend.mel(audio.samples, self.device)
        return CorpusMel(mel, audio.seconds, audio.source_rate, audio.notes, audio.seen)


@contextlib.contextmanager
def _without(path: Place) -> Iterator[None]:
    """Errors lose the path: they stand in a result file, and the item's id says which it was."""
    try:
        yield
    except DataError as error:
        text = error.message
        for form in (f"{path}: ", str(path)):
            text = text.replace(form, "" if form.endswith(": ") else path.name)
        raise DataError(text) from error


class Measured(NamedTuple):
    """One item's statistics.

    Args:
        statistics: of its mel.
        source_rate: sample rate of the file in Hz, or None for stored mels.
        notes: what is unusual about the file and was read nevertheless.
        doubts: what is wrong with it, as :mod:`calib.mel.census.passing` counts.
    """

    statistics: UtteranceStatistics
    source_rate: int | None
    notes: tuple[str, ...]
    doubts: Mapping[str, int]


SOUNDLESS = "no sound: every frame alike"


def _noted(found: UtteranceStatistics, notes: tuple[str, ...]) -> tuple[str, ...]:
    """With a word for a mel that never moves: zeros are what many loaders return for a file that they did not find."""
    return (*notes, SOUNDLESS) if found.n_frames > 1 and bool(np.array_equal(found.low, found.high)) else notes


@dataclass(frozen=True)
class Measure:
    """Picklable: items to their statistics. Audio on the CPU: one at a time; on a GPU: many together."""

    reader: MelReader

    def __call__(self, item: Item) -> Measured:
        """Read and measure one item.

        Raises:
            DataError: see `MelReader`; also NaN in the mel.
        """
        fe, place = self.reader.frontend, item.audio
        if fe is None or place is None or self.reader.device != "cpu":
            found = self.reader(item)
            floor = None if fe is None else fe.floor
            measured = measure(found.mel, floor=floor, seconds=found.seconds, speaker=item.speaker)
            doubts = of_mel(found.mel, measured, self._bound) if found.doubts is None else found.doubts
            return Measured(measured, found.source_rate, _noted(measured, found.notes), doubts)
        with _without(place):
            audio = read_audio(place, fe.sample_rate, integers=True, look=of_audio)
            kernel = kernel_for(fe)
            fast = None
            if kernel is not None:
                fast = kernel.measure(fe, audio.samples, seconds=audio.seconds, speaker=item.speaker)
            if fast is None:  # no kernel, or out of the ordinary: numpy measures it, or says what is wrong with it
                fast = measure_audio(fe, audio.samples, seconds=audio.seconds, speaker=item.speaker)
        return Measured(fast, audio.source_rate, _noted(fast, audio.notes), audio.seen)

    @cached_property
    def _bound(self) -> float | None:
        """The loudest value that the front end makes of audio."""
        return None if self.reader.frontend is None else loudest(self.reader.frontend)

    def many(self, items: Sequence[Item]) -> Iterator[tuple[Item, Measured | DataError]]:
        """Each item with its statistics, or with why it has none, in order.

        On a GPU the items are decoded in threads and measured in batches, which the items alone decide.
        """
        fe, device = self.reader.frontend, self.reader.device
        if fe is None or device == "cpu" or not streams(fe) or any(item.audio is None for item in items):
            for item in items:
                yield item, _outcome(self, item)
            return
        from concurrent.futures import ThreadPoolExecutor

        from calib.mel.batches import BATCH_SAMPLES, batch_statistics

        def flush(held: list[tuple[Item, _Decoded | DataError]]) -> Iterator[tuple[Item, Measured | DataError]]:
            assert fe is not None
            found = iter(batch_statistics(fe, [one.padded for _, one in held if isinstance(one, _Decoded)], device))
            for item, one in held:
                if isinstance(one, DataError):
                    yield item, one
                    continue
                result = next(found)
                if isinstance(result, DataError):
                    yield item, result
                else:
                    yield item, Measured(result, one.source_rate, _noted(result, one.notes), one.doubts)

        held: list[tuple[Item, _Decoded | DataError]] = []
        samples = 0
        with ThreadPoolExecutor(min(os.cpu_count() or 1, _DECODERS)) as pool:
            for item, one in zip(items, pool.map(lambda item: _outcome(self._decoded, item), items), strict=True):
                held.append((item, one))
                samples += one.padded.signal.size if isinstance(one, _Decoded) else 0
                if samples >= BATCH_SAMPLES:
                    yield from flush(held)
                    held, samples = [], 0
        yield from flush(held)

    def _decoded(self, item: Item) -> _Decoded:
        from calib.mel.batches import pad_for_batch

        fe, place = self.reader.frontend, item.audio
        assert fe is not None
        assert place is not None
        with _without(place):
            audio = read_audio(place, fe.sample_rate, look=of_audio)
            padded = pad_for_batch(fe, audio.samples, audio.seconds, item.speaker)
            return _Decoded(padded, audio.source_rate, audio.notes, audio.seen)


class _Decoded(NamedTuple):
    padded: Padded
    source_rate: int
    notes: tuple[str, ...]
    doubts: Mapping[str, int]


Value = TypeVar("Value")


def _outcome(function: Callable[[Item], Value], item: Item) -> Value | DataError:
    try:
        return function(item)
    except DataError as error:
        return error


def reader_for(
    source: Source, frontend: FrontEnd | None, *, layout: str | None = None, device: str = "cpu"
) -> MelReader:
    """The reader that fits a corpus.

    Raises:
        UsageError: audio without a front end, or stored mels whose layout cannot be told.
        DataError: not one of the stored mels can be read.
    """
    if source.holds != "mels":
        if frontend is None:
            raise UsageError(
                "audio needs a mel front end, and none is assumed",
                hint="name the one that the model was trained with: --frontend NAME (calib frontends list)",
            )
        return MelReader(frontend, device=device)

    refused: list[str] = []
    read = 0

    def shapes() -> Iterator[tuple[int, ...]]:
        nonlocal read
        for item in source.unwatched():
            try:
                shape = array_shape(item.mel or "")
            except DataError as error:  # counted and named when it is read
                if len(refused) < _NAMED:
                    refused.append(f"{item.id}: {error.message}")
                continue
            read += 1
            yield shape

    try:
        decided = decide_layout(shapes(), layout, n_mels=None if frontend is None else frontend.n_mels)
    except UsageError:
        if refused and not read:  # no layout would help
            raise DataError(f"{source.root}: not one mel can be read:\n  " + "\n  ".join(refused)) from None
        raise
    return MelReader(frontend, decided)
