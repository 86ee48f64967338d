"""The speed benchmark itself: its reference is right, its memory is that of all processes, its page says yes and no."""

from __future__ import annotations

import copy
import os
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from speechlike import RATE, recording

from benchmarks.speed import accuracy, corpora, entries, measuring, pages
from calib.mel.frontend import FrontEnd


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two different files, one of them twice."""
    folder = tmp_path / "corpus"
    (folder / "wavs").mkdir(parents=True)
    for index, seed in enumerate((1, 2, 1)):
        with wave.open(str(folder / "wavs" / f"u{index}.wav"), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(np.rint(recording(0.8, seed) * 32767).astype("<i2").tobytes())
    return folder


def test_the_reference_counts_every_file_and_is_the_front_ends(corpus: Path) -> None:
    fe = FrontEnd.load("hifigan")
    truth = accuracy.reference(corpus, fe.basis())
    files = corpora.distinct(corpus)
    assert sorted(times for _, times in files) == [1, 2]
    mel = np.concatenate([np.tile(fe.mel(x.astype(np.float32) / 32768), (times, 1)) for x, times in files]).astype(
        np.float64
    )
    assert truth["frames"] == len(mel)
    assert accuracy.off_global(mel.mean(), mel.std(), truth) == pytest.approx({"mean": 0, "std": 0}, abs=1e-6)
    stats = {
        "mel_mean": mel.mean(),
        "mel_std": mel.std(),
        "per_bin": {"mean": list(mel.mean(0)), "std": list(mel.std(0))},
    }
    assert max(accuracy.off(stats, truth).values()) < 1e-6
    stats["per_bin"]["mean"][7] *= 1 + 1e-3
    assert accuracy.off(stats, truth)["bin_mean"] == pytest.approx(1e-3, rel=1e-2)


def test_corpora_are_built_once_and_the_large_one_shares_its_files(tmp_path: Path) -> None:
    small, large, what = corpora.build(tmp_path, files=3)
    assert large is not None
    assert what
    assert len(list((large / "wavs").iterdir())) == 3 * corpora.LARGE
    assert corpora.seconds(large) == pytest.approx(corpora.seconds(small) * corpora.LARGE)
    first = next((small / "wavs").iterdir())
    assert first.stat().st_nlink == 1 + corpora.LARGE
    before = first.stat().st_mtime_ns
    assert corpora.build(tmp_path, files=3, large=False)[:2] == (small, None)
    assert first.stat().st_mtime_ns == before
    assert len((large / "metadata.csv").read_text().splitlines()) == 3 * corpora.LARGE


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux's /proc")  # noqa: PTH110
def test_memory_is_summed_over_processes_and_failures_are_seen() -> None:
    code = (
        "import os, time; pid = os.fork(); data = bytearray(os.urandom(1)) * 40_000_000; time.sleep(0.6); "
        "pid and os.waitpid(pid, 0)"
    )
    found = measuring.run([sys.executable, "-c", code], os.environ, memory=True)
    assert found.status == 0
    assert found.memory is not None
    assert found.memory > 80
    assert found.wall > 0.6
    failed = measuring.run([sys.executable, "-c", "raise SystemExit('no such thing')"], os.environ)
    assert (failed.status, failed.memory) == (1, None)
    assert "no such thing" in failed.tail


def test_who_cannot_take_part_is_named_with_the_reason(tmp_path: Path) -> None:
    field, absent = entries.everybody(None, None)
    assert {entry.kind for entry in field} == {"calib", "bound"}
    assert "Coqui `compute_statistics`" in absent
    assert "not built" in absent["calib stats with the compiled kernel"]
    _, absent = entries.everybody(tmp_path, "avx2")
    assert f"{tmp_path / 'bin' / 'python'} is not there" in absent.values()
    for _, _, module, _, _ in entries._FIELD:
        assert (entries._PEERS / f"{next(d for d, _, m, _, _ in entries._FIELD if m == module)}.py").is_file()


RESULTS: dict[str, Any] = {
    "corpus": {"what": "clips", "files": 10, "seconds": 1000.0},
    "machine": {"processor": "p", "cores": 2, "python": "3", "numpy": "2", "scipy": "1", "mel-calib": "0"},
    "load_before": [0.0], "load_after": [1.0], "run": "today", "minutes": 1.0, "absent": {"X": "it failed: why"},
    "field": [
        {"key": key, "title": key, "kind": "peer", "memory": memory, "wall": [wall], "cpu": [wall]}
        for key, wall, memory in (
            ("calib_pure_2", 1.0, 200.0), ("calib_pure_1", 1.9, 90.0), ("calib_avx2_2", 0.5, 150.0), ("calib_avx2_1", 0.9, 80.0),
            ("coqui", 9.0, 500.0), ("matcha_stats_20", 7.0, 900.0), ("lhotse_fbank", 3.0, 400.0), ("librosa_loop", 3.5, 300.0),
        )
    ],
    "accuracy": {"frames": 10, "mean": -5.0, "std": 2.0, "rows": [{"title": "pure", "mean": 1e-8, "std": 1e-8, "bin_mean": 1e-7, "bin_std": 2e-7}]},
    "large": {
        "seconds": 12000.0,
        "rows": [
            {"key": "calib_pure_2", "title": "pure", "wall": 10.0, "cpu": 19.0, "memory": 210.0},
            {"key": "librosa_loop", "title": "loop", "wall": 42.0, "cpu": 42.0, "memory": None},
        ],
    },
}  # fmt: skip


def verdicts(results: dict[str, Any]) -> dict[str, str]:
    rows = [line.strip("| ").split(" | ") for line in pages.page(results).splitlines() if line.startswith("| ")]
    return {row[0]: row[-1] for row in rows if row[-1] in {"yes", "**no**", "-"}}


def test_the_page_says_what_holds_and_what_does_not() -> None:
    assert {"pure path against Coqui", "kernel against the loop", "pure path against the loop, 24 h"} < set(
        verdicts(RESULTS)
    )
    assert set(verdicts(RESULTS).values()) == {"yes"}
    worse = copy.deepcopy(RESULTS)
    worse["field"][0]["wall"] = [1.5]
    worse["large"]["rows"][0]["memory"] = 300.0
    worse["accuracy"]["rows"][0]["bin_std"] = 1e-5
    found = verdicts(worse)
    assert {name for name, said in found.items() if said == "**no**"} == {
        "pure path against Coqui", "pure path against Matcha as shipped", "pure path against lhotse", "pure path against the loop",
        "memory at 24 h against 2 h, pure path", "mean and sd against float64, global and by bin",
    }  # fmt: skip
    assert "it failed: why" in pages.page(worse)


def test_what_was_not_measured_is_no_success() -> None:
    less = copy.deepcopy(RESULTS)
    less["field"] = [row for row in less["field"] if row["key"] in {"calib_pure_2", "calib_pure_1"}]
    del less["large"]
    found = verdicts(less)
    assert found["pure path against Coqui"] == found["kernel against the loop"] == "-"
    assert "not measured" in pages.page(less)
