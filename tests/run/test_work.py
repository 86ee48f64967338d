"""Units pulled by workers: the same values whoever does them, whoever dies."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from calib.errors import DataError, UsageError
from calib.run.engine import EngineConfig, Work, run_units
from calib.run.local import LocalCrew

TWO = EngineConfig(jobs=2)
ROOT = Path(__file__).resolve().parent.parent.parent


class Squares(Work["list[int]", "list[int]"]):
    """Units of three numbers. ``poison`` kills the process, always or only ``times`` times (counted in a file)."""

    def __init__(self, count: int, *, poison: int | None = None, marks: Path | None = None, times: int = 10**6) -> None:
        self.count, self.poison, self.marks, self.times = count, poison, marks, times

    def units(self) -> Iterator[list[int]]:
        for k in range(self.count):
            yield [3 * k, 3 * k + 1, 3 * k + 2]

    def start(self) -> Callable[[list[int]], list[int]]:
        return self.square

    def square(self, unit: list[int]) -> list[int]:
        if self.poison in unit:
            assert self.marks is not None
            with self.marks.open("ab") as file:
                file.write(b".")
            if self.marks.stat().st_size <= self.times:
                os.kill(os.getpid(), signal.SIGKILL)
        return [x * x for x in unit]

    def parts(self, unit: list[int]) -> Sequence[list[int]]:
        return [[x] for x in unit]

    def join(self, values: Sequence[list[int]]) -> list[int]:
        return [x for value in values for x in value]

    def lost(self, unit: list[int], reason: str) -> list[int]:
        assert "SIGKILL" in reason
        return [-x for x in unit]


class Whole(Squares):
    """Cannot be cut, and is not given up."""

    def parts(self, unit: list[int]) -> Sequence[list[int]]:
        del unit
        return ()

    def lost(self, unit: list[int], reason: str) -> list[int]:
        return Work.lost(self, unit, reason)


class Fresh(Squares):
    """Works in interpreters of their own."""

    forks = False


class Where(Squares):
    """Notes the process of every pass, and of every unit."""

    def units(self) -> Iterator[list[int]]:
        assert self.marks is not None
        with self.marks.open("a") as file:
            file.write(f"{os.getpid()}\n")
        yield from super().units()


class Stillborn(Squares):
    """Its workers die while they start."""

    def start(self) -> Callable[[list[int]], list[int]]:
        os._exit(3)

    def lost(self, unit: list[int], reason: str) -> list[int]:
        del reason
        return unit


class Murderous(Squares):
    """Each item of its third unit kills every worker."""

    def square(self, unit: list[int]) -> list[int]:
        if unit[0] in range(6, 9):
            os.kill(os.getpid(), signal.SIGKILL)
        return [x * x for x in unit]


class Slow(Squares):
    """Every unit leaves a mark and takes a while."""

    def square(self, unit: list[int]) -> list[int]:
        assert self.marks is not None
        with self.marks.open("ab") as file:
            file.write(b".")
        time.sleep(0.01)
        return super().square(unit)


class Broken(Squares):
    """Raises something that cannot be pickled."""

    def square(self, unit: list[int]) -> list[int]:
        class Local(Exception):  # noqa: N818
            pass

        raise Local(f"unit {unit}")


class Refusing(Squares):
    """Raises an error with a hint."""

    def square(self, unit: list[int]) -> list[int]:
        raise UsageError(f"unit {unit}", hint="another")


def squares(count: int) -> dict[int, list[int]]:
    return {k: [x * x for x in range(3 * k, 3 * k + 3)] for k in range(count)}


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_every_unit_is_done_once_whatever_the_number_of_workers(jobs: int) -> None:
    found = list(run_units(Squares(20), EngineConfig(jobs=jobs)))
    assert len(found) == 20
    assert dict(found) == squares(20)


def test_fresh_interpreters_do_the_same_as_forked_ones() -> None:
    assert dict(run_units(Fresh(5), TWO)) == squares(5)


def test_units_that_are_done_are_not_done_again() -> None:
    for jobs in (1, 2):
        assert set(dict(run_units(Squares(6), EngineConfig(jobs=jobs), done={0, 4}))) == {1, 2, 3, 5}
        assert list(run_units(Squares(2), EngineConfig(jobs=jobs), done={0, 1})) == []


def test_no_units_give_no_values() -> None:
    assert list(run_units(Squares(0), TWO)) == []


def test_the_driver_never_iterates_over_the_corpus(tmp_path: Path) -> None:
    marks = tmp_path / "passes"
    assert dict(run_units(Where(20, marks=marks), TWO)) == squares(20)
    passes = marks.read_text().split()
    assert len(passes) == 2
    assert str(os.getpid()) not in passes


def test_a_unit_whose_worker_is_killed_once_is_done_by_a_fresh_one(tmp_path: Path) -> None:
    work = Squares(20, poison=31, marks=tmp_path / "deaths", times=1)
    assert dict(run_units(work, TWO)) == squares(20)
    assert (tmp_path / "deaths").stat().st_size == 2


def test_what_kills_every_worker_is_found_in_its_unit_and_given_up_alone(tmp_path: Path) -> None:
    work = Squares(20, poison=31, marks=tmp_path / "deaths")
    assert dict(run_units(work, TWO)) == {**squares(20), 10: [900, -31, 1024]}
    assert (tmp_path / "deaths").stat().st_size == 4, "twice in its unit, twice alone"


def test_a_unit_that_cannot_be_cut_and_kills_its_workers_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="died on it, twice") as caught:
        dict(run_units(Whole(9, poison=4, marks=tmp_path / "deaths"), TWO))
    assert "--jobs" in str(caught.value.hint)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_workers_that_cannot_even_start_end_the_run(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Giving up item after item for it is no success: a lone worker would go on like that through the whole corpus."""
    monkeypatch.setattr("calib.run.engine.LocalCrew", lambda work, jobs: LocalCrew(work, min(jobs, size)))
    with pytest.raises(DataError, match=r"9 worker processes on end died \(ended with code 3\), whatever they did"):
        dict(run_units(Stillborn(100), EngineConfig(jobs=max(size, 2))))


def test_a_unit_of_which_every_item_kills_is_given_up_where_workers_have_worked() -> None:
    """Twelve deaths on end, and still a matter of the items."""
    assert dict(run_units(Murderous(4), TWO)) == {**squares(4), 2: [-6, -7, -8]}


def test_workers_do_not_run_ahead_of_whoever_takes_the_values(tmp_path: Path) -> None:
    marks = tmp_path / "done"
    values = run_units(Slow(300, marks=marks), TWO)
    for taken in range(1, 4):
        next(values)
        time.sleep(0.2)
        assert marks.stat().st_size <= taken + 2 * 2 + 2
    values.close()  # type: ignore[attr-defined]


def test_errors_reach_the_driver_with_their_hint_and_bugs_with_their_text() -> None:
    with pytest.raises(UsageError) as caught:
        list(run_units(Refusing(4), TWO))
    assert caught.value.hint == "another"
    with pytest.raises(RuntimeError, match="Local: unit"):
        list(run_units(Broken(4), TWO))


def test_no_process_is_left_when_the_values_are_no_longer_wanted(tmp_path: Path) -> None:
    values = run_units(Slow(300, marks=tmp_path / "done"), TWO)
    next(values)
    assert len(multiprocessing.active_children()) == 2
    values.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


def test_no_process_is_left_when_the_driver_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, os; sys.path.insert(0, 'tests/run')\n"
        "from test_work import *\n"
        f"for _ in run_units(Slow(10**6, marks=Path({str(tmp_path / 'done')!r})), TWO):\n"
        "    print(*[p.pid for p in multiprocessing.active_children()], flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as driver:
        assert driver.stdout is not None
        children = [int(pid) for pid in driver.stdout.readline().split()]
        driver.kill()
    assert len(children) == 2
    until = time.monotonic() + 5
    while any(alive(pid) for pid in children):
        assert time.monotonic() < until, "a worker outlives its driver"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


def test_another_engine_and_an_address_without_ray_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="must be one of local, ray"):
        EngineConfig("spark")
    with pytest.raises(UsageError, match="needs --engine ray"):
        EngineConfig(address="auto")


def test_ray_that_is_not_installed_is_a_usage_error_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="not installed") as caught:
        list(run_units(Squares(3), EngineConfig("ray")))
    assert caught.value.hint == 'pip install "mel-calib[ray]"'
