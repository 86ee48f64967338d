"""``calib convert`` from end to end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Result, leftovers
from speechlike import RATE, recording

from calib.commands.calibration import Calibration
from calib.data.pairs import open_pairs
from calib.mel.convert import Converter, plan
from calib.mel.frontend import FrontEnd
from calib.params import MelNormalizer, MelScaler

HIFIGAN, TACOTRON2 = FrontEnd.load("hifigan"), FrontEnd.load("tacotron2")
Command = Callable[..., Result]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Five recordings, their mels ``mels/``, and PAIRS whose predictions are a little smooth."""
    audio = tmp_path / "audio"
    (audio / "wavs").mkdir(parents=True)
    for folder in ("mels", "pairs/predictions", "pairs/targets"):
        (tmp_path / folder).mkdir(parents=True)
    lines = []
    for k in range(5):
        soundfile.write(audio / "wavs" / f"c{k}.wav", recording(1.0 + 0.1 * k, k), RATE, subtype="FLOAT")
        mel = HIFIGAN.mel(soundfile.read(audio / "wavs" / f"c{k}.wav", dtype="float32")[0])
        smooth = (mel + np.roll(mel, 1, 0) + np.roll(mel, 1, 1)) / 3
        np.save(tmp_path / "mels" / f"c{k}.npy", mel)
        np.save(tmp_path / "pairs" / "targets" / f"c{k}.npy", mel)
        np.save(tmp_path / "pairs" / "predictions" / f"c{k}.npy", smooth.astype(np.float32))
        lines.append(f"c{k}|Text {k}.|text {k}.\n")
    (audio / "metadata.csv").write_text("".join(lines), encoding="utf-8")
    return tmp_path


def samples(corpus: Path, k: int) -> np.ndarray:
    return soundfile.read(corpus / "audio" / "wavs" / f"c{k}.wav", dtype="float32")[0]


def test_mels_of_one_family_come_out_exact(calib: Command, corpus: Path) -> None:
    found = calib("convert", "mels", "--from", "hifigan", "--to", "matcha_ljspeech", "-o", "out")
    assert found.code == 0, found.err
    assert "exact" in found.out
    got = np.load(corpus / "out" / "c1.npy")
    assert got.dtype == np.float32
    assert np.abs(got - FrontEnd.load("matcha_ljspeech").mel(samples(corpus, 1))).max() < 1e-5
    content = json.loads((corpus / "out" / "conversion.json").read_text())
    assert content["expected_error_db"] == 0
    assert content["to"]["name"] == "matcha_ljspeech"
    assert content["counts"]["utterances"] == 5


def test_mels_of_their_recordings_are_recomputed_and_it_is_said_to_be_better(calib: Command, corpus: Path) -> None:
    found = calib("convert", "mels", "--from", "hifigan", "--to", "vocos", "--audio", "audio", "-o", "out")
    assert found.code == 0, found.err
    assert "recomputed from the recordings" in found.out
    assert "better" in found.out
    import soxr

    wanted = FrontEnd.load("vocos").mel(soxr.resample(samples(corpus, 2), RATE, 24000, quality="HQ"))
    assert np.allclose(np.load(corpus / "out" / "c2.npy"), wanted, atol=1e-4)


def test_predictions_are_converted_by_what_the_recordings_teach(calib: Command, corpus: Path) -> None:
    found = calib("convert", "pairs", "--from", "hifigan", "--to", "tacotron2", "--audio", "audio", "-o", "out", "--json", "r.json")  # fmt: skip
    assert found.code == 0, found.err
    assert found.out.index("expected error") < found.out.index("written:")
    assert "dB undoing only logarithm and power" in found.out
    pairs = open_pairs(corpus / "out")
    assert FrontEnd.load(pairs.header["frontend"]).id == TACOTRON2.id
    for k, entry in enumerate(pairs.entries):
        pair = pairs.load(entry)
        assert not pair.notices
        assert np.allclose(pair.target, TACOTRON2.mel(samples(corpus, k)), atol=1e-5)
        assert entry.text == f"text {k}."
    again = Converter.load(corpus / "out" / "conversion.npz")
    pred = np.load(corpus / "pairs" / "predictions" / "c3.npy")
    assert np.array_equal(again.apply(pred, len(samples(corpus, 3))), pairs.load(pairs.entries[3]).pred)
    assert json.loads((corpus / "r.json").read_text())["plan"]["how"] == "fitted"


def test_recordings_of_others_only_teach_the_conversion(calib: Command, corpus: Path) -> None:
    for path in (corpus / "pairs").rglob("*.npy"):
        path.rename(path.with_name(f"other{path.name}"))
    found = calib("convert", "pairs", "--from", "hifigan", "--to", "tacotron2", "--audio", "audio/wavs", "-o", "out")
    assert found.code == 0, found.err
    assert "only teach the conversion" in found.err
    assert "approximate, fitted" in found.out
    target = np.load(corpus / "out" / "targets" / "otherc0.npy")  # converted, because its recording is not known
    wanted = TACOTRON2.mel(samples(corpus, 0))
    assert 0 < np.abs(target - wanted[: len(target)]).mean() < 0.3


def test_converted_pairs_can_be_diagnosed_and_converted_back(calib: Command, corpus: Path) -> None:
    assert calib("convert", "pairs", "--from", "hifigan", "--to", "matcha_ljspeech", "-o", "there").code == 0
    assert calib("diagnose", "there").code == 0
    assert calib("convert", "there", "--to", "hifigan", "-o", "back").code == 0
    one, two = open_pairs(corpus / "pairs", frontend=HIFIGAN), open_pairs(corpus / "back")
    for a, b in zip(one.entries, two.entries, strict=True):
        assert np.allclose(one.load(a).pred, two.load(b).pred, atol=1e-5)
        assert np.allclose(one.load(a).target, two.load(b).target, atol=1e-5)


def test_the_parameters_are_applied_as_synth_applies_them(calib: Command, corpus: Path) -> None:
    stats = {"mel_mean": -5.0, "mel_std": 2.0, "frontend_id": HIFIGAN.id, "stats_id": "s"}
    (corpus / "mel_normalization_stats.json").write_text(json.dumps({"schema": "calib/mel-normalization-stats/1", **stats}))  # fmt: skip
    scaling = {"schema": "calib/mel-scaling-params/1", "scale_factor": 1.1, "offset": 0.2, "stats_id": "s", "frontend_id": HIFIGAN.id, "floor": -8.0, "per_bin": {"scale": [1.0 + 0.01 * k for k in range(80)], "offset": [0.001 * k for k in range(80)]}}  # fmt: skip
    (corpus / "mel_scaling_params.json").write_text(json.dumps(scaling))
    (corpus / "norm").mkdir()
    normal = ((np.load(corpus / "mels" / "c0.npy") + 5.0) / 2.0).astype(np.float32)
    np.save(corpus / "norm" / "c0.npy", normal)
    found = calib("convert", "norm", "--from", "hifigan", "--params", "mel_scaling_params.json", "-o", "out")
    assert found.code == 0, found.err
    assert "calibrated: scale_factor 1.1" in found.out
    normalizer = MelNormalizer.load(corpus / "mel_normalization_stats.json")
    wanted = Calibration(MelScaler.load(corpus / "mel_scaling_params.json", normalizer))(normal)
    assert np.array_equal(np.load(corpus / "out" / "c0.npy"), wanted)
    assert wanted.min() == np.float32(-8.0)
    assert calib("convert", "norm", "--from", "hifigan", "--to", "matcha_ljspeech", "--params", "mel_scaling_params.json", "-o", "two").code == 0  # fmt: skip
    exact = Converter(plan(HIFIGAN, FrontEnd.load("matcha_ljspeech"), audio=False, pairs=True))
    assert np.array_equal(np.load(corpus / "two" / "c0.npy"), exact.apply(wanted))


def test_a_missing_band_is_refused_before_anything_is_written_and_allowed_by_name(calib: Command, corpus: Path) -> None:
    found = calib("convert", "pairs", "--from", "hifigan", "--to", "vits", "--audio", "audio", "-o", "out")
    assert found.code == 5
    assert "0-8000 Hz" in found.err
    assert "--allow-loss" in found.err
    assert leftovers(corpus / "out") == []
    found = calib("convert", "pairs", "--from", "hifigan", "--to", "vits", "--audio", "audio", "-o", "out", "--allow-loss")  # fmt: skip
    assert found.code == 0, found.err
    assert "bins 73-79" in found.out


def test_a_dry_run_says_what_to_expect_and_writes_nothing(calib: Command, corpus: Path) -> None:
    before = leftovers(corpus)
    found = calib("convert", "mels", "--from", "hifigan", "--to", "tacotron2", "--dry-run")
    assert found.code == 0, found.err
    assert "expected error" in found.out
    assert "synthetic voices" in found.out
    assert leftovers(corpus) == before


def test_layout_hifigan(calib: Command, corpus: Path) -> None:
    found = calib("convert", "mels", "--from", "hifigan", "--to", "tacotron2", "--audio", "audio", "-o", "out", "--layout", "hifigan")  # fmt: skip
    assert found.code == 0, found.err
    frames = len(samples(corpus, 0)) // 256
    got = np.load(corpus / "out" / "c0.npy")
    assert got.shape == (80, frames)  # the centred front end gives one more
    assert "cut" in found.err
    assert np.allclose(got.T, TACOTRON2.mel(samples(corpus, 0))[:frames], atol=1e-5)
    assert (corpus / "out" / "filelist.txt").read_text() == "".join(f"c{k}|text {k}.\n" for k in range(5))


def test_layout_pwg_has_audio_of_exactly_as_many_hops(calib: Command, corpus: Path) -> None:
    found = calib("convert", "mels", "--from", "hifigan", "--to", "pwg", "--audio", "audio", "-o", "out", "--layout", "pwg")  # fmt: skip
    assert found.code == 0, found.err
    mel, wave = (np.load(corpus / "out" / f"c0-{what}.npy") for what in ("feats", "wave"))
    assert mel.shape[1] == 80
    assert len(wave) == len(mel) * 256
    assert np.array_equal(wave[:1000], samples(corpus, 0)[:1000])


def test_layout_coqui(calib: Command, corpus: Path) -> None:
    found = calib("convert", "mels", "--from", "hifigan", "--to", "coqui_ap_ln", "--audio", "audio", "-o", "out", "--layout", "coqui")  # fmt: skip
    assert found.code == 0, found.err
    assert np.load(corpus / "out" / "mel" / "c4.npy").shape == (80, 1 + len(samples(corpus, 4)) // 256)
    assert len((corpus / "out" / "metada.txt").read_text().splitlines()) == 5


def test_an_unreadable_mel_is_named_and_too_many_stop_the_run(calib: Command, corpus: Path) -> None:
    np.save(corpus / "mels" / "c2.npy", np.full((50, 80), np.nan, np.float32))
    found = calib("convert", "mels", "--from", "hifigan", "--to", "matcha_ljspeech", "-o", "out")
    assert found.code == 3
    assert "c2: the mel holds 4000 NaN" in found.err
    found = calib("convert", "mels", "--from", "hifigan", "--to", "matcha_ljspeech", "-o", "out", "--allow-skipped", "20")  # fmt: skip
    assert found.code == 0, found.err
    assert not (corpus / "out" / "c2.npy").exists()
    assert json.loads((corpus / "out" / "conversion.json").read_text())["provenance"]["skipped"]


def test_a_finished_folder_is_not_overwritten_and_the_difference_is_said(calib: Command, corpus: Path) -> None:
    assert calib("convert", "mels", "--from", "hifigan", "--to", "matcha_ljspeech", "-o", "out").code == 0
    before = (corpus / "out" / "c0.npy").read_bytes()
    found = calib("convert", "mels", "--from", "hifigan", "--to", "matcha_vctk", "-o", "out")
    assert found.code == 2
    assert FrontEnd.load("matcha_ljspeech").id in found.err
    assert FrontEnd.load("matcha_vctk").id in found.err
    assert (corpus / "out" / "c0.npy").read_bytes() == before
    assert calib("convert", "mels", "--from", "hifigan", "--to", "matcha_vctk", "-o", "out", "--force").code == 0
    assert (corpus / "out" / "c0.npy").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["mels", "--to", "tacotron2", "-o", "out"], 2, "--from"),
        (["mels", "--from", "hifgan", "-o", "out"], 2, "hifigan"),
        (["mels", "--from", "hifigan"], 2, "-o DIR"),
        (["mels", "--from", "hifigan", "-o", "mels"], 2, "where the given mels are"),
        (["audio", "--from", "hifigan", "-o", "out"], 2, "--audio"),
        (["mels", "--from", "hifigan", "-o", "out", "--layout", "TM"], 2, "--input-layout"),
        (["mels", "--from", "hifigan", "-o", "out", "--layout", "pairs"], 2, "needs PAIRS"),
        (["mels", "--from", "vocos", "-o", "out", "--input-layout", "TM"], 3, "80 bins"),
        (["nothing", "--from", "hifigan", "-o", "out"], 3, "no such file"),
    ],
)
def test_wrong_calls_say_what_is_wrong(calib: Command, corpus: Path, arguments: list[str], code: int, words: str) -> None:  # fmt: skip
    del corpus
    found = calib("convert", *arguments)
    assert found.code == code, found.err
    assert words in found.err


def test_a_full_disk_is_a_data_error_and_leaves_no_half_file(process: Command, corpus: Path) -> None:
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))"  # fmt: skip
    found = process("convert", "mels", "--from", "hifigan", "--to", "matcha_ljspeech", "-o", "out", before=limit)
    assert found.code == 3, found.err
    assert "cannot write" in found.err
    assert not [name for name in leftovers(corpus / "out") if name.endswith((".part", ".npy"))]


def test_a_folder_that_cannot_be_made_is_a_data_error(calib: Command, corpus: Path) -> None:
    (corpus / "file").write_text("x")
    found = calib("convert", "mels", "--from", "hifigan", "--to", "matcha_ljspeech", "-o", "file/out")
    assert found.code == 3, found.err


def test_a_killed_run_goes_on_and_gives_the_same_bytes(calib: Command, corpus: Path) -> None:
    """SIGKILL after the second utterance: what is finished stays, the rest is done, nothing differs."""
    code = (
        "import os, signal, sys\n"
        "from calib.commands import convert\n"
        "from calib.run.ledger import Ledger\n"
        "real, seen = Ledger.record, []\n"
        "def record(self, key, value):\n"
        "    if len(seen) == 2:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(self, key, value); seen.append(key)\n"
        "Ledger.record = record\n"
        "from calib.cli import main\n"
        "main(['convert', 'pairs', '--from', 'hifigan', '--to', 'tacotron2', '--audio', 'audio', '-o', 'out'])\n"
    )
    died = subprocess.run([sys.executable, "-c", code], cwd=corpus, capture_output=True, check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    assert not (corpus / "out" / "conversion.json").exists()
    old = (corpus / "out" / "predictions" / "c0.npy").stat().st_mtime_ns
    other = calib("convert", "pairs", "--from", "hifigan", "--to", "speecht5", "--audio", "audio", "-o", "out")
    assert other.code == 2
    assert "holds another run" in other.err
    time.sleep(0.01)
    found = calib("convert", "pairs", "--from", "hifigan", "--to", "tacotron2", "--audio", "audio", "-o", "out")
    assert found.code == 0, found.err
    assert "resuming: 2 of 5" in found.err
    assert (corpus / "out" / "predictions" / "c0.npy").stat().st_mtime_ns == old
    assert calib("convert", "pairs", "--from", "hifigan", "--to", "tacotron2", "--audio", "audio", "-o", "whole").code == 0  # fmt: skip
    for name in leftovers(corpus / "whole"):
        if name != "run.json":
            assert (corpus / "whole" / name).read_bytes() == (corpus / "out" / name).read_bytes(), name
    assert leftovers(corpus / "whole") == leftovers(corpus / "out")


def test_two_processes_write_the_same_bytes_as_one(calib: Command, corpus: Path) -> None:
    for jobs, name in ((1, "one"), (2, "two")):
        done = calib("convert", "pairs", "--from", "hifigan", "--to", "tacotron2", "--audio", "audio", "--jobs", jobs, "-o", name)  # fmt: skip
        assert done.code == 0, done.err
    assert leftovers(corpus / "one") == leftovers(corpus / "two")
    for name in leftovers(corpus / "one"):
        if name != "run.json":
            assert (corpus / "one" / name).read_bytes() == (corpus / "two" / name).read_bytes(), name


@pytest.mark.slow
def test_ray_writes_the_same_bytes_as_one_process(calib: Command, process: Command, corpus: Path) -> None:
    """The inputs hold closures, which Ray's own pickle takes."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install mel-calib[ray]")
    arguments = ("convert", "pairs", "--from", "hifigan", "--to", "tacotron2", "--audio", "audio")
    assert calib(*arguments, "--jobs", 1, "-o", "one").code == 0
    done = process(*arguments, "--engine", "ray", "--jobs", 1, "-o", "ray")
    assert done.code == 0, done.err
    assert leftovers(corpus / "one") == leftovers(corpus / "ray")
    for name in leftovers(corpus / "one"):
        if name != "run.json":
            assert (corpus / "one" / name).read_bytes() == (corpus / "ray" / name).read_bytes(), name
