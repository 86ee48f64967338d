"""Front ends of different families: learned maps, the error that is stated, saving and loading."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import soxr
from speechlike import recording

from calib.errors import DataError, RefusedError, UsageError
from calib.mel.convert import Converter, Example, example, plan
from calib.mel.convert.regression import DB, folds
from calib.mel.frontend import FrontEnd

HIFIGAN, TACOTRON2 = FrontEnd.load("hifigan"), FrontEnd.load("tacotron2")


def examples(source: FrontEnd, target: FrontEnd, seeds: range, speakers: int = 3) -> list[Example]:
    out = []
    for seed in seeds:
        x = recording(1.2, seed)

        def heard(rate: int, x: np.ndarray = x) -> np.ndarray:
            return x if rate == 22050 else soxr.resample(x, 22050, rate, quality="HQ")

        out.append(example(source, target, f"u{seed}", heard, f"s{seed % speakers}"))
    return out


@functools.cache
def fitted(source: str, target: str) -> Converter:
    a, b = FrontEnd.load(source), FrontEnd.load(target)
    return Converter.fit(plan(a, b, audio=True, pairs=True, allow_loss=True), examples(a, b, range(9)))


def error(converter: Converter, tests: list[Example]) -> np.ndarray:
    """Error of each utterance in dB, over cells above the target's guard."""
    target = converter.plan.target
    out = []
    for one in tests:
        made = np.log(target.to_linear(converter.apply(one.mel))) / target.power
        rows = min(len(made), len(one.linear))
        linear = one.linear[:rows]
        cells = linear > 1.01 * target.log_eps
        out.append(DB * np.abs(made[:rows] - np.log(np.maximum(linear, 1e-30)) / target.power)[cells].mean())
    return np.array(out)


def test_the_stated_error_is_that_of_voices_that_were_not_heard() -> None:
    """Fitted on nine utterances of three speakers; on others of the same kind the error lies within the spread."""
    converter = fitted("hifigan", "tacotron2")
    measured = converter.measured
    assert measured is not None
    assert measured.left_out == "speakers"
    came = error(converter, examples(HIFIGAN, TACOTRON2, range(30, 42)))
    assert measured.low_db * 0.9 <= came.mean() <= measured.high_db * 1.1
    assert measured.error_db < measured.naive_db


@pytest.mark.parametrize("pair", [("hifigan", "pwg_ljspeech"), ("hifigan", "cosyvoice2_24k"), ("xtts_dvae", "hifigan")])
def test_a_fit_is_better_than_the_inversion_and_that_than_nothing(pair: tuple[str, str]) -> None:
    measured = fitted(*pair).measured
    assert measured is not None
    assert measured.inversion_db is not None
    assert measured.naive_db is not None
    assert measured.error_db < measured.inversion_db < measured.naive_db


def test_frames_come_on_the_targets_time_grid() -> None:
    converter = fitted("hifigan", "cosyvoice2_24k")
    x = recording(1.0, 50)
    target = converter.plan.target
    wanted = target.mel(soxr.resample(x, 22050, 24000, quality="HQ"))
    made = converter.apply(HIFIGAN.mel(x), 24000)
    assert made.shape == wanted.shape
    shifted = [np.abs(made[2 + d : len(made) - 2 + d] - wanted[2:-2]).mean() for d in (-1, 0, 1)]
    assert int(np.argmin(shifted)) == 1


def test_a_mel_of_another_length_than_its_audio_is_refused() -> None:
    with pytest.raises(DataError, match="its audio gives"):
        fitted("hifigan", "tacotron2").apply(np.zeros((50, 80)), 22050)


def test_saved_and_loaded_it_converts_to_the_same_bytes(tmp_path: Path) -> None:
    converter = fitted("hifigan", "tacotron2")
    converter.save(tmp_path / "a.npz")
    converter.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    mel = HIFIGAN.mel(recording(0.6, 60))
    again = Converter.load(tmp_path / "a.npz")
    assert np.array_equal(again.apply(mel), converter.apply(mel))
    assert again.measured == converter.measured


def test_an_exact_way_is_saved_too(tmp_path: Path) -> None:
    Converter(plan(HIFIGAN, FrontEnd.load("matcha_ljspeech"), audio=False, pairs=True)).save(tmp_path / "a.npz")
    assert Converter.load(tmp_path / "a.npz").plan.how == "exact"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x93NUMPY"])
def test_a_damaged_map_is_a_data_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError):
        Converter.load(tmp_path / "a.npz")
    with pytest.raises(DataError, match="no such file"):
        Converter.load(tmp_path / "none.npz")


def test_a_map_with_wrong_shapes_is_refused(tmp_path: Path) -> None:
    fitted("hifigan", "tacotron2").save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as found:
        arrays = dict(found)
    arrays["offset"] = arrays["offset"][:-1]
    np.savez(tmp_path / "b.npz", **arrays)
    with pytest.raises(DataError, match="shapes"):
        Converter.load(tmp_path / "b.npz")


def test_too_little_to_learn_from_is_refused() -> None:
    with pytest.raises(RefusedError, match="too few"):
        Converter.fit(plan(HIFIGAN, TACOTRON2, audio=True, pairs=True), examples(HIFIGAN, TACOTRON2, range(2)))


def test_one_long_recording_is_cut_so_that_something_can_be_left_out() -> None:
    x = recording(8.0, 70)
    one = example(HIFIGAN, TACOTRON2, "long", lambda _rate: x)
    measured = Converter.fit(plan(HIFIGAN, TACOTRON2, audio=True, pairs=True), [one]).measured
    assert measured is not None
    assert measured.left_out == "parts of one utterance"
    assert "other voices" in " ".join(measured.lines())


def test_a_plan_that_must_learn_cannot_be_used_unlearned() -> None:
    with pytest.raises(UsageError, match="learn"):
        Converter(plan(HIFIGAN, TACOTRON2, audio=True, pairs=True))


def test_the_inversion_alone_states_its_error_and_chooses_nothing_else() -> None:
    found = plan(HIFIGAN, TACOTRON2, audio=False, pairs=True)
    converter = Converter.fit(found, examples(HIFIGAN, TACOTRON2, range(6)), on="synthetic")
    assert converter.measured is not None
    assert converter.measured.level == "inversion"
    assert converter.ridge is not None
    assert converter.ridge.weights.shape == (0, 80)


def test_bins_outside_the_band_have_an_error_of_their_own() -> None:
    measured = fitted("hifigan", "vits").measured
    assert measured is not None
    assert measured.outside_db is not None


def test_a_normalisation_by_utterance_is_learned_around_where_that_is_allowed() -> None:
    measured = fitted("myxtts_tf_native", "hifigan").measured
    assert measured is not None
    assert measured.inversion_db is None
    assert measured.level in {"frame", "context", "edges"}


def test_speakers_stay_together_in_a_fold() -> None:
    home, kind = folds(["a", "b", "a", "c", "b"], [5, 5, 5, 5, 5])
    assert kind == "speakers"
    assert home[0] == home[2]
    assert home[1] == home[4]
    assert len(set(home)) == 3
    assert folds(["a", "a"], [1, 1])[1] == "utterances"
    assert folds(["a", None], [1, 1])[1] == "utterances"
