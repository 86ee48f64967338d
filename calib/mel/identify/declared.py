"""What somebody declared against what the data say: only what the data exclude is a contradiction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.mel.frontend import FrontEnd
from calib.mel.identify.results import Contradiction, Found

if TYPE_CHECKING:
    from calib.mel.identify.settling import Case

__all__ = ["contradictions"]


def contradictions(declared: FrontEnd, case: Case, found: dict[str, Found]) -> Iterator[Contradiction]:
    """Declared values that the data exclude, in words; confounded ones never."""
    core = case.fit.core

    def excluded(name: str, value: Any, tolerance: float = 0.0) -> bool:
        item = found.get(name)
        if item is None or item.value is None or item.confidence < 0.7:
            return False
        if item.interval is not None:
            low, high = item.interval
            return not low - tolerance <= float(value) <= high + tolerance
        same = abs(float(item.value) - float(value)) <= tolerance if isinstance(item.value, (int, float)) and not isinstance(item.value, bool) and isinstance(value, (int, float)) else item.value == value  # fmt: skip
        return not same and value not in item.confounded

    tests: list[tuple[str, Any, float, str]] = [
        ("n_mels", declared.n_mels, 0.0, "bins"),
        ("sample_rate", declared.sample_rate, 0.0, "Hz"),
        ("hop_length", declared.hop_length, 0.0, "samples"),
        ("win_length", declared.win_length, 0.0, "samples"),
        ("n_fft", declared.n_fft, 0.0, "samples"),
        ("window", declared.window, 0.0, ""),
        ("window_periodic", declared.window_periodic, 0.0, ""),
        ("mel_scale", declared.mel_scale, 0.0, ""),
        ("fmin", declared.fmin, 0.01, "Hz"),
        ("fmax", declared.fmax, 0.1, "Hz"),
        ("fb_sample_rate", declared.fb_sample_rate, 1.0, "Hz"),
        ("power", declared.power, 0.0, ""),
        ("preemphasis", declared.preemphasis, 0.005, ""),
        ("padding", declared.padding, 0.0, ""),
        ("pad_mode", declared.pad_mode, 0.0, ""),
    ]
    for name, value, tolerance, unit in tests:
        if excluded(name, value, tolerance):
            item = found[name]
            yield Contradiction(name, value, item.value, f"declared {name} {_said(value)}{' ' * bool(unit)}{unit}, but the mel has {_said(item.value)}{' ' * bool(unit)}{unit}: {item.evidence}")  # fmt: skip
    lv = case.levels
    if lv.norm is not None and (declared.filter_norm or "none") != lv.norm:
        item = found["filter_norm"]
        yield Contradiction("filter_norm", declared.filter_norm, None if lv.norm == "none" else lv.norm, f"declared filter_norm {declared.filter_norm}, but the mel has {'none' if lv.norm == 'none' else lv.norm}: {item.evidence}")  # fmt: skip
    if (declared.log == "none") != case.placed.traits.linear and case.placed.traits.utterance is None:
        yield Contradiction(
            "log", declared.log, found["log"].value, f"declared log {declared.log}, but {found['log'].evidence}"
        )
        return
    line = declared.affine_from_ln()
    if line is not None and case.placed.traits.utterance is None and not case.placed.traits.linear and declared.n_mels == lv.slope.size and declared.power == core.power:  # fmt: skip
        slope = np.median(np.broadcast_to(line[0], lv.slope.shape) / lv.slope)
        tolerance = 0.002 + 0.05 * min(1.0, case.noise_db)
        if case.noise_db < 1.0 and abs(float(slope) - 1.0) > tolerance:
            yield Contradiction("post_scale", declared.unit, float(np.median(lv.slope)), f"declared {declared.unit}: {float(np.median(line[0])):.5g} mel units per ln, but the mel has {float(np.median(lv.slope)):.5g}")  # fmt: skip
        elif case.noise_db < 1.0 and lv.norm == (declared.filter_norm or "none"):
            off = (lv.offset - np.broadcast_to(line[1], lv.offset.shape)) / lv.slope
            if float(np.abs(np.median(off))) > 0.01:
                db = 8.686 / core.power * float(np.median(off))
                yield Contradiction("post_offset", float(np.median(line[1])), float(np.median(lv.offset)), f"declared offset {float(np.median(line[1])):.5g} mel units, but the mel has {float(np.median(lv.offset)):.5g}: another mean or reference level, or audio that was {db:+.2f} dB louder")  # fmt: skip
    if found.get("log_guard") is not None and found["log_guard"].value is not None and not declared.normalises and declared.log != "none":  # fmt: skip
        item = found["log_eps"]
        if item.value is not None and item.interval is not None and found["log_guard"].value == declared.log_guard and not item.interval[0] <= declared.log_eps <= item.interval[1]:  # fmt: skip
            yield Contradiction("log_eps", declared.log_eps, item.value, f"declared a guard of {declared.log_eps:g}, but the mel's is {item.value:.4g}: {item.evidence}")  # fmt: skip


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
