"""What a fault may change between the audio and the two arrays, and the changes carried out.

A case is made in this order; a fault is one or more entries of the `Plan`::

    audio -> (model_audio)  -> model's front end  -> what the model was trained to predict: "own" mels
    audio -> (target_audio) -> target's front end -> targets
    own mels -> the model's prediction of them (simulated, or a trained model's) -> (limits) -> (after_prediction)
                                                                      targets -> (after_target)

Conventions:
    Arrays are ``(T, M)``. Every list holds the case's utterances first and the fresh ones, on which repairs are scored,
    after them; ``Context.count`` is the number of the first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.diagnosis.corpora import Statistics

__all__ = ["Arrays", "Context", "Injector", "Plan", "each", "limited"]

Arrays = list[np.ndarray]


@dataclass
class Context:
    """What a change may look at.

    Args:
        own: mels that the model was trained to predict, without limits.
        targets: targets as they are at that point.
        count: how many of them are the case's; the rest is fresh.
        statistics: of the own mels: the training set's.
        residual: root mean square of prediction - own: the model's uncertainty.
        kind: ``mean`` or ``sample``.
        rng: draws.
    """

    own: Arrays
    targets: Arrays
    count: int
    statistics: Statistics
    residual: float
    kind: str
    rng: np.random.Generator


Change = Callable[[Arrays, Context], Arrays]


@dataclass
class Plan:
    """All that a case's faults change.

    Args:
        model: fields of the model's front end that differ from hifigan's.
        target: fields of the target's.
        model_audio: changes of the audio that the model's mels are made of, ``(samples, number) -> samples``.
        target_audio: the same for the targets.
        time_scale: frames of an own mel for one frame of a target.
        frame_shift: frames by which an own mel comes later.
        frequency_scale: true Hz for one Hz on the axis of the own mels.
        low: floor of what the model predicts, from the own mels; or None.
        high: ceiling; or None.
        reads: what the model predicts instead of its own mels; or None.
        after_prediction: changes of the predictions, with the stage of their fault.
        after_target: changes of the targets.
    """

    model: dict[str, Any] = field(default_factory=dict)
    target: dict[str, Any] = field(default_factory=dict)
    model_audio: list[Callable[[np.ndarray, int], np.ndarray]] = field(default_factory=list)
    target_audio: list[Callable[[np.ndarray, int], np.ndarray]] = field(default_factory=list)
    time_scale: float = 1.0
    frame_shift: float = 0.0
    frequency_scale: float = 1.0
    low: Callable[[Context], float] | None = None
    high: Callable[[Context], float] | None = None
    reads: Change | None = None
    after_prediction: list[Change] = field(default_factory=list)
    after_target: list[Change] = field(default_factory=list)

    def fields(self, side: str) -> dict[str, Any]:
        """The front end's fields of one side."""
        return self.model if side == "prediction" else self.target

    def audio(self, side: str) -> list[Callable[[np.ndarray, int], np.ndarray]]:
        """The audio's changes of one side."""
        return self.model_audio if side == "prediction" else self.target_audio

    def after(self, side: str) -> list[Change]:
        """The arrays' changes of one side."""
        return self.after_prediction if side == "prediction" else self.after_target


@dataclass(frozen=True)
class Injector:
    """How a fault is made.

    Args:
        severities: four values, mild to severe, as people read them; where a fault has no size, four ways it comes about.
        values: the same for the code.
        apply: ``(plan, value, side, rng)``: enters the fault in the plan.
        sides: which array may be the one that is off.
        least: utterances without which the fault does not exist.
        autoregressive: True or False where only such a model can have it.
        trained: whether it can be put into a trained checkpoint's predictions.
        with_audio: whether it is always judged with the audio too.
    """

    severities: tuple[str, ...]
    values: tuple[Any, ...]
    apply: Callable[[Plan, Any, str, np.random.Generator], None]
    sides: tuple[str, ...] = ("prediction",)
    least: int = 1
    autoregressive: bool | None = None
    trained: bool = True
    with_audio: bool = False

    def __post_init__(self) -> None:
        if not len(self.severities) == len(self.values) == 4:
            raise ValueError(f"four severities are needed, got {len(self.severities)} and {len(self.values)}")

    def level(self, severity: int) -> Any:
        """The value of severity 1 to 4."""
        return self.values[severity - 1]

    def also(self, **changes: Any) -> Injector:
        """A copy with other fields."""
        return dataclasses.replace(self, **changes)


def each(function: Callable[[np.ndarray], np.ndarray]) -> Change:
    """A change of every array by itself."""
    return lambda arrays, _: [np.asarray(function(array)) for array in arrays]


def limited(predictions: Sequence[np.ndarray], plan: Plan, context: Context) -> Arrays:
    """Predictions of a model whose training targets were cut off at ``plan.low`` and ``plan.high``.

    A sample-like model cuts hard. A conditional-mean model predicts the mean of what is cut: with a normal residual of
    sd s and z = (p - low) / s that is ``low + s (phi(z) + z Phi(z))``; so it does not stand still below the floor
    unless it is sure.
    """
    from scipy.stats import norm

    out = [np.asarray(p, dtype=np.float64) for p in predictions]
    sd = max(context.residual, 1e-6)
    for limit, sign in ((plan.low, 1.0), (plan.high, -1.0)):
        if limit is None:
            continue
        edge = limit(context)
        if context.kind == "sample":
            out = [np.maximum(p, edge) if sign > 0 else np.minimum(p, edge) for p in out]
            continue
        scaled = [sign * (p - edge) / sd for p in out]
        out = [edge + sign * sd * (norm.pdf(z) + z * norm.cdf(z)) for z in scaled]
    return out
