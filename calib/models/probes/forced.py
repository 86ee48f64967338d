"""Probes of teacher forcing: what the prediction depends on, and what it must not depend on.

The text: see `reading`; the future: see `causality`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from calib.errors import some
from calib.models.probes.inside import in_training
from calib.models.probes.scene import Finding, Limit, Scene, change, finite
from calib.models.protocol import Utterance

__all__ = ["NAMED", "SAME", "determinism", "evaluation", "heard", "movement", "padding", "speaker"]

SAME = Limit("change", ">", 1e-3, "units")
VOICE = Limit("change", "<", 1e-3, "units")
STILL = Limit("sd within bins over the target's", "<", 0.2)
FLAT = Limit("sd within bins over the target's", "<", 0.5)
NAMED = 3  # modules in a sentence


def determinism(scene: Scene) -> Finding:
    """Two passes over one batch; the random state is not set anew in between."""
    few = scene.batch[:2]
    parts = [few] if scene.model.padding_safe else [[one] for one in few]  # as it is run
    once, again, seeded = (
        [mel for part in parts for mel in scene.teacher.predict(part, reseed=reseed)] for reseed in (True, False, True)
    )
    size, same_seed = (_apart(scene, mels, once) for mels in (again, seeded))
    evidence = {"change": size, "change_same_seed": same_seed, "utterances": len(once)}
    if SAME.broken(size) and scene.model.kind == "sample" and not SAME.broken(same_seed):
        return Finding(
            "determinism", "pass", f"two passes differ by {size:.3g} units and one seed gives one prediction: the model is declared to sample, and draws (dropout left on would look the same)",
            evidence, f"{SAME} with the same seed",
        )  # fmt: skip
    if SAME.broken(size):
        return Finding(
            "determinism", "fail", f"two passes differ by {size:.3g} units: dropout is on, or the model draws", evidence, str(SAME),
            "call eval() (Keras: training=False), and give a sampling model a seed of its own",
        )  # fmt: skip
    word = "the same" if size == 0 else f"the same to {size:.1e} units"
    return Finding("determinism", "pass", f"two passes are {word}", evidence, str(SAME))


def evaluation(scene: Scene) -> Finding:
    """The modules of a torch network that are still in training mode after the plug-in has loaded it."""
    found = in_training(scene.model)
    if found is None:
        why = "no torch network is seen among the model's attributes"
        return Finding("evaluation", "skipped", why, advice="self.module = the network lets calib look")
    evidence = {
        "modules": found.modules, "norms": found.norms, "dropouts": found.dropouts, "others": found.others,
    }  # fmt: skip
    limit = "a batch norm in training mode; a warning: any other module"
    call = "call eval() on the whole network, after everything that calls train()"
    if found.norms:
        more = f"; also {len(found.dropouts)} dropouts" if found.dropouts else ""
        return Finding(
            "evaluation", "fail", f"{some(found.norms, NAMED)} in training mode: each normalises with the figures of what it is given, so every frame depends on all others, and on what else is in the batch{more}", evidence, limit, call,
        )  # fmt: skip
    if found.dropouts or found.others:
        return Finding(
            "evaluation", "warn", f"{some(found.dropouts or found.others, NAMED)} in training mode: dropout may be on", evidence, limit, call,
        )  # fmt: skip
    return Finding("evaluation", "pass", f"all {found.modules} modules are in evaluation mode", evidence, limit)


def padding(scene: Scene) -> Finding:
    """The shortest utterance alone, and beside the longest; a model that draws gives no answer."""
    if not scene.model.padding_safe:
        return Finding(
            "padding", "skipped", "the model declares padding_safe = False and is run one utterance at a time"
        )
    ordered = sorted(scene.batch, key=lambda u: len(u.mel))
    short, long = ordered[0], ordered[-1]
    if len(short.mel) == len(long.mel):
        return Finding("padding", "skipped", "all utterances have one length, so nothing was padded")
    alone, again = (
        finite(scene.teacher.predict([short], reseed=reseed), "a second pass")[0] for reseed in (True, False)
    )
    if SAME.broken(_apart(scene, [again], [alone])):
        why = "the model draws, and what padding changes cannot be told from what it draws anew"
        return Finding("padding", "skipped", why, advice="padding_safe = False until it is known")
    beside = finite(scene.teacher.predict([short, long]), f"in a batch padded to {len(long.mel)} frames")[0]
    size = change(beside, alone, scene.unit) if len(beside) == len(alone) else float("inf")
    moved = np.abs(beside[: len(alone)] - alone[: len(beside)]).max(1) > SAME.value * scene.unit
    evidence = {"change": size, "frames": len(short.mel), "padded_to": len(long.mel), "frames_moved": int(moved.sum())}
    if SAME.broken(size):
        where = "in the last frames" if moved.any() and np.nonzero(moved)[0][0] > len(moved) - 30 else "all along"
        return Finding(
            "padding", "fail", f"padded from {len(short.mel)} to {len(long.mel)} frames the prediction changes by {size:.3g} units, {where}",
            evidence, str(SAME), "mask padding in attention and before every convolution; until then padding_safe = False",
        )  # fmt: skip
    return Finding(
        "padding",
        "pass",
        f"padded from {len(short.mel)} to {len(long.mel)} frames nothing changes ({size:.1e} units)",
        evidence,
        str(SAME),
    )


def speaker(scene: Scene) -> Finding:
    """Each utterance with the voice of another speaker: name, and reference mel."""
    names = [u.speaker for u in scene.batch]
    several = len({name for name in names if name is not None}) > 1
    swapped = []
    for k, u in enumerate(scene.batch):
        other = _other_voice(scene.batch, k) if several else None
        # One voice only: the same recording with its bins moved, which is another voice to any encoder.
        mel = np.roll(heard(u), 8, axis=1) if other is None else heard(other)
        name = u.speaker if other is None else other.speaker
        swapped.append(dataclasses.replace(u, speaker=name, reference_mel=np.ascontiguousarray(mel)))
    size = scene.changes(scene.predict(swapped))
    evidence = {"change": size, "speakers": len(set(names))}
    if (why := scene.voiceless) is not None:
        if VOICE.broken(size):
            return Finding("speaker", "skipped", f"{why}, and another voice changes nothing", evidence, str(VOICE))
        return Finding(
            "speaker", "warn", f"{why}, and another voice changes the prediction by {size:.3g} units", evidence, f"change >= {VOICE.value:g} units",
            "leave that out if it knows several; if not, what does it do with the reference?",
        )  # fmt: skip
    if not VOICE.broken(size):
        return Finding(
            "speaker", "pass", f"another voice changes the prediction by {size:.2g} units", evidence, str(VOICE)
        )
    if not several:
        return Finding(
            "speaker", "skipped", "one speaker in the corpus, and a changed reference has no effect: right for a model of one voice, dead conditioning in any other", evidence, str(VOICE), "--one-voice, or one_voice = True in the plug-in, says which",
        )  # fmt: skip
    return Finding(
        "speaker", "fail", f"another speaker's name and reference change the prediction by {size:.1g} units: the conditioning is dead, or all are given one voice", evidence, str(VOICE),
        "is the speaker encoder restored, and is its output used? does the plug-in pass u.speaker or u.reference_mel on? (A model of one voice: --one-voice)",
    )  # fmt: skip


def movement(scene: Scene) -> Finding:
    """How much each bin moves over time, beside the target: a static mean spectrum passes every global check."""
    own = np.sqrt(np.mean([np.var(mel.astype(np.float64), axis=0).mean() for mel in scene.base]))
    if not np.isfinite(own):
        return Finding("movement", "fail", "the prediction holds NaN or infinite values", {}, "finite")
    ratio = float(own / scene.unit)
    evidence = {"sd_within_bins": float(own), "ratio": ratio, "sd_all": float(np.concatenate(scene.base).std())}
    if STILL.broken(ratio):
        return Finding(
            "movement", "fail", f"over time the bins move {ratio:.2g} times as much as the target's: a nearly static spectrum", evidence, str(STILL),
            "the output layer is untrained or its input is dead; look at the training data (all-zero mels?) and at the loss floors (calib check loss)",
        )  # fmt: skip
    status = "warn" if FLAT.broken(ratio) else "pass"
    advice = "over-smoothed, or in other units (calib diagnose tells which)" if status == "warn" else None
    return Finding(
        "movement",
        status,
        f"over time the bins move {ratio:.2f} times as much as the target's",
        evidence,
        str(FLAT),
        advice,
    )


def _apart(scene: Scene, mels: list[np.ndarray], others: list[np.ndarray]) -> float:
    """Change in units; infinite where the lengths differ."""
    if [len(mel) for mel in mels] != [len(mel) for mel in others]:
        return float("inf")
    return scene.changes(mels, others)


def heard(u: Utterance) -> np.ndarray:
    """What a model that conditions on a recording hears of this voice."""
    return u.mel if u.reference_mel is None else u.reference_mel


def _other_voice(batch: list[Utterance], k: int) -> Utterance | None:
    return next((u for u in (*batch[k + 1 :], *batch[:k]) if u.speaker != batch[k].speaker), None)
