"""How a model is called: without gradients, seeded, under autocast, and tried before it is believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from calib.errors import PluginError
from calib.models.protocol import Utterance
from calib.models.teaching import Teacher, check_claims


class Model:
    """Doubles a mel with torch, and remembers how it was called."""

    frontend = "hifigan"
    output_space = "raw"
    kind = "mean"
    autoregressive = False
    padding_safe = True

    def __init__(self) -> None:
        self.weight = torch.full((8, 8), 1 / 3, requires_grad=True)
        self.seen: list[tuple[bool, torch.dtype]] = []

    def teacher_force(self, batch: Sequence[Utterance]) -> list[Any]:
        out = [torch.from_numpy(one.mel) @ self.weight for one in batch]
        self.seen.append((torch.is_inference_mode_enabled(), out[0].dtype))
        return out


class Drawing(Model):
    """Adds noise."""

    def teacher_force(self, batch: Sequence[Utterance]) -> list[Any]:
        return [torch.from_numpy(one.mel) + torch.randn(one.mel.shape) for one in batch]


class Leaking(Model):
    """Adds the length of the batch."""

    def teacher_force(self, batch: Sequence[Utterance]) -> list[Any]:
        return [one.mel + 0.01 * max(len(other.mel) for other in batch) for one in batch]


def utterances() -> list[Utterance]:
    rng = np.random.default_rng(0)
    return [Utterance(f"u{k}", rng.standard_normal((20 + 5 * k, 8)).astype(np.float32)) for k in range(3)]


@pytest.mark.parametrize(("autocast", "dtype"), [(None, torch.float32), ("bf16", torch.bfloat16)])
def test_no_gradients_and_the_precision_that_was_asked_for(autocast: str | None, dtype: torch.dtype) -> None:
    model = Model()
    mels = Teacher(model, "m", 8, autocast=autocast).predict(utterances())
    assert model.seen == [(True, dtype)]
    assert all(mel.dtype == np.float32 for mel in mels)
    assert not torch.is_inference_mode_enabled()


def test_what_a_batch_draws_depends_on_its_ids_and_the_seed_alone() -> None:
    teacher, batch = Teacher(Drawing(), "m", 8), utterances()
    first = teacher.predict(batch)
    teacher.predict(batch[:1])
    torch.manual_seed(5)
    assert all(np.array_equal(a, b) for a, b in zip(first, teacher.predict(batch), strict=True))
    other = Teacher(Drawing(), "m", 8, seed=1).predict(batch)
    assert not np.array_equal(first[0], other[0])


def test_claims_are_tried() -> None:
    batch = utterances()
    for model, deterministic, safe, words in (
        (Model(), True, True, ""),
        (Leaking(), True, False, "padding leaks"),
        (Drawing(), False, False, "cannot be checked"),
    ):
        found = check_claims(Teacher(model, "m", 8), batch[0], [[batch[0], batch[2]]])
        assert (found.deterministic, found.padding_safe) == (deterministic, safe)
        assert words in "; ".join(found.findings)
    assert check_claims(Teacher(Leaking(), "m", 8), batch[0], []).padding_safe


class OneBuffer(Model):
    """Writes every answer over the one before."""

    def __init__(self) -> None:
        self.buffer = np.zeros((100, 8), np.float32)

    def teacher_force(self, batch: Sequence[Utterance]) -> list[Any]:
        out = []
        for one in batch:
            self.buffer[: len(one.mel)] = 2 * one.mel
            out.append(self.buffer[: len(one.mel)])
        return out


def test_a_later_answer_does_not_alter_an_earlier_one() -> None:
    teacher, (first, second, _) = Teacher(OneBuffer(), "m", 8), utterances()
    mel = teacher.predict([first])[0]
    teacher.predict([second])
    assert np.array_equal(mel, 2 * first.mel)
    # In a batch nothing can be saved, so it is not run in batches.
    assert check_claims(teacher, first, [[first, second]]).padding_safe is False


def test_a_model_that_fails_is_named_with_what_it_was_given() -> None:
    class Fails(Model):
        def teacher_force(self, batch: Sequence[Utterance]) -> list[Any]:
            del batch
            raise ValueError("no such phoneme")

    with pytest.raises(PluginError, match=r"no such phoneme.*given u0, u1, u2") as caught:
        Teacher(Fails(), "m", 8).predict(utterances())
    assert "DataError" in str(caught.value.hint)
    assert isinstance(caught.value.__cause__, ValueError)
