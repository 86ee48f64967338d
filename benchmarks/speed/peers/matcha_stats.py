"""Matcha-TTS: ``generate_data_statistics``: its data module and its loop; text cleaning without a phonemiser.

Option: the number of workers (its configuration files say 20).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import stand_in  # noqa: F401 - before Matcha
from matcha.data.text_mel_datamodule import TextMelDataModule
from matcha.utils.generate_data_statistics import compute_data_statistics
from outcome import FMAX, HOP, MELS, N_FFT, RATE, arguments, wavs, write

if __name__ == "__main__":
    corpus, out, options = arguments()
    files = wavs(corpus)
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "list.txt"
        listing.write_text("".join(f"{path}|text\n" for path in files))
        module = TextMelDataModule(
            name="speed", train_filelist_path=str(listing), valid_filelist_path=str(listing), batch_size=256,
            num_workers=int(options[0]), pin_memory=False, cleaners=["basic_cleaners"], add_blank=True, n_spks=1,
            n_fft=N_FFT, n_feats=MELS, sample_rate=RATE, hop_length=HOP, win_length=N_FFT, f_min=0, f_max=FMAX,
            data_statistics=None, seed=1234, load_durations=False,
        )  # fmt: skip
        module.setup()
        found = compute_data_statistics(module.train_dataloader(), MELS)
    write(out, packages=("matcha-tts", "torch", "lightning"), n_files=len(files), mean=found["mel_mean"], std=found["mel_std"])  # fmt: skip
