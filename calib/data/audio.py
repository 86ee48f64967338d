"""Audio in, from a file or from inside a shard; 16-bit PCM out.

Conventions:
    Samples are float32 ``(L,)``, mono; integer formats are scaled so that full scale is 1. Sample rates are in Hz.
    Several channels are averaged (the mean in float64, rounded once to float32), up to eight of them.
    soundfile and soxr are imported by the functions that need them: together they cost 0.2 s.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from calib.data.clip import Clip, Place, opened, reason_of
from calib.data.files import atomic_writer
from calib.data.integrity import content_name, least_frames, misnamed, shortfall
from calib.data.wav import find_wave, pcm16_floats, samples
from calib.errors import DataError, UsageError

__all__ = ["AUDIO_SUFFIXES", "Audio", "audio_file", "audio_seconds", "pcm16", "read_audio", "read_channels", "resample", "wav_header", "write_wav"]  # fmt: skip

# What libsndfile reads and corpora use. Suffixes are compared in lower case.
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64", ".rf64", ".sph")  # fmt: skip

_LOWEST_RATE, _HIGHEST_RATE = 1_000, 1_000_000  # Hz; outside, the header is damaged and resampling would fill memory
_WHOLE = 1 << 25  # bytes; what is not larger is read at once: one system call in place of a dozen
_BLOCK = 1 << 22  # frames read at once: a header that claims 2^63 frames must not allocate them
_MOST = 1 << 28  # samples of one utterance over all channels: 1 GiB as float32, 3.4 h of 22,050 Hz mono
_MOST_CHANNELS = 8  # more are a session, not a recording of a voice
_UNKNOWN = 1 << 60  # frames; libsndfile's way to say that a stream does not state its length
_OVERSHOOT = 0.05  # s by which a stated segment may end after its recording: indexes are rounded


@dataclass(frozen=True)
class Audio:
    """One mono recording.

    Args:
        samples: float32 ``(L,)``. Integer files are within [-1, 1]; float files are as stored. Where it was asked for,
            the file's own int16.
        sample_rate: Hz, of ``samples``.
        source_rate: Hz, of the file.
        channels: how many were averaged: those of the file, or 1 where one was picked.
        peak: largest absolute sample of the file over all channels, before downmix and resampling; 1 is full scale.
        notes: what is unusual and was read nevertheless, without the file's name: "FLAC data in a file named .wav".
        seen: what ``look`` gave.
    """

    samples: np.ndarray
    sample_rate: int
    source_rate: int
    channels: int
    peak: float
    notes: tuple[str, ...] = ()
    seen: Any = None

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.sample_rate


def read_audio(
    place: str | Place,
    sample_rate: int | None = None,
    *,
    integers: bool = False,
    look: Callable[[np.ndarray, int, float, float], Any] | None = None,
) -> Audio:
    """Read a recording as float32 mono; channels are averaged; resampled (soxr HQ) when the rate differs.

    Args:
        place: a file that libsndfile reads (WAV, FLAC, Ogg, Opus, MP3, AIFF, ...), or a clip inside something.
        sample_rate: wanted rate in Hz; None keeps the file's.
        integers: 16-bit WAV with one channel that needs no resampling stays int16.
        look: is shown the samples as stored, before downmix and resampling: ``(L, channels)`` float32 (with
            ``integers`` perhaps int16), the file's rate in Hz, the smallest and the largest sample (1 is full scale).

    Raises:
        DataError: missing, no audio, empty, cut short (see :mod:`calib.data.integrity`), NaN or infinite samples, more
            than 8 channels, more than 2^28 samples, or a segment outside its recording.
        UsageError: ``sample_rate`` is no rate.
    """
    place = Path(place) if isinstance(place, str) else place
    if sample_rate is not None and not _LOWEST_RATE <= sample_rate <= _HIGHEST_RATE:
        raise UsageError(f"a sample rate of {sample_rate} Hz cannot be resampled to")
    with _opened(place) as (file, size):
        data, rate, notes = _decode(file, size, place, integers=integers)
    if len(data) == 0:
        raise DataError(f"{place}: holds zero samples")
    low, high, stored = float(data.min()), float(data.max()), data
    if data.dtype == np.int16:
        low, high = low / 32768.0, high / 32768.0
        if data.shape[1] > 1 or sample_rate not in {None, rate}:
            data = pcm16_floats(data)
    peak = max(high, -low)
    if not math.isfinite(peak):
        count = int(np.count_nonzero(~np.isfinite(data)))
        raise DataError(f"{place}: {count} of {data.size} samples are NaN or infinite")
    channels = data.shape[1]
    if channels == 1:
        mono = data[:, 0]
    else:
        mono = data.mean(axis=1, dtype=np.float64).astype(np.float32)
        notes = (*notes, f"{channels} channels averaged")
    if sample_rate is not None and sample_rate != rate:
        mono = resample(mono, rate, sample_rate)
        if len(mono) == 0:
            raise DataError(f"{place}: its {len(data)} samples at {rate} Hz leave none at {sample_rate} Hz")
    seen = None if look is None else look(stored, rate, low, high)
    return Audio(np.ascontiguousarray(mono), sample_rate or rate, rate, channels, peak, notes, seen)


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """``(L,)`` at another rate in Hz, float32 (soxr HQ); the samples themselves where it is the same."""
    if rate == wanted:
        return samples
    import soxr

    return np.asarray(soxr.resample(samples, rate, wanted, quality="HQ"), dtype=np.float32)


def read_channels(place: str | Place) -> np.ndarray:
    """All channels as they are stored, ``(L, channels)`` float32; NaN and infinity are not refused.

    Raises:
        DataError: as :func:`read_audio`.
    """
    place = Path(place) if isinstance(place, str) else place
    with _opened(place) as (file, size):
        return _decode(file, size, place)[0]


@contextlib.contextmanager
def audio_file(place: Place) -> Iterator[Path]:
    """A file with the recording, for programs that take files: itself, or a temporary 16-bit WAV of the clip.

    Raises:
        DataError: as :func:`read_audio`.
    """
    if isinstance(place, Path):
        yield place
        return
    audio = read_audio(place)
    with tempfile.TemporaryDirectory(prefix="calib-") as folder:
        path = Path(folder) / "clip.wav"
        write_wav(path, audio.samples, audio.sample_rate)
        yield path


def audio_seconds(place: str | Place) -> float:
    """Duration in s as the header states it, without decoding.

    Raises:
        DataError: missing, or no audio.
    """
    place = Path(place) if isinstance(place, str) else place
    if isinstance(place, Clip) and place.duration is not None:
        return place.duration
    with _opened(place) as (file, size):
        wave = find_wave(file, size)
        if wave is not None and wave.plain and wave.rate:
            seconds = wave.frames / wave.rate
        else:
            with _soundfile(file, place) as sound:
                seconds = sound.frames / sound.samplerate if sound.frames < _UNKNOWN else math.nan
    return seconds - (place.start if isinstance(place, Clip) else 0.0)


@contextlib.contextmanager
def _opened(place: Place) -> Iterator[tuple[IO[bytes], int]]:
    """The place's bytes as a file, and how many; never a pipe, which would block for ever."""
    if isinstance(place, Clip):
        with opened(place) as (file, size):
            if size == 0:
                raise DataError(f"{place}: an empty file (0 bytes)")
            yield file, size
        return
    try:
        status = os.stat(place)  # noqa: PTH116 - once a recording, and pathlib doubles its time
        if not stat.S_ISREG(status.st_mode):
            what = "a folder, not an audio file" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise DataError(f"{place}: {what}")
        if status.st_size == 0:
            raise DataError(f"{place}: an empty file (0 bytes)")
        if status.st_size <= _WHOLE:
            with place.open("rb", buffering=0) as raw:
                data = raw.read(status.st_size) or b""
            yield io.BytesIO(data), len(data)
        else:
            with place.open("rb") as file:
                yield file, status.st_size
    except OSError as error:
        if isinstance(error, FileNotFoundError) and place.is_symlink():
            raise DataError(f"{place}: a link to {os.readlink(place)}, which does not exist") from None  # noqa: PTH115 - the text as it is
        raise DataError(f"{place}: {reason_of(error)}") from None
    except ValueError as error:  # a NUL byte in the name
        raise DataError(f"{place}: {error}") from None


class _Span(NamedTuple):
    """Frames of a recording: the first, and how many."""

    first: int
    frames: int


def _decode(
    file: IO[bytes], size: int, place: Place, *, integers: bool = False
) -> tuple[np.ndarray, int, tuple[str, ...]]:
    """The frames that are asked for, ``(L, channels)`` float32 (or int16, see `read_audio`), the rate in Hz, and what is unusual."""
    file.seek(0)
    content = content_name(file.read(16))
    wave = find_wave(file, size) if content == "WAV" else None
    if wave is not None and wave.missing:
        raise DataError(f"{place}: cut short: its header promises {wave.missing} more bytes of audio than the file has")
    if reason := shortfall(content, file, size):
        raise DataError(f"{place}: cut short: {reason}")
    odd = misnamed(place.name, content)
    notes = (odd,) if odd else ()
    if wave is not None and wave.plain:
        _check(place, wave.rate, wave.channels)
        span = _span(place, wave.frames, wave.rate)
        _check_size(place, span.frames, wave.channels, wave.rate)
        data = samples(file, wave, span.first, span.frames, integers=integers)
        return _one_channel(data, place), wave.rate, notes
    least = least_frames(content, file, size)
    file.seek(0)
    with _soundfile(file, place) as sound:
        rate, channels, frames = int(sound.samplerate), int(sound.channels), int(sound.frames)
        _check(place, rate, channels)
        known = frames < _UNKNOWN
        span = _span(place, frames, rate) if known else _Span(0, _UNKNOWN)
        if known:
            _check_size(place, span.frames, channels, rate)
        if span.first:
            sound.seek(span.first)
        blocks, got = [], 0
        while got < span.frames and len(
            block := sound.read(min(_BLOCK, span.frames - got), dtype="float32", always_2d=True)
        ):
            blocks.append(block)
            got += len(block)
            _check_size(place, got, channels, rate)
    if least is not None and span.frames == frames and got < least:
        raise DataError(
            f"{place}: an MP3 of variable bit rate without a header: libsndfile finds {got / rate:.2f} s of {least / rate:.2f} s or more",
            hint="ffmpeg -i IN.mp3 -c copy OUT.mp3 writes the header",
        )
    if known and least is None and got < span.frames:
        raise DataError(f"{place}: cut short or damaged: it states {span.frames} samples, {got} could be decoded")
    data = np.concatenate(blocks) if blocks else np.zeros((0, channels), np.float32)
    return _one_channel(data, place), rate, notes


@contextlib.contextmanager
def _soundfile(file: IO[bytes], place: Place) -> Iterator[Any]:
    """The open file in libsndfile's hands; its errors, while it is used, become DataErrors."""
    import soundfile

    file.seek(0)
    try:
        with soundfile.SoundFile(file) as sound:
            yield sound
    except soundfile.LibsndfileError as error:
        reason = str(error.error_string).strip().rstrip(".") or "the decoder lost the stream: cut short or damaged"
        raise _not_audio(place, reason) from None
    except (RuntimeError, TypeError, ValueError, OSError) as error:  # TypeError: .raw, which needs parameters
        raise _not_audio(place, str(error).rstrip(".")) from None


def _not_audio(place: Place, reason: str) -> DataError:
    return DataError(f"{place}: not an audio file that soundfile can read ({reason})")


def _check(place: Place, rate: int, channels: int) -> None:
    if not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
        raise DataError(f"{place}: states a sample rate of {rate} Hz, which no recording has")
    if channels > _MOST_CHANNELS and (not isinstance(place, Clip) or place.channel is None):
        raise DataError(f"{place}: has {channels} channels; calib averages up to {_MOST_CHANNELS}")


def _check_size(place: Place, frames: int, channels: int, rate: int) -> None:
    if frames * channels > _MOST:
        hours = f"{frames / rate / 3600:.1f} h of audio" + (f" in {channels} channels" if channels > 1 else "")
        raise DataError(
            f"{place}: {hours} in one utterance; calib reads up to {_MOST} samples at once ({_MOST / channels / rate / 3600:.1f} h here)",
            hint="cut it into utterances, or name its segments (start and duration) in the index",
        )


def _span(place: Place, frames: int, rate: int) -> _Span:
    """The frames of a segment.

    Raises:
        DataError: it begins or ends outside the recording.
    """
    if not isinstance(place, Clip) or (not place.start and place.duration is None):
        return _Span(0, frames)
    first = round(place.start * rate)
    last = frames if place.duration is None else round((place.start + place.duration) * rate)
    if abs(last - frames) <= rate // 1000:  # an index states milliseconds
        last = frames
    if first >= frames or last > frames + round(_OVERSHOOT * rate) or first < 0:
        raise DataError(f"{place}: outside its recording, which has {frames / rate:.3f} s")
    return _Span(first, max(0, min(last, frames) - first))


def _one_channel(data: np.ndarray, place: Place) -> np.ndarray:
    wanted = place.channel if isinstance(place, Clip) else None
    if wanted is None:
        return data
    if not 0 <= wanted < data.shape[1]:
        raise DataError(f"{place}: has {data.shape[1]} channel{'s' * (data.shape[1] != 1)}, counted from 0")
    return data[:, wanted : wanted + 1]


def write_wav(target: str | Path | IO[bytes], samples: np.ndarray, sample_rate: int, *, force: bool = False) -> None:
    """Write 16-bit PCM mono. Equal samples give equal bytes; a path is written atomically.

    A sample x becomes round(32768 x), so that 16-bit audio read by :func:`read_audio` is written back exactly. What
    lies outside [-1, 1] saturates (it never wraps), but the level is the caller's business.

    Args:
        target: a path, or a binary file object (which need not be seekable).
        samples: ``(L,)``, full scale 1.
        sample_rate: Hz.
        force: overwrite an existing file.

    Raises:
        DataError: ``samples`` is not one-dimensional, or holds NaN or infinity; nothing is written.
        UsageError: the file exists and ``force`` is false.
    """
    values = np.asarray(samples)
    where = f"{target}: " if isinstance(target, (str, Path)) else ""
    if values.ndim != 1:
        raise DataError(f"{where}audio to write has shape {values.shape}; it must be (L,)")
    if not np.isfinite(values).all():
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise DataError(f"{where}not written: {bad} of {len(values)} samples are NaN or infinite")
    pcm = pcm16(values)
    if len(pcm) > 0xFFFFFFFF - 36:
        raise DataError(f"{where}{len(values)} samples do not fit in a WAV file")
    header = wav_header(sample_rate, len(pcm))
    if isinstance(target, (str, Path)):
        with atomic_writer(Path(target), force=force) as file:
            _put(file, header, pcm)
    else:
        _put(target, header, pcm)


def pcm16(samples: np.ndarray) -> bytes:
    """Samples ``(L,)`` as little-endian 16-bit PCM; what lies outside [-1, 1] saturates."""
    return np.clip(np.rint(samples.astype(np.float64) * 32768), -32768, 32767).astype("<i2").tobytes()


def wav_header(sample_rate: int, size: int | None) -> bytes:
    """The 44 bytes before mono 16-bit PCM of ``size`` bytes; None: "as long as it comes"."""
    whole, data = (0xFFFFFFFF, 0xFFFFFFFF) if size is None else (36 + size, size)
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", whole, b"WAVE", b"fmt ", 16, 1, 1, sample_rate, sample_rate * 2, 2, 16, b"data", data)  # fmt: skip


def _put(file: IO[Any], header: bytes, pcm: bytes) -> None:
    file.write(header)
    file.write(pcm)
