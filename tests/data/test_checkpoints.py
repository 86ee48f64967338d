"""Checkpoints: every container torch has written is read, and nothing pickled in one is ever run."""

from __future__ import annotations

import builtins
import collections
import contextlib
import io
import os
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from calib.data import checkpoints
from calib.data.checkpoints import Stub, model_id, read_checkpoint
from calib.errors import DataError

STATE = {
    "enc.w": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "enc.b": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "half": torch.tensor([[0.1, 3.0]], dtype=torch.bfloat16),
    "steps": torch.tensor(7),
    "mask": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
    "z": torch.tensor([1 + 2j]),
}


def same(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return list(got) == list(wanted) and all(
        got[k].dtype == wanted[k].dtype and got[k].shape == wanted[k].shape and torch.equal(got[k], wanted[k])
        for k in wanted
    )


@pytest.fixture(params=["zip", "legacy"])
def new_format(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "zip")


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_state_dict_is_read_as_torch_reads_it(tmp_path: Path, new_format: bool) -> None:
    path = tmp_path / "m.pt"
    state = collections.OrderedDict(STATE)
    state._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    torch.save(state, path, _use_new_zipfile_serialization=new_format)
    checkpoint = read_checkpoint(path)
    assert same(checkpoint.tensors, torch.load(path, weights_only=True))
    assert (checkpoint.stubs, checkpoint.metadata) == ([], {})


def test_views_of_one_storage_strides_and_parameters(tmp_path: Path, new_format: bool) -> None:
    base = torch.arange(24.0)
    state = {
        "t": base.view(4, 6).T,
        "slice": base[5:9],
        "p": torch.nn.Parameter(base[:3]),
        "b": base.view(2, 12)[:, ::5],
    }
    torch.save(state, tmp_path / "v.pt", _use_new_zipfile_serialization=new_format)
    assert same(read_checkpoint(tmp_path / "v.pt").tensors, {k: v.detach() for k, v in state.items()})


def test_a_training_checkpoint_flattens_and_keeps_the_plain_rest(tmp_path: Path, new_format: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "loss": 0.5,
        "names": ["a", ("b", None)],
        "raw": b"\x00\xff",
        "tags": {1, 2},
        "shape": torch.Size([2, 3]),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "counts": collections.defaultdict(list, {"x": [1]}),
    }
    torch.save(content, tmp_path / "c.pt", _use_new_zipfile_serialization=new_format)
    checkpoint = read_checkpoint(tmp_path / "c.pt")
    assert checkpoint.stubs == []
    assert torch.equal(checkpoint.tensors["model.0.weight"], model[0].weight)
    assert torch.equal(checkpoint.tensors["optimizer.state.0.exp_avg"], optimizer.state[model[0].weight]["exp_avg"])
    assert same(checkpoint.weights, dict(model.state_dict()))
    rest = dict(checkpoint.metadata)
    assert rest["optimizer"]["param_groups"][0]["lr"] == 1e-3
    assert {k: rest[k] for k in ("epoch", "loss", "names", "raw", "tags", "counts")} == {
        k: content[k] for k in ("epoch", "loss", "names", "raw", "tags", "counts")
    }
    assert (rest["shape"], rest["dtype"], rest["device"]) == ((2, 3), torch.float16, "cpu")


def test_pickled_classes_become_listed_stubs_with_their_fields_readable(tmp_path: Path, new_format: bool) -> None:
    module = types.ModuleType("calibtest_gone")
    ran: list[str] = []

    class Config:
        def __init__(self) -> None:
            self.audio = {"hop_length": 256}
            self.mean = torch.ones(2)

        def __setstate__(self, state: object) -> None:
            ran.append("setstate")

    class Items(dict):  # type: ignore[type-arg]
        pass

    for kind in (Config, Items):
        kind.__module__, kind.__qualname__ = "calibtest_gone", kind.__name__
        setattr(module, kind.__name__, kind)
    sys.modules["calibtest_gone"] = module
    try:
        torch.save(
            {"state_dict": STATE, "hparams": Config(), "extra": Items(w=torch.zeros(1), n=2)},
            tmp_path / "l.ckpt",
            _use_new_zipfile_serialization=new_format,
        )
        checkpoint = read_checkpoint(tmp_path / "l.ckpt")  # importable here, and still not imported
    finally:
        del sys.modules["calibtest_gone"]
    assert ran == []
    assert checkpoint.stubs == ["calibtest_gone.Config", "calibtest_gone.Items"]
    assert same(checkpoint.weights, STATE)
    config, extra = checkpoint.metadata["hparams"], checkpoint.metadata["extra"]
    assert isinstance(config, Stub)
    assert (config.name, config.state) == ("calibtest_gone.Config", {"audio": {"hop_length": 256}})
    assert extra.entries == [("n", 2)]
    assert {"hparams.mean", "extra.w"} < set(checkpoint.tensors)


def test_a_whole_pickled_module_gives_the_names_of_its_state_dict(tmp_path: Path, new_format: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Sequential(torch.nn.BatchNorm1d(2)))
    torch.save(model, tmp_path / "whole.pt", _use_new_zipfile_serialization=new_format)
    checkpoint = read_checkpoint(tmp_path / "whole.pt")
    assert {k: v.tolist() for k, v in checkpoint.tensors.items()} == {
        k: v.tolist() for k, v in model.state_dict().items()
    }
    assert "torch.nn.modules.linear.Linear" in checkpoint.stubs


def test_safetensors_with_its_metadata(tmp_path: Path) -> None:
    state = {k: v for k, v in STATE.items() if k != "z"}
    save_file(state, tmp_path / "m.safetensors", {"format": "pt", "note": "x"})
    checkpoint = read_checkpoint(tmp_path / "m.safetensors")
    assert same(dict(sorted(checkpoint.tensors.items())), dict(sorted(state.items())))
    assert checkpoint.metadata == {"format": "pt", "note": "x"}


# --- identity -------------------------------------------------------------------------------------------------------


def test_one_identity_for_every_container(tmp_path: Path) -> None:
    state = {k: v for k, v in STATE.items() if k != "z"}
    expected = model_id(state)
    save_file(state, tmp_path / "m.safetensors")
    torch.save(state, tmp_path / "zip.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": dict(reversed(state.items())), "epoch": 1}, tmp_path / "wrapped.ckpt")
    for name in ("m.safetensors", "zip.pt", "old.pt", "wrapped.ckpt"):
        assert model_id(read_checkpoint(tmp_path / name).weights) == expected
    assert len(expected) == len("model-") + 16


def test_names_dtypes_shapes_and_every_bit_count_but_memory_layout_does_not() -> None:
    w = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    base = model_id({"w": w})
    assert (
        base
        == model_id({"w": w.numpy()})
        == model_id({"w": w.T.contiguous().T})
        == model_id({"w": np.asfortranarray(w.numpy().astype(">f4"))})
    )
    bit = w.clone()
    bit[1, 2] = float(np.nextafter(np.float32(5), np.float32(6)))
    others = [{"v": w}, {"w": w.T}, {"w": w.int()}, {"w": w.reshape(3, 2)}, {"w": bit}, {"w": w, "x": w}, {}]
    assert len({base, *(model_id(other) for other in others)}) == 1 + len(others)


# --- hostile files --------------------------------------------------------------------------------------------------


class Call:
    """Pickles as a call of ``function(*args)``, and, if asked, a BUILD with ``state`` after it."""

    def __init__(self, function: object, *args: object, state: object = None) -> None:
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> tuple[object, ...]:
        return self.reduced

    def __call__(self) -> None:
        """Only so that pickle takes a call's result for a function."""


def save_raw(path: Path, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", bytes(16))
        archive.writestr("archive/version", "3")
    return path


HOSTILE = {
    "os.system": lambda mark: Call(os.system, f"touch {mark}"),
    "builtins.eval": lambda mark: Call(builtins.eval, f"open({str(mark)!r}, 'w')"),
    "builtins.exec": lambda mark: Call(builtins.exec, f"open({str(mark)!r}, 'w')"),
    "builtins.open": lambda mark: Call(open, str(mark), "w"),
    "torch.save": lambda mark: Call(torch.save, {}, str(mark)),
    "torch.hub": lambda mark: Call(torch.hub.download_url_to_file, "file:///etc/hostname", str(mark)),
    "getattr": lambda mark: Call(Call(getattr, Call(__import__, "os"), "mkdir"), str(mark)),
    "Path.touch": lambda mark: Call(Path.touch, mark),
    "numpy.save": lambda mark: Call(np.save, str(mark), 1),
    "setstate": lambda mark: Call(collections.UserDict, state={"__setstate__": Call(os.mkdir, str(mark))}),
    "nested": lambda mark: {"a": [({"b": Call(os.mkdir, str(mark))},)]},
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("attack", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("container", ["zip", "legacy", "bare"])
def test_pickled_calls_are_not_made(tmp_path: Path, attack: object, container: str, protocol: int) -> None:
    mark, path = tmp_path / "mark", tmp_path / "evil.pt"
    content = {"w": torch.ones(2), "evil": attack(mark)}  # type: ignore[operator]
    if container == "bare":
        path.write_bytes(pickle.dumps(content["evil"], protocol))
        with pytest.raises(DataError, match=r"none that torch\.save wrote"):
            read_checkpoint(path)
    else:
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=container == "zip")
        checkpoint = read_checkpoint(path)
        assert checkpoint.tensors["w"].tolist() == [1, 1]
        assert checkpoint.stubs
    assert not mark.exists()


def test_the_attacks_above_do_work_on_an_unrestricted_reader(tmp_path: Path) -> None:
    """Otherwise the test above would prove nothing."""
    torch.save({"evil": HOSTILE["nested"](tmp_path / "mark")}, tmp_path / "evil.pt")
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "mark").exists()


def ops(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


def glob(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(ops(b"(", glob("os", "system"), b"X\x04\x00\x00\x00true", b"o"), id="OBJ"),
        pytest.param(ops(b"(X\x04\x00\x00\x00truei", b"os\nsystem\n"), id="INST"),
        pytest.param(ops(glob("os", "system"), b"X\x04\x00\x00\x00true\x85\x81"), id="NEWOBJ"),
        pytest.param(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", id="STACK_GLOBAL"),
        pytest.param(b"\x80\x04\x8c\x08builtins\x8c\x0estr.__class__.x\x93.", id="dotted name"),
        pytest.param(ops(glob("a", "B"), b")\x81}X\x01\x00\x00\x00xK\x01sbb"[:-1]), id="BUILD on a stub"),
        pytest.param(ops(glob("a", "B"), b"}b"), id="BUILD on a stub class"),
        pytest.param(
            ops(glob("torch._utils", "_rebuild_tensor_v2"), b"N}X\x0c\x00\x00\x00__defaults__)s\x86b"),
            id="BUILD on a rebuilder",
        ),
        pytest.param(
            ops(glob("collections", "OrderedDict"), b")R}X\x05\x00\x00\x00itemsK\x01sb"), id="BUILD on an OrderedDict"
        ),
        pytest.param(ops(glob("torch", "FloatStorage"), b"}b"), id="BUILD on a storage class"),
        pytest.param(ops(glob("torch", "float32"), b"N}X\x01\x00\x00\x00xK\x01s\x86b"), id="BUILD on a dtype"),
        pytest.param(ops(b"\x82\x01"), id="EXT1"),
        pytest.param(
            ops(glob("builtins", "bytes"), b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85R"), id="an allocation of a terabyte"
        ),
        pytest.param(ops(b"K\x01Q"), id="unknown persistent id"),
    ],
)
def test_every_way_a_pickle_can_call_or_change_something_is_closed(
    tmp_path: Path, program: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[object] = []
    monkeypatch.setattr(os, "system", called.append)
    with contextlib.suppress(DataError):  # a refusal is as good as a stub
        read_checkpoint(save_raw(tmp_path / "raw.pt", program))
    assert called == []
    torch.save(STATE, tmp_path / "fine.pt")  # and the reader is unchanged
    assert same(read_checkpoint(tmp_path / "fine.pt").tensors, STATE)


def storage_pid(kind: str, key: str, numel: int) -> bytes:
    return (
        b"(X\x07\x00\x00\x00storage" + glob("torch", kind) + b"X" + struct.pack("<I", len(key)) + key.encode() + b"X\x03\x00\x00\x00cpu"
        + b"J" + struct.pack("<i", numel) + b"tQ"
    )  # fmt: skip


def tensor_program(numel: int, offset: int, size: int, stride: int, key: str = "0") -> bytes:
    ints = [b"J" + struct.pack("<i", value) for value in (offset, size, stride)]
    empty = glob("collections", "OrderedDict") + b")R"
    call = glob("torch._utils", "_rebuild_tensor_v2") + b"(" + storage_pid("FloatStorage", key, numel)
    return ops(b"}X\x01\x00\x00\x00w", call, ints[0], ints[1] + b"\x85", ints[2] + b"\x85", b"\x89", empty, b"tRs")


def test_tensors_stay_inside_their_storage(tmp_path: Path) -> None:
    good = save_raw(tmp_path / "good.pt", tensor_program(4, 1, 3, 1))
    assert read_checkpoint(good).tensors["w"].tolist() == [0, 0, 0]
    for bad in (
        (4, 0, 5, 1),
        (4, 2, 3, 1),
        (4, -1, 2, 1),
        (4, 0, 2, 9),
        (4, 0, 2, -1),
        (5, 0, 1, 1),
        (-4, 0, 1, 1),
        (4, 0, 1, 1, "../version"),
    ):
        with pytest.raises(DataError):
            read_checkpoint(save_raw(tmp_path / "bad.pt", tensor_program(*bad)))  # type: ignore[arg-type]


def test_containers_that_unfold_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_VISITS", 20_000)  # the real limit takes seconds to reach
    nest: list[object] = []
    for _ in range(60):
        nest = [nest, nest]
    loop: dict[str, object] = {"w": torch.ones(1)}
    loop["self"] = loop
    torch.save(loop, tmp_path / "loop.pt")
    assert list(read_checkpoint(tmp_path / "loop.pt").tensors) == ["w"]
    torch.save(nest, tmp_path / "nest.pt")
    with pytest.raises(DataError, match="entries"):
        read_checkpoint(tmp_path / "nest.pt")


# --- files that are none --------------------------------------------------------------------------------------------


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=np.ones(2))
    (tmp_path / "page.pt").write_bytes(b"<!DOCTYPE html>")
    (tmp_path / "lfs.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "short.safetensors").write_bytes(struct.pack("<Q", 1000) + b"{}")
    for name, text in (
        ("none.pt", "no such file"), ("arrays.npz", "no checkpoint"), ("page.pt", "it begins with"), ("lfs.pt", "git-lfs pointer"),
        ("empty.pt", "is empty"), ("short.safetensors", "safetensors"), (".", "folder"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=text):
            read_checkpoint(tmp_path / name)


def test_every_truncation_is_a_data_error(tmp_path: Path, new_format: bool) -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(50)}, buffer, _use_new_zipfile_serialization=new_format)
    data = buffer.getvalue()
    for length in {1, 2, 5, 40, len(data) // 3, len(data) // 2, len(data) - 100, len(data) - 1}:
        path = tmp_path / f"{length}.pt"
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match="cut short" if new_format and length > 40 else None):
            read_checkpoint(path)
