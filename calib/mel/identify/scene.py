"""How well a hypothesis explains a mel: one line per bin through the logarithm of the hypothetical filterbank output.

A mel is, away from its guard, ``a_k ln m + b_k``: every log base, gain, reference level and normalisation is in slope and
offset. So a `Core` is judged by what such lines leave, and nothing about normalisation need be known to find it.

Conventions:
    ``y`` is the mel as stored, ``(N, M)``: frames of all clips stacked. ``scaled`` is y with each bin's spread 1;
    losses are mean absolute residuals in that unit: 0 exact, .8 unrelated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from calib.mel.identify.budget import Budget, Spent
from calib.mel.identify.spectra import Bench, Core

__all__ = ["Fit", "Scene", "paired_t"]

_T = TypeVar("_T")
_CLOSE = 1e-3  # loss from which on single precision may show: it leaves some 1e-6, in quiet audio 1e-4
_STEPS = {"fmin": 1.0, "fmax": 0.002, "centre": 0.0005, "width": 0.01, "preemphasis": 0.01, "hop": 3e-5, "guard": 0.02}


@dataclass(frozen=True)
class Fit:
    """Lines by bin.

    Args:
        core: the hypothesis.
        log: ``(N, M)`` logarithm of its filterbank outputs.
        slope: ``(M,)`` in mel units per ln.
        offset: ``(M,)`` in mel units.
        residual: ``(N, M)`` in units of each bin's spread; 0 where a cell is not looked at.
        loss: mean absolute residual.
    """

    core: Core
    log: np.ndarray
    slope: np.ndarray
    offset: np.ndarray
    residual: np.ndarray
    loss: float


class Scene:
    """Some frames of some clips.

    Args:
        benches: one a clip, looking at the same frames as ``y``.
        y: ``(N, M)`` mel values.
        used: ``(N, M)`` bool, cells away from floor, walls and edges.
        exact: loss below which a hypothesis reproduces the mel but for rounding.
        budget: of the search that looks at this scene: a hypothesis is judged only while there is time; None for ever.
    """

    def __init__(
        self,
        benches: Sequence[Bench],
        y: np.ndarray,
        used: np.ndarray,
        exact: float = 2e-5,
        budget: Budget | None = None,
    ) -> None:
        self.budget = budget
        self.best: Fit | None = None
        self.benches, self.bins = list(benches), y.shape[1]
        self._fine: list[Bench] = []  # the benches in double precision, while they are not used
        self.used, self.exact = used & np.isfinite(y), exact
        self.stored = y  # cells that are not used, too
        self.y = np.where(self.used, y, 0.0).astype(np.float64)
        weight = self.used.astype(np.float64)
        self.count = weight.sum(0)
        mean = (self.y * weight).sum(0) / np.maximum(self.count, 1.0)
        variance = ((self.y - mean) ** 2 * weight).sum(0) / np.maximum(self.count, 1.0)
        self.spread = np.sqrt(np.maximum(variance, 1e-24))
        # A bin with few cells or without variation says nothing and would say it loudly.
        self.bins_used = (self.count >= 12) & (variance > 1e-12)
        self.weight = weight * self.bins_used
        self.scaled = (self.y - mean) / self.spread * (self.weight > 0)
        self.mean = mean
        self.total = max(float(self.weight.sum()), 1.0)

    def hear(self, bins: np.ndarray) -> None:
        """Look only at some of the bins ``(M,)`` bool; the others hold nothing but floor."""
        if (self.bins_used & bins).sum() >= 6:
            self.bins_used = self.bins_used & bins
            self.weight = self.weight * self.bins_used
            self.scaled = self.scaled * self.bins_used
            self.total = max(float(self.weight.sum()), 1.0)
            self.best = None  # judged by other bins

    def without(self, cells: np.ndarray) -> Scene:
        """The same mel, some of its cells ``(N, M)`` bool not looked at."""
        out = Scene(self.benches, self.stored, self.used & ~cells, self.exact, self.budget)
        out.hear(self.bins_used)
        return out

    def within(self, budget: Budget, search: Callable[[], _T]) -> _T | None:
        """Run a search that judges hypotheses only while there is time; None when it was ended: then `best` is what is known."""
        self.budget, self.best = budget, None
        try:
            return search()
        except Spent:
            budget.ended = True
            return None
        finally:
            self.budget = None

    def sparse(self, frames: int) -> Scene:
        """The same mel at fewer frames, with coarse spectra."""
        total = sum(len(b.frames) for b in self.benches)
        step = max(1, total // frames)
        keep = np.concatenate([np.arange(len(b.frames)) % step == 0 for b in self.benches])
        benches = [b.with_frames(b.frames[::step], coarse=True) for b in self.benches]
        out = Scene(benches, self.stored[keep], self.used[keep], self.exact, self.budget)
        out.hear(self.bins_used)
        return out

    def check(self) -> None:
        """Before everything that takes time: `Spent` where there is none left."""
        if self.budget is not None:
            self.budget.check()

    def log(self, core: Core) -> np.ndarray:
        """``(N, M)`` float64 logarithm, with the guard found so far.

        Raises:
            Spent: the time for the search is over; `best` is what is known.
        """
        self.check()
        linear = np.concatenate([bench.linear(core) for bench in self.benches]) if len(self.benches) > 1 else self.benches[0].linear(core)  # fmt: skip
        if core.guard:
            linear = linear + np.float32(core.guard * float(np.median(linear)))
        return np.asarray(np.log(np.maximum(linear, 1e-30)), dtype=np.float64)

    def fit(self, core: Core, weight: np.ndarray | None = None) -> Fit:
        """Robust lines by bin for a hypothesis.

        Raises:
            Spent: the time for the search is over; `best` is what is known.
        """
        found = self.lines(core, self.log(core), weight)
        if self._fine and found.loss < _CLOSE:
            self.sharpen()
            found = self.lines(core, self.log(core), weight)
        return found

    def roughly(self) -> Scene:
        """This scene with spectra in single precision, in half the time, until a hypothesis comes so close that it matters."""
        self._fine = self.benches
        self.benches = [b.with_frames(b.frames, coarse=True) for b in self.benches]
        return self

    def sharpen(self) -> None:
        """Spectra in double precision from now on."""
        if self._fine:
            self.benches, self._fine = self._fine, []

    def lines(self, core: Core, log: np.ndarray, weight: np.ndarray | None = None) -> Fit:
        """Robust lines by bin through given logarithms: least squares, then once more with outliers weighed down.

        Raises:
            Spent: as `log`.
        """
        self.check()
        w = self.weight if weight is None else weight
        slope, offset, residual = self._solve(log, w)
        for _ in range(1):
            spread = 3.0 * (np.abs(residual).sum() / self.total) + 1e-9
            slope, offset, residual = self._solve(log, w / (1.0 + (residual / spread) ** 2))
        residual = residual * (self.weight > 0)
        loss = float(np.abs(residual).sum() / self.total)
        fit = Fit(core, log, slope * self.spread, self.mean + offset * self.spread, residual, loss)
        if self.budget is not None and (self.best is None or loss < self.best.loss):
            self.best = fit
        return fit

    def _solve(self, log: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        total = np.maximum(w.sum(0), 1e-12)
        mean_x, mean_y = (log * w).sum(0) / total, (self.scaled * w).sum(0) / total
        x = log - mean_x
        variance = (x * x * w).sum(0)
        slope = np.where(variance > 1e-9, (x * (self.scaled - mean_y) * w).sum(0) / np.maximum(variance, 1e-9), 0.0)
        offset = mean_y - slope * mean_x
        return slope, offset, self.scaled - slope * log - offset

    def polish(self, core: Core, names: Sequence[str], rounds: int = 6, tolerance: float = 0.003) -> Fit:
        """Gauss-Newton over real-valued fields of a core, the lines by bin solved along.

        Args:
            core: where to start.
            names: fields to move.
            rounds: at most.
            tolerance: stop when a round gains less than this share of the loss.
        """
        best = self.fit(core)
        names = list(dict.fromkeys([*names, *(n for n in ("guard", "preemphasis", "eps") if getattr(core, n))]))
        for _ in range(rounds):
            step = self._step(best, names)
            if step is None:
                break
            gained = False
            for share in (1.0, 0.4, 0.12):
                moved = clipped(best.core, {n: v * share for n, v in step.items()})
                trial = self.fit(moved)
                if trial.loss < best.loss:
                    before = best
                    gained = trial.loss < best.loss * (1 - tolerance)
                    best = trial
                    # Robust weights hold a step back where few bins are wrong: then longer ones gain more.
                    for longer in (3.0, 9.0) if share == 1.0 and trial.loss > 0.25 * before.loss else ():
                        trial = self.fit(clipped(before.core, {n: v * longer for n, v in step.items()}))
                        if trial.loss >= best.loss:
                            break
                        best = trial
                    break
            if not gained:
                break
        return best

    def _step(self, fit: Fit, names: Sequence[str]) -> dict[str, float] | None:
        system = self._system(fit, names)
        if system is None:
            return None
        normal, right, _ = system
        scale = np.sqrt(np.maximum(np.diag(normal), 1e-30))
        solved = np.linalg.lstsq(normal / np.outer(scale, scale) + 1e-6 * np.eye(len(names)), right / scale, rcond=None)[0] / scale  # fmt: skip
        return dict(zip(names, solved.tolist(), strict=True))

    def _system(self, fit: Fit, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, float] | None:
        """Normal equations of a Gauss-Newton step and the variance of the residuals."""
        slope = (fit.slope / self.spread)[None]
        spread = 3.0 * fit.loss + 1e-9
        weight = self.weight / (1.0 + (fit.residual / spread) ** 2)
        columns = []
        for name in names:
            delta = step_of(fit.core, name)
            other = self.log(fit.core.but(**{name: getattr(fit.core, name) + delta}))
            change = (other - fit.log) / delta * slope
            columns.append(self._project(change, fit.log, weight))
        normal = np.array([[float((p * q * weight).sum()) for q in columns] for p in columns])
        right = np.array([float((p * fit.residual * weight).sum()) for p in columns])
        if not np.isfinite(normal).all() or not normal.any():
            return None
        return normal, right, float((fit.residual**2 * weight).sum() / max(float(weight.sum()), 1.0))

    def errors(self, fit: Fit, names: Sequence[str], inflation: float = 3.0) -> dict[str, float]:
        """Standard errors of fields from the curvature of the loss, inflated for residuals that go together."""
        system = self._system(fit, names)
        if system is None:
            return dict.fromkeys(names, float("inf"))
        normal, _, variance = system
        inverse = np.linalg.pinv(normal)
        return {n: inflation * float(np.sqrt(max(inverse[i, i] * variance, 0.0))) for i, n in enumerate(names)}

    def _project(self, change: np.ndarray, log: np.ndarray, w: np.ndarray) -> np.ndarray:
        """What of a change the lines by bin cannot take up."""
        total = np.maximum(w.sum(0), 1e-12)
        centred = change - (change * w).sum(0) / total
        x = log - (log * w).sum(0) / total
        variance = np.maximum((x * x * w).sum(0), 1e-9)
        return np.asarray(centred - x * ((x * centred * w).sum(0) / variance))

    def middle(self, core: Core) -> float:
        """Median of the filterbank outputs, the unit of a core's guard."""
        return float(np.median(np.concatenate([bench.linear(core) for bench in self.benches])))

    def moved(self, core: Core, other: Scene) -> Core:
        """A core found in another scene, with its guard in this scene's unit."""
        return core.but(guard=core.guard * other.middle(core) / max(self.middle(core), 1e-30)) if core.guard else core

    def decibels(self, fit: Fit) -> float:
        """A fit's loss in dB of magnitude, over bins."""
        per = self.spread / np.maximum(np.abs(fit.slope), 1e-12)
        cells = np.abs(fit.residual) * per
        good = self.weight > 0
        return float(np.mean(np.minimum(cells[good], 10.0)) if good.any() else np.inf) * 8.685889638 / fit.core.power


def step_of(core: Core, name: str) -> float:
    """Size of a numerical derivative's step."""
    base = _STEPS.get(name, 0.0)
    if name == "fmax":
        return -base * core.fmax
    if name == "centre":
        return base * core.rate / 10
    if name == "width":
        return -base * core.width
    if name == "eps":
        return 0.05 * core.eps
    if name in {"hop", "guard"}:
        return base * float(getattr(core, name))
    return base


def clipped(core: Core, moves: dict[str, float]) -> Core:
    """A core with fields moved, within what can be."""
    values: dict[str, float] = {}
    for name, move in moves.items():
        value = getattr(core, name) + move
        if name == "fmin":
            value = min(max(value, 0.0), 0.4 * core.fmax)
        elif name == "fmax":
            value = min(max(value, 0.5 * core.fmax), core.rate / 2 / core.ratio)
        elif name == "width":
            value = min(max(value, 0.7 * core.width), 1.4 * core.width, float(core.n_fft))
        elif name == "preemphasis":
            value = min(max(value, 0.0), 0.999)
        elif name == "guard":
            value = min(max(value, 0.3 * core.guard), 3.0 * core.guard)
        elif name == "eps":
            value = min(max(value, 0.2 * core.eps), 5.0 * core.eps)
        elif name == "hop":
            value = min(max(value, 0.995 * core.hop), 1.005 * core.hop)
        elif name == "centre":
            value = getattr(core, name) + min(max(move, -0.02 * core.rate), 0.02 * core.rate)
        values[name] = value
    return core.but(**values)


def paired_t(worse: np.ndarray, better: np.ndarray, blocks: int = 40) -> float:
    """Student's t of "the first leaves more than the second", over blocks of frames, so that residuals may go together.

    Args:
        worse: ``(N, M)`` residuals of the hypothesis that is doubted.
        better: of the one that is held.
        blocks: at most; of neighbouring frames.
    """
    scale = max(float(np.abs(better).mean()), 1e-12)
    gain = np.log1p(np.abs(worse) / scale).sum(1) - np.log1p(np.abs(better) / scale).sum(1)
    parts = np.array([p.mean() for p in np.array_split(gain, min(blocks, len(gain)))])
    spread = float(parts.std(ddof=1)) / np.sqrt(len(parts)) if len(parts) > 1 else 0.0
    return float(parts.mean() / spread) if spread > 0 else float(np.sign(parts.mean()) * 1e6) if parts.mean() else 0.0
