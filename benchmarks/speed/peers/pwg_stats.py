"""ParallelWaveGAN: ``parallel_wavegan.bin.preprocess`` and then ``compute_statistics``, as its recipes do (one job, hdf5)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
from outcome import FMAX, HOP, MELS, N_FFT, RATE, arguments, wavs, write

corpus, out, _ = arguments()
CONFIG = f"""
sampling_rate: {RATE}
fft_size: {N_FFT}
hop_size: {HOP}
win_length: null
window: hann
num_mels: {MELS}
fmin: 0
fmax: {FMAX}
global_gain_scale: 1.0
trim_silence: false
format: hdf5
"""
with tempfile.TemporaryDirectory() as folder:
    config, dump = Path(folder) / "config.yaml", Path(folder) / "dump"
    config.write_text(CONFIG)
    common = ["--config", str(config), "--verbose", "0"]
    preprocess = ["--rootdir", str(corpus / "wavs"), "--dumpdir", str(dump)]
    statistics = ["--rootdir", str(dump), "--dumpdir", folder]
    for module, own in (("preprocess", preprocess), ("compute_statistics", statistics)):
        subprocess.run([sys.executable, "-m", f"parallel_wavegan.bin.{module}", *own, *common], check=True)
    with h5py.File(Path(folder) / "stats.h5") as file:
        mean = np.asarray(file["mean"])
write(out, packages=("parallel-wavegan", "librosa", "numpy"), n_files=len(wavs(corpus)), bin_mean=float(mean.mean()))
