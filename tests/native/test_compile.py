"""Building the kernel: a failing or missing compiler leaves no file and no error; the hook adds what was built."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from calib.native import compile as compiling

ROOT = Path(__file__).resolve().parents[2]
needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("cc", "gcc", "clang")), reason="no C compiler on this machine"
)


@needs_compiler
def test_what_is_built_is_what_this_machine_can_have(tmp_path: Path) -> None:
    results = compiling.build(tmp_path)
    assert results["generic"] == "compiled"
    assert {path.name for path in tmp_path.iterdir()} == {
        compiling.library(name).name for name, result in results.items() if result == "compiled"
    }
    if platform.machine() != "x86_64":
        assert results["avx2"].startswith("not for")


def test_without_a_compiler_nothing_is_built_and_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_compilers", lambda: iter(()))
    (tmp_path / compiling.library("generic").name).write_bytes(b"of an older source")
    assert "no C compiler" in compiling.build(tmp_path)["generic"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("false") is None, reason="no program named false")
def test_a_compiler_that_fails_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_compilers", lambda: iter([["false"]]))
    assert compiling.build(tmp_path)["generic"] == "false: exit status 1"
    assert list(tmp_path.iterdir()) == []


@needs_compiler
def test_the_next_compiler_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false --whatever")
    monkeypatch.setattr(compiling, "VARIANTS", {"generic": ()})
    assert compiling.build(tmp_path)["generic"] == "compiled"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The hook's module, with a stand-in for hatchling, which is there at install only."""
    interface = types.ModuleType("hatchling.builders.hooks.plugin.interface")
    interface.BuildHookInterface = object  # type: ignore[attr-defined]
    for name in ("hatchling", "hatchling.builders", "hatchling.builders.hooks", "hatchling.builders.hooks.plugin"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    path = ROOT / "hatch_build.py"
    if not path.is_file():
        pytest.skip("hatch_build.py is not beside the tests")
    spec = importlib.util.spec_from_file_location("calib_hatch_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_hook(hook: Any, root: Path, target: str = "wheel") -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    instance = hook.KernelHook()
    instance.root, instance.target_name = str(root), target
    instance.app = types.SimpleNamespace(display_info=said.append)
    data: dict[str, Any] = {"artifacts": [], "pure_python": True}
    instance.initialize("standard", data)
    return data, said


def tree(folder: Path, *, broken: bool = False) -> Path:
    native = folder / "calib" / "native"
    native.mkdir(parents=True)
    for name in ("kernel.c", "compile.py"):
        shutil.copy(ROOT / "calib" / "native" / name, native / name)
    if broken:
        (native / "kernel.c").write_text("this is not C\n")
    return folder


@needs_compiler
def test_the_hook_adds_the_libraries_and_tags_the_wheel_for_the_platform(hook: Any, tmp_path: Path) -> None:
    data, said = run_hook(hook, tree(tmp_path))
    assert data["artifacts"] == ["calib/native/*.so"]
    assert data["pure_python"] is False
    assert data["tag"].startswith("py3-none-")
    assert "calib kernel generic: compiled" in said
    assert list((tmp_path / "calib" / "native").glob("*.so"))


def test_an_install_without_a_working_compiler_is_a_pure_wheel(hook: Any, tmp_path: Path) -> None:
    data, said = run_hook(hook, tree(tmp_path, broken=True))
    assert data == {"artifacts": [], "pure_python": True}
    assert said
    assert not list((tmp_path / "calib" / "native").glob("*.so"))


def test_a_source_distribution_compiles_nothing(hook: Any, tmp_path: Path) -> None:
    data, said = run_hook(hook, tree(tmp_path), "sdist")
    assert (data["artifacts"], said) == ([], [])
    assert not list((tmp_path / "calib" / "native").glob("*.so"))
