"""Where a window without fading ends lies: what leaks into the upper bins follows the squared samples at its two edges.

A rectangular window cuts the recording at its first and its last sample; the two jumps are clicks, whose energy falls as
the square of frequency but is spread over all of it, and in the upper bins of speech it hides the speech itself. So the
level of these bins follows ``x[first]² + x[last]²`` from frame to frame, beyond what loudness explains, and by which
samples it does so the window is found at once. (Summation by parts of the windowed Fourier sum gives the two terms.)
"""

from __future__ import annotations

import numpy as np

from calib.mel.identify.align import standardise
from calib.mel.identify.scene import Fit, Scene
from calib.mel.identify.spectra import Core

__all__ = ["jumps"]

_FRAMES = 60  # below which chance correlates
_REACH = 0.08  # s on each side of the middle
_EDGES = 50  # samples kept on each side
_FLOOR = (0.3, 0.05)  # in units of the frame's power: what the other edge gives, and what neither does
_LOUDNESS = (0.01, 0.02, 0.04, 0.08)  # s of the looks whose loudness is taken out
_SHARP = (0.02, 0.05)  # s of those whose high frequencies are


def jumps(scene: Scene, fit: Fit, count: int = 12) -> list[Core]:
    """Rectangular windows whose edges the upper bins follow best, the likeliest first.

    Args:
        scene: the mel.
        fit: an analysis with about the right place, however wrong its window.
        count: how many, at most.

    Returns:
        Cores like the fit's with ``window``, ``width`` and ``centre`` changed; none where no edge stands out.
    """
    core = fit.core
    sign = 1.0 if float(np.median(fit.slope[scene.bins_used])) >= 0 else -1.0
    bins = np.flatnonzero(scene.bins_used)[scene.bins_used.sum() // 2 :]
    if len(scene.stored) < _FRAMES or not bins.size:
        return []
    level = sign * standardise(np.asarray(scene.stored[:, bins], np.float64)).mean(1)
    offsets = np.arange(-int(_REACH * core.rate), int(_REACH * core.rate) + 1)
    squares, loudness = [], []
    for bench in scene.benches:
        scene.check()
        x = bench.emphasised(core.rate, core.preemphasis).astype(np.float64)
        middles = np.rint(core.centre + core.hop * bench.frames).astype(int)
        place = middles[:, None] + offsets
        squares.append(np.where((place >= 0) & (place < x.size), x[np.clip(place, 0, x.size - 1)], 0.0) ** 2)
        sharp = np.diff(x, 2, prepend=0.0, append=0.0)
        loudness.append(
            np.stack(
                [_power(x, middles, s * core.rate) for s in _LOUDNESS]
                + [_power(sharp, middles, s * core.rate) for s in _SHARP],
                axis=1,
            )
        )
    square, power = np.concatenate(squares), np.concatenate(loudness)
    explained = np.concatenate([np.ones((len(power), 1)), np.log(power)], axis=1)
    basis = np.linalg.qr(explained)[0]

    def unexplained(values: np.ndarray) -> np.ndarray:
        rest = values - basis @ (basis.T @ values)
        return np.asarray(rest / (rest.std(0) + 1e-9))

    target = unexplained(level[:, None])[:, 0] / len(level)
    frame = power[:, 2, None]
    single = target @ unexplained(np.log(square / frame + _FLOOR[0]))
    left = np.argsort(-np.where(offsets < 0, single, -np.inf))[:_EDGES]
    right = np.argsort(-np.where(offsets > 0, single, -np.inf))[:_EDGES]
    pairs = []
    for first in left:
        scene.check()
        both = target @ unexplained(np.log((square[:, [first]] + square[:, right]) / frame + _FLOOR[1]))
        pairs += [(float(r), int(offsets[first]), int(offsets[last])) for r, last in zip(both, right, strict=True)]
    out: list[Core] = []
    for _, first, last in sorted(pairs, reverse=True):
        width, centre = float(last - first + 1), np.rint(core.centre) + (first + last + 1) / 2
        if all(abs(width - o.width) + abs(centre - o.centre) > 6 for o in out):
            out.append(core.but(window="rectangular", width=width, centre=float(centre), closed=False, n_fft=int(2 ** np.ceil(np.log2(width)))))  # fmt: skip
        if len(out) == count:
            break
    return out


def _power(x: np.ndarray, middles: np.ndarray, width: float) -> np.ndarray:
    """Mean square within so many samples around each place."""
    total = np.concatenate([[0.0], np.cumsum(x * x)])
    low, high = (np.clip(middles + side, 0, x.size) for side in (-int(width / 2), int(width / 2)))
    return np.asarray((total[high] - total[low]) / max(width, 1.0) + 1e-12)
