"""What ``calib convert`` reads: mels or PAIRS, and the recordings that belong to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from calib.commands.opening import Opening
from calib.commands.recordings import find_recordings
from calib.console import terminal
from calib.data.arrays import as_time_first, load_array
from calib.data.audio import read_audio
from calib.data.pairfiles import PairEntry, discover
from calib.data.pairs import Pairs, open_pairs
from calib.data.sources import Item
from calib.errors import CalibError, DataError, UsageError
from calib.mel.convert import Example, example
from calib.mel.convert.converter import EDGE_FRAMES
from calib.mel.corpus import MelReader, reader_for
from calib.mel.frontend import FrontEnd

__all__ = ["Inputs", "Unit", "examples_of", "is_pairs", "open_inputs", "recorded_mels", "teacher"]

# Mels that differ from those of their audio by less than this share of their sd are those of their audio.
_SAME_MEL = 0.02
_LOOKED_AT = 5  # utterances


@dataclass(frozen=True)
class Unit:
    """One utterance to convert.

    Args:
        id: unique.
        load: the mel ``(T, M)`` as it lies on disk.
        audio: its recording, or None.
        load_target: of a pair, the stored target; None if it is computed from the recording.
        load_free_running: of a pair, the free-running prediction; None where there is none.
        text: what is said, or "".
        speaker: name, or None.
        language: code, or None.
    """

    id: str
    load: Callable[[], np.ndarray]
    audio: Any = None
    load_target: Callable[[], np.ndarray] | None = None
    load_free_running: Callable[[], np.ndarray] | None = None
    text: str = ""
    speaker: str | None = None
    language: str | None = None

    def recording(self, rate: int) -> np.ndarray:
        """Samples ``(L,)`` at ``rate`` Hz.

        Raises:
            DataError: there is none, or it cannot be read. The message names no path.
        """
        if self.audio is None:
            raise DataError("no recording belongs to this mel")
        try:
            return read_audio(self.audio, rate).samples
        except DataError as error:
            raise DataError(error.message.replace(f"{self.audio}: ", "its recording: ")) from error

    @property
    def wav_name(self) -> str:
        """Stem of the recording's file, else of the id."""
        name = str(getattr(self.audio, "member", "") or getattr(self.audio, "path", self.audio) or self.id)
        return Path(name).stem if self.audio is not None else Path(self.id).name


@dataclass(frozen=True)
class Inputs:
    """Everything that is to be converted, in the order of the ids.

    Args:
        units: the utterances.
        pairs: whether they are predictions with targets.
        header: of ``pairs.json``; empty for mels.
        frontend: of the mels, before any calibration is undone.
        described: one line.
        teachers: recordings that a conversion can be learned from: those of the utterances, or, where ``--audio`` holds
            none of these, whatever it holds.
    """

    units: tuple[Unit, ...]
    pairs: bool
    header: dict[str, Any]
    frontend: FrontEnd
    described: str
    teachers: tuple[Unit, ...] = ()

    @property
    def n_recordings(self) -> int:
        """How many have one."""
        return sum(unit.audio is not None for unit in self.units)


def open_inputs(
    path: str, *, source: FrontEnd | None, audio: str | None, layout: str | None, columns: str | None, audio_root: Path | None, split: str | None, limit: int | None,
) -> Inputs:  # fmt: skip
    """Open MELS or PAIRS, and find the recordings.

    Raises:
        DataError: nothing there, or no recording belongs to a mel.
        UsageError: the front end of the mels is unknown; audio where mels are wanted; a layout that cannot be told.
    """
    inputs = _pairs(path, source, layout, limit) if is_pairs(Path(path)) else _mels(path, source, layout, limit)
    terminal.notice(inputs.described)
    corpus = None
    if audio is not None:
        corpus = Opening(audio, columns, audio_root, split).announced()
    entries = [PairEntry(unit.id, Path(), audio=unit.audio) for unit in inputs.units]
    try:
        paths, said = find_recordings(entries, corpus)
    except DataError as error:
        teachers = () if corpus is None else tuple(teacher(item) for item in corpus if item.audio is not None)
        if not teachers:
            raise
        terminal.notice(f"{error.message}: they only teach the conversion")
        return replace(inputs, teachers=teachers)
    if said is not None:
        terminal.notice(said.replace("pairs have", "utterances have"))
    # Texts and speakers that only the recordings' index knows.
    said_of = {} if corpus is None else {str(item.audio): item for item in corpus}
    units = tuple(_with(unit, place, said_of.get(str(place))) for unit, place in zip(inputs.units, paths, strict=True))
    return replace(inputs, units=units, teachers=tuple(unit for unit in units if unit.audio is not None))


def teacher(item: Item) -> Unit:
    """A recording that no mel belongs to."""

    def nothing() -> np.ndarray:
        raise DataError("no mel is stored here")

    return Unit(item.id, nothing, item.audio, speaker=item.speaker)


def _with(unit: Unit, audio: Any, item: Item | None) -> Unit:
    text, speaker, language = unit.text, unit.speaker, unit.language
    if item is not None:
        text, speaker, language = text or item.text, speaker or item.speaker, language or item.language
    return replace(unit, audio=audio, text=text, speaker=speaker, language=language)


def is_pairs(path: Path) -> bool:
    """Whether it is a PAIRS folder or listing, rather than mels alone."""
    if path.suffix.lower() == ".jsonl" or (path / "pairs.jsonl").is_file():
        return True
    if not path.is_dir():
        return False
    try:
        discover(path)
    except DataError:
        return False
    return True


def _known(frontend: FrontEnd | None, what: str) -> FrontEnd:
    if frontend is None:
        raise UsageError(f"{what}: which front end made these mels is not known", hint="give --from NAME (calib frontends list), or find it: calib frontends identify")  # fmt: skip
    return frontend


def _pairs(path: str, source: FrontEnd | None, layout: str | None, limit: int | None) -> Inputs:
    header = discover(Path(path)).header
    stored = FrontEnd.load(header["frontend"]) if isinstance(header.get("frontend"), dict) else None
    if source is not None and stored is not None and source.id != stored.id:
        listing = "; ".join(f"{key}: {a} with --from, {b} in the pairs" for key, (a, b) in source.differences(stored).items())  # fmt: skip
        raise UsageError(f"--from is not the front end that these pairs say they were made with: {listing}", hint="leave --from away, or correct pairs.json")  # fmt: skip
    frontend = _known(source or stored, path)
    pairs = open_pairs(path, layout=layout, frontend=frontend, limit=limit)
    units = tuple(_pair_unit(pairs, entry) for entry in pairs.entries)
    return Inputs(units, True, pairs.header, frontend, pairs.describe())


def _pair_unit(pairs: Pairs, entry: PairEntry) -> Unit:
    def load() -> np.ndarray:
        return as_time_first(load_array(entry.pred, entry.pred_key), pairs.layout_pred)[: entry.length]

    def target() -> np.ndarray:
        assert entry.target is not None
        return as_time_first(load_array(entry.target, entry.target_key), pairs.layout_target)[: entry.length]

    def free_running() -> np.ndarray:
        mel = pairs.load_free_running(entry)
        assert mel is not None
        return mel

    return Unit(
        entry.id, load, entry.audio, None if entry.target is None else target, None if entry.free_running is None else free_running, entry.text, entry.speaker, entry.language
    )  # fmt: skip


def _mels(path: str, source: FrontEnd | None, layout: str | None, limit: int | None) -> Inputs:
    corpus = Opening(path, limit=limit)()
    if corpus.kind != "mel folder":
        raise UsageError(f"{path}: {corpus.describe()}: mels are wanted here", hint="recordings go to --audio")
    reader = reader_for(corpus, source, layout=layout)
    frontend = _known(source, path)
    items = sorted(corpus, key=lambda item: item.id)
    units = tuple(Unit(item.id, _Stored(reader, item), None, None, None, item.text, item.speaker, item.language) for item in items)  # fmt: skip
    return Inputs(units, False, {}, frontend, corpus.describe())


@dataclass(frozen=True)
class _Stored:
    reader: MelReader
    item: Any

    def __call__(self) -> np.ndarray:
        return self.reader(self.item).mel


def recorded_mels(inputs: Inputs, raw: Callable[[np.ndarray], np.ndarray]) -> tuple[bool, str]:
    """Whether the mels are those of their recordings, and the sentence that says so.

    Args:
        inputs: with recordings.
        raw: from a stored mel to a mel of the front end.
    """
    found: list[float] = []
    for unit in [unit for unit in inputs.units if unit.audio is not None][:_LOOKED_AT]:
        try:
            mel, own = raw(unit.load()), inputs.frontend.mel(unit.recording(inputs.frontend.sample_rate))
        except CalibError:
            continue
        frames = min(len(mel), len(own))
        if abs(len(mel) - len(own)) > EDGE_FRAMES:
            found.append(float("inf"))
            continue
        found.append(float(np.abs(mel[:frames] - own[:frames]).mean() / max(float(own.std()), 1e-9)))
    if not found:
        return False, "no recording could be compared with its mel: the mels are taken for predictions"
    natural = sum(value < _SAME_MEL for value in found)
    figure = f"they differ from the mels of their recordings by {100 * float(np.median(found)):.2g} % of an sd" if np.isfinite(np.median(found)) else "their lengths are not those of their recordings"  # fmt: skip
    if natural == len(found):
        return True, f"these are the mels of the recordings ({figure})"
    return False, f"these are not the mels of the recordings, but predictions ({figure}; {natural} of {len(found)} looked at are the same)"  # fmt: skip


def examples_of(units: Sequence[Unit], source: FrontEnd, target: FrontEnd) -> Iterator[Example]:
    """Both mels of each recording, the speakers in turn, so that a fit that stops early has heard all of them."""
    waiting: dict[str | None, list[Unit]] = {}
    for unit in units:
        if unit.audio is not None:
            waiting.setdefault(unit.speaker, []).append(unit)
    queues = [waiting[key] for key in sorted(waiting, key=str)]
    for turn in range(max(map(len, queues), default=0)):
        for queue in queues:
            if turn < len(queue):
                unit = queue[turn]
                try:
                    yield example(source, target, unit.id, unit.recording, unit.speaker)
                except DataError as error:
                    terminal.detail(f"{unit.id}: not learned from: {error.message}")
