"""Merging corpora: in any grouping and through any number of borders, the same bytes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.errors import DataError
from calib.mel.dataset import DatasetStatistics
from calib.mel.exact import Numerators
from calib.mel.statistics import UtteranceStatistics, measure

BINS = 3


def utterance(seed: int, scale: float, speaker: str | None) -> UtteranceStatistics:
    rng = np.random.default_rng(seed)
    mel = (scale * rng.standard_normal((rng.integers(1, 9), BINS))).astype(np.float32)
    return measure(mel, floor=-1.0, seconds=mel.shape[0] / 7, speaker=speaker)


UTTERANCES = st.builds(
    utterance,
    st.integers(0, 2**20),
    st.sampled_from([1e-3, 1.0, 30.0, 1e6, 1e30]),
    st.sampled_from([None, "", "ann", "bob \udcff"]),
)


def collected(utterances: list[UtteranceStatistics]) -> DatasetStatistics:
    out = DatasetStatistics(BINS)
    for one in utterances:
        out.add(one)
    return out


@settings(max_examples=60, deadline=None)
@given(st.lists(UTTERANCES, min_size=1, max_size=90), st.randoms(use_true_random=False))
def test_no_grouping_and_no_border_changes_a_byte(utterances: list[UtteranceStatistics], random: object) -> None:
    whole = collected(utterances)
    shuffled = list(utterances)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    chunks: list[DatasetStatistics] = []
    while shuffled:
        size = random.randint(1, 70)  # type: ignore[attr-defined]
        chunks.append(collected(shuffled[:size]))
        shuffled = shuffled[size:]
    while len(chunks) > 1:  # a random tree, over a border now and then
        one = chunks.pop(random.randrange(len(chunks)))  # type: ignore[attr-defined]
        other = chunks[random.randrange(len(chunks))]  # type: ignore[attr-defined]
        other.merge(DatasetStatistics.from_bytes(one.to_bytes()) if random.random() < 0.5 else one)  # type: ignore[attr-defined]
    assert chunks[0].to_bytes() == whole.to_bytes()
    assert DatasetStatistics.from_bytes(whole.to_bytes()).to_bytes() == whole.to_bytes()
    assert chunks[0].source_digest() == whole.source_digest()
    if len({float(v) for u in utterances for v in (*u.low, *u.high)}) > 1:
        assert chunks[0].result(floor=-1.0) == whole.result(floor=-1.0)
        assert chunks[0].result() == whole.result()


def test_reading_the_result_changes_nothing() -> None:
    utterances = [utterance(k, 1.0, "ann") for k in range(5)]
    read = collected(utterances[:3])
    read.result()
    read.to_bytes()
    for one in utterances[3:]:
        read.add(one)
    assert read.to_bytes() == collected(utterances).to_bytes()


def test_an_empty_corpus_has_bytes_and_adds_nothing() -> None:
    empty = DatasetStatistics.from_bytes(DatasetStatistics(BINS).to_bytes())
    whole = collected([utterance(1, 1.0, None)])
    empty.merge(whole)
    assert empty.to_bytes() == whole.to_bytes()
    whole.merge(DatasetStatistics(BINS))
    assert empty.to_bytes() == whole.to_bytes()


def test_other_bins_and_other_bytes_are_refused() -> None:
    with pytest.raises(DataError, match="a mel with 4 bins among mels with 3"):
        DatasetStatistics(3).merge(DatasetStatistics(4))
    with pytest.raises(DataError, match="not the bytes"):
        DatasetStatistics.from_bytes(b"calib/dataset-statistics/9\n")


def test_a_chunk_is_small() -> None:
    chunk = DatasetStatistics(80)
    rng = np.random.default_rng(0)
    for _ in range(8):
        mel = np.clip(rng.normal(-5, 2.1, (600, 80)), -11.5, 2).astype(np.float32)
        chunk.add(measure(mel, floor=-11.5, seconds=7.0))
    assert len(chunk.to_bytes()) < 10_000


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.lists(st.floats(-1e200, 1e200) | st.floats(-100, 100) | st.integers(-5, 5).map(lambda k: k * 2.0**-65), min_size=2, max_size=2),
        min_size=1,
        max_size=5,
    )
)  # fmt: skip
def test_each_number_is_rounded_once_and_then_all_is_exact(rows: list[list[float]]) -> None:
    found = Numerators(np.array(rows))
    want = [sum(round(Fraction(row[k]) * 2**64) for row in rows) for k in range(2)]
    assert found.total() == want
    assert found.total([0]) == [round(Fraction(value) * 2**64) for value in rows[0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_no_numerator(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Numerators(np.array([[1.0, bad]]))
