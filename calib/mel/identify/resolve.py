"""Usual numbers where the loss does not notice, and what else would explain the mel: every choice is turned over once.

An alternative is excluded when it leaves more over blocks of frames than chance would (Student's t above 4); those that
are not excluded stay in the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.mel.identify.budget import Spent
from calib.mel.identify.scene import Fit, Scene, paired_t
from calib.mel.identify.search import bank_variants
from calib.mel.identify.spectra import Core
from calib.mel.identify.usual import WIDTHS, n_ffts, usual

__all__ = ["Choice", "snap", "turn_over"]

_EXCLUDED = 4.0  # t
_NO_EMPHASIS = 0.02  # below which a coefficient is nobody's


@dataclass(frozen=True)
class Choice:
    """A discrete field turned over.

    Args:
        value: the one held.
        open: others that are not excluded.
        nearest: the excluded one that comes closest, or None.
        t: of that one.
        loss_db: its residual, in dB.
        tried: False where there was no time to try others: then nothing is excluded.
    """

    value: Any
    open: tuple[Any, ...]
    nearest: Any
    t: float
    loss_db: float
    tried: bool = True


def snap(scene: Scene, fit: Fit, templates: bool = True) -> tuple[Fit, dict[str, float]]:
    """Whole and usual numbers for the real-valued fields, and the standard errors that they had (3-fold, so 95 % and more).

    Returns:
        The fit at the snapped core, and the half-width of each field's interval.
    """
    if 0.0 < fit.core.preemphasis < _NO_EMPHASIS:  # a search that began with one may end with next to none
        bare = scene.polish(fit.core.but(preemphasis=0.0), ("fmin", "fmax"), 3)
        fit = bare if bare.loss <= max(1.002 * fit.loss, 3e-6) or paired_t(bare.residual, fit.residual) < 2.0 else fit
    names = ["fmin", "fmax", "centre", "width", *(["preemphasis"] if fit.core.preemphasis else [])]
    errors = scene.errors(fit, names)
    best = fit
    core = fit.core
    nyquist = core.rate / 2 / core.ratio
    wanted: dict[str, list[float]] = {}
    for name, extra, least in (
        ("fmin", (), 2e-3),
        ("fmax", (nyquist, 8000.0, 7600.0, 12000.0, 11025.0, 16000.0), 2e-2),
    ):
        wanted[name] = list(dict.fromkeys(v for v in usual(getattr(core, name), max(errors[name], least), extra) if 0 <= v <= nyquist))  # fmt: skip
    if core.preemphasis:
        wanted["preemphasis"] = [v for v in (0.97, 0.95, 0.98, 0.9, 0.85, round(core.preemphasis, 2), round(core.preemphasis, 3)) if abs(v - core.preemphasis) <= max(errors["preemphasis"], 1e-4)]  # fmt: skip
    error = errors["width"]
    if error > 1e-3:
        wanted["width"] = [v for v in (float(core.n_fft), *(round(core.width / s) * s for s in (100.0, 50.0, 20.0, 10.0, 1.0))) if abs(v - core.width) <= max(error, 0.5) and v <= core.n_fft]  # fmt: skip
    error = errors["centre"]
    if error > 1e-3 and templates:
        hop, places = round(core.hop), []
        start = core.centre - core.n_fft / 2
        for template in (-core.n_fft / 2, -(core.n_fft - hop) / 2, 0.0):
            away = round((start - template) / hop) * hop
            if abs(start - template - away) <= max(error, 0.5):
                places.append((abs(away), template + away + core.n_fft / 2))
        wanted["centre"] = [place for _, place in sorted(places)]
    for name, values in wanted.items():
        for value in values:
            trial = scene.fit(best.core.but(**{name: value}))
            if trial.loss <= max(1.002 * best.loss, 3e-6) or paired_t(trial.residual, best.residual) < 2.0:
                best = trial
                break
    return best, errors


def turn_over(scene: Scene, fit: Fit, errors: dict[str, float]) -> dict[str, Choice]:
    """Alternatives of every discrete field, each with its own best real-valued fields; untried ones where time is up."""
    out: dict[str, Choice] = {}
    for key, name, trials in _alternatives(scene, fit, errors):
        try:
            out[key] = _choice(scene, fit, name, trials())
        except Spent:
            out[key] = Choice(getattr(fit.core, name), (), None, 0.0, 0.0, tried=False)
    return out


def _alternatives(
    scene: Scene, fit: Fit, errors: dict[str, float]
) -> Iterator[tuple[str, str, Callable[[], list[Fit]]]]:
    """Name of a choice, the core's field, and the other hypotheses: what matters most comes first."""
    core = fit.core

    def fits(*cores: Core) -> list[Fit]:
        return [scene.fit(c) for c in cores]

    def windows() -> list[Fit]:
        widths = {w: min(core.width * share / WIDTHS[core.window], float(core.n_fft)) for w, share in WIDTHS.items()}
        return [scene.polish(core.but(window=w, width=width, closed=False), ("width", "centre"), 2) for w, width in widths.items() if w != core.window]  # fmt: skip

    # Half a hop away: what tells frames centred on multiples of the hop from those half a hop later.
    yield "half", "centre", lambda: fits(*(core.but(centre=core.centre + d * core.hop) for d in (-0.5, 0.5)))
    yield "mel_scale", "scale", lambda: [f for f in bank_variants(scene, fit, few=True) if f.core.ratio in (core.ratio, 1.0)]  # fmt: skip
    yield "power", "power", lambda: [scene.polish(core.but(power=3 - core.power), ("width",), 1)]
    yield "window", "window", windows
    lengths = [n for n in n_ffts(core) if n != core.n_fft and n >= core.width - 1e-6]
    yield "n_fft", "n_fft", lambda: fits(*(core.but(n_fft=n) for n in lengths))
    other = core.but(preemphasis=0.0 if core.preemphasis else 0.97)
    yield "preemphasis", "preemphasis", lambda: [scene.polish(other, ("fmin", "fmax"), 2)]
    if errors.get("width", 0.0) < 3.0:
        steps = [core.but(width=core.width + d, centre=core.centre + c) for d, c in ((-1, 0.5), (-1, -0.5), (1, 0.5), (1, -0.5), (-2, 0.0)) if core.width + d <= core.n_fft]  # fmt: skip
        yield "width", "width", lambda: fits(*steps)
        if (
            core.window == "hamming" and core.width + 1 - core.closed <= core.n_fft
        ):  # as many samples, of the other kind
            longer = 1 if core.closed else -1
            kind = core.but(closed=not core.closed, width=core.width + longer, centre=core.centre + longer / 2)
            yield "closed", "closed", lambda: fits(kind)
        yield "centre", "centre", lambda: fits(*(core.but(centre=core.centre + d) for d in (-1.0, 1.0)))


def _choice(scene: Scene, held: Fit, name: str, trials: list[Fit]) -> Choice:
    """Which of the trials are not excluded by the data."""
    seen, nearest = [], (np.inf, None, 0.0)
    for trial in trials:
        t = paired_t(trial.residual, held.residual)
        better = trial.loss <= held.loss
        if t < _EXCLUDED or better or trial.loss < 1e-6:
            seen.append((trial.loss, getattr(trial.core, name)))
        elif trial.loss < nearest[0]:
            nearest = (trial.loss, getattr(trial.core, name), t)
    values = tuple(dict.fromkeys(v for _, v in sorted(seen, key=lambda s: s[0])))
    db = scene.decibels(min((t for t in trials if getattr(t.core, name) == nearest[1]), key=lambda t: t.loss)) if nearest[1] is not None else 0.0  # fmt: skip
    return Choice(getattr(held.core, name), values, nearest[1], nearest[2], db)
