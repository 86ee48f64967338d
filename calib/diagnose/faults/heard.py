"""Forms from the audio: targets recomputed under every faulty front end, on the utterances that have audio."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.geometry import Recomputed
from calib.diagnose.faults.sample import Sample, sounding
from calib.diagnose.faults.structure import Step, relation
from calib.diagnose.faults.time import all_ratios, rate_label, rate_ratios
from calib.diagnose.faults.transforms import Form

__all__ = ["CONTRADICTED", "Heard", "related_rate"]

CONTRADICTED = "the targets are not what the declared front end makes of this audio"

_FRAMES = 3000  # as many as can be recomputed thirty times in a second or two
_LOOKED = 4  # utterances in which a relabelled rate is looked for
_LONGER = 8  # frames by which a target may be longer than its audio makes it
_POWERS = {"log-power", "power-floor"}

Pair = tuple[np.ndarray, np.ndarray]


def related_rate(
    frames: Sequence[Pair], indices: Sequence[int], recomputed: Recomputed, arrays: Step
) -> tuple[float, float]:
    """The ratio of sample rates under which prediction and audio are related best, and the magnitude of r there.

    Args:
        frames: ``(p, y)`` of some utterances.
        indices: of the utterances in ``recomputed``.
        recomputed: targets recomputed from the audio.
        arrays: what was found of how the arrays lie.
    """
    best = (0.0, 1.0)
    for ratio in all_ratios():
        pairs = []
        for row, index in enumerate(indices[:_LOOKED]):
            y = recomputed.relabelled(index, ratio)
            if y is not None:
                pairs.append(_laid(arrays, frames[row], y))
        if pairs:
            best = max(best, (abs(relation(Sample(pairs)).r), ratio))
    return best[1], best[0]


def _laid(arrays: Step, frame: Pair, y: np.ndarray) -> Pair:
    """A recomputed target beside the prediction, whose arrays are undone before anything is cut to one length."""
    p = arrays.undo(*frame)[0]
    n = min(len(p), len(y))
    return p[:n], y[:n]


@dataclass(frozen=True)
class Heard:
    """The forms that audio gives.

    Args:
        frames: ``(p, y)`` of some utterances.
        indices: of the utterances in ``recomputed``.
        recomputed: targets recomputed from the audio.
        arrays: what was found of how the arrays lie.
        time: what was found of time.
        autoregressive: as declared.
        ratio: of sample rates, where only the audio showed it.
        library: faults that may be named.
    """

    frames: Sequence[Pair]
    indices: Sequence[int]
    recomputed: Recomputed
    arrays: Step
    time: Step
    autoregressive: bool | None
    ratio: float | None
    library: frozenset[str]

    def chosen(self) -> list[tuple[int, int]] | str:
        """Row and index of the utterances that are used; or why none is."""
        chosen: list[tuple[int, int]] = []
        total = 0
        for row, index in enumerate(self.indices):
            target = self.recomputed.target(index)
            y = self.arrays.undo(*self.frames[row])[1]  # a target that lies wrongly is put right first
            if target is None or len(y) > len(target) + _LONGER:
                continue
            n = min(len(target), len(y))
            if float(np.abs(target[:n] - y[:n]).mean()) > 0.05 * float(y.std()):
                return CONTRADICTED
            chosen.append((row, index))
            total += len(y)
            if total >= _FRAMES:
                break
        return chosen or "no utterance has usable audio"

    def sample(self, chosen: Sequence[tuple[int, int]]) -> Sample:
        """The pairs as they are, arrays and time undone: every form is compared with them on the same utterances."""
        both = [self.time.undo(*sounding(*self.arrays.undo(*self.frames[row]))) for row, _ in chosen]
        return Sample([pair for pair in both if len(pair[0]) > 1])

    def forms(self, chosen: Sequence[tuple[int, int]]) -> Iterator[Form]:
        """One for each faulty front end, and for each sample rate that would explain the drift."""
        for key in self.recomputed.keys:
            faults = self.recomputed.faults(key)
            if faults == ("half-hop",) and (self.autoregressive is not False or self.time.faults):
                continue  # what such a model knows of the previous frame looks alike
            if not set(faults) <= self.library:
                continue
            mels = [self.recomputed.mel(index, key) for _, index in chosen]
            frames = _sample(self._undone(row, y) for (row, _), y in zip(chosen, mels, strict=True))
            if frames is not None:
                units = not _POWERS & set(faults)  # power under a free map is magnitude under another
                yield Form(faults, self.recomputed.label(key), prior=FROZEN.rare, sample=frames, units=units)
        if "sample-rate" not in self.library:
            return
        for ratio in rate_ratios(self.time.stretch) if self.ratio is None else [self.ratio]:
            mels = [self.recomputed.relabelled(index, ratio) for _, index in chosen]
            frames = _sample(self._drifting(row, y) for (row, _), y in zip(chosen, mels, strict=True))
            if frames is not None:
                label = rate_label(ratio)
                yield Form(("sample-rate",), label, prior=FROZEN.rare, sample=frames)

    def _undone(self, row: int, y: np.ndarray | None) -> Pair | None:
        """The prediction with a recomputed target, arrays and time undone."""
        return None if y is None else self.time.undo(*sounding(*_laid(self.arrays, self.frames[row], y)))

    def _drifting(self, row: int, y: np.ndarray | None) -> Pair | None:
        """The same with time as it is: the form explains the drift by itself."""
        return None if y is None else sounding(*_laid(self.arrays, self.frames[row], y))


def _sample(pairs: Iterable[Pair | None]) -> Sample | None:
    """All of the pairs; None where one is missing or next to nothing."""
    there = []
    for pair in pairs:
        if pair is None or len(pair[0]) < 2:
            return None
        there.append(pair)
    return Sample(there)
