"""Numbers with units, the sentences beside the figures, and hostile text made harmless.

Conventions:
    Minus is the ASCII hyphen, so that a number copied from the page can be pasted into code. A value that is not
    finite is said to be so; it is never shown as a number.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np

from calib.diagnose.analysis import Diagnosis, Row
from calib.diagnose.verdict import GATE, Check

__all__ = [
    "CONSTANTS",
    "REFERENCES",
    "clipped",
    "commands",
    "correlation",
    "direction",
    "duration",
    "finite",
    "fit_title",
    "language_tag",
    "number",
    "percent",
    "rule",
    "times",
    "unitless",
    "visible",
    "worth",
    "written_row",
]

CONSTANTS = frozenset({"global_mean", "bin_mean"})
# What is measured to be compared with: constants, and what only one who knows the target can say. No file holds them.
REFERENCES = CONSTANTS | {"zero", "utterance_mean", "persistence", "swapped", "time_shifted"}
_RTL = frozenset(
    {
        "ar",
        "arc",
        "azb",
        "ckb",
        "dv",
        "fa",
        "glk",
        "he",
        "iw",
        "ks",
        "mzn",
        "nqo",
        "pes",
        "pnb",
        "prs",
        "ps",
        "sd",
        "syr",
        "ug",
        "ur",
        "yi",
    }
)
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,4}")
_COMMAND = re.compile(
    r"calib (?:stats|teacher-force|pair|fit-scaler|diagnose|report|check|frontends|convert|synth|fold|run|demo|new-adapter|schema)\b"
    r"(?: (?:list|show|diff|identify|data|model|loss|params|vocoder)\b)?(?: (?:--?[a-z][\w-]*|[A-Z][A-Z_]*\b|[\w-]+\.json\b|\.\.\.|…))*"
    r"|[A-Za-z_][\w.]*\([\w, .]*\)(?:\.\w+\([\w, ]*\))*"
)


def number(value: float | None, digits: int = 4) -> str:
    """A value for people: ``digits`` significant digits, thousands apart, no exponent where avoidable."""
    if value is None:
        return "none"
    value = float(value)
    if not math.isfinite(value):
        return "not finite"
    if abs(value) < 1e-12:  # rounding, not a result
        return "0"
    if value.is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    size = math.floor(math.log10(abs(value)))
    if size < -4 or size > 8:
        return f"{value:.{digits - 1}e}"
    decimals = max(digits - 1 - size, 0) if size >= 0 else max(digits, digits - 2 - size)
    return f"{value:,.{decimals}f}"


def unitless(value: float | None) -> str:
    """Four decimals for a correlation, ratio or share."""
    if value is None or not math.isfinite(value) or abs(value) >= 1:
        return number(value)
    text = f"{value:.4f}"
    return "0" if text in {"0.0000", "-0.0000"} else text


def correlation(value: float | None) -> str:
    """Three decimals, and no ``-0.000``."""
    if value is None or not math.isfinite(value):
        return "not finite" if value is not None else "none"
    text = f"{value:.3f}"
    return "0.000" if text == "-0.000" else text


def percent(share: float) -> str:
    """A share in per cent."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else "not finite"


def times(ratio: float | None) -> str:
    """A ratio to another error, three digits."""
    return (
        "not finite" if ratio is None or not math.isfinite(ratio) else f"{ratio:.3g}" if ratio < 1e4 else number(ratio)
    )


def duration(frames: int, hop_seconds: float | None) -> str:
    """Frames, and seconds where the hop is known."""
    text = f"{frames:,} frame{'' if frames == 1 else 's'}"
    if not hop_seconds:
        return text
    seconds = frames * hop_seconds
    return f"{text} ({seconds:.1f} s)" if seconds < 120 else f"{text} ({seconds / 60:.1f} min)"


def rule(check: Check) -> str:
    """What the measured value is compared with, for example ``< 0.3``."""
    sign = {"<=": "≤", ">=": "≥"}.get(check.op, check.op)
    return f"{sign} {check.threshold:,.6g}"


def visible(text: object, *, keep: str = "") -> str:
    r"""Text in which nothing is hidden and that can be encoded.

    Control characters, bidi embeddings, overrides and isolates and lone surrogates are shown as ``\uXXXX`` (which in
    JSON is the same character). Joiners and direction marks, which Persian and Hebrew need, stay.

    Args:
        text: any value.
        keep: control characters to leave alone.
    """
    return "".join(_escape(c) if c not in keep and _hidden(c) else c for c in str(text))


def _hidden(c: str) -> bool:
    return (
        unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}
        or c in "\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )


def _escape(c: str) -> str:
    return f"\\u{ord(c):04x}"


def clipped(text: object, limit: int = 160) -> str:
    """`visible` text of at most ``limit`` characters; says how long it was when it was longer."""
    text = str(text)
    if len(text) <= limit:
        return visible(text)
    return f"{visible(text[:limit])}… ({len(text):,} characters; all of them in the JSON)"


def language_tag(language: str | None) -> str | None:
    """The language if it is a well-formed tag, else None."""
    return language if language and _LANGUAGE.fullmatch(language) else None


def direction(language: str | None) -> str:
    """Value of ``dir``: by the language where it is known, else left to the text."""
    tag = language_tag(language)
    if tag is None:
        return "auto"
    return "rtl" if tag.split("-")[0].lower() in _RTL or "-arab" in tag.lower() else "ltr"


def commands(step: str) -> list[tuple[bool, str]]:
    """A step cut into prose and things to copy: ``(is code, text)``."""
    parts: list[tuple[bool, str]] = []
    end = 0
    for match in _COMMAND.finditer(step):
        if match.start() > end:
            parts.append((False, step[end : match.start()]))
        parts.append((True, match.group()))
        end = match.end()
    if end < len(step):
        parts.append((False, step[end:]))
    return parts


def finite(value: Any) -> Any:
    """Plain JSON values of anything: numbers that are not finite become null, and text can be encoded."""
    if isinstance(value, Mapping):
        return {_encodable(str(key)): finite(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [finite(item) for item in (sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, np.generic):
        return finite(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int)) else _encodable(str(value))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def written_row(d: Diagnosis) -> str:
    """Name of the row that `Diagnosis.after` shows: what is written, or would have been."""
    return {"identity": "before"}.get(d.method, d.method)


def worth(d: Diagnosis, unit: str) -> str:
    """What the fit is worth beside a constant, in one sentence."""
    before, after, best = d.row("before"), d.after, d.best_constant
    if d.method == "identity":
        return f"As it is, the mean absolute error is {number(before.mae)} {unit}; the best constant reaches {number(best.mae)}. There is nothing for a scale and offset to gain."
    fit = f"{_fit_name(after)} takes the mean absolute error from {number(before.mae)} to {number(after.mae)} {unit}"
    constants = " and ".join(
        f"{number(row.mae)} ({row.title.removeprefix('constant: ')})" for row in d.rows if row.name in CONSTANTS
    )
    if after.mae > GATE * best.mae:
        return f"{fit}. A constant, which ignores the model's output, does as well or better: {constants}. All of that gain is the mean of the target; none of it is speech."
    if d.verdict.refusal:
        return f"{fit} and the best constant reaches {number(best.mae)}, but the fault is not one of scale and offset, and fitting would hide it."
    return f"{fit} on utterances that it was not fitted on; the best constant, which ignores the model's output, reaches {number(best.mae)}."


def fit_title(row: Row) -> str:
    """The name of a fit without its gloss, which stands in the table: a constant that fits is no diagnosis."""
    return row.title.split(": ", 1)[0]


def _fit_name(row: Row) -> str:
    title = fit_title(row)
    return title[:1].upper() + title[1:]
