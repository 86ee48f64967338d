"""`calib fold` into a vocoder: exact in a normalisation, edges where the first convolution pads with zeros."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vocoderlike import CONFIGS, filled, mel

from calib.mel.frontend import FrontEnd
from calib.models.loading import load_vocoder
from calib.params import MelScaler

HIFIGAN, HUGGING = "calib.vocoders.hifigan:factory", "calib.vocoders.huggingface:factory"


def parameters(folder: Path, offset: float, frontend_id: str | None, *, per_bin: bool = False) -> tuple[Path, Path]:
    """With mean 0, so that an offset of 0 is none at all."""
    stats, params = folder / "mel_normalization_stats.json", folder / "mel_scaling_params.json"
    bins = {"scale": np.linspace(0.5, 1.5, 80).tolist(), "offset": np.linspace(-1, 1, 80).tolist()} if per_bin else None
    stats.write_text(json.dumps({"schema": "calib/mel-normalization-stats/1", "mel_mean": 0.0, "mel_std": 2.0, "stats_id": "s", "frontend_id": frontend_id}))  # fmt: skip
    params.write_text(json.dumps({"schema": "calib/mel-scaling-params/1", "scale_factor": 0.7, "offset": offset, "per_bin": bins, "stats_id": "s", "frontend_id": frontend_id}))  # fmt: skip
    return stats, params


def hifigan(folder: Path, style: str) -> Path:
    """A small official checkpoint."""
    from calib.vocoders.hifigan import Generator, stages_of
    from calib.vocoders.neural import Settings

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIGS["hifigan_1"]))
    shapes = {name: tuple(t.shape) for name, t in Generator(stages_of(Settings(CONFIGS["hifigan_1"], ""))).state_dict().items()}  # fmt: skip
    if style == "weight_norm":
        for name in [name for name in shapes if name.endswith(".weight")]:
            shape = shapes.pop(name)
            shapes[name + "_g"], shapes[name + "_v"] = (shape[0], *[1] * (len(shape) - 1)), shape
    tensors = {name: torch.from_numpy(value) for name, value in filled(shapes).items()}
    torch.save({"generator": tensors}, folder / "g_00000007")
    return folder


def same(kind: str, old: Path, new: Path, scaler: MelScaler) -> np.ndarray:
    """Difference of the sounds, by sample, of a mel that neither has seen."""
    given = mel(80, 60)
    a = load_vocoder(kind, str(old)).vocode(np.asarray(scaler.calibrate(given)))[0]
    b = load_vocoder(kind, str(new)).vocode(given)[0]
    assert np.abs(a).max() > 0.02
    return np.asarray(np.abs(a - b))


@pytest.mark.parametrize("style", ["plain", "weight_norm"])
def test_a_scale_alone_is_exact_to_the_ends(style: str, calib: Callable[..., Any], tmp_path: Path) -> None:
    """No offset: zeros beyond the ends stay zeros. The folder, its configuration and its style of weights stay too."""
    folder = hifigan(tmp_path / "v", style)
    stats, params = parameters(tmp_path, 0.0, None)
    result = calib("fold", "--params", params, "--vocoder", HIFIGAN, "--vocoder-checkpoint", folder, "-o", tmp_path / "out", "--limit", 1)  # fmt: skip
    assert result.code == 0, result.err
    assert same(HIFIGAN, folder, tmp_path / "out", MelScaler.load(params, stats)).max() <= 1e-5
    names = set(torch.load(tmp_path / "out" / "g_00000007", weights_only=True)["generator"])
    assert ("conv_pre.weight_g" in names) == (style == "weight_norm")
    content = json.loads((tmp_path / "out" / "mel_scaling_params.json").read_text())
    assert content["folded"]["into"] == "vocoder"
    assert content["folded"]["vocoder_id"].startswith("model-")
    assert (content["scale_factor"], content["offset"]) == (0.5, 0.0)  # gives p back


@pytest.mark.parametrize("per_bin", [False, True])
def test_an_offset_moves_the_edges_and_that_is_refused(
    per_bin: bool, calib: Callable[..., Any], tmp_path: Path
) -> None:
    """Zeros beyond the ends stand for another mel after the fold: refused, or with --allow-edges written and said."""
    folder = hifigan(tmp_path / "v", "plain")
    stats, params = parameters(tmp_path, -2.0, None, per_bin=per_bin)
    arguments = ("fold", "--params", params, "--vocoder", HIFIGAN, "--vocoder-checkpoint", folder, "-o", tmp_path / "out", "--limit", 1)  # fmt: skip
    refused = calib(*arguments)
    assert refused.code == 5
    assert "pads the mel with zeros" in refused.err
    assert not (tmp_path / "out" / "g_00000007").exists()
    written = calib(*arguments, "--allow-edges")
    assert written.code == 0, written.err
    proof = json.loads((tmp_path / "out" / "mel_scaling_params.json").read_text())["folded"]["proof"]
    apart = same(HIFIGAN, folder, tmp_path / "out", MelScaler.load(params, stats))
    edge = 16 * (proof["edge_frames"] + 1)
    assert 3 <= proof["edge_frames"] <= 12
    assert apart[edge:-edge].max() <= 1e-5
    assert apart.max() > 1e-4
    assert f"first and last {proof['edge_frames']} frames" in written.out


@pytest.mark.parametrize("per_bin", [False, True])
def test_a_vocoder_that_normalises_takes_any_calibration(
    per_bin: bool, calib: Callable[..., Any], tmp_path: Path
) -> None:
    """Transformers' HiFi-GAN: the calibration goes into mean and scale, exact to the ends; its own code agrees."""
    transformers = pytest.importorskip("transformers", reason="compares with transformers itself")
    rates: dict[str, Any] = {"upsample_rates": [4, 4], "upsample_kernel_sizes": [8, 8], "upsample_initial_channel": 16, "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3, 5]]}  # fmt: skip
    module = transformers.SpeechT5HifiGan(transformers.SpeechT5HifiGanConfig(**rates))
    tensors = {name: torch.from_numpy(value) for name, value in filled({n: tuple(t.shape) for n, t in module.state_dict().items()}).items()}  # fmt: skip
    tensors["mean"], tensors["scale"] = torch.linspace(-6, -3, 80), torch.linspace(1, 2, 80)
    tensors["conv_post.weight"] *= 0.05
    module.load_state_dict(tensors)
    module.save_pretrained(tmp_path / "v")
    frontend = FrontEnd.load(load_vocoder(HUGGING, str(tmp_path / "v")).frontend)
    stats, params = parameters(tmp_path, -2.0, frontend.id, per_bin=per_bin)
    result = calib("fold", "--params", params, "--vocoder", HUGGING, "--vocoder-checkpoint", tmp_path / "v", "-o", tmp_path / "out", "--limit", 1)  # fmt: skip
    assert result.code == 0, result.err
    assert "mean, scale" in result.out
    scaler = MelScaler.load(params, stats)
    assert same(HUGGING, tmp_path / "v", tmp_path / "out", scaler).max() <= 1e-5
    given = torch.from_numpy(mel(80))
    theirs = transformers.SpeechT5HifiGan.from_pretrained(tmp_path / "out", local_files_only=True).eval()
    with torch.no_grad():
        assert (theirs(given) - module.eval()(scaler.calibrate(given))).abs().max() <= 1e-5


def test_a_vocoder_that_hears_nothing_proves_nothing(calib: Callable[..., Any], tmp_path: Path) -> None:
    """Untrained, it is silent to 1e-7: folded and unfolded would agree whatever was folded."""
    folder = hifigan(tmp_path / "v", "plain")
    parameters(tmp_path, 0.0, None)
    held = torch.load(folder / "g_00000007", weights_only=True)
    held["generator"]["conv_post.weight"] *= 1e-7
    held["generator"]["conv_post.bias"] *= 0
    torch.save(held, folder / "g_00000007")
    result = calib("fold", "--params", tmp_path / "mel_scaling_params.json", "--vocoder", HIFIGAN, "--vocoder-checkpoint", folder, "-o", tmp_path / "out", "--limit", 1)  # fmt: skip
    assert result.code == 5
    assert "prove nothing" in result.err
    assert not (tmp_path / "out" / "g_00000007").exists()


def test_the_same_calibration_is_not_applied_twice(calib: Callable[..., Any], tmp_path: Path) -> None:
    """A second fold is refused; the parameters that the first one wrote change nothing and are welcome."""
    folder = hifigan(tmp_path / "v", "plain")
    _, params = parameters(tmp_path, 0.0, None)
    arguments = ("--vocoder", HIFIGAN, "--limit", 1, "-o")
    first = calib("fold", "--params", params, "--vocoder-checkpoint", folder, *arguments, tmp_path / "one")
    assert first.code == 0, first.err
    again = calib("fold", "--params", params, "--vocoder-checkpoint", tmp_path / "one", *arguments, tmp_path / "two")
    assert again.code == 3
    assert "applied twice" in again.err
    assert not (tmp_path / "two" / "g_00000007").exists()
    folded = tmp_path / "one" / "mel_scaling_params.json"
    neutral = calib("fold", "--params", folded, "--vocoder-checkpoint", tmp_path / "one", *arguments, tmp_path / "two")
    assert neutral.code == 0, neutral.err
    given = mel(80, 60)
    a, b = (load_vocoder(HIFIGAN, str(tmp_path / name)).vocode(given)[0] for name in ("one", "two"))
    assert np.abs(a - b).max() <= 1e-5
