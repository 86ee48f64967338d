"""The proof of a fold: folded and unfolded output on the same input, compared sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calib.commands.plugins import LoadedModel
from calib.data.audio import read_audio
from calib.data.pairs import open_pairs
from calib.data.sources import open_source
from calib.demo import CORPUS
from calib.errors import DataError
from calib.folding import Affine
from calib.mel.frontend import FrontEnd
from calib.models.loading import call_plugin, checked_audio, checked_mel
from calib.models.protocol import Utterance
from calib.vocoders.weights import weight_of

__all__ = ["TOLERANCE", "Proof", "Sample", "model_samples", "prove_layer", "prove_model", "prove_vocoder", "vocoder_samples"]  # fmt: skip

TOLERANCE = 1e-5
_UTTERANCES = 3
_LONGEST = 2.0  # seconds of an utterance
_INTERIOR = 0.3  # share of an utterance that must lie between the edges, for the proof to say anything
_INPUTS = 256
_HEARABLE = 10.0  # times the tolerance that the calibration must change the sound by, for equality to say anything
_HEARD = 20  # frames of free running before anything is said of it

_Map = Callable[[np.ndarray], np.ndarray]
Sample = Utterance


@dataclass(frozen=True)
class Proof:
    """What was compared.

    Args:
        what: ``model``, ``vocoder`` or ``layer``.
        utterances: how many.
        values: numbers compared.
        difference: the largest, away from the edges; in the unit of the output.
        free_running: the largest in free running, None where it was not run.
        edge_frames: at each end that differ by more than the tolerance.
        edge_difference: the largest there.
        edge_seconds: their length.
        fails: why it is no proof, or empty.
        hint: what to do then.
    """

    what: str
    utterances: int
    values: int
    difference: float
    free_running: float | None = None
    edge_frames: int = 0
    edge_difference: float = 0.0
    edge_seconds: float = 0.0
    fails: str = ""
    hint: str | None = None

    def line(self) -> str:
        """For people."""
        if self.what == "layer":
            return f"the layer gives the same on {self.utterances} random inputs to {self.difference:.1g}; the model was not run (give --model to prove it whole)"
        unit = "of full scale" if self.what == "vocoder" else "mel units"
        free = f"; free running to {self.free_running:.1g}" if self.free_running is not None else ""
        edges = ""
        if self.edge_frames:
            edges = f"; but for the first and last {self.edge_frames} frames ({self.edge_seconds * 1e3:.0f} ms), which differ by up to {self.edge_difference:.2g}"
        return f"folded and unfolded give the same on {self.utterances} utterances to {self.difference:.1g} {unit}{free}{edges}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "what": self.what,
            "utterances": self.utterances,
            "values": self.values,
            "largest_difference": self.difference,
            "free_running": self.free_running,
            "tolerance": TOLERANCE,
            "edge_frames": self.edge_frames,
            "edge_difference": self.edge_difference,
        }


# --- what it is run on ------------------------------------------------------------------------------------------------


def model_samples(loaded: LoadedModel, source: str | None, limit: int | None) -> list[Utterance]:
    """The first utterances of a SOURCE (default: the embedded corpus) as the model receives them.

    Raises:
        DataError: none can be used.
    """
    frontend, count = loaded.frontend, limit or _UTTERANCES
    out = []
    for item in open_source(str(CORPUS) if source is None else source):
        if item.audio is None:
            continue
        mel = frontend.mel(read_audio(item.audio, frontend.sample_rate).samples)
        out.append(Utterance(item.id, mel, item.text or "", item.speaker, item.language))
        if len(out) == count:
            return out
    if not out:
        raise DataError(f"--proof {source}: no recording to run the model on")
    return out


def vocoder_samples(frontend: FrontEnd, affine: Affine, pairs: str | None, limit: int | None) -> list[np.ndarray]:
    """Predictions of PAIRS; without them, what the calibration makes the embedded voices' mels of.

    Raises:
        DataError: PAIRS of another number of bins.
    """
    count = limit or _UTTERANCES
    if pairs is not None:
        opened = open_pairs(Path(pairs))
        mels = [np.asarray(opened.load(entry).pred, dtype=np.float32) for entry in opened.entries[:count]]
        if any(mel.shape[1] != frontend.n_mels for mel in mels):
            raise DataError(f"--proof {pairs}: {mels[0].shape[1]} mel bins, the vocoder takes {frontend.n_mels}")
        return mels
    out = []
    scale = np.where(affine.scale == 0, 1.0, affine.scale)
    for item in list(open_source(str(CORPUS)))[:count]:
        assert item.audio is not None
        samples = read_audio(item.audio, frontend.sample_rate).samples[: int(_LONGEST * frontend.sample_rate)]
        out.append(((frontend.mel(samples) - affine.offset) / scale).astype(np.float32))
    return out


# --- comparing --------------------------------------------------------------------------------------------------------


def prove_layer(old: Mapping[str, Any], new: Mapping[str, Any], layer: str, calibrate: _Map) -> Proof:
    """The layer alone, as a product with random inputs of the size that keeps its output in the unit of its bias."""

    def run(tensors: Mapping[str, Any], inputs: np.ndarray) -> np.ndarray:
        weight = weight_of(tensors, layer).float().flatten(1).numpy()
        bias = tensors.get(f"{layer}.bias")
        out = inputs @ weight.T
        return np.asarray(out if bias is None else out + bias.float().numpy())

    width = weight_of(old, layer).flatten(1).shape[1]
    inputs = np.random.default_rng(0).standard_normal((_INPUTS, width)).astype(np.float32)
    before = run(old, inputs)
    rows = before.reshape(-1, _bins(before.shape[1], calibrate))
    wanted = np.asarray(calibrate(rows), dtype=np.float64).reshape(before.shape)
    apart = float(np.abs(run(new, inputs) - wanted).max())
    return Proof("layer", _INPUTS, before.size, apart, fails=_too_far(apart, "in the layer alone"))


def _bins(rows: int, calibrate: _Map) -> int:
    """The bins that a calibration by bin has; with one for all, the layer's outputs."""
    for frames in range(1, rows + 1):
        if rows % frames == 0:
            try:
                calibrate(np.zeros((1, rows // frames), dtype=np.float32))
            except ValueError:  # ParamsError is one
                continue
            return rows // frames
    return rows


def _too_far(apart: float, where: str) -> str:
    return "" if apart <= TOLERANCE else f"by up to {apart:.2g} {where}, where {TOLERANCE:g} is allowed"


def _predict(loaded: LoadedModel, sample: Utterance) -> np.ndarray:
    result = call_plugin(loaded.spec, loaded.model.teacher_force, [sample])
    return checked_mel(loaded.spec, result[0], loaded.frontend.n_mels)


def _generate(loaded: LoadedModel, sample: Utterance) -> np.ndarray:
    generate = loaded.model.generate  # type: ignore[attr-defined]
    said: dict[str, Any] = {
        "speaker_audio": None,
        "language": sample.language or "en",
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 0,
    }
    return checked_mel(loaded.spec, call_plugin(loaded.spec, generate, sample.text or "a", **said), loaded.frontend.n_mels)  # fmt: skip


def prove_model(old: LoadedModel, new: LoadedModel, calibrate: _Map, samples: Sequence[Utterance]) -> Proof:
    """Teacher forcing, and free running where the model hears its own output."""
    worst, values = 0.0, 0
    for sample in samples:
        before = _predict(old, sample)
        if not np.array_equal(before, _predict(old, sample)):
            return Proof("model", 0, 0, np.inf, fails="the model gives another mel each time, so nothing can be compared", hint="is dropout on? calib check model tells")  # fmt: skip
        after = _predict(new, sample)
        if before.shape != after.shape:
            return Proof("model", 0, 0, np.inf, fails=f"the folded model gives {after.shape}, the other {before.shape}")
        worst = max(worst, float(np.abs(calibrate(before) - after).max()))
        values += before.size
    if worst > TOLERANCE:
        return Proof("model", len(samples), values, worst, fails=_too_far(worst, "in teacher forcing"), hint="that layer's output is not the mel itself (a residual postnet, a flow, other layers after it); fold into the vocoder instead, with --vocoder")  # fmt: skip
    if old.model.autoregressive is False:
        return Proof("model", len(samples), values, worst)
    hint = "fold into the vocoder instead, with --vocoder: nothing there is heard again"
    if not hasattr(old.model, "generate"):
        if old.model.autoregressive is None:
            return Proof("model", len(samples), values, worst)
        return Proof("model", len(samples), values, worst, fails="the model hears its own output, and without generate() free running cannot be compared", hint=hint)  # fmt: skip
    before, after = calibrate(_generate(old, samples[0])), _generate(new, samples[0])
    if len(before) < _HEARD:
        return Proof("model", len(samples), values, worst, fails=f"the model may hear its own output, and free running ends after {len(before)} frames: too few ({_HEARD}) to tell what that does", hint=hint)  # fmt: skip
    if before.shape != after.shape:
        return Proof("model", len(samples), values, worst, fails=f"free running, the folded model gives {len(after)} frames and the other {len(before)}: it hears its own output, which is another one now", hint=hint)  # fmt: skip
    apart = float(np.abs(before - after).max())
    fails = _too_far(apart, "in free running: the model hears its own output, which is another one now")
    return Proof("model", len(samples), values, worst, apart, fails=fails, hint=hint if fails else None)


def prove_vocoder(spec: str, old: Any, new: Any, calibrate: _Map, mels: Sequence[np.ndarray], frontend: FrontEnd) -> Proof:  # fmt: skip
    """Audio of the calibrated mels against audio of the mels themselves; ends apart from the rest."""
    hop = frontend.hop_length
    apart: list[np.ndarray] = []
    effect, identity = 0.0, True  # what the calibration does to the sound at all
    for mel in mels:
        calibrated = np.asarray(calibrate(mel), dtype=np.float32)
        before, _ = checked_audio(spec, call_plugin(spec, old.vocode, calibrated))
        plain, _ = checked_audio(spec, call_plugin(spec, old.vocode, mel))
        effect = max(effect, float(np.abs(before - plain).max()) if before.shape == plain.shape else np.inf)
        identity = identity and bool(np.allclose(calibrated, mel, rtol=0.0, atol=1e-3))
        after, _ = checked_audio(spec, call_plugin(spec, new.vocode, mel))
        if before.shape != after.shape:
            return Proof("vocoder", 0, 0, np.inf, fails=f"{after.size} samples instead of {before.size}")
        apart.append(np.abs(before.astype(np.float64) - after))
    if effect <= _HEARABLE * TOLERANCE and not identity:
        return Proof(
            "vocoder", 0, 0, np.inf,
            fails=f"with and without the calibration the vocoder sounds the same to {effect:.1g} of full scale, so equal sounds prove nothing",
            hint="is it trained, and does it use the layer? calib check vocoder tells",
        )  # fmt: skip
    # The edge is as wide as the outermost stretch that reaches into any utterance's first or last half.
    edge = 0
    for each in apart:
        wrong = np.flatnonzero(each > TOLERANCE)
        if wrong.size:
            edge = max(edge, int(np.minimum(wrong + 1, each.size - wrong).max()))
    frames = -(-edge // hop)
    inner = [each[frames * hop : len(each) - frames * hop] for each in apart]
    values = int(sum(each.size for each in apart))
    if min(len(part) / len(each) for part, each in zip(inner, apart, strict=True)) < _INTERIOR:
        worst = max(float(each.max()) for each in apart)
        return Proof("vocoder", len(apart), values, worst, fails=_too_far(worst, "of full scale, not only at the ends"))
    return Proof(
        "vocoder", len(apart), values, max(float(part.max()) for part in inner), None, frames,
        max((float(each.max()) for each in apart), default=0.0) if frames else 0.0, frames * hop / frontend.sample_rate,
    )  # fmt: skip
