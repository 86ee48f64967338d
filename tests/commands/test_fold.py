"""`calib fold`: the same output without parameters, or a refusal that says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import calib as calib_package
from calib.data.checkpoints import model_id, read_checkpoint
from calib.mel.frontend import FrontEnd
from calib.params import MelNormalizer, MelScaler

FRONTEND = FrontEnd.load("hifigan")
BINS = FRONTEND.n_mels

PLUGIN = """
import numpy as np, torch

class Model:
    frontend, output_space, kind, padding_safe = "hifigan", "raw", "mean", True

    def __init__(self, checkpoint, how, bias):
        self.autoregressive = {"heard": True, "deaf": True, "short": True}.get(how, False)
        self.how = how
        self.module = torch.nn.Sequential(torch.nn.Linear(80, 8), torch.nn.Tanh(), torch.nn.Conv1d(8, 80, 3, padding=1, bias=bias))
        self.module.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
        self.module.eval()
        self.frames = 3 if how == "short" else 24
        if how in ("heard", "short"):
            self.generate = self._generate

    def teacher_force(self, batch):
        out = []
        for one in batch:
            x = torch.from_numpy(one.mel)
            with torch.no_grad():
                y = self.module[2](self.module[1](self.module[0](x)).T).T
            if self.how == "residual":
                y = y + x
            if self.how == "noise":
                y = y + torch.rand(1)
            out.append(y.numpy())
        return out

    def _generate(self, text, *, speaker_audio, language, temperature, top_p, seed):
        x, frames = torch.full((1, 80), -4.0), []
        with torch.no_grad():
            for _ in range(self.frames):
                x = self.module[2](self.module[1](self.module[0](x)).T).T
                frames.append(x)
        return torch.cat(frames).numpy()

def factory(checkpoint, device, how="plain", bias=True):
    return Model(checkpoint, how, bias)
"""


class World:
    """A model, its weights, statistics and parameters in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "model.py").write_text(PLUGIN)
        self.save(bias=True)
        self.stats = folder / "mel_normalization_stats.json"
        self.params = folder / "mel_scaling_params.json"
        self.write({})

    def save(self, *, bias: bool) -> None:
        torch.manual_seed(1)
        net = torch.nn.Sequential(
            torch.nn.Linear(80, 8), torch.nn.Tanh(), torch.nn.Conv1d(8, 80, 3, padding=1, bias=bias)
        )
        torch.save(
            {"state_dict": net.state_dict(), "step": 7, "optimizer": {"m": torch.ones(2)}}, self.folder / "model.pt"
        )

    def write(self, change: dict[str, Any], *, per_bin: bool = False) -> None:
        self.stats.write_text(json.dumps({"schema": "calib/mel-normalization-stats/1", "mel_mean": -5.07, "mel_std": 2.08, "stats_id": "st-1", "frontend_id": FRONTEND.id}))  # fmt: skip
        weights = read_checkpoint(self.folder / "model.pt").weights
        bins = {"scale": np.linspace(0.5, 1.5, BINS).tolist(), "offset": np.linspace(-1, 1, BINS).tolist()}
        self.params.write_text(json.dumps({"schema": "calib/mel-scaling-params/1", "scale_factor": 0.4, "offset": 1.3, "per_bin": bins if per_bin else None, "verdict": "fixable", "stats_id": "st-1", "frontend_id": FRONTEND.id, "model_id": model_id(weights)} | change))  # fmt: skip

    def arguments(self, *more: object) -> list[object]:
        return ["fold", "--params", self.params, "--model", f"{self.folder / 'model.py'}:factory", "--checkpoint", self.folder / "model.pt", "-o", self.folder / "out", "--limit", 1, *more]  # fmt: skip

    def output(self, checkpoint: Path, how: str = "plain") -> np.ndarray:
        from calib.models.loading import load_model
        from calib.models.protocol import Utterance

        mel = (np.random.default_rng(2).standard_normal((9, BINS)) * 2 - 5).astype(np.float32)
        model = load_model(f"{self.folder / 'model.py'}:factory", str(checkpoint), "cpu", {"how": how})
        return np.asarray(model.teacher_force([Utterance("a", mel)])[0])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("per_bin", [False, True])
def test_the_folded_model_gives_the_calibrated_mel(world: World, calib: Callable[..., Any], per_bin: bool) -> None:
    """One scale or one by bin, into a convolution: 1e-5, the metadata kept, the new parameters change nothing."""
    world.write({}, per_bin=per_bin)
    result = calib(*world.arguments("--layer", "2", "--json", "-"))
    assert result.code == 0, result.err
    new = world.folder / "out" / "model.pt"
    wanted = MelScaler.load(world.params, world.stats).calibrate(world.output(world.folder / "model.pt"))
    given = world.output(new)
    assert np.abs(given - wanted).max() <= 1e-5
    again = MelScaler.load(world.folder / "out" / "mel_scaling_params.json", world.folder / "out" / "mel_normalization_stats.json")  # fmt: skip
    assert np.abs(again.calibrate(given) - given).max() <= 1e-5
    content = json.loads(result.out)
    assert content["folded"]["layer"] == "2"
    assert content["folded"]["proof"]["largest_difference"] <= 1e-5
    assert content["folded"]["from"]["per_bin"] is per_bin
    assert content["model_id"] == model_id(read_checkpoint(new).weights) != json.loads(world.params.read_text())["model_id"]  # fmt: skip
    assert read_checkpoint(new).metadata == {"step": 7}
    assert not [name for name in read_checkpoint(new).tensors if name.startswith("optimizer")]
    assert again.extra["folded"] == content["folded"]
    # Folding is done once: the old parameters are of another model now.
    second = calib("fold", "--params", world.params, "--model", f"{world.folder / 'model.py'}:factory", "--checkpoint", new, "-o", world.folder / "twice")  # fmt: skip
    assert second.code == 3
    assert "model_id" in second.err


def test_into_the_normalised_space_the_parameters_become_one_and_zero(world: World, calib: Callable[..., Any]) -> None:
    """--into normalized folds the scaler alone; the layer is found, because one layer has 80 outputs."""
    assert calib(*world.arguments("--into", "normalized")).code == 0
    content = json.loads((world.folder / "out" / "mel_scaling_params.json").read_text())
    assert (content["scale_factor"], content["offset"]) == (1.0, 0.0)
    jsonschema = pytest.importorskip("jsonschema", reason="checks the file against calib's own schema")
    jsonschema.validate(
        content, json.loads((Path(calib_package.__file__).parent / "schemas" / "scaling-params.json").read_text())
    )
    wanted = MelScaler.load(world.params, world.stats).scale(world.output(world.folder / "model.pt"))
    assert np.abs(world.output(world.folder / "out" / "model.pt") - wanted).max() <= 1e-5


def test_the_tensors_alone_can_be_folded(world: World, calib: Callable[..., Any]) -> None:
    """Without a model only the layer is proven, and that is said."""
    arguments = [
        "fold",
        "--params",
        world.params,
        "--checkpoint",
        world.folder / "model.pt",
        "-o",
        world.folder / "out",
    ]
    assert calib(*arguments).code == 2
    refused = calib(*arguments, "--layer", "2.weight")
    assert refused.code == 5
    assert "without --model the fold is unproven" in refused.err
    assert "--unproven" in refused.err
    assert not (world.folder / "out" / "model.pt").exists()
    result = calib(*arguments, "--layer", "2.weight", "--unproven")
    assert result.code == 0, result.err
    assert "layer 2 changed, model unproven" in result.out
    assert "the model was not run" in result.out
    assert "the model now gives" not in result.out + result.err
    assert "equal to" not in result.out.partition("written:")[2] + result.err
    content = json.loads((world.folder / "out" / "mel_scaling_params.json").read_text())
    assert content["folded"]["proven"] is False
    wanted = MelScaler.load(world.params, world.stats).calibrate(world.output(world.folder / "model.pt"))
    assert np.abs(world.output(world.folder / "out" / "model.pt") - wanted).max() <= 1e-5
    assert calib(*arguments, "--layer", "7", "--force").code == 2


def test_a_layer_that_a_postnet_may_follow_is_named_with_it(world: World, calib: Callable[..., Any]) -> None:
    """The decoder's output layer of a model with a postnet: the tensors cannot say which of the two gives the mel."""
    net = {"out.weight": torch.randn(80, 8), "out.bias": torch.randn(80), "post.weight": torch.randn(80, 16, 5), "post.bias": torch.randn(80), "q.weight": torch.randn(16, 80, 5)}  # fmt: skip
    torch.save(net, world.folder / "post.pt")
    world.write({"model_id": None})
    arguments = ["fold", "--params", world.params, "--checkpoint", world.folder / "post.pt", "-o", world.folder / "out", "--layer", "out"]  # fmt: skip
    refused = calib(*arguments)
    assert refused.code == 5
    assert "another layer with as many outputs (post), which may follow out" in refused.err
    written = calib(*arguments, "--unproven")
    assert written.code == 0, written.err
    assert "if one of them follows out, the new checkpoint is wrong" in written.out


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("residual", "in teacher forcing"),
        ("heard", "hears its own output"),
        ("short", "ends after 3 frames"),
        ("deaf", "without generate"),
        ("noise", "another mel each time"),
    ],
)
def test_what_cannot_be_proven_is_not_written(world: World, calib: Callable[..., Any], how: str, words: str) -> None:
    """A residual after the layer, a model that hears itself, one that cannot be run freely, one that is random."""
    result = calib(*world.arguments("--layer", "2", "--model-option", f"how={how}"))
    assert result.code == 5
    assert words in result.err
    assert "nothing was written" in result.err
    assert not (world.folder / "out" / "model.pt").exists()


def test_a_floor_is_refused_or_stays(world: World, calib: Callable[..., Any]) -> None:
    """A clamp is no affine map: refused; with --keep-floor the rest is folded and the clamp stays in the parameters."""
    world.write({"floor": -2.5})
    refused = calib(*world.arguments("--layer", "2"))
    assert refused.code == 5
    assert "floor at -2.5" in refused.err
    assert calib(*world.arguments("--layer", "2", "--keep-floor")).code == 0
    new = MelScaler.load(world.folder / "out" / "mel_scaling_params.json", world.stats)
    old = MelScaler.load(world.params, world.stats)
    wanted = old.calibrate(world.output(world.folder / "model.pt"))
    assert wanted.min() == -2.5
    assert np.abs(new.calibrate(world.output(world.folder / "out" / "model.pt")) - wanted).max() <= 1e-5


def test_an_offset_needs_a_bias(world: World, calib: Callable[..., Any]) -> None:
    """A layer without one is refused."""
    world.save(bias=False)
    world.write({})
    result = calib(*world.arguments("--layer", "2", "--model-option", "bias=false"))
    assert result.code == 5
    assert "has no bias" in result.err


def test_options_that_do_not_fit_are_said(world: World, calib: Callable[..., Any]) -> None:
    """Nothing to fold, both sides at once, normalised into a vocoder, an output that exists."""
    assert "nothing to fold" in calib("fold", "-o", "x", "--checkpoint", "a", "--layer", "b").err
    assert "one of them" in calib(*world.arguments("--vocoder", "hifigan")).err
    assert "griffin-lim has no weights" in calib("fold", "--params", world.params, "--vocoder", "griffin-lim", "-o", "x").err  # fmt: skip
    assert "--into" in calib(*world.arguments("--into", "decibel")).err
    (world.folder / "out").mkdir()
    (world.folder / "out" / "model.pt").write_bytes(b"mine")
    assert calib(*world.arguments()).code == 2
    assert (world.folder / "out" / "model.pt").read_bytes() == b"mine"


def test_the_normaliser_alone_can_be_folded(world: World, calib: Callable[..., Any]) -> None:
    """--stats without --params, into a model that gives normalised mels: what comes out is raw."""
    text = (world.folder / "model.py").read_text().replace('"hifigan", "raw"', '"hifigan", "normalized"')
    (world.folder / "model.py").write_text(text)
    arguments = world.arguments("--layer", "2")
    arguments[1:3] = ["--stats", world.stats]
    assert calib(*arguments).code == 0
    wanted = MelNormalizer.load(world.stats).denormalize(world.output(world.folder / "model.pt"))
    assert np.abs(world.output(world.folder / "out" / "model.pt") - wanted).max() <= 1e-5
