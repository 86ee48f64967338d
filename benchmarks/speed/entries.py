"""Who is measured: `calib` in its forms, the peers that the given environment has, and the bound."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Entry", "calib", "everybody"]

_PEERS = Path(__file__).resolve().parent / "peers"

# Driver, options, the module it needs, what it is called, and whether its front end is HiFi-GAN's.
_FIELD = (
    ("coqui", (), "TTS", "Coqui `compute_statistics`", False),
    ("matcha_stats", ("20",), "matcha", "Matcha-TTS `generate_data_statistics`, 20 workers as shipped", True),
    ("matcha_stats", ("2",), "matcha", "Matcha-TTS `generate_data_statistics`, 2 workers", True),
    ("pwg_stats", (), "parallel_wavegan", "ParallelWaveGAN `preprocess` + `compute_statistics`", False),
    ("espnet_stats", (), "espnet2", "ESPnet `collect_stats`", False),
    ("hifigan_loop", (), "matcha", "HiFi-GAN's torch mel in a loop", True),
    ("librosa_loop", (), "librosa", "soundfile + `librosa.stft` loop", False),
    ("lhotse_fbank", (), "lhotse", "lhotse `compute_global_feature_stats`, Fbank on the fly", False),
)


@dataclass(frozen=True)
class Entry:
    """One competitor.

    Args:
        key: for results.json.
        title: for people.
        command: with ``{corpus}`` and ``{out}``.
        environment: added to the common one.
        kind: ``calib``, ``peer`` or ``bound``.
        same_front_end: whether its mean and sd can be compared with HiFi-GAN's.
    """

    key: str
    title: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    kind: str = "peer"
    same_front_end: bool = False

    def line(self, corpus: Path, out: Path) -> list[str]:
        """The command line."""
        return [part.format(corpus=corpus, out=out) for part in self.command]


def calib(path: str, jobs: int) -> Entry:
    """``calib stats``; ``path``: ``0`` (pure), or the name of a kernel."""
    binary = str(Path(sys.executable).with_name("calib"))
    return Entry(
        f"calib_{'pure' if path == '0' else path}_{jobs}",
        f"**calib stats**, {'pure' if path == '0' else f'kernel {path}'}, --jobs {jobs}",
        (binary, "stats", "{corpus}", "--frontend", "hifigan", "--jobs", str(jobs), "-o", "{out}", "--force", "--fresh", "-q"),
        {"CALIB_NATIVE": path},
        "calib",
        same_front_end=True,
    )  # fmt: skip


def everybody(venv: Path | None, kernel: str | None) -> tuple[list[Entry], dict[str, str]]:
    """The competitors, and title to reason of those that cannot take part.

    Args:
        venv: environment with the peers, or None.
        kernel: name of the best kernel here, or None.
    """
    out = [calib("0", 2), calib("0", 1)]
    absent = {}
    if kernel is None:
        absent["calib stats with the compiled kernel"] = "it was not built at install"
    else:
        out += [calib(kernel, 2), calib(kernel, 1)]
    for driver, options, module, title, same in _FIELD:
        if venv is None:
            absent[title] = "no environment was given (--peers VENV)"
            continue
        python = venv / "bin" / "python"
        if reason := _missing(python, module):
            absent[title] = reason
            continue
        command = (str(python), str(_PEERS / f"{driver}.py"), "{corpus}", "{out}", *options)
        out.append(Entry("_".join((driver, *options)), title, command, same_front_end=same))
    for jobs in (2, 1):
        command = (sys.executable, str(_PEERS / "bound.py"), "{corpus}", "{out}", str(jobs))
        out.append(Entry(f"bound_{jobs}", f"bound: decode + scipy rfft alone, {jobs} process{'es' * (jobs > 1)}", command, kind="bound"))  # fmt: skip
    return out, absent


def _missing(python: Path, module: str) -> str:
    """Why a peer cannot take part; "" where it can."""
    if not python.exists():
        return f"{python} is not there"
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    done = subprocess.run([str(python), "-c", code], capture_output=True, check=False)
    return f"{module} is not installed in {python.parents[1]}" if done.returncode else ""
