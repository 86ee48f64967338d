"""The published schemas: true of what calib writes, and of nothing that was tampered with."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import make_pairs
from speechlike import RATE, recording, write_pairs

from calib.cli import _run
from calib.diagnose.diagnosis import Diagnosis
from calib.mel.frontend import FrontEnd
from calib.schemas import about, names, schema

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")

ROOT = Path(__file__).resolve().parent.parent.parent
# Written by calib's own tools, not for its users: the demo model's training, and an .npz that holds JSON.
INTERNAL = {"calib/reference-metrics/1", "calib/conversion-map/1"}
# name of the schema -> the command that writes such a document, and the document
COMMANDS: dict[str, list[tuple[str, str]]] = {
    "stats": [("stats audio --frontend hifigan -o out/stats.json", "out/stats.json"), ("fit-scaler pairs -o fit/p.json", "fit/mel_normalization_stats.json")],
    "scaling-params": [("fit-scaler pairs -o fit/p.json", "fit/p.json"), ("fit-scaler healthy -o fith/p.json", "fith/p.json")],
    "diagnosis": [
        ("diagnose pairs --json d1.json", "d1.json"), ("diagnose unrelated --json d2.json", "d2.json"), ("diagnose short --json d3.json", "d3.json"),
        ("diagnose one --json d4.json", "d4.json"),
    ],
    "report": [("report pairs --no-audio -o r/a", "r/a/report.json"), ("report short --no-audio -o r/b", "r/b/report.json")],
    "comparison": [
        ("report pairs --no-audio -o r/a && report healthy --no-audio -o r/h && report r/a r/h -o r/c", "r/c/comparison.json"),
        ("report pairs --no-audio -o r/a && report short --no-audio -o r/b && report r/a r/b/report.json -o r/d", "r/d/comparison.json"),
    ],
    "run": [("stats audio --frontend hifigan -o out/stats.json", "out/run.json"), ("report pairs --no-audio -o r/a", "r/a/run.json")],
    "pairs": [("fit-scaler pairs -o fit/p.json && convert pairs --params fit/p.json --from hifigan -o conv --layout pairs", "conv/pairs.json")],
    "pair": [("fit-scaler pairs -o fit/p.json && convert pairs --params fit/p.json --from hifigan -o conv --layout pairs", "conv/pairs.jsonl")],
    "conversion": [("fit-scaler pairs -o fit/p.json && convert pairs --params fit/p.json --from hifigan -o conv --layout pairs", "conv/conversion.json")],
    "data-check": [("check data audio --frontend hifigan --json data.json", "data.json")],
    "loss-floors": [("check loss pairs --loss huber --value 2.7 --value 1.5 --weight 1.75 --weight 1 --json loss.json", "loss.json")],
    "params-audit": [("fit-scaler pairs -o fit/p.json && check params fit/p.json --json params.json", "params.json"), ("check params --scale 0.449 --offset 0 --pred-std 0.028 --mel-std 2.08 --mae-before 5.073 --mae-after 1.678 --json params2.json", "params2.json")],
    "vocoder-check": [("check vocoder audio --limit 1 --frontend hifigan --json voc.json", "voc.json")],
    "check-model": [
        ("check model demo:corpus --model reference --limit 2 --probe determinism --no-free-running --json cm.json", "cm.json")
    ],
    "frontend-identification": [("frontends identify --mel pairs/targets --layout TM --json ident.json", "ident.json")],
    "frontends-list": [("frontends list --rate 22050 --json list.json", "list.json")],
    "frontends-show": [("frontends show hifigan --json show.json", "show.json")],
    "frontends-diff": [("frontends diff hifigan tacotron2 --json diff.json", "diff.json"), ("frontends diff hifigan hifigan --json same.json", "same.json")],
    "legs": [("diagnose voiced --vocoder-frontend hifigan --audio wavs --json legs.json", "legs.json")],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small corpora of every kind."""
    root = tmp_path_factory.mktemp("schemas")
    make_pairs(root / "pairs")
    make_pairs(root / "healthy", scale=1.0, shift=0.0)
    rng = np.random.default_rng(0)
    noise = [tuple(rng.standard_normal((2, 120 + k, 80)).astype(np.float32)) for k in range(6)]
    write_pairs(root / "unrelated", noise)
    write_pairs(root / "short", [(p[: 20 + k], y[: 20 + k]) for k, (p, y) in enumerate(noise[:2])])
    p, y = (np.concatenate([pair[side] for pair in noise]) for side in (0, 1))
    write_pairs(root / "one", [(y + p * np.float32(0.1), y)])
    hifigan, pairs = FrontEnd.load("hifigan"), []
    for kind in ("audio/wavs", "wavs"):
        (root / kind).mkdir(parents=True)
    for k in range(3):
        x = recording(0.8 + 0.1 * k, k)
        soundfile.write(root / "wavs" / f"u{k:02d}.wav", x, RATE, subtype="FLOAT")
        soundfile.write(root / "audio/wavs" / f"c{k}.wav", x, RATE, subtype="PCM_16")
        mel = hifigan.mel(x)
        pairs.append((mel + np.float32(0.5), mel / np.float32(np.log(10.0))))
    (root / "audio/metadata.csv").write_text("".join(f"c{k}|Text {k}.|text {k}.\n" for k in range(3)), encoding="utf-8")
    write_pairs(root / "voiced", pairs)
    return root


@pytest.fixture(scope="module")
def written(folder: Path) -> Callable[[str], list[Any]]:
    """Documents of a kind, made by their commands; each command runs once."""

    @functools.cache
    def command(line: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            code = _run(line.split())
        assert code in {0, 5}, line

    def documents(name: str) -> list[Any]:
        out = []
        for line, path in COMMANDS[name]:
            for part in line.split(" && "):
                command(part)
            text = (folder / path).read_text(encoding="utf-8")
            out += [json.loads(row) for row in text.splitlines()] if path.endswith(".jsonl") else [json.loads(text)]
        return [document["legs"] for document in out] if name == "legs" else out

    return documents


def faults(name: str, document: Any, *, closed: bool = False) -> list[str]:
    """What a schema says against a document; ``closed``: every key must be named, also where others may add some."""
    content = schema(name)
    if closed:
        _close(content)
    return [
        f"{list(error.absolute_path)}: {error.message[:200]}"
        for error in jsonschema.Draft202012Validator(content).iter_errors(document)
    ]


@functools.cache
def _validator(name: str) -> Any:
    return jsonschema.Draft202012Validator(schema(name))


def valid(name: str, document: Any) -> bool:
    """Whether a schema has nothing against a document; stops at the first fault."""
    return bool(_validator(name).is_valid(document))


def _close(content: Any) -> None:
    if isinstance(content, dict):
        if content.get("type") == "object" and "properties" in content:
            content["additionalProperties"] = False
        for value in content.values():
            _close(value)
    elif isinstance(content, list):
        for value in content:
            _close(value)


def test_every_schema_is_one_and_says_what_it_is_of() -> None:
    assert len(names()) >= 18
    for name in names():
        jsonschema.Draft202012Validator.check_schema(schema(name))
        assert len(about(name)) > 10, name


def test_every_schema_is_tried_on_documents() -> None:
    assert set(COMMANDS) == set(names())


def test_every_schema_that_the_source_names_is_published() -> None:
    literals = set()
    for path in (ROOT / "calib").rglob("*.py"):
        literals |= set(re.findall(r'"(calib/[a-z-]+/\d+)"', path.read_text(encoding="utf-8")))
    published = {schema(name).get("properties", {}).get("schema", {}).get("const") for name in names()}
    assert literals - published == INTERNAL


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_what_calib_writes_is_what_the_schema_says(name: str, written: Callable[[str], list[Any]]) -> None:
    """And every key written is in it, in the open ones too (run.json holds what each command likes to say)."""
    for document in written(name):
        assert faults(name, document) == []
        if name != "run":
            assert faults(name, document, closed=True) == []


def _tampered(document: Any) -> Iterator[tuple[str, Any]]:
    """Hostile changes of a document."""
    for key, value in document.items():
        if key == "schema":
            yield "another version", {**document, key: "calib/other/9"}
        elif isinstance(value, (bool, int, float, str)):
            yield f"{key} is an object", {**document, key: {"toString": value}}
            yield f"{key} is a list", {**document, key: [value]}
        elif isinstance(value, dict) and value:
            yield f"{key} is text", {**document, key: "<script>"}
        elif isinstance(value, list):
            yield f"{key} is a number", {**document, key: 1e308}


@pytest.mark.parametrize(
    "name",
    sorted(set(COMMANDS) - {"frontends-list", "frontends-diff", "frontends-show", "pair", "pairs", "conversion"}),
)
def test_what_was_tampered_with_is_not(name: str, written: Callable[[str], list[Any]]) -> None:
    document = written(name)[0]
    changes = list(_tampered(document))
    assert len(changes) >= 2
    for what, changed in changes:
        assert not valid(name, changed), f"{name}: {what}"


@pytest.mark.parametrize(
    "name", ["diagnosis", "report", "comparison", "legs", "data-check", "loss-floors", "params-audit", "vocoder-check"]
)
def test_an_unknown_or_a_missing_key_is_a_fault_where_calib_alone_writes(
    name: str, written: Callable[[str], list[Any]]
) -> None:
    document = written(name)[0]
    assert not valid(name, {**document, "__proto__": {"polluted": True}})
    for key in schema(name)["required"]:
        rest = {k: v for k, v in document.items() if k != key}
        assert not valid(name, rest), key


def test_files_that_inference_reads_are_open_but_strict_on_their_numbers(written: Callable[[str], list[Any]]) -> None:
    stats, params = written("stats")[0], written("scaling-params")[0]
    assert faults("stats", {"mel_mean": -5.0, "mel_std": 2.0}) == []  # a legacy file
    assert faults("scaling-params", {"scale_factor": 1.0, "offset": 0.0, "mine": 1}) == []
    for key in ("mel_mean", "mel_std"):
        for bad in (None, "-5", [1.0], True):
            assert faults("stats", {**stats, key: bad}) != [], (key, bad)
    assert faults("stats", {**stats, "mel_std": 0.0}) != []
    assert faults("scaling-params", {**params, "scale_factor": None}) != []
    assert faults("scaling-params", {**params, "verdict": "perfect"}) != []
    assert faults("pair", {"id": "a", "pred": "p.npy"}) != []  # neither target nor audio
    assert faults("pair", {"id": "a", "pred": "p.npy", "audio": "a.wav", "emotion": "calm"}) == []


def test_the_diagnosis_has_the_keys_of_its_dataclass() -> None:
    """A field that is added without its schema is noticed here, before any file is written."""
    fields = set(Diagnosis.__dataclass_fields__)
    known = set(schema("diagnosis")["properties"])
    assert fields <= known
    assert known - fields == {"schema", "status", "scale_factor", "offset", "per_bin_params", "legs"}


def test_the_command_prints_lists_and_refuses(calib: Callable[..., Any]) -> None:
    whole = calib("schema", "report")
    assert whole.code == 0
    printed = json.loads(whole.out)
    assert printed == schema("report") == schema("calib/report/1")
    assert {"diagnosis", "scaling-params", "legs"} <= printed["$defs"].keys()  # needs no other file
    listed = calib("schema")
    assert [line.split()[0] for line in listed.out.splitlines()[1:]] == names()
    unknown = calib("schema", "../params")
    assert unknown.code == 2
    assert "there is no schema '../params'" in unknown.err
    assert "did you mean report?" in calib("schema", "repot").err
    assert "did you mean calib/report/1" in calib("schema", "calib/report/2").err
    assert calib("schema", "stats", "-o", "s.json").code == 0
    assert json.loads(Path("s.json").read_text(encoding="utf-8")) == schema("stats")
    assert calib("schema", "stats", "-o", "s.json").code == 2


def test_a_schema_is_a_new_object_each_time() -> None:
    first = schema("run")
    before = copy.deepcopy(first)
    first["properties"].clear()
    assert schema("run") == before
