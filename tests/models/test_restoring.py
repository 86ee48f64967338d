"""Load reports: every tensor has a fate, and an untrained one is told from a trained one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from calib.errors import DataError
from calib.models.reference import factory
from calib.models.reference.model import Network
from calib.models.restoring import LoadReport, compare_with_fresh, fresh_states, load_state, report_faults


def build() -> nn.Module:
    return nn.ModuleDict(
        {
            "encoder": nn.Linear(20, 20),
            "norm": nn.LayerNorm(20),
            "decoder": nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 4)),
        }
    )


def trained() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    return {name: torch.randn_like(tensor) for name, tensor in build().state_dict().items()}


def test_a_whole_checkpoint_has_no_faults_and_every_tensor_arrives(tmp_path):
    state = trained()
    torch.save({"state_dict": state}, tmp_path / "whole.pt")
    module = build()
    report = load_state(module, tmp_path / "whole.pt")
    assert report.faults() == []
    assert set(report.restored) == set(state)
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_a_wrapper_of_the_trainer_is_seen_through(prefix):
    assert load_state(build(), {prefix + name: tensor for name, tensor in trained().items()}).faults() == []


def test_each_fault_is_named_with_its_tensors():
    state = trained()
    del state["decoder.0.weight"]
    state["decoder.1.bias"] = torch.zeros(5)
    state["encoder.bias"] = torch.full((20,), float("nan"))
    state["optimizer.step"] = torch.zeros(3)
    report = load_state(build(), state)
    assert report.missing == ("decoder.0.weight",)
    assert report.wrong_shape == ("decoder.1.bias",)
    assert report.not_finite == ("encoder.bias",)
    assert report.unexpected == ("optimizer.step",)
    text = " / ".join(report.faults())
    assert all(name in text for name in ("decoder.0.weight", "decoder.1.bias", "encoder.bias", "optimizer.step"))
    assert report.by_module()["decoder"]["missing"] == ["decoder.0.weight"]


def test_another_models_checkpoint_is_an_error_and_not_an_empty_success():
    with pytest.raises(DataError, match="not one of its 1 tensors fits"):
        load_state(build(), {"generator.conv.weight": torch.zeros(3, 3)})


def test_names_are_mapped_before_they_are_looked_up():
    old = {name.replace("decoder", "dec"): tensor for name, tensor in trained().items()}
    assert load_state(build(), old, rename=lambda name: name.replace("dec.", "decoder.")).faults() == []


def test_constant_inits_are_not_compared_and_untrained_tensors_are_found():
    fresh = fresh_states(build)
    module = build()
    state = {name: tensor for name, tensor in trained().items() if not name.startswith("decoder")}
    report = load_state(module, {**state, **{name: fresh[0][name] for name in fresh[0] if name.startswith("decoder")}})
    found = compare_with_fresh(report, module.state_dict(), fresh)
    assert "norm.weight" not in found.comparable
    assert set(found.equal_to_fresh_init) == {name for name in found.comparable if name.startswith("decoder")}
    assert any("never trained" in text for text in found.faults())


def test_by_distribution_the_untrained_reference_model_is_told_from_the_trained_one():
    fresh = fresh_states(Network)
    shares = {}
    for name in ("0", "100"):
        model = factory(name)
        report = compare_with_fresh(LoadReport(), model.module.state_dict(), fresh)
        shares[name] = {
            module: [
                len(fates.get("like_fresh_init", [])),
                len([n for n in fates["comparable"] if model.module.state_dict()[n].numel() >= 256]),
            ]
            for module, fates in report.by_module().items()
        }
    for module in ("decoder", "encoder", "convolutions", "prenet"):
        assert shares["0"][module][0] == shares["0"][module][1] > 1
        assert shares["100"][module][0] < shares["100"][module][1]


def test_the_random_state_of_the_caller_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fresh_states(build)
    assert torch.equal(torch.rand(1), expected)


def test_a_plugins_own_mapping_is_read_the_same_way():
    assert report_faults({"restored": ["a"], "missing": [], "equal_to_fresh_init": []}) == []
    assert "2 tensors missing (a, b)" in report_faults({"missing": ["a", "b"]})[0]
    assert np.array_equal(len(report_faults({})), 0)
