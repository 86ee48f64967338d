"""The legs in words: what the targets are, what is wrong with the model, what to do, and the table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from calib.console import table
from calib.diagnose.causes import percent_sure, worst_first
from calib.diagnose.diagnosis import Diagnosis
from calib.diagnose.faults.evidence import Finding
from calib.diagnose.legs.distance import LIMITS, Distance
from calib.diagnose.legs.result import LEGS, Declared, Difference, Identified, Leg, Legs
from calib.diagnose.verdict import STRONG_R
from calib.mel.frontend import FrontEnd

__all__ = [
    "Apart",
    "by_front_end",
    "how_far",
    "in_kind",
    "model_words",
    "name_of",
    "other_words",
    "render_legs",
    "slight_words",
    "steps",
    "target_sentence",
    "what",
]

_FIELDS = 3  # that differ and are named
_OFFSET = 0.5  # ms
_TIMES = {"padding", "pad_mode"}
_UNHEARD = ("not heard", "hardly heard", "about 0.001", "only the first")  # effects that start so


def name_of(frontend: FrontEnd, otherwise: str) -> str:
    """The catalogue's name, else what it is called here."""
    return frontend.name if frontend.name != "custom" else otherwise


def what(findings: Sequence[Finding]) -> str:
    """Findings as the end of a sentence about mels, the worst first: "on another mel scale: htk mel scale; off by ...".

    Faults found together share their detail; it then stands for all of them.
    """
    details = [finding.detail for finding in findings]
    said: dict[str, None] = {}
    for finding in worst_first(findings):
        shared = bool(finding.detail) and details.count(finding.detail) > 1
        own = finding.fault in {"log-base", "decibel", "log-power"} and finding.detail
        said[finding.detail if shared or own else finding.sentence.removeprefix("the prediction is ")] = None
    return "; ".join(said)


def model_words(d: Diagnosis) -> str:
    """What is wrong with the predictions, for the sentence."""
    if d.faults:
        return f"its predictions are {what(d.faults)}"
    headline = d.verdict.headline.removeprefix("NOT FIXABLE BY CALIBRATION: ")
    return (
        f"{headline[0].lower()}{headline[1:]}: {d.verdict.sentence}"
        if not headline.isupper()
        else f"{headline.lower()}: {d.verdict.sentence}"
    )


def _cause(declared: Declared | None, identified: Identified | None) -> tuple[str, tuple[Difference, ...]]:
    """What the targets are called, and how they differ from what the vocoder wants; where the audio proves it, else nothing."""
    if declared is not None and declared.verified and declared.differences:
        return declared.name, declared.differences
    if identified is not None and identified.proven and identified.differences:
        return (f"{' or '.join(identified.names[:3])} mels" if identified.names else ""), identified.differences
    return "", ()


def by_front_end(tv: Leg, declared: Declared | None, identified: Identified | None, name: str) -> Leg:
    """The leg with the front end as the cause of its failing, where that is known: what the values look like is none."""
    called, differences = _cause(declared, identified)
    if tv.status != "fail" or tv.grade == "unrelated" or not differences:
        return tv
    apart = tv.sentence if tv.mae_db is None else f"{tv.mae_db:.1f} dB apart"
    sentence = f"{apart}: {called or 'mels of another front end'}, not {name} (the targets first, then the vocoder)"
    return dataclasses.replace(tv, sentence=sentence, findings=(), values_alone=tuple(f.fault for f in tv.findings))


def _words(differences: Sequence[Difference]) -> str:
    """The first differences that can be heard (all of them, where none can), in words."""
    heard = [row for row in differences if not row[4].startswith(_UNHEARD)] or list(differences)
    heard.sort(key=lambda row: row[0] in _TIMES)  # synthesis does not mind those
    words = [row[3] for row in heard][:_FIELDS]
    more = len(heard) - len(words)
    return f"{'; '.join(words)}{f'; and {more} more' if more else ''}"


def other_words(
    tv: Leg, declared: Declared | None, identified: Identified | None, want: FrontEnd, name: str, rate: float
) -> str:
    """What the targets are that the vocoder does not want; "" where they are what it wants, or nothing is known.

    Args:
        tv: the leg.
        declared: what the pairs say.
        identified: what the data say.
        want: the vocoder's front end.
        name: of that.
        rate: frames a second of the targets over the vocoder's.
    """
    known = declared is not None and declared.verified is not False and bool(declared.differences)
    harmless = declared is not None and declared.harmless is True
    if tv.status in {"pass", "warn"} or (tv.status == "skipped" and (not known or harmless)):
        return ""
    parts = []
    if known and declared is not None:
        parts.append(f"{declared.name} where the vocoder wants {name} ({_words(declared.differences)})")
    elif identified is not None and (identified.names or identified.proven) and identified.differences:
        called = f"{' or '.join(identified.names[:3])} mels" if identified.names else "mels of another front end"
        proof = "" if identified.proven else "as they look, "
        parts.append(f"{proof}{called} where the vocoder wants {name} ({_words(identified.differences)})")
    if tv.status != "skipped" and rate != 1.0:
        ms = 1000.0 * want.hop_length / want.sample_rate
        speed = "fast" if rate < 1 else "slow"
        parts.append(
            f"made with a frame every {ms / rate:.2f} ms where the vocoder takes {ms:.2f} ms (speech would come out {abs(1 / rate - 1):.1%} too {speed})"
        )
    elif not parts:
        parts += [what(tv.findings)] if tv.findings else []
    if tv.numbers.get("after_map_db", math.inf) <= LIMITS.exact and (line := _line(tv, 4)) != "target":
        parts.append(f"what the vocoder wants is {line}")
    return "; ".join(parts) or tv.sentence


def _line(tv: Leg, digits: int) -> str:
    """``2.303 * target - 1``; rounding errors of the fit are left out."""
    slope, intercept = tv.numbers["map_slope"], tv.numbers["map_intercept"]
    text = "" if abs(slope - 1.0) < 1e-5 else f"{slope:.{digits}g} * "
    rest = "" if abs(intercept) < 5e-4 * abs(slope) else f" {'+' if intercept > 0 else '-'} {abs(intercept):.{digits}g}"
    return f"{text}target{rest}"


def target_sentence(leg: Leg, d: Distance, fe: FrontEnd) -> str:
    """What T against V showed."""
    apart = _offset(leg, fe)
    if leg.grade == "identical":
        return f"the same mels ({d.all_db:.3f} dB apart){apart}"
    if leg.grade == "guards":
        return f"the same mels but for guards and edges ({d.clear_db:.3f} dB apart where neither matters){apart}"
    if leg.grade == "level":
        spread = f", within {d.level_spread_db:.1f} dB from utterance to utterance" if d.level_spread_db > 0.5 else ""
        return f"the same mels at another level ({d.level_db:+.1f} dB{spread}; {d.left_db:.2f} dB beside that): louder or quieter speech{apart}"
    if leg.grade == "slight":
        return f"{d.error_db:.2f} dB apart, which a vocoder hardly lets hear{apart}"
    if leg.grade == "unrelated":
        return f"the recordings are not those of the targets (r {d.r_w:.2f} within bin, {d.error_db:.0f} dB apart), or the targets are no mels of speech"
    found = what(leg.findings)
    return f"{d.error_db:.1f} dB apart{f': {found}' if found else ''}"


def slight_words(tv: Leg, fe: FrontEnd) -> str:
    """What is slightly off in targets that the vocoder will take, in a few words; "" where nothing is."""
    ms = tv.numbers.get("offset_ms", 0.0)
    words = {"guards": "guards and edges", "level": f"their level, {tv.numbers.get('level_db', 0.0):+.1f} dB"}.get(
        tv.grade
    )
    if tv.grade == "slight":
        words = f"{tv.mae_db:.2f} dB"
    if abs(ms) > _OFFSET and tv.status in {"pass", "warn"}:
        hops = abs(ms) * fe.sample_rate / 1000.0 / fe.hop_length
        words = (
            f"{hops:.2g} frames in time"
            if words is None or tv.grade == "guards"
            else f"{words} and {hops:.2g} frames in time"
        )
    return f"but for {words}" if words else ""


@dataclass(frozen=True)
class Apart:
    """How far what reaches the vocoder is from what it wants; "" where a vocoder hardly lets it be heard.

    Args:
        far: as far as a model that says little of the speech.
        short: for the table.
        words: for the sentence.
    """

    far: bool = False
    short: str = ""
    words: str = ""


def how_far(pv: Leg, *, sample_like: bool, level: bool = False) -> Apart:
    """Of mels of the right kind: within what a vocoder hardly lets hear, with a model's error, or as good as no speech.

    The first limit is that of two front ends (`LIMITS`). The last is what the weakest prediction that is called healthy,
    r = .7 within bins, leaves of the error of a mean spectrum: sqrt(1 - r²), of a sample sqrt(2 - 2 r).

    Args:
        pv: what reaches the vocoder against what it wants.
        sample_like: whether the model draws samples.
        level: whether targets at another level are taken as they are: then so are predictions.
    """
    error = pv.numbers.get("after_level_db") if level else pv.mae_db
    if error is None or error <= LIMITS.slight or "static_db" not in pv.numbers:
        return Apart()
    static = pv.numbers["static_db"]
    share = math.sqrt(2.0 - 2.0 * STRONG_R) if sample_like else math.sqrt(1.0 - STRONG_R**2)
    words = (
        f"{error:.1f} dB off{' beside the level' if level else ''} (a mean spectrum in every frame: {static:.1f} dB)"
    )
    if error > share * static:
        return Apart(True, f", {error:.1f} dB off: far", f"{words}, as far as a model that says little of the speech")
    return Apart(False, f", {error:.1f} dB off", words)


def in_kind(apart: Apart) -> str:
    """The end of the sentence that predictions are what the vocoder wants."""
    return f" in kind, {apart.words}" if apart.words else ""


def _offset(leg: Leg, fe: FrontEnd) -> str:
    """A constant time between the two, which synthesis does not mind and fine-tuning does."""
    ms = leg.numbers.get("offset_ms", 0.0)
    if abs(ms) <= _OFFSET:
        return ""
    hops = abs(ms) * fe.sample_rate / 1000.0 / fe.hop_length
    side = "later" if ms > 0 else "earlier"
    return f"; they begin {abs(ms):.1f} ms ({hops:.2g} frames) {side}: synthesis does not mind, but mels and audio that fine-tune a vocoder together must be moved by it"


def steps(out: Legs, *, audio: bool, unsound: str | None) -> list[str]:
    """What to do about the blame, before what the diagnosis says.

    Args:
        out: the legs.
        audio: whether audio was given.
        unsound: why the audio could not be used, or None.
    """
    tv, name, c = out.legs["T-V"], out.vocoder["name"], out.conversion
    said = []
    if out.blame in {"front-end", "both", "targets"}:
        if c is not None and c["how"] != "refused":
            said.append(_conversion_step(c, tv))
        elif tv.numbers.get("after_map_db", math.inf) <= LIMITS.exact:
            said.append(f"give the vocoder {_line(tv, 7).replace('target', 'mel')} (exact away from guards)")
        elif c is not None:
            said.append(f"no conversion will do: {c['why']}")
        said.append(
            f"or compute the targets with the vocoder's front end and train on them: calib stats SOURCE --frontend {name}"
        )
        said.append("or take a vocoder that was trained on mels like these targets")
    if out.blame == "neither":
        said.append(
            "if it sounds wrong, hear natural mels through the vocoder: calib check vocoder SOURCE --vocoder SPEC"
        )
    if tv.grade == "unrelated":
        said.append("give the recordings that these targets were made of: --audio SOURCE, matched by id")
    if tv.status == "skipped" and not audio:
        said.append("give the audio, so that targets and vocoder can be compared: --audio SOURCE")
    elif tv.status == "skipped" and unsound:
        said.append(f"give audio that can be read ({unsound})")
    if out.declared is not None and out.declared.verified is False and tv.grade != "unrelated":
        said.append("find out what the targets really are: calib frontends identify --audio SOURCE --mel TARGETS")
    return said


def _conversion_step(c: dict[str, Any], tv: Leg) -> str:
    """Convert, and what that leaves; or that it would change nothing."""
    expected = "" if c["expected_db"] is None else f", about {c['expected_db']:.2g} dB of error expected"
    # Off on audible cells and not on clear ones: what lies under the targets' guard.
    hidden = tv.numbers.get("audible_after_map_db", 0.0) if c["how"] == "exact" else 0.0
    if hidden > LIMITS.slight and _line(tv, 7) == "target":
        return f"no conversion brings back what lies under the targets' guard ({hidden:.1f} dB off), and the rest needs none"
    if hidden > LIMITS.slight:
        expected = f" away from guards; what lies under the targets' guard stays {hidden:.1f} dB off"
    fields = (
        "" if "FRONTEND.yaml" not in c["command"] else " (its fields: calib frontends identify PAIRS --audio SOURCE)"
    )
    return f"convert the mels before the vocoder ({c['how']}{expected}): {c['command']}{fields}"


def render_legs(found: Legs) -> list[str]:
    """The blame, then a table of the legs and what is to be known of them."""
    lines = [f"{found.headline}: {found.sentence}.", ""]
    rows = []
    for name, title in LEGS.items():
        leg = found.legs[name]
        numbers = [
            _number(leg.bias, "+.3f"),
            _number(leg.slope, ".4f"),
            _number(leg.r_w, ".4f"),
            _number(leg.mae_db, ".2f"),
        ]
        there = leg.status != "skipped"
        rows.append([name, title, leg.judgement if there else "skipped", *(numbers if there else [""] * 4)])
    lines += table(["leg", "what against what", "judgement", "bias", "slope", "r_w", "MAE (dB)"], rows, left=3)
    lines.append(
        f"V is what the vocoder wants{'' if found.legs['T-V'].status == 'skipped' else ', computed from the audio'}: {found.vocoder['name']} ({found.vocoder['origin']}). "
        "Bias (first minus second) in mel units; slope and r within bins; MAE in dB of what can be heard."
    )
    for name, leg in found.legs.items():
        if leg.status == "skipped":
            lines.append(f"{name}: skipped: {leg.skipped}")
        if leg.status == "skipped" or name == "P-T":
            continue
        lines.append(f"{name}: {leg.sentence}.")
        if name == "T-V" and leg.status == "fail":
            lines += [f"    {row[3]}: {row[4]}" for row in _cause(found.declared, found.identified)[1]]
            unproven = found.identified is not None and not found.identified.proven
            alone = "seen from the values alone: " if unproven else ""
            for finding in worst_first(leg.findings):
                said = finding.sentence.replace("the prediction is", "the targets are", 1)
                lines.append(f"    {alone}{said} (confidence {percent_sure(finding)})")
    if found.declared is not None:
        lines.append(_declared_line(found.declared))
    if found.identified is not None:
        lines.append(_identified_line(found.identified))
    if found.lengths is not None and found.lengths.odd:
        odd = found.lengths.odd
        more = f"; and {len(odd) - 3} more" if len(odd) > 3 else ""
        lines.append(f"note: lengths contradict the audio: {'; '.join(odd[:3])}{more}")
    if found.conversion is not None:
        lines.append(f"conversion to what the vocoder wants: {found.conversion['how']}: {found.conversion['why']}")
    return lines


def _declared_line(d: Declared) -> str:
    if d.verified is None:
        words = "; ".join(row[3] for row in d.differences[:_FIELDS])
        differs = (
            f": differs from what the vocoder wants in what the sound hardly shows ({words})" if d.harmless else ""
        )
        same = "" if d.differences else ": what the vocoder wants"
        return f"declared: {d.name}{differs}{same} (not verified: needs audio)"
    error = "" if d.error_db is None else f" ({d.error_db:.2f} dB apart)"
    if d.verified:
        return f"declared: {d.name}, and that makes these targets of this audio{error}"
    return f"declared: {d.name}, but that does not make these targets of this audio{error}: the declaration is wrong, or the audio was treated"


def _identified_line(found: Identified) -> str:
    error = "" if found.error_db is None else f" ({found.error_db:.2f} dB from these targets)"
    if found.names:
        return f"identified from audio and targets: {' or '.join(found.names)}{error}"
    return f"identified from audio and targets: no named front end{error}; the nearest is {found.nearest or 'unknown'}"


def _number(value: float | None, form: str) -> str:
    if value is None:
        return "-"
    return f"{0.0 if abs(value) < 5e-5 else value:{form}}"
