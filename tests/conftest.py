"""Shared fixtures: where the real data lies, when it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared_data(name: str) -> Path:
    """``shared/data/NAME``, or skip with the reason."""
    for base in (ROOT.parent / "shared", ROOT / "shared"):
        path = base / "data" / name
        if path.exists():
            return path
    pytest.skip(f"shared/data/{name} is not on this machine (real data is measured on, never committed)")


@pytest.fixture
def founding_pair() -> Path:
    """The founding failure: target.npy and pred.npy, [674, 80]."""
    return shared_data("myxtts_checkpoint_10897")


@pytest.fixture
def ljspeech() -> Path:
    """Twenty-four real LJSpeech clips."""
    return shared_data("speech/en_ljspeech")
