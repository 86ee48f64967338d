"""The compiled kernel against the pure path: every front end of the catalogue, every instruction set, every odd case."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from speechlike import recording, voice

from calib.data.sources.base import Item
from calib.errors import DataError, UsageError
from calib.mel.catalogue import catalogue, entries
from calib.mel.corpus import Measure, MelReader
from calib.mel.frontend import FrontEnd
from calib.mel.statistics import UtteranceStatistics, measure
from calib.native import library, mel
from calib.native.compile import VARIANTS

LN = {"sample_rate": 22050, "n_mels": 20, "fmax": 8000.0}


def wanted(variant: str) -> mel.Kernel:
    """The kernel, or skip with the reason."""
    if reason := library.missing(variant):
        pytest.skip(reason)
    return mel.Kernel(variant)


@pytest.fixture(params=list(VARIANTS))
def kernel(request: pytest.FixtureRequest) -> mel.Kernel:
    return wanted(request.param)


@pytest.fixture
def any_kernel() -> mel.Kernel:
    """The best one here."""
    return wanted(next(iter(library.available()), "generic"))


def pcm(x: np.ndarray) -> np.ndarray:
    return np.rint(x * 32767).astype(np.int16)


def floats(x: np.ndarray) -> np.ndarray:
    return np.multiply(x, np.float32(2.0**-15), dtype=np.float32)


@functools.cache
def spoken(rate: int) -> np.ndarray:
    """1.5 s: digital silence, then a voice in a quiet room; int16."""
    return pcm(np.concatenate([np.zeros(rate // 10, np.float32), recording(1.4, 3, rate)]))


@functools.cache
def pure(name: str) -> UtteranceStatistics:
    fe = catalogue()[name].frontend
    return measure(fe.mel(floats(spoken(fe.sample_rate))), floor=fe.floor)


def moments(u: UtteranceStatistics) -> tuple[np.ndarray, np.ndarray]:
    mean = u.s1 / u.n_frames
    return mean, np.sqrt(np.maximum(u.s2 / u.n_frames - mean**2, 0))


def assert_same(found: UtteranceStatistics, expected: UtteranceStatistics, within: float = 1e-6) -> None:
    """Per bin, relative to the root mean square of the bin (a normalised mean may be 0)."""
    (mean, sd), (mean_, sd_) = moments(found), moments(expected)
    scale = np.maximum(np.hypot(mean_, sd_), 1e-6)
    assert found.n_frames == expected.n_frames
    assert (np.abs(mean - mean_) / scale).max() < within
    # Of a bin that hardly moves the sd is that of float32 rounding.
    moving = sd_ > 1e-3 * scale
    assert (np.abs(sd - sd_)[moving] / sd_[moving]).max(initial=0) < within
    np.testing.assert_allclose(found.low, expected.low, rtol=2e-6, atol=2e-6 * scale.max())
    np.testing.assert_allclose(found.high, expected.high, rtol=2e-6, atol=2e-6 * scale.max())
    assert np.array_equal(found.at_floor, expected.at_floor)
    assert abs(found.histogram.start - expected.histogram.start) <= 1
    assert found.histogram.counts.sum() == expected.n_frames * expected.s1.size
    for q in (0.001, 0.05, 0.5, 0.95, 0.999):  # a value at the edge of a bin may lie on its other side
        assert found.histogram.quantile(q) == pytest.approx(expected.histogram.quantile(q), abs=found.histogram.width)


# --- the front ends of the catalogue -----------------------------------------------------------------------------------


def test_the_kernel_takes_every_front_end_but_those_that_an_utterance_normalises(any_kernel: mel.Kernel) -> None:
    refused = {entry.id for entry in entries() if not any_kernel.takes(entry.frontend)}
    assert refused == {entry.id for entry in entries() if entry.frontend.utterance_norm is not None}
    assert len(refused) == 3


@pytest.mark.parametrize("name", [e.id for e in entries() if e.frontend.utterance_norm is None])
def test_a_front_end_of_the_catalogue_is_within_a_millionth_of_the_pure_path(name: str, kernel: mel.Kernel) -> None:
    fe = catalogue()[name].frontend
    found = kernel.measure(fe, spoken(fe.sample_rate))
    assert found is not None
    assert_same(found, pure(name))
    assert found.at_low == pytest.approx(pure(name).at_low, abs=1)


@pytest.mark.parametrize("name", ["hifigan", "whisper", "cosyvoice2_24k"])
def test_instruction_sets_agree(name: str) -> None:
    fe = catalogue()[name].frontend
    fe = FrontEnd.from_fields({**fe.fields(), "utterance_norm": None})
    found = [wanted(v).measure(fe, spoken(fe.sample_rate)) for v in library.available()]
    if len(found) < 2:
        pytest.skip(f"only {library.available()} here")
    for other in found[1:]:
        assert found[0] is not None
        assert other is not None
        assert_same(other, found[0])


# --- transforms, geometry ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "n_fft", [4, 6, 8, 10, 12, 16, 30, 32, 64, 100, 128, 240, 250, 256, 512, 600, 1000, 1024, 2048, 4096, 8192]
)
def test_every_length_is_numpys_fft(n_fft: int, kernel: mel.Kernel) -> None:
    fe = FrontEnd.from_fields(
        {"sample_rate": 16000, "n_fft": n_fft, "hop_length": max(1, n_fft // 3), "n_mels": 3, "log": "none", "power": 2, "padding": "none", "filter_norm": None}
    )  # fmt: skip
    x = np.random.default_rng(n_fft).uniform(-0.3, 0.3, n_fft * 5 + 3)
    frames = np.lib.stride_tricks.sliding_window_view(x, n_fft)[:: fe.hop_length] * fe.window_array()
    mel = (np.abs(np.fft.rfft(frames)) ** 2) @ fe.basis().T.astype(np.float64)
    if mel.max() > 500:  # beyond the kernel's histogram
        x, mel = x / 100, mel / 1e4
    found = kernel.measure(fe, x)
    assert found is not None
    np.testing.assert_allclose(found.s1, mel.sum(0), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found.high, mel.max(0), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("n_fft", [14, 1022, 255, 2])
def test_other_lengths_are_left_to_the_pure_path(n_fft: int, any_kernel: mel.Kernel) -> None:
    fe = FrontEnd.from_fields({**LN, "n_fft": n_fft, "hop_length": 2, "n_mels": 1})
    assert not any_kernel.takes(fe)
    assert any_kernel.measure(fe, spoken(22050)) is None


PADDINGS = [
    {"padding": "center"},
    {"padding": "center", "pad_mode": "constant"},
    {"padding": "same", "win_length": 200},
    {"padding": "end", "pad_audio": 30},
    {"padding": "none"},
    {"padding": "same", "pad_audio": 100, "drop_last": 1},
    {"padding": "center", "pad_audio": 17, "frame_multiple": 4, "overwrite_last": 2, "overwrite_value": -3.0},
    {"padding": "center", "hop_length": 300},
]


@pytest.mark.parametrize("fields", PADDINGS, ids=lambda f: "-".join(str(v) for v in f.values()))
def test_short_audio_is_measured_or_left_alone(fields: dict[str, object], kernel: mel.Kernel) -> None:
    fe = FrontEnd.from_fields({**LN, "n_fft": 256, "hop_length": 64, **fields})
    x = pcm(voice(0.3, 5))[2000:]
    seen = set()
    for size in (1, 2, 30, 63, 64, 65, 127, 128, 129, 130, 193, 255, 256, 257, 400, 575, 576, 577, 1000, 1037):
        found = kernel.measure(fe, x[:size])
        try:
            mel = fe.mel(floats(x[:size]))
        except DataError:
            assert found is None, size
            seen.add("refused")
            continue
        assert found is not None, size
        assert_same(found, measure(mel, floor=fe.floor))
        seen.add("measured")
    assert "measured" in seen


@pytest.mark.parametrize(
    "fields",
    [
        {"log_guard": "add"},
        {"log_guard": "none", "spectrum_eps": 1e-9},
        {"spectrum_eps": 1e-6, "spectrum_eps_mode": "clamp", "power": 2},
        {"log": "log10", "log_multiplier": 20.0, "post_scale": 0.04, "post_offset": 1.5, "clip_min": -1.0, "clip_max": 0.5},
        {"log": "none", "power": 1},
        {"post_mean": [float(k) / 7 for k in range(20)], "post_std": [(-1.0) ** k * (0.5 + 0.1 * k) for k in range(20)]},
        {"fmin": 7000.0, "fmax": 7100.0, "n_mels": 20},
        {"preemphasis": 0.97, "peak_norm": 0.9},
        {"rms_norm": 0.1, "clip_audio": 0.5, "trim_top_db": 20.0},
    ],
    ids="-".join,
)  # fmt: skip
def test_every_field_after_the_transform(fields: dict[str, object], kernel: mel.Kernel) -> None:
    fe = FrontEnd.from_fields({**LN, **fields})
    found = kernel.measure(fe, spoken(22050))
    assert found is not None
    assert_same(found, measure(fe.mel(floats(spoken(22050))), floor=fe.floor), within=2e-6)


# --- one result, whoever asks ------------------------------------------------------------------------------------------


def test_integers_are_the_same_bytes_as_floats_and_nothing_lingers(kernel: mel.Kernel) -> None:
    fe = catalogue()["hifigan"].frontend
    x = spoken(22050)
    first = kernel.measure(fe, x)
    other = kernel.measure(fe, pcm(voice(0.7, 9)))
    again = kernel.measure(fe, floats(x))
    assert first is not None
    assert other is not None
    assert again is not None
    assert first.content() == again.content() != other.content()
    assert first.at_low == again.at_low


def test_plans_of_many_front_ends_and_threads(any_kernel: mel.Kernel) -> None:
    from concurrent.futures import ThreadPoolExecutor

    x = spoken(22050)
    chosen = [FrontEnd.from_fields({**LN, "hop_length": 200 + k}) for k in range(12)]
    alone = [any_kernel.measure(fe, x) for fe in chosen]
    with ThreadPoolExecutor(4) as pool:
        crowd = list(pool.map(lambda fe: any_kernel.measure(fe, x), chosen * 3))
    assert all(u is not None for u in alone)
    assert [u.content() for u in crowd if u] == [u.content() for u in alone * 3 if u]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_what_is_not_finite_is_left_to_the_pure_path(bad: float, kind: type, kernel: mel.Kernel) -> None:
    x = floats(spoken(22050)).astype(kind)
    x[[3, len(x) // 2, -1][hash(kind.__name__) % 3]] = bad
    assert kernel.measure(FrontEnd.from_fields(LN), x) is None


def test_values_beyond_the_histogram_are_left_to_the_pure_path_and_do_not_linger(kernel: mel.Kernel) -> None:
    loud = FrontEnd.from_fields({**LN, "log": "none", "power": 2, "filter_norm": None})
    scaled = FrontEnd.from_fields({**LN, "log": "none", "power": 1, "filter_norm": None, "post_scale": 1e-3})
    x = floats(spoken(22050))
    before = kernel.measure(scaled, x)
    assert kernel.measure(loud, x) is None  # up to 1e4
    assert kernel.measure(loud, x * np.float32(1e25)) is None  # infinite
    after = kernel.measure(scaled, x)
    assert before is not None
    assert after is not None
    assert before.content() == after.content()


def test_a_filter_without_bins_is_a_logarithm_of_zero(any_kernel: mel.Kernel) -> None:
    fe = FrontEnd.from_fields({**LN, "log_guard": "none", "spectrum_eps": 1e-9, "fmin": 7000.0, "fmax": 7030.0})
    assert not fe.basis().any(axis=1).all()
    assert any_kernel.measure(fe, spoken(22050)) is None


# --- in a corpus -------------------------------------------------------------------------------------------------------


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch, any_kernel: mel.Kernel) -> Iterator[str]:
    monkeypatch.setenv("CALIB_NATIVE", any_kernel.name)
    return any_kernel.name  # type: ignore[return-value]


def _item(path: Path) -> Item:
    return Item(id=path.stem, audio=path)


@pytest.mark.parametrize("rate", [22050, 16000])
def test_a_corpus_has_the_same_statistics_with_and_without_the_kernel(
    rate: int, chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.wav", recording(1.0, 4, rate), rate, subtype="PCM_16")
    work = Measure(MelReader(FrontEnd.load("hifigan")))
    assert mel.path(FrontEnd.load("hifigan")) == chosen
    fast, *others = work(_item(tmp_path / "a.wav"))
    monkeypatch.setenv("CALIB_NATIVE", "0")
    assert mel.path(FrontEnd.load("hifigan")) == "pure"
    slow, *rest = work(_item(tmp_path / "a.wav"))
    assert rest == others
    (mean, sd), (mean_, sd_) = moments(fast), moments(slow)
    np.testing.assert_allclose(mean, mean_, rtol=1e-6)
    np.testing.assert_allclose(sd, sd_, rtol=1e-6)
    assert fast.content() != b""
    assert fast.seconds == slow.seconds == 1.0


@pytest.mark.parametrize("what", ["short", "nan", "infinite"])
def test_errors_are_those_of_the_pure_path(
    what: str, chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen
    x = recording(0.5, 4) if what != "short" else recording(0.5, 4)[:100]
    if what == "infinite":
        x = x * np.float32(1e30)  # finite samples; their powers are not
    if what == "nan":
        x[100] = np.nan
    soundfile.write(tmp_path / "a.wav", x, 22050, subtype="FLOAT")
    messages = []
    for value in (chosen, "0"):
        monkeypatch.setenv("CALIB_NATIVE", value)
        with np.errstate(all="ignore"), pytest.raises(DataError) as caught:
            Measure(MelReader(FrontEnd.load("hifigan")))(_item(tmp_path / "a.wav"))
        messages.append(caught.value.message)
    assert messages[0] == messages[1]
    assert str(tmp_path) not in messages[0]


# --- which path ----------------------------------------------------------------------------------------------------------


def test_without_the_kernel_everything_is_pure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_NATIVE", "0")
    assert mel.kernel() is None
    assert mel.path(FrontEnd.load("hifigan")) == library.PURE


def test_the_device_and_stored_mels_have_the_pure_path(any_kernel: mel.Kernel) -> None:
    assert any_kernel
    assert mel.path(FrontEnd.load("hifigan"), "cuda") == library.PURE
    assert mel.path(None) == library.PURE
    assert mel.path(FrontEnd.load("whisper")) == library.PURE


@pytest.mark.parametrize("value", ["", "auto", "AUTO", "1"])
def test_the_best_that_works_is_the_default(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_NATIVE", value)
    best = mel.kernel()
    assert (None if best is None else best.name) == next(iter(library.available()), None)


def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_NATIVE", "sse9")
    with pytest.raises(UsageError, match="'sse9'"):
        mel.kernel()


def test_a_variant_that_is_not_there_is_an_error_only_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(library, "library", lambda variant: tmp_path / f"kernel_{variant}.so")
    monkeypatch.setattr(library, "opened", library.opened.__wrapped__)
    monkeypatch.setattr(library, "available", library.available.__wrapped__)
    monkeypatch.delenv("CALIB_NATIVE", raising=False)
    assert library.available() == ()
    assert mel.kernel() is None
    monkeypatch.setenv("CALIB_NATIVE", "generic")
    with pytest.raises(UsageError, match="not built at install"):
        mel.kernel()


def test_a_library_of_another_source_is_not_used(any_kernel: mel.Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "source_digest", lambda: "0" * 16)
    with pytest.raises(DataError, match=r"another kernel\.c"):
        library.opened.__wrapped__(any_kernel.name)
