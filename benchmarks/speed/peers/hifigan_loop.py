"""HiFi-GAN's ``mel_spectrogram`` and ``load_wav`` (as Matcha-TTS ships them) over the files, one after another."""

from __future__ import annotations

import numpy as np
import torch
from matcha.utils.audio import MAX_WAV_VALUE, load_wav, mel_spectrogram
from outcome import FMAX, HOP, MELS, N_FFT, RATE, arguments, wavs, write

corpus, out, _ = arguments()
count, total, squares = 0, 0.0, 0.0
files = wavs(corpus)
with torch.no_grad():
    for path in files:
        audio, _ = load_wav(path)
        samples = torch.FloatTensor(audio.astype(np.float32) / MAX_WAV_VALUE).unsqueeze(0)
        mel = mel_spectrogram(samples, N_FFT, MELS, RATE, HOP, N_FFT, 0, FMAX, center=False)
        count += mel.numel()
        total += float(mel.sum())
        squares += float((mel**2).sum())
mean = total / count
write(out, packages=("matcha-tts", "torch", "librosa"), n_files=len(files), mean=mean, std=(squares / count - mean**2) ** 0.5)  # fmt: skip
