"""Specs to plug-ins: find the factory, call it, check what comes back; and guarded calls of foreign code.

A spec is an entry-point name (groups ``calib.models`` and ``calib.vocoders``), ``package.module:factory``, or
``path/to/file.py:factory``. The factory is called as ``factory(checkpoint, device, **options)``.

Conventions:
    What the user named wrongly is a UsageError; what the plug-in does wrongly is a PluginError that says where. Errors
    of calib's own tree pass unchanged: a plug-in that raises them means them.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import numpy as np

from calib.errors import CalibError, PluginError, UsageError, nearest
from calib.models.protocol import AcousticModel, Vocoder
from calib.params import ParamsError

__all__ = [
    "call_plugin",
    "checked_audio",
    "checked_mel",
    "load_model",
    "load_vocoder",
    "parse_options",
    "resolve_device",
]

_T = TypeVar("_T")

_FORMS = "a spec is an entry-point name, package.module:factory, or path/to/file.py:factory"
_SPACES = ("raw", "normalized")
_KINDS = ("mean", "sample", None)
# calib's own names, for a checkout whose installed metadata is older than it; a test holds them to pyproject.toml.
_OWN = {
    "calib.models": {
        "reference": "calib.models.reference:factory",
        "speecht5": "calib.models.huggingface:make_speecht5",
        "fastspeech2-conformer": "calib.models.huggingface:make_fastspeech2_conformer",
    },
    "calib.vocoders": {
        "griffin-lim": "calib.vocoders.griffin_lim:factory",
        "unrolled": "calib.vocoders.unrolled:factory",
        "hifigan": "calib.vocoders.hifigan:factory",
        "bigvgan": "calib.vocoders.bigvgan:factory",
        "vocos": "calib.vocoders.vocos:factory",
        "speecht5-hifigan": "calib.vocoders.huggingface:factory",
        "torchscript": "calib.vocoders.exported:factory",
        "torch-export": "calib.vocoders.exported:factory",
    },
}
# Exit statuses of an interruption: a signal handler's SystemExit is no fault of the plug-in it struck.
_INTERRUPTED = (130, 143)
# Modules that plug-in files brought from their own folders. Two plug-ins may each have a ``utils.py``.
_siblings: dict[str, Path] = {}


def load_model(
    spec: str,
    checkpoint: str | None = None,
    device: str = "cpu",
    options: Mapping[str, Any] | None = None,
    *,
    python: str | None = None,
) -> AcousticModel:
    """Make the acoustic model that ``spec`` names.

    Args:
        spec: an entry-point name, ``package.module:factory`` or ``path/to/file.py:factory``.
        checkpoint: handed to the factory as it is.
        device: a torch device name; see `resolve_device`.
        options: keyword arguments of the factory; see `parse_options`.
        python: another interpreter to run the plug-in in; see `calib.models.bridge`.

    Raises:
        UsageError: no such name, module, file, factory or interpreter.
        PluginError: the plug-in failed, or what it made breaks `calib.models.protocol.AcousticModel`.
    """
    made = _make(
        spec, "calib.models", "--model", checkpoint=checkpoint, device=device, options=options or {}, python=python
    )
    return cast("AcousticModel", _check_model(spec, made))


def load_vocoder(
    spec: str,
    checkpoint: str | None = None,
    device: str = "cpu",
    options: Mapping[str, Any] | None = None,
    *,
    python: str | None = None,
) -> Vocoder:
    """Make the vocoder that ``spec`` names; arguments and errors as for `load_model`."""
    made = _make(
        spec, "calib.vocoders", "--vocoder", checkpoint=checkpoint, device=device, options=options or {}, python=python
    )
    return cast("Vocoder", _check_vocoder(spec, made))


# --- from spec to object --------------------------------------------------------------------------------------------


def _make(
    spec: str,
    group: str,
    flag: str,
    *,
    checkpoint: str | None,
    device: str,
    options: Mapping[str, Any],
    python: str | None = None,
) -> Any:
    for reserved in ("checkpoint", "device"):
        if reserved in options:
            raise UsageError(f"{reserved} is no plug-in option; it has a flag of its own")
    if python is not None:
        from calib.models.bridge import open_bridge

        return open_bridge(python, spec, checkpoint, device, options, flag=f"{flag}-python")
    path, colon, attribute = spec.rpartition(":")
    if spec.endswith(".py"):
        path, attribute = spec, "factory"
    elif not colon:
        return call_plugin(spec, _from_entry_point(spec, group, flag), checkpoint, device, **options)
    if not path or not attribute:
        raise UsageError(f"{flag} {spec}: the part {'before' if not path else 'after'} the colon is empty", hint=_FORMS)
    if path.endswith(".py"):
        file = Path(path).expanduser().resolve()
        with _own_folder(file.parent):  # the factory itself may import, too
            factory = _attribute(spec, flag, _load_file(spec, flag, file), attribute)
            return call_plugin(spec, factory, checkpoint, device, **options)
    with _importable(Path.cwd(), first=False):
        factory = _attribute(spec, flag, _load_module(spec, flag, path), attribute)
        return call_plugin(spec, factory, checkpoint, device, **options)


def _from_entry_point(name: str, group: str, flag: str) -> Callable[..., Any]:
    found = {point.name: point for point in entry_points(group=group)}
    if name not in found and name in _OWN.get(group, {}):
        module, _, attribute = _OWN[group][name].partition(":")
        return _callable(name, getattr(importlib.import_module(module), attribute))
    if name not in found:
        near = nearest(name, {*found, *_OWN.get(group, {})})
        hint = f"{near}; {_FORMS}" if near else _FORMS
        raise UsageError(f"{flag} {name}: no plug-in of that name is installed", hint=hint)
    return _callable(name, call_plugin(name, found[name].load))


def _load_module(spec: str, flag: str, name: str) -> types.ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{flag} {spec}: {name!r} is neither a module name nor a .py file", hint=_FORMS)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Its own absence is the user's typing; the absence of something that it imports is its own failure.
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise UsageError(f"{flag} {spec}: there is no module {error.name!r}", hint=_FORMS) from None
        _fail(spec, error, None)
    except Exception as error:  # noqa: BLE001 - foreign code
        _fail(spec, error, None)


def _load_file(spec: str, flag: str, file: Path) -> types.ModuleType:
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "no such file"
        raise UsageError(f"{flag} {spec}: {file}: {what}", hint=_FORMS)
    # A package whose path is the plug-in's folder, so that ``from . import sibling`` works without an __init__.py.
    package = "calib_plugin_" + hashlib.sha256(str(file.parent).encode()).hexdigest()[:12]
    if package not in sys.modules:
        parent = types.ModuleType(package, "Folder of a calib plug-in file.")
        parent.__path__ = [str(file.parent)]
        sys.modules[package] = parent
    name = f"{package}.{file.stem}"
    module_spec = importlib.util.spec_from_file_location(name, file)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module  # dataclasses look their module up while it is executed
    try:
        call_plugin(spec, module_spec.loader.exec_module, module, home=file)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


@contextlib.contextmanager
def _importable(folder: Path, *, first: bool) -> Iterator[None]:
    entry = str(folder)
    sys.path.insert(0 if first else len(sys.path), entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)


@contextlib.contextmanager
def _own_folder(folder: Path) -> Iterator[None]:
    """Let ``import sibling`` find this folder's modules, not those of the same name that another plug-in brought."""
    others = {name: sys.modules.pop(name) for name, home in _siblings.items() if home != folder and name in sys.modules}
    before = set(sys.modules)
    importlib.invalidate_caches()
    try:
        with _importable(folder, first=True):
            yield
    finally:
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin and Path(origin).resolve().is_relative_to(folder) and not name.startswith("calib_plugin_"):
                _siblings[name] = folder
        for name, module in others.items():
            sys.modules.setdefault(name, module)


def _attribute(spec: str, flag: str, module: types.ModuleType, name: str) -> Callable[..., Any]:
    try:
        found: Any = module
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        own = sorted(
            key
            for key, value in vars(module).items()
            if callable(value) and not key.startswith("_") and getattr(value, "__module__", None) == module.__name__
        )
        there = nearest(name, own) or "it defines no functions or classes"
        raise UsageError(f"{flag} {spec}: there is no {name!r} in it", hint=there) from None
    return _callable(spec, found)


def _callable(name: str, value: Any) -> Callable[..., Any]:
    if not callable(value):
        raise PluginError(f"plug-in {name}: the factory is not callable, it is a {type(value).__name__}")
    return cast("Callable[..., Any]", value)


# --- what the factory made ------------------------------------------------------------------------------------------


def _check_model(name: str, made: Any) -> Any:
    _check_members(
        name,
        made,
        "an acoustic model",
        ("frontend", "output_space", "kind", "autoregressive", "padding_safe"),
        method="teacher_force",
        of_the_other="vocode",
    )
    _check_choice(name, made, "output_space", _SPACES)
    _check_choice(name, made, "kind", _KINDS)
    _check_choice(name, made, "autoregressive", (True, False, None))
    _check_choice(name, made, "padding_safe", (True, False))
    for optional in ("reads_text", "one_voice"):
        if call_plugin(name, hasattr, made, optional):
            _check_choice(name, made, optional, (True, False))
    if (reach := call_plugin(name, getattr, made, "post_net", None)) is not None and (
        isinstance(reach, bool) or not isinstance(reach, int) or reach < 0
    ):
        raise PluginError(
            f"plug-in {name}: post_net is {reach!r}; it must be the frames that it reaches to each side, 0 or more",
            hint="the sum of (kernel - 1) / 2 over its convolutions; 0 without a post-net",
        )
    _check_frontend(name, made)
    return made


def _check_vocoder(name: str, made: Any) -> Any:
    _check_members(name, made, "a vocoder", ("frontend",), method="vocode", of_the_other="teacher_force")
    _check_frontend(name, made)
    return made


def _check_members(
    name: str, made: Any, role: str, attributes: Sequence[str], *, method: str, of_the_other: str
) -> None:
    if made is None:
        raise PluginError(f"plug-in {name}: the factory returned None", hint="does it miss its return statement?")
    missing = [item for item in attributes if not call_plugin(name, hasattr, made, item)]
    if not callable(call_plugin(name, getattr, made, method, None)):
        missing.append(f"{method}()")
    if missing:
        other = "a vocoder (--vocoder)" if of_the_other == "vocode" else "an acoustic model (--model)"
        hint = f"it looks like {other}" if callable(getattr(made, of_the_other, None)) else None
        raise PluginError(
            f"plug-in {name}: {type(made).__name__} is not {role}, it has no {', '.join(missing)}", hint=hint
        )


def _check_choice(name: str, made: Any, attribute: str, allowed: tuple[Any, ...]) -> None:
    value = call_plugin(name, getattr, made, attribute)
    # By identity for booleans and None, so that 1 is not taken for True.
    if not any(value is option or (isinstance(value, str) and value == option) for option in allowed):
        choices = ", ".join(repr(option) for option in allowed)
        raise PluginError(f"plug-in {name}: {attribute} is {value!r}; it must be one of {choices}")


def _check_frontend(name: str, made: Any) -> None:
    value = call_plugin(name, getattr, made, "frontend")
    if not isinstance(value, (str, Mapping)) or not value:
        raise PluginError(
            f"plug-in {name}: frontend is {value!r}; it must be a catalogue name, a file, or a mapping of fields"
        )


# --- guarded calls --------------------------------------------------------------------------------------------------


def call_plugin(name: str, fn: Callable[..., _T], /, *args: Any, home: Path | None = None, **kwargs: Any) -> _T:
    """Call foreign code; whatever it raises becomes a PluginError with type, message and place.

    What it prints goes to stderr: stdout holds calib's results, JSON or audio.

    Args:
        name: the plug-in, as the user named it.
        fn: what to call.
        args: its arguments.
        home: file (or folder) that counts as the plug-in's when the place is looked for; None: where ``fn`` is defined.
        kwargs: its keyword arguments.

    Raises:
        PluginError: any Exception, or a SystemExit that is not an interruption's. The original is its ``__cause__``.
        CalibError: one that the plug-in raised on purpose, unchanged.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return fn(*args, **kwargs)
    except (CalibError, ParamsError):
        raise
    except SystemExit as error:
        if error.code in _INTERRUPTED:
            raise
        _fail(name, error, home or _home(fn))
    except Exception as error:  # noqa: BLE001 - foreign code may raise anything
        _fail(name, error, home or _home(fn))


def _fail(name: str, error: BaseException, home: Path | None) -> NoReturn:
    text = " ".join(str(error).split())
    message = f"{type(error).__name__}: {text}" if text else type(error).__name__
    place = _place(error, home)
    raise PluginError(f"plug-in {name} failed: {message}{f' ({place})' if place else ''}") from error


def _home(fn: Callable[..., Any]) -> Path | None:
    """The folder (or, straight in site-packages, the file) that ``fn`` is defined in."""
    while hasattr(fn, "func"):  # functools.partial
        fn = fn.func
    try:
        file = Path(inspect.getfile(inspect.unwrap(fn)))
    except (TypeError, ValueError, AttributeError):
        return None
    return file if file.parent.name in {"site-packages", "dist-packages"} else file.parent


def _place(error: BaseException, home: Path | None) -> str | None:
    """``file:line`` of the innermost frame under ``home``, else of the innermost that is not this module's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    places: list[tuple[str, int]] = []
    trace = error.__traceback__
    while trace is not None:
        places.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    foreign = [place for place in places if place[0] != __file__ and not place[0].startswith("<frozen")]
    folder = home.parent if home is not None and home.suffix == ".py" and "-packages" not in home.parent.name else home
    inside = [
        place
        for place in foreign
        if folder is not None and (Path(place[0]) == folder or folder in Path(place[0]).parents)
    ]
    chosen = (inside or foreign)[-1:]
    return f"{chosen[0][0]}:{chosen[0][1]}" if chosen else None


# --- what a plug-in returned ----------------------------------------------------------------------------------------


def _to_numpy(name: str, value: Any, what: str) -> np.ndarray:
    """An array, a list, or anything with torch's ``detach().cpu().numpy()``, as numpy."""
    if hasattr(value, "detach"):
        value = call_plugin(name, lambda: value.detach().cpu())
        try:
            value = value.numpy()
        except TypeError:  # bfloat16 has no numpy type
            value = call_plugin(name, lambda: value.float().numpy())
        except RuntimeError as error:
            _fail(name, error, None)
    try:
        array = np.asarray(value)
    except Exception as error:
        raise PluginError(f"plug-in {name}: {what} is no array: {type(value).__name__}: {error}") from error
    if array.dtype.kind not in "fiu":
        raise PluginError(f"plug-in {name}: {what} must hold real numbers, got {type(value).__name__} of {array.dtype}")
    return array


def checked_mel(name: str, array: Any, n_mels: int) -> np.ndarray:
    """What a plug-in returned as a mel, as float32 ``(T, M)``: a copy, for a plug-in may write its next answer over it.

    Non-finite values pass: they are a finding about the model, not a breach of the protocol.

    Args:
        name: the plug-in, as the user named it.
        array: numpy array, nested lists, or a torch tensor on any device.
        n_mels: M.

    Raises:
        PluginError: not an array of real numbers, not ``(T, M)``, or without frames; a transposed one is recognised.
    """
    mel = _to_numpy(name, array, "its mel")
    if mel.ndim != 2 or mel.shape[1] != n_mels or mel.shape[0] == 0:
        hint = None
        if mel.ndim == 2 and mel.shape[0] == n_mels:
            hint = f"it looks transposed: return mel.T, (T, {n_mels})"
        elif mel.ndim == 3 and mel.shape[0] == 1:
            hint = "it has a batch axis: return one (T, M) array an utterance"
        raise PluginError(
            f"plug-in {name}: its mel has shape {mel.shape}; expected (T, {n_mels}) with T of at least 1", hint=hint
        )
    return np.array(mel, dtype=np.float32, order="C")


def checked_audio(name: str, result: Any) -> tuple[np.ndarray, int]:
    """What a vocoder returned, as float32 ``(L,)`` and the sample rate in Hz.

    Axes of size 1 are dropped, because ``(1, L)`` and ``(1, 1, L)`` are what most networks give.

    Raises:
        PluginError: not a pair, not mono, empty, not finite, or no positive whole sample rate.
    """
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise PluginError(f"plug-in {name}: vocode must return (samples, sample_rate), got {type(result).__name__}")
    samples = _to_numpy(name, result[0], "its audio")
    shape = samples.shape
    samples = samples.reshape(-1) if samples.size == max(shape, default=0) else samples
    if samples.ndim != 1 or samples.size == 0:
        raise PluginError(f"plug-in {name}: its audio has shape {shape}; expected (samples,)")
    if samples.dtype.kind != "f":
        raise PluginError(f"plug-in {name}: its audio is {samples.dtype}; expected floats in [-1, 1]")
    if not np.isfinite(samples).all():
        raise PluginError(f"plug-in {name}: its audio holds NaN or infinite samples")
    rate = result[1]
    if (
        isinstance(rate, bool)
        or not isinstance(rate, (int, float, np.integer, np.floating))
        or rate <= 0
        or rate != int(rate)
    ):
        raise PluginError(f"plug-in {name}: its sample rate is {rate!r}; expected a whole number of Hz")
    return np.ascontiguousarray(samples, dtype=np.float32), int(rate)


# --- options and devices --------------------------------------------------------------------------------------------

_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "none": None, "~": None}
_INT = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][+-]?[0-9]+)?")


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """``["k=v", ...]`` to keyword arguments; values are scalars as in YAML 1.2.

    Whole numbers, decimals, ``true``/``false`` and ``null``/``none``/``~`` (any case) become what they say; anything
    else is text, and quotes make text of the rest.

    Raises:
        UsageError: no ``=``, a key that is no Python name, or a key given twice.

    Example:
        >>> parse_options(["steps=10", "rate=1e-3", "ema=true", "tag='10'", "name=a=b"])
        {'steps': 10, 'rate': 0.001, 'ema': True, 'tag': '10', 'name': 'a=b'}
    """
    out: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise UsageError(
                f"option {pair!r} is not of the form key=value", hint="for example: --model-option steps=10"
            )
        if key in out:
            raise UsageError(f"option {key!r} is given twice: {out[key]!r} and {text.strip()!r}")
        out[key] = _scalar(text.strip())
    return out


def _scalar(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


def resolve_device(device: str) -> str:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` to a torch device name; torch is imported only if it must be asked.

    Raises:
        UsageError: another name, or a GPU that is not there.
    """
    if device == "cpu":
        return "cpu"
    kind, _, index = device.partition(":")
    if kind not in {"auto", "cuda"} or (":" in device and (kind == "auto" or not index.isdecimal())):
        raise UsageError(f"unknown device {device!r}", hint=nearest(device, ("auto", "cpu", "cuda", "cuda:0")))
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "auto":
        return "cuda" if count else "cpu"
    if count == 0:
        build = "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no usable GPU"
        raise UsageError(
            f"device {device} was asked for, but {build} (torch {torch.__version__})",
            hint="--device cpu, or --device auto",
        )
    if index and int(index) >= count:
        raise UsageError(f"device {device} was asked for, but there are {count} GPUs, numbered from 0")
    return device
