"""A vocoder in an interpreter of its own: `--vocoder-python` does what the same file does in calib's own process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib.cli import _run
from calib.commands.run import load_config
from calib.data.pairs import PairsWriter
from calib.demo import CORPUS
from calib.errors import UsageError

Cli = Callable[..., Any]
VOCODER = '''
import os
import numpy as np

PROCESS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "process")

class Hum:
    """A hum as loud as each frame; what it was asked for is written down."""
    def __init__(self, pitch, log):
        self.pitch = pitch
        self.frontend = {"base": "hifigan", "log": log}

    def vocode(self, mel):
        with open(PROCESS, "w") as file:
            file.write(str(os.getpid()))
        loud = np.repeat(np.exp(mel.mean(1)), 256)
        return (0.1 * loud * np.sin(2 * np.pi * self.pitch * np.arange(len(loud)) / 22050)).astype(np.float32), 22050

def factory(checkpoint, device, pitch=100.0, log="ln"):
    return Hum(pitch, log)
'''


@pytest.fixture
def vocoder(tmp_path: Path) -> Path:
    path = tmp_path / "hum.py"
    path.write_text(VOCODER, encoding="utf-8")
    return path


def elsewhere(vocoder: Path) -> bool:
    """Whether the last call was made in another process."""
    import os

    return (vocoder.parent / "process").read_text(encoding="utf-8") != str(os.getpid())


def test_synth_speaks_through_it(vocoder: Path, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="the reference model turns text into phonemes with espeak-ng")
    said = ["synth", "--text", "Hello there.", "--vocoder", str(vocoder), "--vocoder-option", "pitch=150.0"]
    assert _run([*said, "-o", str(tmp_path / "here.wav")]) == 0
    assert not elsewhere(vocoder)
    assert _run([*said, "--vocoder-python", sys.executable, "-o", str(tmp_path / "there.wav")]) == 0
    assert elsewhere(vocoder)
    assert (tmp_path / "here.wav").read_bytes() == (tmp_path / "there.wav").read_bytes()
    assert _run([*said[:-1], "pitch=300.0", "--vocoder-python", sys.executable, "-o", str(tmp_path / "high.wav")]) == 0
    assert (tmp_path / "high.wav").read_bytes() != (tmp_path / "there.wav").read_bytes()


def test_check_vocoder_measures_it(vocoder: Path, tmp_path: Path) -> None:
    found = []
    for name, more in (("here", []), ("there", ["--vocoder-python", sys.executable])):
        arguments = [
            "check",
            "vocoder",
            str(CORPUS / "wavs"),
            "--limit",
            "1",
            "--vocoder",
            str(vocoder),
            *more,
            "--json",
            str(tmp_path / name),
        ]
        assert _run(arguments) == 0
        assert elsewhere(vocoder) == bool(more)
        found.append(json.loads((tmp_path / name).read_text(encoding="utf-8")))
    assert found[0]["rows"] == found[1]["rows"]
    assert found[0]["verdict"] == found[1]["verdict"]


def test_diagnose_asks_it_for_its_front_end(
    vocoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    with PairsWriter(tmp_path / "pairs", {"frontend": "hifigan"}) as writer:
        for k in range(4):
            mel = rng.normal(-5, 2, size=(120, 80)).astype(np.float32)
            writer.write(f"u{k}", mel, mel)
    plug = ["--vocoder", str(vocoder), "--vocoder-python", sys.executable]
    for log in ("ln", "log10"):
        assert _run(["diagnose", "pairs", *plug, "--vocoder-option", f"log={log}", "--json", f"{log}.json"]) == 0
    ids = [json.loads(Path(f"{log}.json").read_text(encoding="utf-8"))["legs"]["vocoder_frontend"]["frontend_id"] for log in ("ln", "log10")]  # fmt: skip
    assert ids[0] != ids[1]
    capsys.readouterr()
    for option in ("--vocoder-python", "--vocoder-option", "--vocoder-checkpoint"):
        assert _run(["diagnose", "pairs", option, "a=b"]) == 2
        assert f"{option} needs --vocoder" in capsys.readouterr().err


def test_a_built_in_vocoder_needs_no_interpreter_and_a_missing_one_is_named(
    vocoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check = ["check", "vocoder", str(CORPUS / "wavs"), "--limit", "1"]
    assert _run([*check, "--vocoder-python", sys.executable]) == 2
    assert "--vocoder-python needs a file or a module" in capsys.readouterr().err
    assert _run([*check, "--vocoder", str(vocoder), "--vocoder-python", "/nowhere/python"]) == 2
    assert "--vocoder-python /nowhere/python: no such interpreter" in capsys.readouterr().err


def test_a_pipeline_hands_options_on_and_converts(
    vocoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("espeakng_loader", reason="the reference model turns text into phonemes with espeak-ng")
    base = f"source: demo:corpus\noutput: {tmp_path / 'out'}\nlimit: 6\naudio: false\nsay: [Hello.]\nvocoder: {vocoder}\nvocoder_python: {sys.executable}\n"
    path = tmp_path / "c.yaml"
    path.write_text(base + "vocoder_options: {log: log10}\n", encoding="utf-8")
    assert _run(["run", str(path)]) == 2
    assert "expects other mels: log" in capsys.readouterr().err
    path.write_text(base + "vocoder_options: {log: log10, pitch: 200.0}\nconvert: true\n", encoding="utf-8")
    assert _run(["run", str(path), "--force"]) == 0
    assert elsewhere(vocoder)
    assert "mels are converted" in capsys.readouterr().err
    assert len(list((tmp_path / "out" / "wavs").glob("say-1-en.*.wav"))) == 2
    path.write_text(base + "convert: 1\n", encoding="utf-8")
    with pytest.raises(UsageError, match="convert cannot be 1"):
        load_config(path)
