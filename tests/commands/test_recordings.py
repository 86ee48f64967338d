"""The audio of pairs: whose it is, when it is read, and what becomes of errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from calib.commands import recordings
from calib.commands.recordings import Recordings, find_recordings
from calib.data.pairs import PairEntry
from calib.data.sources import open_source
from calib.errors import DataError


def entries(*names: str, audio: Path | None = None) -> list[PairEntry]:
    return [PairEntry(name, Path(f"{name}.npy"), audio=audio) for name in names]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k, name in enumerate(("a", "sub/b", "c")):
        path = tmp_path / "wavs" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(1000, 0.1 * (k + 1), np.float32), 8000, subtype="FLOAT")
    return tmp_path / "wavs"


def test_a_source_comes_before_the_pairs_own_entry_and_names_match_as_in_calib_pair(folder: Path) -> None:
    own = folder / "own.wav"
    found, said = find_recordings(entries("a_mel", "b", "zz", audio=own), open_source(folder))
    assert found == [folder / "a.wav", folder / "sub" / "b.wav", own]
    assert said == "--audio: 2 of 3 pairs have their audio in wavs; 1 have not ('zz')"


def test_without_a_source_nothing_is_said(folder: Path) -> None:
    assert find_recordings(entries("a", audio=folder / "a.wav"), None) == ([folder / "a.wav"], None)
    assert find_recordings(entries("a"), None) == ([None], None)


def test_a_folder_of_mels_is_no_audio(tmp_path: Path) -> None:
    (tmp_path / "mels").mkdir()
    np.save(tmp_path / "mels" / "a.npy", np.zeros((50, 80), np.float32))
    with pytest.raises(DataError, match="holds no audio"):
        find_recordings(entries("a"), open_source(tmp_path / "mels"))


def test_a_file_is_read_once_and_resampled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    real = recordings.read_audio
    monkeypatch.setattr(recordings, "read_audio", lambda path, rate: read.append(path) or real(path, rate))
    found = Recordings(["a", "b"], [folder / "a.wav", None], 16000)
    assert read == [], "nothing is read before it is asked for"
    for _ in range(30):
        samples = found.samples(0)
        assert samples is not None
        assert len(samples) == 2000
        assert found.samples(1) is None
    assert read == [folder / "a.wav"]
    assert found.problems() is None


def test_what_cannot_be_read_is_none_and_counted(folder: Path) -> None:
    (folder / "a.wav").write_bytes(b"RIFF")
    found = Recordings(["a", "b", "c"], [folder / "a.wav", folder / "gone.wav", folder / "c.wav"], 8000)
    assert [found.samples(k) is None for k in range(3)] == [True, True, False]
    said = found.problems()
    assert said is not None
    assert said.startswith("the audio of 2 of the 3 utterances asked for cannot be read: a: ")
    assert "b: " in said
    assert "no such file" in said
