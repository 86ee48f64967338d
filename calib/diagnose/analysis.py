"""``analyze``: pairs in, one `Diagnosis` out. ``fit-scaler``, ``diagnose`` and ``report`` are its renderings.

Data flow, two passes over the pairs (one more where values are clamped at a floor)::

    pass 1   padding off -> UnitMoments a unit           -> Moments: intervals, r within bin
             a sample of frames                          -> floors; with Moments: every calibrator, and the one chosen
             a sample of utterances, held in memory      -> null distribution, lags, flips, pairings, faults
    pass 2   errors of every predictor, with the maps and constants of the *other* folds
             histograms, density, per-utterance table, modulation spectra, products between bins
    verdict  Evidence -> decide; metrics before and after what is written

Conventions:
    A *raw map* is ``target = slope * prediction + intercept``, in the units of the target. ``scale_factor`` and
    ``offset`` are the same map in the normalised space: ``slope / mel_std`` and ``(intercept - mel_mean) / mel_std``.
    MAE and RMSE are in the unit of the target mel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calib.diagnose.calibrators.calibration import Calibrators
from calib.diagnose.causes import untested
from calib.diagnose.diagnosis import AffineMap, Calibration, Diagnosis, Interval, Row, Utterance
from calib.diagnose.faults.candidates import BinReference
from calib.diagnose.faults.evidence import Finding
from calib.diagnose.faults.explain import Explanation, explain
from calib.diagnose.faults.geometry import BankGeometry, Recomputed
from calib.diagnose.faults.heard import CONTRADICTED
from calib.diagnose.faults.library import BY_BIN, GLOBAL_AFFINE
from calib.diagnose.faults.utterances import Listed
from calib.diagnose.intervals import Intervals, block_intervals, moving_blocks, utterance_intervals
from calib.diagnose.moments import Moments, Summary, UnitMoments, unit_moments
from calib.diagnose.notes import Noticed, serious
from calib.diagnose.nulls import NullDistribution, StructureProbe, structure_probe, swap_null, time_shift_null
from calib.diagnose.quality import add_metrics
from calib.diagnose.reading import FOLDS, MIN_UTTERANCES, PairSet, Reader, UnusablePairError
from calib.diagnose.scores import SecondPass
from calib.diagnose.verdict import NO_SIGNAL_R, STRUCTURE_LIFT, Evidence, decide

__all__ = ["AffineMap", "Diagnosis", "Interval", "PairSet", "Row", "UnusablePairError", "Utterance", "analyze"]

_PAIRING = "pairing each prediction with another target of the same length"
_PART_WORDS = {"collapsed": "collapsed", "wrong-pairs": "wrongly paired"}
_REPAIRING = "pairing each prediction with the target of the list that fits it"
_SAMPLE_RATIO = 0.1  # |ln of the within-bin sd ratio| below which a model of unknown kind is taken for sample-like


def analyze(
    pairs: PairSet,
    *,
    stats: tuple[float, float] | None = None,
    stats_origin: str = "the pairs' own targets",
    output_space: str = "raw",
    kind: str | None = None,
    autoregressive: bool | None = None,
    seed: int = 0,
    allow_skipped: float = 1.0,
    notes: Sequence[str] = (),
    bank: BankGeometry | None = None,
    recomputed: Recomputed | None = None,
    library: frozenset[str] | None = None,
    frame_seconds: float | None = None,
    denormalised: BinReference | None = None,
    cautions: Sequence[str] = (),
) -> Diagnosis:
    """Judge predictions against targets.

    Args:
        pairs: targets and predictions.
        stats: ``(mel_mean, mel_std)`` of the dataset; None: those of the pairs' own targets.
        stats_origin: where ``stats`` came from, for people.
        output_space: ``normalized``: the predictions are denormalised with ``stats`` before anything is judged,
            because that is what inference does with them.
        kind: ``mean``, ``sample`` or None, as the model declares.
        autoregressive: as the model declares.
        seed: of the bootstrap and the swaps.
        allow_skipped: percent of pairs that may be unusable; more makes the data invalid.
        notes: what was noticed while reading, to be carried along.
        bank: where the mel bins of the target lie, or None when its front end is unknown.
        recomputed: targets recomputed from the audio under faulty front ends, or None without audio.
        library: ids of the faults that may be named; None: all.
        frame_seconds: hop of the mels in seconds, for modulation frequencies in Hz; None: cycles a frame.
        denormalised: ``(name, means, sds)`` by bin, where the predictions were brought from that space to the one of
            the two global values before they came here.
        cautions: what is known from outside the arrays and speaks against "healthy".
    """
    said = list(notes)
    reader = Reader(pairs, said, allow_skipped)
    invalid, own = reader.first_pass()
    mean, std = stats or own
    if invalid or reader.n_frames < 3 * FOLDS:
        verdict = decide(Evidence(reader.n_frames, invalid=tuple(invalid)))
        why = "the data cannot be judged" if invalid else verdict.sentence
        return Diagnosis(
            verdict, len(reader.usable), reader.n_frames, reader.n_mels, mean, std or 1.0, stats_origin, output_space, kind, faults=reader.faults, notes=said,
            skipped=dict.fromkeys(("metrics", "fits", "other faults" if reader.faults else "faults", "null", "histograms", "utterances"), why),
        )  # fmt: skip
    baseline = AffineMap(std, mean) if output_space == "normalized" else AffineMap(1.0, 0.0)
    context = _Context(
        baseline, mean, std, stats is None, stats_origin, output_space, kind, autoregressive, seed, bank, recomputed, library,
        frame_seconds, denormalised, tuple(cautions),
    )  # fmt: skip
    return _Analysis(reader, context).run()


@dataclass(frozen=True)
class _Context:
    """What is known beside the pairs; see `analyze`."""

    baseline: AffineMap
    mean: float
    std: float
    own_stats: bool
    stats_origin: str
    output_space: str
    kind: str | None
    autoregressive: bool | None
    seed: int
    bank: BankGeometry | None
    recomputed: Recomputed | None
    library: frozenset[str] | None
    frame_seconds: float | None
    denormalised: BinReference | None
    cautions: tuple[str, ...]


class _Analysis:
    """The work behind `analyze`, on data that can be judged."""

    def __init__(self, reader: Reader, context: _Context) -> None:
        self.reader, self.context, self.baseline = reader, context, context.baseline
        self.mean, self.std = context.mean, context.std
        self.kind, self.autoregressive, self.seed = context.kind, context.autoregressive, context.seed
        self.moments = Moments([_mapped(u, context.baseline) for u in reader.moments])
        self.summary = self.moments.summary()
        self.groups: np.ndarray | None = None  # speakers, where folds are made of them
        self.fold_of, self.folds_text = self._folds()
        self.n_folds = int(self.fold_of.max()) + 1

    def _folds(self) -> tuple[np.ndarray, str]:
        """Fold of each unit (by speaker when at least five speak, else by utterance, else blocks), and how, in words."""
        units, utterances = np.arange(len(self.reader.units)), len(self.reader.usable)
        if utterances == 1:
            return units, f"{len(units)} contiguous blocks of the one utterance, each scored with the fit on the others"
        if not self.reader.by_utterance:
            return units, f"{utterances} utterances: each scored with the fit on the others"
        speakers = [self.reader.pairs.speaker(unit.index) for unit in self.reader.units]
        numbers = {name: number for number, name in enumerate(sorted({s for s in speakers if s is not None}))}
        if None not in speakers and len(numbers) >= FOLDS:
            self.groups = np.array([numbers[str(s)] for s in speakers])
            return self.groups % FOLDS, f"{FOLDS} folds grouped by speaker"
        return units % FOLDS, f"{FOLDS} folds grouped by utterance"

    def run(self) -> Diagnosis:
        """All passes, then the verdict."""
        s, reader = self.summary, self.reader
        sample_like = self.kind == "sample" or (
            self.kind is None and _looks_sampled(float(s.s_w_ratio), abs(float(s.r_w)))
        )
        calibrators = Calibrators(
            reader,
            self.baseline,
            self.moments,
            self.fold_of,
            groups=self.groups,
            sample_like=sample_like,
            stats=None if self.context.own_stats else (self.mean, self.std),
        )
        chosen = calibrators.chosen
        blocks = None if reader.by_utterance else self._blocks()
        intervals = (
            utterance_intervals(self.moments, sample_like=sample_like)
            if blocks is None
            else block_intervals(self.moments, blocks, sample_like=sample_like)
        )
        sampled = reader.probe_sample()
        frames = [self._frames(index) for index in sampled]
        null, probe, structure, structure_r = self._dependence(frames)
        explanation = self._explain(frames, sampled)
        if explanation.repaired_r:
            structure, structure_r = _REPAIRING, explanation.repaired_r
        elif structure == _PAIRING and abs(structure_r) > max(NO_SIGNAL_R, abs(float(s.r_w)) + STRUCTURE_LIFT):
            explanation.findings = _mispaired(explanation.findings, float(s.r_w), structure_r)
        pass2 = SecondPass(self, chosen, calibrators.cross)
        pass2.run()
        calibrators.finish()
        rows = pass2.rows()
        by_name = {row.name: row for row in rows}
        after = by_name[chosen.row]
        share = float(s.removable_share(sample_like=sample_like))
        constant = min(by_name["global_mean"].mae, by_name["bin_mean"].mae)
        # Without an interval nothing is known of the magnitude.
        r_interval = _magnitude(intervals.values.get("r_w", Interval(-1.0, 1.0)), float(s.r_w))
        noticed = Noticed(
            self.moments, null, probe, pass2.low_p, pass2.high_p, after.mae, by_name["persistence"].mae, self.autoregressive,
            known=self.context.cautions + _contradicted(explanation),
        )  # fmt: skip
        drift, drift_r = _drift(explanation)
        repaired = GLOBAL_AFFINE | (BY_BIN if chosen.by_bin else frozenset())
        verdict = decide(
            Evidence(
                findings=len(list(serious(noticed))) + len(explanation.findings),
                n_frames=reader.n_frames,
                r_w=float(s.r_w),
                r_w_low=r_interval.low,
                r_w_high=r_interval.high,
                null_limit=null.limit,
                s_w_ratio=float(s.s_w_ratio),
                share=share,
                chosen_share=1.0 - (after.rmse / by_name["before"].rmse) ** 2 if by_name["before"].rmse else 0.0,
                skill=1.0 - (after.rmse / by_name["bin_mean"].rmse) ** 2 if by_name["bin_mean"].rmse else 0.0,
                gate_ratio=after.mae / constant if constant else float("inf"),
                identity_gate_ratio=by_name["before"].mae / constant if constant else float("inf"),
                best_lag=probe.best_lag,
                lag_r=probe.by_lag[probe.best_lag],
                structure=structure,
                structure_r=structure_r,
                autoregressive=self.autoregressive,
                severity="fail" if any(f.entry.severity == "fail" for f in explanation.findings) else "warn",
                beyond_affine=tuple(
                    f.fault for f in explanation.findings if f.fault not in repaired and not _exact_square(f)
                ),
                drift=drift,
                drift_r=drift_r,
                parts=tuple(
                    f"{_PART_WORDS.get(part.fault, 'unrelated')} in {part.label}" for part in explanation.parts
                ),
                parts_share=sum(len(part.rows) / part.of for part in explanation.parts),
            )
        )
        healthy = verdict.state == "healthy"
        if healthy:  # what speaks against it stands beside it
            verdict = replace(verdict, warnings=(*verdict.warnings, *serious(noticed)))
        method = "identity" if healthy else chosen.name
        local = _calibration(AffineMap(1.0, 0.0) if method == "identity" else pass2.fit)
        d = Diagnosis(
            verdict=verdict,
            n_utterances=len(reader.usable),
            n_frames=reader.n_frames,
            n_mels=reader.n_mels,
            mel_mean=self.mean,
            mel_std=self.std,
            stats_origin=self.context.stats_origin,
            output_space=self.context.output_space,
            kind=self.kind,
            sample_like=sample_like,
            method=method,
            calibration=local.after(self.baseline),
            summary=_summary_numbers(s, share, pass2),
            intervals=intervals.values,
            rows=rows,
            folds=self.folds_text,
            resampling=intervals.method if intervals.values else "",
            null=null,
            probe=probe,
            per_bin=self._per_bin(local, pass2.moments_after() if local.floor is not None else None),
            histograms=pass2.histograms(identity=method == "identity"),
            density=pass2.joint(),
            utterances=pass2.utterances("before" if method == "identity" else method),
            selection=calibrators.summary(),
            fits=calibrators.scores(),
            notes=self.reader.notes,
            faults=explanation.findings,
        )
        if not healthy:
            d.notes += serious(replace(noticed, by_bin=local.bin_slope is not None))
        d.notes += calibrators.notes
        add_metrics(d, self.moments, blocks, local, pass2, self.context.frame_seconds)
        d.skipped |= calibrators.skipped | _skipped_intervals(intervals)
        d.skipped |= {f"{name} fit": why for name, why in calibrators.selection.skipped.items()}
        d.skipped |= untested(
            explanation, bank=self.context.bank, n_utterances=len(sampled), library=self.context.library
        )
        if self.autoregressive is None:
            d.skipped["copying and persistence"] = "the pairs do not say whether the model is autoregressive"
        if not reader.by_utterance:
            d.skipped["interval over utterances"] = (
                f"{MIN_UTTERANCES} utterances are needed; the intervals above hold within {'this one' if len(reader.usable) == 1 else 'these'} only"
            )
        return d

    def _frames(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One utterance as inference has it, ``(T, M)`` float64 both."""
        p, y = self.reader.arrays(index)
        return self.baseline(p.astype(np.float64)), y.astype(np.float64)

    def _explain(self, frames: list[tuple[np.ndarray, np.ndarray]], sampled: list[int]) -> Explanation:
        c = self.context
        references = [] if c.own_stats else [(c.stats_origin, c.mean, c.std)]
        return explain(
            [(p.astype(np.float32), y.astype(np.float32)) for p, y in frames],
            geometry=c.bank, recomputed=c.recomputed, indices=sampled, references=references, kind=c.kind,
            autoregressive=c.autoregressive, library=c.library, denormalised=c.denormalised, listed=self._listed(sampled),
            frame_seconds=c.frame_seconds,
        )  # fmt: skip

    def _listed(self, sampled: list[int]) -> Listed:
        """The list that the utterances of the sample are from; places count the usable pairs."""
        pairs, usable = self.reader.pairs, self.reader.usable
        place = {index: number for number, index in enumerate(usable)}
        return Listed(
            [place[index] for index in sampled], len(usable), lambda k: self._frames(usable[k])[1],
            lambda k: pairs.name(usable[k]), lambda k: pairs.speaker(usable[k]),
        )  # fmt: skip

    # --- fits ---------------------------------------------------------------------------------------------------

    def _maps(self, weights: np.ndarray) -> dict[str, AffineMap]:
        """The global maps fitted on the weighted units; they act on the prediction after `baseline`."""
        s = self.moments.summary(weights)
        ols, mm = float(s.slope_ols), float(s.slope_mm)
        mean, std = (float(s.m_y), float(s.s_y)) if self.context.own_stats else (self.mean, self.std)
        inverse = AffineMap(1.0 / self.baseline.slope, -self.baseline.intercept / self.baseline.slope)
        return {
            "before": AffineMap(1.0, 0.0),
            "denormalise": AffineMap(std, mean).after(inverse),
            "zero": AffineMap(0.0, 0.0),
            "ols": AffineMap(ols, float(s.intercept(np.float64(ols)))),
            "moments": AffineMap(mm, float(s.intercept(np.float64(mm)))),
            "global_mean": AffineMap(0.0, float(s.m_y)),
        }

    def predictors(self, weights: np.ndarray) -> tuple[dict[str, AffineMap], np.ndarray]:
        """Maps and the per-bin constant fitted on the weighted units."""
        return self._maps(weights), self.moments.bin_means(weights)

    def _blocks(self) -> Moments:
        """Moments of moving blocks, where utterances are too few to be resampled."""
        units = []
        for index in self.reader.usable:
            p, y = self.reader.arrays(index)
            units += [_mapped(unit_moments(p[a:b], y[a:b]), self.baseline) for a, b in moving_blocks(p.shape[0])]
        return Moments(units)

    # --- dependence ---------------------------------------------------------------------------------------------

    def _dependence(
        self, frames: list[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[NullDistribution, StructureProbe, str | None, float]:
        """Null distribution, lags, and the best repair of layout or pairing."""
        bins = self.moments.per_bin()
        centred = [(p - bins["mean_p"], y - bins["mean_y"]) for p, y in frames]
        probe = structure_probe(centred, bins["mean_p"])
        candidates = {
            "reversing the order of the bins": probe.flipped,
            "reading the array as (M, T) instead of (T, M)": probe.reshaped,
        }
        if self.reader.by_utterance:
            swapped = swap_null(centred, self.seed)
            null = swapped.null
            if abs(swapped.best) > swapped.own_magnitude:
                candidates[_PAIRING] = swapped.best
        else:
            null = time_shift_null(centred)
        name = max(candidates, key=lambda key: abs(candidates[key]))
        return null, probe, name, candidates[name]

    def _per_bin(self, local: Calibration, clamped: Moments | None) -> dict[str, np.ndarray]:
        bins = self.moments.per_bin()
        after = None if clamped is None else clamped.per_bin()
        return {
            "target_mean": bins["mean_y"],
            "target_sd": bins["sd_y"],
            "prediction_mean": bins["mean_p"],
            "prediction_sd": bins["sd_p"],
            "calibrated_mean": local(bins["mean_p"]) if after is None else after["mean_p"],
            "calibrated_sd": np.abs(local.slopes) * bins["sd_p"] if after is None else after["sd_p"],
            "r": bins["r"],
        }


def _looks_sampled(s_w_ratio: float, r_w: float) -> bool:
    """Whether a model of undeclared kind has the spread of samples (sd ratio 1) and not of a mean (sd ratio r).

    With a sd ratio of 1 the OLS slope is r, because slope = r / ratio.
    """
    if s_w_ratio <= 0.0 or r_w <= 0.0:
        return False
    spread = math.log(s_w_ratio)
    return abs(spread) < _SAMPLE_RATIO and abs(spread) < abs(spread - math.log(r_w))


def _mapped(u: UnitMoments, m: AffineMap) -> UnitMoments:
    """Moments of the prediction after an affine map."""
    if m.slope == 1.0 and m.intercept == 0.0:
        return u
    return UnitMoments(u.n, m(u.mean_p), u.mean_y, u.pp * m.slope**2, u.yy, u.py * m.slope)


def _calibration(m: AffineMap) -> Calibration:
    return m if isinstance(m, Calibration) else Calibration(m.slope, m.intercept)


def _skipped_intervals(found: Intervals) -> dict[str, str]:
    if not found.values:
        return {"intervals": next(iter(found.skipped.values()))}
    return {f"interval of {name}": why for name, why in found.skipped.items()}


def _magnitude(interval: Interval, value: float) -> Interval:
    """The interval of the magnitude: mirrored where the estimate is negative, from 0 where it spans 0."""
    low, high = (interval.low, interval.high) if value >= 0 else (-interval.high, -interval.low)
    return Interval(max(low, 0.0), max(high, -low))


def _summary_numbers(s: Summary, share: float, pass2: SecondPass) -> dict[str, float]:
    mse = float(s.mse)
    bias, conditional = float((s.m_p - s.m_y) ** 2), float((s.s_p - s.r * s.s_y) ** 2)
    return {
        "target_mean": float(s.m_y),
        "target_sd": float(s.s_y),
        "target_min": pass2.low_y,
        "target_max": pass2.high_y,
        "prediction_mean": float(s.m_p),
        "prediction_sd": float(s.s_p),
        "prediction_min": pass2.low_p,
        "prediction_max": pass2.high_p,
        "r": float(s.r),
        "r_squared": float(s.r**2),
        "r_w": float(s.r_w),
        "r_w_squared": float(s.r_w**2),
        "s_w_ratio": float(s.s_w_ratio),
        "removable_share": share,
        "mse": mse,
        "murphy_unconditional_bias": bias,
        "murphy_conditional_bias": conditional,
        "murphy_irreducible": float((1.0 - s.r**2) * s.s_y**2),
    }


def _mispaired(findings: list[Finding], own: float, other: float) -> list[Finding]:
    """With what pairing is confounded with dropped, where another target of the same length fits: that decides."""
    seen = f"r within bin {own:.3f} with its own target, {other:.3f} with another one of the same length"
    return [
        replace(f, fault="wrong-pairs", names=("wrong-pairs",), evidence=(seen, *f.evidence))
        if "wrong-pairs" in f.names
        else f
        for f in findings
    ]


def _contradicted(explanation: Explanation) -> tuple[str, ...]:
    """The caution that the declared front end does not make these targets of this audio."""
    if explanation.skipped.get("audio") != CONTRADICTED:
        return ()
    return (f"front end: {CONTRADICTED}: calib frontends identify PAIRS --audio SOURCE names the one that does",)


def _drift(explanation: Explanation) -> tuple[str | None, float]:
    """What undid a drift in time, for people, and r within bin after it."""
    step = next((step for step in explanation.steps if "time-stretch" in step.faults), None)
    if step is None:
        return None, 0.0
    return f"a stretch in time ({step.label})", step.sample.correlation(step.sample.pc, step.sample.yc).value


def _exact_square(finding: Finding) -> bool:
    """Whether power against magnitude is an exact square or root here: then the factor 2 repairs it after all."""
    return finding.fault == "log-power" and finding.detail.startswith(("the square", "the root"))
