"""Utterances on the page: a few to see and hear in full, and the table of all of them as compact JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calib.diagnose.analysis import Diagnosis, Utterance
from calib.report import wording
from calib.report.inputs import Example, ReportInput
from calib.report.smoothfigures import decibel

__all__ = ["examples", "look", "table"]

_PICTURES = 480_000  # bytes of all pictures of a page together
_LOOK = 90_000  # of those on the first screen
_SOUNDS = 8_300_000  # bytes of all sounds of a page together
_ROWS = 740_000  # bytes of the table of all utterances
_TEXTS = 250_000  # of them, of the texts
_STATIC = 100  # rows that can be read without a script
_MAX_TEXT = 2_000
_STILL = 0.1  # of the target's movement: below, a picture looks like a constant
_LONG = 120  # characters of an id


# --- in full ----------------------------------------------------------------------------------------------------


def examples(data: ReportInput, shown: Sequence[Example]) -> tuple[list[dict[str, Any]], float | None]:
    """What the template shows of each utterance, and to how many seconds its sounds were cut (None: whole)."""
    from calib.report import media

    heard, limit = media.sounds_within(_SOUNDS, [e.audio for e in shown], level_match=data.level_match)
    room = (_PICTURES - _LOOK) // (4 * max(len(shown), 1))
    return [
        _example(number, example, sounds, data, room)
        for number, (example, sounds) in enumerate(zip(shown, heard, strict=True))
    ], limit


def _example(number: int, example: Example, sounds: Sequence[Any], data: ReportInput, room: int) -> dict[str, Any]:
    from calib.report import media

    own = next((u for u in data.diagnosis.utterances if u.name == example.name), None)
    scale = media.common_scale(example.target)
    text = example.text[:_MAX_TEXT]
    if len(example.text) > _MAX_TEXT:
        text += f"… ({len(example.text):,} characters, {_MAX_TEXT:,} are shown)"
    drawable = scale is not None and example.target.ndim == 2 and example.target.size > 0
    return {
        "id": f"u{number}",
        "key": _key(example.name),
        "name": example.name,
        "role": example.role,
        "text": wording.visible(text, keep="\n\t"),
        "lang": wording.language_tag(example.language),
        "dir": wording.direction(example.language),
        "own": own,
        "scale": scale,
        "mels": _mels(example, data, scale, room) if drawable else [],
        "difference": _difference(example, data, room) if drawable else None,
        "axis": _time_axis(example.target.shape[0], data.hop_seconds),
        "band": _band(example.target.shape[-1] if example.target.ndim == 2 else 0, data.fmin, data.fmax),
        "sounds": [(media.TITLES.get(sound.label, sound.label), sound) for sound in sounds],
        "notes": example.notes,
        "after": "as it is (identity)" if data.diagnosis.method == "identity" else "after the fit",
    }


def _fitted(data: ReportInput) -> str:
    return "calibrated" if data.diagnosis.verdict.writes else "after the refused fit"


def _mels(example: Example, data: ReportInput, scale: Any, room: int) -> list[dict[str, str]]:
    from calib.report import media

    return [
        {
            "title": title,
            "url": media.mel_image(mel, scale, room),
            "finding": _mel_finding(mel, scale, data.unit),
            "alt": f"{title} spectrogram",
        }
        for title, mel in (
            ("target", example.target),
            ("prediction", example.prediction),
            (_fitted(data), example.calibrated),
        )
        if mel.ndim == 2 and mel.size
    ]


def _difference(example: Example, data: ReportInput, room: int) -> dict[str, Any] | None:
    from calib.report import media

    if example.calibrated.shape != example.target.shape:
        return None
    gap = example.calibrated.astype(np.float64) - example.target
    scale = media.signed_scale(gap)
    if scale is None:
        return None
    size = float(np.nanmean(np.abs(np.where(np.isfinite(gap), gap, np.nan))))
    return {
        "title": f"difference: {_fitted(data)} - target",
        "url": media.mel_image(gap, scale, room),
        "finding": f"{wording.number(size)} {data.unit} in magnitude on average; red: too high, blue: too low, white: right",
        "scale": scale,
        "bar": media.colour_bar(scale.palette),
    }


def _mel_finding(mel: np.ndarray, scale: Any, unit: str) -> str:
    good = mel[np.isfinite(mel)]
    if not good.size:
        return "no finite value"
    text = f"mean {wording.number(float(good.mean(dtype=np.float64)))}, sd {wording.number(float(good.std(dtype=np.float64)))} {unit}"
    return "; ".join([text, *_outside(mel, scale), *_broken(mel, good)])


def _outside(mel: np.ndarray, scale: Any) -> list[str]:
    below, above = scale.outside(mel)
    return [
        f"{wording.percent(share)} of it lies {side} the colour scale"
        for share, side in ((below, "below"), (above, "above"))
        if share >= 0.02
    ]


def _broken(mel: np.ndarray, good: np.ndarray) -> list[str]:
    return [f"{mel.size - good.size:,} values are not finite"] if good.size < mel.size else []


def _time_axis(frames: int, hop: float | None) -> list[str]:
    if not hop:
        return ["0", f"{frames // 2:,}", f"{frames:,} frames"]
    return ["0 s", f"{frames * hop / 2:.2f} s", f"{frames * hop:.2f} s"]


def _band(n_mels: int, fmin: float | None, fmax: float | None) -> str:
    edge = f", {wording.number(fmin or 0.0)} to {wording.number(fmax)} Hz" if fmax else ""
    return f"{n_mels} mel bins{edge}, low at the bottom"


# --- on the first screen ----------------------------------------------------------------------------------------


def look(data: ReportInput, shown: Sequence[Example]) -> dict[str, Any] | None:
    """One utterance on the first screen: target, prediction, what the fit makes of it, and the constant beside that."""
    from calib.report import media

    d = data.diagnosis
    example = next((e for e in shown if e.role == "median"), shown[0] if shown else None)
    means = np.asarray(d.per_bin.get("target_mean", ()), dtype=np.float32)
    if example is None or example.target.ndim != 2 or example.target.shape[1] != means.size:
        return None
    scale = media.common_scale(example.target)
    if scale is None:
        return None
    constant = np.broadcast_to(means, example.target.shape)
    rows = [("target", "t", example.target), ("prediction", "p", example.prediction)]
    if d.method != "identity":
        rows.append((_fitted(data), "c", example.calibrated))
    rows.append(("constant, no model", "k", constant))
    moves = _movement(example.target)
    return {
        "name": example.name,
        "role": example.role,
        "scale": scale,
        "unit": data.unit,
        "said": _seen(d, example, moves),
        "mels": [
            {
                "title": title,
                "kind": kind,
                "url": media.mel_image(mel, scale, _LOOK // 4, 320),
                "finding": _moving(title, mel, moves, scale, data.unit),
            }
            for title, kind, mel in rows
        ],
    }


def _seen(d: Diagnosis, example: Example, moves: float) -> str:
    """What the pictures show together, where the fit left nothing but a constant."""
    if d.method == "identity" or not moves > 0 or not _movement(example.calibrated) < _STILL * moves:
        return ""
    return "Nothing of the target's speech is in what the fit makes of it: it looks like the constant beside it."


def _movement(mel: np.ndarray) -> float:
    """How much a bin changes over time: rms over bins of its standard deviation; NaN where a value is not finite."""
    return float(np.sqrt(mel.astype(np.float64).var(axis=0).mean()))


def _moving(title: str, mel: np.ndarray, target: float, scale: Any, unit: str) -> str:
    own = _movement(mel)
    if not math.isfinite(own):
        return "holds values that are not finite"
    if title == "target":
        return f"moves by {own:.3g} {unit}"
    share = own / target if target > 0 else float("nan")
    text = f"moves {100 * share:.0f} % as much" if share >= 0.005 else "does not move"
    below, above = scale.outside(mel)
    if max(below, above) > 0.5:
        text += f"; {'below' if below > above else 'above'} the target's range"
    return text


# --- the table --------------------------------------------------------------------------------------------------


def table(data: ReportInput, shown: Sequence[Example]) -> dict[str, Any]:
    """The table of all utterances, worst first: its columns, rows for a page without script, and everything as JSON."""
    d = data.diagnosis
    lively = _lively(d)
    ranked = sorted(
        range(len(d.utterances)),
        key=lambda i: (
            math.isnan(d.utterances[i].mae_after),
            -d.utterances[i].mae_after if not math.isnan(d.utterances[i].mae_after) else 0.0,
            d.utterances[i].name,
        ),
    )
    columns = [
        ("before", "MAE before", lambda u, _: u.mae_before),
        ("after", "MAE after", lambda u, _: u.mae_after),
        ("constant", "MAE constant", lambda u, _: u.mae_constant),
        ("ratio", "after / constant", lambda u, _: u.mae_after / u.mae_constant if u.mae_constant > 0 else math.nan),
        ("r", "r within bin", lambda u, _: u.r_w),
        ("variance", "variance, dB", lambda _, i: lively[i] if lively else math.nan),
        ("frames", "frames", lambda u, _: u.n_frames),
    ]
    if d.method == "identity":
        columns = [column for column in columns if column[0] != "after"]
        columns[2] = ("ratio", "MAE / constant", columns[2][2])
        columns[0] = ("before", "MAE", columns[0][2])
    if not lively:
        columns = [column for column in columns if column[0] != "variance"]
    full = {e.name: f"u{number}" for number, e in enumerate(shown)}
    texts = _texts(data, ranked)
    rows = [_row(d.utterances[i], i, columns, full, texts, data.texts) for i in ranked]
    kept = _fitting(rows)
    return {
        "columns": [(key, label) for key, label, _ in columns],
        "n": len(ranked),
        "kept": kept,
        "rows": rows[:_STATIC],
        "texts": bool(texts),
        "speakers": any(row["speaker"] for row in rows),
        "json": _json(rows[:kept], [key for key, *_ in columns]),
        "first": columns[0][0] if d.method == "identity" else "after",
    }


def _row(
    u: Utterance,
    index: int,
    columns: Sequence[tuple[str, str, Any]],
    full: Mapping[str, str],
    texts: Mapping[str, str],
    given: Mapping[str, tuple[str, str | None]],
) -> dict[str, Any]:
    language = given.get(u.name, ("", None))[1]
    return {
        "name": _key(u.name),
        "values": [_four(read(u, index)) for _, _, read in columns],
        "speaker": wording.clipped(u.speaker, 60) if u.speaker else "",
        "full": full.get(u.name, ""),
        "text": texts.get(u.name, ""),
        "dir": wording.direction(language),
    }


def _key(name: str) -> str:
    """An id as it is shown and stands in the address."""
    return wording.clipped(name, _LONG)


def _four(value: float) -> float | int | None:
    """Four digits: what is shown, and all that a table needs."""
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.4g}") if abs(value) < 1e4 else round(value)
    rounded = round(rounded, 4)
    return int(rounded) if rounded == int(rounded) else rounded


def _lively(d: Diagnosis) -> list[float]:
    """Log variance ratio of each utterance in dB, in the order of the table; [] where there is none."""
    key = "before" if d.method == "identity" else "after"
    if key not in d.global_variance:
        return []
    values = np.asarray(d.global_variance[key].utterances, dtype=float)
    return [decibel(value) for value in values] if values.size == len(d.utterances) else []


def _texts(data: ReportInput, ranked: Sequence[int]) -> dict[str, str]:
    """Texts by utterance, where all of them are small enough to be searched."""
    out = {}
    room = _TEXTS
    for i in ranked:
        name = data.diagnosis.utterances[i].name
        text = data.texts.get(name, ("", None))[0]
        if not text:
            continue
        out[name] = wording.visible(text[:_LONG] + ("…" if len(text) > _LONG else ""))
        room -= len(out[name].encode()) + 3
        if room < 0:
            return {}
    return out


def _fitting(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many rows, from the worst on, keep within the budget."""
    room = _ROWS
    for count, row in enumerate(rows):
        listed = [row["name"], *row["values"], *([row["text"]] if row["text"] else [])]
        room -= len(json.dumps(listed, ensure_ascii=False, separators=(",", ":")).encode())
        if room < 0:
            return count
    return len(rows)


def _json(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str:
    """The table by columns, safe inside a script element."""
    speakers = sorted({row["speaker"] for row in rows})
    number = {name: k for k, name in enumerate(speakers)}
    directions = [{"auto": 0, "ltr": 1, "rtl": 2}[row["dir"]] for row in rows]
    plain = {
        "name": [row["name"] for row in rows],
        **{key: [row["values"][k] for row in rows] for k, key in enumerate(keys)},
        "speakers": speakers,
        "speaker": [number[row["speaker"]] for row in rows] if speakers != [""] else [],
        "text": [row["text"] for row in rows] if any(row["text"] for row in rows) else [],
        "dir": directions if len(set(directions)) > 1 else directions[:1],
        "full": {k: row["full"] for k, row in enumerate(rows) if row["full"]},
    }
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "backslashreplace").decode()
