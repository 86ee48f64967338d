"""``calib frontends``: the named mel front ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from calib.commands.frontends_identify import identify
from calib.commands.options import Json, emit_json, set_level
from calib.console import table, terminal
from calib.errors import UsageError
from calib.mel.catalogue import CatalogueEntry, catalogue, entries, equivalents, relatives
from calib.mel.configs import explain
from calib.mel.describe import affine_words, frame_count, number, silence_words, time_words
from calib.mel.frontend import FrontEnd
from calib.mel.maps import exact_map
from calib.mel.wording import explain_differences

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, help="The mel front ends that calib knows."
)

app.command()(identify)

_SPEC = "A name, NAME@STATSFILE, or a YAML or JSON file."


@app.command("list")
def list_(
    rate: Annotated[
        int | None, typer.Option("--rate", help="Only this sample rate, in Hz.", show_default=False)
    ] = None,
    bins: Annotated[
        int | None, typer.Option("--bins", help="Only this number of mel bins.", show_default=False)
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like", metavar="NAME", help="Only those that an exact map leads to from this one.", show_default=False
        ),
    ] = None,
    json_: Json = None,
) -> None:
    """List the named front ends, those with the same filterbank outputs together."""
    set_level(quiet=False, verbose=False, json_target=json_)
    first = None if like is None else FrontEnd.load(like)
    chosen = [
        entry
        for entry in entries()
        if rate in {None, entry.frontend.sample_rate}
        and bins in {None, entry.frontend.n_mels}
        and (first is None or exact_map(first, entry.frontend) is not None)
    ]
    if not chosen:
        known = sorted({entry.frontend.sample_rate for entry in entries()})
        raise UsageError(
            "no named front end is like that",
            hint=f"sample rates are {', '.join(map(str, known))} Hz; calib frontends list shows all",
        )
    for line in _listing(chosen):
        terminal.result(line)
    emit_json(json_, [_entry_json(entry) for entry in chosen])


def _listing(chosen: Sequence[CatalogueEntry]) -> Iterator[str]:
    """Groups by family, in the order of the file, the lower sample rates first."""
    groups: dict[str, list[CatalogueEntry]] = {}
    for entry in sorted(chosen, key=lambda entry: entry.frontend.sample_rate):
        groups.setdefault(entry.frontend.family, []).append(entry)
    n_mels = len({entry.frontend.id for entry in chosen})
    in_families = "one family" if len(groups) == 1 else f"{len(groups)} families"
    yield f"{len(chosen)} front end{'s' * (len(chosen) > 1)}, {n_mels} different mel{'s' * (n_mels > 1)}, in {in_families}."
    yield "A family has one filterbank output: an exact map leads from each to each. = is the same mel as the line above."
    for group in groups.values():
        yield ""
        yield _family_line(group[0].frontend)
        rows = []
        # Equal mels stand together, each class where its first member stands.
        order = list(dict.fromkeys(entry.frontend.id for entry in group))
        above = None
        for entry in sorted(group, key=lambda entry: order.index(entry.frontend.id)):
            alias = f" ({', '.join(entry.aliases)})" if entry.aliases else ""
            fe = entry.frontend
            same = fe.id == above
            values = "" if same else f"{_short_unit(fe)}{_STATISTICS[entry.statistics]}"
            rows.append([f"{'=' if same else ' '} {entry.id}{alias}", values, entry.title])
            above = fe.id
        yield from table(["  ", "", ""], rows, left=3)[1:]


_STATISTICS = {None: "", "standard": ", then statistics", "divide": ", then norms"}


def _family_line(fe: FrontEnd) -> str:
    bank = {"slaney": "", "htk": ", htk scale", "htk_tf": ", TensorFlow's htk scale"}[fe.mel_scale]
    height = "" if fe.filter_norm == "slaney" else ", filters of unit height"
    built = "" if fe.fb_sample_rate == fe.sample_rate else f" (bank built for {fe.fb_sample_rate} Hz)"
    window = f" (window {fe.win_length})" if fe.win_length != fe.n_fft else ""
    where = "on sample 0" if not fe.centre_offset else f"on sample {fe.centre_offset}"
    zeros = ", zeros at the edges" if fe.pad_mode == "constant" or fe.padding == "end" else ""
    symmetric = "" if fe.window_periodic else ", symmetric window"
    level = ", audio levelled" if fe.peak_norm or fe.rms_norm else ""
    emphasis = f", pre-emphasis {fe.preemphasis:g}" if fe.preemphasis else ""
    quantity = "power" if fe.power == 2 else "magnitude"
    return (
        f"{fe.sample_rate} Hz, {fe.n_mels} bins {fe.fmin:g}-{fe.fmax:g} Hz{built}{bank}{height}, {quantity}, FFT {fe.n_fft}{window},"
        f" hop {fe.hop_length}, first frame {where}{zeros}{symmetric}{level}{emphasis}"
    )


def _short_unit(fe: FrontEnd) -> str:
    if fe.log == "none":
        return "linear"
    text = fe.log if fe.log_multiplier == 1 else f"{fe.log_multiplier:g} {fe.log}"
    if fe.log_guard == "add" and fe.log_eps >= 1e-2:
        text = f"{text}(m + {fe.log_eps:g})"
    by = {"minmax": ", to [0, 1] by utterance", "instance": ", by utterance and bin", "dynamic_max": ""}
    if fe.utterance_norm:
        text += by[fe.utterance_norm]
    affine = fe.affine_from_ln()
    if affine is not None and (fe.post_scale != 1 or fe.post_offset):
        text = f"{affine[0][0]:.4g} ln {'+' if affine[1][0] > 0 else '-'} {abs(affine[1][0]):.4g}"
    low, high = float(fe.silence.min()), float(fe.silence.max())
    if fe.utterance_norm in {"minmax", "instance"}:
        return text
    return f"{text}, silence {low:.4g}" if high - low < 5e-3 else f"{text}, silence {low:.4g} to {high:.4g}"


@app.command()
def show(name: Annotated[str, typer.Argument(metavar="NAME", help=_SPEC)], json_: Json = None) -> None:
    """Show one front end: what it does in words, what it needs, and every field."""
    set_level(quiet=False, verbose=False, json_target=json_)
    frontend = FrontEnd.load(name)
    entry = catalogue().get(name.partition("@")[0])
    for line in _shown(name, frontend, entry):
        terminal.result(line)
    emit_json(json_, {**(_entry_json(entry) if entry else {}), **_frontend_json(frontend)})


def _shown(name: str, fe: FrontEnd, entry: CatalogueEntry | None) -> Iterator[str]:
    same = equivalents(fe)
    if entry is not None:
        yield f"{entry.id if entry.frontend == fe else name}: {entry.title}"
    else:
        yield f"{name}: {', '.join(same) if same else 'no named front end'}"
    rows = [
        ["frames", f"T = {frame_count(fe)} for L samples; {time_words(fe)}"],
        ["a value", affine_words(fe)],
        ["silence", f"{silence_words(fe)} ({fe.unit})"],
    ]
    rows[:0] = [["read from", line] for line in explain(name)]
    if fe.overwrite_last:
        rows.append(["frames overwritten", f"{fe.overwrite_last} at the end hold {number(fe.overwrite_value)}"])
    if entry is not None:
        does = {"standard": "(x - mean) / std by bin after it", "divide": "x / norm by bin after it"}
        if entry.frontend != fe:
            rows.append(["statistics", f"applied from {name.partition('@')[2]}"])
        elif entry.statistics is not None:
            rows.append(["statistics", f"{does[entry.statistics]}, with {entry.id}@FILE; {entry.stats}"])
        elif entry.stats:
            rows.append(["statistics" if fe.normalises else "files", entry.stats])
        rows.append(["stored as", {"MT": "[n_mels, T]", "TM": "[T, n_mels]"}[entry.layout]])
        if entry.role != "mel":
            rows.append(["used as", entry.role])
        if entry.batch_pad is not None:
            rows.append(["batch padding", number(entry.batch_pad)])
        if entry.audio:
            rows.append(["audio before", entry.audio])
        rows += [["note", note] for note in entry.notes]
        rows.append(["source", entry.source])
    others = [one for one in same if entry is None or one != entry.id]
    rows.append(["the same mel", ", ".join(others) or "no other system"])
    rest = [one.id for one in entries() if one.id not in same and exact_map(fe, one.frontend) is not None]
    rows.append(["exact map to", ", ".join(rest) or "no other named front end"])
    yield from table(["", ""], rows, left=2)[1:]
    yield ""
    default = FrontEnd().fields()
    fields = [
        [key, _value(value), "" if value == default[key] else f"(default {_value(default[key])})"]
        for key, value in fe.fields().items()
    ]
    yield from table(["field", "value", ""], [*fields, ["frontend_id", fe.id, ""], ["family", fe.family, ""]], left=3)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} values, {value[0]:.4g} to {value[-1]:.4g}"
    return str(value)


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help=f"What the mel is. {_SPEC}")],
    b: Annotated[str, typer.Argument(metavar="B", help="What its reader, a vocoder say, was trained on.")],
    json_: Json = None,
) -> None:
    """Say what differs between two front ends, what that does to the sound, and whether an exact map leads from A to B."""
    set_level(quiet=False, verbose=False, json_target=json_)
    first, second = FrontEnd.load(a), FrontEnd.load(b)
    found, exact = explain_differences(first, second), exact_map(first, second)
    if first == second:
        terminal.result(f"{a} and {b} are the same front end ({first.id}).", "bold")
    else:
        way = "an exact map leads from one to the other" if exact else "no exact map"
        terminal.result(f"{a} and {b} are different front ends: {way}.", "bold")
        terminal.result(f"What a reader that was trained on {b} makes of a mel of {a}:")
        for item in found:
            terminal.result("")
            terminal.result(f"  {', '.join((item.field, *item.also))}: {item.words}")
            terminal.result(f"    -> {item.effect}")
        terminal.result("")
        if exact is not None:
            terminal.result(f"Exact map ({exact.kind}), y of {a} to y' of {b}: {exact.words}")
            for limit in exact.limits:
                terminal.result(f"  - {limit}")
        else:
            terminal.result(
                f"No exact map from {a} to {b}: recompute the mel from the audio, or let calib convert fit the best"
                " approximation and state its error."
            )
    emit_json(
        json_,
        {
            "same": first == second,
            "same_family": first.family == second.family,
            "differences": [
                {
                    "field": item.field,
                    "also": list(item.also),
                    "a": item.a,
                    "b": item.b,
                    "words": item.words,
                    "effect": item.effect,
                }
                for item in found
            ],
            "fields": {key: list(values) for key, values in first.differences(second).items()},
            "exact_map": None if exact is None else exact.to_json(),
        },
    )


def _frontend_json(fe: FrontEnd) -> dict[str, Any]:
    return {
        "frontend_id": fe.id,
        "family": fe.family,
        "frontend": fe.fields(),
        "n_frames": frame_count(fe),
        "centre_offset": fe.centre_offset,
        "value": affine_words(fe),
        "silence": fe.silence.tolist(),
        "floor": fe.floor,
        "same_mel": list(equivalents(fe)),
        "same_family": list(relatives(fe)),
    }


def _entry_json(entry: CatalogueEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "aliases": list(entry.aliases),
        "title": entry.title,
        "source": entry.source,
        "layout": entry.layout,
        "role": entry.role,
        "statistics": entry.statistics,
        "batch_pad": entry.batch_pad,
        "audio": entry.audio,
        "stats": entry.stats,
        "notes": list(entry.notes),
        "frontend_id": entry.frontend.id,
        "family": entry.frontend.family,
        "frontend": entry.frontend.fields(),
    }
