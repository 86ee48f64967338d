"""espeak-ng through ctypes: pure, honest about what it cannot say, and unbreakable by text."""

from __future__ import annotations

import builtins
import itertools
import subprocess
import sys

import numpy as np
import pytest

from calib.errors import DataError, UsageError
from calib.models.reference import espeak

needs_espeak = pytest.mark.skipif(not espeak.available(), reason="espeakng_loader is not installed (the extra `demo`)")


@needs_espeak
def test_same_call_same_bytes_whatever_was_said_before():
    calls = [("The sea is calm.", "en-us"), ("Das Meer ist ruhig.", "de+m3"), ("دریا آرام است.", "fa+f2")]
    said: dict[str, set[bytes]] = {}
    for order in itertools.permutations(calls):
        for text, voice in order:
            said.setdefault(text, set()).add(espeak.synthesise(text, voice).samples.tobytes())
    assert [len(versions) for versions in said.values()] == [1, 1, 1]


@needs_espeak
def test_same_call_same_bytes_in_another_process():
    code = "from calib.models.reference.espeak import synthesise as s; import hashlib; print(hashlib.sha256(s('Good evening.', 'en-gb+f3').samples.tobytes()).hexdigest())"
    found = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(found) == 1


@needs_espeak
def test_it_is_reproducible_while_somebody_else_holds_the_library():
    import ctypes

    import espeakng_loader

    before = espeak.synthesise("Hold the line.", "en-us").samples
    held = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        runs = [espeak.synthesise("Hold the line.", "en-us").samples for _ in range(2)]
    finally:
        espeak._unload(held)
    assert all(np.array_equal(run, before) for run in runs)


@needs_espeak
def test_phonemes_cover_the_speech_without_gaps():
    speech = espeak.synthesise("She counted seven stars.", "en-us+f2")
    assert speech.sample_rate == 22050
    assert speech.samples.dtype == np.float32
    assert 0.05 < np.abs(speech.samples).max() <= 1.0
    assert speech.phonemes[0][1] == 0
    assert speech.phonemes[-1][2] == speech.samples.size
    assert all(end == start for (_, _, end), (_, start, _) in itertools.pairwise(speech.phonemes))
    assert all(end > start for _, start, end in speech.phonemes)


@needs_espeak
@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [("Hello.", "en-us", ["_", "h", "ə", "l", "ˈoʊ", "_"]), ("کتاب", "fa", ["_", "k", "ˈe", "t", "ɑ", "b", "_"])],
)
def test_phonemes_are_the_ipa_of_the_synthesis(text, language, expected):
    assert espeak.phonemes(text, language) == expected
    assert espeak.phonemes(text, language) == [symbol for symbol, _, _ in espeak.synthesise(text, language).phonemes]


@needs_espeak
def test_rate_pitch_voice_and_seed_each_change_the_sound():
    plain = espeak.synthesise("A long way home.", "en-us+f2")
    assert espeak.synthesise("A long way home.", "en-us+f2", rate=120).samples.size > 1.2 * plain.samples.size
    for change in (
        {"pitch": 80},
        {"pitch_range": 0},
        {"voice": "en-us+f3"},
        {"seed": 2},
    ):  # f2 is breathy: its noise is drawn
        other = espeak.synthesise(**{"text": "A long way home.", "voice": "en-us+f2", **change})
        assert other.samples.tobytes() != plain.samples.tobytes(), change


@needs_espeak
@pytest.mark.parametrize(
    "text",
    [
        "\0hello\0",
        "<speak><break time='999s'/>hello</speak>",
        "[[h@l'oU]] &amp; &#0;",
        "😀🔥",
        "a" * 10_000,
        "hello " * 1_667,
        "1" * 3_000,
        "%s%n" * 50,
        "سلام hello 你好",
        "\ud800 hello",
    ],
    ids=["nul", "ssml", "markup", "emoji", "long word", "long text", "long number", "format", "scripts", "surrogate"],
)
def test_hostile_text_is_spoken_and_neither_crashes_nor_hangs(text):
    speech = espeak.synthesise(text, "en-us")
    assert speech.samples.size > 1000
    assert speech.samples.size < 15e6  # a break of 999 seconds is text, not a command


@needs_espeak
@pytest.mark.parametrize("text", ["", "   ", "\n", "...", "\0", "\u200f", "\ud800"])
def test_nothing_to_say_is_an_error(text):
    with pytest.raises(DataError, match="nothing to say"):
        espeak.phonemes(text, "en")


@needs_espeak
def test_a_text_that_is_too_long_is_refused_at_once():
    with pytest.raises(DataError, match="100001 characters"):
        espeak.synthesise("a" * 100_001, "en")


@needs_espeak
@pytest.mark.parametrize(
    ("voice", "nearest"),
    [("enn", "en"), ("gn-gb", "en-gb"), ("en+f9", "f"), ("", "known"), ("../../etc", "known"), ("en+../../x", "known")],
)
def test_an_unknown_voice_names_the_nearest(voice, nearest):
    if voice == "gn-gb":  # gn is Guarani: regions fall back to their language
        assert espeak.phonemes("a", voice) == espeak.phonemes("a", "gn")
        return
    with pytest.raises(UsageError) as caught:
        espeak.synthesise("hello", voice)
    assert nearest in str(caught.value.hint)


@needs_espeak
@pytest.mark.parametrize("option", [{"rate": 0}, {"rate": 10_000}, {"pitch": -1}, {"pitch_range": 101}])
def test_numbers_out_of_range_are_refused(option):
    with pytest.raises(UsageError, match="is outside"):
        espeak.synthesise("hello", "en", **option)


def test_without_espeak_the_error_names_the_extra(monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == "espeakng_loader":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UsageError) as caught:
        espeak.synthesise("hello", "en")
    assert "mel-calib[demo]" in str(caught.value.hint)
    assert not espeak.available()
