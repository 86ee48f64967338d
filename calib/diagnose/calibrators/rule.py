"""The choice among calibrators that were scored on held-out units.

The rule, in order of simplicity: as it is < known constant (exact) < known slope < least squares or moment matching <
ridge, Huber, Deming < an offset for each bin < a map for each bin < a monotone curve < a matrix.

1. Maps by bin take part only if they gain more than one standard error over the best simpler one; curve and matrix only
   if they gain more than 2 % and one standard error over the best of the rest.
2. Of those that take part, the simplest whose loss is within one standard error of the least *and* within 1 % of it.
   Without the second condition few utterances (large standard errors) would choose a fit that is far from the best.
   Less than 0.25 % is no difference, however certain: with hours of speech everything is significant.
3. A known constant with its own intercept is good enough within 3 % of the least loss, however certain the rest is: a model
   that is healthy in those units is left with such a rest, and a healthy model in the target's own units is not touched
   for it either (there the limit is 10 %, see `verdict`). The constant holds for any speech, the rest for this one.

Standard errors are of paired differences over units: utterances, blocks of one, or speakers.

References:
    L. Breiman et al., Classification and Regression Trees (1984), 3.4.3, the one-standard-error rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from calib.diagnose.calibrators.crossmoments import MatrixFit
from calib.diagnose.calibrators.fits import Folds, Maps
from calib.diagnose.calibrators.sampled import Curve

__all__ = [
    "AFFINE",
    "AFFINE_MORE",
    "BINS",
    "CURVE",
    "EXACT",
    "IDENTITY",
    "KNOWN",
    "MATRIX",
    "OFFSETS",
    "SLOPE",
    "Candidate",
    "Choice",
]

_WITHIN = 0.01  # of the least loss
_SAME = 0.0025  # of it: nobody hears that, however certain it is
_KNOWN_WITHIN = 0.03  # of it, of a known constant
_BEYOND_GAIN = 0.02
_NOTHING = 1e-6  # of the target's variance: losses that near are equal

IDENTITY, EXACT, SLOPE, AFFINE, AFFINE_MORE, OFFSETS, BINS, CURVE, MATRIX = range(9)
KNOWN = {EXACT, SLOPE}


@dataclass(eq=False)
class Candidate:
    """A fit that takes part.

    Args:
        name: key.
        title: for people.
        rank: its place in the order of simplicity.
        maps: the fit of each fold and on everything, unless it is a curve or a matrix.
        note: what to know about it.
        curves: the curves of each fold and on everything.
        matrix: the map between all bins.
        parts: of the held-out loss, ``(U,)``.
        square: of the held-out squared error, ``(U,)``.
        clusters: ``(U,)``, what its standard errors are made of where that is not the units.
    """

    name: str
    title: str
    rank: int
    maps: Maps | None
    note: str = ""
    curves: list[Curve] | None = None
    matrix: MatrixFit | None = None
    parts: np.ndarray = field(default_factory=lambda: np.zeros(0))
    square: np.ndarray = field(default_factory=lambda: np.zeros(0))
    clusters: np.ndarray | None = None


class Choice:
    """The rule of the module, applied."""

    def __init__(self, folds: Folds, candidates: list[Candidate]) -> None:
        self.folds, self.candidates = folds, candidates
        self.total = float(folds.n_unit.sum())
        self.equal = _NOTHING * float(folds.stats.pooled_y[-1, 0])
        self.best = min(candidates, key=self.loss)
        takes_part = [c for c in candidates if c.rank < OFFSETS]
        for rank in (OFFSETS, BINS):
            leader = min(takes_part, key=self.loss)
            takes_part += [
                c
                for c in candidates
                if c.rank == rank and self._gain(c, leader) > max(self.error(c, leader), self._same(leader))
            ]
        self.leader = min(takes_part, key=self.loss)
        self.chosen = min((c for c in takes_part if self._good_enough(c)), key=lambda c: (c.rank, self.loss(c)))
        beyond = [c for c in candidates if c.rank > BINS and self._goes_beyond(c)]
        self.beyond = min(beyond, key=self.loss, default=None)

    def loss(self, c: Candidate) -> float:
        """Out of sample, a value."""
        return float(c.parts.sum()) / self.total

    def square(self, c: Candidate) -> float:
        """Mean squared error out of sample."""
        return float(c.square.sum()) / self.total

    def error(self, a: Candidate, b: Candidate) -> float:
        """Standard error of the difference of two losses, over units (a ratio estimate: units weigh by their size)."""
        clusters = a.clusters if a.clusters is not None else b.clusters
        difference, size = a.parts - b.parts, self.folds.n_unit
        if clusters is not None:
            difference, size = np.bincount(clusters, difference), np.bincount(clusters, size)
        used = size > 0
        difference, size = difference[used], size[used]
        count = size.size
        spread = difference - size * difference.sum() / size.sum()
        return float(np.sqrt(count / (count - 1) * np.square(spread).sum()) / size.sum())

    def _gain(self, c: Candidate, over: Candidate) -> float:
        return self.loss(over) - self.loss(c)

    def _same(self, leader: Candidate) -> float:
        return max(_SAME * self.loss(leader), self.equal)

    def _good_enough(self, c: Candidate) -> bool:
        allowed = min(self.error(c, self.leader), _WITHIN * self.loss(self.leader))
        if c.rank == EXACT:
            allowed = _KNOWN_WITHIN * self.loss(self.leader)
        return self._gain(self.leader, c) <= max(allowed, self._same(self.leader))

    def _goes_beyond(self, c: Candidate) -> bool:
        least = max(_BEYOND_GAIN * self.loss(self.leader), self.error(c, self.leader), self.equal)
        return self._gain(c, self.leader) > least

    def ambiguous(self) -> tuple[str, ...]:
        """Known constants that cannot be told apart: within two standard errors of the best; () when one is alone."""
        known = [c for c in self.candidates if c.rank in KNOWN]
        if not known:
            return ()
        first = min(known, key=self.loss)
        near = [c for c in known if self._gain(first, c) <= 2 * self.error(c, first) + self.equal]
        return tuple(c.name for c in near) if len(near) > 1 else ()

    def reason(self, *, sample_like: bool) -> str:
        """In plain words."""
        what = "loss (scale judged by matching)" if sample_like else "squared error"
        chosen, best, identity = self.chosen, self.leader, self.candidates[0]
        text = f"{chosen.title}: held-out {what} {self.loss(chosen):.4g}"
        if chosen is not identity:
            text += f", as it is {self.loss(identity):.4g}"
        if chosen is not best:
            why = f"standard error of the difference {self.error(chosen, best):.2g}"
            if chosen.rank == EXACT:
                why = f"a known constant is kept within {_KNOWN_WITHIN:.0%} of the least"
            text += f"; {best.title} has {self.loss(best):.4g}: not enough to give up the simpler one ({why})"
        if self.beyond is not None:
            why = (
                "the relation is no straight line"
                if self.beyond.rank == CURVE
                else "there is structure between bins (another filterbank, or errors that neighbours share)"
            )
            text += f"; {self.beyond.title} would leave {self.loss(self.beyond):.4g}: {why}, which no scale and offset repairs"
        return text
