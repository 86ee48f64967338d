"""PAIRS: what is recognised, what load() gives, what is written, what is matched."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib.data.audio import write_wav
from calib.data.pairs import LengthMismatch, PairsWriter, index_pairs, open_pairs
from calib.data.sources import open_source
from calib.errors import DataError, UsageError

RNG = np.random.default_rng(7)


def mel(frames: int = 50, bins: int = 80) -> np.ndarray:
    return RNG.normal(-5, 2, (frames, bins)).astype(np.float32)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def index(root: Path, *rows: dict[str, Any], header: dict[str, Any] | None = None) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if header is not None:
        (root / "pairs.json").write_text(json.dumps(header))
    return root


class FakeFrontEnd:
    """One frame of the mean sample for every 100 samples."""

    sample_rate = 8_000
    n_mels = 80

    def mel(self, samples: np.ndarray) -> np.ndarray:
        frames = samples[: len(samples) // 100 * 100].reshape(-1, 100).mean(axis=1)
        return np.repeat(frames[:, None], 80, axis=1).astype(np.float64)


class TestShorthands:
    """Folders without an index."""

    def test_target_and_pred(self, tmp_path: Path) -> None:
        target, pred = mel(674), mel(674)
        save(tmp_path / "target.npy", target.astype(np.float64))
        save(tmp_path / "pred.npy", pred)
        pairs = open_pairs(tmp_path)
        assert pairs.kind == "target + pred"
        assert (pairs.layout_pred, pairs.layout_target, pairs.n_mels, len(pairs)) == ("TM", "TM", 80, 1)
        pair = pairs.load(pairs.entries[0])
        np.testing.assert_array_equal(pair.pred, pred)
        np.testing.assert_array_equal(pair.target, target)
        assert pair.target.dtype == np.float32
        assert pair.notices == []

    def test_the_founding_pair(self, founding_pair: Path) -> None:
        pairs = open_pairs(founding_pair)
        pair = pairs.load(pairs.entries[0])
        assert pair.pred.shape == pair.target.shape == (674, 80)
        assert "1 pair, 80 mel bins, layout TM" in pairs.describe()

    def test_dotted_names_sorted_with_orphans(self, tmp_path: Path) -> None:
        for name in ("b.x", "a", "سلام"):
            save(tmp_path / f"{name}.target.npy", mel(33).T)
            save(tmp_path / f"{name}.pred.npy", mel(33).T)
        save(tmp_path / "lonely.pred.npy", mel(9).T)
        save(tmp_path / "only.target.npy", mel(9).T)
        pairs = open_pairs(tmp_path)
        assert [entry.id for entry in pairs] == ["a", "b.x", "سلام"]
        assert [(orphan.id, orphan.side) for orphan in pairs.orphans] == [("lonely", "pred"), ("only", "target")]
        assert "1 pred without target, 1 target without pred" in pairs.describe()
        assert pairs.load(pairs.entries[0]).pred.shape == (33, 80)

    def test_two_folders_of_any_container_and_layout(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        for frames, name in ((40, "x"), (51, "s/y")):
            save(tmp_path / "targets" / f"{name}.npy", mel(frames).T)
            path = tmp_path / "predictions" / f"{name}.pt"
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(torch.from_numpy(mel(frames)), path)
        pairs = open_pairs(tmp_path)
        assert (pairs.layout_pred, pairs.layout_target) == ("TM", "MT")
        assert [pairs.load(entry).target.shape for entry in pairs] == [(51, 80), (40, 80)]

    def test_predictions_with_a_given_folder_of_targets(self, tmp_path: Path) -> None:
        save(tmp_path / "p" / "x.npy", mel(61))
        save(tmp_path / "t" / "x.npy", mel(61))
        pairs = open_pairs(tmp_path / "p", targets=tmp_path / "t", layout="TM")
        assert [entry.id for entry in pairs] == ["x"]

    def test_a_padded_batch_with_lengths_beside(self, tmp_path: Path) -> None:
        target, pred = RNG.normal(size=(2, 3, 70, 80)).astype(np.float32)
        save(tmp_path / "target.npy", target)
        save(tmp_path / "pred.npy", pred)
        with pytest.raises(UsageError, match="without lengths"):
            open_pairs(tmp_path)
        save(tmp_path / "lengths.npy", np.array([70, 12, 33]))
        pairs = open_pairs(tmp_path)
        assert [entry.id for entry in pairs] == ["pair-0", "pair-1", "pair-2"]
        loaded = [pairs.load(entry) for entry in pairs]
        assert [len(pair.pred) for pair in loaded] == [70, 12, 33]
        np.testing.assert_array_equal(loaded[1].target, target[1, :12])
        save(tmp_path / "lengths.npy", np.array([70, 12]))
        with pytest.raises(DataError, match="2 lengths for a batch of 3"):
            open_pairs(tmp_path)

    def test_one_lengths_file_does_not_serve_two_batches(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            save(tmp_path / f"{name}.target.npy", np.zeros((2, 30, 80)))
            save(tmp_path / f"{name}.pred.npy", np.zeros((2, 30, 80)))
        save(tmp_path / "lengths.npy", np.array([30, 12]))
        with pytest.raises(UsageError, match="without lengths"):
            open_pairs(tmp_path)
        for name in ("a", "b"):
            save(tmp_path / f"{name}.lengths.npy", np.array([30, 12]))
        assert [entry.length for entry in open_pairs(tmp_path)] == [30, 12, 30, 12]

    def test_half_a_pair_says_what_is_missing(self, tmp_path: Path) -> None:
        save(tmp_path / "pred.npy", mel())
        with pytest.raises(DataError, match=r"pred\.npy has no target\.npy"):
            open_pairs(tmp_path)

    def test_nothing_says_what_was_looked_for_and_seen(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").touch()
        with pytest.raises(DataError, match=r"looked for pairs\.jsonl.*found notes\.txt"):
            open_pairs(tmp_path)
        with pytest.raises(DataError, match="no such file"):
            open_pairs(tmp_path / "missing")
        with pytest.raises(DataError, match="PAIRS is a folder"):
            open_pairs(tmp_path / "notes.txt")

    def test_folders_without_a_common_name_show_examples(self, tmp_path: Path) -> None:
        save(tmp_path / "predictions" / "one.npy", mel())
        save(tmp_path / "targets" / "two.npy", mel())
        with pytest.raises(DataError, match=r"one.*two.*no name in common"):
            open_pairs(tmp_path)


class TestIndex:
    """``pairs.jsonl``."""

    def test_rows_with_everything(self, tmp_path: Path) -> None:
        save(tmp_path / "p.npy", mel(50))
        save(tmp_path / "t.npy", mel(50))
        save(tmp_path / "f.npy", mel(77))
        index(
            tmp_path,
            {"id": "u", "pred": "p.npy", "target": "t.npy", "free_running": "f.npy", "length": 40, "text": "سلام", "speaker": "s", "language": "fa"},
            header={"schema": "calib/pairs/1", "model_kind": "mean"},
        )  # fmt: skip
        for path in (tmp_path, tmp_path / "pairs.jsonl"):
            pairs = open_pairs(path)
            pair = pairs.load(pairs.entries[0])
            assert pairs.header["model_kind"] == "mean"
            assert pair.pred.shape == (40, 80)
            assert (pair.text, pair.speaker, pair.language) == ("سلام", "s", "fa")
            free = pairs.load_free_running(pairs.entries[0])
            assert free is not None
            assert free.shape == (77, 80)

    def test_keys_into_shards(self, tmp_path: Path) -> None:
        one, two, batch = mel(30), mel(41), RNG.normal(size=(2, 45, 80)).astype(np.float32)
        np.savez(tmp_path / "shard.npz", one=one, two=two)
        save(tmp_path / "batch.npy", batch)
        index(tmp_path, {"id": "1", "pred": "batch.npy#0", "target": "shard.npz#one", "length": 30}, {"id": "2", "pred": "batch.npy#1", "target": "shard.npz#two", "length": 41})  # fmt: skip
        pairs = open_pairs(tmp_path)
        pair = pairs.load(pairs.entries[1])
        np.testing.assert_array_equal(pair.target, two)
        np.testing.assert_array_equal(pair.pred, batch[1, :41])

    def test_a_batch_row_with_ids_and_lengths(self, tmp_path: Path) -> None:
        save(tmp_path / "p.npy", np.zeros((2, 80, 99)))
        save(tmp_path / "t.npy", np.zeros((2, 80, 99)))
        index(tmp_path, {"id": ["b", "a"], "pred": "p.npy", "target": "t.npy", "length": [99, 20]})
        pairs = open_pairs(tmp_path)
        assert [(entry.id, entry.length, entry.pred_key) for entry in pairs] == [("a", 20, 1), ("b", 99, 0)]
        assert pairs.layout_pred == "MT"
        assert pairs.load(pairs.entries[0]).target.shape == (20, 80)

    def test_the_target_is_computed_from_audio(self, tmp_path: Path) -> None:
        write_wav(tmp_path / "a.wav", np.full(8_000, 0.25), 8_000)
        save(tmp_path / "p.npy", mel(80))
        index(tmp_path, {"id": "a", "pred": "p.npy", "audio": "a.wav"}, header={"layout": "TM"})
        with pytest.raises(UsageError) as caught:
            open_pairs(tmp_path)
        assert "--frontend" in str(caught.value.hint)
        pairs = open_pairs(tmp_path, frontend=FakeFrontEnd())
        assert "1 target computed from audio" in pairs.describe()
        pair = pairs.load(pairs.entries[0])
        assert pair.target.shape == (80, 80)
        np.testing.assert_allclose(pair.target, 0.25)
        assert pair.target.dtype == np.float32

    @pytest.mark.parametrize(
        "row",
        [
            "{",
            "3",
            '{"pred": "p.npy", "target": "t.npy"}',
            '{"id": 3, "pred": "p.npy", "target": "t.npy"}',
            '{"id": "x"}',
            '{"id": "x", "pred": 1, "target": "t.npy"}',
            '{"id": "x", "pred": "p.npy", "target": "t.npy", "length": 0}',
            '{"id": "x", "pred": "p.npy", "target": "t.npy", "length": "9"}',
        ],
    )
    def test_a_malformed_row_is_named_by_line(self, tmp_path: Path, row: str) -> None:
        (tmp_path / "pairs.jsonl").write_text('{"id": "ok", "pred": "p.npy", "target": "t.npy"}\n\n' + row)
        with pytest.raises(DataError, match="line 3"):
            open_pairs(tmp_path)

    def test_duplicates_orphans_and_unknown_schemas(self, tmp_path: Path) -> None:
        save(tmp_path / "p.npy", mel())
        row = {"id": "u", "pred": "p.npy", "target": "p.npy"}
        with pytest.raises(DataError, match="lines 1 and 2"):
            open_pairs(index(tmp_path, row, row))
        pairs = open_pairs(index(tmp_path, row, {"id": "v", "pred": "p.npy"}, {"id": "w", "target": "p.npy"}))
        assert [(orphan.id, orphan.side) for orphan in pairs.orphans] == [("v", "pred"), ("w", "target")]
        with pytest.raises(DataError, match="no pairs"):
            open_pairs(index(tmp_path, {"id": "v", "pred": "p.npy"}))
        with pytest.raises(DataError, match="calib/pairs/2"):
            open_pairs(index(tmp_path, row, header={"schema": "calib/pairs/2"}))

    def test_one_unreadable_file_is_left_to_its_loading(self, tmp_path: Path) -> None:
        save(tmp_path / "p.npy", mel())
        (tmp_path / "broken.npy").write_bytes(b"junk")
        pairs = open_pairs(index(tmp_path, {"id": "a", "pred": "p.npy", "target": "p.npy"}, {"id": "b", "pred": "broken.npy", "target": "p.npy"}, {"id": "c", "pred": "gone.npy", "target": "p.npy"}))  # fmt: skip
        assert pairs.load(pairs.entries[0]).pred.shape == (50, 80)
        for entry, said in zip(pairs.entries[1:], ("not a readable", "no such file"), strict=True):
            with pytest.raises(DataError, match=said):
                pairs.load(entry)

    def test_if_no_file_can_be_read_opening_fails(self, tmp_path: Path) -> None:
        save(tmp_path / "p.npy", mel())
        with pytest.raises(DataError, match="not one of the 1 targets can be read"):
            open_pairs(index(tmp_path, {"id": "a", "pred": "p.npy", "target": "gone.npy"}))

    def test_limit_takes_the_first_ids(self, tmp_path: Path) -> None:
        save(tmp_path / "p.npy", mel())
        index(tmp_path, *({"id": name, "pred": "p.npy", "target": "p.npy"} for name in "cab"))
        assert [entry.id for entry in open_pairs(tmp_path, limit=2)] == ["a", "b"]
        with pytest.raises(UsageError):
            open_pairs(tmp_path, limit=0)


class TestLayout:
    """Decided from all files, or refused."""

    def make(self, root: Path, pred: np.ndarray, target: np.ndarray) -> Path:
        save(root / "pred.npy", pred)
        save(root / "target.npy", target)
        return root

    def test_an_ambiguous_pair_is_refused_until_the_user_says(self, tmp_path: Path) -> None:
        self.make(tmp_path, mel(100, 80), mel(100, 80))
        with pytest.raises(UsageError) as caught:
            open_pairs(tmp_path)
        assert "--layout TM" in str(caught.value.hint)
        assert open_pairs(tmp_path, layout="TM").n_mels == 80
        assert open_pairs(tmp_path, layout="MT").n_mels == 100
        with pytest.raises(UsageError):
            open_pairs(tmp_path, layout="up")

    def test_target_and_prediction_decide_each_other(self, tmp_path: Path) -> None:
        pairs = open_pairs(self.make(tmp_path, mel(97, 80), mel(100, 80)))
        assert (pairs.layout_pred, pairs.layout_target, pairs.n_mels) == ("TM", "TM", 80)

    def test_a_declared_front_end_decides(self, tmp_path: Path) -> None:
        assert open_pairs(self.make(tmp_path, mel(100, 80), mel(100, 80)), frontend=FakeFrontEnd()).layout_pred == "TM"

    def test_different_numbers_of_bins_are_a_data_error_with_both(self, tmp_path: Path) -> None:
        pairs = open_pairs(self.make(tmp_path, mel(333, 100), mel(333, 80)))
        with pytest.raises(DataError, match="100 mel bins, the target 80"):
            pairs.load(pairs.entries[0])


class TestLengths:
    """|T' - T|."""

    def pair(self, root: Path, pred: np.ndarray, target: np.ndarray) -> Any:
        save(root / "pred.npy", pred)
        save(root / "target.npy", target)
        pairs = open_pairs(root, layout="TM")
        return pairs.load(pairs.entries[0])

    @pytest.mark.parametrize("difference", [-8, -1, 1, 8])
    def test_up_to_eight_frames_are_cropped_with_a_notice(self, tmp_path: Path, difference: int) -> None:
        pred, target = mel(300 + difference), mel(300)
        pair = self.pair(tmp_path, pred, target)
        both = min(300, 300 + difference)
        np.testing.assert_array_equal(pair.pred, pred[:both])
        np.testing.assert_array_equal(pair.target, target[:both])
        assert len(pair.notices) == 1
        assert f"cropped to {both}" in pair.notices[0]

    def test_more_keeps_the_facts(self, tmp_path: Path) -> None:
        with pytest.raises(LengthMismatch) as caught:
            self.pair(tmp_path, mel(309), mel(300))
        assert (caught.value.pred_frames, caught.value.target_frames, caught.value.exit_code) == (309, 300, 3)
        again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - crosses process borders
        assert (again.pred_frames, again.target_frames, str(again)) == (309, 300, str(caught.value))
        assert again.hint == caught.value.hint

    def test_a_length_beyond_the_target_is_refused(self, tmp_path: Path) -> None:
        save(tmp_path / "p.npy", mel(50))
        pairs = open_pairs(index(tmp_path, {"id": "a", "pred": "p.npy", "target": "p.npy", "length": 51}))
        with pytest.raises(DataError, match="stated length is 51 frames, but the target has 50"):
            pairs.load(pairs.entries[0])

    def test_non_finite_values_are_counted_without_the_padding(self, tmp_path: Path) -> None:
        pred, target = mel(50), mel(50)
        pred[3, 4], pred[5, 6], pred[45] = np.nan, np.inf, np.nan
        target[1, 1] = -np.inf
        save(tmp_path / "p.npy", pred)
        save(tmp_path / "t.npy", target)
        pairs = open_pairs(index(tmp_path, {"id": "a", "pred": "p.npy", "target": "t.npy", "length": 40}))
        pair = pairs.load(pairs.entries[0])
        assert (pair.nonfinite_pred, pair.nonfinite_target) == (2, 1)

    @pytest.mark.parametrize(("kind", "said"), [("f2", True), ("f4", False)])
    def test_overflow_is_said_of_half_precision_only(self, tmp_path: Path, kind: str, said: bool) -> None:
        pred, target = mel(50), mel(50)
        pred[3, 4:6], target[1, 1] = np.inf, 65504.0
        save(tmp_path / "p.npy", pred.astype(kind))
        save(tmp_path / "t.npy", target.astype(kind))
        pairs = open_pairs(index(tmp_path, {"id": "a", "pred": "p.npy", "target": "t.npy"}))
        found = pairs.load(pairs.entries[0]).overflow
        assert [text.split(" are infinite")[0] for text in found] == (
            ["a: 2 values of the prediction", "a: 1 values of the target"] if said else []
        )

    def test_half_precision_within_its_range_is_nothing_to_speak_of(self, tmp_path: Path) -> None:
        assert self.pair(tmp_path, mel(50).astype("f2"), mel(50).astype("f2")).overflow == ()


class TestWriter:
    """PairsWriter."""

    def write(self, root: Path, names: list[str], **options: Any) -> None:
        rng = np.random.default_rng(3)
        arrays = {name: rng.normal(size=(2, 80, 80)) for name in sorted(names)}
        with PairsWriter(root, {"frontend_id": "x"}, **options) as writer:
            for name in names:
                writer.write(name, *arrays[name], text="سلام", speaker="s", free_running=arrays[name][0])

    def test_what_is_written_is_read_back_even_where_the_layout_could_not_be_told(self, tmp_path: Path) -> None:
        names = ["b", "a", "../../evil", "سلام دنیا", "nul\0", "x" * 3000]
        self.write(tmp_path / "out", names)
        pairs = open_pairs(tmp_path / "out")  # 80 x 80
        assert [entry.id for entry in pairs] == sorted(names)
        assert pairs.header["frontend_id"] == "x"
        assert pairs.header["schema"] == "calib/pairs/1"
        rng = np.random.default_rng(3)
        for entry in pairs:
            pred, target = rng.normal(size=(2, 80, 80)).astype(np.float32)
            pair = pairs.load(entry)
            np.testing.assert_array_equal(pair.pred, pred)
            np.testing.assert_array_equal(pair.target, target)
            assert (pair.text, pair.speaker) == ("سلام", "s")
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_the_bytes_do_not_depend_on_the_order(self, tmp_path: Path) -> None:
        self.write(tmp_path / "one", ["a", "b", "c"])
        self.write(tmp_path / "two", ["c", "a", "b"])
        files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
        assert len(files) == 11
        for file in files:
            assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()

    def test_audio_paths_are_relative(self, tmp_path: Path) -> None:
        write_wav(tmp_path / "wavs" / "a.wav", np.full(8_000, 0.5), 8_000)
        with PairsWriter(tmp_path / "out") as writer:
            writer.write("a", mel(80), audio=tmp_path / "wavs" / "a.wav")
        assert json.loads((tmp_path / "out" / "pairs.jsonl").read_text())["audio"] == "../wavs/a.wav"
        pairs = open_pairs(tmp_path / "out", frontend=FakeFrontEnd())
        assert pairs.load(pairs.entries[0]).target.shape == (80, 80)

    def test_what_cannot_be_a_pair_is_refused(self, tmp_path: Path) -> None:
        writer = PairsWriter(tmp_path)
        with pytest.raises(DataError, match="no pairs were written"):
            writer.close()
        with pytest.raises(DataError, match="target or audio"):
            writer.write("a", mel())
        with pytest.raises(DataError, match=r"\(80,\)"):
            writer.write("a", np.zeros(80), mel())
        writer.write("a", mel(), mel())
        with pytest.raises(DataError, match="twice"):
            writer.write("a", mel(), mel())

    def test_an_existing_index_is_kept_without_force(self, tmp_path: Path) -> None:
        self.write(tmp_path, ["a"])
        with pytest.raises(UsageError, match="exists"):
            self.write(tmp_path, ["b"])
        self.write(tmp_path, ["b"], force=True)
        assert [entry.id for entry in open_pairs(tmp_path)] == ["b"]

    def test_an_interrupted_run_leaves_no_index(self, tmp_path: Path) -> None:
        def interrupted() -> None:
            with PairsWriter(tmp_path) as writer:
                writer.write("a", mel(61), mel(61))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert not (tmp_path / "pairs.jsonl").exists()
        assert open_pairs(tmp_path).kind == "targets/ + predictions/"


class TestIndexPairs:
    """``calib pair``."""

    def test_names_match_through_their_suffixes_without_copying(self, tmp_path: Path) -> None:
        for pred, target in (("LJ-1_mel", "LJ-1"), ("LJ-2.pred", "LJ-2-feats"), ("s/LJ-3_generated", "deep/er/LJ-3"), ("sp-mel-LJ-4", "LJ-4")):  # fmt: skip
            save(tmp_path / "p" / f"{pred}.npy", mel(61))
            save(tmp_path / "t" / f"{target}.npy", mel(61).T)
        save(tmp_path / "p" / "stray.npy", mel())
        save(tmp_path / "t" / "other.npy", mel().T)
        save(tmp_path / "f" / "LJ-1_free_running.npy", mel(99))
        done = index_pairs(tmp_path / "p", target_dir=tmp_path / "t", free_running_dir=tmp_path / "f", out=tmp_path / "o")  # fmt: skip
        assert (done.matched, done.unmatched_pred, done.unmatched_target) == (4, ["stray"], ["other"])
        assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["pairs.json", "pairs.jsonl"]
        pairs = open_pairs(tmp_path / "o", layout=None)
        assert [entry.id for entry in pairs] == ["LJ-1", "LJ-2", "LJ-4", "s/LJ-3"]
        assert pairs.entries[0].free_running is not None
        assert pairs.load(pairs.entries[3]).pred.shape == (61, 80)
        with pytest.raises(UsageError, match="exists"):
            index_pairs(tmp_path / "p", target_dir=tmp_path / "t", out=tmp_path / "o")

    def test_exact_names_win_over_similar_ones_and_doubtful_ones_stay_alone(self, tmp_path: Path) -> None:
        for name in ("a", "a_mel", "b_mel", "b.pred"):
            save(tmp_path / "p" / f"{name}.npy", mel(61))
        for name in ("a", "a_mel", "b"):
            save(tmp_path / "t" / f"{name}.npy", mel(61))
        done = index_pairs(tmp_path / "p", target_dir=tmp_path / "t", out=tmp_path / "o")
        assert (done.matched, done.unmatched_pred, done.unmatched_target) == (2, ["b.pred", "b_mel"], ["b"])
        assert [(entry.id, entry.pred.stem, entry.target and entry.target.stem) for entry in open_pairs(tmp_path / "o")] == [("a", "a", "a"), ("a_mel", "a_mel", "a_mel")]  # fmt: skip

    def test_audio_gives_ids_texts_and_speakers(self, tmp_path: Path) -> None:
        for name in ("u1", "u2", "u3"):
            write_wav(tmp_path / "c" / "wavs" / f"{name}.wav", np.full(8_000, 0.5), 8_000)
        (tmp_path / "c" / "metadata.csv").write_text("u1|x|one\nu2|y|two\nu3|z|three\n")
        (tmp_path / "c" / "wavs" / "u3.wav").unlink()
        for name in ("u1", "u3"):
            save(tmp_path / "p" / f"{name}_mel.npy", mel(77))
        done = index_pairs(tmp_path / "p", audio_source=open_source(tmp_path / "c"), out=tmp_path / "o")
        assert (done.matched, done.unmatched_target, done.missing_audio) == (1, ["u2"], ["u3"])
        assert "without their audio file (u3)" in done.describe()
        pairs = open_pairs(tmp_path / "o", frontend=FakeFrontEnd())
        assert [(entry.id, entry.text) for entry in pairs] == [("u1", "one")]
        assert "cropped to 77" in pairs.load(pairs.entries[0]).notices[0]

    def test_zero_matches_show_names_of_both_sides(self, tmp_path: Path) -> None:
        save(tmp_path / "p" / "one.npy", mel())
        save(tmp_path / "t" / "two.npy", mel())
        with pytest.raises(DataError, match=r"'one'.*'two'"):
            index_pairs(tmp_path / "p", target_dir=tmp_path / "t", out=tmp_path / "o")
        assert not (tmp_path / "o" / "pairs.jsonl").exists()
        with pytest.raises(UsageError) as caught:
            index_pairs(tmp_path / "p", out=tmp_path / "o")
        assert "--target" in str(caught.value.hint)
        with pytest.raises(DataError, match="zero mel arrays"):
            index_pairs(tmp_path, target_dir=tmp_path / "o", out=tmp_path / "x")
