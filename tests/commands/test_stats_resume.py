"""``calib stats`` killed, resumed, shared out, and refused: the same bytes, or an error that says why."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from speechlike import RATE, voice

from calib.commands import stats as stats_module
from calib.commands import statswork
from calib.errors import DataError
from calib.mel.corpus import Measure
from calib.run import ledger as ledger_module
from calib.run.ledger import Ledger

Cli = Callable[..., Any]
COUNT = 12
LEDGER = "s.json.ledger"

# Before a command in its own process: chunks of one item, each slow enough to be killed in.
SLOW = """
import time
import calib.commands.statswork as w
from calib.mel.corpus import Measure
w._MOST = 1
measure = Measure.__call__
def slow(self, item):
    time.sleep(PAUSE)
    return measure(self, item)
Measure.__call__ = slow
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve clips: one at another rate, one that is no audio, two speakers."""
    folder = tmp_path / "corpus"
    (folder / "wavs").mkdir(parents=True)
    for k in range(COUNT):
        rate = 16000 if k == 3 else RATE
        soundfile.write(folder / "wavs" / f"c{k}.wav", voice(0.3 + 0.02 * k, seed=k)[:rate], rate)
    (folder / "wavs" / "c5.wav").write_text("no audio")
    (folder / "list.txt").write_text("".join(f"wavs/c{k}.wav|text|{'ann' if k % 3 else 'bob'}\n" for k in range(COUNT)))
    return folder / "list.txt"


def arguments(corpus: Path, *more: object) -> list[object]:
    return ["stats", corpus, "--columns", "path,text,speaker", "--frontend", "hifigan", "--allow-skipped", 20, "-o", "s.json", *more]  # fmt: skip


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of one item."""
    monkeypatch.setattr(statswork, "_MOST", 1)


@pytest.fixture
def whole(calib: Cli, corpus: Path, tmp_path: Path) -> bytes:
    """The result of a run that nothing happened to."""
    done = calib(*arguments(corpus))
    assert done.code == 0, done.err
    content = (tmp_path / "s.json").read_bytes()
    (tmp_path / "s.json").unlink()
    return content


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids in the order they are measured in this process."""
    seen: list[str] = []
    real = Measure.__call__

    def spy(self: Measure, item: Any) -> Any:
        seen.append(item.id)
        return real(self, item)

    monkeypatch.setattr(Measure, "__call__", spy)
    return seen


def interrupt_after(records: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when so many parts are in the ledger."""
    real = Ledger.record

    def record(self: Ledger, key: str, value: Any) -> None:
        real(self, key, value)
        if len(self.finished) == records:
            raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "record", record)


def interrupted(calib: Cli, corpus: Path, *more: object, records: int = 7) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(records, patch)
        done = calib(*arguments(corpus, *more))
    assert done.code == 130, done.err
    assert "go on where they stopped" in done.err
    assert Path(LEDGER).exists()
    assert not Path("s.json").exists()


@pytest.mark.usefixtures("one_by_one")
def test_an_interrupted_run_goes_on_to_the_same_bytes_and_measures_nothing_good_twice(
    calib: Cli, corpus: Path, whole: bytes, measured: list[str], tmp_path: Path
) -> None:
    interrupted(calib, corpus)
    assert len(measured) == 7
    done = calib(*arguments(corpus))
    assert done.code == 0, done.err
    assert (tmp_path / "s.json").read_bytes() == whole
    assert sorted(measured) == sorted([*(f"c{k}" for k in range(COUNT)), "c5"]), (
        "c5 could not be used, and is tried again"
    )
    assert "7 parts of the corpus are done" in done.err
    # What the first run found unusual is said, too.
    assert "skipped c5" in done.err
    assert "1 of 12 files at 16000 Hz were resampled" in done.err
    assert not (tmp_path / LEDGER).exists(), "deleted when it is done"
    facts = json.loads((tmp_path / "run.json").read_text())["outputs"]["s.json"]
    assert facts["resumed_utterances"] == 7


@pytest.mark.usefixtures("one_by_one")
def test_a_file_that_changed_meanwhile_is_measured_again(
    calib: Cli, corpus: Path, measured: list[str], tmp_path: Path
) -> None:
    interrupted(calib, corpus)
    soundfile.write(corpus.parent / "wavs" / "c1.wav", voice(0.5, seed=99), RATE)
    measured.clear()
    assert calib(*arguments(corpus)).code == 0
    assert sorted(measured) == sorted(["c1", "c5", *(f"c{k}" for k in range(7, COUNT))]), "c5 could not be used"
    resumed = (tmp_path / "s.json").read_bytes()
    assert calib(*arguments(corpus, "--force", "--fresh")).code == 0
    assert (tmp_path / "s.json").read_bytes() == resumed


@pytest.mark.usefixtures("one_by_one")
def test_another_runs_ledger_is_refused_with_the_difference_and_fresh_discards_it(
    calib: Cli, corpus: Path, whole: bytes, measured: list[str], tmp_path: Path
) -> None:
    interrupted(calib, corpus, "--frontend", "tacotron2", "--limit", 10)
    before = (tmp_path / LEDGER).read_bytes()
    done = calib(*arguments(corpus))
    assert done.code == 2
    assert "frontend: 'tacotron2_nv" in done.err
    assert "'hifigan_jik" in done.err
    assert "limit: 10 then, None now" in done.err
    assert "--fresh" in done.err
    assert (tmp_path / LEDGER).read_bytes() == before
    for option in ("--fresh", "--force"):
        (tmp_path / LEDGER).write_bytes(before)
        (tmp_path / "s.json").unlink(missing_ok=True)
        measured.clear()
        assert calib(*arguments(corpus, option)).code == 0
        assert len(measured) == COUNT
        assert (tmp_path / "s.json").read_bytes() == whole


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("damage", ["torn", "altered", "noise"])
def test_a_damaged_ledger_is_used_as_far_as_it_is_good(
    calib: Cli, corpus: Path, whole: bytes, measured: list[str], tmp_path: Path, damage: str
) -> None:
    interrupted(calib, corpus)
    path = tmp_path / LEDGER
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:-50])
    elif damage == "altered":
        lines[3] = lines[3].replace(b'"items": 1', b'"items": 9')
        path.write_bytes(b"".join(lines))
    else:
        path.write_bytes(os.urandom(5000))
    measured.clear()
    assert calib(*arguments(corpus)).code == 0
    assert len(measured) == COUNT - {"torn": 5, "altered": 2, "noise": 0}[damage], "c5 could not be used"
    assert (tmp_path / "s.json").read_bytes() == whole


def test_what_is_refused_at_the_end_of_a_short_run_leaves_no_ledger(calib: Cli, corpus: Path, tmp_path: Path) -> None:
    done = calib(*arguments(corpus, "--allow-skipped", 1))
    assert done.code == 3
    assert "1 of 12" in done.err
    assert not (tmp_path / LEDGER).exists()


@pytest.mark.parametrize("size", [1, 4, 12])
def test_what_could_not_be_used_is_tried_again_without_a_trace_in_the_file(
    calib: Cli, corpus: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int
) -> None:
    """A server that did not answer, a file that nobody might read: neither size nor time tell that it is mended."""
    monkeypatch.setattr(statswork, "_MOST", size)
    monkeypatch.setattr(statswork, "_LEAST", size)
    real, away = Measure.__call__, {"c0", "c2", "c3"}

    def failing(self: Measure, item: Any) -> Any:
        if item.id in away:
            raise DataError("the server did not answer")
        return real(self, item)

    monkeypatch.setattr(Measure, "__call__", failing)
    monkeypatch.setattr(stats_module, "_WORTHLESS", 0.0)
    refused = calib(*arguments(corpus))
    assert refused.code == 3
    assert "the server did not answer" in refused.err
    away.remove("c3")
    refused = calib(*arguments(corpus))
    assert refused.code == 3, "c0, c2 and c5 are a quarter"
    assert "c3" not in refused.err
    away.clear()
    done = calib(*arguments(corpus))
    assert done.code == 0, done.err
    assert (tmp_path / "s.json").read_bytes() == whole


def test_a_resumed_run_that_is_refused_at_once_keeps_what_the_first_one_did(
    calib: Cli, corpus: Path, whole: bytes, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stats_module, "_WORTHLESS", 0.0)  # the first run took hours
        assert calib(*arguments(corpus, "--allow-skipped", 1)).code == 3
    again = calib(*arguments(corpus, "--allow-skipped", 1))  # this one takes a moment
    assert again.code == 3
    assert "kept in" in again.err
    assert (tmp_path / LEDGER).exists()
    done = calib(*arguments(corpus))
    assert "going on from" in done.err
    assert (tmp_path / "s.json").read_bytes() == whole


def test_two_processes_on_one_output_are_kept_apart(
    calib: Cli, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_LOCK_WAIT", 0.1)
    with Ledger(tmp_path / LEDGER, {"command": "stats"}):
        done = calib(*arguments(corpus))
        assert done.code == 2
        assert "another process is working on s.json.ledger" in done.err
        assert calib(*arguments(corpus, "--fresh")).code == 2


@pytest.mark.parametrize("jobs", [2, 3])
def test_jobs_and_the_order_of_the_corpus_change_no_byte(
    calib: Cli, corpus: Path, whole: bytes, tmp_path: Path, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statswork, "_MOST", jobs)
    lines = corpus.read_text().splitlines(keepends=True)
    corpus.write_text("".join(lines[(2 * jobs + 1) * k % COUNT] for k in range(COUNT)))
    assert calib(*arguments(corpus, "--jobs", jobs)).code == 0
    assert (tmp_path / "s.json").read_bytes() == whole


def test_an_item_that_kills_its_worker_is_skipped_by_name_and_tried_again_by_the_next_run(
    process: Cli, corpus: Path, whole: bytes, tmp_path: Path
) -> None:
    before = SLOW.replace("PAUSE", "0") + (
        "import os, signal\n"
        "def deadly(self, item):\n"
        "    if item.id == 'c7': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return measure(self, item)\n"
        "Measure.__call__ = deadly\n"
    )
    done = process(
        *arguments(corpus, "--jobs", 2, "--allow-skipped", 1), before=before.replace("_MOST = 1", "_MOST = 4")
    )
    assert done.code == 3
    assert "2 of 12 utterances" in done.err
    assert (
        "c7: its worker process died on it, twice (killed by SIGKILL: out of memory, or a bug in a library)" in done.err
    )
    done = process(*arguments(corpus, "--jobs", 2), before=before)
    assert done.code == 0
    skipped = json.loads((tmp_path / "s.json").read_text())["provenance"]["skipped"]
    assert sorted(name for names in skipped.values() for name in names) == ["c5", "c7"]
    assert process(*arguments(corpus, "--jobs", 2, "--force")).code == 0
    assert (tmp_path / "s.json").read_bytes() == whole


def test_a_full_disk_ends_the_run_and_what_was_finished_is_kept(
    process: Cli, corpus: Path, whole: bytes, tmp_path: Path
) -> None:
    limit = 20000
    before = SLOW.replace("PAUSE", "0") + (
        f"import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    )
    done = process(*arguments(corpus), before=before)
    assert done.code == 3
    assert "cannot write the ledger s.json.ledger: File too large" in done.err
    assert "make room, and run the same command again" in done.err
    assert 0 < (tmp_path / LEDGER).stat().st_size <= limit
    done = process(*arguments(corpus))
    assert done.code == 0
    assert "going on from s.json.ledger" in done.err
    assert (tmp_path / "s.json").read_bytes() == whole


def start(arguments: list[object], cwd: Path, pause: float) -> subprocess.Popen[str]:
    code = f"{SLOW.replace('PAUSE', str(pause))}\nfrom calib.cli import main\nmain({[str(a) for a in arguments]!r})\n"
    return subprocess.Popen([sys.executable, "-c", code], cwd=cwd, stderr=subprocess.PIPE, text=True)


def wait_for_records(path: Path, count: int) -> None:
    until = time.monotonic() + 30
    while not path.exists() or path.read_bytes().count(b"\n") <= count:
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(
    corpus: Path, whole: bytes, tmp_path: Path
) -> None:
    """Four kills by SIGKILL after 2, 4, ... parts and a moment; benchmarks/kill does a hundred at random."""
    for kill, moment in enumerate((0.0, 0.013, 0.004, 0.02)):
        with start(arguments(corpus, "--jobs", 2), tmp_path, 0.03) as run:
            wait_for_records(tmp_path / LEDGER, 2 * (kill + 1))
            time.sleep(moment)
            run.kill()
        assert run.returncode == -signal.SIGKILL
    with start(arguments(corpus, "--jobs", 2), tmp_path, 0.0) as run:
        assert run.wait() == 0
    assert (tmp_path / "s.json").read_bytes() == whole
    assert not (tmp_path / LEDGER).exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_leave_no_process_and_a_ledger(
    corpus: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with start(arguments(corpus, "--jobs", 2), tmp_path, 0.2) as run:
        wait_for_records(tmp_path / LEDGER, 1)
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        assert len(children) == 2
        run.send_signal(number)
        assert run.wait(10) == code
        assert not any(Path(f"/proc/{pid}").exists() for pid in children)
        assert run.stderr is not None
        assert "Traceback" not in run.stderr.read()
    assert (tmp_path / LEDGER).exists()
    assert not (tmp_path / "s.json").exists()


def test_progress_as_json_makes_every_line_of_stderr_an_object(calib: Cli, corpus: Path) -> None:
    done = calib(*arguments(corpus, "--progress", "json"))
    assert done.code == 0
    events = [json.loads(line) for line in done.err.splitlines()]
    (last,) = [event for event in events if event["event"] == "progress" and event["final"]]
    assert (last["done"], last["total"], last["skipped"], last["earlier"]) == (12, 12, 1, 0)
    assert last["hours"] == pytest.approx(np.sum(0.3 + 0.02 * np.arange(12)) / 3600, rel=0.3)
    assert last["times_real_time"] > 0
    assert {event["event"] for event in events} >= {"notice", "warning", "progress"}
    done = calib(*arguments(corpus, "--progress", "loud", "--force"))
    assert done.code == 2
    assert "'loud'" in done.err


def test_the_engine_is_checked_before_the_work(calib: Cli, corpus: Path, tmp_path: Path) -> None:
    done = calib(*arguments(corpus, "--engine", "spark"))
    assert done.code == 2
    assert "'spark'" in done.err
    assert not (tmp_path / LEDGER).exists()


@pytest.mark.slow
def test_ray_gives_the_same_bytes_also_when_a_worker_is_killed(corpus: Path, whole: bytes, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install mel-calib[ray]")
    shutil.copy(Path(__file__).parent.parent.parent / "benchmarks" / "kill" / "raykill.py", tmp_path)
    code = f"import raykill\nraykill.kill_one_worker()\nfrom calib.cli import main\nmain({[str(a) for a in arguments(corpus, '--engine', 'ray', '--jobs', 2)]!r})\n"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert out.returncode == 0, out.stderr
    assert out.stdout.startswith("mean ")
    assert "killed a Ray worker" in out.stderr
    starts = ("filelist", "killed a Ray worker", "warning: skipped c5", "warning: 1 of 12 files hold no sound", "1 of 12 files", "11 of 12 files")  # fmt: skip
    assert [line for line in out.stderr.splitlines() if not line.startswith(starts)] == [], "Ray's log stays out of it"
    assert (tmp_path / "s.json").read_bytes() == whole
