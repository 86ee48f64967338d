"""Build hook: compiles the optional kernel (calib/native/kernel.c) where there is a C compiler.

An install never fails for want of one: then `calib` computes with numpy alone. The libraries are plain shared objects
that any Python loads with ctypes, so the wheel is tagged for the platform and not for a Python version.
"""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelHook(BuildHookInterface):  # type: ignore[misc]
    """Runs before a wheel, editable or not, is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile into the tree, and add what was compiled to the wheel."""
        if self.target_name != "wheel":
            return
        script = Path(self.root) / "calib" / "native" / "compile.py"
        spec = importlib.util.spec_from_file_location("calib_kernel_compile", script)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        try:
            results = module.build()
        except OSError as error:  # a read-only tree
            results = {"kernel": f"{error}"}
        for variant, result in results.items():
            self.app.display_info(f"calib kernel {variant}: {result}")
        if "compiled" not in results.values():
            return
        build_data["artifacts"].append("calib/native/*.so")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
