"""The batch census: what is measured of an utterance, and what is made of it."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from speechlike import RATE, mel_field, voice

from calib.data.sources import Item
from calib.errors import UsageError
from calib.mel.census import STATUSES, Census, Facts, Finding, Look, census_layout, judge
from calib.mel.census.facts import clipped_samples
from calib.mel.census.findings import Levels, Rule
from calib.mel.census.questions import EARLY, IN_UNIT, QUESTIONS
from calib.mel.census.units import loudest
from calib.mel.frontend import FrontEnd

HIFIGAN = FrontEnd.load("hifigan")


def facts_of(folder: Path, samples: np.ndarray, rate: int = RATE, *, subtype: str = "FLOAT", **item: object) -> Facts:
    """What is measured of these samples."""
    path = folder / f"x{len(list(folder.iterdir()))}.wav"
    soundfile.write(path, samples, rate, subtype=subtype)
    return Look(None)(Item("x", audio=path, **item))  # type: ignore[arg-type]


def mel_facts(folder: Path, mel: np.ndarray, frontend: FrontEnd | None = None) -> Facts:
    path = folder / f"x{len(list(folder.iterdir()))}.npy"
    np.save(path, mel)
    return Look(frontend)(Item("x", mel=path))


def findings(census: Census, frontend: FrontEnd | None = None) -> dict[str, Finding]:
    return {finding.key: finding for finding in judge(census, frontend)}


def synthetic(n: int = 30, **changes: object) -> Census:
    """Utterances of plausible facts; ``changes`` replace those of the first."""
    census = Census()
    for k in range(n):
        seconds = 1.0 + 0.31 * (k * 7 % 11)
        plain: dict[str, object] = {
            "seconds": seconds, "speech": seconds - 0.2, "rate": 22050.0, "channels": 1.0, "absmax": 0.5, "spread": 0.9, "peak": 0.5, "dc": 0.0, "level": -23.0,
            "clipped": 0.0, "samples": seconds * 22050, "lead": 0.1, "trail": 0.1, "padding": 0.0, "nonfinite": 0.0, "letters": round(14 * seconds), "content": k + 1,
        }  # fmt: skip
        item = Item(f"u{k:03d}", text="", speaker="s")
        census.add(item, Facts(**{**plain, **(changes if k == 0 else {})}))  # type: ignore[arg-type]
    return census


# --- what is measured ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [1.0, 0.9, 0.5, 0.3])
@pytest.mark.parametrize("hz", [100.0, 440.0])
@pytest.mark.parametrize("rate", [8000, 48000])
def test_a_sine_at_any_level_is_not_clipped_and_its_clipped_twin_is(gain: float, hz: float, rate: int) -> None:
    x = np.sin(2 * np.pi * hz * np.arange(rate) / rate)
    pcm = (np.rint(x * gain * 32767) / 32768).astype(np.float32)
    assert clipped_samples(pcm) == 0
    clipped = (np.rint(np.clip(x * 3, -1, 1) * gain * 32767) / 32768).astype(np.float32)
    flat = np.abs(clipped) == np.abs(clipped).max()
    assert clipped_samples(clipped) == pytest.approx(flat.sum(), rel=0.02 if hz == 100 else 0.2)


def test_clipping_is_found_in_the_channel_that_has_it(tmp_path: Path) -> None:
    good = voice(1.0, 1)
    bad = np.clip(good * 6, -1, 1)
    stereo = facts_of(tmp_path, np.stack([good, bad], axis=1))
    assert stereo.channels == 2
    assert stereo.clipped == clipped_samples(bad) > 100


def test_silence_level_and_offset_are_those_that_were_put_in(tmp_path: Path) -> None:
    sine = (0.1 * np.sin(2 * np.pi * 300 * np.arange(RATE) / RATE)).astype(np.float32)
    quiet = 1e-4 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    facts = facts_of(tmp_path, np.concatenate([quiet[: RATE // 2], sine, quiet[: RATE // 4]]) + np.float32(0.02))
    assert facts.lead == pytest.approx(0.5, abs=0.011)
    assert facts.trail == pytest.approx(0.25, abs=0.011)
    assert facts.speech == pytest.approx(1.0, abs=0.021)
    assert facts.level == pytest.approx(20 * math.log10(0.1 / math.sqrt(2)), abs=0.1)
    assert facts.dc == pytest.approx(0.02, abs=1e-4)
    assert facts.seconds == pytest.approx(1.75, abs=1e-4)
    assert facts.padding == 0


def test_padding_is_the_share_of_the_identical_tail_in_audio_and_in_mels(tmp_path: Path) -> None:
    x = voice(1.0, 1) + np.float32(0.001)
    assert facts_of(tmp_path, np.concatenate([x, np.zeros(len(x), np.float32)])).padding == pytest.approx(0.5)
    mel = mel_field(60, 1)
    assert mel_facts(tmp_path, mel).padding == 0
    # 40 frames of padding are one frame and 39 that repeat it.
    assert mel_facts(tmp_path, np.concatenate([mel, np.full((40, 80), -11.5, np.float32)])).padding == pytest.approx(0.39)  # fmt: skip


def test_a_mel_made_here_and_the_same_mel_stored_are_measured_alike(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(1.0, 3), RATE, subtype="FLOAT")
    made = Look(HIFIGAN)(Item("x", audio=tmp_path / "a.wav"))
    stored = mel_facts(tmp_path, HIFIGAN.mel(voice(1.0, 3)), HIFIGAN)
    for name in ("frames", "bins", "low", "high", "mean", "sd"):
        assert getattr(made, name) == getattr(stored, name)
    assert stored.seconds == pytest.approx(made.seconds, abs=0.02)
    assert stored.lead == pytest.approx(made.lead, abs=0.05)
    assert stored.trail == pytest.approx(made.trail, abs=0.05)
    assert math.isnan(made.integral)
    assert stored.integral == 0
    assert math.isnan(stored.peak)


def test_what_cannot_be_read_is_a_fact_with_a_reason_that_names_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no audio")
    (tmp_path / "a.npy").write_bytes(b"")
    facts = Look(None)(Item("x", audio=tmp_path / "a.wav", mel=tmp_path / "a.npy"))
    assert "soundfile" in facts.unreadable
    assert "empty file" in facts.unreadable
    assert str(tmp_path) not in facts.unreadable
    assert "neither" in Look(None)(Item("x")).unreadable
    short = voice(0.01, 1)[:100]
    soundfile.write(tmp_path / "b.wav", short, RATE)
    facts = Look(HIFIGAN)(Item("x", audio=tmp_path / "b.wav"))
    assert "too short for this front end" in facts.unreadable
    assert facts.seconds == pytest.approx(100 / RATE)  # what was measured before stays


def test_an_all_zero_mel_beside_good_audio_is_not_hidden_by_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(1.0, 3), RATE)
    np.save(tmp_path / "a.npy", np.zeros((1, 80), np.float32))
    facts = Look(None)(Item("x", audio=tmp_path / "a.wav", mel=tmp_path / "a.npy"))
    assert facts.absmax == 0
    assert facts.frames == 1


def test_what_the_average_of_two_channels_keeps(tmp_path: Path) -> None:
    x, other = voice(0.5, 1), voice(0.5, 2)
    other *= x.std() / other.std()
    pairs = {"negative": -x, "nearly": -0.9 * x, "silent": 0 * x, "unrelated": other, "alike": x}
    kept = {name: facts_of(tmp_path, np.stack([x + 0.01, y], axis=1)).kept for name, y in pairs.items()}
    assert kept["negative"] == pytest.approx(0, abs=1e-5)
    assert kept["nearly"] == pytest.approx(0.1, rel=1e-3)
    assert kept["silent"] == pytest.approx(1, rel=1e-3)
    assert 1.2 < kept["unrelated"] < 1.6
    assert kept["alike"] == pytest.approx(2, rel=1e-3)
    assert np.isnan(facts_of(tmp_path, x).kept)


def test_channels_that_cancel_are_named_and_not_called_zeros_or_constant() -> None:
    for absmax, spread in ((0.0, 0.0), (0.02, 0.04)):  # exactly each other's negative, and nearly
        found = findings(synthetic(channels=2.0, kept=absmax, absmax=absmax, spread=spread))
        assert found["cancelling-channels"].status == "fail"
        assert found["cancelling-channels"].ids == ("u000",)
        assert found["all-zero"].count == found["constant"].count == 0
    assert "one channel" in QUESTIONS["cancelling-channels"].next
    assert findings(synthetic(channels=2.0, kept=1.0))["cancelling-channels"].status == "pass"
    assert findings(synthetic())["cancelling-channels"].measured == "every recording has one channel"


# --- the loudest that a mel can be --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"fmax": 8000.0, "padding": "same", "spectrum_eps": 1e-9},
        {"power": 2, "mel_scale": "htk", "filter_norm": None},
        {"log": "log10", "log_multiplier": 20.0, "preemphasis": 0.97, "post_scale": 0.08, "post_offset": 2.4},
        {"n_fft": 2048, "win_length": 1200, "hop_length": 300, "log_guard": "add", "window": "rectangular"},
        {"log": "none", "peak_norm": 0.9},
    ],
)
def test_no_audio_within_full_scale_gives_a_louder_mel_and_audio_at_integer_scale_does(fields: dict[str, object]) -> None:  # fmt: skip
    frontend = FrontEnd.from_fields(fields)
    bound = loudest(frontend)
    assert bound is not None
    time = np.arange(8192) / RATE
    tones = [np.sin(2 * np.pi * hz * time) for hz in (60.0, 250.0, 999.0, 5000.0)]
    squares = [np.sign(tone + 1e-9) for tone in tones]
    noise = [np.sign(np.random.default_rng(k).standard_normal(8192)) for k in range(3)]
    loud = [np.ones(8192), np.where(np.arange(8192) % 2, 1.0, -1.0), *tones, *squares, *noise]
    highest = max(float(frontend.mel(x.astype(np.float32)).max()) for x in loud)
    assert highest <= bound
    if frontend.peak_norm is None:
        assert float(frontend.mel((voice(1.0, 1) * 32768).astype(np.float32)).max()) > bound
    if frontend.log == "ln" and frontend.power == 1:
        assert highest > bound - 1.5  # a bound that is far away would find nothing


def test_a_front_end_that_normalises_has_no_loudest() -> None:
    assert loudest(FrontEnd.from_fields({"utterance_norm": "minmax"})) is None
    assert loudest(FrontEnd.from_fields({"clip_max": 1.0})) == 1.0


# --- which axis is time -------------------------------------------------------------------------------------------


def stored(folder: Path, *shapes: tuple[int, ...]) -> list[Item]:
    for k, shape in enumerate(shapes):
        np.save(folder / f"m{k}.npy", np.zeros(shape, np.float32))
    return [Item(str(k), mel=folder / f"m{k}.npy") for k in range(len(shapes))]


def test_the_layout_survives_a_few_files_that_differ_and_is_refused_when_it_cannot_be_told(tmp_path: Path) -> None:
    assert census_layout(stored(tmp_path, (100, 80), (37, 80), (1, 80)), None, None) == "TM"
    assert census_layout(stored(tmp_path, (80, 100), (80, 37), (80, 1)), None, None) == "MT"
    assert census_layout(stored(tmp_path, (90, 80), (37, 80), (80, 51), (44, 64), (38, 80)), None, None) == "TM"
    assert census_layout(stored(tmp_path, (90, 64), (37, 64), (31, 64)), None, 80) == "TM"  # 80 are expected: a finding
    assert census_layout(stored(tmp_path, (90, 80), (37, 80)), "MT", None) == "MT"
    assert census_layout([Item("a", audio=tmp_path / "a.wav")], None, 80) == "TM"
    with pytest.raises(UsageError, match="both axes"):
        census_layout(stored(tmp_path, (100, 80)), None, None)
    with pytest.raises(UsageError, match="no axis"):
        census_layout(stored(tmp_path, (91, 77), (37, 77)), None, None)


# --- what is made of it -------------------------------------------------------------------------------------------


def test_every_question_has_an_answer_and_a_clean_census_passes_or_skips_all() -> None:
    for frontend in (None, HIFIGAN):
        found = judge(synthetic(), frontend)
        assert {finding.key for finding in found} == set(QUESTIONS)
        assert len(found) == len(QUESTIONS)
        assert {finding.status for finding in found} == {"pass", "skipped"}
        assert all(finding.measured for finding in found)
        assert all(finding.rule and finding.thresholds for finding in found if finding.status == "pass")
    assert set(EARLY) | set(IN_UNIT) < set(QUESTIONS)


def test_an_empty_census_has_an_answer_to_every_question() -> None:
    found = findings(Census())
    assert set(found) == set(QUESTIONS)
    assert {finding.status for finding in found.values()} == {"skipped"}


@pytest.mark.parametrize(
    ("key", "changes", "status"),
    [
        ("all-zero", {"absmax": 0.0, "spread": 0.0}, "fail"),
        ("constant", {"spread": 0.0}, "fail"),
        ("non-finite", {"nonfinite": 3.0}, "fail"),
        ("integer-scale", {"peak": 9000.0}, "fail"),
        ("near-silent", {"peak": 0.004}, "fail"),
        ("short", {"seconds": 0.04}, "fail"),
        ("padding", {"padding": 0.3}, "warn"),
        ("stated-duration", {"stated": 9.0}, "fail"),
        ("sample-rate", {"rate": 24000.0}, "warn"),
        ("channels", {"channels": 2.0}, "warn"),
        ("clipping", {"clipped": 300.0}, "warn"),
        ("dc-offset", {"dc": -0.03}, "warn"),
        ("leading-silence", {"lead": 2.5}, "warn"),
        ("trailing-silence", {"trail": 2.5}, "warn"),
        ("length", {"seconds": 90.0}, "warn"),
        ("level", {"level": -45.0}, "warn"),
        ("unreadable", {"unreadable": "gone"}, "fail"),
        ("duplicate-content", {"content": 5}, "warn"),
    ],
)
def test_one_fault_is_found_by_its_own_question_and_only_where_it_is(
    key: str, changes: dict[str, float], status: str
) -> None:
    census = synthetic(**changes)
    found = findings(census)
    assert found[key].status == status
    assert found[key].ids[0] == "u000"
    assert found[key].count == len(found[key].ids) == (2 if key == "duplicate-content" else 1)
    for other in QUESTIONS.keys() - {key, "length", "near-silent", "duplicate-content"}:
        assert found[other].status in {"pass", "skipped"}, other
    assert judge(census)[0].status == status  # the worst first


def test_findings_do_not_depend_on_the_order_of_the_corpus() -> None:
    def shuffled(seed: int) -> Census:
        rng = np.random.default_rng(7)
        rows = []
        for k in range(60):
            seconds = float(rng.uniform(0.5, 9))
            text = "word " * int(rng.integers(1, 30))
            facts = Facts(
                seconds=seconds, speech=seconds, rate=float(rng.choice([16000, 22050])), channels=1.0, absmax=0.4, spread=float(rng.choice([0.0, 0.4])), peak=float(rng.uniform(0.001, 3)),
                dc=float(rng.normal(0, 0.01)), level=float(rng.normal(-25, 9)), clipped=float(rng.integers(0, 90)), samples=seconds * 16000, lead=float(rng.uniform(0, 2)), trail=0.1,
                padding=float(rng.uniform(0, 0.2)), nonfinite=0.0, letters=float(len(text)), content=int(rng.integers(1, 50)), unreadable=str(rng.choice(["", "a", "b"])),
            )  # fmt: skip
            rows.append((Item(f"u{k:02d}", text=text, speaker=str(rng.choice(["x", "y"]))), facts))
        random.Random(seed).shuffle(rows)  # noqa: S311
        census = Census()
        for row in rows:
            census.add(*row)
        return census

    first = [finding.to_json() for finding in judge(shuffled(0))]
    assert first == [finding.to_json() for finding in judge(shuffled(1))]
    assert sum(finding["status"] in {"fail", "warn"} for finding in first) > 8


def texts(pairs: list[tuple[str, float]]) -> Census:
    census = Census()
    for k, (text, seconds) in enumerate(pairs):
        facts = Facts(seconds=seconds, speech=seconds, absmax=0.5, spread=0.5, letters=float(sum(map(str.isalnum, text))), content=k + 1)  # fmt: skip
        census.add(Item(f"u{k:02d}", text=text), facts)
    return census


def test_texts_shifted_by_one_line_are_found_and_texts_in_place_pass() -> None:
    rng = np.random.default_rng(3)
    words = ["a" * int(n) for n in rng.integers(10, 120, 80)]
    seconds = [len(text) / 14 * float(rng.uniform(0.85, 1.15)) for text in words]
    good, bad = (findings(texts(list(zip(lines, seconds, strict=True)))) for lines in (words, words[1:] + words[:1]))
    assert good["text-match"].status == "pass"
    assert good["text-rate"].status == "pass"
    assert bad["text-match"].status == "fail"
    alike = findings(texts([("abc" + str(k % 2), 0.5 + 0.01 * k) for k in range(40)]))
    assert alike["text-match"].status == "skipped"
    assert "too alike in length" in alike["text-match"].measured


def test_a_text_of_another_length_is_an_outlier_among_its_own_language_only() -> None:
    census = Census()
    for k in range(60):
        chinese, seconds = k % 2 == 0, 2.0 + 0.1 * (k % 7)
        letters = (4.0 if chinese else 14.0) * seconds * (1 + 0.02 * (k % 5))
        if k == 12:  # a Chinese text at the English speed
            letters *= 14 / 4
        facts = Facts(seconds=seconds, speech=seconds, absmax=0.5, spread=0.5, letters=letters, content=k + 1)
        census.add(Item(f"u{k:02d}", text=f"t{k}", language="zh" if chinese else "en"), facts)
    assert findings(census)["text-rate"].ids == ("u12",)


def test_one_recording_with_two_texts_fails_and_one_text_said_twice_warns() -> None:
    rows = [(f"text number {'x' * k}", 1.0 + 0.1 * k) for k in range(30)]
    census = texts(rows)
    assert findings(census)["duplicate-text"].status == "pass"
    assert findings(census)["duplicate-content"].status == "pass"
    census.add(Item("again", text="Text  NUMBER xx"), Facts(seconds=1.2, absmax=0.5, spread=0.5, content=99))
    found = findings(census)
    assert found["duplicate-text"].status == "warn"
    assert found["duplicate-text"].ids == ("again", "u02")
    census.add(Item("copy", text="other words"), Facts(seconds=1.2, absmax=0.5, spread=0.5, content=4))
    found = findings(census)
    assert found["duplicate-content"].status == "fail"
    assert found["duplicate-content"].ids == ("copy", "u03")


def test_speakers_far_apart_and_speakers_with_few_utterances_are_named() -> None:
    census = Census()
    for k in range(41):
        speaker = "rare" if k == 40 else "loud" if k % 2 else "soft"
        level = -15.0 if speaker == "loud" else -31.0
        census.add(Item(f"u{k:02d}", speaker=speaker), Facts(level=level, seconds=1.0, absmax=0.5, spread=0.5))
    found = findings(census)
    assert found["speaker-level"].status == "warn"
    assert "16.0 dB apart" in found["speaker-level"].measured
    assert found["speakers"].ids == ("rare",)
    assert found["level"].status == "pass"  # each is at its own speaker's level


def mels(folder: Path, change: object = None) -> Census:
    """A corpus of stored mels that sound like speech to the rules, the values changed by a function."""
    census = Census()
    look = Look(HIFIGAN)
    for k in range(8):
        hiss = 1e-3 * np.random.default_rng(k).standard_normal(RATE * 4).astype(
            np.float32
        )  # a room, not digital silence
        x = voice(1.0 + 0.2 * k, k)
        mel = HIFIGAN.mel(x + hiss[: len(x)])
        np.save(folder / f"m{k}.npy", mel if change is None else change(mel, k))  # type: ignore[operator]
        item = Item(f"m{k}", mel=folder / f"m{k}.npy")
        census.add(item, look(item))
    return census


def test_mels_of_the_front_end_pass(tmp_path: Path) -> None:
    found = findings(mels(tmp_path), HIFIGAN)
    assert {f.key: f.status for f in found.values() if f.status == "fail"} == {}
    assert found["domain"].status == "pass"


@pytest.mark.parametrize(
    ("change", "looks"),
    [
        (lambda mel, _: (mel + 11.52) / 14, "[0, 1]"),
        (lambda mel, _: (mel - mel.mean()) / mel.std(), "mean 0 and sd 1"),
        (lambda mel, _: mel * 8.6859, "in dB"),
        (lambda mel, _: mel / 2.302585, "log10"),
        (lambda mel, _: mel + 10.397, "integer scale"),
        (lambda mel, _: np.exp(mel), "linear mel"),
    ],
)
def test_mels_in_another_unit_fail_and_what_they_look_like_is_said(tmp_path: Path, change: object, looks: str) -> None:
    found = findings(mels(tmp_path, change), HIFIGAN)
    assert found["domain"].status == "fail"
    assert looks in found["domain"].measured
    # What is only meaningful in the front end's unit is not said of another one.
    assert {found[key].status for key in IN_UNIT} == {"skipped"}


def test_one_mel_in_another_unit_among_many_is_named(tmp_path: Path) -> None:
    found = findings(mels(tmp_path, lambda mel, k: mel / 2.302585 if k == 3 else mel), HIFIGAN)
    assert found["domain-mixed"].status == "fail"
    assert found["domain-mixed"].ids == ("m3",)
    found = findings(mels(tmp_path, lambda mel, k: mel + 10.397 if k == 5 else mel), HIFIGAN)
    assert found["domain-mixed"].ids == found["mel-scale"].ids == ("m5",)


def test_dead_bins_and_the_floor_are_counted(tmp_path: Path) -> None:
    def narrow(mel: np.ndarray, _: int) -> np.ndarray:
        mel[:, 70:] = HIFIGAN.floor
        return mel

    found = findings(mels(tmp_path, narrow), HIFIGAN)
    assert found["dead-bins"].status == "warn"
    assert set(range(70, 80)) <= set(found["dead-bins"].values["dead_bins"])
    assert found["floor"].values["floor_share"] >= 0.125
    assert found["floor"].status == "warn"


@pytest.mark.parametrize("frontend", [None, HIFIGAN, FrontEnd.from_fields({"utterance_norm": "minmax"}), FrontEnd.from_fields({"log": "none"})])  # fmt: skip
def test_mels_of_extreme_values_still_give_every_answer_in_finite_numbers(
    tmp_path: Path, frontend: FrontEnd | None
) -> None:
    rng = np.random.default_rng(0)
    huge = (rng.standard_normal((9, 80)) * 5e37).astype(np.float32)
    tiny = (rng.standard_normal((9, 80)) * 1e-40).astype(np.float32)
    mixed = mel_field(50, 1)
    mixed[:, ::2] *= 1e30
    arrays = [huge, tiny, mixed, np.full((5, 80), np.nan), np.full((5, 80), np.inf), np.arange(160).reshape(2, 80), np.zeros((1, 80)), np.full((1, 80), 1e300), mel_field(40, 2)]  # fmt: skip
    for members in (arrays, arrays[:1], arrays[1:2], arrays[3:4]):
        census = Census()
        for k, array in enumerate(members):
            np.save(tmp_path / f"m{k}.npy", array)
            item = Item(f"m{k}", mel=tmp_path / f"m{k}.npy", duration=1.0, text="x")
            census.add(item, Look(frontend)(item))
        found = judge(census, frontend)
        assert {finding.key for finding in found} == set(QUESTIONS)
        json.dumps([finding.to_json() for finding in found], allow_nan=False)


# --- thresholds ---------------------------------------------------------------------------------------------------


def test_the_text_of_a_threshold_is_made_from_the_number_that_decides() -> None:
    for op, limit in itertools.product(("<", "<=", ">", ">="), (0.25, -40.0)):
        rule = Rule("peak", op, limit, "dBFS")
        value = float(re.fullmatch(rf"peak {op} (\S+) dBFS", rule.text())[1])  # type: ignore[index]
        assert rule.holds(value) == ("=" in op)
        assert rule.holds(value - 0.01) == ("<" in op)
        assert not rule.holds(math.nan)
    levels = Levels(warn=0, fail=2.5)
    assert levels.text() == "warns at the first, fails above 2.5 %"
    assert [levels.status(count, 1000) for count in (0, 1, 25, 26)] == ["pass", "warn", "warn", "fail"]
    assert Levels(warn=1).status(1000, 1000) == "warn"
    assert STATUSES.index("fail") < STATUSES.index("warn") < STATUSES.index("pass")
