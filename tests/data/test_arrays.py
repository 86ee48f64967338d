"""Mel arrays: containers, hostile files, and which axis is time."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.data.arrays import array_shape, as_time_first, decide_layout, load_array
from calib.errors import DataError, UsageError

MEL = np.random.default_rng(0).normal(-5, 2, (50, 80)).astype(np.float32)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_npy_is_read_at_once_and_a_large_one_mapped(tmp_path: Path) -> None:
    """Either order of the axes in memory; a map holds the file's pages, not a copy."""
    long = np.tile(MEL, (300, 1))
    for name, array, mapped in (("a", MEL, False), ("f", np.asfortranarray(MEL), False), ("long", long, True)):
        np.save(tmp_path / f"{name}.npy", array)
        loaded = load_array(tmp_path / f"{name}.npy")
        assert isinstance(loaded, np.memmap) is mapped
        np.testing.assert_array_equal(loaded, array)
        assert array_shape(tmp_path / f"{name}.npy") == array.shape


@pytest.mark.parametrize("keys", [["anything"], ["mel", "other"], ["feats", "wave"], ["arr_0", "arr_1"]])
def test_npz_gives_its_only_array_or_the_mel(tmp_path: Path, keys: list[str]) -> None:
    np.savez(tmp_path / "a.npz", **{key: MEL if position == 0 else MEL[:3] for position, key in enumerate(keys)})
    np.testing.assert_array_equal(load_array(tmp_path / "a.npz"), MEL)
    assert array_shape(tmp_path / "a.npz") == (50, 80)


def test_an_npz_of_unknown_arrays_is_refused_with_their_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", left=MEL, right=MEL)
    with pytest.raises(DataError, match="left, right"):
        load_array(tmp_path / "a.npz")
    np.testing.assert_array_equal(load_array(tmp_path / "a.npz", "right"), MEL)
    with pytest.raises(DataError, match="'up'"):
        load_array(tmp_path / "a.npz", "up")


def test_torch_tensors_and_dicts_of_one_tensor_are_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(MEL)
    for name, value in {"bare": tensor, "dict": {"x": tensor, "sr": 22050}, "graph": tensor.clone().requires_grad_()}.items():  # fmt: skip
        torch.save(value, tmp_path / f"{name}.pt")
        np.testing.assert_array_equal(load_array(tmp_path / f"{name}.pt"), MEL)
    torch.save(tensor.bfloat16(), tmp_path / "half.pth")
    np.testing.assert_allclose(load_array(tmp_path / "half.pth"), MEL, rtol=0.01)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(DataError, match="list"):
        load_array(tmp_path / "list.pt")


def test_safetensors_are_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    save_file({"mel": torch.from_numpy(MEL), "f0": torch.zeros(3)}, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(load_array(tmp_path / "a.safetensors"), MEL)
    assert array_shape(tmp_path / "a.safetensors") == (50, 80)
    save_file({"x": torch.from_numpy(MEL).bfloat16()}, tmp_path / "b.safetensors")
    np.testing.assert_allclose(load_array(tmp_path / "b.safetensors"), MEL, rtol=0.01)
    assert array_shape(tmp_path / "b.safetensors") == (50, 80)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.pt"])
def test_pickles_are_refused_and_never_executed(tmp_path: Path, name: str) -> None:
    torch = pytest.importorskip("torch")
    canary, path = tmp_path / "executed", tmp_path / name
    evil = np.array([Bomb(canary)], dtype=object)
    if name == "a.npy":
        np.save(path, evil, allow_pickle=True)
    elif name == "a.npz":
        np.savez(path, mel=evil)
    else:
        torch.save({"mel": Bomb(canary)}, path)
    for read in (load_array, array_shape):
        with pytest.raises(DataError, match="execute code"):
            read(path)
    assert not canary.exists()


def test_a_bare_pickle_named_npy_is_refused_and_not_executed(tmp_path: Path) -> None:
    canary = tmp_path / "executed"
    for name in ("a.npy", "a.pt", "a.npz", "a.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb(canary)))
        with pytest.raises(DataError):
            load_array(tmp_path / name)
    assert not canary.exists()


@pytest.mark.parametrize("suffix", ["npy", "npz", "pt", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00", b"PK\x03\x04" + bytes(60), bytes(500)])
def test_damaged_files_are_data_errors(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    for read in (load_array, array_shape):
        with pytest.raises(DataError, match=path.name):
            read(path)


def test_a_header_that_is_no_python_literal_is_a_data_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", MEL)
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data.replace(b"80)", b"80(").replace(b"}", b"("))  # found by mutation
    with pytest.raises(DataError, match=r"not a readable \.npy"):
        load_array(tmp_path / "a.npy")


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_truncated_array_is_a_data_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    np.save(path, MEL) if suffix == "npy" else np.savez_compressed(path, mel=MEL)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError):
        load_array(path)


def test_an_npz_header_that_promises_more_than_the_file_is_not_believed(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 80)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("mel.npy", header.getvalue() + bytes(320))
    with pytest.raises(DataError, match="cut short"):
        load_array(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros(80), "(80,)"),
        (np.zeros((0, 80)), "(0, 80)"),
        (np.zeros((3, 50, 80)), "(3, 50, 80)"),
        (np.zeros((1, 1, 50, 80)), "(1, 1, 50, 80)"),
        (np.zeros((50, 80), complex), "complex"),
        (np.zeros((50, 80), bool), "booleans"),
        (np.array([["a", "b"]]), "<U1"),
        (np.array(3.0), "()"),
    ],
)
def test_what_is_no_mel_is_refused_with_its_shape(tmp_path: Path, array: np.ndarray, said: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError) as caught:
        load_array(tmp_path / "a.npy")
    assert said in str(caught.value)


def test_a_leading_axis_of_one_is_dropped_and_batches_are_indexed(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", MEL[None])
    assert load_array(tmp_path / "one.npy").shape == (50, 80)
    np.save(tmp_path / "three.npy", np.stack([MEL, MEL + 1, MEL + 2]))
    np.testing.assert_array_equal(load_array(tmp_path / "three.npy", 2), MEL + 2)
    assert load_array(tmp_path / "three.npy", batch=True).shape == (3, 50, 80)
    with pytest.raises(DataError, match="no item 3"):
        load_array(tmp_path / "three.npy", 3)


def test_unknown_suffixes_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"x")
    with pytest.raises(DataError, match="not an array file"):
        load_array(tmp_path / "a.mat")
    with pytest.raises(DataError, match="no such file"):
        load_array(tmp_path / "b.npy")
    with pytest.raises(DataError, match="regular file"):
        load_array(tmp_path)


@pytest.mark.parametrize(
    ("shapes", "layout"),
    [
        ([(674, 80)], "TM"),
        ([(80, 674)], "MT"),
        ([(1, 80, 674)], "MT"),
        ([(80, 128), (80, 97)], "MT"),
        ([(100, 80), (128, 80), (7, 80)], "TM"),
        ([(80, 80), (80, 81)], "MT"),
    ],
)
def test_the_layout_follows_from_the_shapes(shapes: list[tuple[int, ...]], layout: str) -> None:
    assert decide_layout(iter(shapes)) == layout


@pytest.mark.parametrize(
    "shapes",
    [
        [(80, 80)],
        [(100, 80)],
        [(80, 128), (80, 128)],
        [(50, 83), (60, 83)],  # 83 is no usual mel count
        [(50, 80), (50, 100)],
        [(513, 257)],
        [],
    ],
)
def test_an_unclear_layout_is_refused_naming_the_option(shapes: list[tuple[int, int]]) -> None:
    with pytest.raises(UsageError) as caught:
        decide_layout(shapes)
    assert "--layout TM" in str(caught.value.hint)
    assert caught.value.exit_code == 2
    assert decide_layout(shapes, "MT") == "MT"  # the user's word is final


def test_a_declared_front_end_decides_between_two_usual_counts() -> None:
    assert decide_layout([(100, 80)], n_mels=80) == "TM"
    assert decide_layout([(83, 400)], n_mels=83) == "MT"
    with pytest.raises(UsageError):
        decide_layout([(80, 80)], n_mels=80)


def test_a_wrong_layout_name_is_refused() -> None:
    with pytest.raises(UsageError, match="'tm'"):
        decide_layout([(80, 100)], "tm")


@given(st.lists(st.integers(1, 2000), min_size=2, max_size=30), st.sampled_from([40, 80, 100, 128]))
def test_transposing_every_file_transposes_the_decision(frames: list[int], bins: int) -> None:
    def decided(shapes: list[tuple[int, int]]) -> str | None:
        try:
            return decide_layout(shapes)
        except UsageError:
            return None

    one, other = decided([(t, bins) for t in frames]), decided([(bins, t) for t in frames])
    assert (one, other) in {("TM", "MT"), (None, None)}
    if len(set(frames)) > 1:
        assert one == "TM"


def test_time_first_is_an_own_float32_copy(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", MEL.T.astype(">f8"))
    mel = as_time_first(load_array(tmp_path / "a.npy"), "MT")
    assert mel.dtype == np.float32
    assert mel.flags.c_contiguous
    assert mel.flags.writeable
    assert type(mel) is np.ndarray
    np.testing.assert_allclose(mel, MEL)
    assert np.isinf(as_time_first(np.array([[1e300]]), "TM")).all()


def test_reading_npy_does_not_import_torch() -> None:
    code = "import sys, calib.data.arrays, calib.data.audio, calib.data.sources, calib.data.pairs; print([m for m in ('torch', 'soundfile', 'soxr', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_founding_pair_is_time_first(founding_pair: Path) -> None:
    shapes = [array_shape(founding_pair / name) for name in ("target.npy", "pred.npy")]
    assert decide_layout(shapes) == "TM"
