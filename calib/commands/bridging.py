"""A vocoder that wants other mels than it gets: the mel is converted on the way (``--convert``), and that is said.

The way is `calib.mel.convert`'s: exact where one family allows it, else the inversion of the filters with what the embedded
corpus teaches about them, its error measured and said; refused where the mel does not hold what the vocoder needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from calib.errors import RefusedError
from calib.mel.convert import Converter, plan
from calib.mel.frontend import FrontEnd
from calib.models.protocol import Vocoder

__all__ = ["ConvertingVocoder", "bridge"]


class ConvertingVocoder:
    """A vocoder behind a conversion.

    Args:
        inner: the vocoder.
        converter: from the mels that come to those it wants.

    Attributes:
        frontend: of the mels that come.
        inner: the vocoder.
        last_gain: the inner vocoder's, dB.
    """

    def __init__(self, inner: Vocoder, converter: Converter) -> None:
        self.inner = inner
        self.converter = converter
        source = converter.plan.source
        self.frontend: str | Mapping[str, Any] = source.fields() if source.name == "custom" else source.name

    @property
    def last_gain(self) -> float:
        """What the vocoder turned its last audio down by, in dB; 0 where it does not say."""
        return float(getattr(self.inner, "last_gain", 0.0))

    def vocode(self, mel: np.ndarray) -> tuple[np.ndarray, int]:
        """``(T, M)`` of the source front end to samples and their rate in Hz."""
        return self.inner.vocode(self.converter.apply(mel))


def bridge(vocoder: Vocoder, source: FrontEnd, target: FrontEnd) -> tuple[ConvertingVocoder, list[str]]:
    """The vocoder behind a conversion, and what to say of it.

    Args:
        vocoder: it.
        source: front end of the mels that come.
        target: front end of the vocoder.

    Raises:
        RefusedError: the mels do not hold what the vocoder needs.
    """
    chosen = plan(source, target, audio=False, pairs=True)
    if chosen.how == "refused":
        raise RefusedError(
            f"the mels ({source.name}) cannot be converted for this vocoder ({target.name}): {chosen.why}",
            hint="a vocoder for the model's own front end, or calib convert --allow-loss, which says what it invents",
        )
    converter = Converter(chosen) if chosen.how == "exact" else _taught(chosen)
    said = [f"mels are converted from {source.name} to {target.name}: {'exact' if chosen.how == 'exact' else 'approximate, by inversion'}; {chosen.why}"]  # fmt: skip
    if converter.measured is not None:
        said += converter.measured.lines()
    return ConvertingVocoder(vocoder, converter), [*said, *chosen.notes]


def _taught(chosen: Any) -> Converter:
    from threadpoolctl import threadpool_limits

    from calib.commands.convert_input import examples_of, teacher
    from calib.data.sources import open_source
    from calib.demo import CORPUS

    voices = tuple(teacher(item) for item in open_source(CORPUS))
    with threadpool_limits(1):
        return Converter.fit(chosen, examples_of(voices, chosen.source, chosen.target), on="measured on the synthetic voices that come with calib; for real speech expect 0.8 to 1.5 times that")  # fmt: skip
