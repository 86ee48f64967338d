"""FastSpeech2Conformer (transformers, from ESPnet): phonemes and durations to normalised mels, all frames at once.

What teacher forcing is here: the model never sees true frames; it is told the true durations. With durations of its own
its frames lie elsewhere in time than the recording's, and comparing the two frame by frame says nothing of its mels. So
``durations`` has no default and must be one of

- a file or folder with the true durations (an aligner's): the only frame-aligned comparison;
- ``scaled``: its own durations, stretched to the recording's length. Phonemes lie near, not at, their true places; the
  correlation is a lower bound of what aligned durations would show;
- ``predicted``: its own durations. The prediction has its own length; only statistics over time can be compared.

Durations are not searched against the target here: a search would align noise to the recording as well and flatter it.

The output is normalised as ESPnet's is (global mean and deviation of each bin), which the published model does not ship
(`calib frontends show hf_fastspeech2_conformer`); ``output_space=raw`` is for models that were trained otherwise.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calib.errors import DataError, UsageError
from calib.models.huggingface.conditions import Indices, Vectors
from calib.models.huggingface.folder import Folder, FolderModel, checked_options, transformers_module
from calib.models.huggingface.tokens import Tokens, folder_tokenizer
from calib.models.protocol import Utterance

__all__ = ["FastSpeech2Conformer", "scaled_durations"]

OPTIONS = {
    "durations": None,
    "text": "text",
    "output_space": "normalized",
    "speaker_id": None,
    "speaker_ids": None,
    "language_id": None,
    "language_ids": None,
    "speaker_embeddings": None,
    "frontend": None,
}
_SLACK = 8  # frames that the pairs' reader crops
_COMBINED = "fastspeech2_conformer_with_hifigan"


class FastSpeech2Conformer(FolderModel):
    """FastSpeech2Conformer behind calib's model protocol.

    Args:
        checkpoint: a local folder with ``config.json`` and the weights; of the acoustic model, or with its vocoder.
        device: a torch device.
        durations: ``scaled``, ``predicted``, a folder of ``ID.npy``, an ``.npz`` by id, or a JSON file
            ``{"id": [frames of each token]}``; needed for teacher forcing only.
        text: what the corpus holds as text: ``text`` (needs g2p_en), ``phonemes`` (names of ``vocab.json`` apart by
            spaces) or ``ids``.
        output_space: ``normalized`` (as published) or ``raw``.
        speaker_id, speaker_ids: see `Indices`; needed if the model has several speakers.
        language_id, language_ids: likewise.
        speaker_embeddings: see `Vectors`; needed if the model takes one.
        frontend: instead of the catalogue's, a name or file.

    Raises:
        UsageError, DataError, PluginError: see `Folder`, `Indices`, `Vectors`, `Tokens`.
    """

    kind = "mean"
    autoregressive = False
    padding_safe = True  # the original's convolutions read padding, so a batch is run one utterance at a time

    def __init__(self, checkpoint: str | None = None, device: str = "cpu", **options: Any) -> None:
        given = checked_options("FastSpeech2Conformer", options, OPTIONS)
        if given["output_space"] not in {"raw", "normalized"}:
            raise UsageError(f"output_space={given['output_space']!r}: it is raw or normalized")
        transformers = transformers_module()
        folder = Folder(checkpoint, "fastspeech2_conformer", _COMBINED)
        combined = folder.model_type == _COMBINED
        config = transformers.FastSpeech2ConformerConfig(
            **(folder.config["model_config"] if combined else folder.config)
        )
        size, speaker_size = int(config.vocab_size), config.speaker_embed_dim
        self._speakers = Indices(given["speaker_id"], given["speaker_ids"], config.num_speakers, "speaker")
        self._languages = Indices(given["language_id"], given["language_ids"], config.num_languages, "language")
        self._vectors = (
            Vectors(given["speaker_embeddings"], int(speaker_size), "speaker_embeddings") if speaker_size else None
        )
        self._durations = _Durations(given["durations"])
        self._tokens = _tokens(transformers, folder, str(given["text"]), size)
        self._restore(
            folder, lambda: transformers.FastSpeech2ConformerModel(config), device, prefix="model." if combined else ""
        )
        self.output_space = str(given["output_space"])
        self.frontend: str | Mapping[str, Any] = given["frontend"] or folder.frontend("hf_fastspeech2_conformer")
        self.config = config
        self.remarks = list(self._durations.remarks)
        if self.output_space == "normalized":
            self.remarks.append(
                "its output is taken to be normalised, as ESPnet's is (inferred; the statistics are not shipped with it): give --stats of its training data, or output_space=raw"
            )
        self.notices: list[str] = []

    def teacher_force(self, batch: Sequence[Utterance]) -> list[np.ndarray]:
        """Predict each utterance's mel, ``(T', M)``, with the durations that the option ``durations`` says.

        Raises:
            UsageError: no durations were chosen.
            DataError: an utterance without text, speaker or durations, or durations that do not fit it.
        """
        out = []
        for utterance in batch:
            try:
                ids = self._tokens(utterance.text)
                conditions = self._conditions(utterance.speaker, utterance.id, language=utterance.language)
                durations = self._durations.of(utterance.id, len(ids), len(utterance.mel))
                if durations is None:
                    own = self._run(ids, conditions)
                    if self._durations.mode == "scaled":
                        frames = scaled_durations(own.duration_outputs[0].cpu().numpy(), len(utterance.mel))
                        own = self._run(ids, conditions, frames)
                else:
                    own = self._run(ids, conditions, durations)
            except DataError as error:
                raise DataError(f"{utterance.id}: {error.message}", hint=error.hint) from None
            out.append(np.asarray(own.spectrogram[0].float().cpu().numpy(), np.float32))
        return out

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
        """Free running: ``(T, M)`` with its own durations. Nothing is drawn, so the seed changes nothing.

        Raises:
            DataError: nothing to say, or a speaker or language without a number.
        """
        if temperature != 1.0 or top_p != 1.0:
            self._notice("temperature and top-p have no effect: FastSpeech2Conformer draws nothing")
        names = [] if speaker_audio is None else [Path(speaker_audio).stem, Path(speaker_audio).parent.name]
        if names and self._vectors is None and self._speakers.count <= 1:
            self._notice("the speaker's recording is not used: this model has one voice")
        del seed
        out = self._run(self._tokens(text), self._conditions(*names, language=language))
        return np.asarray(out.spectrogram[0].float().cpu().numpy(), np.float32)

    def _conditions(self, *names: str | None, language: str | None) -> dict[str, Any]:
        import torch

        speaker, lang = self._speakers.of(*names), self._languages.of(language)
        out: dict[str, Any] = {}
        if speaker is not None:
            out["speaker_ids"] = torch.tensor([[speaker]], device=self.device)
        if lang is not None:
            out["lang_ids"] = torch.tensor([[lang]], device=self.device)
        if self._vectors is not None:
            out["speaker_embedding"] = torch.from_numpy(self._vectors.of(*names))[None].to(self.device)
        return out

    def _run(self, ids: list[int], conditions: Mapping[str, Any], durations: np.ndarray | None = None) -> Any:
        import torch

        with torch.inference_mode(), self._told(durations):
            return self.module(input_ids=torch.tensor([ids], device=self.device), return_dict=True, **conditions)

    @contextlib.contextmanager
    def _told(self, durations: np.ndarray | None) -> Iterator[None]:
        """Let the length regulator use these durations instead of the predictor's."""
        import torch

        if durations is None:
            yield
            return
        predictor, speed = self.module.duration_predictor, self.module.config.speaking_speed
        told = torch.from_numpy(durations.astype(np.int64))[None].to(self.device)
        predictor.forward = lambda *_: told
        self.module.config.speaking_speed = 1.0
        try:
            yield
        finally:
            del predictor.forward
            self.module.config.speaking_speed = speed

    def _notice(self, text: str) -> None:
        if text not in self.notices:
            self.notices.append(text)


def scaled_durations(durations: np.ndarray, frames: int) -> np.ndarray:
    """Durations ``(N,)`` in frames, stretched to sum to ``frames``, by the largest remainders; all zero: evenly.

    Example:
        >>> scaled_durations(np.array([1, 2, 1]), 10)
        array([3, 5, 2])
    """
    weights = np.asarray(durations, np.float64)
    weights = weights if weights.sum() > 0 else np.ones(len(weights))
    exact = weights * frames / weights.sum()
    out = np.floor(exact).astype(np.int64)
    order = np.argsort(out - exact, kind="stable")  # the largest remainder first
    out[order[: frames - int(out.sum())]] += 1
    return np.asarray(out)


class _Durations:
    """Where teacher forcing has its durations from."""

    def __init__(self, spec: Any) -> None:
        self.mode = str(spec) if spec in {"scaled", "predicted"} else "none" if spec is None else "file"
        self.path: Path | None = None
        self._table: Mapping[str, Any] | None = None
        self.remarks: list[str] = []
        if self.mode == "scaled":
            self.remarks.append(
                "durations=scaled: its own durations stretched to the recording's length; phonemes lie near, not at, their true places, so correlations are a lower bound"
            )
        elif self.mode == "predicted":
            self.remarks.append(
                "durations=predicted: the prediction has its own length and is not aligned with the recording frame by frame; no verdict on its mels can be drawn from the pairs"
            )
        elif self.mode == "file":
            self.path = Path(str(spec)).expanduser()
            if self.path.is_file():
                self._table = _table(self.path)
            elif not self.path.is_dir():
                raise UsageError(
                    f"durations={spec}: no such file or folder", hint="or durations=scaled, durations=predicted"
                )

    def of(self, name: str, tokens: int, frames: int) -> np.ndarray | None:
        """Frames of each token; None: the model's own.

        Raises:
            UsageError: nothing was chosen.
            DataError: none for this utterance, or they do not fit it.
        """
        if self.mode == "none":
            raise UsageError(
                "teacher forcing of FastSpeech2Conformer needs durations, and none are assumed",
                hint="--model-option durations=DIR|FILE (an aligner's), durations=scaled, or durations=predicted (what each is worth: docs/models.md)",
            )
        if self.mode != "file":
            return None
        assert self.path is not None
        if self._table is not None:
            if name not in self._table:
                raise DataError(f"{self.path} has no durations for it")
            value = self._table[name]
        else:
            file = self.path / f"{name}.npy"
            try:
                value = np.load(file, allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise DataError(f"{file}: {error}") from None
        durations = np.asarray(value)
        if (
            durations.ndim != 1
            or durations.dtype.kind not in "iuf"
            or not np.isfinite(durations).all()
            or (durations < 0).any()
        ):
            raise DataError(
                f"its durations are no list of counts of frames: shape {durations.shape}, {durations.dtype}"
            )
        if len(durations) != tokens:
            raise DataError(
                f"{len(durations)} durations for {tokens} tokens", hint="one for each token, the closing one included"
            )
        whole = durations.round().astype(np.int64)
        if abs(int(whole.sum()) - frames) > _SLACK or whole.sum() == 0:
            raise DataError(
                f"its durations sum to {int(whole.sum())} frames, the mel has {frames}", hint="of another hop length?"
            )
        return np.asarray(whole)


def _table(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as durations: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds a {type(value).__name__}; durations are an object of lists by id")
    return value


def _tokens(transformers: Any, folder: Folder, form: str, size: int) -> Tokens:
    vocabulary = folder.json("vocab.json") if (folder.path / "vocab.json").is_file() else None
    end = None if vocabulary is None else vocabulary.get("<sos/eos>")
    plain = (
        folder_tokenizer(transformers, folder, "FastSpeech2ConformerTokenizer") if form == "text" else "not asked for"
    )
    return Tokens(folder, form, size, vocabulary=vocabulary, end=end, plain=plain)
