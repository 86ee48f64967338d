"""Comparing runs: the best where there is one, "cannot be told apart" where not, and no ranking of what differs."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pages
import pytest
import twins as made

from calib.diagnose.paired import paired_differences
from calib.errors import DataError, UsageError
from calib.report.compare import Comparison, compare
from calib.report.compare_page import build_comparison
from calib.report.runs import Run


def comparison(*twins: dict[str, Any], labels: list[str] | None = None) -> Comparison:
    names = labels or [f"step-{1000 * k}" for k in range(1, len(twins) + 1)]
    return compare([Run.of(twin, name) for name, twin in zip(names, twins, strict=True)], "a training")


# --- the paired bootstrap -----------------------------------------------------------------------------------------


def test_runs_that_differ_by_chance_alone_are_told_apart_about_as_often_as_promised() -> None:
    """At 95 % one in twenty; 150 trials of 12 utterances, so at most 9 %."""
    rng = np.random.default_rng(5)
    found = 0
    for seed in range(150):
        n, hard = rng.integers(100, 900, 12).astype(float), rng.gamma(9, 0.05, 12)
        noise = 0.02 * rng.standard_normal(12)
        (difference,) = paired_differences(n, [hard], [hard + noise], seed=seed)
        found += difference.told_apart
    assert found / 150 <= 0.09


def test_pairing_sees_what_the_spread_of_utterances_would_hide() -> None:
    hard = made.base()
    n = np.full(made.COUNT, 300.0)
    noise = 0.002 * np.random.default_rng(1).standard_normal(made.COUNT)
    (difference,) = paired_differences(n, [hard], [hard + 0.01 + noise])
    assert hard.std() > 0.1
    assert difference.told_apart
    assert difference.low is not None
    assert difference.high is not None
    assert difference.low < 0.01 < difference.high


def test_the_difference_is_weighted_by_frames_and_undefined_utterances_are_left_out() -> None:
    n = np.array([100.0, 300.0, 100.0, 100.0, 100.0, 100.0])
    first, second = np.zeros(6), np.array([1.0, 2.0, 1.0, 1.5, 1.0, np.nan])
    (difference,) = paired_differences(n, [first], [second])
    assert difference.value == pytest.approx((100 + 600 + 100 + 150 + 100) / 700)
    assert difference.utterances == 5


def test_few_utterances_one_utterance_and_equal_runs_have_an_answer() -> None:
    (few,) = paired_differences(np.ones(4), [np.zeros(4)], [np.arange(4.0)])
    assert not few.told_apart
    assert few.skipped is not None
    assert "5 are needed" in few.skipped
    (same,) = paired_differences(np.ones(9), [np.arange(9.0)], [np.arange(9.0)])
    assert (same.value, same.low, same.high, same.told_apart) == (0.0, 0.0, 0.0, False)
    (nothing,) = paired_differences(np.ones(3), [np.full(3, np.nan)], [np.zeros(3)])
    assert nothing.skipped is not None


def test_one_utterance_that_holds_the_whole_difference_proves_nothing() -> None:
    second = np.zeros(10)
    second[3] = 5.0
    (difference,) = paired_differences(np.ones(10), [np.zeros(10)], [second])
    assert not difference.told_apart


def test_many_comparisons_are_held_together() -> None:
    n, a = np.ones(20), made.base()[:20]
    assert [d.level for d in paired_differences(n, [a] * 5, [a + 1] * 5)] == [pytest.approx(0.99)] * 5


# --- which is best ------------------------------------------------------------------------------------------------


def test_a_run_that_is_better_on_every_utterance_is_the_best() -> None:
    hard = made.base()
    c = comparison(made.healthy(hard), made.healthy(hard * 0.8), made.healthy(hard * 0.9))
    assert c.best.label == "step-2000"
    assert c.best.tied == ()
    assert c.best.sentence.startswith("Best: step-2000")
    assert all("worse" in reason for reason in c.best.reasons)


def test_runs_within_the_noise_cannot_be_told_apart() -> None:
    hard, rng = made.base(), np.random.default_rng(2)
    c = comparison(*[made.healthy(hard + 0.01 * rng.standard_normal(made.COUNT)) for _ in range(3)])
    assert c.best.label is not None
    assert len(c.best.tied) == 2
    assert "Cannot be told apart" in c.best.sentence
    assert {moved.reading for change in c.changes for moved in change.moved if moved.figure == "mae_used"} == {"none"}


def test_a_refused_run_is_never_the_best_however_small_its_error() -> None:
    hard = made.base()
    c = comparison(made.healthy(hard), made.healthy(hard * 0.5, writes=False, state="no-signal", headline="NOTHING"))
    assert c.best.label == "step-1000"
    assert c.best.left_out[0][0] == "step-2000"
    assert "NOTHING" in c.best.left_out[0][1]
    alone = comparison(*[made.healthy(hard, writes=False, state="collapsed")] * 2)
    assert alone.best.label is None
    assert alone.status == "fail"


def test_the_livelier_run_is_named_where_error_prefers_the_blurred_one() -> None:
    hard = made.base()
    blurred, lively = made.healthy(hard * 0.9), made.healthy(hard)
    blurred["diagnosis"]["global_variance"]["after"]["corpus"] = -0.9
    c = comparison(blurred, lively)
    assert c.best.label == "step-1000"
    assert "step-2000 is livelier" in c.best.cautions[0]


def test_samplers_are_ranked_by_correlation_and_mixed_kinds_not_at_all() -> None:
    hard = made.base()
    first, second = made.healthy(hard * 0.8, 0.90), made.healthy(hard, 0.96)
    for twin in (first, second):
        twin["diagnosis"].update(kind="sample", sample_like=True)
    c = comparison(first, second)
    assert (c.best.criterion, c.best.label) == ("r_w", "step-2000")
    second["diagnosis"].update(kind="mean", sample_like=False)
    mixed = comparison(first, second)
    assert mixed.best.label is None
    assert "blur" in mixed.best.sentence


# --- what may not be compared ---------------------------------------------------------------------------------------


def _unit(twin: dict[str, Any]) -> None:
    twin["unit"] = "dB"


def _bins(twin: dict[str, Any]) -> None:
    twin["diagnosis"]["n_mels"] = 100
    for key in ("target_mean", "target_sd"):
        twin["diagnosis"]["per_bin"][key] = [1.0] * 100


def _front_end(twin: dict[str, Any]) -> None:
    twin["provenance"]["frontend"] = "tacotron2_nv"


def _utterance(twin: dict[str, Any]) -> None:
    twin["diagnosis"]["utterances"].pop()


def _length(twin: dict[str, Any]) -> None:
    twin["diagnosis"]["utterances"][3]["n_frames"] += 9


def _targets(twin: dict[str, Any]) -> None:
    twin["diagnosis"]["per_bin"]["target_mean"][5] += 0.1


@pytest.mark.parametrize(
    ("change", "said"),
    [(_unit, "the unit is"), (_bins, "number of mel bins"), (_front_end, "the front end is"), (_utterance, "utterances are not the same: 23 in both"), (_length, "has"), (_targets, "targets are not the same")],
)  # fmt: skip
def test_runs_on_something_else_are_not_ranked_and_it_is_said_why(change: Any, said: str) -> None:
    first, second = made.healthy(made.base()), made.healthy(made.base() * 0.5)
    first["provenance"]["frontend"] = second["provenance"]["frontend"] = "hifigan_jik"
    change(second)
    report = build_comparison([Run.of(first, "a"), Run.of(second, "b")], "x")
    c = report.comparison
    assert c.best.label is None
    assert c.best.sentence.startswith("No ranking")
    assert any(said in text for text in c.differences)
    assert report.twin["comparable"] is False
    assert all(change.moved == () and change.skipped for change in c.changes)
    assert "These runs may not be compared" in report.html
    assert "<svg" not in report.html  # not on one axis


def test_padding_cut_off_differently_is_not_another_set_of_targets() -> None:
    first, second = made.healthy(made.base()), made.healthy(made.base() * 0.5)
    second["diagnosis"]["utterances"][3]["n_frames"] += 2
    second["diagnosis"]["per_bin"]["target_mean"][5] += 1e-4
    assert comparison(first, second).differences == ()


def test_a_run_that_could_not_be_judged_is_left_aside_and_said() -> None:
    c = comparison(made.twin("invalid"), made.healthy(made.base()), made.healthy(made.base() * 0.5))
    assert c.best.label == "step-3000"
    assert any("step-1000 could not be judged" in text for text in c.remarks)
    assert c.changes[0].skipped == "step-1000 could not be judged"


def test_the_same_pairs_twice_and_other_versions_are_remarked() -> None:
    first, second = made.healthy(made.base()), made.healthy(made.base())
    for twin, version in ((first, "0.1.0"), (second, "0.2.0")):
        twin["provenance"].update(source_digest="abcd", version=version)
    c = comparison(first, second)
    assert any("same pairs, to the byte" in text for text in c.remarks)
    assert any("0.1.0, 0.2.0" in text for text in c.remarks)


@pytest.mark.parametrize(
    "broken",
    [None, [], {"schema": "calib/report/2"}, {"schema": "calib/report/1"}, {"schema": "calib/report/1", "diagnosis": {"verdict": 1}}, {"schema": "calib/diagnosis/1"}],
)  # fmt: skip
def test_what_is_no_report_is_an_error_with_its_name(broken: Any) -> None:
    with pytest.raises(DataError, match="step-9"):
        Run.of(broken, "step-9")


def test_one_run_two_of_a_name_and_links_into_the_network_are_refused() -> None:
    one = made.healthy(made.base())
    with pytest.raises(UsageError, match="two or more"):
        comparison(one)
    with pytest.raises(UsageError, match="two runs are called"):
        comparison(one, one, labels=["a", "a"])
    for link in ("https://x/y", "/etc/passwd", "javascript:alert(1)"):
        with pytest.raises(UsageError, match="relative"):
            build_comparison([Run.of(one, "a", link), Run.of(one, "b")], "x")


# --- what changed -----------------------------------------------------------------------------------------------


def test_states_and_findings_that_came_and_went_are_named() -> None:
    c = comparison(made.twin("fixable"), made.twin("healthy"))
    assert c.changes[0].state == ("fixable", "healthy")
    gone = {f["title"] for f in made.twin("fixable")["diagnosis"]["faults"]} - {
        f["title"] for f in made.twin("healthy")["diagnosis"]["faults"]
    }
    assert set(c.changes[0].went) == gone


def test_a_figure_without_an_interval_is_not_judged() -> None:
    first, second = made.healthy(made.base()), made.healthy(made.base() * 0.5)
    del second["diagnosis"]["intervals"]["s_w_ratio"]
    moved = {m.figure: m for m in comparison(first, second).changes[0].moved}
    assert moved["s_w_ratio"].reading == "not judged"
    assert moved["mae_used"].reading == "better"
    assert moved["gv_ratio"].reading == "none"


# --- the page ---------------------------------------------------------------------------------------------------


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def _many(count: int = 12) -> list[Run]:
    hard = made.base()
    return [
        Run.of(made.healthy(hard * (1 - 0.03 * k)), f"step-{500 * k}", f"step-{500 * k}/report.html")
        for k in range(1, count + 1)
    ]


def test_the_page_asks_for_nothing_runs_nothing_and_is_small() -> None:
    report = build_comparison(_many(), "a training")
    page = _Page(report.html)
    assert not [tag for tag, _ in page.tags if tag in {"script", "link", "iframe", "object", "base", "form"}]
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href"):
            value = attributes.get(name) or ""
            assert not value.startswith(("http:", "https:", "//")), value
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "script-src" not in policy
    assert len(report.html) < 200_000
    assert "step-3000/report.html" in report.html


def test_the_same_input_gives_the_same_bytes() -> None:
    first, second = (build_comparison(_many(3), "t") for _ in range(2))
    assert first.html == second.html
    assert json.dumps(first.twin) == json.dumps(second.twin)


def test_hostile_names_and_texts_are_text() -> None:
    first, second = (
        made.healthy(made.base()),
        made.healthy(made.base() * 0.5, sentence=pages.HOSTILE, headline=pages.HOSTILE),
    )
    second["title"] = pages.HOSTILE
    report = build_comparison([Run.of(first, "x" * 10_000), Run.of(second, pages.HOSTILE)], pages.HOSTILE)
    tags = {tag for tag, _ in _Page(report.html).tags}
    assert not tags & {"script", "img"}
    for hidden in "\u202e\u2066\x00\x1b":
        assert hidden not in report.html
    assert "x" * 500 not in report.html
    report.html.encode()
    json.dumps(report.twin, allow_nan=False).encode()


def test_runs_with_steps_in_their_names_stand_at_those_steps() -> None:
    steps = [Run.of(made.healthy(made.base() * f), f"ckpt_{s}.pt") for s, f in ((100, 1.0), (200, 0.9), (10_000, 0.8))]
    assert "step, the number in the run" in build_comparison(steps, "x").html
    other = [Run.of(made.healthy(made.base() * f), s) for s, f in (("before", 1.0), ("after 2", 0.9))]
    assert "step, the number in the run" not in build_comparison(other, "x").html


def test_its_own_style_is_small() -> None:
    from calib.report import compare_page

    assert (compare_page._FOLDER / "compare.css").stat().st_size <= 2048


def test_numbers_are_finite_in_the_twin() -> None:
    twin = made.healthy(made.base())
    twin["diagnosis"]["summary"]["r_w"] = None  # as a report writes what is not defined
    twin["diagnosis"]["utterances"][0]["r_w"] = None
    out = build_comparison([Run.of(twin, "a"), Run.of(made.healthy(made.base()), "b")], "x").twin
    json.dumps(out, allow_nan=False)
    assert out["runs"][0]["figures"]["r_w"] is None
    assert math.isfinite(out["runs"][1]["figures"]["r_w"])


JUNK = (None, "x", -1, 1e308, 10**400, float("nan"), [], {}, [[]], True)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document; of long lists the first only."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    return [path, *(found for key, item in items for found in _paths(item, (*path, key)))]


def test_no_broken_report_crashes_a_comparison() -> None:
    """Whatever stands wherever in a report: it is named as broken, or compared; nothing else happens."""
    whole = made.healthy(made.base())
    places = [
        path
        for path in _paths(whole)
        if path and path[0] in {"diagnosis", "unit", "hop_seconds", "provenance", "title"}
    ]
    rng = np.random.default_rng(0)
    named: list[str] = []
    for path in (places[k] for k in rng.permutation(len(places))[:120]):
        junk = JUNK[int(rng.integers(len(JUNK)))]
        broken = made.healthy(made.base())
        here = broken
        for key in path[:-1]:
            here = here[key]
        here[path[-1]] = junk
        try:
            json.dumps(compare([Run.of(whole, "good"), Run.of(broken, "bad")], "x").to_json(), allow_nan=False)
        except DataError as error:
            named.append(error.message)
        except Exception as error:  # noqa: BLE001 - named for the reader
            pytest.fail(f"{path} = {junk!r}: {type(error).__name__}: {error}")
    assert len(named) > 3
    assert all(message.startswith("bad: ") for message in named)
