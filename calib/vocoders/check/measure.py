"""Audio against the recording that it should be: mels in two front ends, level, time, noise.

Conventions:
    ``x`` is the recording and ``y`` what a vocoder made of its mel, float ``(L,)``. The *own* front end is the
    vocoder's; the *neutral* one is the same for every vocoder of a rate, and finer in time (5 ms): what the own one does
    not see (above its fmax, say) it does. dB are of magnitude. Levels are those of frames within 40 dB of the loudest.

References:
    Log-spectral distance: mean over frames of the root mean square, over bins, of the difference in dB (A. H. Gray and
    J. D. Markel, "Distance measures for speech processing", IEEE Trans. ASSP 24, 1976).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from calib.data.audio import resample
from calib.diagnose.legs.distance import distance
from calib.diagnose.legs.place import lag_between, on_grid, place
from calib.errors import CalibError
from calib.mel.frontend import FrontEnd
from calib.mel.hearing import hearing

__all__ = ["Copy", "likeness", "measure", "neutral", "neutral_mel"]

_BINS = 64
_ACTIVE = 40.0  # dB below the loudest frame down to which a frame counts as speech
_FAINT = 0.3  # r below which no lag is believed
_FULL = 0.999  # of full scale
_SILENT = 1e-4  # peak below which there is no sound (-80 dB of full scale)


@dataclass(frozen=True)
class Copy:
    """What a copy is like beside its recording.

    Args:
        mel_db: mean difference of the mels in the vocoder's own front end, in dB of what can be heard; None where it has
            no dB.
        mel_level_db: the same after the level.
        mel_r: correlation within bins, own front end.
        lsd_db: log-spectral distance in the neutral front end, of speech, after the level.
        r: correlation within bins, neutral front end.
        envelope_r: correlation of the loudness of the frames, in dB.
        level_db: level of speech over the recording's.
        lag_ms: how late the copy is.
        duration: length over the recording's, in seconds.
        frame_samples: samples that the vocoder made of a frame.
        sample_rate: as the vocoder says, in Hz.
        flatness_db: spectral flatness of speech over the recording's: far above 0 is hiss.
        silence_db: level of the quietest twentieth of the frames below that of speech.
        natural_silence_db: the same of the recording.
        clipped: share of samples at full scale.
        dc: mean of the samples.
        peak: largest magnitude.
    """

    mel_db: float | None
    mel_level_db: float | None
    mel_r: float
    lsd_db: float
    r: float
    envelope_r: float
    level_db: float
    lag_ms: float
    duration: float
    frame_samples: float
    sample_rate: int
    flatness_db: float
    silence_db: float
    natural_silence_db: float
    clipped: float
    dc: float
    peak: float

    @property
    def silent(self) -> bool:
        """Whether there is no sound at all."""
        return self.peak < _SILENT


@functools.cache
def neutral(sample_rate: int) -> FrontEnd:
    """The neutral front end at a rate in Hz: 64 bins from 50 Hz to 8 kHz, 46 ms, every 5 ms, ln magnitude."""
    n_fft = 2 ** int(np.ceil(np.log2(0.03 * sample_rate)))
    return FrontEnd(
        sample_rate=sample_rate, n_fft=n_fft, hop_length=max(1, round(0.005 * sample_rate)), n_mels=_BINS, fmin=50.0,
        fmax=min(8000.0, sample_rate / 2),
    )  # fmt: skip


def neutral_mel(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """``(T, 64)`` in the neutral front end; audio shorter than a frame is padded with zeros."""
    frontend = neutral(sample_rate)
    return frontend.mel(np.pad(samples, (0, max(0, frontend.n_fft - len(samples)))))


def measure(x: np.ndarray, mel: np.ndarray, y: np.ndarray, rate: int, frontend: FrontEnd) -> Copy:
    """Compare a copy with its recording.

    Args:
        x: the recording, at the front end's rate, prepared as the front end does.
        mel: ``(T, M)``: its mel, which the vocoder got.
        y: what the vocoder made of it, at ``rate`` Hz.
        rate: in Hz.
        frontend: the vocoder's, without audio preparation.
    """
    wanted = frontend.sample_rate
    there = resample(y, rate, wanted)
    a, b = neutral_mel(there, wanted), neutral_mel(x, wanted)
    lag, _ = _lag(a, b)
    own = _own(mel, there, frontend)
    a, b = _cut(a, b, lag)
    db_a, db_b = (np.asarray(m, np.float64) * (20.0 / np.log(10.0)) for m in (a, b))
    loud_a, loud_b = _loudness(db_a), _loudness(db_b)
    active = loud_b > loud_b.max() - _ACTIVE
    level = float(np.median((db_a - db_b)[active]))
    off = (db_a - level - db_b)[active]
    top = min(4000.0, frontend.fmax * wanted / frontend.fb_sample_rate)
    return Copy(
        mel_db=own[0],
        mel_level_db=own[1],
        mel_r=own[2],
        lsd_db=float(np.sqrt((off**2).mean(1)).mean()),
        r=_r(a, b),
        envelope_r=_r(loud_a[:, None], loud_b[:, None]),
        level_db=level,
        lag_ms=-1000.0 * lag * neutral(wanted).hop_length / wanted,
        duration=(len(y) / rate) / (len(x) / wanted),
        frame_samples=len(y) / len(mel),
        sample_rate=rate,
        flatness_db=_flatness(there, wanted, top) - _flatness(x, wanted, top),
        silence_db=_silence(loud_a),
        natural_silence_db=_silence(loud_b),
        clipped=float((np.abs(y) >= _FULL).mean()),
        dc=float(y.mean(dtype=np.float64)),
        peak=float(np.abs(y).max()),
    )


def likeness(x: np.ndarray, y: np.ndarray, rate: int, wanted: int, stretch: float = 1.0) -> tuple[float, float]:
    """``(lsd_db, r)`` of a copy against its recording at ``wanted`` Hz, after level and lag.

    Args:
        x: the recording at ``wanted`` Hz.
        y: the copy at ``rate`` Hz.
        rate: in Hz.
        wanted: in Hz.
        stretch: how many times as long the copy is, to be undone in the mel.
    """
    a, b = neutral_mel(resample(y, rate, wanted), wanted), neutral_mel(x, wanted)
    a = on_grid(a, stretch)
    lag, _ = _lag(a, b)
    a, b = _cut(a, b, lag)
    db_a, db_b = (np.asarray(m, np.float64) * (20.0 / np.log(10.0)) for m in (a, b))
    loud = _loudness(db_b)
    active = loud > loud.max() - _ACTIVE
    off = (db_a - db_b)[active]
    off = off - np.median(off)
    return float(np.sqrt((off**2).mean(1)).mean()), _r(a, b)


def _own(mel: np.ndarray, y: np.ndarray, frontend: FrontEnd) -> tuple[float | None, float | None, float]:
    """Difference in dB as it is and after the level, and r, in the vocoder's own front end."""

    def again(index: int, start: float) -> np.ndarray | None:
        del index
        try:
            return frontend.mel(y[round(start * frontend.sample_rate) :])
        except CalibError:
            return None

    placed = place([(0, mel)], again, frontend.hop_length / frontend.sample_rate)
    if not placed:
        return None, None, 0.0
    hear = hearing(frontend)
    d = distance([(placed[0].reference, placed[0].mel)], hear or np.asarray)
    return (None, None, d.r_w) if hear is None else (d.error_db, d.left_db, d.r_w)


def _lag(a: np.ndarray, b: np.ndarray) -> tuple[int, float]:
    """Frames by which b must be moved on a, 0 where nothing is alike."""
    lag, r = lag_between(a, b)
    return (lag, r) if r >= _FAINT else (0, r)


def _cut(a: np.ndarray, b: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """The frames that both have, where ``a[t]`` belongs to ``b[t + lag]``."""
    a, b = a[max(0, -lag) :], b[max(0, lag) :]
    n = min(len(a), len(b))
    return a[:n], b[:n]


def _r(a: np.ndarray, b: np.ndarray) -> float:
    x, y = (np.asarray(m, np.float64) - np.asarray(m, np.float64).mean(0) for m in (a, b))
    energy = float((x * x).sum() * (y * y).sum())
    return float((x * y).sum()) / energy**0.5 if energy > 0 else 0.0


def _loudness(db: np.ndarray) -> np.ndarray:
    """Power of each frame over all bins, in dB."""
    return np.asarray(10.0 * np.log10((10.0 ** (db / 10.0)).mean(1)))


def _silence(loudness: np.ndarray) -> float:
    return float(np.quantile(loudness, 0.95) - np.quantile(loudness, 0.05))


def _flatness(x: np.ndarray, rate: int, top: float, size: int = 1024) -> float:
    """Spectral flatness of the loud frames from 100 Hz to ``top`` Hz, in dB: 0 for white noise, far below for a voice."""
    from scipy.fft import rfft

    x = np.pad(x, (0, max(0, size - len(x))))
    frames = np.lib.stride_tricks.sliding_window_view(x, size)[:: size // 2] * np.hanning(size).astype(np.float32)
    hz = np.arange(size // 2 + 1) * rate / size
    power = np.abs(rfft(frames, axis=1))[:, (hz >= 100.0) & (hz <= top)] ** 2 + 1e-12
    loud = power.mean(1)
    power = power[loud >= np.quantile(loud, 0.5)]
    return float(np.median(10.0 * (np.log10(power).mean(1) - np.log10(power.mean(1)))))
