"""What a bank of other filters would have seen: the physical part of a conversion, without any fitting.

::

    linear filterbank outputs (T, M) -> spectra (T, K): multiplicative updates (`calib.mel.nonnegative`)
        -> the target's power, window, density of bins and pre-emphasis -> the target's filters -> ln magnitude (T, M')

The spectra are the smoothest non-negative ones that the filters do not contradict: where a filter of the target lies
within one of the source, its output is a share of it; where the source has no filters there is nothing, and the
fitted part must guess.
"""

from __future__ import annotations

import numpy as np

from calib.mel.convert.grids import bin_edges
from calib.mel.filterbank import mel_filterbank
from calib.mel.frontend import FrontEnd
from calib.mel.nonnegative import TINY, DenseBank, at_most_one, unit_rows, update

__all__ = ["QUIETEST", "Inversion"]

_UPDATES = 20
# ln magnitude of "nothing": below the guards of nearly all front ends, and no outlier for a regression.
QUIETEST = -16.0
_BLOCK = 512  # frames


class Inversion:
    """The target's filters on the inverted source.

    Args:
        source: front end of the given mels.
        target: front end wanted.
    """

    def __init__(self, source: FrontEnd, target: FrontEnd) -> None:
        self.source, self.target = source, target
        (bank, self._sums), wanted = unit_rows(source.basis()), _bank_on_grid(source, target)
        # A spectrum that is flat within a group of neighbouring FFT bins: the filters are far wider there.
        starts = _groups(source, target)
        bank, wanted = np.add.reduceat(bank, starts, axis=1), np.add.reduceat(wanted, starts, axis=1)
        seen = bank.sum(0)
        bank, self._wanted = bank[:, seen > 0], wanted[:, seen > 0].T.astype(np.float32)
        self._bank = DenseBank(bank.astype(np.float32))
        self._weights = (1.0 / seen[seen > 0]).astype(np.float32)

    def __call__(self, linear: np.ndarray) -> np.ndarray:
        """``(T, M)`` linear outputs of the source to ln magnitudes of the target's filters, float32 ``(T, M')``."""
        out = np.empty((len(linear), self.target.n_mels), dtype=np.float32)
        for start in range(0, len(linear), _BLOCK):
            out[start : start + _BLOCK] = self._block(np.asarray(linear[start : start + _BLOCK]))
        return out

    def _block(self, linear: np.ndarray) -> np.ndarray:
        ones, loudest = at_most_one(linear / self._sums)
        bands = ones.astype(np.float32)
        spectra = self._bank.spectra(bands) * self._weights
        for _ in range(_UPDATES):
            spectra = update(spectra, bands, self._bank, self._weights)
        magnitudes = spectra if self.source.power == 1 else np.sqrt(spectra)
        heard = (magnitudes if self.target.power == 1 else magnitudes**2) @ self._wanted
        level = np.log(np.maximum(loudest, 1e-30)) / self.source.power
        return np.asarray(np.maximum(np.log(np.maximum(heard, TINY)) / self.target.power + level, QUIETEST))


def _groups(source: FrontEnd, target: FrontEnd) -> np.ndarray:
    """First FFT bin of each group: a group is at most an eighth as wide as the filters of either side there."""
    spacing = source.sample_rate / source.n_fft
    hertz = np.arange(source.n_fft // 2 + 1) * spacing
    width = np.minimum(
        *(np.interp(hertz, (edges := bin_edges(fe))[1:-1], edges[2:] - edges[:-2]) for fe in (source, target))
    )
    size = np.maximum(1, np.floor(width / (8 * spacing))).astype(int)
    starts, place = [], 0
    while place < len(hertz):
        starts.append(place)
        place += int(size[place])
    return np.array(starts)


def _bank_on_grid(source: FrontEnd, target: FrontEnd) -> np.ndarray:
    """The target's filters ``(M', K)`` at the frequencies of the source's FFT, with all that differs between the STFTs.

    A spectrum of another FFT length has more bins to a Hz; another window passes noise by the root of its energy and
    tones by the area of its spectrum, of which the geometric mean is taken (speech is both; the fit settles the rest).
    """
    bins = source.n_fft // 2 + 1
    # The filterbank may believe in another sample rate than the audio's; then its Hz are stretched.
    rate = round(source.sample_rate * target.fb_sample_rate / target.sample_rate)
    bank = mel_filterbank(
        rate, source.n_fft, target.n_mels, target.fmin, target.fmax, target.mel_scale, target.filter_norm
    )
    density = (target.n_fft / target.sample_rate) / (source.n_fft / source.sample_rate)
    hertz = np.arange(bins) * source.sample_rate / source.n_fft
    gain = _preemphasis(target, hertz) / np.maximum(_preemphasis(source, hertz), 1e-3)
    gain *= np.sqrt(_noise_gain(target) / _noise_gain(source) * _tone_gain(target) / _tone_gain(source))
    return np.asarray(bank.astype(np.float64) * gain**target.power * density)


def _preemphasis(frontend: FrontEnd, hertz: np.ndarray) -> np.ndarray:
    turns = np.exp(-2j * np.pi * hertz / frontend.sample_rate)
    return np.asarray(np.abs(1.0 - frontend.preemphasis * turns))


def _noise_gain(frontend: FrontEnd) -> float:
    """Magnitude that white noise of a given density in Hz gets: root of the window's energy in s."""
    return float(np.sqrt((frontend.window_array() ** 2).sum() * frontend.sample_rate))


def _tone_gain(frontend: FrontEnd) -> float:
    """Magnitude times bandwidth in Hz that a tone of a given amplitude gets."""
    spectrum = np.abs(np.fft.rfft(frontend.window_array(), 8 * frontend.n_fft))
    return float(spectrum.sum() * frontend.sample_rate / (8 * frontend.n_fft))
