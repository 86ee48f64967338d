"""Every command opens a SOURCE in the same way: ``demo:corpus`` is one for all of them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from calib.cli import main
from calib.commands.opening import Opening
from calib.data.audio import read_audio
from calib.mel.frontend import FrontEnd


def test_the_embedded_corpus_is_a_source_of_identify_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frontend = FrontEnd.load("hifigan")
    for item in Opening("demo:corpus", limit=2)():
        assert item.audio is not None
        samples = read_audio(item.audio, frontend.sample_rate).samples
        np.save(tmp_path / f"{item.id}.npy", frontend.mel(samples))
    with pytest.raises(SystemExit) as caught:
        main(["frontends", "identify", "--audio", "demo:corpus", "--mel", str(tmp_path)])
    assert int(caught.value.code or 0) == 0
    assert "hifigan_jik" in capsys.readouterr().out.splitlines()[0]


def test_an_opening_goes_to_a_worker_and_opens_the_same() -> None:
    opening = Opening("demo:corpus", limit=3)
    there = pickle.loads(pickle.dumps(opening))  # noqa: S301 - our own
    assert [item.id for item in there()] == [item.id for item in opening()]
    assert len(list(there())) == 3
