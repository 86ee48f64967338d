"""Pairs as `analyze` reads them: checked, without padding, cut into the units that folds and intervals are made of."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from calib.diagnose.calibrators.sampled import FrameSample, FrameSampler
from calib.diagnose.faults.evidence import Finding
from calib.diagnose.lengths import explain_lengths
from calib.diagnose.moments import Moments, UnitMoments, unit_moments

__all__ = ["FOLDS", "MIN_UTTERANCES", "PairSet", "Reader", "Unit", "UnusablePairError"]

MIN_UTTERANCES = 5  # below: blocks instead of utterances
FOLDS = 5
_PROBED = 40  # utterances held in memory for the null, the lags and the pairings
# A tail of frames that repeat exactly is padding or digital silence, never speech, however short.
_PAD_FRAMES = 2
# ... and one that hardly moves (dither, a denormalised pad) is too, when it lasts and both sides agree on it.
_STILL_FRAMES, _STILL = 20, 0.02


class UnusablePairError(Exception):
    """Raised by `PairSet.arrays` for a pair that cannot be read or whose shapes do not fit; the text says why.

    Args:
        message: why.
        pred_frames: length of the prediction where the two lengths are what does not fit, else None.
        target_frames: the same of the target.
        fatal: one such pair makes the data invalid, however many there are (values that overflowed).
    """

    def __init__(
        self, message: str, *, pred_frames: int | None = None, target_frames: int | None = None, fatal: bool = False
    ) -> None:
        super().__init__(message)
        self.pred_frames = pred_frames
        self.target_frames = target_frames
        self.fatal = fatal


class PairSet(Protocol):
    """What `analyze` reads: targets and predictions, cropped to one length, in an order that does not change."""

    def __len__(self) -> int:
        """Number of utterances."""
        ...

    def name(self, index: int) -> str:
        """Identity of an utterance."""
        ...

    def arrays(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """``(prediction, target)``, float32 ``(T, M)`` both.

        Raises:
            UnusablePairError: the pair cannot be used.
        """
        ...

    def speaker(self, index: int) -> str | None:
        """Speaker name, or None."""
        ...


@dataclass(frozen=True)
class Unit:
    """A stretch of one utterance that is held out together."""

    index: int
    start: int
    stop: int


class Reader:
    """Reads the pairs with padding removed, and knows the units.

    Args:
        pairs: the pairs.
        notes: where notices go.
        allow_skipped: percent of pairs that may be unusable.

    After `first_pass`, ``faults`` holds what the lengths of unusable pairs name.
    """

    def __init__(self, pairs: PairSet, notes: list[str], allow_skipped: float = 1.0) -> None:
        self.pairs = pairs
        self.notes = notes
        self.allow_skipped = allow_skipped
        self.usable: list[int] = []
        self.lengths: list[int] = []
        self.units: list[Unit] = []
        self.moments: list[UnitMoments] = []
        self.n_mels = 0
        self.faults: list[Finding] = []
        self._sampler = FrameSampler()

    @property
    def n_frames(self) -> int:
        """Valid frames."""
        return sum(self.lengths)

    @property
    def by_utterance(self) -> bool:
        """Whether folds and intervals are made of whole utterances."""
        return len(self.usable) >= MIN_UTTERANCES

    def arrays(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Prediction and target of one utterance without padding."""
        p, y = self.pairs.arrays(index)
        n = self.lengths[index]
        return p[:n], y[:n]

    def first_pass(self) -> tuple[list[str], tuple[float, float]]:
        """Check every array and gather the moments of every utterance.

        Returns:
            What makes the data invalid, and mean and sd of the targets.
        """
        broken: list[str] = []
        bad: list[str] = []
        unequal: list[tuple[str, tuple[int, int]]] = []
        padded = 0
        for index in range(len(self.pairs)):
            n, problem = 0, None
            try:
                p, y = self.pairs.arrays(index)
            except UnusablePairError as error:
                if error.fatal:
                    bad.append(str(error))
                elif error.pred_frames and error.target_frames:
                    unequal.append((str(error), (error.pred_frames, error.target_frames)))
                else:
                    problem = str(error)
            else:
                if p.shape != y.shape or y.ndim != 2:
                    text = f"{self.pairs.name(index)}: the prediction is {p.shape}, the target {y.shape}"
                    if p.ndim == y.ndim == 2 and p.shape[1] == y.shape[1] and len(p) and len(y):
                        unequal.append((text, (len(p), len(y))))
                    else:
                        problem = text
                elif 0 in y.shape:
                    problem = f"{self.pairs.name(index)}: no frames or no bins, the shape is {y.shape}"
                elif y.shape[1] != (self.n_mels or y.shape[1]):
                    problem = f"{self.pairs.name(index)}: {y.shape[1]} bins, the pairs before it have {self.n_mels}"
                elif found := [
                    f"{self.pairs.name(index)}: {count} NaN or infinite values in the {what}"
                    for what, array in (("prediction", p), ("target", y))
                    if (count := array.size - int(np.count_nonzero(np.isfinite(array))))
                ]:
                    bad += found
                else:
                    self.n_mels = y.shape[1]
                    n = _valid_frames(p, y)
                    padded += p.shape[0] - n
            self.lengths.append(n)
            if problem is not None:
                broken.append(problem)
            elif n:
                self._sampler.add(len(self.usable), p[:n], y[:n])
                self.usable.append(index)
                self.moments.append(unit_moments(p[:n], y[:n]))
                self.units.append(Unit(index, 0, n))
        if padded:
            self.notes.append(
                f"{padded} frames of padding or digital silence (a tail in which the target stands still) were left out"
            )
        invalid = [_first(bad)] if bad else []
        reasons = self._lengths(unequal) + ([_first(broken)] if broken else [])
        if reasons and 100.0 * (len(broken) + len(unequal)) > self.allow_skipped * len(self.pairs):
            invalid += reasons
        else:
            self.notes += [f"skipped {reason}" for reason in reasons]
        if invalid or not self.moments:
            return invalid, (0.0, 1.0)
        summary = Moments(self.moments).summary()
        mean, std = float(summary.m_y), float(summary.s_y)
        if std < 1e-9 * max(1.0, abs(mean)):
            zero = " (all-zero mels: look at the data loader)" if abs(mean) < 1e-12 else ""
            return [f"the target has no variance: every value is {mean:g}{zero}"], (mean, 1.0)
        if self.n_frames >= 3 * FOLDS and float(summary.s_w_y) < 1e-6 * std:
            return ["the target does not change over time: every bin holds one value (look at the data loader)"], (
                mean,
                std,
            )
        if len(self.usable) == 1:
            self._split(self.usable[0])
        return [], (mean, std)

    def _lengths(self, unequal: list[tuple[str, tuple[int, int]]]) -> list[str]:
        """Why pairs differ in length, with examples; a fault is named where more than the allowed share has it."""
        if not unequal:
            return []
        cause = explain_lengths([lengths for _, lengths in unequal])
        if cause.finding is not None and 100.0 * len(unequal) > self.allow_skipped * len(self.pairs):
            self.faults.append(cause.finding)
        return [f"{len(unequal)} of {len(self.pairs)} pairs differ too much in length to be compared: {cause.sentence} ({_first([text for text, _ in unequal])})"]  # fmt: skip

    def _split(self, index: int) -> None:
        """A single utterance is held out block by block."""
        p, y = self.arrays(index)
        edges = np.linspace(0, p.shape[0], FOLDS + 1).astype(int)
        self.units = [Unit(index, int(a), int(b)) for a, b in itertools.pairwise(edges) if b > a]
        self.moments = [unit_moments(p[u.start : u.stop], y[u.start : u.stop]) for u in self.units]

    def frame_sample(self) -> FrameSample:
        """Every k-th frame of all, as stored, with its unit; after `first_pass`, of pairs that can be judged."""
        found = self._sampler.result()
        if len(self.usable) > 1:
            return found
        places = self._sampler.step * np.arange(found.unit.size)
        return replace(found, unit=np.searchsorted([unit.start for unit in self.units], places, side="right") - 1)

    def probe_sample(self) -> list[int]:
        """Indices of at most `_PROBED` utterances, evenly spread."""
        count = len(self.usable)
        chosen = {round(i * (count - 1) / max(min(count, _PROBED) - 1, 1)) for i in range(min(count, _PROBED))}
        return [self.usable[i] for i in sorted(chosen)]


def _first(lines: list[str], most: int = 3) -> str:
    return "; ".join(lines[:most]) + (f"; and {len(lines) - most} more" if len(lines) > most else "")


def _valid_frames(p: np.ndarray, y: np.ndarray) -> int:
    """Frames before the padding: a tail in which every bin of the target stands still.

    It may stand at another value in each bin (zeros that were denormalised by per-bin statistics). A target that
    stands still from the first frame on has no padding to speak of; that is a finding of its own.
    """
    n = int(min(p.shape[0], y.shape[0]))
    if n < 2:
        return n
    exact = _still_from(y[:n], 0.0)
    if exact and n - exact >= _PAD_FRAMES:
        return exact
    # Nearly still: only where the prediction is as still there, so that a dead stretch of output is never excused.
    scale = _STILL * float(y[:n].std())
    nearly = max(_still_from(y[:n], scale), _still_from(p[:n], scale))
    return nearly if nearly and n - nearly >= _STILL_FRAMES else n


def _still_from(mel: np.ndarray, tolerance: float) -> int:
    """First frame of the tail whose frames are within ``tolerance`` of the last one, on average over bins; 0: all."""
    moving = np.flatnonzero(np.abs(mel - mel[-1]).mean(axis=1) > tolerance)
    return int(moving[-1]) + 1 if moving.size else 0
