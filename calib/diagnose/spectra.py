"""Where along time and along frequency a prediction follows its target: cross spectra, gathered utterance by utterance.

With P and Y the spectra of prediction and target, S their products summed over segments and bins, at each frequency::

    gain       = Re S_py / S_pp                  the least-squares slope there
    coherence  = |S_py|^2 / (S_pp S_yy)          what a linear filter could explain
    quadrature = Im S_py / S_pp                  not 0 where the prediction comes early or late

A healthy conditional-mean model is a Wiener filter: its spectrum is the target's times the coherence, so its gain is
about 1 at *every* frequency, whatever its quality; a sampler's gain is at most 1. A linear filter after the model divides
the gain by its response and leaves the coherence: gains above 1 at fast modulations say smoothing over time, at high
quefrencies over frequency.

Conventions:
    *Modulation* frequencies lie along time, in Hz or cycles a frame; *quefrencies* along the mel bins, as the index of an
    orthonormal DCT-II. Arrays are ``(T, M)`` with each bin's mean over all data removed. A frame of a short utterance
    weighs as much as one of a long utterance. NaN marks what is 0 / 0 at a single frequency.

References:
    P. D. Welch, IEEE Trans. Audio Electroacoust. 15 (1967) 70: averaged overlapping segments.
    S. Takamichi et al., IEEE/ACM TASLP 24 (2016) 755: modulation spectra of over-smooth speech.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calib.diagnose.metrics import UncomputableError

__all__ = ["BANDS_CYCLES", "BANDS_HZ", "BandDistance", "CrossSpectra", "CrossSums", "Modulation", "Quefrency"]

SEGMENT = 64  # frames: .74 s at 86 frames a second
BANDS_HZ = (0.0, 2.0, 4.0, 8.0, 16.0, 32.0)
BANDS_CYCLES = (0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
_HOP = SEGMENT // 2
_AT_ONCE = 64  # segments: bounds the memory of a long recording, and what is summed in float32
_SAFE = 1e-12, 1e12  # largest values whose squares float32 can hold


@dataclass(frozen=True)
class CrossSums:
    """Products of the spectra, additive over units.

    Args:
        weight: values (frames times bins), ``(*S,)``; ``S`` is ``(U,)`` for U utterances.
        pp: of the prediction with itself, ``(*S, F)``.
        yy: of the target with itself.
        re: real part of conj(P) Y.
        im: imaginary part.
    """

    weight: np.ndarray
    pp: np.ndarray
    yy: np.ndarray
    re: np.ndarray
    im: np.ndarray

    def total(self) -> CrossSums:
        """Of all units together."""
        return CrossSums(*(a.sum(axis=0) for a in self._arrays()))

    def left_out(self) -> CrossSums:
        """Of all units but one, for each: what `Jackknife.limits` takes."""
        return CrossSums(*(a.sum(axis=0) - a for a in self._arrays()))

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.weight, self.pp, self.yy, self.re, self.im


@dataclass(frozen=True)
class CrossSpectra:
    """Spectra of prediction and target and what relates them; see the module.

    Args:
        frequencies: ``(F,)``.
        unit: of the frequencies: ``Hz``, ``cycles/frame`` or ``quefrency`` (DCT index).
        power_p: of the prediction, a bin: squared unit a frequency unit (its integral is the variance), or for
            quefrencies the squared unit (their sum over the index, divided by M, is the variance).
        power_y: of the target.
        coherence: magnitude squared, 0 to 1.
        gain: least-squares slope of target on prediction.
        quadrature: the same a quarter of a period off; 0 for quefrencies.
    """

    frequencies: np.ndarray
    unit: str
    power_p: np.ndarray
    power_y: np.ndarray
    coherence: np.ndarray
    gain: np.ndarray
    quadrature: np.ndarray

    @property
    def level(self) -> np.ndarray:
        """Power of the prediction over that of the target, in dB."""
        good = (self.power_p > 0) & (self.power_y > 0)
        ratio = np.divide(self.power_p, self.power_y, out=np.full_like(self.power_p, np.nan), where=good)
        return np.asarray(10.0 * np.log10(ratio))


@dataclass(frozen=True)
class BandDistance:
    """How far the modulation spectra of prediction and target are apart in one band.

    Args:
        low: edge, in Hz or cycles a frame.
        high: edge.
        distance: Takamichi's: RMS over bins and frequencies of the difference of the log spectra, in dB.
        level: mean of that difference, in dB; below 0 over-smooth.
        left_out: share of (bin, frequency) pairs without power in prediction or target, whose log is not defined.
    """

    low: float
    high: float
    distance: float
    level: float
    left_out: float


class Modulation:
    """Spectra along time, of Hann segments of 64 frames that overlap by half or more and cover the utterance evenly.

    A shorter utterance is one segment with a Hann window of its own length, padded with zeros.
    """

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []  # (4, F) an utterance
        self._weights: list[float] = []
        self._power = np.zeros((2, SEGMENT // 2 + 1, 1))  # of p and y by bin

    def add(self, p: np.ndarray, y: np.ndarray) -> None:
        """Take in one utterance.

        Args:
            p: prediction, ``(T, M)``, bin means removed.
            y: target, the same.

        Raises:
            ValueError: shapes that differ, or no frames.
        """
        from scipy.fft import rfft

        p, y = _checked(p, y)
        frames, bins = p.shape
        window, starts = _segments(frames)
        column = window.astype(p.dtype)[:, None]
        power = np.zeros((2, SEGMENT // 2 + 1, bins))
        cross = np.zeros(SEGMENT // 2 + 1, dtype=np.complex128)
        for at in range(0, starts.size, _AT_ONCE):
            rows = starts[at : at + _AT_ONCE, None] + np.arange(window.size)
            a, b = (rfft(x[rows] * column, n=SEGMENT, axis=1) for x in (p, y))
            power[0] += np.einsum("sfm,sfm->fm", a.real, a.real) + np.einsum("sfm,sfm->fm", a.imag, a.imag)
            power[1] += np.einsum("sfm,sfm->fm", b.real, b.real) + np.einsum("sfm,sfm->fm", b.imag, b.imag)
            cross += np.einsum("sfm,sfm->f", a.conj(), b)
        scale = frames / (starts.size * float(window @ window))  # mean periodogram, a frame each
        self._power = self._power + scale * power
        self._rows.append(scale * np.stack([power[0].sum(axis=1), power[1].sum(axis=1), cross.real, cross.imag]))
        self._weights.append(float(frames * bins))

    @property
    def units(self) -> CrossSums:
        """By utterance, in the order of `add`.

        Raises:
            UncomputableError: nothing was added.
        """
        return _stack(self._weights, self._rows)

    def result(self, frame_seconds: float | None, sums: CrossSums | None = None) -> CrossSpectra:
        """The spectra.

        Args:
            frame_seconds: hop in seconds, for frequencies in Hz; None: cycles a frame.
            sums: of which units; None: all.

        Raises:
            UncomputableError: nothing was added, or the prediction never moves.
        """
        step = _step(frame_seconds)
        sided = np.full(SEGMENT // 2 + 1, 2.0)
        sided[[0, -1]] = 1.0  # 0 and half the frame rate stand once in a two-sided spectrum
        return _spectra(
            self.units.total() if sums is None else sums,
            np.arange(SEGMENT // 2 + 1) / SEGMENT / step,
            "cycles/frame" if frame_seconds is None else "Hz",
            sided * step,
        )

    def distances(self, frame_seconds: float | None, edges: Sequence[float] | None = None) -> list[BandDistance]:
        """Distance in dB in each band.

        Args:
            frame_seconds: as for `result`.
            edges: of the bands, rising, in its unit; None: `BANDS_HZ` or `BANDS_CYCLES`. Bands without a frequency of the
                spectrum (such as those above half the frame rate) are not given.

        Raises:
            UncomputableError: nothing was added, or a band without power in prediction or target.
        """
        if not self._rows:
            raise UncomputableError("no utterances: there is no spectrum")
        edges = (BANDS_CYCLES if frame_seconds is None else BANDS_HZ) if edges is None else edges
        frequencies = np.arange(SEGMENT // 2 + 1) / SEGMENT / _step(frame_seconds)
        out = []
        for low, high in itertools.pairwise(edges):
            inside = (frequencies >= low) & ((frequencies < high) | ((frequencies == high) & (high == edges[-1])))
            if not inside.any():
                continue
            p, y = self._power[:, inside]
            good = (p > 0) & (y > 0)
            if not good.any():
                raise UncomputableError(
                    f"prediction or target does not move at {low:g} to {high:g}: no distance is defined"
                )
            d = 10.0 * np.log10(p[good] / y[good])
            out.append(BandDistance(low, high, float(np.sqrt((d**2).mean())), float(d.mean()), float(1 - good.mean())))
        return out


class Quefrency:
    """Spectra along the mel bins: orthonormal DCT-II of every frame, products summed over frames."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []
        self._weights: list[float] = []

    def add(self, p: np.ndarray, y: np.ndarray) -> None:
        """Take in one utterance; as for `Modulation.add`."""
        from scipy.fft import dct

        p, y = _checked(p, y)
        a, b = dct(p, axis=1, norm="ortho"), dct(y, axis=1, norm="ortho")
        products = [np.einsum("tm,tm->m", u, v, dtype=np.float64) for u, v in ((a, a), (b, b), (a, b))]
        self._rows.append(np.stack([*products, np.zeros(p.shape[1])]))
        self._weights.append(float(p.shape[0]))

    @property
    def units(self) -> CrossSums:
        """By utterance, in the order of `add`; weights are frames.

        Raises:
            UncomputableError: nothing was added.
        """
        return _stack(self._weights, self._rows)

    def result(self, sums: CrossSums | None = None) -> CrossSpectra:
        """The spectra.

        Args:
            sums: of which units; None: all.

        Raises:
            UncomputableError: nothing was added, or the prediction never moves.
        """
        sums = self.units.total() if sums is None else sums
        index = np.arange(sums.pp.shape[-1], dtype=np.float64)
        return _spectra(sums, index, "quefrency", np.ones(index.size))


def _checked(p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float32, which is faster, unless their squares would not fit into it."""
    if p.shape != y.shape or p.ndim != 2 or 0 in p.shape:
        raise ValueError(f"the prediction is {p.shape}, the target {y.shape}; both must be (T, M) with frames and bins")
    peaks = [max(float(x.max()), -float(x.min())) for x in (p, y)]
    narrow = all(peak == 0.0 or _SAFE[0] < peak < _SAFE[1] for peak in peaks)
    dtype = np.float32 if narrow else np.float64
    return p.astype(dtype, copy=False), y.astype(dtype, copy=False)


def _step(frame_seconds: float | None) -> float:
    if frame_seconds is not None and not 0.0 < frame_seconds < np.inf:
        raise ValueError(f"a frame of {frame_seconds!r} s; it must be a positive number")
    return 1.0 if frame_seconds is None else frame_seconds


def _segments(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Window, and first frame of each segment."""
    length = min(frames, SEGMENT)
    count = -(-(frames - length) // _HOP) + 1
    starts = np.round(np.linspace(0, frames - length, count)).astype(np.intp)
    return np.hanning(length + 2)[1:-1], starts


def _stack(weights: list[float], rows: list[np.ndarray]) -> CrossSums:
    if not rows:
        raise UncomputableError("no utterances: there is no spectrum")
    pp, yy, re, im = np.stack(rows, axis=1)
    return CrossSums(np.array(weights), pp, yy, re, im)


def _spectra(sums: CrossSums, frequencies: np.ndarray, unit: str, density: np.ndarray) -> CrossSpectra:
    if not (sums.pp > 0).any():
        raise UncomputableError("the prediction never moves: no gain is defined")
    weight = np.asarray(sums.weight)[..., None]

    def over(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0))

    return CrossSpectra(
        frequencies,
        unit,
        density * sums.pp / weight,
        density * sums.yy / weight,
        np.clip(over(sums.re**2 + sums.im**2, sums.pp * sums.yy), 0.0, 1.0),
        over(sums.re, sums.pp),
        over(sums.im, sums.pp),
    )
