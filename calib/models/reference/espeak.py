"""espeak-ng, bound with ctypes: text to speech and to the phonemes, with times, that the speech was made from.

Conventions:
    Samples are float32 mono in ``[-1, 1]`` at 22,050 Hz. Phonemes are espeak's IPA names with their stress mark
    (``ˈeɪ``, ``ɹ``); :data:`PAUSE` stands for silence. Times are in samples, half open, and cover the speech whole.

A call is a pure function of its arguments. espeak keeps state between utterances (its random numbers, the flutter of
the pitch, the phase of the voice source) that neither ``espeak_Terminate`` nor a new seed resets, so that the second
call would not give the bytes of the first. Each call therefore loads the library, seeds it right after Initialize and
unloads it again: 5 ms on a laptop, and its static memory starts from the file once more.

Source: ``espeak-ng/speak_lib.h`` and ``espeak_ng.h`` of espeak-ng 1.52 (GPL-3.0; used as a separate library).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from calib.errors import DataError, UsageError, nearest

__all__ = [
    "MAX_CHARACTERS",
    "PAUSE",
    "SAMPLE_RATE",
    "Speech",
    "available",
    "languages",
    "phonemes",
    "synthesise",
    "variants",
]

SAMPLE_RATE = 22050
PAUSE = "_"
MAX_CHARACTERS = 100_000
"""Longer texts are refused: ten hours of speech in one array are a mistake, not a sentence."""

_SYNCHRONOUS, _UTF8 = 2, 1
_PHONEME_EVENTS, _PHONEME_IPA, _DONT_EXIT = 0x1, 0x2, 0x8000
_EVENT_END_OF_LIST, _EVENT_PHONEME = 0, 7
_RATE, _PITCH, _RANGE = 1, 3, 4
_LOCK = threading.RLock()


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Speech:
    """What espeak said.

    Args:
        samples: ``(L,)`` float32 in ``[-1, 1]``.
        sample_rate: in Hz.
        phonemes: ``(symbol, start, end)`` in samples, in order, without gaps, none of zero length.
    """

    samples: np.ndarray
    sample_rate: int
    phonemes: list[tuple[str, int, int]]


def available() -> bool:
    """Whether espeak-ng is installed (the ``demo`` extra)."""
    try:
        _loader()
    except UsageError:
        return False
    return True


def languages() -> list[str]:
    """Language codes that espeak-ng can speak, lower case, sorted.

    Raises:
        UsageError: espeak-ng is not installed.
    """
    return sorted(_voices())


def variants() -> list[str]:
    """Voice variants (``f2``, ``m3``, ...) that follow a ``+`` in a voice name, sorted.

    Raises:
        UsageError: espeak-ng is not installed.
    """
    folder = Path(_loader().get_data_path()) / "voices" / "!v"
    return sorted(path.name for path in folder.iterdir())


def synthesise(
    text: str, voice: str, *, rate: int = 175, pitch: int = 50, pitch_range: int = 50, seed: int = 1
) -> Speech:
    """Speak ``text``. The same arguments give the same bytes, whatever was said before.

    Args:
        text: plain text; markup is read as text, not obeyed. At most :data:`MAX_CHARACTERS` characters.
        voice: language code and, after a ``+``, a variant: ``"en-us"``, ``"de+m3"``, ``"fa+f2"``.
        rate: words per minute, 80 to 450.
        pitch: 0 to 100.
        pitch_range: 0 (monotone) to 100.
        seed: of espeak's own random numbers.

    Raises:
        UsageError: espeak-ng is not installed, or the voice is unknown, or a number is out of its range.
        DataError: there is nothing to say, the text is too long, or espeak failed.
    """
    for name, value, low, high in (
        ("rate", rate, 80, 450),
        ("pitch", pitch, 0, 100),
        ("pitch_range", pitch_range, 0, 100),
    ):
        if not low <= value <= high:
            raise UsageError(f"{name} {value} is outside {low} to {high}")
    if len(text) > MAX_CHARACTERS:
        raise DataError(
            f"a text of {len(text)} characters is too long (at most {MAX_CHARACTERS})", hint="split it into sentences"
        )
    identifier = _identifier(voice)
    chunks: list[bytes] = []
    events: list[tuple[int, str]] = []

    def receive(wave: Any, count: int, event: Any) -> int:
        index = 0
        while event[index].type != _EVENT_END_OF_LIST:
            if event[index].type == _EVENT_PHONEME:
                raw = ctypes.string_at(ctypes.addressof(event[index]) + _Event.id.offset, 8)
                # Eight bytes without a guaranteed end: a longer name may be cut within a character.
                events.append((event[index].sample, raw.split(b"\0")[0].decode("utf-8", "ignore")))
            index += 1
        if wave and count > 0:
            chunks.append(ctypes.string_at(wave, 2 * count))
        return 0

    callback = _Callback(receive)
    data = text.replace("\0", " ").encode("utf-8", "replace") + b"\0"
    with _library() as library:
        library.espeak_SetSynthCallback(callback)
        library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        if library.espeak_SetVoiceByName(identifier.encode()) != 0:
            raise DataError(f"espeak-ng could not load the voice {voice!r} ({identifier})")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            library.espeak_SetParameter(parameter, value, 0)
        status = library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 0, 0, _UTF8, None, None)
    if status != 0:
        raise DataError(f"espeak-ng failed with status {status} on {text[:60]!r}")
    samples = np.frombuffer(b"".join(chunks), dtype="<i2").astype(np.float32) / np.float32(32768.0)
    segments = _segments(events, samples.size)
    if all(symbol == PAUSE for symbol, _, _ in segments):
        raise DataError(f"nothing to say: the text {text[:60]!r} has no phonemes in {voice}")
    return Speech(samples, SAMPLE_RATE, segments)


def phonemes(text: str, language: str) -> list[str]:
    """The phonemes of ``text``, by the same path as :func:`synthesise`: what training saw, inference sees.

    Args:
        text: as in :func:`synthesise`.
        language: a code that espeak-ng knows; ``fa-IR`` is read as ``fa`` where it has no voice of its own.

    Raises:
        UsageError: espeak-ng is not installed, or does not know the language.
        DataError: there is nothing to say, or the text is too long.

    Example:
        >>> phonemes("Hello.", "en-us")
        ['_', 'h', 'ə', 'l', 'ˈoʊ', '_']
    """
    return list(_phonemes(text, language))


@lru_cache(maxsize=4096)
def _phonemes(text: str, language: str) -> tuple[str, ...]:
    return tuple(symbol for symbol, _, _ in synthesise(text, language).phonemes)


def _segments(events: list[tuple[int, str]], length: int) -> list[tuple[str, int, int]]:
    """Phoneme events to segments that cover ``[0, length)``; adjacent pauses become one."""
    starts = [(0, ""), *sorted(events, key=lambda event: event[0])]
    found: list[tuple[str, int, int]] = []
    for index, (start, name) in enumerate(starts):
        end = min(starts[index + 1][0], length) if index + 1 < len(starts) else length
        if end <= start:
            continue
        symbol = name.strip().strip("-") or PAUSE  # espeak marks some French and German vowels with a trailing hyphen
        if found and symbol == PAUSE == found[-1][0]:
            found[-1] = (PAUSE, found[-1][1], end)
        else:
            found.append((symbol, start, end))
    return found


def _identifier(voice: str) -> str:
    """``de+m3`` to espeak's own ``gmw/de+m3``: espeak finds variants reliably only behind the file's name."""
    language, _, variant = voice.partition("+")
    known = _voices()
    code = language.lower().replace("_", "-")
    found = known.get(code) or known.get(code.partition("-")[0])
    if found is None:
        raise UsageError(f"espeak-ng has no voice for the language {language!r}", hint=nearest(code, known))
    if variant and variant not in variants():
        raise UsageError(
            f"espeak-ng has no voice variant {variant!r} (in {voice!r})", hint=nearest(variant, variants())
        )
    return f"{found}+{variant}" if variant else found


@lru_cache(maxsize=1)
def _voices() -> dict[str, str]:
    """Language code to voice file; where several voices speak a language, the one that espeak prefers."""
    best: dict[str, tuple[int, str]] = {}
    with _library() as library:
        library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        entries = library.espeak_ListVoices(None)
        index = 0
        while entries[index]:
            voice = entries[index].contents
            index += 1
            identifier = voice.identifier.decode("utf-8", "replace")
            for priority, code in _codes(voice.languages):
                candidate = (priority, identifier)
                best[code] = min(best.get(code, candidate), candidate)
    return {code: identifier for code, (_, identifier) in best.items()}


def _codes(address: int) -> Iterator[tuple[int, str]]:
    """Read espeak's list of languages: a priority byte and a zero-terminated code each, ended by priority 0."""
    while address:
        priority = ctypes.string_at(address, 1)[0]
        if priority == 0:
            return
        code = ctypes.string_at(address + 1)
        yield priority, code.decode("utf-8", "replace").lower()
        address += len(code) + 2


def _loader() -> Any:
    try:
        import espeakng_loader
    except ImportError:
        raise UsageError("espeak-ng is not installed, and text needs it", hint="pip install mel-calib[demo]") from None
    return espeakng_loader


@contextlib.contextmanager
def _library() -> Iterator[ctypes.CDLL]:
    """A freshly loaded, initialised espeak, unloaded at the end. One at a time: its state is global."""
    loader = _loader()
    with _LOCK:
        try:
            library = ctypes.CDLL(_library_path(loader.get_library_path()))
        except OSError as error:
            raise UsageError(
                f"espeak-ng cannot be loaded: {error}", hint="pip install --force-reinstall espeakng-loader"
            ) from None
        try:
            options = _PHONEME_EVENTS | _PHONEME_IPA | _DONT_EXIT
            if library.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(loader.get_data_path()), options) != SAMPLE_RATE:
                raise DataError(f"espeak-ng could not be initialised with {loader.get_data_path()}")
            try:
                yield library
            finally:
                library.espeak_Terminate()
        finally:
            _unload(library)


def _library_path(path: str) -> str:
    """The wheel's library, or a private copy of it when somebody else in this process holds that one loaded."""
    no_load = getattr(os, "RTLD_NOLOAD", None)
    if no_load is None:
        return path
    try:
        held = ctypes.CDLL(path, mode=no_load)
    except OSError:
        return path
    _unload(held)
    return _private_copy(path)


@lru_cache(maxsize=1)
def _private_copy(path: str) -> str:
    import atexit

    folder = tempfile.mkdtemp(prefix="calib-espeak-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(shutil.copy(path, folder))


def _unload(library: ctypes.CDLL) -> None:
    import _ctypes

    release = getattr(_ctypes, "FreeLibrary" if sys.platform == "win32" else "dlclose")
    release(library._handle)  # noqa: SLF001 - ctypes offers no other way to close a library
