"""A small NeMo FastPitch of random weights, to see the whole line run before a real checkpoint is at hand.

    python examples/nemo_fastpitch.py fastpitch      (in an environment with nemo_toolkit[tts]: an unpacked .nemo)
    calib new-adapter nemo -o my_nemo.py
    calib teacher-force HELDOUT --model my_nemo.py:factory --checkpoint fastpitch --model-python /path/to/nemo/venv -o pairs

A .nemo file of your own is a tar: mkdir fastpitch && tar -xf FILE.nemo -C fastpitch.
"""

# ruff: noqa: ANN001, ANN201, D103, INP001

import sys
import tarfile
import tempfile
from pathlib import Path

WIDTH = 64


def configuration():
    """As NeMo's fastpitch_align_v1.05.yaml, smaller, and its text read as letters: no dictionary to download."""
    layers = {"n_layer": 2, "n_head": 1, "d_model": WIDTH, "d_head": 32, "d_inner": 128, "kernel_size": 3, "dropout": 0.1, "dropatt": 0.1, "dropemb": 0.0, "pre_lnorm": False}  # fmt: skip
    tts = "nemo.collections.tts.modules"
    predictor = {"_target_": f"{tts}.fastpitch.TemporalPredictor", "input_size": WIDTH, "kernel_size": 3, "filter_size": 32, "dropout": 0.1, "n_layers": 2}  # fmt: skip
    return {
        "learn_alignment": True, "n_speakers": 1, "symbols_embedding_dim": WIDTH, "pitch_embedding_kernel_size": 3, "n_mel_channels": 80, "min_token_duration": 1, "max_token_duration": 75,
        "text_tokenizer": {"_target_": "nemo.collections.common.tokenizers.text_to_speech.tts_tokenizers.EnglishCharsTokenizer", "punct": True, "apostrophe": True, "pad_with_space": True},
        "train_ds": {"defer_setup": True, "dataset": {"_target_": "nemo.collections.tts.data.dataset.TTSDataset"}},
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor", "features": 80, "lowfreq": 0, "highfreq": 8000, "n_fft": 1024, "n_window_size": 1024, "window_size": False,
            "n_window_stride": 256, "window_stride": False, "pad_to": 1, "pad_value": 0, "sample_rate": 22050, "window": "hann", "normalize": None, "preemph": None, "dither": 0.0,
            "frame_splicing": 1, "log": True, "log_zero_guard_type": "add", "log_zero_guard_value": 1e-05, "mag_power": 1.0,
        },
        "input_fft": {"_target_": f"{tts}.transformer.FFTransformerEncoder", "d_embed": WIDTH, **layers},
        "output_fft": {"_target_": f"{tts}.transformer.FFTransformerDecoder", **layers},
        "alignment_module": {"_target_": f"{tts}.aligner.AlignmentEncoder", "n_text_channels": WIDTH},
        "duration_predictor": predictor, "pitch_predictor": predictor,
    }  # fmt: skip


def build(folder, seed=0):
    import torch
    from nemo.collections.tts.models import FastPitchModel
    from omegaconf import OmegaConf

    torch.manual_seed(seed)
    model = FastPitchModel(cfg=OmegaConf.create(configuration()))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        model.save_to(str(Path(place) / "model.nemo"))
        with tarfile.open(Path(place) / "model.nemo") as tar:
            tar.extractall(folder)  # noqa: S202 - written a line above


if __name__ == "__main__":
    build(Path(sys.argv[1]))
