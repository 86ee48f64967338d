"""The checks of `calib.diagnose.audit` on a stored parameter file: what it says of itself, and whether that agrees.

A file of ``calib fit-scaler`` holds its own scores, correlations and raw map. They are bound by the formulas of
`calib.diagnose.audit.checks`, so a file that was edited by hand, or mixed from two fits, contradicts itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from calib.diagnose.audit.checks import CONSTANT_MAE, NO_SIGNAL, STRONG
from calib.diagnose.audit.numbers import ROUNDING, Finding, corr, g

__all__ = ["check_file", "stored_numbers"]

_IDS = {"stats_id": "the statistics", "frontend_id": "the mel front end", "model_id": "the checkpoint"}
_GAIN = 0.95  # of the best constant's MAE: design, section 5
_FIT_AGAIN = "fit again: calib fit-scaler PAIRS"


def stored_numbers(params: Mapping[str, Any], stats: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a parameter file and a statistics file say, as fields of `Numbers`; what they lack is absent.

    Args:
        params: content of ``mel_scaling_params.json`` (or the legacy two keys; may be empty).
        stats: content of ``mel_normalization_stats.json``, or None.
    """
    outside = _at(params, "fit", "out_of_sample")
    found = {
        "scale": params.get("scale_factor"),
        "offset": params.get("offset"),
        "method": params.get("method"),
        "n_utterances": _at(params, "fit", "n_utterances"),
        **{key: _at(outside, key) for key in ("mae_before", "mae_after", "rmse_before", "rmse_after")},
        # A constant at the mean leaves the target's sd.
        "target_std": _at(outside, "constants", "global_mean", "rmse"),
    }
    if stats is not None:
        found |= {"mel_mean": stats.get("mel_mean"), "mel_std": stats.get("mel_std"), "stats_utterances": stats.get("n_utterances")}  # fmt: skip
        means, sds = _at(stats, "per_bin", "mean"), _at(stats, "per_bin", "std")
        if _numbers(means) and _numbers(sds):
            mean = math.fsum(means) / len(means)
            between = math.sqrt(math.fsum((m - mean) ** 2 for m in means) / len(means))
            found |= {
                "static_r": min(between / stats["mel_std"], 1.0),
                "static_mae": CONSTANT_MAE * math.fsum(sds) / len(sds),
            }
    known = {key: value for key, value in found.items() if value is not None}
    return {key: value for key, value in known.items() if key == "method" or _number(value)}


def check_file(params: Mapping[str, Any], stats: Mapping[str, Any] | None) -> list[Finding]:
    """All checks of a stored file.

    Args:
        params: content of ``mel_scaling_params.json``, read strictly before.
        stats: content of ``mel_normalization_stats.json``, or None.
    """
    return list(_checks(params, stats))


def _checks(params: Mapping[str, Any], stats: Mapping[str, Any] | None) -> Iterator[Finding]:
    yield _identity(params)
    yield _verdict(params)
    yield _belongs(params, stats)
    yield _bins(params, stats)
    yield _scores(params)
    yield _stored_r(params)
    yield _agreement(params, stats)


def _at(value: Any, *keys: str) -> Any:
    """A nested value, or None."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_number(item) for item in value)


def _near(a: float, b: float, tolerance: float = 0.005) -> bool:
    return abs(a - b) <= tolerance * max(abs(a), abs(b), 1e-9)


def _identity(params: Mapping[str, Any]) -> Finding:
    missing = [f"{words} ({key})" for key, words in _IDS.items() if params.get(key) is None]
    title = "what the file was made for"
    if not missing:
        return Finding("identity", "pass", title, "it names statistics, front end and checkpoint")
    kind = "it holds scale and offset alone: " if params.get("schema") is None else ""
    return Finding(
        "identity", "warn", title, f"{kind}it does not identify {', '.join(missing)}",
        "nothing stops it from being used with another model, data set or front end", "", _FIT_AGAIN,
    )  # fmt: skip


def _verdict(params: Mapping[str, Any]) -> Finding:
    verdict, title = params.get("verdict"), "the file's own verdict"
    if verdict is None:
        return Finding("verdict", "skipped", title, "the file holds none")
    if verdict == "no-signal":
        state = f" (the pairs were {params['state']})" if params.get("state") else ""
        return Finding("verdict", "fail", title, f"no-signal: written by force{state}", "calib found nothing to calibrate", "", "look at the model: calib diagnose PAIRS")  # fmt: skip
    status = "warn" if verdict in {"weak", "partly"} else "pass"
    why = "calib wrote it with a warning" if status == "warn" else ""
    return Finding("verdict", status, title, str(verdict), why)


def _belongs(params: Mapping[str, Any], stats: Mapping[str, Any] | None) -> Finding:
    title = "parameters and statistics belong together"
    if stats is None:
        return Finding("belongs", "skipped", title, "needs --stats")
    both = [key for key in ("stats_id", "frontend_id") if params.get(key) is not None and stats.get(key) is not None]
    differing = [f"{key} {params[key]} and {stats[key]}" for key in both if params[key] != stats[key]]
    if differing:
        return Finding("belongs", "fail", title, f"they were made for different things: {'; '.join(differing)}", "scale and offset act in another normalised space than these statistics", "", "use the statistics that the parameters were fitted with")  # fmt: skip
    if not both:
        return Finding("belongs", "warn", title, "nothing shows it: an identity is missing on either side")
    return Finding("belongs", "pass", title, f"{' and '.join(both)} agree")


def _bins(params: Mapping[str, Any], stats: Mapping[str, Any] | None) -> Finding:
    title, scales = "parameters for each bin", _at(params, "per_bin", "scale")
    if scales is None:
        return Finding("bins", "skipped", title, "the file has global parameters only")
    others = {
        "the front end": _at(params, "frontend", "n_mels"),
        "the statistics": len(_at(stats, "per_bin", "mean") or []) or None,
    }
    wrong = [f"{who} {'has' if who == 'the front end' else 'have'} {count}" for who, count in others.items() if count is not None and count != len(scales)]  # fmt: skip
    if wrong:
        return Finding("bins", "fail", title, f"{len(scales)} bins, but {' and '.join(wrong)}", "", "", _FIT_AGAIN)
    return Finding("bins", "pass", title, f"{len(scales)} bins")


def _scores(params: Mapping[str, Any]) -> Finding:
    title, fit = "how it was scored", params.get("fit")
    if not isinstance(fit, Mapping):
        return Finding("scores", "warn", title, "the file holds no scores", "nothing shows that it repairs anything", "", _FIT_AGAIN)  # fmt: skip
    outside = fit.get("out_of_sample")
    if not isinstance(outside, Mapping):
        return Finding("scores", "warn", title, "in sample only: fitted and scored on the same frames", "such a score cannot tell a fit from a coincidence", "", _FIT_AGAIN)  # fmt: skip
    after, constants = outside.get("mae_after"), outside.get("constants")
    maes = [_at(c, "mae") for c in constants.values()] if isinstance(constants, Mapping) else []
    if after is None or not _number(after) or not _numbers(maes):
        return Finding("scores", "warn", title, "out of sample, but beside no constant", "a fit that loses to a constant repairs nothing", "", _FIT_AGAIN)  # fmt: skip
    best = min(maes)
    measured = f"MAE after {g(after)} mel units on unseen data, the best constant {g(best)}"
    by_hand = f"{g(after)} / {g(best)} = {g(after / best)}, at most {_GAIN} is asked for" if best > 0 else ""
    if after > _GAIN * best:
        return Finding("scores", "fail", title, measured, "no better than a constant", by_hand, "look at the model: calib diagnose PAIRS")  # fmt: skip
    return Finding("scores", "pass", title, measured, "", by_hand)


def _stored_r(params: Mapping[str, Any]) -> Finding:
    title, r = "correlation within each bin, as stored", _at(params, "fit", "r_w")
    if not _number(r):
        return Finding("stored_r", "skipped", title, "the file holds none")
    measured = f"r within bin = {corr(r)}"
    if r < NO_SIGNAL:
        return Finding("stored_r", "fail", title, measured, "the prediction has nothing to do with the target, or its sign is wrong", "", "look at the model: calib diagnose PAIRS")  # fmt: skip
    if r < STRONG:
        return Finding("stored_r", "warn", title, measured, f"the fit leaves sqrt(1 - r²) = {math.sqrt(1 - r * r):.2f} of the error of a mean spectrum")  # fmt: skip
    return Finding("stored_r", "pass", title, measured)


def _agreement(params: Mapping[str, Any], stats: Mapping[str, Any] | None) -> Finding:
    title = "the file agrees with itself"
    if not isinstance(params.get("fit"), Mapping):
        return Finding("agreement", "skipped", title, "the file holds no fit to compare with")
    wrong = list(_contradictions(params, stats))
    if wrong:
        return Finding("agreement", "fail", title, "; ".join(wrong[:3]), "edited by hand, or mixed from two fits", "", _FIT_AGAIN)  # fmt: skip
    return Finding("agreement", "pass", title, "its numbers fit each other")


def _contradictions(params: Mapping[str, Any], stats: Mapping[str, Any] | None) -> Iterator[str]:
    fit = params["fit"]
    for name in ("r", "r_w"):
        r, squared = fit.get(name), fit.get(f"{name}_squared")
        if _number(r) and abs(r) > 1:
            yield f"fit.{name} is {g(r)}, outside -1 to 1"
        if _number(r) and _number(squared) and abs(r * r - squared) > 1e-3:
            yield f"fit.{name} is {g(r)}, but fit.{name}_squared {g(squared)} (it would be {g(r * r)})"
    yield from _against_map(params, stats)
    slope, r = _at(params, "raw_map", "slope"), fit.get("r")
    if params.get("method") == "ols" and _number(r):
        if _number(slope) and slope * r < 0:
            yield f"the slope {g(slope)} and fit.r {g(r)} have different signs"
        after, sd = (
            _at(fit, "out_of_sample", *keys) for keys in (("rmse_after",), ("constants", "global_mean", "rmse"))
        )
        if _number(after) and _number(sd) and sd > 0 and abs(r) <= 1:
            share, expected = after / sd, math.sqrt(1.0 - r * r)
            if abs(share - expected) > 0.1:
                yield f"fit.r {g(r)} leaves sqrt(1 - r²) = {g(expected)} of the target's sd, but the RMSE after is {g(share)} of it"
    for part in ("out_of_sample", "in_sample"):
        for when in ("before", "after"):
            mae, rmse = _at(fit, part, f"mae_{when}"), _at(fit, part, f"rmse_{when}")
            if _number(mae) and _number(rmse) and mae > rmse * (1 + ROUNDING / 4):
                yield f"fit.{part}: MAE {when} {g(mae)} exceeds RMSE {g(rmse)}, which is impossible"
    interval = _at(fit, "intervals_95", "r_w")
    if _numbers(interval) and len(interval) == 2 and _number(fit.get("r_w")) and not interval[0] - 0.05 <= fit["r_w"] <= interval[1] + 0.05:  # fmt: skip
        yield f"fit.r_w {g(fit['r_w'])} lies outside its own interval, {g(interval[0])} to {g(interval[1])}"
    verdict, state = params.get("verdict"), params.get("state")
    if None not in {verdict, state} and verdict not in {state, "no-signal"}:
        yield f"the verdict is {verdict}, the state {state}"


def _against_map(params: Mapping[str, Any], stats: Mapping[str, Any] | None) -> Iterator[str]:
    """The raw map and scale and offset are one map: slope = scale mel_std, intercept = offset mel_std + mel_mean."""
    slope, intercept = _at(params, "raw_map", "slope"), _at(params, "raw_map", "intercept")
    if stats is None or not _number(slope) or not _number(intercept):
        return
    mean, std = stats["mel_mean"], stats["mel_std"]
    if not _near(params["scale_factor"] * std, slope):
        yield f"scale_factor x mel_std = {g(params['scale_factor'] * std)}, but raw_map.slope is {g(slope)}"
    if abs(params["offset"] * std + mean - intercept) > 0.005 * std:
        yield f"offset x mel_std + mel_mean = {g(params['offset'] * std + mean)}, but raw_map.intercept is {g(intercept)}"
