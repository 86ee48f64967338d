"""The mel that this audio would have under *other* front ends: the faults of a front end, made on purpose.

`bank_geometry` says where the bins of a front end lie, and where they would lie in a faulty one: enough to test a
prediction against its target without audio. `Variants` recomputes the target from the audio, which is exact.

Conventions:
    A variant's key is ``fault:detail``; its fault is an id of the fault library. Frequencies in Hz.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.geometry import BankGeometry, Warp
from calib.errors import CalibError
from calib.mel.filterbank import hz_to_mel, mel_to_hz
from calib.mel.frontend import FrontEnd

__all__ = ["Variant", "Variants", "bank_geometry", "variants_of"]

_FMAX = (5512.5, 6000.0, 7000.0, 7600.0, 8000.0, 9000.0, 10000.0, 11025.0, 12000.0)
_FMIN = (0.0, 20.0, 30.0, 50.0, 80.0, 125.0, 200.0)
_RATES = (8000, 16000, 22050, 24000, 32000, 44100, 48000)
_PRE_EMPHASIS = 0.97


@dataclass(frozen=True)
class Variant:
    """One faulty front end.

    Args:
        key: ``fault:detail``.
        faults: ids of the faults that it stands for (two where a usual pair differs in two fields).
        label: for people.
        frontend: the front end as the fault would make it.
        relabel: audio at this many times the sample rate is taken for audio at the sample rate; 1: no.
    """

    key: str
    faults: tuple[str, ...]
    label: str
    frontend: FrontEnd
    relabel: float = 1.0


def variants_of(frontend: FrontEnd) -> list[Variant]:
    """Every single-field fault of a front end that the field has seen, in a fixed order."""
    change = functools.partial(dataclasses.replace, frontend)
    nyquist = frontend.fb_sample_rate / 2
    out: list[Variant] = []
    other = "htk" if frontend.mel_scale == "slaney" else "slaney"
    out.append(Variant(f"mel-scale:{other}", ("mel-scale",), f"{other} mel scale", change(mel_scale=other)))
    for fmax in sorted({*_FMAX, nyquist}):
        if frontend.fmin < fmax <= nyquist and abs(fmax - frontend.fmax) > 1.0:
            out.append(Variant(f"fmax:{fmax:g}", ("fmax",), f"fmax {fmax:g} Hz", change(fmax=fmax)))
    for fmin in _FMIN:
        if fmin < frontend.fmax and abs(fmin - frontend.fmin) > 1.0:
            out.append(Variant(f"fmin:{fmin:g}", ("fmin",), f"fmin {fmin:g} Hz", change(fmin=fmin)))
    if (frontend.fmin, frontend.fmax) != (80.0, 7600.0) and nyquist > 7600.0:
        both = change(fmin=80.0, fmax=7600.0)
        out.append(Variant("fmin:80-7600", ("fmin", "fmax"), "fmin 80 Hz, fmax 7600 Hz", both))
    ratios = {round(rate / frontend.sample_rate, 4): rate for rate in _RATES if rate != frontend.sample_rate}
    for ratio, rate in sorted({**ratios, **{round(1 / q, 4): -r for q, r in ratios.items()}}.items()):
        if 0.4 <= ratio <= 2.5:
            read = f"{rate} Hz audio read as {frontend.sample_rate} Hz" if rate > 0 else f"{frontend.sample_rate} Hz audio read as {-rate} Hz"  # fmt: skip
            out.append(Variant(f"sample-rate:{ratio:g}", ("sample-rate",), read, frontend, ratio))
    without = frontend.filter_norm is not None
    norm = change(filter_norm=None if without else "slaney")
    out.append(Variant(f"area-norm:{'none' if without else 'slaney'}", ("area-norm",), "no area normalisation" if without else "area normalisation", norm))  # fmt: skip
    emphasis = 0.0 if frontend.preemphasis else _PRE_EMPHASIS
    out.append(Variant(f"pre-emphasis:{emphasis:g}", ("pre-emphasis",), f"pre-emphasis {emphasis:g}", change(preemphasis=emphasis)))  # fmt: skip
    if frontend.padding in {"center", "same"}:
        padding = "same" if frontend.padding == "center" else "center"
        out.append(Variant(f"half-hop:{padding}", ("half-hop",), f"frames padded as {padding!r}", change(padding=padding)))  # fmt: skip
    if frontend.log != "none" and frontend.power == 1:
        out.append(Variant("log-power:2", ("log-power",), "power instead of magnitude", change(power=2, log_eps=frontend.log_eps**2)))  # fmt: skip
        out.append(Variant("power-floor:2", ("power-floor",), f"power clamped at {frontend.log_eps:g}", change(power=2)))  # fmt: skip
    return out


class Variants:
    """Targets recomputed from audio under faulty front ends, one utterance at a time.

    Args:
        frontend: the front end that the target was made with.
        samples: gives the audio ``(L,)`` at ``frontend.sample_rate`` of an utterance by its index, or None.
    """

    def __init__(self, frontend: FrontEnd, samples: Callable[[int], np.ndarray | None]) -> None:
        self.variants: Mapping[str, Variant] = {v.key: v for v in variants_of(frontend)}
        self._samples = samples
        self._frontend = frontend
        self._last: tuple[int, np.ndarray | None] = (-1, None)

    @property
    def keys(self) -> tuple[str, ...]:
        """Of all variants."""
        return tuple(self.variants)

    def label(self, key: str) -> str:
        """A variant for people."""
        return self.variants[key].label

    def faults(self, key: str) -> tuple[str, ...]:
        """The faults that a variant stands for."""
        return self.variants[key].faults

    def _audio(self, index: int) -> np.ndarray | None:
        if self._last[0] != index:
            self._last = (index, self._samples(index))
        return self._last[1]

    def target(self, index: int) -> np.ndarray | None:
        """The target itself, recomputed ``(T, M)``; None where there is no usable audio."""
        return self._mel(index, self._frontend, 1.0)

    def mel(self, index: int, key: str) -> np.ndarray | None:
        """The mel ``(T', M)`` under a variant; None where there is no usable audio."""
        variant = self.variants[key]
        return self._mel(index, variant.frontend, variant.relabel)

    def _mel(self, index: int, frontend: FrontEnd, relabel: float) -> np.ndarray | None:
        samples = self._audio(index)
        if samples is None:
            return None
        if relabel != 1.0:
            import soxr

            samples = soxr.resample(samples, frontend.sample_rate, frontend.sample_rate * relabel)
        try:
            return frontend.mel(samples)
        except CalibError:  # too short for this variant
            return None


def _edges(frontend: FrontEnd) -> np.ndarray:
    """The M + 2 filter edges in Hz of the audio (a bank built for another rate lies elsewhere)."""
    low, high = (hz_to_mel(f, frontend.mel_scale) for f in (frontend.fmin, frontend.fmax))
    hz = mel_to_hz(np.linspace(float(low), float(high), frontend.n_mels + 2), frontend.mel_scale)
    return np.asarray(hz * frontend.sample_rate / frontend.fb_sample_rate)


def bank_geometry(frontend: FrontEnd) -> BankGeometry:
    """Where the bins lie, what a mel unit is, and where the bins would lie under each faulty bank."""
    own = _edges(frontend)
    warps: list[Warp] = []
    for variant in variants_of(frontend):
        if variant.faults[0] in {"mel-scale", "fmax", "fmin"}:
            warps.append(Warp(variant.key, variant.faults, variant.label, _edges(variant.frontend), 1.0))
        elif variant.faults == ("sample-rate",):
            # Audio sounds 1 / ratio as high when it is relabelled: a bin hears what lies at ratio times its frequency.
            warps.append(Warp(variant.key, variant.faults, variant.label, own * variant.relabel, variant.relabel))
    centres = own[1:-1]
    phase = np.exp(-2j * np.pi * centres / frontend.sample_rate)
    quantity = 1.0 if frontend.log == "none" else frontend._log_scale * frontend.post_scale * frontend.power  # noqa: SLF001 - one package
    return BankGeometry(
        edges=own,
        warps=tuple(warps),
        hop_seconds=frontend.hop_length / frontend.sample_rate,
        per_ln=quantity,
        logarithmic=frontend.log != "none",
        normalised=frontend.post_mean is not None or frontend.utterance_norm is not None or frontend.post_scale != 1.0,
        area_normalised=frontend.filter_norm is not None,
        emphasis=(-1.0 if frontend.preemphasis else 1.0) * quantity * np.log(np.abs(1.0 - _PRE_EMPHASIS * phase)),
        floor=frontend.floor,
        eps=frontend.log_eps,
        power=frontend.power,
        post_offset=frontend.post_offset,
    )
