"""The checks of `calib.diagnose.audit` on numbers alone, one function each.

Formulas:
    Least squares: slope = r s_y / s_p, so ``r = scale s_p mel_std / s_y`` (normalized) or ``scale s_p / s_y`` (raw);
    intercept = m_y - slope m_p; in sample RMSE = s_y sqrt(1 - r²). Matching the sd sets r to 1. Any affine map without
    bias: MSE = s_q² + s_y² - 2 r s_q s_y with s_q = slope s_p. |m_p - m_y| <= MAE <= RMSE (Jensen). MSE = (m_p - m_y)² +
    s_p² + s_y² - 2 r s_p s_y (A. H. Murphy, Monthly Weather Review 116, 1988).
    A constant at the mean has MAE / s_y = sqrt(2/pi) = .798 for a Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from calib.diagnose.audit.numbers import (
    BIAS_FAIL,
    ROUNDING,
    Finding,
    Numbers,
    Reading,
    corr,
    g,
    lacking,
    offset_slack,
    r2,
    target_center,
)

__all__ = ["CONSTANT_MAE", "NO_SIGNAL", "STRONG", "check_numbers"]

# MAE / sd of a constant at the mean, measured on 7 real corpora with 3 front ends (hifigan, tacotron2, myxtts): .747 to
# .856, all but two (8 kHz digits, 16 kHz sonnets) .77 to .82. A static spectrum (each bin's own mean) has .49 to .72 there.
CONSTANT_MAE = math.sqrt(2.0 / math.pi)
_CONSTANT_LOW, _STATIC_LOW = 0.74, 0.49
NO_SIGNAL, STRONG = 0.3, 0.7  # of r: design, section 5
_MATCHED = 0.99  # r from which a regression cannot be told from statistics matching
_BIAS_WARN = 0.05  # of the target's sd
_FEW = 5  # utterances
_NOTHING = 1e-6  # of the target's sd: less is no error of a model


def check_numbers(n: Numbers, found: list[Reading], chosen: Reading | None) -> Iterator[Finding]:
    """All checks, in the order of their weight.

    Args:
        n: the numbers.
        found: every reading of scale and offset.
        chosen: the one that nothing speaks against.
    """
    r = None if chosen is None else chosen.r
    yield _implied_r(n, found, chosen)
    yield _statistics_matching(n, chosen)
    yield _constant(n)
    yield _error_against_r(n, r)
    yield _gain(n)
    for when in ("before", "after"):
        yield _mae_rmse(n, when)
    yield _rmse_after(n, r)
    yield _before(n)
    yield _offset(n, chosen)
    yield _defaults(n)
    yield _how_many(n)
    yield _same_data(n)


def _implied_r(n: Numbers, found: list[Reading], chosen: Reading | None) -> Finding:
    title = "correlation that the scale implies"
    if n.method in {"moments", "identity"}:
        why = {"moments": "the scale matches sds, it is no regression", "identity": "nothing is scaled"}[n.method]
        return Finding("implied_r", "skipped", title, why)
    if n.scale is None or n.pred_std is None or chosen is None or chosen.r is None:
        spaces = ("scale", "pred_std") + (("s_y",) if n.slope_space == "raw" else ())
        return Finding(
            "implied_r", "skipped", title, lacking(n, *spaces) or "needs --mel-std, or --slope-space normalized"
        )
    if n.pred_std == 0:
        return Finding(
            "implied_r", "fail", title, "the prediction has sd 0: it is a constant, and no scale changes that",
            "a prediction that does not vary has no correlation with anything", "", "look at the model: calib diagnose PAIRS",
        )  # fmt: skip
    finding = _judge_r(n, chosen.r, chosen.by_hand)
    rivals = [x.r for x in found if x is not chosen and x.r is not None and not x.contradictions]
    others = [x for x in (_judge_r(n, r, "") for r in rivals) if x.status != finding.status]
    if others and not chosen.contradictions:
        return replace(
            finding, status="warn", measured=f"{finding.measured} in the {chosen.space} reading, {others[0].measured} in the other",
            why="the numbers do not say which is meant", next_step="give --slope-space, or --offset with --pred-mean",
        )  # fmt: skip
    return finding


def _judge_r(n: Numbers, r: float, by_hand: str) -> Finding:
    """What a correlation means, pooled over bins."""
    name, title = "implied_r", "correlation that the scale implies"
    measured = f"r = {corr(r)}, R² = {r2(r * r)}"
    by_hand += "" if n.target_std is not None else "; the target's sd is taken to be mel_std"
    within = "measure r within each bin: calib fit-scaler PAIRS"
    if abs(r) > 1.0 + ROUNDING:
        return Finding(
            name, "fail", title, f"{measured}: impossible",
            "a least-squares slope is r x sd(target) / sd(prediction), and |r| cannot exceed 1: not a regression, or not these data",
            by_hand, "recompute scale and sd from the same arrays, in the same space",
        )  # fmt: skip
    if abs(r) < NO_SIGNAL:
        part = "a negligible part" if r * r < 0.01 else f"{r * r:.1%}"
        return Finding(
            name, "fail", title, measured,
            f"the prediction explains {part} of the target's variance: what comes out is nearly the constant that the offset sets",
            by_hand, "do not calibrate; find out why the model predicts nothing: calib diagnose PAIRS, calib check data SOURCE",
        )  # fmt: skip
    if r < 0:
        why = "the scale turns loud into quiet: mean and sd swapped, or a sign lost"
        return Finding(name, "fail", title, measured, why, by_hand, "look at the normalisation: calib diagnose PAIRS")
    if n.static_r is not None and r <= n.static_r * (1.0 + ROUNDING):
        return Finding(
            name, "warn", title, f"{measured}; a static mean spectrum has {n.static_r:.3f} (per-bin statistics)",
            "the same mean spectrum in every frame would correlate as much: this shows no speech", by_hand, within,
        )  # fmt: skip
    if r < STRONG:
        why = "pooled over bins, a static mean spectrum alone has r of .4 to .8 on real speech: this may be no more"
        return Finding(name, "warn", title, measured, why, by_hand, within)
    return Finding(name, "pass", title, measured, "what a regression on good predictions has", by_hand)


def _statistics_matching(n: Numbers, chosen: Reading | None) -> Finding:
    name, title = "statistics_matching", "regression, or statistics matching"
    if n.method is not None:
        return Finding(name, "pass", title, f"the file says: {n.method}")
    if chosen is None or chosen.r is None or not n.pred_std:
        return Finding(name, "skipped", title, lacking(n, "scale", "pred_std") or "the correlation is unknown")
    r = abs(chosen.r)
    if not _MATCHED <= r <= 1.0 + ROUNDING:
        return Finding(name, "pass", title, f"the scale is {g(r)} of what matching the sds would be: no matching")
    by_hand = f"|r| = {g(r)}: the scale is sd(target) / sd(prediction)"
    next_step = "fit by regression and score on unseen utterances: calib fit-scaler PAIRS"
    if n.mae_after is not None and n.s_y is not None:
        left = n.mae_after / n.s_y
        if left <= 0.9 * math.sqrt(2.0 * (1.0 - min(_MATCHED, r))):
            return Finding(name, "pass", title, f"r is {g(r)}, and the error left ({g(left)} of the target's sd) agrees", "", by_hand)  # fmt: skip
        return Finding(
            name, "fail", title, f"the scale matches the sds (r = {g(r)} implied), but the MAE left is {g(left)} of the target's sd",
            "with r = 1 nothing would be left: the sds were matched, whatever the correlation; below r of .5 that is worse than a constant",
            by_hand, next_step,
        )  # fmt: skip
    return Finding(
        name, "warn", title, f"the scale is exactly that of matched sds (r = {g(r)} implied)",
        "a nearly perfect model, or statistics matching: it fits anything to anything, noise too", by_hand,
        f"give --mae-after to tell them apart; {next_step}",
    )  # fmt: skip


def _constant(n: Numbers) -> Finding:
    title = "against the constant predictor"
    if n.mae_after is None or n.s_y is None:
        return Finding("constant", "skipped", title, lacking(n, "mae_after", "s_y"))
    ratio = n.mae_after / n.s_y
    measured = f"MAE after is {g(ratio)} of the target's sd; a constant at the mean has .77 to .82 on speech"
    by_hand = f"{g(n.mae_after)} / {g(n.s_y)} = {g(ratio)}; a Gaussian's is sqrt(2/pi) = .798"
    by_hand += "" if n.target_std is not None else "; the target's sd is taken to be mel_std"
    if n.mae_after <= _NOTHING * n.s_y:
        return Finding(
            "constant", "warn", title, f"MAE after is {g(n.mae_after)}: nothing is left of the error",
            "no model reaches that: the target was compared with itself, or the error was not measured",
            by_hand, "score the prediction on unseen utterances: calib fit-scaler PAIRS",
        )  # fmt: skip
    if n.mae_before is not None and n.mae_before > n.mae_after and ratio >= _CONSTANT_LOW:
        share = (n.mae_before - CONSTANT_MAE * n.s_y) / (n.mae_before - n.mae_after)
        by_hand += f"; a constant takes {g(n.mae_before)} to about {g(CONSTANT_MAE * n.s_y)}, {min(share, 1.0):.0%} of the gain claimed for the calibration"
    next_step = (
        "do not use it: a constant mel is noise in every vocoder; calib diagnose PAIRS says what the model lacks"
    )
    if ratio >= _CONSTANT_LOW:
        why = (
            "this is the constant predictor: all of the gain is the mean"
            if ratio < 1
            else "this is worse than a constant at the mean"
        )
        return Finding("constant", "fail", title, measured, why, by_hand, next_step)
    if n.static_mae is not None:
        measured += f"; a static mean spectrum about {g(n.static_mae / n.s_y)} (per-bin statistics)"
        if n.mae_after >= 0.95 * n.static_mae:
            why = "no better than the same mean spectrum in every frame"
            return Finding("constant", "fail", title, measured, why, by_hand, next_step)
    elif ratio >= _STATIC_LOW:
        return Finding(
            "constant", "warn", title, measured, "a static mean spectrum has .49 to .72 on real speech: this may be no more",
            by_hand, "give --stats with per-bin figures, or measure it: calib fit-scaler PAIRS",
        )  # fmt: skip
    return Finding("constant", "pass", title, measured, "clearly better than a constant", by_hand)


def _error_against_r(n: Numbers, r: float | None) -> Finding:
    name, title = "error_against_r", "error after, against the correlation"
    if n.method in {"moments", "identity"} or r is None or n.mae_after is None or n.s_y is None or abs(r) > 1.0:
        why = lacking(n, "scale", "pred_std", "mae_after", "s_y") or "no regression with |r| of at most 1"
        return Finding(name, "skipped", title, why)
    bound = n.s_y * math.sqrt(1.0 - r * r)
    if abs(r) >= _MATCHED and n.mae_after > bound * (1.0 + ROUNDING):  # the root turns a rounded r into any small error
        most = n.s_y * math.sqrt(1.0 - (_MATCHED * (1.0 - ROUNDING)) ** 2)
        why = f"a scale that matches the sds (r = {corr(r)}, published figures are rounded) allows any RMSE up to {g(most)} mel units"
        return Finding(name, "skipped", title, why)
    by_hand = (
        f"RMSE = sd(target) x sqrt(1 - r²) = {g(n.s_y)} x sqrt(1 - {r:.8g}²) = {g(bound)}, and MAE cannot exceed RMSE"
    )
    measured = f"MAE after {g(n.mae_after)}, the regression's RMSE {g(bound)} (mel units)"
    if n.mae_after > bound * (1.0 + ROUNDING):
        return Finding(
            name, "fail", title, measured + ": impossible for this fit", "scale, sd and error are not of one fit on one set of data",
            by_hand, "recompute them from the same arrays",
        )  # fmt: skip
    if n.mae_after < 0.5 * bound:
        return Finding(
            name, "warn", title, measured + ": far smaller than such errors are",
            "MAE is about .8 of RMSE, .5 at the least on speech: error and scale come from different data, or silence was counted",
            by_hand, "recompute them from the same arrays, without padding",
        )  # fmt: skip
    return Finding(name, "pass", title, measured, "they agree", by_hand)


def _gain(n: Numbers) -> Finding:
    title = "gain as claimed"
    if n.claimed_gain is None or n.mae_before is None or n.mae_after is None:
        return Finding("gain", "skipped", title, lacking(n, "claimed_gain", "mae_before", "mae_after"))
    if n.mae_before == 0 or n.mae_after <= 1e-9 * n.mae_before:
        return Finding("gain", "skipped", title, "an MAE is 0, or as good as 0: no factor can be formed")
    factor, claim = n.mae_before / n.mae_after, n.claimed_gain
    by_hand = f"{g(n.mae_before)} / {g(n.mae_after)} = {factor:.3g}"
    if abs(claim - factor) <= ROUNDING * factor:
        return Finding(
            "gain", "pass", title, f"{g(claim)}x is {factor:.3g}x", "the claim is the ratio of the MAEs", by_hand
        )
    others = {"the reduction of the MAE in percent": 100.0 * (1.0 - 1.0 / factor)}
    if n.rmse_before is not None and n.rmse_after:
        others |= {"the ratio of the RMSEs": n.rmse_before / n.rmse_after, "the ratio of the squared errors": (n.rmse_before / n.rmse_after) ** 2}  # fmt: skip
    what = next((name for name, value in others.items() if abs(value - claim) <= ROUNDING * abs(value)), None)
    if what is not None:
        return Finding(
            "gain", "warn", title, f"{g(claim)} is {what}; the MAE fell {factor:.3g}-fold", "two measures under one name", by_hand,
            "say which measure it is",
        )  # fmt: skip
    return Finding(
        "gain", "fail", title, f"claimed {g(claim)}x, the MAEs say {factor:.3g}x", "the claim does not follow from its own figures",
        by_hand, "quote the factor that the figures give, and a constant's beside it",
    )  # fmt: skip


def _mae_rmse(n: Numbers, when: str) -> Finding:
    name, title = f"mae_rmse_{when}", f"MAE and RMSE {when}"
    mae, rmse = getattr(n, f"mae_{when}"), getattr(n, f"rmse_{when}")
    if mae is None or rmse is None:
        return Finding(name, "skipped", title, lacking(n, f"mae_{when}", f"rmse_{when}"))
    by_hand = f"MAE {g(mae)}, RMSE {g(rmse)} (mel units)"
    if mae > rmse * (1.0 + ROUNDING / 4):
        return Finding(name, "fail", title, f"MAE {g(mae)} exceeds RMSE {g(rmse)}: impossible", "a mean of absolute values never exceeds the root mean square", by_hand, "recompute both from the same arrays")  # fmt: skip
    return Finding(name, "pass", title, by_hand, "MAE does not exceed RMSE")


def _rmse_after(n: Numbers, r: float | None) -> Finding:
    name, title = "rmse_after", "RMSE after, against sd and correlation"
    if n.rmse_after is None or n.s_y is None:
        return Finding(name, "skipped", title, lacking(n, "rmse_after", "s_y"))
    share = n.rmse_after / n.s_y
    measured = f"RMSE after is {g(share)} of the target's sd"
    by_hand = f"{g(n.rmse_after)} / {g(n.s_y)} = {g(share)}; a constant at the mean has 1"
    if share > 1.0 + ROUNDING:
        return Finding(
            name, "fail", title, f"{measured}: worse than a constant at the mean",
            "a least-squares fit cannot be worse than its own constant on the data that it was fitted on",
            by_hand, "use regression, not statistics matching: calib fit-scaler PAIRS",
        )  # fmt: skip
    if r is None or not 0 < abs(r) <= 1.0 + ROUNDING or n.method in {"moments", "identity"}:
        state = "warn" if share > 0.95 else "pass"
        return Finding(name, state, title, measured, "within 5 % of a constant" if state == "warn" else "", by_hand)
    true = (r * r + 1.0 - share * share) / (2.0 * abs(r))
    slack = 0.005 * share * share / abs(r) + 0.02
    by_hand += f"; r from it: (r² + 1 - {g(share)}²) / (2 r) with r = {g(r)}: {g(true)}"
    if slack > 0.15:
        why = "the scale is so near to 0 that the RMSE cannot tell r: the output is a constant"
        return Finding(name, "warn" if share > 0.95 else "pass", title, measured, why, by_hand)
    if abs(true) > 1.0 + slack:
        return Finding(name, "fail", title, f"{measured}: with this scale r would be {g(true)}: impossible", "scale, sd and RMSE are not of one fit on one set of data", by_hand, "recompute them from the same arrays")  # fmt: skip
    if abs(true - abs(r)) > max(slack, 0.1):
        word = "too large" if true < abs(r) else "too small"
        return Finding(name, "warn", title, f"{measured}: that is r = {g(true)}, the scale implies {g(abs(r))}", f"the scale is {word} for a regression, or biased", by_hand, "fit again: calib fit-scaler PAIRS")  # fmt: skip
    return Finding(name, "pass", title, measured, "agrees with the correlation that the scale implies", by_hand)


def _before(n: Numbers) -> Finding:
    """The errors before must fit the means and sds, of the prediction as it is or denormalised."""
    name, title = "before", "error before, against the means and sds"
    errors = [(k, v) for k, v in (("MAE", n.mae_before), ("RMSE", n.rmse_before)) if v is not None]
    if n.pred_mean is None or n.pred_std is None or n.m_y is None or n.s_y is None or not errors:
        needs = lacking(n, "pred_mean", "pred_std", "m_y", "s_y") or "needs --mae-before or --rmse-before"
        return Finding(name, "skipped", title, needs)
    spaces = [("as it is", n.pred_mean, n.pred_std)]
    if n.mel_mean is not None and n.mel_std is not None:
        spaces.append(("denormalised", n.pred_mean * n.mel_std + n.mel_mean, n.pred_std * n.mel_std))
    fitting, by_hand = [], []
    for words, m_p, s_p in spaces:
        gap = abs(m_p - n.m_y)
        least, most = math.hypot(gap, s_p - n.s_y), math.hypot(gap, s_p + n.s_y)
        by_hand.append(f"{words}: |difference of means| {g(gap)} <= MAE, RMSE between {g(least)} and {g(most)}")
        if all(
            (gap if kind == "MAE" else least) * (1 - ROUNDING) <= value <= most * (1 + ROUNDING)
            for kind, value in errors
        ):
            fitting.append(words)
    listing = ", ".join(f"{kind} {g(value)}" for kind, value in errors) + " (mel units)"
    if fitting:
        return Finding(
            name, "pass", title, f"{listing}: fits the prediction {' or '.join(fitting)}", "", "; ".join(by_hand)
        )
    return Finding(
        name, "fail", title, f"{listing}: impossible for these means and sds", "they are not of one prediction and one target",
        "; ".join(by_hand), "recompute them from the same arrays",
    )  # fmt: skip


def _offset(n: Numbers, chosen: Reading | None) -> Finding:
    name, title = "offset", "offset, against the means"
    if n.scale is None or n.offset is None or n.pred_mean is None or chosen is None:
        return Finding(name, "skipped", title, lacking(n, "scale", "offset", "pred_mean"))
    normal = chosen.space == "normalized"
    center = target_center(n, normal=normal)
    if center is None or n.s_y is None:
        return Finding(name, "skipped", title, lacking(n, "m_y", "s_y", *(("mel_mean", "mel_std") if normal else ())))
    unit = n.s_y / (n.mel_std or n.s_y) if normal else n.s_y
    best = center - n.scale * n.pred_mean
    if abs(best) < 1e-9 * (abs(center) + abs(n.scale * n.pred_mean)):  # what is left of two equal terms is rounding
        best = 0.0
    bias = max(abs(n.offset - best) - offset_slack(n), 0.0) / unit
    by_hand = f"mean(target) - scale x mean(prediction) = {g(center)} - {g(n.scale)} x {g(n.pred_mean)} = {g(best)} ({chosen.space} space)"
    measured = (
        f"offset {g(n.offset)}, an unbiased fit has {g(best)}: off by {g(bias)} of the target's sd beyond rounding"
    )
    status = "fail" if bias > BIAS_FAIL else "warn" if bias > _BIAS_WARN else "pass"
    if status == "pass":
        return Finding(name, status, title, measured, "the means agree", by_hand)
    return Finding(
        name, status, title, measured, "the calibrated mel is louder or quieter than the target on average",
        by_hand, "check that offset and means are in one space; fit again: calib fit-scaler PAIRS",
    )  # fmt: skip


def _defaults(n: Numbers) -> Finding:
    name, title = "defaults", "values that stand for nothing measured"
    if n.scale is None and n.mel_mean is None:
        return Finding(name, "skipped", title, lacking(n, "scale", "mel_mean"))
    seen = []
    if (n.mel_mean, n.mel_std) == (-5.0, 2.0):
        seen.append("mel_mean -5 and mel_std 2")
    if (n.scale, n.offset) == (1.0, 0.0) and n.method != "identity":
        seen.append("scale 1 and offset 0")
    if (n.mel_mean, n.mel_std) == (0.0, 1.0):
        seen.append("mel_mean 0 and mel_std 1")
    if not seen:
        return Finding(name, "pass", title, "none of the usual defaults (mean -5 and sd 2, mean 0 and sd 1, scale 1 and offset 0)")  # fmt: skip
    return Finding(
        name, "warn", title, " and ".join(seen), "round values that scripts fall back on when a file is missing or a fit fails",
        "", "measure them: calib stats, calib fit-scaler",
    )  # fmt: skip


def _how_many(n: Numbers) -> Finding:
    name, title = "how_many", "how much data"
    known = [(w, c) for w, c in (("the fit", n.n_utterances), ("the statistics", n.stats_utterances)) if c is not None]
    if not known:
        return Finding(name, "skipped", title, lacking(n, "n_utterances"))
    measured = ", ".join(f"{what}: {count} utterance{'s' * (count != 1)}" for what, count in known)
    if min(count for _, count in known) >= _FEW:
        return Finding(name, "pass", title, measured)
    return Finding(
        name, "warn", title, measured, "a fit on so few is scored on what it was fitted on; the next recording may need another",
        "", "measure a data set: calib stats SOURCE; fit on 5 held-out utterances or more",
    )  # fmt: skip


def _same_data(n: Numbers) -> Finding:
    name, title = "same_data", "statistics and target"
    if None in {n.target_mean, n.target_std, n.mel_mean, n.mel_std}:
        return Finding(name, "skipped", title, lacking(n, "target_mean", "target_std", "mel_mean", "mel_std"))
    if (n.target_mean, n.target_std) != (n.mel_mean, n.mel_std):
        return Finding(name, "pass", title, "they are of two sets of data: the target was not measured with itself")
    if (n.n_utterances or 0) >= _FEW:
        return Finding(
            name, "pass", title, f"the statistics are those of the target itself ({n.n_utterances} utterances)"
        )
    return Finding(
        name, "warn", title, "the data set's statistics equal the target's to the last digit",
        "they were measured on the file that the fit is scored on: no statistics of a data set", "",
        "measure the training data: calib stats SOURCE",
    )  # fmt: skip
