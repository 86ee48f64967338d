"""Several runs (checkpoints, before and after) side by side: which is best and why, and what changed from one to the next.

Data flow::

    JSON twins --Run.of--> Run... --compare--> Comparison --build_comparison--> page and twin
                                    |- runs.differences: may they be compared at all? if not, no ranking
                                    |- paired differences by utterance, intervals that hold together (diagnose.paired)

A run that its own verdict refuses is never the best: a model that answers the mean has a small error and says nothing.
Mean absolute error rewards blur, so runs declared to be samplers are ranked by correlation, and mixed kinds not at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from calib.diagnose.paired import PairedDifference, paired_differences
from calib.errors import UsageError
from calib.report.runs import FIGURES, Figure, Run, differences, remarks
from calib.report.wording import clipped, finite, number, unitless

__all__ = ["Best", "Change", "Comparison", "Moved", "compare"]

_MOST_NAMED = 4  # runs in the headline
_LIVELIER = 0.1  # in ln of the global variance ratio: by so much nearer to the target's is worth a word


@dataclass(frozen=True)
class Moved:
    """What became of one figure from a run to the next.

    Args:
        figure: key, see `FIGURES`.
        before: in the first run, or None.
        after: in the second.
        low: lower limit of the difference, or None.
        high: upper limit.
        level: of that interval, or None without one.
        reading: ``none``, ``better``, ``worse``, ``changed`` or ``not judged``.
        how: what the reading rests on.
    """

    figure: str
    before: float | None
    after: float | None
    low: float | None
    high: float | None
    level: float | None
    reading: str
    how: str


@dataclass(frozen=True)
class Change:
    """What changed from a run to the next.

    Args:
        first: label.
        second: label.
        state: of the first and of the second, or None where it is the same.
        came: titles of findings that the second has and the first has not.
        went: the reverse.
        moved: the figures.
        skipped: why figures were not compared, or None.
    """

    first: str
    second: str
    state: tuple[str, str] | None
    came: tuple[str, ...]
    went: tuple[str, ...]
    moved: tuple[Moved, ...]
    skipped: str | None = None


@dataclass(frozen=True)
class Best:
    """Which run is best, or why none is named.

    Args:
        label: the run with the best figure among the usable ones, or None.
        tied: runs that cannot be told apart from it.
        criterion: key of the figure, or None.
        sentence: the answer, for people.
        reasons: what it rests on, one a line.
        left_out: label of a run that could not be the best, and why.
        cautions: what to look or listen for before believing it.
    """

    label: str | None
    tied: tuple[str, ...]
    criterion: str | None
    sentence: str
    reasons: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    cautions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Args:
        title: of the page.
        runs: in the order given.
        differences: what forbids to compare them; empty where they may be.
        remarks: what differs and does not forbid it.
        changes: between consecutive runs.
        best: the answer.
    """

    title: str
    runs: tuple[Run, ...]
    differences: tuple[str, ...]
    remarks: tuple[str, ...]
    changes: tuple[Change, ...]
    best: Best
    unit: str = field(default="mel unit")

    @property
    def status(self) -> str:
        """The best run's; ``fail`` where no run is usable, ``warn`` where they may not be ranked."""
        if self.best.label is not None:
            return next(run.status for run in self.runs if run.label == self.best.label)
        return "warn" if any(run.writes for run in self.runs) else "fail"

    def to_json(self) -> dict[str, Any]:
        """Plain values, schema ``calib/comparison/1``; every number is finite."""
        out: dict[str, Any] = finite(
            {
                "schema": "calib/comparison/1",
                "title": self.title,
                "unit": self.unit,
                "status": self.status,
                "comparable": not self.differences,
                "differences": self.differences,
                "remarks": self.remarks,
                "best": {**asdict(self.best), "left_out": [{"label": a, "why": b} for a, b in self.best.left_out]},
                "runs": [run.summary_json() for run in self.runs],
                "changes": [asdict(change) for change in self.changes],
            }
        )
        return out


def compare(runs: Sequence[Run], title: str) -> Comparison:
    """Compare runs in the order given.

    Raises:
        UsageError: fewer than two runs, or two of one name.
    """
    if len(runs) < 2:
        raise UsageError(f"{len(runs)} run given; a comparison needs two or more")
    labels = [run.label for run in runs]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise UsageError(f"two runs are called {clipped(twice)!r}; each needs a name of its own")
    different = differences(runs)
    unit = next((run.unit for run in runs if run.unit), "mel unit")
    best = _best(runs, different, unit)
    return Comparison(title, tuple(runs), tuple(different), tuple(remarks(runs)), _changes(runs, different), best, unit)


# --- what changed -----------------------------------------------------------------------------------------------


def _changes(runs: Sequence[Run], different: Sequence[str]) -> tuple[Change, ...]:
    steps = list(itertools.pairwise(runs))
    able = [(a, b) for a, b in steps if not different and a.judged and b.judged]
    paired = _paired(able)
    out = []
    for a, b in steps:
        why = None
        if different:
            why = "the runs may not be compared, see above"
        elif not (a.judged and b.judged):
            why = f"{clipped((b if a.judged else a).label, 60)} could not be judged"
        moved = () if why else tuple(_moved(figure, a, b, paired) for figure in FIGURES if figure.better)
        names_a, names_b = ({str(f["fault"]): str(f["title"]) for f in run.faults} for run in (a, b))
        out.append(
            Change(
                a.label,
                b.label,
                None if a.state == b.state else (a.state, b.state),
                tuple(title for fault, title in names_b.items() if fault not in names_a),
                tuple(title for fault, title in names_a.items() if fault not in names_b),
                moved,
                why,
            )
        )
    return tuple(out)


def _paired(steps: Sequence[tuple[Run, Run]]) -> dict[tuple[str, str, str], PairedDifference]:
    """Paired differences by figure and by the labels of the two runs."""
    found: dict[tuple[str, str, str], PairedDifference] = {}
    for figure in FIGURES:
        if figure.paired is None or not steps:
            continue
        names = list(steps[0][0].utterances)
        frames = _frames(steps[0][0], names)
        first, second = ([step[side].by_utterance(figure.paired, names) for step in steps] for side in (0, 1))
        for (a, b), difference in zip(steps, paired_differences(frames, first, second), strict=True):
            found[figure.key, a.label, b.label] = difference
    return found


def _frames(run: Run, names: Sequence[str]) -> np.ndarray:
    rows = run.utterances
    return np.array([float(rows[name]["n_frames"]) for name in names])


def _moved(figure: Figure, a: Run, b: Run, paired: dict[tuple[str, str, str], PairedDifference]) -> Moved:
    was, becomes = a.figures()[figure.key], b.figures()[figure.key]
    nothing = (None, None, None)
    if was is None or becomes is None:
        run = a if was is None else b
        return Moved(figure.key, was, becomes, *nothing, "not judged", f"not computed in {clipped(run.label, 60)}")
    difference = paired.get((figure.key, a.label, b.label))
    if difference is not None:
        interval = difference.low, difference.high, difference.level
        if difference.skipped:
            return Moved(figure.key, was, becomes, *nothing, "not judged", difference.skipped)
        # What is paired is each utterance's own figure, of which the one of all is not the mean (r_w), or its distance
        # from the target's (variance).
        less = "less" if figure.better == "one" else figure.better
        way = _way(less, 0.0, difference.value) if difference.told_apart else "none"
        what = (
            "of its distance from the target's, as a natural logarithm, either way"
            if figure.better == "one"
            else "of the difference"
        )
        how = f"paired over {difference.utterances:,} utterances, {difference.level:.1%} interval {what}"
        return Moved(figure.key, was, becomes, *interval, way, how)
    mine, theirs = ((None if figure.interval is None else run.interval(figure.interval)) for run in (a, b))
    if mine is None or theirs is None:
        return Moved(figure.key, was, becomes, *nothing, "not judged", "no interval: nothing says how much it varies by itself")  # fmt: skip
    if mine[0] <= theirs[1] and theirs[0] <= mine[1]:
        return Moved(figure.key, was, becomes, *nothing, "none", "the 95 % intervals of the two runs overlap")
    return Moved(figure.key, was, becomes, *nothing, _way(figure.better, was, becomes), "the 95 % intervals of the two runs do not overlap")  # fmt: skip


def _way(better: str, was: float, becomes: float) -> str:
    if better == "less":
        return "better" if becomes < was else "worse"
    if better == "more":
        return "better" if becomes > was else "worse"
    a, b = (abs(np.log(max(value, 1e-12))) for value in (was, becomes))
    return "better" if b < a else "worse"


# --- which is best ----------------------------------------------------------------------------------------------


def _best(runs: Sequence[Run], different: Sequence[str], unit: str) -> Best:
    left_out = [
        (run.label, "could not be judged" if not run.judged else f"its own verdict refuses it: {run.verdict['headline']}")
        for run in runs
        if not (run.judged and run.writes)
    ]  # fmt: skip
    usable = [run for run in runs if run.judged and run.writes]
    out = tuple(left_out)
    if different:
        return Best(None, (), None, f"No ranking: {different[0]}.", tuple(different), left_out=out)
    if not usable:
        return Best(None, (), None, "No run is usable: every one of them is refused by its own verdict.", left_out=out)
    kinds = {run.kind for run in usable}
    if len(usable) > 1 and "sample" in kinds and len(kinds) > 1:
        why = "some of these models are declared samplers and others are not: mean absolute error and correlation both reward the others for blur"
        return Best(None, (), None, f"No ranking: {why}.", (why,), left_out=out)
    key = "r_w" if kinds == {"sample"} else "mae_used"
    figure = next(f for f in FIGURES if f.key == key)
    known = [(run, value) for run in usable if (value := run.figures()[key]) is not None]
    if not known:
        return Best(None, (), key, f"No ranking: no usable run has a {figure.title}.", left_out=out)
    winner, value = (max if figure.better == "more" else min)(known, key=lambda item: item[1])
    rivals = [run for run, _ in known if run is not winner]
    said = f"{clipped(winner.label, 60)}, {figure.title} {_valued(value, figure, unit)}"
    if not rivals:
        return Best(winner.label, (), key, f"Best: {said}; no other run is usable.", left_out=out)
    tied, reasons = _rivals(winner, rivals, figure, unit)
    if tied:
        others = [clipped(label, 60) for label in tied[:_MOST_NAMED]] + ["others"] * (len(tied) > _MOST_NAMED)
        named = " and ".join([", ".join(others[:-1])] * (len(others) > 1) + others[-1:])
        end = "largest" if figure.better == "more" else "smallest"
        sentence = f"Cannot be told apart: {clipped(winner.label, 60)} ({figure.title} {_valued(value, figure, unit)}, the {end}) and {named}."
    else:
        sentence = f"Best: {said}; told apart from every other usable run."
    return Best(winner.label, tied, key, sentence, reasons, out, _cautions(winner, rivals, key))


def _rivals(winner: Run, rivals: Sequence[Run], figure: Figure, unit: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = list(winner.utterances)
    assert figure.paired is not None
    own = winner.by_utterance(figure.paired, names)
    found = paired_differences(
        _frames(winner, names), [own] * len(rivals), [run.by_utterance(figure.paired, names) for run in rivals]
    )
    tied, reasons = [], []
    for run, difference in zip(rivals, found, strict=True):
        label = clipped(run.label, 60)
        if difference.skipped or difference.low is None or difference.high is None:
            tied.append(run.label)
            reasons.append(f"{label}: {difference.skipped}")
            continue
        worse = difference.value < 0 if figure.better == "more" else difference.value > 0
        apart = difference.told_apart and worse
        if not apart:
            tied.append(run.label)
        values = (_valued(v, figure, unit, sign=True) for v in (difference.value, difference.low, difference.high))
        middle, low, high = values
        reasons.append(
            f"{label} against it: {middle} ({difference.level:.1%} interval {low} to {high}, {difference.utterances:,} utterances paired): {'worse' if apart else 'no difference that these utterances show'}"
        )
    return tuple(tied), tuple(reasons)


def _valued(value: float, figure: Figure, unit: str, *, sign: bool = False) -> str:
    text = number(value) if figure.unit else unitless(value)
    plus = "+" if sign and value > 0 else ""
    return f"{plus}{text}{' ' + clipped(unit, 28) if figure.unit else ''}"


def _cautions(winner: Run, rivals: Sequence[Run], key: str) -> tuple[str, ...]:
    out = []
    own = winner.figures()["gv_ratio"]
    if key == "mae_used" and own:
        for run in rivals:
            other = run.figures()["gv_ratio"]
            if other and abs(np.log(other)) < abs(np.log(own)) - _LIVELIER:
                out.append(
                    f"{clipped(run.label, 60)} is livelier (global variance ratio {unitless(other)}, the best by error {unitless(own)}): mean absolute error rewards blur, so listen to both"
                )
    if winner.status == "fail":
        out.append("its own report fails all the same: see its findings")
    return tuple(out)
