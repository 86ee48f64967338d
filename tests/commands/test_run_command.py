"""`calib run`: the pipeline from one YAML file."""

from __future__ import annotations

from pathlib import Path

import pytest

from calib.cli import _run
from calib.commands.run import load_config
from calib.errors import DataError, UsageError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", [path.name for path in sorted((ROOT / "configs").glob("*.yaml"))])
def test_every_config_in_the_repository_is_valid(name: str) -> None:
    config = load_config(ROOT / "configs" / name)
    assert config.source
    assert str(config.output).startswith("reports/")


def test_every_key_is_documented() -> None:
    """configs/README.md names every key that a config may hold."""
    import dataclasses

    from calib.commands.run import RunConfig

    text = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    for item in dataclasses.fields(RunConfig):
        assert f"`{item.name}`" in text, item.name


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("sorce: a\noutput: b\n", UsageError, "did you mean source"),
        ("source: a\n", UsageError, "'output' is missing"),
        ("source: 3\noutput: b\n", UsageError, "source cannot be 3"),
        ("source: a\noutput: b\nseed: true\n", UsageError, "seed cannot be True"),
        ("source: a\noutput: b\nsay: hello\n", UsageError, "say must be a list"),
        ("source: a\noutput: b\nsay: [{txt: x}]\n", UsageError, "did you mean text"),
        ("[1, 2]\n", UsageError, "expected keys and values"),
        ("a: [\n", DataError, "cannot be read as YAML"),
        ("!!python/object/apply:os.system ['true']\n", DataError, "cannot be read as YAML"),
    ],
)
def test_a_wrong_config_is_refused_with_the_reason(
    tmp_path: Path, text: str, error: type[Exception], said: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(error) as caught:
        load_config(path)
    assert said in f"{caught.value} {getattr(caught.value, 'hint', '')}"


def test_a_missing_config_exits_3(tmp_path: Path) -> None:
    assert _run(["run", str(tmp_path / "none.yaml")]) == 3


def test_a_refused_fit_writes_everything_and_exits_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Statistics, pairs, report and WAVs are there; the parameters are not; the verdict is said."""
    pytest.importorskip("espeakng_loader", reason="the reference model turns text into phonemes with espeak-ng")
    path = tmp_path / "c.yaml"
    path.write_text(
        f"source: demo:corpus\noutput: {tmp_path / 'out'}\ncheckpoint: collapsed\nlimit: 8\naudio: false\n",
        encoding="utf-8",
    )
    assert _run(["run", str(path)]) == 5
    out = tmp_path / "out"
    assert (out / "report.html").is_file()
    assert (out / "mel_normalization_stats.json").is_file()
    assert (out / "pairs" / "pairs.jsonl").is_file()
    assert not (out / "mel_scaling_params.json").exists()
    assert "NOT FIXABLE BY CALIBRATION" in capsys.readouterr().out


def test_a_collapsed_rerun_removes_the_parameters_of_the_run_before(tmp_path: Path) -> None:
    """With --force, parameters of an earlier healthy run must not stay beside a refusal."""
    pytest.importorskip("espeakng_loader", reason="the reference model turns text into phonemes with espeak-ng")
    path = tmp_path / "c.yaml"
    base = f"source: demo:corpus\noutput: {tmp_path / 'out'}\nlimit: 8\naudio: false\n"
    path.write_text(base, encoding="utf-8")
    assert _run(["run", str(path)]) == 0
    assert (tmp_path / "out" / "mel_scaling_params.json").exists()
    path.write_text(base + "checkpoint: collapsed\n", encoding="utf-8")
    assert _run(["run", str(path), "--force"]) == 5
    assert not (tmp_path / "out" / "mel_scaling_params.json").exists()
