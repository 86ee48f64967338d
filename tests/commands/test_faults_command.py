"""``calib faults``: what the library holds, for people and as JSON."""

from __future__ import annotations

import json

import pytest

from calib.cli import main
from calib.diagnose.faults.library import FAULTS


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["faults", *arguments])
    text = capsys.readouterr()
    return int(caught.value.code or 0), text.out, text.err


def test_every_fault_is_listed_once_in_the_order_of_the_stages(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list")
    assert code == 0
    first = [line.split()[0] for line in out.splitlines() if line.strip()]
    assert [word for word in first if word in FAULTS] == list(FAULTS)
    assert f"{len(FAULTS)} faults" in out


def test_a_word_chooses(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list", "HTK", "--json", "-")
    assert code == 0
    assert [fault["id"] for fault in json.loads(out)] == ["mel-scale"]
    code, _, err = run(capsys, "list", "xylophone")
    assert code == 2
    assert "'xylophone'" in err


@pytest.mark.parametrize("name", list(FAULTS))
def test_each_is_shown_with_all_that_is_known(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    fault = FAULTS[name]
    code, out, _ = run(capsys, "show", name)
    assert code == 0
    text = " ".join(out.split())
    for part in (fault.title, fault.cause, fault.next_step, fault.command, *fault.confounded):
        assert " ".join(part.split()) in text
    code, out, _ = run(capsys, "show", name, "--json", "-")
    assert json.loads(out)["confounded_with_audio"] == list(fault.confounded_with_audio)


def test_a_name_that_is_not_there_has_a_neighbour(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "show", "half-hops")
    assert code == 2
    assert "half-hop" in err.replace("half-hops", "")
