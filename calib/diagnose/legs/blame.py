"""Whom to blame: front end, model, both, the targets alone, or neither of them; in one sentence.

===========  ==========  ==========  =============================================================
T against V  P against T  P against V  blame
===========  ==========  ==========  =============================================================
as wanted    as it is    (follows)   ``neither``: what reaches the vocoder is what it wants
as wanted    off         off         ``model``
another mel  as it is    off         ``front-end``: the model learned what it was shown
another mel  off         off         ``both``
another mel  any         as wanted   ``targets``: they alone are in another domain
===========  ==========  ==========  =============================================================
"""

from __future__ import annotations

from dataclasses import dataclass

from calib.diagnose.legs.result import Leg

__all__ = ["Blame", "Words", "blame"]


_NEARER = 0.8


@dataclass(frozen=True)
class Words:
    """What the sentence is made of.

    Args:
        targets: what the targets are that the vocoder does not want: "log10 where the vocoder wants ln".
        model: what is wrong with the prediction: "collapsed to a constant".
        repaired: whether the calibration given (``--params``) was applied to the predictions.
        free: what is wrong with free running, or "".
        slight: what is slightly off in the targets ("but for their level"), or "".
        apart: how far predictions of the right kind are from what the vocoder wants, or "" where that is hardly heard.
        far: whether that is as far as a model that says little of the speech.
    """

    targets: str = ""
    model: str = ""
    repaired: bool = False
    free: str = ""
    slight: str = ""
    apart: str = ""
    far: bool = False


@dataclass(frozen=True)
class Blame:
    """Whom, the first words, and the sentence."""

    who: str
    headline: str
    sentence: str


def blame(tv: Leg, pt: Leg, pv: Leg, words: Words) -> Blame:
    """Decide.

    Args:
        tv: target against what the vocoder wants.
        pt: prediction against target, as it is.
        pv: prediction against what the vocoder wants, after the calibration where one was given.
        words: for the sentence.
    """
    if tv.status == "skipped" or tv.grade == "unrelated" or pt.status == "skipped":
        return _unknown(tv, pt, words)
    front, model = tv.status == "fail", pt.status == "fail"
    reached = pv.status in {"pass", "warn"}
    # The errors of a model hide small differences: that P is as wanted says something of T only where P lies nearer.
    nearer = reached and pv.mae_db is not None and tv.mae_db is not None and pv.mae_db < _NEARER * tv.mae_db
    if front and nearer:
        how = "after the calibration " if words.repaired else ""
        return Blame(
            "targets",
            "TARGETS IN ANOTHER DOMAIN",
            f"the predictions are {how}what the vocoder wants, the targets are not: they are {words.targets}; synthesis is not hurt by that, training on them is",
        )
    if front and model:
        return Blame(
            "both",
            "FRONT END AND MODEL TO BLAME",
            f"the targets are {words.targets}; and beside that the model: {words.model}",
        )
    if front:
        return Blame(
            "front-end",
            "FRONT END TO BLAME",
            f"the targets are {words.targets}: the model is healthy, it predicts what it was shown",
        )
    wanted = f"the targets are what the vocoder wants{f' {words.slight}' if words.slight else ''}"
    if model and words.repaired and reached:
        return Blame(
            "model",
            "MODEL TO BLAME, REPAIRED",
            f"{words.model}; the calibration brings them to what the vocoder wants; {wanted}",
        )
    if model:
        left = ", and the calibration does not bring them to what the vocoder wants" if words.repaired else ""
        return Blame("model", "MODEL TO BLAME", f"{words.model}{left}; {wanted}")
    if pv.status == "fail" and words.repaired:
        return Blame(
            "calibration",
            "CALIBRATION TO BLAME",
            f"the predictions were what the vocoder wants, and after it they are not ({pv.judgement}); {wanted}",
        )
    if words.free:
        return Blame(
            "free-running",
            "FREE RUNNING TO BLAME",
            f"{words.free}; teacher-forced predictions are healthy and {wanted}",
        )
    follow = f"the predictions follow them{f', {words.apart}' if words.apart else ''}"
    if words.far:
        return Blame(
            "neither",
            "NEITHER FRONT END NOR MODEL TO BLAME, BUT FAR OFF",
            f"{wanted}, and {follow}; if it sounds wrong, ask the model first: calib check model",
        )
    return Blame(
        "neither",
        "NEITHER FRONT END NOR MODEL TO BLAME",
        f"{wanted}, and {follow}; if it sounds wrong all the same, ask the vocoder: calib check vocoder",
    )


def _unknown(tv: Leg, pt: Leg, words: Words) -> Blame:
    """Where a leg is missing: the declarations alone may still tell."""
    if pt.status == "skipped":
        return Blame(
            "unknown", "CANNOT TELL", f"whom to blame cannot be told: the pairs cannot be judged ({pt.skipped})"
        )
    if tv.grade == "unrelated":
        return Blame("unknown", "CANNOT TELL", f"whom to blame cannot be told: {tv.sentence}")
    model = f"; and beside that the model: {words.model}" if pt.status == "fail" else "; the model follows its targets"
    if words.targets:  # declared, and not what the vocoder wants
        return Blame(
            "both" if pt.status == "fail" else "front-end",
            "FRONT END AND MODEL TO BLAME" if pt.status == "fail" else "FRONT END TO BLAME",
            f"as declared, the targets are {words.targets}{model} (not verified: needs audio, --audio SOURCE)",
        )
    if pt.status == "fail":
        return Blame(
            "model",
            "MODEL TO BLAME",
            f"{words.model}; whether the targets are what the vocoder wants was not looked at: {tv.skipped}",
        )
    return Blame(
        "unknown",
        "MODEL FOLLOWS ITS TARGETS",
        f"the predictions follow the targets; whether those are what the vocoder wants cannot be told: {tv.skipped}",
    )
