"""``calib frontends``: list, show and diff, for people and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib.mel.catalogue import entries
from calib.mel.frontend import FrontEnd

Cli = Callable[..., Any]


def test_list_names_every_front_end_once_beside_its_family(calib: Cli) -> None:
    out = calib("frontends", "list").out
    lines = out.splitlines()
    assert lines[0] == "71 front ends, 56 different mels, in 40 families."
    for entry in entries():
        rows = [line for line in lines if line.lstrip("= ").split(" ")[0] == entry.id]
        assert len(rows) == 1
        assert rows[0].endswith(entry.title)
    at = next(k for k, line in enumerate(lines) if "tacotron2_nv (tacotron2)" in line)
    assert lines[at + 1].startswith("= waveglow"), "the same mel as the line above"


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (
            ["--rate", "44100", "--bins", "128"],
            {"bigvgan_v2_44k_128_256x", "bigvgan_v2_44k_128_512x", "fish_vocoder_44k", "fish_diffusion_nsf"},
        ),
        (["--like", "vocos"], {"vocos_mel_24k", "f5tts_vocos"}),
        (["--bins", "160"], {"fish_speech_firefly"}),
    ],
)
def test_list_can_be_narrowed(calib: Cli, options: list[str], wanted: set[str]) -> None:
    found = json.loads(calib("frontends", "list", *options, "--json", "-").out)
    assert {row["id"] for row in found} == wanted
    assert all(FrontEnd.from_fields(row["frontend"]).id == row["frontend_id"] for row in found)


def test_a_list_of_nothing_is_an_error_that_says_which_rates_there_are(calib: Cli) -> None:
    result = calib("frontends", "list", "--rate", "8000")
    assert result.code == 2
    assert "16000, 22050, 24000" in result.err


def test_show_tells_frames_values_needs_and_relatives(calib: Cli) -> None:
    out = calib("frontends", "show", "pwg").out
    assert out.startswith("pwg_ljspeech: ParallelWaveGAN, LJSpeech, 22.05 kHz\n")
    for text in (
        "T = 1 + L // 256 for L samples", "0.434294482 ln(max(m, 1e-10)) of the magnitude m", "-10.0000", "(x - mean) / std by bin after it, with pwg_ljspeech@FILE",
        "[T, n_mels]", "kan-bayashi/ParallelWaveGAN@8674037", "exact map to  espnet2_tts_22k, hf_fastspeech2_conformer",
    ):  # fmt: skip
        assert text in out, text
    assert re.search(r"^fmax +7600\.0 +\(default 11025\.0\)$", out, re.MULTILINE)
    assert "bigvgan_22k_80_8k, gradtts, cosyvoice1_22k" in calib("frontends", "show", "hifigan").out


def test_show_takes_a_file_and_a_statistics_file(calib: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: hifigan\nfmax: 7600.0\n")
    result = calib("frontends", "show", "mine.yaml")
    assert result.code == 0
    assert result.out.startswith("mine.yaml: no named front end")
    np.save(tmp_path / "stats.npy", np.stack([np.full(80, -2.0), np.full(80, 0.5)]).astype(np.float32))
    result = calib("frontends", "show", "pwg@stats.npy")
    assert result.code == 0
    assert "applied from stats.npy" in result.out
    assert "post_std           80 values, 0.5 to 0.5" in result.out


def test_show_as_json_has_everything(calib: Cli) -> None:
    found = json.loads(calib("frontends", "show", "vits", "--json", "-").out)
    assert (found["id"], found["layout"], found["floor"], found["n_frames"], found["centre_offset"]) == (
        "vits_jaywalnut",
        "MT",
        None,
        "L // 256",
        128,
    )
    assert found["same_mel"] == ["vits_jaywalnut", "coqui_vits", "fish_speech_vqgan_old"]
    assert len(found["silence"]) == 80


def test_diff_says_what_differs_what_it_sounds_like_and_that_no_map_leads_there(calib: Cli) -> None:
    out = calib("frontends", "diff", "hifigan", "tacotron2").out
    assert out.startswith("hifigan and tacotron2 are different front ends: no exact map.\n")
    assert "frames of the second lie 128 samples (5.8 ms, half a hop) earlier" in out
    assert "-> everything is played 5.8 ms early, and a vocoder trained on one smears the other" in out
    assert "No exact map from hifigan to tacotron2: recompute the mel from the audio, or let calib convert" in out


def test_diff_prints_the_exact_map(calib: Cli) -> None:
    out = calib("frontends", "diff", "matcha", "hifigan").out
    assert "an exact map leads from one to the other" in out
    assert "Exact map (affine), y of matcha to y' of hifigan: y' = 2.116101 y - 5.536622" in out
    assert "not at the floor of the first (-2.824)" in out
    found = json.loads(calib("frontends", "diff", "matcha", "hifigan", "--json", "-").out)
    assert found["same_family"]
    np.testing.assert_allclose(found["exact_map"]["scale"], 2.116101)
    assert found["fields"]["post_offset"][1] == 0.0
    assert [row["field"] for row in found["differences"]] == ["post_scale"]
    assert found["differences"][0]["also"] == ["post_offset"]


def test_diff_of_one_mel_says_so(calib: Cli) -> None:
    result = calib("frontends", "diff", "tacotron2", "waveglow")
    assert result.out.startswith("tacotron2 and waveglow are the same front end (fe-")
    assert json.loads(calib("frontends", "diff", "tacotron2", "waveglow", "--json", "-").out)["same"] is True


@pytest.mark.parametrize("command", [["show", "hifgan"], ["diff", "hifgan", "hifigan"], ["list", "--like", "hifgan"]])
def test_an_unknown_name_suggests_the_nearest(calib: Cli, command: list[str]) -> None:
    result = calib("frontends", *command)
    assert result.code == 2
    assert "did you mean hifigan" in result.err
