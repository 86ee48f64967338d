"""Probes of free running: seeds and sampling options, where it stops, and whether it says everything once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from calib.models.probes.scene import Finding, Limit, Scene, change
from calib.models.protocol import Utterance

__all__ = ["Own", "align_frames", "alignment", "own_recording", "sampling", "stopping"]

SAME = Limit("change", ">", 1e-3, "units")
SHORT = Limit("length over the target's", "<", 0.5)
LONG = Limit("length over the target's", ">", 2.0)
UNEVEN = (Limit("length over the target's", "<", 0.8), Limit("length over the target's", ">", 1.25))
REPEAT = Limit("frames said while the recording waits", ">", 0.5, "s")
SKIP = Limit("frames of the recording that are not said", ">", 0.5, "s")
OTHER = Limit("r with its own recording less r with others", "<", 0.05)
BARELY = Limit("r with its own recording less r with others", "<", 0.1)
_TAIL = 0.2
_OTHERS = 3  # recordings that free running is also warped onto


def sampling(scene: Scene) -> Finding:
    """The same seed twice, another seed, a low temperature, a small nucleus."""
    if (why := _unable(scene)) is not None:
        return Finding("sampling", "skipped", why)
    one = min((u for u in scene.batch if u.text.strip()), key=lambda u: len(u.mel))
    seed = scene.teacher.seed
    base, again = scene.generate(one, seed), scene.generate(one, seed)
    other, cold = scene.generate(one, seed + 1), scene.generate(one, seed, temperature=0.3)
    narrow = scene.generate(one, seed, top_p=0.3)
    evidence = {
        "run_to_run": _differs(again, base, scene.unit),
        "seed": _differs(other, base, scene.unit),
        "temperature_0.3": _differs(cold, base, scene.unit),
        "top_p_0.3": _differs(narrow, base, scene.unit),
    }
    limit = f"run to run {SAME}; temperature without effect"
    if _moved(evidence["run_to_run"]):
        return Finding(
            "sampling", "fail", f"the same text and seed give another mel ({_said(evidence['run_to_run'])}): what is drawn does not obey the seed", evidence, limit,
            "seed every generator that the model draws from, and switch dropout off",
        )  # fmt: skip
    dead = [name for name in ("temperature", "top_p") if not _moved(evidence[f"{name}_0.3"])]
    if not _moved(evidence["seed"]) and len(dead) == 2:
        status = "warn" if scene.model.kind == "sample" else "pass"
        return Finding(
            "sampling", status, "nothing is drawn: seed, temperature and top-p have no effect" + (", in a model that is declared to sample" if status == "warn" else ""),
            evidence, limit,
        )  # fmt: skip
    if dead:
        return Finding(
            "sampling", "warn", f"the model draws, and {' and '.join(dead)} {'has' if len(dead) == 1 else 'have'} no effect: accepted and unused", evidence, limit,
            "hand them to the sampler, or say in the model's notices that they are not used",
        )  # fmt: skip
    return Finding(
        "sampling", "pass", f"one seed gives one mel; another seed changes it by {_said(evidence['seed'])}, temperature 0.3 by {_said(evidence['temperature_0.3'])}, top-p 0.3 by {_said(evidence['top_p_0.3'])}",
        evidence, limit,
    )  # fmt: skip


def stopping(scene: Scene) -> Finding:
    """How long it speaks, beside the recording."""
    if (why := _unable(scene)) is not None:
        return Finding("stopping", "skipped", why)
    ratios = [len(mel) / len(u.mel) for u, mel in scene.spoken]
    still = [_still_tail(mel, scene.unit) for _, mel in scene.spoken]
    lengths = {len(mel) for _, mel in scene.spoken}
    middle = float(np.median(ratios))
    evidence = {"median_ratio": middle, "ratios": [round(r, 3) for r in ratios], "still_tails": int(sum(still))}
    limit = f"{SHORT} or {LONG}; a warning: {UNEVEN[0]} or {UNEVEN[1]}"
    if len(lengths) == 1 and len({u.text for u, _ in scene.spoken}) > 2:
        return Finding(
            "stopping", "fail", f"every text gives {lengths.pop()} frames: it runs to its limit, or ignores the text", evidence, "one length for all texts",
            "the stop token is not learnt, or its threshold is wrong",
        )  # fmt: skip
    if SHORT.broken(middle) or LONG.broken(middle):
        how = "too early" if middle < 1 else "too late, or not at all"
        tail = f"; {sum(still)} of {len(still)} end in a standing sound" if any(still) else ""
        return Finding(
            "stopping", "fail", f"it speaks {middle:.2f} times as long as the recordings (median): it stops {how}{tail}", evidence, limit,
            "look at the stop token (its loss, its threshold), or at the durations",
        )  # fmt: skip
    outside = [r for r in ratios if UNEVEN[0].broken(r) or UNEVEN[1].broken(r)]
    status = "warn" if len(outside) > len(ratios) / 2 else "pass"
    return Finding(
        "stopping", status, f"it speaks {middle:.2f} times as long as the recordings (median of {len(ratios)}; {min(ratios):.2f} to {max(ratios):.2f})", evidence, limit,
        "another speaker's pace is no fault; unequal lengths of one speaker are" if status == "warn" else None,
    )  # fmt: skip


def alignment(scene: Scene) -> Finding:
    """Free running aligned with the recording: long stays on one frame of either are repeats and skips."""
    if (why := _unable(scene)) is not None:
        return Finding("alignment", "skipped", why)
    repeats, skips = [], []
    own = own_recording(scene.spoken, scene.batch)
    if own is not None and OTHER.broken(own.gap):
        return Finding(
            "alignment", "fail", f"what it says free running is not this recording: r {own.r:.2f} after the best warp, another recording gives r {own.r_other:.2f} (mean of {own.count} utterance{'s' * (own.count != 1)})",
            own.evidence(), f"{OTHER}; a warning: {BARELY}, or less than 2 standard errors",
            "listen to it: an untrained or unrestored part, a text that does not arrive, or attention that fails once no true frame leads it",
        )  # fmt: skip
    for u, mel in scene.spoken:
        a, b = align_frames(mel, u.mel)
        loud = u.mel.mean(1) > np.percentile(u.mel.mean(1), 25)  # pauses may be as long as they like
        repeats.append(_longest_stay(b, a, loud[b]) / scene.frame_rate)
        skips.append(_longest_stay(a, b, loud[b]) / scene.frame_rate)
    repeat, skip = float(np.median(repeats)), float(np.median(skips))
    evidence = {
        "longest_repeat_s": max(repeats),
        "longest_skip_s": max(skips),
        "median_repeat_s": repeat,
        "median_skip_s": skip,
        **({} if own is None else own.evidence()),
    }
    limit = f"{REPEAT}; {SKIP}; {OTHER}"
    bad = [
        u.id for (u, _), r, s in zip(scene.spoken, repeats, skips, strict=True) if REPEAT.broken(r) or SKIP.broken(s)
    ]
    evidence_all = {**evidence, "utterances": bad}
    if not bad:
        return _followed(own, f"at most {max(repeats):.2f} s said twice or held, {max(skips):.2f} s left out", evidence_all, limit)  # fmt: skip
    status = "fail" if len(bad) > len(scene.spoken) / 2 else "warn"
    what = " and ".join(
        word
        for word, values, gate in (("repeats or holds", repeats, REPEAT), ("skips", skips, SKIP))
        if any(gate.broken(v) for v in values)
    )
    return Finding(
        "alignment", status, f"free running {what} parts of {len(bad)} of {len(scene.spoken)} utterances (up to {max(repeats):.2f} s held, {max(skips):.2f} s left out)",
        evidence_all, limit, "listen to them; attention that jumps or stands is an alignment failure of inference, which teacher forcing hides",
    )  # fmt: skip


def _followed(own: Own | None, said: str, evidence: dict[str, object], limit: str) -> Finding:
    """No part is said twice or left out: which a warp of anything onto anything may show."""
    if own is None:
        return Finding(
            "alignment", "skipped", f"{said}, and no other recording of another text to compare with: a warp of anything may look like that",
            evidence, limit, "--limit 2 or more",
        )  # fmt: skip
    what = f"r {own.r:.2f} with the own recording after the best warp, {own.r_other:.2f} with another one"
    if BARELY.broken(own.gap) or not own.gap > 2 * own.error:
        return Finding(
            "alignment", "warn", f"it hardly follows the recordings of {own.count} utterance{'s' * (own.count != 1)}: {what}",
            evidence, f"{OTHER}; a warning: {BARELY}, or less than 2 standard errors", "listen to it; more utterances (--limit) tell more",
        )  # fmt: skip
    many = f"{own.count} utterance{'s' * (own.count != 1)}"
    return Finding("alignment", "pass", f"it follows the recordings of {many} ({what}): {said}", evidence, limit)


@dataclasses.dataclass(frozen=True)
class Own:
    """How much more free running is its own recording than another one.

    Args:
        r: correlation within bins with the own recording after the best warp, mean of the utterances.
        r_other: the same with recordings of other texts.
        error: standard error of the difference; 0 of one utterance, where it is not known.
        count: utterances.
    """

    r: float
    r_other: float
    error: float
    count: int

    @property
    def gap(self) -> float:
        """By how much the own one is nearer."""
        return self.r - self.r_other

    def evidence(self) -> dict[str, float]:
        """As ``--json`` shows it."""
        return {"r_own_recording": self.r, "r_other_recording": self.r_other, "r_difference_error": self.error}


def own_recording(spoken: Sequence[tuple[Utterance, np.ndarray]], batch: Sequence[Utterance]) -> Own | None:
    """Free running warped onto its own recording, and onto others as if they were it; None where there are no others.

    The best warp of two unrelated mels correlates too, and its path runs along the diagonal. So the same mel is warped
    onto those recordings of other texts that are nearest in length, stretched to the length of the own one: what they
    give is what speech of that length gives, whatever is said.
    """
    own, others = [], []
    for u, mel in spoken:
        different = [v.mel for v in batch if v.text.strip() != u.text.strip()]
        near = sorted(different, key=lambda other: abs(np.log(len(other) / len(u.mel))))[:_OTHERS]
        if near:
            own.append(_warped_r(mel, u.mel))
            others.append(float(np.mean([_warped_r(mel, _stretched(other, len(u.mel))) for other in near])))
    if not own:
        return None
    gaps = np.array(own) - np.array(others)
    error = float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else 0.0
    return Own(float(np.mean(own)), float(np.mean(others)), error, len(own))


def _warped_r(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation within bins of two mels along the cheapest path; 0 where one of them stands still."""
    i, j = align_frames(a, b)
    x, y = (mel[at].astype(np.float64) for mel, at in ((a, i), (b, j)))
    x, y = x - x.mean(0), y - y.mean(0)
    size = float(np.sqrt(np.square(x).sum() * np.square(y).sum()))
    return float((x * y).sum() / size) if size > 1e-9 else 0.0


def _stretched(mel: np.ndarray, frames: int) -> np.ndarray:
    """The mel in ``frames`` frames, linearly between its own."""
    at = np.linspace(0.0, len(mel) - 1.0, frames)
    low = np.minimum(at.astype(int), max(len(mel) - 2, 0))
    high = np.minimum(low + 1, len(mel) - 1)
    share = (at - low)[:, None]
    return np.asarray(mel[low] * (1 - share) + mel[high] * share)


def align_frames(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dynamic time warping of two mels: the frames of ``a`` and of ``b`` along the cheapest path (Sakoe & Chiba 1978).

    Each bin is brought to mean 0 and deviation 1 first, in each mel, so that units and level do not decide. Steps are
    (1, 1), (1, 0) and (0, 1), of equal weight.
    """
    x, y = (_standard(mel) for mel in (a, b))
    cost = np.maximum(np.square(x).sum(1)[:, None] + np.square(y).sum(1)[None] - 2 * x @ y.T, 0.0)
    cost = np.sqrt(cost / x.shape[1])
    n, m = cost.shape
    total = np.full((n + 1, m + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(2, n + m + 1):  # cells of one anti-diagonal do not depend on each other
        i = np.arange(max(1, diagonal - m), min(n, diagonal - 1) + 1)
        j = diagonal - i
        best = np.minimum(np.minimum(total[i - 1, j], total[i, j - 1]), total[i - 1, j - 1])
        total[i, j] = best + cost[i - 1, j - 1]
    path = []
    i, j = n, m
    while i > 0 and j > 0:
        path.append((i - 1, j - 1))
        steps = ((total[i - 1, j - 1], i - 1, j - 1), (total[i - 1, j], i - 1, j), (total[i, j - 1], i, j - 1))
        _, i, j = min(steps)
    rows = np.array(path[::-1])
    return rows[:, 0], rows[:, 1]


def _longest_stay(stands: np.ndarray, goes: np.ndarray, counts: np.ndarray) -> int:
    """Most frames that ``goes`` moves on while ``stands`` moves at most one frame in four, where ``counts``."""
    longest, start = 0, 0
    for end in range(len(stands)):
        while start < end and (stands[end] - stands[start]) * 4 > goes[end] - goes[start]:
            start += 1
        if counts[start : end + 1].mean() > 0.5:
            longest = max(longest, int(goes[end] - goes[start]))
    return longest


def _standard(mel: np.ndarray) -> np.ndarray:
    x = mel.astype(np.float64)
    return np.asarray((x - x.mean(0)) / np.maximum(x.std(0), 1e-6))


def _still_tail(mel: np.ndarray, unit: float) -> bool:
    tail = mel[int((1 - _TAIL) * len(mel)) :]
    return len(tail) > 10 and float(np.sqrt(np.var(tail.astype(np.float64), axis=0).mean())) < 0.05 * unit


def _differs(a: np.ndarray, b: np.ndarray, unit: float) -> dict[str, float]:
    """Change over the common frames in units, and difference of length in frames."""
    return {"change": change(a, b, unit), "frames": len(a) - len(b)}


def _moved(difference: dict[str, float]) -> bool:
    return SAME.broken(difference["change"]) or difference["frames"] != 0


def _said(difference: dict[str, float]) -> str:
    frames = f" and {difference['frames']:+d} frames" if difference["frames"] else ""
    return f"{difference['change']:.2g} units{frames}"


def _unable(scene: Scene) -> str | None:
    if not scene.free:
        return "free running was not asked for"
    if not hasattr(scene.model, "generate"):
        return "the model has no generate()"
    if scene.textless is not None:
        return f"{scene.textless}: what it says freely cannot be that of a recording"
    if not all(u.text.strip() for u in scene.batch):
        return "not every utterance has a text"
    return None
