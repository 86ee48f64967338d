"""A command line in this process or another, and small corpora."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from speechlike import RATE, mel_field, modelled, voice, write_pairs

from calib.cli import _run


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def calib(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """``calib ARGUMENTS`` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = _run([str(a) for a in arguments])
        caught = capsys.readouterr()
        return Result(code, caught.out, caught.err)

    return call


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., Result]:
    """``calib ARGUMENTS`` in a process of its own, after some Python lines (limits, say)."""

    def call(*arguments: object, before: str = "", cwd: Path = tmp_path) -> Result:
        code = f"{before}\nfrom calib.cli import main\nif __name__ == '__main__':\n    main({[str(a) for a in arguments]!r})\n"
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, check=False, timeout=120
        )
        return Result(out.returncode, out.stdout, out.stderr)

    return call


def make_audio(folder: Path, count: int = 4, rate: int = RATE) -> Path:
    """An LJSpeech folder of short synthetic clips."""
    (folder / "wavs").mkdir(parents=True)
    lines = []
    for k in range(count):
        soundfile.write(folder / "wavs" / f"c{k}.wav", voice(0.5 + 0.1 * k, k, rate), rate, subtype="PCM_16")
        lines.append(f"c{k}|Text {k}.|text {k}.\n")
    (folder / "metadata.csv").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Four clips."""
    return make_audio(tmp_path / "audio")


def make_pairs(root: Path, *, scale: float = 0.5, shift: float = 2.5, r: float = 0.95, count: int = 6) -> Path:
    """PAIRS whose prediction is ``scale * good + shift``."""
    ys = [mel_field(100 + 7 * k, k) for k in range(count)]
    good = modelled(ys, r)
    return write_pairs(root, [(p * np.float32(scale) + np.float32(shift), y) for p, y in zip(good, ys, strict=True)])


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Normalised predictions: (mel + 5) / 2."""
    return make_pairs(tmp_path / "pairs")


@pytest.fixture
def unrelated(tmp_path: Path) -> Path:
    """Predictions that have nothing to do with their targets."""
    return write_pairs(tmp_path / "unrelated", [(mel_field(120 + k, 500 + k), mel_field(120 + k, k)) for k in range(6)])


def leftovers(folder: Path) -> list[str]:
    """Files in a folder, temporary ones included."""
    return (
        sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) if folder.exists() else []
    )
