"""Configuration files of vocoders: HiFi-GAN and its kin, Vocos, ParallelWaveGAN, WaveGlow, Fish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calib.errors import DataError
from calib.mel.configs.found import Draft, Section, System, section, take_log_base, walk

__all__ = ["SYSTEMS"]

_HIFIGAN = {
    "sample_rate": "sampling_rate", "n_fft": "n_fft", "win_length": "win_size", "hop_length": "hop_size", "n_mels": "num_mels", "fmin": "fmin", "fmax": "fmax",
}  # fmt: skip


def _hifigan_keys(c: Mapping[str, Any]) -> bool:
    return {"num_mels", "hop_size", "win_size", "sampling_rate"} <= set(c) and "upsample_rates" in c


def _is_bigvgan(c: Mapping[str, Any]) -> bool:
    own = {"snake_logscale", "use_cqtd_instead_of_mrd", "use_multiscale_melloss"} & set(c)
    return _hifigan_keys(c) and (bool(own) or str(c.get("activation", "")).startswith("snake"))


def _hifigan(c: Mapping[str, Any], path: str) -> Draft:
    draft = Draft("hifigan_jik").take(Section(c, path), _HIFIGAN)
    draft.notes.append("training scales the audio to a peak of 0.95; inference and fine-tuning do not")
    nsf = (c.get("sampling_rate"), c.get("num_mels"), c.get("fmin"), c.get("fmax")) == (44100, 128, 40, 16000)
    if nsf:
        draft.notes.append(
            "these are the values of NSF-HiFiGAN: its mels are ln, or log10 in fish-diffusion and DiffSinger (front end fish_diffusion_nsf); the file does not say which"
        )
    return draft


def _bigvgan(c: Mapping[str, Any], path: str) -> Draft:
    draft = Draft("bigvgan_24k_100").take(Section(c, path), _HIFIGAN)
    draft.notes.append("training scales the audio to a peak of 0.95; inference and fine-tuning do not")
    return draft


# --- Vocos ------------------------------------------------------------------------------------------------------------


def _vocos_extractor(c: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for place in (c, section(c, "", "model", "init_args").values):
        found = place.get("feature_extractor")
        if isinstance(found, Mapping) and str(found.get("class_path", "")).startswith("vocos."):
            return found
    return None


def _is_vocos(c: Mapping[str, Any]) -> bool:
    return _vocos_extractor(c) is not None


def _vocos(c: Mapping[str, Any], path: str) -> Draft:
    extractor = _vocos_extractor(c) or {}
    kind = str(extractor["class_path"]).rpartition(".")[2]
    if kind != "MelSpectrogramFeatures":
        raise DataError(f"{path}: Vocos with {kind}: its input is no mel")
    s = section(extractor, f"{path}, feature_extractor", "init_args")
    draft = Draft("vocos_mel_24k").take(
        s, {"sample_rate": "sample_rate", "n_fft": "n_fft", "hop_length": "hop_length", "n_mels": "n_mels"}
    )
    padding = s.text("padding")
    if padding is None:
        draft.missing.append("padding")
    elif padding in {"center", "same"}:
        draft.fields["padding"] = padding
    else:
        raise DataError(f"{s.where}: padding is {padding!r}; Vocos knows center and same")
    draft.notes.append("training scales the audio to a random peak of -1 to -6 dB; inference does not")
    return draft


# --- ParallelWaveGAN --------------------------------------------------------------------------------------------------


def _is_pwg(c: Mapping[str, Any]) -> bool:
    return {"fft_size", "hop_size", "num_mels", "generator_params"} <= set(c)


def _pwg(c: Mapping[str, Any], path: str) -> Draft:
    s = Section(c, path)
    if not s.number("fft_size") or (s.number("num_mels") or 0) < 3:
        raise DataError(f"{path}: this ParallelWaveGAN model takes discrete units, not mels (fft_size {c.get('fft_size')}, num_mels {c.get('num_mels')})")  # fmt: skip
    draft = Draft("pwg_ljspeech").take(
        s,
        {"sample_rate": "sampling_rate", "n_fft": "fft_size", "win_length": "win_length", "hop_length": "hop_size", "n_mels": "num_mels", "fmin": "fmin", "fmax": "fmax"},
    )  # fmt: skip
    window = s.text("window")
    if window is None:
        draft.missing.append("window")
    elif window in {"hann", "hamming"}:
        draft.fields["window"] = window
    else:
        raise DataError(f"{path}: window is {window!r}; calib knows hann and hamming")
    take_log_base(draft, s)
    other = s.number("sampling_rate_for_feats")
    if other:
        rate = s.number("sampling_rate") or other
        hop = (s.number("hop_size") or 0) * other
        if hop % rate:
            raise DataError(f"{path}: hop_size {c['hop_size']} at {rate:g} Hz is no whole number of samples at sampling_rate_for_feats {other:g}")  # fmt: skip
        draft.fields |= {"sample_rate": other, "hop_length": hop // rate}
        draft.notes.append(f"mels are made of audio resampled to {other:g} Hz (sampling_rate_for_feats)")
    if s.flag("trim_silence", default=False):
        draft.notes.append(
            f"audio is trimmed at {c.get('trim_threshold_in_db')} dB before the mels are made (trim_silence): not part of this front end"
        )
    draft.statistics = "stats.npy" if s.text("format") == "npy" else "stats.h5"
    draft.notes.append(
        f"mels are normalised by bin with {draft.statistics}, which lies beside the checkpoint or in the dump folder"
    )
    return draft


# --- WaveGlow, Fish ---------------------------------------------------------------------------------------------------


def _is_waveglow(c: Mapping[str, Any]) -> bool:
    return {"waveglow_config", "data_config"} <= set(c)


def _waveglow(c: Mapping[str, Any], path: str) -> Draft:
    names = {"sample_rate": "sampling_rate", "n_fft": "filter_length", "win_length": "win_length", "hop_length": "hop_length", "fmin": "mel_fmin", "fmax": "mel_fmax"}  # fmt: skip
    draft = Draft("waveglow").take(section(c, path, "data_config"), names)
    return draft.take(section(c, path, "waveglow_config"), {"n_mels": "n_mel_channels"})


_FISH_NAMES = {"sample_rate": "sample_rate", "n_fft": "n_fft", "win_length": "win_length", "hop_length": "hop_length", "n_mels": "n_mels"}  # fmt: skip
_FISH_RESOLUTION = {"sampling_rate", "num_mels", "n_fft", "hop_length", "win_length"}


def _fish_transform(c: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for part in walk(c):
        target = str(part.get("_target_", ""))
        if target.startswith(("fish_speech.", "fish_vocoder.")) and target.endswith(".LogMelSpectrogram"):
            return part
    return None


def _is_fish(c: Mapping[str, Any]) -> bool:
    return _fish_transform(c) is not None or set(c) == _FISH_RESOLUTION


def _fish(c: Mapping[str, Any], path: str) -> Draft:
    part = _fish_transform(c)
    if part is None:
        return Draft("fish_vocoder_44k").take(Section(c, path), {**_FISH_NAMES, "sample_rate": "sampling_rate", "n_mels": "num_mels"})  # fmt: skip
    s = Section(part, path)
    speech = str(part["_target_"]).startswith("fish_speech.")
    draft = Draft("fish_speech_firefly" if speech else "fish_vocoder_44k").take(s, _FISH_NAMES)
    for ours, theirs in (("fmin", "f_min"), ("fmax", "f_max")):
        if s.says(theirs):
            draft.fields[ours] = s.number(theirs) or 0.0
    if s.flag("center", default=False):
        raise DataError(f"{path}: center is true, which the system pads in a way of its own; calib does not compute it")
    return draft


SYSTEMS = (
    System("bigvgan", "BigVGAN", _is_bigvgan, _bigvgan, "NVIDIA/BigVGAN@7d2b454/configs, meldataset.py"),
    System("hifigan", "HiFi-GAN", lambda c: _hifigan_keys(c) and not _is_bigvgan(c), _hifigan, "jik876/hifi-gan@4769534/config_v1.json, meldataset.py"),
    System("vocos", "Vocos", _is_vocos, _vocos, "gemelo-ai/vocos@c859e3b/configs/vocos.yaml, vocos/feature_extractors.py"),
    System("pwg", "ParallelWaveGAN", _is_pwg, _pwg, "kan-bayashi/ParallelWaveGAN@8674037/egs/ljspeech/voc1/conf, parallel_wavegan/bin/preprocess.py"),
    System("waveglow", "WaveGlow", _is_waveglow, _waveglow, "NVIDIA/waveglow@8afb643/config.json, mel2samp.py"),
    System("fish", "Fish", _is_fish, _fish, "fishaudio/vocoder@4488f62/fish_vocoder/configs/model; fishaudio/fish-speech@3dd1f85/fish_speech/utils/spectrogram.py"),
)  # fmt: skip
