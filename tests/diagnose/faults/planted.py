"""Faults planted on purpose: synthetic speech, what a healthy model predicts of its mels, and one fault at a time.

A fault of the front end is made by that front end on the same audio, and the model then predicts *those* mels; any other
fault changes the arrays as it would in the field. Nothing here is taken from the code under test but `FrontEnd`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soxr
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter, gaussian_filter1d, uniform_filter1d
from scipy.signal import lfilter
from speechlike import RATE, voice

from calib.mel.frontend import FrontEnd

Mels = Sequence[np.ndarray]

COUNT = 8  # utterances
R = 0.9
HIFIGAN = FrontEnd.load("hifigan")


@functools.cache
def spoken(index: int) -> np.ndarray:
    """Three to four seconds: four voices that take turns, so that formants move, with hiss that comes and goes in a room."""
    seconds = 3.0 + 0.1 * index
    n, cut = int(seconds * RATE), int(0.1 * seconds * RATE) - int(0.12 * RATE)
    rng = np.random.default_rng(501 + index)
    parts = (g * voice(1.2 * seconds, 5 * index + 5 + k)[cut : cut + n] for k, g in enumerate((1.0, 0.7, 0.5, 0.35)))
    time = np.arange(n) / RATE
    x = sum(parts)
    noise = rng.standard_normal((3, n))
    breath = lfilter([1.0], [1.0, -0.9], noise[0]) * np.sqrt(uniform_filter1d(x * x, 512))
    comes = np.clip(np.sin(2 * np.pi * 2.3 * time + 1.7 * index), 0.0, None) ** 2
    hiss = lfilter([1.0, -0.9], [1.0, 0.5], noise[1]) * comes * np.abs(np.sin(2 * np.pi * 0.4 * time + index))
    x = x + 0.15 * breath + 0.02 * hiss
    room = 1e-4 * noise[2] + 2e-4 * lfilter([1.0], [1.0, -0.95], noise[2])
    return np.asarray(0.4 * x / np.abs(x).max() + room, dtype=np.float32)


@functools.cache
def mels(frontend: FrontEnd = HIFIGAN) -> tuple[np.ndarray, ...]:
    """Of every utterance, ``(T, M)``."""
    return tuple(frontend.mel(spoken(k)) for k in range(COUNT))


def heard(change: Callable[[np.ndarray, int], np.ndarray], frontend: FrontEnd = HIFIGAN) -> Mels:
    """Mels of changed audio."""
    return [frontend.mel(np.asarray(change(spoken(k), k), dtype=np.float32)) for k in range(COUNT)]


def _coherence(shape: tuple[int, int], height: float) -> np.ndarray:
    """How much of each component over time and bins a model knows: less of what is fast, and less of what is fine."""
    hertz = np.arange(shape[0])[:, None] * (RATE / 256 / (2 * shape[0]))
    logit = height - 1.2 * np.log2(1 + np.arange(shape[1]) / 4) - (hertz / 12) ** 2
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -40, 40))))


def modelled(
    own: Sequence[np.ndarray], *, r: float = R, kind: str = "mean", autoregressive: bool = False, seed: int = 1
) -> Mels:
    """What a healthy model trained on these mels predicts at within-bin correlation r.

    A conditional mean is a Wiener filter: with squared coherence g in a component it is ``g y + sqrt(g (1 - g)) noise``
    of the target's own spectrum, shrunk by g, least-squares slope one. A sampler draws what is left unexplained anew. An
    autoregressive model also knows a part of the error that it would have made in the frame before.
    """
    rng = np.random.default_rng(seed)
    mean = np.concatenate(list(own)).mean(axis=0, dtype=np.float64)
    parts = [dctn(y - mean, norm="ortho") for y in own]
    wanted = r if kind == "sample" else r * r
    total = sum(float((d * d).sum()) for d in parts)
    low, high = -20.0, 30.0
    for _ in range(20):
        middle = (low + high) / 2
        explained = sum(float((_coherence(d.shape, middle) * d * d).sum()) for d in parts) / total
        low, high = (middle, high) if explained < wanted else (low, middle)
    out = []
    for d, y in zip(parts, own, strict=True):
        g = _coherence(d.shape, high)
        known = g * d + np.sqrt(g * (1 - g)) * d * rng.choice((-1.0, 1.0), d.shape)
        if kind == "sample":
            known = known + (d - known) * rng.choice((-1.0, 1.0), d.shape)
        p = mean + idctn(known, norm="ortho")
        if autoregressive:
            error = np.concatenate([np.zeros((1, d.shape[1])), (y - p)[:-1]])
            p = p + 0.5 * gaussian_filter1d(error, 2.0, axis=1)
        out.append(p.astype(np.float32))
    return out


@functools.cache
def healthy(**changes: Any) -> tuple[np.ndarray, ...]:
    """A healthy model's predictions of the targets."""
    return tuple(modelled(mels(), **changes))


@dataclass(frozen=True)
class Case:
    """What `explain` is given.

    Args:
        predictions: ``(T', M)`` each.
        targets: ``(T, M)`` each.
        declared: further arguments of `explain`.
    """

    predictions: Mels
    targets: Mels = field(default_factory=mels)
    declared: dict[str, Any] = field(default_factory=dict)

    def frames(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Cut to one length, as `calib` does with a few frames more or less."""
        pairs = zip(self.predictions, self.targets, strict=True)
        return [
            (p[: min(len(p), len(y))].astype(np.float32), y[: min(len(p), len(y))].astype(np.float32)) for p, y in pairs
        ]


# --- how each fault comes about --------------------------------------------------------------------------------------


def _each(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[], Case]:
    """Predictions changed one by one."""
    return lambda: Case([np.asarray(change(p)) for p in healthy()])


def of_frontend(**fields: Any) -> Case:
    """Predictions of a model that was trained on the mels of another front end."""
    return Case(modelled(mels(dataclasses.replace(HIFIGAN, **fields))))


def of_audio(change: Callable[[np.ndarray, int], np.ndarray]) -> Case:
    """Predictions of a model that was trained on the mels of other audio."""
    return Case(modelled(heard(change)))


def statistics() -> tuple[np.ndarray, float, float, np.ndarray]:
    """Mean and sd of the training set, over all values and by bin: near these targets' own, but not the same."""
    values = np.concatenate(mels()).astype(np.float64)
    mean, sd = float(values.mean()) + 0.02, float(values.std()) * 1.01
    return values.mean(axis=0) + 0.02, mean, sd, values.std(axis=0) * 1.01


def _normalised(p: np.ndarray) -> np.ndarray:
    _, mean, sd, _ = statistics()
    return (p - mean) / sd


def _denormalised(p: np.ndarray) -> np.ndarray:
    _, mean, sd, _ = statistics()
    return p * sd + mean


def _by_bin(p: np.ndarray) -> np.ndarray:
    mean, _, _, sd = statistics()
    return (p - mean) / sd


def _shrunken(p: np.ndarray) -> np.ndarray:
    mean, _, _, _ = statistics()
    return mean + 0.5 * (p - mean)


def _swapped(p: np.ndarray) -> np.ndarray:
    _, mean, sd, _ = statistics()
    return _normalised(p) * mean + sd


def _own_ranges() -> Case:
    """Trained on mels that were mapped to [0, 1], each by its own minimum and maximum."""
    return Case([(p - y.min()) / (y.max() - y.min()) for p, y in zip(healthy(), mels(), strict=True)])


def _coqui(p: np.ndarray) -> np.ndarray:
    return np.clip(0.694871171 * p + 2.4, -4.0, 4.0)


def _wrong_statistics(p: np.ndarray) -> np.ndarray:
    mean = float(np.concatenate(mels()).mean())
    return (p - mean) * 0.7 + mean - 1.3


def _mispaired() -> Case:
    """A file was missing: from there on each prediction is the next one's."""
    predictions = healthy()
    moved = [*predictions[:4], *predictions[5:], predictions[4]]
    return Case([np.resize(p, y.shape) for p, y in zip(moved, mels(), strict=True)])


def _relabelled(samples: np.ndarray, _: int) -> np.ndarray:
    """Audio at 24 kHz that was taken for audio at 22.05 kHz."""
    return soxr.resample(samples, RATE, 24000)


def _copied() -> Case:
    predictions = [0.03 * p + 0.97 * np.concatenate([y[:1], y[:-1]]) for p, y in zip(healthy(), mels(), strict=True)]
    return Case(predictions, declared={"autoregressive": True})


def _coloured() -> Case:
    curve = gaussian_filter1d(np.random.default_rng(7).standard_normal(80), 8.0, mode="nearest")
    curve = (curve - curve.mean()) / curve.std() * 0.7
    return Case([p + curve for p in healthy()])


def _dead() -> Case:
    edge = np.arange(80) >= 70
    return Case([np.where(edge, np.log(1e-5), p) for p in healthy()])


def _floored() -> Case:
    """Trained on mels with a guard under which a fifth of the cells lie."""
    edge = float(np.quantile(np.concatenate(mels()), 0.2))
    return Case([np.maximum(p, edge) for p in modelled(mels(), kind="sample")])


def _clipped() -> Case:
    edge = float(np.quantile(np.concatenate(mels()), 0.88))
    return Case([np.minimum(p, edge) for p in healthy()])


def _power_floored() -> Case:
    own = mels(dataclasses.replace(HIFIGAN, power=2, log_eps=1e-12))
    return Case([np.maximum(p, np.log(1e-4)) for p in modelled(own)])


def _uneven() -> Case:
    gains = 10 ** (np.random.default_rng(3).normal(0.0, 5.0, COUNT) / 20)
    return of_audio(lambda x, k: x * gains[k])


def _collapsed() -> Case:
    rng = np.random.default_rng(4)
    return Case([0.02 * gaussian_filter(rng.standard_normal(y.shape), 1.0) for y in mels()])


def _unread() -> Case:
    """Speech of the next utterance, from its middle on."""
    predictions = healthy()
    others = [np.roll(predictions[(k + 1) % COUNT], 97, axis=0) for k in range(COUNT)]
    return Case(
        [np.resize(p, y.shape) for p, y in zip(others, mels(), strict=True)], declared={"autoregressive": False}
    )


def _untrained() -> Case:
    """A random network that reads random phonemes."""
    rng = np.random.default_rng(6)
    phonemes, hidden, out = (rng.standard_normal(s) / 5 for s in ((40, 64), (64, 64), (64, 80)))
    predictions = []
    for y in mels():
        steps = np.repeat(rng.integers(40, size=len(y)), rng.integers(3, 15, size=len(y)))[: len(y)]
        predictions.append(np.tanh(phonemes[steps] @ hidden * 3) @ out - 3)
    return Case(predictions)


PLANTED: dict[str, Callable[[], Case]] = {
    "flipped-bins": _each(lambda p: p[:, ::-1]),
    "reshaped": _each(lambda p: np.ascontiguousarray(p.T).reshape(p.shape)),
    "wrong-pairs": _mispaired,
    "shift": _each(lambda p: np.concatenate([p[:1]] * 3 + [p])),
    "half-hop": lambda: dataclasses.replace(of_frontend(padding="center"), declared={"autoregressive": False}),
    "time-stretch": lambda: of_frontend(hop_length=264),
    "copying": _copied,
    "mel-scale": lambda: of_frontend(mel_scale="htk"),
    "fmax": lambda: of_frontend(fmax=11025.0),
    "fmin": lambda: of_frontend(fmin=80.0),
    "sample-rate": lambda: of_audio(_relabelled),
    "area-norm": lambda: of_frontend(filter_norm=None),
    "pre-emphasis": lambda: of_frontend(preemphasis=0.97),
    "equaliser": _coloured,
    "dead-bins": _dead,
    "normalised": _each(_normalised),
    "normalised-per-bin": _each(_by_bin),
    "normalised-twice": _each(lambda p: _normalised(_normalised(p))),
    "denormalised-twice": _each(_denormalised),
    "log-base": _each(lambda p: p / np.log(10)),
    "decibel": _each(lambda p: p * 20 / np.log(10)),
    "log-power": lambda: of_frontend(power=2, log_eps=1e-10),
    "range-normalised": _each(_coqui),
    "minmax-per-utterance": _own_ranges,
    "mean-std-swapped": _each(_swapped),
    "wrong-stats": _each(_wrong_statistics),
    "shrunken": _each(_shrunken),
    "gain": lambda: of_audio(lambda x, _: 0.3 * x),
    "int16-scale": lambda: of_audio(lambda x, _: np.round(32768 * x)),
    "sign-flipped": _each(np.negative),
    "log-missing": _each(np.exp),
    "raised-floor": _floored,
    "power-floor": _power_floored,
    "clipped": _clipped,
    "level-per-utterance": _uneven,
    "level-drift": _each(lambda p: p + np.linspace(0.0, 1.2, len(p))[:, None]),
    "collapsed": _collapsed,
    "text-ignored": _unread,
    "untrained": _untrained,
    "oversmoothed-time": _each(lambda p: uniform_filter1d(p, 7, axis=0)),
    "oversmoothed-frequency": _each(lambda p: uniform_filter1d(p, 5, axis=1)),
}


# --- what no fault of the library describes --------------------------------------------------------------------------


def _bursts() -> Case:
    """White noise of six frames in a sixth of the time."""
    rng = np.random.default_rng(11)
    sd = float(np.concatenate(mels()).std())
    out = []
    for p in healthy():
        on = np.repeat(rng.random(len(p) // 6 + 1) < 1 / 6, 6)[: len(p), None]
        out.append(p + on * rng.normal(0.0, 1.5 * sd, p.shape))
    return Case(out)


def _exchanged_bins() -> Case:
    order = np.random.default_rng(12).permutation(80)
    return Case([p[:, order] for p in healthy()])


def _echoed() -> Case:
    return Case([0.6 * p + 0.4 * p[np.maximum(np.arange(len(p)) - 15, 0)] for p in healthy()])


UNLISTED: dict[str, Callable[[], Case]] = {
    "noise bursts": _bursts,
    "bins in a random order": _exchanged_bins,
    "an echo": _echoed,
}
