"""Configuration files of the field's systems, read as front ends.

======================  ==============================================================================================
module                  what is in it
======================  ==============================================================================================
``reading``             `read_config`: recognised by content; `SYSTEMS`
``found``               `FoundConfig`, and what every reader uses
``vocoders``            HiFi-GAN, BigVGAN, Vocos, ParallelWaveGAN, WaveGlow, Fish
``acoustic``            Matcha-TTS, FastSpeech 2, VITS and its kin, StyleTTS 2, F5-TTS, CosyVoice, SpeechBrain
``toolkits``            Coqui TTS, ESPnet, NeMo, transformers
======================  ==============================================================================================
"""

from calib.mel.configs.found import FoundConfig
from calib.mel.configs.reading import SYSTEMS, UnknownConfigError, explain, is_file, parse, read_config, splits

__all__ = ["SYSTEMS", "FoundConfig", "UnknownConfigError", "explain", "is_file", "parse", "read_config", "splits"]
