"""What a calibration repairs, and what training with normalised mels gives: the recipe of docs/training.md, measured.

``python benchmarks/retrain [--steps N] [--minutes-of-speech N] [--seed N] [--work DIR]``. The same network is trained
from the same speech, seed and number of steps twice: on raw mels, and with the normaliser of ``calib stats`` in place.
Both are teacher-forced on the demo corpus; the raw one is calibrated by ``calib fit-scaler``; all are scored out of
sample, and spoken free-running through Griffin-Lim. Whatever comes out is written: RESULTS.md and results.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
MODELS = ("raw", "normalised")


def calib(*arguments: object, allowed: tuple[int, ...] = (0,)) -> int:
    """One calib command as a user runs it; its exit code."""
    code = subprocess.run([sys.executable, "-m", "calib", *map(str, arguments)], check=False).returncode
    if code not in allowed:
        raise SystemExit(f"calib {' '.join(map(str, arguments))}: exit {code}")
    return code


def train(*arguments: object) -> None:
    """The reference model's trainer."""
    subprocess.run([sys.executable, "-m", "calib.models.reference.train", *map(str, arguments)], check=True)


def judged(work: Path, name: str, params: Path | None) -> dict[str, Any]:
    """A model's pairs, the verdict, and what fit-scaler does with them."""
    pairs = work / "pairs" / name
    calib("teacher-force", "demo:corpus", "--checkpoint", work / name / "model.safetensors", "-o", pairs, "--force")
    calib("diagnose", pairs, "--stats", work / "stats.json", "--json", work / f"{name}.json", "--force")
    diagnosis = json.loads((work / f"{name}.json").read_text())
    written = False
    if params is not None:
        code = calib("fit-scaler", pairs, "--stats", work / "stats.json", "-o", params, "--force", allowed=(0, 5))
        written = code == 0
    rows = {row["name"]: row for row in diagnosis["rows"]}
    summary = diagnosis["summary"]
    return {
        "verdict": diagnosis["verdict"]["state"],
        "method": diagnosis["method"],
        "written": written,
        "r_w": summary["r_w"],
        "s_w_ratio": summary["s_w_ratio"],
        "removable_share": summary["removable_share"],
        "before": {key: rows["before"][key] for key in ("mae", "rmse")},
        "after": {key: rows[_after(diagnosis)][key] for key in ("mae", "rmse")},
        "bin_mean": {key: rows["bin_mean"][key] for key in ("mae", "rmse")},
    }


def _after(diagnosis: dict[str, Any]) -> str:
    return "before" if diagnosis["method"] == "identity" else str(diagnosis["method"])


def spoken(work: Path, name: str, params: Path | None) -> dict[str, float]:
    """Free running with aligned durations: the mel, calibrated where there are parameters, against the true mel."""
    from calib.mel.frontend import FrontEnd
    from calib.models.reference import corpus, factory
    from calib.params import MelScaler
    from calib.vocoders.griffin_lim import GriffinLim

    model = factory(str(work / name / "model.safetensors"), "cpu")
    scaler = None if params is None else MelScaler.load(params, work / "stats.json")
    frontend, vocoder = FrontEnd.load("hifigan"), GriffinLim("hifigan", iterations=32)
    mels, audio = [], []
    for u in corpus.utterances()[::4]:
        mel = model.generate(u.text, speaker_audio=u.audio, language=u.language, durations=model.durations(u).tolist())
        mel = mel if scaler is None else np.asarray(scaler.calibrate(mel), dtype=np.float32)
        heard = frontend.mel(vocoder.vocode(mel)[0])
        n = min(len(mel), len(u.mel), len(heard))
        mels.append(np.abs(mel[:n] - u.mel[:n]).mean())
        audio.append(np.abs(heard[:n] - u.mel[:n]).mean())
    return {"mel_mae": float(np.mean(mels)), "audio_mae": float(np.mean(audio)), "utterances": len(mels)}


def main() -> None:
    """Train both, judge both, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=750)
    parser.add_argument("--minutes-of-speech", type=float, default=39.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=Path, help="folder for everything made; what is trained there is not trained again"
    )
    options = parser.parse_args()
    common = ("--minutes-of-speech", options.minutes_of_speech, "--seed", options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        if not (work / "stats.json").exists():
            train("--speech", "--out", work / "speech", "--force", *common)
            calib("stats", work / "speech", "--frontend", "hifigan", "-o", work / "stats.json", "--force")
        for name, how in (("raw", ["--raw"]), ("normalised", ["--stats", work / "stats.json"])):
            if not (work / name / "model.safetensors").exists():
                train(*how, "--out", work / name, "--steps", options.steps, *common)
        params = work / "params.json"
        found = {name: judged(work, name, params if name == "raw" else None) for name in MODELS}
        speech = {name: spoken(work, name, None) for name in MODELS}
        if found["raw"]["written"]:
            speech["raw, calibrated"] = spoken(work, "raw", params)
        calib("report", work / "pairs" / "raw", work / "pairs" / "normalised", "-o", work / "report", "--force")
    result = {
        "steps": options.steps,
        "minutes_of_speech": options.minutes_of_speech,
        "seed": options.seed,
        "teacher_forced": found,
        "free_running": speech,
        "versions": {name: version(name) for name in ("numpy", "scipy", "torch")}
        | {"python": platform.python_version(), "machine": platform.machine()},
    }
    (HERE / "results.json").write_text(json.dumps(result, indent=2) + "\n")
    (HERE / "RESULTS.md").write_text(page(result))
    sys.stdout.write(page(result))


def page(result: dict[str, Any]) -> str:
    """The table."""
    forced, free = result["teacher_forced"], result["free_running"]
    rows = []
    for name in MODELS:
        d = forced[name]
        steps = [(name, "before")] + ([("raw, calibrated", "after")] if name == "raw" and d["written"] else [])
        for label, when in steps:
            heard = free[label]
            rows.append(
                f"| {label} | {d['verdict'].upper()} | {d['r_w']:.3f} | {d['s_w_ratio']:.3f} | {d[when]['mae']:.3f} | {d[when]['rmse']:.3f} | {heard['mel_mae']:.3f} | {heard['audio_mae']:.3f} |"
            )
    constant = forced["raw"]["bin_mean"]
    rows.append(f"| mean of each bin | | 0 | 0 | {constant['mae']:.3f} | {constant['rmse']:.3f} | | |")
    raw = forced["raw"]
    refused = "" if raw["written"] else f"`calib fit-scaler` wrote nothing for the raw model ({raw['verdict']}).\n\n"
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    return f"""# Calibrated against retrained

`python benchmarks/retrain --steps {result["steps"]} --minutes-of-speech {result["minutes_of_speech"]:g} --seed {result["seed"]}`

One network, one speech corpus (espeak, {result["minutes_of_speech"]:g} minutes), one seed, {result["steps"]} steps: trained on raw mels, and
with the normaliser of `calib stats` in place. Errors in ln magnitude on the demo corpus (held-out sentences), teacher
forced and out of sample; free running with aligned durations, the mel and the mel of its Griffin-Lim audio against the
true mel, on {free["raw"]["utterances"]} utterances.

| model | verdict | r_w | s_w ratio | MAE | RMSE | free-running MAE | MAE of the audio's mel |
|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

{refused}{versions}
"""


if __name__ == "__main__":
    main()
