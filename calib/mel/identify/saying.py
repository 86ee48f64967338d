"""From a `Case` to the answer: what is not claimed, names and kin, and the sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from calib.mel.catalogue import catalogue, entries
from calib.mel.frontend import FrontEnd
from calib.mel.identify.declared import contradictions
from calib.mel.identify.fields import fields
from calib.mel.identify.naming import distance
from calib.mel.identify.placing import Placed
from calib.mel.identify.results import NOISY_DB, Found, Identification
from calib.mel.identify.settling import NAMES_UNTRIED

if TYPE_CHECKING:
    from calib.mel.identify.settling import Case

__all__ = ["say", "unrelated"]

_HUGE, _FAR = 30.0, 0.05  # a guard that makes the logarithm a line, with a loss that says it is no explanation
_REPRODUCED = 2e-4  # loss that needs no excuse
_COARSE = {
    "float32": 2e-3,
    "float64": 2e-3,
    "float16": 0.03,
    "bfloat16": 0.3,
}  # dB that rounding of the values explains


def unrelated(placed: Placed) -> Identification:
    """The audio has nothing to do with the mel."""
    r = placed.alignment.score
    return Identification(
        headline=f"not identified: this mel was not made from this audio (their levels correlate by {r:.2f} at the best place; mels of their own audio reach .6 to .95)",
        status="unrelated",
        fields={},
        skipped=("every parameter: audio and mel do not belong together",),
        notes=("check that ids were matched rightly: calib frontends identify lists the pairs with -v",),
        layout=placed.layout,
    )


def say(case: Case, declared: FrontEnd | None) -> Identification:
    """Put a case into words."""
    found = _tied(case, _untried(case, _doubted(case, dict(fields(case)))))
    names = case.naming.names
    noisy = case.noise_db > NOISY_DB
    family = _family(case, found)
    built = case.frontend
    nearest = differences = None
    if built is not None and not names:
        nearest = _nearest(case, family)
        differences = _differences(built, catalogue()[nearest].frontend)
    status = "named" if names else "partly" if noisy else "described"
    contradicted = () if declared is None else tuple(contradictions(declared, case, found))
    return Identification(
        headline=_headline(case, names, family, nearest, noisy, contradicted),
        status=status,
        fields=found,
        names=names,
        family_names=family,
        nearest=nearest,
        differences=tuple(differences or ()),
        frontend=built,
        shift=case.shift,
        error=None if case.proof is None else case.proof.error,
        error_max=None if case.proof is None else case.proof.largest,
        error_db=None if case.proof is None else case.proof.decibels,
        noise_db=case.noise_db,
        tried=case.naming.tried,
        contradictions=contradicted,
        skipped=tuple(_skipped(case, found)),
        notes=tuple(_notes(case)),
        layout=case.placed.layout,
        reversed_bins=case.placed.flipped,
    )


def _untried(case: Case, found: dict[str, Found]) -> dict[str, Found]:
    """What a step would have told that there was no time for is not claimed."""
    out = dict(found)
    for what, names in case.untried.items():
        for name in names:
            item = out.get(name)
            if item is not None and item.confidence > 0.0:
                values = () if item.value is None else (item.value,)
                out[name] = Found(None, 0.0, (*values, *item.confounded, "another"), f"not tried within {case.seconds:g} s of CPU time: {what}; {item.evidence}", item.interval)  # fmt: skip
    return out


def _doubted(case: Case, found: dict[str, Found]) -> dict[str, Found]:
    """Where no analysis reproduces the mel to rounding, something is not as it is described: fine claims are withdrawn."""
    lost = case.fit.core.guard > _HUGE and case.fit.loss > _FAR
    fine = case.ended is None and not lost and case.noise_db < _COARSE[case.placed.traits.dtype]
    if case.fit.loss < _REPRODUCED or fine:
        return found
    why = f"no analysis reproduces this mel to better than {case.noise_db:.2g} dB, so what is fine is not claimed; "
    if case.ended is not None:
        why = f"the search was ended by its limit of {case.ended:g} s of CPU time; {why}"
    out = dict(found)
    rate = case.fit.core.rate
    own = case.placed.rate
    rest = tuple(o for o in case.options if o[0] != rate and (o[0] < own or rate != own))
    if rest and (rate != case.placed.rate or case.noise_db < NOISY_DB):
        out["sample_rate"] = Found(rate, 0.4, tuple(r for r, _ in rest), why + found["sample_rate"].evidence)
        out["hop_length"] = Found(
            found["hop_length"].value, 0.4, tuple(h for _, h in rest), found["hop_length"].evidence
        )
        out["fb_sample_rate"] = Found(None, 0.0, ("another",), why + found["fb_sample_rate"].evidence)
    names: tuple[str, ...] = (
        "n_fft",
        "win_length",
        "window_periodic",
        "preemphasis",
        "pad_mode",
        "log_guard",
        "log_eps",
        "spectrum_eps",
        "post_norm",
        "filter_norm",
    )
    if lost or case.ended is not None:
        names += ("window", "log")
    if case.ended is not None:  # the place of the best analysis so far is no place of the truth
        names += ("padding", "mel_scale", "fmin", "fmax", "power")
    for name in names:
        item = out.get(name)
        if item is None or item.confidence == 0.0:
            continue
        if name in {"n_fft", "win_length", "preemphasis", "fmin", "fmax"} and item.value is not None:
            out[name] = Found(None, 0.0, (item.value, "another"), why + item.evidence)
        else:
            out[name] = Found(None, 0.0, (item.value, *item.confounded, "another"), why + item.evidence)
    return out


def _tied(case: Case, found: dict[str, Found]) -> dict[str, Found]:
    """Lengths in samples go with the rate: where the rate is a set, so are they."""
    out = dict(found)
    rate = case.fit.core.rate
    for name in ("hop_length", "n_fft", "win_length", "fb_sample_rate") if case.rates else ():
        item = out[name]
        if isinstance(item.value, (int, float)):
            others = tuple(round(item.value * other / rate) for other, _ in case.rates)
            out[name] = Found(item.value, 0.5, (*item.confounded, *others), item.evidence + "; in samples of the rate", item.interval)  # fmt: skip
    for name, power in (("log_eps", case.fit.core.power), ("spectrum_eps", 2)) if case.rates else ():
        found_eps = out.get(name)
        if (
            found_eps is not None and isinstance(found_eps.value, float) and found_eps.value > 0
        ):  # as large as the spectrum, which grows with the samples
            scaled = tuple(found_eps.value * (other / rate) ** power for other, _ in case.rates)
            out[name] = Found(found_eps.value, 0.5, (*found_eps.confounded, *scaled), found_eps.evidence + "; at the rate named", found_eps.interval)  # fmt: skip
    return out


# --- names ----------------------------------------------------------------------------------------------------------


def _family(case: Case, found: dict[str, Found]) -> tuple[str, ...]:
    """Entries whose filterbank outputs are those that were found, as far as the data tell."""
    if case.noise_db > NOISY_DB:
        return tuple(dict.fromkeys((*case.naming.names, *case.kin)))
    out = []
    core, geo = case.fit.core, case.geometry
    known = set(case.naming.names)
    noise = case.noise_db / 8.686
    for entry in entries():
        fe = entry.frontend
        if entry.id in known:
            out.append(entry.id)
            continue
        if fe.n_mels != case.placed.y[0].shape[1] or fe.sample_rate not in {
            core.rate,
            *found["sample_rate"].confounded,
        }:
            continue
        factor = fe.sample_rate / core.rate
        same = (
            fe.hop_length == round(core.hop * factor)
            and fe.power in {core.power, *found["power"].confounded}
            and fe.mel_scale in {core.scale, *found["mel_scale"].confounded}
            and fe.window in {core.window, *found["window"].confounded}
            and abs(fe.fmin - core.fmin) <= max(case.errors.get("fmin", 0.0), 0.5)
            and abs(fe.fmax - core.fmax) <= max(case.errors.get("fmax", 0.0), 2.0 + 60.0 * noise)
            and abs(fe.win_length / factor - geo.win_length) <= max(case.errors.get("width", 0.0), 1.0)
            and (fe.padding == found["padding"].value or fe.padding in found["padding"].confounded)
            and fe.n_fft / factor in {core.n_fft, *found["n_fft"].confounded}
            and abs(fe.fb_sample_rate / factor - core.rate / core.ratio) < 1.0
            and abs(fe.preemphasis - core.preemphasis) < 0.02
            and not (case.levels.norm is not None and (fe.filter_norm or "none") != case.levels.norm)
            and (case.levels.kind == "global" or case.levels.kind != "global")
        )
        if same:
            out.append(entry.id)
    return tuple(out)


def _nearest(case: Case, family: tuple[str, ...]) -> str:
    built = case.frontend
    assert built is not None
    pool = [catalogue()[n] for n in family] or list(entries())
    return min(pool, key=lambda e: distance(built, e.frontend)).id


def _differences(mine: FrontEnd, other: FrontEnd) -> list[str]:
    from calib.mel.wording import explain_differences

    return [f"{d.words} -> {d.effect}" for d in explain_differences(mine, other)]


# --- sentences ------------------------------------------------------------------------------------------------------


def _headline(case: Case, names: tuple[str, ...], family: tuple[str, ...], nearest: str | None, noisy: bool, contradicted: tuple[Any, ...]) -> str:  # fmt: skip
    core = case.fit.core
    proof = case.proof
    cut = f" (the search was ended by its limit of {case.ended:g} s of CPU time: try more)" if case.ended is not None and not names and case.fit.loss > _REPRODUCED else ""  # fmt: skip
    said = f", contradicting what was declared in {', '.join(c.field for c in contradicted)}" if contradicted else ""
    said += cut
    said += ", but with its bins in reverse order, from high to low" if case.placed.flipped else ""
    late = next((what for what in case.untried if what.startswith(NAMES_UNTRIED)), "")
    if names:
        listed = names[0] if len(names) == 1 else f"{names[0]} (or, the same here: {', '.join(names[1:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''})"  # fmt: skip
        if noisy:
            return (
                f"the nearest in a noisy mel: {listed}; {case.noise_db:.2g} dB is left that no front end explains{said}"
            )
        error = f"reproduced to {proof.decibels:.2g} dB on average" if proof is not None else "reproduced"
        return f"this mel was made by {listed}: {error}{said}"
    band = f"{core.scale} {core.fmin:g}-{core.fmax:g} Hz"
    what = f"{core.rate} Hz, hop {round(core.hop)}, window {case.geometry.win_length} of {core.n_fft}, {case.placed.y[0].shape[1]} bins {band}, {'power' if core.power == 2 else 'magnitude'}"  # fmt: skip
    if noisy:
        kin = f"the filterbank of {', '.join(family[:3])}" if family else "no named front end's filterbank"
        return f"in a noisy mel ({case.noise_db:.2g} dB unexplained): {kin}; {what}{said}"
    error = (
        f"reproduced to {proof.decibels:.2g} dB on average"
        if proof is not None
        else "not reproduced: it has no FrontEnd"
    )
    kin = (
        f"; its filterbank outputs are those of {', '.join(family[:3])}"
        if family
        else f"; nearest is {nearest}"
        if nearest
        else ""
    )
    head = "not compared with every named front end" if late else "no named front end made this mel"
    return f"{head}: {what} ({error}){kin}{said}"


def _skipped(case: Case, found: dict[str, Found]) -> Iterator[str]:
    for name, item in found.items():
        if item.value is None and not (name == "filter_norm" and not item.confounded) and name != "utterance_norm":
            yield f"{name}: {item.evidence}"
    if case.ended is not None:
        yield f"what a longer search may find: it was ended for its limit of {case.ended:g} s of CPU time (--seconds), with what was known then"
    for what in case.untried:
        yield f"not tried: {what} (the limit of {case.seconds:g} s of CPU time: --seconds)"
    if case.noise_db > NOISY_DB:
        yield f"guards, padding mode and kind of window: {case.noise_db:.2g} dB of the mel is noise to every analysis (predicted by a model, or of other audio)"  # fmt: skip


def _notes(case: Case) -> Iterator[str]:
    core, placed = case.fit.core, case.placed
    if core.rate != placed.rate:
        yield f"the audio is at {placed.rate} Hz, the mel was made at {core.rate} Hz; resampled here with soxr HQ, another resampler differs near {core.rate / 2:.0f} Hz"  # fmt: skip
    if case.band < min(core.fmax * core.ratio, core.rate / 2) - 300.0:
        yield f"the audio is band-limited: nothing above {case.band:.0f} Hz"
    if placed.flipped:
        yield "the bins are stored from high to low, and were turned round to be identified: no reader expects that; store mel[:, ::-1]"
    if placed.alignment.sign < 0:
        yield "the mel falls where the audio is louder: a negative slope, as Tortoise and XTTS have it"
    if placed.traits.dtype in {"float16", "bfloat16"}:
        yield f"stored as {placed.traits.dtype}: its rounding hides small guards and the kind of Hann window"
