"""``calib check params``: do these calibration parameters make sense? An audit from the numbers alone."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from calib.commands import options as o
from calib.commands.statsinput import load_normalizer
from calib.console import terminal
from calib.diagnose.audit import Audit, Numbers, Reading, audit
from calib.diagnose.audit.file import check_file, stored_numbers
from calib.diagnose.audit.numbers import corr
from calib.errors import UsageError
from calib.params import MelScaler, ParamsWarning

__all__ = ["ParamsConfig", "ParamsResult", "params", "render", "run"]

SCHEMA = "calib/params-audit/1"

_LABELS = {
    "scale": "scale {}",
    "offset": "offset {}",
    "mel_mean": "mel_mean {} mel units",
    "mel_std": "mel_std {} mel units",
    "pred_mean": "prediction mean {}",
    "pred_std": "prediction sd {}",
    "target_mean": "target mean {} mel units",
    "target_std": "target sd {} mel units",
    "mae_before": "MAE before {} mel units",
    "mae_after": "MAE after {} mel units",
    "rmse_before": "RMSE before {} mel units",
    "rmse_after": "RMSE after {} mel units",
    "claimed_gain": "claimed gain {}x",
    "n_utterances": "utterances of the fit {}",
    "stats_utterances": "utterances of the statistics {}",
    "static_r": "r of a static spectrum {}",
    "static_mae": "MAE of a static spectrum about {} mel units",
    "method": "method {}",
    "slope_space": "slope in the {} space",
}


@dataclass(frozen=True)
class ParamsConfig:
    """What ``calib check params`` needs.

    Args:
        file: ``mel_scaling_params.json``, or None.
        stats: ``mel_normalization_stats.json``, or None.
        flags: numbers given on the command line, by the names of `Numbers`; they override the files.
    """

    file: Path | None
    stats: Path | None
    flags: dict[str, Any]


@dataclass(frozen=True)
class ParamsResult:
    """The audit, and where each number came from."""

    audit: Audit
    numbers: dict[str, tuple[Any, str]]

    def to_json(self) -> dict[str, Any]:
        """Plain values, ``calib/params-audit/1``."""
        a = self.audit
        return {
            "schema": SCHEMA,
            "status": a.status,
            "sentence": a.headline,
            "r": a.r,
            "r_squared": None if a.r is None else a.r * a.r,
            "numbers": {name: {"value": value, "source": source} for name, (value, source) in self.numbers.items()},
            "readings": [asdict(reading) for reading in a.readings],
            "findings": [asdict(finding) for finding in a.findings],
        }


def run(config: ParamsConfig) -> ParamsResult:
    """Gather the numbers and audit them.

    Raises:
        UsageError: no numbers at all, or one that cannot be.
        ParamsError: a file that cannot be read.
    """
    if config.file is None and config.stats is None and not set(config.flags) - {"slope_space"}:
        raise UsageError(
            "there are no numbers to audit",
            hint="give mel_scaling_params.json, or what was published, for example: calib check params --scale 0.449 --offset 0 --pred-std 0.028 --mel-std 2.08 --mae-before 5.073 --mae-after 1.678",
        )
    for name, value in config.flags.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--{name.replace('_', '-')} is {value}; it must be a finite number")
    content: dict[str, Any] = {}
    stats: dict[str, Any] | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParamsWarning)  # what the files lack is a finding here
        if config.file is not None:
            content = MelScaler.load(config.file).extra
        if config.stats is not None:
            stats = load_normalizer(config.stats).extra
    found = stored_numbers(content, stats)
    from_stats = {"mel_mean", "mel_std", "stats_utterances", "static_r", "static_mae"}
    numbers = {name: (value, str(config.stats if name in from_stats else config.file)) for name, value in found.items()}
    if config.file is not None and "slope_space" not in config.flags:
        numbers["slope_space"] = ("normalized", "what readers of the file do")
    for name, value in config.flags.items():
        if name in found and found[name] != value:
            terminal.notice(
                f"--{name.replace('_', '-')} {value} is used instead of {found[name]:.6g} of {numbers[name][1]}"
            )
        numbers[name] = (value, "option")
    try:
        given = Numbers(**{name: value for name, (value, _) in numbers.items()})
    except ValueError as error:
        raise UsageError(
            f"these numbers cannot be: {error}",
            hint="look at the option or file that it came from; a number that is not known is left out",
        ) from None
    stored = [] if config.file is None else check_file(content, stats)
    return ParamsResult(audit(given, stored), numbers)


def render(result: ParamsResult) -> list[str]:
    """For a tired person: verdict, numbers, findings with the sum to redo, what could not be checked."""
    a = result.audit
    known = ", ".join(
        _LABELS[name].format(f"{value:.6g}" if isinstance(value, float) else value)
        for name, (value, _) in result.numbers.items()
    )
    lines = [a.headline + ".", "", f"from: {known}", *(_read(reading) for reading in a.readings)]
    for finding in a.findings:
        if finding.status == "skipped":
            continue
        lines += ["", f"{finding.status.upper():<4}  {finding.title}: {finding.measured}."]
        for word, text in (("why", finding.why), ("by hand", finding.by_hand), ("next", finding.next_step)):
            if text:
                lines.append(f"      {word}: {text}")
    reasons: dict[str, list[str]] = {}
    for finding in a.findings:
        if finding.status == "skipped":
            reasons.setdefault(finding.measured, []).append(finding.title)
    if reasons:
        lines += ["", *(f"skipped: {'; '.join(what)}: {reason}" for reason, what in reasons.items())]
    return lines


def _brief(a: Audit) -> list[str]:
    wrong = [f for f in a.findings if f.status in {"fail", "warn"}]
    causes = [f"{f.status.upper()}  {f.title}: {f.measured}" for f in wrong]
    return o.brief(a.headline + ".", causes, [f.next_step for f in wrong if f.next_step])


def _read(reading: Reading) -> str:
    """One reading of scale and offset, and whether it can be."""
    meant = "normalized mels" if reading.space == "normalized" else "mel units"
    r = "r cannot be told" if reading.r is None else f"r = {corr(reading.r)}"
    state = f"cannot be: {reading.contradictions[0]}" if reading.contradictions else "nothing speaks against it"
    return f"read as leading to {meant}: {r}; {state}"


def _option(flag: str, text: str) -> Any:
    return typer.Option(flag, help=text, show_default=False)


def params(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="mel_scaling_params.json, of calib or with scale_factor and offset alone; without it, the options give the numbers.",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[float | None, _option("--scale", "Slope of the calibration (scale_factor).")] = None,
    offset: Annotated[float | None, _option("--offset", "Intercept of the calibration (offset).")] = None,
    mel_mean: Annotated[float | None, _option("--mel-mean", "Mean that mels are normalised with.")] = None,
    mel_std: Annotated[float | None, _option("--mel-std", "SD that mels are normalised with.")] = None,
    pred_mean: Annotated[
        float | None, _option("--pred-mean", "Mean of the prediction that the scale multiplies.")
    ] = None,
    pred_std: Annotated[float | None, _option("--pred-std", "SD of the prediction that the scale multiplies.")] = None,
    target_mean: Annotated[
        float | None, _option("--target-mean", "Mean of the target mel; without it, mel_mean stands in.")
    ] = None,
    target_std: Annotated[
        float | None, _option("--target-std", "SD of the target mel; without it, mel_std stands in.")
    ] = None,
    mae_before: Annotated[float | None, _option("--mae-before", "Mean absolute error before, in mel units.")] = None,
    mae_after: Annotated[float | None, _option("--mae-after", "Mean absolute error after, in mel units.")] = None,
    rmse_before: Annotated[float | None, _option("--rmse-before", "Root mean square error before.")] = None,
    rmse_after: Annotated[float | None, _option("--rmse-after", "Root mean square error after.")] = None,
    claimed_gain: Annotated[
        float | None, _option("--claimed-gain", "By what factor the error is said to have fallen.")
    ] = None,
    slope_space: Annotated[
        str | None,
        _option(
            "--slope-space",
            "What scale and offset lead to: normalized mels (what the file means) or raw ones; without FILE and this, both are tried.",
        ),
    ] = None,
    n_utterances: Annotated[
        int | None,
        typer.Option("--n-utterances", help="How many utterances the fit was made on.", min=1, show_default=False),
    ] = None,
    stats: o.StatsFile = None,
    force: o.Force = False,
    fail_on: o.FailOn = "never",
    json_: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Do these parameters make sense? An audit of published or stored calibration parameters, from the numbers alone."""
    o.set_level(quiet=quiet, verbose=verbose, json_target=json_, force=force, fail_on=fail_on)
    flags = {
        "scale": scale,
        "offset": offset,
        "mel_mean": mel_mean,
        "mel_std": mel_std,
        "pred_mean": pred_mean,
        "pred_std": pred_std,
        "target_mean": target_mean,
        "target_std": target_std,
        "mae_before": mae_before,
        "mae_after": mae_after,
        "rmse_before": rmse_before,
        "rmse_after": rmse_after,
        "claimed_gain": claimed_gain,
        "slope_space": slope_space,
        "n_utterances": n_utterances,
    }
    result = run(ParamsConfig(file, stats, {name: value for name, value in flags.items() if value is not None}))
    o.show(render(result), _brief(result.audit))
    o.emit_json(json_, result.to_json(), force=force)
    o.gate(fail_on, result.audit.status, result.audit.headline)
