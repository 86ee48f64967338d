"""The sorted corpus on disk: order, references, places inside other files, sorting outside memory."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from calib.data.clip import Clip
from calib.data.plan import Plan
from calib.data.sources import Item
from calib.errors import DataError

ITEMS = [
    Item("b\nnewline", Path("/a/b.wav"), None, "text\twith\ttabs", "x", "en", 1.5),
    Item("a", Path("/a/\udcff.wav"), None, "Füße", "x"),
    Item("z", None, Path("/m/z.npy")),
    Item("é", Clip("/s/0.tar", 512, 100, "e.flac", start=0.5, duration=1.0, channel=1), None, "", "None"),
    Item("c", Clip("/p.parquet", row=(1, 2, "audio")), None, "", "x"),
    Item("d", Clip("s3://bucket/d.flac"), None, "", None),
]


@pytest.mark.parametrize("in_memory", [2, 100])
def test_items_come_back_in_the_order_of_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int) -> None:
    monkeypatch.setattr("calib.data.plan._IN_MEMORY", in_memory)
    plans = []
    for seed in range(3):
        shuffled = [ITEMS[k] for k in np.random.default_rng(seed).permutation(len(ITEMS))]
        plans.append(Plan.write(shuffled, tmp_path / str(seed)))
    ordered = sorted(ITEMS, key=lambda item: item.id)
    for plan in plans:
        assert pickle.loads(pickle.dumps(plan)).items(range(plan.count)) == ordered  # noqa: S301 - what workers get
        assert plan.digest == plans[0].digest
        # a -> b -> c -> a are of one speaker; nobody and "None" are two voices
        assert plan.references(range(plan.count)) == [1, 2, 0, 4, 3, None]
        assert sorted(path.name for path in plan.folder.iterdir()) == ["items.jsonl", "order.npy"]
    assert Plan.write([*ITEMS[1:], Item("b\nnewline", text="other")], tmp_path / "o").digest != plans[0].digest


def test_a_plan_that_was_written_again_is_read_again(tmp_path: Path) -> None:
    assert Plan.write([Item("a"), Item("b")], tmp_path).items([1]) == [Item("b")]
    assert Plan.write([Item("c"), Item("dd"), Item("e")], tmp_path).items([0, 2]) == [Item("c"), Item("e")]


def test_a_plan_that_is_gone_is_an_error(tmp_path: Path) -> None:
    plan = Plan.write([Item("a")], tmp_path)
    (tmp_path / "items.jsonl").write_text("[]\n")
    with pytest.raises(DataError, match="cannot be read"):
        plan.items([0])
    (tmp_path / "order.npy").unlink()
    with pytest.raises(DataError, match=r"order\.npy"):
        plan.items([0])
