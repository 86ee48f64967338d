"""Configuration files of other systems: recognised by content, what they say is taken, what they do not is said."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from calib.data.yamlfiles import Tagged, parse_yaml
from calib.errors import CalibError, DataError
from calib.mel.catalogue import catalogue
from calib.mel.configs import SYSTEMS, UnknownConfigError, explain, read_config
from calib.mel.frontend import FrontEnd

HIFIGAN = {
    "resblock": "1",
    "upsample_rates": [8, 8, 2, 2],
    "num_mels": 80,
    "num_freq": 1025,
    "n_fft": 1024,
    "hop_size": 256,
    "win_size": 1024,
    "sampling_rate": 22050,
    "fmin": 0,
    "fmax": 8000,
    "fmax_for_loss": None,
}
COQUI = {
    "fft_size": 1024, "win_length": 1024, "hop_length": 256, "frame_shift_ms": None, "frame_length_ms": None, "stft_pad_mode": "reflect", "sample_rate": 22050, "preemphasis": 0.0,
    "ref_level_db": 20, "do_sound_norm": False, "log_func": "np.log10", "do_trim_silence": True, "trim_db": 45, "do_rms_norm": False, "db_level": None, "power": 1.5, "num_mels": 80,
    "mel_fmin": 0.0, "mel_fmax": None, "spec_gain": 20, "signal_norm": True, "min_level_db": -100, "symmetric_norm": True, "max_norm": 4.0, "clip_norm": True, "stats_path": None,
}  # fmt: skip
VITS_DATA = {
    "max_wav_value": 32768.0,
    "sampling_rate": 22050,
    "filter_length": 1024,
    "hop_length": 256,
    "win_length": 1024,
    "n_mel_channels": 80,
    "mel_fmin": 0.0,
    "mel_fmax": None,
}
PWG = {
    "sampling_rate": 22050,
    "fft_size": 1024,
    "hop_size": 256,
    "win_length": None,
    "window": "hann",
    "num_mels": 80,
    "fmin": 80,
    "fmax": 7600,
    "global_gain_scale": 1.0,
    "trim_silence": False,
    "format": "hdf5",
    "generator_params": {"layers": 30},
}
ESPNET = {
    "feats_extract": "fbank",
    "feats_extract_conf": {
        "n_fft": 1024,
        "hop_length": 256,
        "win_length": None,
        "fs": 22050,
        "fmin": 80,
        "fmax": 7600,
        "n_mels": 80,
    },
    "normalize": "global_mvn",
    "normalize_conf": {"stats_file": "exp/stats/feats_stats.npz"},
    "tts": "tacotron2",
}
MATCHA = {
    "_target_": "matcha.data.TextMelDataModule",
    "n_fft": 1024,
    "n_feats": 80,
    "sample_rate": 22050,
    "hop_length": 256,
    "win_length": 1024,
    "f_min": 0,
    "f_max": 8000,
    "data_statistics": {"mel_mean": -5.536622, "mel_std": 2.116101},
    "seed": "${seed}",
}
FASTSPEECH = {
    "preprocessing": {
        "audio": {"sampling_rate": 22050},
        "stft": {"filter_length": 1024, "hop_length": 256, "win_length": 1024},
        "mel": {"n_mel_channels": 80, "mel_fmin": 0, "mel_fmax": 8000},
    }
}
F5 = {
    "model": {
        "mel_spec": {
            "target_sample_rate": 24000,
            "n_mel_channels": 100,
            "hop_length": 256,
            "win_length": 1024,
            "n_fft": 1024,
            "mel_spec_type": "vocos",
        }
    }
}
STYLE = {"preprocess_params": {"sr": 24000, "spect_params": {"n_fft": 2048, "win_length": 1200, "hop_length": 300}}}
VOCOS = {
    "model": {
        "init_args": {
            "feature_extractor": {
                "class_path": "vocos.feature_extractors.MelSpectrogramFeatures",
                "init_args": {
                    "sample_rate": 24000,
                    "n_fft": 1024,
                    "hop_length": 256,
                    "n_mels": 100,
                    "padding": "center",
                },
            }
        }
    }
}
NEMO = {
    "sample_rate": 22050, "n_mel_channels": 80,
    "model": {"n_mels": "${n_mel_channels}", "preprocessor": {
        "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor", "features": "${model.n_mels}", "lowfreq": 0, "highfreq": 8000, "n_fft": 1024, "n_window_size": 1024,
        "window_size": False, "n_window_stride": 256, "window_stride": False, "pad_to": 1, "pad_value": 0, "sample_rate": "${sample_rate}", "window": "hann", "normalize": None, "preemph": None,
        "dither": 0.0, "log": True, "log_zero_guard_type": "add", "log_zero_guard_value": "1e-05", "mag_power": 1.0,
    }},
}  # fmt: skip
SPEECHT5 = {
    "feature_extractor_type": "SpeechT5FeatureExtractor",
    "sampling_rate": 16000,
    "num_mel_bins": 80,
    "hop_length": 16,
    "win_length": 64,
    "win_function": "hann_window",
    "frame_signal_scale": 1.0,
    "fmin": 80,
    "fmax": 7600,
    "mel_floor": 1e-10,
    "do_normalize": False,
}
COSYVOICE = """
sample_rate: 24000
llm: !new:cosyvoice.llm.llm.Qwen2LM
    size: 896
    sampling: !name:cosyvoice.utils.common.ras_sampling {top_p: 0.8}
feat_extractor: !name:matcha.utils.audio.mel_spectrogram
    n_fft: 1920
    num_mels: 80
    sampling_rate: !ref <sample_rate>
    hop_size: 480
    win_size: 1920
    fmin: 0
    fmax: 8000
    center: False
seed: !apply:random.seed [1986]
"""
SPEECHBRAIN = {
    "sample_rate": 22050,
    "hop_length": 256,
    "win_length": 1024,
    "n_fft": 1024,
    "n_mel_channels": 80,
    "mel_fmin": 0.0,
    "mel_fmax": 8000.0,
    "mel_normalized": False,
    "power": 1,
    "norm": "slaney",
    "mel_scale": "slaney",
    "dynamic_range_compression": True,
}


def changed(base: dict[str, Any], *path: str, **changes: Any) -> dict[str, Any]:
    """A deep copy with changes at a place; None of the keys' own values are touched."""
    out: dict[str, Any] = json.loads(json.dumps(base))
    place = out
    for key in path:
        place = place[key]
    place.update(changes)
    return out


# name: (content, system, the catalogue's front end that it is, statistics file that it names)
KNOWN: dict[str, tuple[Any, str, str, str | None]] = {
    "hifigan": (HIFIGAN, "hifigan", "hifigan_jik", None),
    "bigvgan 22k, fmax null": (changed(HIFIGAN, activation="snakebeta", snake_logscale=True, fmax=None), "bigvgan", "bigvgan_v2_22k_80_nyq", None),
    "bigvgan 24k": (changed(HIFIGAN, activation="snakebeta", fmax=None, num_mels=100, sampling_rate=24000), "bigvgan", "bigvgan_24k_100", None),
    "vocos": (VOCOS, "vocos", "vocos_mel_24k", None),
    "vocos, the file beside the weights": (VOCOS["model"]["init_args"], "vocos", "vocos_mel_24k", None),
    "pwg": (PWG, "pwg", "pwg_ljspeech", "stats.h5"),
    "pwg 24k npy": (changed(PWG, sampling_rate=24000, fft_size=2048, hop_size=300, win_length=1200, format="npy"), "pwg", "pwg_24k", "stats.npy"),
    "pwg without limits": (changed(PWG, fmin=None, fmax=None), "pwg", "pwg_ljspeech_nolimit", "stats.h5"),
    "waveglow": ({"data_config": {"sampling_rate": 22050, "filter_length": 1024, "hop_length": 256, "win_length": 1024, "mel_fmin": 0.0, "mel_fmax": 8000.0}, "waveglow_config": {"n_mel_channels": 80}}, "waveglow", "waveglow", None),
    "fish vocoder": ({"sampling_rate": 44100, "num_mels": 128, "n_fft": 2048, "hop_length": 512, "win_length": 2048}, "fish", "fish_vocoder_44k", None),
    "fish speech": ({"spec_transform": {"_target_": "fish_speech.utils.spectrogram.LogMelSpectrogram", "sample_rate": 44100, "n_mels": 160, "n_fft": 2048, "hop_length": 512, "win_length": 2048}}, "fish", "fish_speech_firefly", None),
    "matcha": (MATCHA, "matcha", "matcha_ljspeech", None),
    "matcha, whole": ({"data": MATCHA, "task_name": "train"}, "matcha", "matcha_ljspeech", None),
    "fastspeech2": (FASTSPEECH, "fastspeech2", "fastspeech2_ming024", None),
    "vits": ({"train": {}, "data": VITS_DATA, "model": {"n_layers_q": 3}}, "vits", "vits_jaywalnut", None),
    "rvc 48k": ({"data": {**VITS_DATA, "sampling_rate": 48000, "filter_length": 2048, "hop_length": 480, "win_length": 2048, "n_mel_channels": 128}, "model": {"spk_embed_dim": 109}}, "rvc", "rvc_48k", None),
    "so-vits": ({"data": {**VITS_DATA, "sampling_rate": 44100, "filter_length": 2048, "hop_length": 512, "win_length": 2048, "mel_fmax": 22050}, "model": {"ssl_dim": 768}}, "sovits", "sovits_svc_44k", None),
    "gpt-sovits": ({"data": {**VITS_DATA, "sampling_rate": 32000, "filter_length": 2048, "hop_length": 640, "win_length": 2048, "n_mel_channels": 128}, "model": {"semantic_frame_rate": "25hz"}}, "gptsovits", "gptsovits_s2_v1v2", None),
    "styletts2": (STYLE, "styletts2", "styletts2", None),
    "f5 vocos": (F5, "f5tts", "f5tts_vocos", None),
    "f5 bigvgan": (changed(F5, "model", "mel_spec", mel_spec_type="bigvgan"), "f5tts", "f5tts_bigvgan", None),
    "cosyvoice2": (COSYVOICE, "cosyvoice", "cosyvoice2_24k", None),
    "cosyvoice3": (COSYVOICE.replace("fmax: 8000", "fmax: null"), "cosyvoice", "cosyvoice3_24k", None),
    "speechbrain": (SPEECHBRAIN, "speechbrain", "speechbrain_lj", None),
    "coqui": ({"model": "tacotron2", "audio": COQUI}, "coqui", "coqui_ap_default", None),
    "coqui ln": ({"model": "fast_pitch", "audio": {**COQUI, "signal_norm": False, "spec_gain": 1, "log_func": "np.log", "mel_fmax": 8000}}, "coqui", "coqui_ap_ln", None),
    "coqui stats": ({"model": "tacotron2", "audio": {**COQUI, "stats_path": "scale_stats.npy"}}, "coqui", "coqui_ap_stats", "scale_stats.npy"),
    "coqui capacitron": ({"model": "capacitron", "audio": {**COQUI, "sample_rate": 24000, "spec_gain": 25, "mel_fmin": 80, "mel_fmax": 12000}}, "coqui", "coqui_capacitron_blizzard", None),
    "coqui vits": ({"model": "vits", "audio": {"fft_size": 1024, "sample_rate": 22050, "win_length": 1024, "hop_length": 256, "num_mels": 80, "mel_fmin": 0, "mel_fmax": None}}, "coqui", "coqui_vits", None),
    "xtts": ({"model": "xtts", "audio": {"sample_rate": 22050, "output_sample_rate": 24000}, "model_args": {"gpt_use_perceiver_resampler": True}}, "coqui", "xtts_v2_gpt_cond", "mel_stats.pth"),
    "espnet": (ESPNET, "espnet", "espnet2_tts_22k", "exp/stats/feats_stats.npz"),
    "espnet 24k in text": (changed(ESPNET, "feats_extract_conf", fs="24k", n_fft=2048, hop_length=300, win_length=1200), "espnet", "espnet2_tts_24k", "exp/stats/feats_stats.npz"),
    "nemo fastpitch": (NEMO, "nemo", "nemo_fastpitch_22k", None),
    "nemo hifigan": (changed(NEMO, "model", "preprocessor", _target_="nemo.collections.asr.parts.preprocessing.features.FilterbankFeatures", nfilt=80, exact_pad=True, pad_value=-11.52, log_zero_guard_type="clamp"), "nemo", "nemo_hifigan_22k", None),
    "nemo vits": (changed(NEMO, "model", "preprocessor", highfreq=None, exact_pad=True, use_grads=True, log_zero_guard_type="clamp", pad_value=0), "nemo", "nemo_vits", None),
    "nemo featurizer": ({"sample_rate": 22050, "mel_feature": {"_target_": "nemo.collections.tts.parts.preprocessing.features.MelSpectrogramFeaturizer", "sample_rate": "${sample_rate}", "win_length": 1024, "hop_length": 256, "mel_dim": 80, "lowfreq": 0, "highfreq": None}}, "nemo", "nemo_featurizer_log1p", None),
    "speecht5": (SPEECHT5, "transformers", "hf_speecht5", None),
    "whisper": ({"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 80, "hop_length": 160, "n_fft": 400, "sampling_rate": 16000, "chunk_length": 30}, "transformers", "whisper", None),
}  # fmt: skip


def put(tmp_path: Path, content: Any, name: str = "config") -> Path:
    """As JSON where it can be, else as the YAML text that it is."""
    path = tmp_path / f"{name}.{'yaml' if isinstance(content, str) else 'json'}"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", list(KNOWN))
def test_a_configuration_is_the_front_end_that_its_systems_code_computes(name: str, tmp_path: Path) -> None:
    content, system, entry, statistics = KNOWN[name]
    path = put(tmp_path, content)
    found = read_config(path)
    assert found.system == system
    assert found.frontend.differences(catalogue()[entry].frontend) == {}
    assert found.statistics == (None if statistics is None else Path(statistics))
    assert found.missing == ()
    assert found.describe().startswith(f"{path}: {SYSTEMS[system].title} configuration: ")
    assert FrontEnd.load(str(path)) == found.frontend
    if not isinstance(content, str):
        again = tmp_path / "config.yaml"
        again.write_text(yaml.safe_dump(content))
        assert FrontEnd.load(str(again)) == found.frontend


def test_each_file_is_of_one_system() -> None:
    for name, (content, system, _, _) in KNOWN.items():
        parsed = parse_yaml(content, name) if isinstance(content, str) else content
        assert [s.name for s in SYSTEMS.values() if s.matches(parsed)] == [system], name


def test_every_system_has_a_test_and_a_source() -> None:
    assert {system for _, system, _, _ in KNOWN.values()} == set(SYSTEMS)
    for system in SYSTEMS.values():
        assert "/" in system.source


@pytest.mark.parametrize("field", ["sampling_rate", "n_fft", "fmax"])
def test_what_a_file_does_not_say_is_listed_with_the_value_taken(field: str, tmp_path: Path) -> None:
    content = {key: value for key, value in HIFIGAN.items() if key != field}
    if field == "sampling_rate":  # the system is told by it
        content = changed(KNOWN["waveglow"][0])
        del content["data_config"]["sampling_rate"]
        ours = "sample_rate"
    else:
        ours = field
    found = read_config(put(tmp_path, content))
    assert found.missing == (ours,)
    assert (
        found.remarks()[0]
        == f"the file does not say; taken here: {ours} {found.frontend.fields()[ours]} {'samples' if ours == 'n_fft' else 'Hz'}"
    )


def test_values_that_a_file_gives_are_used_not_the_systems(tmp_path: Path) -> None:
    found = read_config(put(tmp_path, changed(HIFIGAN, sampling_rate=48000, n_fft=2048, win_size=1800, hop_size=480, num_mels=120, fmin=30, fmax=None)))  # fmt: skip
    f = found.frontend
    assert (f.sample_rate, f.n_fft, f.win_length, f.hop_length, f.n_mels, f.fmin, f.fmax) == (48000, 2048, 1800, 480, 120, 30.0, 24000.0)  # fmt: skip
    assert (f.padding, f.spectrum_eps, f.log, f.log_eps) == ("same", 1e-9, "ln", 1e-5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"symmetric_norm": False}, {"post_scale": 0.04, "post_offset": 3.2, "clip_min": 0.0, "clip_max": 4.0}),
        ({"clip_norm": False, "max_norm": None}, {"post_scale": 0.02, "post_offset": 0.6, "clip_min": None, "clip_max": None}),
        ({"ref_level_db": 0, "min_level_db": -80}, {"post_scale": 0.1, "post_offset": 4.0, "clip_min": -4.0}),
        ({"signal_norm": False}, {"post_scale": 1.0, "post_offset": 0.0, "clip_min": None, "log_multiplier": 20.0}),
        ({"preemphasis": 0.97, "stft_pad_mode": "constant", "do_sound_norm": True}, {"preemphasis": 0.97, "pad_mode": "constant", "peak_norm": 0.95}),
        ({"do_rms_norm": True, "db_level": -20.0}, {"rms_norm": 0.1}),
        ({"hop_length": None, "win_length": None, "frame_length_ms": 50, "frame_shift_ms": 12.5, "fft_size": 2048}, {"win_length": 1102, "hop_length": 275, "n_fft": 2048}),
    ],
)  # fmt: skip
def test_coquis_normalisations(changes: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    """Against ``AudioProcessor.normalize``, written out: M (2 (S - ref - min) / -min - 1) and M (S - ref - min) / -min."""
    audio = {**COQUI, **changes}
    f = read_config(put(tmp_path, {"model": "tacotron2", "audio": audio})).frontend
    for name, value in expected.items():
        assert f.fields()[name] == pytest.approx(value), name
    if audio["signal_norm"]:
        level = -37.0
        top = 1.0 if audio["max_norm"] is None else audio["max_norm"]
        share = (level - audio["ref_level_db"] - audio["min_level_db"]) / -audio["min_level_db"]
        own = (2 * top * share - top) if audio["symmetric_norm"] else top * share
        assert level * f.post_scale + f.post_offset == pytest.approx(own)


@pytest.mark.parametrize(
    ("name", "remark"),
    [
        ("coqui", "power 1.5 is the exponent of Griffin-Lim only"),
        ("coqui", "trimmed at 45 dB when it is loaded"),
        ("coqui stats", "stats_path switches the clipping and the range normalisation off"),
        ("xtts", "XTTS's vocoder takes latents"),
        ("f5 vocos", "its guard is 1e-5, that of the Vocos vocoder it feeds is 1e-7"),
        ("matcha", "the vocoder gets the mel before that"),
        ("vits", "this mel exists in its loss only"),
        ("styletts2", "a filterbank for 16 kHz"),
        ("espnet", "before its statistics (exp/stats/feats_stats.npz)"),
    ],
)
def test_traps_are_said(name: str, remark: str, tmp_path: Path) -> None:
    assert any(remark in line for line in explain(put(tmp_path, KNOWN[name][0])))


def test_styletts2_does_not_use_what_its_file_says(tmp_path: Path) -> None:
    found = read_config(put(tmp_path, changed(STYLE, "preprocess_params", "spect_params", hop_length=256)))
    assert found.frontend.hop_length == 300
    assert any("the file says otherwise (hop_length 256)" in note for note in found.notes)


def test_parallel_wavegans_features_at_another_rate(tmp_path: Path) -> None:
    f = read_config(
        put(tmp_path, changed(PWG, sampling_rate=44100, hop_size=512, sampling_rate_for_feats=22050))
    ).frontend
    assert (f.sample_rate, f.hop_length) == (22050, 256)


BAD: dict[str, tuple[Any, str]] = {
    "text for a number": (changed(HIFIGAN, hop_size="many"), "hop_size is 'many'; it must be a number"),
    "list for a number": (changed(HIFIGAN, num_mels=[80]), r"num_mels is \[80\]; it must be a number"),
    "a truth for a number": (changed(HIFIGAN, num_mels=True), "num_mels is True"),
    "a number of 400 digits": (changed(HIFIGAN, hop_size=10**400), "hop_size is 1000.*; it must be a number"),
    "no window": (changed(SPEECHT5, win_length=0), "the window has 0 samples"),
    "a mapping for a guard": (changed(NEMO, "model", "preprocessor", log_zero_guard_value={"a": 1}), "log_zero_guard_value is"),
    "a mapping for a kind": (changed(ESPNET, feats_extract={"a": 1}), "takes no mel"),
    "above Nyquist": (changed(HIFIGAN, fmax=12000), "HiFi-GAN configuration: need 0 <= fmin < fmax <= 11025 Hz"),
    "window too long": (changed(HIFIGAN, win_size=2048), "win_length 2048 is longer than n_fft 1024"),
    "units": (changed(PWG, num_mels=1, fft_size=None), "takes discrete units, not mels"),
    "pwg window": (changed(PWG, window="blackman"), "window is 'blackman'"),
    "encodec": (changed(VOCOS, "model", "init_args", "feature_extractor", class_path="vocos.feature_extractors.EncodecFeatures"), "its input is no mel"),
    "espnet linear": (changed(ESPNET, feats_extract="linear_spectrogram"), "takes no mel"),
    "espnet utterance": (changed(ESPNET, normalize="utterance_mvn"), "utterance_mvn, which calib does not compute"),
    "recognition features": (changed(NEMO, "model", "preprocessor", normalize="per_feature"), "normalised by utterance, which calib does not compute"),
    "nemo power": (changed(NEMO, "model", "preprocessor", mag_power=1.5), "mag_power is 1.5"),
    "another extractor": ({"feature_extractor_type": "ClapFeatureExtractor"}, "calib knows SpeechT5FeatureExtractor and WhisperFeatureExtractor"),
    "matcha sd": (changed(MATCHA, "data_statistics", mel_std=0), "mel_std is 0; it must be positive"),
    "coqui log": ({"audio": {**COQUI, "log_func": "np.log2"}}, "log_func is 'np.log2'"),
    "coqui range": ({"audio": {**COQUI, "min_level_db": 0}}, "make no range"),
    "f5 kind": (changed(F5, "model", "mel_spec", mel_spec_type="encodec"), "mel_spec_type is 'encodec'"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
def test_what_cannot_be_is_an_error_with_key_and_value(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    path = put(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        read_config(path)
    assert not isinstance(caught.value, UnknownConfigError)
    with pytest.raises(DataError, match=message):
        FrontEnd.load(str(path))


@pytest.mark.parametrize("content", [{"a": 1, "b": 2, "c": 3}, {}, [1, 2]])
def test_an_unknown_configuration_lists_what_is_known(content: Any, tmp_path: Path) -> None:
    with pytest.raises(UnknownConfigError) as caught:
        read_config(put(tmp_path, content))
    for system in SYSTEMS.values():
        assert system.title in str(caught.value.hint)


def test_a_file_of_two_systems_is_no_guess(tmp_path: Path) -> None:
    with pytest.raises(UnknownConfigError, match="has the keys of HiFi-GAN and of ESPnet"):
        read_config(put(tmp_path, {**HIFIGAN, **ESPNET}))


def test_python_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "hparams.py"
    path.write_text("raise SystemExit('executed')")
    with pytest.raises(DataError, match="a program, which calib does not run"):
        read_config(path)


def test_tags_are_inert(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text(f"a: !!python/object/apply:os.system ['touch {tmp_path}/executed']\nb: !new:os.system x\n")
    found = parse_yaml(path.read_text(), "evil.yaml")
    assert isinstance(found["a"], Tagged)
    assert found["b"] == Tagged("!new:os.system", "x")
    with pytest.raises(UnknownConfigError):
        read_config(path)
    assert not (tmp_path / "executed").exists()


def test_a_bomb_of_aliases_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x]"] + [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match="unfolds to more than"):
        read_config(path)


def test_references_that_lead_nowhere_are_missing_not_zero(tmp_path: Path) -> None:
    content = changed(MATCHA, sample_rate="${rate}", n_fft="${data.nothing}", hop_length="${hop_length}")
    found = read_config(put(tmp_path, content))
    assert set(found.missing) == {"sample_rate", "n_fft", "hop_length"}


def test_a_configuration_with_its_statistics_normalises(tmp_path: Path) -> None:
    import numpy as np

    path = put(tmp_path, PWG)
    np.save(tmp_path / "stats.npy", np.stack([np.linspace(-1, -4, 80), np.full(80, 0.7)]).astype(np.float32))
    found = FrontEnd.load(f"{path}@{tmp_path / 'stats.npy'}")
    assert found.post_std == pytest.approx((0.7,) * 80, rel=1e-6)
    assert found.post_mean is not None
    assert found.post_mean[79] == pytest.approx(-4.0)
    assert found == FrontEnd.load(f"pwg_ljspeech@{tmp_path / 'stats.npy'}")


def test_our_own_files_stay_ours(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: hifigan\nfmax: 7600.0\n")
    assert FrontEnd.load(str(path)).fmax == 7600.0
    assert explain(path) == []
    path.write_text("sample_rate: 22050\nn_fft: 1024\nhop_lenght: 256\n")
    with pytest.raises(CalibError, match="unknown field 'hop_lenght'"):
        FrontEnd.load(str(path))
    assert explain("hifigan") == []


def test_matchas_map_is_that_of_its_statistics(tmp_path: Path) -> None:
    f = read_config(put(tmp_path, MATCHA)).frontend
    assert -5.536622 * f.post_scale + f.post_offset == pytest.approx(0.0, abs=1e-12)
    assert math.isclose((2.116101 - 5.536622) * f.post_scale + f.post_offset, 1.0)
    empty = read_config(put(tmp_path, changed(MATCHA, data_statistics=None)))
    assert empty.frontend == catalogue()["hifigan_jik"].frontend
    assert "not normalised" in empty.notes[0]


# --- what a person may type -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config", "config.txt", "runs@2/config.json"])
def test_a_configuration_is_known_by_its_content_whatever_its_name(name: str, tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(PWG))
    np.save(tmp_path / "stats.npy", np.stack([np.linspace(-1, -4, 80), np.full(80, 0.7)]))
    assert FrontEnd.load(str(path)) == catalogue()["pwg_ljspeech"].frontend
    assert FrontEnd.load(f"{path}@{tmp_path / 'stats.npy'}").post_std == pytest.approx((0.7,) * 80)
    assert "ParallelWaveGAN configuration" in explain(f"{path}@{tmp_path / 'stats.npy'}")[0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gone.json@stats.npy", "gone.json: no such file"),
        ("gone.yaml", "gone.yaml: no such file"),
        ("hifigan@", "hifigan@: a statistics file must follow the @"),
        ("hparams.py", "a Python file is a program"),
        ("empty.yaml", "empty.yaml: holds nothing, and no front end fields"),
        ("typo.yaml", "typo.yaml: unknown field 'n_ffft'"),
        ("dir.yaml", "dir.yaml: cannot be read as text: Is a directory"),
        ("evil.yaml", "evil.yaml: no configuration that calib knows; its keys are x"),
        ("a" * 5000, "unknown front end 'aaa"),
        ("round.yaml", "round.yaml: its base leads back to it"),
        ("matcha.json", "matcha.json: is a statistics file that does not say its front end"),
    ],
)
def test_errors_name_the_file_and_what_is_wrong(spec: str, message: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hparams.py").write_text("raise SystemExit('executed')")
    Path("empty.yaml").write_text("")
    Path("typo.yaml").write_text("fmax: 7600.0\nn_ffft: 1024\n")
    Path("dir.yaml").mkdir()
    Path("round.yaml").write_text("base: about.yaml\nfmax: 7600.0\n")
    Path("about.yaml").write_text("base: round.yaml\n")
    Path("evil.yaml").write_text("x: !!python/object/apply:os.system ['touch executed']\n")
    Path("matcha.json").write_text('{"mel_mean": -5.5, "mel_std": 2.1}')
    with pytest.raises(CalibError, match=message):
        FrontEnd.load(spec)
    assert not Path("executed").exists()


def test_statistics_of_the_wrong_kind_are_refused_in_a_mapping_too(tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "stats.npy", np.stack([np.linspace(-1, -4, 80), np.full(80, 0.7)]))
    with pytest.raises(CalibError, match="but those of xtts_v2_gpt_cond only divide"):
        FrontEnd.load({"base": "xtts", "stats": str(tmp_path / "stats.npy")})


@pytest.mark.parametrize(
    ("base", "log", "scale"), [(None, "ln", 1.0), (10.0, "log10", 1 / math.log(10)), (2.0, "ln", 1 / math.log(2))]
)
def test_the_base_of_the_logarithm_is_taken_from_the_file(
    base: float | None, log: str, scale: float, tmp_path: Path
) -> None:
    """ParallelWaveGAN's ``logmelfilterbank(log_base=...)`` and ESPnet's ``LogMelFbank``: None is ln."""
    for content in (changed(PWG, log_base=base), changed(ESPNET, "feats_extract_conf", log_base=base)):
        f = read_config(put(tmp_path, content)).frontend
        assert (f.log, f.log_scale) == (log, pytest.approx(scale))
    with pytest.raises(DataError, match="log_base is 3"):
        read_config(put(tmp_path, changed(PWG, log_base=3)))


def test_nemo_takes_its_own_defaults_for_what_a_file_lacks(tmp_path: Path) -> None:
    """``highfreq=None`` (half the rate), 16 kHz, 64 bins, 20 ms every 10 ms: not those of a FastPitch recipe."""
    content = changed(NEMO)
    del content["model"]["preprocessor"]["highfreq"]
    found = read_config(put(tmp_path, content))
    assert found.frontend.fmax == found.frontend.sample_rate / 2
    assert found.missing == ("fmax",)
    part = {"_target_": NEMO["model"]["preprocessor"]["_target_"], "normalize": None}
    f = read_config(put(tmp_path, {"preprocessor": part})).frontend
    assert (f.sample_rate, f.n_mels, f.win_length, f.hop_length, f.n_fft, f.fmax) == (16000, 64, 320, 160, 512, 8000.0)


def test_coqui_takes_its_own_hop_where_a_file_lacks_it(tmp_path: Path) -> None:
    audio = {key: value for key, value in COQUI.items() if key != "hop_length"}
    found = read_config(put(tmp_path, {"model": "tacotron2", "audio": audio}))
    assert found.frontend.hop_length == 256
    assert found.missing == ("hop_length",)
    given = {**audio, "win_length": None, "fft_size": 2048, "frame_length_ms": 50, "frame_shift_ms": 12.5}
    found = read_config(put(tmp_path, {"model": "tacotron2", "audio": given}))
    assert (found.frontend.hop_length, found.missing) == (275, ())


@pytest.mark.parametrize("value", [math.nan, "nan"])
def test_matchas_negative_variance_is_said(value: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mel_std is nan") as caught:
        read_config(put(tmp_path, changed(MATCHA, "data_statistics", mel_std=value)))
    assert "negative variance" in str(caught.value.hint)
