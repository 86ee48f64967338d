"""Training with normalised mels, beside training with raw ones: the recipe of docs/training.md on the reference model.

The way of a user who has statistics: speech -> `calib stats` -> training with the normaliser in place -> raw mels out, with
nothing to calibrate. Beside it the same network, data, seed and steps on raw mels.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from calib.data.audio import write_wav
from calib.data.files import atomic_writer, ensure_writable
from calib.errors import DataError
from calib.mel.frontend import FrontEnd
from calib.models.reference.train import examples, save, train, training_speech
from calib.params import MelNormalizer

__all__ = ["NAME", "train_one", "write_speech"]

NAME = "model.safetensors"


def write_speech(folder: Path, minutes: float, seed: int, *, force: bool = False) -> int:
    """Write the training speech as an LJSpeech folder, for `calib stats`; returns how many utterances.

    Raises:
        UsageError: espeak-ng is not installed, or a file exists and ``force`` is false.
        DataError: the disk.
    """
    ensure_writable(folder / "metadata.csv", force=force)
    texts, speakers = [], []
    for count, (voice, text, speech) in enumerate(training_speech(minutes, seed)):
        name = f"{voice.name}_{count:05d}"
        write_wav(folder / "wavs" / f"{name}.wav", speech.samples, speech.sample_rate, force=force)
        texts.append(f"{name}|{text}|{text}\n")
        speakers.append(f"{name}|{voice.name}|{voice.language}\n")
    for name, lines in {"speakers.csv": speakers, "metadata.csv": texts}.items():
        with atomic_writer(folder / name, force=force) as file:
            file.write("".join(lines).encode())
    return len(texts)


def train_one(folder: Path, minutes: float, seed: int, steps: int, stats: Path | None, *, force: bool = False) -> Path:
    """Train one model with the normaliser of ``stats``, or (None) on raw mels; returns its checkpoint.

    Raises:
        ParamsError: the statistics cannot be used.
        DataError: they are of another front end than the model's.
        UsageError: the checkpoint exists and ``force`` is false, or espeak-ng is not installed.
    """
    path = folder / NAME
    ensure_writable(path, force=force)
    scale = (0.0, 1.0)
    if stats is not None:
        normalizer = MelNormalizer.load(stats)
        own = FrontEnd.load("hifigan").id
        if normalizer.frontend_id not in {None, own}:
            raise DataError(
                f"{stats} was measured with the front end {normalizer.frontend_id}; the reference model's is {own}",
                hint="calib stats SPEECH --frontend hifigan",
            )
        scale = normalizer.mel_mean, normalizer.mel_std
    data = examples(minutes, seed)
    started = time.monotonic()

    def on_step(step: int, loss: float, _: object) -> None:
        if step and (step % 50 == 0 or step == steps):  # before the first step there is no loss
            sys.stderr.write(f"\rstep {step}/{steps}, loss {loss:.4f}, {time.monotonic() - started:.0f} s ")
            sys.stderr.flush()

    network = train(data, seed=seed, steps=steps, scale=scale, on_step=on_step)
    sys.stderr.write("\n")
    facts = {
        "steps": steps,
        "total_steps": steps,
        "seed": seed,
        "minutes_of_speech": minutes,
        "trained_on": "raw mels" if stats is None else "normalised mels",
    }
    save(network, path, data, facts, force=force)
    return path
