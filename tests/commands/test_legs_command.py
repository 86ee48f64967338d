"""``calib diagnose --vocoder-frontend``: front end or model, from files to the terminal, the JSON and the exit code."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from speechlike import RATE, modelled, recording

from calib.commands.legs_text import how_far
from calib.data.pairs import PairsWriter
from calib.diagnose.legs.blame import Words, blame
from calib.diagnose.legs.result import Leg
from calib.mel.frontend import FrontEnd
from calib.mel.identify import Identification

Cli = Callable[..., Any]
COUNT = 4
HIFIGAN = FrontEnd.load("hifigan")


@pytest.fixture(autouse=True)
def _nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Identification takes seconds and has tests of its own: here it finds no name, unless a test says otherwise."""
    monkeypatch.setattr("calib.mel.identify.identify", lambda _: Identification("", "partly", {}))


@pytest.fixture(scope="module")
def audio() -> list[np.ndarray]:
    return [recording(1.0 + 0.1 * k, k) for k in range(COUNT)]


@pytest.fixture(scope="module")
def wavs(audio: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wavs")
    for k, x in enumerate(audio):
        soundfile.write(folder / f"u{k}.wav", x, RATE, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def good(audio: list[np.ndarray]) -> list[np.ndarray]:
    """What the vocoder wants."""
    return [HIFIGAN.mel(x) for x in audio]


def log10(mels: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(m / np.log(10.0), np.float32) for m in mels]


def write(
    root: Path, predictions: Sequence[np.ndarray], targets: Sequence[np.ndarray], frontend: FrontEnd | None = None,
    free: Sequence[np.ndarray] | None = None,
) -> Path:  # fmt: skip
    header: dict[str, Any] = {"model_kind": "mean", "autoregressive": False}
    if frontend is not None:
        header |= {"frontend": frontend.fields(), "frontend_id": frontend.id}
    with PairsWriter(root, header) as writer:
        for k, (p, t) in enumerate(zip(predictions, targets, strict=True)):
            writer.write(f"u{k}", p, t, **({} if free is None else {"free_running": free[k]}))
    return root


def legs(calib: Cli, *arguments: object, code: int = 0) -> tuple[list[str], dict[str, Any]]:
    """The terminal's lines, and the ``legs`` of the JSON; both from one command."""
    shown = calib("diagnose", *arguments, "--json", "out.json", "--force")
    assert shown.code == code, shown.err
    found = json.loads(Path("out.json").read_text(encoding="utf-8"))["legs"]
    lines = shown.out.splitlines()
    assert lines[0] == f"{found['headline']}: {found['sentence']}.", "the verdict comes first"
    steps = lines[lines.index("next:") + 1 :]
    assert [line.split(". ", 1)[1] for line in steps[: len(found["next_steps"])]] == found["next_steps"]
    return lines, found


# --- whom to blame --------------------------------------------------------------------------------------------------


def test_targets_in_log10_are_the_front_ends_fault_and_the_model_is_healthy(
    calib: Cli, tmp_path: Path, wavs: Path, good: list[np.ndarray]
) -> None:
    targets = log10(good)
    pairs = write(tmp_path / "pairs", modelled(targets), targets)
    vocoder = ("--audio", wavs, "--vocoder-frontend", "hifigan")
    lines, found = legs(calib, pairs, *vocoder, "--fail-on", "fail", code=10)  # on the front end of a healthy model
    assert found["blame"] == "front-end"
    assert found["status"] == "fail"
    assert "2.303 * target" in lines[0]
    assert "the model is healthy" in lines[0]
    tv, pt, pv = (found["legs"][name] for name in ("T-V", "P-T", "P-V"))
    assert tv["findings"][0]["fault"] == "log-base"
    assert tv["slope"] == pytest.approx(np.log(10.0), rel=1e-3)
    assert tv["numbers"]["after_map_db"] < 0.1
    assert tv["mae_db"] > 10.0
    assert (pt["status"], pv["status"]) == ("pass", "fail")
    assert any(line.startswith("P-T by itself: HEALTHY") for line in lines)


def test_targets_of_another_system_are_named_with_the_way_to_the_vocoder(
    calib: Cli, tmp_path: Path, wavs: Path, audio: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    melgan = FrontEnd.load("melgan")
    found_one = Identification("", "named", {}, names=("melgan_descript",), frontend=melgan, error_db=0.0)
    monkeypatch.setattr("calib.mel.identify.identify", lambda _: found_one)
    targets = [melgan.mel(x) for x in audio]
    pairs = write(tmp_path / "pairs", modelled(targets), targets)
    lines, found = legs(calib, pairs, "--audio", wavs, "--vocoder-frontend", "hifigan")
    assert found["identified"]["names"] == ["melgan_descript"]
    assert (
        "melgan_descript mels where the vocoder wants hifigan_jik (80 bins, slaney scale, 0-11,025 Hz against"
        in lines[0]
    )
    assert found["identified"]["differences"][0]["field"] == "fmax"
    tv = found["legs"]["T-V"]
    assert tv["findings"] == [], "the front end is known: what the values look like is no cause"
    assert tv["values_alone"]
    assert "melgan_descript" in tv["sentence"]
    assert found["legs"]["P-V"]["findings"] == []
    assert "they follow targets that are not" in found["legs"]["P-V"]["sentence"]
    at = lines.index(f"T-V: {tv['sentence']}.")
    assert "0-11,025 Hz against" in lines[at + 1], "what differs and what it does come first"
    assert "confidence" not in "".join(lines[at : lines.index("")])
    assert found["conversion"]["how"] == "fitted"
    assert "--from melgan_descript --to hifigan_jik --audio SOURCE" in found["next_steps"][0]


@pytest.mark.parametrize(("error_db", "known"), [(1e-9, True), (3.0, False)])
def test_a_front_end_without_a_name_is_the_cause_only_where_it_makes_these_targets(
    calib: Cli, tmp_path: Path, wavs: Path, audio: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, error_db: float, *, known: bool
) -> None:  # fmt: skip
    power = dataclasses.replace(HIFIGAN, power=2, spectrum_eps=0.0)
    found_one = Identification("", "described", {}, nearest="hifigan_jik", frontend=power, error_db=error_db)
    monkeypatch.setattr("calib.mel.identify.identify", lambda _: found_one)
    targets = [power.mel(x) for x in audio]
    pairs = write(tmp_path / "pairs", modelled(targets), targets)
    lines, found = legs(calib, pairs, "--audio", wavs, "--vocoder-frontend", "hifigan")
    assert found["blame"] == "front-end"
    assert ("the filters sum powers against magnitudes" in lines[0]) == known
    assert (found["legs"]["T-V"]["findings"] == []) == known
    assert any("seen from the values alone" in line for line in lines) != known


def test_what_lies_under_a_guard_is_not_promised_back(
    calib: Cli, tmp_path: Path, wavs: Path, audio: list[np.ndarray], good: list[np.ndarray]
) -> None:
    high = dataclasses.replace(HIFIGAN, log_eps=1e-2)
    targets = [high.mel(x) for x in audio]
    predictions = [np.maximum(p, np.float32(np.log(1e-2))) for p in modelled(good)]
    pairs = write(tmp_path / "pairs", predictions, targets, high)
    lines, found = legs(calib, pairs, "--audio", wavs, "--vocoder-frontend", "hifigan")
    assert found["blame"] == "front-end"
    assert "log(max(m, 0.01)) against log(max(m, 1e-05))" in lines[0]
    assert "the vocoder wants is" not in lines[0], "no map makes it"
    assert "no conversion brings back" in found["next_steps"][0]
    assert found["declared"]["verified"] is True
    assert found["declared"]["error_db"] < 0.1
    assert found["legs"]["T-V"]["findings"] == [], "the declaration, verified, is the cause"


def test_another_level_is_taken_and_not_identified(
    calib: Cli, tmp_path: Path, wavs: Path, good: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calib.mel.identify.identify", lambda _: pytest.fail("seconds for nothing"))
    targets = [m + np.float32(0.5) for m in good]
    pairs = write(tmp_path / "pairs", modelled(targets), targets)
    _, found = legs(calib, pairs, "--audio", wavs, "--vocoder-frontend", "hifigan")
    assert found["identified"] is None
    assert found["legs"]["T-V"]["grade"] == "level"
    pv = found["legs"]["P-V"]
    assert pv["judgement"] == f"as T: another level, {pv['numbers']['after_level_db']:.1f} dB off"
    assert pv["numbers"]["after_level_db"] < pv["mae_db"], "the level is not the model's error"


def test_a_vocoders_config_file_is_announced(calib: Cli, tmp_path: Path, good: list[np.ndarray]) -> None:
    config = {
        "resblock": "1", "upsample_rates": [8, 8, 2, 2], "num_mels": 80, "n_fft": 1024, "hop_size": 256, "win_size": 1024,
        "sampling_rate": 22050, "fmin": 0, "fmax": 8000, "fmax_for_loss": None, "segment_size": 8192,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    pairs = write(tmp_path / "pairs", modelled(good[:2]), good[:2])
    shown = calib("diagnose", pairs, "--vocoder-frontend", "config.json")
    assert sum("HiFi-GAN" in line and "config.json" in line for line in shown.err.splitlines()) == 1
    assert "hifigan_jik" in shown.out


def test_right_targets_and_a_healthy_model_blame_neither(
    calib: Cli, tmp_path: Path, wavs: Path, good: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calib.mel.identify.identify", lambda _: pytest.fail("seconds for nothing"))
    pairs = write(tmp_path / "pairs", modelled(good), good)
    lines, found = legs(calib, pairs, "--audio", wavs, "--vocoder-frontend", "hifigan")
    assert found["blame"] == "neither"
    assert "calib check vocoder" in lines[0]
    assert found["legs"]["T-V"]["judgement"] == "identical"
    assert found["legs"]["T-V"]["mae_db"] < 1e-6
    assert found["legs"]["P-V"]["mae_db"] == pytest.approx(found["legs"]["P-T"]["mae_db"], rel=0.02)
    assert found["status"] != "fail"


def test_half_a_hop_is_measured_and_does_not_blame_the_front_end(
    calib: Cli, tmp_path: Path, wavs: Path, audio: list[np.ndarray]
) -> None:
    targets = [FrontEnd.load("tacotron2").mel(x) for x in audio]
    pairs = write(tmp_path / "pairs", modelled(targets), targets)
    _, found = legs(calib, pairs, "--audio", wavs, "--vocoder-frontend", "hifigan")
    assert found["blame"] == "neither"
    assert found["legs"]["T-V"]["numbers"]["offset_ms"] == pytest.approx(-1000 * 128 / RATE, abs=0.8)
    assert "but for 0.5 frames in time" in found["sentence"]


def test_a_normalised_output_is_the_models_fault_and_its_calibration_is_judged(
    calib: Cli, tmp_path: Path, wavs: Path, good: list[np.ndarray]
) -> None:
    pairs = write(tmp_path / "pairs", [(p + 5) / 2 for p in modelled(good)], good, HIFIGAN)
    vocoder = ("--audio", wavs, "--vocoder-frontend", "hifigan")
    _, found = legs(calib, pairs, *vocoder)
    assert found["blame"] == "model"
    assert found["legs"]["T-V"]["status"] == "pass"
    assert calib("fit-scaler", pairs, "-o", "fit/params.json").code == 0
    lines, found = legs(calib, pairs, *vocoder, "--params", "fit/params.json")
    assert found["headline"] == "MODEL TO BLAME, REPAIRED"
    assert found["legs"]["P-V"]["status"] in {"pass", "warn"}
    assert "after the calibration the predictions are what the vocoder wants" in "\n".join(lines)


def test_a_calibration_that_leads_to_wrong_targets_does_not_bring_the_predictions_to_the_vocoder(
    calib: Cli, tmp_path: Path, wavs: Path, good: list[np.ndarray]
) -> None:
    targets = log10(good)
    pairs = write(tmp_path / "pairs", [(p + 2) / 0.9 for p in modelled(targets)], targets)
    assert calib("fit-scaler", pairs, "-o", "fit/params.json").code == 0
    _, found = legs(calib, pairs, "--audio", wavs, "--vocoder-frontend", "hifigan", "--params", "fit/params.json")
    assert found["legs"]["P-V"]["status"] == "fail"
    assert found["blame"] == "both"


def test_predictions_in_the_vocoders_domain_beside_other_targets_blame_the_targets(
    calib: Cli, tmp_path: Path, wavs: Path, good: list[np.ndarray]
) -> None:
    pairs = write(tmp_path / "pairs", modelled(good), log10(good))
    _, found = legs(calib, pairs, "--audio", wavs, "--vocoder-frontend", "hifigan")
    assert found["blame"] == "targets"
    assert found["status"] == "warn"


def test_another_hop_is_told_by_its_speed(calib: Cli, tmp_path: Path, wavs: Path, audio: list[np.ndarray]) -> None:
    targets = [dataclasses.replace(HIFIGAN, hop_length=320).mel(x) for x in audio]
    pairs = write(tmp_path / "pairs", modelled(targets), targets)
    lines, found = legs(calib, pairs, "--audio", wavs, "--vocoder-frontend", "hifigan")
    assert found["blame"] == "front-end"
    assert found["lengths"]["ratio"] == pytest.approx(256 / 320, rel=0.01)
    assert "too fast" in lines[0]
    assert found["lengths"]["speed_percent"] == pytest.approx(25.0, abs=1.0)


def test_other_bins_are_said_without_a_comparison(
    calib: Cli, tmp_path: Path, wavs: Path, good: list[np.ndarray]
) -> None:
    pairs = write(tmp_path / "pairs", modelled(good), good)
    _, found = legs(calib, pairs, "--audio", wavs, "--vocoder-frontend", "vocos_mel_24k")
    assert found["blame"] == "front-end"
    assert found["legs"]["T-V"]["judgement"] == "80 bins, not 100"
    assert found["legs"]["T-V"]["mae"] is None


def test_recordings_of_other_utterances_blame_nobody(calib: Cli, tmp_path: Path, good: list[np.ndarray]) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(COUNT):  # bursts of hiss
        loudness = np.repeat(rng.uniform(0.0, 1.0, 30) ** 3, 900)
        soundfile.write(folder / f"u{k}.wav", 0.2 * loudness * rng.standard_normal(27000), RATE, subtype="FLOAT")
    pairs = write(tmp_path / "pairs", modelled(good), good)
    _, found = legs(calib, pairs, "--audio", folder, "--vocoder-frontend", "hifigan")
    assert found["blame"] == "unknown"
    assert found["legs"]["T-V"]["judgement"] == "unrelated"
    assert found["legs"]["P-V"]["skipped"] == "the recordings are not those of the targets"


# --- how far from what the vocoder wants ---------------------------------------------------------------------------


def test_predictions_of_the_right_kind_say_how_far_off_they_are(
    calib: Cli, tmp_path: Path, wavs: Path, good: list[np.ndarray]
) -> None:
    """Copies of the targets are as wanted; a loose model's are so in kind, with the error and its yardstick."""
    vocoder = ("--audio", wavs, "--vocoder-frontend", "hifigan")
    _, found = legs(calib, write(tmp_path / "same", good, good), *vocoder)
    assert found["legs"]["P-V"]["judgement"] == "as wanted"
    assert found["legs"]["P-V"]["sentence"] == "the predictions are what the vocoder wants"
    lines, found = legs(calib, write(tmp_path / "loose", modelled(good, 0.85), good), *vocoder)
    pv = found["legs"]["P-V"]
    assert found["blame"] == "neither"
    assert pv["mae_db"] > 1.5
    assert f"{pv['mae_db']:.1f} dB off" in pv["judgement"]
    assert f"a mean spectrum in every frame: {pv['numbers']['static_db']:.1f} dB" in lines[0]


@pytest.mark.parametrize(
    ("mae_db", "sample_like", "far"), [(9.2, False, False), (9.4, False, True), (9.4, True, False), (10.2, True, True)]
)
def test_far_is_what_the_weakest_healthy_prediction_leaves_of_a_mean_spectrum(
    mae_db: float, sample_like: bool, far: bool
) -> None:
    leg = Leg("P-V", "pass", "as wanted", mae_db=mae_db, numbers={"static_db": 13.0})
    assert how_far(leg, sample_like=sample_like).far is far
    said = blame(
        Leg("T-V", "pass", "identical", mae_db=0.0),
        Leg("P-T", "pass", "healthy"),
        leg,
        Words(apart="9 dB off", far=far),
    )
    assert said.who == "neither"
    assert ("FAR OFF" in said.headline) is far
    assert ("calib check model" in said.sentence) is far


# --- without audio, with declarations -------------------------------------------------------------------------------


def test_without_audio_the_legs_are_skipped_and_differing_declarations_are_a_finding(
    calib: Cli, tmp_path: Path, good: list[np.ndarray]
) -> None:
    targets = log10(good)
    pairs = write(tmp_path / "pairs", modelled(targets), targets, dataclasses.replace(HIFIGAN, log="log10"))
    lines, found = legs(calib, pairs, "--vocoder-frontend", "hifigan")
    assert found["blame"] == "front-end"
    assert "as declared" in lines[0]
    assert "not verified" in lines[0]
    assert found["legs"]["T-V"]["skipped"] == "needs audio (--audio SOURCE)"
    assert "log" in [row["field"] for row in found["declared"]["differences"]]
    assert found["declared"]["verified"] is None
    assert found["declared"]["harmless"] is False


def test_declarations_that_differ_in_what_the_sound_hardly_shows_blame_nobody(
    calib: Cli, tmp_path: Path, good: list[np.ndarray]
) -> None:
    pairs = write(tmp_path / "pairs", modelled(good), good, FrontEnd.load("tacotron2"))
    lines, found = legs(calib, pairs, "--vocoder-frontend", "hifigan")
    assert found["blame"] == "unknown"
    assert found["declared"]["harmless"] is True
    assert any("hardly shows" in line for line in lines)


def test_without_audio_and_declarations_nothing_is_claimed(calib: Cli, tmp_path: Path, good: list[np.ndarray]) -> None:
    pairs = write(tmp_path / "pairs", modelled(good), good)
    lines, found = legs(calib, pairs, "--vocoder-frontend", "hifigan")
    assert found["blame"] == "unknown"
    assert not any("computed from the audio" in line for line in lines)
    assert found["next_steps"] == ["give the audio, so that targets and vocoder can be compared: --audio SOURCE"]


def test_a_wrong_declaration_is_found_out_on_the_audio(
    calib: Cli, tmp_path: Path, wavs: Path, good: list[np.ndarray]
) -> None:
    targets = log10(good)
    wrong = write(tmp_path / "wrong", modelled(targets), targets, HIFIGAN)
    lines, found = legs(calib, wrong, "--audio", wavs, "--vocoder-frontend", "hifigan")
    assert found["blame"] == "front-end"
    assert found["declared"]["verified"] is False
    assert any("the declaration is wrong" in line for line in lines)


# --- the vocoder's own declaration, free running, gates -------------------------------------------------------------


def test_the_vocoders_own_declaration_serves(calib: Cli, tmp_path: Path, wavs: Path, good: list[np.ndarray]) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "class V:\n    frontend = {'base': 'hifigan', 'log': 'log10'}\n    def vocode(self, mel):\n        return mel[:, 0], 22050\n\n\ndef factory(checkpoint, device):\n    return V()\n",
        encoding="utf-8",
    )
    targets = log10(good)
    pairs = write(tmp_path / "pairs", modelled(targets), targets)
    _, found = legs(calib, pairs, "--audio", wavs, "--vocoder", f"{plugin}:factory")
    assert found["blame"] == "neither"
    assert found["vocoder_frontend"]["origin"] == f"declared by {plugin}:factory"


def test_free_running_is_a_leg(calib: Cli, tmp_path: Path, wavs: Path, good: list[np.ndarray]) -> None:
    predictions = modelled(good)
    pairs = write(tmp_path / "pairs", predictions, good, free=[p[: len(p) // 2] for p in predictions])
    _, found = legs(calib, pairs, "--audio", wavs, "--vocoder-frontend", "hifigan")
    assert found["blame"] == "free-running"
    assert "stops early" in found["sentence"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--vocoder-frontend", "hifigan", "--vocoder", "griffin-lim"], "both say what the vocoder wants"),
        (["--vocoder-checkpoint", "x.pt"], "needs --vocoder"),
        (["--params", "x.json"], "--vocoder-frontend"),
        (["--vocoder-frontend", "hifgan"], "hifigan"),
    ],
)
def test_options_that_contradict_each_other_are_usage_errors(
    calib: Cli, tmp_path: Path, good: list[np.ndarray], arguments: list[str], words: str
) -> None:
    pairs = write(tmp_path / "pairs", modelled(good[:2]), good[:2])
    found = calib("diagnose", pairs, *arguments)
    assert found.code == 2
    assert words in found.err


def test_parameters_need_their_statistics(calib: Cli, tmp_path: Path, wavs: Path, good: list[np.ndarray]) -> None:
    pairs = write(tmp_path / "pairs", modelled(good), good)
    (tmp_path / "params.json").write_text('{"scale_factor": 1.0, "offset": 0.0}', encoding="utf-8")
    vocoder = ("--audio", wavs, "--vocoder-frontend", "hifigan")
    assert calib("diagnose", pairs, *vocoder, "--params", tmp_path / "params.json").code == 2
    assert calib("diagnose", pairs, *vocoder, "--params", tmp_path / "none.json").code == 3
