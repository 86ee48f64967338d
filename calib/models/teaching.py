"""Teacher forcing under control: no gradients, seeds set, autocast where asked for, and what the model claims is checked.

Conventions:
    Mels are ``(T, M)`` float32. A batch is seeded from the ids in it, so that a model that draws gives the same bytes
    whichever process runs the batch, and whenever. torch is touched only if the plug-in has imported it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from calib.errors import DataError, PluginError, UsageError
from calib.models.loading import call_plugin, checked_mel
from calib.models.protocol import AcousticModel, Utterance

__all__ = ["AUTOCAST", "Checked", "Teacher", "check_claims", "library_threads"]

AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}
# Mel units. Rounding between a batch and one utterance alone is 1e-6 in float32, and half an ulp of 8 bits under autocast.
_TOLERANCE = 1e-3
_NAMED = 8  # utterances of a batch that failed
_TOLERANCE_AUTOCAST = 0.1


@dataclass(frozen=True)
class Teacher:
    """A model, called as it is to be called.

    Args:
        model: the plug-in's.
        spec: as the user named it.
        n_mels: M.
        seed: of everything random.
        autocast: a key of `AUTOCAST`, or None.
        device: "cpu", "cuda" or "cuda:1".

    Raises:
        UsageError: autocast, and the model does not use torch in this process.
    """

    model: AcousticModel
    spec: str
    n_mels: int
    seed: int = 0
    autocast: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.autocast is not None and "torch" not in sys.modules:
            raise UsageError(
                f"--autocast {self.autocast} is torch's, and {self.spec} does not use torch here",
                hint="leave --autocast out",
            )

    def predict(self, batch: Sequence[Utterance], *, reseed: bool = True) -> list[np.ndarray]:
        """Teacher forcing of one batch, with what came back checked.

        Args:
            batch: the utterances. The model gets copies of their mels: what it does to them changes no target.
            reseed: start the random generators anew; False: go on with them.

        Raises:
            PluginError: the model failed, or returned something else than one (T, M) an utterance.
            DataError: the model refuses an utterance.
        """
        if reseed:
            self._seed("\n".join(one.id for one in batch))
        shown = [
            dataclasses.replace(one, mel=one.mel.copy(), reference_mel=None if one.reference_mel is None else one.reference_mel.copy())
            for one in batch
        ]  # fmt: skip
        with self.mode():
            try:
                result = call_plugin(self.spec, self.model.teacher_force, shown)
            except PluginError as error:
                names = ", ".join(one.id for one in batch[:_NAMED]) + (", ..." if len(batch) > _NAMED else "")
                raise PluginError(
                    f"{error.message}, given {names}",
                    hint=error.hint or "to have an utterance skipped and go on, raise calib.errors.DataError",
                ) from (error.__cause__ or error)
            if not isinstance(result, Sequence) or len(result) != len(batch):
                got = len(result) if isinstance(result, Sequence) else type(result).__name__
                raise PluginError(
                    f"plug-in {self.spec}: teacher_force returned {got} {'mels ' if isinstance(got, int) else ''}for a batch of {len(batch)}",
                    hint="return a list with one (T, M) array an utterance, without padding",
                )
            return [checked_mel(self.spec, mel, self.n_mels) for mel in result]

    def generate(
        self, name: str, text: str, voice: Path | None, language: str | None, *, temperature: float, top_p: float
    ) -> np.ndarray:
        """Free running of one utterance, with a seed of its own.

        Raises:
            PluginError: the model failed, or returned no (T, M).
            DataError: the model refuses the utterance.
        """
        seed = int.from_bytes(self._digest(name)[:4], "big")
        self._seed(name)
        with self.mode():
            mel = call_plugin(
                self.spec, self.model.generate, text,  # type: ignore[attr-defined]
                speaker_audio=voice, language=language, temperature=temperature, top_p=top_p, seed=seed,
            )  # fmt: skip
            return checked_mel(self.spec, mel, self.n_mels)

    def _digest(self, name: str) -> bytes:
        return hashlib.sha256(f"{self.seed}:{name}".encode("utf-8", "surrogatepass")).digest()

    def _seed(self, name: str) -> None:
        number = int.from_bytes(self._digest(name)[4:8], "big")
        random.seed(number)
        np.random.seed(number)  # noqa: NPY002 - what plug-ins draw from without a generator of their own
        if "torch" in sys.modules:
            sys.modules["torch"].manual_seed(number)

    @contextlib.contextmanager
    def mode(self) -> Iterator[None]:
        """No gradients, and autocast where asked for."""
        torch: Any = sys.modules.get("torch")
        if torch is None:
            yield
            return
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self.autocast is not None:
                kind = self.device.partition(":")[0]
                stack.enter_context(torch.autocast(kind, getattr(torch, AUTOCAST[self.autocast])))
            yield


@dataclass
class Checked:
    """What `check_claims` found.

    Args:
        deterministic: two passes give the same bytes; None: no utterance to try.
        padding_safe: utterances may be run in padded batches.
        findings: sentences for people.
        pace: seconds that one utterance took, roughly.
    """

    deterministic: bool | None = None
    padding_safe: bool = True
    findings: list[str] = field(default_factory=list)
    pace: float = 0.0


def check_claims(teacher: Teacher, shortest: Utterance, together: Sequence[Sequence[Utterance]]) -> Checked:
    """Run the model twice on one utterance, and on utterances alone and in padded batches.

    Args:
        teacher: the model.
        shortest: a short utterance, for the two passes.
        together: batches whose members must come out as they do alone; none: padding is not checked.

    Returns:
        What was found; nothing, if the model refuses the utterances (they are skipped later, with the reason).
    """
    found = Checked()
    try:
        begun = time.monotonic()
        once = teacher.predict([shortest])[0]
        found.pace = time.monotonic() - begun
        again = teacher.predict([shortest], reseed=False)[0]
        found.deterministic = bool(np.array_equal(once, again, equal_nan=True))
        if not found.deterministic:
            found.findings.append(
                "two passes over one utterance differ: dropout or sampling is on (call eval(), set the seed)"
            )
            if together:
                found.padding_safe = False
                found.findings.append(
                    "whether padding leaks into a model that draws cannot be checked; utterances are run one at a time"
                )
            return found
        begun = time.monotonic()
        leaking = any(_leaks(teacher, batch) for batch in together)
        if together:  # the first pass of all holds what libraries do once
            found.pace = (time.monotonic() - begun) / (2 * sum(map(len, together)))
        if leaking:
            found.padding_safe = False
            found.findings.append(
                "the prediction changes in a padded batch: padding leaks into the model; utterances are run one at a time"
            )
    except DataError:
        pass
    return found


def _leaks(teacher: Teacher, batch: Sequence[Utterance]) -> bool:
    tolerance = _TOLERANCE if teacher.autocast is None else _TOLERANCE_AUTOCAST
    for padded, one in zip(teacher.predict(batch), batch, strict=True):
        alone = teacher.predict([one])[0]
        if padded.shape != alone.shape or not np.allclose(padded, alone, atol=tolerance, equal_nan=True):
            return True
    return False


def library_threads(count: int) -> Callable[[], None]:
    """Limit torch's threads, if it is loaded; returns what undoes it. More threads split sums otherwise: other last bits."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return lambda: None
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    return lambda: torch.set_num_threads(before)
