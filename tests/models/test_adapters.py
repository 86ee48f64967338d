"""Templates of plug-ins: printed, written, and each one run against a stand-in of its framework's public interface."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from calib.cli import _run
from calib.errors import DataError, PluginError
from calib.models.adapters import NAMES, SHADOWS, template
from calib.models.loading import load_model
from calib.models.protocol import Utterance

sys.path.insert(0, str(Path(__file__).parent))
from standins import write

EXAMPLE = Path(__file__).parents[2] / "examples" / "keras_model.py"
AUDIO = {
    "fft_size": 1024, "win_length": 1024, "hop_length": 256, "sample_rate": 22050, "num_mels": 80, "mel_fmin": 0.0, "mel_fmax": 8000.0, "preemphasis": 0.0, "signal_norm": False,
    "log_func": "np.log", "spec_gain": 1.0, "do_trim_silence": False, "ref_level_db": 20, "min_level_db": -100, "power": 1.5, "stats_path": None,
}  # fmt: skip

NEMO_AUDIO = {
    "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor", "features": 80, "lowfreq": 0, "highfreq": 8000, "n_fft": 1024, "n_window_size": 1024, "window_size": False,
    "n_window_stride": 256, "window_stride": False, "pad_to": 1, "pad_value": 0, "sample_rate": 22050, "window": "hann", "normalize": None, "preemph": None, "dither": 0.0, "log": True,
    "log_zero_guard_type": "add", "log_zero_guard_value": 1e-05, "mag_power": 1.0,
}  # fmt: skip


@pytest.fixture
def utterances():
    rng = np.random.default_rng(0)
    return [Utterance(f"u{n}", rng.normal(size=(n, 80)).astype(np.float32), "hello there") for n in (41, 60)]


def checkpoint(name: str, folder: Path) -> str:
    if name in {"tacotron2", "fastpitch"}:
        net = {
            "embedding.weight": torch.randn(40, 8),
            "output.weight": torch.randn(80, 88),
            "output.bias": torch.randn(80),
        }
        torch.save({"model": net}, folder / "best_model.pth")
        (folder / "config.json").write_text(json.dumps({"model": name, "audio": AUDIO, "r": 2}), encoding="utf-8")
        return str(folder)
    if name == "glowtts":
        torch.manual_seed(0)
        net = {"embedding.weight": torch.randn(40, 80), "decoder.weight": torch.eye(80) + 0.05 * torch.randn(80, 80)}
        torch.save({"model": net}, folder / "best_model.pth")
        config = {"model": "glow_tts", "audio": AUDIO, "num_squeeze": 2}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return str(folder)
    if name == "nemo":
        net = {"embedding.weight": torch.randn(40, 8), "proj.weight": torch.randn(80, 8), "proj.bias": torch.randn(80)}
        torch.save(net, folder / "model_weights.ckpt")
        (folder / "model_config.yaml").write_text(json.dumps({"preprocessor": NEMO_AUDIO}), encoding="utf-8")
        return str(folder)
    return str(folder / "model.bin")


@pytest.mark.parametrize("name", NAMES)
def test_a_template_runs_forced_and_free(name, tmp_path, utterances, monkeypatch, capsys):
    write(name, tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert _run(["new-adapter", name, "-o", str(tmp_path / f"my_{name}.py")]) == 0
    assert f"my_{name}.py:factory" in capsys.readouterr().out
    # In a process of its own: the stand-ins must not stay in this one's modules.
    model = load_model(str(tmp_path / f"my_{name}.py"), checkpoint(name, tmp_path), python=sys.executable)
    first, again = model.teacher_force(utterances), model.teacher_force(utterances)
    for mel, other, utterance in zip(first, again, utterances, strict=True):
        assert np.array_equal(mel, other)
        assert mel.shape == utterance.mel.shape
        assert mel.dtype == np.float32
    if name != "blank":
        mel = model.generate("a bc", speaker_audio=None, language="en", temperature=1.0, top_p=1.0, seed=1)
        assert mel.ndim == 2
        assert mel.shape[1] == 80
    if name in {"tacotron2", "fastpitch"}:
        assert model.load_report() == {
            "restored": ["embedding.weight", "output.weight", "output.bias"],
            "missing": [],
            "unexpected": [],
        }


def test_a_template_is_short_and_imports_nothing_of_calib():
    for name in NAMES:
        text = template(name)
        assert "import calib" not in text
        assert "from calib" not in text
        code = [
            line for line in text.split('"""', 2)[2].splitlines() if line.strip() and not line.strip().startswith("#")
        ]
        assert len(code) <= 50, (name, len(code))


def test_printed_and_written_are_the_same_and_nothing_is_overwritten(tmp_path, capsys):
    assert _run(["new-adapter", "blank"]) == 0
    assert capsys.readouterr().out == template("blank")
    file = tmp_path / "my_model.py"
    assert _run(["new-adapter", "blank", "-o", str(file)]) == 0
    assert file.read_text(encoding="utf-8") == template("blank")
    assert _run(["new-adapter", "blank", "-o", str(file)]) == 2
    assert _run(["new-adapter", "blank", "-o", str(file), "--force"]) == 0


def test_a_name_that_would_hide_the_framework_is_refused(tmp_path, capsys):
    for name, hidden in SHADOWS.items():
        assert _run(["new-adapter", name, "-o", str(tmp_path / f"{hidden[0]}.py")]) == 2
        assert f"-o my_{name}.py" in capsys.readouterr().err
    assert _run(["new-adapter", "tacotron", "-o", str(tmp_path / "x.py")]) == 2
    assert "did you mean tacotron2?" in capsys.readouterr().err


def test_a_framework_that_is_not_there_is_named_with_the_interpreter(tmp_path):
    (tmp_path / "my_keras.py").write_text(template("keras"), encoding="utf-8")
    try:
        import keras  # noqa: F401
    except ImportError:
        with pytest.raises(PluginError, match="No module named 'keras'") as caught:
            load_model(str(tmp_path / "my_keras.py"), "x", python=sys.executable)
        assert sys.executable in str(caught.value.hint)


def keras_python() -> str:
    """An interpreter with Keras, or skip with the reason: this one, or the one that CALIB_KERAS_PYTHON names."""
    python = os.environ.get("CALIB_KERAS_PYTHON", sys.executable)
    out = subprocess.run([python, "-c", "import keras"], capture_output=True, text=True, check=False)
    if out.returncode != 0:
        pytest.skip(f"{python} cannot import keras (CALIB_KERAS_PYTHON names an interpreter that can)")
    return python


@pytest.mark.slow
def test_the_keras_example_is_judged_from_an_environment_without_it(tmp_path, utterances):
    python = keras_python()
    file = tmp_path / "model.keras"
    subprocess.run([python, str(EXAMPLE), str(file)], check=True, capture_output=True)
    model = load_model(str(EXAMPLE), str(file), python=python)
    together = model.teacher_force(utterances)
    for mel, utterance in zip(together, utterances, strict=True):
        assert mel.shape == utterance.mel.shape
        assert np.abs(mel - model.teacher_force([utterance])[0]).max() < 1e-4
    assert model.load_report()["restored"]
    assert model.generate("ab", speaker_audio=None, language="en", temperature=1.0, top_p=1.0, seed=0).shape == (16, 80)
    with pytest.raises(DataError, match="no character"):
        model.teacher_force([Utterance("u", utterances[0].mel, "سلام")])


def test_teacher_forcing_of_a_flow_takes_only_the_alignment_from_the_true_mel(tmp_path, monkeypatch):
    """Target to latent, search, the tokens' means back through the flow: nothing else of the target comes through."""
    write("glowtts", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    folder = checkpoint("glowtts", tmp_path)
    (tmp_path / "my_glowtts.py").write_text(template("glowtts"), encoding="utf-8")
    model = load_model(str(tmp_path / "my_glowtts.py"), folder, python=sys.executable)
    net = torch.load(tmp_path / "best_model.pth", weights_only=True)["model"]
    said = torch.linalg.solve(net["decoder.weight"], net["embedding.weight"].T).T.numpy()  # each token's mean, as a mel
    text, lengths = "abcd", (7, 12, 3, 9)  # 31 frames: an odd number, of which the flow takes pairs
    clean = np.repeat(said[[ord(c) % 40 for c in text]], lengths, axis=0)
    noisy = clean + np.random.default_rng(0).normal(0, 0.2, clean.shape)
    forced = model.teacher_force([Utterance("u", noisy.astype(np.float32), text)])[0]
    assert forced.shape == clean.shape
    assert np.abs(forced - clean).max() < 1e-3
    with pytest.raises(DataError, match="cannot be aligned"):
        model.teacher_force([Utterance("u", clean[:3].astype(np.float32), text)])


REAL = {"CALIB_COQUI_PYTHON": "TTS", "CALIB_NEMO_PYTHON": "nemo.collections.tts"}


def python_with(variable: str) -> str:
    """An interpreter with a framework, or skip with the reason: the one that the environment variable names."""
    python = os.environ.get(variable)
    if python is None:
        pytest.skip(f"{variable} names no interpreter that can import {REAL[variable].partition('.')[0]}")
    return python


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "variable", "maker"),
    [("glowtts", "CALIB_COQUI_PYTHON", "coqui_glowtts.py"), ("nemo", "CALIB_NEMO_PYTHON", "nemo_fastpitch.py")],
)
def test_the_whole_line_with_the_real_framework_in_its_own_interpreter(name, variable, maker, tmp_path, capsys):
    """Teacher forcing to a verdict, a page and a WAV; random weights, which no calibration may claim to repair."""
    python = python_with(variable)
    folder, plugin = tmp_path / "model", tmp_path / f"my_{name}.py"
    subprocess.run([python, str(EXAMPLE.with_name(maker)), str(folder)], check=True, capture_output=True)
    plugin.write_text(template(name), encoding="utf-8")
    model = ["--model", str(plugin), "--checkpoint", str(folder), "--model-python", python, "--device", "cpu"]
    pairs = str(tmp_path / "pairs")
    assert _run(["teacher-force", "demo:corpus", "--language", "en", "--limit", "6", *model, "-o", pairs]) == 0
    capsys.readouterr()
    assert _run(["diagnose", pairs, "--json", "-"]) == 0
    verdict = json.loads(capsys.readouterr().out)["verdict"]["state"]
    assert verdict in {"collapsed", "no-signal"}
    assert _run(["fit-scaler", pairs, "-o", str(tmp_path / "params.json")]) == 5
    assert not (tmp_path / "params.json").exists()
    assert _run(["report", pairs, "-o", str(tmp_path / "report.html")]) == 0
    assert _run(["synth", "--text", "One small sentence.", *model, "-o", str(tmp_path / "out.wav")]) == 0
    assert (tmp_path / "out.wav").stat().st_size > 1000
