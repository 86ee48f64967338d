"""Every kind of source: one corpus in all of them, and what is peculiar to each."""

from __future__ import annotations

import functools
import gzip
import http.server
import io
import json
import pickle
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from calib.commands.stats import StatsConfig, run
from calib.data.arrays import load_array
from calib.data.audio import audio_file, audio_seconds, read_audio, write_wav
from calib.data.clip import Clip
from calib.data.sources import Item, Select, Source, open_source
from calib.errors import DataError, UsageError
from calib.mel.frontend import FrontEnd

RATE = 22_050
NAMES = ("anna_1", "anna_2", "bob_1")


def voice(seed: int, seconds: float = 0.6) -> np.ndarray:
    """16-bit samples of a buzz with noise, the same for the same seed."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    sound = sum(np.sin(2 * np.pi * (90 + 20 * seed) * k * t) / k for k in range(1, 20)) + rng.normal(0, 0.05, len(t))
    return (0.2 * sound * 32767 / np.abs(sound).max()).astype(np.int16)


SOUNDS = {name: voice(seed) for seed, name in enumerate(NAMES)}
TEXTS = {"anna_1": "one", "anna_2": "two and a half", "bob_1": "سلام"}


def wav_bytes(name: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, SOUNDS[name], RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def flac_bytes(name: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, SOUNDS[name], RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def speaker(name: str) -> str:
    return name.split("_", maxsplit=1)[0]


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def wavs(folder: Path) -> Path:
    for name in NAMES:
        put(folder / f"{name}.wav", wav_bytes(name))
    return folder


def long_recording(path: Path) -> Path:
    """The three utterances one after the other, with 0.25 s of noise between them, in one file."""
    gap = (1000 * np.random.default_rng(9).normal(size=RATE // 4)).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.concatenate([part for name in NAMES for part in (SOUNDS[name], gap)]), RATE)
    return path


def starts() -> dict[str, float]:
    step = (len(SOUNDS["bob_1"]) + RATE // 4) / RATE
    return {name: position * step for position, name in enumerate(NAMES)}


DURATION = len(SOUNDS["bob_1"]) / RATE


# --- one corpus, every form -------------------------------------------------------------------------------------------


def ljspeech(root: Path) -> Path:
    wavs(root / "wavs")
    put(root / "metadata.csv", "".join(f"{n}|{TEXTS[n]}|{TEXTS[n]}\n" for n in NAMES))
    put(root / "speakers.csv", "".join(f"{n}|{speaker(n)}|en\n" for n in NAMES))
    return root


def filelist(root: Path) -> Path:
    wavs(root / "audio")
    return put(root / "train.txt", "".join(f"audio/{n}.wav|{TEXTS[n]}|{speaker(n)}\n" for n in NAMES))


def filelist_gz(root: Path) -> Path:
    return put(root / "train.txt.gz", gzip.compress(filelist(root).read_bytes()))


def coqui(root: Path) -> Path:
    wavs(root / "wavs")
    rows = "".join(f"wavs/{n}.wav|{TEXTS[n]}|{speaker(n)}\n" for n in NAMES)
    return put(root / "metadata_train.csv", f"audio_file|text|speaker_name\n{rows}")


def common_voice(root: Path) -> Path:
    wavs(root / "clips")
    rows = "".join(f"{speaker(n)}\t{n}.wav\t{TEXTS[n]}\t2\ten\n" for n in NAMES)
    put(root / "validated.tsv", f"client_id\tpath\tsentence\tup_votes\tlocale\n{rows}")
    return root


def jsonl(root: Path) -> Path:
    wavs(root)
    rows = [{"audio_filepath": f"{n}.wav", "text": TEXTS[n], "speaker": speaker(n)} for n in NAMES]
    return put(root / "m.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def jsonl_segments(root: Path) -> Path:
    long_recording(root / "all.flac")
    rows = [{"audio_filepath": "all.flac", "id": n, "offset": starts()[n], "duration": DURATION, "text": TEXTS[n], "speaker": speaker(n)} for n in NAMES]  # fmt: skip
    return put(root / "m.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def kaldi_tables(root: Path) -> None:
    put(root / "text", "".join(f"{n} {TEXTS[n]}\n" for n in NAMES))
    put(root / "utt2spk", "".join(f"{n} {speaker(n)}\n" for n in NAMES))


def kaldi(root: Path) -> Path:
    wavs(root / "audio")
    put(root / "wav.scp", "".join(f"{n} audio/{n}.wav\n" for n in NAMES))
    kaldi_tables(root)
    return root


def kaldi_ark(root: Path) -> Path:
    data, rows = b"", ""
    for n in NAMES:
        data += f"{n} ".encode()
        rows += f"{n} {root}/wav.ark:{len(data)}\n"
        data += wav_bytes(n)
    put(root / "wav.ark", data)
    put(root / "wav.scp", rows)
    kaldi_tables(root)
    return root


def kaldi_segments(root: Path) -> Path:
    long_recording(root / "all.wav")
    put(root / "wav.scp", "rec all.wav\n")
    put(root / "segments", "".join(f"{n} rec {starts()[n]:.6f} {starts()[n] + DURATION:.6f}\n" for n in NAMES))
    kaldi_tables(root)
    return root


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def tar_shards(root: Path, suffix: str = "wav", encode: Callable[[str], bytes] = wav_bytes, form: int = tarfile.PAX_FORMAT) -> Path:  # fmt: skip
    root.mkdir(parents=True)
    for shard, names in enumerate((NAMES[:2], NAMES[2:])):
        with tarfile.open(root / f"train-{shard:06d}.tar", "w", format=form) as tar:
            for n in names:
                add(tar, f"deep/er/{n}.{suffix}", encode(n))
                add(tar, f"deep/er/{n}.json", json.dumps({"speaker": speaker(n), "language": "en"}).encode())
                add(tar, f"deep/er/{n}.txt", TEXTS[n].encode())
    return root


def tar_pattern(root: Path) -> Path:
    return tar_shards(root, "flac", flac_bytes, tarfile.GNU_FORMAT) / "train-{000000..000001}.tar"


def parquet(root: Path, *, paths: bool = False, group: int = 2) -> Path:
    pa = pytest.importorskip("pyarrow", reason='Parquet needs pyarrow: pip install "mel-calib[hub]"')
    pq = pytest.importorskip("pyarrow.parquet")
    audio = [{"bytes": None if paths else flac_bytes(n), "path": f"{n}.wav"} for n in NAMES]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"audio": pa.array(audio, kind), "text": [TEXTS[n] for n in NAMES], "speaker_id": [speaker(n) for n in NAMES]})  # fmt: skip
    (root / "data").mkdir(parents=True)
    pq.write_table(table.slice(0, 2), root / "data" / "train-00000-of-00002.parquet", row_group_size=group)
    pq.write_table(table.slice(2), root / "data" / "train-00001-of-00002.parquet", row_group_size=group)
    return root


def parquet_paths(root: Path) -> Path:
    parquet(root, paths=True)
    wavs(root / "data")
    return root


def cut(name: str, **more: Any) -> dict[str, Any]:
    recording = {"id": "rec", "sources": [{"type": "file", "channels": [0], "source": "all.wav"}], "sampling_rate": RATE, "num_samples": 3 * RATE, "duration": 2.55}  # fmt: skip
    told = [{"id": f"s-{name}", "start": 0.0, "duration": DURATION, "text": TEXTS[name], "speaker": speaker(name), "language": "en"}]  # fmt: skip
    return {"id": name, "start": starts()[name], "duration": DURATION, "channel": 0, "supervisions": told, "recording": recording, "type": "MonoCut", **more}  # fmt: skip


def lhotse(root: Path) -> Path:
    long_recording(root / "all.wav")
    text = "".join(json.dumps(cut(name)) + "\n" for name in NAMES)
    return put(root / "cuts.jsonl.gz", gzip.compress(text.encode()))


def audio_folder(root: Path) -> Path:
    return wavs(root)


FORMS: list[Callable[[Path], Path]] = [ljspeech, filelist, filelist_gz, coqui, common_voice, jsonl, jsonl_segments, kaldi, kaldi_ark, kaldi_segments, tar_shards, tar_pattern, parquet, parquet_paths, lhotse, audio_folder]  # fmt: skip


def statistics(source: Path | str, tmp_path: Path, name: str, **options: Any) -> dict[str, Any]:
    return run(StatsConfig(str(source), "hifigan", tmp_path / f"{name}.json", jobs=1, **options))


@functools.cache
def reference() -> str:
    """The statistics of the utterances, as they come from the samples themselves."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        content = statistics(ljspeech(Path(folder) / "c"), Path(folder), "s")
    assert content["n_utterances"] == 3
    return json.dumps({key: value for key, value in content.items() if key not in {"provenance", "speakers"}})


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_of_one_corpus_has_the_same_statistics_bit_for_bit(
    form: Callable[[Path], Path], tmp_path: Path
) -> None:
    """All lossless forms; speakers too where the form has them."""
    source = form(tmp_path / "corpus")
    content = statistics(source, tmp_path, "s")
    assert json.dumps({k: v for k, v in content.items() if k not in {"provenance", "speakers"}}) == reference()
    if form is not audio_folder:
        assert sorted(content["speakers"]) == ["anna", "bob", "default"]
        assert [item.text for item in open_source(source)] == [TEXTS[name] for name in NAMES]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_items_are_small_picklable_and_countable(form: Callable[[Path], Path], tmp_path: Path) -> None:
    source = open_source(form(tmp_path / "corpus"))
    items = list(source)
    assert len(source) == source.expected == len(items) == 3
    assert "3 utterances" in source.describe()
    assert items == list(source)
    for item in items:
        data = pickle.dumps(item)
        assert len(data) < 1000
        again = pickle.loads(data)  # noqa: S301 - our own bytes
        assert again == item
        assert np.array_equal(read_audio(again.audio).samples, read_audio(item.audio).samples)
        assert audio_seconds(item.audio) == pytest.approx(DURATION, abs=1e-4)


def test_two_processes_give_the_bytes_of_one(tmp_path: Path) -> None:
    source = tar_shards(tmp_path / "corpus")
    one = statistics(source, tmp_path, "one")
    two = run(StatsConfig(str(source), "hifigan", tmp_path / "two.json", jobs=2))
    assert one == two


# --- remote -----------------------------------------------------------------------------------------------------------


def to_memory(root: Path) -> str:
    """Copy a folder into fsspec's memory file system."""
    fsspec = pytest.importorskip("fsspec", reason='URLs need fsspec: pip install "mel-calib[hub]"')
    system = fsspec.filesystem("memory")
    base = f"/calib-test/{root.parent.name}"
    for path in sorted(root.rglob("*")):
        if path.is_file():
            with system.open(f"{base}/{path.relative_to(root)}", "wb") as file:
                file.write(path.read_bytes())
    return f"memory://{base}"


@pytest.mark.parametrize("form", [ljspeech, filelist_gz, jsonl_segments, kaldi, tar_shards, tar_pattern, parquet, lhotse, audio_folder], ids=lambda form: form.__name__)  # fmt: skip
def test_a_remote_corpus_has_the_same_statistics(form: Callable[[Path], Path], tmp_path: Path) -> None:
    source = form(tmp_path / "corpus")
    url = to_memory(tmp_path / "corpus")
    rest = str(source)[len(str(tmp_path / "corpus")) :]
    content = statistics(url + rest, tmp_path, "s")
    assert json.dumps({k: v for k, v in content.items() if k not in {"provenance", "speakers"}}) == reference()


def test_file_urls_are_local_paths(tmp_path: Path) -> None:
    items = list(open_source(f"file://{ljspeech(tmp_path / 'c')}"))
    assert items[0].audio == tmp_path / "c" / "wavs" / "anna_1.wav"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Files with byte ranges, and no log."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        wanted = self.headers.get("Range")
        if not path.is_file() or not wanted:
            super().do_GET()
            return
        data = path.read_bytes()
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        begin, end = int(first or 0), min(len(data) - 1, int(last)) if last else len(data) - 1
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{end}/{len(data)}")
        self.send_header("Content-Length", str(end + 1 - begin))
        self.end_headers()
        self.wfile.write(data[begin : end + 1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp", reason='http:// needs aiohttp: pip install "mel-calib[hub]"')
    handler = functools.partial(_Quiet, directory=str(tmp_path / "corpus"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize(("form", "path"), [(filelist, "train.txt"), (lhotse, "cuts.jsonl.gz"), (tar_pattern, "train-{000000..000001}.tar"), (kaldi, "wav.scp")])  # fmt: skip
def test_a_web_server_gives_the_same_statistics(
    form: Callable[[Path], Path], path: str, tmp_path: Path, server: str
) -> None:
    form(tmp_path / "corpus")
    content = statistics(f"{server}/{path}", tmp_path, "s")
    assert json.dumps({k: v for k, v in content.items() if k not in {"provenance", "speakers"}}) == reference()


def test_a_web_address_that_is_not_there_is_a_data_error(tmp_path: Path, server: str) -> None:
    wavs(tmp_path / "corpus")
    with pytest.raises(DataError, match="no such file"):
        open_source(f"{server}/nothing.txt")


def test_a_file_that_vanishes_from_a_bucket_is_skipped_with_its_reason(tmp_path: Path) -> None:
    import fsspec

    filelist(tmp_path / "corpus")
    url = to_memory(tmp_path / "corpus")
    fsspec.filesystem("memory").rm(f"{url.removeprefix('memory://')}/audio/bob_1.wav")
    content = statistics(f"{url}/train.txt", tmp_path, "s", allow_skipped=50)
    assert list(content["provenance"]["skipped"].values()) == [["bob_1"]]
    assert "no such file" in next(iter(content["provenance"]["skipped"]))


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(*_: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(UsageError, match="s3fs") as caught:
        open_source("s3://bucket/corpus")
    assert "mel-calib[s3]" in str(caught.value.hint)


# --- filters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [ljspeech, jsonl, kaldi, tar_shards, parquet, lhotse, coqui], ids=lambda form: form.__name__)  # fmt: skip
def test_speakers_are_selected(form: Callable[[Path], Path], tmp_path: Path) -> None:
    source = open_source(form(tmp_path / "corpus"), select=Select(speakers=("anna",)))
    assert [item.text for item in source] == ["one", "two and a half"]
    assert len(source) == source.expected == 2
    assert "2 of 3 utterances (speaker anna)" in source.describe()
    assert len(open_source(form(tmp_path / "other"), select=Select(speakers=("anna",)), limit=1)) == 1


def test_languages_include_their_regions(tmp_path: Path) -> None:
    rows = [{"audio_filepath": f"{n}.wav", "lang": code} for n, code in zip(NAMES, ("en-GB", "en", "de"), strict=True)]
    path = put(wavs(tmp_path) / "m.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert len(open_source(path, select=Select(languages=("en",)))) == 2
    assert len(open_source(path, select=Select(languages=("en_gb", "de")))) == 2


def test_nothing_left_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of its 3 utterances") as caught:
        list(open_source(coqui(tmp_path / "c"), select=Select(speakers=("carl",))))
    assert caught.value.hint == "its speakers: anna, bob"
    with pytest.raises(DataError) as caught:
        list(open_source(wavs(tmp_path / "w"), select=Select(languages=("fa",))))
    assert caught.value.hint == "the source names no languages"


def test_durations_come_from_the_index_or_are_read_and_that_is_said(tmp_path: Path) -> None:
    folder = wavs(tmp_path / "w")
    write_wav(folder / "long.wav", np.zeros(3 * RATE), RATE)
    put(folder / "broken.wav", b"no audio")
    source = open_source(folder, select=Select(min_seconds=1.0))
    assert [item.id for item in source] == ["broken", "long"]  # what cannot be read is reported, not filtered away
    assert "at least 1 s, by the headers of the files, which are read for it" in source.describe()
    rows = [{"audio_filepath": f"{n}.wav", "duration": 0.6} for n in (*NAMES, "long")]
    path = put(folder / "m.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError):
        list(open_source(path, select=Select(min_seconds=1.0)))
    assert "by the index" in open_source(path, select=Select(max_seconds=1.0)).describe()


@pytest.mark.parametrize(("low", "high"), [(-1.0, None), (2.0, 1.0), (float("nan"), None)])
def test_durations_that_nothing_has_are_usage_errors(low: float | None, high: float | None) -> None:
    with pytest.raises(UsageError, match="duration"):
        Select(min_seconds=low, max_seconds=high)


def test_a_split_is_a_file_a_shard_or_a_column(tmp_path: Path) -> None:
    root = tar_shards(tmp_path / "t")
    (root / "train-000001.tar").rename(root / "dev-000000.tar")
    assert [item.id for item in open_source(root, split="dev")] == ["deep/er/bob_1"]
    with pytest.raises(UsageError, match="none of the 2 shards"):
        open_source(root, split="test")
    for name in ("train", "dev"):
        kaldi(tmp_path / "k" / "data" / name)
    assert len(open_source(tmp_path / "k", split="dev")) == 3
    rows = [{"audio_filepath": f"{n}.wav", "split": s} for n, s in zip(NAMES, ("train", "dev", "train"), strict=True)]
    path = put(wavs(tmp_path / "j") / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert [item.id for item in open_source(path, split="train")] == ["anna_1", "bob_1"]
    assert [item.id for item in open_source(tmp_path / "j", split="dev")] == ["anna_2"]
    with pytest.raises(UsageError, match="without one"):
        open_source(jsonl(tmp_path / "x"), split="dev")


# --- Kaldi ------------------------------------------------------------------------------------------------------------


def matrix(values: np.ndarray, kind: str) -> bytes:
    dtype = "<f4" if kind == "FM" else "<f8"
    return b"\0B" + kind.encode() + b" " + struct.pack("<bibi", 4, values.shape[0], 4, values.shape[1]) + values.astype(dtype).tobytes()  # fmt: skip


def test_kaldi_feats_are_mels(tmp_path: Path) -> None:
    mels = {name: FrontEnd.load("hifigan").mel(SOUNDS[name].astype(np.float32) / 32768) for name in NAMES}
    data, rows = b"", ""
    for position, (name, mel) in enumerate(mels.items()):
        data += f"{name} ".encode()
        rows += f"{name} feats.ark:{len(data)}\n"
        data += matrix(mel, "FM" if position else "DM")
    put(tmp_path / "k" / "feats.ark", data)
    put(tmp_path / "k" / "feats.scp", rows)
    kaldi_tables(tmp_path / "k")
    source = open_source(tmp_path / "k")
    assert source.holds == "mels"
    for item in source:
        assert item.mel is not None
        assert np.array_equal(load_array(item.mel), mels[item.id])
    content = statistics(tmp_path / "k", tmp_path, "s")
    wanted = json.loads(reference())
    assert content["n_frames"] == wanted["n_frames"]
    # Statistics of audio are made in float32 where that is good enough; mels have a float64 FFT behind them.
    for key in ("mel_mean", "mel_std"):
        assert content[key] == pytest.approx(wanted[key], rel=1e-6)
    for key in ("mean", "std"):
        assert content["per_bin"][key] == pytest.approx(wanted["per_bin"][key], rel=1e-6)


@pytest.mark.parametrize("method", [2, 3, 5])
def test_compressed_kaldi_matrices_are_those_of_kaldiio(tmp_path: Path, method: int) -> None:
    kaldiio = pytest.importorskip("kaldiio", reason="kaldiio writes the matrices that are compared")
    mel = np.random.default_rng(0).normal(-4, 2, (60, 80)).astype(np.float32)
    path = tmp_path / "a.ark"
    kaldiio.save_ark(str(path), {"u": mel}, compression_method=method)
    ours = load_array(Clip(str(path), 2))
    with path.open("rb") as file:
        theirs = list(kaldiio.load_ark(file))[0][1]  # noqa: RUF015 - to its end, or it leaves the file open
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_pipe_is_refused_entry_by_entry_and_nothing_is_executed(tmp_path: Path) -> None:
    root = kaldi(tmp_path / "k")
    mark = tmp_path / "executed"
    put(root / "wav.scp", f"anna_1 audio/anna_1.wav\nanna_2 touch {mark} |\nbob_1 audio/bob_1.wav\n")
    content = statistics(root, tmp_path, "s", allow_skipped=50)
    reason, names = next(iter(content["provenance"]["skipped"].items()))
    assert names == ["anna_2"]
    assert "calib executes nothing" in reason
    assert not mark.exists()


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("anna_1 rec 0.5", "is not utterance"),
        ("anna_1 nowhere 0 1", "'nowhere' is not in"),
        ("anna_1 rec 2 1", "before it begins"),
        ("anna_1 rec x 1", "no number of seconds"),
    ],
)
def test_malformed_segments_are_named_by_line(tmp_path: Path, row: str, match: str) -> None:
    root = kaldi_segments(tmp_path / "k")
    put(root / "segments", f"bob_1 rec 0 0.5\n{row}\n")
    with pytest.raises(DataError, match=match) as caught:
        open_source(root)
    assert "line 2" in str(caught.value)


def test_kaldi_tables_in_another_order_are_matched_by_id(tmp_path: Path) -> None:
    root = kaldi(tmp_path / "k")
    put(root / "text", "".join(f"{n} {TEXTS[n]}\n" for n in reversed(NAMES[1:])))
    assert [item.text for item in open_source(root)] == ["", "two and a half", "سلام"]


# --- lhotse -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"type": "MixedCut", "tracks": []}, "MixedCut"),
        ({"recording": {"id": "r", "sources": [{"type": "command", "channels": [0], "source": "cat x"}]}}, "executes nothing"),
        ({"recording": {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "all.wav"}], "transforms": [{"name": "Speed", "kwargs": {"factor": 0.9}}]}}, "Speed"),
        ({"channel": 3}, "channels"),
        ({"start": 9.0}, "outside its recording"),
    ],
)  # fmt: skip
def test_cuts_that_are_more_than_a_part_of_a_file_are_skipped_with_the_reason(
    tmp_path: Path, more: dict[str, Any], match: str
) -> None:
    long_recording(tmp_path / "all.wav")
    path = put(tmp_path / "cuts.jsonl", f"{json.dumps(cut('anna_1'))}\n{json.dumps(cut('anna_2', **more))}\n")
    content = statistics(path, tmp_path, "s", allow_skipped=50)
    reason, names = next(iter(content["provenance"]["skipped"].items()))
    assert names == ["anna_2"]
    assert match in reason


def test_the_channel_of_a_cut_is_read(tmp_path: Path) -> None:
    both = np.stack([SOUNDS["anna_1"], SOUNDS["bob_1"]], axis=1)
    soundfile.write(tmp_path / "all.wav", both, RATE)
    recording = {
        "id": "r",
        "sources": [{"type": "file", "channels": [0, 1], "source": "all.wav"}],
        "duration": DURATION,
    }
    rows = [cut("anna_1", channel=1, start=0.0, recording=recording), cut("bob_1", channel=[0, 1], start=0.0, recording=recording, type="MultiCut")]  # fmt: skip
    items = list(open_source(put(tmp_path / "cuts.jsonl", "".join(json.dumps(row) + "\n" for row in rows))))
    assert np.array_equal(read_audio(items[0].audio).samples, SOUNDS["bob_1"].astype(np.float32) / 32768)
    assert np.array_equal(read_audio(items[1].audio).samples, read_audio(tmp_path / "all.wav").samples)


# --- WebDataset -------------------------------------------------------------------------------------------------------


def shard(path: Path, members: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members.items():
            add(tar, name, data)
    return path


SECOND = 512 + -(-len(wav_bytes("anna_1")) // 512) * 512  # byte at which the second member's header begins


def ids(source: Source) -> list[str]:
    return [item.id for item in source]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_and_persian_names_in_tars(tmp_path: Path, form: int) -> None:
    name = f"{'x' * 150}/سلام"
    path = shard(tmp_path / "a.tar", {f"{name}.wav": wav_bytes("bob_1")}, form)
    (item,) = open_source(path)
    assert item.id == name
    assert len(read_audio(item.audio).samples) == len(SOUNDS["bob_1"])


def test_the_key_of_a_sample_ends_at_the_first_dot_and_other_members_are_passed_over(tmp_path: Path) -> None:
    members = {"__MACOSX/._a.wav": b"x", "a.lang": b"fa", "a.audio.wav": wav_bytes("bob_1"), "a.cls": b"3", "b.jpg": b"x", "c.npy": b"x"}  # fmt: skip
    source = open_source(shard(tmp_path / "a.tar", members))
    assert [(item.id, item.language) for item in source if item.audio] == [("a", "fa")]
    assert ids(source) == ["a", "c"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda data: data[:20_000], "cut short"),
        (lambda data: data[:700], "cut short"),
        (gzip.compress, "compressed"),
        (lambda data: b"x" * len(data), "not a tar"),
        (lambda data: data[:0] + b"x", "not a tar"),
        # The header of the second member.
        (lambda data: data[:SECOND] + b"x" * 512 + data[SECOND + 512 :], "damaged"),
    ],
)
def test_a_damaged_tar_is_refused_with_the_byte(tmp_path: Path, change: Callable[[bytes], bytes], match: str) -> None:
    data = shard(tmp_path / "a.tar", {f"{n}.wav": wav_bytes(n) for n in NAMES}).read_bytes()
    path = put(tmp_path / "b.tar", change(data))
    with pytest.raises(DataError, match=match):
        open_source(path)


def test_a_tar_without_audio_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no audio .*\.jpg"):
        open_source(shard(tmp_path / "a.tar", {"a.jpg": b"x"}))


def test_one_id_in_two_shards_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        shard(tmp_path / f"{name}.tar", {"u.wav": wav_bytes("bob_1")})
    with pytest.raises(DataError, match="'u' occurs twice"):
        open_source(tmp_path)


# --- Parquet ----------------------------------------------------------------------------------------------------------


def test_parquet_columns_can_be_named(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"recording": [wav_bytes(n) for n in NAMES], "raw": [TEXTS[n] for n in NAMES], "who": [1, 2, 3], "seconds": [0.6] * 3})  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    items = list(open_source(tmp_path / "a.parquet", columns="audio=recording,text=raw,speaker=who"))
    assert [(item.id, item.text, item.speaker, item.duration) for item in items] == [(f"a-{k:08d}", TEXTS[n], str(k + 1), 0.6) for k, n in enumerate(NAMES)]  # fmt: skip
    with pytest.raises(UsageError, match="does not name a column"):
        open_source(tmp_path / "a.parquet", columns="audio=nothing")
    pq.write_table(table.drop_columns(["recording"]), tmp_path / "b.parquet")
    with pytest.raises(UsageError, match="no column of it holds audio"):
        open_source(tmp_path / "b.parquet")


def test_parquet_rows_are_read_in_any_order_and_an_empty_one_is_skipped(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    sounds = [np.full(100, k, np.int16) for k in range(50)]
    audio = []
    for k, sound in enumerate(sounds):
        buffer = io.BytesIO()
        soundfile.write(buffer, sound, RATE, format="WAV")
        audio.append({"bytes": None if k == 7 else buffer.getvalue(), "path": None})
    pq.write_table(pa.table({"audio": pa.array(audio, kind)}), tmp_path / "a.parquet", row_group_size=20)
    items = list(open_source(tmp_path / "a.parquet"))
    for k in np.random.default_rng(0).permutation(50):
        if k == 7:
            with pytest.raises(DataError, match="no audio bytes"):
                read_audio(items[k].audio)
        else:
            assert read_audio(items[k].audio).samples[0] == np.float32(k / 32768)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x" * 1000])
def test_what_is_no_parquet_is_refused(tmp_path: Path, data: bytes) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match="Parquet"):
        open_source(put(tmp_path / "a.parquet", data))


# --- clips ------------------------------------------------------------------------------------------------------------


def test_a_clip_becomes_a_file_for_programs_that_take_files(tmp_path: Path) -> None:
    item = list(open_source(kaldi_segments(tmp_path / "k")))[1]
    assert isinstance(item.audio, Clip)
    with audio_file(item.audio) as path:
        assert np.array_equal(read_audio(path).samples, read_audio(item.audio).samples)
    assert not path.exists()


def test_messages_name_the_shard_and_the_member(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", {"d/u.wav": b"no audio at all, sorry"})
    (item,) = open_source(path)
    with pytest.raises(DataError, match=r"a\.tar: d/u\.wav: not an audio file"):
        read_audio(item.audio)


def test_an_item_of_one_local_file_is_its_path(tmp_path: Path) -> None:
    first = next(iter(open_source(filelist(tmp_path / "f"))))
    assert first == Item("anna_1", tmp_path / "f" / "audio" / "anna_1.wav", None, "one", "anna")
