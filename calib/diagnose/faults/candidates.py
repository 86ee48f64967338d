"""Every form with every map of units: what each pair of them costs, and how they rank."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.edges import edge_cost
from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.geometry import BankGeometry
from calib.diagnose.faults.place import Place, places
from calib.diagnose.faults.sample import Sample
from calib.diagnose.faults.score import Cost, Stats, Terms, independent
from calib.diagnose.faults.transforms import Form, blurred
from calib.diagnose.faults.units import Hypothesis, affine_hypotheses, per_bin_hypotheses, scaled_by_bin

__all__ = ["BinReference", "Candidate", "Competition", "Reference"]

_OFF = 4.0  # nats: price of a common offset that no healthy model shows, so that a fitted one is not too dear beside it
_NEAR = 40.0  # nats: an edge further behind than that need not be looked at

Reference = tuple[str, float, float]  # name, mean, sd
BinReference = tuple[str, np.ndarray, np.ndarray]  # name, means (M,), sds (M,)

# What two hypotheses together are called.
_TOGETHER: dict[tuple[str, ...], tuple[str, ...]] = {
    ("raised-floor", "log-power"): ("power-floor",),
    ("raised-floor", "range-normalised"): ("range-normalised",),  # fixed ranges are cut at their ends
    ("clipped", "range-normalised"): ("range-normalised",),
}
_FREE = {("wrong-stats",), ("sign-flipped",)}  # what a map is called that is fitted freely


@dataclass(frozen=True)
class Candidate:
    """One form and one map together.

    Args:
        form: what prediction and target are compared as.
        hypothesis: the map of units.
        cost: of both.
        stats: sums of the frames under the form.
        terms: the map, with what the form adds to its tolerances.
    """

    form: Form
    hypothesis: Hypothesis
    cost: Cost
    stats: Stats
    terms: Terms

    @property
    def faults(self) -> tuple[str, ...]:
        """All faults that it names."""
        both = (*self.form.faults, *self.hypothesis.faults)
        return _TOGETHER.get(both, both)

    @property
    def total(self) -> float:
        """Nats."""
        return self.cost.total

    @property
    def label(self) -> str:
        """For people."""
        parts = [part.label for part in (self.form, self.hypothesis) if part.faults]
        return "; ".join(parts) or "as it is"

    def dearer(self, nats: float) -> Candidate:
        """The same at a higher price."""
        return dataclasses.replace(self, cost=dataclasses.replace(self.cost, prior=self.cost.prior + nats))


class Competition:
    """All candidates for one sample.

    Args:
        sample: the frames, arrays and time already undone.
        geometry: of the target's front end.
        references: statistics that a normaliser could have used, beside the target's own.
        kind: ``mean`` or ``sample`` as declared, or None.
        dead: ``(M,)`` bins to leave out.
        library: faults that may be named.
        denormalised: statistics by bin that the predictions were denormalised with, if they were.
        heard: whether the forms were recomputed from the audio.
    """

    def __init__(
        self,
        sample: Sample,
        geometry: BankGeometry,
        references: Sequence[Reference],
        kind: str | None,
        dead: np.ndarray,
        library: frozenset[str],
        denormalised: BinReference | None = None,
        *,
        heard: bool = False,
    ) -> None:
        y, self.heard = sample.y, heard
        self.denormalised = denormalised
        self.sample, self.geometry, self.kind, self.dead, self.library = sample, geometry, kind, dead, library
        self.effective = independent(sample.n_frames)
        self.references = [_reference("the target's own statistics", y), *references]
        self.by_bin = ("the target's own statistics", y.mean(0, dtype=np.float64), y.std(0, dtype=np.float64))
        self._own_place: list[Place | None] | None = None
        self.extremes = float(y.min()), float(y.max())

    def ranked(self, forms: Iterable[Form]) -> list[Candidate]:
        """The best candidate of each set of faults, best first."""
        best: dict[tuple[str, ...], Candidate] = {}
        for candidate in self._with_edges(list(self._candidates(forms))):
            key = candidate.faults
            if key not in best or candidate.total < best[key].total:
                best[key] = candidate
        return sorted(best.values(), key=lambda candidate: candidate.total)

    def _candidates(self, forms: Iterable[Form]) -> Iterator[Candidate]:
        forms = list(forms)
        blur = self._blur_gain() if any(form.read for form in forms) else 0.0
        for form in forms:
            stats = self._stats(form)
            kept = [h for h in self._hypotheses(form, stats) if set(h.faults) <= self.library]
            maps = [_loosened(h.terms, form) for h in kept]
            costs = stats.costs(maps, [h.prior for h in kept])
            for hypothesis, terms, cost in zip(kept, maps, costs, strict=True):
                # A form that is only nearly right gains a little everywhere, and the more the more frames there are.
                loose = FROZEN.loose * abs(cost.fit) if form.read or "clipped" in form.faults else 0.0
                extra = form.prior + loose + (blur if form.read else 0.0)
                if not (form.faults or hypothesis.faults):  # what a rival gains by chance is more in a weak model
                    extra -= FROZEN.usual * (1.0 - stats.r**2) ** 2
                if (
                    cost.level > FROZEN.unknown_level
                ):  # it would be answered with *unknown*, where an offset explains it
                    extra += _OFF
                candidate = Candidate(form, hypothesis, cost, stats, terms).dearer(extra)
                if set(candidate.faults) <= self.library:  # the two together may have a name of their own
                    yield candidate

    def _stats(self, form: Form) -> Stats:
        frames = form.sample or self.sample
        silent = form.silent(self.dead)
        return Stats(frames, form.p, form.y, self.kind, self.effective, silent, self._place(form, frames, silent))

    def _place(self, form: Form, frames: Sample, silent: np.ndarray) -> Place | None:
        """Where the bins lie under a form; a cut of the target leaves them where they are."""
        if form.p is None and form.sample is None and not form.read:
            if self._own_place is None:
                self._own_place = [places(frames, None, None, silent)]
            return self._own_place[0]
        p = None if form.p is None else frames.centre(form.p)
        y = None if form.y is None else frames.centre(form.y)
        return places(frames, p, y, silent)

    def _hypotheses(self, form: Form, stats: Stats) -> list[Hypothesis]:
        """The maps that may be tried on a form."""
        if not form.units:
            return [Hypothesis((), "as it is", Terms(1.0, 0.0))]
        references = self.references
        if form.faults:
            y = (form.sample or self.sample).y if form.y is None else form.y
            references = [*references, _reference("the faulty target's own statistics", y)]
        found = affine_hypotheses(stats, self.geometry, references, self.extremes)
        if form.faults:
            return found
        plain = found
        if self.heard:  # power itself is among the forms: the line that is nearly it need not stand for it
            plain = [h for h in found if h.faults != ("log-power",) or h.terms.slack == 0.0]
        own = [] if self.denormalised is None else scaled_by_bin(stats, *self.denormalised)
        return plain + own + per_bin_hypotheses(stats, [self.by_bin], found)

    def _blur_gain(self) -> float:
        """Nats that the target gains by the blur of the warps alone, under the identity or a free map."""
        totals = []
        for y in (None, blurred(self.sample.y)):
            stats = Stats(self.sample, None, y, self.kind, self.effective, self.dead)
            free = (h.terms for h in affine_hypotheses(stats, self.geometry, [], (0.0, 0.0)) if h.faults in _FREE)
            maps = [Terms(1.0, 0.0), *free]
            totals.append([cost.total for cost in stats.costs(maps, [0.0] * len(maps))])
        best = min(range(len(totals[0])), key=lambda k: totals[0][k])
        return max(totals[0][best] - totals[1][min(best, len(totals[1]) - 1)], 0.0)

    def _with_edges(self, candidates: list[Candidate]) -> list[Candidate]:
        """What keeping to a floor or ceiling costs, where it can matter to the ranking."""
        reach = min(candidate.total for candidate in candidates) + _NEAR

        def whole(candidate: Candidate) -> Candidate:
            edge = candidate.form.edge
            if edge is None:
                return candidate
            if candidate.total - FROZEN.edge_bonus > reach:
                return candidate.dearer(_NEAR)
            return candidate.dearer(edge_cost(candidate.form.sample or self.sample, edge, candidate.terms))

        return [whole(candidate) for candidate in candidates]


def _reference(name: str, y: np.ndarray) -> Reference:
    return name, float(y.mean(dtype=np.float64)), float(y.std(dtype=np.float64))


def _loosened(terms: Terms, form: Form) -> Terms:
    """A map with the tolerances of the form that it is tried on."""
    return dataclasses.replace(
        terms,
        slack=math.hypot(terms.slack, form.slack),
        slack_pattern=math.hypot(terms.slack_pattern, form.slack_pattern),
        slack_scale=math.hypot(terms.slack_scale, form.slack_scale),
        any_utterance=form.any_utterance,
    )
