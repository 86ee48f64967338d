"""Every planted fault is found by its probe, and no probe fires on the healthy model."""

from __future__ import annotations

import json
import sys
import zlib
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
import planted_models as planted

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
        (planted.ReadsPaddingOnly, "text", "fail"),
        (planted.DeadConditioning, "speaker", "fail"),
        (planted.DropoutOn, "determinism", "fail"),
        (planted.PaddingLeaks, "padding", "fail"),
        (planted.UnrestoredDecoder, "fresh-init", "fail"),
        (planted.NeverStepped, "fresh-init", "warn"),
        (planted.NeverTrained, "fresh-output", "fail"),
        (planted.Collapsed, "fresh-output", "fail"),
        (planted.ZeroHead, "fresh-output", "fail"),
        (planted.ReportedMissing, "restored", "fail"),
        (planted.DrawnAnew, "reload", "fail"),
        (planted.ZeroHead, "movement", "fail"),
        (planted.SeedIgnored, "sampling", "fail"),
        (planted.TemperatureUnused, "sampling", "warn"),
        (planted.NeverStops, "stopping", "fail"),
        (planted.StopsEarly, "stopping", "fail"),
        (planted.Repeats, "alignment", "fail"),
        (planted.Skips, "alignment", "fail"),
        (planted.SpeaksLengthOnly, "alignment", "fail"),
        (planted.SpeaksNoise, "alignment", "fail"),
        (planted.NeverTrained, "alignment", "fail"),
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


def test_a_network_in_training_is_no_untrained_one_and_its_probed_copy_stays_as_it_was(batch):
    for share in ("5", "30"):
        model = factory(share)
        before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
        asked = scene(model, batch)
        asked.reload = lambda share=share: factory(share)
        (finding,) = probe_all(asked, ["fresh-output"])
        assert finding.status == "pass"
        assert finding.evidence["ratio"] > 5
        assert finding.evidence["r"] > finding.evidence["r_untrained"] + 0.5
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())


def test_where_an_untrained_network_says_nothing_that_is_said(batch):
    class Passes(planted.Planted):
        """A network that hands the true frame before on, trained or not."""

        def teacher_force(self, batch):
            return [0.1 * mel + np.vstack([0 * u.mel[:1], u.mel[:-1]]) for mel, u in zip(super().teacher_force(batch), batch, strict=True)]  # fmt: skip

    (finding,) = probe_all(scene(Passes(), batch), ["fresh-output"])
    assert finding.status == "skipped"
    assert "hands the true frame before on" in finding.sentence
    other = scene(planted.Planted(), batch)
    other.reload = lambda: other.model
    (finding,) = probe_all(other, ["fresh-output"])
    assert finding.status == "skipped"
    assert "apart from the first" in finding.sentence

    class OtherNames(planted.Planted):
        def __init__(self):
            super().__init__()
            self.fresh = lambda _: {"other.weight": torch.zeros(1)}

    (finding,) = probe_all(scene(OtherNames(), batch), ["fresh-output"])
    assert finding.status == "skipped"
    assert "other tensors" in finding.sentence


def test_a_model_that_reads_no_text_or_knows_one_voice_is_not_accused(batch):
    def deaf(batch):
        return [0.5 * np.vstack([0 * u.mel[:1], u.mel[:-1]]) for u in batch]

    assert found(own(teacher_force=deaf), batch, "text", "speaker") == {"text": "fail", "speaker": "fail"}
    said = own(teacher_force=deaf, reads_text=False, one_voice=True, generate=lambda *_, **__: np.zeros((100, 80)))
    findings = {f.probe: f for f in probe_all(scene(said, batch), ["text", "speaker", "stopping", "alignment"])}
    assert {f.status for f in findings.values()} == {"skipped"}
    assert "declares reads_text = False, and another text changes nothing" in findings["text"].sentence
    assert "declares one_voice = True, and another voice changes nothing" in findings["speaker"].sentence
    asked = scene(own(teacher_force=deaf), batch)
    asked.no_text = asked.one_voice = True
    findings = {f.probe: f for f in probe_all(asked, ["text", "speaker"])}
    assert [f.status for f in findings.values()] == ["skipped", "skipped"]
    assert findings["text"].sentence.startswith("--no-text")


def test_what_a_model_declares_of_text_and_voice_is_checked(batch):
    model = planted.Planted()
    model.reads_text, model.one_voice = False, True
    assert found(model, batch, "text", "speaker") == {"text": "warn", "speaker": "warn"}


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


def finding(model, batch, probe, **changes):
    asked = scene(model, batch)
    for name, value in changes.items():
        setattr(asked, name, value)
    return next(iter(probe_all(asked, [probe])))


def test_free_running_that_is_no_speech_of_this_text_follows_no_recording(batch):
    """The warp of an unrelated mel runs along the diagonal: neither repeats nor skips are seen in it."""
    for fault in (planted.SpeaksNoise, planted.SpeaksLengthOnly):
        said = finding(fault(), batch, "alignment")
        assert said.status == "fail"
        assert said.sentence.startswith("what it says free running is not this recording: r ")
        assert said.evidence["r_own_recording"] - said.evidence["r_other_recording"] < 0.05
    healthy = finding(factory("100"), batch, "alignment")
    assert healthy.evidence["r_own_recording"] - healthy.evidence["r_other_recording"] > 0.2
    (flat,) = [finding(own(generate=lambda *_, **__: np.full((200, 80), -3.0)), batch, "alignment")]
    assert flat.status == "fail"
    assert flat.evidence["r_own_recording"] == 0


def test_one_recording_alone_cannot_show_that_it_is_followed(batch):
    said = finding(planted.SpeaksNoise(), batch[:1], "alignment")
    assert said.status == "skipped"
    assert "no other recording of another text" in said.sentence
    assert finding(planted.Repeats(), batch[:1], "alignment").status == "fail"  # that is seen in one


def test_another_voice_at_another_pace_is_still_its_recording(batch):
    """Espeak's own voice, a fifth faster, says what the recording says."""
    from calib.mel.frontend import FrontEnd

    def other_voice(text, **_):
        speech = espeak.synthesise(text, "en-gb+f2", rate=200, pitch=70)
        assert speech.sample_rate == 22050
        return np.asarray(FrontEnd.load("hifigan").mel(speech.samples))

    said = finding(own(generate=other_voice), batch, "alignment")
    assert said.evidence["r_own_recording"] - said.evidence["r_other_recording"] > 0.15, said.sentence
    assert "not this recording" not in said.sentence


def test_the_worth_of_a_text_is_that_of_its_words_and_not_of_its_length(batch):
    padding = finding(planted.ReadsPaddingOnly(), batch, "text")
    assert padding.evidence["change"] > 0.02  # by this alone it was taken for a reader
    assert padding.evidence["change_reversed"] < 0.02
    wrong = finding(planted.ReadsOtherWords(), batch, "text")
    assert wrong.status in {"fail", "warn"}
    assert wrong.evidence["worth"] < 0.3
    healthy = finding(factory("100"), batch, "text")
    assert healthy.status == "pass"
    assert 0.6 < healthy.evidence["worth"] < 1.2
    assert healthy.evidence["worth"] > 4 * healthy.evidence["worth_error"]


def reader(share, noise=0.0):
    """A decoder that has all but ``share`` of the frame from the true one before it, and the rest from its text.

    What the text says is the true mel where it is the utterance's own, and an unrelated sound of the same kind elsewhere.
    """

    def make(batch):
        true = {u.text: u.mel for u in batch}

        def told(u):
            if u.text in true:
                return true[u.text]
            rng = np.random.default_rng(zlib.crc32(u.text.encode()))
            order = rng.permutation(np.arange(0, len(u.mel), 10))
            return np.concatenate([u.mel[k : k + 10] for k in order])

        def teacher_force(asked):
            out = []
            for u in asked:
                before = np.vstack([u.mel[:1], u.mel[:-1]])
                heard = told(u)
                heard = np.vstack([heard, np.repeat(heard[-1:], max(len(u.mel) - len(heard), 0), axis=0)])[: len(u.mel)]
                rng = np.random.default_rng(len(u.mel))
                out.append((1 - share) * before + share * heard + noise * rng.normal(size=u.mel.shape))
            return out

        return own(teacher_force=teacher_force)

    return make


def test_a_strong_autoregressive_model_that_reads_a_little_is_no_deaf_one(batch):
    """The previous frame carries 95 %: the error rises by hardly anything, and what the text changes is right."""
    said = finding(reader(0.05, noise=0.5)(batch), batch, "text")
    assert said.evidence["change"] < 0.15
    assert said.evidence["mae_rise"] < 0.05
    assert said.evidence["worth"] > 0.6
    assert said.status == "pass", said.sentence


def test_a_wrong_scale_does_not_make_a_reader_deaf(batch):
    class Scaled(planted.Planted):
        scale = 1.0

        def teacher_force(self, batch):
            return [self.scale * (mel - mel.mean(0)) + mel.mean(0) - 1 for mel in super().teacher_force(batch)]

    for Scaled.scale in (0.4, 1.6):
        said = finding(Scaled(), batch, "text")
        assert said.status == "pass", said.sentence


def test_what_a_sampler_draws_is_a_doubt_and_no_deafness(batch):
    def draws(asked):
        return [u.mel + np.random.default_rng(zlib.crc32(u.text.encode())).normal(0, 1, u.mel.shape) for u in asked]

    assert finding(own(teacher_force=draws), batch, "text").status == "fail"
    assert finding(own(teacher_force=draws, kind="sample"), batch, "text").status == "warn"


def test_a_lexicon_that_knows_no_reversed_words_is_asked_for_another_text_alone(batch):
    texts = {u.text for u in batch}

    class Lexicon(planted.Planted):
        def teacher_force(self, batch):
            if any(u.text not in texts for u in batch):
                raise DataError("not in the lexicon")
            return super().teacher_force(batch)

    said = finding(Lexicon(), batch, "text")
    assert said.status == "pass"
    assert "change_reversed" not in said.evidence


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
    assert said.startswith("NO FAULT FOUND by 11 probes (3 skipped).")
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
    assert _run([*arguments, "--probe", "stopping", "--fail-on", "warn"]) == 10  # what was not looked at is not sound
    assert capsys.readouterr().out.startswith("NOTHING PROBED")


def test_the_command_takes_durations(capsys):
    asked = ["check", "model", "demo:corpus", "--language", "en", "--device", "cpu", "--probe", "movement"]
    assert _run([*asked, "--max-duration", "2.6", "--limit", "12"]) == 0
    short = int(capsys.readouterr().out.split(" utterance")[-2].split()[-1])
    assert 0 < short < 12
    assert _run([*asked, "--min-duration", "3600"]) == 3


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


def own(**attributes):
    """A model in numpy that copies half of the frame before; attributes and methods are replaced as given."""

    class Own:
        frontend, output_space, kind, autoregressive, padding_safe = "hifigan", "raw", "mean", True, True

        def teacher_force(self, batch):
            return [0.5 * np.vstack([0 * u.mel[:1], u.mel[:-1]]) for u in batch]

    methods = {name: staticmethod(value) if callable(value) else value for name, value in attributes.items()}
    return type("Changed", (Own,), methods)()


FORCED = ("reload", "determinism", "padding", "causality", "text", "speaker")


def test_where_nothing_can_be_measured_nothing_passes(batch):
    """NaN minus NaN is neither a change nor none."""

    def broken(batch):
        return [np.where(np.arange(len(u.mel))[:, None] == 3, np.nan, u.mel) for u in batch]

    said = found(own(teacher_force=broken), batch, *FORCED, "movement")
    assert said == {**dict.fromkeys(FORCED, "skipped"), "movement": "fail"}


def test_nan_that_only_an_altered_input_makes_is_a_fault(batch):
    """An attention over nothing, in the batch that is padded; a text that the encoder cannot take."""

    def padded(batch):
        return [
            u.mel * (np.nan if len(batch) > 1 and len(u.mel) < max(len(o.mel) for o in batch) else 1) for u in batch
        ]

    texts = {u.id: u.text for u in batch}

    def other_text(batch):
        return [u.mel * (np.nan if u.text != texts[u.id] else 1) for u in batch]

    assert found(own(teacher_force=padded), batch, "padding") == {"padding": "fail"}
    assert found(own(teacher_force=other_text), batch, "text") == {"text": "fail"}


def test_free_running_that_gives_nan_follows_no_recording(batch):
    def generate(*_, **__):
        return np.full((100, 80), np.nan)

    said = found(own(generate=generate), batch, "stopping", "alignment", "sampling")
    assert said == dict.fromkeys(("stopping", "alignment", "sampling"), "fail")


def test_a_model_that_takes_one_utterance_at_a_time_is_given_one(batch):
    def alone(batch):
        (u,) = batch
        return [0.5 * u.mel]

    assert found(own(padding_safe=False, teacher_force=alone), batch, "determinism") == {"determinism": "pass"}


def test_a_sampler_that_obeys_its_seed_has_neither_dropout_nor_leaking_padding(batch):
    def draws(batch):
        return [u.mel + np.random.normal(0, 0.3, u.mel.shape) for u in batch]  # noqa: NPY002

    def disobeys(batch):
        return [u.mel + np.random.default_rng().normal(0, 0.3, u.mel.shape) for u in batch]

    sampler = own(kind="sample", teacher_force=draws)
    assert found(sampler, batch, "determinism", "padding") == {"determinism": "pass", "padding": "skipped"}
    assert found(own(teacher_force=draws), batch, "determinism") == {"determinism": "fail"}
    assert found(own(kind="sample", teacher_force=disobeys), batch, "determinism") == {"determinism": "fail"}


def test_a_voice_that_is_heard_in_the_mel_itself_is_no_leak(batch):
    """Without another utterance of the speaker the model hears the voice in ``mel``, as the protocol says."""
    import dataclasses

    def heard(batch):
        voices = [u.mel if u.reference_mel is None else u.reference_mel for u in batch]
        return [0.5 * np.vstack([0 * u.mel[:1], u.mel[:-1]]) + v.mean(0) for u, v in zip(batch, voices, strict=True)]

    lonely = [dataclasses.replace(u, reference_mel=None) for u in batch]
    assert found(own(teacher_force=heard), lonely, "causality") == {"causality": "pass"}


def test_a_model_that_does_not_say_whether_it_is_autoregressive_is_not_accused(batch):
    def deaf(batch):
        return [np.tile(np.sin(np.arange(80)), (len(u.mel), 1)) for u in batch]

    def follows(batch):
        return [0.5 * u.mel for u in batch]

    for force, unknown, declared in ((deaf, "pass", "warn"), (follows, "warn", "fail")):
        for autoregressive, status in ((None, unknown), (True, declared)):
            model = own(autoregressive=autoregressive, teacher_force=force)
            assert found(model, batch, "causality") == {"causality": status}


def test_a_model_that_answers_in_one_buffer_cannot_hide_that_it_draws(batch):
    buffer = np.zeros((4000, 80), np.float32)

    def reuses(batch):
        out, at = [], 0
        for u in batch:
            view = buffer[at : at + len(u.mel)]
            view[:] = u.mel + np.random.normal(0, 0.3, u.mel.shape)  # noqa: NPY002
            out.append(view)
            at += len(u.mel)
        return out

    assert found(own(teacher_force=reuses), batch, "determinism") == {"determinism": "fail"}


def test_free_running_is_probed_without_gradients(batch):
    seen = []

    def generate(*_, **__):
        seen.append(torch.is_inference_mode_enabled())
        return np.zeros((100, 80))

    found(own(generate=generate), batch, "stopping")
    assert seen == [True] * len(batch)


class Net(torch.nn.Module):
    """A small decoder with a residual post-net of learnt, skewed kernels; ``r`` frames at once."""

    def __init__(self, r=1):
        super().__init__()
        torch.manual_seed(3)
        self.r = r
        self.words = torch.nn.Embedding(64, 16)
        self.first = torch.nn.BatchNorm1d(80)
        self.decoder = torch.nn.GRU(80 + 16, 48, batch_first=True)
        self.output = torch.nn.Linear(48, 80 * r)
        self.post = torch.nn.Conv1d(80, 80, 5, padding=2)
        self.norm = torch.nn.BatchNorm1d(80)
        with torch.no_grad():
            self.post.weight.mul_(0.2)
            for k, share in enumerate((0.1, 0.9, 0.8, 0.2, 0.05)):  # its largest tap looks ahead
                self.post.weight[:, :, k] += share * torch.eye(80)

    def forward(self, letters, mel, shift):
        r, frames = self.r, len(mel)
        heard = torch.nn.functional.pad(mel, (0, 0, 0, -frames % r))[r - 1 :: r] / 4
        heard = torch.nn.functional.pad(heard, (0, 0, shift, -shift))
        text = self.words(letters).mean(0).expand(len(heard), -1)
        made = self.output(self.decoder(torch.cat((heard, text), -1)[None])[0])
        made = made.reshape(1, -1, 80)[:, :frames].transpose(1, 2)
        return (made + self.post(self.norm(made)))[0].T


def netted(shift=1, r=1, train=(), hidden=False, **attributes):
    """An adapter of it; ``hidden``: no attribute holds the network."""
    net = Net(r).eval()
    for name in train:
        getattr(net, name).train()

    def teacher_force(batch):
        letters = [torch.tensor([ord(c) % 64 for c in u.text] or [0]) for u in batch]
        with torch.no_grad():
            return [net(one, torch.from_numpy(np.array(u.mel)), shift).numpy() for one, u in zip(letters, batch, strict=True)]  # fmt: skip

    model = own(teacher_force=teacher_force, padding_safe=False, **attributes)
    if not hidden:
        model.net = Box(net)
    return model


class Box:
    """What an adapter keeps its network in."""

    def __init__(self, network):
        self.network = network


@pytest.mark.parametrize("r", [1, 2, 3])
def test_a_label_leak_is_told_from_a_post_net_before_the_post_net(batch, r):
    healthy = finding(netted(r=r), batch, "causality")
    assert healthy.status == "pass", healthy.sentence
    assert "as a post-net does: the decoder's own output (net.network.output) does not" in healthy.sentence
    leaking = finding(netted(shift=0, r=r), batch, "causality")
    assert leaking.status == "fail"
    assert "(a label leak)" in leaking.sentence
    assert leaking.evidence["reach_frames"] > 0
    assert finding(netted(shift=-1, r=r), batch, "causality").status == "fail"
    late = finding(netted(shift=2, r=r), batch, "causality")
    assert late.status == ("warn" if r == 1 else "pass")


def test_a_leak_in_a_network_that_cannot_be_seen_is_a_doubt_until_the_post_net_is_declared(batch):
    for shift, reach in ((1, 1), (0, 2)):
        said = finding(netted(shift=shift, hidden=True), batch, "causality")
        assert said.status == "warn"
        assert said.evidence["reach_frames"] == reach
        assert f"post-net that reaches {reach + 1} frames to each side, or one of {reach} after" in said.sentence
        assert "post_net = N" in said.advice
    assert found(netted(hidden=True, post_net=2), batch, "causality") == {"causality": "pass"}
    assert found(netted(shift=0, hidden=True, post_net=2), batch, "causality") == {"causality": "fail"}


def test_a_batch_norm_in_training_mode_is_named_and_no_mask_is_blamed(batch):
    said = {f.probe: f for f in probe_all(scene(netted(train=("norm", "first")), batch), ["evaluation", "causality"])}
    assert said["evaluation"].status == said["causality"].status == "fail"
    assert "net.network.first, net.network.norm in training mode" in said["evaluation"].sentence
    assert "left in training mode, normalise with the mean and variance of all frames" in said["causality"].sentence
    assert "inverted" not in said["causality"].advice
    unseen = finding(netted(train=("norm",), hidden=True), batch, "causality")
    assert unseen.status == "fail"
    assert "from outside the two cannot be told apart" in unseen.sentence
    assert "was eval() called" in unseen.advice


def test_a_network_in_evaluation_mode_passes_and_one_in_training_is_doubted(batch):
    assert found(netted(), batch, "evaluation") == {"evaluation": "pass"}
    assert found(netted(train=("decoder",)), batch, "evaluation") == {"evaluation": "warn"}
    assert found(netted(hidden=True), batch, "evaluation") == {"evaluation": "skipped"}


def stored(change=lambda name, tensor: (name, tensor)):
    return lambda: dict(change(name, tensor.clone()) for name, tensor in Net().state_dict().items())


def test_weights_that_were_not_loaded_are_found_by_value_without_a_report(batch):
    torch.manual_seed(9)
    other = torch.nn.GRU(80 + 16, 48, batch_first=True).state_dict()

    def restored(change, **attributes):
        return finding(netted(**attributes), batch, "restored", stored=stored(change))

    def unloaded(name, tensor):
        return name, other[name.removeprefix("decoder.")] if name.startswith("decoder.") else tensor

    def renamed(name, tensor):
        new, tensor = unloaded(name, tensor)
        return ("d." + new if name.startswith("decoder.") else new), tensor

    whole = restored(lambda name, tensor: ("module." + name, tensor.half()))
    assert whole.status == "pass"
    assert whole.evidence["found_in_checkpoint"] == whole.evidence["tensors"] > 5
    for change in (unloaded, renamed):
        said = restored(change)
        assert said.status == "fail"
        assert said.sentence.startswith("the weights of net.network.decoder were not loaded")
    nothing = restored(lambda name, tensor: (name, torch.randn_like(tensor.float())))
    assert nothing.status == "fail"
    assert nothing.sentence.startswith("the weights were not loaded")
    foreign = restored(lambda name, _: ("x" + name[::-1], torch.randn(3)))
    assert foreign.status == "skipped"


@pytest.mark.parametrize("given", [{}, None, {"restored": []}, {"restored": [], "missing": []}])
def test_a_report_that_names_no_tensor_is_no_pass(batch, given):
    said = finding(own(load_report=lambda: given), batch, "restored")
    assert said.status == "skipped"
    assert said.sentence.startswith("load_report() names no tensor")
    assert "came from the checkpoint" not in said.sentence


def test_what_torch_says_of_a_load_is_a_report(batch):
    keys = torch.nn.Linear(2, 2).load_state_dict({"weight": torch.zeros(2, 2), "x": torch.zeros(1)}, strict=False)
    said = finding(own(load_report=lambda: keys), batch, "restored")
    assert said.status == "fail"
    assert "1 tensors missing (bias)" in said.sentence
    assert "1 tensors unexpected (x)" in said.sentence
    wrong = finding(own(load_report=lambda: 3), batch, "restored")
    assert wrong.status == "fail"
    assert "returned a int" in wrong.sentence


def test_the_command_compares_the_network_with_the_checkpoint_file(tmp_path, capsys):
    """load_state_dict(strict=False) over other names, and a load_report() that says nothing: it passed."""
    (tmp_path / "halved.py").write_text(
        "import numpy as np, torch\n"
        "class M:\n    frontend, output_space, kind, autoregressive, padding_safe = 'hifigan', 'raw', 'mean', True, False\n"
        "    def __init__(self, checkpoint):\n"
        "        torch.manual_seed(5)\n"
        "        self.net = torch.nn.ModuleDict({'encoder': torch.nn.Linear(40, 40), 'decoder': torch.nn.GRU(40, 40)}).eval()\n"
        "        self.net.load_state_dict(torch.load(checkpoint), strict=False)\n"
        "    def teacher_force(self, batch):\n        return [np.vstack([0 * u.mel[:1], u.mel[:-1]]) for u in batch]\n"
        "    def load_report(self):\n        return {}\n"
        "def factory(checkpoint, device):\n    return M(checkpoint)\n",
        encoding="utf-8",
    )
    torch.manual_seed(6)
    whole = torch.nn.ModuleDict({"encoder": torch.nn.Linear(40, 40), "decoder": torch.nn.GRU(40, 40)}).state_dict()
    asked = ["check", "model", "demo:corpus", "--limit", "1", "--device", "cpu", "--probe", "restored", "--fail-on", "fail"]  # fmt: skip
    for start, code, words in (
        ("decoder.", 0, "by value 6 of 6 tensors"),
        ("d.decoder.", 10, "the weights of net.decoder were not loaded"),
    ):
        torch.save({name.replace("decoder.", start): tensor for name, tensor in whole.items()}, tmp_path / "c.pt")
        model = ["--model", str(tmp_path / "halved.py:factory"), "--checkpoint", str(tmp_path / "c.pt")]
        assert _run([*asked, *model]) == code
        assert words in capsys.readouterr().out


def test_a_prediction_that_is_early_may_be_a_label_leak():
    from calib.diagnose.faults.library import FAULTS

    assert "(a label leak): calib check model" in FAULTS["shift"].cause
