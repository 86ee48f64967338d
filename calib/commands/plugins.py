"""Models and vocoders as the commands use them: loaded, identified, with their front ends resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calib.console import terminal
from calib.errors import DataError, PluginError, UsageError
from calib.mel.frontend import FrontEnd
from calib.models.loading import call_plugin, load_model, load_vocoder, resolve_device
from calib.models.protocol import AcousticModel, Vocoder

__all__ = ["LoadedModel", "LoadedVocoder", "ModelConfig", "VocoderConfig", "open_model", "open_vocoder"]


@dataclass(frozen=True)
class PluginConfig:
    """Which plug-in: its spec, what its factory gets, and the interpreter that runs it (None: this one)."""

    spec: str
    checkpoint: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    python: str | None = None


@dataclass(frozen=True)
class ModelConfig(PluginConfig):
    """Which model: the options ``--model``, ``--checkpoint``, ``--model-option``, ``--device``, ``--model-python``."""

    spec: str = "reference"


@dataclass(frozen=True)
class VocoderConfig(PluginConfig):
    """Which vocoder: the options ``--vocoder``, ``--vocoder-checkpoint``, ``--vocoder-option``, ``--device``, ``--vocoder-python``, ``--convert``."""

    spec: str = "griffin-lim"
    convert: bool = False


@dataclass(frozen=True)
class LoadedModel:
    """A model, its front end and its identity (None when it has no weights that calib can see)."""

    model: AcousticModel
    spec: str
    frontend: FrontEnd
    model_id: str | None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedVocoder:
    """A vocoder, and the front end of the mels that it is given (its own, where nothing is converted on the way)."""

    vocoder: Vocoder
    spec: str
    frontend: FrontEnd


def open_model(config: ModelConfig, *, frontend: str | None = None) -> LoadedModel:
    """Load a model.

    Args:
        config: which.
        frontend: what the user says its front end is; must agree with what the model says.

    Raises:
        UsageError: no such model, option or front end; a front end that contradicts the model's.
        PluginError: the plug-in failed.
    """
    device = resolve_device(config.device)
    model = load_model(config.spec, config.checkpoint, device, config.options, python=config.python)
    for remark in getattr(model, "remarks", ()):
        terminal.notice(f"{config.spec}: {remark}")
    _say_what_was_not_restored(config.spec, model)
    own = _frontend(config.spec, model.frontend)
    if frontend is not None and (given := FrontEnd.load(frontend)) != own:
        listing = "; ".join(f"{key}: {a} given, {b} the model's" for key, (a, b) in given.differences(own).items())
        raise UsageError(
            f"--frontend {frontend} is not the front end of {config.spec}: {listing}",
            hint="leave --frontend out: the model knows its own",
        )
    return LoadedModel(model, config.spec, own, _model_id(model, config.checkpoint), config.options)


def open_vocoder(config: VocoderConfig, frontend: FrontEnd) -> LoadedVocoder:
    """Load a vocoder and check that it takes the mels it will get.

    Args:
        config: which.
        frontend: of the mels; Griffin-Lim is made for it, any other vocoder has its own and must agree, or the mels are
            converted on the way where ``config.convert`` says so.

    Raises:
        UsageError: no such vocoder, or its front end differs (the fields are listed).
        RefusedError: the mels were to be converted and do not hold what the vocoder needs.
        PluginError: the plug-in failed.
    """
    options = dict(config.options)
    device = config.device
    if config.spec in {"griffin-lim", "unrolled"}:
        options.setdefault("frontend", frontend)
        # These run on the CPU: torch need not be imported (1.4 s) to look for a GPU.
        device = "cpu" if device == "auto" else device
    vocoder = load_vocoder(config.spec, config.checkpoint, resolve_device(device), options, python=config.python)
    own = _frontend(config.spec, vocoder.frontend)
    if own != frontend and config.convert:
        from calib.commands.bridging import bridge

        vocoder, said = bridge(vocoder, frontend, own)
        for line in said:
            terminal.notice(line)
        return LoadedVocoder(vocoder, config.spec, frontend)
    if own != frontend:
        listing = "; ".join(
            f"{key}: {a} in the mel, {b} in the vocoder" for key, (a, b) in frontend.differences(own).items()
        )
        raise UsageError(
            f"the vocoder {config.spec} expects other mels: {listing}",
            hint="use a vocoder trained on the model's front end, or convert the mels on the way with --convert",
        )
    return LoadedVocoder(vocoder, config.spec, own)


def _say_what_was_not_restored(spec: str, model: AcousticModel) -> None:
    """Warn of tensors that the checkpoint did not fill; with ``-v`` also of what is left over or was never trained."""
    if not callable(getattr(model, "load_report", None)):
        return
    from calib.models.restoring import read_report, report_faults

    try:
        report = read_report(call_plugin(spec, model.load_report))  # type: ignore[attr-defined]
    except TypeError as error:
        raise PluginError(f"plug-in {spec}: {error}, not a mapping of tensor names") from None
    if report is None:
        return
    grave = {fate: report.get(fate) for fate in ("missing", "wrong_shape", "not_finite")}
    for line in report_faults(grave):
        terminal.warning(f"{spec}: {line}")
    if terminal.level > 0:
        for line in report_faults({**report, **dict.fromkeys(grave)}):
            terminal.notice(f"{spec}: {line}")


def _frontend(spec: str, declared: Any) -> FrontEnd:
    try:
        return FrontEnd.load(declared)
    except UsageError as error:
        raise PluginError(
            f"plug-in {spec} declares a front end that cannot be used: {error.message}", hint=error.hint
        ) from error


def _model_id(model: AcousticModel, checkpoint: str | None) -> str | None:
    """Identity of the weights: of the checkpoint file where there is one, else of the module's tensors."""
    from calib.data.checkpoints import model_id, read_checkpoint

    path = getattr(model, "checkpoint_file", checkpoint)
    if path is not None and Path(path).is_file():
        try:
            tensors = read_checkpoint(path).weights
        except DataError:  # another framework's file, which the plug-in has just read
            return None
        return model_id(tensors) if tensors else None
    module = getattr(model, "module", None)
    if module is not None and hasattr(module, "state_dict"):
        return model_id(call_plugin("state_dict", module.state_dict))
    return None
