"""`calib fold` into small random models of transformers: FastSpeech2Conformer through its residual postnet, SpeechT5 refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from speechlike import voice

from calib.mel.frontend import FrontEnd
from calib.models.loading import load_model
from calib.models.protocol import Utterance
from calib.params import MelScaler

transformers = pytest.importorskip("transformers", reason="transformers is not installed (the extra `transformers`)")
PHONEMES = ["<blank>", "<unk>", "AH0", "N", "T", "<sos/eos>"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved FastSpeech2Conformer of a few thousand weights, parameters for it, and one utterance of phonemes."""
    config = transformers.FastSpeech2ConformerConfig(
        vocab_size=len(PHONEMES), hidden_size=16, encoder_layers=1, decoder_layers=1, encoder_linear_units=16, decoder_linear_units=16, encoder_num_attention_heads=2,
        decoder_num_attention_heads=2, duration_predictor_channels=8, pitch_predictor_layers=1, pitch_predictor_channels=8, energy_predictor_channels=8,
        speech_decoder_postnet_units=16, speech_decoder_postnet_layers=2,
    )  # fmt: skip
    torch.manual_seed(3)
    transformers.utils.logging.disable_progress_bar()
    transformers.FastSpeech2ConformerModel(config).save_pretrained(tmp_path / "fs2")
    (tmp_path / "fs2" / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(PHONEMES)}))
    (tmp_path / "speech" / "wavs").mkdir(parents=True)
    soundfile.write(tmp_path / "speech" / "wavs" / "a.wav", voice(0.7, 1), 22050)
    (tmp_path / "speech" / "metadata.csv").write_text("a|AH0 N T AH0|AH0 N T AH0\n")
    own = FrontEnd.load("hf_fastspeech2_conformer").id
    (tmp_path / "mel_normalization_stats.json").write_text(json.dumps({"schema": "calib/mel-normalization-stats/1", "mel_mean": -2.2, "mel_std": 0.9, "stats_id": "s", "frontend_id": own}))  # fmt: skip
    bins = {"scale": np.linspace(0.5, 1.5, 80).tolist(), "offset": np.linspace(-1, 1, 80).tolist()}
    (tmp_path / "mel_scaling_params.json").write_text(json.dumps({"schema": "calib/mel-scaling-params/1", "scale_factor": 0.7, "offset": 0.2, "per_bin": bins, "stats_id": "s", "frontend_id": own}))  # fmt: skip
    return tmp_path


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_residual_postnet_is_folded_exactly(folder: Path, calib: Callable[..., Any]) -> None:
    """Three layers, found by their names, one scale and offset by bin, edges included: 1e-5."""
    params = folder / "mel_scaling_params.json"
    arguments = ("fold", "--params", params, "--model", "fastspeech2-conformer", "--checkpoint", folder / "fs2", "--model-option", "text=phonemes", "--model-option", "durations=scaled", "--proof", folder / "speech")  # fmt: skip
    result = calib(*arguments, "-o", folder / "out")
    assert result.code == 0, result.err
    assert "feat_out, " in result.out
    utterance = Utterance("a", np.zeros((37, 80), dtype=np.float32), "AH0 N T T")

    def spoken(where: str) -> np.ndarray:
        model = load_model(
            "fastspeech2-conformer", str(folder / where), "cpu", {"text": "phonemes", "durations": "scaled"}
        )
        return np.asarray(model.teacher_force([utterance])[0])

    wanted = MelScaler.load(params, folder / "mel_normalization_stats.json").calibrate(spoken("fs2"))
    assert np.abs(spoken("out") - wanted).max() <= 1e-5
    # The last layer alone is not the mel.
    one = calib(*arguments, "-o", folder / "other", "--layer", "speech_decoder_postnet.feat_out")
    assert one.code == 5
    assert "in teacher forcing" in one.err
