"""Audio files in, 16-bit PCM out.

Conventions:
    Samples are float32 ``(L,)``, mono; integer formats are scaled so that full scale is 1. Sample rates are in Hz.
    soundfile and soxr are imported by the functions that need them: together they cost 0.2 s.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from calib.data.files import atomic_writer
from calib.errors import DataError, UsageError

__all__ = ["AUDIO_SUFFIXES", "Audio", "pcm16", "read_audio", "wav_header", "write_wav"]

# What libsndfile reads and corpora use. Suffixes are compared in lower case.
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64", ".rf64", ".sph")  # fmt: skip

_LOWEST_RATE, _HIGHEST_RATE = 1_000, 1_000_000  # Hz; outside, the header is damaged and resampling would fill memory
_BLOCK = 1 << 22  # frames read at once: a header that claims 2^63 frames must not allocate them


@dataclass(frozen=True)
class Audio:
    """One mono recording.

    Args:
        samples: float32 ``(L,)``. Integer files are within [-1, 1]; float files are as stored.
        sample_rate: Hz, of ``samples``.
        source_rate: Hz, of the file.
        channels: how many the file has, before the downmix.
        peak: largest absolute sample of the file over all channels, before downmix and resampling; 1 is full scale.
    """

    samples: np.ndarray
    sample_rate: int
    source_rate: int
    channels: int
    peak: float

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.sample_rate


def read_audio(path: str | Path, sample_rate: int | None = None) -> Audio:
    """Read an audio file as float32 mono; channels are averaged; resampled (soxr HQ) when the rate differs.

    Args:
        path: anything that libsndfile reads (WAV, FLAC, Ogg, Opus, MP3, AIFF, ...).
        sample_rate: wanted rate in Hz; None keeps the file's.

    Raises:
        DataError: missing, no audio, empty, cut short (detected for WAV and FLAC), or with NaN or infinite samples.
        UsageError: ``sample_rate`` is no rate.
    """
    path = Path(path)
    if sample_rate is not None and not _LOWEST_RATE <= sample_rate <= _HIGHEST_RATE:
        raise UsageError(f"a sample rate of {sample_rate} Hz cannot be resampled to")
    _check_file(path)
    data, rate = _decode(path)
    if len(data) == 0:
        raise DataError(f"{path}: holds zero samples")
    if not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
        raise DataError(f"{path}: states a sample rate of {rate} Hz, which no recording has")
    peak = float(np.max(np.abs(data)))
    if not np.isfinite(peak):
        count = int(np.count_nonzero(~np.isfinite(data)))
        raise DataError(f"{path}: {count} of {data.size} samples are NaN or infinite")
    channels = data.shape[1]
    mono = data[:, 0] if channels == 1 else data.mean(axis=1, dtype=np.float64).astype(np.float32)
    if sample_rate is not None and sample_rate != rate:
        import soxr

        mono = np.asarray(soxr.resample(mono, rate, sample_rate, quality="HQ"), dtype=np.float32)
        if len(mono) == 0:
            raise DataError(f"{path}: its {len(data)} samples at {rate} Hz leave none at {sample_rate} Hz")
    return Audio(np.ascontiguousarray(mono), sample_rate or rate, rate, channels, peak)


def _check_file(path: Path) -> None:
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = "no such file" if isinstance(error, FileNotFoundError) else getattr(error, "strerror", None) or error
        raise DataError(f"{path}: {reason}") from None
    if not path.is_file():  # a folder, or a pipe that would block for ever
        raise DataError(f"{path}: not a regular file")
    if size == 0:
        raise DataError(f"{path}: an empty file (0 bytes)")
    missing = _riff_shortfall(path, size)
    if missing:
        raise DataError(f"{path}: cut short: its header promises {missing} more bytes of audio than the file has")


def _riff_shortfall(path: Path, size: int) -> int:
    """Bytes that a RIFF/WAVE header promises beyond the end of the file: libsndfile reads such files silently."""
    try:
        with path.open("rb") as file:
            riff, _, wave = struct.unpack("<4sI4s", file.read(12))
            if (riff, wave) != (b"RIFF", b"WAVE"):
                return 0
            while len(header := file.read(8)) == 8:
                name, length = struct.unpack("<4sI", header)
                if name == b"data":
                    # Programs that write to a pipe cannot know the length and leave a placeholder.
                    return 0 if length >= 0x7FFFF000 else max(0, file.tell() + length - size)
                file.seek(length + length % 2, 1)
    except (OSError, struct.error):
        pass
    return 0


def _decode(path: Path) -> tuple[np.ndarray, int]:
    """All frames ``(L, channels)`` float32 and the rate in Hz."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            blocks = []
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                blocks.append(block)
            data = np.concatenate(blocks) if blocks else np.zeros((0, file.channels), np.float32)
            return data, int(file.samplerate)
    except soundfile.LibsndfileError as error:
        reason = str(error.error_string).strip().rstrip(".")
    except (RuntimeError, TypeError, ValueError, OSError) as error:  # TypeError: .raw, which needs parameters
        reason = str(error).rstrip(".")
    raise DataError(f"{path}: not an audio file that soundfile can read ({reason})")


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
