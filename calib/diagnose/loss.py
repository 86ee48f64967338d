"""What trivial predictors score in a training loss, and where a reported loss stands among them.

Data flow::

    target (T, M) [prediction (T, M)] --losscorpus.LossCollector--> [Floor] --stand--> Standing
    mean, sd, per-bin mean and sd     --floors_from_statistics----> [Floor] --stand--> Standing

Conventions:
    A loss is the mean over all frames and bins of ``rho(target - predictor)``: ``mse`` e², ``mae`` |e|, ``huber`` e²/2 up
    to ``delta`` and ``delta (|e| - delta/2)`` beyond (P. J. Huber, "Robust estimation of a location parameter", Annals of
    Mathematical Statistics 35, 1964; no division by delta). Constants are fitted on the values that they are scored on.
    *Label noise* is Gaussian noise of a given sd that training adds to the target: the expectation over it is in closed
    form. In the *normalised space* both target and predictor are ``(mel - mean) / sd``; delta and noise are in that unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "APPROXIMATION",
    "AT",
    "CONSTANTS",
    "LOSSES",
    "TITLES",
    "Floor",
    "Loss",
    "Normalisation",
    "SplitReading",
    "Standing",
    "floors_from_statistics",
    "split_reading",
    "stand",
]

LOSSES = ("mse", "mae", "huber")

# From the easiest to beat to the hardest, in this order wherever two score the same.
TITLES = {
    "zero": "zero everywhere",
    "global_mean": "the global mean",
    "best_constant": "the best single constant",
    "bin_mean": "the per-bin mean",
    "best_bin_constant": "the best constant for each bin",
    "utterance_mean": "each utterance's own mean spectrum",
    "swapped": "another utterance's mel",
    "copy_previous": "a copy of the previous frame",
    "model": "the model's prediction (from the pairs)",
}
CONSTANTS = ("zero", "global_mean", "best_constant", "bin_mean", "best_bin_constant")

# Largest error of taking each bin as a Gaussian, against the real distribution, measured on six real corpora of full
# bandwidth and two front ends, mae and huber with delta .5, 1, 2 (tests/diagnose/test_loss.py repeats it).
APPROXIMATION = {"zero": 0.01, "global_mean": 0.03, "bin_mean": 0.05}
AT = 0.03  # a loss this near to a floor is that floor: the last digit of a log line is worth as much
_SAME = 0.01  # two constants this near to each other are one
_ONLY_STATS = "whether it is more than level and voice, the statistics cannot tell: give PAIRS or mels"
_NO_SPEECH = "level and voice are learned, speech is not yet"
_SUSPICION = (
    "does the model see the frame that it is to predict (an inverted or missing mask)? shift the input and look"
)
_SEES_PREVIOUS = "an autoregressive model is shown the previous true frame; its copy must be beaten"
_MAY_SEE_PREVIOUS = "a model that is shown the previous true frame must beat its copy as well; others need not"
_LEAK = 0.3  # of copying the previous frame: healthy autoregressive models reach .66 to .88


@dataclass(frozen=True)
class Loss:
    """A loss of the error.

    Args:
        name: ``mse``, ``mae`` or ``huber``.
        delta: where Huber's loss turns linear, in the unit of the error; of no effect on the others.

    Raises:
        ValueError: an unknown name, or a delta that is not a positive number.
    """

    name: str
    delta: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in LOSSES:
            raise ValueError(f"the loss is {self.name!r}; it must be one of {', '.join(LOSSES)}")
        if not (math.isfinite(self.delta) and self.delta > 0):
            raise ValueError(f"delta is {self.delta!r}; it must be a positive number")

    def __call__(self, error: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
        """Expected loss of ``error + n``, n Gaussian with sd ``noise`` (a scalar, or one that broadcasts)."""
        e, s = np.broadcast_arrays(np.asarray(error, dtype=np.float64), np.asarray(noise, dtype=np.float64))
        if self.name == "mse":
            return np.asarray(e * e + s * s)
        if not s.any():
            return self._plain(e)
        safe = np.where(s > 0, s, 1.0)
        noisy = _expected_abs(e, safe) if self.name == "mae" else _expected_huber(e, safe, self.delta)
        return np.asarray(np.where(s > 0, noisy, self._plain(e)))

    def _plain(self, e: np.ndarray) -> np.ndarray:
        a = np.abs(e)
        return (
            a
            if self.name == "mae"
            else np.asarray(np.where(a <= self.delta, 0.5 * a * a, self.delta * (a - 0.5 * self.delta)))
        )

    @property
    def words(self) -> str:
        """For people."""
        return {"mse": "mean squared error", "mae": "mean absolute error"}.get(
            self.name, f"Huber loss with delta {self.delta:g}"
        )


def _density(z: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi))


def _expected_abs(m: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Mean of the folded normal."""
    from scipy.special import ndtr

    return np.asarray(2.0 * s * _density(m / s) + m * (2.0 * ndtr(m / s) - 1.0))


def _expected_huber(m: np.ndarray, s: np.ndarray, delta: float) -> np.ndarray:
    """Huber's loss of a Gaussian of mean m and sd s: the partial moments of a normal inside and outside ±delta."""
    from scipy.special import ndtr

    a, b = (-delta - m) / s, (delta - m) / s
    pa, pb = _density(a), _density(b)
    inside = (m * m + s * s) * (ndtr(b) - ndtr(a)) + 2.0 * m * s * (pa - pb) + s * s * (a * pa - b * pb)
    beyond = m * (ndtr(-b) - ndtr(a)) + s * (pa + pb)
    return np.asarray(0.5 * inside + delta * beyond - 0.5 * delta * delta * (ndtr(-b) + ndtr(a)))


@dataclass(frozen=True)
class Normalisation:
    """The space that the loss is taken in: ``(mel - mean) / sd``; (0, 1) is the raw space."""

    mean: float = 0.0
    sd: float = 1.0


@dataclass(frozen=True)
class Floor:
    """What one predictor scores.

    Args:
        name: key, see `TITLES`.
        loss: without the weight, or None where it could not be computed.
        how: ``exact``, or how it was approximated.
        error: how far off, relatively, an approximation was when measured.
        skipped: why there is no figure.
    """

    name: str
    loss: float | None
    how: str = "exact"
    error: float = 0.0
    skipped: str | None = None

    @property
    def title(self) -> str:
        """For people."""
        return TITLES[self.name]


def floors_from_statistics(
    loss: Loss,
    mean: float,
    sd: float,
    bin_mean: np.ndarray | None = None,
    bin_sd: np.ndarray | None = None,
    *,
    noise: float = 0.0,
    space: Normalisation | None = None,
) -> list[Floor]:
    """The floors that a statistics file gives.

    Mean squared errors are exact: zero has mean² + sd², the global mean sd², the per-bin mean the mean of the per-bin
    variances. The other losses take each bin as a Gaussian (all values as one, without per-bin figures); the error of
    that, as measured, goes with the figure.

    Args:
        loss: the training loss.
        mean: of all values.
        sd: of all values.
        bin_mean: ``(M,)``, or None.
        bin_sd: ``(M,)``, or None.
        noise: sd of the label noise, in the unit of ``space``.
        space: what the loss is taken in; None is the raw space.

    Raises:
        ValueError: sd is not positive, or the per-bin figures contradict mean or sd by more than 2 %.
    """
    space = space or Normalisation()
    if not sd > 0:
        raise ValueError(f"the sd is {sd!r}; it must be positive")
    whole = bin_mean is None or bin_sd is None
    m, s = (np.array([mean]), np.array([sd])) if bin_mean is None or bin_sd is None else (bin_mean, bin_sd)
    implied = math.sqrt(float((s * s).mean() + m.var()))
    if abs(float(m.mean()) - mean) > 0.02 * sd or abs(implied - sd) > 0.02 * sd:
        raise ValueError(
            f"the per-bin figures give mean {m.mean():.4f} and sd {implied:.4f}, the global ones say {mean:.4f} and {sd:.4f}"
        )
    m, s, center = (m - space.mean) / space.sd, s / space.sd, (mean - space.mean) / space.sd
    spread = np.hypot(s, noise)
    exact = loss.name == "mse"
    how = "exact" if exact else f"approximated: {'all values' if whole else 'each bin'} taken as a Gaussian"
    errors = {name: 0.0 if exact else value * (3 if whole else 1) for name, value in APPROXIMATION.items()}
    out = []
    for name in TITLES:
        if name in {"zero", "global_mean"} or (name == "bin_mean" and not whole):
            constant = {"zero": np.zeros_like(m), "global_mean": np.full_like(m, center), "bin_mean": m}[name]
            # Zero far from the values scores nearly their mean; near it, it is a constant like the mean.
            like = "global_mean" if name == "zero" and abs(center) < 1.5 * sd / space.sd else name
            out.append(Floor(name, float(loss(m - constant, spread).mean()), how, errors[like]))
        elif name == "bin_mean":
            out.append(Floor(name, None, skipped="the statistics have no per-bin figures"))
        else:
            needs = "PAIRS" if name == "model" else "PAIRS or mels"
            out.append(Floor(name, None, skipped=f"needs {needs}: the statistics do not tell"))
    return out


@dataclass(frozen=True)
class Standing:
    """Where a reported loss stands among the floors.

    Args:
        value: as reported.
        weight: of the term.
        loss: value over weight.
        at: names of the floors that it equals, within `AT` and the floors' own error.
        above: names of the floors that score better (not met yet), the nearest first.
        below: names of the floors that it beats, the nearest first.
        share: how far it is on the way from the nearest floor beaten to the next one, 0 to 1; None outside or at one.
        status: ``fail`` no better than constants, ``warn``, ``pass``.
        headline: the answer in capitals, then what it rests on.
        remark: what the answer leaves open, or "".
    """

    value: float
    weight: float
    loss: float
    at: list[str]
    above: list[str]
    below: list[str]
    share: float | None
    status: str
    headline: str
    remark: str = ""


def stand(
    value: float, weight: float, floors: Sequence[Floor], *, unit: str = "", autoregressive: bool | None = None
) -> Standing:
    """Place a reported loss.

    Args:
        value: as reported, of the mel term alone.
        weight: that it was multiplied by.
        floors: from the data that the loss was computed on.
        unit: printed behind every loss.
        autoregressive: whether the model sees the previous true frame; then copying it must be beaten.

    Raises:
        ValueError: a weight that is not positive, a value that is not finite or negative, no floor with a figure.
    """
    if not (math.isfinite(weight) and weight > 0):
        raise ValueError(f"the weight is {weight!r}; it must be a positive number")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"the value is {value!r}; a loss is a number of 0 or more")
    known = {f.name: (float(f.loss), max(AT, f.error)) for f in floors if f.loss is not None and f.name != "model"}
    if not known:
        raise ValueError("no floor has a figure")
    for best, mean in (("best_constant", "global_mean"), ("best_bin_constant", "bin_mean")):
        if best in known and mean in known and known[best][0] >= (1.0 - _SAME) * known[mean][0]:
            del known[best]  # one name for one floor
    loss = value / weight
    at = [name for name, (floor, error) in known.items() if abs(loss - floor) <= error * floor]
    below = sorted((n for n, (f, _) in known.items() if loss < f and n not in at), key=lambda n: known[n][0])
    above = sorted((n for n, (f, _) in known.items() if loss >= f and n not in at), key=lambda n: -known[n][0])
    share = None
    if not at and above and below:
        hard, easy = known[above[0]][0], known[below[0]][0]
        share = (easy - loss) / (easy - hard)
    status, headline, remark = _judge(loss, known, at, above, below, autoregressive, unit)
    return Standing(value, weight, loss, at, above, below, share, status, headline, remark)


def _judge(
    loss: float,
    known: dict[str, tuple[float, float]],
    at: list[str],
    above: list[str],
    below: list[str],
    autoregressive: bool | None,
    unit: str,
) -> tuple[str, str, str]:
    """Status, headline and remark: constants first, then the utterance's own spectrum, then the copy."""

    def named(name: str) -> str:
        return f"{TITLES[name]} ({known[name][0]:.4g}{unit})"

    constants = [name for name in CONSTANTS if name in known]
    equal = [name for name in at if name in constants]
    if equal:
        return "fail", f"NOT LEARNING: no better than {named(equal[-1])}", ""
    missed = [name for name in above if name in constants]
    beaten = [name for name in below if name in constants]
    if missed:
        only = f", only better than {named(beaten[0])}" if beaten else ""
        return "fail", f"NOT LEARNING: worse than {named(missed[0])}{only}", ""
    if "utterance_mean" not in known:
        hardest = min(constants, key=lambda name: known[name][0])
        return "pass", f"BETTER THAN A CONSTANT: the best that the statistics give is {named(hardest)}", _ONLY_STATS
    own = named("utterance_mean")
    if "utterance_mean" in at or "utterance_mean" in above:
        return "warn", f"LEARNING LITTLE: better than any constant, but not than {own}", _NO_SPEECH
    if "copy_previous" not in known:
        return "pass", f"LEARNING: better than any constant and than {own}", ""
    copy = named("copy_previous")
    if loss < _LEAK * known["copy_previous"][0]:
        return "warn", f"SUSPICIOUSLY LOW: under {_LEAK:g} of {copy}", _SUSPICION
    if "copy_previous" in below:
        return "pass", f"LEARNING: better than every trivial predictor, also than {copy}", ""
    if autoregressive:
        return "warn", f"LEARNING LITTLE: better than any constant, but not than {copy}", _SEES_PREVIOUS
    remark = _MAY_SEE_PREVIOUS if autoregressive is None else ""
    return "pass", f"LEARNING: better than any constant and than {own}; not better than {copy}", remark


@dataclass(frozen=True)
class SplitReading:
    """Two reported losses under two weights, read as one predictor plus other terms that the weight does not touch.

    Args:
        loss: of the predictor, without weight: ``(v1 - v2) / (w1 - w2)``.
        other: what is left: ``v1 - w1 loss``.
        possible: both are not negative.
    """

    loss: float
    other: float
    possible: bool


def split_reading(first: tuple[float, float], second: tuple[float, float]) -> SplitReading:
    """Solve ``value = weight * loss + other`` from two (value, weight).

    Two equations always have a solution; what it says is only whether it makes sense and where it falls.

    Raises:
        ValueError: the weights are equal.
    """
    (v1, w1), (v2, w2) = first, second
    if w1 == w2:
        raise ValueError(f"both weights are {w1:g}; two different ones are needed to tell the terms apart")
    loss = (v1 - v2) / (w1 - w2)
    other = v1 - w1 * loss
    return SplitReading(loss, other, loss >= 0 and other >= -1e-9 * max(abs(v1), abs(v2)))
