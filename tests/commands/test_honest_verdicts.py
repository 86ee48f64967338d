"""What a person would take for a pass and is none: said on the first lines, and it closes ``--fail-on warn``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from speechlike import mel_field, prediction, write_pairs

from calib.cli import main
from calib.data.audio import write_wav
from calib.mel.frontend import FrontEnd
from tests.speechlike import RATE, recording


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    return int(caught.value.code or 0)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """PAIRS of a healthy model."""
    targets = [mel_field(180 + 5 * k, k) for k in range(12)]
    write_pairs(tmp_path / "pairs", [(prediction(y, 0.9, k), y) for k, y in enumerate(targets)])
    return tmp_path / "pairs"


def test_a_model_that_is_random_is_not_just_healthy(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("diagnose", sound, "--fail-on", "warn") == 0
    capsys.readouterr()
    (sound / "pairs.json").write_text(json.dumps({"schema": "calib/pairs/1", "deterministic": False}))
    assert run("diagnose", sound, "--fail-on", "warn") == 10
    out = capsys.readouterr().out
    assert "HEALTHY in level and scale, but see the findings" in out
    assert "warning: random: two passes" in out
    (sound / "pairs.json").write_text(
        json.dumps({"schema": "calib/pairs/1", "deterministic": False, "model_kind": "sample"})
    )
    assert run("diagnose", sound, "--fail-on", "warn") == 0


def test_targets_of_another_front_end_than_declared_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("wavs", "pred", "target"):
        (tmp_path / name).mkdir()
    fe = FrontEnd.load("hifigan")
    for k in range(4):
        x = (np.rint(recording(2.0, k + 3) * 32768) / 32768).astype(np.float32)
        write_wav(tmp_path / "wavs" / f"u{k}.wav", x, RATE)
        y = fe.mel(x)
        np.save(tmp_path / "target" / f"u{k}.npy", y)
        np.save(tmp_path / "pred" / f"u{k}.npy", prediction(y, 0.95, k))
    common = ("pair", "--pred", tmp_path / "pred", "--target", tmp_path / "target", "--audio", tmp_path / "wavs")
    assert run(*common, "--frontend", "hifigan", "-o", tmp_path / "right") == 0
    assert run(*common, "--frontend", "bigvgan_v2_22k_80_nyq", "-o", tmp_path / "wrong") == 0
    capsys.readouterr()
    run("diagnose", tmp_path / "right")
    assert "front end: the targets are not" not in capsys.readouterr().out
    run("diagnose", tmp_path / "wrong")
    out = capsys.readouterr().out
    assert (
        "front end: the targets are not what the declared front end makes of this audio: calib frontends identify"
        in out
    )


def test_a_folder_is_not_paired_with_itself(sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sound / "predictions"
    assert folder.is_dir()
    assert (
        run("pair", "--pred", folder, "--target", sound / "targets" / ".." / "predictions", "-o", tmp_path / "o") == 2
    )
    assert "are one folder" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_what_pair_is_told_is_in_the_header(sound: Path, tmp_path: Path) -> None:
    common = ("pair", "--pred", sound / "predictions", "--target", sound / "targets")
    assert run(*common, "-o", tmp_path / "a", "--autoregressive", "--model-id", "step 12000") == 0
    header = json.loads((tmp_path / "a" / "pairs.json").read_text())
    assert (header["autoregressive"], header["model_id"]) == (True, "step 12000")
    assert run(*common, "-o", tmp_path / "b", "--not-autoregressive") == 0
    assert json.loads((tmp_path / "b" / "pairs.json").read_text())["autoregressive"] is False


@pytest.mark.parametrize("kernel", ["auto", "0"])
def test_statistics_of_recordings_without_sound_are_not_silent(
    kernel: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALIB_NATIVE", kernel)
    for k in range(4):
        x = recording(1.0, k + 3) if k else np.zeros(RATE, np.float32)
        write_wav(tmp_path / f"u{k}.wav", x, RATE)
    out = tmp_path / "stats.json"
    assert run("stats", tmp_path, "--frontend", "hifigan", "-o", out) == 0
    err = capsys.readouterr().err
    assert "1 of 4 files hold no sound" in err
    assert f"calib check data {tmp_path}" in err
    assert json.loads(out.read_text())["provenance"]["noted"] == {"no sound: every frame alike": 1}
