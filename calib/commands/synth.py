"""``calib synth``: text -> mel -> calibrated mel -> vocoder -> WAV. An inference that reads the two JSON files.

Data flow: text -> sentences -> model.generate -> MelScaler.calibrate -> vocoder -> samples, a sentence at a time.
"""

from __future__ import annotations

import re
import sys
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Annotated

import numpy as np
import typer

from calib.commands import options as o
from calib.commands.judge import check_identity, differing_fields, params_warnings
from calib.commands.plugins import LoadedModel, LoadedVocoder, ModelConfig, VocoderConfig, open_model, open_vocoder
from calib.commands.statsinput import doubts_of_unit, load_normalizer, statistics_of
from calib.console import terminal
from calib.data.audio import pcm16, wav_header, write_wav
from calib.data.files import ensure_writable
from calib.errors import DataError, UsageError
from calib.models.loading import call_plugin, checked_audio, checked_mel, parse_options
from calib.params import MelNormalizer, MelScaler

__all__ = ["Calibration", "SynthConfig", "Synthesizer", "Voice", "load_calibration"]

_LONGEST_SENTENCE = 300  # characters; longer ones are split at commas, then at spaces
_PAUSE_SECONDS = 0.15
_FADE_SECONDS = 0.005  # at each end of a sentence, so that joining them does not click

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True)
class SynthConfig:
    """What speaks; see the options of ``calib synth``."""

    model: ModelConfig = field(default_factory=ModelConfig)
    vocoder: VocoderConfig = field(default_factory=VocoderConfig)
    stats: Path | None = None
    params: Path | None = None


@dataclass(frozen=True)
class Voice:
    """How something is said; see the options of ``calib synth``.

    Raises:
        DataError: there is no such recording.
    """

    speaker_audio: Path | None = None
    language: str = "en"
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.speaker_audio is not None and not self.speaker_audio.is_file():
            raise DataError(f"--speaker-audio {self.speaker_audio}: no such file")


@dataclass(frozen=True)
class Calibration:
    """From the model's output to the raw mel: the scaler, the normaliser, or nothing.

    Args:
        scaler: from ``mel_scaling_params.json``, with its statistics; None without ``--params``.
        normalizer: from the statistics alone; used when the model's output is normalised and there is no scaler.
    """

    scaler: MelScaler | None = None
    normalizer: MelNormalizer | None = None

    def __call__(self, mel: np.ndarray) -> np.ndarray:
        """``(T, M)`` model output to raw mel, float32."""
        if self.scaler is not None:
            return np.asarray(self.scaler.calibrate(mel), dtype=np.float32)
        if self.normalizer is not None:
            return np.asarray(self.normalizer.denormalize(mel), dtype=np.float32)
        return mel

    def describe(self) -> str:
        """What is done to the mel, for people."""
        if self.scaler is not None:
            return f"calibrated: scale_factor {self.scaler.scale_factor:.5g}, offset {self.scaler.offset:.5g} ({self.scaler.verdict or 'no verdict in the file'})"
        return (
            f"denormalised with the statistics{', each bin by its own' if self.normalizer.per_bin else ''}"
            if self.normalizer is not None
            else "not calibrated (no --params): the mel goes to the vocoder as the model gives it"
        )


def load_calibration(params: Path | None, stats: Path | None, model: LoadedModel) -> Calibration:
    """Read the two JSON files and refuse those of another model or front end.

    Args:
        params: ``mel_scaling_params.json``, or None.
        stats: ``mel_normalization_stats.json``; None with ``params``: the one beside it, which is said.
        model: what will speak.

    Raises:
        ParamsError: a file cannot be used.
        DataError: made for another model, front end or statistics (the differing fields are listed).
        UsageError: no statistics where they are needed.
    """
    if params is not None:
        stats = statistics_of(params, stats)
    if stats is None:
        if model.model.output_space == "normalized":
            raise UsageError(
                f"the model {model.spec} gives normalised mels; they cannot be heard without the statistics",
                hint="give --stats FILE (no mean or sd is assumed)",
            )
        return Calibration()
    with params_warnings():
        normalizer = load_normalizer(stats)
        # First against the model: only there are the differing fields known.
        check_identity(
            "frontend_id",
            normalizer.frontend_id,
            model.frontend.id,
            str(stats),
            model.spec,
            differing_fields(normalizer, model.frontend),
        )
        if normalizer.frontend_id is None and (doubts := doubts_of_unit(normalizer, model.frontend)) is not None:
            terminal.warning(f"{stats}: {doubts}")
        # Parameters lie in the space of the two global values, whatever the system does by bin.
        scaler = None if params is None else MelScaler.load(params, replace(normalizer, per_bin=False))
    if scaler is None:
        if model.model.output_space == "raw":
            terminal.notice("--stats without --params: the model gives raw mels, so nothing is denormalised")
            return Calibration()
        return Calibration(normalizer=normalizer)
    check_identity("frontend_id", scaler.frontend_id, model.frontend.id, str(params), model.spec)
    check_identity("model_id", scaler.model_id, model.model_id, str(params), model.spec)
    _check_options(scaler, model, str(params))
    return Calibration(scaler=scaler)


def _check_options(scaler: MelScaler, model: LoadedModel, name: str) -> None:
    """The same weights with other options may give other mels (normalised ones, say): that is another model.

    Raises:
        DataError: the parameters were fitted on other options or another output space.
    """
    made_for = scaler.extra.get("model")
    if not isinstance(made_for, dict):
        return
    mine = {"options": dict(model.options), "output_space": model.model.output_space}
    if made_for != mine:
        listing = "; ".join(
            f"{key} {made_for.get(key)} there, {mine[key]} here" for key in mine if made_for.get(key) != mine[key]
        )
        options = " ".join(f"--model-option {key}={value}" for key, value in (made_for.get("options") or {}).items())
        raise DataError(
            f"{name} was fitted on the model with {listing}",
            hint=f"run the model as it was fitted: {options or 'without --model-option'}",
        )


class Synthesizer:
    """A model, a calibration and a vocoder, ready to speak.

    Args:
        config: what to load.

    Raises:
        UsageError, DataError, ParamsError, PluginError: see `open_model`, `load_calibration`, `open_vocoder`.
    """

    def __init__(self, config: SynthConfig) -> None:
        self.model = open_model(config.model)
        if not hasattr(self.model.model, "generate"):
            raise UsageError(
                f"the model {config.model.spec} has no generate(): it can be teacher-forced, but cannot speak"
            )
        self.calibration = load_calibration(config.params, config.stats, self.model)
        self.vocoder: LoadedVocoder = open_vocoder(config.vocoder, self.model.frontend)
        self.said: set[str] = set()

    def mel(self, sentence: str, voice: Voice) -> np.ndarray:
        """The raw mel of one sentence, ``(T, M)`` float32, after the calibration."""
        spec = self.model.spec
        mel = call_plugin(
            spec, self.model.model.generate, sentence,  # type: ignore[attr-defined]
            speaker_audio=voice.speaker_audio, language=voice.language, temperature=voice.temperature, top_p=voice.top_p, seed=voice.seed,
        )  # fmt: skip
        for notice in getattr(self.model.model, "notices", []):
            if notice not in self.said:
                self.said.add(notice)
                terminal.warning(notice)
        return self.calibration(checked_mel(spec, mel, self.model.frontend.n_mels))

    def speak(self, text: str, voice: Voice) -> Iterator[tuple[np.ndarray, int]]:
        """Samples ``(L,)`` in [-1, 1] and their rate in Hz, a sentence at a time.

        Raises:
            DataError: nothing to say.
        """
        sentences = split_sentences(text)
        if not sentences:
            raise DataError("nothing to say: the text is empty")
        for number, sentence in enumerate(sentences):
            mel = self.mel(sentence, voice)
            samples, rate = checked_audio(
                self.vocoder.spec, call_plugin(self.vocoder.spec, self.vocoder.vocoder.vocode, mel)
            )
            gain = getattr(self.vocoder.vocoder, "last_gain", 0.0)
            if gain:
                terminal.notice(f"the audio was beyond full scale and was turned down by {-gain:.1f} dB")
            elif np.abs(samples).max() > 1.0:
                terminal.warning(f"the vocoder's audio reaches {np.abs(samples).max():.2f} of full scale: clipped")
                samples = np.clip(samples, -1.0, 1.0)
            yield _joined(samples, rate, last=number == len(sentences) - 1), rate


def _joined(samples: np.ndarray, rate: int, *, last: bool) -> np.ndarray:
    """A sentence with short fades, and a pause after it unless it is the last."""
    out = samples.copy()
    n = min(int(_FADE_SECONDS * rate), out.size // 2)
    if n:
        ramp = np.linspace(0.0, 1.0, n, dtype=np.float32)
        out[:n] *= ramp
        out[-n:] *= ramp[::-1]
    return out if last else np.concatenate([out, np.zeros(int(_PAUSE_SECONDS * rate), dtype=np.float32)])


def split_sentences(text: str) -> list[str]:
    """Sentences by their closing marks (Latin, Arabic and Persian, Chinese), none longer than 300 characters.

    Example:
        >>> split_sentences("Hello. How are you? خوبی؟ بله.")
        ['Hello.', 'How are you?', 'خوبی؟', 'بله.']
    """
    parts = re.split(r"(?<=[.!?؟۔。！？…])\s+|\n+", text.strip())
    out: list[str] = []
    for part in parts:
        rest = " ".join(part.split())
        while len(rest) > _LONGEST_SENTENCE:
            window = rest[:_LONGEST_SENTENCE]
            cut = max((window.rfind(mark) for mark in (", ", "; ", "، ", "，")), default=-1)
            cut = cut + 1 if cut > 0 else window.rfind(" ")
            cut = cut if cut > 0 else _LONGEST_SENTENCE
            out.append(rest[:cut].strip())
            rest = rest[cut:].strip()
        if rest:
            out.append(rest)
    return out


class _WavStream:
    """A WAV whose length is not known when it begins: its header is written again at the end, where it can be."""

    def __init__(self, file: IO[bytes], rate: int) -> None:
        self.file, self.rate, self.bytes = file, rate, 0
        file.write(wav_header(rate, None))

    def write(self, samples: np.ndarray) -> None:
        data = pcm16(samples)
        self.file.write(data)
        self.file.flush()
        self.bytes += len(data)

    def close(self) -> None:
        if self.file.seekable():
            self.file.seek(0)
            self.file.write(wav_header(self.rate, self.bytes))


@dataclass(frozen=True)
class Spoken:
    """Figures of one utterance: durations in s, levels in dB of full scale."""

    seconds: float
    took: float
    first_audio: float
    peak_db: float
    rms_db: float

    def line(self) -> str:
        """For people."""
        return f"{self.seconds:.2f} s of audio in {self.took:.2f} s ({self.took / max(self.seconds, 1e-9):.2f} x real time, first audio after {self.first_audio:.2f} s); peak {self.peak_db:.1f} dBFS, RMS {self.rms_db:.1f} dBFS"


def say(synthesizer: Synthesizer, text: str, voice: Voice, output: str, *, stream: bool, force: bool) -> Spoken:
    """Speak ``text`` into a WAV file, or, with ``stream``, into a file or stdout (``-``) as it is made.

    Raises:
        UsageError: the file exists.
        DataError: nothing to say, or it cannot be written.
    """
    started = time.monotonic()
    first = 0.0
    parts: list[np.ndarray] = []
    rate = 0
    sink: _WavStream | None = None
    file: IO[bytes] | None = None
    try:
        for samples, rate in synthesizer.speak(text, voice):
            first = first or time.monotonic() - started
            parts.append(samples)
            if stream:
                if sink is None:
                    file = sys.stdout.buffer if output == "-" else Path(output).open("wb")  # noqa: SIM115 - it outlives the loop that opens it
                    sink = _WavStream(file, rate)
                sink.write(samples)
    finally:
        if sink is not None:
            if output != "-":
                sink.close()
            assert file is not None
            file.flush() if output == "-" else file.close()
    audio = np.concatenate(parts)
    if not stream:
        write_wav(Path(output), audio, rate, force=force)
    power = float(np.mean(audio.astype(np.float64) ** 2))
    return Spoken(
        audio.size / rate, time.monotonic() - started, first, _db(float(np.abs(audio).max())), _db(power**0.5)
    )


def _db(amplitude: float) -> float:
    return 20.0 * float(np.log10(max(amplitude, 1e-10)))


@app.command(
    help="Text to speech through both JSON files: text -> mel -> calibrated mel -> vocoder -> WAV. Files of another model or front end are refused."
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
        float, typer.Option("--temperature", help="Of what the model samples; 0 takes the likeliest.")
    ] = 1.0,
    top_p: Annotated[
        float, typer.Option("--top-p", help="Nucleus of what the model samples, above 0 and at most 1.")
    ] = 1.0,
    seed: o.Seed = 0,
    text_file: Annotated[
        Path | None,
        typer.Option(
            "--text-file", help="One text a line; each becomes a numbered WAV in the output folder.", show_default=False
        ),
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Write each sentence as soon as it is made.")] = False,
    stats: o.StatsFile = None,
    params: o.ParamsFile = None,
    model: o.ModelSpec = "reference",
    checkpoint: o.Checkpoint = None,
    model_option: o.ModelOption = None,
    vocoder: o.VocoderSpec = "griffin-lim",
    vocoder_checkpoint: o.VocoderCheckpoint = None,
    device: o.Device = "auto",
    use_gpu: Annotated[bool, typer.Option("--use-gpu", help="The same as --device cuda.")] = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Check everything that can be checked before the model runs, then speak."""
    o.set_level(quiet=quiet, verbose=verbose)
    if (text is None) == (text_file is None):
        raise UsageError("give --text or --text-file, and not both")
    if text is not None and not text.strip():
        raise UsageError("--text is empty: nothing to say")
    if text is not None and (script := _other_script(text, language)):
        terminal.warning(
            f"the text is in {script} letters and --language is {language}: it will be read by the wrong rules"
        )
    if output is None:
        raise UsageError("calib synth needs --output")
    if output == "-":
        if not stream:
            raise UsageError("--output - needs --stream")
        terminal.results_to_stderr = True
    if text_file is not None and stream:
        raise UsageError("--stream is for --text; --text-file makes one file a line")
    jobs = _jobs(text, text_file, output, force=force)
    device = "cuda" if use_gpu else device
    config = SynthConfig(
        ModelConfig(model, checkpoint, parse_options(model_option or []), device), VocoderConfig(vocoder, vocoder_checkpoint, {}, device), stats, params,
    )  # fmt: skip
    voice = Voice(speaker_audio, language, temperature, top_p, seed)
    synthesizer = Synthesizer(config)
    terminal.detail(
        f"model {model} ({synthesizer.model.model_id or 'identity unknown'}), front end {synthesizer.model.frontend.name}, vocoder {vocoder}"
    )
    terminal.detail(
        f"language {language}, temperature {temperature:g}, top-p {top_p:g}, seed {seed}, voice {speaker_audio or 'of the checkpoint'}"
    )
    terminal.notice(synthesizer.calibration.describe())
    for line, path in jobs:
        spoken = say(synthesizer, line, voice, path, stream=stream, force=force)
        terminal.result(f"written: {path}")
        terminal.notice(spoken.line())


# Letters by the first word of their Unicode name, and languages written in them.
_SCRIPTS = {
    "ARABIC": {"fa", "ar", "ur", "ps", "ku", "sd", "ug"},
    "CYRILLIC": {"ru", "uk", "bg", "sr", "mk", "be", "kk", "ky", "tt", "ba", "cv"},
    "DEVANAGARI": {"hi", "mr", "ne", "kok"},
}


def _other_script(text: str, language: str) -> str | None:
    """The script that most letters are in, where the language is not written in it."""
    letters = [unicodedata.name(c, "").partition(" ")[0] for c in text if c.isalpha()]
    for script, languages in _SCRIPTS.items():
        if letters and letters.count(script) > len(letters) / 2 and language.partition("-")[0] not in languages:
            return script.title()
    return None


def _jobs(text: str | None, text_file: Path | None, output: str, *, force: bool) -> list[tuple[str, str]]:
    """Texts with the files that they become, checked before any work is done."""
    if text is not None:
        if output != "-":
            ensure_writable(Path(output), force=force)
        return [(text, output)]
    assert text_file is not None
    try:
        lines = [line for line in text_file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--text-file {text_file}: cannot be read as UTF-8 text: {error}") from None
    if not lines:
        raise DataError(f"--text-file {text_file}: holds no text")
    jobs = [(line, str(Path(output) / f"{number:04d}.wav")) for number, line in enumerate(lines, 1)]
    for _, path in jobs:
        ensure_writable(Path(path), force=force)
    return jobs
