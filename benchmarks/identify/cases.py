"""What is to be identified: the catalogue, random front ends outside it, and noisy mels of the catalogue.

Conventions: a case is plain data; `make` gives its audio and mel. Seeds decide everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
from scipy.ndimage import gaussian_filter

from benchmarks.identify import speech
from calib.mel.catalogue import entries
from calib.mel.frontend import FrontEnd

__all__ = ["Case", "Made", "cases", "make"]


@dataclass(frozen=True)
class Case:
    """One identification.

    Args:
        group: ``catalogue``, ``random`` or ``noise``.
        name: for people; unique in the group.
        corpus: of the audio.
        number: of the clip.
        frontend: fields of the truth.
        entry: catalogue id, or "".
        statistics: what statistics by bin follow: None, "standard", "divide".
        file_rate: of the audio that the identifier gets, in Hz.
        dtype: that the mel is stored in.
        layout: that it is stored in.
        cut: frames missing at the start.
        noise: correlation within bins of a predicted mel, or 1.
        seed: of what is random in `make`.
    """

    group: str
    name: str
    corpus: str
    number: int
    frontend: dict[str, Any]
    entry: str = ""
    statistics: str | None = None
    file_rate: int = 0
    dtype: str = "float32"
    layout: str = "TM"
    cut: int = 0
    noise: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Made:
    """Audio and mel of a case.

    Args:
        samples: what the identifier gets, ``(L,)`` at the case's file rate.
        mel: as stored.
        inner: the audio at the front end's rate.
        truth: the front end with its statistics.
    """

    samples: np.ndarray
    mel: np.ndarray
    inner: np.ndarray
    truth: FrontEnd


def cases(which: str, random: int, scale: float, seed: int = 0) -> list[Case]:
    """All cases of ``dev`` or ``report``: the catalogue twice, ``random`` random ones, and the catalogue with noise."""
    corpora = speech.available(which)
    if not corpora:
        return []
    out = [*_catalogue(corpora, seed), *_random(corpora, random, seed + 1), *_noise(corpora, seed + 2)]
    if scale < 1.0:
        rng = np.random.default_rng(seed)
        out = [case for case in out if rng.random() < scale]
    return out


def _corpus(corpora: tuple[str, ...], rate: int, turn: int) -> str:
    """A corpus for a rate: high rates need the German one, which is recorded at 48 kHz."""
    if rate > 24000 and "de_kerstin" in corpora:
        return ("de_kerstin", "fa_virgool")[turn % 4 == 3 and rate <= 44100 and "fa_virgool" in corpora]
    return corpora[turn % len(corpora)]


def _catalogue(corpora: tuple[str, ...], seed: int) -> list[Case]:
    out = []
    for turn in range(2):
        for k, entry in enumerate(entries()):
            rate = entry.frontend.sample_rate
            options: list[str | None] = [None] if entry.statistics is None else [None, entry.statistics]
            out += [
                Case(
                    "catalogue", f"{entry.id}{f' {statistics}' if statistics else ''} {turn}", _corpus(corpora, rate, k + turn), k % 7 + 8 * turn,
                    entry.frontend.fields(), entry.id, statistics, rate, layout=entry.layout, seed=seed + 1000 * turn + k,
                )
                for statistics in options
            ]  # fmt: skip
    return out


def _noise(corpora: tuple[str, ...], seed: int) -> list[Case]:
    """One entry of each filterbank family and unit, as a model with r = .9 within bins would predict it."""
    out, seen = [], set()
    for k, entry in enumerate(entries()):
        fe = entry.frontend
        if fe.family in seen or fe.log == "none":
            continue
        seen.add(fe.family)
        out.append(Case("noise", entry.id, _corpus(corpora, fe.sample_rate, k), k % 7, fe.fields(), entry.id, None, fe.sample_rate, noise=0.9, seed=seed + k))  # fmt: skip
    return out


def _random(corpora: tuple[str, ...], count: int, seed: int) -> list[Case]:
    out = []
    known = {e.frontend.family for e in entries()}
    k = 0
    while len(out) < count:
        rng = np.random.default_rng((seed, k))
        k += 1
        values, rate, more = _draw(rng)
        try:
            fe = FrontEnd.from_fields(values)
        except Exception:  # noqa: BLE001, S112 - a draw that no front end can have
            continue
        empty = int((fe.basis().max(1) <= 0).sum())
        if fe.family in known or empty > 0.05 * fe.n_mels:
            continue
        out.append(Case("random", f"random {k - 1}", _corpus(corpora, max(rate, fe.sample_rate), k), int(rng.integers(0, 12)), fe.fields(), "", more.pop("statistics"), rate, seed=seed + k, **more))  # fmt: skip
    return out


def _draw(rng: np.random.Generator) -> tuple[dict[str, Any], int, dict[str, Any]]:
    """Fields of a front end, the rate of the audio file, and how the mel is stored."""

    def pick(*options: Any, p: Any = None) -> Any:
        return options[int(rng.choice(len(options), p=p))]

    rate = pick(16000, 22050, 24000, 32000, 44100, 48000, p=(0.2, 0.3, 0.2, 0.06, 0.12, 0.12))
    power_of_two = {16000: (512, 1024), 22050: (512, 1024, 2048), 24000: (1024, 2048), 32000: (1024, 2048), 44100: (1024, 2048, 4096), 48000: (1024, 2048, 4096)}  # fmt: skip
    n_fft = pick(*power_of_two[rate]) if rng.random() < 0.7 else int(2 * round(rng.uniform(0.02, 0.06) * rate / 2))
    win = n_fft if rng.random() < 0.5 else int(rng.uniform(0.5, 1.0) * n_fft)
    if win < n_fft and rng.random() < 0.6:
        win -= win % 20
    hop = win // 4 if rng.random() < 0.4 else int(rng.uniform(0.15, 0.5) * win)
    hop = max(hop, int(0.004 * rate))
    nyquist = rate / 2
    fmin = pick(
        0.0, 0.0, 0.0, 20.0, 30.0, 40.0, 50.0, 55.0, 60.0, 80.0, 90.0, 125.0, round(float(rng.uniform(0, 150)), 1)
    )
    fmax = pick(nyquist, nyquist, min(8000.0, nyquist), min(7600.0, nyquist), round(float(rng.uniform(0.55, 1.0) * nyquist), -2), round(float(rng.uniform(0.55, 1.0) * nyquist), 1))  # fmt: skip
    values: dict[str, Any] = {
        "sample_rate": rate, "n_fft": n_fft, "win_length": win, "hop_length": hop, "n_mels": int(rng.integers(40, 161)) if rng.random() < 0.6 else pick(40, 64, 80, 80, 96, 100, 128, 160),
        "fmin": fmin, "fmax": float(fmax), "mel_scale": pick("slaney", "htk", "htk_tf", p=(0.5, 0.42, 0.08)), "filter_norm": pick("slaney", None), "power": pick(1, 2),
        "window": pick("hann", "hamming", "rectangular", p=(0.78, 0.16, 0.06)), "window_periodic": bool(rng.random() < 0.82), "padding": pick("center", "same", "none", "end", p=(0.5, 0.34, 0.08, 0.08)),
        "pad_mode": pick("reflect", "constant"), "preemphasis": pick(0.0, 0.97, 0.95, 0.9, 0.85, p=(0.84, 0.08, 0.03, 0.03, 0.02)),
        "log": pick("ln", "log10", "none", p=(0.6, 0.34, 0.06)), "log_guard": pick("clamp", "add", p=(0.65, 0.35)),
        "log_eps": float(pick(1.0, 2.0, 5.0, p=(0.7, 0.15, 0.15)) * 10.0 ** -int(rng.integers(3, 11))),
    }  # fmt: skip
    if values["window"] == "rectangular":
        values["window_periodic"] = True
    if values["log"] == "log10":
        values["log_multiplier"] = pick(1.0, 10.0, 20.0)
    if rng.random() < 0.3 and values["log"] != "none":
        values |= {"spectrum_eps": float(10.0 ** -int(rng.integers(5, 11))), "spectrum_eps_mode": pick("add", "clamp", p=(0.8, 0.2))}  # fmt: skip
    if rng.random() < 0.04 and values["mel_scale"] == "htk" and rate != 16000:
        values |= {"fb_sample_rate": 16000, "fmax": 8000.0}
    statistics = None
    if values["log"] != "none":
        kind = rng.random()
        unit = (
            2.0 * values["power"] * values.get("log_multiplier", 1.0) / (2.302585 if values["log"] == "log10" else 1.0)
        )
        if kind < 0.22:
            sd, mean = unit * float(rng.uniform(0.8, 1.3)), -2.5 * unit * float(rng.uniform(0.6, 1.3))
            values |= {"post_scale": 1.0 / sd, "post_offset": -mean / sd}
        elif kind < 0.38:
            statistics = pick("standard", "divide", p=(0.8, 0.2))
        elif kind < 0.43:
            values["utterance_norm"] = "minmax"
        elif kind < 0.47:
            values["utterance_norm"] = "instance"
    file_rate = rate
    if rng.random() < 0.12:
        higher = [r for r in (22050, 24000, 44100, 48000) if r > rate]
        if higher:
            file_rate = pick(*higher)
    more = {"statistics": statistics, "dtype": pick("float32", "float16", p=(0.9, 0.1)), "layout": pick("TM", "MT"), "cut": int(rng.integers(1, 20)) if rng.random() < 0.05 else 0}  # fmt: skip
    return values, file_rate, more


def make(case: Case) -> Made:
    """Compute the audio and the mel of a case."""
    fe = FrontEnd.from_fields(case.frontend)
    rng = np.random.default_rng(case.seed)
    samples = speech.clip(case.corpus, case.number, case.file_rate)
    inner = samples if case.file_rate == fe.sample_rate else np.asarray(soxr.resample(samples, case.file_rate, fe.sample_rate, quality="HQ"), np.float32)  # fmt: skip
    if case.statistics is not None:
        # Statistics of other audio of the corpus, as they would be.
        other = fe.mel(speech.clip(case.corpus, speech.elsewhere(case.corpus, case.number), fe.sample_rate)).astype(
            np.float64
        )
        if case.statistics == "standard":
            fe = fe.with_statistics(other.mean(0), other.std(0) + 1e-3)
        else:
            level = np.where(np.abs(other.mean(0)) > 0.05, other.mean(0), 0.05)
            fe = fe.with_statistics(None, level)
    mel = fe.mel(inner)
    if case.noise < 1.0:
        mel = predicted(mel, case.noise, rng)
    mel = mel[case.cut :].astype(case.dtype)
    return Made(samples, np.ascontiguousarray(mel.T) if case.layout == "MT" else mel, inner, fe)


def predicted(mel: np.ndarray, r: float, rng: np.random.Generator) -> np.ndarray:
    """A mel as a model trained with L2 predicts it at correlation ``r`` within bins: shrunk, with smooth errors."""
    noise = gaussian_filter(rng.standard_normal(mel.shape), (1.6, 2.4))
    noise /= noise.std()
    mean = mel.mean(0)
    deviation = mel - mean
    return np.asarray(mean + r * r * deviation + r * np.sqrt(1 - r * r) * deviation.std(0) * noise, np.float32)
