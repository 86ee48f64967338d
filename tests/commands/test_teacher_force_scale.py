"""``calib teacher-force`` over several windows and processes: the same bytes, whatever dies; shards; padding."""

from __future__ import annotations

import contextlib
import fcntl
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib.data.pairs import open_pairs
from calib.errors import DataError

Cli = Callable[..., Any]

PLUGIN = """
import os, pathlib, signal, time
import numpy as np

class Model:
    frontend = "hifigan"
    output_space = "raw"
    kind = "mean"
    autoregressive = False
    padding_safe = True

    def __init__(self, mode, wait, mark):
        self.mode, self.wait, self.mark = mode, wait, pathlib.Path(mark)

    def one(self, u, batch):
        mel = u.mel * np.float32(0.5) + u.reference_mel.mean()
        longest = max(len(v.mel) for v in batch)
        if self.mode == "draws":
            return mel + np.random.standard_normal(mel.shape)
        if self.mode == "near" and 0 < longest - len(u.mel) < 5:
            return mel + 1
        if self.mode == "far" and longest - len(u.mel) > 20:
            return mel + 1
        u.mel[:] = 7  # what a model does to its input changes no target
        return mel

    def teacher_force(self, batch):
        time.sleep(self.wait)
        if self.mode == "slow" and any(u.id in ("u03", "u19") for u in batch):
            time.sleep(60)
        if self.mode.startswith("dies") and any(u.id == "u25" for u in batch):
            if self.mode == "dies-always" or not self.mark.exists():
                self.mark.write_text("")
                os.kill(os.getpid(), signal.SIGKILL)
        return [self.one(u, batch) for u in batch]

def factory(checkpoint=None, device="cpu", mode="good", wait=0.0, mark=""):
    return Model(mode, wait, mark)
"""
LENGTHS = [20 + (7 * k) % 40 for k in range(40)]  # 40 utterances of 20 to 59 frames, batches of 2: windows of 16


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    """The spec of the plug-in."""
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    return f"{path}:factory"


@pytest.fixture
def mels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 40 stored mels, in windows of 16 where batches are of 2."""
    monkeypatch.setattr("calib.commands.teacher_force._WINDOW", 16)
    rng = np.random.default_rng(0)
    (tmp_path / "mels").mkdir()
    for k, length in enumerate(LENGTHS):
        mel = rng.normal(-5, 2, (length, 80)).astype(np.float32)
        np.save(tmp_path / "mels" / f"u{k:02}.npy", mel)
    return tmp_path / "mels"


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "run.json"
    }


def options(plugin: str, *extra: object) -> tuple[object, ...]:
    return ("--model", plugin, "--device", "cpu", "--batch-size", 2, *extra)


@pytest.mark.parametrize("form", ["--files", "--shards"])
def test_two_processes_give_the_bytes_of_one_even_if_one_of_them_is_killed(
    calib: Cli, mels: Path, plugin: str, tmp_path: Path, form: str
) -> None:
    dying = ("--model-option", "mode=dies-once", "--model-option", f"mark={tmp_path / 'mark'}")
    done = calib("teacher-force", mels, *options(plugin, form, *dying), "--jobs", 2, "-o", "two")
    assert done.code == 0, done.err
    assert (tmp_path / "mark").exists(), "nobody died"
    assert calib("teacher-force", mels, *options(plugin, form, *dying), "--jobs", 1, "-o", "one").code == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert not (tmp_path / "one" / ".work").exists()
    rows = [json.loads(line)["id"] for line in (tmp_path / "one" / "pairs.jsonl").read_text().splitlines()]
    assert rows == sorted(rows)
    assert len(rows) == 40


def test_no_worker_outlives_a_killed_driver(mels: Path, plugin: str, tmp_path: Path) -> None:
    arguments = [str(a) for a in ("teacher-force", mels, *options(plugin, "--model-option", "mode=slow"), "--limit", 32, "-o", "out")]  # fmt: skip
    code = f"import calib.commands.teacher_force as t\nt._WINDOW = 16\nfrom calib.cli import main\nif __name__ == '__main__':\n    main({[*arguments, '--jobs', '2']!r})"
    running = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip
    work = tmp_path / "out" / ".work"
    while len(list(work.glob("*/0*.jsonl"))) < 2:
        assert running.poll() is None
        time.sleep(0.01)
    running.kill()
    running.wait()
    deadline = time.monotonic() + 20  # s; the batches in flight take 60
    locked = set(work.glob("*/0*.jsonl"))
    while locked and time.monotonic() < deadline:
        for path in list(locked):
            with path.open("a") as file, contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked.discard(path)
        time.sleep(0.01)
    assert not locked


def test_an_utterance_that_kills_every_process_is_named(calib: Cli, mels: Path, plugin: str, tmp_path: Path) -> None:
    done = calib("teacher-force", mels, *options(plugin, "--model-option", "mode=dies-always", "--model-option", f"mark={tmp_path / 'm'}"), "--jobs", 2, "-o", "out")  # fmt: skip
    assert done.code == 3
    assert "u16 to u31" in done.err
    assert "SIGKILL" in done.err
    assert not (tmp_path / "out" / "pairs.jsonl").exists()


def test_a_model_that_draws_gives_the_same_bytes_twice(calib: Cli, mels: Path, plugin: str, tmp_path: Path) -> None:
    draws = options(plugin, "--model-option", "mode=draws", "--limit", 20)
    assert calib("teacher-force", mels, *draws, "-o", "one").code == 0
    assert calib("teacher-force", mels, *draws, "--jobs", 2, "-o", "two").code == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert json.loads((tmp_path / "one" / "pairs.json").read_text())["deterministic"] is False
    assert calib("teacher-force", mels, *draws, "--seed", 1, "-o", "three").code == 0
    assert content(tmp_path / "one")["predictions/u00.npy"] != content(tmp_path / "three")["predictions/u00.npy"]


@pytest.mark.parametrize("form", ["--files", "--shards"])
def test_a_run_killed_again_and_again_ends_with_the_same_bytes(
    calib: Cli, mels: Path, plugin: str, tmp_path: Path, form: str
) -> None:
    arguments = [str(a) for a in ("teacher-force", mels, *options(plugin, form, "--model-option", "wait=0.02"), "-o", "killed")]  # fmt: skip
    code = f"import calib.commands.teacher_force as t\nt._WINDOW = 16\nfrom calib.cli import main\nmain({arguments!r})"
    work = tmp_path / "killed" / ".work"
    lines = 1
    for _ in range(2):
        running = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip
        while sum(path.read_bytes().count(b"\n") for path in work.glob("*/0*.jsonl")) < lines + 4:
            assert running.poll() is None
            time.sleep(0.005)
        running.send_signal(signal.SIGKILL)
        running.wait()
        lines = sum(path.read_bytes().count(b"\n") for path in work.glob("*/0*.jsonl"))
    for shard in work.glob("*/00000.data"):  # a torn tail, as a power cut leaves it
        with shard.open("r+b") as file:
            file.truncate(shard.stat().st_size - 100)
    done = calib(*arguments, "--jobs", 1)
    assert done.code == 0, done.err
    assert "resuming: " in done.err
    assert calib(*arguments[:-1], "whole").code == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_a_finished_shard_that_was_altered_or_whose_utterances_changed_is_made_again(
    calib: Cli, mels: Path, plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DataError("no space left")

    sharded = options(plugin, "--shards")
    with monkeypatch.context() as patch:  # every window is done, the index is not
        patch.setattr("calib.commands.teacher_force.write_index", fail)
        assert calib("teacher-force", mels, *sharded, "-o", "out").code == 3
    shards = sorted((tmp_path / "out" / "shards").glob("*.safetensors"))
    before = [path.stat().st_mtime_ns for path in shards]
    data = bytearray(shards[0].read_bytes())
    data[-1] ^= 1
    shards[0].write_bytes(data)
    altered = np.load(mels / "u39.npy") + 1
    np.save(mels / "u39.npy", altered)
    assert calib("teacher-force", mels, *sharded, "-o", "out").code == 0
    assert [a == b.stat().st_mtime_ns for a, b in zip(before, shards, strict=True)] == [False, True, False]
    assert calib("teacher-force", mels, *sharded, "-o", "whole").code == 0
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    np.testing.assert_array_equal(open_pairs(tmp_path / "out").load(open_pairs(tmp_path / "out").entries[-1]).target, altered)  # fmt: skip


def test_shards_hold_what_files_hold_and_every_reader_reads_them(
    calib: Cli, mels: Path, plugin: str, tmp_path: Path
) -> None:
    for form in ("--files", "--shards"):
        assert calib("teacher-force", mels, *options(plugin, form), "-o", form[2:]).code == 0
    files, shards = open_pairs(tmp_path / "files"), open_pairs(tmp_path / "shards")
    for one, two in zip(files, shards, strict=True):
        a, b = files.load(one), shards.load(two)
        assert one.id == two.id
        np.testing.assert_array_equal(a.pred, b.pred)
        np.testing.assert_array_equal(a.target, b.target)
        np.testing.assert_array_equal(a.target, np.load(mels / f"{one.id}.npy"))
    from safetensors.numpy import load_file

    found = load_file(tmp_path / "shards" / "shards" / "00001.safetensors")
    np.testing.assert_array_equal(found["target/u16"], np.load(mels / "u16.npy"))
    said = [calib("diagnose", folder, "--json", "-").out.replace(f'"{folder}"', "") for folder in ("files", "shards")]
    assert json.loads(said[0])["verdict"] == json.loads(said[1])["verdict"]
    assert calib("convert", "shards", "-o", "converted", "--layout", "npy").code == 0
    assert len(list((tmp_path / "converted").rglob("*.npy"))) == 40


@pytest.mark.parametrize(("damage", "words"), [("flip", "checksum"), ("cut", "cut short"), ("header", "not a readable safetensors file")])  # fmt: skip
def test_a_damaged_shard_is_named(calib: Cli, mels: Path, plugin: str, tmp_path: Path, damage: str, words: str) -> None:
    assert calib("teacher-force", mels, *options(plugin, "--shards"), "-o", "out").code == 0
    path = tmp_path / "out" / "shards" / "00001.safetensors"
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
    elif damage == "header":
        data[8:20] = b"x" * 12
    path.write_bytes(data[:-7] if damage == "cut" else data)
    pairs = open_pairs(tmp_path / "out")
    failed = []
    for entry in pairs:
        with contextlib.suppress(DataError):
            pairs.load(entry)
            continue
        with pytest.raises(DataError, match=rf"00001\.safetensors: .*{words}"):
            pairs.load(entry)
        failed.append(entry.id)
    longest = max(range(16, 32), key=lambda k: (LENGTHS[k], k))
    assert failed == ([f"u{longest:02}"] if damage == "flip" else [f"u{k}" for k in range(16, 32)])
    done = calib("fit-scaler", "out", "-o", "params.json")
    assert done.code == 3
    assert "00001.safetensors" in done.err


@pytest.mark.parametrize("mode", ["near", "far"])
def test_padding_that_leaks_only_between_like_or_unlike_lengths_is_noticed(
    calib: Cli, mels: Path, plugin: str, tmp_path: Path, mode: str
) -> None:
    done = calib("teacher-force", mels, *options(plugin, "--model-option", f"mode={mode}"), "-o", "out")
    assert done.code == 0
    assert "warning: the prediction changes in a padded batch" in done.err
    assert json.loads((tmp_path / "out" / "pairs.json").read_text())["options"]["batch_size"] == 1


def test_no_batch_is_larger_than_was_asked_for(calib: Cli, mels: Path, tmp_path: Path) -> None:
    (tmp_path / "count.py").write_text(
        PLUGIN.replace(
            "        time.sleep(self.wait)\n",
            '        with open("sizes", "a") as f:\n            f.write(f"{len(batch)} {len(batch) * max(len(u.mel) for u in batch)}\\n")\n',
        )
    )
    assert calib("teacher-force", mels, "--model", "count.py:factory", "--device", "cpu", "--batch-size", 4, "--batch-frames", 100, "-o", "out").code == 0  # fmt: skip
    sizes = [tuple(map(int, line.split())) for line in (tmp_path / "sizes").read_text().splitlines()]
    assert max(frames for _, frames in sizes) <= 100
    assert max(size for size, _ in sizes) == 4


def test_autocast_is_torchs(process: Cli, mels: Path, plugin: str, tmp_path: Path) -> None:
    for value, words in (("fp8", "bf16 or fp16"), ("bf16", "does not use torch")):
        done = process("teacher-force", mels, *options(plugin, "--autocast", value), "-o", "out")
        assert done.code == 2
        assert words in done.err
    assert not (tmp_path / "out").exists()
