"""Corpora: real speech cut into utterances of 1.5 to 5 seconds, and their mels in any front end, kept in memory.

Which corpus is for what, fixed before anything was tuned:

- ``dev``: ``lj`` (LJSpeech, one English speaker), ``lj_varied`` (the same clips as of sixteen speakers, rooms and
  microphones, see `varied`), ``demo_a`` (half of the speakers of the embedded corpus), and ``lj_narrow`` (the same clips as
  of six speakers at 8 kHz), a stress test that is drawn as seldom as ``fsdd`` is;
- ``report``: ``kerstin`` (one German speaker), ``multi`` (LibriTTS, AISHELL-3, VirgoolInformal, LibriVox: three
  languages, a dozen speakers), ``demo_b`` (the other half), and ``fsdd``, digits recorded at 8 kHz, a stress test whose
  upper bins hold nothing and which is reported by itself.

Where ``shared/data/speech`` is not there, only the demo corpora are, and `available` says so.

Conventions:
    Samples are float32 ``(L,)`` at 22,050 Hz; mels are float32 ``(T, M)``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.diagnosis.varied import RATE, readings
from calib.data.audio import read_audio
from calib.demo import CORPUS
from calib.mel.frontend import FrontEnd

__all__ = ["CORPORA", "FSDD", "RATE", "STRESS", "Corpus", "Piece", "Statistics", "available", "hifigan", "load", "mel"]

FSDD = "fsdd"
STRESS = (FSDD, "lj_narrow")  # recorded at 8 kHz
CORPORA: dict[str, tuple[str, ...]] = {
    "dev": ("lj", "lj_varied", "demo_a", "lj_narrow"),
    "report": ("kerstin", "multi", "demo_b", FSDD),
}
_VOICES = {"lj_varied": (16, 2), "lj_narrow": (6, 1)}  # pseudo-speakers, and how many of them read each clip
_FOLDERS: dict[str, tuple[str, ...]] = {
    "lj": ("en_ljspeech",),
    "lj_varied": ("en_ljspeech",),
    "lj_narrow": ("en_ljspeech",),
    "kerstin": ("de_kerstin",),
    "multi": ("en_libritts_multi", "zh_aishell3_multi", "fa_virgool", "en_librivox_sonnet"),
    FSDD: ("en_fsdd_digits",),
}
_SHORTEST, _LONGEST = 2.5, 4.0  # s, of a piece that is cut from a longer clip
_WHOLE = 5.0  # s; a clip up to this stays whole
_LEAST = 1.5  # s; a shorter rest is left out
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Piece:
    """One utterance.

    Args:
        corpus: its corpus.
        id: unique in the corpus.
        speaker: who speaks.
        samples: ``(L,)`` at `RATE`.
    """

    corpus: str
    id: str
    speaker: str
    samples: np.ndarray


@dataclass(frozen=True)
class Corpus:
    """Utterances of one corpus, in a fixed order."""

    name: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Statistics:
    """Mean and sd of many mels, over everything and of each bin ``(M,)``."""

    mean: float
    std: float
    bin_mean: np.ndarray
    bin_std: np.ndarray

    @classmethod
    def of(cls, mels: list[np.ndarray]) -> Statistics:
        """Over all frames of ``mels``, ``(T, M)`` each."""
        everything = np.concatenate(mels).astype(np.float64)
        return cls(float(everything.mean()), float(everything.std()), everything.mean(0), everything.std(0) + 1e-6)


def _speech() -> Path | None:
    """``shared/data/speech``, beside or inside the project."""
    found = [base / "shared" / "data" / "speech" for base in (_ROOT.parent, _ROOT)]
    return next((path for path in found if path.is_dir()), None)


def available(which: str) -> tuple[str, ...]:
    """Corpora of ``dev`` or ``report`` that are on this machine."""
    real = _speech() is not None
    return tuple(name for name in CORPORA[which] if real or name.startswith("demo"))


@functools.cache
def hifigan() -> FrontEnd:
    """The front end of every target unless a fault says otherwise."""
    return FrontEnd.load("hifigan")


@functools.cache
def load(name: str) -> Corpus:
    """A corpus by name.

    Raises:
        FileNotFoundError: its data is not on this machine.
    """
    if name in {"demo_a", "demo_b"}:
        speakers = _table(CORPUS / "speakers.csv", 1)
        half = sorted(set(speakers.values()))[0 if name == "demo_a" else 1 :: 2]
        files = [
            (key, CORPUS / "wavs" / f"{key}.flac", speaker) for key, speaker in speakers.items() if speaker in half
        ]
    else:
        base = _speech()
        if base is None:
            raise FileNotFoundError(f"corpus {name!r} needs shared/data/speech beside the project")
        files = []
        for folder in _FOLDERS[name]:
            path = base / folder / "speakers.csv"
            speakers = _table(path, 1) if path.is_file() else {}
            files += [(f.stem, f, speakers.get(f.stem, folder)) for f in sorted((base / folder / "wavs").iterdir())]
    read = [(key, read_audio(path, RATE).samples, speaker) for key, path, speaker in files]
    if name in _VOICES:
        read = list(readings(read, *_VOICES[name], narrow=name == "lj_narrow"))
    return Corpus(name, tuple(_joined(name, read) if name == FSDD else _cut(name, read)))


def _table(path: Path, column: int) -> Mapping[str, str]:
    rows = (line.split("|") for line in path.read_text("utf-8-sig").splitlines() if line)
    return {row[0]: row[column] for row in rows}


def _cut(corpus: str, clips: list[tuple[str, np.ndarray, str]]) -> list[Piece]:
    """Pieces of the clips, cut where it is quiet; the demo corpus stays whole, because its model read it whole."""
    rng = np.random.default_rng(20_000)
    pieces = []
    for key, samples, speaker in clips:
        edges = [0]
        while not corpus.startswith("demo") and samples.size - edges[-1] > _WHOLE * RATE:
            edges.append(_quiet(samples, edges[-1] + int(rng.uniform(_SHORTEST, _LONGEST) * RATE)))
        edges.append(samples.size)
        for number, (start, stop) in enumerate(itertools.pairwise(edges)):
            if stop - start >= _LEAST * RATE or corpus.startswith("demo"):
                pieces.append(Piece(corpus, f"{key}#{number}", speaker, samples[start:stop]))
    return pieces


def _joined(corpus: str, clips: list[tuple[str, np.ndarray, str]]) -> list[Piece]:
    """Digits of one speaker, one after the other, into pieces of about three seconds."""
    pieces = []
    for speaker in sorted({speaker for _, _, speaker in clips}):
        run = np.concatenate([samples for _, samples, who in clips if who == speaker])
        for number, part in enumerate(np.array_split(run, max(1, run.size // (3 * RATE)))):
            pieces.append(Piece(corpus, f"{speaker}#{number}", speaker, part))
    return pieces


def _quiet(samples: np.ndarray, near: int, reach: float = 0.25, block: int = 441) -> int:
    """The quietest 20 ms within ``reach`` seconds of ``near``."""
    low = max(near - int(reach * RATE), 0)
    blocks = samples[low : near + int(reach * RATE)]
    blocks = blocks[: blocks.size // block * block].reshape(-1, block)
    return low + block * int(np.square(blocks).sum(1).argmin()) + block // 2


_MELS: dict[tuple[str, str, str], np.ndarray] = {}


def mel(piece: Piece, frontend: FrontEnd) -> np.ndarray:
    """The piece's mel in a front end, float32 ``(T, M)``, read-only, computed once a process."""
    key = (piece.corpus, piece.id, frontend.id)
    if key not in _MELS:
        made = frontend.mel(piece.samples)
        made.setflags(write=False)
        _MELS[key] = made
    return _MELS[key]
