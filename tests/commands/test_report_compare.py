"""``calib report`` with several runs: finished reports without computing anything, PAIRS, folders, an index, the gate."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "report"))
import twins as made

from calib.commands import report_compare
from calib.errors import UsageError

Cli = Callable[..., Any]


def put(folder: Path, twin: dict[str, Any]) -> Path:
    """A finished report."""
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(twin), encoding="utf-8")
    (folder / "report.html").write_text("<!DOCTYPE html><title>own</title>", encoding="utf-8")
    return folder


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """Four checkpoints, the third the best."""
    hard = made.base()
    for step, factor in ((500, 1.0), (1000, 0.8), (9000, 0.6), (10000, 0.9)):
        put(tmp_path / "runs" / f"step-{step}", made.healthy(hard * factor))
    return tmp_path / "runs"


@pytest.fixture
def nothing_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished reports must be compared without reading a mel."""

    def refuse(*_: object) -> None:
        raise AssertionError("pairs were judged")

    monkeypatch.setattr("calib.commands.report.judge", refuse)


@pytest.mark.usefixtures("nothing_is_judged")
def test_a_folder_of_runs_is_compared_in_natural_order(calib: Cli, training: Path, tmp_path: Path) -> None:
    out = calib("report", training, "-o", "cmp")
    assert out.code == 0, out.err
    assert out.out.startswith("Best: step-9000")
    twin = json.loads((tmp_path / "cmp/comparison.json").read_text(encoding="utf-8"))
    assert [run["label"] for run in twin["runs"]] == ["step-500", "step-1000", "step-9000", "step-10000"]
    assert twin["runs"][0]["report"] == "../runs/step-500/report.html"
    assert (tmp_path / "cmp" / twin["runs"][0]["report"]).resolve().is_file()
    page = (tmp_path / "cmp/comparison.html").read_bytes()
    assert calib("report", training, "-o", "cmp").code == 2  # exists
    assert calib("report", training, "-o", "cmp", "--force").code == 0
    assert (tmp_path / "cmp/comparison.html").read_bytes() == page


@pytest.mark.usefixtures("nothing_is_judged")
def test_reports_named_one_by_one_keep_their_order(calib: Cli, training: Path, tmp_path: Path) -> None:
    out = calib("report", training / "step-9000", training / "step-500/report.json", "-o", "cmp", "--json", "-")
    assert out.code == 0, out.err
    twin = json.loads(out.out)
    assert [run["label"] for run in twin["runs"]] == ["step-9000", "step-500"]
    assert twin == json.loads((tmp_path / "cmp/comparison.json").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("nothing_is_judged")
def test_runs_of_one_name_are_told_apart_by_their_folders(calib: Cli, tmp_path: Path) -> None:
    for name in ("old", "new"):
        put(tmp_path / name / "eval", made.healthy(made.base()))
    out = calib("report", "old/eval", "new/eval", "-o", "cmp", "--json", "-")
    assert [run["label"] for run in json.loads(out.out)["runs"]] == ["old/eval", "new/eval"]


@pytest.mark.usefixtures("nothing_is_judged")
def test_what_may_not_be_compared_is_said_and_the_gate_follows_the_answer(calib: Cli, training: Path) -> None:
    other = made.healthy(made.base())
    other["unit"] = "dB"
    put(training / "step-20000", other)
    out = calib("report", training, "-o", "cmp", "--fail-on", "warn")
    assert out.code == 10
    assert out.out.startswith("No ranking: the unit is ln magnitude in step-500 and dB in step-20000")


@pytest.mark.usefixtures("nothing_is_judged")
def test_an_index_lists_what_is_not_to_be_compared(calib: Cli, training: Path) -> None:
    put(training / "other", made.twin("invalid"))
    out = calib("report", "--index", training)
    assert out.code == 0, out.err
    page = (training / "index.html").read_text(encoding="utf-8")
    assert "step-10000/report.html" in page
    assert page.index("step-500") < page.index("step-9000") < page.index("step-10000")
    assert 'href="other/report.html"' in page
    assert calib("report", "--index", training).code == 2
    assert calib("report", "--index", training / "step-500", "--force").code == 0
    empty = training / "empty"
    empty.mkdir()
    assert calib("report", "--index", empty).code == 3


@pytest.mark.usefixtures("nothing_is_judged")
def test_markdown_and_figures_of_a_comparison(calib: Cli, training: Path, tmp_path: Path) -> None:
    out = calib("report", training, "-o", "cmp", "--markdown", "-", "--figures", "figs")
    assert out.code == 0, out.err
    assert out.out.startswith("### ")
    assert "`step-9000`" in out.out
    assert (tmp_path / "figs/error.png").is_file()
    assert calib("report", training, "-o", "c2", "--markdown", "-", "--json", "-").code == 2
    assert not (tmp_path / "c2").exists()  # refused before the work


@pytest.mark.usefixtures("nothing_is_judged")
def test_broken_input_is_named(calib: Cli, training: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    out = calib("report", training / "step-500", "bad.json", "-o", "cmp")
    assert (out.code, "bad.json" in out.err) == (3, True)
    out = calib("report", training / "step-500", "nowhere", "-o", "cmp")
    assert (out.code, "nowhere: no such file" in out.err) == (3, True)
    (tmp_path / "stats.json").write_text('{"mel_mean": 0, "mel_std": 1}', encoding="utf-8")
    out = calib("report", training / "step-500", "stats.json", "-o", "cmp")
    assert (out.code, "schema is None" in out.err) == (3, True)


def test_pairs_get_their_own_reports_beside_and_pairs_alone_stay_a_report(
    calib: Cli, pairs: Path, tmp_path: Path
) -> None:
    put(tmp_path / "finished", made.healthy(made.base()))
    out = calib("report", pairs, "finished", "-o", "cmp", "--no-audio")
    assert out.code == 0, out.err
    twin = json.loads((tmp_path / "cmp/comparison.json").read_text(encoding="utf-8"))
    assert twin["runs"][0]["report"] == "pairs/report.html"
    assert (tmp_path / "cmp/pairs/report.html").is_file()
    assert twin["comparable"] is False  # other utterances
    assert not report_compare.is_comparison([pairs])
    with pytest.raises(UsageError, match=r"holds no report\.json"):
        report_compare.run(report_compare.CompareConfig((pairs, tmp_path / "finished"), tmp_path / "x"))


def test_one_finished_report_is_said_to_be_one(calib: Cli, tmp_path: Path) -> None:
    put(tmp_path / "runs/one", made.healthy(made.base()))
    for one in ("runs", "runs/one", "runs/one/report.json"):
        out = calib("report", one, "-o", "cmp")
        assert (out.code, f"{one} is one run" in out.err) == (2, True), out.err
