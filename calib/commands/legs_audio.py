"""Recordings and parameters as the legs need them: V from any moment of the audio, dB as a vocoder hears them, P as it reaches it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from calib.commands.judge import params_warnings
from calib.commands.statsinput import load_normalizer, own_output, statistics_of
from calib.data.audio import read_audio
from calib.data.clip import Place
from calib.diagnose.analysis import Diagnosis
from calib.diagnose.legs.distance import distance, grade
from calib.diagnose.legs.place import place
from calib.errors import CalibError
from calib.mel.frontend import FrontEnd
from calib.mel.hearing import hearing
from calib.params import MelScaler

__all__ = ["Recorder", "Rows", "Ruler", "calibration", "grade_of_declarations"]

_NOMINAL = 17.0  # dB for one sd of a mel that is normalised by utterance, where dB have no meaning
# Steps that change the audio before it is framed; they are taken once, before the audio is cut.
_PREPARED = ("trim_top_db", "rms_norm", "peak_norm", "clip_audio", "pad_audio")


@dataclass(frozen=True)
class Rows:
    """Arrays in memory as the `PairSet` that ``analyze`` reads."""

    names: list[str]
    rows: list[tuple[np.ndarray, np.ndarray]]

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """Identity of an utterance."""
        return self.names[index]

    def arrays(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """``(first, V)``."""
        return self.rows[index]

    def speaker(self, index: int) -> str | None:
        """Unknown here: folds are made of utterances."""
        del index
        return None


class Recorder:
    """A front end's mels of the recordings, from any time on: `calib.diagnose.legs.place.Recorded`.

    Args:
        frontend: computes them.
        paths: of the recordings, by index.
    """

    def __init__(self, frontend: FrontEnd, paths: Sequence[Place | None]) -> None:
        self.frontend, self.paths = frontend, paths
        there: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(FrontEnd) if f.name in _PREPARED}
        self.flat = dataclasses.replace(frontend, **there)
        self._preparing = dataclasses.replace(frontend, preemphasis=0.0)
        self._audio: dict[int, np.ndarray | None] = {}
        self.failed: list[str] = []

    def samples(self, index: int, start: float) -> np.ndarray | None:
        """Prepared audio ``(L,)`` (trimmed and levelled as the front end does) from ``start`` seconds on."""
        if index not in self._audio:
            self._audio[index] = self._read(index)
        audio = self._audio[index]
        return None if audio is None else audio[round(start * self.frontend.sample_rate) :]

    def _read(self, index: int) -> np.ndarray | None:
        path = self.paths[index]
        if path is None:
            return None
        try:
            return self._preparing.prepare(read_audio(path, self.frontend.sample_rate).samples)
        except CalibError as error:
            self.failed.append(error.message)
            return None

    def __call__(self, index: int, start: float) -> np.ndarray | None:
        """``(T, M)``, or None where there is no usable audio."""
        audio = self.samples(index, start)
        if audio is None:
            return None
        try:
            return self.flat.mel(audio)
        except CalibError as error:  # too short
            self.failed.append(error.message)
            return None


class Ruler:
    """dB as the vocoder hears them; learns its scale where the front end gives none."""

    def __init__(self, frontend: FrontEnd) -> None:
        self._hear = hearing(frontend)
        self._scale = 1.0

    def learn(self, mels: Sequence[np.ndarray]) -> None:
        """Mels of the front end itself: where they are normalised by utterance, one sd counts as 17 dB."""
        if mels:
            self._scale = _NOMINAL / max(float(np.std(np.concatenate(list(mels)))), 1e-6)

    def hear(self, mel: np.ndarray) -> np.ndarray:
        """``(T, M)`` mel to dB."""
        return mel * np.float32(self._scale) if self._hear is None else self._hear(mel)


def grade_of_declarations(own: FrontEnd, want: FrontEnd) -> str:
    """How far the mels of one front end are from another's on made-up audio, as `distance.grade`: what two names say by themselves.

    Noise with the spectral tilt of speech, loud and quiet by turns, 4 s of it.
    """
    import soxr
    from scipy.signal import lfilter

    if own.n_mels != want.n_mels:
        return "other"
    rng, rate = np.random.default_rng(0), 48000
    loudness = np.interp(np.arange(4 * rate), np.arange(41) * rate / 10, rng.uniform(-5.0, 0.0, 41))
    x = 0.1 * np.exp(loudness) * lfilter([1.0], [1.0, -0.95], rng.standard_normal(4 * rate))
    audio = {hz: np.asarray(soxr.resample(x, rate, hz), dtype=np.float32) for hz in {own.sample_rate, want.sample_rate}}

    def again(index: int, start: float) -> np.ndarray | None:
        del index
        return want.mel(audio[want.sample_rate][round(start * want.sample_rate) :])

    seconds = want.hop_length / want.sample_rate
    ratio = seconds / (own.hop_length / own.sample_rate)
    if abs(ratio - 1.0) > 1e-3:
        return "other"
    placed = place([(0, own.mel(audio[own.sample_rate]))], again, seconds)
    ruler = Ruler(want)
    ruler.learn([each.reference for each in placed])
    return grade(distance([(each.mel, each.reference) for each in placed], ruler.hear)) if placed else "other"


def calibration(params: Path | None, stats: Path | None, d: Diagnosis) -> Callable[[np.ndarray], np.ndarray]:
    """What inference does to a prediction before the vocoder.

    Raises:
        UsageError: parameters without their statistics.
        DataError: no such file.
    """
    if params is None:
        if d.output_space == "normalized":
            mean, std = np.float32(d.mel_mean), np.float32(d.mel_std)
            return lambda p: np.asarray(p * std + mean, dtype=np.float32)
        return lambda p: p
    stats = statistics_of(params, stats)
    with params_warnings():
        normalizer = load_normalizer(stats)
        scaler = MelScaler.load(params, replace(normalizer, per_bin=False))
    if normalizer.per_bin and d.output_space == "normalized":  # judged in another space than the model's own
        own = own_output(normalizer)
        return lambda p: np.asarray(scaler.calibrate(own(p)), dtype=np.float32)
    return lambda p: np.asarray(scaler.calibrate(p), dtype=np.float32)
