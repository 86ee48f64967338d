"""A Coqui Glow-TTS of random weights, to see the whole line run before a real checkpoint is at hand.

    python examples/coqui_glowtts.py glow            (in an environment with coqui-tts: config.json and best_model.pth)
    calib new-adapter glowtts -o my_glowtts.py
    calib teacher-force HELDOUT --model my_glowtts.py:factory --checkpoint glow --model-python /path/to/coqui/venv -o pairs

A model of your own needs only the last two lines, and the folder that its training wrote.
"""

# ruff: noqa: ANN001, ANN201, INP001

import sys
from pathlib import Path


def build(folder, seed=0):
    """The default configuration (28.6 million weights) on HiFi-GAN's mels, its text read as letters."""
    import torch
    from TTS.tts.configs.glow_tts_config import GlowTTSConfig
    from TTS.tts.configs.shared_configs import BaseAudioConfig
    from TTS.tts.models import setup_model
    from TTS.tts.utils.text.tokenizer import TTSTokenizer

    audio = BaseAudioConfig(
        sample_rate=22050, do_trim_silence=False, signal_norm=False, log_func="np.log", spec_gain=1.0, ref_level_db=20, mel_fmin=0, mel_fmax=8000, num_mels=80,
    )  # fmt: skip
    config = GlowTTSConfig(audio=audio, text_cleaner="basic_cleaners", use_phonemes=False, datasets=[])
    _, config = TTSTokenizer.init_from_config(config)
    torch.manual_seed(seed)
    module = setup_model(config)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": module.state_dict()}, folder / "best_model.pth")
    config.save_json(str(folder / "config.json"))


if __name__ == "__main__":
    build(Path(sys.argv[1]))
