"""The Lightning callback on a real Trainer: it sees the collapse, logs it where Lightning looks, and stops if told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tinymodels as models
import torch

from calib.errors import UsageError


def _lightning() -> Any:
    try:
        import lightning.pytorch as found
    except ImportError:
        found = pytest.importorskip("pytorch_lightning", reason="neither lightning nor pytorch-lightning is installed")
    return found


pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own advice on workers and devices


def fit(tmp_path: Path, *, zeros: bool, epochs: int = 1, outputs: Any = None, **settings: Any) -> tuple[Any, Any]:
    """A Trainer that trained, and its callback."""
    pl = _lightning()
    from calib.training.lightning import CalibCallback

    class Module(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = models.model()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            del index
            return torch.nn.functional.smooth_l1_loss(self.network(batch[0] * (not zeros)), batch[1])

        def validation_step(self, batch: Any, index: int) -> Any:
            del index
            pred = self.network(batch[0] * (not zeros))
            return {"pred": pred, "target": batch[1]} if outputs is None else outputs(pred, batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.02)

    callback = CalibCallback(**settings)
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[callback], default_root_dir=tmp_path,
    )  # fmt: skip
    loaders = [
        torch.utils.data.DataLoader(models.corpus(n, seed), batch_size=size)
        for n, seed, size in ((160, 1, 1), (12, 2, 4))
    ]
    trainer.fit(Module(), *loaders)
    return trainer, callback


def test_the_collapse_is_seen_after_the_first_epoch_and_training_stops(tmp_path: Path) -> None:
    trainer, callback = fit(tmp_path, zeros=True, epochs=3, stop_on_fail=True)
    assert callback.reading.state == "collapsed"
    assert trainer.current_epoch == 1
    assert float(trainer.callback_metrics["calib/verdict"]) == 0.0


def test_a_healthy_model_goes_on(tmp_path: Path) -> None:
    trainer, callback = fit(tmp_path, zeros=False, epochs=2, stop_on_fail=True)
    assert not callback.reading.failed
    assert trainer.current_epoch == 2
    assert float(trainer.callback_metrics["calib/r_w"]) > 0.8


def test_other_outputs_need_an_extractor_and_are_named_without(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'pred' and 'target'"):
        fit(tmp_path, zeros=False, outputs=lambda pred, target: {"mel": pred, "loss": target.mean()})
    _, callback = fit(
        tmp_path,
        zeros=False,
        outputs=lambda pred, target: (pred, target),
        extract=lambda out, batch: (*out, None),  # noqa: ARG005
    )
    assert callback.reading.n_utterances == 12


def test_outputs_that_do_not_fit_are_an_error_before_the_first_epoch(tmp_path: Path) -> None:
    """Not after it: it may take hours."""
    steps: list[int] = []

    def outputs(pred: Any, target: Any) -> Any:
        del target
        steps.append(len(steps))
        return {"mel": pred}

    with pytest.raises(UsageError, match="'pred' and 'target'"):
        fit(tmp_path, zeros=False, outputs=outputs)
    assert steps == [0]  # the first batch of the check before training
