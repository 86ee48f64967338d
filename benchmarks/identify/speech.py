"""Ten seconds of real speech at any sample rate.

``dev`` is LJSpeech, on which the identifier was developed; ``report`` is everything else. A clip is whole recordings of
one speaker, one after the other. Rates above a recording's own give band-limited audio: then nothing is above its
Nyquist frequency, which the identifier must notice; the German corpus (48 kHz) is there for high rates.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import soundfile
import soxr

__all__ = ["CORPORA", "available", "clip", "elsewhere"]

_ROOT = Path(__file__).resolve().parents[2]
CORPORA: dict[str, tuple[str, ...]] = {
    "dev": ("en_ljspeech",),
    "report": ("de_kerstin", "en_librivox_sonnet", "en_libritts_multi", "fa_virgool"),
}
SECONDS = 10.0


def _folder() -> Path | None:
    found = [base / "shared" / "data" / "speech" for base in (_ROOT.parent, _ROOT)]
    return next((path for path in found if path.is_dir()), None)


def available(which: str) -> tuple[str, ...]:
    """Corpora of ``dev`` or ``report`` that are on this machine."""
    folder = _folder()
    return () if folder is None else tuple(name for name in CORPORA[which] if (folder / name).is_dir())


@functools.cache
def _files(corpus: str) -> tuple[Path, ...]:
    folder = _folder()
    assert folder is not None
    return tuple(sorted(p for p in (folder / corpus).rglob("*") if p.suffix in {".wav", ".flac"}))


def elsewhere(corpus: str, number: int) -> int:
    """The number of a clip that begins with another recording: what statistics of other audio are taken from."""
    count = len(_files(corpus))
    return next(number + away for away in (5, 1, 2) if (3 * away) % count) if count > 1 else number


@functools.lru_cache(maxsize=64)
def clip(corpus: str, number: int, rate: int, seconds: float = SECONDS) -> np.ndarray:
    """Recordings from the ``number``-th on, up to ``seconds``; float32 ``(L,)`` at ``rate``, of 16-bit values."""
    files = _files(corpus)
    parts: list[np.ndarray] = []
    total, at, own = 0.0, number * 3, 0
    while total < seconds:
        samples, own = soundfile.read(files[at % len(files)], dtype="float32", always_2d=True)
        parts.append(samples[:, 0])
        total += len(samples) / own
        at += 1
    x = np.concatenate(parts)[: int(seconds * own)]
    if own != rate:
        x = np.asarray(soxr.resample(x, own, rate, quality="HQ"), np.float32)
    return (np.clip(np.rint(x * 32768.0), -32768, 32767) / 32768.0).astype(np.float32)
