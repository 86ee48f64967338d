"""The four methods of ``shared/research/frontends.md`` 3(b), implemented again on the same data.

``affine``: a slope and an offset by bin, after undoing logarithm and power; only where the numbers of bins agree.
``pinv``: the target's filters times the pseudo-inverse of the source's on linear mels, and an offset by bin.
``ridge``: M x M and a constant on ln magnitudes. ``ctx3``: the same on three frames.

Time grids are aligned to frame centres by linear interpolation of ln magnitudes, as there. The strength of the two
ridges is the best of three *on the test speakers*, which favours them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calib.mel.convert.inversion import _bank_on_grid
from calib.mel.frontend import FrontEnd

__all__ = ["Sample", "errors"]

_STRENGTHS = (1e-4, 1e-3, 1e-2)


@dataclass(frozen=True)
class Sample:
    """One utterance: ln magnitudes of the source on its own grid, of the target, and which target cells count."""

    x: np.ndarray
    y: np.ndarray
    counts: np.ndarray
    positions: np.ndarray


def errors(source: FrontEnd, target: FrontEnd, train: Sequence[Sample], test: Sequence[Sample]) -> dict[str, float]:
    """Mean absolute error in ln units of magnitude of every method, over the cells of ``test`` that count."""
    y = np.concatenate([s.y for s in train])
    ok = np.concatenate([s.counts for s in train])
    out = {}
    one, one_test = [_at(s.x, s.positions) for s in train], [_at(s.x, s.positions) for s in test]
    if source.n_mels == target.n_mels:
        lines = [_line(np.concatenate(one)[:, k], y[:, k], ok[:, k]) for k in range(target.n_mels)]
        a, b = np.array(lines).T
        out["affine"] = _mae([x * a + b for x in one_test], test)
    inverse = np.linalg.pinv(source.basis().astype(np.float64)) if source.n_mels else np.zeros(0)
    bank = _bank_on_grid(source, target)

    def physical(s: Sample) -> np.ndarray:
        spectra = np.maximum(np.exp(s.x * source.power) @ inverse.T, 0.0)
        magnitudes = spectra if source.power == 1 else np.sqrt(spectra)
        heard = (magnitudes if target.power == 1 else magnitudes**2) @ bank.T
        return _at(np.maximum(np.log(np.maximum(heard, 1e-30)) / target.power, -12.0), s.positions)

    guess = np.concatenate([physical(s) for s in train])
    offset = np.array([(y - guess)[ok[:, k], k].mean() if ok[:, k].any() else 0.0 for k in range(target.n_mels)])
    out["pinv"] = _mae([physical(s) + offset for s in test], test)
    three, three_test = ([np.concatenate([_at(s.x, s.positions + d) for d in (-1, 0, 1)], 1) for s in side] for side in (train, test))  # fmt: skip
    for name, columns, columns_test in (("ridge", one, one_test), ("ctx3", three, three_test)):
        x = np.concatenate(columns)
        out[name] = min(_mae([map_(c) for c in columns_test], test) for map_ in (_ridge(x, y, s) for s in _STRENGTHS))
    return out


def _at(array: np.ndarray, where: np.ndarray) -> np.ndarray:
    place = np.clip(where, 0.0, len(array) - 1.0)
    left = np.floor(place).astype(int)
    share = (place - left)[:, None]
    return np.asarray(array[left] * (1 - share) + array[np.minimum(left + 1, len(array) - 1)] * share)


def _line(x: np.ndarray, y: np.ndarray, ok: np.ndarray) -> tuple[float, float]:
    if ok.sum() < 10 or x[ok].std() == 0:
        return 0.0, float(y[ok].mean()) if ok.any() else 0.0
    slope, offset = np.polyfit(x[ok], y[ok], 1)
    return float(slope), float(offset)


class _ridge:  # noqa: N801 - a function with what it learned
    def __init__(self, x: np.ndarray, y: np.ndarray, strength: float) -> None:
        self.mx, self.my = x.mean(0), y.mean(0)
        centred = x - self.mx
        covariance = centred.T @ centred / len(x)
        covariance[np.diag_indices_from(covariance)] += strength * np.trace(covariance) / len(covariance)
        self.w = np.linalg.solve(covariance, centred.T @ (y - self.my) / len(x))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.asarray((x - self.mx) @ self.w + self.my)


def _mae(guesses: Sequence[np.ndarray], test: Sequence[Sample]) -> float:
    wrong = sum(float(np.abs(g - s.y)[s.counts].sum()) for g, s in zip(guesses, test, strict=True))
    return wrong / sum(int(s.counts.sum()) for s in test)
