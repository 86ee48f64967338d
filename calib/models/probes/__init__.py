"""Probes of a running model: faults that no statistic of its predictions shows.

Each probe alters one thing, runs the model, and compares. The map:

- :mod:`~calib.models.probes.scene` - what a probe gets (a model, some utterances) and gives (a finding);
- :mod:`~calib.models.probes.weights` - what the checkpoint filled, what was never trained, what training made of the output;
- :mod:`~calib.models.probes.inside` - what is seen of a torch network: modules in training, the layer that first gives the mel;
- :mod:`~calib.models.probes.forced` - evaluation mode, determinism, padding, speaker, movement over time;
- :mod:`~calib.models.probes.causality` - whether the past moves with the future, and a frame with itself;
- :mod:`~calib.models.probes.reading` - whether the text is read, and whether what is read is what is said;
- :mod:`~calib.models.probes.free` - sampling, stopping, whether it says the recording, repeats and skips.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from calib.errors import CalibError, DataError
from calib.models.probes import forced, free, reading, weights
from calib.models.probes.causality import causality
from calib.models.probes.scene import Finding, NotFiniteError, Scene, TooSlowError

__all__ = ["PROBES", "Finding", "Scene", "probe_all"]

PROBES: dict[str, Callable[[Scene], Finding]] = {
    "restored": weights.restored,
    "fresh-init": weights.fresh,
    "fresh-output": weights.fresh_output,
    "reload": weights.reloaded,
    "evaluation": forced.evaluation,
    "determinism": forced.determinism,
    "movement": forced.movement,
    "padding": forced.padding,
    "causality": causality,
    "text": reading.text,
    "speaker": forced.speaker,
    "stopping": free.stopping,
    "alignment": free.alignment,
    "sampling": free.sampling,
}
_COMPARE = {"fresh-output", "reload", "determinism", "padding", "causality", "text", "speaker"}
"""Probes that compare predictions: with NaN in them nothing could be seen, and nothing may be called sound."""


def probe_all(scene: Scene, only: Sequence[str] | None = None) -> Iterator[Finding]:
    """Every probe (or those of ``only``), each with what it cost; one that the model cannot take is skipped with the reason.

    A plug-in that fails inside a probe fails that probe, and the others are still made.
    """
    for name, probe in PROBES.items():
        if only is not None and name not in only:
            continue
        started = time.perf_counter()
        try:
            if name in _COMPARE and not all(np.isfinite(mel).all() for mel in scene.base):
                why = "the predictions hold NaN or infinite values, so no change of them can be measured"
                found = Finding(name, "skipped", why)
            else:
                found = probe(scene)
        except DataError as error:
            found = Finding(name, "skipped", f"the model refuses what the probe asks: {error.message}")
        except TooSlowError as error:
            found = Finding(name, "skipped", str(error), advice="--budget SECONDS allows more, --no-free-running none")
        except NotFiniteError as error:
            found = Finding(name, "fail", str(error), threshold="any value that is not finite", advice="look for a division by zero, a logarithm of 0, or an attention over nothing")  # fmt: skip
        except CalibError as error:
            found = Finding(name, "fail", f"the model fails: {error.message}", advice=error.hint)
        yield dataclasses.replace(found, seconds=time.perf_counter() - started)
