"""Cases: a fault of the front end (targets that are not what the vocoder wants) crossed with a fault of the model.

The vocoder wants ``hifigan_jik``. Targets are real mels of the recordings in another front end, or changed after that;
predictions are simulated from the targets (``benchmarks.diagnosis.simulate``) and then spoiled, or not.

Conventions:
    A front-end fault is *harmless* (the vocoder makes the same sound) or not. A model fault is a fault or none.
    Expected: ``neither`` (both harmless), ``model``, ``front-end``, ``both``; ``targets`` where the predictions are
    made from what the vocoder wants and the targets are not; ``unknown`` where the recordings are those of others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.diagnosis import corpora
from benchmarks.diagnosis.simulate import Quality, simulate
from calib.mel.frontend import FrontEnd

__all__ = ["FRONT", "MODEL", "Case", "Front", "all_cases", "make"]

Arrays = list[np.ndarray]
_UTTERANCES = 6


@dataclass(frozen=True)
class Front:
    """A fault of the front end.

    Args:
        harmless: whether the vocoder makes the same sound from such targets.
        fields: of the targets' front end that differ from the vocoder's.
        base: another front end than the vocoder's, by name.
        after: what is done to the mels then, all utterances at once.
        audio: what is done to the samples before.
    """

    harmless: bool
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    base: str = ""
    after: Callable[[Arrays], Arrays] | None = None
    audio: Callable[[np.ndarray], np.ndarray] | None = None


def _pooled(mels: Arrays) -> tuple[float, float]:
    everything = np.concatenate(mels)
    return float(everything.mean()), float(everything.std())


def _global(mels: Arrays) -> Arrays:
    mean, sd = _pooled(mels)
    return [((m - mean) / sd).astype(np.float32) for m in mels]


def _by_bin(mels: Arrays) -> Arrays:
    everything = np.concatenate(mels)
    mean, sd = everything.mean(0), everything.std(0)
    return [((m - mean) / sd).astype(np.float32) for m in mels]


def _foreign(mels: Arrays) -> Arrays:
    """Normalised with the data's statistics and brought back with another dataset's (mean 1 lower, sd .8 of it)."""
    mean, sd = _pooled(mels)
    return [((m - mean) / sd * (0.8 * sd) + mean - 1.0).astype(np.float32) for m in mels]


def _own_range(mels: Arrays) -> Arrays:
    return [((m - m.min()) / (m.max() - m.min())).astype(np.float32) for m in mels]


def _half(mels: Arrays) -> Arrays:
    return [m.astype(np.float16).astype(np.float32) for m in mels]


def _flipped(mels: Arrays) -> Arrays:
    return [np.ascontiguousarray(m[:, ::-1]) for m in mels]


FRONT: dict[str, Front] = {
    "same": Front(harmless=True),
    "half-hop (tacotron2)": Front(harmless=True, base="tacotron2_nv"),
    "symmetric window (NeMo)": Front(harmless=True, base="nemo_hifigan_22k"),
    "no spectrum eps": Front(harmless=True, fields={"spectrum_eps": 0.0}),
    "zero padding": Front(harmless=True, fields={"pad_mode": "constant"}),
    "guard 1e-8 (Coqui ln)": Front(harmless=True, fields={"log_eps": 1e-8}),
    "half precision": Front(harmless=True, after=_half),
    "peak level .95": Front(harmless=True, fields={"peak_norm": 0.95}),
    "6 dB quieter": Front(harmless=True, audio=lambda x: x * np.float32(0.5)),
    "trimmed": Front(harmless=True, fields={"trim_top_db": 30.0}),
    "log10": Front(harmless=False, fields={"log": "log10"}),
    "20 log10": Front(harmless=False, fields={"log": "log10", "log_multiplier": 20.0}),
    "power": Front(harmless=False, fields={"power": 2, "spectrum_eps": 0.0}),
    "normalised, one mean and sd": Front(harmless=False, after=_global),
    "normalised by bin": Front(harmless=False, after=_by_bin),
    "another dataset's statistics": Front(harmless=False, after=_foreign),
    "own range in each utterance": Front(harmless=False, after=_own_range),
    "Matcha VCTK": Front(harmless=False, base="matcha_vctk"),
    "Coqui [-4, 4]": Front(harmless=False, base="coqui_ap_default"),
    "VITS": Front(harmless=False, base="vits_jaywalnut"),
    "ParallelWaveGAN": Front(harmless=False, base="pwg_ljspeech"),
    "MelGAN": Front(harmless=False, base="melgan_descript"),
    "XTTS dvae": Front(harmless=False, base="xtts_dvae"),
    "HTK scale": Front(harmless=False, fields={"mel_scale": "htk"}),
    "fmax 11025 Hz": Front(harmless=False, fields={"fmax": 11025.0}),
    "no area norm": Front(harmless=False, fields={"filter_norm": None}),
    "pre-emphasis .97": Front(harmless=False, fields={"preemphasis": 0.97}),
    "int16 samples": Front(harmless=False, audio=lambda x: x * np.float32(32768.0)),
    "floor 1e-2": Front(harmless=False, fields={"log_eps": 1e-2}),
    "hop 275": Front(harmless=False, fields={"hop_length": 275}),
    "24 kHz (StyleTTS 2)": Front(harmless=False, base="styletts2"),
    "24 kHz, hop 256": Front(harmless=False, fields={"sample_rate": 24000, "fb_sample_rate": 24000}),
    "bins upside down": Front(harmless=False, after=_flipped),
    "100 bins": Front(harmless=False, fields={"n_mels": 100}),
}


@dataclass(frozen=True)
class Model:
    """A model.

    Args:
        good: whether it predicts what it was shown.
        quality: simulated.
        after: what is done to the predictions then.
    """

    good: bool
    quality: Quality
    after: Callable[[Arrays, np.random.Generator], Arrays] | None = None


def _other_speech(predictions: Arrays, rng: np.random.Generator) -> Arrays:
    """Speech, but not of this text: another utterance's prediction, repeated or cut to the length."""
    del rng
    return [np.resize(predictions[(k + 2) % len(predictions)], p.shape) for k, p in enumerate(predictions)]


def _collapsed(predictions: Arrays, rng: np.random.Generator) -> Arrays:
    mean = np.concatenate(predictions).mean(0)
    sd = 0.02 * float(np.concatenate(predictions).std())
    return [(mean + sd * rng.standard_normal(p.shape)).astype(np.float32) for p in predictions]


_MEAN, _SAMPLE, _PLAIN = Quality(0.93, "mean", True), Quality(0.93, "sample", False), Quality(0.85, "mean", False)

MODEL: dict[str, Model] = {
    "healthy": Model(good=True, quality=_MEAN),
    "healthy, sampling": Model(good=True, quality=_SAMPLE),
    "healthy, r .85": Model(good=True, quality=_PLAIN),
    "still normalised": Model(good=False, quality=_MEAN, after=lambda ps, _: _global(ps)),
    "scale .6, offset": Model(
        good=False,
        quality=_MEAN,
        after=lambda ps, _: [(0.6 * p + 0.5 * float(np.concatenate(ps).std())).astype(np.float32) for p in ps],
    ),
    "other speech": Model(good=False, quality=_MEAN, after=_other_speech),
    "collapsed": Model(good=False, quality=_MEAN, after=_collapsed),
    "5 frames late": Model(
        good=False, quality=_PLAIN, after=lambda ps, _: [np.concatenate([np.repeat(p[:1], 5, 0), p[:-5]]) for p in ps]
    ),
    "weak, r .5": Model(good=False, quality=Quality(0.5, "mean", False)),
}


@dataclass(frozen=True)
class Case:
    """One case.

    Args:
        corpus: which.
        front: fault of the front end.
        model: fault of the model.
        seed: of the simulation.
        twist: ``swapped``: the predictions are made from what the vocoder wants, not from the targets; ``recordings``: the
            audio is that of other utterances; or "".
    """

    corpus: str
    front: str
    model: str
    seed: int
    twist: str = ""

    @property
    def expected(self) -> str:
        """Whom to blame."""
        front, model = FRONT[self.front].harmless, MODEL[self.model].good
        if self.twist:
            return {"swapped": "targets", "recordings": "unknown"}[self.twist]
        return {(True, True): "neither", (True, False): "model", (False, True): "front-end", (False, False): "both"}[front, model]  # fmt: skip


def all_cases(names: Sequence[str], *, full: bool = False) -> list[Case]:
    """Every front end with a healthy model and with a faulty one, in turn (with all of them where ``full``)."""
    good = [name for name, model in MODEL.items() if model.good]
    bad = [name for name, model in MODEL.items() if not model.good]
    out = []
    for row, front in enumerate(FRONT):
        chosen = [*good, *bad] if full else [good[row % len(good)], bad[row % len(bad)]]
        out += [Case(names[(row + k) % len(names)], front, model, 10 * row + k) for k, model in enumerate(chosen)]
        f = FRONT[front]
        if (
            not f.harmless
            and row % 4 == 0
            and f.base != "styletts2"
            and not {"n_mels", "hop_length", "sample_rate"} & set(f.fields)
        ):
            out.append(Case(names[row % len(names)], front, "healthy", 10 * row + 9, "swapped"))
        if row % 8 == 0:
            out.append(Case(names[(row // 8) % len(names)], front, "healthy", 10 * row + 8, "recordings"))
    return out


def make(case: Case) -> tuple[Arrays, Arrays, Arrays, FrontEnd]:
    """``(predictions, targets, samples, front end of the targets)`` of some utterances of the case's corpus."""
    import soxr

    rng = np.random.default_rng(1000 + case.seed)
    everything = corpora.load(case.corpus).pieces
    chosen = sorted(rng.choice(len(everything), size=_UTTERANCES, replace=False))
    samples = [everything[k].samples for k in chosen]
    fault, model = FRONT[case.front], MODEL[case.model]
    wanted = corpora.hifigan()
    frontend = dataclasses.replace(FrontEnd.load(fault.base) if fault.base else wanted, **fault.fields)
    targets = []
    for x in samples:
        y = x if frontend.sample_rate == corpora.RATE else soxr.resample(x, corpora.RATE, frontend.sample_rate)
        targets.append(frontend.mel(y if fault.audio is None else fault.audio(y)))
    if fault.after is not None:
        targets = fault.after(targets)
    shown = [wanted.mel(x) for x in samples] if case.twist == "swapped" else targets
    predictions = simulate(shown, model.quality, rng)
    if model.after is not None:
        predictions = model.after(predictions, rng)
    if case.twist == "swapped":
        predictions = [p[: len(t)] for p, t in zip(predictions, targets, strict=True)]
        targets = [t[: len(p)] for p, t in zip(predictions, targets, strict=True)]
    if case.twist == "recordings":
        others = rng.permutation([k for k in range(len(everything)) if k not in chosen])
        samples = [everything[k].samples for k in others[:_UTTERANCES]]
    return predictions, targets, samples, frontend
