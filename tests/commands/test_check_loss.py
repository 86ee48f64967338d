"""``calib check loss``: the first line answers, the table is in order, what cannot be told is skipped with a reason."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from speechlike import mel_field, prediction, write_pairs

Cli = Callable[..., Any]
STATS = "mel_normalization_stats.json"


@pytest.fixture
def mels(tmp_path: Path) -> Path:
    """A folder of four mels."""
    folder = tmp_path / "mels"
    folder.mkdir()
    for k in range(4):
        np.save(folder / f"m{k}.npy", mel_field(100 + 10 * k, k))
    return folder


@pytest.fixture
def stats(calib: Cli, mels: Path, tmp_path: Path) -> Path:
    """Their statistics."""
    assert calib("stats", mels, "--layout", "TM").code == 0
    return tmp_path / STATS


def pooled(mels: Path) -> np.ndarray:
    return np.vstack([np.load(path) for path in sorted(mels.iterdir())]).astype(np.float64)


def floors(found: dict[str, Any]) -> dict[str, Any]:
    return {floor["name"]: floor["loss"] for floor in found["floors"]}


def test_statistics_give_the_floors_of_a_squared_loss_exactly(calib: Cli, mels: Path, stats: Path) -> None:
    done = calib("check", "loss", stats, "--loss", "mse", "--json", "-")
    assert done.code == 0, done.err
    y, found = pooled(mels), json.loads(done.out)
    assert found["schema"] == "calib/loss-floors/1"
    got = floors(found)
    assert got["zero"] == pytest.approx(y.mean() ** 2 + y.var(), rel=1e-9)
    assert got["global_mean"] == pytest.approx(y.var(), rel=1e-9)
    assert got["bin_mean"] == pytest.approx(y.var(0).mean(), rel=1e-9)
    skipped = {floor["name"]: floor["skipped"] for floor in found["floors"] if floor["loss"] is None}
    assert "needs PAIRS or mels" in skipped["copy_previous"]
    assert "needs PAIRS" in skipped["model"]
    assert {floor["how"] for floor in found["floors"]} == {"exact"}


def test_statistics_say_that_other_losses_are_approximated_and_by_how_much(calib: Cli, mels: Path, stats: Path) -> None:
    done = calib("check", "loss", stats, "--loss", "huber", "--delta", "0.5", "--value", "1")
    assert done.code == 0, done.err
    assert "approximated" in done.out
    assert "~5%" in done.out
    whole = json.loads(calib("check", "loss", mels, "--layout", "TM", "--loss", "huber", "--delta", "0.5", "--json", "-").out)  # fmt: skip
    alone = json.loads(calib("check", "loss", stats, "--loss", "huber", "--delta", "0.5", "--json", "-").out)
    for name in ("zero", "global_mean", "bin_mean"):
        assert floors(alone)[name] == pytest.approx(floors(whole)[name], rel=0.05)


def test_the_first_line_answers_and_the_table_is_in_order(calib: Cli, mels: Path) -> None:
    y = pooled(mels)
    level = float(np.abs(y - y.mean(0)).mean())
    done = calib("check", "loss", mels, "--layout", "TM", "--loss", "mae", "--value", 1.75 * level, "--weight", 1.75)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("NOT LEARNING: no better than ")
    assert f"/ weight 1.75 = {level:.4g}" in lines[1]
    start = next(k for k, line in enumerate(lines) if line.startswith("predictor"))
    rows = lines[start + 1 : lines.index("", start)]
    values = [float(row[row.rindex("  ", 0, row.rindex("  ")) :].split()[0]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert sum(row.startswith("> reported") for row in rows) == 1
    weighted = [float(row.split()[-1]) / float(row.split()[-2]) for row in rows]
    assert weighted == pytest.approx([1.75] * len(rows), rel=2e-3)
    assert "to beat next:" in done.out


def test_without_a_value_the_first_line_says_what_is_not_learning(calib: Cli, mels: Path) -> None:
    done = calib("check", "loss", mels, "--layout", "TM", "--loss", "mse", "--weight", 2)
    assert done.code == 0
    first = done.out.splitlines()[0]
    level = pooled(mels).var(0).mean()
    assert first.startswith(f"ANY LOSS OF {level:.4g}")
    assert f"{2 * level:.4g} under weight 2" in first


def test_pairs_place_the_models_own_prediction(calib: Cli, pairs: Path, tmp_path: Path) -> None:
    """The prediction of the fixture is (mel + 5) / 2: good when it is known to be normalised, hopeless as it is."""
    y = np.vstack([np.load(path) for path in sorted((pairs / "targets").iterdir())]).astype(np.float64)
    p = np.vstack([np.load(path) for path in sorted((pairs / "predictions").iterdir())]).astype(np.float64)
    done = calib("check", "loss", pairs, "--loss", "mae", "--json", "-")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert floors(found)["model"] == pytest.approx(np.abs(y - p).mean(), rel=1e-4)
    assert (found["status"], found["standings_of"]) == ("fail", "pairs")
    (tmp_path / STATS).write_text('{"mel_mean": -5.0, "mel_std": 2.0}')
    normal = [pairs, "--loss", "mae", "--output-space", "normalized"]
    assert calib("check", "loss", *normal).code == 2
    found = json.loads(calib("check", "loss", *normal, "--stats", STATS, "--json", "-").out)
    assert floors(found)["model"] == pytest.approx(np.abs(y - (p * 2 - 5)).mean(), rel=1e-4)
    assert found["status"] == "pass"


def test_a_reported_value_that_the_pairs_do_not_bear_out_is_noted(calib: Cli, pairs: Path) -> None:
    done = calib("check", "loss", pairs, "--loss", "mae", "--value", 0.1)
    assert "note: the pairs' own prediction scores" in done.out


def test_the_normalised_space_scales_the_floors(calib: Cli, mels: Path, stats: Path) -> None:
    raw, normal = (
        floors(json.loads(calib("check", "loss", mels, "--layout", "TM", "--loss", "mae", "--space", space, "--json", "-").out))
        for space in ("raw", "normalized")
    )  # fmt: skip
    sd = pooled(mels).std()
    for name in ("global_mean", "bin_mean", "copy_previous"):
        assert normal[name] == pytest.approx(raw[name] / sd, rel=1e-3)
    assert normal["zero"] == pytest.approx(normal["global_mean"], rel=1e-6)
    given = floors(json.loads(calib("check", "loss", mels, "--layout", "TM", "--loss", "mae", "--space", "normalized", "--stats", stats, "--json", "-").out))  # fmt: skip
    assert {k: pytest.approx(v, rel=1e-6) if v else v for k, v in given.items()} == normal


def test_label_noise_lifts_every_floor(calib: Cli, mels: Path) -> None:
    plain, noisy = (
        floors(json.loads(calib("check", "loss", mels, "--layout", "TM", "--loss", "mse", "--label-noise", sd, "--json", "-").out))
        for sd in (0, 0.3)
    )  # fmt: skip
    for name, level in plain.items():
        if level is not None:
            assert noisy[name] == pytest.approx(level + 0.09, rel=1e-9)


def test_two_values_under_two_weights_are_told_apart(calib: Cli, mels: Path) -> None:
    """One predictor (the per-bin mean) and .9 of other terms: the weight alone made the loss fall."""
    level = float(np.abs(pooled(mels) - pooled(mels).mean(0)).mean())
    first, second = 7 * level + 0.9, 1.75 * level + 0.9
    done = calib("check", "loss", mels, "--layout", "TM", "--loss", "mae", "--value", first, "--weight", 7, "--value", second, "--weight", 1.75, "--json", "-")  # fmt: skip
    found = json.loads(done.out)["two_values_as_one_predictor"]
    assert found["loss"] == pytest.approx(level)
    assert found["other"] == pytest.approx(0.9)
    assert found["possible"] is True
    assert "Read as one unchanged predictor" in done.err
    assert "of other terms; that is the " in done.err
    assert "Without the weights it rose" in done.err
    impossible = calib("check", "loss", mels, "--layout", "TM", "--loss", "mae", "--value", 1, "--weight", 7, "--value", 2, "--weight", 1)  # fmt: skip
    assert "cannot have given both" in impossible.out


def test_one_weight_serves_two_values(calib: Cli, mels: Path) -> None:
    done = calib("check", "loss", mels, "--layout", "TM", "--loss", "mae", "--value", 8, "--value", 2, "--weight", 2)
    assert done.code == 0, done.err
    assert "Without the weights it fell by 75%: 4 to 1" in done.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--loss", "l3"], "--loss is 'l3'; it must be one of mse, mae, huber"),
        (["--loss", "mae", "--delta", "1"], "--delta 1 belongs to --loss huber"),
        (["--loss", "huber", "--delta", "0"], "--delta"),
        (["--loss", "mae", "--weight", "0"], "--weight is 0; it must be a positive number"),
        (["--loss", "mae", "--weight", "-2"], "--weight is -2"),
        (["--loss", "mae", "--weight", "nan"], "--weight is nan"),
        (["--loss", "mae", "--value", "nan"], "--value is nan"),
        (["--loss", "mae", "--value", "-1"], "--value is -1; it must be a loss"),
        (["--loss", "mae", "--value", "inf"], "--value is inf"),
        (["--loss", "mae", "--label-noise", "-0.1"], "--label-noise is -0.1"),
        (["--loss", "mae", "--space", "dB"], "--space is 'dB'"),
        (["--loss", "mae", "--value", "1", "--value", "2", "--value", "3"], "--value was given 3 times"),
        (["--loss", "mae", "--value", "1", "--weight", "1", "--weight", "2"], "--weight was given 2 times"),
        (["--loss", "mae", "--fail-on", "fail"], "--fail-on fail needs a loss to judge"),
        (["--loss", "mae", "--fail-on", "often"], "--fail-on is 'often'"),
    ],
)
def test_options_that_make_no_sense_exit_2(calib: Cli, mels: Path, options: list[str], words: str) -> None:
    done = calib("check", "loss", mels, "--layout", "TM", *options)
    assert done.code == 2
    assert words in done.err
    assert done.out == ""


def test_the_loss_must_be_named(calib: Cli, mels: Path) -> None:
    done = calib("check", "loss", mels)
    assert done.code == 2
    assert "--loss" in done.err


@pytest.mark.parametrize(("gate", "value", "code"), [("fail", 9, 10), ("warn", 9, 10), ("never", 9, 0), ("fail", 1e-4, 0), ("warn", 1e-4, 10)])  # fmt: skip
def test_the_quality_gate(calib: Cli, mels: Path, gate: str, value: float, code: int) -> None:
    done = calib("check", "loss", mels, "--layout", "TM", "--loss", "mae", "--value", value, "--fail-on", gate)
    assert done.code == code
    assert done.out, "the result is shown before the gate closes"


def test_json_is_not_overwritten_without_force(calib: Cli, stats: Path, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("mine")
    assert calib("check", "loss", stats, "--loss", "mse", "--json", "out.json").code == 2
    assert (tmp_path / "out.json").read_text() == "mine"
    assert calib("check", "loss", stats, "--loss", "mse", "--json", "out.json", "--force").code == 0
    assert json.loads((tmp_path / "out.json").read_text())["schema"] == "calib/loss-floors/1"


def test_unusable_mels_are_counted_and_too_many_are_an_error(calib: Cli, mels: Path) -> None:
    np.save(mels / "bad.npy", np.full((50, 80), np.nan, dtype=np.float32))
    done = calib("check", "loss", mels, "--layout", "TM", "--loss", "mae")
    assert done.code == 3
    assert "bad: NaN or infinite values" in done.err
    done = calib("check", "loss", mels, "--layout", "TM", "--loss", "mae", "--allow-skipped", 50)
    assert done.code == 0
    assert "skipped bad: NaN" in done.err
    assert "4 utterances" in done.out


def test_data_that_cannot_be_used_exits_3(calib: Cli, tmp_path: Path) -> None:
    (tmp_path / "zero").mkdir()
    for k in range(3):
        np.save(tmp_path / "zero" / f"z{k}.npy", np.zeros((60, 80), np.float32))
    done = calib("check", "loss", "zero", "--layout", "TM", "--loss", "mae")
    assert done.code == 3
    assert "every value is 0" in done.err
    assert calib("check", "loss", "nowhere", "--loss", "mae").code == 3
    for text, words in (
        ('{"mel_mean": -5.0, "mel_std": 0.0}', "mel_std must be positive"),
        ('{"mel_mean": NaN, "mel_std": 2.0}', "NaN"),
        ('{"mel_mean": -5.0}', "lacks mel_std"),
        ('{"mel_mean": -5.0, "mel_std": 2.0, "per_bin": {"mean": [-1.0, -1.0], "std": [2.0, 2.0]}}', "the global ones"),
    ):
        (tmp_path / "s.json").write_text(text)
        done = calib("check", "loss", "s.json", "--loss", "mae")
        assert done.code == 3
        assert words in done.err, done.err


def test_a_legacy_statistics_file_gives_what_it_can(calib: Cli, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"mel_mean": -5.0, "mel_std": 2.0}')
    done = calib("check", "loss", "s.json", "--loss", "mse", "--value", 29)
    assert done.code == 0
    assert "legacy" in done.err
    assert "no better than zero everywhere (29" in done.out
    assert "the statistics have no per-bin figures" in done.out


def test_options_about_mels_do_not_fit_a_statistics_file(calib: Cli, stats: Path) -> None:
    done = calib("check", "loss", stats, "--loss", "mse", "--frontend", "hifigan")
    assert done.code == 2
    assert "is a statistics file" in done.err


def test_a_broken_pairs_folder_is_not_read_as_a_folder_of_mels(calib: Cli, tmp_path: Path) -> None:
    """Predictions and targets thrown together would give floors of nothing."""
    root = write_pairs(tmp_path / "p", [(prediction(mel_field(90, k), 0.9, k), mel_field(90, k)) for k in range(2)])
    for path in (root / "targets").iterdir():
        path.rename(path.with_name("other_" + path.name))
    done = calib("check", "loss", root, "--loss", "mae")
    assert done.code == 3
    assert "no pairs" in done.err


def test_the_founding_pair_is_the_zero_predictor(calib: Cli, founding_pair: Path) -> None:
    done = calib("check", "loss", founding_pair, "--loss", "mae", "--fail-on", "fail")
    assert done.code == 10
    assert done.out.startswith("NOT LEARNING: no better than zero everywhere (5.238")
    assert "1.486" in done.out


def test_real_speech_through_a_front_end(calib: Cli, ljspeech: Path) -> None:
    """Audio works as mels do; the founding value is worse than the global mean, and a fresh model's 8 is zero."""
    done = calib("check", "loss", ljspeech, "--frontend", "hifigan", "--limit", 8, "--loss", "huber", "--weight", 1.75, "--value", 2.7)  # fmt: skip
    assert done.code == 0, done.err
    assert done.out.startswith("NOT LEARNING: worse than the global mean (1.2")
    assert "ln magnitude" in done.out


def test_nothing_heavy_is_loaded(stats: Path, pairs: Path) -> None:
    for arguments in ([str(stats), "--loss", "huber", "--label-noise", "0.1"], [str(pairs), "--loss", "mae"]):
        code = (
            "import sys\nfrom calib.cli import _run\n"
            f"code = _run(['check', 'loss', *{arguments!r}])\n"
            "bad = {'torch', 'sklearn', 'pandas', 'matplotlib'} & {m.partition('.')[0] for m in sys.modules}\n"
            "sys.exit(code or len(bad))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
