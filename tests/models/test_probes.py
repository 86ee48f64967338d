"""Every planted fault is found by its probe, and no probe fires on the healthy model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from calib.cli import _run
from calib.errors import DataError
from calib.models.probes import PROBES, Scene, probe_all
from calib.models.probes.free import align_frames
from calib.models.protocol import Utterance
from calib.models.reference import corpus, espeak, factory
from calib.models.reference.plugin import ReferenceModel
from calib.models.teaching import Teacher

sys.path.insert(0, str(Path(__file__).parent))
import planted

pytestmark = pytest.mark.skipif(not espeak.available(), reason="espeakng_loader is not installed (the extra `demo`)")


@pytest.fixture(scope="module")
def batch():
    """Two short utterances of each of two speakers, each the other's reference."""
    import dataclasses

    torch.set_num_threads(1)
    by_speaker: dict[str, list[Utterance]] = {}
    for u in sorted(corpus.utterances(), key=lambda u: len(u.mel)):
        by_speaker.setdefault(u.speaker, []).append(u)
    chosen = [own for own in by_speaker.values() if len(own) > 1 and own[0].language == "en"][:2]
    return [dataclasses.replace(u, reference_mel=own[1 - k].mel) for own in chosen for k, u in enumerate(own[:2])]


def scene(model, batch) -> Scene:
    voices = {u.id: u.audio for u in batch}
    again = type(model) if not isinstance(model, ReferenceModel) else lambda: factory("100")
    return Scene(Teacher(model, "planted", 80), batch, 22050 / 256, voices, reload=again)


def found(model, batch, *names) -> dict[str, str]:
    return {f.probe: f.status for f in probe_all(scene(model, batch), names or None)}


def test_no_probe_fires_on_the_healthy_reference_model(batch):
    findings = list(probe_all(scene(factory("100"), batch)))
    assert {f.probe: f.status for f in findings} == dict.fromkeys(PROBES, "pass"), [
        f.sentence for f in findings if f.status != "pass"
    ]
    assert all(f.seconds > 0 for f in findings)
    assert all(json.dumps(f.to_json(), allow_nan=False) for f in findings)


def test_a_post_net_is_no_leak(batch):
    (finding,) = probe_all(scene(planted.PostNet(), batch), ["causality"])
    assert finding.status == "pass"
    assert finding.evidence["reach_frames"] == 9  # ten, and the frame before a frame is all that it sees


@pytest.mark.parametrize(
    ("fault", "probe", "status"),
    [
        (planted.InvertedMask, "causality", "fail"),
        (planted.NotShifted, "causality", "fail"),
        (planted.TextIgnored, "text", "fail"),
        (planted.DeadConditioning, "speaker", "fail"),
        (planted.DropoutOn, "determinism", "fail"),
        (planted.PaddingLeaks, "padding", "fail"),
        (planted.UnrestoredDecoder, "fresh-init", "fail"),
        (planted.ReportedMissing, "restored", "fail"),
        (planted.DrawnAnew, "reload", "fail"),
        (planted.ZeroHead, "movement", "fail"),
        (planted.SeedIgnored, "sampling", "fail"),
        (planted.TemperatureUnused, "sampling", "warn"),
        (planted.NeverStops, "stopping", "fail"),
        (planted.StopsEarly, "stopping", "fail"),
        (planted.Repeats, "alignment", "fail"),
        (planted.Skips, "alignment", "fail"),
    ],
)
def test_a_planted_fault_is_found_by_its_probe(batch, fault, probe, status):
    assert found(fault(), batch, probe) == {probe: status}


def test_a_fault_of_one_kind_does_not_make_the_other_probes_fire(batch):
    forced = ("determinism", "movement", "padding", "causality", "text", "speaker")
    for fault, own in (
        (planted.DeadConditioning, "speaker"),
        (planted.PaddingLeaks, "padding"),
        (planted.TextIgnored, "text"),
    ):
        assert [name for name, status in found(fault(), batch, *forced).items() if status == "fail"] == [own]


def test_what_cannot_be_asked_is_skipped_with_the_reason(batch):
    import dataclasses

    class Plain:
        frontend, output_space, kind, autoregressive, padding_safe = "hifigan", "raw", "mean", True, False

        def teacher_force(self, batch):
            return [np.vstack([0 * u.mel[:1], u.mel[:-1]]) for u in batch]

    one = [dataclasses.replace(batch[0], text="", speaker=None, reference_mel=None)]
    findings = {f.probe: f for f in probe_all(scene(Plain(), one))}
    assert {name for name, f in findings.items() if f.status == "skipped"} == set(PROBES) - {
        "determinism",
        "movement",
        "causality",
        "reload",
    }
    assert all(f.sentence for f in findings.values())


def test_a_model_that_fails_in_a_probe_fails_that_probe_and_the_others_go_on(batch):
    class Refuses(planted.Planted):
        def teacher_force(self, batch):
            if any(u.text == "" for u in batch):
                raise DataError("no text")
            if len(batch) > 1:
                raise ValueError("no batches, please")
            return super().teacher_force(batch)

    findings = {f.probe: f for f in probe_all(scene(Refuses(), batch), ["padding", "text"])}
    assert findings["padding"].status == "fail"
    assert "no batches, please" in findings["padding"].sentence
    assert findings["text"].status == "pass"


def test_free_running_ends_with_its_budget(batch):
    asked = scene(factory("100"), batch)
    asked.budget = 0.0
    findings = {f.probe: f for f in probe_all(asked, ["stopping", "alignment", "sampling"])}
    assert len(asked.spoken) == 1  # one was begun before anything was spent
    assert findings["sampling"].status == "skipped"
    assert "of free running are spent" in findings["sampling"].sentence


def test_warping_finds_the_stretch_that_was_put_in():
    rng = np.random.default_rng(0)
    mel = rng.normal(size=(40, 12))
    a, b = align_frames(np.repeat(mel, 2, axis=0), mel)
    assert np.array_equal(np.unique(a), np.arange(80))
    assert np.array_equal(a // 2, b)


def test_the_command_says_it_in_lines_in_json_and_by_its_exit_code(tmp_path, capsys):
    json_file = tmp_path / "check.json"
    arguments = [
        "check",
        "model",
        "demo:corpus",
        "--limit",
        "4",
        "--language",
        "en",
        "--device",
        "cpu",
        "--no-free-running",
    ]
    assert _run([*arguments, "--json", str(json_file), "--fail-on", "warn"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("NO FAULT FOUND by 9 probes (3 skipped).")
    report = json.loads(json_file.read_text(encoding="utf-8"))
    assert report["schema"] == "calib/check-model/1"
    assert report["status"] == "pass"
    assert len(report["findings"]) == len(PROBES)
    assert all(f["seconds"] >= 0 for f in report["findings"])
    assert (
        _run([*arguments, "--checkpoint", "collapsed", "--probe", "movement", "--probe", "text", "--fail-on", "fail"])
        == 10
    )
    caught = capsys.readouterr()
    assert caught.out.startswith("FAULTS: movement, text.")
    assert _run([*arguments, "--probe", "txt"]) == 2
    assert "did you mean text?" in capsys.readouterr().err


def test_utterances_that_the_model_refuses_are_named_and_left_out(tmp_path, capsys):
    (tmp_path / "picky.py").write_text(
        "import numpy as np\nfrom calib.errors import DataError\n"
        "class M:\n    frontend, output_space, kind, autoregressive, padding_safe = 'hifigan', 'raw', 'mean', True, False\n"
        "    def teacher_force(self, batch):\n"
        "        if any('lights' in u.text for u in batch):\n            raise DataError(f'{batch[0].id}: no lights')\n"
        "        return [np.vstack([0 * u.mel[:1], u.mel[:-1]]) for u in batch]\n"
        "def factory(checkpoint, device):\n    return M()\n",
        encoding="utf-8",
    )
    arguments = ["check", "model", "demo:corpus", "--limit", "4", "--language", "en", "--device", "cpu", "--model", str(tmp_path / "picky.py"), "--json", str(tmp_path / "out.json"), "--probe", "text"]  # fmt: skip
    assert _run(arguments) == 0
    assert "skipped anna_en_03: no lights" in capsys.readouterr().err
    report = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert "anna_en_03" not in report["utterances"]
    assert report["skipped_utterances"] == {"anna_en_03": "no lights"}
    assert report["findings"][0]["status"] == "fail"  # it copies the frame before, whatever the text
