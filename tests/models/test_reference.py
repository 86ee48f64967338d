"""The reference model: really teacher-forced, really conditioned, and whole or not loaded at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calib.diagnose.verdict import NEGLIGIBLE_R
from calib.errors import DataError, PluginError, UsageError
from calib.models.protocol import AcousticModel, Utterance
from calib.models.reference import corpus, espeak, factory
from calib.models.teaching import Teacher

ROOT = Path(corpus.__file__).parents[2]
CHECKPOINTS = ROOT / "demo" / "checkpoints"
needs_espeak = pytest.mark.skipif(not espeak.available(), reason="espeakng_loader is not installed (the extra `demo`)")


@pytest.fixture(scope="module")
def utterances():
    import torch

    torch.set_num_threads(1)  # the model is small: threads gain little, and wait for minutes beside a busy neighbour
    return corpus.utterances()


@pytest.fixture
def model():
    return factory("100", "cpu")


@pytest.fixture
def few(utterances):
    """Three utterances of different length, with a reference that is not their own mel."""
    return [
        dataclasses.replace(u, reference_mel=utterances[0].mel) for u in (utterances[1], utterances[14], utterances[25])
    ]


def test_importing_the_package_loads_no_torch():
    code = "import sys, calib.models.reference; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_model_is_small_enough_to_read():
    lines = {
        name: len((ROOT / "models" / "reference" / name).read_text("utf-8").splitlines())
        for name in ("model.py", "plugin.py")
    }
    assert max(lines.values()) <= 400, lines


# Teacher forcing


@needs_espeak
def test_it_satisfies_the_protocol(model, few):
    assert isinstance(model, AcousticModel)
    assert (model.frontend, model.output_space, model.kind, model.autoregressive, model.padding_safe) == (
        "hifigan",
        "raw",
        "mean",
        True,
        True,
    )
    assert [(p.shape, p.dtype) for p in model.teacher_force(few)] == [(u.mel.shape, np.float32) for u in few]
    assert model.teacher_force([]) == []


@needs_espeak
@pytest.mark.parametrize("reference", ["given", "own"])
def test_a_frame_changes_only_the_predictions_after_it(model, few, reference):
    utterance = few[0] if reference == "given" else dataclasses.replace(few[0], reference_mel=None)
    before = model.teacher_force([utterance])[0]
    altered = utterance.mel.copy()
    altered[100] += np.linspace(-3, 3, 80, dtype=np.float32)
    after = model.teacher_force([dataclasses.replace(utterance, mel=altered)])[0]
    assert np.array_equal(before[:101], after[:101])
    assert np.abs(before[101] - after[101]).max() > 0.05


@needs_espeak
def test_the_whole_future_may_change_without_a_trace_in_the_past(model, few):
    before = model.teacher_force(few[:1])[0]
    altered = few[0].mel.copy()
    altered[60:] = altered[60:][::-1]
    after = model.teacher_force([dataclasses.replace(few[0], mel=altered)])[0]
    assert np.array_equal(before[:61], after[:61])
    assert not np.allclose(before[61:], after[61:])


@needs_espeak
def test_a_padded_batch_equals_single_utterances(model, utterances):
    together = model.teacher_force(utterances[:12])
    alone = [factory("100").teacher_force([u])[0] for u in utterances[:12]]
    assert max(float(np.abs(a - b).max()) for a, b in zip(together, alone, strict=True)) <= 1e-5


@needs_espeak
def test_two_passes_and_two_loads_agree_to_the_byte(model, few):
    first = [p.tobytes() for p in model.teacher_force(few)]
    assert first == [p.tobytes() for p in model.teacher_force(few)]
    assert first == [p.tobytes() for p in factory("100").teacher_force(few)]


@needs_espeak
@pytest.mark.parametrize("change", ["text", "language", "reference_mel"])
def test_text_language_and_voice_change_the_teacher_forced_prediction(model, few, utterances, change):
    new = {"text": "Something else is said here.", "language": "it", "reference_mel": utterances[20].mel}[change]
    before, after = (model.teacher_force([u])[0] for u in (few[0], dataclasses.replace(few[0], **{change: new})))
    assert float(np.abs(before - after).mean()) > 0.02


@needs_espeak
def test_durations_sum_to_the_length_of_the_mel(model, few):
    for utterance in (*few, dataclasses.replace(few[0], id="short", mel=few[0].mel[:5])):
        durations = model.durations(utterance)
        assert durations.sum() == len(utterance.mel)
        assert durations.min() >= (1 if len(utterance.mel) > 5 else 0)


@needs_espeak
def test_alignment_finds_espeaks_own_durations(model, utterances):
    """Boundaries from the mel alone are, at the median, within two frames (23 ms) of the truth."""
    from calib.models.reference.train import frame_durations

    errors = []
    for item, utterance in list(zip(corpus.items(), utterances, strict=True))[::6]:
        ends = [end for _, _, end in item.speech().phonemes]
        found = model.durations(utterance)
        # The tokens are the default voice's; another voice of the language may pause elsewhere.
        if len(found) == len(ends):
            errors.append(np.abs(np.cumsum(found) - np.cumsum(frame_durations(ends, len(utterance.mel), 256))))
    assert len(errors) >= 3
    assert np.median(np.concatenate(errors)) <= 2


def test_alignment_follows_a_known_path():
    from calib.models.reference.model import align

    prior = np.random.default_rng(0).normal(size=(5, 8))
    truth = np.array([3, 1, 4, 2, 6])
    assert align(prior, np.repeat(prior, truth, 0)).tolist() == truth.tolist()
    assert align(prior, prior[:3]).sum() == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": ""}, "nothing to say"),
        ({"mel": np.zeros((9, 40), np.float32)}, r"\(9, 40\)"),
        ({"mel": np.full((9, 80), np.nan, np.float32)}, "not finite"),
        ({"mel": np.zeros((0, 80), np.float32)}, r"\(0, 80\)"),
    ],
)
@needs_espeak
def test_bad_utterances_are_named(model, few, change, said):
    with pytest.raises(DataError, match=f"ben_en_01.*{said}"):
        model.teacher_force([dataclasses.replace(few[0], **change)])


# Free running


@needs_espeak
def test_one_seed_gives_the_same_bytes_twice(model):
    runs = {
        hashlib.sha256(m.generate("The rain stopped at noon.", seed=7).tobytes()).hexdigest()
        for m in (model, model, factory("100"))
    }
    assert len(runs) == 1


@needs_espeak
@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.3},
        {"temperature": 0.0},
        {"top_p": 0.3},
        {"seed": 1},
        {"language": "de"},
        {"text": "The snow fell at night."},
        {"speaker_audio": "ben_en_01.flac"},
    ],
    ids=lambda change: next(iter(change)) + "=" + str(next(iter(change.values())))[:4],
)
def test_every_argument_really_changes_the_output(model, change):
    plain = {"text": "The rain stopped at noon.", "language": "en", "temperature": 1.0, "top_p": 1.0, "seed": 0}
    if "speaker_audio" in change:
        change = {"speaker_audio": corpus.DEFAULT_FOLDER / "wavs" / change["speaker_audio"]}
    before, after = model.generate(**plain), model.generate(**{**plain, **change})
    shorter = min(len(before), len(after))
    assert float(np.abs(before[:shorter] - after[:shorter]).mean()) > 0.02


@needs_espeak
def test_temperature_and_top_p_widen_the_spread_of_lengths(model):
    def spread(**options):
        return float(np.std([len(model.generate("We walk home.", seed=seed, **options)) for seed in range(8)]))

    assert spread(temperature=0.0) == 0.0
    assert spread(temperature=1.0) > 0.0
    assert spread(temperature=2.0) > spread(temperature=1.0, top_p=0.2)


@needs_espeak
@pytest.mark.parametrize(
    "option", [{"temperature": 1e-40}, {"temperature": 1e30}, {"top_p": 1e-300}, {"seed": 2**80}, {"seed": -1}]
)
def test_extreme_but_legal_arguments_speak(model, option):
    assert np.isfinite(model.generate("We walk home.", **option)).all()


@needs_espeak
def test_an_unseen_language_speaks_and_says_so(model):
    assert len(model.generate("Dzień dobry, świecie.", language="pl")) > 40
    assert any("'pl'" in notice for notice in model.notices)
    model.generate("Good day.", language="en-gb")
    assert len(model.notices) == 1


@needs_espeak
@pytest.mark.parametrize(
    "option",
    [
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"language": "xx"},
        {"durations": [1, 2]},
    ],
)
def test_generate_refuses_what_it_cannot_do(model, option):
    with pytest.raises(UsageError):
        model.generate("hello", **option)


# Options and checkpoints


@needs_espeak
def test_output_space_and_its_claim_are_separate(model, few):
    raw = model.teacher_force(few)[0]
    normalised = factory("100", output_space="normalized")
    liar = factory("100", output_space="normalized", declare_output_space="raw")
    assert (normalised.output_space, liar.output_space) == ("normalized", "raw")
    values = normalised.teacher_force(few)[0]
    assert np.array_equal(values, liar.teacher_force(few)[0])
    assert np.allclose(values * float(model.module.mel_std) + float(model.module.mel_mean), raw, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"output_spcae": "raw"}, "output_spcae"),
        ({"output_space": "dB"}, "dB"),
        ({"declare_output_space": "x"}, "declare_output_space"),
    ],
)
def test_unknown_options_are_named(options, named):
    with pytest.raises(UsageError, match=named):
        factory("100", **options)


def test_unknown_checkpoint_and_device_are_usage_errors():
    with pytest.raises(UsageError, match="no checkpoint '99'"):
        factory("99")
    with pytest.raises(UsageError, match="device"):
        factory("100", "toaster")


def _tensors():
    from safetensors.torch import load_file

    return load_file(CHECKPOINTS / "step100.safetensors")


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape", "nan"])
def test_a_wrong_checkpoint_is_refused_with_the_tensor_names(tmp_path, fault):
    import torch
    from safetensors.torch import save_file

    from calib.models.reference.plugin import inspect_checkpoint

    tensors = _tensors()
    if fault == "missing":
        del tensors["decoder.weight_hh_l0"]
    elif fault == "unexpected":
        tensors["decoder.weight_hh_l0_old"] = torch.zeros(2)
    elif fault == "shape":
        tensors["decoder.weight_hh_l0"] = torch.zeros(3, 3)
    else:
        tensors["decoder.weight_hh_l0"][0, 0] = torch.nan
    path = tmp_path / "wrong.safetensors"
    save_file(tensors, path)
    with pytest.raises(PluginError, match=r"decoder\.weight_hh_l0") as caught:
        factory(str(path))
    assert caught.value.exit_code == 4
    fate = {"missing": "missing", "unexpected": "unexpected", "shape": "wrong_shape", "nan": "not_finite"}[fault]
    assert inspect_checkpoint(path)["modules"]["decoder"][fate]


@pytest.mark.parametrize("kind", ["text", "metadata", "format"])
def test_a_file_that_is_no_checkpoint_is_a_plugin_error(tmp_path, kind):
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    if kind == "text":
        path.write_bytes(b"not a checkpoint")
    else:
        save_file(_tensors(), path, {"calib": "{" if kind == "metadata" else '{"format": "calib-reference/2"}'})
    with pytest.raises(PluginError, match=r"x\.safetensors"):
        factory(str(path))


def test_the_collapsed_twin_is_deaf_because_its_weights_never_saw_a_frame():
    tensors = factory("collapsed").module.state_dict()
    assert all(float(tensors[name].abs().max()) == 0.0 for name in ("prenet.0.weight", "decoder.weight_hh_l0"))
    assert float(tensors["decoder.weight_ih_l0"].abs().max()) > 0.0
    assert (float(tensors["mel_mean"]), float(tensors["mel_std"])) == (0.0, 1.0)


def test_the_load_report_tells_trained_from_fresh():
    fresh, trained = factory("0").load_report(), factory("100").load_report()
    assert not fresh["missing"] + fresh["unexpected"]
    assert set(fresh["restored"]) - set(fresh["equal_to_fresh_init"]) == {"mel_mean", "mel_std", "default_speaker"}
    assert trained["equal_to_fresh_init"] == []
    assert set(trained["modules"]["decoder"]["restored"]) >= {"decoder.weight_ih_l0", "decoder.weight_hh_l0"}


# The committed artefacts


@needs_espeak
@pytest.mark.parametrize("name", ["step000", "step005", "step030", "step100", "collapsed"])
def test_committed_checkpoints_reproduce_their_metrics(utterances, name):
    from calib.models.reference.metrics import figures

    metrics = json.loads((CHECKPOINTS / "metrics.json").read_text("utf-8"))
    model = factory(str(CHECKPOINTS / f"{name}.safetensors"))
    found = figures(model.teacher_force(utterances), [u.mel for u in utterances])
    for key, value in metrics["teacher_forced"][name].items():
        assert found[key] == pytest.approx(value, abs=metrics["tolerance"]["same_checkpoint"]), key


def test_the_figures_are_those_of_a_trained_model_and_of_the_founding_failure():
    metrics = json.loads((CHECKPOINTS / "metrics.json").read_text("utf-8"))
    by = metrics["teacher_forced"]
    assert by["step100"]["r_w"] >= 0.94  # .950 with 1200 steps, which take longer than the five minutes allowed
    assert by["step100"]["removable_share"] < 0.1
    assert by["step100"]["mae"] < metrics["persistence"]["mae"]
    assert by["step000"]["r_w"] < by["step005"]["r_w"] < by["step030"]["r_w"] < by["step100"]["r_w"]
    assert metrics["free_running_with_aligned_durations"]["r_w"] >= 0.6
    assert by["collapsed"]["s_w_ratio"] < 0.2
    assert abs(by["collapsed"]["r_w"]) <= max(by["collapsed"]["swap_null_95"], NEGLIGIBLE_R)
    assert by["collapsed"]["mae"] > 4.0


def test_the_corpus_is_the_one_of_its_checksums():
    lines = (corpus.DEFAULT_FOLDER / "SHA256SUMS").read_text("utf-8").splitlines()
    sums = dict(reversed(line.split("  ")) for line in lines)
    found = {name: hashlib.sha256((corpus.DEFAULT_FOLDER / name).read_bytes()).hexdigest() for name in sums}
    assert found == sums
    assert sum((corpus.DEFAULT_FOLDER / name).stat().st_size for name in sums) <= 4e6
    assert 40 <= len([name for name in sums if name.endswith(".flac")]) <= 48


@needs_espeak
def test_regenerating_the_corpus_gives_the_same_samples_and_bytes(tmp_path):
    import soundfile

    sums = corpus.write_corpus(tmp_path)
    for name in sums:
        if name.endswith(".flac"):
            assert np.array_equal(
                soundfile.read(tmp_path / name)[0], soundfile.read(corpus.DEFAULT_FOLDER / name)[0]
            ), name
    if soundfile.__libsndfile_version__ not in (corpus.DEFAULT_FOLDER / "README.md").read_text("utf-8"):
        pytest.skip("the samples are equal; another libsndfile packs them into other bytes")
    assert (tmp_path / "SHA256SUMS").read_bytes() == (corpus.DEFAULT_FOLDER / "SHA256SUMS").read_bytes()


def test_the_corpus_is_not_overwritten_unasked(tmp_path, capsys):
    (tmp_path / "SHA256SUMS").write_text("")
    assert corpus.main(["--out", str(tmp_path)]) == 2
    assert "--force" in capsys.readouterr().err


def test_no_held_out_sentence_can_be_drawn_for_training():
    from calib.models.reference.sentences import HELD_OUT, TEMPLATES, training_sentences

    for language, sentences in HELD_OUT.items():
        drawn = training_sentences(language, 4000, 0)
        assert len(set(drawn)) == 4000
        assert drawn == training_sentences(language, 4000, 0)
        places = [set(choices.split(" | ")) for choices in TEMPLATES[language][1].values()]
        assert not any(all(any(words in sentence for words in place) for place in places) for sentence in sentences)


# Training


@needs_espeak
def test_a_few_steps_of_training_lower_the_loss(tmp_path):
    import torch

    from calib.models.reference import train

    torch.set_num_threads(1)
    data = train.examples(0.1, seed=1)
    losses: list[float] = []
    network = train.train(data, steps=12, on_step=lambda step, loss, _: losses.append(loss) if step else None)
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < 0.9 * losses[0]
    train.save(network, tmp_path / "a.safetensors", data, {"seed": 0, "steps": 12})
    again = train.train(data, steps=12)
    train.save(again, tmp_path / "b.safetensors", data, {"seed": 0, "steps": 12})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with pytest.raises(UsageError, match="exists"):
        train.save(network, tmp_path / "a.safetensors", data, {})
    assert isinstance(
        factory(str(tmp_path / "a.safetensors")).teacher_force([Utterance("x", data[0].mel.numpy(), "Hello.")])[0],
        np.ndarray,
    )


@needs_espeak
def test_training_tells_no_loss_before_the_first_step(tmp_path, capsys):
    from calib.models.reference.recipe import train_one

    train_one(tmp_path, minutes=0.1, seed=1, steps=2, stats=None)
    told = capsys.readouterr().err
    assert "step 2/2, loss " in told
    assert "nan" not in told


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_it_speaks_under_autocast(few, kind):
    """There is no bfloat16 in numpy."""
    mels = Teacher(factory("100"), "reference", 80, autocast=kind).predict(few[:2])
    assert [mel.shape for mel in mels] == [u.mel.shape for u in few[:2]]
    assert all(np.isfinite(mel).all() for mel in mels)
