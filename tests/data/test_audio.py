"""Audio in and out: what is read, what is refused and why."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from calib.data.audio import read_audio, write_wav
from calib.errors import DataError, UsageError

RATE = 16_000


def tone(seconds: float = 0.5, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_sixteen_bit_audio_survives_a_round_trip_exactly(tmp_path: Path) -> None:
    first, second = tmp_path / "a.wav", tmp_path / "b.wav"
    write_wav(first, tone(), RATE)
    audio = read_audio(first)
    write_wav(second, audio.samples, RATE)
    assert audio.samples.dtype == np.float32
    assert audio.sample_rate == audio.source_rate == RATE
    assert audio.seconds == pytest.approx(0.5)
    assert first.read_bytes() == second.read_bytes()
    assert np.max(np.abs(audio.samples - tone())) <= 0.5 / 32768 + 1e-7


def test_a_written_wav_is_what_soundfile_reads(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.array([0.0, 1.0, -1.0, 2.0, -2.0]), 22_050)
    data, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert rate == 22_050
    assert data.tolist() == [0, 32767, -32768, 32767, -32768]  # saturated, never wrapped


def test_writing_to_a_file_object_gives_the_bytes_of_the_file(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    write_wav(buffer, tone(), RATE)
    write_wav(tmp_path / "a.wav", tone(), RATE)
    assert buffer.getvalue() == (tmp_path / "a.wav").read_bytes()


def test_an_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, tone(), RATE)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="exists"):
        write_wav(path, tone(0.1), RATE)
    assert path.read_bytes() == before
    write_wav(path, tone(0.1), RATE, force=True)
    assert path.read_bytes() != before


@pytest.mark.parametrize("bad", [np.array([0.0, np.nan]), np.array([np.inf]), np.zeros((2, 2))])
def test_what_is_no_finite_signal_is_not_written(tmp_path: Path, bad: np.ndarray) -> None:
    with pytest.raises(DataError):
        write_wav(tmp_path / "a.wav", bad, RATE)
    assert not list(tmp_path.iterdir())


def test_channels_are_averaged_and_the_peak_is_that_of_the_file(tmp_path: Path) -> None:
    stereo = np.stack([np.full(100, 0.5), np.full(100, -0.25)], axis=1)
    soundfile.write(tmp_path / "s.wav", stereo, RATE, subtype="FLOAT")
    audio = read_audio(tmp_path / "s.wav")
    assert audio.channels == 2
    assert audio.peak == pytest.approx(0.5)
    np.testing.assert_allclose(audio.samples, 0.125)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_sample_format_has_the_same_scale(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE, subtype=subtype)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav").samples, tone(), atol=1 / 64)


def test_resampling_keeps_the_tone_and_the_duration(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tone(1.0), RATE)
    audio = read_audio(tmp_path / "a.wav", 22_050)
    assert (audio.sample_rate, audio.source_rate, len(audio.samples)) == (22_050, RATE, 22_050)
    inner = slice(2_000, 20_000)
    np.testing.assert_allclose(audio.samples[inner], tone(1.0, 22_050)[inner], atol=1e-3)


def test_a_persian_file_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / "سلام دنیا.wav"
    write_wav(path, tone(), RATE)
    assert len(read_audio(path).samples) == RATE // 2


def test_text_renamed_to_wav_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "notes.wav"
    path.write_text("this is no audio\n" * 50)
    with pytest.raises(DataError, match="not an audio file that soundfile can read"):
        read_audio(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(DataError, match="empty file"):
        read_audio(tmp_path / "a.wav")


def test_zero_samples_are_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(0), RATE)
    with pytest.raises(DataError, match="zero samples"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * RATE)
    soundfile.write(path, noise, RATE)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"cut short|not an audio file"):
        read_audio(path)


def test_a_wav_streamed_without_a_known_length_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, tone(), RATE)
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"  # what ffmpeg writes to a pipe
    path.write_bytes(bytes(data))
    assert len(read_audio(path).samples) == RATE // 2


def test_non_finite_samples_are_refused_and_counted(tmp_path: Path) -> None:
    samples = tone()
    samples[[3, 5]] = np.nan, np.inf
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(DataError, match="2 of 8000 samples"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["missing.wav", "", "nul\0.wav", "x" * 5000 + ".wav"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError):
        read_audio(tmp_path / name)


def test_raw_samples_without_a_header_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(1000))
    with pytest.raises(DataError, match="not an audio file"):
        read_audio(tmp_path / "a.raw")


def test_an_absurd_sample_rate_is_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tone(), 1)
    with pytest.raises(DataError, match="1 Hz"):
        read_audio(tmp_path / "a.wav", 22_050)


def test_real_speech_is_read(ljspeech: Path) -> None:
    audio = read_audio(ljspeech / "wavs" / "LJ001-0002.wav")
    assert audio.source_rate == 22_050
    assert 1 < audio.seconds < 3
    assert 0.01 < audio.peak <= 1
