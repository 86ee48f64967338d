"""`calib synth`: an inference that reads the two JSON files, and refuses those of another model."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib.cli import _run
from calib.commands.speaking import Synthesizer, Voice
from calib.commands.synth import read_lines
from calib.data.audio import read_audio
from calib.demo import CORPUS
from calib.errors import DataError
from calib.mel.frontend import FrontEnd

pytest.importorskip(
    "espeakng_loader",
    reason="the reference model turns text into phonemes with espeak-ng (pip install mel-calib[demo])",
)

TEXT = "Hello, this is a test of the fixed model."
VOICES = sorted((CORPUS / "wavs").glob("*.flac"))


def speak(path: Path, *arguments: str, text: str = TEXT) -> int:
    return _run(["synth", "--text", text, "--output", str(path), *arguments])


def files(folder: Path, **changes: Any) -> tuple[Path, Path]:
    """A statistics file and a parameter file that fit the reference model, but for the changes."""
    fe = FrontEnd.load("hifigan")
    stats, params = folder / "mel_normalization_stats.json", folder / "mel_scaling_params.json"
    stats.write_text(
        json.dumps(
            {
                "schema": "calib/mel-normalization-stats/1",
                "mel_mean": -5.0,
                "mel_std": 2.0,
                "frontend_id": fe.id,
                "stats_id": "st-1",
            }
            | changes.get("stats", {})
        )
    )
    params.write_text(
        json.dumps(
            {
                "schema": "calib/mel-scaling-params/1",
                "scale_factor": 0.5,
                "offset": 2.5,
                "stats_id": "st-1",
                "frontend_id": fe.id,
                "model_id": None,
            }
            | changes.get("params", {})
        )
    )
    return stats, params


def test_the_legacy_flags_work_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--text --output --speaker-audio --temperature --top-p --verbose: a WAV of plausible length and level."""
    path = tmp_path / "out.wav"
    assert speak(path, "--speaker-audio", str(VOICES[0]), "--temperature", "0.8", "--top-p", "0.9", "--verbose") == 0
    audio = read_audio(path)
    assert 1.0 < audio.seconds < 6.0
    assert 0.02 < audio.peak <= 1.0
    assert "x real time" in capsys.readouterr().err


def test_one_seed_gives_the_same_bytes_and_each_control_changes_them(tmp_path: Path) -> None:
    """The same seed twice is byte-identical; another temperature, voice or seed is not."""
    base = ["--speaker-audio", str(VOICES[0]), "--temperature", "0.8", "--top-p", "0.9", "--seed", "3"]
    variants = {
        "first": base,
        "again": base,
        "hot": [*base, "--temperature", "1.6"],
        "voice": [*base, "--speaker-audio", str(VOICES[-1])],
        "seed": [*base, "--seed", "4"],
    }
    made = {}
    for name, arguments in variants.items():
        assert speak(tmp_path / f"{name}.wav", *arguments) == 0
        made[name] = (tmp_path / f"{name}.wav").read_bytes()
    assert made["first"] == made["again"]
    assert len({made[name] for name in ("first", "hot", "voice", "seed")}) == 4


@pytest.mark.parametrize(
    ("language", "text"), [("de", "Guten Tag, wie geht es Ihnen?"), ("fa", "سلام، حال شما چطور است؟")]
)
def test_german_and_persian_are_spoken(tmp_path: Path, language: str, text: str) -> None:
    path = tmp_path / "out.wav"
    assert speak(path, "--language", language, text=text) == 0
    assert 0.7 < read_audio(path).seconds < 6.0


def test_the_parameters_change_the_sound(tmp_path: Path) -> None:
    """An identity calibration gives the same audio as none; a wrong level does not."""
    stats, params = files(tmp_path)
    assert speak(tmp_path / "plain.wav") == 0
    assert speak(tmp_path / "same.wav", "--params", str(params), "--stats", str(stats)) == 0
    plain, same = (read_audio(tmp_path / f"{name}.wav").samples for name in ("plain", "same"))
    assert np.abs(plain - same).max() < 0.02 * np.abs(plain).max()
    params.write_text(json.dumps(json.loads(params.read_text()) | {"offset": 2.0}))  # one neper down
    assert speak(tmp_path / "quiet.wav", "--params", str(params), "--stats", str(stats)) == 0
    quiet = read_audio(tmp_path / "quiet.wav").samples
    assert 20 * np.log10(np.abs(quiet).max() / np.abs(plain).max()) == pytest.approx(-8.686, abs=1.5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"params": {"model_id": "model-0000000000000000"}}, "model_id"),
        ({"params": {"frontend_id": "fe-0000000000000000"}}, "frontend_id"),
        ({"params": {"stats_id": "st-2"}}, "stats_id"),
        ({"stats": {"frontend_id": "fe-0000000000000000", "frontend": {"sample_rate": 16000}}}, "sample_rate"),
        ({"params": {"model": {"options": {"output_space": "normalized"}, "output_space": "raw"}}}, "output_space"),
    ],
)
def test_files_of_another_model_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    """Exit 3, the differing field named, no audio."""
    stats, params = files(tmp_path, **changes)
    assert speak(tmp_path / "out.wav", "--params", str(params), "--stats", str(stats)) == 3
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.wav").exists()


def test_a_normalised_model_without_statistics_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No mean -5 and sd 2 is assumed."""
    assert speak(tmp_path / "out.wav", "--model-option", "output_space=normalized") == 2
    assert "--stats" in capsys.readouterr().err


def test_forced_parameters_are_used_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stats, params = files(tmp_path, params={"verdict": "no-signal"})
    assert speak(tmp_path / "out.wav", "--params", str(params), "--stats", str(stats)) == 0
    assert "repair nothing" in capsys.readouterr().err


def test_a_text_file_becomes_files_with_the_numbers_of_its_lines(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("One.\n\nTwo.\n", encoding="utf-8")
    assert _run(["synth", "--text-file", str(tmp_path / "texts.txt"), "--output", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0001.wav", "0003.wav"]


def test_streaming_writes_a_whole_wav(tmp_path: Path) -> None:
    """Its header is right, and it holds every sentence."""
    assert speak(tmp_path / "s.wav", "--stream", text="One sentence. And another one.") == 0
    assert speak(tmp_path / "w.wav", text="One sentence. And another one.") == 0
    with wave.open(str(tmp_path / "s.wav")) as streamed, wave.open(str(tmp_path / "w.wav")) as whole:
        assert streamed.getnframes() == whole.getnframes() > 0
        assert len(streamed.readframes(10**7)) == 2 * streamed.getnframes()


@pytest.mark.parametrize("text", ["", "   ", "...", "\x00"])
def test_nothing_to_say_is_an_error_and_leaves_nothing(tmp_path: Path, text: str) -> None:
    assert speak(tmp_path / "out.wav", text=text) in {2, 3}
    assert not (tmp_path / "out.wav").exists()


def test_a_hostile_text_is_only_text(tmp_path: Path) -> None:
    """Markup, control characters and bidi overrides are spoken or dropped; nothing crashes."""
    assert speak(tmp_path / "out.wav", text="<speak>hello</speak> \x1b[31m \u202e world </script>") == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--text", "a", "--text-file", "b", "--output", "o.wav"], 2),
        (["--text", "a"], 2),
        (["--text", "a", "--output", "-"], 2),
        (["--text", "a", "--output", "o.wav", "--speaker-audio", "missing.wav"], 3),
        (["--text", "a", "--output", "o.wav", "--params", "missing.json"], 3),
        (["--text", "a", "--output", "o.wav", "--language", "xx-none"], 2),
        (["--text", "a", "--output", "o.wav", "--language", ""], 2),
        (["--text", "a", "--output", "o.wav", "--top-p", "0"], 2),
        (["--text", "a", "--output", "o.wav", "--temperature", "-1"], 2),
        (["--text", "a", "--output", "o.wav", "--vocoder", "grifin-lim"], 2),
        (["--text", "a", "--output", "o.wav", "--checkpoint", "nowhere.safetensors"], 2),
    ],
)
def test_wrong_use_ends_with_the_contracted_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _run(["synth", *arguments]) == code
    assert not (tmp_path / "o.wav").exists()


def test_existing_audio_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    path.write_bytes(b"mine")
    assert speak(path) == 2
    assert path.read_bytes() == b"mine"


# Twenty languages, each with a sentence in its own script.
SENTENCES = {
    "en": "Good morning, how are you?", "de": "Guten Morgen, wie geht es dir?", "fa": "صبح بخیر، حال شما چطور است؟",
    "fr": "Bonjour, comment allez-vous ?", "es": "Buenos días, ¿cómo está?", "it": "Buongiorno, come sta?",
    "pt": "Bom dia, como está?", "nl": "Goedemorgen, hoe gaat het?", "pl": "Dzień dobry, jak się masz?",
    "ru": "Доброе утро, как дела?", "tr": "Günaydın, nasılsın?", "ar": "صباح الخير، كيف حالك؟",
    "hi": "नमस्ते, आप कैसे हैं?", "cmn": "早上好，你好吗？", "ja": "おはようございます。", "ko": "안녕하세요, 잘 지내세요?",
    "sv": "God morgon, hur mår du?", "cs": "Dobré ráno, jak se máte?", "el": "Καλημέρα, τι κάνεις;", "ur": "صبح بخیر، آپ کیسے ہیں؟",
}  # fmt: skip


def test_twenty_languages_are_spoken_from_one_file(tmp_path: Path) -> None:
    """JSONL with a language a line: each becomes speech of plausible length and level, twice real time at the worst."""
    lines = [{"text": text, "id": code, "language": code, "temperature": 0} for code, text in SENTENCES.items()]
    source = tmp_path / "texts.jsonl"
    source.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8")
    report = tmp_path / "spoken.json"
    assert _run(["synth", "--text-file", str(source), "--output", str(tmp_path / "out"), "--json", str(report)]) == 0
    spoken = json.loads(report.read_text())["spoken"]
    assert {Path(row["output"]).stem for row in spoken} == set(SENTENCES)
    assert len(SENTENCES) == 20
    for row in spoken:
        assert 0.5 < row["seconds"] < 8.0, row
        assert -45 < row["rms_dbfs"] < -8, row
        assert read_audio(Path(row["output"])).seconds == pytest.approx(row["seconds"], abs=1e-3)
    # 0.07 on two quiet cores.
    assert sum(row["took_seconds"] for row in spoken) < 2 * sum(row["seconds"] for row in spoken)


def test_a_stream_begins_before_it_is_done_and_says_the_same(tmp_path: Path) -> None:
    """The first piece long before the end; as long as the audio made at once, and as close to the mel."""
    text = "This is a rather long sentence, spoken so that a listener need not wait for the end of it. And this is another."
    rows = {}
    for name, more in {"whole": [], "stream": ["--stream"]}.items():
        path = tmp_path / f"{name}.wav"
        assert speak(path, "--json", str(tmp_path / f"{name}.json"), *more, text=text) == 0
        rows[name] = json.loads((tmp_path / f"{name}.json").read_text())["spoken"][0]
    whole, stream = (read_audio(tmp_path / f"{name}.wav").samples for name in rows)
    assert whole.size == stream.size
    assert rows["stream"]["first_audio_seconds"] < 0.6 * rows["stream"]["took_seconds"]
    fe = FrontEnd.load("hifigan")
    assert np.abs(fe.mel(whole) - fe.mel(stream)).mean() < 0.25  # Griffin-Lim's phases differ, the speech does not


def test_a_text_that_cannot_be_said_does_not_lose_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text('{"text": "One."}\n{"text": "Two.", "language": "xx-none"}\n{"text": "Three."}\n')
    assert _run(["synth", "--text-file", str(source), "--output", str(tmp_path / "out")]) == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0001.wav", "0003.wav"]
    assert "1 of 3 texts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "a", "tempo": 1}', "tempo"), ('{"text": ""}', "must say something"), ("[]", "expected an object"), ("{", "not JSON"),
        ('{"text": "a", "id": "../x"}', "cannot be a file"), ('{"text": "a", "seed": "1"}', "seed"), ('{"text": "a", "speaker_audio": "none.wav"}', "no such file"),
        ('{"text": "a", "id": "b"}\n{"text": "c", "id": "b"}', "two lines become b.wav"),
        ('{"text": "a", "id": "\\ud800"}', "cannot be a file"), ('{"text": "a", "id": "a\\nb"}', "cannot be a file"), ('{"text": "a"}\n{"text": "b", "speaker_audio": "none.wav"}', "line 2: speaker_audio"),
        ('{"text": "a", "seed": 1.5}', "a whole number"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_an_error_before_anything_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text(line + "\n")
    assert _run(["synth", "--text-file", str(source), "--output", str(tmp_path / "out")]) == 3
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_marks_between_sentences_cost_nothing(tmp_path: Path) -> None:
    """They have no phonemes; alone they are an error, among sentences they are left out."""
    assert speak(tmp_path / "a.wav", text="Hello there! ... How are you? !!!") == 0
    assert speak(tmp_path / "b.wav", text="Hello there! How are you?") == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert speak(tmp_path / "c.wav", text="... !!!") == 3


@pytest.mark.parametrize("suffix", ["txt", "jsonl"])
def test_a_line_ends_at_a_line_feed_and_nowhere_else(tmp_path: Path, suffix: str) -> None:
    """U+2028 may stand within a text, and JSON writes it as it is; so is CRLF one end."""
    texts = ["One\u2028two.", "Three\x85four."]
    lines = [json.dumps({"text": text}, ensure_ascii=False) if suffix == "jsonl" else text for text in texts]
    (tmp_path / f"t.{suffix}").write_bytes("\r\n".join([*lines, ""]).encode())
    read = read_lines(tmp_path / f"t.{suffix}", tmp_path, Voice())
    assert [line.text for line in read] == texts


def test_a_stream_that_fails_leaves_no_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a text is no result, and it would stand in the way of the next run."""
    real = Synthesizer.vocode
    failed = []

    def failing(self: Synthesizer, mel: np.ndarray) -> Any:
        if (tmp_path / "s.wav").exists():
            failed.append((tmp_path / "s.wav").stat().st_size)
            raise DataError("a later piece failed")
        return real(self, mel)

    monkeypatch.setattr(Synthesizer, "vocode", failing)
    assert speak(tmp_path / "s.wav", "--stream", text="One sentence. And another one. And a third.") == 3
    assert failed[0] > 1000, "the first piece was there"
    assert list(tmp_path.iterdir()) == []


def stored(folder: Path, count: int = 2) -> Path:
    """Mels of the demo's recordings, as any program would have left them."""
    folder.mkdir()
    for path in VOICES[:count]:
        fe = FrontEnd.load("hifigan")
        np.save(folder / f"{path.stem}.npy", fe.mel(read_audio(path, fe.sample_rate).samples))
    return folder


def heard(*arguments: object) -> int:
    return _run(["synth", "--device", "cpu", *map(str, arguments)])


def test_a_folder_of_mels_becomes_wavs_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mels = stored(tmp_path / "mels")
    assert heard("--mel", mels, "-o", tmp_path / "out") == 2
    assert "--frontend NAME" in capsys.readouterr().err
    assert heard("--mel", mels, "-o", tmp_path / "out", "--frontend", "hifigan", "--json", tmp_path / "r.json") == 0
    assert "2 mels, " in capsys.readouterr().err, "the time of all of them is said, as of texts"
    rows = json.loads((tmp_path / "r.json").read_text())["spoken"]
    assert [Path(row["output"]).name for row in rows] == [f"{path.stem}.wav" for path in VOICES[:2]]
    fe = FrontEnd.load("hifigan")
    for row, path in zip(rows, VOICES, strict=False):
        said = fe.mel(read_audio(Path(row["output"]), fe.sample_rate).samples)
        true = np.load(mels / f"{path.stem}.npy")
        n = min(len(said), len(true))
        assert np.corrcoef(said[:n].ravel(), true[:n].ravel())[0, 1] > 0.95
        assert row["peak_dbfs"] <= 0
    assert heard("--mel", mels, "-o", tmp_path / "out", "--frontend", "hifigan") == 2  # nothing is overwritten
    assert heard("--mel", mels, "-o", tmp_path / "one.wav", "--frontend", "hifigan") == 2
    assert "give a folder" in capsys.readouterr().err
    one = mels / f"{VOICES[0].stem}.npy"
    assert heard("--mel", one, "-o", tmp_path / "one.wav", "--frontend", "hifigan") == 0
    assert (tmp_path / "one.wav").is_file()


def test_mels_are_calibrated_before_they_are_heard(tmp_path: Path) -> None:
    mels = stored(tmp_path / "mels", 1)
    stats, params = files(tmp_path, params={"scale_factor": 0.6})  # .5 and 2.5 would change nothing
    plain, calibrated = tmp_path / "plain.wav", tmp_path / "calibrated.wav"
    common = ("--mel", mels, "--frontend", "hifigan")
    assert heard(*common, "-o", plain) == 0
    assert heard(*common, "-o", calibrated, "--params", params, "--stats", stats) == 0
    a, b = (read_audio(path, 22050).samples for path in (plain, calibrated))
    assert np.abs(a - b).max() > 0.01


def test_what_a_model_needs_is_refused_beside_mels_and_the_other_way_round(tmp_path: Path) -> None:
    mels = stored(tmp_path / "mels", 1)
    assert heard("--mel", mels, "-o", tmp_path / "o", "--frontend", "hifigan", "--text", "x") == 2
    assert heard("--text", "x", "-o", tmp_path / "o.wav", "--frontend", "hifigan") == 2
    assert heard("--mel", mels, "--frontend", "hifigan") == 2


def own_model(folder: Path, body: str) -> str:
    """A model whose free running is ``body``."""
    (folder / "spoken.py").write_text(
        "import numpy as np\n"
        "class M:\n    frontend, output_space, kind, autoregressive, padding_safe = 'hifigan', 'raw', 'mean', False, True\n"
        "    def teacher_force(self, batch):\n        return [u.mel for u in batch]\n"
        f"    def generate(self, text, **_):\n        return {body}\n"
        "def factory(checkpoint, device):\n    return M()\n",
        encoding="utf-8",
    )
    return str(folder / "spoken.py") + ":factory"


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        ("你好", "zh", "nobody speaks so fast (0.24 s is the least)"),
        ("!!!", "en", "marks alone, which nobody speaks"),
        ("Hello there, how are you?", "en", "nobody speaks so fast"),
        ("Hi.", "en", None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_audio_too_short_for_its_text_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, language: str, words: str | None, stream: bool
) -> None:
    """A model that knows none of the characters speaks its least, 20 frames, and that passed without a word."""
    spec = own_model(tmp_path, "np.full((20, 80), -6.0, np.float32)")
    more = ["--stream"] if stream else []
    assert _run(["synth", "--text", text, "--language", language, "--model", spec, "-o", str(tmp_path / "a.wav"), "--json", str(tmp_path / "a.json"), *more]) == 0  # fmt: skip
    said = capsys.readouterr().err
    (row,) = json.loads((tmp_path / "a.json").read_text())["spoken"]
    if words is None:
        assert "warning" not in said
        assert row["warnings"] == []
    else:
        assert "warning: " in said
        assert words in said
        assert words in row["warnings"][0]


def test_audio_that_does_not_stop_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = own_model(tmp_path, "np.full((900, 80), -8.0, np.float32)")
    assert speak(tmp_path / "a.wav", "--model", spec, text="Hello.") == 0
    assert "nobody speaks so slowly (7.00 s is the most)" in capsys.readouterr().err
    assert speak(tmp_path / "b.wav", "--model", spec, text="In 2026 it cost 1,250 crowns.") == 0
    assert "nobody speaks" not in capsys.readouterr().err


@pytest.mark.parametrize("stream", [False, True])
def test_a_mel_of_another_unit_is_warned_of_and_an_absurd_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stream: bool
) -> None:
    """Not denormalised it is some 15 dB too loud; decibels read as logarithms are 90 dB beyond full scale."""
    more = ["--stream"] if stream else []
    loud = own_model(tmp_path, "np.random.default_rng(0).normal(0, 1, (200, 80)).astype(np.float32)")
    assert speak(tmp_path / "loud.wav", "--model", loud, "--json", str(tmp_path / "j"), *more) == 0
    said = capsys.readouterr().err
    assert "hardly a mel of this front end" in said
    assert "calib frontends identify" in said
    (row,) = json.loads((tmp_path / "j").read_text())["spoken"]
    assert row["gain_db"] < -6
    assert "hardly a mel" in row["warnings"][0]
    absurd = own_model(tmp_path, "np.full((200, 80), 12.0, np.float32)")
    assert speak(tmp_path / "absurd.wav", "--model", absurd, *more) == 5
    assert "dB beyond full scale" in capsys.readouterr().err
    assert not (tmp_path / "absurd.wav").exists()
    assert speak(tmp_path / "absurd.wav", "--model", absurd, "--any-level", *more) == 0
    assert "warning: turned down by" in capsys.readouterr().err


def test_stored_mels_of_another_unit_are_refused_unless_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stored(tmp_path / "mels", 1)
    (file,) = folder.glob("*.npy")
    np.save(file, np.load(file) * (20 / np.log(10)) + 100)  # decibels of another reference
    assert heard("--mel", file, "--frontend", "hifigan", "-o", tmp_path / "a.wav") == 5
    assert "--any-level" in capsys.readouterr().err
    assert heard("--mel", file, "--frontend", "hifigan", "-o", tmp_path / "a.wav", "--any-level") == 0
