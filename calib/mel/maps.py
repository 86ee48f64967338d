"""The exact map of values from one front end to another, as a formula that a person can copy.

Two front ends with the same filterbank outputs (`calib.mel.relation`) differ by what follows. Where both take a
plain logarithm the map is affine, by bin where statistics or the filters' area norm differ; else it goes through the
filterbank's output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.mel.describe import affine_words, number
from calib.mel.frontend import FrontEnd
from calib.mel.relation import relate

__all__ = ["ExactMap", "exact_map"]


@dataclass(frozen=True)
class ExactMap:
    """The way from a value of one front end to the other's.

    Args:
        kind: ``identity``, ``affine`` (two numbers), ``per-bin affine``, or ``elementwise`` (through the filterbank's
            output).
        scale: factors by bin ``(M,)``; None for ``elementwise``.
        offset: offsets by bin ``(M,)``.
        words: the formula.
        limits: where it does not hold.
    """

    kind: str
    scale: np.ndarray | None
    offset: np.ndarray | None
    words: str
    limits: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; lists by bin."""
        return {
            "kind": self.kind,
            "scale": None if self.scale is None else self.scale.tolist(),
            "offset": None if self.offset is None else self.offset.tolist(),
            "words": self.words,
            "limits": list(self.limits),
        }


def exact_map(a: FrontEnd, b: FrontEnd) -> ExactMap | None:
    """The exact map from ``a`` to ``b``; None where there is none and only an approximation or the audio helps."""
    relation = relate(a, b)
    if relation is None:
        return None
    ones = np.ones(a.n_mels)
    if a.id == b.id:
        return ExactMap("identity", ones, 0 * ones, "y' = y")
    limits = _limits(a, b, relation.edge_frames, relation.audio_steps)
    first, second = a.affine_from_ln(), b.affine_from_ln()
    bends = [fe.log_eps if fe.log_guard == "add" else 0.0 for fe in (a, b)]
    straight = bends[0] == bends[1] and (not bends[0] or not relation.log_offset.any())
    if first is None or second is None or not straight:
        return ExactMap("elementwise", None, None, _through(a, b, relation.log_offset), limits)
    scale = second[0] / first[0]
    offset = second[1] + second[0] * relation.log_offset - scale * first[1]
    offset[np.abs(offset) < 1e-9] = 0.0  # what rounding leaves of two equal offsets
    constant = np.ptp(scale) < 1e-9 and np.ptp(offset) < 1e-9
    if constant and abs(scale[0] - 1) < 1e-12 and not offset[0]:
        return ExactMap("identity", ones, 0 * ones, "y' = y", limits)
    if constant:
        return ExactMap("affine", scale, offset, f"y' = {_linear(float(scale[0]), float(offset[0]))}", limits)
    return ExactMap("per-bin affine", scale, offset, _by_bin(scale, offset), limits)


def _linear(scale: float, offset: float) -> str:
    text = "y" if scale == 1 else f"{scale:.9g} y"
    return f"{text} {'+' if offset > 0 else '-'} {abs(offset):.9g}" if offset else text


def _by_bin(scale: np.ndarray, offset: np.ndarray) -> str:
    def ends(values: np.ndarray) -> str:
        return f"{values[0]:.4f} in bin 0 to {values[-1]:.4f} in bin {len(values) - 1}, mean {values.mean():.4f}"

    if np.ptp(scale) < 1e-9:
        factor = "y" if abs(scale[0] - 1) < 1e-12 else f"{scale[0]:.9g} y"
        return f"y'[k] = {factor} + b[k], with b {ends(offset)} (all of them with --json)"
    return f"y'[k] = a[k] y + b[k], with a {ends(scale)}; b {ends(offset)} (all of them with --json)"


def _through(a: FrontEnd, b: FrontEnd, log_offset: np.ndarray) -> str:
    back = "y" if a.log == "none" else "exp(y)"
    affine = a.affine_from_ln()
    if a.log != "none" and affine is not None:
        scale, offset = affine
        plain = np.ptp(scale) == 0 and np.ptp(offset) == 0
        inside = "y" if plain and not offset[0] else f"(y - {number(float(offset[0]))})" if plain else "(y - b[k])"
        by = "" if plain and scale[0] == 1 else f" / {scale[0]:.6g}" if plain else " / a[k]"
        back = f"exp({inside}{by})"
    if a.log_guard == "add" and a.log != "none":
        back = f"{back} - {a.log_eps:g}"
    factor = ", times a constant by bin" if log_offset.any() else ""
    return f"m = {back}{factor}; y' = {affine_words(b)}"


def _limits(a: FrontEnd, b: FrontEnd, edges: int, steps: tuple[str, ...]) -> tuple[str, ...]:
    out = []
    if a.floor is not None:
        out.append(f"not at the floor of the first ({number(a.floor)}), where the sound is lost")
    elif a.log != "none":
        out.append("not at the lowest values of the first, where the sound is lost in the guard")
    if a.clip_max is not None:
        out.append(f"not at its upper clip ({number(a.clip_max)})")
    if a.spectrum_eps != b.spectrum_eps or a.spectrum_eps_mode != b.spectrum_eps_mode:
        out.append("in very quiet cells only nearly: what is added under the root differs")
    if edges:
        out.append(f"not in the {edges} first and last frames, whose padding differs")
    if a.overwrite_last:
        out.append(f"not in what is overwritten at the end ({a.overwrite_last} of the frames)")
    if steps:
        out.append(
            f"up to what was done to the audio before ({', '.join(steps)}): trim and level stay those of the first"
        )
    return tuple(out)
