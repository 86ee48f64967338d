"""SpeechT5 (transformers): an autoregressive transformer from characters and an x-vector to log10 mels.

Teacher forcing is the model's own forward pass with the true mel shifted by one decoder step (``reduction_factor``
frames, 2 in the published model), so every frame is predicted from true frames before it.

Two properties of the original need care. Its decoder pre-net drops half of its values at inference as well (after Shen
et al. 2018, arXiv:1712.05884, section 2.2), from the global random state: here the masks are drawn once from a seed, by
position, so that two passes, a batch and a single utterance, and teacher forcing and free running agree. And its
post-net reads five frames to each side through five layers, past the end of a padded utterance: here it gets every
utterance without its padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.errors import DataError, PluginError, UsageError
from calib.models.huggingface.conditions import Vectors
from calib.models.huggingface.folder import Folder, FolderModel, checked_options, transformers_module
from calib.models.huggingface.tokens import Tokens, folder_tokenizer, speecht5_characters
from calib.models.protocol import Utterance

if TYPE_CHECKING:
    import torch

__all__ = ["SpeechT5"]

OPTIONS = {
    "speaker_embeddings": None,
    "text": "text",
    "prenet_dropout": "fixed",
    "prenet_seed": 0,
    "threshold": 0.5,
    "maxlenratio": 20.0,
    "frontend": None,
}


class SpeechT5(FolderModel):
    """SpeechT5 for text to speech behind calib's model protocol.

    Args:
        checkpoint: a local folder with ``config.json`` and the weights.
        device: a torch device.
        speaker_embeddings: see `calib.models.huggingface.conditions.Vectors`; there is no default.
        text: what the corpus holds as text: ``text``, ``phonemes`` (here: characters apart by spaces) or ``ids``.
        prenet_dropout: ``fixed``, masks drawn once; or ``off``, their mean, which the model was never trained with.
        prenet_seed: of the masks of teacher forcing; free running takes its own ``seed``.
        threshold: probability at which free running stops.
        maxlenratio: decoder steps a token times ``reduction_factor`` after which it stops anyway.
        frontend: instead of the folder's, a name or file.

    Raises:
        UsageError, DataError, PluginError: see `Folder`, `Vectors`, `Tokens`.
    """

    output_space = "raw"
    kind = "mean"
    autoregressive = True
    padding_safe = True

    def __init__(self, checkpoint: str | None = None, device: str = "cpu", **options: Any) -> None:
        given = checked_options("SpeechT5", options, OPTIONS)
        if given["prenet_dropout"] not in {"fixed", "off"}:
            raise UsageError(f"prenet_dropout={given['prenet_dropout']!r}: it is fixed or off")
        transformers = transformers_module()
        folder = Folder(checkpoint, "speecht5")
        config = transformers.SpeechT5Config(**folder.config)
        if config.vocab_size is None or "hidden_size" not in folder.config:
            raise DataError(f"{folder.path / 'config.json'}: not that of a text-to-speech model (no vocab_size)")
        plain = (
            folder_tokenizer(transformers, folder, "SpeechT5Tokenizer") if given["text"] == "text" else "not asked for"
        )
        if isinstance(plain, str) and given["text"] == "text":
            own = speecht5_characters(folder)
            plain = own if callable(own) else f"{plain}; {own}"
        self._vectors = Vectors(given["speaker_embeddings"], int(config.speaker_embedding_dim), "speaker_embeddings")
        self._tokens = Tokens(
            folder, str(given["text"]), int(config.vocab_size), vocabulary=None, end=None, plain=plain
        )
        module = self._restore(folder, lambda: transformers.SpeechT5ForTextToSpeech(config), device)
        self.frontend: str | Mapping[str, Any] = given["frontend"] or folder.frontend("hf_speecht5")
        self.config, self._options = config, given
        self._r, self._bins = int(config.reduction_factor), int(config.num_mel_bins)
        prenet: Any = module.get_submodule("speecht5.decoder.prenet")
        self._masks = _Masks(prenet, config, off=given["prenet_dropout"] == "off")
        self.remarks = [
            f"the decoder's pre-net drops {config.speech_decoder_prenet_dropout:.0%} of its values at inference too, by design; "
            + (
                "prenet_dropout=off gives their mean instead"
                if given["prenet_dropout"] == "off"
                else f"its masks are drawn once from seed {given['prenet_seed']}, so that two passes agree"
            )
        ]
        if self._vectors.single is not None and not self._vectors.single.any():
            self.remarks.append("the speaker embedding is all zeros, as you asked: a voice that no training saw")
        self.notices: list[str] = []

    def teacher_force(self, batch: Sequence[Utterance]) -> list[np.ndarray]:
        """Predict each utterance's mel, ``(T, M)``, every step from the true frames before it.

        Raises:
            DataError: an utterance without text, without a speaker's vector, too long, or with other bins.
        """
        import torch
        from torch.nn.utils.rnn import pad_sequence

        if not batch:
            return []
        with torch.inference_mode():
            ids = [torch.tensor(self._ids(u.text, u.id)) for u in batch]
            seen = [self._shifted(u) for u in batch]
            voices = torch.stack([torch.from_numpy(self._vectors.of(u.speaker, u.id)) for u in batch])
            self._masks.draw(int(self._options["prenet_seed"]))
            out = self.module.speecht5(
                input_values=pad_sequence(ids, batch_first=True, padding_value=int(self.config.pad_token_id)).to(
                    self.device
                ),
                attention_mask=_ones(ids).to(self.device),
                decoder_input_values=pad_sequence(seen, batch_first=True).to(self.device),
                decoder_attention_mask=_ones(seen).to(self.device),
                speaker_embeddings=voices.to(self.device),
                use_cache=False,
                return_dict=True,
            )
            return [
                self._emit(hidden[None, : len(steps)])[: len(u.mel)]
                for hidden, steps, u in zip(out[0], seen, batch, strict=True)
            ]

    def generate(
        self,
        text: str,
        *,
        speaker_audio: str | Path | None = None,
        language: str | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> np.ndarray:
        """Free running: ``(T, M)``. ``seed`` draws the pre-net's masks; the rest has no meaning to SpeechT5.

        ``speaker_audio`` picks a vector by its file's or its folder's name where ``speaker_embeddings`` holds several.

        Raises:
            DataError: nothing to say, or no vector of that name.
        """
        import torch

        if temperature != 1.0 or top_p != 1.0:
            self._notice("temperature and top-p have no effect: SpeechT5 draws nothing")
        names: list[str] = []
        if speaker_audio is not None:
            names = [Path(speaker_audio).stem, Path(speaker_audio).parent.name]
            if self._vectors.single is not None:
                self._notice(
                    "the speaker's recording is not used: SpeechT5 takes an x-vector, and that is speaker_embeddings"
                )
        del language
        with torch.inference_mode():
            ids = torch.tensor([self._ids(text, "the text")], device=self.device)
            voice = torch.from_numpy(self._vectors.of(*names))[None].to(self.device)
            self._masks.draw(int(seed))
            limit = min(float(self._options["maxlenratio"]), self._most_steps() * self._r / ids.shape[1])
            mel = self.module.generate_speech(
                ids, voice, threshold=float(self._options["threshold"]), maxlenratio=limit
            )
            if mel.shape[0] >= int(ids.shape[1] * limit / self._r) * self._r:
                self._notice(f"the stop token never came: cut after {mel.shape[0]} frames (maxlenratio)")
            return np.asarray(mel.float().cpu().numpy(), np.float32)

    def _most_steps(self) -> int:
        return int(self.config.max_speech_positions)

    def _ids(self, text: str, name: str) -> list[int]:
        try:
            ids = self._tokens(text)
        except DataError as error:
            raise DataError(f"{name}: {error.message}", hint=error.hint) from None
        if len(ids) > int(self.config.max_text_positions):
            raise DataError(f"{name}: {len(ids)} tokens; the model takes up to {self.config.max_text_positions}")
        return ids

    def _shifted(self, utterance: Utterance) -> torch.Tensor:
        """What the decoder sees, ``(ceil(T / r), M)``: a frame of zeros, then the last true frame of each step but the last."""
        import torch

        mel = utterance.mel
        if mel.ndim != 2 or mel.shape[1] != self._bins or len(mel) == 0:
            raise DataError(f"{utterance.id}: a mel of shape {mel.shape}; the model takes (T, {self._bins})")
        steps = -(-len(mel) // self._r)
        if steps > self._most_steps():
            raise DataError(f"{utterance.id}: {len(mel)} frames; the model takes up to {self._most_steps() * self._r}")
        seen = np.zeros((steps, self._bins), np.float32)
        seen[1:] = mel[self._r - 1 :: self._r][: steps - 1]
        return torch.from_numpy(seen)

    def _emit(self, hidden: torch.Tensor) -> np.ndarray:
        """Decoder states of one utterance ``(1, S, H)`` to frames ``(S r, M)``."""
        end = self.module.speech_decoder_postnet
        mel = end.postnet(end.feat_out(hidden).view(1, -1, self._bins))[0]
        return np.asarray(mel.float().cpu().numpy(), np.float32)

    def _notice(self, text: str) -> None:
        if text not in self.notices:
            self.notices.append(text)


class _Masks:
    """The pre-net's dropout masks, by layer and position, in place of draws from the global random state."""

    def __init__(self, prenet: Any, config: Any, *, off: bool) -> None:
        if not hasattr(prenet, "_consistent_dropout"):
            raise PluginError(
                "this version of transformers draws SpeechT5's pre-net dropout in a way that calib does not know",
                hint="5.24 and 4.40 are known to work",
            )
        self._shape = (len(prenet.layers), int(config.max_speech_positions), int(config.speech_decoder_prenet_units))
        self._rate, self._off = float(config.speech_decoder_prenet_dropout), off
        self._seed: int | None = None
        self._tables: torch.Tensor | None = None
        self._layer = 0
        prenet._consistent_dropout = self._apply  # noqa: SLF001 - the one way to make it deterministic

    def draw(self, seed: int) -> None:
        """Masks of a seed, from the first layer on."""
        import torch

        self._layer = 0
        if not self._off and seed != self._seed:
            generator = torch.Generator().manual_seed(seed % 2**63)
            # Kept with probability p and scaled by 1 / (1 - p), as the original does; p is .5 in every published model.
            self._tables = torch.rand(self._shape, generator=generator) < self._rate
            self._seed = seed

    def _apply(self, values: torch.Tensor, rate: float) -> torch.Tensor:
        """``(B, S, U)``: position s of every utterance gets row s of this layer's table."""
        import torch

        if self._off:
            return values * (rate / (1.0 - rate))
        assert self._tables is not None, "draw() comes before the pass"
        mask = self._tables[self._layer, : values.shape[1]].to(values.device)
        self._layer = (self._layer + 1) % self._shape[0]
        return torch.where(mask[None], values, torch.zeros((), dtype=values.dtype, device=values.device)) / (1.0 - rate)


def _ones(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Attention mask ``(B, longest)`` of padded rows."""
    import torch

    lengths = torch.tensor([len(row) for row in rows])
    return (torch.arange(int(lengths.max()))[None] < lengths[:, None]).long()
