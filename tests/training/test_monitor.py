"""The training monitor: a collapse is seen after the first epoch, health is not called a collapse, nothing grows."""

from __future__ import annotations

import dataclasses
import functools
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tinymodels as models
import torch

from calib.diagnose.analysis import analyze
from calib.diagnose.loss import Loss
from calib.errors import UsageError
from calib.training import Reading, ValidationMonitor
from calib.training.collect import PairCollector, Sample


def first_epoch(*, zeros: bool, **settings: object) -> tuple[Reading, ValidationMonitor]:
    """Train one epoch and validate."""
    monitor = ValidationMonitor(loss="smooth_l1", unit="ln magnitude", **settings)  # type: ignore[arg-type]
    for pred, target, lengths in models.batches(trained(zeros=zeros), models.corpus(12, 2), zeros=zeros):
        monitor.update(pred, target, lengths)
    return monitor.finish(1), monitor


@functools.cache
def trained(*, zeros: bool) -> torch.nn.Module:
    """A network after one epoch."""
    network = models.model()
    models.train_epoch(network, models.corpus(160, 1), zeros=zeros)
    return network


def test_a_model_fed_with_zeros_is_called_collapsed_after_the_first_epoch(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="calib.training"):
        reading, _ = first_epoch(zeros=True)
    assert reading.state == "collapsed"
    assert reading.failed
    assert reading.alarm is not None
    assert "collapsed" in reading.alarm
    assert reading.alarm in caplog.text
    # The loss fell all the same, and stands where the constants stand.
    assert reading.standing is not None
    assert reading.standing.headline.startswith("NOT LEARNING")
    assert reading.scalars["skill_bin_mean"] < 0.05
    assert abs(reading.scalars["r_w"]) < 0.1


def test_a_model_that_learns_is_not_called_collapsed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="calib.training"):
        reading, _ = first_epoch(zeros=False)
    assert reading.diagnosis.verdict.writes
    assert not reading.failed
    assert reading.alarm is None
    assert caplog.text == ""
    assert reading.scalars["r_w"] > 0.8
    assert reading.scalars["skill_bin_mean"] > 0.5


def test_scalars_are_those_of_the_frames_and_padding_never_counts() -> None:
    reading, _ = first_epoch(zeros=False)
    network = trained(zeros=False)
    with torch.no_grad():
        p, y = (np.concatenate([v.numpy() for v in side]) for side in zip(*[(network(x), y) for x, y in models.corpus(12, 2)], strict=True))  # fmt: skip
    e = p.astype(np.float64) - y
    wanted = {
        "mae": np.abs(e).mean(),
        "rmse": np.sqrt((e**2).mean()),
        "rmse_global_mean": y.std(dtype=np.float64),
        "rmse_bin_mean": np.sqrt(y.astype(np.float64).var(0).mean()),
        "floor_bin_mean": Loss("huber")(y - y.mean(0)).mean(),
        "loss_sample": Loss("huber")(e).mean(),
    }
    for name, value in wanted.items():
        assert reading.scalars[name] == pytest.approx(value, rel=1e-3), name
    assert reading.n_frames == 12 * models.FRAMES


def test_the_verdict_is_the_one_of_diagnose() -> None:
    reading, _ = first_epoch(zeros=False)
    again = analyze(reading.sample, stats_origin="the validation targets")
    assert again.to_json() == reading.diagnosis.to_json()


def test_the_sample_keeps_its_bound_and_its_rule() -> None:
    collector = PairCollector(max_frames=1000)
    rng = np.random.default_rng(0)
    biggest = 0
    for _ in range(200):
        mel = rng.standard_normal((1, 100, 5)).astype(np.float32)
        collector.add(mel, mel + 1)
        biggest = max(biggest, collector.held_frames)
    assert biggest <= 1000
    held = collector.sample()
    assert [int(name.split()[1]) for name in held.names] == list(range(0, 200, collector.stride))
    assert collector.n_frames == 20_000
    assert collector.mae() == pytest.approx(1.0, abs=1e-6)  # of all, not of the sample


def test_a_pass_that_is_whole_and_one_in_batches_agree() -> None:
    mels = [np.random.default_rng(k).normal(-5, 2, (80, 6)).astype(np.float32) for k in range(8)]
    one, many = PairCollector(), PairCollector()
    for y in mels:
        one.add(y * 0.5, y)
    many.add(np.stack(mels) * np.float32(0.5), np.stack(mels), lengths=[80] * 8)
    a, b = one.moments(), many.moments()
    assert a is not None
    assert b is not None
    assert float(a.summary().r_w) == float(b.summary().r_w)
    joined = np.concatenate(mels)
    assert float(a.summary().s_y) == pytest.approx(joined.std(dtype=np.float64), rel=1e-9)


def test_bins_first_is_turned_and_wrong_shapes_are_named() -> None:
    mel = np.random.default_rng(0).standard_normal((2, 6, 50)).astype(np.float32)
    collector = PairCollector(layout="MT")
    collector.add(mel, mel, [50, 30])
    assert [y.shape for _, y in collector.sample().pairs] == [(50, 6), (30, 6)]
    with pytest.raises(UsageError, match="the prediction has shape"):
        collector.add(mel, mel[:, :5])
    with pytest.raises(UsageError, match="3 lengths for 2"):
        collector.add(mel, mel, [1, 2, 3])
    with pytest.raises(UsageError, match="layout is 'XY'"):
        PairCollector(layout="XY")
    with pytest.raises(UsageError, match="the loss is 'dice'"):
        ValidationMonitor(loss="dice")
    with pytest.raises(UsageError, match="nothing was collected"):
        ValidationMonitor().finish(0)


def test_not_a_number_is_a_verdict_and_no_crash() -> None:
    monitor = ValidationMonitor()
    mels = np.random.default_rng(0).standard_normal((4, 100, 6)).astype(np.float32)
    broken = mels.copy()
    broken[1, 3, 2] = np.nan
    monitor.update(broken, mels)
    reading = monitor.finish(0)
    assert reading.state == "invalid"
    assert reading.failed
    assert reading.skipped["utterances with NaN or infinite values"].startswith("1 of 4")
    assert all(np.isfinite(value) for value in reading.scalars.values())


def test_all_zero_targets_are_said_to_be_no_data() -> None:
    monitor = ValidationMonitor()
    monitor.update(np.random.default_rng(0).normal(0, 0.01, (4, 100, 6)), np.zeros((4, 100, 6)))
    assert monitor.finish(0).failed


def test_a_reported_loss_and_its_weight_are_placed() -> None:
    network = models.model()
    monitor = ValidationMonitor(loss="mae", weight=2.0)
    for pred, target, lengths in models.batches(network, models.corpus(6, 2), zeros=False):
        monitor.update(pred, target, lengths)
    floor = monitor.read(0).scalars["floor_bin_mean"]
    reading = monitor.finish(0, loss=floor)
    assert reading.standing is not None
    assert reading.standing.at == ["bin_mean"] or "bin_mean" in reading.standing.at
    assert reading.scalars["loss"] == floor


class Board:
    """What a SummaryWriter is asked for."""

    def __init__(self) -> None:
        self.scalars: dict[str, float] = {}
        self.texts: dict[str, str] = {}
        self.figures: list[str] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        assert step == 1
        self.scalars[name] = value

    def add_text(self, name: str, text: str, step: int) -> None:
        assert step == 1
        self.texts[name] = text

    def add_figure(self, name: str, figure: object, step: int) -> None:
        assert (step, figure.__class__.__name__) == (1, "Figure")
        self.figures.append(name)


def test_a_board_gets_scalars_the_verdict_and_a_picture() -> None:
    board = Board()
    reading, _ = first_epoch(zeros=True, writer=board, prefix="val")
    assert board.scalars == {f"val/{name}": value for name, value in reading.scalars.items()}
    assert {
        "val/mae",
        "val/rmse_bin_mean",
        "val/floor_global_mean",
        "val/sd_ratio",
        "val/verdict",
    } <= board.scalars.keys()
    assert "collapsed" in board.texts["val/verdict"]
    assert board.figures == ["val/mels"]


def test_tensorboard_itself_takes_it(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard", reason="tensorboard is not installed")
    with tensorboard.SummaryWriter(tmp_path) as writer:
        reading, _ = first_epoch(zeros=True, writer=writer)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Scalars("calib/r_w")[0].value == pytest.approx(reading.scalars["r_w"], rel=1e-5)
    assert "calib/mels" in events.Tags()["images"]


def test_a_function_is_a_writer_too() -> None:
    got: list[tuple[dict[str, float], int]] = []
    reading, _ = first_epoch(zeros=False, writer=lambda scalars, step: got.append((scalars, step)))
    assert got == [({f"calib/{k}": v for k, v in reading.scalars.items()}, 1)]


def test_hostile_names_are_text_in_the_board() -> None:
    monitor = ValidationMonitor()
    y = np.random.default_rng(0).standard_normal((6, 100, 6)).cumsum(1).astype(np.float32)
    monitor.update(y, y, names=["</script><img src=x>`|@all"] * 6)
    text = monitor.read(0).markdown()
    assert "``</script><img src=x>`\\|@all``" in text


def test_judging_is_cheap_and_memory_does_not_grow_with_the_pass() -> None:
    monitor = ValidationMonitor(max_frames=2000)
    rng = np.random.default_rng(0)
    for _ in range(40):
        monitor.update(
            rng.standard_normal((4, 100, 20)).astype(np.float32), rng.standard_normal((4, 100, 20)).astype(np.float32)
        )
    held = sum(p.nbytes + y.nbytes for p, y in monitor.read(0).sample.pairs)
    assert held <= 2 * 2000 * 20 * 4
    assert monitor.collect_seconds < 2.0


def test_it_imports_no_torch() -> None:
    code = "import calib.training, sys; assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_sample_is_what_analyze_reads() -> None:
    sample = Sample(["a"], [(np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32))])
    assert (len(sample), sample.name(0), sample.speaker(0)) == (1, "a", None)
    assert sample.arrays(0)[1].sum() == 6


def test_it_needs_no_command_and_no_reader_of_files() -> None:
    """A training loop pulls in the analysis, not the command line."""
    code = "import calib.training, calib.training.writers, sys; print([m for m in sys.modules if m.startswith(('calib.commands', 'calib.cli', 'calib.data.sources', 'calib.run'))])"
    assert (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1.0, 0.75], "lengths holds 0.75"),  # shares of the longest
        ([200 * 256, 150 * 256], "lengths holds 51200, the batch has 200 frames"),  # samples
        (np.ones((2, 200), bool), "lengths is a mask"),
        (torch.ones(2, dtype=torch.bool), "lengths is a mask"),
        ([-1, 200], "lengths holds -1"),
        ([200], "1 lengths for 2 utterances"),
    ],
)
def test_lengths_that_are_no_frames_are_refused(lengths: object, message: str) -> None:
    """Clipped in silence they would count padding as speech, or leave one frame of everything."""
    mels = np.zeros((2, 200, 20), np.float32)
    with pytest.raises(UsageError, match=message):
        PairCollector().add(mels, mels, lengths)


def test_what_does_not_fit_is_an_error_that_says_what() -> None:
    mels, collector = np.zeros((2, 200, 20), np.float32), PairCollector()
    with pytest.raises(UsageError, match="1 names for 2"):
        collector.add(mels, mels, None, ["a"])
    with pytest.raises(UsageError, match="got complex64"):
        collector.add(torch.zeros(2, 3, 4, dtype=torch.complex64), mels)
    with pytest.raises(UsageError, match="got list"):
        collector.add([torch.zeros(3, 4, requires_grad=True)] * 2, mels)
    collector.add(mels.swapaxes(1, 2), mels.swapaxes(1, 2))  # layout MT, not said
    with pytest.raises(UsageError, match="190 mel bins, the utterances before it have 200") as caught:
        collector.add(mels.swapaxes(1, 2)[..., :190], mels.swapaxes(1, 2)[..., :190])
    assert "'MT'" in str(caught.value.hint)
    monitor = ValidationMonitor()
    monitor.update(mels, mels, [0, 0])
    with pytest.raises(UsageError, match="all 2 utterances have length 0"):
        monitor.finish(1)


def test_nan_outside_of_the_sample_fails_the_pass() -> None:
    rng = np.random.default_rng(0)
    monitor = ValidationMonitor(max_frames=600)
    for k in range(6):
        mel = np.cumsum(rng.normal(0, 0.4, (200, 20)), axis=0)
        monitor.update(np.full_like(mel, np.nan) if k == 1 else mel + rng.normal(0, 0.1, mel.shape), mel)
    reading = monitor.finish(1)
    assert "utterance 1" not in reading.sample.names
    assert reading.diagnosis.status != "fail"  # the sample is sound
    assert (reading.failed, reading.n_not_finite, reading.scalars["verdict"]) == (True, 1, 0.0)
    assert reading.alarm == "step 1: 1 of 6 utterances hold NaN or infinite values"


def test_predictions_that_end_early_are_told() -> None:
    rng = np.random.default_rng(0)
    monitor = ValidationMonitor()
    mel = np.cumsum(rng.normal(0, 0.4, (6, 200, 20)), axis=1)
    monitor.update(mel[:, :100], mel, [200] * 6)
    assert "6 of 6 predictions and targets differ in length by more than 8 frames (up to 100)" in "".join(monitor.finish(1).diagnosis.notes)  # fmt: skip
    monitor.update(mel[:, :195], mel, [200] * 6)
    assert not monitor.finish(2).diagnosis.notes


def test_training_is_left_as_it_was() -> None:
    """Random states, gradients and modes are the training's own."""
    import random

    pred, target = torch.randn(2, 200, 20, requires_grad=True), torch.randn(2, 200, 20)
    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index] # noqa: NPY002
    monitor = ValidationMonitor()
    monitor.update(pred, target, torch.tensor([200, 150]))
    monitor.finish(1)
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index] # noqa: NPY002
    assert pred.requires_grad
    assert pred.grad is None
    assert torch.is_grad_enabled()


def spoken(frames: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (frames + 8, 80))
    return np.asarray(sum(noise[k : k + frames] for k in range(9)) / 3 - 5, dtype=np.float32)


def test_a_batch_with_bins_first_is_not_taken_for_one_with_163_bins() -> None:
    batch = np.stack([spoken(163, k).T for k in range(2)])
    with pytest.raises(UsageError, match=r"are these \(batch, bins, time\)\?") as caught:
        ValidationMonitor().update(batch, batch)
    assert "layout='MT'" in str(caught.value.hint)
    ValidationMonitor(layout="MT").update(batch, batch)
    ValidationMonitor(layout="TM").update(batch, batch)  # said, and so believed
    ValidationMonitor().update(batch.swapaxes(1, 2), batch.swapaxes(1, 2))


def test_pairs_in_memory_with_bins_first_are_told_to_be_transposed() -> None:
    import calib

    turned = [(spoken(n, n).T, spoken(n, n + 1).T) for n in (831, 163)]
    for pairs in (turned, turned[1:]):
        with pytest.raises(UsageError, match=r"are these \(M, T\)\?") as caught:
            calib.analyze(pairs)
        assert "transpose" in str(caught.value.hint)
    with pytest.raises(UsageError, match="60 bins, utterance 0 has 80"):
        calib.analyze([(spoken(300, 0),) * 2, (spoken(200, 1)[:, :60],) * 2])


def test_a_reading_reports_what_qualifies_its_verdict(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Healthy, and the diagnosis has something to say against it: the log and the page have it too."""
    import calib.training.monitor as module

    judged = module.analyze

    def qualified(*given: object, **named: object) -> object:
        found = judged(*given, **named)  # type: ignore[arg-type]
        verdict = dataclasses.replace(found.verdict, state="healthy", status="warn", warnings=("it moves .37 times as much as the target",))  # fmt: skip
        return dataclasses.replace(found, verdict=verdict)

    monkeypatch.setattr(module, "analyze", qualified)
    monitor = ValidationMonitor()
    for k in range(6):
        monitor.update(spoken(300, k), spoken(300, k))
    with caplog.at_level(logging.WARNING, logger="calib.training"):
        reading = monitor.finish(3)
    assert reading.warnings == ("it moves .37 times as much as the target",)
    assert not reading.failed
    assert "step 3: " in caplog.text
    assert ".37 times as much" in caplog.text
    assert "37 times as much" in reading.markdown()
