"""``calib frontends identify``: files in, the answer first, a declared front end as a gate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calib.cli import main
from calib.data.audio import read_audio, write_wav
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


def test_the_front_end_found_is_a_file_that_other_commands_read(folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    wavs, mels = folders
    truth = FrontEnd(n_fft=742, win_length=640, hop_length=171, fmin=37.3, fmax=9777.0, n_mels=55, mel_scale="htk", power=2, post_scale=0.5, post_offset=1.0)  # fmt: skip
    samples = {path.stem: read_audio(path, RATE).samples for path in wavs.glob("*.wav")}
    for path in mels.glob("*.npy"):
        path.unlink()
    for name, x in samples.items():
        np.save(mels / f"{name}.npy", truth.mel(x))
    found = tmp_path / "found.yaml"
    assert run("frontends", "identify", "--audio", wavs, "--mel", mels, "-o", found) == 0
    header = [line for line in found.read_text().splitlines() if line.startswith("#")]
    assert any("Told from the data" in line for line in header)
    assert any("Set: log_guard" in line for line in header)
    again = FrontEnd.load(found)
    other = recording(2.0, 11)  # that identify did not hear
    for x in (*samples.values(), other):
        assert np.abs(again.mel(x) - truth.mel(x)).max() < 1e-4
    statistics = tmp_path / "statistics.json"
    assert run("stats", wavs, "--frontend", found, "-o", statistics) == 0
    assert json.loads(statistics.read_text())["frontend"]["n_fft"] == 742
    assert run("convert", mels, "--from", found, "--to", "hifigan", "--audio", wavs, "-o", tmp_path / "converted") == 0
    made = np.load(tmp_path / "converted" / "u0.npy")
    want = FrontEnd.load("hifigan").mel(samples["u0"])
    assert np.abs(made[: len(want)] - want[: len(made)]).max() < 1e-4
    assert run("frontends", "identify", "--audio", wavs, "--mel", mels, "-o", found) == 2  # not overwritten
    assert "exists" in capsys.readouterr().err


def test_no_file_is_written_where_what_matters_is_open(folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    wavs, mels = folders
    out = tmp_path / "found.yaml"
    assert run("frontends", "identify", "--mel", mels, "-o", out) == 5
    assert "without the audio" in capsys.readouterr().err
    rng = np.random.default_rng(4)
    for path in mels.glob("*.npy"):  # as a model predicts them
        mel = np.load(path)
        np.save(path, (mel + 0.5 * rng.standard_normal(mel.shape)).astype(np.float32))
    assert run("frontends", "identify", "--audio", wavs, "--mel", mels, "-o", out) == 5
    assert "noise" in capsys.readouterr().err
    assert run("frontends", "identify", "--audio", wavs, "--mel", mels, "-o", tmp_path / "found.json") == 2
    assert not out.exists()
