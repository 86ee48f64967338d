"""`ValidationMonitor`: collect the pairs of a validation pass, judge them as ``calib diagnose`` would, and log the result."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from calib.diagnose.analysis import Diagnosis, analyze
from calib.diagnose.loss import Floor, Loss, Normalisation, Standing, stand
from calib.diagnose.losscorpus import LossCollector
from calib.errors import UsageError
from calib.training.collect import PairCollector, Sample

__all__ = ["Reading", "ValidationMonitor"]

_LOG = logging.getLogger("calib.training")
_LOSSES = {"mse": "mse", "l2": "mse", "mae": "mae", "l1": "mae", "huber": "huber", "smooth_l1": "huber"}
_SHOWN = ("global_mean", "bin_mean")


@dataclass(frozen=True)
class Reading:
    """What one validation pass showed.

    Args:
        step: epoch or step, as given.
        diagnosis: of the sample; what ``calib diagnose`` would say of those pairs.
        n_utterances: of the pass.
        n_frames: of the pass.
        held_utterances: in the sample.
        held_frames: in the sample.
        scalars: figures by name, each finite; see `ValidationMonitor`.
        floors: what trivial predictors score in the training's own loss (on the sample); empty where not computable.
        standing: where the loss stands among them, or None where there are none.
        skipped: what could not be computed, and why.
        seconds: that judging took.
        unit: of the mel.
        sample: the held pairs.
        n_not_finite: utterances of the pass, held or not, with NaN or infinite values.
    """

    step: int
    diagnosis: Diagnosis
    n_utterances: int
    n_frames: int
    held_utterances: int
    held_frames: int
    scalars: dict[str, float]
    floors: tuple[Floor, ...]
    standing: Standing | None
    skipped: dict[str, str]
    seconds: float
    unit: str
    sample: Sample = field(repr=False, compare=False)
    n_not_finite: int = 0

    @property
    def state(self) -> str:
        """Name of the verdict's state."""
        return self.diagnosis.verdict.state

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against the verdict; of a healthy one, what it does not mean."""
        return self.diagnosis.verdict.warnings

    @property
    def failed(self) -> bool:
        """Whether the verdict fails, any utterance is not finite, or the reported loss is no better than a constant."""
        lost = self.standing is not None and self.standing.status == "fail"
        return self.diagnosis.status == "fail" or self.n_not_finite > 0 or lost

    @property
    def alarm(self) -> str | None:
        """One line for a person where something is wrong, else None."""
        v, parts = self.diagnosis.verdict, []
        if self.diagnosis.status == "fail":
            parts.append(f"{v.headline}: {v.sentence}")
        elif self.n_not_finite:
            parts.append(f"{self.n_not_finite:,} of {self.n_utterances:,} utterances hold NaN or infinite values")
        if self.standing is not None and self.standing.status == "fail":
            parts.append(f"loss {self.standing.value:.4g}: {self.standing.headline}")
        return f"step {self.step}: " + "; ".join(parts) if parts else None

    def markdown(self) -> str:
        """Verdict, table, findings, floors; hostile names are text."""
        from calib.report.exports import diagnosis_markdown, plain

        out = diagnosis_markdown(self.diagnosis, self.unit, f"validation at step {self.step}")
        held = f"Judged on {self.held_utterances:,} of {self.n_utterances:,} utterances ({self.held_frames:,} of {self.n_frames:,} frames)."
        lines = [out, plain(held), ""]
        lines += [f"- but: {plain(words)}" for words in self.warnings if plain(words) not in out]
        if self.floors:
            lines += ["| Predictor | your loss, without weight |", "|---|--:|"]
            lines += [
                f"| {plain(f.title)} | {f'{f.loss:.4f}' if f.loss is not None else 'skipped: ' + plain(f.skipped or '')} |"
                for f in self.floors
            ]
        if self.standing is not None:
            lines += ["", f"Loss {self.standing.value:.4g}: {plain(self.standing.headline)}"]
        lines += [f"- skipped: {plain(what)}: {plain(why)}" for what, why in self.skipped.items()]
        return "\n".join(lines) + "\n"


class ValidationMonitor:
    """Collects the pairs of each validation pass and says what they are worth.

    Scalars (MAE and RMSE in the mel's unit, over every frame of the pass unless said otherwise): ``mae``, ``rmse``,
    ``rmse_global_mean``, ``rmse_bin_mean``, ``mae_global_mean`` and ``mae_bin_mean`` (of the sample, by the constants of
    other folds), ``skill_bin_mean`` (1 less the squared error over the per-bin mean's), ``r_w``, ``sd_ratio`` (within
    bin), ``loss`` as reported, ``loss_sample`` of the held predictions, ``floor_global_mean``, ``floor_bin_mean``, ``floor_utterance_mean`` and
    ``floor_copy_previous`` (in the training's loss, with its weight), ``verdict`` (2 pass, 1 warn, 0 fail).

    Args:
        loss: the mel term of the training's loss: ``mse`` (``l2``), ``mae`` (``l1``), ``huber`` (``smooth_l1``), or a `Loss`.
        delta: where Huber turns linear, in the unit of the loss's space.
        weight: that the mel term is multiplied with.
        space: ``(mean, sd)`` where the loss is taken of normalised mels; None: of the mels as they are given here.
        max_frames: most frames held for the verdict; everything beyond only enters the sums.
        layout: ``TM`` or ``MT``; None: time first, and what looks like bins first is refused.
        kind: ``mean`` for L1/L2 models, ``sample`` for GAN, flow, diffusion.
        autoregressive: whether validation shows the model the previous true frame.
        unit: of a mel value, for people.
        writer: TensorBoard's ``SummaryWriter``, or a function of ``(scalars, step)``; or None.
        prefix: of the logged names.
        figures: also log a picture of target and prediction where the writer can.
        on_fail: called with the reading where it failed; None: a warning of the logger ``calib.training``.
        seed: of the verdict's resampling.

    Utterances with NaN or infinite values are not in the sums, and fail the pass wherever they are.

    Raises:
        UsageError: an unknown loss or layout.
    """

    def __init__(
        self,
        *,
        loss: str | Loss = "mae",
        delta: float = 1.0,
        weight: float = 1.0,
        space: tuple[float, float] | None = None,
        max_frames: int = 20_000,
        layout: str | None = None,
        kind: str | None = None,
        autoregressive: bool | None = None,
        unit: str = "mel unit",
        writer: Any = None,
        prefix: str = "calib",
        figures: bool = True,
        on_fail: Callable[[Reading], object] | None = None,
        seed: int = 0,
    ) -> None:
        if isinstance(loss, str) and loss not in _LOSSES:
            raise UsageError(f"the loss is {loss!r}; it must be one of {', '.join(_LOSSES)}")
        try:
            self.loss = Loss(_LOSSES[loss], delta) if isinstance(loss, str) else loss
        except ValueError as error:
            raise UsageError(str(error)) from None
        if not (math.isfinite(weight) and weight > 0):
            raise UsageError(f"the weight is {weight!r}; it must be a positive number")
        self.weight, self.space = weight, Normalisation() if space is None else Normalisation(*space)
        self.max_frames, self.layout = max_frames, layout
        self.kind, self.autoregressive, self.unit, self.seed = kind, autoregressive, unit, seed
        self.writer, self.prefix, self.figures, self.on_fail = writer, prefix, figures, on_fail
        self.collect_seconds = 0.0
        self._collector = PairCollector(max_frames, layout)

    def update(self, pred: Any, target: Any, lengths: Any = None, names: Any = None) -> None:
        """Add a batch; see `PairCollector.add`. Both as the model gives them and the loss takes them."""
        started = time.perf_counter()
        self._collector.add(pred, target, lengths, names)
        self.collect_seconds += time.perf_counter() - started

    def reset(self) -> None:
        """Forget what was collected."""
        self._collector, self.collect_seconds = PairCollector(self.max_frames, self.layout), 0.0

    def finish(self, step: int, *, loss: float | None = None) -> Reading:
        """Judge what was collected, log it, and begin anew.

        Args:
            step: epoch or step.
            loss: the validation loss of the mel term as training reports it, weight included; None: that of the held
                predictions, computed here.

        Raises:
            UsageError: nothing was collected.
        """
        from calib.training.writers import log_reading

        reading = self.read(step, loss=loss)
        self.reset()
        if self.writer is not None:
            log_reading(self.writer, reading, prefix=self.prefix, figures=self.figures)
        if reading.failed:
            if self.on_fail is not None:
                self.on_fail(reading)
            else:
                _LOG.warning("%s", reading.alarm)
        elif reading.state == "healthy" and reading.warnings:
            _LOG.warning("step %d: %s, but: %s", step, reading.diagnosis.verdict.headline, "; ".join(reading.warnings))
        return reading

    def read(self, step: int, *, loss: float | None = None) -> Reading:
        """Judge what was collected so far, and keep it.

        Raises:
            UsageError: nothing was collected.
        """
        collector = self._collector
        if not collector.n_utterances:
            empty = f": all {collector.n_empty} utterances have length 0" if collector.n_empty else ""
            raise UsageError(
                f"nothing was collected{empty}",
                hint="are the lengths those of the mels, in frames?" if empty else "call update(pred, target, lengths) for each validation batch",
            )  # fmt: skip
        started = time.perf_counter()
        skipped: dict[str, str] = {}
        notes = ["batches came without lengths: padding, if there is any, counts as speech"] if collector.padded else []
        if collector.n_uneven:
            notes.append(
                f"{collector.n_uneven:,} of {collector.n_utterances:,} predictions and targets differ in length by more than 8 frames (up to {collector.most_uneven:,}): only what both have was judged"
            )
        sample = collector.sample()
        diagnosis = analyze(
            sample, kind=self.kind, autoregressive=self.autoregressive, seed=self.seed, notes=notes, stats_origin="the validation targets"
        )  # fmt: skip
        floors = self._floors(sample, skipped)
        standing = self._standing(floors, loss, skipped)
        scalars = self._scalars(collector, diagnosis, floors, loss, skipped)
        return Reading(
            step, diagnosis, collector.n_utterances, collector.n_frames, len(sample), collector.held_frames, scalars, tuple(floors),
            standing, skipped, time.perf_counter() - started, self.unit, sample, collector.n_bad,
        )  # fmt: skip

    def _floors(self, sample: Sample, skipped: dict[str, str]) -> list[Floor]:
        collector = LossCollector(sample.pairs[0][1].shape[1])
        try:
            for p, y in sample.pairs:
                collector.add(y, p)
            # The mels come as the loss takes them, or are brought into its space here.
            return collector.floors(self.loss, space=self.space)
        except ValueError as error:
            skipped["floors of the loss"] = str(error)
            return []

    def _standing(self, floors: list[Floor], loss: float | None, skipped: dict[str, str]) -> Standing | None:
        """The reported loss among the floors; without one, the predictions' own loss on the sample."""
        own = next((floor.loss for floor in floors if floor.name == "model"), None)
        value = own * self.weight if loss is None and own is not None else loss
        if value is None or not floors:
            return None
        try:
            return stand(float(value), self.weight, floors, autoregressive=self.autoregressive)
        except ValueError as error:
            skipped["where the loss stands"] = str(error)
            return None

    def _scalars(
        self, collector: PairCollector, d: Diagnosis, floors: list[Floor], loss: float | None, skipped: dict[str, str]
    ) -> dict[str, float]:
        found: dict[str, float | None] = {
            "verdict": 0.0 if collector.n_bad else {"pass": 2.0, "warn": 1.0}.get(d.status, 0.0),
            "loss": loss,
        }
        if collector.n_bad:
            skipped["utterances with NaN or infinite values"] = (
                f"{collector.n_bad} of {collector.n_utterances}; not in the sums"
            )
        moments = collector.moments()
        if moments is not None:
            s = moments.summary()
            mse, within = float(s.mse), float(s.s_w_y) ** 2
            found |= {
                "mae": collector.mae(),
                "rmse": math.sqrt(max(mse, 0.0)),
                "rmse_global_mean": float(s.s_y),
                "rmse_bin_mean": math.sqrt(within),
                "skill_bin_mean": 1.0 - mse / within if within > 0 else None,
                "r_w": float(s.r_w),
                "sd_ratio": float(s.s_w_ratio),
            }
        rows: Mapping[str, float] = {row.name: row.mae for row in d.rows}
        found |= {f"mae_{name}": rows.get(name) for name in _SHOWN}
        wanted = (*_SHOWN, "utterance_mean", "copy_previous")
        own = next((floor.loss for floor in floors if floor.name == "model"), None)
        found["loss_sample"] = None if own is None else own * self.weight
        found |= {
            f"floor_{f.name}": None if f.loss is None else f.loss * self.weight for f in floors if f.name in wanted
        }
        return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}
