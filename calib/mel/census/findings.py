"""What an answer is, and the two ways to one: counting utterances, or asking about the whole corpus.

Conventions:
    A finding is ``fail``, ``warn``, ``pass`` or ``skipped`` with the reason. The text of every threshold is made from
    the numbers that decide. Medians, extremes and exactly rounded sums (`math.fsum`) do not depend on the order of
    the corpus, so neither does any finding.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from calib.errors import DataError
from calib.mel.census.facts import Census
from calib.mel.census.questions import QUESTIONS
from calib.mel.frontend import FrontEnd

__all__ = ["LISTED", "STATUSES", "Finding", "Levels", "Rule", "View", "measured_words", "of", "spread", "total"]

STATUSES = ("fail", "warn", "pass", "skipped")
LISTED = 10_000  # ids of one finding; its count is always exact

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Rule:
    """A comparison: which utterances count, or when a corpus is at fault.

    Example:
        >>> Rule("peak", "<", -40.0, "dB of full scale").text()
        'peak < -40 dB of full scale'
    """

    what: str
    op: str
    value: float
    unit: str = ""

    def holds(self, values: Any) -> Any:
        """Whether the comparison is true, for a number or for each of an array; never for NaN."""
        return _OPERATORS[self.op](values, self.value)

    def text(self) -> str:
        """For people."""
        return f"{self.what} {self.op} {self.value:g}{f' {self.unit}' if self.unit else ''}"


@dataclass(frozen=True)
class Levels:
    """Which share of the utterances, in percent, is too many; None: no share is."""

    warn: float | None = None
    fail: float | None = None

    def status(self, count: int, total: int) -> str:
        """``fail``, ``warn`` or ``pass``."""
        share = 100.0 * count / total
        if self.fail is not None and share > self.fail:
            return "fail"
        return "warn" if self.warn is not None and share > self.warn else "pass"

    def text(self) -> str:
        """For people."""
        limits = (("warns", self.warn), ("fails", self.fail))
        parts = [
            f"{word} {f'above {limit:g} %' if limit else 'at the first'}" for word, limit in limits if limit is not None
        ]
        return ", ".join(parts)


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    Args:
        key: of `calib.mel.census.questions.QUESTIONS`.
        status: ``fail``, ``warn``, ``pass`` or ``skipped``.
        measured: what was measured, in words; for ``skipped`` the reason.
        rule: the threshold, in words made from ``thresholds``.
        count: utterances (or bins, or speakers) concerned; None where it is about the whole corpus.
        total: of how many.
        ids: of those concerned, the worst first, at most `LISTED`.
        values: further numbers, each key with its unit.
        thresholds: the numbers behind ``rule``.
    """

    key: str
    status: str
    measured: str
    rule: str = ""
    count: int | None = None
    total: int | None = None
    ids: tuple[str, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)
    thresholds: tuple[dict[str, Any], ...] = ()

    @property
    def share(self) -> float | None:
        """``count`` over ``total``, or None."""
        return None if self.count is None or not self.total else self.count / self.total

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, with the question's words."""
        question = QUESTIONS[self.key]
        words = {"title": question.title, "why": question.why, "next": question.next}
        return {
            **asdict(self),
            "ids": list(self.ids),
            "thresholds": list(self.thresholds),
            "share": self.share,
            **words,
        }


class View:
    """A census as the answers see it.

    Args:
        census: the corpus.
        frontend: that its mels were made with, or are to be.
        allow_skipped: percent of utterances that may be unusable.
    """

    def __init__(self, census: Census, frontend: FrontEnd | None, allow_skipped: float) -> None:
        self.census, self.frontend, self.allow_skipped = census, frontend, allow_skipped
        self.n = len(census)
        self.stored = np.isfinite(self["integral"])  # mels that lie on disk
        self.audio = np.isfinite(self["samples"])
        self.varied = (self["spread"] > 0) & (self["absmax"] > 0)
        self.in_seconds = bool(np.isfinite(self["seconds"]).any())
        self.length = self["seconds"] if self.in_seconds else self["frames"]
        self.length_unit = "s" if self.in_seconds else "frames"

    def __getitem__(self, name: str) -> np.ndarray:
        """One fact of every utterance, float64 ``(N,)``, NaN where it was not measured."""
        return self.census.column(name)

    # --- the forms of an answer -------------------------------------------------------------------------------

    def count(
        self,
        key: str,
        values: np.ndarray,
        rule: Rule,
        levels: Levels,
        *,
        absent: str,
        summary: str = "",
        extra: dict[str, Any] | None = None,
        also_fails: Sequence[tuple[Rule, float]] = (),
    ) -> Finding:
        """How many utterances a rule holds for.

        Args:
            key: the question.
            values: of each utterance, ``(N,)``; NaN was not asked.
            rule: which count.
            levels: how many are too many.
            absent: the reason for ``skipped`` if none was asked.
            summary: more of what was measured, in words.
            extra: more of what was measured, in numbers.
            also_fails: rules about the corpus, with their values, that make it ``fail`` too.
        """
        asked = int(np.isfinite(values).sum())
        if asked == 0:
            return self.skip(key, absent)
        where = np.flatnonzero(rule.holds(values))
        status = "fail" if any(more.holds(value) for more, value in also_fails) else levels.status(where.size, asked)
        text = "; ".join(
            [f"counted: {rule.text()}", levels.text(), *(f"fails if {more.text()}" for more, _ in also_fails)]
        )
        thresholds = {**asdict(rule), "warn_above_percent": levels.warn, "fail_above_percent": levels.fail}
        more = ({**asdict(rule), "status": "fail", "measured": value} for rule, value in also_fails)
        return Finding(
            key,
            status,
            measured_words(QUESTIONS[key].said, where.size, asked, summary),
            text,
            where.size,
            asked,
            self.names(where, (1.0 if rule.op[0] == "<" else -1.0) * values[where]),
            extra or {},
            (thresholds, *more),
        )

    @staticmethod
    def whole(
        key: str,
        rules: Sequence[tuple[str, Rule, float]],
        measured: str,
        values: dict[str, Any],
        *,
        count: int | None = None,
        total: int | None = None,
    ) -> Finding:
        """An answer about the corpus: each rule with the status that it gives when it holds, and what it is asked of."""
        held = {status for status, rule, value in rules if rule.holds(value)}
        status = next((name for name in ("fail", "warn") if name in held), "pass")
        text = "; ".join(f"{name}s if {rule.text()} (here {value:.4g})" for name, rule, value in rules)
        thresholds = tuple({**asdict(rule), "status": name, "measured": value} for name, rule, value in rules)
        return Finding(key, status, measured, text, count, total, values=values, thresholds=thresholds)

    @staticmethod
    def skip(key: str, why: str) -> Finding:
        """A question that cannot be answered, and why."""
        return Finding(key, "skipped", why)

    def names(self, where: np.ndarray, order: np.ndarray | None = None) -> tuple[str, ...]:
        """Ids at ``where``, the smallest of ``order`` first; equals by name, whatever the order of the corpus."""
        keys = np.zeros(where.size) if order is None else order
        ids = self.census.ids
        pairs = sorted((key, ids[k]) for key, k in zip(keys.tolist(), where.tolist(), strict=True))
        return tuple(name for _, name in pairs[:LISTED])

    # --- what several answers need ----------------------------------------------------------------------------

    @cached_property
    def main(self) -> dict[str, Any] | None:
        """Statistics of the mels that vary and have the usual number of bins; None without any."""
        found = self.census.statistics.values()
        if not found:
            return None
        dataset = max(found, key=lambda one: (one.n_utterances, one.n_mels))
        try:
            return dataset.result(floor=None if self.frontend is None else self.frontend.floor)
        except DataError:  # differences too small for a variance: as good as constant
            return None

    def groups(self, *kinds: str, least: int = 1) -> np.ndarray:
        """A number for each utterance's group: by all kinds together where at least ``least`` share it, else by fewer."""
        out = np.zeros(self.n, dtype=np.int64)
        for kind in kinds:
            codes = self.census.codes(kind) + 1
            _, finer = np.unique(out * (codes.max(initial=0) + 1) + codes, return_inverse=True)
            finer = finer.reshape(-1)
            large = np.bincount(finer)[finer] >= least if self.n else np.zeros(0, dtype=bool)
            out = np.where(large, finer + out.max(initial=0) + 1, out)
        return out

    @property
    def unit(self) -> str:
        """Of a mel value."""
        return self.frontend.unit if self.frontend is not None else "the mels' own unit"

    @property
    def no_mel(self) -> str:
        """Why there is no mel to look at."""
        if self.frontend is None and self.audio.any() and not self.stored.any():
            return "no mels: give --frontend, and they are made of the audio"
        return "no mel could be read"

    @property
    def no_audio(self) -> str:
        """Why there is no audio to look at."""
        return "the source holds mels, not audio" if self.stored.any() else "no audio could be read"

    @property
    def no_level(self) -> str:
        """Why there is no level to look at."""
        if self.stored.any() and not self.audio.any():
            if self.frontend is None:
                return "the unit of the mels is unknown: give --frontend"
            if self.frontend.utterance_norm is not None:
                return (
                    f"the front end normalises each utterance ({self.frontend.utterance_norm}), which hides its level"
                )
        return "nothing that varies could be read"


def of(count: int, among: int) -> str:
    """``3 of 60 (5 %)``."""
    return f"{count} of {among}" + (f" ({100.0 * count / among:.3g} %)" if count else "")


def measured_words(said: str, count: int, among: int, summary: str) -> str:
    """What a person needs; with none counted, the summary says more than a zero."""
    if count == 0:
        return f"none of {among}" if not summary else summary if said else f"none; {summary}"
    return f"{said}{': ' if said else ''}{of(count, among)}" + (f"; {summary}" if summary else "")


def spread(values: np.ndarray, unit: str, what: str = "", form: str = ".3g") -> str:
    """``0.3 to 10.1, median 4.2 s``, of the values that are not NaN; ``form`` formats each."""
    good = values[np.isfinite(values)]
    if good.size == 0:
        return ""
    low, middle, high = (format(float(format(f(good), form)) + 0.0, form) for f in (np.min, np.median, np.max))
    return f"{what}{low} to {high}, median {middle} {unit}"


def total(values: np.ndarray) -> float:
    """The sum of what is not NaN, rounded once: the same bits in whatever order."""
    return math.fsum(values[np.isfinite(values)].tolist())
