"""The Lightning callback: `ValidationMonitor` at the end of every validation epoch.

Works with ``lightning`` and with ``pytorch_lightning``, whichever is imported already or installed. Under several
processes each sees its own share of the validation set; the first one judges and logs its share, and says so.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from calib.errors import UsageError
from calib.training.monitor import Reading, ValidationMonitor

__all__ = ["CalibCallback"]

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def _base() -> Any:
    loaded = [name for name in _PACKAGES if name in sys.modules]
    for name in [*loaded, *_PACKAGES]:
        try:
            return importlib.import_module(name).Callback
        except ImportError:
            continue
    raise UsageError(
        "neither lightning nor pytorch-lightning is installed", hint="pip install lightning; or use ValidationMonitor"
    )


def outputs_of(outputs: Any, batch: Any) -> tuple[Any, Any, Any]:
    """The default: what ``validation_step`` returns has ``pred`` and ``target``, and ``lengths`` if it likes.

    Raises:
        UsageError: it has not.
    """
    del batch
    if not isinstance(outputs, Mapping) or not {"pred", "target"} <= outputs.keys():
        has = sorted(map(str, outputs)) if isinstance(outputs, Mapping) else type(outputs).__name__
        raise UsageError(
            f"validation_step returned {has}; calib needs 'pred' and 'target' in it",
            hint="return {'pred': ..., 'target': ..., 'lengths': ...}, or give CalibCallback(extract=f) with f(outputs, batch)",
        )
    return outputs["pred"], outputs["target"], outputs.get("lengths")


class CalibCallback(_base()):  # type: ignore[misc]  # one of two packages, known only at run time
    """Judges the predictions of every validation epoch.

    Args:
        monitor: what to collect into; None: one with the default settings.
        extract: ``(outputs, batch) -> (pred, target, lengths)``.
        stop_on_fail: end the training when the verdict fails, after ``patience`` such epochs in a row.
        patience: see there.
    """

    def __init__(
        self,
        monitor: ValidationMonitor | None = None,
        *,
        extract: Callable[[Any, Any], tuple[Any, Any, Any]] = outputs_of,
        stop_on_fail: bool = False,
        patience: int = 1,
    ) -> None:
        super().__init__()
        self.monitor = monitor or ValidationMonitor()
        self.extract, self.stop_on_fail, self.patience = extract, stop_on_fail, patience
        self.reading: Reading | None = None
        self._failed = 0

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin anew."""
        del trainer, pl_module
        self.monitor.reset()

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Collect a batch; in the check before training, too: outputs that do not fit are an error then, not an epoch later."""
        del pl_module, batch_idx, dataloader_idx
        if not trainer.is_global_zero:
            return
        self.monitor.update(*self.extract(outputs, batch))

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Judge and log; the check before training is left out."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        self.reading = self.monitor.finish(trainer.global_step)
        self._log(
            [] if self.monitor.writer is not None else [getattr(one, "experiment", None) for one in trainer.loggers],
            pl_module,
        )
        self._failed = self._failed + 1 if self.reading.failed else 0
        if self.stop_on_fail and self._failed >= self.patience:
            trainer.should_stop = True

    def _log(self, experiments: list[Any], pl_module: Any) -> None:
        """To TensorBoard as it is, to every other logger as scalars; and where ModelCheckpoint and EarlyStopping look."""
        from calib.training.writers import log_reading

        assert self.reading is not None
        boards = [board for board in experiments if hasattr(board, "add_scalar")]
        for board in boards:
            log_reading(board, self.reading, prefix=self.monitor.prefix, figures=self.monitor.figures)
        named = {f"{self.monitor.prefix}/{name}": value for name, value in self.reading.scalars.items()}
        pl_module.log_dict(named, logger=self.monitor.writer is None and not boards, rank_zero_only=True)
