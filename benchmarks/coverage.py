"""How often 95 % intervals hold the truth, and how often a test at 5 % rejects it: simulated corpora with a known answer.

One command, about three minutes on one core: ``python benchmarks/coverage.py``; the result with versions lands in ``coverage.json``.

A frame of the target is a mean spectrum, the utterance's level, and six smooth shapes over the bins, each driven by an
AR(1) process (lag-1 .927: e-folding time 13 frames; the first one, energy, is pushed towards two states, speech and
pause). The prediction of a healthy model follows each process with correlation r and is shrunk by r (mean-like) or not
(sample-like); r, spread, level and length differ by utterance. Sums of squares are exact functions of the processes'
Gram matrix, so that no (T, M) array is ever made; the truth is the expectation of the same sums over 60,000 utterances.

Scenarios, set by 118 real utterances of six corpora (level sd .13 to .52, its skewness -.83 to .23, sd of log length .16
to .44, of log spread .04 to .18):
    speech   their middle: level sd .3, log length .4, log spread .1
    skewed   their extremes: an exponential level (skewness -2, sd .5) that goes with length; log spread .18
    stress   beyond any of them: level sd .6, log length .55, log spread .35
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy.signal import lfilter
from scipy.special import fdtrc

from calib.diagnose.intervals import BLOCK_FRAMES, block_intervals, utterance_intervals
from calib.diagnose.metrics import UncomputableError, mincer_zarnowitz
from calib.diagnose.moments import Moments, Summary, UnitMoments

HERE = Path(__file__).resolve().parent
BINS, SHAPES, LAG_ONE, STEP = 80, 6, 0.927, 10
LATENT = 1 + 2 * SHAPES  # a constant, the target's processes, the prediction's noise
CORRELATIONS = (0.3, 0.7, 0.98)
REPLICATES = {5: 1000, 8: 800, 16: 600, 64: 300}
BLOCKED = {1720: 500, 5160: 400}  # frames of the one utterance: 20 s and 60 s at 86 a second
DRAWS = 500  # of the percentile bootstrap, the peer
BAND = (0.92, 0.98)

_CENTRES = (np.arange(BINS) + 0.5) / BINS
_SPECTRUM = -5.2 + 1.45 * np.cos(np.pi * _CENTRES)
_ENERGY = np.array([0.55, 0.2, 0.08, 0.07, 0.06, 0.04])  # as the principal components of real mels
_LOADINGS = np.cos(np.pi * np.arange(SHAPES) * _CENTRES[:, None]) * np.sqrt(_ENERGY * [1, 2, 2, 2, 2, 2])
_LOADINGS *= 1.75 / np.sqrt((_LOADINGS**2).sum(1).mean())


@dataclass(frozen=True)
class Scenario:
    """What differs between utterances."""

    level: float
    spread: float
    length: float
    skewed: bool


SCENARIOS = {
    "speech": Scenario(0.3, 0.1, 0.4, skewed=False),
    "skewed": Scenario(0.5, 0.18, 0.45, skewed=True),
    "stress": Scenario(0.6, 0.35, 0.55, skewed=True),
}


@dataclass(frozen=True)
class Cell:
    """A model: how it was trained, how good it is, and in which domain its output is (``prediction = scale * mel + offset``)."""

    kind: str
    r: float
    domain: str = "raw"

    @property
    def map(self) -> tuple[float, float]:
        """Scale and offset."""
        return (1.0, 0.0) if self.domain == "raw" else (1 / 2.08, 5.07 / 2.08)

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.kind}-like r {self.r} {self.domain}"


CELLS = [Cell(kind, r) for kind in ("mean", "sample") for r in CORRELATIONS]
CELLS += [Cell(kind, 0.7, "normalised") for kind in ("mean", "sample")]


@dataclass(frozen=True)
class Utterances:
    """Parameters of U utterances, each ``(U,)``; ``own`` and ``misheard`` are the target's level and the model's error of it."""

    frames: np.ndarray
    own: np.ndarray
    misheard: np.ndarray
    spread: np.ndarray
    quality: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int, scenario: Scenario) -> Utterances:
        """Random ones."""

        def level() -> np.ndarray:
            return scenario.level * (
                1.0 - rng.exponential(1.0, count) if scenario.skewed else rng.standard_normal(count)
            )

        own = level()
        log_length = (
            math.log(420) + scenario.length * rng.standard_normal(count) + (0.3 * own if scenario.skewed else 0.0)
        )
        return cls(
            np.clip(np.exp(log_length), 60, 1500).astype(int),
            own,
            level(),
            np.exp(scenario.spread * rng.standard_normal(count)),
            0.2 * rng.standard_normal(count),
        )

    def coefficients(self, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
        """Prediction and target as combinations of the processes, ``(U, M, LATENT)`` both."""
        r = np.tanh(np.arctanh(cell.r) + self.quality)
        shrink = r if cell.kind == "mean" else np.ones_like(r)
        heard = cell.r * self.own + math.sqrt(1 - cell.r**2) * self.misheard
        y = np.zeros((r.size, BINS, LATENT))
        p = np.zeros_like(y)
        y[:, :, 0] = _SPECTRUM + self.own[:, None]
        p[:, :, 0] = _SPECTRUM + (heard * (cell.r if cell.kind == "mean" else 1.0))[:, None]
        y[:, :, 1 : SHAPES + 1] = self.spread[:, None, None] * _LOADINGS
        p[:, :, 1 : SHAPES + 1] = (self.spread * shrink * r)[:, None, None] * _LOADINGS
        p[:, :, SHAPES + 1 :] = (self.spread * shrink * np.sqrt(1 - r**2))[:, None, None] * _LOADINGS
        scale, offset = cell.map
        p *= scale
        p[:, :, 0] += offset
        return p, y


def processes(rng: np.random.Generator, frames: int) -> np.ndarray:
    """The constant and the AR(1) processes of unit variance, ``(LATENT, T)``."""
    noise = rng.standard_normal((2 * SHAPES, frames))
    noise[:, 1:] *= math.sqrt(1 - LAG_ONE**2)
    x = lfilter([1.0], [1.0, -LAG_ONE], noise, axis=1)
    for energy in (0, SHAPES):
        x[energy] = np.tanh(1.5 * x[energy]) / _TWO_STATES
    return np.vstack([np.ones(frames), x])


_GRID = np.linspace(-8, 8, 4001)
_TWO_STATES = math.sqrt(float(np.average(np.tanh(1.5 * _GRID) ** 2, weights=np.exp(-(_GRID**2) / 2))))


def unit_list(n: np.ndarray, gram: np.ndarray, p: np.ndarray, y: np.ndarray) -> list[UnitMoments]:
    """Moments of units from their Gram matrices ``(U, LATENT, LATENT)``."""
    gram_p, gram_y = p @ gram, y @ gram
    count = n[:, None].astype(np.float64)
    mean_p, mean_y = gram_p[:, :, 0] / count, gram_y[:, :, 0] / count
    pp, yy, py = (np.einsum("uml,uml->um", a, b) for a, b in ((gram_p, p), (gram_y, y), (gram_p, y)))
    pp, yy, py = pp - count * mean_p**2, yy - count * mean_y**2, py - count * mean_p * mean_y
    return [UnitMoments(int(n[u]), mean_p[u], mean_y[u], pp[u], yy[u], py[u]) for u in range(n.size)]


def figures(s: Summary, *, sample_like: bool) -> dict[str, float]:
    """The figures that have intervals."""
    ols, mm = s.slope_ols, s.slope_mm
    found = {
        "r": s.r, "r_w": s.r_w, "s_w_ratio": s.s_w_ratio, "slope_ols": ols, "intercept_ols": s.intercept(ols),
        "slope_moments": mm, "intercept_moments": s.intercept(mm),
        "removable_share": s.removable_share(sample_like=sample_like),
    }  # fmt: skip
    return {name: float(value) for name, value in found.items()}


@cache
def truth(cell: Cell, scenario: Scenario) -> dict[str, float]:
    """Expectation of the sums over 60,000 utterances."""
    rng = np.random.default_rng(99)
    units = []
    for _ in range(60):
        u = Utterances.draw(rng, 1000, scenario)
        p, y = u.coefficients(cell)
        weight = u.frames.astype(np.float64)
        total = weight.sum()
        mean_p, mean_y = weight @ p[:, :, 0] / total, weight @ y[:, :, 0] / total
        pp, yy, py = (np.einsum("u,uml,uml->m", weight, a, b) for a, b in ((p, p), (y, y), (p, y)))
        units.append(
            UnitMoments(int(total), mean_p, mean_y, pp - total * mean_p**2, yy - total * mean_y**2, py - total * mean_p * mean_y)
        )  # fmt: skip
    return figures(Moments(units).summary(), sample_like=cell.kind == "sample")


def held(intervals: dict[str, tuple[float, float]], wanted: dict[str, float]) -> dict[str, bool]:
    """Whether each interval holds the truth; shares of less than 1e-3 count as 0."""
    slack = {"removable_share": 1e-3}
    return {
        name: low - slack.get(name, 0.0) <= wanted[name] <= high + slack.get(name, 0.0)
        for name, (low, high) in intervals.items()
    }


def percentiles(moments: Moments, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """The peer: the percentile bootstrap of whole utterances."""
    count = len(moments)
    s = moments.summary(rng.multinomial(count, np.full(count, 1.0 / count), size=DRAWS))
    values = {"slope_ols": s.slope_ols, "intercept_ols": s.intercept(s.slope_ols), "r_w": s.r_w}
    return {name: tuple(np.quantile(v, (0.025, 0.975)).tolist()) for name, v in values.items()}


def rejected(moments: Moments, wanted: dict[str, float]) -> dict[str, bool]:
    """Whether the joint test, and the textbook's, rejects at 5 % after the prediction was mapped to be calibrated; {}: no test."""
    b, a = wanted["slope_ols"], wanted["intercept_ols"]
    n = moments.n[:, None]
    p, y, pp, yy, py = (moments.sums[:, row] for row in range(5))
    mean_p, mean_y = moments.shift_p + p / n, moments.shift_y + y / n
    within = pp - p * p / n, yy - y * y / n, py - p * y / n
    mapped = Moments(
        [
            UnitMoments(int(moments.n[u]), a + b * mean_p[u], mean_y[u], b * b * within[0][u], within[1][u], b * within[2][u])
            for u in range(len(moments))
        ]
    )  # fmt: skip
    try:
        found = mincer_zarnowitz(mapped)
    except UncomputableError:
        return {}
    textbook = found.statistic * (found.degrees + 1) / found.degrees
    return {
        "wald test rejects": found.p_value < 0.05,
        "textbook F(2, G-1) rejects": bool(fdtrc(2, len(moments) - 1, textbook) < 0.05),
    }


def over_utterances(
    name: str, replicates: int, count: int
) -> Iterator[tuple[Cell, dict[str, bool], dict[str, bool], dict[str, bool]]]:
    """Replicates of every cell with one number of utterances."""
    scenario = SCENARIOS[name]
    wanted = {cell: truth(cell, scenario) for cell in CELLS}
    rng = np.random.default_rng((count, sorted(SCENARIOS).index(name)))
    for _ in range(replicates):
        u = Utterances.draw(rng, count, scenario)
        gram = np.stack([f @ f.T for f in (processes(rng, int(n)) for n in u.frames)])
        for cell in CELLS:
            moments = Moments(unit_list(u.frames, gram, *u.coefficients(cell)))
            found = utterance_intervals(moments, sample_like=cell.kind == "sample").values
            ours = {key: (i.low, i.high) for key, i in found.items()}
            peers = cell.domain == "raw" and cell.r == 0.7
            yield (
                cell,
                held(ours, wanted[cell]),
                held(percentiles(moments, rng), wanted[cell]) if peers else {},
                rejected(moments, wanted[cell]) if cell.domain == "raw" else {},
            )


def over_blocks(
    replicates: int, frames: int
) -> Iterator[tuple[Cell, dict[str, bool], dict[str, bool], dict[str, bool]]]:
    """One utterance, its own process the truth."""
    rng = np.random.default_rng(frames)
    for _ in range(replicates):
        u = Utterances.draw(rng, 1, SCENARIOS["skewed"])
        f = processes(rng, frames)
        tens = np.einsum("itc,jtc->tij", *(f.reshape(LATENT, -1, STEP),) * 2)
        summed = np.concatenate([np.zeros((1, LATENT, LATENT)), np.cumsum(tens, axis=0)])
        grams = summed[BLOCK_FRAMES // STEP :] - summed[: -(BLOCK_FRAMES // STEP)]
        for cell in CELLS:
            p, y = u.coefficients(cell)
            n = np.array([frames])
            all_data = Moments(unit_list(n, summed[-1:], p, y))
            expected = Moments(unit_list(n, frames * np.eye(LATENT)[None], p, y))
            wanted = figures(expected.summary(), sample_like=cell.kind == "sample")
            shape = (len(grams), BINS, LATENT)
            blocks = Moments(
                unit_list(
                    np.full(len(grams), BLOCK_FRAMES), grams, np.broadcast_to(p, shape), np.broadcast_to(y, shape)
                )
            )
            found = block_intervals(all_data, blocks, sample_like=cell.kind == "sample").values
            yield cell, held({key: (i.low, i.high) for key, i in found.items()}, wanted), {}, {}


def tally(
    cells: Iterator[tuple[Cell, dict[str, bool], dict[str, bool], dict[str, bool]]],
) -> dict[str, dict[str, dict[str, float]]]:
    """Share of replicates that held, with its binomial standard error, by cell."""
    counts: dict[str, dict[str, list[bool]]] = {}
    for cell, ours, peers, test in cells:
        row = counts.setdefault(cell.name, {})
        for name, hit in ours.items():
            row.setdefault(name, []).append(hit)
        for name, hit in peers.items():
            row.setdefault(f"percentile bootstrap: {name}", []).append(hit)
        for name, hit in test.items():
            row.setdefault(name, []).append(hit)
    return {cell: {name: _share(hits) for name, hits in row.items()} for cell, row in counts.items()}


def _share(hits: list[bool]) -> dict[str, float]:
    share = float(np.mean(hits))
    return {"share": round(share, 4), "error": round(math.sqrt(share * (1 - share) / len(hits)), 4), "n": len(hits)}


def summarise(table: dict[str, dict[str, dict[str, dict[str, float]]]]) -> dict[str, dict[str, object]]:
    """For each setting: lowest, mean and highest coverage of slopes and intercepts, what lies outside the band, the test."""
    out: dict[str, dict[str, object]] = {}
    for setting, cells in table.items():
        shares = {(c, k): v for c, row in cells.items() for k, v in row.items()}
        lines = {key: v["share"] for key, v in shares.items() if key[1].startswith(("slope", "intercept"))}
        others = {key: v["share"] for key, v in shares.items() if key[1] in {"r", "r_w", "s_w_ratio"}}
        peers = [v["share"] for key, v in shares.items() if key[1].startswith("percentile")]
        tests = [v["share"] for key, v in shares.items() if key[1].startswith("wald")]
        row: dict[str, object] = {
            name: [round(f(list(values.values())), 4) for f in (min, np.mean, max)]
            for name, values in (("slopes_and_intercepts", lines), ("r_r_w_s_w_ratio", others))
        }
        row["outside"] = sorted(
            f"{c}: {k} {v:.3f} ({shares[c, k]['error']:.3f})"
            for (c, k), v in {**lines, **others}.items()
            if not BAND[0] <= v <= BAND[1]
        )
        if peers:
            row["percentile_bootstrap"] = [round(f(peers), 4) for f in (min, np.mean, max)]
        if tests:
            row["wald_size"] = [round(f(tests), 4) for f in (min, np.mean, max)]
            textbook = [v["share"] for key, v in shares.items() if key[1].startswith("textbook")]
            row["textbook_wald_size"] = [round(f(textbook), 4) for f in (min, np.mean, max)]
        out[setting] = row
    return out


def main() -> None:
    """Run all settings and write the result."""
    from threadpoolctl import threadpool_limits

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=float, default=1.0, help="replicates, as a multiple of the usual number")
    times = parser.parse_args().times
    started = time.perf_counter()
    table = {}
    with threadpool_limits(1):
        for name in SCENARIOS:
            for count, replicates in REPLICATES.items():
                if name == "stress" and count in {8, 64}:
                    continue
                table[f"{name}, {count} utterances"] = tally(
                    over_utterances(name, max(1, round(times * replicates)), count)
                )
        for frames, replicates in BLOCKED.items():
            table[f"one utterance of {frames} frames"] = tally(over_blocks(max(1, round(times * replicates)), frames))
    result = {
        "what": "share of replicates in which a 95 % interval holds the truth (lowest, mean, highest over models and figures); "
        "wald_size: share in which a true calibration is rejected at 5 %; error: binomial standard error",
        "band": BAND,
        "summary": summarise(table),
        "cells": table,
        "versions": {name: version(name) for name in ("numpy", "scipy", "mel-calib")}
        | {"python": platform.python_version(), "machine": platform.machine()},
    }
    # A line a figure: the table stays readable, and a change of it too.
    text = re.sub(
        r'\{\s+"share": (\S+)\s+"error": (\S+)\s+"n": (\d+)\s+\}',
        r'{"share": \1 "error": \2 "n": \3}',
        json.dumps(result, indent=1),
    )
    (HERE / "coverage.json").write_text(text + "\n")
    print(json.dumps(result["summary"], indent=1))
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
