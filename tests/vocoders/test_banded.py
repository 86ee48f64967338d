"""A filterbank in blocks gives what the whole product gives, whatever its shape."""

from __future__ import annotations

import numpy as np
import pytest

from calib.mel.frontend import FrontEnd
from calib.mel.nonnegative import DenseBank, update
from calib.vocoders.banded import BandedBank
from calib.vocoders.unrolled import _mixed

RNG = np.random.default_rng(0)
BANKS = {
    "hifigan": FrontEnd.load("hifigan").basis().astype(np.float32),
    "htk, 40 bins": FrontEnd.load({"base": "hifigan", "n_mels": 40, "mel_scale": "htk"}).basis().astype(np.float32),
    "whole": RNG.random((20, 65), dtype=np.float32),
    "one filter": RNG.random((1, 9), dtype=np.float32),
    "holes": np.eye(6, 12, 3, dtype=np.float32) * np.array([[1], [0], [1], [1], [0], [2]], np.float32),
    "nothing": np.zeros((3, 5), np.float32),
    "reversed": FrontEnd.load("hifigan").basis().astype(np.float32)[::-1].copy(),
}


@pytest.mark.parametrize("name", BANKS)
def test_both_products_are_those_of_the_whole_bank(name: str) -> None:
    bank = BANKS[name]
    banded = BandedBank(bank)
    for frames in (1, 7):
        spectra = RNG.random((frames, bank.shape[1]), dtype=np.float32)
        bands = RNG.random((frames, bank.shape[0]), dtype=np.float32)
        for found, wanted in ((banded.bands(spectra), spectra @ bank.T), (banded.spectra(bands), bands @ bank)):
            assert found.dtype == np.float32
            assert found.shape == wanted.shape
            assert np.abs(found - wanted).max() <= 1e-5 * max(1.0, float(np.abs(wanted).max()))


def test_bins_above_the_last_filter_are_not_multiplied() -> None:
    bank = BANKS["hifigan"]
    banded = BandedBank(bank)
    cells = sum(part.size for _, _, part in banded._down)
    assert cells < 0.2 * bank.size


def test_the_kernel_is_correlated_with_zeros_around() -> None:
    ratio, kernel = RNG.normal(size=(9, 11)).astype(np.float32), RNG.normal(size=(5, 3)).astype(np.float32)
    padded = np.pad(ratio, ((2, 2), (1, 1)))
    wanted = [[float((padded[t : t + 5, m : m + 3] * kernel).sum()) for m in range(11)] for t in range(9)]
    assert np.abs(_mixed(ratio, kernel) - np.array(wanted)).max() < 1e-5


@pytest.mark.parametrize("name", ["hifigan", "htk, 40 bins", "holes"])
def test_one_update_serves_both_kinds_of_bank(name: str) -> None:
    """What Griffin-Lim does with blocks is what a conversion does with the whole bank."""
    bank = BANKS[name] / np.maximum(BANKS[name].sum(1, keepdims=True), np.float32(1e-6))
    seen = bank.sum(0)
    weights = np.divide(1, seen, out=np.zeros_like(seen), where=seen > 0)
    spectra = RNG.random((5, bank.shape[1]), dtype=np.float32)
    bands = RNG.random((5, bank.shape[0]), dtype=np.float32)
    dense, banded = (update(spectra, bands, kind(bank), weights) for kind in (DenseBank, BandedBank))
    assert dense.dtype == banded.dtype == np.float32
    assert np.abs(dense - banded).max() <= 1e-5 * float(dense.max())
    fixed = update(spectra, spectra @ bank.T, DenseBank(bank), weights)  # what has the wanted bands stays as it is
    assert np.abs(fixed - np.where(seen > 0, spectra, 0)).max() <= 1e-4
