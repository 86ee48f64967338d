"""What the floors of a loss need to know of a corpus: one pass over the mels, constant memory.

Conventions:
    Mean absolute and Huber losses come from counts on a grid of at most 8192 steps over the range that occurs (an error
    of about the square of a step), mean squared errors from moments. Constants are fitted on the values that they are
    scored on. The first frame of an utterance has no previous one and is not scored for the copy; a swapped mel is
    that of the utterance before (the last one's for the first), cut to the shorter of both.
"""

from __future__ import annotations

import math

import numpy as np

from calib.diagnose.loss import TITLES, Floor, Loss, Normalisation

__all__ = ["LossCollector"]

_MAX_BINS = 8192
_SEARCHED = 512
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


class _Rows:
    """Counts, Σe and Σe² of the values of several rows, on one grid whose step is a power of two.

    The step doubles whenever the range would need more than `_MAX_BINS` steps; finer steps nest in coarser ones, so
    the counts depend on the values only, not on their order.
    """

    def __init__(self, rows: int) -> None:
        self.level, self.start, self.counts = 24, 0, np.zeros((rows, 0), dtype=np.int64)
        self.n, self.s1, self.s2 = np.zeros(rows, dtype=np.int64), np.zeros(rows), np.zeros(rows)
        self.shift: np.ndarray | None = None  # near the mean, so that the sum of squares does not cancel

    def add(self, values: np.ndarray, first: int = 0) -> None:
        """Add finite float64 values ``(N, K)`` to the rows ``first`` to ``first + K - 1``."""
        if values.size == 0:
            return
        if self.shift is None:
            self.shift = np.broadcast_to(values.mean(0) if values.shape[1] == self.n.size else 0.0, self.n.shape).copy()
        self._make_room(float(values.min()), float(values.max()))
        rows = slice(first, first + values.shape[1])
        centred = values - self.shift[rows]
        self.n[rows] += values.shape[0]
        self.s1[rows] += centred.sum(0)
        self.s2[rows] += np.einsum("tm,tm->m", centred, centred)
        width = self.counts.shape[1]
        keys = (np.floor(np.ldexp(values, self.level)) - self.start).astype(np.intp)
        keys += np.arange(values.shape[1]) * width
        self.counts[rows] += np.bincount(keys.ravel(), minlength=values.shape[1] * width).reshape(-1, width)

    def _make_room(self, low: float, high: float) -> None:
        if self.counts.shape[1]:
            low = min(low, math.ldexp(self.start, -self.level))
            high = max(high, math.ldexp(self.start + self.counts.shape[1] - 1, -self.level))
        level = self.level
        while math.floor(math.ldexp(high, level)) - math.floor(math.ldexp(low, level)) >= _MAX_BINS:
            level -= 1
        start = math.floor(math.ldexp(low, level))
        stop = math.floor(math.ldexp(high, level)) + 1
        if (level, start, stop - start) == (self.level, self.start, self.counts.shape[1]):
            return
        counts = np.zeros((self.n.size, stop - start), dtype=np.int64)
        shift = self.level - level
        for k in np.flatnonzero(self.counts.any(axis=0)):
            counts[:, ((self.start + int(k)) >> shift) - start] += self.counts[:, k]
        self.level, self.start, self.counts = level, start, counts

    def means(self) -> np.ndarray:
        """Mean of each row."""
        assert self.shift is not None
        return np.asarray(self.shift + self.s1 / self.n)

    def variances(self) -> np.ndarray:
        """Population variance of each row."""
        return np.asarray(np.maximum(self.s2 / self.n - (self.s1 / self.n) ** 2, 0.0))

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Centres of the steps that hold something ``(B,)``, and the counts ``(rows, B)``."""
        held = np.flatnonzero(self.counts.any(axis=0))
        return np.ldexp(held + (self.start + 0.5), -self.level), self.counts[:, held]


_ROW = {name: k for k, name in enumerate(("utterance_mean", "swapped", "copy_previous", "model"))}


class LossCollector:
    """Streams over utterances and remembers what every floor needs.

    Args:
        n_mels: bins M.
    """

    def __init__(self, n_mels: int) -> None:
        self.n_utterances = self.n_frames = self.padded = 0
        self._targets, self._errors = _Rows(n_mels), _Rows(len(_ROW))
        self._first: np.ndarray | None = None
        self._last: np.ndarray | None = None

    def add(self, target: np.ndarray, prediction: np.ndarray | None = None) -> None:
        """Add one utterance, without a tail of frames that repeat exactly (padding).

        Args:
            target: ``(T, M)``, finite.
            prediction: of the same shape and unit, or None.

        Raises:
            ValueError: shapes that do not fit, no frames, or a non-finite value.
        """
        if target.ndim != 2 or not target.size or target.shape[1] != self._targets.n.size:
            raise ValueError(f"the target has shape {target.shape}; it needs frames and {self._targets.n.size} bins")
        if prediction is not None and prediction.shape != target.shape:
            raise ValueError(f"the prediction has shape {prediction.shape}, the target {target.shape}")
        if not np.isfinite(target).all() or (prediction is not None and not np.isfinite(prediction).all()):
            raise ValueError("NaN or infinite values")
        n = _without_tail(target)
        self.padded += target.shape[0] - n
        y = target[:n].astype(np.float64)
        self._targets.add(y)
        self._error("utterance_mean", y - y.mean(0))
        self._error("copy_previous", y[1:] - y[:-1])
        if prediction is not None:
            self._error("model", y - prediction[:n].astype(np.float64))
        if self._last is None:
            self._first = target[:n].copy()
        else:
            self._swap(y, self._last)
        self._last = target[:n].copy()
        self.n_utterances += 1
        self.n_frames += n

    def _error(self, name: str, error: np.ndarray) -> None:
        self._errors.add(error.reshape(-1, 1), _ROW[name])

    def _swap(self, y: np.ndarray, other: np.ndarray) -> None:
        n = min(y.shape[0], other.shape[0])
        self._error("swapped", y[:n] - other[:n])

    def statistics(self) -> tuple[float, float]:
        """Mean and population sd of all values added.

        Raises:
            ValueError: nothing was added, or every value is the same.
        """
        if not self.n_utterances:
            raise ValueError("no utterance was added")
        means = self._targets.means()
        sd = math.sqrt(float(self._targets.variances().mean() + means.var()))
        if sd == 0:
            raise ValueError(f"every value is {means[0]:g}: look at what the data loader returns")
        return float(means.mean()), sd

    def bins(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and population variance of each bin, each ``(M,)``."""
        return self._targets.means(), self._targets.variances()

    def floors(self, loss: Loss, *, noise: float = 0.0, space: Normalisation | None = None) -> list[Floor]:
        """What every predictor scores; see the module's conventions.

        Args:
            loss: the training loss.
            noise: sd of the label noise, in the unit of ``space``.
            space: what the loss is taken in; None is the raw space.

        Raises:
            ValueError: see `statistics`.
        """
        self.statistics()
        space = space or Normalisation()
        means = (self._targets.means() - space.mean) / space.sd
        constants = {"zero": np.zeros_like(means), "global_mean": np.full_like(means, means.mean()), "bin_mean": means}
        if loss.name == "mse":
            within = self._targets.variances() / space.sd**2
            found = {name: float(loss(means - c, np.sqrt(within + noise**2)).mean()) for name, c in constants.items()}
        else:
            centres, counts = self._targets.grid()
            centres = (centres - space.mean) / space.sd
            found = {name: float(_mean_loss(loss, centres, counts, c, noise).mean()) for name, c in constants.items()}
            found["best_constant"] = float(_best(loss, centres, counts.sum(0, keepdims=True), noise).mean())
            found["best_bin_constant"] = float(_best(loss, centres, counts, noise).mean())
        same = {"best_constant": "global_mean", "best_bin_constant": "bin_mean"} if loss.name == "mse" else {}
        lacking = {
            "utterance_mean": "needs two utterances or more",
            "swapped": "needs two utterances or more",
            "copy_previous": "needs an utterance of two frames or more",
            "model": "needs PAIRS",
            **{name: f"the mean is the best for this loss: see {TITLES[mean]}" for name, mean in same.items()},
        }
        found |= self._scored(loss, noise, space)
        if self.n_utterances < 2:  # its own mean spectrum is then the per-bin mean
            found.pop("utterance_mean", None)
        return [
            Floor(name, found[name]) if name in found else Floor(name, None, skipped=lacking[name]) for name in TITLES
        ]

    def _scored(self, loss: Loss, noise: float, space: Normalisation) -> dict[str, float]:
        errors = self._errors
        if self._first is not None and self._last is not None and self.n_utterances > 1:
            # The circle is closed on a copy, so that more utterances may still come.
            errors = _copy(errors)
            n = min(self._first.shape[0], self._last.shape[0])
            closing = self._first[:n].astype(np.float64) - self._last[:n]
            errors.add(closing.reshape(-1, 1), _ROW["swapped"])
        centres, counts = errors.grid()
        out = {}
        for name, row in _ROW.items():
            if errors.n[row] == 0:
                continue
            if loss.name == "mse":
                assert errors.shift is not None
                mean = errors.shift[row] + errors.s1[row] / errors.n[row]
                spread = max(errors.s2[row] / errors.n[row] - (errors.s1[row] / errors.n[row]) ** 2, 0.0)
                out[name] = float(mean**2 + spread) / space.sd**2 + noise**2
            else:
                out[name] = float(
                    _mean_loss(loss, centres / space.sd, counts[row : row + 1], np.zeros(1), noise).mean()
                )
        return out


def _copy(rows: _Rows) -> _Rows:
    out = _Rows(rows.n.size)
    out.level, out.start, out.counts, out.shift = rows.level, rows.start, rows.counts.copy(), rows.shift
    out.n, out.s1, out.s2 = rows.n.copy(), rows.s1.copy(), rows.s2.copy()
    return out


def _without_tail(mel: np.ndarray) -> int:
    """Frames before a tail of at least two frames that are exactly equal; all of them if every frame is equal."""
    moving = np.flatnonzero((mel != mel[-1]).any(axis=1))
    n = int(moving[-1]) + 1 if moving.size else mel.shape[0]
    return n if mel.shape[0] - n >= 2 else mel.shape[0]


def _mean_loss(loss: Loss, centres: np.ndarray, counts: np.ndarray, constants: np.ndarray, noise: float) -> np.ndarray:
    """Mean loss of each row ``(R,)`` for one constant a row."""
    values = loss(centres - constants[:, None], noise)
    return np.asarray((values * counts).sum(1) / counts.sum(1))


def _best(loss: Loss, centres: np.ndarray, counts: np.ndarray, noise: float) -> np.ndarray:
    """Mean loss of each row's best constant: golden-section search, as the mean loss is convex in the constant."""
    low = np.full(counts.shape[0], float(centres[0]))
    high = np.full(counts.shape[0], float(centres[-1]))
    if noise == 0 and loss.name == "mae":  # the median
        half = np.argmax(np.cumsum(counts, axis=1) * 2 >= counts.sum(1, keepdims=True), axis=1)
        return _mean_loss(loss, centres, counts, centres[half], noise)
    few, merged = _merged(centres, counts)
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    fa, fb = (_mean_loss(loss, few, merged, c, noise) for c in (a, b))
    for _ in range(28):  # 1e-6 of the range
        left = fa < fb
        low, high = np.where(left, low, a), np.where(left, b, high)
        a, b = np.where(left, high - _GOLDEN * (high - low), b), np.where(left, a, low + _GOLDEN * (high - low))
        new = _mean_loss(loss, few, merged, np.where(left, a, b), noise)
        fa, fb = np.where(left, new, fb), np.where(left, fa, new)
    return _mean_loss(loss, centres, counts, (low + high) / 2.0, noise)


def _merged(centres: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most `_SEARCHED` groups of neighbouring steps: where the best constant lies matters only in second order."""
    size = -(-centres.size // _SEARCHED)
    starts = np.arange(0, centres.size, size)
    merged = np.add.reduceat(counts, starts, axis=1)
    pooled = counts.sum(0)
    return np.add.reduceat(centres * pooled, starts) / np.add.reduceat(pooled, starts), merged
