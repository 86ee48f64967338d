"""One function over a corpus: order, skipping, processes that die."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from calib.errors import DataError
from calib.run.engine import Outcome, Skipped, map_corpus, resolve_jobs
from calib.run.local import cores


def square(x: int) -> int:
    """Refuses multiples of 7; early items take longer, so that processes finish out of order."""
    if x % 7 == 3:
        raise DataError(f"{x} is no good", hint="another")
    time.sleep(0.02 if x < 4 else 0.0)
    return x * x


def deadly(x: int) -> int:
    """Kills its process at 20."""
    if x == 20:
        os._exit(9)
    return x


def broken(x: int) -> int:
    """A bug, which is no skipped item."""
    raise ZeroDivisionError(str(x))


def threads(_: int) -> list[int]:
    """Library threads allowed where this runs."""
    from threadpoolctl import threadpool_info

    return [pool["num_threads"] for pool in threadpool_info()]


def expected(n: int) -> list[Outcome[int, int]]:
    return [Outcome(x, None, f"{x} is no good") if x % 7 == 3 else Outcome(x, x * x) for x in range(n)]


def test_results_come_in_order_and_skipped_items_carry_their_reason() -> None:
    assert list(map_corpus(square, range(30), jobs=1)) == expected(30)


def test_two_processes_give_the_same_as_one() -> None:
    """More chunks than are in flight at once, so that order is kept across refills."""
    assert list(map_corpus(square, range(150), jobs=2)) == expected(150)


def test_an_item_that_kills_its_process_is_skipped_with_the_reason_and_the_others_are_done() -> None:
    out = {o.item: o for o in map_corpus(deadly, range(60), jobs=2)}
    lost = out[20]
    assert lost.value is None
    assert (
        lost.reason == "its worker process died on it, twice (ended with code 9: out of memory, or a bug in a library)"
    )
    assert list(out) == list(range(60))
    assert all(o.value == o.item for o in out.values() if o.item != 20)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_bug_in_the_function_is_not_swallowed(jobs: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(map_corpus(broken, range(3), jobs=jobs))


def test_every_process_uses_one_library_thread() -> None:
    for outcome in [*map_corpus(threads, range(2), jobs=1), *map_corpus(threads, range(2), jobs=2)]:
        assert outcome.value
        assert set(outcome.value) == {1}


def test_the_corpus_is_read_lazily() -> None:
    read = []

    def items() -> Iterator[int]:
        for x in range(1000):
            read.append(x)
            yield x

    results = map_corpus(square, items(), jobs=1)
    next(results)
    assert len(read) == 1
    results.close()  # type: ignore[attr-defined]


def test_an_empty_corpus_gives_nothing() -> None:
    assert list(map_corpus(square, [], jobs=2)) == []


def test_small_corpora_get_one_process_and_what_is_asked_for_is_given() -> None:
    assert resolve_jobs(None, 10) == 1
    assert resolve_jobs(None, 10**6) == cores()
    assert resolve_jobs(3, 10) == 3


def skipped(count: int, total: int, allowed: float = 1.0) -> Skipped:
    out = Skipped(allowed, total=total)
    for k in reversed(range(count)):
        out.add(f"u{k}", "torn" if k % 2 else "empty")
    return out


def test_up_to_the_allowed_share_may_be_skipped_and_not_one_more() -> None:
    skipped(0, 100).check()
    skipped(1, 100).check()
    skipped(2, 100, allowed=2.0).check()
    with pytest.raises(DataError, match=r"2 of 100 utterances \(2 %\)") as caught:
        skipped(2, 100).check()
    assert "u0: empty" in caught.value.message
    assert "--allow-skipped 3" in str(caught.value.hint)


def test_everything_skipped_is_an_error_whatever_is_allowed() -> None:
    with pytest.raises(DataError, match=r"no utterance could be used \(of 3\)"):
        skipped(3, 3, allowed=100.0).check()


def test_skipped_items_are_all_in_the_file_and_ten_on_the_screen_in_a_fixed_order() -> None:
    s = skipped(25, 100)
    assert s.count == 25
    assert list(s.provenance()) == ["empty", "torn"]
    assert s.provenance()["torn"] == sorted(s.provenance()["torn"])
    assert len(s.provenance()["empty"]) == 13
    lines = s.lines()
    assert lines[-1] == "... and 15 more"
    assert len(lines) == 11
