"""The demo corpus: an LJSpeech folder of espeak speech, made from the sentences that are never trained on.

``python -m calib.models.reference.corpus [--out DIR] [--force]`` writes::

    metadata.csv    id|text|text
    speakers.csv    id|speaker|language
    wavs/ID.flac    22,050 Hz, 16 bit, mono
    README.md       how it was made, and its licence
    SHA256SUMS      of all of these

The same versions of espeak-ng and libsndfile give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calib.data.files import atomic_writer
from calib.errors import CalibError, DataError, UsageError
from calib.models.protocol import Utterance
from calib.models.reference import espeak
from calib.models.reference.sentences import HELD_OUT

__all__ = ["DEFAULT_FOLDER", "SPEAKERS", "Item", "Speaker", "items", "main", "utterances", "with_hiss", "write_corpus"]

HISS = 3e-4
"""Standard deviation of the noise under the speech: -70 dB of full scale, a quiet room."""
DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "demo" / "corpus"


@dataclass(frozen=True)
class Speaker:
    """A voice of the demo.

    Args:
        name: as in ``speakers.csv``.
        language: code, as in ``speakers.csv``; also what its text is read as.
        voice: espeak-ng voice and variant.
        rate: words per minute.
        pitch: 0 to 100.
    """

    name: str
    language: str
    voice: str
    rate: int
    pitch: int


SPEAKERS = (
    Speaker("anna", "en", "en-us+f2", 165, 55),
    Speaker("ben", "en", "en-us+m3", 160, 40),
    Speaker("clive", "en-gb", "en-gb+m7", 170, 45),
    Speaker("dora", "de", "de+f2", 160, 60),
    Speaker("emil", "de", "de+m3", 165, 35),
    Speaker("farid", "fa", "fa+m1", 150, 45),
    Speaker("golnar", "fa", "fa+f3", 155, 55),
    Speaker("hugo", "fr", "fr+m4", 165, 45),
    Speaker("ines", "es", "es+f4", 165, 50),
    Speaker("luca", "it", "it+m2", 160, 50),
)


@dataclass(frozen=True)
class Item:
    """One utterance of the demo corpus: its id, who says what."""

    id: str
    speaker: Speaker
    text: str

    def speech(self) -> espeak.Speech:
        """Synthesise it.

        Raises:
            UsageError: espeak-ng is not installed.
        """
        speaker = self.speaker
        speech = espeak.synthesise(self.text, speaker.voice, rate=speaker.rate, pitch=speaker.pitch)
        return replace(speech, samples=with_hiss(speech.samples, self.id))


def with_hiss(samples: np.ndarray, key: str) -> np.ndarray:
    """Samples ``(L,)`` with faint white noise that ``key`` determines.

    Espeak's pauses are digital silence, which no recording is: 2 % of the mel's cells would lie at the floor of the
    logarithm, far below the rest, and hold a quarter of any model's squared error.
    """
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    noise = (np.random.default_rng(seed).random(samples.size) - 0.5) * (HISS * 12**0.5)
    return np.asarray(np.clip(samples + noise.astype(np.float32), -1.0, 1.0 - 2.0**-15), np.float32)


def items() -> Iterator[Item]:
    """The utterances, in the order of ``metadata.csv``: a language's sentences go round its speakers."""
    for language, sentences in HELD_OUT.items():
        speakers = [speaker for speaker in SPEAKERS if speaker.language.partition("-")[0] == language]
        for index, text in enumerate(sentences):
            speaker = speakers[index % len(speakers)]
            yield Item(f"{speaker.name}_{language}_{index:02d}", speaker, text)


def utterances(folder: Path = DEFAULT_FOLDER) -> list[Utterance]:
    """The corpus as it lies on disk, with mels of the front end ``hifigan``.

    Raises:
        DataError: the folder holds no such corpus.
    """
    import soundfile

    from calib.mel.frontend import FrontEnd

    frontend = FrontEnd.load("hifigan")
    found = []
    try:
        speakers = [line.split("|") for line in (folder / "speakers.csv").read_text("utf-8").splitlines()]
        texts = dict(line.split("|")[:2] for line in (folder / "metadata.csv").read_text("utf-8").splitlines())
        for name, speaker, language in speakers:
            path = folder / "wavs" / f"{name}.flac"
            samples, _ = soundfile.read(path, dtype="float32")
            found.append(Utterance(name, frontend.mel(samples), texts[name], speaker, language, path))
    except (OSError, ValueError, KeyError, soundfile.LibsndfileError) as error:
        raise DataError(
            f"{folder} does not hold the demo corpus: {error}", hint="python -m calib.models.reference.corpus"
        ) from None
    return found


def write_corpus(folder: Path, *, force: bool = False) -> dict[str, str]:
    """Write the corpus and return its checksums by relative path.

    Raises:
        UsageError: espeak-ng is not installed, or a file exists and ``force`` is false.
        DataError: the disk.
    """
    chosen = list(items())
    files: dict[str, bytes] = {}
    seconds = 0.0
    for item in chosen:
        speech = item.speech()
        seconds += speech.samples.size / speech.sample_rate
        files[f"wavs/{item.id}.flac"] = _flac(speech.samples, speech.sample_rate)
    files["metadata.csv"] = "".join(f"{item.id}|{item.text}|{item.text}\n" for item in chosen).encode()
    files["speakers.csv"] = "".join(
        f"{item.id}|{item.speaker.name}|{item.speaker.language}\n" for item in chosen
    ).encode()
    files["README.md"] = _readme(chosen, seconds).encode()
    sums = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    files["SHA256SUMS"] = "".join(f"{value}  {name}\n" for name, value in sums.items()).encode()
    for name, data in files.items():
        with atomic_writer(folder / name, force=force) as file:
            file.write(data)
    return sums


def _flac(samples: np.ndarray, sample_rate: int) -> bytes:
    import soundfile

    integers = np.round(samples * np.float32(32768.0)).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, integers, sample_rate, format="FLAC", subtype="PCM_16", compression_level=1.0)
    return buffer.getvalue()


def _readme(chosen: Sequence[Item], seconds: float) -> str:
    import soundfile

    rows = "".join(f"| {s.name} | {s.language} | `{s.voice}` | {s.rate} | {s.pitch} |\n" for s in SPEAKERS)
    return f"""# The demo corpus

{len(chosen)} held-out utterances, {seconds:.0f} seconds, of synthetic speech: the sentences of
`calib/models/reference/sentences.py`, spoken by espeak-ng 1.52 (from the wheel `espeakng-loader`). None of the
sentences is in the training set of the reference model; the voices are. White noise at -70 dB of full scale lies under
the speech, because digital silence is at the floor of the logarithm and no recording is.

    python -m calib.models.reference.corpus --force

makes it again, to the byte with {soundfile.__libsndfile_version__} (`sha256sum -c SHA256SUMS`).

| speaker | language | espeak voice | words per minute | pitch |
|---|---|---|---|---|
{rows}
The sentences were written for calib and are under its licence (Apache-2.0). espeak-ng is GPL-3.0; that licence covers
the program, not the sound that it makes, and no part of the program is in this folder.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m calib.models.reference.corpus", description="Write the demo corpus."
    )
    parser.add_argument("-o", "--out", type=Path, default=DEFAULT_FOLDER, help="folder to write (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    options = parser.parse_args(argv)
    try:
        if (options.out / "SHA256SUMS").exists() and not options.force:
            raise UsageError(
                f"{options.out} holds a corpus and is not overwritten", hint="give --force, or another --out"
            )
        sums = write_corpus(options.out, force=options.force)
    except CalibError as error:
        sys.stderr.write(f"{error.message}\n" + (f"  {error.hint}\n" if error.hint else ""))
        return error.exit_code
    size = sum((options.out / name).stat().st_size for name in sums)
    sys.stdout.write(f"{options.out}: {len(sums)} files, {size / 1e6:.2f} MB\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
