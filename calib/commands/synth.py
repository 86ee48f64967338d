"""``calib synth``: text -> mel -> calibrated mel -> vocoder -> WAV. An inference that reads the two JSON files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from calib.commands import options as o
from calib.commands.plugins import ModelConfig, VocoderConfig
from calib.commands.speaking import Job, SynthConfig, Synthesizer, Voice, say, speak_each
from calib.commands.synth_mels import MelsConfig, speak_mels
from calib.console import terminal
from calib.data.files import ensure_writable
from calib.errors import DataError, UsageError, nearest
from calib.models.loading import parse_options
from calib.speech.text import other_script

__all__ = ["Line", "read_lines"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_KINDS: dict[type, str] = {str: "text", int: "a whole number", float: "a number"}
_KEYS = ("text", "id", "speaker_audio", "language", "temperature", "top_p", "seed")


@dataclass(frozen=True)
class Line:
    """One text of a run: what is said, how, and the file that it becomes."""

    text: str
    voice: Voice
    output: str


@app.command(
    help="Text to speech through both JSON files: text -> mel -> calibrated mel -> vocoder -> WAV. Or (--mel) stored mels to WAVs, without a model. Files of another model or front end are refused."
)
def synth(
    text: Annotated[str | None, typer.Option("--text", help="What to say.", show_default=False)] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--out",
            "--output",
            help="The WAV file; with --text-file a folder; with --stream also - for stdout.",
            show_default=False,
        ),
    ] = None,
    speaker_audio: Annotated[
        Path | None, typer.Option("--speaker-audio", help="A recording of the voice to speak with.", show_default=False)
    ] = None,
    language: Annotated[str, typer.Option("--language", help="Language code of the text: en, de, fa, ...")] = "en",
    temperature: Annotated[
        float,
        typer.Option(
            "--temperature",
            help="How freely the model samples: 1 as it was trained, less is safer, 0 always takes the likeliest.",
        ),
    ] = 1.0,
    top_p: Annotated[
        float,
        typer.Option(
            "--top-p",
            help="Sample only among the likeliest values that together have this probability, above 0 and at most 1.",
        ),
    ] = 1.0,
    seed: o.Seed = 0,
    text_file: Annotated[
        Path | None,
        typer.Option(
            "--text-file",
            help="One text a line, or JSONL with text and, where wanted, id, speaker_audio, language, temperature, top_p, seed; each becomes a WAV in the output folder.",
            show_default=False,
        ),
    ] = None,
    mel: Annotated[
        str | None,
        typer.Option(
            "--mel",
            metavar="MELS|PAIRS",
            help="Instead of a text: stored mels (a file or a folder), or the predictions of PAIRS; no model runs, and each becomes a WAV.",
            show_default=False,
        ),
    ] = None,
    frontend: Annotated[
        str | None,
        typer.Option(
            "--frontend",
            help="With --mel, front end of the mels; default: what PAIRS, --stats or --params say.",
            callback=o.recognise,
            show_default=False,
        ),
    ] = None,
    layout: o.Layout = None,
    output_space: o.OutputSpace = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Write audio as soon as it is made: the first of it well before the sentence is done."
        ),
    ] = False,
    stats: o.StatsFile = None,
    params: o.ParamsFile = None,
    model: o.ModelSpec = "reference",
    checkpoint: o.Checkpoint = None,
    model_option: o.ModelOption = None,
    model_python: o.ModelPython = None,
    vocoder: o.VocoderSpec = "griffin-lim",
    vocoder_checkpoint: o.VocoderCheckpoint = None,
    vocoder_option: o.VocoderOption = None,
    vocoder_python: o.VocoderPython = None,
    convert: o.Convert = False,
    device: o.Device = "auto",
    use_gpu: Annotated[bool, typer.Option("--use-gpu", help="The same as --device cuda.")] = False,
    any_level: Annotated[
        bool,
        typer.Option(
            "--any-level",
            help="Write the WAV, turned down, even where it lies more than 40 dB beyond full scale, as no mel of its front end does.",
        ),
    ] = False,
    force: o.Force = False,
    json_: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Check everything that can be checked before the model runs, then speak."""
    o.set_level(quiet=quiet, verbose=verbose, json_target=json_, force=force)
    if mel is not None:
        given = {"--text": text, "--text-file": text_file, "--stream": stream, "--checkpoint": checkpoint, "--model-option": model_option, "--model-python": model_python, "--speaker-audio": speaker_audio, "--model": model != "reference"}  # fmt: skip
        if wrong := [name for name, value in given.items() if value]:
            raise UsageError(f"{' and '.join(wrong)} with --mel: no model runs where the mels are given")
        if output is None or output == "-":
            raise UsageError("calib synth --mel needs -o: a WAV file for one mel, a folder for several")
        chosen = VocoderConfig(vocoder, vocoder_checkpoint, parse_options(vocoder_option or []), "cuda" if use_gpu else device, vocoder_python, convert)  # fmt: skip
        heard = speak_mels(
            MelsConfig(mel, output, chosen, stats, params, frontend, layout, output_space, force, any_level)
        )
        o.emit_json(json_, {"spoken": heard}, force=force)
        return
    if wrong := [name for name, value in (("--frontend", frontend), ("--layout", layout), ("--output-space", output_space)) if value]:  # fmt: skip
        raise UsageError(f"{' and '.join(wrong)} needs --mel: a model says what its mels are")
    if (text is None) == (text_file is None):
        raise UsageError("give --text, --text-file or --mel, and only one of them")
    if text is not None and not text.strip():
        raise UsageError("--text is empty: nothing to say")
    if text is not None and (script := other_script(text, language)):
        terminal.warning(
            f"the text is in {script} letters and --language is {language}: it will be read by the wrong rules"
        )
    if output is None:
        raise UsageError("calib synth needs --output")
    if output == "-":
        if not stream:
            raise UsageError("--output - needs --stream")
        if json_ == "-":
            raise UsageError("--output - and --json - cannot share stdout", hint="give --json FILE")
        terminal.results_to_stderr = True
    if text_file is not None and stream:
        raise UsageError("--stream is for --text; --text-file makes one file a line")
    voice = Voice(speaker_audio, language, temperature, top_p, seed)
    if text_file is None:
        assert text is not None
        lines = [Line(text, voice, output)]
    else:
        lines = read_lines(text_file, Path(output), voice)
    for line in lines:
        if line.output != "-":
            ensure_writable(Path(line.output), force=force)
    device = "cuda" if use_gpu else device
    config = SynthConfig(
        ModelConfig(model, checkpoint, parse_options(model_option or []), device, model_python),
        VocoderConfig(vocoder, vocoder_checkpoint, parse_options(vocoder_option or []), device, vocoder_python, convert),
        stats, params,
    )  # fmt: skip
    synthesizer = Synthesizer(config)
    terminal.detail(
        f"model {model} ({synthesizer.model.model_id or 'identity unknown'}), front end {synthesizer.model.frontend.name}, vocoder {vocoder}"
    )
    terminal.detail(
        f"language {language}, temperature {temperature:g}, top-p {top_p:g}, seed {seed}, voice {speaker_audio or 'of the checkpoint'}"
    )
    terminal.notice(synthesizer.calibration.describe())
    jobs = [
        Job(
            Path(line.output).name, line.output, {"text": line.text, **_plain(line.voice)},
            partial(say, synthesizer, line.text, line.voice, line.output, stream=stream, force=force, any_level=any_level),
        )
        for line in lines
    ]  # fmt: skip
    done = speak_each(jobs, "texts")
    o.emit_json(json_, {"spoken": done}, force=force)


def _plain(voice: Voice) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in dataclasses.asdict(voice).items()}


def read_lines(path: Path, folder: Path, voice: Voice) -> list[Line]:
    """The texts of ``--text-file``: a text a line, or (``.jsonl``) an object a line.

    Args:
        path: UTF-8 with or without BOM.
        folder: where the WAVs go, ``0001.wav`` of line 1 and so on (an empty line leaves its number out), or ``ID.wav`` where a line has an ``id``; a ``speaker_audio`` is found from the texts' own folder.
        voice: what a line says nothing of.

    Raises:
        DataError: it cannot be read, holds no text, or a line is not what it must be (its number is named).
    """
    try:
        # Not splitlines(): U+2028 and its kin may stand within a text, and within a JSON string.
        rows = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--text-file {path}: cannot be read as UTF-8 text: {error}") from None
    out: list[Line] = []
    for number, row in enumerate(rows, 1):
        if row.strip():
            name = f"{number:04d}"
            if path.suffix.lower() == ".jsonl":
                out.append(_line(row, f"--text-file {path}, line {number}", folder, name, voice, path.parent))
            else:
                out.append(Line(row, voice, str(folder / f"{name}.wav")))
    if not out:
        raise DataError(f"--text-file {path}: holds no text")
    seen: set[str] = set()
    for line in out:
        if line.output in seen:
            raise DataError(f"--text-file {path}: two lines become {Path(line.output).name}", hint="each needs an id of its own")  # fmt: skip
        seen.add(line.output)
    return out


def _line(row: str, where: str, folder: Path, name: str, voice: Voice, home: Path) -> Line:
    try:
        values = json.loads(row)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {error}") from None
    if not isinstance(values, Mapping):
        raise DataError(f"{where}: expected an object with text, got {type(values).__name__}")
    for key in values:
        if key not in _KEYS:
            raise DataError(f"{where}: unknown key {key!r}", hint=nearest(str(key), _KEYS))
    text, ident = values.get("text"), values.get("id", name)
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: text is {text!r}; it must say something")
    if not isinstance(ident, str) or not ident.isprintable() or set(ident) & set("/\\:") or ident[:1] in {"", "."}:
        raise DataError(f"{where}: id {ident!r} cannot be a file's name", hint="letters, digits, - and _")
    return Line(text, _voice(values, voice, where, home), str(folder / f"{ident}.wav"))


def _voice(values: Mapping[str, Any], voice: Voice, where: str, home: Path) -> Voice:
    kinds: dict[str, tuple[type, ...]] = {"speaker_audio": (str,), "language": (str,), "temperature": (int, float), "top_p": (int, float), "seed": (int,)}  # fmt: skip
    changes: dict[str, Any] = {}
    for key, kind in kinds.items():
        if key in values:
            value = values[key]
            if not isinstance(value, kind) or isinstance(value, bool):
                raise DataError(f"{where}: {key} is {value!r}; it must be {_KINDS[kind[-1]]}")
            changes[key] = home / str(value) if key == "speaker_audio" else value
    try:
        return dataclasses.replace(voice, **changes)
    except DataError:
        raise DataError(f"{where}: speaker_audio {changes['speaker_audio']}: no such file") from None
