"""Sentences: nothing is lost, nothing is too long, and a full stop is not always an end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.speech.text import LONGEST_SENTENCE, other_script, split_sentences


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Dr. Jones left at 3.15 p.m. sharp. Why?", ["Dr. Jones left at 3.15 p.m. sharp.", "Why?"]),
        ("en", "It was 1990. Then it ended.", ["It was 1990.", "Then it ended."]),
        ("en", 'He said "Stop!" Then he left.', ['He said "Stop!"', "Then he left."]),
        ("de", "Am 3. Mai kam Hr. Abel, z. B. mit dem Rad. Er ging.", ["Am 3. Mai kam Hr. Abel, z. B. mit dem Rad.", "Er ging."]),
        ("fa", "سلام، حال شما چطور است؟ خوبم.", ["سلام، حال شما چطور است؟", "خوبم."]),
        ("ur", "یہ ایک جملہ ہے۔ یہ دوسرا ہے۔", ["یہ ایک جملہ ہے۔", "یہ دوسرا ہے۔"]),
        ("zh", "你好。今天好吗？很好！", ["你好。", "今天好吗？", "很好！"]),
        ("ja", "「はい。」そうです。", ["「はい。」", "そうです。"]),
        ("hi", "यह एक है।यह दो है।", ["यह एक है।", "यह दो है।"]),
        ("en", "one\ntwo\n\n three", ["one", "two", "three"]),
        ("en", " \n ", []),
    ],
)  # fmt: skip
def test_sentences_by_script(language: str, text: str, expected: list[str]) -> None:
    assert split_sentences(text, language) == expected


@given(st.text(), st.sampled_from(["en", "de", "zh-CN", "fa"]))
def test_nothing_but_space_is_lost_and_no_piece_is_too_long(text: str, language: str) -> None:
    pieces = split_sentences(text, language)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(0 < len(piece) <= LONGEST_SENTENCE for piece in pieces)


def test_long_sentences_are_cut_at_clauses_then_at_spaces() -> None:
    clauses = split_sentences("some words and more, " * 40)
    assert all(piece.endswith(",") for piece in clauses)
    assert len(clauses) > 2
    assert all(piece.startswith("word") and piece.endswith("word") for piece in split_sentences("word " * 200))
    letters = split_sentences("a\u0301" * 400)
    assert all(piece[0] == "a" for piece in letters)  # an accent stays with its letter


def test_a_text_in_another_script_is_noticed() -> None:
    assert other_script("سلام دنیا", "en") == "Arabic"
    assert other_script("你好", "en") == "Chinese"
    assert other_script("你好", "ja") is None
    assert other_script("سلام OK", "fa-IR") is None
    assert other_script("plain", "fa") is None
