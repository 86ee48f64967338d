"""What a probe gets and what it gives: a scene (a model, a few utterances, what it predicts for them) and a finding.

Conventions:
    Changes are root mean squares over the frames and bins of two mels, in *units*: the targets' standard deviation within
    bins (each bin's own mean removed), in the space of the model's output. So 0.01 is a hundredth of what speech varies.
"""

from __future__ import annotations

import functools
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from calib.models.loading import call_plugin, checked_mel
from calib.models.protocol import AcousticModel, Utterance
from calib.models.teaching import Teacher

__all__ = ["Finding", "Limit", "NotFiniteError", "Scene", "TooSlowError", "change", "finite", "movement_of"]

_OPS: dict[str, Callable[[float, float], bool]] = {">": operator.gt, "<": operator.lt, ">=": operator.ge}


@dataclass(frozen=True)
class Limit:
    """A threshold, whose words are made from what is compared, so that text and code cannot disagree."""

    name: str
    op: str
    value: float
    unit: str = ""

    def broken(self, measured: float) -> bool:
        """Whether ``measured`` is on the wrong side."""
        return _OPS[self.op](measured, self.value)

    def __str__(self) -> str:
        return f"{self.name} {self.op} {self.value:g}{' ' + self.unit if self.unit else ''}"


@dataclass(frozen=True)
class Finding:
    """The answer of one probe.

    Args:
        probe: its name.
        status: ``pass``, ``warn``, ``fail`` or ``skipped``.
        sentence: what was found, with its figures; or why nothing could be.
        evidence: name to number, text or list; JSON.
        threshold: what would have been a fault, in words.
        advice: what to do next, or None.
        seconds: what it cost.
    """

    probe: str
    status: str
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    threshold: str = ""
    advice: str | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values only."""
        return {
            "probe": self.probe,
            "status": self.status,
            "sentence": self.sentence,
            "evidence": {key: _plain(value) for key, value in self.evidence.items()},
            "threshold": self.threshold or None,
            "advice": self.advice,
            "seconds": round(self.seconds, 3),
        }


@dataclass
class Scene:
    """A model and a few utterances.

    Args:
        teacher: the model, called under control.
        batch: utterances with true mels; a reference of the same voice where there is another utterance of it.
        frame_rate: frames a second.
        voices: utterance id to a recording of its voice, for free running.
        free: whether free-running probes may be made.
        reload: loads the same model once more, for the comparison of two loads; None: it cannot be.
        budget: seconds of free running, all probes together; none is begun after that.
        no_text: the user says that the model reads no text; the model may say so itself (``reads_text = False``).
        one_voice: the user says that it knows one voice; likewise (``one_voice = True``).
        stored: reads the checkpoint's tensors by name; None: nobody knows where they are.
    """

    teacher: Teacher
    batch: list[Utterance]
    frame_rate: float
    voices: Mapping[str, Path | None] = field(default_factory=dict)
    free: bool = True
    reload: Callable[[], AcousticModel] | None = None
    budget: float = 120.0
    no_text: bool = False
    one_voice: bool = False
    spent: float = 0.0
    stored: Callable[[], Mapping[str, Any]] | None = None

    @property
    def model(self) -> AcousticModel:
        """The plug-in's model."""
        return self.teacher.model

    @property
    def textless(self) -> str | None:
        """Who says that the model reads no text; None: nobody does."""
        if getattr(self.model, "reads_text", True) is False:
            return "the model declares reads_text = False"
        return "--no-text" if self.no_text else None

    @property
    def voiceless(self) -> str | None:
        """Who says that the model knows one voice only; None: nobody does."""
        if getattr(self.model, "one_voice", False) is True:
            return "the model declares one_voice = True"
        return "--one-voice" if self.one_voice else None

    @functools.cached_property
    def base(self) -> list[np.ndarray]:
        """Teacher-forced predictions, each utterance alone; they may hold NaN."""
        return [self.teacher.predict([one])[0] for one in self.batch]

    @functools.cached_property
    def unit(self) -> float:
        """One unit of change, in the space of the model's output; see the module."""
        within = _within(u.mel for u in self.batch)
        if self.model.output_space == "normalized":
            return within / max(float(np.concatenate([u.mel for u in self.batch]).std()), 1e-9)
        return max(within, 1e-9)

    def predict(self, batch: Sequence[Utterance]) -> list[np.ndarray]:
        """Each utterance alone, so that nothing but itself can change a prediction.

        Raises:
            NotFiniteError: a prediction holds NaN or infinite values, so that no change can be measured.
        """
        return finite([self.teacher.predict([one])[0] for one in batch], "what the probe alters makes the prediction")

    def changes(self, altered: Sequence[np.ndarray], base: Sequence[np.ndarray] | None = None) -> float:
        """Change of all utterances together, in units."""
        pairs = list(zip(altered, self.base if base is None else base, strict=True))
        return float(np.sqrt(np.mean([change(a, b, self.unit) ** 2 for a, b in pairs])))

    @functools.cached_property
    def spoken(self) -> list[tuple[Utterance, np.ndarray]]:
        """Utterances with a free-running mel of the scene's seed each: the shortest first, for half of the budget.

        Raises:
            TooSlowError: the budget was spent before the first.
        """
        out: list[tuple[Utterance, np.ndarray]] = []
        for one in sorted(self.batch, key=lambda u: len(u.mel)):
            if out and self.spent > self.budget / 2:
                break
            out.append((one, self.generate(one, self.teacher.seed)))
        return out

    def generate(
        self, one: Utterance, seed: int, *, temperature: float = 1.0, top_p: float = 1.0, voice: Path | None = None
    ) -> np.ndarray:
        """Free running, with a seed.

        Raises:
            TooSlowError: the budget is spent.
            NotFiniteError: the mel holds NaN or infinite values.
        """
        if self.spent > self.budget:
            raise TooSlowError(f"{self.spent:.0f} s of free running are spent, of {self.budget:.0f} s")
        started = time.perf_counter()
        with self.teacher.mode():
            mel = call_plugin(
                self.teacher.spec, self.model.generate, one.text,  # type: ignore[attr-defined]
                speaker_audio=voice or self.voices.get(one.id), language=one.language, temperature=temperature, top_p=top_p, seed=seed,
            )  # fmt: skip
            mel = checked_mel(self.teacher.spec, mel, self.teacher.n_mels)
        self.spent += time.perf_counter() - started
        return finite([mel], f"free running of {one.id}")[0]


class TooSlowError(Exception):
    """Free running takes longer than was allowed; the probe is skipped."""


class NotFiniteError(Exception):
    """A mel that a probe made holds NaN or infinite values; the probe fails."""


def finite(mels: list[np.ndarray], what: str) -> list[np.ndarray]:
    """The mels as they are.

    Raises:
        NotFiniteError: one holds NaN or infinite values; ``what`` gave them.
    """
    if not all(np.isfinite(mel).all() for mel in mels):
        raise NotFiniteError(f"{what}: NaN or infinite values")
    return mels


def change(a: np.ndarray, b: np.ndarray, unit: float) -> float:
    """Root mean square of ``a - b`` over their common frames, in units; infinite where a value is not finite."""
    n = min(len(a), len(b))
    value = float(np.sqrt(np.mean(np.square(a[:n].astype(np.float64) - b[:n]))) / unit)
    return value if np.isfinite(value) else float("inf")


def movement_of(mels: Sequence[np.ndarray], batch: Sequence[Utterance]) -> tuple[float, float]:
    """Standard deviation over time within bins, and r with the targets within bins, over the frames that both have."""
    pairs = [(m[: len(u.mel)].astype(np.float64), u.mel[: len(m)].astype(np.float64)) for m, u in zip(mels, batch, strict=True)]  # fmt: skip
    p, t = (np.concatenate([(pair[k] - pair[k].mean(0)).ravel() for pair in pairs]) for k in (0, 1))
    return _within(mels), float(p @ t / max(np.sqrt((p @ p) * (t @ t)), 1e-12))


def _within(mels: Any) -> float:
    return float(np.sqrt(np.mean([np.var(mel.astype(np.float64), axis=0).mean() for mel in mels])))


def _plain(value: Any) -> Any:
    if isinstance(value, (np.floating, float)):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value
