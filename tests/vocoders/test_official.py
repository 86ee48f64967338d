"""The official code and ours on one random-weight checkpoint: the same waveform. See tests/golden/vocoders.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from vocoderlike import CONFIGS, filled, mel, vocos

from calib.errors import DataError, UsageError
from calib.mel.frontend import FrontEnd
from calib.models.loading import load_vocoder

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "vocoders"
FRONTEND = {"hifigan": 80, "bigvgan": 20, "vocos": 10}
NAMES = [*CONFIGS, "vocos_center", "vocos_same"]


def official(name: str) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """The official state dict, and the waveform of the official code."""
    with np.load(GOLDEN / f"{name}.npz") as found:
        names = json.loads(found["names"].tobytes())
        kept = {key.removeprefix("kept/"): found[key] for key in found.files if key.startswith("kept/")}
        wave = found["wave"]
    tensors = {}
    for key, shape in names.items():
        last = key.rpartition(".")[2]
        same = next((value for other, value in kept.items() if other.rpartition(".")[2] == last), None)
        tensors[key] = torch.from_numpy(filled({key: shape})[key] if same is None else same)
    return tensors, wave


def new_style(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As torch's parametrizations.weight_norm names them."""
    names = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    return {
        ".".join([*key.split(".")[:-1], names.get(key.split(".")[-1], key.split(".")[-1])]): value
        for key, value in tensors.items()
    }


def folder_of(name: str, folder: Path) -> dict[str, Any]:
    """Write the configuration as the official releases have it."""
    folder.mkdir(parents=True, exist_ok=True)
    if name.startswith("vocos"):
        config = vocos(name.removeprefix("vocos_"))
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    else:
        config = CONFIGS[name]
        (folder / "config.json").write_text(json.dumps(config))
    return config


def opened(kind: str, checkpoint: Path, **options: Any) -> Any:
    return load_vocoder(f"calib.vocoders.{kind}:factory", str(checkpoint), "cpu", options)


@pytest.mark.parametrize("name", NAMES)
def test_the_waveform_is_the_official_one(name: str, tmp_path: Path) -> None:
    """Official file names and wrappers, a folder given: waveforms equal to 1e-5."""
    kind = name.partition("_")[0]
    folder_of(name, tmp_path)
    tensors, wave = official(name)
    file = {"hifigan": "g_02500000", "bigvgan": "bigvgan_generator.pt", "vocos": "pytorch_model.bin"}[kind]
    torch.save(tensors if kind == "vocos" else {"generator": tensors}, tmp_path / file)
    vocoder = opened(kind, tmp_path)
    samples, rate = vocoder.vocode(mel(FRONTEND[kind]))
    assert rate == (24000 if kind == "vocos" else 22050)
    assert samples.shape == wave.shape
    assert np.abs(samples - wave).max() < 1e-5
    assert vocoder.load_report()["missing"] == vocoder.load_report()["unexpected"] == []


@pytest.mark.parametrize("form", ["parametrizations", "plain", "safetensors", "data parallel"])
def test_every_style_of_weights_gives_that_waveform(form: str, tmp_path: Path) -> None:
    """Weight norm old (above), new, and none; safetensors; names behind ``module.``; the file itself named."""
    folder_of("hifigan_1", tmp_path)
    tensors, wave = official("hifigan_1")
    path = tmp_path / ("generator.safetensors" if form == "safetensors" else "generator_v1")
    if form == "parametrizations":
        torch.save({"generator": new_style(tensors)}, path)
    elif form == "plain":
        from calib.vocoders.weights import merged

        torch.save({"generator": merged(tensors)[0]}, path)
    elif form == "data parallel":
        torch.save({"generator": {f"module.{key}": value for key, value in tensors.items()}}, path)
    else:
        save_file(tensors, path)
    vocoder = opened("hifigan", path)
    assert np.abs(vocoder.vocode(mel(80))[0] - wave).max() < 1e-5
    styles = {"plain": "plain", "parametrizations": "parametrizations"}
    assert vocoder.load_report()["style"] == styles.get(form, "weight_g/weight_v")


def test_the_front_end_is_what_the_configuration_says(tmp_path: Path) -> None:
    """Of each configuration: the fields that its system's code and its numbers give."""
    for name in ("hifigan_1", "bigvgan_1", "vocos_same"):
        kind, folder = name.partition("_")[0], tmp_path / name
        folder_of(name, folder)
        torch.save({"generator": official(name)[0]} if kind != "vocos" else official(name)[0], folder / "generator.pt")
        found = FrontEnd.load(opened(kind, folder / "generator.pt").frontend)
        assert (found.hop_length, found.n_mels) == (16, FRONTEND[kind])
        assert (found.padding, found.log, found.fmax) == ("same", "ln", {"hifigan": 8000.0, "bigvgan": 11025.0, "vocos": 12000.0}[kind])  # fmt: skip


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    """A missing tensor, one too many, another shape, NaN: each an error with the name; nothing is loaded in part."""
    folder_of("hifigan_1", tmp_path)
    whole, _ = official("hifigan_1")
    path = tmp_path / "generator"

    def error(change: dict[str, torch.Tensor | None]) -> str:
        tensors = {key: value for key, value in {**whole, **change}.items() if value is not None}
        torch.save({"generator": tensors}, path)
        with pytest.raises(DataError) as caught:
            opened("hifigan", path)
        return caught.value.message

    assert "missing: ups.1.bias (4,)" in error({"ups.1.bias": None})
    assert "unexpected: ema.decay (1,)" in error({"ema.decay": torch.ones(1)})
    assert "conv_pre.bias is (3,), the configuration says (16,)" in error({"conv_pre.bias": torch.ones(3)})
    assert "NaN or infinite weights in conv_pre.bias" in error({"conv_pre.bias": torch.full((16,), torch.nan)})
    codes = (whole["conv_pre.bias"] * 100).to(torch.int8)  # of a quantised network
    assert "no floating point numbers: conv_pre.bias is int8" in error({"conv_pre.bias": codes})
    torch.save({"mpd": whole, "msd": whole}, path)
    with pytest.raises(DataError, match="discriminators"):
        opened("hifigan", path)


def test_files_that_are_missing_or_too_many_are_said(tmp_path: Path) -> None:
    """No checkpoint, no configuration, two generators; of g_* the last step is taken."""
    tensors, wave = official("hifigan_1")
    with pytest.raises(UsageError, match="needs its weights"):
        load_vocoder("calib.vocoders.hifigan:factory", None)
    torch.save({"generator": tensors}, tmp_path / "generator_a")
    with pytest.raises(DataError, match=r"has no config\.json"):
        opened("hifigan", tmp_path)
    folder_of("hifigan_1", tmp_path / "elsewhere")
    elsewhere = str(tmp_path / "elsewhere" / "config.json")
    assert np.abs(opened("hifigan", tmp_path, config=elsewhere).vocode(mel(80))[0] - wave).max() < 1e-5
    torch.save({"generator": tensors}, tmp_path / "generator_b")
    with pytest.raises(UsageError, match="generator_a, generator_b"):
        opened("hifigan", tmp_path, config=elsewhere)
    (tmp_path / "g_00000001").write_bytes(b"not the one")
    torch.save({"generator": tensors}, tmp_path / "g_00000002")
    assert np.abs(opened("hifigan", tmp_path, config=elsewhere).vocode(mel(80))[0] - wave).max() < 1e-5
    with pytest.raises(UsageError, match="unknown option 'speed'"):
        opened("hifigan", tmp_path, speed=2)


def test_configurations_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    """A hop that is not the product of the rates; a front end given that the network cannot have; the wrong kind."""
    tensors, _ = official("hifigan_1")
    torch.save({"generator": tensors}, tmp_path / "generator")
    (tmp_path / "config.json").write_text(json.dumps({**CONFIGS["hifigan_1"], "hop_size": 256}))
    with pytest.raises(DataError, match="hop_length 256, but the network makes it 16"):
        opened("hifigan", tmp_path)
    folder_of("hifigan_1", tmp_path)
    with pytest.raises(DataError, match="n_mels 100"):
        opened("hifigan", tmp_path, frontend="vocos_mel_24k")
    with pytest.raises(DataError, match="snake or snakebeta"):
        opened("bigvgan", tmp_path / "generator")
    folder_of("bigvgan_1", tmp_path)
    with pytest.raises(DataError, match="BigVGAN configuration"):
        opened("hifigan", tmp_path)


def test_vocos_checks_the_filterbank_of_its_checkpoint(tmp_path: Path) -> None:
    """The bank of the declared front end loads; another one is an error; the parts that are not read are named."""
    config = folder_of("vocos_same", tmp_path)
    tensors, wave = official("vocos_same")
    bank = torch.from_numpy(FrontEnd.load(tmp_path / "config.yaml").basis().T.copy())
    name = "feature_extractor.mel_spec.mel_scale.fb"
    torch.save({**tensors, name: bank}, tmp_path / "pytorch_model.bin")
    vocoder = opened("vocos", tmp_path)
    assert vocoder.load_report()["ignored"] == 1
    assert np.abs(vocoder.vocode(mel(10))[0] - wave).max() < 1e-5
    torch.save({**tensors, name: bank * 1.1}, tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match="filterbank differs"):
        opened("vocos", tmp_path)
    config["head"]["class_path"] = "vocos.heads.IMDCTCosHead"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(DataError, match="head is IMDCTCosHead; calib reads ISTFTHead"):
        opened("vocos", tmp_path)


def test_a_mel_that_it_cannot_take_is_refused(tmp_path: Path) -> None:
    """Bins, orientation, emptiness, NaN: a DataError that says which."""
    folder_of("hifigan_1", tmp_path)
    torch.save({"generator": official("hifigan_1")[0]}, tmp_path / "generator")
    vocoder = opened("hifigan", tmp_path)
    for wrong, words in ((mel(100), "100 mel bins, but hifigan takes 80"), (mel(80).T, "12 mel bins"), (mel(80)[:0], "no frames"), (np.full((3, 80), np.nan), "240 NaN")):  # fmt: skip
        with pytest.raises(DataError, match=words):
            vocoder.vocode(wrong)
