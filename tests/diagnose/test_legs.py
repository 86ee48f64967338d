"""Mels on one grid, how far they are apart, and whom the legs blame."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest
from speechlike import mel_field, modelled

from calib.diagnose.legs.blame import Words, blame
from calib.diagnose.legs.distance import distance, grade
from calib.diagnose.legs.free import free_leg, warped_r
from calib.diagnose.legs.place import lag_between, on_grid, place
from calib.diagnose.legs.result import Declared, Leg, Legs, skipped_leg

DB = np.float32(20.0 / np.log(10.0))


def hear(mel: np.ndarray) -> np.ndarray:
    """Mels in ln magnitude, silent below 1e-5."""
    return np.maximum(mel, np.float32(np.log(1e-5))) * DB


def smooth(count: int, seed: int, step: int) -> np.ndarray:
    """A mel on a grid ``step`` times as fine as its frames, ``(count, 20)``, so that it can be read between them."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.standard_normal((count, 20)), (2.0 * step, 2.0))
    return (-4.0 + 1.8 * field / field.std()).astype(np.float32)


class Recorder:
    """V from any moment on: frames of 1 s, read from the fine grid."""

    def __init__(self, frames: int, count: int = 4, step: int = 16) -> None:
        self.step = step
        self.fields = {k: smooth(frames * step, k, step) for k in range(count)}

    def __call__(self, index: int, start: float) -> np.ndarray | None:
        if index not in self.fields:
            return None
        return self.fields[index][round(start * self.step) :: self.step]


# --- place ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [-30, -1, 0, 7, 55])
def test_the_lag_between_two_mels_is_found_with_any_units(lag: int) -> None:
    long = mel_field(300, 1)
    a, b = (long[100 + lag : 250 + lag], long[100:250]) if lag else (long[100:250], long[100:250])
    found, r = lag_between(-3.0 * a + 1.0, -b)
    assert lag_between(a, -b)[0] == lag
    assert found == lag
    assert r > 0.95


@pytest.mark.parametrize("start", [0.0, 0.5, -0.5, 1.0, -2.0, 0.25])
def test_a_common_beginning_is_found_between_frames(start: float) -> None:
    recorded = Recorder(120)
    mels = []
    for k in range(3):
        at = round(start * 16)
        field = recorded.fields[k]
        mel = field[at::16] if at >= 0 else np.concatenate([np.repeat(field[:1], -at, 0), field])[::16]
        mels.append((k, 3.0 - 0.5 * mel))  # whatever its units and sign
    placed = place(mels, recorded, 1.0)
    assert [each.index for each in placed] == [0, 1, 2]
    for each in placed:
        assert each.start == pytest.approx(start, abs=0.13)
        assert each.r < -0.97
        assert len(each.mel) == len(each.reference)


def test_trimmed_utterances_each_begin_where_they_begin() -> None:
    recorded = Recorder(150)
    starts = [3.0, 11.0, 0.0, 20.5]
    mels = [(k, recorded.fields[k][round(s * 16) :: 16][:90]) for k, s in enumerate(starts)]
    placed = place(mels, recorded, 1.0)
    assert [each.start for each in placed] == pytest.approx(starts, abs=0.01)
    assert all(np.array_equal(each.mel, each.reference) for each in placed)


def test_another_frame_rate_is_read_off_at_the_references_frames() -> None:
    recorded = Recorder(120)
    mels = [(k, recorded.fields[k][::12]) for k in range(2)]
    placed = place(mels, recorded, 1.0, ratio=16 / 12)
    assert min(each.r for each in placed) > 0.995
    assert max(each.r for each in place(mels, recorded, 1.0)) < 0.9


def test_utterances_without_audio_are_left_out() -> None:
    recorded = Recorder(60, count=1)
    assert [each.index for each in place([(0, recorded(0, 0.0)), (5, mel_field(60, 5, 20))], recorded, 1.0)] == [0]  # type: ignore[list-item]
    assert place([], recorded, 1.0) == []


def test_on_grid_keeps_a_line_a_line() -> None:
    line = np.arange(50.0, dtype=np.float32)[:, None]
    assert np.allclose(on_grid(line, 1.3)[:, 0], np.arange(len(on_grid(line, 1.3))) * 1.3, atol=1e-4)
    assert on_grid(line, 1.0) is line


# --- distance -------------------------------------------------------------------------------------------------------


def _pairs(change: Callable[[np.ndarray], np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    mels = [mel_field(120, k) for k in range(3)]
    return [(np.asarray(change(m), np.float32), m) for m in mels]


def _with_guard(eps: float, *, added: bool) -> Callable[[np.ndarray], np.ndarray]:
    return lambda m: np.log(np.exp(m.astype(np.float64)) + eps) if added else np.maximum(m, np.log(eps))


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda m: m, "identical"),
        (lambda m: m.astype(np.float16), "identical"),
        (_with_guard(3e-5, added=True), "guards"),
        (lambda m: m + 0.05, "slight"),
        (lambda m: m + 0.6, "level"),
        (lambda m: m + 2.0, "other"),
        (lambda m: m / np.log(10.0), "other"),
        (lambda m: m[:, ::-1], "other"),
        (_with_guard(2e-2, added=False), "other"),
    ],
)
def test_grades(change: Callable[[np.ndarray], np.ndarray], wanted: str) -> None:
    assert grade(distance(_pairs(change), hear)) == wanted


def test_a_level_that_differs_by_utterance_is_a_level() -> None:
    pairs = [(y + np.float32(shift), y) for y, shift in zip([mel_field(120, k) for k in range(3)], (0.3, -0.2, 0.5), strict=True)]  # fmt: skip
    d = distance(pairs, hear)
    assert grade(d) == "level"
    assert d.level_spread_db == pytest.approx(0.7 * DB, rel=1e-3)
    assert d.left_db < 1e-4


def test_an_affine_map_is_recovered_exactly_and_its_error_is_none() -> None:
    d = distance(_pairs(lambda m: (m - 1.5) / 2.0), hear)
    assert d.map == pytest.approx((2.0, 1.5), abs=1e-4)
    assert d.map_db < 1e-3 < d.error_db
    assert d.slope == pytest.approx(2.0, abs=1e-4)
    assert d.r_w == pytest.approx(1.0, abs=1e-6)


def test_a_floor_does_not_bend_the_map() -> None:
    d = distance(_pairs(lambda m: np.maximum(m, -5.5) * 0.5), hear)
    assert d.map[0] == pytest.approx(2.0, rel=1e-3)
    assert d.map_db < 0.01
    assert d.mapped_db > 1.0, "what lies under the floor is heard, and no line brings it back"
    assert distance(_pairs(lambda m: m * 0.5), hear).mapped_db < 0.01


def test_silence_below_the_guard_is_alike() -> None:
    y = mel_field(100, 0)
    y[:30] = np.float32(np.log(1e-5))
    p = y.copy()
    p[:30] = -25.0
    d = distance([(p, y)], hear)
    assert d.error_db == 0.0
    assert d.mae > 3.0


# --- free running ---------------------------------------------------------------------------------------------------


def _stretched(mel: np.ndarray, ratio: float) -> np.ndarray:
    return on_grid(mel, 1.0 / ratio)


def test_free_running_that_is_slower_and_not_alike_in_every_frame_follows() -> None:
    targets = [mel_field(150, k) for k in range(4)]
    free = [_stretched(p, 1.1) for p in modelled(targets, 0.9)]
    leg = free_leg(list(zip(free, targets, strict=True)))
    assert leg.status == "pass", leg.sentence
    assert leg.numbers["length_ratio"] == pytest.approx(1.1, abs=0.02)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, _: p[:80], "stops early"),
        (lambda p, _: np.concatenate([p, p]), "does not stop"),
        (lambda _, k: mel_field(150, 90 + k), "do not follow"),
        (lambda p, _: p + 3.0, "level"),
        (lambda p, _: np.full_like(p, np.nan), "NaN"),
    ],
)
def test_free_running_that_is_off_is_said_to_be_off(
    change: Callable[[np.ndarray, int], np.ndarray], words: str
) -> None:
    targets = [mel_field(150, k) for k in range(4)]
    pairs = [(change(p, k), y) for k, (p, y) in enumerate(zip(modelled(targets, 0.95), targets, strict=True))]
    leg = free_leg(pairs)
    assert leg.status == "fail"
    assert words in leg.sentence


def test_warping_undoes_a_warp() -> None:
    mel = mel_field(200, 3)
    at = np.clip(np.cumsum(1.0 + 0.4 * np.sin(np.arange(200) / 20.0)), 0, 199).astype(int)
    assert warped_r(mel[at], mel) > 0.9
    assert warped_r(mel_field(200, 77), mel) < 0.5


# --- blame ----------------------------------------------------------------------------------------------------------

WORDS = Words(targets="log10 where ln is wanted", model="its predictions are collapsed", slight="but for their level")


def leg(name: str, status: str, grade_: str = "") -> Leg:
    far = 20.0 if status == "fail" else 1.0
    return skipped_leg(name, "needs audio") if status == "skipped" else Leg(name, status, status, "said so", grade_, mae_db=far)  # fmt: skip


@pytest.mark.parametrize(
    ("tv", "pt", "pv", "who"),
    [
        ("pass", "pass", "pass", "neither"),
        ("warn", "warn", "pass", "neither"),
        ("pass", "fail", "fail", "model"),
        ("fail", "pass", "fail", "front-end"),
        ("fail", "fail", "fail", "both"),
        ("fail", "fail", "pass", "targets"),
        ("fail", "pass", "warn", "targets"),
        ("skipped", "pass", "skipped", "front-end"),
        ("skipped", "fail", "skipped", "both"),
        ("pass", "skipped", "pass", "unknown"),
    ],
)
def test_whom_to_blame(tv: str, pt: str, pv: str, who: str) -> None:
    said = blame(leg("T-V", tv), leg("P-T", pt), leg("P-V", pv), WORDS)
    assert said.who == who
    assert ("log10" in said.sentence) == (who in {"front-end", "both", "targets"})
    assert ("collapsed" in said.sentence) == (who in {"model", "both"})


def test_without_audio_and_without_a_declaration_nothing_is_said_of_the_front_end() -> None:
    words = Words(model="its predictions are collapsed")
    tv, pv = leg("T-V", "skipped"), leg("P-V", "skipped")
    assert blame(tv, leg("P-T", "fail"), pv, words).who == "model"
    said = blame(tv, leg("P-T", "pass"), pv, words)
    assert said.who == "unknown"
    assert "cannot be told" in said.sentence


def test_recordings_of_something_else_blame_nobody() -> None:
    assert blame(leg("T-V", "fail", "unrelated"), leg("P-T", "fail"), leg("P-V", "fail"), WORDS).who == "unknown"


def test_predictions_that_are_no_nearer_than_the_targets_do_not_clear_them() -> None:
    tv, pv = (dataclasses.replace(leg(name, status), mae_db=db) for name, status, db in (("T-V", "fail", 2.5), ("P-V", "pass", 4.5)))  # fmt: skip
    assert blame(tv, leg("P-T", "pass"), pv, WORDS).who == "front-end"


def test_a_calibration_is_judged_too() -> None:
    repaired = Words(model="its predictions are normalised", repaired=True)
    good, bad = leg("P-V", "pass"), leg("P-V", "fail")
    said = blame(leg("T-V", "pass"), leg("P-T", "fail"), good, repaired)
    assert said.who == "model"
    assert "brings them to what the vocoder wants" in said.sentence
    assert "does not bring them" in blame(leg("T-V", "pass"), leg("P-T", "fail"), bad, repaired).sentence
    assert blame(leg("T-V", "pass"), leg("P-T", "pass"), bad, repaired).who == "calibration"


def test_free_running_is_blamed_last() -> None:
    words = Words(free="it stops early")
    said = blame(leg("T-V", "pass"), leg("P-T", "pass"), leg("P-V", "pass"), words)
    assert said.who == "free-running"
    assert "it stops early" in said.sentence


def test_the_status_follows_the_blame_and_the_json_is_plain() -> None:
    legs = {name: leg(name, status) for name, status in (("T-V", "fail"), ("P-T", "pass"), ("P-V", "pass"), ("F-T", "skipped"))}  # fmt: skip
    declared = Declared("hifigan_jik", verified=True, error_db=0.0, differences=(("log", "ln", "log10", "ln, not log10", "quiet"),))  # fmt: skip
    for who, status in (("targets", "warn"), ("front-end", "fail"), ("neither", "warn")):
        found = Legs(who, "HEAD", "sentence", legs, declared=declared)
        assert found.status == status
        plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert plain["schema"] == "calib/legs/1"
        assert plain["legs"]["F-T"]["skipped"] == "needs audio"
        assert plain["declared"]["differences"][0]["vocoder"] == "log10"
