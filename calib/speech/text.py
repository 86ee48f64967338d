"""Texts to sentences that a model can say, in every script that ends sentences with a mark.

Conventions:
    Language codes are BCP 47 (``en``, ``pt-BR``); only the first part counts.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["LONGEST_SENTENCE", "other_script", "says_something", "split_sentences"]

LONGEST_SENTENCE = 300
"""Characters; longer ones are split at clauses, then at spaces."""

# A mark, what closes around it, then the gap. Full-width marks need none, and neither do Devanagari's and Ethiopic's.
_END = re.compile(r"(?P<mark>[.!?؟۔…]+)[\"'”’»)\]]*(?P<gap>\s+)|[。！？｡।॥።]+[」』”’）]*\s*|\n+")
_CLAUSE = re.compile(r"[,;:–—]\s|[،؛]\s?|[，、；：]")
# What ends with a full stop and goes on: titles, and what stands before a name or a number.
_GOES_ON = frozenset({
    "mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "vs", "nr", "fig", "vol", "pp", "ca", "bzw", "z.b", "d.h", "u.a", "usw", "evtl", "ggf", "hr", "fr", "e.g", "i.e", "cf", "al", "mme", "mlle", "av", "sra", "dra", "núm", "pág", "art", "tzv", "např", "tj", "itd",
})  # fmt: skip
# Languages that write "the 3rd" as "3.".
_ORDINAL_STOP = frozenset({
    "de", "da", "nb", "nn", "no", "fi", "cs", "sk", "hu", "pl", "sl", "hr", "bs", "sr", "et", "lv", "is", "fo", "tr", "eu",
})  # fmt: skip
_SPOKEN_MARKS = frozenset("#%&*@/\\")
_SCRIPTS = {
    "ARABIC": {"fa", "ar", "ur", "ps", "ku", "ckb", "sd", "ug"},
    "CYRILLIC": {"ru", "uk", "bg", "sr", "mk", "be", "kk", "ky", "tt", "ba", "cv", "mn"},
    "DEVANAGARI": {"hi", "mr", "ne", "kok", "sa"},
    "GREEK": {"el", "grc"},
    "HANGUL": {"ko"},
    "HEBREW": {"he", "yi"},
    "THAI": {"th"},
    "HIRAGANA": {"ja"},
    "KATAKANA": {"ja"},
    "CJK": {"zh", "cmn", "yue", "ja", "hak", "nan"},
}


def split_sentences(text: str, language: str = "en") -> list[str]:
    """Sentences by their closing marks, none longer than `LONGEST_SENTENCE` characters; nothing but space is lost.

    Args:
        text: in any script.
        language: decides whether a number with a full stop ends a sentence.

    Example:
        >>> split_sentences("Dr. No left. How are you? خوبی؟ بله. 你好。再见！")
        ['Dr. No left.', 'How are you?', 'خوبی؟', 'بله.', '你好。', '再见！']
    """
    out: list[str] = []
    start = 0
    for found in _END.finditer(text):
        if found["mark"] and not _ends(text, found, _base(language)):
            continue
        out += _pieces(text[start : found.end()])
        start = found.end()
    return out + _pieces(text[start:])


def says_something(sentence: str) -> bool:
    """Whether there is more than marks that nobody speaks: "..." between two sentences is a pause.

    Example:
        >>> says_something("..."), says_something("?!"), says_something("5 %"), says_something("你")
        (False, False, True, True)
    """
    return any(c.isalnum() or c in _SPOKEN_MARKS or unicodedata.category(c)[0] == "S" for c in sentence)


def _base(language: str) -> str:
    return language.lower().replace("_", "-").partition("-")[0]


def _ends(text: str, found: re.Match[str], language: str) -> bool:
    """Whether a mark with space behind it ends a sentence."""
    if found["mark"] != "." or "\n" in found["gap"]:
        return True
    word = text[: found.start()].rpartition(" ")[2].rpartition("\n")[2].lstrip("(\"'“„«[")
    if word.lower() in _GOES_ON or (len(word) == 1 and word.isalpha()):
        return False
    if language in _ORDINAL_STOP and word.isdecimal() and len(word) <= 2:
        return False
    following = text[found.end() : found.end() + 1]
    return not following.islower()


def _pieces(sentence: str) -> list[str]:
    """One sentence without superfluous space, in pieces that are short enough."""
    rest = " ".join(sentence.split())
    out = []
    while len(rest) > LONGEST_SENTENCE:
        cut = _cut(rest[: LONGEST_SENTENCE + 1])
        out.append(rest[:cut].strip())
        rest = rest[cut:].strip()
    return [piece for piece in (*out, rest) if piece]


def _cut(window: str) -> int:
    clauses = [found.end() for found in _CLAUSE.finditer(window) if len(window) // 4 < found.end() < len(window)]
    if clauses:
        return clauses[-1]
    space = window.rfind(" ")
    if space > 0:
        return space
    cut = len(window) - 1
    while cut > 1 and unicodedata.combining(window[cut]):  # a mark stays with its letter
        cut -= 1
    return cut


def other_script(text: str, language: str) -> str | None:
    """The script that most letters are in, where the language is not written in it; else None.

    Example:
        >>> other_script("سلام", "en"), other_script("سلام", "fa")
        ('Arabic', None)
    """
    letters = [unicodedata.name(c, "").partition(" ")[0] for c in text if c.isalpha()]
    for script, languages in _SCRIPTS.items():
        if letters and letters.count(script) > len(letters) / 2 and _base(language) not in languages:
            return script.title() if script != "CJK" else "Chinese"
    return None
