"""The module forms: the same numbers as calib.params, through script, export, ONNX and a state_dict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calib.modules import NormalizerModule, ScalerModule
from calib.params import MelNormalizer, MelScaler, ParamsError

BINS = 6
RNG = np.random.default_rng(3)
MEL = (RNG.standard_normal((2, 9, BINS)) * 2 - 5).astype(np.float32)


def normalizer(*, per_bin: bool) -> MelNormalizer:
    return MelNormalizer(-5.07, 2.08, RNG.normal(-5, 1, BINS), RNG.uniform(0.5, 2, BINS), per_bin, "st-1", "fe-1")


def scaler(*, per_bin: bool, floor: float | None = None) -> MelScaler:
    bins = (RNG.uniform(0.5, 2, BINS), RNG.normal(0, 1, BINS)) if per_bin else (None, None)
    return MelScaler(0.8, 0.3, *bins, normalizer(per_bin=False), "fixable", "st-1", "fe-1", "model-1", floor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("per_bin", [False, True])
def test_both_directions_are_those_of_the_parameters(per_bin: bool, dtype: torch.dtype) -> None:
    """Normalise and denormalise: equal to calib.params, exactly in float32 and to 1e-15 in float64; dtype kept."""
    n = normalizer(per_bin=per_bin)
    mel = torch.from_numpy(MEL).to(dtype)
    forth, back = NormalizerModule(n, dtype=dtype), NormalizerModule(n, inverse=True, dtype=dtype)
    assert forth(mel).dtype == dtype
    assert torch.equal(forth(mel), n.normalize(mel))
    assert torch.equal(back(mel), n.denormalize(mel))
    assert (forth.denormalize(forth(mel)) - mel).abs().max() < 1e-5


@pytest.mark.parametrize("floor", [None, -6.0])
@pytest.mark.parametrize("per_bin", [False, True])
def test_the_scaler_is_that_of_the_parameters(per_bin: bool, floor: float | None) -> None:
    """Scale, denormalise, clamp: 1e-7 from calib.params, in torch and numpy, bins last or first."""
    s = scaler(per_bin=per_bin, floor=floor)
    mel = torch.from_numpy(MEL)
    expected = s.calibrate(MEL)
    assert np.abs(ScalerModule(s)(mel).numpy() - expected).max() <= 1e-7
    turned = ScalerModule(s, axis=-2)(mel.transpose(1, 2)).transpose(1, 2)
    assert np.abs(turned.numpy() - expected).max() <= 1e-7
    if floor is not None:
        assert expected.min() == pytest.approx(floor)


def test_the_numbers_are_buffers_that_move_with_the_model() -> None:
    """In the state_dict, never parameters; a state without a floor loads into a module that has one."""
    with_floor, without = ScalerModule(scaler(per_bin=True, floor=-7.0)), ScalerModule(scaler(per_bin=True))
    model = torch.nn.Sequential(torch.nn.Linear(4, BINS), without)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    assert {"1.scale", "1.offset", "1.mean", "1.std", "1.floor"} <= set(model.state_dict())
    with_floor.load_state_dict(without.state_dict())
    assert torch.equal(with_floor(torch.from_numpy(MEL)), without(torch.from_numpy(MEL)))
    with pytest.raises(RuntimeError, match="size mismatch"):
        ScalerModule(scaler(per_bin=False)).load_state_dict(without.state_dict())
    assert model.half()(torch.zeros(1, 4).half()).dtype == torch.float16


@pytest.mark.filterwarnings("ignore")  # torch announces the end of TorchScript
@pytest.mark.parametrize("per_bin", [False, True])
def test_they_survive_script_and_export(per_bin: bool, tmp_path: Path) -> None:
    """torch.jit.script and torch.export, saved and read again: the same bits for another length."""
    mel = torch.from_numpy(MEL)
    modules = {
        "forth": NormalizerModule(normalizer(per_bin=per_bin)),
        "back": NormalizerModule(normalizer(per_bin=per_bin), inverse=True),
        "scale": ScalerModule(scaler(per_bin=per_bin, floor=-8.0)),
    }
    for name, module in modules.items():
        path = tmp_path / f"{name}.pt"
        torch.jit.script(module).save(str(path))
        assert torch.equal(torch.jit.load(str(path))(mel), module(mel))
    shapes = ({1: torch.export.Dim("frames", min=2)},)
    program = torch.export.export(modules["scale"], (mel[:, :4].contiguous(),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "scale.pt2")
    assert torch.equal(torch.export.load(tmp_path / "scale.pt2").module()(mel), modules["scale"](mel))


@pytest.mark.filterwarnings("ignore")
def test_onnx_gives_the_same(tmp_path: Path) -> None:
    """The exported graph, run by onnx's own reference: 1e-6."""
    onnx = pytest.importorskip("onnx", reason="ONNX is optional: pip install onnx onnxscript")
    pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript")
    from onnx.reference import ReferenceEvaluator

    module = ScalerModule(scaler(per_bin=True, floor=-8.0))
    path = tmp_path / "scale.onnx"
    torch.onnx.export(module, (torch.from_numpy(MEL),), str(path), input_names=["mel"], dynamo=True)
    given: dict[str, Any] = {"mel": MEL}
    (found,) = ReferenceEvaluator(onnx.load(path)).run(None, given)
    assert np.abs(found - module(torch.from_numpy(MEL)).numpy()).max() < 1e-6


def test_they_load_from_the_files_and_refuse_what_the_files_refuse(tmp_path: Path) -> None:
    """The two JSON files as inference reads them; parameters of other statistics are an error."""
    stats, params = tmp_path / "mel_normalization_stats.json", tmp_path / "mel_scaling_params.json"
    stats.write_text(json.dumps({"schema": "calib/mel-normalization-stats/1", "mel_mean": -5.0, "mel_std": 2.0, "stats_id": "st-1", "frontend_id": "fe-1", "per_bin": {"mean": [-5.0] * BINS, "std": [1.0] * BINS}}))  # fmt: skip
    params.write_text(json.dumps({"schema": "calib/mel-scaling-params/1", "scale_factor": 0.5, "offset": 2.5, "stats_id": "st-1", "frontend_id": "fe-1", "model_id": "model-9", "floor": -11.5}))  # fmt: skip
    module = ScalerModule.load(params, stats)
    assert (module.stats_id, module.frontend_id, module.model_id) == ("st-1", "fe-1", "model-9")
    assert float(module(torch.tensor(-1.0))) == (-1.0 * 0.5 + 2.5) * 2.0 - 5.0
    assert NormalizerModule.load(stats, per_bin=True).mean.shape == (BINS,)
    stats.write_text(stats.read_text().replace("st-1", "st-2"))
    with pytest.raises(ParamsError, match="made for stats_id st-1"):
        ScalerModule.load(params, stats)
    with pytest.raises(ParamsError, match="needs the mel statistics"):
        ScalerModule(MelScaler(1.0, 0.0))
    with pytest.raises(ParamsError, match="axis must be"):
        NormalizerModule(normalizer(per_bin=False), axis=1)
