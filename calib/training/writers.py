"""A `Reading` to TensorBoard through its ordinary ``SummaryWriter``, or to any function of ``(scalars, step)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from calib.training.monitor import Reading

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["log_reading", "reading_figure"]

_FRAMES = 400  # of the longest picture


def log_reading(writer: Any, reading: Reading, *, prefix: str = "calib", figures: bool = True) -> None:
    """Scalars, the verdict as text, and a picture, as far as the writer takes them.

    Args:
        writer: anything with ``add_scalar(name, value, step)`` and, if it likes, ``add_text`` and ``add_figure``; or a
            function of ``(scalars, step)``, for example ``lambda s, step: wandb.log(s, step=step)``.
        reading: what to log.
        prefix: of the names.
        figures: with the picture.
    """
    named = {f"{prefix}/{name}": value for name, value in reading.scalars.items()}
    if hasattr(writer, "add_scalar"):
        for name, value in named.items():
            writer.add_scalar(name, value, reading.step)
    elif callable(writer):
        writer(named, reading.step)
    if hasattr(writer, "add_text"):
        writer.add_text(f"{prefix}/verdict", reading.markdown(), reading.step)
    if figures and hasattr(writer, "add_figure") and (figure := reading_figure(reading)) is not None:
        writer.add_figure(f"{prefix}/mels", figure, reading.step)


def reading_figure(reading: Reading) -> Figure | None:
    """Target and prediction of the held utterance with the median error on one scale, and the spectra's means."""
    from calib.report.svg import drawing

    d, sample = reading.diagnosis, reading.sample
    finite = [k for k, (p, y) in enumerate(sample.pairs) if np.isfinite(p).all() and np.isfinite(y).all()]
    if not finite:
        return None
    errors = sorted(finite, key=lambda k: (float(np.abs(sample.pairs[k][0] - sample.pairs[k][1]).mean()), k))
    p, y = (mel[:_FRAMES] for mel in sample.pairs[errors[len(errors) // 2]])
    low, high = (float(q) for q in np.quantile(y, (0.001, 0.999)))
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 5.4), layout="constrained", facecolor="white")
        axes = figure.subplots(3, 1, height_ratios=(1, 1, 1.1))
        for ax, mel, name in ((axes[0], y, "target"), (axes[1], p, "prediction")):
            ax.imshow(mel.T, origin="lower", aspect="auto", vmin=low, vmax=max(high, low + 1e-6), interpolation="none")
            ax.set(ylabel="mel bin", title=f"{name}, {reading.unit}, {low:.3g} to {high:.3g}")
        stacked = [np.concatenate([sample.pairs[k][side] for k in finite]) for side in (1, 0)]
        for values, name, colour in zip(stacked, ("target", "prediction"), ("#2563ab", "#c2550a"), strict=True):
            mean, sd = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
            bins = np.arange(mean.size)
            axes[2].fill_between(bins, mean - sd, mean + sd, color=colour, alpha=0.2, linewidth=0)
            axes[2].plot(bins, mean, color=colour, label=f"{name}: mean and sd")
        axes[2].set(xlabel="mel bin, low to high", ylabel=reading.unit)
        axes[2].legend()
        figure.suptitle(f"step {reading.step}: {d.verdict.headline}")
    return figure
