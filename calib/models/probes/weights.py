"""Probes of the weights: what the checkpoint filled, and what looks as if it had never been trained."""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from calib.errors import CalibError, PluginError
from calib.models.loading import call_plugin
from calib.models.probes.filled import found_by_value
from calib.models.probes.scene import Finding, Limit, Scene, finite, movement_of
from calib.models.protocol import AcousticModel
from calib.models.restoring import FATES, SMALLEST, LoadReport, compare_with_fresh, read_report, report_faults

__all__ = ["fresh", "fresh_output", "reloaded", "restored"]

SAME = Limit("change", ">", 1e-3, "units")
AS_STILL = Limit("sd over time over an untrained network's", "<", 2.0)
NO_NEARER = Limit("r with the target over an untrained network's", "<", 0.2)
_FOLLOWS = 0.5
"""r with the target from which an untrained network says nothing: it hands the true frame before on."""
_SEEDS = (101, 202)

_LEAST, _LEAST_BELOW = 2, 4
"""Large tensors that a module needs before it is called untrained: one alone may be left as it was by light training."""
_DEPTHS = 4
_SHARE = 0.8


def restored(scene: Scene) -> Finding:
    """The plug-in's own account; where it gives none, the network's tensors are looked for in the checkpoint."""
    given = getattr(scene.model, "load_report", None)
    try:
        report = read_report(call_plugin(scene.teacher.spec, given)) if callable(given) else None
    except TypeError as error:
        raise PluginError(f"plug-in {scene.teacher.spec}: {error}") from None
    if report is None or not any(report.get(fate) for fate in FATES):
        said = "the model has no load_report()" if not callable(given) else "load_report() names no tensor"
        return found_by_value(scene, said)
    faults = report_faults(report)
    counts = {name: len(value) for name, value in report.items() if isinstance(value, (list, tuple))}
    equal = len(report.get("equal_to_fresh_init") or ())
    total = len(report.get("comparable") or report.get("restored") or ())
    evidence: dict[str, Any] = {**counts, "by_module": _untrained(report)}
    limit = "any tensor missing, of another shape or not finite; more than half equal to a fresh init"
    if not faults:
        return Finding(
            "restored", "pass", f"all {counts['restored']} tensors came from the checkpoint", evidence, limit
        )
    grave = any(report.get(fate) for fate in ("missing", "wrong_shape", "not_finite")) or equal > total / 2
    return Finding(
        "restored", "fail" if grave else "warn", "; ".join(faults), evidence, limit,
        "is it the checkpoint of this model? do its names carry a prefix? was the optimiser's step ever taken?",
    )  # fmt: skip


def reloaded(scene: Scene) -> Finding:
    """The model loaded once more, from another random state: what the checkpoint does not fill is drawn anew."""
    if scene.reload is None:
        return Finding("reload", "skipped", "the model cannot be loaded a second time here")
    again = dataclasses.replace(scene.teacher, model=_with_other_random_state(scene.reload))
    one = scene.batch[:1]
    size = scene.changes(again.predict(one), scene.teacher.predict(one))
    if SAME.broken(size):
        return Finding(
            "reload", "fail", f"loaded twice, the model gives two predictions ({size:.3g} units apart): some weights are drawn anew at each load", {"change": size}, str(SAME),
            "the checkpoint does not hold them: look at the names of load_state_dict(strict=False)",
        )  # fmt: skip
    return Finding(
        "reload", "pass", f"loaded twice, it predicts the same ({size:.1e} units)", {"change": size}, str(SAME)
    )


def _with_other_random_state(load: Callable[[], AcousticModel]) -> AcousticModel:
    torch: Any = sys.modules.get("torch")
    before = None if torch is None else torch.random.get_rng_state()
    state, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002 - what plug-ins draw from
    try:
        random.seed(4711)
        np.random.seed(4711)  # noqa: NPY002
        if torch is not None:
            torch.manual_seed(4711)
        return load()
    finally:
        random.setstate(state)
        np.random.set_state(numbers)  # noqa: NPY002
        if before is not None:
            torch.random.set_rng_state(before)


def fresh(scene: Scene) -> Finding:
    """The weights beside those of the same network built anew with two other seeds."""
    module, build = getattr(scene.model, "module", None), getattr(scene.model, "fresh", None)
    if module is None or not hasattr(module, "state_dict") or build is None:
        return Finding(
            "fresh-init",
            "skipped",
            "the model has no module and fresh(seed) to compare it with",
            advice="see docs/models.md",
        )
    states = [call_plugin(scene.teacher.spec, build, seed) for seed in _SEEDS]
    state = call_plugin(scene.teacher.spec, module.state_dict)
    report = compare_with_fresh(LoadReport(), state, states)
    filled, still = _constants(module, state, states)
    unmoved: list[str] = []
    for depth in range(1, _DEPTHS + 1):
        for name, (n, m) in _counts(filled, still, depth).items():
            if n >= _LEAST and m == n and not any(name.startswith(one + ".") for one in unmoved):
                unmoved.append(name)
    large = {name for name in report.comparable or () if state[name].numel() >= SMALLEST}
    like = set(report.like_fresh_init or ())
    by_module = {name: {"large_tensors": n, "like_a_fresh_init": m} for name, (n, m) in _counts(large, like, 1).items()}
    large_in_all, like_in_all = len(large), len(like)
    untrained: list[str] = []
    for depth in range(1, _DEPTHS + 1):
        for name, (n, m) in _counts(large, like, depth).items():
            inside = any(name.startswith(one + ".") for one in untrained)
            enough = n >= (_LEAST if depth == 1 else _LEAST_BELOW)
            # A fresh tensor passes its test 19 times in 20, so of many some fail.
            if enough and not inside and (m == n or (n >= 5 and m >= _SHARE * n)):
                untrained.append(name)
    evidence = {
        "modules": by_module,
        "large_tensors": large_in_all,
        "like_a_fresh_init": like_in_all,
        "untrained": untrained,
        "equal_to_a_fresh_init": len(report.equal_to_fresh_init or ()) + len(still),
        "constants": {name: {"filled_alike": n, "still_so": m} for name, (n, m) in _counts(filled, still, 1).items()},
        "unmoved": unmoved,
    }
    limit = f"a module of at least {_LEAST} tensors of {SMALLEST} values ({_LEAST_BELOW} inside another), all or of 5 and more {_SHARE:.0%} distributed as a fresh init's (Kolmogorov-Smirnov, 5 %)"
    if not large_in_all:
        return Finding("fresh-init", "skipped", "no tensor is large enough to tell its distribution", evidence, limit)
    if untrained:
        return Finding(
            "fresh-init", "fail", f"{', '.join(untrained)}: large tensors distributed as a fresh init; never restored, or never trained",
            evidence, limit, "compare the names of these tensors with those in the checkpoint",
        )  # fmt: skip
    if unmoved:
        return Finding(
            "fresh-init", "warn", f"{', '.join(unmoved)}: what every fresh init fills alike (biases, norms) still holds those values to the bit: frozen on purpose, or no step was ever taken there",
            evidence, f"a module of at least {_LEAST} such tensors, all of them equal to a fresh init", "was it in the optimiser's parameters, and did a gradient reach it?",
        )  # fmt: skip
    alike = (
        f"; of {len(filled)} biases and norms that every init fills alike {len(still)} are unchanged" if filled else ""
    )
    return Finding(
        "fresh-init", "pass", f"{like_in_all} of {large_in_all} large tensors are distributed as a fresh init's, and no module wholly{alike}", evidence, limit,
    )  # fmt: skip


def _constants(module: Any, state: Mapping[str, Any], states: list[Mapping[str, Any]]) -> tuple[set[str], set[str]]:
    """Parameters that every fresh init fills with the same values (zeros, ones), and those of them that still hold these."""
    filled: set[str] = set()
    still: set[str] = set()
    for name, _ in module.named_parameters():
        values = [one[name].detach().cpu() for one in (state, *states) if name in one]
        if len(values) < 1 + len(states) or not values[0].is_floating_point():
            continue
        if any(one.shape != values[1].shape or bool((one != values[1]).any()) for one in values[2:]):
            continue
        filled.add(name)
        if values[0].shape == values[1].shape and not bool((values[0] != values[1]).any()):
            still.add(name)
    return filled, still


def fresh_output(scene: Scene) -> Finding:
    """The same network before any training, over the same utterances: how much training made its output move and follow.

    The fresh weights are put into a second copy of the model, so that the one that is probed stays as it is.
    """
    build = getattr(scene.model, "fresh", None)
    if build is None or not hasattr(getattr(scene.model, "module", None), "state_dict"):
        why = "the model has no module and fresh(seed) to compare it with"
        return Finding("fresh-output", "skipped", why, advice="see docs/models.md")
    twin = None if scene.reload is None else scene.reload()
    inner = getattr(twin, "module", None)
    if twin is None or inner is None or inner is scene.model.module:  # type: ignore[attr-defined]
        return Finding("fresh-output", "skipped", "the model cannot be loaded a second time, apart from the first")
    teacher = dataclasses.replace(scene.teacher, model=twin)
    untrained = []
    for seed in _SEEDS:
        with scene.teacher.mode():
            state, there = call_plugin(scene.teacher.spec, build, seed), inner.state_dict()
            if any(name not in state or state[name].shape != tensor.shape for name, tensor in there.items()):
                why = "fresh(seed) gives other tensors than the module holds"
                return Finding("fresh-output", "skipped", why, advice="the state_dict of the same network, built anew")
            for name, tensor in there.items():
                tensor.copy_(state[name])
        try:
            mels = finite([teacher.predict([one])[0] for one in scene.batch], "untrained")
        except CalibError as error:
            return Finding("fresh-output", "skipped", f"the untrained network cannot be run: {error.message}")
        untrained.append((mels, *movement_of(mels, scene.batch)))
    base = finite(scene.base, "the prediction")
    own, follows = movement_of(base, scene.batch)
    before = float(np.mean([sd for _, sd, _ in untrained]))
    guessed = max(r for _, _, r in untrained)
    ratio = own / max(before, 1e-12)
    evidence = {
        "sd_within_bins": own,
        "sd_untrained": before,
        "ratio": ratio,
        "r": follows,
        "r_untrained": guessed,
        "change": min(scene.changes(mels) for mels, _, _ in untrained),
    }
    limit = f"{AS_STILL}, and {NO_NEARER}"
    said = f"over time the bins move {ratio:.2g} times as much as an untrained network's, r with the target {follows:.2f} against {guessed:.2f}"
    if guessed > _FOLLOWS:
        return Finding(
            "fresh-output", "skipped", f"an untrained network of this kind follows the target already (r {guessed:.2f}: it hands the true frame before on), so nothing can be told from that", evidence, limit,
        )  # fmt: skip
    if AS_STILL.broken(ratio) and NO_NEARER.broken(follows - guessed):
        return Finding(
            "fresh-output", "fail", f"the output is no more than an untrained network's: {said}", evidence, limit,
            "never restored, never trained, or collapsed in training: calib diagnose of its pairs, calib check loss for the training's own figures",
        )  # fmt: skip
    return Finding("fresh-output", "pass", said, evidence, limit)


def _counts(large: set[str], like: set[str], depth: int) -> dict[str, tuple[int, int]]:
    """Large tensors, and those of them like a fresh init, of each module of ``depth`` names."""
    out: dict[str, tuple[int, int]] = {}
    for name in sorted(large):
        parts = name.split(".")
        if len(parts) > depth:
            module = ".".join(parts[:depth])
            n, m = out.get(module, (0, 0))
            out[module] = (n + 1, m + (name in like))
    return out


def _untrained(report: Mapping[str, Any]) -> dict[str, str]:
    """Module to "n of m" tensors equal to a fresh init, where there are any."""
    out = {}
    for name, fates in (report.get("modules") or {}).items():
        equal = len(fates.get("equal_to_fresh_init") or ())
        total = len(fates.get("comparable") or ()) or len(fates.get("restored") or ())
        if equal:
            out[str(name)] = f"{equal} of {max(total, equal)} equal to a fresh init"
    return out
