"""Named faults from PAIRS on disk to the terminal, the JSON and the page, with and without the audio."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from speechlike import RATE, modelled, recording, write_pairs

from calib.data.pairs import PairsWriter
from calib.diagnose.faults.library import FAULTS
from calib.mel.frontend import FrontEnd

Cli = Callable[..., Any]
COUNT = 8
HIFIGAN = FrontEnd.load("hifigan")


@pytest.fixture(scope="module")
def audio() -> list[np.ndarray]:
    return [recording(2.0 + 0.2 * k, k) for k in range(COUNT)]


@pytest.fixture(scope="module")
def targets(audio: list[np.ndarray]) -> list[np.ndarray]:
    return [HIFIGAN.mel(x) for x in audio]


def other(audio: list[np.ndarray], **changes: object) -> list[np.ndarray]:
    """What a healthy model predicts that was trained on another front end."""
    return modelled([dataclasses.replace(HIFIGAN, **changes).mel(x) for x in audio])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def emphasised(audio: list[np.ndarray]) -> list[np.ndarray]:
    return other(audio, preemphasis=0.97)


def record(folder: Path, audio: list[np.ndarray], name: str = "u{:02d}.wav") -> Path:
    folder.mkdir(parents=True)
    for k, x in enumerate(audio):
        soundfile.write(folder / name.format(k), x, RATE, subtype="FLOAT")
    return folder


def diagnosed(calib: Cli, *arguments: object) -> tuple[Any, dict[str, Any]]:
    """The terminal's text, and the JSON of the same command."""
    shown = calib("diagnose", *arguments)
    assert shown.code == 0, shown.err
    plain = calib("diagnose", *arguments, "--json", "-")
    return shown, json.loads(plain.out, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))


def names(found: dict[str, Any]) -> list[list[str]]:
    return [finding["names"] for finding in found["faults"]]


# --- the audio shrinks the set --------------------------------------------------------------------------------------


def test_without_audio_a_front_end_fault_is_named_as_a_set_and_that_is_said(
    calib: Cli, tmp_path: Path, emphasised: list[np.ndarray], targets: list[np.ndarray]
) -> None:
    pairs = write_pairs(tmp_path / "pairs", list(zip(emphasised, targets, strict=True)))
    shown, found = diagnosed(calib, pairs, "--frontend", "hifigan")
    assert names(found) == [["pre-emphasis", "area-norm", "equaliser"]]
    lines = shown.out.splitlines()
    cause = next(line for line in lines if line.startswith("cause: the prediction is made from pre-emphasised audio"))
    assert f"(confidence {100 * found['faults'][0]['confidence']:.0f} %)" in cause
    assert lines.index(cause) == 2, "the verdict and its sentence stay the first two lines"
    assert f"    {found['faults'][0]['evidence'][0]}" in lines
    assert f"    why: {FAULTS['pre-emphasis'].cause}" in lines
    assert (
        "skipped: which of pre-emphasis, area-norm, equaliser: named only as a set without audio (--audio SOURCE)"
        in lines
    )
    steps = lines[lines.index("next:") + 1 :]
    assert steps[0] == f"  1. {FAULTS['pre-emphasis'].next_step}: {FAULTS['pre-emphasis'].command}"
    assert len(set(steps)) == len(steps)


def test_with_audio_the_set_shrinks(
    calib: Cli, tmp_path: Path, audio: list[np.ndarray], emphasised: list[np.ndarray], targets: list[np.ndarray]
) -> None:
    pairs = write_pairs(tmp_path / "pairs", list(zip(emphasised, targets, strict=True)))
    shown, found = diagnosed(calib, pairs, "--frontend", "hifigan", "--audio", record(tmp_path / "wavs", audio))
    assert names(found) == [["pre-emphasis", "equaliser"]]
    assert "--audio: 8 of 8 pairs have their audio in wavs" in shown.err
    assert "named only as a set" not in shown.out


def test_the_audio_of_the_pairs_own_entries_needs_no_option(
    calib: Cli, tmp_path: Path, audio: list[np.ndarray], targets: list[np.ndarray]
) -> None:
    folder = record(tmp_path / "wavs", audio)
    header = {"frontend": HIFIGAN.fields(), "frontend_id": HIFIGAN.id}
    with PairsWriter(tmp_path / "pairs", header) as writer:
        for k, (p, y) in enumerate(zip(other(audio, mel_scale="htk"), targets, strict=True)):
            writer.write(f"u{k:02d}", p, y, audio=folder / f"u{k:02d}.wav")
    _, found = diagnosed(calib, tmp_path / "pairs")
    assert names(found) == [["mel-scale"]]


# --- audio that cannot be used --------------------------------------------------------------------------------------


def test_without_a_front_end_audio_is_skipped_and_so_is_what_needs_one(
    calib: Cli, tmp_path: Path, audio: list[np.ndarray], targets: list[np.ndarray]
) -> None:
    pairs = write_pairs(tmp_path / "pairs", list(zip(modelled(targets), targets, strict=True)))
    shown, found = diagnosed(calib, pairs, "--audio", record(tmp_path / "wavs", audio))
    assert "give --frontend NAME" in found["skipped"]["audio"]
    assert "skipped: area-norm, pre-emphasis, sample-rate: needs the front end of the targets" in shown.out


def test_audio_of_other_utterances_is_an_error_with_names_of_both_sides(
    calib: Cli, tmp_path: Path, audio: list[np.ndarray], targets: list[np.ndarray]
) -> None:
    pairs = write_pairs(tmp_path / "pairs", [(y, y) for y in targets])
    folder = record(tmp_path / "wavs", audio[:2], "elsewhere-{}.wav")
    done = calib("diagnose", pairs, "--frontend", "hifigan", "--audio", folder)
    assert done.code == 3
    assert "'u00'" in done.err
    assert "'elsewhere-0'" in done.err


def test_what_is_not_matched_and_what_cannot_be_read_is_said(
    calib: Cli, tmp_path: Path, audio: list[np.ndarray], targets: list[np.ndarray]
) -> None:
    pairs = write_pairs(tmp_path / "pairs", list(zip(modelled(targets), targets, strict=True)))
    folder = record(tmp_path / "wavs", audio)
    (folder / "u07.wav").unlink()
    (folder / "u00.wav").write_bytes(b"no audio at all")
    shown, found = diagnosed(calib, pairs, "--frontend", "hifigan", "--audio", folder)
    assert "7 of 8 pairs have their audio in wavs; 1 have not ('u07')" in shown.err
    note = next(note for note in found["notes"] if "cannot be read" in note)
    assert note.startswith("the audio of 1 of the ")
    assert "u00: " in note


def test_audio_that_the_targets_were_not_made_from_is_not_used(
    calib: Cli, tmp_path: Path, audio: list[np.ndarray], targets: list[np.ndarray]
) -> None:
    pairs = write_pairs(tmp_path / "pairs", list(zip(modelled(targets), targets, strict=True)))
    folder = record(tmp_path / "wavs", [0.1 * x[::-1] for x in audio])
    _, found = diagnosed(calib, pairs, "--frontend", "hifigan", "--audio", folder)
    assert "not what the declared front end makes of this audio" in found["skipped"]["audio"]


def test_a_front_end_of_another_size_takes_no_audio(
    calib: Cli, tmp_path: Path, audio: list[np.ndarray], targets: list[np.ndarray]
) -> None:
    half = [y[:, ::2] for y in targets]
    pairs = write_pairs(tmp_path / "pairs", list(zip(modelled(half), half, strict=True)))
    folder = record(tmp_path / "wavs", audio)
    _, found = diagnosed(calib, pairs, "--frontend", "hifigan", "--audio", folder, "--layout", "TM")
    assert found["skipped"]["audio"] == "the front end makes 80 mel bins, and the targets have 40"


# --- what is said where nothing can be ------------------------------------------------------------------------------


def test_every_fault_is_found_excluded_or_skipped_with_a_reason(
    calib: Cli, tmp_path: Path, targets: list[np.ndarray], unrelated: Path
) -> None:
    """What needs more than pairs is skipped by name; where nothing is related, whole kinds of faults are."""
    pairs = write_pairs(tmp_path / "pairs", list(zip(modelled(targets), targets, strict=True)))
    _, found = diagnosed(calib, pairs, "--frontend", "hifigan")
    assert found["faults"] == []
    assert {name for name, fault in FAULTS.items() if fault.needs != "pairs"} <= set(found["skipped"])
    _, found = diagnosed(calib, unrelated)
    assert {"faults of units", "faults of frequency"} <= set(found["skipped"])
    assert names(found)


def test_a_stretched_prediction_is_invalid_and_its_ratio_is_named(
    calib: Cli, tmp_path: Path, targets: list[np.ndarray]
) -> None:
    longer = [y[np.linspace(0, len(y) - 1, round(len(y) * 24000 / 22050)).round().astype(int)] for y in targets]
    pairs = write_pairs(tmp_path / "pairs", list(zip(longer, targets, strict=True)))
    shown, found = diagnosed(calib, pairs)
    assert shown.out.startswith("INVALID DATA\n")
    assert "another sample rate (24000/22050" in found["verdict"]["sentence"]
    assert names(found) == [["time-stretch", "sample-rate"]]
    assert "  1. compare hop length and sample rate of model and target: calib frontends diff A B" in shown.out
    assert "other faults" in found["skipped"]
    assert calib("fit-scaler", pairs).code == 3


def test_half_precision_that_overflowed_is_called_that(calib: Cli, tmp_path: Path, targets: list[np.ndarray]) -> None:
    pairs = write_pairs(tmp_path / "pairs", [(y, y) for y in targets])
    path = pairs / "predictions" / "u03.npy"
    with np.errstate(over="ignore"):
        np.save(path, np.where(np.arange(80) == 5, 1e6, targets[3]).astype(np.float16))
    shown, found = diagnosed(calib, pairs, "--allow-skipped", 50)  # is no leave to be broken
    assert found["verdict"]["state"] == "invalid"
    assert f"u03: {len(targets[3])} values of the prediction are infinite or at ±65504" in shown.out
    assert "fp16 overflow" in shown.out


# --- gates and the page ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gate", "code"), [("never", 0), ("fail", 10), ("warn", 10)])
def test_a_healthy_level_with_a_fault_that_breaks_the_sound_closes_the_gate(
    calib: Cli, tmp_path: Path, audio: list[np.ndarray], targets: list[np.ndarray], gate: str, code: int
) -> None:
    pairs = write_pairs(tmp_path / "pairs", list(zip(other(audio, mel_scale="htk"), targets, strict=True)))
    _, found = diagnosed(calib, pairs, "--frontend", "hifigan")
    assert (found["verdict"]["state"], found["status"]) == ("healthy", "fail")
    assert calib("diagnose", pairs, "--frontend", "hifigan", "--fail-on", gate).code == code
    assert calib("report", pairs, "--frontend", "hifigan", "--no-audio", "--force", "--fail-on", gate).code == code


def test_the_report_names_the_faults_on_the_terminal_the_page_and_the_twin(
    calib: Cli, tmp_path: Path, audio: list[np.ndarray], emphasised: list[np.ndarray], targets: list[np.ndarray]
) -> None:
    pairs = write_pairs(tmp_path / "pairs", list(zip(emphasised, targets, strict=True)))
    folder = record(tmp_path / "wavs", audio)
    done = calib("report", pairs, "--frontend", "hifigan", "--audio", folder, "--no-audio", "-o", "r")
    assert done.code == 0, done.err
    assert "\ncause: the prediction is made from pre-emphasised audio" in done.out
    html = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "The prediction is made from pre-emphasised audio" in html
    assert "<audio" not in html
    twin = json.loads((tmp_path / "r" / "report.json").read_text(encoding="utf-8"))
    assert twin["diagnosis"]["faults"][0]["names"] == ["pre-emphasis", "equaliser"]
    assert twin["provenance"]["audio of the targets"] is True


def test_the_same_audio_gives_the_same_findings_again(
    calib: Cli, tmp_path: Path, audio: list[np.ndarray], emphasised: list[np.ndarray], targets: list[np.ndarray]
) -> None:
    pairs = write_pairs(tmp_path / "pairs", list(zip(emphasised, targets, strict=True)))
    arguments = ("diagnose", pairs, "--frontend", "hifigan", "--audio", record(tmp_path / "wavs", audio), "--json", "-")
    assert calib(*arguments).out == calib(*arguments).out


def test_fit_scaler_takes_the_audio_too_and_writes_the_same_numbers(
    calib: Cli, tmp_path: Path, audio: list[np.ndarray], emphasised: list[np.ndarray], targets: list[np.ndarray]
) -> None:
    pairs = write_pairs(tmp_path / "pairs", list(zip(emphasised, targets, strict=True)))
    folder = record(tmp_path / "wavs", audio)
    for name, extra in (("with", ["--audio", folder]), ("without", [])):
        done = calib("fit-scaler", pairs, "--frontend", "hifigan", *extra, "-o", f"{name}/mel_scaling_params.json")
        assert done.code == 0, done.err
        assert "cause: the prediction is made from pre-emphasised audio" in done.out
    read = [(tmp_path / name / "mel_scaling_params.json").read_bytes() for name in ("with", "without")]
    assert read[0] == read[1]
