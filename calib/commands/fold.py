"""``calib fold``: the calibration written into the weights, so that inference reads no parameters and computes nothing more.

Data flow: parameters -> affine map -> tensors of one layer -> a new checkpoint in a temporary folder -> both are run on test
mels, and only where they agree the new one is moved to its place, with parameters that change nothing any more.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from calib import __version__
from calib.commands import options as o
from calib.commands.calibration import PARAMS_NAME, Consumer, load_calibration, refuse_twice
from calib.commands.foldproof import (
    TOLERANCE,
    Proof,
    Sample,
    model_samples,
    prove_layer,
    prove_model,
    prove_vocoder,
    vocoder_samples,
)
from calib.commands.judge import params_warnings
from calib.commands.plugins import LoadedModel, ModelConfig, VocoderConfig, open_model
from calib.commands.statsinput import load_normalizer, statistics_of
from calib.console import terminal
from calib.data.checkpoints import Checkpoint, model_id, read_checkpoint
from calib.data.files import ensure_writable, read_json, write_json
from calib.data.rewrite import copy_companions, rewrite
from calib.errors import DataError, RefusedError, UsageError, missing
from calib.folding import (  # fmt: skip
    Affine,
    affine_of,
    fold_buffers,
    fold_first,
    fold_last,
    fold_residual,
    has_buffers,
    pass_through,
    residual,
    same_size,
    the_first,
    the_last,
)
from calib.mel.frontend import FrontEnd
from calib.models.loading import load_vocoder, parse_options, resolve_device
from calib.params import SCALING_SCHEMA, MelNormalizer, MelScaler

__all__ = ["FoldConfig", "FoldResult", "run"]

STATS_NAME = "mel_normalization_stats.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "bigvgan_generator.pt", "g_*", "generator*", "*.safetensors", "*.pt", "*.pth", "*.ckpt", "*.bin")  # fmt: skip
_LISTED = 6
_BESIDE_VOCODERS = {"config.json", "config.yaml", "config.yml"}

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True)
class FoldConfig:
    """What ``calib fold`` needs; see its options. Without model and vocoder only ``checkpoint`` and ``layers`` are known."""

    output: Path
    params: Path | None = None
    stats: Path | None = None
    model: ModelConfig | None = None
    vocoder: VocoderConfig | None = None
    checkpoint: str | None = None
    layers: tuple[str, ...] = ()
    into: str = "raw"
    allow_edges: bool = False
    keep_floor: bool = False
    proof: str | None = None
    limit: int | None = None
    force: bool = False
    unproven: bool = False


@dataclass(frozen=True)
class FoldResult:
    """What was written.

    Args:
        content: of the new parameter file.
        checkpoint: the new weights.
        params: the new parameter file.
        proof: what was compared.
        lines: for people.
    """

    content: dict[str, Any]
    checkpoint: Path
    params: Path
    proof: Proof
    lines: list[str]


@dataclass(frozen=True)
class _Parameters:
    """What is folded."""

    scaler: MelScaler | None
    normalizer: MelNormalizer
    affine: Affine
    floor: float | None


def run(config: FoldConfig) -> FoldResult:
    """Fold, prove, write.

    Raises:
        UsageError: options that do not fit, a layer that is not there or not the only one, an output that exists.
        ParamsError, DataError: files that cannot be used, or made for another model.
        RefusedError: a floor, edges, no bias for an offset; folded and unfolded output differ; or neither model nor vocoder
            is there to be run, and ``unproven`` does not accept that. Nothing is written.
        PluginError: the model or the vocoder failed.
    """
    _check(config)
    loaded = None if config.model is None else open_model(config.model)
    parameters = _parameters(config, loaded)
    vocoder, frontend = None, None
    if config.vocoder is not None:
        vocoder = _open_vocoder(config.vocoder)
        frontend = FrontEnd.load(vocoder.frontend)
        refuse_twice(vocoder, parameters.scaler)
    given = config.checkpoint
    if config.model is not None:
        given = getattr(loaded.model if loaded else None, "checkpoint_file", None) or config.model.checkpoint
    if config.vocoder is not None:
        given = getattr(vocoder, "checkpoint_file", None) or config.vocoder.checkpoint
    path = _weights_file(given)
    for name in (path.name, PARAMS_NAME):
        ensure_writable(config.output / name, force=config.force)
    _refuse_other_statistics(config, parameters)
    found = read_checkpoint(path)
    n_mels = frontend.n_mels if frontend is not None else None if loaded is None else loaded.frontend.n_mels
    folded, layer, exact = _folded(config, found.weights, parameters, n_mels)
    others = [] if config.model or config.vocoder else same_size(found.weights, layer)
    _refuse_unproven(config, layer, others)
    with tempfile.TemporaryDirectory(prefix="calib-fold-") as folder:
        staged = Path(folder) / path.name
        left = rewrite(found, folded, staged)
        is_folder = _was_folder(config)
        companions = copy_companions(path.parent, Path(folder), None if is_folder else _BESIDE_VOCODERS if config.vocoder else set())  # fmt: skip
        again = str(folder if is_folder else staged)
        proof = _prove(config, parameters, loaded, vocoder, frontend, again, found, folded, layer)
        _judge(proof, config, exact=exact, half=_half(found))
        for name in [
            path.name,
            *(name for name in companions if name not in {PARAMS_NAME, STATS_NAME}),
        ]:  # an earlier fold's
            target = config.output / name
            if name != path.name and target.exists():
                continue  # a configuration that is there already is the user's
            shutil.copyfile(Path(folder) / name, target)
    content = _content(config, parameters, layer, proof, folded, path)
    write_json(config.output / PARAMS_NAME, content, force=config.force)
    write_json(config.output / STATS_NAME, parameters.normalizer.extra, force=True)
    lines = _lines(config, parameters, layer, proof, left, others)
    return FoldResult(content, config.output / path.name, config.output / PARAMS_NAME, proof, lines)


# --- what is asked ----------------------------------------------------------------------------------------------------


def _check(config: FoldConfig) -> None:
    if config.params is None and config.stats is None:
        raise UsageError("nothing to fold: give --params, or --stats alone for the normaliser")
    if config.model is not None and config.vocoder is not None:
        raise UsageError("--model and --vocoder: the calibration goes into one of them")
    if config.model is None and config.vocoder is None:
        if config.checkpoint is None:
            raise UsageError("fold into what? give --model or --vocoder, or --checkpoint with --layer")
        if len(config.layers) != 1:
            raise UsageError(
                "without --model only the tensors are known, and one layer can be proven",
                hint="give --layer NAME, or --model",
            )
    if config.into not in {"raw", "normalized"}:
        raise UsageError(f"--into is {config.into!r}; it must be raw or normalized")
    if config.into == "normalized" and (config.vocoder is not None or config.params is None):
        why = "a vocoder takes raw mels" if config.vocoder is not None else "the statistics alone lead to raw mels"
        raise UsageError(f"--into normalized: {why}")
    if config.output.is_file():
        raise UsageError(f"-o {config.output} is a file; it must be a folder")


def _parameters(config: FoldConfig, loaded: LoadedModel | None) -> _Parameters:
    """The two files, checked against the model as `calib synth` does it."""
    stats = config.stats if config.params is None else statistics_of(config.params, config.stats)
    assert stats is not None
    with params_warnings():
        if loaded is not None:
            calibration = load_calibration(config.params, stats, Consumer.of(loaded))
            scaler, normalizer = calibration.scaler, calibration.normalizer
            if scaler is None and normalizer is None:
                raise UsageError("the model gives raw mels, so there is no normaliser to fold", hint="give --params")
        else:
            normalizer = load_normalizer(stats)
            scaler = None if config.params is None else MelScaler.load(config.params, replace(normalizer, per_bin=False))  # fmt: skip
    if scaler is not None:
        normalizer = scaler.normalizer
    assert normalizer is not None
    floor = None if scaler is None else scaler.floor
    if floor is not None and config.into == "raw" and not config.keep_floor:
        raise RefusedError(
            f"the parameters end with a floor at {floor:g}, which is a clamp and no affine map: weights cannot hold it",
            hint="--keep-floor folds the rest and leaves the clamp in the new parameters" if config.vocoder is None else "fold into the model with --keep-floor, or fit without a floor",
        )  # fmt: skip
    if floor is not None and config.vocoder is not None:
        raise RefusedError("a floor lies between the calibration and the vocoder: it cannot be kept outside the vocoder's weights")  # fmt: skip
    return _Parameters(scaler, normalizer, affine_of(scaler, normalizer, normalized=config.into == "normalized"), floor)


def _refuse_other_statistics(config: FoldConfig, parameters: _Parameters) -> None:
    """The statistics go beside the new parameters, but not over others.

    Raises:
        UsageError: others are there.
    """
    path = config.output / STATS_NAME
    if path.exists() and not config.force and read_json(path) != parameters.normalizer.extra:
        raise UsageError(f"{path} holds other statistics and is not overwritten", hint="choose another -o, or give --force")  # fmt: skip


def _open_vocoder(config: VocoderConfig) -> Any:
    if config.spec == "griffin-lim":
        raise UsageError("griffin-lim has no weights to fold into")
    return load_vocoder(config.spec, config.checkpoint, resolve_device(config.device), config.options)


def _was_folder(config: FoldConfig) -> bool:
    given = config.model.checkpoint if config.model else config.vocoder.checkpoint if config.vocoder else config.checkpoint  # fmt: skip
    return given is not None and Path(given).is_dir()


def _weights_file(given: str | None) -> Path:
    """The one file that holds the weights.

    Raises:
        UsageError: none is known, or there are several.
        DataError: no such file.
    """
    if given is None:
        raise UsageError("where are the weights? give --checkpoint (or --vocoder-checkpoint)")
    path = Path(given)
    if not path.is_dir():
        if not path.is_file():
            raise missing(given)
        return path
    for pattern in _WEIGHTS:
        files = sorted(file for file in path.glob(pattern) if file.is_file() and file.suffix not in {".json", ".yaml"})
        if files and pattern == "g_*":
            return files[-1]
        if len(files) > 1:
            raise UsageError(f"{path} holds several checkpoints: {', '.join(file.name for file in files[:6])}", hint="name the file")  # fmt: skip
        if files:
            return files[0]
    raise DataError(f"{path} holds no weights")


def _folded(
    config: FoldConfig, tensors: dict[str, Any], parameters: _Parameters, n_mels: int | None
) -> tuple[dict[str, Any], str, bool]:
    """The new tensors, the layer, and whether algebra alone says that it is exact everywhere."""
    affine = parameters.affine
    if config.vocoder is None:
        three = residual(tensors, config.layers)
        if three is not None:
            return fold_residual(tensors, three, affine), ", ".join(three), True
        layer = the_last(tensors, config.layers[0] if config.layers else None, n_mels)
        return fold_last(tensors, layer, affine), layer, True
    assert n_mels is not None
    if len(config.layers) > 1:
        raise UsageError("a vocoder has one first layer, and --layer is given more than once")
    if not config.layers and has_buffers(tensors, n_mels):
        return fold_buffers(tensors, affine), "mean, scale", True
    layer = the_first(tensors, config.layers[0] if config.layers else None, n_mels)
    return fold_first(tensors, layer, affine), layer, not affine.shifts


def _refuse_unproven(config: FoldConfig, layer: str, others: list[str]) -> None:
    """A layer alone says nothing of what the model makes of it.

    Raises:
        RefusedError: no model is run, and the user has not accepted that.
    """
    if config.model is not None or config.vocoder is not None or config.unproven:
        return
    after = f"; the checkpoint has {_others(others)}, which may follow {layer}" if others else ""
    raise RefusedError(
        f"without --model the fold is unproven: whether the model gives the mel by {layer} alone, or a postnet or a denormalisation follows it, cannot be seen in the tensors{after}; nothing was written",
        hint="--model SPEC runs the model and proves it; --unproven writes the changed layer all the same",
    )


def _others(others: list[str]) -> str:
    listed = ", ".join(others[:_LISTED]) + (f" and {len(others) - _LISTED} more" if len(others) > _LISTED else "")
    return f"{'another layer' if len(others) == 1 else f'{len(others)} other layers'} with as many outputs ({listed})"


# --- proof ------------------------------------------------------------------------------------------------------------


def _prove(
    config: FoldConfig,
    parameters: _Parameters,
    loaded: LoadedModel | None,
    vocoder: Any,
    frontend: FrontEnd | None,
    again: str,
    found: Checkpoint,
    folded: dict[str, Any],
    layer: str,
) -> Proof:
    scaler = parameters.scaler or MelScaler(1.0, 0.0, normalizer=parameters.normalizer)
    if parameters.scaler is None and parameters.normalizer.per_bin:
        calibrate = parameters.normalizer.denormalize
    elif config.into == "normalized":
        calibrate = scaler.scale
    else:
        calibrate = replace(scaler, floor=None).calibrate
    if config.vocoder is not None:
        assert frontend is not None
        other = load_vocoder(config.vocoder.spec, again, resolve_device(config.vocoder.device), _moved(config.vocoder))
        mels = vocoder_samples(frontend, parameters.affine, config.proof, config.limit)
        return prove_vocoder(config.vocoder.spec, vocoder, other, calibrate, mels, frontend)
    if config.model is None or loaded is None:
        return prove_layer(found.weights, folded, layer, calibrate)
    samples: list[Sample] = model_samples(loaded, config.proof, config.limit)
    # What the plug-in declares is of the old weights; what comes out of the new ones is compared as it is.
    return prove_model(loaded, open_model(replace(config.model, checkpoint=again)), calibrate, samples)


def _moved(config: VocoderConfig) -> dict[str, Any]:
    """The options, with the configuration where it is and not beside the new weights."""
    options = dict(config.options)
    if "config" in options:
        options["config"] = str(Path(options["config"]).resolve())
    return options


# Mel units (or full scale): three times the spacing of numbers near 10. A larger difference has another cause.
_ROUNDING = {"float16": 0.025, "bfloat16": 0.2}


def _half(found: Checkpoint) -> str | None:
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in found.weights.values()}
    return next((kind for kind in ("float16", "bfloat16") if kind in kinds), None)


def _judge(proof: Proof, config: FoldConfig, *, exact: bool, half: str | None) -> None:
    """Refuse what does not agree.

    Raises:
        RefusedError: with the figures.
    """
    if proof.fails:
        why = (
            f"; its weights are {half}, whose rounding alone is larger than that"
            if half and proof.difference <= _ROUNDING[half]
            else ""
        )
        raise RefusedError(f"the fold is not proven: {proof.fails}{why}; nothing was written", hint=proof.hint)  # fmt: skip
    if proof.edge_frames and exact:
        raise RefusedError(f"folded and unfolded output differ in the {proof.edge_frames} first and last frames by up to {proof.edge_difference:.2g}; nothing was written")  # fmt: skip
    if proof.edge_frames and not config.allow_edges:
        raise RefusedError(
            f"the vocoder pads the mel with zeros, which an offset moves: the first and last {proof.edge_frames} frames ({proof.edge_seconds * 1e3:.0f} ms) differ by up to {proof.edge_difference:.2g} of full scale, all between by {proof.difference:.1g}; nothing was written",
            hint="--allow-edges accepts that; a fold into the model, or into a vocoder that normalises its input, has no edges",
        )


# --- what is written --------------------------------------------------------------------------------------------------


def _content(
    config: FoldConfig, parameters: _Parameters, layer: str, proof: Proof, folded: dict[str, Any], path: Path
) -> dict[str, Any]:
    normalizer, scaler = parameters.normalizer, parameters.scaler
    old: dict[str, Any] = {} if scaler is None else scaler.extra
    scale, offset = (1.0, 0.0) if config.into == "normalized" else pass_through(normalizer)
    identity = model_id(folded)
    content: dict[str, Any] = {
        "schema": SCALING_SCHEMA,
        "scale_factor": scale,
        "offset": offset,
        "per_bin": None,
        "method": "folded",
        "verdict": None if scaler is None else scaler.verdict,
        "floor": parameters.floor,
        "fit": old.get("fit"),
        "stats_id": normalizer.stats_id,
        "frontend_id": normalizer.frontend_id if scaler is None else scaler.frontend_id or normalizer.frontend_id,
        "model_id": identity if config.vocoder is None else None if scaler is None else scaler.model_id,
        **{key: old[key] for key in ("model", "frontend") if key in old},
        "folded": {
            "into": "vocoder" if config.vocoder is not None else "model",
            "gives": "audio" if config.vocoder is not None else config.into,
            "proven": proof.what != "layer",
            "layer": layer,
            "file": path.name,
            "vocoder_id": identity if config.vocoder is not None else None,
            "from": {
                "scale_factor": None if scaler is None else scaler.scale_factor,
                "offset": None if scaler is None else scaler.offset,
                "per_bin": parameters.affine.by_bin,
                "method": old.get("method"),
                "stats_id": normalizer.stats_id,
                "model_id": None if scaler is None else scaler.model_id,
            },
            "proof": proof.to_json(),
        },
        "provenance": {"version": __version__, "options": {"into": config.into, "allow_edges": config.allow_edges, "keep_floor": config.keep_floor, "unproven": config.unproven}},
    }  # fmt: skip
    return {key: value for key, value in content.items() if value is not None or key in {"per_bin", "floor", "stats_id", "frontend_id", "model_id"}}  # fmt: skip


def _lines(config: FoldConfig, parameters: _Parameters, layer: str, proof: Proof, left: list[str], others: list[str]) -> list[str]:  # fmt: skip
    affine = parameters.affine
    size = "one scale and offset by bin" if affine.by_bin else f"scale {float(affine.scale):.6g}, offset {float(affine.offset):.6g}"  # fmt: skip
    unproven = proof.what == "layer"
    if unproven:
        out = [f"layer {layer} changed, model unproven: {size}", proof.line()]
        after = (
            f" The checkpoint has {_others(others)}: if one of them follows {layer}, the new checkpoint is wrong."
            if others
            else ""
        )
        out.append(f"the new parameters change nothing and are right only if the model gives what {layer} gives, with no postnet and no denormalisation after it; calib fold --model SPEC proves or refuses that.{after}")  # fmt: skip
    else:
        out = [f"folded into {layer}: {size}", proof.line()]
    if config.vocoder is not None:
        out.append("the vocoder now takes the model's own output; the new parameters change nothing, for inference that wants a file")  # fmt: skip
    elif config.into == "raw" and not unproven:
        out.append("the model now gives calibrated raw mels; the new parameters change nothing, for inference that wants a file")  # fmt: skip
    elif not unproven:
        out.append("the model now gives calibrated normalised mels; the new parameters are scale 1 and offset 0")
    if parameters.floor is not None:
        out.append(f"the floor at {parameters.floor:g} is no affine map and stays in the new parameters")
    if left:
        out.append(f"left out of the checkpoint, because it belongs to the old weights or is no plain data: {', '.join(left)}")  # fmt: skip
    return out


@app.command(
    help="The calibration written into the weights: a new checkpoint that needs none, proven on test mels to give the same, or a refusal."
)
def fold(
    output: o.Output = None,
    params: o.ParamsFile = None,
    stats: o.StatsFile = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Fold into this model's last layer: an installed name, package.module:factory, or path/to/file.py:factory.",
            show_default=False,
        ),
    ] = None,
    checkpoint: o.Checkpoint = None,
    model_option: o.ModelOption = None,
    vocoder: Annotated[
        str | None,
        typer.Option(
            "--vocoder",
            help="Fold into this vocoder's first layer: an installed name, package.module:factory, or path/to/file.py:factory.",
            show_default=False,
        ),
    ] = None,
    vocoder_checkpoint: o.VocoderCheckpoint = None,
    vocoder_option: o.VocoderOption = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            help="The layer that gives (or, of a vocoder, takes) the mel, as the checkpoint names it; default: the only one that can be. Three times for a residual postnet: the layer before it, its first and its last.",
            show_default=False,
        ),
    ] = None,
    into: Annotated[
        str, typer.Option("--into", help="What the folded model gives: raw or normalized (the scaler alone is folded).")
    ] = "raw",
    allow_edges: Annotated[
        bool,
        typer.Option(
            "--allow-edges", help="Accept that the first and last frames of a vocoder that pads with zeros differ."
        ),
    ] = False,
    keep_floor: Annotated[
        bool,
        typer.Option("--keep-floor", help="Fold all but the floor, which stays in the new parameters as a clamp."),
    ] = False,
    proof: Annotated[
        str | None,
        typer.Option(
            "--proof",
            metavar="SOURCE|PAIRS",
            help="What folded and unfolded are compared on: utterances for a model, PAIRS for a vocoder; default: the embedded corpus.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Utterances to compare; default: 3.", min=1, show_default=False)
    ] = None,
    device: o.Device = "auto",
    unproven: Annotated[
        bool,
        typer.Option(
            "--unproven",
            help="With --checkpoint and --layer alone: write the changed layer, although no model is run that could prove it.",
        ),
    ] = False,
    force: o.Force = False,
    json_: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Thin shell of `run`."""
    o.set_level(quiet=quiet, verbose=verbose, json_target=json_, force=force)
    if output is None:
        raise UsageError("calib fold needs -o DIR for the new weights")
    result = run(
        FoldConfig(
            output, params, stats,
            None if model is None else ModelConfig(model, checkpoint, parse_options(model_option or []), device),
            None if vocoder is None else VocoderConfig(vocoder, vocoder_checkpoint, parse_options(vocoder_option or []), device),
            checkpoint, tuple(layer or ()), into, allow_edges, keep_floor, proof, limit, force, unproven,
        )
    )  # fmt: skip
    o.show(result.lines, o.brief(result.lines[0]))
    but = " but for the edges" if result.proof.edge_frames else ""
    equal = f"equal to {TOLERANCE:g}{but}" if result.proof.what != "layer" else "layer changed, model unproven"
    terminal.result(f"written: {result.checkpoint} and {result.params} ({equal})")
    o.emit_json(json_, result.content, force=force)
