"""docs/python.md is true, and the Python entry says the same as the command."""

from __future__ import annotations

import doctest
import html.parser
import json
import re
from pathlib import Path

import numpy as np
import pytest
from speechlike import mel_field, modelled, write_pairs

import calib
from calib.cli import _run
from calib.diagnose.notebook import fragment
from calib.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = "</style></div><script>alert(1)</script>\u202e\x00"


def test_the_examples_give_what_they_say() -> None:
    found = doctest.testfile(str(ROOT / "docs/python.md"), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 10
    assert found.failed == 0


def test_the_other_examples_are_python_and_name_what_exists() -> None:
    text = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(block, "docs/python.md", "exec")
    for name in re.findall(r"`(calib\.[\w.]+)", text):
        value: object = __import__("importlib").import_module(name) if name == "calib.training" else calib
        for part in name.split(".")[1:]:
            value = getattr(value, part, None) or __import__("importlib").import_module(name.rpartition(".")[0])
        assert value is not None


@pytest.fixture(scope="module")
def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    ys = [mel_field(100 + 7 * k, k) for k in range(6)]
    return {
        f"u{k:02d}": (p * np.float32(0.5) + np.float32(2.5), y)
        for k, (p, y) in enumerate(zip(modelled(ys), ys, strict=True))
    }


def test_memory_and_disk_give_one_verdict(pairs: dict[str, tuple[np.ndarray, np.ndarray]], tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs", list(pairs.values()))
    from_disk, held = calib.analyze(tmp_path / "pairs"), calib.analyze(pairs)
    assert from_disk.verdict == held.verdict
    assert from_disk.summary == held.summary
    assert _run(["diagnose", str(tmp_path / "pairs"), "--json", str(tmp_path / "d.json")]) == 0
    assert json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))["verdict"] == held.to_json()["verdict"]


def test_what_does_not_fit_is_an_error_with_the_value(
    pairs: dict[str, tuple[np.ndarray, np.ndarray]], tmp_path: Path
) -> None:
    y = mel_field(100, 0)
    for bad, said in (({}, "no pairs"), ({"a": (y, y[:5])}, "a: the prediction has shape"), ([(y,)], r"a pair is"), ({"a": ("x", y)}, "of real numbers")):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            calib.analyze(bad)
    with pytest.raises(UsageError, match="stats is a file"):
        calib.analyze(pairs, stats="s.json")
    with pytest.raises(UsageError, match="kind: a PAIRS folder says that itself"):
        calib.analyze(tmp_path, kind="mean")


class _Fragment(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        if tag != "rect":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}


def test_a_notebook_shows_a_small_card_without_script(pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    diagnosis = calib.analyze(pairs)
    text = diagnosis._repr_html_()
    assert text == fragment(diagnosis)
    seen = _Fragment(text)
    assert seen.open == []
    assert not seen.tags & {"script", "link", "img", "iframe"}
    assert not [name for name in seen.names if name.startswith("on") or name in {"src", "href", "id"}]
    assert len(text) < 6000
    assert diagnosis.verdict.headline in text
    assert "constant" in text
    rules = re.search(r"<style>(.*?)</style>", text)
    assert rules
    assert all(
        one.startswith(".calib-d") for rule in rules[1].split("}") if rule for one in rule.split("{")[0].split(",")
    )  # scoped


def test_the_card_of_hostile_and_of_unjudged_pairs_is_text(pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    diagnosis = calib.analyze(pairs)
    object.__setattr__(diagnosis.verdict, "sentence", HOSTILE)
    seen = _Fragment(fragment(diagnosis))
    assert "script" not in seen.tags
    assert seen.open == []
    assert "\u202e" not in fragment(diagnosis)
    few = calib.analyze([(np.ones((9, 4)), np.ones((9, 4)))])
    assert "skipped" in fragment(few)


def test_importing_calib_stays_light_and_unknown_names_are_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'analyse'"):
        _ = calib.analyse  # type: ignore[attr-defined]
