"""Answers about texts and speakers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from calib.mel.census.broken import repeated
from calib.mel.census.findings import LISTED, Finding, Levels, Rule, View, of, spread
from calib.mel.census.sound import group_medians, quantities, robust_z, split

__all__ = ["ANSWERS"]

_FEW = 20  # utterances: fewer are no basis for what is usual
_SPEAKER = 10  # utterances
_FASTEST, _SLOWEST = 50.0, 0.5  # letters a second: in no script is speech faster or slower
_NO_TEXTS = "the source has no texts"


def _texts(view: View) -> np.ndarray:
    """Digests of the texts; empty if there are none at all."""
    codes = view.census.codes("text")
    return codes if codes.any() else np.zeros(0, dtype=np.int64)


def _empty_text(view: View) -> Finding:
    letters = view["letters"] if _texts(view).size else np.full(view.n, math.nan)
    rule = Rule("letters and digits", "<", 1)
    return view.count(
        "empty-text",
        letters,
        rule,
        Levels(warn=0, fail=1),
        absent=_NO_TEXTS,
        summary=spread(letters, "letters", form=".0f"),
    )


def _speed(view: View) -> np.ndarray:
    """Letters a second of speech, or a frame where seconds are unknown; NaN without letters or length."""
    time = np.where(np.isfinite(view["speech"]), view["speech"], view.length)
    good = (view["letters"] > 0) & (time > 0) & view.varied
    return np.asarray(np.divide(view["letters"], time, where=good, out=np.full(view.n, math.nan)))


def _text_rate(view: View) -> Finding:
    speed = _speed(view)
    if not _texts(view).size or not np.isfinite(speed).any():
        return view.skip("text-rate", "no utterance has a text and a length" if _texts(view).size else _NO_TEXTS)
    log = np.log(speed)
    z = np.where(np.isfinite(log), 0.0, math.nan)
    for where in split(view.groups("language", "speaker", least=_FEW)):
        known = where[np.isfinite(log[where])]
        if known.size >= _FEW:
            z[known] = robust_z(log[known], 0.1)
    rule = Rule("robust z of the log speed among its language and speaker", ">", 5.0)
    if view.in_seconds:
        z = np.where((speed > _FASTEST) | (speed < _SLOWEST), 1e6, z)
        rule = Rule(f"{rule.what} (above {_FASTEST:g} or below {_SLOWEST:g} letters a second always counts)", ">", 5.0)
    unit = f"letters a {'second' if view.in_seconds else 'frame'}"
    return view.count(
        "text-rate",
        z,
        rule,
        Levels(warn=0, fail=5),
        absent="",
        summary=spread(speed, unit, form=".1f" if view.in_seconds else ".3g"),
        extra=quantities(speed, unit.replace(" ", "_")),
    )


def _text_match(view: View) -> Finding:
    speed = _speed(view)
    good = np.flatnonzero(np.isfinite(speed))
    if not _texts(view).size:
        return view.skip("text-match", _NO_TEXTS)
    if good.size < _FEW:
        return view.skip("text-match", f"this needs {_FEW} utterances with a text and a length; there are {good.size}")
    groups = view.groups("language", "speaker", least=_FEW)[good]
    letters = np.log(view["letters"][good])
    x, y = (v - group_medians(v, groups) for v in (letters, letters - np.log(speed[good])))
    n = good.size
    x, y = x - math.fsum(x) / n, y - math.fsum(y) / n  # fsum: the same bits in whatever order
    xx, yy, xy = math.fsum(x * x), math.fsum(y * y), math.fsum(x * y)
    sd = math.sqrt(xx / n)
    if sd < 0.3 or yy == 0:
        return view.skip(
            "text-match", f"the texts are too alike in length to tell (sd of the log length {sd:.2f}; this needs 0.3)"
        )
    r = min(max(xy / math.sqrt(xx * yy), -1.0 + 1e-9), 1.0 - 1e-9)
    upper = math.tanh(math.atanh(r) + 1.96 / math.sqrt(n - 3))  # Fisher's z, 95 %
    rule = Rule("upper limit of the correlation of log text length and log duration", "<", 0.5)
    likely = Rule("correlation of log text length and log duration", "<", 0.6)
    longer = "do not take longer" if rule.holds(upper) else "hardly take longer" if likely.holds(r) else "take longer"
    measured = f"longer texts {longer} to say: r {r:.2f} (95 %: up to {upper:.2f}), {n} utterances"
    return view.whole(
        "text-match",
        [("warn", likely, r), ("fail", rule, upper)],
        measured,
        {"r": r, "r_upper": upper, "utterances": n},
    )


def _stated_duration(view: View) -> Finding:
    absent = "the length of the mels in s is unknown: give --frontend"
    if not np.isfinite(view["stated"]).any():
        absent = "the index states no durations"
    rule = Rule("difference from the file", ">", 0.1, "s")
    return view.count(
        "stated-duration", np.abs(view["stated"] - view["seconds"]), rule, Levels(warn=0, fail=5), absent=absent
    )


def _duplicate_text(view: View) -> Finding:
    texts = _texts(view)
    if not texts.size:
        return view.skip("duplicate-text", _NO_TEXTS)
    values = np.where(texts != 0, 0.0, math.nan)
    for where in split(view.census.codes("speaker")):
        values[where[repeated(texts[where])]] = 1.0
    again = repeated(texts)
    values[np.intersect1d(repeated(view.census.codes("content")), again)] = 0.0  # counted as the same content
    return view.count(
        "duplicate-text",
        values,
        Rule("other recordings of the text by the same speaker", ">", 0),
        Levels(warn=1),
        absent="",
        summary=f"whoever speaks: {of(again.size, int((texts != 0).sum()))}",
        extra={"texts_said_again_by_anybody": int(again.size)},
    )


def _speakers(view: View) -> Finding:
    names, codes = view.census.names("speaker"), view.census.codes("speaker")
    if not names:
        return view.skip("speakers", "the source names no speakers")
    sizes = np.bincount(codes[codes >= 0], minlength=len(names)).astype(np.float64)
    unnamed = int((codes < 0).sum())
    few = sorted((int(size), name) for size, name in zip(sizes, names, strict=True) if size < _SPEAKER)
    counted, alone = Rule("utterances", "<", _SPEAKER), Rule("utterances that name no speaker", ">", 0)
    measured = f"{of(len(few), len(names)) if few else 'none'}; {spread(sizes, 'utterances', form='.0f')}"
    return Finding(
        "speakers",
        "warn" if few or alone.holds(unnamed) else "pass",
        measured + (f"; {unnamed} utterances name no speaker" if unnamed else ""),
        f"counted: {counted.text()}; {Levels(warn=0).text()}; warns if {alone.text()}",
        len(few),
        len(names),
        tuple(name for _, name in few[:LISTED]),
        {"utterances": {name: int(size) for name, size in sorted(zip(names, sizes, strict=True))}, "unnamed": unnamed},
        tuple({"what": rule.what, "op": rule.op, "value": rule.value, "unit": ""} for rule in (counted, alone)),
    )


def _speaker_level(view: View) -> Finding:
    names, codes, level = view.census.names("speaker"), view.census.codes("speaker"), view["level"]
    if len(names) < 2:
        return view.skip("speaker-level", "there is one speaker only" if names else "the source names no speakers")
    middle = group_medians(level, codes)
    found = {
        names[code]: float(db)
        for code, db in zip(codes.tolist(), middle, strict=True)
        if code >= 0 and math.isfinite(db)
    }
    if len(found) < 2:
        return view.skip("speaker-level", view.no_level)
    low, high = (f(found, key=lambda name: (found[name], name)) for f in (min, max))
    apart = found[high] - found[low]
    unit = "dBFS" if view.audio.any() else "dB"
    return view.whole(
        "speaker-level",
        [("warn", Rule("loudest minus softest speaker", ">", 10.0, "dB"), apart)],
        f"median levels from {found[low]:.1f} ({low}) to {found[high]:.1f} {unit} ({high}), {apart:.1f} dB apart",
        {"median_level_db": dict(sorted(found.items()))},
    )


ANSWERS: dict[str, Callable[[View], Finding]] = {
    "text-match": _text_match,
    "empty-text": _empty_text,
    "stated-duration": _stated_duration,
    "text-rate": _text_rate,
    "speakers": _speakers,
    "speaker-level": _speaker_level,
    "duplicate-text": _duplicate_text,
}
