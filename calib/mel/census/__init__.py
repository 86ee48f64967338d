"""The batch census: what each utterance of a corpus is, and what that means, before anybody trains on it.

Data flow::

    Item --facts.Look--> Facts --facts.Census.add--> Census --judge--> one Finding a question, the worst first

:mod:`facts <calib.mel.census.facts>` measures; :mod:`questions <calib.mel.census.questions>` holds every question in
words, in order of gravity; :mod:`broken <calib.mel.census.broken>`, :mod:`sound <calib.mel.census.sound>`,
:mod:`units <calib.mel.census.units>` and :mod:`texts <calib.mel.census.texts>` answer them with the numbers;
:mod:`findings <calib.mel.census.findings>` is what an answer is.
"""

from __future__ import annotations

from calib.mel.census import broken, sound, texts, units
from calib.mel.census.facts import Census, Facts, Look, census_layout
from calib.mel.census.findings import STATUSES, Finding, View
from calib.mel.census.questions import IN_UNIT, QUESTIONS
from calib.mel.frontend import FrontEnd

__all__ = ["STATUSES", "Census", "Facts", "Finding", "Look", "census_layout", "judge"]

_ANSWERS = {**broken.ANSWERS, **units.ANSWERS, **sound.ANSWERS, **texts.ANSWERS}


def judge(census: Census, frontend: FrontEnd | None = None, *, allow_skipped: float = 1.0) -> list[Finding]:
    """A finding for every question, the worst first; equals in the order of the questions.

    Args:
        census: the corpus.
        frontend: that its mels were made with, or are to be.
        allow_skipped: percent of utterances that may be unusable.
    """
    view = View(census, frontend, allow_skipped)
    found = {key: _ANSWERS[key](view) for key in QUESTIONS}
    if found["domain"].status == "fail" and frontend is not None and not view.audio.any():
        reason = "the mels are not in the front end's unit"
        found |= {key: view.skip(key, reason) for key in IN_UNIT if found[key].status != "skipped"}
    return sorted(found.values(), key=lambda finding: STATUSES.index(finding.status))
