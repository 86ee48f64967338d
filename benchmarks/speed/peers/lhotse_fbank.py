"""lhotse: ``CutSet.compute_global_feature_stats`` with Fbank computed on the fly."""

from __future__ import annotations

import numpy as np
from lhotse import CutSet, Fbank, FbankConfig, RecordingSet
from outcome import MELS, RATE, arguments, wavs, write

corpus, out, _ = arguments()
recordings = RecordingSet.from_dir(corpus / "wavs", "*.wav")
cuts = CutSet.from_manifests(recordings=recordings)
found = cuts.compute_global_feature_stats(extractor=Fbank(FbankConfig(sampling_rate=RATE, num_filters=MELS)))
write(out, packages=("lhotse", "torch"), n_files=len(wavs(corpus)), bin_mean=float(np.mean(found["norm_means"])))
