"""SOURCE: what is recognised, which items come out, what is refused and how it is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.data.audio import write_wav
from calib.data.sources import Item, Source, open_source, safe_name
from calib.data.sources.folder import walk
from calib.errors import DataError, UsageError

PERSIAN = "سلام دنیا، می‌خواهم"


def wavs(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_wav(path, np.zeros(160), 16_000)


def lines(path: Path, *rows: str, encoding: str = "utf-8", end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(row + end for row in rows).encode(encoding))
    return path


def ids(source: Source) -> list[str]:
    return [item.id for item in source]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three utterances in LJSpeech form, one of them Persian."""
    root = tmp_path / "corpus"
    wavs(root / "wavs", "a.wav", "b.wav", "c.wav")
    lines(root / "metadata.csv", "a|No. 1|number one", "b|two|", f"c|{PERSIAN}|{PERSIAN}")
    return root


class TestLJSpeech:
    """``metadata.csv`` + ``wavs/``."""

    def test_items_come_in_file_order_with_the_normalised_text(self, corpus: Path) -> None:
        source = open_source(corpus)
        assert source.kind == "ljspeech"
        assert source.describe() == "LJSpeech folder corpus: 3 utterances, wavs/"
        assert [item.text for item in source] == ["number one", "two", PERSIAN]
        assert next(iter(source)) == Item("a", corpus / "wavs" / "a.wav", text="number one")
        assert list(source) == list(source)
        assert len(source) == 3

    def test_speakers_are_read_in_any_order_and_may_be_missing(self, corpus: Path) -> None:
        for rows in (["a|anna|de", "b|bob|en"], ["b|bob|en", "x|nobody|fr", "a|anna|de"]):
            lines(corpus / "speakers.csv", *rows)
            found = {item.id: (item.speaker, item.language) for item in open_source(corpus)}
            assert found == {"a": ("anna", "de"), "b": ("bob", "en"), "c": (None, None)}

    def test_bom_crlf_and_blank_lines_are_tolerated(self, corpus: Path) -> None:
        lines(corpus / "metadata.csv", "a|x|x", "", "  ", f"c|{PERSIAN}|", encoding="utf-8-sig", end="\r\n")
        assert [(item.id, item.text) for item in open_source(corpus)] == [("a", "x"), ("c", PERSIAN)]

    def test_other_audio_suffixes_are_found_file_by_file(self, corpus: Path) -> None:
        (corpus / "wavs" / "b.wav").rename(corpus / "wavs" / "b.FLAC")
        (corpus / "wavs" / "c.wav").rename(corpus / "wavs" / "c.flac")
        assert [item.audio.name for item in open_source(corpus) if item.audio] == ["a.wav", "b.wav", "c.flac"]

    def test_a_missing_file_is_still_an_item(self, corpus: Path) -> None:
        (corpus / "wavs" / "b.wav").unlink()
        found = {item.id: item.audio for item in open_source(corpus)}
        assert found["b"] == corpus / "wavs" / "b.wav"

    def test_if_no_file_exists_the_tried_paths_are_named(self, corpus: Path) -> None:
        for path in (corpus / "wavs").iterdir():
            path.unlink()
        with pytest.raises(DataError, match="none of the first 3") as caught:
            open_source(corpus)
        assert str(corpus / "wavs" / "a") in str(caught.value)

    @pytest.mark.parametrize("row", ["just words", "a|b|c|d", "|text|text"])
    def test_a_malformed_line_is_named_by_number(self, corpus: Path, row: str) -> None:
        lines(corpus / "metadata.csv", "a|x|x", "", row)
        with pytest.raises(DataError, match="line 3"):
            open_source(corpus)

    def test_a_duplicate_id_is_named_with_both_lines(self, corpus: Path) -> None:
        lines(corpus / "metadata.csv", "a|x|x", "b|y|y", "", "a|z|z")
        with pytest.raises(DataError, match=r"'a' occurs twice \(lines 1 and 4\)"):
            open_source(corpus)

    def test_not_utf8_is_refused_with_the_line(self, corpus: Path) -> None:
        lines(corpus / "metadata.csv", "a|x|x", "b|Käse|Käse", encoding="latin-1")
        with pytest.raises(DataError, match="line 2: not UTF-8"):
            open_source(corpus)
        lines(corpus / "metadata.csv", "a|x|x", encoding="utf-16")
        with pytest.raises(DataError, match="UTF-16"):
            open_source(corpus)

    def test_limit_shortens_and_says_so(self, corpus: Path) -> None:
        source = open_source(corpus, limit=2)
        assert ids(source) == ["a", "b"]
        assert len(source) == 2
        assert "the first 2 of 3 utterances" in source.describe()

    def test_real_speech_is_recognised(self, ljspeech: Path) -> None:
        source = open_source(ljspeech)
        assert source.describe() == "LJSpeech folder en_ljspeech: 24 utterances, wavs/"
        assert all(item.audio and item.audio.is_file() and item.text for item in source)
        names = ids(source)
        assert sorted(names) == ids(open_source(ljspeech / "wavs"))

    def test_every_real_corpus_is_recognised(self, ljspeech: Path) -> None:
        for folder in sorted(path for path in ljspeech.parent.iterdir() if path.is_dir()):
            source = open_source(folder)
            assert source.kind == "ljspeech"
            assert all(item.audio and item.audio.is_file() for item in source)


class TestTables:
    """Filelists, Coqui CSV, Common Voice TSV."""

    @pytest.mark.parametrize(
        ("rows", "first"),
        [
            (["wavs/a.wav|hello", "wavs/b.wav|you"], ("a", "hello", None)),
            (["wavs/a.wav|hello|anna", "wavs/b.wav|you|bob"], ("a", "hello", "anna")),
            (["wavs/a.wav|hello there|0", "wavs/b.wav|you|1"], ("a", "hello there", "0")),
            (["wavs/a.wav|17|hello there", "wavs/b.wav|3|you"], ("a", "hello there", "17")),
            (["wavs/a.wav|No. 1|number one", "wavs/b.wav|it costs $5 at most|it costs five dollars at most"], ("a", "number one", None)),
            (["a|hello|hello", "b|you|you"], ("a", "hello", None)),
            (["wavs/a.wav\thello\tanna", "wavs/b.wav\tyou\tanna"], ("a", "hello", "anna")),
            (["wavs/a.wav|hello|anna|de", "wavs/b.wav|you|bob|en"], ("a", "hello", "anna")),
            (["wavs/a.wav", "wavs/b.wav"], ("a", "", None)),
            (["wavs\\a.wav|hello", "wavs\\b.wav|you"], ("a", "hello", None)),
            (["audio|text|speaker", "wavs/a.wav|hello|7"], ("a", "hello", "7")),
            (["path,text", 'wavs/a.wav,"hello, you"'], ("a", "hello, you", None)),
        ],
    )  # fmt: skip
    def test_variants_are_told_apart(self, corpus: Path, rows: list[str], first: tuple[str, str, str | None]) -> None:
        source = open_source(lines(corpus / "train.txt", *rows))
        item = next(iter(source))
        assert source.kind == "filelist"
        assert (item.id, item.text, item.speaker) == first
        assert item.audio == corpus / "wavs" / "a.wav"

    def test_columns_that_cannot_be_told_are_asked_for(self, corpus: Path) -> None:
        path = lines(corpus / "odd.txt", "wavs/a.wav|x|y|a long story it is|z", "wavs/b.wav|x|y|another one|z")
        with pytest.raises(UsageError) as caught:
            open_source(path)
        assert "--columns" in str(caught.value.hint)
        item = next(iter(open_source(path, columns="path,speaker,language,text,_")))
        assert (item.text, item.speaker, item.language) == ("a long story it is", "x", "y")

    def test_columns_with_id_and_duration(self, corpus: Path) -> None:
        path = lines(corpus / "f.txt", "u1|wavs/a.wav|0.5|hi", "u2|wavs/b.wav|1|ho")
        items = list(open_source(path, columns="id,path,duration,text"))
        assert [(item.id, item.duration) for item in items] == [("u1", 0.5), ("u2", 1.0)]
        lines(path, "u1|wavs/a.wav|long|hi")
        with pytest.raises(DataError, match="line 1: the duration 'long'"):
            open_source(path, columns="id,path,duration,text")

    @pytest.mark.parametrize("columns", ["path,txet", "text", "path,path", ""])
    def test_wrong_columns_are_usage_errors(self, corpus: Path, columns: str) -> None:
        with pytest.raises(UsageError, match="--columns"):
            open_source(lines(corpus / "f.txt", "wavs/a.wav|x"), columns=columns)

    def test_columns_override_an_ljspeech_folder(self, corpus: Path) -> None:
        lines(corpus / "metadata.csv", "a|hello|anna", "b|you|bob")
        items = list(open_source(corpus, columns="id,text,speaker"))
        assert [(item.id, item.text, item.speaker) for item in items] == [("a", "hello", "anna"), ("b", "you", "bob")]
        assert items[0].audio == corpus / "wavs" / "a.wav"

    def test_ids_without_suffix_are_found_under_the_audio_root(self, corpus: Path, tmp_path: Path) -> None:
        (corpus / "wavs" / "b.wav").rename(corpus / "wavs" / "b.flac")
        path = lines(tmp_path / "lists" / "training.txt", "a|hello|hello", "b|you|you")
        items = list(open_source(path, audio_root=corpus / "wavs"))
        assert [item.audio and item.audio.name for item in items] == ["a.wav", "b.flac"]

    def test_nvidias_dummy_folder_is_replaced_by_the_audio_root(self, corpus: Path, tmp_path: Path) -> None:
        path = lines(tmp_path / "train.txt", "DUMMY/a.wav|hello", "DUMMY/b.wav|you")
        with pytest.raises(DataError) as caught:
            open_source(path)
        assert "--audio-root" in str(caught.value.hint)
        source = open_source(path, audio_root=corpus / "wavs")
        assert [item.audio for item in source] == [corpus / "wavs" / "a.wav", corpus / "wavs" / "b.wav"]
        assert "in place of 1 leading folder" in source.describe()

    def test_fastpitch_lists_of_mels(self, tmp_path: Path) -> None:
        (tmp_path / "mels").mkdir()
        np.save(tmp_path / "mels" / "a.npy", np.zeros((5, 80)))
        item = next(iter(open_source(lines(tmp_path / "l.txt", "mels/a.npy|pitch/a.pt|hello|3"))))
        assert (item.id, item.audio, item.mel, item.text, item.speaker) == ("a", None, tmp_path / "mels" / "a.npy", "hello", "3")  # fmt: skip

    def test_coqui_csv(self, corpus: Path) -> None:
        path = lines(corpus / "metadata_train.csv", "audio_file|text|speaker_name", 'wavs/a.wav|"say ""hi"""|anna')
        source = open_source(path)
        assert "Coqui CSV" in source.describe()
        assert [(item.id, item.text, item.speaker) for item in source] == [("a", 'say "hi"', "anna")]
        assert ids(open_source(corpus, split="train")) == ["a"]

    def test_common_voice(self, tmp_path: Path) -> None:
        wavs(tmp_path / "clips", "cv_1.wav", "cv_2.wav")
        head = "client_id\tpath\tsentence\tup_votes\tlocale"
        for name in ("train.tsv", "dev.tsv"):
            lines(tmp_path / name, head, f"ab12\tcv_1.wav\t{PERSIAN}\t2\tfa")
        with pytest.raises(UsageError) as caught:
            open_source(tmp_path)
        assert "--split" in str(caught.value.hint)
        source = open_source(tmp_path, split="dev")
        assert "Common Voice TSV" in source.describe()
        assert list(source) == [Item("cv_1", tmp_path / "clips" / "cv_1.wav", text=PERSIAN, speaker="ab12", language="fa")]  # fmt: skip

    def test_a_line_with_other_columns_is_named(self, corpus: Path) -> None:
        path = lines(corpus / "f.txt", "wavs/a.wav|x", "wavs/b.wav|y|z")
        with pytest.raises(DataError, match="line 2: 3 columns where 2"):
            open_source(path)

    def test_equal_stems_in_two_folders_become_relative_paths(self, tmp_path: Path) -> None:
        wavs(tmp_path, "s1/001.wav", "s2/001.wav")
        path = lines(tmp_path / "f.txt", "s1/001.wav|x", "s2/001.wav|y")
        assert ids(open_source(path)) == ["s1/001", "s2/001"] == ids(open_source(tmp_path))
        absolute = lines(tmp_path / "abs" / "g.txt", *(f"{tmp_path}/s{n}/001.wav|x" for n in (1, 2)))
        assert ids(open_source(absolute)) == ["s1/001", "s2/001"]

    def test_the_same_file_listed_twice_is_refused(self, corpus: Path) -> None:
        with pytest.raises(DataError, match=r"occurs twice \(lines 1 and 3\)"):
            open_source(lines(corpus / "f.txt", "wavs/a.wav|x", "wavs/b.wav|y", "wavs/a.wav|z"))

    @pytest.mark.parametrize(
        "content", [b"", b"\n\n", b"\xef\xbb\xbf", b"a.wav|x\0y\n", bytes(range(256)), b"x" * (2 << 20)]
    )
    def test_what_is_no_index_is_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "f.txt").write_bytes(content)
        with pytest.raises((DataError, UsageError)):
            open_source(tmp_path / "f.txt")

    def test_a_header_alone_names_no_utterances(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no utterances"):
            open_source(lines(tmp_path / "f.csv", "audio_file|text|speaker_name"))

    def test_a_path_that_is_too_long_for_the_system_is_only_missing(self, corpus: Path) -> None:
        path = lines(corpus / "f.txt", "wavs/a.wav|x", f"{'y' * 5000}.wav|z")
        assert len(ids(open_source(path))) == 2


class TestManifest:
    """JSONL."""

    def test_nemos_keys(self, corpus: Path) -> None:
        rows = [
            {"audio_filepath": "wavs/a.wav", "text": PERSIAN, "duration": 0.5, "speaker": 7, "lang": "fa"},
            {"audio_filepath": str(corpus / "wavs" / "b.wav"), "id": "second"},
        ]
        path = lines(corpus / "m.jsonl", *map(json.dumps, rows), encoding="utf-8-sig", end="\r\n")
        source = open_source(path)
        assert source.kind == "jsonl"
        assert list(source) == [
            Item("a", corpus / "wavs" / "a.wav", None, PERSIAN, "7", "fa", 0.5),
            Item("second", corpus / "wavs" / "b.wav"),
        ]

    def test_the_ids_are_those_of_the_folder_and_the_filelist(self, corpus: Path) -> None:
        manifest = lines(corpus / "m.json", *(json.dumps({"audio_filepath": f"wavs/{n}.wav"}) for n in "abc"))
        listed = lines(corpus / "f.txt", *(f"wavs/{n}.wav|x" for n in "abc"))
        found = {tuple(ids(open_source(spec))) for spec in (corpus, manifest, listed, corpus / "wavs")}
        assert found == {("a", "b", "c")}

    @pytest.mark.parametrize(
        "row",
        [
            "{",
            "[1]",
            "3",
            '{"text": "x"}',
            '{"audio_filepath": 1.5}',
            '{"audio_filepath": "wavs/a.wav", "duration": "1"}',
            '{"audio_filepath": "wavs/a.wav", "duration": NaN}',
            '{"audio_filepath": "wavs/a.wav", "offset": 2.5}',
            '{"audio_filepath": "wavs/\\u0000.wav"}',
            "[" * 100_000,
        ],
    )
    def test_a_malformed_line_is_named_by_number(self, corpus: Path, row: str) -> None:
        with pytest.raises(DataError, match="line 2"):
            open_source(lines(corpus / "m.jsonl", '{"audio_filepath": "wavs/b.wav"}', row))

    def test_a_json_list_is_refused_plainly(self, corpus: Path) -> None:
        with pytest.raises(DataError, match="JSON list"):
            open_source(lines(corpus / "m.json", "[", '{"audio_filepath": "wavs/b.wav"}', "]"))

    def test_a_path_that_is_only_a_slash_is_one_missing_file(self, corpus: Path) -> None:
        rows = [json.dumps({"audio_filepath": name}) for name in ("wavs/a.wav", "/")]
        assert len(ids(open_source(lines(corpus / "m.jsonl", *rows)))) == 2

    def test_hostile_ids_are_kept_and_made_safe_on_demand(self, corpus: Path) -> None:
        hostile = ["../../etc/passwd", "a\0b", "x" * 10_000, "CON", "/"]
        rows = [json.dumps({"audio_filepath": "wavs/a.wav", "id": name}) for name in hostile]
        found = ids(open_source(lines(corpus / "m.jsonl", *rows)))
        assert found == hostile
        for name in found:
            (corpus / f"{safe_name(name)}.npy").write_bytes(b"x")
        assert len(list(corpus.glob("*.npy"))) == len(hostile)


class TestFolders:
    """Folders of audio and of mels."""

    def test_audio_is_found_below_sorted_with_relative_ids(self, tmp_path: Path) -> None:
        wavs(tmp_path, "b.wav", "a/z.wav", "a/b/c.wav", "a.wav")
        (tmp_path / "a" / "up.FLAC").write_bytes(b"x")
        (tmp_path / "._b.wav").write_bytes(b"x")
        (tmp_path / "notes.txt").write_text("x")
        source = open_source(tmp_path)
        assert source.kind == "audio folder"
        assert ids(source) == ["a/b/c", "a/up", "a/z", "a", "b"]
        assert source.describe() == f"audio folder {tmp_path.name}: 5 utterances, 4 .wav, 1 .flac"

    def test_mels_are_found(self, tmp_path: Path) -> None:
        for name in ("a.npy", "b.npy"):
            np.save(tmp_path / name, np.zeros((3, 80)))
        source = open_source(tmp_path)
        assert source.kind == "mel folder"
        assert list(source) == [Item("a", mel=tmp_path / "a.npy"), Item("b", mel=tmp_path / "b.npy")]

    def test_one_file_is_a_corpus_of_one(self, tmp_path: Path) -> None:
        wavs(tmp_path, "a.wav")
        assert list(open_source(tmp_path / "a.wav")) == [Item("a", tmp_path / "a.wav")]

    def test_two_files_of_one_id_are_refused(self, tmp_path: Path) -> None:
        wavs(tmp_path, "a.wav")
        (tmp_path / "a.flac").write_bytes(b"x")
        with pytest.raises(DataError, match=r"a\.flac and a\.wav"):
            open_source(tmp_path)

    def test_zero_audio_files_says_what_was_looked_for_and_found(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"zero audio files under .* found an empty folder"):
            open_source(tmp_path)
        (tmp_path / "a.txt").write_text("x")
        (tmp_path / "README").write_text("x")
        with pytest.raises(DataError, match=r"\.wav .*found 1 without suffix, 1 \.txt"):
            open_source(tmp_path)

    def test_links_in_a_circle_end(self, tmp_path: Path) -> None:
        wavs(tmp_path, "x/a.wav")
        (tmp_path / "x" / "loop").symlink_to(tmp_path, target_is_directory=True)
        assert list(walk(tmp_path)) == ["x/a.wav"]

    def test_a_file_name_that_is_not_utf8_has_a_printable_id(self, tmp_path: Path) -> None:
        try:
            (tmp_path / os.fsdecode(b"caf\xe9.wav")).write_bytes(b"x")
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
        assert ids(open_source(tmp_path)) == ["caf\\xe9"]


class TestRefusals:
    """What this version does not read, and what is not there."""

    def test_a_protocol_that_nobody_knows(self) -> None:
        with pytest.raises(UsageError, match="nosuch") as caught:
            open_source("nosuch://bucket/x")
        assert "s3://" in str(caught.value.hint)

    @pytest.mark.parametrize("name", ["a.ark", "data.zip", "x.h5", "shard.tar.gz"])
    def test_unsupported_files_and_folders_of_them(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UsageError, match="does not read"):
            open_source(tmp_path / name)
        with pytest.raises(UsageError, match="does not read"):
            open_source(tmp_path)

    def test_a_missing_path_hints_at_its_neighbour(self, tmp_path: Path) -> None:
        (tmp_path / "ljspeech").mkdir()
        with pytest.raises(DataError, match="no such file") as caught:
            open_source(tmp_path / "ljspech")
        assert caught.value.exit_code == 3
        assert str(tmp_path / "ljspeech") in str(caught.value.hint)

    @pytest.mark.parametrize("spec", ["", "a\0b", "x" * 5000, "/no/such/folder/at/all"])
    def test_what_is_no_path_is_missing(self, spec: str) -> None:
        with pytest.raises(DataError):
            open_source(spec)

    def test_options_that_do_not_fit(self, corpus: Path) -> None:
        for options in ({"split": "train"}, {"limit": 0}):
            with pytest.raises(UsageError):
                open_source(corpus / "metadata.csv", **options)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=r"no nothing\.csv"):
            open_source(corpus, split="nothing")
        with pytest.raises(UsageError, match="--columns"):
            open_source(corpus / "wavs", columns="path,text")
        with pytest.raises(DataError, match="--audio-root"):
            open_source(corpus, audio_root=corpus / "nowhere")


class TestSafeName:
    """Any id to a file stem."""

    @pytest.mark.parametrize("name", ["LJ001-0001", "سلام", "zhong_1.5", "a", "naïve"])
    def test_harmless_ids_stay(self, name: str) -> None:
        assert safe_name(name) == name

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "../x", "a/b", "a\0b", "a b", "nul", "-rf", "a\nb", "\ud800", "e\u0301"]
    )
    def test_others_are_altered(self, name: str) -> None:
        assert safe_name(name) != name
        assert safe_name(name) == safe_name(name)

    @given(st.lists(st.text(alphabet=st.characters(), max_size=300), unique=True, max_size=30))
    def test_stems_are_unique_and_can_be_file_names(self, names: list[str]) -> None:
        stems = [safe_name(name) for name in [*names, *map(safe_name, names)]]
        assert len({safe_name(name) for name in names}) == len(names)
        for stem in stems:
            assert 0 < len(stem.encode()) <= 200
            assert not set(stem) & set('/\\\0\n:*?"<>|')
            assert stem not in {".", ".."}
            assert not stem.startswith((".", "-"))

    def test_an_id_that_looks_like_an_altered_one_does_not_collide(self) -> None:
        assert safe_name(safe_name("a/b")) != safe_name("a/b")


def test_a_long_index_is_iterated_without_holding_its_items(tmp_path: Path) -> None:
    """In an interpreter of its own: what other tests keep and collect meanwhile is no Item."""
    count = 20_000
    wavs(tmp_path, "w/0.wav")
    path = lines(tmp_path / "f.txt", *(f"w/{number}.wav|some text of number {number}" for number in range(count)))
    few = lines(tmp_path / "g.txt", "w/0.wav|a text")
    code = f"""
import gc, tracemalloc
from pathlib import Path
from calib.data.sources import open_source
assert sum(1 for _ in open_source(Path({str(few)!r}))) == 1  # what is imported or cached at first use
gc.collect()
tracemalloc.start()
source = open_source(Path({str(path)!r}))
assert sum(1 for _ in source) == len(source) == {count}
print(tracemalloc.get_traced_memory()[1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200 * count  # an Item with its paths and strings takes over 600 bytes
