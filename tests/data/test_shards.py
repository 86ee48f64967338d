"""Shards: grown, interrupted, gone on with, read by calib and by safetensors' own reader."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib.data.shards import ShardWriter, file_digest, read_stored, shard_index
from calib.errors import DataError

MELS = {f"pred/ü{k}": np.random.default_rng(k).standard_normal((5 + k, 8)).astype(np.float32) for k in range(6)}


def write(folder: Path, upto: int = 6) -> list[Any]:
    """A growing shard with the first so many mels, left open-ended."""
    with ShardWriter(folder / "x.data", MELS) as shard:
        records = [shard.add(name, MELS[name]) for name in list(MELS)[:upto]]
        if upto == len(MELS):
            assert shard.finish(folder / "x.safetensors") == file_digest(folder / "x.safetensors")
    return records


def test_a_shard_is_read_one_array_at_a_time_and_by_any_reader(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]
    index = shard_index(tmp_path / "x.safetensors")
    others = load_file(tmp_path / "x.safetensors")
    assert list(index) == list(MELS)
    assert others.keys() == MELS.keys()
    for name, mel in MELS.items():
        np.testing.assert_array_equal(read_stored(tmp_path / "x.safetensors", name, index[name]), mel)
        np.testing.assert_array_equal(others[name], mel)


@pytest.mark.parametrize("cut", [0, 3])
def test_a_shard_that_was_interrupted_goes_on_to_the_same_bytes(tmp_path: Path, cut: int) -> None:
    write(tmp_path)
    whole = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "b").mkdir()
    records = write(tmp_path / "b", 4)
    path = tmp_path / "b" / "x.data"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - cut)
    with ShardWriter(path, MELS) as shard:
        assert shard.adopt(records[:3])
        assert shard.adopt(records[3:4]) == (cut == 0)
        shard.rewind()
        for name in list(MELS)[3 if cut else 4 :]:
            shard.add(name, MELS[name])
        shard.finish(tmp_path / "b" / "x.safetensors")
    assert (tmp_path / "b" / "x.safetensors").read_bytes() == whole


def test_what_does_not_belong_into_a_shard_is_refused(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "x.data", ["a"]) as shard:
        shard.add("a", MELS["pred/ü0"])
        for name, array, words in (("a", MELS["pred/ü0"], "twice"), ("b", np.zeros(3), r"\(3,\)"), ("b", np.zeros((0, 8)), r"\(0, 8\)")):  # fmt: skip
            with pytest.raises(DataError, match=words):
                shard.add(name, array)


def test_every_byte_that_is_altered_is_noticed(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "x.safetensors"
    whole = path.read_bytes()
    rng, noticed = np.random.default_rng(0), 0
    for k in range(200):
        at = int(rng.integers(8, len(whole)))
        if whole[at : at + 1] == b" " or b'"dtype"' in whole[at : at + 9]:
            continue
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << k % 7]) + whole[at + 1 :])
        found: list[np.ndarray] = []
        with contextlib.suppress(DataError):
            index = shard_index(path)
            found = [read_stored(path, name, index[name]) for name in index]
        if not found:
            noticed += 1
            continue
        # Only names, and what the format ignores, can change without a word.
        assert [mel.tobytes() for mel in found] == [mel.tobytes() for mel in MELS.values()], at
    assert noticed > 50


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [4, 12]}},
        {"a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}, "b": {"dtype": "F32", "shape": [1, 1], "data_offsets": [4, 8]}},
        {"a": {"shape": [1, 2]}},
        {"a": 3},
        [],
    ],
)  # fmt: skip
def test_a_header_that_lies_is_an_error(tmp_path: Path, header: Any) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(DataError, match=r"x\.safetensors: not a readable safetensors file"):
        shard_index(tmp_path / "x.safetensors")
