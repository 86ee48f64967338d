"""What the fault tests share: the declared front end as numbers, and its variants recomputed from the audio once."""

from __future__ import annotations

import numpy as np
import planted
import pytest

from calib.diagnose.faults.geometry import BankGeometry
from calib.mel.variants import Variants, bank_geometry


class Kept(Variants):
    """Variants that are computed once a session."""

    def __init__(self) -> None:
        super().__init__(planted.HIFIGAN, planted.spoken)
        self._kept: dict[tuple[int, str | float], np.ndarray | None] = {}

    def mel(self, index: int, key: str) -> np.ndarray | None:
        if (index, key) not in self._kept:
            self._kept[index, key] = super().mel(index, key)
        return self._kept[index, key]

    def relabelled(self, index: int, ratio: float) -> np.ndarray | None:
        if (index, ratio) not in self._kept:
            self._kept[index, ratio] = super().relabelled(index, ratio)
        return self._kept[index, ratio]


@pytest.fixture(scope="session")
def geometry() -> BankGeometry:
    """Of the targets' front end."""
    return bank_geometry(planted.HIFIGAN, 80)


@pytest.fixture(scope="session")
def recomputed() -> Kept:
    """The targets under every variant, from the audio."""
    return Kept()
