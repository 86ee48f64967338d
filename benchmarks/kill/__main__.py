"""A hundred random SIGKILLs over ``calib stats``, a torn ledger now and then, and a Ray worker killed: the same bytes?

    python benchmarks/kill [--kills 100] [--clips 4096] [--seed 0] [--no-ray]

Each start takes one to three processes by chance and is killed after 0 to 3 s by chance, wherever it is then. After one
kill in five the ledger loses its last bytes, as a power cut would have it. When a run ends before its kill comes, its
result is compared with that of an uninterrupted run, byte by byte, and the next run starts from nothing. After every
kill all workers have to be gone within 3 s. The last result is in ``results.json``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from calib import __version__

HERE = Path(__file__).resolve().parent
RATE = 22050
VOICES = 32
LONGEST = 3.0  # s until the kill


def build(folder: Path, clips: int) -> Path:
    """An index of so many clips of 3 to 9 s; 32 different ones."""
    rng = np.random.default_rng(0)
    for k in range(VOICES):
        t = np.arange(int(RATE * rng.uniform(3, 9))) / RATE
        wave = sum(np.sin(2 * np.pi * 110 * h * t * (1 + 0.02 * np.sin(3 * t + k))) / h for h in range(1, 30))
        wave = 0.1 * wave * (0.5 + 0.5 * np.sin(2 * np.pi * 2.5 * t)) + 1e-3 * rng.standard_normal(t.size)
        soundfile.write(folder / f"v{k}.wav", wave, RATE, subtype="PCM_16")
    (folder / "broken.wav").write_text("no audio")
    rows = [{"id": f"u{k}", "audio_filepath": f"v{k % VOICES}.wav", "speaker": f"s{k % 5}"} for k in range(clips)]
    rows.append({"id": "broken", "audio_filepath": "broken.wav", "speaker": "s0"})
    path = folder / "list.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def calib(arguments: list[str], before: str = "") -> list[str]:
    """``calib ARGUMENTS`` in a process, after some lines of Python."""
    return [sys.executable, "-c", f"{before}\nfrom calib.cli import main\nmain({arguments!r})"]


def living(mark: str) -> list[int]:
    """Processes with this text in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in line:
                found.append(int(entry.name))
    return found


def kills(corpus: Path, folder: Path, want: bytes, count: int, seed: int) -> dict[str, Any]:
    """So many kills; what came of them."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    output = folder / "killed.json"
    ledger = folder / "killed.json.ledger"
    out: dict[str, Any] = {"kills": 0, "torn": 0, "runs": 0, "identical": 0, "orphans": 0, "slowest_end_s": 0.0, "errors": []}  # fmt: skip
    while out["kills"] < count or ledger.exists():
        jobs = rng.choice([1, 2, 3])
        arguments = ["stats", str(corpus), "--frontend", "hifigan", "-q", "-o", str(output), "--jobs", str(jobs)]
        with subprocess.Popen(calib(arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
            assert run.stderr is not None
            try:
                run.wait(rng.uniform(0, LONGEST) if out["kills"] < count else None)
            except subprocess.TimeoutExpired:
                run.kill()
                run.wait()
                out["kills"] += 1
                killed = time.monotonic()
                while living(str(output)) and time.monotonic() - killed < 3:
                    time.sleep(0.005)
                out["orphans"] += len(living(str(output)))
                out["slowest_end_s"] = round(max(out["slowest_end_s"], time.monotonic() - killed), 3)
                if rng.random() < 0.2 and ledger.exists():
                    with ledger.open("r+b") as file:
                        file.truncate(max(0, ledger.stat().st_size - rng.randrange(1, 20000)))
                    out["torn"] += 1
            else:
                if run.returncode:
                    out["errors"].append(run.stderr.read())
                    ledger.unlink(missing_ok=True)
            if output.exists():  # also where the kill came after the result and before the end
                out["runs"] += 1
                out["identical"] += output.read_bytes() == want
                output.unlink()
                ledger.unlink(missing_ok=True)
    return out


def ray(corpus: Path, folder: Path, want: bytes) -> dict[str, Any]:
    """Two Ray workers, one of them killed."""
    output = folder / "ray.json"
    before = f"import sys\nsys.path.insert(0, {str(HERE)!r})\nimport raykill\nraykill.kill_one_worker(5, 64)"
    arguments = ["stats", str(corpus), "--frontend", "hifigan", "--engine", "ray", "--jobs", "2", "-o", str(output)]
    started = time.monotonic()
    done = subprocess.run(calib(arguments, before), capture_output=True, text=True, check=False)
    return {
        "identical": output.exists() and output.read_bytes() == want,
        "killed": "killed a Ray worker" in done.stderr,
        "exit": done.returncode,
        "seconds": round(time.monotonic() - started, 1),
        "error": done.stderr if done.returncode else None,
    }


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--clips", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-ray", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="calib-kill-") as name:
        folder = Path(name)
        corpus = build(folder, options.clips)
        started = time.monotonic()
        output = folder / "whole.json"
        arguments = ["stats", str(corpus), "--frontend", "hifigan", "-q", "-o", str(output)]
        subprocess.run(calib(arguments), check=True, stdout=subprocess.DEVNULL)
        whole_s = time.monotonic() - started
        want = output.read_bytes()
        result = {
            "hours_of_audio": round(json.loads(want)["hours"], 3),
            "utterances": options.clips + 1,
            "uninterrupted_s": round(whole_s, 2),
            "seed": options.seed,
            "sigkill": kills(corpus, folder, want, options.kills, options.seed),
            "ray": None,
            "versions": {"calib": __version__, "numpy": np.__version__, "python": platform.python_version(), "processor": platform.machine()},
        }  # fmt: skip
        if importlib.util.find_spec("ray") is None or options.no_ray:
            result["ray"] = {"skipped": "--no-ray" if options.no_ray else "ray is not installed"}
        else:
            result["ray"] = ray(corpus, folder, want)
        result["seconds"] = round(time.monotonic() - started, 1)
    text = json.dumps(result, indent=2)
    (HERE / "results.json").write_text(text + "\n", encoding="utf-8")
    print(text)
    found = result["sigkill"]
    good = found["runs"] == found["identical"] > 0 and not found["orphans"] and not found["errors"]
    return 0 if good and result["ray"].get("identical", True) else 1


if __name__ == "__main__":
    sys.exit(main())
