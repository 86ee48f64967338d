"""The calibration as inference applies it: the two JSON files, checked against what they are used on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from calib.commands.judge import check_identity, differing_fields, params_warnings
from calib.commands.plugins import LoadedModel
from calib.commands.statsinput import doubts_of_unit, load_normalizer, statistics_of
from calib.console import terminal
from calib.data.files import read_json
from calib.errors import DataError, UsageError
from calib.mel.frontend import FrontEnd
from calib.params import MelNormalizer, MelScaler

__all__ = ["Calibration", "Consumer", "load_calibration", "refuse_twice", "stored_mels"]


PARAMS_NAME = "mel_scaling_params.json"


@dataclass(frozen=True)
class Consumer:
    """What the two files are used on: a model that runs, or what PAIRS say of one.

    Args:
        spec: how it is called in messages.
        frontend: of its mels.
        output_space: ``raw`` or ``normalized``.
        model_id: identity of its weights, or None.
        options: of its factory.
    """

    spec: str
    frontend: FrontEnd
    output_space: str
    model_id: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: LoadedModel) -> Consumer:
        """A loaded model."""
        return cls(model.spec, model.frontend, model.model.output_space, model.model_id, model.options)


@dataclass(frozen=True)
class Calibration:
    """From the model's output to the raw mel: the scaler, the normaliser, or nothing.

    Args:
        scaler: from ``mel_scaling_params.json``, with its statistics; None without ``--params``.
        normalizer: from the statistics alone; used when the model's output is normalised and there is no scaler.
    """

    scaler: MelScaler | None = None
    normalizer: MelNormalizer | None = None

    def __call__(self, mel: np.ndarray) -> np.ndarray:
        """``(T, M)`` model output to raw mel, float32."""
        if self.scaler is not None:
            return np.asarray(self.scaler.calibrate(mel), dtype=np.float32)
        if self.normalizer is not None:
            return np.asarray(self.normalizer.denormalize(mel), dtype=np.float32)
        return mel

    def describe(self) -> str:
        """What is done to the mel, for people."""
        if self.scaler is not None:
            return f"calibrated: scale_factor {self.scaler.scale_factor:.5g}, offset {self.scaler.offset:.5g} ({self.scaler.verdict or 'no verdict in the file'})"
        return (
            f"denormalised with the statistics{', each bin by its own' if self.normalizer.per_bin else ''}"
            if self.normalizer is not None
            else "not calibrated (no --params): the mel goes to the vocoder as the model gives it"
        )


def stored_mels(frontend: FrontEnd, header: Mapping[str, Any], output_space: str | None) -> Consumer:
    """Mels that lie on disk, in the place of a model: PAIRS say whose they are, and in which space.

    Args:
        frontend: of the mels.
        header: of the PAIRS; empty for mels alone.
        output_space: ``--output-space``, before what the header says.

    Raises:
        UsageError: there is no such space.
    """
    space = output_space or header.get("output_space") or "raw"
    if space not in {"raw", "normalized"}:
        raise UsageError(f"--output-space is {space!r}; it must be raw or normalized")
    return Consumer("the mels", frontend, space, header.get("model_id"), header.get("model_options", {}))


def load_calibration(params: Path | None, stats: Path | None, model: Consumer) -> Calibration:
    """Read the two JSON files and refuse those of another model or front end.

    Args:
        params: ``mel_scaling_params.json``, or None.
        stats: ``mel_normalization_stats.json``; None with ``params``: the one beside it, which is said.
        model: what will speak.

    Raises:
        ParamsError: a file cannot be used.
        DataError: made for another model, front end or statistics (the differing fields are listed).
        UsageError: no statistics where they are needed.
    """
    if params is not None:
        stats = statistics_of(params, stats)
    if stats is None:
        if model.output_space == "normalized":
            raise UsageError(
                f"the model {model.spec} gives normalised mels; they cannot be heard without the statistics",
                hint="give --stats FILE (no mean or sd is assumed)",
            )
        return Calibration()
    with params_warnings():
        normalizer = load_normalizer(stats)
        # First against the model: only there are the differing fields known.
        check_identity(
            "frontend_id",
            normalizer.frontend_id,
            model.frontend.id,
            str(stats),
            model.spec,
            differing_fields(normalizer, model.frontend),
        )
        if normalizer.frontend_id is None and (doubts := doubts_of_unit(normalizer, model.frontend)) is not None:
            terminal.warning(f"{stats}: {doubts}")
        # Parameters lie in the space of the two global values, whatever the system does by bin.
        scaler = None if params is None else MelScaler.load(params, replace(normalizer, per_bin=False))
    if scaler is None:
        if model.output_space == "raw":
            terminal.notice("--stats without --params: the model gives raw mels, so nothing is denormalised")
            return Calibration()
        return Calibration(normalizer=normalizer)
    folded = scaler.extra.get("folded")
    if isinstance(folded, dict) and folded.get("proven") is False:
        terminal.warning(f"{params}: of a fold that was never proven by running the model (calib fold --unproven)")
    check_identity("frontend_id", scaler.frontend_id, model.frontend.id, str(params), model.spec)
    check_identity("model_id", scaler.model_id, model.model_id, str(params), model.spec)
    _check_options(scaler, model, str(params))
    return Calibration(scaler=scaler)


def refuse_twice(vocoder: Any, scaler: MelScaler | None) -> None:
    """A vocoder that holds these very parameters already (`calib fold` wrote its weights) must not be given them again.

    Args:
        vocoder: a loaded one.
        scaler: the parameters; None: none are applied.

    Raises:
        DataError: they are in its weights.
    """
    file = getattr(vocoder, "checkpoint_file", None)
    if scaler is None or file is None or not Path(file).with_name(PARAMS_NAME).is_file():
        return
    beside = Path(file).with_name(PARAMS_NAME)
    try:
        content = read_json(beside)
    except DataError:
        return  # it is not needed here
    folded = content.get("folded") if isinstance(content, dict) else None
    if not isinstance(folded, dict) or folded.get("into") != "vocoder" or folded.get("file") != Path(file).name:
        return
    made_of = folded.get("from")
    wanted = {"scale_factor": scaler.scale_factor, "offset": scaler.offset, "stats_id": scaler.normalizer.stats_id if scaler.normalizer else None}  # fmt: skip
    if isinstance(made_of, dict) and {key: made_of.get(key) for key in wanted} == wanted:
        raise DataError(
            f"{file} has this calibration in its weights already ({beside} says so): it would be applied twice",
            hint=f"give --params {beside}, which changes nothing, or the vocoder as it was before the fold",
        )


def _check_options(scaler: MelScaler, model: Consumer, name: str) -> None:
    """The same weights with other options may give other mels (normalised ones, say): that is another model.

    Raises:
        DataError: the parameters were fitted on other options or another output space.
    """
    made_for = scaler.extra.get("model")
    if not isinstance(made_for, dict):
        return
    mine = {"options": dict(model.options), "output_space": model.output_space}
    if made_for != mine:
        listing = "; ".join(
            f"{key} {made_for.get(key)} there, {mine[key]} here" for key in mine if made_for.get(key) != mine[key]
        )
        options = " ".join(f"--model-option {key}={value}" for key, value in (made_for.get("options") or {}).items())
        raise DataError(
            f"{name} was fitted on the model with {listing}",
            hint=f"run the model as it was fitted: {options or 'without --model-option'}",
        )
