"""Coqui TTS: ``TTS.bin.compute_statistics`` (mel and linear, which it cannot do apart), with the list of files handed to it."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from outcome import FMAX, HOP, MELS, N_FFT, RATE, arguments, wavs, write
from TTS.bin import compute_statistics

corpus, out, _ = arguments()
files = wavs(corpus)
# Its --data_path takes pathlib paths where its loop wants texts; its readers of metadata hold part of it back.
compute_statistics.load_tts_samples = lambda _config: ([str(path) for path in files], [])
audio = {
    "fft_size": N_FFT, "win_length": N_FFT, "hop_length": HOP, "sample_rate": RATE, "num_mels": MELS, "mel_fmin": 0,
    "mel_fmax": FMAX, "do_trim_silence": False,
}  # fmt: skip
with tempfile.TemporaryDirectory() as folder:
    config, stats = Path(folder) / "config.json", Path(folder) / "stats.npy"
    config.write_text(json.dumps({"model": "glow_tts", "audio": audio}))
    sys.argv = sys.argv[:1]
    with contextlib.suppress(SystemExit):
        compute_statistics.main([str(config), str(stats)])
    found = np.load(stats, allow_pickle=True).item()
write(out, packages=("coqui-tts", "librosa", "numpy"), n_files=len(files), bin_mean=float(np.mean(found["mel_mean"])))
