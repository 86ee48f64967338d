"""The catalogue against the systems' own code, and against librosa: one row a front end.

    python benchmarks/frontends --references DIR --python PYTHON      all rows
    python benchmarks/frontends                                       librosa only; says which rows were skipped

DIR holds a checkout a repository, named ``owner+name``, at the commits listed in ``upstream.COMMITS`` (plain folders
or git repositories). PYTHON is an interpreter with torch, torchaudio, librosa and transformers; repeat ``--python`` for
one that has tensorflow. Nothing of their code is in this repository.

What is compared: speech-like synthetic audio and, where the shared corpus is there, two clips of LJSpeech, at each
front end's sample rate, and the number of frames at 26 lengths around the edges. Differences are in ln units of the
filterbank's output (a difference in a mel divided by the scale of its logarithm), the largest over all cells, once over
all of them and once away from guards: 1 ln unit or more above the value of silence, below an upper clip.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(HERE)]

from calib.mel.catalogue import CatalogueEntry, entries  # noqa: E402
from calib.mel.frontend import FrontEnd  # noqa: E402

SPEECH = Path("/work/shared/data/speech/en_ljspeech")
GOAL = 1e-4  # ln units, away from guards
READING = """Reading the table:

- *as shipped* above 1e-4 is the float32 FFT of the original in quiet cells: the rounding of the loudest bin reaches the
  quietest (most of all where the clamp is low: Vocos, 1e-7). calib windows and transforms in float64.
- myxtts_utils_audio and xtts_speaker_encoder change the samples (peak level, pre-emphasis) before the STFT. calib keeps them
  in float32, and so do the originals as shipped; against float64 samples that rounding is what is left.
- fish_diffusion_nsf takes log10 as 0.434294 ln, a truncated constant (1e-6 of the value).
- glowtts is run with the padding of librosa 0.7, which its README pins, and without its random noise.
- ESPnet, PWG, Coqui with stats_path, XTTS and Tortoise are compared before the statistics of their training data.
- coqui_torchstft_voc is the mel that its loss takes the logarithm of; styletts2 is the form of inference.
- Parameters come from the system's own configuration or its code's defaults, but for these, whose numbers stand in
  `systems.py`, read from the cited files: fish_speech_* (configurations of older commits), fastpitch_dle_22k, coqui_vits,
  coqui_torchstft_voc, rvc_rmvpe, xtts_speaker_encoder, and the STFT sizes of espnet2_*.
- hf_fastspeech2_conformer ships no feature extractor: it is compared with ESPnet's, from which it was converted.
- ESPnet's files were those of its released package (202511), not of the commit that the catalogue cites."""


def clips() -> list[tuple[str, np.ndarray, int]]:
    """Name, samples, rate: two synthetic voices (one 26 dB quieter), and real speech where it is."""
    from speechlike import RATE, voice

    out = [("voice", voice(1.3, 1), RATE), ("quiet voice", voice(0.9, 2) * np.float32(0.05), RATE)]
    found = sorted(SPEECH.rglob("*.wav")) + sorted(SPEECH.rglob("*.flac"))
    if found:
        import soundfile

        for path in found[:2]:
            x, rate = soundfile.read(path, dtype="float32")
            out.append((path.stem, x[: 3 * rate], rate))
    return out


def at_rate(x: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Resampled, at most 1 in magnitude."""
    if rate != wanted:
        import soxr

        x = soxr.resample(x, rate, wanted).astype(np.float32)
    return np.clip(x, -1.0, 1.0)


def lengths(fe: FrontEnd) -> list[int]:
    """Lengths around the edges of frames, windows and padding."""
    hop, out = fe.hop_length, set()
    for base in (fe.n_fft + hop, 2 * fe.n_fft, 2 * fe.n_fft + hop * 3):
        whole = -(-base // hop) * hop
        out |= {whole + d for d in (-1, 0, 1, hop // 2 - 1, hop // 2, hop // 2 + 1, hop - 1)}
    out |= {fe.shortest_audio + d for d in (0, 1, hop - 1, hop, hop + 1)}
    return sorted(n for n in out if n >= fe.shortest_audio and n >= 2)


def librosa_mel(fe: FrontEnd, x: np.ndarray) -> np.ndarray | None:
    """The front end's fields through librosa in float64; None where librosa has no such step (TensorFlow's bank)."""
    import warnings

    warnings.simplefilter("ignore")  # of librosa's imports, and of filters narrower than a bin of the FFT
    import librosa
    import scipy.signal

    if fe.mel_scale == "htk_tf":
        return None
    y = fe.prepare(x).astype(np.float64)
    count = fe.n_frames(y.size)
    pad = fe.pad_each_side
    y = np.pad(y, pad, mode="reflect" if fe.pad_mode == "reflect" else "constant") if pad else np.pad(y, (0, fe.n_fft))
    window = scipy.signal.get_window(fe.window, fe.win_length, fftbins=fe.window_periodic)
    spectrum = librosa.stft(
        y, n_fft=fe.n_fft, hop_length=fe.hop_length, win_length=fe.win_length, window=window, center=False, dtype=np.complex128
    )  # fmt: skip
    power = np.abs(spectrum) ** 2
    power = power + fe.spectrum_eps if fe.spectrum_eps_mode == "add" else np.maximum(power, fe.spectrum_eps)
    bank = librosa.filters.mel(
        sr=fe.fb_sample_rate, n_fft=fe.n_fft, n_mels=fe.n_mels, fmin=fe.fmin, fmax=fe.fmax, htk=fe.mel_scale == "htk", norm=fe.filter_norm, dtype=np.float64
    )  # fmt: skip
    mel = (bank @ (np.sqrt(power) if fe.power == 1 else power)).T[:count]
    if fe.log != "none":
        mel = (
            np.maximum(mel, fe.log_eps)
            if fe.log_guard == "clamp"
            else mel + fe.log_eps
            if fe.log_guard == "add"
            else mel
        )
        mel = fe.log_multiplier * (np.log(mel) if fe.log == "ln" else np.log10(mel))
    if fe.utterance_norm == "dynamic_max":
        mel = np.maximum(mel, mel.max() - fe.utterance_range)
    mel = mel * fe.post_scale + fe.post_offset
    if fe.utterance_norm == "minmax":
        mel = (mel - mel.min()) / (mel.max() - mel.min())
    elif fe.utterance_norm == "instance":
        mel = (mel - mel.mean(0)) / np.sqrt(mel.var(0) + 1e-5)
    mel = np.clip(mel, -np.inf if fe.clip_min is None else fe.clip_min, np.inf if fe.clip_max is None else fe.clip_max)
    if fe.overwrite_last:
        mel[-fe.overwrite_last :] = fe.overwrite_value
    return mel


def difference(fe: FrontEnd, x: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Largest difference in ln units, everywhere and away from guards; infinite where shapes differ."""
    ours = fe.mel(x)
    if ours.shape != other.shape:
        return {"all": float("inf"), "away": float("inf"), "cells": 0}
    plain = dataclasses.replace(fe, utterance_norm=None, overwrite_last=0)
    raw = plain.mel(x).astype(np.float64)
    apart = np.abs(ours.astype(np.float64) - other)
    if fe.log == "none":
        # ln of the two, where they are more than 1e-7 (magnitude 3e-4) of the loudest.
        away = (ours > 1e-7 * ours.max()) & (other > 0)
        apart = np.abs(np.log(np.maximum(ours, 1e-30)) - np.log(np.maximum(other, 1e-30)))
        return {"all": float(apart[away].max()), "away": float(apart[away].max()), "cells": int(away.sum())}
    affine = plain.affine_from_ln()
    assert affine is not None
    scale = np.abs(affine[0])
    if fe.utterance_norm == "minmax":
        scale = scale / max(float(np.ptp(raw)), 1e-6)
    elif fe.utterance_norm == "instance":
        scale = scale / np.sqrt(raw.var(0) + 1e-5)
    above = np.abs(raw - plain.silence) / np.abs(affine[0]) >= 1.0
    if fe.clip_max is not None:
        above &= ours < fe.clip_max
    if fe.utterance_norm == "dynamic_max":
        above &= ours > ours.min() + 0.25 * abs(fe.post_scale)
    if fe.overwrite_last:
        above[-fe.overwrite_last :] = False
    apart = apart / scale
    return {"all": float(apart.max()), "away": float(apart[above].max()), "cells": int(above.sum())}


def run_originals(references: Path, pythons: list[str], signals: dict[str, np.ndarray]) -> dict[str, Any]:
    """Results of the originals in both precisions, the reasons of those that fail, and versions."""
    out: dict[str, Any] = {"float64": {}, "float32": {}, "notes": {}, "versions": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "signals.npz"
        np.savez(path, **signals)
        names = sorted({key.split("|")[0] for key in signals})
        for python in pythons:
            left = [n for n in names if not any(key.startswith(n + "|") for key in out["float64"])]
            for precision in ("float64", "float32"):
                result = Path(folder) / f"{precision}.npz"
                subprocess.run(
                    [python, str(HERE / "originals.py"), str(references), str(path), str(result), precision, *left],
                    check=True,
                )
                with np.load(result) as archive:
                    out[precision] |= {key: archive[key] for key in archive.files if not key.startswith("__")}
                    notes = json.loads(str(archive["__notes__"]))
                    for name, why in notes.items():
                        said = out["notes"].setdefault(name, why)
                        out["notes"][name] = said if why in said else f"{said}; {why}"
                    out["versions"] |= json.loads(str(archive["__versions__"]))
    return out


def measure(references: Path | None, pythons: list[str]) -> dict[str, Any]:
    """All rows."""
    found = clips()
    signals: dict[str, np.ndarray] = {}
    for entry in entries():
        fe = entry.frontend
        for name, x, rate in found:
            signals[f"{entry.id}|{name}"] = at_rate(x, rate, fe.sample_rate)
        longest = max(lengths(fe))
        source = at_rate(found[0][1], found[0][2], fe.sample_rate)
        source = np.tile(source, -(-longest // source.size))
        for n in lengths(fe):
            signals[f"{entry.id}|length {n}"] = source[:n]
    originals = run_originals(references, pythons, signals) if references else None
    rows = [_row(entry, signals, originals) for entry in entries()]
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "librosa (independent)": _version("librosa"),
        "scipy": _version("scipy"),
    }
    return {
        "rows": rows,
        "clips": [name for name, _, _ in found],
        "versions": versions,
        "versions of the originals' interpreter": originals["versions"] if originals else {},
        "goal": f"{GOAL:g} ln away from guards",
    }


def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name)


def _row(entry: CatalogueEntry, signals: dict[str, np.ndarray], originals: dict[str, Any] | None) -> dict[str, Any]:
    fe = entry.frontend
    audio = {key: x for key, x in signals.items() if key.startswith(entry.id + "|") and "|length" not in key}
    row: dict[str, Any] = {"id": entry.id}
    independent = [(key, librosa_mel(fe, x)) for key, x in audio.items()]
    differences = [difference(fe, audio[key], mel) for key, mel in independent if mel is not None]
    row["librosa"] = _worst(differences) if differences else {"skipped": "librosa has no bank that is linear in mel"}
    if originals is None:
        row["original"] = {"skipped": "no --references"}
        return row
    got = {key: originals["float64"].get(key) for key in audio}
    if any(value is None for value in got.values()):
        row["original"] = {"skipped": originals["notes"].get(entry.id, "no result")}
        return row
    row["original"] = _worst([difference(fe, audio[key], value) for key, value in got.items()])
    row["as shipped"] = _worst([difference(fe, audio[key], originals["float32"][key]) for key in audio])
    counts = {
        key: int(originals["float64"][key])
        for key in signals
        if key.startswith(f"{entry.id}|length") and key in originals["float64"]
    }
    wrong = {}
    for key, value in counts.items():
        mine = fe.n_frames(fe.prepare(signals[key]).size)
        if mine != value:
            wrong[key.split()[-1]] = [mine, value]
    row["frames"] = {"lengths": len(counts), "wrong": wrong}
    return row


def _worst(differences: list[dict[str, float]]) -> dict[str, float]:
    return {
        "all": max(d["all"] for d in differences),
        "away": max(d["away"] for d in differences),
        "cells": sum(int(d["cells"]) for d in differences),
    }


def render(result: dict[str, Any]) -> str:
    """The table, in Markdown."""

    def cell(part: dict[str, Any] | None, key: str) -> str:
        if part is None:
            return "-"
        return "skipped" if "skipped" in part else f"{part[key]:.1e}"

    rows = result["rows"]
    compared = [row for row in rows if "away" in row["original"]]
    good = [row for row in compared if row["original"]["away"] <= GOAL and not row["frames"]["wrong"]]
    independent = [row for row in rows if "away" in row["librosa"]]
    own = (
        f"{len(good)} of {len(rows)} front ends agree with their system's own code to {GOAL:g} ln away from guards, with every frame"
        f" count; {len(compared) - len(good)} do not; {len(rows) - len(compared)} were not compared."
    )
    headline = (
        f"{own if compared else 'No front end was compared with its own code (--references).'}"
        f" {sum(row['librosa']['away'] <= GOAL for row in independent)} of {len(independent)} agree with librosa."
    )
    lines = [
        "# The catalogue against the systems' own code",
        "",
        headline,
        "",
        f"Largest absolute difference in ln units over {', '.join(result['clips'])}; calib in its float32. *original* is the system's",
        "own code evaluated in float64, *as shipped* the same in its float32 (its rounding, not ours); *away* leaves out cells within",
        "1 ln of silence; *librosa* is an independent library fed with the catalogue's fields. *frames*: numbers of frames at lengths",
        "around the edges.",
        "",
        "| front end | original, away | original, all cells | as shipped, away | librosa, away | frames |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        frames = row.get("frames")
        counted = "-" if frames is None else f"{frames['lengths'] - len(frames['wrong'])} of {frames['lengths']}"
        lines.append(
            f"| {row['id']} | {cell(row['original'], 'away')} | {cell(row['original'], 'all')} | {cell(row.get('as shipped'), 'away')} |"
            f" {cell(row['librosa'], 'away')} | {counted} |"
        )
    skipped = [
        (row["id"], part, row[part]["skipped"])
        for row in rows
        for part in ("original", "librosa")
        if "skipped" in row[part]
    ]
    wrong = [(row["id"], row["frames"]["wrong"]) for row in rows if row.get("frames", {}).get("wrong")]
    if skipped:
        lines += ["", "Not compared:", ""]
        lines += [f"- {name}, {part}: {why}" for name, part, why in skipped]
    if wrong:
        lines += ["", "Frame counts that differ (length: ours, theirs):", ""]
        lines += [f"- {name}: {counts}" for name, counts in wrong]
    lines += ["", READING]
    versions = {
        **result["versions"],
        **{f"{k} (originals)": v for k, v in result["versions of the originals' interpreter"].items()},
    }
    lines += ["", "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print and write ``results.json`` and ``RESULTS.md``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=Path, help="folder of checkouts, owner+name each")
    parser.add_argument(
        "--python", action="append", help="interpreter for the originals; repeatable (default: this one)"
    )
    parser.add_argument(
        "--output", type=Path, help="where RESULTS.md and results.json go (default: here, if there are references)"
    )
    arguments = parser.parse_args()
    started = time.perf_counter()
    result = measure(arguments.references, arguments.python or [sys.executable])
    text = render(result)
    print(text)
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
    # A run without the originals must not replace one with them.
    output = arguments.output or (HERE if arguments.references else None)
    if output:
        output.mkdir(parents=True, exist_ok=True)
        (output / "results.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (output / "RESULTS.md").write_text(text, encoding="utf-8")
    bad = [
        r["id"]
        for r in result["rows"]
        if r["librosa"].get("away", 0) > GOAL or r["original"].get("away", 0) > GOAL or r.get("frames", {}).get("wrong")
    ]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
