"""What `identify` takes and gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calib.mel.frontend import FrontEnd

__all__ = ["Clip", "Contradiction", "Found", "Identification", "NamedMatch"]


@dataclass(frozen=True)
class Clip:
    """One recording and the mel that was made of it.

    Args:
        id: for messages.
        samples: ``(L,)`` in [-1, 1].
        sample_rate: of ``samples``, in Hz.
        mel: ``(T, M)`` or ``(M, T)``, as stored.
    """

    id: str
    samples: np.ndarray
    sample_rate: int
    mel: np.ndarray


@dataclass(frozen=True)
class Found:
    """One parameter.

    Args:
        value: what the data say; None where they do not.
        confidence: 0 to 1; that ``value`` is right where ``confounded`` is empty.
        confounded: other values that explain the mel as well; then the answer is the set, and ``value`` is only the
            one that needs the fewest assumptions.
        evidence: what was measured, so that a person can check it.
        interval: of a real-valued parameter, about 95 %.
    """

    value: Any
    confidence: float
    confounded: tuple[Any, ...] = ()
    evidence: str = ""
    interval: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        out: dict[str, Any] = {"value": plain(self.value), "confidence": round(self.confidence, 4), "confounded": [plain(v) for v in self.confounded], "evidence": self.evidence}  # fmt: skip
        if self.interval is not None:
            out["interval"] = [float(v) for v in self.interval]
        return out


NOISY_DB = 0.5  # of what no analysis explains, above which a mel is called noisy


@dataclass(frozen=True)
class NamedMatch:
    """A catalogued front end that was tried.

    Args:
        name: its id.
        consistent: nothing in the data speaks against it.
        error_db: mean absolute difference to the mel, in dB.
        words: how it was compared (as it is, up to a gain, up to statistics), or what speaks against it.
    """

    name: str
    consistent: bool
    error_db: float
    words: str


@dataclass(frozen=True)
class Contradiction:
    """A declared value that the data exclude.

    Args:
        field: of `FrontEnd`.
        declared: its declared value.
        found: what the data say.
        words: for people.
    """

    field: str
    declared: Any
    found: Any
    words: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"field": self.field, "declared": plain(self.declared), "found": plain(self.found), "words": self.words}


@dataclass(frozen=True)
class Identification:
    """The answer.

    Args:
        headline: the answer in one sentence.
        status: ``named``, ``described`` (outside the catalogue), ``partly`` (noise hides it), ``unrelated``,
            ``mel-only``.
        fields: parameter to what was found.
        names: catalogued front ends that the data cannot tell apart and none of which they exclude.
        family_names: catalogued front ends with the same filterbank outputs (before guard, logarithm, normalisation).
        nearest: id of the nearest catalogued front end where ``names`` is empty.
        differences: how the mel's front end differs from ``nearest``, in words.
        frontend: what reproduces the mel, or None.
        shift: samples (at the front end's rate) by which the audio is to be moved forward first, besides.
        error: mean absolute error of that reproduction, in the mel's unit.
        error_max: the largest one.
        error_db: the mean in dB.
        noise_db: what no analysis explained, in dB: 0 for a mel that was computed, more for a predicted one.
        tried: named front ends that were computed and compared.
        contradictions: of the declared configuration.
        skipped: what could not be found out, and why.
        notes: what else was seen.
        layout: ``TM`` or ``MT``, as stored.
        reversed_bins: the bins are stored from high to low; all else is said of them from low to high.
    """

    headline: str
    status: str
    fields: dict[str, Found]
    names: tuple[str, ...] = ()
    family_names: tuple[str, ...] = ()
    nearest: str | None = None
    differences: tuple[str, ...] = ()
    frontend: FrontEnd | None = None
    shift: int = 0
    error: float | None = None
    error_max: float | None = None
    error_db: float | None = None
    noise_db: float | None = None
    tried: tuple[NamedMatch, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    layout: str | None = None
    reversed_bins: bool = False
    seconds: float = field(default=0.0, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ``calib/frontend-identification/1``."""
        return {
            "schema": "calib/frontend-identification/1",
            "status": self.status,
            "sentence": self.headline,
            "names": list(self.names),
            "family_names": list(self.family_names),
            "nearest": self.nearest,
            "differences": list(self.differences),
            "layout": self.layout,
            "reversed_bins": self.reversed_bins,
            "fields": {name: found.to_json() for name, found in self.fields.items()},
            "frontend": None if self.frontend is None else self.frontend.fields(),
            "frontend_id": None if self.frontend is None else self.frontend.id,
            "shift_samples": self.shift,
            "error": {"mean": self.error, "max": self.error_max, "mean_db": self.error_db, "noise_db": self.noise_db},
            "tried": [
                {"name": t.name, "consistent": t.consistent, "error_db": plain(t.error_db), "words": t.words}
                for t in self.tried
            ],
            "contradictions": [c.to_json() for c in self.contradictions],
            "skipped": list(self.skipped),
            "notes": list(self.notes),
        }


def plain(value: Any) -> Any:
    """A value that JSON can hold."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (tuple, list, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
