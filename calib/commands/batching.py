"""What ``calib teacher-force`` shows to a model: utterances with their references, in batches of like length.

Conventions:
    Batches are functions of the sorted corpus and the options alone, never of timing or of who makes them.
"""

from __future__ import annotations

import contextlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from calib.console import terminal
from calib.data.arrays import array_shape
from calib.data.audio import audio_seconds
from calib.data.plan import Plan
from calib.data.sources import Item
from calib.errors import DataError
from calib.mel.corpus import MelReader
from calib.models.protocol import Utterance
from calib.models.teaching import Checked, Teacher, check_claims

__all__ = ["Batching", "Mels", "Ready", "own_file", "probe"]

_CACHED = 96 << 20  # bytes of mels that a worker keeps: references are read again
_TRIED = 16  # utterances that are read to find some to probe the model with


@dataclass(frozen=True)
class Batching:
    """How utterances are put together.

    Args:
        size: most utterances of a batch.
        frames: most frames of a batch, padding included; a longer utterance is run alone.
        window: utterances that are sorted by length together, and that one worker does at a time.
    """

    size: int
    frames: int
    window: int

    def windows(self, count: int) -> int:
        """How many windows a corpus of ``count`` has."""
        return math.ceil(count / self.window)

    def numbers(self, window: int, count: int) -> range:
        """Numbers of the items of a window."""
        return range(window * self.window, min((window + 1) * self.window, count))

    def cut(self, lengths: Sequence[int], names: Sequence[str]) -> list[list[int]]:
        """Batches of positions, from the shortest to the longest utterance; equal lengths in the order of ids."""
        out: list[list[int]] = []
        for position in sorted(range(len(names)), key=lambda k: (lengths[k], names[k])):
            last = out[-1] if out else None
            if last is None or len(last) >= self.size or (len(last) + 1) * lengths[position] > self.frames:
                out.append([])
            out[-1].append(position)
        return out


class Ready(NamedTuple):
    """One utterance: the item, what the model receives of it, its reference (itself, if its speaker has no other)."""

    item: Item
    shown: Utterance
    reference: Item


class Mels:
    """Items by number, with their mels; the last ones are kept."""

    def __init__(self, plan: Plan, reader: MelReader) -> None:
        self._plan, self._reader = plan, reader
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._bytes = 0

    def ready(self, number: int) -> Ready:
        """Everything that running one utterance needs.

        Raises:
            DataError: its mel cannot be made.
        """
        (item,) = self._plan.items([number])
        mel = self._mel(number, item)
        (other,) = self._plan.references([number])
        reference, reference_mel = item, None
        if other is not None:
            (reference,) = self._plan.items([other])
            # If it cannot be read it is skipped with its own reason; its neighbour uses its own voice.
            with contextlib.suppress(DataError):
                reference_mel = self._mel(other, reference)
        shown = Utterance(item.id, mel, item.text, item.speaker, item.language, own_file(item), reference_mel)
        return Ready(item, shown, reference)

    def _mel(self, number: int, item: Item) -> np.ndarray:
        found = self._kept.get(number)
        if found is None:
            found = self._kept[number] = self._reader(item).mel
            self._bytes += found.nbytes
            while self._bytes > _CACHED and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        self._kept.move_to_end(number)
        return found

    def frames(self, item: Item) -> int:
        """Length in frames as the index or the file's header says, without reading the file; 0 where neither does."""
        frontend = self._reader.frontend
        with contextlib.suppress(DataError, ValueError, OverflowError):
            if item.audio is None:
                shape = array_shape(item.mel or "")
                return int(shape[-2 if self._reader.layout == "TM" else -1])
            assert frontend is not None
            seconds = audio_seconds(item.audio) if item.duration is None else item.duration
            return max(0, int(seconds * frontend.sample_rate / frontend.hop_length))
        return 0


def own_file(item: Item) -> Path | None:
    """The item's audio where it is a file of its own: what lies inside a shard has no path to pass on."""
    return item.audio if isinstance(item.audio, Path) else None


def probe(teacher: Teacher, mels: Mels, plan: Plan, batching: Batching) -> Checked:
    """Check what the model claims: the same output twice; the same alone as in a padded batch.

    In the first window, the shortest utterance runs with the longest one that it could be put together with, and the
    two ends of the batch whose lengths differ most.
    """
    numbers = batching.numbers(0, plan.count)
    items = plan.items(numbers)
    frames = [mels.frames(item) for item in items]
    ordered = sorted((k for k in range(len(items)) if frames[k]), key=lambda k: (frames[k], items[k].id))
    ordered += [k for k in range(len(items)) if not frames[k]]
    shortest = _readable(mels, numbers, ordered)
    if shortest is None:
        return Checked(padding_safe=batching.size > 1)
    groups: list[list[Ready]] = []
    if batching.size > 1:
        fitting = [k for k in ordered if 2 * frames[k] <= batching.frames]
        ends = [(fitting[0], fitting[-1])] if fitting else []
        cut = [batch for batch in batching.cut(frames, [item.id for item in items]) if len(batch) > 1]
        ends += sorted(((one[0], one[-1]) for one in cut), key=lambda pair: -frames[pair[1]] / max(1, frames[pair[0]]))[:1]  # fmt: skip
        for first, last in dict.fromkeys(ends):
            found = [_readable(mels, numbers, [k]) for k in (first, last)]
            if first != last and found[0] is not None and found[1] is not None:
                groups.append([found[0], found[1]])
    checked = check_claims(teacher, shortest.shown, [[one.shown for one in group] for group in groups])
    checked.padding_safe = checked.padding_safe and batching.size > 1
    for text in checked.findings:
        terminal.warning(text)
    return checked


def _readable(mels: Mels, numbers: range, positions: list[int]) -> Ready | None:
    for position in positions[:_TRIED]:
        with contextlib.suppress(DataError):
            return mels.ready(numbers[position])
    return None
