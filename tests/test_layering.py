"""The house: imports go downwards only, light commands stay light, modules stay small."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from speechlike import mel_field, prediction, write_pairs

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "calib"
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"torch", "sklearn", "pandas", "matplotlib"}


def imports(path: Path) -> Iterator[str]:
    """Full names of everything that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def below(name: str, *roots: str) -> bool:
    return any(name == root or name.startswith(root + ".") for root in roots)


def layer(*parts: str) -> list[Path]:
    found = [
        path
        for path in MODULES
        if path.relative_to(PACKAGE).parts[0] in parts or path.relative_to(PACKAGE).as_posix() in parts
    ]
    assert found, parts
    return found


def offences(paths: list[Path], allowed: tuple[str, ...], *, third_party: tuple[str, ...] | None = None) -> list[str]:
    """Imports of calib outside ``allowed``, and of others outside the standard library and ``third_party``."""
    out = []
    for path in paths:
        for name in imports(path):
            top = name.partition(".")[0]
            if top == "calib":
                bad = not below(name, *allowed) and name != "calib.__version__"
            else:
                bad = third_party is not None and top not in sys.stdlib_module_names and top not in third_party
            if bad:
                out.append(f"{path.relative_to(ROOT)} imports {name}")
    return out


def test_diagnose_imports_numbers_only() -> None:
    allowed = ("calib.diagnose", "calib.native.pairs")
    assert offences(layer("diagnose"), allowed, third_party=("numpy", "scipy", "sklearn")) == []


def test_the_kernels_moments_import_numbers_only() -> None:
    below_it = ("calib.errors", "calib.native.library", "calib.native.compile")
    paths = layer("native/__init__.py", "native/library.py", "native/pairs.py", "native/compile.py")
    assert offences(paths, below_it, third_party=("numpy",)) == []


def test_params_imports_nothing_of_calib_and_numpy_alone_of_others() -> None:
    assert offences(layer("params.py"), (), third_party=("numpy",)) == []


def test_errors_and_console_import_nothing_above_them() -> None:
    assert offences(layer("errors.py"), ()) == []
    assert offences(layer("syncing.py"), ()) == []
    assert offences(layer("console.py"), ("calib.errors",)) == []


@pytest.mark.parametrize("name", ["mel", "data", "run", "diagnose", "models", "vocoders", "speech", "report"])
def test_no_library_layer_imports_a_command_or_the_command_line(name: str) -> None:
    assert [
        f"{path} imports {found}"
        for path in layer(name)
        for found in imports(path)
        if below(found, "calib.commands", "calib.cli")
    ] == []


def test_report_imports_dataclasses_and_files_but_no_reader_and_no_command() -> None:
    assert (
        offences(layer("report"), ("calib.report", "calib.diagnose", "calib.errors", "calib.data.files", "calib.mel"))
        == []
    )


def test_run_imports_errors_only_and_data_nothing_above_it() -> None:
    """Beside the errors, what both need to outlive a power cut."""
    assert offences(layer("run"), ("calib.run", "calib.errors", "calib.syncing")) == []
    assert offences(layer("data"), ("calib.data", "calib.errors", "calib.syncing")) == []


def test_no_module_is_longer_than_600_lines() -> None:
    counted = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: lines for name, lines in counted.items() if lines > 600} == {}


def loaded_after(arguments: list[str], cwd: Path) -> set[str]:
    """Top-level modules in memory when ``calib ARGUMENTS`` ends well."""
    code = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print('LOADED ' + json.dumps(sorted({m.partition('.')[0] for m in sys.modules})), file=sys.stderr))\n"
        "from calib.cli import main\n"
        f"main({arguments!r})\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, check=False)
    assert out.returncode == 0, out.stderr
    line = next(line for line in out.stderr.splitlines() if line.startswith("LOADED "))
    return set(json.loads(line.removeprefix("LOADED ")))


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    assert loaded_after(["--help"], tmp_path) & (HEAVY | {"numpy", "scipy", "soundfile", "rich"}) == set()


def test_importing_calib_loads_nothing_heavy() -> None:
    code = "import calib, sys; print(sorted({m.partition('.')[0] for m in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(ast.literal_eval(out.stdout)) & HEAVY


def test_stats_fit_scaler_and_diagnose_load_neither_torch_nor_sklearn(tmp_path: Path) -> None:
    mels = [mel_field(150, k) for k in range(5)]
    pairs = write_pairs(tmp_path / "pairs", [((prediction(y, 0.95, k) + 5) / 2, y) for k, y in enumerate(mels)])
    for arguments in (
        ["stats", str(pairs / "targets"), "--layout", "TM", "-o", "stats.json"],
        ["fit-scaler", str(pairs), "-o", "fit/mel_scaling_params.json"],
        ["diagnose", str(pairs)],
    ):
        found = loaded_after(arguments, tmp_path)
        assert "numpy" in found
        assert not found & HEAVY, arguments


def test_help_takes_under_300_ms(tmp_path: Path) -> None:
    """CPU time of the best of five, so that the neighbours on a shared machine do not decide."""
    code = "import time; from calib.cli import _run; code = _run(['--help']); print(f'CPU {time.process_time()}')"
    best = np.inf
    for _ in range(5):
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert "fit-scaler" in out.stdout
        best = min(best, float(out.stdout.rsplit("CPU ", 1)[1]))
    assert best < 0.3, f"{best:.3f} s of CPU, clock {time.process_time()}"
