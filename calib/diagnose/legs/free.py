"""Free running against the target: lengths, level, and what agrees after the best warp of time.

Nothing pairs the frames of a free-running mel with those of its target, so only distributions and a warp compare them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calib.diagnose.legs.result import Leg

__all__ = ["free_leg", "warped_r"]

_SHORT, _LONG = 0.8, 1.3  # of the target's length: an early stop; a failure to stop
_R = 0.5  # after the warp; another utterance of the corpus reaches .3 to .45
_SPREAD = (0.7, 1.4)  # sd over the target's
_LEVEL = 0.5  # sd of the target
_FRAMES = 240  # of each mel that are warped
_WARPED = 6  # utterances that are warped


def warped_r(f: np.ndarray, t: np.ndarray) -> float:
    """Correlation within bins of two mels ``(T', M)`` and ``(T, M)`` along the best path of dynamic time warping.

    Both are averaged over frames to at most 240; cost: Euclidean distance of standardised bins; steps of one frame.
    """
    a, b = (_standard(_thinned(m)) for m in (f, t))
    cost = np.sqrt(np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2.0 * a @ b.T, 0.0))
    total = np.full((len(a) + 1, len(b) + 1), np.inf)
    total[0, 0] = 0.0
    for step in range(2, len(a) + len(b) + 1):  # anti-diagonals: all of one can be computed at once
        down = np.arange(max(1, step - len(b)), min(len(a), step - 1) + 1)
        along = step - down
        before = np.minimum(np.minimum(total[down - 1, along], total[down, along - 1]), total[down - 1, along - 1])
        total[down, along] = cost[down - 1, along - 1] + before
    i, j = len(a), len(b)
    path = []
    while i and j:
        path.append((i - 1, j - 1))
        options = ((total[i - 1, j - 1], i - 1, j - 1), (total[i - 1, j], i - 1, j), (total[i, j - 1], i, j - 1))
        _, i, j = min(options)
    rows, columns = (np.array(x) for x in zip(*path, strict=True))
    x, y = a[rows], b[columns]
    x, y = x - x.mean(0), y - y.mean(0)
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / scale if scale > 0 else 0.0


def _thinned(mel: np.ndarray) -> np.ndarray:
    """Neighbouring frames averaged, to at most `_FRAMES`; float64."""
    step = -(-len(mel) // _FRAMES)
    whole = len(mel) // step * step
    return np.asarray(mel[:whole].astype(np.float64).reshape(-1, step, mel.shape[1]).mean(1))


def _standard(mel: np.ndarray) -> np.ndarray:
    sd = mel.std(0)
    return np.asarray((mel - mel.mean(0)) / np.where(sd > 1e-6, sd, 1.0))


def free_leg(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Leg:
    """The leg F-T from ``(free running, target)`` of some utterances; both in one unit, lengths their own."""
    ratios = np.array([len(f) / max(len(t), 1) for f, t in pairs])
    everything = [np.concatenate([pair[k] for pair in pairs]).astype(np.float64) for k in (0, 1)]
    f, t = everything
    if not np.isfinite(f).all():
        count = int(f.size - np.isfinite(f).sum())
        return Leg("F-T", "fail", "NaN", f"free running holds {count} NaN or infinite values", n_utterances=len(pairs))
    sd = float(t.std()) or 1.0
    level, spread = float(f.mean() - t.mean()) / sd, float(f.std()) / sd
    warped = [warped_r(a, b) for a, b in pairs[:_WARPED] if min(len(a), len(b)) > 2]
    r = float(np.median(warped)) if warped else 0.0
    ratio = float(np.median(ratios))
    wrong = []
    if ratio < _SHORT:
        wrong.append(f"it stops early ({ratio:.2f} of the target's length)")
    if ratio > _LONG:
        wrong.append(f"it does not stop ({ratio:.2f} times the target's length)")
    if abs(level) > _LEVEL or not _SPREAD[0] <= spread <= _SPREAD[1]:
        wrong.append(f"its level is {level:+.2f} sd of the target, its spread {spread:.2f} times the target's")
    if warped and r < _R:
        wrong.append(f"its frames do not follow the target's (r {r:.2f} after the best warp in time)")
    numbers = {"length_ratio": ratio, "level_sd": level, "spread_ratio": spread, "warped_r": r}
    sentence = (
        "free running is off: " + "; ".join(wrong)
        if wrong
        else f"free running follows the target: length {ratio:.2f} of it, r {r:.2f} after the best warp in time"
    )
    return Leg(
        "F-T",
        "fail" if wrong else "pass",
        "off" if wrong else "follows",
        sentence,
        n_utterances=len(pairs),
        n_frames=len(f),
        bias=float(f.mean() - t.mean()),
        r_w=r,
        numbers=numbers,
    )
