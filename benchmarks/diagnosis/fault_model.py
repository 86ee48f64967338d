"""Faults of the arrays, of whole frames, and of the model itself; changes of the predictions after they are made."""

# ruff: noqa: ARG001 - every injector has the same signature
from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from benchmarks.diagnosis.plan import Arrays, Context, Injector, Plan, each

__all__ = ["MODEL_FAULTS", "fitted"]

_BOTH = ("prediction", "target")


def fitted(mel: np.ndarray, frames: int, start: int = 0) -> np.ndarray:
    """Frames from ``start`` on, going round, so that there are ``frames`` of them."""
    return mel[(start + np.arange(frames)) % len(mel)]


# --- arrays ---------------------------------------------------------------------------------------------------------


def _flipped(plan: Plan, _: None, side: str, rng: np.random.Generator) -> None:
    plan.after(side).append(each(lambda x: x[:, ::-1]))


def _reshaped(plan: Plan, order: str, side: str, rng: np.random.Generator) -> None:
    """``(M, T)`` read as ``(T, M)``, or the other way round."""
    if order == "MT":
        plan.after(side).append(each(lambda x: np.ascontiguousarray(x.T).reshape(x.shape)))
    else:
        plan.after(side).append(each(lambda x: np.ascontiguousarray(x).reshape(x.shape[::-1]).T))


def _mispaired(plan: Plan, value: float | str, side: str, rng: np.random.Generator) -> None:
    """From this share of the list on each prediction is the next one's (a file was missing); or all are of elsewhere."""

    def part(predictions: Arrays, others: Arrays) -> Arrays:
        if value == "elsewhere":
            return [fitted(others[k % len(others)], len(p)) for k, p in enumerate(predictions)]
        first = min(int(float(value) * len(predictions)), len(predictions) - 2)
        moved = predictions[first + 1 :] + predictions[first : first + 1]
        return predictions[:first] + [fitted(q, len(p)) for p, q in zip(predictions[first:], moved, strict=True)]

    def changed(arrays: Arrays, context: Context) -> Arrays:
        case, fresh = arrays[: context.count], arrays[context.count :]
        return part(case, fresh) + part(fresh, case)

    plan.after_prediction.append(changed)


# --- time -----------------------------------------------------------------------------------------------------------


def _shifted(plan: Plan, frames: int, side: str, rng: np.random.Generator) -> None:
    """Late, the first frame repeated; or early, the first frames lost."""
    late = bool(rng.random() < 0.5)

    def moved(x: np.ndarray) -> np.ndarray:
        return np.concatenate([np.repeat(x[:1], frames, axis=0), x]) if late else x[frames:]

    plan.after_prediction.append(each(moved))


def _copied(plan: Plan, share: float, side: str, rng: np.random.Generator) -> None:
    """This share of the prediction is the previous true frame."""

    def changed(arrays: Arrays, context: Context) -> Arrays:
        return [
            share * np.concatenate([own[:1], own[:-1]]) + (1.0 - share) * p
            for p, own in zip(arrays, context.own, strict=True)
        ]

    plan.after_prediction.append(changed)


# --- the model ------------------------------------------------------------------------------------------------------


def _collapsed(plan: Plan, way: str, side: str, rng: np.random.Generator) -> None:
    """Nearly constant: about zero, about the mean, the mean spectrum alone, or the mean spectrum with a faint flutter."""
    noise = float(rng.uniform(0.01, 0.05))

    def changed(arrays: Arrays, context: Context) -> Arrays:
        s = context.statistics
        level = {"zero": np.zeros(80), "mean": np.full(80, s.mean)}.get(way, s.bin_mean)
        flutter = gaussian_filter1d(context.rng.standard_normal((4096, 80)), 2.0, axis=0)
        size = {"zero": noise, "mean": noise, "spectrum": 1e-3, "flutter": 0.1 * s.std}[way]
        flutter *= size / flutter.std()
        return [level + fitted(flutter, len(x), int(context.rng.integers(4096))) for x in arrays]

    plan.after_prediction.append(changed)


def _ignoring(plan: Plan, way: str, side: str, rng: np.random.Generator) -> None:
    """The model predicts other speech: another utterance's, somewhere in it, or the mean of several."""

    def other(arrays: Arrays, context: Context) -> Arrays:
        rng = context.rng

        def one(number: int, frames: int) -> np.ndarray:
            pool = range(context.count, len(arrays)) if number < context.count else range(context.count)
            mel = arrays[int(rng.choice(pool))]
            return fitted(mel, frames, int(rng.integers(len(mel))) if way != "start" else 0)

        count = {"several": 3}.get(way, 1)
        return [np.mean([one(k, len(x)) for _ in range(count)], axis=0) for k, x in enumerate(arrays)]

    plan.reads = other


def _untrained(plan: Plan, way: str, side: str, rng: np.random.Generator) -> None:
    """The output of a randomly initialised network that reads random phonemes, at any level and size.

    Its input is steps of random length, as phonemes are; ``conv`` smooths them once more, ``frames`` adds what changes
    in every frame, ``positions`` is the sines of a position encoding.
    """

    def changed(arrays: Arrays, context: Context) -> Arrays:
        rng = context.rng
        width = 64
        embeddings = rng.standard_normal((40, width))
        hidden, out = (rng.standard_normal(shape) / np.sqrt(width) for shape in ((width, width), (width, 80)))
        bias = rng.normal(0.0, 0.3, 80)
        size, level = rng.uniform(0.3, 1.4) * context.statistics.std, rng.uniform(-6.0, 0.0)
        made = []
        for x in arrays:
            frames = len(x)
            steps = np.repeat(rng.integers(40, size=frames), rng.integers(3, 15, size=frames))[:frames]
            seen = embeddings[steps]
            if way == "positions":
                seen = 0.3 * seen + np.sin(np.arange(frames)[:, None] / np.power(10000.0, np.arange(width) / width))
            if way == "frames":
                seen = seen + rng.standard_normal(seen.shape)
            if way == "conv":
                seen = uniform_filter1d(seen, 5, axis=0)
            h = np.tanh(seen @ hidden)
            h = (h - h.mean(1, keepdims=True)) / h.std(1, keepdims=True)
            made.append(h @ out + bias)
        everything = np.concatenate(made)
        scale = size / everything.std()
        return [(m - everything.mean()) * scale + level for m in made]

    plan.after_prediction.append(changed)


def _blurred(axis: int) -> Callable[[Plan, tuple[str, int], str, np.random.Generator], None]:
    """Averaged over frames (axis 0) or bins (axis 1), or held or interpolated between every n-th."""

    def apply(plan: Plan, value: tuple[str, int], side: str, rng: np.random.Generator) -> None:
        way, size = value

        def blurred(x: np.ndarray) -> np.ndarray:
            if way == "mean":
                return np.asarray(uniform_filter1d(x.astype(np.float64), size, axis=axis, mode="nearest"))
            length = x.shape[axis]
            edges = np.arange(0, length, size)
            means = np.add.reduceat(x.astype(np.float64), edges, axis=axis)
            shape = [-1 if a == axis else 1 for a in range(2)]
            means = means / np.diff(np.append(edges, length)).reshape(shape)
            if way == "held":
                return np.asarray(np.repeat(means, np.diff(np.append(edges, length)), axis=axis))
            centres = edges + (np.diff(np.append(edges, length)) - 1) / 2.0
            return np.apply_along_axis(lambda v: np.interp(np.arange(length), centres, v), axis, means)

        plan.after_prediction.append(each(blurred))

    return apply


MODEL_FAULTS: dict[str, Injector] = {
    "flipped-bins": Injector(("all bins",) * 4, (None,) * 4, _flipped, sides=_BOTH),
    "reshaped": Injector(
        ("(M, T) as (T, M)", "(M, T) as (T, M)", "(T, M) as (M, T)", "(T, M) as (M, T)"),
        ("MT", "MT", "TM", "TM"),
        _reshaped,
        sides=_BOTH,
    ),
    "wrong-pairs": Injector(
        ("off by one from 60 % of the list on", "from 30 % on", "all off by one", "all of other utterances"),
        (0.6, 0.3, 0.0, "elsewhere"),
        _mispaired,
        least=4,
    ),
    "shift": Injector(("1 frame", "2 frames", "3 frames", "5 frames"), (1, 2, 3, 5), _shifted),
    "copying": Injector(("90 %", "95 %", "98 %", "100 %"), (0.9, 0.95, 0.98, 1.0), _copied, autoregressive=True),
    "collapsed": Injector(
        ("mean spectrum and a flutter", "the mean spectrum", "about the mean", "about zero"),
        ("flutter", "spectrum", "mean", "zero"),
        _collapsed,
    ),
    "text-ignored": Injector(
        ("mean of three others", "anywhere in another", "anywhere in another", "another from its start"),
        ("several", "anywhere", "anywhere", "start"),
        _ignoring,
        autoregressive=False,
        trained=False,
    ),
    "untrained": Injector(
        ("steps", "steps and noise", "smooth steps", "steps and positions"),
        ("steps", "frames", "conv", "positions"),
        _untrained,
    ),
    "oversmoothed-time": Injector(
        ("mean of 5 frames", "of 7", "held for 8", "mean of 13"),
        (("mean", 5), ("mean", 7), ("held", 8), ("mean", 13)),
        _blurred(0),
    ),
    "oversmoothed-frequency": Injector(
        ("mean of 4 bins", "interpolated from 16 bands", "mean of 8 bins", "from 8 bands"),
        (("mean", 4), ("between", 5), ("mean", 8), ("between", 10)),
        _blurred(1),
    ),
}
