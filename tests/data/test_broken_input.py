"""Broken input: each kind is in the report with its reason, nothing crashes, nothing is silently accepted."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from calib.commands.stats import StatsConfig, run
from calib.data.audio import wav_header
from calib.data.sources import open_source
from calib.errors import DataError

RATE = 22_050
GOOD = 3  # sound files beside each broken one


def sound(seconds: float = 0.5, channels: int = 1, **form: Any) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, (int(seconds * RATE), channels))
    soundfile.write(buffer, noise, form.pop("rate", RATE), **{"format": "WAV", "subtype": "PCM_16", **form})
    return buffer.getvalue()


def with_values(*values: float) -> bytes:
    data = np.zeros(RATE, np.float32)
    data[: len(values)] = values
    buffer = io.BytesIO()
    soundfile.write(buffer, data, RATE, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def header(**changes: tuple[int, bytes]) -> bytes:
    data = bytearray(sound())
    for at, value in changes.values():
        data[at : at + len(value)] = value
    return bytes(data)


def ten_hours(path: Path) -> None:
    size = 36_000 * RATE * 2
    with path.open("wb") as file:  # sparse: it takes no room
        file.write(wav_header(RATE, size))
        file.truncate(44 + size)


WAV, FLAC, OGG, OPUS, MP3 = (sound(), sound(format="FLAC"), sound(format="OGG", subtype="VORBIS"), sound(rate=24_000, format="OGG", subtype="OPUS"), sound(3, format="MP3", subtype="MPEG_LAYER_III"))  # fmt: skip
AIFF = sound(format="AIFF")

# What is wrong, the file's name, its bytes (or what makes it), and words of the reason.
SKIPPED: list[tuple[str, str, bytes | Callable[[Path], Any], str]] = [
    ("empty", "x.wav", b"", "empty file (0 bytes)"),
    ("one byte", "x.wav", b"R", "not an audio file"),
    ("truncated header", "x.wav", WAV[:30], "not an audio file"),
    ("no samples chunk", "x.wav", WAV[:36], "not an audio file"),
    ("truncated data", "x.wav", WAV[:9_000], "cut short"),
    ("truncated by one byte", "x.wav", WAV[:-1], "cut short"),
    ("truncated FLAC", "x.flac", FLAC[: len(FLAC) // 2], "not an audio file"),
    ("truncated Ogg", "x.ogg", OGG[: len(OGG) * 2 // 3], "cut short"),
    ("truncated Opus", "x.opus", OPUS[: len(OPUS) * 2 // 3], "cut short"),
    ("truncated MP3", "x.mp3", MP3[: len(MP3) // 2], "cut short"),
    ("truncated AIFF", "x.aiff", AIFF[: len(AIFF) // 2], "cut short"),
    ("text renamed", "x.wav", b"this is no audio\n" * 100, "not an audio file"),
    ("a web page", "x.mp3", b"<!DOCTYPE html><html>404 Not Found</html>", "not an audio file"),
    ("a picture", "x.wav", b"\x89PNG\r\n\x1a\n" + bytes(500), "not an audio file"),
    ("a Git LFS pointer", "x.wav", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "not an audio file"),
    ("random bytes", "x.flac", np.random.default_rng(0).bytes(5_000), "not an audio file"),
    ("nothing but zeros", "x.wav", bytes(5_000), "not an audio file"),
    ("zero samples", "x.wav", wav_header(RATE, 0), "zero samples"),
    ("one sample", "x.wav", wav_header(RATE, 2) + b"\1\0", ""),
    ("NaN samples", "x.wav", with_values(float("nan"), float("nan")), "2 of 22050 samples are NaN or infinite"),
    ("infinite samples", "x.wav", with_values(float("inf")), "1 of 22050 samples are NaN or infinite"),
    ("ten hours", "x.wav", ten_hours, "10.0 h of audio in one utterance"),
    ("nine channels", "x.wav", sound(channels=9, format="WAVEX"), "has 9 channels"),
    ("zero channels", "x.wav", header(channels=(22, b"\0\0")), "not an audio file"),
    ("a sample rate of 0", "x.wav", header(rate=(24, b"\0\0\0\0")), "sample rate of 0 Hz"),
    ("an absurd sample rate", "x.wav", header(rate=(24, b"\xff\xff\xff\x7f")), "sample rate of 2147483647 Hz"),
    ("an unknown codec", "x.wav", header(tag=(20, b"\x34\x12")), "not an audio file"),
    ("dangling link", "x.wav", lambda path: path.symlink_to("nowhere.wav"), "a link to nowhere.wav, which does not exist"),
    ("link to itself", "x.wav", lambda path: path.symlink_to(path.name), "symbolic links"),
    ("folder named x.wav", "x.wav", lambda path: path.mkdir(), "a folder, not an audio file"),
    ("a pipe", "x.wav", os.mkfifo, "not a regular file"),
    ("newline in the name", "x\ny.wav", b"no audio", "not an audio file"),
    ("leading dash in the name", "-rf.wav", b"no audio", "not an audio file"),
    ("name that is not UTF-8", os.fsdecode(b"caf\xe9.wav"), b"no audio", "not an audio file"),
]  # fmt: skip


def corpus(folder: Path, name: str, made: bytes | Callable[[Path], Any]) -> Path:
    folder.mkdir()
    for number in range(GOOD):
        (folder / f"good{number}.wav").write_bytes(WAV)
    try:
        if callable(made):
            made(folder / name)
        else:
            (folder / name).write_bytes(made)
    except OSError as error:
        pytest.skip(f"this file system does not take {name!r}: {error}")
    return folder


def statistics(source: Path, output: Path, allowed: float = 50.0) -> dict[str, Any]:
    return run(StatsConfig(str(source), "hifigan", output, jobs=1, allow_skipped=allowed))


@pytest.mark.parametrize(("what", "name", "made", "reason"), SKIPPED, ids=[row[0] for row in SKIPPED])
def test_it_is_skipped_counted_and_named_with_its_reason(
    what: str, name: str, made: bytes | Callable[[Path], Any], reason: str, tmp_path: Path
) -> None:
    """In a folder: the others are used, the broken one is in the file's provenance."""
    folder = corpus(tmp_path / "corpus", name, made)
    content = statistics(folder, tmp_path / "s.json")
    assert content["n_utterances"] == GOOD, what
    skipped = content["provenance"]["skipped"]
    assert sum(len(names) for names in skipped.values()) == 1
    assert reason in next(iter(skipped))
    assert str(tmp_path) not in next(iter(skipped))


def test_more_than_one_percent_of_it_fails_unless_allowed(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "corpus", "x.wav", b"")
    with pytest.raises(DataError, match=r"(?s)1 of 4 utterances \(25 %\) could not be used.*empty file") as caught:
        statistics(folder, tmp_path / "s.json", allowed=1.0)
    assert "--allow-skipped" in str(caught.value.hint)
    assert not (tmp_path / "s.json").exists()


@pytest.mark.parametrize(
    ("what", "name", "data", "note"),
    [
        ("wrong extension", "x.wav", FLAC, "FLAC data in a file named .wav"),
        ("wrong extension", "x.mp3", WAV, "WAV data in a file named .mp3"),
        ("seven channels", "x.wav", sound(channels=7, format="WAVEX"), "7 channels averaged"),
        ("stereo", "x.wav", sound(channels=2), "2 channels averaged"),
    ],
)
def test_what_can_be_read_but_is_unusual_is_counted(
    what: str, name: str, data: bytes, note: str, tmp_path: Path
) -> None:
    content = statistics(corpus(tmp_path / "corpus", name, data), tmp_path / "s.json")
    assert content["n_utterances"] == GOOD + 1, what
    assert content["provenance"]["noted"] == {note: 1}
    assert content["provenance"]["skipped"] == {}


def test_another_sample_rate_is_resampled_and_counted(tmp_path: Path) -> None:
    content = statistics(corpus(tmp_path / "corpus", "x.wav", sound(rate=16_000)), tmp_path / "s.json")
    assert content["provenance"]["resampled"] == {"16000": 1}


def test_a_file_that_must_not_be_read_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, because root may read everything."""
    folder = corpus(tmp_path / "corpus", "x.wav", WAV)
    opening = Path.open

    def refuse(path: Path, *arguments: Any, **named: Any) -> Any:
        if path.name == "x.wav":
            raise PermissionError(13, "Permission denied", str(path))
        return opening(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", refuse)
    content = statistics(folder, tmp_path / "s.json")
    assert content["provenance"]["skipped"] == {"Permission denied": ["x"]}


@pytest.mark.parametrize(
    ("what", "index", "reason"),
    [
        ("duplicate ids", "good0.wav|a\ngood1.wav|b\ngood0.wav|c\n", r"'good0' occurs twice \(lines 1 and 3\)"),
        ("a line with other columns", "good0.wav|a\ngood1.wav|b|c\n", "line 2: 3 columns where 2"),
        ("not UTF-8", b"good0.wav|a\ngood1.wav|K\xe4se\n", "line 2: not UTF-8"),
        ("a NUL byte", "good0.wav|a\ngood1.wav|\0\n", "line 2: holds a NUL byte"),
        ("no file of it exists", "no.wav|a\nnot.wav|b\n", "none of the first 2 files"),
        ("empty index", "", "names no utterances"),
        ("a compressed index that is cut short", b"\x1f\x8b\x08\0\0\0\0\0", "cut short or damaged"),
    ],
)
def test_a_broken_index_is_refused_when_it_is_opened(
    what: str, index: str | bytes, reason: str, tmp_path: Path
) -> None:
    folder = corpus(tmp_path / "corpus", "x.wav", WAV)
    path = folder / ("list.txt.gz" if what.startswith("a compressed") else "list.txt")
    path.write_bytes(index.encode() if isinstance(index, str) else index)
    with pytest.raises(DataError, match=reason):
        open_source(path)


def test_a_listed_file_that_is_missing_is_skipped_by_name(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "corpus", "x.wav", WAV)
    (folder / "list.txt").write_text("good0.wav|a\nmissing.wav|b\n")
    content = statistics(folder / "list.txt", tmp_path / "s.json")
    assert content["provenance"]["skipped"] == {"no such file": ["missing"]}


def test_two_files_with_one_id_are_refused(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "corpus", "good0.flac", FLAC)
    with pytest.raises(DataError, match=r"occurs twice \(good0\.flac and good0\.wav\)"):
        open_source(folder)
