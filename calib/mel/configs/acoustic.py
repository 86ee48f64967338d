"""Configuration files of acoustic models: Matcha-TTS, FastSpeech 2, VITS and its kin, StyleTTS 2, F5-TTS, CosyVoice, SpeechBrain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calib.data.statsfiles import NEGATIVE_VARIANCE
from calib.data.yamlfiles import Tagged
from calib.errors import DataError
from calib.mel.catalogue import catalogue
from calib.mel.configs.found import Draft, Section, System, section

__all__ = ["SYSTEMS"]


# --- Matcha-TTS -------------------------------------------------------------------------------------------------------


def _matcha_section(c: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for place in (c, section(c, "", "data").values):
        if {"n_feats", "sample_rate"} <= set(place) and ("f_max" in place or "data_statistics" in place):
            return place
        # A file that changes one of Hydra's defaults, as vctk.yaml does with ljspeech.yaml.
        if "defaults" in place and isinstance(place.get("data_statistics"), Mapping):
            return place
    return None


def _matcha(c: Mapping[str, Any], path: str) -> Draft:
    s = Section(_matcha_section(c) or {}, path)
    names = {"sample_rate": "sample_rate", "n_fft": "n_fft", "win_length": "win_length", "hop_length": "hop_length", "n_mels": "n_feats", "fmin": "f_min", "fmax": "f_max"}  # fmt: skip
    draft = Draft("hifigan_jik").take(s, names)
    statistics = section(s.values, path, "data_statistics")
    for name in ("mel_mean", "mel_std"):
        if str(statistics.values.get(name)).lower() == "nan":
            raise DataError(f"{statistics.where}: {name} is nan", hint=NEGATIVE_VARIANCE)
    mean, std = statistics.number("mel_mean"), statistics.number("mel_std")
    if mean is None or std is None:
        draft.notes.append(
            "data_statistics is empty: Matcha-TTS takes mean 0 and sd 1 then, so the mels are not normalised"
        )
        return draft
    if std <= 0:
        raise DataError(f"{statistics.where}: mel_std is {std:g}; it must be positive")
    draft.fields |= {"post_scale": 1.0 / std, "post_offset": -mean / std}
    draft.notes.append(
        f"normalised with mean {mean:g} and sd {std:g} ln units (data_statistics); the vocoder gets the mel before that"
    )
    return draft


# --- FastSpeech 2 -----------------------------------------------------------------------------------------------------


def _is_fastspeech2(c: Mapping[str, Any]) -> bool:
    return {"audio", "stft", "mel"} <= set(section(c, "", "preprocessing").values)


def _fastspeech2(c: Mapping[str, Any], path: str) -> Draft:
    part = ("preprocessing",)
    draft = Draft("fastspeech2_ming024").take(section(c, path, *part, "audio"), {"sample_rate": "sampling_rate"})
    draft.take(section(c, path, *part, "stft"), {"n_fft": "filter_length", "win_length": "win_length", "hop_length": "hop_length"})  # fmt: skip
    draft.take(section(c, path, *part, "mel"), {"n_mels": "n_mel_channels", "fmin": "mel_fmin", "fmax": "mel_fmax"})
    trim = section(c, path, *part, "audio").number("trim_top_db")
    if trim is not None:
        draft.notes.append(f"audio is trimmed at {trim:g} dB before (trim_top_db): not part of this front end")
    draft.notes.append("mels are cut to the speech that the aligner found, and to the sum of the durations")
    return draft


# --- VITS, so-vits-svc, RVC, GPT-SoVITS -------------------------------------------------------------------------------

_VITS_NAMES = {"sample_rate": "sampling_rate", "n_fft": "filter_length", "win_length": "win_length", "hop_length": "hop_length", "n_mels": "n_mel_channels", "fmin": "mel_fmin", "fmax": "mel_fmax"}  # fmt: skip
_LOSS = "the model takes a linear spectrum; this mel exists in its loss only, and nothing needs calibrating"


def _vits_family(c: Mapping[str, Any]) -> str | None:
    """Which of the systems that share VITS's ``data`` section."""
    data, model = section(c, "", "data").values, section(c, "", "model").values
    if not {"filter_length", "hop_length", "sampling_rate"} <= set(data) or not model:
        return None
    if {"ssl_dim", "speech_encoder"} & set(model) or "unit_interpolate_mode" in data:
        return "sovits"
    if "spk_embed_dim" in model:
        return "rvc"
    if {"exp_dir", "semantic_frame_rate"} & ({*data, *model}) or "s2_ckpt_dir" in c:
        return "gptsovits"
    return "vits"


def _vits_reader(base: str, *notes: str) -> Any:
    def read(c: Mapping[str, Any], path: str) -> Draft:
        draft = Draft(base).take(section(c, path, "data"), _VITS_NAMES)
        draft.notes += [_LOSS, *notes]
        return draft

    return read


# --- StyleTTS 2, F5-TTS -----------------------------------------------------------------------------------------------


def _is_styletts2(c: Mapping[str, Any]) -> bool:
    return {"sr", "spect_params"} <= set(section(c, "", "preprocess_params").values)


def _styletts2(c: Mapping[str, Any], path: str) -> Draft:
    """``meldataset.py`` builds its mel with fixed numbers and the default sample rate of 16 kHz, whatever the file says."""
    draft = Draft("styletts2")
    fixed = catalogue()["styletts2"].frontend
    s, spect = section(c, path, "preprocess_params"), section(c, path, "preprocess_params", "spect_params")
    differs = []
    for source, ours, theirs in ((s, "sample_rate", "sr"), (spect, "n_fft", "n_fft"), (spect, "win_length", "win_length"), (spect, "hop_length", "hop_length")):  # fmt: skip
        value = source.number(theirs)
        if value is not None and value != getattr(fixed, ours):
            differs.append(f"{theirs} {value:g}")
    draft.notes.append(
        "StyleTTS 2's code makes its mels with n_fft 2048, win 1200, hop 300 at 24 kHz, fixed, and a filterbank for 16 kHz: the file's values are not used for that"
    )
    if differs:
        draft.notes.append(
            f"the file says otherwise ({', '.join(differs)}); if the code was changed, give the front end yourself"
        )
    return draft


def _is_f5(c: Mapping[str, Any]) -> bool:
    return "mel_spec_type" in section(c, "", "model", "mel_spec").values


def _f5(c: Mapping[str, Any], path: str) -> Draft:
    s = section(c, path, "model", "mel_spec")
    kind = s.text("mel_spec_type")
    if kind not in {"vocos", "bigvgan"}:
        raise DataError(f"{s.where}: mel_spec_type is {kind!r}; F5-TTS knows vocos and bigvgan")
    names = {"sample_rate": "target_sample_rate", "n_fft": "n_fft", "win_length": "win_length", "hop_length": "hop_length", "n_mels": "n_mel_channels"}  # fmt: skip
    draft = Draft(f"f5tts_{kind}").take(s, names)
    draft.notes.append("inference raises quiet audio to an RMS of 0.1; training does not")
    if kind == "vocos":
        draft.notes.append("its guard is 1e-5, that of the Vocos vocoder it feeds is 1e-7")
    return draft


# --- CosyVoice, SpeechBrain -------------------------------------------------------------------------------------------


def _is_cosyvoice(c: Mapping[str, Any]) -> bool:
    found = c.get("feat_extractor")
    return isinstance(found, Tagged) and found.tag.endswith("matcha.utils.audio.mel_spectrogram")


def _cosyvoice(c: Mapping[str, Any], path: str) -> Draft:
    s = section(c, path, "feat_extractor")
    names = {"sample_rate": "sampling_rate", "n_fft": "n_fft", "win_length": "win_size", "hop_length": "hop_size", "n_mels": "num_mels", "fmin": "fmin", "fmax": "fmax"}  # fmt: skip
    draft = Draft("cosyvoice2_24k").take(s, names)
    if s.flag("center", default=False):
        raise DataError(
            f"{s.where}: center is true, which CosyVoice pads in a way of its own; calib does not compute it"
        )
    draft.notes.append("prompts are divided by their peak only where it is above 1")
    return draft


def _is_speechbrain(c: Mapping[str, Any]) -> bool:
    return {"mel_fmin", "mel_fmax", "mel_normalized", "dynamic_range_compression"} <= set(c)


def _speechbrain(c: Mapping[str, Any], path: str) -> Draft:
    s = Section(c, path)
    names = {"sample_rate": "sample_rate", "n_fft": "n_fft", "win_length": "win_length", "hop_length": "hop_length", "n_mels": "n_mel_channels", "fmin": "mel_fmin", "fmax": "mel_fmax", "power": "power"}  # fmt: skip
    draft = Draft("speechbrain_lj").take(s, names)
    if s.flag("mel_normalized", default=False):
        raise DataError(
            f"{path}: mel_normalized is true (the spectrum divided by the window's energy), which calib does not compute"
        )
    if not s.flag("dynamic_range_compression", default=True):
        draft.fields["log"] = "none"
    for ours, theirs, known in (
        ("filter_norm", "norm", {"slaney", None}),
        ("mel_scale", "mel_scale", {"slaney", "htk"}),
    ):
        value = s.text(theirs)
        if not s.says(theirs):
            draft.missing.append(ours)
        elif value in known:
            draft.fields[ours] = value
        else:
            raise DataError(f"{path}: {theirs} is {value!r}; calib knows {', '.join(map(str, known))}")
    return draft


SYSTEMS = (
    System("matcha", "Matcha-TTS", lambda c: _matcha_section(c) is not None, _matcha, "shivammehta25/Matcha-TTS@108906c/configs/data/ljspeech.yaml, matcha/utils/audio.py"),
    System("fastspeech2", "FastSpeech 2", _is_fastspeech2, _fastspeech2, "ming024/FastSpeech2@d4e79eb/config/LJSpeech/preprocess.yaml, audio/stft.py"),
    System("vits", "VITS", lambda c: _vits_family(c) == "vits", _vits_reader("vits_jaywalnut"), "jaywalnut310/vits@2e561ba/configs/ljs_base.json, mel_processing.py"),
    System("sovits", "so-vits-svc", lambda c: _vits_family(c) == "sovits", _vits_reader("sovits_svc_44k"), "svc-develop-team/so-vits-svc@730930d/configs_template/config_template.json, modules/mel_processing.py"),
    System("rvc", "RVC", lambda c: _vits_family(c) == "rvc", _vits_reader("rvc_32k", "since July 2026 its eps are 2e-7 and 2e-6 (used here); before, 1e-6 and 1e-5"), "RVC-Project/Retrieval-based-Voice-Conversion-WebUI@4338f12/configs, train/mel_processing.py"),
    System("gptsovits", "GPT-SoVITS", lambda c: _vits_family(c) == "gptsovits", _vits_reader("gptsovits_s2_v1v2"), "RVC-Boss/GPT-SoVITS/GPT_SoVITS/configs/s2.json, module/mel_processing.py"),
    System("styletts2", "StyleTTS 2", _is_styletts2, _styletts2, "yl4579/StyleTTS2@5cedc71/Configs/config.yml, meldataset.py"),
    System("f5tts", "F5-TTS", _is_f5, _f5, "SWivid/F5-TTS@2ae2c9b/src/f5_tts/configs, src/f5_tts/model/modules.py"),
    System("cosyvoice", "CosyVoice", _is_cosyvoice, _cosyvoice, "FunAudioLLM/CosyVoice@ace7c47/examples/libritts/cosyvoice2/conf/cosyvoice2.yaml"),
    System("speechbrain", "SpeechBrain", _is_speechbrain, _speechbrain, "speechbrain/speechbrain/recipes/LJSpeech/TTS/tacotron2/hparams/train.yaml"),
)  # fmt: skip
