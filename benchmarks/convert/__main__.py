"""``python -m benchmarks.convert [--out DIR] [--corpora report|dev] [PAIR ...]``: tables and results.json.

Report corpora, on which no figure of the method was chosen: de_kerstin (48 kHz, 24 clips), fa_virgool (44.1 kHz),
en_libritts_multi, en_librivox_sonnet and zh_aishell3_multi (22.05 kHz), in two halves without a common speaker. Every
pair is fitted on one half and tested on the other, both ways; errors are pooled. Cells that count: target bins centred
below 10.3 kHz, target above its guard, as in the research notes. One thing followed a first run here, in which ``power2``
came out at 1.69 and ``xtts_dvae`` at 1.07: targets are learned from below their guard (`_BELOW` in the converter). Its
value was set on LJSpeech and half of the demo speakers.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import soxr
from threadpoolctl import threadpool_limits

from benchmarks.convert.baselines import Sample, errors
from calib import __version__
from calib.data.audio import read_audio
from calib.demo import CORPUS
from calib.mel.convert import Converter, Example, example, plan
from calib.mel.convert.grids import bin_edges, positions
from calib.mel.convert.regression import DB
from calib.mel.frontend import FrontEnd
from calib.mel.relation import guard

TO = ("tacotron2_nv", "nemo_fastpitch_22k", "bigvgan_v2_22k_80_nyq", "coqui_vits", "myxtts_utils_audio", "pwg_ljspeech", "nemo_featurizer_log1p", "htk", "power2", "xtts_dvae", "xtts_v2_gpt_cond", "vocos_mel_24k", "bigvgan_24k_100", "styletts2", "pwg_24k", "cosyvoice2_24k", "hf_speecht5")  # fmt: skip
FROM = ("tacotron2_nv", "bigvgan_v2_22k_80_nyq", "coqui_vits", "myxtts_utils_audio", "pwg_ljspeech", "xtts_dvae", "xtts_v2_gpt_cond", "vocos_mel_24k", "bigvgan_24k_100", "styletts2", "pwg_24k", "cosyvoice2_24k", "hf_speecht5")  # fmt: skip
HUB = "hifigan_jik"
HIGHEST = 10_300.0  # Hz; recordings at 22.05 kHz hold nothing above
_ROOT = Path(__file__).resolve().parents[2]
_KERSTIN = 24
Clip = tuple[str, str, np.ndarray, int]  # id, speaker, samples, rate in Hz


def front_end(name: str) -> FrontEnd:
    """By name; ``htk`` and ``power2`` are the two hypothetical ones of the notes. What NeMo overwrites is kept."""
    hub = FrontEnd.load(HUB).fields()
    if name in {"htk", "power2"}:
        return FrontEnd.from_fields({**hub, **({"mel_scale": "htk"} if name == "htk" else {"power": 2})})
    return FrontEnd.from_fields({**FrontEnd.load(name).fields(), "overwrite_last": 0, "overwrite_value": 0.0, "pad_audio": 0, "frame_multiple": 1})  # fmt: skip


def halves(which: str) -> tuple[list[Clip], list[Clip]]:
    """Two lists of recordings without a common speaker."""
    base = next(b / "shared/data/speech" for b in (_ROOT.parent, _ROOT) if (b / "shared/data/speech").is_dir())

    def read(folder: str, most: int | None = None) -> list[Clip]:
        table = base / folder / "speakers.csv"
        rows = table.read_text("utf-8-sig").splitlines() if table.is_file() else []
        speakers = dict(row.split("|")[:2] for row in rows)
        out = []
        for path in sorted((base / folder / "wavs").iterdir())[:most]:
            audio = read_audio(path)
            out.append((path.stem, speakers.get(path.stem, folder), audio.samples, audio.source_rate))
        return out

    if which == "dev":
        demo = [(p.stem, p.stem[:3], read_audio(p).samples, 22050) for p in sorted((CORPUS / "wavs").iterdir())[::2]]
        return read("en_ljspeech"), demo
    libritts, aishell = read("en_libritts_multi"), read("zh_aishell3_multi")
    return (
        [*read("de_kerstin", _KERSTIN), *libritts[::2], *aishell[::2]],
        [*read("en_librivox_sonnet"), *read("fa_virgool"), *libritts[1::2], *aishell[1::2]],
    )


def examples(clips: list[Clip], source: FrontEnd, target: FrontEnd) -> list[Example]:
    """Both mels of every recording."""
    out = []
    for name, speaker, samples, rate in clips:

        def recording(wanted: int, samples: np.ndarray = samples, rate: int = rate) -> np.ndarray:
            return samples if wanted == rate else np.asarray(soxr.resample(samples, rate, wanted, quality="HQ"))

        out.append(example(source, target, name, recording, speaker))
    return out


def sample(one: Example, source: FrontEnd, target: FrontEnd) -> Sample:
    """As the four methods read it."""
    lowest = guard(target)
    where = positions(source, target, len(one.linear))
    inside = (where > -0.6) & (where < len(one.mel) - 0.4)
    linear = np.maximum(one.linear[inside], lowest)
    counts = (one.linear[inside] > lowest) & (bin_edges(target)[1:-1] < HIGHEST)
    floor = np.maximum(guard(source), 1e-12)
    x = np.log(np.maximum(source.to_linear(one.mel), floor)) / source.power
    return Sample(x, np.log(linear) / target.power, counts, where[inside])


def own_error(converter: Converter, tests: list[Example]) -> tuple[float, int]:
    """Sum of absolute errors in ln units of the converted mels, and how many cells."""
    source, target = converter.plan.source, converter.plan.target
    lowest = guard(target)
    wrong, cells = 0.0, 0
    for one in tests:
        s = sample(one, source, target)
        where = positions(source, target, len(one.linear))
        inside = (where > -0.6) & (where < len(one.mel) - 0.4)
        made = converter.convert(one.mel, None)  # through the target's guard, as a vocoder gets it
        linear = target.to_linear(made.mel)
        frames = min(len(linear), len(inside))
        rows = np.flatnonzero(inside[:frames])
        kept = np.isin(np.flatnonzero(inside), rows)
        logs = np.log(np.maximum(linear[rows], lowest)) / target.power
        wrong += float(np.abs(logs - s.y[kept])[s.counts[kept]].sum())
        cells += int(s.counts[kept].sum())
    return wrong, cells


def one_pair(name: str, left: list[Clip], right: list[Clip]) -> dict[str, Any]:
    """Both directions of fit and test for one pair of front ends."""
    source, target = (front_end(part) for part in name.split(" -> "))
    chosen = plan(source, target, audio=True, pairs=True, allow_loss=True)
    sides = [examples(clips, source, target) for clips in (left, right)]
    row: dict[str, Any] = {"pair": name, "how": chosen.how, "fits": []}
    wrong = cells = 0.0
    base: dict[str, float] = {}
    for fitted, tested in ((0, 1), (1, 0)):
        started = time.process_time()
        converter = Converter.fit(chosen, sides[fitted])
        took = time.process_time() - started
        error, count = own_error(converter, sides[tested])
        found = errors(source, target, *([sample(e, source, target) for e in sides[side]] for side in (fitted, tested)))
        for method, value in found.items():
            base[method] = base.get(method, 0.0) + value * count
        wrong, cells = wrong + error, cells + count
        fit = converter.measured
        assert fit is not None
        row["fits"].append({"level": fit.level, "strength": fit.strength, "stated_db": fit.error_db, "low_db": fit.low_db, "high_db": fit.high_db, "actual_db": DB * error / count, "at_guard": fit.at_guard, "cpu_s": took, "left_out": fit.left_out})  # fmt: skip
    row["calib"] = wrong / cells
    row["baselines"] = {method: value / cells for method, value in base.items()}
    row["best"] = min(row["baselines"], key=row["baselines"].__getitem__)
    row["ratio"] = row["calib"] / row["baselines"][row["best"]]
    alone = plan(source, target, audio=False, pairs=True, allow_loss=True)
    demo = [(p.stem, p.stem[:3], read_audio(p).samples, 22050) for p in sorted((CORPUS / "wavs").iterdir())]
    inverted = Converter.fit(alone, examples(demo, source, target))
    sums = np.sum([own_error(inverted, side) for side in sides], axis=0)
    assert inverted.measured is not None
    row["no_audio"] = {"stated_db": inverted.measured.error_db, "high_db": inverted.measured.high_db, "actual_db": DB * float(sums[0] / sums[1])}  # fmt: skip
    return row


def table(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """RESULTS.md."""
    met = sum(row["ratio"] <= 1.05 for row in rows)
    better = sum(row["ratio"] < 1.0 for row in rows)
    lines = [
        "# Conversion between front ends",
        "",
        f"`python -m benchmarks.convert`: {len(rows)} pairs in {facts['seconds']:.0f} s of wall time, {facts['cpu_s']:.0f} s of CPU, on {facts['machine']}; calib {facts['calib']}, numpy {facts['numpy']}, scipy {facts['scipy']}.",
        "",
        (__doc__ or "").split("\n\n", 1)[1].strip().replace("\n", " "),
        "",
        f"**No worse than 1.05 times the best of the four methods: {met} of {len(rows)} pairs. Better than the best of them: {better} of {len(rows)}.**",
        "",
        "Errors in ln units of magnitude (times 8.686: dB). The four methods are those of `baselines.py`; the strength of their ridges was chosen on the test speakers, in their favour.",
        "",
        "| from | to | affine | pinv + offset | ridge | ctx3 | calib | ratio to best |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        b = row["baselines"]
        cells = [f"{b[m]:.3f}" if m in b else "-" for m in ("affine", "pinv", "ridge", "ctx3")]
        lines.append(f"| {row['pair'].replace(' -> ', ' | ')} | {' | '.join(cells)} | **{row['calib']:.3f}** | {row['ratio']:.2f}{' (not met)' if row['ratio'] > 1.05 else ''} |")  # fmt: skip
    lines += [
        "",
        "## What was said before, and what came",
        "",
        "In dB. *Stated* is the cross-validated error on the half that was fitted, with what nine in ten of its utterances have; *actual* is that of the other half: other speakers, other rooms, another language. Stated is over all bins; actual leaves out those above 10.3 kHz, which half of the recordings do not hold, so that it is lower where the target reaches higher. Without recordings the inversion alone is used, and what is stated was measured on the synthetic voices that come with calib.",
        "",
        "| pair | stated (spread) | actual | stated (spread) | actual | columns | without recordings: stated | actual |",
        "|---|---|---|---|---|---|---|---|",
    ]
    inside = 0
    for row in rows:
        said = []
        for fit in row["fits"]:
            inside += fit["low_db"] <= fit["actual_db"] <= fit["high_db"]
            said += [f"{fit['stated_db']:.2f} ({fit['low_db']:.2f}-{fit['high_db']:.2f})", f"{fit['actual_db']:.2f}"]
        none = row["no_audio"]
        lines.append(f"| {row['pair']} | {' | '.join(said)} | {', '.join(fit['level'] for fit in row['fits'])} | {none['stated_db']:.2f} | {none['actual_db']:.2f} |")  # fmt: skip
    lines += ["", f"The error came out within the stated spread in {inside} of {2 * len(rows)} fits.", ""]
    return "\n".join(lines)


def main() -> None:
    """Run everything, or the pairs named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="*")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--render", action="store_true", help="write RESULTS.md from results.json again")
    parser.add_argument("--corpora", choices=("report", "dev"), default="report")
    chosen = parser.parse_args()
    if chosen.render:
        found = json.loads((chosen.out / "results.json").read_text(encoding="utf-8"))
        (chosen.out / "RESULTS.md").write_text(table(found["rows"], found["facts"]), encoding="utf-8")
        return
    names = chosen.pairs or [*(f"{HUB} -> {name}" for name in TO), *(f"{name} -> {HUB}" for name in FROM)]
    started, cpu = time.time(), time.process_time()
    rows = []
    with threadpool_limits(1):
        left, right = halves(chosen.corpora)
        for name in names:
            rows.append(one_pair(name, left, right))
            row = rows[-1]
            print(f"{name}: calib {row['calib']:.4f}, best {row['best']} {row['baselines'][row['best']]:.4f}, ratio {row['ratio']:.3f}", flush=True)  # fmt: skip
    facts = {
        "calib": __version__, "numpy": np.__version__, "scipy": scipy.__version__, "python": platform.python_version(), "machine": platform.machine(),
        "seconds": time.time() - started, "cpu_s": time.process_time() - cpu, "corpora": chosen.corpora, "speakers": [sorted({c[1] for c in side}) for side in (left, right)],
    }  # fmt: skip
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "results.json").write_text(json.dumps({"facts": facts, "rows": rows}, indent=1), encoding="utf-8")
    (chosen.out / "RESULTS.md").write_text(table(rows, facts), encoding="utf-8")


if __name__ == "__main__":
    main()
