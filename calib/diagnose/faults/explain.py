"""From frames to named faults: stages from the outside in, then a competition of hypotheses, then what is left over.

Data flow::

    frames --undo_arrays--> --undo_time--> related? --no--> collapsed, or nothing learned
                                              |yes
             forms (banks, floors, ...) x maps (units) --cost--> ranked --texture--> findings
                                                          what no fault explains --> unknown
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from calib.diagnose.faults.evidence import Finding
from calib.diagnose.faults.frozen import FROZEN
from calib.diagnose.faults.geometry import BankGeometry, Recomputed
from calib.diagnose.faults.judge import findings, graded
from calib.diagnose.faults.library import FAULTS
from calib.diagnose.faults.sample import Sample, whitened
from calib.diagnose.faults.score import Cost, Stats, Terms, independent
from calib.diagnose.faults.structure import Relation, Step, relation, undo_arrays
from calib.diagnose.faults.texture import Texture, measure
from calib.diagnose.faults.time import all_ratios, drift_left, rate_label, rate_ratios, undo_time
from calib.diagnose.faults.transforms import Form, blurred, frequency_forms, value_forms
from calib.diagnose.faults.units import Hypothesis, affine_hypotheses, per_bin_hypotheses

__all__ = ["Candidate", "Explanation", "explain"]

_AUDIO_FRAMES = 3000  # with audio: as many frames as can be recomputed thirty times in a second or two
_KEPT = 8
_NEAR = 40.0  # nats: an edge further behind than that need not be looked at
_EDGE_VALUES = 60_000


# What two hypotheses together are called.
_TOGETHER: dict[tuple[str, ...], tuple[str, ...]] = {
    ("raised-floor", "log-power"): ("power-floor",),
    ("raised-floor", "range-normalised"): ("range-normalised",),  # fixed ranges are cut at their ends
    ("clipped", "range-normalised"): ("range-normalised",),
}


@dataclass(frozen=True)
class Candidate:
    """One form and one map together, with what they cost."""

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
        parts = (text for text, faults in ((self.form.label, self.form.faults), (self.hypothesis.label, self.hypothesis.faults)) if faults)  # fmt: skip
        return "; ".join(parts) or "as it is"


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
        lag: frames that the prediction is late by and no step undid.
        drift: how many frames the lag changes along an utterance, after all.
        stretch: target frames in one predicted frame, as undone.
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
    lag: float = 0.0
    drift: float = 0.0
    stretch: float = 1.0
    audio: bool = False
    skipped: dict[str, str] = field(default_factory=dict)


def explain(
    frames: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    geometry: BankGeometry | None = None,
    recomputed: Recomputed | None = None,
    indices: Sequence[int] = (),
    references: Sequence[tuple[str, float, float]] = (),
    kind: str | None = None,
    autoregressive: bool | None = None,
    library: frozenset[str] | None = None,
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
    """
    return _Explainer(frames, geometry, recomputed, indices, references, kind, autoregressive, library).run()


class _Explainer:
    """The work behind `explain`."""

    def __init__(
        self,
        frames: Sequence[tuple[np.ndarray, np.ndarray]],
        geometry: BankGeometry | None,
        recomputed: Recomputed | None,
        indices: Sequence[int],
        references: Sequence[tuple[str, float, float]],
        kind: str | None,
        autoregressive: bool | None,
        library: frozenset[str] | None,
    ) -> None:
        self.frames, self.recomputed, self.indices = list(frames), recomputed, list(indices)
        n_mels = self.frames[0][1].shape[1]
        self.geometry = geometry if geometry is not None and geometry.n_mels == n_mels else BankGeometry(n_mels, declared=False, warps=())
        self.references, self.kind, self.autoregressive = list(references), kind, autoregressive
        self.library = frozenset(FAULTS) if library is None else library
        self.out = Explanation()
        self.ratio: float | None = None  # of sample rates, where only the audio showed it

    def run(self) -> Explanation:
        """All stages."""
        out = self.out
        sample = Sample(self.frames)
        self.arrays = undo_arrays(sample, self.library)
        self.time = undo_time(self.arrays.sample, self.library, self.autoregressive, self.geometry)
        out.stretch = self.time.stretch
        out.steps = [step for step in (self.arrays, self.time) if step.faults]
        out.relation = relation(self.time.sample)
        if not out.relation.exists and not self._warped_time() and not self._heard():
            out.findings = graded(self._unrelated(sample), misfit=0.0, r=1.0, n_frames=sample.n_frames)
            return out
        self.sample = self.time.sample
        self._set_unpaired_aside()
        self.dead = _dead_bins(self.sample)
        forms = self._forms()
        candidates = self._candidates(forms)
        best = self._rank(candidates)
        self._texture(best)
        out.findings = self._findings(best)
        return out

    def _warped_time(self) -> bool:
        """Whether time was undone together with a warp of the bins, which the relation does not see."""
        return bool(self.time.faults) and self.time.evidence[0].endswith("bins moved as much")

    def _heard(self) -> bool:
        """Whether the audio, read at another sample rate, makes the relation that the target does not show."""
        if self.recomputed is None or "sample-rate" not in self.library:
            return False
        best = (0.0, 1.0)
        for ratio in all_ratios():
            pairs = []
            for row, index in enumerate(self.indices[:4]):
                y = self.recomputed.relabelled(index, ratio)
                if y is not None:
                    p = self.arrays.undo(*self.frames[row])[0]
                    n = min(len(p), len(y))
                    pairs.append((p[:n], y[:n]))
            if pairs:
                best = max(best, (abs(relation(Sample(pairs)).r), ratio))
        self.ratio = best[1]
        assert self.out.relation is not None
        return best[0] > 2.0 * self.out.relation.limit

    def _set_unpaired_aside(self) -> None:
        """Utterances that have nothing to do with their target, among others that have."""
        sample = self.sample
        if len(sample) < 5 or "wrong-pairs" not in self.library:
            return
        sums = sample.by_utterance(sample.rows(whitened(sample.pc), whitened(sample.yc)))
        r = np.abs(sums[:, 0]) / np.sqrt(np.maximum(sums[:, 1] * sums[:, 2], 1e-12))
        strong = float(np.quantile(r, 0.85))
        low = r < FROZEN.unpaired_r * strong
        if strong > 0.45 and low.mean() >= FROZEN.unpaired_share and low.sum() >= 2:
            text = f"r within utterance and bin is {np.median(r[~low]):.2f} in {int((~low).sum())} utterances and {np.median(r[low]):.2f} in {int(low.sum())}"
            self.out.unpaired = (int(low.sum()), text)
            kept = [pair for pair, bad in zip(sample.pairs(), low, strict=True) if not bad]
            if len(kept) >= 2:
                self.sample = Sample(kept)
                self.indices = [index for index, bad in zip(self.indices, low, strict=False) if not bad]
                self.frames = [frame for frame, bad in zip(self.frames, low, strict=False) if not bad]

    # --- nothing to do with each other ---------------------------------------------------------------------------

    def _unrelated(self, sample: Sample) -> list[Finding]:
        stats = Stats(sample)
        ratio = stats.s_w_p / stats.s_w_y
        assert self.out.relation is not None
        found = self.out.relation
        text = f"r {found.r:.3f} within utterance and bin; unrelated utterances reach {found.limit:.3f}"
        spread = f"within-bin sd of the prediction {ratio:.3f} times the target's"
        if ratio < FROZEN.collapsed_ratio and "collapsed" in self.library:
            return [Finding("collapsed", ("collapsed",), 0.0, "", (text, spread), 10.0)]
        names = [name for name in ("text-ignored", "untrained", "wrong-pairs") if name in self.library]
        if not _speechlike(sample):
            names.sort(key=lambda name: name != "untrained")
        if not names:
            return [Finding("unknown", ("unknown",), 0.0, "", (text, spread), 10.0)]
        return [Finding(names[0], tuple(names), 0.0, "", (text, spread), 10.0)]

    # --- forms and maps ------------------------------------------------------------------------------------------

    def _forms(self) -> list[Form]:
        forms = [Form()]
        audio = list(self._audio_forms()) if self.recomputed is not None else []
        self.out.audio = bool(audio)
        if audio:
            forms = [Form(sample=self.sample), *audio]
        else:
            forms += frequency_forms(self.sample, self.geometry, self.time.stretch)
        forms += value_forms(self.sample, self.geometry)
        return [form for form in forms if set(form.faults) <= self.library]

    def _audio_forms(self) -> Iterator[Form]:
        """Targets recomputed from the audio, on the utterances that have it and as many as time allows."""
        assert self.recomputed is not None
        chosen: list[tuple[int, int]] = []
        total = 0
        for row, index in enumerate(self.indices):
            target = self.recomputed.target(index)
            y = self.frames[row][1]
            if target is None or len(y) > len(target) + 8:
                continue
            n = min(len(target), len(y))
            if float(np.abs(target[:n] - y[:n]).mean()) > 0.05 * float(y.std()):
                self.out.skipped["audio"] = "the targets are not what the declared front end makes of this audio"
                return
            chosen.append((row, index))
            total += len(y)
            if total >= _AUDIO_FRAMES:
                break
        if not chosen:
            self.out.skipped["audio"] = "no utterance has usable audio"
            return
        # Every form is compared on the same utterances, the target as it is among them.
        both = [(self.time.undo(*self.arrays.undo(*self.frames[row]))) for row, _ in chosen]
        self.sample = Sample([pair for pair in both if len(pair[0]) > 1])
        for key in self.recomputed.keys:
            faults = self.recomputed.faults(key)
            if faults == ("half-hop",) and (self.autoregressive is not False or self.time.faults):
                continue  # what such a model knows of the previous frame looks alike
            if set(faults) <= self.library:
                pairs = self._against([(row, self.recomputed.mel(index, key)) for row, index in chosen], relabelled=False)
                if pairs is not None:
                    # Power under a free map is magnitude under another.
                    yield Form(faults, self.recomputed.label(key), prior=FROZEN.rare, sample=Sample(pairs), units=not {"log-power", "power-floor"} & set(faults))  # fmt: skip
        ratios = rate_ratios(self.time.stretch) if self.ratio is None else [self.ratio]
        for ratio in ratios if "sample-rate" in self.library else ():
            pairs = self._against([(row, self.recomputed.relabelled(index, ratio)) for row, index in chosen], relabelled=True)  # fmt: skip
            if pairs is not None:
                yield Form(("sample-rate",), rate_label(ratio), prior=FROZEN.rare, sample=Sample(pairs), replaces_time=True)  # fmt: skip

    def _against(self, mels: list[tuple[int, np.ndarray | None]], *, relabelled: bool) -> list[tuple[np.ndarray, np.ndarray]] | None:  # fmt: skip
        """Predictions with recomputed targets, what was found of arrays and time undone; None where one is missing."""
        pairs = []
        for row, y in mels:
            if y is None:
                return None
            p, own = self.frames[row]
            n = min(len(p), len(y))
            if relabelled:  # explains the drift by itself
                p = self.arrays.undo(p, own)[0]
                pairs.append((p[:n], y[:n]))
            else:
                pairs.append(self.time.undo(*self.arrays.undo(p[:n], y[:n])))
        return pairs if all(len(p) > 1 for p, _ in pairs) else None

    def _candidates(self, forms: Iterable[Form]) -> Iterator[Candidate]:
        sample, y = self.sample, self.sample.y
        effective = independent(sample.n_frames)
        own = _reference("the target's own statistics", y)
        extremes = float(y.min()), float(y.max())
        blur = 0.0
        for form in forms:
            frames = form.sample or sample
            dead = self.dead if form.ignore is None or form.ignore.all() else self.dead | form.ignore
            stats = Stats(frames, form.p, form.y, self.kind, effective, dead)
            hypotheses = [Hypothesis((), "as it is", Terms(1.0, 0.0))]
            if form.units:
                references = [own, *self.references]
                if form.faults:
                    references.append(_reference("the faulty target's own statistics", frames.y if form.y is None else form.y))  # fmt: skip
                hypotheses = affine_hypotheses(stats, self.geometry, references, extremes)
            if not form.faults:
                by_bin = ("the target's own statistics", y.mean(0, dtype=np.float64), y.std(0, dtype=np.float64))
                hypotheses += per_bin_hypotheses(stats, [by_bin], hypotheses)
            if form.read and not blur:
                blur = self._blur_gain(effective)
            kept = [hypothesis for hypothesis in hypotheses if set(hypothesis.faults) <= self.library]
            maps = [dataclasses.replace(h.terms, slack=math.hypot(h.terms.slack, form.slack), slack_pattern=math.hypot(h.terms.slack_pattern, form.slack_pattern), slack_scale=math.hypot(h.terms.slack_scale, form.slack_scale), any_utterance=form.any_utterance) for h in kept]  # fmt: skip
            for hypothesis, terms, cost in zip(kept, maps, stats.costs(maps, [h.prior for h in kept]), strict=True):
                # A form that is only nearly right gains a little everywhere, and the more the more frames there are.
                loose = FROZEN.loose * abs(cost.fit) if form.read or set(form.faults) & {"clipped"} else 0.0
                extra = form.prior + loose + (blur if form.read else 0.0)
                candidate = Candidate(form, hypothesis, dataclasses.replace(cost, prior=cost.prior + extra), stats, terms)
                if set(candidate.faults) <= self.library:  # the two together may have a name of their own
                    yield candidate

    def _blur_gain(self, effective: float) -> float:
        """Nats that the target gains by the blur of the warps alone, under the identity or a free map."""
        totals = []
        for y in (None, blurred(self.sample.y)):
            stats = Stats(self.sample, None, y, self.kind, effective, self.dead)
            maps = [Terms(1.0, 0.0), *(h.terms for h in affine_hypotheses(stats, self.geometry, [], (0.0, 0.0)) if h.faults in {("wrong-stats",), ("sign-flipped",)})]  # fmt: skip
            totals.append([cost.total for cost in stats.costs(maps, [0.0] * len(maps))])
        best = min(range(len(totals[0])), key=lambda k: totals[0][k])
        return max(totals[0][best] - totals[1][min(best, len(totals[1]) - 1)], 1e-9)

    def _with_edges(self, candidates: list[Candidate]) -> list[Candidate]:
        """What keeping to a floor or ceiling costs, where it can matter to the ranking."""
        least = min(c.total for c in candidates)
        out = []
        for candidate in candidates:
            if candidate.form.edge is not None:
                near = candidate.total - FROZEN.edge_bonus <= least + _NEAR
                extra = _edge_cost(candidate.form.sample or self.sample, candidate.form, candidate.terms) if near else _NEAR
                candidate = dataclasses.replace(candidate, cost=dataclasses.replace(candidate.cost, prior=candidate.cost.prior + extra))  # noqa: PLW2901 - the same with its edge  # fmt: skip
            out.append(candidate)
        return out

    def _rank(self, candidates: Iterable[Candidate]) -> Candidate:
        best: dict[tuple[str, ...], Candidate] = {}
        for candidate in self._with_edges(list(candidates)):
            key = candidate.faults
            if key not in best or candidate.total < best[key].total:
                best[key] = candidate
        ranked = sorted(best.values(), key=lambda c: c.total)
        weight = {c.faults: math.exp(-min(FROZEN.temper * (c.total - ranked[0].total), 700.0)) for c in ranked}
        total = sum(weight.values())
        self.out.ranked = ranked[:_KEPT]
        self.out.posterior = {key: value / total for key, value in weight.items() if value / total > 1e-4}
        return ranked[0]

    # --- detail --------------------------------------------------------------------------------------------------

    def _texture(self, best: Candidate) -> None:
        frames = best.form.sample or self.sample
        p = frames.p if best.form.p is None else best.form.p
        y = frames.y if best.form.y is None else best.form.y
        mapped = (p * np.asarray(best.terms.slope, dtype=np.float32) + np.asarray(best.terms.intercept, dtype=np.float32)).astype(np.float32)  # fmt: skip
        if best.terms.utterance_free:  # the level of each utterance is undone too: values of all of them are pooled
            levels = frames.by_utterance((y - mapped).mean(axis=1, dtype=np.float64)) / frames.lengths
            mapped = mapped + levels.astype(np.float32)[frames.owner, None]
        dead = self.dead if best.form.ignore is None or best.form.ignore.all() else self.dead | best.form.ignore
        self.out.texture = measure(frames, mapped, y, dead)
        self.out.drift = drift_left(frames, mapped, y) if not self.time.faults or "time-stretch" not in self.library else 0.0
        self.out.lag = 0.0 if self.time.faults else self.time.lag

    # --- findings ------------------------------------------------------------------------------------------------

    def _findings(self, best: Candidate) -> list[Finding]:
        return findings(self.out, best, self.library, self.autoregressive, np.flatnonzero(self.dead))


def _reference(name: str, y: np.ndarray) -> tuple[str, float, float]:
    return name, float(y.mean(dtype=np.float64)), float(y.std(dtype=np.float64))


def _edge_cost(sample: Sample, form: Form, terms: Terms) -> float:
    """Nats for a floor or ceiling that the prediction does not keep to.

    A healthy prediction of the same spread passes the edge about as often as the target would if it were shrunk as much;
    one that was trained on mels cut there hardly does.
    """
    assert form.edge is not None
    edge, side = form.edge
    step = max(1, sample.p.size // _EDGE_VALUES)
    slope, intercept = float(np.mean(terms.slope)), float(np.mean(terms.intercept))
    p = sample.p.ravel()[::step] * slope + intercept
    y = sample.y
    ratio = min(abs(slope) * sample.spread[0] / max(sample.spread[1], 1e-9), 1.0)
    mean = np.broadcast_to(y.mean(axis=0), y.shape).ravel()[::step]
    healthy = mean + ratio * (y.ravel()[::step] - mean)
    slack = 0.02 * sample.spread[2]
    beyond = float((side * (p - edge) > slack).mean())
    expected = float((side * (healthy - edge) > slack).mean())
    if expected < 0.004:
        return 6.0  # nothing to see there either way
    # A cut heaps values up at the edge; a tail falls off towards it.
    width = 0.15 * sample.spread[2]
    inside = side * (edge - p)
    at, before = float((np.abs(inside) <= width / 2).mean()), float((np.abs(inside - 1.5 * width) <= width / 2).mean())
    heap = at / max(before, 1e-6)
    # Below a floor there is hardly ever less than expected; above a ceiling there is, because peaks are missed anyway.
    bonus = FROZEN.edge_bonus * min(expected / 0.01, 1.0) * max(0.0, 1.0 - 2.0 * beyond / expected) if side < 0 else 0.0
    return -bonus + FROZEN.edge_weight * max(beyond / expected - FROZEN.edge_share, 0.0) + 8.0 * max(FROZEN.edge_pile - heap, 0.0)


def _dead_bins(sample: Sample) -> np.ndarray:
    """``(M,)`` bins of the prediction that stand still, or move by a small part of what the others do and not with the target."""
    ratio = np.sqrt((sample.pc**2).mean(0) / np.maximum((sample.yc**2).mean(0), 1e-12))
    r = (sample.pc * sample.yc).mean(0) / np.sqrt(np.maximum((sample.pc**2).mean(0) * (sample.yc**2).mean(0), 1e-20))
    dead = (ratio < FROZEN.dead_spread * np.median(ratio)) & (np.abs(r) < 0.5 * abs(float(np.median(r))))
    return np.asarray(dead | (ratio < 1e-4 * np.median(ratio)))


def _speechlike(sample: Sample) -> bool:
    """Whether the prediction moves like the target does: as slowly, and with bins as much alike."""
    slow = [sample.at_lag(a, a, 1).value for a in (sample.pc, sample.yc)]
    near = [float((a[:, 1:] * a[:, :-1]).sum() / max(float((a * a).sum()), 1e-12)) for a in (sample.pc, sample.yc)]
    return abs(slow[0] - slow[1]) < 0.1 and abs(near[0] - near[1]) < 0.15
