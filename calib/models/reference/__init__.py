"""The reference model: a small text-to-speech model of calib's own, trained on espeak-ng speech, for demo and tests.

The map:

- :mod:`~calib.models.reference.model` - the network, phonemes, monotonic alignment (torch);
- :mod:`~calib.models.reference.plugin` - the same behind calib's model protocol, and its checkpoints;
- :mod:`~calib.models.reference.train` - ``python -m``: makes the committed checkpoints in minutes on two cores;
- :mod:`~calib.models.reference.corpus` - ``python -m``: makes the demo corpus; :mod:`~.sentences`, its words;
- :mod:`~calib.models.reference.espeak` - espeak-ng through ctypes: speech, phonemes, their times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calib.models.reference.plugin import ReferenceModel

__all__ = ["factory"]


def factory(checkpoint: str | None = None, device: str = "cpu", **options: str) -> ReferenceModel:
    """Load the reference model (entry point ``reference`` of ``calib.models``).

    Args:
        checkpoint: a ``.safetensors`` path, or ``0``, ``5``, ``30``, ``100`` (percent of the training) or
            ``collapsed`` (its twin, trained on mels of zeros); None: ``100``.
        device: ``cpu``, ``cuda`` or ``auto``.
        **options: ``output_space`` (``raw`` or ``normalized``), and ``declare_output_space``, what the model claims
            about it, for demonstrations of a wrong claim.

    Raises:
        UsageError: an unknown option, value, device or checkpoint name.
        PluginError: the checkpoint is not this model's, or not whole; nothing is loaded in part.
    """
    from calib.models.reference.plugin import ReferenceModel

    return ReferenceModel(checkpoint, device, **options)
