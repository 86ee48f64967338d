"""How long a text can take to say: bounds that only a model which did not read it, or did not stop, breaks.

The fastest talkers keep up about 8 syllables a second (Pellegrino, Coupé and Marsico 2011: 5 to 8 on average in seven languages);
a Chinese character is one, a letter of an alphabet about a third of one. The bounds lie beyond what anybody speaks.
"""

from __future__ import annotations

import unicodedata

__all__ = ["longest_seconds", "pace_remarks", "shortest_seconds"]

_SHORTEST = {"CJK": 0.12, "HANGUL": 0.09, "HIRAGANA": 0.06, "KATAKANA": 0.06, "ETHIOPIC": 0.06}
"""Seconds a character; of all others 0.03."""
_LETTER = 0.03
_LONGEST = 0.6
_SPELT = 6.0  # a digit or a sign is read as a word
_SPARE = 4.0  # seconds of pauses and slow beginnings
_SHOWN = 40


def _spoken(text: str) -> list[str]:
    return [c for c in text if c.isalnum() or unicodedata.category(c)[0] == "S" or c in "#%&*@/\\"]


def shortest_seconds(text: str) -> float:
    """The least that a text can take, in s; 0 where nothing of it is spoken.

    Example:
        >>> shortest_seconds("Hello!"), shortest_seconds("你好"), shortest_seconds("!!!")
        (0.15, 0.24, 0.0)
    """
    return round(sum(_SHORTEST.get(unicodedata.name(c, "").partition(" ")[0], _LETTER) for c in _spoken(text)), 6)


def longest_seconds(text: str) -> float:
    """The most that a text can take, in s, pauses included."""
    return _SPARE + _LONGEST * sum(1.0 if c.isalpha() else _SPELT for c in _spoken(text))


def pace_remarks(text: str, seconds: float) -> list[str]:
    """What is implausible about audio of so many ``seconds`` for this text; a sentence each, none where it may be right."""
    shown = repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")
    count = len(_spoken(text))
    if not count:
        return [
            f"{shown} holds marks alone, which nobody speaks: what the {seconds:.2f} s of audio say is not in the text"
        ]
    if seconds < shortest_seconds(text):
        return [
            f"{seconds:.2f} s of audio for the {count} letters and signs of {shown}: nobody speaks so fast ({shortest_seconds(text):.2f} s is the least); does the model know these characters, and does it stop too early?"
        ]
    if seconds > longest_seconds(text):
        return [
            f"{seconds:.2f} s of audio for the {count} letters and signs of {shown}: nobody speaks so slowly ({longest_seconds(text):.2f} s is the most); did the model fail to stop? calib check model"
        ]
    return []
