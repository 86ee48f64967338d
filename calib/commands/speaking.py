"""A model, a calibration and a vocoder that speak: text -> sentences -> mel -> calibrated mel -> audio -> WAV.

Data flow: a sentence at a time; with a stream, a piece of a sentence at a time (`calib.speech.chunks`).
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from calib.commands.calibration import Consumer, load_calibration, refuse_twice
from calib.commands.plugins import LoadedVocoder, ModelConfig, VocoderConfig, open_model, open_vocoder
from calib.console import terminal
from calib.data.audio import pcm16, wav_header, write_wav
from calib.errors import CalibError, DataError, RefusedError, UsageError
from calib.models.loading import call_plugin, checked_audio, checked_mel
from calib.speech.chunks import vocode_in_chunks
from calib.speech.level import Level, decibels, within_full_scale
from calib.speech.pace import pace_remarks
from calib.speech.text import says_something, split_sentences

__all__ = ["Job", "Spoken", "SynthConfig", "Synthesizer", "Voice", "say", "speak_each", "vocoded", "write_spoken"]

_PAUSE_SECONDS = 0.15
_SHOWN = 10  # failures that are listed
# dB that audio is turned down by. A mel of its own front end lies a few dB beyond full scale at most; digital audio has about
# 96 dB in all, of which speech uses half, so what lies 40 dB beyond it is no level of anything.
_LOUD, _ABSURD = 6.0, 40.0
_NO_SUCH_MEL = "calib diagnose PAIRS tells the unit of the mels, calib frontends identify their front end"
_FADE_SECONDS = 0.005  # at each end of a sentence, so that joining them does not click


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
        UsageError: an empty language.
    """

    speaker_audio: Path | None = None
    language: str = "en"
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.speaker_audio is not None and not self.speaker_audio.is_file():
            raise DataError(f"--speaker-audio {self.speaker_audio}: no such file")
        if not self.language.strip():  # an unset variable of a script; no language is assumed
            raise UsageError("the language is empty", hint="--language en, de, fa, ...")


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
        self.calibration = load_calibration(config.params, config.stats, Consumer.of(self.model))
        self.vocoder: LoadedVocoder = open_vocoder(config.vocoder, self.model.frontend)
        refuse_twice(self.vocoder.vocoder, self.calibration.scaler)
        self.said: set[str] = set()

    def mel(self, sentence: str, voice: Voice) -> np.ndarray:
        """The raw mel of one sentence, ``(T, M)`` float32, after the calibration."""
        mel = call_plugin(self.model.spec, self.model.model.generate, sentence, **_how(voice))  # type: ignore[attr-defined]
        self._notices()
        return self._calibrated(mel)

    def mels(self, sentence: str, voice: Voice) -> Iterator[np.ndarray]:
        """The same in parts, as the model makes them; in one part, where the model has no ``stream()``."""
        stream = getattr(self.model.model, "stream", None)
        if stream is None:
            yield self.mel(sentence, voice)
            return
        parts = iter(call_plugin(self.model.spec, stream, sentence, **_how(voice)))
        while (part := call_plugin(self.model.spec, next, parts, None)) is not None:
            yield self._calibrated(part)
        self._notices()

    def _calibrated(self, mel: Any) -> np.ndarray:
        return self.calibration(checked_mel(self.model.spec, mel, self.model.frontend.n_mels))

    def _notices(self) -> None:
        for notice in getattr(self.model.model, "notices", []):
            if notice not in self.said:
                self.said.add(notice)
                terminal.warning(notice)

    def vocode(self, mel: np.ndarray) -> tuple[np.ndarray, int]:
        """A mel to audio ``(L,)`` and its rate in Hz; what lies beyond full scale is still there."""
        return vocoded(self.vocoder, mel)

    def speak(self, text: str, voice: Voice, *, stream: bool = False) -> Iterator[tuple[np.ndarray, int]]:
        """Samples ``(L,)`` and their rate in Hz, a sentence or (``stream``) a piece of one at a time.

        Full scale is 1, and samples may lie beyond it: one gain for all of them is the caller's (`calib.speech.level`).

        Raises:
            DataError: nothing to say.
        """
        sentences = split_sentences(text, voice.language)
        if not sentences:
            raise DataError("nothing to say: the text is empty")
        # Marks alone ("...") have no phonemes, which must not cost the sentences around them.
        sentences = [sentence for sentence in sentences if says_something(sentence)] or sentences[:1]
        hop = self.vocoder.frontend.hop_length / self.vocoder.frontend.sample_rate
        for number, sentence in enumerate(sentences):
            pieces = vocode_in_chunks(self.vocode, self.mels(sentence, voice), hop) if stream else iter([self.vocode(self.mel(sentence, voice))])  # fmt: skip
            yield from _faded(pieces, pause=number < len(sentences) - 1)


def vocoded(vocoder: LoadedVocoder, mel: np.ndarray) -> tuple[np.ndarray, int]:
    """A raw mel ``(T, M)`` to audio ``(L,)`` and its rate in Hz; what lies beyond full scale is still there.

    Raises:
        PluginError: the vocoder failed.
    """
    samples, rate = checked_audio(vocoder.spec, call_plugin(vocoder.spec, vocoder.vocoder.vocode, mel))
    gain = getattr(vocoder.vocoder, "last_gain", 0.0)  # Griffin-Lim turns each mel down by itself
    return (samples * np.float32(10.0 ** (-gain / 20.0)) if gain else samples), rate


def write_spoken(
    output: Path, samples: np.ndarray, rate: int, started: float, *, force: bool, first: float = 0.0, any_level: bool = False
) -> Spoken:  # fmt: skip
    """Write audio ``(L,)`` as one WAV within full scale; its figures.

    Args:
        output: the file; its folders are made.
        samples: of any level.
        rate: in Hz.
        started: `time.monotonic` when the work began.
        force: overwrite.
        first: s until the first sound was there; 0: until now.
        any_level: write also what lies farther beyond full scale than anything sounds.

    Raises:
        UsageError: the file exists.
        DataError: it cannot be written.
        RefusedError: more than 40 dB beyond full scale, and not ``any_level``.
    """
    audio, gain = within_full_scale(samples)
    _refuse_absurd(gain, any_level=any_level)
    write_wav(output, audio, rate, force=force)
    meter = _Meter()
    meter.add(audio)
    took = time.monotonic() - started
    return meter.spoken(rate, took, first or took, gain)


def _refuse_absurd(gain: float, *, any_level: bool) -> None:
    if -gain > _ABSURD and not any_level:
        raise RefusedError(
            f"the audio lies {-gain:.1f} dB beyond full scale, and no mel of this front end does that: the mel is in another unit, or not denormalised; nothing was written",
            hint=f"{_NO_SUCH_MEL}; --any-level writes it turned down",
        )


def _how(voice: Voice) -> dict[str, Any]:
    return {"speaker_audio": voice.speaker_audio, "language": voice.language, "temperature": voice.temperature, "top_p": voice.top_p, "seed": voice.seed}  # fmt: skip


def _faded(pieces: Iterator[tuple[np.ndarray, int]], *, pause: bool) -> Iterator[tuple[np.ndarray, int]]:
    """One sentence with short fades at its ends, and a pause after it where another follows."""
    rate, held, first = 0, np.zeros(0, dtype=np.float32), True
    for samples, rate in pieces:
        if not first:
            yield held, rate
        held = samples.copy()
        if first:
            n = min(int(_FADE_SECONDS * rate), held.size // 2)
            held[:n] *= np.linspace(0.0, 1.0, n, dtype=np.float32)
            first = False
    n = min(int(_FADE_SECONDS * rate), held.size // 2)
    if n:
        held[-n:] *= np.linspace(1.0, 0.0, n, dtype=np.float32)
    yield (np.concatenate([held, np.zeros(int(_PAUSE_SECONDS * rate), dtype=np.float32)]) if pause else held), rate


@dataclass(frozen=True)
class Spoken:
    """Figures of one text.

    Args:
        seconds: of audio.
        took: s that it took.
        first_audio: s until the first piece was there (with a stream: written).
        peak_db: loudest sample, dB of full scale.
        rms_db: level, dB of full scale.
        gain_db: what it was turned down by, in dB, because it lay beyond full scale; 0: it did not.
        remarks: what makes it implausible, besides its level; a sentence each.
    """

    seconds: float
    took: float
    first_audio: float
    peak_db: float
    rms_db: float
    gain_db: float = 0.0
    remarks: tuple[str, ...] = ()

    @property
    def real_time_factor(self) -> float:
        """Work for 1 s of audio, in s."""
        return self.took / max(self.seconds, 1e-9)

    def line(self) -> str:
        """For people."""
        turned = f", turned down by {-self.gain_db:.1f} dB to stay within full scale" if self.gain_db else ""
        return f"{self.seconds:.2f} s of audio in {self.took:.2f} s ({self.real_time_factor:.2f} x real time, first audio after {self.first_audio:.2f} s); peak {self.peak_db:.1f} dBFS, RMS {self.rms_db:.1f} dBFS{turned}"

    def warnings(self) -> list[str]:
        """What makes it implausible; a sentence each."""
        loud = f"turned down by {-self.gain_db:.1f} dB: hardly a mel of this front end (another unit, not denormalised, or parameters of another model); {_NO_SUCH_MEL}"
        return [*([loud] if -self.gain_db > _LOUD else []), *self.remarks]

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "seconds": round(self.seconds, 4),
            "took_seconds": round(self.took, 4),
            "real_time_factor": round(self.real_time_factor, 4),
            "first_audio_seconds": round(self.first_audio, 4),
            "peak_dbfs": round(self.peak_db, 2),
            "rms_dbfs": round(self.rms_db, 2),
            "gain_db": round(self.gain_db, 2),
            "warnings": self.warnings(),
        }


@dataclass(frozen=True)
class Job:
    """One WAV of several.

    Args:
        name: for messages.
        output: where it goes.
        row: what stands beside the figures in the JSON.
        speak: makes and writes it.
    """

    name: str
    output: str
    row: Mapping[str, Any]
    speak: Callable[[], Spoken]


def speak_each(jobs: Sequence[Job], things: str) -> list[dict[str, Any]]:
    """Every job; one that fails does not lose the others.

    Args:
        jobs: in order.
        things: what they are, in the plural.

    Returns:
        A row a job that was written: ``output``, its own ``row``, the figures of `Spoken`.

    Raises:
        CalibError: the only job failed.
        DataError: of several jobs some failed, with the reasons; all others are written.
    """
    done: list[dict[str, Any]] = []
    failed: list[str] = []
    for job in jobs:
        try:
            spoken = job.speak()
        except CalibError as error:
            if len(jobs) == 1:
                raise
            failed.append(f"{job.name}: {error.message}")
            terminal.warning(f"no WAV: {failed[-1]}")
            continue
        done.append({"output": job.output, **job.row, **spoken.to_json()})
        terminal.result(f"written: {job.output}")
        terminal.notice(spoken.line())
        for said in spoken.warnings():
            terminal.warning(said if len(jobs) == 1 else f"{job.name}: {said}")
    if len(done) > 1:
        audio, took = (sum(row[key] for row in done) for key in ("seconds", "took_seconds"))
        terminal.notice(
            f"{len(done)} {things}, {audio:.1f} s of audio in {took:.1f} s ({took / audio:.2f} x real time)"
        )
    if failed:
        more = f"\n  ... and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        listing = "\n  ".join(failed[:_SHOWN])
        raise DataError(f"{len(failed)} of {len(jobs)} {things} could not be made audio:\n  {listing}{more}")
    return done


class _WavStream:
    """A WAV whose length is not known when it begins: its header is written again at the end, where it can be."""

    def __init__(self, output: str, rate: int) -> None:
        self.file: IO[bytes] = sys.stdout.buffer if output == "-" else Path(output).open("wb")  # noqa: SIM115 - closed by `close`
        self.output, self.rate, self.bytes, self.own = output, rate, 0, output != "-"
        self.file.write(wav_header(rate, None))

    def write(self, samples: np.ndarray) -> None:
        data = pcm16(samples)
        self.file.write(data)
        self.file.flush()
        self.bytes += len(data)

    def discard(self) -> None:
        """It was not finished: half a text is no result, and would stand in the way of the next run."""
        if self.own:
            self.file.close()
            if Path(self.output).is_file():  # and no pipe
                Path(self.output).unlink()

    def close(self) -> None:
        if self.own:
            if self.file.seekable():
                self.file.seek(0)
                self.file.write(wav_header(self.rate, self.bytes))
            self.file.close()
        else:
            self.file.flush()


def say(
    synthesizer: Synthesizer, text: str, voice: Voice, output: str, *, stream: bool, force: bool, any_level: bool = False
) -> Spoken:  # fmt: skip
    """Speak ``text`` into a WAV file, or, with ``stream``, into a file or stdout (``-``) as it is made.

    Raises:
        UsageError: the file exists.
        DataError: nothing to say, or it cannot be written.
        RefusedError: more than 40 dB beyond full scale, and not ``any_level``.
    """
    started = time.monotonic()
    if stream:
        spoken = _streamed(synthesizer, text, voice, output, _Meter(), started, any_level=any_level)
        return replace(spoken, remarks=tuple(pace_remarks(text, spoken.seconds)))
    parts, first = [], 0.0
    for samples, rate in synthesizer.speak(text, voice):  # noqa: B007 - the rate is used after the loop
        first = first or time.monotonic() - started
        parts.append(samples)
    spoken = write_spoken(Path(output), np.concatenate(parts), rate, started, force=force, first=first, any_level=any_level)  # fmt: skip
    return replace(spoken, remarks=tuple(pace_remarks(text, spoken.seconds)))


def _streamed(
    synthesizer: Synthesizer, text: str, voice: Voice, output: str, meter: _Meter, started: float, *, any_level: bool
) -> Spoken:
    sink: _WavStream | None = None
    level = Level()
    first = 0.0
    try:
        for samples, rate in synthesizer.speak(text, voice, stream=True):
            block = level(samples)
            _refuse_absurd(decibels(level.gain), any_level=any_level)
            sink = sink or _WavStream(output, rate)
            sink.write(block)
            first = first or time.monotonic() - started
            meter.add(block)
        assert sink is not None
        sink.close()
    except BaseException as error:
        if sink is not None:
            with contextlib.suppress(OSError):
                sink.discard()
        if isinstance(error, BrokenPipeError):
            raise DataError("whoever read the audio has closed the pipe") from None
        if isinstance(error, OSError):
            raise DataError(f"{output}: cannot be written: {error.strerror or error}") from None
        raise
    return meter.spoken(sink.rate, time.monotonic() - started, first, decibels(level.gain) if level.gain < 1 else 0.0)


class _Meter:
    """Length, peak and power of what was written."""

    def __init__(self) -> None:
        self.samples, self.peak, self.power = 0, 0.0, 0.0

    def add(self, audio: np.ndarray) -> None:
        self.samples += audio.size
        self.peak = max(self.peak, float(np.abs(audio).max(initial=0.0)))
        self.power += float(np.square(audio, dtype=np.float64).sum())

    def spoken(self, rate: int, took: float, first: float, gain: float) -> Spoken:
        rms = (self.power / max(self.samples, 1)) ** 0.5
        return Spoken(self.samples / rate, took, first, decibels(self.peak), decibels(rms), gain)
