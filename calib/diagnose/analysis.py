"""``analyze``: pairs in, one `Diagnosis` out. ``fit-scaler``, ``diagnose`` and ``report`` are its renderings.

Data flow, two passes over the pairs::

    pass 1   padding off -> UnitMoments a unit           -> Moments: fits by fold, intervals, r within bin
             a sample of utterances, held in memory      -> null distribution, lags, flips, pairings
    pass 2   errors of every predictor, with the maps and constants of the *other* folds
             histograms, density, per-utterance table
    verdict  Evidence -> decide

Conventions:
    A *raw map* is ``target = slope * prediction + intercept``, in the units of the target. ``scale_factor`` and
    ``offset`` are the same map in the normalised space: ``slope / mel_std`` and ``(intercept - mel_mean) / mel_std``.
    MAE and RMSE are in the unit of the target mel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calib.diagnose.causes import untested
from calib.diagnose.diagnosis import AffineMap, Diagnosis, Interval, Row, Utterance
from calib.diagnose.faults.explain import Explanation, explain
from calib.diagnose.faults.geometry import BankGeometry, Recomputed
from calib.diagnose.moments import Moments, Summary, UnitMoments, unit_moments
from calib.diagnose.nulls import NullDistribution, StructureProbe, structure_probe, swap_null, time_shift_null
from calib.diagnose.reading import FOLDS, MIN_UTTERANCES, PairSet, Reader, UnusablePairError
from calib.diagnose.scores import SecondPass
from calib.diagnose.verdict import Evidence, decide

__all__ = ["AffineMap", "Diagnosis", "Interval", "PairSet", "Row", "UnusablePairError", "Utterance", "analyze"]

_DRAWS = 2000
_BLOCK_FRAMES = 100
_BLOCK_STEP = 10
_MAX_CLUSTERS = 512  # more utterances than that are resampled in groups of neighbours
_PER_BIN_GAIN = 0.1
_EXTREME = 50.0  # sd
_COPYING = 0.99
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
    """
    notes = list(notes)
    reader = Reader(pairs, notes, allow_skipped)
    invalid, own = reader.first_pass()
    mean, std = stats or own
    if invalid or reader.n_frames < 3 * FOLDS:
        verdict = decide(Evidence(reader.n_frames, invalid=tuple(invalid)))
        why = "the data cannot be judged" if invalid else verdict.sentence
        return Diagnosis(
            verdict, len(reader.usable), reader.n_frames, reader.n_mels, mean, std or 1.0, stats_origin, output_space, kind, faults=reader.faults, notes=notes,
            skipped=dict.fromkeys(("metrics", "fits", "null", "histograms", "utterances"), why),
        )  # fmt: skip
    baseline = AffineMap(std, mean) if output_space == "normalized" else AffineMap(1.0, 0.0)
    context = _Context(
        baseline, mean, std, stats is None, stats_origin, output_space, kind, autoregressive, seed, bank, recomputed, library
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


class _Analysis:
    """The work behind `analyze`, on data that can be judged."""

    def __init__(self, reader: Reader, context: _Context) -> None:
        self.reader, self.context, self.baseline = reader, context, context.baseline
        self.mean, self.std = context.mean, context.std
        self.kind, self.autoregressive, self.seed = context.kind, context.autoregressive, context.seed
        self.moments = Moments([_mapped(u, context.baseline) for u in reader.moments])
        self.summary = self.moments.summary()
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
            return np.array([numbers[str(s)] % FOLDS for s in speakers]), f"{FOLDS} folds grouped by speaker"
        return units % FOLDS, f"{FOLDS} folds grouped by utterance"

    def run(self) -> Diagnosis:
        """All passes, then the verdict."""
        s, reader = self.summary, self.reader
        sample_like = self.kind == "sample" or (
            self.kind is None and _looks_sampled(float(s.s_w_ratio), abs(float(s.r_w)))
        )
        chosen = "moments" if sample_like else "ols"
        draws = self._draws()
        intervals = _intervals(draws, sample_like)
        sampled = reader.probe_sample()
        frames = [self._frames(index) for index in sampled]
        null, probe, structure, structure_r = self._dependence(frames)
        explanation = self._explain(frames, sampled)
        pass2 = SecondPass(self, chosen)
        pass2.run()
        maps = pass2.inside[0]
        rows = pass2.rows()
        by_name = {row.name: row for row in rows}
        share = float(s.removable_share(sample_like=sample_like))
        constant = min(by_name["global_mean"].mae, by_name["bin_mean"].mae)
        r_interval = _magnitude(intervals["r_w"], float(s.r_w))
        serious, plain = self._findings(pass2, null, probe, by_name[chosen])
        verdict = decide(
            Evidence(
                findings=len(serious) + len(explanation.findings),
                n_frames=reader.n_frames,
                r_w=float(s.r_w),
                r_w_low=r_interval.low,
                r_w_high=r_interval.high,
                null_limit=null.limit,
                s_w_ratio=float(s.s_w_ratio),
                share=share,
                skill=1.0 - (by_name[chosen].rmse / by_name["bin_mean"].rmse) ** 2 if by_name["bin_mean"].rmse else 0.0,
                gate_ratio=by_name[chosen].mae / constant if constant else float("inf"),
                identity_gate_ratio=by_name["before"].mae / constant if constant else float("inf"),
                best_lag=probe.best_lag,
                lag_r=probe.by_lag[probe.best_lag],
                structure=structure,
                structure_r=structure_r,
                autoregressive=self.autoregressive,
            )
        )
        method = "identity" if verdict.state == "healthy" else chosen
        local = AffineMap(1.0, 0.0) if method == "identity" else maps[method]
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
            intervals=intervals,
            rows=rows,
            folds=self.folds_text,
            resampling=self._resampling_text(),
            null=null,
            probe=probe,
            per_bin=self._per_bin(local),
            histograms=pass2.histograms(identity=method == "identity"),
            density=pass2.joint(),
            utterances=pass2.utterances("before" if method == "identity" else method),
            notes=self.reader.notes,
            faults=explanation.findings,
        )
        d.notes += serious + plain
        d.skipped |= untested(explanation, bank=self.context.bank, n_utterances=len(sampled), library=self.context.library)
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
            autoregressive=c.autoregressive, library=c.library,
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

    # --- uncertainty --------------------------------------------------------------------------------------------

    def _resampling_text(self) -> str:
        if self.reader.by_utterance:
            return f"{_DRAWS} bootstrap draws of whole utterances"
        return f"{_DRAWS} draws of moving blocks of {_BLOCK_FRAMES} frames, within these utterances only"

    def _draws(self) -> Summary:
        """Bootstrap draws of the summary."""
        rng = np.random.default_rng(self.seed)
        if self.reader.by_utterance:
            moments = _grouped(self.moments)
            count = len(moments)
            return moments.summary(rng.multinomial(count, np.full(count, 1.0 / count), size=_DRAWS))
        blocks: list[UnitMoments] = []
        for index in self.reader.usable:
            p, y = self.reader.arrays(index)
            last = max(p.shape[0] - _BLOCK_FRAMES, 0)
            starts = sorted({*range(0, last + 1, _BLOCK_STEP), last})
            blocks += [
                _mapped(unit_moments(p[a : a + _BLOCK_FRAMES], y[a : a + _BLOCK_FRAMES]), self.baseline) for a in starts
            ]
        count = max(1, round(self.reader.n_frames / _BLOCK_FRAMES))
        return Moments(blocks).summary(rng.multinomial(count, np.full(len(blocks), 1.0 / len(blocks)), size=_DRAWS))

    # --- dependence ---------------------------------------------------------------------------------------------

    def _dependence(self, frames: list[tuple[np.ndarray, np.ndarray]]) -> tuple[NullDistribution, StructureProbe, str | None, float]:
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
                candidates["pairing each prediction with another target of the same length"] = swapped.best
        else:
            null = time_shift_null(centred)
        name = max(candidates, key=lambda key: abs(candidates[key]))
        return null, probe, name, candidates[name]

    def _findings(
        self, pass2: SecondPass, null: NullDistribution, probe: StructureProbe, after: Row
    ) -> tuple[list[str], list[str]]:
        """What is noticed beside the verdict, never a state: what qualifies "healthy", and what does not."""
        serious: list[str] = []
        plain: list[str] = []
        s = self.summary
        if float(s.r_w) < -null.limit:
            serious.append(
                "the prediction is upside down (r is negative): look for a sign error, or mean and sd exchanged"
            )
        gain = self.moments.per_bin_share() - float(s.removable_share(sample_like=False))
        if gain > _PER_BIN_GAIN and abs(float(s.r_w)) > null.limit:
            serious.append(
                f"a scale and offset for each bin would remove {gain:.0%} of the squared error more than the global ones: "
                "level or gain differ by bin (another filterbank, an equaliser, per-bin statistics)"
            )
        reach = max(pass2.high_p - float(s.m_p), float(s.m_p) - pass2.low_p)
        if float(s.s_p) > 0 and reach > _EXTREME * float(s.s_p):
            serious.append(
                f"the prediction holds extreme values ({pass2.low_p:.4g} to {pass2.high_p:.4g}, sd {float(s.s_p):.4g}): "
                "they alone can decide r and the fit"
            )
        if self.autoregressive is True:
            copied, own = probe.by_lag[1], probe.by_lag[0]
            if copied > _COPYING and copied > own:
                serious.append(
                    f"copying: the prediction is nearly the previous true frame (r {copied:.3f} with it, {own:.3f} with its "
                    "own): teacher forcing shows it the answer, free running will not"
                )
            persistence = pass2.row("persistence").mae
            if after.mae >= persistence:
                plain.append(
                    f"persistence: the previous true frame alone has MAE {persistence:.3f}, the model {after.mae:.3f}"
                )
        return serious, plain

    def _per_bin(self, local: AffineMap) -> dict[str, np.ndarray]:
        bins = self.moments.per_bin()
        return {
            "target_mean": bins["mean_y"],
            "target_sd": bins["sd_y"],
            "prediction_mean": bins["mean_p"],
            "prediction_sd": bins["sd_p"],
            "calibrated_mean": local(bins["mean_p"]),
            "calibrated_sd": abs(local.slope) * bins["sd_p"],
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


def _grouped(moments: Moments) -> Moments:
    """Neighbouring units merged, so that resampling many thousands of utterances stays cheap."""
    if len(moments) <= _MAX_CLUSTERS:
        return moments
    out = Moments.__new__(Moments)
    edges = np.linspace(0, len(moments), _MAX_CLUSTERS + 1).astype(int)[:-1]
    out.n = np.add.reduceat(moments.n, edges)
    out.sums = np.add.reduceat(moments.sums, edges, axis=0)
    out.shift_p, out.shift_y = moments.shift_p, moments.shift_y
    return out


def _intervals(draws: Summary, sample_like: bool) -> dict[str, Interval]:
    slope_ols, slope_mm = draws.slope_ols, draws.slope_mm
    values = {
        "r": draws.r,
        "r_w": draws.r_w,
        "s_w_ratio": draws.s_w_ratio,
        "slope_ols": slope_ols,
        "intercept_ols": draws.intercept(slope_ols),
        "slope_moments": slope_mm,
        "intercept_moments": draws.intercept(slope_mm),
        "removable_share": draws.removable_share(sample_like=sample_like),
    }
    return {name: Interval(*(float(q) for q in np.quantile(v, (0.025, 0.975)))) for name, v in values.items()}


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


