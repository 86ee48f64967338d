"""A leg, all legs, and the JSON that they become.

The ``legs`` key of ``calib diagnose --json`` is ``Legs.to_json``::

    {"schema": "calib/legs/1",
     "blame": "front-end" | "model" | "both" | "targets" | "calibration" | "free-running" | "neither" | "unknown",
     "status": "pass" | "warn" | "fail",
     "headline": "...", "sentence": "...", "next_steps": ["..."],
     "vocoder_frontend": {"name": "...", "origin": "...", "frontend_id": "..."},
     "declared": null | {"name", "verified": true | false | null, "error_db", "harmless", "differences": [{"field", "target", "vocoder", "words", "effect"}]},
     "identified": null | {"names": [...], "nearest": "...", "error_db": ..., "proven": true | false, "differences": [as declared]},
     "conversion": null | {"how", "why", "expected_db", "lost", "command"},
     "lengths": null | {"ratio", "speed_percent", "odd": ["..."]},
     "legs": {"T-V": {leg}, "P-T": {leg}, "P-V": {leg}, "F-T": {leg}}}

    leg = {"name", "title", "status": "pass" | "warn" | "fail" | "skipped", "judgement", "sentence", "skipped": null | "why",
           "n_utterances", "n_frames", "bias", "slope", "r_w", "mae", "mae_db", "numbers": {...}, "findings": [{finding}],
           "values_alone": ["fault"]}

Conventions:
    ``bias`` is the mean of first minus second, in mel units; ``slope`` turns the first into the second within bins;
    ``mae_db`` is the mean absolute difference of what can be heard, in dB of magnitude. What is not known is null.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from calib.diagnose.faults.evidence import Finding

__all__ = ["LEGS", "Declared", "Difference", "Identified", "Leg", "Legs", "Lengths", "skipped_leg"]

# The legs, in the order in which they are read, and what each compares.
LEGS = {
    "T-V": "target against what the vocoder wants",
    "P-T": "prediction against target",
    "P-V": "prediction against what the vocoder wants",
    "F-T": "free running against target",
}
STATUSES = ("pass", "warn", "fail")
# field, the targets' value, the vocoder's, what differs in words, what it does to the sound
Difference = tuple[str, Any, Any, str, str]


@dataclass(frozen=True)
class Leg:
    """One mel against another.

    Args:
        name: one of `LEGS`.
        status: ``pass``, ``warn``, ``fail``, ``skipped``.
        judgement: a word or two, for the table.
        sentence: what was found, with figures.
        grade: of `calib.diagnose.legs.distance.GRADES` where the leg has one, else "".
        skipped: why there is nothing, or None.
        n_utterances: compared.
        n_frames: compared.
        bias: see the module.
        slope: see the module.
        r_w: correlation within bins.
        mae: in mel units.
        mae_db: see the module.
        numbers: further figures by name, with the unit in the name.
        findings: named faults, the first mel in the role of the prediction.
        values_alone: faults that the values alone were taken for, where the front end itself is known: that is the cause.
    """

    name: str
    status: str
    judgement: str
    sentence: str = ""
    grade: str = ""
    skipped: str | None = None
    n_utterances: int = 0
    n_frames: int = 0
    bias: float | None = None
    slope: float | None = None
    r_w: float | None = None
    mae: float | None = None
    mae_db: float | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    values_alone: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What it compares."""
        return LEGS[self.name]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain |= {"title": self.title, "findings": [finding.to_json() for finding in self.findings]}
        return plain


def skipped_leg(name: str, why: str) -> Leg:
    """A leg that could not be measured."""
    return Leg(name, "skipped", f"skipped: {why}", skipped=why)


@dataclass(frozen=True)
class Declared:
    """What the pairs say that their targets are.

    Args:
        name: of the front end.
        verified: whether the audio makes these targets; None without audio.
        error_db: mean audible difference between the targets and what it makes of the audio.
        differences: from the vocoder's: ``(field, target's, vocoder's, words, effect)``.
        harmless: without audio, whether made-up audio has the same mels in both but for guards, level and time.
    """

    name: str
    verified: bool | None = None
    error_db: float | None = None
    differences: tuple[Difference, ...] = ()
    harmless: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "verified": self.verified,
            "error_db": self.error_db,
            "harmless": self.harmless,
            "differences": _plain(self.differences),
        }


@dataclass(frozen=True)
class Identified:
    """What audio and targets say that the targets are.

    Args:
        names: of the catalogue, none of which the data exclude.
        nearest: of the catalogue where there is none.
        error_db: mean difference between the targets and what the front end found makes of the audio.
        proven: whether that is none: then the front end is what made them.
        differences: from the vocoder's.
    """

    names: tuple[str, ...] = ()
    nearest: str | None = None
    error_db: float | None = None
    proven: bool = False
    differences: tuple[Difference, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "names": list(self.names),
            "nearest": self.nearest,
            "error_db": self.error_db,
            "proven": self.proven,
            "differences": _plain(self.differences),
        }


def _plain(differences: tuple[Difference, ...]) -> list[dict[str, Any]]:
    keys = ("field", "target", "vocoder", "words", "effect")
    return [dict(zip(keys, row, strict=True)) for row in differences]


@dataclass(frozen=True)
class Lengths:
    """Lengths of targets against their audio.

    Args:
        ratio: frames a second of the targets over those that the vocoder takes.
        speed_percent: how much too fast (above 0) the vocoder would speak.
        odd: utterances whose length contradicts their audio, in words.
    """

    ratio: float = 1.0
    speed_percent: float = 0.0
    odd: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"ratio": self.ratio, "speed_percent": self.speed_percent, "odd": list(self.odd)}


@dataclass(frozen=True)
class Legs:
    """All legs and whom to blame.

    Args:
        blame: see the module.
        headline: the first words.
        sentence: the one sentence.
        legs: by name, in the order of `LEGS`.
        next_steps: what to do.
        vocoder: name, origin and identity of the vocoder's front end.
        declared: what the pairs say of their targets, or None.
        identified: what the data say of the targets' front end, or None.
        conversion: how to bring the targets' kind of mel to the vocoder's, or None.
        lengths: of targets and audio, or None without audio.
    """

    blame: str
    headline: str
    sentence: str
    legs: dict[str, Leg]
    next_steps: tuple[str, ...] = ()
    vocoder: dict[str, Any] = field(default_factory=dict)
    declared: Declared | None = None
    identified: Identified | None = None
    conversion: dict[str, Any] | None = None
    lengths: Lengths | None = None

    @property
    def status(self) -> str:
        """The worst of the legs that reach the vocoder; what only the targets are blamed for is no worse than a warning."""
        names = [leg.status for leg in self.legs.values() if leg.status != "skipped"]
        worst = max((STATUSES.index(name) for name in names), default=0)
        if self.blame in {"neither", "targets"}:
            worst = min(worst, 1)
        if self.blame in {"front-end", "both"}:
            worst = 2
        return STATUSES[worst]

    def to_json(self) -> dict[str, Any]:
        """Plain values; see the module."""
        return {
            "schema": "calib/legs/1",
            "blame": self.blame,
            "status": self.status,
            "headline": self.headline,
            "sentence": self.sentence,
            "next_steps": list(self.next_steps),
            "vocoder_frontend": self.vocoder,
            "declared": None if self.declared is None else self.declared.to_json(),
            "identified": None if self.identified is None else self.identified.to_json(),
            "conversion": self.conversion,
            "lengths": None if self.lengths is None else self.lengths.to_json(),
            "legs": {name: leg.to_json() for name, leg in self.legs.items()},
        }
