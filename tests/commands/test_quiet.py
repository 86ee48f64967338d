"""``-q`` is the answer in a few lines, and the steps are one list wherever they are shown."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from speechlike import mel_field, modelled, write_pairs

from calib.commands.options import brief
from calib.console import terminal

Cli = Callable[..., Any]


@pytest.fixture
def log10(tmp_path: Path) -> Path:
    """Predictions in log10 of targets in ln: a named fault that a scale repairs."""
    ys = [mel_field(120 + 7 * k, k) for k in range(6)]
    return write_pairs(
        tmp_path / "log10", [((p / np.log(10)).astype(np.float32), y) for p, y in zip(modelled(ys), ys, strict=True)]
    )


def numbered(text: str) -> list[str]:
    """The steps below ``next:``."""
    lines = text.splitlines()
    return [line.split(". ", 1)[1] for line in lines[lines.index("next:") + 1 :] if re.match(r"  \d+\. ", line)]


# --- one list of steps ----------------------------------------------------------------------------------------------


def test_terminal_and_json_say_the_same_steps(calib: Cli, log10: Path) -> None:
    shown = calib("diagnose", log10)
    found = json.loads(calib("diagnose", log10, "--json", "-").out)
    assert found["faults"], "the list must hold a finding's own step, else this shows nothing"
    assert found["verdict"]["next_steps"] == numbered(shown.out)
    assert "calib fit-scaler PAIRS" in found["verdict"]["next_steps"][0]


def test_fit_scaler_sends_nobody_to_itself_in_the_json_either(calib: Cli, log10: Path) -> None:
    shown = calib("fit-scaler", log10, "-o", "p.json", "--json", "d.json")
    steps = json.loads(Path("d.json").read_text(encoding="utf-8"))["verdict"]["next_steps"]
    assert steps == numbered(shown.out)
    assert not any("calib fit-scaler" in step for step in steps)


def test_the_page_its_twin_and_the_markdown_list_the_same_steps(calib: Cli, log10: Path) -> None:
    done = calib("report", log10, "-o", "r", "--no-audio", "--markdown", "s.md")
    assert done.code == 0, done.err
    steps = json.loads(calib("diagnose", log10, "--json", "-").out)["verdict"]["next_steps"]
    assert json.loads(Path("r/report.json").read_text(encoding="utf-8"))["diagnosis"]["verdict"]["next_steps"] == steps
    page = Path("r/report.html").read_text(encoding="utf-8")
    listed = [
        html.unescape(re.sub(r"<[^>]+>", "", item))
        for item in re.findall(r"<li>(.*?)</li>", page.split("<ol class", 1)[1])
    ]
    assert listed[: len(steps)] == steps
    assert len(re.findall(r"^\d+\. ", Path("s.md").read_text(encoding="utf-8"), re.MULTILINE)) == len(steps)


def test_with_legs_the_json_lists_the_legs_steps_first_as_the_terminal_does(calib: Cli, log10: Path) -> None:
    vocoder = ("--vocoder-frontend", "hifigan")
    shown = calib("diagnose", log10, *vocoder)
    found = json.loads(calib("diagnose", log10, *vocoder, "--json", "-").out)
    assert found["verdict"]["next_steps"] == numbered(shown.out)
    assert found["legs"]["next_steps"]
    assert found["verdict"]["next_steps"][: len(found["legs"]["next_steps"])] == found["legs"]["next_steps"]


# --- -q -------------------------------------------------------------------------------------------------------------


def test_quiet_diagnose_is_verdict_cause_and_the_first_step(calib: Cli, log10: Path) -> None:
    whole = calib("diagnose", log10).out.splitlines()
    done = calib("diagnose", log10, "-q")
    verdict, cause, step = done.out.splitlines()
    assert verdict.startswith(whole[0])
    assert cause == next(line for line in whole if line.startswith("cause: "))
    assert step == f"next: {numbered(chr(10).join(whole))[0]}"
    assert done.err == ""


def test_quiet_diagnose_with_legs_begins_with_whom_to_blame(calib: Cli, log10: Path) -> None:
    vocoder = ("--vocoder-frontend", "hifigan")
    whole = calib("diagnose", log10, *vocoder).out.splitlines()
    lines = calib("diagnose", log10, *vocoder, "-q").out.splitlines()
    assert lines[0] == whole[0]
    assert len(lines) <= 5


def test_quiet_fit_scaler_says_what_to_do_with_the_files(calib: Cli, log10: Path) -> None:
    lines = calib("fit-scaler", log10, "-o", "p.json", "-q").out.splitlines()
    assert [line.split(":", 1)[0] for line in lines[1:]] == ["cause", "next", "written"]
    assert "MelScaler.load" in lines[2]


def test_quiet_fit_scaler_of_a_refusal_names_the_cause(calib: Cli, unrelated: Path) -> None:
    done = calib("fit-scaler", unrelated, "-o", "p.json", "-q")
    assert done.code == 5
    lines = done.out.splitlines()
    assert lines[0].startswith("NOT FIXABLE BY CALIBRATION: no signal; ")
    assert len(lines) <= 5
    assert lines[-1].startswith("next: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "data", "audio"),
        ("check", "params", "--scale", "0.449", "--offset", "0", "--pred-std", "0.028", "--mel-std", "2.08", "--mae-before", "5.073", "--mae-after", "1.678"),
        ("check", "loss", "log10", "--loss", "mse"),
        ("check", "vocoder", "audio", "--limit", "1"),
        ("stats", "audio", "--frontend", "hifigan", "--jobs", "1"),
        ("report", "log10", "-o", "r", "--no-audio"),
        ("convert", "log10", "--from", "hifigan", "--to", "tacotron2", "--dry-run"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)  # fmt: skip
def test_quiet_is_short_begins_with_the_same_verdict_and_says_no_notice(
    calib: Cli, audio: Path, log10: Path, arguments: tuple[str, ...]
) -> None:
    del audio, log10  # they lie in the folder
    force = () if arguments[0] == "convert" else ("--force",)
    whole = calib(*arguments, *force).out.splitlines()
    done = calib(*arguments, *force, "-q")
    lines = [line for line in done.out.splitlines() if not line.startswith(("written: ", "dry run"))]
    assert 1 <= len(lines) <= 5
    assert lines[0].startswith(whole[0].rstrip("."))
    assert all(line.startswith("warning: ") for line in done.err.splitlines())


def test_more_than_three_causes_are_counted_and_only_the_first_step_shown() -> None:
    assert brief("V", ["a", "b", "c", "d", "e"], ["x", "y"]) == ["V", "a", "b", "c (and 2 more: without -q)", "next: x"]
    assert brief("V") == ["V"]


def test_the_level_is_that_of_the_last_command(calib: Cli, log10: Path) -> None:
    calib("diagnose", log10, "-q")
    assert len(calib("diagnose", log10).out.splitlines()) > 20
    assert terminal.level == 0
