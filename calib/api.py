"""The Python entry: ``calib.analyze(pairs)``, with everything that is read from disk or held in memory.

``calib`` loads this module when ``calib.analyze`` is first asked for, so that ``import calib`` stays light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calib.diagnose.diagnosis import Diagnosis
from calib.errors import UsageError
from calib.training.collect import Sample, array, looks_transposed

__all__ = ["analyze"]

Pair = tuple[Any, Any]


def analyze(
    pairs: str | Path | Mapping[str, Pair] | Sequence[Pair],
    *,
    frontend: str | None = None,
    stats: str | Path | tuple[float, float] | None = None,
    output_space: str | None = None,
    kind: str | None = None,
    autoregressive: bool | None = None,
    speakers: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Judge predictions against targets; what ``calib diagnose`` and ``calib report`` show.

    Args:
        pairs: a PAIRS folder, or predictions and targets in memory: ``{id: (prediction, target)}`` or a list of such
            pairs. Arrays or tensors, ``(T, M)`` both, of one length, time first, without padding.
        frontend: of the targets: a name, NAME@STATSFILE or a file (``calib frontends list``), or None.
        stats: of the training data: ``(mean, sd)``, or for a PAIRS folder a statistics file; None: the targets' own.
        output_space: ``raw`` or ``normalized``; None: what a PAIRS folder says, else raw.
        kind: ``mean`` (L1, L2), ``sample`` (GAN, flow, diffusion) or None; a PAIRS folder says it itself.
        autoregressive: whether the model saw the previous true frame; a PAIRS folder says it itself.
        speakers: id to speaker, for pairs in memory.
        seed: of everything random.

    Returns:
        The diagnosis. A notebook shows it as a card; ``to_json()`` gives plain values.

    Raises:
        UsageError: shapes or options that do not fit.
        DataError: PAIRS cannot be opened.
    """
    if isinstance(pairs, (str, Path)):
        return _from_disk(Path(pairs), frontend, stats, output_space, seed, {"kind": kind, "autoregressive": autoregressive, "speakers": speakers})  # fmt: skip
    from calib.diagnose.analysis import analyze as judged
    from calib.mel.frontend import FrontEnd
    from calib.mel.variants import bank_geometry

    named = (
        list(pairs.items())
        if isinstance(pairs, Mapping)
        else [(f"utterance {k}", pair) for k, pair in enumerate(pairs)]
    )
    if not named:
        raise UsageError("there are no pairs")
    arrays = [_arrays(name, pair) for name, pair in named]
    _time_first([str(name) for name, _ in named], [y.shape for _, y in arrays])
    held = Sample([str(name) for name, _ in named], arrays, speakers or {})
    if isinstance(stats, (str, Path)):
        raise UsageError("stats is a file; for pairs in memory give (mean, sd)")
    fe = None if frontend is None else FrontEnd.load(frontend)
    return judged(
        held,
        stats=stats,
        stats_origin="the pairs' own targets" if stats is None else "the given statistics",
        output_space=output_space or "raw",
        kind=kind,
        autoregressive=autoregressive,
        seed=seed,
        bank=bank_geometry(fe, held.pairs[0][1].shape[1]),
        frame_seconds=None if fe is None else fe.hop_length / fe.sample_rate,
    )


def _arrays(name: object, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    try:
        prediction, target = pair
    except (TypeError, ValueError):
        raise UsageError(f"{name}: a pair is (prediction, target)") from None
    p, y = (array(value).astype(np.float32, copy=False) for value in (prediction, target))
    if p.ndim != 2 or p.shape != y.shape:
        raise UsageError(f"{name}: the prediction has shape {p.shape}, the target {y.shape}; both must be (T, M)")
    return p, y


def _time_first(names: list[str], shapes: list[tuple[int, ...]]) -> None:
    """Refuse what lies bins first: as with files, the axis whose size is the same everywhere is that of the bins.

    Raises:
        UsageError: it does, or the bins differ.
    """
    frames, bins = ({shape[axis] for shape in shapes} for axis in (0, 1))
    turned = len(bins) > 1 and len(frames) == 1
    if turned or (len(bins) == 1 and any(looks_transposed(*shape) for shape in shapes) and len(frames) == 1):
        raise UsageError(
            f"{names[0]}: the mels have shape {shapes[0]}: are these (M, T)? axis 0 has {shapes[0][0]} entries in {'every pair' if len(shapes) > 1 else 'this pair'}",
            hint="transpose both: (prediction.T, target.T)",
        )
    if len(bins) > 1:
        k = next(k for k, shape in enumerate(shapes) if shape[1] != shapes[0][1])
        raise UsageError(
            f"{names[k]}: {shapes[k][1]} bins, {names[0]} has {shapes[0][1]}",
            hint="all pairs (T, M), of one front end",
        )


def _from_disk(
    folder: Path, frontend: str | None, stats: Any, output_space: str | None, seed: int, unused: Mapping[str, Any]
) -> Diagnosis:
    from calib.commands.judge import JudgeConfig, judge

    given = [name for name, value in unused.items() if value is not None]
    if given:
        raise UsageError(
            f"{' and '.join(given)}: a PAIRS folder says that itself", hint="in its pairs.json or pairs.jsonl"
        )
    if isinstance(stats, tuple):
        raise UsageError("stats is a pair of numbers; for a PAIRS folder give a statistics file")
    path = None if stats is None else Path(stats)
    return judge(JudgeConfig(folder, path, frontend, None, output_space, seed=seed)).diagnosis
