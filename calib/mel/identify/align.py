"""Which way round a mel lies, and where its frames lie in the audio: hop and time of frame 0, without knowing the bank.

The loudness of the audio in a few bands, every few milliseconds, is compared with that of the mel in a few groups of
bins. The best frame rate and lag are found by cross-correlation; then stretches of the mel are each placed in the
audio, and a line through their places gives the hop to a few parts in 100,000.

Conventions:
    Times are in seconds here. A frame's time is the middle of its window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.mel.filterbank import hz_to_mel, mel_to_hz

__all__ = ["Alignment", "Loudness", "align", "standardise"]

_BANDS = 24
_STEP = 0.003  # s between looks at the audio
_LENGTH = 0.040  # s of a look
_SURE = 0.75  # correlation above which the hop that the length says is right
_PIECES = 8


@dataclass(frozen=True)
class Alignment:
    """Where frames lie.

    Args:
        hop: seconds between frames.
        start: seconds at the middle of frame 0.
        score: correlation of mel and audio at the best place, over bins.
        hop_error: standard error of ``hop`` in seconds.
        start_error: of ``start``.
        sign: -1 where the mel falls with loudness.
        fine: hop and start are those of an analysis, not of levels.
    """

    hop: float
    start: float
    score: float
    hop_error: float
    start_error: float
    sign: int
    fine: bool = False


class Loudness:
    """Band levels of a recording: ln of the power in 24 mel-spaced bands every 3 ms, ``(N, 24)``.

    Args:
        samples: ``(L,)``.
        rate: in Hz.
    """

    def __init__(self, samples: np.ndarray, rate: int) -> None:
        from scipy.fft import next_fast_len, rfft

        size = int(_LENGTH * rate)
        self.hop = max(1, round(_STEP * rate))
        self.step = self.hop / rate
        self.seconds = len(samples) / rate
        n = next_fast_len(size, real=True)
        padded = np.pad(np.asarray(samples, np.float32), (size // 2, size))
        frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: self.hop][: 1 + len(samples) // self.hop]
        window = np.hanning(size + 1)[:-1].astype(np.float32)
        hz = np.arange(n // 2 + 1) * rate / n
        top = min(7600.0, rate / 2)
        edges = mel_to_hz(np.linspace(float(hz_to_mel(70.0, "htk")), float(hz_to_mel(top, "htk")), _BANDS + 2), "htk")
        width = np.diff(edges)
        distance = edges[:, None] - hz[None]
        filters = np.maximum(0.0, np.minimum(-distance[:-2] / width[:-1, None], distance[2:] / width[1:, None]))
        filters[np.arange(_BANDS), np.rint(edges[1:-1] * n / rate).astype(int)] += 1e-3
        weights = filters.T.astype(np.float32)
        parts = []
        for at in range(0, len(frames), 256):
            spectrum = rfft(frames[at : at + 256] * window, n=n, axis=-1)
            parts.append((spectrum.real**2 + spectrum.imag**2) @ weights)
        power = np.concatenate(parts)
        quiet = 1e-7 * float(power.max(initial=0.0)) + 1e-20
        self.levels = np.log(power + quiet)

    def at(self, times: np.ndarray) -> np.ndarray:
        """Levels at times in seconds ``(T, 24)``, linearly between looks."""
        place = np.clip(times / self.step, 0, len(self.levels) - 1.000001)
        low = place.astype(int)
        share = (place - low)[:, None]
        return np.asarray(
            self.levels[low] * (1 - share) + self.levels[np.minimum(low + 1, len(self.levels) - 1)] * share
        )


def standardise(x: np.ndarray) -> np.ndarray:
    """Columns to mean 0 and sd 1; constant columns to 0."""
    centred = x - x.mean(0)
    scale = centred.std(0)
    return np.asarray(np.where(scale > 1e-9, centred / np.where(scale > 1e-9, scale, 1.0), 0.0))


def _groups(x: np.ndarray, count: int) -> np.ndarray:
    """Columns averaged into ``count`` neighbouring groups, each standardised."""
    parts = np.array_split(standardise(x), count, axis=1)
    return standardise(np.stack([p.mean(1) for p in parts], axis=1))


def _correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation of the columns of ``b`` with those of ``a`` at every lag at which they overlap by half of the shorter one.

    The first lag is ``-(len(b) - 1)``: ``(len(a) + len(b) - 1, C)``.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    n = next_fast_len(len(a) + len(b) - 1, real=True)
    lags = np.arange(1 - len(b), len(a))
    first, last = np.maximum(lags, 0), np.minimum(lags + len(b), len(a))  # of a, where they overlap

    def sums(values: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
        return np.asarray(total[end] - total[begin])

    count = (last - first).astype(np.float64)[:, None]
    sum_a, sum_b = sums(a, first, last), sums(b, first - lags, last - lags)
    var_a = sums(a * a, first, last) - sum_a**2 / count
    var_b = sums(b * b, first - lags, last - lags) - sum_b**2 / count
    cross = irfft(rfft(a, n, axis=0) * np.conj(rfft(b, n, axis=0)), n, axis=0)
    both = cross[lags] - sum_a * sum_b / count  # a negative lag lies at the end
    value = both / np.sqrt(np.maximum(var_a, 1e-6 * len(a)) * np.maximum(var_b, 1e-6 * len(b)))
    return np.asarray(np.where(count >= 0.5 * min(len(a), len(b)), value, 0.0))


def align(mel: np.ndarray, audio: Loudness) -> Alignment | None:
    """Place the frames of a mel ``(T, M)`` in the audio.

    Returns:
        The best place, however bad its score; None where the mel has fewer than 12 frames or does not vary.
    """
    frames = len(mel)
    if frames < 12 or len(audio.levels) < 24 or float(mel.std()) < 1e-9:
        return None
    nominal = audio.seconds / frames
    bands, groups = _groups(audio.levels, 3), _groups(mel, 3)
    score, start, sign = _place(bands, groups, nominal, audio.step)
    hop = nominal
    if score < _SURE:  # cut, padded or unrelated: look for the hop with pieces
        hop, start, sign = _pieces(bands, groups, nominal, audio.step)
    return _refine(mel, audio, hop, start, sign)


def _place(bands: np.ndarray, groups: np.ndarray, hop: float, step: float) -> tuple[float, float, int]:
    """Best correlation of a stretch of mel with the audio for one hop, the time of its first frame, and its sign."""
    frames = len(groups)
    length = max(2, int((frames - 1) * hop / step) + 1)
    where = np.arange(length) * step / hop
    sampled = np.stack([np.interp(where, np.arange(frames), g) for g in groups.T], axis=1)
    curve = _correlate(bands, sampled).mean(1)
    at = int(np.argmax(np.abs(curve)))
    return float(abs(curve[at])), (at - (length - 1)) * step, 1 if curve[at] >= 0 else -1


def _pieces(bands: np.ndarray, groups: np.ndarray, nominal: float, step: float) -> tuple[float, float, int]:
    """Hop, time of frame 0 and sign from three short stretches, for hops of 0.6 to 1.6 times what the length says."""
    frames = len(groups)
    size = min(frames, max(40, min(140, frames // 3)))
    firsts = sorted({0 + (frames - size) // 6, (frames - size) // 2, 5 * (frames - size) // 6})
    best: tuple[float, float, list[tuple[float, float, int]]] = (-1.0, nominal, [])
    for hop in nominal * np.geomspace(0.6, 1.6, 64):
        placed = [_place(bands, groups[f : f + size], float(hop), step) for f in firsts]
        total = sum(p[0] for p in placed)
        if total > best[0]:
            best = (total, float(hop), placed)
    _, hop, placed = best
    sign = 1 if sum(p[0] * p[2] for p in placed) >= 0 else -1
    if len(firsts) > 1:
        slope = (placed[-1][1] - placed[0][1]) / (firsts[-1] - firsts[0])
        if abs(slope / hop - 1) < 0.03:  # the stretches agree with their hop about where they lie
            hop = slope
    middle = len(firsts) // 2
    return hop, placed[middle][1] - firsts[middle] * hop, sign


def _refine(mel: np.ndarray, audio: Loudness, hop: float, start: float, sign: int) -> Alignment:
    """Place stretches one by one and draw a line through their places, three times with shrinking reach."""
    frames = len(mel)
    y = sign * standardise(mel)
    reach = max(3.0 * hop, 0.03)
    hop_error = start_error = reach
    score = 0.0
    for reach_now in (reach, reach / 2, reach / 4):
        times = start + hop * np.arange(frames)
        inside = (times >= 0) & (times <= audio.seconds)
        if inside.sum() < 10:
            break
        # Which band each bin follows best, at the place found so far (neighbouring looks forgive the misplacement).
        follow = standardise(audio.at(times[inside])).T @ y[inside] / inside.sum()
        which = np.argmax(follow, axis=0)
        strength = np.clip(np.max(follow, axis=0), 0.0, 1.0)
        score = float(np.mean(strength))
        heed = strength**2 / max(float((strength**2).sum()), 1e-9)
        # Pieces of frames; the correlation of each at every shift.
        shifts = np.arange(-reach_now, reach_now + 1e-9, max(reach_now / 12, 0.0005))
        pieces = [p for p in np.array_split(np.flatnonzero(inside), _PIECES) if p.size >= 4]
        found, weight, middle = [], [], []
        curves = {s: audio.at(times + s)[:, which] for s in shifts}
        for piece in pieces:
            target = standardise(y[piece])
            values = np.array([float((standardise(curves[s][piece]) * target).mean(0) @ heed) for s in shifts])
            at = int(np.argmax(values))
            if not 0 < at < len(shifts) - 1 or values[at] < 0.2:
                continue
            bend = values[at - 1] - 2 * values[at] + values[at + 1]
            move = 0.5 * (values[at - 1] - values[at + 1]) / bend if bend < 0 else 0.0
            found.append(shifts[at] + np.clip(move, -1, 1) * (shifts[1] - shifts[0]))
            weight.append(-bend)
            middle.append(float(piece.mean()))
        if len(found) < 2:
            break
        f, m = np.array(found), np.array(middle)
        w = np.asarray(weight) / np.sum(weight)
        for _ in range(3):  # robust line
            mean = float(np.sum(w * m) / np.sum(w))
            slope = float(np.sum(w * (m - mean) * f) / max(float(np.sum(w * (m - mean) ** 2)), 1e-12))
            line = float(np.sum(w * f) / np.sum(w)) + slope * (m - mean)
            scale = max(float(np.median(np.abs(f - line))), 1e-5)
            w = (np.asarray(weight) / np.sum(weight)) / (1 + ((f - line) / (3 * scale)) ** 2)
        spread = max(float(np.sqrt(np.sum(w * (f - line) ** 2) / np.sum(w))), 3e-5)
        hop_error = spread / np.sqrt(max(float(np.sum((m - mean) ** 2)), 1.0))
        start_error = spread / np.sqrt(len(f)) + hop_error * mean
        start += float(np.sum(w * f) / np.sum(w)) - slope * mean
        hop += slope
    return Alignment(hop, start, score, float(hop_error), float(start_error), sign)
