"""From frames to named faults: stages from the outside in, then a competition of hypotheses, then what is left over.

Data flow::

    frames --undo_arrays--> --undo_time--> related? --no--> collapsed, or nothing learned
                                              |yes
             forms (banks, floors, ...) x maps (units) --cost--> ranked --texture--> findings
                                                          what no fault explains --> unknown
"""

from __future__ import annotations

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
from calib.diagnose.faults.library import FAULTS
from calib.diagnose.faults.sample import Sample, correlations, sounding, whitened
from calib.diagnose.faults.score import Stats
from calib.diagnose.faults.structure import Relation, Step, relation, undo_arrays
from calib.diagnose.faults.texture import Texture, measure
from calib.diagnose.faults.time import drift_left, undo_time
from calib.diagnose.faults.transforms import Form, frequency_forms, piled, value_forms

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
        unpaired: how many utterances have nothing to do with their target while others have, and the evidence.
        piles: shares of the predicted values that stand exactly at their lowest and highest, unlike the target's.
        lag: frames that the prediction is late by and no step undid.
        drift: how many frames the lag changes along an utterance, after all.
        stretch: target frames in one predicted frame, as undone.
        declared: whether the target's front end is known.
        audio: whether the audio was used; None: there was none.
        skipped: tests that could not be made, and why.
    """

    findings: list[Finding] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    relation: Relation | None = None
    ranked: list[Candidate] = field(default_factory=list)
    posterior: dict[tuple[str, ...], float] = field(default_factory=dict)
    texture: Texture | None = None
    unpaired: tuple[int, str] | None = None
    piles: tuple[float, float] = (0.0, 0.0)
    lag: float = 0.0
    drift: float = 0.0
    stretch: float = 1.0
    declared: bool = True
    audio: bool = False
    skipped: dict[str, str] = field(default_factory=dict)


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
    """
    return _Explainer(
        frames, geometry, recomputed, indices, references, kind, autoregressive, library, denormalised
    ).run()


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
    ) -> None:
        self.denormalised = denormalised
        self.frames, self.recomputed, self.indices = list(frames), recomputed, list(indices)
        n_mels = self.frames[0][1].shape[1]
        known = geometry is not None and geometry.n_mels == n_mels
        self.geometry = geometry if geometry is not None and known else BankGeometry(n_mels, declared=False, warps=())
        self.references, self.kind, self.autoregressive = list(references), kind, autoregressive
        self.library = frozenset(FAULTS) if library is None else library
        self.out = Explanation()
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
        if not out.relation.exists and not self._warped_time() and not self._heard(out.relation):
            found = _unrelated(sample, out.relation, self.library)
            out.findings = graded([found], misfit=0.0, r=1.0, n_frames=sample.n_frames)
            return out
        self.sample = self.time.sample
        self._set_unpaired_aside()
        dead, self.silent = _dead_bins(self.sample)
        self.out.piles = piled(self.sample, self.silent)
        best = self._rank(self._forms())
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

    def _set_unpaired_aside(self) -> None:
        """Utterances that have nothing to do with their target, among others that have."""
        sample = self.sample
        if len(sample) < 5:
            return
        r = np.abs(correlations(sample.by_utterance(sample.rows(whitened(sample.pc), whitened(sample.yc)))))
        strong = float(np.quantile(r, 0.85))
        low = r < FROZEN.unpaired_r * strong
        if low.any() and not low.all():  # where the two groups part, now that both are known
            low = r < max(FROZEN.unpaired_r * strong, 0.5 * float(np.median(r[low]) + np.median(r[~low])))
        apart = low.any() and float(np.median(r[low])) < FROZEN.unpaired_r * strong
        if strong > 0.45 and apart and low.mean() >= FROZEN.unpaired_share and low.sum() >= 2 and _parted(r, low):
            good, bad = (f"{np.median(r[which]):.2f} in {int(which.sum())}" for which in (~low, low))
            self.out.unpaired = (int(low.sum()), f"r within utterance and bin is {good} utterances and {bad}")
            kept = [pair for pair, aside in zip(sample.pairs(), low, strict=True) if not aside]
            if len(kept) >= 2:
                self.sample = Sample(kept)
                self.indices = [index for index, aside in zip(self.indices, low, strict=False) if not aside]
                self.frames = [frame for frame, aside in zip(self.frames, low, strict=False) if not aside]

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


def _parted(r: np.ndarray, low: np.ndarray) -> bool:
    """Whether two groups of values stand apart: a weak model's utterances differ too, but from one end to the other."""
    groups = r[low], r[~low]
    inside = sum(float(((part - part.mean()) ** 2).sum()) for part in groups) / max(r.size - 2, 1)
    apart = float(groups[1].mean() - groups[0].mean())
    return apart > FROZEN.unpaired_apart * math.sqrt(inside)


def _unrelated(sample: Sample, found: Relation, library: frozenset[str]) -> Finding:
    """What is said where prediction and target have nothing to do with each other."""
    stats = Stats(sample)
    ratio = stats.s_w_p / stats.s_w_y
    evidence = (
        f"r {found.r:.3f} within utterance and bin; unrelated utterances reach {found.limit:.3f}",
        f"within-bin sd of the prediction {ratio:.3f} times the target's",
    )
    ids: tuple[str, ...] = ("text-ignored", "untrained", "wrong-pairs")
    if ratio < FROZEN.collapsed_ratio:
        ids = ("collapsed", "untrained")
    elif not _speechlike(sample):
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


def _speechlike(sample: Sample) -> bool:
    """Whether the prediction moves like the target does: as slowly, and with bins as much alike."""
    slow = [sample.at_lag(a, a, 1).value for a in (sample.pc, sample.yc)]
    near = [float((a[:, 1:] * a[:, :-1]).sum() / max(float((a * a).sum()), 1e-12)) for a in (sample.pc, sample.yc)]
    return abs(slow[0] - slow[1]) < 0.1 and abs(near[0] - near[1]) < 0.15
