"""Specs, factories, guarded calls and returned arrays: what the user or a plug-in can get wrong."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from calib.errors import PluginError, UsageError
from calib.models.loading import (
    call_plugin,
    checked_audio,
    checked_mel,
    load_model,
    load_vocoder,
    parse_options,
    resolve_device,
)
from calib.models.protocol import Utterance

MODEL = """
import numpy as np

class Model:
    frontend = "hifigan_jik"
    output_space = "raw"
    kind = "mean"
    autoregressive = None
    padding_safe = True

    def __init__(self, checkpoint, device, gain=1.0):
        self.made_of = (checkpoint, device, gain)

    def teacher_force(self, batch):
        return [u.mel * self.made_of[2] for u in batch]

def factory(checkpoint, device, **options):
    return Model(checkpoint, device, **options)
"""


def write(folder: Path, name: str, text: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(textwrap.dedent(text))
    return str(folder / name)


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    return write(tmp_path, "my-plugin.py", MODEL)


# --- specs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [":factory", ":Model", ""])
def test_a_file_gives_a_model_with_checkpoint_device_and_options(plugin: str, suffix: str) -> None:
    model = load_model(plugin + suffix, "c.pt", "cuda:1", {"gain": 2.0})
    assert model.made_of == ("c.pt", "cuda:1", 2.0)  # type: ignore[attr-defined]
    (mel,) = model.teacher_force([Utterance("a", np.ones((2, 80)))])
    assert (mel == 2).all()


def test_an_installed_name_gives_a_vocoder() -> None:
    samples, rate = load_vocoder("griffin-lim", options={"iterations": 1}).vocode(np.zeros((5, 80)))
    assert (len(samples), rate) == (5 * 256, 22050)


def test_a_module_spec_is_found_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "calibtestpkg", "inner.py", MODEL)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert load_model("calibtestpkg.inner:factory").output_space == "raw"
    assert sys.path == before


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("griffin-lin", "no plug-in of that name"),
        ("no_such_module_x:factory", "no module 'no_such_module_x'"),
        ("json.nothing:factory", "no module 'json.nothing'"),
        ("./nowhere.py:factory", "no such file"),
        ("my module:factory", "neither a module name nor a .py file"),
        (":factory", "before the colon is empty"),
        ("json:", "after the colon is empty"),
    ],
)
def test_a_spec_that_names_nothing_is_a_usage_error_with_the_three_forms(spec: str, text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        load_vocoder(spec)
    hint = str(caught.value.hint)
    assert "package.module:factory, or path/to/file.py:factory" in hint
    assert ("did you mean griffin-lim" in hint) == (spec == "griffin-lin")


def test_a_factory_that_is_not_there_lists_what_is(plugin: str) -> None:
    with pytest.raises(UsageError, match="no 'factroy'") as caught:
        load_model(plugin + ":factroy")
    assert caught.value.hint == "did you mean factory? known: Model, factory"


def test_options_that_have_flags_are_refused(plugin: str) -> None:
    with pytest.raises(UsageError, match="device"):
        load_model(plugin, options={"device": "cpu"})


# --- plug-in files and their neighbours -----------------------------------------------------------------------------


def test_siblings_import_plainly_relatively_and_inside_the_factory_but_the_path_does_not_stay(tmp_path: Path) -> None:
    write(tmp_path, "helper_plain.py", "VALUE = 'plain'")
    write(tmp_path, "helper_relative.py", "VALUE = 'relative'")
    write(tmp_path, "helper_late.py", "VALUE = 'late'")
    text = (
        "import helper_plain\nfrom . import helper_relative\n"
        + MODEL
        + """
def with_late(checkpoint, device):
    import helper_late
    model = Model(checkpoint, device)
    model.values = (helper_plain.VALUE, helper_relative.VALUE, helper_late.VALUE)
    return model
"""
    )
    before = list(sys.path)
    model = load_model(write(tmp_path, "plug.py", text) + ":with_late")
    assert model.values == ("plain", "relative", "late")  # type: ignore[attr-defined]
    assert sys.path == before


def test_two_plugins_with_siblings_of_one_name_get_their_own(tmp_path: Path) -> None:
    models = []
    for name in ("one", "two", "one"):
        write(tmp_path / name, "calibtest_utils.py", f"NAME = {name!r}")
        file = write(
            tmp_path / name, "plug.py", "import calibtest_utils\n" + MODEL + "\nModel.name = calibtest_utils.NAME"
        )
        models.append(load_model(file))
    assert [model.name for model in models] == ["one", "two", "one"]  # type: ignore[attr-defined]


def test_a_file_may_define_dataclasses_with_postponed_annotations(tmp_path: Path) -> None:
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass C:\n    x: int = 1\n"
        + MODEL
    )
    assert load_model(write(tmp_path, "dc.py", text))


# --- plug-ins that fail ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "error"),
    [
        ("x = 1\nraise ValueError('no\\nluck')", 2, "ValueError: no luck"),
        ("import no_such_module_y", 1, "ModuleNotFoundError: No module named 'no_such_module_y'"),
        ("x = 1\ndef f(:\n", 2, "SyntaxError"),
        ("def factory(checkpoint, device):\n    import json\n    json.loads('{')", 3, "JSONDecodeError"),
        ("import sys\ndef factory(checkpoint, device):\n    sys.exit('bye')", 3, "SystemExit: bye"),
    ],
)
def test_a_plugin_that_raises_is_an_error_4_with_type_and_place(
    tmp_path: Path, text: str, line: int, error: str
) -> None:
    file = write(tmp_path, "bad.py", text)
    with pytest.raises(PluginError) as caught:
        load_model(file)
    message = str(caught.value)
    assert caught.value.exit_code == 4
    assert message.startswith(f"plug-in {file} failed: {error}")
    assert message.endswith(f"({file}:{line})")
    assert caught.value.__cause__ is not None


def test_an_unknown_option_of_a_factory_is_told(plugin: str) -> None:
    with pytest.raises(PluginError, match=r"TypeError: .*unexpected keyword argument 'gian'"):
        load_model(plugin, options={"gian": 1})


def test_a_missing_import_inside_an_existing_module_is_the_plugins_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "calibtest_broken.py", "import no_such_module_z")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginError, match="No module named 'no_such_module_z'"):
        load_model("calibtest_broken:factory")


def test_calls_name_the_innermost_frame_of_the_plugin_not_of_its_libraries(tmp_path: Path) -> None:
    file = write(
        tmp_path, "late.py", MODEL.replace("return [u.mel", "np.linalg.inv(np.zeros((2, 2)))\n        return [u.mel")
    )
    model = load_model(file)
    with pytest.raises(PluginError, match="LinAlgError: Singular matrix") as caught:
        call_plugin("late", model.teacher_force, [])
    line = next(number for number, text in enumerate(Path(file).read_text().splitlines(), 1) if "linalg" in text)
    assert f"({file}:{line})" in str(caught.value)


def test_interruptions_and_calibs_own_errors_pass_through() -> None:
    def raising(error: BaseException) -> None:
        raise error

    for error in (KeyboardInterrupt(), SystemExit(143), UsageError("mine")):
        with pytest.raises(type(error)) as caught:
            call_plugin("p", raising, error)
        assert caught.value is error


# --- what breaks the protocol ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (('    kind = "mean"\n', ""), "is not an acoustic model, it has no kind"),
        (("def teacher_force", "def teach"), r"it has no teacher_force\(\)"),
        (('"raw"', '"normalised"'), "output_space is 'normalised'; it must be one of 'raw', 'normalized'"),
        (('"mean"', '"gan"'), "kind is 'gan'; it must be one of 'mean', 'sample', None"),
        (("padding_safe = True", "padding_safe = 1"), "padding_safe is 1"),
        (("padding_safe = True", "padding_safe, reads_text = True, None"), "reads_text is None"),
        (("padding_safe = True", "padding_safe, one_voice = True, 'yes'"), "one_voice is 'yes'"),
        (("padding_safe = True", "padding_safe, post_net = True, -1"), "post_net is -1"),
        (("autoregressive = None", "autoregressive = 'no'"), "autoregressive is 'no'"),
        (('"hifigan_jik"', "22050"), "frontend is 22050"),
        (("    return Model", "    Model"), "the factory returned None"),
        (
            ('    frontend = "hifigan_jik"', "    @property\n    def frontend(self):\n        raise OSError('lost')"),
            "OSError: lost",
        ),
    ],
)
def test_a_model_that_breaks_the_protocol_is_named(tmp_path: Path, change: tuple[str, str], text: str) -> None:
    assert change[0] in MODEL
    with pytest.raises(PluginError, match=text):
        load_model(write(tmp_path, "m.py", MODEL.replace(*change)))


def test_all_missing_members_are_listed_and_a_swapped_role_is_recognised(plugin: str) -> None:
    with pytest.raises(
        PluginError, match="no output_space, kind, autoregressive, padding_safe, teacher_force"
    ) as caught:
        load_model("calib.vocoders.griffin_lim:factory")
    assert "a vocoder (--vocoder)" in str(caught.value.hint)
    with pytest.raises(PluginError, match=r"no vocode\(\)"):
        load_vocoder(plugin)


# --- returned arrays ------------------------------------------------------------------------------------------------


def test_mels_come_as_arrays_lists_and_tensors() -> None:
    import torch

    for given in (
        np.ones((3, 4), dtype=np.float64).T.copy().T,
        [[1.0] * 4] * 3,
        torch.ones(3, 4, requires_grad=True),
        torch.ones(3, 4, dtype=torch.bfloat16),
    ):
        mel = checked_mel("p", given, 4)
        assert (mel.dtype, mel.shape, mel.flags.c_contiguous) == (np.float32, (3, 4), True)
        assert (mel == 1).all()


@pytest.mark.parametrize(
    ("given", "text", "hint"),
    [
        (np.zeros((4, 9)), r"shape \(4, 9\); expected \(T, 4\)", "transposed"),
        (np.zeros((1, 9, 4)), r"shape \(1, 9, 4\)", "batch axis"),
        (np.zeros((0, 4)), r"shape \(0, 4\)", ""),
        (np.zeros(4), r"shape \(4,\)", ""),
        ([[1.0], [1.0, 2.0]], "no array", ""),
        (None, "NoneType of object", ""),
        (np.zeros((9, 4), dtype=complex), "complex128", ""),
        ("mel", "real numbers", ""),
    ],
)
def test_what_is_no_mel_is_refused_with_its_shape(given: object, text: str, hint: str) -> None:
    with pytest.raises(PluginError, match=text) as caught:
        checked_mel("p", given, 4)
    assert hint in (caught.value.hint or "")


def test_audio_is_mono_finite_with_a_rate() -> None:
    samples, rate = checked_audio("p", (np.zeros((1, 1, 50)), 22050.0))
    assert (samples.shape, samples.dtype, rate) == ((50,), np.float32, 22050)
    for bad, text in (
        (np.zeros(5), "must return"),
        ((np.zeros((2, 50)), 22050), r"shape \(2, 50\)"),
        ((np.zeros(0), 22050), r"shape \(0,\)"),
        ((np.full(5, np.nan), 22050), "NaN"),
        ((np.zeros(5, dtype=np.int16), 22050), "int16"),
        ((np.zeros(5), 0), "sample rate is 0"),
        ((np.zeros(5), "22050"), "sample rate is '22050'"),
    ):
        with pytest.raises(PluginError, match=text):
            checked_audio("p", bad)


# --- options and devices --------------------------------------------------------------------------------------------


def test_option_values_are_scalars_as_in_yaml() -> None:
    given = [
        "a=1",
        "b=-2.5",
        "c=1e-3",
        "d=true",
        "e=False",
        "f=null",
        "g=~",
        "h='1'",
        "i=",
        "j=x=y",
        "k=007",
        "l=.5",
        "m=nan",
        "n=1.",
        "o= z ",
    ]
    assert parse_options(given) == {
        "a": 1, "b": -2.5, "c": 0.001, "d": True, "e": False, "f": None, "g": None, "h": "1", "i": "", "j": "x=y",
        "k": "007", "l": 0.5, "m": "nan", "n": 1.0, "o": "z",
    }  # fmt: skip
    assert isinstance(parse_options(["a=1"])["a"], int)


@pytest.mark.parametrize("pairs", [["a"], ["=1"], ["a-b=1"], ["a=1", "a=2"]])
def test_options_of_another_form_are_refused(pairs: list[str]) -> None:
    with pytest.raises(UsageError, match="option"):
        parse_options(pairs)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        resolve_device("gpu")
    for name in ("cuda:", "cuda:x", "auto:0", "cpu:0"):
        with pytest.raises(UsageError, match="unknown device"):
            resolve_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(UsageError, match="cuda was asked for") as caught:
        resolve_device("cuda")
    assert "--device cpu" in str(caught.value.hint)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [resolve_device(name) for name in ("auto", "cuda", "cuda:1")] == ["cuda", "cuda", "cuda:1"]
    with pytest.raises(UsageError, match="there are 2 GPUs"):
        resolve_device("cuda:2")


def test_the_cpu_and_the_loading_itself_need_no_torch() -> None:
    code = "import sys; from calib.models.loading import resolve_device; resolve_device('cpu'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_a_plug_in_prints_does_not_reach_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the JSON of --json - and the audio of a stream are."""
    text = 'print("at import")\n' + textwrap.dedent(MODEL).replace("return [u.mel", 'print("at work"); return [u.mel')
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path, "talkative_module.py", text)
    for spec in (write(tmp_path, "talkative.py", text), "talkative_module:factory"):
        model = load_model(spec, None, "cpu", {})
        call_plugin("talkative", model.teacher_force, [Utterance("a", np.zeros((3, 80), np.float32))])
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.split("\n")[:2] == ["at import", "at work"]
