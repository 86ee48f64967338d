"""Statistics straight from audio: against plain float64, in float32 only where that is good enough, and reproducible."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
from speechlike import recording, voice

from calib.data.audio import read_audio, resample, write_wav
from calib.errors import DataError
from calib.mel import arrays
from calib.mel.analysis import STREAMED, mel_blocks, spans
from calib.mel.arrays import namespace
from calib.mel.dataset import DatasetStatistics
from calib.mel.frontend import FrontEnd
from calib.mel.rounding import Noise
from calib.mel.statistics import Running, UtteranceStatistics, measure, measure_audio

SECONDS = 6.0


def quantised(x: np.ndarray) -> np.ndarray:
    return np.round(x * 32768).clip(-32768, 32767).astype(np.int16)


@functools.cache
def audio(rate: int, count: int = 2) -> list[np.ndarray]:
    return [(quantised(recording(SECONDS, seed, rate)) / 32768).astype(np.float32) for seed in range(count)]


def upsampled(rate: int) -> list[np.ndarray]:
    """Recordings at 16 kHz brought to a higher rate: nothing above 8 kHz, as far as float32 can say."""
    return [resample(x, 16_000, rate) for x in audio(16_000)]


def float64_mel(fe: FrontEnd, x: np.ndarray) -> np.ndarray:
    """The front end's steps written out once more, in float64; for those that pad by reflection or zeros on both sides."""
    y = np.pad(x.astype(np.float64), fe.pad_audio)
    inner = fe.pad_each_side - fe.pad_audio
    if fe.padding != "none":
        y = np.pad(y, inner, mode="reflect" if fe.pad_mode == "reflect" else "constant")
    frames = np.lib.stride_tricks.sliding_window_view(y, fe.n_fft)[:: fe.hop_length][: fe.n_frames(x.size)]
    spectrum = np.abs(np.fft.rfft(frames * fe.window_array())) ** 2
    if fe.spectrum_eps:
        added = fe.spectrum_eps_mode == "add"
        spectrum = spectrum + fe.spectrum_eps if added else np.maximum(spectrum, fe.spectrum_eps)
    mel = (spectrum ** (fe.power / 2)) @ fe.basis().T.astype(np.float64)
    if fe.log != "none":
        mel = mel + fe.log_eps if fe.log_guard == "add" else np.maximum(mel, fe.log_eps)
        mel = np.log(mel) * fe.log_scale
    mel = mel * fe.post_scale + fe.post_offset
    mel = mel - (0 if fe.post_mean is None else np.array(fe.post_mean))
    mel = mel / (1 if fe.post_std is None else np.array(fe.post_std))
    if fe.clip_min is not None or fe.clip_max is not None:
        mel = np.clip(mel, fe.clip_min, fe.clip_max)
    if fe.overwrite_last:
        mel[-fe.overwrite_last :] = fe.overwrite_value
    return mel


@pytest.mark.parametrize("seconds", [0.5, 2.0])
@pytest.mark.parametrize("name", ["hifigan", "tacotron2", "nemo"])
def test_one_utterance_is_as_near_to_float64_as_the_manual_says(name: str, seconds: float) -> None:
    """By bin 2.5e-4 / sqrt(frames) of the sd; over all bins a millionth."""
    fe = FrontEnd.load(name)
    for x in audio(fe.sample_rate):
        part = x[: round(seconds * fe.sample_rate)]
        found = measure_audio(fe, part)
        mel = float64_mel(fe, fe.prepare(part))
        mean, sd = found.s1 / found.n_frames, mel.std(0)
        own = np.sqrt(np.maximum(found.s2 / found.n_frames - mean**2, 0))
        law = 2.5e-4 / np.sqrt(found.n_frames) * sd
        moving = sd > 1e-3
        assert (np.abs(own - sd) <= law)[moving].all()
        assert (np.abs(mean - mel.mean(0)) <= law)[moving].all()
        assert abs(float(mean.mean() - mel.mean())) <= 1e-6 * max(abs(float(mel.mean())), float(mel.std()))


def statistics(fe: FrontEnd, parts: list[UtteranceStatistics]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd by bin of all utterances."""
    total = DatasetStatistics(fe.n_mels)
    for part in parts:
        total.add(part)
    found = total.result(floor=fe.floor)["per_bin"]
    return np.array(found["mean"]), np.array(found["std"])


def worst(fe: FrontEnd, parts: list[UtteranceStatistics], signals: list[np.ndarray]) -> float:
    """Largest relative error of mean and sd over the bins; of a mean near zero, relative to the sd."""
    mel = np.concatenate([float64_mel(fe, fe.prepare(x)) for x in signals])
    mean, sd = statistics(fe, parts)
    there = mel.std(0) > 0
    assert np.array_equal(mean[~there], mel.mean(0)[~there]), "filters without a bin"
    off, sd_off = np.abs(mean - mel.mean(0))[there], np.abs(sd - mel.std(0))[there]
    scale, true = np.maximum(np.abs(mel.mean(0)), mel.std(0))[there], mel.std(0)[there]
    return float(max((off / scale).max(), (sd_off / true).max()))


def in_precision(fe: FrontEnd, x: np.ndarray, precision: str) -> tuple[UtteranceStatistics, bool]:
    """Statistics in one precision whatever the rounding does, and whether float32 is said to be good enough."""
    running, noise = Running(fe.n_mels, fe.floor), Noise(fe)
    for block in mel_blocks(fe, fe.prepare(x), namespace(precision=precision), noise):
        running.add(block)
    found = running.result()
    return found, noise.small(found)


@pytest.mark.parametrize(
    "name",
    ["hifigan", "tacotron2", "myxtts_utils_audio", "nemo_fastpitch_22k", "coqui_ap_stats", "xtts_dvae", "matcha_vctk"],
)
def test_float32_is_good_enough_and_stays_within_a_millionth_of_float64(name: str) -> None:
    fe = FrontEnd.load(name)
    signals = audio(fe.sample_rate, 4)
    assert all(in_precision(fe, x, "single")[1] for x in signals)
    assert worst(fe, [measure_audio(fe, x) for x in signals], signals) < 1e-6


@pytest.mark.parametrize("name", ["vocos_mel_24k", "f5tts_vocos"])
def test_where_bins_are_empty_float32_is_not_used(name: str) -> None:
    """And would be wrong in the third digit."""
    fe = FrontEnd.load(name)
    signals = upsampled(fe.sample_rate)
    single = [in_precision(fe, x, "single") for x in signals]
    assert not any(small for _, small in single)
    assert worst(fe, [found for found, _ in single], signals) > 1e-4
    assert worst(fe, [measure_audio(fe, x) for x in signals], signals) < 1e-9


@pytest.mark.parametrize("name", ["librosa_default", "torchaudio_default"])
def test_without_a_logarithm_the_statistics_are_made_in_float64(name: str) -> None:
    fe = FrontEnd.load(name)
    signals = audio(fe.sample_rate)
    assert worst(fe, [measure_audio(fe, x) for x in signals], signals) < 1e-9


@pytest.mark.parametrize("name", ["whisper", "myxtts_tf_native"])
def test_a_normalisation_by_utterance_needs_the_whole_mel(name: str) -> None:
    fe = FrontEnd.load(name)
    x = audio(fe.sample_rate)[0]
    assert measure_audio(fe, x).content() == measure(fe.mel(x), floor=fe.floor).content()


def test_digital_silence_is_the_floor_in_every_value() -> None:
    fe = FrontEnd.load("hifigan")
    found = measure_audio(fe, np.zeros(22050, np.float32))
    assert found.at_floor.tolist() == [found.n_frames] * 80
    assert found.at_low == 80 * found.n_frames
    assert float(found.low.min()) == float(found.high.max()) == pytest.approx(fe.floor, abs=1e-6)


def test_real_speech_stays_within_a_millionth_in_the_quiet_bins_too(ljspeech: Path) -> None:
    fe = FrontEnd.load("hifigan")
    signals = [read_audio(path, fe.sample_rate).samples for path in sorted(ljspeech.rglob("*.wav"))]
    assert worst(fe, [measure_audio(fe, x) for x in signals], signals) < 1e-6


def test_extremes_and_counts_are_those_of_the_mel() -> None:
    fe = FrontEnd.load("hifigan")
    x = np.concatenate([np.zeros(9000, np.float32), voice(9.0, 1)])
    mel, found = fe.mel(x), measure_audio(fe, x)
    assert found.n_frames == len(mel) > 2 * STREAMED
    np.testing.assert_allclose(found.low, mel.min(0), atol=1e-3)
    np.testing.assert_allclose(found.high, mel.max(0), atol=1e-5)
    assert fe.floor is not None
    assert found.at_floor.tolist() == (mel <= fe.floor + 1e-4).sum(0).tolist()
    assert found.at_low == np.count_nonzero(mel == mel.min()) > 0
    assert found.histogram.counts.sum() == mel.size


def test_16_bit_samples_give_the_bytes_of_their_float32() -> None:
    fe = FrontEnd.load("hifigan")
    pcm = quantised(recording(3.0, 0))
    assert measure_audio(fe, pcm).content() == measure_audio(fe, pcm.astype(np.float32) / 32768).content()


def test_an_utterance_has_the_same_bytes_whatever_was_measured_before_it() -> None:
    """Blocks never span two utterances, and nothing is left in a buffer."""
    fe, other = FrontEnd.load("hifigan"), FrontEnd.load("nemo_fastpitch_22k")
    signals = audio(22050)
    first = [measure_audio(fe, x).content() for x in signals]
    for x in reversed(signals):
        measure_audio(other, x[:7000])
    assert [measure_audio(fe, x[: len(x)]).content() for x in reversed(signals)] == first[::-1]


@pytest.mark.parametrize("count", [1, 2, STREAMED, STREAMED + 1, 5 * STREAMED + 7])
def test_blocks_cover_every_frame_once_and_are_of_one_size(count: int) -> None:
    found = list(spans(count))
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
    assert found[-1][1] == count
    sizes = [stop - start for start, stop in found]
    assert max(sizes) <= STREAMED
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(0, np.float32), "not empty"),
        (np.full(9000, np.nan, np.float32), "NaN"),
        (np.full(9000, np.inf, np.float32), "NaN or infinite"),
        (np.zeros(100, np.int16), "too short"),
    ],
)
def test_what_has_no_mel_has_no_statistics(x: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        measure_audio(FrontEnd.load("hifigan"), x)


def test_what_overflows_in_the_mel_is_an_error_here_too() -> None:
    x = audio(22050)[0] * np.float32(1e25)  # finite; its energy and its powers are not, in float32
    with pytest.raises(DataError, match=r"the mel holds .* infinite values"):
        measure_audio(FrontEnd.load("hifigan"), x)


def test_a_mel_with_infinite_values_is_an_error_with_their_number() -> None:
    fe = FrontEnd.load("hifigan")
    running = Running(fe.n_mels, fe.floor)
    block = np.zeros((5, fe.n_mels), np.float32)
    block[1, :3] = -np.inf
    running.add(block)
    running.add(np.zeros((5, fe.n_mels), np.float32))
    with pytest.raises(DataError, match="3 NaN or infinite values of 800"):
        running.result()


# --- the FFT ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [400, 1024, 1920])
def test_the_fft_is_scipys_bit_for_bit(n: int, dtype: type) -> None:
    rows = np.random.default_rng(0).standard_normal((9, n)).astype(dtype)
    out = np.empty((9, n // 2 + 1), np.result_type(dtype, np.complex64))
    assert arrays._real_fft() is not arrays._public_fft, "scipy's compiled module is not where it was: 0.2 s are lost"
    assert np.array_equal(arrays._real_fft()(rows, out), scipy.fft.rfft(rows))
    assert np.array_equal(arrays._public_fft(rows, out), scipy.fft.rfft(rows))


def test_a_scipy_without_that_module_is_used_the_public_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays.importlib.util, "find_spec", lambda _: None)
    assert arrays._real_fft.__wrapped__() is arrays._public_fft


def test_statistics_of_a_wav_file_import_nothing_heavy(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", voice(1.0, 0), 22050)
    program = (
        "import sys; from pathlib import Path; from calib.data.sources import Item; from calib.mel.corpus import Measure, MelReader;"
        "from calib.mel.frontend import FrontEnd;"
        f"Measure(MelReader(FrontEnd.load('hifigan')))(Item('a', Path({str(tmp_path / 'a.wav')!r})));"
        "print([m for m in ('scipy.fft', 'scipy.special', 'soundfile', 'soxr', 'torch', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
