"""What the neural vocoders share: files found, configurations read strictly, a mel checked, a network run.

Conventions:
    Mels are float32 ``(T, M)`` in the unit of the front end; networks see ``(1, M, T)`` float32. Audio is float32
    ``(L,)``. A configuration is read by `calib.mel.configs`, so that the declared front end is what its file says.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.errors import DataError, UsageError, nearest
from calib.mel.frontend import FrontEnd

if TYPE_CHECKING:
    import torch

__all__ = ["NeuralVocoder", "Settings", "check_options", "checked", "declared", "files", "require"]

_SHOWN = 8


class NeuralVocoder:
    """A network from mel to audio behind the protocol `calib.models.protocol.Vocoder`.

    Args:
        kind: its name, for messages.
        module: ``(1, M, T)`` to a tensor of samples; put into eval mode and on ``device``.
        front_end: of the mels that it takes.
        device: a torch device name.
        report: of the loading.
        least: fewest frames that it can make audio of.
        path: the weights file.

    Attributes:
        checkpoint_file: the weights file, or None.
        frontend: catalogue name or fields.
        front_end: the same as a FrontEnd.
        module: the network.
    """

    def __init__(
        self,
        kind: str,
        module: torch.nn.Module,
        front_end: FrontEnd,
        device: str,
        report: Mapping[str, Any],
        *,
        least: int = 1,
        path: Path | None = None,
    ) -> None:
        self.kind = kind
        self.checkpoint_file = None if path is None else str(path)
        self.front_end = front_end
        self.frontend: str | dict[str, Any] = front_end.fields() if front_end.name == "custom" else front_end.name
        self.device = device
        self.module = module.to(device)
        with contextlib.suppress(NotImplementedError):  # what torch.export made has only the mode it was made in
            self.module.eval()
        self.least = least
        self._report = dict(report)

    def load_report(self) -> dict[str, Any]:
        """What was restored from the checkpoint; see `calib.vocoders.weights.load_strictly`."""
        return dict(self._report)

    def vocode(self, mel: np.ndarray) -> tuple[np.ndarray, int]:
        """Mel ``(T, M)`` to samples ``(L,)`` float32 and the sample rate in Hz.

        Raises:
            DataError: wrong shape, too few frames, or a value that is not finite.
        """
        import torch

        values = checked(mel, self.front_end, self.kind)
        if len(values) < self.least:
            raise DataError(f"{self.kind} needs mels of at least {self.least} frames, got {len(values)}")
        with torch.inference_mode():
            given = torch.from_numpy(np.ascontiguousarray(values.T)).unsqueeze(0).to(self.device)
            samples = self.module(given).float().cpu().numpy()
        return samples.reshape(-1), self.front_end.sample_rate


def checked(mel: np.ndarray, frontend: FrontEnd, kind: str) -> np.ndarray:
    """A mel that a vocoder can take, float32.

    Raises:
        DataError: wrong shape (both bin counts are named), no frames, or a value that is not finite.
    """
    values = np.asarray(mel)
    if values.ndim != 2 or values.shape[1] != frontend.n_mels:
        turned = values.ndim == 2 and values.shape[0] == frontend.n_mels
        found = f"{values.shape[1]} mel bins" if values.ndim == 2 else f"shape {values.shape}"
        raise DataError(f"the mel has {found}, but {kind} takes {frontend.n_mels}", hint="it looks transposed: (M, T) for (T, M)" if turned else None)  # fmt: skip
    if not len(values):
        raise DataError("the mel has no frames")
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise DataError(f"the mel holds {bad} NaN or infinite values of {values.size}; no audio was made")
    return values.astype(np.float32)


# --- files and options ------------------------------------------------------------------------------------------------


def check_options(kind: str, options: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse an option that the vocoder does not have.

    Raises:
        UsageError: with the nearest.
    """
    for key in options:
        if key not in known:
            raise UsageError(f"{kind}: unknown option {key!r}", hint=nearest(key, known))


def files(
    kind: str, checkpoint: str | None, config: str | None, configs: Sequence[str], patterns: Sequence[str]
) -> tuple[Path, Path]:
    """The weights file and the configuration file.

    Args:
        kind: the vocoder, for messages.
        checkpoint: a file, or a folder in which one is searched.
        config: the configuration, where it is not beside the weights.
        configs: names of the configuration, the commonest first.
        patterns: of weights files in a folder; of several ``g_*`` (steps of a training) the last is taken.

    Raises:
        UsageError: no checkpoint was named, or a folder holds several (they are listed).
        DataError: no such file.
    """
    if checkpoint is None:
        raise UsageError(f"{kind} needs its weights", hint="give --vocoder-checkpoint FILE|DIR")
    path = Path(checkpoint)
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        path = _weights_in(kind, path, patterns)
    elif not path.is_file():
        raise DataError(f"--vocoder-checkpoint {checkpoint}: no such file or folder")
    if config is not None:
        if not Path(config).is_file():
            raise DataError(f"--vocoder-option config={config}: no such file")
        return path, Path(config)
    for name in configs:
        if (folder / name).is_file():
            return path, folder / name
    raise DataError(
        f"{folder} has no {' or '.join(configs)}: the weights of {kind} say neither its size nor its front end",
        hint="put it beside the weights, or name it with --vocoder-option config=FILE",
    )


def _weights_in(kind: str, folder: Path, patterns: Sequence[str]) -> Path:
    for pattern in patterns:
        found = sorted(path for path in folder.glob(pattern) if path.is_file() and path.suffix not in {".json", ".yaml", ".yml"})  # fmt: skip
        if pattern == "g_*" and found:
            return found[-1]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(path.name for path in found[:_SHOWN])
            raise UsageError(f"{folder} holds several checkpoints: {names}", hint="name the file")
    raise DataError(f"{folder} holds no weights of {kind}; they are called {', '.join(patterns)}")


def declared(config: Path, frontend: Any, **facts: int) -> FrontEnd:
    """The front end that a configuration says, or that the user says for it; what the network's own numbers contradict is an error.

    Args:
        config: the configuration file.
        frontend: the option ``frontend``, or None.
        facts: fields of the front end that the network decides (``n_mels``, ``hop_length``, ``sample_rate``).

    Raises:
        UsageError: the user's front end contradicts the network.
        DataError: the configuration contradicts itself, or is of no system that is known.
    """
    front_end = FrontEnd.load(config if frontend is None else frontend)
    require(front_end, facts, f"--vocoder-option frontend={frontend}" if frontend is not None else str(config))
    return front_end


def require(front_end: FrontEnd, facts: Mapping[str, int], who: str) -> None:
    """Fields that the network decides.

    Raises:
        DataError: they differ.
    """
    wrong = [f"{key} {getattr(front_end, key)}, but the network makes it {value}" for key, value in facts.items() if getattr(front_end, key) != value]  # fmt: skip
    if wrong:
        raise DataError(f"{who}: the front end has {'; '.join(wrong)}")


class Settings:
    """A network's configuration with typed access; errors name the file and the key.

    Args:
        values: the mapping.
        where: for messages.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def _get(self, key: str, default: Any) -> Any:
        if key in self.values and self.values[key] is not None:
            return self.values[key]
        if default is None:
            raise DataError(f"{self.where}: {key} is missing")
        return default

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1 or value < 1:
            raise DataError(f"{self.where}: {key} is {value!r:.60}; it must be a whole number of at least 1")
        return int(value)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise DataError(f"{self.where}: {key} is {value!r:.60}; it must be a number")
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise DataError(f"{self.where}: {key} is {value!r:.60}; it must be true or false")
        return value

    def wholes(self, key: str) -> list[int]:
        """A list of whole numbers of at least 1."""
        return _wholes(self._get(key, None), self.where, key)

    def lists(self, key: str) -> list[list[int]]:
        """A list of such lists."""
        value = self._get(key, None)
        if not isinstance(value, list) or not value:
            raise DataError(f"{self.where}: {key} is {value!r:.60}; it must be a list of lists")
        return [_wholes(item, self.where, key) for item in value]


def _wholes(value: Any, where: str, key: str) -> list[int]:
    good = isinstance(value, list) and value and all(isinstance(v, int) and not isinstance(v, bool) and v >= 1 for v in value)  # fmt: skip
    if not good:
        raise DataError(f"{where}: {key} is {value!r:.60}; it must be a list of whole numbers of at least 1")
    return list(value)
