"""The third leg of a diagnosis: what the vocoder wants, beside target and prediction.

Data flow::

    --vocoder-frontend | --vocoder --> Wanted
    PAIRS, recordings, Wanted --> T, P, V on one grid --> legs T-V, P-T, P-V, F-T --> blame --> Legs
                                                           names and conversions: calib.mel.identify, calib.mel.convert

Nothing is measured of V without audio: that the declared front ends differ is then said as declared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calib.commands.judge import Judgement
from calib.commands.legs_audio import Recorder, Rows, Ruler, calibration, grade_of_declarations
from calib.commands.legs_text import (
    by_front_end,
    how_far,
    in_kind,
    model_words,
    name_of,
    other_words,
    render_legs,
    slight_words,
    steps,
    target_sentence,
    what,
)
from calib.commands.plugins import VocoderConfig
from calib.data.audio import read_audio
from calib.diagnose.analysis import Diagnosis, UnusablePairError, analyze
from calib.diagnose.faults.evidence import Finding
from calib.diagnose.faults.library import FAULTS
from calib.diagnose.legs.blame import Words, blame
from calib.diagnose.legs.distance import GRADES, LIMITS, distance, grade
from calib.diagnose.legs.free import free_leg
from calib.diagnose.legs.place import Placed, on_grid, place
from calib.diagnose.legs.result import Declared, Difference, Identified, Leg, Legs, Lengths, skipped_leg
from calib.errors import DataError, PluginError, UsageError
from calib.mel.frontend import FrontEnd
from calib.mel.variants import Variants, bank_geometry

__all__ = ["Wanted", "legs", "render_legs", "wanted"]

_UTTERANCES, _FRAMES = 10, 4000  # that the legs are measured on
_RATE = 0.004  # relative difference of frame rates that is no rounding of lengths
_RATES, _PLACED = 0.04, 0.5  # r by which another frame rate must be better, and r that it must reach
_NAMED = 4.0  # s of audio that the targets are identified from
_ODD = 4  # frames by which a length may differ from what its audio makes
_FAINT = 0.35  # r of mels that belong together, in whatever unit and bank
_SPREAD = 0.3  # within-bin sd over sd of a mel that is no constant spectrum
_NO_AUDIO = "needs audio (--audio SOURCE)"
# Which two mels have nothing to do with each other.
_UNRELATED = {"text-ignored", "wrong-pairs", "untrained"}


@dataclass(frozen=True)
class Wanted:
    """What the vocoder wants.

    Args:
        frontend: its front end.
        spec: as it was said.
        origin: where that stands, for people.
    """

    frontend: FrontEnd
    spec: str
    origin: str

    @property
    def name(self) -> str:
        """For people: the catalogue's name, else as it was said."""
        return name_of(self.frontend, self.spec)


def wanted(spec: str | None, vocoder: VocoderConfig | None) -> Wanted | None:
    """What ``--vocoder-frontend`` or ``--vocoder`` says that the vocoder wants; None where neither is given.

    Raises:
        UsageError: both, an unknown front end, or no such vocoder.
        PluginError: the vocoder cannot be loaded, or declares a front end that cannot be used.
    """
    if spec is not None and vocoder is not None:
        raise UsageError(
            "--vocoder-frontend and --vocoder both say what the vocoder wants",
            hint="give one of them; the vocoder's own declaration needs no --vocoder-frontend",
        )
    if spec is not None:
        return Wanted(FrontEnd.load(spec), spec, "--vocoder-frontend")
    if vocoder is None:
        return None
    from calib.models.loading import load_vocoder, resolve_device

    device = resolve_device(vocoder.device)
    made = load_vocoder(vocoder.spec, vocoder.checkpoint, device, vocoder.options, python=vocoder.python)
    try:
        frontend = FrontEnd.load(made.frontend)
    except UsageError as error:
        raise PluginError(
            f"plug-in {vocoder.spec} declares a front end that cannot be used: {error.message}", hint=error.hint
        ) from error
    return Wanted(
        frontend, str(made.frontend) if isinstance(made.frontend, str) else "custom", f"declared by {vocoder.spec}"
    )


def legs(
    judgement: Judgement, want: Wanted, *, params: Path | None = None, stats: Path | None = None, name: bool = True
) -> Legs:
    """All legs of pairs that were judged, and whom to blame.

    Args:
        judgement: P against T, with the pairs and where their audio is; what the legs judge is no longer skipped there.
        want: what the vocoder wants.
        params: ``mel_scaling_params.json`` that inference applies to the predictions.
        stats: ``mel_normalization_stats.json``; None with ``params``: the one beside it.
        name: identify the targets' front end from the data, where they are not what the vocoder wants (some seconds).

    Raises:
        DataError: a parameter file cannot be used.
        UsageError: parameters without statistics.
    """
    from threadpoolctl import threadpool_limits

    if any(entry.free_running is not None for entry in judgement.pairs.entries):
        for fault in ("free running", *(f.id for f in FAULTS.values() if f.needs == "free-running")):
            judgement.diagnosis.skipped.pop(fault, None)  # a leg of its own now
    with threadpool_limits(1):  # the arrays are small: a second library thread only spins
        return _Measure(judgement, want, params, stats, name=name).run()


class _Measure:
    """The work behind `legs`."""

    def __init__(
        self, judgement: Judgement, want: Wanted, params: Path | None, stats: Path | None, *, name: bool
    ) -> None:
        self.judgement, self.want, self.name = judgement, want, name
        self.diagnosis, self.pairs = judgement.diagnosis, judgement.pairs
        self.repaired = params is not None
        self.calibrated = calibration(params, stats, self.diagnosis)
        self.recorded = Recorder(want.frontend, judgement.recordings)
        self.ruler = Ruler(want.frontend)
        self.skipped = _NO_AUDIO
        self.mels: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # index -> P, T
        self.lengths: Lengths | None = None
        self.rate = 1.0

    def run(self) -> Legs:
        """Measure, decide, say."""
        placed = self._placed()
        declared = self._declared(placed)
        tv = self._targets(placed)
        pt = self._model(tv)
        identified, known = self._identified(tv, declared, placed)
        if declared is not None and declared.verified is not False:
            known = self.judgement.frontend
        tv = by_front_end(tv, declared, identified, self.want.name)
        pv, ft = self._reaching(tv, pt, placed), self._free()
        fe = self.want.frontend
        apart = how_far(pv, sample_like=self.diagnosis.sample_like, level=tv.grade == "level")
        words = Words(
            targets=other_words(tv, declared, identified, fe, self.want.name, self.rate),
            model=model_words(self.diagnosis) if pt.status == "fail" else "",
            repaired=self.repaired,
            free=ft.sentence.removeprefix("free running is off: ") if ft.status == "fail" else "",
            slight=slight_words(tv, fe),
            apart=apart.words,
            far=apart.far,
        )
        said = blame(tv, pt, pv, words)
        out = Legs(
            said.who,
            said.headline,
            said.sentence,
            {leg.name: leg for leg in (tv, pt, pv, ft)},
            vocoder={"name": self.want.name, "origin": self.want.origin, "frontend_id": fe.id},
            declared=declared,
            identified=identified,
            conversion=self._conversion(said.who, known),
            lengths=self.lengths,
        )
        audio = any(path is not None for path in self.judgement.recordings)
        unsound = self.recorded.failed[0] if self.recorded.failed else None
        return dataclasses.replace(out, next_steps=tuple(steps(out, audio=audio, unsound=unsound)))

    # --- T, P and V on one grid ---------------------------------------------------------------------------------

    def _placed(self) -> list[Placed]:
        """Some utterances with audio, evenly from all of them, their targets on V's grid."""
        opened, paths = self.judgement.opened, self.judgement.recordings
        usable = {row.name for row in self.diagnosis.utterances}
        there = [k for k in range(len(opened)) if paths[k] is not None and (not usable or opened.name(k) in usable)]
        for index in _some(there):
            try:
                self.mels[index] = opened.arrays(index)
            except UnusablePairError:
                continue
            if sum(len(t) for _, t in self.mels.values()) >= _FRAMES:
                break
        if not there:
            return []
        self._measure_lengths()
        placed = self._place(list(self.mels), self.rate)
        if not placed:
            why = f": {self.recorded.failed[0]}" if self.recorded.failed else ""
            self.skipped = f"no utterance has usable audio{why}"
        self.ruler.learn([each.reference for each in placed])
        return placed

    def _place(self, indices: Sequence[int], rate: float) -> list[Placed]:
        fe = self.want.frontend
        return place([(k, self.mels[k][1]) for k in indices], self.recorded, fe.hop_length / fe.sample_rate, rate)

    def _measure_lengths(self) -> None:
        """Frames a second of the targets against V's, and utterances whose length contradicts their audio."""
        rows = []
        for index, (_, t) in self.mels.items():
            v = self.recorded(index, 0.0)
            if v is not None:
                rows.append((index, len(t), len(v)))
        if not rows:
            return
        own, fe = self.judgement.frontend, self.want.frontend
        rates = [float(np.median([t / v for _, t, v in rows]))]
        if own is not None:
            rates.append((own.sample_rate / own.hop_length) / (fe.sample_rate / fe.hop_length))
        if float(np.median([abs(t - v) for _, t, v in rows])) > 2:
            # Trimmed audio shortens mels as another hop does; where the frames lie tells which.
            some = [index for index, _, _ in rows[:2]]
            r = {
                rate: _mean_r(self._place(some, rate))
                for rate in [1.0, *rates]
                if abs(rate - 1.0) > _RATE or rate == 1.0
            }
            best = max(r, key=lambda rate: r[rate])
            self.rate = best if r[best] > max(r[1.0] + _RATES, _PLACED) else 1.0
        odd = tuple(
            f"{self.judgement.opened.name(index)} has {t} frames, and its audio makes {round(v * self.rate)}"
            for index, t, v in rows
            if abs(t - v * self.rate) > max(_ODD, 0.01 * v)
        )
        self.lengths = Lengths(self.rate, 100.0 * (1.0 / self.rate - 1.0), odd)

    # --- the legs -----------------------------------------------------------------------------------------------

    def _targets(self, placed: list[Placed]) -> Leg:
        """T against V, strictly, with the faults that name what differs."""
        if not placed:
            return skipped_leg("T-V", self.skipped)
        fe, bins = self.want.frontend, self.pairs.n_mels
        leg = Leg("T-V", "fail", n_utterances=len(placed), n_frames=sum(len(each.mel) for each in placed), judgement="")
        leg = dataclasses.replace(
            leg, r_w=_mean_r(placed), numbers={"offset_ms": 1000.0 * _offset(placed)}, grade="other"
        )
        if bins != fe.n_mels:
            sentence = f"the targets have {bins} mel bins, the vocoder wants {fe.n_mels}"
            return dataclasses.replace(leg, judgement=f"{bins} bins, not {fe.n_mels}", sentence=sentence)
        d = distance([(each.mel, each.reference) for each in placed], self.ruler.hear)
        found = self._analyzed(placed, [each.mel for each in placed], kind=None, autoregressive=False)
        named = {f.fault for f in found.faults}
        grade_ = "other" if self.rate != 1.0 else grade(d)
        # The best of all lags lifts r a little, so unrelated mels may pass for related ones that are off somehow.
        allowed = _UNRELATED | {"unknown"} | ({"collapsed"} if _moves(placed) else set())
        faint = abs(leg.r_w or 0.0) < _FAINT and named <= allowed
        if grade_ == "other" and (faint or named & _UNRELATED) and found.verdict.state != "healthy":
            grade_, self.rate = "unrelated", 1.0
        numbers = leg.numbers | {
            "level_db": d.level_db, "level_spread_db": d.level_spread_db, "after_level_db": d.left_db, "clear_db": d.clear_db,
            "map_slope": d.map[0], "map_intercept": d.map[1], "after_map_db": d.map_db, "audible_after_map_db": d.mapped_db, "after_bin_map_db": d.bins_db,
        }  # fmt: skip
        leg = dataclasses.replace(
            leg, status={"identical": "pass", "guards": "pass", "slight": "warn", "level": "warn"}.get(grade_, "fail"),
            judgement=GRADES[grade_] if self.rate == 1.0 else "another hop", grade=grade_, bias=d.bias, slope=d.slope, r_w=d.r_w,
            mae=d.mae, mae_db=d.error_db, numbers=numbers,
            findings=() if grade_ in {"identical", "guards"} or self.rate != 1.0 else _of_mels(found.faults),
        )  # fmt: skip
        return dataclasses.replace(leg, sentence=target_sentence(leg, d, fe))

    def _model(self, tv: Leg) -> Leg:
        """P against T: the diagnosis as a leg; in dB where a front end says what a mel unit is."""
        d = self.diagnosis
        if not d.rows:
            return skipped_leg("P-T", d.verdict.sentence)
        ruler = self.ruler if tv.grade in {"identical", "guards", "slight", "level"} else None
        if (
            ruler is None
            and self.judgement.frontend is not None
            and self.judgement.frontend.n_mels == self.pairs.n_mels
        ):
            ruler = Ruler(self.judgement.frontend)
        both = [(self._stored(p), t) for p, t in (self.mels or self._loaded(range(len(self.pairs)))).values()]
        s = d.summary
        bad = d.verdict.state != "healthy" or d.status == "fail"
        return Leg(
            "P-T", "fail" if bad else "warn" if d.faults else "pass", d.verdict.state, d.verdict.sentence,
            n_utterances=d.n_utterances, n_frames=d.n_frames, bias=s["prediction_mean"] - s["target_mean"],
            slope=s["r_w"] / s["s_w_ratio"] if s["s_w_ratio"] > 0 else 0.0, r_w=s["r_w"], mae=d.row("before").mae,
            mae_db=None if ruler is None or not both else _error_db(both, ruler), findings=tuple(d.faults),
        )  # fmt: skip

    def _reaching(self, tv: Leg, pt: Leg, placed: list[Placed]) -> Leg:
        """What reaches the vocoder against V: P after the calibration, which by itself is as good as P-T and T-V are."""
        if not placed:
            return skipped_leg("P-V", self.skipped)
        if tv.grade == "unrelated":
            return skipped_leg("P-V", "the recordings are not those of the targets")
        fe, bins = self.want.frontend, self.pairs.n_mels
        leg = Leg("P-V", "fail", "", n_utterances=len(placed), n_frames=sum(len(each.mel) for each in placed))
        if bins != fe.n_mels:
            sentence = f"the predictions have {bins} mel bins, the vocoder wants {fe.n_mels}"
            return dataclasses.replace(leg, judgement=f"{bins} bins, not {fe.n_mels}", sentence=sentence)
        arrays = []
        for each in placed:
            p = on_grid(self.calibrated(self.mels[each.index][0]), self.rate)
            arrays.append(np.asarray(p[each.skipped :][: len(each.reference)], dtype=np.float32))
        if not all(np.isfinite(p).all() for p in arrays):
            return dataclasses.replace(leg, judgement="NaN", sentence="the predictions hold NaN or infinite values")
        d = distance([(p, each.reference) for p, each in zip(arrays, placed, strict=True)], self.ruler.hear)
        leg = dataclasses.replace(
            leg, bias=d.bias, slope=d.slope, r_w=d.r_w, mae=d.mae, mae_db=d.error_db,
            numbers={"level_db": d.level_db, "after_level_db": d.left_db, "after_map_db": d.map_db, "static_db": self._static_db(placed)},
        )  # fmt: skip
        follows = not self.repaired and pt.status != "fail"
        if follows and tv.status != "fail":  # at the targets' level, say
            kind = "as wanted" if tv.grade == "identical" else f"as T: {tv.judgement}"
            apart = how_far(leg, sample_like=self.diagnosis.sample_like, level=tv.grade == "level")
            status = "warn" if apart.far and pt.status == "pass" else pt.status
            said = f"the predictions are what the vocoder wants{in_kind(apart)}"
            return dataclasses.replace(
                leg, status=status, judgement=kind + apart.short, sentence=said, findings=pt.findings
            )
        header = self.judgement.header
        found = self._analyzed(
            placed, arrays, kind=header.get("model_kind"), autoregressive=header.get("autoregressive"), named=not follows
        )  # fmt: skip
        good = found.verdict.state == "healthy" and found.status != "fail" and self.rate == 1.0
        unwanted = "they follow targets that are not" if follows and self.rate == 1.0 else self._unwanted(found)
        apart = how_far(leg, sample_like=found.sample_like)
        sentence = f"what the vocoder wants{in_kind(apart)}" if good else f"not what the vocoder wants: {unwanted}"
        return dataclasses.replace(
            leg, status="fail" if not good else "warn" if found.faults or apart.far else "pass",
            judgement=f"as wanted{apart.short}" if good else "not as wanted",
            sentence=f"{'after the calibration ' if self.repaired else ''}the predictions are {sentence}",
            findings=() if follows else tuple(found.faults),
        )  # fmt: skip

    def _static_db(self, placed: Sequence[Placed]) -> float:
        """What the mean spectrum of V in every frame is off: the yardstick of a mel that holds no speech."""
        mean = np.concatenate([each.reference for each in placed]).mean(0, dtype=np.float64).astype(np.float32)
        pairs = [(np.broadcast_to(mean, each.reference.shape), each.reference) for each in placed]
        return distance(pairs, self.ruler.hear).error_db

    def _unwanted(self, found: Diagnosis) -> str:
        """What predictions are that the vocoder does not want."""
        if self.rate != 1.0:
            return "they have another frame rate"
        if found.faults:
            return f"they are {what(found.faults)}"
        return found.verdict.sentence

    def _analyzed(
        self,
        placed: list[Placed],
        arrays: Sequence[np.ndarray],
        *,
        kind: str | None,
        autoregressive: bool | None,
        named: bool = True,
    ) -> Diagnosis:
        """The fault machinery with V in the role of the target and its audio, which is only needed where faults are named."""
        fe = self.recorded.flat
        seconds = fe.hop_length / fe.sample_rate
        audio = [self.recorded.samples(each.index, each.start + each.skipped * seconds) for each in placed]
        rows = [(a, each.reference[: len(a)]) for a, each in zip(arrays, placed, strict=True)]
        return analyze(
            Rows([self.judgement.opened.name(each.index) for each in placed], rows),
            stats_origin="the vocoder's mels",
            kind=kind,
            autoregressive=autoregressive,
            bank=bank_geometry(fe, fe.n_mels),
            recomputed=Variants(fe, audio.__getitem__) if named else None,
            frame_seconds=seconds,
        )

    def _free(self) -> Leg:
        """F against T, on a few utterances."""
        there = [k for k, entry in enumerate(self.pairs.entries) if entry.free_running is not None]
        if not there:
            return skipped_leg("F-T", "no free-running mels (calib teacher-force --free-running)")
        both = []
        for index, (_, target) in self._loaded(there).items():
            try:
                free = self.pairs.load_free_running(self.pairs.entries[index])
            except DataError:
                continue
            if free is not None:
                both.append((self._stored(free), target))
        return free_leg(both) if both else skipped_leg("F-T", "no free-running mel can be read beside its target")

    def _loaded(self, indices: Sequence[int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Some of these pairs."""
        out = {}
        for index in _some(indices):
            try:
                out[index] = self.judgement.opened.arrays(index)
            except UnusablePairError:
                continue
        return out

    def _stored(self, p: np.ndarray) -> np.ndarray:
        """A prediction as the diagnosis judges it: denormalised where it is declared to be normalised."""
        d = self.diagnosis
        if d.output_space != "normalized":
            return p
        return np.asarray(p * d.mel_std + d.mel_mean, dtype=np.float32)

    # --- names and ways -----------------------------------------------------------------------------------------

    def _declared(self, placed: list[Placed]) -> Declared | None:
        """What the pairs say of their targets, whether the audio agrees, and how it differs from the vocoder's."""
        own = self.judgement.frontend
        if own is None:
            return None
        said = Declared(
            name_of(own, "the declared front end"), differences=tuple(_differences(own, self.want.frontend))
        )
        if not placed:
            harmless = bool(said.differences) and grade_of_declarations(own, self.want.frontend) != "other"
            return dataclasses.replace(said, harmless=harmless)
        if own.n_mels != self.pairs.n_mels:
            return dataclasses.replace(said, verified=False)
        recorder, ruler = Recorder(own, self.judgement.recordings), Ruler(own)
        targets = [(each.index, self.mels[each.index][1]) for each in placed[:4]]
        there = place(targets, recorder, own.hop_length / own.sample_rate)
        if not there:
            return said
        ruler.learn([each.reference for each in there])
        d = distance([(each.mel, each.reference) for each in there], ruler.hear)
        good = (
            grade(d) in {"identical", "guards", "level"}
            and abs(_offset(there)) < 0.25 * own.hop_length / own.sample_rate
        )
        return dataclasses.replace(said, verified=good, error_db=d.error_db)

    def _identified(
        self, tv: Leg, declared: Declared | None, placed: list[Placed]
    ) -> tuple[Identified | None, FrontEnd | None]:
        """What the data say of the targets' front end, where nothing declared explains them; and the front end.

        Targets that the vocoder takes are not asked about: identification takes some two seconds of CPU time.
        """
        if (
            not self.name
            or tv.status != "fail"
            or tv.grade == "unrelated"
            or (declared is not None and declared.verified)
        ):
            return None, None
        from calib.mel.identify import Clip, identify

        clips: list[Clip] = []
        for each in placed:
            if sum(len(clip.samples) / clip.sample_rate for clip in clips) >= _NAMED:
                break
            path = self.judgement.recordings[each.index]
            if path is not None:
                audio = read_audio(path)
                name = self.judgement.opened.name(each.index)
                clips.append(Clip(name, audio.samples, audio.sample_rate, self.mels[each.index][1]))
        found = identify(clips)
        if found.status not in {"named", "described"} or found.frontend is None:
            return None, None
        proven = found.error_db is not None and found.error_db <= LIMITS.exact
        differences = tuple(_differences(found.frontend, self.want.frontend))
        return Identified(found.names, found.nearest, found.error_db, proven, differences), found.frontend

    def _conversion(self, who: str, own: FrontEnd | None) -> dict[str, Any] | None:
        """Whether and how the targets' kind of mel becomes the vocoder's; None where there is nothing to convert or to tell."""
        if own is None or who not in {"front-end", "both", "targets"}:
            return None
        from calib.mel.convert import plan

        audio = any(path is not None for path in self.judgement.recordings)
        made = plan(own, self.want.frontend, audio=audio, pairs=True)
        command = f"calib convert {self.pairs.root} -o DIR --from {name_of(own, 'FRONTEND.yaml')} --to {self.want.name}{' --audio SOURCE' if made.how == 'fitted' else ''}"
        return {
            "how": made.how,
            "why": made.why,
            "expected_db": made.expected_db,
            "lost": [loss.words for loss in made.losses],
            "command": command,
        }


def _of_mels(faults: Sequence[Finding]) -> tuple[Finding, ...]:
    """What can be wrong with mels that no model made: without the texture of predictions, where there is more to say."""
    own = tuple(f for f in faults if f.entry.stage != "model")
    return own or tuple(faults)


def _some(indices: Sequence[int]) -> list[int]:
    """As many as are looked at, evenly from all of them."""
    if not indices:
        return []
    places = np.unique(np.linspace(0, len(indices) - 1, min(_UTTERANCES, len(indices))).round().astype(int))
    return [indices[int(k)] for k in places]


def _mean_r(placed: Sequence[Placed]) -> float:
    return abs(float(np.mean([each.r for each in placed]))) if placed else -1.0


def _moves(placed: Sequence[Placed]) -> bool:
    """Whether the mels vary over time as speech does, in whatever unit: small beside V is not yet collapsed."""
    mels = np.concatenate([each.mel for each in placed]).astype(np.float64)
    return float((mels - mels.mean(0)).std()) > _SPREAD * float(mels.std())


def _offset(placed: Sequence[Placed]) -> float:
    """Seconds by which all mels begin later than the reference's; 0 where each begins somewhere else (trimmed)."""
    starts = np.array([each.start for each in placed])
    return float(np.median(starts)) if starts.size and float(np.ptp(starts)) < 5e-3 else 0.0


def _error_db(both: Sequence[tuple[np.ndarray, np.ndarray]], ruler: Ruler) -> float:
    ruler.learn([t for _, t in both])
    return distance(both, ruler.hear).error_db


def _differences(own: FrontEnd, want: FrontEnd) -> list[Difference]:
    """Fields that differ, in words and with what they do to the sound."""
    from calib.mel.wording import explain_differences

    return [(d.field, d.a, d.b, d.words, d.effect) for d in explain_differences(own, want)]
