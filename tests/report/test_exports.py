"""The forms beside the page: Markdown that hostile names cannot break, and figures that are the same bytes each time."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pages
import pytest
import twins as made
from PIL import Image

from calib.errors import UsageError
from calib.report import figures
from calib.report.compare import compare
from calib.report.exports import (
    code,
    comparison_markdown,
    diagnosis_markdown,
    plain,
    write_comparison_figures,
    write_figures,
)
from calib.report.runs import Run

EVIL = "a`b|c</td>@all\n# x ![](https://evil/p.png) <script>"


@pytest.mark.parametrize("kind", ["fixable", "collapsed", "healthy", "invalid"])
def test_the_summary_has_verdict_table_findings_and_next_command(kind: str) -> None:
    d = pages.diagnosis(kind)
    text = diagnosis_markdown(d, pages.UNIT, "my model", report="report.html")
    assert text.startswith("### ")
    assert d.verdict.headline in text
    assert "**Next**" in text
    assert "`report.html`" in text
    if d.rows:
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        assert len({line.replace("\\|", "").count("|") for line in rows}) == 1  # a table, every line of as many cells
        assert "constant: global mean" in text
    else:
        assert "skipped" in text
    if d.verdict.refusal:
        assert "Nothing was repaired" in text


def test_every_hostile_text_stays_text() -> None:
    d = pages.diagnosis("fixable", [EVIL, *(f"u{k}" for k in range(5))])
    text = diagnosis_markdown(d, EVIL, EVIL, report=EVIL)
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)  # without code spans
    for dangerous in ("<script>", "</td>", "@all", "](https://", "\n# x"):
        assert dangerous not in outside
    assert "https://evil" not in outside


@pytest.mark.parametrize("text", [EVIL, "`", "``", " a ", "", "|", "a" * 1000, "\u202e"])
def test_a_code_span_is_closed_by_its_own_fence_only(text: str) -> None:
    span = code(text)
    fence = re.match("`+", span)
    assert fence
    inside = span[len(fence[0]) : -len(fence[0])]
    assert fence[0] not in re.findall("`+", inside)
    assert "\n" not in span
    assert "\u202e" not in span
    assert "|" not in span.replace("\\|", "")


@pytest.mark.parametrize("text", ["# heading", "- item", "1. item", "2) item", "> quote", "=== line"])
def test_text_makes_no_block(text: str) -> None:
    assert not re.match(r"\s*([#>=+-]|\d+[.)])", plain(text))


def test_a_comparison_says_the_best_the_table_and_what_changed() -> None:
    hard = made.base()
    c = compare([Run.of(made.healthy(hard), "step-1"), Run.of(made.healthy(hard * 0.5), EVIL)], "x")
    text = comparison_markdown(c)
    assert "Best: " in text
    assert "better: mean absolute error, as it is" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "<script>" not in re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)


def test_every_figure_is_written_and_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    d = pages.diagnosis("fixable")
    first, skipped = write_figures(d, pages.UNIT, tmp_path / "a")
    some = figures.painters()[::4]
    monkeypatch.setattr(figures, "painters", lambda: some)
    second, _ = write_figures(d, pages.UNIT, tmp_path / "b")
    assert skipped == {}
    assert {path.suffix for path in first} == {".png", ".svg"}
    assert len(first) >= 12
    assert len(second) == 2 * len(some)
    for path in second:
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes(), path.name
    for path in first:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert picture.size[0] > 400
                colours = picture.convert("RGB").getcolors(1 << 24)
                assert colours is not None
                assert len(colours) > 8
                # The page's sentinel colours never reach a file.
                assert not {(0, 0, 0x11), (0, 0, 0x22), (0, 0, 0x33), (0, 0, 0x44), (0, 0, 0x55)} & {
                    c for _, c in colours
                }
        else:
            text = path.read_text(encoding="utf-8")
            ET.fromstring(text)  # noqa: S314 - our own file
            assert "<dc:date>" not in text
            assert "var(--" not in text
    with pytest.raises(UsageError, match="exists"):
        write_figures(d, pages.UNIT, tmp_path / "a")


def test_what_cannot_be_drawn_is_named(tmp_path: Path) -> None:
    files, skipped = write_figures(pages.diagnosis("invalid"), pages.UNIT, tmp_path)
    assert files == []
    assert "histogram" in skipped
    assert all(skipped.values())


def test_the_curves_of_a_comparison_are_files_too(tmp_path: Path) -> None:
    hard = made.base()
    c = compare([Run.of(made.healthy(hard * f), f"step-{k}") for k, f in enumerate((1.0, 0.9, 0.8))], "x")
    names = {path.name for path in write_comparison_figures(c, tmp_path)}
    assert names == {
        f"{key}.{suffix}" for key in ("error", "skill", "relation", "liveliness") for suffix in ("png", "svg")
    }
