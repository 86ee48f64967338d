"""``calib stats --export``, and every command's ``--stats`` with the files of other systems."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from speechlike import mel_field, modelled, write_pairs

from calib.commands.statsinput import (
    doubts_of_data,
    doubts_of_unit,
    global_space,
    load_normalizer,
    own_output,
    own_space,
)
from calib.data.statsfiles import read
from calib.errors import CalibError
from calib.mel.frontend import FrontEnd
from calib.params import MelNormalizer, MelScaler, ParamsError

Cli = Callable[..., Any]
WITHOUT_HDF5 = [
    "coqui",
    "pwg-npy",
    "espnet",
    "espnet-npy",
    "matcha",
    "fairseq",
    "kaldi",
    "kaldi-text",
    "transformers",
    "tortoise",
]


@pytest.fixture
def mels(tmp_path: Path) -> Path:
    """Three stored mels."""
    folder = tmp_path / "mels"
    folder.mkdir()
    for k in range(3):
        np.save(folder / f"m{k}.npy", mel_field(60 + k, k))
    return folder


def per_bin(pairs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    whole = np.concatenate(pairs).astype(np.float64)
    return whole.mean(0), whole.std(0)


@pytest.fixture
def by_bin(tmp_path: Path) -> tuple[Path, Path, list[np.ndarray], list[np.ndarray]]:
    """PAIRS of a model that was trained on mels normalised by bin, and its ParallelWaveGAN statistics."""
    targets = [mel_field(100 + 7 * k, k) for k in range(6)]
    mean, std = per_bin(targets)
    np.save(tmp_path / "stats.npy", np.stack([mean, std]))
    outputs = [((p - mean) / std).astype(np.float32) for p in modelled(targets)]
    return (
        write_pairs(tmp_path / "pairs", list(zip(outputs, targets, strict=True))),
        tmp_path / "stats.npy",
        outputs,
        targets,
    )


# --- export -----------------------------------------------------------------------------------------------------------


def test_every_format_holds_what_was_measured(calib: Cli, mels: Path, tmp_path: Path) -> None:
    done = calib("stats", mels, "-o", "out/s.json", *(word for name in WITHOUT_HDF5 for word in ("--export", name)))
    assert done.code == 0, done.err
    content = json.loads((tmp_path / "out/s.json").read_text())
    mean, std = per_bin([np.load(p) for p in sorted(mels.iterdir())])
    for line in done.out.splitlines()[-len(WITHOUT_HDF5) :]:
        path = tmp_path / line.removeprefix("written: ").partition(" (")[0]
        found = read(path)
        if found.kind == "divide":
            np.testing.assert_allclose(found.std, mean, rtol=1e-6)
        elif found.by_bin:
            np.testing.assert_allclose(found.mean, mean, rtol=2e-6)
            np.testing.assert_allclose(found.std, std, rtol=2e-6)
        else:
            assert found.overall() == (content["mel_mean"], content["mel_std"])
    assert read(tmp_path / "out/feats_stats.npz").n_frames == 183


def test_export_goes_where_it_is_told_and_overwrites_nothing(calib: Cli, mels: Path, tmp_path: Path) -> None:
    done = calib("stats", mels, "-o", "s.json", "--export", "espnet=deep/e.npz", "--export", "espnet=f.npz")
    assert done.code == 0, done.err
    assert (tmp_path / "deep/e.npz").read_bytes() == (tmp_path / "f.npz").read_bytes()
    again = calib("stats", mels, "-o", "t.json", "--export", "espnet=f.npz")
    assert again.code == 2
    assert "f.npz exists and is not overwritten" in again.err
    assert not (tmp_path / "t.json").exists()
    twice = calib("stats", mels, "-o", "t.json", "--export", "coqui", "--export", "coqui")
    assert twice.code == 2
    assert "scale_stats.npy is written already" in twice.err
    unknown = calib("stats", mels, "-o", "t.json", "--export", "parallelwavegan")
    assert unknown.code == 2
    assert "'parallelwavegan' is no format that calib writes" in unknown.err
    assert "pwg" in unknown.err


def test_what_one_format_cannot_hold_does_not_cost_the_others(calib: Cli, mels: Path, tmp_path: Path) -> None:
    for path in mels.iterdir():
        mel = np.load(path)
        mel[:, 7] = -11.5
        np.save(path, mel)
    wanted = ("--export", "espnet", "--export", "coqui", "--export", "fairseq")
    done = calib("stats", mels, "-o", "s.json", *wanted)
    assert done.code == 3
    assert "feats_stats.npz was not written: bin 7 never changes" in done.err
    assert "scale_stats.npy was not written: bin 7 never changes" in done.err
    assert read(tmp_path / "gcmvn_stats.npz").by_bin
    assert json.loads((tmp_path / "s.json").read_text())["dead_bins"] == [7]


def test_hdf5_says_what_to_install_before_the_work(
    calib: Cli, mels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    done = calib("stats", mels, "-o", "s.json", "--export", "pwg")
    assert done.code == 2
    assert 'pip install "mel-calib[formats]"' in done.err
    assert not (tmp_path / "s.json").exists()


def test_a_unit_that_is_not_the_systems_is_said(calib: Cli, audio: Path) -> None:
    done = calib("stats", audio, "--frontend", "hifigan", "-o", "s.json", "--export", "pwg-npy", "--export", "coqui")
    assert done.code == 0, done.err
    assert (
        "stats.npy: holds ln magnitude, as measured; a file of this format from its own system holds log10" in done.err
    )
    assert (
        "scale_stats.npy: holds ln magnitude, as measured; a file of this format from its own system holds dB"
        in done.err
    )
    right = calib("stats", audio, "--frontend", "pwg_ljspeech", "-o", "t.json", "--export", "pwg-npy=t.npy")
    assert "as measured" not in right.err
    db = calib("stats", audio, "--frontend", "coqui_ap_stats", "-o", "u.json", "--export", "coqui=u.npy")
    assert db.code == 0, db.err
    assert "as measured" not in db.err


def test_statistics_after_a_normalisation_are_told(calib: Cli, audio: Path) -> None:
    """Mean 0 and sd 1 in data_statistics would make Matcha-TTS normalise nothing."""
    done = calib("stats", audio, "--frontend", "matcha", "-o", "s.json", "--export", "matcha")
    assert done.code == 0, done.err
    assert "data_statistics.yaml: measured after the front end's own normalisation (0.472567236 ln(" in done.err


def test_matchas_nan_is_a_negative_variance(tmp_path: Path) -> None:
    """Its generate_data_statistics.py writes the root of a negative variance so."""
    (tmp_path / "voice.json").write_text(json.dumps({"mel_mean": -5.5, "mel_std": float("nan")}))
    with pytest.raises(ParamsError, match="NaN is not a number") as caught:
        load_normalizer(tmp_path / "voice.json")
    assert "negative variance" in str(caught.value.hint)


def test_what_a_file_says_of_itself_is_no_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    stats = {"mel_mean": np.full(80, -5.0), "mel_std": np.full(80, 2.0), "audio_config": {"sample_rate": 22050}}
    np.save(tmp_path / "scale_stats.npy", stats, allow_pickle=True)
    load_normalizer("scale_stats.npy")
    said = capsys.readouterr().err
    assert "scale_stats.npy: measured on mels with sample_rate 22050" in said
    assert "warning" not in said


def test_statistics_of_another_number_of_bins_name_the_file(calib: Cli, pairs: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "stats.npy", np.stack([np.full(79, -5.0), np.full(79, 2.0)]))
    done = calib("diagnose", pairs, "--stats", "stats.npy")
    assert done.code == 3
    assert "stats.npy: statistics of 79 mel bins, and the pairs have 80" in done.err


# --- reading ----------------------------------------------------------------------------------------------------------


def test_calibs_own_json_is_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(
        '{"schema": "calib/mel-normalization-stats/1", "mel_mean": -5.0, "mel_std": 2.0, "per_bin": {"mean": [-5.0, -5.0, -5.0], "std": [2.0, 2.0, 2.0]}}'
    )
    found = load_normalizer(path)
    assert found == MelNormalizer.load(path)
    assert not found.per_bin
    with pytest.raises(ParamsError, match="no such file"):
        load_normalizer(tmp_path / "absent.json")
    path.write_text('{"mel_mean": NaN, "mel_std": 2}')
    with pytest.raises(ParamsError, match="NaN is not a number"):
        load_normalizer(path)


def test_a_by_bin_file_normalises_by_bin_and_has_an_identity(tmp_path: Path) -> None:
    mean, std = np.linspace(-2, -4, 80), np.linspace(0.5, 1.0, 80)
    np.save(tmp_path / "a.npy", np.stack([mean, std]))
    found = load_normalizer(tmp_path / "a.npy")
    assert found.per_bin
    x = mel_field(20, 1)
    np.testing.assert_allclose(found.normalize(x), (x - mean) / std, rtol=1e-4)
    np.savez(tmp_path / "b.npz", mean=mean, std=std)
    assert load_normalizer(tmp_path / "b.npz").stats_id == found.stats_id
    assert found.stats_id is not None
    assert found.frontend_id is None


def test_divisors_are_part_of_a_front_end_not_statistics(calib: Cli, pairs: Path, tmp_path: Path) -> None:
    torch.save(torch.linspace(-9, -2, 80), tmp_path / "mel_norms.pth")
    done = calib("fit-scaler", pairs, "--stats", "mel_norms.pth")
    assert done.code == 3
    assert "say neither mean nor standard deviation" in done.err
    assert "--frontend xtts_dvae@FILE" in done.err


def test_the_two_spaces_are_one_map() -> None:
    rng = np.random.default_rng(0)
    mean, std = rng.normal(-3, 1, 80), rng.uniform(0.3, 2, 80)
    normalizer = MelNormalizer(-3.1, 1.7, mean, std, per_bin=True)
    output = rng.standard_normal((50, 80))
    raw = (global_space(normalizer)(output) * 0.8 + 0.1) * 1.7 - 3.1
    np.testing.assert_allclose(own_output(normalizer)(global_space(normalizer)(output)), output, rtol=1e-9)
    scale, offset = own_space(normalizer, 0.8, 0.1)
    np.testing.assert_allclose((output * scale + offset) * 1.7 - 3.1, raw, rtol=1e-12)


def test_a_model_normalised_by_bin_is_judged_and_calibrated_by_bin(
    calib: Cli, by_bin: tuple[Path, Path, list[np.ndarray], list[np.ndarray]], tmp_path: Path
) -> None:
    """The output is right up to its own normalisation, so by-bin statistics leave nothing to repair; global ones would."""
    pairs, stats, outputs, targets = by_bin
    done = calib("fit-scaler", pairs, "--stats", stats, "--output-space", "normalized", "-o", "out/p.json")
    assert done.code == 0, done.out + done.err
    assert done.out.startswith("HEALTHY"), done.out[:200]
    assert "80 bins, each by its own values" in done.err
    params = json.loads((tmp_path / "out/p.json").read_text())
    assert params["per_bin"] is not None
    written = tmp_path / "out/mel_normalization_stats.json"
    assert f"the statistics of {stats} were written as JSON for inference" in done.err
    scaler = MelScaler.load(tmp_path / "out/p.json", written)
    assert scaler.normalizer is not None
    mean, std = per_bin(targets)
    for output in outputs:
        np.testing.assert_allclose(scaler.calibrate(output), output * std + mean, atol=2e-5)
    assert params["raw_map"]["slope"] == pytest.approx(params["scale_factor"] * scaler.normalizer.mel_std)
    global_file = tmp_path / "global.json"
    global_file.write_text(json.dumps({"mel_mean": scaler.normalizer.mel_mean, "mel_std": scaler.normalizer.mel_std}))
    errors = []
    for file in (stats, global_file):
        calib("diagnose", pairs, "--stats", file, "--output-space", "normalized", "--json", f"{file.name}.d.json")
        rows = json.loads((tmp_path / f"{file.name}.d.json").read_text())["rows"]
        errors.append(next(row["mae"] for row in rows if row["name"] == "before"))
    assert errors[1] > 2 * errors[0]


def test_a_scale_in_the_space_of_bins_is_no_range_that_was_not_undone(
    calib: Cli, by_bin: tuple[Path, Path, list[np.ndarray], list[np.ndarray]], tmp_path: Path
) -> None:
    """In mels it is an offset for each bin, which [-4, 4] and an equaliser together imitate."""
    _, stats, outputs, targets = by_bin
    scaled = [(z / 1.6 - 0.2).astype(np.float32) for z in outputs]
    pairs = write_pairs(tmp_path / "scaled", list(zip(scaled, targets, strict=True)))
    done = calib("diagnose", pairs, "--stats", stats, "--output-space", "normalized", "--json", "-")
    assert done.code == 0, done.err
    faults = json.loads(done.out)["faults"]
    assert faults[0]["names"][0] == "wrong-stats", faults
    assert "in the space normalised by bin with stats.npy" in json.dumps(faults[0])


def test_a_second_fit_replaces_only_what_a_fit_wrote(
    calib: Cli, by_bin: tuple[Path, Path, list[np.ndarray], list[np.ndarray]], tmp_path: Path
) -> None:
    pairs, stats, _, _ = by_bin
    arguments = ("fit-scaler", pairs, "--stats", stats, "--output-space", "normalized", "-o", "p.json")
    assert calib(*arguments).code == 0
    assert calib(*arguments).code == 2
    assert calib(*arguments, "--force").code == 0
    (tmp_path / "mel_normalization_stats.json").write_text('{"mel_mean": -5, "mel_std": 2, "provenance": {}}')
    refused = calib(*arguments, "--force")
    assert refused.code == 2
    assert "holds a dataset's statistics and is not overwritten" in refused.err


def test_the_reports_figures_use_the_same_predictions(
    calib: Cli, by_bin: tuple[Path, Path, list[np.ndarray], list[np.ndarray]], tmp_path: Path
) -> None:
    pairs, stats, _, _ = by_bin
    done = calib("report", pairs, "--stats", stats, "--output-space", "normalized", "-o", "r.html", "--no-audio")
    assert done.code == 0, done.err
    assert (tmp_path / "r.html").stat().st_size > 10_000


def test_a_loss_in_a_space_normalised_by_bin(
    calib: Cli, by_bin: tuple[Path, Path, list[np.ndarray], list[np.ndarray]], tmp_path: Path
) -> None:
    """Normalised by its own bins, the mean of every bin is 0 and scores 1 in MSE: zero is as good as the per-bin mean."""
    pairs, stats, outputs, targets = by_bin
    done = calib(
        "check",
        "loss",
        pairs / "targets",
        "--loss",
        "mse",
        "--space",
        "normalized",
        "--stats",
        stats,
        "--json",
        "j.json",
    )
    assert done.code == 0, done.err
    floors = {floor["name"]: floor["loss"] for floor in json.loads((tmp_path / "j.json").read_text())["floors"]}
    assert floors["zero"] == pytest.approx(1.0, abs=1e-4)
    assert floors["bin_mean"] == pytest.approx(1.0, abs=1e-4)
    done = calib("check", "loss", stats, "--loss", "mse", "--space", "normalized", "--json", "k.json")
    assert done.code == 0, done.err
    floors = {floor["name"]: floor["loss"] for floor in json.loads((tmp_path / "k.json").read_text())["floors"]}
    assert floors["zero"] == pytest.approx(1.0, abs=1e-6)
    done = calib(
        "check",
        "loss",
        pairs,
        "--loss",
        "mse",
        "--space",
        "normalized",
        "--stats",
        stats,
        "--output-space",
        "normalized",
        "--json",
        "l.json",
    )
    mean, std = per_bin(targets)
    own = np.concatenate([((y - mean) / std - p).ravel() for p, y in zip(outputs, targets, strict=True)])
    floors = {floor["name"]: floor["loss"] for floor in json.loads((tmp_path / "l.json").read_text())["floors"]}
    assert floors["model"] == pytest.approx(float((own**2).mean()), rel=1e-4)
    whole = np.concatenate(targets)
    assert (
        f"mean {whole.mean(dtype=float):.4f}, sd {whole.std(dtype=float):.4f} (targets, before any normalisation)"
        in done.out
    )


def test_a_mel_is_still_a_mel_to_check_loss(calib: Cli, mels: Path) -> None:
    done = calib("check", "loss", mels / "m0.npy", "--loss", "mse", "--layout", "TM")
    assert done.code == 0, done.err
    assert "1 utterance, 60 frames" in done.out


def test_check_params_reads_them_too(calib: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "stats.npy", np.stack([np.linspace(-2, -4, 80), np.full(80, 0.8)]))
    done = calib("check", "params", "--stats", "stats.npy", "--scale", "0.5", "--offset", "0", "--pred-std", "1.0")
    assert done.code == 0, done.err
    assert "mel_mean -3" in done.out


def test_synth_denormalises_by_bin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from calib.commands.calibration import Consumer, load_calibration

    monkeypatch.chdir(tmp_path)
    mean, std = np.linspace(-3, -7, 80), np.linspace(1.5, 2.5, 80)
    np.save("stats.npy", np.stack([mean, std]))
    model = Consumer("m", FrontEnd.load("hifigan"), "normalized")
    calibration = load_calibration(None, Path("stats.npy"), model)
    x = np.random.default_rng(0).standard_normal((30, 80)).astype(np.float32)
    np.testing.assert_allclose(calibration(x), x * std + mean, rtol=1e-5)
    assert calibration.describe() == "denormalised with the statistics, each bin by its own"


# --- another unit -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        (-5.0 / 2.302585, 2.1 / 2.302585, "the ratio of log10 to ln"),
        (-5.0 * 8.685889, 2.1 * 8.685889, "the ratio of dB to ln"),
        (30.0, 2.1, "can hardly be of the same mels"),
        (-5.0, 0.1, "can hardly be of the same mels"),
        (-5.5, 2.3, None),
        (-6.5, 1.7, None),
        (-3.0, 2.5, None),
    ],
)
def test_statistics_of_another_unit_than_the_data(mean: float, std: float, words: str | None) -> None:
    doubts = doubts_of_data(MelNormalizer(mean, std), -5.0, 2.1, "the targets")
    assert (doubts is None) if words is None else (doubts is not None and words in doubts)


def test_statistics_of_another_unit_than_the_front_end() -> None:
    log10 = MelNormalizer(-2.2, 0.9)
    ln, db, power = MelNormalizer(-5.0, 2.1), MelNormalizer(-45.0, 18.0), MelNormalizer(-7.0, 4.1)
    assert "as speech has in log10; hifigan_jik makes ln magnitude" in str(
        doubts_of_unit(log10, FrontEnd.load("hifigan"))
    )
    for right, name in ((ln, "hifigan"), (log10, "pwg_ljspeech"), (db, "coqui_ap_stats"), (power, "xtts_dvae")):
        assert doubts_of_unit(right, FrontEnd.load(name)) is None, name
    assert "in dB" in str(doubts_of_unit(db, FrontEnd.load("hifigan")))
    assert doubts_of_unit(log10, FrontEnd.load("matcha_ljspeech")) is None  # normalised: nothing is known of its unit


def test_the_warning_reaches_the_user(calib: Cli, pairs: Path, tmp_path: Path) -> None:
    targets = [np.load(p) for p in sorted((pairs / "targets").iterdir())]
    mean, std = per_bin(targets)
    np.save(tmp_path / "stats.npy", np.stack([mean, std]) / np.log(10.0))
    done = calib("diagnose", pairs, "--stats", "stats.npy")
    assert "the ratio of log10 to ln" in done.err
    assert "the ratio of log10 to ln" in done.out


def test_another_systems_configuration_is_announced(calib: Cli, audio: Path, tmp_path: Path) -> None:
    config = {
        "resblock": "1",
        "upsample_rates": [8],
        "num_mels": 80,
        "n_fft": 1024,
        "hop_size": 256,
        "win_size": 1024,
        "sampling_rate": 22050,
        "fmin": 0,
        "fmax": 8000,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = calib("stats", audio, "--frontend", "config.json", "-o", "s.json")
    assert done.code == 0, done.err
    assert "config.json: HiFi-GAN configuration: 22050 Hz, 80 bins from 0 to 8000 Hz" in done.err
    assert json.loads((tmp_path / "s.json").read_text())["frontend_id"] == FrontEnd.load("hifigan").id
    assert "HiFi-GAN" not in calib("stats", audio, "--frontend", "config.json", "-o", "s.json", "--force", "-q").err
    shown = calib("frontends", "show", "config.json")
    assert "HiFi-GAN configuration" in shown.out
    with pytest.raises(CalibError):
        FrontEnd.load("nothing.json")
