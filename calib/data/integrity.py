"""Is all of a recording there? What the containers promise, against the bytes that came.

libsndfile reads what there is and says nothing. WAV is checked where it is parsed (:mod:`calib.data.wav`); here are the
others. What cannot be seen: an MP3 without a Xing, Info or VBRI header that ends exactly between two frames, a FLAC or
AU stream of unstated length, and bytes altered in the middle of a file that still decode.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from typing import IO

__all__ = ["content_name", "least_frames", "misnamed", "shortfall"]

_TAIL = 1 << 17  # bytes; an Ogg page has at most 65,307
_LAST_OGG_PAGE = 4  # flag
_LONGEST_WALK = 1 << 30  # bytes of MP3 frames that are walked

# Which content a suffix promises.
_PROMISED = {
    ".wav": {"WAV", "RF64"}, ".rf64": {"WAV", "RF64"}, ".w64": {"W64"}, ".flac": {"FLAC"}, ".ogg": {"Ogg"}, ".opus": {"Ogg"}, ".mp3": {"MP3"},
    ".aiff": {"AIFF"}, ".aif": {"AIFF"}, ".aifc": {"AIFF"}, ".au": {"AU"}, ".caf": {"CAF"}, ".sph": {"NIST SPHERE"},
}  # fmt: skip


def content_name(head: bytes) -> str | None:
    """What the first bytes of a file are: ``WAV``, ``FLAC``, ``Ogg``, ``MP3``, ...; None if unknown."""
    for magic, name in (
        (b"fLaC", "FLAC"),
        (b"OggS", "Ogg"),
        (b"RF64", "RF64"),
        (b"riff\x2e\x91\xcf\x11", "W64"),
        (b".snd", "AU"),
        (b"caff", "CAF"),
        (b"NIST_1A", "NIST SPHERE"),
        (b"ID3", "MP3"),
    ):
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "WAV"
    if head[:4] == b"FORM" and head[8:12] in {b"AIFF", b"AIFC"}:
        return "AIFF"
    return "MP3" if _mp3_frame(head[:4]) is not None else None


def misnamed(name: str, content: str | None) -> str | None:
    """``FLAC data in a file named .wav``, or None if name and content agree or are unknown."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a name, not a file
    promised = _PROMISED.get(suffix)
    if content is None or promised is None or content in promised:
        return None
    return f"{content} data in a file named {suffix}"


def least_frames(content: str | None, file: IO[bytes], size: int) -> int | None:
    """Samples a channel that a decoder must find in an MP3 without a header; None for everything else.

    libsndfile guesses the length of such a file from its first frame, and stops there: half a file with a variable
    bit rate is lost without a word.
    """
    if content != "MP3":
        return None
    begin, end = _mp3_span(file, size)
    if _mp3_promise(file, begin, end) is not None or end - begin > _LONGEST_WALK:
        return None
    count = sum(samples for _, samples in _mp3_frames(file, begin, end))
    return max(0, count - 3 * 1152)  # a decoder may leave out its own delay


def shortfall(content: str | None, file: IO[bytes], size: int) -> str | None:
    """Why a recording is known to be cut short, or None.

    Args:
        content: as :func:`content_name` says.
        file: seekable.
        size: bytes.
    """
    check = _CHECKS.get(content or "")
    if check is None:
        return None
    try:
        return check(file, size)
    except (struct.error, ValueError, IndexError, OSError):
        return None  # the decoder says what is wrong with such a header


def _promised(missing: int) -> str | None:
    return f"its header promises {missing} more bytes of audio than the file has" if missing > 0 else None


def _ogg(file: IO[bytes], size: int) -> str | None:
    start = max(0, size - _TAIL)
    file.seek(start)
    tail = file.read(size - start)
    at = tail.rfind(b"OggS\0")
    if at < 0:
        return "its last bytes are no Ogg page"
    flags, count = tail[at + 5], tail[at + 26] if len(tail) > at + 26 else None
    table = tail[at + 27 : at + 27 + count] if count is not None else b""
    end = at + 27 + (count or 0) + sum(table)
    if count is None or len(table) < count or end > len(tail):
        return "its last Ogg page is not complete"
    if not flags & _LAST_OGG_PAGE:
        return "its last Ogg page is not marked as the end of the stream (a live recording that never was? ffmpeg -i IN -c copy OUT marks it)"
    return None


def _aiff(file: IO[bytes], size: int) -> str | None:
    file.seek(12)
    while len(header := file.read(8)) == 8:
        name, length = struct.unpack(">4sI", header)
        if name == b"SSND":
            return _promised(file.tell() + length - size)
        file.seek(length + length % 2, 1)
    return None


def _au(file: IO[bytes], size: int) -> str | None:
    file.seek(4)
    offset, length = struct.unpack(">II", file.read(8))
    return None if length == 0xFFFFFFFF else _promised(offset + length - size)


def _rf64(file: IO[bytes], size: int) -> str | None:
    file.seek(12)
    stated = 0
    while len(header := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", header)
        if name == b"ds64":
            stated = struct.unpack_from("<QQ", file.read(length))[1]
            continue
        if name == b"data":
            return _promised(file.tell() + (stated if length == 0xFFFFFFFF else length) - size)
        file.seek(length + length % 2, 1)
    return None


def _w64(file: IO[bytes], size: int) -> str | None:
    file.seek(16)
    return _promised(struct.unpack("<Q", file.read(8))[0] - size)


def _caf(file: IO[bytes], size: int) -> str | None:
    file.seek(8)
    while len(header := file.read(12)) == 12:
        name, length = struct.unpack(">4sq", header)
        if name == b"data":
            return None if length < 0 else _promised(file.tell() + length - size)
        file.seek(length, 1)
    return None


def _nist(file: IO[bytes], size: int) -> str | None:
    file.seek(0)
    head = file.read(1024).decode("ascii", "replace").splitlines()
    fields = {parts[0]: parts[2] for line in head[2:] if len(parts := line.split(None, 2)) == 3}
    if "pcm" not in fields.get("sample_coding", "pcm") or "embedded" in fields.get("sample_coding", ""):
        return None  # shorten and the like: the size says nothing
    width = int(fields["sample_count"]) * int(fields.get("channel_count", "1")) * int(fields.get("sample_n_bytes", "2"))
    return _promised(int(head[1]) + width - size)


# --- MP3 ---------------------------------------------------------------------------------------------------------------

_MP3_KBITS = {  # (MPEG 1, layer) or (MPEG 2 and 2.5, layer): ISO/IEC 11172-3 and 13818-3, by the index of the header
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_HERTZ = (44_100, 48_000, 32_000)


def _mp3_frame(header: bytes) -> tuple[int, int, bool] | None:
    """A frame header as (bytes of the frame, MPEG version 1 or 2, mono); None if it is none, or of free format."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    rate, speed = header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or layer == 4 or rate == 3 or speed in {0, 15}:
        return None
    mpeg = 1 if version == 3 else 2
    hertz = _MP3_HERTZ[rate] // {3: 1, 2: 2, 0: 4}[version]
    bits = _MP3_KBITS[mpeg, layer][speed] * 1000
    padding = header[2] >> 1 & 1
    if layer == 1:
        length = (12 * bits // hertz + padding) * 4
    else:
        length = (72 if layer == 3 and mpeg == 2 else 144) * bits // hertz + padding
    return length, mpeg, header[3] >> 6 == 3


def _mp3_span(file: IO[bytes], size: int) -> tuple[int, int]:
    """Where the frames begin and end: without ID3 and APE tags."""
    begin, end = 0, size
    file.seek(0)
    head = file.read(10)
    if head[:3] == b"ID3" and len(head) == 10:
        length = 0
        for byte in head[6:10]:
            length = length << 7 | byte & 0x7F
        begin = 10 + length + (10 if head[5] & 0x10 else 0)
    if size >= 128:
        file.seek(size - 128)
        if file.read(3) == b"TAG":
            end -= 128
    if end >= 32:
        file.seek(end - 32)
        foot = file.read(32)
        if foot[:8] == b"APETAGEX":
            end -= struct.unpack_from("<I", foot, 12)[0] + (32 if foot[23] & 0x80 else 0)
    return begin, end


def _mp3_promise(file: IO[bytes], begin: int, end: int) -> int | None:
    """Bytes of frames that a Xing, Info or VBRI header promises; 0: it states frames only; None: there is none."""
    file.seek(begin)
    head = file.read(min(256, max(0, end - begin)))
    frame = _mp3_frame(head[:4])
    if frame is None:
        return None
    _, mpeg, mono = frame
    at = 4 + ((17 if mono else 32) if mpeg == 1 else (9 if mono else 17))
    if head[at : at + 4] in {b"Xing", b"Info"}:
        flags = struct.unpack_from(">I", head, at + 4)[0]
        return struct.unpack_from(">I", head, at + 8 + 4 * (flags & 1))[0] if flags & 2 else 0
    if head[36:40] == b"VBRI":
        return int(struct.unpack_from(">I", head, 46)[0])
    return None


def _mp3(file: IO[bytes], size: int) -> str | None:
    begin, end = _mp3_span(file, size)
    promise = _mp3_promise(file, begin, end)
    if promise is not None:
        # Programs differ by the header's own frame.
        return _promised(promise - (end - begin)) if promise - (end - begin) > 1441 else None
    if end - begin > _LONGEST_WALK:
        return None
    missing = max((lacking for lacking, _ in _mp3_frames(file, begin, end)), default=0)
    return f"its last MP3 frame lacks {missing} bytes" if missing > 0 else None


def _mp3_frames(file: IO[bytes], begin: int, end: int) -> Iterator[tuple[int, int]]:
    """For each frame the bytes that it lacks (the last one may), and its samples a channel."""
    file.seek(begin)
    data = file.read(end - begin)
    at = 0
    while (frame := _mp3_frame(data[at : at + 4])) is not None:
        at += frame[0]
        layer = 4 - (data[at - frame[0] + 1] >> 1 & 3)
        yield at - len(data), 384 if layer == 1 else 576 if layer == 3 and frame[1] == 2 else 1152


_CHECKS: dict[str, Callable[[IO[bytes], int], str | None]] = {
    "Ogg": _ogg, "MP3": _mp3, "AIFF": _aiff, "AU": _au, "RF64": _rf64, "W64": _w64, "CAF": _caf, "NIST SPHERE": _nist,
}  # fmt: skip
