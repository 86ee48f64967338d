"""What most people write: soundfile, ``librosa.stft``, the mel matrix, a logarithm, sums. HiFi-GAN's padding."""

from __future__ import annotations

import librosa
import numpy as np
import soundfile
from outcome import FMAX, HOP, MELS, N_FFT, RATE, arguments, wavs, write

corpus, out, _ = arguments()
bank = librosa.filters.mel(sr=RATE, n_fft=N_FFT, n_mels=MELS, fmin=0, fmax=FMAX)
pad = (N_FFT - HOP) // 2
count, total, squares = 0, np.zeros(MELS), np.zeros(MELS)
files = wavs(corpus)
for path in files:
    samples, _ = soundfile.read(path, dtype="float32")
    padded = np.pad(samples, pad, mode="reflect")
    spectrum = np.abs(librosa.stft(padded, n_fft=N_FFT, hop_length=HOP, center=False))
    mel = np.log(np.maximum(bank @ spectrum, 1e-5))
    count += mel.size
    total += mel.sum(axis=1, dtype=np.float64)
    squares += (mel.astype(np.float64) ** 2).sum(axis=1)
mean = total.sum() / count
write(out, packages=("librosa", "soundfile", "numpy"), n_files=len(files), mean=mean, std=np.sqrt(squares.sum() / count - mean**2))  # fmt: skip
