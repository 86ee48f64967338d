"""What the oracle of benchmarks/identify calls identifiable: what the stored values can tell, no less and no more."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import soxr

from benchmarks.identify.cases import Case, Made
from benchmarks.identify.score import identifiable
from calib.data.audio import read_audio
from calib.demo import CORPUS
from calib.mel.frontend import FrontEnd

RATE = 22050


@functools.cache
def audio(rate: int = RATE, silent: int = 0) -> np.ndarray:
    """Three seconds of the demo corpus, so many samples of digital silence in their midst."""
    parts = [read_audio(path, RATE).samples for path in sorted((CORPUS / "wavs").glob("*.flac"))[3:7]]
    x = np.concatenate(parts)[: 3 * RATE].copy()
    x[RATE : RATE + silent] = 0.0
    x = x if rate == RATE else soxr.resample(x, RATE, rate, quality="HQ")
    return np.asarray(np.rint(x * 32768) / 32768, np.float32)


def told(truth: FrontEnd, samples: np.ndarray | None = None, file_rate: int = 0, dtype: str = "float32") -> dict[str, bool]:  # fmt: skip
    """The oracle's answer to a front end and audio."""
    rate = file_rate or truth.sample_rate
    x = audio(rate) if samples is None else samples
    inner = x if rate == truth.sample_rate else soxr.resample(x, rate, truth.sample_rate, quality="HQ").astype(np.float32)  # fmt: skip
    case = Case("random", "a", "none", 0, truth.fields(), file_rate=rate, dtype=dtype)
    return identifiable(case, Made(x, truth.mel(inner), inner, truth))


def test_silence_tells_a_guards_value_and_not_its_kind() -> None:
    silence = told(FrontEnd(log_eps=1e-9), audio(silent=6000))
    assert (silence["log_eps"], silence["log_guard"]) == (True, False)
    both = told(FrontEnd(log_eps=1e-2), audio(silent=6000))
    assert (both["log_eps"], both["log_guard"]) == (True, True)
    added = told(FrontEnd(log_eps=1e-2, log_guard="add"))
    assert (added["log_eps"], added["log_guard"]) == (True, True)


def test_a_guard_that_no_cell_reaches_is_not_identifiable() -> None:
    nothing = told(FrontEnd(log_eps=1e-12))
    assert (nothing["log_eps"], nothing["log_guard"]) == (False, False)


def test_two_constants_of_one_shape_are_not_told_apart() -> None:
    # After a power spectrum with area norm, what is added to every bin is all but a constant added to every output.
    one = told(FrontEnd(n_fft=2048, power=2, fmin=200.0, n_mels=40, log_eps=1e-9, log_guard="add", spectrum_eps=1e-3))
    assert not one["spectrum_eps"]
    magnitude = told(FrontEnd(n_fft=2048, power=1, fmin=200.0, n_mels=40, log_eps=1e-9, log_guard="add", spectrum_eps=1e-3))  # fmt: skip
    assert magnitude["spectrum_eps"]


@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_a_rate_is_identifiable_where_something_depends_on_it(gain: float) -> None:
    x = np.asarray(soxr.resample(audio(16000), 16000, 32000, quality="HQ"), np.float32)  # nothing above 8000 Hz
    truth = FrontEnd(
        sample_rate=32000, n_fft=1024, hop_length=320, fmin=60.0, fmax=7000.0, padding="none", post_scale=gain
    )
    # At 16000 Hz, half of everything gives the same but for ln 2, which a free scale and offset take up. (Padded ends would tell: resampling has ends, too.)
    assert told(truth, x, dtype="float16")["sample_rate"] is (gain == 1.0)
    assert told(truth, x, dtype="float16")["hop_length"] is (gain == 1.0)
