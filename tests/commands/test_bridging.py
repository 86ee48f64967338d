"""A vocoder that wants other mels: an error with the fields, or with --convert a conversion that is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from speechlike import voice

from calib.commands.plugins import VocoderConfig, open_vocoder
from calib.demo import CORPUS
from calib.errors import RefusedError, UsageError
from calib.mel.frontend import FrontEnd
from calib.vocoders.griffin_lim import GriffinLim

MODEL = FrontEnd.load("hifigan")


def decibel(folder: Path) -> Path:
    """The same family in another unit."""
    path = folder / "decibel.yaml"
    path.write_text(yaml.safe_dump({"base": "hifigan", "log": "log10", "log_multiplier": 20.0}))
    return path


def config(frontend: object, *, convert: bool) -> VocoderConfig:
    return VocoderConfig("griffin-lim", None, {"frontend": str(frontend), "iterations": 4}, convert=convert)


def test_another_front_end_is_an_error_with_its_fields(tmp_path: Path) -> None:
    """Without --convert nothing is guessed."""
    with pytest.raises(UsageError) as caught:
        open_vocoder(config(decibel(tmp_path), convert=False), MODEL)
    assert "log: ln in the mel, log10 in the vocoder" in caught.value.message
    assert "--convert" in str(caught.value.hint)


def test_one_family_is_converted_exactly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sound is that of the vocoder's own mel of the same speech; the way is said on stderr."""
    opened = open_vocoder(config(decibel(tmp_path), convert=True), MODEL)
    said = capsys.readouterr().err
    assert "mels are converted from hifigan_jik to custom: exact" in said
    assert opened.frontend == MODEL
    speech = voice(0.8, 1)
    target = FrontEnd.load(decibel(tmp_path))
    wanted, rate = GriffinLim(target, iterations=4).vocode(target.mel(speech))
    given, _ = opened.vocoder.vocode(MODEL.mel(speech))
    assert rate == 22050
    assert np.abs(given - wanted).max() < 2e-3 * np.abs(wanted).max()


def test_another_family_is_converted_with_a_measured_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Inversion of the filters: the expected error is said, and the mel of the sound is near the speech's."""
    htk = tmp_path / "htk.yaml"
    htk.write_text(yaml.safe_dump({"base": "hifigan", "mel_scale": "htk", "filter_norm": None}))
    opened = open_vocoder(config(htk, convert=True), MODEL)
    said = capsys.readouterr().err
    assert "approximate, by inversion" in said
    assert "expected error" in said
    speech, _ = soundfile.read(CORPUS / "wavs" / "anna_en_00.flac", dtype="float32", frames=22050)
    converted = opened.vocoder.converter.apply(MODEL.mel(speech))  # type: ignore[attr-defined]
    assert np.abs(converted - FrontEnd.load(htk).mel(speech)).mean() < 0.3
    samples, rate = opened.vocoder.vocode(MODEL.mel(speech))
    assert (rate, abs(samples.size - speech.size) <= 256) == (22050, True)


def test_what_the_mel_does_not_hold_is_refused() -> None:
    """A vocoder with bins above the mel's band: exit 5, with the reason."""
    with pytest.raises(RefusedError, match="centred outside"):
        open_vocoder(config("bigvgan_24k_100", convert=True), FrontEnd.load("hf_speecht5"))


def test_synth_speaks_through_another_front_end(tmp_path: Path) -> None:
    """`calib synth --vocoder-option --convert`: refused without, a WAV with."""
    pytest.importorskip("espeakng_loader", reason="the reference model turns text into phonemes with espeak-ng")
    from calib.cli import _run

    arguments = ["synth", "--text", "Yes.", "-o", str(tmp_path / "a.wav"), "--vocoder-option", f"frontend={decibel(tmp_path)}", "--vocoder-option", "iterations=4"]  # fmt: skip
    assert _run(arguments) == 2
    assert _run([*arguments, "--convert"]) == 0
    assert soundfile.info(tmp_path / "a.wav").frames > 4000
