"""The whole line on the embedded corpus and model: what `make demo` promises, on fewer utterances."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calib.commands.demo import CASES, _check, run_demo
from calib.commands.run import RunResult
from calib.data.audio import read_audio
from calib.params import MelScaler

pytest.importorskip(
    "espeakng_loader",
    reason="the reference model turns text into phonemes with espeak-ng (pip install mel-calib[demo])",
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, RunResult]]:
    folder = tmp_path_factory.mktemp("demo")
    results = run_demo(folder, limit=16)
    return folder, {case.name: result for case, result in zip(CASES, results, strict=True)}


def test_each_case_comes_out_as_it_says(demo: tuple[Path, dict[str, RunResult]]) -> None:
    """FIXABLE, COLLAPSED and refused, HEALTHY; and the demo's own check agrees."""
    _, results = demo
    assert {name: result.judgement.diagnosis.verdict.state for name, result in results.items()} == {
        "units": "fixable",
        "collapsed": "collapsed",
        "healthy": "healthy",
    }
    _check(list(results.values()))


def test_everything_is_left_and_nothing_that_was_refused(demo: tuple[Path, dict[str, RunResult]]) -> None:
    """Three reports with twins, an index, statistics, WAVs; parameters only where they were written."""
    folder, results = demo
    assert (folder / "index.html").is_file()
    for name, result in results.items():
        case = folder / name
        assert (case / "report.html").is_file()
        assert json.loads((case / "report.json").read_text())["schema"] == "calib/report/1"
        assert (case / "mel_normalization_stats.json").is_file()
        assert (case / "mel_scaling_params.json").exists() == (name != "collapsed")
        assert {"before", "after", "target", "constant"} <= set(result.wavs)
    assert not list(folder.rglob("*.part")), "a temporary file was left"
    assert not list(folder.rglob("ledger.jsonl")), "a finished run leaves no ledger"


def test_the_units_case_is_repaired_to_the_healthy_model(demo: tuple[Path, dict[str, RunResult]]) -> None:
    """Calibrated MAE is at most 1.02 times that of the same model without the fault."""
    _, results = demo
    units, healthy = results["units"].judgement.diagnosis, results["healthy"].judgement.diagnosis
    assert units.after.mae <= 1.02 * healthy.row("before").mae
    assert units.row("before").mae > 5 * units.after.mae


def test_the_collapsed_fit_flatters_and_a_constant_does_the_same(demo: tuple[Path, dict[str, RunResult]]) -> None:
    """The regression cuts MAE by more than half; the best constant is at least as good."""
    d = demo[1]["collapsed"].judgement.diagnosis
    assert d.row("ols").mae < 0.5 * d.row("before").mae
    assert d.best_constant.mae <= d.row("ols").mae


def test_the_sound_is_speech_after_and_not_before(demo: tuple[Path, dict[str, RunResult]]) -> None:
    """The mel of the synthesised audio is near the target mel after the calibration, and far from it before."""
    heard = demo[1]["units"].report.heard
    assert heard
    for distances in heard.values():
        assert distances["calibrated"] < 0.8
        assert distances["raw"] > 1.8
        assert distances["target"] < distances["calibrated"] < distances["constant"] < distances["raw"]


def test_the_figure_stands_in_the_report(demo: tuple[Path, dict[str, RunResult]]) -> None:
    """The page and its twin carry the distance of the audio's mel."""
    folder, _ = demo
    assert "mel of the audio against the target mel" in (folder / "units" / "report.html").read_text()
    assert "mel of the audio against the target mel" in (folder / "units" / "report.json").read_text()


def test_the_written_files_calibrate_in_inference(demo: tuple[Path, dict[str, RunResult]]) -> None:
    """What inference reads maps the stored predictions to the reported error."""
    folder, results = demo
    case = folder / "units"
    scaler = MelScaler.load(case / "mel_scaling_params.json", case / "mel_normalization_stats.json")
    absolute = values = 0.0
    for line in (case / "pairs" / "pairs.jsonl").read_text().splitlines():
        row = json.loads(line)
        pred, target = (np.load(case / "pairs" / row[key]) for key in ("pred", "target"))
        absolute += float(np.abs(scaler.calibrate(pred) - target).sum())
        values += target.size
    assert absolute / values == pytest.approx(results["units"].judgement.diagnosis.after.mae_in_sample, rel=0.02)


def test_what_was_said_has_a_plausible_length_and_level(demo: tuple[Path, dict[str, RunResult]]) -> None:
    """English, German and Persian: half a second to six, neither silent nor clipped."""
    _, results = demo
    said = {
        label: path
        for label, path in results["units"].wavs.items()
        if label.startswith("say") and label.endswith("after")
    }
    assert {label.split()[2] for label in said} == {"en", "de", "fa"}
    for path in said.values():
        audio = read_audio(path)
        assert 0.5 < audio.seconds < 6.0
        assert 0.02 < audio.peak <= 1.0
        assert -45 < 20 * np.log10(np.sqrt(np.mean(audio.samples**2))) < -8


def test_a_second_demo_does_not_overwrite_the_first(demo: tuple[Path, dict[str, RunResult]]) -> None:
    """Without --force existing output is refused."""
    from calib.errors import UsageError

    with pytest.raises(UsageError, match="exists and is not overwritten"):
        run_demo(demo[0], limit=16)
