"""Numbers that people write: FFT lengths and edges of banks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from calib.mel.identify.spectra import Core

__all__ = ["WIDTHS", "n_ffts", "usual"]

# Widths of windows that resolve alike, by shape.
WIDTHS = {"hann": 1.0, "hamming": 0.92, "rectangular": 0.7}

_N_FFT = (256, 320, 400, 480, 512, 600, 640, 800, 882, 960, 1000, 1024, 1102, 1103, 1200, 1280, 1323, 1536, 1600, 1764, 1920, 2000, 2048, 2205, 2400, 2560, 3072, 3200, 4096, 8192)  # fmt: skip
_ROUND_HZ = (0.0, 20.0, 30.0, 40.0, 50.0, 55.0, 60.0, 64.0, 65.0, 70.0, 75.0, 80.0, 90.0, 95.0, 100.0, 110.0, 120.0, 125.0, 130.0, 133.3333, 150.0, 160.0, 180.0, 200.0, 250.0, 300.0)  # fmt: skip


def n_ffts(core: Core) -> list[int]:
    """FFT lengths that a window of this width may have."""
    low, high = core.width * 0.985, core.width * 4.2
    return sorted({n for n in _N_FFT if low <= n <= high} | {round(core.width)})


def usual(value: float, error: float, extra: Sequence[float] = ()) -> Iterator[float]:
    """Values that people write near a frequency in Hz, the usual ones first."""
    for known in (*extra, *_ROUND_HZ):
        if abs(known - value) <= error:
            yield known
    for step in (1000.0, 500.0, 100.0, 50.0, 10.0, 5.0, 1.0, 0.5, 0.1):
        near = round(value / step) * step
        if abs(near - value) <= error:
            yield near
