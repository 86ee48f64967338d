"""The corpora: 1,024 WAV files of 22,050 Hz (about 2 h), and the same twelve times over (about 24 h), as LJSpeech folders.

Real speech where it is there (24 LJSpeech clips, again and again), else the project's embedded corpus. The large corpus
holds hard links to the files of the small one: everybody reads it from the page cache.
"""

from __future__ import annotations

import hashlib
import os
import wave
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

__all__ = ["RATE", "build", "distinct", "seconds"]

RATE = 22050
FILES = 1024
LARGE = 12
_SHORTEST = 6.0  # s of a clip that is joined from the embedded corpus
_ROOT = Path(__file__).resolve().parents[2]


def build(work: Path, files: int = FILES, *, large: bool = True) -> tuple[Path, Path | None, str]:
    """Build what is not there yet.

    Args:
        work: folder for the corpora.
        files: of the small one.
        large: whether the large one is wanted.

    Returns:
        The small corpus, the large one or None, and what they are made of.
    """
    clips, what = _clips(work)
    small = work / ("corpus" if files == FILES else f"corpus_{files}")
    if len(list((small / "wavs").glob("*.wav"))) != files:
        _write(small, (clips[k % len(clips)].read_bytes() for k in range(files)))
    if not large:
        return small, None, what
    big = work / f"{small.name}_x{LARGE}"
    sources = sorted((small / "wavs").glob("*.wav"))
    if len(list((big / "wavs").glob("*.wav"))) != files * LARGE:
        _write(big, (source for _ in range(LARGE) for source in sources))
    return small, big, what


def _write(folder: Path, contents: Iterable[bytes | Path]) -> None:
    (folder / "wavs").mkdir(parents=True, exist_ok=True)
    names = []
    for index, content in enumerate(contents):
        names.append(f"u{index:05d}" if index >= FILES or isinstance(content, Path) else f"u{index:04d}")
        target = folder / "wavs" / f"{names[-1]}.wav"
        target.unlink(missing_ok=True)
        if isinstance(content, Path):
            target.hardlink_to(content)
        else:
            target.write_bytes(content)
    (folder / "metadata.csv").write_text("".join(f"{name}|text|text\n" for name in names), "utf-8")


def _clips(work: Path) -> tuple[list[Path], str]:
    for base in (_ROOT.parent / "shared", _ROOT / "shared"):
        found = sorted((base / "data" / "speech" / "en_ljspeech" / "wavs").glob("*.wav"))
        if found:
            return found, f"{len(found)} LJSpeech clips, repeated"
    return _embedded(work / "clips"), "the project's embedded corpus, joined and repeated"


def _embedded(folder: Path) -> list[Path]:
    """The embedded corpus as clips of some seconds, 16-bit WAV."""
    from calib.data.audio import read_audio, write_wav
    from calib.data.sources import open_source
    from calib.demo import CORPUS

    folder.mkdir(parents=True, exist_ok=True)
    parts: list[np.ndarray] = []
    out = []
    for item in open_source(str(CORPUS)):
        assert item.audio is not None
        parts.append(read_audio(item.audio, RATE).samples)
        if sum(len(part) for part in parts) >= _SHORTEST * RATE:
            out.append(folder / f"c{len(out):03d}.wav")
            write_wav(out[-1], np.concatenate(parts), RATE, force=True)
            parts = []
    return out


def seconds(corpus: Path) -> float:
    """Duration of all files, in s."""
    total = 0.0
    for entry in os.scandir(corpus / "wavs"):
        with wave.open(entry.path) as file:
            total += file.getnframes() / file.getframerate()
    return total


def distinct(corpus: Path) -> list[tuple[np.ndarray, int]]:
    """Samples (int16) of every different file, and how often the corpus has it."""
    counts: Counter[str] = Counter()
    first: dict[str, Path] = {}
    for path in sorted((corpus / "wavs").glob("*.wav")):
        name = hashlib.sha256(path.read_bytes()).hexdigest()
        counts[name] += 1
        first.setdefault(name, path)
    out = []
    for name, path in first.items():
        with wave.open(str(path)) as file:
            out.append((np.frombuffer(file.readframes(file.getnframes()), "<i2"), counts[name]))
    return out
