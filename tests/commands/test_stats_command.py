"""``calib stats`` from the command line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from speechlike import mel_field, voice

from calib.mel.frontend import FrontEnd
from calib.params import MelNormalizer

NAME = "mel_normalization_stats.json"
Cli = Callable[..., Any]


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def mels(tmp_path: Path) -> Path:
    """Three stored mels."""
    folder = tmp_path / "mels"
    folder.mkdir()
    for k in range(3):
        np.save(folder / f"m{k}.npy", mel_field(40 + k, k))
    return folder


def test_the_file_is_what_numpy_finds_and_what_inference_reads(calib: Cli, audio: Path, tmp_path: Path) -> None:
    done = calib("stats", audio, "--frontend", "hifigan", "-o", "s.json")
    assert done.code == 0, done.err
    x = np.concatenate(
        [
            FrontEnd.load("hifigan").mel(soundfile.read(p, dtype="float32")[0])
            for p in sorted((audio / "wavs").iterdir())
        ]
    ).astype(np.float64)
    stats = json.loads((tmp_path / "s.json").read_text())
    assert stats["mel_mean"] == pytest.approx(x.mean(), rel=1e-6)  # the compiled kernel rounds otherwise
    assert stats["mel_std"] == pytest.approx(x.std(), rel=1e-6)
    assert MelNormalizer.load(tmp_path / "s.json").frontend_id == FrontEnd.load("hifigan").id
    assert f"mean {x.mean():.4f}, sd {x.std():.4f} (ln magnitude)" in done.out
    text = json.dumps(stats["provenance"])
    assert str(tmp_path) not in text
    assert "jobs" not in text
    assert set(json.loads((tmp_path / "run.json").read_text())["outputs"]) == {"s.json"}


def test_jobs_order_and_the_folders_name_change_no_byte(calib: Cli, audio: Path, tmp_path: Path) -> None:
    other = tmp_path / "another name"
    shutil.copytree(audio, other)
    lines = (other / "metadata.csv").read_text().splitlines(keepends=True)
    (other / "metadata.csv").write_text("".join(reversed(lines)))
    for name, source, jobs in (("a", audio, 1), ("b", audio, 2), ("c", other, 1)):
        assert calib("stats", source, "--frontend", "hifigan", "--jobs", jobs, "-o", f"{name}.json").code == 0
    assert (
        (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes() == (tmp_path / "c.json").read_bytes()
    )


def test_json_to_stdout_is_all_that_stdout_holds(calib: Cli, mels: Path, tmp_path: Path) -> None:
    done = calib("stats", mels, "--json", "-")
    assert json.loads(done.out) == json.loads((tmp_path / NAME).read_text())
    assert "utterances" in done.err


def test_an_existing_file_is_kept_without_force_and_replaced_with_it(calib: Cli, mels: Path, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("mine")
    done = calib("stats", mels)
    assert done.code == 2
    assert "--force" in done.err
    assert (tmp_path / NAME).read_text() == "mine"
    assert calib("stats", mels, "--force").code == 0
    assert MelNormalizer.load(tmp_path / NAME).mel_std > 0


def test_an_existing_json_copy_is_refused_before_anything_is_written(calib: Cli, mels: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.json").write_text("mine")
    assert calib("stats", mels, "--json", "copy.json").code == 2
    assert not (tmp_path / NAME).exists()
    assert (tmp_path / "copy.json").read_text() == "mine"


def test_audio_needs_a_front_end_and_none_is_assumed(calib: Cli, audio: Path) -> None:
    done = calib("stats", audio)
    assert done.code == 2
    assert "--frontend" in done.err
    done = calib("stats", audio, "--frontend", "hifgan")
    assert done.code == 2
    assert "did you mean hifigan" in done.err


def test_a_dash_is_no_output_file(calib: Cli, mels: Path, tmp_path: Path) -> None:
    result = calib("stats", mels, "-o", "-")
    assert result.code == 2
    assert "--json -" in result.err
    assert not (tmp_path / "-").exists()


@pytest.mark.parametrize("source", ["empty", "none"])
def test_an_empty_or_missing_source_is_a_data_error(calib: Cli, tmp_path: Path, source: str) -> None:
    (tmp_path / "empty").mkdir()
    done = calib("stats", tmp_path / source, "--frontend", "hifigan")
    assert done.code in {2, 3}
    assert source in done.err
    assert "bug" not in done.err
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("content", [b"", np.zeros((0, 80), np.float32), b"not an array"])
def test_mels_of_which_none_can_be_read_are_named_and_no_layout_is_asked_for(
    calib: Cli, tmp_path: Path, content: bytes | np.ndarray
) -> None:
    (tmp_path / "mels").mkdir()
    if isinstance(content, bytes):
        (tmp_path / "mels" / "only.npy").write_bytes(content)
    else:
        np.save(tmp_path / "mels" / "only.npy", content)
    done = calib("stats", tmp_path / "mels", "--frontend", "hifigan")
    assert done.code == 3
    assert "not one mel can be read" in done.err
    assert "only.npy" in done.err
    assert "--layout" not in done.err
    np.save(tmp_path / "mels" / "square.npy", np.zeros((80, 80), np.float32))  # one that can be read does not tell
    done = calib("stats", tmp_path / "mels", "--frontend", "hifigan")
    assert done.code == 2
    assert "--layout" in done.err


def test_a_text_named_wav_is_named_with_its_reason_and_fails_the_run_unless_allowed(
    calib: Cli, audio: Path, tmp_path: Path
) -> None:
    (audio / "wavs" / "c1.wav").write_text("this is no audio")
    done = calib("stats", audio, "--frontend", "hifigan", "-o", "out/s.json")
    assert done.code == 3
    assert "c1:" in done.err
    assert "1 of 4" in done.err
    assert files(tmp_path / "out") == []
    done = calib("stats", audio, "--frontend", "hifigan", "-o", "out/s.json", "--allow-skipped", 30)
    assert done.code == 0
    assert "skipped c1" in done.err
    stats = json.loads((tmp_path / "out" / "s.json").read_text())
    assert stats["n_utterances"] == 3
    assert list(stats["provenance"]["skipped"].values()) == [["c1"]]
    assert str(tmp_path) not in json.dumps(stats["provenance"]["skipped"])


def test_nan_in_a_mel_and_another_number_of_bins_are_errors_that_name_the_file(calib: Cli, mels: Path) -> None:
    bad = mel_field(30, 9)
    bad[3, 3] = np.nan
    np.save(mels / "m9.npy", bad)
    done = calib("stats", mels)
    assert done.code == 3
    assert "m9" in done.err
    assert "1 NaN" in done.err
    (mels / "m9.npy").unlink()
    np.save(mels / "m8.npy", mel_field(30, 9, 64))
    done = calib("stats", mels, "--layout", "TM")
    assert done.code == 3
    assert "64" in done.err
    assert "bug" not in done.err


def test_stored_mels_with_other_bins_than_the_front_end_are_an_error(calib: Cli, mels: Path) -> None:
    done = calib("stats", mels, "--frontend", "hifigan", "-o", "a.json")
    assert done.code == 0
    for path in mels.iterdir():
        np.save(path, np.load(path)[:, :64])
    done = calib("stats", mels, "--frontend", "hifigan", "--layout", "TM", "-o", "b.json")
    assert done.code == 3
    assert "64 bins, the front end 80" in done.err


def test_all_zero_mels_are_an_error_that_points_at_the_loader(calib: Cli, mels: Path) -> None:
    for path in mels.iterdir():
        np.save(path, np.zeros((20, 80), np.float32))
    done = calib("stats", mels, "--layout", "TM")
    assert done.code == 3
    assert "loader" in done.err


def test_another_sample_rate_is_resampled_and_said(calib: Cli, audio: Path, tmp_path: Path) -> None:
    soundfile.write(audio / "wavs" / "c2.wav", voice(0.7, 2, 44100), 44100)
    done = calib("stats", audio, "--frontend", "hifigan", "-o", "s.json")
    assert done.code == 0
    assert "1 of 4 files at 44100 Hz were resampled to 22050 Hz" in done.err
    assert json.loads((tmp_path / "s.json").read_text())["provenance"]["resampled"] == {"44100": 1}


def test_names_with_escape_sequences_reach_no_terminal(calib: Cli, audio: Path) -> None:
    name = "evil\x1b]0;owned\x07\x1b[31m"
    (audio / "wavs" / f"{name}.wav").write_text("no audio")
    with (audio / "metadata.csv").open("a") as file:
        file.write(f"{name}|x|x\n")
    done = calib("stats", audio, "--frontend", "hifigan")
    assert done.code == 3
    assert "\x1b" not in done.err + done.out
    assert "\x07" not in done.err + done.out
    assert "evil" in done.err


def test_a_file_name_that_is_no_utf8_is_listed_like_any_other(calib: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for k in range(3):
        soundfile.write(folder / f"c{k}.wav", voice(0.5, k), 22050)
    with open(os.path.join(os.fsencode(folder), b"bad\xff.wav"), "wb") as file:  # noqa: PTH118
        file.write(b"no audio")
    done = calib("stats", folder, "--frontend", "hifigan", "--allow-skipped", 50, "-o", "s.json", "--json", "copy.json")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "s.json").read_text())["n_utterances"] == 3


@pytest.mark.parametrize("limit", [100, 3000])
def test_a_full_disk_is_a_clear_error_and_leaves_nothing(process: Cli, mels: Path, tmp_path: Path, limit: int) -> None:
    before = f"import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    done = process("stats", mels, "-o", "out/s.json", before=before)
    assert done.code == 3
    assert "cannot write the ledger out/s.json.ledger: File too large" in done.err
    assert files(tmp_path / "out") == []


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(calib: Cli, mels: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = calib("stats", mels, "-o", "file/s.json")
    assert done.code in {2, 3}
    assert "file" in done.err
    assert "bug" not in done.err
    done = calib("stats", mels, "-o", tmp_path)
    assert done.code == 2
    assert "folder" in done.err


def test_a_name_too_long_for_the_disk_is_no_bug_of_calib(calib: Cli, mels: Path) -> None:
    done = calib("stats", mels, "-o", "x" * 300 + ".json")
    assert done.code == 3, done.err
    assert "bug" not in done.err


# --- what cannot be, or should not be, in a statistics file ---------------------------------------------------------


def stored(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """Six mels of hifigan, changed."""
    folder.mkdir()
    fe = FrontEnd.load("hifigan")
    for k in range(6):
        hiss = 1e-3 * np.random.default_rng(k).standard_normal(round(1.2 * 22050))
        mel = fe.mel((voice(1.2, k)[: len(hiss)] + hiss).astype(np.float32))
        np.save(folder / f"m{k}.npy", change(mel).astype(np.float32))
    return folder


LN_TO_DB = 20.0 / np.log(10.0)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("uint8", lambda x: np.rint((x + 11.6) / 13.0 * 255.0), "integer scale"),
        ("linear", lambda x: 8.0 * np.exp(x) / np.exp(x).max(), "a linear mel"),
        ("integer-audio", lambda x: x + 10.4, "integer scale"),
    ],
)
def test_no_statistics_say_hifigan_of_mels_that_it_cannot_make(
    calib: Cli, tmp_path: Path, name: str, change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    folder = stored(tmp_path / name, change)
    done = calib("stats", folder, "--frontend", "hifigan", "-o", "s.json")
    assert done.code == 3
    assert "cannot give" in done.err
    assert words in done.err
    assert "leave --frontend out" in done.err
    assert not (tmp_path / "s.json").exists()
    assert not (tmp_path / "s.json.ledger").exists()
    # Without a front end nothing untrue is claimed.
    assert calib("stats", folder, "-o", "s.json").code == 0
    assert json.loads((tmp_path / "s.json").read_text())["frontend"] is None


@pytest.mark.parametrize(
    ("name", "change", "key"),
    [
        ("norm11", lambda x: (x - x.min()) / np.ptp(x) * 2.0 - 1.0, "domain"),
        ("padded", lambda x: np.concatenate([x, np.zeros((len(x), x.shape[1]))]), "padding"),
        ("floored-db", lambda x: np.maximum(LN_TO_DB * x - 20.0, -100.0), "domain"),
    ],
)
def test_mels_that_are_not_what_is_said_are_warned_of_here_and_where_the_file_is_read(
    calib: Cli, tmp_path: Path, name: str, change: Callable[[np.ndarray], np.ndarray], key: str
) -> None:
    folder = stored(tmp_path / name, change)
    done = calib("stats", folder, "--frontend", "hifigan", "-o", "s.json", "--jobs", 2)
    assert done.code == 0, done.err
    content = json.loads((tmp_path / "s.json").read_text())
    found = {one["key"]: one for one in content["warnings"]}
    assert found[key]["status"] == "fail"
    assert f"warning: FAIL: {found[key]['title']}: {found[key]['measured']}" in done.err
    assert "calib check data" in done.err
    gated = calib("stats", folder, "--frontend", "hifigan", "-o", "t.json", "--fail-on", "warn")
    assert gated.code == 10
    assert (tmp_path / "t.json").read_bytes() == (tmp_path / "s.json").read_bytes()  # in whatever number of processes
    read = calib("check", "loss", tmp_path / "s.json", "--loss", "mse")
    assert read.code == 0, read.err
    assert f"measured with a warning: {found[key]['title']}" in read.err


def test_what_check_data_counts_stats_counts_too(calib: Cli, tmp_path: Path) -> None:
    folder = stored(tmp_path / "mixed", lambda x: x)
    for k in (0, 1):  # two of six in dB
        np.save(folder / f"m{k}.npy", LN_TO_DB * np.load(folder / f"m{k}.npy"))
    done = calib("stats", folder, "-o", "s.json")
    assert done.code == 0, done.err
    (found,) = (
        one for one in json.loads((tmp_path / "s.json").read_text())["warnings"] if one["key"] == "domain-mixed"
    )
    census = json.loads(calib("check", "data", folder, "--json", "-").out)["findings"]
    (asked,) = (one for one in census if one["key"] == "domain-mixed")
    assert (asked["status"], asked["count"]) == ("fail", 2)
    assert found["status"] == "fail"
    assert found["measured"].startswith(asked["measured"].split(";")[0])


def test_good_mels_and_good_audio_have_no_warning_in_the_file(calib: Cli, audio: Path, tmp_path: Path) -> None:
    folder = stored(tmp_path / "mels", lambda x: x)
    for source in (folder, audio):
        done = calib("stats", source, "--frontend", "hifigan", "-o", "s.json", "--force", "--fail-on", "warn")
        assert done.code == 0, done.err
        assert "warnings" not in json.loads((tmp_path / "s.json").read_text())


def test_audio_beyond_full_scale_clipped_or_silent_for_long_is_warned_of(calib: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "wavs"
    folder.mkdir()
    clean = voice(2.0, 1).astype(np.float32)
    clean *= 0.5 / np.abs(clean).max()
    silence = np.zeros(3 * 22050, np.float32)
    sounds = {
        "clean": clean,
        "beyond": 76.0 * clean,
        "clipped": np.clip(6.0 * clean, -1.0, 1.0),
        "late": np.concatenate([silence, clean]),
        "long": np.concatenate([clean, silence]),
    }
    for name, x in sounds.items():
        soundfile.write(folder / f"{name}.wav", x, 22050, subtype="FLOAT" if name == "beyond" else "PCM_16")
    done = calib("stats", folder, "--frontend", "hifigan", "-o", "s.json")
    assert done.code == 0, done.err
    found = {one["key"]: one["measured"] for one in json.loads((tmp_path / "s.json").read_text())["warnings"]}
    assert set(found) == {"integer-scale", "clipping", "leading-silence", "trailing-silence"}
    assert all("1 of 5" in measured for measured in found.values())
    census = json.loads(calib("check", "data", folder, "--json", "-").out)["findings"]
    counts = {one["key"]: one["count"] for one in census if one["key"] in found}
    assert counts == dict.fromkeys(found, 1)


def test_all_speakers_together_are_no_speaker(calib: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "wavs"
    folder.mkdir()
    for k in range(4):
        soundfile.write(folder / f"c{k}.wav", 0.5 * voice(0.8, k), 22050)
    (tmp_path / "list.txt").write_text("".join(f"wavs/c{k}.wav|text|{'ab'[k % 2]}\n" for k in range(4)))
    done = calib(
        "stats",
        "list.txt",
        "--columns",
        "path,text,speaker",
        "--frontend",
        "hifigan",
        "-o",
        "s.json",
        "--export",
        "kaldi",
    )
    assert done.code == 0, done.err
    assert any(line.startswith("all speakers") for line in done.out.splitlines())
    assert not any(line.startswith("default") for line in done.out.splitlines())
    assert set(json.loads((tmp_path / "s.json").read_text())["speakers"]) == {"default", "a", "b"}  # readers need it
    asked = calib("check", "loss", "cmvn.ark#b", "--loss", "mse")
    assert asked.code == 2
    assert "one set, of all speakers together" in asked.err
    assert "calib stats SOURCE --speaker b" in asked.err
