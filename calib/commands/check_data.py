"""``calib check data``: the batch census of a corpus, before anybody trains on it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from calib import __version__
from calib.commands import options as o
from calib.commands.opening import Opening
from calib.console import terminal
from calib.data.sources import Select, Source
from calib.mel.census import STATUSES, Census, Finding, Look, census_layout, judge
from calib.mel.census.findings import total
from calib.mel.census.questions import EARLY, QUESTIONS
from calib.mel.frontend import FrontEnd
from calib.run.engine import map_corpus, resolve_jobs

__all__ = ["CheckDataConfig", "DataCheck", "data", "render", "run"]

SCHEMA = "calib/data-check/1"
_LOOKS = (8, 32)  # utterances after which the gravest questions are asked for the first time
_SHOWN = 5  # ids a person is shown


@dataclass(frozen=True)
class CheckDataConfig:
    """What ``calib check data`` needs; see its options."""

    source: str
    frontend: FrontEnd | str | None = None
    columns: str | None = None
    audio_root: Path | None = None
    split: str | None = None
    layout: str | None = None
    limit: int | None = None
    jobs: int | None = None
    allow_skipped: float = 1.0
    select: Select = field(default_factory=Select)


@dataclass(frozen=True)
class DataCheck:
    """The result.

    Args:
        source: what was recognised, in one line.
        frontend: that mels were made with, or are said to be of.
        findings: one a question, the worst first.
        n_utterances: looked at.
        seconds: all of them together, in s; None where no length in s is known.
        options: those that can change the result.
    """

    source: str
    frontend: FrontEnd | None
    findings: tuple[Finding, ...]
    n_utterances: int
    seconds: float | None
    options: dict[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """How many findings of each status."""
        return {status: sum(finding.status == status for finding in self.findings) for status in STATUSES}

    @property
    def status(self) -> str:
        """``fail``, ``warn`` or ``pass``: that of the worst finding."""
        return next(status for status in ("fail", "warn", "pass") if self.counts[status] or status == "pass")

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        counts = self.counts
        tally = f"{counts['fail']} fail, {counts['warn']} warn, {counts['pass']} pass, {counts['skipped']} skipped"
        size = f"{self.n_utterances} utterance{'s' * (self.n_utterances != 1)}"
        size += "" if self.seconds is None else f", {self.seconds / 3600:.3f} h"
        said = {
            "fail": f"FAIL: do not train on this data: {self._worst('fail')}",
            "warn": f"WARN: no fault that forbids training, but look at {self._worst('warn')}",
            "pass": "PASS: nothing wrong was found by the checks that could be made",
        }[self.status]
        return f"{said}. {len(self.findings)} checks on {size}: {tally}"

    def _worst(self, status: str, most: int = 3) -> str:
        found = [finding for finding in self.findings if finding.status == status]
        words = [QUESTIONS[f.key].title + (f" ({f.count} of {f.total})" if f.count else "") for f in found[:most]]
        return ", ".join(words) + (f" and {len(found) - most} more" if len(found) > most else "")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "schema": SCHEMA,
            "verdict": {"status": self.status, "sentence": self.sentence, "counts": self.counts},
            "source": self.source,
            "n_utterances": self.n_utterances,
            "seconds": self.seconds,
            "frontend": None if self.frontend is None else self.frontend.fields(),
            "frontend_id": None if self.frontend is None else self.frontend.id,
            "findings": [finding.to_json() for finding in self.findings],
            "provenance": {"version": __version__, "options": self.options},
        }


def run(config: CheckDataConfig) -> DataCheck:
    """Look at every utterance of a corpus once.

    Raises:
        DataError: the source does not exist, is malformed, or names none of its files.
        UsageError: stored mels whose layout cannot be told.
    """
    frontend = None if config.frontend is None else FrontEnd.load(config.frontend)
    opening = Opening(config.source, config.columns, config.audio_root, config.split, config.limit, config.select)
    source = opening.announced()
    look = Look(frontend, census_layout(source, config.layout, None if frontend is None else frontend.n_mels))
    census = _take(source, look, config)
    lengths = census.column("seconds")
    return DataCheck(
        source.describe(),
        frontend,
        tuple(judge(census, frontend, allow_skipped=config.allow_skipped)),
        len(census),
        total(lengths) if (lengths > 0).any() else None,
        {
            "limit": config.limit,
            "split": config.split,
            "layout": config.layout,
            "allow_skipped_percent": config.allow_skipped,
            **config.select.provenance(),
        },
    )


def _take(source: Source, look: Look, config: CheckDataConfig) -> Census:
    """The census, with the gravest findings said as soon as the first utterances show them."""
    census = Census()
    items = iter(source)
    first = map_corpus(look, itertools.islice(items, _LOOKS[-1]), jobs=1)
    rest = map_corpus(look, items, jobs=resolve_jobs(config.jobs, source.expected))
    said: set[str] = set()
    with terminal.progress("check data", source.expected) as bar:
        for outcome in itertools.chain(first, rest):
            assert outcome.value is not None  # what cannot be read is a fact, not an error
            census.add(outcome.item, outcome.value)
            seconds = outcome.value.seconds
            bar.advance(0.0 if math.isnan(seconds) else seconds, skipped=bool(outcome.value.unreadable))
            if len(census) in _LOOKS and len(census) < source.expected:
                for finding in judge(census, look.frontend, allow_skipped=config.allow_skipped):
                    if finding.status == "fail" and finding.key in EARLY and finding.key not in said:
                        said.add(finding.key)
                        terminal.warning(
                            f"FAIL already in the first {len(census)} utterances: {QUESTIONS[finding.key].title}: {finding.measured} ({_who(finding)})"
                        )
    return census


def render(check: DataCheck) -> list[str]:
    """The result for a tired person: the verdict, what is wrong and what to do, then what is in order."""
    lines = [check.sentence + "."]
    for finding in check.findings:
        question = QUESTIONS[finding.key]
        if finding.status in {"fail", "warn"}:
            lines += [
                "",
                f"{finding.status.upper()}  {question.title}: {finding.measured}",
                *([f"      who:  {_who(finding)}"] if finding.ids else []),
                f"      rule: {finding.rule}",
                f"      why:  {question.why}",
                f"      next: {question.next}",
            ]
    lines.append("")
    lines += [f"pass  {what}" for what in _joined(check.findings, "pass")]
    return lines + [f"skipped  {what}" for what in _joined(check.findings, "skipped")]


def _brief(check: DataCheck) -> list[str]:
    wrong = [finding for finding in check.findings if finding.status in {"fail", "warn"}]
    return o.brief(
        check.sentence + ".",
        [f"{f.status.upper()}  {QUESTIONS[f.key].title}: {f.measured}" for f in wrong],
        [QUESTIONS[f.key].next for f in wrong],
    )


def _joined(findings: Sequence[Finding], status: str) -> list[str]:
    """What was measured, or why not: one line for all findings that say the same."""
    titles: dict[str, list[str]] = {}
    for finding in findings:
        if finding.status == status:
            titles.setdefault(finding.measured, []).append(QUESTIONS[finding.key].title)
    return [f"{', '.join(names)}: {measured}" for measured, names in titles.items()]


def _who(finding: Finding) -> str:
    """``a, b, c and 4 more``."""
    more = (finding.count or 0) - min(len(finding.ids), _SHOWN)
    return ", ".join(finding.ids[:_SHOWN]) + (f" and {more} more" if more else "")


def data(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="LJSpeech folder, filelist, Coqui CSV, Common Voice, JSONL, Kaldi, lhotse cuts, WebDataset tars, Parquet, folder of audio or of mels; local or a URL.",
            show_default=False,
        ),
    ],
    frontend: o.OptionalFrontEnd = None,
    columns: o.Columns = None,
    audio_root: o.AudioRoot = None,
    split: o.Split = None,
    speaker: o.Speakers = None,
    language: o.Languages = None,
    min_duration: o.MinDuration = None,
    max_duration: o.MaxDuration = None,
    layout: o.Layout = None,
    limit: o.Limit = None,
    jobs: o.Jobs = None,
    allow_skipped: o.AllowSkipped = 1.0,
    force: o.Force = False,
    fail_on: o.FailOn = "never",
    json_: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Is this data fit to train on? Zeros, broken files, padding, clipping, silence, copies, wrong units, texts that do not fit. Exits 0 on any verdict unless --fail-on."""
    o.set_level(quiet=quiet, verbose=verbose, json_target=json_, force=force, fail_on=fail_on)
    select = o.selection(speaker, language, min_duration, max_duration)
    check = run(
        CheckDataConfig(source, frontend, columns, audio_root, split, layout, limit, jobs, allow_skipped, select)
    )
    o.show(render(check), _brief(check))
    o.emit_json(json_, check.to_json(), force=force)
    o.gate(fail_on, check.status, check.sentence)
