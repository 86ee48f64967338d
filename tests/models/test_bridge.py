"""A plug-in in an interpreter of its own: every member crosses, and whatever it does, calib says what happened."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from calib.errors import DataError, PluginError, UsageError
from calib.models.bridge import client, find_python, worker
from calib.models.loading import load_model, load_vocoder
from calib.models.protocol import AcousticModel, Utterance, Vocoder

PLUGIN = '''
import os, sys, time
import numpy as np
print("garbage at import")

class DataError(Exception):
    """Named as calib's: this utterance cannot be used."""

class Model:
    frontend = {"sample_rate": 16000, "n_mels": 80}
    output_space, kind, autoregressive, padding_safe = "raw", "mean", True, False
    one_voice = True

    def __init__(self, mode, checkpoint, device):
        self.mode, self.notices, self.remarks = mode, [], [repr((checkpoint, device))]

    def teacher_force(self, batch):
        print("noise")
        os.write(1, b"\\x00CALIBBR1 more noise")  # as a C library would, below Python
        assert "calib" not in sys.modules and not any("calib" in os.path.basename(p) for p in sys.path)
        if self.mode == "dies":
            print("the last thing I said")
            os._exit(7)
        if self.mode == "killed":
            os.kill(os.getpid(), 9)
        if self.mode == "raises":
            raise ValueError("a bad thing")
        if self.mode == "data":
            raise DataError("no text in it")
        if self.mode == "leaves":
            sys.exit(3)
        if self.mode == "hangs":
            time.sleep(60)
        if self.mode == "array":
            return np.zeros((1, 5, 80))
        self.notices.append("said by %d" % len(batch))
        return [np.vstack([0 * u.mel[:1], u.mel[:-1]]) + (0 if u.reference_mel is None else u.reference_mel.mean()) for u in batch]

    def generate(self, text, *, speaker_audio, language, temperature, top_p, seed):
        return np.full((len(text), 80), seed + temperature, np.float64)

    def load_report(self):
        return {"restored": ["a"], "missing": ["b.c"]}

class Vocoder:
    frontend = "hifigan"
    last_gain = 0.0
    def vocode(self, mel):
        self.last_gain = -3.0
        return mel[:, 0], 22050

def factory(checkpoint, device, mode="works"):
    if mode == "none":
        return None
    return Model(mode, checkpoint, device)

def vocoder(checkpoint, device):
    return Vocoder()
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "foreign.py"
    path.write_text(PLUGIN, encoding="utf-8")
    return path


@pytest.fixture
def utterance() -> Utterance:
    mel = np.random.default_rng(0).normal(size=(50, 80)).astype(np.float32)
    return Utterance("a", mel, "سلام", "s", "fa", Path("a.wav"), mel[:10])


def load(plugin: Path, mode: str = "works", python: str = sys.executable):
    return load_model(f"{plugin}:factory", "ckpt.h5", "cpu", {"mode": mode}, python=python)


def test_every_member_of_a_model_crosses(plugin, utterance):
    model = load(plugin)
    assert isinstance(model, AcousticModel)
    assert (model.frontend, model.output_space, model.kind, model.autoregressive, model.padding_safe) == (
        {"sample_rate": 16000, "n_mels": 80}, "raw", "mean", True, False,
    )  # fmt: skip
    assert model.one_voice is True
    assert not hasattr(model, "reads_text")
    assert model.remarks == ["('ckpt.h5', 'cpu')"]
    out = model.teacher_force([utterance, utterance])
    expected = np.vstack([0 * utterance.mel[:1], utterance.mel[:-1]]) + utterance.reference_mel.mean()
    assert len(out) == 2
    assert np.array_equal(out[1], expected)
    assert model.notices == ["said by 2"]
    mel = model.generate("abc", speaker_audio=Path("x.wav"), language="fa", temperature=0.5, top_p=1.0, seed=4)
    assert mel.dtype == np.float64
    assert np.array_equal(mel, np.full((3, 80), 4.5))
    assert model.load_report() == {"restored": ["a"], "missing": ["b.c"]}


def test_a_vocoder_crosses(plugin, utterance):
    vocoder = load_vocoder(f"{plugin}:vocoder", python=sys.executable)
    assert isinstance(vocoder, Vocoder)
    assert not hasattr(vocoder, "teacher_force")
    samples, rate = vocoder.vocode(utterance.mel)
    assert np.array_equal(samples, utterance.mel[:, 0])
    assert rate == 22050
    assert vocoder.last_gain == -3.0


@pytest.mark.parametrize(
    ("mode", "error", "message"),
    [
        ("dies", PluginError, "ended with status 7"),
        ("killed", PluginError, "was killed by SIGKILL"),
        ("raises", PluginError, r"ValueError: a bad thing \(.*foreign\.py:\d+\)"),
        ("data", DataError, "^no text in it$"),
        ("leaves", PluginError, "SystemExit: 3"),
    ],
)
def test_what_goes_wrong_over_there_is_said_here(plugin, utterance, mode, error, message):
    model = load(plugin, mode)
    with pytest.raises(error, match=message) as caught:
        model.teacher_force([utterance])
    if mode == "dies":
        assert "the last thing I said" in caught.value.hint
        with pytest.raises(PluginError, match="has ended"):
            model.teacher_force([utterance])
    if mode == "raises":
        assert 'raise ValueError("a bad thing")' in str(caught.value.__cause__)


def test_an_answer_that_is_no_list_keeps_the_name_of_its_type(plugin, utterance):
    assert type(load(plugin, "array").teacher_force([utterance])).__name__ == "ndarray"


def test_a_plug_in_that_hangs_is_ended(plugin, utterance, monkeypatch):
    model = load(plugin, "hangs")
    model._process.timeout = 0.3
    pid = model._process._popen.pid
    with pytest.raises(PluginError, match="no answer to teacher_force within 0 s"):
        model.teacher_force([utterance])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    monkeypatch.setenv(client.TIMEOUT_VARIABLE, "soon")
    with pytest.raises(UsageError, match="a number of seconds"):
        load(plugin)


def test_the_worker_ends_with_the_model_and_with_calib(plugin):
    model = load(plugin)
    pid = model._process._popen.pid
    del model
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    code = f"from calib.models.loading import load_model; import os, time\nm = load_model({str(plugin)!r}, python={sys.executable!r})\nprint(m._process._popen.pid, flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the worker outlived a killed calib")


def test_wrong_specs_and_interpreters_are_usage_errors(plugin, tmp_path):
    for spec, python, message in (
        ("reference", sys.executable, "needs a file or a module"),
        (f"{plugin}:nothing", sys.executable, "there is no 'nothing'"),
        (str(tmp_path / "absent.py"), sys.executable, "no such file"),
        (str(plugin), str(tmp_path / "python"), "no such interpreter"),
        (str(plugin), str(tmp_path), "a folder without bin/python"),
    ):
        with pytest.raises(UsageError, match=message):
            load_model(spec, python=python)
    with pytest.raises(PluginError, match="the factory returned None"):
        load(plugin, "none")
    with pytest.raises(PluginError, match=r"status|protocol") as caught:
        load(plugin, python="/bin/false")
    assert "is it a Python, 3.8 or later?" in str(caught.value.hint)


def test_a_virtual_environments_folder_is_its_interpreter(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    assert find_python(str(tmp_path)) == str(tmp_path / "bin" / "python")


def test_an_interpreter_without_numpy_or_too_old_is_told_so(tmp_path, plugin):
    shell = tmp_path / "python"
    shell.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$2"\n', encoding="utf-8")  # no site-packages
    shell.chmod(0o755)
    with pytest.raises(UsageError, match="cannot import numpy"):
        load(plugin, python=str(shell))


def test_messages_survive_the_wire_and_damage_is_noticed():
    message = {
        "call": "x",
        "arguments": {"a": [np.arange(6.0).reshape(2, 3), None, 1.5, "ö\ud800"], "b": {"c": np.float32(2)}},
    }
    data = worker.pack(message)
    back = worker.unpack(worker._reader(io.BytesIO(data)))
    assert np.array_equal(back["arguments"]["a"][0], message["arguments"]["a"][0])
    assert back["arguments"]["a"][1:] == [None, 1.5, "ö\ud800"]
    assert back["arguments"]["b"] == {"c": 2.0}
    for damaged in (
        b"X" + data[1:],
        data[:8] + b"\xff\xff\xff\xff" + data[12:],
        data.replace(b'"arrays"', b'"orrays"'),
    ):
        with pytest.raises(worker.WireError):
            worker.unpack(worker._reader(io.BytesIO(damaged)))
    with pytest.raises(EOFError):
        worker.unpack(worker._reader(io.BytesIO(data[:-3])))
    objects = io.BytesIO()
    np.save(objects, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(worker.WireError, match="cannot be read"):
        worker._array(objects.getvalue())


def test_the_worker_is_written_for_python_3_8():
    """Parsed with the grammar of 3.8, and without names that are newer; it is run by 3.8 in benchmarks, not here."""
    import ast

    tree = ast.parse(Path(worker.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & {"removeprefix", "removesuffix", "pairwise"}
    assert not any(
        keyword.arg == "strict" for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords
    )
    imported = {
        (n.module if isinstance(n, ast.ImportFrom) else n.names[0].name).partition(".")[0]
        for n in ast.walk(tree)
        if isinstance(n, (ast.Import, ast.ImportFrom))
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy"}
