"""The command line itself: exit codes, the one error handler, and what reaches which stream."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from speechlike import mel_field

import calib as package
from calib.cli import COMMANDS
from calib.console import Terminal, duration, table
from calib.errors import CalibError, DataError, GateError, PluginError, RefusedError, UsageError, nearest

Cli = Callable[..., Any]


def test_help_lists_every_command_and_each_command_has_its_own_help(calib: Cli) -> None:
    done = calib("--help")
    assert done.code == 0
    for name in COMMANDS:
        assert name in done.out
        one = calib(name, "--help")
        assert one.code == 0, name
        assert "Usage: calib" in one.out
    assert calib("stats", "-h").code == 0


def test_help_off_a_terminal_has_no_box_and_no_colour(process: Cli) -> None:
    done = process("stats", "--help")
    assert done.code == 0
    assert not set("\x1b│╭─") & set(done.out)


def test_the_version_is_the_packages(calib: Cli) -> None:
    assert calib("--version").out.strip() == f"calib {package.__version__}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonesuch"],
        ["stats"],
        ["stats", "x", "--nonesuch"],
        ["stats", "x", "--jobs", "0"],
        ["stats", "x", "--limit", "many"],
        ["stats", "x", "--allow-skipped", "101"],
    ],
)
def test_usage_errors_exit_2_and_say_so_on_stderr(calib: Cli, arguments: list[str]) -> None:
    done = calib(*arguments)
    assert done.code == 2
    assert done.err
    assert done.out == ""


def test_a_missing_source_exits_3_with_its_name_and_no_traceback(calib: Cli) -> None:
    done = calib("stats", "no/such/folder", "--frontend", "hifigan")
    assert done.code in {2, 3}
    assert "no/such/folder" in done.err
    assert "Traceback" not in done.err


def test_verbose_adds_the_traceback(calib: Cli) -> None:
    assert "Traceback" in calib("stats", "no/such/folder", "--frontend", "hifigan", "-v").err


def test_quiet_leaves_results_and_no_notice(calib: Cli, pairs: Path) -> None:
    done = calib("diagnose", pairs, "-q")
    assert done.out.startswith("FIXABLE")
    assert done.err == ""


def test_the_first_line_of_any_output_is_the_verdict(calib: Cli, pairs: Path, unrelated: Path) -> None:
    assert calib("diagnose", pairs).out.splitlines()[0] == "FIXABLE BY CALIBRATION"
    assert calib("diagnose", unrelated).out.splitlines()[0].startswith("NOT FIXABLE BY CALIBRATION")


@pytest.mark.parametrize("extra", [[], ["--json", "-"]])
def test_a_result_that_stdout_cannot_take_is_an_io_error(pairs: Path, extra: list[str]) -> None:
    """``> /dev/full``: not a bug of calib, and not silent."""
    with open("/dev/full", "w") as full:
        out = subprocess.run(
            [sys.executable, "-c", f"from calib.cli import main; main({['diagnose', str(pairs), *extra]!r})"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert out.returncode == 3, out.stderr
    assert "No space left" in out.stderr
    assert "bug" not in out.stderr


def test_a_reader_that_goes_away_is_no_error(pairs: Path) -> None:
    """``| head -0``."""
    reader, writer = os.pipe()
    os.close(reader)
    out = subprocess.run(
        [sys.executable, "-c", f"from calib.cli import main; main(['diagnose', {str(pairs)!r}])"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert out.returncode == 0, out.stderr
    assert "Error" not in out.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_signal_ends_stats_with_its_code_and_leaves_no_file(
    tmp_path: Path, number: int, code: int, jobs: int
) -> None:
    """Sent as soon as the corpus is open (its description is on stderr); each item is slowed down, so that it is in time."""
    folder = tmp_path / "mels"
    folder.mkdir()
    for k in range(400):
        np.save(folder / f"m{k}.npy", mel_field(30, k % 3))
    (tmp_path / "slow.py").write_text(
        "import time\nfrom calib.mel.corpus import Measure\n\n\nclass Slow(Measure):\n    def __call__(self, item):\n        time.sleep(0.05)\n        return super().__call__(item)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(
        "import calib.commands.stats\nfrom calib.cli import main\nfrom slow import Slow\n\nif __name__ == '__main__':\n    calib.commands.stats.Measure = Slow\n"
        f"    main(['stats', {str(folder)!r}, '--layout', 'TM', '--jobs', '{jobs}', '-o', 'out/s.json'])\n"
    )
    running = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    watchdog = threading.Timer(60, running.kill)
    watchdog.start()
    try:
        assert running.stderr is not None
        assert "mel folder" in running.stderr.readline()
        os.kill(running.pid, number)
        rest = running.stderr.read()
        running.stderr.close()
        assert running.wait() == code, rest
    finally:
        watchdog.cancel()
    assert "half-written" in rest
    assert list((tmp_path / "out").rglob("*")) == []


def test_json_to_a_file_is_the_same_as_to_stdout(calib: Cli, pairs: Path, tmp_path: Path) -> None:
    printed = calib("diagnose", pairs, "--json", "-").out
    assert calib("diagnose", pairs, "--json", "d.json").code == 0
    assert (tmp_path / "d.json").read_text() == printed


def test_every_error_class_has_the_exit_code_of_the_contract() -> None:
    assert [cls.exit_code for cls in (CalibError, UsageError, DataError, PluginError, RefusedError, GateError)] == [
        1,
        2,
        3,
        4,
        5,
        10,
    ]


def test_an_error_keeps_its_hint_across_a_process_border() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(DataError("what", hint="how")))  # noqa: S301
    assert (type(error), error.message, error.hint) == (DataError, "what", "how")


def test_nearest_suggests_and_lists() -> None:
    assert nearest("hifgan", ["hifigan", "tacotron2"]) == "did you mean hifigan? known: hifigan, tacotron2"
    assert nearest("zzz", ["hifigan"]) == "known: hifigan"
    assert nearest("x", []) is None


def test_no_control_character_passes_to_a_terminal_but_scripts_of_all_languages_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Terminal().result("a\x1b[31mb\x07\r\u202eز\u200cن é 漢 \udcff\tend")
    out = capsys.readouterr().out
    assert out == "a\\x1b[31mb\\x07\\x0d\\x202eز\u200cن é 漢 \\udcff\tend\n"


def test_durations_are_for_people() -> None:
    assert [duration(x) for x in (0.04, 59.94, 184, 3725, float("nan"))] == [
        "0.0 s",
        "59.9 s",
        "3 min 04 s",
        "1 h 02 min",
        "unknown time",
    ]


def test_a_table_is_aligned() -> None:
    assert table(["name", "n"], [["a", "1"], ["bcdef", "10"]]) == ["name    n", "a       1", "bcdef  10"]


def test_run_json_of_somebody_else_is_left_alone_and_of_calib_is_extended(
    calib: Cli, pairs: Path, tmp_path: Path
) -> None:
    stats = ["stats", pairs / "targets", "--layout", "TM"]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text('{"mine": 1}')
    assert calib(*stats, "-o", "a/s.json").code == 0
    assert (tmp_path / "a" / "run.json").read_text() == '{"mine": 1}'
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run.json").write_text('{"schema": "calib/run/1", "outputs": 5}')
    for name in ("one", "two"):
        assert calib(*stats, "-o", f"b/{name}.json").code == 0
    assert list(json.loads((tmp_path / "b" / "run.json").read_text())["outputs"]) == ["one.json", "two.json"]


def test_a_reader_that_goes_away_does_not_hide_a_refusal(tmp_path: Path) -> None:
    """``calib fit-scaler ... | head``: refused is refused, whoever reads it."""
    script = tmp_path / "refuses.py"
    script.write_text(
        "import typer\nfrom calib import cli\nfrom calib.console import terminal\nfrom calib.errors import RefusedError\n\n"
        "app = typer.Typer()\n\n\n@app.command()\ndef refuse() -> None:\n"
        "    for _ in range(20_000):\n        terminal.result('a long table')\n"
        "    raise RefusedError('no calibration helps')\n\n\n"
        "if __name__ == '__main__':\n    cli.COMMANDS['refuse'] = ('refuses', '')\n    cli.main(['refuse'])\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    out = subprocess.run(
        [sys.executable, str(script)], stdout=writer, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path
    )
    os.close(writer)
    assert out.returncode == 5, out.stderr
    assert "no calibration helps" in out.stderr
    assert "BrokenPipe" not in out.stderr


# --- wrong usages: the value, the cause, the next step ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["diagnose", "pairz"], 3, ("pairz: no such file or folder", "did you mean pairs?")),
        (["check", "data", "xyzzy"], 3, ("xyzzy: no such file or folder", "holds ")),
        (["check", "data", "no/such"], 3, ("no/such", "its folder no does not exist either")),
        (["run", "nope.yaml"], 3, ("nope.yaml: no such file", "holds ")),
        (["run", "words.txt"], 2, ("words.txt", "no pipeline configuration")),
        (["fold", "-o", "f", "--model", "reference", "--params", "nope.json"], 3, ("nope.json",)),
        (["diagnose", "pairs", "--seed", "-1"], 2, ("--seed", "given: --seed -1")),
        (["diagnose", "pairs", "--limit", "-1"], 2, ("--limit", "given: --limit -1")),
        (["diagnose", "pairs", "--limit=0"], 2, ("--limit", "given: --limit=0")),
        (["diagnose", "pairs", "--allow-skipped", "200"], 2, ("given: --allow-skipped 200",)),
        (["report", "pairs", "--examples", "99"], 2, ("given: --examples 99",)),
        (["diagnose", "pairs", "--frontend", "hifgan"], 2, ("'hifgan'", "did you mean hifigan")),
        (["diagnose", "pairs", "--vocoder", "hifigann"], 2, ("hifigann", "did you mean hifigan")),
        (["diagnose", "pairs", "--stats", "empty.json"], 3, ("empty.json: lacks mel_mean", "calib stats")),
        (["diagnose", "pairs", "--stats", "words.txt"], 3, ("words.txt: is no statistics file", "calib stats --help")),
        (["diagnose", "empty"], 3, ("empty: no pairs", "calib pair")),
        (["diagnose", "pairs", "--output-space", "foo"], 2, ("'foo'", "raw or normalized")),
        (["faults", "show", "log-bse"], 2, ("'log-bse'", "did you mean log-base")),
        (["schema", "nope"], 2, ("'nope'", "known: ")),
        (["new-adapter", "nope"], 2, ("'nope'", "known: ")),
        (["stats", "empty", "--frontend", "hifigan"], 3, ("empty", "looked for .wav")),
        (["fit-scaler", "pairs", "-o", "empty"], 2, ("empty is a folder",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_usage_names_the_value_and_what_to_do(
    calib: Cli, pairs: Path, arguments: list[str], code: int, said: tuple[str, ...]
) -> None:
    Path("empty").mkdir()
    Path("empty.json").write_text("{}", encoding="utf-8")
    Path("words.txt").write_text("only words\n", encoding="utf-8")
    assert pairs.name == "pairs"
    done = calib(*arguments)
    assert done.code == code, done.err
    assert not [text for text in said if text not in done.err], done.err
    assert "Traceback" not in done.err
    assert "bug in calib" not in done.err
