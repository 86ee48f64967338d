"""One maker for each front end of the catalogue: from its system's code to a function of audio (see `originals`)."""

from __future__ import annotations

import ast
import io
import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from upstream import PRECISION, Front, NotObtainableError, Sources, libraries, mt, scalar, shimmed, tensor

FAMILY: dict[str, Callable[[Sources], Front]] = {}


def entry(*names: str) -> Callable[[Callable[..., Front]], Callable[..., Front]]:
    """Register a maker for entries; it gets the sources and the entry's name."""

    def register(make: Callable[..., Front]) -> Callable[..., Front]:
        for name in names:
            FAMILY[name] = lambda sources, name=name: make(sources, name)
        return make

    return register


def _hifigan_like(f: dict[str, Any], h: dict[str, Any], name: str = "mel_spectrogram") -> Front:
    """The signature that HiFi-GAN gave to the field."""
    args = (h["n_fft"], h["num_mels"], h["sampling_rate"], h["hop_size"], h["win_size"], h["fmin"], h["fmax"])
    return lambda x: mt(f[name](tensor(x), *args, center=False))


# What TacotronSTFT takes, in its order, by the names that configurations give it.
_TACOTRON = (
    "filter_length", "hop_length", "win_length", "n_mel_channels", "sampling_rate", "mel_fmin", "mel_fmax",
)  # fmt: skip
_HIFI = ("dynamic_range_compression_torch", "spectral_normalize_torch")


@entry("tacotron2_nv", "waveglow")
def _tacotron2(sources: Sources, name: str) -> Front:
    repo = "NVIDIA/tacotron2"
    parts = sources.take(repo, "stft.py", "STFT")
    parts |= sources.take(repo, "audio_processing.py", "dynamic_range_compression")
    f = sources.take(repo, "layers.py", "TacotronSTFT", **{k: parts[k] for k in ("STFT", "dynamic_range_compression")})
    if name == "tacotron2_nv":
        text = sources.text(repo, "hparams.py")
        h = {key: scalar(value) for key, value in re.findall(r"^\s*(\w+)=([\w.]+),", text, re.MULTILINE)}
        stft = f["TacotronSTFT"](*(h[key] for key in _TACOTRON))
        return lambda x: mt(stft.mel_spectrogram(tensor(x)))
    d = sources.json("NVIDIA/waveglow", "config.json")["data_config"]
    m = sources.take("NVIDIA/waveglow", "mel2samp.py", "Mel2Samp", "MAX_WAV_VALUE")
    sampler = object.__new__(m["Mel2Samp"])
    sampler.stft = f["TacotronSTFT"](
        d["filter_length"],
        d["hop_length"],
        d["win_length"],
        sampling_rate=d["sampling_rate"],
        mel_fmin=d["mel_fmin"],
        mel_fmax=d["mel_fmax"],
    )
    return lambda x: mt(m["Mel2Samp"].get_mel(sampler, tensor(x)[0] * 32768.0))


@entry("fastpitch_dle_22k", "fastpitch_dle_44k")
def _fastpitch(sources: Sources, name: str) -> Front:
    repo, root = "NVIDIA/DeepLearningExamples", "PyTorch/SpeechSynthesis/FastPitch/"
    parts = sources.take(repo, root + "common/stft.py", "STFT")
    parts |= sources.take(repo, root + "common/audio_processing.py", "dynamic_range_compression")
    f = sources.take(
        repo,
        root + "common/layers.py",
        "TacotronSTFT",
        STFT=parts["STFT"],
        dynamic_range_compression=parts["dynamic_range_compression"],
    )
    if name.endswith("22k"):
        stft = f["TacotronSTFT"](1024, 256, 1024, 80, 22050, 0.0, 8000.0)
    else:
        text = sources.text(repo, root + "scripts/train.sh")
        h = {
            k: scalar(v)
            for k, v in re.findall(r"--(filter-length|hop-length|win-length|mel-fmin|mel-fmax)\s+([\d.]+)", text)
        }
        stft = f["TacotronSTFT"](
            h["filter-length"], h["hop-length"], h["win-length"], 80, 44100, h["mel-fmin"], h["mel-fmax"]
        )
    return lambda x: mt(stft.mel_spectrogram(tensor(x)))


@entry("fastspeech2_ming024", "comprehensive_transformer_tts_keonlee")
def _fastspeech2(sources: Sources, name: str) -> Front:
    repo = "ming024/FastSpeech2" if "ming" in name else "keonlee9420/Comprehensive-Transformer-TTS"
    parts = sources.take(repo, "audio/audio_processing.py", "dynamic_range_compression")
    f = sources.take(
        repo, "audio/stft.py", "STFT", "TacotronSTFT", dynamic_range_compression=parts["dynamic_range_compression"]
    )
    h = sources.yaml(repo, "config/LJSpeech/preprocess.yaml")
    stft = f["TacotronSTFT"](*(h[key] for key in _TACOTRON))
    return lambda x: mt(stft.mel_spectrogram(tensor(x).clip(-1, 1))[0])


@entry("glowtts")
def _glowtts(sources: Sources, _: str) -> Front:
    repo = "jaywalnut310/glow-tts"
    librosa = shimmed()["librosa"]

    def stft(y: Any, n_fft: int, hop: int, win: int, window: str) -> Any:
        # What librosa 0.7 (which the README pins) does by default.
        return librosa.stft(y, n_fft=n_fft, hop_length=hop, win_length=win, window=window, pad_mode="reflect")

    parts = sources.take(repo, "stft.py", "STFT", stft=stft)
    parts |= sources.take(repo, "audio_processing.py", "dynamic_range_compression")
    f = sources.take(
        repo,
        "commons.py",
        "TacotronSTFT",
        STFT=parts["STFT"],
        dynamic_range_compression=parts["dynamic_range_compression"],
    )
    h = sources.json(repo, "configs/base.json")["data"]
    front = f["TacotronSTFT"](*(h[key] for key in _TACOTRON))
    return lambda x: mt(front.mel_spectrogram(tensor(x)))


@entry("speechbrain_lj", "speechbrain_libritts_16k")
def _speechbrain(sources: Sources, name: str) -> Front:
    repo = "speechbrain/speechbrain"
    f = sources.take(repo, "speechbrain/lobes/models/HifiGAN.py", "mel_spectogram", "dynamic_range_compression")
    path = "recipes/LJSpeech/TTS/vocoder/hifigan" if name.endswith("lj") else "recipes/LibriTTS/vocoder/hifigan"
    h = sources.yaml(repo, path + "/hparams/train.yaml")
    kwargs = {k: h[k] for k in ("sample_rate", "hop_length", "win_length", "n_fft")}
    return lambda x: mt(
        f["mel_spectogram"](
            **kwargs,
            n_mels=h["n_mel_channels"],
            f_min=h["mel_fmin"],
            f_max=h["mel_fmax"],
            power=1,
            normalized=h["mel_normalized"],
            norm="slaney",
            mel_scale=h["mel_scale"],
            compression=True,
            audio=tensor(x),
        )
    )


@entry("hifigan_jik")
def _hifigan(sources: Sources, _: str) -> Front:
    f = sources.take("jik876/hifi-gan", "meldataset.py", "mel_spectrogram", *_HIFI)
    return _hifigan_like(f, sources.json("jik876/hifi-gan", "config_v1.json"))


@entry(
    "bigvgan_22k_80_8k",
    "bigvgan_v2_22k_80_nyq",
    "bigvgan_24k_100",
    "bigvgan_v2_44k_128_256x",
    "bigvgan_v2_44k_128_512x",
)
def _bigvgan(sources: Sources, name: str) -> Front:
    config = {
        "bigvgan_22k_80_8k": "bigvgan_22khz_80band", "bigvgan_v2_22k_80_nyq": "bigvgan_v2_22khz_80band_256x", "bigvgan_24k_100": "bigvgan_v2_24khz_100band_256x",
        "bigvgan_v2_44k_128_256x": "bigvgan_v2_44khz_128band_256x", "bigvgan_v2_44k_128_512x": "bigvgan_v2_44khz_128band_512x",
    }[name]  # fmt: skip
    f = sources.take("NVIDIA/BigVGAN", "meldataset.py", "mel_spectrogram", *_HIFI)
    return _hifigan_like(f, sources.json("NVIDIA/BigVGAN", f"configs/{config}.json"))


@entry("gradtts")
def _gradtts(sources: Sources, _: str) -> Front:
    repo = "huawei-noah/Speech-Backbones"
    f = sources.take(repo, "Grad-TTS/hifi-gan/meldataset.py", "mel_spectrogram", *_HIFI)
    h = {
        k: scalar(v)
        for k, v in re.findall(r"^(\w+) = ([\w.]+)", sources.text(repo, "Grad-TTS/params.py"), re.MULTILINE)
    }
    names = {
        "n_fft": "n_fft",
        "num_mels": "n_feats",
        "sampling_rate": "sample_rate",
        "hop_size": "hop_length",
        "win_size": "win_length",
        "fmin": "f_min",
        "fmax": "f_max",
    }
    return _hifigan_like(f, {new: h[old] for new, old in names.items()})


@entry("matcha_ljspeech", "matcha_vctk", "matcha_hifi_en_female")
def _matcha(sources: Sources, name: str) -> Front:
    repo = "shivammehta25/Matcha-TTS"
    f = sources.take(repo, "matcha/utils/audio.py", "mel_spectrogram", *_HIFI)
    f |= {"normalize": sources.take(repo, "matcha/utils/model.py", "normalize")["normalize"]}
    config = {"matcha_ljspeech": "ljspeech", "matcha_vctk": "vctk", "matcha_hifi_en_female": "hi-fi_en-US_female"}[name]
    h = {**sources.yaml(repo, "configs/data/ljspeech.yaml"), **sources.yaml(repo, f"configs/data/{config}.yaml")}
    plain = {
        "n_fft": h["n_fft"],
        "num_mels": h["n_feats"],
        "sampling_rate": h["sample_rate"],
        "hop_size": h["hop_length"],
        "win_size": h["win_length"],
        "fmin": h["f_min"],
        "fmax": h["f_max"],
    }
    torch = shimmed()["torch"]
    mel = _hifigan_like(f, plain)
    return lambda x: f["normalize"](torch.as_tensor(mel(x).copy()), h["mel_mean"], h["mel_std"]).numpy()


@entry("cosyvoice1_22k", "cosyvoice2_24k", "cosyvoice3_24k")
def _cosyvoice(sources: Sources, name: str) -> Front:
    """Its feat_extractor is Matcha's mel_spectrogram, by name in its YAML."""
    f = sources.take("shivammehta25/Matcha-TTS", "matcha/utils/audio.py", "mel_spectrogram", *_HIFI)
    folder = {"cosyvoice1_22k": "cosyvoice", "cosyvoice2_24k": "cosyvoice2", "cosyvoice3_24k": "cosyvoice3"}[name]
    text = sources.text("FunAudioLLM/CosyVoice", f"examples/libritts/{folder}/conf/{folder}.yaml")
    block = text[text.index("feat_extractor: !name:matcha.utils.audio.mel_spectrogram") :]
    h = {k: scalar(v) for k, v in re.findall(r"^\s+(\w+): ([\w.]+)", "\n".join(block.splitlines()[1:9]), re.MULTILINE)}
    rate = re.search(r"^sample_rate: (\d+)", text, re.MULTILINE)
    assert rate
    h.setdefault("sampling_rate", int(rate[1]))
    return _hifigan_like(f, h)


@entry("melgan_descript")
def _melgan(sources: Sources, _: str) -> Front:
    f = sources.take("descriptinc/melgan-neurips", "mel2wav/modules.py", "Audio2Mel")
    front = f["Audio2Mel"]()
    return lambda x: mt(front(tensor(x)[None]))


@entry("vits_jaywalnut", "sovits_svc_44k", "gptsovits_s2_v1v2", "rvc_32k", "rvc_40k", "rvc_48k")
def _vits(sources: Sources, name: str) -> Front:
    rvc = "RVC-Project/Retrieval-based-Voice-Conversion-WebUI"
    repo, path, config = {
        "vits_jaywalnut": ("jaywalnut310/vits", "mel_processing.py", "configs/ljs_base.json"),
        "sovits_svc_44k": (
            "svc-develop-team/so-vits-svc",
            "modules/mel_processing.py",
            "configs_template/config_template.json",
        ),
        "gptsovits_s2_v1v2": (
            "RVC-Boss/GPT-SoVITS",
            "GPT_SoVITS/module/mel_processing.py",
            "GPT_SoVITS/configs/s2.json",
        ),
        "rvc_32k": (rvc, "train/mel_processing.py", "configs/v1/32k.json"),
        "rvc_40k": (rvc, "train/mel_processing.py", "configs/v1/40k.json"),
        "rvc_48k": (rvc, "train/mel_processing.py", "configs/v2/48k.json"),
    }[name]
    f = sources.take(repo, path, "mel_spectrogram_torch", "spectrogram_torch", "spec_to_mel_torch", *_HIFI)
    d = sources.json(repo, config)["data"]
    # The channels are those of the training script's call; so-vits and GPT-SoVITS have them in the file too.
    args = (
        d["filter_length"],
        d["n_mel_channels"],
        d["sampling_rate"],
        d["hop_length"],
        d["win_length"],
        d["mel_fmin"],
        d["mel_fmax"],
    )
    return lambda x: mt(f["mel_spectrogram_torch"](tensor(x), *args))


@entry("gptsovits_v3", "gptsovits_v4")
def _gptsovits(sources: Sources, name: str) -> Front:
    repo = "RVC-Boss/GPT-SoVITS"
    f = sources.take(repo, "GPT_SoVITS/module/mel_processing.py", "mel_spectrogram_torch", *_HIFI)
    g = sources.take(
        repo, "GPT_SoVITS/inference_webui.py", "spec_min", "spec_max", "norm_spec", "mel_fn", "mel_fn_v4", mel_spectrogram_torch=f["mel_spectrogram_torch"]
    )  # fmt: skip
    mel = g["mel_fn" if name.endswith("v3") else "mel_fn_v4"]
    return lambda x: mt(g["norm_spec"](mel(tensor(x))))


@entry("rvc_rmvpe")
def _rmvpe(sources: Sources, _: str) -> Front:
    f = sources.take("RVC-Project/Retrieval-based-Voice-Conversion-WebUI", "infer/rmvpe.py", "MelSpectrogram")
    front = f["MelSpectrogram"](False, 128, 16000, 1024, 160, None, 30, 8000)
    return lambda x: mt(front(tensor(x)))


@entry("coqui_vits")
def _coqui_vits(sources: Sources, _: str) -> Front:
    f = sources.take("coqui-ai/TTS", "TTS/tts/models/vits.py", "wav_to_mel", "amp_to_db", "_amp_to_db")
    return lambda x: mt(f["wav_to_mel"](tensor(x)[None], 1024, 80, 22050, 256, 1024, 0, None))


@entry("coqui_torchstft_voc")
def _torchstft(sources: Sources, _: str) -> Front:
    f = sources.take("coqui-ai/TTS", "TTS/utils/audio/torch_transforms.py", "TorchSTFT")
    front = f["TorchSTFT"](1024, 256, 1024, sample_rate=22050, mel_fmin=0.0, mel_fmax=None, n_mels=80, use_mel=True)
    return lambda x: mt(f["torch"].log(front(tensor(x))))  # as L1SpecLoss does


@entry("coqui_ap_default", "coqui_ap_ln", "coqui_ap_stats", "coqui_capacitron_blizzard")
def _coqui(sources: Sources, name: str) -> Front:
    repo = "coqui-ai/TTS"
    tree = ast.parse(sources.text(repo, "TTS/utils/audio/numpy_transforms.py"))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    f = sources.take(repo, "TTS/utils/audio/numpy_transforms.py", *functions, BytesIO=io.BytesIO)
    f = sources.take(repo, "TTS/utils/audio/processor.py", "AudioProcessor", **{k: f[k] for k in functions})
    (config,) = (
        n
        for n in ast.parse(sources.text(repo, "TTS/config/shared_configs.py")).body
        if getattr(n, "name", "") == "BaseAudioConfig"
    )
    kwargs = {
        n.target.id: ast.literal_eval(n.value)
        for n in config.body
        if isinstance(n, ast.AnnAssign) and n.value is not None
    }
    recipe = {
        "coqui_ap_ln": "recipes/ljspeech/fast_pitch/train_fast_pitch.py",
        "coqui_capacitron_blizzard": "recipes/blizzard2013/tacotron2-Capacitron/train_capacitron_t2.py",
    }.get(name)
    if recipe:
        call = next(
            n
            for n in ast.walk(ast.parse(sources.text(repo, recipe)))
            if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "BaseAudioConfig"
        )
        kwargs |= {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    elif name == "coqui_ap_stats":
        kwargs["signal_norm"] = False  # before the statistics
    front = f["AudioProcessor"](**kwargs, verbose=False)
    return lambda x: mt(front.melspectrogram(np.asarray(x, dtype=_shimmed_dtype())))


def _shimmed_dtype() -> Any:
    torch = shimmed()["torch"]
    return np.float64 if torch.get_default_dtype() == torch.float64 else np.float32


@entry("xtts_v2_gpt_cond", "xtts_v1_gpt_cond", "xtts_dvae", "tortoise_gpt")
def _tortoise(sources: Sources, name: str) -> Front:
    ones = shimmed()["torch"].ones(80)
    if name == "tortoise_gpt":
        f = sources.take(
            "neonbjb/tortoise-tts", "tortoise/models/arch_util.py", "TorchMelSpectrogram", DEFAULT_MEL_NORM_FILE=None
        )
        front = f["TorchMelSpectrogram"](mel_norm_file=None)
        return lambda x: mt(front(tensor(x)))
    if name == "xtts_dvae":
        f = sources.take("coqui-ai/TTS", "TTS/tts/layers/xtts/dvae.py", "dvae_wav_to_mel")
        return lambda x: mt(f["dvae_wav_to_mel"](tensor(x), mel_norms=ones))
    text = sources.text("coqui-ai/TTS", "TTS/tts/models/xtts.py")
    calls = [
        n
        for n in ast.walk(ast.parse(text))
        if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "wav_to_mel_cloning"
    ]
    wanted = [{k.arg: ast.literal_eval(k.value) for k in c.keywords if k.arg != "mel_norms"} for c in calls]
    (kwargs,) = (k for k in wanted if k["n_fft"] == (2048 if "v2" in name else 4096))
    f = sources.take("coqui-ai/TTS", "TTS/tts/models/xtts.py", "wav_to_mel_cloning")
    return lambda x: mt(f["wav_to_mel_cloning"](tensor(x), mel_norms=ones, **kwargs))


@entry("xtts_speaker_encoder")
def _speaker_encoder(sources: Sources, _: str) -> Front:
    """Its forward pass up to the first convolution, with the module that its constructor makes."""
    f = sources.take(
        "coqui-ai/TTS",
        "TTS/tts/layers/xtts/hifigan_decoder.py",
        "PreEmphasis",
        "ResNetSpeakerEncoder",
        "SEBasicBlock",
        "SELayer",
    )
    config = {
        "fft_size": 512,
        "win_length": 400,
        "hop_length": 160,
        "sample_rate": 16000,
        "preemphasis": 0.97,
        "num_mels": 64,
    }
    net = f["ResNetSpeakerEncoder"](
        input_dim=64, proj_dim=512, log_input=True, use_torch_spec=True, audio_config=config
    )

    class SeenError(Exception):
        """Carries what the hook saw."""

    def stop(_: Any, __: Any, output: Any) -> None:
        raise SeenError(output)

    net.instancenorm.register_forward_hook(stop)

    def mel(x: np.ndarray) -> np.ndarray:
        try:
            net.eval()(tensor(x))
        except SeenError as seen:
            return mt(seen.args[0])
        raise AssertionError("no normalisation in the forward pass")

    return mel


@entry("tortoise_diffusion_univnet")
def _univnet(sources: Sources, _: str) -> Front:
    repo = "neonbjb/tortoise-tts"
    stft = sources.take(repo, "tortoise/utils/stft.py", "STFT")["STFT"]
    f = sources.take(
        repo, "tortoise/utils/audio.py", "TacotronSTFT", "wav_to_univnet_mel", "normalize_tacotron_mel", "dynamic_range_compression", "TACOTRON_MEL_MAX", "TACOTRON_MEL_MIN",
        STFT=stft,
    )  # fmt: skip
    return lambda x: mt(f["wav_to_univnet_mel"](tensor(x), do_normalization=True, device="cpu"))


@entry("f5tts_vocos", "f5tts_bigvgan")
def _f5(sources: Sources, name: str) -> Front:
    function = "get_vocos_mel_spectrogram" if name.endswith("vocos") else "get_bigvgan_mel_spectrogram"
    f = sources.take("SWivid/F5-TTS", "src/f5_tts/model/modules.py", function, vocos_mel_stft_cache={})
    return lambda x: mt(f[function](tensor(x)))


@entry("vocos_mel_24k")
def _vocos(sources: Sources, _: str) -> Front:
    repo = "gemelo-ai/vocos"
    log = sources.take(repo, "vocos/modules.py", "safe_log")["safe_log"]
    f = sources.take(repo, "vocos/feature_extractors.py", "FeatureExtractor", "MelSpectrogramFeatures", safe_log=log)
    text = sources.text(repo, "configs/vocos.yaml")
    block = text[text.index("MelSpectrogramFeatures") :]
    h = {
        k: scalar(v)
        for k, v in re.findall(r"^\s+(sample_rate|n_fft|hop_length|n_mels|padding): (\w+)", block, re.MULTILINE)
    }
    front = f["MelSpectrogramFeatures"](**h)
    return lambda x: mt(front(tensor(x)))


@entry("fish_speech_firefly", "fish_speech_vqgan_old", "fish_vocoder_44k", "fish_vocoder_24k")
def _fish(sources: Sources, name: str) -> Front:
    if name.startswith("fish_speech"):
        # The configurations (firefly_gan_vq.yaml, vqgan_finetune.yaml) are of older commits; these are their numbers.
        h = (
            {"sample_rate": 44100, "n_fft": 2048, "win_length": 2048, "hop_length": 512, "n_mels": 160}
            if name.endswith("firefly")
            else {"sample_rate": 22050, "n_fft": 1024, "win_length": 1024, "hop_length": 256, "n_mels": 80}
        )
        scope = libraries()
        f = sources.take(
            "fishaudio/fish-speech", "fish_speech/utils/spectrogram.py", "LinearSpectrogram", "LogMelSpectrogram", F=scope["torchaudio"].functional
        )  # fmt: skip
    else:
        config = "44100_512_2048" if name.endswith("44k") else "24000_256_1024"
        y = sources.yaml("fishaudio/vocoder", f"fish_vocoder/configs/model/resolution/{config}.yaml")
        h = {
            "sample_rate": y["sampling_rate"],
            "n_fft": y["n_fft"],
            "win_length": y["win_length"],
            "hop_length": y["hop_length"],
            "n_mels": y["num_mels"],
        }
        f = sources.take(
            "fishaudio/vocoder", "fish_vocoder/data/transforms/spectrogram.py", "LinearSpectrogram", "LogMelSpectrogram"
        )
    front = f["LogMelSpectrogram"](**h)
    return lambda x: mt(front(tensor(x)))


@entry("fish_diffusion_nsf")
def _fish_diffusion(sources: Sources, _: str) -> Front:
    repo = "fishaudio/fish-diffusion"
    f = sources.take(repo, "fish_diffusion/utils/pitch_adjustable_mel.py", "PitchAdjustableMelSpectrogram")
    f |= {
        "dynamic_range_compression": sources.take(repo, "fish_diffusion/utils/audio.py", "dynamic_range_compression")[
            "dynamic_range_compression"
        ]
    }
    h = sources.json(repo, "tools/nsf_hifigan/config_v1.json")
    transform = f["PitchAdjustableMelSpectrogram"](
        h["sampling_rate"], h["n_fft"], h["win_size"], h["hop_size"], h["fmin"], h["fmax"], h["num_mels"]
    )
    # wav2spec of its NSF-HiFiGAN, then norm_spec of its diffusion with spec_min -5 and spec_max 0.
    return lambda x: (mt(0.434294 * f["dynamic_range_compression"](transform(tensor(x)))) + 5.0) / 5.0 * 2 - 1


@entry("pwg_ljspeech", "pwg_ljspeech_nolimit", "pwg_24k", "pwg_arctic_16k")
def _pwg(sources: Sources, name: str) -> Front:
    repo = "kan-bayashi/ParallelWaveGAN"
    f = sources.take(repo, "parallel_wavegan/bin/preprocess.py", "logmelfilterbank")
    config = {
        "pwg_ljspeech": "ljspeech/voc1/conf/parallel_wavegan.v1.yaml", "pwg_ljspeech_nolimit": "ljspeech/voc1/conf/parallel_wavegan.v1.no_limit.yaml",
        "pwg_24k": "csmsc/voc1/conf/parallel_wavegan.v1.yaml", "pwg_arctic_16k": "arctic/voc1/conf/parallel_wavegan.v1.yaml",
    }[name]  # fmt: skip
    h = sources.yaml(repo, "egs/" + config)
    keys = ("fft_size", "hop_size", "win_length", "window", "num_mels", "fmin", "fmax")
    return lambda x: f["logmelfilterbank"](
        np.asarray(x, dtype=_shimmed_dtype()), h["sampling_rate"], **{k: h[k] for k in keys}
    )


@entry("espnet2_tts_22k", "espnet2_tts_24k", "espnet2_tts_default_16k", "hf_fastspeech2_conformer")
def _espnet(sources: Sources, name: str) -> Front:
    repo = "espnet/espnet"
    around = {
        "InversibleInterface": object,
        "typechecked": lambda function: function,
        "check_argument_types": lambda: True,
        "make_pad_mask": None,
    }
    torch = shimmed()["torch"]
    parts = sources.take(repo, "espnet2/layers/stft.py", "Stft", **around)
    parts |= sources.take(repo, "espnet2/layers/log_mel.py", "LogMel", **around)
    # Versions of the file differ in whether Stft takes pad_mode; its default is torch's, reflect.
    stft = parts["Stft"]
    takes = "pad_mode" in stft.__init__.__code__.co_varnames

    def make(*args: Any, pad_mode: str = "reflect", **kwargs: Any) -> Any:
        return stft(*args, **({"pad_mode": pad_mode} if takes else {}), **kwargs)

    f = sources.take(
        repo,
        "espnet2/tts/feats_extract/log_mel_fbank.py",
        "LogMelFbank",
        AbsFeatsExtract=torch.nn.Module,
        Stft=make,
        LogMel=parts["LogMel"],
        **around,
    )
    h = {
        "24k": (24000, 2048, 1200, 300),
        "22k": (22050, 1024, None, 256),
        "mer": (22050, 1024, None, 256),
        "16k": (16000, 1024, None, 256),
    }[name[-3:]]
    front = f["LogMelFbank"](fs=h[0], n_fft=h[1], win_length=h[2], hop_length=h[3])
    return lambda x: np.asarray(front(tensor(x), None)[0][0])


@entry("hf_speecht5")
def _speecht5(_: Sources, __: str) -> Front:
    try:
        from transformers import SpeechT5FeatureExtractor
    except ImportError as error:
        raise NotObtainableError(f"transformers: {error}") from None
    front = SpeechT5FeatureExtractor()
    return lambda x: np.asarray(
        front(audio_target=np.asarray(x, dtype=np.float32), sampling_rate=16000)["input_values"][0]
    )


@entry("styletts2")
def _styletts2(sources: Sources, _: str) -> Front:
    f = sources.take("yl4579/StyleTTS2", "meldataset.py", "preprocess", "to_mel", "mean", "std")
    return lambda x: mt(f["preprocess"](np.asarray(x, dtype=np.float64)))


@entry("nemo_fastpitch_22k", "nemo_hifigan_22k", "nemo_vits", "nemo_featurizer_log1p")
def _nemo(sources: Sources, name: str) -> Front:
    repo = "NVIDIA/NeMo"
    f = sources.take(
        repo,
        "nemo/collections/asr/parts/preprocessing/features.py",
        "FilterbankFeatures",
        "normalize_batch",
        "splice_frames",
        "CONSTANT",
    )
    torch = f["torch"]
    if name == "nemo_featurizer_log1p":
        h = sources.yaml(repo, "examples/tts/conf/feature/feature_22050.yaml")
        kwargs = {
            "sample_rate": h["sample_rate"], "nfilt": h["mel_dim"], "pad_to": 1, "n_window_size": h["win_length"], "n_window_stride": h["hop_length"], "n_fft": h["win_length"],
            "lowfreq": h["lowfreq"], "highfreq": h["highfreq"], "mag_power": 1.0, "log_zero_guard_type": "add", "log_zero_guard_value": 1.0, "mel_norm": None, "normalize": None,
            "preemph": None, "dither": 0.0,
        }  # fmt: skip
    else:
        path = {
            "nemo_fastpitch_22k": "fastpitch_align_v1.05.yaml",
            "nemo_hifigan_22k": "hifigan/hifigan.yaml",
            "nemo_vits": "vits.yaml",
        }[name]
        text = sources.text(repo, "examples/tts/conf/" + path)
        h = sources.yaml(repo, "examples/tts/conf/" + path)
        block = re.search(r"\n  preprocessor:\n((?:    .*\n)+)", text)
        assert block
        raw = dict(re.findall(r"^\s+(\w+)\s*:\s*([^\s#]+)", block[1], re.MULTILINE))
        kwargs = {}
        for key, value in raw.items():
            reference = re.fullmatch(r"\$\{(?:model\.)?(\w+)\}", value)
            kwargs[{"features": "nfilt"}.get(key, key)] = h[reference[1]] if reference else scalar(value)
        for key in ("_target_", "window_size", "window_stride"):
            kwargs.pop(key, None)
    front = f["FilterbankFeatures"](**kwargs).eval()
    return lambda x: mt(front(tensor(x), torch.tensor([len(x)]))[0])


@entry("myxtts_utils_audio")
def _myxtts(sources: Sources, _: str) -> Front:
    f = sources.take("masoodafar-web/MyXTTSModel", "myxtts/utils/audio.py", "AudioProcessor", TORCH_AVAILABLE=False)
    front = f["AudioProcessor"](enable_vad=False)

    def mel(x: np.ndarray) -> np.ndarray:
        prepared = front.preprocess_audio(np.asarray(x, dtype=_shimmed_dtype()))
        return mt(front.wav_to_mel(prepared))

    return mel


@entry("myxtts_tf_native")
def _myxtts_tf(sources: Sources, _: str) -> Front:
    try:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import tensorflow as tf
    except ImportError as error:
        raise NotObtainableError(f"tensorflow: {error}") from None
    import typing

    source = sources.text("masoodafar-web/MyXTTSModel", "myxtts/data/tf_native_loader.py")
    (cls,) = (
        n
        for n in ast.parse(source).body
        if isinstance(n, ast.ClassDef) and "_compute_mel_spectrogram" in ast.unparse(n)
    )
    scope: dict[str, Any] = {
        "tf": tf,
        "np": np,
        **{k: getattr(typing, k) for k in ("Optional", "Tuple", "Union", "Dict", "List", "Any", "Callable")},
    }
    exec(compile(ast.Module([cls], []), "tf_native_loader", "exec"), scope)  # noqa: S102
    dtype = np.float64 if PRECISION == "float64" else np.float32
    bank = tf.signal.linear_to_mel_weight_matrix
    tf.signal.linear_to_mel_weight_matrix = lambda **kwargs: bank(**kwargs, dtype=tf.as_dtype(dtype))
    front = scope[cls.name]()

    def mel(x: np.ndarray) -> np.ndarray:
        audio = front._normalize_audio(tf.constant(np.asarray(x, dtype=dtype)))  # noqa: SLF001
        return np.asarray(front._compute_mel_spectrogram(audio))  # noqa: SLF001

    return mel


@entry("librosa_default")
def _librosa(_: Sources, __: str) -> Front:
    librosa = shimmed()["librosa"]
    return lambda x: mt(librosa.feature.melspectrogram(y=np.asarray(x, dtype=_shimmed_dtype())))


@entry("torchaudio_default")
def _torchaudio(_: Sources, __: str) -> Front:
    scope = libraries()
    if "torchaudio" not in scope:
        raise NotObtainableError("torchaudio is not installed")
    front = scope["torchaudio"].transforms.MelSpectrogram()
    return lambda x: mt(front(tensor(x)))


@entry("whisper")
def _whisper(sources: Sources, _: str) -> Front:
    torch = shimmed()["torch"]
    with np.load(io.BytesIO(sources.bytes("openai/whisper", "whisper/assets/mel_filters.npz"))) as archive:
        filters = torch.as_tensor(archive["mel_80"], dtype=torch.get_default_dtype())
    f = sources.take(
        "openai/whisper",
        "whisper/audio.py",
        "log_mel_spectrogram",
        N_FFT=400,
        HOP_LENGTH=160,
        mel_filters=lambda *_: filters,
    )
    return lambda x: mt(f["log_mel_spectrogram"](tensor(x)[0]))
