"""The documents are true: commands and options are documented, examples run, links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib.cli import COMMANDS, _load

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    "README.md",
    "README.fa.md",
    "CONTRIBUTING.md",
    "configs/README.md",
    "reports/README.md",
    "docs/commands.md",
    "docs/models.md",
    "docs/python.md",
    "docs/training.md",
    "docs/vocoders.md",
]


def _leaves(name: str) -> list[tuple[str, Any]]:
    command = _load(name)
    if hasattr(command, "commands"):
        return [(f"{name} {sub}", leaf) for sub, leaf in command.commands.items()]
    return [(name, command)]


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_and_option_is_documented(name: str) -> None:
    """docs/commands.md has a section for each command, and in it every option."""
    text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    for title, command in _leaves(name):
        match = re.search(rf"^## calib {re.escape(title)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert match, f"docs/commands.md has no section for calib {title}"
        for parameter in command.params:
            for option in [*parameter.opts, *parameter.secondary_opts]:
                if option.startswith("--") and option != "--help":
                    assert f"`{option}`" in match[1], f"calib {title}: {option} is not documented"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_local_links_lead_somewhere(name: str) -> None:
    """A link to a file of the repository is a file of the repository."""
    document = ROOT / name
    for target in re.findall(r"\]\(([^)#\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{name} links to {target}"


def test_the_plugin_in_contributing_runs(tmp_path: Path) -> None:
    """The model template of CONTRIBUTING.md loads and gives one mel an utterance."""
    from calib.models.loading import load_model
    from calib.models.protocol import Utterance

    code = re.search(
        r"```python\n(# adapters/mymodel\.py.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert code
    (tmp_path / "mymodel.py").write_text(code[1], encoding="utf-8")
    model = load_model(f"{tmp_path / 'mymodel.py'}:factory")
    mel = np.arange(160, dtype=np.float32).reshape(2, 80)
    assert np.array_equal(model.teacher_force([Utterance("a", mel)])[0][1], mel[0])


def test_docstring_examples_run() -> None:
    """The examples in the docstrings of the light modules give what they say."""
    modules = [
        "calib.errors",
        "calib.params",
        "calib.console",
        "calib.mel.exact",
        "calib.mel.frontend",
        "calib.speech.text",
    ]
    code = "import doctest, importlib, sys\nfor m in sys.argv[1:]:\n    r = doctest.testmod(importlib.import_module(m))\n    assert r.attempted and not r.failed, (m, r)"
    subprocess.run([sys.executable, "-c", code, *modules], check=True)
