"""From a corpus's item to its mel: read, resample, front end. What ``stats`` and ``teacher-force`` share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from calib.data.arrays import array_shape, as_time_first, decide_layout, load_array
from calib.data.audio import read_audio
from calib.data.clip import Place
from calib.data.sources import Item, Source
from calib.errors import DataError, UsageError
from calib.mel.frontend import FrontEnd
from calib.mel.statistics import UtteranceStatistics, measure

__all__ = ["CorpusMel", "MelReader", "reader_for"]


@dataclass(frozen=True)
class CorpusMel:
    """One item's mel.

    Args:
        mel: float32 ``(T, M)``.
        seconds: duration of the audio as stored, in s (frames times hop for stored mels; 0 without a front end).
        source_rate: sample rate of the file in Hz, or None for stored mels.
        notes: what is unusual about the file and was read nevertheless.
    """

    mel: np.ndarray
    seconds: float
    source_rate: int | None
    notes: tuple[str, ...] = ()


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
        try:
            return self._stored(path) if item.audio is None else self._computed(path)
        except DataError as error:
            text = error.message
            for form in (f"{path}: ", str(path)):
                text = text.replace(form, "" if form.endswith(": ") else path.name)
            raise DataError(text) from error

    def _stored(self, path: Place) -> CorpusMel:
        mel = as_time_first(load_array(path), self.layout)
        fe = self.frontend
        if fe is not None and mel.shape[1] != fe.n_mels:
            raise DataError(f"the mel has {mel.shape[1]} bins, the front end {fe.n_mels}")
        return CorpusMel(mel, mel.shape[0] * fe.hop_length / fe.sample_rate if fe else 0.0, None)

    def _computed(self, path: Place) -> CorpusMel:
        assert self.frontend is not None
        audio = read_audio(path, self.frontend.sample_rate)
        return CorpusMel(self.frontend.mel(audio.samples, self.device), audio.seconds, audio.source_rate, audio.notes)


@dataclass(frozen=True)
class Measure:
    """Picklable: an item to its statistics, the sample rate of its file, and what is unusual about it."""

    reader: MelReader

    def __call__(self, item: Item) -> tuple[UtteranceStatistics, int | None, tuple[str, ...]]:
        """Read and measure one item.

        Raises:
            DataError: see `MelReader`; also NaN in the mel.
        """
        found = self.reader(item)
        floor = None if self.reader.frontend is None else self.reader.frontend.floor
        measured = measure(found.mel, floor=floor, seconds=found.seconds, speaker=item.speaker)
        return measured, found.source_rate, found.notes


def reader_for(
    source: Source, frontend: FrontEnd | None, *, layout: str | None = None, device: str = "cpu"
) -> MelReader:
    """The reader that fits a corpus.

    Raises:
        UsageError: audio without a front end, or stored mels whose layout cannot be told.
    """
    if source.holds != "mels":
        if frontend is None:
            raise UsageError(
                "audio needs a mel front end, and none is assumed",
                hint="name the one that the model was trained with: --frontend NAME (calib frontends list)",
            )
        return MelReader(frontend, device=device)

    def shapes() -> Iterator[tuple[int, ...]]:
        for item in source:
            with contextlib.suppress(DataError):  # counted and named when it is read
                yield array_shape(item.mel or "")

    return MelReader(frontend, decide_layout(shapes(), layout, n_mels=None if frontend is None else frontend.n_mels))
