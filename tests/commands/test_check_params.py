"""``calib check params``: files that calib wrote pass, files that were touched do not, published figures are taken apart."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from speechlike import mel_field

Cli = Callable[..., Any]
PARAMS, STATS = "mel_scaling_params.json", "mel_normalization_stats.json"
FOUNDING = [
    "--scale", "0.449", "--offset", "0", "--mel-mean", "-5.070", "--mel-std", "2.080", "--pred-std", "0.028",
    "--mae-before", "5.073", "--mae-after", "1.678", "--claimed-gain", "6.28",
]  # fmt: skip


@pytest.fixture
def fitted(calib: Cli, pairs: Path, tmp_path: Path) -> Path:
    """A folder with both files as fit-scaler writes them."""
    assert calib("fit-scaler", pairs).code == 0
    return tmp_path


def statuses(found: dict[str, Any]) -> dict[str, str]:
    return {finding["name"]: finding["status"] for finding in found["findings"]}


def edited(folder: Path, change: Callable[[dict[str, Any]], Any], name: str = PARAMS) -> Path:
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / "edited.json").write_text(json.dumps(content))
    return folder / "edited.json"


def test_the_founding_figures_from_the_command_line(calib: Cli) -> None:
    done = calib("check", "params", *FOUNDING)
    assert done.code == 0, done.err
    first = done.out.splitlines()[0]
    assert first.startswith("THE CONSTANT PREDICTOR, NOT A CALIBRATION: r = 0.0126 (R² 0.00016)")
    assert "the MAEs say 3.02x" in first
    for words in (
        "0.449 x 0.028",
        "5.073 / 1.678 = 3.02",
        "1.678 / 2.08 = 0.8067",
        "100% of the gain",
        "read as leading to mel units: r = 0.0060; cannot be",
        "skipped: how much data: needs --n-utterances",
        "needs --pred-mean",
    ):
        assert words in done.out, words


def test_the_founding_figures_close_the_gate(calib: Cli) -> None:
    assert calib("check", "params", *FOUNDING, "--fail-on", "fail").code == 10
    assert calib("check", "params", *FOUNDING, "--fail-on", "never").code == 0


def test_the_json_has_every_finding_with_the_sum_to_redo(calib: Cli, tmp_path: Path) -> None:
    found = json.loads(calib("check", "params", *FOUNDING, "--json", "-").out)
    assert found["schema"] == "calib/params-audit/1"
    assert (found["status"], found["r"]) == ("fail", pytest.approx(0.012572))
    assert found["r_squared"] == pytest.approx(0.000158, abs=1e-6)
    assert found["numbers"]["scale"] == {"value": 0.449, "source": "option"}
    assert all(finding["by_hand"] for finding in found["findings"] if finding["status"] == "fail")
    (tmp_path / "out.json").write_text("mine")
    assert calib("check", "params", *FOUNDING, "--json", "out.json").code == 2
    assert (tmp_path / "out.json").read_text() == "mine"
    assert calib("check", "params", *FOUNDING, "--json", "out.json", "--force").code == 0


def test_a_file_that_calib_wrote_raises_nothing_but_its_unknown_model(calib: Cli, fitted: Path) -> None:
    for extra in ([], ["--stats", fitted / STATS]):
        done = calib("check", "params", fitted / PARAMS, *extra, "--json", "-")
        assert done.code == 0, done.err
        found = statuses(json.loads(done.out))
        assert {name for name, status in found.items() if status not in {"pass", "skipped"}} == {"identity"}
    assert found["agreement"] == found["belongs"] == found["scores"] == "pass"


def test_predictions_and_targets_behind_a_file_give_the_stored_correlation(calib: Cli, fitted: Path) -> None:
    """--pred-std of the very arrays: the implied r is the r that the file stores."""
    preds = np.vstack([np.load(p) for p in sorted((fitted / "pairs" / "predictions").iterdir())]).astype(np.float64)
    ys = np.vstack([np.load(p) for p in sorted((fitted / "pairs" / "targets").iterdir())]).astype(np.float64)
    done = calib("check", "params", fitted / PARAMS, "--stats", fitted / STATS, "--pred-std", preds.std(), "--pred-mean", preds.mean(), "--target-std", ys.std(), "--target-mean", ys.mean(), "--json", "-")  # fmt: skip
    found = json.loads(done.out)
    stored = json.loads((fitted / PARAMS).read_text())["fit"]["r"]
    assert found["r"] == pytest.approx(stored, abs=1e-6)
    assert "fail" not in statuses(found).values(), found["findings"]
    assert statuses(found)["offset"] == "pass"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("agreement", lambda c: c.update(scale_factor=c["scale_factor"] * 1.1)),
        ("agreement", lambda c: c.update(offset=c["offset"] + 0.1)),
        ("agreement", lambda c: c["fit"].update(r=0.2)),
        ("agreement", lambda c: c["fit"]["out_of_sample"].update(rmse_after=c["fit"]["out_of_sample"]["mae_after"] / 2)),
        ("scores", lambda c: c["fit"]["out_of_sample"].update(mae_after=2.0)),
        ("verdict", lambda c: c.update(verdict="no-signal")),
        ("belongs", lambda c: c.update(stats_id="st-0123456789abcdef")),
        ("stored_r", lambda c: c["fit"].update(r_w=0.05, r_w_squared=0.0025)),
        ("bins", lambda c: c.update(per_bin={"scale": [1.0] * 79, "offset": [0.0] * 79})),
    ],
)  # fmt: skip
def test_a_file_that_was_touched_fails(
    calib: Cli, fitted: Path, name: str, change: Callable[[dict[str, Any]], Any]
) -> None:
    path = edited(fitted, change)
    done = calib("check", "params", path, "--stats", fitted / STATS, "--fail-on", "fail", "--json", "-")
    assert done.code == 10
    assert statuses(json.loads(done.out))[name] == "fail"


def test_a_forced_file_says_so_first(calib: Cli, unrelated: Path, tmp_path: Path) -> None:
    assert calib("fit-scaler", unrelated, "--force").code == 0
    done = calib("check", "params", PARAMS)
    assert done.code == 0
    assert done.out.startswith("WRITTEN WITHOUT SIGNAL: no-signal: written by force")
    assert (tmp_path / PARAMS).exists()


def test_a_legacy_file_is_read_and_options_override_it_and_say_so(calib: Cli, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"scale_factor": 0.449, "offset": 0.0}')
    done = calib("check", "params", "old.json", "--pred-std", "0.028", "--mel-std", "2.08")
    assert done.code == 0
    assert done.out.startswith("THE CONSTANT PREDICTOR, NOT A CALIBRATION: r = 0.0126")
    assert "it holds scale and offset alone" in done.out
    assert "leading to mel units" not in done.out, "a file's meaning is fixed"
    done = calib("check", "params", "old.json", "--scale", "0.9", "--pred-std", "1", "--mel-std", "2.08")
    assert "--scale 0.9 is used instead of 0.449 of old.json" in done.err
    assert "r = 0.9000" in done.out


def test_the_statistics_of_one_file_and_the_usual_defaults_are_seen(calib: Cli, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    np.save(tmp_path / "one" / "speaker.npy", mel_field(300, 0))
    assert calib("stats", "one", "--layout", "TM").code == 0
    done = calib("check", "params", "--scale", "0.5", "--stats", STATS)
    assert "the statistics: 1 utterance." in done.out
    done = calib("check", "params", "--scale", "1", "--offset", "0", "--mel-mean", "-5", "--mel-std", "2")
    assert "mel_mean -5 and mel_std 2 and scale 1 and offset 0" in done.out


def test_per_bin_statistics_give_the_static_spectrum_to_compare_with(calib: Cli, tmp_path: Path) -> None:
    """A scale with no more correlation than the mean spectrum has, and an error no better than it leaves."""
    (tmp_path / "m").mkdir()
    mels = [mel_field(200, k) for k in range(6)]
    for k, mel in enumerate(mels):
        np.save(tmp_path / "m" / f"{k}.npy", mel)
    assert calib("stats", "m", "--layout", "TM").code == 0
    y = np.vstack(mels).astype(np.float64)
    static_r = y.mean(0).std() / y.std()
    static_mae = np.abs(y - y.mean(0)).mean()
    done = calib("check", "params", "--stats", STATS, "--scale", static_r, "--pred-std", 1, "--mae-after", static_mae, "--slope-space", "normalized", "--json", "-")  # fmt: skip
    found = json.loads(done.out)
    assert found["numbers"]["static_r"]["value"] == pytest.approx(static_r, rel=1e-6)
    assert statuses(found)["implied_r"] == "warn"
    assert statuses(found)["constant"] == "fail"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "there are no numbers to audit"),
        (["--slope-space", "raw"], "there are no numbers to audit"),
        (["--scale", "nan"], "--scale is nan; it must be a finite number"),
        (["--mae-after", "inf"], "--mae-after is inf"),
        (["--mel-std", "0"], "mel_std is 0"),
        (["--mel-std", "-2"], "mel_std is -2"),
        (["--pred-std", "-1"], "pred_std is -1"),
        (["--mae-before", "-1"], "mae_before is -1"),
        (["--scale", "1e30"], "scale is 1e+30"),
        (["--scale", "1", "--slope-space", "log"], "slope_space is 'log'"),
        (["--n-utterances", "-3"], "--n-utterances -3"),
        (["--scale", "1", "--fail-on", "often"], "--fail-on is 'often'"),
        (["--scale", "much"], "--scale"),
    ],
)
def test_numbers_that_cannot_be_exit_2(calib: Cli, arguments: list[str], words: str) -> None:
    done = calib("check", "params", *arguments)
    assert done.code == 2
    assert words in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file"),
        ("{", "cannot be read as JSON"),
        ('{"scale_factor": NaN, "offset": 0.0}', "NaN"),
        ('{"scale_factor": 0.4}', "lacks offset"),
        ('{"scale_factor": 1.0, "offset": 0.0, "per_bin": {"scale": [1.0, 2.0], "offset": [0.0]}}', "2 scales but 1"),
        ('{"schema": "calib/mel-scaling-params/9", "scale_factor": 1.0, "offset": 0.0}', "schema"),
    ],
)
def test_files_that_cannot_be_read_exit_3(calib: Cli, tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "p.json").write_text(text)
    done = calib("check", "params", "p.json")
    assert done.code == 3
    assert words in done.err


def test_too_few_numbers_are_no_pass(calib: Cli) -> None:
    done = calib("check", "params", "--mae-before", "5", "--mae-after", "1", "--fail-on", "warn")
    assert done.code == 10
    assert done.out.startswith("NOT SHOWN TO WORK")


def test_nothing_heavy_is_loaded(fitted: Path) -> None:
    code = (
        "import sys\nfrom calib.cli import _run\n"
        f"code = _run(['check', 'params', {str(fitted / PARAMS)!r}, '--stats', {str(fitted / STATS)!r}])\n"
        "bad = {'torch', 'sklearn', 'pandas', 'matplotlib', 'scipy'} & {m.partition('.')[0] for m in sys.modules}\n"
        "sys.exit(code or len(bad))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- figures that round to 0, or contradict what is said of them -----------------------------------------------------


def test_a_scale_that_matches_the_sds_is_not_said_to_agree_with_an_rmse_of_0(calib: Cli) -> None:
    done = calib("check", "params", "--scale", 1, "--offset", 0, "--pred-std", 2, "--mel-std", 2, "--slope-space", "raw", "--mae-after", 0.2)  # fmt: skip
    assert "RMSE 0 " not in done.out
    line = next(line for line in done.out.splitlines() if "error after, against the correlation" in line)
    assert line.startswith("skipped: ")
    assert "allows any RMSE up to" in line


def test_a_correlation_that_is_not_0_is_not_shown_as_0(calib: Cli) -> None:
    done = calib("check", "params", "--scale", -0.001, "--pred-std", 0.001, "--mel-std", 2, "--offset", 0)
    assert "0.0000" not in done.out
    assert "r = -1.0e-06" in done.out.splitlines()[0]


def test_no_error_at_all_is_doubted(calib: Cli) -> None:
    done = calib("check", "params", "--mae-before", 3, "--mae-after", 0, "--mel-std", 2)
    assert done.out.startswith("DOUBTFUL: against the constant predictor: MAE after is 0: nothing is left of the error")


def test_what_is_left_of_two_equal_terms_is_0(calib: Cli) -> None:
    done = calib("check", "params", "--scale", 0.4, "--pred-std", 2, "--mel-std", 2, "--target-std", 2, "--offset", 0, "--pred-mean", 0.25, "--mel-mean", -5, "--target-mean", -4.8)  # fmt: skip
    assert "an unbiased fit has 0:" in done.out
    assert "e-17" not in done.out


def test_a_fit_on_no_utterance_is_a_usage_error(calib: Cli) -> None:
    done = calib("check", "params", "--scale", 1, "--n-utterances", 0)
    assert done.code == 2
    assert "--n-utterances" in done.err
