"""The batch census: what each utterance of a corpus is, measured once, before anybody trains on it.

Data flow::

    Item --Look--> Facts --Census.add--> Census --calib.mel.census_rules.judge--> findings

Conventions:
    A number that was not measured (no audio, no text, no front end) is NaN, never zero. Levels are in dB of full
    scale, lengths in s or frames. A census holds about 300 bytes an utterance (a million: 300 MB) and no audio;
    nothing in it depends on the order or on the process that an utterance was measured in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from calib.data.arrays import array_shape, as_time_first, decide_layout, layout_candidates, load_array
from calib.data.audio import Audio, read_audio, read_channels
from calib.data.clip import Place
from calib.data.sources import Item
from calib.errors import DataError, UsageError
from calib.mel.dataset import DatasetStatistics
from calib.mel.frontend import FrontEnd
from calib.mel.statistics import UtteranceStatistics, measure

__all__ = [
    "SILENT_DB",
    "WINDOW",
    "Census",
    "Facts",
    "Look",
    "census_layout",
    "clipped_samples",
    "may_clip",
    "same_tail",
    "window_power",
]

SILENT_DB = 40.0  # dB below the loudest 10 ms of the utterance: what counts as silence at its ends
WINDOW = 0.01  # s
_SHAPES = 256  # files whose shapes decide the layout: one that differs later is a finding
_LSB = 1.5 / 32768  # samples this close to the peak are at it: 16 bits and their rounding
_CEILING, _RUN = 0.98, 3  # a run of three at full scale is clipping ...
_OWN_CEILING, _OWN_RUN = 0.25, 6  # ... and of six at a lower peak: clipped, then made quieter
_NAN = math.nan


@dataclass(frozen=True)
class Facts:
    """What one utterance is. NaN: not measured.

    Args:
        seconds: duration in s (stored mels: frames times hop, if there is a front end).
        speech: the same without silence at both ends.
        rate: sample rate of the file in Hz.
        channels: of the file.
        kept: RMS that the channels have when they are averaged, over that which the loudest of them alone would leave:
            1 with one channel in use, 2 with two alike, 0 where they are each other's negative. Without the DC.
        absmax: largest absolute value of the samples or of the stored mel; with both, the smaller.
        spread: largest minus smallest sample, or the largest difference of a frame from the first frame (of a single
            frame: between its bins); with both audio and mel, the smaller.
        peak: largest absolute sample, 1 is full scale.
        dc: mean sample.
        level: RMS of what is not silence at the ends, in dB of full scale (a mel's: in dB, without a fixed reference).
        clipped: samples in runs at the ceiling.
        samples: of the file (a channel).
        lead: silence at the start in s: quieter than `SILENT_DB` below the loudest 10 ms.
        trail: silence at the end in s.
        padding: share of the samples, or of the frames of a stored mel, that are an identical tail.
        nonfinite: NaN and infinite values.
        frames: of the mel, stored or made with the front end.
        bins: of the mel.
        low: smallest finite mel value.
        high: largest finite mel value.
        mean: of the finite mel values.
        sd: of the finite mel values.
        integral: 1 if every value of a stored mel is a whole number, else 0.
        letters: letters and digits of the text.
        stated: duration in s that the index states.
        content: 64-bit digest of samples or mel; 0 for what could not be read or holds one value only.
        unreadable: why a file of it could not be used; "" if all could.
        statistics: of the mel, for floor, dead bins and domain; None for what is not finite or constant.
    """

    seconds: float = _NAN
    speech: float = _NAN
    rate: float = _NAN
    channels: float = _NAN
    kept: float = _NAN
    absmax: float = _NAN
    spread: float = _NAN
    peak: float = _NAN
    dc: float = _NAN
    level: float = _NAN
    clipped: float = _NAN
    samples: float = _NAN
    lead: float = _NAN
    trail: float = _NAN
    padding: float = _NAN
    nonfinite: float = _NAN
    frames: float = _NAN
    bins: float = _NAN
    low: float = _NAN
    high: float = _NAN
    mean: float = _NAN
    sd: float = _NAN
    integral: float = _NAN
    letters: float = _NAN
    stated: float = _NAN
    content: int = 0
    unreadable: str = ""
    statistics: UtteranceStatistics | None = None


_COLUMNS = tuple(item.name for item in dataclasses.fields(Facts) if item.type == "float")


class Census:
    """The facts of many utterances, as columns; add them in the order of the corpus."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.reasons: dict[str, list[int]] = {}
        self.statistics: dict[int, DatasetStatistics] = {}
        self._columns = {name: array("d") for name in _COLUMNS}
        self._codes = {name: array("q") for name in ("content", "text", "speaker", "language")}
        self._names: dict[str, dict[str, int]] = {"speaker": {}, "language": {}}

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, item: Item, facts: Facts) -> None:
        """Add one utterance."""
        if facts.unreadable:
            self.reasons.setdefault(facts.unreadable, []).append(len(self.ids))
        self.ids.append(item.id)
        for name, column in self._columns.items():
            column.append(getattr(facts, name))
        self._codes["content"].append(facts.content)
        plain = " ".join(unicodedata.normalize("NFC", item.text).casefold().split())
        self._codes["text"].append(_digest(plain.encode("utf-8", "surrogatepass")) if plain else 0)
        for kind, named in (("speaker", item.speaker), ("language", item.language)):
            known = self._names[kind]
            self._codes[kind].append(-1 if named is None else known.setdefault(named, len(known)))
        if facts.statistics is not None:
            bins = facts.statistics.s1.size
            self.statistics.setdefault(bins, DatasetStatistics(bins)).add(facts.statistics)

    def column(self, name: str) -> np.ndarray:
        """One fact of every utterance, float64 ``(N,)``, NaN where it was not measured."""
        return np.array(self._columns[name], dtype=np.float64)

    def codes(self, name: str) -> np.ndarray:
        """``content`` and ``text``: 64-bit digests, 0 for none; ``speaker`` and ``language``: numbers, -1 for none."""
        return np.array(self._codes[name], dtype=np.int64)

    def names(self, kind: str) -> list[str]:
        """The ``speaker`` or ``language`` names, in the order of their numbers."""
        return list(self._names[kind])


@dataclass(frozen=True)
class Look:
    """Picklable: an item to its facts. What cannot be read is a fact too; nothing is raised for it.

    Args:
        frontend: makes mels of audio, or says what stored mels are; None: neither.
        layout: of stored mels, ``TM`` or ``MT``.
    """

    frontend: FrontEnd | None
    layout: str = "TM"

    def __call__(self, item: Item) -> Facts:
        """Measure one item."""
        facts = Facts(
            letters=float(sum(char.isalnum() for char in item.text)),
            stated=_NAN if item.duration is None else item.duration,
        )
        if item.audio is None and item.mel is None:
            return dataclasses.replace(facts, unreadable="the index names neither audio nor a mel")
        if item.audio is not None:
            try:
                facts = self._audio(facts, item.audio, with_mel=item.mel is None)
            except DataError as error:
                facts = _unusable(facts, error, item.audio)
        if item.mel is not None:
            try:
                mel = as_time_first(load_array(item.mel), self.layout)
            except DataError as error:
                return _unusable(facts, error, item.mel)
            facts = self._mel(self._stored(facts, mel), mel, item.speaker)
        elif facts.statistics is not None:
            facts = dataclasses.replace(facts, statistics=dataclasses.replace(facts.statistics, speaker=item.speaker))
        return facts

    def _audio(self, facts: Facts, path: Place, *, with_mel: bool) -> Facts:
        try:
            audio = read_audio(path)
        except DataError:
            bad = _nonfinite_samples(path)
            if not bad:
                raise
            return dataclasses.replace(facts, nonfinite=float(bad))
        facts = _audio_facts(facts, audio, path)
        if self.frontend is None or not with_mel:
            return facts
        rate = self.frontend.sample_rate
        samples = audio.samples if audio.sample_rate == rate else read_audio(path, rate).samples
        try:
            mel = self.frontend.mel(samples)
        except DataError as error:
            return _unusable(facts, error, path)
        return self._mel(facts, mel, None)

    def _stored(self, facts: Facts, mel: np.ndarray) -> Facts:
        """What is only asked of a stored mel: a mel made from audio has these from the audio."""
        finite = mel[np.isfinite(mel)]
        first = mel[:1] if len(mel) > 1 else mel[:, :1]
        with np.errstate(over="ignore", invalid="ignore"):
            spread = float(np.max(np.abs(mel - first))) if finite.size == mel.size else _NAN
        absmax = float(np.max(np.abs(finite))) if finite.size else _NAN
        tail = same_tail(mel)
        facts = dataclasses.replace(
            facts,
            absmax=_smaller(facts.absmax, absmax),
            spread=_smaller(facts.spread, spread),
            padding=max(tail / len(mel), 0.0 if math.isnan(facts.padding) else facts.padding),
            integral=float(finite.size > 0 and bool((finite == np.rint(finite)).all())),
            content=facts.content or (_digest(mel.tobytes()) if spread > 0 else 0),
        )
        fe = self.frontend
        if fe is None or not math.isnan(facts.seconds):
            return facts
        hop = fe.hop_length / fe.sample_rate
        facts = dataclasses.replace(facts, seconds=len(mel) * hop)
        if not spread > 0 or mel.shape[1] != fe.n_mels or fe.utterance_norm is not None:
            return facts
        linear = fe.to_linear(mel)
        power = (linear if fe.power == 2 else linear**2).sum(axis=1)
        return _with_ends(facts, power, np.full(len(mel), hop))

    def _mel(self, facts: Facts, mel: np.ndarray, speaker: str | None) -> Facts:
        finite = mel[np.isfinite(mel)].astype(np.float64)
        bad = mel.size - finite.size
        varied = finite.size == mel.size and finite.size > 0 and float(finite.max()) > float(finite.min())
        floor = None if self.frontend is None else self.frontend.floor
        return dataclasses.replace(
            facts,
            frames=float(len(mel)),
            bins=float(mel.shape[1]),
            nonfinite=float(bad) + (0.0 if math.isnan(facts.nonfinite) else facts.nonfinite),
            low=float(finite.min()) if finite.size else _NAN,
            high=float(finite.max()) if finite.size else _NAN,
            mean=float(finite.mean()) if finite.size else _NAN,
            sd=float(finite.std()) if finite.size else _NAN,
            statistics=measure(mel, floor=floor, speaker=speaker) if varied else None,
        )


def _unusable(facts: Facts, error: DataError, path: Place) -> Facts:
    """The facts with the reason, which names no path, so that it can stand in a result file."""
    reason = error.message
    for form in (f"{path}: ", str(path)):
        reason = reason.replace(form, "" if form.endswith(": ") else path.name)
    return dataclasses.replace(facts, unreadable="; ".join(filter(None, (facts.unreadable, reason))))


def _audio_facts(facts: Facts, audio: Audio, path: Place) -> Facts:
    x = audio.samples.astype(np.float64)
    dc = float(x.mean())
    spread = float(x.max() - x.min())
    power, lengths = window_power(x, dc, audio.sample_rate)
    sound = np.flatnonzero(x)
    tail = len(x) - 1 - int(sound[-1]) if sound.size else len(x)
    stored = audio.samples.reshape(-1, 1) if audio.channels == 1 else read_channels(path)
    facts = dataclasses.replace(
        facts,
        seconds=audio.seconds,
        rate=float(audio.source_rate),
        channels=float(audio.channels),
        kept=_kept(x, stored),
        absmax=float(np.abs(x).max()),
        spread=spread,
        peak=audio.peak,
        dc=dc,
        clipped=float(clipped_samples(stored)),
        samples=float(len(x)),
        padding=tail / len(x),
        nonfinite=0.0,
        content=_digest(audio.samples.tobytes()) if spread > 0 else 0,
    )
    return _with_ends(facts, power, lengths / audio.sample_rate) if spread > 0 else facts


def window_power(x: np.ndarray, dc: float, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean squares of `WINDOW` s about ``dc``, ``(W,)``, and the samples in each, ``(W,)``; the last may be shorter."""
    starts = np.arange(0, len(x), max(1, round(WINDOW * rate)))
    lengths = np.diff(np.append(starts, len(x)))
    return np.add.reduceat((x - dc) ** 2, starts) / lengths, lengths


def _kept(mixed: np.ndarray, channels: np.ndarray) -> float:
    """See `Facts.kept`; NaN for one channel, or where no channel varies."""
    count = channels.shape[1]
    loudest = float(channels.std(axis=0, dtype=np.float64).max())
    return float(mixed.std()) * count / loudest if count > 1 and loudest > 0 else _NAN


def _with_ends(facts: Facts, power: np.ndarray, seconds: np.ndarray) -> Facts:
    """The facts with the silence at both ends, the rest in s, and the level of the rest.

    Args:
        facts: the others.
        power: mean square of each window or frame, ``(W,)``.
        seconds: its duration, ``(W,)``.
    """
    if not power.max() > 0:
        return facts
    loud = np.flatnonzero(power > power.max() * 10 ** (-SILENT_DB / 10))
    first, stop = int(loud[0]), int(loud[-1]) + 1
    speech = float(seconds[first:stop].sum())
    return dataclasses.replace(
        facts,
        lead=float(seconds[:first].sum()),
        trail=float(seconds[stop:].sum()),
        speech=speech,
        level=10.0 * math.log10(float((power[first:stop] * seconds[first:stop]).sum()) / speech),
    )


def _smaller(first: float, second: float) -> float:
    """The smaller of two numbers, of which the first may be NaN."""
    return second if math.isnan(first) else min(first, second)


def clipped_samples(samples: np.ndarray) -> int:
    """Samples in runs at the ceiling: three or more at full scale, six or more at a lower peak that is still loud.

    Runs are looked for at the largest absolute value of each channel, separately above and below zero. A rounded
    16-bit peak of natural speech stays there for one or two samples.

    Args:
        samples: ``(L,)`` or ``(L, channels)``.
    """
    total = 0
    for channel in samples.reshape(len(samples), -1).T:
        peak = float(np.abs(channel).max())
        need = _RUN if peak >= _CEILING else _OWN_RUN if peak >= _OWN_CEILING else 0
        if not need:
            continue
        for side in (channel, -channel):
            at = np.concatenate([[False], side >= peak * (1.0 - _LSB), [False]])
            edges = np.flatnonzero(at[1:] != at[:-1])
            runs = edges[1::2] - edges[::2]
            total += int(runs[runs >= need].sum())
    return total


def may_clip(samples: np.ndarray, low: float, high: float) -> bool:
    """Whether `clipped_samples` can find any: False, soon, where too few samples are near the peak for a run.

    Args:
        samples: ``(L, channels)``, float32 or int16.
        low: the smallest of them, 1 is full scale.
        high: the largest.
    """
    peak = max(high, -low)
    if peak < _OWN_CEILING:
        return False
    if samples.shape[1] > 1:
        return True  # each channel has its own peak
    need = _RUN if peak >= _CEILING else _OWN_RUN
    limit = peak * (1.0 - _LSB)
    edge = samples.dtype.type(math.floor(limit * 32768.0) if samples.dtype == np.int16 else limit)
    above = high >= limit and int(np.count_nonzero(samples >= edge)) >= need
    return above or (-low >= limit and int(np.count_nonzero(samples <= -edge)) >= need)


def same_tail(mel: np.ndarray) -> int:
    """How many frames before the last are identical to it."""
    differs = np.flatnonzero((mel != mel[-1]).any(axis=1))
    return len(mel) - 1 - (int(differs[-1]) + 1 if differs.size else 0)


def _nonfinite_samples(path: Place) -> int:
    """NaN and infinite samples of a file that could not be used; 0 if it cannot be read at all."""
    with contextlib.suppress(DataError):
        data = read_channels(path)
        return int(data.size - np.count_nonzero(np.isfinite(data)))
    return 0


def _digest(data: bytes) -> int:
    """A signed 64-bit digest that is not 0."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True) or 1


def census_layout(items: Iterable[Item], layout: str | None, n_mels: int | None) -> str:
    """Which axis of the stored mels is time, from the first files; a few that differ do not stop it.

    The strict rule of `decide_layout` first. If the shapes break it, the axis on which most files agree on a usual
    mel count, if that is one axis only: the others are then a finding. "TM" if no mel is stored.

    Args:
        items: the corpus.
        layout: the user's word, which is final.
        n_mels: of the front end, if there is one.

    Raises:
        UsageError: the shapes do not decide.
    """
    shapes = []
    for item in islice(items, _SHAPES):
        if item.mel is not None:
            with contextlib.suppress(DataError):  # counted and named when it is read
                shapes.append(array_shape(item.mel)[-2:])
    if layout is not None or not shapes:
        return decide_layout(shapes, layout or "TM")
    try:
        return decide_layout(shapes, n_mels=n_mels)
    except UsageError:
        found = set()
        for name, axis in (("TM", 1), ("MT", 0)):
            size, count = Counter(shape[axis] for shape in shapes).most_common(1)[0]
            if count > len(shapes) / 2 and (size == n_mels or layout_candidates([(size, size)])[0]):
                found.add(name)
        if len(found) != 1:
            raise
        return found.pop()
