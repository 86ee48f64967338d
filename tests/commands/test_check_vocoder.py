"""``calib check vocoder``: verdicts on vocoders whose faults are known, and the rules on figures alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from speechlike import RATE, recording

from calib.data.sources import Item
from calib.data.sources.spread import halving, spread_over
from calib.mel.frontend import FrontEnd
from calib.vocoders.check.domains import domains
from calib.vocoders.check.measure import Copy, likeness, measure
from calib.vocoders.check.verdict import Heard, Tried, decide

Cli = Callable[..., Any]
HIFIGAN = FrontEnd.load("hifigan")

# Vocoders of one file: each says that it wants hifigan's mels.
PLUGINS = """
import dataclasses
import numpy as np
from calib.mel.frontend import FrontEnd
from calib.vocoders.griffin_lim import GriffinLim

def gl(**fields):
    return GriffinLim(dataclasses.replace(FrontEnd.load("hifigan"), **fields), iterations=8).vocode

class V:
    frontend = "hifigan"
    def __init__(self, vocode):
        self.vocode = vocode

def healthy(checkpoint, device): return V(gl())
def log10(checkpoint, device): return V(gl(log="log10"))
def label(checkpoint, device): return V(lambda mel: (gl()(mel)[0], 16000))
def hop(checkpoint, device): return V(gl(hop_length=320))
def nan(checkpoint, device): return V(lambda mel: (np.full(len(mel) * 256, np.nan, np.float32), 22050))
def crash(checkpoint, device): return V(lambda mel: 1 / 0)
def silent(checkpoint, device): return V(lambda mel: (np.zeros(len(mel) * 256, np.float32), 22050))
def buzz(checkpoint, device):
    return V(lambda mel: (np.sin(0.05 * np.arange(len(mel) * 256)).astype(np.float32) * 0.3, 22050))
def network(checkpoint, device):
    rng = np.random.default_rng(0)
    weights, noise = rng.normal(0, 0.3, 80), rng.standard_normal(1 << 20)
    return V(lambda mel: ((0.2 + 0.2 * np.sin(mel @ weights)).repeat(256) * noise[: len(mel) * 256] * 0.5, 22050))
def fresh(checkpoint, device):
    rng = np.random.default_rng(0)
    return V(lambda mel: (0.1 * rng.standard_normal(len(mel) * 256).astype(np.float32), 22050))
def loud(checkpoint, device): return V(lambda mel: (gl()(mel)[0] * np.float32(4.0) + np.float32(0.05), 22050))
"""


@pytest.fixture(scope="module")
def wavs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    for k in range(2):
        soundfile.write(folder / f"c{k}.wav", 0.5 * recording(1.1, k), RATE, subtype="FLOAT")
    return folder


@pytest.fixture
def check(calib: Cli, wavs: Path, tmp_path: Path) -> Callable[..., tuple[str, dict[str, Any]]]:
    """First line and JSON of ``calib check vocoder`` with a vocoder of `PLUGINS`."""
    (tmp_path / "plugins.py").write_text(PLUGINS, encoding="utf-8")

    def call(name: str, *arguments: object) -> tuple[str, dict[str, Any]]:
        shown = calib(
            "check", "vocoder", wavs, "--vocoder", f"plugins.py:{name}", "--json", "out.json", "--force", *arguments
        )
        assert shown.code == 0, shown.err
        found = json.loads(Path("out.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
        verdict = found["verdict"]
        assert shown.out.startswith(f"{verdict['headline']}: {verdict['sentence']}.")
        return shown.out, found

    return call


def test_a_healthy_vocoder_is_healthy_and_griffin_lim_stands_beside_it(check: Any, tmp_path: Path) -> None:
    out, found = check("healthy", "-o", tmp_path / "heard")
    assert found["verdict"]["state"] == "healthy"
    assert found["status"] == "pass"
    assert "are not what you hear" in out
    assert "Griffin-Lim" in out
    assert {row["vocoder"] for row in found["rows"]} == {"vocoder", "griffin-lim"}
    assert max(row["lsd_db"] for row in found["rows"]) < 4.0
    names = {path.name for path in (tmp_path / "heard").iterdir()}
    assert names == {f"c{k}.{who}.wav" for k in range(2) for who in ("natural", "vocoder", "griffin-lim")}
    assert found["domains"] == []


def test_a_vocoder_that_wants_log10_is_found_out(check: Any) -> None:
    out, found = check("log10", "--limit", 1)
    assert found["verdict"]["state"] == "wrong-domain"
    assert "log10" in found["verdict"]["liked"]
    assert "fed log10" in out.splitlines()[0]
    assert "calib convert" in found["verdict"]["next_steps"][0]


def test_a_random_network_is_noise_whatever_it_is_fed(check: Any) -> None:
    out, found = check("network", "--limit", 1)
    assert found["verdict"]["state"] == "untrained"
    assert found["verdict"]["liked"] == []
    assert len(found["domains"]) > 20
    assert "weights were not restored" in out.splitlines()[0]
    assert min(row["lsd_db"] for row in found["rows"] if row["vocoder"] == "griffin-lim") < 4.0


def test_the_same_buzz_for_every_mel_ignores_its_input(check: Any) -> None:
    _, found = check("buzz", "--limit", 1)
    assert found["verdict"]["state"] == "deaf"
    assert found["change"] < 0.05
    assert found["own_change"] == 0.0


def test_fresh_noise_at_every_call_is_no_answer_to_the_input(check: Any) -> None:
    _, found = check("fresh", "--limit", 1)
    assert found["change"] > 0.08
    assert found["own_change"] == pytest.approx(found["change"], abs=0.03)
    assert found["verdict"]["state"] == "deaf"


@pytest.mark.parametrize(("name", "words"), [("label", "says 16000 Hz"), ("hop", "makes 320 samples of a frame")])
def test_wrong_rates_and_speeds_are_put_right(check: Any, name: str, words: str) -> None:
    _, found = check(name, "--limit", 1)
    assert found["verdict"]["state"] == "wrong-rate"
    assert words in found["verdict"]["sentence"]
    assert found["put_right"]["r"] > 0.8


@pytest.mark.parametrize(
    ("name", "state", "words"),
    [("nan", "broken", "NaN"), ("crash", "broken", "ZeroDivisionError"), ("silent", "silent", "silence")],
)
def test_what_cannot_be_heard_is_said(check: Any, name: str, state: str, words: str) -> None:
    out, found = check(name, "--limit", 1)
    assert found["verdict"]["state"] == state
    assert words in out


def test_a_healthy_copy_may_be_too_loud_and_clipped(check: Any) -> None:
    out, found = check("loud", "--limit", 1)
    assert found["verdict"]["state"] == "healthy"
    assert found["status"] == "warn"
    assert "louder than its recordings" in out
    assert "DC" in out


def test_the_front_end_may_be_given(check: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: hifigan\nlog: log10\n", encoding="utf-8")
    _, found = check("log10", "--frontend", "mine.yaml", "--limit", 1)
    assert found["frontend"]["declared_by"] == "--frontend"
    assert found["verdict"]["state"] == "healthy"


def test_the_gate_and_usage(calib: Cli, wavs: Path, tmp_path: Path) -> None:
    (tmp_path / "plugins.py").write_text(PLUGINS, encoding="utf-8")
    closed = calib("check", "vocoder", wavs, "--vocoder", "plugins.py:nan", "--fail-on", "fail")
    assert closed.code == 10
    assert calib("check", "vocoder", wavs, "--vocoder", "griffinlim").code == 2
    assert calib("check", "vocoder", tmp_path, "--vocoder", "griffin-lim").code == 3
    assert (
        calib("check", "vocoder", wavs, "--vocoder", "griffin-lim", "--frontend", "tacotron2", "--limit", 1).code == 0
    )


# --- figures and rules ----------------------------------------------------------------------------------------------


def copy(**changes: Any) -> Copy:
    base = Copy(
        mel_db=1.0, mel_level_db=1.0, mel_r=0.99, lsd_db=2.0, r=0.97, envelope_r=0.99, level_db=0.0, lag_ms=0.0, duration=1.0,
        frame_samples=256.0, sample_rate=22050, flatness_db=0.0, silence_db=40.0, natural_silence_db=40.0, clipped=0.0, dc=0.0,
        peak=0.5,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


FAR = copy(lsd_db=12.0, r=0.1, envelope_r=0.1)
HISS = copy(lsd_db=15.0, r=0.45, envelope_r=0.85, flatness_db=15.0)  # as much hiss as speech, and Griffin-Lim
DROWNED = copy(lsd_db=16.5, r=0.18, envelope_r=0.68, flatness_db=20.0)  # 12 dB more hiss than speech
OWN = Tried("declared", "the declared mels", 12.0, 0.3)


@pytest.mark.parametrize(
    ("heard", "state"),
    [
        (Heard([copy()]), "healthy"),
        (Heard([copy(lsd_db=6.0, r=0.9)]), "degraded"),
        (Heard([FAR]), "untrained"),
        (Heard([FAR], domains=[Tried("log10", "log10", 2.0, 0.95)], declared=OWN), "wrong-domain"),
        (Heard([FAR], domains=[Tried("log10", "log10", 9.0, 0.95)], declared=OWN), "untrained"),
        (Heard([FAR], domains=[Tried("log10", "log10", 2.0, 0.5)], declared=OWN), "untrained"),
        (Heard([FAR], change=0.03), "deaf"),
        (Heard([FAR], change=0.14), "untrained"),  # it answers, if little: what random networks do
        (Heard([FAR], change=0.14, own_change=0.12), "deaf"),  # it draws new noise at each call
        (Heard([HISS], change=0.14), "degraded"),
        (Heard([DROWNED], change=0.04), "degraded"),
        (Heard([copy(lsd_db=12.0, r=0.1, envelope_r=0.9)], change=0.5), "untrained"),
        (Heard([copy()], change=0.05), "healthy"),
        (Heard([copy(peak=0.0, lsd_db=30.0, r=0.0)]), "silent"),
        (Heard([], errors=["it failed"]), "broken"),
        (Heard([copy()], nonfinite=1), "broken"),
        (Heard([FAR], relabelled=(2.0, 0.95, "its audio says 16000 Hz")), "wrong-rate"),
        (Heard([FAR], relabelled=(11.0, 0.35, "its audio says 16000 Hz")), "untrained"),
    ],
)
def test_states(heard: Heard, state: str) -> None:
    assert decide(heard).state == state


def test_hiss_is_called_noise_and_a_faint_answer_is_said_in_words() -> None:
    hiss = decide(Heard([HISS], change=0.14))
    assert hiss.status == "fail"
    assert "under noise (spectral flatness +15.0 dB" in hiss.sentence
    assert "noise" not in decide(Heard([copy(lsd_db=6.0, r=0.9)])).sentence
    faint, loud = (decide(Heard([FAR], change=change)).sentence for change in (0.14, 0.6))
    assert "hardly answers its input" in faint
    assert "14%" in faint
    assert "answers" not in loud


def test_domains_that_do_equally_well_are_named_together() -> None:
    tried = [Tried("a", "a", 2.0, 0.95), Tried("b", "b", 2.3, 0.95), Tried("c", "c", 3.0, 0.95)]
    verdict = decide(Heard([FAR], domains=tried, declared=OWN))
    assert [each.name for each in verdict.liked] == ["a", "b"]
    assert "fed a or b its copy" in verdict.sentence


def test_a_recording_is_its_own_copy_and_a_delay_and_a_level_are_measured() -> None:
    x = recording(1.0, 3)
    mel = HIFIGAN.mel(x)
    same = measure(x, mel, x, RATE, HIFIGAN)
    assert same.lsd_db < 1e-3
    assert same.mel_db is not None
    assert same.mel_db < 1e-3
    assert same.r == pytest.approx(1.0)
    late = measure(x, mel, np.concatenate([np.zeros(1100, np.float32), 0.5 * x]), RATE, HIFIGAN)
    assert late.lag_ms == pytest.approx(50.0, abs=5.1)
    assert late.level_db == pytest.approx(-6.02, abs=0.1)
    assert late.lsd_db < 1.0


def test_noise_is_far_flat_and_does_not_follow() -> None:
    x = recording(1.0, 3)
    noise = 0.1 * np.random.default_rng(0).standard_normal(len(x)).astype(np.float32)
    found = measure(x, HIFIGAN.mel(x), noise, RATE, HIFIGAN)
    assert found.lsd_db > 8.0
    assert abs(found.r) < 0.3
    assert found.flatness_db > 6.0
    lsd, _ = likeness(x, noise, RATE, RATE)
    assert lsd == pytest.approx(found.lsd_db, rel=0.1)


def test_no_two_domains_make_the_same_mels_and_none_the_declared_ones() -> None:
    x = recording(0.8, 1)
    own = HIFIGAN.mel(x)
    found = domains(HIFIGAN, [x])
    assert len({(d.frontend.id, d.flipped) for d in found}) == len(found) > 30
    for domain in found:
        mel = domain.mel(x, RATE)
        assert mel is not None
        assert mel.shape[1] == 80
        if mel.shape == own.shape and domain.kind == "units":
            assert not np.allclose(mel, own, atol=1e-3), domain.name
    by_name = {d.name: d for d in found}
    assert np.allclose(by_name["log10"].mel(x, RATE), own / np.log(10), atol=1e-5)
    normalised = by_name["normalised"].mel(x, RATE)
    assert normalised is not None
    assert abs(normalised.mean()) < 1e-3
    assert normalised.std() == pytest.approx(1.0, abs=1e-3)


def test_griffin_lim_is_no_vocoder_of_yours(calib: Cli, wavs: Path) -> None:
    done = calib("check", "vocoder", wavs, "--json", "out.json", "--fail-on", "warn")
    assert done.code == 10
    assert done.out.startswith("NO VOCODER WAS MEASURED: Griffin-Lim is the reference itself")
    assert "HEALTHY" not in done.out
    assert "--vocoder SPEC" in done.out
    found = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert found["verdict"]["state"] == "reference"
    assert {row["vocoder"] for row in found["rows"]} == {"griffin-lim"}


def test_clips_come_from_all_over_the_source_and_from_every_speaker() -> None:
    assert halving([0, 1, 2, 3, 4]) == [0, 2, 1, 3, 4]
    assert halving(list(range(100)))[:4] == [0, 50, 25, 75]
    assert [halving(list(range(n))) for n in (0, 1, 2)] == [[], [0], [0, 1]]
    for n in (3, 17, 64, 1000):
        assert sorted(halving(list(range(n)))) == list(range(n))
    items = [Item(f"{voice}{k}", speaker=voice) for voice in "abcdefgh" for k in range(10)]
    chosen = spread_over(items)
    assert [item.id for item in chosen[:4]] == ["a0", "e0", "c0", "g0"]
    assert {item.speaker for item in chosen[:8]} == set("abcdefgh")
    assert chosen[8].id == "a5"
    assert sorted(item.id for item in chosen) == sorted(item.id for item in items)


def test_one_voice_of_two_is_not_all_that_is_heard(calib: Cli, tmp_path: Path) -> None:
    lines = []
    for k in range(8):
        soundfile.write(tmp_path / f"c{k}.wav", 0.5 * recording(0.8, k), RATE, subtype="FLOAT")
        lines.append(f"c{k}.wav|some text|{'ab'[k // 4]}")
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    done = calib("check", "vocoder", "list.txt", "--columns", "path,text,speaker", "--limit", 2)
    assert done.code == 0, done.err
    assert "clips: c0, c4; spread over 8 recordings, 2 of 2 speakers" in done.out
