"""How fast mels are made, beside librosa on the same audio in the same run. One command: ``make bench``.

Both read the same WAV files (soundfile), make the same hifigan mel and sum it by bin, on one thread each; the rounds
alternate, so that a noisy machine is noisy for both. The result with versions lands in ``front_end.json``.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROUNDS = 5
FILES, SECONDS, RATE = 32, 6.0, 22050


def corpus(folder: Path) -> list[Path]:
    """Speech-like audio: shaped noise with pauses; the speed does not depend on what is said."""
    import soundfile as sf

    rng = np.random.default_rng(0)
    paths = []
    for number in range(FILES):
        noise = np.convolve(rng.standard_normal(int(SECONDS * RATE)), np.hanning(9), mode="same")
        envelope = np.abs(np.sin(np.arange(noise.size) / 4000.0 + number))
        path = folder / f"{number:03d}.wav"
        sf.write(path, (0.05 * noise * envelope).astype(np.float32), RATE, subtype="PCM_16")
        paths.append(path)
    return paths


def with_calib(paths: list[Path]) -> float:
    """All of calib's statistics; returns the mean."""
    from calib.data.audio import read_audio
    from calib.mel.dataset import DatasetStatistics
    from calib.mel.frontend import FrontEnd
    from calib.mel.statistics import measure

    frontend = FrontEnd.load("hifigan")
    total = DatasetStatistics(frontend.n_mels)
    for path in paths:
        total.add(measure(frontend.mel(read_audio(path, RATE).samples), floor=frontend.floor))
    return float(total.result()["mel_mean"])


def with_librosa(paths: list[Path]) -> float:
    """A soundfile and librosa loop that sums by bin; returns the mean."""
    import librosa
    import soundfile as sf

    bank = librosa.filters.mel(sr=RATE, n_fft=1024, n_mels=80, fmin=0, fmax=8000)
    sums, count = np.zeros(80), 0
    for path in paths:
        samples, _ = sf.read(path, dtype="float32")
        spectrum = librosa.stft(np.pad(samples, 384, mode="reflect"), n_fft=1024, hop_length=256, center=False)
        mel = np.log(np.maximum(bank @ np.sqrt(np.abs(spectrum) ** 2 + 1e-9), 1e-5))
        sums += mel.sum(axis=1, dtype=np.float64)
        count += mel.shape[1]
    return float(sums.sum() / count / 80)


def main() -> None:
    """Alternate the two, keep the best of each, write the result."""
    from threadpoolctl import threadpool_limits

    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        paths = corpus(Path(folder))
        programs = {"calib": with_calib, "librosa": with_librosa}
        means = {name: program(paths) for name, program in programs.items()}  # also warms caches and imports
        times: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(ROUNDS):
            for name, program in programs.items():
                started = time.perf_counter()
                program(paths)
                times[name].append(time.perf_counter() - started)
    audio = FILES * SECONDS
    best = {name: audio / min(values) for name, values in times.items()}
    result = {
        "what": "WAV -> hifigan mel -> mean (calib: all of its statistics), multiples of real time, one thread, best of 5 alternating rounds",
        "times_real_time": {name: round(value) for name, value in best.items()},
        "ratio_to_librosa": round(best["calib"] / best["librosa"], 2),
        "means": means,
        "versions": {name: version(name) for name in ("numpy", "scipy", "librosa", "soundfile")}
        | {"python": platform.python_version(), "machine": platform.machine()},
    }
    (HERE / "front_end.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
