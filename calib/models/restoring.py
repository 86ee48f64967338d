"""What a checkpoint restored, tensor by tensor: the first question to a model that sounds like noise.

A model whose decoder was never restored speaks noise and raises no error: ``load_state_dict(strict=False)`` is silent.
`load_state` loads what fits and keeps the account; `compare_with_fresh` adds what only a second, untrained copy of
the module can tell: which of the loaded tensors are still what an initialiser draws.

Conventions:
    Names are those of the module's ``state_dict``. A *module* of a report is the part of a name before the first dot
    (``depth`` parts in `LoadReport.by_module`). A tensor is *comparable* when two fresh inits of other seeds differ:
    zeros, ones and position tables say nothing and are left out of every share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.errors import DataError

if TYPE_CHECKING:
    import torch

__all__ = ["FATES", "LoadReport", "compare_with_fresh", "fresh_states", "load_state", "read_report", "report_faults"]

FATES = ("restored", "missing", "unexpected", "wrong_shape", "not_finite", "equal_to_fresh_init")
SMALLEST = 256
"""Elements a tensor needs before its distribution is compared with an initialiser's."""
_SAMPLE = 20_000
# Two-sample Kolmogorov-Smirnov at 5 %: D sqrt(n m / (n + m)) below this is "the same distribution".
_KS = 1.358
_NAMED = 3


@dataclass(frozen=True)
class LoadReport:
    """Names of tensors by fate.

    Args:
        restored: in the checkpoint, of the right shape, finite, and now in the module.
        missing: wanted by the module, not in the checkpoint: they keep their fresh init.
        unexpected: in the checkpoint, unknown to the module.
        wrong_shape: in both, of other shapes; not loaded.
        not_finite: loaded, and holding NaN or infinite values.
        equal_to_fresh_init: bit for bit what a fresh module holds; None before `compare_with_fresh`.
        like_fresh_init: of at least 256 elements, and by a two-sample Kolmogorov-Smirnov test (5 %) distributed as a
            fresh init of another seed; a hint, since light training may leave a distribution as it is. None as above.
        comparable: names that two fresh inits of other seeds fill with different values. None as above.
        source: the checkpoint, as the user named it.
    """

    restored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong_shape: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()
    equal_to_fresh_init: tuple[str, ...] | None = None
    like_fresh_init: tuple[str, ...] | None = None
    comparable: tuple[str, ...] | None = None
    source: str = ""

    def mapping(self) -> dict[str, Any]:
        """The report as JSON holds it: names by fate, and the same by top-level module under ``modules``."""
        fates = {
            name: list(value)
            for name in (*FATES, "like_fresh_init", "comparable")
            if (value := getattr(self, name)) is not None
        }
        return {**fates, "modules": self.by_module(), "source": self.source}

    def by_module(self, depth: int = 1) -> dict[str, dict[str, list[str]]]:
        """Names by fate for each module; ``depth`` parts of a name are a module."""
        out: dict[str, dict[str, list[str]]] = {}
        for fate in (*FATES, "like_fresh_init", "comparable"):
            for name in getattr(self, fate) or ():
                module = ".".join(name.split(".")[:depth])
                out.setdefault(module, {f: [] for f in FATES}).setdefault(fate, []).append(name)
        return dict(sorted(out.items()))

    def faults(self) -> list[str]:
        """What is wrong, a sentence each; nothing for a whole checkpoint."""
        return report_faults(self.mapping())


def load_state(
    module: torch.nn.Module,
    checkpoint: str | Path | Mapping[str, torch.Tensor] | Iterable[str | Path],
    *,
    prefix: str = "",
    rename: Callable[[str], str] | None = None,
) -> LoadReport:
    """Load what fits into ``module``, executing nothing of the checkpoint, and say what became of every tensor.

    Args:
        module: a freshly built torch module; changed in place.
        checkpoint: a file of `calib.data.checkpoints.read_checkpoint`'s formats, several (shards), or tensors by name.
        prefix: cut from the checkpoint's names; names without it are unexpected.
        rename: maps a checkpoint's name (after the prefix) to the module's.

    Raises:
        DataError: a file cannot be read, or not one tensor of it fits the module.
    """
    import torch

    tensors, source = _tensors(checkpoint)
    wanted = module.state_dict()
    # A trainer's wrapper (DataParallel, torch.compile, Lightning) that the user did not name.
    prefix = prefix or _wrapper(tensors, wanted)
    found: dict[str, torch.Tensor] = {}
    unexpected = []
    for name, tensor in tensors.items():
        inner = name[len(prefix) :] if name.startswith(prefix) else None
        target = rename(inner) if rename is not None and inner is not None else inner
        if target is None or target not in wanted:
            unexpected.append(name)
        else:
            found[target] = tensor
    wrong = sorted(name for name, tensor in found.items() if tensor.shape != wanted[name].shape)
    fitting = {name: tensor for name, tensor in found.items() if name not in wrong}
    if not fitting:
        raise DataError(
            f"{source}: not one of its {len(tensors)} tensors fits the model ({_some(tensors)}; the model has {_some(wanted)})",
            hint="the checkpoint of another model, or names with a prefix of their own",
        )
    with torch.no_grad():
        for name, tensor in fitting.items():
            wanted[name].copy_(tensor)  # state_dict shares its memory with the module
    return LoadReport(
        restored=tuple(sorted(fitting)),
        missing=tuple(sorted(wanted.keys() - found.keys())),
        unexpected=tuple(sorted(unexpected)),
        wrong_shape=tuple(wrong),
        not_finite=tuple(sorted(name for name, tensor in fitting.items() if not bool(tensor.isfinite().all()))),
        source=source,
    )


def fresh_states(
    build: Callable[[], torch.nn.Module], seeds: tuple[int, ...] = (0, 1)
) -> list[dict[str, torch.Tensor]]:
    """State dicts of modules built anew, one a seed; the caller's random state stays as it was."""
    import torch

    states = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            states.append({name: tensor.detach().cpu() for name, tensor in build().state_dict().items()})
    return states


def compare_with_fresh(
    report: LoadReport, state: Mapping[str, torch.Tensor], fresh: Iterable[Mapping[str, torch.Tensor]]
) -> LoadReport:
    """Add to a report which tensors are, or look like, a fresh init.

    Args:
        report: of `load_state`.
        state: the module's tensors as they are now.
        fresh: at least two states of `fresh_states`, of different seeds.
    """
    first, *others = fresh
    comparable, equal, like = [], [], []
    for name in sorted(state.keys() & first.keys()):
        value, init = state[name].detach().cpu(), first[name]
        if not value.is_floating_point() or value.shape != init.shape:
            continue
        if all(_same(init, other[name]) for other in others):
            continue
        comparable.append(name)
        if any(_same(value, one[name]) for one in (first, *others)):
            equal.append(name)
        if value.numel() >= SMALLEST and _same_distribution(value, others[-1][name]):
            like.append(name)
    return replace(report, equal_to_fresh_init=tuple(equal), like_fresh_init=tuple(like), comparable=tuple(comparable))


def read_report(given: Any) -> dict[str, Any] | None:
    """A plug-in's own account as a mapping; None where it says nothing.

    Args:
        given: what its ``load_report()`` returned: names by fate, what torch's ``load_state_dict(strict=False)`` returned
            (it says what was missing and what was left over, and not what was filled), or None.

    Raises:
        TypeError: something else.
    """
    if given is None:
        return None
    if hasattr(given, "missing_keys") and hasattr(given, "unexpected_keys"):
        return {"missing": list(given.missing_keys), "unexpected": list(given.unexpected_keys)}
    if isinstance(given, (list, tuple)) and len(given) == 2 and all(isinstance(one, (list, tuple)) for one in given):
        return {"missing": list(given[0]), "unexpected": list(given[1])}  # the same, as it comes from a worker
    if not isinstance(given, Mapping):
        raise TypeError(f"load_report returned a {type(given).__name__}")
    return dict(given) if any(fate in given for fate in FATES) else None


def report_faults(report: Mapping[str, Any]) -> list[str]:
    """What a load report (a plug-in's own mapping will do) says is wrong, a sentence each.

    A tensor equal to a fresh init is counted among the comparable ones of its module, where the report knows these.
    """
    out = []
    said = {
        "missing": "the model wants them and the checkpoint has none: they keep their random start values",
        "wrong_shape": "they have another shape in the checkpoint and were not loaded",
        "not_finite": "they hold NaN or infinite values",
        "unexpected": "the checkpoint has them and the model knows none of them",
    }
    for fate, sentence in said.items():
        names = list(report.get(fate) or ())
        if names:
            out.append(f"{len(names)} tensors {fate.replace('_', ' ')} ({_some(names)}): {sentence}")
    missing = set(report.get("missing") or ())
    equal = [name for name in report.get("equal_to_fresh_init") or () if name not in missing]
    if equal:
        of = report.get("comparable")
        total = len(of) if of is not None else len({*equal, *(report.get("restored") or ())})
        out.append(f"{len(equal)} of {total} tensors equal to a fresh init ({_some(equal)}): loaded, and never trained")
    return out


# --- helpers --------------------------------------------------------------------------------------------------------


def _tensors(checkpoint: Any) -> tuple[dict[str, torch.Tensor], str]:
    if isinstance(checkpoint, Mapping):
        return dict(checkpoint), "the given tensors"
    from calib.data.checkpoints import read_checkpoint

    files = [checkpoint] if isinstance(checkpoint, (str, Path)) else list(checkpoint)
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        tensors.update(read_checkpoint(file).weights)
    return tensors, str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def _wrapper(tensors: Iterable[str], wanted: Mapping[str, Any]) -> str:
    """``module.``, ``model.``, ``_orig_mod.`` … when all names of the checkpoint fit behind it and none without."""
    names = list(tensors)
    if not names or any(name in wanted for name in names):
        return ""
    for start in ("module.", "_orig_mod.", "model.", "net.", "generator."):
        if any(name.startswith(start) and name[len(start) :] in wanted for name in names):
            return start
    return ""


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    import torch

    return a.shape == b.shape and torch.equal(a.float(), b.float())


def _same_distribution(a: torch.Tensor, b: torch.Tensor) -> bool:
    x, y = (np.sort(_thinned(tensor)) for tensor in (a, b))
    if not np.isfinite(x).all():
        return False
    both = np.concatenate((x, y))
    distance = np.abs(
        np.searchsorted(x, both, side="right") / len(x) - np.searchsorted(y, both, side="right") / len(y)
    ).max()
    return bool(distance * np.sqrt(len(x) * len(y) / (len(x) + len(y))) < _KS)


def _thinned(tensor: torch.Tensor) -> np.ndarray:
    flat = tensor.detach().cpu().reshape(-1)
    return np.asarray(flat[:: max(1, len(flat) // _SAMPLE)].double().numpy())


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f", and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
