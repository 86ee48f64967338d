"""``calib check vocoder``: copy synthesis of natural mels. Is it the vocoder that one hears?

Data flow: recordings -> mels in the vocoder's front end -> vocoder, Griffin-Lim -> `measure` -> where the copy is bad:
other domains, rates and speeds -> `decide`.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from calib.commands import options as o
from calib.commands.opening import Opening
from calib.commands.plugins import VocoderConfig
from calib.console import table, terminal
from calib.data.audio import read_audio, resample, write_wav
from calib.data.files import ensure_writable
from calib.data.remote import is_url
from calib.data.sources import Item
from calib.data.sources.spread import spread_over
from calib.errors import CalibError, DataError, PluginError, UsageError
from calib.mel.frontend import FrontEnd
from calib.vocoders.check.measure import Copy, likeness, measure
from calib.vocoders.check.verdict import LIMITS, Heard, Tried, VocoderVerdict, decide, reference

__all__ = ["Result", "VocoderCheckConfig", "render", "run"]

_REFERENCE = "griffin-lim"
_CLIPS = 4
_FARTHEST, _REMOTE = 20_000, 64  # recordings of a source among which the clips are chosen; of one behind a URL
_LONGEST, _SEARCHED = 6.0, 1.5  # seconds of a clip; of the clip that other domains are tried on
_LEAST = 0.5  # s
_PATIENCE = 90.0  # s that trying other domains may take
_LISTED = 5
_PREPARED = ("trim_top_db", "rms_norm", "peak_norm", "clip_audio", "pad_audio")


@dataclass(frozen=True)
class VocoderCheckConfig:
    """What is checked; see the options of ``calib check vocoder``."""

    source: str
    vocoder: VocoderConfig = field(default_factory=VocoderConfig)
    frontend: str | None = None
    limit: int | None = None
    output: Path | None = None
    columns: str | None = None
    audio_root: Path | None = None
    split: str | None = None
    force: bool = False


@dataclass(frozen=True)
class Row:
    """One clip through one vocoder."""

    clip: str
    who: str
    copy: Copy


@dataclass(frozen=True)
class Result:
    """What was found.

    Args:
        verdict: the answer.
        vocoder: its spec.
        frontend: the declared front end, by name or ``custom``.
        declared: who declared it.
        rows: a clip and vocoder each.
        heard: all that the verdict was made from.
        skipped: what was not done, and why.
        notes: what was noticed.
        written: WAV files.
    """

    verdict: VocoderVerdict
    vocoder: str
    frontend: FrontEnd
    declared: str
    rows: list[Row]
    heard: Heard
    skipped: dict[str, str]
    notes: list[str]
    written: list[Path]

    def to_json(self) -> dict[str, Any]:
        """Plain values: schema ``calib/vocoder-check/1``."""
        relabelled = self.heard.relabelled
        return {
            "schema": "calib/vocoder-check/1",
            "verdict": self.verdict.to_json(),
            "status": self.verdict.status,
            "vocoder": self.vocoder,
            "frontend": {"name": self.frontend.name, "id": self.frontend.id, "declared_by": self.declared},
            "rows": [{"clip": row.clip, "vocoder": row.who, **dataclasses.asdict(row.copy)} for row in self.rows],
            "change": self.heard.change,
            "own_change": self.heard.own_change,
            "put_right": None if relabelled is None else dict(zip(("lsd_db", "r", "what"), relabelled, strict=True)),
            "domains": [dataclasses.asdict(tried) for tried in self.heard.domains],
            "errors": list(self.heard.errors),
            "skipped": self.skipped,
            "notes": self.notes,
            "written": [str(path) for path in self.written],
        }


def run(config: VocoderCheckConfig) -> Result:
    """Load, synthesise, measure, decide.

    Raises:
        UsageError: no such vocoder or front end, or an output that exists.
        DataError: no recording can be used.
        PluginError: the vocoder cannot be loaded.
    """
    from threadpoolctl import threadpool_limits

    # The mels' products are small: a second BLAS thread only waits (10 times as long as it works on a busy machine).
    # A vocoder in torch has threads of its own.
    with threadpool_limits(1, user_api="blas"):
        return _Check(config).run()


class _Check:
    """The work behind `run`."""

    def __init__(self, config: VocoderCheckConfig) -> None:
        from calib.models.loading import load_vocoder, resolve_device

        self.config = config
        spec, options = config.vocoder.spec, dict(config.vocoder.options)
        if spec == _REFERENCE and config.frontend is not None:
            options.setdefault("frontend", FrontEnd.load(config.frontend))
        device = resolve_device(config.vocoder.device)
        self.vocoder = load_vocoder(spec, config.vocoder.checkpoint, device, options, python=config.vocoder.python)
        self.declared = f"declared by {spec}" if config.frontend is None else "--frontend"
        self.whole = self._frontend(self.vocoder.frontend if config.frontend is None else config.frontend)
        reset: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(FrontEnd) if f.name in _PREPARED}
        self.frontend = dataclasses.replace(self.whole, **reset)
        self.rows: list[Row] = []
        self.skipped: dict[str, str] = {}
        self.notes: list[str] = []
        self.errors: list[str] = []
        self.written: list[Path] = []
        self.nonfinite = 0
        self.seconds = 0.0  # that the vocoder took for a second of audio

    def _frontend(self, spec: Any) -> FrontEnd:
        try:
            return FrontEnd.load(spec)
        except UsageError as error:
            if self.config.frontend is not None:
                raise
            name = self.config.vocoder.spec
            raise PluginError(
                f"plug-in {name} declares a front end that cannot be used: {error.message}", hint=error.hint
            ) from error

    def run(self) -> Result:
        """All of it."""
        clips = self._clips()
        if self.config.vocoder.spec == _REFERENCE:
            return self._reference(clips)
        with terminal.progress("copy synthesis", len(clips)) as progress:
            made = []
            for name, x in clips:
                made.append((name, x, self._vocoded(name, x)))
                progress.advance(len(x) / self.frontend.sample_rate)
        self._griffin_lim(clips)
        own = [row.copy for row in self.rows if row.who == "vocoder"]
        change, own_change = self._change(clips[0][1]) if own else (None, 0.0)
        heard = Heard(
            own, [row.copy for row in self.rows if row.who == "griffin-lim"], self.errors, self.nonfinite, change, own_change
        )  # fmt: skip
        if own and not any(copy.silent for copy in own):
            heard = dataclasses.replace(heard, relabelled=self._relabelled(own, made))
        verdict = decide(heard)
        far = bool(own) and float(np.median([copy.lsd_db for copy in own])) > LIMITS.sure
        if verdict.state in {"degraded", "deaf", "untrained", "silent"} or (verdict.state == "healthy" and far):
            domains, declared = self._domains(clips)
            heard = dataclasses.replace(heard, domains=domains, declared=declared)
            verdict = decide(heard)
        if self.config.output is not None:
            self._natural(clips)
        return Result(
            verdict, self.config.vocoder.spec, self.whole, self.declared, self.rows, heard, self.skipped, self.notes, self.written
        )  # fmt: skip

    def _reference(self, clips: Sequence[tuple[str, np.ndarray]]) -> Result:
        """Griffin-Lim beside nothing: held against itself, any answer would flatter."""
        with terminal.progress("copy synthesis", len(clips)) as progress:
            for name, x in clips:
                self._vocoded(name, x, _REFERENCE)
                progress.advance(len(x) / self.frontend.sample_rate)
        copies = [row.copy for row in self.rows]
        heard = Heard((), copies, self.errors, self.nonfinite)
        verdict = reference(copies) if copies else decide(heard)
        if self.config.output is not None:
            self._natural(clips)
        return Result(
            verdict, _REFERENCE, self.whole, self.declared, self.rows, heard, self.skipped, self.notes, self.written
        )

    # --- what goes in -------------------------------------------------------------------------------------------

    def _clips(self) -> list[tuple[str, np.ndarray]]:
        """Name and prepared audio of recordings from all over the source, at the front end's rate."""
        c = self.config
        opening = Opening(c.source, c.columns, c.audio_root, c.split)
        source = opening.announced()
        items = list(itertools.islice(source.unwatched(), _REMOTE if is_url(opening.place) else _FARTHEST))
        rate = self.frontend.sample_rate
        preparing = dataclasses.replace(self.whole, preemphasis=0.0)
        clips: list[tuple[str, np.ndarray]] = []
        reasons: list[str] = []
        used: list[Item] = []
        for item in spread_over(items):
            if item.audio is None:
                reasons.append(f"{item.id}: no audio")
                continue
            try:
                x = read_audio(item.audio, rate).samples[: int(_LONGEST * rate)]
                x = preparing.prepare(x)
                self.frontend.mel(x)
            except CalibError as error:
                reasons.append(f"{item.id}: {error.message}")
                continue
            if len(x) < _LEAST * rate or float(np.abs(x).max()) < 1e-3:
                reasons.append(f"{item.id}: too short or silent")
                continue
            clips.append((item.id, x))
            used.append(item)
            if len(clips) == (c.limit or _CLIPS):
                break
        if not clips:
            raise DataError(
                f"{c.source}: no recording can be used: {'; '.join(reasons[:3]) or 'it names none'}",
                hint="a folder of speech, half a second or more each",
            )
        voices, all_voices = len({item.speaker for item in used}), len({item.speaker for item in items})
        of_voices = "" if all_voices == 1 else f", {voices} of {all_voices} speakers"
        self.notes.append(
            f"clips: {', '.join(item.id for item in used[:_LISTED])}{' ...' if len(used) > _LISTED else ''}; spread over {len(items)} recordings{of_voices}"
        )
        if reasons:
            self.notes.append(
                f"left out: {'; '.join(reasons[:3])}{f'; and {len(reasons) - 3} more' if len(reasons) > 3 else ''}"
            )
        return clips

    # --- what comes out -----------------------------------------------------------------------------------------

    def _call(self, mel: np.ndarray) -> tuple[np.ndarray, int] | None:
        """Audio of a mel and its rate; None, and why, where there is none."""
        from calib.models.loading import call_plugin, checked_audio

        spec = self.config.vocoder.spec
        started = time.monotonic()
        try:
            result = call_plugin(spec, self.vocoder.vocode, np.ascontiguousarray(mel, dtype=np.float32))
            samples, rate = checked_audio(spec, result)
        except CalibError as error:
            self.nonfinite += "NaN or infinite" in error.message
            self.errors.append(error.message)
            return None
        hop = self.frontend.hop_length / self.frontend.sample_rate
        self.seconds = (time.monotonic() - started) / max(len(mel) * hop, 1e-3)
        return samples, rate

    def _vocoded(self, name: str, x: np.ndarray, who: str = "vocoder") -> tuple[np.ndarray, int] | None:
        mel = self.frontend.mel(x)
        made = self._call(mel)
        if made is not None:
            self.rows.append(Row(name, who, measure(x, mel, *made, self.frontend)))
            self._write(f"{name}.{who}.wav", *made)
        return made

    def _griffin_lim(self, clips: Sequence[tuple[str, np.ndarray]]) -> None:
        from calib.vocoders.griffin_lim import GriffinLim

        try:
            vocoder = GriffinLim(self.frontend)
        except UsageError as error:
            self.skipped["Griffin-Lim"] = error.message
            return
        for name, x in clips:
            mel = self.frontend.mel(x)
            y, rate = vocoder.vocode(mel)
            self.rows.append(Row(name, "griffin-lim", measure(x, mel, y, rate, self.frontend)))
            self._write(f"{name}.griffin-lim.wav", y, rate)

    def _change(self, x: np.ndarray) -> tuple[float | None, float]:
        """What a mel turned round, and the same mel again, change of the sound, over what turning changes of the recording.

        Averaged over 50 ms. The second is the vocoder's own randomness, 0 where it has none.
        """
        from calib.vocoders.check.measure import neutral_mel

        rate = self.frontend.sample_rate
        mel = self.frontend.mel(x)
        made = [self._call(m) for m in (mel, mel[::-1], mel)]
        outs = [_smooth(neutral_mel(resample(y[0], y[1], rate), rate)) for y in made if y is not None]
        if len(outs) < len(made):
            return None, 0.0
        turned = [_smooth(neutral_mel(np.ascontiguousarray(s), rate)) for s in (x, x[::-1])]
        change = [float(np.abs(a[: len(b)] - b[: len(a)]).mean()) for a, b in (outs[:2], outs[::2], turned)]
        whole = max(change[2], 1e-9)
        return change[0] / whole, change[1] / whole

    def _relabelled(
        self, own: Sequence[Copy], made: Sequence[tuple[str, np.ndarray, tuple[np.ndarray, int] | None]]
    ) -> tuple[float, float, str] | None:
        """Where rate or speed are not those of the front end: how near the copies are once that is put right."""
        fe = self.frontend
        wanted = fe.sample_rate
        samples, rate = float(np.median([c.frame_samples for c in own])), own[0].sample_rate
        speed = (samples / rate) / (fe.hop_length / wanted)
        if abs(speed - 1.0) <= LIMITS.rate + 1.5 * fe.n_fft / (fe.hop_length * 80) * 0.01:
            return None
        there = [(x, y) for _, x, y in made if y is not None]
        per_frame = abs(samples / fe.hop_length - 1.0) <= LIMITS.rate * 3
        if per_frame and rate != wanted:
            found = [likeness(x, y[0], wanted, wanted) for x, y in there]
            what = f"its audio is at {wanted} Hz and says {rate} Hz: {abs(1 / speed - 1):.1%} too {'fast' if speed < 1 else 'slow'}, and as much too {'high' if speed < 1 else 'low'}"
            if float(np.median([r for _, r in found])) >= LIMITS.follows:
                return (*_medians(found), what)
        found = [likeness(x, y[0], rate, wanted, stretch=speed) for x, y in there]
        what = f"it makes {samples:.0f} samples of a frame at {rate} Hz where its front end takes {fe.hop_length} at {wanted} Hz: speech is {abs(1 / speed - 1):.1%} too {'fast' if speed < 1 else 'slow'}"
        return (*_medians(found), what)

    def _domains(self, clips: Sequence[tuple[str, np.ndarray]]) -> tuple[list[Tried], Tried | None]:
        """One short clip in every other domain."""
        from calib.vocoders.check.domains import domains

        fe = self.frontend
        rate = fe.sample_rate
        x = _loudest(clips[0][1], int(_SEARCHED * rate))
        declared = self._tried("declared", "the declared mels", fe.mel(x), x)
        candidates = domains(fe, [clip for _, clip in clips])
        affordable = max(8, int(_PATIENCE / max(self.seconds * len(x) / rate, 1e-6)))
        if len(candidates) > affordable:
            self.skipped[f"{len(candidates) - affordable} of {len(candidates)} other domains"] = (
                f"the vocoder takes {self.seconds:.1f} s for a second of audio"
            )
        tried = []
        with terminal.progress("other domains", min(len(candidates), affordable)) as progress:
            for domain in candidates[:affordable]:
                mel = domain.mel(x, rate)
                if mel is not None:
                    tried.append(self._tried(domain.name, domain.words, mel, x))
                progress.advance()
        return tried, declared

    def _tried(self, name: str, words: str, mel: np.ndarray, x: np.ndarray) -> Tried:
        errors, nonfinite = len(self.errors), self.nonfinite
        made = self._call(mel)
        if made is None or not np.any(made[0]):
            why = self.errors[-1] if made is None else "silence"
            del self.errors[errors:]  # another domain's failure is no fault
            self.nonfinite = nonfinite
            return Tried(name, words, None, 0.0, why)
        lsd, r = likeness(x, *made, self.frontend.sample_rate)
        self._write(f"domain.{name}.wav", *made)
        return Tried(name, words, lsd, r)

    # --- files --------------------------------------------------------------------------------------------------

    def _write(self, name: str, samples: np.ndarray, rate: int) -> None:
        if self.config.output is None:
            return
        from calib.data.sources import safe_name

        path = self.config.output / safe_name(name.replace("/", "_"))
        ensure_writable(path, force=self.config.force)
        write_wav(path, np.clip(samples, -1.0, 1.0), rate, force=self.config.force)
        self.written.append(path)

    def _natural(self, clips: Sequence[tuple[str, np.ndarray]]) -> None:
        for name, x in clips:
            self._write(f"{name}.natural.wav", x, self.frontend.sample_rate)


def _smooth(mel: np.ndarray) -> np.ndarray:
    """Ten frames averaged into one."""
    whole = len(mel) // 10 * 10
    return np.asarray(mel[:whole].reshape(-1, 10, mel.shape[1]).mean(1)) if whole else mel


def _loudest(x: np.ndarray, length: int) -> np.ndarray:
    """The stretch of this length with the most energy."""
    if len(x) <= length:
        return x
    energy = np.concatenate([[0.0], np.cumsum(np.square(x, dtype=np.float64))])
    start = int((energy[length:] - energy[:-length]).argmax())
    return x[start : start + length]


def _medians(found: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return float(np.median([a for a, _ in found])), float(np.median([r for _, r in found]))


# --- words ----------------------------------------------------------------------------------------------------------


def render(result: Result) -> list[str]:
    """For a tired person: the verdict, what was measured, what to do."""
    v = result.verdict
    lines = [f"{v.headline}: {v.sentence}.", *(f"warning: {text}." for text in v.warnings), ""]
    rows = []
    for who in ("vocoder", "griffin-lim"):
        copies = [row.copy for row in result.rows if row.who == who]
        if copies:
            rows.append([result.vocoder if who == "vocoder" else "Griffin-Lim", *_figures(copies)])
    if rows:
        header = ["through", "mel dB", "less level", "LSD dB", "r", "loudness r", "level dB", "length", "flatness dB", "pauses dB", "clipped", "DC"]  # fmt: skip
        lines += table(header, rows)
        clips = len({row.clip for row in result.rows})
        lines.append(
            f"Medians over {clips} clip{'s' * (clips != 1)} of natural mels ({result.frontend.name}, {result.declared}): difference of the mels in that front end as it is and less the level; "
            "log-spectral distance and r within bins in a neutral front end (64 bins, 5 ms); length over the recording's; spectral flatness of speech over the recording's; level of pauses below speech."
        )
    if result.heard.change is not None:
        own = f"; the same mel given twice {result.heard.own_change:.0%}" if result.heard.own_change > 0.005 else ""
        lines.append(
            f"a mel turned round changes the sound {result.heard.change:.0%} as much as turning the recording round{own}"
        )
    lines += _domain_lines(result)
    lines += [f"note: {note}" for note in result.notes]
    lines += [f"skipped: {what}: {why}" for what, why in result.skipped.items()]
    if result.written:
        lines.append(f"wrote {len(result.written)} WAV files to {result.written[0].parent}")
    lines += ["", "next:", *(f"  {number}. {step}" for number, step in enumerate(v.next_steps, 1))]
    return lines


def _figures(copies: Sequence[Copy]) -> list[str]:
    def value(name: str, form: str) -> str:
        values = [getattr(copy, name) for copy in copies if getattr(copy, name) is not None]
        return f"{float(np.median(values)):{form}}" if values else "-"

    return [
        value("mel_db", ".2f"), value("mel_level_db", ".2f"), value("lsd_db", ".2f"), value("r", ".3f"), value("envelope_r", ".3f"),
        value("level_db", "+.1f"), value("duration", ".3f"), value("flatness_db", "+.1f"), value("silence_db", ".0f"),
        value("clipped", ".2%"), value("dc", "+.4f"),
    ]  # fmt: skip


def _domain_lines(result: Result) -> list[str]:
    """The domains that were tried, the best first."""
    there = sorted((t for t in result.heard.domains if t.lsd_db is not None), key=lambda t: t.lsd_db or 0.0)
    if not there:
        return []
    own = result.heard.declared
    rows = [[t.name, f"{t.lsd_db:.1f}", f"{t.r:.2f}", t.words] for t in there[:_LISTED]]
    if own is not None and own.lsd_db is not None:
        rows.append(["declared", f"{own.lsd_db:.1f}", f"{own.r:.2f}", f"{result.frontend.name}, {result.declared}"])
    text = table(["fed", "LSD dB", "r", ""], rows)
    return [
        f"of {len(result.heard.domains)} other domains of the same clip, the best for this vocoder:",
        *(f"  {line}" for line in text),
    ]


def vocoder(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Recordings: any SOURCE with audio.", show_default=False)
    ],
    vocoder_: o.VocoderSpec = "griffin-lim",
    vocoder_checkpoint: o.VocoderCheckpoint = None,
    vocoder_option: o.VocoderOption = None,
    vocoder_python: o.VocoderPython = None,
    frontend: Annotated[
        str | None,
        typer.Option(
            "--frontend",
            help="Front end to feed it with, in place of the one that it declares: a name, a YAML/JSON file, or NAME@STATSFILE.",
            callback=o.recognise,
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--out", "--output", help="Folder for the WAV files.", show_default=False)
    ] = None,
    columns: o.Columns = None,
    audio_root: o.AudioRoot = None,
    split: o.Split = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            help="Clips to synthesise; default: 4, spread over the source and its speakers.",
            min=1,
            show_default=False,
        ),
    ] = None,
    device: o.Device = "auto",
    force: o.Force = False,
    fail_on: o.FailOn = "never",
    json_: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Is it the vocoder? Natural mels through it and through Griffin-Lim; where that fails, which mels it would like instead. Exits 0 on any verdict unless --fail-on."""
    from calib.models.loading import parse_options

    o.set_level(quiet=quiet, verbose=verbose, json_target=json_, force=force, fail_on=fail_on)
    options = parse_options(vocoder_option or [])
    config = VocoderConfig(
        vocoder_, vocoder_checkpoint, options, "cpu" if vocoder_ == "griffin-lim" else device, vocoder_python
    )
    result = run(VocoderCheckConfig(source, config, frontend, limit, output, columns, audio_root, split, force))
    v = result.verdict
    o.show(
        render(result), o.brief(f"{v.headline}: {v.sentence}.", [f"warning: {w}." for w in v.warnings], v.next_steps)
    )
    o.emit_json(json_, result.to_json(), force=force)
    o.gate(fail_on, result.verdict.status, result.verdict.headline)
