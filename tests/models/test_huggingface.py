"""SpeechT5 and FastSpeech2Conformer from local folders of small random models: forced, free, judged and spoken."""

from __future__ import annotations

import dataclasses
import json
import struct

import numpy as np
import pytest
import soundfile

from calib.cli import _run
from calib.errors import DataError, UsageError
from calib.models.huggingface.fastspeech2 import scaled_durations
from calib.models.huggingface.tokens import read_pieces
from calib.models.loading import _OWN, load_model
from calib.models.protocol import AcousticModel, Utterance

pytest.importorskip("transformers", reason="transformers is not installed (the extra `transformers`)")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

PHONEMES = ["<blank>", "<unk>", "AH0", "N", "T", "D", "S", "R", "L", "<sos/eos>"]
CHARACTERS = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", *"etaonisrhldcumfpgwybvk", ".", ","]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two saved models of a few thousand weights; transformers is imported once, which takes seconds."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    base = tmp_path_factory.mktemp("hf")
    t5 = transformers.SpeechT5Config(
        vocab_size=len(CHARACTERS), hidden_size=32, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1, decoder_ffn_dim=32,
        decoder_attention_heads=2, speech_decoder_prenet_units=16, speech_decoder_postnet_units=16, speaker_embedding_dim=8, max_speech_positions=400, max_text_positions=100,
    )  # fmt: skip
    fs2 = transformers.FastSpeech2ConformerConfig(
        vocab_size=len(PHONEMES), hidden_size=16, encoder_layers=1, decoder_layers=1, encoder_linear_units=16, decoder_linear_units=16, encoder_num_attention_heads=2,
        decoder_num_attention_heads=2, duration_predictor_channels=8, pitch_predictor_layers=1, pitch_predictor_channels=8, energy_predictor_channels=8,
        speech_decoder_postnet_units=16, speech_decoder_postnet_layers=2,
    )  # fmt: skip
    torch.manual_seed(3)
    transformers.SpeechT5ForTextToSpeech(t5).save_pretrained(base / "t5")
    transformers.FastSpeech2ConformerModel(fs2).save_pretrained(base / "fs2")
    pieces = b"".join(_piece(text, 2 if text == "<unk>" else 3 if text[0] == "<" else 1) for text in CHARACTERS)
    (base / "t5" / "spm_char.model").write_bytes(pieces)
    (base / "fs2" / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(PHONEMES)}), encoding="utf-8")
    np.save(base / "voice.npy", np.linspace(-1, 1, 8, dtype=np.float32))
    return base


def _piece(text: str, kind: int) -> bytes:
    raw = text.encode()
    inner = b"\x0a" + bytes([len(raw)]) + raw + b"\x15" + struct.pack("<f", -1.0) + b"\x18" + bytes([kind])
    return b"\x0a" + bytes([len(inner)]) + inner


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return [
        Utterance(f"u{n}", rng.normal(size=(n, 80)).astype(np.float32) - 3, text)
        for n, text in ((40, "a hot tea."), (61, "no, it is not"), (30, "see"))
    ]


def speecht5(folders, **options):
    return load_model(
        "speecht5", str(folders / "t5"), "cpu", {"speaker_embeddings": str(folders / "voice.npy"), **options}
    )


def fastspeech2(folders, **options):
    return load_model("fastspeech2-conformer", str(folders / "fs2"), "cpu", {"text": "phonemes", **options})


def phonemes(batch):
    return [dataclasses.replace(u, text="T AH0 N S" if k else "D AH0 R T S") for k, u in enumerate(batch)]


# SpeechT5


def test_teacher_forcing_is_the_models_own_forward_pass(folders, batch):
    import torch
    from transformers.models.speecht5.modeling_speecht5 import shift_spectrograms_right

    model = speecht5(folders)
    assert isinstance(model, AcousticModel)
    mine = model.teacher_force(batch)
    assert [mel.shape for mel in mine] == [u.mel.shape for u in batch]
    ids = torch.tensor([model._tokens(batch[0].text)])
    model._masks.draw(0)
    with torch.no_grad():
        theirs = model.module(
            input_ids=ids, attention_mask=torch.ones_like(ids), speaker_embeddings=torch.linspace(-1, 1, 8)[None],
            decoder_input_values=shift_spectrograms_right(torch.from_numpy(batch[0].mel)[None], 2)[0],
        ).spectrogram[0]  # fmt: skip
    assert np.abs(mine[0] - theirs.numpy()).max() < 1e-5


def test_two_passes_a_batch_and_single_utterances_agree(folders, batch):
    model = speecht5(folders)
    together, again = model.teacher_force(batch), model.teacher_force(batch)
    for one, other, utterance in zip(together, again, batch, strict=True):
        assert np.array_equal(one, other)
        assert np.abs(one - model.teacher_force([utterance])[0]).max() < 1e-5
    assert np.abs(speecht5(folders, prenet_seed=1).teacher_force(batch)[0] - together[0]).max() > 1e-3
    assert "at inference too, by design" in model.remarks[0]


def test_a_frame_is_predicted_from_the_true_frames_before_it_and_the_post_nets_ten(folders, batch):
    model = speecht5(folders)
    first = model.teacher_force(batch[:1])[0]
    future = batch[0].mel.copy()
    future[30:] += 5
    moved = np.abs(model.teacher_force([dataclasses.replace(batch[0], mel=future)])[0] - first).max(1) > 1e-6
    assert moved.any()
    assert np.nonzero(moved)[0][0] >= 30 - 10


def test_free_running_takes_its_seed_and_says_what_it_does_not_use(folders):
    model = speecht5(folders, threshold=1.1, maxlenratio=4.0)
    mel = model.generate("no tea", seed=1, temperature=0.5)
    assert mel.shape == (4 * (len("no tea") + 2) // 2 * 2, 80)
    assert np.array_equal(mel, model.generate("no tea", seed=1))
    assert np.abs(mel - model.generate("no tea", seed=2)).max() > 1e-4
    assert any("temperature" in text for text in model.notices)
    assert any("stop token never came" in text for text in model.notices)


def test_no_voice_is_assumed(folders, tmp_path):
    with pytest.raises(UsageError, match="none is assumed"):
        load_model("speecht5", str(folders / "t5"))
    assert any("all zeros, as you asked" in text for text in speecht5(folders, speaker_embeddings="zeros").remarks)
    np.save(tmp_path / "short.npy", np.ones(7))
    with pytest.raises(DataError, match="takes 8 finite values"):
        speecht5(folders, speaker_embeddings=str(tmp_path / "short.npy"))
    (tmp_path / "voices").mkdir()
    np.save(tmp_path / "voices" / "anna.npy", np.ones(8))
    model = speecht5(folders, speaker_embeddings=str(tmp_path / "voices"))
    mel = np.zeros((10, 80), np.float32)
    assert len(model.teacher_force([Utterance("u", mel, "tea", "anna")])) == 1
    with pytest.raises(DataError, match="no vector for 'bert'"):
        model.teacher_force([Utterance("u", mel, "tea", "bert")])


def test_characters_are_read_without_sentencepiece(folders):
    tokens = speecht5(folders)._tokens
    index = {piece: number for number, piece in enumerate(CHARACTERS)}
    assert tokens("tea  no.") == [index[c] for c in "\u2581tea\u2581no."] + [index["</s>"]]
    assert tokens("ﬁ") == [index["\u2581"], index["f"], index["i"], index["</s>"]]  # NFKC
    assert tokens("txzt") == [index["\u2581"], index["t"], index["<unk>"], index["t"], index["</s>"]]
    with pytest.raises(DataError, match="ends inside"):
        read_pieces(b"\x0a\xff")


# FastSpeech2Conformer


def test_durations_must_be_chosen_and_are_obeyed(folders, batch, tmp_path):
    batch = phonemes(batch)
    with pytest.raises(UsageError, match="needs durations, and none are assumed"):
        fastspeech2(folders).teacher_force(batch)
    scaled = fastspeech2(folders, durations="scaled")
    assert [mel.shape for mel in scaled.teacher_force(batch)] == [u.mel.shape for u in batch]
    assert any("lower bound" in text for text in scaled.remarks)
    given = {u.id: scaled_durations(np.arange(len(u.text.split()) + 1), len(u.mel)).tolist() for u in batch}
    (tmp_path / "durations.json").write_text(json.dumps(given), encoding="utf-8")
    model = fastspeech2(folders, durations=str(tmp_path / "durations.json"))
    out = model.teacher_force(batch)
    assert [len(mel) for mel in out] == [len(u.mel) for u in batch]
    assert np.abs(out[0] - scaled.teacher_force(batch)[0]).max() > 1e-3
    given["u30"][0] += 20
    given["u61"].pop()
    (tmp_path / "wrong.json").write_text(json.dumps(given), encoding="utf-8")
    wrong = fastspeech2(folders, durations=str(tmp_path / "wrong.json"))
    for utterance, message in ((batch[2], "sum to 50 frames, the mel has 30"), (batch[1], "4 durations for 5 tokens")):
        with pytest.raises(DataError, match=message):
            wrong.teacher_force([utterance])


def test_predicted_durations_give_what_the_model_itself_gives(folders, batch):
    import torch

    model = fastspeech2(folders, durations="predicted")
    mine = model.teacher_force(phonemes(batch)[:1])[0]
    with torch.no_grad():
        theirs = model.module(input_ids=torch.tensor([model._tokens("D AH0 R T S")]), return_dict=True)
    assert np.array_equal(mine, theirs.spectrogram[0].numpy())
    assert np.array_equal(mine, model.generate("D AH0 R T S", seed=3))
    assert any("not aligned" in text for text in model.remarks)
    assert model.output_space == "normalized"


@pytest.mark.parametrize("total", [0, 1, 7, 100])
def test_stretched_durations_sum_to_the_length(total):
    for durations in (np.array([3, 0, 5, 1]), np.zeros(4, int), np.array([1])):
        out = scaled_durations(durations, total)
        assert out.sum() == total
        assert (out >= 0).all()


def test_phonemes_outside_the_vocabulary_are_errors_and_plain_text_needs_its_library(folders):
    model = fastspeech2(folders)
    assert model._tokens("AH0 N") == [2, 3, 9]
    with pytest.raises(DataError, match="'XX' is not in the model's vocabulary"):
        model.generate("AH0 XX")
    try:
        import g2p_en  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="g2p-en"):
            fastspeech2(folders, text="text")


# both


def test_nothing_is_fetched_and_a_wrong_folder_is_said(folders, tmp_path):
    for spec in ("speecht5", "fastspeech2-conformer"):
        for checkpoint in (None, "microsoft/speecht5_tts"):
            with pytest.raises(UsageError, match="local folder"):
                load_model(spec, checkpoint)
        with pytest.raises(UsageError, match="has no option 'speaker'"):
            load_model(spec, str(folders / "t5"), "cpu", {"speaker": 1})
    with pytest.raises(DataError, match="model_type is 'speecht5'"):
        load_model("fastspeech2-conformer", str(folders / "t5"))
    (tmp_path / "config.json").write_text((folders / "t5" / "config.json").read_text("utf-8"), encoding="utf-8")
    with pytest.raises(DataError, match="no weights"):
        load_model("speecht5", str(tmp_path), "cpu", {"speaker_embeddings": "zeros", "text": "ids"})


def test_weights_that_are_not_there_are_named(folders, tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    state = load_file(folders / "t5" / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in state.items() if "wrapped_decoder" not in name},
        tmp_path / "model.safetensors",
    )
    for name in ("config.json", "spm_char.model"):
        (tmp_path / name).write_bytes((folders / "t5" / name).read_bytes())
    report = load_model("speecht5", str(tmp_path), "cpu", {"speaker_embeddings": "zeros"}).load_report()
    assert report["missing"]
    assert all("wrapped_decoder" in name for name in report["missing"])
    from calib.commands.plugins import ModelConfig, open_model

    open_model(ModelConfig("speecht5", str(tmp_path), {"speaker_embeddings": "zeros"}))
    assert "tensors missing" in capsys.readouterr().err


def test_the_table_of_own_plug_ins_is_that_of_pyproject():
    tomllib = pytest.importorskip("tomllib")
    from pathlib import Path

    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    points = tomllib.loads(text)["project"]["entry-points"]
    for group, table in _OWN.items():
        assert table == points[group]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["speecht5", "fastspeech2-conformer"])
def test_the_full_line_runs_and_random_weights_are_refused(folders, tmp_path, monkeypatch, capsys, name):
    """teacher-force, fit-scaler, diagnose, report, synth: an untrained model gives no signal, and that is what is said."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    (tmp_path / "corpus" / "wavs").mkdir(parents=True)
    texts = (
        ["a hot tea", "no it is not", "see the sun", "one more"]
        if name == "speecht5"
        else ["T AH0 N", "D AH0 R T", "S AH0 N", "L AH0 T"]
    )
    rate = 16000 if name == "speecht5" else 22050
    for k in range(4):
        envelope = np.repeat(rng.uniform(0.01, 0.3, 40), rate // 20)
        soundfile.write(tmp_path / "corpus" / "wavs" / f"u{k}.wav", envelope * rng.normal(size=len(envelope)), rate)
    (tmp_path / "corpus" / "metadata.csv").write_text(
        "".join(f"u{k}|{text}|{text}\n" for k, text in enumerate(texts)), encoding="utf-8"
    )
    folder, options = (
        (folders / "t5", [f"speaker_embeddings={folders / 'voice.npy'}"])
        if name == "speecht5"
        else (folders / "fs2", ["text=phonemes", "durations=scaled"])
    )
    model = [
        "--model",
        name,
        "--checkpoint",
        folder,
        *(word for option in options for word in ("--model-option", option)),
        "--device",
        "cpu",
    ]

    def calib(*arguments):
        code = _run([str(a) for a in arguments])
        caught = capsys.readouterr()
        return code, caught.out + caught.err

    code, said = calib(
        "stats",
        "corpus",
        "--frontend",
        "hf_speecht5" if name == "speecht5" else "hf_fastspeech2_conformer",
        "--jobs",
        1,
        "-o",
        "stats.json",
    )
    assert code == 0, said
    code, said = calib("teacher-force", "corpus", *model, "--free-running", "-o", "pairs")
    assert code == 0, said
    assert ("by design" if name == "speecht5" else "lower bound") in said
    code, said = calib("fit-scaler", "pairs", "--stats", "stats.json", "-o", "params.json")
    assert code == 5, said
    assert not (tmp_path / "params.json").exists()
    code, said = calib("diagnose", "pairs", "--stats", "stats.json")
    assert code == 0, said
    code, said = calib("report", "pairs", "--stats", "stats.json", "--no-audio", "--limit", 1, "-o", "report")
    assert code == 0, said
    needs = [] if name == "speecht5" else ["--stats", "stats.json"]
    code, said = calib("synth", *model, *needs, "--text", texts[0], "-o", "out.wav")
    assert code == 0, said
    assert soundfile.info(tmp_path / "out.wav").frames > 0
