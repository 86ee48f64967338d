"""``calib check loss``: is it learning? What trivial predictors score in the user's loss, beside the loss that is reported."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from calib.commands import options as o
from calib.commands.check_loss_text import MOST_VALUES, LossConfig, LossResult, number, render, short
from calib.commands.judge import check_identity, differing_fields, params_warnings
from calib.commands.opening import Opening
from calib.commands.statsinput import doubts_of_data, is_statistics, load_normalizer
from calib.console import terminal
from calib.data.files import read_json
from calib.data.pairs import INDEX_NAME, Pairs, open_pairs
from calib.diagnose.loss import (
    AT,
    LOSSES,
    Floor,
    Loss,
    Normalisation,
    floors_from_statistics,
    split_reading,
    stand,
)
from calib.diagnose.losscorpus import LossCollector
from calib.errors import DataError, UsageError
from calib.mel.corpus import reader_for
from calib.mel.frontend import FrontEnd
from calib.params import MelNormalizer
from calib.run.engine import Skipped, map_corpus

__all__ = ["LossConfig", "LossResult", "loss", "render", "run"]

_SPACES = ("raw", "normalized")


def run(config: LossConfig) -> LossResult:
    """Score the predictors on the source and place the values.

    Raises:
        UsageError: an option that makes no sense.
        DataError: the source cannot be used.
        ParamsError: a statistics file that cannot be used.
    """
    _check(config)
    path = Path(Opening(config.source).place)
    frontend = None if config.frontend is None else FrontEnd.load(config.frontend)
    try:
        if is_statistics(config.source) or _is_statistics(path):
            result = _from_statistics(config, path)
        elif _is_pairs(path):
            result = _from_pairs(config, path, frontend)
        else:
            result = _from_mels(config, frontend)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    return result


def _check(c: LossConfig) -> None:
    if len(c.values) > MOST_VALUES:
        raise UsageError(f"--value was given {len(c.values)} times; one, or two to compare")
    if len(c.weights) not in {1, max(1, len(c.values))}:
        raise UsageError(f"--weight was given {len(c.weights)} times and --value {len(c.values)} times; give one weight, or one for each value")  # fmt: skip
    for name, numbers, forbidden, rule in (
        ("--weight", c.weights, 0.0, "a positive number"),
        ("--value", c.values, None, "a loss, a number of 0 or more"),
        ("--label-noise", (c.label_noise,), None, "a standard deviation of 0 or more"),
    ):
        for given in numbers:
            if not math.isfinite(given) or given < 0 or given == forbidden:
                raise UsageError(f"{name} is {given:g}; it must be {rule}")
    if c.space not in _SPACES:
        raise UsageError(f"--space is {c.space!r}; it must be raw or normalized")


def _is_statistics(path: Path) -> bool:
    """A JSON file with ``mel_mean``; a JSONL manifest is none."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    try:
        found = read_json(path)
    except DataError:
        return False
    return isinstance(found, dict) and "mel_mean" in found


def _is_pairs(path: Path) -> bool:
    if path.is_file():
        return path.name == INDEX_NAME
    if not path.is_dir():
        return False
    names = [entry.name for entry in path.iterdir()]
    return any(
        name in {INDEX_NAME, "predictions"}
        or name.startswith(("pred.", "target."))
        or Path(name).stem.endswith(".pred")
        for name in names
    )


def _normaliser(config: LossConfig, frontend: FrontEnd | None) -> MelNormalizer | None:
    if config.stats is None:
        return None
    with params_warnings():
        normalizer = load_normalizer(config.stats)
    if frontend is not None:
        check_identity(
            "frontend_id",
            normalizer.frontend_id,
            frontend.id,
            str(config.stats),
            "the source",
            differing_fields(normalizer, frontend),
        )
    return normalizer


def _bins_of(config: LossConfig, normalizer: MelNormalizer | None) -> MelNormalizer | None:
    """The statistics, where the loss is taken of mels that are normalised by bin."""
    by_bin = config.space == "normalized" and normalizer is not None and normalizer.per_bin
    return normalizer if by_bin else None


def _normalised(mel: np.ndarray, by_bin: MelNormalizer | None) -> np.ndarray:
    return mel if by_bin is None else np.asarray(by_bin.normalize(mel))


def _finish(
    config: LossConfig,
    described: str,
    statistics: tuple[float, float],
    frontend: FrontEnd | None,
    floors: list[Floor],
    notes: list[str],
    *,
    autoregressive: bool | None = None,
) -> LossResult:
    normalised = config.space == "normalized"
    unit = "sd" if normalised else frontend.unit if frontend else "mel unit"
    result = LossResult(config, described, *statistics, unit, floors, notes=notes)
    model = next(floor.loss for floor in floors if floor.name == "model")
    values, result.origin = list(config.values), "reported"
    if not values and model is not None:
        values, result.origin = [model * config.weights[0]], "pairs"
    if not values:
        result.origin = None
        return result
    weights = list(config.weights) * (len(values) if len(config.weights) == 1 else 1)
    pairs = list(zip(values, weights, strict=True))
    result.standings = [stand(v, w, floors, unit=result.loss_unit, autoregressive=autoregressive) for v, w in pairs]
    if len(pairs) == MOST_VALUES and weights[0] != weights[1]:
        result.split = split_reading(*pairs)
    if model is not None and config.values:
        last = result.standings[-1]
        if abs(last.loss - model) > AT * max(model, last.loss):
            notes.append(
                f"the pairs' own prediction scores {number(model)}{result.loss_unit}, the reported value {number(last.loss)}: other data, other terms in the loss, or another weight"
            )
    return result


def _space(config: LossConfig, normalizer: MelNormalizer | None, own: tuple[float, float]) -> Normalisation:
    if config.space == "raw" or _bins_of(config, normalizer) is not None:  # by bin: done to the mels themselves
        return Normalisation()
    return Normalisation(*own) if normalizer is None else Normalisation(normalizer.mel_mean, normalizer.mel_std)


def _from_statistics(config: LossConfig, path: Path) -> LossResult:
    for name, value in (("--frontend", config.frontend), ("--layout", config.layout), ("--limit", config.limit)):
        if value is not None:
            raise UsageError(f"{name} is about mels or audio, but {path} is a statistics file")
    with params_warnings():
        own = load_normalizer(path)
    fields = own.extra.get("frontend")
    frontend = FrontEnd.from_fields(fields) if isinstance(fields, dict) else None
    normalizer = _normaliser(config, frontend)
    if normalizer is None and own.per_bin:
        normalizer = own
    by_bin = _bins_of(config, normalizer)
    space = _space(config, normalizer, (own.mel_mean, own.mel_std))
    means, sds, whole = own.per_bin_mean, own.per_bin_std, (own.mel_mean, own.mel_std)
    if by_bin is not None:
        if means is None or sds is None or by_bin.per_bin_std is None:
            raise UsageError(f"{path} has no figures by bin, and the loss is taken of mels that are normalised by bin")
        means, sds = np.asarray(by_bin.normalize(means)), sds / by_bin.per_bin_std
        whole = float(means.mean()), float(np.sqrt((sds**2).mean() + means.var()))
    floors = floors_from_statistics(config.loss, *whole, means, sds, noise=config.label_noise, space=space)
    utterances, frames = own.extra.get("n_utterances"), own.extra.get("n_frames")
    counted = f"{utterances} utterances, {frames} frames" if utterances and frames else "from how much is not said"
    described = f"statistics {path.name}: {counted}"
    return _finish(config, described, (own.mel_mean, own.mel_std), frontend, floors, [])


def _from_mels(config: LossConfig, frontend: FrontEnd | None) -> LossResult:
    normalizer = _normaliser(config, frontend)
    corpus = Opening(config.source, config.columns, config.audio_root, config.split, config.limit).announced()
    reader = reader_for(corpus, frontend, layout=config.layout)
    skipped = Skipped(config.allow_skipped, total=len(corpus))
    by_bin = _bins_of(config, normalizer)

    def mels() -> Iterator[tuple[str, np.ndarray, None]]:
        with terminal.progress("loss", len(corpus)) as bar:
            for outcome in map_corpus(reader, corpus, jobs=1):
                bar.advance(skipped=outcome.value is None)
                if outcome.value is None:
                    skipped.add(outcome.item.id, outcome.reason or "unknown")
                else:
                    yield outcome.item.id, _normalised(outcome.value.mel, by_bin), None

    collector = _collect(mels(), skipped)
    return _scored(config, collector, normalizer, frontend)


def _from_pairs(config: LossConfig, path: Path, frontend: FrontEnd | None) -> LossResult:
    pairs = open_pairs(path, layout=config.layout, frontend=frontend, limit=config.limit)
    terminal.notice(pairs.describe())
    declared = pairs.header.get("frontend")
    stored = FrontEnd.load(declared) if declared else None
    if frontend is not None and stored is not None:
        check_identity("frontend_id", frontend.id, stored.id, "--frontend", "the pairs", frontend.differences(stored))
    frontend = frontend or stored
    normalizer = _normaliser(config, frontend)
    output = config.output_space or pairs.header.get("output_space") or "raw"
    if output not in _SPACES:
        raise UsageError(f"--output-space is {output!r}; it must be raw or normalized")
    if output == "normalized":
        if normalizer is None:
            raise UsageError(
                "the predictions are normalized, and no statistics say with what",
                hint="give the training data's: --stats mel_normalization_stats.json",
            )
        pairs.prediction_map = normalizer.denormalize
    skipped = Skipped(config.allow_skipped, total=len(pairs))
    notices: dict[str, None] = {}
    collector = _collect(_loaded(pairs, skipped, notices, _bins_of(config, normalizer)), skipped)
    notes = list(notices)[:3] + ([f"... and {len(notices) - 3} more crops"] if len(notices) > 3 else [])
    return _scored(
        config, collector, normalizer, frontend, notes=notes, autoregressive=pairs.header.get("autoregressive")
    )


def _loaded(
    pairs: Pairs, skipped: Skipped, notices: dict[str, None], by_bin: MelNormalizer | None
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    for entry in pairs:
        try:
            pair = pairs.load(entry)
        except DataError as error:
            skipped.add(entry.id, error.message)
            continue
        notices.update(dict.fromkeys(pair.notices))
        yield entry.id, _normalised(pair.target, by_bin), _normalised(pair.pred.astype(np.float64), by_bin)


def _collect(mels: Iterator[tuple[str, np.ndarray, np.ndarray | None]], skipped: Skipped) -> LossCollector:
    collector: LossCollector | None = None
    for name, target, prediction in mels:
        collector = collector or LossCollector(target.shape[-1])
        try:
            collector.add(target, prediction)
        except ValueError as error:
            skipped.add(name, str(error))
    skipped.check()
    for line in skipped.lines():
        terminal.warning(f"skipped {line}")
    if collector is None:
        raise DataError("no utterance could be used")
    return collector


def _scored(
    config: LossConfig,
    collector: LossCollector,
    normalizer: MelNormalizer | None,
    frontend: FrontEnd | None,
    *,
    notes: list[str] | None = None,
    autoregressive: bool | None = None,
) -> LossResult:
    own = collector.statistics()
    floors = collector.floors(config.loss, noise=config.label_noise, space=_space(config, normalizer, own))
    if (by_bin := _bins_of(config, normalizer)) is not None and by_bin.per_bin_std is not None:
        means, variances = collector.bins()
        means = np.asarray(by_bin.denormalize(means))
        own = float(means.mean()), float(np.sqrt((variances * by_bin.per_bin_std**2).mean() + means.var()))
    notes = notes or []
    if normalizer is not None and normalizer.frontend_id is None:
        doubts = doubts_of_data(normalizer, *own, "the targets")
        notes += [] if doubts is None else [doubts]
    if collector.padded:
        notes.append(f"{collector.padded} frames of padding (a tail that repeats exactly) were left out")
    n = collector.n_utterances
    described = f"{n} utterance{'s' * (n != 1)}, {collector.n_frames} frames"
    return _finish(config, described, own, frontend, floors, notes, autoregressive=autoregressive)


def loss(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="mel_normalization_stats.json, PAIRS, a folder of target mels, or a corpus of audio with --frontend.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str,
        typer.Option(
            "--loss",
            help="The training loss: mse, mae or huber (huber with delta 1 is PyTorch's SmoothL1Loss).",
            show_default=False,
        ),
    ],
    value: Annotated[
        list[float] | None,
        typer.Option(
            "--value",
            help="The loss that training reports for the mel term, weight included; twice to compare two.",
            show_default=False,
        ),
    ] = None,
    weight: Annotated[
        list[float] | None,
        typer.Option(
            "--weight",
            help="What the mel term is multiplied by; once, or once for each --value. Without it: 1.",
            show_default=False,
        ),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(
            "--delta",
            help="Where the Huber loss turns linear, in the unit of the loss's space. Without it: 1.",
            show_default=False,
        ),
    ] = None,
    label_noise: Annotated[
        float,
        typer.Option(
            "--label-noise", help="SD of Gaussian noise that training adds to the target, in the unit of the space."
        ),
    ] = 0.0,
    space: Annotated[
        str,
        typer.Option(
            "--space",
            help="What the loss is taken of: raw mels, or normalized ones (with --stats, else the source's own).",
        ),
    ] = "raw",
    stats: o.StatsFile = None,
    frontend: o.OptionalFrontEnd = None,
    layout: o.Layout = None,
    output_space: o.OutputSpace = None,
    columns: o.Columns = None,
    audio_root: o.AudioRoot = None,
    split: o.Split = None,
    limit: o.Limit = None,
    allow_skipped: o.AllowSkipped = 1.0,
    force: o.Force = False,
    fail_on: o.FailOn = "never",
    json_: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Is it learning? What trivial predictors score in your loss, beside the loss that training reports."""
    o.set_level(quiet=quiet, verbose=verbose, json_target=json_, force=force, fail_on=fail_on)
    if name not in LOSSES:
        raise UsageError(f"--loss is {name!r}; it must be one of {', '.join(LOSSES)}")
    if delta is not None and name != "huber":
        raise UsageError(f"--delta {delta:g} belongs to --loss huber, not to {name}")
    try:
        chosen = Loss(name) if delta is None else Loss(name, delta)
    except ValueError as error:
        raise UsageError(f"--delta: {error}") from None
    result = run(
        LossConfig(
            source,
            chosen,
            tuple(value or ()),
            tuple(weight or (1.0,)),
            label_noise,
            space,
            stats,
            frontend,
            layout,
            output_space,
            columns,
            audio_root,
            split,
            limit,
            allow_skipped,
        )
    )
    if fail_on != "never" and result.status is None:
        raise UsageError(
            f"--fail-on {fail_on} needs a loss to judge", hint="give --value, or PAIRS with the model's predictions"
        )
    o.show(render(result), short(result))
    o.emit_json(json_, result.to_json(), force=force)
    o.gate(fail_on, result.status or "pass", result.headline)
