"""The public interface of other people's packages, as far as the templates use it, and nothing behind it.

They show that a template calls what it says and keeps calib's protocol. That the real packages answer in the same way
was tried by hand, with random weights; docs/models.md says with which versions.
"""

from __future__ import annotations

from pathlib import Path

COQUI = {
    "TTS/__init__.py": "",
    "TTS/config.py": "import json\nfrom types import SimpleNamespace\ndef load_config(path):\n    return SimpleNamespace(**json.load(open(path)))\n",
    "TTS/tts/__init__.py": "",
    "TTS/tts/utils/__init__.py": "",
    "TTS/tts/utils/text/__init__.py": "",
    "TTS/tts/utils/text/tokenizer.py": """
class TTSTokenizer:
    @staticmethod
    def init_from_config(config):
        return TTSTokenizer(), config
    def text_to_ids(self, text, language=None):
        return [ord(c) % 40 for c in text]
""",
    "TTS/tts/models.py": """
import torch
class Decoder:
    def set_r(self, r):
        self.r = r
class Net(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, self.embedding, self.output = config, torch.nn.Embedding(40, 8), torch.nn.Linear(8 + 80, 80)
        self.decoder = Decoder()
    def forward(self, text, text_lengths, mel_or_lengths, mel_lengths=None, y=None):
        assert not self.training and text.shape == (1, int(text_lengths))
        mel = y if y is not None else mel_or_lengths
        lengths = mel_or_lengths if y is not None else mel_lengths
        assert mel.ndim == 3 and mel.shape[1] == int(lengths)
        if y is None:
            assert mel.shape[1] % self.decoder.r == 0
        before = torch.nn.functional.pad(mel, (0, 0, 1, 0))[:, :-1]
        said = self.embedding(text).mean(1, keepdim=True).expand(-1, mel.shape[1], -1)
        return {"model_outputs": self.output(torch.cat([said, before], -1))}
    def inference(self, text):
        return {"model_outputs": torch.zeros(1, 4 * text.shape[1], 80)}
class Flow(torch.nn.Module):
    # One invertible map of each frame; like Glow-TTS's it takes frames in pairs.
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(80))
    def forward(self, x, x_mask, g=None, reverse=False):
        assert x.shape[2] % 2 == 0 and x_mask.shape == x[:, :1].shape
        weight = torch.linalg.inv(self.weight) if reverse else self.weight
        return weight @ x, None
class Glow(torch.nn.Module):
    inference_noise_scale = 0.0
    def __init__(self, config):
        super().__init__()
        self.embedding, self.decoder = torch.nn.Embedding(40, 80), Flow()
    def forward(self, x, x_lengths, y, y_lengths=None, aux_input=None):
        assert not self.training and aux_input["speaker_ids"] is None
        assert int(y_lengths) == y.shape[1] and int(x_lengths) == x.shape[1]
        z, _ = self.decoder(y.transpose(1, 2), torch.ones_like(y[:, :, 0])[:, None])
        means = self.embedding(x)[0]
        score = -torch.cdist(means[None].double(), z[0].T[None].double())[0] ** 2
        path = search(score)
        return {"z": z.transpose(1, 2), "y_mean": means[path][None], "alignments": None}
    def inference(self, x, aux_input=None):
        assert int(aux_input["x_lengths"]) == x.shape[1]
        z = self.embedding(x).repeat_interleave(4, 1)
        z = z + self.inference_noise_scale * torch.randn_like(z)
        return {"model_outputs": self.decoder(z.transpose(1, 2), torch.ones(1, 1, z.shape[1]), reverse=True)[0].transpose(1, 2)}
def search(score):
    # Monotonic alignment search: the token of each frame along the best path.
    n, t = score.shape
    best = torch.full((n, t), float("-inf"), dtype=score.dtype)
    best[0, 0] = score[0, 0]
    for k in range(1, t):
        before = torch.cat([torch.full((1,), float("-inf"), dtype=score.dtype), best[:-1, k - 1]])
        best[:, k] = score[:, k] + torch.maximum(best[:, k - 1], before)
    path = [n - 1]
    for k in range(t - 1, 0, -1):
        i = path[-1]
        path.append(i - 1 if i and best[i - 1, k - 1] >= best[i, k - 1] else i)
    return torch.tensor(path[::-1])
def setup_model(config):
    return Glow(config) if config.model == "glow_tts" else Net(config)
""",
}

MATCHA = {
    "matcha/__init__.py": "",
    "matcha/models/__init__.py": "",
    "matcha/models/matcha_tts.py": """
import torch
class MatchaTTS(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.mel_mean, self.mel_std = torch.tensor(-5.5), torch.tensor(2.1)
    @classmethod
    def load_from_checkpoint(cls, checkpoint, map_location=None, weights_only=None):
        return cls()
    def encoder(self, x, x_lengths, spks):
        n = x.shape[1]
        return torch.linspace(-1, 1, 80)[None, :, None].expand(1, 80, n) * x[:, None], torch.zeros(1, 1, n), torch.ones(1, 1, n)
    def decoder(self, mu, mask, n_timesteps, temperature=1.0, spks=None):
        assert mu.shape[2] == mask.shape[2] and mu.shape[2] % 4 == 0
        return mu + temperature * torch.randn_like(mu)
    def synthesise(self, x, x_lengths, n_timesteps, temperature=1.0, spks=None):
        return {"mel": torch.randn(1, 80, 3 * x.shape[1]) * temperature}
""",
    "matcha/text.py": "def text_to_sequence(text, cleaners):\n    return [ord(c) % 40 for c in text], text\n",
    "matcha/utils/__init__.py": "",
    "matcha/utils/utils.py": "def intersperse(lst, item):\n    out = [item] * (2 * len(lst) + 1)\n    out[1::2] = lst\n    return out\n",
    "matcha/utils/model.py": """
import torch
def sequence_mask(length, max_length):
    return torch.arange(max_length)[None] < length[:, None]
def fix_len_compatibility(length, num_downsamplings_in_unet=2):
    return -(-length // 4) * 4
def denormalize(data, mu, std):
    return data * std + mu
""",
    "matcha/utils/monotonic_align.py": """
import torch
def maximum_path(value, mask):
    assert value.shape == mask.shape
    path = torch.zeros_like(value)
    t = int(mask[0, 0].sum())
    for frame in range(t):
        path[0, frame * value.shape[1] // t, frame] = 1
    return path
""",
}

NEMO = {
    "nemo/__init__.py": "",
    "nemo/collections/__init__.py": "",
    "nemo/collections/tts/__init__.py": "",
    "nemo/collections/tts/parts/__init__.py": "",
    "nemo/collections/tts/parts/utils/__init__.py": "",
    "nemo/collections/tts/parts/utils/tts_dataset_utils.py": """
import numpy as np
def beta_binomial_prior_distribution(phoneme_count, mel_count, scaling_factor=1.0):
    return np.full((mel_count, phoneme_count), 1.0 / phoneme_count)
""",
    "nemo/core/__init__.py": "",
    "nemo/core/connectors/__init__.py": "",
    "nemo/core/connectors/save_restore_connector.py": "class SaveRestoreConnector:\n    model_extracted_dir = None\n",
    "nemo/collections/tts/models.py": """
import os, torch
class FastPitchModel(torch.nn.Module):
    learn_alignment, device = True, torch.device("cpu")
    def __init__(self):
        super().__init__()
        self.embedding, self.proj = torch.nn.Embedding(40, 8), torch.nn.Linear(8, 80)
    @classmethod
    def restore_from(cls, restore_path, map_location=None, strict=True, save_restore_connector=None):
        assert strict and save_restore_connector.model_extracted_dir == restore_path
        model = cls()
        model.load_state_dict(torch.load(os.path.join(restore_path, "model_weights.ckpt"), weights_only=True), strict=strict)
        return model
    def parse(self, text):
        return torch.tensor([[ord(c) % 40 for c in text]])
    def forward(self, *, text, spec=None, attn_prior=None, mel_lens=None, input_lens=None):
        assert not self.training and spec.shape == (1, 80, int(mel_lens))
        assert attn_prior.shape == (1, int(mel_lens), int(input_lens)) and text.shape[1] == int(input_lens)
        frames = torch.arange(spec.shape[2]) * text.shape[1] // spec.shape[2]
        return self.proj(self.embedding(text))[:, frames].transpose(1, 2), mel_lens, None
    def generate_spectrogram(self, tokens, speaker=None):
        return self.proj(self.embedding(tokens)).repeat_interleave(3, 1).transpose(1, 2)
""",
}

KERAS = {
    "keras/__init__.py": """
import types
import numpy as np
class Network:
    outputs = [np.zeros((1, 1, 80))]
    def __call__(self, inputs, training):
        assert training is False
        ids, before = inputs
        assert ids.ndim == 2 and before.ndim == 3
        return 0.5 * np.asarray(before) + ids.mean() / 100
def load_model(path, compile, safe_mode):
    assert safe_mode
    return Network()
saving = types.SimpleNamespace(load_model=load_model)
ops = types.SimpleNamespace(convert_to_numpy=np.asarray)
""",
}

PACKAGES = {
    "tacotron2": COQUI, "fastpitch": COQUI, "glowtts": COQUI, "matcha": MATCHA, "nemo": NEMO, "keras": KERAS, "blank": {},
}  # fmt: skip


def write(name: str, folder: Path) -> None:
    """Write the stand-in that a template needs into ``folder``."""
    for path, text in PACKAGES[name].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
