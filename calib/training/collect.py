"""Pairs as a validation pass gives them: exact sums over all frames, and a sample that never grows beyond a bound.

The sample holds whole utterances: number k of the pass (counted from 0) is held when k is a multiple of the stride; when
the sample would outgrow its bound the stride doubles and every other one is let go. The rule looks at nothing but k
and the lengths, so two passes over the same data in the same order hold the same utterances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calib.diagnose.moments import Moments, UnitMoments, unit_moments
from calib.errors import UsageError

__all__ = ["PairCollector", "Sample", "array", "looks_transposed"]

LAYOUTS = ("TM", "MT")
_USUAL_BINS = frozenset({40, 60, 64, 72, 80, 96, 100, 120, 128, 160, 256})
_SLACK = 8  # frames by which a prediction and its target may differ, as in PAIRS


def array(value: Any) -> np.ndarray:
    """A tensor (of any device and gradient) or an array as numpy.

    Raises:
        UsageError: it is neither.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value if value.is_complex() else value.float()).numpy()
    try:
        out = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # ragged lists, lists of tensors
        out = np.empty(0, dtype=object)
    if out.dtype.kind not in "fiu":
        what = out.dtype.name if isinstance(value, np.ndarray) else type(value).__name__
        raise UsageError(
            f"a mel is one array or tensor of real numbers, got {what}",
            hint="of utterances that are not padded, give each to update() by itself",
        )
    return out


def looks_transposed(frames: int, bins: int) -> bool:
    """Whether what should be ``(frames, bins)`` is more likely ``(bins, frames)``: one mel alone, or a batch of one length.

    Files are told apart by the axis whose size is the same in all of them; a first batch has no other to compare with.
    So the sizes that mels have decide, and only where one axis has such a size and the other has none of them.
    """
    return frames in _USUAL_BINS and bins not in _USUAL_BINS and bins > min(_USUAL_BINS)


def _whole(lengths: Any, frames: int) -> np.ndarray:
    """Lengths in frames, ``(B,)``.

    Raises:
        UsageError: fractions, a mask, or more frames than there are.
    """
    if "bool" in str(getattr(lengths, "dtype", "")):  # numpy's or torch's
        raise UsageError("lengths is a mask; calib takes the number of valid frames of each", hint="mask.sum(1)")
    out = array(lengths).ravel()
    if not (np.isfinite(out).all() and (out == np.floor(out)).all()) or (out < 0).any():
        raise UsageError(
            f"lengths holds {float(out[~(out == np.floor(out)) | (out < 0)][0]):g}; it is the number of valid frames of each, a whole number",
            hint="of shares of the longest: (lengths * mel.shape[1]).round()",
        )
    if out.size and out.max() > frames + _SLACK:
        raise UsageError(
            f"lengths holds {int(out.max())}, the batch has {frames} frames: padding would count as speech",
            hint="lengths are counted in mel frames, not in samples or tokens",
        )
    return out.astype(int)


@dataclass
class Sample:
    """Held pairs, as `calib.diagnose.analyze` reads them.

    Args:
        names: identity of each.
        pairs: ``(prediction, target)``, float32 ``(T, M)`` both.
        speakers: name to speaker, of those whose speaker is known.
    """

    names: list[str]
    pairs: list[tuple[np.ndarray, np.ndarray]]
    speakers: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        """Identity of a pair."""
        return self.names[index]

    def arrays(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Prediction and target."""
        return self.pairs[index]

    def speaker(self, index: int) -> str | None:
        """Who speaks; None where it is not known, as in a training loop."""
        return self.speakers.get(self.names[index])


class PairCollector:
    """One validation pass.

    Args:
        max_frames: most frames that the sample holds.
        layout: ``TM`` time first, ``MT`` bins first; None: time first, and what looks like bins first is refused.

    Raises:
        UsageError: an unknown layout, or a sample of fewer than 300 frames, too few to judge.
    """

    def __init__(self, max_frames: int = 20_000, layout: str | None = None) -> None:
        if layout is not None and layout not in LAYOUTS:
            raise UsageError(f"layout is {layout!r}; it must be one of {', '.join(LAYOUTS)}")
        if max_frames < 300:
            raise UsageError(f"max_frames is {max_frames}; fewer than 300 cannot be judged")
        self.max_frames, self.layout, self._asked = max_frames, layout or "TM", layout is None
        self.n_utterances = self.n_frames = self.n_bad = self.held_frames = 0
        self.stride = 1
        self.n_empty = 0  # utterances of length 0
        self.n_uneven, self.most_uneven = (
            0,
            0,
        )  # predictions of another length than their target's, by more than `_SLACK`
        self.padded = False  # a batch came without lengths
        self._held: dict[int, tuple[str, np.ndarray, np.ndarray]] = {}
        self._sums: _Sums | None = None
        self._bins = 0

    def add(self, pred: Any, target: Any, lengths: Any = None, names: Any = None) -> None:
        """Add a batch ``(B, T, M)`` or one utterance ``(T, M)`` (with layout ``MT``: ``(…, M, T)``).

        Args:
            pred: predictions.
            target: of the same bins; the frames that one has more than the other are left out (and counted).
            lengths: valid frames of each, ``(B,)``; without them every frame counts.
            names: identity of each, or None: their number in the pass.

        Raises:
            UsageError: shapes or lengths that do not fit.
        """
        p, y = (self._batch(value, what) for value, what in ((pred, "the prediction"), (target, "the target")))
        if p.shape[0] != y.shape[0] or p.shape[2] != y.shape[2]:
            raise UsageError(
                f"the prediction has shape {p.shape}, the target {y.shape} (batch, time, bins)",
                hint="time and bins are told apart by layout='TM' or 'MT'",
            )
        frames = min(p.shape[1], y.shape[1])
        longest = max(p.shape[1], y.shape[1])
        wanted = np.full(p.shape[0], longest) if lengths is None else _whole(lengths, longest)
        for what, given in (("lengths", wanted), ("names", names)):
            if given is not None and len(given) != p.shape[0]:
                raise UsageError(f"{len(given)} {what} for {p.shape[0]} utterances")
        self.padded |= lengths is None and p.shape[0] > 1
        for row, n in enumerate(np.minimum(wanted, frames)):
            missing = int(wanted[row] - n)
            self.n_uneven += missing > _SLACK
            self.most_uneven = max(self.most_uneven, missing)
            if n > 0:
                name = f"utterance {self.n_utterances}" if names is None else str(names[row])
                self._one(name, p[row, :n], y[row, :n])
            else:
                self.n_empty += 1

    def _batch(self, value: Any, what: str) -> np.ndarray:
        out = array(value)
        if out.ndim == 2:
            out = out[None]
        if out.ndim != 3:
            raise UsageError(f"{what} has shape {out.shape}; it must be (batch, time, bins) or (time, bins)")
        if self._asked and not self._bins and looks_transposed(out.shape[1], out.shape[2]):
            raise UsageError(
                f"{what} has shape {out.shape}: are these (batch, bins, time)? {out.shape[1]} is a number of mel bins, {out.shape[2]} is none",
                hint="layout='MT'; or layout='TM' where they are (batch, time, bins) after all",
            )
        return (out if self.layout == "TM" else out.swapaxes(1, 2)).astype(np.float32, copy=False)

    def _one(self, name: str, p: np.ndarray, y: np.ndarray) -> None:
        bins = self._bins = self._bins or p.shape[1]
        if p.shape[1] != bins:
            raise UsageError(
                f"{name}: {p.shape[1]} mel bins, the utterances before it have {bins}",
                hint=f"layout is {self.layout!r}; the other one is {'MT' if self.layout == 'TM' else 'TM'!r}",
            )
        index, self.n_utterances = self.n_utterances, self.n_utterances + 1
        self.n_frames += p.shape[0]
        if np.isfinite(p).all() and np.isfinite(y).all():
            if self._sums is None:
                self._sums = _Sums(p.shape[1])
            self._sums.add(p, y)
        else:
            self.n_bad += 1
        if index % self.stride:
            return
        p, y = p[: self.max_frames].copy(), y[: self.max_frames].copy()
        self._held[index] = name, p, y
        self.held_frames += p.shape[0]
        while self.held_frames > self.max_frames and len(self._held) > 1:
            self.stride *= 2
            for dropped in [k for k in self._held if k % self.stride]:
                self.held_frames -= self._held.pop(dropped)[1].shape[0]

    def sample(self) -> Sample:
        """What is held, in the order of the pass."""
        return Sample([name for name, _, _ in self._held.values()], [(p, y) for _, p, y in self._held.values()])

    def moments(self) -> Moments | None:
        """Of every finite frame; None where there is none."""
        return None if self._sums is None else Moments([self._sums.result()])

    def mae(self) -> float | None:
        """Mean absolute error over every finite frame, in the mel's unit."""
        return None if self._sums is None else self._sums.absolute / (self._sums.unit.n * self._sums.unit.mean_p.size)


class _Sums:
    """Sums over all frames: utterances merge by the parallel update of Chan, Golub and LeVeque (1983)."""

    def __init__(self, n_mels: int) -> None:
        zero = np.zeros(n_mels)
        self.unit = UnitMoments(0, zero, zero, zero, zero, zero)
        self.absolute = 0.0

    def add(self, p: np.ndarray, y: np.ndarray) -> None:
        self.absolute += float(np.abs(p - y).sum(dtype=np.float64))
        a, b = self.unit, unit_moments(p, y)
        n = a.n + b.n
        dp, dy, share = b.mean_p - a.mean_p, b.mean_y - a.mean_y, a.n * b.n / n
        self.unit = UnitMoments(
            n,
            a.mean_p + dp * b.n / n,
            a.mean_y + dy * b.n / n,
            a.pp + b.pp + dp * dp * share,
            a.yy + b.yy + dy * dy * share,
            a.py + b.py + dp * dy * share,
        )

    def result(self) -> UnitMoments:
        return self.unit
