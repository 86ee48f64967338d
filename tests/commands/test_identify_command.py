"""``calib frontends identify``: files in, the answer first, a declared front end as a gate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calib.cli import main
from calib.data.audio import write_wav
from calib.mel.frontend import FrontEnd
from tests.speechlike import RATE, recording


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two recordings and their HiFi-GAN mels, named as HiFi-GAN and PWG would."""
    for name in ("wavs", "mels"):
        (tmp_path / name).mkdir()
    for k in range(2):
        x = (np.rint(recording(2.5, k + 3) * 32768) / 32768).astype(np.float32)
        write_wav(tmp_path / "wavs" / f"u{k}.wav", x, RATE)
        np.save(tmp_path / "mels" / f"u{k}_mel.npy", FrontEnd.load("hifigan").mel(x).T)
    return tmp_path / "wavs", tmp_path / "mels"


def run(*arguments: object) -> int:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    return int(caught.value.code or 0)


def test_folders_are_matched_and_named(folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    wavs, mels = folders
    out = tmp_path / "answer.json"
    assert run("frontends", "identify", "--audio", wavs, "--mel", mels, "--json", out) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].startswith("This mel was made by hifigan_jik")
    assert "proof: computed again" in text
    data = json.loads(out.read_text())
    assert "hifigan_jik" in data["names"]
    assert data["layout"] == "MT"
    assert data["clips"] == ["u0_mel", "u1_mel"]


def test_one_file_each_needs_no_common_name(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    wavs, mels = folders
    other = mels.parent / "x.npy"
    (mels / "u0_mel.npy").rename(other)
    assert run("frontends", "identify", "--audio", wavs / "u0.wav", "--mel", other) == 0
    assert "hifigan_jik" in capsys.readouterr().out.splitlines()[0]


def test_a_declaration_that_the_data_contradict_closes_the_gate(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    wavs, mels = folders
    common = ("frontends", "identify", "--audio", wavs, "--mel", mels, "--fail-on", "fail")
    assert run(*common, "--declared", "hifigan") == 0
    capsys.readouterr()
    assert run(*common, "--declared", "tacotron2") == 10
    text = capsys.readouterr()
    assert "FAIL  declared padding center, but the mel has same" in text.out
    assert "contradicting what was declared in padding" in text.out.splitlines()[0]


def test_mels_alone_and_pairs(folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wavs, mels = folders
    assert run("frontends", "identify", "--mel", mels) == 0
    assert capsys.readouterr().out.startswith("Without the audio no front end can be named")
    pairs = tmp_path / "pairs"
    for side in ("predictions", "targets"):
        (pairs / side).mkdir(parents=True)
        for k in range(2):
            np.save(pairs / side / f"u{k}.npy", np.load(mels / f"u{k}_mel.npy").T)
    assert run("frontends", "identify", pairs, "--audio", wavs) == 0
    assert "hifigan_jik" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ((), 2, "PAIRS or --mel"),
        (("--mel", "nowhere"), 3, "no such file"),
        (("--mel", "{mels}", "--audio", "{mels}"), 3, "audio"),
        (("--mel", "{mels}", "--layout", "XY"), 2, "layout"),
    ],
)
def test_what_cannot_be_done_is_said(folders: tuple[Path, Path], arguments: tuple[str, ...], code: int, word: str, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    given = [a.format(mels=folders[1]) for a in arguments]
    assert run("frontends", "identify", *given) == code
    assert word in capsys.readouterr().err
