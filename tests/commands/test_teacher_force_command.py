"""``calib teacher-force`` with plug-in files: PAIRS, resuming after a kill, and plug-ins that misbehave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib.mel.frontend import FrontEnd

Cli = Callable[..., Any]

PLUGIN = """
import time
import numpy as np

class Model:
    frontend = "hifigan"
    output_space = "raw"
    kind = "mean"
    autoregressive = False
    padding_safe = True

    def __init__(self, mode, wait):
        self.mode, self.wait, self.rng = mode, wait, np.random.default_rng(0)

    def one(self, u, batch):
        mel = u.mel * np.float32(0.5) + np.float32(len(u.text) / 100)
        if self.mode == "transposed":
            return mel.T
        if self.mode == "dropout":
            return mel + self.rng.standard_normal(mel.shape).astype(np.float32)
        if self.mode == "leak":
            return mel + np.float32(max(v.mel.shape[0] for v in batch) / 100)
        if self.mode == "nothing":
            return None
        return mel

    def teacher_force(self, batch):
        if self.mode == "raises":
            raise KeyError("encoder.weight")
        if self.mode == "fewer":
            return [self.one(u, batch) for u in batch][1:]
        if self.wait:
            time.sleep(self.wait)
        return [self.one(u, batch) for u in batch]

def factory(checkpoint=None, device="cpu", mode="good", wait=0.0, gain=1.0):
    return Model(mode, wait)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    """The spec of the plug-in."""
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    return f"{path}:factory"


def content(folder: Path) -> dict[str, bytes]:
    """Everything but the run-time facts."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "run.json"
    }


def test_pairs_hold_the_true_mels_and_what_the_model_made_of_them(
    calib: Cli, audio: Path, plugin: str, tmp_path: Path
) -> None:
    done = calib("teacher-force", audio, "--model", plugin, "-o", "pairs")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in (tmp_path / "pairs" / "pairs.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["c0", "c1", "c2", "c3"]
    for row in rows:
        p, y = (np.load(tmp_path / "pairs" / row[side]) for side in ("pred", "target"))
        np.testing.assert_allclose(p, y * 0.5 + len(row["text"]) / 100, atol=1e-6)
    header = json.loads((tmp_path / "pairs" / "pairs.json").read_text())
    assert header["frontend_id"] == FrontEnd.load("hifigan").id
    assert (header["deterministic"], header["model_kind"], header["output_space"]) == (True, "mean", "raw")
    assert not (tmp_path / "pairs" / "ledger.jsonl").exists()
    assert calib("diagnose", "pairs").code == 0


def test_the_order_of_the_corpus_changes_no_byte(calib: Cli, audio: Path, plugin: str, tmp_path: Path) -> None:
    assert calib("teacher-force", audio, "--model", plugin, "--batch-size", 2, "-o", "a").code == 0
    lines = (audio / "metadata.csv").read_text().splitlines(keepends=True)
    (audio / "metadata.csv").write_text("".join(lines[::-1]))
    assert calib("teacher-force", audio, "--model", plugin, "--batch-size", 2, "-o", "b").code == 0
    assert content(tmp_path / "a") == content(tmp_path / "b")


def start(audio: Path, plugin: str, tmp_path: Path, out: str) -> subprocess.Popen[bytes]:
    """A slow run in a process of its own, once it has finished at least one batch."""
    code = f"from calib.cli import main\nmain(['teacher-force', {str(audio)!r}, '--model', {plugin!r}, '--batch-size', '1', '--model-option', 'wait=0.25', '-o', {out!r}])"
    running = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    for _ in range(600):
        if any(path.read_bytes().count(b"\n") >= 2 for path in (tmp_path / out / ".work").glob("*/0*.jsonl")):
            return running
        assert running.poll() is None, "it ended before it could be stopped"
        time.sleep(0.02)
    raise AssertionError("no batch was finished")


def test_a_killed_run_goes_on_where_it_stopped_and_gives_the_same_bytes(
    calib: Cli, audio: Path, plugin: str, tmp_path: Path
) -> None:
    options = ("--model", plugin, "--batch-size", 1, "--model-option", "wait=0.25")
    running = start(audio, plugin, tmp_path, "killed")
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "pairs.jsonl").exists()
    done = calib("teacher-force", audio, *options[:-1], "wait=0.0", "-o", "killed")
    assert done.code == 2, "another option is another run"
    assert "wait" in done.err
    assert "0.25" in done.err
    done = calib("teacher-force", audio, *options, "-o", "killed")
    assert done.code == 0, done.err
    assert "resuming: " in done.err
    assert calib("teacher-force", audio, *options, "-o", "whole").code == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_has_its_exit_code_and_no_index(
    audio: Path, plugin: str, tmp_path: Path, number: int, code: int
) -> None:
    running = start(audio, plugin, tmp_path, "out")
    os.kill(running.pid, number)
    assert running.wait(timeout=30) == code
    left = [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert "pairs.jsonl" not in left
    assert "ledger.jsonl" in left
    assert not [name for name in left if name.endswith(".part")]


def test_an_array_altered_between_two_runs_is_made_again(calib: Cli, audio: Path, plugin: str, tmp_path: Path) -> None:
    running = start(audio, plugin, tmp_path, "out")
    running.kill()
    running.wait()
    path = next((tmp_path / "out" / "predictions").glob("*.npy"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    options = ("--model", plugin, "--batch-size", 1, "--model-option", "wait=0.25")
    assert calib("teacher-force", audio, *options, "-o", "out").code == 0
    assert path.read_bytes() == whole


def test_finished_pairs_are_not_overwritten_without_force(calib: Cli, audio: Path, plugin: str, tmp_path: Path) -> None:
    assert calib("teacher-force", audio, "--model", plugin, "-o", "out").code == 0
    before = content(tmp_path / "out")
    done = calib("teacher-force", audio, "--model", plugin, "-o", "out")
    assert done.code == 2
    assert "--force" in done.err
    assert content(tmp_path / "out") == before
    assert calib("teacher-force", audio, "--model", plugin, "-o", "out", "--force", "--limit", 2).code == 0
    assert len((tmp_path / "out" / "pairs.jsonl").read_text().splitlines()) == 2


def test_an_output_that_is_a_file_is_told_before_any_work(calib: Cli, audio: Path, plugin: str, tmp_path: Path) -> None:
    (tmp_path / "pairs").write_text("mine", encoding="utf-8")
    done = calib("teacher-force", audio, "--model", plugin, "-o", "pairs")
    assert (done.code, "-o pairs is a file" in done.err) == (2, True), done.err
    assert (tmp_path / "pairs").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("mode", "words"),
    [("raises", "encoder.weight"), ("transposed", "(80,"), ("fewer", "mels for a batch of"), ("nothing", "None")],
)
def test_a_plug_in_that_breaks_its_protocol_is_exit_4_with_the_reason(
    calib: Cli, audio: Path, plugin: str, tmp_path: Path, mode: str, words: str
) -> None:
    done = calib("teacher-force", audio, "--model", plugin, "--model-option", f"mode={mode}", "-o", "out")
    assert done.code == 4, done.err
    assert words in done.err
    assert "plugin.py" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out" / "pairs.jsonl").exists()


def test_a_model_that_is_not_deterministic_is_a_warning_and_recorded(
    calib: Cli, audio: Path, plugin: str, tmp_path: Path
) -> None:
    done = calib("teacher-force", audio, "--model", plugin, "--model-option", "mode=dropout", "-o", "out")
    assert done.code == 0
    assert "warning: two passes over one utterance differ" in done.err
    assert json.loads((tmp_path / "out" / "pairs.json").read_text())["deterministic"] is False


def test_padding_that_leaks_is_found_and_utterances_then_run_alone(
    calib: Cli, audio: Path, plugin: str, tmp_path: Path
) -> None:
    done = calib("teacher-force", audio, "--model", plugin, "--model-option", "mode=leak", "-o", "out")
    assert done.code == 0
    assert "warning: the prediction changes in a padded batch" in done.err
    for line in (tmp_path / "out" / "pairs.jsonl").read_text().splitlines():
        row = json.loads(line)
        p, y = (np.load(tmp_path / "out" / row[side]) for side in ("pred", "target"))
        np.testing.assert_allclose(p, y * 0.5 + len(row["text"]) / 100 + y.shape[0] / 100, atol=1e-5)
    assert "padded" not in calib("teacher-force", audio, "--model", plugin, "-o", "good").err


def test_an_unreadable_clip_is_skipped_only_where_allowed_and_its_neighbours_do_not_suffer(
    calib: Cli, audio: Path, plugin: str, tmp_path: Path
) -> None:
    (audio / "wavs" / "c1.wav").write_text("no audio")
    done = calib("teacher-force", audio, "--model", plugin, "-o", "out")
    assert done.code == 3
    assert "c1:" in done.err
    assert not (tmp_path / "out" / "pairs.jsonl").exists()
    done = calib("teacher-force", audio, "--model", plugin, "-o", "out", "--allow-skipped", 50)
    assert done.code == 0, done.err
    rows = [json.loads(line)["id"] for line in (tmp_path / "out" / "pairs.jsonl").read_text().splitlines()]
    assert rows == ["c0", "c2", "c3"]
    assert list(json.loads((tmp_path / "out" / "pairs.json").read_text())["skipped"].values()) == [["c1"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "none.py:factory"],
        ["--model", "nonesuch"],
        ["--model", "PLUGIN", "--model-option", "unknown=1"],
        ["--model", "PLUGIN", "--frontend", "tacotron2"],
        ["--model", "PLUGIN", "--free-running"],
        ["--model", "PLUGIN", "--device", "tpu"],
        ["--model", "PLUGIN", "--model-option", "gain"],
    ],
    ids=" ".join,
)
def test_what_the_user_asked_wrongly_is_exit_2_before_any_work(
    calib: Cli, audio: Path, plugin: str, tmp_path: Path, arguments: list[str]
) -> None:
    done = calib("teacher-force", audio, *[plugin if a == "PLUGIN" else a for a in arguments], "-o", "out")
    assert done.code == (4 if "unknown=1" in arguments else 2), done.err
    assert "bug" not in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_an_option_that_json_cannot_hold_is_a_usage_error(
    calib: Cli, audio: Path, plugin: str, tmp_path: Path, value: str
) -> None:
    done = calib("teacher-force", audio, "--model", plugin, "--temperature", value, "-o", "out")
    assert done.code == 2, done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("limit", [200, 20_000])
def test_a_full_disk_is_a_clear_error_and_no_half_array_stays(
    process: Cli, audio: Path, plugin: str, tmp_path: Path, limit: int
) -> None:
    before = f"import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    done = process("teacher-force", audio, "--model", plugin, "-o", "out", before=before)
    assert done.code == 3, done.err
    assert "cannot write" in done.err
    assert not (tmp_path / "out" / "pairs.jsonl").exists()
    assert not list((tmp_path / "out").rglob("*.part"))
