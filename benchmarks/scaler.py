"""How fast scale and offset are found, beside scikit-learn's regression on the same arrays in the same run.

``python benchmarks/scaler.py``. An hour of mels (310,000 frames of 80 bins, float32) lies in memory-mapped files. calib
reads it utterance by utterance into moments, from which folds, intervals and every affine fit follow; scikit-learn fits
the flattened arrays once. One thread each, alternating rounds, best of each. The result with versions lands in
``scaler.json``. scikit-learn is given float32 as it lies there, and float64, which is the accuracy that calib has; calib
runs with its compiled moments where they were built, and without.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROUNDS = 5
FRAMES, BINS, UTTERANCE, FOLDS = 310_000, 80, 500, 5

Map = tuple[float, float]


def arrays(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and target in memory-mapped files; the speed does not depend on the values."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal((FRAMES, BINS), dtype=np.float32) * np.float32(2) - np.float32(5)
    p = np.float32(0.41) * y + np.float32(0.3) * rng.standard_normal((FRAMES, BINS), dtype=np.float32) + np.float32(2)
    for name, values in (("p", p), ("y", y)):
        np.save(folder / f"{name}.npy", values)
    return np.load(folder / "p.npy", mmap_mode="r"), np.load(folder / "y.npy", mmap_mode="r")


def with_calib(p: np.ndarray, y: np.ndarray) -> Map:
    """Moments of every utterance, then the regression."""
    from calib.diagnose.moments import Moments, unit_moments

    s = Moments(
        [unit_moments(p[k : k + UTTERANCE], y[k : k + UTTERANCE]) for k in range(0, FRAMES, UTTERANCE)]
    ).summary()
    return float(s.slope_ols), float(s.intercept(s.slope_ols))


def without_kernel(p: np.ndarray, y: np.ndarray) -> Map:
    """The same in numpy alone."""
    before = os.environ.get("CALIB_NATIVE")
    os.environ["CALIB_NATIVE"] = "0"
    try:
        return with_calib(p, y)
    finally:
        os.environ.pop("CALIB_NATIVE") if before is None else os.environ.update(CALIB_NATIVE=before)


def with_sklearn(p: np.ndarray, y: np.ndarray, *, dtype: type) -> Map:
    """One fit on the flattened arrays."""
    from sklearn.linear_model import LinearRegression

    x, target = np.asarray(p).reshape(-1, 1), np.asarray(y).reshape(-1)
    model = LinearRegression().fit(x.astype(dtype, copy=False), target.astype(dtype, copy=False))
    return float(model.coef_[0]), float(model.intercept_)


def folds_with_calib(p: np.ndarray, y: np.ndarray) -> float:
    """Held-out squared error of the regression over five folds of utterances, from the same one pass."""
    from calib.diagnose.calibrators.fits import Folds, GroupedSums, least_squares
    from calib.diagnose.moments import Moments, unit_moments

    units = [unit_moments(p[k : k + UTTERANCE], y[k : k + UTTERANCE]) for k in range(0, FRAMES, UTTERANCE)]
    folds = Folds(GroupedSums.of(Moments(units)), np.arange(len(units)) % FOLDS)
    return float(folds.losses([least_squares(folds)], sample_like=False).sum() / folds.n_unit.sum())


def folds_with_sklearn(p: np.ndarray, y: np.ndarray) -> float:
    """The same with a fit for each fold, as one writes it with scikit-learn."""
    from sklearn.linear_model import LinearRegression
    from sklearn.metrics import mean_squared_error

    fold = np.arange(FRAMES) // UTTERANCE % FOLDS
    errors = []
    for held_out in range(FOLDS):
        own = fold == held_out
        model = LinearRegression().fit(p[~own].reshape(-1, 1), y[~own].reshape(-1))
        errors.append(mean_squared_error(y[own].reshape(-1), model.predict(p[own].reshape(-1, 1))))
    return float(np.mean(errors))


def main() -> None:
    """Alternate the programs, keep the best of each, write the result."""
    from sklearn.linear_model import LinearRegression  # noqa: F401  # load its libraries before threads are limited
    from threadpoolctl import threadpool_limits

    from calib.native.library import PURE, chosen

    programs: dict[str, Callable[[np.ndarray, np.ndarray], Map | float]] = {
        "calib": with_calib,
        "calib, numpy alone": without_kernel,
        "scikit-learn float32": lambda p, y: with_sklearn(p, y, dtype=np.float32),
        "scikit-learn float64": lambda p, y: with_sklearn(p, y, dtype=np.float64),
        "calib, five folds": folds_with_calib,
        "scikit-learn, five folds": folds_with_sklearn,
    }
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        p, y = arrays(Path(folder))
        found = {name: program(p, y) for name, program in programs.items()}  # also warms caches and imports
        times: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(ROUNDS):
            for name, program in programs.items():
                started = time.process_time()
                program(p, y)
                times[name].append(time.process_time() - started)
    best = {name: min(values) for name, values in times.items()}
    slopes = {name: value[0] for name, value in found.items() if isinstance(value, tuple)}
    result = {
        "kernel": chosen() or PURE,
        "what": f"scale and offset of {FRAMES} x {BINS} float32 values from memory-mapped files (cached), one thread, "
        f"CPU time, best of {ROUNDS} alternating rounds",
        "seconds": {name: round(value, 4) for name, value in best.items()},
        "ratio_to_scikit_learn": {
            f"{name}, {peer}": round(best[f"scikit-learn {peer}"] / best[name], 1)
            for name in slopes
            if name.startswith("calib")
            for peer in ("float32", "float64")
        }
        | {"five folds": round(best["scikit-learn, five folds"] / best["calib, five folds"], 1)},
        "relative_error_of_the_slope": {n: abs(a / slopes["scikit-learn float64"] - 1) for n, a in slopes.items()},
        "held_out_mse": {name: value for name, value in found.items() if not isinstance(value, tuple)},
        "versions": {name: version(name) for name in ("numpy", "scikit-learn")}
        | {"python": platform.python_version(), "machine": platform.machine()},
    }
    (HERE / "scaler.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
