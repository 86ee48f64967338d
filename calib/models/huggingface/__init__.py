"""SpeechT5 and FastSpeech2Conformer of transformers, from a local folder. Nothing is ever fetched.

- :mod:`~calib.models.huggingface.folder` - a saved model's folder: configuration, weights, front end;
- :mod:`~calib.models.huggingface.tokens` - text, phonemes or ids to token ids; :mod:`~.conditions`, speakers and languages;
- :mod:`~calib.models.huggingface.speecht5` and :mod:`~calib.models.huggingface.fastspeech2` - the two models.

The front end is that of the folder's ``preprocessor_config.json`` where there is one, else the catalogue's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calib.models.huggingface.fastspeech2 import FastSpeech2Conformer
    from calib.models.huggingface.speecht5 import SpeechT5

__all__ = ["make_fastspeech2_conformer", "make_speecht5"]


def make_speecht5(checkpoint: str | None = None, device: str = "cpu", **options: Any) -> SpeechT5:
    """SpeechT5 for text to speech (entry point ``speecht5`` of ``calib.models``); see `SpeechT5` for the options."""
    from calib.models.huggingface.speecht5 import SpeechT5

    return SpeechT5(checkpoint, device, **options)


def make_fastspeech2_conformer(
    checkpoint: str | None = None, device: str = "cpu", **options: Any
) -> FastSpeech2Conformer:
    """FastSpeech2Conformer (entry point ``fastspeech2-conformer``); see `FastSpeech2Conformer` for the options."""
    from calib.models.huggingface.fastspeech2 import FastSpeech2Conformer

    return FastSpeech2Conformer(checkpoint, device, **options)
