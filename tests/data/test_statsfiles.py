"""Statistics files of other systems: read as they are, written as their own code writes them, nothing executed."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from calib.data.statsfiles import FORMATS, WRITABLE, MelStatistics, read, write
from calib.data.statsfiles.model import from_sums
from calib.errors import CalibError, DataError, UsageError

M = 80
RNG = np.random.default_rng(7)
MEAN = np.linspace(-2.0, -7.0, M) + RNG.normal(0, 0.2, M)
STD = RNG.uniform(0.8, 2.4, M)
FRAMES = 12345


def sums(frames: float = FRAMES) -> np.ndarray:
    """Kaldi's ``[2, M + 1]``."""
    return np.stack([np.append(MEAN * frames, frames), np.append((STD**2 + MEAN**2) * frames, 0.0)])


def kaldi_binary(matrix: np.ndarray, token: bytes = b"DM ") -> bytes:
    kind = {b"DM ": "<f8", b"FM ": "<f4"}[token]
    rows, columns = matrix.shape
    return (
        b"\0B"
        + token
        + b"\x04"
        + struct.pack("<i", rows)
        + b"\x04"
        + struct.pack("<i", columns)
        + matrix.astype(kind).tobytes()
    )


def coqui(path: Path, **changes: Any) -> None:
    """What compute_statistics.py does."""
    stats = {"mel_mean": MEAN, "mel_std": STD, "linear_mean": np.zeros(513), "linear_std": np.ones(513)}
    stats["audio_config"] = {"num_mels": M, "spec_gain": 20, "log_func": "np.log10", "stats_path": None, "mel_fmin": np.float64(50.0)}  # fmt: skip
    np.save(path, {**stats, **changes}, allow_pickle=True)


# name of the file, how its own system writes it, the format that must be recognised, relative tolerance
OWN: dict[str, tuple[Callable[[Path], Any], str, float]] = {
    "scale_stats.npy": (coqui, "coqui", 0.0),
    "stats.npy": (lambda p: np.save(p, np.stack([MEAN, STD]).astype(np.float32), allow_pickle=False), "pwg-npy", 1e-6),
    "feats_stats.npz": (lambda p: np.savez(p, count=FRAMES, sum=MEAN * FRAMES, sum_square=(STD**2 + MEAN**2) * FRAMES), "espnet", 1e-12),
    "old_stats.npy": (lambda p: np.save(p, sums()), "espnet-npy", 1e-12),
    "gcmvn_stats.npz": (lambda p: np.savez(p, mean=MEAN.astype("float32"), std=STD.astype("float32")), "fairseq", 1e-6),
    "cmvn.ark": (lambda p: p.write_bytes(kaldi_binary(sums())), "kaldi", 1e-12),
    "cmvn_float": (lambda p: p.write_bytes(kaldi_binary(sums(1000), b"FM ")), "kaldi", 1e-4),
    "cmvn.txt": (lambda p: p.write_text(" [\n  " + "\n  ".join(" ".join(f"{v:.17g}" for v in row) for row in sums()) + " ]\n"), "kaldi-text", 1e-12),
    "model.safetensors": (lambda p: save_file({"mean": MEAN.astype(np.float32), "scale": STD.astype(np.float32), "conv_pre.weight": np.zeros((4, 4), np.float32)}, p), "transformers", 1e-6),
    "pytorch_model.bin": (lambda p: torch.save({"mean": torch.tensor(MEAN).float(), "scale": torch.tensor(STD).float()}, p), "transformers", 1e-6),
    "espnet.pth": (lambda p: torch.save({"normalize.mean": torch.tensor(MEAN), "normalize.std": torch.tensor(STD), "pitch_normalize.mean": torch.zeros(1), "pitch_normalize.std": torch.ones(1)}, p), "espnet-checkpoint", 0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", list(OWN))
def test_a_file_is_recognised_by_its_content_and_gives_the_numbers_in_it(name: str, tmp_path: Path) -> None:
    make, format_, tolerance = OWN[name]
    path = tmp_path / name
    make(path)
    found = read(path)
    assert found.format == format_
    assert found.kind == "standard"
    np.testing.assert_allclose(found.mean, MEAN, rtol=tolerance)
    np.testing.assert_allclose(found.std, STD, rtol=tolerance)
    assert FORMATS[format_].title in found.describe()
    assert str(path) in found.describe()
    renamed = tmp_path / "anything.dat"
    path.rename(renamed)
    assert read(renamed).format == format_


def test_the_overall_values_are_those_of_all_bins_together() -> None:
    rng = np.random.default_rng(1)
    x = MEAN + STD * rng.standard_normal((4000, M))
    stats = MelStatistics(x.mean(0), x.std(0), "pwg")
    assert stats.overall() == pytest.approx((x.mean(), x.std()), rel=1e-12)


def test_parallel_wavegan_hdf5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason='stats.h5 needs h5py: pip install "mel-calib[formats]"')
    path = tmp_path / "stats.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("mean", data=MEAN.astype(np.float32))
        file.create_dataset("scale", data=STD.astype(np.float32)[None])
    np.testing.assert_allclose(read(path).mean, MEAN, rtol=1e-6)
    np.testing.assert_allclose(read(path).std, STD, rtol=1e-6)
    with h5py.File(path, "w") as file:
        for number, name in enumerate(("alice", "bob")):
            file.create_dataset(f"{name}/mean", data=MEAN + number)
            file.create_dataset(f"{name}/scale", data=STD)
    with pytest.raises(DataError, match=r"2 speakers and none of all.*alice, bob") as caught:
        read(path)
    assert caught.value.hint == f"name a speaker: {path}#alice"
    np.testing.assert_allclose(read(f"{path}#bob").mean, MEAN + 1)
    with pytest.raises(UsageError, match="no statistics of 'carol'; it has alice, bob"):
        read(f"{path}#carol")
    with h5py.File(path, "w") as file:
        file["other"] = h5py.ExternalLink("/etc/hostname", "/mean")
    with pytest.raises(DataError, match="an HDF5 file with other"):
        read(path)


def test_hdf5_that_points_into_another_file_is_not_followed(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "raw").write_bytes(STD.astype("<f8").tobytes())
    with h5py.File(tmp_path / "stats.h5", "w") as file:
        file["mean"] = MEAN
        file.create_dataset("scale", (M,), "<f8", external=[(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)])
    with pytest.raises(DataError, match="ParallelWaveGAN's has mean and scale"):
        read(tmp_path / "stats.h5")


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    path = tmp_path / "stats.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 100)
    with pytest.raises(UsageError, match="needs h5py") as caught:
        read(path)
    assert caught.value.hint == 'pip install "mel-calib[formats]"'


@pytest.mark.parametrize("wrapped", [False, True])
def test_matchas_two_numbers_in_yaml_json_and_checkpoint(wrapped: bool, tmp_path: Path) -> None:
    text = "_target_: matcha.data.TextMelDataModule\nseed: ${seed}\ndata_statistics:  # of ljspeech\n  mel_mean: -5.536622\n  mel_std: 2.116101\n"
    if wrapped:
        text = "data:\n" + "".join(f"  {line}\n" for line in text.splitlines())
    (tmp_path / "a.yaml").write_text(text)
    torch.save(
        {"state_dict": {"mel_mean": torch.tensor(-5.536622), "mel_std": torch.tensor(2.116101)}}, tmp_path / "a.ckpt"
    )
    (tmp_path / "a.json").write_text('{"mel_mean": -5.536622, "mel_std": 2.116101}')
    for name, format_ in (("a.yaml", "matcha"), ("a.ckpt", "matcha-checkpoint"), ("a.json", "calib")):
        found = read(tmp_path / name)
        assert found.format == format_
        assert not found.by_bin
        assert found.overall() == pytest.approx((-5.536622, 2.116101), rel=1e-6)
    assert read(f"matcha={tmp_path / 'a.json'}").format == "matcha"
    (tmp_path / "b.yaml").write_text("data_statistics: null\n")
    with pytest.raises(DataError, match="data_statistics is empty: Matcha-TTS takes mean 0 and sd 1"):
        read(tmp_path / "b.yaml")


def test_the_divisors_of_tortoise_and_xtts(tmp_path: Path) -> None:
    path = tmp_path / "mel_norms.pth"
    torch.save(torch.tensor(MEAN).float(), path)
    found = read(path)
    assert (found.format, found.kind) == ("tortoise", "divide")
    np.testing.assert_allclose(found.std, MEAN, rtol=1e-6)
    assert not np.any(found.mean)
    with pytest.raises(DataError, match="say neither mean nor standard deviation"):
        found.overall()
    torch.save({"model": {"mel_stats": torch.tensor(MEAN), "gpt.x": torch.zeros(2, 2)}}, path)
    assert read(path).kind == "divide"
    torch.save({"model": {"mel_stats": torch.ones(80)}}, path)
    with pytest.raises(DataError, match="all 80 divisors are 1: the placeholder"):
        read(path)
    torch.save(torch.tensor(STD), path)
    with pytest.raises(DataError, match="those of Tortoise and XTTS are all negative"):
        read(path)
    assert read(f"tortoise={path}").kind == "divide"


def test_kaldi_arks_by_speaker_add_up_exactly_and_give_each_speaker(tmp_path: Path) -> None:
    one, two = sums(1000), sums(500)
    two[0, :-1] += 500.0  # one unit higher
    two[1, :-1] += 2 * MEAN * 500 + 500
    ark = tmp_path / "spk.ark"
    ark.write_bytes(b"alice " + kaldi_binary(one) + b"bob " + kaldi_binary(two))
    found = read(ark)
    assert found.n_frames == 1500
    np.testing.assert_allclose(found.mean, MEAN + 1 / 3, rtol=1e-12)
    np.testing.assert_allclose(read(f"{ark}#bob").mean, MEAN + 1, rtol=1e-12)
    np.testing.assert_allclose(found.per_speaker["bob"][1], STD, rtol=1e-9)
    offset = len(b"alice ") + len(kaldi_binary(one)) + len(b"bob ")
    (tmp_path / "spk.scp").write_text(f"alice spk.ark:6\nbob {ark}:{offset}\n")
    np.testing.assert_allclose(read(tmp_path / "spk.scp").mean, found.mean, rtol=1e-12)
    (tmp_path / "spk.scp").write_text("alice copy-feats ark:x ark:- |\n")
    with pytest.raises(DataError, match="is a command; calib runs none"):
        read(tmp_path / "spk.scp")


# --- what cannot be ---------------------------------------------------------------------------------------------------


def spoiled(values: np.ndarray, index: int, value: float) -> np.ndarray:
    out = values.copy()
    out[index] = value
    return out


def savez(path: Path, **arrays: Any) -> None:
    """np.savez without its suffix."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path.write_bytes(buffer.getvalue())


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no sd": (lambda p: np.save(p, np.stack([MEAN, spoiled(STD, 3, 0.0)])), "standard deviation of bin 3 is 0; it must be positive"),
    "negative sd": (lambda p: np.save(p, np.stack([MEAN, spoiled(STD, 3, -1.5)])), "standard deviation of bin 3 is -1.5"),
    "NaN sd": (lambda p: coqui(p, mel_std=spoiled(STD, 5, np.nan)), "standard deviation of bin 5 is nan"),
    "infinite mean": (lambda p: coqui(p, mel_mean=spoiled(MEAN, 0, np.inf)), "mean of bin 0 is inf"),
    "lengths": (lambda p: coqui(p, mel_std=STD[:-1]), "80 means but 79 standard deviations"),
    "config": (lambda p: coqui(p, mel_mean=MEAN[:-1], mel_std=STD[:-1]), "79 means, but its audio_config says num_mels 80"),
    "no key": (lambda p: np.save(p, {"mel_mean": MEAN}, allow_pickle=True), "without mel_std; it has mel_mean"),
    "turned": (lambda p: np.save(p, np.stack([MEAN, STD], axis=1)), r"shape \(80, 2\); it looks turned round"),
    "three rows": (lambda p: np.save(p, np.zeros((3, 80))), r"shape \(3, 80\)"),
    "texts": (lambda p: np.save(p, np.array(["a", "b"])), "holds an array of <U1"),
    "count 0": (lambda p: savez(p, count=0, sum=MEAN, sum_square=STD), "the frame count is 0; it must be at least 1"),
    "negative variance": (lambda p: savez(p, count=10, sum=MEAN * 10, sum_square=spoiled((STD**2 + MEAN**2) * 10, 7, 1.0)), "the variance of bin 7 is -.*below zero: the sums were too coarse"),
    "constant bin": (lambda p: savez(p, count=10, sum=MEAN * 10, sum_square=spoiled((STD**2 + MEAN**2) * 10, 7, MEAN[7] ** 2 * 10)), "bin 7 has the variance 0; a bin that never changes"),
    "no arrays of ours": (lambda p: savez(p, a=MEAN), "an .npz with a; statistics have"),
    "objects": (lambda p: savez(p, mean=np.array([{}], dtype=object), std=STD), "cannot be read as .npz"),
    "cut short": (lambda p: p.write_bytes(kaldi_binary(sums())[:-8]), "cut short: 1288 of 1296 bytes"),
    "compressed": (lambda p: p.write_bytes(b"\0BCM " + bytes(40)), "a compressed Kaldi matrix"),
    "kaldi shape": (lambda p: p.write_bytes(kaldi_binary(np.ones((3, 81)))), "a matrix of 3 x 81; CMVN statistics have 2 rows"),
    "words": (lambda p: p.write_text(" [ 1 2 x\n 3 4 0 ]\n"), "a word that is no number"),
    "placeholder": (lambda p: save_file({"mean": np.zeros(80, np.float32), "scale": np.ones(80, np.float32)}, p.with_suffix(".safetensors")) or p.with_suffix(".safetensors").rename(p), "the placeholder of a vocoder that was saved without statistics"),
    "weights only": (lambda p: torch.save({"conv.weight": torch.zeros(3)}, p), "1 tensors, none of which are mel statistics"),
    "a batch norm": (lambda p: torch.save({"bn.weight": torch.ones(80), "bn.mean": torch.zeros(80), "bn.scale": torch.ones(80)}, p), "none of which are mel statistics"),
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "a list": (lambda p: p.write_text("- a\n- b\n"), "it holds a list"),
    "other yaml": (lambda p: p.write_text("a: 1\nb: 2\n"), "holds no mel statistics: its keys are a, b"),
    "half": (lambda p: p.write_text('{"mel_mean": -5}'), "it lacks mel_std"),
    "NaN": (lambda p: p.write_text('{"mel_mean": NaN, "mel_std": 2}'), "the mean is nan"),
    "per bin": (lambda p: p.write_text('{"mel_mean": -5, "mel_std": 2, "per_bin": {"mean": [1, 2], "std": [1]}}'), "2 means and 1 sds"),
    "per bin words": (lambda p: p.write_text('{"mel_mean": -5, "mel_std": 2, "per_bin": {"mean": ["a"], "std": [1]}}'), "something that is no number"),
    "schema": (lambda p: p.write_text('{"schema": "calib/mel-normalization-stats/9", "mel_mean": -5, "mel_std": 2}'), "schema is 'calib/mel-normalization-stats/9'"),
    "binary": (lambda p: p.write_bytes(b"\xff\xfe\x00\x01"), "is no statistics file that calib knows: it begins with"),
    "lfs": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"), "git-lfs pointer"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
def test_what_cannot_be_is_an_error_with_the_value(name: str, tmp_path: Path) -> None:
    make, message = BAD[name]
    path = tmp_path / "file"
    make(path)
    if not path.exists():  # np.save adds its suffix
        path = tmp_path / "file.npy"
    with pytest.raises(CalibError, match=message) as caught:
        read(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("name", list(OWN))
def test_damaged_files_are_errors_and_never_crashes(name: str, tmp_path: Path) -> None:
    """Bytes changed, lost and added in the head of the file: read, or refused with an error of calib's own."""
    make, _, _ = OWN[name]
    path = tmp_path / name
    make(path)
    whole, rng = path.read_bytes(), np.random.default_rng(len(name))
    for _ in range(25):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 5)):
            data[rng.integers(min(len(data), 400))] = rng.integers(256)
        if rng.random() < 0.3:
            del data[rng.integers(1, len(data)) :]
        path.write_bytes(bytes(data))
        with contextlib.suppress(CalibError):
            read(path).describe()


def test_a_file_that_could_be_two_things_says_so_and_takes_a_word(tmp_path: Path) -> None:
    both = tmp_path / "both.npz"
    np.savez(both, mean=MEAN, std=STD, count=FRAMES, sum=MEAN * FRAMES, sum_square=(STD**2 + MEAN**2) * FRAMES)
    with pytest.raises(DataError, match="holds the arrays of espnet and of fairseq") as caught:
        read(both)
    assert caught.value.hint == f"say which: espnet={both} or fairseq={both}"
    assert read(f"espnet={both}").n_frames == FRAMES
    assert read(f"fairseq={both}").format == "fairseq"
    row = tmp_path / "row.npy"
    np.save(row, MEAN)
    with pytest.raises(DataError, match="it could be means, standard deviations, or the divisors"):
        read(row)
    assert read(f"tortoise={row}").kind == "divide"
    odd = tmp_path / "odd.npy"
    np.save(odd, np.stack([MEAN, spoiled(STD, -1, 0.0)]))
    with pytest.raises(DataError, match="which is no frame count"):
        read(odd)
    two = tmp_path / "two.pth"
    torch.save({"mel_mean": torch.tensor(MEAN), "mel_std": torch.tensor(STD), "mean": torch.tensor(MEAN), "scale": torch.tensor(STD + 1)}, two)  # fmt: skip
    with pytest.raises(DataError, match="more than one set of tensors") as caught:
        read(two)
    assert "transformers=" in str(caught.value.hint)
    np.testing.assert_allclose(read(f"transformers={two}").std, STD + 1)
    OWN["stats.npy"][0](tmp_path / "stats.npy")
    with pytest.raises(DataError, match=r"is ParallelWaveGAN stats.npy \(pwg-npy\), not coqui"):
        read(f"coqui={tmp_path / 'stats.npy'}")


def test_float32_sums_that_cancel_are_told(tmp_path: Path) -> None:
    """E[x²] - E[x]² of values around 300 with an sd of 0.02 has no digits left in float32."""
    rng = np.random.default_rng(0)
    x = (300 + 0.02 * rng.standard_normal((500, 4))).astype(np.float32)
    _, std, _, doubts = from_sums(len(x), x.astype(float).sum(0), (x.astype(float) ** 2).sum(0), "f")
    np.testing.assert_allclose(std, x.std(0, dtype=float), rtol=1e-4)
    assert doubts == ()
    try:
        *_, doubts = from_sums(len(x), x.sum(0), (x**2).sum(0), "f")
    except DataError as error:
        assert "below zero" in error.message  # noqa: PT017 - which of the two depends on the rounding
    else:
        assert "float32 sums: the variance of bin" in doubts[0]
    np.savez(tmp_path / "g.npz", mean=MEAN, std=np.maximum(STD, 0) * (np.arange(M) != 2) + 1e-4 * (np.arange(M) == 2))
    assert "fairseq's smallest sd, 1e-4, in 1 bin (the first: 2)" in read(tmp_path / "g.npz").doubts[0]


def test_kaldis_float32_sums_are_told_too(tmp_path: Path) -> None:
    rows = np.stack([np.append(300.0 * np.ones(M) * 500, 500), np.append((300.0**2 + 0.5) * np.ones(M) * 500, 0.0)])
    (tmp_path / "single.ark").write_bytes(kaldi_binary(rows, b"FM "))
    (tmp_path / "double.ark").write_bytes(kaldi_binary(rows))
    assert "float32 sums: the variance of bin 0" in read(tmp_path / "single.ark").doubts[0]
    assert read(tmp_path / "double.ark").doubts == ()


def test_a_brace_in_the_ninth_place_of_a_text_is_no_safetensors(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("normal: {data_statistics: {mel_mean: -5.5, mel_std: 2.1}}\n")
    with pytest.raises(DataError, match="holds no mel statistics: its keys are normal"):
        read(tmp_path / "a.yaml")


class Harmful:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


@pytest.mark.parametrize("where", ["root", "value", "key of the audio_config"])
def test_nothing_pickled_is_executed(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stats: Any = {"mel_mean": MEAN, "mel_std": STD, "audio_config": {"num_mels": M}}
    if where == "root":
        stats = Harmful()
    elif where == "value":
        stats["mel_std"] = Harmful()
    else:
        stats["audio_config"]["x"] = Harmful()
    np.save("evil.npy", np.array(stats, dtype=object), allow_pickle=True)
    if where == "key of the audio_config":
        np.testing.assert_array_equal(read("evil.npy").mean, MEAN)
    else:
        with pytest.raises(DataError):
            read("evil.npy")
    assert not Path("executed").exists()


def test_a_bomb_of_shared_lists_is_refused(tmp_path: Path) -> None:
    value: Any = [0]
    for _ in range(18):
        value = [value] * 10
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    (tmp_path / "bomb.npy").write_bytes(header.getvalue() + pickle.dumps({"mel_mean": value}))
    with pytest.raises(DataError, match="more values than any statistics hold"):
        read(tmp_path / "bomb.npy")


# --- writing ----------------------------------------------------------------------------------------------------------

STATS = MelStatistics(MEAN, STD, "calib", n_frames=FRAMES)


@pytest.mark.parametrize("format_", WRITABLE)
def test_what_is_written_is_read_again(format_: str, tmp_path: Path) -> None:
    if format_ == "pwg":
        pytest.importorskip("h5py", reason='stats.h5 needs h5py: pip install "mel-calib[formats]"')
    path = tmp_path / FORMATS[format_].filename
    write(STATS, path, format_)
    found = read(path)
    assert found.format == format_
    if format_ == "matcha":
        assert found.overall() == STATS.overall()
    elif format_ == "tortoise":
        np.testing.assert_allclose(found.std, MEAN, rtol=1e-6)
    else:
        exact = format_ in {"coqui", "espnet", "espnet-npy", "kaldi", "kaldi-text"}
        np.testing.assert_allclose(found.mean, MEAN, rtol=1e-12 if exact else 1e-6)
        np.testing.assert_allclose(found.std, STD, rtol=1e-12 if exact else 1e-6)
    once = path.read_bytes()
    with pytest.raises(UsageError, match="exists and is not overwritten"):
        write(STATS, path, format_)
    write(STATS, path, format_, force=True)
    assert path.read_bytes() == once


ORIGINAL = """
import sys, numpy as np
name, path = sys.argv[1:]
if name == "coqui":      # TTS/utils/audio/processor.py: load_stats
    stats = np.load(path, allow_pickle=True).item()
    mean, std = stats["mel_mean"], stats["mel_std"]
    assert stats["audio_config"] == {"num_mels": 80, "fft_size": 1024}, stats["audio_config"]
    assert stats["linear_mean"].shape == (513,) and np.isnan(stats["linear_std"]).all()
elif name == "pwg":      # parallel_wavegan/utils: read_hdf5
    import h5py
    with h5py.File(path, "r") as f:
        mean, std = f["mean"][()], f["scale"][()]
    assert mean.dtype == np.float32
elif name == "pwg-npy":
    mean, std = np.load(path)[0], np.load(path)[1]
elif name == "espnet":   # espnet2/layers/global_mvn.py
    stats = np.load(path)
    mean = stats["sum"] / stats["count"]
    std = np.sqrt(np.maximum(stats["sum_square"] / stats["count"] - mean * mean, 1e-20))
elif name == "espnet-npy":
    stats = np.load(path)
    count = stats[0].flatten()[-1]
    mean = stats[0, :-1] / count
    std = np.maximum(np.sqrt(stats[1, :-1] / count - mean * mean), 1e-20)
elif name == "fairseq":  # global_cmvn.py
    stats = np.load(path)
    mean, std = stats["mean"], stats["std"]
np.save(path + ".out.npy", np.stack([mean, std]))
"""


@pytest.mark.parametrize("format_", ["coqui", "pwg", "pwg-npy", "espnet", "espnet-npy", "fairseq"])
def test_the_systems_own_way_of_reading_gives_the_same_numbers(format_: str, tmp_path: Path) -> None:
    if format_ == "pwg":
        pytest.importorskip("h5py", reason='stats.h5 needs h5py: pip install "mel-calib[formats]"')
    path = tmp_path / FORMATS[format_].filename
    write(STATS, path, format_, frontend={"n_mels": 80, "n_fft": 1024})
    subprocess.run([sys.executable, "-W", "ignore", "-c", ORIGINAL, format_, str(path)], check=True, timeout=60)
    mean, std = np.load(f"{path}.out.npy")
    np.testing.assert_allclose(mean, MEAN, rtol=1e-6)
    np.testing.assert_allclose(std, STD, rtol=1e-6)


def test_coquis_file_names_only_what_numpy_1_22_has(tmp_path: Path) -> None:
    """Coqui pins numpy 1.22, whose module is numpy.core; pickle protocol 4 would be read, a numpy._core would not."""
    path = tmp_path / "scale_stats.npy"
    write(STATS, path, "coqui")
    data = path.read_bytes()
    assert b"numpy._core" not in data
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in data


@pytest.mark.parametrize(
    ("format_", "stats", "message"),
    [
        ("coqui", MelStatistics(MEAN, spoiled(STD, 9, 0.0), "calib"), r"bin 9 never changes \(sd 0\)"),
        ("espnet", MelStatistics(MEAN, STD, "calib"), "needs the number of frames"),
        ("kaldi", MelStatistics(-5.0, 2.0, "calib"), "needs a mean and an sd for each bin"),
        ("tortoise", MelStatistics(spoiled(MEAN, 4, 0.5), STD, "calib"), "the mean of bin 4 is 0.5"),
        ("coqui", MelStatistics(np.zeros(M), MEAN, "tortoise", "divide"), "divisors cannot be written as coqui"),
        ("npy", STATS, "'npy' is no format that calib writes"),
    ],
)
def test_what_a_format_cannot_hold_is_not_written(
    format_: str, stats: MelStatistics, message: str, tmp_path: Path
) -> None:
    with pytest.raises(CalibError, match=message):
        write(stats, tmp_path / "out", format_)
    assert list(tmp_path.iterdir()) == []


def test_a_dead_bin_is_written_as_the_systems_own_code_writes_it(tmp_path: Path) -> None:
    dead = MelStatistics(MEAN, spoiled(STD, 9, 0.0), "calib", n_frames=100)
    write(dead, tmp_path / "s.npy", "pwg-npy")
    assert np.load(tmp_path / "s.npy")[1, 9] == 1.0
    write(dead, tmp_path / "g.npz", "fairseq")
    assert np.load(tmp_path / "g.npz")["std"][9] == np.float32(1e-4)


def test_a_name_with_an_equals_sign_or_a_hash_is_a_name_where_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "coqui=x#y.npy"
    np.save(path, np.stack([MEAN, STD]))
    assert read(path).format == "pwg-npy"
