"""Which way leads from one front end to another, and what is lost on it; decided before anything is read.

====================  ================================================================================================
``recompute``         the mels are of recordings that are given: the target front end hears those. Nothing is better
``exact``             one family: undo the one's logarithm and normalisation, apply the other's
``fitted``            another family, and recordings to learn from: inversion of the filters and a regression
``inverted``          another family, and no recordings: inversion of the filters and a typical offset by bin
``refused``           the mel does not hold what the target needs
====================  ================================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.mel.convert.grids import bin_edges, frame_seconds, same_grid
from calib.mel.frontend import FrontEnd
from calib.mel.relation import AUDIO_STEPS, Relation, relate

__all__ = ["HOWS", "Loss", "Plan", "outside_band", "plan"]

HOWS = ("recompute", "exact", "fitted", "inverted", "refused")
# Share of the target's bins that may lie outside the source's band (80-7600 Hz for 0-8000 Hz leaves 4 of 80).
_OUTSIDE = 0.05
# Frames this many times as far apart do not hold what lies between them.
_COARSE = 2.0
# Bins this many times as wide do not hold what lies within them.
_WIDE = 2.0


@dataclass(frozen=True)
class Loss:
    """Information that the source mel does not hold.

    Args:
        what: ``band``, ``time``, ``bins`` or ``utterance``.
        severe: whether it is a reason to refuse.
        words: for people, with units.
        invented: what stands there if the conversion goes on all the same.
    """

    what: str
    severe: bool
    words: str
    invented: str


@dataclass(frozen=True)
class Plan:
    """How to come from one front end to another.

    Args:
        source: front end of the given mels.
        target: front end wanted.
        how: see the module's table.
        why: a sentence.
        losses: what the source does not hold.
        notes: what a person should know, in words.
        relation: the exact map, where there is one.
    """

    source: FrontEnd
    target: FrontEnd
    how: str
    why: str
    losses: tuple[Loss, ...] = ()
    notes: tuple[str, ...] = ()
    relation: Relation | None = None

    @property
    def expected_db(self) -> float | None:
        """Expected error in dB before anything was measured: 0 for the two exact ways, else None (it is measured)."""
        return 0.0 if self.how in {"recompute", "exact"} else None

    @property
    def outside(self) -> np.ndarray:
        """Which of the target's bins are centred outside the source's band, ``(M',)``."""
        return outside_band(self.source, self.target)

    def summary(self) -> dict[str, Any]:
        """For ``conversion.json``."""
        return {
            "how": self.how,
            "why": self.why,
            "lost": [{"what": loss.what, "severe": loss.severe, "words": loss.words} for loss in self.losses],
            "notes": list(self.notes),
        }


def outside_band(source: FrontEnd, target: FrontEnd) -> np.ndarray:
    """Which of the target's bins are centred outside the source's filters or above half its sample rate, ``(M',)``."""
    low, high = _band(source)
    centres = bin_edges(target)[1:-1]
    return np.asarray((centres < low) | (centres > high))


def _band(frontend: FrontEnd) -> tuple[float, float]:
    edges = bin_edges(frontend)
    return float(edges[0]), min(float(edges[-1]), frontend.sample_rate / 2)


def plan(source: FrontEnd, target: FrontEnd, *, audio: bool, pairs: bool, allow_loss: bool = False) -> Plan:
    """Decide.

    Args:
        source: front end of the given mels.
        target: front end wanted.
        audio: recordings are given.
        pairs: the mels are predictions, so that no recording says what they are; recordings then only teach the map.
        allow_loss: go on although the source does not hold what the target needs.
    """
    if audio and not pairs:
        return Plan(source, target, "recompute", "the recordings are given and these are their mels: the target front end hears them, which is exact and better than any conversion", notes=_audio_notes(source, target))  # fmt: skip
    relation = relate(source, target)
    notes = [*_time_notes(source, target)]
    if relation is not None:
        if source.id == target.id:
            why = "both are one front end: nothing to convert"
        elif np.any(relation.log_offset):
            why = "one filterbank but for its area norm, a constant by bin: exact up to float32 rounding, away from guards"
        else:
            why = "one family: only guard, logarithm and normalisation differ: exact up to float32 rounding, away from guards"
        if relation.edge_frames:
            notes.append(f"the audio's ends are padded in another way ({source.pad_mode} and {target.pad_mode}): the first and last {relation.edge_frames} frames are not exact")  # fmt: skip
        if relation.audio_steps:
            notes.append(f"trim and level of the audio stay the source's ({', '.join(relation.audio_steps)} differ): a mel does not say what they were")  # fmt: skip
        return Plan(source, target, "exact", why, (), tuple(notes), relation)
    if any(getattr(source, name) != getattr(target, name) for name in AUDIO_STEPS):
        notes.append("trim and level of the audio stay the source's: a mel does not say what they were")
    losses = tuple(_losses(source, target))
    severe = [loss for loss in losses if loss.severe]
    if severe and not allow_loss:
        return Plan(source, target, "refused", "; ".join(loss.words for loss in severe), losses, tuple(notes))
    if audio:
        return Plan(source, target, "fitted", "another family: inversion of the filters and a regression, fitted on both mels of the recordings", losses, tuple(notes))  # fmt: skip
    if source.utterance_norm in {"minmax", "instance"}:
        return Plan(source, target, "refused", f"{_utterance(source).words}, and without recordings there is nothing to learn from", losses, tuple(notes))  # fmt: skip
    return Plan(source, target, "inverted", "another family and no recordings to learn from: inversion of the filters and a typical offset by bin; with --audio it would be better", losses, tuple(notes))  # fmt: skip


def _audio_notes(source: FrontEnd, target: FrontEnd) -> tuple[str, ...]:
    return () if source.sample_rate == target.sample_rate else (f"the recordings are read at {target.sample_rate} Hz instead of {source.sample_rate} Hz",)  # fmt: skip


def _time_notes(source: FrontEnd, target: FrontEnd) -> list[str]:
    if same_grid(source, target):
        return []
    mine, theirs = frame_seconds(source), frame_seconds(target)
    if abs(mine / theirs - 1) < 1e-9:
        shift = target.centre_offset / target.sample_rate - source.centre_offset / source.sample_rate
        return [f"the target's frames lie {1e3 * shift:+.2f} ms from the source's ({shift / theirs:+.2f} frames): interpolated in time"]  # fmt: skip
    pace = "fast" if theirs < mine else "slow"
    percent = 100 * abs(theirs / mine - 1)
    return [
        f"a frame every {1e3 * mine:.3f} ms becomes one every {1e3 * theirs:.3f} ms: resampled in time; fed as they are, these mels would sound {percent:.1f} % too {pace}"
    ]


def _utterance(source: FrontEnd) -> Loss:
    kind = {"minmax": "to [0, 1]", "instance": "to mean 0 and sd 1 in every bin"}[str(source.utterance_norm)]
    return Loss("utterance", True, f"the source is normalised {kind} by utterance, which cannot be undone: its level is not in the mel", "the usual level of the recordings")  # fmt: skip


def _losses(source: FrontEnd, target: FrontEnd) -> list[Loss]:
    found = []
    if source.utterance_norm in {"minmax", "instance"}:
        found.append(_utterance(source))
    outside = outside_band(source, target)
    if outside.any():
        (low, high), edges = _band(source), bin_edges(target)
        centres = edges[1:-1][outside]
        above, below = centres[centres > high], centres[centres < low]
        parts = [f"{len(side)} {word} (up to {side.max():.0f} Hz)" if word == "above" else f"{len(side)} {word} (from {side.min():.0f} Hz)" for side, word in ((above, "above"), (below, "below")) if len(side)]  # fmt: skip
        found.append(
            Loss("band", bool(outside.mean() > _OUTSIDE), f"the source's band is {low:.0f}-{high:.0f} Hz, and {int(outside.sum())} of the target's {target.n_mels} bins are centred outside it: {', '.join(parts)}", f"bins {_ranges(outside)}: what usually goes with the rest of the spectrum")
        )  # fmt: skip
    ratio = frame_seconds(source) / frame_seconds(target)
    if ratio > 1.2:
        found.append(
            Loss("time", ratio > _COARSE, f"the source has a frame every {1e3 * frame_seconds(source):.1f} ms, the target every {1e3 * frame_seconds(target):.1f} ms ({ratio:.2f} times as many)", "what changes faster than the source's frames is interpolated")
        )  # fmt: skip
    ratio = _width_ratio(source, target)
    if ratio > 1.2:
        found.append(
            Loss("bins", ratio > _WIDE, f"the source's filters are {ratio:.1f} times as wide as the target's ({source.n_mels} bins and {target.n_mels})", "spectral detail between the source's bins is interpolated")
        )  # fmt: skip
    return found


def _width_ratio(source: FrontEnd, target: FrontEnd) -> float:
    """How much wider the source's filters are, at the median over the target's centres within its band."""
    mine, theirs = bin_edges(source), bin_edges(target)
    centres = theirs[1:-1]
    inside = ~outside_band(source, target)
    if not inside.any():
        return 1.0
    at = np.interp(centres[inside], mine[1:-1], mine[2:] - mine[:-2])
    return float(np.median(at / (theirs[2:] - theirs[:-2])[inside]))


def _ranges(mask: np.ndarray) -> str:
    """``0-3, 76-79``."""
    places = np.flatnonzero(mask)
    cuts = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in cuts)
