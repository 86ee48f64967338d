"""From frames to named faults: stages from the outside in, then a competition of hypotheses, then what is left over.

Data flow::

    frames --undo_arrays--> --undo_time--> related? --no--> another target fits? collapsed, or nothing learned
                                              |yes, or some utterances are: the others are set aside
             undo_level_drift
             forms (banks, floors, ...) x maps (units) --cost--> ranked --texture--> findings
                                                          what no fault explains --> unknown
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from calib.diagnose.faults.candidates import BinReference, Candidate, Competition, Reference
from calib.diagnose.faults.evidence import Finding
from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.geometry import BankGeometry, Recomputed
from calib.diagnose.faults.heard import Heard, related_rate
from calib.diagnose.faults.judge import findings, graded
from calib.diagnose.faults.leveldrift import Drift, undo_level_drift
from calib.diagnose.faults.library import FAULTS
from calib.diagnose.faults.sample import Sample, sounding
from calib.diagnose.faults.score import Stats
from calib.diagnose.faults.structure import Relation, Step, relation, undo_arrays
from calib.diagnose.faults.texture import Texture, measure
from calib.diagnose.faults.time import drift_left, undo_time
from calib.diagnose.faults.transforms import Form, frequency_forms, piled, value_forms
from calib.diagnose.faults.utterances import Listed, Matches, Part, listed_of, matches, parts, speechlike

__all__ = ["Explanation", "explain"]

_KEPT = 8
_UNRELATED = 10.0  # margin of what is not related at all
_TINY = 1e-30
_LEANS = (
    "a model that sees the previous true frame leans to it by up to .9 of a frame by itself: a fraction of a frame that "
    "such a lean explains as well, at slow and at fast modulation, is not judged"
)


@dataclass
class Explanation:
    """What the stages found.

    Args:
        findings: faults, surest first; empty for a healthy prediction.
        steps: arrays and time.
        relation: whether prediction and target are related at all.
        ranked: best candidates of units and frequency, best first, one a set of faults.
        posterior: share of the belief in each set of faults.
        texture: detail, after the best candidate is undone.
        parts: utterances that have nothing to do with their target while others have.
        matches: whose targets fit instead, where nothing is related as it is paired; None where that was not asked.
        level_drift: how the level moves along the utterances, as undone; or None.
        piles: shares of the predicted values that stand exactly at their lowest and highest, unlike the target's.
        floored: share of the target's values that stand at the lowest.
        lag: frames that the prediction is late by and no step undid.
        drift: how many frames the lag changes along an utterance, after all.
        stretch: target frames in one predicted frame, as undone.
        declared: whether the target's front end is known.
        audio: whether the audio was used; None: there was none.
        unit: mel units of the target for one ln unit of magnitude.
        frame_seconds: hop of the mels, or None.
        skipped: tests that could not be made, and why.
    """

    findings: list[Finding] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    relation: Relation | None = None
    ranked: list[Candidate] = field(default_factory=list)
    posterior: dict[tuple[str, ...], float] = field(default_factory=dict)
    texture: Texture | None = None
    parts: list[Part] = field(default_factory=list)
    matches: Matches | None = None
    level_drift: Drift | None = None
    piles: tuple[float, float] = (0.0, 0.0)
    floored: float = 0.0
    lag: float = 0.0
    drift: float = 0.0
    stretch: float = 1.0
    declared: bool = True
    audio: bool = False
    unit: float = 1.0
    frame_seconds: float | None = None
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def repaired_r(self) -> float:
        """The median r of predictions with the targets of the list that fit them, where none fits its own; else 0."""
        return self.matches.r if self.matches is not None and self.matches.wrong else 0.0


def explain(
    frames: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    geometry: BankGeometry | None = None,
    recomputed: Recomputed | None = None,
    indices: Sequence[int] = (),
    references: Sequence[Reference] = (),
    kind: str | None = None,
    autoregressive: bool | None = None,
    library: frozenset[str] | None = None,
    denormalised: BinReference | None = None,
    listed: Listed | None = None,
    frame_seconds: float | None = None,
) -> Explanation:
    """Find the faults.

    Args:
        frames: ``(p, y)`` of some utterances, ``(T, M)``.
        geometry: of the target's front end.
        recomputed: targets recomputed from the audio, by the utterances' ``indices``.
        indices: of the utterances in ``recomputed``.
        references: ``(name, mean, sd)`` that a normaliser could have used, beside the target's own.
        kind: ``mean`` or ``sample`` as declared.
        autoregressive: as declared.
        library: faults that may be named; None: all.
        denormalised: ``(name, means, sds)`` by bin that the predictions were denormalised with, if they were.
        listed: the list that the utterances are from; None: they are all of it.
        frame_seconds: hop of the mels, for people; None: unknown.
    """
    return _Explainer(
        frames, geometry, recomputed, indices, references, kind, autoregressive, library, denormalised, listed,
        frame_seconds,
    ).run()  # fmt: skip


class _Explainer:
    """The work behind `explain`."""

    def __init__(
        self,
        frames: Sequence[tuple[np.ndarray, np.ndarray]],
        geometry: BankGeometry | None,
        recomputed: Recomputed | None,
        indices: Sequence[int],
        references: Sequence[Reference],
        kind: str | None,
        autoregressive: bool | None,
        library: frozenset[str] | None,
        denormalised: BinReference | None,
        listed: Listed | None,
        frame_seconds: float | None,
    ) -> None:
        self.denormalised = denormalised
        self.listed = listed_of(frames) if listed is None else listed
        self.frames, self.recomputed, self.indices = list(frames), recomputed, list(indices)
        n_mels = self.frames[0][1].shape[1]
        known = geometry is not None and geometry.n_mels == n_mels
        self.geometry = geometry if geometry is not None and known else BankGeometry(n_mels, declared=False, warps=())
        self.references, self.kind, self.autoregressive = list(references), kind, autoregressive
        self.library = frozenset(FAULTS) if library is None else library
        self.out = Explanation(unit=self.geometry.unit, frame_seconds=frame_seconds)
        self.ratio: float | None = None  # of sample rates, where only the audio showed it

    def run(self) -> Explanation:
        """All stages."""
        out = self.out
        out.declared = self.geometry.declared
        sample = Sample(self.frames)
        self.arrays = undo_arrays(sample, self.library)
        whole = self.arrays.sample
        heard = whole.replaced(sounding)
        if heard.n_frames < whole.n_frames:  # a training set's statistics hold its silence
            mean, std = float(whole.y.mean(dtype=np.float64)), float(whole.y.std(dtype=np.float64))
            self.references.append(("the target's own statistics with its digital silence", mean, std))
        self.time = undo_time(heard, self.library, self.autoregressive, self.geometry)
        out.stretch = self.time.stretch
        out.steps = [step for step in (self.arrays, self.time) if step.faults]
        out.relation = relation(self.time.sample)
        out.parts = parts(self.time.sample, self.listed)
        related = out.relation.exists or bool(out.parts)
        if not related and not self._warped_time() and not self._heard(out.relation):
            out.matches = matches(self.time.sample, self.listed, range(len(self.time.sample)))
            found = _unrelated(sample, out.relation, self.library, out.matches)
            out.findings = graded([found], misfit=0.0, r=1.0, n_frames=sample.n_frames)
            return out
        self.sample = self.time.sample
        self._set_parts_aside()
        self._undo_level_drift()
        dead, self.silent = _dead_bins(self.sample)
        self.out.piles = piled(self.sample, self.silent)
        best = self._rank(self._forms())
        self.out.floored = self.sample.floored
        if best.form.ignore is not None and best.form.sample is None:
            self.out.piles = piled(self.sample, best.form.silent(self.silent))
        self._texture(best)
        out.findings = findings(out, best, self.library, self.autoregressive, np.flatnonzero(dead))
        return out

    def _warped_time(self) -> bool:
        """Whether time was undone together with a warp of the bins, which the relation does not see."""
        return bool(self.time.faults) and self.time.evidence[0].endswith("bins moved as much")

    def _heard(self, found: Relation) -> bool:
        """Whether the audio, read at another sample rate, makes the relation that the target does not show."""
        if self.recomputed is None or "sample-rate" not in self.library:
            return False
        self.ratio, r = related_rate(self.frames, self.indices, self.recomputed, self.arrays)
        return r > 2.0 * found.limit

    def _set_parts_aside(self) -> None:
        """Utterances that have nothing to do with their target, among others that have."""
        aside = {row for part in self.out.parts for row in part.rows}
        kept = [pair for row, pair in enumerate(self.sample.pairs()) if row not in aside]
        if not aside or len(kept) < 2:
            return
        self.sample = Sample(kept)
        self.indices = [index for row, index in enumerate(self.indices) if row not in aside]
        self.frames = [frame for row, frame in enumerate(self.frames) if row not in aside]

    def _undo_level_drift(self) -> None:
        """A level that moves along the utterances; what comes after sees the prediction without it."""
        step, self.out.level_drift = undo_level_drift(self.sample, self.library, self.time.undo)
        if step.faults:
            self.out.steps.append(step)
            self.sample = step.sample
            self.time = dataclasses.replace(self.time, undo=step.undo)

    def _forms(self) -> list[Form]:
        """What prediction and target may be compared as; with audio the sample becomes the utterances that have it."""
        frequency: list[Form] = []
        if self.recomputed is not None:
            heard = Heard(
                self.frames, self.indices, self.recomputed, self.arrays, self.time, self.autoregressive, self.ratio,
                self.library,
            )  # fmt: skip
            chosen = heard.chosen()
            if isinstance(chosen, str):
                self.out.skipped["audio"] = chosen
            else:
                self.sample = heard.sample(chosen)
                frequency = list(heard.forms(chosen))
        self.out.audio = bool(frequency)
        if not frequency:
            frequency = list(frequency_forms(self.sample, self.geometry, self.time.stretch))
        forms = [Form(), *frequency, *value_forms(self.sample, self.geometry, self.out.piles)]
        return [form for form in forms if set(form.faults) <= self.library]

    def _rank(self, forms: Sequence[Form]) -> Candidate:
        """The best candidate; what is kept of the others goes into the explanation."""
        competition = Competition(
            self.sample, self.geometry, self.references, self.kind, self.silent, self.library, self.denormalised,
            heard=self.out.audio,
        )  # fmt: skip
        ranked = competition.ranked(forms)
        weight = {c.faults: math.exp(-min(c.total - ranked[0].total, 700.0)) for c in ranked}
        total = sum(weight.values())
        self.out.ranked = ranked[:_KEPT]
        self.out.posterior = {key: value / total for key, value in weight.items() if value / total > 1e-4}
        return ranked[0]

    def _texture(self, best: Candidate) -> None:
        """Detail, drift and lag, after the best candidate is undone."""
        form, terms = best.form, best.terms
        frames = form.sample or self.sample
        p = frames.p if form.p is None else form.p
        y = frames.y if form.y is None else form.y
        slope, intercept = (np.asarray(x, dtype=np.float32) for x in (terms.slope, terms.intercept))
        mapped = (p * slope + intercept).astype(np.float32)
        if terms.utterance_free:  # the level of each utterance is undone too: values of all of them are pooled
            levels = frames.by_utterance((y - mapped).mean(axis=1, dtype=np.float64)) / frames.lengths
            mapped = mapped + levels.astype(np.float32)[frames.owner, None]
        looked = not self.time.faults or "time-stretch" not in self.library
        self.out.texture = measure(frames, mapped, y, form.silent(self.silent))
        self.out.drift = drift_left(frames, mapped, y) if looked else 0.0
        self.out.lag = 0.0 if self.time.faults else self.time.lag
        if self.autoregressive is not False and not self.time.faults and "half-hop" in self.library:
            self.out.skipped["half-hop"] = _LEANS


def _unrelated(sample: Sample, found: Relation, library: frozenset[str], others: Matches | None = None) -> Finding:
    """What is said where prediction and target have nothing to do with each other."""
    if others is not None and others.wrong:
        name = "wrong-pairs" if "wrong-pairs" in library else "unknown"
        return Finding(name, (name,), 0.0, others.detail, (others.text,), _UNRELATED)
    stats = Stats(sample)
    ratio = stats.s_w_p / stats.s_w_y
    evidence = (
        f"r {found.r:.3f} within utterance and bin; unrelated utterances reach {found.limit:.3f}",
        f"within-bin sd of the prediction {ratio:.3f} times the target's",
    )
    ids: tuple[str, ...] = ("text-ignored", "untrained", "wrong-pairs")
    if ratio < FROZEN.collapsed_ratio:
        ids = ("collapsed", "untrained")
    elif not speechlike(sample):
        # Nothing in it is as in speech: any array that is scrambled in an unlisted way looks so too.
        ids = ("untrained", "text-ignored", "wrong-pairs", "unknown")
    names = tuple(name for name in ids if name in library or name == "unknown") or ("unknown",)
    # The nearer to what unrelated utterances reach, the less is sure.
    margin = _UNRELATED * max(1.0 - abs(found.r) / found.limit, 0.0)
    return Finding(names[0], names, 0.0, "", evidence, margin)


def _dead_bins(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """``(M,)`` bins of the prediction that stand still, or move little beside the others and not with the target.

    Returns:
        Those, and with them the bins in which the target itself hardly moves (audio of a narrower band): nothing can
        be said of either, but only the first are the prediction's fault.
    """
    var_p, var_y = ((a.astype(np.float64) ** 2).mean(0) for a in (sample.pc, sample.yc))
    least = _TINY + 1e-12 * float(var_y.mean())
    cov = np.einsum("tm,tm->m", sample.pc, sample.yc, dtype=np.float64) / sample.n_frames
    still = var_y < FROZEN.still_spread**2 * np.median(var_y)
    ratio = np.sqrt(var_p / np.maximum(var_y, least))
    r = np.abs(cov) / np.sqrt(np.maximum(var_p * var_y, least**2))
    middle = np.median(ratio[~still]) if not still.all() else np.median(ratio)
    dead = (ratio < FROZEN.dead_spread * middle) & (r < 0.5 * np.median(r)) | (ratio < 1e-4 * middle)
    return np.asarray(dead & ~still), np.asarray(dead | still)
