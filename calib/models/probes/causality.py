"""Does the past move with the future, or a frame with itself? A decoder that sees what it is to predict is too good to be true.

The true mel is altered from a frame on. What is predicted before it must stay, but for a post-net, which looks ahead over the
decoder's outputs. So a look ahead of n frames has two readings: a post-net that reaches n + 1 frames to each side, or a decoder
whose input was never shifted and a post-net that reaches n. They are told apart before the post-net, at the layer that first
gives the mel (`calib.models.probes.inside`), or by what the plug-in declares (``post_net``); else both are said.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.errors import some
from calib.models.probes.forced import NAMED, SAME, heard
from calib.models.probes.inside import FirstMel, first_mel, in_training, networks
from calib.models.probes.scene import Finding, Scene
from calib.models.protocol import Utterance

__all__ = ["causality"]

REACH = 12
"""Frames that a post-net may look ahead: five convolutions of width 5 reach 10; rounded up for a reduction factor of 2."""
_LONG = 60
_LOOKED_INTO = 2  # utterances whose layers are looked at
_MASK = "look at the decoder's self-attention mask: is it inverted, or missing? Every teacher-forced figure of this model is too good"
_SHIFT = "shift the true mel by one frame, with zeros first; every teacher-forced figure of this model is too good"


@dataclass
class _Seen:
    """What altering the true mel from a frame on does; changes in units.

    Args:
        early: change farther ahead than a post-net may look.
        reach: frames ahead of the altered ones that still move.
        at_cut: change of the first altered frame's own prediction.
        after: mean change after it.
        utterances: how many were altered.
        inside: what the layer that first gives the mel does, of each utterance that was looked into.
    """

    early: float = 0.0
    reach: float = 0.0
    at_cut: float = 0.0
    after: float = 0.0
    utterances: int = 0
    inside: list[FirstMel] = dataclasses.field(default_factory=list)

    @property
    def layer(self) -> FirstMel | None:
        """That which looks farthest ahead."""
        return max(self.inside, key=lambda found: found.ahead, default=None)


def causality(scene: Scene) -> Finding:
    """The true mel is altered from a frame on; what is predicted before it must stay."""
    usable = [u for u in scene.batch if len(u.mel) >= _LONG]
    if not usable:
        return Finding("causality", "skipped", f"no utterance of at least {_LONG} frames")
    declared = getattr(scene.model, "post_net", None)
    allowed = REACH if declared is None else max(REACH, declared)
    seen = _altered(scene, usable, allowed)
    evidence: dict[str, Any] = {
        "change_before": seen.early,
        "reach_frames": seen.reach,
        "change_at": seen.at_cut,
        "change_after": seen.after,
        "utterances": seen.utterances,
        "post_net_declared": declared,
    }
    if seen.layer is not None:
        evidence |= {"layer": seen.layer.layer, "layer_ahead_frames": seen.layer.ahead, "layer_step_frames": seen.layer.step, "post_net_frames": seen.layer.reach}  # fmt: skip
    limit = f"{SAME} earlier than {allowed} frames before the altered ones, or in the layer that gives the mel before the frame after them"
    autoregressive = scene.model.autoregressive
    follows = max(seen.early, seen.after, seen.at_cut)
    if autoregressive is False:
        if SAME.broken(follows):
            return Finding(
                "causality", "warn", "the model is declared non-autoregressive, and its prediction follows the true mel: an alignment made from it, or a leak; from outside the two cannot be told apart",
                evidence, limit, "with durations given from a file only a leak is left",
            )  # fmt: skip
        return Finding("causality", "pass", "the prediction does not depend on the true mel", evidence, limit)
    if autoregressive is None and not SAME.broken(follows):
        return Finding(
            "causality", "pass", "the prediction does not depend on the true mel: the model is not autoregressive",
            evidence, limit, "say so: autoregressive = False",
        )  # fmt: skip
    itself = seen.layer is not None and seen.layer.ahead >= 0
    if autoregressive is None and (SAME.broken(max(seen.early, 0.0 if seen.reach else seen.at_cut)) or itself):
        return Finding(
            "causality", "warn", f"the prediction follows the true mel before it may (by {max(seen.early, seen.at_cut):.3g} units, {seen.reach:.0f} frames ahead): a decoder that sees what it is to predict, or a model that is not autoregressive and takes its alignment from the mel",
            evidence, limit, "say which it is: autoregressive = True or False",
        )  # fmt: skip
    if SAME.broken(seen.early):
        return _early(scene, seen, evidence, limit)
    if not SAME.broken(follows):
        return Finding(
            "causality", "warn", "the prediction does not depend on the true mel at all, although the model is declared autoregressive",
            evidence, limit, "declare autoregressive = False, or hand the true mel to the decoder",
        )  # fmt: skip
    return _near(seen, declared, evidence, limit)


def _altered(scene: Scene, usable: list[Utterance], allowed: int) -> _Seen:
    seen = _Seen(utterances=len(usable))
    for number, u in enumerate(usable):
        cut = int(0.6 * len(u.mel))
        mel = u.mel.copy()
        mel[cut:] = mel[cut:][::-1, ::-1]
        # The voice stays: a model without a reference hears it in the mel itself, as the protocol says.
        one = dataclasses.replace(u, reference_mel=heard(u))
        changed = dataclasses.replace(one, mel=mel)
        base, altered = scene.predict([one, changed])
        n = min(len(base), len(altered))
        moved = np.sqrt(np.mean(np.square(altered[:n].astype(np.float64) - base[:n]), axis=1)) / scene.unit
        if cut >= n:
            continue
        seen.early = max(seen.early, float(np.sqrt(np.mean(moved[: max(cut - allowed, 1)] ** 2))))
        before = np.nonzero(moved[:cut] > SAME.value)[0]
        seen.reach = max(seen.reach, float(cut - before[0]) if len(before) else 0.0)
        seen.at_cut = max(seen.at_cut, float(moved[cut]))
        seen.after = max(seen.after, float(moved[cut + 1 :].mean()) if cut + 1 < n else 0.0)
        if number < _LOOKED_INTO and scene.model.autoregressive is not False and moved.max() > SAME.value:
            text = next((v.text for v in scene.batch if v.text != u.text), " ".join(reversed(u.text.split())))
            found = first_mel(scene, one, changed, dataclasses.replace(one, text=text), cut)
            if found is not None:
                seen.inside.append(found)
    return seen


def _early(scene: Scene, seen: _Seen, evidence: dict[str, Any], limit: str) -> Finding:
    """Something far before the altered frames moves."""
    said = f"altering the future changes the past by {seen.early:.3g} units, as far as {seen.reach:.0f} frames ahead"
    training = in_training(scene.model)
    layer = seen.layer
    if training is not None and training.norms:
        rest = "" if layer is None or layer.ahead < 0 else "; the decoder may also see what it is to predict: look again once that is mended"  # fmt: skip
        return Finding(
            "causality", "fail", f"{said}: {some(training.norms, NAMED)}, left in training mode, normalise with the mean and variance of all frames, those to come among them{rest}",
            evidence, limit, "call eval() on the whole network; the decoder's mask is not what this shows",
        )  # fmt: skip
    if layer is not None and layer.ahead < 0:
        return Finding(
            "causality", "fail", f"{said}, and the decoder's own output ({layer.layer}) does not: what comes after it uses all frames",
            evidence, limit, "a normalisation over time (instance norm, batch norm in training mode, a mean over the utterance), or a post-net that looks farther than declared (post_net = frames to each side)",
        )  # fmt: skip
    if layer is None and not networks(scene.model):
        return Finding(
            "causality", "fail", f"{said}: the decoder sees what it is to predict, or something normalises over all frames; from outside the two cannot be told apart",
            evidence, limit, f"was eval() called (batch norm in training mode uses the mean of all frames)? else {_MASK}",
        )  # fmt: skip
    where = "" if layer is None else f", in {layer.layer} already"
    return Finding(
        "causality", "fail", f"{said}: the decoder sees what it is to predict{where}", evidence, limit, _MASK,
    )  # fmt: skip


def _near(seen: _Seen, declared: int | None, evidence: dict[str, Any], limit: str) -> Finding:
    """Nothing far ahead moves: is it a post-net that looks ahead, and does a frame move with itself?"""
    layer, reach = seen.layer, int(seen.reach)
    if layer is not None and layer.ahead >= 0:
        frame = "the very frame that it predicts" if layer.ahead < layer.step else f"{layer.ahead} frame{'s' * (layer.ahead > 1)} ahead of what it predicts"  # fmt: skip
        return Finding(
            "causality", "fail", f"each prediction sees {frame}: the decoder's own output ({layer.layer}) moves with it, so the decoder's input is not shifted (a label leak)",
            evidence, limit, _SHIFT,
        )  # fmt: skip
    if layer is None and not declared and not reach and SAME.broken(seen.at_cut):
        return Finding(
            "causality", "fail", f"each prediction sees the very frame that it predicts (it moves by {seen.at_cut:.3g} units): the decoder's input is not shifted",
            evidence, f"{SAME} at the first altered frame", f"{_SHIFT}; a post-net that reaches one frame does the same: post_net = 1 in the adapter says so",
        )  # fmt: skip
    if layer is None and declared is not None and reach > max(declared - 1, 0):
        return Finding(
            "causality", "fail", f"it looks {reach} frames ahead, and the declared post-net, which reaches {declared}, can look {max(declared - 1, 0)} ahead of a shifted input: the decoder's input is not shifted (a label leak)",
            evidence, limit, f"{_SHIFT}; or declare the post-net's true reach",
        )  # fmt: skip
    if layer is None and declared is None and reach:
        return Finding(
            "causality", "warn", f"it looks {reach} frames ahead: a post-net that reaches {reach + 1} frames to each side, or one of {reach} after a decoder whose input is not shifted (a label leak); from outside the two cannot be told apart",
            evidence, limit, f"in the adapter, post_net = N says how far it reaches: the sum of (kernel - 1) / 2 over its convolutions. With {reach + 1} all is well. Or keep the torch network as an attribute, where calib sees the layer before the post-net",
        )  # fmt: skip
    if layer is not None and layer.step == 1 and layer.ahead < -1:
        return Finding(
            "causality", "warn", f"the last true frame that a prediction hears lies {-layer.ahead} frames back ({layer.layer}): its input is shifted too far, or its output is",
            evidence, limit, "shift the true mel by one frame, as in training",
        )  # fmt: skip
    look = f"; it looks {reach} frames ahead, as a post-net does" if reach else ""
    if layer is not None and reach:
        look += f": the decoder's own output ({layer.layer}) does not"
    return Finding("causality", "pass", f"the past does not move with the future{look}", evidence, limit)
