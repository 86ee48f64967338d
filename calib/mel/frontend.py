"""``FrontEnd``: audio to mel, with every parameter that the field's systems differ in.

The steps, in order::

    audio (L,)  -> prepare: trim, peak level, pre-emphasis
                -> pad, frame, window, FFT, magnitude or power
                -> mel filterbank
                -> guard and logarithm
                -> affine / per-bin / per-utterance normalisation, clip   -> mel (T, M)

Conventions:
    Mels are float32 ``(T, M)``. Frequencies are in Hz, lengths in samples, log values in the unit that ``log`` names.
    The identity ``FrontEnd.id`` hashes the fields that differ from their defaults; names and sources are not in it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from calib.data.files import digest, read_json
from calib.errors import DataError, UsageError, nearest
from calib.mel.arrays import ArrayNamespace, namespace
from calib.mel.filterbank import mel_filterbank

__all__ = ["CatalogueEntry", "FrontEnd", "catalogue"]

# Frames a block. The float64 intermediates of 64 frames at n_fft 1024 are 0.5 MB each: they stay in the cache, and the
# allocator reuses them; from 96 frames on it maps fresh pages for every block (4.8 against 13.5 us a frame, measured).
_BLOCK = 64

_CHOICES: dict[str, tuple[object, ...]] = {
    "window": ("hann", "hamming", "rectangular"),
    "padding": ("center", "same", "end", "none"),
    "pad_mode": ("reflect", "constant"),
    "mel_scale": ("slaney", "htk"),
    "filter_norm": ("slaney", None),
    "power": (1, 2),
    "spectrum_eps_mode": ("add", "clamp"),
    "log": ("ln", "log10", "none"),
    "log_guard": ("clamp", "add"),
    "utterance_norm": (None, "minmax", "instance"),
}

# Whole numbers, with the lowest allowed value; 0 stands for another field.
_WHOLE = {
    "sample_rate": 1, "n_fft": 1, "win_length": 0, "hop_length": 1, "n_mels": 1, "trim_frame_length": 1, "trim_hop_length": 1, "fb_sample_rate": 0, "power": 1,
}  # fmt: skip


@dataclass(frozen=True)
class FrontEnd:
    """Every parameter of a mel front end. Defaults are Tacotron 2's with ``fmax`` at half the sample rate.

    Args:
        sample_rate: in Hz; audio at another rate is resampled before it comes here.
        trim_top_db: cut leading and trailing audio quieter than this many dB below the loudest frame; None: no trim.
        trim_frame_length: frame of the trim's RMS, in samples.
        trim_hop_length: hop of the trim's RMS, in samples.
        peak_norm: scale so that the largest absolute sample is this; None: leave the level.
        preemphasis: coefficient a of ``y[n] = x[n] - a x[n-1]``; 0: none.
        n_fft: FFT length in samples.
        win_length: window length in samples, centred in ``n_fft``; 0 stands for ``n_fft``.
        hop_length: samples between frames.
        window: ``hann``, ``hamming`` or ``rectangular``.
        window_periodic: periodic (scipy ``fftbins=True``) or symmetric window.
        padding: ``center`` pads n_fft // 2 on both sides; ``same`` (n_fft - hop_length) // 2; ``end`` zeros at the end
            only, up to ceil(L / hop_length) frames; ``none`` nothing.
        pad_mode: ``reflect`` or ``constant`` (zeros).
        n_mels: number of mel bins M.
        fmin: lowest filter edge in Hz.
        fmax: highest filter edge in Hz; 0 stands for half the filterbank's sample rate.
        mel_scale: ``slaney`` or ``htk``.
        filter_norm: ``slaney`` (unit area) or None.
        fb_sample_rate: sample rate that the filterbank was built for, in Hz, where it differs (a known bug in the
            wild); 0 stands for ``sample_rate``.
        power: 1 for magnitude, 2 for power.
        spectrum_eps: added to (or clamping) the squared magnitude before the root.
        spectrum_eps_mode: ``add`` or ``clamp``.
        log: ``ln``, ``log10`` or ``none``.
        log_multiplier: factor after the logarithm (20 for dB of magnitude).
        log_eps: guard before the logarithm.
        log_guard: ``clamp``: log(max(x, eps)); ``add``: log(x + eps).
        post_scale: mel times this ...
        post_offset: ... plus this, after the logarithm.
        post_mean: per-bin means subtracted after that (M values), or None.
        post_std: per-bin divisors, or None.
        utterance_norm: ``minmax`` to [0, 1] by utterance, ``instance`` (mean 0, sd 1 by utterance and bin), or None.
        clip_min: lowest value at the very end, or None.
        clip_max: highest value, or None.

    Raises:
        UsageError: a value outside its choices or its range, with the field's name.

    Example:
        >>> FrontEnd.load("hifigan").n_frames(22050)
        86
    """

    sample_rate: int = 22050
    trim_top_db: float | None = None
    trim_frame_length: int = 2048
    trim_hop_length: int = 512
    peak_norm: float | None = None
    preemphasis: float = 0.0
    n_fft: int = 1024
    win_length: int = 0
    hop_length: int = 256
    window: str = "hann"
    window_periodic: bool = True
    padding: str = "center"
    pad_mode: str = "reflect"
    n_mels: int = 80
    fmin: float = 0.0
    fmax: float = 0.0
    mel_scale: str = "slaney"
    filter_norm: str | None = "slaney"
    fb_sample_rate: int = 0
    power: int = 1
    spectrum_eps: float = 0.0
    spectrum_eps_mode: str = "add"
    log: str = "ln"
    log_multiplier: float = 1.0
    log_eps: float = 1e-5
    log_guard: str = "clamp"
    post_scale: float = 1.0
    post_offset: float = 0.0
    post_mean: tuple[float, ...] | None = None
    post_std: tuple[float, ...] | None = None
    utterance_norm: str | None = None
    clip_min: float | None = None
    clip_max: float | None = None

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                options = ", ".join(str(option) for option in allowed)
                raise UsageError(f"front end: {name} is {getattr(self, name)!r}; it must be one of {options}")
        for name, lowest in _WHOLE.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1 or value < lowest:
                raise UsageError(
                    f"front end: {name} must be a {'positive ' if lowest else ''}whole number, got {value!r}"
                )
            object.__setattr__(self, name, int(value))
        self._canonicalise()
        nyquist = self.fb_sample_rate / 2
        if not 0 <= self.fmin < self.fmax <= nyquist:
            raise UsageError(
                f"front end: need 0 <= fmin < fmax <= {nyquist:g} Hz, got fmin {self.fmin:g}, fmax {self.fmax:g}"
            )
        if self.win_length > self.n_fft:
            raise UsageError(f"front end: win_length {self.win_length} is longer than n_fft {self.n_fft}")
        if self.log != "none" and self.log_eps <= 0:
            raise UsageError(f"front end: log_eps must be positive, got {self.log_eps!r}")
        for name in ("post_mean", "post_std"):
            values = getattr(self, name)
            if values is not None and len(values) != self.n_mels:
                raise UsageError(f"front end: {name} has {len(values)} values for {self.n_mels} mel bins")
        if self.padding == "same" and self.hop_length > self.n_fft:
            raise UsageError(
                f"front end: padding same needs hop_length <= n_fft, got {self.hop_length} and {self.n_fft}"
            )
        for name in ("trim_top_db", "peak_norm"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise UsageError(f"front end: {name} must be positive, got {getattr(self, name)!r}")
        for name in ("post_scale", "log_multiplier"):
            if getattr(self, name) == 0:
                raise UsageError(f"front end: {name} must not be 0")
        if self.spectrum_eps < 0:
            raise UsageError(f"front end: spectrum_eps must not be negative, got {self.spectrum_eps!r}")
        if self.post_std is not None and min(self.post_std) <= 0:
            raise UsageError(f"front end: post_std must be positive, got {min(self.post_std)!r}")
        if self.clip_min is not None and self.clip_max is not None and self.clip_min >= self.clip_max:
            raise UsageError(f"front end: clip_min {self.clip_min:g} is not below clip_max {self.clip_max:g}")

    def _canonicalise(self) -> None:
        """Spell out what stands for something else, so that two ways of saying the same thing have one identity."""
        put = functools.partial(object.__setattr__, self)
        put("win_length", self.win_length or self.n_fft)
        put("fb_sample_rate", self.fb_sample_rate or self.sample_rate)
        put("fmax", self.fmax or self.fb_sample_rate / 2)
        # Parameters of a step that is not taken change nothing, so they must not change the identity.
        unused = {"trim_frame_length", "trim_hop_length"} if self.trim_top_db is None else set()
        unused |= {"pad_mode"} if self.padding in {"end", "none"} else set()
        unused |= {"log_eps", "log_guard", "log_multiplier"} if self.log == "none" else set()
        unused |= {"spectrum_eps_mode"} if not self.spectrum_eps else set()
        for item in dataclasses.fields(self):
            if item.name in unused:
                put(item.name, item.default)
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if "float" not in str(item.type) or value is None:
                continue
            try:
                value = tuple(float(v) for v in value) if "tuple" in str(item.type) else float(value)
            except OverflowError:
                value = math.inf
            if not all(map(math.isfinite, value if isinstance(value, tuple) else (value,))):
                raise UsageError(f"front end: {item.name} must be finite, got {getattr(self, item.name)!r:.80}")
            put(item.name, value)

    # --- names and identity -------------------------------------------------------------------------------------

    @classmethod
    def load(cls, spec: FrontEnd | str | Path | Mapping[str, Any]) -> FrontEnd:
        """A front end from a catalogue id or alias, a YAML or JSON file, or a mapping of fields.

        Raises:
            UsageError: unknown name (the nearest is suggested), unknown field, value out of range.
            DataError: the file cannot be read.
        """
        if isinstance(spec, FrontEnd):
            return spec
        if isinstance(spec, Mapping):
            return cls.from_fields(spec)
        name = str(spec)
        entries = catalogue()
        if name in entries:
            return entries[name].frontend
        path = Path(name)
        if path.suffix in {".yaml", ".yml", ".json"}:
            return cls._from_file(path)
        known = [*{entry.id for entry in entries.values()}, *(a for entry in entries.values() for a in entry.aliases)]
        raise UsageError(f"unknown front end {name!r}", hint=nearest(name, known))

    @classmethod
    def _from_file(cls, path: Path) -> FrontEnd:
        if path.suffix == ".json":
            data = read_json(path)
        else:
            import yaml

            try:
                data = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
            except FileNotFoundError:
                raise DataError(f"{path}: no such file") from None
            except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
                raise DataError(f"{path}: cannot be read as YAML: {error}") from None
        if isinstance(data, Mapping) and isinstance(data.get("frontend"), Mapping):
            data = data["frontend"]  # a statistics file carries its front end
        if not isinstance(data, Mapping):
            raise UsageError(f"{path}: expected front end fields, got {type(data).__name__}")
        return cls.from_fields(data)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> FrontEnd:
        """From a mapping of field names to values; what is not named keeps its default.

        Raises:
            UsageError: unknown field (the nearest is suggested), wrong type, value out of range.
        """
        known = {item.name: item for item in dataclasses.fields(cls)}
        for key, value in fields.items():
            if key not in known:
                raise UsageError(f"front end: unknown field {key!r}", hint=nearest(str(key), known))
            kind = str(known[key].type)
            good = (
                (value is None and "None" in kind)
                or ("bool" in kind and isinstance(value, bool))
                or (
                    ("int" in kind or "float" in kind)
                    and isinstance(value, (int, float))
                    and not isinstance(value, bool)
                )
                or ("str" in kind and isinstance(value, str))
                or (
                    "tuple" in kind
                    and isinstance(value, (list, tuple))
                    and all(isinstance(v, (int, float)) for v in value)
                )
            )
            if not good:
                hint = (
                    "YAML reads 1e-5 as a text; write 1.0e-5" if isinstance(value, str) and _is_number(value) else None
                )
                raise UsageError(f"front end: {key} cannot be {value!r}; it is {kind}", hint=hint)
        return cls(**fields)

    def fields(self) -> dict[str, Any]:
        """Every field, as plain JSON values."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(self).items()
        }

    @functools.cached_property
    def id(self) -> str:
        """Identity: a hash of the canonical JSON of the fields that differ from their defaults."""
        default = _DEFAULT.fields()
        return "fe-" + digest({key: value for key, value in self.fields().items() if value != default[key]})

    @property
    def name(self) -> str:
        """Catalogue id, or ``custom``."""
        for entry in catalogue().values():
            if entry.frontend == self:
                return entry.id
        return "custom"

    def differences(self, other: FrontEnd) -> dict[str, tuple[Any, Any]]:
        """Fields that differ: name to (mine, theirs)."""
        mine, theirs = self.fields(), other.fields()
        return {key: (mine[key], theirs[key]) for key in mine if mine[key] != theirs[key]}

    # --- geometry -----------------------------------------------------------------------------------------------

    @property
    def pad_each_side(self) -> int:
        """Samples added before the first sample (and, but for ``end``, after the last)."""
        return {"center": self.n_fft // 2, "same": (self.n_fft - self.hop_length) // 2}.get(self.padding, 0)

    def n_frames(self, n_samples: int) -> int:
        """Frames that ``n_samples`` of prepared audio give."""
        if self.padding == "end":
            return -(-n_samples // self.hop_length)
        return max(0, 1 + (n_samples + 2 * self.pad_each_side - self.n_fft) // self.hop_length)

    @property
    def floor(self) -> float | None:
        """The value of digital silence where the guard makes it a point mass, in the mel's unit; None where it is not."""
        if (
            self.log == "none"
            or self.log_guard != "clamp"
            or self.post_mean is not None
            or self.post_std is not None
            or self.utterance_norm is not None
        ):
            return None
        value = self._log_scale * math.log(self.log_eps) * self.post_scale + self.post_offset
        return float(np.float32(value if self.clip_min is None else max(value, self.clip_min)))

    @property
    def _log_scale(self) -> float:
        return self.log_multiplier / (math.log(10.0) if self.log == "log10" else 1.0)

    @property
    def unit(self) -> str:
        """The unit of a mel value, for people."""
        quantity = "power" if self.power == 2 else "magnitude"
        if self.log == "none":
            return f"linear {quantity}"
        gain = "" if self.log_multiplier == 1 else f"{self.log_multiplier:g} "
        normalised = self.post_scale != 1 or self.post_offset or self.post_mean is not None or self.utterance_norm
        return f"{gain}{self.log} {quantity}{', normalised' if normalised else ''}"

    def basis(self) -> np.ndarray:
        """The mel filterbank, float32 ``(M, n_fft // 2 + 1)``, read-only."""
        return mel_filterbank(
            self.fb_sample_rate, self.n_fft, self.n_mels, self.fmin, self.fmax, self.mel_scale, self.filter_norm
        )

    def window_array(self) -> np.ndarray:
        """The analysis window, centred in ``n_fft`` zeros; float64 ``(n_fft,)``."""
        n = self.win_length
        phase = 2.0 * np.pi * np.arange(n) / (n if self.window_periodic else max(n - 1, 1))
        shape = {"hann": 0.5 - 0.5 * np.cos(phase), "hamming": 0.54 - 0.46 * np.cos(phase), "rectangular": np.ones(n)}[
            self.window
        ]
        out = np.zeros(self.n_fft)
        start = (self.n_fft - n) // 2
        out[start : start + n] = shape
        return out

    # --- audio to mel -------------------------------------------------------------------------------------------

    def prepare(self, samples: np.ndarray) -> np.ndarray:
        """Audio preparation: trim, peak level, pre-emphasis; ``(L,)`` to ``(L',)`` float32.

        Raises:
            DataError: empty or non-finite audio.
        """
        x = np.asarray(samples, dtype=np.float32)
        if x.ndim != 1 or x.size == 0:
            raise DataError(f"audio must be mono and not empty, got shape {x.shape}")
        if not np.isfinite(x).all():
            raise DataError("audio holds NaN or infinite samples")
        if self.trim_top_db is not None:
            x = self._trim(x)
        if self.peak_norm is not None and (peak := float(np.abs(x).max())) > 0:
            x = x * np.float32(self.peak_norm / peak)
        if self.preemphasis:
            x = np.concatenate([x[:1], x[1:] - np.float32(self.preemphasis) * x[:-1]])
        return x

    def _trim(self, x: np.ndarray) -> np.ndarray:
        """Cut the ends whose centred, zero-padded RMS is ``trim_top_db`` below the maximum (librosa's definition)."""
        assert self.trim_top_db is not None
        half = self.trim_frame_length // 2
        energy = np.concatenate([[0.0], np.cumsum(np.pad(x, half).astype(np.float64) ** 2)])
        starts = np.arange(0, x.size + 2 * half - self.trim_frame_length + 1, self.trim_hop_length)
        power = np.maximum((energy[starts + self.trim_frame_length] - energy[starts]) / self.trim_frame_length, 1e-10)
        loud = np.flatnonzero(10.0 * np.log10(power / power.max()) > -self.trim_top_db)
        if loud.size == 0:
            return x[:0]
        return x[loud[0] * self.trim_hop_length : min(x.size, (loud[-1] + 1) * self.trim_hop_length)]

    def mel(self, samples: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Audio at ``sample_rate`` to its mel.

        Args:
            samples: mono, ``(L,)``, in [-1, 1].
            device: ``cpu`` (numpy) or a torch device.

        Returns:
            float32 ``(T, M)`` with ``T = n_frames(len(prepare(samples)))``.

        Raises:
            DataError: empty, non-finite, or too short to be padded or to fill one frame.
        """
        return self.mel_of_prepared(self.prepare(samples), device)

    def mel_of_prepared(self, x: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Like `mel`, for audio that `prepare` has seen."""
        pad, count = self.pad_each_side, self.n_frames(x.size)
        if count < 1 or (self.padding in {"center", "same"} and self.pad_mode == "reflect" and x.size <= pad):
            need = max(pad + 1, self.n_fft - 2 * pad)
            raise DataError(f"audio of {x.size} samples is too short for this front end, which needs at least {need}")
        xp = namespace(device)
        signal = xp.asarray(x)
        if self.padding == "end":
            signal = (
                xp.pad(signal, 0, (count - 1) * self.hop_length + self.n_fft - x.size, "constant")
                if (count - 1) * self.hop_length + self.n_fft > x.size
                else signal
            )
        elif pad:
            signal = xp.pad(signal, pad, pad, self.pad_mode)
        frames = xp.frames(signal, self.n_fft, self.hop_length)
        window, bank = xp.window(self.window_array()), xp.asarray(self.basis().T)
        out = np.empty((count, self.n_mels), dtype=np.float32)
        for start in range(0, count, _BLOCK):
            stop = min(start + _BLOCK, count)
            out[start:stop] = xp.to_numpy(self._analyse(xp, frames[start:stop], window, bank))
        return self._finish(out)

    def _analyse(self, xp: ArrayNamespace, frames: Any, window: Any, bank: Any) -> Any:
        """One block: ``(t, n_fft)`` frames to ``(t, M)`` log mels with the scalar affine map."""
        spectrum = xp.power_spectrum(frames * window)
        if self.spectrum_eps:
            spectrum = (
                spectrum + self.spectrum_eps
                if self.spectrum_eps_mode == "add"
                else xp.maximum(spectrum, self.spectrum_eps)
            )
        if self.power == 1:
            spectrum = xp.sqrt(spectrum)
        mel = spectrum @ bank
        if self.log != "none":
            mel = xp.log(xp.maximum(mel, self.log_eps) if self.log_guard == "clamp" else mel + self.log_eps)
            if self._log_scale != 1.0:
                mel = mel * self._log_scale
        if self.post_scale != 1.0 or self.post_offset:
            mel = mel * self.post_scale + self.post_offset
        return mel

    def _finish(self, mel: np.ndarray) -> np.ndarray:
        """What needs bins or the whole utterance: per-bin and per-utterance normalisation, clip."""
        if self.post_mean is not None:
            mel = mel - np.asarray(self.post_mean, dtype=np.float32)
        if self.post_std is not None:
            mel = mel / np.asarray(self.post_std, dtype=np.float32)
        if self.utterance_norm == "minmax":
            mel = (mel - mel.min()) / max(float(mel.max() - mel.min()), 1e-6)
        elif self.utterance_norm == "instance":
            mel = (mel - mel.mean(0)) / np.sqrt(mel.var(0) + 1e-5)
        if self.clip_min is not None or self.clip_max is not None:
            mel = np.clip(mel, self.clip_min, self.clip_max)
        return mel.astype(np.float32, copy=False)

    # --- and back -----------------------------------------------------------------------------------------------

    def to_linear(self, mel: np.ndarray) -> np.ndarray:
        """Undo normalisation and logarithm: ``(T, M)`` mel to linear filterbank outputs (magnitude or power).

        Values at the guard come back as the guard (``clamp``) or as zero (``add``).

        Raises:
            UsageError: the front end normalises by utterance, which cannot be undone.
        """
        if self.utterance_norm is not None:
            raise UsageError(
                f"a mel normalised by utterance ({self.utterance_norm}) cannot be brought back to linear scale"
            )
        x = np.asarray(mel, dtype=np.float64)
        if self.post_std is not None:
            x = x * np.asarray(self.post_std)
        if self.post_mean is not None:
            x = x + np.asarray(self.post_mean)
        x = (x - self.post_offset) / self.post_scale
        if self.log == "none":
            return np.maximum(x, 0.0)
        # 40 nepers is 10^17: a mel that far out is noise, and exp of it would only overflow later.
        x = np.exp(np.clip(x / self._log_scale, -40.0, 40.0))
        return np.maximum(x - self.log_eps, 0.0) if self.log_guard == "add" else x


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_DEFAULT = FrontEnd()


@dataclass(frozen=True)
class CatalogueEntry:
    """A named front end: where it was read and how its system stores mels.

    Args:
        id: canonical name.
        frontend: its parameters.
        aliases: fixed short names.
        title: for people.
        source: repository, commit and files.
        layout: ``MT`` or ``TM``.
        notes: what the parameters do not say.
    """

    id: str
    frontend: FrontEnd
    aliases: tuple[str, ...]
    title: str
    source: str
    layout: str
    notes: str = ""


@functools.cache
def catalogue() -> dict[str, CatalogueEntry]:
    """Every named front end, by id and by alias.

    Raises:
        UsageError: the catalogue itself is malformed (a bug, caught by a test).
    """
    import yaml

    text = resources.files("calib.mel").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    out: dict[str, CatalogueEntry] = {}
    for row in yaml.safe_load(text):
        entry = CatalogueEntry(
            row["id"],
            FrontEnd.from_fields(row.get("fields", {})),
            tuple(row.get("aliases", ())),
            row["title"],
            row["source"],
            row["layout"],
            row.get("notes", ""),
        )
        for name in (entry.id, *entry.aliases):
            if name in out:
                raise UsageError(f"catalogue: {name!r} stands twice")
            out[name] = entry
    return out
