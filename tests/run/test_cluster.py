"""Ray's side of the engine, as far as it can be looked at without starting Ray (``tests/commands/test_stats_resume.py`` does)."""

from __future__ import annotations

import io
import pickle
import socket
import sys
import threading
from collections.abc import Callable

import pytest

from calib.errors import UsageError
from calib.run import cluster
from calib.run.cluster import Actor, RayCrew
from calib.run.worker import Finished, Task, Work


class Doubled(Work[int, int]):
    """Three numbers, doubled."""

    def about(self) -> dict[str, str]:
        return {"kernel": "avx2"}

    def units(self) -> list[int]:
        return [1, 2, 3]

    def start(self) -> Callable[[int], int]:
        return lambda unit: 2 * unit


@pytest.fixture
def crew() -> RayCrew:
    """Not connected; it knows what this process is."""
    out = RayCrew.__new__(RayCrew)
    out._here = Actor(pickle.dumps(Doubled())).about()
    return out


def test_an_actor_does_tasks_and_says_what_it_is() -> None:
    actor = Actor(pickle.dumps(Doubled()))
    assert actor.do(Task(2)) == Finished(Task(2), 6)
    assert actor.do(Task(0)) == Finished(Task(0), 2)
    assert actor.about()["kernel"] == "avx2"
    assert set(actor.about()) == {"calib", "calib's code", "numpy", "scipy", "Python", "the work", "kernel"}


def test_workers_that_are_the_same_are_let_in(crew: RayCrew) -> None:
    crew._check(dict(crew._here))


@pytest.mark.parametrize("name", ["calib", "calib's code", "numpy", "scipy", "Python", "kernel"])
def test_workers_of_another_version_are_refused_with_both(crew: RayCrew, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} 0.0.9 there, {crew._here[name]} here") as caught:
        crew._check(crew._here | {name: "0.0.9"})
    assert "same versions on every node" in str(caught.value.hint)


def test_work_that_another_version_cannot_read_is_a_difference_and_no_crash(crew: RayCrew) -> None:
    about = Actor(b"no pickle").about()
    with pytest.raises(UsageError, match="the work unreadable"):
        crew._check(about)


def test_only_the_own_thread_writes_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    cluster._keep_streams()
    print("result")  # noqa: T201
    thread = threading.Thread(target=print, args=("(raylet) something befell a worker",))
    thread.start()
    thread.join()
    sys.stderr.write("notice")
    cluster._give_streams_back()
    assert sys.stdout is out
    assert sys.stderr is err
    assert out.getvalue() == "result\n"
    assert err.getvalue() == "notice"


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens_is_said_at_once(scheme: str) -> None:
    """Ray itself asks for more than ten minutes, in silence."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}127.0.0.1:{server.getsockname()[1]}"
        cluster._knock(address)
    with pytest.raises(UsageError, match=f"no Ray at {address}: ") as caught:
        cluster._knock(address)
    assert "ray start" in str(caught.value.hint)


def test_the_engine_knocks_before_ray_does() -> None:
    pytest.importorskip("ray", reason="Ray is an extra")
    before = sys.stdout, sys.stderr
    with pytest.raises(UsageError, match=r"no Ray at 127\.0\.0\.1:1"):
        RayCrew(Doubled(), 1, "127.0.0.1:1")
    assert (sys.stdout, sys.stderr) == before
