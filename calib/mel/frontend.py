"""``FrontEnd``: audio to mel, with every parameter that the field's systems differ in.

The steps, in order::

    audio (L,)  -> prepare: trim, RMS level, peak level, clip, pre-emphasis
                -> pad, frame, window, FFT, magnitude or power
                -> mel filterbank                                       linear (T, M)
                -> guard and logarithm
                -> affine / per-bin / per-utterance normalisation, clip
                -> frames overwritten at the end                        mel (T, M)

The steps themselves are in `calib.mel.analysis`, what the fields may be in `calib.mel.fields`, names and files in
`calib.mel.loading`, the named front ends in `calib.mel.catalogue`.

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
from pathlib import Path
from typing import Any

import numpy as np

from calib.data.files import digest
from calib.errors import UsageError
from calib.mel import analysis
from calib.mel import fields as rules
from calib.mel.filterbank import mel_filterbank

__all__ = ["FrontEnd"]

# What does not touch the filterbank outputs: the guard, the logarithm and all that follows, frame by frame.
_AFTER_THE_BANK = {
    "spectrum_eps", "spectrum_eps_mode", "log", "log_multiplier", "log_eps", "log_guard", "post_scale", "post_offset", "post_mean", "post_std", "utterance_norm",
    "utterance_range", "clip_min", "clip_max", "overwrite_last", "overwrite_value",
}  # fmt: skip


@dataclass(frozen=True)
class FrontEnd:
    """Every parameter of a mel front end. Defaults are Tacotron 2's with ``fmax`` at half the sample rate.

    Args:
        sample_rate: in Hz; audio at another rate is resampled before it comes here.
        trim_top_db: cut leading and trailing audio quieter than this many dB below the loudest frame; None: no trim.
        trim_frame_length: frame of the trim's RMS, in samples.
        trim_hop_length: hop of the trim's RMS, in samples.
        rms_norm: scale so that the root mean square of the utterance is this; None: leave the level.
        peak_norm: scale so that the largest absolute sample is this (after ``rms_norm``); None: leave the level.
        clip_audio: clip samples to plus and minus this (after the levels); None: do not.
        preemphasis: coefficient a of ``y[n] = x[n] - a x[n-1]``; 0: none.
        preemphasis_pad: what lies before the first sample: ``none`` (a zero) or ``reflect`` (the second sample).
        pad_audio: zeros added on each side of the audio before any other padding, in samples.
        n_fft: FFT length in samples.
        win_length: window length in samples, centred in ``n_fft``; 0 stands for ``n_fft``.
        hop_length: samples between frames.
        window: ``hann``, ``hamming`` or ``rectangular``.
        window_periodic: periodic (scipy ``fftbins=True``) or symmetric window.
        padding: ``center`` pads n_fft // 2 on both sides; ``same`` (n_fft - hop_length) // 2; ``end`` zeros at the end
            only, up to ceil(L / hop_length) frames; ``none`` nothing.
        pad_mode: ``reflect`` or ``constant`` (zeros).
        drop_last: frames dropped at the end.
        frame_multiple: frames are dropped at the end until their number is a multiple of this.
        n_mels: number of mel bins M.
        fmin: lowest filter edge in Hz.
        fmax: highest filter edge in Hz; 0 stands for half the filterbank's sample rate.
        mel_scale: ``slaney``, ``htk``, or ``htk_tf`` (TensorFlow's: the htk scale, triangles that are linear in mel
            and not in Hz, and no DC bin).
        filter_norm: ``slaney`` (unit area) or None.
        fb_sample_rate: sample rate that the filterbank was built for, in Hz, where it differs (a known bug in the
            wild); 0 stands for ``sample_rate``.
        power: 1 for magnitude, 2 for power.
        spectrum_eps: added to (or clamping) the squared magnitude before the root.
        spectrum_eps_mode: ``add`` or ``clamp``.
        log: ``ln``, ``log10`` or ``none``.
        log_multiplier: factor after the logarithm (20 for dB of magnitude).
        log_eps: guard before the logarithm.
        log_guard: ``clamp``: log(max(x, eps)); ``add``: log(x + eps); ``none``: log(x), where ``spectrum_eps`` guards.
        post_scale: mel times this ...
        post_offset: ... plus this, after the logarithm.
        post_mean: per-bin means subtracted after that (M values), or None.
        post_std: per-bin divisors, negative ones too (XTTS), or None.
        utterance_norm: ``minmax`` to [0, 1] by utterance, ``instance`` (mean 0, sd 1 by utterance and bin),
            ``dynamic_max`` (max(x, max(x) - utterance_range) before ``post_scale`` and ``post_offset``), or None.
        utterance_range: range of ``dynamic_max``, in the unit of the logarithm.
        clip_min: lowest value after all that, or None.
        clip_max: highest value, or None.
        overwrite_last: frames at the end that hold ``overwrite_value`` in place of what was computed.
        overwrite_value: what they hold, in the mel's own unit.

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
    rms_norm: float | None = None
    peak_norm: float | None = None
    clip_audio: float | None = None
    preemphasis: float = 0.0
    preemphasis_pad: str = "none"
    pad_audio: int = 0
    n_fft: int = 1024
    win_length: int = 0
    hop_length: int = 256
    window: str = "hann"
    window_periodic: bool = True
    padding: str = "center"
    pad_mode: str = "reflect"
    drop_last: int = 0
    frame_multiple: int = 1
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
    utterance_range: float = 8.0
    clip_min: float | None = None
    clip_max: float | None = None
    overwrite_last: int = 0
    overwrite_value: float = 0.0

    def __post_init__(self) -> None:
        rules.check_values(self)
        rules.canonicalise(self)
        rules.check_ranges(self)

    # --- names and identity -------------------------------------------------------------------------------------

    @classmethod
    def load(cls, spec: FrontEnd | str | Path | Mapping[str, Any]) -> FrontEnd:
        """A front end from what a person or a file says.

        Args:
            spec: a catalogue id or alias; ``NAME@STATSFILE`` (that front end, normalised with a foreign statistics
                file); a YAML or JSON file of fields, or another system's configuration; a mapping of fields, with
                ``base`` (any of these) and ``stats`` (a file) where wanted.

        Raises:
            UsageError: unknown name (the nearest is suggested), unknown field, value out of range, statistics that
                do not belong to this front end.
            DataError: the file cannot be read.
        """
        from calib.mel.loading import load

        return load(spec)

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> FrontEnd:
        """From a mapping of field names to values; what is not named keeps its default.

        Raises:
            UsageError: unknown field (the nearest is suggested), wrong type, value out of range.
        """
        rules.check_names_and_types(values, {item.name: str(item.type) for item in dataclasses.fields(cls)})
        return cls(**values)

    def with_statistics(self, mean: np.ndarray | float | None, std: np.ndarray | float) -> FrontEnd:
        """This front end followed by (x - mean) / std, per bin ``(M,)`` or with two numbers.

        Args:
            mean: None only divides.
            std: divisors; they may be negative, but not 0.

        Raises:
            UsageError: the front end normalises already, a wrong number of bins, a divisor 0, or not finite.
        """
        if self.normalises:
            raise UsageError(
                "front end: it normalises already; statistics belong to the front end before its normalisation"
            )
        if np.ndim(std) == 0 and (mean is None or np.ndim(mean) == 0):
            if float(std) == 0:
                raise UsageError("front end: the statistics divide by 0")
            return dataclasses.replace(self, post_scale=1.0 / float(std), post_offset=-float(mean or 0.0) / float(std))
        divisor = np.broadcast_to(np.asarray(std, dtype=np.float64), (np.size(std) if np.ndim(std) else self.n_mels,))
        subtracted = None if mean is None else tuple(np.broadcast_to(np.asarray(mean, dtype=np.float64), divisor.shape))
        return dataclasses.replace(self, post_mean=subtracted, post_std=tuple(divisor))

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

    @functools.cached_property
    def family(self) -> str:
        """Hash of the fields that decide the filterbank outputs: audio preparation, STFT, bank, power, frames.

        Two front ends of one family are related by an exact elementwise map away from guards, clips and overwritten
        frames. An area norm of the filters more or less is another family, though exact too: `bank_norm_offset`.
        """
        return "ff-" + digest({key: value for key, value in self.fields().items() if key not in _AFTER_THE_BANK})

    def bank_norm_offset(self, other: FrontEnd) -> np.ndarray | None:
        """ln(linear of ``other``) - ln(linear of this one) by bin, ``(M,)``; None where it is not a constant by bin.

        It is where nothing else than ``filter_norm`` differs before the logarithm: zeros for one family.
        """
        if dataclasses.replace(self, filter_norm=other.filter_norm).family != other.family:
            return None
        mine, theirs = (np.asarray(fe.basis(), dtype=np.float64).max(1) for fe in (self, other))
        return np.asarray(np.log(np.maximum(theirs, 1e-300) / np.maximum(mine, 1e-300)))

    @property
    def name(self) -> str:
        """Catalogue id (the first, where several systems have this mel), or ``custom``."""
        from calib.mel.catalogue import equivalents

        return next(iter(equivalents(self)), "custom")

    def differences(self, other: FrontEnd) -> dict[str, tuple[Any, Any]]:
        """Fields that differ: name to (mine, theirs)."""
        mine, theirs = self.fields(), other.fields()
        return {key: (mine[key], theirs[key]) for key in mine if mine[key] != theirs[key]}

    # --- geometry -----------------------------------------------------------------------------------------------

    @property
    def pad_each_side(self) -> int:
        """Samples added before the first sample (and, but for ``end``, after the last)."""
        inner = {"center": self.n_fft // 2, "same": (self.n_fft - self.hop_length) // 2}.get(self.padding, 0)
        return self.pad_audio + inner

    @property
    def centre_offset(self) -> int:
        """Sample of the audio that the centre of frame 0 lies on; frame t lies on ``t * hop_length`` plus this."""
        return self.n_fft // 2 - self.pad_each_side

    def n_frames(self, n_samples: int) -> int:
        """Frames that ``n_samples`` of prepared audio give."""
        if self.padding == "end":
            count = -(-(n_samples + 2 * self.pad_audio) // self.hop_length)
        else:
            count = 1 + (n_samples + 2 * self.pad_each_side - self.n_fft) // self.hop_length
        count = max(0, count - self.drop_last)
        return count - count % self.frame_multiple

    @property
    def shortest_audio(self) -> int:
        """Samples of prepared audio that give the first mel."""
        first = (self.frame_multiple + self.drop_last - 1) * self.hop_length
        if self.padding == "end":
            return max(1, first + 1 - 2 * self.pad_audio)
        least = max(1, first + self.n_fft - 2 * self.pad_each_side)
        if self.padding != "none" and self.pad_mode == "reflect":
            least = max(least, self.pad_each_side - 3 * self.pad_audio + 1)
        return least

    # --- values ---------------------------------------------------------------------------------------------------

    @functools.cached_property
    def silence(self) -> np.ndarray:
        """The mel of digital silence by bin, float32 ``(M,)``, read-only."""
        power: np.ndarray = np.full((1, self.n_fft // 2 + 1), self.spectrum_eps)
        out: np.ndarray = dataclasses.replace(self, overwrite_last=0).finish(
            (np.sqrt(power) if self.power == 1 else power) @ self.basis().T.astype(np.float64)
        )[0]
        out.flags.writeable = False
        return out

    @functools.cached_property
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
        if self.spectrum_eps:
            # What was added before the bank can lift silence above the guard: then it lies elsewhere in every bin.
            power = math.sqrt(self.spectrum_eps) if self.power == 1 else self.spectrum_eps
            clipped = self.clip_min is not None and float(self.silence.max()) <= self.clip_min
            if power * float(self.basis().sum(1).max()) > self.log_eps and not clipped:
                return None
        value = self.log_scale * math.log(self.log_eps) * self.post_scale + self.post_offset
        return float(np.float32(value if self.clip_min is None else max(value, self.clip_min)))

    @property
    def log_scale(self) -> float:
        """Unit of the logarithm: a ln unit is this many of ``log`` times ``log_multiplier``."""
        return self.log_multiplier / (math.log(10.0) if self.log == "log10" else 1.0)

    @property
    def normalises(self) -> bool:
        """Whether anything follows the logarithm: a map, statistics, a normalisation by utterance, a clip."""
        return (
            self.post_scale != 1
            or self.post_offset != 0
            or self.post_mean is not None
            or self.post_std is not None
            or self.utterance_norm is not None
            or self.clip_min is not None
            or self.clip_max is not None
        )

    def affine_from_ln(self) -> tuple[np.ndarray, np.ndarray] | None:
        """``(a, b)``, each ``(M,)``: mel = a ln(x) + b with x the guarded filterbank output; None where it is no such map.

        It is none without a logarithm and where an utterance decides its own map.
        """
        if self.log == "none" or self.utterance_norm in {"minmax", "instance"}:
            return None
        std = np.ones(self.n_mels) if self.post_std is None else np.asarray(self.post_std)
        mean = np.zeros(self.n_mels) if self.post_mean is None else np.asarray(self.post_mean)
        return self.log_scale * self.post_scale / std, (self.post_offset - mean) / std

    @property
    def unit(self) -> str:
        """The unit of a mel value, for people."""
        quantity = "power" if self.power == 2 else "magnitude"
        if self.log == "none":
            return f"linear {quantity}"
        gain = "" if self.log_multiplier == 1 else f"{self.log_multiplier:g} "
        normalised = self.post_scale != 1 or self.post_offset or self.post_mean is not None or self.utterance_norm
        normalised = normalised or self.post_std is not None
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

    # --- audio to mel, and back -----------------------------------------------------------------------------------

    def prepare(self, samples: np.ndarray) -> np.ndarray:
        """Audio preparation: trim, levels, clip, pre-emphasis; ``(L,)`` to ``(L',)`` float32, float64 after ``rms_norm``.

        Raises:
            DataError: empty or non-finite audio.
        """
        return analysis.prepare(self, samples)

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
        return analysis.mel_of_prepared(self, x, device)

    def linear(self, samples: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Like `mel`, but only up to the filterbank: float32 ``(T, M)`` magnitudes or powers, before guard and logarithm."""
        return analysis.linear(self, self.prepare(samples), device)

    def finish(self, linear: np.ndarray) -> np.ndarray:
        """The rest: ``(T, M)`` filterbank outputs of one utterance to its mel, float32; ``finish(linear(x))`` is ``mel(x)``."""
        return analysis.finish(self, linear)

    def to_linear(self, mel: np.ndarray) -> np.ndarray:
        """Undo normalisation and logarithm: ``(T, M)`` mel to linear filterbank outputs (magnitude or power), float64.

        Values at the guard come back as the guard (``clamp``) or as zero (``add``); clipped and overwritten ones as
        what stands there.

        Raises:
            UsageError: the front end normalises by utterance, which cannot be undone.
        """
        return analysis.to_linear(self, mel)


_DEFAULT = FrontEnd()
