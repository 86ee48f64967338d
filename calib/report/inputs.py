"""What a report is made from, and what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calib.diagnose.analysis import Diagnosis
from calib.diagnose.causes import worst_first
from calib.diagnose.legs.result import Legs

__all__ = ["NEEDS_LEGS", "Example", "IndexEntry", "Report", "ReportInput", "Setting"]

NEEDS_LEGS = "needs what the vocoder wants (--vocoder-frontend NAME, or --vocoder SPEC) and the audio (--audio SOURCE)"


@dataclass(frozen=True)
class Example:
    """One utterance shown in full.

    Args:
        name: identity of the utterance, as in the table.
        role: why it is shown: ``worst``, ``median``, ``best``, or any other word.
        text: what is spoken, shown as it is (right to left where the language is written so).
        language: BCP 47 code, or None.
        target: mel, ``(T, M)``, in the target's unit.
        prediction: the same shape and unit, before the calibration.
        calibrated: the same, after it.
        audio: label to samples in [-1, 1] and sample rate in Hz: ``recording``, and through the vocoder ``target`` (copy
            synthesis), ``raw``, ``calibrated``, ``constant``.
        notes: what a listener must know, for example why a sound is missing.
    """

    name: str
    role: str
    text: str
    language: str | None
    target: np.ndarray
    prediction: np.ndarray
    calibrated: np.ndarray
    audio: Mapping[str, tuple[np.ndarray, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """A setting that can change the result.

    Args:
        group: what it belongs to, for people (``options``, ``front end``).
        name: of the setting.
        value: that was used.
        default: that would have been; the page marks what differs.
    """

    group: str
    name: str
    value: Any
    default: Any

    @property
    def changed(self) -> bool:
        """Whether it is not the default."""
        return bool(self.value != self.default)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "group": self.group,
            "name": self.name,
            "value": self.value,
            "default": self.default,
            "changed": self.changed,
        }


@dataclass(frozen=True)
class ReportInput:
    """Everything on the page.

    Args:
        title: what was judged, for people.
        diagnosis: the findings.
        examples: utterances shown in full; the first twelve are.
        unit: of the target mel, for example ``ln magnitude``.
        hop_seconds: time from frame to frame, or None (the time axis then counts frames).
        fmin: lower edge of the mel bank in Hz, or None.
        fmax: upper edge in Hz, or None.
        provenance: what can change the result: versions, options, digests.
        written: content of ``mel_scaling_params.json`` if it was written, else None.
        level_match: bring every sound to the loudness (RMS) of the first; the gain is stated beside each.
        legs: target, prediction and what the vocoder wants, or None where they were not measured.
        legs_skipped: why they were not.
        settings: what can change the result and has a default.
        texts: utterance to its text and language, for the table of all utterances.
    """

    title: str
    diagnosis: Diagnosis
    examples: list[Example] = field(default_factory=list)
    unit: str = "ln magnitude"
    hop_seconds: float | None = None
    fmin: float | None = None
    fmax: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    written: Mapping[str, Any] | None = None
    level_match: bool = True
    legs: Legs | None = None
    legs_skipped: str = NEEDS_LEGS
    settings: tuple[Setting, ...] = ()
    texts: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """The page and its twin.

    Args:
        html: one self-contained page.
        twin: the same findings as plain values, schema ``calib/report/1``; every number is finite.
    """

    html: str
    twin: dict[str, Any]

    def twin_text(self) -> str:
        """The twin as readable JSON."""
        return json.dumps(self.twin, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


@dataclass(frozen=True)
class IndexEntry:
    """One case on the index page.

    Args:
        name: of the case.
        headline: first words of its verdict.
        sentence: the verdict's sentence.
        status: ``pass``, ``warn`` or ``fail``.
        unit: of the errors.
        mae_before: mean absolute error as it is, or None when it could not be computed.
        mae_after: after the fit, out of sample.
        mae_constant: of the best constant, out of sample.
        r_w: correlation within bin.
        refusal: why nothing was written, or None.
        report: relative path of its report.
        files: label to relative path of its other files.
        audio: label to relative path of its sounds.
        note: one more sentence, for example what was done to make the case.
        causes: what is wrong by name, a sentence each, the worst first.
    """

    name: str
    headline: str
    sentence: str
    status: str
    unit: str
    mae_before: float | None
    mae_after: float | None
    mae_constant: float | None
    r_w: float | None
    refusal: str | None = None
    report: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    audio: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    causes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        diagnosis: Diagnosis,
        unit: str,
        *,
        report: str | None = None,
        files: Mapping[str, str] | None = None,
        audio: Mapping[str, str] | None = None,
        note: str = "",
    ) -> IndexEntry:
        """The entry of a diagnosis."""
        d, v = diagnosis, diagnosis.verdict
        some = bool(d.rows)
        return cls(
            name=name,
            headline=v.headline,
            sentence=v.sentence,
            status=d.status,
            unit=unit,
            mae_before=d.row("before").mae if some else None,
            mae_after=d.after.mae if some else None,
            mae_constant=d.best_constant.mae if some else None,
            r_w=d.summary.get("r_w"),
            refusal=v.refusal,
            report=report,
            files=files or {},
            audio=audio or {},
            note=note,
            causes=tuple(finding.sentence for finding in worst_first(d.faults)),
        )
