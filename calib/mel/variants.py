"""The mel that this audio would have under *other* front ends: the faults of a front end, made on purpose.

`bank_geometry` says where the bins of a front end lie, and where they would lie in a faulty one: enough to test a
prediction against its target without audio. `Variants` recomputes the target from the audio, which is exact.

Conventions:
    A variant's key is ``fault:detail``; its fault is an id of the fault library. Frequencies in Hz.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from calib.diagnose.faults.geometry import BankGeometry, Warp
from calib.errors import CalibError
from calib.mel.filterbank import hz_to_mel, mel_to_hz
from calib.mel.frontend import FrontEnd

__all__ = ["Variant", "Variants", "bank_geometry", "variants_of"]

_FMAX = (5512.5, 6000.0, 7000.0, 7600.0, 8000.0, 9000.0, 10000.0, 11025.0, 12000.0)
_FMIN = (0.0, 20.0, 30.0, 50.0, 80.0, 125.0, 200.0)
_EMPHASES = (0.97, 0.95, 0.9, 0.85, 0.7)
# Sample rate and fmax of the usual banks, for targets whose front end is not known.
_USUAL = ((22050, 8000.0), (24000, 12000.0), (16000, 8000.0))


@dataclass(frozen=True)
class Variant:
    """One faulty front end.

    Args:
        key: ``fault:detail``.
        faults: ids of the faults that it stands for (two where a usual pair differs in two fields).
        label: for people.
        frontend: the front end as the fault would make it.
    """

    key: str
    faults: tuple[str, ...]
    label: str
    frontend: FrontEnd


def variants_of(frontend: FrontEnd) -> list[Variant]:
    """Every single-field fault of a front end that the field has seen, in a fixed order."""
    return [*_banks(frontend), *_filters(frontend), *_powers(frontend)]


def _banks(frontend: FrontEnd) -> Iterator[Variant]:
    """Other places of the bins: mel scale, fmax, fmin, and the pair that ESPnet uses."""
    change = functools.partial(dataclasses.replace, frontend)
    nyquist = frontend.fb_sample_rate / 2
    other = "htk" if frontend.mel_scale == "slaney" else "slaney"
    yield Variant(f"mel-scale:{other}", ("mel-scale",), f"{other} mel scale", change(mel_scale=other))
    for fmax in sorted({*_FMAX, nyquist}):
        if frontend.fmin < fmax <= nyquist and abs(fmax - frontend.fmax) > 1.0:
            yield Variant(f"fmax:{fmax:g}", ("fmax",), f"fmax {fmax:g} Hz", change(fmax=fmax))
    for fmin in _FMIN:
        if fmin < frontend.fmax and abs(fmin - frontend.fmin) > 1.0:
            yield Variant(f"fmin:{fmin:g}", ("fmin",), f"fmin {fmin:g} Hz", change(fmin=fmin))
    if abs(frontend.fmin - 80.0) > 1.0 and abs(frontend.fmax - 7600.0) > 1.0 and nyquist > 7600.0:
        both = change(fmin=80.0, fmax=7600.0)
        yield Variant("fmin:80-7600", ("fmin", "fmax"), "fmin 80 Hz, fmax 7600 Hz", both)


def _filters(frontend: FrontEnd) -> Iterator[Variant]:
    """Filter normalisation, pre-emphasis, and where the frames lie."""
    change = functools.partial(dataclasses.replace, frontend)
    norm, label = ("slaney", "area normalisation") if frontend.filter_norm is None else (None, "no area normalisation")
    yield Variant(f"area-norm:{norm or 'none'}", ("area-norm",), label, change(filter_norm=norm))
    for emphasis in (0.0,) if frontend.preemphasis else _EMPHASES:
        label = f"pre-emphasis {emphasis:g}"
        yield Variant(f"pre-emphasis:{emphasis:g}", ("pre-emphasis",), label, change(preemphasis=emphasis))
    if frontend.padding in {"center", "same"}:
        padding = "same" if frontend.padding == "center" else "center"
        label = f"frames padded as {padding!r}"
        yield Variant(f"half-hop:{padding}", ("half-hop",), label, change(padding=padding))


def _powers(frontend: FrontEnd) -> Iterator[Variant]:
    """Power for magnitude or magnitude for power: with a guard of its own, or with the target's."""
    if frontend.log == "none":
        return
    power, eps = (1, frontend.log_eps**0.5) if frontend.power == 2 else (2, frontend.log_eps**2)
    label = "magnitude instead of power" if power == 1 else "power instead of magnitude"
    own = dataclasses.replace(frontend, power=power, log_eps=eps)
    yield Variant(f"log-power:{power}", ("log-power",), label, own)
    clamped = f"{label.split(' ', 1)[0]} clamped at {frontend.log_eps:g}{', the target power' if power == 1 else ''}"
    yield Variant(f"power-floor:{power}", ("power-floor",), clamped, dataclasses.replace(frontend, power=power))


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
        return self._mel(index, variant.frontend, 1.0)

    def relabelled(self, index: int, ratio: float) -> np.ndarray | None:
        """The target's front end on audio at ``ratio`` times the rate that is taken for audio at the rate."""
        return self._mel(index, self._frontend, ratio)

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


def bank_geometry(frontend: FrontEnd | None, n_mels: int) -> BankGeometry:
    """Where the bins lie, what a mel unit is, and where the bins would lie under each faulty bank.

    Args:
        frontend: of the targets; None when unknown: the warps are then those between the field's usual banks.
        n_mels: bins M.
    """
    if frontend is None or frontend.n_mels != n_mels:
        return BankGeometry(n_mels, declared=False, warps=_usual_warps(n_mels))
    quantity = 1.0 if frontend.log == "none" else _per_ln(frontend) * frontend.power
    edges = _edges(frontend)
    sign = -1.0 if frontend.preemphasis else 1.0
    coefficients = (frontend.preemphasis,) if frontend.preemphasis else _EMPHASES
    width = np.log((edges[2:] - edges[:-2]) / 2.0) * quantity / frontend.power
    return BankGeometry(
        n_mels=n_mels,
        declared=True,
        warps=_warps(frontend),
        per_ln=quantity,
        logarithmic=frontend.log != "none",
        area_normalised=frontend.filter_norm is not None,
        area=np.asarray(width if frontend.filter_norm is not None else -width),
        emphasis=tuple((a, sign * quantity * _emphasis(a, edges, frontend.sample_rate)) for a in coefficients),
        floor=frontend.floor,
        eps=frontend.log_eps,
        power=frontend.power,
        post_offset=frontend.post_offset,
        centres=edges[1:-1],
    )


def _emphasis(coefficient: float, edges: np.ndarray, sample_rate: int) -> np.ndarray:
    """Natural logarithm of the magnitude response of ``1 - a z^-1`` at each bin's centre."""
    return np.log(np.abs(1.0 - coefficient * np.exp(-2j * np.pi * edges[1:-1] / sample_rate)))


def _per_ln(frontend: FrontEnd) -> float:
    """Mel units for one ln unit of what the filters give."""
    return frontend.log_scale * frontend.post_scale


def _warps(frontend: FrontEnd) -> tuple[Warp, ...]:
    """Where the bins of each faulty bank lie among the front end's own."""
    own = _edges(frontend)
    bins = np.arange(frontend.n_mels, dtype=np.float64)
    out = []
    for variant in _banks(frontend):
        edges = _edges(variant.frontend)
        place = np.interp(edges[1:-1], own[1:-1], bins)
        offset = None
        if frontend.filter_norm is None:
            theirs, mine = (np.log(e[2:] - e[:-2]) for e in (edges, own))
            offset = (theirs - np.interp(place, bins, mine)) * _per_ln(frontend)
        out.append(Warp(variant.faults, variant.label, place, offset))
    return tuple(out)


@functools.cache
def _usual_warps(n_mels: int) -> tuple[Warp, ...]:
    """Warps between the field's usual banks, of which no two move the bins alike."""
    kept: list[Warp] = []
    for rate, fmax in _USUAL:
        for warp in _warps(FrontEnd(sample_rate=rate, fmax=fmax, n_mels=n_mels)):
            near = (float(np.abs(warp.place - other.place).max()) < 0.4 for other in kept)
            if float(np.abs(warp.place - np.arange(n_mels)).max()) >= 0.4 and not any(near):
                kept.append(dataclasses.replace(warp, label=f"as if {warp.label}"))
    # The target may be what is off: its bank is then the variant, and the prediction's the usual one.
    for warp in tuple(kept):
        back = np.interp(np.arange(n_mels, dtype=np.float64), warp.place, np.arange(n_mels, dtype=np.float64))
        if all(float(np.abs(back - other.place).max()) >= 0.4 for other in kept):
            label = f"{warp.label} of the target"
            kept.append(dataclasses.replace(warp, label=label, place=back))
    return tuple(kept)
