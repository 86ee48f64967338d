"""``calib fit-scaler`` and ``calib diagnose`` from the command line: what is written, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from calib.mel.frontend import FrontEnd
from calib.params import MelNormalizer, MelScaler, ParamsWarning

PARAMS, STATS = "mel_scaling_params.json", "mel_normalization_stats.json"
Cli = Callable[..., Any]


def loaded(pairs: Path) -> tuple[np.ndarray, np.ndarray]:
    return tuple(
        np.concatenate([np.load(p) for p in sorted((pairs / side).iterdir())]).astype(np.float64)
        for side in ("predictions", "targets")
    )  # type: ignore[return-value]


def legacy(folder: Path, pred: np.ndarray) -> np.ndarray:
    """What readers in the wild do with the two files."""
    stats, params = (json.loads((folder / name).read_text()) for name in (STATS, PARAMS))
    assert all(
        type(v) is float for v in (stats["mel_mean"], stats["mel_std"], params["scale_factor"], params["offset"])
    )
    return (pred * params["scale_factor"] + params["offset"]) * stats["mel_std"] + stats["mel_mean"]


@pytest.fixture
def odd(pairs: Path) -> Path:
    """Pairs with a scale and a level that are no known constant."""
    for path in (pairs / "predictions").iterdir():
        np.save(path, np.load(path) * np.float32(1.3) + np.float32(0.4))
    return pairs


def test_a_known_constant_is_written_exactly(calib: Cli, pairs: Path, tmp_path: Path) -> None:
    """The predictions are (mel + 5) / 2: the answer is 2 and -5, not what a regression estimates."""
    done = calib("fit-scaler", pairs)
    assert done.code == 0, done.err
    params = json.loads((tmp_path / PARAMS).read_text())
    assert (params["method"], params["raw_map"]) == ("known:from-myxtts", {"slope": 2.0, "intercept": -5.0})
    p = loaded(pairs)[0]
    np.testing.assert_allclose(legacy(tmp_path, p), 2 * p - 5, atol=1e-12 * 100)
    assert "known constant 2: the prediction is MyXTTS's" in done.out
    assert params["fit"]["selection"]["reason"].startswith("known constant 2")


def test_both_files_are_written_and_reproduce_the_regression(calib: Cli, odd: Path, tmp_path: Path) -> None:
    pairs = odd
    done = calib("fit-scaler", pairs)
    assert done.code == 0, done.err
    assert done.out.startswith("FIXABLE BY CALIBRATION")
    assert "statistics are those of the pairs' own targets" in done.err
    p, y = loaded(pairs)
    model = LinearRegression().fit(p.reshape(-1, 1), y.ravel())
    want = p * model.coef_[0] + model.intercept_
    np.testing.assert_allclose(legacy(tmp_path, p), want, atol=1e-6)
    scaler = MelScaler.load(tmp_path / PARAMS, tmp_path / STATS)
    np.testing.assert_allclose(scaler.calibrate(p.astype(np.float32)), want, atol=1e-4)
    stats = json.loads((tmp_path / STATS).read_text())
    assert stats["mel_mean"] == pytest.approx(y.mean(), abs=1e-9)
    params = json.loads((tmp_path / PARAMS).read_text())
    assert (params["method"], params["verdict"], params["per_bin"]) == ("ols", "fixable", None)
    assert params["stats_id"] == stats["stats_id"]
    assert params["fit"]["out_of_sample"]["mae_after"] < 0.95 * min(
        c["mae"] for c in params["fit"]["out_of_sample"]["constants"].values()
    )
    assert str(tmp_path) not in json.dumps(params["provenance"])


def test_bins_that_differ_get_a_map_each_and_readers_of_one_scale_get_the_best_one(
    calib: Cli, pairs: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    gain, level = rng.uniform(0.7, 1.4, 80).astype(np.float32), rng.uniform(-1.5, 1.5, 80).astype(np.float32)
    for path in (pairs / "predictions").iterdir():
        np.save(path, np.load(path) * gain + level)
    done = calib("fit-scaler", pairs, "--json", "d.json")
    assert done.code == 0, done.err
    params, found = (json.loads((tmp_path / name).read_text()) for name in (PARAMS, "d.json"))
    assert params["method"] == "per-bin"
    assert len(params["per_bin"]["scale"]) == len(params["per_bin"]["offset"]) == 80
    p, y = loaded(pairs)
    one = LinearRegression().fit(p.reshape(-1, 1), y.ravel())
    np.testing.assert_allclose(legacy(tmp_path, p), p * one.coef_[0] + one.intercept_, atol=1e-6)
    scaler = MelScaler.load(tmp_path / PARAMS, tmp_path / STATS)
    calibrated = scaler.calibrate(p)
    c = found["calibration"]
    np.testing.assert_allclose(calibrated, p * np.array(c["bin_slope"]) + np.array(c["bin_intercept"]), atol=1e-9)
    by_bin, in_sample = np.abs(calibrated - y).mean(), params["fit"]["in_sample"]["mae_after"]
    assert by_bin == pytest.approx(in_sample, rel=1e-6), "what inference does is what was scored"
    assert by_bin < 0.8 * np.abs(legacy(tmp_path, p) - y).mean()


def test_given_statistics_are_used_and_not_written_again(calib: Cli, odd: Path, tmp_path: Path) -> None:
    pairs = odd
    (tmp_path / "train.json").write_text(
        json.dumps(
            {
                "schema": "calib/mel-normalization-stats/1",
                "mel_mean": -4.0,
                "mel_std": 3.0,
                "stats_id": "st-x",
                "frontend_id": None,
            }
        )
    )
    done = calib("fit-scaler", pairs, "--stats", "train.json", "-o", f"out/{PARAMS}")
    assert done.code == 0, done.err
    assert not (tmp_path / "out" / STATS).exists()
    params = json.loads((tmp_path / "out" / PARAMS).read_text())
    p, y = loaded(pairs)
    model = LinearRegression().fit(p.reshape(-1, 1), y.ravel())
    assert params["scale_factor"] == pytest.approx(model.coef_[0] / 3.0, abs=1e-8)
    assert params["offset"] == pytest.approx((model.intercept_ + 4.0) / 3.0, abs=1e-8)
    assert params["stats_id"] == "st-x"


def test_a_legacy_statistics_file_is_used_with_a_warning_for_people(calib: Cli, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"mel_mean": -5.0, "mel_std": 2.0}')
    done = calib("fit-scaler", pairs, "--stats", "old.json")
    assert done.code == 0, done.err
    assert "warning: old.json: a legacy file" in done.err


def test_statistics_of_another_front_end_are_refused_with_the_fields(calib: Cli, pairs: Path, tmp_path: Path) -> None:
    fe = FrontEnd.load("hifigan")
    content = {
        "schema": "calib/mel-normalization-stats/1",
        "mel_mean": -5.0,
        "mel_std": 2.0,
        "frontend": fe.fields(),
        "frontend_id": fe.id,
    }
    (tmp_path / "s.json").write_text(json.dumps(content))
    done = calib("fit-scaler", pairs, "--stats", "s.json", "--frontend", "tacotron2")
    assert done.code == 3
    assert "padding: same" in done.err
    assert not (tmp_path / PARAMS).exists()


def test_healthy_predictions_get_the_exact_identity(calib: Cli, tmp_path: Path, pairs: Path) -> None:
    for path in (pairs / "predictions").iterdir():
        np.save(path, (np.load(path) - np.float32(2.5)) * 2)
    done = calib("fit-scaler", pairs)
    assert done.code == 0, done.err
    p = loaded(pairs)[0]
    np.testing.assert_allclose(legacy(tmp_path, p), p, atol=1e-12 * 100)
    assert json.loads((tmp_path / PARAMS).read_text())["method"] == "identity"


def test_without_signal_nothing_is_written_and_the_exit_code_is_5(calib: Cli, unrelated: Path, tmp_path: Path) -> None:
    done = calib("fit-scaler", unrelated, "-o", f"out/{PARAMS}")
    assert done.code == 5
    assert done.out.startswith("NOT FIXABLE BY CALIBRATION")
    assert not any((tmp_path / "out").glob("*"))


def test_force_on_a_refused_fit_writes_no_signal_inside(calib: Cli, unrelated: Path, tmp_path: Path) -> None:
    done = calib("fit-scaler", unrelated, "--force")
    assert done.code == 0, done.err
    assert "no-signal" in done.err
    params = json.loads((tmp_path / PARAMS).read_text())
    assert params["verdict"] == "no-signal"
    with pytest.warns(ParamsWarning, match="no signal"):
        MelScaler.load(tmp_path / PARAMS, tmp_path / STATS)


def test_force_on_a_collapsed_model_says_no_signal_and_keeps_the_state_beside(
    calib: Cli, pairs: Path, tmp_path: Path
) -> None:
    for path in (pairs / "predictions").iterdir():
        np.save(path, np.zeros_like(np.load(path)))
    assert calib("fit-scaler", pairs).code == 5
    assert calib("fit-scaler", pairs, "--force").code == 0
    params = json.loads((tmp_path / PARAMS).read_text())
    assert (params["verdict"], params["state"]) == ("no-signal", "collapsed")


def test_invalid_data_exits_3_and_force_does_not_change_that(calib: Cli, pairs: Path, tmp_path: Path) -> None:
    path = next((pairs / "predictions").iterdir())
    bad = np.load(path)
    bad[0, 0] = np.nan
    np.save(path, bad)
    for extra in ([], ["--force"]):
        done = calib("fit-scaler", pairs, *extra)
        assert done.code == 3
        assert "1 NaN" in done.err
        assert not (tmp_path / PARAMS).exists()
        assert not (tmp_path / STATS).exists()


def test_force_does_not_replace_the_statistics_of_a_dataset(calib: Cli, pairs: Path, tmp_path: Path) -> None:
    """Only statistics that an earlier fit made from pairs are."""
    assert calib("fit-scaler", pairs).code == 0
    assert calib("fit-scaler", pairs, "--force").code == 0
    (tmp_path / STATS).write_text('{"mel_mean": -5.0, "mel_std": 2.0}')
    done = calib("fit-scaler", pairs, "--force")
    assert done.code == 2
    assert "--stats" in done.err
    assert (tmp_path / STATS).read_text() == '{"mel_mean": -5.0, "mel_std": 2.0}'


@pytest.mark.parametrize("name", [PARAMS, STATS])
def test_neither_output_is_overwritten_without_force(calib: Cli, pairs: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    assert calib("fit-scaler", pairs).code == 2
    assert (tmp_path / name).read_text() == "mine"
    assert not (tmp_path / ({PARAMS, STATS} - {name}).pop()).exists()
    (tmp_path / STATS).unlink(missing_ok=True)
    assert calib("fit-scaler", pairs, "--force").code == 0
    assert json.loads((tmp_path / PARAMS).read_text())["verdict"] == "fixable"


@pytest.mark.parametrize("command", ["fit-scaler", "diagnose"])
def test_json_to_stdout_is_all_that_stdout_holds(calib: Cli, pairs: Path, command: str) -> None:
    found = json.loads(calib(command, pairs, "--json", "-").out)
    assert found["schema"] == "calib/diagnosis/1"
    assert found["verdict"]["state"] == "fixable"


def test_the_json_of_a_refusal_is_written_too(calib: Cli, unrelated: Path) -> None:
    done = calib("fit-scaler", unrelated, "--json", "-")
    assert done.code == 5
    assert json.loads(done.out)["verdict"]["writes"] is False


def test_an_existing_json_copy_is_refused_before_parameters_are_written(
    calib: Cli, pairs: Path, tmp_path: Path
) -> None:
    (tmp_path / "copy.json").write_text("mine")
    assert calib("fit-scaler", pairs, "--json", "copy.json").code == 2
    assert not (tmp_path / PARAMS).exists()


@pytest.mark.parametrize(("gate", "code"), [("never", 0), ("fail", 0), ("warn", 10), ("sometimes", 2)])
def test_the_quality_gate_of_a_fixable_model(calib: Cli, pairs: Path, gate: str, code: int) -> None:
    assert calib("diagnose", pairs, "--fail-on", gate).code == code


def test_the_gate_closes_on_a_refused_model_and_without_it_diagnose_exits_0(
    calib: Cli, unrelated: Path, tmp_path: Path
) -> None:
    assert calib("diagnose", unrelated).code == 0
    assert calib("diagnose", unrelated, "--fail-on", "fail").code == 10
    assert not any(p for p in tmp_path.iterdir() if p.is_file()), "diagnose writes nothing"


def test_equal_pairs_give_equal_bytes_wherever_they_lie_and_in_whatever_order_the_index_has(
    calib: Cli, pairs: Path, tmp_path: Path
) -> None:
    rows = [
        json.dumps({"id": f"u{k:02d}", "pred": f"predictions/u{k:02d}.npy", "target": f"targets/u{k:02d}.npy"}) + "\n"
        for k in range(6)
    ]
    moved = tmp_path / "moved"
    (pairs / "pairs.jsonl").write_text("".join(rows))
    assert calib("fit-scaler", pairs, "-o", f"a/{PARAMS}").code == 0
    pairs.rename(moved)
    (moved / "pairs.jsonl").write_text("".join(reversed(rows)))
    assert calib("fit-scaler", moved, "-o", f"b/{PARAMS}").code == 0
    for name in (PARAMS, STATS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.parametrize("limit", [100, 4000, 6000])
def test_a_full_disk_leaves_neither_file(process: Cli, pairs: Path, tmp_path: Path, limit: int) -> None:
    """At some of the limits the statistics fit and the parameters do not, or the other way round."""
    before = f"import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    done = process("fit-scaler", pairs, "-o", f"out/{PARAMS}", before=before)
    if done.code == 0:
        assert MelScaler.load(tmp_path / "out" / PARAMS, tmp_path / "out" / STATS)
        return
    assert done.code == 3, done.err
    assert "File too large" in done.err
    assert not any((tmp_path / "out").glob("*"))


def test_statistics_do_not_stay_alone_when_the_parameters_cannot_be_written(
    process: Cli, pairs: Path, tmp_path: Path
) -> None:
    """With 4 bins the statistics are the smaller file: a limit between the two sizes stops the second one only."""
    for side in ("predictions", "targets"):
        for path in (pairs / side).iterdir():
            np.save(path, np.tile(np.load(path)[:, ::20], (4, 1)))
    assert process("fit-scaler", pairs, "--layout", "TM", "-o", f"first/{PARAMS}").code == 0
    small, large = (tmp_path / "first" / STATS).stat().st_size, (tmp_path / "first" / PARAMS).stat().st_size
    assert small < large
    limit = (small + large) // 2
    before = f"import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    done = process("fit-scaler", pairs, "--layout", "TM", "-o", f"out/{PARAMS}", before=before)
    assert done.code == 3
    assert f"cannot write out/{PARAMS}: File too large" in done.err
    assert not any((tmp_path / "out").glob("*"))


def test_an_unknown_gate_is_refused_before_anything_is_written(calib: Cli, pairs: Path, tmp_path: Path) -> None:
    assert calib("fit-scaler", pairs, "--fail-on", "sometimes").code == 2
    assert not (tmp_path / PARAMS).exists()


def test_hostile_ids_reach_no_terminal(calib: Cli, pairs: Path) -> None:
    for side in ("predictions", "targets"):
        path = pairs / side / "u00.npy"
        mel = np.load(path)
        mel[0, 0] = np.nan
        np.save(pairs / side / "a\x1b[2Jb.npy", mel)
    done = calib("diagnose", pairs)
    assert "\x1b" not in done.out + done.err
    assert "\\x1b[2Jb" in done.out


def test_pairs_that_are_not_there_are_an_error_without_traceback(calib: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("none", "empty"):
        done = calib("fit-scaler", tmp_path / name)
        assert done.code in {2, 3}
        assert name in done.err
        assert "Traceback" not in done.err


def test_the_founding_failure_is_refused_in_the_first_line(calib: Cli, founding_pair: Path, tmp_path: Path) -> None:
    done = calib("fit-scaler", founding_pair)
    assert done.code == 5
    assert done.out.splitlines()[0] == "NOT FIXABLE BY CALIBRATION: the output has collapsed"
    for figure in ("5.2373", "5.6714", "1.7962", "1.4861"):
        assert figure in done.out
    assert not (tmp_path / PARAMS).exists()


def test_params_can_be_used_after_normalised_output_was_declared(calib: Cli, pairs: Path, tmp_path: Path) -> None:
    """Declared normalised with the right statistics, the predictions are healthy: scale 1, offset 0."""
    (tmp_path / "s.json").write_text(
        json.dumps({"schema": "calib/mel-normalization-stats/1", "mel_mean": -5.0, "mel_std": 2.0})
    )
    done = calib("fit-scaler", pairs, "--stats", "s.json", "--output-space", "normalized")
    assert done.code == 0, done.err
    scaler = MelScaler.load(tmp_path / PARAMS, MelNormalizer.load(tmp_path / "s.json"))
    assert (scaler.scale_factor, scaler.offset) == (1.0, 0.0)


def test_statistics_that_lie_there_are_offered(calib: Cli, pairs: Path, tmp_path: Path) -> None:
    """Without --stats they are not overwritten, and the hint says how to use them."""
    (tmp_path / STATS).write_text('{"mel_mean": -5.0, "mel_std": 2.0}')
    done = calib("fit-scaler", pairs)
    assert done.code == 2
    assert f"--stats {STATS}" in done.err
    assert not (tmp_path / PARAMS).exists()


def test_pairs_are_not_paired_again(calib: Cli, pairs: Path) -> None:
    """A folder with an index is PAIRS already; the hint goes on to what it is good for."""
    assert calib("pair", "--pred", pairs / "predictions", "--target", pairs / "targets", "-o", "indexed").code == 0
    done = calib("pair", "--pred", "indexed", "--target", pairs / "targets", "-o", "again")
    assert done.code == 2
    assert "PAIRS already" in done.err
    assert "calib diagnose indexed" in done.err


def test_the_fit_does_not_send_a_person_to_the_fit(calib: Cli, pairs: Path) -> None:
    for path in (pairs / "predictions").iterdir():
        np.save(path, (np.load(path) * 2 - 5) / np.float32(np.log(10)))  # log10 of what the target is the ln of
    assert "calib fit-scaler PAIRS" in calib("diagnose", pairs).out
    done = calib("fit-scaler", pairs)
    assert done.code == 0
    assert "convert with the exact factor 2.302585\n" in done.out
    assert "calib fit-scaler PAIRS" not in done.out
