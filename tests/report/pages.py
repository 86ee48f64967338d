"""Pairs, diagnoses and reports for the tests of the page."""

from __future__ import annotations

import copy
import functools

import numpy as np

from calib.diagnose.analysis import Diagnosis, analyze
from calib.report import Example, IndexEntry, Report, ReportInput, build_index, build_report

RATE = 22050
UNIT = "ln magnitude"
PERSIAN = "سلام، حالِ شما چطور است؟ می‌خواهم."
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'>{{7*7}}\u202eevil\u2066\x00\x1b\udc80"


class Pairs:
    """A `PairSet` held in memory."""

    def __init__(self, pairs: list[tuple[np.ndarray, np.ndarray]], names: list[str] | None = None) -> None:
        self.pairs = pairs
        self.names = names or [f"utt-{i:03d}" for i in range(len(pairs))]

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return self.names[index]

    def arrays(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.pairs[index]

    def speaker(self, index: int) -> str | None:
        return None if index % 2 else f"speaker {index % 3}"


def mels(count: int = 6, frames: int = 100, n_mels: int = 40) -> list[np.ndarray]:
    """Targets that vary in time and by bin, like speech."""
    rng = np.random.default_rng(7)
    tilt = np.linspace(-3.0, -7.0, n_mels)
    out = []
    for i in range(count):
        slow = np.cumsum(rng.standard_normal((frames + 3 * i, 4)), axis=0) * 0.3
        out.append(
            (
                tilt + slow @ rng.standard_normal((4, n_mels)) + 0.3 * rng.standard_normal((frames + 3 * i, n_mels))
            ).astype(np.float32)
        )
    return out


def sound(seconds: float = 1.0, pitch: float = 220.0, level: float = 0.3) -> tuple[np.ndarray, int]:
    """A sine."""
    return (level * np.sin(2 * np.pi * pitch * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32), RATE


def diagnosis(kind: str, names: list[str] | None = None) -> Diagnosis:
    """A diagnosis in a state: ``fixable``, ``healthy``, ``collapsed``, ``invalid``, ``insufficient``; a new copy each time."""
    return copy.deepcopy(_diagnosis(kind, tuple(names or ())))


@functools.cache
def _diagnosis(kind: str, names: tuple[str, ...]) -> Diagnosis:
    rng = np.random.default_rng(1)
    targets = mels()
    change = {
        "fixable": lambda y: 0.5 * y + 2.0 + 0.1 * rng.standard_normal(y.shape),
        "healthy": lambda y: y + 0.1 * rng.standard_normal(y.shape),
        "collapsed": lambda y: 0.01 * rng.standard_normal(y.shape),
        "invalid": lambda y: y,
        "insufficient": lambda y: y,
    }[kind]
    pairs = [(change(y).astype(np.float32), y) for y in targets]
    if kind == "invalid":  # the fault of the founding case: a loader that returns zeros
        pairs = [(p, np.zeros_like(y)) for p, y in pairs]
    if kind == "insufficient":
        pairs = [(p[:9], y[:9]) for p, y in pairs[:1]]
    return analyze(Pairs(pairs, list(names)))


def example(d: Diagnosis, name: str = "utt-000", text: str = "a sentence", language: str | None = "en") -> Example:
    """The first utterance with five sounds."""
    y = mels(1)[0]
    p = (0.5 * y + 2.0).astype(np.float32)
    audio = {
        "recording": sound(),
        "constant": sound(pitch=110),
        "target": sound(),
        "raw": sound(level=0.05),
        "calibrated": sound(level=3.0),
    }
    return Example(name, "worst", text, language, y, p, d.calibration(p), audio)


def report_input(kind: str = "fixable", **changes: object) -> ReportInput:
    """What a report of that state is made from."""
    d = diagnosis(kind)
    values: dict[str, object] = {
        "title": f"a {kind} model",
        "diagnosis": d,
        "examples": [example(d)] if d.rows else [],
        "unit": UNIT,
        "hop_seconds": 256 / RATE,
        "fmin": 0.0,
        "fmax": 8000.0,
        "provenance": {"pairs": "sha256:1234", "seed": 0},
        "written": {"schema": "calib/mel-scaling-params/1", "scale_factor": d.scale_factor, "offset": d.offset}
        if d.verdict.writes
        else None,
    }
    return ReportInput(**{**values, **changes})  # type: ignore[arg-type]


@functools.cache
def report(kind: str = "fixable") -> Report:
    """The report of that state, built once."""
    return build_report(report_input(kind))


def index(audio: dict[str, str] | None = None) -> str:
    """Three cases side by side."""
    return build_index(
        [
            IndexEntry.of(
                kind,
                diagnosis(kind),
                UNIT,
                report=f"{kind}/report.html",
                files={"twin": f"{kind}/report.json"},
                audio=audio,
            )
            for kind in ("collapsed", "fixable", "invalid")
        ],
        "Three cases",
    )
