"""Golden mels: every step by its definition, in float64, with nothing of calib, librosa or an FFT.

    python tests/mel/golden/make.py        writes golden.npz beside it, from the fields in cases.json

Four frames (the first two, one in the middle, the last) and the number of frames of each case. The signal is a formula,
so that no audio is kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
SECONDS = 0.4


def signal(rate: int) -> np.ndarray:
    """A gliding buzz with noise from a linear congruential generator, silent at first; float32."""
    n = int(SECONDS * rate)
    time = np.arange(n) / rate
    phase = 2 * np.pi * (120 * time + 60 * time**2)
    buzz = sum(np.sin(k * phase) / k for k in range(1, 30))
    state, noise = 12345, np.empty(n)
    for k in range(n):
        state = (1103515245 * state + 12345) % 2**31
        noise[k] = state / 2**30 - 1
    loud = (time > 0.05) * (0.2 + 0.8 * np.sin(np.pi * time / SECONDS) ** 2)
    return ((0.2 * buzz + 0.02 * noise) * loud * 0.5).astype(np.float32)


def to_mel(hz: float, scale: str) -> float:
    """Hz to mel: O'Shaughnessy's formula, or Slaney's (linear to 1 kHz, then 27 steps to 6.4 kHz)."""
    if scale in {"htk", "htk_tf"}:
        return 1127.0 * np.log(1 + hz / 700) if scale == "htk_tf" else 2595 * np.log10(1 + hz / 700)
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)


def to_hz(mel: float, scale: str) -> float:
    """The inverse."""
    if scale in {"htk", "htk_tf"}:
        return 700 * (np.exp(mel / 1127.0) - 1) if scale == "htk_tf" else 700 * (10 ** (mel / 2595) - 1)
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def bank(f: dict[str, Any]) -> np.ndarray:
    """Triangles, one bin at a time: (M, K)."""
    scale, bins = f["mel_scale"], f["n_fft"] // 2 + 1
    marks = np.linspace(to_mel(f["fmin"], scale), to_mel(f["fmax"], scale), f["n_mels"] + 2)
    edges = [to_hz(mark, scale) for mark in marks]
    hertz = [k * f["fb_sample_rate"] / f["n_fft"] for k in range(bins)]
    where = [to_mel(h, scale) for h in hertz] if scale == "htk_tf" else hertz
    corners = marks if scale == "htk_tf" else edges
    rows = np.zeros((f["n_mels"], bins))
    for m in range(f["n_mels"]):
        left, centre, right = corners[m : m + 3]
        rows[m] = np.interp(where, [left, centre, right], [0.0, 1.0, 0.0], left=0.0, right=0.0)
        if f["filter_norm"] == "slaney":
            rows[m] *= 2.0 / (edges[m + 2] - edges[m])
    if scale == "htk_tf":
        rows[:, 0] = 0.0
    return rows


def window(f: dict[str, Any]) -> np.ndarray:
    """The window in the middle of n_fft zeros."""
    n = f["win_length"]
    period = n if f["window_periodic"] else n - 1
    shape = {
        "hann": [0.5 * (1 - np.cos(2 * np.pi * k / period)) for k in range(n)],
        "hamming": [0.54 - 0.46 * np.cos(2 * np.pi * k / period) for k in range(n)],
        "rectangular": [1.0] * n,
    }[f["window"]]
    before = (f["n_fft"] - n) // 2
    return np.array([0.0] * before + shape + [0.0] * (f["n_fft"] - n - before))


def prepared(f: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """Trim, levels, clip, pre-emphasis."""
    y = x.astype(np.float64)
    if f["trim_top_db"] is not None:
        size, hop = f["trim_frame_length"], f["trim_hop_length"]
        padded = np.pad(y, size // 2)
        rms = [np.sqrt(np.mean(padded[k : k + size] ** 2)) for k in range(0, len(padded) - size + 1, hop)]
        level = 20 * np.log10(np.maximum(rms, 1e-5) / max(*rms, 1e-5))
        loud = [k for k, value in enumerate(level) if value > -f["trim_top_db"]]
        y = y[loud[0] * hop : min(len(y), (loud[-1] + 1) * hop)]
    if f["rms_norm"] is not None:
        y = y * f["rms_norm"] / np.sqrt(np.mean(y**2))
    if f["peak_norm"] is not None:
        y = y * f["peak_norm"] / np.abs(y).max()
    if f["clip_audio"] is not None:
        y = np.array([min(max(v, -f["clip_audio"]), f["clip_audio"]) for v in y])
    if f["preemphasis"]:
        before = y[1] if f["preemphasis_pad"] == "reflect" else 0.0
        y = np.array([y[k] - f["preemphasis"] * (y[k - 1] if k else before) for k in range(len(y))])
    return y


def frames(f: dict[str, Any], y: np.ndarray) -> np.ndarray:
    """Padded and cut into frames: (T, n_fft)."""
    size, hop = f["n_fft"], f["hop_length"]
    y = np.concatenate([np.zeros(f["pad_audio"]), y, np.zeros(f["pad_audio"])])
    side = {"center": size // 2, "same": (size - hop) // 2}.get(f["padding"], 0)

    def sample(k: int) -> float:
        if 0 <= k < len(y):
            return float(y[k])
        if f["padding"] == "end" or f["pad_mode"] == "constant":
            return 0.0
        return float(y[-k if k < 0 else 2 * (len(y) - 1) - k])

    count = -(-len(y) // hop) if f["padding"] == "end" else 1 + (len(y) + 2 * side - size) // hop
    count -= f["drop_last"]
    count -= count % f["frame_multiple"]
    return np.array([[sample(t * hop + k - side) for k in range(size)] for t in range(count)])


def spectra(windowed: np.ndarray) -> np.ndarray:
    """Squared magnitudes of the discrete Fourier transform by its definition: (T, K)."""
    size = windowed.shape[1]
    turns = np.exp(-2j * np.pi * np.arange(size) / size)
    out = [np.abs(windowed @ turns[(k * np.arange(size)) % size]) ** 2 for k in range(size // 2 + 1)]
    return np.array(out).T


def mel(f: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """The whole front end: (T, M) float64."""
    power = spectra(frames(f, prepared(f, x)) * window(f))
    eps = f["spectrum_eps"]
    power = power + eps if f["spectrum_eps_mode"] == "add" else np.where(power < eps, eps, power)
    m = (power if f["power"] == 2 else np.sqrt(power)) @ bank(f).T
    if f["log"] != "none":
        if f["log_guard"] == "clamp":
            m = np.where(m < f["log_eps"], f["log_eps"], m)
        elif f["log_guard"] == "add":
            m = m + f["log_eps"]
        m = f["log_multiplier"] * (np.log(m) if f["log"] == "ln" else np.log10(m))
    if f["utterance_norm"] == "dynamic_max":
        m = np.maximum(m, m.max() - f["utterance_range"])
    m = f["post_scale"] * m + f["post_offset"]
    if f["post_mean"] is not None:
        m = m - np.array(f["post_mean"])
    if f["post_std"] is not None:
        m = m / np.array(f["post_std"])
    if f["utterance_norm"] == "minmax":
        m = (m - m.min()) / (m.max() - m.min())
    elif f["utterance_norm"] == "instance":
        m = (m - m.mean(0)) / np.sqrt(m.var(0) + 1e-5)
    if f["clip_min"] is not None:
        m = np.where(m < f["clip_min"], f["clip_min"], m)
    if f["clip_max"] is not None:
        m = np.where(m > f["clip_max"], f["clip_max"], m)
    if f["overwrite_last"]:
        m[len(m) - f["overwrite_last"] :] = f["overwrite_value"]
    return m


def cases() -> dict[str, dict[str, Any]]:
    """Names to complete fields."""
    data = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))
    return {name: {**data["defaults"], **fields} for name, fields in data["cases"].items()}


def kept(m: np.ndarray) -> np.ndarray:
    """The frames that are kept."""
    return m[[0, 1, len(m) // 2, -1]]


def main() -> None:
    """Write golden.npz."""
    out: dict[str, np.ndarray] = {}
    for name, fields in cases().items():
        m = mel(fields, signal(fields["sample_rate"]))
        out[f"{name}|frames"] = kept(m).astype(np.float32)
        out[f"{name}|count"] = np.array(len(m))
    np.savez_compressed(HERE / "golden.npz", **out)


if __name__ == "__main__":
    main()
