"""Right, a set, or confidently wrong: each parameter of an answer against the truth.

A parameter is *identifiable* in a case when the data can tell it: an oracle that knows the truth changes it and looks at
what becomes of the mel, after what is free by construction (a level by bin where the mel is normalised by bin, ...).

Answers: ``right``; ``set`` - the truth is among the alternatives named, or no value is claimed; ``wrong`` - a value is
claimed, its alternatives exclude the truth.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import soxr

from benchmarks.identify.cases import Case, Made
from calib.errors import CalibError
from calib.mel.frontend import FrontEnd
from calib.mel.identify import Found, Identification
from calib.mel.identify.placing import RATES

__all__ = ["PARAMETERS", "equivalent", "score"]

PARAMETERS = (
    "sample_rate", "hop_length", "n_fft", "win_length", "window", "window_periodic", "padding", "pad_mode", "n_mels", "fmin", "fmax", "mel_scale", "filter_norm", "fb_sample_rate",
    "power", "preemphasis", "log", "log_guard", "log_eps", "spectrum_eps", "normalisation", "layout", "dtype",
)  # fmt: skip
_SAMPLES = ("sample_rate", "hop_length", "n_fft", "win_length", "fb_sample_rate")  # counted in samples, or their rate
_TENTH = 0.1  # within which a guard's value is called right
_CELLS, _WALL, _SEEN = 300, 12, 0.02  # cells that a sum lifts; on a wall; ln by which a cell is seen to move
_ANY = {"any", "any base", "another", "too small to see here"}


def _ln(fe: FrontEnd, samples: np.ndarray) -> np.ndarray:
    """The mel in ln units of the filterbank's output, before any normalisation."""
    bare = dataclasses.replace(fe, log="ln", log_multiplier=1.0, post_scale=1.0, post_offset=0.0, post_mean=None, post_std=None, utterance_norm=None, clip_min=None, clip_max=None, overwrite_last=0)  # fmt: skip
    return np.asarray(bare.mel(samples), np.float64)


def identifiable(case: Case, made: Made) -> dict[str, bool]:
    """Which parameters the data of a case can tell."""
    fe = made.truth
    out = dict.fromkeys(PARAMETERS, True)
    by_bin = fe.post_mean is not None or fe.utterance_norm == "instance"
    normalised = (
        by_bin or fe.post_std is not None or fe.utterance_norm is not None or fe.post_scale != 1 or fe.post_offset != 0
    )
    out["filter_norm"] = not by_bin
    out["log"] = fe.log == "none" or not normalised
    fine = case.dtype == "float32"
    out["window_periodic"] = fine and fe.window != "rectangular"
    if case.noise < 1.0:
        for name in ("window_periodic", "pad_mode", "log_guard", "log_eps", "spectrum_eps", "n_fft", "preemphasis", "win_length", "window", "log", "filter_norm", "normalisation"):  # fmt: skip
            out[name] = False
        return out
    linear = np.asarray(fe.linear(made.inner), np.float64)
    base = _ln(fe, made.inner)
    if _same_at_another_rate(case, made, free_gain=normalised):
        for name in _SAMPLES:
            out[name] = False
    if fe.window == "hann" and _has_twin(fe, made.inner, base):
        out["win_length"] = out["window_periodic"] = False
    if fe.padding in {"center", "same"} and not case.cut:
        other = dataclasses.replace(fe, pad_mode="constant" if fe.pad_mode == "reflect" else "reflect")
        out["pad_mode"] = bool((np.abs(_ln(other, made.inner) - base) > (0.02 if fine else 0.2)).sum() >= 10)
    else:
        out["pad_mode"] = False
    if fe.log == "none":
        for name in ("log_guard", "log_eps", "spectrum_eps"):
            out[name] = False
        return out
    out |= _guards(fe, made.inner, linear, fine=fine, normalised=normalised, cut=case.cut)
    return out


def _guards(fe: FrontEnd, samples: np.ndarray, linear: np.ndarray, *, fine: bool, normalised: bool, cut: int = 0) -> dict[str, bool]:  # fmt: skip
    """Whether the kind and the value of the guard, and what is added to the spectrum, show in enough cells.

    Kind and value are two things: cells of digital silence lie at the guard's value under a clamp and under a sum alike.
    And what is added to a power spectrum is, times the nearly equal sums of the filters, added to every output: a sum of
    two such constants is told from one constant only where it differs from the best one. Cells on a clamp's wall tell
    it whatever was added to the spectrum before. Frames that were cut off tell nothing, nor do frames at the end that
    hold one value in all bins: those may as well have been overwritten.
    """
    linear = linear[cut:]
    kind = value = spectrum = False
    eps = fe.log_eps
    if fe.log_guard == "clamp":
        seen = linear <= eps
        last = len(seen) - int(np.argmin(seen.all(1)[::-1])) if not seen.all() else 0  # frames before the silent end
        seen[last:] = False
        # A wall by bin (after statistics) needs cells in many bins.
        value = bool(seen.sum() >= _WALL and (seen.any(0).mean() > 0.2 or not normalised))
        kind = value and bool((seen & (linear > 0.05 * eps)).sum() >= _WALL)  # a sum would lift these to other places
    elif fe.log_guard == "add":
        value = fine and bool((eps / np.maximum(linear, 1e-30) > 0.03).sum() >= _CELLS)
        kind = fine and bool((np.log(linear + eps) - np.log(np.maximum(linear, eps)) > 0.03).sum() >= _CELLS)
    if fe.spectrum_eps:
        bare = np.asarray(dataclasses.replace(fe, spectrum_eps=1e-30).linear(samples), np.float64)[cut:]
        added = eps if fe.log_guard == "add" else 0.0

        def guarded(x: np.ndarray, sum_: float) -> np.ndarray:
            return np.log(np.maximum(x + sum_, eps if fe.log_guard == "clamp" else 1e-30))

        truth = guarded(linear, added)
        lifted = int((np.abs(guarded(bare, added) - truth) > _SEEN).sum())
        quiet = truth <= np.quantile(truth, 0.2)
        level = float(np.median((linear - bare)[quiet]))
        alone = int((np.abs(guarded(bare, added + level) - truth) > _SEEN).sum())  # one constant for both
        spectrum = fine and min(lifted, alone) >= _CELLS
        if fe.log_guard == "add" and alone < _CELLS and level > _TENTH * eps:
            value = False  # one constant, as large as both, explains it
        if lifted >= _CELLS and fe.log_guard != "clamp":
            kind = value = False  # two guards at once: the oracle does not say which one a cell is due to
    return {"log_guard": kind, "log_eps": value, "spectrum_eps": spectrum if fe.spectrum_eps else True}


def _same_at_another_rate(case: Case, made: Made, *, free_gain: bool) -> bool:
    """Whether the same analysis at another rate, all lengths in samples of that one, gives the very same mel.

    The other rate is the file's own, or a lower one to which audio is brought: then the audio holds nothing that tells
    them apart. (Rates above the file's own are nobody's guess.)
    """
    rates = {case.file_rate, *(rate for rate in RATES if rate < case.file_rate)} - {made.truth.sample_rate}
    return any(_same_at(rate, case, made, free_gain=free_gain) for rate in sorted(rates))


def _same_at(rate: int, case: Case, made: Made, *, free_gain: bool) -> bool:
    """The same at one rate.

    "The same" is to the precision of the stored values: 1e-4 of a ln unit in all cells but one in 10,000 (digital
    floors), .01 in float16; up to a common level only where a normalisation takes that up.
    """
    fe, factor = made.truth, rate / made.truth.sample_rate
    lengths = {name: getattr(fe, name) * factor for name in ("n_fft", "win_length", "hop_length")}
    if any(abs(value - round(value)) > 1e-9 for value in lengths.values()) or fe.preemphasis:
        return False
    if fe.fmax * fe.sample_rate / fe.fb_sample_rate > rate / 2:
        return False
    whole = {name: round(value) for name, value in lengths.items()}
    moved = {"sample_rate": rate, "fb_sample_rate": round(fe.fb_sample_rate * factor), **whole}
    try:
        twin = FrontEnd.from_fields(fe.fields() | moved)
    except CalibError:
        return False
    samples = made.samples if rate == case.file_rate else np.asarray(soxr.resample(made.samples, case.file_rate, rate, quality="HQ"), np.float32)  # fmt: skip
    a, b = (np.asarray(f.linear(x), np.float64) for f, x in ((twin, samples), (fe, made.inner)))
    count = min(len(a), len(b))
    if abs(len(a) - len(b)) > 1:
        return False
    floor = 1e-7 * float(b.max())
    ratio = np.log(a[:count] + floor * factor**fe.power) - np.log(b[:count] + floor)
    away = np.abs(ratio - np.median(ratio) * free_gain)
    return bool((away > (1e-4 if case.dtype == "float32" else 0.01)).mean() < 1e-4)


def _has_twin(fe: FrontEnd, samples: np.ndarray, base: np.ndarray) -> bool:
    """Whether the window of the other kind, one sample longer or shorter, gives the very same mel."""
    win = fe.win_length + (1 if fe.window_periodic else -1)
    if not 2 <= win <= fe.n_fft:
        return False
    other = _ln(dataclasses.replace(fe, win_length=win, window_periodic=not fe.window_periodic), samples)
    return other.shape == base.shape and float(np.abs(other - base).max(initial=0.0)) < 1e-4


def _truth(case: Case, made: Made) -> dict[str, Any]:
    fe = made.truth
    values = {name: getattr(fe, name) for name in PARAMETERS if hasattr(fe, name)}
    kind = fe.utterance_norm if fe.utterance_norm in {"minmax", "instance"} else "by bin" if fe.post_mean is not None or fe.post_std is not None else "global"  # fmt: skip
    values |= {"normalisation": kind, "layout": case.layout, "dtype": case.dtype}
    if fe.log == "log10" and fe.log_multiplier != 1:
        values["log"] = f"{fe.log_multiplier:g} log10"
    return values


def _found(result: Identification) -> dict[str, Found]:
    out = dict(result.fields)
    utterance = out.get("utterance_norm")
    if utterance is not None and utterance.value is not None:
        kind = utterance.value
    else:
        kind = "by bin" if "post_norm" in out else "global"
    if out:
        doubted = "post_norm" in out and out["post_norm"].confidence == 0.0
        out["normalisation"] = Found(None if doubted else kind, 0.0 if doubted else 0.9)
    return out


def _near(name: str, value: Any, truth: Any) -> bool:
    if value is None or truth is None or isinstance(value, (str, bool)) or isinstance(truth, (str, bool)):
        return bool(value == truth)
    value, truth = float(value), float(truth)
    if name == "fmin":
        return abs(value - truth) <= 1.0
    if name == "fmax":
        return abs(value - truth) <= max(2.0, 5e-4 * truth)
    if name in {"log_eps", "spectrum_eps"}:
        return abs(value - truth) <= 0.1 * abs(truth)
    if name == "preemphasis":
        return abs(value - truth) <= 0.005
    return value == truth


def verdict(name: str, found: Found | None, truth: Any) -> str:
    """``right``, ``set`` or ``wrong``."""
    if found is None:
        return "set"
    if found.confidence == 0.0:
        return "set"
    among = any(v in _ANY if isinstance(v, str) else False for v in found.confounded) or any(_near(name, v, truth) for v in found.confounded)  # fmt: skip
    if found.value is None and name not in {"filter_norm", "normalisation"}:
        return "set"
    if found.value is None and name == "filter_norm" and found.confidence == 0.0:
        return "set"
    if _near(name, found.value, truth):
        return "set" if found.confounded and found.confidence < 0.7 else "right"
    if among:
        return "set"
    if found.interval is not None and not isinstance(truth, str) and truth is not None and found.interval[0] - 0.5 <= float(truth) <= found.interval[1] + 0.5 and name in {"fmin", "fmax", "win_length"}:  # fmt: skip
        return "right" if name != "win_length" else "set"
    return "wrong"


def score(case: Case, made: Made, result: Identification) -> dict[str, Any]:
    """One row: the verdict of every parameter, whether it was identifiable, and the names."""
    can, truth, found = identifiable(case, made), _truth(case, made), _found(result)
    row: dict[str, Any] = {"group": case.group, "name": case.name, "corpus": case.corpus, "status": result.status, "names": list(result.names), "family_names": list(result.family_names), "error_db": result.error_db, "noise_db": result.noise_db, "seconds": result.seconds}  # fmt: skip
    row["parameters"] = {}
    for name in PARAMETERS:
        if name == "padding" and case.cut:
            continue
        row["parameters"][name] = {
            "verdict": verdict(name, found.get(name), truth.get(name)),
            "identifiable": can[name],
            "truth": truth.get(name),
            "found": None if name not in found else found[name].value,
        }
    if case.entry:
        row["named"] = case.entry in result.names
        row["in_family"] = case.entry in result.family_names or case.entry in result.names
        row["strangers"] = (
            [name for name in result.names if not equivalent(name, case, made)] if case.noise == 1.0 else []
        )
    return row


def equivalent(name: str, case: Case, made: Made) -> bool:
    """Whether another catalogued front end gives this mel, to what float32 shows, up to statistics where it needs them."""
    from calib.mel.catalogue import catalogue

    entry = catalogue()[name]
    fe = entry.frontend
    if fe.sample_rate != made.truth.sample_rate:
        return False
    if case.statistics is not None and entry.statistics is not None:
        a, b = _ln(fe, made.inner), _ln(made.truth, made.inner)
    else:
        a, b = fe.mel(made.inner).astype(np.float64), made.truth.mel(made.inner).astype(np.float64)
    if a.shape != b.shape:
        return False
    return bool((np.abs(a - b) > 2e-3 * max(1.0, float(b.std()))).mean() < 1e-4)
