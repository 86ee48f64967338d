"""Answers about what cannot be trained on: zeros, single frames, NaN, unusable files, copies, padding."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from calib.mel.census.findings import Finding, Levels, Rule, View, spread, total

__all__ = ["ANSWERS", "PADDED", "PADDED_LEVELS", "repeated"]

PADDED = Rule("identical tail", ">", 10.0, "% of the utterance")
PADDED_LEVELS = Levels(warn=1, fail=20)
_KEPT = 0.5  # two unrelated channels of one loudness keep 1.4, one channel beside silence 1, and two alike 2


def _cancelled(view: View) -> np.ndarray:
    """Where averaging the channels leaves less than half of what the loudest alone would: their signs oppose."""
    return np.asarray(view["kept"] < _KEPT)


def _cancel(view: View) -> Finding:
    rule = Rule("RMS of the averaged channels over that of the loudest alone, averaged with silence", "<", _KEPT)
    return view.count("cancelling-channels", view["kept"], rule, Levels(fail=0), absent=_one_channel(view))


def _one_channel(view: View) -> str:
    return "every recording has one channel" if view.audio.any() else view.no_audio


def _all_zero(view: View) -> Finding:
    # What cancels is sound in each channel, and has a question of its own.
    values = np.where(_cancelled(view), 1.0, view["absmax"])
    rule = Rule("largest absolute value", "<=", 0.0)
    return view.count("all-zero", values, rule, Levels(fail=0), absent="nothing could be read")


def _one_frame(view: View) -> Finding:
    rule = Rule("length", "<=", 1, "frame")
    return view.count("one-frame", view["frames"], rule, Levels(fail=0), absent=view.no_mel)


def _constant(view: View) -> Finding:
    # All-zero and cancelling utterances were asked too, but they are counted by the questions before.
    values = np.where((view["absmax"] == 0) | _cancelled(view), 1.0, view["spread"])
    rule = Rule("largest difference within the utterance", "<=", 0.0)
    return view.count("constant", values, rule, Levels(fail=0), absent="nothing could be read")


def _non_finite(view: View) -> Finding:
    rule = Rule("NaN or infinite values", ">", 0)
    return view.count("non-finite", view["nonfinite"], rule, Levels(fail=0), absent="nothing could be read")


def _unreadable(view: View) -> Finding:
    reasons = view.census.reasons
    values = np.zeros(view.n)
    for where in reasons.values():
        values[where] = 1.0
    counts = sorted(reasons.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    words = [f"{reason} ({len(where)})" for reason, where in counts[:3]]
    words += [f"and {len(counts) - 3} other reasons"] if len(counts) > 3 else []
    return view.count(
        "unreadable",
        values,
        Rule("files that cannot be used", ">", 0),
        Levels(warn=0, fail=view.allow_skipped),
        absent="the source is empty",
        summary="; ".join(words),
        extra={"reasons": {reason: list(view.names(np.array(reasons[reason]))) for reason in sorted(reasons)}},
    )


def _near_silent(view: View) -> Finding:
    levels = Levels(warn=0, fail=1)
    if view.audio.any():
        with np.errstate(divide="ignore"):
            peak = np.where(view.varied, 20.0 * np.log10(view["peak"]), math.nan)
        unit = "dBFS"
        rule = Rule("peak", "<", -40.0, unit)
        return view.count(
            "near-silent",
            peak,
            rule,
            levels,
            absent="every recording is constant",
            summary=spread(peak, unit, "peak ", ".1f"),
        )
    if not (view.varied & view.stored).any():
        return view.skip("near-silent", "nothing that varies could be read")
    # In whatever unit: the loudest moment of a silent mel is below the mean of an ordinary one.
    high = np.where(view.varied & view.stored, view["high"], math.nan)
    typical = float(np.median(view["mean"][view.varied & view.stored]))
    rule = Rule("largest value", "<", typical, "(the median of all mels' means)")
    return view.count(
        "near-silent", high, rule, levels, absent="", summary=spread(high, f"({view.unit})", "largest value ")
    )


def _short(view: View) -> Finding:
    rule = Rule("length", "<", 0.1, "s") if view.in_seconds else Rule("length", "<", 8, "frames")
    length = np.where(view.varied, view.length, math.nan)  # all-zero and constant ones are counted above
    return view.count("short", length, rule, Levels(warn=0, fail=1), absent="nothing that varies could be read")


def _padding(view: View) -> Finding:
    share = np.where(view.varied, view["padding"], math.nan)
    overall = total(share * view.length) / max(total(np.where(view.varied, view.length, math.nan)), 1e-9)
    return view.count(
        "padding",
        100.0 * share,
        PADDED,
        PADDED_LEVELS,
        absent="nothing that varies could be read",
        summary=f"{100.0 * overall:.3g} % of the corpus is such a tail",
        extra={"share_of_corpus": overall},
    )


def _duplicate_content(view: View) -> Finding:
    content, text = view.census.codes("content"), view.census.codes("text")
    where = repeated(content)
    values = np.where(content != 0, 0.0, math.nan)
    values[where] = 1.0
    texts: dict[int, set[int]] = {}
    for code, words in zip(content[where].tolist(), text[where].tolist(), strict=True):
        texts.setdefault(code, set()).add(words)
    several = sum(len(found) > 1 for found in texts.values())
    summary = f"{len(texts)} contents" if texts else ""
    if several:
        summary += f", {several} of them with different texts"
    return view.count(
        "duplicate-content",
        values,
        Rule("others with the same content", ">", 0),
        Levels(warn=0),
        absent="nothing that varies could be read",
        summary=summary,
        extra={"contents": len(texts), "contents_with_different_texts": several},
        also_fails=[(Rule("contents with different texts", ">", 0), several)],
    )


def repeated(codes: np.ndarray) -> np.ndarray:
    """Where a code that is not 0 stands that occurs more than once."""
    where = np.flatnonzero(codes)
    _, inverse, counts = np.unique(codes[where], return_inverse=True, return_counts=True)
    return where[counts[inverse.reshape(-1)] > 1]


ANSWERS: dict[str, Callable[[View], Finding]] = {
    "cancelling-channels": _cancel,
    "all-zero": _all_zero,
    "one-frame": _one_frame,
    "constant": _constant,
    "non-finite": _non_finite,
    "unreadable": _unreadable,
    "near-silent": _near_silent,
    "short": _short,
    "padding": _padding,
    "duplicate-content": _duplicate_content,
}
