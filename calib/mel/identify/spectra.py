"""Audio under any analysis: window of any width, any place of the first frame, any bank; what hypotheses are made of.

A `Core` says everything that happens before guard, logarithm and normalisation, with real numbers where `FrontEnd`
has whole ones: the width of the window, the place of the first frame and the edges of the bank are searched
continuously before they are snapped. `Bench` computes the filterbank outputs of a core for chosen frames.

Conventions:
    Times are in samples at ``Core.rate``; ``centre`` is the sample at the middle of frame 0's window.
    A symmetric window of W samples has the shape of a periodic one of width W - 1.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np

from calib.data.audio import resample
from calib.mel.filterbank import hz_to_mel, mel_to_hz

__all__ = ["Bench", "Core", "bank", "edges_of"]

_TINY = 1e-30  # below every power that float32 audio can have next to a loud sample


@dataclass(frozen=True)
class Core:
    """An analysis up to the filterbank's outputs.

    Args:
        rate: sample rate of the audio that is analysed, in Hz.
        hop: samples between frames (a fraction while the alignment is searched).
        centre: sample at the middle of frame 0's window.
        n_fft: FFT length in samples.
        width: of the window in samples (a fraction while it is searched).
        window: ``hann``, ``hamming`` or ``rectangular``.
        scale: ``slaney``, ``htk`` or ``htk_tf``.
        fmin: lowest edge in Hz of the bank's own axis.
        fmax: highest edge.
        ratio: Hz of the audio per Hz of the bank's axis (1.5 where a bank for 16 kHz serves audio at 24 kHz).
        power: 1 magnitude, 2 power.
        preemphasis: coefficient of the first difference; 0 none.
        norm: ``slaney`` or None; only the offsets of the bins depend on it.
        eps: added to the squared magnitude before the root.
        eps_clamp: clamp there instead of adding.
        guard: added to the filterbank's output before the logarithm, in units of the output's median (so that it keeps
            its meaning when the rest changes); only what is as large as the signal, as in ln(1 + m).
        closed: both ends belong to the window: a symmetric Hamming window (those of a Hann window are 0).
    """

    rate: int
    hop: float
    centre: float
    n_fft: int
    width: float
    window: str = "hann"
    scale: str = "slaney"
    fmin: float = 0.0
    fmax: float = 8000.0
    ratio: float = 1.0
    power: int = 1
    preemphasis: float = 0.0
    norm: str | None = "slaney"
    eps: float = 0.0
    eps_clamp: bool = False
    guard: float = 0.0
    closed: bool = False

    def but(self, **changes: object) -> Core:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def edges_of(core: Core, bins: int) -> np.ndarray:
    """The ``M + 2`` edges of the filters in Hz of the audio."""
    scale = "htk" if core.scale == "htk_tf" else core.scale
    low, high = (float(hz_to_mel(f, scale)) for f in (core.fmin, core.fmax))
    return np.asarray(mel_to_hz(np.linspace(low, high, bins + 2), scale)) * core.ratio


def bank(core: Core, bins: int) -> np.ndarray:
    """Filters ``(n_fft // 2 + 1, M)`` float32; not cached: the search hardly asks twice."""
    hz = np.linspace(0.0, core.rate / 2, core.n_fft // 2 + 1)  # as `mel_filterbank`; not quite true of odd lengths
    edges = edges_of(core, bins)
    axis, points = hz, edges
    if core.scale == "htk_tf":
        axis, points = np.asarray(hz_to_mel(hz / core.ratio, "htk")), np.asarray(hz_to_mel(edges / core.ratio, "htk"))
    # A frequency between edges k and k + 1 is on the rising side of filter k and the falling side of filter k - 1.
    within = np.searchsorted(points, axis, side="right") - 1
    low, high = np.searchsorted(within, (0, bins + 1))
    low = max(int(low), 1) if core.scale == "htk_tf" else int(low)  # there the bin at 0 Hz is zeroed
    columns, below = np.arange(low, high), within[low:high]
    share = (axis[low:high] - points[below]) / np.maximum(points[below + 1] - points[below], 1e-9)
    out = np.zeros((bins, hz.size), np.float32)
    rising, falling = below < bins, below >= 1
    out[below[rising], columns[rising]] = share[rising]
    out[below[falling] - 1, columns[falling]] = 1.0 - share[falling]
    if core.norm == "slaney":
        out *= (2.0 * core.ratio / np.maximum(edges[2:] - edges[:-2], 1e-9)).astype(np.float32)[:, None]
    return np.asarray(out.T)


def shape(core: Core, position: np.ndarray) -> np.ndarray:
    """The window at distances from its middle in samples."""
    u = position / core.width
    inside = (u >= -0.5 - 1e-9) & (u <= 0.5 + 1e-9 if core.closed else u < 0.5 - 1e-9)
    if core.window == "rectangular":
        return inside.astype(np.float64)
    base = 0.54 if core.window == "hamming" else 0.5
    return np.where(inside, base + (1.0 - base) * np.cos(2.0 * np.pi * u), 0.0)


class Bench:
    """One recording, analysed again and again.

    Args:
        samples: ``(L,)`` at ``rate``.
        rate: in Hz.
        frames: indices of the mel's frames that are looked at.
        bins: mel bins M.
        coarse: spectra in single precision, which is 130 dB below a frame's loudest: to rank hypotheses by.
    """

    def __init__(self, samples: np.ndarray, rate: int, frames: np.ndarray, bins: int, *, coarse: bool = False) -> None:
        self.samples = np.ascontiguousarray(samples, dtype=np.float32)
        self.rate, self.frames, self.bins, self.coarse = rate, np.asarray(frames), bins, coarse
        self.resampled = functools.lru_cache(4)(self._resampled)
        self.emphasised = functools.lru_cache(4)(self._emphasised)
        self._power = functools.lru_cache(6)(self._spectrum)

    def with_frames(self, frames: np.ndarray, *, coarse: bool = False) -> Bench:
        """The same recording at other frames; the resampled audio is shared."""
        other = Bench(self.samples, self.rate, frames, self.bins, coarse=coarse)
        other.resampled, other.emphasised = self.resampled, self.emphasised
        return other

    def _resampled(self, rate: int) -> np.ndarray:
        return resample(self.samples, self.rate, rate)

    def _emphasised(self, rate: int, coefficient: float) -> np.ndarray:
        x = self.resampled(rate)
        if not coefficient:
            return x
        return np.concatenate([x[:1], x[1:] - np.float32(coefficient) * x[:-1]])

    def inside(self, core: Core) -> np.ndarray:
        """Which of the frames see no sample outside the recording, ``(T,)`` bool."""
        middle = core.centre + core.hop * self.frames
        size = self.resampled(core.rate).size
        return np.asarray((middle - core.width / 2 >= 0) & (middle + core.width / 2 <= size))

    def _spectrum(self, key: Core) -> np.ndarray:
        from scipy.fft import rfft

        x = self.emphasised(key.rate, key.preemphasis)
        start = np.floor(key.centre + key.hop * self.frames - key.n_fft / 2 + 1e-6).astype(np.int64)
        # With a whole hop the fraction is one and the same for all frames; else half a sample at most is lost.
        offset = key.centre + key.hop * self.frames[0] - start[0] if self.frames.size else 0.0
        # A window as long as the FFT may need a frame that begins one sample later; magnitudes do not notice.
        if shape(key, np.array([key.n_fft - offset]))[0] > 0 and shape(key, np.array([-offset]))[0] == 0:
            start, offset = start + 1, offset - 1.0
        window = shape(key, np.arange(key.n_fft) - offset)
        if self.coarse:
            window = window.astype(np.float32)
        used = np.flatnonzero(window)
        low, high = (int(used[0]), int(used[-1]) + 1) if used.size else (0, key.n_fft)
        left = max(0, -int((start + low).min(initial=0)))
        right = max(0, int((start + high).max(initial=0)) - x.size)
        padded = np.pad(x, (left, right)) if left or right else x
        view = np.lib.stride_tricks.sliding_window_view(padded, high - low)
        out = np.empty((self.frames.size, key.n_fft // 2 + 1), np.float32)
        for at in range(0, self.frames.size, 64):
            rows = view[start[at : at + 64] + low + left] * window[low:high]
            spectrum = rfft(rows, n=key.n_fft, axis=-1)
            out[at : at + 64] = spectrum.real**2 + spectrum.imag**2
        return out

    def power(self, core: Core) -> np.ndarray:
        """Squared magnitudes ``(T, n_fft // 2 + 1)`` float32 of the core's analysis."""
        key = Core(
            core.rate,
            core.hop,
            core.centre,
            core.n_fft,
            core.width,
            core.window,
            preemphasis=core.preemphasis,
            closed=core.closed,
        )
        return self._power(key)

    def linear(self, core: Core) -> np.ndarray:
        """Filterbank outputs ``(T, M)`` float32, before any guard."""
        power = self.power(core)
        if core.eps:
            power = np.maximum(power, np.float32(core.eps)) if core.eps_clamp else power + np.float32(core.eps)
        spectrum = np.sqrt(power) if core.power == 1 else power
        return np.asarray(spectrum @ bank(core, self.bins))

    def log(self, core: Core) -> np.ndarray:
        """Natural logarithm of `linear`; empty filters and digital silence lie at the bottom."""
        return np.asarray(np.log(np.maximum(self.linear(core), _TINY)))
