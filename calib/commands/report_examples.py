"""Utterances of a report to see and hear: which ones, their mels, and the sound of each mel through the vocoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calib.commands.judge import Judgement
from calib.commands.plugins import LoadedVocoder, VocoderConfig, open_vocoder
from calib.data.audio import read_audio
from calib.data.clip import Place
from calib.diagnose.analysis import AffineMap, Diagnosis, Utterance
from calib.errors import CalibError, UsageError, nearest
from calib.models.loading import call_plugin, checked_audio
from calib.report import Example

__all__ = ["MAX_EXAMPLES", "Sounds", "build_examples", "chosen"]

MAX_EXAMPLES = 12
Audio = dict[str, tuple[np.ndarray, int]]


def chosen(d: Diagnosis, count: int, named: Sequence[str] = ()) -> dict[str, str]:
    """Which utterances are shown: name to role, worst first, then those asked for by name.

    Args:
        d: the diagnosis.
        count: how many from worst to best, less where the page holds no more; three are the worst, the median and the best.
        named: ids to show as well.

    Raises:
        UsageError: no utterance has such an id.
    """
    ranked = sorted(d.utterances, key=lambda u: (u.mae_after, u.name), reverse=True)
    out: dict[str, str] = {}
    for role, utterance in _spread(ranked, min(count, MAX_EXAMPLES - len(named))):
        out.setdefault(utterance.name, role)
    names = [u.name for u in ranked]
    for name in named:
        if name not in names:
            raise UsageError(f"--utterance {name!r}: no utterance has this id", hint=nearest(name, names))
        out.setdefault(name, "chosen")
    return out


def _spread(ranked: Sequence[Utterance], count: int) -> list[tuple[str, Utterance]]:
    """Worst, median, best, and then evenly in between; worst first."""
    if not ranked or count < 1:
        return []
    last, middle = len(ranked) - 1, len(ranked) - 1 - len(ranked) // 2
    picked = list(dict.fromkeys([0, middle, last]))[:count]
    for k in (*(int(k) for k in np.linspace(0, last, count).round()), *range(len(ranked))):
        if len(picked) >= count:
            break
        if k not in picked:
            picked.append(k)
    roles = {last: "best", middle: "median", 0: "worst"}
    return [(roles.get(k, f"rank {k + 1} of {len(ranked)}"), ranked[k]) for k in sorted(picked)]


class Sounds:
    """What the vocoder makes of mels; says once why there is none.

    Args:
        judgement: with the front end of the mels.
        config: which vocoder.
        wanted: whether there is to be sound at all.
        lenient: a vocoder that takes other mels is a finding of the report, not an error.
    """

    def __init__(self, judgement: Judgement, config: VocoderConfig, *, wanted: bool, lenient: bool) -> None:
        self.notes: list[str] = []
        self.wanted = wanted
        self.spec = config.spec
        self._vocoder: LoadedVocoder | None = None
        if not wanted:
            return
        if judgement.frontend is None:
            self.notes.append("the front end of these mels is unknown; give --frontend NAME to hear them")
            return
        try:
            self._vocoder = open_vocoder(config, judgement.frontend)
        except UsageError as error:
            if not lenient:
                raise
            self.notes.append(error.message)

    def of(self, mels: Mapping[str, np.ndarray]) -> Audio:
        """Label to samples in [-1, 1] and rate in Hz; empty without a vocoder."""
        vocoder = self._vocoder
        if vocoder is None:
            return {}
        out: Audio = {}
        for label, mel in mels.items():
            samples, rate = checked_audio(self.spec, call_plugin(self.spec, vocoder.vocoder.vocode, mel))
            out[label] = (np.clip(samples, -1.0, 1.0), rate)
        return out

    def recording(self, place: Place | None) -> Audio:
        """The recording itself, or a note why it cannot be heard."""
        if place is None or not self.wanted:
            return {}
        try:
            audio = read_audio(place)
        except CalibError as error:
            self.notes.append(error.message)
            return {}
        return {"recording": (np.clip(audio.samples, -1.0, 1.0), audio.sample_rate)}


def build_examples(
    judgement: Judgement, names: Mapping[str, str], sounds: Sounds
) -> tuple[list[Any], dict[str, dict[str, float]]]:
    """The examples, and how far the mel of each sound is from the target mel.

    Args:
        judgement: the findings.
        names: utterance to its role.
        sounds: of the vocoder.
    """
    entries = {entry.id: (index, entry) for index, entry in enumerate(judgement.pairs.entries)}
    heard: dict[str, dict[str, float]] = {}
    out = []
    for name, role in names.items():
        index, entry = entries[name]
        pair = judgement.pairs.load(entry)
        mels = _mels(judgement.diagnosis, pair.pred, pair.target)
        spoken = sounds.of(mels)
        place = judgement.recordings[index] if index < len(judgement.recordings) else None
        audio = {**sounds.recording(place), **spoken}
        found = _distances(judgement, pair.target, spoken)
        if found:
            heard[name] = found
        out.append(
            Example(
                pair.id, role, pair.text, pair.language, pair.target, mels["raw"], mels["calibrated"], audio,
                _said(found, judgement.unit),
            )
        )  # fmt: skip
    return out, heard


def _mels(d: Diagnosis, pred: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
    as_it_is = AffineMap(d.mel_std, d.mel_mean) if d.output_space == "normalized" else AffineMap(1.0, 0.0)
    constant = np.broadcast_to(np.asarray(d.per_bin["target_mean"], dtype=np.float32), target.shape)
    return {
        "target": target,
        "raw": np.asarray(as_it_is(pred), dtype=np.float32),
        "calibrated": np.asarray((d.calibration if d.method != "identity" else as_it_is)(pred), dtype=np.float32),
        "constant": np.ascontiguousarray(constant),
    }


def _distances(judgement: Judgement, target: np.ndarray, audio: Audio) -> dict[str, float]:
    """MAE between the mel of each sound and the target mel; the target's own sound shows what the vocoder costs."""
    fe = judgement.frontend
    found: dict[str, float] = {}
    for label, (samples, rate) in audio.items():
        if fe is not None and rate == fe.sample_rate:
            mel = fe.mel(samples)
            n = min(mel.shape[0], target.shape[0])
            found[label] = float(np.abs(mel[:n] - target[:n]).mean())
    return found


def _said(found: Mapping[str, float], unit: str) -> tuple[str, ...]:
    if not found:
        return ()
    listing = ", ".join(f"{label} {value:.3f}" for label, value in found.items())
    return (
        f"mel of the audio against the target mel, MAE in {unit}: {listing} (target: what the vocoder itself costs)",
    )
