"""Audio in and out: what is read, what is refused and why."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from calib.data.audio import audio_seconds, read_audio, read_channels, wav_header, write_wav
from calib.data.clip import Clip
from calib.data.integrity import _mp3_frame
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


def test_integers_stay_integers_where_they_need_no_other_work(tmp_path: Path) -> None:
    """And say the same as their float32 in every respect."""
    x = tone() - 0.2  # the peak is a negative one
    write_wav(tmp_path / "a.wav", x, RATE)
    floats, integers = read_audio(tmp_path / "a.wav"), read_audio(tmp_path / "a.wav", RATE, integers=True)
    assert integers.samples.dtype == np.int16
    assert np.array_equal(integers.samples / np.float32(32768), floats.samples)
    assert (integers.peak, integers.seconds, integers.channels) == (floats.peak, floats.seconds, floats.channels)
    soundfile.write(tmp_path / "b.wav", np.stack([x, -x], axis=1), RATE)
    soundfile.write(tmp_path / "c.wav", x, RATE, subtype="PCM_24")
    for name, rate in (("a.wav", 8000), ("b.wav", RATE), ("c.wav", RATE)):
        one, other = read_audio(tmp_path / name, rate, integers=True), read_audio(tmp_path / name, rate)
        assert one.samples.dtype == np.float32, name
        assert np.array_equal(one.samples, other.samples), name
        assert one.peak == other.peak, name


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


# --- plain WAV without a library, bit for bit --------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 7, 8])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_plain_wav_is_decoded_as_libsndfile_does(tmp_path: Path, subtype: str, channels: int, rate: int) -> None:
    noise = np.random.default_rng(channels).uniform(-1, 1, (501, channels))
    noise[:2] = [[1.0], [-1.0]]
    path = tmp_path / "a.wav"
    soundfile.write(path, noise, rate, subtype=subtype, format="WAVEX" if channels > 2 else "WAV")
    ours = read_channels(path)
    theirs = soundfile.read(path, dtype="float32", always_2d=True)[0]
    assert ours.dtype == theirs.dtype == np.float32
    assert np.array_equal(ours, theirs)
    audio = read_audio(path)
    assert (audio.channels, audio.source_rate, audio.seconds) == (channels, rate, 501 / rate)
    assert audio.notes == (() if channels == 1 else (f"{channels} channels averaged",))
    np.testing.assert_array_equal(audio.samples, theirs.mean(axis=1, dtype=np.float64).astype(np.float32))


def test_chunks_before_and_after_the_samples_are_passed_over(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tone(), RATE)
    data = (tmp_path / "a.wav").read_bytes()
    odd = b"LIST" + (5).to_bytes(4, "little") + b"abcde\0"
    body = data[12:36] + odd + data[36:] + odd
    (tmp_path / "b.wav").write_bytes(b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WAVE" + body)
    assert np.array_equal(read_audio(tmp_path / "b.wav").samples, read_audio(tmp_path / "a.wav").samples)


FORMATS = {
    "wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_16"), "au": ("AU", "PCM_16"), "caf": ("CAF", "PCM_16"), "w64": ("W64", "PCM_16"), "rf64": ("RF64", "PCM_16"), "sph": ("NIST", "PCM_16"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_read_whole_and_refused_when_it_is_cut(tmp_path: Path, suffix: str) -> None:
    form, subtype = FORMATS[suffix]
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * RATE)
    soundfile.write(path, noise, RATE, format=form, subtype=subtype)
    audio = read_audio(path)
    assert audio.seconds == audio_seconds(path) == pytest.approx(3, abs=0.1)
    assert audio.notes == ()
    whole = path.read_bytes()
    for share in (0.3, 0.5, 0.77, 0.97):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match=r"cut short|not an audio file"):
            read_audio(path)


@pytest.mark.parametrize("bitrate", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_an_mp3_without_its_header_is_read_and_refused_when_its_last_frame_is_cut(
    tmp_path: Path, bitrate: str, rate: int
) -> None:
    path = tmp_path / "a.mp3"
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * rate)
    soundfile.write(path, noise, rate, format="MP3", bitrate_mode=bitrate, compression_level=0.5)
    data = path.read_bytes()
    first = _mp3_frame(data[:4])
    assert first is not None
    bare = data[first[0] :]  # without the Info frame
    path.write_bytes(b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + bare + b"TAG" + bytes(125))
    if bitrate == "CONSTANT":
        assert read_audio(path).seconds == pytest.approx(2, abs=0.2)
    else:  # libsndfile guesses its length from the first frame, and would give a part of it
        with pytest.raises(DataError, match="variable bit rate without a header"):
            read_audio(path)
    path.write_bytes(bare[: len(bare) // 2 + 7])
    with pytest.raises(DataError, match="last MP3 frame lacks"):
        read_audio(path)


def test_a_flac_named_wav_is_read_and_noted(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE, format="FLAC")
    assert read_audio(tmp_path / "a.wav").notes == ("FLAC data in a file named .wav",)


def test_a_segment_is_exactly_those_samples_in_every_lossless_format(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE)
    for suffix in ("wav", "flac", "aiff"):
        path = tmp_path / f"a.{suffix}"
        soundfile.write(path, noise, RATE)
        whole = read_audio(path).samples
        part = read_audio(Clip(str(path), start=0.5, duration=0.25))
        assert np.array_equal(part.samples, whole[RATE // 2 : RATE // 2 + RATE // 4])
        assert np.array_equal(read_audio(Clip(str(path), start=1.75)).samples, whole[-RATE // 4 :])
        for clip in (Clip(str(path), start=2.0), Clip(str(path), start=1.0, duration=1.2)):
            with pytest.raises(DataError, match="outside its recording, which has 2"):
                read_audio(clip)


def test_a_segment_of_a_long_recording_costs_its_own_length(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with path.open("wb") as file:  # ten hours, sparse
        size = 36_000 * RATE * 2
        file.write(wav_header(RATE, size))
        file.truncate(44 + size)
    assert audio_seconds(path) == 36_000
    tracemalloc.start()
    assert len(read_audio(Clip(str(path), start=30_000.0, duration=1.0)).samples) == RATE
    with pytest.raises(DataError, match=r"10\.0 h of audio in one utterance"):
        read_audio(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20
