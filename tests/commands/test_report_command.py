"""``calib report PAIRS``: which utterances are shown, sounds, the vocoder's leg, files, and the same bytes twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from speechlike import RATE, modelled, recording

from calib.commands.report_examples import chosen
from calib.data.pairs import PairsWriter
from calib.diagnose.diagnosis import Diagnosis, Utterance
from calib.diagnose.verdict import Verdict
from calib.mel.frontend import FrontEnd
from calib.mel.identify import Identification

Cli = Callable[..., Any]


def ranked(count: int) -> Diagnosis:
    """Utterances from the best, u000, to the worst."""
    rows = [Utterance(f"u{k:03d}", None, 10, 1.0, float(k), 1.0, 0.9) for k in range(count)]
    verdict = Verdict("healthy", "", "", True, None, (), (), "pass")
    return Diagnosis(verdict, count, 10 * count, 4, 0.0, 1.0, "", utterances=rows)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 12])
@pytest.mark.parametrize("there", [1, 2, 5, 12, 1000])
def test_examples_run_from_the_worst_to_the_best_with_the_median(count: int, there: int) -> None:
    d = ranked(there)
    found = chosen(d, count)
    assert len(found) == min(count, there)
    names = list(found)
    assert names == sorted(names, reverse=True), "worst first"
    if count and there > 1:
        assert found[f"u{there - 1:03d}"] == "worst"
    if count >= 2 and there > 2:
        assert found[f"u{there // 2:03d}"] == "median"
    if count >= 3 and there > 2:
        assert found["u000"] == "best"


def test_utterances_that_are_asked_for_come_as_well() -> None:
    assert chosen(ranked(50), 1, ["u007", "u049"]) == {"u049": "worst", "u007": "chosen"}
    full = chosen(ranked(50), 12, ["u007"])
    assert len(full) == 12, "what is asked for is among the twelve that a page shows"
    assert full["u007"] == "chosen"


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """PAIRS of HiFi-GAN mels with texts, and their recordings."""
    root = tmp_path_factory.mktemp("spoken")
    fe = FrontEnd.load("hifigan")
    audio = [recording(0.8 + 0.1 * k, k) for k in range(4)]
    (root / "wavs").mkdir()
    for k, x in enumerate(audio):
        soundfile.write(root / "wavs" / f"u{k}.wav", x, RATE, subtype="FLOAT")
    targets = [fe.mel(x) for x in audio]
    header = {"model_kind": "mean", "autoregressive": False, "frontend": fe.fields(), "frontend_id": fe.id}
    texts = ["one", "سلام", "three", "four"]
    with PairsWriter(root / "pairs", header) as writer:
        for k, (p, t) in enumerate(zip(modelled(targets), targets, strict=True)):
            writer.write(f"u{k}", p, t, text=texts[k], language="fa" if k == 1 else "en")
    return root / "pairs", root / "wavs"


def test_sounds_the_recording_and_the_vocoders_leg(
    calib: Cli, spoken: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calib.mel.identify.identify", lambda _: Identification("", "partly", {}))
    pairs, wavs = spoken
    out = calib("report", pairs, "--audio", wavs, "--vocoder-frontend", "melgan", "--examples", 1, "-o", "r")
    assert out.code == 0, out.err
    html, twin = Path("r/report.html").read_text(encoding="utf-8"), json.loads(Path("r/report.json").read_text())
    assert twin["legs"]["blame"] == "front-end"
    assert twin["legs"]["legs"]["T-V"]["status"] == "fail"
    assert out.out.startswith(twin["legs"]["headline"])
    assert '<line class="fail"' in html
    assert twin["examples"][0]["audio"] == ["calibrated", "constant", "raw", "recording", "target"]
    assert html.count("<audio") == 5
    assert "matched to the recording" in html
    assert {row["name"] for row in twin["settings"] if row["changed"]} >= {"--vocoder-frontend", "--audio", "fmax"}


def test_a_vocoder_that_wants_other_mels_is_a_finding_and_no_error(
    calib: Cli, spoken: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calib.mel.identify.identify", lambda _: Identification("", "partly", {}))
    code = "import numpy as np\nclass V:\n    frontend = 'melgan'\n    def vocode(self, mel):\n        return np.zeros(10, np.float32), 22050\ndef factory(checkpoint, device, **options):\n    return V()\n"
    (tmp_path / "other.py").write_text(code, encoding="utf-8")
    pairs, wavs = spoken
    out = calib("report", pairs, "--audio", wavs, "--vocoder", f"{tmp_path}/other.py:factory", "-o", "r")
    assert out.code == 0, out.err
    twin = json.loads(Path("r/report.json").read_text(encoding="utf-8"))
    assert "expects other mels" in twin["diagnosis"]["skipped"]["players"]
    assert twin["legs"]["vocoder_frontend"]["origin"].startswith("declared by")
    assert Path("r/report.html").read_text(encoding="utf-8").count("<audio") == 3  # the recordings


def test_texts_of_all_utterances_can_be_searched(calib: Cli, spoken: tuple[Path, Path]) -> None:
    pairs, _ = spoken
    assert calib("report", pairs, "--no-audio", "--examples", 0, "-o", "r").code == 0
    html = Path("r/report.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'id="data">(.*?)</script>', html, re.DOTALL)
    table = json.loads(data)
    assert sorted(table["text"]) == sorted(["one", "سلام", "three", "four"])
    assert '<td dir="rtl"><bdi>سلام</bdi>' in html
    assert "no utterance was given to show in full" in html


def test_the_same_pairs_give_the_same_bytes_and_other_files(calib: Cli, pairs: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        out = calib("report", pairs, "--no-audio", "--utterance", "u03", "--markdown", f"{name}.md", "--figures", f"{name}-f", "-o", name)  # fmt: skip
        assert out.code == 0, out.err
    for first, second in (("a/report.html", "b/report.html"), ("a/report.json", "b/report.json"), ("a-f/taylor.svg", "b-f/taylor.svg")):  # fmt: skip
        assert (tmp_path / first).read_bytes() == (tmp_path / second).read_bytes()
    assert (tmp_path / "a.md").read_text(encoding="utf-8").startswith("### ")
    assert len(list((tmp_path / "a-f").glob("*.png"))) == 11
    examples = json.loads((tmp_path / "a/report.json").read_text())["examples"]
    assert "u03" in [example["name"] for example in examples]


def test_an_unknown_utterance_is_an_error_with_the_nearest(calib: Cli, pairs: Path) -> None:
    out = calib("report", pairs, "--no-audio", "--utterance", "u3", "-o", "r")
    assert out.code == 2
    assert "no utterance has this id" in out.err
    assert "u03" in out.err
    assert not list(Path("r").glob("*"))


def test_constant_is_the_mean_spectrum_of_the_targets(calib: Cli, pairs: Path) -> None:
    """What the page calls the constant is what the table's per-bin mean is, in sample."""
    assert calib("report", pairs, "--no-audio", "-o", "r").code == 0
    d = json.loads(Path("r/report.json").read_text())["diagnosis"]
    targets = np.concatenate([np.load(path) for path in sorted((pairs / "targets").glob("*.npy"))])
    assert d["per_bin"]["target_mean"] == pytest.approx(targets.astype(np.float64).mean(0), abs=1e-5)
