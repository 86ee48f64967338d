"""`calib.params`: strict reading, the formulas that inference uses, and that the file stands alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import calib.params
from calib.params import SCALING_SCHEMA, STATS_SCHEMA, MelNormalizer, MelScaler, ParamsError, ParamsWarning

STATS = {"schema": STATS_SCHEMA, "mel_mean": -5.0, "mel_std": 2.0, "stats_id": "st-a", "frontend_id": "fe-a"}
SCALING = {
    "schema": SCALING_SCHEMA,
    "scale_factor": 0.5,
    "offset": 1.0,
    "per_bin": None,
    "verdict": "fixable",
    "stats_id": "st-a",
    "frontend_id": "fe-a",
}
BINS = {"mean": [-4.0, -5.0, -6.0], "std": [1.0, 2.0, 4.0]}


def put(folder: Path, content: Any, name: str = "file.json") -> Path:
    """``content`` as JSON (or as it is, if bytes or text) in a file."""
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


# --- reading ------------------------------------------------------------------------------------------------------


def test_a_complete_stats_file_is_read_without_any_warning(tmp_path: Path) -> None:
    n = MelNormalizer.load(put(tmp_path, {**STATS, "per_bin": BINS}))
    assert (n.mel_mean, n.mel_std, n.stats_id, n.frontend_id, n.per_bin) == (-5.0, 2.0, "st-a", "fe-a", False)
    assert n.per_bin_mean is not None
    np.testing.assert_array_equal(n.per_bin_mean, BINS["mean"])
    assert n.extra["schema"] == STATS_SCHEMA


@pytest.mark.parametrize(
    ("cls", "content"), [(MelNormalizer, {"mel_mean": -5, "mel_std": 2}), (MelScaler, {"scale_factor": 1, "offset": 0})]
)
def test_a_legacy_two_key_file_is_accepted_with_a_warning(tmp_path: Path, cls: Any, content: dict[str, float]) -> None:
    with pytest.warns(ParamsWarning, match="legacy"):
        loaded = cls.load(put(tmp_path, content))
    key = next(iter(content))
    assert getattr(loaded, key) == content[key]
    assert type(getattr(loaded, key)) is float


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    assert MelNormalizer.load(put(tmp_path, b"\xef\xbb\xbf" + json.dumps(STATS).encode())).mel_mean == -5.0


BAD_STATS = {
    "NaN": '{"mel_mean": NaN, "mel_std": 2}',
    "Infinity": '{"mel_mean": -5, "mel_std": Infinity}',
    "-Infinity": '{"mel_mean": -Infinity, "mel_std": 2}',
    "NaN in an extra key": '{"mel_mean": -5, "mel_std": 2, "min": NaN}',
    "a float beyond float64": '{"mel_mean": 1e999, "mel_std": 2}',
    "an integer beyond float64": json.dumps({"mel_mean": 10**400, "mel_std": 2}),
    "sd of zero": {**STATS, "mel_std": 0},
    "sd below zero": {**STATS, "mel_std": -2.0},
    "bool": {**STATS, "mel_std": True},
    "text": {**STATS, "mel_mean": "-5.0"},
    "null": {**STATS, "mel_mean": None},
    "a list": [STATS],
    "a missing key": {"schema": STATS_SCHEMA, "mel_mean": -5.0},
    "no JSON": "mel_mean: -5",
    "an empty file": "",
    "UTF-16": json.dumps(STATS).encode("utf-16"),
    "deep nesting": "[" * 100_000,
    "deep nesting inside": '{"mel_mean": -5, "mel_std": 2, "x": ' + '{"a":' * 50_000,
    "the next major version": {**STATS, "schema": "calib/mel-normalization-stats/2"},
    "the other kind of file": {**STATS, "schema": SCALING_SCHEMA},
    "a schema that is a number": {**STATS, "schema": 1},
    "per_bin of unequal length": {**STATS, "per_bin": {"mean": [1.0, 2.0], "std": [1.0]}},
    "per_bin without std": {**STATS, "per_bin": {"mean": [1.0]}},
    "per_bin as a list": {**STATS, "per_bin": [1.0]},
    "per_bin with a bool": {**STATS, "per_bin": {"mean": [True], "std": [1.0]}},
    "per_bin with a huge integer": json.dumps({**STATS, "per_bin": {"mean": [10**400], "std": [1.0]}}),
    "per_bin below zero": {**STATS, "per_bin": {"mean": [1.0], "std": [-1.0]}},
    "an id that is a number": {**STATS, "stats_id": 7},
}


@pytest.mark.filterwarnings("ignore::calib.params.ParamsWarning")
@pytest.mark.parametrize("content", BAD_STATS.values(), ids=BAD_STATS.keys())
def test_a_malformed_stats_file_is_an_error_that_names_the_file(tmp_path: Path, content: Any) -> None:
    path = put(tmp_path, content)
    with pytest.raises(ParamsError, match=path.name) as caught:
        MelNormalizer.load(path)
    assert caught.value.exit_code == 3
    assert len(caught.value.message) < 600, "a message is for reading"


BAD_SCALING = {
    "NaN": '{"scale_factor": NaN, "offset": 0}',
    "bool": {**SCALING, "offset": False},
    "text": {**SCALING, "scale_factor": "1"},
    "another version": {**SCALING, "schema": "calib/mel-scaling-params/2"},
    "the stats file": STATS,
    "per_bin of unequal length": {**SCALING, "per_bin": {"scale": [1.0, 1.0], "offset": [0.0]}},
    "per_bin empty": {**SCALING, "per_bin": {"scale": [], "offset": []}},
    "per_bin nested": {**SCALING, "per_bin": {"scale": [[1.0]], "offset": [[0.0]]}},
    "verdict that is a list": {**SCALING, "verdict": []},
    "floor that is a text": {**SCALING, "floor": "-11.5"},
    "floor that is NaN": json.dumps({**SCALING, "floor": float("nan")}),
}


@pytest.mark.filterwarnings("ignore::calib.params.ParamsWarning")
@pytest.mark.parametrize("content", BAD_SCALING.values(), ids=BAD_SCALING.keys())
def test_a_malformed_scaling_file_is_an_error_that_names_the_file(tmp_path: Path, content: Any) -> None:
    path = put(tmp_path, content)
    with pytest.raises(ParamsError, match=path.name):
        MelScaler.load(path)


@pytest.mark.parametrize("cls", [MelNormalizer, MelScaler])
def test_a_missing_file_is_an_error_and_never_a_default(tmp_path: Path, cls: Any) -> None:
    with pytest.raises(ParamsError, match="no such file") as caught:
        cls.load(tmp_path / "none.json")
    assert "no default" in str(caught.value.hint)
    with pytest.raises(ParamsError, match="cannot be read"):
        cls.load(tmp_path)  # a folder


def test_a_dead_bin_is_an_error_only_where_per_bin_values_are_used(tmp_path: Path) -> None:
    path = put(tmp_path, {**STATS, "per_bin": {"mean": [1.0, 2.0], "std": [1.0, 0.0]}})
    assert MelNormalizer.load(path).normalize(-3.0) == 1.0
    with pytest.raises(ParamsError, match="bin 1"):
        MelNormalizer.load(path, per_bin=True)
    with pytest.raises(ParamsError, match="no per-bin"):
        MelNormalizer.load(put(tmp_path, STATS), per_bin=True)


@pytest.mark.parametrize("key", ["stats_id", "frontend_id"])
def test_two_known_ids_that_differ_are_an_error_with_both_ids(tmp_path: Path, key: str) -> None:
    stats = put(tmp_path, {**STATS, key: "other"}, "stats.json")
    with pytest.raises(ParamsError, match=f"{key} {SCALING[key]}.*other"):
        MelScaler.load(put(tmp_path, SCALING), stats)


def test_an_unknown_id_is_a_warning_and_no_error(tmp_path: Path) -> None:
    with pytest.warns(ParamsWarning, match="is unknown"):
        scaler = MelScaler.load(
            put(tmp_path, {**SCALING, "stats_id": None, "frontend_id": None}), put(tmp_path, STATS, "stats.json")
        )
    assert scaler.calibrate(2.0) == -1.0


def test_parameters_written_by_force_warn_whoever_reads_them(tmp_path: Path) -> None:
    with pytest.warns(ParamsWarning, match="no signal"):
        assert MelScaler.load(put(tmp_path, {**SCALING, "verdict": "no-signal"})).verdict == "no-signal"


@pytest.mark.parametrize(
    "make",
    [
        lambda: MelNormalizer(float("nan"), 1.0),
        lambda: MelNormalizer(0.0, 0.0),
        lambda: MelNormalizer(10**400, 1.0),
        lambda: MelNormalizer(0.0, 1.0, np.zeros(3), np.ones(4)),
        lambda: MelNormalizer(0.0, 1.0, np.zeros(3), np.zeros(3), per_bin=True),
        lambda: MelNormalizer(0.0, 1.0, per_bin=True),
        lambda: MelScaler(float("inf"), 0.0),
        lambda: MelScaler(1.0, 0.0, np.ones(3)),
        lambda: MelScaler(1.0, 0.0, np.ones(3), np.zeros(4)),
    ],
)
def test_what_a_file_may_not_hold_cannot_be_constructed_either(make: Any) -> None:
    with pytest.raises(ParamsError):
        make()


# --- formulas -----------------------------------------------------------------------------------------------------


def test_calibrate_is_the_legacy_readers_formula(tmp_path: Path) -> None:
    """Raw = (pred * scale_factor + offset) * mel_std + mel_mean."""
    scaler = MelScaler.load(put(tmp_path, SCALING), put(tmp_path, STATS, "stats.json"))
    pred = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    np.testing.assert_allclose(scaler.calibrate(pred), (pred.astype(np.float64) * 0.5 + 1.0) * 2.0 - 5.0, rtol=1e-6)
    assert scaler.scale(3.0) == 2.5
    with pytest.raises(ParamsError, match="needs the mel statistics"):
        MelScaler(1.0, 0.0).calibrate(pred)


def arrays() -> dict[str, Any]:
    values = np.random.default_rng(1).standard_normal((2, 5, 3))
    return {
        "float64": values,
        "float32": values.astype(np.float32),
        "float16": values.astype(np.float16),
        "torch float64": torch.from_numpy(values),
        "torch float32": torch.from_numpy(values).float(),
        "torch float16": torch.from_numpy(values).half(),
        "torch bfloat16": torch.from_numpy(values).bfloat16(),
        "torch meta device": torch.empty(2, 5, 3, device="meta"),
    }


@pytest.mark.parametrize("kind", arrays())
@pytest.mark.parametrize("per_bin", [False, True])
def test_dtype_shape_and_device_are_kept(kind: str, per_bin: bool) -> None:
    mel = arrays()[kind]
    bins = np.array([1.0, 2.0, 4.0])
    # numpy scalars, as they come out of numpy code, must not turn float32 into float64.
    normalizer = MelNormalizer(np.float64(-5.0), np.float64(2.0), -bins, bins, per_bin=per_bin)
    scaler = MelScaler(np.float64(0.5), 1.0, bins if per_bin else None, -bins if per_bin else None, normalizer)
    for out in (normalizer.normalize(mel), normalizer.denormalize(mel), scaler.scale(mel), scaler.calibrate(mel)):
        assert out.dtype == mel.dtype
        assert tuple(out.shape) == tuple(mel.shape)
        assert getattr(out, "device", None) == getattr(mel, "device", None)


@pytest.mark.parametrize("per_bin", [False, True])
def test_denormalize_is_the_inverse_of_normalize_and_torch_agrees_with_numpy(per_bin: bool) -> None:
    mel = arrays()["float64"]
    n = MelNormalizer(-5.0, 2.0, np.array([1.0, -2.0, 3.0]), np.array([1.0, 2.0, 4.0]), per_bin=per_bin)
    np.testing.assert_allclose(n.denormalize(n.normalize(mel)), mel, atol=1e-12)
    np.testing.assert_allclose(n.normalize(torch.from_numpy(mel)).numpy(), n.normalize(mel), atol=1e-12)
    if per_bin:
        np.testing.assert_allclose(n.normalize(mel), (mel - [1.0, -2.0, 3.0]) / [1.0, 2.0, 4.0])


@pytest.mark.parametrize("kind", arrays())
def test_a_floor_clamps_the_raw_mel_and_keeps_dtype_shape_and_device(tmp_path: Path, kind: str) -> None:
    """Raw values here are the stored ones less 3; the floor is in raw units, so scale does not know it."""
    mel = arrays()[kind]
    scaler = MelScaler.load(put(tmp_path, {**SCALING, "floor": -3}), put(tmp_path, STATS, "stats.json"))
    out = scaler.calibrate(mel)
    assert (out.dtype, tuple(out.shape)) == (mel.dtype, tuple(mel.shape))
    assert getattr(out, "device", None) == getattr(mel, "device", None)
    if kind != "torch meta device":
        values, stored = (np.asarray(a.double() if isinstance(a, torch.Tensor) else a, dtype=float) for a in (out, mel))
        np.testing.assert_allclose(values, np.maximum(stored - 3, -3), atol=0.02 if "16" in kind else 1e-6)
        assert values.min() == -3.0
    assert (scaler.calibrate(-1.0), scaler.calibrate(1.0)) == (-3.0, -2.0)
    assert scaler.scale(-1.0) == 0.5
    assert MelScaler.load(put(tmp_path, {**SCALING, "floor": None})).floor is None
    with pytest.raises(ParamsError, match="floor"):
        MelScaler(1.0, 0.0, floor=float("inf"))


def test_per_bin_parameters_refuse_a_mel_with_other_bins_or_none() -> None:
    n = MelNormalizer(-5.0, 2.0, np.zeros(3), np.ones(3), per_bin=True)
    for mel in (np.zeros((3, 5)), 1.0, torch.zeros(4)):
        with pytest.raises(ParamsError, match="bins"):
            n.normalize(mel)


# --- a file of its own --------------------------------------------------------------------------------------------


def test_the_file_copied_elsewhere_works_with_numpy_and_the_standard_library_alone(tmp_path: Path) -> None:
    """Vendorable: in another folder, isolated from site and the repository, it loads no module but numpy's and Python's."""
    shutil.copy(calib.params.__file__, tmp_path / "vendored.py")
    put(tmp_path, STATS, "stats.json")
    put(tmp_path, SCALING, "params.json")
    code = (
        "import sys\n"
        f"sys.path[:0] = [{str(tmp_path)!r}, {str(Path(np.__file__).parent.parent)!r}]\n"
        "import numpy\n"
        "before = set(sys.modules)\n"
        "from vendored import MelScaler\n"
        f"scaler = MelScaler.load({str(tmp_path / 'params.json')!r}, {str(tmp_path / 'stats.json')!r})\n"
        "assert scaler.calibrate(2.0) == -1.0\n"
        "added = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(added - set(sys.stdlib_module_names) - {'numpy'}))\n"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert out.stdout.strip() == "['vendored']"


def test_importing_it_adds_under_20_ms_to_numpy() -> None:
    """The least of five runs, so that a busy machine does not decide."""

    def added() -> float:
        out = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "import numpy; import calib.params"],
            capture_output=True,
            text=True,
            check=True,
        )
        rows = [
            line.removeprefix("import time:").split("|")
            for line in out.stderr.splitlines()
            if line.startswith("import time:")
        ]
        cumulative = {name.strip(): float(total) for _, total, name in rows if total.strip().isdigit()}
        return (cumulative["calib"] + cumulative["calib.params"]) / 1000.0

    best = min(added() for _ in range(5))
    assert best < 20.0, f"{best:.1f} ms"


def test_every_public_name_exists_and_the_example_of_the_docstring_holds() -> None:
    import doctest

    assert all(hasattr(calib.params, name) for name in calib.params.__all__)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert doctest.testmod(calib.params).failed == 0
