"""Compiles ``kernel.c`` once for every instruction set: at install, never while `calib` runs.

The hatch build hook calls `build` (``pip install`` of any kind); in a working tree ``python calib/native/compile.py``
does the same. The standard library only: nothing of `calib` is installed yet when this runs. While `calib` runs it is asked
for names and a digest, so what compiling needs is imported by the functions that compile.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["VARIANTS", "build", "library", "source_digest"]

SOURCE = Path(__file__).with_name("kernel.c")
# Best first. What the processor must have is asked of the generic library (calib_supports).
VARIANTS: dict[str, tuple[str, ...]] = {
    "avx512": ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512"),
    "avx2": ("-mavx2", "-mfma"),
    "generic": (),
}
# No -ffast-math: NaN and infinity must be seen. The two flags say that nobody reads errno or the exception flags.
_FLAGS = (
    "-std=c11",
    "-O3",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-w",
)
_X86 = {"x86_64", "amd64", "i386", "i686"}


def library(variant: str) -> Path:
    """Where the compiled library of a variant lies, whether or not it is there."""
    return SOURCE.with_name(f"kernel_{variant}.so")


def source_digest() -> str:
    """Sixteen hexadecimal digits of the source: a library of another source is not used."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]


def build(folder: Path | None = None) -> dict[str, str]:
    """Compile what the compiler and the machine allow; each file appears whole or not at all.

    Args:
        folder: where to put the libraries; None: beside the source.

    Returns:
        Variant to "compiled", or to the reason why it was not.
    """
    import platform

    folder = folder or SOURCE.parent
    compilers = list(_compilers())
    out = {}
    for variant, flags in VARIANTS.items():
        target = folder / library(variant).name
        if variant != "generic" and platform.machine().lower() not in _X86:
            out[variant] = f"not for {platform.machine()}"
            continue
        reason = "no C compiler was found (CC, cc, gcc, clang)"
        for compiler in compilers:
            reason = _compile(compiler, flags, target)
            if reason == "compiled":
                break
        out[variant] = reason
        if reason != "compiled":  # one of an older source must not stay
            target.unlink(missing_ok=True)
    return out


def _compilers() -> Iterator[list[str]]:
    """Command lines to try, in order."""
    import shlex
    import shutil
    import sysconfig

    if os.name != "posix":
        return  # the source needs the vector extension of GCC and Clang
    seen = set()
    for text in (os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang"):
        words = shlex.split(text or "")
        # Of Python's own compiler line the program counts; its flags are for Python's modules.
        words = words if text == os.environ.get("CC") else words[:1]
        if words and shutil.which(words[0]) and tuple(words) not in seen:
            seen.add(tuple(words))
            yield words


def _compile(compiler: list[str], flags: tuple[str, ...], target: Path) -> str:
    """Compile one library; "compiled", or why not."""
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory(prefix="calib-kernel-", dir=target.parent) as folder:
        made = Path(folder) / target.name
        define = f'-DSOURCE_DIGEST="{source_digest()}"'
        command = [*compiler, *_FLAGS, *flags, define, str(SOURCE), "-o", str(made), "-lm"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603
        except (OSError, subprocess.SubprocessError) as error:
            return f"{compiler[0]}: {error}"
        if done.returncode or not made.is_file():
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            return f"{compiler[0]}: {next((line for line in lines if 'error' in line), lines[-1])}"
        made.replace(target)  # a process that has the old one open keeps it
    return "compiled"


if __name__ == "__main__":
    results = build()
    for name, result in results.items():
        sys.stdout.write(f"kernel {name}: {result}\n")
    sys.exit("compiled" not in results.values())
