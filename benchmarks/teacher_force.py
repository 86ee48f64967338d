"""How fast a model runs over a corpus with teacher forcing: ``calib teacher-force`` beside a plain loop, in one run.

``python benchmarks/teacher_force.py``. The corpus is the embedded one, each recording alone and joined with up to three
others (300 recordings of 2 to 12 s); the model is the embedded reference model, on the CPU, one library thread a
process. Every program is a process of its own, and all of it counts: imports, loading, the index. Alternating rounds, best
of each; wall-clock time depends on what else runs (the load is in the result), CPU time hardly. The result with versions
lands in ``teacher_force.json``.

The plain loop is what one writes by hand: read, mel, model, two ``np.save``, one utterance after the other; it checks
nothing and cannot resume.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROUNDS = 2
UTTERANCES = 300
MILLION = 1_000_000
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
PROGRAMS: dict[str, list[str]] = {
    "plain loop": [],
    "calib, batches of 1": ["--jobs", "1", "--batch-size", "1"],
    "calib, 1 process": ["--jobs", "1"],
    "calib, 2 processes": ["--jobs", "2"],
    "calib, 2 processes, shards": ["--jobs", "2", "--shards"],
}


def corpus(folder: Path) -> float:
    """An LJSpeech folder; returns its length in s."""
    import soundfile

    from calib.demo import CORPUS

    rows = [line.split("|") for line in (CORPUS / "metadata.csv").read_text(encoding="utf-8").splitlines()]
    speakers = dict(line.split("|", 1) for line in (CORPUS / "speakers.csv").read_text(encoding="utf-8").splitlines())
    files = {path.stem: path for path in (CORPUS / "wavs").iterdir()}
    audio = {row[0]: soundfile.read(files[row[0]], dtype="int16") for row in rows}
    (folder / "wavs").mkdir(parents=True)
    seconds, index, voices = 0.0, [], []
    for k in range(UTTERANCES):
        start, count = k % len(rows), 1 + k // len(rows) % 4
        # Of one voice: the recording and others of its speaker, as far as there are any.
        same = [row for row in rows[start:] + rows[:start] if speakers[row[0]] == speakers[rows[start][0]]][:count]
        name = f"{rows[start][0]}-{k:04}"
        samples = np.concatenate([audio[row[0]][0] for row in same])
        rate = audio[same[0][0]][1]
        soundfile.write(folder / "wavs" / f"{name}.wav", samples, rate, subtype="PCM_16")
        seconds += len(samples) / rate
        text = " ".join(row[-1] for row in same)
        index.append(f"{name}|{text}|{text}\n")
        voices.append(f"{name}|{speakers[same[0][0]]}\n")
    (folder / "metadata.csv").write_text("".join(index), encoding="utf-8")
    (folder / "speakers.csv").write_text("".join(voices), encoding="utf-8")
    return seconds


def plain_loop(source: str, out: str) -> None:
    """Without calib's command: one utterance after the other."""
    import torch

    from calib.data.audio import read_audio
    from calib.data.sources import open_source
    from calib.mel.frontend import FrontEnd
    from calib.models.loading import load_model
    from calib.models.protocol import Utterance

    torch.set_num_threads(1)
    model = load_model("reference")
    frontend = FrontEnd.load(model.frontend)
    Path(out).mkdir()
    for item in open_source(source):
        mel = frontend.mel(read_audio(item.audio or "", frontend.sample_rate).samples)
        (made,) = model.teacher_force([Utterance(item.id, mel, item.text, item.speaker, item.language)])
        np.save(Path(out) / f"{item.id}.pred.npy", made)
        np.save(Path(out) / f"{item.id}.target.npy", mel)


def timed(name: str, source: Path, out: Path) -> dict[str, float]:
    """One whole process: wall-clock and CPU time in s, peak memory of its largest process in MB."""
    if name == "plain loop":
        arguments = [sys.executable, __file__, "--plain", str(source), str(out)]
    else:
        code = "import sys\nfrom calib.cli import main\nif __name__ == '__main__':\n    main(sys.argv[1:])"
        arguments = [sys.executable, "-c", code, "teacher-force", str(source), "-o", str(out), "--files", *PROGRAMS[name], "-q"]  # fmt: skip
    environment = {**os.environ, **THREADS, "PYTHONPATH": str(HERE.parent)}
    started = time.monotonic()
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name}: exit code {process.returncode}")
    return {"wall": time.monotonic() - started, "cpu": usage.ru_utime + usage.ru_stime, "mb": usage.ru_maxrss / 1024}


def padding(source: Path) -> dict[str, float]:
    """Padding as a share of the frames that the model computes, for batches of 8."""
    from calib.commands.batching import Batching
    from calib.data.audio import audio_seconds
    from calib.data.sources import open_source

    items = sorted((item.id, int(audio_seconds(item.audio or "") * 22050 / 256)) for item in open_source(str(source)))
    batching = Batching(8, 16_384, 128)
    shares = {}
    for label, groups in (
        ("in the order of ids", [list(range(k, min(k + 8, len(items)))) for k in range(0, len(items), 8)]),
        (
            "by length",
            [
                [numbers[k] for k in batch]
                for window in range(batching.windows(len(items)))
                for numbers in [batching.numbers(window, len(items))]
                for batch in batching.cut([items[k][1] for k in numbers], [items[k][0] for k in numbers])
            ],
        ),
    ):
        computed = sum(len(group) * max(items[k][1] for k in group) for group in groups)
        shares[label] = round(1 - sum(length for _, length in items) / computed, 4)
    return shares


def million(folder: Path) -> dict[str, float]:
    """Sorting a million items on disk: CPU time in s, growth of memory in MB; then reading a window of them."""
    from calib.data.plan import Plan
    from calib.data.sources import Item

    items = (
        Item(f"utterance-{k * 7919 % MILLION:08}", Path(f"/corpus/{k % 97}/{k}.flac"), None, "some words that are spoken here, sixty characters of them", f"s{k % 1000}", "en", 5.0)
        for k in range(MILLION)
    )  # fmt: skip
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    plan = Plan.write(items, folder / "plan")
    seconds = time.process_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    started = time.process_time()
    plan.items(range(500_000, 500_128))
    return {"cpu_seconds": round(seconds, 1), "memory_mb": round(grown), "window_of_128_ms": round(1e3 * (time.process_time() - started), 1)}  # fmt: skip


def main() -> None:
    """Run everything, write the result."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        of_a_million = million(folder)  # first: memory is counted by its peak
        seconds = corpus(folder / "corpus")
        best: dict[str, dict[str, float]] = {}
        for k in range(ROUNDS):
            for program in PROGRAMS:
                found = timed(program, folder / "corpus", folder / f"out-{k}-{list(PROGRAMS).index(program)}")
                best[program] = {key: min(value, best.get(program, found)[key]) for key, value in found.items()}
        shares = padding(folder / "corpus")
    rows: dict[str, Any] = {
        program: {
            "utterances_per_s": round(UTTERANCES / one["wall"], 1),
            "times_real_time": round(seconds / one["wall"], 1),
            "wall_s": round(one["wall"], 2),
            "cpu_s": round(one["cpu"], 2),
            "memory_of_a_process_mb": round(one["mb"]),
        }
        for program, one in best.items()
    }
    result = {
        "what": f"{UTTERANCES} recordings ({seconds:.0f} s of audio), reference model on the CPU, one library thread a process, whole process, best of {ROUNDS} alternating rounds",
        "programs": rows,
        "padding_as_a_share_of_computed_frames": shares,
        "sorting_a_million_items": of_a_million,
        "load_average_at_the_end": [round(value, 1) for value in os.getloadavg()],
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("numpy", "scipy", "torch")}
        | {"python": platform.python_version(), "machine": platform.machine()},
    }
    (HERE / "teacher_force.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--plain"]:
        plain_loop(*sys.argv[2:4])
    else:
        main()
