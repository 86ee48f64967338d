"""What ``calib check loss`` says: its configuration and result, and the result as text and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from calib.commands.options import brief
from calib.console import table
from calib.diagnose.loss import AT, CONSTANTS, Floor, Loss, SplitReading, Standing, stand

__all__ = ["MOST_VALUES", "SCHEMA", "LossConfig", "LossResult", "number", "render", "short"]

SCHEMA = "calib/loss-floors/1"
MOST_VALUES = 2


@dataclass(frozen=True)
class LossConfig:
    """What ``calib check loss`` needs; see its options. ``values`` and ``weights`` are of one length, or one weight."""

    source: str
    loss: Loss
    values: tuple[float, ...] = ()
    weights: tuple[float, ...] = (1.0,)
    label_noise: float = 0.0
    space: str = "raw"
    stats: Path | None = None
    frontend: str | None = None
    layout: str | None = None
    output_space: str | None = None
    columns: str | None = None
    audio_root: Path | None = None
    split: str | None = None
    limit: int | None = None
    allow_skipped: float = 1.0


@dataclass
class LossResult:
    """The floors, and where the reported values stand.

    Args:
        config: what was asked.
        described: the source, in words.
        mean: of the targets, in ``unit``.
        sd: the same.
        unit: of a mel value in the space of the loss.
        floors: all predictors; those that could not be scored say why.
        standings: one a value; of the pairs' own prediction where no value was given.
        origin: ``reported``, ``pairs`` or None: what the standings are of.
        split: two values read as one predictor, or None.
        notes: what was noticed.
    """

    config: LossConfig
    described: str
    mean: float
    sd: float
    unit: str
    floors: list[Floor]
    standings: list[Standing] = field(default_factory=list)
    origin: str | None = None
    split: SplitReading | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def status(self) -> str | None:
        """Of the last value, or None where there is none."""
        return self.standings[-1].status if self.standings else None

    @property
    def headline(self) -> str:
        """The first line: is it learning?"""
        if self.standings:
            return self.standings[-1].headline
        constant = self.best_constant
        weight = self.config.weights[-1]
        under = "" if weight == 1 else f", {number(float(constant.loss or 0) * weight)} under weight {weight:g}"
        return f"ANY LOSS OF {number(float(constant.loss or 0))}{self.loss_unit}{under} OR MORE IS NOT LEARNING: {constant.title} scores that"

    @property
    def best_constant(self) -> Floor:
        """The constant that scores best."""
        known = [floor for floor in self.floors if floor.name in CONSTANTS and floor.loss is not None]
        return min(known, key=lambda floor: float(floor.loss or 0))

    @property
    def loss_unit(self) -> str:
        """The unit of the loss, with a space before it."""
        return f" ({self.unit})²" if self.config.loss.name == "mse" else f" {self.unit}"

    def to_json(self) -> dict[str, Any]:
        """Plain values, ``calib/loss-floors/1``."""
        c = self.config
        return {
            "schema": SCHEMA,
            "status": self.status,
            "sentence": self.headline,
            "loss": {
                **asdict(c.loss),
                "delta": c.loss.delta if c.loss.name == "huber" else None,
                "label_noise_sd": c.label_noise,
                "space": c.space,
                "unit": self.loss_unit.strip(),
                "weights": list(c.weights),
            },
            "source": {"described": self.described, "mean": self.mean, "sd": self.sd, "unit": self.unit},
            "floors": [
                {
                    **asdict(floor),
                    "title": floor.title,
                    "weighted": None if floor.loss is None else [floor.loss * weight for weight in c.weights],
                }
                for floor in self.floors
            ],
            "standings_of": self.origin,
            "standings": [asdict(standing) for standing in self.standings],
            "two_values_as_one_predictor": None if self.split is None else asdict(self.split),
            "notes": self.notes,
        }


def number(value: float) -> str:
    """Four digits, never an exponent where people read."""
    return f"{value:.4g}" if value == 0 or 1e-4 <= abs(value) < 1e5 else f"{value:.3e}"


def render(result: LossResult) -> list[str]:
    """For a tired person: is it learning, the table, what to beat next."""
    c = result.config
    lines = [result.headline + "."]
    lines += [text for standing in result.standings for text in _said(result, standing)]
    lines += _together(result)
    lines += [
        "",
        f"{result.described}; mean {result.mean:.4f}, sd {result.sd:.4f} (targets, before any normalisation)",
        f"loss: {c.loss.words} of errors in {result.unit}, mean over frames and bins, {c.space} space"
        + (f", label noise sd {c.label_noise:g} {result.unit}" if c.label_noise else ""),
        "",
        *_rows(result),
        "",
    ]
    exact = all(floor.how == "exact" for floor in result.floors)
    if not exact:
        lines.append(
            "~ approximated, each bin taken as a Gaussian; behind it the largest error found on real speech; mels or PAIRS give the exact figure"
        )
    lines += [f"note: {note}" for note in result.notes]
    reasons: dict[str, list[str]] = {}
    for floor in result.floors:
        if floor.skipped is not None:
            reasons.setdefault(floor.skipped, []).append(floor.title)
    lines += [f"skipped: {', '.join(what)}: {reason}" for reason, what in reasons.items()]
    steps = _next(result)
    return lines + (["", "next:", *(f"  {k}. {step}" for k, step in enumerate(steps, 1))] if steps else [])


def short(result: LossResult) -> list[str]:
    """What ``-q`` shows."""
    said = [text for standing in result.standings for text in _said(result, standing)[:1]]
    return brief(result.headline + ".", said, _next(result))


def _said(result: LossResult, s: Standing) -> list[str]:
    """What one value says, in words."""
    unit = result.loss_unit
    by = {floor.name: floor for floor in result.floors}
    if result.origin == "pairs":
        text = f"the pairs' own prediction scores {number(s.loss)}{unit}"
    elif s.weight == 1:
        text = f"reported: {number(s.value)}{unit}"
    else:
        text = f"reported: {number(s.value)} / weight {s.weight:g} = {number(s.loss)}{unit}"
    if s.at:
        floor = by[_equal(s)]
        text += f"; that is {floor.title} ({number(float(floor.loss or 0))}{unit}) within {max(AT, floor.error):.0%}"
    elif s.share is not None:
        text += f"; {s.share:.0%} of the way from {by[s.below[0]].title} to {by[s.above[0]].title}"
    return [text + ".", *([s.remark[0].upper() + s.remark[1:] + "."] if s.remark else [])]


def _equal(s: Standing) -> str:
    """The floor that a value equals: the hardest constant before anything that takes more."""
    return ([name for name in s.at if name in CONSTANTS] or s.at)[-1]


def _together(result: LossResult) -> list[str]:
    """Two values as one story: did the predictor change, or the weight?"""
    if len(result.standings) < MOST_VALUES:
        return []
    a, b = result.standings
    unit = result.loss_unit
    if a.loss == 0:
        return []
    change = b.loss / a.loss - 1.0
    word = "did not change" if abs(change) <= AT else f"{'fell' if change < 0 else 'rose'} by {abs(change):.0%}"
    lines = [f"Without the weights it {word}: {number(a.loss)} to {number(b.loss)}{unit}."]
    if result.split is None:
        return lines
    s = result.split
    sums = f"({number(a.value)} - {number(b.value)}) / ({a.weight:g} - {b.weight:g}) = {number(s.loss)}{unit}"
    if not s.possible:
        return [
            *lines,
            f"One unchanged predictor plus other terms cannot have given both: {sums} leaves {number(s.other)} for the others.",
        ]
    near = stand(s.loss, 1.0, result.floors, unit=unit)
    by = {floor.name: floor.title for floor in result.floors}
    where = f"that is {by[_equal(near)]}" if near.at else near.headline.partition(": ")[2]
    return [
        *lines,
        f"Read as one unchanged predictor plus other terms (stop token, KL): {sums} and {number(s.other)} of other terms; {where}. Two figures always allow such a reading: check it against the logged mel term.",
    ]


def _rows(result: LossResult) -> list[str]:
    """Floors and reported values in one order, the easiest floor first."""
    weights = list(dict.fromkeys(result.config.weights))
    shown = [w for w in weights if w != 1]
    rows: list[tuple[float, list[str]]] = []
    for floor in result.floors:
        if floor.loss is None or (floor.name == "model" and result.origin == "pairs"):
            continue
        mark = "" if floor.how == "exact" else f"~{floor.error:.0%}"
        rows.append(
            (
                floor.loss,
                [floor.title.removeprefix("the "), number(floor.loss), *(number(floor.loss * w) for w in shown), mark],
            )
        )
    for s in result.standings:
        title = "> the model's prediction" if result.origin == "pairs" else f"> reported {number(s.value)}"
        rows.append((s.loss, [title, number(s.loss), *(number(s.loss * w) for w in shown), ""]))
    rows.sort(key=lambda row: -row[0])
    header = ["predictor", f"loss ({result.loss_unit.strip()})", *(f"x weight {w:g}" for w in shown), ""]
    return table(header, [row for _, row in rows])


def _next(result: LossResult) -> list[str]:
    if not result.standings:
        return ["give the loss that training reports: --value, and --weight if the mel term is weighted"]
    s = result.standings[-1]
    by = {floor.name: floor for floor in result.floors}
    steps = []
    ahead = [by[name] for name in (*s.at, *s.above) if s.status != "fail" or name in CONSTANTS]
    if ahead and s.status != "pass":
        floor = max(ahead, key=lambda one: float(one.loss or 0))
        goal = float(floor.loss or 0)
        under = "" if s.weight == 1 else f", {number(goal * s.weight)} under weight {s.weight:g}"
        steps.append(f"to beat next: {floor.title}, {number(goal)}{result.loss_unit}{under}")
    if s.status == "fail":
        best = float(result.best_constant.loss or 0)
        steps.append(
            f"until it is below {number(best * s.weight)} ({result.best_constant.title}) the model ignores its input: look at the data loader (calib check data), the masks and the learning rate, not at the weight"
        )
        if result.origin == "reported":
            steps.append(
                "if the value holds other terms (stop token, KL), give the mel term alone, or two points: --value A --weight A --value B --weight B"
            )
    if result.origin == "reported" and s.status == "pass":
        steps.append(
            "the loss is teacher-forced: whether the text is used and free running holds, calib diagnose PAIRS"
        )
    return steps
