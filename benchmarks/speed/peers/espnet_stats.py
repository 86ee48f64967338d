"""ESPnet: ``collect_stats`` over ESPnetDataset with LogMelFbank: what ``tts_train --collect_stats true`` runs, without the text."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import stand_in  # noqa: F401 - before ESPnet
import torch
from espnet2.main_funcs.collect_stats import collect_stats
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.collate_fn import CommonCollateFn
from espnet2.train.dataset import ESPnetDataset
from espnet2.tts.feats_extract.log_mel_fbank import LogMelFbank
from outcome import FMAX, HOP, MELS, N_FFT, RATE, arguments, wavs, write

BATCH = 20  # ESPnet's default


class Model(AbsESPnetModel):
    """The part of ESPnet's TTS model that collects features."""

    def __init__(self) -> None:
        super().__init__()
        self.extract = LogMelFbank(fs=RATE, n_fft=N_FFT, hop_length=HOP, n_mels=MELS, fmin=0, fmax=FMAX)

    def forward(self, **batch: torch.Tensor) -> Any:
        """Not called."""
        raise NotImplementedError

    def collect_feats(self, speech: torch.Tensor, speech_lengths: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        """As ESPnetTTSModel.collect_feats."""
        feats, lengths = self.extract(speech, speech_lengths)
        return {"feats": feats, "feats_lengths": lengths}


if __name__ == "__main__":
    corpus, out, _ = arguments()
    files = wavs(corpus)
    with tempfile.TemporaryDirectory() as folder:
        scp = Path(folder) / "wav.scp"
        scp.write_text("".join(f"{path.stem} {path}\n" for path in files))
        dataset = ESPnetDataset([(str(scp), "speech", "sound")])
        keys = [path.stem for path in files]
        loaders = [
            torch.utils.data.DataLoader(
                dataset,
                batch_sampler=[some[k : k + BATCH] for k in range(0, len(some), BATCH)],
                collate_fn=CommonCollateFn(float_pad_value=0.0, int_pad_value=0),
                num_workers=1,
            )
            for some in (keys, keys[:1])  # it wants a validation set as well: one file
        ]
        collect_stats(Model(), *loaders, Path(folder), 0, None, write_collected_feats=False)
        stats = np.load(Path(folder) / "train" / "feats_stats.npz")
        mean = stats["sum"] / stats["count"]
    write(out, packages=("espnet", "torch"), n_files=len(files), bin_mean=float(mean.mean()))
