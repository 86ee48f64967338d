"""What ``fit-scaler``, ``diagnose`` and ``report`` share: PAIRS and statistics to a Diagnosis, and a Diagnosis as text.

Data flow::

    PAIRS --OpenedPairs--> analyze --> Judgement(diagnosis, pairs, stats) --render--> lines
                                                                          --params_file--> mel_scaling_params.json
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from calib import __version__
from calib.commands.opening import Opening
from calib.commands.options import brief
from calib.commands.recordings import Recordings, find_recordings
from calib.commands.statsinput import doubts_of_data, global_space, load_normalizer, own_space
from calib.console import table, terminal
from calib.data.clip import Place
from calib.data.pairs import LengthMismatch, Pair, Pairs, open_pairs
from calib.diagnose.analysis import Diagnosis, UnusablePairError, analyze
from calib.diagnose.causes import next_steps, percent_sure, worst_first
from calib.diagnose.faults.evidence import Finding
from calib.errors import DataError, UsageError
from calib.mel.dataset import DatasetStatistics, stats_file
from calib.mel.exact import MultisetDigest
from calib.mel.frontend import FrontEnd
from calib.mel.statistics import measure
from calib.mel.variants import Variants, bank_geometry
from calib.params import SCALING_SCHEMA, MelNormalizer, ParamsWarning

__all__ = [
    "OWN_TARGETS",
    "JudgeConfig",
    "Judgement",
    "causes",
    "check_identity",
    "differing_fields",
    "judge",
    "own_stats",
    "params_file",
    "params_warnings",
    "render",
    "short",
]

# What a statistics file says that it was made from, when it was made from pairs.
OWN_TARGETS = "targets of the pairs"


@dataclass(frozen=True)
class JudgeConfig:
    """How pairs are judged; see the options of ``calib fit-scaler``."""

    pairs: Path
    stats: Path | None = None
    frontend: str | None = None
    layout: str | None = None
    output_space: str | None = None
    limit: int | None = None
    allow_skipped: float = 1.0
    seed: int = 0
    audio: str | None = None
    columns: str | None = None
    audio_root: Path | None = None
    split: str | None = None


@dataclass
class Judgement:
    """A diagnosis with what it was made from.

    Args:
        diagnosis: the result.
        opened: the pairs.
        frontend: of the targets, or None when unknown.
        stats: content of the statistics file that was given, or None.
        header: of the pairs: ids, front end, output space, kind.
        provenance: what can change the result.
        audio: whether the audio of the targets was there to be used.
        recordings: the audio file of each pair, None where there is none.
        by_bin: the statistics, where the predictions are normalised by bin with them; they were judged in the space of
            the global values.
    """

    diagnosis: Diagnosis
    opened: OpenedPairs
    frontend: FrontEnd | None
    stats: dict[str, Any] | None
    header: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)
    audio: bool = False
    recordings: list[Place | None] = field(default_factory=list)
    by_bin: MelNormalizer | None = None

    @property
    def pairs(self) -> Pairs:
        """The pairs as they lie on disk."""
        return self.opened.pairs

    @property
    def unit(self) -> str:
        """The unit of a mel value, for people."""
        return self.frontend.unit if self.frontend else "mel unit"


class OpenedPairs:
    """`Pairs` as `analyze` reads them; remembers what was noticed and identifies the content.

    Args:
        pairs: the opened pairs.
    """

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.notices: dict[str, None] = {}
        self._digest = MultisetDigest()
        self._seen: set[int] = set()

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        """Identity of a pair."""
        return self.pairs.entries[index].id

    def speaker(self, index: int) -> str | None:
        """Its speaker."""
        return self.pairs.entries[index].speaker

    def load(self, index: int) -> Pair:
        """Read one pair.

        Raises:
            UnusablePairError: it cannot be read, or its shapes do not fit.
        """
        try:
            pair = self.pairs.load(self.pairs.entries[index])
        except LengthMismatch as error:
            raise UnusablePairError(
                error.message, pred_frames=error.pred_frames, target_frames=error.target_frames
            ) from error
        except DataError as error:
            raise UnusablePairError(error.message) from error
        if pair.overflow:
            raise UnusablePairError("; ".join(pair.overflow), fatal=True)
        self.notices.update(dict.fromkeys(pair.notices))
        if index not in self._seen:
            self._seen.add(index)
            self._digest.add(np.asarray(pair.pred.shape).tobytes() + pair.pred.tobytes() + pair.target.tobytes())
        return pair

    def arrays(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Prediction and target of one pair."""
        pair = self.load(index)
        return pair.pred, pair.target

    def digest(self) -> str:
        """Identity of all pairs read, independent of names and order."""
        return self._digest.hexdigest()


def judge(config: JudgeConfig) -> Judgement:
    """Open PAIRS and statistics, check that they belong together, and analyze.

    Raises:
        DataError: PAIRS cannot be opened.
        UsageError: layout or front end cannot be told, or a front end that contradicts the pairs.
        ParamsError: the statistics cannot be used.
    """
    from threadpoolctl import threadpool_limits

    frontend = None if config.frontend is None else FrontEnd.load(config.frontend)
    pairs = open_pairs(config.pairs, layout=config.layout, frontend=frontend, limit=config.limit)
    terminal.notice(pairs.describe())
    header = pairs.header
    declared = header.get("frontend")
    stored = FrontEnd.load(declared) if declared else None
    if frontend is not None and stored is not None:
        check_identity("frontend_id", frontend.id, stored.id, "--frontend", "the pairs", frontend.differences(stored))
    frontend = frontend or stored
    normalizer = None
    if config.stats is not None:
        with params_warnings():
            normalizer = load_normalizer(config.stats)
        _check_stats(normalizer, frontend, header, config.stats)
        bins = normalizer.per_bin_mean
        if normalizer.per_bin and bins is not None and bins.size != pairs.n_mels:
            raise DataError(
                f"{config.stats}: statistics of {bins.size} mel bins, and the pairs have {pairs.n_mels}",
                hint="they belong to another front end",
            )
    space = config.output_space or header.get("output_space") or "raw"
    if space not in {"raw", "normalized"}:
        raise UsageError(f"--output-space is {space!r}; it must be raw or normalized")
    by_bin = normalizer if space == "normalized" and normalizer is not None and normalizer.per_bin else None
    if by_bin is not None:  # judged in the space of the global values, which parameter files live in
        pairs.prediction_map = global_space(by_bin)
    opened = OpenedPairs(pairs)
    paths = _paths(config, pairs)
    recordings, deaf = _recordings(paths, pairs, frontend)
    notes = (
        [
            f"{len(pairs.orphans)} files without a partner were left out: {', '.join(str(o.id) for o in pairs.orphans[:3])}"
        ]
        if pairs.orphans
        else []
    )
    with threadpool_limits(1):  # the arrays are small: a second library thread only spins
        diagnosis = analyze(
            opened,
            stats=None if normalizer is None else (normalizer.mel_mean, normalizer.mel_std),
            stats_origin=str(config.stats.name) if config.stats else "the pairs' own targets",
            output_space=space,
            kind=header.get("model_kind"),
            autoregressive=header.get("autoregressive"),
            seed=config.seed,
            allow_skipped=config.allow_skipped,
            notes=notes,
            bank=bank_geometry(frontend, pairs.n_mels),
            recomputed=None if recordings is None or frontend is None else Variants(frontend, recordings.samples),
            frame_seconds=None if frontend is None else frontend.hop_length / frontend.sample_rate,
            denormalised=_by_bin(by_bin, config),
            cautions=list(_cautions(header)),
        )
    if deaf is not None:
        diagnosis.skipped["audio"] = deaf
    if normalizer is not None and normalizer.frontend_id is None and "target_sd" in diagnosis.summary:
        s = diagnosis.summary
        doubts = doubts_of_data(normalizer, s["target_mean"], s["target_sd"], "the targets")
        if doubts is not None:
            terminal.warning(f"{config.stats}: {doubts}")
            diagnosis.notes.append(doubts)
    if recordings is not None and (problems := recordings.problems()) is not None:
        diagnosis.notes.append(problems)
    diagnosis.notes[:0] = list(opened.notices)[:10]
    if any(entry.free_running is not None for entry in pairs.entries):
        diagnosis.skipped["free running"] = "is judged with --vocoder-frontend NAME"
    provenance = {
        "version": __version__,
        "options": {
            "seed": config.seed,
            "limit": config.limit,
            "output_space": space,
        },
        "source_digest": opened.digest(),
    }
    extra = None if normalizer is None else normalizer.extra
    return Judgement(diagnosis, opened, frontend, extra, header, provenance, recordings is not None, paths, by_bin)


def _cautions(header: Mapping[str, Any]) -> Iterator[str]:
    """What the run that made the pairs found, and speaks against "healthy"."""
    if header.get("deterministic") is False and header.get("model_kind") != "sample":
        yield (
            "random: two passes over the same input differed (pairs.json: deterministic false): dropout is on, say, and this "
            "model is judged by one draw (calib check model)"
        )


def _paths(config: JudgeConfig, pairs: Pairs) -> list[Place | None]:
    """The audio file of each pair.

    Raises:
        DataError: ``--audio`` cannot be opened, or none of it belongs to a pair.
    """
    source = None
    if config.audio is not None:
        source = Opening(config.audio, config.columns, config.audio_root, config.split).announced()
    paths, said = find_recordings(pairs.entries, source)
    if said is not None:
        terminal.notice(said)
    return paths


def _recordings(
    paths: list[Place | None], pairs: Pairs, frontend: FrontEnd | None
) -> tuple[Recordings | None, str | None]:
    """The audio of the pairs, and why it cannot be used where it is there and cannot."""
    if not any(paths):
        return None, None
    if frontend is None:
        return (
            None,
            "the front end of the targets is unknown, so nothing can be made from their audio; give --frontend NAME",
        )
    if frontend.n_mels != pairs.n_mels:
        return None, f"the front end makes {frontend.n_mels} mel bins, and the targets have {pairs.n_mels}"
    return Recordings([entry.id for entry in pairs.entries], paths, frontend.sample_rate), None


@contextlib.contextmanager
def params_warnings() -> Iterator[None]:
    """What parameter files lack is said to people, not to Python's warning filters."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ParamsWarning)
        yield
    for warning in caught:
        terminal.warning(str(warning.message))


def differing_fields(normalizer: MelNormalizer, frontend: FrontEnd | None) -> dict[str, tuple[Any, Any]] | None:
    """Fields in which a statistics file's front end differs from another; None where either is unknown."""
    fields = normalizer.extra.get("frontend")
    if frontend is None or not isinstance(fields, dict):
        return None
    return FrontEnd.from_fields(fields).differences(frontend)


def check_identity(
    what: str,
    mine: str | None,
    theirs: str | None,
    my_name: str,
    their_name: str,
    fields: dict[str, tuple[Any, Any]] | None = None,
) -> None:
    """Two known identities that differ are an error that lists the differing fields; an unknown one is a warning.

    Raises:
        DataError: they differ.
    """
    if mine is None or theirs is None:
        unknown = my_name if mine is None else their_name
        terminal.warning(
            f"{what} of {unknown} is unknown: nothing shows that {my_name} and {their_name} belong together"
        )
        return
    if mine != theirs:
        listing = "; ".join(f"{key}: {a} here, {b} there" for key, (a, b) in (fields or {}).items())
        raise DataError(
            f"{what} of {my_name} is {mine}, of {their_name} {theirs}{': ' + listing if listing else ''}",
            hint="use files that were made for each other",
        )


def _by_bin(normalizer: MelNormalizer | None, config: JudgeConfig) -> tuple[str, np.ndarray, np.ndarray] | None:
    if normalizer is None or normalizer.per_bin_mean is None or normalizer.per_bin_std is None or config.stats is None:
        return None
    mean, std = (np.asarray(v, dtype=np.float64) for v in (normalizer.per_bin_mean, normalizer.per_bin_std))
    return config.stats.name, mean, std


def _check_stats(
    normalizer: MelNormalizer, frontend: FrontEnd | None, header: dict[str, Any], path: Path | None
) -> None:
    theirs = frontend.id if frontend else header.get("frontend_id")
    check_identity(
        "frontend_id", normalizer.frontend_id, theirs, str(path), "the pairs", differing_fields(normalizer, frontend)
    )
    if header.get("stats_id") and normalizer.stats_id:
        check_identity("stats_id", normalizer.stats_id, header["stats_id"], str(path), "the pairs")


def own_stats(judgement: Judgement) -> dict[str, Any]:
    """Statistics of the pairs' own targets, as a whole file, for pairs that could be judged.

    The diagnosis then refers to the same numbers to the last bit.
    """
    diagnosis, opened, frontend = judgement.diagnosis, judgement.opened, judgement.frontend
    floor = None if frontend is None else frontend.floor
    frames = {row.name: row.n_frames for row in diagnosis.utterances}
    dataset = DatasetStatistics(diagnosis.n_mels)
    for index in range(len(opened)):
        if opened.name(index) not in frames:
            continue  # unusable, and noted as such
        target = opened.arrays(index)[1][: frames[opened.name(index)]]
        seconds = target.shape[0] * frontend.hop_length / frontend.sample_rate if frontend else 0.0
        dataset.add(measure(target, floor=floor, seconds=seconds, speaker=opened.speaker(index)))
    provenance = {**judgement.provenance, "source": OWN_TARGETS, "skipped": {}}
    content = stats_file(dataset.result(floor=floor), frontend, provenance)
    diagnosis.mel_mean, diagnosis.mel_std = content["mel_mean"], content["mel_std"]
    return content


def params_file(judgement: Judgement, *, forced: bool = False) -> dict[str, Any]:
    """The content of ``mel_scaling_params.json``.

    Args:
        judgement: of pairs that can be computed on.
        forced: written although the verdict refuses; says ``no-signal``.
    """
    d, stats = judgement.diagnosis, judgement.stats or {}
    after, before = d.after, d.row("before")
    names = ("r", "r_squared", "r_w", "r_w_squared", "s_w_ratio", "removable_share")
    scale, offset, per_bin = d.scale_factor, d.offset, d.per_bin_params
    slope, intercept = d.calibration.slope, d.calibration.intercept
    if judgement.by_bin is not None:
        one = (scale, offset) if per_bin is None else (np.asarray(per_bin["scale"]), np.asarray(per_bin["offset"]))
        scales, offsets = own_space(judgement.by_bin, *one)
        per_bin = {"scale": scales.tolist(), "offset": offsets.tolist()}
        # A normalised bin has mean 0 and sd 1, for which these are the best two numbers.
        scale, offset = float(scales.mean()), float(offsets.mean())
        slope, intercept = scale * d.mel_std, offset * d.mel_std + d.mel_mean
    return {
        "schema": SCALING_SCHEMA,
        "scale_factor": scale,
        "offset": offset,
        "per_bin": per_bin,
        "floor": d.calibration.floor,
        "method": d.method,
        "verdict": "no-signal" if forced else d.verdict.state,
        "raw_map": {"slope": slope, "intercept": intercept},
        "fit": {
            **{name: d.summary[name] for name in names},
            "out_of_sample": {
                "folds": d.folds,
                "mae_before": before.mae,
                "mae_after": after.mae,
                "rmse_before": before.rmse,
                "rmse_after": after.rmse,
                "constants": {
                    name: {"mae": d.row(name).mae, "rmse": d.row(name).rmse} for name in ("global_mean", "bin_mean")
                },
            },
            "in_sample": {
                "mae_before": before.mae_in_sample,
                "mae_after": after.mae_in_sample,
                "rmse_before": before.rmse_in_sample,
                "rmse_after": after.rmse_in_sample,
            },
            "title": after.title,
            "selection": None
            if d.selection is None
            else {
                "chosen": d.selection.chosen,
                "reason": d.selection.reason,
                "beyond": d.selection.beyond,
                "constants": [constant.id for constant in d.selection.constants],
                "ambiguous": list(d.selection.ambiguous),
                "mse": {fit.name: fit.mse for fit in d.fits},
            },
            "variance_ratio": d.variance_ratio,
            "intervals_95": {name: [i.low, i.high] for name, i in d.intervals.items()},
            "resampling": d.resampling,
            "n_utterances": d.n_utterances,
            "n_frames": d.n_frames,
        },
        "state": d.verdict.state,
        "stats_id": stats.get("stats_id"),
        "frontend": judgement.frontend.fields() if judgement.frontend else None,
        "frontend_id": judgement.frontend.id
        if judgement.frontend
        else judgement.header.get("frontend_id") or stats.get("frontend_id"),
        "model_id": judgement.header.get("model_id"),
        "model": None
        if "model" not in judgement.header
        else {"options": judgement.header.get("model_options", {}), "output_space": d.output_space},
        "provenance": judgement.provenance,
    }


def render(
    judgement: Judgement, *, why: bool = True, forced: bool = False, first: Sequence[str] = (), done: str = ""
) -> list[str]:
    """A Diagnosis for a tired person: verdict, table, why, what to do next.

    Args:
        judgement: the findings.
        why: with the rules that decided.
        forced: a file was written all the same, so "nothing was written" would be untrue.
        first: steps that come before the diagnosis's own.
        done: the command that says it, which sends nobody to itself.
    """
    d, unit = judgement.diagnosis, judgement.unit
    v = d.verdict
    lines = [v.headline, v.sentence + ".", *causes(d)]
    if v.refusal and not forced:
        lines.append(v.refusal + ".")
    lines += [f"warning: {text}." for text in v.warnings]
    lines.append("")
    if d.rows:
        lines += _figures(d, unit)
    lines += [f"note: {note}" for note in d.notes]
    reasons: dict[str, list[str]] = {}
    for what, reason in d.skipped.items():
        reasons.setdefault(reason, []).append(what)
    lines += [f"skipped: {', '.join(what)}: {reason}" for reason, what in reasons.items()]
    if why and v.checks:
        lines += [
            "",
            "why (the first state whose rules all hold decides):",
            *(f"  {check.text()}" for check in v.checks),
        ]
    steps = next_steps(d, done, first)
    return [*lines, "", "next:", *(f"  {number}. {step}" for number, step in enumerate(steps, 1))]


def short(
    judgement: Judgement, *, verdict: str | None = None, first: Sequence[str] = (), written: bool = False
) -> list[str]:
    """What ``-q`` shows: the verdict (another one, where legs were measured), the causes, the first step.

    Args:
        judgement: the findings.
        verdict: in place of the diagnosis's own.
        first: as in `render`.
        written: the parameters that the findings ask for are there, so the first step is to use them.
    """
    d = judgement.diagnosis
    return brief(
        verdict or f"{d.verdict.headline}; {d.verdict.sentence}.",
        [_cause(finding) for finding in worst_first(d.faults)],
        d.verdict.next_steps if written else next_steps(d, first=first),
    )


def causes(d: Diagnosis) -> list[str]:
    """What is wrong by name, the worst first: how sure, what was measured, and how it comes about."""
    lines = []
    for finding in worst_first(d.faults):
        lines.append(_cause(finding))
        lines += [f"    {text}" for text in finding.evidence]
        lines.append(f"    why: {finding.entry.cause}")
    return lines


def _cause(finding: Finding) -> str:
    return f"cause: {finding.sentence} (confidence {percent_sure(finding)})"


def _affine(value: float) -> str:
    """A parameter for people; what is only rounding is 0."""
    return "0" if abs(value) < 1e-9 else f"{value:.5g}"


def _figures(d: Diagnosis, unit: str) -> list[str]:
    s = d.summary
    single = d.n_utterances == 1
    sample = f"in sample: fitted and scored on {'this one utterance' if single else 'the same utterances'}"
    out = [
        (
            f"{d.n_utterances} utterance{'s' * (d.n_utterances != 1)}, {d.n_frames} frames, {d.n_mels} bins; target mean {s['target_mean']:.4f}, sd {s['target_sd']:.4f}; "
            f"prediction mean {s['prediction_mean']:.4f}, sd {s['prediction_sd']:.4f} ({unit})"
        ),
        f"r {s['r']:.4f}, R² {s['r_squared']:.5f}; within bin r {s['r_w']:.4f}, sd ratio {s['s_w_ratio']:.4f}; removable share of the squared error {s['removable_share']:.1%}",
        "",
    ]
    rows = []
    for row in d.rows:
        written = d.verdict.writes and row.name == d.after.name
        numbers = [
            f"{x:.4f}"
            for x in (
                (row.mae_in_sample, row.rmse_in_sample, row.mae, row.rmse)
                if single
                else (row.mae, row.rmse, row.mae_in_sample, row.rmse_in_sample)
            )
        ]
        affine = (
            ["", ""]
            if row.scale_factor is None or row.offset is None
            else [_affine(row.scale_factor), _affine(row.offset)]
        )
        rows.append([row.title + (" (chosen)" if written else ""), *numbers, *affine])
    outside = "unseen blocks" if single else "unseen"
    first, second = ("in sample", outside) if single else (outside, "in sample")
    out += table(
        ["predictor", f"MAE {first}", f"RMSE {first}", f"MAE {second}", f"RMSE {second}", "scale_factor", "offset"],
        rows,
    )
    out += [
        "",
        f"{outside}: {d.folds}; {sample}.",
        f"scale_factor and offset are in the space normalised with mean {d.mel_mean:.4f}, sd {d.mel_std:.4f} ({d.stats_origin}); MAE and RMSE in {unit}.",
    ]
    intervals = ", ".join(
        f"{label} {d.intervals[name].low:.4g} to {d.intervals[name].high:.4g}"
        for name, label in (("r_w", "r within bin"), ("slope_ols", "slope"), ("intercept_ols", "intercept"))
        if name in d.intervals
    )
    if intervals:
        out.append(f"95 % intervals ({d.resampling}): {intervals}")
    return out
