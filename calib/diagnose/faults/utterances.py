"""What concerns some utterances only: those that hold nothing among others that do, and whose target fits instead.

Where a part of the utterances has nothing to do with its own target, three things are told apart: the prediction hardly
moves there (collapsed), it fits another target of the list (wrong pairs), or neither.

A target fits a prediction from its start on (predictions that were cut or repeated to a length), or drawn out to its
length (resampled). What unrelated targets reach is taken from all other combinations.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.sample import Sample, correlations, whitened

__all__ = ["Listed", "Match", "Matches", "Part", "listed_of", "matches", "parts", "speechlike"]

_POOL = 240  # targets that are looked at
_NEAR = 4  # places in the list on either side of each utterance, where the list is longer than that
_GRID = 128  # frames to which whole utterances are drawn out
_LEAST_FRAMES = 50  # that a prediction and a target must share from their start on
_LEAST_SHARE = 0.4  # of the prediction
_SDS = 5.0  # above what other combinations reach
_LEAST_R = 0.3
_APART = 0.08  # of r, to the second best
_COVERED = 0.5  # share of utterances that must fit another target before the pairing is said to be wrong
_CONSTANT = 0.8  # share that the same step in the list must explain
_ONE_TO_ONE = 0.8  # different targets over matches: one that fits many is no exchange
_IDS = 12  # ids that are listed
_PLAIN = 0.45  # r of an utterance beyond doubt
_RELATED = 0.3  # r of an utterance below which nothing is asked
_FEW_GOOD = 0.08  # share of good utterances from which the rest is judged by itself


@dataclass(frozen=True)
class Listed:
    """The list that the utterances are from.

    Args:
        indices: place of each of the sample's utterances in the list.
        count: length of the list.
        target: of a place, ``(T, M)`` as read, or None.
        name: of a place, for people.
        speaker: of a place, or None.
    """

    indices: Sequence[int]
    count: int
    target: Callable[[int], np.ndarray | None]
    name: Callable[[int], str]
    speaker: Callable[[int], str | None]


def listed_of(frames: Sequence[tuple[np.ndarray, np.ndarray]]) -> Listed:
    """The list that frames make by themselves."""
    count = len(frames)
    return Listed(range(count), count, lambda k: frames[k][1], lambda k: f"utterance {k + 1}", lambda _: None)


@dataclass(frozen=True)
class Match:
    """One prediction that fits another target.

    Args:
        row: of the prediction in the sample.
        place: of the target in the list.
        r: within utterance and bin, with it.
        resampled: whether the target had to be drawn out to the prediction's length.
    """

    row: int
    place: int
    r: float
    resampled: bool


@dataclass(frozen=True)
class Matches:
    """Predictions that fit other targets.

    Args:
        found: one for each that does.
        looked: how many were looked at.
        step: places in the list from a prediction's own target to the one that fits, where that is constant.
        listed: the list.
        own: r with the own targets, of the same predictions.
        whole: whether all targets of the list were looked at.
    """

    found: tuple[Match, ...]
    looked: int
    step: int | None
    listed: Listed
    own: float
    whole: bool = True

    @property
    def wrong(self) -> bool:
        """Whether predictions and targets were exchanged."""
        different = len({match.place for match in self.found})
        enough = len(self.found) >= max(2, math.ceil(_COVERED * self.looked))
        return enough and different >= _ONE_TO_ONE * len(self.found)

    @property
    def r(self) -> float:
        """Median r of the matches."""
        return float(np.median([match.r for match in self.found])) if self.found else 0.0

    @property
    def detail(self) -> str:
        """For people: which target fits."""
        if self.step is None:
            return "other targets of the list fit"
        return f"the target {abs(self.step)} {'further on' if self.step > 0 else 'further back'} in the list fits"

    @property
    def text(self) -> str:
        """What was measured."""
        first = self.found[0]
        drawn = sum(match.resampled for match in self.found)
        how = f", {drawn} of them drawn out in time" if drawn else ""
        own, other = (self.listed.name(k) for k in (self.listed.indices[first.row], first.place))
        return (
            f"r {self.own:.2f} with the own target, {self.r:.2f} with another one in {len(self.found)} of {self.looked} "
            f"utterances{how}: the prediction of {own} fits the target of {other} (r {first.r:.2f})"
        )


@dataclass(frozen=True)
class Part:
    """Utterances that hold nothing, among others that do.

    Args:
        fault: ``collapsed``, ``wrong-pairs``, ``text-ignored`` or ``untrained``.
        rows: of the sample.
        of: utterances in the sample.
        text: what was measured.
        ids: names of the utterances, for people.
        detail: more than their number, or "".
        certain: nothing else can be so.
        all: whether the sample is the whole list.
    """

    fault: str
    rows: tuple[int, ...]
    of: int
    text: str
    ids: str
    detail: str = ""
    certain: bool = False
    all: bool = True

    @property
    def label(self) -> str:
        """For people, for example ``6 of 12 utterances``."""
        looked = f"{self.of} utterances" if self.all else f"the {self.of} utterances looked at"
        return f"{len(self.rows)} of {looked}{'; ' + self.detail if self.detail else ''}"


def parts(sample: Sample, listed: Listed) -> list[Part]:
    """Utterances that have nothing to do with their target, among others that have; empty where all are alike.

    Args:
        sample: arrays and time undone.
        listed: where its utterances are from.
    """
    count = len(sample)
    if count < 5:
        return []
    r = np.abs(correlations(sample.by_utterance(sample.rows(whitened(sample.pc), whitened(sample.yc)))))
    low = _low(r)
    if low is None:
        return []
    spread, good = _spreads(sample), ~low
    plainly = float(np.median(r[good])) > _PLAIN
    quiet = low & _quiet(spread, low, FROZEN.part_collapsed if plainly else FROZEN.part_collapsed_weak)
    other = low & ~quiet if plainly else np.zeros_like(low)
    out = []
    if quiet.sum() >= 2 or quiet.sum() >= FROZEN.part_single * count:
        sizes = (f"{float(np.median(spread[which])):.3f}" for which in (quiet, good))
        text = f"within-bin sd {next(sizes)} times the target's in {int(quiet.sum())} utterances, {next(sizes)} in {int(good.sum())}"
        out.append(_part("collapsed", quiet, f"{text}; {_r_text(r, low=quiet, good=good)}", listed))
    if other.sum() >= 2:
        found = matches(sample, listed, np.flatnonzero(other))
        text = _r_text(r, low=other, good=good)
        plain = float(np.median(r[other])) < FROZEN.part_nothing * float(np.median(r[good]))
        if found.wrong:
            out.append(_part("wrong-pairs", other, f"{text}; {found.text}", listed, found.detail, certain=True))
        elif plain or other.mean() >= FROZEN.unpaired_share:
            some = [pair for row, pair in enumerate(sample.pairs()) if other[row]]
            fault = "text-ignored" if speechlike(Sample(some)) else "untrained"
            if len(found.found) >= 2 or not found.whole:
                fault = "wrong-pairs"
            out.append(_part(fault, other, text, listed))
    return out


def _quiet(spread: np.ndarray, low: np.ndarray, share: float) -> np.ndarray:
    """Which utterances hardly move; those that hold nothing are judged together unless they are of two kinds."""
    limit = share * float(np.median(spread[~low]))
    held = spread[low]
    if held.max() < 2.5 * held.min():
        return np.full(spread.shape, bool(np.median(held) < limit))
    return np.asarray(spread < limit)


def speechlike(sample: Sample) -> bool:
    """Whether the prediction moves like the target does: as slowly, and with bins as much alike."""
    slow = [sample.at_lag(a, a, 1).value for a in (sample.pc, sample.yc)]
    near = [float((a[:, 1:] * a[:, :-1]).sum() / max(float((a * a).sum()), 1e-12)) for a in (sample.pc, sample.yc)]
    return abs(slow[0] - slow[1]) < 0.1 and abs(near[0] - near[1]) < 0.15


def _low(r: np.ndarray) -> np.ndarray | None:
    """Which utterances are related to nothing, where others plainly are and the two groups stand apart; else None."""
    strong = float(np.quantile(r, 0.85))
    if strong <= _RELATED:  # only a few are good
        best = np.sort(r)[-max(2, math.ceil(_FEW_GOOD * r.size)) :]
        strong = float(best.min())
    if strong <= _RELATED:
        return None
    low = r < FROZEN.unpaired_r * strong
    if not low.any() or low.all():
        return None
    # Where the two groups part, now that both are known.
    low = r < max(FROZEN.unpaired_r * strong, 0.5 * float(np.median(r[low]) + np.median(r[~low])))
    apart = float(np.median(r[low])) < FROZEN.unpaired_r * strong
    return low if apart and _parted(r, low) else None


def _parted(r: np.ndarray, low: np.ndarray) -> bool:
    """Whether two groups of values stand apart: a weak model's utterances differ too, but from one end to the other."""
    groups = r[low], r[~low]
    inside = sum(float(((part - part.mean()) ** 2).sum()) for part in groups) / max(r.size - 2, 1)
    apart = float(groups[1].mean() - groups[0].mean())
    return apart > FROZEN.unpaired_apart * math.sqrt(inside)


def _spreads(sample: Sample) -> np.ndarray:
    """``(U,)`` sd within bin of the prediction over the target's, bins alike, by utterance."""
    sums = sample.by_utterance(sample.rows(whitened(sample.pc), whitened(sample.yc)))
    scale = sample.spread[0] / max(sample.spread[1], 1e-12)
    return np.asarray(scale * np.sqrt(sums[:, 1] / np.maximum(sums[:, 2], 1e-12)))


def _r_text(r: np.ndarray, *, low: np.ndarray, good: np.ndarray) -> str:
    values = (f"{np.median(r[which]):.2f} in {int(which.sum())}" for which in (good, low))
    return "r within utterance and bin is {} utterances and {}".format(*values)


def _part(fault: str, mask: np.ndarray, text: str, listed: Listed, detail: str = "", *, certain: bool = False) -> Part:
    rows = np.flatnonzero(mask)
    names = [listed.name(listed.indices[row]) for row in rows[:_IDS]]
    ids = ", ".join(names) + (f" and {rows.size - _IDS} more" if rows.size > _IDS else "")
    speakers = [listed.speaker(place) for place in listed.indices]
    theirs = {speakers[row] for row in rows}
    if len(theirs) == 1 and None not in theirs and not theirs & {speakers[row] for row in np.flatnonzero(~mask)}:
        ids += f" (all that speaker {theirs.pop()} says)"
    return Part(
        fault, tuple(int(row) for row in rows), mask.size, text, ids, detail, certain, listed.count == mask.size
    )


# --- whose target fits ----------------------------------------------------------------------------------------------


def matches(sample: Sample, listed: Listed, rows: Sequence[int] | np.ndarray) -> Matches:
    """Other targets of the list that fit some of the sample's predictions.

    Args:
        sample: arrays and time undone.
        listed: the list.
        rows: utterances of the sample whose predictions are looked at.
    """
    own = [listed.indices[row] for row in rows]
    places = _pool(listed, own)
    pairs = sample.pairs()
    held = {listed.indices[row]: y for row, (_, y) in enumerate(pairs)}
    targets: list[np.ndarray] = []
    kept: list[int] = []
    for place in places:
        y = held.get(place)
        if y is None:
            y = listed.target(place)
        if y is not None and y.ndim == 2 and y.shape[1] == sample.n_mels and len(y) > 1:
            targets.append(y)
            kept.append(place)
    predictions = [pairs[row][0] for row in rows]
    x, t = _coarse(predictions), _coarse(targets)
    is_own = np.array([[a == b for b in kept] for a in own])
    tables = (_from_start(x, t), _drawn_out(x, t))
    found: list[Match] = []
    excess = np.stack([_beyond(table, is_own) for table in tables])  # (2, R, P)
    values = np.abs(np.stack(tables))
    for k, row in enumerate(rows):
        score = np.where(is_own[k], -1.0, excess[:, k])
        way, best = np.unravel_index(int(np.argmax(score)), score.shape)
        r = float(values[way, k, best])
        others = np.delete(values[way, k], [best, *np.flatnonzero(is_own[k])])
        mine = float(values[:, k, is_own[k]].max(initial=0.0))
        second = max(float(others.max(initial=0.0)), mine)
        if score[way, best] > 0.0 and r > max(_LEAST_R, second + _APART):
            found.append(Match(int(row), kept[int(best)], r, bool(way == 1)))
    steps = Counter(match.place - listed.indices[match.row] for match in found)
    common = steps.most_common(1)
    constant = common and common[0][1] >= max(2, _CONSTANT * len(found))
    r_own = float(np.median(np.abs(tables[0])[is_own])) if is_own.any() else 0.0
    return Matches(
        tuple(found), len(predictions), common[0][0] if constant else None, listed, r_own, len(kept) == listed.count
    )


def _pool(listed: Listed, own: Sequence[int]) -> list[int]:
    """Places of the list that are looked at: all of a short one, else the sample's and their neighbours."""
    if listed.count <= _POOL:
        return list(range(listed.count))
    near = {place + step for place in own for step in range(-_NEAR, _NEAR + 1)}
    chosen = sorted({place for place in near if 0 <= place < listed.count})
    more = [place for place in listed.indices if place not in near]
    return sorted({*chosen[: 2 * _POOL], *more})


def _coarse(mels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Means of four bins, each at sd 1 over all utterances: neighbours say the same."""
    if not mels:
        return []
    m = mels[0].shape[1]
    small = [np.asarray(mel, dtype=np.float64).reshape(len(mel), -1, 4 if m % 4 == 0 else 1).mean(2) for mel in mels]
    centred = np.concatenate([mel - mel.mean(0) for mel in small])
    sd = centred.std(0)
    scale = np.where(sd > 1e-3 * max(float(np.median(sd)), 1e-12), sd, np.inf)
    return [mel / scale for mel in small]


def _from_start(x: Sequence[np.ndarray], t: Sequence[np.ndarray]) -> np.ndarray:
    """``(R, P)`` correlations of predictions and targets over the frames that both have from their start on."""
    out = np.zeros((len(x), len(t)))
    for i, a in enumerate(x):
        for j, b in enumerate(t):
            n = min(len(a), len(b))
            if n < max(_LEAST_FRAMES, _LEAST_SHARE * len(a)):
                continue
            p, y = a[:n] - a[:n].mean(0), b[:n] - b[:n].mean(0)
            scale = math.sqrt(float(np.vdot(p, p)) * float(np.vdot(y, y)))
            out[i, j] = float(np.vdot(p, y)) / scale if scale > 0 else 0.0
    return out


def _drawn_out(x: Sequence[np.ndarray], t: Sequence[np.ndarray]) -> np.ndarray:
    """``(R, P)`` the same with both drawn out to one length."""
    a, b = (np.array([_on_grid(mel) for mel in side]) for side in (x, t))
    return np.asarray(a @ b.T)


def _on_grid(mel: np.ndarray) -> np.ndarray:
    """Means of equal parts of an utterance, centred and of length one."""
    sums = np.concatenate([np.zeros((1, mel.shape[1])), np.cumsum(mel, axis=0)])
    at = np.linspace(0.0, len(mel), _GRID + 1)
    low = np.clip(np.floor(at).astype(int), 0, len(mel) - 1)
    held = sums[low] + (at - low)[:, None] * (sums[low + 1] - sums[low])
    parts_ = np.diff(held, axis=0)
    parts_ -= parts_.mean(0)
    size = float(np.linalg.norm(parts_))
    return np.asarray(parts_.ravel() / size if size > 0 else parts_.ravel())


def _beyond(table: np.ndarray, own: np.ndarray) -> np.ndarray:
    """How far magnitudes lie above what unrelated combinations reach: all but the own target and the best of each row."""
    size = np.abs(table)
    free = np.where(own | (size == 0.0), -1.0, size)
    rest = np.sort(free, axis=1)[:, :-1]
    rest = rest[rest >= 0.0]
    if rest.size < 4:
        return np.full(table.shape, -1.0)
    return np.asarray(size - (rest.mean() + _SDS * rest.std()))
