"""What a killed run finds again, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from calib.errors import DataError, UsageError
from calib.run import ledger as ledger_module
from calib.run.ledger import Ledger

RUN = {"model": "m", "options": {"seed": 0, "names": ["a", "é"]}}


def fill(path: Path, count: int = 3) -> None:
    with Ledger(path, RUN) as ledger:
        for k in range(count):
            ledger.record(str(k), {"rows": [k, f"نام {k}"]})


def reopen(path: Path) -> dict[str, object]:
    with Ledger(path, RUN) as ledger:
        return dict(ledger.finished)


def test_what_was_recorded_is_found_again(tmp_path: Path) -> None:
    fill(tmp_path / "new" / "ledger")
    assert reopen(tmp_path / "new" / "ledger") == {str(k): {"rows": [k, f"نام {k}"]} for k in range(3)}


def test_each_record_is_on_disk_before_the_next_item(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l", RUN) as ledger:
        ledger.record("a", 1)
        assert len((tmp_path / "l").read_bytes().splitlines()) == 2


@pytest.mark.parametrize("cut", [1, 2, 10, 40])
def test_a_torn_last_line_is_dropped_and_can_be_written_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "l"
    fill(path)
    path.write_bytes(path.read_bytes()[:-cut])
    with Ledger(path, RUN) as ledger:
        assert list(ledger.finished) == ["0", "1"]
        ledger.record("2", "again")
    assert reopen(path)["2"] == "again"


def test_an_altered_line_and_all_after_it_are_done_again(tmp_path: Path) -> None:
    path = tmp_path / "l"
    fill(path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"key": "1"', b'"key": "7"')
    path.write_bytes(b"".join(lines))
    assert list(reopen(path)) == ["0"]


def test_a_file_of_noise_is_started_again(tmp_path: Path) -> None:
    (tmp_path / "l").write_bytes(b"\x00\xff\n" * 50)
    assert reopen(tmp_path / "l") == {}


def test_the_ledger_of_another_run_is_refused_with_the_difference_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "l"
    fill(path)
    before = path.read_bytes()
    other = {**RUN, "options": {"seed": 1}, "limit": 5}
    with pytest.raises(UsageError, match="another run") as caught:
        Ledger(path, other)
    assert "'seed': 0" in caught.value.message
    assert "'seed': 1" in caught.value.message
    assert "limit: None then, 5 now" in caught.value.message
    assert "model" not in caught.value.message, "what agrees is not listed"
    assert "--fresh" in str(caught.value.hint)
    assert path.read_bytes() == before


def test_fresh_discards_what_another_run_left(tmp_path: Path) -> None:
    fill(tmp_path / "l")
    with Ledger(tmp_path / "l", {"model": "other"}, fresh=True) as ledger:
        assert ledger.finished == {}
    with pytest.raises(UsageError):
        Ledger(tmp_path / "l", RUN)


def test_a_second_process_is_locked_out_until_the_first_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "l"
    monkeypatch.setattr(ledger_module, "_LOCK_WAIT", 0.1)
    code = f"import sys; from pathlib import Path; from calib.run.ledger import Ledger; l = Ledger(Path({str(path)!r}), {RUN!r}); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match="another process"):
            Ledger(path, RUN)
        with pytest.raises(UsageError, match="another process"):
            Ledger(path, RUN, fresh=True)
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    assert reopen(path) == {}  # the system dropped the dead holder's lock


def test_a_full_disk_is_a_data_error_with_the_reason_and_what_was_written_counts(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; from calib.errors import DataError; from calib.run.ledger import Ledger\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        f"l = Ledger(Path({str(tmp_path / 'l')!r}), {RUN!r})\n"
        "try:\n    for k in range(9): l.record(str(k), k)\n"
        "except DataError as error: print(error.message)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "cannot write the ledger" in out.stdout
    assert "File too large" in out.stdout
    found = reopen(tmp_path / "l")
    assert found
    assert len(found) < 9
    assert found == {str(k): k for k in range(len(found))}


def test_what_is_found_again_has_its_keys_in_the_order_they_were_written(tmp_path: Path) -> None:
    """A resumed run writes them into files that must be the same bytes."""
    with Ledger(tmp_path / "l", RUN) as ledger:
        ledger.record("a", {"id": 1, "pred": 2, "audio": 3})
    assert list(reopen(tmp_path / "l")["a"]) == ["id", "pred", "audio"]  # type: ignore[call-overload]


def test_a_folder_that_cannot_be_made_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot open the ledger"):
        Ledger(tmp_path / "file" / "l", RUN)


def test_remove_deletes_it(tmp_path: Path) -> None:
    fill(tmp_path / "l")
    with Ledger(tmp_path / "l", RUN) as ledger:
        ledger.remove()
    assert not (tmp_path / "l").exists()


def test_a_child_that_outlives_a_killed_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from calib.run.ledger import Ledger\n"
        f"l = Ledger(Path({str(tmp_path / 'l')!r}), {RUN!r})\n"
        "child = os.fork()\n"
        "if child == 0: os.close(1); time.sleep(30)\n"
        "print(child, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        holder.kill()
    try:
        assert reopen(tmp_path / "l") == {}
    finally:
        os.kill(child, signal.SIGKILL)


def test_only_what_is_kept_is_held_and_the_rest_is_read_again(tmp_path: Path) -> None:
    def names(value: dict[str, str]) -> str:
        return value["name"]

    with Ledger(tmp_path / "l", RUN, keep=names) as ledger:
        ledger.record("0", {"name": "a", "state": "x" * 3000})
        ledger.record("1", {"name": "b", "state": "y"})
        ledger.record("0", {"name": "c", "state": "نو"})
        assert ledger.finished == {"0": "c", "1": "b"}, "the last value of a key counts"
    with Ledger(tmp_path / "l", RUN, keep=names) as ledger:
        assert ledger.finished == {"0": "c", "1": "b"}
        assert ledger.value("0") == {"name": "c", "state": "نو"}
        assert ledger.value("1") == {"name": "b", "state": "y"}
        ledger.record("2", {"name": "d"})
        assert ledger.value("2") == {"name": "d"}


def test_settings_stay_what_they_were_when_the_ledger_was_begun_and_refuse_nobody(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l", RUN, settings={"chunk": 8}) as ledger:
        ledger.record("0", 0)
    with Ledger(tmp_path / "l", RUN, settings={"chunk": 9}) as ledger:
        assert ledger.settings == {"chunk": 8}
        assert ledger.finished == {"0": 0}
    with Ledger(tmp_path / "l", RUN, settings={"chunk": 9}, fresh=True) as ledger:
        assert ledger.settings == {"chunk": 9}


def test_lines_reach_the_disk_as_often_as_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with Ledger(tmp_path / "often", RUN) as ledger:
        before = len(synced)
        for k in range(3):
            ledger.record(str(k), k)
        assert len(synced) - before == 3
    synced.clear()
    with Ledger(tmp_path / "seldom", RUN, sync_every=60.0) as ledger:
        synced.clear()
        for k in range(3):
            ledger.record(str(k), k)
        assert synced == []
    assert len(synced) == 1, "and at the end"


def test_a_line_that_does_not_fit_is_taken_back_and_the_next_run_goes_on(tmp_path: Path) -> None:
    code = (
        "import os, resource, signal; from pathlib import Path; from calib.errors import DataError; from calib.run.ledger import Ledger\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"l = Ledger(Path({str(tmp_path / 'l')!r}), {RUN!r}); l.record('a', 1); size = os.path.getsize(l.path)\n"
        "try: l.record('b', 'x' * 2000)\n"
        "except DataError as error: print(error.hint)\n"
        "assert os.path.getsize(l.path) == size\n"
        "l.record('c', 3)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "make room" in out.stdout
    assert reopen(tmp_path / "l") == {"a": 1, "c": 3}
