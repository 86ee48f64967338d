"""The statistics files of the field's systems: what each is called, what it holds, where that was read."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True)
class Format:
    """One format.

    Args:
        name: on the command line, ``--export NAME`` and ``--stats NAME=FILE``.
        title: for people.
        filename: what its system calls the file; the default of ``--export``.
        source: repository@commit/file that it was read from.
        unit: the log unit that its system measures as a rule, or None where it differs from recipe to recipe.
        writable: whether ``calib stats --export`` writes it.
    """

    name: str
    title: str
    filename: str
    source: str
    unit: str | None = None
    writable: bool = True


_ALL = (
    Format("calib", "calib's own statistics", "mel_normalization_stats.json", "this project: calib/params.py", writable=False),
    Format("coqui", "Coqui TTS scale_stats.npy", "scale_stats.npy", "coqui-ai/TTS@dbf1a08/TTS/bin/compute_statistics.py, TTS/utils/audio/processor.py", "dB"),
    Format("pwg", "ParallelWaveGAN stats.h5", "stats.h5", "kan-bayashi/ParallelWaveGAN@8674037/parallel_wavegan/bin/compute_statistics.py", "log10"),
    Format("pwg-npy", "ParallelWaveGAN stats.npy", "stats.npy", "kan-bayashi/ParallelWaveGAN@8674037/parallel_wavegan/bin/compute_statistics.py", "log10"),
    Format("espnet", "ESPnet feats_stats.npz", "feats_stats.npz", "espnet/espnet@0bc48ac/espnet2/layers/global_mvn.py", "log10"),
    Format("espnet-npy", "CMVN sums in one [2, M+1] array (older ESPnet)", "feats_stats.npy", "espnet/espnet@1c1c566/espnet2/layers/global_mvn.py", "log10"),
    Format("espnet-checkpoint", "ESPnet checkpoint buffers normalize.mean and normalize.std", "", "espnet/espnet@0bc48ac/espnet2/layers/global_mvn.py", "log10", writable=False),
    Format("matcha", "Matcha-TTS data_statistics", "data_statistics.yaml", "shivammehta25/Matcha-TTS@108906c/matcha/utils/generate_data_statistics.py, configs/data/ljspeech.yaml", "ln"),
    Format("matcha-checkpoint", "Matcha-TTS checkpoint buffers mel_mean and mel_std", "", "shivammehta25/Matcha-TTS@108906c/matcha/models/baselightningmodule.py", "ln", writable=False),
    Format("fairseq", "fairseq gcmvn_stats.npz", "gcmvn_stats.npz", "facebookresearch/fairseq@05255f9/examples/speech_to_text/data_utils.py"),
    Format("kaldi", "Kaldi CMVN statistics", "cmvn.ark", "kaldi-asr/kaldi@10e9002/src/transform/cmvn.cc"),
    Format("kaldi-text", "Kaldi CMVN statistics as text", "cmvn.txt", "kaldi-asr/kaldi@10e9002/src/transform/cmvn.cc"),
    Format("transformers", "vocoder buffers mean and scale (transformers, ParallelWaveGAN)", "vocoder_stats.safetensors", "huggingface/transformers@095145f/src/transformers/models/speecht5/convert_hifigan.py", "log10"),
    Format("tortoise", "Tortoise and XTTS mel_norms", "mel_norms.pth", "neonbjb/tortoise-tts@8a2563e/tortoise/models/arch_util.py; coqui-ai/TTS@dbf1a08/TTS/tts/models/xtts.py", "ln"),
)  # fmt: skip

FORMATS = {item.name: item for item in _ALL}
