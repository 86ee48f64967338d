"""Faults of time, of frequency and of the audio: the model was trained on the mels of another front end or level.

They are made properly: from the audio, with the faulty front end; the model then predicts *that* mel.
"""

# ruff: noqa: ARG001 - every injector has the same signature
from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.diagnosis.corpora import RATE
from benchmarks.diagnosis.plan import Context, Injector, Plan

__all__ = ["FRONTEND_FAULTS"]

_BOTH = ("prediction", "target")
_HOP = 256


def _fields(plan: Plan, value: dict[str, Any], side: str, rng: np.random.Generator) -> None:
    plan.fields(side).update(value)


def _htk(plan: Plan, shared: dict[str, Any], side: str, rng: np.random.Generator) -> None:
    plan.model.update(shared)
    plan.target.update(shared)
    plan.fields(side)["mel_scale"] = "htk"


def _unnormed(plan: Plan, shared: dict[str, Any], side: str, rng: np.random.Generator) -> None:
    plan.model.update(shared)
    plan.target.update(shared)
    plan.fields(side)["filter_norm"] = None


def _half_hop(plan: Plan, samples: int, side: str, rng: np.random.Generator) -> None:
    """The content comes ``samples`` later (or earlier) in the prediction."""
    late = int(samples * rng.choice((-1, 1)))

    def moved(x: np.ndarray, _: int) -> np.ndarray:
        return np.concatenate([x[late:0:-1], x]) if late > 0 else x[-late:]

    plan.model_audio.append(moved)
    plan.frame_shift += late / _HOP


def _stretched(plan: Plan, hops: tuple[int, int], side: str, rng: np.random.Generator) -> None:
    hop = int(rng.choice(hops))
    plan.model["hop_length"] = hop
    plan.time_scale *= _HOP / hop


def _relabelled(plan: Plan, factors: tuple[float, float], side: str, rng: np.random.Generator) -> None:
    """Audio of ``factor`` times the rate was read as if it had the front end's."""
    import soxr

    factor = float(rng.choice(factors))
    plan.model_audio.append(
        lambda x, _: np.asarray(soxr.resample(x, RATE, RATE * factor, quality="HQ"), dtype=np.float32)
    )
    plan.time_scale *= factor
    plan.frequency_scale *= factor


def _equalised(plan: Plan, rms: float, side: str, rng: np.random.Generator) -> None:
    """A smooth offset for each bin: another room and microphone, or a shelf of one slope."""
    from scipy.ndimage import gaussian_filter1d

    curve = gaussian_filter1d(rng.standard_normal(80), rng.uniform(4.0, 12.0), mode="nearest")
    if rng.random() < 0.5:
        edge, width = rng.uniform(15, 65), rng.uniform(3, 12)
        curve = rng.choice((-1, 1)) / (1 + np.exp(-(np.arange(80) - edge) / width)) + 0.1 * curve / curve.std()
    curve -= curve.mean()
    curve *= rms / np.sqrt(np.square(curve).mean())
    plan.after(side).append(lambda arrays, _: [x + curve for x in arrays])


def _dead(plan: Plan, count: int, side: str, rng: np.random.Generator) -> None:
    """Bins that hold one value: at the floor, at their own mean, or at zero; at the top, at the bottom, or anywhere."""
    place = rng.choice(("top", "bottom", "anywhere"))
    bins = {"top": np.arange(80 - count, 80), "bottom": np.arange(count), "anywhere": rng.permutation(80)[:count]}[
        str(place)
    ]
    value = str(rng.choice(("floor", "mean", "zero")))

    def killed(arrays: list[np.ndarray], context: Context) -> list[np.ndarray]:
        out = [np.array(x) for x in arrays]
        held = {"floor": np.log(1e-5), "mean": np.concatenate(out).mean(0)[bins], "zero": 0.0}[value]
        for x in out:
            x[:, bins] = held
        return out

    plan.after(side).append(killed)


def _gain(plan: Plan, decibels: float, side: str, rng: np.random.Generator) -> None:
    factor = np.float32(10.0 ** (rng.choice((-1, 1)) * decibels / 20.0))
    plan.audio(side).append(lambda x, _: x * factor)


def _integers(plan: Plan, value: float, side: str, rng: np.random.Generator) -> None:
    plan.audio(side).append(lambda x, _: np.round(x * np.float32(value)))


def _uneven_levels(plan: Plan, sd_decibels: float, side: str, rng: np.random.Generator) -> None:
    """Another gain for each utterance."""
    gains = 10.0 ** (rng.normal(0.0, sd_decibels, 512) / 20.0)
    plan.audio(side).append(lambda x, number: x * np.float32(gains[number]))


def _floored(plan: Plan, share: float, side: str, rng: np.random.Generator) -> None:
    """A guard so high that ``share`` of the cells lie at it."""

    def edge(context: Context) -> float:
        return float(np.quantile(np.concatenate(context.own), share))

    if side == "prediction":
        plan.low = edge
    else:
        plan.after_target.append(lambda arrays, context: [np.maximum(x, edge(context)) for x in arrays])


def _power(plan: Plan, eps: float, side: str, rng: np.random.Generator) -> None:
    """Power instead of magnitude, with the guard ``eps`` far below what speech holds."""
    plan.fields(side).update(power=2, log_eps=eps)


def _power_floored(plan: Plan, eps: float, side: str, rng: np.random.Generator) -> None:
    """Power instead of magnitude, with a guard that cuts."""
    if side == "prediction":
        plan.model.update(power=2, log_eps=1e-12)
        plan.low = lambda _: float(np.log(eps))
    else:
        plan.target.update(power=2, log_eps=eps)


FRONTEND_FAULTS: dict[str, Injector] = {
    "half-hop": Injector(
        ("0.38 of a hop", "half a hop", "half a hop", "0.62 of a hop"), (96, 128, 128, 160), _half_hop, with_audio=True
    ),
    "time-stretch": Injector(
        ("hop 2 % off", "3 %", "5 %", "9 %"), ((251, 261), (248, 264), (243, 269), (235, 279)), _stretched
    ),
    "mel-scale": Injector(
        ("htk", "htk", "htk, 0 to 11025 Hz in both", "htk, 0 to 7600 Hz in both"),
        ({}, {}, {"fmax": 11025.0}, {"fmax": 7600.0}),
        _htk,
        sides=_BOTH,
        with_audio=True,
    ),
    "fmax": Injector(
        ("7600 Hz", "7000 Hz", "6000 Hz", "11025 Hz"),
        tuple({"fmax": hertz} for hertz in (7600.0, 7000.0, 6000.0, 11025.0)),
        _fields,
        sides=_BOTH,
        with_audio=True,
    ),
    "fmin": Injector(
        ("20 Hz", "50 Hz", "80 Hz", "125 Hz"),
        tuple({"fmin": hertz} for hertz in (20.0, 50.0, 80.0, 125.0)),
        _fields,
        sides=_BOTH,
        with_audio=True,
    ),
    "sample-rate": Injector(
        ("24 kHz / 22.05 kHz", "22.05 kHz / 16 kHz", "24 kHz / 16 kHz", "44.1 kHz / 22.05 kHz"),
        tuple((factor, 1.0 / factor) for factor in (24000 / 22050, 22050 / 16000, 1.5, 2.0)),
        _relabelled,
        with_audio=True,
    ),
    "area-norm": Injector(
        ("none against area", "none against area", "the same, fmax 11025 in both", "the same, fmax 7600 in both"),
        ({}, {}, {"fmax": 11025.0}, {"fmax": 7600.0}),
        _unnormed,
        sides=_BOTH,
        with_audio=True,
    ),
    "pre-emphasis": Injector(
        ("a = 0.7", "a = 0.85", "a = 0.95", "a = 0.97"),
        tuple({"preemphasis": a} for a in (0.7, 0.85, 0.95, 0.97)),
        _fields,
        sides=_BOTH,
        with_audio=True,
    ),
    "equaliser": Injector(
        ("rms 3 dB", "5 dB", "9 dB", "14 dB"),
        tuple(db / 8.686 for db in (3.0, 5.0, 9.0, 14.0)),
        _equalised,
    ),
    "dead-bins": Injector(("2 bins", "5 bins", "10 bins", "20 bins"), (2, 5, 10, 20), _dead),
    "gain": Injector(("2 dB", "6 dB", "12 dB", "20 dB"), (2.0, 6.0, 12.0, 20.0), _gain, sides=_BOTH),
    "int16-scale": Injector(
        ("x 32768", "x 32768", "x 32767", "x 32767"), (32768.0, 32768.0, 32767.0, 32767.0), _integers, sides=_BOTH
    ),
    "level-per-utterance": Injector(
        ("sd 2 dB", "sd 3.5 dB", "sd 5 dB", "sd 8 dB"),
        (2.0, 3.5, 5.0, 8.0),
        _uneven_levels,
        sides=_BOTH,
        least=4,
    ),
    "raised-floor": Injector(
        ("5 % of the cells", "10 %", "20 %", "40 %"), (0.05, 0.1, 0.2, 0.4), _floored, sides=_BOTH, with_audio=True
    ),
    "log-power": Injector(
        ("guard 1e-12", "guard 1e-10", "guard 1e-10", "guard 1e-9"),
        (1e-12, 1e-10, 1e-10, 1e-9),
        _power,
        sides=_BOTH,
        with_audio=True,
    ),
    "power-floor": Injector(
        ("guard 1e-6", "guard 1e-5", "guard 3e-5", "guard 1e-4"),
        (1e-6, 1e-5, 3e-5, 1e-4),
        _power_floored,
        sides=_BOTH,
        with_audio=True,
    ),
}
