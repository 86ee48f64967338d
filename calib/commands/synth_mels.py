"""``calib synth --mel``: stored mels, or the predictions of PAIRS, -> calibrated mel -> vocoder -> WAV. No text model runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from calib.commands.calibration import Calibration, load_calibration, refuse_twice, stored_mels
from calib.commands.convert_input import Inputs, Unit, is_pairs, open_inputs
from calib.commands.plugins import LoadedVocoder, VocoderConfig, open_vocoder
from calib.commands.speaking import Job, Spoken, speak_each, vocoded, write_spoken
from calib.console import terminal
from calib.data.files import ensure_writable, read_json
from calib.data.pairfiles import discover
from calib.errors import DataError, UsageError
from calib.mel.frontend import FrontEnd

__all__ = ["MelsConfig", "speak_mels"]


@dataclass(frozen=True)
class MelsConfig:
    """What ``calib synth --mel`` needs; see its options."""

    mels: str
    output: str
    vocoder: VocoderConfig
    stats: Path | None = None
    params: Path | None = None
    frontend: str | None = None
    layout: str | None = None
    output_space: str | None = None
    force: bool = False
    any_level: bool = False


def speak_mels(config: MelsConfig) -> list[dict[str, Any]]:
    """A WAV of each mel; one that cannot be heard does not lose the others.

    Returns:
        A row an utterance: ``output``, ``mel`` (its id) and the figures of `Spoken`.

    Raises:
        UsageError: the front end is not known, or an output exists.
        DataError: nothing there; files of another front end; or utterances that failed (all others are written).
        ParamsError, PluginError: see `load_calibration` and `open_vocoder`.
    """
    source = _frontend(config)
    try:
        inputs = open_inputs(config.mels, source=source, audio=None, layout=config.layout, columns=None, audio_root=None, split=None, limit=None)  # fmt: skip
    except UsageError as error:  # it is convert's --from that is named there
        raise UsageError(error.message.replace("--from", "--frontend"), hint=(error.hint or "").replace("--from", "--frontend") or None) from None  # fmt: skip
    if not inputs.units:
        raise DataError(f"{config.mels}: holds no mel")
    made = stored_mels(inputs.frontend, inputs.header, config.output_space)
    calibration = load_calibration(config.params, config.stats, made)
    vocoder = open_vocoder(config.vocoder, inputs.frontend)
    refuse_twice(vocoder.vocoder, calibration.scaler)
    outputs = _outputs(config, inputs)
    for path in outputs:
        ensure_writable(path, force=config.force)
    terminal.notice(calibration.describe())
    jobs = [
        Job(unit.id, str(path), {"mel": unit.id}, partial(_heard, unit, calibration, vocoder, path, config))
        for unit, path in zip(inputs.units, outputs, strict=True)
    ]
    return speak_each(jobs, "mels")


def _heard(unit: Unit, calibration: Calibration, vocoder: LoadedVocoder, path: Path, config: MelsConfig) -> Spoken:
    started = time.monotonic()
    mel = np.asarray(unit.load())
    bins = vocoder.frontend.n_mels
    if mel.ndim != 2 or mel.shape[1] != bins or not len(mel):
        raise DataError(f"{unit.id}: a mel of shape {mel.shape}; the front end has {bins} bins", hint="--layout TM or MT says how it lies")  # fmt: skip
    if not np.isfinite(mel).all():
        raise DataError(f"{unit.id}: the mel holds {int((~np.isfinite(mel)).sum())} NaN or infinite values of {mel.size}")  # fmt: skip
    samples, rate = vocoded(vocoder, calibration(mel.astype(np.float32)))
    return write_spoken(path, samples, rate, started, force=config.force, any_level=config.any_level)


def _outputs(config: MelsConfig, inputs: Inputs) -> list[Path]:
    """Where each goes: the file that ``-o`` names, for one mel; else ``ID.wav`` in the folder.

    Raises:
        UsageError: a file for several mels.
    """
    target = Path(config.output)
    if target.suffix.lower() == ".wav" and not target.is_dir():
        if len(inputs.units) > 1:
            raise UsageError(f"{config.mels} holds {len(inputs.units)} mels, and -o {target} is one file", hint="give a folder: -o DIR")  # fmt: skip
        return [target]
    outputs = []
    for unit in inputs.units:
        name = Path(*[part for part in Path(unit.id).parts if part not in {"..", "/", "\\"}])
        outputs.append(target / name.with_name(f"{name.name}.wav"))
    return outputs


def _frontend(config: MelsConfig) -> FrontEnd | None:
    """That of ``--frontend``; else of PAIRS (None here: they are asked when they are opened), else of the two files.

    Raises:
        UsageError: nobody says it.
    """
    if config.frontend is not None:
        return FrontEnd.load(config.frontend)
    if is_pairs(Path(config.mels)) and isinstance(discover(Path(config.mels)).header.get("frontend"), dict):
        return None
    for given in (config.stats, config.params):
        if given is not None and (found := _said_by(given)) is not None:
            terminal.notice(f"front end {found.name}, as {given} says")
            return found
    raise UsageError(
        f"{config.mels}: which front end made these mels is not known",
        hint="give --frontend NAME (calib frontends list), or find it: calib frontends identify",
    )


def _said_by(path: Path) -> FrontEnd | None:
    """The front end that one of calib's own two files holds; None for a file of another system, or none."""
    try:
        content = read_json(path)
    except DataError:
        return None  # whoever reads it says what is wrong
    fields = content.get("frontend") if isinstance(content, dict) else None
    return FrontEnd.load(fields) if isinstance(fields, dict) else None
