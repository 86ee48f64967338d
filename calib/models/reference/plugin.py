"""The reference model as a calib plug-in: checkpoints, teacher forcing, free running.

Conventions:
    Mels are ``(T, M)`` float32, ln magnitude of the front end that the checkpoint names.

Teacher forcing needs durations, and they come from a monotonic alignment search of the prior against the true mel.
That alignment, and the voice where no reference is given, belong to the utterance as its text does: they are made when
the model first meets ``(id, text, language, length)`` and kept. So an altered mel reaches the predictions only as the
decoder's input, the frame before, and a probe that alters the future sees a causal model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from calib.errors import DataError, PluginError, UsageError, nearest
from calib.models.protocol import Utterance
from calib.models.reference.model import (
    Network,
    align,
    language_index,
    phoneme_matrix,
    sample_durations,
    speech_phonemes,
)

__all__ = ["BUILT_IN", "FOLDER", "FORMAT", "METADATA", "ReferenceModel", "checkpoint_path", "inspect_checkpoint"]

FORMAT = "calib-reference/1"
METADATA = "calib"
"""Key of the safetensors metadata; its value is a JSON object."""
FOLDER = Path(__file__).resolve().parents[2] / "demo" / "checkpoints"
BUILT_IN = {"0": "step000", "5": "step005", "30": "step030", "100": "step100", "collapsed": "collapsed"}
OPTIONS = ("output_space", "declare_output_space")
_STREAM_FRAMES = 32


class ReferenceModel:
    """The network behind calib's model protocol (:class:`calib.models.protocol.AcousticModel`).

    Args:
        checkpoint: a ``.safetensors`` path, or ``0``, ``5``, ``30``, ``100`` (percent of the training) or ``collapsed``;
            None: ``100``.
        device: ``cpu``, ``cuda`` or ``auto``.
        output_space: what comes out, ``raw`` or ``normalized``.
        declare_output_space: what the attribute ``output_space`` says; default the truth.

    Raises:
        UsageError: an unknown option value, device or checkpoint name.
        PluginError: the checkpoint is not this model's, or not whole.
    """

    kind = "mean"
    autoregressive = True
    padding_safe = True

    def __init__(self, checkpoint: str | None = None, device: str = "cpu", **options: str) -> None:
        for name, value in options.items():
            if name not in OPTIONS:
                raise UsageError(f"the reference model has no option {name!r}", hint=nearest(name, OPTIONS))
            if value not in ("raw", "normalized"):
                raise UsageError(
                    f"{name} is {value!r}; it is raw or normalized", hint=nearest(str(value), ("raw", "normalized"))
                )
        self._normalized = options.get("output_space", "raw") == "normalized"
        self.output_space = options.get("declare_output_space", options.get("output_space", "raw"))
        self.device = _device(device)
        path = checkpoint_path(checkpoint)
        self.checkpoint_file = path  # the identity is that of the file, whether named 100 or by its path
        tensors, self.metadata = _read(path)
        self._report = _report(tensors, self.metadata)
        if faults := [
            f"{kind} {', '.join(names)}"
            for kind in ("missing", "unexpected", "wrong_shape", "not_finite")
            if (names := self._report[kind])
        ]:
            raise PluginError(
                f"{path}: not a whole checkpoint of the reference model: {'; '.join(faults)}",
                hint="nothing was loaded; python -m calib.models.reference.train makes the built-in ones",
            )
        self.frontend: str | Mapping[str, Any] = self.metadata["frontend"]
        self.module = Network()
        self.module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        self.module.to(self.device).eval().requires_grad_(requires_grad=False)
        self.notices: list[str] = []
        self._read_voice: tuple[tuple[Path, int], torch.Tensor] | None = None
        self._own_voices: dict[tuple[str, str, str, int], torch.Tensor] = {}
        self._durations: dict[tuple[str, str, str, int], torch.Tensor] = {}

    def load_report(self) -> Mapping[str, Any]:
        """What the checkpoint restored: tensor names by fate, and by module. See :func:`inspect_checkpoint`."""
        return self._report

    def fresh(self, seed: int) -> Mapping[str, torch.Tensor]:
        """The state of the same network before any training, for ``calib check model``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Network().state_dict()

    @torch.inference_mode()
    def teacher_force(self, batch: Sequence[Utterance]) -> list[np.ndarray]:
        """Predict each utterance's mel, ``(T, M)``, every frame from the true frames before it.

        Raises:
            DataError: an utterance without text or frames, or with another number of bins.
            UsageError: espeak-ng is not installed, or cannot speak the language.
        """
        if not batch:
            return []
        contexts, mels = [], []
        for utterance in batch:
            mel = self._normalise(utterance.mel, utterance.id)
            encoding, durations = self._prepare(utterance, mel)
            contexts.append(self.module.upsample(encoding, durations))
            mels.append(mel)
        previous = self.module.shifted(pad_sequence(mels, batch_first=True))
        predicted, _ = self.module.decode(pad_sequence(contexts, batch_first=True), previous)
        return [self._emit(frames[: len(mel)]) for frames, mel in zip(predicted, mels, strict=True)]

    @torch.inference_mode()
    def generate(
        self,
        text: str,
        *,
        speaker_audio: str | Path | None = None,
        language: str | None = "en",
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        durations: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Free running: ``(T, M)``. The same arguments give the same mel.

        Args:
            text: what to say; at most :data:`calib.models.reference.espeak.MAX_CHARACTERS` characters.
            speaker_audio: a recording of the voice; None: the checkpoint's default voice.
            language: any code that espeak knows; one that training did not see leaves a line in ``notices``.
            temperature: of the durations, 0 or more; 0 takes the likeliest.
            top_p: nucleus of the durations, above 0 and at most 1.
            seed: of the draw.
            durations: frames of each phoneme, instead of drawn ones.

        Raises:
            UsageError: an option out of range, espeak-ng is not installed, or it cannot speak the language.
            DataError: nothing to say, or the audio cannot be read.
        """
        context = self._context(text, speaker_audio, language, temperature, top_p, seed, durations)
        return next(self._decode(context, context.shape[1]))

    def stream(
        self,
        text: str,
        *,
        speaker_audio: str | Path | None = None,
        language: str | None = "en",
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Iterator[np.ndarray]:
        """The mel of :meth:`generate` in parts ``(t, M)``, as they are made; arguments and errors are the same."""
        context = self._context(text, speaker_audio, language, temperature, top_p, seed, None)
        return self._decode(context, _STREAM_FRAMES)

    @torch.inference_mode()
    def _context(
        self,
        text: str,
        speaker_audio: str | Path | None,
        language: str | None,
        temperature: float,
        top_p: float,
        seed: int,
        durations: Sequence[int] | None,
    ) -> torch.Tensor:
        """What the decoder is told, frame by frame: ``(1, T, E + 4)``."""
        if not (math.isfinite(temperature) and temperature >= 0.0):
            raise UsageError(f"temperature {temperature} is not a number from 0 up")
        if not 0.0 < top_p <= 1.0:
            raise UsageError(f"top_p {top_p} is not above 0 and at most 1")
        network = self.module
        voice = network.default_speaker[None] if speaker_audio is None else self._voice_of(Path(speaker_audio))
        encoding = self._encode(text, language or "en", voice)
        if durations is None:
            generator = torch.Generator().manual_seed(int(seed) % 2**63)
            frames = sample_durations(network.duration(encoding).cpu(), float(temperature), float(top_p), generator)
        else:
            frames = torch.as_tensor(np.asarray(durations, np.int64))
            if frames.shape != (len(encoding),) or int(frames.min()) < 0 or int(frames.sum()) == 0:
                raise UsageError(
                    f"durations must be {len(encoding)} counts of frames, one a phoneme, not all 0 (got shape {tuple(frames.shape)})"
                )
        return network.upsample(encoding, frames.to(self.device))[None]

    @torch.inference_mode()
    def _decode(self, context: torch.Tensor, size: int) -> Iterator[np.ndarray]:
        """Frames of a context, ``size`` at a time."""
        network = self.module
        frame = torch.zeros((1, 1, network.output.out_features), device=self.device)
        state: torch.Tensor | None = None
        mel = []
        for step in range(context.shape[1]):
            frame, state = network.decode(context[:, step : step + 1], frame, state)
            mel.append(frame[0])
            if len(mel) == size:
                yield self._emit(torch.cat(mel))
                mel = []
        if mel:
            yield self._emit(torch.cat(mel))

    def durations(self, utterance: Utterance) -> np.ndarray:
        """Frames of each phoneme ``(N,)`` that :meth:`teacher_force` uses, summing to the length of the mel."""
        return np.asarray(self._prepare(utterance, self._normalise(utterance.mel, utterance.id))[1].cpu())

    def _prepare(self, utterance: Utterance, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encoding ``(N, E)`` and durations ``(N,)``; the durations and the own voice are those of the first meeting."""
        language = utterance.language or "en"
        key = (utterance.id, utterance.text, language, len(mel))
        if utterance.reference_mel is None:
            voice = self._own_voices.setdefault(key, self._voice(mel))
        else:
            voice = self._voice(self._normalise(utterance.reference_mel, utterance.id))
        try:
            encoding = self._encode(utterance.text, language, voice)
        except DataError as error:
            raise DataError(f"{utterance.id}: {error.message}", hint=error.hint) from None
        if key not in self._durations:
            prior = self.module.prior(encoding).float().cpu().numpy()  # bfloat16 under autocast, which numpy has not
            self._durations[key] = torch.from_numpy(align(prior, mel.float().cpu().numpy())).to(self.device)
        return encoding, self._durations[key]

    def _encode(self, text: str, language: str, voice: torch.Tensor) -> torch.Tensor:
        index = language_index(language)
        phonemes = torch.from_numpy(phoneme_matrix(speech_phonemes(text, language))).to(self.device)
        if (
            index == 0
            and (
                notice
                := f"language {language!r} was not in the training of the reference model; its sounds are guessed from other languages"
            )
            not in self.notices
        ):
            self.notices.append(notice)
        length, row = torch.tensor([len(phonemes)], device=self.device), torch.tensor([index], device=self.device)
        return self.module.encode(phonemes[None], length, row, voice)[0]

    def _voice(self, mel: torch.Tensor) -> torch.Tensor:
        return self.module.embed(mel[None], torch.tensor([len(mel)], device=self.device))

    def _voice_of(self, path: Path) -> torch.Tensor:
        """The voice of a recording; kept, because every sentence of a text asks for it again."""
        from calib.data.audio import read_audio
        from calib.mel.frontend import FrontEnd

        key = (path, path.stat().st_mtime_ns if path.is_file() else 0)
        if self._read_voice is None or self._read_voice[0] != key:
            frontend = FrontEnd.load(self.frontend)
            mel = frontend.mel(read_audio(path, frontend.sample_rate).samples)
            self._read_voice = key, self._voice(self._normalise(mel, str(path)))
        return self._read_voice[1]

    def _normalise(self, mel: np.ndarray, name: str) -> torch.Tensor:
        bins = self.module.output.out_features
        if mel.ndim != 2 or mel.shape[1] != bins or len(mel) == 0:
            raise DataError(f"{name}: a mel of shape {mel.shape}; the reference model needs (T, {bins}) with T above 0")
        if not np.isfinite(mel).all():
            raise DataError(f"{name}: the mel holds values that are not finite")
        raw = torch.from_numpy(np.array(mel, np.float32)).to(self.device)
        return (raw - self.module.mel_mean) / self.module.mel_std

    def _emit(self, mel: torch.Tensor) -> np.ndarray:
        return np.asarray(
            (mel if self._normalized else mel * self.module.mel_std + self.module.mel_mean).float().cpu().numpy(),
            np.float32,
        )


def checkpoint_path(checkpoint: str | None) -> Path:
    """The file of a built-in name or path. Raises UsageError where there is none."""
    name = "100" if checkpoint is None else str(checkpoint)
    path = FOLDER / f"{BUILT_IN[name]}.safetensors" if name in BUILT_IN else Path(name)
    if not path.is_file():
        raise UsageError(
            f"no checkpoint {name!r}: it is neither a file nor a built-in name", hint=nearest(name, BUILT_IN)
        )
    return path


def inspect_checkpoint(path: Path) -> Mapping[str, Any]:
    """What a ``.safetensors`` file would restore, without loading it.

    Returns:
        Tensor names under ``restored``, ``missing``, ``unexpected``, ``wrong_shape``, ``not_finite`` and
        ``equal_to_fresh_init`` (to float16), and the same by top-level module under ``modules``.

    Raises:
        PluginError: not a safetensors file of this model's format.
    """
    return _report(*_read(path))


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names: list[str] = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
            # One key: safetensors writes several in random order, and equal checkpoints are to be equal bytes.
            facts = {"frontend": "hifigan", "seed": 0, **json.loads((file.metadata() or {}).get(METADATA, "{}"))}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise PluginError(f"{path}: cannot be read as safetensors: {error}") from None
    if facts.get("format", FORMAT) != FORMAT:
        raise PluginError(f"{path}: format {facts['format']!r}; this version of calib reads {FORMAT}")
    return tensors, facts


def _report(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(metadata["seed"]))
        fresh = Network().state_dict()
    fates: dict[str, list[str]] = {
        fate: [] for fate in ("restored", "missing", "unexpected", "wrong_shape", "not_finite", "equal_to_fresh_init")
    }
    for name in sorted(fresh.keys() | tensors.keys()):
        if name not in tensors or name not in fresh:
            fates["missing" if name in fresh else "unexpected"].append(name)
        elif tensors[name].shape != fresh[name].shape:
            fates["wrong_shape"].append(name)
        elif not bool(torch.isfinite(tensors[name]).all()):
            fates["not_finite"].append(name)
        else:
            fates["restored"].append(name)
            if torch.equal(tensors[name].half(), fresh[name].half()):
                fates["equal_to_fresh_init"].append(name)
    modules = sorted({name.partition(".")[0] for names in fates.values() for name in names})
    by_module = {
        module: {fate: [name for name in names if name.partition(".")[0] == module] for fate, names in fates.items()}
        for module in modules
    }
    return {**fates, "modules": by_module, "metadata": dict(metadata)}


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device {name!r}", hint="auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {name!r}: this machine has no CUDA device", hint="--device cpu")
    return device
