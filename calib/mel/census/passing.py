"""The census's gravest questions, asked of a corpus that streams by: counts only, in memory that does not grow.

``calib stats`` asks them of what it reads anyway, so that no statistics are written of mels in another unit, of padding
or of broken sound without a word. Whose files they are, ``calib check data`` says.

Data flow::

    samples as stored --of_audio--> counts
    stored mel, its statistics --of_mel--> counts      counts of all files, statistics of all --judged--> findings

Conventions:
    Counts are added in any order. A count is named by its question. `FRAMES` counts the frames of identical tails, and
    ``cell I J`` the mels with an sd of about ``_STEP**I`` and a mean of about ``J _PART`` such sds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from calib.mel.census import broken, sound, units
from calib.mel.census.facts import SILENT_DB, WINDOW, clipped_samples, may_clip, same_tail, window_power
from calib.mel.census.findings import Finding, Levels, Rule, View, measured_words
from calib.mel.census.questions import QUESTIONS
from calib.mel.frontend import FrontEnd
from calib.mel.statistics import UtteranceStatistics

__all__ = ["FRAMES", "SOUND", "STORED", "judged", "of_audio", "of_mel"]

SOUND = ("integer-scale", "clipping", "leading-silence", "trailing-silence")  # asked of recordings
STORED = ("domain", "mel-scale", "whole-numbers", "domain-mixed", "padding")  # asked of stored mels
FRAMES = "frames of padding"
_STEP, _PART = 1.05, 0.1  # of the cells: fine beside a factor of 1.8 and a distance of 2.5 sd
_FIRST = 0.8  # of a second at an end: from here on is looked at first, most recordings have spoken by then


def of_audio(data: np.ndarray, rate: int, low: float, high: float) -> dict[str, int]:
    """What is wrong with one recording: some 30 µs for one in which nothing is.

    Args:
        data: as stored, ``(L, channels)``, float32 or int16.
        rate: Hz.
        low: smallest sample, 1 is full scale.
        high: largest sample.
    """
    found: dict[str, int] = {}
    peak = max(high, -low)
    if not high > low:
        return found  # silence, which is counted elsewhere
    if sound.BEYOND.holds(peak):
        found["integer-scale"] = 1
    if may_clip(data, low, high) and sound.CLIPPED.holds(100.0 * clipped_samples(_floats(data)) / len(data)):
        found["clipping"] = 1
    for key, end in (("leading-silence", data), ("trailing-silence", data[::-1])):
        if _may_be_silent(end, rate, peak) and _is_silent(end, rate):
            found[key] = 1
    return found


def of_mel(mel: np.ndarray, found: UtteranceStatistics, bound: float | None) -> dict[str, int]:
    """What is wrong with one stored mel that has a place in the statistics.

    Args:
        mel: ``(T, M)``.
        found: its statistics.
        bound: `units.loudest` of its front end; None: unknown.
    """
    out: dict[str, int] = {}
    values = found.n_frames * found.s1.size
    mean = float(found.s1.sum()) / values
    variance = float(found.s2.sum()) / values - mean**2
    if np.array_equal(found.low, found.high) and found.n_frames > 1:
        return out  # no sound at all, which is counted elsewhere
    if bound is not None and float(found.high.max()) > bound:
        out["mel-scale"] = 1
    if bool((mel[0] == np.rint(mel[0])).all()) and bool((mel == np.rint(mel)).all()):
        out["whole-numbers"] = 1
    back = math.ceil(broken.PADDED.value / 100.0 * len(mel))
    if back < len(mel) and np.array_equal(mel[-1 - back], mel[-1]):
        tail = same_tail(mel)
        if broken.PADDED.holds(100.0 * tail / len(mel)):
            out["padding"], out[FRAMES] = 1, tail
    if variance > 0:
        sd = round(0.5 * math.log(variance) / math.log(_STEP))
        out[f"cell {sd} {round(mean / (_STEP**sd * _PART))}"] = 1
    return out


def judged(
    counts: Mapping[str, int], n: int, result: Mapping[str, Any], frontend: FrontEnd | None, *, stored: bool
) -> list[Finding]:
    """What a person must know: the findings that fail or warn, the worst first.

    Args:
        counts: of all utterances.
        n: utterances measured.
        result: `DatasetStatistics.result`.
        frontend: that the mels are said to be of; None: nothing is said, so their unit cannot be wrong.
        stored: mels that were stored, not made of audio.
    """
    if stored:
        bound = None if frontend is None else units.loudest(frontend)
        tails = f"together {counts.get(FRAMES, 0) / max(result['n_frames'], 1):.1%} of all frames"
        asked = [
            *([units.domain(frontend, result)] if frontend is not None else []),
            *([_counted("mel-scale", units.beyond(bound, frontend), units.BEYOND_LEVELS, counts, n, f"largest value {result['max']:.4g}")] if bound is not None and frontend is not None else []),
            _counted("whole-numbers", units.WHOLE, units.WHOLE_LEVELS, counts, n),
            _mixed(counts, "the mels' own unit" if frontend is None else frontend.unit),
            _counted("padding", broken.PADDED, broken.PADDED_LEVELS, counts, n, tails),
        ]  # fmt: skip
    else:
        asked = [
            _counted("integer-scale", sound.BEYOND, sound.BEYOND_LEVELS, counts, n),
            _counted("clipping", sound.CLIPPED, sound.CLIPPED_LEVELS, counts, n),
            *(_counted(f"{side}-silence", sound.silent(side), sound.SILENCE_LEVELS, counts, n) for side in ("leading", "trailing")),
        ]  # fmt: skip
    wrong = [finding for finding in asked if finding.status in {"fail", "warn"}]
    return sorted(wrong, key=lambda finding: finding.status != "fail")


def _counted(key: str, rule: Rule, levels: Levels, counts: Mapping[str, int], n: int, summary: str = "") -> Finding:
    count = counts.get(key, 0)
    words = measured_words(QUESTIONS[key].said, count, n, summary)
    return Finding(key, levels.status(count, n), words, f"counted: {rule.text()}; {levels.text()}", count, n)


def _mixed(counts: Mapping[str, int], unit: str) -> Finding:
    """`units.mixed` of the middles of the cells."""
    cells = [(*map(int, name.split()[1:]), count) for name, count in counts.items() if name.startswith("cell ")]
    number = np.array([count for *_, count in cells], dtype=np.int64)
    sd = np.repeat(np.array([_STEP**i for i, *_ in cells]), number)
    mean = np.repeat(np.array([j * _PART * _STEP**i for i, j, _ in cells]), number)
    if sd.size < units.LEAST_MIXED:
        return View.skip("domain-mixed", f"a comparison needs {units.LEAST_MIXED} stored mels that vary")
    away, usual_mean, usual_sd = units.mixed(mean, sd)
    count = int(np.count_nonzero(units.MIXED.holds(away)))
    summary = f"median mean {usual_mean:.2g}, median sd {usual_sd:.2g} ({unit})"
    return _counted("domain-mixed", units.MIXED, units.MIXED_LEVELS, {"domain-mixed": count}, sd.size, summary)


def _floats(data: np.ndarray) -> np.ndarray:
    return data.astype(np.float32) / 32768.0 if data.dtype == np.int16 else data


def _may_be_silent(data: np.ndarray, rate: int, peak: float) -> bool:
    """Whether the first second can be silence: False as soon as something in it is surely louder than that.

    The variance of some windows together is at most the power of the loudest of them about the recording's mean, and no
    window has more power than (2 peak)².
    """
    width = max(1, round(WINDOW * rate))
    windows = math.floor(sound.LONG_SILENCE * rate / width) + 1
    if len(data) <= windows * width:
        return False
    scale = 1.0 / 32768.0 if data.dtype == np.int16 else 1.0
    limit = 4.0 * (peak / scale) ** 2 * 10 ** (-SILENT_DB / 10)
    late = round(_FIRST * windows)
    for first, last in ((late, windows), (0, late)):
        part = data[first * width : last * width]
        x = (part[:, 0] if part.shape[1] == 1 else part.mean(axis=1)).astype(np.float32)
        if float(np.dot(x, x)) / x.size - (float(x.sum()) / x.size) ** 2 > limit:
            return False
        if float(np.var(x.reshape(-1, width), axis=1).max()) > limit:
            return False
    return True


def _is_silent(data: np.ndarray, rate: int) -> bool:
    """Whether the silence at the start is longer than it may be."""
    x = _floats(data).mean(axis=1, dtype=np.float64)
    power, lengths = window_power(x, float(x.mean()), rate)
    if not power.max() > 0:
        return False
    lead = int(np.flatnonzero(power > power.max() * 10 ** (-SILENT_DB / 10))[0]) * int(lengths[0]) / rate
    return bool(sound.silent("").holds(lead))
