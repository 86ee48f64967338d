"""The tables of the report, as pandas frames: one row a predictor, an interval, a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calib.diagnose.analysis import Diagnosis
from calib.report.wording import CONSTANTS, REFERENCES, number, written_row

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["band_frame", "figures_frame", "fit_frame", "interval_frame", "predictor_frame", "skill_frame"]

_SUMMARY = {
    "target_mean": ("target, mean", "unit"),
    "target_sd": ("target, standard deviation", "unit"),
    "target_min": ("target, smallest value", "unit"),
    "target_max": ("target, largest value", "unit"),
    "prediction_mean": ("prediction, mean", "unit"),
    "prediction_sd": ("prediction, standard deviation", "unit"),
    "prediction_min": ("prediction, smallest value", "unit"),
    "prediction_max": ("prediction, largest value", "unit"),
    "r": ("correlation, pooled over all bins", ""),
    "r_squared": ("its square: share of the variance explained", ""),
    "r_w": ("correlation within bin, r_w", ""),
    "r_w_squared": ("its square", ""),
    "s_w_ratio": ("sd within bin, prediction over target", ""),
    "removable_share": ("share of the squared error that scale and offset remove", ""),
    "mse": ("mean squared error", "unit²"),
    "murphy_unconditional_bias": ("of it, difference of the means", "unit²"),
    "murphy_conditional_bias": ("of it, wrong scale", "unit²"),
    "murphy_irreducible": ("of it, out of reach of any scale and offset", "unit²"),
}
_INTERVALS = {
    "r": ("correlation, pooled", ""),
    "r_w": ("correlation within bin, r_w", ""),
    "s_w_ratio": ("sd within bin, prediction over target", ""),
    "removable_share": ("removable share of the squared error", ""),
    "slope_ols": ("slope, linear regression", ""),
    "intercept_ols": ("intercept, linear regression", "unit"),
    "slope_moments": ("slope, statistics matching", ""),
    "intercept_moments": ("intercept, statistics matching", "unit"),
}
_BY_BIN = "by bin"


def predictor_frame(d: Diagnosis) -> pd.DataFrame:
    """Every predictor and constant, with its errors out of sample and in sample, against identity and best constant.

    First what a file could hold, of which the one with the smallest error is ``best``; then the references.
    """
    import pandas as pd

    frame: pd.DataFrame = pd.DataFrame([vars(row) for row in d.rows])
    frame["constant"] = frame["name"].isin(CONSTANTS)
    identity, constant = d.row("before").mae, d.best_constant.mae
    frame["to_identity"] = frame["mae"] / identity if identity > 0 else float("nan")
    frame["to_constant"] = frame["mae"] / constant if constant > 0 else float("nan")
    frame["reference"] = frame["name"].isin(REFERENCES)
    candidates = ~frame["reference"]
    frame["best"] = candidates & frame["mae"].eq(frame.loc[candidates, "mae"].min())
    shown = written_row(d)
    frame["mark"] = [_mark(d, name, shown) for name in frame["name"]]
    for column in ("slope", "intercept", "scale_factor", "offset"):
        frame[f"{column}_text"] = [
            _BY_BIN if name == "bin_mean" else number(float(value))
            for name, value in zip(frame["name"], frame[column], strict=True)
        ]
    ordered: pd.DataFrame = frame.sort_values(["reference", "constant"], kind="stable")
    return ordered


def _mark(d: Diagnosis, name: str, shown: str) -> str:
    if name != shown:
        return ""
    if not d.verdict.writes:
        return "refused"
    return "the identity is what a file holds" if d.method == "identity" else "what a file holds"


def interval_frame(d: Diagnosis, unit: str) -> pd.DataFrame:
    """Estimates with their 95 % intervals."""
    import pandas as pd

    rows = [
        {
            "name": _INTERVALS.get(key, (key, ""))[0],
            "unit": _INTERVALS.get(key, (key, ""))[1].replace("unit", unit) or "no unit",
            "value": _estimate(d, key),
            "low": i.low,
            "high": i.high,
            "small": key in d.summary,
            "line": key.startswith(("slope", "intercept")),
        }
        for key, i in d.intervals.items()
    ]
    frame: pd.DataFrame = pd.DataFrame(rows, columns=["name", "unit", "value", "low", "high", "small", "line"])
    return frame


def _estimate(d: Diagnosis, key: str) -> float | None:
    """The value that an interval belongs to; slopes act on the prediction after denormalisation, as the draws do."""
    if key in d.summary:
        return d.summary[key]
    what, _, name = key.partition("_")
    row = next((row for row in d.rows if row.name == name), None)
    if row is None or row.slope is None or row.intercept is None:
        return None
    scale, shift = (d.mel_std, d.mel_mean) if d.output_space == "normalized" else (1.0, 0.0)
    slope = row.slope / scale
    return {"slope": slope, "intercept": row.intercept - slope * shift}.get(what)


def figures_frame(d: Diagnosis, unit: str) -> pd.DataFrame:
    """Every figure of the summary with its unit."""
    import pandas as pd

    rows = [
        {
            "name": _SUMMARY.get(key, (key, ""))[0],
            "value": value,
            "unit": _SUMMARY.get(key, (key, ""))[1].replace("unit", unit) or "no unit",
        }
        for key, value in d.summary.items()
    ]
    frame: pd.DataFrame = pd.DataFrame(rows, columns=["name", "value", "unit"])
    return frame


def skill_frame(d: Diagnosis) -> pd.DataFrame:
    """Skill of the prediction before and after against every predictor that knows nothing of the model."""
    import pandas as pd

    titles = {row.name: row.title for row in d.rows}
    rows = [{"name": titles.get(s.name, s.name), "before": s.before, "after": s.after} for s in d.skills]
    frame: pd.DataFrame = pd.DataFrame(rows, columns=["name", "before", "after"])
    return frame


def band_frame(d: Diagnosis) -> pd.DataFrame:
    """Modulation bands: distance and level in dB, before and after."""
    import pandas as pd

    before = d.modulation["before"].bands if "before" in d.modulation else []
    after = {(b.low, b.high): b for b in (d.modulation["after"].bands if "after" in d.modulation else [])}
    rows = []
    for band in before:
        then = after.get((band.low, band.high))
        rows.append(
            {
                "band": f"{band.low:g} to {band.high:g}",
                "unit": d.modulation["before"].spectra.unit,
                "level": band.level,
                "distance": band.distance,
                "level_after": None if then is None else then.level,
                "distance_after": None if then is None else then.distance,
            }
        )
    frame: pd.DataFrame = pd.DataFrame(rows, dtype=object)
    return frame


def fit_frame(d: Diagnosis) -> pd.DataFrame:
    """Every calibrator with its held-out score, simplest first."""
    import pandas as pd

    chosen = "" if d.selection is None else d.selection.chosen
    rows = [
        {
            "title": fit.title.split(": ", 1)[0],
            "parameters": fit.parameters,
            "mse": fit.mse,
            "variance_ratio": fit.variance_ratio,
            "note": fit.note if fit.writable else f"no file can hold it{'; ' + fit.note if fit.note else ''}",
            "chosen": fit.name == chosen,
        }
        for fit in d.fits
    ]
    frame: pd.DataFrame = pd.DataFrame(rows, dtype=object)
    return frame
