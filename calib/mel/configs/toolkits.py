"""Configuration files of toolkits: Coqui TTS, ESPnet, NeMo, transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from calib.errors import DataError
from calib.mel.configs.found import Draft, Section, System, section, take_log_base, walk

__all__ = ["SYSTEMS"]

# --- Coqui ------------------------------------------------------------------------------------------------------------

_COQUI_NAMES = {"sample_rate": "sample_rate", "n_fft": "fft_size", "win_length": "win_length", "hop_length": "hop_length", "n_mels": "num_mels", "fmin": "mel_fmin", "fmax": "mel_fmax"}  # fmt: skip
# BaseAudioConfig's own defaults, which Coqui takes for keys that a file lacks.
_COQUI_DEFAULTS = {"spec_gain": 20, "ref_level_db": 20, "min_level_db": -100, "max_norm": 4.0}


def _is_coqui(c: Mapping[str, Any]) -> bool:
    audio = section(c, "", "audio").values
    return {"num_mels", "fft_size"} <= set(audio) or (c.get("model") == "xtts" and "sample_rate" in audio)


def _coqui(c: Mapping[str, Any], path: str) -> Draft:
    s, model = section(c, path, "audio"), str(c.get("model", "")).lower()
    if model == "xtts":
        return _xtts(c, path)
    if model == "vits" or (
        "log_func" not in s.values and "signal_norm" not in s.values and "spec_gain" not in s.values
    ):
        draft = Draft("coqui_vits").take(s, _COQUI_NAMES)
        draft.notes.append(
            "the model takes a linear spectrum; this mel exists in its loss only, and nothing needs calibrating"
        )
        return draft
    draft = Draft("coqui_ap_stats").take(s, _COQUI_NAMES, whole=("win_length", "hop_length"))
    _milliseconds(draft, s)
    draft.fields["preemphasis"] = s.number("preemphasis", 0.0) or 0.0
    pad = s.text("stft_pad_mode", "reflect")
    if pad not in {"reflect", "constant"}:
        raise DataError(f"{s.where}: stft_pad_mode is {pad!r}; calib knows reflect and constant")
    draft.fields["pad_mode"] = pad
    if s.flag("do_sound_norm", default=False):
        draft.fields["peak_norm"] = 0.95
    if s.flag("do_rms_norm", default=False):
        level = s.number("db_level")
        if level is None:
            raise DataError(f"{s.where}: do_rms_norm is true, and db_level is not given")
        if "peak_norm" in draft.fields:  # the level is set again after it
            del draft.fields["peak_norm"]
        draft.fields["rms_norm"] = 10 ** (level / 20)
    if s.flag("do_trim_silence", default=True):
        draft.notes.append(
            f"audio loses 10 ms on both sides and is trimmed at {s.number('trim_db', 45):g} dB when it is loaded (do_trim_silence): not part of this front end"
        )
    power = s.number("power")
    if power not in {None, 1}:
        draft.notes.append(f"power {power:g} is the exponent of Griffin-Lim only; the mel is of magnitudes")
    _coqui_log(draft, s)
    _coqui_range(draft, s, path)
    return draft


def _milliseconds(draft: Draft, s: Section) -> None:
    """Without a ``hop_length``: lengths in ms, as ``millisec_to_length`` computes them; else `BaseAudioConfig`'s default."""
    if draft.fields.get("hop_length"):
        return
    frame, shift, rate = s.number("frame_length_ms"), s.number("frame_shift_ms"), draft.fields.get("sample_rate", 22050)
    if not frame or not shift:
        if "hop_length" in draft.missing:
            return
        raise DataError(f"{s.where}: neither hop_length nor frame_length_ms and frame_shift_ms")
    draft.missing = [name for name in draft.missing if name not in {"win_length", "hop_length"}]
    window = int(frame / 1000.0 * rate)
    draft.fields |= {"win_length": window, "hop_length": int(window / (frame / shift))}


def _coqui_log(draft: Draft, s: Section) -> None:
    log, gain = s.text("log_func", "np.log10"), s.number("spec_gain", _COQUI_DEFAULTS["spec_gain"]) or 20.0
    if log not in {"np.log", "np.log10"}:
        raise DataError(f"{s.where}: log_func is {log!r}; Coqui knows np.log and np.log10")
    if not s.flag("do_amp_to_db_mel", default=True):
        draft.fields["log"] = "none"
        return
    draft.fields |= {"log": "ln" if log == "np.log" else "log10", "log_multiplier": gain}
    if log == "np.log" and gain == 20:
        draft.notes.append("spec_gain 20 with np.log: 20 ln, which is no dB")


def _coqui_range(draft: Draft, s: Section, path: str) -> None:
    """``AudioProcessor.normalize``: by statistics, into a range, or not at all."""
    if not s.flag("signal_norm", default=True):
        return
    statistics = s.text("stats_path")
    if statistics:
        draft.statistics = statistics
        draft.notes.append("stats_path switches the clipping and the range normalisation off")
        return
    low = s.number("min_level_db", _COQUI_DEFAULTS["min_level_db"])
    reference = s.number("ref_level_db", _COQUI_DEFAULTS["ref_level_db"])
    top = s.number("max_norm", _COQUI_DEFAULTS["max_norm"])
    top = 1.0 if top is None else top
    if not low or low > 0 or reference is None or top <= 0:
        raise DataError(f"{path}, audio: min_level_db {low}, ref_level_db {reference} and max_norm {top} make no range")
    symmetric = s.flag("symmetric_norm", default=True)
    slope = (2.0 if symmetric else 1.0) * top / -low
    # S -> slope (S - ref) + M, in both cases: M (2 (S - ref - min) / -min - 1) and M (S - ref - min) / -min.
    draft.fields |= {"post_scale": slope, "post_offset": top - slope * reference}
    if s.flag("clip_norm", default=True):
        draft.fields |= {"clip_min": -top if symmetric else 0.0, "clip_max": top}


def _xtts(c: Mapping[str, Any], path: str) -> Draft:
    arguments = section(c, path, "model_args")
    perceiver = arguments.flag("gpt_use_perceiver_resampler", default=True)
    draft = Draft("xtts_v2_gpt_cond" if perceiver else "xtts_v1_gpt_cond")
    draft.take(section(c, path, "audio"), {"sample_rate": "sample_rate"})
    draft.statistics = "mel_stats.pth"
    draft.notes += [
        "this is the mel of the conditioning audio; XTTS's vocoder takes latents, so no mel enters it and nothing can be calibrated there",
        "mels are divided by bin (mel_stats.pth, or the buffer mel_stats of the checkpoint)",
    ]
    return draft


# --- ESPnet -----------------------------------------------------------------------------------------------------------


def _is_espnet(c: Mapping[str, Any]) -> bool:
    return "feats_extract_conf" in c or ("feats_extract" in c and "tts" in c)


def _espnet(c: Mapping[str, Any], path: str) -> Draft:
    kind = c.get("feats_extract", "fbank")
    if kind is not None and kind != "fbank":
        raise DataError(f"{path}: feats_extract is {kind!r}: this ESPnet model takes no mel")
    s = section(c, path, "feats_extract_conf")
    draft = Draft("espnet2_tts_22k").take(
        s,
        {"sample_rate": "fs", "n_fft": "n_fft", "win_length": "win_length", "hop_length": "hop_length", "n_mels": "n_mels", "fmin": "fmin", "fmax": "fmax"},
    )  # fmt: skip
    # LogMelFbank's own defaults, which ESPnet takes for keys that a file lacks.
    draft.fields = {
        "sample_rate": 16000,
        "n_fft": 1024,
        "win_length": 0,
        "hop_length": 256,
        "n_mels": 80,
        **draft.fields,
    }
    take_log_base(draft, s)
    if s.flag("htk", default=False):
        draft.fields["mel_scale"] = "htk"
    if s.flag("normalized", default=False):
        raise DataError(f"{s.where}: normalized is true (the FFT divided by its root), which calib does not compute")
    if not s.flag("center", default=True):
        draft.fields["padding"] = "none"
    for ours, theirs, known in (
        ("window", "window", {"hann", "hamming"}),
        ("pad_mode", "pad_mode", {"reflect", "constant"}),
    ):
        value = s.text(theirs, "hann" if ours == "window" else "reflect")
        if value not in known:
            raise DataError(f"{s.where}: {theirs} is {value!r}; calib knows {' and '.join(sorted(known))}")
        draft.fields[ours] = value
    normalize = c.get("normalize", "global_mvn")
    if normalize == "global_mvn":
        draft.statistics = section(c, path, "normalize_conf").text("stats_file") or "feats_stats.npz"
    elif normalize == "utterance_mvn":
        raise DataError(f"{path}: normalize is utterance_mvn, which calib does not compute")
    return draft


# --- NeMo -------------------------------------------------------------------------------------------------------------

_NEMO = ("AudioToMelSpectrogramPreprocessor", "FilterbankFeatures", "MelSpectrogramFeaturizer")


def _nemo_part(c: Mapping[str, Any]) -> Mapping[str, Any] | None:
    def fits(part: Any) -> bool:
        target = str(part.get("_target_", "")) if isinstance(part, Mapping) else ""
        return target.startswith("nemo.") and target.rpartition(".")[2] in _NEMO

    for place in (section(c, "", "model").values, c):
        if fits(place.get("preprocessor")):
            return dict(place["preprocessor"])
    return next((part for part in walk(c) if fits(part)), None)


def _nemo(c: Mapping[str, Any], path: str) -> Draft:
    s = Section(_nemo_part(c) or {}, f"{path}, preprocessor")
    if str(s.values["_target_"]).endswith("MelSpectrogramFeaturizer"):
        draft = Draft("nemo_featurizer_log1p").take(
            s, {"sample_rate": "sample_rate", "win_length": "win_length", "hop_length": "hop_length", "n_mels": "mel_dim", "fmin": "lowfreq", "fmax": "highfreq"},
        )  # fmt: skip
        if "win_length" in draft.fields:
            draft.fields["n_fft"] = draft.fields["win_length"]
    else:
        exact = s.flag("exact_pad", default=False)
        bins = "features" if "features" in s.values else "nfilt"
        draft = Draft("nemo_hifigan_22k" if exact else "nemo_fastpitch_22k").take(s, {"sample_rate": "sample_rate", "n_mels": bins, "fmin": "lowfreq", "fmax": "highfreq"})  # fmt: skip
        # AudioToMelSpectrogramPreprocessor's own defaults, which NeMo takes for keys that a file lacks.
        draft.fields = {"sample_rate": 16000, "n_mels": 64, "fmin": 0.0, "fmax": 0.0, **draft.fields}
        _nemo_lengths(draft, s)
        _nemo_spectrum(draft, s)
    _nemo_log(draft, s)
    draft.notes.append(
        "since July 2025 NeMo pads with zeros and overwrites the last frame (used here); before, it reflects and keeps all"
    )
    return draft


def _nemo_lengths(draft: Draft, s: Section) -> None:
    """Window and hop in samples, or in seconds (20 and 10 ms where the file says neither)."""
    rate = draft.fields["sample_rate"]
    for ours, samples, seconds, usual in (("win_length", "n_window_size", "window_size", 0.02), ("hop_length", "n_window_stride", "window_stride", 0.01)):  # fmt: skip
        value = s.number(samples)
        if not value and s.says(seconds) and s.values[seconds]:
            value = int((s.number(seconds) or 0.0) * rate)
        if not value:
            draft.missing.append(ours)
        draft.fields[ours] = value or int(usual * rate)
    draft.fields["n_fft"] = s.number("n_fft") or _power_of_two(draft.fields["win_length"], s)


def _power_of_two(window: float, s: Section) -> int:
    """The FFT length where none is given: the next power of two."""
    if window < 1:
        raise DataError(f"{s.where}: the window has {window:g} samples")
    return int(2 ** math.ceil(math.log2(window)))


def _nemo_spectrum(draft: Draft, s: Section) -> None:
    # FilterbankFeatures' own defaults stand where a file lacks a key.
    window = s.text("window", "hann")
    if window not in {"hann", "hamming"}:
        raise DataError(f"{s.where}: window is {window!r}; calib knows hann and hamming")
    power = s.number("mag_power", 2.0)
    if power not in {1.0, 2.0}:
        raise DataError(f"{s.where}: mag_power is {power}; calib knows 1 (magnitude) and 2 (power)")
    normalize = s.values.get("normalize", "per_feature")
    if normalize:
        raise DataError(
            f"{s.where}: normalize is {normalize!r}: features for recognition, normalised by utterance, which calib does not compute"
        )
    if (s.number("frame_splicing", 1) or 1) != 1:
        raise DataError(
            f"{s.where}: frame_splicing is {s.values['frame_splicing']}; frames are stacked, so these are no mels"
        )
    draft.fields |= {"window": window, "power": power, "preemphasis": s.number("preemph", 0.97) or 0.0}
    if s.flag("use_grads", default=False):
        draft.fields |= {"spectrum_eps": 1e-5, "spectrum_eps_mode": "add"}
    if s.number("dither", 1e-5):
        draft.notes.append(f"noise of sd {s.number('dither', 1e-5):g} is added to the audio in training (dither)")
    pad = s.number("pad_to", 16) or 0
    if pad > 1:
        draft.notes.append(
            f"frames are padded to a multiple of {pad:g} with pad_value (pad_to): not part of this front end"
        )
    draft.fields["overwrite_value"] = s.number("pad_value", 0.0) or 0.0


def _nemo_log(draft: Draft, s: Section) -> None:
    if not s.flag("log", default=True):
        draft.fields["log"] = "none"
        return
    if s.says("log_zero_guard_type"):
        guard = s.text("log_zero_guard_type")
        if guard not in {"add", "clamp"}:
            raise DataError(f"{s.where}: log_zero_guard_type is {guard!r}; NeMo knows add and clamp")
        draft.fields["log_guard"] = guard
    elif draft.base != "nemo_featurizer_log1p":
        draft.fields["log_guard"] = "add"
    value: Any = s.values.get("log_zero_guard_value", None if draft.base == "nemo_featurizer_log1p" else 2**-24)
    if isinstance(value, str) and value in {"tiny", "eps"}:
        draft.fields["log_eps"] = 2.0**-126 if value == "tiny" else 2.0**-23
    elif value is not None:
        draft.fields["log_eps"] = s.number("log_zero_guard_value", 2**-24)
    if s.says("mel_norm"):
        norm = s.values["mel_norm"]
        if norm is not None and norm != "slaney":
            raise DataError(f"{s.where}: mel_norm is {norm!r}; calib knows slaney and null")
        draft.fields["filter_norm"] = norm


# --- transformers -----------------------------------------------------------------------------------------------------

_VOCODERS = {"hifigan", "speecht5_hifigan", "fastspeech2_conformer_hifigan"}  # the first before version 5
_EXTRACTORS = {"SpeechT5FeatureExtractor", "WhisperFeatureExtractor"}


def _is_transformers(c: Mapping[str, Any]) -> bool:
    return isinstance(c.get("feature_extractor_type"), str) or (
        c.get("model_type") in _VOCODERS and "model_in_dim" in c
    )


def _transformers(c: Mapping[str, Any], path: str) -> Draft:
    s = Section(c, path)
    if "model_in_dim" in c:
        return _transformers_vocoder(s)
    kind = c["feature_extractor_type"]
    if kind not in _EXTRACTORS:
        raise DataError(f"{path}: feature_extractor_type is {kind!r}; calib knows {' and '.join(sorted(_EXTRACTORS))}")
    if kind == "WhisperFeatureExtractor":
        draft = Draft("whisper").take(s, {"sample_rate": "sampling_rate", "n_fft": "n_fft", "hop_length": "hop_length", "n_mels": "feature_size"})  # fmt: skip
        if "n_fft" in draft.fields:
            draft.fields["win_length"] = draft.fields["n_fft"]
        draft.notes.append(
            "audio is filled with zeros to 30 s first, which changes no frame of the speech but the last"
        )
        return draft
    draft = Draft("hf_speecht5").take(s, {"sample_rate": "sampling_rate", "n_mels": "num_mel_bins", "fmin": "fmin", "fmax": "fmax", "log_eps": "mel_floor"})  # fmt: skip
    rate = draft.fields.get("sample_rate", 16000)
    for ours, theirs in (("win_length", "win_length"), ("hop_length", "hop_length")):
        value = s.number(theirs)
        if value is None:
            draft.missing.append(ours)
        else:
            draft.fields[ours] = int(value) * int(rate) // 1000  # in ms
    window = draft.fields.get("win_length", 1024)
    draft.fields["n_fft"] = _power_of_two(window, s)
    function = s.text("win_function", "hann_window")
    if function not in {"hann_window", "hamming_window"}:
        raise DataError(f"{path}: win_function is {function!r}; calib knows hann_window and hamming_window")
    draft.fields["window"] = str(function).removesuffix("_window")
    scale = s.number("frame_signal_scale", 1.0)
    if scale != 1.0:
        draft.notes.append(f"frame_signal_scale {scale} is not used by SpeechT5's mel")
    draft.notes.append("these are the target mels (audio_target); do_normalize concerns the waveform that goes in")
    return draft


def _transformers_vocoder(s: Section) -> Draft:
    """``SpeechT5HifiGanConfig`` says rate and bins alone; the rest is that of the two models it is shipped with."""
    rate = s.number("sampling_rate")
    fast = any("FastSpeech2Conformer" in str(name) for name in s.values.get("architectures") or ())
    draft = Draft("hf_speecht5" if rate in {None, 16000} and not fast else "hf_fastspeech2_conformer")
    draft.take(s, {"sample_rate": "sampling_rate", "n_mels": "model_in_dim"})
    draft.missing += ["n_fft", "win_length", "hop_length", "fmin", "fmax"]
    if s.flag("normalize_before", default=True):
        draft.statistics = "model.safetensors"
        draft.notes.append(
            "the vocoder normalises what it is given with its buffers mean and scale (normalize_before): give it the mel before that"
        )
    else:
        draft.notes.append("normalize_before is false: the vocoder takes mels that are normalised already")
    return draft


SYSTEMS = (
    System("coqui", "Coqui TTS", _is_coqui, _coqui, "coqui-ai/TTS@dbf1a08/TTS/config/shared_configs.py, TTS/utils/audio/processor.py, TTS/tts/models/vits.py"),
    System("espnet", "ESPnet", _is_espnet, _espnet, "espnet/espnet@0bc48ac/espnet2/tts/feats_extract/log_mel_fbank.py"),
    System("nemo", "NeMo", lambda c: _nemo_part(c) is not None, _nemo, "NVIDIA/NeMo@8cfedd7/examples/tts/conf/fastpitch_align_v1.05.yaml, nemo/collections/asr/parts/preprocessing/features.py"),
    System("transformers", "transformers", _is_transformers, _transformers, "huggingface/transformers@03bc390/src/transformers/models/speecht5/feature_extraction_speecht5.py"),
)  # fmt: skip
