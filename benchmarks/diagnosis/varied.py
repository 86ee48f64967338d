"""Pseudo-speakers: clips of one speaker turned into those of many speakers, rooms and microphones.

LJSpeech is one voice in one room, and rules that were set on it alone are set to it. So each pseudo-speaker reads clips
with settings of its own, all drawn once from a seed, and every clip that it reads shares them:

=============  ========================================================================================================
voice          the clip resampled by .82 to 1.2: pitch, formants and rate together
room           exponentially decaying noise of T60 .15 to .5 s, 6 to 20 dB below the direct sound (six of ten)
microphone     a tilt of up to 3 dB an octave, and for one half a slope of 12 dB an octave below 40 to 160 Hz
noise          35 to 65 dB below the speech, its power falling as 1/f**0 to 1/f**2 (three of four; else digital silence)
level          within 6 dB
recording      16 bits, at 22,050 Hz, or at 16,000 Hz (three of ten), or at 8,000 Hz (all of them, where ``narrow``)
=============  ========================================================================================================

Silence of up to .4 s stands before and after each clip, before the noise is added.

Conventions:
    Samples are float32 ``(L,)`` at `RATE`; levels are in dB, frequencies in Hz, times in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

__all__ = ["RATE", "Voice", "readings", "voices"]

RATE = 22050
_SEED = 30_000
_LOWEST, _HIGHEST = 0.82, 1.2  # of the rate
_SILENCE = 0.4  # s


@dataclass(frozen=True)
class Voice:
    """One pseudo-speaker.

    Args:
        name: its identity.
        rate: by which pitch, formants and speed are raised together.
        gain: dB.
        tilt: dB an octave, about 1 kHz, between 100 Hz and 8 kHz.
        low_cut: Hz, below which 12 dB an octave are lost; 0: nothing is.
        t60: s in which the room falls by 60 dB; 0: none.
        wet: dB of the room's energy, against the direct sound.
        noise: dB against the speech's rms; None: none.
        colour: power of the noise falls as ``1 / f ** colour``.
        sampled: Hz at which it was recorded.
    """

    name: str
    rate: float
    gain: float
    tilt: float
    low_cut: float
    t60: float
    wet: float
    noise: float | None
    colour: float
    sampled: int

    def speak(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A clip in this voice, float32 ``(L',)``.

        Args:
            samples: ``(L,)`` at `RATE`.
            rng: draws the room's tail, the noise and the silence.
        """
        import soxr

        x = np.asarray(soxr.resample(samples, RATE * self.rate, RATE, quality="HQ"), dtype=np.float64)
        level = float(np.sqrt(np.square(x).mean()))
        before, after = (int(RATE * s) for s in rng.uniform(0.0, _SILENCE, 2))
        x = self._coloured(self._in_room(np.pad(x, (before, after)), rng))
        x *= level / max(float(np.sqrt(np.square(x).mean())), 1e-9)
        if self.noise is not None:
            x = x + level * 10.0 ** (self.noise / 20.0) * _noise(x.size, self.colour, rng)
        x *= 10.0 ** (self.gain / 20.0)
        if self.sampled != RATE:
            x = np.asarray(soxr.resample(x, RATE, self.sampled, quality="HQ"), dtype=np.float64)
        x = np.round(np.clip(x, -1.0, 1.0) * 32767.0) / 32768.0
        if self.sampled != RATE:
            x = np.asarray(soxr.resample(x, self.sampled, RATE, quality="HQ"), dtype=np.float64)
        return x.astype(np.float32)

    def _in_room(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.t60 <= 0.0:
            return x
        from scipy.signal import fftconvolve

        n = int(self.t60 * RATE)
        tail = rng.standard_normal(n) * 10.0 ** (-3.0 * np.arange(n) / n)
        tail *= 10.0 ** (self.wet / 20.0) / np.sqrt(np.square(tail).sum())
        tail[0] += 1.0
        return np.asarray(fftconvolve(x, tail)[: x.size])

    def _coloured(self, x: np.ndarray) -> np.ndarray:
        """The microphone's curve, without delay."""
        n = next_fast_len(x.size + RATE // 4, real=True)  # what rings beyond the end does not come in at the start
        f = rfftfreq(n, 1.0 / RATE)
        decibels = self.tilt * np.log2(np.clip(f, 100.0, 8000.0) / 1000.0)
        curve = 10.0 ** (decibels / 20.0)
        if self.low_cut > 0.0:
            ratio = np.square(f / self.low_cut)
            curve = curve * ratio / (1.0 + ratio)
        return np.asarray(irfft(rfft(x, n) * curve, n)[: x.size])


def _noise(size: int, colour: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of rms 1 whose power falls as ``1 / f ** colour`` above 20 Hz."""
    n = next_fast_len(size, real=True)
    f = rfftfreq(n, 1.0 / RATE)
    x = irfft(rfft(rng.standard_normal(n)) * np.maximum(f, 20.0) ** (-0.5 * colour), n)[:size]
    return np.asarray(x / np.sqrt(np.square(x).mean()))


def voices(count: int, *, narrow: bool = False) -> list[Voice]:
    """So many pseudo-speakers; the same every time.

    Args:
        count: of them.
        narrow: all recorded at 8,000 Hz.
    """
    rng = np.random.default_rng([_SEED, count, narrow])
    rates = rng.permutation(np.geomspace(_LOWEST, _HIGHEST, count))
    made = []
    for number, rate in enumerate(rates):
        made.append(
            Voice(
                name=f"{'narrow' if narrow else 'voice'}{number:02d}",
                rate=float(rate),
                gain=float(rng.uniform(-6.0, 6.0)),
                tilt=float(rng.uniform(-3.0, 3.0)),
                low_cut=float(rng.uniform(40.0, 160.0) * (rng.random() < 0.5)),
                t60=float(rng.uniform(0.15, 0.5) * (rng.random() < 0.6)),
                wet=float(rng.uniform(-20.0, -6.0)),
                noise=float(rng.uniform(-65.0, -35.0)) if rng.random() < 0.75 else None,
                colour=float(rng.uniform(0.0, 2.0)),
                sampled=8000 if narrow else int(rng.choice((RATE, 16000), p=(0.7, 0.3))),
            )
        )
    return made


def readings(
    clips: Sequence[tuple[str, np.ndarray, str]], count: int, times: int, *, narrow: bool = False
) -> Iterator[tuple[str, np.ndarray, str]]:
    """Every clip in ``times`` voices out of ``count``: ``(id, samples, speaker)``.

    Args:
        clips: ``(id, samples, speaker)``.
        count: voices.
        times: in how many of them each clip is read.
        narrow: as in `voices`.
    """
    people = voices(count, narrow=narrow)
    for number, (key, samples, _) in enumerate(clips):
        for turn in range(times):
            k = (number + turn * (count // times)) % count
            rng = np.random.default_rng([_SEED, number, turn, narrow])
            yield f"{key}-{people[k].name}", people[k].speak(samples, rng), people[k].name
