"""Progress: what is said, how often, and in what form."""

from __future__ import annotations

import json

import pytest

from calib import console
from calib.console import Progress, terminal


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test moves; the terminal is at its usual level."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(terminal, "level", 0)
    monkeypatch.setattr(terminal, "json_lines", False)
    return now


def test_off_a_terminal_it_is_one_line_a_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress("stats", 1000)
    for _ in range(250):
        clock[0] += 1.0
        bar.advance(7.0, skipped=0)
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0] == "stats: 61 of 1000, 1.0/s, 0.12 h of audio, 7 x real time, 15 min 39 s left"


def test_quiet_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress("stats", 10, shown=False)
    clock[0] += 100
    bar.advance(1.0)
    bar.close()
    assert capsys.readouterr().err == ""


def test_json_lines_are_one_a_second_and_a_last_one(
    clock: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "json_lines", True)
    bar = Progress("stats", 100)
    bar.advance(3600.0, items=40, earlier=True)
    for _ in range(20):
        clock[0] += 0.25
        bar.advance(36.0, items=2, skipped=1)
    bar.close()
    terminal.warning("mind\nthe gap")
    *events, last, warning = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert 3 <= len(events) <= 5
    assert last == {
        "event": "progress", "label": "stats", "done": 80, "total": 100, "skipped": 20, "earlier": 40, "hours": 1.2,
        "items_per_second": 8.0, "times_real_time": 144.0, "elapsed_seconds": 5.0, "eta_seconds": 2.5, "final": True,
    }  # fmt: skip
    assert warning == {"event": "warning", "text": "mind\nthe gap"}


def test_what_an_earlier_run_did_says_nothing_about_the_rate(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    bar = Progress("stats", 1000)
    bar.advance(900 * 7.0, items=900, earlier=True)
    clock[0] += 61.0
    bar.advance(61.0, items=61)
    assert "961 of 1000, 1.0/s, 1.77 h of audio, 1 x real time, 39.0 s left" in capsys.readouterr().err
